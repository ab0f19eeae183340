"""Measures a first run into an S3 bucket against `rclone copy` of the finished repository into the same one, in turns; prints medians.

python -m tests.benchmarks.s3                      5,000 notes, about 250 MB, 20 ms for each request, 5 rounds
python -m tests.benchmarks.s3 --notes 500 --rounds 1 --latency 0

The server is rclone's, on loopback, behind a relay that holds every byte up for half of the latency in each direction.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

from tests.benchmarks.__main__ import PASSWORD, Measure, make_corpus, measure
from tests.destinations.s3_servers import BUCKET, ENVIRONMENT, rclone_s3
from tests.destinations.servers import installed

_PIECE = 2**18
_ON_THE_WAY = 64
"""Pieces that one direction of a connection holds at most: 16 MiB."""


@contextmanager
def relay(port: int, latency: float) -> Iterator[int]:
    """A port of this machine that leads to another one, `latency` seconds there and back. Any number of connections at once."""
    loop, listening = asyncio.new_event_loop(), Future[int]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pump(reader, there_writer, latency / 2), _pump(there_reader, writer, latency / 2))

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=_PIECE)
        listening.set_result(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    thread = threading.Thread(target=_until_cancelled, args=[loop, task := loop.create_task(serve())])
    thread.start()
    try:
        yield listening.result(10)
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _until_cancelled(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    with suppress(asyncio.CancelledError):
        loop.run_until_complete(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Carry bytes one way, each as long under way as the next."""
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_ON_THE_WAY)
    clock = asyncio.get_running_loop().time

    async def deliver() -> None:
        with suppress(ConnectionError):
            while (item := await under_way.get())[1]:
                await asyncio.sleep(item[0] - clock())
                writer.write(item[1])
                await writer.drain()
        writer.close()

    delivering = asyncio.create_task(deliver())
    piece = b"x"
    while piece and not delivering.done():
        try:
            piece = await reader.read(_PIECE)
        except ConnectionError:
            piece = b""
        await under_way.put((clock() + delay, piece))
    await delivering


class Pair:
    """A first run, and rclone, into the bucket; each time below a prefix that is new."""

    def __init__(self, work: Path, url: str) -> None:
        self.store, self.url, self.finished = work / "store", url, work / "finished"
        keep = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
        base = {name: os.environ[name] for name in keep if name in os.environ} | ENVIRONMENT
        (work / "config.toml").touch()
        self.env = base | {
            "BACKUP_PASSWORD": PASSWORD,
            "BACKUP_CONFIG": str(work / "config.toml"),
            "BACKUP_STATE_DIR": str(work / "state"),
            "BACKUP_CACHE_DIR": str(work / "cache"),
        }
        self.rclone_env = base | {
            "RCLONE_CONFIG": str(work / "no.conf"),
            "RCLONE_CONFIG_B_TYPE": "s3",
            "RCLONE_CONFIG_B_PROVIDER": "Rclone",
            "RCLONE_CONFIG_B_ENV_AUTH": "true",
            "RCLONE_CONFIG_B_ENDPOINT": url,
        }
        self.backup = [sys.executable, "-m", "backup_tool"]
        measure([*self.backup, "init", "--repo", str(self.finished)], self.env)
        self.local = measure([*self.backup, "run", str(self.store), "-q", "--repo", str(self.finished)], self.env)

    def round(self, number: int) -> tuple[Measure, Measure]:
        """Ours, then rclone's."""
        repository = f"s3:{self.url}{BUCKET}/ours{number}"
        measure([*self.backup, "init", "--repo", repository], self.env)
        ours = measure([*self.backup, "run", str(self.store), "-q", "--repo", repository], self.env)
        theirs = measure([installed("rclone"), "copy", str(self.finished), f"B:{BUCKET}/theirs{number}"], self.rclone_env)
        return ours, theirs

    def again(self, number: int) -> Measure:
        """A run that finds nothing new."""
        return measure([*self.backup, "run", str(self.store), "-q", "--repo", f"s3:{self.url}{BUCKET}/ours{number}"], self.env)


def main() -> None:
    """Make the corpus, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.s3")
    parser.add_argument("--notes", type=int, default=5000)
    parser.add_argument("--typical-bytes", type=int, default=40_000)
    parser.add_argument("--latency", type=float, default=20.0, help="milliseconds for a request and its answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=None, help="a folder on the disk to measure (default: a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backup-bench-", dir=given.work) as folder:
        work = Path(folder)
        size = make_corpus(work / "store", given.notes, given.typical_bytes)
        with rclone_s3(work / "buckets") as url, relay(int(url.rstrip("/").rpartition(":")[2]), given.latency / 1000) as port:
            pair = Pair(work, f"http://127.0.0.1:{port}/")
            rounds = [pair.round(number) for number in range(given.rounds)]
            again = [pair.again(number) for number in range(given.rounds)]
        rclone = subprocess.run([installed("rclone"), "version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
        ours, theirs = (statistics.median(pair[which].wall for pair in rounds) for which in (0, 1))
        cpu, their_cpu = (statistics.median(pair[which].cpu for pair in rounds) for which in (0, 1))
        memory, their_memory = (max(pair[which].memory for pair in rounds) for which in (0, 1))
        print(f"{date.today()}, {given.notes:,} notes, {size / 1e6:.0f} MB, {given.latency:.0f} ms; {os.cpu_count()} cores,")
        print(f"Python {platform.python_version()}, {rclone}, load {os.getloadavg()[0]:.1f}\n")
        print("| what | backup s | rclone s | ratio | backup CPU s | rclone CPU s | backup MB | rclone MB | asked |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        print(f"| first run, copy | {ours:.2f} | {theirs:.2f} | **{ours / theirs:.2f}** | {cpu:.2f} | {their_cpu:.2f} ", end="")
        print(f"| {memory:.0f} | {their_memory:.0f} | 1.2 |")
        print(f"\ninto a directory, once: {pair.local.wall:.2f} s, {pair.local.cpu:.2f} s of processors")
        print(f"nothing new: {statistics.median(one.wall for one in again):.2f} s")
        print("single rounds: " + ", ".join(f"{mine.wall:.2f} and {other.wall:.2f}" for mine, other in rounds))


if __name__ == "__main__":
    main()
