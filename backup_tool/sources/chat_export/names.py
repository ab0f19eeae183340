"""Names in exported chats: of attachments, of people, of the chat itself; and the invisible marks that stand among them.

iPhone     00000012-AUDIO-2024-01-06-14-05-37.opus      number of the message, kind, the moment on the phone's clock
           2015-08-04-AUDIO-00004762.m4a                years ago
Android    PTT-20240115-WA0001.opus                     see `backup_tool.sources.filenames`
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from datetime import date

from backup_tool.audio import AUDIO_SUFFIXES, suffix_of
from backup_tool.models import Kind
from backup_tool.names import folded
from backup_tool.sources.filenames import read_name

_IOS = re.compile(r"[0-9]{8}-AUDIO-[0-9]{4}(?:-[0-9]{2}){5}(?:\.[0-9A-Za-z]{0,5})?", re.IGNORECASE)
_OLD_IOS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}-AUDIO-[0-9]{8}(?:\.[0-9A-Za-z]{0,5})?", re.IGNORECASE)
_ANDROID = re.compile(r"(?:PTT|AUD|PTV)-[0-9]{8}-WA[0-9]{4,}(?:\.[0-9A-Za-z]{0,5})?", re.IGNORECASE)
_DESKTOP = re.compile(r"WhatsApp (?:Ptt|Audio) [0-9]{4}-[0-9]{2}-[0-9]{2} at [^/<>]{5,30}", re.IGNORECASE)
_OTHER_MEDIA = re.compile(
    r"(?:IMG|VID|STK|GIF)-[0-9]{8}-WA|(?:[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2})-(?:PHOTO|VIDEO|GIF|STICKER)-", re.IGNORECASE
)
_NUMBERED = re.compile(r"[0-9]{8}-(?=.)")
_DATED = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Z]{3}-(20[0-9]{2})([0-9]{2})([0-9]{2})-WA[0-9]"
    r"|[0-9]{8}-[A-Z]+-(20[0-9]{2})-([0-9]{2})-([0-9]{2})(?:-[0-9]{2}){3}\."
    r"|(20[0-9]{2})-([0-9]{2})-([0-9]{2})-[A-Z]+-[0-9]{8}\.)"
)
# Marks of writing direction, which WhatsApp sets around names and numbers, and other characters without width. Joiners (U+200C, U+200D) are
# part of names and emoji. Spaces of other widths stand before AM and PM and inside phone numbers.
_UNSEEN = dict.fromkeys([0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0xFEFF], "")
_MARKS = str.maketrans({**_UNSEEN, 0x202F: " ", 0x00A0: " ", 0x2009: " "})
_PHONE = re.compile(r"\+\d[\d \-\u2010-\u2013().]{5,24}")


def clean(text: str) -> str:
    """Text without invisible marks, with plain spaces: for matching, and for names. Letters stay as they are."""
    return text if text.isascii() else text.translate(_MARKS)


def person(text: str) -> str:
    """A sender as written; a phone number as `+` and its digits, however it was set."""
    name = text.strip()
    return "+" + "".join(str(unicodedata.digit(c)) for c in name if c.isdigit()) if _PHONE.fullmatch(name) else name


def is_note_name(name: str) -> bool:
    """True for a file name that WhatsApp gives to audio and to video notes only."""
    return any(pattern.fullmatch(name) for pattern in (_ANDROID, _IOS, _OLD_IOS, _DESKTOP))


def is_other_media(name: str) -> bool:
    """True for a file name that WhatsApp gives to pictures and films: a film may have the suffix of a sound file."""
    return bool(_OTHER_MEDIA.match(name))


def is_audio_name(name: str) -> bool:
    """True for a file name that promises audio, whoever gave it."""
    return (suffix_of(name) in AUDIO_SUFFIXES and not is_other_media(name)) or is_note_name(name)


def says_nothing(name: str) -> bool:
    """True for a file name without a suffix, as "Memo", "Memo." and "Memo 12.03.2024": only its content tells what it is."""
    suffix = suffix_of(name)
    return (not suffix.isalnum() or suffix.isdigit()) and not is_other_media(name)


def kind_of(name: str) -> Kind:
    """The kind of a note by its file's name. An iPhone calls voice notes and audio files AUDIO: `.opus` is a voice note."""
    if _IOS.fullmatch(name):
        return "voice" if suffix_of(name) == "opus" else "audio"
    return read_name(name)[0] or "audio"


def stable_name(name: str, *, numbered: bool) -> str:
    """A file name without the number that an iPhone puts before each: it counts from the first message exported, and so differs between
    two exports of one chat. `numbered` where the export is known to be an iPhone's.
    """
    return name[9:] if (numbered and _NUMBERED.match(name)) or _IOS.fullmatch(name) else name


def day_of(text: str) -> int:
    """The day (proleptic ordinal) that the first file name in a text tells; 0 where none does."""
    found = _DATED.search(text)
    if not found:
        return 0
    year, month, day = (int(part) for part in found.groups() if part)
    try:
        return date(year, month, day).toordinal()
    except ValueError:
        return 0


class Names:
    """The file names of an export, found again by what a text calls them: exactly; else by Unicode form, case, and wrong decoding aside."""

    def __init__(self, names: Iterable[str]) -> None:
        self._exact: dict[str, int] = {}
        self._alike: dict[str, int] = {}
        for number, path in enumerate(names):
            name = path.rpartition("/")[2]
            self._exact.setdefault(name, number)
            for key in _keys(name):
                self._alike.setdefault(key, number)

    def find(self, name: str) -> int | None:
        """The number of the file that is meant; None where there is none."""
        number = self._exact.get(name)
        return self._alike.get(folded(clean(name)).strip()) if number is None else number


def _keys(name: str) -> Iterator[str]:
    yield folded(clean(name)).strip()
    if not name.isascii():
        # A zip's UTF-8 names, unpacked by a program that took them for the old code page of DOS.
        try:
            yield folded(clean(name.encode("cp437").decode())).strip()
        except UnicodeError:
            return


# What the app writes before the name of a chat, by language.
_PREFIXES = (
    "whatsapp chat with ", "whatsapp chat - ", "whatsapp-chat mit ", "whatsapp chat mit ", "chat de whatsapp con ", "chat whatsapp con ",
    "conversa do whatsapp com ", "discussion whatsapp avec ", "whatsapp-chat met ", "чат whatsapp с ", "chat whatsapp dengan ",
)  # fmt: skip
_BRAND = "whatsapp"
_COPY = re.compile(r"\s*\([0-9]{1,3}\)$")
_COUNT = re.compile(r"[ _-](?:copy|[0-9]{1,3}|copy [0-9]{1,3})$")
_LONGEST_TITLE = 200


def is_branded(name: str) -> bool:
    """True for a file name that WhatsApp may have given to an export."""
    return _BRAND in name.casefold()


def title_in(stem: str, people: Iterable[str]) -> str | None:
    """The name of a chat from that of its file (without suffix and number of a copy); None where the file has been given another name.

    In a language whose words are not known: what follows " - ", or the person of the chat whom the name holds, else the whole name.
    """
    stem = composed(stem)
    if not is_branded(stem):
        return None
    for prefix in _PREFIXES:
        if stem.casefold().startswith(prefix) and len(stem) > len(prefix):
            return _title(stem[len(prefix) :])
    before, dash, after = stem.partition(" - ")
    if dash and is_branded(before) and after.strip():
        return _title(after)
    named = [name for name in people if re.search(rf"(?<!\w){re.escape(unicodedata.normalize('NFC', name))}(?!\w)", stem)]
    return _title(max(named, key=len, default=stem))


def _title(text: str) -> str:
    return text.strip()[:_LONGEST_TITLE]


def composed(text: str) -> str:
    """A name as one is compared with others: NFC, without invisible marks and spaces around it."""
    return unicodedata.normalize("NFC", clean(text)).strip()


def title_of(text: str) -> str:
    """Any name as a chat's title."""
    return _title(composed(text))


def plain_title(text: str) -> str:
    """Any name as a chat's title, without the number of a copy: "Anna" for "Anna (1)"."""
    return _title(_COPY.sub("", composed(text)))


def uncopied(text: str, outer: str, *, zipped: bool) -> str:
    """The name of a text without the number that a browser gives to a copy, as far as it is one: groups may be called "Class (1)".

    `outer` is the name of the zip, or folder, that the text lies in. In a zip nothing is renamed: there it is a copy's number only where
    the zip is called the same without it. In a folder it is one, unless the folder bears the same name.
    """
    bare = _COPY.sub("", composed(text))
    is_copy = folded(bare) == folded(composed(outer)) if zipped else folded(composed(text)) != folded(composed(outer))
    return bare if is_copy else composed(text)


def without_count(title: str, known: Collection[str]) -> str:
    """A title without what iPhones and Macs put behind the name of a copy ("Anna 2"), where without it is a name that is `known`."""
    bare = _COUNT.sub("", title)
    return bare if bare in known and title not in known else title
