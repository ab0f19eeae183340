"""What ChatStorage.sqlite, the address book and the list of hidden identities add, on iPhone and Mac alike."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from pathlib import Path

import pytest

from backup_tool.models import Chat
from tests.generators.chatstorage import EPOCH_2001, contacts, lids
from tests.generators.ogg import opus_note
from tests.sources.apple_stores import ANNA, BEN, FAMILY, LID, SENT, SENT_AT, Container, mac, media

NOTE = opus_note(1.0, seed=1)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """A container with nothing in it."""
    return Container(tmp_path / "group.net.whatsapp.WhatsApp.shared")


def recorded(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def test_a_message_tells_all_it_knows(container: Container) -> None:
    """Chat, sender, moment, length, star and forward of a note come from its message, under the id that other phones have too."""
    container.put(media(1, FAMILY), NOTE)
    storage = container.storage()
    family = storage.chat(FAMILY, "\u200eFamily", kind=1)
    storage.message(
        family, "3EB0A1", sent=SENT + 0.25, file=media(1, FAMILY), member=storage.member(family, BEN, name="Ben"), ZFROMJID=FAMILY,
        ZMOVIEDURATION=7, ZSTARRED=1, ZVCARDNAME=recorded(NOTE), ZMETADATA=b"\x88\x01\x02",
    )  # fmt: skip
    storage.close()
    found = mac(container.folder)
    note = found.note(f"Message/{media(1, FAMILY)}")
    assert (note.chat, note.chat_id, note.message_id) == ("Family", FAMILY, "3EB0A1")
    assert (note.sender, note.sender_id, note.from_me) == ("Ben", BEN, False)
    assert (note.sent_at, note.sent_at_from, note.duration) == ("2026-03-03T14:05:00.25Z", "message", 7.0)
    assert (note.kind, note.starred, note.forwarded, note.mtime_ns) == ("voice", True, True, (SENT + 60) * 10**9)
    assert found.files[0].recorded_id == hashlib.sha256(NOTE).hexdigest()
    assert found.summary.chats == [Chat(chat_id=FAMILY, titles=["Family"])]
    assert (found.summary.database, found.summary.orphans, found.summary.complete) == ("ChatStorage.sqlite", 0, True)


def test_what_the_owner_sent_has_no_sender(container: Container) -> None:
    """In a chat of two the other is the sender of what came in; the owner's own notes say `from_me` and no more."""
    storage = container.storage()
    chat = storage.chat(ANNA, "Anna")
    for number, mine in enumerate((False, True)):
        container.put(media(number), NOTE)
        storage.message(chat, f"K{number}", sent=SENT, file=media(number), from_me=mine)
    storage.close()
    assert [(note.from_me, note.sender, note.sender_id, note.starred, note.forwarded) for note in mac(container.folder).notes] == [
        (False, "Anna", ANNA, False, None),
        (True, None, None, False, None),
    ]


def test_an_unknown_sender_in_a_group_is_never_the_group(container: Container) -> None:
    """Old messages of a group do not say who sent them: then nobody is named."""
    container.put(media(1, FAMILY), NOTE)
    storage = container.storage()
    storage.message(storage.chat(FAMILY, "Family", kind=1), "OLD", sent=SENT, file=media(1, FAMILY), ZFROMJID=FAMILY)
    storage.close()
    note = mac(container.folder).notes[0]
    assert (note.sender, note.sender_id, note.from_me) == (None, None, False)


class TestAccount:
    """Every message and every file is in exactly one place of the account."""

    def test_each_number(self, container: Container) -> None:
        """Saved, gone, never loaded, orphan: told apart; texts, pictures, calls and what was deleted for everyone are none of these."""
        storage = container.storage()
        chat = storage.chat(ANNA, "Anna")
        container.put(media(1), NOTE)
        container.put(media(2), NOTE)
        storage.message(chat, "HERE", sent=SENT, file=media(1))
        storage.message(chat, "GONE", sent=SENT - 10, file=media(3), ZFILESIZE=4321, ZMOVIEDURATION=12)
        storage.message(chat, "NEVER", sent=SENT - 20, file=None, ZFILESIZE=99)
        storage.message(chat, "NO-MEDIA-ROW", sent=SENT - 30, media=False)
        storage.message(chat, "REVOKED", sent=SENT, type_=14, file=media(4))
        storage.message(chat, "QUOTES", sent=SENT, type_=0, file=None)
        storage.message(chat, "PICTURE", sent=SENT, type_=1, mime="image/jpeg", file="Media/x@g.us/0/0/p.jpg")
        storage.message(chat, "PLACE", sent=SENT, type_=5, mime=None, file=None)
        storage.message(chat, "CALL", sent=SENT, type_=59, media=False)
        storage.close()
        summary = mac(container.folder).summary
        assert (summary.files, summary.orphans) == (2, 1)
        assert [(note.message_id, note.size, note.duration, note.original_path) for note in summary.missing] == [
            ("GONE", 4321, 12.0, f"Message/{media(3)}")
        ]
        assert [(note.message_id, note.size, note.original_path) for note in summary.not_downloaded] == [
            ("NO-MEDIA-ROW", None, None), ("NEVER", 99, None),
        ]  # fmt: skip
        assert {(note.sender, note.chat_id) for note in summary.missing + summary.not_downloaded} == {("Anna", ANNA)}
        assert (summary.problems, summary.warnings) == ([], [])

    def test_an_orphan_lies_in_the_folder_of_its_chat(self, container: Container) -> None:
        """A file without a message keeps the chat that its folder names, with the best name for it."""
        container.put(media(1, FAMILY), NOTE)
        container.put(media(2, BEN, "m4a"), NOTE)
        storage = container.storage()
        storage.chat(FAMILY, "Family", kind=1)
        storage.close()
        found = mac(container.folder)
        assert [(note.chat, note.chat_id, note.kind, note.sent_at_from, note.message_id) for note in found.notes] == [
            ("Family", FAMILY, "voice", "file", None), ("+491700000002", BEN, "audio", "file", None),
        ]  # fmt: skip
        assert found.summary.orphans == 2
        assert [chat.titles for chat in found.summary.chats] == [["Family"], ["+491700000002"]]

    def test_a_message_that_is_there_twice_is_one(self, container: Container) -> None:
        """A second row of the same message, as the desktop app's history leaves it, is neither a note nor missing."""
        container.put(media(1), NOTE)
        storage = container.storage()
        chat = storage.chat(ANNA, "Anna")
        storage.message(chat, "TWICE", sent=SENT, file=None, ZSORT=-5)
        storage.message(chat, "TWICE", sent=SENT, file=media(1))
        storage.message(chat, "TWICE", sent=SENT, file=media(1))
        storage.message(chat, "LOST", sent=SENT, file=None)
        storage.message(chat, "LOST", sent=SENT, file=media(2))
        storage.close()
        found = mac(container.folder)
        assert [note.message_id for note in found.notes] == ["TWICE"]
        assert ([note.message_id for note in found.summary.missing], found.summary.not_downloaded) == (["LOST"], [])

    def test_one_file_of_several_messages_gives_a_note_each(self, container: Container) -> None:
        """A note that was forwarded within the phone stands in both chats, its audio once."""
        container.put(media(1), NOTE)
        storage = container.storage()
        storage.message(storage.chat(ANNA, "Anna"), "A", sent=SENT, file=media(1))
        storage.message(storage.chat(BEN, "Ben"), "B", sent=SENT + 1, file=media(1), from_me=True)
        storage.close()
        found = mac(container.folder)
        assert len(found.files) == 1
        assert [(note.message_id, note.chat) for note in found.notes] == [("A", "Anna"), ("B", "Ben")]


class TestPeople:
    """Names and addresses."""

    def test_names_in_their_order(self, container: Container) -> None:
        """The chat's title, the address book, a group's list of members, what people call themselves, the number, the address."""
        storage = container.storage()
        family = storage.chat(FAMILY, "Family", kind=1)
        jids = [f"49170000001{number}@s.whatsapp.net" for number in range(5)] + ["11122233344455@lid"]
        storage.chat(jids[0], "\u200e\U0001f469\u200d\U0001f467 by chat\u202c")
        storage.chat(jids[1], "+49 170 0000011")
        storage.chat(jids[2], "")
        for number, jid in enumerate(jids):
            member = storage.member(family, jid, name="By member" if number < 3 else "")
            if number < 4:
                storage.push_name(jid, f"push {number}")
                storage.push_name(jid, "another")
            container.put(media(number, FAMILY), NOTE)
            storage.message(family, f"K{number}", sent=SENT + number, file=media(number, FAMILY), member=member)
        storage.close()
        contacts(
            container.folder / "ContactsV2.sqlite",
            {"ZWHATSAPPID": jids[0], "ZFULLNAME": "By contact"},
            {"ZWHATSAPPID": b"491700000011", "ZGIVENNAME": b"By", "ZLASTNAME": b"contact"},
        )
        found = mac(container.folder)
        names = ["\U0001f469\u200d\U0001f467 by chat", "By contact", "By member", "~push 3", "+491700000014", "11122233344455@lid"]
        assert [(note.sender, note.sender_id) for note in found.notes] == list(zip(names, jids, strict=True))

    @pytest.mark.parametrize("known_by", ["lid", "old lid", "storage", "contact", "session", "session other way"])
    def test_one_person_under_two_addresses_is_one_chat(self, container: Container, known_by: str) -> None:
        """A hidden identity is resolved to the number wherever the app keeps that: the chat is not split in two."""
        storage = container.storage()
        number, user = BEN.partition("@")[0], LID.partition("@")[0]
        first, second = {"session": (LID, BEN), "session other way": (BEN, LID)}.get(known_by, (LID, None))
        chats = [storage.chat(first, "Ben", identifier=second), storage.chat(BEN, "Ben")]
        for index, chat in enumerate(chats):
            container.put(media(index, LID), NOTE)
            storage.message(chat, f"K{index}", sent=SENT + index, file=media(index, LID))
        if known_by == "storage":
            storage.pair(user, number)
        storage.close()
        if "lid" in known_by:
            pair = (user, f"+{number}") if "old" in known_by else (LID, BEN)
            lids(container.folder / "LID.sqlite", pair, old="old" in known_by)
        if known_by == "contact":
            contacts(container.folder / "ContactsV2.sqlite", {"ZLID": LID, "ZWHATSAPPID": number, "ZFULLNAME": "Ben"})
        found = mac(container.folder)
        assert {(note.chat_id, note.sender_id, note.sender) for note in found.notes} == {(BEN, BEN, "Ben")}
        assert found.summary.chats == [Chat(chat_id=BEN, titles=["Ben"])]

    def test_an_unresolved_identity_is_never_shown_as_a_number(self, container: Container) -> None:
        """The digits of a hidden identity are no phone number."""
        container.put(media(1, LID), NOTE)
        storage = container.storage()
        storage.message(storage.chat(LID), "K", sent=SENT, file=media(1, LID))
        storage.close()
        assert [(note.chat, note.chat_id, note.sender) for note in mac(container.folder).notes] == [(LID, LID, LID)]


class TestRows:
    """Odd rows, as real stores have them."""

    @pytest.mark.parametrize(
        ("type_", "origin", "suffix", "title", "kind"),
        [
            (3, 1, "opus", None, "voice"),
            (3, 1, "m4a", None, "voice"),
            (3, 0, "m4a", None, "audio"),
            (3, None, "opus", None, "voice"),
            (3, 0, "opus", "Song.opus", "audio"),
            (8, 0, "mp3", "Talk.mp3", "audio"),
            (3, 0, "mp4", None, "audio"),
        ],
    )
    def test_kinds(self, container: Container, type_: int, origin: int | None, suffix: str, title: str | None, kind: str) -> None:
        """A recorded note is told from a file of audio by the origin the app wrote down, else by its looks; documents with audio count."""
        container.put(media(1, ANNA, suffix), NOTE)
        container.put(media(2, ANNA, "mp4"), b"somebody's video")
        storage = container.storage()
        storage.message(
            storage.chat(ANNA), "K", sent=SENT, type_=type_, origin=origin, file=media(1, ANNA, suffix), ZTITLE=title, mime=None
        )
        storage.close()
        assert [(note.kind, note.message_id) for note in mac(container.folder).notes] == [(kind, "K")]

    @pytest.mark.parametrize("back", [True, False])
    def test_messages_and_media_find_each_other_either_way(self, container: Container, back: bool) -> None:
        """Some rows are linked from the message, some only from its media."""
        container.put(media(1), NOTE)
        storage = container.storage()
        storage.message(storage.chat(ANNA), "K", sent=SENT, file=media(1), back=back)
        storage.close()
        found = mac(container.folder)
        assert [note.message_id for note in found.notes] == ["K"]
        assert found.summary.not_downloaded == []

    def test_the_media_that_the_message_names_is_its_own(self, container: Container) -> None:
        """Where further media name a message, the one that the message itself names holds its file."""
        storage = container.storage()
        storage.insert("ZWAMEDIAITEM", ZMESSAGE=1, ZMEDIALOCALPATH=media(2), ZVCARDSTRING="audio/ogg")
        assert storage.message(storage.chat(ANNA), "K", sent=SENT, file=media(1)) == 1
        storage.close()
        for index in (1, 2):
            container.put(media(index), NOTE)
        assert [note.message_id for note in mac(container.folder).notes] == ["K", None]

    @pytest.mark.parametrize("prefix", ["", "Message/", "/var/mobile/Containers/Shared/AppGroup/0A1B/Message/", "./"])
    def test_a_path_in_any_form(self, container: Container, prefix: str) -> None:
        """Paths are found whether they begin at `Media`, above it, or at the device's root."""
        container.put(media(1), NOTE)
        storage = container.storage()
        storage.message(storage.chat(ANNA), "K", sent=SENT, file=prefix + media(1))
        storage.close()
        assert [note.message_id for note in mac(container.folder).notes] == ["K"]

    @pytest.mark.parametrize(
        ("date", "sent_at"),
        [(SENT - EPOCH_2001, SENT_AT), (float(SENT - EPOCH_2001), SENT_AT), (None, None), (0, None), (-5.5, None), (9e9, None),
         (float("inf"), None), ("soon", None), (b"\x01", None)],
    )  # fmt: skip
    def test_times_that_cannot_be_are_not_known(self, container: Container, date: object, sent_at: str | None) -> None:
        """Whole or broken seconds are one moment; what cannot be a moment leaves the file's own time."""
        container.put(media(1), NOTE)
        storage = container.storage()
        storage.message(storage.chat(ANNA), "K", file=media(1), ZMESSAGEDATE=date)
        storage.close()
        note = mac(container.folder).notes[0]
        assert (note.sent_at, note.sent_at_from) == ((sent_at, "message") if sent_at else ("2026-03-03T14:06:00Z", "file"))

    def test_odd_values_never_stop_the_reading(self, container: Container) -> None:
        """Numbers where texts should be, bytes, rows that point nowhere: the note is there, what is odd is not known."""
        container.put(media(1), NOTE)
        storage = container.storage()
        storage.message(
            4711, 99, sent=SENT, file=media(1), member=815, origin="x", mime=b"\xff\xfe", ZISFROMME="maybe", ZSTARRED="*", ZTITLE=5,
            ZFILESIZE=-3, ZMOVIEDURATION="long", ZVCARDNAME="no hash", ZMETADATA="text", ZFROMJID=12,
        )  # fmt: skip
        storage.message(None, None, sent=SENT, file="../../../etc/passwd", ZFILESIZE=2**62)
        storage.close()
        found = mac(container.folder)
        note = found.notes[0]
        assert (note.chat, note.message_id, note.from_me, note.duration, note.starred, note.kind) == (
            None,
            "99",
            None,
            None,
            False,
            "audio",
        )
        assert [(one.message_id, one.original_path) for one in found.summary.not_downloaded] == [(None, None)]

    def test_a_recorded_hash_is_believed_only_where_it_proves_true(self, container: Container) -> None:
        """Where what looks like a hash fits none of the files, no note is called damaged for it; where it fits some, the others are."""
        storage = container.storage()
        chat = storage.chat(ANNA)
        for number in range(2):
            container.put(media(number), NOTE)
            storage.message(chat, f"K{number}", sent=SENT, file=media(number), ZVCARDNAME=recorded(b"something else"))
        storage.close()
        assert [file.recorded_id for file in mac(container.folder).files] == [None, None]
        with sqlite3.connect(storage.path) as connection:
            connection.execute("UPDATE ZWAMEDIAITEM SET ZVCARDNAME = ? WHERE Z_PK = 1", (recorded(NOTE),))
        connection.close()
        expected = [hashlib.sha256(NOTE).hexdigest(), hashlib.sha256(b"something else").hexdigest()]
        assert [file.recorded_id for file in mac(container.folder).files] == expected


_OPTIONAL = [
    "ZWAMESSAGE.ZSTARRED", "ZWAMESSAGE.ZSENTDATE", "ZWAMESSAGE.ZGROUPMEMBER", "ZWAMESSAGE.ZFROMJID", "ZWAMESSAGE.ZMEDIAITEM",
    "ZWAMEDIAITEM.ZMESSAGE", "ZWAMEDIAITEM.ZMEDIAORIGIN", "ZWAMEDIAITEM.ZVCARDNAME", "ZWAMEDIAITEM.ZVCARDSTRING", "ZWAMEDIAITEM.ZTITLE",
    "ZWAMEDIAITEM.ZMETADATA", "ZWAMEDIAITEM.ZMOVIEDURATION", "ZWACHATSESSION.ZPARTNERNAME", "ZWACHATSESSION.ZCONTACTIDENTIFIER",
    "ZWAPROFILEPUSHNAME", "ZWAGROUPMEMBER",
]  # fmt: skip


@pytest.mark.parametrize("without", _OPTIONAL)
def test_tables_and_columns_come_and_go(container: Container, without: str) -> None:
    """A store of another version, without this table or column, still gives its notes with chat and moment."""
    container.put(media(1), NOTE)
    storage = container.storage(without=frozenset([without]))
    storage.message(storage.chat(ANNA, "Anna"), "K", sent=SENT, file=media(1))
    storage.close()
    found = mac(container.folder)
    assert [(note.message_id, note.chat_id, note.sent_at) for note in found.notes] == [("K", ANNA, SENT_AT)]
    assert (found.summary.problems, found.summary.warnings) == ([], [])


@pytest.mark.parametrize("without", ["ZWAMEDIAITEM", "ZWACHATSESSION"])
def test_without_a_main_table_the_files_remain(container: Container, without: str) -> None:
    """Without media or chats the files are still saved, with what is left to know."""
    container.put(media(1), NOTE)
    storage = container.storage(without=frozenset([without]))
    storage.message(storage.chat(ANNA, "Anna"), "K", sent=SENT, file=media(1))
    storage.close()
    found = mac(container.folder)
    assert [(file.original_path, file.notes[0].message_id) for file in found.files] == [
        (f"Message/{media(1)}", None if without == "ZWAMEDIAITEM" else "K")
    ]


def test_a_database_of_something_else_is_said_to_be_so(container: Container) -> None:
    """A database under that name without messages is named, and the notes are saved without it."""
    container.put(media(1), NOTE)
    storage = container.storage(without=frozenset(["ZWAMESSAGE"]))
    storage.close()
    found = mac(container.folder)
    assert (len(found.files), found.summary.database) == (1, None)
    assert found.summary.warnings == ["ChatStorage.sqlite is not laid out as WhatsApp does: its names and times are not read"]


def test_damage_costs_only_what_is_damaged(container: Container) -> None:
    """Of a database that is cut off, what can be read is used, and the damage is named; an address book that is none costs only names."""
    storage = container.storage()
    chat = storage.chat(ANNA, "Anna")
    for number in range(300):
        storage.message(chat, f"K{number:03}", sent=SENT + number, file=media(number), ZTEXT="x" * 300)
    storage.close()
    container.put(media(0), NOTE)
    storage.path.write_bytes(storage.path.read_bytes()[:60_000])
    (container.folder / "ContactsV2.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    found = mac(container.folder)
    assert len(found.files) == 1
    assert [problem.path for problem in found.summary.problems] == ["ChatStorage.sqlite"]
    assert [warning.partition(",")[0] for warning in found.summary.warnings] == ["ContactsV2.sqlite cannot be read"]
    assert found.summary.problems[0].reason.startswith("cut short (it is smaller than it says itself)")


def test_a_view_in_place_of_a_table_is_not_touched(container: Container) -> None:
    """A database made so that reading a view of it never ends is read without it."""
    container.put(media(1), NOTE)
    storage = container.storage(without=frozenset(["ZWAPROFILEPUSHNAME"]))
    storage.connection.execute(
        "CREATE VIEW ZWAPROFILEPUSHNAME AS "
        "WITH RECURSIVE n(ZJID, ZPUSHNAME) AS (SELECT 1, 1 UNION ALL SELECT ZJID + 1, 1 FROM n) SELECT * FROM n"
    )
    storage.message(storage.chat(ANNA, "Anna"), "K", sent=SENT, file=media(1))
    storage.close()
    found = mac(container.folder)
    assert [note.message_id for note in found.notes] == ["K"]
    assert found.summary.problems == []
