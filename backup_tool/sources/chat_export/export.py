"""One exported chat: a text, the files beside it, and the notes that come of the two."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from backup_tool.models import Chat, Note
from backup_tool.names import folded, shown
from backup_tool.sources.base import AudioFile, FileUnreadable
from backup_tool.sources.chat_export import dates
from backup_tool.sources.chat_export.containers import MOST_TEXT, Container
from backup_tool.sources.chat_export.grammar import Mention, Message, Text, authors_of, mentions, read_text, voice_of_the_app
from backup_tool.sources.chat_export.names import (
    Names,
    clean,
    day_of,
    kind_of,
    plain_title,
    stable_name,
    title_in,
    title_of,
    uncopied,
    without_count,
)
from backup_tool.sources.filenames import Zone

_FORMS = {"ios": "an iPhone", "android": "an Android phone", "old": "an old phone"}
_NO_NAMES = frozenset(["", "_chat", "chat"])


@dataclass(slots=True)
class Export:
    """A text as it was read. Dates are decided, and may be decided better by a sibling until `notes` are made."""

    container: Container
    path: str
    """Of the text, below the source's folder."""
    folder: str
    """Of the text, within the container."""
    title: str
    text: Text
    decision: dates.Decision
    own: list[int]
    """The container's files that belong to this text."""

    @property
    def chat_id(self) -> str:
        """The chat's id as far as an export knows it: by its title."""
        return "export:" + self.title

    def messages(self) -> list[Message]:
        """The messages, without those that were pasted into others."""
        return dates.without_pasted(self.text.messages, self.decision)

    def days(self) -> list[int]:
        """The days on which something was written."""
        return [day for one in self.messages() if (day := self.decision.day(one.numbers))]

    def described(self) -> str:
        """In a person's words, without the number of notes."""
        days = self.days()
        span = f", {date.fromordinal(min(days))} to {date.fromordinal(max(days))}" if days else ""
        how = f" (dates read as {self.decision.order}: {self.decision.how})"
        return f'exported chat "{shown(self.title)}" of {_FORMS[self.text.style.shape]}{span}{how}'


def read_export(container: Container, number: int, own: list[int], audio: Iterable[int], above: str, *, alone: bool) -> Export:
    """Read a text of a container. `own` are the files that belong to it, `audio` those of all files that are audio; `above` is the
    container's path as text, with a slash at its end unless empty; `alone`: the container holds no other text. Raises FileUnreadable.
    """
    data = container.text(number, MOST_TEXT + 1)
    if len(data) > MOST_TEXT:
        raise FileUnreadable(f"a text of more than {MOST_TEXT // 2**20} MiB: no chat that WhatsApp exported")
    sounds = frozenset(audio)
    text = read_text(data, Names(container.names[one] for one in own), frozenset(at for at, one in enumerate(own) if one in sounds))
    name = container.names[number]
    title = _title(name, container, text, alone=alone)
    return Export(
        container, above + name, name.rpartition("/")[0], title, text, dates.decide(text.messages, text.style, container.newest), own
    )


def _title(path: str, container: Container, text: Text, *, alone: bool) -> str:
    """The chat's name: as the app called the text, its folder in the zip, or what it came in; else as the text itself says; else any name
    of these. `path` is the text's within the container, whose own name is that of none of several chats in folders.
    """
    folder, _, name = path.rpartition("/")
    outer = [folder.rpartition("/")[2]] if folder else []
    outer += [container.stem()] if alone or not folder else []
    own = title_of(voice_of_the_app(text.messages) or "")
    people = authors_of(text.messages)
    people = people if len(people) <= 2 else set()
    if own and own in [title_in(one, people) for one in outer]:
        return own  # what looks like the number of a copy is not, where the app says it too
    names = [uncopied(name[:-4], outer[0], zipped=container.whole), *map(plain_title, outer)]
    named = next(filter(None, (title_in(one, people) for one in names)), None) or own
    if named:
        return without_count(named, {own, *map(title_of, people)})
    return next((title_of(one) for one in names if plain_title(one).casefold() not in _NO_NAMES), "chat")


def settle_together(exports: Sequence[Export]) -> None:
    """Let an export whose dates are in doubt learn from another of the same chat that is written in the same way."""
    sure = {(one.chat_id, one.text.style): one.decision for one in exports if one.decision.sure}
    for one in exports:
        sibling = None if one.decision.sure else sure.get((one.chat_id, one.text.style))
        if sibling:
            one.decision = dates.borrowed(one.decision, sibling)


@dataclass(slots=True)
class Notes:
    """What an export's text knows: notes of files by the file's number in the container, and notes without a file."""

    export: Export
    found: dict[int, list[Note]] = field(default_factory=dict)
    missing: list[Note] = field(default_factory=list)
    omitted: list[Note] = field(default_factory=list)
    media_left_out: int = 0
    warnings: list[str] = field(default_factory=list)

    def chat(self) -> Chat:
        """The chat of it."""
        return Chat(chat_id=self.export.chat_id, titles=[self.export.title])


def notes_of(export: Export, zone: Zone) -> Notes:
    """The notes that a text speaks of, with what it says of each."""
    return _Making(export, zone).run()


class _Making:
    def __init__(self, export: Export, zone: Zone) -> None:
        self._export = export
        self._messages = export.messages()
        self._times = [dates.seconds_of(one, export.decision) for one in self._messages]
        self._clock = dates.Clock(zone)
        self._mine = _owner(export.title, authors_of(self._messages))
        self._of_unknown_day: list[Message] = []
        self._of_unknown_half: list[Message] = []
        self._senseless = 0

    def run(self) -> Notes:
        """Go through all messages that speak of a file."""
        notes = Notes(self._export)
        numbered = self._export.text.style.shape == "ios"
        for number, mention in mentions(self._messages):
            if mention.what == "media omitted":
                notes.media_left_out += 1
                continue
            note = self._note(number, mention)
            if mention.what == "found":
                file = self._export.own[mention.file]
                name = self._export.container.names[file]
                note.kind = kind_of(name.rpartition("/")[2])
                notes.found.setdefault(file, []).append(note)
            elif mention.what == "absent":
                note.kind, note.original_path = kind_of(mention.name), stable_name(mention.name, numbered=numbered)
                notes.missing.append(note)
            else:
                notes.omitted.append(note)
        notes.warnings = self._warnings(notes)
        return notes

    def _note(self, number: int, mention: Mention) -> Note:
        message = self._messages[number]
        note = Note(chat=self._export.title, chat_id=self._export.chat_id, sender=message.author)
        note.from_me = None if self._mine is None else message.author == self._mine
        note.sent_at = self._clock.sent_at(number, self._times)
        if note.sent_at is None:
            self._senseless += 1
            return note
        note.zone = self._clock.zone.name
        doubts = [
            *([self._of_unknown_half] if message.half == "?" else []),
            *([] if self._has_certain_day(message, mention) else [self._of_unknown_day]),
        ]
        for doubt in doubts:
            doubt.append(message)
        note.sent_at_from = "guess" if doubts else "message"
        return note

    def _has_certain_day(self, message: Message, mention: Mention) -> bool:
        decision = self._export.decision
        named = day_of(mention.name)
        return decision.certain(message.numbers) or bool(named and abs(decision.day(message.numbers) - named) <= 1)

    def _warnings(self, notes: Notes) -> list[str]:
        title = f'the exported chat "{shown(self._export.title)}"'
        told = []
        if self._of_unknown_half:
            word, many = shown(self._export.text.unknown_half), _count(len(self._of_unknown_half), "note")
            told.append(
                f'{title}: the word "{word}" beside the time is not known as morning or afternoon: the time as written is a guess for '
                f"{many}; set the phone to 24 hours, and export the chat again"
            )
        if self._of_unknown_day:
            told.append(f"{title}: {self._doubt(self._of_unknown_day)}")
        if self._senseless:
            told.append(f"{title}: {_count(self._senseless, 'note')} with a date that is none, or that nothing before 2009 can have")
        if notes.media_left_out:
            told.append(
                f"{title}: {_count(notes.media_left_out, 'message')} had a file that was left out when the chat was exported, and the text "
                "does not say which of them was audio; export it again with media"
            )
        return told + self._about_the_clock(title)

    def _doubt(self, messages: list[Message]) -> str:
        decision, example = self._export.decision, messages[0]
        written = self._export.text.style.date_by.join(map(str, example.numbers))
        either = date.fromordinal(decision.day(example.numbers))
        other = date.fromordinal(dates.Decision(decision.other or decision.order, "").day(example.numbers))
        return (
            f"whether {written} is {either} or {other} cannot be told: taken as {decision.order}, a guess for "
            f"{_count(len(messages), 'note')}; export the chat again with media, and put it beside this one"
        )

    def _about_the_clock(self, title: str) -> list[str]:
        zone, told = self._clock.zone.name, []
        if skipped := self._clock.skipped:
            told.append(
                f"{title}: {_count(len(skipped), 'note')} at a time that no clock showed in {zone}, such as {skipped[0]}: was the phone "
                "elsewhere? set the source's timezone"
            )
        if unclear := self._clock.unclear:
            told.append(
                f"{title}: {_count(len(unclear), 'note')} at a time that clocks showed twice in {zone}, such as {unclear[0]}: taken as the "
                "first"
            )
        return told


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number:,} {what}s"


def _owner(title: str, authors: set[str]) -> str | None:
    """Who exported a chat of two, of which one gives the chat its name; None where that is not so."""
    if len(authors) != 2:
        return None
    others = [name for name in authors if plain_title(name) != title and folded(_bare(name)) != folded(_bare(title))]
    return others[0] if len(others) == 1 else None


def _bare(name: str) -> str:
    """A name without what file names cannot hold, and phone numbers without what sets them apart."""
    return re.sub(r"[^\w+]|_", "", clean(name))


def without_doubles(every: Sequence[Notes]) -> tuple[list[Note], list[Note]]:
    """(missing, omitted) of several exports: what another export of the same chat has is neither, and what two miss is one."""
    there = {(note.chat_id, _file(note)) for notes in every for found in notes.found.values() for note in found}
    missing: dict[tuple[str | None, str, str | None], Note] = {}
    for notes in every:
        for note in notes.missing:
            if (note.chat_id, _file(note)) not in there:
                missing.setdefault((note.chat_id, _file(note), note.sent_at), note)
    present: Counter[tuple[str | None, ...]] = Counter()
    wanted: dict[tuple[str | None, ...], list[Note]] = {}
    for notes in every:
        here = Counter(_moment(note) for found in notes.found.values() for note in found)
        for key, count in here.items():
            present[key] = max(present[key], count)
        for key, of_key in _by_moment(notes.omitted).items():
            if len(of_key) + here[key] > len(wanted.get(key, ())):
                wanted[key] = of_key + [of_key[0]] * here[key]
    omitted = [note for key, of_key in wanted.items() for note in of_key[: max(len(of_key) - present[key], 0)]]
    return list(missing.values()), omitted


def _file(note: Note) -> str:
    return folded((note.original_path or "").rpartition("/")[2])


def _moment(note: Note) -> tuple[str | None, ...]:
    """A message as two exports of one chat both tell it: an Android phone leaves out the seconds."""
    return note.chat_id, note.sender, (note.sent_at or "")[:16]


def _by_moment(notes: Iterable[Note]) -> dict[tuple[str | None, ...], list[Note]]:
    found: dict[tuple[str | None, ...], list[Note]] = {}
    for note in notes:
        found.setdefault(_moment(note), []).append(note)
    return found


def with_path(file: AudioFile, notes: list[Note], original_path: str) -> None:
    """Give a file the notes that messages make of it."""
    bare = file.notes[0]
    for note in notes:
        note.mtime_ns, note.original_path = file.mtime_ns, original_path
        if note.sent_at is None:
            note.sent_at, note.sent_at_from, note.zone = bare.sent_at, bare.sent_at_from, bare.zone
    file.notes = notes
