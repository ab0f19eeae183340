"""Killed at any moment: nothing is lost, nothing is sent twice, nobody has to tidy up."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.generators.sounds import wav
from tests.parts import needs
from tests.reliability.kills import MANY, campaign, kill_worker, look_whole
from tests.reliability.world import files, hashes, new_world
from tests.repository.forge import sha

SEED = 7


@pytest.fixture(autouse=True)
def _restic() -> None:
    needs("restic")


def test_ten_kills_lose_nothing(tmp_path: Path) -> None:
    """Whenever a run or a restore is killed, the next one completes by itself, and every note is there, once."""
    tally = campaign(10, SEED, tmp_path, seconds=12)
    print("\n".join([f"seed {SEED}", *tally.lines()]))
    assert sum(tally.kills.values()) >= 10
    assert {"few", "many", "more", "restore"} == set(+tally.kills)


def test_a_killed_worker_is_told_and_the_next_run_completes(tmp_path: Path) -> None:
    """Where the system ends one of a run's workers, the run says so, makes no snapshot, and the next one needs no help."""
    world = new_world(tmp_path / "w", MANY, seconds=6, pack_size="4 MiB", database=False)
    seeded = random.Random(SEED)
    for _ in range(3):
        ended = kill_worker(world, seeded, 0.1, "run")
        assert ended.code == 1
        assert ended.told == "error: a worker process ended unexpectedly"
        assert world.objects("snapshots") == []
        world.restic("check", "--no-lock")
    world.backup("run")
    look_whole(world)


def test_a_killed_worker_of_a_restore_is_told_and_the_next_restore_completes(tmp_path: Path) -> None:
    """A restore that loses one of its workers says so, leaves whole notes only under their names, and the next one completes."""
    world = new_world(tmp_path / "w", MANY, seconds=6, pack_size="4 MiB", database=False)
    world.backup("run")
    target = tmp_path / "out"
    ended = kill_worker(world, random.Random(SEED), 0.05, "restore", "--to", target)
    assert ended.code == 1
    assert ended.told == "error: a worker process ended unexpectedly"
    named = Counter(sha(path.read_bytes()) for path in files(target) if not path.name.endswith(".part"))
    assert named <= world.notes()
    world.backup("restore", "--to", target)
    assert hashes(target) == world.notes()


def test_the_remains_of_a_killed_restore_are_removed_and_nothing_else(tmp_path: Path) -> None:
    """What a killed restore had begun goes with the next one; a person's own files stay, whatever they are called."""
    world = new_world(tmp_path / "w", 4)
    world.backup("run")
    target = tmp_path / "out"
    world.backup("restore", "--to", target)
    begun = target / "Family" / ".999999999-0123456789ab.part"
    begun.write_bytes(b"half")
    (target / "Family" / "my own.part").write_bytes(b"mine")
    world.backup("restore", "--to", target)
    assert not begun.exists()
    assert hashes(target) == world.notes() + Counter([sha(b"mine")])


def test_killed_imports_and_saves_lose_nothing(tmp_path: Path) -> None:
    """Whenever an import or a save is killed, what was there stays whole, and the same command typed again completes it."""
    seeded = random.Random(SEED)
    world = new_world(tmp_path / "w", 6)
    world.backup("run")
    phone = [note["id"] for note in world.documents("list")]
    memos = [tmp_path / f"memo {number}.wav" for number in range(12)]
    for memo in memos:
        memo.write_bytes(wav(20.0) + seeded.randbytes(100))
    ours, takes = Counter(sha(memo.read_bytes()) for memo in memos), {"import": 1.0, "save": 0.5}
    for number in range(6):
        verb = ("import", "save")[number % 2]
        words = [*memos[: 4 + 4 * (number // 2)], "--chat", "Family"] if verb == "import" else [phone[number]]
        running = world.start(verb, *map(str, words))
        time.sleep(seeded.uniform(0, takes[verb]))
        running.kill()
        running.wait()
        world.restic("check", "--no-lock")
        takes[verb] = world.backup(verb, *map(str, words)).seconds
    assert world.restored("out") == world.notes() + ours
    assert {note["id"] for note in world.documents("list", "--saved")} == set(phone[1:6:2])
    world.backup("run")
    assert world.leftovers() == []
    assert world.stored_twice() == 0
    world.restic("check", "--read-data")
