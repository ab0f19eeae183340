"""The records of notes: how they are written, when two are one note, what a later one may change, and finding among them.

A catalog is JSON lines, one a note, a file a month of `sent_at` (UTC). Nothing here reads or writes a repository.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from sys import intern

import msgspec

from backup_tool.errors import BackupError, UsageError
from backup_tool.models import Chat, Note, Place, Transcript
from backup_tool.names import folded, plain, shown

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
    except (msgspec.DecodeError, RecursionError) as broken:
        raise CatalogDamaged(f"a catalog record is damaged: {broken}", "run 'backup check' to see all damage") from None


def decode_chats(data: bytes) -> list[Chat]:
    """The chats of a `chats.jsonl`. Raises CatalogDamaged."""
    try:
        return [_chat_decoder.decode(line) for line in data.splitlines()]
    except (msgspec.DecodeError, RecursionError) as broken:
        raise CatalogDamaged(f"a list of chats is damaged: {broken}", "run 'backup check' to see all damage") from None


class Deleted(msgspec.Struct):
    """An id that a person removed from the archive, and when."""

    id: str
    deleted_at: str | None = None


def decode_deleted(data: bytes) -> set[str]:
    """The ids of a `deleted.jsonl`."""
    try:
        return {msgspec.json.decode(line, type=Deleted).id for line in data.splitlines()}
    except (msgspec.DecodeError, RecursionError) as broken:
        raise CatalogDamaged(f"a list of deleted notes is damaged: {broken}", "run 'backup check' to see all damage") from None


# --- times -----------------------------------------------------------------------------------------------


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


# --- when two records are one note -----------------------------------------------------------------------


def file_name(original_path: str | None) -> str:
    """The last part of a record's path, as names are compared."""
    return folded((original_path or "").rpartition("/")[2])


def message_of(note: Note | Known) -> tuple[str, str] | None:
    """Which message a note belongs to, or None."""
    return (note.chat_id, note.message_id) if note.chat_id is not None and note.message_id is not None else None


# --- what a later record may change ----------------------------------------------------------------------

_TRUST = {None: -1, "file": 0, "guess": 1, "name": 2, "message": 3}
_GROWS = (
    "id", "blobs", "size", "media_type", "chat", "chat_id", "message_id", "sender", "sender_id", "from_me", "zone", "duration",
    "starred", "forwarded", "transcript", "original_path", "mtime_ns", "damaged",
)  # fmt: skip


_NAMES = ("chat", "sender")


def _is_number(name: str) -> bool:
    """True for what stands in for a name where no name is known: a phone number or a raw id. It never replaces a name."""
    return bool(_STAND_IN.fullmatch(name))


_STAND_IN = re.compile(r"\+?[\d \-]+|[^@\s]+@(s\.whatsapp\.net|g\.us|lid|broadcast|newsletter)")


def learn(old: Note, new: Note) -> Note:
    """What is known after seeing a note again: a copy of `old` in which known values of `new` replace, and unknown ones replace nothing.

    `sent_at` only improves (file, guess, name, message). Without a message, `new` knows nothing better of the kind. Places are joined;
    `missing_since` and `path` stay the old ones: they are not the source's to say.
    """
    note = msgspec.structs.replace(old)
    for field in _GROWS:
        value = getattr(new, field)
        if value is not None and not (field in _NAMES and _is_number(value) and getattr(old, field) is not None):
            setattr(note, field, value)
    if _TRUST[new.sent_at_from] > _TRUST[old.sent_at_from]:
        note.sent_at, note.sent_at_from = new.sent_at, new.sent_at_from
    if new.message_id is not None or old.message_id is None:
        note.kind = new.kind
    if new.first_seen and (not old.first_seen or new.first_seen < old.first_seen):
        note.first_seen = new.first_seen
    note.found = old.found + [place for place in new.found if place not in old.found]
    return note


def agree(one: Note, other: Note) -> bool:
    """True where two records of different places speak of one note (design: identity)."""
    if message_of(one) and message_of(other):
        return message_of(one) == message_of(other) and one.id == other.id
    return one.id == other.id and file_name(one.original_path) == file_name(other.original_path)


# --- the records of one host, while a run works on them --------------------------------------------------


class Known(msgspec.Struct):
    """Of a record, what a run needs to recognise its file again. Decoded from the same line as the record."""

    id: str | None = None
    blobs: list[str] | None = None
    size: int | None = None
    kind: str | None = None
    chat: str | None = None
    chat_id: str | None = None
    message_id: str | None = None
    sender: str | None = None
    sender_id: str | None = None
    from_me: bool | None = None
    sent_at: str | None = None
    starred: bool | None = None
    forwarded: bool | None = None
    transcript: Transcript | None = None
    original_path: str | None = None
    mtime_ns: int | None = None
    found: list[Place] = []
    missing_since: str | None = None
    damaged: str | None = None


_known_decoder = msgspec.json.Decoder(Known)


def _says(source: str, path: str, note: Note | Known) -> int:
    """A number for all that a source says of a note at a place: the same number, nothing new."""
    return hash(
        (
            source, path, note.original_path, note.size, note.mtime_ns, note.kind, note.chat, note.chat_id, note.message_id, note.sender,
            note.sender_id, note.from_me, note.sent_at, note.starred, note.forwarded, note.transcript,
        )
    )  # fmt: skip


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
        self._broken: set[int] = set()
        self._loaded = 0
        # Most runs ask for few records by what they are: these are made when first needed.
        self._indexed = 0
        self._by_message: dict[int, int] = {}
        self._by_file: dict[int, list[int] | int] = {}
        self._by_stat: dict[int, int] = {}
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
        decode, at_rest, sizes, start = _known_decoder.decode, self._at_rest, self._sizes, len(self._lines)
        for number, line in enumerate(fetch().splitlines(), start):
            try:
                known = decode(line)
            except (msgspec.DecodeError, RecursionError) as broken:
                raise CatalogDamaged(f"a catalog record is damaged: {broken}", "run 'backup check' to see all damage") from None
            sizes.append(known.size or 0)
            self._missing.append(known.missing_since is not None)
            self._damaged.append(known.damaged is not None)
            if len(known.found) > 1:
                self.several_places.add(number)
            whole = known.blobs is not None and all(map(stored, known.blobs))
            if not whole:
                self._broken.add(number)
            for place in known.found:
                self._sources.add(place.source)
                if whole and known.missing_since is None:
                    at_rest[_says(place.source, place.path, known)] = number
        more = len(sizes) - start
        self._lines += [_ELSEWHERE] * more
        self._homes += [home] * more
        self._months += [month] * more
        self.seen += bytes(more)
        self.changed += bytes(more)
        self._loaded = len(self._lines)
        if more:
            self._blocks.append(start)
            self._ends.append(start + more)
            self._fetches.append(fetch)

    def _catch_up(self) -> None:
        """Enter the records that are not found by what they are yet, a catalog file at a time."""
        while self._indexed < len(self._lines):
            start = self._indexed
            block = self._block(start)
            lines = [self._lines[start]] if block is None else self._fetches[block]().splitlines()
            for number, line in enumerate(lines, start):
                current = self._lines[number]
                if current is not None:
                    self._index(number, _known_decoder.decode(current or line or b""))
            self._indexed = start + len(lines)

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

    def _index(self, number: int, known: Known | Note) -> None:
        message = message_of(known)
        if message:
            self._by_message[hash(message)] = number
        key = hash((known.id, file_name(known.original_path)))
        there = self._by_file.setdefault(key, number)
        if isinstance(there, int):
            if there != number:
                self._by_file[key] = [there, number]
        elif number not in there:
            there.append(number)
        # New records need no entry there: a run lists each file once.
        if number < self._loaded and known.id is not None and number not in self._broken:
            self._by_stat[hash((known.original_path, known.size, known.mtime_ns))] = number

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
        number = self._at_rest.get(_says(source, path, note))
        return None if number is None or self._lines[number] is None else number

    def known_file(self, original_path: str, size: int, mtime_ns: int) -> Note | None:
        """A record of this very file (path, size and time agree): its id and blobs need not be read again."""
        self._catch_up()
        number = self._by_stat.get(hash((original_path, size, mtime_ns)))
        if number is None or self._lines[number] is None:
            return None
        note = self.note(number)
        same = note.original_path == original_path and note.size == size and note.mtime_ns == mtime_ns
        return note if same else None

    def by_message(self, note: Note) -> int | None:
        """The record of the message that the note belongs to."""
        self._catch_up()
        message = message_of(note)
        number = self._by_message.get(hash(message)) if message else None
        if number is None or self._lines[number] is None or message_of(self.note(number)) != message:
            return None
        return number

    def by_file(self, note: Note) -> list[int]:
        """The records with the note's id and file name, with and without message."""
        self._catch_up()
        there = self._by_file.get(hash((note.id, file_name(note.original_path))))
        numbers = [] if there is None else [there] if isinstance(there, int) else there
        name = file_name(note.original_path)
        return [
            number
            for number in numbers
            if self._lines[number] is not None and (known := self.note(number)).id == note.id and file_name(known.original_path) == name
        ]

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
        if self._indexed == number:
            self._index(number, note)
            self._indexed += 1
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
        if number < self._indexed:
            self._broken.discard(number)
            self._index(number, note)
        self.changed[number] = 1
        self.stale_months.add((self._homes[number], self._months[number]))

    def let_go(self, number: int) -> None:
        """The record was written: nobody asks for it again. Frees its memory."""
        self._lines[number] = _ELSEWHERE

    def drop(self, number: int) -> None:
        """The record is another's from now on."""
        self._stale(number)
        self._lines[number] = None
        self._sizes[number] = self._missing[number] = self._damaged[number] = 0
        self._dropped += 1
        self.changed[number] = 0

    def _stale(self, number: int) -> None:
        old, home = self.note(number), self._homes[number]
        if old.path:
            self.left.add((home, old.path))
        self.stale_months.add((home, self._months[number]))


def enter(ledger: Ledger, home: str, note: Note) -> list[int]:
    """A note that a source found (id known): the numbers of the records it is from now on. New ones are added, known ones learn.

    With a message: that message's record, if it has the same audio; else a record without message of the same id and file name is absorbed.
    Without: every record of the same id and file name. A message whose audio is another now keeps both: the sound one has the message.
    """
    if message_of(note) is None:
        same = ledger.by_file(note)
        for one in same:
            ledger.put(one, learn(ledger.note(one), note))
        return same or [ledger.add(home, note)]
    number = ledger.by_message(note)
    if number is not None:
        old = ledger.note(number)
        if old.id == note.id:
            ledger.put(number, learn(old, note))
            _absorb_into(ledger, number, note)
            return [number]
        if note.damaged and not old.damaged:
            return enter(ledger, home, msgspec.structs.replace(note, message_id=None))
        ledger.put(number, msgspec.structs.replace(old, message_id=None))
    for other in ledger.by_file(note):
        old = ledger.note(other)
        if old.message_id is None and other != number:
            ledger.put(other, learn(old, note))
            return [other]
    return [ledger.add(home, note)]


def merge(ledger: Ledger, home: str, note: Note) -> None:
    """A record of another snapshot of this host: what it knows more is added, a record that is not there is taken over as it is."""
    number = ledger.by_message(note)
    same = [number] if number is not None and ledger.note(number).id == note.id else ledger.by_file(note)
    for one in same:
        own = ledger.note(one)
        if message_of(own) and message_of(note) and message_of(own) != message_of(note):
            continue
        joined = learn(note, own)
        joined.path, joined.missing_since = own.path, own.missing_since
        ledger.put(one, joined)
        return
    ledger.add(home, note)


def _absorb_into(ledger: Ledger, number: int, note: Note) -> None:
    for other in ledger.by_file(note):
        if other != number and (lesser := ledger.note(other)).message_id is None:
            ledger.put(number, learn(lesser, ledger.note(number)))
            ledger.seen[number] |= ledger.seen[other]
            ledger.drop(other)


# --- several snapshots as one view -----------------------------------------------------------------------


class Entry(Note, kw_only=True):
    """A record as people are shown it: with the source whose folder it stands in, the host it comes from, and all hosts that have it."""

    source: str | None = None
    host: str | None = None
    hosts: list[str] = []  # noqa: RUF012 (each struct gets its own)


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

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        """By number: of two, the one with the lower number is the newer."""
        self._messages: dict[tuple[str, str, str | None], int] = {}
        self._bare: dict[tuple[str | None, str], int] = {}
        self._of_file: dict[tuple[str | None, str], set[int]] = {}
        """The messages of each file: one recording may stand in several chats."""

    def __iter__(self) -> Iterator[Entry]:
        absorbed: set[int] = set()
        joined: dict[int, Entry] = {}
        for file, number in self._bare.items():
            for message in sorted(self._of_file.get(file, ())):
                bare, known = self._entries[number], joined.get(message, self._entries[message])
                joined[message] = _joined(bare, known) if number < message else _joined(known, bare)
                absorbed.add(number)
        return (joined.get(number, item) for number, item in enumerate(self._entries) if number not in absorbed)

    def add(self, item: Entry) -> None:
        """Merge one more record into the view."""
        message, file = message_of(item), (item.id, file_name(item.original_path))
        new = len(self._entries)
        number = self._bare.setdefault(file, new) if message is None else self._messages.setdefault((*message, item.id), new)
        if number == new:
            self._entries.append(item)
        else:
            self._entries[number] = _joined(self._entries[number], item)
        if message is not None:
            self._of_file.setdefault(file, set()).add(number)


def _joined(newer: Entry, older: Entry) -> Entry:
    """Two entries as one: the newer says what both know, and where it lies."""
    learned = learn(older, newer)
    fields = {name: getattr(learned, name) for name in Note.__struct_fields__ if name not in ("path", "missing_since")}
    both = msgspec.structs.replace(newer, **fields)
    both.hosts = newer.hosts + [host for host in older.hosts if host not in newer.hosts]
    if len(both.hosts) > len(newer.hosts):
        both.missing_since = max(newer.missing_since, older.missing_since) if newer.missing_since and older.missing_since else None
    return both


# --- finding ---------------------------------------------------------------------------------------------

UNSORTED = "unsorted"


def match_chats(wanted: Iterable[str], chats: Iterable[Chat]) -> set[str | None]:
    """The ids of the chats that a person named; None stands for notes without a chat (`unsorted`).

    Exact name or id first, then part of any title a chat ever had, case and accents ignored. Raises UsageError with the candidates where
    several match, with the closest names where none does.
    """
    known = list(chats)
    return {found for name in wanted for found in _match_chat(name, known)}


def _match_chat(name: str, chats: list[Chat]) -> set[str | None]:
    exact = {chat.chat_id for chat in chats if name == chat.chat_id or name in chat.titles[-1:]}
    exact = exact or {chat.chat_id for chat in chats if name in chat.titles}
    if not exact and name == UNSORTED:
        return {None}
    part = exact or {chat.chat_id for chat in chats if any(plain(name) in plain(title) for title in chat.titles)}
    if len(part) == 1:
        return set(part)
    titles = sorted({_shown_chat(chat) for chat in chats if chat.chat_id in part})
    if part:
        raise UsageError(f'{len(part)} chats match "{shown(name)}"', "name one exactly, or by its id: " + ", ".join(titles))
    spellings = {plain(title): _shown_chat(chat) for chat in chats for title in chat.titles}
    close = [spellings[near] for near in get_close_matches(plain(name), spellings, n=5, cutoff=0.5)]
    hint = "the closest are: " + ", ".join(dict.fromkeys(close)) if close else "'backup chats' lists them all"
    raise UsageError(f'no chat matches "{shown(name)}"', hint)


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

    def lets_through(self, note: Note, source: str | None) -> bool:
        """True where the note is meant. A note known by its day only counts from the start of that day to its end, local time."""
        if self.chats is not None and note.chat_id not in self.chats:
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
    return any(wanted in plain(part) for part in (note.chat, note.sender, note.original_path, said) if part)
