"""Writes `msgstore.db` as WhatsApp lays it out since 2022, with what real ones are like: sentinel rows, hidden identities, odd values.

store = Msgstore(path)
family = store.chat("1203630@g.us", subject="Family")
store.message(family, "3EB0A1", sent=1772546700123, sender="491701@s.whatsapp.net",
              file="Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0007.opus", data=note)
store.close()
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

_TABLES = {
    "props": "_id INTEGER PRIMARY KEY, key TEXT, value TEXT",
    "jid": "_id INTEGER PRIMARY KEY, user TEXT, server TEXT, agent INTEGER, device INTEGER, type INTEGER, raw_string TEXT",
    "chat": "_id INTEGER PRIMARY KEY, jid_row_id INTEGER UNIQUE, hidden INTEGER, subject TEXT, created_timestamp INTEGER, archived INTEGER",
    "message": (
        "_id INTEGER PRIMARY KEY, chat_row_id INTEGER, from_me INTEGER, key_id TEXT, sender_jid_row_id INTEGER, status INTEGER, "
        "origination_flags INTEGER, origin INTEGER, timestamp INTEGER, received_timestamp INTEGER, receipt_server_timestamp INTEGER, "
        "message_type INTEGER, text_data TEXT, starred INTEGER, sort_id INTEGER"
    ),
    "message_media": (
        "message_row_id INTEGER PRIMARY KEY, file_path TEXT, file_size INTEGER, file_length INTEGER, mime_type TEXT, "
        "media_duration INTEGER, media_name TEXT, file_hash TEXT, enc_file_hash TEXT, transferred INTEGER, direct_path TEXT, "
        "raw_transcription_text TEXT"
    ),
    "message_forwarded": "message_row_id INTEGER PRIMARY KEY, forward_score INTEGER",
    "message_view_once_media": "message_row_id INTEGER PRIMARY KEY, state INTEGER",
    "message_system_number_change": "message_row_id INTEGER PRIMARY KEY, old_jid_row_id INTEGER, new_jid_row_id INTEGER",
    "jid_map": "lid_row_id INTEGER PRIMARY KEY, jid_row_id INTEGER",
    "lid_display_name": "lid_row_id INTEGER PRIMARY KEY, display_name TEXT",
}
_LATER = {"lid_jid_map": "lid_row_id INTEGER PRIMARY KEY, jid_row_id INTEGER"}
"""Tables that one project has seen and most databases lack."""


class Msgstore:
    """A database that is being written. `without` names tables ("jid_map") and columns ("message.starred") that this version lacks."""

    def __init__(self, path: Path, *, without: frozenset[str] = frozenset(), wal: bool = False, later: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.without = without
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
        self.connection.execute("PRAGMA wal_autocheckpoint = 0")
        self.connection.execute("BEGIN")
        for table, columns in (_TABLES | (_LATER if later else {})).items():
            if table not in without:
                kept = [column for column in columns.split(", ") if f"{table}.{column.split()[0]}" not in without]
                self.connection.execute(f"CREATE TABLE {table} ({', '.join(kept)})")
        self._insert("message", _id=1, chat_row_id=-1, from_me=0, key_id="-1", sender_jid_row_id=0, timestamp=0)
        self._jids: dict[str, int] = {}
        self._next_message = 2

    def jid(self, raw: str) -> int:
        """The row of an address, made at its first use."""
        if raw not in self._jids:
            self._jids[raw] = len(self._jids) + 10
            user, _, server = raw.rpartition("@")
            self._insert("jid", _id=self._jids[raw], user=user, server=server, raw_string=raw, type=0)
        return self._jids[raw]

    def chat(self, raw: str, *, subject: str | None = None) -> int:
        """A chat by its address; its row."""
        number = self.jid(raw)
        self._insert("chat", _id=number + 1000, jid_row_id=number, subject=subject, hidden=0)
        return number + 1000

    def map_lid(self, lid: str, phone: str, table: str = "jid_map") -> None:
        """Whom a hidden identity belongs to."""
        self._insert(table, lid_row_id=self.jid(lid), jid_row_id=self.jid(phone))

    def change_number(self, chat: int, old: str, new: str) -> None:
        """The system message (type 7) that tells a chat of a person's new number."""
        row = self.message(chat, f"SYSTEM{self._next_message}", type_=7, origin=0, media=False)
        self._insert("message_system_number_change", message_row_id=row, old_jid_row_id=self.jid(old), new_jid_row_id=self.jid(new))

    def view_once(self, message: int, state: int) -> None:
        """What became of a note to be heard once: 0 not yet, 1 opened, 2 expired."""
        self._insert("message_view_once_media", message_row_id=message, state=state)

    def as_apps_leave_it(self) -> None:
        """What makes naive readers fail: a search table, a view of columns that are gone, an index over an expression."""
        self.connection.execute("CREATE VIRTUAL TABLE message_fts USING fts5(content)")
        self.connection.execute("CREATE TABLE chat_list_of_old (x)")
        self.connection.execute("CREATE VIEW chat_view AS SELECT c.raw_string_jid, c.gone FROM chat AS c JOIN no_such_table USING (y)")
        self.connection.execute("CREATE VIEW message_view AS SELECT * FROM message, chat_view")
        self.connection.execute("CREATE INDEX odd_index ON jid (upper(user))")

    def name_lid(self, lid: str, name: str) -> None:
        """The name that a hidden identity shows."""
        self._insert("lid_display_name", lid_row_id=self.jid(lid), display_name=name)

    def message(
        self,
        chat: int | None,
        key: str,
        *,
        sent: Any = 0,
        sender: str | None = None,
        from_me: bool = False,
        file: Any = None,
        data: bytes | None = None,
        type_: int = 2,
        origin: int | None = 1,
        media: bool = True,
        score: int | None = None,
        **columns: Any,
    ) -> int:
        """A message with audio. `data` fills in size and hash of its file; `columns` override any column of either table, by name."""
        number, self._next_message = self._next_message, self._next_message + 1
        message: dict[str, Any] = {
            "_id": number, "chat_row_id": chat, "from_me": int(from_me), "key_id": key, "origin": origin, "timestamp": sent,
            "sender_jid_row_id": self.jid(sender) if sender else 0, "message_type": type_, "starred": 0, "origination_flags": 0,
            "sort_id": number,
        }  # fmt: skip
        row: dict[str, Any] = {"message_row_id": number, "file_path": file, "mime_type": "audio/ogg; codecs=opus", "transferred": 1}
        if data is not None:
            row |= {"file_length": len(data), "file_hash": base64.b64encode(hashlib.sha256(data).digest()).decode()}
        message |= {name: value for name, value in columns.items() if f" {name} " in f" {_TABLES['message']}"}
        row |= {name: value for name, value in columns.items() if f" {name} " in f" {_TABLES['message_media']}"}
        self._insert("message", **message)
        if media:
            self._insert("message_media", **row)
        if score is not None:
            self._insert("message_forwarded", message_row_id=number, forward_score=score)
        return number

    def _insert(self, table: str, **values: Any) -> None:
        kept = {name: value for name, value in values.items() if f"{table}.{name}" not in self.without}
        if table not in self.without:
            marks = ", ".join("?" * len(kept))
            self.connection.execute(f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({marks})", tuple(kept.values()))

    def checkpoint(self) -> None:
        """Everything so far goes into the main file; what follows stays in the `-wal` if there is one."""
        self.connection.execute("COMMIT")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.execute("BEGIN")

    def close(self) -> Path:
        """Finish an ordinary database."""
        self.connection.execute("COMMIT")
        self.connection.close()
        return self.path

    def close_leaving_wal(self) -> Path:
        """Finish as a phone that was copied while the app ran: with the `-wal` beside it, and rows that only it has."""
        self.connection.execute("COMMIT")
        aside = self.path.with_name("aside")
        aside.mkdir()
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{self.path}{suffix}", aside / f"copy{suffix}")
        self.connection.close()
        for suffix in ("", "-wal"):
            shutil.move(aside / f"copy{suffix}", f"{self.path}{suffix}")
        aside.rmdir()
        return self.path
