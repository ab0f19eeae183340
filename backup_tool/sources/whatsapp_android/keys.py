"""Keys of WhatsApp's encrypted databases, in every form that people have them in.

- The 64-digit key, as the app shows it: text in groups. It opens crypt15.
- `encrypted_backup.key` of a phone's private data, 59 bytes: the same 32 bytes as a serialised Java array. Or the 32 bytes alone.
- `key` of a phone's private data, 158 bytes: an array of 131 bytes, or those alone. It opens crypt12 and crypt14.

The array of 131: cipher version 2 (00 01), key version 1, server salt 32, Google-id salt 16, SHA-256 of the latter 32, zeros 16, AES key
32. Source: the key files published with wa-crypt-tools (tests/res), and the Java Object Serialization Specification, section 6.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from backup_tool.errors import BackupError, Interrupted, Terminated
from backup_tool.models import Secret
from backup_tool.sources.base import Keyring, Unlock

# Stream magic and version, TC_ARRAY, TC_CLASSDESC "[B" with its serial number, flags, no fields, end, no super class; a length follows.
_JAVA_ARRAY = bytes.fromhex("aced0005 7572 0002 5b42 acf317f8060854e0 02 0000 78 70")
_ROOT_BYTES, _FILE_BYTES = 32, 131
KEY_FILE_SIZES = frozenset([_ROOT_BYTES, _FILE_BYTES, 27 + _ROOT_BYTES, 27 + _FILE_BYTES])
_CIPHER_VERSION = b"\x00\x01"
_DIGITS = 64
_PURPOSE = b"backup encryption"
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_MOST_KEYS = 16


class BadKey(Exception):
    """What was given is no key, or a damaged one; the text goes on after "the key": it says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that passed its own checks: 32 bytes for AES, and what files made for it repeat."""

    aes: bytes = field(repr=False)
    salts: bytes | None = field(repr=False)
    """Server salt and Google-id salt of a `key` file; None for the key of an end-to-end encrypted backup."""

    @property
    def end_to_end(self) -> bool:
        """True for the key of crypt15, False for that of crypt12 and crypt14."""
        return self.salts is None


def parse_key(data: bytes) -> Key:
    """A key from the bytes of its file, or from the UTF-8 of what was typed. Raises BadKey."""
    if data.startswith(_JAVA_ARRAY):
        return _from_array(data[len(_JAVA_ARRAY) :])
    if len(data) == _FILE_BYTES and data.startswith(_CIPHER_VERSION):
        return _from_file_layout(data)
    if len(data) == _ROOT_BYTES and not re.fullmatch(rb"[\t\n\r -~]*", data):
        return _from_root(data)
    return _from_digits(_text(data))


def _from_array(rest: bytes) -> Key:
    length, data = int.from_bytes(rest[:4], "big"), rest[4:]
    if len(rest) < 4 or length not in (_ROOT_BYTES, _FILE_BYTES) or len(data) != length:
        raise BadKey(f"is a damaged key file: {len(_JAVA_ARRAY) + len(rest)} bytes, where 59 or 158 are expected; copy it again")
    return _from_root(data) if length == _ROOT_BYTES else _from_file_layout(data)


def _from_file_layout(data: bytes) -> Key:
    salts, digest, zeros, aes = data[3:51], data[51:83], data[83:99], data[99:]
    if not data.startswith(_CIPHER_VERSION) or hashlib.sha256(salts[32:]).digest() != digest or any(zeros):
        raise BadKey("is a damaged key file: its own checksum is wrong; copy it again")
    return Key(aes, salts)


def _from_root(root: bytes) -> Key:
    """Files are not encrypted with the 32 bytes themselves: HKDF-SHA256 (RFC 5869) makes one key for each purpose, without salt."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return Key(HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(root), None)


def _text(data: bytes) -> str:
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    return data.decode(encoding, "replace")


def _from_digits(text: str) -> Key:
    """The key as the app shows it, however it was grouped: only letters and digits count."""
    typed = re.sub(r"[\W_]+", "", text)
    if not typed:
        raise BadKey("is empty; give the 64 digits or the key file")
    if not re.fullmatch(r"[0-9A-Fa-f]+", typed):
        raise BadKey("is neither a key file of WhatsApp's nor a 64-digit key, which has only 0 to 9 and a to f")
    if len(typed) != _DIGITS:
        raise BadKey(f"has {len(typed)} digits, where {_DIGITS} are expected; look at it again")
    return _from_root(bytes.fromhex(typed))


class Keys:
    """The keys there are for one source: first those that lie in the store itself, then those that a person gave.

    Nothing is read, and nobody is asked, before a database needs a key; and each only once.
    """

    def __init__(self, lying: Callable[[], Iterable[tuple[str, bytes]]], unlock: Unlock) -> None:
        self._read_lying = lying
        self._unlock = unlock
        self._lying: list[Key] | None = None
        self._given: dict[bool, list[Key]] = {}
        self.faults: list[str] = []
        """What is wrong with those that were given, each a sentence of its own."""
        self.faults_of_store: list[str] = []
        """The same of those that lie in the store."""

    def of_store(self) -> list[Key]:
        """The key files that lie in the store."""
        if self._lying is None:
            self._lying = []
            for path, data in self._read_lying():
                try:
                    self._lying.append(parse_key(data))
                except BadKey as bad:
                    if data.startswith(_JAVA_ARRAY):  # else it is something else of that name and size
                        self.faults_of_store.append(f"{path} {bad}")
        return self._lying[:_MOST_KEYS]

    def given(self, *, ask: bool) -> list[Key]:
        """The keys that a person gave; what is wrong with the others is in `faults`. With `ask` a person may be asked now."""
        if ask not in self._given:
            self._given[ask] = []
            for secret in self._secrets(ask):
                try:
                    self._given[ask].append(parse_key(secret))
                except BadKey as bad:
                    self._note(f"the key that was given {bad}")
        return self._given[ask][:_MOST_KEYS]

    def _secrets(self, ask: bool) -> list[bytes]:
        try:
            return [data for secret in self._unlocked(ask) if (data := secret.reveal_bytes()).strip()]
        except (Interrupted, Terminated):
            raise
        except BackupError as error:  # the recordings are there without it: a night must not fail for a key
            self._note(f"its key could not be had: {error.message}" + (f"; {error.hint}" if error.hint else ""))
            return []

    def _unlocked(self, ask: bool) -> Sequence[Secret]:
        if isinstance(self._unlock, Keyring):
            return self._unlock("key") if ask else self._unlock.at_hand()
        return self._unlock() if ask else ()

    def _note(self, fault: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)
