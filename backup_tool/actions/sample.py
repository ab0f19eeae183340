"""A sample message store for the demonstration: playable voice notes of a few invented people, and the database beside them."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import sqlite3
from array import array
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

_RATE = 16000
_PEOPLE = {"Anna": "491700000001@s.whatsapp.net", "Bruno": "491700000002@s.whatsapp.net", "Grandpa": "491700000003@s.whatsapp.net"}
_FAMILY = "491700000001-1600000000@g.us"
_FIRST = datetime(2026, 1, 4, 18, 30, tzinfo=UTC)

_SCHEMA = """
CREATE TABLE jid (_id INTEGER PRIMARY KEY, user TEXT, server TEXT, raw_string TEXT);
CREATE TABLE chat (_id INTEGER PRIMARY KEY, jid_row_id INTEGER, subject TEXT);
CREATE TABLE message (_id INTEGER PRIMARY KEY, chat_row_id INTEGER, from_me INTEGER, key_id TEXT, sender_jid_row_id INTEGER,
    origination_flags INTEGER, origin INTEGER, timestamp INTEGER, message_type INTEGER, starred INTEGER);
CREATE TABLE message_media (message_row_id INTEGER PRIMARY KEY, file_path TEXT, file_size INTEGER, mime_type TEXT, media_duration INTEGER,
    file_hash TEXT);
CREATE TABLE lid_display_name (lid_row_id INTEGER PRIMARY KEY, display_name TEXT);
"""


def make_store(root: Path, notes: int = 24) -> int:
    """Make a WhatsApp folder with `notes` voice notes; one more message is in the database whose file is not there. The number of files."""
    (root / "Databases").mkdir(parents=True)
    with closing(sqlite3.connect(root / "Databases" / "msgstore.db")) as database, database:
        database.executescript(_SCHEMA)
        jids = [*_PEOPLE.values(), _FAMILY]
        for row, jid in enumerate(jids, 1):
            database.execute("INSERT INTO jid VALUES (?, ?, ?, ?)", (row, *jid.split("@"), jid))
            subject = "Family" if jid == _FAMILY else next(name for name, person in _PEOPLE.items() if person == jid)
            database.execute("INSERT INTO chat VALUES (?, ?, ?)", (row, row, subject))
        for number in range(notes + 1):
            _add_note(root, database, number, on_device=number < notes)
    return notes


def _add_note(root: Path, database: sqlite3.Connection, number: int, *, on_device: bool) -> None:
    sent = _FIRST + timedelta(days=3 * number, minutes=17 * number)
    week = sent.strftime("%Y") + f"{(sent.timetuple().tm_yday + 6) // 7 + 1:02}"
    path = f"Media/WhatsApp Voice Notes/{week}/PTT-{sent:%Y%m%d}-WA{number:04}.opus"
    seconds = 2 + number % 5
    data = b""
    if on_device:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        data = _melody(seconds, number)
        (root / path).write_bytes(data)
        os.utime(root / path, (sent.timestamp(), sent.timestamp()))
    chat, sender = (4, number % 3 + 1) if number % 2 else (number % 3 + 1, 0)
    from_me = number % 4 == 0
    hashed = base64.b64encode(hashlib.sha256(data).digest()).decode() if data else None
    row = number + 2
    millis = int(sent.timestamp() * 1000)
    database.execute(
        "INSERT INTO message VALUES (?, ?, ?, ?, ?, 0, 1, ?, 2, ?)",
        (row, chat, from_me, f"3A{number:018X}", 0 if from_me else sender, millis, number % 7 == 0),
    )
    database.execute("INSERT INTO message_media VALUES (?, ?, ?, 'audio/ogg; codecs=opus', ?, ?)", (row, path, len(data), seconds, hashed))


def _melody(seconds: int, seed: int) -> bytes:
    """A playable Ogg Opus file: a few notes of a scale."""
    import io

    import av

    out = io.BytesIO()
    with av.open(out, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=_RATE, layout="mono", options={"application": "voip"})
        stream.bit_rate = 16000
        for start in range(0, seconds * _RATE, _RATE // 2):
            tone = 220 * 2 ** (((seed * 5 + start // 4000) * 7 % 12) / 12)
            wave = array("h", (int(9000 * math.sin(2 * math.pi * tone * n / _RATE)) for n in range(_RATE // 2)))
            frame = av.AudioFrame(format="s16", layout="mono", samples=len(wave))
            frame.sample_rate, frame.pts = _RATE, start
            frame.planes[0].update(wave.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()
