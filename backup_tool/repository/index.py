"""Which blob lies where: the index in memory, and index files (restic's design document, section "Indexing").

    {"supersedes":["…"],"packs":[{"id":"…","time":"…","blobs":[{"id":"…","type":"data","offset":0,"length":50032,"uncompressed_length":…}]}]}

`supersedes` names older index files all of whose packs this one describes too. `time` is rustic's word for the moment a pack was made; here
only packs of catalogs and trees have one, because of two copies of a blob the younger is read (it lies with others that are wanted).

In memory a blob costs about 180 bytes: its 32-byte id, and one int that holds everything else.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from backup_tool.repository import times
from backup_tool.repository.crypto import OVERHEAD
from backup_tool.repository.sealed import Unreadable, parse

BlobKind = Literal["data", "tree"]
BLOB_KINDS: tuple[BlobKind, ...] = ("data", "tree")

# restic begins a new index file at as many blobs; more in one file than 600,000 (some 80 MB of JSON) is nobody's doing but an attacker's.
FULL_INDEX = 50_000
_MOST_OBJECTS = 600_000
MAX_INDEX = 128 * 2**20
_MOST_SUPERSEDED = 100_000

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
    time: str | None = None


class _File(msgspec.Struct):
    packs: list[_Pack] | None = None
    # rustic's: packs that a later prune will delete. Good for reading, not to be built upon.
    packs_to_delete: list[_Pack] = []
    supersedes: Annotated[list[str], msgspec.Meta(max_length=_MOST_SUPERSEDED)] | None = None


class PackEntries(NamedTuple):
    """One pack as an index file describes it. `doomed`: some program means to delete it. `time`: made then, in seconds since 1970, 0 where
    that is not said."""

    pack: bytes
    entries: Sequence[Entry]
    doomed: bool = False
    time: int = 0


class DecodedIndex(NamedTuple):
    """An index file: its packs, and the names of the index files that need not be read beside it."""

    packs: list[PackEntries]
    supersedes: list[str]


def decode_index(json: bytes) -> DecodedIndex:
    """What an index file says, entries in order of offset. Raises Unreadable."""
    if json.count(b"{") > _MOST_OBJECTS:
        raise Unreadable(f"it describes more than {_MOST_OBJECTS:,} blobs")
    file = parse(json, _File)
    try:
        decoded = [_pack(pack, False) for pack in file.packs or []]
        decoded += [_pack(pack, True) for pack in file.packs_to_delete]
    except ValueError:
        raise Unreadable("it holds an id that is not hexadecimal") from None
    return DecodedIndex(decoded, file.supersedes or [])


def _pack(pack: _Pack, doomed: bool) -> PackEntries:
    entries = [Entry(b.type, unhexlify(b.id), b.offset, b.length, b.uncompressed_length) for b in pack.blobs]
    entries.sort(key=_offset)
    return PackEntries(unhexlify(pack.id), entries, doomed, _seconds(pack.time))


def _seconds(text: str | None) -> int:
    try:
        return max(0, int(times.moment(text).timestamp())) if text else 0
    except ValueError:
        return 0


def _offset(entry: Entry) -> int:
    return entry.offset


def encode_index(packs: Iterable[PackEntries], supersedes: Sequence[str] = ()) -> bytes:
    """The JSON of an index file, with the newline that restic ends it with."""
    names = ",".join(f'"{name}"' for name in supersedes)
    before = f'"supersedes":[{names}],' if supersedes else ""
    return (f'{{{before}"packs":[' + ",".join(map(_pack_json, packs)) + "]}\n").encode()


def _pack_json(pack: PackEntries) -> str:
    blobs = ",".join(
        f'{{"id":"{id.hex()}","type":"{kind}","offset":{offset},"length":{length}' + (f',"uncompressed_length":{raw}}}' if raw else "}")
        for kind, id, offset, length, raw in pack.entries
    )
    time = f'"time":"{times.written(pack.time * 10**9)}",' if pack.time else ""
    return f'{{"id":"{pack.pack.hex()}",{time}"blobs":[{blobs}]}}'


_MASK = 2**32 - 1


class Index:
    """Blobs by (kind, id), never by id alone: a tree and a recording could be the same bytes.

    One thread adds at a time; any number may look up meanwhile.
    """

    def __init__(self) -> None:
        self._packs: list[bytes] = []
        self._ends: list[int] = []
        self._times: list[int] = []
        self.newest = 0
        """The youngest time of a pack, in seconds since 1970."""
        self._numbers: dict[bytes, int] = {}
        # pack number, offset, length and raw length, 32 bits each, in one int.
        self._places: dict[BlobKind, dict[bytes, int]] = {"data": {}, "tree": {}}
        self._copies: dict[BlobKind, dict[bytes, list[int]]] = {"data": {}, "tree": {}}
        self._doomed: dict[BlobKind, dict[bytes, list[int]]] = {"data": {}, "tree": {}}

    def add(self, pack: bytes, entries: Iterable[Entry], *, doomed: bool = False, time: int = 0) -> None:
        """Take in a pack. Adding it again changes nothing. Of several copies of a blob the one in the youngest pack is the first."""
        number = self._number(pack, time) << 96
        places = self._places
        offset = length = 0
        for kind, id, offset, length, raw in entries:
            packed = number | offset << 64 | length << 32 | raw
            if doomed:
                _append(self._doomed[kind], id, packed)
            elif (first := places[kind].setdefault(id, packed)) != packed:
                self._add_copy(kind, id, first, packed)
        self._ends[number >> 96] = max(self._ends[number >> 96], offset + length)

    def _add_copy(self, kind: BlobKind, id: bytes, first: int, packed: int) -> None:
        if self._times[packed >> 96] > self._times[first >> 96]:
            self._places[kind][id] = packed
            packed = first
        known = self._copies[kind].setdefault(id, [])
        self._copies[kind][id] = [one for one in known if one not in (packed, self._places[kind][id])] + [packed]

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

    def _number(self, pack: bytes, time: int) -> int:
        number = self._numbers.setdefault(pack, len(self._packs))
        if number == len(self._packs):
            self._packs.append(pack)
            self._ends.append(0)
            self._times.append(0)
        self._times[number] = max(self._times[number], time)
        self.newest = max(self.newest, time)
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
