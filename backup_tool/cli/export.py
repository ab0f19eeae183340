"""`backup export`: a readable copy."""

from typing import Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session
from backup_tool.names import shown


@verb()
def export(
    session: Session,
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Where to. What is there already stays.")],
    chat: options.ChatOption = None,
    sender: options.Sender = None,
    since: options.Since = None,
    until: options.Until = None,
    kind: options.Kind = None,
    source: options.SourceOption = None,
    saved: options.Saved = False,
    snapshot: options.SnapshotOption = None,
    format_: options.Format = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace notes of the same name that hold something else.")] = False,
    dry_run: options.DryRun = False,
) -> int:
    """Make a readable copy of notes: their files, notes.csv and notes.json, and a playlist for each chat.

    backup export --to ~/voices --chat family --format mp3
    """
    from backup_tool.actions.exporting import export as carry_out
    from backup_tool.actions.find import Wanted

    folder = options.folder(to)
    archive = session.archive(snapshot)
    wanted = Wanted(chat=chat or [], sender=sender or [], since=since, until=until, kind=kind, source=source or [], saved=saved)
    done = carry_out(archive, wanted, folder, session.progress, format=format_ or "original", overwrite=overwrite, dry_run=dry_run)

    def text() -> None:
        if dry_run:
            for path in [*done.lists, *(file.path for file in done.restored.files)]:
                print(shown(path, 1000))
        would = "would export" if dry_run else "exported"
        print(f"{would} {console.count(done.restored.notes, 'note')}, {console.size(done.restored.bytes)}, to {shown(str(folder), 1000)}")

    session.result(done.document, text)
    console.problems(done.restored.errors)
    return done.restored.exit_code
