"""Measures the destination at a Google Drive of our own: faults at length, speed against rclone, memory.

python -m tests.benchmarks.gdrive [faults] [speed] [memory]      all of them without a word
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from backup_tool.config import DestinationSpec
from backup_tool.destinations import open_destination
from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.gdrive import uploads
from tests.destinations.drives import Drives, drives
from tests.destinations.servers import rclones
from tests.destinations.test_gdrive import HARM
from tests.generators.android import CURRENT, Store
from tests.scenarios.world import World

MIB = 2**20
REQUESTS, RATE = 10_000, 0.1
NOTES, LATENCY = 5_000, 0.02
LARGE = 300 * MIB


def faults(folder: Path) -> bool:
    """10,000 requests, one in ten spoiled before or after its effect: nothing lost, nothing twice, all bytes right."""
    uploads.SMALL, uploads.CHUNK = 2**16, 2**18
    noise = random.Random(1)
    kept: dict[tuple[ObjectKind, str], bytes] = {}
    lock = threading.Lock()
    with drives(folder) as cloud, closing(cloud.with_folders("Voice notes")) as place:
        cloud.google.proxy.faults.randomly(7, RATE, HARM)
        wrong = 0

        def work(number: int) -> int:
            size = noise.choice([200, 900, 5000, 70_000, 300_000])
            data = random.Random(number).randbytes(size)
            kind: ObjectKind = "data" if number % 3 else "snapshots"
            name = hashlib.sha256(data).hexdigest()
            place.save(kind, name, data)
            mistakes = int(place.load(kind, name) != data)
            with lock:
                kept[kind, name] = data
                old = noise.choice(list(kept)) if number % 4 == 0 else None
                if old is not None:
                    kept.pop(old)
            if old is not None:
                place.remove(*old)
            return mistakes

        number = 0
        with ThreadPoolExecutor(4) as pool:
            while len(cloud.google.proxy.seen) < REQUESTS:
                wrong += sum(pool.map(work, range(number, number + 100)))
                number += 100
        cloud.google.proxy.faults.clear()
        spoiled, seen = len(cloud.google.proxy.faults.happened), len(cloud.google.proxy.seen)
        there = {(path.split("/")[1], path.rpartition("/")[2]): items for path, items in cloud.google.tree().items()}
        twice = len(cloud.google.duplicates()) + sum(len(items) > 1 for items in there.values())
        lost = len(kept.keys() - there.keys())
        more = len(there.keys() - kept.keys())
        wrong += sum(cloud.google.content(there[key][0].id).read_bytes() != data for key, data in kept.items() if key in there)
    what = f"{lost} lost, {twice} twice, {more} left over, {wrong} wrong"
    print(f"faults: {seen:,} requests, {spoiled:,} spoiled, {len(kept):,} objects: {what}")
    return not (lost or twice or more or wrong)


def speed(folder: Path) -> bool:
    """The objects of 5,000 notes, 20 ms for each request, four at a time by the destination and by rclone; asked: at most 1.2 times.

    rclone is spared its usual pause of 100 ms between requests, looking for what is there, and folders in which nothing is.
    """
    world = World(folder / "laptop")
    store = Store(world.folder / "phone" / CURRENT)
    store.database(store.voice_notes(NOTES))
    world.backup("init")
    world.backup("run", "phone")
    for shard in (world.repo / "data").iterdir():
        with suppress(OSError):
            shard.rmdir()
    objects = [path for path in sorted(world.repo.rglob("*")) if path.is_file() and path.parent.name != "locks"]
    size = sum(path.stat().st_size for path in objects)
    ours, theirs = [], []
    with drives(folder) as cloud:
        for turn in range(3):
            cloud.folders(f"ours {turn}")
            cloud.folders(f"theirs {turn}")
            cloud.google.proxy.latency = LATENCY
            ours.append(_store(cloud, f"ours {turn}", world.repo, objects))
            theirs.append(_copy(cloud, f"theirs {turn}", world.repo, folder))
            cloud.google.proxy.latency = 0.0
    ratio = sorted(ours)[1] / sorted(theirs)[1]
    print(
        f"speed: {len(objects)} objects, {size / 1e6:.0f} MB of {NOTES:,} notes, {LATENCY * 1000:.0f} ms: "
        f"{sorted(ours)[1]:.2f} s, rclone {sorted(theirs)[1]:.2f} s, {ratio:.2f} times"
    )
    return ratio <= 1.2


def _store(cloud: Drives, name: str, repo: Path, objects: list[Path]) -> float:
    started = time.perf_counter()
    with closing(cloud.open(name, machine=name)) as place, ThreadPoolExecutor(4) as pool:
        place.exists()

        def store(path: Path) -> None:
            kind: ObjectKind = path.relative_to(repo).parts[0]  # type: ignore[assignment]
            place.save_file(kind, path.name, path)

        list(pool.map(store, objects))
    return time.perf_counter() - started


def _copy(cloud: Drives, name: str, repo: Path, folder: Path) -> float:
    config = folder / "rclone.conf"
    token, client = cloud.google.rclone_token(cloud.anna, cloud.client), cloud.client
    config.write_text(
        f"[drive]\ntype = drive\nscope = drive.file\nclient_id = {client.id}\nclient_secret = {client.secret}\ntoken = {token}\n"
    )
    environment = cloud.google.proxy.environment()
    command = [rclones()["current rclone"](), "--config", config, "--ca-cert", environment["SSL_CERT_FILE"], "copy", repo, f"drive:{name}"]
    command += ["--transfers", "4", "--drive-pacer-min-sleep", "1ms", "--no-traverse", "--exclude", "/locks/**"]
    started = time.perf_counter()
    subprocess.run(list(map(str, command)), env={**os.environ, **environment}, check=True)
    return time.perf_counter() - started


def memory(folder: Path) -> bool:
    """An object of 300 MiB, stored and read in parts by a process of its own; asked: under 60 MB beyond what it has without one."""
    with (folder / "large").open("wb") as file:
        file.truncate(LARGE)
    with drives(folder) as cloud:
        cloud.folders("Voice notes")
        cloud.sign_in()
        peaks = []
        for path in (folder / "small", folder / "large"):
            path.open("ab").close()
            command = [sys.executable, "-m", "tests.benchmarks.gdrive", "--store", str(cloud.home()), str(path)]
            environment = {**os.environ, **cloud.google.proxy.environment()}
            peaks.append(int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout))
    more = (peaks[1] - peaks[0]) * 1024 / 1e6
    print(f"memory: {LARGE // MIB} MiB stored in {more:.1f} MB beyond the {peaks[0] * 1024 / 1e6:.0f} MB of an empty object")
    return more < 60


def store_one(home: str, path: str) -> None:
    """In a process of its own: store a file, read a part of it, print the peak of memory (KiB)."""
    spec = DestinationSpec(name="drive", type="gdrive", place="Voice notes")
    with closing(open_destination(spec, home=Path(home))) as place:
        name = hashlib.sha256(path.encode()).hexdigest()
        place.save_file("data", name, Path(path))
        place.load("data", name, 0, min(MIB, Path(path).stat().st_size))
    print(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])  # ru_maxrss would begin with that of who started it


def main(words: list[str]) -> int:
    """Carry out what was asked for; 1 where something was missed."""
    if words[:1] == ["--store"]:
        store_one(*words[1:])
        return 0
    missed = 0
    for measure in (faults, speed, memory):
        if not words or measure.__name__ in words:
            with tempfile.TemporaryDirectory(prefix="drive-") as folder:
                missed += not measure(Path(folder))
    return min(missed, 1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
