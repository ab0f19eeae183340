"""The records of one host while a run works on them: kept compact, looked up by place, message and audio, and entered."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from sys import intern

import msgspec

from backup_tool.catalog.identity import (
    EXPORTED,
    Titles,
    file_name,
    is_imported,
    is_one,
    message_of,
    name_worth,
    names_of,
    same_clock,
    same_message_in_another_zone,
    same_person_elsewhere,
    side_by_side,
    standing,
)
from backup_tool.catalog.learning import learn
from backup_tool.catalog.records import CatalogDamaged, Known, decode_note, encode_note, known_decoder, month_of
from backup_tool.models import Note, Place


def _says(source: str, path: str, mtime_ns: int | None, note: Note | Known) -> int:
    """A number for all that a source says of a note at a place: the same number, nothing new. Who sent one's own note, others say."""
    theirs = not note.from_me
    return hash(
        (
            source, path, note.original_path, note.size, mtime_ns, note.kind, note.chat, note.chat_id, note.message_id,
            theirs and note.sender, theirs and note.sender_id, note.from_me, note.sent_at, note.starred, note.forwarded, note.transcript,
            note.title,
        )
    )  # fmt: skip


def _audio_key(note: Note | Known) -> int:
    """What a record is found by for its audio. Empty files have nothing in common but that: they are told apart by their names."""
    return hash(note.id) if note.size else hash((note.id, file_name(note.original_path)))


_ELSEWHERE = b""


class Ledger:
    """Every record of one host, found by what it is. Holds the lines of new and changed records only: memory depends little on the rest.

    A record is named by its number. `home` is the source it was first seen in, whose folder in the archive it stands in for good.
    """

    def __init__(self) -> None:
        self._lines: list[bytes | None] = []
        """None for a record that is another's now; empty for one that stands in its catalog file as it was."""
        self._blocks: list[int] = []
        self._ends: list[int] = []
        self._fetches: list[Callable[[], bytes]] = []
        self._homes: list[str] = []
        self._months: list[str] = []
        self._sizes = array("q")
        self._missing = bytearray()
        self._damaged = bytearray()
        self._dropped = 0
        self._sources: set[str] = set()
        self._at_rest: dict[int, int] = {}
        self._loaded = 0
        # What records are found by. Most runs look for few: the numbers are gathered in passing, and made dictionaries when first needed.
        self._waiting: list[tuple[int, array[int], array[int], array[int]]] = []
        self._by_message: dict[int, int] = {}
        self._by_audio: dict[int, list[int] | int] = {}
        self._by_stat: dict[int, int] = {}
        self._heirs: dict[int, int] = {}
        self.brought: dict[int, list[Place]] = {}
        """By the number of a record that was added and became a part of another: where it was found."""
        self.titles: Titles = lambda chat_id: ()
        self.learned: dict[str, str] = {}
        """Of chats whose records were seen again: the best name that one of those has now."""
        self.met: set[tuple[str, str]] = set()
        """(source, chat id) of every chat whose record an exported chat of the source had a note of: then it is that chat."""
        self.zones: dict[str, Counter[str]] = {}
        """In which time zones the records of each source were read, and how many in each."""
        self.ranks: dict[str, int] = {}
        """Of two sources that know as much, the one of the lower rank speaks. One that is not in here has the lowest."""
        self.turn = 1
        """Which source is being taken in: 1 for the first. `seen` says which one saw a record last; 0 for none."""
        self.lacking: list[int] = []
        """Records that were loaded and of which not all audio was stored."""
        self.several_places: set[int] = set()
        self.seen = bytearray()
        self.changed = bytearray()
        """1 for a record that is new, or says something else than in its catalog file."""
        self.left: set[tuple[str, str]] = set()
        """(home, old path in the snapshot) of records that moved: their old folders need a new tree."""
        self.stale_months: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self._lines) - self._dropped

    def __contains__(self, number: int) -> bool:
        return self._lines[number] is not None

    def __iter__(self) -> Iterator[int]:
        return (number for number, line in enumerate(self._lines) if line is not None)

    def load(self, home: str, month: str, fetch: Callable[[], bytes], stored: Callable[[str], bool]) -> None:
        """Take in the records of a catalog file, without keeping them in memory: `fetch` gives the file again when one is asked for.

        A file with a blob that is not `stored` is to be read again: so an archive heals.
        """
        decode, at_rest, sizes, start = known_decoder.decode, self._at_rest, self._sizes, len(self._lines)
        messages, audio, stats = array("q"), array("q"), array("q")
        for number, line in enumerate(fetch().splitlines(), start):
            try:
                known = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
                raise CatalogDamaged(f"a catalog record is damaged: {broken}", "run 'backup check' to see all damage") from None
            sizes.append(known.size or 0)
            self._missing.append(known.missing_since is not None)
            self._damaged.append(known.damaged is not None)
            if len(known.found) > 1:
                self.several_places.add(number)
            if known.zone and len(known.found) == 1:
                self.zones.setdefault(known.found[0].source, Counter())[known.zone] += 1
            whole = known.blobs is not None and all(map(stored, known.blobs))
            if not whole:
                self.lacking.append(number)
            message = message_of(known)
            messages.append(hash(message) if message else 0)
            audio.append(_audio_key(known))
            stats.append(hash((known.original_path, known.size, known.mtime_ns)) if whole and known.id is not None else 0)
            for place in known.found:
                self._sources.add(place.source)
                if whole and known.missing_since is None:
                    at_rest[_says(place.source, place.path, place.mtime_ns or known.mtime_ns, known)] = number
                if whole and place.mtime_ns is not None:
                    self._by_stat[hash((place.source, place.path, known.size, place.mtime_ns))] = number
        more = len(sizes) - start
        self._lines += [_ELSEWHERE] * more
        self._homes += [home] * more
        self._months += [month] * more
        self.seen += bytes(more)
        self.changed += bytes(more)
        self._loaded = len(self._lines)
        self._waiting.append((start, messages, audio, stats))
        if more:
            self._blocks.append(start)
            self._ends.append(start + more)
            self._fetches.append(fetch)

    def _catch_up(self) -> None:
        """Make the records that were loaded findable by what they are."""
        for start, *columns in self._waiting:
            for number, (message, audio, stat) in enumerate(zip(*columns, strict=True), start):
                if self._lines[number] is None:
                    continue
                if message:
                    self._by_message[message] = number
                self._enter_audio(audio, number)
                if stat:
                    self._by_stat[stat] = number
        self._waiting.clear()

    def _enter_audio(self, key: int, number: int) -> None:
        there = self._by_audio.setdefault(key, number)
        if isinstance(there, int):
            if there != number:
                self._by_audio[key] = [there, number]
        elif number not in there:
            there.append(number)

    def _block(self, number: int) -> int | None:
        """Which catalog file the record was loaded from; None for a new one."""
        block = bisect_right(self._blocks, number) - 1
        end = self._ends[block] if block >= 0 else 0
        return block if number < end else None

    def _line(self, number: int) -> bytes:
        line = self._lines[number]
        if line == _ELSEWHERE and (block := self._block(number)) is not None:
            start = self._blocks[block]
            for one, fetched in enumerate(self._fetches[block]().splitlines(), start):
                if self._lines[one] == _ELSEWHERE:
                    self._lines[one] = fetched
            line = self._lines[number]
        assert line
        return line

    def _index(self, number: int, note: Note) -> None:
        message = message_of(note)
        if message:
            self._by_message[hash(message)] = number
        self._enter_audio(_audio_key(note), number)
        # New records need no entry there: a run lists each file once.
        if number < self._loaded and note.id is not None:
            self._by_stat[hash((note.original_path, note.size, note.mtime_ns))] = number
            for place in note.found:
                if place.mtime_ns is not None:  # another source speaks for the record now
                    self._by_stat[hash((place.source, place.path, note.size, place.mtime_ns))] = number

    def note(self, number: int) -> Note:
        """The record. A copy: change it with `put`."""
        return decode_note(self._line(number))

    def home(self, number: int) -> str:
        """The source in whose folder the record stands."""
        return self._homes[number]

    def month(self, number: int) -> str:
        """The catalog file that the record belongs into."""
        return self._months[number]

    def numbers(self) -> int:
        """How many numbers were given out: the next new record gets this one."""
        return len(self._lines)

    def places(self) -> set[str]:
        """The names of all sources in which any record was found."""
        return set(self._sources)

    def damaged(self) -> int:
        """Records whose audio was damaged when it was found."""
        return sum(self._damaged)

    def totals(self) -> tuple[int, int, int]:
        """(records, those of them that are missing, bytes of all)."""
        return len(self), sum(self._missing), sum(self._sizes)

    def at_rest(self, source: str, path: str, note: Note) -> int | None:
        """The record that says all of this already, of a file with the same size and time; its number."""
        number = self._at_rest.get(_says(source, path, note.mtime_ns, note))
        return None if number is None or self._lines[number] is None else number

    def known_file(self, source: str, path: str, original_path: str, size: int, mtime_ns: int) -> Note | None:
        """The record of this very file: found at this place of this source before, with this size and time. It need not be read again.

        Another file of that path, size and time, in another store, is another file: recorders number alike, and some have no clock.
        """
        self._catch_up()
        mine, second = Place(source, path), Place(source, path, mtime_ns)
        for key, place in (((original_path, size, mtime_ns), mine), ((source, path, size, mtime_ns), second)):
            number = self._by_stat.get(hash(key))
            if number is None or self._lines[number] is None:
                continue
            note = self.note(number)
            own = place.mtime_ns is not None or (note.original_path, note.mtime_ns) == (original_path, mtime_ns)
            if own and note.size == size and place in note.found:
                return note
        return None

    def by_message(self, note: Note) -> int | None:
        """The record of the message that the note belongs to."""
        self._catch_up()
        message = message_of(note)
        number = self._by_message.get(hash(message)) if message else None
        if number is None or self._lines[number] is None or message_of(self.note(number)) != message:
            return None
        return number

    def of_audio(self, note: Note) -> dict[int, Note]:
        """The records with the note's id, by number; of an empty file, those with its name."""
        self._catch_up()
        found = {number: self.note(number) for number in self._numbers(_audio_key(note)) if self._lines[number] is not None}
        return {number: known for number, known in found.items() if known.id == note.id}

    def leads(self, known: Note, note: Note) -> bool:
        """True where the source that says this now speaks for the record: it comes before all whose file the record has, or is that one.

        Sources in the order of the run; one that is not in this run keeps its say. Within a source, by path.
        """
        own = [self._rank(place) for place in known.found if place.mtime_ns is None]
        return not own or not note.found or self._rank(note.found[0]) <= min(own)

    def learn_chat(self, home: str, known: Note, said: Note) -> None:
        """Remember how the chat of a record is called, and that an exported chat of a source, which had a note of it, is this one."""
        if known.chat_id is not None and known.chat is not None:
            self.learned[known.chat_id] = max(self.learned.get(known.chat_id, ""), known.chat, key=name_worth)
            if known.chat_id != said.chat_id and (said.chat_id or "").startswith(EXPORTED):
                self.met.add((home, known.chat_id))

    def _rank(self, place: Place) -> tuple[int, str, str]:
        return self.ranks.get(place.source, -1), place.source, place.path

    def heir(self, number: int) -> int:
        """The record that a number stands for now: its own, or the one that it became a part of."""
        while number in self._heirs:
            number = self._heirs[number]
        return number

    def add(self, home: str, note: Note) -> int:
        """A record that was not there."""
        number, month = len(self._lines), intern(month_of(note.sent_at))
        self._lines.append(encode_note(note))
        self._homes.append(home)
        self._months.append(month)
        self._sizes.append(note.size or 0)
        self._missing.append(note.missing_since is not None)
        self._damaged.append(note.damaged is not None)
        self.seen.append(0)
        self._sources.update(place.source for place in note.found)
        self._index(number, note)
        self.changed.append(1)
        self.stale_months.add((home, month))
        return number

    def put(self, number: int, note: Note) -> None:
        """What is known of the record from now on; nothing happens where that is what it said."""
        line = encode_note(note)
        if line == self._line(number):
            return
        self._stale(number)
        self._lines[number] = line
        self._months[number] = intern(month_of(note.sent_at))
        self._sizes[number] = note.size or 0
        self._missing[number] = note.missing_since is not None
        self._damaged[number] = note.damaged is not None
        self._sources.update(place.source for place in note.found)
        if len(note.found) > 1:
            self.several_places.add(number)
        self._catch_up()
        self._index(number, note)
        self.changed[number] = 1
        self.stale_months.add((self._homes[number], self._months[number]))

    def let_go(self, number: int) -> None:
        """The record was written: nobody asks for it again. Frees its memory."""
        self._lines[number] = _ELSEWHERE

    def drop(self, number: int, heir: int | None = None) -> None:
        """The record is no more, or another's from now on."""
        self._stale(number)
        if heir is not None:
            self._heirs[number] = heir
            if number >= self._loaded:
                self.brought[number] = self.note(number).found
        self._lines[number] = None
        self._sizes[number] = self._missing[number] = self._damaged[number] = 0
        self._dropped += 1
        self.changed[number] = 0

    def forget(self, ids: Iterable[str]) -> None:
        """Drop every record of these ids: a person deleted them."""
        unwanted = set(ids)
        if not unwanted:
            return
        self._catch_up()
        empty = [number for number, size in enumerate(self._sizes) if size == 0]
        for number in [*empty, *(found for gone in unwanted for found in self._numbers(hash(gone)))]:
            if self._lines[number] is not None and self.note(number).id in unwanted:
                self.drop(number)

    def _numbers(self, key: int) -> Sequence[int]:
        there = self._by_audio.get(key, ())
        return (there,) if isinstance(there, int) else there

    def _stale(self, number: int) -> None:
        old, home = self.note(number), self._homes[number]
        if old.path:
            self.left.add((home, old.path))
        self.stale_months.add((home, self._months[number]))


def enter(ledger: Ledger, home: str, note: Note, *, alone: bool = True) -> list[int]:
    """A note that a source found (id known): the numbers of the records it is from now on. New ones are added, known ones learn.

    `alone` where it is the only note of its file: then a record that was found at this very place is its record, whatever changed.
    """
    note = _without_taken_message(ledger, note)
    group = ledger.of_audio(note)
    same = _records_of(ledger, group, note, alone=alone)
    for number in same:
        group[number] = learn(group[number], note, ledger.leads(group[number], note))
        ledger.put(number, group[number])
        ledger.learn_chat(home, group[number], note)
    for number in same:
        _absorb(ledger, number, group, same)
    return same or [ledger.add(home, note)]


def merge(ledger: Ledger, home: str, note: Note) -> None:
    """A record of another snapshot of this host: what it knows more is added, a record that is not there is taken over as it is."""
    number = ledger.by_message(note)
    if number is not None and ledger.note(number).id != note.id:
        note = msgspec.structs.replace(note, message_id=None)
    group = ledger.of_audio(note)
    same = _records_of(ledger, group, note, alone=False, merging=True)[:1]
    for number in same:
        group[number] = learn(group[number], note, leads=False)
        ledger.put(number, group[number])
        _absorb(ledger, number, group, same)
    if not same:
        ledger.add(home, note)


def _without_taken_message(ledger: Ledger, note: Note) -> Note:
    """Where a message is known with other audio, both stay, and one of them has the message: the sound one, else that of the source which
    leads. The other one stays in the chat without it."""
    number = ledger.by_message(note)
    if number is None or (old := ledger.note(number)).id == note.id:
        return note
    keeps = bool(note.damaged) if bool(note.damaged) != bool(old.damaged) else not ledger.leads(old, note)
    if keeps:
        return msgspec.structs.replace(note, message_id=None)
    ledger.put(number, msgspec.structs.replace(old, message_id=None))
    return note


def _records_of(ledger: Ledger, group: dict[int, Note], note: Note, *, alone: bool, merging: bool = False) -> list[int]:
    """Which of the records of this audio the note is; one that is known less well becomes it."""
    if message_of(note) and not is_imported(note):
        same = [number for number, known in group.items() if message_of(known) == message_of(note)]
        same = same or [number for number, known in group.items() if same_message_in_another_zone(known, note)][:1]
        if not same:
            same = [number for number, known in group.items() if same_person_elsewhere(known, note)]
            # A broadcast is one message in many chats. One source that shows both at a time tells them apart.
            same = same if len(same) == 1 and ledger.seen[same[0]] != ledger.turn else []
    else:
        same = _known_as(ledger, group, note, alone=alone, merging=merging)
    return same or [number for number, known in group.items() if _becomes(known, note, ledger.titles)][:1]


def _known_as(ledger: Ledger, group: dict[int, Note], note: Note, *, alone: bool, merging: bool) -> list[int]:
    """The records that say as much as a note without message, or more. Of those that say as much it is the one of its place, its sender,
    its name; one that is another note of the same exported chat it never is."""
    there = {number for number in group if merging or ledger.seen[number] == ledger.turn}
    free = {number: known for number, known in group.items() if number not in there or not side_by_side(known, note)}
    again = {number: known for number, known in free.items() if _share_place(known, note) and same_clock(known, note, ledger.titles)}
    same = again or {number: known for number, known in free.items() if _is_known_as(known, note, ledger.titles, alone=alone)}
    same = same or {number: known for number, known in free.items() if same_clock(known, note, ledger.titles)}
    equals = [number for number, known in same.items() if standing(known) == standing(note) > 0]
    if len(equals) < 2:
        return list(same)
    near = {number: _nearness(same[number], note) for number in equals}
    best = max(near.values())
    nearest = [number for number in equals if near[number] == best]
    # Not all of them, unless all are of this very file: a second note of the same minute is still to come.
    kept = nearest if best[0] else nearest[:1]
    return [number for number in same if number in kept or number not in near]


def _nearness(known: Note, note: Note) -> tuple[bool, bool, bool]:
    return _share_place(known, note), known.sender == note.sender, not names_of(known).isdisjoint(names_of(note))


def _share_place(known: Note, note: Note) -> bool:
    return any((place.source, place.path) == (at.source, at.path) for place in known.found for at in note.found)


def _is_known_as(known: Note, note: Note, titles: Titles, *, alone: bool) -> bool:
    if standing(known) < standing(note):
        return False
    if alone and standing(note) and not is_imported(note) and _share_place(known, note):
        return True
    return is_one(known, note, titles)


def _becomes(known: Note, note: Note, titles: Titles) -> bool:
    return standing(known) < standing(note) and is_one(note, known, titles)


def _absorb(ledger: Ledger, number: int, group: dict[int, Note], spared: list[int]) -> None:
    """Records that are known less well, and turn out to be this one, are this one from now on. What one brings may show another."""
    while True:
        own = group[number]
        found = next((n for n, other in group.items() if n not in spared and _is_part_of(own, other, ledger.titles)), None)
        if found is None:
            return
        group[number] = msgspec.structs.replace(learn(own, group[found], leads=False), missing_since=missing_of(own, group[found]))
        ledger.put(number, group[number])
        ledger.drop(found, number)
        del group[found]


def _is_part_of(own: Note, other: Note, titles: Titles) -> bool:
    less = standing(other) - standing(own)
    return less < 0 and is_one(own, other, titles)


def missing_of(one: Note, other: Note) -> str | None:
    """Missing only where both are, since the later loss."""
    return max(one.missing_since, other.missing_since) if one.missing_since and other.missing_since else None
