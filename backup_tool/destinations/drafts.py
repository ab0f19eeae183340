"""Objects that grow on this machine, for destinations that take nothing before its name and size are known."""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import IO, BinaryIO, Protocol, cast

from backup_tool.destinations.base import Draft, ObjectKind
from backup_tool.destinations.files import told


class TakesBodies(Protocol):
    """A destination that objects are sent to whole."""

    def check_place(self) -> None:
        """Raise NoRepository where there is none."""

    def save_body(self, kind: ObjectKind, name: str, body: BinaryIO, size: int) -> None:
        """Store `size` bytes of a file that can be read again from its start, unless they are there."""


class StagedDraft:
    """An object growing in a private file without name, in the system's folder for temporary files. It may be committed again."""

    def __init__(self, destination: TakesBodies, kind: ObjectKind) -> None:
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
        """Send it. It is there, in its size, when this returns."""
        self._destination.save_body(self._kind, name, cast(BinaryIO, self._file), self._size)
