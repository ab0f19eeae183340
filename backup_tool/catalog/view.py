"""Several snapshots and hosts as one view: one entry a note."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from backup_tool.catalog.identity import (
    EXPORTED,
    WHATSAPP,
    Titles,
    file_name,
    is_imported,
    is_one,
    message_of,
    name_worth,
    same_clock,
    same_message_in_another_zone,
    same_person_elsewhere,
    side_by_side,
    standing,
    title_key,
    whole_minute,
)
from backup_tool.catalog.learning import learn
from backup_tool.catalog.ledger import missing_of
from backup_tool.models import Chat, Note


class Entry(Note, kw_only=True):
    """A record as people are shown it: with the source whose folder it stands in, the host it comes from, and all hosts that have it."""

    source: str | None = None
    host: str | None = None
    hosts: list[str] = []  # noqa: RUF012 (each struct gets its own)
    saved: bool | None = None
    """Whether a person saved it; None outside an archive, where nobody could."""


entry_decoder = msgspec.json.Decoder(Entry)


def entry(note: Note, source: str, host: str | None) -> Entry:
    """A record of one snapshot as an entry of the archive view."""
    return Entry(
        **{field: getattr(note, field) for field in Note.__struct_fields__}, source=source, host=host, hosts=[host] if host else []
    )


class View:
    """Entries of several snapshots merged: records of one identity are one entry. Give the newest snapshot first.

    Of one host, the newest record says whether the note is missing. Of several, it is missing only when all miss it.
    """

    def __init__(self, titles: Titles = lambda chat_id: ()) -> None:
        self._titles = titles
        self._groups: dict[tuple[str | None, str], list[Entry]] = {}
        """Entries of the same audio, newest snapshot first; of empty files, those of one name."""

    def __iter__(self) -> Iterator[Entry]:
        for group in self._groups.values():
            yield from group if len(group) == 1 else self._merged(group)

    def add(self, item: Entry) -> None:
        """Merge one more record into the view."""
        key = (item.id, "" if item.size else file_name(item.original_path))
        self._groups.setdefault(key, []).append(item)

    def _merged(self, group: list[Entry]) -> list[Entry]:
        """The best known first: others find in them what they are."""
        ages: list[int] = []
        merged: list[Entry] = []
        order = sorted(range(len(group)), key=lambda n: (-standing(group[n]), whole_minute(group[n].sent_at or "")))
        for age in order:
            item = group[age]
            same = self._entries_of(merged, item)
            for number in same:
                merged[number] = _joined(merged[number], item) if ages[number] < age else _joined(item, merged[number])
                ages[number] = min(ages[number], age)
            if not same:
                merged.append(item)
                ages.append(age)
        return merged

    def _entries_of(self, merged: list[Entry], item: Entry) -> list[int]:
        if message_of(item) is None or is_imported(item):
            apart = {n for n, known in enumerate(merged) if not set(known.hosts).isdisjoint(item.hosts) and side_by_side(known, item)}
            free = [(n, known) for n, known in enumerate(merged) if n not in apart]
            same = [n for n, known in free if is_one(known, item, self._titles)]
            return same or [n for n, known in free if same_clock(known, item, self._titles)][:1]
        same = [number for number, known in enumerate(merged) if message_of(known) == message_of(item)]
        same = same or [number for number, known in enumerate(merged) if same_message_in_another_zone(known, item)][:1]
        if same:
            return same
        # What one host has told apart are two messages.
        same = [
            number for number, known in enumerate(merged) if same_person_elsewhere(known, item) and set(known.hosts).isdisjoint(item.hosts)
        ]
        return same if len(same) == 1 else []


def _joined(newer: Entry, older: Entry) -> Entry:
    """Two entries as one, which lies where the newer does. Where both know as much, the newer speaks, of two hosts the first to have it."""
    newer_leads = newer.host == older.host or (newer.first_seen or "", newer.host or "") <= (older.first_seen or "", older.host or "")
    learned = learn(older, newer) if newer_leads else learn(newer, older)
    fields = {name: getattr(learned, name) for name in Note.__struct_fields__ if name not in ("path", "missing_since")}
    both = msgspec.structs.replace(newer, **fields)
    both.hosts = newer.hosts + [host for host in older.hosts if host not in newer.hosts]
    if len(both.hosts) > len(newer.hosts):
        both.missing_since = missing_of(newer, older)
    return both


def best_titles(sources: Iterable[Iterable[Chat]]) -> list[Chat]:
    """Of the chats that several sources know, each once, with its best title: a name over a number over an id, of the first source."""
    best: dict[str, str] = {}
    for chat in (chat for chats in sources for chat in chats):
        for title in chat.titles[-1:]:
            best[chat.chat_id] = max(best.get(chat.chat_id, ""), title, key=name_worth)
    return [Chat(chat_id=chat_id, titles=[title]) for chat_id, title in best.items()]


def joined_chats(chats: Iterable[Chat]) -> dict[str, str]:
    """Exported chats, known by their title only, each with the id of the chat that it is: the only one that ever had this title."""
    known = list(chats)
    having: dict[str, set[str]] = {}
    for chat in known:
        if WHATSAPP.fullmatch(chat.chat_id):
            for title in chat.titles:
                having.setdefault(title_key(title), set()).add(chat.chat_id)
    found = {chat.chat_id: having.get(title_key(chat.chat_id.removeprefix(EXPORTED)), set()) for chat in known}
    return {chat: next(iter(ids)) for chat, ids in found.items() if chat.startswith(EXPORTED) and len(ids) == 1}
