"""What `backup scan` tells of stores: all of them, with every note accounted for, and where this machine has some."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generators import android, telegram, voice_memos
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.generators.sounds import encoded
from tests.scenarios.world import World, give_up_reading_everything


@pytest.fixture
def phone(world: World) -> Path:
    """A folder with a phone's storage, a Telegram export and Voice Memos: of each kind of thing that is not as it should be, some."""
    folder = world.folder / "everything"
    store = android.Store(folder / "phone" / android.CURRENT)
    notes = store.voice_notes(4)
    store.voice_notes(1, seed=90)
    notes[3].location.write_bytes(notes[3].data[:-300])
    database = Msgstore(store.root / "Databases/msgstore.db")
    family = database.chat(android.FAMILY, subject="Family")
    for number, note in enumerate(notes[1:]):
        database.message(family, f"3EB0{number}", sent=note.sent_ms, sender=android.ANNA, file=note.original_path, data=None)
    lost = "Media/WhatsApp Voice Notes/202401/PTT-20240104-WA0000.opus"
    database.message(family, "3EB0LOST", sent=1704362400000, sender=android.BEN, file=lost, media_duration=67)
    database.close()
    (folder / "phone/Recordings").mkdir()
    (folder / "phone/Recordings/20260303_140500.m4a").write_bytes(encoded("m4a", 1))
    chat = telegram.Chat("Anna", 4711, "personal_chat")
    chat.voice(1, opus_note(2, 71))
    chat.voice(2, None, file=telegram.NOT_INCLUDED, duration_seconds=61, sender=("Anna", "user4711"))
    telegram.export_chat(folder / "ChatExport_1", chat)
    memos = voice_memos.Recordings(folder / "memos")
    memos.memo(None, title="First steps", duration=5)
    memos.close()
    return folder


def test_a_scan_tells_every_store_and_accounts_for_every_note(world: World, phone: Path) -> None:
    """Each store is named with what it is and its notes; what is missing, never downloaded, orphaned or damaged is counted where it is."""
    text = world.backup("scan", "everything").text
    for line in (
        "everything (telegram): 1 note, ",
        f"  {phone}/ChatExport_1: a Telegram export of Anna",
        "  1 not downloaded: ",
        "everything (voice-memos): 0 notes, ",
        "everything (whatsapp-android): 4 notes, ",
        f"  {phone}/phone/{android.CURRENT}: WhatsApp on Android, with a readable database",
        "  1 missing: ",
        "  1 orphan: ",
        "  1 damaged: ",
        "everything (folder): 1 note, ",
        f"  {phone}/phone/Recordings: recordings of a recorder app",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("show", "rows"),
    [
        ("missing", [("missing", "Family", "2024-01-04T10:00:00Z", 67), ("not-downloaded", "Anna", "2026-03-01T10:00:00Z", 61),
                     ("not-downloaded", "Voice Memos", "2026-03-03T14:05:01Z", 5)]),
        ("not-downloaded", [("not-downloaded", "Anna", "2026-03-01T10:00:00Z", 61),
                            ("not-downloaded", "Voice Memos", "2026-03-03T14:05:01Z", 5)]),
        ("omitted", []),
    ],
)  # fmt: skip
def test_messages_without_their_recording_are_listed(world: World, phone: Path, show: str, rows: list[object]) -> None:
    """Who sent them, when, how long they are, and why they are not there, for a program and for a person."""
    told = world.backup("scan", "everything", "--show", show, "--json").json
    assert [(row["absent"], row["chat"], row["sent_at"], row["duration"]) for row in told] == rows
    text = world.backup("scan", "everything", "--show", show).text
    if show == "missing":
        assert text.splitlines()[1].split()[:3] == ["2024-01-04", "15:45", "Family"]
        assert "1:07  was there once" in text
        assert "1:01  never downloaded" in text


def test_the_rest_is_listed_too(world: World, phone: Path) -> None:
    """Orphans and damaged notes are listed on demand, and only they."""
    (orphan,) = world.backup("scan", "everything", "--show", "orphan", "--json").json
    assert orphan["original_path"].endswith("PTT-20260301-WA0000.opus")
    (damaged,) = world.backup("scan", "everything", "--show", "damaged", "--json").json
    assert (damaged["damaged"], damaged["chat"]) == ("truncated", "Family")
    assert world.backup("scan", "everything", "--show", "unreadable", "--json").json == []


def test_what_cannot_be_read_is_listed(world: World, phone: Path) -> None:
    """A file and a folder that may not be read are named with the reason, and the scan says that it is not whole."""
    (phone / "ChatExport_1/voice_messages").chmod(0)
    (phone / "phone/Recordings/20260303_140500.m4a").chmod(0)
    ended = world.backup("scan", "everything", "--show", "unreadable", "--json", code=3, preexec_fn=give_up_reading_everything)
    (phone / "ChatExport_1/voice_messages").chmod(0o700)
    assert sorted((row["source"], row["path"], row["reason"]) for row in ended.json) == [
        ("everything", "ChatExport_1/voice_messages", "permission denied"),
        ("everything", "phone/Recordings/20260303_140500.m4a", "permission denied"),
    ]


def test_a_run_takes_all_stores_below_a_folder(world: World, phone: Path) -> None:
    """What a scan lists a run archives, each store with what it knows, and a second run has nothing to do."""
    ran = world.run("everything")
    assert (ran["new"], ran["unreadable"]) == (6, 0)
    records = world.records()
    assert sorted(record["chat"] or "" for record in records) == ["", "Anna", "Family", "Family", "Family", "Recordings"]
    again = world.run("everything")
    assert (again["new"], again["unchanged"], again["gone"], again["bytes_read"]) == (0, 6, 0, 0)
    assert "no errors" in world.backup("check", "--read-data").text


def test_files_outside_all_stores_are_told(world: World, phone: Path) -> None:
    """Music on a phone is not archived by the way, and a scan says so."""
    (phone / "phone/Music").mkdir()
    (phone / "phone/Music/song.mp3").write_bytes(encoded("mp3", 1))
    assert "1 audio file lies outside these stores" in world.backup("scan", "everything").told


def test_the_usual_places_are_looked_at(world: World, phone: Path) -> None:
    """Without knowing any path, a person learns which stores this machine has, and the command that archives one."""
    home = world.folder / "home"
    empty = world.backup("scan", "--all")
    assert empty.text.startswith("no message store was found: none of the usual places is there")
    (home / "Downloads").mkdir()
    (home / "Downloads/song.mp3").write_bytes(encoded("mp3", 1))
    assert f"looked at {home}/Downloads" in world.backup("scan", "--all").text
    phone.rename(home / "Sync")
    text = world.backup("scan", "--all").text
    assert f"{home}/Sync/ChatExport_1" in text
    assert "song.mp3" not in text
    assert f"to archive one: backup run {home}/Sync/" in text
    stores = world.backup("scan", "--all", "--json").json
    assert [(store["type"], store["notes"]) for store in stores] == [
        ("telegram", 1), ("voice-memos", 0), ("whatsapp-android", 4), ("folder", 1),
    ]  # fmt: skip


def test_a_usual_place_that_may_not_be_read_is_said(world: World) -> None:
    """A place that exists and is closed is named with what to do."""
    closed = world.folder / "home/Downloads"
    closed.mkdir(mode=0)
    ended = world.backup("scan", "--all", code=3, preexec_fn=give_up_reading_everything)
    closed.chmod(0o700)
    assert f"{closed}: not readable: look at its permissions" in ended.told


def test_all_takes_nothing_else(world: World) -> None:
    """`--all` with a path is a mistake that is told."""
    ended = world.backup("scan", "--all", "phone", code=2)
    assert "backup scan --all" in ended.told


def test_nothing_recognised_says_where_stores_usually_are(world: World) -> None:
    """A folder without any store: what was looked for, and how to find where it might be."""
    (world.folder / "letters").mkdir()
    ended = world.backup("scan", "letters", code=2)
    assert "nothing recognised in" in ended.told
    for word in ("iPhone", "Telegram", "Voice Memos", "exported WhatsApp chat", "backup scan --all"):
        assert word in ended.told
