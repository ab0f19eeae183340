"""drivews: folders listed, made, moved and thrown away. A call succeeds as a whole; each of its items has a status of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.destinations.apple_cloud.tree import ZONE, Node
from tests.destinations.apple_cloud.wire import Answer, Request, said

if TYPE_CHECKING:
    from tests.destinations.apple_cloud.drive import Drive

TRASH_IDS = ("TRASH_ROOT", f"FOLDER::{ZONE}::TRASH_ROOT")


class Folders:
    """Called under the server's lock."""

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        self._calls: dict[str, Callable[[Any], Answer]] = {
            "retrieveItemDetailsInFolders": self._list,
            "createFolders": self._create_folders,
            "renameItems": lambda asked: self._each(asked, self._rename),
            "moveItems": lambda asked: self._each(asked, self._move_to(asked)),
            "moveItemsToTrash": lambda asked: self._each(asked, self._trash),
            "deleteItems": lambda asked: self._each(asked, self._delete),
            "putBackItemsFromTrash": lambda asked: self._each(asked, self._put_back),
            "retrieveAppLibraries": lambda asked: said(200, {"items": [self.drive.item(node) for node in self._libraries()]}),
        }

    def answer(self, request: Request) -> Answer:
        """One call of drivews."""
        self.drive.tree.sweep(self.drive.apple.now())
        route = self._calls.get(request.path.strip("/"))
        if route is None:
            return said(404, {"errorCode": 404, "errorReason": "Not Found"})
        asked = request.json() if request.method == "POST" else {}
        if not isinstance(asked, list if request.path == "/retrieveItemDetailsInFolders" else dict):
            return said(400, {"errorCode": 400, "errorReason": "Bad Request"})
        return route(asked)

    def _list(self, asked: Any) -> Answer:
        if self.drive.manner.batch is not None and len(asked) > self.drive.manner.batch:
            return said(400, {"errorCode": 400, "errorReason": "Bad Request"})
        return said(200, [self._listing(str(each.get("drivewsid"))) for each in asked])

    def _listing(self, drivewsid: str) -> dict[str, Any]:
        if drivewsid in TRASH_IDS:
            items = [self.drive.item(node) for node in self.drive.tree.trash()]
            return {"drivewsid": "TRASH_ROOT", "items": items, "numberOfItems": len(items), "status": "OK"}
        folder = self.drive.tree.find(drivewsid)
        if folder is None or folder.kind == "FILE" or not self.drive.tree.live(folder):
            return {"drivewsid": drivewsid, "status": "ID_INVALID"}
        items = [self.drive.item(node) for node in self.drive.tree.listed(folder)]
        number = len(items)
        if self.drive.manner.short and items:
            self.drive.manner.short -= 1
            items = items[: number // 2]
        return {**self.drive.item(folder), "items": items, "numberOfItems": number, "status": "OK"}

    def _libraries(self) -> list[Node]:
        return [node for node in self.drive.tree.nodes.values() if node.kind == "APP_LIBRARY"]

    def _create_folders(self, asked: Any) -> Answer:
        parent = self.drive.tree.find(str(asked.get("destinationDrivewsId")))
        made = []
        for folder in asked.get("folders", []):
            if parent is None or parent.kind == "FILE" or not self.drive.tree.live(parent):
                made.append({"clientId": folder.get("clientId"), "status": "ID_INVALID"})
            else:
                made.append({"clientId": folder.get("clientId"), **self._folder(parent, str(folder["name"]))})
        return said(200, {"destinationDrivewsId": asked.get("destinationDrivewsId"), "folders": made})

    def _folder(self, parent: Node, name: str) -> dict[str, Any]:
        self.drive.check_name(name)
        if self._excused():
            return {"status": "UNKNOWN"}
        there = self.drive.tree.child(parent, name)
        if there and self.drive.manner.taken_folder == "same" and there.kind != "FILE":
            return {**self.drive.item(there), "status": "OK"}
        if there and self.drive.manner.taken_folder == "refuses":
            return {"status": "ALREADY_EXISTS"}
        made = self.drive.tree.make(parent, name, "FOLDER", self.drive.apple.now(), hidden=self.drive.manner.late)
        return {**self.drive.item(made), "status": "OK"}

    def _each(self, asked: Any, change: Callable[[Node, dict[str, Any]], str]) -> Answer:
        """One status for each item; the call as a whole always succeeds."""
        done = []
        for each in asked.get("items", []):
            node = self.drive.tree.find(str(each.get("drivewsid")))
            if node is None:
                done.append({"drivewsid": each.get("drivewsid"), "status": "ID_INVALID"})
            elif self._excused():
                done.append({**self.drive.item(node), "status": "UNKNOWN"})
            else:
                status = change(node, each)
                there = node.docwsid in self.drive.tree.nodes
                done.append({**self.drive.item(node), "status": status, "isDeleted": bool(not there or node.trashed)})
        return said(200, {"items": done})

    def _excused(self) -> bool:
        if not self.drive.manner.unknown_status:
            return False
        self.drive.manner.unknown_status -= 1
        return True

    def _rename(self, node: Node, asked: dict[str, Any]) -> str:
        # A stale etag does not matter here: seen of Apple.
        if node.parent is None or not self.drive.tree.live(node):
            return "ID_INVALID"
        self.drive.check_name(str(asked["name"]))
        self.drive.tree.rename(node, str(asked["name"]))
        return "OK"

    def _move_to(self, asked: Any) -> Callable[[Node, dict[str, Any]], str]:
        target = self.drive.tree.find(str(asked.get("destinationDrivewsId")))

        def move(node: Node, each: dict[str, Any]) -> str:
            if target is None or target.kind == "FILE" or node.parent is None or not self.drive.tree.live(node):
                return "ID_INVALID"
            if self.drive.tree.below(target, node):
                return "ID_INVALID"
            if each.get("etag") != node.version:
                return "ETAG_CONFLICT"
            self.drive.tree.move(node, target, self.drive.manner.late)
            return "OK"

        return move

    def _trash(self, node: Node, asked: dict[str, Any]) -> str:
        if node.parent is None or not self.drive.tree.live(node):
            return "ID_INVALID"
        if asked.get("etag") != node.version:
            return "ETAG_CONFLICT"
        self.drive.removed.append(node.name)
        self.drive.tree.throw_away(node, self.drive.apple.now(), self.drive.manner.late)
        return "OK"

    def _delete(self, node: Node, asked: dict[str, Any]) -> str:
        """A live item goes to the trash, one in the trash for good."""
        if not node.trashed:
            return self._trash(node, asked)
        self.drive.removed.append(node.name)
        self.drive.tree.remove(node)
        return "OK"

    def _put_back(self, node: Node, asked: dict[str, Any]) -> str:
        if not node.trashed:
            return "ID_INVALID"
        self.drive.tree.put_back(node)
        return "OK"
