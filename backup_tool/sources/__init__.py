"""Message stores on this machine, read-only: what is there, its notes, and their bytes.

source = open_source(spec, workdir)
scan = source.scan()
for file in scan:
    data = b"".join(source.read(file, 4 * 2**20))
scan.summary        # whole now
"""

from __future__ import annotations

import os
from pathlib import Path

from backup_tool.errors import UsageError
from backup_tool.names import path_text, shown
from backup_tool.sources.base import Detected, Source, SourceAbsent, SourceSpec, Summary, Unlock
from backup_tool.sources.filenames import kind_of_name, time_of_name
from backup_tool.sources.folder import FolderSource
from backup_tool.sources.tree import Tree
from backup_tool.sources.whatsapp_android import AndroidSource, Found, describe, find_stores

__all__ = ["Detected", "SourceAbsent", "SourceSpec", "detect", "kind_of_name", "open_source", "time_of_name"]

_LOOKED_FOR = (
    "a WhatsApp folder of an Android phone or a copy of it at any level (its storage, Android/media/com.whatsapp/WhatsApp, WhatsApp, "
    "Media or one '… Voice Notes' folder), or any folder with audio files"
)


def open_source(spec: SourceSpec, workdir: Path, unlock: Unlock = list) -> Source:
    """The store that a spec names; for type "auto", what is recognised there. Databases are copied into `workdir`, a private folder.
    `unlock` gives keys and passwords for what is locked.

    Raises SourceAbsent where the path is not there, or nothing at it is recognised (a card that is away leaves an empty folder behind);
    UsageError for a type that is unknown.
    """
    if spec.type not in ("auto", FolderSource.type, AndroidSource.type):
        raise UsageError(f'sources of type "{shown(spec.type)}" cannot be read yet', "use auto, whatsapp-android or folder")
    tree = _tree(spec.path)
    folder = FolderSource(spec.name, tree)
    if spec.type == folder.type:
        return folder
    found = find_stores(tree, Summary(), database_is_named=spec.database is not None)
    # WhatsApp's pictures among someone's recordings make no store of them: only a place for notes, or a database, settles it.
    if spec.type == "auto" and not found.media and next(iter(folder.scan()), None):
        return folder
    if found or found.media:
        return AndroidSource(spec.name, tree, workdir, spec.database)
    raise SourceAbsent(f"nothing recognised in {shown(str(spec.path))}", f"looked for {_LOOKED_FOR}")


def detect(path: Path) -> list[Detected]:
    """Every store at a path: each WhatsApp store below it, else the folder itself if it holds audio. Empty where nothing is recognised.

    Raises SourceAbsent where the path is not there.
    """
    tree = _tree(path)
    found = find_stores(tree, Summary())
    notes = 0 if found.media else sum(1 for _ in FolderSource("", tree).scan())
    if notes:
        return [Detected(FolderSource.type, path_text(tree.root), "a folder of audio files", notes)]
    return _stores(tree, found) if found else []


def _stores(tree: Tree, found: Found) -> list[Detected]:
    notes = dict.fromkeys(found.roots or {""}, 0)
    for _, root in AndroidSource("", tree, Path()).files(found, Summary()):
        notes[root] = notes.get(root, 0) + 1
    return [
        Detected(AndroidSource.type, path_text(tree.location(root)), describe(found, root), count) for root, count in sorted(notes.items())
    ]


def _tree(path: Path) -> Tree:
    """The folder at a path, whatever links lead to it: a person named it."""
    root = os.fsencode(os.path.realpath(path))
    try:
        os.close(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
    except FileNotFoundError:
        raise SourceAbsent(f"{shown(str(path))} is not there", "look at the path; a card, a share or a phone may be away") from None
    except NotADirectoryError:
        raise SourceAbsent(f"{shown(str(path))} is a file", f"name the folder that it lies in: {shown(str(path.parent))}") from None
    except OSError as error:
        raise SourceAbsent(f"{shown(str(path))} cannot be opened: {(error.strerror or '').lower()}", "look at its permissions") from None
    return Tree(root)
