"""Which blob lies where: the index in memory, and index files (restic's design document, section "Indexing").

    {"packs":[{"id":"…","blobs":[{"id":"…","type":"data","offset":0,"length":50032,"uncompressed_length":…}]}]}

In memory a blob costs about 180 bytes: its 32-byte id, and one int that holds everything else.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from backup_tool.repository.crypto import OVERHEAD
from backup_tool.repository.sealed import Unreadable, parse

BlobKind = Literal["data", "tree"]
BLOB_KINDS: tuple[BlobKind, ...] = ("data", "tree")

# restic begins a new index file at as many blobs; more in one file than 600,000 (some 80 MB of JSON) is nobody's doing but an attacker's.
FULL_INDEX = 50_000
_MOST_OBJECTS = 600_000
MAX_INDEX = 128 * 2**20

_U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Hex = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]


class Entry(NamedTuple):
    """One blob of a pack. `length` is as stored (sealed); `raw_length` that of the blob, 0 where it is not compressed."""

    kind: BlobKind
    id: bytes
    offset: int
    length: int
    raw_length: int


class Place(NamedTuple):
    """Where a copy of a blob lies. `pack` is the 32-byte id; the rest as in Entry."""

    pack: bytes
    offset: int
    length: int
    raw_length: int

    @property
    def plain_length(self) -> int:
        """The blob's own length in bytes."""
        return self.raw_length or self.length - OVERHEAD


class _Blob(msgspec.Struct, gc=False):
    id: _Hex
    type: BlobKind
    offset: _U32
    length: Annotated[int, msgspec.Meta(ge=OVERHEAD, le=2**32 - 1)]
    uncompressed_length: _U32 = 0


class _Pack(msgspec.Struct, gc=False):
    id: _Hex
    blobs: list[_Blob]


class _File(msgspec.Struct):
    packs: list[_Pack] | None = None
    # rustic's: packs that a later prune will delete. Good for reading, not to be built upon.
    packs_to_delete: list[_Pack] = []


class PackEntries(NamedTuple):
    """One pack as an index file describes it. `doomed`: some program means to delete it."""

    pack: bytes
    entries: list[Entry]
    doomed: bool


def decode_index(json: bytes) -> Iterator[PackEntries]:
    """The packs of an index file, entries in order of offset. Raises Unreadable before the first one."""
    if json.count(b"{") > _MOST_OBJECTS:
        raise Unreadable(f"it describes more than {_MOST_OBJECTS:,} blobs")
    file = parse(json, _File)
    try:
        decoded = [_pack(pack, False) for pack in file.packs or []]
        decoded += [_pack(pack, True) for pack in file.packs_to_delete]
    except ValueError:
        raise Unreadable("it holds an id that is not hexadecimal") from None
    return iter(decoded)


def _pack(pack: _Pack, doomed: bool) -> PackEntries:
    entries = [Entry(b.type, unhexlify(b.id), b.offset, b.length, b.uncompressed_length) for b in pack.blobs]
    entries.sort(key=_offset)
    return PackEntries(unhexlify(pack.id), entries, doomed)


def _offset(entry: Entry) -> int:
    return entry.offset


def encode_index(packs: Iterable[tuple[bytes, Sequence[Entry]]]) -> bytes:
    """The JSON of an index file, with the newline that restic ends it with."""
    return ('{"packs":[' + ",".join(_pack_json(pack, entries) for pack, entries in packs) + "]}\n").encode()


def _pack_json(pack: bytes, entries: Sequence[Entry]) -> str:
    blobs = ",".join(
        f'{{"id":"{id.hex()}","type":"{kind}","offset":{offset},"length":{length}' + (f',"uncompressed_length":{raw}}}' if raw else "}")
        for kind, id, offset, length, raw in entries
    )
    return f'{{"id":"{pack.hex()}","blobs":[{blobs}]}}'


_MASK = 2**32 - 1


class Index:
    """Blobs by (kind, id), never by id alone: a tree and a recording could be the same bytes.

    One thread adds at a time; any number may look up meanwhile.
    """

    def __init__(self) -> None:
        self._packs: list[bytes] = []
        self._ends: list[int] = []
        self._numbers: dict[bytes, int] = {}
        # pack number, offset, length and raw length, 32 bits each, in one int.
        self._places: dict[BlobKind, dict[bytes, int]] = {"data": {}, "tree": {}}
        self._copies: dict[BlobKind, dict[bytes, list[int]]] = {"data": {}, "tree": {}}
        self._doomed: dict[BlobKind, dict[bytes, list[int]]] = {"data": {}, "tree": {}}

    def add(self, pack: bytes, entries: Iterable[Entry], *, doomed: bool = False) -> None:
        """Take in a pack. Adding it again changes nothing."""
        number = self._number(pack) << 96
        places, copies = self._places, self._copies
        offset = length = 0
        for kind, id, offset, length, raw in entries:
            packed = number | offset << 64 | length << 32 | raw
            if doomed:
                _append(self._doomed[kind], id, packed)
            elif places[kind].setdefault(id, packed) != packed:
                _append(copies[kind], id, packed)
        self._ends[number >> 96] = max(self._ends[number >> 96], offset + length)

    def doom(self, packs: Collection[bytes]) -> None:
        """What these packs hold is not to be built upon: they are lost, or will be. Other copies of it stay good."""
        numbers = {self._numbers[pack] for pack in packs if pack in self._numbers}
        for kind in BLOB_KINDS:
            places, copies, doomed = self._places[kind], self._copies[kind], self._doomed[kind]
            for id in [id for id, packed in places.items() if packed >> 96 in numbers]:
                _append(doomed, id, places.pop(id))
            for id, several in list(copies.items()):
                for packed in several:
                    if packed >> 96 in numbers:
                        _append(doomed, id, packed)
                left = [packed for packed in several if packed >> 96 not in numbers]
                if left and id not in places:
                    places[id] = left.pop(0)
                copies[id] = left

    def cut_short(self, sizes: Mapping[bytes, int]) -> Iterator[tuple[bytes, int]]:
        """The packs whose blobs reach beyond the stored size that `sizes` gives (0 where it gives none), and how far they reach."""
        return ((pack, end) for pack, end in zip(self._packs, self._ends, strict=True) if end > sizes.get(pack, 0))

    def _number(self, pack: bytes) -> int:
        number = self._numbers.setdefault(pack, len(self._packs))
        if number == len(self._packs):
            self._packs.append(pack)
            self._ends.append(0)
        return number

    def has(self, kind: BlobKind, id: bytes) -> bool:
        """True where the blob need not be stored again."""
        return id in self._places[kind]

    def find(self, kind: BlobKind, id: bytes) -> list[Place]:
        """Every copy, the one to try first in front; empty where the blob is not known."""
        first = self._places[kind].get(id)
        found = [] if first is None else [first]
        found += self._copies[kind].get(id, ())
        found += self._doomed[kind].get(id, ())
        return [self._place(packed) for packed in found]

    def first(self, kind: BlobKind, id: bytes) -> Place | None:
        """The copy to try first."""
        packed = self._places[kind].get(id)
        if packed is not None:
            return self._place(packed)
        return next(iter(self.find(kind, id)), None)

    def _place(self, packed: int) -> Place:
        return Place(self._packs[packed >> 96], packed >> 64 & _MASK, packed >> 32 & _MASK, packed & _MASK)

    def knows_pack(self, pack: bytes) -> bool:
        """True where some index file names the pack."""
        return pack in self._numbers

    def packs(self) -> Sequence[bytes]:
        """Every pack that an index file names."""
        return self._packs

    def blobs(self) -> Iterator[tuple[BlobKind, bytes, Place]]:
        """Every copy of every blob, in no order."""
        for kind in BLOB_KINDS:
            for id, packed in self._places[kind].items():
                yield kind, id, self._place(packed)
            for further in (self._copies, self._doomed):
                for id, several in further[kind].items():
                    for packed in several:
                        yield kind, id, self._place(packed)

    def __len__(self) -> int:
        """The number of different blobs."""
        return sum(map(len, self._places.values()))


def _append(further: dict[bytes, list[int]], id: bytes, packed: int) -> None:
    known = further.setdefault(id, [])
    if packed not in known:
        known.append(packed)
