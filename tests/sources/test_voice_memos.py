"""Recordings of Apple's Voice Memos."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backup_tool.sources import detect, open_source
from backup_tool.sources.places import cure
from tests.generators.sounds import encoded
from tests.generators.voice_memos import CLOUD, OLD, Recordings
from tests.sources.stores import Spec, as_ordinary_user, everything, scan

ONE, TWO, THREE = (encoded("m4a", 1, seed) for seed in (1, 2, 3))
NAME = "20260303 140500-1A2B3C4D.m4a"
STEM = "20260303 140500-1a2b3c4d"
OTHER = "20260304 090000-5E6F7A8B.m4a"


@pytest.mark.parametrize("level", [".", "group.com.apple.VoiceMemos.shared", "group.com.apple.VoiceMemos.shared/Recordings"])
def test_memos_of_a_mac(tmp_path: Path, level: str) -> None:
    """At any level of the folder, each memo has its moment to the second, its id and its place; nothing is written there."""
    memos = Recordings(tmp_path / "group.com.apple.VoiceMemos.shared/Recordings")
    first, second = memos.memo(NAME, ONE, title="Grandma"), memos.memo(OTHER, TWO)
    memos.close()
    before = everything(tmp_path)
    found = scan(tmp_path / level)
    assert (found.source.type, found.source.plain) == ("voice-memos", True)
    assert [
        (note.original_path, note.kind, note.chat, note.chat_id, note.message_id, note.from_me, note.sent_at, note.sent_at_from, note.title)
        for note in found.notes
    ] == [
        (NAME, "voice", "Voice Memos", "voice-memos", first, True, "2026-03-03T14:05:01Z", "message", "Grandma"),
        (OTHER, "voice", "Voice Memos", "voice-memos", second, True, "2026-03-03T14:05:02Z", "message", None),
    ]
    assert [found.read(file) for file in found.files] == [ONE, TWO]
    summary = found.summary
    assert (summary.complete, summary.problems, summary.warnings, summary.orphans) == (True, [], [], 0)
    assert (summary.database or "").endswith(CLOUD)
    assert everything(tmp_path) == before


def test_what_the_app_wrote_last_is_read_too(tmp_path: Path) -> None:
    """While the app runs, new memos stand only in the database's log: they are known all the same."""
    memos = Recordings(tmp_path, wal=True)
    unique = memos.memo(NAME, ONE)
    with closing(memos.left_open()):
        assert [note.message_id for note in scan(tmp_path).notes] == [unique]


def test_memos_of_an_old_iphone(tmp_path: Path) -> None:
    """Up to iOS 11 the database is another, with paths of the device in it: memos are found by their names."""
    memos = Recordings(tmp_path, database=OLD)
    memos.memo(f"/var/mobile/Media/Recordings/{NAME}", ONE)
    memos.close()
    (note,) = scan(tmp_path).notes
    assert (note.chat, note.sent_at, note.sent_at_from, note.message_id) == ("Voice Memos", "2026-03-03T14:05:01Z", "message", STEM)


def test_memos_that_are_only_in_icloud(tmp_path: Path) -> None:
    """A memo whose sound is not on this machine is counted with time and length, and named by its title with what to do."""
    memos = Recordings(tmp_path)
    memos.memo(NAME, ONE)
    far = memos.memo(None, title="First steps", duration=61.5)
    memos.memo(OTHER, title="2026-03-03T14:05:00Z", ZCUSTOMLABELFORSORTING="Choir")
    memos.memo("20260305 090000-00000000.m4a", title="deleted, and gone", ZEVICTIONDATE=700_000_000)
    memos.close()
    summary = scan(tmp_path).summary
    assert [(note.sent_at, note.duration, note.chat, note.title) for note in summary.not_downloaded] == [
        ("2026-03-03T14:05:02Z", 61.5, "Voice Memos", "First steps"),
        ("2026-03-03T14:05:03Z", 2.5, "Voice Memos", "Choir"),
    ]
    assert summary.not_downloaded[0].message_id == far
    (warning,) = summary.warnings
    assert warning.startswith("2 memos are only in iCloud (First steps, Choir): open Voice Memos")


TITLES: list[tuple[dict[str, Any], str | None]] = [
    ({"title": "Grandma"}, "Grandma"),
    ({"title": " Grandma \n", "ZCUSTOMLABELFORSORTING": "Choir"}, "Grandma"),
    ({"title": None, "ZCUSTOMLABELFORSORTING": "Choir", "ZCUSTOMLABEL": "Kitchen"}, "Choir"),
    ({"title": "  ", "ZCUSTOMLABEL": "Kitchen"}, "Kitchen"),
    ({"title": "2026-03-03T14:05:00Z", "ZCUSTOMLABEL": " 2026-03-03T14:05:00Z"}, None),
    ({"title": "x" * 5000}, "x" * 1000),
    ({"title": b"Grandma"}, None),
]


@pytest.mark.parametrize(("row", "title"), TITLES, ids=map(str, range(len(TITLES))))
def test_titles(tmp_path: Path, row: dict[str, Any], title: str | None) -> None:
    """A memo has the title that its owner gave it, from the newest place that has one; a date is none; an endless one is cut."""
    memos = Recordings(tmp_path)
    memos.memo(NAME, ONE, **{"ZCUSTOMLABEL": None, **row})
    memos.close()
    assert [note.title for note in scan(tmp_path).notes] == [title]


def test_recently_deleted_memos_are_kept(tmp_path: Path) -> None:
    """A memo in Recently Deleted is archived while its file is there, and that is said."""
    memos = Recordings(tmp_path)
    unique = memos.memo(NAME, ONE, ZEVICTIONDATE=790_000_000)
    memos.close()
    found = scan(tmp_path)
    assert [note.message_id for note in found.notes] == [unique]
    assert found.summary.warnings == ["1 memo in Recently Deleted: archived too, while the files are there"]


def test_files_of_newer_systems(tmp_path: Path) -> None:
    """A `.qta` is the memo although the database says `.m4a`; of a memo that has both, the named one is it; layers are kept beside it."""
    memos = Recordings(tmp_path)
    layered, both, pieces, single = (memos.memo(f"{name}.m4a") for name in ("A", "B", "C", "D"))
    for path in ("A.qta", "A.composition/fragments/1.m4a", "B.m4a", "B.qta", "C.composition/1.m4a", "C.composition/2.m4a"):
        memos.file(path, ONE)
    memos.file("D.composition/D.m4a", TWO)
    memos.close()
    found = scan(tmp_path)
    assert {note.original_path: note.message_id for note in found.notes} == {
        "A.qta": layered, "A.composition/fragments/1.m4a": None, "B.m4a": both, "B.qta": None, "C.composition/1.m4a": None,
        "C.composition/2.m4a": None, "D.composition/D.m4a": single,
    }  # fmt: skip
    assert pieces not in {note.message_id for note in found.notes}
    assert {note.sent_at_from for note in found.notes} == {"message"}
    assert (found.summary.orphans, found.summary.not_downloaded) == (0, [])


def test_recordings_that_the_database_does_not_know(tmp_path: Path) -> None:
    """A recording without a row is an orphan, with the moment that its name tells, in the chat of all memos."""
    memos = Recordings(tmp_path)
    memos.memo(NAME, ONE)
    memos.file(OTHER, TWO)
    memos.close()
    found = scan(tmp_path)
    note = found.note(OTHER)
    assert (note.chat, note.message_id, note.sent_at_from, note.zone is not None) == ("Voice Memos", None, "name", True)
    assert found.summary.orphans == 1


COLUMNS = ["ZUNIQUEID", "ZDURATION", "ZLOCALDURATION", "ZENCRYPTEDTITLE", "ZCUSTOMLABEL", "ZEVICTIONDATE", "ZCUSTOMLABELFORSORTING"]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_a_version_lacks_costs_only_what_it_says(tmp_path: Path, column: str) -> None:
    """Columns come and go with the versions of the app: without one, the others are read."""
    memos = Recordings(tmp_path, without=frozenset([column]))
    unique = memos.memo(NAME, ONE, title="Grandma")
    memos.close()
    (note,) = scan(tmp_path).notes
    assert (note.message_id, note.sent_at) == (STEM if column == "ZUNIQUEID" else unique, "2026-03-03T14:05:01Z")


def test_an_unknown_layout_leaves_the_recordings(tmp_path: Path) -> None:
    """Where the database is laid out in a way that nobody has seen, recordings are archived by their names, and that is said."""
    memos = Recordings(tmp_path, without=frozenset(["ZPATH"]))
    memos.memo(NAME, ONE)
    memos.file(NAME, ONE)
    memos.close()
    found = scan(tmp_path)
    assert [(note.chat, note.sent_at_from) for note in found.notes] == [("Voice Memos", "name")]
    assert found.summary.database is None
    assert "not laid out as Voice Memos does" in found.summary.warnings[0]


ODD = [
    {"ZDATE": "soon"}, {"ZDATE": float("inf")}, {"ZDATE": 1e300}, {"ZDATE": -1e9}, {"ZDURATION": "long"}, {"ZUNIQUEID": b"\0\1"},
    {"ZUNIQUEID": 5}, {"ZENCRYPTEDTITLE": b"\xff"}, {"ZEVICTIONDATE": "x"}, {"ZPATH": b"\xff\0"}, {"ZPATH": "../../../etc/passwd"},
    {"ZPATH": "/"}, {"ZPATH": ".m4a"},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=map(str, range(len(ODD))))
def test_odd_values_are_unknown_and_stop_nothing(tmp_path: Path, odd: dict[str, Any]) -> None:
    """A value of a kind that no version writes is unknown; nothing outside the folder is read; the other memos are told."""
    memos = Recordings(tmp_path)
    memos.memo(NAME, ONE, **odd)
    memos.file(NAME, ONE)
    unique = memos.memo(OTHER, TWO)
    memos.close()
    found = scan(tmp_path)
    assert found.paths == [NAME, OTHER]
    assert found.note(OTHER).message_id == unique
    assert found.summary.problems == []


def test_a_damaged_database_leaves_the_recordings(tmp_path: Path) -> None:
    """However the database is damaged or cut, every recording is there, and what is wrong is named once."""
    memos = Recordings(tmp_path)
    for number in range(200):
        memos.memo(f"{number}.m4a", title="x" * 50)
    memos.file(NAME, ONE)
    memos.close()
    whole = (tmp_path / CLOUD).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100], whole[:4096] + b"\xff" * 8192 + whole[12288:]):
        (tmp_path / CLOUD).write_bytes(damaged)
        found = scan(tmp_path)
        assert found.paths == [NAME]
        assert {problem.path for problem in found.summary.problems} == {CLOUD}


def test_memos_beside_other_recordings(tmp_path: Path) -> None:
    """Other recordings below the folder that was named are taken too, as recordings; listings tell the two apart."""
    memos = Recordings(tmp_path / "Recordings")
    memos.memo(NAME, ONE)
    memos.close()
    (tmp_path / "concert.wav").write_bytes(encoded("wav", 1))
    (tmp_path / "Recordings/without a suffix").write_bytes(encoded("wav", 1))
    found = scan(tmp_path)
    assert sorted(file.path for file in found.files) == [f"Recordings/{NAME}", "Recordings/without a suffix", "concert.wav"]
    assert [(one.type, one.description, one.notes) for one in detect(tmp_path)] == [
        ("voice-memos", "recordings of Apple's Voice Memos", 1),
        ("folder", "a folder of audio files", 2),
    ]


@pytest.mark.parametrize("level", ["", "Recordings"])
def test_a_database_that_may_not_be_read(level: str) -> None:
    """Where only the database is closed, these are recordings of Voice Memos all the same: they are archived, and what to do is said."""
    with as_ordinary_user() as folder:
        memos = Recordings(folder / "Recordings")
        memos.memo(NAME, ONE)
        memos.close()
        (folder / "Recordings" / CLOUD).chmod(0)
        found = scan(folder / level)
    assert found.source.type == "voice-memos"
    assert [(note.chat, note.message_id, note.sent_at_from) for note in found.notes] == [("Voice Memos", None, "name")]
    (problem,) = found.summary.problems
    assert problem.path.endswith(CLOUD)
    assert problem.reason == f"not readable: {cure()}"
    assert (found.summary.database, found.summary.orphans) == (None, 0)


def test_the_zone_of_a_recording_known_by_its_name(tmp_path: Path) -> None:
    """A moment that only the name of a recording tells is read in the `timezone` of the source."""
    memos = Recordings(tmp_path)
    memos.file(NAME, ONE)
    memos.close()
    spec = Spec(tmp_path, "voice-memos", timezone="Asia/Kathmandu")
    (file,) = open_source(spec, tmp_path).scan()
    assert [(note.sent_at, note.zone) for note in file.notes] == [("2026-03-03T08:20:00Z", "Asia/Kathmandu")]


@pytest.mark.parametrize("made", ["VIEW ZCLOUDRECORDING AS", "VIEW ZRECORDING AS"])
def test_memos_that_a_query_makes_up(tmp_path: Path, made: str) -> None:
    """A view where the table of memos should be, as no app makes it, is not asked: it might make up memos without end."""
    memos = Recordings(tmp_path)
    memos.file(NAME, ONE)
    memos.close()
    with closing(sqlite3.connect(tmp_path / CLOUD)) as connection:
        connection.execute("DROP TABLE ZCLOUDRECORDING")
        counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS ZDATE, i || '.m4a' AS ZPATH FROM n"
        connection.execute(f"CREATE {made} {counting}")
    summary = scan(tmp_path).summary
    assert (summary.files, summary.not_downloaded, summary.database) == (1, [], None)
    assert "not laid out as Voice Memos does" in summary.warnings[0]
