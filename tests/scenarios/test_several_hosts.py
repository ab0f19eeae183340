"""Several machines in one archive, and several runs of one machine: each keeps what the others have, also at the same moment."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.generators.android import ANNA, phone
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.parts import needs
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World, finish, wait_for_lock, wait_until_idle


@pytest.fixture
def desk(new_world: NewWorld, tmp_path: Path) -> World:
    """The machine that made the archive."""
    desk = new_world(tmp_path / "desk")
    desk.configure('[repository]\nhost = "desk"\n')
    return desk


@pytest.fixture
def laptop(desk: World, tmp_path: Path) -> World:
    """Another machine that keeps its notes in the same archive."""
    return World(tmp_path / "laptop", repo=desk.repo, host="laptop")


def hosts(notes: list[dict[str, Any]]) -> list[tuple[list[str], bool]]:
    """Of each note: the hosts that have it, and whether it is missing."""
    return [(sorted(note["hosts"]), note["missing_since"] is not None) for note in notes]


def test_two_hosts_with_the_same_notes_are_one_list_and_a_note_is_missing_only_when_both_miss_it(desk: World, laptop: World) -> None:
    """Two copies of one phone on two machines are one entry a note, with both hosts; one machine's loss is not yet a loss."""
    ours, theirs = phone(desk.folder / "phone", notes=3), phone(laptop.folder / "phone", notes=3)
    desk.run("phone")
    result = laptop.run("phone")
    assert (result["new"], result["bytes_added"] < len(ours.made[0].data) * 2) == (3, True)
    assert hosts(desk.records()) == [(["desk", "laptop"], False)] * 3
    ours.made[1].location.unlink()
    assert desk.run("phone")["gone"] == 1
    assert hosts(laptop.records()) == [(["desk", "laptop"], False)] * 3
    theirs.made[1].location.unlink()
    assert laptop.run("phone")["gone"] == 1
    both = desk.records()
    assert hosts(both) == [(["desk", "laptop"], False), (["desk", "laptop"], True), (["desk", "laptop"], False)]
    assert laptop.backup("chats", "--json").json == desk.backup("chats", "--json").json
    assert [(row["host"], row["notes"]) for row in desk.backup("snapshots", "--json").json] == [
        ("desk", 3), ("laptop", 3), ("desk", 3), ("laptop", 3),
    ]  # fmt: skip


def test_a_host_without_the_database_adds_nothing_but_itself(desk: World, laptop: World) -> None:
    """What one machine knows only by file name is the same note as another's message, whichever ran last."""
    phone(desk.folder / "phone", notes=3)
    phone(laptop.folder / "phone", notes=4, with_database=False)
    laptop.run("phone")
    desk.run("phone")
    first = desk.records()
    assert [(note["chat"], sorted(note["hosts"])) for note in first] == [("Family", ["desk", "laptop"])] * 3 + [(None, ["laptop"])]
    laptop.run("phone")
    assert [(note["chat"], note["sent_at"]) for note in desk.records()] == [(note["chat"], note["sent_at"]) for note in first]


@pytest.mark.parametrize("last", ["desk", "laptop"])
def test_a_forwarded_note_is_missing_in_no_chat_while_another_host_has_its_file(desk: World, laptop: World, last: str) -> None:
    """One recording in two chats on one machine, a bare file on the other: both entries know both hosts, whichever ran last."""
    store = phone(desk.folder / "phone", notes=0, with_database=False)
    [made] = store.voice_notes(1)
    [copy] = phone(laptop.folder / "phone", notes=0, with_database=False).voice_notes(1)
    assert made.data == copy.data
    database = Msgstore(store.root / "Databases/msgstore.db")
    for number, title in enumerate(["Family", "Wedding"]):
        chat = database.chat(f"12036300{number}@g.us", subject=title)
        database.message(chat, f"K{number}", sent=made.sent_ms + number, sender=ANNA, file=made.original_path, data=made.data)
    database.close()
    store.put("Media/WhatsApp Voice Notes/202610/PTT-20260302-WA0009.opus", opus_note(1.0, seed=77))
    for machine in (desk, laptop) if last == "laptop" else (laptop, desk):
        machine.run("phone")
    both = [(note["chat"], hosts([note])[0]) for note in desk.records()[:2]]
    assert both == [("Family", (["desk", "laptop"], False)), ("Wedding", (["desk", "laptop"], False))]
    made.location.unlink()
    assert desk.run("phone")["gone"] == 2
    if last == "laptop":
        laptop.run("phone")
    assert hosts(desk.records()) == [(["desk", "laptop"], False)] * 2 + [(["desk"], False)]


def test_two_hosts_may_run_at_the_same_time(desk: World, laptop: World) -> None:
    """Neither waits for the other, neither is refused, and both snapshots are whole."""
    needs("restic")
    phone(desk.folder / "phone", notes=6)
    phone(laptop.folder / "phone", notes=9)
    begun = [machine.start("run", "phone", "--json") for machine in (desk, laptop)]
    ended = [finish(process) for process in begun]
    assert [(one.code, one.json["notes"]) for one in ended] == [(0, 6), (0, 9)]
    assert hosts(desk.records()) == [(["desk", "laptop"], False)] * 6 + [(["laptop"], False)] * 3
    assert "no errors were found" in desk.restic("check", "--read-data")


def test_overlapping_runs_of_one_host_hide_nothing_of_each_other(desk: World, tmp_path: Path) -> None:
    """Two accounts of one machine, or its copy in a container, run into each other: what either found is in the archive afterwards."""
    needs("restic")
    other = World(tmp_path / "other", repo=desk.repo, host="desk")
    phone(desk.folder / "phone", notes=2)
    desk.run("phone")
    slow = phone(desk.folder / "phone2", notes=0, with_database=False)
    slow.put("Media/WhatsApp Voice Notes/202630/PTT-20260721-WA0001.opus", opus_note(2.0, seed=50))
    fresh = slow.put("Media/WhatsApp Voice Notes/202630/PTT-20260721-WA0002.opus", opus_note(2.0, seed=51))
    quick = phone(other.folder / "phone3", notes=0, with_database=False)
    quick.put("Media/WhatsApp Voice Notes/202630/PTT-20260722-WA0001.opus", opus_note(2.0, seed=52))
    os.utime(fresh.location)  # written to just now: the run waits two seconds before it reads that
    first = desk.start("run", "phone2", "--json")
    wait_for_lock(desk.repo, first)
    os.utime(fresh.location)  # and two seconds from here on, however long it took to come so far
    wait_until_idle(first)
    first.send_signal(signal.SIGSTOP)
    assert other.run("phone3")["notes"] == 3
    first.send_signal(signal.SIGCONT)
    ended = finish(first)
    assert (ended.code, ended.json["notes"]) == (0, 5)
    parents = [snapshot.get("parent") for snapshot in json.loads(desk.restic("snapshots", "--json"))]
    assert parents[1] == parents[2] != parents[0]
    assert len(desk.records()) == 5
    assert (desk.run("phone", "phone2")["notes"], len(desk.records())) == (5, 5)
    assert "no errors were found" in desk.restic("check", "--read-data")
