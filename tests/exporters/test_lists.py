"""Table and playlist of an export: every program reads them, and none carries out what somebody wrote into a name."""

from __future__ import annotations

import csv
import io
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.exporters.lists import COLUMNS, Listed, cell, playlist, table
from backup_tool.models import Note, Transcript

EAST = timezone(timedelta(hours=5, minutes=45))


def listed(file: str = "Family/x.opus", saved: bool | None = True, **known: Any) -> Listed:
    start: dict[str, Any] = {"id": "ab" * 32, "chat": "Family", "sender": "Anna", "sent_at": "2026-03-03T14:05:09Z", "duration": 12.5}
    return Listed(Note(**start | known), file, "phone", saved)


def rows(*notes: Listed) -> list[dict[str, str]]:
    data = table(notes, EAST)
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_the_table_says_what_is_known() -> None:
    """One line a note, under a heading, with local time, seconds, words for yes and no, and where its file is; empty is unknown."""
    said = Transcript('He said "hi", then\nleft', "en")
    [row] = rows(listed(title="Für Zoë", transcript=said, starred=False, missing_since="2026-04-01T00:00:00Z", size=4000))
    assert tuple(row) == COLUMNS
    assert row["sent"] == "2026-03-03 19:50:09"
    assert [row[name] for name in ("chat", "sender", "length", "title", "kind")] == ["Family", "Anna", "12.5", "Für Zoë", "voice"]
    assert [row[name] for name in ("starred", "saved", "forwarded", "gone")] == ["no", "yes", "", "yes"]
    assert row["transcript"] == 'He said "hi", then left'
    assert [row[name] for name in ("sent_utc", "size", "source", "id", "file")] == [
        "2026-03-03T14:05:09Z", "4000", "phone", "ab" * 32, "Family/x.opus",
    ]  # fmt: skip
    assert rows(listed(from_me=True, sender=None))[0]["sender"] == "me"


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+4917012345",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        " =cmd|' /C calc'!A0",
        "\r=1",
        "＝1+1",
        "＋1",
        "\u200e=1",
        "|calc",
        "%0A=1",
        "\n=1",
    ],
)
def test_no_name_is_carried_out_by_a_spreadsheet(text: str) -> None:
    """What begins like a formula is shown as text, whoever is called so."""
    [row] = rows(listed(chat=text, sender=text, title=text, transcript=Transcript(text)))
    for name in ("chat", "sender", "title", "transcript"):
        assert row[name].startswith("'")
        assert "\n" not in row[name]


def test_no_name_is_carried_out_where_semicolons_part_cells() -> None:
    """In countries that write 1,5 a spreadsheet begins a cell after each semicolon: none begins like a formula."""
    [row] = rows(listed(sender="Anna;=1+1", title="x; @SUM(A1);;+2", transcript=Transcript("one; two;three")))
    assert [row["sender"], row["title"], row["transcript"]] == ["Anna;'=1+1", "x; '@SUM(A1);;'+2", "one; two;three"]


@given(st.text())
def test_every_name_is_one_cell_of_one_line(text: str) -> None:
    """Whatever signs a name has, the table keeps its form, and nothing turns its reading direction."""
    found = rows(listed(chat=text), listed(chat="after"))
    assert [row["chat"] for row in found][1:] == ["after"]
    assert not set(found[0]["chat"]) & set("\r\n\t\u202e\u2066\x1b\0")
    assert found[0]["chat"][:1] not in ("=", "+", "-", "@") or not cell(text).startswith("'")


def test_letters_of_every_script_stay_as_they_are() -> None:
    """Signs that join letters, and pictures of several, are kept in names."""
    for name in ("می\u200cخواهم", "👨\u200d👩\u200d👧", "मम्मी", "Zoë"):
        assert rows(listed(sender=name))[0]["sender"] == name


def test_a_playlist_names_every_file_with_its_length() -> None:
    """Players show who spoke and when, and find the files beside the list."""
    data = playlist("Fam\nily", [listed(title="Hi"), listed("Family/y.opus", duration=None, sender=None, from_me=True, sent_at=None)], EAST)
    assert data.decode().splitlines() == [
        "#EXTM3U", "#PLAYLIST:Fam ily", "#EXTINF:12,2026-03-03 19:50:09 – Anna – Hi", "Family/x.opus", "#EXTINF:-1,me", "Family/y.opus",
    ]  # fmt: skip
