"""`backup chats`: the chats in the archive."""

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session


@verb()
def chats(
    session: Session,
    chat: options.ChatOption = None,
    sender: options.Sender = None,
    since: options.Since = None,
    until: options.Until = None,
    kind: options.Kind = None,
    source: options.SourceOption = None,
    snapshot: options.SnapshotOption = None,
) -> int:
    """List the chats in the archive with their number of notes, their length and their time."""
    from backup_tool.actions.find import Wanted, chat_rows, find

    archive = session.archive(snapshot)
    wanted = Wanted(chat=chat or [], sender=sender or [], since=since, until=until, kind=kind, source=source or [])
    rows = chat_rows(find(archive, wanted), archive.chats())

    def text() -> None:
        cells = [
            [
                r.chat or r.chat_id or "unsorted",
                str(r.notes),
                console.length(r.duration),
                console.size(r.bytes),
                console.local(r.first, day=r.first_is_day),
                console.local(r.last, day=r.last_is_day),
                r.source or "",
            ]
            for r in rows
        ]
        console.table(cells, ["chat", "notes", "length", "size", "first", "last", "source"], {1, 2, 3})

    session.result(rows, text)
    return session.left_out(archive)
