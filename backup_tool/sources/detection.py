"""What is at a path: goes through the folders once for all kinds of stores, and asks each kind where its stores begin.

An Android phone has a finder of its own (a store there is made of several folders). What one kind takes is kept from all others, so that
no file is listed twice. Whatever nobody takes is looked at as recordings: see `backup_tool.sources.folder`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from backup_tool.audio import AUDIO_SUFFIXES, suffix_of
from backup_tool.errors import UsageError
from backup_tool.names import shown
from backup_tool.sources.base import Recogniser, Source, SourceAbsent, SourceSpec, Summary, Unlock
from backup_tool.sources.folder import FolderSource, RecorderRecogniser
from backup_tool.sources.places import cure
from backup_tool.sources.tree import Folder, Tree
from backup_tool.sources.whatsapp_android import AndroidSource, Found, find_stores
from backup_tool.sources.whatsapp_android import describe as describe_android
from backup_tool.sources.whatsapp_android.stores import leave_out

ANDROID = AndroidSource.type
RECORDINGS = FolderSource.type


class Detected(msgspec.Struct, frozen=True):
    """A store that was recognised at a path: what it is, where, in a person's words, and how many audio files it has.

    `notes` is None where that is not known, as of an encrypted backup without its password.
    """

    type: str
    path: str
    description: str
    notes: int | None


class Kind(NamedTuple):
    """One kind of store: how it is known, opened and named."""

    recogniser: Recogniser
    open: Callable[[SourceSpec, Tree, list[str], Path, Unlock], Source]
    describe: Callable[[Tree, str], str]


def _telegram() -> Kind:
    from backup_tool.sources import telegram as module

    def open_it(spec: SourceSpec, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock) -> Source:
        return module.TelegramSource(spec.name, tree, stores, workdir, unlock, spec.timezone)

    return Kind(module.TelegramRecogniser(), open_it, module.describe)


def _voice_memos() -> Kind:
    from backup_tool.sources import voice_memos as module

    def open_it(spec: SourceSpec, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock) -> Source:
        return module.VoiceMemosSource(spec.name, tree, stores, workdir, unlock, spec.timezone)

    return Kind(module.VoiceMemosRecogniser(), open_it, module.describe)


def _iphone() -> Kind:
    from backup_tool.sources import apple as module

    def open_it(spec: SourceSpec, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock) -> Source:
        return module.IPhoneSource(spec.name, tree, stores, workdir, unlock)

    return Kind(module.IPhoneRecogniser(), open_it, module.describe)


def _mac() -> Kind:
    from backup_tool.sources import apple as module

    def open_it(spec: SourceSpec, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock) -> Source:
        return module.MacSource(spec.name, tree, stores, workdir, unlock)

    return Kind(module.MacRecogniser(), open_it, module.describe)


def _chat_export() -> Kind:
    from backup_tool.sources import chat_export as module

    def open_it(spec: SourceSpec, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock) -> Source:
        return module.ChatExportSource(spec.name, tree, stores, workdir, unlock, spec.timezone)

    return Kind(module.ChatExportRecogniser(), open_it, module.describe)


# Asked in this order at each folder. A module is loaded when a folder is looked at, and loads what is heavy when it meets its store.
KINDS: dict[str, Callable[[], Kind]] = {
    "whatsapp-iphone": _iphone, "whatsapp-mac": _mac, "chat-export": _chat_export, "telegram": _telegram, "voice-memos": _voice_memos,
}  # fmt: skip
TYPES = ("auto", ANDROID, *KINDS, RECORDINGS)
"""Every type of source that can be opened."""


@dataclass(slots=True)
class Stores:
    """What was recognised at a path. Paths are below the tree's root, as the system gives names."""

    tree: Tree
    named: str | None = None
    """Where a single file was named: its name; the tree's root is the folder that it lies in."""
    android: Found = field(default_factory=Found)
    by_type: dict[str, list[str]] = field(default_factory=dict)
    """The stores of every other kind, in the order of the walk; recorder folders under "folder"."""
    taken: dict[str, set[str]] = field(default_factory=dict)
    """By kind: the folders and files that belong to its stores."""
    summary: Summary = field(default_factory=Summary)
    """Folders that could not be looked into are named here."""
    links: list[str] = field(default_factory=list)
    """Symbolic links that lead out of here, to where a store may be: a folder, a zip or a JSON file. They are not followed."""
    calls: list[str] = field(default_factory=list)
    """Folders of recorded calls outside recorders' folders, with type "auto"."""
    loose: dict[str, int] = field(default_factory=dict)
    """By folder: how many audio files, by their names, lie in it that no store has taken; with type "auto"."""

    @property
    def has_android(self) -> bool:
        """True where there are notes of WhatsApp's, or a database that knows some."""
        return bool(self.android or self.android.media)

    def apart_from(self, kind: str) -> Tree:
        """The tree without what other kinds of stores have taken."""
        others = set().union(*(paths for other, paths in self.taken.items() if other != kind))
        if kind != ANDROID:
            others |= {media.path for media in self.android.media if media.path}
        return Fenced(self.tree, others) if others else self.tree


class Fenced(Tree):
    """A tree in which some folders and files are passed over."""

    def __init__(self, tree: Tree, hidden: set[str]) -> None:
        super().__init__(tree.root)
        self._hidden = hidden

    def walk(self, path: str, summary: Summary) -> Iterator[Folder]:
        """As `Tree.walk`."""
        hidden = self._hidden
        for folder in super().walk(path, summary):
            folder.folders = [name for name in folder.folders if folder.below(name) not in hidden]
            folder.files = [entry for entry in folder.files if folder.below(entry.name) not in hidden]
            yield folder


def look(path: Path, wanted: str = "auto", *, database_is_named: bool = False) -> Stores:
    """Every store at a path: of all kinds, or of one. A file (a zip, a `result.json`) is looked at alone.

    Raises SourceAbsent where the path is not there, UsageError for a kind that is unknown.
    """
    if wanted not in TYPES:
        raise UsageError(f'sources of type "{shown(wanted)}" cannot be read', f"use {', '.join(TYPES[:-1])} or {TYPES[-1]}")
    tree, named = _tree(path)
    stores = Stores(tree, named)
    recognisers = [kind().recogniser for name, kind in KINDS.items() if wanted in ("auto", name)]
    recorders = RecorderRecogniser() if wanted == "auto" else None
    walk = _Walk(stores, recognisers, recorders)
    if named is not None or wanted not in ("auto", ANDROID):
        for _ in walk.walk("", stores.summary):
            pass
        return stores
    stores.android = find_stores(walk, stores.summary, database_is_named=database_is_named)
    stores.calls = recorders.calls if recorders else []
    if any(not media.path for media in stores.android.media):
        # A database alone, or a folder of notes: WhatsApp's may lie anywhere here, under any folder's name.
        stores.by_type.pop(RECORDINGS, None)
        stores.taken.pop(RECORDINGS, None)
        stores.calls = []
    inside = [media.path for media in stores.android.media] + stores.calls
    stores.loose = {path: count for path, count in stores.loose.items() if not is_below(path, inside)}
    return stores


class _Walk(Tree):
    """A tree whose walk from the root on is shared: at each folder, when whoever walks is done with it, every recogniser is asked.

    With `recorders`, that one is asked last, and audio files that are nobody's then are counted.
    """

    def __init__(self, stores: Stores, recognisers: list[Recogniser], recorders: RecorderRecogniser | None) -> None:
        super().__init__(stores.tree.root)
        self._stores = stores
        self._recognisers = [*recognisers, recorders] if recorders else recognisers
        self._counts = recorders is not None

    def walk(self, path: str, summary: Summary) -> Iterator[Folder]:
        """As `Tree.walk`."""
        for folder in super().walk(path, summary):
            if path or self._stores.named is None:
                yield folder
            else:
                folder.folders, folder.links = [], []
                folder.files = [entry for entry in folder.files if entry.name == self._stores.named]
            if not path:
                leave_out(folder)
                self._ask(folder)
                self._stores.links += (link for link in map(folder.below, folder.links) if _may_hide_a_store(self, link))
                loose = sum(suffix_of(entry.name) in AUDIO_SUFFIXES for entry in folder.files) if self._counts else 0
                if loose:
                    self._stores.loose[folder.path] = loose

    def _ask(self, folder: Folder) -> None:
        stores = self._stores
        for recogniser in self._recognisers:
            before: list[str | os.DirEntry[str]] = [*folder.folders, *folder.files]
            found = recogniser.look(stores.tree, folder)
            if found:
                stores.by_type.setdefault(recogniser.type, []).extend(found)
                gone = set(map(_name, before)).difference(folder.folders, map(_name, folder.files))
                stores.taken.setdefault(recogniser.type, set()).update(map(folder.below, gone))


def _name(entry: str | os.DirEntry[str]) -> str:
    return entry if isinstance(entry, str) else entry.name


def is_below(path: str, folders: Iterable[str]) -> bool:
    """True for what is one of these folders, or lies below one; "" is the root of all."""
    return any(not folder or path == folder or path.startswith(folder + "/") for folder in folders)


def _may_hide_a_store(tree: Tree, link: str) -> bool:
    """True for a link to a folder, a zip or a JSON file outside the tree: what is inside is met where it is."""
    location = tree.location(link)
    try:
        mode = os.stat(location).st_mode
    except OSError:
        return False
    real, root = os.path.realpath(location), os.path.realpath(tree.root)
    if real == root or real.startswith(root.rstrip(b"/") + b"/"):
        return False
    return stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and real.lower().endswith((b".zip", b".json")))


def open_kind(spec: SourceSpec, stores: Stores, kind: str, workdir: Path, unlock: Unlock, only: list[str] | None = None) -> Source:
    """The source of all stores of one kind (or only of some of them) that were found."""
    tree = stores.apart_from(kind)
    if kind == ANDROID:
        return AndroidSource(spec.name, tree, workdir, spec.database, unlock, spec.contacts)
    paths = stores.by_type[kind] if only is None else only
    if kind == RECORDINGS:
        return FolderSource(spec.name, tree, spec.timezone, paths)
    return KINDS[kind]().open(spec, tree, paths, workdir, unlock)


def describe(stores: Stores, kind: str, path: str) -> str:
    """A store in a person's words."""
    if kind == ANDROID:
        return describe_android(stores.android, path)
    if kind == RECORDINGS:
        return RecorderRecogniser.description
    return KINDS[kind]().describe(stores.tree, path)


def _tree(path: Path) -> tuple[Tree, str | None]:
    """The folder at a path, whatever links lead to it: a person named it. Of a file, the folder that holds it, and its name."""
    root = os.fsencode(os.path.realpath(path))
    try:
        if os.path.isfile(root):
            above, _, name = root.rpartition(b"/")
            os.close(os.open(above or b"/", os.O_RDONLY | os.O_DIRECTORY))
            return Tree(above or b"/"), os.fsdecode(name)
        os.close(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
    except FileNotFoundError:
        raise SourceAbsent(f"{shown(str(path))} is not there", "look at the path; a card, a share or a phone may be away") from None
    except NotADirectoryError:
        raise SourceAbsent(f"{shown(str(path))} is neither a folder nor an ordinary file", "name the folder of the store") from None
    except OSError as error:
        raise SourceAbsent(f"{shown(str(path))} cannot be opened: {(error.strerror or '').lower()}", cure()) from None
    return Tree(root), None
