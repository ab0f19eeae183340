"""A destination behind restic's REST protocol: rest-server, `rclone serve restic`, and others.

The protocol is restic's documentation, "REST Backend": `POST /?create=true`, then `HEAD`, `GET` (with `Range`), `POST` and `DELETE` of
`/config` and `/KIND/NAME`, and `GET /KIND/` for a listing. Packs are `data/NAME` here: how they are laid out is the server's business.

Servers differ, and some lie: a range past the end may be answered with nothing, an existing object may be refused or overwritten, a cut
body may be stored under its name. So every length is compared, and what was stored is looked at before it counts as stored.
"""

from __future__ import annotations

import io
import re
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, cast

import msgspec

from backup_tool.destinations.base import KINDS, Draft, ObjectKind
from backup_tool.destinations.files import told
from backup_tool.destinations.http import Address, HttpClient, Reply, http_time
from backup_tool.destinations.limits import UploadLimit
from backup_tool.errors import BackupError, BadRange, NoRepository, ObjectMissing, Unreachable
from backup_tool.names import shown

_NAME = re.compile(r"[0-9a-f]{64}")
_VERSION_2 = {"Accept": "application/vnd.x.restic.rest.v2"}
_BINARY = {"Content-Type": "application/octet-stream"}
_STORED = (200, 201, 204)
_REFUSED = (403, 405, 409)
_MAX_LISTING = 64 * 2**20
_MAX_OBJECT = 256 * 2**20
"""A pack is at most 128 MiB and one blob."""
_READ_BACK = 2**20
"""Up to this size what was stored is compared byte for byte, for one request as good as asking its size."""


class _Listed(msgspec.Struct):
    name: str
    size: int = msgspec.field(default=-1)


_Listing = list[_Listed | str]
_LISTING = msgspec.json.Decoder(_Listing | None)


class RestDestination:
    """The repository at an address. Nothing is asked of the server before the first operation."""

    MISSING_FOLDER_IS_EMPTY = True
    """Whether 404 for a listing says that nothing was stored there yet."""

    def __init__(self, address: Address, *, limit: UploadLimit | None = None, label: str = "") -> None:
        self.label = label or f"rest:{address.label}"
        self._http = HttpClient(address, self.label, limit=limit)
        self._ready = self._opened = False
        self._first_seen: dict[str, float] = {}

    def client(self) -> HttpClient:
        """The way to the server."""
        return self._http

    def create(self) -> None:
        """Ask the server to make room for a repository; harmless where it has."""
        with self._request("POST", "?create=true", _STORED):
            self._ready = True

    def exists(self) -> bool:
        """True where the server has a config."""
        with self._request("HEAD", "config", (200, 404)) as reply:
            found = reply.status == 200
        self._ready, self._opened = self._ready or found, self._opened or found
        return found

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """Store the bytes under the name."""
        self.save_body(kind, name, io.BytesIO(data), len(data))

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """`save` from a local file, piece by piece. Raises OSError where it cannot be opened."""
        with path.open("rb") as body:
            self.save_body(kind, name, body, body.seek(0, io.SEEK_END))

    def draft(self, kind: ObjectKind) -> RestDraft:
        """An object whose name is known only at its end; until then it is a nameless file on this machine."""
        return RestDraft(self, kind)

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes, or exactly `length` of them from `offset`. Whole objects up to 256 MiB."""
        path = self.path(kind, name)
        self.check_place()
        if offset < 0 or (length is not None and length < 0):
            raise BadRange(f"bytes {offset} + {length} of {kind} {name[:16]}")
        if offset == 0 and length is None:
            with self._request("GET", path, (200, 404)) as reply:
                self._found(reply, kind, name)
                return reply.read(_MAX_OBJECT)
        if length:
            return self._load_range(kind, name, offset, length)
        size = self.size(kind, name)
        if offset > size:
            raise BadRange(f"bytes {offset} and more of {kind} {name[:16]}, which has {size}")
        return self._load_range(kind, name, offset, size - offset) if length is None and offset < size else b""

    def _load_range(self, kind: ObjectKind, name: str, offset: int, length: int) -> bytes:
        asked = {"Range": f"bytes={offset}-{offset + length - 1}"}
        with self._request("GET", self.path(kind, name), (200, 206, 404, 416), headers=asked, moved=length) as reply:
            self._found(reply, kind, name)
            if reply.status == 200:  # the server knows no ranges and sends everything
                data = reply.read(length, skip=offset, cut=True)
            elif reply.status == 206 and _is_range(reply, offset):
                data = reply.read(length)
            else:
                data = b""
        if len(data) == length:
            return data
        size = self.size(kind, name)
        if offset + length > size:
            raise BadRange(f"bytes {offset} to {offset + length} of {kind} {name[:16]}, which has {size}")
        raise Unreachable(f"{self.label} sent {len(data)} bytes of {length} that were asked for", "see that the server is well")

    def size(self, kind: ObjectKind, name: str) -> int:
        """The stored size in bytes."""
        path = self.path(kind, name)
        self.check_place()
        with self._request("HEAD", path, (200, 404)) as reply:
            self._found(reply, kind, name)
        if reply.length is None:
            raise BackupError(
                f"{self.label} does not say how large {kind} {name[:16]} is", "see that this is the address of the right server"
            )
        return reply.length

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """All (name, size) of a kind; of servers that tell no sizes (version 1), each is asked for."""
        self.check_place()
        if kind == "config":
            if self.exists():
                yield "config", self.size("config", "config")
            return
        listed = self._listing(kind)
        if not listed and kind != "locks":
            self._check_still_there()
        for one in listed:
            name = one if isinstance(one, str) else one.name
            if not _NAME.fullmatch(name):
                continue
            try:
                yield name, one.size if isinstance(one, _Listed) and one.size >= 0 else self.size(kind, name)
            except ObjectMissing:  # removed by another run meanwhile
                continue

    def _listing(self, kind: ObjectKind) -> _Listing:
        with self._request("GET", f"{kind}/", (200, 404), headers=_VERSION_2, moved=_MAX_LISTING) as reply:
            if reply.status == 404 and not self.MISSING_FOLDER_IS_EMPTY:
                raise Unreachable(f"{self.label} could not list {kind}", "see that the server is well, then run it again")
            if reply.status == 404:
                return []
            text = reply.read(_MAX_LISTING)
        try:
            found = _LISTING.decode(text) or []
        except (msgspec.DecodeError, RecursionError) as error:
            raise BackupError(f"{self.label} gave no list of {kind}", "see that this is the address of the right server") from error
        return [*{one if isinstance(one, str) else one.name: one for one in found}.values()]

    def remove(self, kind: ObjectKind, name: str) -> None:
        """Remove an object; one that is not there counts as removed. An append-only server lets only locks be removed."""
        path = self.path(kind, name)
        self.check_place()
        with self._request("DELETE", path, (*_STORED, 202, 404, *_REFUSED)) as reply:
            if reply.status in _REFUSED:
                raise BackupError(
                    f"{self.label} does not let {kind} be removed: it is append-only",
                    "remove from a machine whose user may do that",
                )
            missing = reply.status == 404
        if missing:
            self._check_still_there()

    def age(self, kind: ObjectKind, name: str) -> float:
        """Seconds since the object was stored, by the server's clock (Last-Modified and Date).

        A server that does not tell (rclone before 1.61, some others): seconds since this process first asked, which is 0 then. So an age
        is never too high; a lock that only its age could make void stays valid there.
        """
        path = self.path(kind, name)
        self.check_place()
        for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
            with self._request(method, path, (200, 206, 404, 416), headers=headers) as reply:
                self._found(reply, kind, name)
                stored = http_time(reply.headers.get("Last-Modified"))
                if stored is not None:
                    return (http_time(reply.headers.get("Date")) or time.time()) - stored
        now = time.monotonic()
        return now - self._first_seen.setdefault(f"{kind}/{name}", now)

    def sweep(self) -> int:
        """Nothing half-written has a name there: what a server leaves of broken uploads is its own to remove."""
        return 0

    def close(self) -> None:
        """End all connections, those in use too."""
        self._http.close()

    def save_body(self, kind: ObjectKind, name: str, body: BinaryIO, size: int) -> None:
        """Store `size` bytes of a file that can be read again from its start, unless they are there."""
        path = self.path(kind, name)
        self.check_place()
        if self._stored_size(kind, name) == size:
            return
        if not self._post(path, body, size):
            # Some servers refuse to replace an object. If it is another one's, all is well; if it is a broken try, it goes first.
            there = self._stored_size(kind, name)
            if there == size:
                return
            if there is not None:
                self.remove(kind, name)
            if there is None or not self._post(path, body, size):
                raise BackupError(f"{self.label} does not let {kind} be stored", "see what this user may do there")
        self._verify(kind, name, body, size)

    def _post(self, path: str, body: BinaryIO, size: int) -> bool:
        """Send an object; False where the server refuses it."""
        with self._request("POST", path, (*_STORED, *_REFUSED), headers=_BINARY, body=body, size=size) as reply:
            return reply.status in _STORED

    def _verify(self, kind: ObjectKind, name: str, body: BinaryIO, size: int) -> None:
        """Servers do accept cut bodies. Small objects are read back; of large ones the protocol tells no more than the size."""
        try:
            if size <= _READ_BACK:
                body.seek(0)
                same = self.load(kind, name) == body.read(size)
            else:
                same = self.size(kind, name) == size
        except ObjectMissing:
            same = False
        if not same:
            raise Unreachable(
                f"{self.label} did not store what it was sent ({kind} {name[:16]})", "see that the server is well and has room"
            )
        if kind == "config":
            self._opened = True

    def _stored_size(self, kind: ObjectKind, name: str) -> int | None:
        try:
            return self.size(kind, name)
        except ObjectMissing:
            return None

    def path(self, kind: ObjectKind, name: str) -> str:
        """Where an object is below the address. Raises BackupError for what is no name."""
        if kind == "config":
            return "config"
        if kind not in KINDS or not _NAME.fullmatch(name):
            raise BackupError(f"{shown(name)!r} is no name of an object of kind {shown(kind)}")
        return f"{kind}/{name}"

    def _request(
        self,
        method: str,
        path: str,
        expected: Collection[int],
        *,
        headers: dict[str, str] | None = None,
        body: BinaryIO | None = None,
        size: int = 0,
        moved: int = 0,
    ) -> AbstractContextManager[Reply]:
        headers = {**_VERSION_2, **(headers or {})}
        return self.client().request(method, path, expected=expected, headers=headers, body=body, size=size, moved=moved)

    def _found(self, reply: Reply, kind: ObjectKind, name: str) -> None:
        """Raise ObjectMissing for an answer of 404; NoRepository where the whole repository is gone that was there before."""
        if reply.status == 404:
            self._check_still_there()
            raise ObjectMissing(f"there is no {kind} {name[:16]} at {self.label}")

    def check_place(self) -> None:
        """Raise NoRepository where there is none and none is being made: servers would make the folders of whatever is stored."""
        if not self._ready and not self.exists():
            raise self._nothing_there()

    def _check_still_there(self) -> None:
        """Something is not there. Where the config is gone too, nothing may be concluded from that: the server's disk is not mounted."""
        if self._opened and not self.exists():
            raise self._nothing_there()

    def _nothing_there(self) -> NoRepository:
        hint = f"see that the address is right and the server has its disk; a new repository is made by: backup init --repo '{self.label}'"
        return NoRepository(f"there is no repository at {self.label}", hint)


def _is_range(reply: Reply, offset: int) -> bool:
    """Whether a part begins where it was asked for (RFC 9110, section 14.4); without the header the length has to do."""
    text = reply.headers.get("Content-Range")
    return text is None or re.match(rf"bytes {offset}-", text) is not None


class RestDraft:
    """An object growing in a private file without name, in the system's folder for temporary files. It may be committed again."""

    def __init__(self, destination: RestDestination, kind: ObjectKind) -> None:
        self._destination, self._kind = destination, kind

    def __enter__(self) -> Draft:
        self._destination.check_place()
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile("w+b", prefix="backup-")
        except OSError as error:
            raise told(error, tempfile.gettempdir()) from error
        self._size = 0
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        try:
            self._file.write(data)
        except OSError as error:
            raise told(error, tempfile.gettempdir()) from error
        self._size += len(data)

    def commit(self, name: str) -> None:
        """Send it. It is on the server, in its size, when this returns."""
        self._destination.save_body(self._kind, name, cast(BinaryIO, self._file), self._size)
