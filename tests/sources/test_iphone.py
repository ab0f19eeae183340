"""Device backups of an iPhone: found, opened, read to the last byte, and accounted for, plain and encrypted."""

from __future__ import annotations

import os
import plistlib
import shutil
import sqlite3
import struct
import unicodedata
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from backup_tool.models import Problem
from backup_tool.sources.apple import IPhoneRecogniser, OpenBackup, describe, open_backup
from backup_tool.sources.base import AudioFile, FileChanging, FileUnreadable
from backup_tool.sources.tree import Tree
from tests.generators.chatstorage import ChatStorage, contacts
from tests.generators.iphone_backup import BUSINESS, CHANGED, OLD_WHATSAPP, WHATSAPP, IPhoneBackup, encrypt, tagged
from tests.generators.ogg import opus_note
from tests.sources.apple_stores import ANNA, BEN, FAMILY, SENT, SENT_AT, found_in, iphone, media
from tests.sources.stores import Scanned, as_ordinary_user, everything

UDID = "00008101-001318860CA0001E"
PASSWORD = "open sesame"
NOTES = [opus_note(1.0, seed=number) for number in range(3)]


@pytest.fixture(params=[None, PASSWORD], ids=["plain", "encrypted"])
def password(request: pytest.FixtureRequest) -> str | None:
    """Every promise that takes this holds for both kinds of backup."""
    return request.param  # type: ignore[no-any-return]


def storage_of(folder: Path, chat: str = ANNA, *, notes: int = 3, key: str = "K") -> Path:
    """A database that knows so many notes of one chat."""
    storage = ChatStorage(folder / f"{len(list(folder.iterdir()))}.sqlite")
    number = storage.chat(chat, "Anna")
    for index in range(notes):
        storage.message(number, f"{key}{index}", sent=SENT + index, file=media(index, chat))
    return storage.close()


def filled(folder: Path, work: Path, *, password: str | bytes | None = None, **options: Any) -> IPhoneBackup:
    """A backup with three notes of one chat and other people's things; not closed yet."""
    backup = IPhoneBackup(folder, password=password, **options)
    work.mkdir(exist_ok=True)
    for index, data in enumerate(NOTES):
        backup.put(WHATSAPP, f"Message/{media(index)}", data)
    backup.put(WHATSAPP, "Message/Media/x@s.whatsapp.net/a/b/picture.jpg", b"\xff\xd8\xff\xe0")
    backup.put("HomeDomain", "Library/SMS/sms.db", b"not ours")
    backup.put_database(WHATSAPP, "ChatStorage.sqlite", storage_of(work))
    return backup


def go(folder: Path, password: str | None, **options: Any) -> Scanned:
    return iphone(folder, *([password] if password else []), **options)


def by_key(found: Scanned) -> dict[str | None, bytes]:
    return {file.notes[0].message_id: found.read(file) for file in found.files}


def reasons(found: Scanned) -> list[str]:
    return [problem.reason for problem in found.summary.problems]


class TestReading:
    """What comes out of a backup."""

    def test_notes_come_out_as_they_went_in(self, tmp_path: Path, password: str | None) -> None:
        """Each note has its bytes, its exact size, its message, and the path that the app gave it; nothing is written to the backup."""
        backup = filled(tmp_path / "parent" / UDID, tmp_path / "work", password=password)
        backup.close()
        before = everything(tmp_path / "parent")
        found = go(tmp_path / "parent", password)
        assert by_key(found) == {f"K{index}": data for index, data in enumerate(NOTES)}
        assert sorted(found.paths) == [f"Message/{media(index)}" for index in range(3)]
        assert [file.size for file in found.files] == [len(found.read(file)) for file in found.files]
        note = found.note(f"Message/{media(0)}")
        assert (note.chat, note.chat_id, note.sent_at, note.sent_at_from) == ("Anna", ANNA, SENT_AT, "message")
        assert (found.summary.complete, found.summary.files, found.summary.orphans) == (True, 3, 0)
        assert (found.summary.problems, found.summary.warnings) == ([], [])
        assert found.summary.database == f"{UDID}/ChatStorage.sqlite"
        assert everything(tmp_path / "parent") == before

    @pytest.mark.parametrize("left", [0, 1500])
    def test_a_note_cut_in_the_newest_backup_is_taken_from_an_older_one(self, tmp_path: Path, password: str | None, left: int) -> None:
        """What a backup lost of a file when it was made is no newer version of it: the whole one is taken, with what the newest says."""
        filled(tmp_path / "all/older", tmp_path / "work", password=password).close()
        newer = filled(tmp_path / "all/newer", tmp_path / "work", password=password, made=datetime(2026, 3, 10, 20, 15))
        newer.put(WHATSAPP, f"Message/{media(0)}", NOTES[0][:left])
        newer.close()
        found = go(tmp_path / "all", password)
        assert by_key(found) == {f"K{index}": data for index, data in enumerate(NOTES)}
        assert sorted(file.path.partition("/")[0] for file in found.files) == ["newer", "newer", "older"]

    @pytest.mark.parametrize("hidden_first", [True, False])
    def test_a_person_under_a_number_and_a_hidden_identity_in_two_backups_is_one_chat(self, tmp_path: Path, hidden_first: bool) -> None:
        """Neither backup says whose the hidden identity is; one message with one file is one note all the same, under the number."""
        for number, hidden in enumerate((hidden_first, not hidden_first)):
            backup = IPhoneBackup(tmp_path / f"all/{number}", made=datetime(2026, 3, 3 + number))
            backup.put(WHATSAPP, f"Message/{media(0)}", NOTES[0])
            storage = ChatStorage(tmp_path / f"{number}.sqlite")
            storage.message(storage.chat("77001100220033@lid" if hidden else ANNA, "Anna"), "K0", sent=SENT, file=media(0))
            backup.put_database(WHATSAPP, "ChatStorage.sqlite", storage.close())
            backup.close()
        assert [(note.chat_id, note.message_id) for note in iphone(tmp_path / "all").notes] == [(ANNA, "K0")]

    def test_a_message_to_several_people_stays_in_each_chat_that_a_backup_shows_it_in(self, tmp_path: Path) -> None:
        """An older backup shows one message in two chats, one of them hidden; the newer has the one left: both are notes."""
        for number, chats in enumerate(([ANNA, "77001100220033@lid"], [ANNA])):
            backup = IPhoneBackup(tmp_path / f"all/{number}", made=datetime(2026, 3, 3 + number))
            backup.put(WHATSAPP, f"Message/{media(0)}", NOTES[0])
            storage = ChatStorage(tmp_path / f"{number}.sqlite")
            for chat in chats:
                storage.message(storage.chat(chat, "Anna"), "K0", sent=SENT, file=media(0), from_me=True)
            backup.put_database(WHATSAPP, "ChatStorage.sqlite", storage.close())
            backup.close()
        assert sorted(note.chat_id or "" for note in iphone(tmp_path / "all").notes) == [ANNA, "77001100220033@lid"]

    def test_plain_files_can_be_read_by_any_process(self, tmp_path: Path) -> None:
        """The notes of a plain backup are ordinary files with the time they have on disk; those of an encrypted one are not."""
        filled(tmp_path / "plain", tmp_path / "work").close()
        found = iphone(tmp_path / "plain")
        assert found.source.plain
        assert [Path(os.fsdecode(file.location)).stat().st_mtime_ns for file in found.files] == [file.mtime_ns for file in found.files]
        filled(tmp_path / "locked", tmp_path / "work", password=PASSWORD).close()
        locked = iphone(tmp_path / "locked", PASSWORD)
        assert not locked.source.plain
        assert {file.mtime_ns for file in locked.files} == {CHANGED * 10**9}
        assert all(len(file.location) > len(locked.source.root) and file.path == file.location.decode().removeprefix(f"{tmp_path}/locked/")
                   for file in locked.files)  # fmt: skip

    @pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4095, 4096, 4097, 70_000])
    def test_every_size_comes_out_whole(self, tmp_path: Path, size: int, password: str | None) -> None:
        """Sizes around blocks and pieces are exact, in pieces of any length, whatever size the backup's list claims."""
        data = bytes(number * 7 % 256 for number in range(size))
        backup = IPhoneBackup(tmp_path / "b", password=password)
        backup.put(WHATSAPP, f"Message/{media(0)}", data, size=12345)
        backup.close()
        (file,) = go(tmp_path / "b", password).files
        found = go(tmp_path / "b", password)
        assert file.size == size
        for piece in (4096, 1000, 7, 2**22):
            pieces = list(found.source.read(found.files[0], piece))
            assert b"".join(pieces) == data
            assert all(len(one) == piece for one in pieces[:-1])
            assert all(pieces)

    def test_it_reads_from_a_read_only_disk(self, tmp_path: Path, password: str | None) -> None:
        """A backup on media that nobody can write to is read like any other."""
        with as_ordinary_user() as folder:
            backup = filled(folder / "backup", folder / "work", password=password)
            backup.close()
            for path in [*backup.folder.rglob("*"), backup.folder]:
                path.chmod(0o555 if path.is_dir() else 0o444)
            try:
                assert len(by_key(go(backup.folder, password))) == 3
            finally:
                for path in [backup.folder, *backup.folder.rglob("*")]:
                    path.chmod(0o755)

    def test_names_come_from_the_address_book_and_messages_from_the_wal(self, tmp_path: Path, password: str | None) -> None:
        """Optional databases are used where they are there, and messages that are still in the `-wal` count."""
        backup = IPhoneBackup(tmp_path / "b", password=password)
        storage = ChatStorage(tmp_path / "c.sqlite", wal=True)
        storage.message(storage.chat(ANNA), "K", sent=SENT, file=media(0))
        storage.close_running()
        backup.put(WHATSAPP, f"Message/{media(0)}", NOTES[0])
        backup.put(WHATSAPP, "ChatStorage.sqlite", storage.path.read_bytes())
        backup.put(WHATSAPP, "ChatStorage.sqlite-wal", Path(f"{storage.path}-wal").read_bytes())
        book = contacts(tmp_path / "contacts", {"ZWHATSAPPID": ANNA, "ZFULLNAME": "Anna A."})
        backup.put_database(WHATSAPP, "ContactsV2.sqlite", book)
        backup.close()
        assert [(note.message_id, note.chat, note.sender) for note in go(tmp_path / "b", password).notes] == [("K", "Anna A.", "Anna A.")]

    def test_a_plain_manifest_counts_with_its_wal(self, tmp_path: Path) -> None:
        """What the backup's list has not yet written back from its `-wal` is listed too."""
        backup = filled(tmp_path / "b", tmp_path / "work")
        late = backup.put(WHATSAPP, f"Message/{media(7)}", NOTES[1])
        row = backup._rows.pop()
        manifest = backup.close() / "Manifest.db"
        with closing(sqlite3.connect(manifest)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("INSERT INTO Files VALUES (?, ?, ?, ?, ?)", row)
            connection.commit()
            parts = {path: path.read_bytes() for path in (manifest, manifest.with_name("Manifest.db-wal"))}
        for path, data in parts.items():
            path.write_bytes(data)
        assert late in [Path(os.fsdecode(file.location)) for file in iphone(tmp_path / "b").files]

    def test_whatsapp_business_and_very_old_versions(self, tmp_path: Path, password: str | None) -> None:
        """Both apps of one phone are read, and where an app kept everything in its own folder, that."""
        backup = IPhoneBackup(tmp_path / "b", password=password)
        backup.put(BUSINESS, f"Message/{media(0)}", NOTES[0])
        backup.put_database(BUSINESS, "ChatStorage.sqlite", storage_of(tmp_path, notes=1, key="B"))
        old = ChatStorage(tmp_path / "old.sqlite")
        old.message(old.chat(ANNA, "Anna"), "OLD", sent=SENT, file=media(1, suffix="aac"), origin=None, mime=None)
        backup.put(OLD_WHATSAPP, f"Library/{media(1, suffix='aac')}", NOTES[1])
        backup.put_database(OLD_WHATSAPP, "Documents/ChatStorage.sqlite", old.close())
        backup.close()
        found = go(tmp_path / "b", password)
        assert by_key(found) == {"B0": NOTES[0], "OLD": NOTES[1]}
        assert sorted(found.paths) == [f"Library/{media(1, suffix='aac')}", f"Message/{media(0)}"]
        assert found.summary.warnings == []

    def test_what_a_message_calls_its_audio_is_saved_under_any_suffix(self, tmp_path: Path, password: str | None) -> None:
        """A recording that was sent as a video file counts, other videos do not."""
        backup = IPhoneBackup(tmp_path / "b", password=password)
        for number in (1, 2):
            backup.put(WHATSAPP, f"Message/{media(number, suffix='mp4')}", NOTES[0])
        storage = ChatStorage(tmp_path / "c.sqlite")
        storage.message(storage.chat(ANNA), "K", sent=SENT, file=media(1, suffix="mp4"), origin=0, mime="audio/mp4")
        backup.put_database(WHATSAPP, "ChatStorage.sqlite", storage.close())
        backup.close()
        assert [note.message_id for note in go(tmp_path / "b", password).notes] == ["K"]

    def test_a_file_without_a_suffix_is_known_by_its_content(self, tmp_path: Path, password: str | None) -> None:
        """Some files end in a bare dot: sound among them is saved, the rest is not."""
        backup = IPhoneBackup(tmp_path / "b", password=password)
        backup.put(WHATSAPP, f"Message/{media(0, suffix='')}", NOTES[0])
        backup.put(WHATSAPP, f"Message/{media(1, suffix='')}", b"\x89PNG no sound at all")
        backup.put(WHATSAPP, f"Message/{media(2, suffix='')}", b"")
        backup.close()
        found = go(tmp_path / "b", password)
        assert found.paths == [f"Message/{media(0, suffix='')}"]
        assert found.summary.problems == []


class TestSeveral:
    """More than one backup at once."""

    def test_the_newest_of_several_backups_wins(self, tmp_path: Path, password: str | None) -> None:
        """A note that several backups have is taken from the newest; what only an older one has is kept; nothing is listed twice."""
        folder, work = tmp_path / "Backup", tmp_path / "work"
        work.mkdir()
        filled(folder / "a", work, password=password, made=datetime(2026, 1, 1)).close()
        newer = IPhoneBackup(folder / "b", password=password, made=datetime(2026, 3, 1))
        newer.put(WHATSAPP, f"Message/{media(0)}", NOTES[0])
        storage = ChatStorage(work / "new.sqlite")
        chat = storage.chat(ANNA, "Anna Married")
        storage.message(chat, "K0", sent=SENT, file=media(0), ZSTARRED=1)
        storage.message(chat, "K1", sent=SENT + 1, file=None)
        newer.put_database(WHATSAPP, "ChatStorage.sqlite", storage.close())
        newer.close()
        found = go(folder, password)
        assert by_key(found) == {f"K{index}": data for index, data in enumerate(NOTES)}
        assert sorted(found.paths) == [f"Message/{media(index)}" for index in range(3)]
        assert [found.note(f"Message/{media(0)}").starred, found.note(f"Message/{media(0)}").chat] == [True, "Anna Married"]
        assert [file.path[0] for file in sorted(found.files, key=lambda file: file.original_path)] == ["b", "a", "a"]
        assert (found.summary.missing, found.summary.not_downloaded) == ([], [])
        assert found.summary.database == "b/ChatStorage.sqlite"

    def test_each_password_is_tried_on_each_backup(self, tmp_path: Path) -> None:
        """Backups with passwords of their own open with a list of passwords; one that none opens is named, and costs nothing else."""
        for number, word in enumerate(("first", "second", "lost")):
            backup = IPhoneBackup(tmp_path / "all" / word, password=word, seed=number)
            backup.put(WHATSAPP, f"Message/{media(number)}", NOTES[number])
            backup.close()
        found = iphone(tmp_path / "all", "second\n", "first")
        assert sorted(file.path.partition("/")[0] for file in found.files) == ["first", "second"]
        assert found.summary.unreadable_folders == ["lost"]
        assert reasons(found)[0].startswith("encrypted, and no password that was given opens it: ")


class TestPasswords:
    """Opening what is locked."""

    @pytest.mark.parametrize("given", ["geh\u00e4uft", "geha\u0308uft", "geh\u00e4uft\n", "geh\u00e4uft".encode(), b"geh\xc3\xa4uft\r\n"])
    def test_a_password_opens_in_any_spelling(self, tmp_path: Path, given: str | bytes) -> None:
        """Composed or decomposed letters and the end of a line in a password file make no difference."""
        filled(tmp_path / "b", tmp_path / "work", password=unicodedata.normalize("NFC", "geh\u00e4uft")).close()
        assert len(iphone(tmp_path / "b", given).files) == 3

    @pytest.mark.parametrize("word", [b"geha\xcc\x88uft", b"\xff\xfe raw", b" spaces count "])
    def test_a_password_that_is_no_tidy_text_opens_as_it_is(self, tmp_path: Path, word: bytes) -> None:
        """The raw bytes are tried too."""
        filled(tmp_path / "b", tmp_path / "work", password=word).close()
        assert len(iphone(tmp_path / "b", word).files) == 3

    def test_backups_from_before_ios_10_2_open(self, tmp_path: Path) -> None:
        """A key bag with a single derivation opens too."""
        filled(tmp_path / "b", tmp_path / "work", password=PASSWORD, first_rounds=0).close()
        assert len(iphone(tmp_path / "b", PASSWORD).files) == 3

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_a_password_file_of_windows_opens(self, tmp_path: Path, encoding: str) -> None:
        """What an editor of Windows puts at the start of a text file is no part of the password."""
        filled(tmp_path / "b", tmp_path / "work", password="geh\u00e4uft").close()
        assert len(iphone(tmp_path / "b", "geh\u00e4uft\r\n".encode(encoding)).files) == len(NOTES)

    @pytest.mark.parametrize("length", [4096, 5000])
    def test_a_manifest_that_was_cut_is_named_with_the_cure(self, tmp_path: Path, length: int) -> None:
        """A copy that lost the end of its encrypted list says which file it is, and what to do."""
        filled(tmp_path / "b", tmp_path / "work", password="word").close()
        os.truncate(tmp_path / "b/Manifest.db", length)
        (problem,) = iphone(tmp_path / "b", "word").summary.problems
        assert "its Manifest.db cannot be opened" in problem.reason
        assert "copy the whole folder again" in problem.reason

    def test_no_password_a_wrong_one_and_damage_are_told_apart(self, tmp_path: Path) -> None:
        """Each cause has its own sentence; notes on record from there stay as they are."""
        backup = filled(tmp_path / "b", tmp_path / "work", password=PASSWORD)
        backup.close()
        nothing, wrong = iphone(tmp_path / "b"), iphone(tmp_path / "b", "wrong", "wronger")
        assert reasons(nothing)[0].startswith("encrypted, and no password was given: ")
        assert reasons(wrong)[0].startswith("encrypted, and no password that was given opens it: ")
        about = plistlib.loads((backup.folder / "Manifest.plist").read_bytes())
        key = bytearray(about["ManifestKey"])
        key[20] ^= 1
        backup.write_plist("Manifest.plist", about | {"ManifestKey": bytes(key)})
        damaged = iphone(tmp_path / "b", PASSWORD)
        assert reasons(damaged) == ["damaged: the key for Manifest.db in its Manifest.plist does not open, though the password is right"]
        for found in (nothing, wrong, damaged):
            assert (found.files, found.summary.complete, found.summary.unreadable_folders) == ([], False, [""])

    def test_nobody_is_asked_for_the_password_of_a_plain_backup(self, tmp_path: Path) -> None:
        """A password is asked for where something is locked, and once for all backups."""
        from backup_tool.sources.apple import IPhoneSource

        asked: list[int] = []
        for name, word in (("a", PASSWORD), ("b", PASSWORD), ("c", None)):
            filled(tmp_path / "all" / name, tmp_path / "work", password=word).close()
        for stores, times in ((["c"], 0), (["a", "b", "c"], 1)):
            source = IPhoneSource("x", Tree(os.fsencode(tmp_path / "all")), stores, tmp_path, lambda: (asked.append(1), [])[1])  # type: ignore[func-returns-value]
            list(source.scan())
            assert len(asked) == times

    def test_a_key_bag_made_to_keep_us_busy_is_refused(self, tmp_path: Path) -> None:
        """A hostile backup cannot make a run derive keys for hours."""
        backup = filled(tmp_path / "b", tmp_path / "work", password=PASSWORD)
        backup.close()
        about = plistlib.loads((backup.folder / "Manifest.plist").read_bytes())
        for tag, usual in (("DPIC", 20), ("ITER", 10)):
            bag = about["BackupKeyBag"].replace(tagged(tag, usual), tagged(tag, 2**32 - 1))
            assert bag != about["BackupKeyBag"]
            backup.write_plist("Manifest.plist", about | {"BackupKeyBag": bag})
            assert reasons(iphone(tmp_path / "b", PASSWORD)) == [
                "its key bag asks for 4,294,967,295 rounds of key derivation, which no device does: not opened"
            ]

    def test_no_secret_is_in_what_is_said(self, tmp_path: Path) -> None:
        """Neither a right nor a wrong password shows in any message."""
        filled(tmp_path / "b", tmp_path / "work", password=PASSWORD).close()
        for word in (PASSWORD, "hunter2"):
            found = iphone(tmp_path / "b", word)
            assert word not in repr((found.summary, found.files))


class TestEndToEnd:
    """WhatsApp leaves its database out of device backups while its own end-to-end encrypted backup is on."""

    def test_audio_is_salvaged_and_the_cure_is_named(self, tmp_path: Path, password: str | None) -> None:
        """Without the database notes keep chat and time as far as their files know; the person learns what to switch off."""
        backup = IPhoneBackup(tmp_path / "b", password=password)
        backup.put(WHATSAPP, f"Message/{media(0, FAMILY)}", NOTES[0], birth=CHANGED, changed=CHANGED + 5000)
        backup.put(WHATSAPP, f"Message/{media(1, BEN, 'm4a')}", NOTES[1], birth=0)
        backup.put_database(WHATSAPP, "ContactsV2.sqlite", contacts(tmp_path / "c", {"ZWHATSAPPID": BEN, "ZFULLNAME": "Ben"}))
        backup.close()
        found = go(tmp_path / "b", password)
        first, second = found.note(f"Message/{media(0, FAMILY)}"), found.note(f"Message/{media(1, BEN, 'm4a')}")
        assert (first.chat_id, first.kind, first.sent_at, first.sent_at_from, first.message_id) == (FAMILY, "voice", SENT_AT, "file", None)
        assert (second.chat, second.chat_id, second.kind, second.sent_at) == ("Ben", BEN, "audio", SENT_AT)
        assert (found.summary.database, found.summary.orphans, found.summary.problems) == (None, 0, [])
        (warning,) = found.summary.warnings
        assert warning.startswith("the backup: ChatStorage.sqlite of WhatsApp is not in the backup")
        assert "Settings › Chats › Chat backup › End-to-end encrypted backup" in warning

    def test_an_older_backup_without_it_is_not_worth_a_word(self, tmp_path: Path, password: str | None) -> None:
        """Once a newer backup of the phone has the database, nobody is told of older ones every night; of another phone they are."""
        filled(tmp_path / "all" / "new", tmp_path / "work", password=password, made=datetime(2026, 3, 1)).close()
        for name, device in (("old", "Anna's iPhone"), ("other", "Ben's iPhone")):
            older = IPhoneBackup(tmp_path / "all" / name, password=password, made=datetime(2026, 1, 1))
            older.device = device
            older.put(WHATSAPP, f"Message/{media(5)}", NOTES[0])
            older.close()
        found = go(tmp_path / "all", password)
        assert len(found.files) == 4
        assert [warning.partition(" of WhatsApp")[0] for warning in found.summary.warnings] == ["other: ChatStorage.sqlite"]

    def test_a_database_that_was_left_behind_is_something_else(self, tmp_path: Path, password: str | None) -> None:
        """Where the list has the database and the folder does not, the copy is at fault, and that is said."""
        backup = filled(tmp_path / "b", tmp_path / "work", password=password)
        backup.put(WHATSAPP, "ChatStorage.sqlite", b"x" * 100, absent=True).unlink()
        backup.close()
        found = go(tmp_path / "b", password)
        assert len(found.files) == 3
        assert found.summary.problems == [
            Problem("ChatStorage.sqlite", "on the backup's list, but not in its folder: the backup was interrupted, or copied in part")
        ]

    def test_a_backup_without_whatsapp_says_so(self, tmp_path: Path, password: str | None) -> None:
        """A device that never had the app is no error, and no silence."""
        IPhoneBackup(tmp_path / "b", password=password).close()
        found = go(tmp_path / "b", password)
        assert found.summary.warnings == ["the backup has no WhatsApp in it: it was not on the device, or left out of the backup"]


class TestAccount:
    """What is not there, and what that means."""

    def test_files_left_out_of_the_folder_are_missing_and_mark_nothing(self, tmp_path: Path, password: str | None) -> None:
        """A filtered or interrupted copy names its gaps; what an earlier run archived from there stays unmarked."""
        backup = filled(tmp_path / "all" / "b", tmp_path / "work", password=password)
        backup.put(WHATSAPP, f"Message/{media(1)}", NOTES[1]).unlink()
        backup.put(WHATSAPP, f"Message/{media(2)}", NOTES[2]).unlink()
        backup.close()
        found = go(tmp_path / "all", password)
        assert [note.message_id for note in found.summary.missing] == ["K1", "K2"]
        assert found.summary.unreadable_folders == ["b"]
        assert found.summary.warnings == [
            "2 voice notes on the list of b are not in its folder: it was interrupted, filtered, or copied in part"
        ]

    def test_an_interrupted_backup_is_read_and_marks_nothing(self, tmp_path: Path, password: str | None) -> None:
        """What an unfinished backup has is taken; what it lacks says nothing."""
        backup = filled(tmp_path / "all" / "b", tmp_path / "work", password=password)
        backup.status = "uploading"
        backup.close()
        found = go(tmp_path / "all", password)
        assert (len(found.files), found.summary.unreadable_folders) == (3, ["b"])
        assert found.summary.warnings == ["b was interrupted, or is being made: what it has was read"]

    def test_a_file_that_cannot_be_decrypted_is_named_and_costs_no_other(self, tmp_path: Path) -> None:
        """Cut off, altered at its end, without a key, of an unknown class, with a broken record: each has its reason."""
        backup = filled(tmp_path / "b", tmp_path / "work", password=PASSWORD)
        places = {
            "cut short: its size is not that of an encrypted file": backup.put(WHATSAPP, f"Message/{media(10)}", NOTES[0]),
            "damaged: it does not end as an encrypted file does": backup.put(WHATSAPP, f"Message/{media(11)}", NOTES[0]),
            "encrypted under class 9, which the backup's key bag has no key for": backup.put(
                WHATSAPP, f"Message/{media(12)}", NOTES[0], class_=9
            ),
            "damaged: not a property list": backup.put(WHATSAPP, f"Message/{media(13)}", NOTES[0], record=b"bplist00 no"),
            "damaged: what the backup's list says of it cannot be read": backup.put(
                WHATSAPP, f"Message/{media(14)}", NOTES[0], record=plistlib.dumps({"$top": {}}, fmt=plistlib.FMT_BINARY)
            ),
            "encrypted, and the backup's list has no key for it": backup.put(
                WHATSAPP, f"Message/{media(15)}", NOTES[0], record=IPhoneBackup(tmp_path / "other")._record("x", {"Size": 1})
            ),
        }
        backup.close()
        cut, altered = list(places.values())[:2]
        cut.write_bytes(cut.read_bytes()[:-5])
        altered.write_bytes(altered.read_bytes()[:-16] + bytes(16))
        found = iphone(tmp_path / "b", PASSWORD)
        assert len(found.files) == 3
        expected = {str(place.relative_to(tmp_path / "b")): reason for reason, place in places.items()}
        assert {problem.path: problem.reason for problem in found.summary.problems} == expected
        assert sorted(found.summary.unreadable_folders) == sorted(expected)

    @pytest.mark.parametrize("end", [b"\x05\x03", b"\x00", b"\x11", b"\x10"])
    def test_an_end_that_is_no_padding_is_damage(self, tmp_path: Path, end: bytes) -> None:
        """A file that decrypts to anything but a proper end is never passed off as whole, at listing or at reading."""
        from backup_tool.sources.apple.crypt import decrypted, plain_size

        path = tmp_path / "payload"
        path.write_bytes(encrypt(b"x" * (32 - len(end)) + end, bytes(32))[:-16])  # without the block of padding
        with path.open("rb") as file:
            with pytest.raises(FileUnreadable):
                plain_size(file.fileno(), bytes(32))
            with pytest.raises(FileUnreadable):
                list(decrypted(file.fileno(), bytes(32), 4096))

    def test_a_broken_record_costs_a_plain_file_nothing(self, tmp_path: Path) -> None:
        """In a plain backup the bytes are there whatever the list says of them."""
        backup = filled(tmp_path / "b", tmp_path / "work")
        backup.put(WHATSAPP, f"Message/{media(0)}", NOTES[0], record=b"\x00" * 40)
        backup.close()
        assert by_key(iphone(tmp_path / "b"))["K0"] == NOTES[0]

    @pytest.mark.parametrize("change", ["grown", "cut", "gone", "swapped"])
    def test_a_file_that_changes_after_it_was_listed_is_never_taken_for_whole(
        self, tmp_path: Path, change: str, password: str | None
    ) -> None:
        """Reading ends with exactly the size that was listed, or with an error."""
        backup = filled(tmp_path / "b", tmp_path / "work", password=password)
        backup.close()
        found = go(tmp_path / "b", password)
        place = Path(os.fsdecode(found.files[0].location))
        data = place.read_bytes()
        place.unlink()
        if change == "swapped":
            place.symlink_to("/dev/zero")
        elif change != "gone":
            place.write_bytes(data + data[:32] if change == "grown" else data[:-16])
        with pytest.raises(FileChanging if change in ("grown", "cut") else FileUnreadable):
            found.read(found.files[0])


class TestRecognising:
    """A backup is known by what is in it."""

    def test_at_any_level_under_any_name(self, tmp_path: Path, password: str | None) -> None:
        """The folder itself, renamed, or a parent with several; payload folders are nobody else's."""
        for name in ("MobileSync/Backup/old copy", f"MobileSync/Backup/{UDID}", f"MobileSync/Backup/{UDID}-20250101-120000"):
            filled(tmp_path / "top" / name, tmp_path / "work", password=password).close()
        found = found_in(tmp_path / "top", IPhoneRecogniser())
        assert found == sorted(f"MobileSync/Backup/{name}" for name in ("old copy", UDID, f"{UDID}-20250101-120000"))
        assert found_in(tmp_path / "top/MobileSync/Backup/old copy", IPhoneRecogniser()) == [""]

    def test_without_its_lists_a_plain_backup_is_read_and_an_encrypted_one_named(self, tmp_path: Path, password: str | None) -> None:
        """What a hand-made copy left out is named where it is needed."""
        backup = filled(tmp_path / "b", tmp_path / "work", password=password)
        backup.manifest_plist = False
        backup.close()
        for name in ("Info.plist", "Status.plist"):
            (backup.folder / name).unlink()
        found = go(tmp_path / "b", password)
        if password is None:
            assert len(by_key(found)) == 3
        else:
            assert reasons(found)[0].startswith("its Manifest.plist is missing or damaged, and without it an encrypted backup stays closed")

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda folder: (folder / "Manifest.db").write_bytes(b""), "its Manifest.db is empty, as in what tools download from iCloud"),
            (lambda folder: (folder / "Manifest.db").unlink(), "its Manifest.db is missing"),
            (lambda folder: (folder / "Manifest.db").rename(folder / "Manifest.mbdb"), "made by iOS 9 or older"),
            (lambda folder: (folder / "Manifest.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4080), "its Manifest.db is damaged"),
            (lambda folder: (folder / "Manifest.db").write_bytes(bytes(4096)), "damaged: its Manifest.db is no database"),
        ],
        ids=["icloud", "missing", "ios 9", "damaged", "zeros"],
    )
    def test_what_is_no_whole_backup_is_named(self, tmp_path: Path, spoil: Callable[[Path], object], reason: str) -> None:
        """Each has its own words, and marks nothing as lost."""
        backup = filled(tmp_path / "all" / "b", tmp_path / "work")
        spoil(backup.close())
        found = iphone(tmp_path / "all")
        assert (found.files, found.summary.unreadable_folders) == ([], ["b"])
        assert reasons(found)[0].startswith(reason)

    def test_folders_that_only_look_like_one_are_not(self, tmp_path: Path) -> None:
        """A name alone makes no backup."""
        (tmp_path / UDID / "ab").mkdir(parents=True)
        (tmp_path / UDID / "Manifest.plist").write_bytes(b"bplist00")
        (tmp_path / "Chrome").mkdir()
        (tmp_path / "Chrome/Manifest.db").write_bytes(b"SQLite format 3\0" + bytes(84))
        assert found_in(tmp_path, IPhoneRecogniser()) == []

    def test_a_store_is_described_in_a_persons_words(self, tmp_path: Path, password: str | None) -> None:
        """Device, system, day, encrypted or not; hostile names are shown harmless."""
        backup = filled(tmp_path / "b", tmp_path / "work", password=password)
        backup.device = "Anna\u202e's iPhone"
        backup.close()
        how = "encrypted" if password else "not encrypted"
        words = f"a backup of Anna\\u202e's iPhone, iOS 17.2.1, 2026-03-03, {how}"
        assert describe(Tree(os.fsencode(tmp_path)), "b") == words


class TestHostile:
    """Backups that a stranger made."""

    def test_no_path_of_the_list_leads_outside(self, tmp_path: Path, password: str | None) -> None:
        """A list with climbing paths, impossible names and links gives no file that is not the backup's own."""
        (tmp_path / "secret.opus").write_bytes(NOTES[0])
        backup = filled(tmp_path / "b", tmp_path / "work", password=password)
        backup.put(WHATSAPP, "Message/Media/../../../secret.opus", NOTES[0])
        backup._rows.append(("../../secret.opus", WHATSAPP, f"Message/{media(20)}", 1, b""))
        backup._rows.append(("AB" * 20, WHATSAPP, f"Message/{media(21)}", 1, b""))
        link = backup.put(WHATSAPP, f"Message/{media(22)}", NOTES[0])
        link.unlink()
        link.symlink_to(tmp_path / "secret.opus")
        backup.close()
        found = go(tmp_path / "b", password)
        assert sorted(found.paths) == [f"Message/{media(index)}" for index in range(3)]
        assert sorted(reasons(found)) == ["not an ordinary file", "the backup's list gives it a path that leads outside"]

    @pytest.mark.parametrize("name", ["Manifest.plist", "Info.plist", "Status.plist"])
    @pytest.mark.parametrize(
        "data",
        [b"", b"bplist00", b"<?xml" + b"<a>" * 10_000, plistlib.dumps([1]), plistlib.dumps({"IsEncrypted": "yes", "Lockdown": 3}),
         b"<?xml version='1.0'?><plist><dict><key>Date</key><date>never</date></dict></plist>"],
    )  # fmt: skip
    def test_lists_of_any_kind_never_stop_the_reading(self, tmp_path: Path, name: str, data: bytes) -> None:
        """A plain backup whose lists are damaged is read all the same."""
        backup = filled(tmp_path / "b", tmp_path / "work")
        backup.close()
        (backup.folder / name).write_bytes(data)
        assert len(iphone(tmp_path / "b", stores=[""]).files) == 3
        assert "a backup of" in describe(Tree(os.fsencode(tmp_path)), "b")

    def test_a_manifest_of_another_layout_is_named(self, tmp_path: Path) -> None:
        """A database under that name with other tables is no manifest."""
        backup = filled(tmp_path / "b", tmp_path / "work")
        backup.close()
        shutil.copy(storage_of(tmp_path / "work"), backup.folder / "Manifest.db")
        assert reasons(iphone(tmp_path / "b")) == ["its Manifest.db is not laid out as backups have it"]


def test_other_readers_can_use_an_open_backup(tmp_path: Path, password: str | None) -> None:
    """Any domain can be listed and read: recordings of other apps too."""
    backup = IPhoneBackup(tmp_path / "b", password=password)
    backup.put("MediaDomain", "Media/Recordings/20260303 140500.m4a", NOTES[0])
    backup.close()
    from backup_tool.models import Secret
    from backup_tool.sources.apple import read_payload

    tree = Tree(os.fsencode(tmp_path))
    with open_backup(tree, "b", tmp_path, lambda: [Secret(PASSWORD)]) as opened:
        assert isinstance(opened, OpenBackup)
        (file,) = opened.files("MediaDomain")
        payload = opened.payload(file, opened.record(file))
    listed = AudioFile("", file.path, payload.location, payload.size, payload.mtime_ns, [])
    read = tree.read(listed, 4096) if payload.key is None else read_payload(tree, listed, payload.key, 4096)
    assert (file.path, b"".join(read)) == ("Media/Recordings/20260303 140500.m4a", NOTES[0])


def test_the_generator_wraps_keys_as_the_standard_says() -> None:
    """The test data stands on the standard's own example (RFC 3394, section 4.6), not on the program."""
    from tests.generators.iphone_backup import wrap

    above, key = bytes(range(32)), bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    expected = "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
    assert wrap(above, key) == bytes.fromhex(expected)
    assert struct.unpack(">I", tagged("ITER", 7)[8:]) == (7,)
