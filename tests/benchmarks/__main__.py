"""Measures `backup` against `restic` on the same notes, disk and machine, in turns; prints medians and ratios.

make bench                              20,000 notes, about 1 GB, 5 rounds
make bench ARGS="--notes 2000 --rounds 3 --memory-notes 10000"
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from tests.generators.ogg import opus_note

PASSWORD = "benchmark"
BYTES_A_SECOND = 2000
FIRST_DAY = date(2016, 1, 1)


@dataclass
class Measure:
    """One finished process: wall and CPU seconds, peak resident memory in MB."""

    wall: float
    cpu: float
    memory: float


@dataclass
class Row:
    """One comparison: what both did, and what is asked of the ratio of medians."""

    name: str
    ours: list[Measure]
    theirs: list[Measure]
    asked: str


def measure(command: Sequence[str], env: dict[str, str], out: Path | None = None) -> Measure:
    """Run a command to its end. Raises where it fails."""
    with open(out or os.devnull, "wb") as sink:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdout=sink, stderr=subprocess.PIPE)
        error = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{' '.join(command)} failed: {error.decode(errors='replace')}")
    return Measure(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def make_corpus(folder: Path, notes: int, typical_bytes: int, first: int = 0, a_day: int = 10) -> int:
    """Generated Opus notes, sizes log-normal, `a_day` of them in week folders as a phone has them; the number of bytes."""
    noise = random.Random(first)
    total = 0
    for number in range(first, first + notes):
        day = FIRST_DAY + timedelta(days=number // a_day)
        week = folder / "Media" / "WhatsApp Voice Notes" / f"{day:%Y}{(day.timetuple().tm_yday + 6) // 7:02}"
        week.mkdir(parents=True, exist_ok=True)
        size = min(max(noise.lognormvariate(math.log(typical_bytes), 0.6), 800), 60 * typical_bytes)
        data = opus_note(size / BYTES_A_SECOND, seed=number)
        path = week / f"PTT-{day:%Y%m%d}-WA{number % 10000:04}.opus"
        path.write_bytes(data)
        stamp = time.mktime(day.timetuple()) + number % 86400
        os.utime(path, (stamp, stamp))
        total += len(data)
    return total


class Bench:
    """Both programs over one corpus."""

    def __init__(self, work: Path, store: Path) -> None:
        self.store = store
        self.ours, self.theirs, self.target = work / "ours", work / "theirs", work / "target"
        keep = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
        base = {name: os.environ[name] for name in keep if name in os.environ}
        (work / "config.toml").touch()
        self.env = base | {
            "BACKUP_PASSWORD": PASSWORD,
            "BACKUP_REPOSITORY": str(self.ours),
            "BACKUP_STATE_DIR": str(work / "state"),
            "BACKUP_CACHE_DIR": str(work / "cache"),
            "BACKUP_CONFIG": str(work / "config.toml"),
        }
        self.restic_env = base | {
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_REPOSITORY": str(self.theirs),
            "RESTIC_CACHE_DIR": str(work / "rcache"),
        }
        self.backup = [sys.executable, "-m", "backup_tool"]

    def fresh(self) -> None:
        """Both repositories new and empty."""
        for folder in (self.ours, self.theirs):
            shutil.rmtree(folder, ignore_errors=True)
        measure([*self.backup, "init"], self.env)
        measure(["restic", "init"], self.restic_env)

    def first(self) -> tuple[Measure, Measure]:
        """An empty repository each, then everything."""
        self.fresh()
        return self.again()

    def again(self) -> tuple[Measure, Measure]:
        """A run over the store as it is."""
        return (
            measure([*self.backup, "run", str(self.store), "-q"], self.env),
            measure(["restic", "backup", "-q", "--compression", "off", str(self.store)], self.restic_env),
        )

    def one(self) -> tuple[Measure, Measure]:
        """One note out of all."""
        path = sorted(self.store.rglob("*.opus"))[len(list(self.store.rglob("*.opus"))) // 2]
        import hashlib

        note = hashlib.sha256(path.read_bytes()).hexdigest()
        return (
            measure([*self.backup, "extract", note[:16], "--to", "-"], self.env),
            measure(["restic", "dump", "-q", "latest", str(path)], self.restic_env),
        )

    def all(self) -> tuple[Measure, Measure]:
        """Everything back, into a new folder each.

        Nothing is removed meanwhile: for some minutes ext4 searches around the inodes of files just removed, which would be measured too.
        """
        ours, theirs = (self.target / f"{who} {time.monotonic_ns()}" for who in ("ours", "theirs"))
        os.sync()
        by_us = measure([*self.backup, "restore", "--to", str(ours), "-q"], self.env)
        os.sync()
        return by_us, measure(["restic", "restore", "-q", "latest", "--target", str(theirs)], self.restic_env)


def compare(
    name: str, asked: str, rounds: int, step: Callable[[], tuple[Measure, Measure]], between: Callable[[], object] | None = None
) -> Row:
    """The same step several times; what lies between is not measured."""
    row = Row(name, [], [], asked)
    for _ in range(rounds):
        if between:
            between()
        ours, theirs = step()
        row.ours.append(ours)
        row.theirs.append(theirs)
    show(row)
    return row


def show(row: Row) -> None:
    """One line of the table."""

    def median(measures: list[Measure], what: str) -> float:
        return float(statistics.median(getattr(one, what) for one in measures))

    wall, cpu = median(row.ours, "wall"), median(row.ours, "cpu")
    their_wall, their_cpu = median(row.theirs, "wall"), median(row.theirs, "cpu")
    print(
        f"| {row.name} | {wall:.2f} | {their_wall:.2f} | **{wall / their_wall:.2f}** | {cpu:.2f} | {their_cpu:.2f} | {cpu / their_cpu:.2f} "
        f"| {median(row.ours, 'memory'):.0f} | {median(row.theirs, 'memory'):.0f} | {row.asked} |",
        flush=True,
    )


def memory(work: Path, notes: int) -> None:
    """Peak memory over many small notes: first run, second run, list."""
    store = work / "many"
    make_corpus(store, notes, 1500, a_day=max(10, notes // 2500))
    bench = Bench(work, store)
    shutil.rmtree(bench.ours, ignore_errors=True)
    measure([*bench.backup, "init"], bench.env)
    rows = [
        ("run, first", [*bench.backup, "run", str(store), "-q"], "< 200"),
        ("run, nothing new", [*bench.backup, "run", str(store), "-q"], "< 200"),
        ("list", [*bench.backup, "list"], "< 250"),
        ("list --json", [*bench.backup, "list", "--json"], "< 250"),
    ]
    print(f"\n| at {notes:,} notes | wall s | CPU s | peak MB | asked |\n| --- | --- | --- | --- | --- |")
    for name, command, asked in rows:
        one = measure(command, bench.env)
        print(f"| {name} | {one.wall:.2f} | {one.cpu:.2f} | {one.memory:.0f} | {asked} |", flush=True)


def main() -> None:
    """Make the corpus, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--notes", type=int, default=20_000)
    parser.add_argument("--typical-bytes", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-notes", type=int, default=100_000)
    parser.add_argument("--work", type=Path, default=None, help="a folder on the disk to measure (default: a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backup-bench-", dir=given.work) as folder:
        work = Path(folder)
        store = work / "store"
        size = make_corpus(store, given.notes, given.typical_bytes)
        restic = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True).stdout.split(" compiled")[0]
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {restic}"
        print(f"{date.today()}, {given.notes:,} notes, {size / 1e6:.0f} MB; {machine}")
        print("\n| what | backup s | restic s | ratio | backup CPU s | restic CPU s | ratio | backup MB | restic MB | asked |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        bench = Bench(work, store)
        bench.first()
        compare("first run", "wall 0.6, CPU 0.9", given.rounds, bench.first)
        compare("nothing new", "wall 0.5", given.rounds, bench.again)
        more = iter(range(given.notes, 10**9, 100))
        compare("100 new notes", "wall 0.5", given.rounds, bench.again, lambda: make_corpus(store, 100, given.typical_bytes, next(more)))
        compare("one note out", "wall 1.0", given.rounds, bench.one)
        compare("everything back", "wall 0.7", given.rounds, bench.all)
        start = [measure([*bench.backup, "--help"], bench.env) for _ in range(2 * given.rounds)]
        print(f"\n`backup --help`: {statistics.median(one.wall for one in start):.3f} s (asked: 0.15)")
        shutil.rmtree(store)
        memory(work, given.memory_notes)


if __name__ == "__main__":
    main()
