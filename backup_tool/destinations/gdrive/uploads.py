"""Uploads that survive: each object has a reserved id before its first byte leaves, so that no repetition makes a second one, and a journal
in the destination's own folder, so that the next run goes on where a killed one stopped.

home/uploads/KIND-NAME.json      the journal: id, size, SHA-256, and the address of the upload, which is a secret
home/uploads/KIND-NAME.bytes     the object itself, where nobody else keeps it: a pack that was still on its way

An upload is resumed only for the same bytes by their SHA-256, and what arrived is compared by the SHA-256 that Drive computed itself.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.files import is_abandoned, make_folder, replace_file, sync, sync_folder, told
from backup_tool.destinations.gdrive.api import Drive, File
from backup_tool.destinations.gdrive.faults import AGAIN, RateLimited, Stale, Taken, Who, day_is_over
from backup_tool.destinations.processes import temporary_name
from backup_tool.errors import BackupError, Unreachable

SMALL = 2**20
"""Bytes up to which an object is stored in one request."""
CHUNK = 8 * 2**20
"""Bytes of one part of a larger one: a multiple of 256 KiB (Drive API, "Upload file data"). So much is sent again at most."""
PIECE = 2**20
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_MOST_FRUITLESS = 5
_MOST_SESSIONS = 5
_MOST_WRONG = 2
_KEPT_SECONDS = 6 * 86_400.0
"""An upload can be resumed for a week."""


class Entry(msgspec.Struct):
    """The journal of one upload. `maker` tells which process it belongs to; `began` is in seconds since 1970."""

    kind: ObjectKind
    name: str
    id: str
    size: int
    sha256: str
    maker: str
    began: float
    session: str | None = None


class Journal:
    """The folder of unfinished uploads; without one (None) nothing outlives the process."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def find(self, kind: ObjectKind, name: str, size: int, sha256: str) -> Entry | None:
        """An unfinished upload of the same bytes, unless it is too old to be resumed."""
        if self.folder is None:
            return None
        entry = _read(self._path(kind, name))
        fits = entry is not None and (entry.size, entry.sha256) == (size, sha256) and time.time() - entry.began < _KEPT_SECONDS
        return entry if fits else None

    def keep(self, entry: Entry) -> None:
        """Write it down, durably, before what it says is done."""
        if self.folder is None:
            return
        try:
            make_folder(self.folder)
            replace_file(self._path(entry.kind, entry.name), msgspec.json.encode(entry))
        except OSError as error:
            raise told(error, str(self.folder)) from error

    def drop(self, kind: ObjectKind, name: str) -> None:
        """It is done. Last of all: until here everything can be repeated."""
        if self.folder is not None:
            for path in (self.bytes_of(kind, name), self._path(kind, name)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def bytes_of(self, kind: ObjectKind, name: str) -> Path:
        """Where the bytes of an upload wait that nobody else keeps."""
        assert self.folder is not None
        return self.folder / f"{kind}-{name}.bytes"

    def _path(self, kind: ObjectKind, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{kind}-{name}.json"

    def left_behind(self) -> tuple[list[Entry], list[Path]]:
        """What dead runs of this machine left: uploads to finish, and files of no further use."""
        if self.folder is None or not self.folder.is_dir():
            return [], []
        unfinished: list[Entry] = []
        useless: list[Path] = []
        now = time.time()
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith("tmp."):
                if is_abandoned(path.name, _modified(path), now):
                    useless.append(path)
                continue
            if path.suffix != ".json":
                if not path.with_suffix(".json").exists() and now - _modified(path) > 3600:
                    useless.append(path)
                continue
            entry = _read(path)
            if entry is None:
                useless.append(path)
            elif is_abandoned(entry.maker, entry.began, now):
                if path.with_suffix(".bytes").exists():
                    unfinished.append(entry)
                elif now - entry.began > _KEPT_SECONDS:
                    useless.append(path)
        return unfinished, useless


def _read(path: Path) -> Entry | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Entry)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


class Uploader:
    """Stores objects on Drive, each once."""

    def __init__(self, drive: Drive, journal: Journal, who: Who) -> None:
        self._drive, self._journal, self._who = drive, journal, who

    def store(self, kind: ObjectKind, name: str, parent: str, body: BinaryIO, size: int, sha256: str) -> File:
        """Store `size` bytes as a new file in the folder; what Drive says of it, compared with what was sent."""
        for _ in range(1 + _MOST_WRONG):
            entry = self._journal.find(kind, name, size, sha256)
            if entry is None:
                entry = Entry(kind, name, self._drive.new_ids(1)[0], size, sha256, temporary_name(), time.time())
            try:
                file = self._send_small(entry, parent, body) if size <= SMALL else self._send_parts(entry, parent, body)
            except Taken:  # an earlier try of ours arrived
                file = self._drive.get(entry.id)
            if self._is_right(file, entry, parent):
                return file
            self._drive.delete(entry.id)
            self._forget(entry)
        raise BackupError(
            f"{self._who.label}: Google Drive stored something else than it was sent ({kind} {name[:16]})",
            "test this machine's memory, then run it again",
        )

    def _forget(self, entry: Entry) -> None:
        """The next try has another id; the bytes stay."""
        if self._journal.folder is not None:
            entry.id, entry.session = self._drive.new_ids(1)[0], None
            self._journal.keep(entry)

    def _send_small(self, entry: Entry, parent: str, body: BinaryIO) -> File:
        body.seek(0)
        return self._drive.create(entry.id, entry.name, parent, body.read(entry.size))

    def _send_parts(self, entry: Entry, parent: str, body: BinaryIO) -> File:
        limited = 0
        for _ in range(_MOST_SESSIONS):
            unsure = entry.session is not None  # of an earlier run: nobody knows what arrived
            if entry.session is None:
                self._journal.keep(entry)
                entry.session = self._drive.begin(entry.id, entry.name, parent, entry.size)
                self._journal.keep(entry)
            session = _Session(self._drive, entry, self._journal, body, unsure)
            with suppress(Stale):
                return session.finish()
            entry.session = None
            limited += session.limited
            if limited > 1:
                self._journal.keep(entry)
                raise day_is_over(self._who)
        raise Unreachable(f"{self._who.label}: Google Drive broke off the same upload again and again", AGAIN)

    def _is_right(self, file: File, entry: Entry, parent: str) -> bool:
        if file.sha256 is None and file.id == entry.id:
            file = self._drive.get(entry.id)
        if (file.id, file.name, file.size, file.is_folder) != (entry.id, entry.name, entry.size, False):
            return False
        if file.trashed:
            hint = "see who moves or removes folders there"
            raise BackupError(f"{self._who.label}: what was stored went into the trash of Google Drive", hint)
        if file.parents and parent not in file.parents:
            return False
        return (file.sha256 or self._read_back(file)) == entry.sha256

    def _read_back(self, file: File) -> str:
        """The SHA-256 of what is stored, where Drive does not tell it."""
        digest = hashlib.sha256()
        for start in range(0, file.size or 0, CHUNK):
            digest.update(self._drive.read(file.id, start, min(CHUNK, (file.size or 0) - start)))
        return digest.hexdigest()


class _Session:
    """One upload in parts, from wherever it stands."""

    def __init__(self, drive: Drive, entry: Entry, journal: Journal, body: BinaryIO, unsure: bool) -> None:
        self._drive, self._entry, self._journal, self._body = drive, entry, journal, body
        self._at, self._unsure = 0, unsure
        self.limited = False
        """Whether the last that was heard before its end was that too much is asked."""

    def finish(self) -> File:
        """Send what is missing. Raises Stale where it has to begin again."""
        fruitless = 0
        while True:
            before = self._at
            file = self._drive.retried(self._step)
            if file is not None:
                return file
            fruitless = fruitless + 1 if self._at <= before else 0
            if fruitless >= _MOST_FRUITLESS:
                raise Stale

    def _step(self) -> File | None:
        """Send the next part, or find out first how far Drive is."""
        asking = self._unsure
        self._unsure = True
        try:
            answer = self._ask() if asking else self._part()
        except RateLimited:
            self.limited = True
            raise
        self._unsure = self.limited = False
        if isinstance(answer, File):
            return answer
        self._at, session = answer
        if session != self._entry.session:
            self._entry.session = session
            self._journal.keep(self._entry)
        if asking:
            return self._step()
        return None

    def _ask(self) -> File | tuple[int, str]:
        assert self._entry.session is not None
        return self._drive.send(self._entry.session, None, 0, 0, self._entry.size)

    def _part(self) -> File | tuple[int, str]:
        assert self._entry.session is not None
        size = min(CHUNK, self._entry.size - self._at)
        window = cast(BinaryIO, Window(self._body, self._at))
        return self._drive.send(self._entry.session, window, self._at, size, self._entry.size)


class Window:
    """A file as if it began at `start`: the body of one part, which is read again from there at every try."""

    def __init__(self, body: BinaryIO, start: int) -> None:
        self._body, self._start = body, start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """To an offset from its beginning."""
        return self._body.seek(self._start + offset) - self._start

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        return self._body.read(size)


def digest_of(body: BinaryIO) -> str:
    """The SHA-256 of a file from its start, in hex."""
    body.seek(0)
    digest = hashlib.sha256()
    buffer = bytearray(PIECE)
    while count := cast(io.RawIOBase, body).readinto(buffer):
        digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


class KeptFile:
    """The bytes of an object that grows: in the journal's folder, so that they outlive a kill, or without one in a nameless file."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.size = 0
        self._digest = hashlib.sha256()
        self._kept: Path | None = None
        folder = journal.folder
        try:
            if folder is None:
                import tempfile

                self.file = cast(BinaryIO, tempfile.TemporaryFile("w+b", prefix="backup-"))  # noqa: SIM115  # it lives as long as this object
                self._path = None
                return
            make_folder(folder)
            self._path = folder / temporary_name()
            self.file = cast(BinaryIO, os.fdopen(os.open(self._path, _CREATE, 0o600), "w+b"))
        except OSError as error:
            raise told(error, str(folder or "the folder for temporary files")) from error

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. Raises NoSpace."""
        try:
            self.file.write(data)
        except OSError as error:
            raise told(error, str(self._journal.folder or "the folder for temporary files")) from error
        self.size += len(data)
        self._digest.update(data)

    def complete(self, kind: ObjectKind, name: str) -> str:
        """All is written: its SHA-256. From now on it outlives the process, until `Journal.drop`."""
        try:
            self.file.flush()
            if self._path is not None and self._kept is None and self.size > SMALL:
                sync(self.file.fileno())
                self.file.close()
                kept = self._journal.bytes_of(kind, name)
                os.replace(self._path, kept)
                self._kept = kept
                sync_folder(kept.parent)
                self.file = kept.open("rb")
        except OSError as error:
            raise told(error, str(self._journal.folder or "the folder for temporary files")) from error
        return self._digest.hexdigest()

    def close(self) -> None:
        """Let go of it. What was not complete is gone."""
        with suppress(OSError):
            self.file.close()
        if self._path is not None and self._kept is None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
