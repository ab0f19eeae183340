"""`backup check`: is everything in the archive whole?"""

import sys
from typing import Annotated

import typer

from backup_tool.cli.app import verb
from backup_tool.cli.session import Session
from backup_tool.names import shown


@verb()
def check(
    session: Session,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read every byte, not only the structure.")] = False,
    accept_gone: Annotated[bool, typer.Option("--accept-gone", help="Snapshots that disappeared were removed on purpose.")] = False,
) -> int:
    """Verify the archive at every destination: structure, catalogs, and with --read-data every stored byte."""
    from backup_tool.actions.check import check as verify
    from backup_tool.actions.check import together
    from backup_tool.errors import BackupError

    session.read_around_cache()
    reports, away = [], {}
    for name, repository in session.each():
        if isinstance(repository, BackupError):
            away[name] = repository
        else:
            reports.append((name, verify(repository, session.state, session.progress, read_data=read_data, accept_gone=accept_gone)))
    if not reports:
        raise next(iter(away.values()))
    report = reports[0][1] if len(session.specs) == 1 else together(reports)

    def text() -> None:
        for finding in report.findings:
            if finding.severity != "hint" or session.common.verbose:
                print(f"{finding.severity}: {shown(finding.message, 400)}", file=sys.stderr)
        print(report.verdict)

    session.result(report, text)
    for name, error in away.items():
        session.progress.warn(f"{name} was not checked: {error.message}")
    return 5 if not report.sound else 3 if away else 0
