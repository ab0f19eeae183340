"""Every table, column and number of `msgstore.db` that this program relies on. docs/reference/whatsapp-store.md says what they mean.

Columns came and went with the app's versions, so the database is asked what it has: what is absent reads as NULL. Views and virtual tables
are never touched: views change most, and a database from outside may hide anything in them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

MESSAGE, MEDIA, CHAT, JID = "message", "message_media", "chat", "jid"
FORWARDED, JID_MAP, LID_NAME, LEGACY = "message_forwarded", "jid_map", "lid_display_name", "messages"

AUDIO_TYPE = 2
VIEW_ONCE_VOICE = 82
REVOKED_TYPES = (15, 64)
"""Deleted by its sender, or by an admin: the row stays, the file may."""
ORIGIN_ATTACHMENT, ORIGIN_VOICE = 0, 1
FORWARDED_FLAG = 1
"""Bit of `origination_flags`."""
SENTINEL_KEY = "-1"
"""Both message tables hold one row with this id that is no message."""

LID_SERVER, PHONE_SERVER = "lid", "s.whatsapp.net"


class MessageRow(NamedTuple):
    """One row of the query for notes: columns of `message`, then of `message_media`, then whether it stands in `message_forwarded`."""

    message_id: object
    chat: object
    from_me: object
    key: object
    sender: object
    origin: object
    origination_flags: object
    timestamp: object
    received: object
    type: object
    starred: object
    path: object
    file_size: object
    file_length: object
    mime: object
    duration: object
    hash: object
    transcript: object
    forwarded: object


_COLUMNS = {
    "message_id": (MESSAGE, "_id"),
    "chat": (MESSAGE, "chat_row_id"),
    "from_me": (MESSAGE, "from_me"),
    "key": (MESSAGE, "key_id"),
    "sender": (MESSAGE, "sender_jid_row_id"),
    "origin": (MESSAGE, "origin"),
    "origination_flags": (MESSAGE, "origination_flags"),
    "timestamp": (MESSAGE, "timestamp"),
    "received": (MESSAGE, "received_timestamp"),
    "type": (MESSAGE, "message_type"),
    "starred": (MESSAGE, "starred"),
    "path": (MEDIA, "file_path"),
    "file_size": (MEDIA, "file_size"),
    "file_length": (MEDIA, "file_length"),
    "mime": (MEDIA, "mime_type"),
    "duration": (MEDIA, "media_duration"),
    "hash": (MEDIA, "file_hash"),
    "transcript": (MEDIA, "raw_transcription_text"),
    "forwarded": (FORWARDED, "message_row_id"),
}
_NEEDED = {MESSAGE: {"_id", "chat_row_id", "key_id", "timestamp", "message_type"}, CHAT: {"_id", "jid_row_id"}, JID: {"_id"}}


class Schema:
    """The tables that a database has, each with its columns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        wanted = {MESSAGE, MEDIA, CHAT, JID, FORWARDED, JID_MAP, LID_NAME, LEGACY}
        real = {name for name, sql in found if name in wanted and not re.match(r"\s*create\s+virtual", str(sql), re.IGNORECASE)}
        self._columns = {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in sorted(real)}

    def has(self, table: str, column: str | None = None) -> bool:
        """True where the table, and the column in it, are there."""
        return table in self._columns and (column is None or column in self._columns[table])

    @property
    def modern(self) -> bool:
        """True where messages stand in the tables used since 2022."""
        return all(columns <= self._columns.get(table, set()) for table, columns in _NEEDED.items())

    @property
    def legacy_rows(self) -> bool:
        """True where messages still stand in the table used before: its sentinel row does not count."""
        if not self.has(LEGACY, "key_remote_jid"):
            return False
        return any(jid != SENTINEL_KEY for (jid,) in islice(self.rows(LEGACY, "key_remote_jid"), 2))

    def rows(self, table: str, *names: str) -> Iterator[tuple[Any, ...]]:
        """These columns of every row of a table, None in the place of a column that is not there; no rows where the table is not."""
        if self.has(table):
            yield from self._select([name if self.has(table, name) else "NULL" for name in names], table)

    def newest_moments(self) -> Iterator[int]:
        """The latest times of messages in milliseconds, latest first: enough of them to get past a few that cannot be."""
        latest = self._select(["timestamp"], f"{MESSAGE} WHERE typeof(timestamp) = 'integer' ORDER BY timestamp DESC LIMIT 1000")
        return (moment for (moment,) in latest)

    def messages(self) -> Iterator[MessageRow]:
        """Each message that is, or may be, a note. One pass over `message`: a backup has no indexes that would help."""
        short = {MESSAGE: "m", MEDIA: "mm", FORWARDED: "f"}
        joined = [table for table in (MEDIA, FORWARDED) if self.has(table, "message_row_id")]
        chosen = [
            f"{short[table]}.{name}" if table in (MESSAGE, *joined) and self.has(table, name) else "NULL"
            for table, name in (_COLUMNS[field] for field in MessageRow._fields)
        ]
        wanted = [f"m.message_type IN ({AUDIO_TYPE}, {VIEW_ONCE_VOICE})"]
        if MEDIA in joined and self.has(MEDIA, "mime_type"):
            wanted.append("mm.mime_type LIKE 'audio/%'")
        if MEDIA in joined and self.has(MEDIA, "file_path"):
            wanted += [f"mm.file_path LIKE '{shape}'" for shape in ("% Voice Notes/%", "% Video Notes/%", "%/PTV-%")]
        joins = " ".join(f"LEFT JOIN {table} {short[table]} ON {short[table]}.message_row_id = m._id" for table in joined)
        where = f"({' OR '.join(wanted)}) AND m.key_id IS NOT '{SENTINEL_KEY}'"
        return map(MessageRow._make, self._select(chosen, f"{MESSAGE} m {joins} WHERE {where}"))

    def _select(self, columns: list[str], origin: str) -> Iterator[tuple[Any, ...]]:
        # Made of nothing but names and numbers of this module: no text of a database ever becomes part of a query.
        return self._connection.execute(f"SELECT {', '.join(columns)} FROM {origin}")  # noqa: S608
