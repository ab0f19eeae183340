"""How tests of this folder open a store and go through it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backup_tool.models import Note
from backup_tool.sources import open_source
from backup_tool.sources.base import AudioFile, KnownId, Source, Summary


@dataclass(frozen=True)
class Spec:
    """What a person's settings say of a source."""

    path: Path
    type: str = "auto"
    database: Path | None = None
    name: str = "phone"
    timezone: str | None = None
    contacts: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Scanned:
    """A source, its files, and what its scan said at the end."""

    source: Source
    files: list[AudioFile]
    summary: Summary

    @property
    def paths(self) -> list[str]:
        """Paths below the store's root, in the order they came."""
        return [file.original_path for file in self.files]

    @property
    def notes(self) -> list[Note]:
        """The notes of all files."""
        return [note for file in self.files for note in file.notes]

    def note(self, path: str) -> Note:
        """The one note of the file at this path."""
        (note,) = [note for file in self.files if file.original_path == path for note in file.notes]
        return note

    def read(self, file: AudioFile, piece: int = 4 * 2**20) -> bytes:
        """The bytes of a file."""
        return b"".join(self.source.read(file, piece))


def scan(path: Path, type_: str = "auto", *, database: Path | None = None, known: KnownId | None = None) -> Scanned:
    """Open what is at a path, go through it once, and make sure that nothing private is left behind."""
    with tempfile.TemporaryDirectory() as workdir:
        source = open_source(Spec(path, type_, database), Path(workdir))
        going = source.scan(known)
        files = list(going)
        assert os.listdir(workdir) == []
    return Scanned(source, files, going.summary)


def everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Name, size, time and mode of all that is below a folder: to prove that nothing was written."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        state = path.lstat()
        found[str(path)] = (state.st_size, state.st_mtime_ns, state.st_mode)
    return found


@contextmanager
def as_ordinary_user() -> Iterator[Path]:
    """A folder of a user whom permissions bind: root, whom they do not, becomes "nobody" for a while."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        user = os.geteuid()
        if user == 0:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if user == 0:
                os.seteuid(0)
