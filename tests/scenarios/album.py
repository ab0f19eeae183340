"""An archive of a phone and a folder, in which every kind of note is there once. Made once, only looked at.

Family          zoe, ben (just after midnight in Nepal, the day before in UTC), mine (forwarded)
Familie Müller  keys (with a transcript)
Anna            twin, other twin (of one second, ids alike in four digits), video, cut (truncated), lost (no file on the phone)
unsorted        found (no message: known by its day), memo (source "memos", ten days old)
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.generators.android import ANNA, BEN, CURRENT, FAMILY, Made, Store, week
from tests.generators.contacts import wa_db
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.generators.sounds import video_note, wav
from tests.scenarios.world import World

MUELLER = "120363000000000002@g.us"
ZOE = "77001100220033@lid"
ANNAS_LID = "77001100220044@lid"


@dataclass
class Album:
    """The machine, and by each name the file and the id of a note."""

    world: World
    made: dict[str, Made]
    ids: dict[str, str]
    ran: Any

    def names(self, records: list[dict[str, Any]]) -> list[str]:
        """What these records are called here."""
        called = {note_id: name for name, note_id in self.ids.items()}
        return [called[record["id"]] for record in records]


def make_album(world: World) -> Album:
    """The phone, the folder, and one run of both."""
    store = Store(world.folder / "phone" / CURRENT)
    one, other = alike()
    made = {
        "zoe": voice(store, "2024-03-01T08:00:00.123", opus_note(2.5, 1)),
        "ben": voice(store, "2024-03-01T18:20:00", opus_note(3.0, 2)),
        "mine": voice(store, "2024-03-03T09:00:00", opus_note(1.0, 3)),
        "keys": voice(store, "2024-03-05T10:00:00", opus_note(1.0, 4)),
        "twin": voice(store, "2024-04-01T07:30:00", one),
        "other twin": voice(store, "2024-04-01T07:30:00.900", other),
        "cut": voice(store, "2024-04-02T07:30:00", opus_note(4.0, 8)[:-700]),
        "video": store.video_note("PTV-20240403-WA0001.mp4", video_note(1.0), sent=at("2024-04-03T07:30:00")),
        "found": store.attachment("AUD-20240310-WA0009.opus", opus_note(1.5, 9), sent=at("2024-03-10T12:00:00")),
    }
    database = Msgstore(store.root / "Databases/msgstore.db")
    database.map_lid(ANNAS_LID, ANNA)
    wa_db(store.root / "Databases/wa.db", [{"jid": ZOE, "display_name": "Zoë Núñez"}, {"jid": ANNAS_LID, "display_name": "Anna"}])
    family, mueller, anna = database.chat(FAMILY, subject="Family"), database.chat(MUELLER, subject="Familie Müller"), database.chat(ANNA)
    messages: list[tuple[str, int, dict[str, Any]]] = [
        ("zoe", family, {"sender": ZOE, "starred": 1}),
        ("ben", family, {"sender": BEN}),
        ("mine", family, {"from_me": True, "score": 1}),
        ("keys", mueller, {"sender": ANNA, "raw_transcription_text": "Die Schlüssel sind unter der Matte"}),
        ("twin", anna, {}),
        ("other twin", anna, {}),
        ("cut", anna, {}),
        ("video", anna, {"mime_type": "video/mp4", "type_": 81}),
    ]
    for number, (name, chat, more) in enumerate(messages):
        note = made[name]
        recorded = None if name == "cut" else note.data
        database.message(chat, f"3EB0{number:04}", sent=note.sent_ms, file=note.original_path, data=recorded, **more)
    lost = "Media/WhatsApp Voice Notes/202401/PTT-20240104-WA0000.opus"
    database.message(anna, "3EB0LOST", sent=1704362400000, file=lost, media_duration=7)
    database.close()
    memo = world.folder / "memos/Café.wav"
    memo.parent.mkdir()
    memo.write_bytes(wav(0.5))
    recent = time.time_ns() // 10**9 * 10**9 - 10 * 86400 * 10**9
    os.utime(memo, ns=(recent, recent))
    made["memo"] = Made("Café.wav", memo.read_bytes(), datetime.fromtimestamp(recent / 10**9, UTC), memo)
    ran = world.backup("run", "phone", "memos", "--json").json
    return Album(world, made, {name: hashlib.sha256(note.data).hexdigest() for name, note in made.items()}, ran)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def voice(store: Store, sent: str, data: bytes) -> Made:
    """A voice note that a phone has named and put away as it does."""
    moment = at(sent)
    folder = f"Media/WhatsApp Voice Notes/{week(moment)}"
    return store.put(f"{folder}/PTT-{moment:%Y%m%d}-WA{len(store.made):04}.opus", data, moment)


def alike() -> tuple[bytes, bytes]:
    """Two notes whose ids begin with the same four digits, and go on differently."""
    seen: dict[str, bytes] = {}
    for seed in range(10_000):
        data = opus_note(0.2, 100 + seed)
        digits = hashlib.sha256(data).hexdigest()[:4]
        if digits in seen:
            return seen[digits], data
        seen[digits] = data
    raise AssertionError("no two are alike")
