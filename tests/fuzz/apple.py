"""The readers of device backups and of WhatsApp's store on Apple's systems: whatever is in them, only what they document is raised."""

from __future__ import annotations

import os
import plistlib
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from backup_tool.sources.apple import IPhoneSource, describe
from backup_tool.sources.apple.chatstorage import Schema, join_people, name_people, note_of, protobuf_fields, read_rows
from backup_tool.sources.apple.crypt import decrypted, plain_size
from backup_tool.sources.apple.keybag import WrongBackupPassword, read_keybag, unwrap
from backup_tool.sources.apple.people import People
from backup_tool.sources.apple.plists import read_plist, read_record
from backup_tool.sources.base import FileUnreadable, Source
from backup_tool.sources.sqlite import opened
from backup_tool.sources.tree import Tree
from tests.fuzz import Target
from tests.generators.chatstorage import ChatStorage, contacts, lids
from tests.generators.iphone_backup import CHANGED, WHATSAPP, IPhoneBackup, encrypt
from tests.generators.voice_memos import Recordings

_ANNA, _LID, _FAMILY = "491700000001@s.whatsapp.net", "98765432109876@lid", "120363000000000001@g.us"
_FILE = f"Media/{_FAMILY}/a/b/ab000000-fd7d-4a7e-9d5c-0123456789ab.opus"
_KEY = bytes(range(32))
_QUICK = 10_000
_MEMOS, _MEMO = "AppDomainGroup-group.com.apple.VoiceMemos.shared", "20260303 140500-1A2B3C4D.m4a"


def _unless_unreadable(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def target(data: bytes) -> object:
        try:
            return read(data)
        except FileUnreadable:
            return None

    return target


def _open_bag(data: bytes) -> object:
    bag = read_keybag(data)
    if bag.rounds + (bag.first[1] if bag.first else 0) > _QUICK:
        return None  # the derivation is the library's: only its time would be measured
    try:
        keys = bag.unlock([b"word"])
    except WrongBackupPassword:
        return None
    assert all(len(key) == 32 for key in keys.values())
    return keys


def _decrypt(data: bytes) -> object:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        size = plain_size(file.fileno(), _KEY)
        assert len(b"".join(decrypted(file.fileno(), _KEY, 48))) == size
        return size


def _fields(data: bytes) -> object:
    return list(protobuf_fields(data)), unwrap(_KEY, data[:40])


def _go_through(source: Source) -> int:
    scan = source.scan()
    read = 0
    for file in scan:
        try:
            read += sum(len(piece) for piece in source.read(file, 2**20))
        except FileUnreadable:
            continue
    return read + len(scan.summary.chats)


def _read_database(data: bytes) -> object:
    """Any of the three databases: all that is asked of each."""
    people = People()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "copy.db")
        path.write_bytes(data)
        try:
            with opened(path) as connection:
                schema = Schema(connection)
                join_people(schema, people)
                name_people(schema, people)
                rows = list(read_rows(schema, people)) if schema.holds_messages else []
        except sqlite3.Error:
            rows = []
    assert all(who and who.name for who in map(people.who, (_ANNA, _LID, _FAMILY)))
    return [(note_of(row, row.path), row.order, row.message) for row in rows]


def _backup(name: str) -> Callable[[bytes], object]:
    """A device backup, its list of that name made of the input."""

    def target(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as workdir:
            for path, whole in _BACKUP.items():
                Path(folder, path).parent.mkdir(exist_ok=True)
                Path(folder, path).write_bytes(data if path == name else whole)
            tree = Tree(os.fsencode(folder))
            return describe(tree, ""), _go_through(IPhoneSource("phone", tree, [""], Path(workdir), list))

    return target


def _memos(data: bytes) -> object:
    """A device backup with recordings, their database made of the input."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as workdir:
        backup = IPhoneBackup(Path(name, "b"))
        backup.put(_MEMOS, f"Recordings/{_MEMO}", b"\0\0\0\x08ftyp")
        backup.put(_MEMOS, "Recordings/CloudRecordings.db", data)
        tree = Tree(os.fsencode(backup.close()))
        source = IPhoneSource("phone", tree, [""], Path(workdir), list)
        assert len(list(source.scan())) == 1
        return _go_through(source)


def _memos_database() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        memos = Recordings(Path(name))
        memos.memo(_MEMO, title="Grandma")
        memos.memo(None, title="far away")
        memos.close()
        return Path(name, "CloudRecordings.db").read_bytes()


def _databases() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        storage = ChatStorage(folder / "ChatStorage.sqlite")
        family = storage.chat(_FAMILY, "Family", kind=1)
        member = storage.member(family, _LID, name="Anna")
        storage.push_name(_LID, "annie")
        storage.message(family, "A", sent=CHANGED, file=_FILE, member=member, ZMETADATA=b"\x88\x01\x02", ZVCARDNAME="A" * 43 + "=")
        storage.message(storage.chat(_LID, identifier=_ANNA), "B", sent=CHANGED + 0.5, file=None, back=True)
        paths = [
            storage.close(),
            contacts(folder / "ContactsV2.sqlite", {"ZWHATSAPPID": _ANNA, "ZLID": _LID, "ZFULLNAME": b"Anna"}),
            lids(folder / "LID.sqlite", (_LID, _ANNA)),
        ]
        return {path.name: path.read_bytes() for path in paths}


def _files_of_a_backup(password: str | None) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        backup = IPhoneBackup(Path(name, "backup"), password=password)
        backup.put(WHATSAPP, f"Message/{_FILE}", b"OggS")
        backup.put(WHATSAPP, "ChatStorage.sqlite", _DATABASES["ChatStorage.sqlite"])
        folder = backup.close()
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _record(files: dict[str, bytes]) -> bytes:
    """What the manifest says of the note."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "manifest")
        path.write_bytes(files["Manifest.db"])
        with closing(sqlite3.connect(path)) as connection:
            return bytes(connection.execute("SELECT file FROM Files WHERE relativePath LIKE '%.opus'").fetchone()[0])


_DATABASES = _databases()
_BACKUP = _files_of_a_backup(None)
_LOCKED = plistlib.loads(_files_of_a_backup("word")["Manifest.plist"])

TARGETS: dict[str, Target] = {
    "plist": (_unless_unreadable(read_plist), [_BACKUP["Info.plist"], _BACKUP["Manifest.plist"]]),
    "record": (_unless_unreadable(read_record), [_record(_BACKUP)]),
    "keybag": (_unless_unreadable(_open_bag), [_LOCKED["BackupKeyBag"]]),
    "payload": (_unless_unreadable(_decrypt), [encrypt(b"x" * size, _KEY) for size in (0, 15, 16, 100)] + [b""]),
    "metadata": (_fields, [b"\x88\x01\x02\x12\x03abc\x0d\x01\x02\x03\x04\x11\x01\x02\x03\x04\x05\x06\x07\x08"]),
    "database": (_read_database, list(_DATABASES.values())),
    "manifest": (_backup("Manifest.db"), [_BACKUP["Manifest.db"]]),
    "memos": (_memos, [_memos_database()]),
    "about": (_backup("Manifest.plist"), [_BACKUP["Manifest.plist"]]),
}
