"""Gives notes back in another format: a copy of each in place of the note, or the note as it is where no copy can be made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import IO, BinaryIO, NamedTuple, cast

import msgspec

from backup_tool.audio.convert import Format, NotConverted, Tags, convert
from backup_tool.exporters.folder import TargetFolder, Written
from backup_tool.exporters.naming import file_suffix
from backup_tool.exporters.words import origin, tags_of
from backup_tool.models import Note

_PIECE = 2**20

Scratch = Callable[[], AbstractContextManager[IO[bytes]]]
"""Makes a file to work on that never gets a name: `TargetFolder.scratch`."""


class CopyOrder(msgspec.Struct, array_like=True, frozen=True):
    """The copy that is wanted of a note, and what its file is called should the note be given back as it is."""

    format: Format
    tags: Tags
    plain_name: str


class Given(NamedTuple):
    """What became of a note. `reason` is set where it was given back as it is, or its copy lacks a part: a person is to be told."""

    written: Written
    reason: str | None = None


class Made(NamedTuple):
    """A note in a scratch file, and the copy of it, None where none can be made. `reason` as in `Given`."""

    whole: IO[bytes]
    copy: IO[bytes] | None
    reason: str | None


def copy_order(note: Note, format: Format | None, name: str) -> CopyOrder | None:
    """The order for a note whose file is to be called `name`, or to have that suffix; None where the note itself is wanted."""
    if format is None:
        return None
    return CopyOrder(format, tags_of(note, comment=origin(note)), os.path.splitext(name)[0] + file_suffix(note))


def mark_of(note: Note) -> bytes:
    """The bytes by which a copy of this note is known: they stand in its tags, in every format."""
    return (origin(note) or "").encode("ascii", "replace")


@contextmanager
def made(scratch: Scratch, chunks: Iterable[bytes], format: Format, tags: Tags) -> Iterator[Made]:
    """The note and a copy of it while the block lasts. Raises what `chunks` raises.

    Long ones lie in scratch files: neither is held in memory.
    """
    with scratch() as whole, scratch() as copy:
        for chunk in chunks:
            whole.write(chunk)
        whole.seek(0)
        try:
            reason = convert(cast(BinaryIO, whole), cast(BinaryIO, copy), format, tags)
        except NotConverted as refused:
            yield Made(whole, None, f"given back as it is: {refused.reason}")
        else:
            yield Made(whole, copy, reason)


def give_copy(
    target: TargetFolder,
    parts: Sequence[str],
    chunks: Iterable[bytes],
    order: CopyOrder,
    *,
    size: int,
    sha256: str | None,
    mtime_ns: int | None,
    overwrite: bool,
) -> Given:
    """Write the copy of a note at `parts`, or the note under its plain name. Raises as `TargetFolder.write` does."""
    with made(target.scratch, chunks, order.format, order.tags) as (whole, copy, reason):
        if copy is None:
            parts = (*parts[:-1], order.plain_name)
        else:
            size, sha256 = size_of(copy), _sha256(copy)
        written = target.write(parts, pieces(copy or whole), size=size, sha256=sha256, mtime_ns=mtime_ns, overwrite=overwrite)
        return Given(written, reason)


def size_of(file: IO[bytes]) -> int:
    """Bytes of a file that can be sought."""
    return file.seek(0, os.SEEK_END)


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """The whole file, from its start."""
    file.seek(0)
    while piece := file.read(_PIECE):
        yield piece


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces(file):
        digest.update(piece)
    return digest.hexdigest()
