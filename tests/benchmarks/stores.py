"""Measures how long large stores take to be read, and how much memory.

python -m tests.benchmarks.stores android                         1.2 million messages, 100,000 notes
python -m tests.benchmarks.stores android --messages 120000 --notes 10000 --layout legacy
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.benchmarks.__main__ import measure
from tests.generators.legacy_msgstore import LegacyMsgstore, media_data
from tests.generators.msgstore import Msgstore

_FIRST = datetime(2015, 3, 31, tzinfo=UTC)
_CHATS, _PEOPLE = 4000, 50_000
_BATCH = 20_000
# Reads the store as `scan` and `run` do, and nothing but it: no note's bytes.
_SCAN = """
import sys, tempfile
from pathlib import Path
from backup_tool.config import SourceSpec
from backup_tool.sources import open_source
with tempfile.TemporaryDirectory() as workdir:
    scan = open_source(SourceSpec(name="phone", path=Path(sys.argv[1])), Path(workdir)).scan()
    messages = sum(note.message_id is not None for file in scan for note in file.notes)
    summary = scan.summary
print(f"{summary.files:,} files, {messages:,} with their message, {len(summary.missing):,} missing,")
print(f"{len(summary.not_downloaded):,} not downloaded, {summary.orphans:,} orphans {summary.problems} {summary.warnings}")
"""


def _notes(count: int) -> Iterator[tuple[str, bytes, datetime]]:
    """Path, content and moment of each note: stubs, every one with bytes of its own."""
    for number in range(count):
        sent = _FIRST + timedelta(minutes=number * 57)
        folder = f"Media/WhatsApp Voice Notes/{sent:%Y}{sent.timetuple().tm_yday // 7 + 1:02d}"
        yield f"{folder}/PTT-{sent:%Y%m%d}-WA{number % 1000:04d}.opus", b"OggS" + number.to_bytes(8, "big") * 4, sent


def _write_files(root: Path, count: int) -> None:
    for path, data, sent in _notes(count):
        location = root / path
        if not location.parent.is_dir():
            location.parent.mkdir(parents=True)
        location.write_bytes(data)
        os.utime(location, (sent.timestamp(), sent.timestamp()))


def _hash(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _write_database(path: Path, messages: int, notes: int) -> None:
    """A backup's database: no indexes, thousands of chats, half of the people known by hidden identities, two thirds of senders 0."""
    dice, store = random.Random(1), Msgstore(path)
    execute = store.connection.executemany
    people = [(at + 10, f"4917{at:08d}", "s.whatsapp.net", f"4917{at:08d}@s.whatsapp.net") for at in range(_PEOPLE)]
    people += [(at + 10 + _PEOPLE, f"{10**14 + at}", "lid", f"{10**14 + at}@lid") for at in range(_PEOPLE)]
    execute("INSERT INTO jid (_id, user, server, raw_string, type) VALUES (?, ?, ?, ?, 0)", people)
    execute("INSERT INTO jid_map VALUES (?, ?)", ((at + 10 + _PEOPLE, at + 10) for at in range(_PEOPLE)))
    chats = [(at + 1, at + 10 + (_PEOPLE if at % 3 == 0 else 0)) for at in range(_CHATS)]
    execute("INSERT INTO chat (_id, jid_row_id, hidden) VALUES (?, ?, 0)", chats)
    every = messages // notes
    rows: list[tuple[object, ...]] = []
    media: list[tuple[object, ...]] = []
    made = _notes(notes)
    for number in range(messages):
        chat = min(int(dice.paretovariate(0.5)), _CHATS)
        sender = 0 if dice.random() < 0.62 else dice.randrange(10, 10 + 2 * _PEOPLE)
        sent = int((_FIRST + timedelta(seconds=number * 280)).timestamp() * 1000)
        note = next(made, None) if number % every == 0 else None
        body = None if note else "x" * dice.randrange(5, 160)
        rows.append((number + 2, chat, number % 3 == 0, f"3EB0{number:028X}", sender, 1 if note else 0, sent, 2 if note else 0, body))
        if note:
            file, data, _ = note
            media.append((number + 2, file, len(data), "audio/ogg; codecs=opus", 7, _hash(data), 1))
        elif number % 15 == 1:
            media.append((number + 2, f"Media/WhatsApp Images/IMG-{number}.jpg", 5, "image/jpeg", 0, None, 1))
        if len(rows) == _BATCH or number == messages - 1:
            execute(
                "INSERT INTO message (_id, chat_row_id, from_me, key_id, sender_jid_row_id, origin, timestamp, message_type, text_data) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            execute(
                "INSERT INTO message_media (message_row_id, file_path, file_length, mime_type, media_duration, file_hash, transferred) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                media,
            )
            rows.clear()
            media.clear()
    store.close()


def _write_legacy(path: Path, messages: int, notes: int) -> None:
    """The same amount in the table used before 2022."""
    dice, store = random.Random(1), LegacyMsgstore(path)
    store.connection.execute("BEGIN")
    made, every = _notes(notes), messages // notes
    for number in range(messages):
        chat = f"4917{min(int(dice.paretovariate(0.5)), _CHATS):08d}@s.whatsapp.net"
        note = next(made, None) if number % every == 0 else None
        sent = int((_FIRST + timedelta(seconds=number * 280)).timestamp() * 1000)
        if note:
            file, data, _ = note
            blob = media_data(f"/storage/emulated/0/WhatsApp/{file}")
            store.message(chat, f"{number:032X}", sent=sent, thumb_image=blob, data=data, media_duration=7)
        else:
            store.message(chat, f"{number:032X}", sent=sent, type_="0", media_caption="x" * dice.randrange(5, 160))
    store.connection.execute("COMMIT")
    store.close()


def android(work: Path, messages: int, notes: int, layout: str) -> None:
    """Make the store, read it by itself and through `backup scan`, print both."""
    root = work / "WhatsApp"
    _write_files(root, notes)
    database = root / "Databases/msgstore.db"
    (_write_legacy if layout == "legacy" else _write_database)(database, messages, notes)
    print(f"{layout}: {messages:,} messages, {notes:,} notes, database {database.stat().st_size / 1e6:.0f} MB")
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
    env = {name: os.environ[name] for name in keep if name in os.environ}
    env |= {"BACKUP_STATE_DIR": str(work / "state"), "BACKUP_CONFIG": str(work / "config.toml")}
    (work / "config.toml").touch()
    commands = {
        "the source alone": [sys.executable, "-c", _SCAN, str(root)],
        "backup scan": [sys.executable, "-m", "backup_tool", "scan", str(root), "-q"],
    }
    print("| what | wall s | CPU s | peak MB | asked |\n| --- | --- | --- | --- | --- |")
    for name, command in commands.items():
        one = measure(command, env, work / name)
        print(f"| {name} | {one.wall:.1f} | {one.cpu:.1f} | {one.memory:.0f} | 30 s, 300 MB |", flush=True)
    print((work / "the source alone").read_text())


def main() -> None:
    """Measure what was named."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stores")
    parser.add_argument("store", choices=["android"])
    parser.add_argument("--messages", type=int, default=1_200_000)
    parser.add_argument("--notes", type=int, default=100_000)
    parser.add_argument("--layout", choices=["modern", "legacy"], default="modern")
    parser.add_argument("--work", type=Path, default=None, help="a folder on the disk to measure (default: a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backup-bench-", dir=given.work) as folder:
        android(Path(folder), given.messages, given.notes, given.layout)


if __name__ == "__main__":
    main()
