"""The Drive of one account: what its hosts share, and hands for a test to reach into it."""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.destinations.apple_cloud.documents import Documents
from tests.destinations.apple_cloud.folders import Folders
from tests.destinations.apple_cloud.manner import Manner
from tests.destinations.apple_cloud.tree import TRASH_DAYS, ZONE, Node, Tree

if TYPE_CHECKING:
    from tests.destinations.apple_cloud.account import Account
    from tests.destinations.apple_cloud.server import Apple


class Drive:
    """`folders` answers for drivews, `documents` for docws and the hosts of bytes."""

    def __init__(self, apple: Apple, account: Account, place: Path) -> None:
        self.apple, self.account = apple, account
        self.manner = Manner()
        self.tree = Tree(place / "documents")
        self.folders = Folders(self)
        self.documents = Documents(self, place / "incoming")
        self.committed: list[str] = []
        """The path of every commit, in order."""
        self.uploaded: list[str] = []
        """The name of every body that arrived whole."""
        self.replayed: list[str] = []
        """Documents that were committed a second time."""
        self.removed: list[str] = []
        """Names that went to the trash or for good."""

    def used(self) -> int:
        """Bytes of quota in use."""
        if self.manner.trash_counts:
            return self.tree.used()
        return sum(node.size for _, node in self.tree.files())

    def check_name(self, name: str) -> None:
        """Complain of a name that Apple does not take."""
        if name in ("", ".", "..") or re.search(r"[/\\:\x00-\x1f\x7f]", name) or len(name.encode()) > 255:
            self.apple.complain(f"a name that Apple does not take: {name!r}")

    def item(self, node: Node) -> dict[str, Any]:
        """A node as every answer shows it."""
        stem, extension = node.split
        parent = self.tree.nodes.get(node.parent or "")
        shown: dict[str, Any] = {
            "drivewsid": node.drivewsid,
            "docwsid": node.docwsid,
            "zone": node.zone,
            "name": stem,
            "etag": node.version,
            "type": node.kind,
            "item_id": node.item_id,
            "dateCreated": utc(node.now),
            **({"parentId": parent.drivewsid} if parent else {}),
            **node.extra,
        }
        if node.kind == "FILE":
            if extension or self.manner.bare_extension != "absent":
                shown["extension"] = extension or self.manner.bare_extension
            shown |= {
                "size": node.size,
                "dateModified": utc(node.mtime),
                "dateChanged": california(node.now),
                "lastOpenTime": utc(node.now),
            }
        else:
            children = self.tree.children(node) if node.docwsid in self.tree.nodes else []
            number = len(children)
            shown |= {"assetQuota": 0, "fileCount": number, "directChildrenCount": number, "shareCount": 0, "shareAliasCount": 0}
        if node.trashed:
            where = self.tree.nodes.get(node.put_from or "")
            shown["restorePath"] = "/" + (self.tree.path(where, node.name) if where else node.name)
            shown["dateExpiration"] = utc(node.trashed + TRASH_DAYS * 86400)
        return shown

    # For tests: hands of a person, or of another machine

    def put(self, path: str, data: bytes) -> Node:
        """A file that was there before, or that another machine wrote. Missing folders are made."""
        *folders, name = path.split("/")
        parent = self.tree.root
        for folder in folders:
            there = self.tree.child(parent, folder)
            parent = there or self.tree.make(parent, folder, "FOLDER", self.apple.now())
        document = str(uuid.uuid4()).upper()
        blob = self.tree.place / document
        blob.write_bytes(data)
        return self.tree.make(parent, name, "FILE", self.apple.now(), docwsid=document, size=len(data), blob=blob)

    def node(self, path: str) -> Node | None:
        """What lies at that path outside the trash."""
        found: Node | None = self.tree.root
        for name in path.split("/"):
            found = self.tree.child(found, name) if found and found.kind != "FILE" else None
        return found

    def library(self, name: str, zone: str) -> Node:
        """A folder of an app, in its own zone."""
        return self.tree.make(self.tree.root, name, "APP_LIBRARY", self.apple.now(), zone=zone)

    def shared(self, name: str) -> Node:
        """A folder that somebody else shares with this account."""
        share = {"zoneID": {"zoneName": ZONE, "ownerRecordName": "_somebody"}, "recordName": "SHARE"}
        extra = {"shareID": share, "owner": {"ownerRecordName": "_somebody"}}
        return self.tree.make(self.tree.root, name, "SHARED_FOLDER", self.apple.now(), extra=extra)


def utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def california(seconds: float) -> str:
    """Apple's other form of a date."""
    return time.strftime("%Y-%m-%dT%H:%M:%S-07:00", time.gmtime(seconds - 7 * 3600))
