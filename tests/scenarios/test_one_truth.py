"""One note, whichever of the stores of a family has it: a phone, the chat exported from it, a folder of files, a relative's phone."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from tests.generators.android import ANNA, BEN, CURRENT, FAMILY, Made, Store, phone
from tests.generators.chat_export import WRITERS, Line, voice_name, zipped
from tests.generators.chatstorage import ChatStorage
from tests.generators.iphone_backup import WHATSAPP, IPhoneBackup
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.generators.old import put_old
from tests.parts import needs
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World

ME = "491700000000@s.whatsapp.net"
BENS_LID = "77001100220033@lid"
NAMES = {ANNA: "Anna", BEN: "Ben"}
IPHONE, ANDROID = WRITERS["iphone british"], WRITERS["android german"]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_messages(store: Store, chats: dict[str, list[Made]], titles: dict[str, str], **how: Any) -> None:
    """The database anew: whose notes are in which chat. `how` gives what is told of each message."""
    path = store.root / "Databases/msgstore.db"
    path.unlink(missing_ok=True)
    database = Msgstore(path)
    for lid, person in how.pop("identities", {}).items():
        database.map_lid(lid, person)
    for jid, notes in chats.items():
        chat = database.chat(jid, subject=titles.get(jid))
        for made in notes:
            database.message(
                chat, "3EB0" + digest(made.data)[:8].upper(), sent=made.sent_ms, file=made.original_path, data=made.data, **how
            )
    database.close()


def export(folder: Path, notes: list[Made], title: str, *, writer: Any = IPHONE, first: int = 1, name: str = "") -> Path:
    """A chat as its phone shares it: its messages in local time (here UTC), the notes numbered from `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {voice_name(writer, made.sent, first + number): made.data for number, made in enumerate(notes)}
    lines = [Line(datetime(2026, 2, 27, 9, 30), "Anna", "The first words of this chat")]
    lines += [Line(made.sent.replace(tzinfo=None), "Anna", file=name) for made, name in zip(notes, files, strict=True)]
    own, data = zipped(writer, title, lines, files)
    path = folder / (name or own)
    path.write_bytes(data)
    return path


def configure(world: World, *sources: str) -> None:
    """These folders as the sources of every run, in this order."""
    parts = [f'[sources.{name}]\npath = "{world.folder / name}"\ntimezone = "UTC"\n' for name in sources]
    world.configure("".join(parts))


def told(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What a person is told of each note."""
    fields = ("id", "chat", "chat_id", "message_id", "sender", "from_me", "sent_at", "sent_at_from", "kind", "missing_since")
    return [tuple(record[field] for field in fields) for record in records]


def make_family(world: World, notes: int = 4) -> Store:
    """A phone with a group, the group exported from it, and its notes once more in a plain folder."""
    store = phone(world.folder / "phone", notes=notes, with_database=False)
    write_messages(store, {FAMILY: store.made}, {FAMILY: "Family"}, sender=ANNA)
    export(world.folder / "exports", store.made, "Family")
    (world.folder / "folder").mkdir()
    for made in store.made:
        put_old(world.folder / "folder" / made.location.name, made.data)
    return store


def test_a_phone_its_exported_chat_and_a_folder_are_one_list_in_any_order(world: World, new_world: NewWorld, tmp_path: Path) -> None:
    """Met in one run or night after night, in whatever order: each note is listed once, as the database knows it, and stored once."""
    needs("restic")
    store = make_family(world)
    configure(world, "phone", "exports", "folder")
    assert world.run()["notes"] == 4
    known = told(world.records())
    assert {(chat, kind, time, missing) for _, chat, _, _, _, _, _, time, kind, missing in known} == {("Family", "voice", "message", None)}
    assert [[place["source"] for place in record["found"]] for record in world.records()] == [["exports", "folder", "phone"]] * 4
    blobs = world.restic("list", "blobs").splitlines()
    assert all(sum(digest(made.data) in line for line in blobs) == 1 for made in store.made)
    again = world.run()
    assert (again["new"], again["bytes_read"], told(world.records())) == (0, 0, known)
    assert "no errors were found" in world.restic("check", "--read-data")
    for number, order in enumerate(permutations(["phone", "exports", "folder"])):
        other = new_world(tmp_path / f"world {number}")
        for name in order:
            (other.folder / name).symlink_to(world.folder / name)
        configure(other, *order)
        for name in order[: number % 2] or order:
            other.run(name)
        other.run()
        assert told(other.records()) == known
        assert other.run()["bytes_read"] == 0


def test_a_file_that_a_database_joins_with_an_older_record_is_not_read_again(world: World) -> None:
    """Two files of a folder look like two notes until, later in the same run, a message shows that they are one: all places stay."""
    store = make_family(world)
    for number, made in enumerate(store.made):
        put_old(world.folder / "folder" / voice_name(IPHONE, made.sent, 1 + number), made.data)
    configure(world, "folder", "phone", "exports")
    world.run("exports")
    assert world.run("folder", "phone")["notes"] == 4
    assert [[place["source"] for place in record["found"]] for record in world.records()] == [["exports", "folder", "folder", "phone"]] * 4
    assert world.run()["bytes_read"] == 0


def test_two_copies_in_one_folder_are_of_the_exported_note_of_their_name(world: World) -> None:
    """An Android export tells minutes, a bare file its day: that both have no seconds makes no second note of a copy."""
    store = phone(world.folder / "phone", notes=1, with_database=False)
    export(world.folder / "exports", store.made, "Family", writer=ANDROID, first=0)
    (world.folder / "folder").mkdir()
    for name in ("", " (1)"):
        put_old(world.folder / f"folder/PTT-20260301-WA0000{name}.opus", store.made[0].data)
    configure(world, "exports", "folder")
    assert world.run()["notes"] == 1
    assert world.run()["bytes_read"] == 0


def test_an_exported_chat_becomes_the_chat_that_the_database_knows(world: World) -> None:
    """Archived from an export first: with the phone, its notes become messages; what the phone has lost stays in the same chat."""
    store = make_family(world)
    configure(world, "phone", "exports")
    world.run("exports")
    assert {(note["chat"], note["chat_id"], note["message_id"]) for note in world.records()} == {("Family", "export:Family", None)}
    lost = store.made.pop(1)
    lost.location.unlink()
    write_messages(store, {FAMILY: store.made}, {FAMILY: "Family"}, sender=ANNA)
    result = world.run()
    assert (result["notes"], result["new"], result["gone"]) == (4, 0, 0)
    assert result["bytes_added"] < sum(len(made.data) for made in store.made)
    notes = world.records()
    assert {(note["chat"], note["chat_id"]) for note in notes} == {("Family", FAMILY)}
    assert [note["message_id"] is None for note in notes] == [False, True, False, False]
    for name in ("Family", "fam", FAMILY, "export:Family"):
        assert world.records("--chat", name) == notes
    assert {(row["chat"], row["chat_id"]) for row in world.backup("chats", "--json").json} == {("Family", FAMILY)}
    world.backup("restore", "--chat", "family", "--to", "out")
    assert len(list((world.folder / "out/Family").iterdir())) == 4


def test_an_exported_chat_whose_title_two_chats_have_stays_apart(world: World) -> None:
    """Nobody knows which of two groups of one name it was exported from: it is a chat of its own until a message tells."""
    store = make_family(world, notes=3)
    known, other, lost = store.made
    lost.location.unlink()
    write_messages(store, {FAMILY: [known], "120363000000000002@g.us": [other]}, {FAMILY: "Family", "120363000000000002@g.us": "Family"})
    configure(world, "phone", "exports")
    world.run()
    assert [note["chat_id"] for note in world.records()] == [FAMILY, "120363000000000002@g.us", "export:Family"]
    assert "3 chats match" in world.backup("list", "--chat", "Fam", code=2).told


def test_an_export_whose_chat_gets_its_title_later_becomes_part_of_it(world: World) -> None:
    """Two chats until the phone calls the group as the export does; then each note is one, found in both, and is missed by neither."""
    store = phone(world.folder / "phone", notes=3, with_database=False)
    export(world.folder / "exports", store.made, "Grandchildren")
    export(world.folder / "exports", store.made, "Grandchildren", first=20, name="WhatsApp Chat - Grandchildren (1).zip")
    configure(world, "exports", "phone")
    write_messages(store, {FAMILY: store.made}, {FAMILY: "Family"}, sender=ANNA)
    assert world.run()["notes"] == 6
    write_messages(store, {FAMILY: store.made}, {FAMILY: "Grandchildren"}, sender=ANNA)
    for _ in range(2):
        result = world.run()
        assert (result["notes"], result["new"], result["gone"], result["bytes_read"]) == (3, 0, 0, 0)
        notes = world.records()
        assert {(note["chat"], note["chat_id"]) for note in notes} == {("Grandchildren", FAMILY)}
        assert [[place["source"] for place in note["found"]] for note in notes] == [["exports", "exports", "phone"]] * 3


def test_two_exports_of_one_chat_are_one(world: World) -> None:
    """A later export of the same chat, whose files have other numbers and which begins later, adds only what is new in it."""
    store = phone(world.folder / "phone", notes=6, with_database=False)
    export(world.folder / "exports", store.made[:4], "Family")
    configure(world, "exports")
    assert world.run()["notes"] == 4
    export(world.folder / "exports", store.made[2:], "Family", first=31, name="WhatsApp Chat - Family (1).zip")
    result = world.run()
    assert (result["notes"], result["new"]) == (6, 2)
    assert {note["chat_id"] for note in world.records()} == {"export:Family"}
    again = world.run()
    assert (again["notes"], again["bytes_read"]) == (6, 0)


def test_a_relatives_phone_adds_what_only_it_has(world: World) -> None:
    """A group that both are in is there once; their own conversation, as each phone shows it; no audio is stored twice."""
    needs("restic")
    mine = phone(world.folder / "phone", notes=3, with_database=False)
    hers = phone(world.folder / "annas", notes=4, with_database=False)
    assert [made.data for made in hers.made[:3]] == [made.data for made in mine.made]
    write_messages(mine, {FAMILY: mine.made[:2], ANNA: mine.made[2:]}, {FAMILY: "Family"}, from_me=True)
    write_messages(hers, {FAMILY: [*hers.made[:2], hers.made[3]], ME: [hers.made[2]]}, {FAMILY: "Family"}, sender=ME)
    configure(world, "phone", "annas")
    assert world.run()["notes"] == 5
    notes = world.records()
    assert [(note["chat_id"], note["from_me"]) for note in notes] == [
        (FAMILY, True), (FAMILY, True), (ANNA, True), (ME, False), (FAMILY, False),
    ] or [(note["chat_id"], note["from_me"]) for note in notes] == [
        (FAMILY, True), (FAMILY, True), (ME, False), (ANNA, True), (FAMILY, False),
    ]  # fmt: skip
    blobs = world.restic("list", "blobs").splitlines()
    assert all(sum(digest(made.data) in line for line in blobs) == 1 for made in hers.made)
    for order in (["annas"], ["phone"], []):
        assert world.run(*order)["new"] == 0
        assert told(world.records()) == told(notes), order


def iphone_backup(folder: Path, notes: list[Made], work: Path) -> None:
    """The backup of an iPhone on which the group has these notes: under other names, with times to the second."""
    backup = IPhoneBackup(folder / "00008101-0000000000000001")
    storage = ChatStorage(work / "ChatStorage.sqlite")
    family = storage.chat(FAMILY, "Family", kind=1)
    anna = storage.member(family, ANNA)
    for made in notes:
        name = digest(made.original_path.encode())[:32]
        inside = f"Media/{FAMILY}/{name[0]}/{name[1]}/{name}.opus"
        key, sent = "3EB0" + digest(made.data)[:8].upper(), made.sent_ms // 1000
        storage.message(family, key, sent=sent, member=anna, file=inside)
        backup.put(WHATSAPP, f"Message/{inside}", made.data)
    backup.put_database(WHATSAPP, "ChatStorage.sqlite", storage.close())
    backup.close()


def test_an_iphone_and_an_android_phone_of_one_group_are_one_list_in_any_order(world: World, new_world: NewWorld, tmp_path: Path) -> None:
    """One message has one id on every phone: each note is listed once, though the files have other names, and none is read twice."""
    store = phone(world.folder / "android", notes=4, with_database=False)
    write_messages(store, {FAMILY: store.made[:3]}, {FAMILY: "Family"}, sender=ANNA)
    store.made[3].location.unlink()
    iphone_backup(world.folder / "iphone", store.made[1:], world.folder)
    configure(world, "android", "iphone")
    assert world.run()["notes"] == 4
    notes = world.records()
    assert [[place["source"] for place in note["found"]] for note in notes] == [
        ["android"], ["android", "iphone"], ["android", "iphone"], ["iphone"],
    ]  # fmt: skip
    assert {(note["chat_id"], note["sent_at_from"]) for note in notes} == {(FAMILY, "message")}
    again = world.run()
    assert (again["new"], again["bytes_read"], world.records()) == (0, 0, notes)
    other = new_world(tmp_path / "other")
    for name in ("android", "iphone"):
        (other.folder / name).symlink_to(world.folder / name)
    configure(other, "android", "iphone")
    other.run("iphone")
    assert other.run()["notes"] == 4
    assert told(other.records()) == told(notes)


def test_an_exported_chat_on_one_machine_and_the_phone_on_another_are_one_list(new_world: NewWorld, tmp_path: Path) -> None:
    """The view of all machines merges what they know, whichever ran last; a note is missing only when all miss it."""
    desk = new_world(tmp_path / "desk")
    laptop = World(tmp_path / "laptop", repo=desk.repo)
    store = make_family(desk)
    shutil.move(desk.folder / "exports", laptop.folder / "exports")
    first, second = '[repository]\nhost = "desk"\n', '[repository]\nhost = "laptop"\n'
    desk.configure(first + f'[sources.phone]\npath = "{desk.folder}/phone"\n')
    laptop.configure(second + f'[sources.exports]\npath = "{laptop.folder}/exports"\ntimezone = "UTC"\n')
    lost = store.made[0]
    lost.location.unlink()
    write_messages(store, {FAMILY: store.made[1:]}, {FAMILY: "Family"}, sender=ANNA)
    listed = []
    for order in ([desk, laptop], [laptop, desk]):
        for machine in order:
            machine.run()
        listed.append([(*one[:-1], sorted(note["hosts"])) for one, note in zip(told(desk.records()), desk.records(), strict=True)])
    assert listed[0] == listed[1]
    assert [(chat, message is None, hosts) for _, chat, _, message, *_, hosts in listed[0]] == [
        ("Family", True, ["laptop"]), *[("Family", False, ["desk", "laptop"])] * 3,
    ]  # fmt: skip
    assert {note["chat_id"] for note in desk.records()} == {FAMILY}


def test_a_person_whose_number_is_learned_later_is_the_same_person(world: World) -> None:
    """A chat under a hidden identity becomes the chat of its number, and stays that when the identity is a riddle again."""
    store = phone(world.folder / "phone", notes=3, with_database=False)
    write_messages(store, {BENS_LID: store.made}, {})
    world.run("phone")
    assert {note["chat_id"] for note in world.records()} == {BENS_LID}
    write_messages(store, {BENS_LID: store.made}, {}, identities={BENS_LID: BEN})
    result = world.run("phone")
    assert (result["notes"], result["new"], result["bytes_read"]) == (3, 0, 0)
    known = world.records()
    assert {note["chat_id"] for note in known} == {BEN}
    write_messages(store, {BENS_LID: store.made}, {})
    assert world.run("phone")["notes"] == 3
    assert told(world.records()) == told(known)


def test_a_night_that_knows_less_takes_nothing_back(world: World) -> None:
    """Without the database, or without the exports, all stays known; with them it comes to the same records again."""
    store = make_family(world)
    configure(world, "phone", "exports", "folder")
    world.run()
    known = world.records()
    database = store.root / "Databases/msgstore.db"
    shutil.move(database, world.folder / "aside.db")
    assert world.run()["notes"] == 4
    assert told(world.records()) == told(known)
    shutil.move(world.folder / "exports", world.folder / "aside")
    assert world.run(code=3)["notes"] == 4
    assert told(world.records()) == told(known)
    shutil.move(world.folder / "aside.db", database)
    shutil.move(world.folder / "aside", world.folder / "exports")
    world.run()
    assert world.records() == known


def test_a_second_copy_of_a_note_is_not_read_again_each_night(world: World) -> None:
    """A duplicate below another folder costs one reading, whatever its own time is."""
    store = phone(world.folder / "phone", notes=3)
    twin = world.folder / "phone" / CURRENT / "Media/WhatsApp Voice Notes/209901" / store.made[0].location.name
    twin.parent.mkdir(parents=True)
    twin.write_bytes(store.made[0].data)
    assert world.run("phone")["notes"] == 3
    for _ in range(2):
        result = world.run("phone")
        assert (result["notes"], result["bytes_read"]) == (3, 0)
    twin.unlink()
    world.run("phone")
    assert [len(note["found"]) for note in world.records()] == [1, 1, 1]


def test_a_note_deleted_by_an_older_snapshot_is_dropped_from_the_newest(world: World) -> None:
    """A run that overlapped the deletion brought the note along once more: the next run takes it out, though the phone has it still."""
    needs("restic")
    store = phone(world.folder / "phone", notes=4)
    world.run("phone")
    unwanted = digest(store.made[1].data)
    host = json.loads(world.restic("snapshots", "--json"))[0]["hostname"]
    (world.folder / "out/voice-notes/phone/catalog").mkdir(parents=True)
    deleted = {"id": unwanted, "deleted_at": "2026-04-01T00:00:00Z"}
    (world.folder / "out/voice-notes/phone/catalog/deleted.jsonl").write_text(json.dumps(deleted) + "\n")
    (world.folder / "out/voice-notes/phone/notes").mkdir()
    world.restic("backup", "--host", host, "--time", "2026-01-01 00:00:00", "voice-notes", cwd=world.folder / "out")
    result = world.run("phone")
    assert (result["notes"], result["new"], result["deleted"]) == (3, 0, 1)
    assert unwanted not in {note["id"] for note in world.records()}
    assert not any(Path(path).name == store.made[1].location.name for path in world.files())


@pytest.mark.parametrize("writer", [IPHONE, ANDROID])
def test_identical_notes_at_different_times_of_one_chat_stay_two(world: World, writer: Any) -> None:
    """The same recording sent twice is two notes, in the export alone and with a phone that has only one of them left."""
    store = phone(world.folder / "phone", notes=2, with_database=False)
    first = store.made[0]
    again = store.put(store.made[1].original_path, first.data, store.made[1].sent)
    export(world.folder / "exports", [first, again], "Family", writer=writer)
    configure(world, "exports", "phone")
    assert world.run("exports")["notes"] == 2
    again.location.unlink()
    write_messages(store, {FAMILY: [first]}, {FAMILY: "Family"}, sender=ANNA)
    assert world.run()["notes"] == 2
    assert [note["message_id"] is None for note in world.records()] == [False, True]
    assert len({note["sent_at"][:16] for note in world.records()}) == 2


def test_a_file_that_an_export_names_twice_is_two_notes_night_after_night(world: World) -> None:
    """A note that was sent on into its own chat lies in the export once: each of its messages is listed."""
    store = phone(world.folder / "phone", notes=1, with_database=False)
    [made] = store.made
    (world.folder / "exports").mkdir()
    name = voice_name(ANDROID, made.sent, 1)
    lines = [Line(datetime(2026, 3, 1, hour, 17), "Anna", file=name) for hour in (8, 9, 21)]
    own, data = zipped(ANDROID, "Family", lines, {name: made.data})
    (world.folder / "exports" / own).write_bytes(data)
    configure(world, "exports")
    assert world.run()["notes"] == 3
    assert [note["sent_at"] for note in world.records()] == [f"2026-03-01T{hour}:17:00Z" for hour in ("08", "09", "21")]
    again = world.run()
    assert (again["notes"], again["new"], again["bytes_read"]) == (3, 0, 0)


@pytest.mark.parametrize("memory", ["state", "records"])
def test_times_without_a_zone_stay_what_they_are_when_this_machine_moves(world: World, memory: str) -> None:
    """They are read in the zone of the first scan, also of a newer export, also without the state folder; a setting overrules it."""
    store = phone(world.folder / "phone", notes=4, with_database=False)
    named = world.folder / "recorder/AUDIO-2026-03-01-10-11-12.opus"
    named.parent.mkdir()
    put_old(named, opus_note(2, 99))
    first = export(world.folder / "exports", store.made[:3], "Family", writer=ANDROID)
    parts = "".join(f'[sources.{name}]\npath = "{world.folder / name}"\n' for name in ("exports", "recorder"))
    world.configure(parts)
    world.run(env={"TZ": "Europe/Berlin"})
    known = world.records()
    assert {note["zone"] for note in known} == {"Europe/Berlin"}
    if memory == "records":
        shutil.rmtree(world.folder / "state")
    result = world.run(env={"TZ": "America/Lima"})
    assert (result["new"], told(world.records())) == (0, told(known))
    first.unlink()
    export(world.folder / "exports", store.made, "Family", writer=ANDROID, name="WhatsApp Chat mit Family (1).zip")
    result = world.run(env={"TZ": "Asia/Tokyo"})
    assert (result["notes"], result["new"], result["gone"]) == (5, 1, 0)
    assert {note["zone"] for note in world.records()} == {"Europe/Berlin"}
    world.configure(parts.replace('exports"\n', 'exports"\ntimezone = "Asia/Kolkata"\n'))
    assert world.run()["notes"] == 5
    assert [note["sent_at"] for note in world.records()][:2] == ["2026-03-01T02:30:00Z", "2026-03-01T03:30:00Z"]


@pytest.mark.parametrize("order", [("exports", "phone"), ("phone", "exports")])
def test_a_phone_without_contacts_takes_no_name_from_a_chat(world: World, order: tuple[str, str]) -> None:
    """The title of its export is the chat's name, in all its notes, whichever was met first; with the contacts, what those say."""
    store = phone(world.folder / "phone", notes=4, with_database=False)
    write_messages(store, {ANNA: store.made[:3], BEN: store.made[3:]}, {})
    export(world.folder / "exports", store.made[:2], "Anna Müller")
    (world.folder / "names.csv").write_text("")
    configure(world, "exports", "phone")
    for name in (*order, "phone"):
        world.run(name)
    notes = world.records()
    assert [(note["chat"], note["chat_id"]) for note in notes] == [("Anna Müller", ANNA)] * 3 + [("+491700000002", BEN)]
    assert world.records("--chat", "anna") == notes[:3]
    assert [row["chat"] for row in world.backup("chats", "--json").json if row["chat_id"] == ANNA] == ["Anna Müller"] * len(
        {note["source"] for note in notes[:3]}
    )
    later = store.put(store.made[3].original_path.replace("WA0003", "WA0009"), opus_note(2, 77), store.made[3].sent)
    write_messages(store, {ANNA: [*store.made[:3], later], BEN: store.made[3:4]}, {})
    world.run("phone")
    assert [note["chat"] for note in world.records("--chat", ANNA)] == ["Anna Müller"] * 4
    (world.folder / "names.csv").write_text("+491700000001,Annie\n")
    world.configure(world.settings.read_text() + f'contacts = "{world.folder / "names.csv"}"\n')
    world.run("phone")
    assert [note["chat"] for note in world.records("--chat", "Anna Müller")] == ["Annie"] * 4


def test_a_relatives_export_is_not_filed_under_my_chat_of_the_same_title(world: World) -> None:
    """Everybody has a "Mama": two sources' chats of one title are one only when a note of both says so, or where one source has both."""
    mine = phone(world.folder / "phone", notes=3, with_database=False)
    write_messages(mine, {BEN: mine.made}, {})
    (world.folder / "names.csv").write_text("+491700000002,Mama\n")
    [his] = phone(world.folder / "his", notes=1, with_database=False).made
    other = replace(his, data=opus_note(2, 50))
    export(world.folder / "bens", [other], "Mama")
    configure(world, "bens", "phone")
    world.configure(world.settings.read_text() + f'contacts = "{world.folder / "names.csv"}"\n')
    world.run()
    assert sorted((note["chat_id"], note["source"]) for note in world.records()) == [(BEN, "phone")] * 3 + [("export:Mama", "bens")]
    assert "2 chats match" in world.backup("list", "--chat", "Mama", code=2).told
    assert [note["id"] for note in world.records("--chat", "export:Mama")] == [digest(other.data)]
    assert len(world.records("--chat", BEN)) == 3
    export(world.folder / "bens", [other, mine.made[1]], "Mama")
    assert world.run()["notes"] == 4
    assert {note["chat_id"] for note in world.records("--chat", "Mama")} == {BEN}
    assert len(world.records("--chat", "export:Mama")) == 4
    shutil.move(world.folder / "bens/WhatsApp Chat - Mama.zip", world.folder / "aside.zip")
    world.run(code=3)
    assert {note["chat_id"] for note in world.records()} == {BEN}


@pytest.mark.parametrize(("senders", "numbers"), [(("Anna", "Anna"), (1, 2)), (("Anna", "Ben"), (1, 2)), (("Anna", "Ben"), (1, 1))])
def test_one_recording_sent_twice_in_one_minute_is_two_notes(world: World, senders: tuple[str, str], numbers: tuple[int, int]) -> None:
    """By two people, or in two files: each message of an exported chat is listed, night after night, and of a newer export no more."""
    files = [f"PTT-20260301-WA{number:04}.opus" for number in numbers]
    (world.folder / "exports").mkdir()
    lines = [Line(datetime(2026, 3, 1, 14, 5), who, file=file) for who, file in zip(senders, files, strict=True)]
    lines += [Line(datetime(2026, 3, 1, 15, 5), who, "x") for who in ("Ben", "Cem")]
    own, data = zipped(ANDROID, "Family", lines, dict.fromkeys(files, opus_note(2, 7)))
    (world.folder / "exports" / own).write_bytes(data)
    configure(world, "exports")
    for again in (0, 1, 2):
        if again == 2:
            (world.folder / "exports" / own.replace(".zip", " (1).zip")).write_bytes(data)
        result = world.run()
        assert (result["notes"], result["new"]) == (2, 0 if again else 2)
        assert sorted(note["sender"] for note in world.records()) == sorted(senders)
    assert [len(note["found"]) for note in world.records()] == [2, 2]
