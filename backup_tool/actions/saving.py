"""A person's own collection: mark notes as saved, or take that back. The marks are in the archive, in a new snapshot of this host."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from backup_tool.actions.archive import Archive, check_prefix, pick
from backup_tool.actions.deliver import Delivered
from backup_tool.actions.gather import Gatherer
from backup_tool.actions.run import Job, RunPlan, run
from backup_tool.catalog import Entry
from backup_tool.models import Progress
from backup_tool.repository import Writer


class SavedNote(msgspec.Struct):
    """A note that was meant; `changed` is False where it was so already."""

    id: str
    saved: bool
    changed: bool


class SaveResult(msgspec.Struct):
    """What was marked; `snapshot` is None where there was nothing to do."""

    snapshot: str | None
    notes: list[SavedNote]
    destinations: list[Delivered] = []


class _NothingToDo(Exception):
    """All is as it was asked to be."""


def save(plan: RunPlan, wanted: Sequence[str], saved: bool, progress: Progress) -> tuple[SaveResult, int]:
    """Mark the notes that a person named as saved, or no more; the exit code too.

    `wanted` are prefixes of ids, or `latest`. Raises UsageError where one names no note or several: then nothing is marked.
    """
    for one in wanted:
        check_prefix(one)
    notes: list[SavedNote] = []
    try:
        done, code = run(plan, progress, partial(_Saving, wanted, saved, notes))
    except _NothingToDo:
        return SaveResult(None, notes), 0
    return SaveResult(done.snapshot, notes, done.destinations), code


class _Saving(Job):
    def __init__(self, wanted: Sequence[str], saved: bool, notes: list[SavedNote], *of_job: Any) -> None:
        super().__init__(*of_job)
        self._wanted = wanted
        self._to_be_saved = saved
        self._notes = notes

    def gather(self, writer: Writer) -> Gatherer:
        """Find the notes in the view of all hosts, and mark them here."""
        archive = Archive(self._repository)
        ids = [item.id or "" for item in _named(archive, self._wanted)]
        changed = [one for one in ids if (one in archive.saved) != self._to_be_saved]
        self._notes += [SavedNote(one, self._to_be_saved, one in changed) for one in ids]
        if not changed:
            raise _NothingToDo
        self._saved.set(changed, self._to_be_saved)
        return self._gatherer(writer, set())


def _named(archive: Archive, wanted: Sequence[str]) -> list[Entry]:
    """Each note that is meant, once."""
    found = [pick(archive.entries("" if one == "latest" else one.lower()), one) for one in dict.fromkeys(wanted)]
    return list({item.id: item for item in found}.values())
