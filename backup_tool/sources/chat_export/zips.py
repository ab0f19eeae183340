"""Files inside a zip (PKWARE's APPNOTE), read in pieces and believed in nothing: names, sizes, counts and places are a stranger's.

The list at the end of a zip is read by `zipfile`. Where a copy was cut short and the list is gone, the files are found one after the other
from the start, each by the header before it.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from calendar import timegm
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from backup_tool.names import path_text
from backup_tool.sources.base import FileChanging, FileUnreadable
from backup_tool.sources.tree import MAX_SIZE, Tree, why

_LARGEST_LIST = 16 * 2**20
"""A list that long names 100,000 files and more."""
_HEADER = struct.Struct("<4s5H3L2H")
_HEADER_MARK = b"PK\3\4"
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 1, 8, 0x800
_CHUNK = 2**18
# Sound does not get much smaller; what grows so much from so little was made to fill disks.
_MOST_GROWTH, _GROWS_FREELY = 200, 16 * 2**20
_MOST_SALVAGED = 10
_MOST_FILES = 200_000
_BROKEN = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OverflowError, EOFError, IndexError, RecursionError)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a zip. `name` has `/` between parts, none of which leads out of the zip; `twin` counts those of the same name before it."""

    name: str
    size: int
    packed: int
    method: int
    crc: int
    mtime_ns: int
    """The zip's own time, read as UTC, and in the digits below a second, which zips have not, part of the checksum: two files of one name,
    size and time are then still not taken for one."""
    header: int
    """Where in the zip its header stands."""
    encrypted: bool = False
    link: bool = False
    twin: int = 0


@dataclass(slots=True)
class Directory:
    """What is in a zip."""

    members: list[Member] = field(default_factory=list)
    problem: str | None = None
    """What is wrong with the zip as a whole."""
    state: tuple[int, int, int] = (0, 0, 0)
    """Size, time and number of the zip when it was listed."""


def list_zip(tree: Tree, path: str) -> Directory:
    """The files in the zip at a path of the tree. Raises FileUnreadable where it cannot be opened or is no zip at all."""
    with _opened(tree, path) as handle:
        state = os.fstat(handle)
        directory = _listed(handle, state.st_size)
        directory.state = _state(state)
        return directory


@contextmanager
def _opened(tree: Tree, path: str) -> Iterator[int]:
    handle = tree.open_file(tree.location(path))
    try:
        yield handle
    except OSError as error:
        raise FileUnreadable(why(error)) from None
    finally:
        os.close(handle)


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino


class _Bounded(io.FileIO):
    """A file of which never more than a list of members is read at once, however long the zip says that its list is."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        if size > _LARGEST_LIST:
            raise zipfile.BadZipFile("its list of files is too long")
        return super().read(size) or b""


def _listed(handle: int, size: int) -> Directory:
    start = os.pread(handle, 4, 0)
    try:
        with _Bounded(handle, closefd=False) as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except _BROKEN as error:
        if start != _HEADER_MARK:
            raise FileUnreadable("no zip file, or its beginning is damaged: copy it again, or export the chat again") from error
        members = list(_salvaged(handle, size))
        word = "1 file in it is" if len(members) == 1 else f"{len(members)} files in it are"
        return Directory(_told_apart(members), f"cut short or damaged: {word} whole; copy it again, or export the chat again")
    if len(infos) > _MOST_FILES:
        raise FileUnreadable(f"more than {_MOST_FILES:,} files in it")
    members = [_member(info) for info in infos if not info.orig_filename.endswith("/")]
    shared = _overlapping(members)
    return Directory([], shared) if shared else Directory(_told_apart(members))


def _member(info: zipfile.ZipInfo) -> Member:
    raw = info.orig_filename.encode("utf-8", "surrogateescape") if info.flag_bits & _UTF8 else info.orig_filename.encode("cp437", "replace")
    mode = info.external_attr >> 16
    return Member(
        _name(raw, utf8=bool(info.flag_bits & _UTF8)), info.file_size, info.compress_size, info.compress_type, info.CRC,
        _mtime(info.date_time, info.CRC), info.header_offset, bool(info.flag_bits & _ENCRYPTED), stat.S_ISLNK(mode),
    )  # fmt: skip


def _name(raw: bytes, *, utf8: bool) -> str:
    """A name as text: UTF-8 where it is (not all programs say so), else the code page of DOS. Parts that lead elsewhere are left out."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = path_text(raw) if utf8 else raw.decode("cp437")
    if "/" not in text:
        text = text.replace("\\", "/")
    parts = [part for part in text.replace("\0", "_").split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "_"


def _mtime(moment: tuple[int, int, int, int, int, int], crc: int) -> int:
    return timegm((*moment, 0, 0, 0)) * 1_000_000_000 + crc % 1_000_000_000 if 1 <= moment[1] <= 12 else crc % 1_000_000_000


def _told_apart(members: list[Member]) -> list[Member]:
    """Members with equal names, numbered."""
    seen: Counter[str] = Counter()
    found = []
    for member in members:
        twin = seen[member.name]
        seen[member.name] += 1
        found.append(member if not twin else replace(member, twin=twin))
    return found


def _overlapping(members: list[Member]) -> str | None:
    """A word where members share bytes: a zip made so holds far more than it is long."""
    reached = 0
    for member in sorted(members, key=lambda one: one.header):
        if member.header < reached:
            return "some of its files share their bytes, as in zips that are made to do harm: not read"
        reached = member.header + _HEADER.size + member.packed
    return None


def _salvaged(handle: int, size: int) -> Iterator[Member]:
    """The whole files of a zip without a list, from the start on."""
    at, unpacked = 0, 0
    for _ in range(_MOST_FILES):
        head = os.pread(handle, _HEADER.size, at)
        if len(head) < _HEADER.size or head[:4] != _HEADER_MARK:
            return
        _, _, flags, method, clock, day, crc, packed, length, name_length, extra = _HEADER.unpack(head)
        raw = os.pread(handle, name_length, at + _HEADER.size)
        start = at + _HEADER.size + name_length + extra
        if flags & _ENCRYPTED or 0xFFFFFFFF in (packed, length):
            return
        end = start + packed
        if flags & _SIZES_FOLLOW:
            measured = _measure(handle, start, size) if method == _DEFLATED else None
            if measured is None:
                return
            packed, length, crc = measured
            end = start + packed
            mark = os.pread(handle, 4, end)
            end += 16 if mark == b"PK\7\x08" else 12
        unpacked += length
        if start + packed > size or unpacked > _GROWS_FREELY + size * _MOST_SALVAGED:
            return
        date_time = ((day >> 9) + 1980, day >> 5 & 15, day & 31, clock >> 11, clock >> 5 & 63, (clock & 31) * 2)
        if not raw.endswith(b"/"):
            yield Member(_name(raw, utf8=bool(flags & _UTF8)), length, packed, method, crc, _mtime(date_time, crc), at)
        at = end


def _measure(handle: int, start: int, size: int) -> tuple[int, int, int] | None:
    """(packed size, size, CRC) of a deflated file whose header does not say them; None where it does not end, or grows too much."""
    inflate, at, length, crc, out = zlib.decompressobj(-15), start, 0, 0, b""
    try:
        while not inflate.eof and at < size:
            chunk = os.pread(handle, min(_CHUNK, size - at), at)
            if not chunk:
                return None
            at += len(chunk)
            while not inflate.eof and (chunk or len(out) == _CHUNK):
                out = inflate.decompress(chunk, _CHUNK)
                length, crc, chunk = length + len(out), zlib.crc32(out, crc), inflate.unconsumed_tail
                if length > MAX_SIZE or _grows_too_much(length, at - start):
                    return None
    except zlib.error:
        return None
    return (at - start - len(inflate.unused_data), length, crc) if inflate.eof else None


def _grows_too_much(size: int, packed: int) -> bool:
    return size > _GROWS_FREELY and size > packed * _MOST_GROWTH


def refusal(member: Member) -> str | None:
    """Why a member is not read at all; None where it is."""
    if member.link:
        return "a symbolic link, which is not followed"
    if member.encrypted:
        return "encrypted with a password: unpack the zip with it, and name the folder instead"
    if member.size > MAX_SIZE:
        return f"larger than {MAX_SIZE // 2**30} GiB"
    if _grows_too_much(member.size, member.packed):
        return f"grows from {member.packed:,} to {member.size:,} bytes, as no recording does"
    if member.method not in (_STORED, _DEFLATED):
        return f"packed in a rare way (method {member.method}): unpack the zip, and name the folder instead"
    return None


def read_member(tree: Tree, path: str, member: Member, state: tuple[int, int, int], piece: int) -> Iterator[bytes]:
    """The bytes of a member in pieces of exactly `piece` bytes but for the last.

    Raises FileUnreadable where it is damaged, and FileChanging where the zip is not the one that was listed.
    """
    reason = refusal(member)
    if reason:
        raise FileUnreadable(reason)
    with _opened(tree, path) as handle:
        if _state(os.fstat(handle)) != state:
            raise FileChanging("the zip was written to since it was listed")
        yield from _pieces(_unpacked(handle, member), piece)
        if _state(os.fstat(handle)) != state:
            raise FileChanging("the zip was written to while it was read")


def _pieces(chunks: Iterator[bytes], piece: int) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= piece:
            yield bytes(held[:piece])
            del held[:piece]
    if held:
        yield bytes(held)


def _unpacked(handle: int, member: Member) -> Iterator[bytes]:
    """The member's bytes as they come, checked against the size and the checksum that the zip has on record."""
    length = crc = 0
    try:
        for chunk in _inflated(handle, member):
            length, crc = length + len(chunk), zlib.crc32(chunk, crc)
            if length > member.size:
                break
            yield chunk
    except zlib.error:
        raise FileUnreadable("damaged in the zip") from None
    if length != member.size:
        raise FileUnreadable("damaged in the zip: its length is not the one on record")
    if crc != member.crc:
        raise FileUnreadable("damaged in the zip: its checksum is not the one on record")


def _inflated(handle: int, member: Member) -> Iterator[bytes]:
    raw = _packed(handle, member)
    if member.method == _STORED:
        yield from raw
        return
    inflate = zlib.decompressobj(-15)
    for chunk in raw:
        while not inflate.eof:
            out = inflate.decompress(chunk, _CHUNK)
            yield out
            chunk = inflate.unconsumed_tail
            if not chunk and len(out) < _CHUNK:
                break


def _packed(handle: int, member: Member) -> Iterator[bytes]:
    head = os.pread(handle, _HEADER.size, member.header)
    if len(head) < _HEADER.size or head[:4] != _HEADER_MARK:
        raise FileUnreadable("damaged in the zip: its header is not where it should be")
    at = member.header + _HEADER.size + sum(_HEADER.unpack(head)[-2:])
    left = member.packed
    while left:
        chunk = os.pread(handle, min(_CHUNK, left), at)
        if not chunk:
            raise FileUnreadable("damaged in the zip: it ends too soon")
        at, left = at + len(chunk), left - len(chunk)
        yield chunk
