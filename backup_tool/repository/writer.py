"""Writing: blobs into packs, packs to the destination, then the index that names them. In this order, so that a kill at any moment
leaves at most packs that nothing names yet (restic's design document, section "Read and Write Ordering").
"""

from __future__ import annotations

import hashlib
import hmac
import queue
import threading
import time
from binascii import unhexlify
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, TypeVar

from backup_tool.destinations.base import Destination, Draft, StoredByOthers
from backup_tool.errors import BackupError, IntegrityError, ObjectMissing, Unreachable
from backup_tool.repository.crypto import OVERHEAD, BrokenSeal, Key
from backup_tool.repository.index import FULL_INDEX, BlobKind, Entry, Place
from backup_tool.repository.packs import MOST_BLOBS, encode_header, pack_size
from backup_tool.repository.reading import MAX_BLOB, blob_id
from backup_tool.repository.sealed import Unreadable, compress, inflate

T = TypeVar("T")
Content = Literal["audio", "catalog", "tree"]

PACK_SIZE = 32 * 2**20
LARGEST_PACK = 128 * 2**20
# A run that is killed loses at most what came after the last index file, and that only until the next run reads the packs' headers.
INDEX_EVERY = 600.0
# How many pieces may wait for the packing thread, and finished packs (on disk, not in memory) for the destination, while sealing goes on.
_WAITING = 4
_PIECE = 2**20
# On the way out after an error or a signal: how long to wait for a pack that is being stored.
_PATIENCE = 3.0

_BLOB_KIND: dict[Content, BlobKind] = {"audio": "data", "catalog": "data", "tree": "tree"}


@dataclass(slots=True)
class WriterStats:
    """What the destination has confirmed (`objects`, `bytes`), and what was added (the rest; bytes before and after sealing)."""

    objects: int = 0
    bytes: int = 0
    blobs_added: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    raw_bytes: int = 0
    packed_bytes: int = 0


class _Pack:
    """A pack that grows: sealed blobs gather in `buffer`, and go to the packing thread a mebibyte at a time."""

    def __init__(self, manager: AbstractContextManager[Draft]) -> None:
        self.manager = manager
        self.draft = manager.__enter__()
        self.entries: list[Entry] = []
        self.buffer = bytearray()
        self.size = 0
        self._hash = hashlib.sha256()
        self._abandoned = False

    def append(self, kind: BlobKind, id: bytes, seal: tuple[bytes, bytes, bytes], raw_length: int) -> None:
        for part in seal:
            self.buffer += part
        length = len(seal[1]) + OVERHEAD
        self.entries.append(Entry(kind, id, self.size, length, raw_length))
        self.size += length

    def end(self, key: Key) -> None:
        header = encode_header(key, self.entries)
        self.buffer += header
        self.size += len(header)

    def take_buffer(self) -> bytearray:
        taken, self.buffer = self.buffer, bytearray()
        return taken

    def write(self, data: bytearray) -> None:
        self._hash.update(data)
        self.draft.write(memoryview(data))

    def name(self) -> str:
        return self._hash.hexdigest()

    def abandon(self) -> None:
        if not self._abandoned:
            self._abandoned = True
            with suppress(Exception):  # only a temporary is lost, and there is an error to be told already
                self.manager.__exit__(BackupError, BackupError("abandoned"), None)


class Known(Protocol):
    """Which blobs are stored."""

    def has(self, kind: BlobKind, id: bytes) -> bool: ...

    def first(self, kind: BlobKind, id: bytes) -> Place | None: ...


class PackIndex(Protocol):
    """Where finished packs are told, as `IndexFiles` takes them."""

    @property
    def index(self) -> Known: ...

    def confirm(self, pack: bytes, entries: Sequence[Entry]) -> int: ...

    def write(self, *, last: bool = False) -> list[int]: ...


class _Piece(NamedTuple):
    """Bytes to append to a pack; with `last` the pack is complete."""

    pack: _Pack
    data: bytearray
    last: bool


class _Slot:
    """The open pack of one content, and the lock under which it grows."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pack: _Pack | None = None


class Writer:
    """Adds blobs to a repository. `add` may be called from several threads; everything else from one.

    Use it in a ``with`` block: its end is `finish`. If the block ends by an exception, open packs are dropped, and those that the
    destination has already are put into an index, so that the next run need not send them again.
    """

    def __init__(
        self,
        destination: Destination,
        key: Key,
        files: PackIndex,
        may_write: Callable[[], None],
        *,
        pack_size: int = PACK_SIZE,
        verify_writes: bool = False,
    ) -> None:
        """`may_write` raises where the lock was lost. `verify_writes` opens each sealed blob again before it is stored."""
        self.stats = WriterStats()
        self._destination = destination
        self._key = key
        self._files = files
        self._may_write = may_write
        self._pack_size = min(pack_size, LARGEST_PACK)
        self._verify = verify_writes
        self._slots: dict[Content, _Slot] = {"audio": _Slot(), "catalog": _Slot(), "tree": _Slot()}
        # Blobs of packs that the destination has not confirmed, with their own lengths.
        self._pending: dict[BlobKind, dict[bytes, int]] = {"data": {}, "tree": {}}
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._finished = False
        self._indexed_at = time.monotonic()
        self._pieces: queue.Queue[_Piece | None] = queue.Queue(_WAITING)
        self._complete: queue.Queue[_Pack | None] = queue.Queue(_WAITING)
        self._threads = [
            threading.Thread(target=self._pack_pieces, name="packing", daemon=True),
            threading.Thread(target=self._commit_packs, name="committing", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # Adding

    def add(self, kind: Content, payload: bytes, id: str | None = None, *, again: bool = False) -> tuple[str, bool]:
        """Store a blob unless it is known: (its id, True where it was new). A given `id` is believed: SHA-256 of the payload, in hex.

        With `again` one that is stored elsewhere is stored once more, to lie with what this writer adds.

        Raises what went wrong with an earlier pack, and ValueError for an empty blob (restic writes none) or one above 64 MiB.
        """
        if self._failure is not None:
            raise self._failure
        if self._finished:
            raise AssertionError("this writer has finished: what is added now would be stored nowhere")
        raw_id = hashlib.sha256(payload).digest() if id is None else unhexlify(id)
        blob_kind = _BLOB_KIND[kind]
        if not 0 < len(payload) <= MAX_BLOB[blob_kind]:
            raise ValueError(f"a blob has 1 to {MAX_BLOB[blob_kind]:,} bytes")
        pending = self._pending[blob_kind]
        with self._lock:
            if raw_id in pending or (not again and self._files.index.has(blob_kind, raw_id)):
                return id or raw_id.hex(), False
            pending[raw_id] = len(payload)
        try:
            self._store(kind, blob_kind, raw_id, payload)
        except BaseException as error:
            # The blob counts as pending and is in no pack: nothing more may be built on this writer.
            self._failure = self._failure or error
            raise
        return id or raw_id.hex(), True

    def _store(self, kind: Content, blob_kind: BlobKind, id: bytes, payload: bytes) -> None:
        # Audio is compressed already.
        raw_length, content = (0, payload) if kind == "audio" else (len(payload), compress(payload))
        seal = self._key.seal(content)
        if self._verify:
            self._open_again(id, b"".join(seal), raw_length)
        slot = self._slots[kind]
        with slot.lock:
            pack = slot.pack or self._open_pack(slot)
            pack.append(blob_kind, id, seal, raw_length)
            if pack.size >= self._pack_size or len(pack.entries) >= MOST_BLOBS:
                self._close_pack(slot, pack)
            elif len(pack.buffer) >= _PIECE:
                self._hand_over(_Piece(pack, pack.take_buffer(), False))
        self._count(blob_kind, len(payload), len(content) + OVERHEAD)

    def _open_again(self, id: bytes, stored: bytes, raw_length: int) -> None:
        try:
            plain = self._key.open(stored)
            plain = inflate(plain, raw_length) if raw_length else plain
        except (BrokenSeal, Unreadable):
            plain = b""
        if not hmac.compare_digest(hashlib.sha256(plain).digest(), id):
            raise IntegrityError("a blob did not open as it was sealed: this machine's memory may be failing", "test it, then run again")

    def _count(self, kind: BlobKind, raw: int, packed: int) -> None:
        with self._lock:
            stats = self.stats
            stats.blobs_added += 1
            stats.raw_bytes += raw
            stats.packed_bytes += packed
            if kind == "data":
                stats.data_blobs += 1
            else:
                stats.tree_blobs += 1

    def has(self, kind: BlobKind, id: str) -> bool:
        """True where the blob is stored, or on its way."""
        raw_id = blob_id(id)
        return raw_id in self._pending[kind] or self._files.index.has(kind, raw_id)

    def blob_length(self, kind: BlobKind, id: str) -> int:
        """The length in bytes of a blob that is stored or on its way. Raises ObjectMissing."""
        raw_id = blob_id(id)
        length = self._pending[kind].get(raw_id)
        if length is not None:
            return length
        place = self._files.index.first(kind, raw_id)
        if place is None:
            raise ObjectMissing(f"no blob {id[:16]}")
        return place.plain_length

    # Packs

    def _open_pack(self, slot: _Slot) -> _Pack:
        self._may_write()
        slot.pack = _Pack(self._destination.draft("data"))
        return slot.pack

    def _close_pack(self, slot: _Slot, pack: _Pack) -> None:
        pack.end(self._key)
        slot.pack = None
        self._hand_over(_Piece(pack, pack.take_buffer(), True))

    def _hand_over(self, piece: _Piece) -> None:
        # Called under the slot's lock, so that the pieces of a pack arrive in order; and never waits for a thread that has given up.
        while True:
            with suppress(queue.Full):
                return self._pieces.put(piece, timeout=1)
            self._raise_failure()

    def _pack_pieces(self) -> None:
        """The packing thread: hashes and writes, in large pieces, so that it hardly ever wants the interpreter while others seal."""
        while (piece := self._pieces.get()) is not None:
            self._guarded(piece.pack, self._write_piece, piece)
        self._complete.put(None)

    def _write_piece(self, piece: _Piece) -> None:
        piece.pack.write(piece.data)
        if piece.last:
            self._complete.put(piece.pack)

    def _commit_packs(self) -> None:
        """The committing thread: makes finished packs durable one by one, and writes an index file now and then."""
        while (pack := self._complete.get()) is not None:
            self._guarded(pack, self._commit, pack)

    def _guarded(self, pack: _Pack, work: Callable[[T], None], what: T) -> None:
        """Do it, unless something failed already. A failure is kept for whoever adds or finishes, and the pack is dropped."""
        try:
            if self._failure is None:
                return work(what)
        except BaseException as error:
            self._failure = self._failure or error
        pack.abandon()

    def _commit(self, pack: _Pack) -> None:
        self._may_write()
        name = pack.name()
        pack.draft.commit(name)
        pack.manager.__exit__(None, None, None)
        self._confirm(unhexlify(name), pack.entries, pack.size)

    def take_over(self, pack: bytes, entries: Sequence[Entry]) -> None:
        """A pack that another process of ours made is durable: it will stand in the index like one made here."""
        self._may_write()
        size = pack_size(entries)
        if isinstance(self._destination, StoredByOthers):
            self._destination.adopt("data", pack.hex(), size)
        self._confirm(pack, entries, size)

    def _confirm(self, pack: bytes, entries: Sequence[Entry], size: int) -> None:
        waiting = self._files.confirm(pack, entries)
        with self._lock:
            self.stats.objects += 1
            self.stats.bytes += size
            for entry in entries:
                self._pending[entry.kind].pop(entry.id, None)
        if waiting >= FULL_INDEX or time.monotonic() - self._indexed_at >= INDEX_EVERY:
            self._write_index()

    def _write_index(self, *, last: bool = False) -> None:
        self._may_write()
        sizes = self._files.write(last=last)
        with self._lock:
            self.stats.objects += len(sizes)
            self.stats.bytes += sum(sizes)
        self._indexed_at = time.monotonic()

    # The end

    def finish(self) -> None:
        """Wait until every pack is durable, then until the index that names them is. After it, a snapshot may name what was added."""
        if self._finished:
            return
        self._raise_failure()
        for slot in self._slots.values():
            with slot.lock:
                if slot.pack is not None:
                    self._close_pack(slot, slot.pack)
        self._pieces.put(None)
        for thread in self._threads:
            thread.join()
        self._raise_failure()
        self._write_index(last=True)
        self._finished = True

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _give_up(self, error: BaseException) -> None:
        """Drop what is open, keep what is complete."""
        self._failure = self._failure or error
        deadline = time.monotonic() + _PATIENCE
        with suppress(queue.Full):
            self._pieces.put(None, timeout=_left(deadline))
        for thread in self._threads:
            thread.join(_left(deadline))
        if not self._threads[0].is_alive():  # else a file could be closed while it is written to; the next run sweeps it up
            self._abandon_open()
        if not isinstance(self._failure, Unreachable):
            with suppress(Exception):  # the packs stay, and the next run finds them by their headers
                self._write_index()
        self._finished = True

    def _abandon_open(self) -> None:
        for slot in self._slots.values():
            if slot.pack is not None:
                slot.pack.abandon()
                slot.pack = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None:
            self._give_up(error)
            return
        try:
            self.finish()
        except BaseException as failure:
            self._give_up(failure)
            raise


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
