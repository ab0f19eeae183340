"""Databases of before 2022: the older table of messages alone, or beside the newer one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from backup_tool.models import Chat, Problem
from tests.generators.android import ANNA, BEN, FAMILY, Store
from tests.generators.legacy_msgstore import LegacyMsgstore, media_data, modified_utf8
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.sources.stores import everything, scan

SENT = 1400000000123
WEEK = "Media/WhatsApp Voice Notes/201420"
LID = "98765432109876@lid"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with no notes yet."""
    return Store(tmp_path / "WhatsApp")


def put(store: Store, number: int, inside: str = WEEK) -> tuple[str, bytes]:
    """A voice note of the store: its path and its bytes."""
    made = store.put(f"{inside}/PTT-20140513-WA{number:04d}.opus", opus_note(1, seed=number))
    return made.original_path, made.data


def legacy(store: Store, **options: frozenset[str]) -> LegacyMsgstore:
    return LegacyMsgstore(store.root / "Databases/msgstore.db", **options)


def test_an_old_message_tells_all_it_knows(store: Store) -> None:
    """Chat, sender, time, length, star and forward of a note come from the older table; the file's path from the object in it."""
    path, data = put(store, 1)
    old = legacy(store)
    old.chat(FAMILY, "Family")
    old.message(FAMILY, "A1", sent=SENT, sender=ANNA, file=path, data=data, media_duration=7, starred=1, forwarded=1)
    old.close()
    before = everything(store.root)
    found = scan(store.root)
    note = found.note(path)
    assert (note.chat, note.chat_id, note.message_id) == ("Family", FAMILY, "A1")
    assert (note.sender, note.sender_id, note.from_me) == ("+491700000001", ANNA, False)
    assert (note.sent_at, note.sent_at_from, note.duration) == ("2014-05-13T16:53:20.123Z", "message", 7.0)
    assert (note.kind, note.starred, note.forwarded, note.transcript) == ("voice", True, True, None)
    assert found.files[0].recorded_id == hashlib.sha256(data).hexdigest()
    assert found.summary.chats == [Chat(chat_id=FAMILY, titles=["Family"])]
    assert (found.summary.orphans, found.summary.missing, found.summary.warnings) == (0, [], [])
    assert everything(store.root) == before


def test_the_row_that_is_no_message_gives_no_note(store: Store) -> None:
    """The first row of the older table, whatever type it claims, is none; every message is."""
    old = legacy(store)
    paths = [put(store, number) for number in range(4)]
    for number, (path, data) in enumerate(paths):
        old.message(ANNA, f"K{number}", sent=SENT + number, file=path, data=data)
    old.connection.execute("UPDATE messages SET media_wa_type = '2' WHERE _id = 1")
    old.close()
    found = scan(store.root)
    assert [note.message_id for note in found.notes] == ["K0", "K1", "K2", "K3"]
    assert (found.summary.missing, found.summary.not_downloaded) == ([], [])


def test_between_two_the_other_is_the_sender(store: Store) -> None:
    """In a chat of two the message names nobody: the other sent what the owner did not."""
    (first, one), (second, two) = put(store, 1), put(store, 2)
    old = legacy(store)
    old.message(ANNA, "IN", sent=SENT, file=first, data=one)
    old.message(ANNA, "OUT", sent=SENT, from_me=True, file=second, data=two)
    old.close()
    told = [(note.chat, note.chat_id, note.sender_id, note.from_me) for note in scan(store.root).notes]
    assert told == [("+491700000001", ANNA, ANNA, False), ("+491700000001", ANNA, None, True)]


@pytest.mark.parametrize(
    "written",
    [
        "/storage/emulated/0/WhatsApp/" + WEEK + "/PTT-20140513-WA0001.opus",
        WEEK + "/PTT-20140513-WA0001.opus",
        "/sdcard/WhatsApp/" + WEEK.upper().replace("MEDIA", "Media") + "/PTT-20140513-WA0001.opus",
    ],
)
def test_the_path_is_found_in_the_object(store: Store, written: str) -> None:
    """Whole paths of the phone and relative ones are found among the object's other strings."""
    path, _ = put(store, 1)
    old = legacy(store)
    old.message(ANNA, "A", sent=SENT, thumb_image=media_data(written))
    old.close()
    assert scan(store.root).note(path).message_id == "A"


def test_names_beyond_the_first_plane_are_decoded(store: Store) -> None:
    """Java writes an emoji as two halves: the file is found all the same."""
    made = store.put("Media/WhatsApp Audio/Grüße 🎤.mp3", opus_note(1))
    old = legacy(store)
    old.message(ANNA, "A", sent=SENT, file=made.original_path, data=b"other content, so that only the path can tell")
    old.close()
    assert b"\xed" in modified_utf8(made.original_path)
    assert scan(store.root).note(made.original_path).message_id == "A"


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xac\xed\0\5",
        b"\x74",
        b"\x74\xff\xffMedia/",
        b"\x74\0\x10Media/\xff\xfe\xfd",
        b"\x74" * 70_000,
        b"\x74\0\0" * 10_000 + media_data(WEEK + "/PTT-20140513-WA0001.opus"),
        b"\0" * 70_000 + media_data(WEEK + "/PTT-20140513-WA0001.opus"),
        media_data("/storage/../Media/../../../etc/passwd"),
        media_data(b"Media/\xed\xa0\xbd"),
        media_data("Music/song.mp3"),
        "text in place of bytes: t\0\x06Media/",
        12,
    ],
)
def test_what_is_no_object_of_the_apps_names_no_file(store: Store, blob: object) -> None:
    """Anything else in its place, however long, ends in a message without a file, quickly."""
    put(store, 1)
    old = legacy(store)
    old.message(ANNA, "A", sent=SENT, thumb_image=blob)
    old.close()
    summary = scan(store.root).summary
    assert ([note.message_id for note in [*summary.missing, *summary.not_downloaded]], summary.orphans) == (["A"], 1)


def test_a_name_in_the_message_is_enough_where_one_file_has_it(store: Store) -> None:
    """Without a path the message's own name for the file finds it, of the recorded size; what a sender called a paper does not."""
    made = store.put("Media/WhatsApp Audio/AUD-20140513-WA0007.mp3", opus_note(1))
    old = legacy(store)
    old.message(ANNA, "A", sent=SENT, media_name="AUD-20140513-WA0007.mp3", media_size=len(made.data))
    old.message(ANNA, "B", sent=SENT, media_name="Minutes of the meeting", media_mime_type="audio/mpeg")
    old.close()
    found = scan(store.root)
    assert found.note(made.original_path).message_id == "A"
    assert [(note.message_id, note.original_path) for note in found.summary.not_downloaded] == [("B", None)]


def test_without_any_name_the_content_finds_the_file(store: Store) -> None:
    """The hash on record is enough."""
    path, data = put(store, 1)
    old = legacy(store)
    old.message(ANNA, "A", sent=SENT, data=data)
    old.close()
    assert scan(store.root).note(path).message_id == "A"


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (f"{WEEK}/PTT-20140513-WA0001.aac", "voice"),
        ("Media/WhatsApp Audio/AUD-20140513-WA0001.mp3", "audio"),
        ("Media/WhatsApp Audio/PTT-20140513-WA0001.mp3", "voice"),
    ],
)
def test_folder_and_name_decide_what_a_note_is(store: Store, file: str, kind: str) -> None:
    """In the older table the mark of a voice note stands on everything: it is no evidence."""
    made = store.put(file, opus_note(1))
    old = legacy(store)
    old.message(ANNA, "A", sent=SENT, file=file, data=made.data, origin=1)
    old.close()
    assert scan(store.root).note(file).kind == kind


def test_what_an_old_version_lacks_is_only_not_known(store: Store) -> None:
    """A table with hardly a column is read; what it would have said is unknown, not wrong."""
    path, data = put(store, 1)
    gone = ["starred", "forwarded", "media_hash", "media_duration", "received_timestamp", "media_name", "media_mime_type"]
    gone.append("remote_resource")
    old = legacy(store, without=frozenset(["chat_list", *(f"messages.{name}" for name in gone)]))
    old.message(FAMILY, "A", sent=SENT, sender=ANNA, file=path, data=data)
    old.close()
    note = scan(store.root).note(path)
    assert (note.message_id, note.chat, note.sender, note.starred, note.forwarded) == ("A", FAMILY, None, None, None)
    assert note.sent_at == "2014-05-13T16:53:20.123Z"


def test_each_number_of_an_old_account(store: Store) -> None:
    """Files that were there once are missing, others were never downloaded, and what the sender took back is neither."""
    old = legacy(store)
    old.message(ANNA, "CLEANED", sent=SENT, file=f"{WEEK}/PTT-20140513-WA0001.aac", media_size=5)
    old.message(ANNA, "NEVER", sent=SENT, media_size=5)
    old.message(ANNA, "TAKEN-BACK", sent=SENT, type_="15", file=f"{WEEK}/PTT-20140513-WA0002.aac", media_mime_type="audio/aac")
    old.message(ANNA, "TEXT", sent=SENT, type_="0", data=b"hello")
    old.message(ANNA, "PICTURE", sent=SENT, type_="1", media_mime_type="image/jpeg", file="Media/WhatsApp Images/IMG-1.jpg")
    old.close()
    summary = scan(store.root).summary
    assert [(note.message_id, note.size) for note in summary.missing] == [("CLEANED", 5)]
    assert [note.message_id for note in summary.not_downloaded] == ["NEVER"]


class TestBoth:
    """The older and the newer table in one database: apps moved messages over months, in steps."""

    def test_messages_of_both_tables_are_united(self, store: Store) -> None:
        """Messages that only one of the tables has are all there; one that both have is one note, as the newer table tells it."""
        notes = [put(store, number) for number in range(3)]
        new = Msgstore(store.root / "Databases/msgstore.db")
        chat = new.chat(FAMILY, subject="Family")
        new.message(chat, "BOTH", sent=SENT, sender=ANNA, file=notes[0][0], data=notes[0][1], starred=1)
        new.message(chat, "NEW", sent=SENT, sender=ANNA, file=notes[1][0], data=notes[1][1])
        old = LegacyMsgstore.beside(new, first=50)
        old.message(FAMILY, "BOTH", sent=SENT - 5000, sender=BEN, file=notes[0][0], data=notes[0][1])
        old.message(FAMILY, "OLD", sent=SENT, sender=BEN, file=notes[2][0], data=notes[2][1])
        new.close()
        found = scan(store.root)
        assert [(note.message_id, note.sender_id, note.starred) for note in found.notes] == [
            ("BOTH", ANNA, True), ("NEW", ANNA, False), ("OLD", BEN, False),
        ]  # fmt: skip
        assert {note.chat for note in found.notes} == {"Family"}

    def test_neither_tables_empty_row_hides_the_other(self, store: Store) -> None:
        """A database whose newer table holds only its row that is no message is read from the older one, and the other way round."""
        path, data = put(store, 1)
        new = Msgstore(store.root / "Databases/msgstore.db")
        LegacyMsgstore.beside(new).message(ANNA, "OLD", sent=SENT, file=path, data=data)
        new.close()
        assert scan(store.root).note(path).message_id == "OLD"
        (store.root / "Databases/msgstore.db").unlink()
        new = Msgstore(store.root / "Databases/msgstore.db")
        LegacyMsgstore.beside(new)
        new.message(new.chat(ANNA), "NEW", sent=SENT, file=path, data=data)
        new.close()
        assert scan(store.root).note(path).message_id == "NEW"

    def test_a_message_moved_before_its_file_keeps_the_file(self, store: Store) -> None:
        """Where the newer table has the message but not yet its file, the older one says which file it is."""
        path, data = put(store, 1)
        new = Msgstore(store.root / "Databases/msgstore.db")
        row = new.message(new.chat(ANNA), "A", sent=SENT, starred=1, media=False)
        LegacyMsgstore.beside(new, first=row).message(ANNA, "A", sent=SENT, file=path, data=data, media_duration=4)
        new.close()
        found = scan(store.root)
        assert (found.note(path).message_id, found.note(path).starred, found.note(path).duration) == ("A", True, 4.0)
        assert (found.summary.missing, found.summary.not_downloaded, found.summary.orphans) == ([], [], 0)

    def test_the_newer_table_of_files_serves_the_older_messages(self, store: Store) -> None:
        """In the years between, messages stood in the older table and their files in the newer one, under the same number."""
        path, data = put(store, 1)
        new = Msgstore(store.root / "Databases/msgstore.db")
        old = LegacyMsgstore.beside(new, first=70)
        row = old.message(ANNA, "A", sent=SENT, type_="2")
        new.connection.execute(
            "INSERT INTO message_media (message_row_id, file_path, file_length, media_duration) VALUES (?, ?, ?, 6)", (row, path, len(data))
        )
        new.close()
        assert (scan(store.root).note(path).message_id, scan(store.root).note(path).duration) == ("A", 6.0)

    def test_another_messages_file_is_not_taken_for_its_own(self, store: Store) -> None:
        """Where the tables use one number for two messages, the file belongs to the newer table's message alone."""
        path, data = put(store, 1)
        new = Msgstore(store.root / "Databases/msgstore.db")
        row = new.message(new.chat(BEN), "NEW", sent=SENT, file=path, data=data)
        LegacyMsgstore.beside(new, first=row).message(ANNA, "OLD", sent=SENT)
        new.close()
        found = scan(store.root)
        assert [note.message_id for note in found.notes] == ["NEW"]
        assert [(note.message_id, note.original_path) for note in found.summary.not_downloaded] == [("OLD", None)]

    def test_what_was_taken_back_since_is_not_missing(self, store: Store) -> None:
        """A message that the newer table knows to be deleted by its sender is not brought back by the older one."""
        new = Msgstore(store.root / "Databases/msgstore.db")
        row = new.message(new.chat(ANNA), "A", sent=SENT, type_=15, media=False)
        LegacyMsgstore.beside(new, first=row).message(ANNA, "A", sent=SENT, file=f"{WEEK}/PTT-20140513-WA0001.aac")
        new.close()
        summary = scan(store.root).summary
        assert (summary.missing, summary.not_downloaded) == ([], [])

    def test_one_person_in_both_tables_is_one_chat(self, store: Store) -> None:
        """The newer table knows the chat by a hidden identity, the older by the number: it is one chat, and one message once."""
        (first, one), (second, two) = put(store, 1), put(store, 2)
        new = Msgstore(store.root / "Databases/msgstore.db")
        new.map_lid(LID, ANNA)
        new.message(new.chat(LID), "A", sent=SENT, file=first, data=one)
        old = LegacyMsgstore.beside(new, first=50)
        old.message(ANNA, "A", sent=SENT, file=first, data=one)
        old.message(ANNA, "B", sent=SENT, file=second, data=two)
        new.close()
        assert [(note.message_id, note.chat_id) for note in scan(store.root).notes] == [("A", ANNA), ("B", ANNA)]

    def test_the_newest_message_of_either_table_tells_the_age(self, store: Store) -> None:
        """Of two databases, the one with the newest message is read, also where that stands in the older table."""
        path, data = put(store, 1)
        new = Msgstore(store.root / "Databases/msgstore.db")
        new.message(new.chat(ANNA), "STALE", sent=SENT, file=path, data=data)
        new.message(new.chat(BEN), "TEXT", sent=SENT + 5, type_=0, media=False)
        new.close()
        old = LegacyMsgstore(store.root / "Databases/msgstore-2014.db")
        old.message(ANNA, "CURRENT", sent=SENT, file=path, data=data)
        old.message(ANNA, "TEXT", sent=SENT + 9, type_="0")
        old.message(ANNA, "WRONG-CLOCK", sent=2**61, type_="0")
        old.close()
        assert scan(store.root).note(path).message_id == "CURRENT"


def test_rows_before_the_damage_are_used(store: Store) -> None:
    """An older database that is damaged half-way still names the notes that come before, and the damage is a problem."""
    path, data = put(store, 1)
    old = legacy(store)
    old.message(ANNA, "FIRST", sent=SENT, file=path, data=data)
    for number in range(400):
        old.message(ANNA, f"KEY{number:08}", sent=SENT, file=f"{WEEK}/PTT-20140513-WA{number + 10:04}.opus", media_caption="x" * 300)
    broken = old.close()
    content = bytearray(broken.read_bytes())
    at = content.index(b"KEY00000300") // 4096 * 4096
    content[at : at + 4096] = b"\xff" * 4096
    broken.write_bytes(content)
    found = scan(store.root)
    assert found.note(path).message_id == "FIRST"
    assert found.summary.problems == [Problem("Databases/msgstore.db", "database disk image is malformed")]
