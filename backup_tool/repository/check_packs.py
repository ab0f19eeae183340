"""Checking packs: what index files say of them against what is stored, and, if asked to, every byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from backup_tool.errors import BadRange, DamagedObject, ObjectMissing
from backup_tool.models import Progress
from backup_tool.repository.crypto import OVERHEAD
from backup_tool.repository.findings import Findings
from backup_tool.repository.index import BlobKind, Entry, PackEntries, Place
from backup_tool.repository.packs import pack_size
from backup_tool.repository.reading import MAX_BLOB
from backup_tool.repository.repository import Repository

_REQUEST = 16 * 2**20
_READERS = 2
_Copy = tuple[BlobKind, bytes, Place]


class PackCheck:
    """Checks the packs of one repository, and knows afterwards which blobs can be had."""

    def __init__(self, repo: Repository, findings: Findings) -> None:
        self._repo = repo
        self._findings = findings
        self._sizes: dict[bytes, int] = {}
        # What index files say of a pack: the number of its blobs, its size, and a hash over all of it.
        self._described: dict[bytes, tuple[int, int, int]] = {}
        self._broken: set[_Copy] = set()

    def usable(self, kind: BlobKind, id: bytes) -> bool:
        """True where a copy lies in a pack that is there, in its full length, and was not found to be broken."""
        return any(self._is_good(kind, id, place) for place in self._repo.index.find(kind, id))

    def _is_good(self, kind: BlobKind, id: bytes, place: Place) -> bool:
        return place.offset + place.length <= self._sizes.get(place.pack, 0) and (kind, id, place) not in self._broken

    # Index against listing

    def check_index(self) -> None:
        """Read all index files, then compare what they say with the packs that are stored."""
        self._repo.load_index(self._findings.damage, self._take_in)
        # Listed after the index was read: a pack that another run has just written is then never taken for a missing one.
        self._sizes = {bytes.fromhex(name): size for name, size in self._repo.destination.list("data")}
        for pack, (_, expected, _) in self._described.items():
            size = self._sizes.get(pack)
            if size is None:
                self._findings.add("error", "pack", pack.hex(), "it is missing")
            elif size != expected:
                self._findings.add("error", "pack", pack.hex(), f"it has {size:,} bytes, and by the index it should have {expected:,}")
        for pack in self._sizes.keys() - self._described.keys():
            if not self._repo.index.knows_pack(pack):
                self._findings.add("hint", "pack", pack.hex(), "no index names it: a run was cut short, and the next one will use it")

    def _take_in(self, pack: PackEntries, superseded: bool) -> None:
        if pack.doomed:
            return
        name, entries = pack.pack.hex(), pack.entries
        described = len(entries), pack_size(entries), hash(tuple(entries))
        before = self._described.setdefault(pack.pack, described)
        if before is not described:
            same = before == described
            if same and superseded:
                return
            told = "two index files describe it" if same else "two index files describe it differently"
            self._findings.add("hint" if same else "error", "pack", name, told)
            return
        if superseded:
            self._findings.add("warning", "pack", name, "the index file that names it is superseded by one that does not")
        position = 0
        for entry in entries:
            if entry.offset != position:
                self._findings.add("error", "pack", name, f"by the index its blobs overlap or leave a gap at byte {position:,}")
                break
            position += entry.length
        if self._repo.version == 2 and len({entry.kind for entry in entries}) > 1:
            self._findings.add("hint", "pack", name, "it holds trees and other blobs together")

    # Every byte

    def read_packs(self, part: int, parts: int, progress: Progress) -> None:
        """Read every pack of one part whole. Which part a pack belongs to follows from its name, so that n = 1 … parts reads all."""
        wanted = [(pack, size) for pack, size in sorted(self._sizes.items()) if int.from_bytes(pack[:4], "big") % parts == part - 1]
        wanted = [(pack, size) for pack, size in wanted if pack in self._described]
        progress.begin("reading packs", sum(size for _, size in wanted), "bytes")
        pool = ThreadPoolExecutor(_READERS, "checking")
        try:
            for size in pool.map(lambda item: self._read_pack(*item), wanted):
                progress.step(size)
        finally:
            pool.shutdown(cancel_futures=True)
            progress.end()

    def _read_pack(self, pack: bytes, size: int) -> int:
        # Bytes may be hurt on the way, too: only what is wrong twice is damage.
        if any(True for _ in self._faults(pack, size)):
            for fault, copy in self._faults(pack, size):
                self._findings.damage(fault)
                if copy is not None:
                    self._broken.add(copy)
        return size

    def _faults(self, pack: bytes, size: int) -> Iterator[tuple[DamagedObject, _Copy | None]]:
        """What is wrong with a pack, and the copies of blobs that cannot be had because of it."""
        name = pack.hex()
        entries: list[Entry] = []
        try:
            entries = self._repo.pack_header(name, size)
            if not self._agrees(pack, entries):
                yield DamagedObject("pack", name, "its header and the index differ"), None
        except DamagedObject as error:
            yield error, None
        except ObjectMissing:
            yield DamagedObject("pack", name, "it is missing"), None
            return
        for fault, entry in faults_in(self._repo, pack, size, entries):
            yield fault, None if entry is None else _copy(pack, entry)

    def _agrees(self, pack: bytes, entries: list[Entry]) -> bool:
        find = self._repo.index.find
        known = all(Place(pack, offset, length, raw) in find(kind, id) for kind, id, offset, length, raw in entries)
        return known and len(entries) == self._described[pack][0]


def faults_in(repo: Repository, pack: bytes, size: int, entries: list[Entry]) -> Iterator[tuple[DamagedObject, Entry | None]]:
    """Read a stored pack of `size` bytes whole, and open every one of its blobs: what is wrong, and with which blob. Memory is bounded."""
    name, digest = pack.hex(), hashlib.sha256()
    for entry in filter(_too_large, entries):
        yield DamagedObject("blob", entry.id.hex(), f"it is larger than anything that is opened (pack {name[:16]})"), entry
    try:
        for run, data in _runs(partial(repo.destination.load, "data", name), size, entries):
            digest.update(data)
            yield from _broken_blobs(repo, name, run, memoryview(data))
    except (BadRange, ObjectMissing):
        yield DamagedObject("pack", name, "it ends too early"), None
        return
    if digest.digest() != pack:
        yield DamagedObject("pack", name, "its bytes do not match its name"), None


_Load = Callable[[int, int], bytes]


def _runs(load: _Load, size: int, entries: list[Entry]) -> Iterator[tuple[list[Entry], bytes]]:
    """The pack's bytes from first to last, in requests of moderate size, each with the blobs that lie in it whole."""
    position = 0
    run: list[Entry] = []
    for entry in entries:
        end = entry.offset + entry.length
        if run and (_too_large(entry) or end - position > _REQUEST):
            yield run, load(position, entry.offset - position)
            position, run = entry.offset, []
        if _too_large(entry):
            yield from _unopened(load, position, end)
            position = end
        else:
            run.append(entry)
    if run:
        end = run[-1].offset + run[-1].length
        yield run, load(position, end - position)
        position = end
    yield from _unopened(load, position, size)


def _unopened(load: _Load, start: int, end: int) -> Iterator[tuple[list[Entry], bytes]]:
    """Bytes that only count for the hash: headers, and blobs that nobody should open."""
    for position in range(start, end, _REQUEST):
        yield [], load(position, min(_REQUEST, end - position))


def _broken_blobs(repo: Repository, pack: str, run: list[Entry], data: memoryview) -> Iterator[tuple[DamagedObject, Entry]]:
    for entry in run:
        start = entry.offset - run[0].offset
        try:
            repo.open_blob(entry, data[start : start + entry.length])
        except DamagedObject as error:
            yield DamagedObject(error.kind, error.name, f"{error.reason} (pack {pack[:16]})"), entry


def _too_large(entry: Entry) -> bool:
    return entry.length - OVERHEAD > MAX_BLOB[entry.kind]


def _copy(pack: bytes, entry: Entry) -> _Copy:
    return entry.kind, entry.id, Place(pack, entry.offset, entry.length, entry.raw_length)
