"""Counts what a machine asks of a server to list an archive, and measures how long that takes where every request has a long way.

python -m tests.benchmarks.requests                               20,000 notes in 50 chats, 30 nights with 30 new ones, 20 ms a request
python -m tests.benchmarks.requests --notes 2000 --nights 365 --delay 0.1
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from backup_tool.actions.run import RunPlan, run
from backup_tool.actions.state import State
from backup_tool.config import SourceSpec
from backup_tool.destinations.local import LocalDestination
from backup_tool.models import Progress, Secret
from backup_tool.repository import Repository
from tests.destinations.servers import Rest, serving
from tests.generators.android import CURRENT
from tests.generators.nights import GrowingPhone

PASSWORD = "benchmark"
A_NIGHT = 30


def make_archive(work: Path, notes: int, nights: int) -> Path:
    """An archive of `notes` notes of nine years, and of as many nights with 30 more; prints what the nights added to it."""
    phone = GrowingPhone(work / CURRENT, chats=50)
    phone.grow(notes, days=3285)
    place = LocalDestination(work / "archive")
    Repository.create(place, Secret(PASSWORD), hostname="host", username="user")
    added = []
    for night in range(nights):
        before = _sizes(place.path)
        run(
            RunPlan(
                sources=[SourceSpec(name="phone", path=work / CURRENT)], typed=set(), known_names={"phone"}, destination=place,
                destination_name="archive", password=Secret(PASSWORD), state=State(work / "state"), host="host",
            ),
            Progress(),
        )  # fmt: skip
        added.append(_sizes(place.path) - before)
        if night < nights - 1:
            phone.grow(A_NIGHT, days=1)
    for kind in ("index", "snapshots", "data"):
        each = [one[kind] / 1000 for one in added[1:]]
        print(
            f"{kind}: {added[0][kind] / 1000:,.0f} kB the first night, then {statistics.mean(each):,.1f} (at most {max(each):,.1f}) a night"
        )
    return place.path


def _sizes(archive: Path) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for file in archive.rglob("*"):
        if file.is_file():
            sizes[file.relative_to(archive).parts[0]] += file.stat().st_size
    return sizes


def ask(server: Rest, work: Path, cache: str, *words: str) -> str:
    """Carry out a command with this cache folder; its output. Prints seconds and requests."""
    server.seen.clear()
    env = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    env |= {"BACKUP_PASSWORD": PASSWORD, "BACKUP_REPOSITORY": f"rest:{server.url}", "BACKUP_CONFIG": str(work / "config.toml")}
    env |= {"BACKUP_STATE_DIR": str(work / "state 2"), "BACKUP_CACHE_DIR": str(work / cache)}
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "backup_tool", *words], env=env, capture_output=True, check=True)
    seconds = time.perf_counter() - started
    paths = [path for _, path, _ in server.seen]
    after = paths[max(number for number, path in enumerate(paths) if path == "/config") + 1 :]
    kinds = Counter(path.split("/")[1] for path in after)
    print(f"| {' '.join(words[:1])} ({cache}) | {seconds:.2f} | {len(after)} | {dict(kinds)} |", flush=True)
    return done.stdout.decode(errors="replace")


def main() -> None:
    """Make the archive, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.requests")
    parser.add_argument("--notes", type=int, default=20_000)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds that every request waits")
    parser.add_argument("--work", type=Path, default=None, help="a folder on the disk to measure (default: a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backup-bench-", dir=given.work) as folder:
        work = Path(folder)
        (work / "config.toml").touch()
        archive = make_archive(work, given.notes, given.nights)
        with serving(archive) as server:
            server.delay = given.delay
            print("\n| what | s | requests after opening | of them |\n| --- | --- | --- | --- |")
            note = ask(server, work, "no cache yet", "list").splitlines()[-1].split()[0]
            ask(server, work, "cache", "list")
            ask(server, work, "cache", "list")
            ask(server, work, "another fresh machine", "extract", note, "--to", "-")
            ask(server, work, "cache", "extract", note, "--to", "-")


if __name__ == "__main__":
    main()
