"""What `backup scan` tells of stores: all of them, with every note accounted for, and where this machine has some."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generators import android, telegram, voice_memos
from tests.generators.iphone_backup import WHATSAPP, IPhoneBackup
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
    assert empty.text.startswith("no message store was found: none of the usual places is there (~/Downloads, ")
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


def test_a_link_in_a_usual_place_is_said(world: World, phone: Path) -> None:
    """Where a usual place only has a link to a store, the person is told to name what it leads to."""
    (world.folder / "home/Sync").mkdir(parents=True)
    (world.folder / "home/Sync/iph").symlink_to(phone)
    for words in (("--all",), ("home/Sync",), ("home/Sync", "--show", "stores")):
        ended = world.backup("scan", *words, code=0 if words == ("--all",) else 2)
        assert "iph is a symbolic link, which is not followed: name the place that it leads to" in ended.told


def test_a_key_that_cannot_be_had_costs_only_its_source(world: World, phone: Path) -> None:
    """Of several sources in the settings, one whose key is away is named with what to do, and the others are scanned."""
    backup = IPhoneBackup(world.folder / "iphone", password="word")
    backup.put(WHATSAPP, "Message/Media/4917@s.whatsapp.net/a/b/ab120000-fd7d-4a7e-9d5c-0123456789ab.opus", opus_note(1))
    backup.close()
    world.configure(
        f'[sources.iphone]\npath = "{world.folder}/iphone"\nkey_file = "{world.folder}/away"\n[sources.phone]\npath = "{phone}"\n'
    )
    ended = world.backup("scan", code=3)
    assert "phone (telegram): 1 note" in ended.text
    assert f"the key file {world.folder}/away cannot be read" in ended.told
    assert "look at its path" in ended.told


def test_a_store_that_is_named_itself_bears_its_name(world: World) -> None:
    """A problem with the folder that was named is told under that folder's name, by scan and by run."""
    backup = IPhoneBackup(world.folder / "iphone", password="word")
    backup.put(WHATSAPP, "Message/Media/4917@s.whatsapp.net/a/b/ab120000-fd7d-4a7e-9d5c-0123456789ab.opus", opus_note(1))
    backup.close()
    rows = world.backup("scan", "iphone", "--show", "unreadable", "--json", code=3).json
    assert [(row["path"], row["reason"].partition(",")[0]) for row in rows] == [("iphone", "encrypted")]
    assert [error["path"] for error in world.run("iphone", code=3)["errors"]] == ["iphone"]


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
    for word in ("iPhone", "Telegram", "Voice Memos", "exported WhatsApp chat", "usually find them in ~/Downloads, ", "backup scan --all"):
        assert word in ended.told
