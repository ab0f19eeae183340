"""Writes the tables of `msgstore.db` as they were before 2022: `messages` and `chat_list`, with a file's path in a serialised Java object.

old = LegacyMsgstore(path)                       # a database of its own
old = LegacyMsgstore.beside(msgstore)            # the same tables in one that has the newer ones too
old.message("491701@s.whatsapp.net", "KEY", sent=1400000000000, file="Media/WhatsApp Voice Notes/201420/PTT-20140513-WA0001.aac")
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
import struct
from pathlib import Path
from typing import Any

from tests.generators.msgstore import Msgstore

_MESSAGES = (
    "_id INTEGER PRIMARY KEY AUTOINCREMENT, key_remote_jid TEXT NOT NULL, key_from_me INTEGER, key_id TEXT NOT NULL, status INTEGER, "
    "needs_push INTEGER, data TEXT, timestamp INTEGER, media_url TEXT, media_mime_type TEXT, media_wa_type TEXT, media_size INTEGER, "
    "media_name TEXT, media_caption TEXT, media_hash TEXT, media_duration INTEGER, origin INTEGER, latitude REAL, longitude REAL, "
    "thumb_image TEXT, remote_resource TEXT, received_timestamp INTEGER, starred INTEGER, quoted_row_id INTEGER, forwarded INTEGER"
)
_CHATS = (
    "_id INTEGER PRIMARY KEY AUTOINCREMENT, key_remote_jid TEXT UNIQUE, subject TEXT, creation INTEGER, last_read_message_table_id INTEGER"
)


class LegacyMsgstore:
    """The older tables. `without` names columns ("messages.starred") and tables ("chat_list") that this version lacks."""

    def __init__(self, path: Path, *, without: frozenset[str] = frozenset()) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._make(sqlite3.connect(path, isolation_level=None), without)
        self.path = path

    @classmethod
    def beside(cls, msgstore: Msgstore, *, first: int = 2) -> LegacyMsgstore:
        """The older tables beside the newer ones, as while the app moved. Rows are numbered from `first`. Close the newer one, not this."""
        old = cls.__new__(cls)
        old._make(msgstore.connection, frozenset(["chat_list"]))
        old._next = first
        return old

    def _make(self, connection: sqlite3.Connection, without: frozenset[str]) -> None:
        self.connection = connection
        self.without = without
        self._next = 2
        for table, columns in (("messages", _MESSAGES), ("chat_list", _CHATS)):
            if table not in without:
                kept = [column for column in columns.split(", ") if f"{table}.{column.split()[0]}" not in without]
                connection.execute(f"CREATE TABLE {table} ({', '.join(kept)})")
        self._insert("messages", _id=1, key_remote_jid="-1", key_from_me=0, key_id="-1", media_wa_type="0", timestamp=0)

    def chat(self, address: str, subject: str | None = None) -> None:
        """A chat and its title."""
        self._insert("chat_list", key_remote_jid=address, subject=subject)

    def message(
        self,
        chat: str,
        key: str,
        *,
        sent: Any = 0,
        sender: str | None = None,
        from_me: bool = False,
        file: str | None = None,
        data: bytes | None = None,
        type_: str = "2",
        **columns: Any,
    ) -> int:
        """A message; with `file`, its path inside `thumb_image`. `columns` override any column by name."""
        number, self._next = self._next, self._next + 1
        row: dict[str, Any] = {
            "_id": number, "key_remote_jid": chat, "key_from_me": int(from_me), "key_id": key, "status": 0, "timestamp": sent, "origin": 1,
            "media_wa_type": type_, "media_mime_type": "audio/aac" if type_ == "2" else None, "remote_resource": sender, "starred": 0,
        }  # fmt: skip
        if file is not None:
            row["thumb_image"] = media_data(file)
        if data is not None:
            row |= {"media_size": len(data), "media_hash": base64.b64encode(hashlib.sha256(data).digest()).decode()}
        self._insert("messages", **(row | columns))
        return number

    def _insert(self, table: str, **values: Any) -> None:
        kept = {name: value for name, value in values.items() if f"{table}.{name}" not in self.without}
        if table not in self.without:
            marks = ", ".join("?" * len(kept))
            self.connection.execute(f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({marks})", tuple(kept.values()))

    def close(self) -> Path:
        """Finish a database of its own."""
        self.connection.close()
        return self.path


def media_data(path: str | bytes) -> bytes:
    """A `com.whatsapp.MediaData` as Java serialises it (its protocol's grammar, section 6.4): some numbers, then the file."""
    fields = [b"Z" + _utf(b"autodownloadRetryEnabled"), b"J" + _utf(b"fileSize"), b"L" + _utf(b"file") + b"\x74" + _utf(b"Ljava/io/File;")]
    described = b"\x72" + _utf(b"com.whatsapp.MediaData") + struct.pack(">qBH", -3211751283609594, 2, len(fields)) + b"".join(fields)
    values = b"\x01" + struct.pack(">q", 0x0074001374001374)
    file = b"\x73\x72" + _utf(b"java.io.File") + bytes.fromhex("042da4450e0de4ff") + b"\x03\0\1L" + _utf(b"path")
    file += b"\x74" + _utf(b"Ljava/lang/String;") + b"\x78\x70"
    text = path if isinstance(path, bytes) else modified_utf8(path)
    return b"\xac\xed\0\5\x73" + described + b"\x78\x70" + values + file + b"\x74" + _utf(text) + b"\x77\2\0/\x78"


def modified_utf8(text: str) -> bytes:
    """Java's own: each half of a UTF-16 pair in three bytes, NUL in two (Java Virtual Machine Specification, section 4.4.7)."""
    units = struct.unpack(f">{len(text.encode('utf-16-be')) // 2}H", text.encode("utf-16-be"))
    out = bytearray()
    for unit in units:
        if 0 < unit < 0x80:
            out.append(unit)
        elif unit < 0x800:
            out += bytes([0xC0 | unit >> 6, 0x80 | unit & 0x3F])
        else:
            out += bytes([0xE0 | unit >> 12, 0x80 | unit >> 6 & 0x3F, 0x80 | unit & 0x3F])
    return bytes(out)


def _utf(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text
