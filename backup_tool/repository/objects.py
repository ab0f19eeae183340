"""Whole stored files, loaded and verified: every one but config is named by the SHA-256 of its own bytes."""

from __future__ import annotations

import hashlib
import hmac
import re

from backup_tool.destinations.base import Destination, ObjectKind
from backup_tool.errors import BadRange, DamagedObject

# The word for one object of each kind, as messages say it.
WORD: dict[ObjectKind, str] = {
    "config": "config", "keys": "key", "snapshots": "snapshot", "index": "index", "locks": "lock", "data": "pack",
}  # fmt: skip
_ID = re.compile("[0-9a-f]{64}")


def is_id(text: str) -> bool:
    """True for 64 lower-case hex digits."""
    return _ID.fullmatch(text) is not None


def name_of(data: bytes | bytearray | memoryview) -> str:
    """The name under which these bytes are stored."""
    return hashlib.sha256(data).hexdigest()


def load_whole(destination: Destination, kind: ObjectKind, name: str, size: int, limit: int) -> bytes:
    """A file's bytes, verified against its name. `size` is what the listing says; more than `limit` bytes are not even fetched.

    Wrong bytes are fetched once more, since they may have been hurt on the way. Raises DamagedObject, and ObjectMissing as it comes.
    """
    word = WORD[kind]
    if size == 0:
        raise DamagedObject(word, name, "it is empty")
    if size > limit:
        raise DamagedObject(word, name, f"it is larger than {limit:,} bytes")
    for _ in range(2):
        try:
            data = destination.load(kind, name)
        except BadRange:
            continue
        if hmac.compare_digest(name_of(data), name):
            return data
    raise DamagedObject(word, name, "its bytes do not match its name")


def store(destination: Destination, kind: ObjectKind, data: bytes) -> str:
    """Store a file under the hash of its bytes, and give that name."""
    name = name_of(data)
    destination.save(kind, name, data)
    return name
