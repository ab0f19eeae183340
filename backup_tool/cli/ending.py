"""How a command that archives or delivers ended, kept for `backup status`, whatever its ending is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backup_tool.cli.session import Session
from backup_tool.errors import BackupError, Interrupted, SignalledToEnd, Terminated

if TYPE_CHECKING:
    from backup_tool.actions.deliver import Delivered
    from backup_tool.actions.run import SourceResult
    from backup_tool.models import Problem

_OF_A_PLACE = (4, 10, 13, 14)
"""Exit codes that tell of the destination, where it is a folder and the only one."""


@dataclass
class Told:
    """What a command says of itself before it ends well."""

    line: str = ""
    code: int = 0
    errors: Sequence[Problem] = ()
    sources: Sequence[SourceResult] = ()
    places: Sequence[Delivered] = field(default_factory=list)


@contextmanager
def kept(session: Session, sources: Iterable[str] = ()) -> Iterator[Told]:
    """Around the work on these sources, or on none. That it cannot be kept is told when the session ends, and stops nothing.

    With destinations in the settings, a run to another one that was typed tells nothing of the nights: the sources' record stays as it is.
    """
    from backup_tool.actions import history

    told, names = Told(), list(sources) if _is_a_night(session) else []
    if names:
        history.begin(session.state, names)
    try:
        yield told
    except BaseException as error:
        _keep_failure(session, error, names)
        raise
    at = history.now_text()
    labels = {spec.name: session.label_of(spec) for spec in session.specs}
    history.delivered(session.state, at, {labels[one.name]: one for one in told.places if one.name in labels})
    if names:
        ending = history.Ending(at, told.code, told.line, _first_of(told.errors))
        history.end(session.state, ending, {one.name: (one.new, one.away) for one in told.sources}, stored=True)


def _is_a_night(session: Session) -> bool:
    configured = {spec.label for spec in session.settings.destinations.values()}
    return not configured or session.spec.label in configured


def _first_of(errors: Sequence[Problem]) -> str:
    if not errors:
        return ""
    more = f", and {len(errors) - 1:,} more" if len(errors) > 1 else ""
    return f"{errors[0].path}: {errors[0].reason}{more}"


def _keep_failure(session: Session, error: BaseException, names: list[str]) -> None:
    from backup_tool.actions import history

    at, failure = history.now_text(), _as_told(error)
    places = _places_not_reached(session, failure)
    history.delivered(session.state, at, places)
    if names:
        ending = history.Ending(at, failure.exit_code, failure.message, hint=failure.hint)
        history.end(session.state, ending, {name: (0, None) for name in names}, stored=False)


def _as_told(error: BaseException) -> BackupError:
    if isinstance(error, BackupError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Terminated("terminated") if isinstance(error, SignalledToEnd) else Interrupted("interrupted")
    return BackupError(f"unexpected {type(error).__name__}", "run it again with --debug and report what it prints")


def _places_not_reached(session: Session, failure: BackupError) -> dict[str, Delivered]:
    """By label: the places that could not be asked; of the others nothing new is known."""
    from backup_tool.actions.deliver import Delivered, not_reached
    from backup_tool.destinations.several.delivery import Delivery

    delivery = session.__dict__.get("delivery")
    if isinstance(delivery, Delivery):
        return {place.destination.label: not_reached(place) for place in delivery.places if place.error is not None}
    if delivery is None or failure.exit_code not in _OF_A_PLACE:
        return {}
    told = failure.message + (f" ({failure.hint})" if failure.hint else "")
    return {session.label_of(session.spec): Delivered(session.spec.name, "queued", 0, 0, told, failure.exit_code)}
