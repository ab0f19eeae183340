"""`backup status`: how an unattended installation does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backup_tool.cli import console
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session
from backup_tool.names import in_time, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backup_tool.actions.status import CheckStatus, DestinationStatus, Installed, SignInStatus, SourceStatus, Status
    from backup_tool.config import DestinationSpec
    from backup_tool.destinations.base import SignInKept

_WIDEST = 600


@verb(repository=False)
def status(session: Session) -> int:
    """Say whether all is well: last runs, what waits for which destination, sign-ins, checks. Needs no network and no password.

    The exit code is 0 where all is well, else the one of the gravest thing to do. For cron: backup status --quiet
    """
    from backup_tool.actions.status import look

    found = look(_installed(session), session.state)
    session.result(found, lambda: _tell(found, quiet=session.common.quiet))
    return found.code


def _installed(session: Session) -> Installed:
    """What the settings name; where they name none, what was typed last."""
    from backup_tool.actions.history import History, load
    from backup_tool.actions.status import Installed
    from backup_tool.config import parse_place, resolve_destinations
    from backup_tool.errors import UsageError

    settings = session.settings
    history = load(session.state) or History()
    try:
        specs = list(resolve_destinations(None, os.environ, settings))
    except UsageError:
        newest = max((one.met for one in history.places.values()), default="")
        specs = [parse_place(label, settings) for label, one in history.places.items() if one.met == newest]
    newest = max((one.met for one in history.sources.values()), default="")
    sources = list(settings.sources) or [name for name, one in history.sources.items() if one.met == newest]
    destinations = [(spec.name, session.label_of(spec), _sign_in(session, spec)) for spec in specs]
    return Installed(sources, destinations, settings.repository.spool_size)


def _sign_in(session: Session, spec: DestinationSpec) -> SignInKept | None:
    from backup_tool.destinations import sign_in_kept
    from backup_tool.errors import BackupError

    try:
        return sign_in_kept(spec, session.state.home(spec.label))
    except (BackupError, ValueError, OverflowError, OSError):  # not to be read, or no times: not known
        return None


def _tell(found: Status, *, quiet: bool) -> None:
    if not quiet:
        _tell_all(found)
    for one in found.advice:
        print(f"warning: {shown(one.message, _WIDEST)}")
        if one.hint:
            print(f"hint: {shown(one.hint, _WIDEST)}")
    if not found.code and not quiet:
        print("all is well" + (", for now" if found.advice else ""))


def _tell_all(found: Status) -> None:
    rows = [("run", f"under way: process {found.running.pid}, {_ago(found.running.since)}")] if found.running is not None else []
    rows += [(one.name, line) for one in found.sources for line in _of_source(one)]
    rows += [(one.name, line) for one in found.destinations for line in _of_destination(one)]
    rows.append(("spool", f"{console.size(found.spool.bytes)} of {console.size(found.spool.bound)}"))
    width = min(30, max(len(shown(name, 30)) for name, _ in rows))
    before = ""
    for name, line in rows:
        print(f"{'' if name == before else shown(name, 30):{width}}  {shown(line, _WIDEST)}")
        before = name


def _of_source(one: SourceStatus) -> Iterator[str]:
    run = one.last_run
    if run is None:
        yield "source: no run is on record"
        return
    new = "" if run.new is None else f", {console.count(run.new, 'new note')} here"
    yield f"source: last run {_ago(run.at)}, exit code {run.code}{new}: {run.line}"
    if run.away is not None:
        yield run.away
    if not run.new:
        yield f"new notes last arrived {_ago(one.arrived)}" if one.arrived is not None else "new notes have never arrived"


def _of_destination(one: DestinationStatus) -> Iterator[str]:
    level = f"it last had everything {_ago(one.level)}" if one.level is not None else "it has never had everything, as far as is known"
    yield f"{one.role}: {level}"
    if one.queued is None:
        yield "what waits for it is not known"
    elif one.queued.objects:
        since = f", since {_ago(one.queued.since)}" if one.queued.since is not None else ""
        yield f"waiting for it: {console.count(one.queued.objects, 'object')}, {console.size(one.queued.bytes)}{since}"
    if one.sign_in is not None:
        yield _of_sign_in(one.sign_in)
    yield _of_check(one.checks[0]) if one.checks else "never checked from this machine, as far as is known"


def _of_sign_in(one: SignInStatus) -> str:
    if one.signed_in is None:
        return "signed in: no"
    told = f"signed in {_ago(one.signed_in)}"
    if one.accepted is not None:
        told += f", session last accepted {_ago(one.accepted)}"
    if one.needed:
        return f"{told}; sign-in ended"
    if one.days_left is not None:
        return f"{told}; sign-in ends in {console.count(max(0, round(one.days_left)), 'day')} or so"
    if one.days_left_in_testing is not None:
        days = console.count(max(0, round(one.days_left_in_testing)), "day")
        return f'{told}; sign-in ends in {days} if your Google project is still in "Testing"'
    return told


def _of_check(one: CheckStatus) -> str:
    return f"last check {_ago(one.at)}, exit code {one.code}: {one.verdict}"


def _ago(text: str) -> str:
    """`3 hours ago (2026-03-03 03:00)`, in local time."""
    from datetime import UTC, datetime

    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return "at a time that is not known"
    return f"{in_time(seconds)} ago ({console.local(text)})"
