"""A worker: a second process of ours that reads, checks and seals notes, or opens and writes them, a batch at a time.

    python -m backup_tool.actions.worker

One interpreter cannot use two processors; for a large run two of these work beside the one that keeps the records. They speak over a pipe:
first the order (with the key of the repository), then batches; each is answered. The end of the pipe is the end of the worker.
"""

from __future__ import annotations

import hashlib
import signal
import struct
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal, TypedDict

import msgspec

from backup_tool.actions.converting import CopyOrder, give_copy
from backup_tool.audio import Inspector, inspect
from backup_tool.config import DestinationSpec
from backup_tool.destinations import open_destination
from backup_tool.errors import BackupError, IntegrityError
from backup_tool.exporters.folder import Refused, TargetFolder
from backup_tool.models import Damage
from backup_tool.repository.packing import ElsewhereIndex, MadePack, PackingOrder, packing_reader, packing_writer
from backup_tool.repository.reading import Reader, ReadRequest
from backup_tool.repository.writer import Writer
from backup_tool.sources.base import AudioFile, FileChanging, FileUnreadable
from backup_tool.sources.tree import Tree

PIECE = 4 * 2**20
"""A note up to this size is one blob; a larger one is cut into pieces of it (design: the repository)."""

ReadSource = Callable[[AudioFile, int], Iterator[bytes]]
"""How the bytes of a file come: `Source.read`."""

_LENGTH = struct.Struct("<I")


class Order(msgspec.Struct, array_like=True):
    """The first message: where the repository is, with what it opens, which notes a person deleted; where files are to be given back."""

    place: str
    packing: PackingOrder
    deleted: set[str] = set()
    target: str | None = None
    overwrite: bool = False


class FileOrder(msgspec.Struct, array_like=True):
    """A file of a store: where it is, its size and time when it was listed, its path in the store."""

    location: bytes
    size: int
    mtime_ns: int
    original_path: str


class Batch(msgspec.Struct, array_like=True, tag="batch"):
    """Read these files of the tree at `root`, and store them."""

    root: bytes
    files: list[FileOrder]


class Finish(msgspec.Struct, array_like=True, tag="finish"):
    """Make everything durable: nothing more will come."""


class FileToWrite(msgspec.Struct, array_like=True):
    """A file to give back: where below the target, its size, SHA-256 and time, and the one blob that it is; what copy of it is wanted."""

    parts: list[str]
    size: int
    id: str | None
    mtime_ns: int | None
    blob: str
    copy: CopyOrder | None = None


class GiveBack(msgspec.Struct, array_like=True, tag="give"):
    """Read this range of a pack, and write the files that are in it."""

    request: ReadRequest
    files: list[FileToWrite]


class WrittenFile(msgspec.Struct, array_like=True, tag="written"):
    """A file that is there now; `status` as `exporters.folder.Written` says, `reason` as `actions.converting.Given` does."""

    path: str
    status: Literal["written", "same", "renamed"]
    reason: str | None = None


class RefusedFile(msgspec.Struct, array_like=True, tag="refused"):
    """A file that could not have its name."""

    path: str
    reason: str


class DamagedFile(msgspec.Struct, array_like=True, tag="damaged"):
    """A file whose blob did not open: to be looked for in other copies."""


Message = Batch | Finish | GiveBack


class ReadFile(msgspec.Struct, array_like=True, tag="read"):
    """A file that was read: its id and blobs in hex, and its facts. No blobs where a person deleted the note."""

    id: str
    blobs: list[str]
    size: int
    media_type: str | None
    duration: float | None
    damaged: Damage | None


class FailedFile(msgspec.Struct, array_like=True, tag="failed"):
    """A file that could not be read. `changing`: it was written to meanwhile."""

    reason: str
    changing: bool


class Reply(msgspec.Struct, array_like=True):
    """What became of a batch, in its order; and the packs that became durable since the last reply. `error` is type, message, hint."""

    files: list[ReadFile | FailedFile | WrittenFile | RefusedFile | DamagedFile]
    packs: list[MadePack]
    error: tuple[str, str, str] | None = None


def store_file(read: ReadSource, file: AudioFile, writer: Writer, deleted: set[str]) -> ReadFile | FailedFile:
    """Read a file, hash it, look for damage, store it. Only what goes wrong with the file is caught: the repository's errors are raised."""
    try:
        if file.size <= PIECE:
            return _store_short(read, file, writer, deleted)
        return _store_long(read, file, writer, deleted)
    except FileUnreadable as reason:
        return FailedFile(str(reason), isinstance(reason, FileChanging))


def _store_short(read: ReadSource, file: AudioFile, writer: Writer, deleted: set[str]) -> ReadFile:
    data = b"".join(read(file, PIECE))
    note_id = hashlib.sha256(data).hexdigest()
    facts = inspect(data, file.original_path)
    blobs = [writer.add("audio", data, note_id)[0]] if data and note_id not in deleted else []
    return ReadFile(note_id, blobs, len(data), facts.media_type, facts.duration, facts.damaged)


def _store_long(read: ReadSource, file: AudioFile, writer: Writer, deleted: set[str]) -> ReadFile:
    whole, inspector, blobs, size = hashlib.sha256(), Inspector(file.original_path), list[str](), 0
    if deleted:
        for piece in read(file, PIECE):
            whole.update(piece)
        if whole.hexdigest() in deleted:
            return ReadFile(whole.hexdigest(), [], file.size, None, None, None)
        whole = hashlib.sha256()
    for piece in read(file, PIECE):
        whole.update(piece)
        inspector.feed(piece)
        size += len(piece)
        blobs.append(writer.add("audio", piece)[0])
    facts = inspector.facts()
    return ReadFile(whole.hexdigest(), blobs, size, facts.media_type, facts.duration, facts.damaged)


def write_files(
    blobs: Iterable[tuple[str, bytes]], target: TargetFolder, files: list[FileToWrite], overwrite: bool
) -> list[WrittenFile | RefusedFile | DamagedFile]:
    """Write the files whose blobs come, in any order. Raises what goes wrong with the target as a whole."""
    waiting: dict[str, list[int]] = defaultdict(list)
    for number, file in enumerate(files):
        waiting[file.blob].append(number)
    done: list[WrittenFile | RefusedFile | DamagedFile] = [DamagedFile()] * len(files)
    try:
        for blob, data in blobs:
            for number in waiting.pop(blob, ()):
                done[number] = _write_file(files[number], data, target, overwrite)
    except IntegrityError:
        pass  # the files that are left stay DamagedFile
    return done


def _write_file(file: FileToWrite, data: bytes, target: TargetFolder, overwrite: bool) -> WrittenFile | RefusedFile:
    known: _Known = {"size": file.size, "sha256": file.id, "mtime_ns": file.mtime_ns, "overwrite": overwrite}
    reason = None
    try:
        if file.copy is not None:
            written, reason = give_copy(target, file.parts, (data,), file.copy, **known)
        else:
            # A blob is never handed out before it was hashed.
            written = target.write(file.parts, (data,), **known, verified=file.id == file.blob, look_first=False)
    except Refused as refused:
        return RefusedFile(refused.problem.path, refused.problem.reason)
    return WrittenFile(written.path, written.status, reason)


class _Known(TypedDict):
    size: int
    sha256: str | None
    mtime_ns: int | None
    overwrite: bool


class _Worker:
    def __init__(self, order: Order, stack: ExitStack) -> None:
        self._order = order
        self._stack = stack
        self._destination = open_destination(DestinationSpec(name=order.place, path=Path(order.place)))
        stack.callback(self._destination.close)
        self._tree = Tree(b"/")

    @cached_property
    def _writing(self) -> tuple[Writer, ElsewhereIndex]:
        writer, index = packing_writer(self._destination, self._order.packing)
        return self._stack.enter_context(writer), index

    @cached_property
    def _giving(self) -> tuple[Reader, TargetFolder]:
        assert self._order.target is not None
        target = self._stack.enter_context(TargetFolder(Path(self._order.target)))
        return packing_reader(self._destination, self._order.packing), target

    def answer(self, message: Message) -> Reply:
        match message:
            case GiveBack():
                reader, target = self._giving
                return Reply(list(write_files(reader.read(message.request), target, message.files, self._order.overwrite)), [])
            case Finish():
                writer, index = self._writing
                writer.finish()
                return Reply([], index.take_made())
            case Batch():
                return self._store(message)

    def _store(self, batch: Batch) -> Reply:
        writer, index = self._writing
        if batch.root != self._tree.root:
            self._tree = Tree(batch.root)
        files = [AudioFile("", one.original_path, one.location, one.size, one.mtime_ns, []) for one in batch.files]
        return Reply([store_file(self._tree.read, file, writer, self._order.deleted) for file in files], index.take_made())


def send(pipe: BinaryIO, message: bytes) -> None:
    """Write one message."""
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def receive(pipe: BinaryIO) -> bytes | None:
    """Read one message; None where the other side has gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    message = pipe.read(length)
    return message if len(message) == length else None


class _Gone(Exception):
    """The process that gave the order has ended."""


def work(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Answer batches until the pipe ends; what is not complete then is dropped."""
    encode = msgspec.msgpack.Encoder().encode
    decode: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode
    first = receive(incoming)
    if first is None:
        return
    try:
        with ExitStack() as stack:
            worker = _Worker(msgspec.msgpack.decode(first, type=Order), stack)
            while (message := receive(incoming)) is not None:
                send(outgoing, encode(worker.answer(decode(message))))
            raise _Gone
    except _Gone:
        return
    except BackupError as error:
        send(outgoing, encode(Reply([], [], (type(error).__name__, error.message, error.hint))))


def main() -> None:
    """Be a worker. Signals that are meant for the run are for the process that keeps the records."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        work(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        sys.stdout = None  # whoever would have read it has gone


if __name__ == "__main__":
    main()
