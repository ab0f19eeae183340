"""`backup extract`: one note."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session
from backup_tool.errors import UsageError
from backup_tool.names import shown


@verb()
def extract(
    session: Session,
    note: Annotated[str, typer.Argument(metavar="NOTE", help="The first 4 or more digits of its id, or latest.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="FILE", help="File to write, or - for stdout. Named after the note by default.")
    ] = None,
    eml: Annotated[
        Path | None, typer.Option("--eml", metavar="FILE", help="Write a mail draft with the note attached (- for stdout).")
    ] = None,
    chat: options.ChatOption = None,
    sender: options.Sender = None,
    since: options.Since = None,
    until: options.Until = None,
    kind: options.Kind = None,
    source: options.SourceOption = None,
    snapshot: options.SnapshotOption = None,
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help="original.")] = "original",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name that holds something else.")] = False,
) -> int:
    """Take one note out: as a file, to stdout, or as a mail draft.

    backup extract 3f9a1c --to note.opus
    backup extract latest --chat family --eml note.eml
    """
    from backup_tool.actions.extract import extract as take_out
    from backup_tool.actions.find import Wanted

    if "-" in (to, str(eml)) and session.common.json:
        raise UsageError("--json and - both want stdout", "give --to and --eml file names")
    if to == str(eml) == "-":
        raise UsageError("--to - and --eml - both want stdout", "give one of them a file name")
    wanted = Wanted(chat=chat or [], sender=sender or [], since=since, until=until, kind=kind, source=source or [])
    stdout = sys.stdout.buffer if "-" in (to, str(eml)) else None
    done = take_out(
        session.archive(snapshot),
        note,
        wanted,
        to=options.home(to),
        eml=Path(options.home(str(eml)) or "") if eml else None,
        format=format_,
        overwrite=overwrite,
        stdout=stdout,
    )

    def text() -> None:
        for file in done.files:
            if file.path != "-":
                print(f"wrote {shown(file.path, 1000)}", file=sys.stderr if stdout else sys.stdout)

    session.result(done.document, text)
    console.problems(done.errors)
    return done.exit_code
