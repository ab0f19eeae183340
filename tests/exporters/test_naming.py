"""Names of restored notes: readable, safe, and the same whatever else is restored with them."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.exporters.naming import RestoredNames, file_suffix, local_time, restored_name
from backup_tool.models import Note
from backup_tool.names import folded

EAST = timezone(timedelta(hours=13))
WEST = timezone(timedelta(hours=-8))
HOSTILE = [
    "../../x", "/etc/x", ".", "..", "", " ", "\n", "a\r\nBcc: b", "\x1b[2J", "\u202egnp.exe", "👨‍👩‍👧", "é", "e\u0301", "x" * 10_000, "-rf",
    "--help", "NUL", "con.txt", "a\0b", "$(id)", "=cmd", "a/b", "a\\b", "C:\\x", "\ud800", "Mr. Smith", "trailing. ",
]  # fmt: skip


def note(**known: Any) -> Note:
    start: dict[str, Any] = {
        "id": "5f2c9a01" + "0" * 56, "chat": "Family", "chat_id": "1@g.us", "message_id": "M1", "sender": "Anna",
        "sent_at": "2026-03-03T14:05:09Z", "sent_at_from": "message",
        "original_path": "Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0001.opus",
    }  # fmt: skip
    return Note(**start | known)


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({}, "Family/2026-03-04 03-05-09 Anna.opus"),
        ({"sent_at": "2026-03-03T14:05:09.123Z"}, "Family/2026-03-04 03-05-09 Anna.opus"),
        ({"sender": None}, "Family/2026-03-04 03-05-09.opus"),
        ({"sender": "  "}, "Family/2026-03-04 03-05-09.opus"),
        ({"chat": None}, "unsorted/2026-03-04 03-05-09 Anna.opus"),
        ({"sent_at": None, "sent_at_from": None}, "Family/undated Anna.opus"),
        ({"sent_at": None, "sender": None}, "Family/undated.opus"),
        ({"sent_at": "2026-03-03T12:00:00Z", "sent_at_from": "name"}, "Family/2026-03-03 Anna.opus"),
        ({"sent_at": "2026-03-03T12:00:01Z", "sent_at_from": "name"}, "Family/2026-03-04 01-00-01 Anna.opus"),
        ({"original_path": "a/b.M4A"}, "Family/2026-03-04 03-05-09 Anna.m4a"),
        ({"original_path": "a/b", "media_type": "audio/ogg; codecs=opus"}, "Family/2026-03-04 03-05-09 Anna.opus"),
        ({"original_path": "a.d/b.o p", "media_type": "what/ever"}, "Family/2026-03-04 03-05-09 Anna"),
        ({"sender": "Dr. Who", "chat": "Müller & Söhne/2"}, "Müller _ Söhne_2/2026-03-04 03-05-09 Dr. Who.opus"),
        ({"sent_at": "0001-01-01T00:00:00Z"}, "Family/0001-01-01 13-00-00 Anna.opus"),
        ({"sent_at": "9999-12-31T23:00:00Z"}, "Family/undated Anna.opus"),
        ({"sent_at": "../../../xT12:00:00Z", "sent_at_from": "name"}, "Family/undated Anna.opus"),
    ],
)
def test_a_note_is_called_by_chat_time_and_sender(known: dict[str, Any], name: str) -> None:
    """The name tells who spoke in which chat and when, in local time, with nothing made up where something is unknown."""
    assert "/".join(restored_name(note(**known), EAST)) == name


def test_a_day_is_the_same_day_everywhere() -> None:
    """A note known by its day alone does not slip to the day before or after in another time zone."""
    by_day = note(sent_at="2026-03-03T12:00:00Z", sent_at_from="name")
    assert {local_time(by_day, zone) for zone in (EAST, WEST, None)} == {"2026-03-03"}
    assert local_time(note(), WEST) == "2026-03-03 06-05-09"


def test_a_converted_note_has_the_suffix_of_what_it_became() -> None:
    """An MP3 made from a note is called .mp3."""
    assert restored_name(note(), EAST, suffix=".mp3")[1] == "2026-03-04 03-05-09 Anna.mp3"
    assert file_suffix(note()) == ".opus"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_inside(text: str) -> None:
    """Whatever a chat, sender or path is called, each part is one visible, ordinary file name."""
    made = note(chat=text, sender=text, original_path=f"{text}/x.opus", message_id=text)
    names = RestoredNames([made, made], EAST)
    for part in (*restored_name(made, EAST), *names.of(made)):
        assert part
        assert part not in (".", "..")
        assert part[0] not in "-."
        assert part[-1] not in ". "
        assert "/" not in part
        assert "\\" not in part
        assert part.isprintable()
        assert len(part.encode()) <= 200


@given(st.text(), st.text(), st.text())
def test_any_text_makes_a_name(chat: str, sender: str, path: str) -> None:
    """No text at all breaks the naming of a note."""
    for part in restored_name(note(chat=chat, sender=sender, original_path=path), EAST):
        assert part
        assert len(part.encode()) <= 200
        assert not set(part) & set("/\\\0\n")


def test_equal_names_of_a_chat_are_told_apart_by_the_note() -> None:
    """Two notes of one second from one sender both keep their names apart, by the beginning of their ids; others keep theirs plain."""
    one, two, other = note(id="aaaa1111" + "0" * 56), note(id="bbbb2222" + "0" * 56, message_id="M2"), note(sender="Ben", message_id="M3")
    names = RestoredNames([one, two, other], EAST)
    assert [names.of(each)[1] for each in (one, two, other)] == [
        "2026-03-04 03-05-09 Anna aaaa1111.opus",
        "2026-03-04 03-05-09 Anna bbbb2222.opus",
        "2026-03-04 03-05-09 Ben.opus",
    ]


def test_names_that_differ_in_case_or_spelling_only_are_equal() -> None:
    """On a disk that ignores case, ANNA and Anna are no two files."""
    pairs = [("Anna", "ANNA"), ("Zoé", "Zoe\u0301"), ("a/b", "a:b")]
    for one, two in pairs:
        made = [note(sender=one, id="a" * 64), note(sender=two, id="b" * 64, message_id="M2")]
        names = RestoredNames(made, EAST)
        assert all(names.of(each)[1].endswith((" aaaaaaaa.opus", " bbbbbbbb.opus")) for each in made)


def test_one_recording_sent_twice_in_a_second_is_two_files() -> None:
    """Each record gets a file of its own, even where chat, time, sender and bytes are the same."""
    twice = [note(), note(message_id="M2")]
    names = RestoredNames(twice, EAST)
    assert len({names.of(each) for each in twice}) == 2
    assert all(names.of(each)[1].startswith("2026-03-04 03-05-09 Anna 5f2c9a01 ") for each in twice)


def test_the_same_moment_in_other_chats_needs_no_digits() -> None:
    """Only names within one chat are compared."""
    apart = [note(), note(chat="Friends", chat_id="2@g.us")]
    names = RestoredNames(apart, EAST)
    assert [names.of(each)[1] for each in apart] == ["2026-03-04 03-05-09 Anna.opus"] * 2


def test_chats_of_one_title_have_folders_of_their_own() -> None:
    """Two chats called Family are two folders, also where only case or a replaced character differs; a third chat's is plain."""
    notes = [
        note(chat=title, chat_id=f"{n}@g.us") for n, title in enumerate(["Family", "family", "Fa:mily", "Fa?mily", "Friends", "unsorted"])
    ]
    notes.append(note(chat=None, chat_id=None))
    names = RestoredNames(notes, EAST)
    folders = [names.of(each)[0] for each in notes]
    assert len({folded(folder) for folder in folders}) == 7
    assert folders[4] == "Friends"
    assert folders[6] == "unsorted"
    assert folders[0].startswith("Family ")


def test_a_chat_that_was_renamed_is_one_folder() -> None:
    """Notes from before and after a new title stand together, under the newest."""
    old, new = note(chat="Old", sent_at="2025-01-01T00:00:00Z"), note(chat="New", message_id="M2")
    names = RestoredNames([new, old], EAST)
    assert {names.of(each)[0] for each in (old, new)} == {"New"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_names_of_an_archive_differ_whatever_their_order(seed: int) -> None:
    """In an archive full of equal titles, times and senders no two records share a file, and each has the same name in any order."""
    chance = random.Random(seed)
    notes = [
        note(id=f"{chance.randrange(40):064x}"[::-1], chat=chance.choice(["A", "a", "B", "A 1", None]),
             chat_id=f"{chance.randrange(6)}@g.us", message_id=f"M{n}", sender=chance.choice(["Anna", "ANNA", None]),
             sent_at=f"2026-03-03T14:05:0{chance.randrange(3)}Z")
        for n in range(500)
    ]  # fmt: skip
    names = RestoredNames(notes, EAST)
    made = [names.of(each) for each in notes]
    assert len({(folded(folder), folded(name)) for folder, name in made}) == len(notes)
    shuffled = RestoredNames(chance.sample(notes, len(notes)), EAST)
    assert [shuffled.of(each) for each in notes] == made


def test_telling_many_notes_apart_needs_little_memory() -> None:
    """Telling the names of a large archive apart costs bytes a note, not records."""

    def many() -> Iterator[Note]:
        for n in range(20_000):
            yield note(
                id=f"{n:064x}", message_id=f"M{n}", sent_at=f"2026-03-{n % 28 + 1:02}T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}Z"
            )

    RestoredNames([note()], EAST)
    tracemalloc.start()
    try:
        names = RestoredNames(many(), EAST)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert names.of(note())[0] == "Family"
    assert peak < 20_000 * 100
    assert kept < 20_000 * 20
