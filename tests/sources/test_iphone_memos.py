"""Voice Memos in device backups of an iPhone: the same notes as on a Mac, and each accounted for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from backup_tool.models import Chat, Note
from tests.generators.chatstorage import ChatStorage
from tests.generators.iphone_backup import WHATSAPP, WHEN, IPhoneBackup
from tests.generators.ogg import opus_note
from tests.generators.sounds import encoded
from tests.generators.voice_memos import CLOUD, OLD, Recordings
from tests.sources.apple_stores import ANNA, SENT, iphone, media
from tests.sources.stores import Scanned, everything, scan

ONE, TWO, THREE = (encoded("m4a", 1, seed) for seed in (1, 2, 3))
NAME, OTHER, THIRD = "20260303 140500-1A2B3C4D.m4a", "20260304 090000-5E6F7A8B.m4a", "20260305 090000-00000000.m4a"
NEW = ("AppDomainGroup-group.com.apple.VoiceMemos.shared", "Recordings/")
BEFORE = ("MediaDomain", "Media/Recordings/")
PASSWORD = "open sesame"
CHAT = [Chat(chat_id="voice-memos", titles=["Voice Memos"])]
BOTH_KINDS = pytest.mark.parametrize("password", [None, PASSWORD], ids=["plain", "encrypted"])


def go(folder: Path, password: str | None) -> Scanned:
    return iphone(folder, *([password] if password else []))


def put(backup: IPhoneBackup, memos: Path, home: tuple[str, str] = NEW) -> None:
    """The folder of recordings as the backup has it."""
    domain, above = home
    for path in sorted(memos.rglob("*")):
        if path.is_file():
            backup.put(domain, above + path.relative_to(memos).as_posix(), path.read_bytes())


def backed_up(folder: Path, memos: Path, *, password: str | None = None, home: tuple[str, str] = NEW, made: datetime = WHEN) -> Path:
    """A backup with these recordings and nothing else."""
    backup = IPhoneBackup(folder, password=password, made=made)
    put(backup, memos, home)
    return backup.close()


def told(note: Note) -> tuple[object, ...]:
    return (
        note.original_path, note.kind, note.chat, note.chat_id, note.message_id, note.from_me, note.sent_at, note.sent_at_from, note.zone,
        note.title,
    )  # fmt: skip


@BOTH_KINDS
@pytest.mark.parametrize("home", [NEW, BEFORE], ids=["new", "before"])
def test_memos_are_told_as_on_a_mac(tmp_path: Path, password: str | None, home: tuple[str, str]) -> None:
    """Beside WhatsApp's notes, each memo has the place, chat, id, moment and title that it has on a Mac, and its bytes."""
    memos = Recordings(tmp_path / "mac")
    first, _ = memos.memo(NAME, ONE, title="Grandma"), memos.memo(OTHER, TWO)
    memos.file(THIRD, THREE)
    memos.file("20260303 140500-1A2B3C4D.composition/fragments/1.m4a", THREE)
    memos.close()
    storage = ChatStorage(tmp_path / "c.sqlite")
    storage.message(storage.chat(ANNA, "Anna"), "K", sent=SENT, file=media(0))
    backup = IPhoneBackup(tmp_path / "parent/b", password=password)
    backup.put(WHATSAPP, f"Message/{media(0)}", opus_note(1.0))
    backup.put_database(WHATSAPP, "ChatStorage.sqlite", storage.close())
    put(backup, tmp_path / "mac", home)
    backup.close()
    before = everything(tmp_path / "parent")
    found, mac = go(tmp_path / "parent", password), scan(tmp_path / "mac")
    assert (found.source.type, found.source.plain) == ("whatsapp-iphone", password is None)
    on_mac = {told(note): mac.read(file) for file in mac.files for note in file.notes}
    by_note = {told(note): found.read(file) for file in found.files for note in file.notes}
    assert len(on_mac) == 4
    assert {key: data for key, data in by_note.items() if key[2] != "Anna"} == on_mac
    note = found.note(NAME)
    assert (note.message_id, note.title, note.sent_at, note.sent_at_from) == (first, "Grandma", "2026-03-03T14:05:01Z", "message")
    assert [note.message_id for note in found.notes if note.chat == "Anna"] == ["K"]
    summary = found.summary
    assert (summary.complete, summary.files, summary.orphans, summary.problems, summary.warnings) == (True, 5, 1, [], [])
    assert summary.database == f"b/ChatStorage.sqlite, b/{home[1]}{CLOUD}"
    assert summary.chats[1:] == CHAT
    assert everything(tmp_path / "parent") == before


@BOTH_KINDS
def test_a_phone_without_whatsapp_has_memos_all_the_same(tmp_path: Path, password: str | None) -> None:
    """Where WhatsApp is not in the backup, memos are archived; that it is not there is said, and calls none of its notes gone."""
    memos = Recordings(tmp_path / "mac")
    memos.memo(NAME, ONE)
    memos.close()
    found = go(backed_up(tmp_path / "b", tmp_path / "mac", password=password), password)
    assert found.paths == [NAME]
    assert [found.read(file) for file in found.files] == [ONE]
    summary = found.summary
    assert (summary.complete, summary.unreadable_folders, summary.problems, summary.chats) == (False, [""], [], CHAT)
    assert summary.warnings == [
        "the backup has no WhatsApp in it: it was not on the device, or left out of the backup; its Voice Memos were read"
    ]


def test_memos_of_an_old_iphone(tmp_path: Path) -> None:
    """Up to iOS 11 the database is another, with paths of the device in it."""
    memos = Recordings(tmp_path / "mac", database=OLD)
    memos.memo(f"/var/mobile/Media/Recordings/{NAME}", ONE, ZCUSTOMLABEL="Choir")
    memos.close()
    (note,) = iphone(backed_up(tmp_path / "b", tmp_path / "mac", home=BEFORE)).notes
    assert (note.original_path, note.title, note.sent_at) == (NAME, "Choir", "2026-03-03T14:05:01Z")


@BOTH_KINDS
def test_what_the_app_wrote_last_is_read_too(tmp_path: Path, password: str | None) -> None:
    """New memos that stand only in the database's log are known all the same."""
    memos = Recordings(tmp_path / "mac", wal=True)
    unique = memos.memo(NAME, ONE, title="Grandma")
    with closing(memos.left_open()):
        folder = backed_up(tmp_path / "b", tmp_path / "mac", password=password)
        assert [(note.message_id, note.title) for note in go(folder, password).notes] == [(unique, "Grandma")]


@BOTH_KINDS
def test_every_memo_is_accounted_for(tmp_path: Path, password: str | None) -> None:
    """In iCloud only, lost from the copy, recently deleted: each is counted as what it is, with its title and what to do."""
    memos = Recordings(tmp_path / "mac")
    memos.memo(NAME, ONE, ZEVICTIONDATE=790_000_000)
    far = memos.memo(None, title="First steps", duration=61.5)
    lost = memos.memo(OTHER, title="Choir")
    memos.memo(THIRD, title="deleted, and gone", ZEVICTIONDATE=700_000_000)
    memos.close()
    backup = IPhoneBackup(tmp_path / "b", password=password)
    put(backup, tmp_path / "mac")
    backup.put(NEW[0], NEW[1] + OTHER, TWO, absent=True)
    summary = go(backup.close(), password).summary
    assert [(note.message_id, note.title, note.duration) for note in summary.not_downloaded] == [(far, "First steps", 61.5)]
    assert [(note.message_id, note.title, note.sent_at) for note in summary.missing] == [(lost, "Choir", "2026-03-03T14:05:03Z")]
    assert "" in summary.unreadable_folders
    assert summary.warnings[1:] == [
        "1 voice note on the list of the backup is not in its folder: it was interrupted, filtered, or copied in part",
        "1 memo is only in iCloud (First steps): open Voice Memos on the phone and play them once, then make a new device backup",
        "1 memo in Recently Deleted: archived too, while the files are there",
    ]


def test_of_several_backups_of_a_phone_the_newest_counts(tmp_path: Path) -> None:
    """A memo is there once, as its newest backup tells it; one whose sound only an older backup has is taken from there."""
    for year, title, files in ((2025, "Old name", {NAME: ONE, OTHER: TWO}), (2026, "New name", {NAME: ONE})):
        memos = Recordings(tmp_path / str(year))
        unique, other = memos.memo(NAME, title=title), memos.memo(OTHER)
        for name, data in files.items():
            memos.file(name, data)
        memos.close()
        backed_up(tmp_path / "all" / f"b{year}", tmp_path / str(year), made=datetime(year, 3, 3))
    found = iphone(tmp_path / "all")
    assert [(note.original_path, note.message_id, note.title) for note in found.notes] == [(NAME, unique, "New name"), (OTHER, other, None)]
    assert [found.read(file) for file in found.files] == [ONE, TWO]
    assert (found.summary.not_downloaded, found.summary.missing, found.summary.orphans) == ([], [], 0)
    assert len({file.path for file in found.files}) == 2


def test_memos_of_two_phones_stay_apart(tmp_path: Path) -> None:
    """Two phones that named a recording alike keep both."""
    for name, data in (("anna", ONE), ("ben", TWO)):
        memos = Recordings(tmp_path / name)
        memos.memo("20160303 140500.m4a", data, title=name)
        memos.close()
        backup = IPhoneBackup(tmp_path / "all" / name)
        backup.device = name
        put(backup, tmp_path / name)
        backup.close()
    found = iphone(tmp_path / "all")
    assert {file.notes[0].title: found.read(file) for file in found.files} == {"anna": ONE, "ben": TWO}


def test_only_recordings_are_taken(tmp_path: Path) -> None:
    """What messages and other programs keep beside the recordings is not theirs; a name that leads outside is refused and told."""
    backup = IPhoneBackup(tmp_path / "b")
    backup.put(BEFORE[0], BEFORE[1] + NAME, ONE)
    backup.put(BEFORE[0], BEFORE[1] + "._" + NAME, TWO)
    backup.put(BEFORE[0], BEFORE[1] + "AssetManifest.plist", b"bplist00")
    backup.put(BEFORE[0], "Library/SMS/Attachments/ab/Audio Message.m4a", TWO)
    backup.put(NEW[0], "Library/x.m4a", TWO)
    outside = [backup.put(NEW[0], f"Recordings/{path}", TWO) for path in ("../../x.m4a", "/etc/x.m4a", "./x.m4a")]
    found = iphone(backup.close())
    assert found.paths == [NAME]
    assert {problem.path for problem in found.summary.problems} == {path.relative_to(tmp_path / "b").as_posix() for path in outside}
    assert {problem.reason for problem in found.summary.problems} == {"the backup's list gives it a path that leads outside"}


def damaged(data: bytes) -> bytes:
    return data[:100] + b"\xff" * (len(data) - 100)


@BOTH_KINDS
@pytest.mark.parametrize("change", [damaged, lambda data: data[: len(data) // 2], lambda data: b"", None])
def test_without_its_database_a_memo_has_the_moment_of_its_name(
    tmp_path: Path, password: str | None, change: Callable[[bytes], bytes] | None
) -> None:
    """However the database is damaged, cut, empty or absent, every recording is there; a damaged one is named."""
    memos = Recordings(tmp_path / "mac")
    memos.memo(NAME, title="x" * 5000)
    memos.file(NAME, ONE)
    memos.file("Grandma.m4a", TWO)
    memos.close()
    database = tmp_path / "mac" / CLOUD
    whole = database.read_bytes()
    database.unlink()
    if change:
        database.write_bytes(change(whole))
    found = go(backed_up(tmp_path / "b", tmp_path / "mac", password=password), password)
    assert [found.read(file) for file in found.files] == [ONE, TWO]
    assert [(note.chat, note.title, note.message_id) for note in found.notes] == [("Voice Memos", None, None)] * 2
    assert [note.sent_at_from for note in found.notes] == ["name", "file"]
    assert found.notes[1].sent_at == "2026-03-03T14:05:00Z"  # the phone's, in either kind of backup
    assert {problem.path for problem in found.summary.problems} == ({f"Recordings/{CLOUD}"} if change else set())
