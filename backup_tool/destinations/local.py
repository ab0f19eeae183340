"""A destination that is a folder: on this machine's disk, a USB disk or a mounted share. Laid out as restic's design document says.

In a folder that iCloud Drive keeps, objects that the Mac has taken off its disk count as there: looking for one, and listing, need names
and sizes only; reading brings it back.

An object is written under a temporary name and renamed when it is complete and durable; objects of kind data grow in ``data/`` itself,
where restic passes over what is no folder, because their own folder follows from a name that is known only at the end.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from backup_tool.destinations.base import KINDS, Draft, ObjectKind
from backup_tool.destinations.evicted import away, bring_back, is_away, name_behind, placeholder, size_behind
from backup_tool.destinations.files import LargeFile, NewFile, change_mode, is_abandoned, make_folder, make_one_folder, sync_folder, told
from backup_tool.errors import BackupError, BadRange, NoRepository, ObjectMissing
from backup_tool.names import shown

_NAME = re.compile(r"[0-9a-f]{64}")
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR}
_PIECE = 2**20
# O_NONBLOCK: opening a pipe that somebody put in an object's place must not wait for its writer.
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_READ_ONLY = 0o400 if os.name != "nt" else 0o600  # Windows would refuse to rename over it and to delete it
# What a power cut may undo without harm: a lock goes stale, a pack that comes back is waste. An index that came back would name packs
# that are gone.
_MAY_COME_BACK = ("locks", "data")


class LocalDestination:
    """The folder `path`. It is never made but by `create`: where a disk is not mounted, nothing is written into the bare folder."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.expanduser(path)).absolute()
        self.label = shown(os.fspath(path))
        self._opened = False

    def create(self) -> None:
        """Make the folder and all of restic's folders in it, 0700."""
        with self._errors():
            make_folder(self.path)
            for kind in KINDS[1:]:
                make_one_folder(self.path / kind)
            for number in range(256):
                make_one_folder(self.path / "data" / f"{number:02x}")
            sync_folder(self.path / "data")
            sync_folder(self.path)

    def exists(self) -> bool:
        """True where the file `config` is. A folder that may not be looked into raises."""
        with self._errors():
            try:
                found = stat.S_ISREG((self.path / "config").stat().st_mode)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                found = is_away(self.path / "config")
        self._opened = self._opened or found
        return found

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """Store the bytes under the name, durable when it returns."""
        self._path(kind, name)
        if not self._is_stored(kind, name, len(data)):
            with self.draft(kind) as draft:
                draft.write(data)
                draft.commit(name)

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """`save` from a local file, a mebibyte at a time. Raises OSError where that file cannot be read."""
        self._path(kind, name)
        with path.open("rb", buffering=0) as source:
            if self._is_stored(kind, name, os.fstat(source.fileno()).st_size):
                return
            with self.draft(kind) as draft:
                while data := source.read(_PIECE):
                    draft.write(data)
                draft.commit(name)

    def replace(self, kind: ObjectKind, name: str, path: Path) -> None:
        """`save_file`, whatever is stored under the name already: the old bytes are there until the new ones are."""
        self._path(kind, name)
        draft = LocalDraft(self, kind)
        with path.open("rb", buffering=0) as source, draft:
            while data := source.read(_PIECE):
                draft.write(data)
            draft.commit(name, replace=True)

    def draft(self, kind: ObjectKind) -> LocalDraft:
        """An object whose name is known only at its end."""
        return LocalDraft(self, kind)

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes, or exactly `length` of them from `offset`."""
        path = self._path(kind, name)
        if offset < 0 or (length is not None and length < 0):
            raise BadRange(f"bytes {offset} + {length} of {kind} {name[:16]}")
        with self._errors(kind, name):
            fd = self._opened_for_reading(path)
            try:
                size = self._checked(os.fstat(fd), kind, name)
                end = size if length is None else offset + length
                if max(offset, end) > size:
                    raise BadRange(f"bytes {offset} to {end} of {kind} {name[:16]}, which has {size}")
                data = _read(fd, offset, end - offset)
            finally:
                os.close(fd)
        if len(data) != end - offset:
            raise BadRange(f"{kind} {name[:16]} became shorter while it was read")
        return data

    def _opened_for_reading(self, path: Path) -> int:
        try:
            fd = os.open(path, _READ)
        except FileNotFoundError:
            if not is_away(path):
                raise
            bring_back(path)
            return os.open(path, _READ)
        if getattr(os.fstat(fd), "st_flags", 0) and is_away(path):
            os.close(fd)
            bring_back(path)
            return os.open(path, _READ)
        return fd

    def size(self, kind: ObjectKind, name: str) -> int:
        """The stored size in bytes."""
        path = self._path(kind, name)
        with self._errors(kind, name):
            try:
                return self._checked(path.stat(), kind, name)
            except FileNotFoundError:
                if not placeholder(path).is_file():
                    raise
                return size_behind(placeholder(path))

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """All (name, size) of a kind; foreign files and temporaries are passed over."""
        if kind == "config":
            if self.exists():
                yield "config", self.size("config", "config")
        elif kind == "data":
            for name, _ in self._entries(self.path / "data", folders=True):
                if re.fullmatch(r"[0-9a-f]{2}", name):
                    yield from (item for item in self._objects(self.path / "data" / name) if item[0][:2] == name)
        else:
            yield from self._objects(self.path / kind)

    def remove(self, kind: ObjectKind, name: str) -> None:
        """Remove an object; one that is not there counts as removed."""
        path = self._path(kind, name)
        with self._errors():
            try:
                with suppress(FileNotFoundError):
                    placeholder(path).unlink()
                _unlink(path)
                if kind not in _MAY_COME_BACK:
                    sync_folder(path.parent)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                self._check_place()

    def age(self, kind: ObjectKind, name: str) -> float:
        """Seconds since the object was stored, by the file's time and this machine's clock; below zero where that time is ahead."""
        return time.time() - self._stat(kind, name).st_mtime

    def sweep(self) -> int:
        """Remove the temporaries of runs of this machine that died; those of living ones and of other machines stay.

        One that cannot be removed stays too: it harms nothing, and is no reason to stop.
        """
        removed = 0
        for folder in (self.path, *(self.path / kind for kind in KINDS[1:])):
            for name, found in self._entries(folder):
                if is_abandoned(name, found.st_mtime, time.time()):
                    with suppress(OSError):
                        (folder / name).unlink()
                        removed += 1
        return removed

    def close(self) -> None:
        """Nothing is held open."""

    def file_of(self, kind: ObjectKind, name: str) -> Path:
        """Where an object is, or would be, as a file."""
        return self._path(kind, name)

    def _path(self, kind: ObjectKind, name: str) -> Path:
        if kind == "config":
            return self.path / "config"
        if kind not in KINDS or not _NAME.fullmatch(name):
            raise BackupError(f"{shown(name)!r} is no name of an object of kind {shown(kind)}")
        return self.path / kind / name[:2] / name if kind == "data" else self.path / kind / name

    def _is_stored(self, kind: ObjectKind, name: str, size: int) -> bool:
        """Whether an object of that size is there. Its folder is synced: whoever made it may have died before doing so."""
        try:
            if self.size(kind, name) != size:
                return False
        except ObjectMissing:
            return False
        with self._errors():
            sync_folder(self._path(kind, name).parent)
        return True

    def _stat(self, kind: ObjectKind, name: str) -> os.stat_result:
        path = self._path(kind, name)
        with self._errors(kind, name):
            try:
                return path.stat()
            except FileNotFoundError:
                return placeholder(path).stat()

    def _checked(self, found: os.stat_result, kind: ObjectKind, name: str) -> int:
        """The size of a regular file; anything else in an object's place is none."""
        if not stat.S_ISREG(found.st_mode):
            raise ObjectMissing(f"{kind} {name[:16]} at {self.label} is not a file")
        self._opened = self._opened or kind == "config"
        return found.st_size

    def _objects(self, folder: Path) -> Iterator[tuple[str, int]]:
        for name, found in self._entries(folder):
            if _NAME.fullmatch(name):
                yield name, found.st_size
            elif (behind := name_behind(name)) is not None and _NAME.fullmatch(behind):
                with self._errors(), suppress(FileNotFoundError):  # brought back, or removed, meanwhile
                    yield behind, size_behind(folder / name)

    def _entries(self, folder: Path, *, folders: bool = False) -> Iterator[tuple[str, os.stat_result]]:
        """Regular files in a folder (or the folders in it) with what the system says of each; a folder that is not there holds none."""
        wanted = stat.S_ISDIR if folders else stat.S_ISREG
        with self._errors():
            try:
                entries = os.scandir(folder)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                self._check_place()
                return
            with entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # removed by another run meanwhile
                        found = entry.stat()
                        if wanted(found.st_mode):
                            yield entry.name, found

    def _check_place(self) -> None:
        """Something is not there: raises NoRepository where the whole place is not, for then nothing may be concluded from it.

        A folder without config is one that `create` is still to fill, until a config has been seen in it: then the disk was unmounted.
        """
        if not os.path.isdir(self.path) or (
            self._opened and not os.path.isfile(self.path / "config") and not is_away(self.path / "config")
        ):
            hint = f"see that its disk or share is mounted; a new repository is made by: backup init --repo '{self.label}'"
            raise NoRepository(f"there is no repository at {self.label}", hint)

    @contextmanager
    def _errors(self, kind: ObjectKind | None = None, name: str = "") -> Iterator[None]:
        """The system's errors as ours; of a named object, "no such file" means that it is missing."""
        try:
            yield
        except OSError as error:
            if error.errno in _NOT_THERE:
                self._check_place()
                if kind is not None:
                    raise ObjectMissing(f"there is no {kind} {name[:16]} at {self.label}") from error
            if error.errno == errno.EDEADLK:  # what macOS says where a program without a window would have to wait for iCloud
                raise away(self.path if kind is None else self._path(kind, name)) from error
            if error.errno in (errno.EPERM, errno.EACCES) and "Mobile Documents" in self.path.parts:
                hint = "on the Mac, System Settings, Privacy & Security, Full Disk Access: allow the terminal, or cron"
                raise BackupError(f"macOS does not let this program into {self.label}", hint) from error
            if error.errno == errno.EIO and kind is not None:
                hint = "its disk fails: copy the archive to another one ('cp -a' goes on after such files), then there: backup repair"
                raise BackupError(f"{shown(str(self._path(kind, name)), 400)} cannot be read: input/output error", hint) from error
            raise told(error, self.label) from error


class LocalDraft:
    """An object growing in a temporary file beside its final place."""

    def __init__(self, destination: LocalDestination, kind: ObjectKind) -> None:
        self._destination = destination
        self._kind = kind
        self._folder = destination.path if kind == "config" else destination.path / kind
        self._file = LargeFile(self._folder) if kind == "data" else NewFile(self._folder)

    def __enter__(self) -> Draft:
        with self._destination._errors():
            try:
                self._file.__enter__()
            except FileNotFoundError:
                self._destination._check_place()
                make_one_folder(self._folder)
                sync_folder(self._folder.parent)
                self._file.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.discard()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        try:
            self._file.write(data)
        except OSError as error:
            raise told(error, self._destination.label) from error

    def commit(self, name: str, *, replace: bool = False) -> None:
        """Sync it, give it its name, and sync that name. One of that name and size is kept (unless `replace`), of another size replaced."""
        path = self._destination._path(self._kind, name)
        if not replace and self._destination._is_stored(self._kind, name, self._file.size):
            self._file.discard()
            return
        with self._destination._errors():
            if not path.parent.is_dir():
                self._destination._check_place()
                make_one_folder(path.parent)
                sync_folder(path.parent.parent)
            self._file.commit(path, mode=_READ_ONLY)
            sync_folder(path.parent)


def _read(fd: int, offset: int, length: int) -> bytes:
    """Up to `length` bytes from `offset`; fewer only at the end of the file."""
    os.lseek(fd, offset, os.SEEK_SET)
    data = os.read(fd, length)
    if len(data) in (length, 0):
        return data
    pieces = [data]
    while (missing := length - sum(map(len, pieces))) and (data := os.read(fd, missing)):
        pieces.append(data)
    return b"".join(pieces)


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except PermissionError:  # some shares refuse to delete a read-only file
        change_mode(path, 0o600)
        path.unlink()
