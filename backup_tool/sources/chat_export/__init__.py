"""Chats that people exported from WhatsApp ("Export chat"): a zip, or the folder that it was unpacked to, of an iPhone or an Android phone.

Each export is a text and the files that it names. Senders and times are the text's; the words of its language do not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from backup_tool.audio import suffix_of
from backup_tool.models import Problem
from backup_tool.names import shown
from backup_tool.sources.base import AudioFile, FileUnreadable, KnownId, Scan, Summary, Unlock
from backup_tool.sources.chat_export import zips
from backup_tool.sources.chat_export.containers import Container, FolderContainer, ZipContainer, chat_texts, is_folder, opened
from backup_tool.sources.chat_export.export import (
    Export,
    Notes,
    notes_of,
    read_export,
    settle_together,
    with_path,
    without_doubles,
)
from backup_tool.sources.chat_export.names import is_audio_name, is_branded, is_note_name, stable_name
from backup_tool.sources.filenames import Zone, zone_named
from backup_tool.sources.listing import Listing
from backup_tool.sources.tree import Folder, Tree, refuse, text_of

__all__ = ["ChatExportRecogniser", "ChatExportSource", "describe"]


class ChatExportRecogniser:
    """Knows an exported chat by a text in which messages begin, beside files or in a zip."""

    type = "chat-export"

    def look(self, tree: Tree, folder: Folder) -> list[str]:
        """See `Recogniser`. A folder's audio files are taken with its text; what lies in folders below it is not."""
        found = [
            folder.below(entry.name)
            for entry in folder.files
            if suffix_of(entry.name) == "zip" and _is_export(tree, folder.below(entry.name))
        ]
        taken = {path.rpartition("/")[2] for path in found}
        texts = chat_texts(FolderContainer(tree, folder)) if any(suffix_of(entry.name) == "txt" for entry in folder.files) else []
        if texts:
            found.insert(0, folder.path)
            taken |= {folder.files[number].name for number in texts}
            # Just what the source will take, and name where it cannot: other kinds would take the rest a second time.
            sounds = FolderContainer(tree, folder).audio(Summary(), zone_named(None))
            taken |= {entry.name for number, entry in enumerate(folder.files) if number in sounds or is_audio_name(entry.name)}
        folder.files = [entry for entry in folder.files if entry.name not in taken]
        return found


def _is_export(tree: Tree, path: str) -> bool:
    try:
        container = ZipContainer(tree, path)
        if chat_texts(container) or any(is_branded(name) for name in container.inner_zips()):
            return True
    except FileUnreadable:
        return is_branded(path.rpartition("/")[2])  # so that it is named as what could not be read
    if not is_branded(container.stem()):
        return False
    # One that is cut short may have lost its text, or everything.
    damaged = container.directory.problem is not None or not container.names
    return damaged or any(is_note_name(name.rpartition("/")[2]) for name in container.names)


class ChatExportSource:
    """Made by `sources.open_source`. `stores` are zips and folders below the tree's root."""

    type = "chat-export"

    def __init__(self, name: str, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock, timezone: str | None) -> None:
        self.name = name
        self.root = tree.root
        self.plain = all(is_folder(tree, store) for store in stores)
        self._tree = tree
        self._stores = sorted(stores)
        self._zone = zone_named(timezone)
        self._zips: dict[str, tuple[ZipContainer, zips.Member]] = {}

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through all exports once: first all texts, since one may tell how another is to be read."""
        return Listing(self._files)

    def read(self, file: AudioFile, piece: int) -> Iterator[bytes]:
        """See `Source.read`."""
        if file.path not in self._zips:
            return self._tree.read(file, piece)
        container, member = self._zips[file.path]
        return zips.read_member(self._tree, container.path, member, container.directory.state, piece)

    def _files(self, summary: Summary) -> Iterator[AudioFile]:
        self._zips.clear()
        stores = [store for path in self._stores if (store := _Store.read(self._tree, path, summary, self._zone))]
        for store in stores:
            self._zips |= {
                path: (store.container, member) for path, member in store.places.items() if isinstance(store.container, ZipContainer)
            }
        settle_together([export for store in stores for export in store.exports])
        every = []
        for store in stores:
            notes = [notes_of(export, self._zone) for export in store.exports]
            store.give(notes)
            every += notes
            summary.orphans += store.orphans if notes else 0
        _sum_up(summary, every)
        for store in stores:
            yield from store.files()


def _sum_up(summary: Summary, every: list[Notes]) -> None:
    summary.missing, summary.omitted = without_doubles(every)
    chats = {notes.export.chat_id: notes.chat() for notes in every if notes.found or notes.missing or notes.omitted}
    summary.chats = list(chats.values())
    summary.warnings += list(dict.fromkeys(text for notes in every for text in notes.warnings))
    texts = [notes.export.path for notes in every]
    summary.database = f"{texts[0]} and {len(texts) - 1} more" if len(texts) > 1 else texts[0] if texts else None
    summary.problems = list(dict.fromkeys(summary.problems))
    summary.complete = summary.files > 0 and "" not in summary.unreadable_folders


class _Store:
    """One zip or folder that was read."""

    def __init__(self, container: Container, audio: dict[int, AudioFile]) -> None:
        self.container = container
        self.audio = audio
        self.exports: list[Export] = []
        self.orphans = 0
        self.places: dict[str, zips.Member] = container.places if isinstance(container, ZipContainer) else {}

    @classmethod
    def read(cls, tree: Tree, path: str, summary: Summary, zone: Zone) -> _Store | None:
        """Read what is at a path; None where nothing can be. What cannot is named in the summary."""
        with opened(tree, path, summary) as container:
            if container is None:
                return None
            store = cls(container, container.audio(summary, zone))
            store._read_texts(summary)
            return store

    def _read_texts(self, summary: Summary) -> None:
        container = self.container
        above = text_of(container.path) + "/" if container.path else ""
        if isinstance(container, ZipContainer):
            _tell_of_inner_zips(container, above, summary)
        texts = chat_texts(container)
        own = _shared_out(container.names, [container.names[number] for number in texts])
        for number, files in zip(texts, own, strict=True):
            try:
                self.exports.append(read_export(container, number, files, self.audio, above, alone=len(texts) == 1))
            except FileUnreadable as error:
                summary.problems.append(Problem(above + container.names[number], f"the text of a chat: {error}"))
        if not texts:
            summary.warnings.append(f"{shown(above.rstrip('/') or '.')} holds no text of a chat: who sent its notes is not known")

    def give(self, every: list[Notes]) -> None:
        """Give each file the notes that texts make of it; those that no text names stay as they are, in the chat that they must be of."""
        container = self.container
        own_folder = {number: notes.export for notes in every for number in notes.export.own}
        ios = all(notes.export.text.style.shape == "ios" for notes in every) and bool(every)
        short = {number: self._short_name(number, own_folder, numbered=ios) for number in self.audio}
        equal = Counter((short[number], file.size) for number, file in self.audio.items())
        only = every[0] if len(every) == 1 and (container.whole or f"/{every[0].export.path}".endswith("/_chat.txt")) else None
        for number, file in self.audio.items():
            # Two of one second and one size: only the number tells them apart before they are read.
            name = short[number] if equal[short[number], file.size] == 1 else container.names[number]
            file.original_path = file.notes[0].original_path = name
            found = [note for notes in every for note in notes.found.get(number, ())]
            if found:
                with_path(file, found, name)
                continue
            self.orphans += 1
            if only:
                file.notes[0].chat, file.notes[0].chat_id = only.export.title, only.export.chat_id

    def _short_name(self, number: int, exports: dict[int, Export], *, numbered: bool) -> str:
        """A file's path below its text's folder, without the number that another export of the chat would give it."""
        name = self.container.names[number]
        above = exports[number].folder if number in exports else ""
        folder, _, last = name[len(above) :].lstrip("/").rpartition("/")
        return "/".join(filter(None, (folder, stable_name(last, numbered=numbered))))

    def files(self) -> Iterator[AudioFile]:
        """The files, sorted by their path."""
        return (self.audio[number] for number in sorted(self.audio, key=lambda number: self.container.names[number]))


def _shared_out(names: list[str], texts: list[str]) -> list[list[int]]:
    """For each text the files that belong to it: of its own folder and those below, as far as no other text lies nearer. Nearest first."""
    folders = [text.rpartition("/")[0] for text in texts]
    nearest: dict[str, str | None] = {}
    own: dict[str, list[int]] = {folder: [] for folder in folders}
    for number, name in enumerate(names):
        folder = name.rpartition("/")[0]
        if folder not in nearest:
            nearest[folder] = next((one for one in _with_all_above(folder) if one in own), None)
        home = nearest[folder]
        if home is not None:
            own[home].append(number)
    return [sorted(own[folder], key=lambda number: names[number].count("/")) for folder in folders]


def _with_all_above(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""


def _tell_of_inner_zips(container: ZipContainer, above: str, summary: Summary) -> None:
    for name in container.inner_zips():
        if is_branded(name):
            refuse(summary, above + name, "an exported chat inside the zip: unpack the outer zip, and name the folder instead")
        else:
            summary.warnings.append(f"{shown(above + name)} is a zip inside the zip, and was not looked into")


def describe(tree: Tree, store: str) -> str:
    """An export in a person's words: its chat, the phone, the days from first to last, and how dates are read, by which evidence."""
    read = _Store.read(tree, store, Summary(), zone_named(None))
    if read is None:
        return "an exported chat that cannot be read"
    settle_together(read.exports)
    return "; ".join(export.described() for export in read.exports) or "an exported chat without its text"
