"""Property lists of a device backup: the few at its top, and the record that its manifest keeps of each file.

The record is an `MBFile` as Apple's NSKeyedArchiver writes it: a binary property list with a table `$objects`, in which a UID stands for
the object at that number, and `$top` → `root` for the record itself.
"""

from __future__ import annotations

import plistlib
from typing import Any, NamedTuple

from backup_tool.sources.base import FileUnreadable

LARGEST = 64 * 2**20
"""An Info.plist holds the icons of all apps; none is larger than a few megabytes."""
_LARGEST_RECORD = 2**20


class FileRecord(NamedTuple):
    """What the manifest says of a file. Times are seconds since 1970; `key` is its own key, wrapped by that of its protection class."""

    birth: int | None
    modified: int | None
    protection_class: int | None
    key: bytes | None


UNKNOWN_RECORD = FileRecord(None, None, None, None)


def read_plist(data: bytes) -> dict[str, Any]:
    """A property list, binary or XML, that is a dictionary at its top. Raises FileUnreadable."""
    try:
        found = plistlib.loads(data)
    except Exception:  # whatever the library happens to stumble over in bytes that are none: a dozen types, RecursionError among them
        raise FileUnreadable("damaged: not a property list") from None
    if not isinstance(found, dict):
        raise FileUnreadable("damaged: not a property list as backups have them")
    return found


def read_record(blob: object) -> FileRecord:
    """The record of one file. What it does not say, or says in another form than known, is None. Raises FileUnreadable."""
    if not isinstance(blob, bytes) or len(blob) > _LARGEST_RECORD:
        raise FileUnreadable("damaged: the backup's list says nothing of it")
    archive = read_plist(blob)
    objects, top = archive.get("$objects"), archive.get("$top")
    root = _followed(objects, top.get("root") if isinstance(top, dict) else None)
    if not isinstance(root, dict):
        raise FileUnreadable("damaged: what the backup's list says of it cannot be read")
    held = _followed(objects, root.get("EncryptionKey"))
    key = _followed(objects, held.get("NS.data")) if isinstance(held, dict) else held
    return FileRecord(
        birth=number_of(root.get("Birth")),
        modified=number_of(root.get("LastModified")),
        protection_class=number_of(root.get("ProtectionClass")),
        key=key[4:] if isinstance(key, bytes) and len(key) == 44 else None,  # the first four bytes repeat the class
    )


def number_of(value: object) -> int | None:
    """A whole number, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _followed(objects: object, value: object) -> object:
    """What a value stands for: a UID for an object of the table, anything else for itself."""
    if not isinstance(value, plistlib.UID):
        return value
    return objects[value.data] if isinstance(objects, list) and value.data < len(objects) else None
