"""Files that a person puts into the archive by hand: sound files as they are, and the sound of recordings that have a picture.

    looked = look_at(Path("RPReplay_Final1709280000.MP4"), terms)
    looked.pieces                                     # one note each: all of it, or the stretches between silences
    ImportedSource(looked.pieces, chat).scan()        # a source like any other

The moment is what a person says, else what the name tells, the container, or the file's own time. Names of screen recordings, beside those
that `filenames` knows: `RPReplay_Final<seconds since 1970>` and `ScreenRecording_MM-DD-YYYY HH-MM-SS` (iPhone).
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from backup_tool.audio import AUDIO_SUFFIXES, SNIFF_BYTES, UNKNOWN, VIDEO_SUFFIXES, Inspector, inspect, media_type_of, suffix_of
from backup_tool.audio.recording import Recording, Track, Unplayable
from backup_tool.models import IMPORTED, Chat, Kind, Note, Problem, TimeFrom
from backup_tool.names import path_text
from backup_tool.sources.base import AudioFile, FileUnreadable, KnownId, Scan, Summary
from backup_tool.sources.filenames import Zone, moment_of_name, read_name, time_text
from backup_tool.sources.listing import Listing
from backup_tool.sources.tree import MAX_SIZE, Tree

_CONTAINERS = ("audio/mp4", "audio/3gpp", "audio/webm")
"""What may hold a picture."""
_ONLY_SOUND = AUDIO_SUFFIXES - VIDEO_SUFFIXES
_READ_AT_ONCE = 1 << 20
_REPLAY = re.compile(r"RPReplay_Final([0-9]{9,10})", re.IGNORECASE)
_SCREEN = re.compile(r"ScreenRecording_([01][0-9])-([0-3][0-9])-(20[0-9]{2}) ([0-2][0-9])-([0-5][0-9])-([0-5][0-9])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class When:
    """A moment as a record has it, and how it is known."""

    sent_at: str | None = None
    known_from: TimeFrom | None = None
    zone: str | None = None

    def later(self, seconds: float) -> When:
        """So much later; a day stays that day."""
        if not seconds or self.sent_at is None or Note(sent_at=self.sent_at, sent_at_from=self.known_from).known_by_day:
            return self
        moment = datetime.fromisoformat(self.sent_at) + timedelta(seconds=round(seconds))
        return When(time_text(round(moment.timestamp() * 1000)), self.known_from, self.zone)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a person said of the files: `track` counts from 0; `pause` is how many seconds of silence part two notes, None to part none."""

    zone: Zone
    when: When | None = None
    sender: str | None = None
    from_me: bool | None = None
    title: str | None = None
    track: int | None = None
    pause: float | None = None


@dataclass(slots=True)
class Piece:
    """One note to be. `track` is None for a file that is taken as it is; `start` and `end` are seconds."""

    path: Path
    """As it was typed."""
    location: bytes
    size: int
    mtime_ns: int
    digest: str
    media_type: str
    note: Note
    track: int | None = None
    start: float = 0.0
    end: float = math.inf

    @property
    def is_cut(self) -> bool:
        """Whether it is a part of the recording's sound only."""
        return self.end != math.inf


@dataclass(slots=True)
class Looked:
    """What a file came to."""

    pieces: list[Piece] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look_at(path: Path, terms: Terms) -> Looked:
    """See what a file is and which notes it becomes. It is read to its end. Raises FileUnreadable where it becomes none."""
    location = os.fsencode(os.path.realpath(path))
    tree = Tree(os.path.dirname(location))
    handle = tree.open_file(location)
    try:
        found = os.fstat(handle)
        media_type = media_type_of(os.pread(handle, SNIFF_BYTES, 0))
    finally:
        os.close(handle)
    if media_type == UNKNOWN:
        raise FileUnreadable("no sound file or recording of a kind that is known here" if found.st_size else "an empty file")
    whole = hashlib.sha256()
    for data in tree.read(AudioFile("", "", location, found.st_size, found.st_mtime_ns, []), _READ_AT_ONCE):
        whole.update(data)
    file = Piece(path, location, found.st_size, found.st_mtime_ns, whole.hexdigest(), media_type, Note())
    return _Looker(file, terms).look()


class _Looker:
    """Looks at one file."""

    def __init__(self, file: Piece, terms: Terms) -> None:
        self._file = file
        self._terms = terms
        self._name = path_text(os.path.basename(os.fsencode(file.path)))
        self._looked = Looked()

    def look(self) -> Looked:
        when = self._terms.when or self._when_by_name()
        file = self._file
        if file.media_type in _CONTAINERS or self._terms.pause is not None or self._terms.track is not None or when is None:
            try:
                with _opened(file) as recording:
                    made_at = recording.made_at()
                    if when is None and made_at is not None:
                        when = When(time_text(int(made_at.timestamp() * 1000)), "file")
                    self._take_sound(recording, when or self._when_by_file())
                    return self._looked
            except Unplayable as reason:
                # A note that is damaged is a note; of a video nothing is left without what says where its sound is.
                if self._terms.pause is not None or (file.media_type in _CONTAINERS and suffix_of(self._name) not in _ONLY_SOUND):
                    raise FileUnreadable(str(reason)) from None
        self._take_whole(when or self._when_by_file())
        return self._looked

    def _take_sound(self, recording: Recording, when: When) -> None:
        tracks = recording.tracks
        if not tracks:
            raise FileUnreadable("there is no sound in it")
        number = self._terms.track or 0
        if number >= len(tracks):
            raise FileUnreadable(f"it has {len(tracks)} track{'' if len(tracks) == 1 else 's'} of sound, and no number {number + 1}")
        if len(tracks) > 1 and self._terms.track is None:
            self._looked.warnings.append(f"{self._name} has {len(tracks)} tracks of sound: the first is taken; --track 2 takes the next")
        cuts = recording.notes(number, self._terms.pause) if self._terms.pause is not None else []
        if self._terms.pause is not None and not cuts:
            raise FileUnreadable("all of it is silence")
        if len(cuts) > 1:
            for place, (start, end) in enumerate(cuts, 1):
                self._add(tracks[number], number, when.later(start), place, start, end)
        elif recording.has_picture or len(tracks) > 1:
            self._add(tracks[number], number, when)
        else:
            self._take_whole(when)

    def _add(self, track: Track, number: int, when: When, place: int = 0, start: float = 0.0, end: float = math.inf) -> None:
        file = self._file
        stem, part = os.path.splitext(self._name)[0], f":{round(start * 1000)}-{round(end * 1000)}" if place else ""
        note = self._note(f"{file.digest[:32]}:{number}{part}", f"{stem} {place}" if place else stem, track.suffix, when)
        if note.title and place:
            note.title = f"{note.title} {place}"
        piece = Piece(file.path, file.location, file.size, file.mtime_ns, file.digest, file.media_type, note, number, start, end)
        self._looked.pieces.append(piece)

    def _take_whole(self, when: When) -> None:
        if self._file.size > MAX_SIZE:
            raise FileUnreadable(f"larger than {MAX_SIZE // 2**30} GiB")
        stem, suffix = os.path.splitext(self._name)
        self._file.note = self._note(self._file.digest[:32], stem, suffix, when)
        self._looked.pieces.append(self._file)

    def _note(self, key: str, stem: str, suffix: str, when: When) -> Note:
        terms = self._terms
        kind: Kind = "audio" if read_name(self._name)[0] == "audio" else "voice"
        return Note(
            kind=kind, message_id=f"{IMPORTED}:{key}", sender=terms.sender, from_me=terms.from_me, sent_at=when.sent_at,
            sent_at_from=when.known_from, zone=when.zone, title=terms.title, original_path=stem + suffix, mtime_ns=self._file.mtime_ns,
        )  # fmt: skip

    def _when_by_name(self) -> When | None:
        zone = self._terms.zone
        if replay := _REPLAY.search(self._name):
            return _known(time_text(int(replay[1]) * 1000), None)
        moment = moment_of_name(self._name, zone) or _moment_of_screen(self._name, zone)
        return _known(moment, zone.name) or _known(read_name(self._name)[1], None)

    def _when_by_file(self) -> When:
        sent_at = time_text(self._file.mtime_ns // 10**9 * 1000)
        return When(sent_at, "file" if sent_at else None)


def _known(sent_at: str | None, zone: str | None) -> When | None:
    return When(sent_at, "name", zone) if sent_at else None


def _moment_of_screen(name: str, zone: Zone) -> str | None:
    found = _SCREEN.search(name)
    if not found:
        return None
    month, day, year, hour, minute, second = map(int, found.groups())
    try:
        return zone.time_text(datetime(year, month, day, hour, minute, second))
    except ValueError:
        return None


def _opened(piece: Piece) -> Recording:
    handle = Tree(os.path.dirname(piece.location)).open_file(piece.location)
    file = os.fdopen(handle, "rb")
    try:
        return Recording(file, piece.media_type)
    except BaseException:
        file.close()
        raise


@dataclass(frozen=True, slots=True)
class Taken:
    """A piece as it went into the archive: its id, and its length in seconds."""

    piece: Piece
    id: str | None
    duration: float | None


class ImportedSource:
    """The pieces as a source, all of one chat. `known` gives the id under which the very same was imported before, or None: should it have
    come out otherwise then (FFmpeg gets on), it stays as it was."""

    name = IMPORTED
    type = IMPORTED
    plain = False

    def __init__(self, pieces: Iterable[Piece], chat: Chat, known: Callable[[Note], str | None] = lambda note: None) -> None:
        self._pieces = pieces
        self._chat = chat
        self._known = known
        self._sound = b""
        self.root = b"/"
        self.taken: list[Taken] = []

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the pieces once. The sound of one recording is in memory at a time."""
        return Listing(self._go)

    def _go(self, summary: Summary) -> Iterator[AudioFile]:
        for piece in self._pieces:
            note = piece.note
            note.chat, note.chat_id = self._chat.titles[-1], self._chat.chat_id
            try:
                file = self._file(piece)
            except (FileUnreadable, Unplayable) as reason:
                summary.problems.append(Problem(str(piece.path), str(reason)))
                continue
            summary.files += 1
            if file is not None:
                yield file
        summary.complete = True

    def _file(self, piece: Piece) -> AudioFile | None:
        """The piece as a file, for `read` to give; None where it is there already."""
        name = piece.note.original_path or ""
        if piece.track is None:
            inspector = Inspector(name)
            for data in self._read_whole(piece, _READ_AT_ONCE):
                inspector.feed(data)
            size, taken = piece.size, Taken(piece, piece.digest, inspector.facts().duration)
        else:
            with _opened(piece) as recording:
                self._sound = recording.sound(piece.track, piece.start, piece.end)
            size, taken = len(self._sound), Taken(piece, _digest(self._sound), inspect(self._sound, name).duration)
        if (before := self._known(piece.note)) not in (None, taken.id):
            self.taken.append(Taken(piece, before, taken.duration))
            return None
        self.taken.append(taken)
        # The place tells one file from another that is called alike (by name, size and time alone they may not differ), and one chat's from
        # another's.
        place = f"{(piece.note.message_id or '').partition(':')[2]}/{_digest(self._chat.chat_id.encode())[:8]}/{name}"
        return AudioFile(place, name, piece.location, size, piece.mtime_ns, [piece.note])

    def read(self, file: AudioFile, piece: int) -> Iterator[bytes]:
        """See `Source.read`: of the file that the scan gave last."""
        taken = self.taken[-1].piece
        if taken.track is None:
            yield from self._read_whole(taken, piece)
            return
        for start in range(0, len(self._sound), piece):
            yield self._sound[start : start + piece]

    def _read_whole(self, piece: Piece, at_once: int) -> Iterator[bytes]:
        file = AudioFile("", "", piece.location, piece.size, piece.mtime_ns, [])
        return Tree(os.path.dirname(piece.location)).read(file, at_once)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
