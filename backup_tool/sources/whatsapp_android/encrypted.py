"""Opens WhatsApp's encrypted databases: crypt12, crypt14, crypt15. What is inside is looked at only once its authentication tag was right.

crypt12: version 2 (00 01) · key version 1 · server salt 32 · Google-id salt 16 · IV 16 · ciphertext · tag 16 · MD5 16 · `--`, two digits.

crypt14 and crypt15: length as a protobuf varint · header, a protobuf message · ciphertext · tag 16 · MD5 16. Of the header: 1 and 6 kind of
key (0 `key` file, 1 end-to-end, 2 password, 3 64-digit key, 4 passkey) · 2.3 server salt, 2.4 Google-id salt, 2.5 IV (crypt14) · 3.1 IV
(crypt15) · 5 present in backups by passkey.

The cipher is AES-256-GCM with an IV of 16 bytes and no further data; the MD5 is of all before it and may be absent. Inside is zlib, or the
database as it is; increments hold a ZIP. Source: the sample files and `proto/` of wa-crypt-tools, and protobuf's encoding specification.
Names of files tell none of this: they are changed too often.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from backup_tool.sources.whatsapp_android.keys import Key

HEADER_BYTES = 2**16 + 3
"""The first bytes of a file that `read_header` wants to see. Real headers have less than 200."""
SQLITE = b"SQLite format 3\0"
MOST_BYTES = 8 * 2**30
"""No database is larger; one made to fill the disk is."""
_LONGEST_HEADER = 2**16
_CRYPT12 = b"\x00\x01"
_CRYPT12_HEADER = 67
_SALT, _GOOGLE_SALT, _IV, _TAG, _MD5 = 32, 16, 16, 16, 16
_NUMBER = re.compile(rb"--[0-9]{2}")
_PASSWORD, _PASSKEY = 2, 4
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_ZIP = b"PK\x03\x04"
_CHUNK = 2**20
_ROOM_LEFT = 256 * 2**20

_AGAIN = "copy it from the phone again"
_AS_SETTING = "with --key-file FILE or as key_file in the settings"
_PLACE = "(Settings, Chats, Chat backup, End-to-end encrypted backup)"
_NEW_KEY = "choose a new 64-digit key in the app{}, back up and copy again"


class NotOpened(Exception):
    """An encrypted database does not open. The text goes on after its path: why, and what to do."""


class KeyMissing(NotOpened):
    """Nobody gave a key. The text says only what to do."""


class PhoneOnly(NotOpened):
    """Locked by a password or a passkey: its key lies with WhatsApp, and only the app gets at it."""


class WrongKey(NotOpened):
    """Keys were given, and none of them is its."""


class Damaged(NotOpened):
    """Bytes of it are wrong or missing."""


class _WrongTag(Damaged):
    """The authentication tag is not that of the bytes before it under this key."""


class NoDatabase(NotOpened):
    """It is, or holds, something else."""


class Increment(NoDatabase):
    """It holds changes since a full backup, which are no database."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an encrypted file says of itself. `salts` are those of the `key` file it was made with; None for end-to-end encrypted ones."""

    end_to_end: bool
    iv: bytes
    start: int
    """Where the ciphertext begins."""
    salts: bytes | None = None
    locked_by: Literal["password", "passkey", None] = None
    numbered: bool = False
    """True for crypt12: a whole file ends in two digits of the phone's number."""

    def fits(self, key: Key) -> bool:
        """False where this key certainly is not the file's: of the other kind, or with other salts."""
        return key.end_to_end == self.end_to_end and (self.salts is None or key.salts == self.salts)


def read_header(head: bytes) -> Header:
    """The header from a file's first bytes (HEADER_BYTES of them, or all). Raises NoDatabase, Damaged, PhoneOnly."""
    if not head:
        raise NoDatabase(f"is empty: {_AGAIN}")
    if head.startswith(_CRYPT12):
        return _read_crypt12(head)
    try:
        length, start = _varint(head, 0)
        if not 0 < length <= _LONGEST_HEADER:
            raise ValueError("no header has this length")
        fields = _message(head[start : start + length])
        return _header(fields, start + length)
    except ValueError:
        raise _foreign(head) from None


def is_encrypted(head: bytes) -> bool:
    """True where these bytes, as for `read_header`, begin an encrypted file."""
    try:
        read_header(head)
    except PhoneOnly:
        return True
    except NotOpened:
        return False
    return True


def _read_crypt12(head: bytes) -> Header:
    if len(head) < _CRYPT12_HEADER:
        raise Damaged(f"is incomplete, only {len(head)} bytes of it are there: {_AGAIN}")
    return Header(False, head[51:67], _CRYPT12_HEADER, salts=head[3:51], numbered=True)


def _header(fields: dict[int, int | bytes], start: int) -> Header:
    """Raises ValueError where these are not the fields of a backup, PhoneOnly where they have no IV because only the app opens it."""
    kinds = (fields.get(1), fields.get(6))
    locked_by: Literal["password", "passkey", None] = None
    if 5 in fields or _PASSKEY in kinds:
        locked_by = "passkey"
    elif _PASSWORD in kinds:
        locked_by = "password"
    cipher, end_to_end = _message(_bytes(fields, 2)), _message(_bytes(fields, 3))
    if len(iv := _bytes(end_to_end, 1)) == _IV:
        return Header(True, iv, start, locked_by=locked_by)
    if len(iv := _bytes(cipher, 5)) == _IV:
        salts = _bytes(cipher, 3) + _bytes(cipher, 4)
        return Header(False, iv, start, salts=salts if len(salts) == _SALT + _GOOGLE_SALT else None)
    if locked_by:
        raise phone_only(locked_by)
    raise ValueError("no IV")


def phone_only(locked_by: str) -> PhoneOnly:
    """What is said of a backup that only the app itself can open."""
    return PhoneOnly(f"is locked by a {locked_by}, which only the app itself can use: {_NEW_KEY.format(f' {_PLACE}')}")


def key_missing(header: Header) -> KeyMissing:
    """What is said where nobody gave a key: which one it takes, and how to get it."""
    if header.end_to_end:
        return KeyMissing(f"give the 64-digit key, which the app shows when it is chosen {_PLACE}, {_AS_SETTING}")
    return KeyMissing(f"give the file 'key' of a rooted phone {_AS_SETTING}, or {_NEW_KEY.format(f' {_PLACE}')}")


def _foreign(head: bytes) -> NoDatabase:
    if head.startswith(SQLITE):
        return NoDatabase("is not encrypted")
    if re.match(rb"\s*<(!doctype|html|\?xml|head)", head[:1024], re.IGNORECASE):
        return NoDatabase("is a web page and no backup: download or copy it again")
    if head.startswith(_ZIP):
        return NoDatabase("is a ZIP and no backup: unpack it")
    if not head.strip(b"\0"):
        return NoDatabase(f"holds nothing but zeros: {_AGAIN}")
    return NoDatabase(f"is no backup of WhatsApp's that is known, or its beginning is damaged: {_AGAIN}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A base-128 number and where it ends. Raises ValueError."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("cut short")
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without end")


def _message(data: bytes) -> dict[int, int | bytes]:
    """The fields of a protobuf message by number, the last of each; unknown ones too. Raises ValueError."""
    fields: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise ValueError("no field has this number")
        if wire == 0:
            fields[number], at = _varint(data, at)
            continue
        length, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, -1), at)
        if not 0 <= length <= len(data) - at:
            raise ValueError("no field of this kind, or cut short")
        fields[number], at = data[at : at + length], at + length
    return fields


def _bytes(fields: dict[int, int | bytes], number: int) -> bytes:
    value = fields.get(number, b"")
    return value if isinstance(value, bytes) else b""


class _Tail(NamedTuple):
    """Where the ciphertext ends, and its tag; whether the MD5 behind it, if there is one, is wrong."""

    end: int
    tag: bytes
    spoilt: bool


def decrypt(copy: Path, header: Header, keys: Iterable[Key], target: Path, *, most: int = MOST_BYTES) -> bool:
    """Open a private copy of an encrypted database into `target` (0600) with the first key that fits; True where only its MD5 is wrong.

    Two passes: the first throws away what it decrypts and looks at the tag; only then anything is kept, unpacked and written. Memory does
    not depend on the file's size; `most` bytes are written. Raises NotOpened, and OSError; then there is no `target`.
    """
    with open(copy, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size < header.start + _TAG:
            raise Damaged(f"is incomplete, only {size:,} bytes of it are there: {_AGAIN}")
        tails, sealed = _tails(file, header, size)
        for key in keys:
            for tail in tails:
                if _authentic(file, header, key, tail):
                    _keep(_decrypted(file, header, key, tail), target, most)
                    return tail.spoilt
        raise _why_not(header, sealed, size, _ends_in_number(file, size))


def _tails(file: BinaryIO, header: Header, size: int) -> tuple[list[_Tail], bool]:
    """The ways in which the file may end, likeliest first; and whether its MD5 is there and right, so that every byte is as it was."""
    end = size - 4 if _ends_in_number(file, size) else size
    last = _read(file, max(header.start, end - _TAG - _MD5), end)
    if len(last) < _TAG + _MD5:
        return [_Tail(end - _TAG, last[-_TAG:], False)] if len(last) >= _TAG else [], False
    before = _Tail(end - _TAG - _MD5, last[:_TAG], False)
    whole = hashlib.md5(usedforsecurity=False)
    for piece in _pieces(file, 0, end - _MD5):
        whole.update(piece)
    if whole.digest() == last[_TAG:]:
        return [before], True
    return [_Tail(end - _TAG, last[_TAG:], False), before._replace(spoilt=True)], False


def _ends_in_number(file: BinaryIO, size: int) -> bool:
    return bool(_NUMBER.fullmatch(_read(file, size - 4, size)))


def _why_not(header: Header, sealed: bool, size: int, numbered: bool) -> NotOpened:
    if header.locked_by:
        return phone_only(header.locked_by)
    if sealed:
        return WrongKey(f"is whole, but {wrong_key(header)}")
    if header.numbered and not numbered:
        return Damaged(f"is incomplete, only its first {size:,} bytes are there: {_AGAIN}")
    if header.salts is not None:  # the key was known to be its own
        return Damaged(f"is damaged or incomplete ({size:,} bytes are there): {_AGAIN}")
    unclear = "or takes another key than was given, which cannot be told apart"
    return Damaged(f"is damaged or incomplete ({size:,} bytes are there), {unclear}: {_AGAIN}, then add older keys")


def wrong_kind(header: Header) -> WrongKey:
    """What is said where only keys of the other kind were given."""
    if header.end_to_end:
        return WrongKey(f"takes the 64-digit key or encrypted_backup.key, not the file 'key': give that, or {_NEW_KEY.format('')}")
    return WrongKey(f"takes no 64-digit key: {_other_key(header)}")


def wrong_key(header: Header) -> WrongKey:
    """What is said where it is certain that the keys that were given are those of other files."""
    return WrongKey(f"takes another key than was given: {_other_key(header)}")


def _other_key(header: Header) -> str:
    if header.end_to_end:
        return f"add older keys; if none fits, or it has a password, {_NEW_KEY.format('')}"
    return f"it takes the file 'key' of the very installation that made it, from a rooted phone; else {_NEW_KEY.format('')}"


def _authentic(file: BinaryIO, header: Header, key: Key, tail: _Tail) -> bool:
    try:
        for _ in _decrypted(file, header, key, tail):
            pass
    except _WrongTag:
        return False
    return True


def _decrypted(file: BinaryIO, header: Header, key: Key, tail: _Tail) -> Iterator[bytes]:
    """The plaintext in pieces. Raises _WrongTag behind the last one: whoever keeps a piece must wait for the end."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(key.aes), modes.GCM(header.iv, tail.tag)).decryptor()
    for piece in _pieces(file, header.start, tail.end):
        yield cipher.update(piece)
    try:
        yield cipher.finalize()
    except InvalidTag:
        raise _WrongTag(f"changed while it was read: {_AGAIN}") from None


def _pieces(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end:
        piece = file.read(min(_CHUNK, end - start))
        if not piece:
            return  # shorter than it was: the tag will not be right
        start += len(piece)
        yield piece


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    return b"".join(_pieces(file, max(start, 0), end))


def _keep(plain: Iterator[bytes], target: Path, most: int) -> None:
    """Write the database that was inside. Raises NoDatabase, Damaged, OSError; then there is no file."""
    room = shutil.disk_usage(target.parent).free - _ROOM_LEFT
    try:
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            written = 0
            for piece in _unpacked(plain):
                if not written:
                    _look(piece)
                written += len(piece)
                if written > most:
                    raise NoDatabase(f"unpacks to more than {most:,} bytes, which no database has")
                if written > room:
                    raise NoDatabase(f"unpacks to more than there is room in {target.parent}: make room and run again")
                out.write(piece)
            if not written:
                raise NoDatabase(f"opens, but is empty inside: {_AGAIN}")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _look(start: bytes) -> None:
    if start.startswith(_ZIP):
        raise Increment("holds only changes since a full backup: name the full one")
    if not start.startswith(SQLITE):
        raise NoDatabase("opens, but what is inside is no database")


def _unpacked(plain: Iterator[bytes]) -> Iterator[bytes]:
    """What was packed with zlib, in pieces of at most 1 MiB; anything else as it is. Raises NoDatabase, Damaged.

    A stream without its end would give half a database that looks whole: the end is asked for.
    """
    first = next(plain, b"")
    pieces = chain((first,), plain)
    if not first.startswith(_ZLIB):
        yield from filter(None, pieces)
        return
    engine = zlib.decompressobj()
    try:
        for packed in pieces:
            if engine.eof:
                continue  # to the end all the same: there stands the tag
            while out := engine.decompress(packed, _CHUNK):
                yield out
                packed = engine.unconsumed_tail
    except zlib.error:
        raise NoDatabase("opens, but what is inside cannot be unpacked") from None
    if not engine.eof:
        raise Damaged(f"opens, but what is inside was cut short when it was made: back up in the app again, and {_AGAIN}")
