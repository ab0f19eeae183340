"""Key files: how a password opens a repository.

Plain JSON that holds the master key, sealed with a key derived from the password (restic's design document, section "Keys, Encryption and
MAC"). Several passwords are several files, all holding the same master key; taking one away does not revoke what its owner once read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from backup_tool.destinations.base import Destination
from backup_tool.errors import BadRange, DamagedObject, IntegrityError, ObjectMissing, UsageError, WrongPassword
from backup_tool.models import Secret
from backup_tool.repository import gojson, times
from backup_tool.repository.crypto import BrokenSeal, Key, derive
from backup_tool.repository.objects import load_whole, store
from backup_tool.repository.sealed import Unreadable, parse

# What restic itself chooses on such a machine (0.14, calibrated). One guess costs an attacker 32 MB and a tenth of a second, and so does
# every command of ours: a password of several random words is what protects an archive, not a larger N.
_N, _R, _P = 2**15, 8, 1
SALT_SIZE = 64
# What is worth trying of what others wrote: a hostile key file must not take the machine's memory or its day.
_MAX_N, _MAX_R, _MAX_P, _MAX_MEMORY = 2**20, 32, 16, 2**30
MAX_KEYS = 20
_MAX_FILE = 2**20


class KeyFile(msgspec.Struct):
    """A key file's JSON. `data` and `salt` are base64; `created` is RFC 3339."""

    kdf: str
    N: int
    r: int
    p: int
    salt: str
    data: str
    created: str = ""
    username: str = ""
    hostname: str = ""


class _Mac(msgspec.Struct):
    k: str
    r: str


class _MasterKey(msgspec.Struct):
    mac: _Mac
    encrypt: str


class KeyInfo(NamedTuple):
    """One key file as it is listed."""

    id: str
    created: str
    username: str
    hostname: str


def new_password(password: Secret) -> bytes:
    """The bytes of a password that is to be set: NFC, no outer white space. Raises UsageError for one that other tools could not give."""
    text = unicodedata.normalize("NFC", password.reveal()).strip()
    if not text:
        raise UsageError("the password is empty", "choose one that is long and that you will find again in ten years")
    if any(character in text for character in "\r\n\0"):
        raise UsageError("the password has a line break in it", "put it on one line")
    return text.encode("utf-8", "surrogateescape")


def password_forms(password: Secret) -> list[bytes]:
    """The bytes to try when opening: as this program sets passwords, then exactly as typed, for repositories that others made."""
    raw = password.reveal()
    tidy = unicodedata.normalize("NFC", raw).strip()
    return list(dict.fromkeys(form.encode("utf-8", "surrogateescape") for form in (tidy, raw)))


def add_key(destination: Destination, master: Key, password: Secret, *, hostname: str, username: str, created_ns: int) -> str:
    """Write a key file for the password, and give its id. Its parameters: N = 32768, r = 8, p = 1."""
    salt = os.urandom(SALT_SIZE)
    user_key = derive(new_password(password), salt, _N, _R, _P)
    mac = {"k": _text(master.mac_k), "r": _text(master.mac_r)}
    data = user_key.sealed(gojson.record({"mac": mac, "encrypt": _text(master.encrypt)}).encode())
    fields = {"created": times.written(created_ns), "username": username, "hostname": hostname, "kdf": "scrypt", "N": _N, "r": _R, "p": _P}
    return store(destination, "keys", gojson.record(fields | {"salt": _text(salt), "data": _text(data)}).encode())


def open_key(destination: Destination, password: Secret) -> tuple[str, Key]:
    """(id of the key file that opened, the master key).

    Raises WrongPassword when no key file opens, DamagedObject when one of them is damaged and none of the others opens, IntegrityError
    when there is none at all.
    """
    damage: DamagedObject | None = None
    usable: list[tuple[str, KeyFile]] = []
    listed = sorted(destination.list("keys"))
    for name, size in listed[:MAX_KEYS]:
        try:
            usable.append((name, load_key(destination, name, size)))
        except ObjectMissing:
            continue
        except DamagedObject as error:
            damage = damage or error
    for form in password_forms(password):
        for name, key_file in usable:
            if (master := _try(name, key_file, form)) is not None:
                return name, master
    if damage is not None:
        raise damage
    if not listed:
        raise IntegrityError(
            "the repository has no key files: nothing can open it", "a copy at another place has them: backup repair --from PLACE"
        )
    beyond = f" (the first {MAX_KEYS} of {len(listed)} were tried)" if len(listed) > MAX_KEYS else ""
    raise WrongPassword(
        f"the password opens none of the repository's keys{beyond}",
        "type it again, or look where it is taken from (--password-file, BACKUP_PASSWORD…, the settings)",
    )


def open_damaged(destination: Destination, password: Secret) -> Iterator[tuple[bytes, Key]]:
    """(bytes, master key) of every key file whose bytes do not match its name, and which the password opens all the same: what was
    hurt is none of what opens it."""
    for name, size in sorted(destination.list("keys"))[:MAX_KEYS]:
        if not 0 < size <= _MAX_FILE:
            continue
        try:
            key_file = parse(data := destination.load("keys", name), KeyFile)
        except (BadRange, ObjectMissing, Unreadable):
            continue
        for form in () if _fault(key_file) else password_forms(password):
            with contextlib.suppress(DamagedObject):
                if (master := _try(name, key_file, form)) is not None:
                    yield data, master
                    break


def is_readable(data: bytes) -> bool:
    """Whether these bytes are a key file at all, so that some password may open it."""
    try:
        return _fault(parse(data, KeyFile)) is None
    except Unreadable:
        return False


def load_key(destination: Destination, name: str, size: int) -> KeyFile:
    """One key file, verified and within bounds. Raises DamagedObject, ObjectMissing."""
    data = load_whole(destination, "keys", name, size, _MAX_FILE)
    try:
        key_file = parse(data, KeyFile)
    except Unreadable as error:
        raise DamagedObject("key", name, str(error)) from None
    if fault := _fault(key_file):
        raise DamagedObject("key", name, fault)
    return key_file


def list_keys(destination: Destination) -> Iterator[KeyInfo]:
    """Every key file, in no order. Raises DamagedObject."""
    for name, size in destination.list("keys"):
        key_file = load_key(destination, name, size)
        yield KeyInfo(name, key_file.created, key_file.username, key_file.hostname)


def _fault(key: KeyFile) -> str | None:
    if key.kdf != "scrypt":
        return "it does not use scrypt"
    if not (2 <= key.N <= _MAX_N and key.N & (key.N - 1) == 0 and 1 <= key.r <= _MAX_R and 1 <= key.p <= _MAX_P):
        return "its scrypt parameters are out of bounds"
    if 128 * key.N * key.r > _MAX_MEMORY:
        return "its scrypt parameters want too much memory"
    try:
        salt, _ = _bytes(key.salt), _bytes(key.data)
    except ValueError:
        return "it holds broken base64"
    return None if len(salt) == SALT_SIZE else f"its salt is not {SALT_SIZE} bytes long"


def _try(name: str, key: KeyFile, password: bytes) -> Key | None:
    """The master key, None where this password is not this file's. Raises DamagedObject where it is, and the file holds no usable key."""
    user_key = derive(password, _bytes(key.salt), key.N, key.r, key.p)
    try:
        plain = user_key.open(_bytes(key.data))
    except BrokenSeal:
        return None
    try:
        master = parse(plain, _MasterKey)
        return Key(_bytes(master.encrypt), _bytes(master.mac.k), _bytes(master.mac.r))
    except (Unreadable, ValueError):
        # Not the cause: its text may quote what was inside.
        raise DamagedObject("key", name, "it holds no usable master key") from None


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
