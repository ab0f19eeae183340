"""Where an exported chat lies: a zip, or a folder. Which text is the chat's, what its files are called, which of them are audio."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from backup_tool.audio import SNIFF_BYTES, UNKNOWN, VIDEO_SUFFIXES, media_type_of, suffix_of
from backup_tool.models import Note
from backup_tool.names import folded
from backup_tool.sources.base import AudioFile, FileUnreadable, Summary
from backup_tool.sources.chat_export import zips
from backup_tool.sources.chat_export.grammar import begins_like_a_chat
from backup_tool.sources.chat_export.names import (
    is_audio_name,
    is_branded,
    is_note_name,
    is_other_media,
    kind_of,
    plain_title,
    says_nothing,
)
from backup_tool.sources.filenames import Zone, moment_of_name, read_name, time_text
from backup_tool.sources.listing import Lister, Terms
from backup_tool.sources.tree import Folder, Tree, refuse, text_of, why

MOST_TEXT = 64 * 2**20
"""Bytes of a text: ten times what the app's own limit of messages comes to."""
_HEAD = 8192
_LOOKED_INTO = 2**20
_MOST_TEXTS = 100
_MOST_NAMES = 100
_CHAT = "_chat"


class Container(Protocol):
    """A zip or a folder. `names` are the paths of all files in it; files are known by their place among them."""

    path: str
    """Below the source's folder, as the system gives names."""
    names: list[str]
    newest: float | None
    """When the newest file in it was written, in seconds since 1970."""
    whole: bool
    """True where all that is in it is of its chats, and of nothing else."""

    def stem(self) -> str:
        """What the zip or the folder is called, without suffix."""

    def text(self, number: int, most: int) -> bytes:
        """The beginning of a file, at most so many bytes. Raises FileUnreadable."""

    def audio(self, summary: Summary, zone: Zone) -> dict[int, AudioFile]:
        """The audio files, with what their names tell. What is there and not taken is named in the summary."""


def chat_texts(container: Container) -> list[int]:
    """The files that hold a chat's text: in each folder `_chat.txt`, else what is called as WhatsApp calls it, else any that begins so."""
    found: list[int] = []
    by_folder: dict[str, list[int]] = {}
    for number, name in enumerate(container.names):
        if suffix_of(name) == "txt":
            by_folder.setdefault(name.rpartition("/")[0], []).append(number)
    notes = [name for path in container.names if is_note_name(name := path.rpartition("/")[2])] if by_folder else []
    for numbers in by_folder.values():
        found += _texts_in_folder(container, numbers[:_MOST_TEXTS], notes)
    return found


def _texts_in_folder(container: Container, numbers: list[int], notes: list[str]) -> list[int]:
    stems = {number: plain_title(container.names[number].rpartition("/")[2][:-4]) for number in numbers}
    own = [number for number, stem in stems.items() if stem.casefold() == _CHAT]
    if own:
        return own
    branded = [number for number, stem in stems.items() if is_branded(stem)]
    # Somebody may have sent the text of another chat: then it lies beside this one's, which is called as the zip is.
    same = [number for number in branded if folded(stems[number]) == folded(plain_title(container.stem()))]
    for candidates in (same, branded):
        if texts := [number for number in candidates if _may_be_chat(container, number)]:
            return texts
    # Under any other name a log would pass for a chat: it must name files as WhatsApp does.
    return [number for number in numbers if _names_notes(container, number, notes)]


def _may_be_chat(container: Container, number: int) -> bool:
    try:
        return begins_like_a_chat(container.text(number, _HEAD))
    except FileUnreadable:
        return True  # so that it is named as what could not be read


def _names_notes(container: Container, number: int, notes: list[str]) -> bool:
    try:
        if not notes or not begins_like_a_chat(container.text(number, _HEAD)):
            return False
        text = container.text(number, _LOOKED_INTO).decode("utf-8", "replace")
    except FileUnreadable:
        return False
    return any(name in text for name in notes[:_MOST_NAMES])


class FolderContainer:
    """A folder: the files in it, not those in folders below it, which may be other stores."""

    whole = False

    def __init__(self, tree: Tree, folder: Folder) -> None:
        self.path = folder.path
        self._tree = tree
        self._folder = folder
        self.names = [text_of(entry.name) for entry in folder.files]
        self.newest = _newest(folder)

    def stem(self) -> str:
        """See `Container`."""
        return text_of(self.path or os.fsdecode(self._tree.root)).rpartition("/")[2]

    def text(self, number: int, most: int) -> bytes:
        """See `Container`."""
        handle = self._tree.open_file(self._tree.location(self._folder.below(self._folder.files[number].name)))
        try:
            return b"".join(_parts(handle, most))
        except OSError as error:
            raise FileUnreadable(why(error)) from None
        finally:
            os.close(handle)

    def audio(self, summary: Summary, zone: Zone) -> dict[int, AudioFile]:
        """See `Container`."""
        places = {name: number for number, name in enumerate(self.names)}
        lister = Lister(self._tree, summary, zone)
        sounds = replace(self._folder, files=[entry for entry in self._folder.files if not is_other_media(entry.name)])
        found = {}
        for file in lister.files(sounds, "", Terms()):
            name = file.original_path
            file.notes[0].kind = kind_of(name)
            found[places[name]] = file
        return found


def _newest(folder: Folder) -> float | None:
    times = []
    for entry in folder.files:
        try:
            times.append(entry.stat(follow_symlinks=False).st_mtime)
        except OSError:
            continue
    return max(times, default=None)


def _parts(handle: int, most: int) -> Iterator[bytes]:
    while most > 0 and (part := os.read(handle, min(most, 2**20))):
        most -= len(part)
        yield part


class ZipContainer:
    """A zip. Making one raises FileUnreadable where it cannot be read."""

    whole = True

    def __init__(self, tree: Tree, path: str) -> None:
        self.path = path
        self._tree = tree
        self.directory = zips.list_zip(tree, path)
        self.members = [member for member in self.directory.members if not _is_clutter(member.name)]
        self.members.sort(key=lambda member: (member.name.rpartition("/")[0], member.name, member.twin))
        self.names = [member.name for member in self.members]
        times = [member.mtime_ns for member in self.members] + [self.directory.state[1]]
        self.newest: float | None = max(times) / 1e9
        self.places: dict[str, zips.Member] = {}

    def stem(self) -> str:
        """See `Container`."""
        name = text_of(self.path).rpartition("/")[2]
        return name[:-4] if suffix_of(name) == "zip" else name

    def text(self, number: int, most: int) -> bytes:
        """See `Container`."""
        return next(zips.read_member(self._tree, self.path, self.members[number], self.directory.state, most), b"")

    def audio(self, summary: Summary, zone: Zone) -> dict[int, AudioFile]:
        """See `Container`."""
        found = {}
        for number, member in enumerate(self.members):
            name = member.name.rpartition("/")[2]
            promised = is_audio_name(name) or (read_name(name)[0] and suffix_of(name) in VIDEO_SUFFIXES)
            if not (promised or says_nothing(name)):
                continue
            path = self._place(member)
            try:
                if not promised and not self._sounds(member):
                    continue
                if reason := zips.refusal(member):
                    raise FileUnreadable(reason)
            except FileUnreadable as error:
                refuse(summary, path, str(error))
                continue
            summary.files += 1
            note = _bare_note(name, member.mtime_ns, zone)
            note.original_path = member.name
            found[number] = AudioFile(path, member.name, self._tree.location(self.path), member.size, member.mtime_ns, [note])
        return found

    def _sounds(self, member: zips.Member) -> bool:
        head = next(zips.read_member(self._tree, self.path, member, self.directory.state, SNIFF_BYTES), b"")
        return media_type_of(head) != UNKNOWN

    def _place(self, member: zips.Member) -> str:
        path = f"{text_of(self.path)}/{member.name}"
        while path in self.places:
            path += "#"
        self.places[path] = member
        return path

    def inner_zips(self) -> list[str]:
        """Zips inside the zip."""
        return [name for name in self.names if suffix_of(name) == "zip"]


def _is_clutter(name: str) -> bool:
    last = name.rpartition("/")[2]
    return name.casefold().startswith("__macosx/") or last.startswith("._") or last.casefold() in (".ds_store", "thumbs.db", "desktop.ini")


def _bare_note(name: str, mtime_ns: int, zone: Zone) -> Note:
    """What a file's name tells of it, or else its time."""
    note = Note(kind=kind_of(name), sent_at_from="name", mtime_ns=mtime_ns)
    note.sent_at = moment_of_name(name, zone)
    if note.sent_at:
        note.zone = zone.name
        return note
    note.sent_at = read_name(name)[1]
    if not note.sent_at:
        note.sent_at = time_text(mtime_ns // 1_000_000_000 * 1000)
        note.sent_at_from = "file" if note.sent_at else None
    return note


@contextmanager
def opened(tree: Tree, path: str, summary: Summary) -> Iterator[Container | None]:
    """The zip, or the folder, at a path of the tree; None where it cannot be read, which is named in the summary."""
    if not is_folder(tree, path):
        try:
            container = ZipContainer(tree, path)
        except FileUnreadable as error:
            refuse(summary, path, str(error))
            yield None
            return
        if not container.names and not container.directory.problem:
            refuse(summary, path, "holds no file: copy it again, or export the chat again")
            yield None
            return
        if container.directory.problem:
            refuse(summary, path, container.directory.problem)
        yield container
        return
    for folder in tree.walk(path, summary):
        yield FolderContainer(tree, folder)
        return
    yield None


def _mode(tree: Tree, path: str) -> int:
    try:
        return os.lstat(tree.location(path)).st_mode
    except OSError:
        return 0


def is_folder(tree: Tree, path: str) -> bool:
    """True where a store is a folder, whose files are ordinary ones."""
    return stat.S_ISDIR(_mode(tree, path))
