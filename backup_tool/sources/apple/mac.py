"""WhatsApp for Mac: its group container, or a copy of it; and the same folder taken out of an iPhone by other tools.

~/Library/Group Containers/group.net.whatsapp.WhatsApp.shared/
    ChatStorage.sqlite, ContactsV2.sqlite, LID.sqlite     not encrypted, each with its -wal while the app runs
    Message/Media/<chat>/<a>/<b>/<uuid>.opus
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from backup_tool.audio import suffix_of
from backup_tool.sources.apple.backup import below, is_absent
from backup_tool.sources.apple.chatstorage import CHAT_STORAGE, PURE_AUDIO, key_of_path
from backup_tool.sources.apple.whatsapp import Container, join, kind_of_file, read_messages
from backup_tool.sources.base import AudioFile, FileUnreadable, KnownId, Scan, Summary, Unlock
from backup_tool.sources.listing import Lister, Listing, Terms
from backup_tool.sources.sqlite import copied
from backup_tool.sources.tree import Folder, Tree, text_of

MESSAGE, MEDIA = "Message", "Message/Media"
_CHAT = re.compile(r"[^/@]+@(s\.whatsapp\.net|g\.us|lid|broadcast|newsletter)")
_IN_A_CHAT = re.compile(r"[0-9a-f]")
_PERMISSION = (
    "macOS does not let this program in: in System Settings › Privacy & Security › Full Disk Access add the program that runs backup (the "
    "terminal), or say yes where it asks about data from other apps"
)


class MacSource:
    """`stores` are the containers below the tree's root. Made by `sources.open_source`."""

    type = "whatsapp-mac"
    plain = True

    def __init__(self, name: str, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock) -> None:
        self.name = name
        self.root = tree.root
        self._tree = tree
        self._stores = stores
        self._workdir = workdir
        self.read = tree.read

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the containers once, the one whose messages were last written first."""
        return Listing(self._go)

    def _go(self, summary: Summary) -> Iterator[AudioFile]:
        containers = [self._container(store, summary) for store in sorted(self._stores, key=self._written, reverse=True)]
        summary.database = next((container.database for container in containers if container.database), None)
        summary.files = 0  # of those listed, each path counts once
        for file in join(containers, self.read, summary):
            summary.files += 1
            yield file
        summary.missing = [note for note in summary.missing if not self._is_closed(note.original_path or "", summary)]
        summary.complete = summary.files > 0 and "" not in summary.unreadable_folders

    def _is_closed(self, path: str, summary: Summary) -> bool:
        """True for a file that may be there, in a folder that cannot be looked into: the folder is what is told of."""
        places = [below(text_of(store), path) for store in self._stores]
        return any(place.startswith(folder + "/") for place in places for folder in summary.unreadable_folders)

    def _written(self, store: str) -> tuple[int, str]:
        times = [0]
        for beside in ("", "-wal"):
            try:
                times.append(os.lstat(self._tree.location(below(store, CHAT_STORAGE + beside))).st_mtime_ns)
            except OSError:
                continue
        return max(times), store

    def _container(self, store: str, summary: Summary) -> Container:
        container = Container()
        if is_absent(self._tree, below(store, CHAT_STORAGE)):
            name = text_of(store) or "the folder"
            summary.warnings.append(f"{name} has no {CHAT_STORAGE}: notes have no sender, and times are those of their files")
        read_messages(container, partial(self._database, store), lambda name: below(text_of(store), name), summary)
        container.files = self._files(store, container, summary)
        return container

    def _database(self, store: str, name: str) -> AbstractContextManager[Path | None]:
        return _copy_if_there(self._tree, below(store, name), self._workdir)

    def _files(self, store: str, container: Container, summary: Summary) -> list[AudioFile]:
        """What is audio by suffix, what is audio by content where there is none, and whatever else a message calls its audio."""
        wanted = {row.path for row in container.rows if row.path and suffix_of(row.path) not in PURE_AUDIO}
        terms = Terms(PURE_AUDIO | {suffix_of(path) for path in wanted if suffix_of(path)})
        lister = Lister(self._tree, summary)
        files = []
        for folder, original in self._media(store, summary):
            for file in lister.files(folder, original, terms):
                suffix = suffix_of(file.original_path)
                if not suffix or suffix in PURE_AUDIO or key_of_path(file.original_path) in wanted:
                    file.notes[0].kind = kind_of_file(file.original_path)
                    files.append(file)
        return files

    def _media(self, store: str, summary: Summary) -> Iterator[tuple[Folder, str]]:
        """Every folder of recordings, and its path below the container, whichever of the container's folders the store is."""
        top = next(self._tree.walk(store, Summary()), None)
        taken = chats_in(self._tree, top) if top else None
        if taken is None:
            taken = "", [] if is_absent(self._tree, below(store, MEDIA)) else [MEDIA]
        above, parts = taken
        cut = len(below(store, ""))
        for part in parts:
            for folder in self._tree.walk(below(store, part) if part else store, summary):
                yield folder, above + text_of(folder.path[cut:]) + "/" if folder.path[cut:] else above


def chats_in(tree: Tree, folder: Folder) -> tuple[str, list[str]] | None:
    """Where a folder is WhatsApp's container or one inside it (`Message`, `Message/Media`, a chat's): the path of the folder below the
    container, with a slash at its end unless empty, and what in it holds chats (empty: the folder itself). None where it is none of them.
    """
    if MESSAGE in folder.folders and _holds_chats(tree, folder.below(MEDIA)):
        return "", [MEDIA]
    if "Media" in folder.folders and _holds_chats(tree, folder.below("Media")):
        return f"{MESSAGE}/", ["Media"]
    if chats := [name for name in folder.folders if _CHAT.fullmatch(name)]:
        return f"{MEDIA}/", chats
    name = os.fsdecode(tree.root).rpartition("/")[2]
    if not folder.path and _CHAT.fullmatch(name) and any(map(_IN_A_CHAT.fullmatch, folder.folders)):
        return f"{MEDIA}/{text_of(name)}/", [""]
    return None


def _holds_chats(tree: Tree, path: str) -> bool:
    folder = next(tree.walk(path, Summary()), None)
    return folder is not None and any(map(_CHAT.fullmatch, folder.folders))


@contextmanager
def _copy_if_there(tree: Tree, path: str, workdir: Path) -> Iterator[Path | None]:
    def opener(beside: str) -> int | None:
        return None if beside and is_absent(tree, path + beside) else tree.open_file(tree.location(path + beside))

    if is_absent(tree, path):
        yield None
        return
    try:
        with copied(opener, workdir) as copy:
            yield copy
    except FileUnreadable as error:
        if str(error) in (os.strerror(errno.EPERM).lower(), os.strerror(errno.EACCES).lower()):
            raise FileUnreadable(f"{error}: {_PERMISSION}") from None
        raise
