"""A phone as it grows: years of notes in many chats, and a few more each day.

phone = GrowingPhone(tmp_path / CURRENT, chats=50)
phone.grow(20_000, days=3650)       # what was there before
phone.grow(30, days=1)              # a day
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.generators.android import Made, Store, week
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note


class GrowingPhone:
    """A WhatsApp store whose notes are spread over chats, the busy ones far more often, with a database that knows them all."""

    def __init__(self, root: Path, *, chats: int, first: datetime = datetime(2015, 6, 1, tzinfo=UTC), seed: int = 1) -> None:
        self._store, self._chats, self._today = Store(root), chats, first
        self._dice = random.Random(seed)
        self._messages: list[tuple[int, Made]] = []

    def grow(self, notes: int, *, days: int) -> None:
        """So many notes more, evenly over the next days; then the database as it is after them."""
        for number in range(notes):
            sent = self._today + timedelta(days=days) * (number / notes)
            count = len(self._messages)
            path = f"Media/WhatsApp Voice Notes/{week(sent)}/PTT-{sent:%Y%m%d}-WA{count % 10_000:04d}.opus"
            made = self._store.put(path, opus_note(0.5, seed=count), sent)
            self._messages.append((min(int(self._dice.paretovariate(0.7)), self._chats) - 1, made))
        self._today += timedelta(days=days)
        self._write_database()

    def _write_database(self) -> None:
        for old in (self._store.root / "Databases").iterdir():
            old.unlink()
        base = Msgstore(self._store.root / "Databases/msgstore.db")
        rows = [base.chat(f"4917{number:08d}@s.whatsapp.net") for number in range(self._chats)]
        for number, (chat, made) in enumerate(self._messages):
            name = f"3EB0{number:016X}"
            base.message(rows[chat], name, sent=made.sent_ms, from_me=number % 3 == 0, file=made.original_path, data=made.data)
        base.close()
