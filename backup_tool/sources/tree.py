"""Goes through a folder that other programs, or other people, write to: by handles, never through a link, never blocked by a pipe.

A name can be swapped for a link between the look and the step, so every step opens exactly one name below an open folder.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from backup_tool.models import Problem
from backup_tool.names import path_text
from backup_tool.sources.base import AudioFile, FileChanging, FileUnreadable, Summary

MAX_DEPTH = 64
MAX_SIZE = 2 * 2**30
"""No recording is larger; a sparse giant of a hostile or broken store is."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Reading must not even change when a file was last read; only its owner may ask for that, and only on Linux.
_QUIETLY = getattr(os, "O_NOATIME", 0)


def why(error: OSError) -> str:
    """The reason of a failed step in a person's words."""
    if error.errno == errno.ELOOP:
        return "a symbolic link, which is not followed"
    if error.errno == errno.ENOENT:
        return "gone while the store was read"
    return (error.strerror or str(error)).lower()


def text_of(name: str) -> str:
    r"""A name as the system gives it, as text for a record: undecodable bytes as ``\xNN``."""
    return name if name.isascii() else path_text(os.fsencode(name))


@dataclass(slots=True)
class Folder:
    """One folder of a tree while it is open. Entries are sorted by name; take names out of `folders` to keep the walk out of them."""

    path: str
    """Below the root of the walk, as the system gives names, `/` between parts; empty for the root itself."""
    handle: int
    files: list[os.DirEntry[str]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    specials: list[str] = field(default_factory=list)

    def below(self, name: str) -> str:
        """The path of an entry."""
        return f"{self.path}/{name}" if self.path else name


class Tree:
    """A folder on this machine. The root itself may be reached through links: a person named it."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._files = _FILE | _QUIETLY
        self._local = threading.local()

    def location(self, path: str) -> bytes:
        """Where something of the walk is on this machine."""
        return os.path.join(self.root, os.fsencode(path)) if path else self.root

    def walk(self, path: str, summary: Summary) -> Iterator[Folder]:
        """Every folder from `path` on, sorted, each before those below it. One that cannot be listed is named in the summary."""
        parent, _, name = path.rpartition("/")
        try:
            above = self._open(parent)
        except OSError as error:
            refuse(summary, path, why(error))
            return
        try:
            yield from self._walk(above, name or ".", path, summary, 0)
        finally:
            os.close(above)

    def _walk(self, above: int, name: str, path: str, summary: Summary, depth: int) -> Iterator[Folder]:
        if depth > MAX_DEPTH:
            refuse(summary, path, f"more than {MAX_DEPTH} folders deep")
            return
        try:
            handle = os.open(name, _FOLDER, dir_fd=above)
        except OSError as error:
            refuse(summary, path, why(error))
            return
        try:
            folder = Folder(path, handle)
            try:
                _list(folder)
            except OSError as error:
                refuse(summary, path, why(error))
            yield folder
            for child in folder.folders:
                yield from self._walk(handle, child, folder.below(child), summary, depth + 1)
        finally:
            os.close(handle)

    def _open(self, path: str) -> int:
        """A handle of a folder, step by step from the root."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in path.split("/") if path else ():
            above = handle
            try:
                handle = os.open(part, _FOLDER, dir_fd=above)
            finally:
                os.close(above)
        return handle

    def open_file(self, location: bytes) -> int:
        """A handle for reading a file of this tree: an ordinary file when it was opened, reached through no link. Raises FileUnreadable."""
        folder, _, name = location.rpartition(b"/")
        try:
            handle = self._open_name(name, self._folder(folder))
        except OSError as error:
            raise FileUnreadable(why(error)) from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise FileUnreadable("not an ordinary file")
        return handle

    def _open_name(self, name: bytes, folder: _Handle) -> int:
        try:
            return os.open(name, self._files, dir_fd=folder.number)
        except PermissionError as error:
            if error.errno != errno.EPERM or self._files == _FILE:
                raise
            self._files = _FILE
            return os.open(name, _FILE, dir_fd=folder.number)

    def _folder(self, location: bytes) -> _Handle:
        """The handle of a folder. Each thread keeps the last one it used: files come folder by folder."""
        held: _Handle | None = getattr(self._local, "held", None)
        if held is None or held.location != location:
            path = os.fsdecode(location[len(self.root) :].strip(b"/"))
            below = location == self.root or location.startswith(self.root.rstrip(b"/") + b"/")
            if not below or ".." in path.split("/"):
                raise FileUnreadable("not a file of this source")
            held = self._local.held = _Handle(location, self._open(path))
        return held

    def read(self, file: AudioFile, piece: int) -> Iterator[bytes]:
        """The file's bytes as `Source.read` promises them: exactly as many as the file was long when it was listed, or an error."""
        handle = self.open_file(file.location)
        try:
            before = os.fstat(handle)
            if (before.st_size, before.st_mtime_ns) != (file.size, file.mtime_ns):
                raise FileChanging("written to since it was listed")
            left = before.st_size
            while left:
                wanted = piece if left > piece else left
                data = os.read(handle, wanted)
                if len(data) < wanted:
                    data = _fill(handle, data, wanted)
                left -= wanted
                yield data
            after = os.fstat(handle)
            if _state(before) != _state(after):
                raise FileChanging("written to while it was read")
        except OSError as error:
            raise FileUnreadable(why(error)) from None
        finally:
            os.close(handle)

    def head(self, path: str, length: int) -> bytes:
        """The first bytes of a file. Raises FileUnreadable."""
        handle = self.open_file(self.location(path))
        try:
            return os.read(handle, length)
        except OSError as error:
            raise FileUnreadable(why(error)) from None
        finally:
            os.close(handle)


class _Handle:
    """An open folder, closed when nobody holds it any more."""

    __slots__ = ("location", "number")

    def __init__(self, location: bytes, number: int) -> None:
        self.location = location
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


def _state(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _fill(handle: int, data: bytes, wanted: int) -> bytes:
    """The rest of a piece that came short: network file systems do that."""
    parts, got = [data], len(data)
    while got < wanted:
        more = os.read(handle, wanted - got)
        if not more:
            raise FileChanging("became shorter while it was read")
        parts.append(more)
        got += len(more)
    return b"".join(parts)


def _list(folder: Folder) -> None:
    with os.scandir(folder.handle) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                folder.files.append(entry)
            elif entry.is_dir(follow_symlinks=False):
                folder.folders.append(entry.name)
            elif entry.is_symlink():
                folder.links.append(entry.name)
            else:
                folder.specials.append(entry.name)
    folder.files.sort(key=_name)
    folder.folders.sort()
    folder.links.sort()
    folder.specials.sort()


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def refuse(summary: Summary, path: str, reason: str) -> None:
    """Name something that is there and cannot be read. What is on record of it, or below it, stays as it is."""
    text = text_of(path)
    summary.problems.append(Problem(text or ".", reason))
    summary.unreadable_folders.append(text)
