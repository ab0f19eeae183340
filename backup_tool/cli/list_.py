"""`backup list`: the notes in the archive."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session

if TYPE_CHECKING:
    from backup_tool.catalog import Entry


@verb(name="list")
def list_(
    session: Session,
    chat: options.ChatOption = None,
    sender: options.Sender = None,
    since: options.Since = None,
    until: options.Until = None,
    kind: options.Kind = None,
    source: options.SourceOption = None,
    saved: options.Saved = False,
    snapshot: options.SnapshotOption = None,
) -> int:
    """List the notes in the archive, oldest first.

    backup list --chat family --since 30d
    backup list --saved
    """
    from backup_tool.actions.find import Wanted, find

    archive = session.archive(snapshot)
    wanted = Wanted(chat=chat or [], sender=sender or [], since=since, until=until, kind=kind, source=source or [], saved=saved)
    session.result(found := find(archive, wanted), lambda: tell_notes(found))
    return session.left_out(archive)


def tell_notes(found: "Iterator[Entry]") -> None:
    """A table of notes, a page at a time: a long list begins at once."""
    page: list[list[str]] = []
    shown_head = False
    for item in found:
        page.append(_row(item))
        if len(page) == 1000:
            _tell_page(page, with_head=not shown_head)
            page, shown_head = [], True
    if page:
        _tell_page(page, with_head=not shown_head)
    elif not shown_head:
        print("no notes")


def _row(item: "Entry") -> list[str]:
    return [
        (item.id or "-")[:10],
        console.when(item),
        console.length(item.duration),
        console.size(item.size),
        item.kind,
        item.chat or "unsorted",
        "me" if item.from_me else item.sender or "-",
        ", ".join(_marks(item)),
        item.title or "",
    ]


def _marks(item: "Entry") -> "Iterator[str]":
    if item.missing_since:
        yield "gone"
    if item.damaged and not item.missing_since:
        yield item.damaged
    if item.saved:
        yield "saved"
    if item.starred:
        yield "starred"


def _tell_page(page: list[list[str]], *, with_head: bool) -> None:
    # Titles come last: few notes have one, and the lines of the others become no longer.
    title = "title" if any(row[-1] for row in page) else ""
    console.table(page, ["id", "sent", "length", "size", "kind", "chat", "sender", "", title], {2, 3}, with_head=with_head)
