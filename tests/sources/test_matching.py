"""Which file belongs to which message, when stores were moved, renamed, joined or damaged."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from backup_tool.sources.base import FileUnreadable
from tests.generators.android import ANNA, BEN, FAMILY, Store
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.sources.stores import Scanned, scan

SENT = 1772546700000
WEEK = "Media/WhatsApp Voice Notes/202610"
NAME = "PTT-20260303-WA0007.opus"
NOTE = opus_note(2, seed=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds no notes yet."""
    return Store(tmp_path / "WhatsApp")


def messages(store: Store, *rows: dict[str, object]) -> None:
    """A database with one message for each of these, keyed A, B, C …"""
    msgstore = Msgstore(store.root / "Databases/msgstore.db")
    chat = msgstore.chat(FAMILY, subject="Family")
    for number, row in enumerate(rows):
        msgstore.message(chat, "ABCDEFGH"[number], **({"sent": SENT + number} | row))  # type: ignore[arg-type]
    msgstore.close()


def matched(found: Scanned) -> dict[str, list[str | None]]:
    """The messages of each file."""
    return {file.original_path: [note.message_id for note in file.notes] for file in found.files}


@pytest.mark.parametrize(
    "written",
    [
        f"{WEEK}/{NAME}",
        f"/storage/emulated/0/WhatsApp/{WEEK}/{NAME}",
        f"/storage/emulated/0/Android/media/com.whatsapp/WhatsApp/{WEEK}/{NAME}",
        f"file:///sdcard/WhatsApp/{WEEK}/{NAME}",
        f"./{WEEK}//{NAME}",
        f"{WEEK}/{NAME}".upper(),
        f"WhatsApp Voice Notes/202610/{NAME}",
        f"202610/{NAME}",
    ],
)
def test_a_path_is_understood_however_it_is_written(store: Store, written: str) -> None:
    """Whole paths of the phone, other case, and paths that begin further in lead to the file."""
    store.put(f"{WEEK}/{NAME}", NOTE)
    messages(store, {"file": written, "data": NOTE})
    assert matched(scan(store.root)) == {f"{WEEK}/{NAME}": ["A"]}


def test_unicode_forms_are_one(store: Store) -> None:
    """A copy made by a system that decomposes letters is matched."""
    store.put("Media/WhatsApp Audio/Grüße.mp3", NOTE)
    messages(store, {"file": "Media/WhatsApp Audio/Gru\u0308ße.mp3", "data": NOTE, "origin": 0})
    assert matched(scan(store.root)) == {"Media/WhatsApp Audio/Grüße.mp3": ["A"]}


def test_twins_by_case_are_told_apart(store: Store) -> None:
    """Two files that differ only in case each keep their own message."""
    store.put("Media/WhatsApp Audio/A.mp3", NOTE)
    store.put("Media/WhatsApp Audio/a.mp3", NOTE)
    messages(store, {"file": "Media/WhatsApp Audio/a.mp3"}, {"file": "Media/WhatsApp Audio/A.mp3"})
    assert matched(scan(store.root)) == {"Media/WhatsApp Audio/A.mp3": ["B"], "Media/WhatsApp Audio/a.mp3": ["A"]}


def test_a_file_under_another_brand_is_matched_by_its_last_parts(store: Store) -> None:
    """A row of the old phone names another app folder; week and name still find the file, of the recorded size."""
    store.put(f"{WEEK}/{NAME}", NOTE)
    messages(store, {"file": f"Media/GBWhatsApp Voice Notes/202610/{NAME}", "data": NOTE})
    assert matched(scan(store.root)) == {f"{WEEK}/{NAME}": ["A"]}


def test_a_moved_and_renamed_file_is_matched_by_content(store: Store) -> None:
    """What was moved and renamed is recognised by its content; only files of a fitting size are read for that."""
    store.put("Media/WhatsApp Audio/mum sings.opus", NOTE)
    store.put("Media/WhatsApp Audio/unrelated.opus", opus_note(5))
    messages(store, {"file": f"{WEEK}/{NAME}", "data": NOTE})
    asked: list[str] = []
    found = scan(store.root, known=lambda file: asked.append(file.original_path))
    assert matched(found) == {"Media/WhatsApp Audio/mum sings.opus": ["A"], "Media/WhatsApp Audio/unrelated.opus": [None]}
    assert asked == ["Media/WhatsApp Audio/mum sings.opus"]
    assert found.files[0].id == found.files[0].recorded_id == hashlib.sha256(NOTE).hexdigest()
    assert (found.summary.missing, found.summary.orphans) == ([], 1)


def test_a_file_whose_content_is_on_record_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run read is taken from the record: the second night costs no reading."""
    store.put("Media/WhatsApp Audio/mum sings.opus", NOTE)
    messages(store, {"file": f"{WEEK}/{NAME}", "data": NOTE})

    def refuse(*_: object) -> None:
        raise FileUnreadable("read although it is known")

    monkeypatch.setattr("backup_tool.sources.tree.Tree.read", refuse)
    found = scan(store.root, known=lambda file: hashlib.sha256(NOTE).hexdigest())
    assert matched(found) == {"Media/WhatsApp Audio/mum sings.opus": ["A"]}


def test_one_file_of_several_messages_is_several_notes(store: Store) -> None:
    """A note forwarded within the phone is kept once by the app: each message lists it, oldest first."""
    store.put(f"{WEEK}/{NAME}", NOTE)
    messages(
        store,
        {"file": f"{WEEK}/{NAME}", "data": NOTE, "sent": SENT + 60_000},
        {"file": f"{WEEK}/{NAME}", "data": NOTE, "sent": SENT},
        {"file": f"{WEEK}/PTT-20260303-WA0099.opus", "data": NOTE, "sent": SENT + 90_000, "transferred": 0},
    )
    found = scan(store.root)
    assert matched(found) == {f"{WEEK}/{NAME}": ["B", "A", "C"]}
    assert found.summary.missing == []


def test_a_name_alone_is_enough_only_if_one_file_has_it_and_the_size_agrees(store: Store) -> None:
    """A changed copy under its own name elsewhere is matched when nothing else could be meant, and its content then differs."""
    changed = NOTE[:-1] + b"\0"
    store.put(f"Media/WhatsApp Audio/Sent/{NAME}", changed)
    messages(store, {"file": f"{WEEK}/{NAME}", "data": NOTE})
    found = scan(store.root)
    assert matched(found) == {f"Media/WhatsApp Audio/Sent/{NAME}": ["A"]}
    assert found.files[0].recorded_id == hashlib.sha256(NOTE).hexdigest() != found.files[0].id


@pytest.mark.parametrize("other", ["size", "twin"])
def test_a_name_that_could_mean_something_else_is_no_match(store: Store, other: str) -> None:
    """Another size, or two files of that name: then the message is missing and the files are orphans, rather than mistaken."""
    store.put(f"Media/WhatsApp Audio/Sent/{NAME}", opus_note(3) if other == "size" else NOTE[:-1] + b"\0")
    if other == "twin":
        store.put(f"Media/WhatsApp Audio/Private/{NAME}", NOTE[:-1] + b"\1")
    messages(store, {"file": f"{WEEK}/{NAME}", "data": NOTE})
    found = scan(store.root)
    assert {note.message_id for note in found.notes} == {None}
    assert ([note.message_id for note in found.summary.missing], found.summary.orphans) == (["A"], len(found.files))


def test_a_cut_copy_is_still_its_messages_file(store: Store) -> None:
    """A file at the right place but of another size than recorded belongs to its message; its content shows the damage."""
    store.put(f"{WEEK}/{NAME}", NOTE[:1000])
    store.put(f"{WEEK}/ptt-20260303-wa0008.opus", NOTE[:900])
    messages(store, {"file": f"{WEEK}/{NAME}", "data": NOTE}, {"file": f"{WEEK}/PTT-20260303-WA0008.opus", "data": NOTE + b"x"})
    found = scan(store.root)
    assert matched(found) == {f"{WEEK}/{NAME}": ["A"], f"{WEEK}/ptt-20260303-wa0008.opus": ["B"]}
    assert found.files[0].recorded_id == hashlib.sha256(NOTE).hexdigest()


def test_another_stores_file_needs_the_recorded_size(tmp_path: Path) -> None:
    """A note of the account whose media lie in the parent's folder is found there; a namesake of another account is not mistaken for it."""
    parent, account = Store(tmp_path / "WhatsApp"), Store(tmp_path / "WhatsApp/accounts/1002")
    parent.put(f"{WEEK}/PTT-20260303-WA0001.opus", NOTE)
    parent.put(f"{WEEK}/PTT-20260303-WA0002.opus", opus_note(4))
    messages(
        account,
        {"file": f"{WEEK}/PTT-20260303-WA0001.opus", "data": NOTE},
        {"file": f"{WEEK}/PTT-20260303-WA0002.opus", "data": opus_note(5)},
    )
    found = scan(tmp_path)
    assert matched(found) == {f"{WEEK}/PTT-20260303-WA0001.opus": ["A"], f"{WEEK}/PTT-20260303-WA0002.opus": [None]}
    assert [note.message_id for note in found.summary.missing] == ["B"]


def test_another_stores_file_without_a_recorded_size_needs_the_recorded_content(tmp_path: Path) -> None:
    """Another phone gives the same names to other notes: there the hash on record decides, and a note is never told as somebody else's."""
    ours, theirs = Store(tmp_path / "a/WhatsApp"), Store(tmp_path / "b/WhatsApp")
    ours.put(f"{WEEK}/PTT-20260303-WA0001.opus", opus_note(1, seed=5))
    theirs.put(f"{WEEK}/{NAME}", NOTE)
    theirs.put(f"{WEEK}/PTT-20260303-WA0008.opus", opus_note(4))
    messages(
        ours,
        {"file": f"{WEEK}/{NAME}", "data": NOTE, "file_length": None},
        {"file": f"{WEEK}/PTT-20260303-WA0008.opus", "data": opus_note(5), "file_length": None},
        {"file": f"{WEEK}/PTT-20260303-WA0001.opus", "data": opus_note(6), "file_length": None},
    )
    found = scan(tmp_path)
    assert matched(found) == {
        f"{WEEK}/PTT-20260303-WA0001.opus": ["C"], f"{WEEK}/{NAME}": ["A"], f"{WEEK}/PTT-20260303-WA0008.opus": [None],
    }  # fmt: skip
    assert [note.message_id for note in found.summary.missing] == ["B"]


def test_the_same_name_in_two_stores_goes_to_its_own(tmp_path: Path) -> None:
    """Old and new root hold different notes under one name: the message goes to its own store's, also when both have the size."""
    new, old = Store(tmp_path / "new/WhatsApp"), Store(tmp_path / "old/WhatsApp")
    twin = NOTE[:-1] + b"\0"
    new.put(f"{WEEK}/{NAME}", twin)
    old.put(f"{WEEK}/{NAME}", NOTE)
    messages(old, {"file": f"{WEEK}/{NAME}"})
    found = scan(tmp_path)
    assert {file.path.split("/")[0]: file.notes[0].message_id for file in found.files} == {"new": None, "old": "A"}


def two_phones(folder: Path, newer: dict[str, object]) -> Scanned:
    """Two phones side by side that are in one group: the first has a note; `newer` is what the second, used since, says of it."""
    one, other = Store(folder / "one/WhatsApp"), Store(folder / "other/WhatsApp")
    one.put(f"{WEEK}/{NAME}", NOTE)
    messages(one, {"file": f"{WEEK}/{NAME}", "data": NOTE, "sender": ANNA, "media_duration": 2})
    messages(other, {"sender": ANNA} | newer, {"sent": SENT + 10**9, "file": f"{WEEK}/PTT-20260315-WA0000.opus", "sender": ANNA})
    return scan(folder)


@pytest.mark.parametrize(
    "newer",
    [
        {"media": False},
        {"file": None, "transferred": 0},
        {"file": f"{WEEK}/PTT-20260303-WA0001.opus"},
        {"file": f"{WEEK}/PTT-20260303-WA0001.opus", "from_me": True, "sender": None},
    ],
)
def test_a_note_that_only_the_older_of_two_phones_has_keeps_its_message(tmp_path: Path, newer: dict[str, object]) -> None:
    """The newer database knows the message without the file: it is the note of the other phone's file, and nobody misses it."""
    found = two_phones(tmp_path, newer)
    (note,) = found.notes
    assert (note.chat, note.message_id, note.sender_id, note.duration) == ("Family", "A", ANNA, 2.0)
    assert (found.summary.orphans, [absent.message_id for absent in found.summary.missing + found.summary.not_downloaded]) == (0, ["B"])


def test_one_note_under_different_names_on_two_phones_is_one_message(tmp_path: Path) -> None:
    """Each phone numbers its files for itself: both copies are of the message."""
    (tmp_path / f"other/WhatsApp/{WEEK}").mkdir(parents=True)
    (tmp_path / f"other/WhatsApp/{WEEK}/PTT-20260303-WA0001.opus").write_bytes(NOTE)
    found = two_phones(tmp_path, {"file": f"{WEEK}/PTT-20260303-WA0001.opus", "data": NOTE})
    assert [note.message_id for note in found.notes] == ["A", "A"]
    assert found.summary.orphans == 0


def test_a_name_of_another_phone_alone_takes_nobodys_file(tmp_path: Path) -> None:
    """An older database names a file, and has nothing else on record of it: the newer one's file of that name is another note."""
    one, other = Store(tmp_path / "one/WhatsApp"), Store(tmp_path / "other/WhatsApp")
    other.put(f"{WEEK}/{NAME}", NOTE)
    messages(one, {"file": f"{WEEK}/{NAME}", "sender": ANNA})
    newest = {"sent": SENT + 10**9, "file": f"{WEEK}/{NAME}", "data": NOTE, "sender": BEN}
    messages(other, {"file": None, "transferred": 0, "sender": ANNA}, newest)
    assert matched(scan(tmp_path)) == {f"{WEEK}/{NAME}": ["B"]}


def test_a_message_told_twice_in_one_database_is_where_either_says(store: Store) -> None:
    """One person's chat stands under a number and a hidden identity, and a message in both: once without its file, once with it."""
    store.put(f"{WEEK}/{NAME}", NOTE)
    msgstore = Msgstore(store.root / "Databases/msgstore.db")
    msgstore.map_lid("77001100220033@lid", ANNA)
    msgstore.message(msgstore.chat("77001100220033@lid"), "A", sent=SENT, file=None, transferred=0)
    msgstore.message(msgstore.chat(ANNA), "A", sent=SENT, file=f"{WEEK}/{NAME}", data=NOTE)
    msgstore.close()
    found = scan(store.root)
    assert [(note.chat_id, note.message_id) for note in found.notes] == [(ANNA, "A")]
    assert (found.summary.orphans, found.summary.missing, found.summary.not_downloaded) == (0, [], [])


@pytest.mark.parametrize(
    "path", ["../../../etc/passwd", "Media/../../secret.opus", "/etc/passwd", "content://media/1", "", "\0", "x" * 20_000]
)
def test_a_path_that_leads_outside_finds_nothing(store: Store, tmp_path: Path, path: str) -> None:
    """Whatever a path in a database says, nothing outside the store is touched: the message is missing."""
    (tmp_path / "secret.opus").write_bytes(NOTE)
    store.put(f"{WEEK}/PTT-20260301-WA0001.opus", opus_note(1))
    messages(store, {"file": path, "data": NOTE})
    found = scan(store.root)
    assert [note.message_id for note in found.summary.missing] == ["A"]
    assert ".." not in (found.summary.missing[0].original_path or "")
    assert len(found.files) == 1


@pytest.mark.parametrize("recorded", [None, "", "not base64 at all", base64.b64encode(b"short").decode(), b"\xff\xfe", 12])
def test_a_hash_that_is_none_says_nothing(store: Store, recorded: object) -> None:
    """Without a whole SHA-256 on record no file is called different."""
    store.put(f"{WEEK}/{NAME}", NOTE)
    messages(store, {"file": f"{WEEK}/{NAME}", "file_hash": recorded})
    assert scan(store.root).files[0].recorded_id is None


def test_a_file_that_two_messages_dispute_in_vain_goes_to_the_newer(store: Store) -> None:
    """A file that is what neither of its two messages recorded stays with the newer one, and is told to differ."""
    store.put(f"{WEEK}/{NAME}", NOTE)
    messages(store, {"file": f"{WEEK}/{NAME}", "data": b"one"}, {"file": f"{WEEK}/{NAME}", "data": b"another"})
    found = scan(store.root)
    assert matched(found) == {f"{WEEK}/{NAME}": ["B"]}
    assert found.files[0].recorded_id == hashlib.sha256(b"another").hexdigest()


def test_a_name_given_again_never_gives_a_note_to_another_chat(store: Store) -> None:
    """Where the app used a file's name twice, the file is of the message whose content it is; the other message is missing its file."""
    store.put(f"{WEEK}/{NAME}", NOTE)
    messages(store, {"file": f"{WEEK}/{NAME}", "data": b"heard and deleted long ago"}, {"file": f"{WEEK}/{NAME}", "data": NOTE})
    found = scan(store.root)
    assert matched(found) == {f"{WEEK}/{NAME}": ["B"]}
    assert [note.message_id for note in found.summary.missing] == ["A"]


def test_an_unreadable_candidate_is_left_for_the_reader_to_name(store: Store) -> None:
    """A file that cannot be read for its content stays a file without a message, and the scan goes on."""
    made = store.put("Media/WhatsApp Audio/mum sings.opus", NOTE)
    messages(store, {"file": f"{WEEK}/{NAME}", "data": NOTE})

    def remove(*_: object) -> None:
        made.location.unlink()

    found = scan(store.root, known=remove)
    assert matched(found) == {"Media/WhatsApp Audio/mum sings.opus": [None]}
    assert [note.message_id for note in found.summary.missing] == ["A"]


def test_a_large_account_adds_up(tmp_path: Path) -> None:
    """Hundreds of notes by two people in two chats: each is found once, in the right chat, with its own bytes' hash."""
    store = Store(tmp_path)
    made = store.voice_notes(300, seconds=0.2)
    msgstore = Msgstore(tmp_path / "Databases/msgstore.db")
    chats = {ANNA: msgstore.chat(ANNA), BEN: msgstore.chat(BEN)}
    for number, note in enumerate(made):
        chat = (ANNA, BEN)[number % 3 == 0]
        msgstore.message(chats[chat], f"K{number}", sent=note.sent_ms, file=note.original_path, data=note.data)
    msgstore.close()
    found = scan(tmp_path)
    by_path = {file.original_path: file for file in found.files}
    for number, note in enumerate(made):
        file = by_path[note.original_path]
        assert [n.message_id for n in file.notes] == [f"K{number}"]
        assert file.notes[0].chat_id == (ANNA, BEN)[number % 3 == 0]
        assert file.recorded_id == hashlib.sha256(note.data).hexdigest()
    assert (found.summary.orphans, found.summary.missing, len(by_path)) == (0, [], 300)
