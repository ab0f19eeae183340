"""`backup login`: sign in to Google Drive or iCloud."""

from typing import Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session


@verb(repository=False)
def login(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A configured destination, or a place: 'gdrive:Voice notes'.")],
    client: Annotated[
        str | None, typer.Option("--client", metavar="FILE", help="Google: the file of your own client, downloaded from its console.")
    ] = None,
    paste: Annotated[
        bool, typer.Option("--paste", help="Google: the browser is on another machine; paste the address it ends on.")
    ] = False,
    device: Annotated[bool, typer.Option("--device", help="Google: type a code on another device (a client for TVs).")] = False,
    stdin: Annotated[bool, typer.Option("--stdin", help="For scripts: the answers are lines of standard input.")] = False,
) -> None:
    """Sign in to a destination at Google Drive or iCloud, once; runs then need nobody.

    backup login 'gdrive:Voice notes' --client ~/Downloads/client_secret.json
    """
    import msgspec

    from backup_tool.actions.login import login as sign_in
    from backup_tool.config import parse_place
    from backup_tool.errors import UsageError

    if paste and device:
        raise UsageError("--paste and --device cannot both be meant", "leave out one of them")
    spec = parse_place(name, session.settings)
    typed = {"client": options.absolute(client), "mode": "paste" if paste else "device" if device else None}
    more = {key: value for key, value in typed.items() if value is not None}
    spec = msgspec.structs.replace(spec, options={**spec.options, **more})
    person = console.Scripted() if stdin else console.Terminal()
    sign_in(spec, session.state.home(spec.label), person, session.settings.destinations.values())
    session.result({"signed_in": spec.label}, lambda: print(f"signed in to {console.one_line(spec.label)}"))
