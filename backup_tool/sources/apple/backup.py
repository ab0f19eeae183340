"""A backup of an iPhone or iPad as Finder, iTunes, Apple Devices and libimobiledevice make it: one folder, its files under made-up names.

    Info.plist, Manifest.plist, Status.plist    about the device and the backup; never encrypted
    Manifest.db                                 SQLite: which file is which; encrypted as a whole where the backup is
    ab/ab…                                      the files, each named by the SHA-1 of its domain and path

`Manifest.db`: table `Files` (`fileID`, `domain`, `relativePath`, `flags`: 1 for a file, `file`: its record, see `plists`).

with open_backup(tree, "0000-1111", workdir, unlock) as backup:
    for file in backup.files("AppDomainGroup-group.net.whatsapp.WhatsApp.shared"):
        payload = backup.payload(file)
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from backup_tool.sources.apple.crypt import decrypted, plain_size
from backup_tool.sources.apple.keybag import WrongBackupPassword, passwords_of, read_keybag, unwrap
from backup_tool.sources.apple.plists import LARGEST, UNKNOWN_RECORD, FileRecord, read_plist, read_record
from backup_tool.sources.base import AudioFile, FileChanging, FileUnreadable, Unlock
from backup_tool.sources.sqlite import copied, opened
from backup_tool.sources.tree import MAX_SIZE, Tree, why

MANIFEST, OLD_MANIFEST = "Manifest.db", "Manifest.mbdb"
ABOUT_BACKUP, ABOUT_DEVICE, STATUS = "Manifest.plist", "Info.plist", "Status.plist"
SQLITE = b"SQLite format 3\0"
_FILE_ID = re.compile(r"[0-9a-f]{40}")
_ORDINARY = 1
"""`flags` of a row that has a payload."""
_LONGEST_PATH = 4096
_PIECE = 2**20
_MOST_BYTES = 8 * 2**30
"""No database of a phone is larger."""
_HOW_TO_GIVE_IT = "name a file with the backup's password by 'key_file' (or 'key_command', 'keyring') of the source, or by --key-file"
_DOES_NOT_OPEN = (
    "encrypted, and no password that was given opens it: give the one that was set when 'Encrypt local backup' was switched on, "
    "which is not the phone's code"
)


class About(NamedTuple):
    """What a backup says of itself without being opened. `made` is None where no list says when; `encrypted` where it cannot be told."""

    identity: str | None
    """What tells the device from others; its name where nothing better is known."""
    device: str | None
    product: str | None
    version: str | None
    made: datetime | None
    encrypted: bool | None
    finished: bool
    apps: frozenset[str]
    """Bundle identifiers of the apps that were installed; empty where not told."""


class BackupFile(NamedTuple):
    """A row of the manifest that has a payload."""

    path: str
    file_id: str
    record: object
    """Read by `OpenBackup.record`."""


class Payload(NamedTuple):
    """A file's bytes: where they are on this machine, their true size, and when the file was last changed.

    `key` is None in a plain backup; `mtime_ns` is then the payload's own, else the one that the phone recorded.
    """

    location: bytes
    size: int
    mtime_ns: int
    key: bytes | None


class PayloadAbsent(FileUnreadable):
    """The manifest names a file that is not in the folder: the backup was interrupted, filtered, or copied in part."""


def about(tree: Tree, store: str) -> About:
    """What the property lists of a backup say. Raises nothing: what is absent or damaged says nothing."""
    info, manifest, status = (_plist(tree, store, name) for name in (ABOUT_DEVICE, ABOUT_BACKUP, STATUS))
    lockdown = manifest.get("Lockdown")
    lockdown = lockdown if isinstance(lockdown, dict) else {}
    dates = (info.get("Last Backup Date"), manifest.get("Date"), status.get("Date"))
    apps = info.get("Installed Applications")
    device = _text(info.get("Device Name")) or _text(info.get("Display Name")) or _text(lockdown.get("DeviceName"))
    return About(
        identity=_text(info.get("Unique Identifier")) or _text(info.get("Target Identifier")) or device,
        device=device,
        product=_text(info.get("Product Type")) or _text(lockdown.get("ProductType")),
        version=_text(info.get("Product Version")) or _text(lockdown.get("ProductVersion")),
        made=max((date.replace(tzinfo=None) for date in dates if isinstance(date, datetime)), default=None),
        encrypted=is_encrypted(tree, store, manifest),
        finished=status.get("SnapshotState", "finished") == "finished",
        apps=frozenset(app for app in apps if isinstance(app, str)) if isinstance(apps, list) else frozenset(),
    )


def is_encrypted(tree: Tree, store: str, manifest: dict[str, Any] | None = None) -> bool | None:
    """Whether a backup is encrypted; without a Manifest.plist only a plain Manifest.db tells, and None is "not known"."""
    manifest = _plist(tree, store, ABOUT_BACKUP) if manifest is None else manifest
    if isinstance(manifest.get("IsEncrypted"), bool | int):
        return bool(manifest["IsEncrypted"])
    return False if head_of(tree, below(store, MANIFEST), 16) == SQLITE else None


@contextmanager
def open_backup(tree: Tree, store: str, workdir: Path, unlock: Unlock) -> Iterator[OpenBackup]:
    """Open the backup in the folder `store` of a tree. `unlock` is called only where it is encrypted.

    Raises FileUnreadable with the reason and the cure; WrongBackupPassword where no password opens it; sqlite3.Error, here or while it is
    used, where its manifest is damaged.
    """
    keys, manifest_key = _unlocked(tree, store, unlock)
    with ExitStack() as stack:
        if manifest_key:
            try:
                copy = stack.enter_context(_decrypted_copy(tree, {"": (below(store, MANIFEST), manifest_key)}, workdir))
            except FileUnreadable as error:
                raise FileUnreadable(
                    f"its {MANIFEST} cannot be opened: {error}: copy the whole folder again, or make the backup anew"
                ) from None
        else:
            copy = stack.enter_context(_plain_copy(tree, {"": below(store, MANIFEST), "-wal": below(store, MANIFEST + "-wal")}, workdir))
        if _head(copy) != SQLITE:
            raise FileUnreadable("damaged: its Manifest.db is no database: make the backup again")
        yield OpenBackup(tree, store, workdir, keys, stack.enter_context(opened(copy)))


class OpenBackup:
    """A backup whose manifest can be read. Made by `open_backup`; used inside its `with`."""

    def __init__(self, tree: Tree, store: str, workdir: Path, keys: dict[int, bytes] | None, manifest: sqlite3.Connection) -> None:
        self._tree = tree
        self._store = store
        self._workdir = workdir
        self._keys = keys
        self._manifest = manifest
        columns = {row[1] for row in manifest.execute("PRAGMA table_info(Files)")}
        if not {"fileID", "domain", "relativePath"} <= columns:
            raise FileUnreadable("its Manifest.db is not laid out as backups have it")
        self._columns = "relativePath, fileID, " + ("file" if "file" in columns else "NULL")
        self._ordinary = f" AND flags = {_ORDINARY}" if "flags" in columns else ""

    def has(self, domain: str) -> bool:
        """True where the manifest has any file of a domain."""
        return next(self._select("domain = ?", domain), None) is not None

    def files(self, domain: str, above: str = "") -> Iterator[BackupFile]:
        """The files of a domain whose path begins with `above`. Rows with an impossible name are left out."""
        return self._select("domain = ?1 AND substr(relativePath, 1, length(?2)) = ?2", domain, above)

    def find(self, domain: str, path: str) -> BackupFile | None:
        """One file; None where the manifest does not have it."""
        return next(self._select("domain = ? AND relativePath = ?", domain, path), None)

    def _select(self, where: str, *values: str) -> Iterator[BackupFile]:
        # Made of nothing but names of this module: no text of a database ever becomes part of a query.
        rows = self._manifest.execute(f"SELECT {self._columns} FROM Files WHERE {where}{self._ordinary}", values)  # noqa: S608
        for path, file_id, record in rows:
            if isinstance(path, str) and len(path) <= _LONGEST_PATH and isinstance(file_id, str) and _FILE_ID.fullmatch(file_id):
                yield BackupFile(path, file_id, record)

    def place(self, file: BackupFile) -> str:
        """The path of a payload below the tree's root."""
        return below(self._store, f"{file.file_id[:2]}/{file.file_id}")

    def record(self, file: BackupFile) -> FileRecord:
        """What the manifest says of a file. Raises FileUnreadable where an encrypted file cannot be had without."""
        try:
            return read_record(file.record)
        except FileUnreadable:
            if self._keys is not None:
                raise
            return UNKNOWN_RECORD

    def payload(self, file: BackupFile, record: FileRecord) -> Payload:
        """Where a file's bytes are. Raises FileUnreadable; PayloadAbsent where there are none."""
        location = self._tree.location(self.place(file))
        try:
            found = os.lstat(location)
        except FileNotFoundError:
            raise PayloadAbsent("not in the backup's folder") from None
        except OSError as error:
            raise FileUnreadable(why(error)) from None
        if not stat.S_ISREG(found.st_mode):
            raise FileUnreadable("not an ordinary file")
        if found.st_size > MAX_SIZE:
            raise FileUnreadable(f"larger than {MAX_SIZE // 2**30} GiB")
        if self._keys is None:
            return Payload(location, found.st_size, found.st_mtime_ns, None)
        key = self._key(record) if found.st_size else b""
        return Payload(location, self._plain_size(location, key), (record.modified or 0) * 10**9, key)

    def _key(self, record: FileRecord) -> bytes:
        assert self._keys is not None
        if record.key is None or record.protection_class is None:
            raise FileUnreadable("encrypted, and the backup's list has no key for it")
        above = self._keys.get(record.protection_class)
        if above is None:
            raise FileUnreadable(f"encrypted under class {record.protection_class}, which the backup's key bag has no key for")
        key = unwrap(above, record.key)
        if key is None:
            raise FileUnreadable("damaged: its key in the backup's list does not open")
        return key

    def _plain_size(self, location: bytes, key: bytes) -> int:
        if not key:
            return 0
        handle = self._tree.open_file(location)
        try:
            return plain_size(handle, key)
        except OSError as error:
            raise FileUnreadable(why(error)) from None
        finally:
            os.close(handle)

    @contextmanager
    def database(self, domain: str, path: str) -> Iterator[Path | None]:
        """A private copy of a database of the phone, with its `-wal`; None where the manifest does not have it. Raises FileUnreadable."""
        parts = {beside: file for beside in ("", "-wal") if (file := self.find(domain, path + beside))}
        if "" not in parts:
            yield None
        elif is_absent(self._tree, self.place(parts[""])):
            raise PayloadAbsent("on the backup's list, but not in its folder: the backup was interrupted, or copied in part")
        elif self._keys is None:
            with _plain_copy(self._tree, {beside: self.place(file) for beside, file in parts.items()}, self._workdir) as copy:
                yield copy
        else:
            keyed = {beside: (self.place(file), self._key(self.record(file))) for beside, file in parts.items() if self._holds(file)}
            with _decrypted_copy(self._tree, keyed, self._workdir) as copy:
                yield copy

    def _holds(self, file: BackupFile) -> bool:
        """True where a payload is there and not empty: only then it has a key."""
        try:
            return os.lstat(self._tree.location(self.place(file))).st_size > 0
        except OSError:
            return False


def read_payload(tree: Tree, file: AudioFile, key: bytes, piece: int) -> Iterator[bytes]:
    """The bytes of an encrypted file as `Source.read` promises them."""
    handle = tree.open_file(file.location)
    try:
        before = os.fstat(handle)
        if before.st_size != _size_encrypted(file.size, key):
            raise FileChanging("written to since it was listed")
        size = 0
        for part in decrypted(handle, key, piece) if before.st_size else ():
            size += len(part)
            yield part
        after = os.fstat(handle)
        if size != file.size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise FileChanging("written to while it was read")
    except OSError as error:
        raise FileUnreadable(why(error)) from None
    finally:
        os.close(handle)


def below(store: str, path: str) -> str:
    """A path of a store as a path of the tree."""
    return f"{store}/{path}" if store else path


def is_absent(tree: Tree, path: str) -> bool:
    """True where nothing is there. What may not be looked at is not absent: opening it tells why."""
    try:
        os.lstat(tree.location(path))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def head_of(tree: Tree, path: str, length: int) -> bytes:
    """The first bytes of a file; empty where it cannot be read."""
    try:
        return tree.head(path, length)
    except FileUnreadable:
        return b""


def _plist(tree: Tree, store: str, name: str) -> dict[str, Any]:
    """A property list at the top of a backup; empty where it is absent or damaged."""
    try:
        return read_plist(tree.head(below(store, name), LARGEST))
    except FileUnreadable:
        return {}


def _text(value: object) -> str | None:
    return value[:200] if isinstance(value, str) and value else None


def _unlocked(tree: Tree, store: str, unlock: Unlock) -> tuple[dict[int, bytes] | None, bytes | None]:
    """(class keys, key of the manifest) of an encrypted backup; (None, None) of a plain one; the second is None before iOS 10.2."""
    _refuse_what_is_none(tree, store)
    manifest = _plist(tree, store, ABOUT_BACKUP)
    encrypted = is_encrypted(tree, store, manifest)
    if encrypted is False:
        return None, None
    if encrypted is None:
        raise FileUnreadable(
            f"its {ABOUT_BACKUP} is missing or damaged, and without it an encrypted backup stays closed: copy the whole folder"
        )
    bag = manifest.get("BackupKeyBag")
    if not isinstance(bag, bytes):
        raise FileUnreadable(f"damaged: its {ABOUT_BACKUP} says that it is encrypted, and has no key bag")
    keybag = read_keybag(bag)
    passwords = passwords_of(unlock())
    if not passwords:
        raise FileUnreadable(f"encrypted, and no password was given: {_HOW_TO_GIVE_IT}")
    try:
        keys = keybag.unlock(passwords)
    except WrongBackupPassword:
        raise WrongBackupPassword(_DOES_NOT_OPEN) from None
    return keys, _manifest_key(tree, store, manifest, keys)


def _refuse_what_is_none(tree: Tree, store: str) -> None:
    """Folders that look like a backup and are none that can be read, each with its own words."""
    try:
        size = os.lstat(tree.location(below(store, MANIFEST))).st_size
    except FileNotFoundError:
        if os.path.lexists(tree.location(below(store, OLD_MANIFEST))):
            raise FileUnreadable("made by iOS 9 or older, which is not read: back the device up again with a newer iOS") from None
        raise FileUnreadable("its Manifest.db is missing: copy the whole folder, or make the backup again") from None
    except OSError as error:
        raise FileUnreadable(f"its Manifest.db cannot be read: {why(error)}") from None
    if not size:
        raise FileUnreadable(
            "its Manifest.db is empty, as in what tools download from iCloud: make a backup with Finder, iTunes or idevicebackup2"
        )


def _manifest_key(tree: Tree, store: str, manifest: dict[str, Any], keys: dict[int, bytes]) -> bytes | None:
    """The key of Manifest.db: the number of a class (little-endian), then a key wrapped by that class's. None where it is not encrypted."""
    wrapped = manifest.get("ManifestKey")
    if wrapped is None and head_of(tree, below(store, MANIFEST), 16) == SQLITE:
        return None
    if not isinstance(wrapped, bytes) or len(wrapped) != 44:
        raise FileUnreadable(f"damaged: its {ABOUT_BACKUP} has no key for Manifest.db")
    above = keys.get(int.from_bytes(wrapped[:4], "little"))
    key = unwrap(above, wrapped[4:]) if above else None
    if key is None:
        raise FileUnreadable(f"damaged: the key for Manifest.db in its {ABOUT_BACKUP} does not open, though the password is right")
    return key


def _size_encrypted(size: int, key: bytes) -> int:
    """How long the payload of a file of this size is; without a key, an empty one."""
    return (size // 16 + 1) * 16 if key else 0


@contextmanager
def _plain_copy(tree: Tree, parts: dict[str, str], workdir: Path) -> Iterator[Path]:
    """A private copy of a database and what lies beside it, each at its own place."""

    def opener(beside: str) -> int | None:
        place = parts.get(beside)
        return None if place is None or (beside and is_absent(tree, place)) else tree.open_file(tree.location(place))

    with copied(opener, workdir) as copy:
        yield copy


@contextmanager
def _decrypted_copy(tree: Tree, parts: dict[str, tuple[str, bytes]], workdir: Path) -> Iterator[Path]:
    """As `_plain_copy`, of (place, key): decrypted on the way, in bounded memory."""
    folder = Path(tempfile.mkdtemp(prefix="database-", dir=workdir))
    try:
        for beside, (place, key) in parts.items():
            _decrypt_to(tree, place, key, folder / f"copy.db{beside}")
        (folder / "copy.db").touch(0o600)  # an empty one has no key, and is empty here too
        yield folder / "copy.db"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _decrypt_to(tree: Tree, place: str, key: bytes, target: Path) -> None:
    handle = tree.open_file(tree.location(place))
    try:
        if os.fstat(handle).st_size > _MOST_BYTES:
            raise FileUnreadable("larger than 8 GiB")
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as out:
            for part in decrypted(handle, key, _PIECE):
                out.write(part)
    except OSError as error:
        raise FileUnreadable(f"cannot be copied: {why(error)}") from None
    finally:
        os.close(handle)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)
