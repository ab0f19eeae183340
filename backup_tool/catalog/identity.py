"""When two records are one note: by their message, else by chat and moment, else by their file. What is known better absorbs the rest."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

from backup_tool.catalog.records import Known, time_of
from backup_tool.models import IMPORTED, Note
from backup_tool.names import folded

EXPORTED = "export:"
"""The id of a chat that is known by its title only, as an exported chat is, begins so; the title follows."""
TELEGRAM = "telegram:"
"""The id of a chat of Telegram begins so."""
_ZONE_STEP = 15 * 60
_ZONES_APART = 26 * 3600
"""Time zones are whole quarters of an hour, and at most so many seconds apart (-12:00 to +14:00)."""
_CLOCKS_APART = 10
"""Seconds by which the clocks of two phones that have one message may differ."""
_PERSON = re.compile(r"([0-9]+)@(s\.whatsapp\.net|lid)")
WHATSAPP = re.compile(r"[^@\s]+@(s\.whatsapp\.net|g\.us|lid|broadcast|newsletter)")
_GIVEN = re.compile(r"((?:ptt|aud|ptv)-[0-9]{8}-wa[0-9]{4,})(?:[^0-9].*)?(\.[a-z0-9]+)|[0-9]{8}-(audio(?:-[0-9]+){6}\.[a-z0-9]+)")
"""Names that WhatsApp gives, on Android, and with a number before them in chats that an iPhone exported."""
_COPY = re.compile(r" \([0-9]{1,3}\)(?=(?:\.[a-z0-9]+)?$)")
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


def is_imported(note: Note) -> bool:
    """True for a recording that a person put into a chat, as long as no message is known to be it."""
    return (note.message_id or "").startswith(IMPORTED + ":")


def standing(note: Note) -> int:
    """How well a record is known: 3 by its message, 2 by its chat and moment, 1 by its chat and a moment that may be hours off, or
    by whoever put it there, 0 by its file alone."""
    if note.chat_id is None:
        return 0
    if is_imported(note):
        return 1
    if note.message_id is not None:
        return 3
    if note.sent_at_from == "message":
        return 2
    return 1 if note.sent_at_from == "guess" or (note.sent_at_from == "name" and not note.known_by_day) else 0


def names_of(note: Note) -> set[str]:
    """Every name that the note's file is known by, without what copies and exports add to it."""
    return {_uncopied(file_name(note.original_path)), *(_uncopied(file_name(place.path)) for place in note.found)}


@lru_cache(maxsize=4096)
def _uncopied(name: str) -> str:
    """A file's name as it was before it was copied: "ptt-20260303-wa0007.opus" for "ptt-20260303-wa0007 (1).opus"."""
    given = _GIVEN.fullmatch(name)
    return (given[3] or given[1] + given[2]) if given else _COPY.sub("", name)


def is_one(known: Note, note: Note, titles: Titles = lambda chat_id: ()) -> bool:
    """True where a note is the one of a record that is known as well or better. Of the same audio (equal ids); messages are not asked here.

    Without chat and moment: a name of the file agrees, or the chat does. With them: chat and moment agree; a moment that may be hours off,
    or of a file whose name agrees too, may be read in another time zone. What a person put into a chat is whatever note the chat has of it.
    """
    better, lesser = standing(known), standing(note)
    if lesser == 0:
        same_name = not names_of(known).isdisjoint(names_of(note))
        return same_name or (better > 0 and note.chat_id is not None and chats_agree(known, note, titles, surely=True))
    if is_imported(note) or is_imported(known):
        return chats_agree(known, note, titles, surely=True)
    if not chats_agree(known, note, titles):
        return False
    if better == lesser:
        return same_moment(known, note)
    return _moments_agree(known, note, zones=lesser == 1 or not names_of(known).isdisjoint(names_of(note)))


def same_person_elsewhere(known: Note, note: Note) -> bool:
    """True for two messages of one id and audio, between two people, whose chats have different addresses: a hidden one and a number, or
    an old number and a new one. Not for one seen from both its ends: those are two chats, each whole on its own phone."""
    if known.chat_id is None or note.chat_id is None or known.chat_id == note.chat_id or known.message_id != note.message_id:
        return False
    if known.message_id is None or not (_PERSON.fullmatch(known.chat_id) and _PERSON.fullmatch(note.chat_id)):
        return False
    return known.from_me is None or note.from_me is None or known.from_me == note.from_me


def same_message_in_another_zone(known: Note, note: Note) -> bool:
    """True for two messages of one Telegram chat and audio whose ids differ by the moment alone, as far as time zones are apart.

    Exports of before 2021 tell times without their zone, and the moment is part of the id (see `backup_tool.sources.telegram`).
    """
    if known.chat_id != note.chat_id or not (note.chat_id or "").startswith(TELEGRAM) or known.zone is note.zone is None:
        return False
    one, other = ((of.message_id or "").split(" ", 2) for of in (known, note))
    if len(one) < 2 or len(other) < 2 or one[0] != other[0] or one[2:] != other[2:]:
        return False
    moment, at = _seconds(one[1]), _seconds(other[1])
    return moment is not None and at is not None and abs(moment - at) <= _ZONES_APART and (moment - at) % _ZONE_STEP == 0


def chats_agree(one: Note, other: Note, titles: Titles, *, surely: bool = False) -> bool:
    """True for one chat: the same id; or one known by its title only, and one with this title, or (but for `surely`) no name yet."""
    if one.chat_id == other.chat_id:
        return True
    by_title, by_id = (one, other) if (one.chat_id or "").startswith(EXPORTED) else (other, one)
    chat_id = by_id.chat_id or ""
    if not (by_title.chat_id or "").startswith(EXPORTED) or not WHATSAPP.fullmatch(chat_id):
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


def whole_minute(sent_at: str) -> bool:
    """True where the time has no seconds: it may be cut to the minute, as in some exported chats."""
    return sent_at[16:] == ":00Z"


def same_moment(one: Note, other: Note) -> bool:
    """True for the same second, or the same minute where one of them says no more."""
    first, second = one.sent_at or "", other.sent_at or ""
    return first[:16] == second[:16] and (whole_minute(first) or whole_minute(second) or first[:19] == second[:19])


def same_clock(known: Note, note: Note, titles: Titles) -> bool:
    """True for one note of an exported chat that was read in two time zones: chat, file name and what the clock showed agree."""
    if standing(known) != standing(note) or None in (known.zone, note.zone) or known.zone == note.zone:
        return False
    if names_of(known).isdisjoint(names_of(note)) or not chats_agree(known, note, titles):
        return False
    shown = _on_the_clock(known)
    return shown is not None and shown == _on_the_clock(note)


def _on_the_clock(note: Note) -> str | None:
    """Day and minute on the clock of the note's zone; None where it has no time, or a zone that only another machine knows."""
    from zoneinfo import ZoneInfo

    try:
        return time_of(note.sent_at or "").astimezone(ZoneInfo(note.zone or "")).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError, KeyError):
        return None


def side_by_side(one: Note, other: Note) -> bool:
    """True for two notes that one exported chat without seconds has in one minute: of two files of it, or of one file by two senders."""
    if one.chat_id is None or other.chat_id is None:
        return False
    if not (one.sent_at and other.sent_at and whole_minute(one.sent_at) and whole_minute(other.sent_at)):
        return False
    places, others = ({(place.source, *place.path.rpartition("/")[::2]) for place in note.found} for note in (one, other))
    if not places.isdisjoint(others):
        return None not in (one.sender, other.sender) and one.sender != other.sender
    return not {place[:2] for place in places}.isdisjoint(place[:2] for place in others)


def better_title(known: Note, said: Note) -> str | None:
    """The title that an exported chat gives to a chat of which only a number is known, by a note that both have at one moment; or None.

    A moment that may have been read in another zone gives no name: a recording is easily sent on to somebody else.
    """
    if not (said.chat_id or "").startswith(EXPORTED) or not WHATSAPP.fullmatch(known.chat_id or ""):
        return None
    if None not in (known.from_me, said.from_me) and known.from_me != said.from_me:
        return None
    better = name_worth(said.chat) > name_worth(known.chat)
    return said.chat if better and _moments_agree(known, said, zones=False) else None


def _moments_agree(known: Note, note: Note, *, zones: bool) -> bool:
    """True where the note may have been sent at the moment that is known. With `zones`, also if it was read in another time zone; a guess,
    also if day and month are the other way round."""
    moment, at = _seconds(known.sent_at), _seconds(note.sent_at)
    if moment is None or at is None or known.sent_at is None or note.sent_at is None:
        return False
    cut, known_cut = whole_minute(note.sent_at), known.message_id is None and whole_minute(known.sent_at)
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


def _is_number(name: str) -> bool:
    """True for what stands in for a name where no name is known: a phone number or a raw id. It never replaces a name."""
    text = name if name.isascii() else title_key(name)
    return bool(_NUMBER.fullmatch(text) or WHATSAPP.fullmatch(text))


@lru_cache(maxsize=4096)
def name_worth(name: str | None) -> int:
    """Of two names the one that is worth more stays: a name, one that a person goes by (`~`), a phone number, a raw id, nothing."""
    if not name:
        return 0
    if _is_number(name):
        return 1 if "@" in name else 2
    return 3 if name.startswith("~") else 4
