"""How an unattended installation does, by what is kept on this machine: no network, no password, nothing is changed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

import msgspec

from backup_tool.actions.history import HOWS, CheckHistory, History, How, PlaceHistory, SourceHistory, damage, load
from backup_tool.actions.state import State
from backup_tool.destinations.base import SignInKept
from backup_tool.destinations.several.spool import Spool, find_spool, spools_in
from backup_tool.errors import BackupError, gravest
from backup_tool.names import in_bytes, in_time, shown

STALE_DAYS = 2.0
"""So long the last successful run may be ago."""
WARN_DAYS = 7.0
"""So long before a sign-in ends somebody is told."""
_DAY = 86_400.0
_PASS_THROUGH = (4, 5, 14)
"""Codes of one destination that somebody should see though others have everything: no later night mends them by itself."""


class Advice(msgspec.Struct):
    """What somebody should know, or do: the exit code that stands for it (0 where all works still), and the command to type."""

    code: int
    message: str
    hint: str = ""


class Running(msgspec.Struct):
    """A run that is at work now."""

    pid: int
    since: str


class RunStatus(msgspec.Struct):
    """How the last run that had this source ended; `new`, `away` and `left_out` as in `history`."""

    at: str
    code: int
    line: str
    new: int | None
    away: str | None
    left_out: str


class SourceStatus(msgspec.Struct):
    """`archived` is when a run last read it and stored a snapshot, `arrived` when that held new notes; `broke_off` when a run began that
    did not end. None where it is not known."""

    name: str
    last_run: RunStatus | None = None
    archived: str | None = None
    arrived: str | None = None
    broke_off: str | None = None


class Queued(msgspec.Struct):
    """What is kept for a destination; `since` is None where nothing is."""

    objects: int
    bytes: int
    since: str | None = None


class DeliveryStatus(msgspec.Struct):
    """What became of the last delivery; `code` is the exit code that stands for `error`."""

    at: str
    status: Literal["delivered", "queued", "failed"]
    code: int
    error: str | None


class SignInStatus(msgspec.Struct):
    """What is known of a sign-in, as in `SignInKept`, and the days left. `needed`: somebody has to sign in now."""

    needed: bool
    signed_in: str | None
    accepted: str | None
    sign_in_ends: str | None
    sign_in_may_end: str | None
    days_left: float | None
    days_left_in_testing: float | None


class CheckStatus(msgspec.Struct):
    """What the last check of that thoroughness said."""

    at: str
    how: How
    code: int
    verdict: str


class DestinationStatus(msgspec.Struct):
    """`level` is when it last had everything. `queued` and `sign_in` are None where they are not known, or there is no such thing."""

    name: str
    place: str
    role: Literal["primary", "mirror"]
    level: str | None = None
    last_delivery: DeliveryStatus | None = None
    queued: Queued | None = None
    sign_in: SignInStatus | None = None
    checks: list[CheckStatus] = []
    """The newest first."""


class SpoolStatus(msgspec.Struct):
    """Bytes that wait on this machine, and about how many may."""

    bytes: int
    bound: int


class Status(msgspec.Struct):
    """All of it. `code` is the gravest of the advice, which is sorted by gravity."""

    code: int
    running: Running | None
    sources: list[SourceStatus]
    destinations: list[DestinationStatus]
    spool: SpoolStatus
    advice: list[Advice]


class Installed(msgspec.Struct):
    """What is configured, or was typed: names of sources, and (name, label, sign-in as it is kept) of destinations, the primary first."""

    sources: Sequence[str]
    destinations: Sequence[tuple[str, str, SignInKept | None]]
    spool_size: int


def look(installed: Installed, state: State, now: datetime | None = None) -> Status:
    """See how it does. Raises nothing: what cannot be read is not known."""
    return _Look(installed, state, now or datetime.now(UTC)).status()


class _Look:
    def __init__(self, installed: Installed, state: State, now: datetime) -> None:
        self._state, self._now, self._installed = state, now, installed
        self._known = load(state)
        self._history = self._known or History()
        running = state.running()
        self._running = None if running is None else Running(*running)
        self._busy = self._running is not None and self._seconds_since(self._running.since) < STALE_DAYS * _DAY
        """Whether what is not done yet may be on its way: a run that is at work for days is no excuse."""
        self._advice: list[Advice] = []
        self._spool: Spool | None = None
        with suppress(BackupError, OSError):
            self._spool = find_spool(state.spools, [label for _, label, _ in installed.destinations], installed.spool_size)

    def status(self) -> Status:
        if not self._installed.sources and not self._installed.destinations and self._known is None:
            hint = "make an archive, then fill it: backup init --repo /path/to/archive"
            self._advice.append(Advice(2, "nothing is configured, and no run is on record", hint))
        elif self._known is None and self._state.has_history:
            self._advice.append(Advice(1, "what runs and checks left on record cannot be read", "the next run begins it anew: backup run"))
        destinations = [self._destination(*one, first=not number) for number, one in enumerate(self._installed.destinations)]
        sources = [self._source(name) for name in self._installed.sources]
        for number, one in enumerate(destinations):
            self._advise_on_destination(one, destinations, self._installed.destinations[number][2])
        self._advise_on_sources(sources, destinations)
        self._advise_on_what_is_aside()
        self._advise_on_other_spools()
        code = gravest(one.code for one in self._advice)
        return Status(code, self._running, sources, destinations, self._spooled(), list(_by_gravity(self._advice)))

    # What is there

    def _source(self, name: str) -> SourceStatus:
        known = self._history.sources.get(name)
        if known is None:
            return SourceStatus(name)
        broke_off = None if self._running is not None else known.began
        return SourceStatus(name, _run_status(known), known.archived, known.arrived, broke_off)

    def _destination(self, name: str, label: str, sign_in: SignInKept | None, *, first: bool) -> DestinationStatus:
        known, checks = self._history.places.get(label), self._history.checks.get(label)
        one = DestinationStatus(name, label, "primary" if first else "mirror")
        if known is not None:
            one.level = known.level
            one.last_delivery = DeliveryStatus(known.at, known.status, known.code, known.error)
        one.queued = self._queued_for_primary(known) if first and self._spool is not None else _queued(known)
        one.sign_in = None if sign_in is None else self._sign_in(sign_in, known)
        one.checks = [] if checks is None else _newest_first(checks)
        return one

    def _queued_for_primary(self, known: PlaceHistory | None) -> Queued | None:
        """What the spool holds: nothing else is kept for it. What is older than its last delivery waits for another."""
        assert self._spool is not None
        objects, size, since = _in(self._spool, after=known.at if known is not None and known.status == "delivered" else "")
        if not objects:
            return Queued(0, 0) if known is None or known.status == "delivered" else _queued(known)
        return Queued(objects, size, since or (known.since if known is not None else None))

    def _sign_in(self, kept: SignInKept, known: PlaceHistory | None) -> SignInStatus:
        refused = known is not None and known.code == 4 and known.status != "delivered" and (kept.signed_in or "") < known.at
        left, in_testing = self._days_until(kept.sign_in_ends), self._days_until(kept.sign_in_may_end)
        ended = left is not None and left <= 0 and not kept.is_estimate
        times = (kept.signed_in, kept.accepted, kept.sign_in_ends, kept.sign_in_may_end)
        return SignInStatus(kept.signed_in is None or refused or ended, *times, left, in_testing)

    def _spooled(self) -> SpoolStatus:
        return SpoolStatus(_in(self._spool, owed=False)[1] if self._spool is not None else 0, self._installed.spool_size)

    # What is to be done

    def _advise_on_destination(self, one: DestinationStatus, all_of_them: list[DestinationStatus], kept: SignInKept | None) -> None:
        name, delivery = shown(one.name), one.last_delivery
        if one.sign_in is not None and one.sign_in.needed:
            self._advise(4, f"{name}: {_why_sign_in(one)}", f"sign in: backup login {_quoted(one.name)}")
        elif delivery is None:
            if not self._busy and (self._history.places or self._history.sources):
                self._advise(3, f"{name}: nothing was delivered there yet, as far as is known", "backup run")
        elif delivery.status != "delivered":
            nobody = not any(other.last_delivery is not None and other.last_delivery.status == "delivered" for other in all_of_them)
            signed_in_since = delivery.code == 4 and one.sign_in is not None
            code = delivery.code if (delivery.code in _PASS_THROUGH or nobody) and delivery.code and not signed_in_since else 3
            told = "somebody has signed in since" if signed_in_since else delivery.error
            self._advise(code, f"{name}: {told}; {_lacking(one)}", "when that is mended: backup run")
        elif one.queued is not None and one.queued.objects and not self._busy:
            self._advise(3, f"{name}: {_lacking(one)}", "bring it there: backup run")
        self._advise_on_end_of_sign_in(one, kept)
        self._advise_on_what_it_has_alone(one)
        checks = self._history.checks.get(one.place)
        if checks is not None and (found := damage(checks)) is not None:
            hint = f"see what it is: backup check --repo {_quoted(one.name)}"
            self._advise(5, f"{name}: the check {self._ago(found.at)} found: {found.verdict}", hint)

    def _advise_on_end_of_sign_in(self, one: DestinationStatus, kept: SignInKept | None) -> None:
        known = one.sign_in
        if known is None or known.needed or known.days_left is None or known.days_left >= WARN_DAYS:
            return
        about = "about " if kept is not None and kept.is_estimate else ""
        when = f"in {about}{in_time(known.days_left * _DAY)}" if known.days_left > 0 else "any day now"
        self._advise(0, f"{shown(one.name)}: the sign-in ends {when}", f"renew it before: backup login {_quoted(one.name)}")

    def _advise_on_what_it_has_alone(self, one: DestinationStatus) -> None:
        known = self._history.places.get(one.place)
        if known is None or not known.alone or one.role == "primary":
            return
        many = "a snapshot" if known.alone == 1 else f"{known.alone:,} snapshots"
        what = f"{shown(one.name)} has {many} that the first destination never had: notes that are in there alone are not seen here"
        self._advise(0, what, f"see them: backup list --repo {_quoted(one.name)}; name it first in the settings once, then: backup sync")

    def _advise_on_sources(self, sources: Sequence[SourceStatus], destinations: Sequence[DestinationStatus]) -> None:
        for one in sources:
            name = shown(one.name)
            if one.broke_off is not None:
                why = "did not end: it was killed, or the machine went down"
                self._advise(3, f"the run that began {self._ago(one.broke_off)} {why}", "backup run")
            if one.last_run is not None:
                self._advise_on_run(one.last_run, self._history.sources[one.name], destinations)
            if self._busy or (self._known is None and self._state.has_history):
                continue
            if one.last_run is None:
                self._advise(1, f"{name}: no run is on record", "backup run")
            elif one.archived is None:
                self._advise(1, f"{name}: no run that archived it is on record", "backup run")
            elif self._seconds_since(one.archived) > STALE_DAYS * _DAY:
                self._advise(1, f"{name}: the last successful run was {self._ago(one.archived)}", "see why: backup run")
            elif self._seconds_since(one.archived) < -_DAY:
                what = f"{name}: the last successful run has a time to come: this machine's clock was wrong then, or is now"
                self._advise(1, what, "see that it is right (date), then: backup run")

    def _advise_on_run(self, run: RunStatus, known: SourceHistory, destinations: Sequence[DestinationStatus]) -> None:
        if run.left_out:
            self._advise(5 if run.code == 5 else 3, f"the last run left something out: {run.left_out}", "when that is mended: backup run")
        elif run.new is None and run.code and not any(_is_of(run.line, one) for one in destinations):
            ended = "was ended" if run.code in (130, 143) else "failed"
            hint = known.last.hint if known.last is not None and known.last.hint else "backup run"
            self._advise(3 if run.code in (130, 143) else run.code, f"the last run {ended}: {run.line}", hint)

    def _advise_on_other_spools(self) -> None:
        """What waits for places that are not in the settings any more, or were typed once."""
        for spool in spools_in(self._state.spools):
            if self._spool is not None and spool.store.path == self._spool.store.path:
                continue
            with suppress(BackupError, OSError):
                objects, size, _ = _in(spool)
                if objects and not spool.places():
                    what = f"{_waiting(objects, size)} on this machine, and for whom cannot be read"
                    self._advise(3, what, "find out, and deliver it: backup run")
                elif objects:
                    places = " and ".join(shown(label) for label in spool.places())
                    what = f"{_waiting(objects, size)} on this machine for {places}, which the settings do not name"
                    hint = f"deliver it: backup run --repo {_quoted(next(iter(spool.places()), ''))}"
                    self._advise(3, what, hint)

    def _advise_on_what_is_aside(self) -> None:
        if self._spool is not None and (aside := self._spool.aside):
            labels = {label for _, label, _ in self._installed.destinations}
            places = " or ".join(shown(label) for label in self._spool.places() if label not in labels) or "a place that was taken away"
            what = f"{len(aside):,} object{'' if len(aside) == 1 else 's'} cannot be delivered: what they name went to {places} only"
            self._advise(0, what, "write that destination into the settings again, then: backup sync")

    def _advise(self, code: int, message: str, hint: str) -> None:
        self._advice.append(Advice(code, message, hint))

    # Time

    def _seconds_since(self, text: str) -> float:
        try:
            return (self._now - datetime.fromisoformat(text)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return 0.0

    def _ago(self, text: str) -> str:
        return f"{in_time(self._seconds_since(text))} ago"

    def _days_until(self, text: str | None) -> float | None:
        return None if text is None else round(-self._seconds_since(text) / _DAY, 1)


def _run_status(known: SourceHistory) -> RunStatus | None:
    last = known.last
    return None if last is None else RunStatus(last.at, last.code, last.line, known.new, known.away, last.left_out)


def _queued(known: PlaceHistory | None) -> Queued | None:
    if known is None or (known.status != "delivered" and known.lacks is None):
        return None
    return Queued(0, 0) if known.lacks is None else Queued(known.lacks.objects, known.lacks.bytes, known.since)


def _newest_first(checks: CheckHistory) -> list[CheckStatus]:
    found = [CheckStatus(one.at, how, one.code, one.verdict) for how in HOWS if (one := checks.ended.get(how)) is not None]
    return sorted(found, key=lambda one: one.at, reverse=True)


def _in(spool: Spool, *, owed: bool = True, after: str = "") -> tuple[int, int, str | None]:
    """(objects, bytes, since when) of what waits in a spool, but for what is set aside; with `owed` also of what left it before the primary
    had it. Nothing that came before the time `after` counts."""
    aside = spool.aside
    sizes, times = [size for name, size in spool.owed.items() if owed and name not in aside], []
    for parcel in spool.waiting():
        if parcel.name in aside:
            continue
        with suppress(OSError):
            came = spool.store.file_of(parcel.kind, parcel.name).stat().st_mtime
            if f"{datetime.fromtimestamp(came, UTC):%Y-%m-%dT%H:%M:%SZ}" < after:
                continue
            times.append(came)
        sizes.append(parcel.size)
    since = f"{datetime.fromtimestamp(min(times), UTC):%Y-%m-%dT%H:%M:%SZ}" if times else None
    return len(sizes), sum(sizes), since


def _why_sign_in(one: DestinationStatus) -> str:
    assert one.sign_in is not None
    if one.last_delivery is not None and one.last_delivery.code == 4 and one.last_delivery.error:
        return f"{one.last_delivery.error}; {_lacking(one)}"
    return "nobody has signed in on this machine" if one.sign_in.signed_in is None else "the sign-in has ended"


def _lacking(one: DestinationStatus) -> str:
    if one.queued is None:
        return "how much it lacks is not known"
    return f"{_waiting(one.queued.objects, one.queued.bytes)} for it" if one.queued.objects else "nothing waits for it"


def _waiting(objects: int, size: int) -> str:
    return f"{objects:,} object{'' if objects == 1 else 's'} ({in_bytes(size)}) {'waits' if objects == 1 else 'wait'}"


def _is_of(line: str, one: DestinationStatus) -> bool:
    """Whether a run failed for what is told of a destination already."""
    error = one.last_delivery.error if one.last_delivery is not None else None
    return bool(error) and f"{one.name} {error}".find(line.removeprefix(f"{one.name} ")) >= 0


def _quoted(name: str) -> str:
    return shlex.quote(shown(name, 1000))


def _by_gravity(advice: Sequence[Advice]) -> Iterator[Advice]:
    """Each once, the gravest first."""
    left = list({(one.code, one.message): one for one in advice}.values())
    while left:
        code = gravest(one.code for one in left)
        yield from [one for one in left if one.code == code]
        left = [one for one in left if one.code != code]
