"""The key bag of an encrypted device backup: opens with the backup's password, and holds one key for each protection class.

Layout and key derivation as public descriptions of iOS data protection have them (Apple Platform Security, "Keybags"; the project
iphone-dataprotection). Tags of four letters, each with a length (big-endian) and a value:

    VERS TYPE UUID HMCK WRAP SALT ITER [DPWT DPIC DPSL]     the bag
    UUID CLAS WRAP KTYP WPKY                                one key, again and again

    first = PBKDF2-HMAC-SHA256(password, DPSL, DPIC, 32)    since iOS 10.2; before, the password itself
    key   = PBKDF2-HMAC-SHA1(first, SALT, ITER, 32)         unwraps (RFC 3394) every WPKY whose WRAP has bit 1 set
"""

from __future__ import annotations

import codecs
import contextlib
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from backup_tool.models import Secret
from backup_tool.sources.base import FileUnreadable

_LARGEST = 2**20
_LAST_TYPE = 3
"""1 is a device backup; the others of the same build open in the same way."""
_MOST_FIRST_ROUNDS, _MOST_ROUNDS = 20_000_000, 1_000_000
"""Devices use 10,000,000 and 10,000: a bag that asks for far more is made to keep us busy."""
_WITH_PASSWORD = 2
"""Bit of WRAP; bit 0 alone means a key that never leaves the device."""
_WRAPPED = 40


class WrongBackupPassword(FileUnreadable):
    """The key bag is sound, and no password opens it."""


class KeyBag(NamedTuple):
    """A parsed key bag. `first` is (salt, rounds) of the first derivation, None before iOS 10.2; `wrapped` the keys by class number."""

    salt: bytes
    rounds: int
    first: tuple[bytes, int] | None
    wrapped: dict[int, bytes]

    def unlock(self, passwords: Iterable[bytes]) -> dict[int, bytes]:
        """The class keys (32 bytes) by number, with the first password that opens any. One that stays closed is left out.

        Takes about a second a password. Raises WrongBackupPassword where none opens.
        """
        for password in passwords:
            key = self._derived(password)
            opened = {number: opened for number, wrapped in self.wrapped.items() if (opened := unwrap(key, wrapped))}
            if opened:
                return opened
        raise WrongBackupPassword("no password that was given opens it")

    def _derived(self, password: bytes) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA1, SHA256
        from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

        if self.first:
            password = PBKDF2HMAC(SHA256(), 32, *self.first).derive(password)
        return PBKDF2HMAC(SHA1(), 32, self.salt, self.rounds).derive(password)  # noqa: S303 (the format's own choice)


def read_keybag(data: bytes) -> KeyBag:
    """Parse `BackupKeyBag`. Raises FileUnreadable where it is none, is damaged, or asks for more work than any device does."""
    head: dict[bytes, bytes] = {}
    keys: list[dict[bytes, bytes]] = []
    for tag, value in _fields(data):
        if tag == b"UUID" and b"UUID" in head:
            keys.append({})
        (keys[-1] if keys else head)[tag] = value
    if _number(head, b"TYPE") > _LAST_TYPE or b"SALT" not in head:
        raise FileUnreadable("damaged: its key bag (in Manifest.plist) is none of a backup")
    first = (head[b"DPSL"], _rounds(head, b"DPIC", _MOST_FIRST_ROUNDS)) if b"DPSL" in head and b"DPIC" in head else None
    return KeyBag(head[b"SALT"], _rounds(head, b"ITER", _MOST_ROUNDS), first, dict(_wrapped(keys)))


def _fields(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    if len(data) > _LARGEST:
        raise FileUnreadable("damaged: its key bag is larger than any")
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        value = data[at + 8 : at + 8 + length]
        if at + 8 > len(data) or len(value) < length:
            raise FileUnreadable("damaged: its key bag is cut short")
        yield data[at : at + 4], value
        at += 8 + length


def _wrapped(keys: list[dict[bytes, bytes]]) -> Iterable[tuple[int, bytes]]:
    for key in keys:
        if _number(key, b"WRAP") & _WITH_PASSWORD and len(key.get(b"WPKY", b"")) == _WRAPPED:
            yield _number(key, b"CLAS"), key[b"WPKY"]


def _number(fields: dict[bytes, bytes], tag: bytes) -> int:
    value = fields.get(tag, b"")
    return int.from_bytes(value, "big") if len(value) == 4 else 0


def _rounds(head: dict[bytes, bytes], tag: bytes, most: int) -> int:
    rounds = _number(head, tag)
    if not 1 <= rounds <= most:
        raise FileUnreadable(f"its key bag asks for {rounds:,} rounds of key derivation, which no device does: not opened")
    return rounds


def unwrap(key: bytes, wrapped: bytes) -> bytes | None:
    """The 32 bytes that are wrapped by a key (RFC 3394); None where it is not the one."""
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    try:
        opened = aes_key_unwrap(key, wrapped)
    except (InvalidUnwrap, ValueError):
        return None
    return opened if len(opened) == 32 else None


def passwords_of(secrets: Iterable[Secret]) -> list[bytes]:
    """Each password as it may have been typed when encryption was switched on: without what an editor put around it (a byte order mark, a
    line's end), composed (NFC), and as it is."""
    forms: dict[bytes, None] = {}
    for secret in secrets:
        raw = secret.reveal_bytes()
        bare = _without_mark(raw).rstrip(b"\r\n")
        forms |= dict.fromkeys(
            [bare, unicodedata.normalize("NFC", bare.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"), raw]
        )
    return [form for form in forms if form]


def _without_mark(raw: bytes) -> bytes:
    """Text as editors on Windows save it, as UTF-8 without the mark at its start."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        with contextlib.suppress(UnicodeDecodeError):
            return raw.decode("utf-16").encode()
    return raw.removeprefix(codecs.BOM_UTF8)
