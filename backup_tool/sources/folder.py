"""A folder of audio files, with whatever folders are below it; folders that recorder apps write to are known by their names.

Where phones keep recordings, below their storage: `Recordings` (any app's, since Android 12); `Recordings/Voice Recorder`,
`Voice Recorder`, `Sounds/Voice Recorder` (Samsung); `MIUI/sound_recorder` (Xiaomi); `Sounds`, `record` (Huawei, Honor); `Music/Recordings`
with `Standard Recordings` in it (OnePlus, Oppo, Realme); `Recorder`, `SoundRecorder`, `VoiceRecorder` (others). Recorded calls lie in
folders of their own. They hold the voices of people who may not know of it: they are taken only where somebody names their folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from backup_tool.audio import AUDIO_SUFFIXES, VIDEO_SUFFIXES, suffix_of
from backup_tool.models import Chat
from backup_tool.sources.base import AudioFile, KnownId, Scan, Summary
from backup_tool.sources.filenames import kind_of_name, zone_named
from backup_tool.sources.listing import Lister, Listing, Terms
from backup_tool.sources.tree import Folder, Tree, text_of

_PLAIN, _VOICE, _VIDEO = Terms(), Terms(kind="voice"), Terms(AUDIO_SUFFIXES | VIDEO_SUFFIXES, kind="video")
RECORDINGS = Chat(chat_id="recorder:recordings", titles=["Recordings"])
CALLS = Chat(chat_id="recorder:calls", titles=["Call recordings"])
_RECORDED, _CALLED = Terms(chat=RECORDINGS), Terms(chat=CALLS)
# What systems keep at the top of a disk, closed to everyone.
CLOSED = frozenset(["lost+found", "system volume information", "$recycle.bin", ".spotlight-v100", ".fseventsd", ".trashes"])
_RECORDER = re.compile(r"/(?:recordings|(?:standard recordings|(?:voice|sound)[ _]?recorder))(?:/|$)")
_CALL = re.compile(r"/(?:(?:recordings|recorder|record)/call|(?:call[ _]?recordings?|callrecord|call_rec|phonerecord))(?:/|$)")
# Names that mean a recorder's folder only right below a phone's storage, which is known by what always lies there.
_AT_TOP = {"sounds": False, "record": False, "recorder": False, "call": True}
_STORAGE = frozenset(["android", "dcim"])


def terms_of(path: str) -> Terms:
    """What counts in a folder: audio by suffix, or by content where a name has no suffix; its kind where a folder above says it."""
    kind = kind_of_name(path + "/")
    return _VOICE if kind == "voice" else _VIDEO if kind == "video" else _PLAIN


class Recorders:
    """Which folders of one walk a recorder app writes to, and which hold calls. Ask it at each folder, before those below.

    `known` are folders that were found to be a recorder's.
    """

    def __init__(self, tree: Tree, known: Iterable[str] = ()) -> None:
        above, _, name = os.fsdecode(tree.root).rstrip("/").rpartition("/")
        self._root = f"/{above.rpartition('/')[2]}/{name}".lower()
        self._at_top: dict[str, bool] = dict.fromkeys(filter(None, known), False)
        self.named_calls = bool(_CALL.search(self._root))
        """True where the root itself is a folder of recorded calls: then somebody named it."""

    def see(self, folder: Folder) -> None:
        """Take note of the folders below a phone's storage."""
        lower = {name.lower() for name in folder.folders}
        if lower & _STORAGE:
            self._at_top |= {folder.below(name): _AT_TOP[name.lower()] for name in folder.folders if name.lower() in _AT_TOP}

    def holds_calls(self, path: str) -> bool:
        """True for a folder of recorded calls, or one below it."""
        return bool(_CALL.search(f"{self._root}/{path.lower()}")) or self._top(path) is True

    def is_recorder(self, path: str) -> bool:
        """True for a folder of recordings of whatever kind, or one below it."""
        return bool(_RECORDER.search(f"{self._root}/{path.lower()}")) or self._top(path) is not None or self.holds_calls(path)

    def _top(self, path: str) -> bool | None:
        if not self._at_top:
            return None
        parts = path.split("/")
        return next((kind for n in range(len(parts)) if (kind := self._at_top.get("/".join(parts[: n + 1]))) is not None), None)


def _is_a_page(folder: Folder) -> bool:
    """True for an export of Telegram Desktop that is made for a browser: its recordings are there, nothing that tells whose they are."""
    return "voice_messages" in folder.folders and any(entry.name == "messages.html" for entry in folder.files)


class RecorderRecogniser:
    """Finds the folders of recorder apps, so that they are taken beside messengers' stores. One for each walk."""

    type = "folder"
    description = "recordings of a recorder app"

    def __init__(self) -> None:
        self.calls: list[str] = []
        """Folders of recorded calls that were met and left alone."""
        self._recorders: Recorders | None = None

    def look(self, tree: Tree, folder: Folder) -> list[str]:
        """See `Recogniser.look`. A folder by its name, and because audio lies right in it."""
        recorders = self._recorders = self._recorders or Recorders(tree)
        recorders.see(folder)
        if recorders.holds_calls(folder.path) and not recorders.named_calls:
            if not self.calls or not folder.path.startswith(self.calls[-1] + "/"):
                self.calls.append(folder.path)
            return []
        if not recorders.is_recorder(folder.path):
            return []
        if not any(suffix_of(entry.name) in AUDIO_SUFFIXES for entry in folder.files):
            return []
        folder.files, folder.folders = [], []
        return [folder.path]


class FolderSource:
    """Made by `sources.open_source`: everything below the tree's root, or only below some `places` of it.

    Times of day in names are read in `timezone` (an IANA name; this machine's zone without one).
    """

    type = "folder"
    plain = True

    def __init__(self, name: str, tree: Tree, timezone: str | None = None, places: list[str] | None = None) -> None:
        self.name = name
        self.root = tree.root
        self._tree = tree
        self._zone = zone_named(timezone)
        self._places = [""] if places is None else places
        self.read = tree.read

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the folder once."""
        return Listing(self._files)

    def _files(self, summary: Summary) -> Iterator[AudioFile]:
        lister, recorders = Lister(self._tree, summary, self._zone), Recorders(self._tree, self._places)
        chats: dict[str, Chat] = {}
        for place in self._places:
            for folder in self._tree.walk(place, summary):
                recorders.see(folder)
                if _is_a_page(folder):
                    name = text_of(folder.path) or "this folder"
                    summary.warnings.append(
                        f"{name} is a Telegram export as HTML: to know chats and senders, export as machine-readable JSON"
                    )
                self._leave_out(folder, recorders, summary)
                terms = self._terms(folder.path, recorders)
                if terms.chat is not None:
                    chats[terms.chat.chat_id] = terms.chat
                yield from lister.files(folder, text_of(folder.path) + "/" if folder.path else "", terms)
        summary.chats = list(chats.values())
        lister.finish()

    def _terms(self, path: str, recorders: Recorders) -> Terms:
        terms = terms_of(path)
        if terms is not _PLAIN or not recorders.is_recorder(path):
            return terms
        return _CALLED if recorders.holds_calls(path) else _RECORDED

    def _leave_out(self, folder: Folder, recorders: Recorders, summary: Summary) -> None:
        """Keep the walk out of what holds no recordings of anyone, and of recorded calls that nobody asked for."""
        kept = []
        for name in folder.folders:
            path = folder.below(name)
            if name.lower() in CLOSED:
                continue
            if recorders.named_calls or not recorders.holds_calls(path):
                kept.append(name)
                continue
            leave_out_calls(self._tree, path, summary)
        folder.folders = kept


def leave_out_calls(tree: Tree, path: str, summary: Summary) -> None:
    """Say how many recorded calls a folder holds that nobody asked for."""
    count = sum(suffix_of(entry.name) in AUDIO_SUFFIXES for inner in tree.walk(path, Summary()) for entry in inner.files)
    if count:
        told = "1 recorded call" if count == 1 else f"{count} recorded calls"
        summary.warnings.append(f"{told} in {text_of(path)} left out: to archive them too, name that folder as a source of its own")
    summary.unreadable_folders.append(text_of(path))  # what is on record of them from before stays as it is
