"""The files of all accounts: what is known of them in memory, their bytes in a folder."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.destinations.drive.people import Account, SharedDrive

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"
BYTES = "application/octet-stream"
TRASH_LIFE = 30 * 86_400.0
"""Seconds after which Google empties the trash of an item."""


@dataclass
class Item:
    """A file or folder. Times are seconds since 1970. `projects`: whose clients made or opened it (`drive.file`)."""

    id: str
    name: str
    mime_type: str
    parent: str | None
    owner: str | None
    drive: str | None
    projects: set[str]
    created: float
    modified: float
    modified_by: str
    serial: int
    space: str = "drive"
    size: int | None = None
    md5: str | None = None
    sha1: str | None = None
    sha256: str | None = None
    revision: str | None = None
    original_name: str | None = None
    explicitly_trashed: bool = False
    trashed_at: float | None = None
    trashed_by: str | None = None
    version: int = 1
    starred: bool = False
    abusive: bool = False
    read_only: bool = False
    app_properties: dict[str, dict[str, str]] = field(default_factory=dict)
    """By project."""
    properties: dict[str, str] = field(default_factory=dict)
    plain: dict[str, object] = field(default_factory=dict)
    """Fields that are kept as they come: description, folderColorRgb, …"""
    roles: dict[str, str] = field(default_factory=dict)
    """Whom it is shared with, by email."""
    hidden_names: int = 0
    """How many further lists that ask by name do not show it yet."""
    hidden_parents: int = 0
    """The same for lists by parent."""
    hidden_gets: int = 0
    """How many further reads by id answer 404."""

    @property
    def is_folder(self) -> bool:
        return self.mime_type == FOLDER


class Digests:
    """The checksums that Drive keeps of contents, taken in passing."""

    def __init__(self) -> None:
        self.size = 0
        self._all = [hashlib.md5(), hashlib.sha1(), hashlib.sha256()]

    def update(self, data: bytes) -> None:
        self.size += len(data)
        for digest in self._all:
            digest.update(data)

    def store(self, item: Item) -> None:
        item.size = self.size
        item.md5, item.sha1, item.sha256 = (digest.hexdigest() for digest in self._all)


class Store:
    """All items. Callers hold the world's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "contents"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.items: dict[str, Item] = {}
        self.drives: dict[str, SharedDrive] = {}
        self.reserved: dict[str, tuple[str, str]] = {}
        """Ids that were handed out: (email, space). They stay here when used, and when the file is deleted."""
        self.ever: set[str] = set()
        self.usage: Counter[str] = Counter()
        """Bytes in each account's My Drive, trash included."""
        self._children: dict[str, dict[str, Item]] = {}
        self._late: list[Item] = []
        self._serial = 0

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    @staticmethod
    def new_id() -> str:
        return "1" + secrets.token_urlsafe(24)

    def add(self, item: Item) -> None:
        self.items[item.id] = item
        self.ever.add(item.id)
        self._count(item, 1)
        if item.hidden_names or item.hidden_parents:
            self._late.append(item)
        if item.parent is not None:
            self._children.setdefault(item.parent, {})[item.id] = item

    def move(self, item: Item, parent: str) -> None:
        if item.parent is not None:
            self._children[item.parent].pop(item.id)
        item.parent = parent
        self._children.setdefault(parent, {})[item.id] = item

    def children(self, folder: str) -> list[Item]:
        return list(self._children.get(folder, {}).values())

    def child_count(self, folder: str) -> int:
        return len(self._children.get(folder, {}))

    def below(self, item: Item) -> Iterator[Item]:
        """Everything in a folder, however deep."""
        for child in self.children(item.id):
            yield child
            yield from self.below(child)

    def remove(self, item: Item) -> None:
        """For good, with everything below."""
        for gone in [*self.below(item), item]:
            del self.items[gone.id]
            self._count(gone, -1)
            if gone.parent is not None:
                self._children.get(gone.parent, {}).pop(gone.id, None)
            self._children.pop(gone.id, None)
            self.content(gone).unlink(missing_ok=True)

    def ancestors(self, item: Item) -> Iterator[Item]:
        """The folders above, nearest first."""
        while item.parent is not None and item.parent in self.items:
            item = self.items[item.parent]
            yield item

    def trashed(self, item: Item) -> bool:
        return item.explicitly_trashed or any(above.explicitly_trashed for above in self.ancestors(item))

    def content(self, item: Item) -> Path:
        return self.folder / item.id

    def keep(self, item: Item, source: Path, digests: Digests) -> None:
        """Take over a file as the item's content."""
        os.replace(source, self.content(item))
        item.revision = "0B" + secrets.token_urlsafe(32)
        known = item.id in self.items
        if known:
            self._count(item, -1)
        digests.store(item)
        if known:
            self._count(item, 1)

    def _count(self, item: Item, sign: int) -> None:
        if item.owner is not None and item.drive is None:
            self.usage[item.owner] += sign * (item.size or 0)

    def lagging(self) -> list[Item]:
        """Items that some lists do not show yet."""
        self._late = [item for item in self._late if item.hidden_names or item.hidden_parents]
        return self._late

    def path(self, item: Item) -> str:
        """For people: names from the root down, joined by `/`."""
        names = [item.name, *(above.name for above in self.ancestors(item) if above.parent is not None)]
        return "/".join(reversed(names))

    def in_trash(self, account: Account) -> int:
        """Bytes of an account's files that lie in the trash."""
        own = (item for item in self.items.values() if item.owner == account.email and item.drive is None and item.size)
        return sum(item.size or 0 for item in own if self.trashed(item))
