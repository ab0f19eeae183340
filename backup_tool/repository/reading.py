"""Blobs by id: one range request each, or many in few requests. Whatever comes back is verified to the last byte."""

from __future__ import annotations

import hashlib
import hmac
import threading
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol

import msgspec

from backup_tool.destinations.base import Destination, ManyCopies
from backup_tool.destinations.places import folder_of
from backup_tool.errors import BadRange, DamagedObject, IntegrityError, ObjectMissing
from backup_tool.names import shown
from backup_tool.repository.crypto import OVERHEAD, BrokenSeal, Buffer, Key
from backup_tool.repository.index import BlobKind, Place
from backup_tool.repository.objects import is_id
from backup_tool.repository.parallel import abreast, width_for
from backup_tool.repository.sealed import Unreadable, inflate
from backup_tool.repository.trees import MAX_TREE

MAX_BLOB: dict[BlobKind, int] = {"data": 64 * 2**20, "tree": MAX_TREE}

# Bytes nobody asked for are cheaper than another request up to this gap (restic's figure), and a request stays small enough for memory.
_GAP = 2**20
_REQUEST = 16 * 2**20
_ANSWER = 64 * 2**20
_SMALL_PACKS = 4
WORD: dict[BlobKind, str] = {"data": "blob", "tree": "tree"}


class ReadRequest(msgspec.Struct, frozen=True):
    """One range of one pack, and the blobs wanted from it: (id, place), in order of offset."""

    kind: BlobKind
    pack: str
    offset: int
    length: int
    blobs: tuple[tuple[str, Place], ...]


def blob_id(id: str) -> bytes:
    """The 32 bytes of an id. Raises IntegrityError for anything but 64 hex digits: ids come from trees and catalogs, untrusted."""
    if not is_id(id):
        raise IntegrityError(f"not the id of a blob: {shown(id, 80)}", "run 'backup check' to see what else is wrong")
    return unhexlify(id)


def open_blob(key: Key, kind: BlobKind, id: bytes, stored: Buffer, raw_length: int) -> bytes:
    """A blob from its sealed bytes; `raw_length` from index or header, 0 where it is not compressed. Raises Unreadable."""
    if max(raw_length, len(stored) - OVERHEAD) > MAX_BLOB[kind]:
        raise Unreadable(f"it is larger than {MAX_BLOB[kind]:,} bytes")
    try:
        plain = key.open(stored)
    except BrokenSeal as error:
        raise Unreadable(str(error)) from None
    if raw_length:
        plain = inflate(plain, raw_length)
        if len(plain) != raw_length:
            raise Unreadable("it is shorter than the index says")
    if not hmac.compare_digest(hashlib.sha256(plain).digest(), id):
        raise Unreadable("its content does not match its id")
    return plain


class _Index(Protocol):
    def first(self, kind: BlobKind, id: bytes) -> Place | None: ...

    def find(self, kind: BlobKind, id: bytes) -> list[Place]: ...


class _Files(Protocol):
    @property
    def index(self) -> _Index: ...

    def small_pack(self, pack: bytes) -> int | None: ...

    def load_all(self) -> None: ...


class _SmallPacks:
    """Packs of catalogs and trees below 4 MiB, each fetched whole, by one request: whoever wants one blob of it soon wants another. The
    last four are kept. Safe for several threads."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._packs: dict[bytes, Future[bytes]] = {}
        self._lock = threading.Lock()

    def get(self, pack: bytes, size: int) -> bytes:
        """The pack, verified against its name; empty where it is not whole. Raises what the destination raises."""
        with self._lock:
            found = self._packs.pop(pack, None)
            future = self._packs[pack] = found or Future()
            while len(self._packs) > _SMALL_PACKS:
                del self._packs[next(iter(self._packs))]
        if found is None:
            try:
                future.set_result(self._load(pack, size))
            except BaseException as error:
                future.set_exception(error)
                with self._lock:
                    self._packs.pop(pack, None)
        return future.result()

    def _load(self, pack: bytes, size: int) -> bytes:
        try:
            data = self._destination.load("data", pack.hex(), 0, size)
        except (ObjectMissing, BadRange):
            return b""
        return data if hmac.compare_digest(hashlib.sha256(data).digest(), pack) else b""


class Reader:
    """Reads blobs of one repository. Safe for several threads."""

    def __init__(self, destination: Destination, key: Key, files: _Files) -> None:
        self._destination = destination
        self._key = key
        self._files = files
        # Where nothing travels, a few bytes more or less in one request are all the same.
        self._small_packs = _SmallPacks(destination) if folder_of(destination) is None else None

    def load(self, kind: BlobKind, id: str) -> bytes:
        """One blob. Every copy is tried, then those of a freshly loaded index. Raises DamagedObject, and what the destination raises."""
        wanted = blob_id(id)
        tried: set[Place] = set()
        reason = "no index file names it"
        for attempt in (1, 2):
            for place in self._files.index.find(kind, wanted):
                if place in tried:
                    continue
                tried.add(place)
                try:
                    return self._load_copy(kind, wanted, place)
                except Unreadable as error:
                    reason = f"{error} (pack {place.pack.hex()[:16]})"
            if attempt == 1:
                self._files.load_all()
        raise DamagedObject(WORD[kind], id, reason)

    def _load_copy(self, kind: BlobKind, id: bytes, place: Place) -> bytes:
        try:
            return self._fetch(kind, id, place)
        except ObjectMissing:
            raise Unreadable("its pack is missing") from None
        except BadRange:
            raise Unreadable("its pack is too short") from None
        except Unreadable:  # perhaps hurt on the way: once more
            try:
                return self._fetch(kind, id, place)
            except Unreadable:
                if (blob := self._from_elsewhere(kind, id, place)) is None:
                    raise
                return blob

    def _from_elsewhere(self, kind: BlobKind, id: bytes, place: Place) -> bytes | None:
        """The blob from another place that has the pack; None where there is none, or it is damaged there, too."""
        if isinstance(self._destination, ManyCopies):
            for stored in self._destination.copies("data", place.pack.hex(), place.offset, place.length):
                with suppress(Unreadable):
                    return open_blob(self._key, kind, id, stored, place.raw_length)
        return None

    def _fetch(self, kind: BlobKind, id: bytes, place: Place) -> bytes:
        if place.length - OVERHEAD > MAX_BLOB[kind]:
            raise Unreadable(f"it is larger than {MAX_BLOB[kind]:,} bytes")
        stored = self._part(place.pack, place.offset, place.length)
        if len(stored) != place.length:
            raise Unreadable("fewer bytes came than were asked for")
        return open_blob(self._key, kind, id, stored, place.raw_length)

    def plan(self, kind: BlobKind, ids: Iterable[str]) -> list[ReadRequest]:
        """The requests that bring all these blobs, each id once, in order of pack and offset. Raises DamagedObject for an unknown blob."""
        places = sorted((self._place(kind, id), id) for id in dict.fromkeys(ids))
        requests: list[ReadRequest] = []
        together: list[tuple[str, Place]] = []
        answer = 0
        for place, id in places:
            if together and not _joins(together[0][1], together[-1][1], place, answer):
                requests.append(_request(kind, together))
                together, answer = [], 0
            together.append((id, place))
            answer += place.plain_length
        if together:
            requests.append(_request(kind, together))
        return requests

    def _place(self, kind: BlobKind, id: str) -> Place:
        wanted = blob_id(id)
        place = self._files.index.first(kind, wanted)
        if place is None:
            self._files.load_all()
            place = self._files.index.first(kind, wanted)
        if place is None:
            raise DamagedObject(WORD[kind], id, "no index file names it")
        return place

    def read(self, request: ReadRequest) -> Iterator[tuple[str, bytes]]:
        """(id, bytes) for each blob of a request. Where the range fails, or a blob in it, other copies are tried; then DamagedObject."""
        data = memoryview(self._range(request))
        for id, place in request.blobs:
            start = place.offset - request.offset
            stored = data[start : start + place.length]
            try:
                blob = open_blob(self._key, request.kind, blob_id(id), stored, place.raw_length)
            except Unreadable:
                blob = self.load(request.kind, id)
            yield id, blob

    def _range(self, request: ReadRequest) -> bytes:
        if request.length > MAX_BLOB[request.kind] + OVERHEAD:  # one blob, and none that we would open
            return b""
        try:
            return self._part(unhexlify(request.pack), request.offset, request.length)
        except (ObjectMissing, BadRange):
            return b""

    def _part(self, pack: bytes, offset: int, length: int) -> bytes:
        """A range of a pack; out of the whole pack where that is small. One that is damaged is read by ranges: most of it may be good."""
        size = self._files.small_pack(pack) if self._small_packs is not None else None
        if size is not None and self._small_packs is not None and (whole := self._small_packs.get(pack, size)):
            return whole[offset : offset + length]
        return self._destination.load("data", pack.hex(), offset, length)

    def read_all(self, requests: Iterable[ReadRequest]) -> Iterator[tuple[str, bytes]]:
        """`read` of several requests, over a network some at once; their order stays."""
        for blobs in abreast(lambda request: list(self.read(request)), requests, width_for(self._destination), _answer):
            yield from blobs()


def split(request: ReadRequest, blobs: int) -> list[ReadRequest]:
    """The same blobs by several requests, of so many each."""
    several = [list(request.blobs[at : at + blobs]) for at in range(0, len(request.blobs), blobs)]
    return [_request(request.kind, some) for some in several]


def _joins(first: Place, last: Place, place: Place, answer: int) -> bool:
    return (
        place.pack == first.pack
        and place.offset - (last.offset + last.length) < _GAP
        and place.offset + place.length - first.offset <= _REQUEST
        and answer + place.plain_length <= _ANSWER
    )


def _answer(request: ReadRequest) -> int:
    return sum(place.plain_length for _, place in request.blobs)


def _request(kind: BlobKind, blobs: list[tuple[str, Place]]) -> ReadRequest:
    first = blobs[0][1]
    end = max(place.offset + place.length for _, place in blobs)
    return ReadRequest(kind, first.pack.hex(), first.offset, end - first.offset, tuple(blobs))
