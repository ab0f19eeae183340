"""Measures how fast an encrypted iPhone backup is read: its manifest parsed, every note decrypted, the key derivation left out.

python -m tests.benchmarks.iphone --notes 10000
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
import time
from pathlib import Path

from backup_tool.models import Secret
from backup_tool.sources.apple import IPhoneSource
from backup_tool.sources.tree import Tree
from tests.generators.chatstorage import ChatStorage
from tests.generators.iphone_backup import CHANGED, WHATSAPP, IPhoneBackup

PASSWORD = "benchmark"
NOTE_BYTES = 20_000
PICTURES_A_NOTE = 5
CHATS = 40


def make(folder: Path, notes: int) -> None:
    """A backup with so many notes, each among some pictures, and a database that knows them all. One derivation of one round."""
    noise = random.Random(1)
    backup = IPhoneBackup(folder / "backup", password=PASSWORD, rounds=1, first_rounds=1)
    storage = ChatStorage(folder / "ChatStorage.sqlite")
    chats = [storage.chat(f"4917{number:08}@s.whatsapp.net", f"Person {number}") for number in range(CHATS)]
    for number in range(notes):
        path = f"Media/4917{number % CHATS:08}@s.whatsapp.net/{number % 16:x}/{number // 16 % 16:x}/{number:032x}"
        data = noise.randbytes(noise.randint(NOTE_BYTES // 2, NOTE_BYTES * 3 // 2))
        backup.put(WHATSAPP, f"Message/{path}.opus", data)
        storage.message(chats[number % CHATS], f"3EB0{number:016X}", sent=CHANGED + number, file=f"{path}.opus", ZMOVIEDURATION=8)
        for picture in range(PICTURES_A_NOTE):
            backup.put(WHATSAPP, f"Message/{path}{picture}.jpg", b"", absent=True)
    backup.put_database(WHATSAPP, "ChatStorage.sqlite", storage.close())
    backup.close()


def main() -> None:
    """Make, read, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.iphone")
    parser.add_argument("--notes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backup-bench-") as name:
        folder = Path(name)
        make(folder, given.notes)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        for _ in range(given.rounds):
            source = IPhoneSource("phone", Tree(os.fsencode(folder)), ["backup"], folder, lambda: [Secret(PASSWORD)])
            started = time.perf_counter()
            files = list(source.scan())
            listed = time.perf_counter()
            size = sum(len(piece) for file in files for piece in source.read(file, 4 * 2**20))
            done = time.perf_counter()
            assert len(files) == given.notes
            print(
                f"{given.notes:,} notes, {size / 1e6:.0f} MB: listed in {listed - started:.2f} s, read in {done - listed:.2f} s, "
                f"{given.notes / (done - started):,.0f} notes/s (asked: 1,500)",
                flush=True,
            )
        print(f"peak memory {before:.0f} MB before reading, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB after")


if __name__ == "__main__":
    main()
