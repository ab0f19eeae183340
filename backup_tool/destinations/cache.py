"""A destination that keeps copies on this machine of what is read again and again: wraps any other one.

Kept are whole index files and snapshots, and whole packs below 4 MiB (the repository reads those of catalogs and trees in one piece, and no
recording ever), all of them encrypted as they came, in

    <folder>/<SHA-256 of the repository's config file>/{index,snapshots,data}/<name>

so that all destinations that hold the same repository share them. What is there is never believed: an object is named by the SHA-256 of its
bytes, and one whose bytes do not match is thrown away and fetched again. Nor does it hide anything: listings, sizes, keys, locks and the
config always come from the destination. The folder may be removed at any time, and several processes may use it at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from backup_tool.destinations.base import Destination, Draft, ObjectKind
from backup_tool.destinations.files import NewFile, is_abandoned, make_folder, told
from backup_tool.errors import BadRange, ObjectMissing

SMALL_PACK = 4 * 2**20
"""Packs of catalogs and trees below this size are read whole, and kept; in bytes."""
LIMIT = 2**30
"""How much is kept in all, in bytes."""
_KEPT: frozenset[ObjectKind] = frozenset(["index", "snapshots", "data"])
_LARGEST = 128 * 2**20
# Seconds. What a listing does not name is removed, unless it was used just now: another process may know a newer listing, or another copy.
_JUST_NOW = 3600.0
_UNUSED = 90 * 86_400.0
_TIDY_EVERY = 64 * 2**20
# The Cache Directory Tagging Specification (https://bford.info/cachedir/): programs that archive folders leave out such a one.
_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n# Encrypted copies of parts of archives, made by backup. May be removed at any time.\n"
)


class Cache:
    """Looks on this machine first. A folder that cannot be written only costs time: said once to `tell`, and then left as it is.

    `limit` is for all that is kept in `folder`, of every repository: what was not used for longest goes first.
    """

    def __init__(
        self,
        inner: Destination,
        folder: Path,
        *,
        limit: int = LIMIT,
        tell: Callable[[str], None] = lambda text: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.inner = inner
        self.label = inner.label
        self._folder, self._limit, self._tell, self._now = folder, limit, tell, now
        self._home: Path | None = None
        self._unwritable = False
        self._untidy = 0
        self._lock = threading.Lock()

    def create(self) -> None:
        """As the destination's."""
        self.inner.create()

    def exists(self) -> bool:
        """As the destination's."""
        return self.inner.exists()

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """As the destination's; then kept."""
        self.inner.save(kind, name, data)
        if kind in ("index", "snapshots"):
            self._keep(kind, name, data)

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """As the destination's."""
        self.inner.save_file(kind, name, path)

    def draft(self, kind: ObjectKind) -> AbstractContextManager[Draft]:
        """As the destination's."""
        return self.inner.draft(kind)

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """As the destination's, but for what is kept here. Other parts of a pack than the whole always come from the destination."""
        if not self._may_keep(kind, offset, length):
            data = self.inner.load(kind, name, offset, length)
            if kind == "config" and offset == 0 and length is None:
                self._home = self._folder / hashlib.sha256(data).hexdigest()
            return data
        kept = self._kept(kind, name, length)
        if kept is not None:
            return kept
        data = self.inner.load(kind, name, offset, length)
        self._keep(kind, name, data)
        return data

    def size(self, kind: ObjectKind, name: str) -> int:
        """As the destination's."""
        return self.inner.size(kind, name)

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """As the destination's. Once it is complete, what it does not name is no longer kept."""
        names = set()
        for name, size in self.inner.list(kind):
            names.add(name)
            yield name, size
        if kind in _KEPT:
            self._forget_all_but(kind, names)

    def remove(self, kind: ObjectKind, name: str) -> None:
        """As the destination's; and no longer kept."""
        if kind in _KEPT and (path := self._path(kind, name)) is not None:
            self._guarded(lambda: path.unlink(missing_ok=True))
        self.inner.remove(kind, name)

    def age(self, kind: ObjectKind, name: str) -> float:
        """As the destination's."""
        return self.inner.age(kind, name)

    def sweep(self) -> int:
        """As the destination's."""
        return self.inner.sweep()

    def close(self) -> None:
        """Close the destination, and keep within the limit."""
        self.inner.close()
        if self._untidy and not self._unwritable:
            self._guarded(self._tidy)

    # What is kept

    def _may_keep(self, kind: ObjectKind, offset: int, length: int | None) -> bool:
        if self._home is None or kind not in _KEPT or offset != 0:
            return False
        return length is not None and 0 < length < SMALL_PACK if kind == "data" else length is None

    def _path(self, kind: ObjectKind, name: str) -> Path | None:
        return None if self._home is None or not _is_name(name) else self._home / kind / name

    def _kept(self, kind: ObjectKind, name: str, length: int | None) -> bytes | None:
        """The object, if it is here whole. One that is torn or was changed is removed."""
        path = self._path(kind, name)
        if path is None:
            return None
        data = self._guarded(lambda: _read(path, length))
        if data is not None and hmac.compare_digest(hashlib.sha256(data).hexdigest(), name):
            self._used(path)
            return data
        if not self._unwritable:
            self._guarded(lambda: path.unlink(missing_ok=True))
        return None

    def _used(self, path: Path) -> None:
        with suppress(OSError):  # on a read-only disk nothing has to give way
            os.utime(path, (self._now(), self._now()))

    def _keep(self, kind: ObjectKind, name: str, data: bytes) -> None:
        path = self._path(kind, name)
        if path is None or self._unwritable or not 0 < len(data) <= _LARGEST or hashlib.sha256(data).hexdigest() != name:
            return
        self._guarded(lambda: self._write(path, data))
        with self._lock:
            self._untidy += len(data)
            tidy = self._untidy >= _TIDY_EVERY
        if tidy:
            self._guarded(self._tidy)

    def _write(self, path: Path, data: bytes) -> None:
        if not path.parent.is_dir():
            make_folder(path.parent)
            _write_tag(self._folder)
        with NewFile(path.parent) as file:
            file.write(data)
            # Not worth a wait for the disk: what a power cut tears is seen when it is read.
            file.commit(path, durable=False)
        self._used(path)

    def _forget_all_but(self, kind: ObjectKind, names: set[str]) -> None:
        if self._home is not None and not self._unwritable:
            folder = self._home / kind
            self._guarded(
                lambda: _remove(path for path, _, used in _files(folder) if path.name not in names and self._old(used, _JUST_NOW))
            )

    def _old(self, used: float, seconds: float) -> bool:
        return self._now() - used > seconds

    def _tidy(self) -> None:
        """Remove what dead processes left half-written, what was not used for 90 days, and, above the limit, what was not for longest."""
        with self._lock:
            self._untidy = 0
            homes = [home for home in self._folder.iterdir() if _is_name(home.name)]
            folders = [home / kind for home in homes for kind in _KEPT]
            found = sorted((file for folder in folders for file in _files(folder)), key=lambda file: file[2], reverse=True)
            total, going = 0, []
            for path, size, used in found:
                total += size
                if (total > self._limit or self._old(used, _UNUSED)) if _is_name(path.name) else is_abandoned(path.name, used, self._now()):
                    going.append(path)
            _remove(going)
            for folder in [*folders, *homes]:
                with suppress(OSError):  # all but the empty ones
                    folder.rmdir()

    def _guarded(self, work: Callable[[], bytes | None]) -> bytes | None:
        """Do it. What goes wrong with the folder is said once, and nothing more is written there; what is gone was removed by others."""
        try:
            return work()
        except FileNotFoundError:
            return None
        except OSError as error:
            with self._lock:
                first, self._unwritable = not self._unwritable, True
            if first:
                self._tell(f"copies of index and catalogs cannot be kept on this machine: {told(error, str(self._folder)).message}")
            return None


class Kept:
    """What is kept of one repository, by itself: for a run that reaches no place. `config` are the bytes of its config file."""

    label = "this machine"

    def __init__(self, folder: Path, config: bytes) -> None:
        self._home = folder / hashlib.sha256(config).hexdigest()

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """(name, size) of what is kept of a kind; nothing of most kinds."""
        return ((path.name, size) for path, size, _ in _files(self._home / kind) if _is_name(path.name))

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes, of an object that is here whole. Raises ObjectMissing, BadRange."""
        data = None
        with suppress(OSError):
            data = _read(self._home / kind / name, None)
        if data is None or hashlib.sha256(data).hexdigest() != name:
            raise ObjectMissing(f"there is no {kind} {name[:16]} on this machine")
        end = len(data) if length is None else offset + length
        if not 0 <= offset <= end <= len(data):
            raise BadRange(f"bytes {offset} to {end} of {kind} {name[:16]}, which has {len(data)}")
        return data[offset:end]

    def keep(self, kind: ObjectKind, name: str, path: Path) -> None:
        """Keep a copy of a file. Where that does not work, nothing is lost but time."""
        with suppress(OSError):
            make_folder(self._home / kind)
            with NewFile(self._home / kind) as copy:
                copy.write(path.read_bytes())
                copy.commit(self._home / kind / name, durable=False)


def _is_name(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def _read(path: Path, length: int | None) -> bytes | None:
    """A plain file's bytes; None where it is none, too large, or not as long as it should be."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST or length not in (None, found.st_size):
            return None
        return file.read(_LARGEST)


def _files(folder: Path) -> Iterator[tuple[Path, int, float]]:
    """(path, size, seconds since 1970 of the last use) of what is in a folder."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process was faster
                found = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    yield Path(entry.path), found.st_size, found.st_mtime


def _remove(paths: Iterator[Path] | list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _write_tag(folder: Path) -> None:
    tag = folder / "CACHEDIR.TAG"
    if not tag.exists():
        with NewFile(folder) as file:
            file.write(_TAG)
            file.commit(tag, durable=False)
