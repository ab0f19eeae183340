"""Saved notes of several machines: the latest word counts, whatever their clocks show."""

from __future__ import annotations

import json
import random

import pytest

from backup_tool.catalog import CatalogDamaged, Marks

NOTE = "ab" * 32


def line(saved: bool, at: str, note: str = NOTE) -> bytes:
    return json.dumps({"id": note, "saved": saved, "at": at}).encode() + b"\n"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-03-01T08:00:00Z", "2026-03-01T08:00:00.000001Z"),
        ("2026-03-01T08:00:00.9Z", "2026-03-01T08:00:01Z"),
        ("no time", "2026-03-01T08:00:00Z"),
    ],
)
def test_the_later_of_two_words_counts(earlier: str, later: str) -> None:
    """Saved and taken back, or the other way round, in whatever order two snapshots are read."""
    for saved in (True, False):
        words = [line(not saved, earlier), line(saved, later)]
        for order in (words, words[::-1]):
            marks = Marks()
            for word in order:
                marks.load(word)
            assert marks.ids() == ({NOTE} if saved else set())
            assert marks.lines() == [line(saved, later).strip().replace(b": ", b":").replace(b", ", b",")]


def test_of_one_moment_the_word_that_keeps_more_counts() -> None:
    """Two machines in one microsecond: the note is saved."""
    marks = Marks()
    marks.load(line(False, "2026-03-01T08:00:00Z") + line(True, "2026-03-01T08:00:00.000Z"))
    assert marks.ids() == {NOTE}


def test_what_a_person_says_now_counts_from_now_on() -> None:
    """A mark from a machine whose clock is years ahead is taken back all the same."""
    for ahead in ("2199-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"):
        marks, other = Marks(), Marks()
        marks.load(line(True, ahead))
        marks.set([NOTE], False)
        other.load(line(True, ahead))
        other.load(b"".join(one + b"\n" for one in marks.lines()))
        assert other.ids() == (set() if ahead < "9999" else other.ids())
        other.set([NOTE], False)
        assert other.ids() == set()


def test_the_same_marks_make_the_same_bytes() -> None:
    """A night in which nobody saved anything stores nothing new."""
    lines = [line(bool(n % 3), "2026-03-01T08:00:00Z", f"{n:064x}") for n in range(50)]
    made = set()
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        marks = Marks()
        marks.load(b"".join(lines))
        made.add(b"".join(marks.lines()))
    assert len(made) == 1


@pytest.mark.parametrize("data", [b"{}\n", b"\xff\n", b'{"id":"x","saved":"yes","at":"x"}\n', b"[" * 100_000])
def test_a_damaged_list_is_told(data: bytes) -> None:
    """What is no list of marks is an error in a person's words."""
    with pytest.raises(CatalogDamaged, match="saved notes is damaged"):
        Marks().load(data)
