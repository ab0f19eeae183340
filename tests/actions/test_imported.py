"""A recording that a person put into a chat, and the same recording in messengers' stores: one note, whichever comes first."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from backup_tool.catalog import Entry, Ledger, View, enter, entry, merge
from backup_tool.models import IMPORTED, Note, Place

FAMILY = "120363000000000001@g.us"
BEN = "491700000002@s.whatsapp.net"
TITLES = {FAMILY: ["Family"], BEN: ["Ben"]}
AUDIO = "ab" * 32


def sighting(source: str, **known: Any) -> Note:
    path = known.pop("path", "PTT-20260301-WA0000.opus")
    return Note(id=AUDIO, blobs=[AUDIO], size=5, original_path=path, mtime_ns=1, found=[Place(source, path)], **known)


IMPORT = sighting(
    IMPORTED, path="memo.opus", chat="Family", chat_id=FAMILY, message_id="imported:12", sent_at="2026-01-01T12:00:00Z",
    sent_at_from="name", sender="Granny", title="First words",
)  # fmt: skip
MESSAGE = sighting(
    "phone", chat="Family", chat_id=FAMILY, message_id="3EB0", sent_at="2026-03-01T08:00:07Z", sent_at_from="message", sender="Anna"
)
EXPORTED = sighting(
    "export",
    chat="Family",
    chat_id="export:Family",
    sent_at="2026-03-01T08:00:00Z",
    sent_at_from="message",
    sender="Annie",
    path="AUDIO.opus",
)
FILE = sighting("card", sent_at="2026-03-01T12:00:00Z", sent_at_from="name")
ELSEWHERE = sighting(IMPORTED, path="memo.opus", chat="Ben", chat_id=BEN, message_id="imported:12")


def entered(*notes: Note) -> list[Note]:
    ledger = Ledger()
    ledger.titles = lambda chat_id: TITLES.get(chat_id, ())
    for turn, note in enumerate(notes, 1):
        ledger.turn = turn
        for number in enter(ledger, note.found[0].source, note):
            ledger.seen[number] = turn
    return [ledger.note(number) for number in ledger]


@pytest.mark.parametrize("order", list(itertools.permutations([IMPORT, MESSAGE, EXPORTED, FILE])))
def test_an_import_is_the_note_that_the_chat_has(order: tuple[Note, ...]) -> None:
    """In whatever order they come, the message says who and when, the person what it is called; nothing is there twice."""
    [note] = entered(*order)
    assert (note.message_id, note.sent_at, note.sender, note.title) == ("3EB0", "2026-03-01T08:00:07Z", "Anna", "First words")
    assert {place.source for place in note.found} == {IMPORTED, "phone", "export", "card"}


@pytest.mark.parametrize("order", list(itertools.permutations([IMPORT, EXPORTED])))
def test_an_exported_chat_knows_better_when_it_was(order: tuple[Note, ...]) -> None:
    """What an export says of the moment stands over what a person typed; a message that comes later is that note."""
    [note] = entered(*order)
    assert (note.message_id, note.sent_at, note.chat_id) == (None, "2026-03-01T08:00:00Z", FAMILY)
    [note] = entered(*order, MESSAGE)
    assert note.message_id == "3EB0"


@pytest.mark.parametrize("order", list(itertools.permutations([IMPORT, MESSAGE, ELSEWHERE])))
def test_the_recording_in_another_chat_is_another_note(order: tuple[Note, ...]) -> None:
    """One file in two chats is two notes, also where its name and place are the same."""
    assert sorted((note.chat_id or "", note.message_id or "") for note in entered(*order)) == [(FAMILY, "3EB0"), (BEN, "imported:12")]


def test_importing_again_corrects_what_was_said() -> None:
    """The last word of a person counts; an unknown value takes nothing away."""
    again = sighting(IMPORTED, path="memo.opus", chat="Family", chat_id=FAMILY, message_id="imported:12", title="First word", sender="Oma")
    [note] = entered(IMPORT, again)
    assert (note.title, note.sender, note.sent_at) == ("First word", "Oma", "2026-01-01T12:00:00Z")


@pytest.mark.parametrize("order", list(itertools.permutations([("desk", IMPORT), ("laptop", MESSAGE), ("mac", EXPORTED)])))
def test_hosts_are_seen_as_one(order: tuple[tuple[str, Note], ...]) -> None:
    """What one machine imported and another has from the phone is one entry of the archive."""
    view = View(lambda chat_id: TITLES.get(chat_id, ()))
    for host, note in order:
        view.add(entry(note, note.found[0].source, host))
    found: list[Entry] = list(view)
    assert [(one.message_id, len(one.hosts), one.title) for one in found] == [("3EB0", 3, "First words")]


@pytest.mark.parametrize(("first", "second"), [(IMPORT, MESSAGE), (MESSAGE, IMPORT)])
def test_overlapping_runs_are_merged(first: Note, second: Note) -> None:
    """A run and an import at one time leave one note."""
    ledger = Ledger()
    enter(ledger, "phone", first)
    merge(ledger, IMPORTED, second)
    assert [ledger.note(number).message_id for number in ledger] == ["3EB0"]
