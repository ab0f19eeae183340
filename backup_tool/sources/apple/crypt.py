"""The payload of a file in an encrypted device backup: AES-256-CBC, an IV of zeros, PKCS #7 padding; each file under a key of its own.

Nothing vouches for the bytes: what was altered shows only where a file has checks of its own, as Ogg has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from backup_tool.sources.base import FileChanging, FileUnreadable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

_BLOCK = 16
_SHORTER = "became shorter while it was read"
_NO_END = "damaged: it does not end as an encrypted file does"


def plain_size(handle: int, key: bytes) -> int:
    """The true size of an open payload, from its last block: what the manifest says is often of another moment. Raises FileUnreadable."""
    length = _length(handle)
    if not length:
        return 0
    tail = os.pread(handle, 2 * _BLOCK, max(0, length - 2 * _BLOCK))
    if len(tail) < min(length, 2 * _BLOCK):
        raise FileChanging(_SHORTER)
    before, last = (bytes(_BLOCK) + tail)[-2 * _BLOCK : -_BLOCK], tail[-_BLOCK:]
    return length - _padding(_decryptor(key, before).update(last))


def decrypted(handle: int, key: bytes, piece: int) -> Iterator[bytes]:
    """The content of an open payload in pieces of `piece` bytes but for the last. Raises FileUnreadable."""
    return _parts(handle, key, piece) if piece % _BLOCK == 0 else _regrouped(_parts(handle, key, 2**20), piece)


def _parts(handle: int, key: bytes, piece: int) -> Iterator[bytes]:
    left = _length(handle)
    decryptor = _decryptor(key, bytes(_BLOCK))
    while left:
        wanted = min(piece, left)
        data = os.read(handle, wanted)
        while len(data) < wanted:
            more = os.read(handle, wanted - len(data))
            if not more:
                raise FileChanging(_SHORTER)
            data += more
        left -= wanted
        data = decryptor.update(data)
        if left or (data := data[: len(data) - _padding(data)]):
            yield data


def _regrouped(parts: Iterator[bytes], piece: int) -> Iterator[bytes]:
    held = b""
    for part in parts:
        held += part
        whole = len(held) - len(held) % piece
        yield from (held[at : at + piece] for at in range(0, whole, piece))
        held = held[whole:]
    if held:
        yield held


def _length(handle: int) -> int:
    length = os.fstat(handle).st_size
    if length % _BLOCK:
        raise FileUnreadable("cut short: its size is not that of an encrypted file")
    return length


def _padding(data: bytes) -> int:
    """How many bytes of padding (RFC 5652, section 6.3) stand at the end."""
    count = data[-1]
    if not 1 <= count <= _BLOCK or data[-count:] != bytes([count]) * count:
        raise FileUnreadable(_NO_END)
    return count


def _decryptor(key: bytes, iv: bytes) -> CipherContext:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
