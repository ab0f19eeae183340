"""Exports of Telegram Desktop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_tool.models import Note
from backup_tool.sources import detect
from backup_tool.sources.places import cure
from backup_tool.sources.telegram.stream import Broken, Export
from tests.generators.ogg import opus_note
from tests.generators.sounds import encoded, video_note
from tests.generators.telegram import FIRST, NOT_INCLUDED, TOO_LARGE, UNAVAILABLE, Chat, export_all, export_chat
from tests.sources.stores import as_ordinary_user, everything, scan


def moment(number: int) -> str:
    return f"{FIRST + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}"


def annas() -> Chat:
    """A chat between two: voice messages of both, music, a round video, a sound sent as a document, and things that are no recordings."""
    chat = Chat("Anna 🌻", 4711, "personal_chat")
    chat.text(1, ["see ", {"type": "link", "text": "https://example.org"}, " }]"])
    chat.voice(2, opus_note(2, 2), sender=("Anna", "user4711"))
    chat.voice(3, opus_note(2, 3), sender=("Zoë", "user99"), forwarded_from="Ben")
    chat.attach(4, "files/song.mp3", encoded("mp3", 1), media_type="audio_file", mime_type="audio/mpeg", performer="X", title="Y")
    chat.attach(5, "round_video_messages/file_5@01-03-2026.mp4", video_note(1), media_type="video_message", mime_type="video/mp4")
    chat.attach(6, "files/memo.m4a", encoded("m4a", 1), mime_type="audio/mp4")
    chat.attach(7, "video_files/film.mp4", video_note(1, 7), media_type="video_file", mime_type="video/mp4")
    chat.attach(8, "files/letter.pdf", b"%PDF", mime_type="application/pdf")
    chat.attach(9, "stickers/x.webp", b"RIFF", media_type="sticker")
    chat.message(10, type="service", action="phone_call", media_type="voice_message")
    return chat


def number(note: Note) -> str | None:
    """The number of a note's message, without what tells it from those of other accounts."""
    return note.message_id and note.message_id.split()[0]


def told(note: Note) -> tuple[object, ...]:
    return (note.kind, note.chat, note.chat_id, number(note), note.sender, note.sender_id, note.from_me, note.sent_at, note.forwarded)


def test_one_chat(tmp_path: Path) -> None:
    """Of an exported chat every recording is found, with who sent it to whom and when; nothing is written beside it."""
    export_chat(tmp_path / "ChatExport_2026-03-04", annas())
    before = everything(tmp_path)
    found = scan(tmp_path)
    assert (found.source.type, found.source.plain) == ("telegram", True)
    assert {number(note): note.title for note in found.notes if note.title} == {"4": "Y"}
    chat = ("Anna 🌻", "telegram:user4711")
    assert sorted(map(told, found.notes), key=lambda row: int(str(row[3]))) == [
        ("voice", *chat, "2", "Anna", "user4711", False, moment(2), False),
        ("voice", *chat, "3", "Zoë", "user99", True, moment(3), True),
        ("audio", *chat, "4", "Ben", "user12", True, moment(4), False),
        ("video", *chat, "5", "Ben", "user12", True, moment(5), False),
        ("audio", *chat, "6", "Ben", "user12", True, moment(6), False),
    ]
    assert {note.sent_at_from for note in found.notes} == {"message"}
    assert {file.original_path: found.read(file) for file in found.files} == {
        path: data for path, data in annas().files.items() if path.endswith((".ogg", ".mp3", "5@01-03-2026.mp4", ".m4a"))
    }
    assert found.files[0].path.startswith("ChatExport_2026-03-04/")
    summary = found.summary
    assert (summary.complete, summary.problems, summary.warnings, summary.orphans, summary.missing) == (True, [], [], 0, [])
    assert summary.database == "ChatExport_2026-03-04/result.json"
    assert [(one.chat_id, one.titles) for one in summary.chats] == [("telegram:user4711", ["Anna 🌻"])]
    assert everything(tmp_path) == before


@pytest.mark.parametrize("level", ["", "DataExport_2026-03-04", "DataExport_2026-03-04/result.json"])
def test_all_chats_at_any_level(tmp_path: Path, level: str) -> None:
    """An export of all chats is known from above, by its folder, or by its file, and says of each message whether the owner sent it."""
    group = Chat("Family", 88, "private_supergroup")
    group.voice(1, opus_note(2, 21), sender=("Zoë", "user99"))
    group.voice(2, opus_note(2, 22), sender=("Ben", "user12"))
    gone = Chat(None, 5, "personal_chat")
    gone.voice(3, opus_note(2, 23), sender=(None, "user5"))
    own = Chat(None, 99, "saved_messages")
    own.voice(4, opus_note(2, 24), sender=("Zoë", "user99"))
    left = Chat("Choir", 7, "public_supergroup")
    left.voice(5, opus_note(2, 25), sender=("Choir", "channel7"))
    export_all(tmp_path / "DataExport_2026-03-04", [group, gone, own], left=[left])
    found = scan(tmp_path / level)
    assert [(number(note), note.chat, note.chat_id, note.sender, note.from_me) for note in found.notes] == [
        ("1", "Family", "telegram:channel88", "Zoë", True),
        ("2", "Family", "telegram:channel88", "Ben", False),
        ("3", None, "telegram:user5", None, False),
        ("4", "Saved Messages", "telegram:user99", "Zoë", True),
        ("5", "Choir", "telegram:channel7", "Choir", False),
    ]
    assert found.files[0].original_path == "chats/chat_001/voice_messages/audio_1@01-03-2026_10-00-00.ogg"


def test_recordings_that_the_export_left_out(tmp_path: Path) -> None:
    """What export settings left out is counted with who, when and how long, and one word says how to get it."""
    chat = Chat("Anna", 4711, "personal_chat")
    chat.voice(1, opus_note(2, 1))
    for at, words in enumerate((NOT_INCLUDED, TOO_LARGE, UNAVAILABLE), 2):
        chat.voice(at, None, file=words, duration_seconds=60 + at, sender=("Anna", "user4711"))
    chat.voice(5, None)
    export_chat(tmp_path, chat)
    summary = scan(tmp_path).summary
    assert [(number(note), note.sender, note.sent_at, note.duration, note.chat) for note in summary.not_downloaded] == [
        (str(at), "Anna", moment(at), 60.0 + at, "Anna") for at in (2, 3, 4)
    ]
    assert [(number(note), note.original_path) for note in summary.missing] == [("5", "voice_messages/audio_5@01-03-2026_14-00-00.ogg")]
    (warning,) = summary.warnings
    assert warning.startswith("3 messages came without the recording")
    assert "voice messages" in warning


def test_what_one_export_lacks_another_has(tmp_path: Path) -> None:
    """Two exports of a chat are one chat: a recording that either has is not counted as lacking, nor one that both lack twice."""
    early, late = Chat("Anna", 4711), Chat("Anna", 4711)
    early.voice(1, None, file=NOT_INCLUDED)
    early.voice(2, None, file=NOT_INCLUDED)
    late.voice(1, opus_note(2, 1))
    late.voice(2, None, file=NOT_INCLUDED)
    export_chat(tmp_path / "ChatExport_2026-03-02", early)
    export_chat(tmp_path / "ChatExport_2026-03-03", late)
    found = scan(tmp_path)
    assert [number(note) for note in found.notes] == ["1"]
    assert [number(note) for note in found.summary.not_downloaded] == ["2"]


def test_two_accounts_in_one_archive(tmp_path: Path) -> None:
    """Two accounts that each have a message of one number with the same person keep both; no note, and no loss, hides another."""
    annas, carls = Chat("Ben", 12, "personal_chat"), Chat("Ben", 12, "personal_chat", first=FIRST + timedelta(days=3))
    for chat, seed in ((annas, 1), (carls, 2)):
        chat.voice(7, opus_note(2, seed))
    annas.voice(8, opus_note(2, 3))
    carls.voice(8, None)
    carls.voice(9, None, file=NOT_INCLUDED)
    annas.voice(9, opus_note(2, 4))
    export_all(tmp_path / "anna/DataExport_1", [annas], owner=1)
    export_all(tmp_path / "carl/DataExport_1", [carls], owner=2)
    found = scan(tmp_path)
    assert len({(note.chat_id, note.message_id) for note in found.notes}) == len(found.notes) == 4
    assert [(number(note), note.sent_at) for note in found.summary.missing] == [("8", f"{carls.sent(8):%Y-%m-%dT%H:%M:%SZ}")]
    assert [(number(note), note.sent_at) for note in found.summary.not_downloaded] == [("9", f"{carls.sent(9):%Y-%m-%dT%H:%M:%SZ}")]


def test_chats_of_one_number(tmp_path: Path) -> None:
    """A person, a group and a channel may bear the same number: they are three chats, each with its own notes."""
    chats = [Chat("Dora", 500, "personal_chat"), Chat("Choir", 500, "private_group"), Chat("Club", 500, "public_supergroup")]
    for seed, chat in enumerate(chats):
        chat.voice(8, opus_note(2, seed))
    export_all(tmp_path, chats)
    notes = scan(tmp_path).notes
    assert [(note.chat, note.chat_id) for note in notes] == [
        ("Dora", "telegram:user500"), ("Choir", "telegram:chat500"), ("Club", "telegram:channel500"),
    ]  # fmt: skip


@pytest.mark.parametrize("type_", ["personal_chat", "private_group", "private_supergroup"])
def test_a_message_is_known_again_in_a_later_export(tmp_path: Path, type_: str) -> None:
    """A message has one identity in every export of an account: of one chat, of all chats, and made again later."""
    chat = Chat("Ben", 12, type_)
    chat.voice(1, opus_note(2, 1), sender=("Ben", "user12"))
    chat.voice(-999_999_998, opus_note(2, 2), sender=("Zoë", "user99"))
    export_chat(tmp_path / "a", chat)
    export_chat(tmp_path / "b", chat)
    export_all(tmp_path / "c", [chat])
    assert len({(note.chat_id, note.message_id) for note in scan(tmp_path).notes}) == 2


def test_what_a_supergroup_was_before(tmp_path: Path) -> None:
    """A supergroup numbers its messages for all who export it; those of the group that it once was are told apart by account."""
    annas, carls = Chat("Club", 5, "private_supergroup"), Chat("Club", 5, "private_supergroup")
    for chat in (annas, carls):
        chat.voice(1, opus_note(2, 1))
    annas.voice(-999_999_990, opus_note(2, 2))
    carls.first += timedelta(days=3)
    carls.voice(-999_999_990, opus_note(2, 3))
    export_all(tmp_path / "anna", [annas], owner=1)
    export_all(tmp_path / "carl", [carls], owner=2)
    notes = scan(tmp_path).notes
    assert sorted(str(number(note)) for note in notes) == ["-999999990", "-999999990", "1", "1"]
    assert len({note.message_id for note in notes}) == 3


def test_times_of_old_exports_are_read_in_this_machines_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of before 2021 have local times only: they are read in this machine's zone, and the record says in which."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    chat = Chat("Anna", 4711, dated="local")
    chat.voice(1, opus_note(2), sender=("Ben", 12))
    export_chat(tmp_path, chat)
    (note,) = scan(tmp_path).notes
    assert (note.sent_at, note.sent_at_from, note.zone, note.sender_id) == (moment(1), "message", "Europe/Berlin", "user12")


def test_a_moment_as_a_number_and_none_at_all(tmp_path: Path) -> None:
    """Programs that rewrite an export may leave the moment as a number; of a message without one, the file's name and time tell."""
    chat = Chat("Anna", 4711, "personal_chat")
    chat.voice(1, opus_note(1, 1), date=None, date_unixtime=int(FIRST.timestamp()))
    chat.voice(2, opus_note(1, 2), date="", date_unixtime="")
    export_chat(tmp_path / "ChatExport_2026-03-04", chat)
    first, second = scan(tmp_path).notes
    assert (first.sent_at, first.sent_at_from) == (f"{FIRST:%Y-%m-%dT%H:%M:%SZ}", "message")
    assert (second.chat_id, second.sent_at_from) == ("telegram:user4711", "name")


def test_files_that_no_message_names(tmp_path: Path) -> None:
    """A recording in the export's folders that no message names is archived too, and counted as an orphan; pictures are not."""
    chat = Chat("Anna", 4711)
    chat.voice(1, opus_note(2, 1))
    export_chat(tmp_path / "ChatExport_1", chat)
    (tmp_path / "ChatExport_1/voice_messages/audio_9@03-03-2026_14-05-00.ogg").write_bytes(opus_note(2, 9))
    (tmp_path / "ChatExport_1/put here by somebody.m4a").write_bytes(encoded("m4a", 1))
    (tmp_path / "ChatExport_1/photos").mkdir()
    (tmp_path / "ChatExport_1/photos/a.jpg").write_bytes(b"\xff\xd8\xff")
    found = scan(tmp_path)
    assert [(note.kind, note.chat, number(note)) for note in found.notes] == [
        ("audio", None, None), ("voice", "Anna", "1"), ("voice", None, None),
    ]  # fmt: skip
    assert found.notes[2].sent_at_from == "name"
    assert found.paths[0] == "put here by somebody.m4a"
    assert found.summary.orphans == 2


def test_an_export_among_other_things(tmp_path: Path) -> None:
    """A `result.json` that was moved into a folder with other recordings takes only what is its own; the rest is left out, and said."""
    chat = Chat("Anna", 4711)
    chat.voice(1, opus_note(2, 1))
    export_chat(tmp_path, chat)
    (tmp_path / "grandma.m4a").write_bytes(encoded("m4a", 1))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/b.opus").write_bytes(opus_note(1))
    found = scan(tmp_path)
    assert found.source.type == "telegram"
    assert [(file.path, file.notes[0].chat) for file in found.files] == [("voice_messages/audio_1@01-03-2026_10-00-00.ogg", "Anna")]
    assert found.summary.warnings[0].startswith("2 audio files lie outside these stores")
    assert {"grandma.m4a", "letters"} <= set(found.summary.unreadable_folders)
    assert [(one.type, one.notes) for one in detect(tmp_path)] == [("telegram", 1)]


def test_an_export_says_what_it_is(tmp_path: Path) -> None:
    """Listings tell an export of one chat, by its name, from one of all."""
    export_chat(tmp_path / "one", annas())
    export_all(tmp_path / "two", [annas()])
    assert [store.description for store in detect(tmp_path)] == ["a Telegram export of Anna 🌻", "a Telegram export of all chats"]


def test_a_stopped_export_gives_what_it_has(tmp_path: Path) -> None:
    """Cut at any byte, the file gives the messages before the cut; recordings after it are orphans; and it is said."""
    path = export_chat(tmp_path / "ChatExport_1", annas())
    whole = path.read_bytes()
    for cut in range(len(whole) // 2, len(whole) - 1, 487):
        path.write_bytes(whole[:cut])
        found = scan(tmp_path)
        assert len(found.files) == 5
        (problem,) = found.summary.problems
        assert problem.path == "ChatExport_1/result.json"
        assert "in the middle" in problem.reason
        assert found.summary.orphans == sum(note.message_id is None for note in found.notes)
        assert {number(note) for note in found.notes} - {None} == {str(n) for n in (2, 3, 4, 5, 6) if n <= whole[:cut].count(b'"id":') - 2}


@pytest.mark.parametrize(
    "file",
    ["../../outside.ogg", "/etc/outside.ogg", "voice_messages/../../x.ogg", "C:\\x.ogg", "..\\x.ogg", "a//b.ogg", "./a.ogg"],
)
def test_a_message_cannot_reach_outside_its_export(tmp_path: Path, file: str) -> None:
    """A path that leads out of the export is never followed, and is a problem."""
    (tmp_path / "outside.ogg").write_bytes(opus_note(1))
    chat = Chat("Anna", 4711)
    chat.voice(1, None, file=file)
    export_chat(tmp_path / "a/ChatExport_1", chat)
    found = scan(tmp_path / "a/ChatExport_1")
    assert found.files == []
    assert "outside the export" in found.summary.problems[0].reason


ODD = [
    {"id": True}, {"id": 10**400}, {"id": "x"}, {"date_unixtime": "-5"}, {"date_unixtime": "99999999999"}, {"date_unixtime": 5},
    {"date_unixtime": None, "date": "yesterday"}, {"date_unixtime": None, "date": 7}, {"duration_seconds": "long"}, {"file": 7},
    {"duration_seconds": -1}, {"file_size": 1e300}, {"from_id": ["a"]}, {"from": {"a": 1}}, {"media_type": []}, {"type": None},
    {"media_type": "hologram"}, {"mime_type": 5, "media_type": None},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=map(str, range(len(ODD))))
def test_odd_values_are_unknown_and_stop_nothing(tmp_path: Path, odd: dict[str, object]) -> None:
    """A value of a kind that no version writes is taken as unknown; the messages around it are read."""
    chat = Chat("Anna", 4711)
    chat.voice(1, opus_note(2, 1))
    chat.voice(2, opus_note(2, 2), **odd)
    chat.voice(3, opus_note(2, 3))
    export_chat(tmp_path / "ChatExport_1", chat)
    found = scan(tmp_path)
    assert len(found.files) == 3
    assert {"1", "3"} <= {number(note) for note in found.notes}
    assert found.summary.problems == []


def test_other_json_is_no_export(tmp_path: Path) -> None:
    """A `result.json` of some other program makes no store; nor does one that is empty, or a link."""
    (tmp_path / "a.opus").write_bytes(opus_note(1))
    for text in ("", "{}", '{"result": [1, 2]}', "[]", "\0" * 100, '{"type": "module"}'):
        (tmp_path / "result.json").write_text(text)
        assert scan(tmp_path).source.type == "folder"
    (tmp_path / "result.json").unlink()
    export_chat(tmp_path / "away", annas())
    os.rename(tmp_path / "away/result.json", tmp_path.parent / "real.json")
    (tmp_path / "result.json").symlink_to(tmp_path.parent / "real.json")
    assert scan(tmp_path).source.type == "folder"


def test_an_export_for_a_browser(tmp_path: Path) -> None:
    """Of an export as HTML the recordings are archived with the moment of their names, and the person learns what to export instead."""
    (tmp_path / "ChatExport_1/voice_messages").mkdir(parents=True)
    (tmp_path / "ChatExport_1/voice_messages/audio_9@03-03-2026_14-05-00.ogg").write_bytes(opus_note(2, 9))
    (tmp_path / "ChatExport_1/messages.html").write_text("<!DOCTYPE html>")
    found = scan(tmp_path)
    assert [note.sent_at_from for note in found.notes] == ["name"]
    (warning,) = found.summary.warnings
    assert warning.startswith("ChatExport_1 is a Telegram export as HTML")
    assert "JSON" in warning


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    messages=st.lists(st.dictionaries(st.text(max_size=8), JSON, max_size=6), max_size=8),
    piece=st.integers(1, 50),
    indent=st.none() | st.integers(0, 2),
)
@settings(max_examples=150, deadline=None)
def test_messages_come_out_as_they_went_in(messages: list[dict[str, object]], piece: int, indent: int | None) -> None:
    """Whatever messages hold, and however the file is cut into pieces while it is read, each comes out whole and in order."""
    told = {"name": "A", "extra": messages[:2], "type": "personal_chat", "id": 1, "messages": messages, "after": {"messages": [1]}}
    text = json.dumps(told, ensure_ascii=piece % 2 == 0, indent=indent).encode("utf-8", "surrogatepass")
    at = 0

    def read(count: int) -> bytes:
        nonlocal at
        at += min(count, piece)
        return text[at - min(count, piece) : at]

    export = Export(read)
    assert [message.body for message in export.messages()] == json.loads(text.decode("utf-8", "replace"))["messages"]
    assert export.read_messages == len(messages)


def test_what_would_need_any_amount_of_memory_is_refused(tmp_path: Path) -> None:
    """A string without end, or nesting without end, is told as damage before it has filled the memory."""
    for text in (b'{"type": "personal_chat", "id": 1, "messages": [{"text": "' + b"x" * 2**20, b'{"a": ' + b"[" * 10**6):
        pieces = iter([text, *[b"x" * 2**20] * 100])
        with pytest.raises(Broken):
            list(Export(lambda count, pieces=pieces: next(pieces, b"")).messages())  # type: ignore[misc]


_MEASURE = """
import os, resource, sys
from functools import partial
from backup_tool.sources.telegram.stream import Export
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export = Export(partial(os.read, os.open(sys.argv[1], os.O_RDONLY)))
print(sum(1 for _ in export.messages()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_export(tmp_path: Path) -> None:
    """An export of 40 MB is read in a small fraction of its size."""
    line = json.dumps({"id": 1, "type": "message", "date": f"{FIRST:%Y-%m-%dT%H:%M:%S}", "text": "words " * 60})
    count = 40 * 2**20 // len(line)
    path = tmp_path / "result.json"
    path.write_text('{"name": "A", "type": "personal_chat", "id": 1, "messages": [' + ", ".join([line] * count) + "]}")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    messages, kilobytes = map(int, done.stdout.split())
    assert messages == count
    assert kilobytes < 16 * 1024


def test_half_a_character_stops_nothing(tmp_path: Path) -> None:
    """Names, titles and paths with half of a character in them, as JSON can have them, become records all the same."""
    chat = Chat("Anna HALF", 4711, "personal_chat")
    chat.attach(4, "files/song.mp3", encoded("mp3", 1), media_type="audio_file", title="Song HALF", sender=("Ben HALF", "user12"))
    chat.voice(5, None, file="voice_messages/HALF.ogg")
    export = export_chat(tmp_path / "ChatExport_1", chat)
    export.write_text(export.read_text().replace("HALF", "\\ud800"))
    found = scan(tmp_path)
    (note,) = found.notes
    assert (note.chat, note.title, note.sender) == ("Anna ?", "Song ?", "Ben ?")
    (lost,) = found.summary.missing
    assert lost.original_path == "voice_messages/?.ogg"


@pytest.mark.parametrize("level", ["", "ChatExport_1"])
def test_an_export_whose_messages_may_not_be_read(level: str) -> None:
    """An export whose `result.json` is closed is no folder of just any recordings: they are archived, and what to do is said."""
    with as_ordinary_user() as folder:
        chat = Chat("Anna", 4711)
        chat.voice(1, opus_note(2, 1))
        export_chat(folder / "ChatExport_1", chat).chmod(0)
        found = scan(folder / level)
        (store,) = detect(folder / level)
    assert found.source.type == store.type == "telegram"
    assert store.description == "a Telegram export whose list of messages cannot be read"
    assert [note.kind for note in found.notes] == ["voice"]
    (problem,) = found.summary.problems
    assert problem.path.endswith("result.json")
    assert problem.reason.startswith("not readable: ")
    assert problem.reason.endswith(cure())
    assert (found.summary.database, found.summary.orphans) == (None, 0)
    assert found.summary.unreadable_folders == [problem.path.removesuffix("result.json").rstrip("/")]
