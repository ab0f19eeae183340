"""The records of notes as catalogs hold them: JSON lines, one a note, a file a month of `sent_at` (UTC); and their times."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from backup_tool.errors import BackupError
from backup_tool.models import Chat, Note, Place, Size, Transcript

UNDATED = "undated"
MONTH = re.compile(r"\d{4}-\d{2}|undated")

_encoder = msgspec.json.Encoder()
_note_decoder = msgspec.json.Decoder(Note)
_chat_decoder = msgspec.json.Decoder(Chat)

encode_note = _encoder.encode
"""A record as one line of JSON, without the line end."""
encode_chat = _encoder.encode


class CatalogDamaged(BackupError):
    """A line of a catalog is not a record."""

    exit_code = 5


def decode_note(line: bytes) -> Note:
    """A record from its line. Raises CatalogDamaged."""
    try:
        return _note_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise CatalogDamaged(f"a catalog record is damaged: {broken}", "run 'backup check' to see all damage") from None


def decode_chats(data: bytes) -> list[Chat]:
    """The chats of a `chats.jsonl`. Raises CatalogDamaged."""
    try:
        return [_chat_decoder.decode(line) for line in data.splitlines()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise CatalogDamaged(f"a list of chats is damaged: {broken}", "run 'backup check' to see all damage") from None


class Deleted(msgspec.Struct):
    """An id that a person removed from the archive, and when."""

    id: str
    deleted_at: str | None = None


def decode_deleted(data: bytes) -> set[str]:
    """The ids of a `deleted.jsonl`."""
    try:
        return {msgspec.json.decode(line, type=Deleted).id for line in data.splitlines()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise CatalogDamaged(f"a list of deleted notes is damaged: {broken}", "run 'backup check' to see all damage") from None


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC: whole seconds, or with the fraction the moment has."""
    text = moment.astimezone(UTC).isoformat().removesuffix("+00:00")
    return (text.rstrip("0") if "." in text else text) + "Z"


def time_of(text: str) -> datetime:
    """The moment of an RFC 3339 text. Raises ValueError."""
    return datetime.fromisoformat(text)


def time_ns(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 text."""
    moment = time_of(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def month_of(sent_at: str | None) -> str:
    """The catalog file that a note of this time stands in: `YYYY-MM`, or `undated`."""
    return sent_at[:7] if sent_at else UNDATED


def by_time(note: Note) -> tuple[str, str, str]:
    """Sorts notes by the moment they were sent; undated ones last; never ambiguous."""
    return (note.sent_at[:-1] if note.sent_at else "~", note.id or "", note.original_path or "")


def record_order(note: Note) -> tuple[str, str, str, str, str]:
    """The order of records in a catalog file: the same records always make the same bytes."""
    return (*by_time(note), note.chat_id or "", note.message_id or "")


class Known(msgspec.Struct):
    """Of a record, what a run needs to recognise its file again. Decoded from the same line as the record."""

    id: str | None = None
    blobs: list[str] | None = None
    size: Size | None = None
    kind: str | None = None
    chat: str | None = None
    chat_id: str | None = None
    message_id: str | None = None
    sender: str | None = None
    sender_id: str | None = None
    from_me: bool | None = None
    sent_at: str | None = None
    zone: str | None = None
    starred: bool | None = None
    forwarded: bool | None = None
    transcript: Transcript | None = None
    title: str | None = None
    original_path: str | None = None
    mtime_ns: int | None = None
    found: list[Place] = []
    missing_since: str | None = None
    damaged: str | None = None


known_decoder = msgspec.json.Decoder(Known)
