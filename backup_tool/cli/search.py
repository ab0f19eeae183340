"""`backup search`: find notes by words."""

from typing import Annotated

import typer

from backup_tool.cli import options
from backup_tool.cli.app import verb
from backup_tool.cli.list_ import tell_notes
from backup_tool.cli.session import Session


@verb()
def search(
    session: Session,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Part of a name, or of what was said.")],
    chat: options.ChatOption = None,
    sender: options.Sender = None,
    since: options.Since = None,
    until: options.Until = None,
    kind: options.Kind = None,
    source: options.SourceOption = None,
    snapshot: options.SnapshotOption = None,
) -> int:
    """Find notes whose chat, sender, title, file name or transcript holds TEXT. Case and accents are ignored."""
    from backup_tool.actions.find import Wanted, find

    archive = session.archive(snapshot)
    wanted = Wanted(chat=chat or [], sender=sender or [], since=since, until=until, kind=kind, source=source or [])
    session.result(found := find(archive, wanted, text), lambda: tell_notes(found))
    return session.left_out(archive)
