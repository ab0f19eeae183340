"""Finding among records: chats by what a person typed, notes by filters and words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from difflib import get_close_matches

import msgspec

from backup_tool.catalog.records import time_of
from backup_tool.errors import UsageError
from backup_tool.models import Chat, Note
from backup_tool.names import plain, shown

UNSORTED = "unsorted"


def match_chats(wanted: Iterable[str], chats: Iterable[Chat]) -> set[str | None]:
    """The ids of the chats that a person named; None stands for notes without a chat (`unsorted`).

    Exact name or id first, then part of any title a chat ever had, case and accents ignored. Raises UsageError with the candidates where
    several match, with the closest names where none does.
    """
    known = list(chats)
    return {found for name in wanted for found in _match_chat(name, known)}


def chats_called(name: str, chats: Iterable[Chat]) -> set[str]:
    """The ids of the chats that a person may mean: by exact name or id, else by part of any title."""
    chats = list(chats)
    exact = {chat.chat_id for chat in chats if name == chat.chat_id or name in chat.titles[-1:]}
    exact = exact or {chat.chat_id for chat in chats if name in chat.titles}
    if exact or name == UNSORTED:
        return exact
    return {chat.chat_id for chat in chats if any(plain(name) in plain(title) for title in chat.titles)}


def _match_chat(name: str, chats: list[Chat]) -> set[str | None]:
    part = chats_called(name, chats)
    if not part and name == UNSORTED:
        return {None}
    if len(part) == 1:
        return set(part)
    titles = sorted({_shown_chat(chat) for chat in chats if chat.chat_id in part})
    if part:
        raise UsageError(f'{len(part)} chats match "{shown(name)}"', "name one exactly, or by its id: " + ", ".join(titles))
    raise UsageError(f'no chat matches "{shown(name)}"', closest_chats(name, chats) or "'backup chats' lists them all")


def closest_chats(name: str, chats: Iterable[Chat]) -> str:
    """Words for a person who typed the name of a chat that is not there; empty where none is near."""
    spellings = {plain(title): _shown_chat(chat) for chat in chats for title in chat.titles}
    close = [spellings[near] for near in get_close_matches(plain(name), spellings, n=5, cutoff=0.5)]
    return "the closest are: " + ", ".join(dict.fromkeys(close)) if close else ""


def _shown_chat(chat: Chat) -> str:
    return f'"{shown(chat.titles[-1])}" ({shown(chat.chat_id)})' if chat.titles else f'"{shown(chat.chat_id)}"'


class Filter(msgspec.Struct, kw_only=True):
    """Which notes are meant. Everything not given lets every note through."""

    chats: set[str | None] | None = None
    sender: list[str] = []
    since: datetime | None = None
    until: datetime | None = None
    kind: str | None = None
    source: list[str] = []
    ids: frozenset[str] | None = None

    def lets_through(self, note: Note, source: str | None) -> bool:
        """True where the note is meant. A note known by its day only counts from the start of that day to its end, local time."""
        if self.chats is not None and note.chat_id not in self.chats:
            return False
        if self.ids is not None and note.id not in self.ids:
            return False
        if self.kind and note.kind != self.kind:
            return False
        if self.source and source not in self.source and not any(place.source in self.source for place in note.found):
            return False
        if self.sender and not any(_named(who, note) for who in self.sender):
            return False
        return self._in_time(note)

    def _in_time(self, note: Note) -> bool:
        if self.since is None and self.until is None:
            return True
        if not note.sent_at:
            return False
        first = last = time_of(note.sent_at)
        if note.known_by_day:
            first = datetime.combine(first.date(), datetime.min.time()).astimezone()
            last = datetime.combine(last.date(), datetime.max.time()).astimezone()
        return (self.since is None or last >= self.since) and (self.until is None or first <= self.until)


def _named(who: str, note: Note) -> bool:
    if who in (note.sender, note.sender_id):
        return True
    if plain(who) in ("me", "myself"):
        return bool(note.from_me)
    return any(plain(who) in plain(text) for text in (note.sender, note.sender_id) if text)


def speaks_of(note: Note, text: str) -> bool:
    """True where the text is part of a name or of what was said, case and accents ignored."""
    wanted = plain(text)
    said = note.transcript.text if note.transcript else None
    return any(wanted in plain(part) for part in (note.chat, note.sender, note.title, note.original_path, said) if part)
