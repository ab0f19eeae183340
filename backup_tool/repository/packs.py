"""The inside of a pack (restic's design document, section "Pack Format"), where `||` is "followed by":

pack   = sealed blob 1 || … || sealed blob n || sealed header || length of the sealed header (4 bytes, little-endian)
header = one entry a blob, in order, the blobs back to back from offset 0
entry  = type (1 byte) || sealed length (4) || raw length (4, if compressed) || id (32)
type   = 0 data, 1 tree, 2 data compressed, 3 tree compressed
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence

from backup_tool.repository.crypto import OVERHEAD, BrokenSeal, Key
from backup_tool.repository.index import BlobKind, Entry
from backup_tool.repository.sealed import Unreadable

_PLAIN = struct.Struct("<BI32s")
_COMPRESSED = struct.Struct("<BII32s")
_LENGTH = struct.Struct("<I")
_KINDS: tuple[BlobKind, BlobKind] = ("data", "tree")
_COMPRESSED_BIT = 2

# With it no header reaches 16 MiB, the most that restic reads.
MOST_BLOBS = 200_000
MAX_HEADER = 16 * 2**20
# Fifteen entries, the seal and the length: one request is enough for most packs of large blobs.
_FIRST_GUESS = 15 * _COMPRESSED.size + OVERHEAD + _LENGTH.size


def encode_header(key: Key, entries: Iterable[Entry]) -> bytes:
    """The bytes that end a pack."""
    plain = b"".join(map(_encode, entries))
    sealed = key.sealed(plain)
    return sealed + _LENGTH.pack(len(sealed))


def _encode(entry: Entry) -> bytes:
    kind = _KINDS.index(entry.kind)
    if entry.raw_length:
        return _COMPRESSED.pack(kind | _COMPRESSED_BIT, entry.length, entry.raw_length, entry.id)
    return _PLAIN.pack(kind, entry.length, entry.id)


def decode_header(plain: bytes) -> list[Entry]:
    """The blobs of a pack, from its opened header. Raises Unreadable."""
    entries: list[Entry] = []
    position = offset = 0
    while position < len(plain):
        kind, raw = plain[position], 0
        shape = _COMPRESSED if kind & _COMPRESSED_BIT else _PLAIN
        if kind > 3 or position + shape.size > len(plain):
            raise Unreadable("its header is not a list of blobs")
        if shape is _COMPRESSED:
            _, length, raw, id = _COMPRESSED.unpack_from(plain, position)
        else:
            _, length, id = _PLAIN.unpack_from(plain, position)
        if length < OVERHEAD or (shape is _COMPRESSED and not raw):
            raise Unreadable("its header names a blob of impossible length")
        entries.append(Entry(_KINDS[kind & 1], id, offset, length, raw))
        position += shape.size
        offset += length
    return entries


def header_size(entries: Sequence[Entry]) -> int:
    """Bytes that header and length take for these blobs."""
    compressed = sum(1 for entry in entries if entry.raw_length)
    return compressed * (_COMPRESSED.size - _PLAIN.size) + len(entries) * _PLAIN.size + OVERHEAD + _LENGTH.size


def pack_size(entries: Sequence[Entry]) -> int:
    """The exact size of a pack that holds these blobs."""
    return sum(entry.length for entry in entries) + header_size(entries)


def read_header(key: Key, size: int, load: Callable[[int, int], bytes]) -> list[Entry]:
    """The blobs of a stored pack of `size` bytes, in one or two requests to `load(offset, length)`.

    Raises Unreadable: too short, a length beyond the file, a broken seal, blobs that do not fill the pack exactly.
    """
    if size < OVERHEAD + _LENGTH.size:
        raise Unreadable("it is too short to hold a header")
    tail = load(max(0, size - _FIRST_GUESS), min(size, _FIRST_GUESS))
    (length,) = _LENGTH.unpack(tail[-_LENGTH.size :])
    if not OVERHEAD <= length <= min(MAX_HEADER, size - _LENGTH.size):
        raise Unreadable("its header length is impossible")
    if length + _LENGTH.size > len(tail):
        tail = load(size - _LENGTH.size - length, length + _LENGTH.size)
    try:
        plain = key.open(memoryview(tail)[-_LENGTH.size - length : -_LENGTH.size])
    except BrokenSeal as error:
        raise Unreadable(f"header: {error}") from None
    entries = decode_header(plain)
    if pack_size(entries) != size:
        raise Unreadable("its blobs do not fill it exactly")
    return entries
