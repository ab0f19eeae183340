"""What a run would find: every file is read for its length and its damage; nothing is stored."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from backup_tool.actions.state import State
from backup_tool.actions.worker import PIECE
from backup_tool.audio import Inspector
from backup_tool.catalog import Entry, by_time, entry
from backup_tool.config import SourceSpec
from backup_tool.errors import BackupError, Interrupted, Terminated, UsageError
from backup_tool.models import Note, Place, Problem, Progress
from backup_tool.names import shown
from backup_tool.sources import Detected, Opened, Part, SourceAbsent, StoreCount, open_parts, survey, survey_path
from backup_tool.sources.base import AudioFile, FileUnreadable, Source, Summary, Unlock
from backup_tool.sources.filenames import zone_for
from backup_tool.sources.several import by_name, failed

SHOWS = ("stores", "missing", "not-downloaded", "omitted", "orphan", "damaged", "unreadable")
ABSENT = {"missing": "missing", "not-downloaded": "not_downloaded", "omitted": "omitted"}
"""Why a message has no file, and where a summary names it."""


class Absent(Entry, kw_only=True):
    """A message without its file: what is known of it, and why it has none (one of ABSENT)."""

    absent: str


class Unread(msgspec.Struct):
    """A file or folder that could not be read, and why."""

    source: str
    path: str
    reason: str


@dataclass
class ScanResult:
    """`rows` are what was asked for, oldest first; `stores` what is there; `counts` one for each kind of store of each source."""

    rows: list[Entry] = field(default_factory=list)
    stores: list[Detected] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What a person should know of places, where no store is counted."""
    looked_at: list[str] = field(default_factory=list)
    """The usual places that are on this machine."""
    usual: list[str] = field(default_factory=list)
    """The usual places of a machine like this, where none of them is there."""

    @property
    def problems(self) -> list[Problem]:
        """What could not be read."""
        return [Problem(one.path, one.reason) for one in self.unread]


@dataclass
class Count:
    """What the stores of one kind in one source came to: notes, bytes and seconds of audio, and what is not as it should be."""

    source: str
    type: str
    stores: list[Detected] = field(default_factory=list)
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
    """Look through the sources. With `show`, only those rows: `stores` reads no recording, `missing` are all messages without a file.

    Raises UsageError for a word that is none, and for a typed path where nothing is recognised.
    """
    if show is not None and show not in SHOWS:
        raise UsageError(f'"{shown(show)}" cannot be shown', f"--show takes {', '.join(SHOWS)}")
    result = ScanResult()
    looker = _Looker(result, progress, show, with_ids, host)
    with state.workspace() as workspace:
        for spec in (_as_a_run_reads(spec, state) for spec in sources):
            try:
                if show == "stores":
                    stores, seen = survey(spec, unlock(spec))
                    result.stores += stores
                    _take_over(result, spec.name, spec.path, seen)
                    continue
                looker.look_through(spec.name, open_parts(spec, workspace, unlock(spec)))
            except UsageError as error:  # away, or its key cannot be had: no reason to leave out the others
                if spec.name in typed:
                    raise
                reason = f"{error.message}: {error.hint}" if error.hint and not isinstance(error, SourceAbsent) else error.message
                result.unread.append(Unread(spec.name, str(spec.path), reason))
    result.rows.sort(key=by_time)
    return result


def _as_a_run_reads(spec: SourceSpec, state: State) -> SourceSpec:
    """With the time zone that a run would use. Only a run fixes it."""
    zone = zone_for(spec.timezone, [state.zone(spec.name)])
    return msgspec.structs.replace(spec, timezone=zone) if zone else spec


def scan_usual_places(env: Mapping[str, str], progress: Progress) -> ScanResult:
    """Look for stores in the usual places of this machine, and only for stores: what else lies there is nobody's notes."""
    from backup_tool.sources.places import cure, named_places, usual_places

    result = ScanResult()
    places = usual_places(env)
    result.usual = [] if places else named_places(env)
    for what, path in places:
        result.looked_at.append(str(path))
        progress.begin(f"looking at {what}")
        try:
            os.listdir(path)
            stores, seen = survey_path(path, only_stores=True)
            result.stores += stores
            _take_over(result, what, path, seen)
        except (Interrupted, Terminated):
            raise
        except PermissionError:
            result.unread.append(Unread(what, str(path), f"not readable: {cure()}"))
        except (OSError, BackupError) as error:
            reason = error.message if isinstance(error, BackupError) else (error.strerror or str(error)).lower()
            result.unread.append(Unread(what, str(path), reason))
        finally:
            progress.end()
    return result


def _take_over(result: ScanResult, source: str, path: Path, seen: Summary) -> None:
    """What was met while looking for stores, by its whole path."""
    result.unread += [Unread(source, os.path.normpath(path / problem.path), problem.reason) for problem in seen.problems]
    result.warnings += [f"{path}: {warning}" for warning in seen.warnings]


class _Looker:
    """Looks through one source after the other, into one result."""

    def __init__(self, result: ScanResult, progress: Progress, show: str | None, with_ids: bool, host: str) -> None:
        self._result = result
        self._progress = progress
        self._show = show
        self._with_ids = with_ids
        self._host = host
        self._root = b""
        """The folder that is looked through."""

    def look_through(self, name: str, opened: Opened) -> None:
        """Every kind of store for itself; where there are several, one that fails does not stop the others."""
        self._root = opened.tree.root
        self._unreadable(name, opened.before.problems)
        for part in opened.parts:
            counts, count = StoreCount(opened.tree, part), Count(name, part.source.type)
            try:
                summary = self._scan(part, counts, count)
            except (SourceAbsent, Interrupted, Terminated):
                raise
            except BackupError as error:
                if len(opened.parts) == 1:
                    raise
                summary = failed(part, error)
            self._account(count, summary)
            count.stores = counts.detected(summary.unreadable_folders)
            self._result.counts.append(count)
        self._result.counts[-1].warnings += opened.before.warnings

    def _scan(self, part: Part, counts: StoreCount, count: Count) -> Summary:
        scan = part.source.scan()
        self._progress.begin(f"scanning {part.source.name}")
        try:
            for file in scan:
                problem = _look_at(part.source, file, with_ids=self._with_ids)
                self._progress.step()
                counts.add(file.path)
                if problem:
                    count.unreadable += 1
                    self._unreadable(count.source, [problem])
                else:
                    _count_file(count, file)
                self._result.rows += [entry(note, count.source, self._host) for note in _chosen(file, scan.summary, self._show)]
        finally:
            self._progress.end()
        return scan.summary

    def _account(self, count: Count, summary: Summary) -> None:
        """What is left to say of a store when its scan is over."""
        count.database = summary.database
        count.missing, count.not_downloaded, count.omitted = map(len, (summary.missing, summary.not_downloaded, summary.omitted))
        count.orphan = summary.orphans
        count.unreadable += len(summary.problems)
        count.warnings += summary.warnings
        self._unreadable(count.source, summary.problems)
        for why, where in ABSENT.items():
            if self._show in ("missing", why):
                self._result.rows += [_absent(note, count.source, self._host, why) for note in getattr(summary, where)]

    def _unreadable(self, source: str, problems: list[Problem]) -> None:
        self._result.unread += [Unread(source, problem.path, problem.reason) for problem in by_name(problems, self._root)]


def _absent(note: Note, source: str, host: str, why: str) -> Absent:
    known = entry(note, source, host)
    return Absent(**{name: getattr(known, name) for name in Entry.__struct_fields__}, absent=why)


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
        orphan = summary.database is not None and note.message_id is None and note.sent_at_from not in ("message", "guess")
        if show is None or (show == "orphan" and orphan) or (show == "damaged" and note.damaged):
            yield note


def _count_file(count: Count, file: AudioFile) -> None:
    count.files += 1
    count.notes += len(file.notes)
    count.bytes += file.size
    count.seconds += file.notes[0].duration or 0.0
    count.damaged += file.notes[0].damaged is not None
