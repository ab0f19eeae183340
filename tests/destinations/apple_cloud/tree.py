"""The Drive of one account: folders, files and trash. The bytes lie on disk, one file a document."""

from __future__ import annotations

import time
import unicodedata
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ZONE = "com.apple.CloudDocs"
TRASH_DAYS = 30


@dataclass
class Node:
    """A folder or a file. `parent` is the docwsid of a folder; None for a root and for what is in the trash."""

    docwsid: str
    name: str
    kind: str
    zone: str
    parent: str | None
    now: float
    size: int = 0
    blob: Path | None = None
    etag: int = 1
    item_id: str = ""
    mtime: float = 0
    put_from: str | None = None
    """Where it was before it went to the trash."""
    trashed: float = 0
    asked: str = ""
    """The name that was asked for, where it was taken."""
    hidden: int = 0
    """How many listings of its folder still come without it."""
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def drivewsid(self) -> str:
        return f"{self.kind}::{self.zone}::{self.docwsid}"

    @property
    def version(self) -> str:
        """The etag: of a file `x::y`, of a folder `x`."""
        return f"{self.etag:x}::{self.etag + 1:x}" if self.kind == "FILE" else f"{self.etag:x}"

    @property
    def split(self) -> tuple[str, str]:
        """Stem and extension, as Apple keeps them apart: at the last dot; only of files."""
        stem, dot, extension = self.name.rpartition(".")
        return (stem, extension) if dot and stem and self.kind == "FILE" else (self.name, "")


class Tree:
    """All nodes of an account. Not locked: the server takes one request at a time."""

    def __init__(self, root: Path) -> None:
        self.place = root
        self.place.mkdir(parents=True, exist_ok=True)
        self.nodes: dict[str, Node] = {}
        self._children: dict[str, dict[str, str]] = {}
        self._trash: dict[str, Node] = {}
        self._bytes = 0
        self._gone: dict[str, list[tuple[Node, int]]] = {}
        self.root = self._add(Node("root", "", "FOLDER", ZONE, None, time.time()))
        self.conflicts: list[tuple[str, str]] = []
        """Names that were taken: as asked for, as given."""

    def _add(self, node: Node) -> Node:
        node.item_id = node.item_id or f"{len(self.nodes):08x}"
        self.nodes[node.docwsid] = node
        self._bytes += node.size
        if node.kind != "FILE":
            self._children.setdefault(node.docwsid, {})
        if node.parent is not None:
            self._children[node.parent][same(node.name)] = node.docwsid
            self._touch(node.parent)
        return node

    def _touch(self, folder: str | None) -> None:
        if folder is not None:
            self.nodes[folder].etag += 1

    def find(self, drivewsid: str) -> Node | None:
        """The live or trashed node of that id, its type and zone taken at their word."""
        node = self.nodes.get(drivewsid.rpartition("::")[2])
        return node if node and node.drivewsid == drivewsid else None

    def child(self, folder: Node, name: str) -> Node | None:
        found = self._children[folder.docwsid].get(same(name))
        return self.nodes[found] if found else None

    def children(self, folder: Node) -> list[Node]:
        return [self.nodes[each] for each in self._children[folder.docwsid].values()]

    def listed(self, folder: Node) -> list[Node]:
        """What a listing shows: late comers not yet, the departed a while longer."""
        shown = []
        for node in self.children(folder):
            if node.hidden:
                node.hidden -= 1
            else:
                shown.append(node)
        ghosts = self._gone.pop(folder.docwsid, [])
        if left := [(ghost, times - 1) for ghost, times in ghosts if times > 1]:
            self._gone[folder.docwsid] = left
        return shown + [ghost for ghost, _ in ghosts]

    def trash(self) -> list[Node]:
        return list(self._trash.values())

    def make(self, parent: Node, name: str, kind: str, now: float, *, hidden: int = 0, **more: object) -> Node:
        """A new node under that name, or under `name 2` where it is taken."""
        free = self.free_name(parent, name, kind)
        asked = name if free != name else ""
        docwsid = str(more.pop("docwsid", "") or uuid.uuid4()).upper()
        node = Node(docwsid, free, kind, parent.zone, parent.docwsid, now, asked=asked, hidden=hidden, mtime=now)
        for key, value in more.items():
            setattr(node, key, value)
        return self._add(node)

    def free_name(self, parent: Node, name: str, kind: str) -> str:
        if self.child(parent, name) is None:
            return name
        stem, dot, extension = name.rpartition(".") if kind == "FILE" and "." in name[1:] else (name, "", "")
        number = 2
        while self.child(parent, f"{stem} {number}{dot}{extension}"):
            number += 1
        given = f"{stem} {number}{dot}{extension}"
        self.conflicts.append((self.path(parent, name), given))
        return given

    def _leave(self, node: Node, late: int) -> None:
        assert node.parent is not None
        del self._children[node.parent][same(node.name)]
        if late and not node.hidden:
            ghost = Node(node.docwsid, node.name, node.kind, node.zone, node.parent, node.now, node.size, etag=node.etag, mtime=node.mtime)
            self._gone.setdefault(node.parent, []).append((ghost, late))
        self._touch(node.parent)

    def rename(self, node: Node, name: str) -> None:
        assert node.parent is not None
        parent = self.nodes[node.parent]
        del self._children[node.parent][same(node.name)]
        node.name = self.free_name(parent, name, node.kind)
        node.asked = name if node.name != name else ""
        self._children[node.parent][same(node.name)] = node.docwsid
        node.etag += 1
        self._touch(node.parent)

    def move(self, node: Node, parent: Node, late: int = 0) -> None:
        self._leave(node, late)
        self._enter(node, parent, late)

    def _enter(self, node: Node, parent: Node, late: int = 0) -> None:
        name = node.name
        node.name = self.free_name(parent, name, node.kind)
        node.asked = name if node.name != name else ""
        node.parent, node.trashed, node.put_from, node.hidden = parent.docwsid, 0, None, late
        node.etag += 1
        self._children[parent.docwsid][same(node.name)] = node.docwsid
        self._touch(parent.docwsid)

    def throw_away(self, node: Node, now: float, late: int = 0) -> None:
        """To the trash, with all that is in it."""
        self._leave(node, late)
        node.put_from, node.parent, node.trashed = node.parent, None, now
        self._trash[node.docwsid] = node
        node.etag += 1

    def put_back(self, node: Node) -> None:
        where = self.nodes.get(node.put_from or "")
        del self._trash[node.docwsid]
        self._enter(node, where if where is not None and self.live(where) else self.root)

    def remove(self, node: Node) -> None:
        """For good, with all that is in it."""
        for child in self.children(node) if node.kind != "FILE" else []:
            self.remove(child)
        self._children.pop(node.docwsid, None)
        self._trash.pop(node.docwsid, None)
        self._bytes -= node.size
        del self.nodes[node.docwsid]
        if node.blob:
            node.blob.unlink(missing_ok=True)

    def sweep(self, now: float) -> None:
        """What has been in the trash for thirty days goes."""
        for node in self.trash():
            if now - node.trashed > TRASH_DAYS * 86400:
                self.remove(node)

    def live(self, node: Node) -> bool:
        """Whether it is in no trash, nor is a folder above it."""
        while node.parent is not None:
            node = self.nodes[node.parent]
        return not node.trashed

    def path(self, folder: Node, name: str) -> str:
        return "/".join([*self._names(folder), name])

    def where(self, node: Node) -> str:
        """The path of a live node."""
        return "/".join(self._names(node))

    def below(self, node: Node, folder: Node) -> bool:
        """Whether it is the folder, or somewhere in it."""
        while node is not folder and node.parent is not None:
            node = self.nodes[node.parent]
        return node is folder

    def _names(self, node: Node) -> list[str]:
        return [] if node.parent is None else [*self._names(self.nodes[node.parent]), node.name]

    def files(self) -> Iterator[tuple[str, Node]]:
        """Every file outside the trash as (path, node)."""
        for node in list(self.nodes.values()):
            if node.kind == "FILE" and self.live(node):
                yield self.where(node), node

    def used(self) -> int:
        """Bytes stored, the trash among them."""
        return self._bytes


def same(name: str) -> str:
    """Two names are one to Apple if this is equal."""
    return unicodedata.normalize("NFC", name).casefold()
