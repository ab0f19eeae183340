"""Writes device backups as Finder and libimobiledevice leave them, plain or encrypted, from the public descriptions of the format alone.

backup = IPhoneBackup(folder / "00008101-0000000000000001", password="open sesame")
backup.put(WHATSAPP, "Message/Media/4917@s.whatsapp.net/a/b/ab12.opus", data)
backup.close()
"""

from __future__ import annotations

import hashlib
import os
import plistlib
import random
import sqlite3
import struct
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.generators.old import put_old

WHATSAPP = "AppDomainGroup-group.net.whatsapp.WhatsApp.shared"
BUSINESS = "AppDomainGroup-group.net.whatsapp.WhatsAppSMB.shared"
OLD_WHATSAPP = "AppDomain-net.whatsapp.WhatsApp"
WHEN = datetime(2026, 3, 3, 20, 15)
CHANGED = 1_772_546_700
"""2026-03-03 14:05:00 UTC."""
CLASSES = (1, 2, 3, 4)
FILE_CLASS, MANIFEST_CLASS = 3, 4


def wrap(above: bytes, key: bytes) -> bytes:
    """AES key wrap, by hand (RFC 3394, section 2.2.1)."""
    encrypt = Cipher(algorithms.AES(above), modes.ECB()).encryptor().update  # noqa: S305 (a single block at a time, as the RFC has it)
    first, blocks = b"\xa6" * 8, [key[at : at + 8] for at in range(0, len(key), 8)]
    for turn in range(6):
        for number, block in enumerate(blocks):
            both = encrypt(first + block)
            count = len(blocks) * turn + number + 1
            first = (int.from_bytes(both[:8], "big") ^ count).to_bytes(8, "big")
            blocks[number] = both[8:]
    return first + b"".join(blocks)


def encrypt(data: bytes, key: bytes) -> bytes:
    """AES-256-CBC with an IV of zeros, padded to a whole block (always by at least one byte)."""
    count = 16 - len(data) % 16
    return Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor().update(data + bytes([count]) * count)


def tagged(tag: str, value: bytes | int) -> bytes:
    """One field of a key bag."""
    raw = struct.pack(">I", value) if isinstance(value, int) else value
    return tag.encode() + struct.pack(">I", len(raw)) + raw


class IPhoneBackup:
    """A backup that is being written. `rounds` are those of the second derivation; `first_rounds` 0 makes it as before iOS 10.2."""

    def __init__(
        self,
        folder: Path,
        *,
        password: str | bytes | None = None,
        rounds: int = 10,
        first_rounds: int = 20,
        made: datetime = WHEN,
        seed: int = 0,
    ) -> None:
        self.folder = folder
        self.made = made
        self.status = "finished"
        self.manifest_plist = True
        self.device = "Anna's iPhone"
        self.password = password.encode() if isinstance(password, str) else password
        self._random = random.Random(seed)
        self._keys = {number: self._random.randbytes(32) for number in CLASSES}
        self._rounds, self._first_rounds = rounds, first_rounds
        self._rows: list[tuple[str, str, str, int, bytes]] = []
        folder.mkdir(parents=True)
        for domain in (WHATSAPP, "HomeDomain"):
            self._row(domain, "", 2, self._record("", {"Mode": 0o040755}))
        self._row("HomeDomain", "Library/Link", 4, self._record("Library/Link", {"Mode": 0o120777}))

    def put(
        self, domain: str, path: str, data: bytes, *, birth: int = CHANGED, changed: int = CHANGED, size: int | None = None,
        absent: bool = False, class_: int = FILE_CLASS, record: bytes | None = None,
    ) -> Path:  # fmt: skip
        """A file of the phone; where its payload lies. `absent` leaves the payload out, `size` and `record` say something false."""
        key = self._random.randbytes(32)
        about: dict[str, Any] = {"Mode": 0o100644, "Size": len(data) if size is None else size, "Birth": birth, "LastModified": changed}
        if self.password is not None and data:
            about |= {"ProtectionClass": class_, "EncryptionKey": struct.pack("<I", class_) + wrap(self._keys.get(class_, bytes(32)), key)}
        file_id = hashlib.sha1(f"{domain}-{path}".encode()).hexdigest()
        self._row(domain, path, 1, self._record(path, about) if record is None else record)
        place = self.folder / file_id[:2] / file_id
        if not absent:
            place.parent.mkdir(exist_ok=True)
            put_old(place, encrypt(data, key) if self.password is not None and data else data)
        return place

    def put_database(self, domain: str, path: str, database: Path) -> Path:
        """A database of the phone."""
        return self.put(domain, path, database.read_bytes(), size=4096)

    def _row(self, domain: str, path: str, flags: int, record: bytes) -> None:
        self._rows.append((hashlib.sha1(f"{domain}-{path}".encode()).hexdigest(), domain, path, flags, record))

    def _record(self, path: str, about: dict[str, Any]) -> bytes:
        """An MBFile, archived; its objects in an order that nobody may count on."""
        objects: list[Any] = ["$null", path]
        record: dict[str, Any] = {"RelativePath": plistlib.UID(1), "InodeNumber": 7, "UserID": 501, "GroupID": 501, "Flags": 0}
        for name, value in about.items():
            if isinstance(value, bytes):
                objects.append({"NS.data": value})
                record[name] = plistlib.UID(len(objects) - 1)
            else:
                record[name] = value
        objects.append(record)
        return plistlib.dumps(
            {"$version": 100000, "$archiver": "NSKeyedArchiver", "$top": {"root": plistlib.UID(len(objects) - 1)}, "$objects": objects},
            fmt=plistlib.FMT_BINARY,
        )

    def close(self) -> Path:
        """Write the manifest and the lists; the backup's folder."""
        manifest = self._manifest()
        about: dict[str, Any] = {
            "IsEncrypted": self.password is not None, "Version": "10.0", "Date": self.made, "WasPasscodeSet": True,
            "Lockdown": {"ProductVersion": "17.2.1", "DeviceName": self.device},
        }  # fmt: skip
        if self.password is not None:
            key = self._random.randbytes(32)
            manifest = encrypt(manifest, key)
            about["ManifestKey"] = struct.pack("<I", MANIFEST_CLASS) + wrap(self._keys[MANIFEST_CLASS], key)
            about["BackupKeyBag"] = self.keybag()
        (self.folder / "Manifest.db").write_bytes(manifest)
        about_device = {
            "Device Name": self.device, "Product Version": "17.2.1", "Product Type": "iPhone13,2", "Last Backup Date": self.made,
            "Installed Applications": ["net.whatsapp.WhatsApp"],
        }  # fmt: skip
        self.write_plist("Info.plist", about_device, plistlib.FMT_XML)
        self.write_plist("Status.plist", {"SnapshotState": self.status, "Date": self.made, "IsFullBackup": False})
        if self.manifest_plist:
            self.write_plist("Manifest.plist", about)
        return self.folder

    def write_plist(self, name: str, content: dict[str, Any], fmt: Any = plistlib.FMT_BINARY) -> None:
        """One of the lists at the top."""
        (self.folder / name).write_bytes(plistlib.dumps(content, fmt=fmt))

    def keybag(self) -> bytes:
        """The keys of all classes, wrapped by one that comes from the password."""
        assert self.password is not None
        salt, first_salt = self._random.randbytes(20), self._random.randbytes(20)
        first = hashlib.pbkdf2_hmac("sha256", self.password, first_salt, self._first_rounds, 32) if self._first_rounds else self.password
        above = hashlib.pbkdf2_hmac("sha1", first, salt, self._rounds, 32)
        bag = tagged("VERS", 4) + tagged("TYPE", 1) + tagged("UUID", bytes(16)) + tagged("HMCK", bytes(40)) + tagged("WRAP", 0)
        bag += tagged("SALT", salt) + tagged("ITER", self._rounds)
        if self._first_rounds:
            bag += tagged("DPWT", 1) + tagged("DPIC", self._first_rounds) + tagged("DPSL", first_salt)
        bag += self._class_key(11, 1, self._random.randbytes(40))  # bound to the device: never opens elsewhere
        for number, key in self._keys.items():
            bag += self._class_key(number, 2, wrap(above, key))
        return bag

    def _class_key(self, number: int, how: int, wrapped: bytes) -> bytes:
        return (
            tagged("UUID", self._random.randbytes(16))
            + tagged("CLAS", number)
            + tagged("WRAP", how)
            + tagged("KTYP", 0)
            + tagged("WPKY", wrapped)
        )

    def _manifest(self) -> bytes:
        with tempfile.TemporaryDirectory() as name:
            path = os.path.join(name, "Manifest.db")
            connection = sqlite3.connect(path)
            connection.execute("CREATE TABLE Files (fileID TEXT PRIMARY KEY, domain TEXT, relativePath TEXT, flags INTEGER, file BLOB)")
            connection.execute("CREATE INDEX FilesDomainIdx ON Files(domain)")
            connection.execute("CREATE TABLE Properties (key TEXT PRIMARY KEY, value BLOB)")
            connection.executemany("INSERT OR REPLACE INTO Files VALUES (?, ?, ?, ?, ?)", self._rows)
            connection.commit()
            connection.close()
            return Path(path).read_bytes()
