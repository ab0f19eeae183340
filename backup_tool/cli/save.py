"""`backup save` and `backup unsave`: a person's own collection."""

from typing import Annotated

import typer

from backup_tool.cli import console
from backup_tool.cli.app import verb
from backup_tool.cli.ending import kept
from backup_tool.cli.run import plan_of, tell_undelivered
from backup_tool.cli.session import Session

_Notes = Annotated[list[str], typer.Argument(metavar="NOTE...", help="The first 4 or more digits of its id, or latest.")]


@verb()
def save(session: Session, notes: _Notes) -> int:
    """Add notes to your own collection in the archive.

    backup save 3f9a1c
    backup list --saved
    """
    return _mark(session, notes, saved=True)


@verb()
def unsave(session: Session, notes: _Notes) -> int:
    """Take notes out of your collection. They stay in the archive."""
    return _mark(session, notes, saved=False)


def _mark(session: Session, notes: list[str], *, saved: bool) -> int:
    from backup_tool.actions.saving import save as carry_out

    with kept(session) as told:
        plan = plan_of(session)
        plan.alone = False
        done, code = carry_out(plan, notes, saved, session.progress)
        told.places = done.destinations

    def text() -> None:
        changed = sum(note.changed for note in done.notes)
        word = "saved" if saved else "no longer saved"
        was = (
            f"; {len(done.notes) - changed} {'already ' if saved else ''}{'was' if len(done.notes) - changed == 1 else 'were'}"
            f"{'' if saved else ' not saved'}"
            if changed < len(done.notes)
            else ""
        )
        print(f"{word}: {console.count(changed, 'note')}{was}")

    session.result(done, text)
    tell_undelivered(session, done.destinations)
    return code
