"""Writes encrypted databases as WhatsApp's phones do, and the keys to them.

phone = PhoneKeys(1)
(store / "Databases/msgstore.db.crypt15").write_bytes(crypt15(database, phone))
phone.digits        # what the app shows: 64 digits, in groups
phone.key_file      # `key`, 158 bytes: for crypt12 and crypt14
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

JAVA = bytes([0xAC, 0xED, 0, 5, 0x75, 0x72, 0, 2]) + b"[B" + bytes([0xAC, 0xF3, 0x17, 0xF8, 6, 8, 0x54, 0xE0, 2, 0, 0, 0x78, 0x70])
WA_PROVIDED, E2EE, PASSWORD, DIGITS, PASSKEY = range(5)


def noise(seed: object, length: int) -> bytes:
    """Bytes that look like nothing, the same for the same seed."""
    return hashlib.shake_128(repr(seed).encode()).digest(length)


@dataclass(frozen=True)
class PhoneKeys:
    """All keys of one phone."""

    seed: int

    @property
    def root(self) -> bytes:
        """The 32 bytes behind the 64 digits."""
        return noise((self.seed, "root"), 32)

    @property
    def digits(self) -> str:
        """The 64-digit key as the app shows it."""
        text = self.root.hex()
        return "\n".join(" ".join(text[start + at : start + at + 4] for at in range(0, 16, 4)) for start in range(0, 64, 16))

    @property
    def server_salt(self) -> bytes:
        """Stands in `key` and in what it opens."""
        return noise((self.seed, "server salt"), 32)

    @property
    def google_salt(self) -> bytes:
        """Stands in `key` and in what it opens."""
        return noise((self.seed, "google salt"), 16)

    @property
    def aes(self) -> bytes:
        """The key in `key`."""
        return noise((self.seed, "aes"), 32)

    @property
    def key_array(self) -> bytes:
        """The 131 bytes of `key`."""
        digest = hashlib.sha256(self.google_salt).digest()
        return b"\x00\x01\x02" + self.server_salt + self.google_salt + digest + bytes(16) + self.aes

    @property
    def key_file(self) -> bytes:
        """`files/key` of a rooted phone."""
        return JAVA + b"\0\0\0\x83" + self.key_array

    @property
    def root_file(self) -> bytes:
        """`files/encrypted_backup.key` of a rooted phone."""
        return JAVA + b"\0\0\0\x20" + self.root


def crypt12(plain: bytes, keys: PhoneKeys, *, packed: bool = True, md5: bool = True, number: bytes = b"--67") -> bytes:
    """A file of 2016 to 2020."""
    iv = noise((keys.seed, plain, 12), 16)
    body = b"\x00\x01\x02" + keys.server_salt + keys.google_salt + iv + _seal(keys.aes, iv, plain, packed)
    return _with_md5(body, md5) + number


def crypt14(
    plain: bytes, keys: PhoneKeys, *, packed: bool = True, md5: bool = True, info: bytes | None = None, salts: bool = True
) -> bytes:
    """A file of 2021 and later, where end-to-end encrypted backup is off. `info` replaces what the header says of the app."""
    iv = noise((keys.seed, plain, 14), 16)
    cipher = _field(1, b"\x00\x01") + _field(2, b"2")
    if salts:
        cipher += _field(3, keys.server_salt) + _field(4, keys.google_salt)
    header = _number(1, WA_PROVIDED) + _field(2, cipher + _field(5, iv)) + _field(4, about() if info is None else info)
    return _with_md5(_varint(len(header)) + header + _seal(keys.aes, iv, plain, packed), md5)


def crypt15(
    plain: bytes,
    keys: PhoneKeys,
    *,
    packed: bool = True,
    md5: bool = True,
    info: bytes | None = None,
    kind: int | None = E2EE,
    new_kind: int | None = DIGITS,
    passkey: bool = False,
    with_iv: bool = True,
) -> bytes:
    """A file where end-to-end encrypted backup is on. `kind` and `new_kind` are fields 1 and 6 of the header."""
    iv = noise((keys.seed, plain, 15), 16)
    header = b"" if kind is None else _number(1, kind)
    header += _field(3, _field(1, iv)) if with_iv else b""
    header += _field(4, about() if info is None else info) + (_field(5, _field(1, b"credential")) if passkey else b"")
    header += b"" if new_kind is None else _number(6, new_kind)
    return _with_md5(_varint(len(header)) + header + _seal(derived(keys.root), iv, plain, packed), md5)


def derived(root: bytes, purpose: bytes = b"backup encryption") -> bytes:
    """HKDF-SHA256 (RFC 5869) of one block, without salt."""
    extracted = hmac.digest(bytes(32), root, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")


def about(*, version: bytes = b"2.26.35.75", features: bool = True) -> bytes:
    """What a header says of the app that wrote the file."""
    flags = b"".join(_number(number, number % 2) for number in [*range(5, 38), 39]) if features else b""
    return _field(1, version) + _field(3, b"67") + _number(4, 1) + flags


def _seal(key: bytes, iv: bytes, plain: bytes, packed: bool) -> bytes:
    return AESGCM(key).encrypt(iv, zlib.compress(plain, 1) if packed else plain, None)


def _with_md5(body: bytes, md5: bool) -> bytes:
    return body + (hashlib.md5(body).digest() if md5 else b"")


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field * 8) + _varint(value)


def _field(field: int, data: bytes) -> bytes:
    return _varint(field * 8 + 2) + _varint(len(data)) + data
