"""Recordings from elsewhere join a chat and stay: files as they are, and what is heard in recordings of a screen."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.generators.android import ANNA, FAMILY, phone
from tests.generators.msgstore import Msgstore
from tests.generators.recordings import screen_recording
from tests.generators.sounds import encoded, video_note
from tests.parts import needs
from tests.scenarios.world import World

SENT = 1_700_000_000
SCREEN = "RPReplay_Final1709280000.MP4"


def put(world: World, name: str, data: bytes, mtime: int = SENT) -> Path:
    path = world.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))
    return path


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_voice_memo_joins_a_chat_and_stays(world: World) -> None:
    """Its bytes are kept as they are, with who spoke, when, and a title; no run ever calls it missing; twice is once."""
    needs("restic")
    phone(world.folder / "phone", notes=3)
    world.run("phone")
    memo = encoded("m4a", 1.0)
    put(world, "memo.m4a", memo)
    words = ("import", "memo.m4a", "--chat", "famil", "--sender", "Grandma", "--date", "2025-12-24T18:30", "--title", "Silent night")
    ended = world.backup(*words, "--json").json
    assert [ended[key] for key in ("chat", "chat_id", "new", "errors")] == ["Family", FAMILY, 1, []]
    [told] = ended["notes"]
    assert (told["id"], told["sent_at"], told["title"]) == (digest(memo), "2025-12-24T12:45:00Z", "Silent night")
    [record] = world.records("--source", "imported")
    expected = {
        "id": digest(memo), "kind": "voice", "chat": "Family", "chat_id": FAMILY, "sender": "Grandma", "from_me": False,
        "sent_at": "2025-12-24T12:45:00Z", "sent_at_from": "name", "zone": "NPT-5:45", "title": "Silent night", "missing_since": None,
        "original_path": "memo.m4a", "media_type": "audio/mp4", "damaged": None, "mtime_ns": SENT * 10**9,
    }  # fmt: skip
    assert {key: record[key] for key in expected} == expected
    (world.folder / "memo.m4a").unlink()
    for path in (world.folder / "phone").rglob("*.opus"):
        path.unlink()
    phone(world.folder / "phone2", notes=3)
    world.run("phone2")
    assert [note["missing_since"] for note in world.records()] == [None] * 4
    put(world, "again.m4a", memo, SENT + 5)
    assert world.backup("import", "again.m4a", "--chat", "Family").text.splitlines()[-1] == (
        "imported 0 notes into Family; 1 note was there already"
    )
    assert len(world.records()) == 4
    assert world.audio(digest(memo)) == memo
    world.backup("restore", "--chat", "Family", "--to", "out")
    assert (world.folder / "out/Family/2025-12-24 18-30-00 Grandma.m4a").read_bytes() == memo
    assert "no errors were found" in world.restic("check", "--read-data")


def test_what_is_known_of_a_note_after_importing_it_again_is_told(world: World) -> None:
    """Whoever corrects a date is told so; without one the note keeps what was said of it, and that is what the answer shows."""
    put(world, "memo.wav", encoded("wav", 0.5))
    words = ("import", "memo.wav", "--chat", "Anna")
    world.backup(*words, "--date", "2025-12-24", "--title", "Silent night")
    corrected = world.backup(*words, "--date", "2024-12-24")
    assert "  2024-12-24  " in corrected.text
    assert corrected.text.endswith("imported 0 notes into Anna; 1 note was there already; corrected: 1 note\n")
    again = world.backup(*words, "--json").json
    assert (again["new"], again["corrected"]) == (0, 0)
    [told], [record] = again["notes"], world.records()
    assert told["sent_at"] == record["sent_at"] == "2024-12-24T12:00:00Z"
    assert told["title"] == record["title"] == "Silent night"


def test_the_sound_of_a_screen_recording_is_a_note(world: World) -> None:
    """Of a video the sound is kept, copied, under a name that fits it; importing it again finds it there."""
    needs("restic")
    put(world, SCREEN, screen_recording("mp4", [0.6], pause=0.3))
    ended = world.backup("import", SCREEN, "--chat", "Grandpa", "--sender", "me")
    assert 'no chat is called "Grandpa": a new one is made' in ended.told
    assert ended.text.splitlines()[-1] == "imported 1 note into Grandpa"
    [record] = world.records()
    assert [record[key] for key in ("chat", "from_me", "sender", "original_path", "media_type", "sent_at", "zone")] == [
        "Grandpa", True, None, "RPReplay_Final1709280000.m4a", "audio/mp4", "2024-03-01T08:00:00Z", None,
    ]  # fmt: skip
    assert record["duration"] == pytest.approx(1.2, abs=0.05)
    again = world.backup("import", SCREEN, "--chat", "grandpa", "--json").json
    assert (again["new"], again["snapshot"]) == (0, None)
    assert len(world.backup("snapshots", "--json").json) == 1
    assert "no errors were found" in world.restic("check", "--read-data")


def test_one_recording_of_several_notes_is_cut_into_them(world: World) -> None:
    """--split-silence shows the cuts first; --dry-run stops there. Each note follows the one before in time."""
    needs("restic")
    put(world, SCREEN, screen_recording("mkv", [0.8, 1.2], pause=2.0))
    words = ("import", SCREEN, "--chat", "Anna", "--split-silence", "--title", "Fairy tale")
    shown = world.backup(*words, "--dry-run")
    cuts = [line.split("from ")[1] for line in shown.text.splitlines()[:-1]]
    assert len(cuts) == 2
    assert shown.text.splitlines()[-1] == "would import 2 notes into Anna"
    assert world.backup("snapshots", "--json").json == []
    ended = world.backup(*words)
    assert all(cut in ended.told for cut in cuts)
    assert ended.text.splitlines()[-1] == "imported 2 notes into Anna"
    told = [(note["title"], note["original_path"], note["sent_at"]) for note in world.records()]
    assert told == [
        ("Fairy tale 1", "RPReplay_Final1709280000 1.opus", "2024-03-01T08:00:02Z"),
        ("Fairy tale 2", "RPReplay_Final1709280000 2.opus", "2024-03-01T08:00:05Z"),
    ]
    assert [note["duration"] for note in world.records()] == pytest.approx([1.3, 1.7], abs=0.15)
    assert world.backup(*words, "--json").json["new"] == 0
    assert len(world.backup("import", SCREEN, "--chat", "Anna", "--split-silence", "--pause", "9", "-n", "--json").json["notes"]) == 1
    assert "no errors were found" in world.restic("check", "--read-data")


@pytest.mark.parametrize(
    ("name", "made", "words", "sent", "known_from"),
    [
        ("20240115_101112.m4a", "2024-02-02T02:02:02Z", ("--date", "2024-03-03"), "2024-03-03T12:00:00Z", "name"),
        ("20240115_101112.m4a", "2024-02-02T02:02:02Z", ("--date", "2024-03-03T10:00:00+00:00"), "2024-03-03T10:00:00Z", "name"),
        ("20240115_101112.m4a", "2024-02-02T02:02:02Z", (), "2024-01-15T04:26:12Z", "name"),
        ("ScreenRecording_01-15-2024 10-11-12_1.m4a", "2024-02-02T02:02:02Z", (), "2024-01-15T04:26:12Z", "name"),
        ("PTT-20240115-WA0001.m4a", "2024-02-02T02:02:02Z", (), "2024-01-15T12:00:00Z", "name"),
        ("memo.m4a", "2024-02-02T02:02:02Z", (), "2024-02-02T02:02:02Z", "file"),
        ("memo.m4a", None, (), "2023-11-14T22:13:20Z", "file"),
    ],
)
def test_the_moment_is_the_best_that_is_known(
    world: World, name: str, made: str | None, words: tuple[str, ...], sent: str, known_from: str
) -> None:
    """What a person says, else what the name tells in local time, else the container, else the file's own time."""
    put(world, name, screen_recording("m4a", [0.2], pause=0.1, made=made))
    ended = world.backup("import", name, "--chat", "Anna", *words, "--dry-run", "--json").json
    [note] = ended["notes"]
    assert (note["sent_at"], note["sent_at_from"]) == (sent, known_from)


def test_a_recording_may_belong_to_two_chats(world: World) -> None:
    """The same file imported into another chat is a note of its own there; other files of that name are other notes."""
    memo, other = encoded("wav", 1.0, 1), encoded("wav", 1.0, 2)
    assert len(memo) == len(other)
    put(world, "Memo.wav", memo)
    put(world, "card/Memo.wav", other)
    world.backup("import", "Memo.wav", "--chat", "Anna")
    world.backup("import", "Memo.wav", "card/Memo.wav", "--chat", "Ben")
    found = [(note["chat"], note["id"]) for note in world.records()]
    assert sorted(found) == sorted([("Anna", digest(memo)), ("Ben", digest(memo)), ("Ben", digest(other))])
    assert {world.audio(note_id) for _, note_id in found} == {memo, other}


def test_a_note_is_given_back_as_one_of_its_chat(world: World) -> None:
    """A recording that lies in some folder, too, where nobody knows whose it is, is mailed with the chat and the person known of it."""
    put(world, "card/0007.wav", encoded("wav", 1.0))
    put(world, "memo.wav", encoded("wav", 1.0), SENT + 5)
    world.run("card")
    world.backup("import", "memo.wav", "--chat", "Anna", "--sender", "Anna")
    assert sorted(note["chat"] or "" for note in world.records()) == ["", "Anna"]
    assert b"From: Anna" in world.backup("extract", digest(encoded("wav", 1.0)), "--eml", "-").out


def test_what_the_phone_has_of_a_chat_is_not_doubled(world: World) -> None:
    """A note that was imported into a chat, and comes from a phone before or after, is one note, with all that the phone knows."""
    store = phone(world.folder / "phone", notes=0, with_database=False)
    made = store.voice_notes(2)
    database = Msgstore(store.root / "Databases/msgstore.db")
    chat = database.chat(FAMILY, subject="Family")
    for number, note in enumerate(made):
        database.message(chat, f"3EB0{number}", sent=note.sent_ms, sender=ANNA, file=note.original_path, data=note.data)
    database.close()
    put(world, "from chat.opus", made[0].data)
    assert "a new one is made" in world.backup("import", "from chat.opus", "--chat", "Family", "--title", "First").told
    world.run("phone")
    put(world, "later.opus", made[1].data)
    assert world.backup("import", "later.opus", "--chat", "family", "--title", "Second", "--json").json["new"] == 0
    told = [(note["chat_id"], note["message_id"], note["sender_id"], note["sent_at"], note["title"]) for note in world.records()]
    assert told == [
        (FAMILY, f"3EB0{number}", ANNA, f"2026-03-01T0{8 + number}:00:00{'.001' * number}Z", title)
        for number, title in enumerate(("First", "Second"))
    ]
    for note in made:
        note.location.unlink()
    store.voice_notes(1, seed=50)
    world.run("phone")
    assert [note["missing_since"] for note in world.records("--source", "imported")] == [None, None]


def test_a_chat_that_was_begun_by_an_import_is_the_phones_chat_of_that_name(world: World) -> None:
    """Import first, archive the phone later: the chat is listed, restored and found as one."""
    memo = encoded("m4a", 0.5)
    put(world, "memo.m4a", memo)
    world.backup("import", "memo.m4a", "--chat", "Family")
    phone(world.folder / "phone", notes=2)
    world.run("phone")
    assert [note["chat_id"] for note in world.records("--chat", "Family")] == [FAMILY] * 3
    put(world, "more.m4a", encoded("m4a", 0.6, 1))
    assert world.backup("import", "more.m4a", "--chat", "Family", "--json").json["chat_id"] == FAMILY
    assert {row["chat_id"] for row in world.backup("chats", "--json").json} == {FAMILY}


def test_what_cannot_be_taken_is_named_and_keeps_nothing_else_out(world: World) -> None:
    """Texts, silent videos, unfinished recordings and tracks that are not there: exit code 3, and the others are archived."""
    put(world, "memo.m4a", encoded("m4a", 0.5))
    put(world, "letter.m4a", b"dear all")
    put(world, "empty.opus", b"")
    put(world, "cut.mp4", screen_recording("mp4", [0.3], pause=0.1)[:2000])
    ended = world.backup("import", "memo.m4a", "letter.m4a", "empty.opus", "cut.mp4", "--chat", "Anna", "--json", code=3).json
    assert ended["new"] == 1
    assert {error["path"]: error["reason"] for error in ended["errors"]} == {
        "letter.m4a": "no sound file or recording of a kind that is known here",
        "empty.opus": "an empty file",
        "cut.mp4": "it was not finished, or is damaged",
    }
    nothing = world.backup("import", "letter.m4a", "--chat", "Anna", "--json", code=3).json
    assert (nothing["snapshot"], nothing["new"]) == (None, 0)
    video = put(world, "two.mp4", screen_recording("mp4", [0.3], pause=0.1, tracks=2))
    assert "has 2 tracks of sound" in world.backup("import", video, "--chat", "Anna").told
    assert "no number 3" in world.backup("import", video, "--chat", "Anna", "--track", "3", code=3).told
    assert "all of it is silence" in world.backup("import", video, "--chat", "Anna", "--track", "2", "--split-silence", code=3).told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere.m4a", "--chat", "Anna"), "there is no file nowhere.m4a"),
        (("folder", "--chat", "Anna"), "is a folder"),
        (("memo.m4a",), "--chat"),
        (("memo.m4a", "--chat", " "), "the name of the chat is missing"),
        (("memo.m4a", "--chat", "unsorted"), "is where notes without a chat stand"),
        (("memo.m4a", "--chat", "Anna", "--date", "yesterday"), "is not a day or time"),
        (("memo.m4a", "--chat", "Anna", "--date", "1999-01-01"), "is too far off"),
        (("memo.m4a", "--chat", "Anna", "--track", "0"), "tracks are counted from 1"),
        (("memo.m4a", "--chat", "Anna", "--split-silence", "--pause", "0"), "cannot be meant"),
        (("memo.m4a", "--chat", "Anna", "--pause", "2"), "--pause goes with --split-silence"),
    ],
)
def test_what_cannot_be_meant_imports_nothing(world: World, words: tuple[str, ...], told: str) -> None:
    """Exit code 2, and no snapshot, also where other files are all right."""
    put(world, "memo.m4a", encoded("m4a", 0.2))
    (world.folder / "folder").mkdir()
    assert told in world.backup("import", "memo.m4a", *words, code=2).told
    assert not list((world.repo / "snapshots").iterdir())


def test_several_chats_of_that_name_are_named(world: World) -> None:
    """Where a name means two chats, neither gets the recording."""
    put(world, "memo.m4a", encoded("m4a", 0.2))
    world.backup("import", "memo.m4a", "--chat", "Anna at home")
    world.backup("import", "memo.m4a", "--chat", "Anna at work")
    assert '2 chats match "anna"' in world.backup("import", "memo.m4a", "--chat", "anna", code=2).told


def test_no_source_takes_the_place_of_imports(world: World) -> None:
    """A folder called "imported" is another source: its scan never misses what was imported by hand."""
    put(world, "memo.m4a", encoded("m4a", 0.2))
    world.backup("import", "memo.m4a", "--chat", "Anna")
    put(world, "imported/other.m4a", encoded("m4a", 0.3, 1))
    world.run("imported")
    assert [(note["source"], note["missing_since"]) for note in world.records()] == [("imported", None), ("imported 2", None)]
    world.configure(f'[sources.Imported]\npath = "{world.folder}/imported"\n')
    assert 'no source can be called "Imported"' in world.backup("run", code=2).told


def test_a_round_video_note_is_heard(world: World) -> None:
    """A video note that somebody sent as a file gives its sound."""
    put(world, "PTV-20240403-WA0001.mp4", video_note(0.5))
    world.backup("import", "PTV-20240403-WA0001.mp4", "--chat", "Anna")
    [record] = world.records()
    assert (record["kind"], record["original_path"], record["sent_at"]) == ("voice", "PTV-20240403-WA0001.m4a", "2024-04-03T12:00:00Z")


def test_machines_that_import_the_same_have_it_once(world: World, tmp_path: Path) -> None:
    """The same recording imported into one chat on two machines is one entry of the archive."""
    laptop = World(tmp_path / "laptop", repo=world.repo, host="laptop")
    memo = encoded("m4a", 0.5)
    for machine in (world, laptop):
        put(machine, "memo.m4a", memo)
        machine.backup("import", "memo.m4a", "--chat", "Anna")
    notes: list[dict[str, Any]] = world.records()
    assert [(note["id"], len(note["hosts"])) for note in notes] == [(digest(memo), 2)]
