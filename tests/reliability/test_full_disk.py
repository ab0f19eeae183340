"""Disks that are full, or may not be written to: nothing half-written is visible, and what was there stays whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts import needs, needs_root
from tests.program import Ended
from tests.reliability.kills import MANY
from tests.reliability.world import World, add_notes, hashes, look_clear, new_world


@contextmanager
def disk(at: Path, size: str) -> Iterator[Path]:
    """A disk of that size."""
    needs_root()
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def remount(at: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", at], check=True)


def moved(world: World, to: Path) -> World:
    """The world with its archive at another place."""
    shutil.move(world.repo, to / "repository")
    world.repo.symlink_to(to / "repository")
    return world


@pytest.mark.parametrize("notes", [40, MANY], ids=["few", "many"])
def test_a_run_into_a_full_disk_leaves_everything_whole(tmp_path: Path, notes: int) -> None:
    """Exit 14 in one line; no half object; earlier notes come back; and once there is room, the next run completes by itself."""
    needs("restic")
    with disk(tmp_path / "disk", "12m") as at:
        world = moved(new_world(tmp_path / "w", 10, pack_size="4 MiB", database=False), at)
        world.backup("run")
        first = world.notes()
        add_notes(world, notes, seconds=16_000 / notes)
        ended = world.backup("run", code=14)
        assert ended.told.startswith("error: no space left at ")
        assert len(world.objects("snapshots")) == 1
        assert world.leftovers() == []
        for kind in ("data", "index", "snapshots"):
            assert all(hashes(path.parent)[path.name] for path in world.objects(kind)), "an object that is not what its name says"
        world.backup("check", "--read-data")
        assert world.restored("first") == first
        world.restic("check", "--no-lock", "--read-data")

        remount(at, "size=80m")
        world.backup("run")
        assert world.stored_twice() == 0
        assert world.leftovers() == []
        assert world.restored("all") == world.notes()
        world.restic("check", "--read-data")


def test_a_disk_without_any_room_can_still_be_read(tmp_path: Path) -> None:
    """With not a block left, listing, restoring and checking work, and a run says that there is no space."""
    with disk(tmp_path / "disk", "3m") as at:
        world = moved(new_world(tmp_path / "w", 10), at)
        world.backup("run")
        fill(at)
        add_notes(world, 3)
        world.backup("run", code=14)
        assert len(world.documents("list")) == 10
        ended = world.backup("check", "--read-data")
        assert "without a lock" in ended.err
        assert sum(world.restored("out").values()) == 10
        assert world.leftovers() == []


def fill(at: Path) -> None:
    """Not one block stays free."""
    with (at / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.mark.parametrize("notes", [30, MANY], ids=["few", "many"])
def test_a_restore_into_a_full_disk_leaves_no_halves(tmp_path: Path, notes: int) -> None:
    """Exit 14 before anything is written where it is known beforehand, else at once; then only whole notes are there."""
    world = new_world(tmp_path / "w", notes, seconds=8, database=False)
    world.backup("run")
    with disk(tmp_path / "disk", "8m" if notes == MANY else "300k") as at:
        # Room enough by the system's count, and not when files are made.
        world.backup("restore", "--to", at / "out", code=14)
        assert hashes(at / "out") <= world.notes()
        assert not list(at.rglob("*.part"))
        remount(at, "size=80m")
        world.backup("restore", "--to", at / "out")
        assert hashes(at / "out") == world.notes()


def test_a_restore_that_runs_out_of_space_midway_leaves_no_halves(tmp_path: Path) -> None:
    """Where space goes while it is restored (here: no more files fit), whole notes stay, halves do not; the next one completes."""
    world = new_world(tmp_path / "w", MANY, seconds=1, database=False)
    world.backup("run")
    with disk(tmp_path / "disk", "40m,nr_inodes=200") as at:
        ended = world.backup("restore", "--to", at / "out", code=14)
        assert "no space left" in ended.told
        assert 0 < sum(hashes(at / "out").values()) < MANY
        assert hashes(at / "out") <= world.notes()
        assert not list(at.rglob("*.part"))
        remount(at, "nr_inodes=2000")
        world.backup("restore", "--to", at / "out")
        assert hashes(at / "out") == world.notes()


# --- read-only ----------------------------------------------------------------------------------------------------------------------------


def test_a_read_only_disk_can_be_read_and_checked(tmp_path: Path) -> None:
    """A run says in one line that it cannot write; everything that reads works, and `check` says that it goes without a lock."""
    with disk(tmp_path / "disk", "12m") as at:
        world = moved(new_world(tmp_path / "w", 10), at)
        world.backup("run")
        before = hashes(at)
        remount(at, "ro")
        add_notes(world, 1)
        ended = world.backup("run", code=1)
        assert "mounted read-only" in ended.told
        assert len(world.documents("list")) == 10
        assert sum(world.restored("out").values()) == 10
        for words in (["check"], ["check", "--read-data"]):
            assert "checking without a lock: " in world.backup(*words).err
        for words in (["snapshots"], ["chats"], ["search", "family"], ["extract", "latest", "--to", str(tmp_path / "one")]):
            world.backup(*words)
        assert hashes(at) == before


def unprivileged(world: World, *words: str | Path) -> Ended:
    """A command of a user whom permissions bind: for root, its power to pass them over is taken away."""
    powerless: list[str] = []
    if os.geteuid() == 0:
        powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    return by_itself(world, *powerless, sys.executable, "-m", "backup_tool", *words)


def by_itself(world: World, *command: str | Path) -> Ended:
    """A command of the system, in this world."""
    env = world.env | {"PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(command, cwd=Path(__file__).parents[2], env=env, capture_output=True, timeout=100, check=False)
    ended = Ended(run.returncode, run.stdout, run.stderr)
    look_clear(ended)
    return ended


def test_an_archive_that_one_may_only_read(tmp_path: Path) -> None:
    """Without permission to write, a run ends with exit 1 and says where; reading and checking work."""
    needs("setpriv")
    world = new_world(tmp_path / "w", 5)
    world.backup("run")
    for path in (world.repo, *world.repo.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    add_notes(world, 1)
    ended = unprivileged(world, "run")
    assert ended.code == 1
    assert ended.told.startswith(f"error: no permission at {world.repo}")
    checked = unprivileged(world, "check", "--read-data")
    assert checked.code == 0
    assert "checking without a lock: no permission at " in checked.err
    assert len(json.loads(unprivileged(world, "list", "--json").out)) == 5
    assert unprivileged(world, "restore", "--to", tmp_path / "out").code == 0
    assert sum(hashes(tmp_path / "out").values()) == 5
    for path in (world.repo, *world.repo.rglob("*")):
        path.chmod(0o700)


# --- the system says no at one moment -----------------------------------------------------------------------------------------------------

# (call, error, which one of each thread): into packs, index, snapshot, lock; their syncs; their renames.
NOS = [
    ("write", "ENOSPC", 3), ("write", "ENOSPC", 6), ("fsync", "EIO", 3), ("fsync", "EIO", 5), ("fsync", "EIO", 8),
    ("rename", "ENOSPC", 2), ("rename", "EIO", 4),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "number"), NOS)
def test_one_refused_write_costs_that_run_at_most(tmp_path: Path, call: str, error: str, number: int) -> None:
    """Whichever write, sync or rename of a run fails: it says so, the archive stays sound, and the next run completes by itself."""
    needs("strace")
    world = new_world(tmp_path / "w", 6)
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={call}"]
    ended = by_itself(world, *strace, "-e", f"inject={call}:error={error}:when={number}", sys.executable, "-m", "backup_tool", "run")
    assert ended.code in (1, 14)
    assert ended.told.startswith("error: no space left at " if error == "ENOSPC" else f"error: {world.repo}: input/output error")
    assert world.objects("snapshots") == []
    world.backup("check", "--read-data")
    world.backup("run")
    assert world.leftovers() == []
    assert world.stored_twice() == 0
    assert world.restored("out") == world.notes()
