"""`backup restore`: give notes back."""

from typing import Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session
from backup_tool.names import shown


@verb()
def restore(
    session: Session,
    to: Annotated[str, typer.Option("--to", "--target", metavar="DIR", help="Where to.")] = "restored",
    chat: options.ChatOption = None,
    sender: options.Sender = None,
    since: options.Since = None,
    until: options.Until = None,
    kind: options.Kind = None,
    source: options.SourceOption = None,
    saved: options.Saved = False,
    snapshot: options.SnapshotOption = None,
    layout: Annotated[str, typer.Option("--layout", metavar="LAYOUT", help="chat, or original: the phone's own folders.")] = "chat",
    format_: options.Format = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same name that hold something else.")] = False,
    dry_run: options.DryRun = False,
) -> int:
    """Write notes into a directory, one file each. Never replaces a different file unless told to.

    backup restore --chat family --to ~/Desktop/family
    """
    from backup_tool.actions.find import Wanted
    from backup_tool.actions.restore import restore as give_back

    folder = options.folder(to)
    archive = session.archive(snapshot)
    wanted = Wanted(chat=chat or [], sender=sender or [], since=since, until=until, kind=kind, source=source or [], saved=saved)
    done = give_back(
        archive, wanted, folder, session.progress, layout=layout, format=format_ or "original", overwrite=overwrite, dry_run=dry_run
    )
    would = "would restore" if dry_run else "restored"

    def text() -> None:
        if dry_run:
            for file in done.files:
                print(shown(file.path, 1000))
        print(f"{would} {console.count(done.notes, 'note')}, {console.size(done.bytes)}, to {shown(str(folder), 1000)}")
        if done.same:
            print(f"{console.count(done.same, 'file')} of them {'was' if done.same == 1 else 'were'} there already")

    session.result(done.document, text)
    console.problems(done.errors)
    return done.exit_code
