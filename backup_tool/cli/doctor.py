"""`backup doctor`: how a destination does."""

from typing import Annotated

import typer

from backup_tool.cli import console
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session


@verb(repository=False)
def doctor(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A configured destination, or a place. The first configured one by default.")
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="Ask the destination itself.")] = False,
) -> int:
    """Say how a destination does: reachable, a repository there, account, storage, sign-in."""
    from backup_tool.actions.doctor import diagnose
    from backup_tool.errors import UsageError

    if not online:
        raise UsageError("only destinations can be examined yet", "ask one: backup doctor --online")
    session.common.repo = name or session.common.repo
    session.read_around_cache()
    found = diagnose(session.place_of(session.spec).destination, session.spec.name)

    def text() -> None:
        rows = [("destination", found.destination), ("repository", "there" if found.repository else "not there")]
        if (known := found.condition) is not None:
            rows += [("account", known.account or "not told"), ("folder", known.folder), ("used", _used(known.used, known.limit))]
            rows += [
                ("in the trash", "not told" if known.in_trash is None else console.size(known.in_trash)),
                ("signed in", console.local(known.signed_in)),
            ]
            if known.sign_in_ends is not None:
                rows.append(("sign-in ends", f"{console.local(known.sign_in_ends)} or so"))
        console.table(rows, ("", ""), with_head=False)
        for line in found.advice:
            session.note(f"note: {line}")

    session.result(found, text)
    return 0 if found.repository else 10


def _used(used: int | None, limit: int | None) -> str:
    return f"{console.size(used)} of {console.size(limit)}" if limit else console.size(used)
