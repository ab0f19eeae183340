"""`backup scan`: what a run would find."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.actions.scan import Count, ScanResult
    from backup_tool.catalog import Entry
    from backup_tool.sources import Detected

_WHY = {"missing": "was there once", "not-downloaded": "never downloaded", "omitted": "left out of the export"}


@verb(repository=False)
def scan(
    session: Session,
    sources: options.Sources = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="SOURCE", help="The same as SOURCE, as an option. Repeatable.")
    ] = None,
    key_file: options.KeyFile = None,
    show: Annotated[
        str | None,
        typer.Option("--show", metavar="WHAT", help="stores, missing, not-downloaded, omitted, orphan, damaged or unreadable."),
    ] = None,
    hash_: Annotated[bool, typer.Option("--hash", help="Also work out each note's id.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Look for stores in the usual places of this machine.")] = False,
) -> int:
    """Look through a message store and tell what is there. Needs no archive, changes nothing.

    backup scan ~/phone/WhatsApp
    backup scan --all               (what this machine has, and where)
    """
    from backup_tool.actions.scan import scan as look
    from backup_tool.actions.scan import scan_usual_places
    from backup_tool.errors import UsageError

    named = [*(sources or []), *(source or [])]
    if all_:
        if named or show or hash_:
            raise UsageError("--all looks at the usual places of this machine, and takes nothing else", "type: backup scan --all")
        result = scan_usual_places(os.environ, session.progress)
        session.result(result.stores, lambda: _tell_places(result))
    else:
        chosen = session.chosen(named)
        unlock = session.keys(key_file)
        result = look(
            chosen.sources, chosen.typed, session.state, session.progress, unlock=unlock, show=show, with_ids=hash_, host=session.host
        )
        value = {"stores": result.stores, "unreadable": result.unread}.get(show or "", result.rows)
        session.result(value, lambda: _tell(result, show))
    for warning in result.warnings:
        session.progress.warn(warning)
    console.problems(result.problems)
    return 3 if result.unread else 0


def _tell(result: "ScanResult", show: str | None) -> None:
    if show == "stores":
        _tell_stores(result.stores)
    elif show == "unreadable":
        console.table([[one.source, one.path, one.reason] for one in result.unread], ["source", "path", "why"])
    elif show in _WHY:
        console.table([_absent(row) for row in result.rows], ["sent", "chat", "sender", "length", "why", "file"], {3})
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


def _absent(row: "Entry") -> list[str]:
    who = "me" if row.from_me else row.sender or row.sender_id or "-"
    why = _WHY[getattr(row, "absent", "missing")]
    return [console.when(row), row.chat or row.chat_id or "-", who, console.length(row.duration), why, row.original_path or "-"]


def _tell_stores(stores: "list[Detected]") -> None:
    """Whole paths, since they are there to be typed again."""
    for store in stores:
        notes = "notes not counted" if store.notes is None else console.count(store.notes, "note")
        print(f"{store.type}: {shown(store.description)}, {notes}")
        print(f"  {shown(store.path, 1000)}")


def _tell_places(result: "ScanResult") -> None:
    if result.stores:
        _tell_stores(result.stores)
        print(f"to archive one: backup run {console.quoted(result.stores[0].path)} --repo PLACE")
        return
    looked = f"looked at {', '.join(shown(path) for path in result.looked_at)}"
    if not result.looked_at:
        looked = f"none of the usual places is there ({', '.join(shown(path) for path in result.usual)})"
    print(f"no message store was found: {looked}")
    print("copy the phone's folder, a backup or an exported chat to this machine, and name it: backup scan PATH")


def _tell_count(count: "Count") -> None:
    print(
        f"{shown(count.source)} ({count.type}): {console.count(count.notes, 'note')}, {console.size(count.bytes)}, "
        f"{console.length(count.seconds)} of sound"
    )
    for store in count.stores:
        notes = "" if len(count.stores) == 1 or store.notes is None else f"{console.count(store.notes, 'note')}, "
        print(f"  {shown(store.path, 1000)}: {notes}{shown(store.description)}")
    if count.database:
        print(f"  names and times from {shown(count.database)}")
    elif count.notes and count.type != "folder":
        print("  no messages were read: chats and senders are not known, times come from files and their names")
    for number, what in (
        (count.missing, "missing: the database has the message, the device has no file (--show missing)"),
        (count.not_downloaded, "not downloaded: the device never had the file (--show not-downloaded)"),
        (count.omitted, "omitted: the chat was exported without the file (--show omitted)"),
        (count.orphan, "orphan: a file without a message (--show orphan)"),
        (count.damaged, "damaged: archived as they are (--show damaged)"),
        (count.unreadable, "unreadable (--show unreadable)"),
    ):
        if number:
            print(f"  {number:,} {what}")
    for warning in count.warnings:
        print(f"  warning: {shown(warning, 400)}", file=sys.stderr)
