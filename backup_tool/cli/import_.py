"""`backup import`: recordings from elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.ending import kept
from backup_tool.cli.run import plan_of, tell_undelivered
from backup_tool.cli.session import Session
from backup_tool.errors import UsageError
from backup_tool.models import Note
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.actions.importing import ImportedNote, ImportResult

_PAUSE = 1.5
"""Seconds of silence that part two notes, where nothing else is said."""


@verb()
def import_(
    session: Session,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sound files, or recordings of a screen.")],
    chat: Annotated[str, typer.Option("--chat", metavar="NAME", help="The chat they belong to; a new one where none is called so.")],
    sender: Annotated[str | None, typer.Option("--sender", metavar="NAME", help="Who speaks; me for yourself.")] = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="WHEN", help="When it was recorded: 2026-03-01 or 2026-03-01T18:30, local time.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="What to call it.")] = None,
    track: Annotated[int | None, typer.Option("--track", metavar="N", help="Which track of sound, where there are several.")] = None,
    split_silence: Annotated[
        bool, typer.Option("--split-silence", help="Several notes in one recording: cut it where it is silent.")
    ] = False,
    pause: Annotated[float | None, typer.Option("--pause", metavar="SECONDS", help="How much silence parts two notes: 1.5.")] = None,
    dry_run: options.DryRun = False,
) -> int:
    """Add recordings from elsewhere to a chat: voice memos, files of a recorder, the sound of screen recordings.

    backup import memo.m4a --chat anna --sender anna --date 2026-03-01
    backup import screen.mp4 --chat anna --split-silence --dry-run
    """
    from backup_tool.actions.importing import Import, Said, find_chat

    if pause is not None and not split_silence:
        raise UsageError("--pause goes with --split-silence", "add --split-silence to cut the recording, or leave out --pause")
    if split_silence and pause is None:
        pause = _PAUSE
    said = Said(chat=chat, sender=sender, date=date, title=title, track=track, pause=pause)
    looked = Import(files, said, session.progress)
    if dry_run:
        result, code = looked.result(find_chat(chat, session.archive(), session.progress)), 3 if looked.errors else 0
    else:
        if split_silence:
            for note in looked.result().notes:
                session.note(_line(note))
        with kept(session) as told:
            plan = plan_of(session)
            plan.alone = False
            result, code = looked.store(plan, session.progress)
            told.places = result.destinations
    session.result(result, lambda: _tell(result, dry_run=dry_run))
    console.problems(result.errors)
    tell_undelivered(session, result.destinations)
    return code


def _tell(result: "ImportResult", *, dry_run: bool) -> None:
    for note in result.notes:
        print(f"{(note.id or '-')[:10]:10}  {_line(note)}")
    there = len(result.notes) - result.new
    count = console.count(len(result.notes) if dry_run else result.new, "note")
    already = f"; {console.count(there, 'note')} {'was' if there == 1 else 'were'} there already" if there and not dry_run else ""
    corrected = f"; corrected: {console.count(result.corrected, 'note')}" if result.corrected else ""
    into = f" into {shown(result.chat)}" if result.chat else ""
    print(f"{'would import' if dry_run else 'imported'} {count}{into}{already}{corrected}")


def _line(note: "ImportedNote") -> str:
    part = "" if note.start is None or note.end is None else f"  from {_clock(note.start)} to {_clock(note.end)}"
    when = console.when(Note(sent_at=note.sent_at, sent_at_from=note.sent_at_from))
    return f"{when}  {console.length(note.duration)}  {shown(note.file, 1000)}{part}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
