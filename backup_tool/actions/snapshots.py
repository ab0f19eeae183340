"""What was archived when."""

from __future__ import annotations

import msgspec

from backup_tool.actions.archive import FOREIGN, Archive, ours, source_folders
from backup_tool.repository import Repository, Snapshot


class SnapshotRow(msgspec.Struct):
    """A snapshot: when, from which host, of which sources, how many notes and bytes of audio."""

    id: str
    time: str
    host: str | None
    sources: list[str]
    notes: int
    bytes: int


def snapshots(repository: Repository) -> list[SnapshotRow]:
    """All snapshots, oldest first."""
    found = repository.snapshots()
    repository.load_index()
    return [_row(repository, one) for one in found]


def _row(repository: Repository, one: Snapshot) -> SnapshotRow:
    folders = source_folders(repository, one.tree)
    notes, size = _counts(repository, one)
    return SnapshotRow(one.id, one.time, one.hostname, sorted(folders) if folders is not None else [FOREIGN], notes, size)


def _counts(repository: Repository, one: Snapshot) -> tuple[int, int]:
    """From our own summary; another program's summary counts other things, or is not there: then the notes are counted."""
    summary = one.summary or {}
    notes, size = summary.get("total_files_processed"), summary.get("total_bytes_processed")
    if ours(one) and isinstance(notes, int) and isinstance(size, int):
        return notes, size
    sizes = [item.size or 0 for item in Archive(repository, one.id).entries()]
    return len(sizes), sum(sizes)
