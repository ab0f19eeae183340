"""`backup snapshots`: what was archived when."""

from backup_tool.cli import console
from backup_tool.cli.app import verb
from backup_tool.cli.session import Session


@verb()
def snapshots(session: Session) -> None:
    """List the snapshots, oldest first."""
    from backup_tool.actions.snapshots import snapshots as look

    rows = look(session.repository())

    def text() -> None:
        cells = [[r.id[:8], console.local(r.time), r.host or "-", ", ".join(r.sources), str(r.notes), console.size(r.bytes)] for r in rows]
        console.table(cells, ["id", "time", "host", "sources", "notes", "size"], {4, 5})
        print(console.count(len(rows), "snapshot"))

    session.result(rows, text)
