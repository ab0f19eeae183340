"""Find notes in the archive view: by chat, person, time, kind, source, or words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import msgspec

from backup_tool.actions.archive import Archive
from backup_tool.catalog import Entry, Filter, match_chats, speaks_of
from backup_tool.errors import UsageError
from backup_tool.models import Chat
from backup_tool.names import shown


class Wanted(msgspec.Struct, kw_only=True):
    """Which notes a person asked for, as it was typed."""

    chat: list[str] = []
    sender: list[str] = []
    since: str | None = None
    until: str | None = None
    kind: str | None = None
    source: list[str] = []
    saved: bool = False

    def filter(self, archive: Archive) -> Filter:
        """The filter that is meant in this archive. Raises UsageError for a chat that is not there, or a time that is none."""
        return Filter(
            chats=match_chats(self.chat, archive.chats()) if self.chat else None,
            sender=self.sender,
            since=moment(self.since, last=False) if self.since else None,
            until=moment(self.until, last=True) if self.until else None,
            kind=_kind(self.kind),
            source=self.source,
            ids=archive.saved if self.saved else None,
        )


def _kind(kind: str | None) -> str | None:
    if kind not in (None, "voice", "audio", "video"):
        raise UsageError(f'"{shown(kind)}" is not a kind of note', "kinds are voice, audio and video")
    return kind


_DAYS_AGO = re.compile(r"(\d{1,6})d")
_STEPS = (
    (r"\d{4}-\d{2}-\d{2}", timedelta(days=1)),
    (r".{11}\d{2}:\d{2}", timedelta(minutes=1)),
    (r".{11}\d{2}:\d{2}:\d{2}", timedelta(seconds=1)),
)


def moment(text: str, *, last: bool) -> datetime:
    """The moment that a person typed: an ISO day or time (local unless it says otherwise), or `30d` for thirty days ago.

    With `last`, the end of the day, minute or second that was typed: both ends of a range belong to it. Raises UsageError.
    """
    try:
        if ago := _DAYS_AGO.fullmatch(text):
            return datetime.now().astimezone() - timedelta(days=int(ago[1]))
        typed = datetime.fromisoformat(text)
        local = typed if typed.tzinfo else typed.astimezone()
        step = next((step for form, step in _STEPS if re.fullmatch(form, text)), timedelta(0)) if last else timedelta(0)
        return local + step - (timedelta(microseconds=1) if step else timedelta(0))
    except (ValueError, OverflowError):
        raise UsageError(f'"{shown(text)}" is not a day or time', "write 2026-03-01, 2026-03-01T18:30, or 30d") from None


def find(archive: Archive, wanted: Wanted, text: str | None = None, id_prefix: str = "") -> Iterator[Entry]:
    """The notes that were asked for, oldest first; `text` is part of their names or transcript, `id_prefix` the start of their id."""
    chosen = wanted.filter(archive)
    return (
        item for item in archive.entries(id_prefix) if chosen.lets_through(item, item.source) and (text is None or speaks_of(item, text))
    )


class ChatRow(msgspec.Struct):
    """A chat of a source and what the archive holds of it: number of notes, bytes, seconds, first and last time sent (of which perhaps only
    the day is known)."""

    chat: str | None
    chat_id: str | None
    source: str | None
    notes: int = 0
    bytes: int = 0
    duration: float = 0.0
    first: str | None = None
    last: str | None = None
    first_is_day: bool = False
    last_is_day: bool = False


def chat_rows(entries: Iterable[Entry], chats: Iterable[Chat]) -> list[ChatRow]:
    """One row a chat and source, by title; notes without a chat are a row with neither title nor id."""
    titles = {chat.chat_id: chat.titles[-1] for chat in chats if chat.titles}
    rows: dict[tuple[str | None, str | None], ChatRow] = {}
    for item in entries:
        key = (item.source, item.chat_id)
        row = rows.get(key) or rows.setdefault(key, ChatRow(titles.get(item.chat_id or "", item.chat), item.chat_id, item.source))
        row.notes += 1
        row.bytes += item.size or 0
        row.duration = round(row.duration + (item.duration or 0.0), 3)
        if item.sent_at:
            if row.first is None:
                row.first, row.first_is_day = item.sent_at, item.known_by_day
            row.last, row.last_is_day = item.sent_at, item.known_by_day
    return sorted(rows.values(), key=lambda row: (row.chat is None, (row.chat or "").casefold(), row.chat_id or "", row.source or ""))
