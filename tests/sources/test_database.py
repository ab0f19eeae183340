"""What a readable msgstore.db adds: chats, people, times, and which messages have no file."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from backup_tool.models import Chat, Problem, Transcript
from backup_tool.sources import detect
from tests.generators import android, sounds
from tests.generators.android import ANNA, BEN, FAMILY, Store
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.sources.stores import everything, scan

SENT = 1772546700123
WEEK = "Media/WhatsApp Voice Notes/202610"
LID = "98765432109876@lid"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with no notes yet."""
    return Store(tmp_path / "WhatsApp")


def put(store: Store, number: int, seconds: float = 1.0) -> tuple[str, bytes]:
    """A voice note of the store: its path and its bytes."""
    made = store.put(f"{WEEK}/PTT-20260303-WA{number:04d}.opus", opus_note(seconds, seed=number))
    return made.original_path, made.data


def database(store: Store, name: str = "Databases/msgstore.db", **options: object) -> Msgstore:
    return Msgstore(store.root / name, **options)  # type: ignore[arg-type]


def test_a_message_tells_all_it_knows(store: Store) -> None:
    """Chat, sender, exact time, length, star, forward and transcript of a note come from its message."""
    path, data = put(store, 1)
    msgstore = database(store)
    chat = msgstore.chat(FAMILY, subject="Family")
    msgstore.message(
        chat, "3EB0A1", sent=SENT, sender=ANNA, file=path, data=data, media_duration=7, starred=1, origination_flags=1,
        raw_transcription_text="hello there",
    )  # fmt: skip
    msgstore.close()
    before = everything(store.root)
    found = scan(store.root)
    note = found.note(path)
    assert (note.chat, note.chat_id, note.message_id) == ("Family", FAMILY, "3EB0A1")
    assert (note.sender, note.sender_id, note.from_me) == ("+491700000001", ANNA, False)
    assert (note.sent_at, note.sent_at_from, note.duration) == ("2026-03-03T14:05:00.123Z", "message", 7.0)
    assert (note.kind, note.starred, note.forwarded) == ("voice", True, True)
    assert note.transcript == Transcript("hello there", None, "whatsapp")
    assert (note.original_path, note.mtime_ns) == (path, found.files[0].mtime_ns)
    assert found.files[0].recorded_id == hashlib.sha256(data).hexdigest()
    assert found.summary.chats == [Chat(chat_id=FAMILY, titles=["Family"])]
    assert (found.summary.database, found.summary.orphans, found.summary.missing) == ("Databases/msgstore.db", 0, [])
    assert everything(store.root) == before


def test_every_message_is_found_and_the_sentinel_is_none(store: Store) -> None:
    """The first row of the table, which is no message, gives no note; the first message does."""
    msgstore = database(store)
    chat = msgstore.chat(ANNA)
    paths = []
    for number in range(5):
        path, data = put(store, number)
        msgstore.message(chat, f"KEY{number}", sent=SENT, file=path, data=data)
        paths.append(path)
    msgstore.connection.execute("UPDATE message SET message_type = 2 WHERE key_id = '-1'")
    msgstore.close()
    found = scan(store.root)
    assert [note.message_id for note in found.notes] == ["KEY0", "KEY1", "KEY2", "KEY3", "KEY4"]
    assert found.summary.missing == []


def test_each_number_of_the_account(store: Store) -> None:
    """With, missing, not downloaded and orphan add up: every file and every message is in exactly one of them.

    A note to be heard once was there if it was opened; where it expired unheard the device never had it.
    """
    msgstore = database(store)
    chat = msgstore.chat(FAMILY)
    with_message, data = put(store, 1)
    put(store, 2)
    put(store, 3)
    msgstore.message(chat, "HERE", sent=SENT, file=with_message, data=data)
    msgstore.message(chat, "CLEANED", sent=SENT - 1000, file=f"{WEEK}/PTT-20260303-WA0009.opus", file_size=4321, media_duration=12)
    msgstore.message(chat, "NEVER-LOADED", sent=SENT - 2000, sender=ANNA, transferred=0, media_duration=9)
    msgstore.message(chat, "NO-ROW", sent=SENT - 2500, sender=ANNA, media=False)
    msgstore.message(chat, "ONCE", sent=SENT - 3000, type_=82, origin=None, media=False)
    msgstore.view_once(msgstore.message(chat, "HEARD", sent=SENT - 3100, type_=82, transferred=0, media_duration=3), 1)
    msgstore.view_once(msgstore.message(chat, "EXPIRED", sent=SENT - 3200, type_=82, transferred=0, media_duration=4), 2)
    msgstore.message(chat, "REVOKED", sent=SENT - 4000, type_=15, file=f"{WEEK}/PTT-20260303-WA0008.opus")
    msgstore.message(chat, "TEXT", sent=SENT, type_=0, media=False)
    msgstore.message(chat, "PICTURE", sent=SENT, type_=1, mime_type="image/jpeg", file="Media/WhatsApp Images/IMG-1.jpg")
    msgstore.close()
    summary = scan(store.root).summary
    assert (summary.files, summary.orphans) == (3, 2)
    assert [(note.message_id, note.size, note.duration, note.kind) for note in summary.missing] == [
        ("HEARD", None, 3.0, "voice"),
        ("CLEANED", 4321, 12.0, "voice"),
    ]
    assert summary.missing[1].original_path == f"{WEEK}/PTT-20260303-WA0009.opus"
    assert [(note.message_id, note.duration, note.kind) for note in summary.not_downloaded] == [
        ("EXPIRED", 4.0, "voice"),
        ("ONCE", None, "voice"),
        ("NO-ROW", None, "voice"),
        ("NEVER-LOADED", 9.0, "voice"),
    ]
    assert (summary.not_downloaded[3].sender, summary.not_downloaded[3].chat_id) == ("+491700000001", FAMILY)
    assert (summary.problems, summary.warnings) == ([], [])


def test_a_file_deleted_for_everyone_is_kept_with_its_message(store: Store) -> None:
    """A note whose message was deleted by its sender is still saved, in its chat, while the file is there."""
    path, data = put(store, 1)
    msgstore = database(store)
    msgstore.message(msgstore.chat(FAMILY), "REVOKED", sent=SENT, type_=15, origin=None, file=path, data=data)
    msgstore.close()
    assert (scan(store.root).note(path).message_id, scan(store.root).note(path).kind) == ("REVOKED", "voice")


class TestPeople:
    """Names and addresses."""

    def test_a_person_is_a_number_until_more_is_known(self, store: Store) -> None:
        """A chat of two bears the other's number, and the other is the sender; what the owner sent has no sender."""
        paths = [put(store, number) for number in range(2)]
        msgstore = database(store)
        chat = msgstore.chat(ANNA)
        msgstore.message(chat, "IN", sent=SENT, file=paths[0][0], data=paths[0][1])
        msgstore.message(chat, "OUT", sent=SENT, from_me=True, file=paths[1][0], data=paths[1][1])
        msgstore.close()
        found = scan(store.root)
        told = [(n.chat, n.chat_id, n.sender, n.sender_id, n.from_me) for n in found.notes]
        assert told == [("+491700000001", ANNA, "+491700000001", ANNA, False), ("+491700000001", ANNA, None, None, True)]

    def test_a_hidden_identity_is_resolved(self, store: Store) -> None:
        """A chat and a group's sender under a hidden identity get the phone number's address and the name it shows, marked as its own."""
        paths = [put(store, number) for number in range(3)]
        msgstore = database(store)
        msgstore.map_lid(LID, BEN)
        msgstore.name_lid(LID, "Ben B.")
        direct, group, by_phone = msgstore.chat(LID), msgstore.chat(FAMILY, subject="Family"), msgstore.chat(BEN)
        msgstore.message(direct, "A", sent=SENT, file=paths[0][0], data=paths[0][1])
        msgstore.message(group, "B", sent=SENT, sender=LID, file=paths[1][0], data=paths[1][1])
        msgstore.message(by_phone, "C", sent=SENT, file=paths[2][0], data=paths[2][1])
        msgstore.close()
        direct_note, group_note, phone_note = scan(store.root).notes
        assert (direct_note.chat, direct_note.chat_id, direct_note.sender_id) == ("~Ben B.", BEN, BEN)
        assert (group_note.chat, group_note.sender, group_note.sender_id) == ("Family", "~Ben B.", BEN)
        assert (phone_note.chat, phone_note.chat_id) == ("~Ben B.", BEN)

    def test_a_hidden_identity_that_nobody_knows_is_never_a_number(self, store: Store) -> None:
        """The digits of a hidden identity are not shown as a telephone number."""
        path, data = put(store, 1)
        msgstore = database(store, without=frozenset(["jid_map", "lid_display_name"]))
        msgstore.message(msgstore.chat(LID), "A", sent=SENT, file=path, data=data)
        msgstore.close()
        note = scan(store.root).note(path)
        assert (note.chat, note.chat_id, note.sender) == (LID, LID, LID)

    @pytest.mark.parametrize(
        ("address", "chat", "shown"),
        [
            ("491700000003:12@s.whatsapp.net", "491700000003@s.whatsapp.net", "+491700000003"),
            ("491700000003.1:12@s.whatsapp.net", "491700000003@s.whatsapp.net", "+491700000003"),
            ("0@s.whatsapp.net", "0@s.whatsapp.net", "WhatsApp"),
            ("491700000001-1400000000@g.us", "491700000001-1400000000@g.us", "491700000001-1400000000@g.us"),
            ("status@broadcast", "status@broadcast", "status@broadcast"),
            ("120363@newsletter", "120363@newsletter", "120363@newsletter"),
        ],
    )
    def test_every_kind_of_address_has_a_name(self, store: Store, address: str, chat: str, shown: str) -> None:
        """A chat never lacks a name: without any better one it is its address; devices of one person are that person."""
        path, data = put(store, 1)
        msgstore = database(store)
        msgstore.message(msgstore.chat(address), "A", sent=SENT, file=path, data=data)
        msgstore.close()
        assert (scan(store.root).note(path).chat_id, scan(store.root).note(path).chat) == (chat, shown)

    def test_a_message_whose_chat_is_lost_is_still_a_message(self, store: Store) -> None:
        """Rows without a chat row, or without an address, keep time and id."""
        path, data = put(store, 1)
        msgstore = database(store)
        msgstore.message(4711, "A", sent=SENT, file=path, data=data)
        msgstore.close()
        note = scan(store.root).note(path)
        assert (note.chat, note.chat_id, note.sender, note.message_id, note.sent_at_from) == (None, None, None, "A", "message")

    @pytest.mark.parametrize(
        "name",
        [
            "../../x",
            "/etc/x",
            "line\nend",
            "\x1b[2J",
            "\u202eevil",
            "👩‍👩‍👧",
            "'; DROP TABLE message; --",
            "=HYPERLINK(1)",
            "-rf",
            "a\0b",
            "x" * 9999,
        ],
    )
    def test_titles_are_kept_as_they_are(self, store: Store, name: str) -> None:
        """A hostile title is data: it is neither run nor changed."""
        path, data = put(store, 1)
        msgstore = database(store)
        msgstore.message(msgstore.chat(FAMILY, subject=name), "A", sent=SENT, file=path, data=data)
        msgstore.close()
        assert scan(store.root).note(path).chat == name

    def test_a_title_of_many_megabytes_is_cut(self, store: Store) -> None:
        """Nobody fills this machine's memory with a name."""
        path, data = put(store, 1)
        msgstore = database(store)
        msgstore.message(msgstore.chat(FAMILY, subject="x" * 5_000_000), "A", sent=SENT, file=path, data=data)
        msgstore.close()
        assert scan(store.root).note(path).chat == "x" * 10_000

    def test_broken_text_costs_nothing_else(self, store: Store) -> None:
        """A title that is no valid text, or no text at all, is shown escaped; every note is there."""
        paths = [put(store, number) for number in range(3)]
        msgstore = database(store)
        chats = [msgstore.chat(f"{number}@g.us") for number in range(3)]
        msgstore.connection.execute("UPDATE chat SET subject = CAST(x'41eda0bd42' AS TEXT) WHERE _id = ?", (chats[0],))
        msgstore.connection.execute("UPDATE chat SET subject = x'00ff' WHERE _id = ?", (chats[1],))
        for chat, (path, data) in zip(chats, paths, strict=True):
            msgstore.message(chat, "A", sent=SENT, file=path.encode(), data=data)
        msgstore.close()
        titles = [note.chat for note in scan(store.root).notes]
        assert titles[0] == "A\\xed\\xa0\\xbdB"
        assert titles[2] == "2@g.us"
        assert len(titles) == 3


class TestTimes:
    """When a note was sent."""

    @pytest.mark.parametrize(
        ("sent", "received", "sent_at", "sent_at_from"),
        [
            (SENT, None, "2026-03-03T14:05:00.123Z", "message"),
            (1772546700000, None, "2026-03-03T14:05:00Z", "message"),
            (0, SENT, "2026-03-03T14:05:00.123Z", "message"),
            (None, SENT, "2026-03-03T14:05:00.123Z", "message"),
            (1772546700, None, "2026-03-03T14:05:00Z", "message"),
            (0, 0, "2026-03-03T12:00:00Z", "name"),
            (-1, None, "2026-03-03T12:00:00Z", "name"),
            (2**62, None, "2026-03-03T12:00:00Z", "name"),
            (1000, None, "2026-03-03T12:00:00Z", "name"),
            ("yesterday", b"\0", "2026-03-03T12:00:00Z", "name"),
        ],
    )
    def test_the_best_time_that_can_be(self, store: Store, sent: object, received: object, sent_at: str, sent_at_from: str) -> None:
        """The message's time, else when the phone received it, else the day in the file's name; impossible times are not believed."""
        path, data = put(store, 1)
        msgstore = database(store)
        msgstore.message(msgstore.chat(FAMILY), "A", sent=sent, received_timestamp=received, file=path, data=data)
        msgstore.close()
        assert (scan(store.root).note(path).sent_at, scan(store.root).note(path).sent_at_from) == (sent_at, sent_at_from)


class TestKinds:
    """Voice note, attachment, or video note."""

    @pytest.mark.parametrize(
        ("type_", "origin", "mime", "path", "kind"),
        [
            (2, 1, "audio/ogg; codecs=opus", "Media/WhatsApp Audio/AUD-20260303-WA0001.opus", "voice"),
            (2, 0, "audio/ogg; codecs=opus", "Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0001.opus", "audio"),
            (2, 2, "audio/ogg; codecs=opus", "Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0001.opus", "voice"),
            (2, 3, "audio/mpeg", "Media/WhatsApp Audio/Sent/AUD-20260303-WA0001.mp3", "audio"),
            (2, None, "audio/mpeg", "Media/WhatsApp Audio/PTT-20150303-WA0001.aac", "voice"),
            (82, None, "audio/ogg", "Media/WhatsApp Audio/AUD-20260303-WA0001.opus", "voice"),
            (9, None, "audio/mp4", "Media/WhatsApp Documents/interview.m4a", "audio"),
            (81, None, "video/mp4", "Media/WhatsApp Video Notes/PTV-20260303-WA0001.mp4", "video"),
            (3, None, "video/mp4", "Media/WhatsApp Video Notes/PTV-20260303-WA0001.mp4", "video"),
            (81, None, "audio/ogg", "Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0001.opus", "voice"),
            (103, None, "audio/ogg", "Media/WhatsApp Audio/AUD-20260303-WA0001.opus", "audio"),
            (777, None, None, "Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0001.opus", "voice"),
        ],
    )
    def test_what_decides(self, store: Store, type_: int, origin: int | None, mime: str | None, path: str, kind: str) -> None:
        """The database's own word for a voice note counts first, then folder, then name; no single number is trusted for the rest."""
        made = store.put(path, sounds.video_note(1) if kind == "video" else opus_note(1))
        msgstore = database(store)
        msgstore.message(msgstore.chat(FAMILY), "A", sent=SENT, type_=type_, origin=origin, mime_type=mime, file=path, data=made.data)
        msgstore.close()
        found = scan(store.root)
        assert (found.note(path).kind, found.note(path).message_id) == (kind, "A")

    def test_films_are_not_notes(self, store: Store) -> None:
        """An ordinary film, or a status, in the database is neither a note nor missing."""
        msgstore = database(store)
        chat = msgstore.chat(FAMILY)
        msgstore.message(
            chat, "A", sent=SENT, type_=3, origin=None, mime_type="video/mp4", file="Media/WhatsApp Video/VID-20260303-WA0001.mp4"
        )
        msgstore.message(chat, "B", sent=SENT, type_=81, origin=None, mime_type="video/mp4", file=None)
        msgstore.message(chat, "C", sent=SENT, type_=81, origin=None, mime_type=None, file=None)
        msgstore.close()
        assert scan(store.root).summary.missing == []


class TestSchemas:
    """Databases of other versions, and odd ones."""

    @pytest.mark.parametrize(
        "without",
        [
            {"jid_map", "lid_display_name"}, {"message_forwarded", "message.origination_flags"}, {"message.starred", "message.origin"},
            {"message_media.raw_transcription_text", "message_media.file_hash"}, {"jid.raw_string"}, {"chat.subject"},
            {"message.received_timestamp", "message_media.file_length", "message_media.media_duration", "message_media.mime_type"},
        ],
    )  # fmt: skip
    def test_what_a_version_lacks_is_only_not_known(self, store: Store, without: set[str]) -> None:
        """A database without a table or a column of newer versions is read; what it would have said is unknown, not wrong."""
        path, data = put(store, 1)
        msgstore = database(store, without=frozenset(without))
        msgstore.message(msgstore.chat(ANNA), "A", sent=SENT, file=path, data=data)
        msgstore.close()
        found = scan(store.root)
        note = found.note(path)
        assert (note.message_id, note.chat_id, note.sent_at, note.kind) == ("A", ANNA, "2026-03-03T14:05:00.123Z", "voice")
        assert (note.starred is None) == ("message.starred" in without)
        assert (note.forwarded is None) == ("message_forwarded" in without)
        assert (found.files[0].recorded_id is None) == ("message_media.file_hash" in without)
        assert found.summary.problems == []

    def test_a_database_without_media_still_knows_its_messages(self, store: Store) -> None:
        """With no table of files, every message is missing and every file an orphan; nothing fails."""
        put(store, 1)
        msgstore = database(store, without=frozenset(["message_media"]))
        msgstore.message(msgstore.chat(ANNA), "A", sent=SENT)
        msgstore.close()
        summary = scan(store.root).summary
        assert (summary.orphans, [note.message_id for note in summary.not_downloaded]) == (1, ["A"])

    def test_what_makes_naive_readers_fail_is_not_touched(self, store: Store) -> None:
        """Views that break, search tables and indexes over expressions stand in real databases: they cost nothing."""
        path, data = put(store, 1)
        msgstore = database(store)
        msgstore.as_apps_leave_it()
        msgstore.message(msgstore.chat(ANNA), "A", sent=SENT, file=path, data=data)
        msgstore.close()
        found = scan(store.root)
        assert (found.note(path).message_id, found.summary.problems, found.summary.warnings) == ("A", [], [])

    def test_a_virtual_table_in_place_of_a_side_table_is_not_asked(self, store: Store) -> None:
        """What should be a table and is a module's doing counts as absent."""
        path, data = put(store, 1)
        msgstore = database(store, without=frozenset(["lid_display_name", "message_forwarded"]))
        msgstore.connection.execute("CREATE VIRTUAL TABLE message_forwarded USING fts5(message_row_id)")
        msgstore.connection.execute("CREATE/**/VIRTUAL TABLE lid_display_name USING fts5(lid_row_id, display_name)")
        msgstore.message(msgstore.chat(ANNA), "A", sent=SENT, file=path, data=data, score=3)
        msgstore.close()
        found = scan(store.root)
        assert (found.note(path).message_id, found.note(path).forwarded, found.summary.problems) == ("A", False, [])

    def test_a_view_in_place_of_a_table_is_not_read(self, store: Store) -> None:
        """A database made to run a stranger's query, even one that never ends, is not asked."""
        path, _ = put(store, 1)
        connection = sqlite3.connect(store.root / "Databases/msgstore.db")
        connection.executescript(
            "CREATE TABLE chat (_id, jid_row_id); CREATE TABLE jid (_id); CREATE VIEW message AS WITH RECURSIVE n(_id) AS (SELECT 1 "
            "UNION ALL SELECT _id + 1 FROM n) SELECT _id, 1 chat_row_id, 'k' key_id, 1 timestamp, 2 message_type FROM n;"
        )
        connection.close()
        found = scan(store.root)
        assert found.note(path).message_id is None
        assert found.summary.warnings == ["Databases/msgstore.db is not laid out as WhatsApp does: its names and times cannot be read"]

    def test_a_computed_column_is_not_asked(self, store: Store) -> None:
        """A column that would run a stranger's expression for each row counts as absent."""
        path, _ = put(store, 1)
        connection = sqlite3.connect(store.root / "Databases/msgstore.db")
        connection.executescript(
            "CREATE TABLE chat (_id INTEGER PRIMARY KEY, jid_row_id INTEGER); CREATE TABLE jid (_id INTEGER PRIMARY KEY);"
            "CREATE TABLE message (_id INTEGER PRIMARY KEY, chat_row_id, timestamp, message_type, key_id AS (hex(zeroblob(1000))));"
            "INSERT INTO message (chat_row_id, timestamp, message_type) VALUES (1, 1, 2);"
        )
        connection.close()
        found = scan(store.root)
        assert found.note(path).message_id is None
        assert found.summary.warnings == ["Databases/msgstore.db is not laid out as WhatsApp does: its names and times cannot be read"]

    def test_a_database_made_to_be_read_for_ever_is_given_up(self, store: Store) -> None:
        """Rows that multiply with each other cannot keep the nightly run busy: reading stops, and that is a problem."""
        path, _ = put(store, 1)
        connection = sqlite3.connect(store.root / "Databases/msgstore.db")
        connection.executescript(
            "CREATE TABLE chat (_id INTEGER PRIMARY KEY, jid_row_id INTEGER); CREATE TABLE jid (_id INTEGER PRIMARY KEY);"
            "CREATE TABLE message (_id, chat_row_id, key_id, timestamp, message_type); CREATE TABLE message_media (message_row_id);"
        )
        connection.executemany("INSERT INTO message VALUES (1, 1, 'k', 1, 2)", [()] * 5000)
        connection.executemany("INSERT INTO message_media VALUES (1)", [()] * 5000)
        connection.commit()
        connection.close()
        found = scan(store.root)
        assert found.paths == [path]
        assert found.summary.problems == [Problem("Databases/msgstore.db", "made so that reading it never ends")]

    def test_columns_where_none_are_expected_change_nothing(self, store: Store) -> None:
        """A table of messages that has the side tables' column as well is read like any other."""
        path, data = put(store, 1)
        msgstore = database(store)
        msgstore.connection.execute("ALTER TABLE message ADD COLUMN message_row_id INTEGER")
        msgstore.message(msgstore.chat(ANNA), "A", sent=SENT, file=path, data=data)
        msgstore.close()
        found = scan(store.root)
        assert (found.note(path).message_id, found.summary.problems) == ("A", [])

    def test_many_rows_for_one_message_are_one(self, store: Store) -> None:
        """A database in which a key that should be unique is not gives each message once."""
        path, data = put(store, 1)
        msgstore = database(store)
        msgstore.connection.execute("DROP TABLE message_forwarded")
        msgstore.connection.execute("CREATE TABLE message_forwarded (message_row_id INTEGER, forward_score INTEGER)")
        number = msgstore.message(msgstore.chat(ANNA), "A", sent=SENT, file=path, data=data)
        msgstore.connection.executemany("INSERT INTO message_forwarded VALUES (?, 1)", [(number,)] * 50)
        msgstore.close()
        assert scan(store.root).note(path).forwarded is True


class TestWhichDatabase:
    """Which of several databases is read, and what is said of the others."""

    def test_messages_only_in_the_log_are_seen(self, store: Store) -> None:
        """A copy made while the app ran has its newest messages in the -wal: they count, and nothing is written beside them."""
        (old, old_data), (new, new_data) = put(store, 1), put(store, 2)
        msgstore = database(store, wal=True)
        chat = msgstore.chat(FAMILY)
        msgstore.message(chat, "OLD", sent=SENT, file=old, data=old_data)
        msgstore.checkpoint()
        msgstore.message(chat, "NEW", sent=SENT, file=new, data=new_data)
        path = msgstore.close_leaving_wal()
        assert path.with_name("msgstore.db-wal").stat().st_size > 0
        assert not path.with_name("msgstore.db-shm").exists()
        before = everything(store.root)
        assert [note.message_id for note in scan(store.root).notes] == ["OLD", "NEW"]
        assert everything(store.root) == before

    def test_half_a_change_is_undone(self, store: Store) -> None:
        """A copy made in the middle of a change comes with a -journal: what it would undo is undone, in our copy alone."""
        path, data = put(store, 1)
        msgstore = database(store)
        msgstore.message(msgstore.chat(FAMILY), "A", sent=SENT, file=path, data=data)
        main = msgstore.close()
        writer = sqlite3.connect(main, isolation_level=None)
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("PRAGMA cache_spill = 1")
        writer.execute("BEGIN")
        writer.execute("UPDATE message SET key_id = 'HALF'")
        writer.executemany("INSERT INTO props (key, value) VALUES ('filler', ?)", [("x" * 3000,)] * 200)
        taken = {name: main.with_name(name).read_bytes() for name in ("msgstore.db", "msgstore.db-journal")}
        writer.execute("ROLLBACK")
        writer.close()
        assert b"HALF" in taken["msgstore.db"]
        for name, content in taken.items():
            main.with_name(name).write_bytes(content)
        found = scan(store.root)
        assert (found.note(path).message_id, found.summary.problems) == ("A", [])

    def test_the_newest_by_content_is_read(self, store: Store) -> None:
        """Of several databases of one store, the one with the newest message counts, whatever names and file times say."""
        path, data = put(store, 1)
        names = (("msgstore.db", "NEW", SENT + 9), ("msgstore.db.crypt15.db", "STALE", SENT), ("msgstore-2026.db", "OLD", SENT - 9))
        for name, key, sent in names:
            msgstore = database(store, f"Databases/{name}")
            msgstore.message(msgstore.chat(FAMILY), key, sent=sent, file=path, data=data)
            msgstore.message(msgstore.chat(BEN), "IMPOSSIBLE", sent=2**61, media=False, type_=0)
            os.utime(msgstore.close(), (0, SENT / 1000 - sent % 1000))
        found = scan(store.root)
        assert (found.note(path).message_id, found.summary.database) == ("NEW", "Databases/msgstore.db")
        assert sorted(found.summary.warnings) == [
            "Databases/msgstore-2026.db is older than Databases/msgstore.db: it was not used",
            "Databases/msgstore.db.crypt15.db is older than Databases/msgstore.db: it was not used",
        ]

    @pytest.mark.parametrize(
        "name",
        [
            "Databases/decrypted.db",
            "Databases/whatsapp.db",
            "Databases/backup.crypt15.db",
            "Databases/my-msgstore.db",
            "messages",
            "old.bak",
        ],
    )
    def test_a_database_of_any_name_in_the_apps_own_folders_is_read(self, store: Store, name: str) -> None:
        """What somebody decrypted and called as they liked is known by its tables, in the store's root and its Databases."""
        path, data = put(store, 1)
        msgstore = database(store, name)
        msgstore.message(msgstore.chat(FAMILY, subject="Family"), "A", sent=SENT, file=path, data=data)
        msgstore.close()
        for place in (store.root, store.root.parent):
            found = scan(place)
            assert (found.note(path).chat, found.summary.problems, found.summary.warnings) == ("Family", [], [])
        assert [one.description for one in detect(store.root)] == ["WhatsApp on Android, with a database under another name"]

    def test_each_account_has_its_own_database(self, tmp_path: Path) -> None:
        """Two apps on one phone each name their own notes, also where both have a file of the same name."""
        notes: list[android.Made] = []
        for root, brand, chat in ((android.CURRENT, "WhatsApp", ANNA), (f"{android.CURRENT}/accounts/1002", "WhatsApp", BEN)):
            store = Store(tmp_path / root, brand)
            notes += store.voice_notes(2, seed=len(notes))
            store.database(store.made, chat=chat)
        found = scan(tmp_path)
        assert {file.path.split("/")[4]: file.notes[0].chat_id for file in found.files} == {"Media": ANNA, "accounts": BEN}
        assert found.summary.orphans == 0
        assert found.summary.missing == []

    def test_a_message_in_two_databases_is_one(self, tmp_path: Path) -> None:
        """The stale database of a parent account and today's agree on a message: it is one note, as the newer one tells it."""
        parent = Store(tmp_path / "WhatsApp")
        account = Store(tmp_path / "WhatsApp/accounts/1002")
        path, data = put(parent, 1)
        for store, title, more in ((parent, "Old title", 0), (account, "New title", 1)):
            msgstore = database(store)
            chat = msgstore.chat(FAMILY, subject=title)
            msgstore.message(chat, "A", sent=SENT, file=path, data=data)
            if more:
                msgstore.message(chat, "TEXT", sent=SENT + 5, type_=0, media=False)
            msgstore.close()
        found = scan(tmp_path)
        assert [(note.chat, note.message_id) for note in found.notes] == [("New title", "A")]
        assert (found.summary.missing, found.summary.database) == ([], "WhatsApp/accounts/1002/Databases/msgstore.db")

    def test_a_database_anywhere_in_the_folder_is_found(self, tmp_path: Path) -> None:
        """A decrypted database may lie beside the store instead of in it."""
        store = Store(tmp_path / "copy/WhatsApp")
        path, data = put(store, 1)
        msgstore = Msgstore(tmp_path / "copy/decrypted/msgstore.db")
        msgstore.message(msgstore.chat(ANNA), "A", sent=SENT, file=path, data=data)
        msgstore.close()
        found = scan(tmp_path / "copy")
        assert (found.note(path).message_id, found.summary.database) == ("A", "decrypted/msgstore.db")

    def test_notes_heaped_beside_a_database_are_found(self, tmp_path: Path) -> None:
        """Without WhatsApp's own folders, all audio beside a database belongs to it."""
        data = opus_note(1)
        (tmp_path / "PTT-20260303-WA0001.opus").write_bytes(data)
        msgstore = Msgstore(tmp_path / "msgstore.db")
        msgstore.message(msgstore.chat(ANNA), "A", sent=SENT, file=f"{WEEK}/PTT-20260303-WA0001.opus", data=data)
        msgstore.close()
        found = scan(tmp_path)
        assert (found.source.type, found.note("PTT-20260303-WA0001.opus").message_id) == ("whatsapp-android", "A")

    def test_a_database_can_be_named(self, tmp_path: Path) -> None:
        """A database that the settings name is used instead of any other, wherever it lies and whatever it is called."""
        store = Store(tmp_path / "phone/WhatsApp")
        path, data = put(store, 1)
        store.database([])
        msgstore = Msgstore(tmp_path / "elsewhere/opened.sqlite")
        msgstore.message(msgstore.chat(ANNA), "A", sent=SENT, file=path, data=data)
        named = msgstore.close()
        found = scan(tmp_path / "phone", database=named)
        assert (found.note(path).message_id, found.summary.database) == ("A", str(named))
        heap = tmp_path / "heap"
        heap.mkdir()
        (heap / "PTT-20260303-WA0001.opus").write_bytes(data)
        assert scan(heap, database=named).notes[0].message_id == "A"

    def test_a_named_database_that_is_away_is_a_problem(self, store: Store) -> None:
        """The notes are taken without it, and the night is not called complete."""
        path, _ = put(store, 1)
        found = scan(store.root, database=store.root / "gone.db")
        assert found.note(path).sent_at_from == "name"
        assert found.summary.problems == [Problem(str(store.root / "gone.db"), "the database that was named is not there")]
        assert found.summary.database is None


class TestDamage:
    """A database that is broken: as much as can be read, and a plain word."""

    def damaged(self, store: Store, count: int = 400) -> Path:
        msgstore = database(store)
        chat = msgstore.chat(FAMILY, subject="Family")
        for number in range(count):
            msgstore.message(
                chat, f"KEY{number:08}", sent=SENT + number, file=f"{WEEK}/PTT-20260303-WA{number:04}.opus", text_data="x" * 200
            )
        return msgstore.close()

    def test_a_cut_database_is_a_problem_and_costs_no_note(self, store: Store) -> None:
        """A copy that stopped half-way is said to be cut; all notes are taken."""
        path, _ = put(store, 1)
        broken = self.damaged(store)
        os.truncate(broken, broken.stat().st_size // 2)
        found = scan(store.root)
        assert found.paths == [path]
        assert found.summary.problems == [Problem("Databases/msgstore.db", "cut short: it is smaller than it says itself")]
        assert "copy it from the phone again" in found.summary.warnings[0]

    def test_what_can_be_read_of_a_damaged_database_is_used(self, store: Store) -> None:
        """Rows before the damage still name their notes; the damage is a problem."""
        path, _ = put(store, 1)
        broken = self.damaged(store)
        content = bytearray(broken.read_bytes())
        at = content.index(b"KEY00000300") // 4096 * 4096
        content[at : at + 4096] = b"\xff" * 4096
        broken.write_bytes(content)
        found = scan(store.root)
        assert found.note(path).message_id == "KEY00000001"
        assert [problem.path for problem in found.summary.problems] == ["Databases/msgstore.db"]
        assert "malformed" in found.summary.problems[0].reason

    @pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"SQLite format 3\0", b"SQLite format 3\0" + bytes(5000)])
    def test_what_is_no_database_is_a_problem(self, store: Store, content: bytes) -> None:
        """An empty file, a web page or zeros under the database's name are named; the notes are taken."""
        path, _ = put(store, 1)
        store.put("Databases/msgstore.db", content)
        found = scan(store.root)
        assert found.paths == [path]
        assert [problem.path for problem in found.summary.problems] == ["Databases/msgstore.db"]
        assert found.summary.database is None

    def test_a_schema_that_claims_more_bytes_than_memory_has_is_a_problem(self, store: Store) -> None:
        """Where a length in it was changed SQLite speaks of memory: it is told as the damage that it is, and the notes are taken."""
        path, _ = put(store, 1)
        data = bytearray(13 * 4096)  # the file format, sections 1.3 and 1.6: a header, and one cell of the schema's page
        data[:24] = b"SQLite format 3\0" + bytes.fromhex("1000010100402020")
        data[27], data[31], data[43], data[47], data[59], data[95], data[99] = 1, 13, 11, 4, 1, 1, 1
        data[100], data[104], data[108:110] = 13, 1, (2659).to_bytes(2, "big")
        data[2659:2673] = b"\xff" * 12 + b"\0\xff"
        store.put("Databases/msgstore.db", bytes(data))
        found = scan(store.root)
        assert found.paths == [path]
        assert found.summary.problems == [Problem("Databases/msgstore.db", "its schema is damaged")]

    def test_a_schema_that_is_no_text_is_a_problem(self, store: Store) -> None:
        """Where even the names of tables are damaged, and so SQLite's own complaint, the notes are taken and the damage is a problem."""
        path, _ = put(store, 1)
        broken = self.damaged(store, 1)
        connection = sqlite3.connect(broken)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE (', name = CAST(x'6dff' AS TEXT) WHERE name = 'message'")
        connection.commit()
        connection.close()
        found = scan(store.root)
        assert found.paths == [path]
        assert found.summary.problems == [Problem("Databases/msgstore.db", "its schema is damaged, even its names are no text")]

    def test_a_link_in_place_of_the_database_is_not_followed(self, store: Store, tmp_path: Path) -> None:
        """A database that is a link is named and not read."""
        put(store, 1)
        msgstore = Msgstore(tmp_path / "other/msgstore.db")
        msgstore.close()
        (store.root / "Databases/msgstore.db").symlink_to(tmp_path / "other/msgstore.db")
        found = scan(store.root)
        assert found.summary.problems == [Problem("Databases/msgstore.db", "a symbolic link, which is not followed")]

    def test_a_pipe_in_place_of_the_log_does_not_block(self, store: Store) -> None:
        """A -wal that is a named pipe makes the database a problem, and nothing waits."""
        put(store, 1)
        store.database([])
        os.mkfifo(store.root / "Databases/msgstore.db-wal")
        found = scan(store.root)
        assert found.summary.problems == [Problem("Databases/msgstore.db", "not an ordinary file")]
