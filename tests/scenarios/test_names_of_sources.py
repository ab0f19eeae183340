"""What a source is called, and that no two folders are ever taken for one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.generators.ogg import opus_note
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World

MOMENT = 1_772_546_700


@pytest.fixture
def world(new_world: NewWorld, tmp_path: Path) -> World:
    """A machine with an archive."""
    return new_world(tmp_path / "pc")


def recorder(folder: Path, **files: bytes) -> None:
    """A recorder's folder; all its files are of one moment, as from a device without a clock."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.opus").write_bytes(data)
        os.utime(folder / f"{name}.opus", (MOMENT, MOMENT))


def test_a_folder_that_gets_a_name_in_the_settings_still_tells_what_is_gone(world: World) -> None:
    """First typed as a path, then configured: the same folder under its new name, whose deletions are noticed."""
    recorder(world.folder / "memos", one=opus_note(1, seed=1), two=opus_note(1, seed=2))
    assert world.run("memos")["new"] == 2
    world.configure(f'[sources.recorder]\npath = "{world.folder / "memos"}"\n')
    assert world.run()["new"] == 0
    (world.folder / "memos/one.opus").unlink()
    assert (world.run()["gone"], world.run("memos")["gone"]) == (1, 1)
    assert [record["missing_since"] is not None for record in world.records()] == [True, False]


def test_two_folders_called_alike_are_two_sources_even_without_a_state_folder(world: World) -> None:
    """Where nothing can be remembered from run to run, both are archived all the same, and the trouble is told."""
    recorder(world.folder / "anna/memos", one=opus_note(1, seed=1))
    recorder(world.folder / "ben/memos", one=opus_note(1, seed=2))
    (world.folder / "no folder").write_bytes(b"")
    env = {"BACKUP_STATE_DIR": str(world.folder / "no folder/state")}
    done = world.backup("run", "anna/memos", "ben/memos", "--json", env=env)
    assert done.json["new"] == 2
    assert "warning: what one run tells the next could not be kept" in done.told


def test_two_recordings_of_one_name_size_and_moment_are_both_kept(world: World) -> None:
    """A second device whose files are called, sized and dated like those of the first is read, not taken for the first."""
    first, second = opus_note(1, seed=1), bytearray(opus_note(1, seed=1))
    second[-1] ^= 1
    recorder(world.folder / "a", REC001=first)
    recorder(world.folder / "b", REC001=bytes(second))
    assert world.run("a")["new"] == 1
    assert world.run("a", "b")["new"] == 1
    assert len({record["id"] for record in world.records()}) == 2


@pytest.mark.parametrize("kind", ["folder", "auto"])
def test_a_folder_that_is_empty_tonight_is_told_and_loses_nothing(world: World, kind: str) -> None:
    """An unmounted disk looks like an empty folder: exit 3, and its notes are neither gone nor missing."""
    recorder(world.folder / "memos", one=opus_note(1, seed=1))
    world.configure(f'[sources.recorder]\ntype = "{kind}"\npath = "{world.folder / "memos"}"\n')
    world.run()
    (world.folder / "memos/one.opus").unlink()
    told = world.run(code=3)
    assert (told["gone"], told["unchanged"]) == (0, 1)
    assert "its notes stay as they are" in told["errors"][0]["reason"]
