"""Every table, column and number of `msgstore.db` that this program relies on. docs/reference/stores.md says what they mean.

Columns came and went with the app's versions, so the database is asked what it has: what is absent reads as NULL. Views and virtual tables
are never touched: views change most, and a database from outside may hide anything in them.

Messages stand in `messages` (to about 2020), in `message` (since 2022), or in both while the app moved them from one to the other. A backup
has hardly an index: it is gone through once, and what explains it (`jid`, `chat`) is held in memory.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

MESSAGE, MEDIA, CHAT, JID = "message", "message_media", "chat", "jid"
FORWARDED, VIEW_ONCE, NUMBER_CHANGE = "message_forwarded", "message_view_once_media", "message_system_number_change"
JID_MAP, LID_JID_MAP, LID_NAME = "jid_map", "lid_jid_map", "lid_display_name"
LEGACY, LEGACY_CHAT = "messages", "chat_list"
WA_CONTACTS, WA_VERIFIED = "wa_contacts", "wa_vnames"
"""Tables of `wa.db`."""

AUDIO_TYPE = 2
VIEW_ONCE_VOICE = 82
REVOKED_TYPES = (15, 64)
"""Deleted by its sender, or by an admin: the row stays, the file may."""
ORIGIN_ATTACHMENT, ORIGIN_VOICE = 0, 1
FORWARDED_FLAG = 1
"""Bit of `origination_flags`."""
VIEW_ONCE_OPENED = 1
"""State of a note to be heard once: it was there, and is no more."""
SENTINEL_KEY = "-1"
"""Both message tables hold one row with this id that is no message."""

LID_SERVER, PHONE_SERVER = "lid", "s.whatsapp.net"
LONGEST_MEDIA_DATA = 2**16
"""How much of a legacy `thumb_image` is looked at: what is searched for stands in its first few hundred bytes."""


class MessageRow(NamedTuple):
    """One row of a query for notes: columns of `message`, then of `message_media`, then of what else is told by message.

    Of `messages` it has the same meaning; there `chat` and `sender` are addresses in place of rows, `fallback` is the file's name as the
    message has it, and `media_data` a serialised Java object with the file's path.
    """

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
    transferred: object
    forwarded: object
    view_once: object
    fallback: object
    media_data: object


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
    "transferred": (MEDIA, "transferred"),
    "forwarded": (FORWARDED, "message_row_id"),
    "view_once": (VIEW_ONCE, "state"),
}
_LEGACY_COLUMNS = {
    "message_id": "_id",
    "chat": "key_remote_jid",
    "from_me": "key_from_me",
    "key": "key_id",
    "sender": "remote_resource",
    "timestamp": "timestamp",
    "received": "received_timestamp",
    "type": "media_wa_type",
    "starred": "starred",
    "file_length": "media_size",
    "mime": "media_mime_type",
    "duration": "media_duration",
    "hash": "media_hash",
    "forwarded": "forwarded",
    "fallback": "media_name",
    "media_data": "thumb_image",
}
"""`origin` is not among them: in this table it stands on ordinary text too and is no evidence of anything."""
_NEEDED = {MESSAGE: {"_id", "chat_row_id", "key_id", "timestamp", "message_type"}, CHAT: {"_id", "jid_row_id"}, JID: {"_id"}}
_NEEDED_LEGACY = {"_id", "key_remote_jid", "key_id", "timestamp", "media_wa_type"}
_SHORT = {MESSAGE: "m", MEDIA: "mm", FORWARDED: "f", VIEW_ONCE: "v"}
_ALL = frozenset([*_SHORT, CHAT, JID, NUMBER_CHANGE, JID_MAP, LID_JID_MAP, LID_NAME, LEGACY, LEGACY_CHAT, WA_CONTACTS, WA_VERIFIED])


class Schema:
    """The tables that a database has, each with its columns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        real = {name for name, sql in found if name in _ALL and not re.match(r"\s*create\s+virtual", str(sql), re.IGNORECASE)}
        self._columns = {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in sorted(real)}

    def has(self, table: str, column: str | None = None) -> bool:
        """True where the table, and the column in it, are there."""
        return table in self._columns and (column is None or column in self._columns[table])

    @property
    def modern(self) -> bool:
        """True where messages stand in the tables used since 2022."""
        return all(columns <= self._columns.get(table, set()) for table, columns in _NEEDED.items())

    @property
    def legacy(self) -> bool:
        """True where the table is there in which messages stood before; a database that was brought up to date keeps it, empty."""
        return self._columns.get(LEGACY, set()) >= _NEEDED_LEGACY

    @property
    def legacy_rows(self) -> bool:
        """True where that table still holds messages: its sentinel row does not count."""
        return self.legacy and any(jid != SENTINEL_KEY for (jid,) in islice(self.rows(LEGACY, "key_remote_jid"), 2))

    @property
    def readable(self) -> bool:
        """True where messages can be read, of any age."""
        return self.modern or self.legacy

    def rows(self, table: str, *names: str) -> Iterator[tuple[Any, ...]]:
        """These columns of every row of a table, None in the place of a column that is not there; no rows where the table is not."""
        if self.has(table):
            yield from self._select([name if self.has(table, name) else "NULL" for name in names], table)

    def newest_moments(self) -> Iterator[int]:
        """The moment of the newest message of each table in milliseconds, latest first. Times to come are a clock's mistake."""
        tables = [name for name, there in ((MESSAGE, self.modern), (LEGACY, self.legacy)) if there]
        possible = f"typeof(timestamp) = 'integer' AND timestamp <= {int(time.time() + 86400) * 1000}"
        found = [moment for name in tables for (moment,) in self._select(["max(timestamp)"], f"{name} WHERE {possible}")]
        return iter(sorted((moment for moment in found if moment is not None), reverse=True))

    def messages(self) -> Iterator[MessageRow]:
        """Each message of `message` that is, or may be, a note; none where that table cannot be read."""
        if not self.modern:
            return iter(())
        joined = [table for table in (MEDIA, FORWARDED, VIEW_ONCE) if self.has(table, "message_row_id")]
        chosen = [
            f"{_SHORT[table]}.{name}" if table in (MESSAGE, *joined) and self.has(table, name) else "NULL"
            for table, name in (_COLUMNS.get(field, ("", "")) for field in MessageRow._fields)
        ]
        wanted = [f"m.message_type IN ({AUDIO_TYPE}, {VIEW_ONCE_VOICE})", *self._media_wanted()]
        joins = " ".join(f"LEFT JOIN {table} {_SHORT[table]} ON {_SHORT[table]}.message_row_id = m._id" for table in joined)
        where = f"({' OR '.join(wanted)}) AND m.key_id IS NOT '{SENTINEL_KEY}'"
        return map(MessageRow._make, self._select(chosen, f"{MESSAGE} m {joins} WHERE {where}"))

    def legacy_messages(self) -> Iterator[MessageRow]:
        """Each message of `messages` that is, or may be, a note, but for those that `message` knows to be deleted since."""
        if not self.legacy:
            return iter(())
        wanted = [f"CAST(l.media_wa_type AS TEXT) IN ('{AUDIO_TYPE}', '{VIEW_ONCE_VOICE}')"]
        if self.has(LEGACY, "media_mime_type"):
            wanted.append("l.media_mime_type LIKE 'audio/%'")
        origin, where = f"{LEGACY} l", f"l.key_remote_jid IS NOT '{SENTINEL_KEY}'"
        own_media = ""
        if self.modern:
            # Rows keep their number when the app moves them. Another message under the number has its own media row: not this one's.
            origin += f" LEFT JOIN {MESSAGE} m ON m._id = l._id"
            where += f" AND NOT (m.key_id IS l.key_id AND coalesce(m.message_type, 0) IN {REVOKED_TYPES})"
            own_media = " AND (m._id IS NULL OR m.key_id IS l.key_id)"
        media = self.has(MEDIA, "message_row_id")
        if media:
            origin += f" LEFT JOIN {MEDIA} mm ON mm.message_row_id = l._id{own_media}"
            wanted += self._media_wanted()
        chosen = [self._legacy_column(field, media) for field in MessageRow._fields]
        return map(MessageRow._make, self._select(chosen, f"{origin} WHERE ({' OR '.join(wanted)}) AND {where}"))

    def _media_wanted(self) -> list[str]:
        wanted = []
        if self.has(MEDIA, "message_row_id") and self.has(MEDIA, "mime_type"):
            wanted.append("mm.mime_type LIKE 'audio/%'")
        if self.has(MEDIA, "message_row_id") and self.has(MEDIA, "file_path"):
            wanted += [f"mm.file_path LIKE '{shape}'" for shape in ("% Voice Notes/%", "% Video Notes/%", "%/PTV-%")]
        return wanted

    def _legacy_column(self, field: str, media: bool) -> str:
        """What a legacy row has for a field; where the newer table of files has a row for it, that first."""
        name, (table, newer) = _LEGACY_COLUMNS.get(field, ""), _COLUMNS.get(field, ("", ""))
        found = [f"mm.{newer}"] if media and table == MEDIA and self.has(MEDIA, newer) else []
        if name and self.has(LEGACY, name):
            found.append(f"substr(l.{name}, 1, {LONGEST_MEDIA_DATA})" if field == "media_data" else f"l.{name}")
        return f"coalesce({', '.join(found)})" if len(found) > 1 else found[0] if found else "NULL"

    def _select(self, columns: list[str], origin: str) -> Iterator[tuple[Any, ...]]:
        # Made of nothing but names and numbers of this module: no text of a database ever becomes part of a query.
        return self._connection.execute(f"SELECT {', '.join(columns)} FROM {origin}")  # noqa: S608
