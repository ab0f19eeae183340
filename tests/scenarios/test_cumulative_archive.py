"""What was archived once stays, whatever becomes of the phone: every clause of the first promise, night after night, on one machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from tests.generators.android import ANNA, BEN, FAMILY, FIRST_DAY, Made, Store, phone, week
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.generators.sounds import wav
from tests.parts import needs
from tests.scenarios.world import World, give_up_reading_everything


def by_path(notes: list[dict[str, object]]) -> dict[object, dict[str, object]]:
    found = {note["original_path"]: note for note in notes}
    assert len(found) == len(notes)
    return found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_database(store: Store, notes: list[Made], *, title: str = "Family", without: frozenset[str] = frozenset()) -> None:
    """The database anew: these notes in the family's chat."""
    path = store.root / "Databases/msgstore.db"
    path.unlink(missing_ok=True)
    database = Msgstore(path, without=without)
    chat = database.chat(FAMILY, subject=title)
    for note in notes:
        name = "3EB0" + digest(note.original_path.encode() + str(note.sent_ms).encode())[:8].upper()
        database.message(chat, name, sent=note.sent_ms, sender=ANNA, file=note.original_path, data=note.data, starred=1)
    database.close()


def test_a_note_deleted_on_the_phone_stays_says_since_when_and_is_whole_again_when_it_returns(world: World) -> None:
    """Deleting on the phone loses nothing: the note is counted as gone since one night, can be played, and comes back as it was."""
    store = phone(world.folder / "phone")
    first_night = world.run("phone")
    assert (first_night["new"], world.records()[3]["missing_since"]) == (8, None)
    lost = store.made[3]
    lost.location.unlink()
    before = datetime.now(UTC).replace(microsecond=0)
    result = world.run("phone")
    assert (result["notes"], result["new"], result["unchanged"], result["gone"]) == (8, 0, 7, 1)
    first = by_path(world.records())
    assert before <= datetime.fromisoformat(str(first[lost.original_path]["missing_since"])) <= datetime.now(UTC)
    assert [path for path, note in first.items() if note["missing_since"]] == [lost.original_path]
    assert world.run("phone")["gone"] == 1
    assert by_path(world.records()) == first
    assert world.audio(digest(lost.data)) == lost.data
    store.put(lost.original_path, lost.data, lost.sent)
    result = world.run("phone")
    assert (result["new"], result["unchanged"], result["gone"]) == (0, 8, 0)
    assert {note["missing_since"] for note in world.records()} == {None}
    assert [note["missing_since"] for note in world.records("--snapshot", first_night["snapshot"][:8])] == [None] * 8


@pytest.mark.parametrize("known_as", ["nothing", "the same message", "another message"])
def test_a_path_that_is_reused_for_other_audio_keeps_both(world: World, known_as: str) -> None:
    """A file overwritten by another recording takes nothing from the archive, whatever the database says of it."""
    store = phone(world.folder / "phone", notes=4, with_database=False)
    if known_as != "nothing":
        write_database(store, store.made)
    world.run("phone")
    old = store.made[1]
    new = store.put(old.original_path, opus_note(2.0, seed=99), old.sent + timedelta(hours=1))
    if known_as == "another message":
        write_database(store, [store.made[0], new, *store.made[2:4]])
    result = world.run("phone")
    assert (result["notes"], result["gone"]) == (5, 1)
    both = {note["id"]: note for note in world.records() if note["original_path"] == old.original_path}
    assert set(both) == {digest(old.data), digest(new.data)}
    assert both[digest(old.data)]["missing_since"]
    assert not both[digest(new.data)]["missing_since"]
    for made in (old, new):
        assert world.audio(digest(made.data)) == made.data
    assert world.run("phone")["notes"] == 5


def test_a_source_that_is_away_or_empty_marks_nothing(world: World) -> None:
    """An unmounted card, a bare mount point and an emptied store are no reason to believe that the notes were deleted."""
    store = phone(world.folder / "card", notes=4)
    world.configure(f'[sources.card]\npath = "{world.folder}/card"\n')
    world.run()
    there = world.records()
    shutil.move(world.folder / "card", world.folder / "away")
    result = world.run(code=3)
    assert (result["notes"], result["gone"], result["unreadable"]) == (4, 0, 0)
    assert [problem["path"] for problem in result["errors"]] == [str(world.folder / "card")]
    (world.folder / "card").mkdir()
    assert world.run(code=3)["gone"] == 0
    (world.folder / "card").rmdir()
    shutil.move(world.folder / "away", world.folder / "card")
    for made in store.made:
        made.location.unlink()
    assert world.run()["gone"] == 0
    assert world.records() == there


def test_notes_below_a_folder_that_cannot_be_read_are_carried_as_they_are(world: World) -> None:
    """A folder that may not be listed for one night makes the run incomplete; it marks none of its own notes, but others that are gone."""
    store = phone(world.folder / "phone", notes=0, with_database=False)
    made = store.voice_notes(10, a_day=1)
    closed = made[0].location.parent
    assert made[9].location.parent != closed
    world.run("phone")
    made[9].location.unlink()
    closed.chmod(0)
    try:
        result = world.run("phone", code=3, preexec_fn=give_up_reading_everything)
    finally:
        closed.chmod(0o700)
    assert (result["notes"], result["new"], result["gone"], result["unreadable"]) == (10, 0, 1, 1)
    [problem] = result["errors"]
    assert list(problem) == ["path", "reason"]
    assert problem["path"].endswith(week(made[0].sent))
    missing = [path for path, note in by_path(world.records()).items() if note["missing_since"]]
    assert missing == [made[9].original_path]


def test_a_source_that_is_not_in_this_run_marks_nothing(world: World) -> None:
    """A run of one source says nothing of another: its notes are marked by a run that looks there."""
    store = phone(world.folder / "phone", notes=4)
    song = world.folder / "memos/song.wav"
    song.parent.mkdir()
    song.write_bytes(wav(0.5))
    os.utime(song, (0, 0))
    world.run("phone", "memos")
    store.made[0].location.unlink()
    assert world.run("memos")["gone"] == 0
    assert {note["missing_since"] for note in world.records()} == {None}
    assert world.run("--source", "phone")["gone"] == 1
    assert [note["source"] for note in world.records() if note["missing_since"]] == ["phone"]


def test_a_note_of_two_sources_is_gone_only_when_both_miss_it(world: World) -> None:
    """A phone and a copy of it are one list; deleting on the phone alone marks nothing."""
    stores = [phone(world.folder / name, notes=3) for name in ("phone", "copy")]
    assert world.run("phone", "copy")["notes"] == 3
    stores[0].made[1].location.unlink()
    assert world.run("phone")["gone"] == 0
    assert world.run("phone", "copy")["gone"] == 0
    stores[1].made[1].location.unlink()
    assert world.run("phone", "copy")["gone"] == 1


def test_a_database_that_appears_later_improves_records_and_one_that_disappears_takes_nothing_away(world: World) -> None:
    """With the database notes move to their chat without being stored again; without it, or with a poorer one, all stays known."""
    needs("restic")
    store = phone(world.folder / "phone", with_database=False)
    world.run("phone")
    bare = by_path(world.records())
    assert {(note["chat"], note["sent_at_from"], str(note["sent_at"])[10:]) for note in bare.values()} == {(None, "name", "T12:00:00Z")}
    assert all("/notes/unsorted/" in path for path in world.files())
    write_database(store, store.made)
    result = world.run("phone")
    assert (result["notes"], result["new"], result["orphan"]) == (8, 0, 0)
    assert 0 < result["bytes_added"] < sum(len(made.data) for made in store.made) / 3
    known = world.records()
    assert {(note["chat"], note["sender"], note["sent_at_from"], note["starred"]) for note in known} == {
        ("Family", "+491700000001", "message", True)
    }
    sent = {made.original_path: made.sent for made in store.made}
    assert {note["original_path"]: datetime.fromisoformat(note["sent_at"]) for note in known} == sent
    assert {note["id"]: note["first_seen"] for note in known} == {note["id"]: note["first_seen"] for note in bare.values()}
    assert len(world.files()) == 8
    assert all("/notes/Family " in path for path in world.files())
    write_database(store, store.made, without=frozenset({"message.starred"}))
    assert world.run("phone")["unchanged"] == 8
    (store.root / "Databases/msgstore.db").unlink()
    assert world.run("phone")["unchanged"] == 8
    assert world.records() == known
    assert "no errors were found" in world.restic("check", "--read-data")


def test_a_renamed_source_and_a_moved_store_double_nothing_and_still_tell_what_is_gone(world: World) -> None:
    """A new name in the settings, or a new place of the folder, starts nothing anew; what is deleted afterwards is still marked."""
    store = phone(world.folder / "phone", notes=6)
    world.configure(f'[sources.phone]\npath = "{world.folder}/phone"\n')
    world.run()
    world.configure(f'[sources.pixel]\npath = "{world.folder}/phone"\n')
    result = world.run()
    assert (result["notes"], result["new"]) == (6, 0)
    assert result["bytes_added"] < 6000
    store.made[0].location.unlink()
    assert world.run()["gone"] == 1
    shutil.move(world.folder / "phone", world.folder / "moved")
    world.configure(f'[sources.pixel]\npath = "{world.folder}/moved"\n')
    assert world.run()["new"] == 0
    (world.folder / "moved" / store.made[1].location.relative_to(world.folder / "phone")).unlink()
    result = world.run()
    assert (result["notes"], result["new"], result["gone"]) == (6, 0, 2)
    assert [[place["source"] for place in note["found"]] for note in world.records() if not note["missing_since"]] == [["pixel"]] * 4


def test_a_typed_store_that_is_moved_and_named_at_another_level_doubles_nothing(world: World) -> None:
    """Paths typed today may differ from those of yesterday: the same notes are recognised, and marked when they are gone."""
    store = phone(world.folder / "phone", notes=4)
    world.run("phone")
    (world.folder / "disk").mkdir()
    shutil.move(store.root, world.folder / "disk/WhatsApp")
    shutil.rmtree(world.folder / "phone")
    result = world.run("disk/WhatsApp")
    assert (result["notes"], result["new"]) == (4, 0)
    (world.folder / "disk/WhatsApp" / store.made[2].original_path).unlink()
    result = world.run("disk/WhatsApp")
    assert (result["notes"], result["gone"]) == (4, 1)


def test_the_same_audio_in_two_chats_is_stored_once_and_listed_twice(world: World) -> None:
    """A note that was forwarded is one recording in the archive, and stands in both chats."""
    needs("restic")
    store = phone(world.folder / "phone", notes=0, with_database=False)
    once = store.voice_notes(1)[0]
    twin = store.put(once.original_path.replace("WA0000", "WA0007"), once.data, once.sent)
    database = Msgstore(store.root / "Databases/msgstore.db")
    family, anna, ben = (database.chat(jid, subject=title) for jid, title in [(FAMILY, "Family"), (ANNA, "Anna"), (BEN, "Ben")])
    database.message(family, "A1", sent=once.sent_ms, sender=BEN, file=once.original_path, data=once.data)
    database.message(anna, "A2", sent=once.sent_ms + 60_000, from_me=True, file=once.original_path, data=once.data, score=1)
    database.message(ben, "A3", sent=once.sent_ms + 90_000, sender=BEN, file=twin.original_path, data=twin.data)
    database.close()
    result = world.run("phone")
    assert (result["notes"], result["bytes_read"]) == (3, 2 * len(once.data))
    listed = world.records()
    assert [(note["chat"], note["id"], note["forwarded"]) for note in listed] == [
        ("Family", digest(once.data), False), ("Anna", digest(once.data), True), ("Ben", digest(once.data), False),
    ]  # fmt: skip
    assert sum("data" in line and digest(once.data) in line for line in world.restic("list", "blobs").splitlines()) == 1
    assert sorted(path.split("/")[4].rpartition(" ")[0] for path in world.files()) == ["Anna", "Ben", "Family"]
    assert world.run("phone")["notes"] == 3


def test_a_second_copy_that_appears_is_one_more_place_and_neither_is_read_again(world: World) -> None:
    """A note that lies where it was, and now at a place that comes after it too, is on record at both from then on."""
    first = world.folder / "card/1/PTT-20260301-WA0001.opus"
    second = world.folder / "card/2/PTT-20260301-WA0001.opus"
    for path in (first, second):
        path.parent.mkdir(parents=True)
    first.write_bytes(opus_note(2))
    os.utime(first, (1_772_400_000, 1_772_400_000))
    world.run("card")
    shutil.copy2(first, second)
    assert world.run("card")["bytes_read"] == second.stat().st_size
    (record,) = world.records()
    assert [place["path"] for place in record["found"]] == ["1/PTT-20260301-WA0001.opus", "2/PTT-20260301-WA0001.opus"]
    assert world.run("card")["bytes_read"] == 0


def test_when_most_notes_are_suddenly_gone_one_loud_warning_says_so(world: World) -> None:
    """More than half of twenty or more newly gone: they are marked, and a person is told once; fewer, or of fewer, is no alarm."""
    store = phone(world.folder / "phone", notes=40)
    world.run("phone")
    for made in store.made[:10]:
        made.location.unlink()
    quiet = world.backup("run", "phone", "--json")
    assert (quiet.json["gone"], quiet.err) == (10, b"")
    for made in store.made[10:26]:
        made.location.unlink()
    loud = world.backup("run", "phone", "--json", "--quiet")
    assert loud.json["gone"] == 26
    assert [line.startswith("warning: 16 of 30 notes are gone") for line in loud.told.splitlines()] == [True]
    for made in store.made[26:34]:
        made.location.unlink()
    few = world.backup("run", "phone", "--json")
    assert (few.json["gone"], few.err) == (34, b"")


def test_a_renamed_chat_shows_its_newest_title_and_is_found_by_every_old_one(world: World) -> None:
    """Renaming a group renames it everywhere, also for notes that are gone; the archive's own folder keeps its first name."""
    needs("restic")
    store = phone(world.folder / "phone", notes=4, with_database=False)
    for number, title in enumerate(["Wedding", "Familie Weiß", "Grandchildren"]):
        write_database(store, store.made, title=title)
        world.run("phone")
        store.made[number].location.unlink()
    assert {note["chat"] for note in world.records()} == {"Grandchildren"}
    assert [(row["chat"], row["notes"]) for row in world.backup("chats", "--json").json] == [("Grandchildren", 4)]
    for title in ("Wedding", "wedd", "familie weiss", "Grandchildren", FAMILY):
        assert len(world.records("--chat", title)) == 4
    assert {path.split("/")[4].rpartition(" ")[0] for path in world.files()} == {"Wedding"}


def test_a_note_that_a_person_deleted_from_the_archive_does_not_come_back(world: World) -> None:
    """What stands in deleted.jsonl is not archived again while it is still on the phone."""
    needs("restic")
    store = phone(world.folder / "phone", notes=4)
    world.run("phone")
    host = json.loads(world.restic("snapshots", "--json"))[0]["hostname"]
    world.restic("restore", "latest", "--target", world.folder / "out")
    catalog = world.folder / "out/voice-notes/phone/catalog"
    unwanted = digest(store.made[1].data)
    month = catalog / "2026-03.jsonl"
    month.write_text("".join(line for line in month.read_text().splitlines(True) if unwanted not in line))
    (catalog / "deleted.jsonl").write_text(json.dumps({"id": unwanted, "deleted_at": "2026-04-01T00:00:00Z"}) + "\n")
    first = json.loads(world.restic("snapshots", "--json"))[0]["id"]
    world.restic("backup", "--host", host, "voice-notes", cwd=world.folder / "out")
    world.restic("forget", first)
    result = world.run("phone")
    assert (result["notes"], result["new"], result["deleted"]) == (3, 0, 1)
    assert unwanted not in {note["id"] for note in world.records()}
    assert (world.run("phone")["deleted"], len(world.records())) == (1, 3)


def test_a_time_is_never_replaced_by_one_that_is_no_better(world: World) -> None:
    """A recording dated by its file keeps its first time when the file is touched by something later."""
    song = world.folder / "memos/song.wav"
    song.parent.mkdir()
    song.write_bytes(wav(0.5))
    for moment in (FIRST_DAY, FIRST_DAY + timedelta(days=9)):
        os.utime(song, (moment.timestamp(), moment.timestamp()))
        assert world.run("memos")["notes"] == 1
        assert [(note["sent_at"], note["sent_at_from"]) for note in world.records()] == [("2026-03-01T00:00:00Z", "file")]
