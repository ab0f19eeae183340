"""`backup check`: is everything in the archive whole?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from backup_tool.cli.app import verb
from backup_tool.cli.console import quoted
from backup_tool.cli.session import Session
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.actions.check import Report
    from backup_tool.actions.check_remote import RemoteReport
    from backup_tool.actions.history import How
    from backup_tool.errors import BackupError


@verb()
def check(
    session: Session,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read every byte, not only the structure.")] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Compare the destination's own checksums of all objects; read only a few samples.")
    ] = False,
    accept_gone: Annotated[bool, typer.Option("--accept-gone", help="Snapshots that disappeared were removed on purpose.")] = False,
) -> int:
    """Verify the archive at every destination: structure, catalogs, and with --read-data every stored byte."""
    from backup_tool.errors import IntegrityError, UsageError

    if remote and (read_data or accept_gone):
        raise UsageError("--remote goes alone", "leave out the other one, or give two commands")
    session.read_around_cache()
    report, away, differ = _by_checksums(session) if remote else _everywhere(session, read_data, accept_gone)

    def text() -> None:
        for finding in report.findings:
            if finding.severity != "hint" or session.common.verbose:
                print(f"{finding.severity}: {shown(finding.message, 400)}", file=sys.stderr)
        print(report.verdict)

    session.result(report, text)
    for name, error in away.items():
        session.progress.warn(f"{name} was not checked: {error.message}")
    if differ:
        session.progress.warn(differ)
    damaged = any(isinstance(error, IntegrityError) for error in away.values())
    return 5 if damaged or not report.sound else 3 if away or differ else 0


def _by_checksums(session: Session) -> tuple[RemoteReport, dict[str, BackupError], str]:
    """One report of all destinations that tell checksums, those of them that could not be looked at, and whether they differ."""
    from backup_tool.actions.check_remote import check_remote, together, with_checksums
    from backup_tool.actions.history import checked
    from backup_tool.destinations.base import Checksums
    from backup_tool.errors import BackupError
    from backup_tool.repository import Repository

    places = [(spec, session.place_of(spec).destination) for spec in session.specs]
    telling = [(spec, place) for spec, place in places if isinstance(place, Checksums)]
    if not telling:
        with_checksums(places[0][1])  # before anybody thinks of a password
    for spec, _ in [one for one in places if one not in telling]:
        session.note(f"note: {shown(spec.name)} does not tell checksums: backup check --read-data --repo {quoted(spec.name)}")
    reports: list[tuple[str, RemoteReport]] = []
    away: dict[str, BackupError] = {}
    ids: dict[str, str] = {}
    for spec, place in telling:
        try:
            repository = Repository.open(session.place(place, spec), session.password())
            ids[spec.name] = repository.id
            reports.append((spec.name, report := check_remote(repository, session.progress)))
            checked(session.state, place.label, "checksums", 0 if report.sound else 5, report.verdict)
        except BackupError as error:
            _keep_damage(session, place.label, "checksums", error)
            if len(telling) == 1:
                raise
            away[spec.name] = error
    if not reports:
        raise next(iter(away.values()))
    return reports[0][1] if len(session.specs) == 1 else together(reports), away, _different(ids)


def _everywhere(session: Session, read_data: bool, accept_gone: bool) -> tuple[Report, dict[str, BackupError], str]:
    """One report of all destinations, those that could not be looked at, and whether they differ."""
    from backup_tool.actions.check import check as verify
    from backup_tool.actions.check import together
    from backup_tool.actions.history import checked
    from backup_tool.errors import BackupError

    reports: list[tuple[str, Report]] = []
    away: dict[str, BackupError] = {}
    ids: dict[str, str] = {}
    how: How = "every byte" if read_data else "structure"
    for spec, repository in session.each():
        if isinstance(repository, BackupError):
            _keep_damage(session, session.label_of(spec), how, repository)
            if len(session.specs) == 1:
                raise repository
            away[spec.name] = repository
            continue
        ids[spec.name] = repository.id
        report = verify(repository, session.state, session.progress, read_data=read_data, accept_gone=accept_gone)
        checked(session.state, repository.destination.label, how, 0 if report.sound else 5, report.verdict)
        reports.append((spec.name, report))
    if not reports:
        raise next(iter(away.values()))
    return reports[0][1] if len(session.specs) == 1 else together(reports), away, _different(ids)


def _keep_damage(session: Session, label: str, how: How, error: BackupError) -> None:
    """A place that cannot be opened because it is damaged was checked, and failed. One that is away was not."""
    from backup_tool.actions.history import checked
    from backup_tool.errors import IntegrityError

    if isinstance(error, IntegrityError):
        checked(session.state, label, how, error.exit_code, error.message)


def _different(ids: dict[str, str]) -> str:
    """What it means where places, by their names, hold repositories of several ids; empty where they hold one."""
    first = next(iter(ids), "")
    others = [name for name, id in ids.items() if id != ids[first]]
    if not others:
        return ""
    are, holds = ("is", "holds") if len(others) == 1 else ("are", "hold")
    return (
        f"{shown(', '.join(others))} {holds} another repository than {shown(first)}, and {are} no copy of it: what was archived to one is "
        f"not in the other (give {shown(others[0])} a place of its own in the settings, then: backup init --repo {quoted(others[0])})"
    )
