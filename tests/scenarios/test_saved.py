"""A person's own collection: saved notes are found again, whatever happens to phones, machines and snapshots."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.generators.android import phone
from tests.generators.ogg import opus_note
from tests.parts import needs
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World, finish, wait_for_lock


@pytest.fixture
def desk(new_world: NewWorld, tmp_path: Path) -> World:
    """A machine with the notes of a phone in its archive."""
    desk = new_world(tmp_path / "desk")
    desk.configure('[repository]\nhost = "desk"\n')
    phone(desk.folder / "phone", notes=4)
    desk.run("phone")
    return desk


def ids(records: list[dict[str, Any]]) -> list[str]:
    return [record["id"] for record in records]


def saved(world: World) -> list[str]:
    return ids(world.records("--saved"))


def test_saved_notes_are_listed_and_given_back_by_themselves(desk: World) -> None:
    """`save` needs the first digits of an id; list, restore and export then know the collection, until `unsave`."""
    needs("restic")
    every = ids(desk.records())
    assert desk.backup("save", every[2][:8], "latest").text == "saved: 2 notes\n"
    assert saved(desk) == every[2:]
    assert [record["saved"] for record in desk.records()] == [False, False, True, True]
    desk.backup("restore", "--saved", "--to", "mine")
    assert len([path for path in (desk.folder / "mine").rglob("*.opus")]) == 2
    assert [line.split()[-1] for line in desk.backup("list", "--saved").text.splitlines()[1:]] == ["saved", "saved"]
    ended = desk.backup("unsave", every[3], "--json").json
    assert list(ended) == ["snapshot", "notes", "destinations"]
    assert ended["notes"] == [{"id": every[3], "saved": False, "changed": True}]
    assert saved(desk) == every[2:3]
    desk.restic("check", "--read-data")


def test_what_is_saved_stays_saved(desk: World) -> None:
    """Later runs carry the marks, also when the phone loses the notes, and without the snapshot in which they were saved."""
    needs("restic")
    [one, *_] = ids(desk.records())
    snapshot = desk.backup("save", one, "--json").json["snapshot"]
    for path in (desk.folder / "phone").rglob("*WA0000.opus"):
        path.unlink()
    assert desk.run("phone")["gone"] == 1
    desk.restic("forget", snapshot)
    assert saved(desk) == [one]
    assert desk.backup("list", "--saved").text.splitlines()[1].endswith("gone, saved")
    desk.restic("check", "--read-data")


def test_saving_twice_changes_nothing(desk: World) -> None:
    """What is as it should be makes no snapshot; it is said and is no failure."""
    [one, *_] = ids(desk.records())
    desk.backup("save", one)
    before = desk.backup("snapshots", "--json").json
    assert desk.backup("save", one).text == "saved: 0 notes; 1 already was\n"
    assert desk.backup("save", one, "--json").json == {
        "snapshot": None, "notes": [{"id": one, "saved": True, "changed": False}], "destinations": [],
    }  # fmt: skip
    assert desk.backup("snapshots", "--json").json == before
    desk.backup("unsave", one)
    assert desk.backup("unsave", one).text == "no longer saved: 0 notes; 1 was not saved\n"


def test_a_word_that_names_no_note_marks_none(desk: World) -> None:
    """Of several words one is wrong: exit code 2, and nothing was done."""
    [one, *_] = ids(desk.records())
    assert 'no note begins with "0bad0bad"' in desk.backup("save", one, "0bad0bad", code=2).told
    assert "is not the id of a note" in desk.backup("save", "x", code=2).told
    assert saved(desk) == []


def test_machines_share_one_collection(desk: World, tmp_path: Path) -> None:
    """What one machine saves all see, also one that has no notes itself; what another takes back is gone for all."""
    needs("restic")
    laptop = World(tmp_path / "laptop", repo=desk.repo, host="laptop")
    one, two, *_ = ids(desk.records())
    laptop.backup("save", one)
    desk.backup("save", two)
    assert saved(desk) == saved(laptop) == [one, two]
    desk.backup("unsave", one)
    laptop.backup("unsave", two)
    assert saved(desk) == saved(laptop) == []
    laptop.backup("save", one)
    phone(laptop.folder / "phone", notes=1)
    assert laptop.run("phone")["notes"] == 1
    assert (saved(desk), len(desk.records())) == ([one], 4)
    assert ids(desk.records("--snapshot", "latest", "--saved")) == ids(desk.records("--snapshot", "latest")) == [one]
    desk.restic("check", "--read-data")


def test_the_collection_outlives_the_machine_that_began_it(desk: World, tmp_path: Path) -> None:
    """What a laptop saved stays saved when the laptop is gone and its snapshots are forgotten: the other machines' runs carry it."""
    needs("restic")
    laptop = World(tmp_path / "laptop", repo=desk.repo, host="laptop")
    one, *_ = ids(desk.records())
    snapshot = laptop.backup("save", one, "--json").json["snapshot"]
    desk.run("phone")
    desk.restic("forget", snapshot)
    assert saved(desk) == [one]


def test_a_note_can_be_saved_while_a_run_is_at_work(desk: World) -> None:
    """The nightly job takes hours; saving does not wait for it, and neither loses what the other did."""
    needs("restic")
    [one, *_] = ids(desk.records())
    more = phone(desk.folder / "more", notes=0, with_database=False)
    more.put("Media/WhatsApp Voice Notes/202630/PTT-20260721-WA0001.opus", opus_note(2.0, seed=50))
    run = desk.start("run", "more", "--json")
    wait_for_lock(desk.repo, run)
    run.send_signal(signal.SIGSTOP)
    assert desk.backup("save", one).text == "saved: 1 note\n"
    run.send_signal(signal.SIGCONT)
    assert finish(run).code == 0
    assert (saved(desk), len(desk.records())) == ([one], 5)
    desk.run("phone")
    assert (saved(desk), len(desk.records())) == ([one], 5)
    assert "no errors were found" in desk.restic("check", "--read-data")
