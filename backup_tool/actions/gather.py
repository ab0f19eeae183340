"""Take in what a source has: recognise what is known, read what is new, and account for every note.

Reading, hashing, looking for damage and sealing are done here for a few files, by two other processes for many; the records are kept here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import msgspec

from backup_tool.actions.worker import FailedFile, ReadFile, store_file
from backup_tool.actions.workers import MANY_BYTES, MANY_FILES, StoringWorkers
from backup_tool.catalog import Ledger, enter
from backup_tool.models import Chat, Damage, Note, Place, Problem, Progress
from backup_tool.names import safe_name
from backup_tool.repository import Writer
from backup_tool.sources.base import AudioFile, Scan, Source, Summary
from backup_tool.sources.several import by_name

_QUIET_SECONDS = 2.0
_TRIES = 3
LOUD_FROM = 20
_LAST_TURN = 255
"""`Ledger.seen` has a byte for each record; from that source on, all count as one."""


@dataclass(slots=True)
class Tally:
    """What the scan of all sources of one run came to."""

    scanned: dict[str, Summary] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unreadable: dict[str, set[str]] = field(default_factory=dict)
    """By source: the paths of files that are there and could not be read. Their notes are carried as they are."""
    chats: dict[str, list[Chat]] = field(default_factory=dict)
    bytes_read: int = 0
    deleted: int = 0
    damaged: int = 0

    @property
    def missing(self) -> int:
        """Messages whose file is not on the device, those of the next two among them."""
        return sum(len(one.missing) for one in self.scanned.values()) + self.not_downloaded + self.omitted

    @property
    def not_downloaded(self) -> int:
        """Messages whose file the device never had."""
        return sum(len(one.not_downloaded) for one in self.scanned.values())

    @property
    def omitted(self) -> int:
        """Messages that an exported chat came without the file of."""
        return sum(len(one.omitted) for one in self.scanned.values())

    @property
    def orphans(self) -> int:
        """Files without a message, where there was a database."""
        return sum(summary.orphans for summary in self.scanned.values())


class Gatherer:
    """Takes sources into a ledger, one after the other."""

    def __init__(
        self,
        ledger: Ledger,
        writer: Writer,
        *,
        deleted: set[str],
        retired: set[str],
        now: str,
        workers: Callable[[], StoringWorkers] | None,
        progress: Progress,
    ) -> None:
        self.ledger = ledger
        self.tally = Tally()
        self._writer = writer
        self._deleted = deleted
        self._retired = retired
        self._now = now
        self._workers = workers
        self._progress = progress
        self._first_new = ledger.numbers()
        self._places: dict[int, set[tuple[str, str]]] = {}
        """Where records of earlier runs were seen in this one; new records say so themselves."""
        self._at_its_place = bytearray(self._first_new)
        """1 for a record of earlier runs with one place that was seen there, just as it was: most are, so no place is kept for it."""

    def take(self, source: Source) -> None:
        """Scan one source to its end. Raises what the scan and the repository raise; a file that cannot be read is a problem, no error."""
        self.ledger.turn = min(len(self.tally.scanned) + 1, _LAST_TURN)
        scan = source.scan(partial(self._known_id, source.name))
        later: list[AudioFile] = []
        for file, read in self._read_all(source, self._unread(source, scan, later)):
            if isinstance(read, ReadFile):
                self._enter_read(source, file, read)
            elif read.changing and source.plain:
                later.append(file)
            else:
                self._unreadable(source, file, read.reason)
        for file in later:
            self._read_when_quiet(source, file)
        summary = scan.summary
        self.tally.scanned[source.name] = summary
        self.tally.chats[source.name] = summary.chats
        self.tally.problems += by_name(summary.problems, source.root)
        self._progress.tell(
            f"{source.name}: {summary.files:,} files as {source.type}, names and times from {summary.database or 'file names'}"
        )
        for warning in summary.warnings:
            self._progress.warn(f"{source.name}: {warning}")

    def _read_all(self, source: Source, files: Iterator[AudioFile]) -> Iterator[tuple[AudioFile, ReadFile | FailedFile]]:
        """Read and store files: a few of them here, many by two workers, since one interpreter cannot use two processors."""
        if not source.plain or self._workers is None:  # a worker opens files by itself, and the archive's folder
            yield from ((file, self._read(source, file)) for file in files)
            return
        first: list[AudioFile] = []
        size = 0
        for file in files:
            first.append(file)
            size += file.size
            if len(first) >= MANY_FILES or size >= MANY_BYTES:
                break
        else:
            for file in first:
                yield file, self._read(source, file)
            return
        with self._workers() as workers:
            for file in chain(first, files):
                yield from workers.put(source.root, file)
            yield from workers.drain(source.root)
            workers.finish()

    def _known_id(self, source: str, file: AudioFile) -> str | None:
        known = self.ledger.known_file(source, file.path, file.original_path, file.size, file.mtime_ns)
        return known.id if known else None

    def _unread(self, source: Source, scan: Scan, later: list[AudioFile]) -> Iterator[AudioFile]:
        """The files that have to be read now. Known ones are entered on the way, those written to a moment ago go to `later`."""
        for file in scan:
            self._progress.step()
            if self._settled(source, file):
                continue
            known = self.ledger.known_file(source.name, file.path, file.original_path, file.size, file.mtime_ns)
            if known is not None:
                self._enter_known(source, file, known)
            elif source.plain and 0 <= time.time() - file.mtime_ns / 1e9 < _QUIET_SECONDS:
                later.append(file)
            else:
                yield file

    def _settled(self, source: Source, file: AudioFile) -> bool:
        """True where every note of the file is on record just so; then there is nothing to do but to remember that it was seen."""
        numbers = []
        for note in file.notes:
            note.size = file.size
            number = self.ledger.at_rest(source.name, file.path, note)
            if number is None:
                return False
            numbers.append(number)
        for number in numbers:
            self.ledger.seen[number] = self.ledger.turn
            if number in self.ledger.several_places:
                self._places.setdefault(number, set()).add((source.name, file.path))
            elif number < self._first_new:
                self._at_its_place[number] = 1
        return True

    def _enter_known(self, source: Source, file: AudioFile, known: Note) -> None:
        for note in file.notes:
            told = msgspec.structs.replace(note, id=known.id, blobs=known.blobs, media_type=known.media_type, duration=known.duration)
            told.damaged = known.damaged or _differs(file, known.id)
            self._enter(source, file, told)

    def _enter(self, source: Source, file: AudioFile, note: Note) -> None:
        note.size, note.found, note.first_seen = file.size, [Place(source.name, file.path)], self._now
        for number in enter(self.ledger, safe_name(source.name), note, alone=len(file.notes) == 1):
            self.ledger.seen[number] = self.ledger.turn
            if number < self._first_new:
                self._places.setdefault(number, set()).add((source.name, file.path))

    def _read(self, source: Source, file: AudioFile) -> ReadFile | FailedFile:
        return store_file(source.read, file, self._writer, self._deleted)

    def _enter_read(self, source: Source, file: AudioFile, read: ReadFile) -> None:
        self.tally.bytes_read += read.size
        if read.id in self._deleted:
            self.tally.deleted += 1
            return
        file.size = read.size
        for note in file.notes:
            note.id, note.blobs = read.id, read.blobs
            note.media_type = read.media_type or note.media_type
            note.duration = read.duration if read.duration is not None else note.duration
            note.damaged = read.damaged or _differs(file, read.id)
            self._enter(source, file, note)

    def _unreadable(self, source: Source, file: AudioFile, reason: str) -> None:
        self.tally.problems.append(Problem(file.path, reason))
        self.tally.unreadable.setdefault(source.name, set()).add(file.path)

    def _read_when_quiet(self, source: Source, file: AudioFile) -> None:
        """A file that was written to a moment ago is read once it has been quiet; after three tries it is left for the next run."""
        for _ in range(_TRIES):
            try:
                quiet = self._wait_until_quiet(file)
            except OSError as gone:
                return self._unreadable(source, file, gone.strerror or "gone")
            read = self._read(source, file) if quiet else None
            if isinstance(read, ReadFile):
                return self._enter_read(source, file, read)
            if read is not None and not read.changing:
                return self._unreadable(source, file, read.reason)
        self._unreadable(source, file, "still being written to: the next run will take it")

    def _wait_until_quiet(self, file: AudioFile) -> bool:
        """True when nobody has written to the file for two seconds. Raises OSError when it is gone."""
        for _ in range(_TRIES):
            now = os.lstat(file.location)
            changed = (now.st_size, now.st_mtime_ns) != (file.size, file.mtime_ns)
            file.size, file.mtime_ns = now.st_size, now.st_mtime_ns
            for note in file.notes:
                note.mtime_ns = now.st_mtime_ns
            age = time.time() - now.st_mtime
            # A time ahead of this clock says nothing: such a file is quiet when it did not change while we waited.
            if age >= _QUIET_SECONDS or (age < 0 and not changed):
                return True
            time.sleep(_QUIET_SECONDS - max(age, 0.0))
        return False

    def settle(self) -> None:
        """Once all sources were taken: records that were seen say where, and are not missing."""
        seen: dict[int, set[tuple[str, str]]] = {}
        brought = {n: {(place.source, place.path) for place in found} for n, found in self.ledger.brought.items() if n >= self._first_new}
        for number, places in (self._places | brought).items():
            heir = self.ledger.heir(number)
            if heir < self._first_new:
                seen.setdefault(heir, set()).update(places)
        whole = {self.ledger.heir(number) for number, there in enumerate(self._at_its_place) if there}
        for number, places in seen.items():
            note = self.ledger.note(number)
            if number in whole:
                places.update((place.source, place.path) for place in note.found)
            now_from = {source for source, _ in places} | self._retired
            note.found = [place for place in note.found if place.source not in now_from or (place.source, place.path) in places]
            note.missing_since = None
            self.ledger.put(number, note)

    def mark_missing(self) -> int:
        """Mark the records that every source that had them misses now; the number of newly marked ones. Call after `settle`.

        Only sources scanned to their end may say so; nothing below a folder, and no file, that could not be read counts as gone.
        """
        gone, present = [], 0
        for number in self.ledger:
            if self.ledger.seen[number]:
                present += 1
                continue
            note = self.ledger.note(number)
            if note.missing_since is None and note.found and all(map(self._misses, note.found)):
                gone.append(number)
        for number in gone:
            self.ledger.put(number, msgspec.structs.replace(self.ledger.note(number), missing_since=self._now))
        if len(gone) + present >= LOUD_FROM and len(gone) > present:
            self._progress.warn(
                f"{len(gone)} of {len(gone) + present} notes are gone from their sources since the last run: they stay in the archive, "
                "but look whether the phone still copies to here"
            )
        return len(gone)

    def _misses(self, place: Place) -> bool:
        summary = self.tally.scanned.get(place.source)
        if summary is None or not summary.complete or place.path in self.tally.unreadable.get(place.source, ()):
            return False
        return not any(place.path == folder or place.path.startswith(folder + "/") for folder in summary.unreadable_folders)


def _differs(file: AudioFile, note_id: str | None) -> Damage | None:
    return "hash-differs" if file.recorded_id and note_id and file.recorded_id != note_id else None
