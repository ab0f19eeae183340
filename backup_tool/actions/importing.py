"""Put recordings from elsewhere into a chat: look at the files first, then archive what they came to, in a new snapshot of this host."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from backup_tool.actions.archive import Archive
from backup_tool.actions.deliver import Delivered
from backup_tool.actions.find import moment
from backup_tool.actions.gather import Gatherer
from backup_tool.actions.run import Job, RunPlan, run
from backup_tool.catalog import EXPORTED, UNSORTED, chats_called, closest_chats, match_chats, time_ns, time_text
from backup_tool.errors import Incomplete, UsageError, gravest
from backup_tool.models import Chat, Note, Problem, Progress, TimeFrom
from backup_tool.names import plain, shown
from backup_tool.repository import Writer
from backup_tool.sources.base import FileUnreadable
from backup_tool.sources.filenames import time_text as possible_time
from backup_tool.sources.filenames import zone_named
from backup_tool.sources.imported import ImportedSource, Piece, Taken, Terms, When, look_at

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 60.0
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Said(msgspec.Struct, kw_only=True):
    """What a person says of the files, as it was typed. `track` counts from 1; `pause` is in seconds, None where nothing is to be cut."""

    chat: str
    sender: str | None = None
    date: str | None = None
    title: str | None = None
    track: int | None = None
    pause: float | None = None


class ImportedNote(msgspec.Struct):
    """A note that a file came to: `file` as it was typed; `start` and `end` in seconds where it is a part of the file's sound.

    `id` is None where nothing was archived.
    """

    file: str
    id: str | None
    sent_at: str | None
    sent_at_from: TimeFrom | None
    duration: float | None
    title: str | None
    start: float | None
    end: float | None


class ImportResult(msgspec.Struct):
    """What was imported, as the archive has it now. `new` of the notes were not in this chat before, and of `corrected` others it knew
    something else; `snapshot` is None where there was nothing to archive."""

    snapshot: str | None
    chat: str | None
    chat_id: str | None
    new: int
    notes: list[ImportedNote]
    errors: list[Problem]
    destinations: list[Delivered] = []
    corrected: int = 0


class Import:
    """Files that were looked at: `pieces` are what they come to, `errors` the files that cannot be taken."""

    def __init__(self, files: Sequence[Path], said: Said, progress: Progress) -> None:
        """Raises UsageError for what cannot be meant, and for a file that is not there: then nothing is imported."""
        self.said = said
        self.pieces: list[Piece] = []
        self.errors: list[Problem] = []
        if not said.chat.strip():
            raise UsageError("the name of the chat is missing", "say which chat they belong to: --chat NAME")
        if said.chat == UNSORTED:
            raise UsageError(f'"{UNSORTED}" is where notes without a chat stand', "say which chat they belong to: --chat NAME")
        terms = _terms(said)
        files = [Path(os.path.expanduser(file)) for file in dict.fromkeys(files)]
        for file in files:
            _refuse(file)
        progress.begin("looking", len(files), "files")
        for file in files:
            self._look(file, terms, progress)
            progress.step()
        progress.end()

    def _look(self, file: Path, terms: Terms, progress: Progress) -> None:
        try:
            looked = look_at(file, terms)
        except FileUnreadable as reason:
            self.errors.append(Problem(str(file), str(reason)))
            return
        self.pieces += looked.pieces
        for warning in looked.warnings:
            progress.warn(warning)

    def result(self, chat: Chat | None = None) -> ImportResult:
        """What it would come to, with nothing archived."""
        notes = [_told(piece, None, None, piece.note) for piece in self.pieces]
        return ImportResult(None, *_of(chat), 0, notes, self.errors)

    def store(self, plan: RunPlan, progress: Progress) -> tuple[ImportResult, int]:
        """Archive the pieces. The exit code is 3 where a file was left out. Raises BackupError where no snapshot could be made."""
        if not self.pieces:
            return self.result(), Incomplete.exit_code
        result = self.result()
        took = _Took()
        codes = [Incomplete.exit_code * bool(self.errors)]
        try:
            done, code = run(plan, progress, partial(_Importing, self.pieces, self.said.chat, took))
            result.snapshot, result.new, result.destinations = done.snapshot, done.new, done.destinations
            result.errors = self.errors + [one for one in done.errors if one not in self.errors]
            codes.append(code)
        except _NothingNew as nothing:
            result.errors = self.errors + nothing.problems
            codes.append(Incomplete.exit_code * bool(nothing.problems))
        result.chat, result.chat_id = _of(took.chat)
        result.notes = [_told(one.piece, one.id, one.duration, took.now(one)) for one in took.notes]
        result.corrected = sum(map(took.is_corrected, took.notes))
        return result, gravest(codes)


def find_chat(name: str, archive: Archive, progress: Progress) -> Chat:
    """The chat that a person named; a new one, and word of it, where none is called so. Raises UsageError where several are."""
    chats = archive.chats()
    if not chats_called(name, chats):
        near = closest_chats(name, chats)
        progress.warn(f'no chat is called "{shown(name)}": a new one is made' + (f" ({near})" if near else ""))
        return Chat(chat_id=EXPORTED + name.strip(), titles=[name.strip()])
    (chat_id,) = match_chats([name], chats)
    known = next(chat for chat in chats if chat.chat_id == chat_id)
    return Chat(chat_id=known.chat_id, titles=known.titles[-1:] or [name])


class _NothingNew(Exception):
    """All of it is in the archive already, or could not be read after all."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__()
        self.problems = problems


@dataclass
class _Took:
    """Into which chat pieces went, what they came to, and what the archive knew of them before and knows now, by the message's id."""

    chat: Chat | None = None
    notes: list[Taken] = field(default_factory=list)
    before: dict[str | None, Note] = field(default_factory=dict)
    after: dict[str | None, Note] = field(default_factory=dict)

    def now(self, taken: Taken) -> Note:
        """What is known of the note."""
        return self.after.get(taken.piece.note.message_id, taken.piece.note)

    def is_corrected(self, taken: Taken) -> bool:
        """Whether the note was there, and something else is known of it now."""
        before = self.before.get(taken.piece.note.message_id)
        return before is not None and _said_of(before) != _said_of(self.now(taken))


class _Importing(Job):
    def __init__(self, pieces: Sequence[Piece], chat: str, took: _Took, *of_job: Any) -> None:
        super().__init__(*of_job)
        self._pieces = pieces
        self._named = chat
        self._took = took

    def gather(self, writer: Writer) -> Gatherer:
        """Take in the pieces as notes of the chat."""
        chat = self._took.chat = find_chat(self._named, Archive(self._repository), self._progress)
        source = ImportedSource(self._pieces, chat, self._known)
        self._took.notes = source.taken
        first_new, gatherer = self._ledger.numbers(), self._gatherer(writer, set())
        self._progress.begin("importing", len(self._pieces))
        try:
            gatherer.take(source)
        finally:
            self._progress.end()
        gatherer.settle()
        self._retitle(gatherer, first_new)
        for one in source.taken:
            if (known := self._known_of(one)) is not None:
                self._took.after[one.piece.note.message_id] = known
        if not self._ledger.stale_months:
            raise _NothingNew(gatherer.tally.problems)
        return gatherer

    def _known(self, note: Note) -> str | None:
        """The id under which this very piece was imported into this chat before."""
        number = self._ledger.by_message(note)
        if number is None:
            return None
        known = self._took.before[note.message_id] = self._ledger.note(number)
        return known.id

    def _known_of(self, taken: Taken) -> Note | None:
        """The record of the piece, or of the message from the phone that has the same recording."""
        note = taken.piece.note
        number = self._ledger.by_message(note)
        if number is not None:
            return self._ledger.note(number)
        same = self._ledger.of_audio(msgspec.structs.replace(note, id=taken.id)).values()
        return next((one for one in same if one.chat_id == note.chat_id), None)


def _said_of(note: Note) -> tuple[object, ...]:
    """What a person can say of a note on importing it."""
    return note.sent_at, note.sent_at_from, note.sender, note.from_me, note.title


def _terms(said: Said) -> Terms:
    if said.track is not None and said.track < 1:
        raise UsageError(f"there is no track {said.track}", "tracks are counted from 1: --track 2")
    if said.pause is not None and not SHORTEST_PAUSE <= said.pause <= LONGEST_PAUSE:
        raise UsageError(f"a pause of {said.pause:g} s cannot be meant", f"give {SHORTEST_PAUSE:g} to {LONGEST_PAUSE:g} seconds: --pause 2")
    zone = zone_named(None)
    mine = plain(said.sender) in ("me", "myself") if said.sender else None
    when = None
    if said.date is not None:
        begins = moment(said.date, last=False)
        sent_at = f"{said.date}T12:00:00Z" if _DAY.fullmatch(said.date) else time_text(begins.replace(microsecond=0))
        if possible_time(time_ns(sent_at) // 10**6) is None:
            raise UsageError(f'"{shown(said.date)}" is too far off', "days from 2009 to today can be meant: --date 2026-03-01")
        when = When(sent_at, "name", None if _DAY.fullmatch(said.date) else zone.name)
    return Terms(
        zone=zone,
        when=when,
        sender=None if mine else said.sender,
        from_me=mine,
        title=said.title.strip() or None if said.title else None,
        track=None if said.track is None else said.track - 1,
        pause=said.pause,
    )


def _refuse(file: Path) -> None:
    """A file that is not there, or a folder: what was typed is not what was meant."""
    if file.is_dir():
        raise UsageError(
            f"{shown(str(file))} is a folder", "name the files in it, or archive it as a source: backup run FOLDER --repo PLACE"
        )
    if not file.exists():
        raise UsageError(f"there is no file {shown(str(file))}", "nothing was imported")


def _of(chat: Chat | None) -> tuple[str | None, str | None]:
    return (chat.titles[-1], chat.chat_id) if chat else (None, None)


def _told(piece: Piece, note_id: str | None, duration: float | None, note: Note) -> ImportedNote:
    end = None if piece.end == math.inf else piece.end
    cut = end is not None
    return ImportedNote(
        file=str(piece.path), id=note_id, sent_at=note.sent_at, sent_at_from=note.sent_at_from,
        duration=duration if duration is not None or end is None else round(end - piece.start, 3), title=note.title,
        start=piece.start if cut else None, end=end,
    )  # fmt: skip
