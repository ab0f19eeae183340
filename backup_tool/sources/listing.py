"""Turns the files of an open folder into audio files with their notes, as far as names and the file system know them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backup_tool.audio import AUDIO_SUFFIXES, SNIFF_BYTES, UNKNOWN, media_type_of, suffix_of
from backup_tool.models import Chat, Kind, Note
from backup_tool.names import shown
from backup_tool.sources.base import AudioFile, FileUnreadable, Summary
from backup_tool.sources.filenames import Zone, moment_of_name, read_name, time_text
from backup_tool.sources.tree import MAX_SIZE, Folder, Tree, refuse, text_of, why

_CLUTTER = frozenset([".nomedia", "thumbs.db", "desktop.ini", ".ds_store", ".directory"])


_LONGEST_ENDING = 8


@dataclass(frozen=True, slots=True)
class Terms:
    """What counts as a note in a folder: file names that end in `suffixes`, and, where `look` is set, others whose content is audio.

    With `look`, a name with a suffix of its own is looked into only where `look` is "all"; "bare" means names without one.
    """

    suffixes: frozenset[str] = AUDIO_SUFFIXES
    look: str = "bare"
    kind: Kind | None = None
    """The kind of all of them; None leaves it to each name."""
    chat: Chat | None = None
    """The chat of all of them, under its last title."""


class Lister:
    """Lists audio files of one tree into one summary. With a `zone`, times of day in names are believed too."""

    def __init__(self, tree: Tree, summary: Summary, zone: Zone | None = None) -> None:
        self._tree = tree
        self._summary = summary
        self._zone = zone
        self._not_audio = 0
        self._first_not_audio = ""

    def files(self, folder: Folder, original: str, terms: Terms) -> Iterator[AudioFile]:
        """The audio files of a folder; `original` is the folder's path below the store's root, with a slash at its end unless empty."""
        above = text_of(folder.path) + "/" if folder.path else ""
        place = self._tree.location(folder.path) + b"/"
        self._name_what_is_no_file(folder, terms)
        for entry in folder.files:
            name = entry.name
            named, sent_at = read_name(name)
            if (name[0] == "." or suffix_of(name) not in terms.suffixes) and not self._is_audio(folder, name, named, terms):
                continue
            found = self._stat(folder, entry)
            if found is None:
                continue
            note = self._note(name, named, sent_at, found.st_mtime_ns, terms)
            text = text_of(name)
            note.original_path = original + text
            path = note.original_path if above == original else above + text  # shared: a large scan holds many
            self._summary.files += 1
            yield AudioFile(path, note.original_path, place + os.fsencode(name), found.st_size, found.st_mtime_ns, [note])

    def _note(self, name: str, named: Kind | None, day: str | None, mtime: int, terms: Terms) -> Note:
        """What the name and the file's own time say."""
        note = Note(kind=terms.kind or named or "audio", sent_at=day, sent_at_from="name", mtime_ns=mtime)
        if terms.chat is not None:
            note.chat, note.chat_id = terms.chat.titles[-1], terms.chat.chat_id
        if self._zone is not None and (moment := moment_of_name(name, self._zone)):
            note.sent_at, note.zone = moment, self._zone.name
        if note.sent_at is None:
            note.sent_at = time_text(mtime // 1_000_000_000 * 1000)
            note.sent_at_from = "file" if note.sent_at else None
        return note

    def take(self, folder: Folder, entry: os.DirEntry[str], original: str, notes: list[Note]) -> AudioFile | None:
        """A file that a message names, whatever its name ends in; None where it cannot be taken, which is then named in the summary.

        `original` is its path below the store's root. The notes get path and time of the file; those whose message has no moment, the one
        that its name or the file system tells.
        """
        found = self._stat(folder, entry)
        if found is None:
            return None
        for note in notes:
            note.original_path, note.mtime_ns = original, found.st_mtime_ns
            if note.sent_at is None:
                bare = self._note(entry.name, *read_name(entry.name), found.st_mtime_ns, Terms())
                note.sent_at, note.sent_at_from, note.zone = bare.sent_at, bare.sent_at_from, bare.zone
        self._summary.files += 1
        path = folder.below(entry.name)
        return AudioFile(text_of(path), original, self._tree.location(path), found.st_size, found.st_mtime_ns, notes)

    def _stat(self, folder: Folder, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Size and time of a file; None where it cannot be told, or is not believed. That is named in the summary."""
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None  # deleted since the folder was listed: as if it had been a moment before
        except OSError as error:
            refuse(self._summary, folder.below(entry.name), why(error))
            return None
        if found.st_size > MAX_SIZE:
            refuse(self._summary, folder.below(entry.name), f"larger than {MAX_SIZE // 2**30} GiB")
            return None
        return found

    def _is_audio(self, folder: Folder, name: str, named: Kind | None, terms: Terms) -> bool:
        if name.startswith("._") or name.lower() in _CLUTTER:
            return False  # "._name" holds what a Mac keeps beside a file on foreign disks: never the sound
        suffix = suffix_of(name)
        if suffix in terms.suffixes or named:
            return True
        if not terms.look or (terms.look == "bare" and _is_ending(suffix)):
            return False
        path = folder.below(name)
        try:
            if media_type_of(self._tree.head(path, SNIFF_BYTES)) != UNKNOWN:
                return True
        except FileUnreadable as error:
            refuse(self._summary, path, str(error))
            return False
        self._not_audio += 1
        self._first_not_audio = self._first_not_audio or text_of(path)
        return False

    def _name_what_is_no_file(self, folder: Folder, terms: Terms) -> None:
        """Links may hide notes, and pipes may be named like one: never followed, never opened, never passed over in silence."""
        for name in folder.links:
            refuse(self._summary, folder.below(name), "a symbolic link, which is not followed")
        for name in folder.specials:
            if suffix_of(name) in terms.suffixes or read_name(name)[0]:
                refuse(self._summary, folder.below(name), "not an ordinary file")

    def finish(self) -> None:
        """When all folders were listed: `complete`, and a word on what was left out."""
        self._summary.problems = list(dict.fromkeys(self._summary.problems))
        self._summary.complete = self._summary.files > 0 and "" not in self._summary.unreadable_folders
        if self._not_audio:
            files = "1 file" if self._not_audio == 1 else f"{self._not_audio} files"
            self._summary.warnings.append(
                f"{files} among the notes left out: not audio by name or content, the first is {shown(self._first_not_audio)}"
            )


def _is_ending(suffix: str) -> bool:
    """True for what says a file's kind; what follows the dot in "Memo 12.03.2024" or "Call 1.5 Anna" does not."""
    return suffix.isascii() and suffix.isalnum() and len(suffix) <= _LONGEST_ENDING and not suffix.isdigit()


class Listing:
    """A scan: iterate it, then its summary is whole."""

    def __init__(self, go: Callable[[Summary], Iterator[AudioFile]]) -> None:
        self.summary = Summary()
        self._go = go

    def __iter__(self) -> Iterator[AudioFile]:
        return self._go(self.summary)
