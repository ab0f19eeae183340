"""What destinations behind a server have in common, whatever is spoken there: restic's REST protocol, or S3.

Servers differ, and some lie: a range past the end may be answered with nothing, an existing object may be refused or overwritten, a cut
body may be stored under its name. So every length is compared, and what was stored is looked at before it counts as stored.
"""

from __future__ import annotations

import io
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from backup_tool.destinations.base import KINDS, ObjectKind
from backup_tool.destinations.drafts import StagedDraft
from backup_tool.destinations.http import Reply, http_time
from backup_tool.errors import BackupError, BadRange, NoRepository, ObjectMissing, Unreachable
from backup_tool.names import shown

_NAME = re.compile(r"[0-9a-f]{64}")
_MAX_OBJECT = 256 * 2**20
"""A pack is at most 128 MiB and one blob."""
_READ_BACK = 2**20
"""Up to this size what was stored is compared byte for byte, for one request as good as asking its size."""


class RemoteDestination(ABC):
    """The repository at a server. Nothing is asked of it before the first operation."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._ready = self._opened = False
        self._first_seen: dict[str, float] = {}

    @abstractmethod
    def request(
        self,
        method: str,
        path: str,
        expected: Collection[int],
        *,
        headers: Mapping[str, str] | None = None,
        moved: int = 0,
    ) -> AbstractContextManager[Reply]:
        """Ask for `path` below the repository's address, as `HttpClient.request`."""

    @abstractmethod
    def listing(self, kind: ObjectKind) -> list[tuple[str, int | None]]:
        """Each name of a kind (or of what else is there) once, and the size where the server tells it."""

    @abstractmethod
    def send(self, path: str, body: BinaryIO, size: int, *, replace: bool) -> bool:
        """Store the whole of `body`; `replace` what is there. False where the server refuses it."""

    @abstractmethod
    def create(self) -> None:
        """Make the place ready for a new repository."""

    @abstractmethod
    def remove(self, kind: ObjectKind, name: str) -> None:
        """Remove an object."""

    @abstractmethod
    def close(self) -> None:
        """End all connections, those in use too."""

    def exists(self) -> bool:
        """True where the server has a config."""
        with self.request("HEAD", "config", (200, 404)) as reply:
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

    def draft(self, kind: ObjectKind) -> StagedDraft:
        """An object whose name is known only at its end; until then it is a nameless file on this machine."""
        return StagedDraft(self, kind)

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes, or exactly `length` of them from `offset`. Whole objects up to 256 MiB."""
        path = self.path(kind, name)
        self.check_place()
        if offset < 0 or (length is not None and length < 0):
            raise BadRange(f"bytes {offset} + {length} of {kind} {name[:16]}")
        if offset == 0 and length is None:
            with self.request("GET", path, (200, 404)) as reply:
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
        with self.request("GET", self.path(kind, name), (200, 206, 404, 416), headers=asked, moved=length) as reply:
            self._found(reply, kind, name)
            if reply.status == 200 and "Content-Range" not in reply.headers:  # the server knows no ranges and sends everything
                data = reply.read(length, skip=offset, cut=True)
            elif reply.status in (200, 206) and _is_range(reply, offset):  # some say 200 of a part: rclone's S3 server
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
        with self.request("HEAD", path, (200, 404)) as reply:
            self._found(reply, kind, name)
        if reply.length is None:
            raise BackupError(
                f"{self.label} does not say how large {kind} {name[:16]} is", "see that this is the address of the right server"
            )
        return reply.length

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """All (name, size) of a kind; where the server tells no sizes, each is asked for."""
        self.check_place()
        if kind == "config":
            if self.exists():
                yield "config", self.size("config", "config")
            return
        listed = self.listing(kind)
        if not listed and kind != "locks":
            self._check_still_there()
        for name, size in listed:
            if not _NAME.fullmatch(name):
                continue
            try:
                yield name, self.size(kind, name) if size is None else size
            except ObjectMissing:  # removed by another run meanwhile
                continue

    def age(self, kind: ObjectKind, name: str) -> float:
        """Seconds since the object was stored, by the server's clock (Last-Modified and Date).

        A server that does not tell (rclone before 1.61, some others): seconds since this process first asked, which is 0 then. So an age
        is never too high; a lock that only its age could make void stays valid there.
        """
        path = self.path(kind, name)
        self.check_place()
        for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
            with self.request(method, path, (200, 206, 404, 416), headers=headers) as reply:
                self._found(reply, kind, name)
                stored = http_time(reply.headers.get("Last-Modified"))
                if stored is not None:
                    return (http_time(reply.headers.get("Date")) or time.time()) - stored
        now = time.monotonic()
        return now - self._first_seen.setdefault(f"{kind}/{name}", now)

    def sweep(self) -> int:
        """Nothing half-written has a name there: what a server leaves of broken uploads is its own to remove."""
        return 0

    def save_body(self, kind: ObjectKind, name: str, body: BinaryIO, size: int) -> None:
        """Store `size` bytes of a file that can be read again from its start, unless they are there."""
        path = self.path(kind, name)
        self.check_place()
        there = self._stored_size(kind, name)
        if there == size:
            return
        if not self.send(path, body, size, replace=there is not None):
            # Some servers refuse to replace an object. If it is another one's, all is well; if it is a broken try, it goes first.
            there = self._stored_size(kind, name)
            if there == size:
                return
            if there is not None:
                self.remove(kind, name)
            if there is None or not self.send(path, body, size, replace=True):
                raise BackupError(f"{self.label} does not let {kind} be stored", "see what this user may do there")
        self._verify(kind, name, body, size)

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
