"""What a run would find: every file is read for its length and its damage; nothing is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from backup_tool.actions.state import State
from backup_tool.actions.worker import PIECE
from backup_tool.audio import Inspector
from backup_tool.catalog import Entry, by_time, entry
from backup_tool.config import SourceSpec
from backup_tool.errors import UsageError
from backup_tool.models import Note, Place, Problem, Progress
from backup_tool.names import shown
from backup_tool.sources import Detected, SourceAbsent, detect, open_source
from backup_tool.sources.base import AudioFile, FileUnreadable, Source, Summary, Unlock

SHOWS = ("stores", "missing", "orphan", "damaged")


@dataclass
class ScanResult:
    """`rows` are what was asked for, oldest first; `stores` what is there; `counts` one for each source."""

    rows: list[Entry] = field(default_factory=list)
    stores: list[Detected] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass
class Count:
    """What one source came to: notes, bytes and seconds of audio, and what is not as it should be."""

    source: str
    type: str
    database: str | None = None
    notes: int = 0
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    missing: int = 0
    not_downloaded: int = 0
    omitted: int = 0
    orphan: int = 0
    damaged: int = 0
    unreadable: int = 0
    warnings: list[str] = field(default_factory=list)


def scan(
    sources: list[SourceSpec],
    typed: set[str],
    state: State,
    progress: Progress,
    *,
    unlock: Callable[[SourceSpec], Unlock],
    show: str | None,
    with_ids: bool,
    host: str,
) -> ScanResult:
    """Look through the sources. With `show`, only those rows: `stores` reads no note, `missing` are messages without a file.

    Raises UsageError for a word that is none, and for a typed path where nothing is recognised.
    """
    if show is not None and show not in SHOWS:
        raise UsageError(f'"{shown(show)}" cannot be shown', f"--show takes {', '.join(SHOWS)}")
    result = ScanResult()
    if show == "stores":
        result.stores = [store for spec in sources for store in detect(spec.path)]
        return result
    with state.workspace() as workspace:
        for spec in sources:
            try:
                _scan_one(open_source(spec, workspace, unlock(spec)), result, progress, show, with_ids, host)
            except SourceAbsent as absent:
                if spec.name in typed:
                    raise
                result.problems.append(Problem(str(spec.path), absent.message))
    result.rows.sort(key=by_time)
    return result


def _scan_one(source: Source, result: ScanResult, progress: Progress, show: str | None, with_ids: bool, host: str) -> None:
    scan = source.scan()
    count = Count(source.name, source.type)
    progress.begin(f"scanning {source.name}")
    try:
        for file in scan:
            problem = _look_at(source, file, with_ids=with_ids)
            progress.step()
            if problem:
                result.problems.append(problem)
            else:
                _count_file(count, file)
            result.rows += [entry(note, source.name, host) for note in _chosen(file, scan.summary, show)]
    finally:
        progress.end()
    _count_rest(count, scan.summary, len(result.problems))
    result.problems += scan.summary.problems
    count.unreadable += len(scan.summary.problems)
    if show == "missing":
        absent = scan.summary.missing + scan.summary.not_downloaded + scan.summary.omitted
        result.rows += [entry(note, source.name, host) for note in absent]
    result.counts.append(count)


def _look_at(source: Source, file: AudioFile, *, with_ids: bool) -> Problem | None:
    """Read a file for its facts. One that cannot be read keeps its notes, without them."""
    inspector, whole, blobs = Inspector(file.original_path), hashlib.sha256(), list[str]()
    try:
        for piece in source.read(file, PIECE):
            inspector.feed(piece)
            if with_ids:
                whole.update(piece)
                blobs.append(hashlib.sha256(piece).hexdigest())
    except FileUnreadable as reason:
        return Problem(file.path, str(reason))
    facts = inspector.facts()
    for note in file.notes:
        note.found = [Place(source.name, file.path)]
        note.size = file.size
        note.media_type = facts.media_type or note.media_type
        note.duration = facts.duration if facts.duration is not None else note.duration
        note.damaged = facts.damaged
        if with_ids:
            note.id, note.blobs = whole.hexdigest(), blobs
            if file.recorded_id and file.recorded_id != note.id and not note.damaged:
                note.damaged = "hash-differs"
    return None


def _chosen(file: AudioFile, summary: Summary, show: str | None) -> Iterator[Note]:
    for note in file.notes:
        orphan = summary.database is not None and note.message_id is None
        if show is None or (show == "orphan" and orphan) or (show == "damaged" and note.damaged):
            yield note


def _count_file(count: Count, file: AudioFile) -> None:
    count.files += 1
    count.notes += len(file.notes)
    count.bytes += file.size
    count.seconds += file.notes[0].duration or 0.0
    count.damaged += file.notes[0].damaged is not None


def _count_rest(count: Count, summary: Summary, unreadable: int) -> None:
    count.database = summary.database
    count.missing = len(summary.missing)
    count.not_downloaded = len(summary.not_downloaded)
    count.omitted = len(summary.omitted)
    count.orphan = summary.orphans
    count.unreadable = unreadable
    count.warnings = summary.warnings
