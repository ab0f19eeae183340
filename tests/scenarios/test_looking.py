"""Looking at the archive and at the phone: list, chats, search, snapshots and scan, their JSON key by key, and every filter."""

from __future__ import annotations

import json
import re
import socket
from datetime import datetime

import pytest

from tests.generators.android import ANNA, BEN, FAMILY
from tests.scenarios.album import MUELLER, ZOE, Album

RECORD = [
    "id", "blobs", "size", "media_type", "kind", "chat", "chat_id", "message_id", "sender", "sender_id", "from_me", "sent_at",
    "sent_at_from", "zone", "duration", "starred", "forwarded", "transcript", "title", "original_path", "mtime_ns", "path", "found",
    "first_seen", "missing_since", "damaged", "source", "host", "hosts", "saved",
]  # fmt: skip
IN_ORDER = ["zoe", "ben", "mine", "keys", "found", "twin", "other twin", "cut", "video", "memo"]
FAMILYS, ANNAS = ["zoe", "ben", "mine"], ["twin", "other twin", "cut", "video"]


def test_a_record_tells_everything_that_is_known(album: Album) -> None:
    """Every field of the promise is there, in its place, and says exactly what phone and database say."""
    records = album.world.records()
    assert album.names(records) == IN_ORDER
    assert all(list(record) == RECORD for record in records)
    zoe, made, host = records[0], album.made["zoe"], socket.gethostname()
    first_seen = zoe.pop("first_seen")
    assert datetime.fromisoformat(first_seen).utcoffset() is not None
    assert zoe.pop("path").startswith("/voice-notes/phone/notes/Family ")
    assert zoe == {
        "id": album.ids["zoe"], "blobs": [album.ids["zoe"]], "size": len(made.data), "media_type": "audio/ogg; codecs=opus",
        "kind": "voice", "chat": "Family", "chat_id": FAMILY, "message_id": "3EB00000", "sender": "Zoë Núñez", "sender_id": ZOE,
        "from_me": False, "sent_at": "2024-03-01T08:00:00.123Z", "sent_at_from": "message", "zone": None, "duration": 2.5,
        "starred": True, "forwarded": False, "transcript": None, "title": None, "original_path": made.original_path,
        "mtime_ns": made.location.stat().st_mtime_ns,
        "found": [{"source": "phone", "path": made.location.relative_to(album.world.folder / "phone").as_posix()}],
        "missing_since": None, "damaged": None, "source": "phone", "host": host, "hosts": [host], "saved": False,
    }  # fmt: skip


def test_the_other_records_tell_what_is_special_about_them(album: Album) -> None:
    """Owner, forward, transcript, video, damage, a bare day and a bare recording are each told, and the unknown is null."""
    records = dict(zip(IN_ORDER, album.world.records(), strict=True))
    mine = records["mine"]
    assert [mine[key] for key in ("from_me", "sender", "sender_id", "forwarded")] == [True, None, None, True]
    assert (records["ben"]["sender"], records["ben"]["sender_id"]) == ("+491700000002", BEN)
    assert records["keys"]["transcript"] == {"text": "Die Schlüssel sind unter der Matte", "language": None, "engine": "whatsapp"}
    assert [records["twin"][key] for key in ("chat", "chat_id", "sender", "sender_id")] == ["Anna", ANNA, "Anna", ANNA]
    assert [records["video"][key] for key in ("kind", "media_type")] == ["video", "video/mp4"]
    assert records["cut"]["damaged"] == "truncated"
    found = records["found"]
    assert [found[key] for key in ("kind", "chat", "chat_id", "message_id", "sender", "from_me", "starred")] == ["audio"] + [None] * 6
    assert [found[key] for key in ("sent_at", "sent_at_from")] == ["2024-03-10T12:00:00Z", "name"]
    memo = records["memo"]
    assert [memo[key] for key in ("source", "kind", "sent_at_from", "original_path")] == ["memos", "audio", "file", "Café.wav"]
    assert datetime.fromisoformat(memo["sent_at"]) == album.made["memo"].sent


def test_a_run_tells_what_it_did(album: Album) -> None:
    """The sums of the first run are those of the store, and its audio was read and added once."""
    assert list(album.ran) == [
        "snapshot", "notes", "new", "unchanged", "gone", "missing", "orphan", "unreadable", "damaged", "deleted", "bytes_read",
        "bytes_added", "destinations", "errors", "seconds", "sources",
    ]  # fmt: skip
    size = sum(len(made.data) for made in album.made.values())
    told = {key: album.ran[key] for key in list(album.ran)[1:11]}
    assert told == {
        "notes": 10, "new": 10, "unchanged": 0, "gone": 0, "missing": 1, "orphan": 1, "unreadable": 0, "damaged": 1, "deleted": 0,
        "bytes_read": size,
    }  # fmt: skip
    [destination] = album.ran["destinations"]
    assert list(destination) == ["name", "status", "objects", "bytes", "error"]
    assert (destination["name"], destination["status"], destination["error"]) == (str(album.world.repo), "delivered", None)
    assert size < album.ran["bytes_added"] == destination["bytes"] < size + 20_000
    assert album.ran["errors"] == []


def test_chats_and_snapshots_tell_their_sums(album: Album) -> None:
    """One row a chat of a source, one row a snapshot, with notes, bytes, length and times."""
    rows = album.world.backup("chats", "--json").json
    assert all(
        list(row) == ["chat", "chat_id", "source", "notes", "bytes", "duration", "first", "last", "first_is_day", "last_is_day"]
        for row in rows
    )
    assert [(row["chat"], row["chat_id"], row["source"], row["notes"]) for row in rows] == [
        ("Anna", ANNA, "phone", 4), ("Familie Müller", MUELLER, "phone", 1), ("Family", FAMILY, "phone", 3), (None, None, "memos", 1),
        (None, None, "phone", 1),
    ]  # fmt: skip
    assert [(row["first_is_day"], row["last_is_day"]) for row in rows] == [(False, False)] * 4 + [(True, True)]
    assert [rows[2][key] for key in ("bytes", "duration", "first", "last")] == [
        sum(len(album.made[name].data) for name in FAMILYS), 6.5, "2024-03-01T08:00:00.123Z", "2024-03-03T09:00:00Z",
    ]  # fmt: skip
    [snapshot] = album.world.backup("snapshots", "--json").json
    assert list(snapshot) == ["id", "time", "host", "sources", "notes", "bytes"]
    size = sum(len(made.data) for made in album.made.values())
    assert [snapshot[key] for key in ("id", "sources", "notes", "bytes")] == [album.ran["snapshot"], ["memos", "phone"], 10, size]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ("--chat Family", FAMILYS),
        (f"--chat {FAMILY} --kind voice", FAMILYS),
        ("--chat muller", ["keys"]),
        ("--chat ANN --chat müll", ["keys", *ANNAS]),
        ("--chat unsorted", ["found", "memo"]),
        ("--sender nunez", ["zoe"]),
        ("--sender me --sender +491700000002", ["ben", "mine"]),
        ("--kind video", ["video"]),
        ("--kind audio --source phone", ["found"]),
        ("--source memos", ["memo"]),
        ("--snapshot latest --sender anna --until 2024-03-31", ["keys"]),
        ("--since 2024-03-02 --until 2024-03-02", ["ben"]),
        ("--until 2024-03-01", ["zoe"]),
        ("--since 2024-03-01T13:45 --until 2024-03-01T13:45", ["zoe"]),
        ("--since 2024-03-01T13:45:01 --until 2024-03-02T00:05:00", ["ben"]),
        ("--since 2024-03-01T18:20:00Z --until 2024-03-01T18:20Z", ["ben"]),
        ("--since 2024-03-10 --until 2024-03-10T00:01", ["found"]),
        ("--since 2024-03-10T23:59 --until 2024-04-01T13:15:00", ["found", "twin", "other twin"]),
        ("--since 30d", ["memo"]),
        ("--until 30d --chat unsorted", ["found"]),
    ],
)
def test_filters_let_through_exactly_what_was_asked_for(album: Album, filters: str, names: list[str]) -> None:
    """Names in any spelling, times as this machine's clock shows them, both ends included, and all filters together."""
    assert album.names(album.world.records(*filters.split())) == names


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list", "--chat", "famil"), ["2 chats match", '"Familie Müller"', f'"Family" ({FAMILY})', "name one exactly"]),
        (("restore", "--chat", "Fmaily"), ['no chat matches "Fmaily"', "the closest are", '"Family"']),
        (("chats", "--chat", "xyzzy"), ['no chat matches "xyzzy"', "'backup chats' lists them all"]),
        (("search", "e", "--since", "yesterday"), ['"yesterday" is not a day or time', "30d"]),
        (("list", "--until", "2024-02-30"), ["is not a day or time"]),
        (("list", "--kind", "letter"), ["is not a kind of note", "voice, audio and video"]),
        (("list", "--snapshot", "abc"), ["no snapshot begins with", "backup snapshots"]),
        (("list", "--snapshot", "ffffffff"), ["no snapshot begins with"]),
        (("extract", "0bad"), ['no note begins with "0bad"', "backup list"]),
        (("extract", "abc"), ["is not the id of a note", "4 or more"]),
        (("extract", "latest", "--sender", "nobody"), ["no note is there", "filters"]),
        (("restore", "--layout", "flat"), ["is not a layout", "chat and original"]),
        (("restore", "--format", "flac"), ['"flac" is not a format', "original, ogg, mp3, m4a, wav"]),
        (("list", "--colour"), ["no such option", "--help"]),
    ],
)
def test_what_cannot_be_meant_is_told_with_what_can(album: Album, words: tuple[str, ...], told: list[str]) -> None:
    """A wrong name, time or option ends with 2, one error, one hint, and with --json the same as one document."""
    ended = album.world.backup(*words, "--json", code=2)
    assert list(ended.json) == ["error"]
    error = ended.json["error"]
    assert list(error) == ["code", "message", "hint"]
    assert error["code"] == 2
    assert ended.told.splitlines() == [f"error: {error['message']}", f"hint: {error['hint']}"]
    for words_told in told:
        assert words_told in ended.told
    assert not (album.world.folder / "restored").exists()


@pytest.mark.parametrize(
    ("text", "names"), [("SCHLUSSEL", ["keys"]), ("family", FAMILYS), ("núñ", ["zoe"]), ("cafe", ["memo"]), ("nothing such", [])]
)
def test_search_finds_words_in_names_and_in_what_was_said(album: Album, text: str, names: list[str]) -> None:
    """Case and accents do not matter; no hit is an empty answer and no failure."""
    assert album.names(album.world.backup("search", text, "--json").json) == names


def test_search_takes_filters_and_says_when_there_is_nothing(album: Album) -> None:
    """Words and filters narrow each other down."""
    assert album.names(album.world.backup("search", "an", "--chat", "muller", "--json").json) == ["keys"]
    assert album.world.backup("search", "xyzzy").text == "no notes\n"


def test_a_scan_tells_what_a_run_would_find_and_writes_nothing(album: Album) -> None:
    """The records of a scan are those of the archive but for what only an archive can know; ids on demand."""
    world = album.world
    before = sorted(world.repo.rglob("*"))
    archived = {record["original_path"]: record for record in world.records()}
    for option in ([], ["--hash"]):
        records = world.backup("scan", "phone", "memos", *option, "--json").json
        assert [record["original_path"] for record in records] == list(archived)
        for record in records:
            known = archived[record["original_path"]]
            only_stored = {"path", "first_seen", "saved", *([] if option else ["id", "blobs"])}
            assert list(record) == RECORD
            assert {key for key in record if record[key] != known[key]} == only_stored
            assert {record[key] for key in only_stored} == {None}
    assert sorted(world.repo.rglob("*")) == before


def test_a_scan_shows_what_is_not_as_it_should_be(album: Album) -> None:
    """Messages without file, files without message, damaged ones and the stores themselves, each on demand."""
    world = album.world
    [lost] = world.backup("scan", "phone", "--show", "missing", "--json").json
    assert [lost[key] for key in ("id", "chat", "message_id", "sent_at", "duration")] == [
        None,
        "Anna",
        "3EB0LOST",
        "2024-01-04T10:00:00Z",
        7,
    ]
    [orphan] = world.backup("scan", "phone", "--show", "orphan", "--json").json
    assert orphan["original_path"] == album.made["found"].original_path
    [damaged] = world.backup("scan", "phone", "--show", "damaged", "--json").json
    assert (damaged["damaged"], damaged["chat"]) == ("truncated", "Anna")
    stores = world.backup("scan", "phone", "memos", "--show", "stores", "--json").json
    assert [(store["type"], store["notes"]) for store in stores] == [("whatsapp-android", 9), ("folder", 1)]
    assert all(list(store) == ["type", "path", "description", "notes"] for store in stores)
    text = world.backup("scan", "phone", "memos").text
    assert "phone (whatsapp-android): 9 notes" in text
    assert "1 missing" in text
    assert "1 orphan" in text


def test_check_and_unlock_answer_in_json_too(album: Album) -> None:
    """Every verb has one document: what was checked and found, and which locks were removed."""
    checked = album.world.backup("check", "--read-data", "--json").json
    assert list(checked) == ["sound", "read_data", "snapshots", "findings", "verdict"]
    assert [checked[key] for key in ("sound", "read_data", "snapshots")] == [True, True, 1]
    assert [finding for finding in checked["findings"] if finding["severity"] != "hint"] == []
    assert album.world.backup("unlock", "--json").json == {"removed": []}


def test_tables_show_local_time_and_are_told_on_stdout(album: Album) -> None:
    """What a person reads: local time, only the day where only the day is known, and nothing beside the table."""
    ended = album.world.backup("list")
    assert ended.err == b""
    lines = ended.text.splitlines()
    assert lines[0].split() == ["id", "sent", "length", "size", "kind", "chat", "sender"]
    assert [line[12:28].strip() for line in lines[1:6]] == [
        "2024-03-01 13:45", "2024-03-02 00:05", "2024-03-03 14:45", "2024-03-05 15:45", "2024-03-10",
    ]  # fmt: skip
    assert lines[8].endswith("truncated")
    rows = album.world.backup("chats").text.splitlines()
    assert [line.split("  ")[0] for line in rows] == ["chat", "Anna", "Familie Müller", "Family", "unsorted", "unsorted"]
    assert re.split("  +", rows[5])[4:] == ["2024-03-10", "2024-03-10", "phone"]
    assert re.split("  +", rows[3])[4:] == ["2024-03-01 13:45", "2024-03-03 14:45", "phone"]
    assert json.loads(album.world.backup("list", "--sender", "nobody", "--json").out) == []
