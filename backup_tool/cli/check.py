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
    """Verify the archive: structure, catalogs, and with --read-data every stored byte."""
    from backup_tool.actions.check import check as verify

    report = verify(session.repository(), session.state, session.progress, read_data=read_data, accept_gone=accept_gone)

    def text() -> None:
        for finding in report.findings:
            if finding.severity != "hint" or session.common.verbose:
                print(f"{finding.severity}: {shown(finding.message, 400)}", file=sys.stderr)
        print(report.verdict)

    session.result(report, text)
    return 0 if report.sound else 5
