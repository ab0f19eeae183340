"""Small sealed files (index, snapshot, lock), and zstd with a ceiling.

The plaintext of a sealed file is ``0x02`` and one zstd frame of JSON, or plain JSON from its first byte (restic's design document,
section "Unpacked Data Format"). All that is read here is untrusted: whoever has the password may have written it.
"""

from __future__ import annotations

import threading
from typing import TypeVar

import msgspec
import zstandard

from backup_tool.repository.crypto import BrokenSeal, Buffer, Key

MIB = 2**20
T = TypeVar("T")
_ZSTD_FRAME = b"\x02"
_PIECE = MIB
_LARGEST_WINDOW = 128 * MIB
_local = threading.local()


class Unreadable(Exception):
    """Bytes that cannot be what they should be; the text says why. Callers turn it into an error that names the object."""


def compress(data: Buffer) -> bytes:
    """One zstd frame."""
    try:
        compressor: zstandard.ZstdCompressor = _local.compressor
    except AttributeError:  # one a thread: they cannot be shared
        compressor = _local.compressor = zstandard.ZstdCompressor(level=3)
    return compressor.compress(data)


def inflate(frame: Buffer, limit: int) -> bytes:
    """What a zstd frame holds, never more than `limit` bytes of it in memory (and one). Raises Unreadable.

    The one-shot call of the library ignores its limit where a frame states its own size: hence the stream.
    """
    try:
        decompressor: zstandard.ZstdDecompressor = _local.decompressor
    except AttributeError:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    pieces: list[bytes] = []
    left = limit + 1
    try:
        with decompressor.stream_reader(frame) as stream:
            while left and (piece := stream.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
    except (zstandard.ZstdError, MemoryError) as error:
        raise Unreadable(f"it cannot be decompressed ({error})") from error
    if not left:
        raise Unreadable(f"it grows beyond {limit:,} bytes when decompressed")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def encode(key: Key, json: bytes) -> bytes:
    """The stored bytes of a sealed file."""
    return key.sealed(_ZSTD_FRAME + compress(json))


def decode(key: Key, stored: Buffer, limit: int) -> bytes:
    """The JSON inside a sealed file. Raises Unreadable."""
    try:
        plain = key.open(stored)
    except BrokenSeal as error:
        raise Unreadable(str(error)) from None
    if plain[:1] in (b"{", b"["):
        if len(plain) > limit:
            raise Unreadable(f"it is larger than {limit:,} bytes")
        return plain
    if plain[:1] != _ZSTD_FRAME:
        raise Unreadable("it begins with an unknown version byte")
    return inflate(memoryview(plain)[1:], limit)


def parse(json: Buffer, shape: type[T]) -> T:
    """JSON as a typed record. Raises Unreadable; deep nesting and numbers out of bounds are just wrong JSON."""
    try:
        return msgspec.json.decode(json, type=shape)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise Unreadable(f"it is not the JSON that it should be ({error})") from error
