"""Every table, column and number of `ChatStorage.sqlite` that this program relies on; docs/reference/stores.md says what they mean.

It is a Core Data store, the same on iPhone, iPad and Mac. Columns came and went with the app's versions, so the database is asked what it
has: what is absent reads as NULL. Beside it, both optional: `ContactsV2.sqlite` (the address book), `LID.sqlite` (hidden identities).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from backup_tool.audio import AUDIO_SUFFIXES, VIDEO_SUFFIXES, suffix_of
from backup_tool.models import Kind, Note
from backup_tool.sources.apple.people import LID_SERVER, PHONE_SERVER, People, Who, as_text, digits, first_text, is_person
from backup_tool.sources.filenames import time_text

CHAT_STORAGE, CONTACTS, LIDS = "ChatStorage.sqlite", "ContactsV2.sqlite", "LID.sqlite"

MESSAGE, MEDIA, SESSION, MEMBER = "ZWAMESSAGE", "ZWAMEDIAITEM", "ZWACHATSESSION", "ZWAGROUPMEMBER"
PUSH_NAME, CONTACT, ACCOUNT, PAIR = "ZWAPROFILEPUSHNAME", "ZWAADDRESSBOOKCONTACT", "ZWAZACCOUNT", "ZWAPHONENUMBERLIDPAIR"

AUDIO_TYPE = 3
"""`ZMESSAGETYPE` of voice notes and audio files alike."""
REVOKED_TYPE = 14
"""Deleted for everyone: the row stays, the file may."""
VOICE_ORIGIN = 1
"""`ZMEDIAORIGIN` of a recorded voice note; means other things on other types."""
ONE_TO_ONE = 0
"""`ZSESSIONTYPE` of a conversation of two."""
_FORWARD_COUNT, _FORWARDER = 17, 21
"""Fields of the protobuf in `ZMETADATA`."""
_EPOCH = 978_307_200
"""2001-01-01 UTC, where Core Data's seconds begin, in seconds since 1970."""

PURE_AUDIO = AUDIO_SUFFIXES - VIDEO_SUFFIXES
_LONGEST = 1000 * 3600
_LONGEST_METADATA = 2**16
_ROOTS = re.compile(r"^(?:Message|Library)/(?=Media/)")


class Row(msgspec.Struct, gc=False):
    """One message with audio. `path` is that of its file from `Media/` on, None where the device has none on record."""

    number: int
    key: str | None
    chat: Who | None
    sender: Who | None
    from_me: bool | None
    sent: int | None
    """Milliseconds since 1970."""
    kind: Kind
    path: str | None
    size: int | None
    hash: bytes | None
    duration: float | None
    starred: bool | None
    forwarded: bool | None
    revoked: bool

    @property
    def order(self) -> tuple[int, int]:
        """Messages in the order they were sent."""
        return (self.sent or 0, self.number)

    @property
    def message(self) -> tuple[str, str, bool | None] | None:
        """What tells this message from every other of the same account; None where that is not known."""
        return (self.chat.id, self.key, self.from_me) if self.chat and self.key else None


class _Raw(NamedTuple):
    number: object
    type: object
    from_me: object
    key: object
    date: object
    sent: object
    starred: object
    chat: object
    member: object
    from_jid: object
    path: object
    size: object
    duration: object
    origin: object
    mime: object
    hash: object
    title: object
    metadata: object


_COLUMNS = {
    "number": (MESSAGE, "Z_PK"),
    "type": (MESSAGE, "ZMESSAGETYPE"),
    "from_me": (MESSAGE, "ZISFROMME"),
    "key": (MESSAGE, "ZSTANZAID"),
    "date": (MESSAGE, "ZMESSAGEDATE"),
    "sent": (MESSAGE, "ZSENTDATE"),
    "starred": (MESSAGE, "ZSTARRED"),
    "chat": (MESSAGE, "ZCHATSESSION"),
    "member": (MESSAGE, "ZGROUPMEMBER"),
    "from_jid": (MESSAGE, "ZFROMJID"),
    "path": (MEDIA, "ZMEDIALOCALPATH"),
    "size": (MEDIA, "ZFILESIZE"),
    "duration": (MEDIA, "ZMOVIEDURATION"),
    "origin": (MEDIA, "ZMEDIAORIGIN"),
    "mime": (MEDIA, "ZVCARDSTRING"),
    "hash": (MEDIA, "ZVCARDNAME"),
    "title": (MEDIA, "ZTITLE"),
    "metadata": (MEDIA, "ZMETADATA"),
}
_SHORT = {MESSAGE: "m", MEDIA: "i"}


class Schema:
    """The tables that a database has, each with its columns. Views and virtual tables are never touched: anything may hide in them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        wanted = {MESSAGE, MEDIA, SESSION, MEMBER, PUSH_NAME, CONTACT, ACCOUNT, PAIR}
        real = {name for name, sql in found if name in wanted and not re.match(r"\s*create\s+virtual", str(sql), re.IGNORECASE)}
        self._columns = {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in sorted(real)}

    def has(self, table: str, column: str) -> bool:
        """True where the table has this column."""
        return column in self._columns.get(table, ())

    @property
    def holds_messages(self) -> bool:
        """True where this is a store of messages as known here."""
        return self.has(MESSAGE, "Z_PK") and self.has(MESSAGE, "ZMESSAGETYPE")

    def rows(self, table: str, *names: str) -> Iterator[tuple[Any, ...]]:
        """These columns of every row of a table, None in the place of a column that is not there; no rows where the table is not."""
        if table in self._columns:
            yield from self._select([name if self.has(table, name) else "NULL" for name in names], table)

    def messages(self) -> Iterator[_Raw]:
        """Each message that may have audio. Mostly a message names its media; in some rows only the media names its message."""
        linked, back = self.has(MEDIA, "Z_PK") and self.has(MESSAGE, "ZMEDIAITEM"), self.has(MEDIA, "ZMESSAGE")
        if back:
            alone = " AND m.ZMEDIAITEM IS NULL" if linked else ""
            yield from self._audio(f"{MEDIA} i JOIN {MESSAGE} m ON m.Z_PK = i.ZMESSAGE", alone, media=True)
        join = f" LEFT JOIN {MEDIA} i ON i.Z_PK = m.ZMEDIAITEM" if linked else ""
        yield from self._audio(f"{MESSAGE} m{join}", "", media=linked)

    def _audio(self, origin: str, also: str, *, media: bool) -> Iterator[_Raw]:
        chosen = [
            f"{_SHORT[table]}.{name}" if (table == MESSAGE or media) and self.has(table, name) else "NULL"
            for table, name in (_COLUMNS[field] for field in _Raw._fields)
        ]
        # A text that quotes a note has its media row too: only with a file of its own does another type count.
        wanted = [f"m.ZMESSAGETYPE = {AUDIO_TYPE}"]
        if media and self.has(MEDIA, "ZMEDIALOCALPATH"):
            ends = [f"i.ZMEDIALOCALPATH LIKE '%.{suffix}'" for suffix in sorted(PURE_AUDIO)]
            mime = ["i.ZVCARDSTRING LIKE 'audio/%'"] if self.has(MEDIA, "ZVCARDSTRING") else []
            wanted.append(f"i.ZMEDIALOCALPATH IS NOT NULL AND ({' OR '.join(mime + ends)})")
        return map(_Raw._make, self._select(chosen, f"{origin} WHERE (({') OR ('.join(wanted)})){also}"))

    def _select(self, columns: list[str], origin: str) -> Iterator[tuple[Any, ...]]:
        # Made of nothing but names and numbers of this module: no text of a database ever becomes part of a query.
        return self._connection.execute(f"SELECT {', '.join(columns)} FROM {origin}")  # noqa: S608


def join_people(schema: Schema, people: People) -> None:
    """All that a database (of any of the three) knows of who is who."""
    for lid, phone in schema.rows(ACCOUNT, "ZIDENTIFIER", "ZPHONENUMBER"):
        if _on(lid, LID_SERVER):
            people.join(lid, phone)
    for lid, phone in schema.rows(PAIR, "ZLID", "ZPHONENUMBER"):
        people.join(lid, phone)
    for lid, phone, number in schema.rows(CONTACT, "ZLID", "ZWHATSAPPID", "ZPHONENUMBER"):
        people.join(lid, number if _on(phone, LID_SERVER) else phone or number)
    for kind, *pair in schema.rows(SESSION, "ZSESSIONTYPE", "ZCONTACTJID", "ZCONTACTIDENTIFIER"):
        for lid, phone in (pair, pair[::-1]) if kind == ONE_TO_ONE else ():
            if _on(lid, LID_SERVER) and _on(phone, PHONE_SERVER):
                people.join(lid, phone)


def name_people(schema: Schema, people: People) -> None:
    """All names that a database (of any of the three) has. Call it when all are joined."""
    for jid, title in schema.rows(SESSION, "ZCONTACTJID", "ZPARTNERNAME"):
        people.name("chat", jid, title)
    columns = ("ZWHATSAPPID", "ZLID", "ZPHONENUMBER", "ZFULLNAME", "ZGIVENNAME", "ZLASTNAME", "ZBUSINESSNAME", "ZHIGHLIGHTEDNAME")
    for phone, lid, number, full, given, last, business, highlighted in schema.rows(CONTACT, *columns):
        name = first_text((full, f"{first_text((given,))} {first_text((last,))}", business, highlighted))
        for jid in (phone if _on(phone, LID_SERVER) else _jid(phone or number, PHONE_SERVER), _jid(lid, LID_SERVER)):
            people.name("contact", jid, name)
    for jid, name, first in schema.rows(MEMBER, "ZMEMBERJID", "ZCONTACTNAME", "ZFIRSTNAME"):
        people.name("member", jid, first_text((name, first)))
    for jid, name in schema.rows(PUSH_NAME, "ZJID", "ZPUSHNAME"):
        people.name("push", jid, name)


def _on(jid: object, server: str) -> bool:
    return (as_text(jid) or "").endswith("@" + server)


def _jid(value: object, server: str) -> str | None:
    number = digits(value)
    return f"{number}@{server}" if number else None


def read_rows(schema: Schema, people: People) -> Iterator[Row]:
    """Each message with audio, once. Raises sqlite3.Error where the database is damaged; what came before is good."""
    sessions = {number: (jid, kind) for number, jid, kind in schema.rows(SESSION, "Z_PK", "ZCONTACTJID", "ZSESSIONTYPE")}
    members = dict(schema.rows(MEMBER, "Z_PK", "ZMEMBERJID"))
    starred = schema.has(MESSAGE, "ZSTARRED")
    seen: set[int] = set()
    for raw in schema.messages():
        if not isinstance(raw.number, int) or raw.number in seen:
            continue
        seen.add(raw.number)
        from_me = bool(raw.from_me) if isinstance(raw.from_me, int) else None
        chat, kind_of_chat = sessions.get(raw.chat, (None, None))
        who = people.who(chat)
        yield Row(
            number=raw.number,
            key=as_text(raw.key),
            chat=who,
            sender=_sender(raw, who, kind_of_chat, members, people) if from_me is False else None,
            from_me=from_me,
            sent=_milliseconds(raw.date) or _milliseconds(raw.sent),
            kind=_kind(raw),
            path=path_from_media(raw.path),
            size=raw.size if isinstance(raw.size, int) and raw.size > 0 else None,
            hash=_hash(raw.hash),
            duration=float(raw.duration) if isinstance(raw.duration, int | float) and 0 < raw.duration < _LONGEST else None,
            starred=raw.starred == 1 if starred else None,
            forwarded=_forwarded(raw.metadata),
            revoked=raw.type == REVOKED_TYPE,
        )


def _sender(raw: _Raw, chat: Who | None, kind: object, members: dict[Any, Any], people: People) -> Who | None:
    """Who sent a message to the owner. In a group only its member row says (`ZFROMJID` is the group's); between two it is the other."""
    member = people.who(members.get(raw.member)) if raw.member is not None else None
    if member is not None:
        return member
    if is_person(as_text(raw.from_jid)):
        return people.who(raw.from_jid)
    return chat if kind == ONE_TO_ONE or (chat and is_person(chat.id)) else None


def _kind(raw: _Raw) -> Kind:
    """A recorded note, or a file of audio: by the origin that the app wrote down, else by what recorded notes are like."""
    if raw.type == AUDIO_TYPE and raw.origin == VOICE_ORIGIN:
        return "voice"
    path, mime = as_text(raw.path), (as_text(raw.mime) or "").lower()
    like_a_note = suffix_of(path) == "opus" if path else "opus" in mime
    return "voice" if like_a_note and not as_text(raw.title) else "audio"


def path_from_media(value: object) -> str | None:
    """A file's path from `Media/` on, also where the app wrote what is above, or a whole path; None where it leads outside."""
    parts = [part for part in (as_text(value) or "").split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        return None
    if "Media" in parts[:-1]:
        parts = parts[parts.index("Media") :]
    return "/".join(parts)


def key_of_path(original_path: str) -> str:
    """What a file's path in the container and the path in its message have in common."""
    return _ROOTS.sub("", original_path)


def _milliseconds(value: object) -> int | None:
    """Milliseconds since 1970 of Core Data's seconds, whole or not; None where not recorded, or no possible time."""
    if not isinstance(value, int | float) or not 0 < value < 10**11 or not math.isfinite(value):
        return None
    milliseconds = round((value + _EPOCH) * 1000)
    return milliseconds if time_text(milliseconds) else None


def _hash(value: object) -> bytes | None:
    try:
        digest = base64.b64decode(as_text(value) or "", validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == 32 else None


def _forwarded(metadata: object) -> bool | None:
    """True where the message's metadata counts a forward; else not known."""
    if not isinstance(metadata, bytes) or len(metadata) > _LONGEST_METADATA:
        return None
    return True if any((field == _FORWARD_COUNT and value) or field == _FORWARDER for field, value in protobuf_fields(metadata)) else None


def protobuf_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message (Protocol Buffers, "Encoding"), one level deep, as far as it can be read."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            number, at = _varint(data, at)
            yield field, number
            continue
        length, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, len(data)), at)
        if not field or at + length > len(data):
            return
        yield field, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, and where the next begins; the end of the data where it is cut."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return 0, at
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
    return 0, len(data)


def note_of(row: Row, original_path: str | None) -> Note:
    """The record of a message, as far as its database goes."""
    sent_at = time_text(row.sent) if row.sent is not None else None
    return Note(
        kind=row.kind,
        chat=row.chat.name if row.chat else None,
        chat_id=row.chat.id if row.chat else None,
        message_id=row.key,
        sender=row.sender.name if row.sender else None,
        sender_id=row.sender.id if row.sender else None,
        from_me=row.from_me,
        sent_at=sent_at,
        sent_at_from="message" if sent_at else None,
        duration=row.duration,
        starred=row.starred,
        forwarded=row.forwarded,
        original_path=original_path,
    )
