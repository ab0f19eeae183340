"""What the last runs and checks of this machine came to, for `status`: one small file of the state folder.

Times are RFC 3339 in UTC. No run fails because of it: what cannot be kept is told by `State.trouble`, what cannot be read is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from backup_tool.actions.state import State
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.actions.deliver import Delivered

How = Literal["structure", "checksums", "every byte"]
HOWS: tuple[How, ...] = ("structure", "checksums", "every byte")
"""How thoroughly a check looked, the most thorough last."""
_MOST = 100
"""So many sources and so many places are remembered: those that were met last."""
_LONGEST = 500
"""Characters of one line."""


class Lacking(msgspec.Struct):
    """What is kept for a place that does not have it yet."""

    objects: int
    bytes: int


class Ending(msgspec.Struct):
    """How a run ended: its exit code and closing line; `left_out` names what could not be read, where something could not; `hint` is what
    to do about an error."""

    at: str
    code: int
    line: str
    left_out: str = ""
    hint: str = ""


class SourceHistory(msgspec.Struct):
    """`began` is set while a run is at work on it, and stays where that run was killed. `new` are the notes that the last run found there
    first, `away` why it could not be read. `archived` is when a run last read it and stored a snapshot, `arrived` when that had any."""

    met: str
    began: str | None = None
    last: Ending | None = None
    new: int | None = None
    away: str | None = None
    archived: str | None = None
    arrived: str | None = None


class PlaceHistory(msgspec.Struct):
    """What became of the last delivery to a place, as in `Delivered`. `level` is when it last had everything, `since` when it first did not
    after that; `lacks` is None where it is not known how much. `alone` are the snapshots that it has and the primary never had."""

    met: str
    at: str
    status: Literal["delivered", "queued", "failed"]
    error: str | None = None
    code: int = 0
    lacks: Lacking | None = None
    level: str | None = None
    since: str | None = None
    alone: int = 0


class CheckEnding(msgspec.Struct):
    """What a check said: its exit code and verdict."""

    at: str
    code: int
    verdict: str


class CheckHistory(msgspec.Struct):
    """The last check of each thoroughness."""

    met: str
    ended: dict[How, CheckEnding] = {}


class History(msgspec.Struct):
    """Sources by name; places and checks of them by the place's label."""

    sources: dict[str, SourceHistory] = {}
    places: dict[str, PlaceHistory] = {}
    checks: dict[str, CheckHistory] = {}


def now_text() -> str:
    """This moment."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def load(state: State) -> History | None:
    """What is kept; None where that is nothing, or not to be understood."""
    kept = state.load_history()
    try:
        return None if kept is None else msgspec.convert(kept, History)
    except (msgspec.ValidationError, RecursionError):
        return None


def begin(state: State, sources: Iterable[str]) -> None:
    """A run begins to work on these sources."""
    now = now_text()

    def change(history: History) -> None:
        for name in sources:
            one = history.sources.setdefault(name, SourceHistory(now))
            one.met = one.began = now

    _change(state, change)


def end(state: State, ending: Ending, sources: Mapping[str, tuple[int, str | None]], *, stored: bool) -> None:
    """A run has ended: by source what it found first there, and why it could not be read. `stored`: there is a new snapshot."""

    def change(history: History) -> None:
        for name, (new, away) in sources.items():
            one = history.sources.setdefault(name, SourceHistory(ending.at))
            one.met, one.began, one.last = ending.at, None, _cut(ending)
            one.new, one.away = (new, away) if stored else (None, None)
            if stored and away is None:
                one.archived = ending.at
                one.arrived = ending.at if new else one.arrived

    _change(state, change)


def delivered(state: State, at: str, places: Mapping[str, Delivered]) -> None:
    """What became of places, by their labels."""

    def change(history: History) -> None:
        for label, one in places.items():
            before = history.places.get(label) or PlaceHistory(at, at, "queued")
            now = PlaceHistory(at, at, one.status, level=before.level, alone=before.alone if one.alone is None else one.alone)
            if one.status == "delivered":
                now.level = at
            else:
                now.error, now.code, now.since = shown(one.error or "", _LONGEST), one.code or 0, before.since or at
                now.lacks = one.lacks or (Lacking(0, 0) if before.status == "delivered" else before.lacks)
            history.places[label] = now

    _change(state, change)


def checked(state: State, label: str, how: How, code: int, verdict: str) -> None:
    """A check of the place with this label has ended."""
    now = now_text()

    def change(history: History) -> None:
        one = history.checks.setdefault(label, CheckHistory(now))
        one.met, one.ended[how] = now, CheckEnding(now, code, shown(verdict, _LONGEST))

    _change(state, change)


def damage(history: CheckHistory) -> CheckEnding | None:
    """A check that found damage, where none that was as thorough has found all well since."""
    for number, how in enumerate(HOWS):
        one = history.ended.get(how)
        if one is not None and one.code and not any(later.at > one.at and not later.code for later in _as_thorough(history, number)):
            return one
    return None


def _as_thorough(history: CheckHistory, number: int) -> list[CheckEnding]:
    return [history.ended[how] for how in HOWS[number:] if how in history.ended]


def _change(state: State, change: Callable[[History], None]) -> None:
    with state.history_lock():
        history = load(state) or History()
        change(history)
        history = History(_newest(history.sources), _newest(history.places), _newest(history.checks))
        state.save_history(msgspec.to_builtins(history))


_Met = TypeVar("_Met", SourceHistory, PlaceHistory, CheckHistory)


def _newest(met: dict[str, _Met]) -> dict[str, _Met]:
    return dict(sorted(met.items(), key=lambda one: one[1].met, reverse=True)[:_MOST])


def _cut(ending: Ending) -> Ending:
    line, left_out, hint = (shown(text, _LONGEST) for text in (ending.line, ending.left_out, ending.hint))
    return Ending(ending.at, ending.code, line, left_out, hint)
