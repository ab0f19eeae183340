"""`backup unlock`: remove locks that nobody holds any more."""

from typing import Annotated

import typer

from backup_tool.cli import console
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session


@verb()
def unlock(
    session: Session,
    remove_all: Annotated[
        bool, typer.Option("--remove-all", help="Also locks that may be held: only when nothing else is running anywhere.")
    ] = False,
) -> int:
    """Remove locks that dead runs left behind."""
    from backup_tool.actions.unlock import unlock as remove
    from backup_tool.errors import BackupError

    removed: list[str] = []
    away = 0
    for spec, repository in session.each():
        if isinstance(repository, BackupError):
            if len(session.specs) == 1:
                raise repository
            session.progress.warn(f"{spec.name} was not unlocked: {repository.message}")
            away = 3
        else:
            removed += remove(repository, remove_all=remove_all)
    session.result({"removed": removed}, lambda: print(f"removed {console.count(len(removed), 'lock')}"))
    return away
