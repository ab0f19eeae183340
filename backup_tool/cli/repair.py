"""`backup repair`: mend the archive at one destination."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from backup_tool.cli import console, options
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.actions.history import How
    from backup_tool.actions.repairing.plan import LostNote, Step
    from backup_tool.config import DestinationSpec

_MOST_LINES = 20


@verb()
def repair(
    session: Session,
    from_: Annotated[str | None, typer.Option("--from", metavar="REPOSITORY", help="A further copy of this archive to take from.")] = None,
    dry_run: options.DryRun = False,
) -> int:
    """Mend the archive at one destination, with what the others have whole, and with what of it can still be read.

    backup repair --dry-run
    backup repair --repo nas --from /mnt/old-disk/voice-notes
    """
    from backup_tool.actions.history import checked
    from backup_tool.actions.repairing.repair import repair as carry_out
    from backup_tool.destinations.base import Checksums

    session.read_around_cache()
    others = _others(session, from_)
    mended = session.place_of(session.spec)
    report = carry_out(
        mended,
        [session.place_of(spec) for spec in others],
        session.password(),
        session.state,
        session.progress,
        given=from_ is not None,
        dry_run=dry_run,
        planned=lambda steps: _tell_plan(session, steps, dry_run),
    )
    if not dry_run:
        how: How = "checksums" if isinstance(mended.destination, Checksums) else "every byte"
        checked(session.state, mended.destination.label, how, 0 if report.sound else 5, report.verdict)

    def text() -> None:
        for line in [*report.duplicates, *(_lines(report.steps) if dry_run else ())]:
            print(shown(line, 400))
        for finding in report.left:
            print(f"error: {shown(finding.message, 400)}", file=sys.stderr)
        if report.lost:
            _tell_lost(report.lost)
        if report.kept:
            session.note(f"note: what was removed and could not be read is kept in {shown(report.kept, 400)}")
        print(report.verdict)

    session.result(report, text)
    if report.lost:
        session.note("hint: where a phone or another source still has them, this stores them again: backup run")
    elif not report.sound and not dry_run:
        session.note("hint: a copy of the archive that is whole may help: backup repair --from PLACE")
    return 0 if report.sound else 5


def _others(session: Session, typed: str | None) -> list[DestinationSpec]:
    """Where sound copies may be: the place that was named for that, and where a configured destination is mended, the other ones."""
    from backup_tool.config import parse_place

    configured = list(session.settings.destinations.values())
    mended = session.spec.label
    others = configured if mended in [spec.label for spec in configured] else []
    found = [*([parse_place(typed, session.settings)] if typed is not None else []), *others]
    return list({spec.label: spec for spec in reversed(found) if spec.label != mended}.values())[::-1]


def _tell_plan(session: Session, steps: Sequence[Step], dry_run: bool) -> None:
    """Before anything is done; of a dry run it is the result."""
    for line in () if dry_run else _lines(steps):
        session.note(line)


def _lines(steps: Sequence[Step]) -> Iterator[str]:
    """A line each; of many that are alike only the first ones."""
    alike: Counter[tuple[str, str, str | None]] = Counter()
    for step in steps:
        alike[step.kind, step.problem, step.remedy] += 1
        if alike[step.kind, step.problem, step.remedy] <= _MOST_LINES:
            yield shown(f"{step.kind} {step.name[:16]}: {step.problem}: {step.remedy or 'nothing can be done about it here'}", 400)
    for (kind, problem, remedy), count in alike.items():
        if count > _MOST_LINES:
            yield shown(f"{count - _MOST_LINES} more of kind {kind}: {problem}: {remedy or 'nothing can be done about it here'}", 400)


def _tell_lost(lost: Sequence[LostNote]) -> None:
    rows = [[(note.id or "-")[:10], (note.sent_at or "-")[:10], note.chat or "unsorted", note.path or "-"] for note in lost]
    console.table(rows, ["lost note", "sent", "chat", "file"], set())
