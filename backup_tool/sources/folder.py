"""A folder of audio files, with whatever folders are below it."""

from __future__ import annotations

from collections.abc import Iterator

from backup_tool.audio import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from backup_tool.sources.base import AudioFile, KnownId, Scan, Summary
from backup_tool.sources.filenames import kind_of_name
from backup_tool.sources.listing import Lister, Listing, Terms
from backup_tool.sources.tree import Tree, text_of

_PLAIN, _VOICE, _VIDEO = Terms(), Terms(kind="voice"), Terms(AUDIO_SUFFIXES | VIDEO_SUFFIXES, kind="video")
# What systems keep at the top of a disk, closed to everyone.
CLOSED = frozenset(["lost+found", "system volume information", "$recycle.bin", ".spotlight-v100", ".fseventsd", ".trashes"])


def terms_of(path: str) -> Terms:
    """What counts in a folder: audio by suffix, or by content where a name has no suffix; its kind where a folder above says it."""
    kind = kind_of_name(path + "/")
    return _VOICE if kind == "voice" else _VIDEO if kind == "video" else _PLAIN


class FolderSource:
    """Made by `sources.open_source`."""

    type = "folder"
    plain = True

    def __init__(self, name: str, tree: Tree) -> None:
        self.name = name
        self.root = tree.root
        self._tree = tree
        self.read = tree.read

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the folder once."""
        return Listing(self._files)

    def _files(self, summary: Summary) -> Iterator[AudioFile]:
        lister = Lister(self._tree, summary)
        for folder in self._tree.walk("", summary):
            folder.folders = [name for name in folder.folders if name.lower() not in CLOSED]
            yield from lister.files(folder, text_of(folder.path) + "/" if folder.path else "", terms_of(folder.path))
        lister.finish()
