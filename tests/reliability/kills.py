"""Kill the program at random moments, and see that nothing is lost, nothing is sent twice, and nobody has to tidy up.

    python -m tests.reliability.kills --times 200 --seed 7

Each time `run` is killed, with all its processes, at a moment drawn uniformly from the time that a whole run takes: a first run of few
notes, a first run of many (two workers), and a run that finds many new notes beside old ones. Then: restic must call what is there sound;
one more `run` must complete without help; after it every note must come back byte for byte, no blob may be stored twice, no lock and no
temporary may be left, and restic must read every byte. Every fifth time `restore` is killed instead.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.program import PATIENCE, Ended
from tests.reliability.world import World, add_notes, files, hashes, new_world
from tests.repository.forge import sha

# The smallest packs there are, so that a run of a second makes many.
PACK = 4 * 2**20
# Two workers and the run itself: one pack each that grows, and one for catalogs and one for trees; finished ones wait for the disk.
IN_FLIGHT = 4 * (1 + 4)
MANY = 480
SECONDS = 23.0
"""The length of a note, some 50 KB: many of them fill six packs."""


@dataclass
class Scene:
    """A world at the moment before a run, to go back to, and how long that run takes (seconds)."""

    name: str
    world: World
    takes: float = 0.0

    @property
    def _before(self) -> Path:
        return self.world.root / "before"

    def keep(self) -> Scene:
        """Remember this moment; then measure."""
        for name in ("repository", "state"):
            shutil.copytree(self.world.root / name, self._before / name)
        for _ in range(2):
            self.back()
            self.takes = max(self.takes, self.world.backup("run").seconds)
        return self

    def back(self) -> None:
        """Be at that moment again."""
        for name in ("repository", "state"):
            shutil.rmtree(self.world.root / name, ignore_errors=True)
            shutil.copytree(self._before / name, self.world.root / name)


@dataclass
class Tally:
    """What came of all kills."""

    kills: Counter[str] = field(default_factory=Counter)
    """By scene: kills that met a living process."""
    late: int = 0
    """The process had ended already."""
    packs_kept: list[int] = field(default_factory=list)
    """By kill: packs that had become durable and that no run had to send again."""
    bytes_in_flight: int = 0
    snapshots_whole: int = 0
    """Kills after the snapshot had been written."""

    def lines(self) -> list[str]:
        """For a person."""
        total = sum(self.kills.values())
        return [
            f"kills: {total} ({', '.join(f'{count} {name}' for name, count in sorted(self.kills.items()))}); {self.late} came too late",
            f"packs kept over a kill: {sum(self.packs_kept)}, at most {max(self.packs_kept, default=0)} at once",
            f"most bytes in flight at a kill: {self.bytes_in_flight:,}; kills after the snapshot: {self.snapshots_whole}",
            "notes lost: 0; blobs stored twice: 0; locks and temporaries left after the next run: 0; manual steps: 0",
        ]


def scenes(root: Path, seconds: float) -> list[Scene]:
    """Three moments: few notes, many notes, and many new ones beside old ones that are archived."""
    few = new_world(root / "few", 40)
    many = new_world(root / "many", MANY, seconds=seconds, pack_size="4 MiB")
    more = new_world(root / "more", 30, seconds=seconds, pack_size="4 MiB", database=False)
    more.backup("run")
    add_notes(more, MANY, seconds=seconds)
    return [Scene("few", few).keep(), Scene("many", many).keep(), Scene("more", more).keep()]


def kill_run(scene: Scene, seeded: random.Random, tally: Tally) -> None:
    """Kill one run, complete it, and look at everything."""
    scene.back()
    world = scene.world
    running = world.start("run")
    time.sleep(seeded.uniform(0, scene.takes * 1.05))
    tally.late += running.has_ended()
    tally.kills[scene.name] += not running.has_ended()
    running.kill()
    running.wait()

    known = {path.name for path in (scene.world.root / "before/repository/data").rglob("*") if path.is_file()}
    kept = {path.name: path.stat().st_mtime_ns for path in world.objects("data") if path.name not in known}
    in_flight = [path.stat().st_size for path in (world.repo / "data").glob("tmp.*")]
    assert len(in_flight) <= IN_FLIGHT, in_flight
    assert all(size <= PACK * 1.1 for size in in_flight), in_flight
    tally.packs_kept.append(len(kept))
    tally.bytes_in_flight = max(tally.bytes_in_flight, sum(in_flight))
    tally.snapshots_whole += len(world.objects("snapshots")) > len(list((world.root / "before/repository/snapshots").iterdir()))
    world.restic("check", "--no-lock")

    world.backup("run")
    assert {path.name: path.stat().st_mtime_ns for path in world.objects("data") if path.name in kept} == kept
    look_whole(world)


def look_whole(world: World) -> None:
    """After a run that completed: every note is there, once, for both programs, and nothing is left lying about."""
    assert world.leftovers() == []
    assert world.stored_twice() == 0
    world.restic("check", "--read-data")
    with tempfile.TemporaryDirectory(dir=world.root) as out:
        world.backup("restore", "--to", Path(out) / "all", "--quiet")
        assert hashes(Path(out) / "all") == world.notes()


def kill_restore(world: World, takes: float, seeded: random.Random, tally: Tally) -> None:
    """Kill one restore: no half file has a name, and the next restore completes."""
    with tempfile.TemporaryDirectory(dir=world.root) as out:
        target = Path(out) / "all"
        running = world.start("restore", "--to", target)
        time.sleep(seeded.uniform(0, takes))
        tally.late += running.has_ended()
        tally.kills["restore"] += not running.has_ended()
        running.kill()
        running.wait()
        notes = world.notes()
        named = Counter(sha(path.read_bytes()) for path in files(target) if not path.name.endswith(".part"))
        assert named <= notes, "a half-written file has a name"
        world.backup("restore", "--to", target, "--quiet")
        assert hashes(target) == notes


def kill_worker(world: World, seeded: random.Random, within: float, *words: str | Path) -> Ended:
    """Kill one of the two workers of a command, and nothing else, within so many seconds of its start; how the command ended."""
    running = world.start(*words)
    deadline = time.monotonic() + PATIENCE
    while not (workers := running.children()):
        assert time.monotonic() < deadline
        assert not running.has_ended(), "there were no workers"
    time.sleep(seeded.uniform(0, within))
    os.kill(seeded.choice(workers), signal.SIGKILL)
    return running.wait()


def campaign(times: int, seed: int, root: Path, seconds: float = SECONDS) -> Tally:
    """So many kills of a living process, in turn in every scene, every fifth of `restore`; more, until each scene had one."""
    seeded = random.Random(seed)
    tally = Tally()
    few, many, more = scenes(root, seconds)
    full = many.world.copy(root / "full", "4 MiB")
    full.backup("run")
    takes = full.backup("restore", "--to", root / "once", "--quiet").seconds
    turns = itertools.cycle([few, many, more, many, None])
    while sum(tally.kills.values()) < times or set(+tally.kills) != {"few", "many", "more", "restore"}:
        scene = next(turns)
        if scene is None:
            kill_restore(full, takes, seeded, tally)
        else:
            kill_run(scene, seeded, tally)
    return tally


def main() -> None:
    """The campaign as asked for; its numbers."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.kills", description="Kill the program at random moments.")
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        began = time.monotonic()
        for line in campaign(given.times, given.seed, Path(folder)).lines():
            print(line)
        print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
