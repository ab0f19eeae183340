"""Give notes back into a directory, one file each: by chat, or in the phone's own folders."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from backup_tool.actions.archive import Archive, read_note, stored_size
from backup_tool.actions.converting import copy_order, give_copy, mark_of
from backup_tool.actions.find import Wanted
from backup_tool.actions.layout import OriginalLayout
from backup_tool.actions.restored import Restored
from backup_tool.actions.worker import DamagedFile, FileToWrite, GiveBack, Order, RefusedFile, Reply, WrittenFile, write_files
from backup_tool.actions.workers import COUNT, MANY_BYTES, MANY_COPIES, MANY_FILES, Workers
from backup_tool.audio.convert import Format, known_format
from backup_tool.catalog import Entry, time_ns
from backup_tool.destinations.places import folder_of
from backup_tool.errors import IntegrityError, UsageError
from backup_tool.exporters.folder import Refused, TargetFolder, Written
from backup_tool.exporters.naming import RestoredNames
from backup_tool.models import Problem, Progress
from backup_tool.names import shown
from backup_tool.repository import ReadRequest
from backup_tool.repository.reading import split

_COPIES_AT_ONCE = 16
"""So many notes a worker is given at a time to convert: neither waits for the other at the end."""


def restore(
    archive: Archive, wanted: Wanted, to: Path, progress: Progress, *, layout: str, format: str, overwrite: bool, dry_run: bool
) -> Restored:
    """Write every note that was asked for below `to`.

    Raises UsageError, NoSpace, and what reading the repository raises; a note that is damaged or cannot have its name is in `errors`.
    """
    wanted_format = known_format(format)
    if layout not in ("chat", "original"):
        raise UsageError(f'"{shown(layout)}" is not a layout', "layouts are chat and original")
    if layout == "original" and wanted_format is not None:
        raise UsageError("the phone's own layout has the phone's own files", "leave out --format, or --layout original")
    suffix = None if wanted_format is None else f".{wanted_format}"
    chosen, names = _choose(archive, wanted, OriginalLayout if layout == "original" else partial(RestoredNames, suffix=suffix))
    done = Restored()
    for problem in archive.problems:
        done.left_out(problem, 3)
    if archive.lost:
        done.codes.add(IntegrityError.exit_code)
    if isinstance(names, OriginalLayout):
        if seconds := sum(map(names.is_second, chosen)):
            progress.warn(
                f"{_notes(seconds)} had a file name on the phone that another one has now: digits of the id were put into the name"
            )
        done.renamed = sum(map(names.is_renamed, chosen))
        if done.renamed:
            progress.warn(f"{_notes(done.renamed)} had a file name that disks or phones cannot hold: other signs stand in it now, mostly _")
    jobs = [_Job(item, names.of(item)) for item in chosen]
    if dry_run:
        for job in jobs:
            done.took(job.item, Written(str(to.joinpath(*job.parts)), "written"), job.name)
        done.files.sort(key=lambda file: file.path)
        return done
    existed = os.path.exists(to)
    with TargetFolder(to) as target:
        _Restorer(archive, target, done, progress, overwrite, wanted_format).write(jobs, there_before=existed)
    done.files.sort(key=lambda file: file.path)
    return done


def _notes(count: int) -> str:
    return "1 note" if count == 1 else f"{count:,} notes"


_Names = RestoredNames | OriginalLayout


def _choose(archive: Archive, wanted: Wanted, naming: Callable[[Iterable[Entry]], _Names]) -> tuple[list[Entry], _Names]:
    """The notes asked for, and the names of all: two notes of one name are told apart whatever part of them is restored."""
    chosen: list[Entry] = []
    chosen_by = wanted.filter(archive)

    def all_notes() -> Iterator[Entry]:
        for item in archive.entries():
            if chosen_by.lets_through(item, item.source):
                chosen.append(item)
            yield item

    names = naming(all_notes())
    return chosen, names


@dataclass(slots=True)
class _Job:
    item: Entry
    parts: Sequence[str]

    @property
    def name(self) -> str:
        """Its path below the target, for messages."""
        return "/".join(self.parts)


class _Restorer:
    def __init__(
        self, archive: Archive, target: TargetFolder, done: Restored, progress: Progress, overwrite: bool, format: Format | None
    ) -> None:
        self._archive = archive
        self._target = target
        self._done = done
        self._progress = progress
        self._overwrite = overwrite
        self._format = format

    def write(self, jobs: list[_Job], *, there_before: bool) -> None:
        waiting = [job for job in jobs if not (there_before and self._is_there(job)) and self._is_stored(job)]
        if self._format is None:
            self._target.require(sum(job.item.size or 0 for job in waiting))
        by_blob: dict[str, list[_Job]] = defaultdict(list)
        long: list[_Job] = []
        for job in waiting:
            if job.item.blobs and len(job.item.blobs) == 1:
                by_blob[job.item.blobs[0]].append(job)
            else:
                long.append(job)
        self._progress.begin("restoring", len(waiting))
        try:
            self._write_short(by_blob)
            for job in long:
                self._write_one(job, read_note(self._archive.repository, job.item))
        finally:
            self._progress.end()
            self._target.finish({tuple(job.parts[:-1]) for job in waiting})

    def _is_there(self, job: _Job) -> bool:
        try:
            if self._format is None:
                there = self._target.holds(job.parts, job.item.size or 0, job.item.id or "")
            else:
                # Whatever libraries made it: a copy made by others has other bytes. To have it made anew is what --overwrite is for.
                there = None if self._overwrite or not job.item.id else self._target.holds_copy(job.parts, mark_of(job.item))
        except Refused:
            return False
        if there is None or (self._overwrite and Path(there.path).name != job.parts[-1]):
            return False  # a copy beside a file that is to be replaced does not do
        self._done.took(job.item, there, job.name)
        return True

    def _write_short(self, by_blob: dict[str, list[_Job]]) -> None:
        """Notes of one blob: read pack by pack in large ranges; by two workers, where they are many."""
        repository = self._archive.repository
        requests = repository.plan_reads("data", by_blob)
        folder = folder_of(repository.destination)
        many = MANY_FILES if self._format is None else MANY_COPIES
        if folder is None or (len(by_blob) < many and sum(request.length for request in requests) < MANY_BYTES):
            for request in requests:
                jobs, files = self._in(request, by_blob)
                self._took(jobs, write_files(repository.stream(request), self._target, files, self._overwrite))
            return
        if self._format is not None:
            requests = [part for request in requests for part in split(request, _COPIES_AT_ONCE)]
        order = Order(str(folder), repository.packing_order(known=False), target=str(self._target.path), overwrite=self._overwrite)
        waiting: deque[tuple[list[_Job], int, int, Future[Reply]]] = deque()
        with Workers(order) as workers:
            asked = [0] * COUNT
            for request in requests:
                jobs, files = self._in(request, by_blob)
                number = asked.index(min(asked))
                asked[number] += request.length
                waiting.append((jobs, number, request.length, workers.ask(number, GiveBack(request, files))))
                while len(waiting) > 2 * COUNT or waiting[0][3].done():
                    jobs, number, length, reply = waiting.popleft()
                    self._take(jobs, reply)
                    asked[number] -= length
                    if not waiting:
                        break
            for jobs, _, _, reply in waiting:
                self._take(jobs, reply)

    def _take(self, jobs: list[_Job], reply: Future[Reply]) -> None:
        self._took(jobs, cast(list[WrittenFile | RefusedFile | DamagedFile], reply.result().files))

    def _took(self, jobs: list[_Job], files: list[WrittenFile | RefusedFile | DamagedFile]) -> None:
        for job, file in zip(jobs, files, strict=True):
            match file:
                case WrittenFile():
                    self._done.took(job.item, Written(file.path, file.status), job.name, file.reason)
                    self._progress.step()
                case RefusedFile():
                    self._done.left_out(Problem(file.path, file.reason), Refused.exit_code)
                    self._progress.step()
                case DamagedFile():
                    # Something in its range is damaged: read alone, from any copy, only damaged notes are missing in the end.
                    self._write_one(job, read_note(self._archive.repository, job.item))

    def _is_stored(self, job: _Job) -> bool:
        """Whether the index has all of a note's audio, in the size that its record promises: else it is named, and no room asked for."""
        try:
            if stored_size(self._archive.repository, job.item.blobs or ()) != (job.item.size or 0):
                raise IntegrityError("its size is not that of its audio")
        except IntegrityError as damaged:
            self._fail(job, damaged)
            return False
        return True

    def _write_one(self, job: _Job, chunks: Iterable[bytes]) -> None:
        item, mtime, order, reason = job.item, _mtime(job.item), copy_order(job.item, self._format, job.parts[-1]), None
        size, target, overwrite = item.size or 0, self._target, self._overwrite
        try:
            if order is None:
                written = target.write(job.parts, chunks, size=size, sha256=item.id, mtime_ns=mtime, overwrite=overwrite)
            else:
                written, reason = give_copy(
                    target, job.parts, chunks, order, size=size, sha256=item.id, mtime_ns=mtime, overwrite=overwrite
                )
        except Refused as refused:
            self._done.left_out(refused.problem, refused.exit_code)
        except IntegrityError as damaged:
            self._fail(job, damaged)
        else:
            self._done.took(item, written, job.name, reason)
        self._progress.step()

    def _in(self, request: ReadRequest, by_blob: dict[str, list[_Job]]) -> tuple[list[_Job], list[FileToWrite]]:
        """The notes whose audio a request brings, and what is to be written of each."""
        jobs = [job for blob, _ in request.blobs for job in by_blob[blob]]
        return jobs, [
            FileToWrite(
                list(job.parts),
                job.item.size or 0,
                job.item.id,
                _mtime(job.item),
                (job.item.blobs or [""])[0],
                copy_order(job.item, self._format, job.parts[-1]),
            )
            for job in jobs
        ]

    def _fail(self, job: _Job, damaged: IntegrityError) -> None:
        self._done.left_out(Problem(job.name, damaged.message), damaged.exit_code)


def _mtime(item: Entry) -> int | None:
    return time_ns(item.sent_at) if item.sent_at else item.mtime_ns
