"""Builds what a phone's WhatsApp leaves on its storage, and says what it made.

store = Store(tmp_path / CURRENT)
made = store.voice_notes(20)
store.database(made)        # a msgstore.db that knows them
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note

CURRENT = "Android/media/com.whatsapp/WhatsApp"
OLD = "WhatsApp"
BUSINESS = "Android/media/com.whatsapp.w4b/WhatsApp Business"
FIRST_DAY = datetime(2026, 3, 1, tzinfo=UTC)
FAMILY = "120363000000000001@g.us"
ANNA = "491700000001@s.whatsapp.net"
BEN = "491700000002@s.whatsapp.net"


@dataclass(frozen=True)
class Made:
    """One file of a store: its path below the store's root, its bytes, and the moment that its message was sent."""

    original_path: str
    data: bytes
    sent: datetime
    location: Path

    @property
    def day(self) -> str:
        """What its name alone tells."""
        return self.sent.strftime("%Y-%m-%dT12:00:00Z")

    @property
    def sent_ms(self) -> int:
        """As databases have it."""
        return int(self.sent.timestamp() * 1000)


@dataclass
class Store:
    """One root of one app: the folder that holds `Media`. `brand` begins the names of its media folders."""

    root: Path
    brand: str = "WhatsApp"
    made: list[Made] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.root / "Media").mkdir(parents=True, exist_ok=True)
        (self.root / "Databases").mkdir(exist_ok=True)

    def put(self, inside: str, data: bytes, sent: datetime = FIRST_DAY) -> Made:
        """A file at a path below the root."""
        location = self.root / inside
        location.parent.mkdir(parents=True, exist_ok=True)
        location.write_bytes(data)
        moment = sent.timestamp() + 3600
        os.utime(location, (moment, moment))
        made = Made(inside, data, sent, location)
        self.made.append(made)
        return made

    def voice_notes(self, count: int, *, seconds: float = 2.0, a_day: int = 4, seed: int = 0) -> list[Made]:
        """Voice notes in week folders, several a day, each with its own sound."""
        notes = []
        folder = self.root / "Media" / f"{self.brand} Voice Notes"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".nomedia").touch()
        for number in range(count):
            sent = FIRST_DAY + timedelta(days=number // a_day, hours=8 + number % a_day, milliseconds=number % 1000)
            name = f"PTT-{sent:%Y%m%d}-WA{number % a_day:04d}.opus"
            notes.append(self.put(f"Media/{self.brand} Voice Notes/{week(sent)}/{name}", opus_note(seconds, seed + number), sent))
        return notes

    def attachment(self, name: str, data: bytes, *, inside: str = "", sent: datetime = FIRST_DAY) -> Made:
        """An audio attachment; `inside` is "Sent" or "Private" for those."""
        return self.put("/".join(filter(None, (f"Media/{self.brand} Audio", inside, name))), data, sent)

    def video_note(self, name: str, data: bytes, *, sent: datetime = FIRST_DAY) -> Made:
        """A round video note."""
        return self.put(f"Media/{self.brand} Video Notes/{name}", data, sent)

    def database(
        self, notes: Sequence[Made], *, name: str = "msgstore.db", without: frozenset[str] = frozenset(), chat: str = FAMILY
    ) -> Path:
        """A database in which all these notes were sent in one chat, by two people in turn, every fifth by the owner."""
        store = Msgstore(self.root / "Databases" / name, without=without)
        number = store.chat(chat, subject="Family" if chat.endswith("@g.us") else None)
        for index, note in enumerate(notes):
            store.message(
                number,
                f"3EB0{index:08X}",
                sent=note.sent_ms,
                sender=None if index % 5 == 4 else (ANNA, BEN)[index % 2],
                from_me=index % 5 == 4,
                file=note.original_path,
                data=note.data,
                media_duration=2,
            )
        return store.close()


def week(day: datetime) -> str:
    """The folder that a phone puts a note of this day into: week 1 holds 1 January, weeks begin on Sunday."""
    first = day.replace(month=1, day=1)
    sundays_before = (first.weekday() + 1) % 7
    return f"{day.year}{((day - first).days + sundays_before) // 7 + 1:02d}"


def phone(storage: Path, *, notes: int = 8, with_database: bool = True) -> Store:
    """A phone's storage with one current WhatsApp, pictures beside it, and, if wanted, a readable database."""
    store = Store(storage / CURRENT)
    made = store.voice_notes(notes)
    (storage / "DCIM/Camera").mkdir(parents=True)
    (storage / "DCIM/Camera/IMG_0001.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a sound")
    if with_database:
        store.database(made)
    return store
