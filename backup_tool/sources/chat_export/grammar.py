"""The text of an exported chat: where each message begins, who wrote it, and which file it names. No language is known but for few words.

    [06.01.24, 14:05:37] Anna: <attached: 00000012-AUDIO-2024-01-06-14-05-37.opus>        iPhone, Mac
    06/01/2024, 2:05 PM - Anna: PTT-20240106-WA0001.opus (file attached)                  Android
    06/01/2014 14:05:37: Anna: 2014-01-06-AUDIO-00004762.m4a <attached>                   years ago

A line that is no such beginning goes on with the message before it. What the numbers of a date mean is told in `dates`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

from backup_tool.names import plain
from backup_tool.sources.base import FileUnreadable
from backup_tool.sources.chat_export.names import Names, clean, day_of, is_audio_name, is_note_name, person

MOST_MESSAGES = 200_000
"""The app itself exports at most 40,000."""
_LONGEST_LINE = 8192
_LONGEST_NAME = 128
_MOST_COLONS = 8
_MOST_MARKS = 3
_FIRST_LINES = 20

_LINE = re.compile(rb"[^\r\n]+")
_BEGINNING = re.compile(
    r"(?P<open>\[?)"
    r"(?P<a>\d{4}|\d{1,2})(?P<by>[./-])(?P<space> ?)(?P<b>\d{1,2})(?P=by) ?(?P<c>\d{4}|\d{1,2})\.?"
    r"(?P<comma>[,\u060c]?) ?"
    r"(?P<before>[^\W\d_][^\d\[\]:<>]{0,15})?"
    r"(?P<hour>\d{1,2})(?P<colon>[:.])(?P<minute>\d{2})(?:(?P=colon)(?P<second>\d{2}))?"
    r"(?P<after> ?[^\W\d_][^\d\[\]:<>]{0,15}?)?"
    r"(?P<close>\] ?| -(?: |$)|: )"
)
_SHAPES: dict[tuple[str, str], Literal["ios", "android", "old"]] = {("[", "]"): "ios", ("", "-"): "android", ("", ":"): "old"}
_FIRST_BYTES = frozenset(b"[0123456789")
_MARKED = re.compile(r":[ \u00a0\u202f][\u200e\u200f]")

# Halves of the day as they stand in exports, and those of Unicode's locale data (CLDR) for clocks of 12 hours: without
# dots, quotes, spaces.
_MORNING = frozenset(
    [
        "am",
        "上午",
        "午前",
        "오전",
        "ص",
        "πμ",
        "de",
        "vorm",
        "morgens",
        "nachts",
        "ก่อนเที่ยง",
        "முற்பகல்",
        "凌晨",
        "早上",
        "清晨",
        "पूर्वाह्न",
        "öö",
        "sa",
        "проб",
        "dop",
        "ap",
        "fm",
        "дп",
        "לפנהצ",
        "قظ",
        "vm",
    ]
)
_AFTERNOON = frozenset(
    ["pm", "下午", "午後", "오후", "م", "μμ", "du", "nachm", "mittags", "abends", "หลังเที่ยง", "பிற்பகல்", "中午", "晚上", "अपराह्न", "ös", "ch",
     "слоб", "odp", "pop", "ip", "em", "пп", "אחהצ", "بظ", "nm"]
)  # fmt: skip
# Words that only say "at" before the time: those seen, and those of CLDR's patterns of date and time.
_AT = frozenset(
    ["klo", "kl", "à", "в", "um", "at", "om", "às", "ás", "alas", "ales", "alle", "alleore", "ore", "о", "u", "у", "ob", "o", "v", "la",
     "lúc", "pukul", "jam", "plkst", "saa", "στισ", "nang", "në", "في", "בשעה", "ساعت", "को"]
)  # fmt: skip
_NO_LETTERS = str.maketrans("", "", " .'’\"״׳")

# What stands for audio that was left out (iPhone), and for any file (Android).
_AUDIO_OMITTED = frozenset(
    ["audio omitted", "audio weggelassen", "audio omitido", "audio ocultado", "audio omesso", "audio omis", "ses dahil edilmedi"]
)
_AUDIO_WORDS = re.compile(r"audio(?: \w+){1,3}")
_MEDIA_OMITTED = frozenset(
    ["media omitted", "medien ausgeschlossen", "multimedia omitido", "mídia oculta", "médias omis", "media omessi", "media weggelaten",
     "без медиафайлов", "medya dahil edilmedi"]
)  # fmt: skip
_WORDS_ONLY = re.compile(r"<([^\W\d_][^<>\d:：.]{2,60})>")
_ANGLES = re.compile(r"<([^<>]{1,500})>$")
_SIZE = re.compile(r" \([0-9][0-9.,]* ?[A-Za-z]{1,3}\)$")


class Style(NamedTuple):
    """How the beginnings of one export are written: all of them alike, since one phone writes them in one go."""

    shape: Literal["ios", "android", "old"]
    date_by: str
    spaced: bool
    """True where a space follows each: "15. 1. 2024"."""
    comma: str
    clock_by: str
    seconds: bool
    halves: bool
    """True where hours are those of a half day."""
    ascii: bool
    year: Literal["first", "last", "short"]
    """Where the year of four digits stands; short: it has two, wherever it stands."""


class Mention(NamedTuple):
    """What a message says of a file."""

    what: Literal["found", "absent", "perhaps", "audio omitted", "media omitted"]
    """`perhaps`: absent, and only the words around the name can tell whether a file is meant at all."""
    name: str
    """As written, without invisible marks."""
    file: int = -1
    """The number of the file in the export."""
    words: str = ""


@dataclass(slots=True)
class Message:
    """One message as far as it matters here. The numbers of the date stand in the order in which they were written."""

    numbers: tuple[int, int, int]
    hour: int
    minute: int
    second: int | None
    half: Literal["am", "pm", "", "?"]
    author: str | None
    """None for what the app itself says."""
    mention: Mention | None
    named_day: int
    """The day that a file name in it tells (proleptic ordinal), or 0."""
    marked: bool
    """Its text begins with an invisible mark: what an iPhone's app says itself, or a file."""


@dataclass(slots=True)
class Text:
    """A text that was read: its messages, in order."""

    style: Style
    messages: list[Message]
    unknown_half: str = ""
    """A word beside the time that is no known half of the day."""


class NoChat(FileUnreadable):
    """A text in which no message begins."""


def begins_like_a_chat(head: bytes) -> bool:
    """True where one of the first lines of a text begins a message."""
    lines = (clean(match[0].decode("utf-8", "replace")) for match in _LINE.finditer(head[:_LONGEST_LINE]))
    return any(_shape(found) for line, _ in zip(lines, range(_FIRST_LINES), strict=False) if (found := _BEGINNING.match(line)))


def read_text(data: bytes, names: Names, audio: Collection[int]) -> Text:
    """Read a whole text (UTF-8; other bytes are escaped). `names` are the export's files, `audio` the numbers of those that are audio.

    Raises NoChat, and FileUnreadable for more than MOST_MESSAGES.
    """
    reading = _Reading(names, audio)
    for match in _LINE.finditer(data):
        reading.take(match[0][:_LONGEST_LINE])
    return reading.text()


@dataclass(slots=True)
class _Reading:
    names: Names
    audio: Collection[int]
    messages: dict[Style, list[Message]] = field(default_factory=dict)
    last: Message | None = None
    count: int = 0
    known_words: set[str] = field(default_factory=set)
    """Words that stood beside the name of a file that is there: "file attached", in the export's own language."""
    known_authors: dict[str, str] = field(default_factory=dict)
    unknown: Counter[tuple[Style, str]] = field(default_factory=Counter)

    def take(self, raw: bytes) -> None:
        """The next line that is not empty."""
        if raw[0] < 0x80 and raw[0] not in _FIRST_BYTES:
            found = None
        else:
            line = raw.decode("utf-8", "backslashreplace")
            found = _BEGINNING.match(clean(line))
        if found and _shape(found):
            self._begin(found, line)
        elif self.last is not None and self.last.mention is None and raw.rstrip().endswith(b">"):
            # An iPhone puts the words that go with a file before it.
            mention = self._in_angles(clean(raw.decode("utf-8", "backslashreplace")).strip())
            if mention and mention.what == "found":
                self.last.mention = mention

    def _begin(self, found: re.Match[str], line: str) -> None:
        self.count += 1
        if self.count > MOST_MESSAGES:
            raise FileUnreadable(f"more than {MOST_MESSAGES:,} messages: no chat that WhatsApp exported")
        style, half, word = _style(found)
        rest = found.string[found.end() :].strip()
        marked = not line.isascii() and bool(_MARKED.search(line))
        author, mention = self._split(rest, marked)
        second = found["second"]
        self.last = Message(
            (int(found["a"]), int(found["b"]), int(found["c"])), int(found["hour"]), int(found["minute"]), int(second) if second else None,
            half, author, mention, day_of(rest) if "-" in rest and "20" in rest else 0, marked,
        )  # fmt: skip
        self.messages.setdefault(style, []).append(self.last)
        if word:
            self.unknown[style, word] += 1

    def _split(self, rest: str, marked: bool) -> tuple[str | None, Mention | None]:
        """Who wrote it, and which file it names. A name may hold ": " itself: where the text is nothing but a file, that shows its end."""
        at = rest.find(": ")
        if at < 0:
            return (self._author(rest[:-1]) if rest.endswith(":") else None), None
        author, first = self._author(rest[:at]), None
        for number in range(_MOST_COLONS):
            body = rest[at + 2 :].strip()
            mention = self._mention(body, marked)
            if mention and (mention.what == "audio omitted" or (mention.what == "found" and body.startswith(("<", mention.name)))):
                return self._author(rest[:at]), mention
            first = mention if number == 0 else first
            at = rest.find(": ", at + 2)
            if at < 0:
                break
        return author, first if author else None

    def _author(self, text: str) -> str | None:
        if len(text) > _LONGEST_NAME:
            return None
        name = self.known_authors.get(text)
        if name is None:
            name = self.known_authors[text] = person(text)
        return name or None

    def _mention(self, body: str, marked: bool) -> Mention | None:
        if body.endswith((">", ")")):
            return self._in_angles(body) or self._in_parentheses(body)
        if len(body) > 40:
            return None
        words = plain(body)
        if words in _AUDIO_OMITTED or (marked and _AUDIO_WORDS.fullmatch(words)):
            return Mention("audio omitted", "")
        return None

    def _in_angles(self, body: str) -> Mention | None:
        """`<words: NAME>`, `<NAME words>`, `NAME <words>`, and `<words>` alone for a file that was left out."""
        body = _SIZE.sub("", body)
        found = _ANGLES.search(body)
        if found is None:
            return None
        inner, before = found[1].strip(), body[: found.start()].strip()
        candidates = [(inner[: m.start()].strip(), inner[m.end() :].strip()) for m in islice(re.finditer("[:：]", inner), _MOST_MARKS)]
        after_colon = len(candidates)
        spaces = [m.start() for m in re.finditer(" ", inner)][-3:]
        candidates += [(inner[at:].strip(), inner[:at]) for at in reversed(spaces)]
        candidates += [(inner, before)] if before else []
        for words, name in candidates:
            file = self.names.find(name)
            if file is not None:
                return self._named(name, file, words)
        for number, (words, name) in enumerate(candidates):
            if is_note_name(name) or (number < after_colon and is_audio_name(name)):
                return Mention("absent", name, words=words)
        words_only = _WORDS_ONLY.fullmatch(body)
        return Mention("media omitted", words_only[1].casefold()) if words_only else None

    def _in_parentheses(self, body: str) -> Mention | None:
        """`NAME (words)`."""
        for text in dict.fromkeys((body, _SIZE.sub("", body))):
            if not text.endswith(")"):
                continue
            starts = [m.start() for m in re.finditer(r" \(", text)][-_MOST_COLONS:]
            for at in reversed(starts):
                name, words = text[:at].strip(), text[at + 2 : -1]
                file = self.names.find(name)
                if file is not None:
                    self.known_words.add(words.casefold())
                    return self._named(name, file, words)
            for at in reversed(starts):
                name, words = text[:at].strip(), text[at + 2 : -1]
                if is_note_name(name):
                    return Mention("absent", name, words=words)
                if is_audio_name(name):
                    return Mention("perhaps", name, words=words.casefold())
        return None

    def _named(self, name: str, file: int, words: str) -> Mention | None:
        return Mention("found", name, file, words) if file in self.audio else None

    def text(self) -> Text:
        """The messages of the style that names most of the files, and of those, has most messages: any other is a pasted chat."""
        if not self.messages:
            raise NoChat("no message of a chat begins in it")

        def weight(style: Style) -> tuple[int, int]:
            messages = self.messages[style]
            return sum(one.mention is not None and one.mention.what == "found" for one in messages), len(messages)

        style = max(self.messages, key=weight)
        messages = self.messages[style]
        repeated = Counter(one.mention.name for one in messages if one.mention and one.mention.what == "media omitted")
        for one in messages:
            one.mention = self._settled(one.mention, repeated)
        # A clock of 24 hours with a word beside it ("Uhr"). A line or two that someone made up do not count.
        if sum(one.hour > 12 for one in messages) * 20 > len(messages):
            for one in messages:
                one.half = ""
            return Text(style, messages)
        words = [(count, word) for (of, word), count in self.unknown.items() if of == style]
        return Text(style, messages, max(words, default=(0, ""))[1])

    def _settled(self, mention: Mention | None, repeated: Counter[str]) -> Mention | None:
        """What a mention is, now that the whole text is known."""
        if mention is None:
            return None
        if mention.what == "perhaps":
            return mention._replace(what="absent") if mention.words in self.known_words else None
        if mention.what == "media omitted" and mention.name not in _MEDIA_OMITTED and repeated[mention.name] < 2:
            return None
        return mention


def _shape(found: re.Match[str]) -> Literal["ios", "android", "old"] | None:
    """Of which kind a beginning is; None where it is none: brackets that do not close, a date without year."""
    first, last = len(found["a"]), len(found["c"])
    year = 4 in (first, last) or last == 2 or (first == 2 and found["space"])
    return _SHAPES.get((found["open"], found["close"].strip())) if year else None


def _style(found: re.Match[str]) -> tuple[Style, Literal["am", "pm", "", "?"], str]:
    """The style of a beginning, its half of the day, and a word that might be one and is not known."""
    before, after = _half_word(found["before"]), _half_word(found["after"])
    # A word that nobody knows may be a half of the day: `_Reading.text` takes it for none where hours above 12 show that it is.
    unknown = after or (before if before not in _AT else "")
    half: Literal["am", "pm", "", "?"] = _half(after) or _half(before) or ("?" if unknown else "")
    shape = _shape(found)
    assert shape is not None
    style = Style(
        shape, found["by"], bool(found["space"]), found["comma"], found["colon"], found["second"] is not None, bool(half),
        found["a"].isascii(),
        "first" if len(found["a"]) > 2 else "last" if len(found["c"]) > 2 else "short",
    )  # fmt: skip
    return style, half, unknown if half == "?" else ""


def _half(word: str) -> Literal["am", "pm", ""]:
    return "am" if word in _MORNING else "pm" if word in _AFTERNOON else ""


def _half_word(text: str | None) -> str:
    return text.casefold().translate(_NO_LETTERS) if text else ""


def authors_of(messages: list[Message]) -> set[str]:
    """The people who wrote something, or sent a file: not the chat itself, which an iPhone names as the author of what the app says."""
    return {one.author for one in messages if one.author and (not one.marked or one.mention)}


def voice_of_the_app(messages: list[Message]) -> str | None:
    """The chat's own name, where an iPhone's export begins with what the app says under it."""
    first = messages[0] if messages else None
    return first.author if first and first.author and first.marked and not first.mention else None


def mentions(messages: list[Message]) -> Iterator[tuple[int, Mention]]:
    """(number of the message, what it says of a file), in order."""
    return ((number, one.mention) for number, one in enumerate(messages) if one.mention)
