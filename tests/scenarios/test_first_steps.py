"""Where somebody new goes wrong: each mistake has its sentence, and costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.places import where
from tests.generators.android import phone
from tests.generators.ogg import opus_note
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World


@pytest.fixture
def world(new_world: NewWorld, tmp_path: Path) -> World:
    """A machine with a phone's folder and an archive of it."""
    made = new_world(tmp_path / "pc")
    phone(made.folder / "phone", notes=4)
    made.run("phone")
    return made


def test_every_verb_stands_alone(world: World) -> None:
    """Each command does its work in an interpreter of its own, which knows nothing but that command."""
    note = world.records()[0]["id"]
    (world.folder / "memo.opus").write_bytes(opus_note(1, seed=99))
    for line in (
        "run phone", "scan phone", "chats", "list", "search family", "restore --to given", f"extract {note} --to one.opus",
        f"extract {note} --to one.mp3 --format mp3", "export --to readable", "import memo.opus --chat family", f"save {note}",
        f"unsave {note}", "snapshots", "check --read-data", "unlock", "doctor --online", "config path", "init --repo other",
    ):  # fmt: skip
        world.backup(*line.split(), close_fds=True)


def test_an_archive_wants_a_folder_of_its_own(world: World) -> None:
    """A folder that holds anything else, and a file, are refused before a password is asked for; nothing is written."""
    (world.folder / "full").mkdir()
    (world.folder / "full/letter.txt").write_text("dear")
    for place, word in (("full", "holds something else already"), ("full/letter.txt", "is a file")):
        done = world.backup("init", "--repo", place, code=2, env={"BACKUP_PASSWORD_FILE": None})
        assert word in done.told
    assert [path.name for path in (world.folder / "full").iterdir()] == ["letter.txt"]


def test_a_name_that_is_taken_is_said(world: World) -> None:
    """Where a file of that name holds something else, the restore names it and what the note is called instead."""
    world.backup("restore", "--to", "out")
    taken = next((world.folder / "out").rglob("*.opus"))
    taken.write_bytes(b"mine")
    done = world.backup("restore", "--to", "out", code=3)
    assert f"{taken.name}: another file has this name: written as {taken.stem} (2).opus" in done.told


def test_a_home_in_quotes_is_the_home(world: World) -> None:
    """A shell leaves the ~ of --to='~/notes' as it is: it means the home all the same."""
    world.backup("restore", "--to", "~/notes")
    assert list((world.folder / "home/notes").rglob("*.opus"))
    assert not (world.folder / "~").exists()


def test_the_same_draft_twice_is_one_draft(world: World) -> None:
    """A mail draft that is there already is recognised; to stdout it comes the same."""
    note = world.records()[0]["id"]
    world.backup("extract", note, "--eml", "note.eml")
    world.backup("extract", note, "--eml", "note.eml")
    assert world.backup("extract", note, "--eml", "-").out == (world.folder / "note.eml").read_bytes()


def test_many_notes_go_to_a_place_whatever_it_is_called(tmp_path: Path) -> None:
    """Signs that no terminal shows, and very long paths, are no trouble for the workers of a large run or a large restore."""
    place = tmp_path / "family \U0001f468\u200d\U0001f469" / ("x" * 120) / ("y" * 120)
    place.mkdir(parents=True)
    world = World(tmp_path / "pc", repo=place)
    phone(world.folder / "phone", notes=450)
    world.backup("init")
    assert world.run("phone")["new"] >= 450
    assert world.backup("restore", "--to", "out", "--json").json["notes"] >= 450


def test_a_link_to_an_archive_is_that_archive(world: World) -> None:
    """Two spellings of one place are one place, so that two runs never work on it at once."""
    (world.folder / "link").symlink_to(world.repo)
    assert where(LocalDestination(world.folder / "link")) == where(LocalDestination(world.repo))


def test_a_damaged_snapshot_does_not_make_the_others_disappear(world: World) -> None:
    """One snapshot file that cannot be read is named; the others are checked, and accepting what is gone forgets none of them."""
    world.run("phone")
    first, second = sorted((world.repo / "snapshots").iterdir())
    first.chmod(0o600)
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    assert "disappeared" not in world.backup("check", code=5).told
    world.backup("check", "--accept-gone", code=5)
    second.unlink()
    assert f"snapshot {second.name[:16]} has disappeared" in world.backup("check", code=5).told
