"""Files on local disks: written whole or not at all, durable before anyone relies on them, private from their first byte.

The order is the one restic and borg keep: a temporary beside the final name, all bytes, fsync, close, rename, fsync of the folder.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from backup_tool.destinations.processes import maker_of, temporary_name, this_process
from backup_tool.errors import BackupError, NoSpace, Unreachable
from backup_tool.names import shown

if sys.platform != "win32":
    import fcntl

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_DIRECT = getattr(os, "O_DIRECT", 0)
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM}
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_SHARE_IS_AWAY = {errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET}
# A temporary that no writer touched for so long (seconds) has none, even where its maker's life cannot be looked up.
ABANDONED = 3600.0


def told(error: OSError, place: str) -> BackupError:
    """The error of ours for an error of the system at a place (any path in or of it)."""
    place, number = shown(place), error.errno
    if number in _FULL:
        return NoSpace(f"no space left at {place}", f"make room: df -h '{place}' shows what is left")
    if number == errno.EROFS:
        return BackupError(f"{place} is mounted read-only", "mount it writable, or use another place with --repo")
    if number in _NOT_ALLOWED:
        return BackupError(f"no permission at {place}", f"see who may write there: ls -ld '{place}'")
    reason = (error.strerror or str(error)).lower()
    if number in _SHARE_IS_AWAY:
        return Unreachable(f"{place} does not answer: {reason}", "see that the disk or share is connected, then run it again")
    return BackupError(f"{place}: {reason}", f"see that the disk is well and connected: ls -l '{place}'")


class NewFile:
    """A file that grows under a temporary name in `folder` until `commit` gives it its own. Raises OSError as the system does.

    Leaving its `with` block without a commit leaves nothing behind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> NewFile:
        self.path = self._folder / temporary_name()
        self.size = 0
        self._open = self._waiting = True
        self.fd = os.open(self.path, _CREATE, 0o600)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.discard()

    def write(self, data: bytes | memoryview) -> None:
        """Append all of it."""
        self.size += len(data)
        done = os.write(self.fd, data)
        if done != len(data):
            self._put(memoryview(data).cast("B")[done:])

    def _put(self, view: memoryview) -> None:
        """The system may take less than it is given: when the disk is nearly full, and never more than 2 GiB at once."""
        while view:
            view = view[os.write(self.fd, view) :]

    def commit(self, path: Path, *, mode: int = 0o600, durable: bool = True) -> None:
        """Give the complete, durable file its name, replacing what was there. The folder is left to be synced: `sync_folder`.

        One that is not `durable` may be torn after a power cut: for what is verified whenever it is read.
        """
        if os.fstat(self.fd).st_size != self.size:
            raise OSError(errno.EIO, "the file does not hold what was written to it")
        if durable:
            sync(self.fd)
        self._open = False
        os.close(self.fd)
        os.replace(self.path, path)
        self._waiting = False
        change_mode(path, mode)

    def discard(self) -> None:
        """Close and remove the temporary, if it still is one. A failed fsync or close is final: nothing of it is used again."""
        if self._open:
            self._open = False
            with suppress(OSError):
                os.close(self.fd)
        if self._waiting:
            self._waiting = False
            with suppress(OSError):
                self.path.unlink()


class LargeFile(NewFile):
    """A `NewFile` of many megabytes, written past the system's cache where it can be: that spares a copy of everything, and the pages that
    others use. Linux wants aligned memory and whole blocks for it (open(2), O_DIRECT): bytes gather in such memory, the rest goes as usual.
    """

    _BLOCK = 2**20

    def __enter__(self) -> LargeFile:
        super().__enter__()
        self._flags = fcntl.fcntl(self.fd, fcntl.F_GETFL) if _DIRECT else 0
        self._direct = bool(_DIRECT)
        self._memory = mmap.mmap(-1, self._BLOCK)
        self._filled = 0
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Append all of it."""
        view = memoryview(data).cast("B")
        self.size += len(view)
        while view:
            taken = min(len(view), self._BLOCK - self._filled)
            self._memory[self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            view = view[taken:]
            if self._filled == self._BLOCK:
                self._write_block()

    def _write_block(self) -> None:
        filled, self._filled = self._filled, 0
        with memoryview(self._memory)[:filled] as block:
            done = self._write_direct(block) if filled == self._BLOCK else 0
            if done < filled:
                if _DIRECT:
                    self._switch(False)
                with block[done:] as rest:
                    self._put(rest)

    def _write_direct(self, block: memoryview) -> int:
        """Write whole blocks past the cache; the number of bytes that went. After the first refusal it is not tried again."""
        if not self._direct or not self._switch(True):
            return 0
        try:
            done = os.write(self.fd, block)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
            done = 0
        self._direct = done == len(block)
        return done

    def _switch(self, direct: bool) -> bool:
        """Past the cache, or through it again; False where this file system knows no other way than its own."""
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETFL, self._flags | _DIRECT if direct else self._flags)
        except OSError:
            self._direct = False
            return False
        return True

    def commit(self, path: Path, *, mode: int = 0o600, durable: bool = True) -> None:
        """As `NewFile.commit`."""
        self._write_block()
        self._memory.close()
        super().commit(path, mode=mode, durable=durable)


def replace_file(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all, 0600, durable when it returns. Raises OSError."""
    with NewFile(path.parent) as file:
        file.write(data)
        file.commit(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a private folder (0700 whatever the umask) and those above it, durably; one that is there stays as it is. Raises OSError."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    make_one_folder(path)
    sync_folder(path.parent)


def make_one_folder(path: Path) -> None:
    """`make_folder` for one folder whose own folder exists, not yet durable."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        change_mode(path, 0o700)


def change_mode(path: Path, mode: int) -> None:
    """chmod as far as the file system knows it (FAT, exFAT and many shares do not)."""
    with suppress(OSError):
        os.chmod(path, mode)


def sync(fd: int) -> None:
    """fsync, down to the medium on macOS. An error is final for the file: the system has dropped what it could not write."""
    if sys.platform == "darwin":  # its fsync leaves bytes in the drive's own cache
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED | {errno.ENOTTY}:
                raise
    os.fsync(fd)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. A file system that cannot (some shares) is left alone; an error of the disk is raised."""
    if sys.platform == "win32":  # there is no handle on a folder
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(fd)


def is_abandoned(name: str, modified: float, now: float) -> bool:
    """True for a temporary of this machine whose maker is gone. `modified` and `now` are seconds since 1970.

    Those of other machines are never touched. Where nobody can say whether the maker lives (it ran in another boot or container), an
    hour without a write decides, since a machine of the same name may be writing to the same share.
    """
    maker = maker_of(name)
    if maker is None or maker.host != this_process().host:
        return False
    alive = maker.is_alive()
    return now - modified > ABANDONED if alive is None else not alive
