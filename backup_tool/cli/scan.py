"""`backup scan`: what a run would find."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.actions.scan import Count, ScanResult


@verb(repository=False)
def scan(
    session: Session,
    sources: options.Sources = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="SOURCE", help="The same as SOURCE, as an option. Repeatable.")
    ] = None,
    key_file: options.KeyFile = None,
    show: Annotated[str | None, typer.Option("--show", metavar="WHAT", help="stores, missing, orphan or damaged.")] = None,
    hash_: Annotated[bool, typer.Option("--hash", help="Also work out each note's id.")] = False,
) -> int:
    """Look through a message store and tell what is there. Needs no archive, changes nothing.

    backup scan ~/phone/WhatsApp
    """
    from backup_tool.actions.scan import scan as look

    chosen = session.chosen([*(sources or []), *(source or [])])
    unlock = session.keys(key_file)
    result = look(
        chosen.sources, chosen.typed, session.state, session.progress, unlock=unlock, show=show, with_ids=hash_, host=session.host
    )
    session.result(result.stores if show == "stores" else result.rows, lambda: _tell(result, show))
    console.problems(result.problems)
    return 3 if result.problems else 0


def _tell(result: "ScanResult", show: str | None) -> None:
    if show == "stores":
        cells = [[store.type, store.path, store.description, str(store.notes)] for store in result.stores]
        console.table(cells, ["type", "path", "what it is", "notes"], {3})
    elif show:
        cells = [
            [
                console.when(row),
                row.chat or "-",
                row.sender or "-",
                console.length(row.duration),
                row.damaged or "",
                row.original_path or "-",
            ]
            for row in result.rows
        ]
        console.table(cells, ["sent", "chat", "sender", "length", "damage", "file"], {3})
    for count in result.counts:
        _tell_count(count)


def _tell_count(count: "Count") -> None:
    print(
        f"{shown(count.source)} ({count.type}): {console.count(count.notes, 'note')}, {console.size(count.bytes)}, "
        f"{console.length(count.seconds)} of sound"
    )
    print(
        f"  names and times from {shown(count.database)}"
        if count.database
        else "  no database was read: chats are not known, days come from file names"
    )
    for number, what in (
        (count.missing, "missing: the database has the message, the device has no file (--show missing)"),
        (count.not_downloaded, "not downloaded: the device never had the file (--show missing)"),
        (count.omitted, "omitted: the chat was exported without the file (--show missing)"),
        (count.orphan, "orphan: a file without a message (--show orphan)"),
        (count.damaged, "damaged: archived as they are (--show damaged)"),
        (count.unreadable, "unreadable"),
    ):
        if number:
            print(f"  {number:,} {what}")
    for warning in count.warnings:
        print(f"  warning: {shown(warning, 400)}", file=sys.stderr)
