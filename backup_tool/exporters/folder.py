"""A folder for people that notes are written into: nothing half-written, nothing overwritten, nothing outside it.

Every name here came from outside, and the folder may hold anything already, links that lead elsewhere included. So it is opened once and
walked by handles that refuse links; paths are never joined and opened (but on systems without such handles, where each step is looked at).
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Literal, NamedTuple

from backup_tool.errors import BackupError, Incomplete, IntegrityError, NoSpace, UsageError
from backup_tool.models import Problem
from backup_tool.names import in_bytes, shown

_HANDLES = {os.open, os.mkdir, os.stat, os.link, os.rename, os.unlink} <= os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_OPEN_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
_OPEN_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NO_LINK
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
# A file without a name (open(2), Linux): it gets one when it is whole, and vanishes with the process that did not come so far.
_UNNAMED_FILE = os.O_WRONLY | os.O_TMPFILE | _NO_LINK if hasattr(os, "O_TMPFILE") else 0

_TIME_BY_HANDLE = os.utime in os.supports_fd

_KEPT_OPEN = 128
_DEEPEST = 64
_LONGEST = 255
_TRIES = 1000
_PIECE = 1 << 20
_IN_MEMORY = 16 << 20
_TAGS = 64 << 10
_CHECK = "run 'backup check --read-data' to see all damage"

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
# What a file system says that has no hard links (FAT, some network drives, phones).
_NO_HARD_LINKS = {getattr(errno, name) for name in ("EPERM", "EACCES", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EMLINK") if hasattr(errno, name)}
# What it says to a name that it cannot hold.
_BAD_NAME = {getattr(errno, name) for name in ("ENAMETOOLONG", "EINVAL", "EILSEQ", "ELOOP", "ENOTDIR") if hasattr(errno, name)}
_PART = re.compile(r"\.(\d+)-[0-9a-f]{12}\.part")
_NOT_ON_WINDOWS = re.compile(r'.*[\\:<>"|?*\x00-\x1f].*|.*[. ]|(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?', re.IGNORECASE | re.DOTALL)


class Written(NamedTuple):
    """What became of one file: where it is, and whether it was written, was there already, or got another name than asked for."""

    path: str
    status: Literal["written", "same", "renamed"]


class Refused(Incomplete):
    """One entry cannot be written under its name; others can. `problem` names it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{shown(path)} was not written: {reason}")
        self.problem = Problem(path, reason)


class _Folder:
    """One folder of the target: a handle, which closes when no thread uses it any more; on systems without handles, a path."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str, fd: int | None) -> None:
        self.path, self.fd = path, fd

    def at(self, name: str) -> str:
        """The name as the functions of `os` want it beside `dir_fd=self.fd`."""
        return name if self.fd is not None else os.path.join(self.path, name)

    def close(self) -> None:
        fd, self.fd = self.fd, None if self.fd is None else -1
        if fd is not None and fd >= 0:
            os.close(fd)

    __del__ = close


class TargetFolder:
    """A folder that notes are written into, safe to use from several threads. Use it in a `with` block and call `finish` at the end.

    Made (0700) where it is not there. Raises UsageError where the path is something else, NoSpace, or BackupError where the system says no.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._hard_links = True
        self._folders: OrderedDict[tuple[str, ...], _Folder] = OrderedDict()
        self._touched: set[tuple[str, ...]] = {()}
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Whoever typed this path may well mean a link; below it, none is followed.
            self._root = _Folder(str(path), os.open(path, _OPEN_FOLDER & ~getattr(os, "O_NOFOLLOW", 0)) if _HANDLES else None)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{shown(str(path))} is not a folder", "name a folder with --to DIR") from None
        except OSError as failed:
            raise _translated(failed, str(path)) from failed
        self._sweep(self._root)
        self._unnamed = _UNNAMED_FILE != 0 and self._can_name_later()

    def __enter__(self) -> TargetFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all handles, so that the disk can be taken out. Nothing can be written any more."""
        with self._lock:
            for folder in (*self._folders.values(), self._root):
                folder.close()
            self._folders.clear()

    def require(self, size: int) -> None:
        """Raises NoSpace unless the file system has room for so many bytes."""
        free = shutil.disk_usage(self.path).free
        if free < size:
            raise NoSpace(
                f"{shown(str(self.path))} has {in_bytes(free)} free, and {in_bytes(size)} are to be written",
                "make room, or write to another folder",
            )

    def holds(self, parts: Sequence[str], size: int, sha256: str) -> Written | None:
        """Where a file with these very bytes is under this name (or under one given to it before), or None. Raises Refused."""
        with _errors_of(self._path(parts)):
            try:
                folder, name = self._look_up(parts, make=False)
            except FileNotFoundError:
                return None
            return self._same_already(folder, name, size, sha256)

    def holds_copy(self, parts: Sequence[str], mark: bytes) -> Written | None:
        """Where a file with these bytes among its tags is under this name (or under one given to it before), or None. Raises Refused."""
        with _errors_of(self._path(parts)):
            try:
                folder, name = self._look_up(parts, make=False)
            except FileNotFoundError:
                return None
            for candidate in _candidates(name):
                found = self._entry(folder, candidate)
                if found is None:
                    return None
                if stat.S_ISREG(found.st_mode) and mark in self._ends(folder, candidate):
                    return Written(os.path.join(folder.path, candidate), "same")
            return None

    @contextmanager
    def scratch(self) -> Iterator[IO[bytes]]:
        """A file to work on that never gets a name: in memory while it is small, then in this folder. Raises NoSpace and BackupError."""
        with _errors_of(str(self.path)), SpooledTemporaryFile(_IN_MEMORY, dir=str(self.path)) as file:
            yield file

    def write(
        self,
        parts: Sequence[str],
        chunks: Iterable[bytes],
        *,
        size: int,
        sha256: str | None,
        mtime_ns: int | None,
        overwrite: bool = False,
        verified: bool = False,
        look_first: bool = True,
    ) -> Written:
        """Write one file at `parts` below the target: all of it, or nothing.

        The same bytes already there are left alone, without asking `chunks` for anything where `sha256` (hex) is given. Where other bytes
        are, the file gets the name with " (2)" (or 3, …), or takes their place with `overwrite`. What comes must be `size` bytes with that
        SHA-256; `verified` says that the caller has made sure of it a moment ago. Without `look_first` the caller thinks that the file is
        not there; should it be, it is compared after all. Call `finish` at the end.

        Raises Refused (this entry only), IntegrityError (not the bytes promised), NoSpace, BackupError, and what `chunks` raises (an
        OSError from there counts as the target's). None leaves anything behind.
        """
        with _errors_of(self._path(parts)):
            folder, name = self._look_up(parts)
            if look_first and sha256 is not None and (same := self._same_already(folder, name, size, sha256, overwrite)):
                return same
            with self._new_file(folder) as file:
                written, digest = _fill(file, chunks, size, mtime_ns, sha256 if verified else None)
                if written != size or digest != (sha256 or digest):
                    raise IntegrityError(f"{shown(self._path(parts))} was not written: other bytes came than the catalog promises", _CHECK)
                return self._place(file, name, size, digest, overwrite)

    def finish(self, more: Iterable[Sequence[str]] = ()) -> None:
        """Sync every folder that was written to once, and those in `more` (that another process wrote to). Raises BackupError.

        What is in the files follows when the system writes its cache: waiting for that takes longer than having a restore again.
        """
        with self._lock, _errors_of(str(self.path)):
            for parts in sorted(self._touched | {tuple(parts) for parts in more}):
                if len(parts) >= _DEEPEST or not all(map(_is_clean, parts)):
                    continue  # nothing was written there: it was refused
                with suppress(FileNotFoundError, Refused):
                    _sync_folder(self._folder(parts, make=False))
            self._touched.clear()

    def _path(self, parts: Sequence[str]) -> str:
        """For messages only: nothing is opened by it."""
        return "/".join((str(self.path), *parts))

    # --- folders ----------------------------------------------------------------------------------------------------------------------

    def _look_up(self, parts: Sequence[str], make: bool = True) -> tuple[_Folder, str]:
        """The folder that a name belongs in, and the name itself, both checked."""
        if not parts or len(parts) > _DEEPEST:
            raise Refused(self._path(parts), f"its path has {len(parts)} parts")
        *above, name = parts
        folder = self._folders.get(key := tuple(above))
        for part in [name] if folder else parts:
            if not _is_clean(part):
                raise Refused(self._path(parts), f"{shown(ascii(part), 80)} cannot be a name here")
        return folder or self._folder(key, make), name

    def _folder(self, parts: tuple[str, ...], make: bool = True) -> _Folder:
        if not parts:
            return self._root
        with self._lock:
            found = self._folders.get(parts)
            if found is None:
                found = self._open_folder(self._folder(parts[:-1], make), parts[-1], make)
                if parts not in self._touched:
                    self._sweep(found)
                    self._touched.add(parts)
                self._folders[parts] = found
                if len(self._folders) > _KEPT_OPEN:
                    self._folders.popitem(last=False)
            return found

    def _open_folder(self, parent: _Folder, name: str, make: bool) -> _Folder:
        path = os.path.join(parent.path, name)
        if make:
            with suppress(FileExistsError):
                os.mkdir(parent.at(name), 0o700, dir_fd=parent.fd)
        if parent.fd is not None:
            try:
                return _Folder(path, os.open(name, _OPEN_FOLDER, dir_fd=parent.fd))
            except OSError as failed:
                if failed.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise Refused(path, "a link or a file stands where its folder should be") from None
                raise
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or getattr(found, "st_reparse_tag", False):
            raise Refused(path, "a link or a file stands where its folder should be")
        return _Folder(path, None)

    def _sweep(self, folder: _Folder) -> None:
        """Remove what a killed restore left half-written. What a living process of this machine is writing stays."""
        if os.name != "posix":
            return
        with suppress(OSError):
            for name in os.listdir(folder.fd if folder.fd is not None else folder.path):
                if (match := _PART.fullmatch(name)) and not _is_alive(int(match[1])):
                    os.unlink(folder.at(name), dir_fd=folder.fd)

    # --- files ------------------------------------------------------------------------------------------------------------------------

    def _same_already(self, folder: _Folder, name: str, size: int, sha256: str, overwrite: bool = False) -> Written | None:
        """Where these bytes are under this name, or under one that an earlier restore chose instead."""
        for candidate in _candidates(name):
            found = self._entry(folder, candidate)
            if found is None:
                return None
            if self._is(folder, candidate, found, size, sha256):
                return Written(os.path.join(folder.path, candidate), "same")
            if overwrite:
                return None
        return None

    def _entry(self, folder: _Folder, name: str) -> os.stat_result | None:
        try:
            return os.stat(folder.at(name), dir_fd=folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _is(self, folder: _Folder, name: str, found: os.stat_result, size: int, sha256: str) -> bool:
        """True where the entry is a regular file with these bytes."""
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        try:
            fd = os.open(folder.at(name), _OPEN_FILE, dir_fd=folder.fd)
        except OSError:
            return False
        digest = hashlib.sha256()
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return False
            while data := os.read(fd, _PIECE if size > _PIECE else size + 1):
                digest.update(data)
        finally:
            os.close(fd)
        return digest.hexdigest() == sha256

    def _ends(self, folder: _Folder, name: str) -> bytes:
        """The first and last bytes of a regular file, where tags are; nothing of one that cannot be read."""
        try:
            fd = os.open(folder.at(name), _OPEN_FILE, dir_fd=folder.fd)
        except OSError:
            return b""
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return b""
            start = file.read(_TAGS)
            file.seek(max(found.st_size - _TAGS, len(start)))
            return start + file.read(_TAGS)

    def _can_name_later(self) -> bool:
        """Whether this file system and this system let a file without a name be made, and named afterwards."""
        file = _NewFile(self._root, "")
        try:
            file.fd = os.open(self._root.at("."), _UNNAMED_FILE, 0o600, dir_fd=self._root.fd)
            file.link(trial := _part_name())
            os.unlink(trial, dir_fd=self._root.fd)
        except OSError:
            return False
        else:
            return True
        finally:
            file.close()

    @contextmanager
    def _new_file(self, folder: _Folder) -> Iterator[_NewFile]:
        """An empty file that has no name yet, or a temporary one; when the block ends, nothing is left of it but what was placed."""
        file = _NewFile(folder, "")
        try:
            if self._unnamed:
                with suppress(OSError):  # the folder may be on another file system than the target
                    file.fd = os.open(folder.at("."), _UNNAMED_FILE, 0o600, dir_fd=folder.fd)
            if file.fd < 0:
                file.part = _part_name()
                file.fd = os.open(folder.at(file.part), _NEW_FILE, 0o600, dir_fd=folder.fd)
            yield file
        finally:
            file.close()
            if file.part:
                with suppress(FileNotFoundError):
                    os.unlink(folder.at(file.part), dir_fd=folder.fd)

    def _place(self, file: _NewFile, name: str, size: int, sha256: str, overwrite: bool) -> Written:
        """Give the finished file its name, or leave it where the same bytes have a name already."""
        folder = file.folder
        for candidate in _candidates(name):
            path = os.path.join(folder.path, candidate)
            if self._take(file, candidate):
                return Written(path, "written" if candidate == name else "renamed")
            found = self._entry(folder, candidate)
            if found is not None and self._is(folder, candidate, found, size, sha256):
                return Written(path, "same")
            if overwrite and found is not None and not stat.S_ISDIR(found.st_mode):
                file.replace(candidate)
                return Written(path, "written")
        raise Refused(os.path.join(folder.path, name), f"{_TRIES} other files have this name already")

    def _take(self, file: _NewFile, name: str) -> bool:
        """Give the file a name that is free; False where it is not."""
        folder = file.folder
        if not file.part:
            return file.link(name)
        file.close()
        if _rename_if_free is not None and folder.fd is not None:
            taken = _rename_if_free(folder.fd, file.part, name)
            if taken is not None:
                file.part = "" if taken else file.part
                return taken
        if self._hard_links and _HANDLES:
            # A link fails where the name exists; a rename would replace what another program has just put there.
            try:
                os.link(file.part, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
            except FileExistsError:
                return False
            except OSError as failed:
                if failed.errno not in _NO_HARD_LINKS:
                    raise
                self._hard_links = False
            else:
                return True
        with self._lock:
            if self._entry(folder, name) is not None:
                return False
            file.replace(name)
            return True


class _NewFile:
    """A file being written in a folder: open, under a temporary name (`part`), or under none ("")."""

    __slots__ = ("fd", "folder", "part")

    def __init__(self, folder: _Folder, part: str) -> None:
        self.folder, self.part, self.fd = folder, part, -1

    def link(self, name: str) -> bool:
        """Give a file without a name its first one; False where that exists."""
        try:
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=self.folder.fd, follow_symlinks=True)
        except FileExistsError:
            return False
        return True

    def replace(self, name: str) -> None:
        """Put the file where another is."""
        if not self.part:
            part = _part_name()
            self.link(part)
            self.part = part
        self.close()
        os.replace(self.folder.at(self.part), self.folder.at(name), src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
        self.part = ""

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _part_name() -> str:
    return f".{os.getpid()}-{secrets.token_hex(6)}.part"


def _fill(file: _NewFile, chunks: Iterable[bytes], size: int, mtime_ns: int | None, known: str | None) -> tuple[int, str]:
    """Write the file; how many bytes came (at most one chunk more than `size`), and their SHA-256 (`known`, where given)."""
    digest, written = hashlib.sha256(), 0
    for chunk in chunks:
        if known is None:
            digest.update(chunk)
        written += _write_all(file.fd, chunk)
        if written > size:
            break
    if mtime_ns is not None and _TIME_BY_HANDLE:
        _set_time(file.fd, mtime_ns)
    elif mtime_ns is not None:
        file.close()
        _set_time(file.folder.at(file.part), mtime_ns)
    return written, known or digest.hexdigest()


def _find_rename() -> Callable[[int, str, str], bool | None] | None:
    """Linux's rename that fails where the name exists (rename(2), RENAME_NOREPLACE): half the work of a link and an unlink."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]

    def rename(folder: int, old: str, new: str) -> bool | None:
        """True where it was renamed, False where the name exists, None where this file system cannot."""
        if renameat2(folder, os.fsencode(old), folder, os.fsencode(new), _NO_REPLACE) == 0:
            return True
        code = ctypes.get_errno()
        if code == errno.EEXIST:
            return False
        if code in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
            return None
        raise OSError(code, os.strerror(code), new)

    return rename


_NO_REPLACE = 1
_rename_if_free = _find_rename()


def _is_clean(name: str) -> bool:
    """True for one component that names something inside its folder on this system."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        return False
    if not name.isascii() or len(name) > _LONGEST:
        try:
            if len(os.fsencode(name)) > _LONGEST:
                return False
        except UnicodeEncodeError:
            return False
    return os.name != "nt" or not _NOT_ON_WINDOWS.fullmatch(name)


def _candidates(name: str) -> Iterator[str]:
    """The name, then the name with " (2)", " (3)", … before its suffix, cut where it would become too long."""
    yield name
    stem, suffix = os.path.splitext(name)
    if len(os.fsencode(suffix)) > 20:
        stem, suffix = name, ""
    for number in range(2, _TRIES):
        end = f" ({number}){suffix}"
        while len(os.fsencode(stem + end)) > _LONGEST:
            stem = stem[:-1]
        yield stem + end


def _write_all(fd: int, data: bytes) -> int:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done : done + _PIECE])
    return done


def _set_time(file: int | str, mtime_ns: int) -> None:
    # A file system that cannot hold this time is no reason to withhold the note.
    with suppress(OSError, OverflowError):
        os.utime(file, ns=(mtime_ns, mtime_ns))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _sync_folder(folder: _Folder) -> None:
    if folder.fd is None:
        return
    try:
        os.fsync(folder.fd)
    except OSError as failed:
        if failed.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems do not know how
            raise


@contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """Turn what the system says about an entry into errors that a person can meet."""
    try:
        yield
    except OSError as failed:
        if failed.errno in _BAD_NAME:
            raise Refused(path, _reason(failed)) from None
        raise _translated(failed, path) from failed


def _translated(failed: OSError, path: str) -> BackupError:
    if failed.errno in _FULL:
        return NoSpace(f"no space left to write {shown(path)}", "make room and run the same command again: what is there already is kept")
    return BackupError(f"{shown(path)} cannot be written: {_reason(failed)}", "write to another folder")


def _reason(failed: OSError) -> str:
    return (failed.strerror or str(failed)).lower()
