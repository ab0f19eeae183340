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
    report, away = _by_checksums(session) if remote else _everywhere(session, read_data, accept_gone)

    def text() -> None:
        for finding in report.findings:
            if finding.severity != "hint" or session.common.verbose:
                print(f"{finding.severity}: {shown(finding.message, 400)}", file=sys.stderr)
        print(report.verdict)

    session.result(report, text)
    for name, error in away.items():
        session.progress.warn(f"{name} was not checked: {error.message}")
    damaged = any(isinstance(error, IntegrityError) for error in away.values())
    return 5 if damaged or not report.sound else 3 if away else 0


def _by_checksums(session: Session) -> tuple[RemoteReport, dict[str, BackupError]]:
    """One report of all destinations that tell checksums, and those of them that could not be looked at."""
    from backup_tool.actions.check_remote import check_remote, together, with_checksums
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
    for spec, place in telling:
        try:
            repository = Repository.open(session.place(place, spec), session.password())
            reports.append((spec.name, check_remote(repository, session.progress)))
        except BackupError as error:
            if len(telling) == 1:
                raise
            away[spec.name] = error
    if not reports:
        raise next(iter(away.values()))
    return reports[0][1] if len(session.specs) == 1 else together(reports), away


def _everywhere(session: Session, read_data: bool, accept_gone: bool) -> tuple[Report, dict[str, BackupError]]:
    """One report of all destinations, and those that could not be looked at."""
    from backup_tool.actions.check import check as verify
    from backup_tool.actions.check import together
    from backup_tool.errors import BackupError

    reports: list[tuple[str, Report]] = []
    away: dict[str, BackupError] = {}
    for name, repository in session.each():
        if isinstance(repository, BackupError):
            away[name] = repository
        else:
            reports.append((name, verify(repository, session.state, session.progress, read_data=read_data, accept_gone=accept_gone)))
    if not reports:
        raise next(iter(away.values()))
    return reports[0][1] if len(session.specs) == 1 else together(reports), away
