"""The messages with notes of one database, compact: what a note will say, and what its file is found by."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

import msgspec

from backup_tool.models import Chat, Kind, Note, Transcript
from backup_tool.sources.filenames import kind_of_name, read_name, time_text
from backup_tool.sources.whatsapp_android.legacy import name_in, path_in
from backup_tool.sources.whatsapp_android.people import People, Who
from backup_tool.sources.whatsapp_android.schema import (
    AUDIO_TYPE,
    FORWARDED,
    FORWARDED_FLAG,
    LEGACY,
    MESSAGE,
    ORIGIN_ATTACHMENT,
    ORIGIN_VOICE,
    REVOKED_TYPES,
    VIEW_ONCE_OPENED,
    VIEW_ONCE_VOICE,
    MessageRow,
    Schema,
)

_SECONDS_BELOW = 10**11
"""A smaller number cannot be milliseconds of any year that WhatsApp has seen."""
_LONGEST = 1000 * 3600
_LONGEST_TRANSCRIPT = 200_000


class Row(msgspec.Struct, gc=False):
    """One message. `root` is the store that its database belongs to, None for a database outside all; `size` and `hash` are of its file.

    `arrived` is False where the device never had the file: it was not downloaded.
    """

    root: str | None
    number: int
    key: str | None
    chat: Who | None
    sender: Who | None
    from_me: bool | None
    sent: int | None
    kind: Kind | None
    path: str | None
    size: int | None
    hash: bytes | None
    duration: float | None
    starred: bool | None
    forwarded: bool | None
    transcript: str | None
    revoked: bool
    arrived: bool
    again: bool = False
    """True where another row is of the same message: this one only tells of one more place where its file may be."""

    @property
    def order(self) -> tuple[int, int]:
        """Messages in the order they were sent; many share a millisecond."""
        return (self.sent or 0, self.number)

    @property
    def message(self) -> tuple[str, str, bool | None] | None:
        """What tells this message from every other, in any database of the same account; None where that is not known."""
        return (self.chat.id, self.key, self.from_me) if self.chat and self.key else None


def read_rows(schema: Schema, root: str | None) -> Iterator[Row]:
    """Each message with a note, once, of whatever table. A row given out may still learn more until the last one was: from its twin.

    Raises sqlite3.Error where the database is damaged; what came before is good.
    """
    maker = _Maker(schema, root)
    both = schema.modern and schema.legacy_rows
    twins: dict[tuple[str, str, bool | None], Row] = {}
    for row in maker.rows(schema.messages(), MESSAGE):
        if both and row.message:
            twins[row.message] = row
        yield row
    for row in maker.rows(schema.legacy_messages(), LEGACY):
        twin = twins.get(row.message) if row.message else None
        if twin is None:
            yield row
        else:
            _complete(twin, row)


def complete(row: Row, twin: Row) -> None:
    """What another row says of the same message counts where the first says nothing, but for where its file is."""
    for field in ("sender", "sent", "kind", "duration", "transcript", "starred", "forwarded"):
        if getattr(row, field) is None:
            setattr(row, field, getattr(twin, field))


def elsewhere(row: Row, twin: Row) -> Row:
    """The message of `row`, with its file where `twin` says it is."""
    return msgspec.structs.replace(row, root=twin.root, path=twin.path, size=twin.size, hash=twin.hash, arrived=twin.arrived, again=True)


def _complete(row: Row, twin: Row) -> None:
    """What the older table says of the same message counts where the newer says nothing: apps moved messages first, their files later."""
    row.arrived |= twin.arrived
    for field in ("sender", "sent", "kind", "path", "size", "hash", "duration"):
        if getattr(row, field) is None:
            setattr(row, field, getattr(twin, field))


class _Maker:
    """Makes rows of what the database says."""

    def __init__(self, schema: Schema, root: str | None) -> None:
        self._people = People(schema)
        self._root = root
        self._starred = {table: schema.has(table, "starred") for table in (MESSAGE, LEGACY)}
        self._forwarded = {
            MESSAGE: schema.has(MESSAGE, "origination_flags") or schema.has(FORWARDED),
            LEGACY: schema.has(LEGACY, "forwarded"),
        }

    def rows(self, found: Iterator[MessageRow], table: str) -> Iterator[Row]:
        """Each row of one table that is a note, once."""
        seen: set[int] = set()
        for raw in found:
            if isinstance(raw.message_id, int) and raw.message_id not in seen:
                seen.add(raw.message_id)
                row = self._row(raw, table)
                if row:
                    yield row

    def _row(self, raw: MessageRow, table: str) -> Row | None:
        legacy = table == LEGACY
        written = raw.path or (path_in(raw.media_data) if legacy else None)
        path = _path(written or name_in(raw.fallback))
        type_ = int(raw.type) if isinstance(raw.type, str) and raw.type.isdecimal() and len(raw.type) < 9 else raw.type
        kind, is_note = _kind(raw, type_, path)
        if not is_note:
            return None
        from_me = bool(raw.from_me) if isinstance(raw.from_me, int) else None
        return Row(
            root=self._root,
            number=raw.message_id if isinstance(raw.message_id, int) else 0,
            key=_text(raw.key),
            chat=self._people.chat(raw.chat),
            sender=self._people.sender(raw.chat, raw.sender) if from_me is False else None,
            from_me=from_me,
            sent=_milliseconds(raw.timestamp) or _milliseconds(raw.received),
            kind=kind,
            path=path,
            size=_positive(raw.file_size) or _positive(raw.file_length),
            hash=_hash(raw.hash),
            duration=_seconds(raw.duration),
            starred=bool(raw.starred) if self._starred[table] else None,
            forwarded=_forwarded(raw, legacy=legacy) if self._forwarded[table] else None,
            transcript=_text(raw.transcript, _LONGEST_TRANSCRIPT),
            revoked=type_ in REVOKED_TYPES,
            arrived=bool(written or raw.transferred) or raw.view_once == VIEW_ONCE_OPENED,
        )


def _forwarded(raw: MessageRow, *, legacy: bool) -> bool:
    if legacy:
        return bool(raw.forwarded)
    return raw.forwarded is not None or (isinstance(raw.origination_flags, int) and bool(raw.origination_flags & FORWARDED_FLAG))


def note_of(row: Row, *, kind: Kind, original_path: str | None) -> Note:
    """The record of a message, as far as its database goes."""
    sent_at = time_text(row.sent) if row.sent is not None else None
    return Note(
        kind=row.kind or kind,
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
        transcript=Transcript(row.transcript, engine="whatsapp") if row.transcript else None,
        original_path=original_path,
    )


def missing_note(row: Row) -> Note:
    """The record of a message whose file is not on the device."""
    note = note_of(row, kind=kind_of_name(row.path or ""), original_path=row.path)
    note.size = row.size
    if note.sent_at is None:
        note.sent_at = read_name((row.path or "").rpartition("/")[2])[1]
        note.sent_at_from = "name" if note.sent_at else None
    return note


def chats_of(rows: list[Row]) -> list[Chat]:
    """The chats that the messages are of, each with its title."""
    titles: dict[str, str] = {}
    for row in rows:
        if row.chat:
            titles.setdefault(row.chat.id, row.chat.name)
    return [Chat(chat_id=chat, titles=[title]) for chat, title in sorted(titles.items())]


def _kind(raw: MessageRow, type_: object, path: str | None) -> tuple[Kind | None, bool]:
    """(kind, whether it is a note at all). None leaves the kind to the file's own path: forwards have an origin that says nothing.

    Numbers of types are not trusted alone: 81 is a video note to some. A video note is known by its folder, or by its name and media type.
    """
    mime = (_text(raw.mime) or "").lower()
    told = kind_of_name(path) if path else None
    if told == "video" and not mime.startswith("audio/"):
        by_folder = path is not None and "video notes/" in path.lower()
        return "video", by_folder or mime.startswith("video/")
    if type_ == VIEW_ONCE_VOICE or (type_ == AUDIO_TYPE and raw.origin == ORIGIN_VOICE):
        return "voice", True
    is_note = type_ == AUDIO_TYPE or mime.startswith("audio/") or told == "voice"
    if type_ == AUDIO_TYPE and raw.origin == ORIGIN_ATTACHMENT:
        return "audio", is_note
    return ("audio" if told == "video" else told), is_note


def _text(value: object, most: int = 4096) -> str | None:
    """Text, also where an app wrote it as bytes; None where empty, or longer than anything of its kind is: rows stay in memory."""
    if isinstance(value, bytes):
        value = value[: 4 * most + 1].decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) and 0 < len(value) <= most else None


def _path(value: object) -> str | None:
    """A path as files are known by, `Media/…` below the store, also where the app wrote a whole one; None where it leads outside."""
    text = _text(value)
    if not text:
        return None
    parts = [part for part in text.removeprefix("file://").split("/") if part not in ("", ".")]
    if ".." in parts:
        return None
    media = [index for index, part in enumerate(parts[:-1]) if part.lower() == "media"]
    return "/".join(["Media", *parts[media[-1] + 1 :]] if media else parts) or None


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < _LONGEST else None


def _milliseconds(value: object) -> int | None:
    """Milliseconds since 1970 of a message, or None: not recorded, or no possible time."""
    if not isinstance(value, int) or value <= 0:
        return None
    value = value * 1000 if value < _SECONDS_BELOW else value
    return value if time_text(value) else None


def _hash(value: object) -> bytes | None:
    """SHA-256 of the file from its base64."""
    try:
        digest = base64.b64decode(_text(value) or "", validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == 32 else None
