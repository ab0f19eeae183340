"""The records of notes: how they are written, when two are one note, what a later one may change, and finding among them.

A catalog is JSON lines, one a note, a file a month of `sent_at` (UTC). Nothing here reads or writes a repository.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import lru_cache
from sys import intern

import msgspec

from backup_tool.errors import BackupError, UsageError
from backup_tool.models import Chat, Note, Place, Size, Transcript
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


EXPORTED = "export:"
"""The id of a chat that is known by its title only, as an exported chat is, begins so; the title follows."""
_ZONE_STEP = 15 * 60
_ZONES_APART = 26 * 3600
"""Time zones are whole quarters of an hour, and at most so many seconds apart (-12:00 to +14:00)."""
_CLOCKS_APART = 10
"""Seconds by which the clocks of two phones that have one message may differ."""
_PERSON = re.compile(r"([0-9]+)@(s\.whatsapp\.net|lid)")
_WHATSAPP = re.compile(r"[^@\s]+@(s\.whatsapp\.net|g\.us|lid|broadcast|newsletter)")
_NUMBER = re.compile(r"\+?[\d\s()\-\u2010\u2011]+")
_NO_FILE_NAME = str.maketrans(
    dict.fromkeys('\\/:*?"<>|', "_") | dict.fromkeys(map(chr, (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFE0F)))
)

Titles = Callable[[str], Iterable[str]]
"""Every title that a chat, by its id, is known to have had."""


def file_name(original_path: str | None) -> str:
    """The last part of a record's path, as names are compared."""
    return folded((original_path or "").rpartition("/")[2])


def message_of(note: Note | Known) -> tuple[str, str] | None:
    """Which message a note belongs to, or None."""
    return (note.chat_id, note.message_id) if note.chat_id is not None and note.message_id is not None else None


def standing(note: Note) -> int:
    """How well a record is known: 3 by its message, 2 by its chat and moment, 1 by its chat and a moment that may be hours off, 0 by its
    file alone."""
    if note.chat_id is None:
        return 0
    if note.message_id is not None:
        return 3
    if note.sent_at_from == "message":
        return 2
    return 1 if note.sent_at_from == "guess" or (note.sent_at_from == "name" and not note.known_by_day) else 0


def names_of(note: Note) -> set[str]:
    """Every name that the note's file is known by."""
    return {file_name(note.original_path), *(file_name(place.path) for place in note.found)}


def is_one(known: Note, note: Note, titles: Titles = lambda chat_id: ()) -> bool:
    """True where a note is the one of a record that is known as well or better. Of the same audio (equal ids); messages are not asked here.

    Without chat and moment: a name of the file agrees, or the chat does. With them: chat and moment agree; a moment that may be hours off,
    or of a file whose name agrees too, may be read in another time zone.
    """
    better, lesser = standing(known), standing(note)
    if lesser == 0:
        same_name = not names_of(known).isdisjoint(names_of(note))
        return same_name or (better > 0 and note.chat_id is not None and _chats_agree(known, note, titles, surely=True))
    if not _chats_agree(known, note, titles):
        return False
    if better == lesser:
        return _same_moment(known, note)
    return _moments_agree(known, note, zones=lesser == 1 or not names_of(known).isdisjoint(names_of(note)))


def same_person_elsewhere(known: Note, note: Note) -> bool:
    """True for two messages of one id and audio, between two people, whose chats have different addresses: a hidden one and a number, or
    an old number and a new one. Not for one seen from both its ends: those are two chats, each whole on its own phone."""
    if known.chat_id is None or note.chat_id is None or known.chat_id == note.chat_id or known.message_id != note.message_id:
        return False
    if known.message_id is None or not (_PERSON.fullmatch(known.chat_id) and _PERSON.fullmatch(note.chat_id)):
        return False
    return known.from_me is None or note.from_me is None or known.from_me == note.from_me


def _chats_agree(one: Note, other: Note, titles: Titles, *, surely: bool = False) -> bool:
    """True for one chat: the same id; or one known by its title only, and one with this title, or (but for `surely`) no name yet."""
    if one.chat_id == other.chat_id:
        return True
    by_title, by_id = (one, other) if (one.chat_id or "").startswith(EXPORTED) else (other, one)
    chat_id = by_id.chat_id or ""
    if not (by_title.chat_id or "").startswith(EXPORTED) or not _WHATSAPP.fullmatch(chat_id):
        return False
    title = title_key((by_title.chat_id or "").removeprefix(EXPORTED))
    if any(title == title_key(known) for known in (by_id.chat, *titles(chat_id)) if known):
        return True
    if _is_number(title):
        return "".join(filter(str.isdigit, title)) == chat_id.partition("@")[0]
    return not surely and name_worth(by_id.chat) < 4


@lru_cache(maxsize=4096)
def title_key(title: str) -> str:
    """A chat's title as titles are compared: NFC, and as it looks in the name of an exported file, where some characters cannot be."""
    return unicodedata.normalize("NFC", title).translate(_NO_FILE_NAME).strip()


def _whole_minute(sent_at: str) -> bool:
    """True where the time has no seconds: it may be cut to the minute, as in some exported chats."""
    return sent_at[16:] == ":00Z"


def _same_moment(one: Note, other: Note) -> bool:
    """True for the same second, or the same minute where one of them says no more."""
    first, second = one.sent_at or "", other.sent_at or ""
    return first[:16] == second[:16] and (_whole_minute(first) or _whole_minute(second) or first[:19] == second[:19])


def _moments_agree(known: Note, note: Note, *, zones: bool) -> bool:
    """True where the note may have been sent at the moment that is known. With `zones`, also if it was read in another time zone; a guess,
    also if day and month are the other way round."""
    moment, at = _seconds(known.sent_at), _seconds(note.sent_at)
    if moment is None or at is None or known.sent_at is None or note.sent_at is None:
        return False
    cut, known_cut = _whole_minute(note.sent_at), known.message_id is None and _whole_minute(known.sent_at)
    before, after = 59 if known_cut else 0, 59 if cut else 0
    if not (cut or known_cut):
        before = after = _CLOCKS_APART
    said = [at, *(_other_date_order(note) if note.sent_at_from == "guess" else ())]
    for apart in (moment - one for one in said):
        if -before <= apart <= after or (zones and abs(apart) <= _ZONES_APART and (apart + before) % _ZONE_STEP <= before + after):
            return True
    return False


def _seconds(sent_at: str | None) -> int | None:
    """Whole seconds since 1970; None for what is no time, as a damaged record may have it."""
    try:
        return int(time_of(sent_at or "").timestamp())
    except (ValueError, OverflowError):
        return None


def _other_date_order(note: Note) -> list[int]:
    """The moment, in seconds, if day and month were the other way round."""
    from zoneinfo import ZoneInfo

    try:
        local = time_of(note.sent_at or "").astimezone(ZoneInfo(note.zone or "UTC"))
        return [int(local.replace(day=local.month, month=local.day).timestamp())]
    except (ValueError, OverflowError, OSError, KeyError):  # no such day, no such zone on this machine
        return []


# --- what a later record may change ----------------------------------------------------------------------

_TRUST = {None: -1, "file": 0, "guess": 1, "name": 2, "message": 3}
_GROWS = ("id", "blobs", "size", "media_type", "from_me", "duration", "starred", "forwarded", "transcript", "damaged")


def _is_number(name: str) -> bool:
    """True for what stands in for a name where no name is known: a phone number or a raw id. It never replaces a name."""
    text = name if name.isascii() else title_key(name)
    return bool(_NUMBER.fullmatch(text) or _WHATSAPP.fullmatch(text))


@lru_cache(maxsize=4096)
def name_worth(name: str | None) -> int:
    """Of two names the one that is worth more stays: a name, one that a person goes by (`~`), a phone number, a raw id, nothing."""
    if not name:
        return 0
    if _is_number(name):
        return 1 if "@" in name else 2
    return 3 if name.startswith("~") else 4


def _address_worth(address: str | None) -> int:
    """As `name_worth`, of ids of people and chats: the messenger's own, a hidden one, a mere title, nothing."""
    if not address:
        return 0
    return 1 if address.startswith(EXPORTED) else 2 if address.endswith("@lid") else 3


def learn(old: Note, new: Note, leads: bool = True) -> Note:
    """What is known after seeing a note again: a copy of `old` that grew by what `new` says; an unknown value never replaces a known one.

    What says more of where the note belongs (a message over an exported chat over a file's name) prevails; of two that say as much, `new`
    does if it `leads`. What does not prevail fills in what is not known, and gives a better time, a name for a number, a number for a
    hidden identity. Places are joined; `missing_since` and `path` stay the old ones: they are not the source's to say.
    """
    note = msgspec.structs.replace(old)
    ahead = standing(new) - standing(old)
    prevails = ahead > 0 or (ahead == 0 and leads)
    for field in _GROWS:
        value = getattr(new, field)
        if value is not None and (prevails or getattr(old, field) is None):
            setattr(note, field, value)
    if prevails:
        note.kind = new.kind
        if new.original_path is not None:
            note.original_path, note.mtime_ns = new.original_path, new.mtime_ns
    _learn_chat(note, new, ahead, prevails)
    _learn_sender(note, new, prevails)
    if _is_better_time(note, new, prevails):
        note.sent_at, note.sent_at_from, note.zone = new.sent_at, new.sent_at_from, new.zone
    if new.first_seen and (not old.first_seen or new.first_seen < old.first_seen):
        note.first_seen = new.first_seen
    note.found = _places(note, old, new)
    return note


def _learn_chat(note: Note, new: Note, ahead: int, prevails: bool) -> None:
    """Id and title of a chat, and the id of the message in it, belong together."""
    if new.chat_id is None:
        if note.chat_id is None:
            note.chat = note.chat if name_worth(note.chat) > name_worth(new.chat) else new.chat
            note.message_id = note.message_id if new.message_id is None else new.message_id
        return
    gain = _address_worth(new.chat_id) - _address_worth(note.chat_id)
    if note.chat_id in (None, new.chat_id) or same_person_elsewhere(note, new) or _chats_agree(note, new, lambda chat_id: (), surely=True):
        gain_in_name = name_worth(new.chat) - name_worth(note.chat)
        if gain_in_name > 0 or (gain_in_name == 0 and prevails):
            note.chat = new.chat
    elif ahead > 0 or (ahead == 0 and gain > 0):
        note.chat = new.chat
    else:
        return
    if gain > 0 or (gain == 0 and prevails):
        note.chat_id = new.chat_id
    note.message_id = note.message_id if new.message_id is None else new.message_id


def _learn_sender(note: Note, new: Note, prevails: bool) -> None:
    """A name is better than a number, a number than a hidden identity, whoever says it."""
    gain = name_worth(new.sender) - name_worth(note.sender)
    if gain > 0 or (gain == 0 and prevails):
        note.sender = new.sender
    gain = _address_worth(new.sender_id) - _address_worth(note.sender_id)
    if gain > 0 or (gain == 0 and prevails):
        note.sender_id = new.sender_id


def _is_better_time(old: Note, new: Note, prevails: bool) -> bool:
    """True for a time of more trust. Of the same trust: of files the earlier, as copying only makes it later; in a minute the finer; else
    what prevails."""
    if new.sent_at is None or _TRUST[new.sent_at_from] != _TRUST[old.sent_at_from]:
        return _TRUST[new.sent_at_from] > _TRUST[old.sent_at_from]
    if new.sent_at_from == "file":
        return old.sent_at is None or new.sent_at < old.sent_at
    if old.sent_at is not None and (old.sent_at[:19] == new.sent_at[:19] or (old.message_id is None and _same_moment(old, new))):
        return (_whole_minute(old.sent_at), len(new.sent_at)) > (_whole_minute(new.sent_at), len(old.sent_at))
    return prevails


def _places(note: Note, old: Note, new: Note) -> list[Place]:
    """Every place that either knows, in a fixed order: with the time of its file, where that is not the one that the record has now."""
    if len(old.found) == 1 and old.found == new.found and (note.original_path, note.mtime_ns) == (new.original_path, new.mtime_ns):
        return old.found
    places: dict[tuple[str, str], Place] = {}
    for said in (old, new):
        own = (said.original_path, said.mtime_ns) == (note.original_path, note.mtime_ns)
        for place in said.found:
            if place.mtime_ns is None and not own:
                place = Place(place.source, place.path, said.mtime_ns)
            places[place.source, place.path] = place
    return [places[key] for key in sorted(places)]


# --- the records of one host, while a run works on them --------------------------------------------------


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
    starred: bool | None = None
    forwarded: bool | None = None
    transcript: Transcript | None = None
    original_path: str | None = None
    mtime_ns: int | None = None
    found: list[Place] = []
    missing_since: str | None = None
    damaged: str | None = None


_known_decoder = msgspec.json.Decoder(Known)


def _says(source: str, path: str, mtime_ns: int | None, note: Note | Known) -> int:
    """A number for all that a source says of a note at a place: the same number, nothing new. Who sent one's own note, others say."""
    theirs = not note.from_me
    return hash(
        (
            source, path, note.original_path, note.size, mtime_ns, note.kind, note.chat, note.chat_id, note.message_id,
            theirs and note.sender, theirs and note.sender_id, note.from_me, note.sent_at, note.starred, note.forwarded, note.transcript,
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
        self.titles: Titles = lambda chat_id: ()
        self.ranks: dict[str, int] = {}
        """Of two sources that know as much, the one of the lower rank speaks. One that is not in here has the lowest."""
        self.turn = 1
        """Which source is being taken in: 1 for the first. `seen` says which one saw a record last; 0 for none."""
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
            whole = known.blobs is not None and all(map(stored, known.blobs))
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
    for number in same:
        _absorb(ledger, number, group, same)
    return same or [ledger.add(home, note)]


def merge(ledger: Ledger, home: str, note: Note) -> None:
    """A record of another snapshot of this host: what it knows more is added, a record that is not there is taken over as it is."""
    number = ledger.by_message(note)
    if number is not None and ledger.note(number).id != note.id:
        note = msgspec.structs.replace(note, message_id=None)
    group = ledger.of_audio(note)
    same = _records_of(ledger, group, note, alone=False)[:1]
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


def _records_of(ledger: Ledger, group: dict[int, Note], note: Note, *, alone: bool) -> list[int]:
    """Which of the records of this audio the note is; one that is known less well becomes it."""
    if message_of(note):
        same = [number for number, known in group.items() if message_of(known) == message_of(note)]
        if not same:
            same = [number for number, known in group.items() if same_person_elsewhere(known, note)]
            # A broadcast is one message in many chats. One source that shows both at a time tells them apart.
            same = same if len(same) == 1 and ledger.seen[same[0]] != ledger.turn else []
    else:
        same = [number for number, known in group.items() if _is_known_as(known, note, ledger.titles, alone=alone)]
    return same or [number for number, known in group.items() if _becomes(known, note, ledger.titles)][:1]


def _is_known_as(known: Note, note: Note, titles: Titles, *, alone: bool) -> bool:
    if standing(known) < standing(note):
        return False
    if alone and standing(note) and any((place.source, place.path) == (at.source, at.path) for place in known.found for at in note.found):
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
        group[number] = msgspec.structs.replace(learn(own, group[found], leads=False), missing_since=_missing(own, group[found]))
        ledger.put(number, group[number])
        ledger.drop(found, number)
        del group[found]


def _is_part_of(own: Note, other: Note, titles: Titles) -> bool:
    less = standing(other) - standing(own)
    return less < 0 and is_one(own, other, titles)


def _missing(one: Note, other: Note) -> str | None:
    """Missing only where both are, since the later loss."""
    return max(one.missing_since, other.missing_since) if one.missing_since and other.missing_since else None


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
        order = sorted(range(len(group)), key=lambda n: (-standing(group[n]), _whole_minute(group[n].sent_at or "")))
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
        if message_of(item) is None:
            return [number for number, known in enumerate(merged) if is_one(known, item, self._titles)]
        same = [number for number, known in enumerate(merged) if message_of(known) == message_of(item)]
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
        both.missing_since = _missing(newer, older)
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
        if _WHATSAPP.fullmatch(chat.chat_id):
            for title in chat.titles:
                having.setdefault(title_key(title), set()).add(chat.chat_id)
    found = {chat.chat_id: having.get(title_key(chat.chat_id.removeprefix(EXPORTED)), set()) for chat in known}
    return {chat: next(iter(ids)) for chat, ids in found.items() if chat.startswith(EXPORTED) and len(ids) == 1}


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
