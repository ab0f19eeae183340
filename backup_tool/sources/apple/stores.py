"""Recognises device backups and WhatsApp's own folders by what is inside them, under any name, and says what they are."""

from __future__ import annotations

import os
import re

from backup_tool.names import shown
from backup_tool.sources.apple.backup import (
    ABOUT_BACKUP,
    ABOUT_DEVICE,
    MANIFEST,
    OLD_MANIFEST,
    SQLITE,
    STATUS,
    About,
    about,
    below,
    head_of,
)
from backup_tool.sources.apple.chatstorage import CHAT_STORAGE, CONTACTS, LIDS
from backup_tool.sources.apple.iphone import IPhoneSource
from backup_tool.sources.apple.mac import MESSAGE, MacSource, chats_in
from backup_tool.sources.base import FileUnreadable
from backup_tool.sources.tree import Folder, Tree

_BUCKET = re.compile(r"[0-9a-f]{2}")
_TOP = frozenset([MANIFEST, MANIFEST + "-wal", MANIFEST + "-shm", OLD_MANIFEST, ABOUT_BACKUP, ABOUT_DEVICE, STATUS])
_DATABASES = frozenset(name + beside for name in (CHAT_STORAGE, CONTACTS, LIDS) for beside in ("", "-wal", "-shm"))


class IPhoneRecogniser:
    """Knows device backups, with WhatsApp in them or not: in an encrypted one only its password tells."""

    type = IPhoneSource.type

    def look(self, tree: Tree, folder: Folder) -> list[str]:
        """The folder itself where it is a backup: by its manifest, with the other lists or the folders of payloads beside it."""
        names = {entry.name for entry in folder.files} & _TOP
        buckets = [name for name in folder.folders if _BUCKET.fullmatch(name)]
        if not _is_backup(tree, folder.path, names, bool(buckets)):
            return []
        folder.folders = [name for name in folder.folders if name not in buckets and name != "Snapshot"]
        folder.files = [entry for entry in folder.files if entry.name not in _TOP]
        return [folder.path]


def _is_backup(tree: Tree, path: str, names: set[str], has_buckets: bool) -> bool:
    if ABOUT_BACKUP in names and names & {MANIFEST, OLD_MANIFEST, ABOUT_DEVICE, STATUS}:
        return head_of(tree, below(path, ABOUT_BACKUP), 5) in (b"bplis", b"<?xml")
    if MANIFEST in names:
        sqlite = head_of(tree, below(path, MANIFEST), 16) == SQLITE
        return has_buckets or (sqlite and bool(names & {ABOUT_DEVICE, STATUS}))
    return OLD_MANIFEST in names and head_of(tree, below(path, OLD_MANIFEST), 4) == b"mbdb"


class MacRecogniser:
    """Knows the container of WhatsApp for Mac, or what a tool copied of an iPhone's."""

    type = MacSource.type

    def look(self, tree: Tree, folder: Folder) -> list[str]:
        """The folder itself where it holds WhatsApp's database, or folders of chats at any level where that app keeps them."""
        database = any(entry.name == CHAT_STORAGE for entry in folder.files) and _is_database(tree, folder.below(CHAT_STORAGE))
        chats = chats_in(tree, folder)
        if not database and chats is None:
            return []
        taken = {part.split("/")[0] for part in chats[1]} if chats else set()
        folder.folders = [] if "" in taken else [name for name in folder.folders if name not in taken and name != MESSAGE]
        folder.files = [entry for entry in folder.files if entry.name not in _DATABASES and "" not in taken]
        return [folder.path]


def _is_database(tree: Tree, path: str) -> bool:
    """By content; where that may not be read, by its name, so that the reason is told."""
    try:
        return tree.head(path, 16) == SQLITE
    except FileUnreadable:
        return True


def describe(tree: Tree, store: str) -> str:
    """A store in a person's words: of a backup the device, its system, the day and whether it is encrypted; of a Mac's the app."""
    if any(os.path.lexists(tree.location(below(store, name))) for name in (MANIFEST, OLD_MANIFEST, ABOUT_BACKUP)):
        return _describe_backup(about(tree, store))
    business = "SMB" in os.fsdecode(tree.location(store)).rpartition("/")[2]
    app = "WhatsApp Business" if business else "WhatsApp"
    has = os.path.lexists(tree.location(below(store, CHAT_STORAGE)))
    return f"{app} on a Mac, {'with its' if has else 'without a'} database"


def _describe_backup(it: About) -> str:
    kind = "iPad" if (it.product or "").startswith("iPad") else "iPhone"
    what = [f"a backup of {shown(it.device, 60)}" if it.device else f"a backup of an {kind}"]
    if it.version:
        what.append(f"{'iPadOS' if kind == 'iPad' else 'iOS'} {shown(it.version, 20)}")
    if it.made:
        what.append(f"{it.made:%Y-%m-%d}")
    what.append({True: "encrypted", False: "not encrypted", None: "whether it is encrypted is not known"}[it.encrypted])
    if not it.finished:
        what.append("interrupted")
    if it.apps and not any(app.startswith("net.whatsapp.WhatsApp") for app in it.apps):
        what.append("no WhatsApp on the device")
    return ", ".join(what)
