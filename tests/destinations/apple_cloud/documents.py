"""docws and *.icloud-content.com: the bytes of files, sent to a slot, made visible by a commit, and read from signed addresses."""

from __future__ import annotations

import hashlib
import re
import urllib.parse
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.destinations.apple_cloud.tree import Node
from tests.destinations.apple_cloud.wire import Answer, Request, said, token, upload_part
from tests.destinations.tls_proxy import Part

if TYPE_CHECKING:
    from tests.destinations.apple_cloud.drive import Drive

SLOT_SECONDS = 3600
URL_SECONDS = 15 * 60


@dataclass
class Slot:
    """A place for the bytes of one document to come."""

    document_id: str
    zone: str
    name: str
    until: float
    size: int
    file: Path
    stored: dict[str, Any] | None = None


class Documents:
    """Called under the server's lock, but for the copying of bytes."""

    def __init__(self, drive: Drive, incoming: Path) -> None:
        self.drive, self._incoming = drive, incoming
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._slots: dict[str, Slot] = {}
        self._documents: dict[str, Slot] = {}
        self._addresses: dict[str, tuple[Node, float]] = {}

    def answer(self, request: Request) -> Answer:
        """One call of docws."""
        found = re.fullmatch(r"/ws/([^/]+)/(.+)", request.path)
        if found is None:
            return said(404, {})
        zone, call = found[1], found[2]
        if call == "upload/web" and request.method == "POST":
            return self._give_slot(zone, request)
        if call == "update/documents" and request.method == "POST":
            return self._commit(zone, request.fields())
        if call.startswith("download/by_id"):
            return self._address(zone, request)
        return said(404, {})

    def _give_slot(self, zone: str, request: Request) -> Answer:
        asked = request.fields()
        name, size = str(asked.get("filename")), int(asked.get("size") or 0)
        if "/" in name or "\\" in name:
            self.drive.apple.complain("a local path in the name of an upload")
        if not asked.get("content_type"):
            self.drive.apple.complain("an upload without a content type")
        if self.drive.manner.full_at == "slot" and self.drive.used() + size > self.drive.account.quota:
            return self._full()
        document = str(uuid.uuid4()).upper()
        slot = Slot(document, zone, name, self.drive.apple.now() + SLOT_SECONDS, size, self._incoming / document)
        key = token()
        self._slots[key] = self._documents[document] = slot
        end = ".com.cn" if self.drive.account.china else ".com"
        url = f"https://p42-content.icloud-content{end}:443/{self.drive.account.dsid}/singleFileUpload?tk={key}&e={int(slot.until)}"
        return said(200, [{"document_id": document, "url": url, "owner": "_owner", "owner_id": self.drive.account.dsid}])

    def _full(self) -> Answer:
        return said(self.drive.manner.full_status, {"errorCode": "QUOTA_EXCEEDED", "errorReason": "Insufficient storage"})

    def slot(self, key: str) -> Slot | None:
        found = self._slots.get(key)
        return found if found and found.until > self.drive.apple.now() else None

    def take_in(self, slot: Slot, request: Request) -> Answer:
        """The bytes of a slot. Runs without the server's lock."""
        multipart = request.header("Content-Type").startswith("multipart/form-data")
        incoming = slot.file.with_name(f"{slot.document_id}.{token()}")
        try:
            size = upload_part(request, incoming) if request.whole else -1
        except ValueError:
            size = -1
        if size < 0 or (size == 0 and not multipart):
            incoming.unlink(missing_ok=True)
            return said(400, {"errorCode": 400, "errorReason": "Bad Request"})
        with self.drive.apple.lock:
            return self._stored(slot, incoming, size)

    def _stored(self, slot: Slot, incoming: Path, size: int) -> Answer:
        if slot.document_id in self.drive.tree.nodes:
            incoming.unlink()
            return said(409, {})
        incoming.replace(slot.file)
        if size != slot.size:
            self.drive.apple.complain(f"{slot.size} bytes were announced and {size} sent of {slot.name}")
        self.drive.uploaded.append(slot.name)
        checksum = hashlib.sha1(slot.document_id.encode()).hexdigest()
        slot.stored = {"fileChecksum": checksum, "referenceChecksum": checksum[::-1], "wrappingKey": token(), "size": size}
        if size:
            slot.stored["receipt"] = token()
        return said(200, {"singleFile": slot.stored})

    def _commit(self, zone: str, asked: dict[str, Any]) -> Answer:
        """update/documents: the one call that makes a file visible."""
        path, data = asked.get("path") or {}, asked.get("data") or {}
        parent = self.drive.tree.nodes.get(str(path.get("starting_document_id")))
        if parent is None or parent.kind == "FILE" or not self.drive.tree.live(parent) or parent.zone != zone:
            return said(412, {"errorCode": 412, "errorReason": "VALIDATING_REFERENCE_ERROR"})
        slot = self._documents.get(str(asked.get("document_id")))
        if slot is None or slot.stored is None or not self._signed(slot.stored, data):
            return said(200, result(404, "no such upload"))
        if node := self.drive.tree.nodes.get(slot.document_id):
            # The same document again is new content of it, whatever etag: seen of Apple. Here the content is the same.
            self.drive.replayed.append(node.name)
            node.etag += 1
            return said(200, result(0, "", self._document(node)))
        if self.drive.manner.full_at == "commit" and self.drive.used() + slot.stored["size"] > self.drive.account.quota:
            return self._full()
        return said(200, self._new_file(parent, slot, str(path.get("path")), asked))

    def _signed(self, stored: dict[str, Any], data: dict[str, Any]) -> bool:
        names = {
            "signature": "fileChecksum",
            "reference_signature": "referenceChecksum",
            "wrapping_key": "wrappingKey",
            "receipt": "receipt",
        }
        return all(data.get(ours) == stored.get(theirs) for ours, theirs in names.items()) and int(data.get("size") or 0) == stored["size"]

    def _new_file(self, parent: Node, slot: Slot, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        assert slot.stored is not None
        self.drive.check_name(name)
        if self.drive.tree.child(parent, name) and not asked.get("allow_conflict") and self.drive.manner.taken_file == "refuses":
            return result(409, "document exists")
        blob = self.drive.tree.place / slot.document_id
        slot.file.replace(blob)
        more = {"docwsid": slot.document_id, "size": slot.stored["size"], "blob": blob}
        node = self.drive.tree.make(parent, name, "FILE", self.drive.apple.now(), hidden=self.drive.manner.late, **more)
        node.mtime = int(asked.get("mtime") or 0) / 1000 or self.drive.apple.now()
        self.drive.committed.append(self.drive.tree.path(parent, node.name))
        return result(0, "", self._document(node))

    def _document(self, node: Node) -> dict[str, Any]:
        return {
            "status": {"status_code": 0, "error_message": ""},
            "document_id": node.docwsid,
            "item_id": node.item_id,
            "etag": node.version,
            "parent_id": node.parent or "",
            "name": node.name,
            "type": node.kind,
            "size": node.size,
            "mtime": int(node.mtime * 1000),
            "btime": int(node.now * 1000),
            "zone": node.zone,
            "deleted": bool(node.trashed),
        }

    def _address(self, zone: str, request: Request) -> Answer:
        node = self.drive.tree.nodes.get(request.query.get("document_id", ""))
        if node is None or node.kind != "FILE" or node.zone != zone or not self.drive.tree.live(node):
            return said(404, {"errorCode": 404, "errorReason": "Not Found"})
        if node.size == 0:
            return said(400, {"errorCode": 400, "errorReason": "Bad Request"})
        given = {
            "url": self._signed_url(node),
            "token": token(),
            "signature": token(),
            "wrapping_key": token(),
            "reference_signature": token(),
        }
        return said(200, {"document_id": node.docwsid, "item_id": node.item_id, "data_token": given, "double_etag": node.version})

    def _signed_url(self, node: Node) -> str:
        key, until = token(), self.drive.apple.now() + URL_SECONDS
        self._addresses[key] = node, until
        end = ".com.cn" if self.drive.account.china else ".com"
        return f"https://cvws.icloud-content{end}/B/{key}/{urllib.parse.quote(node.name)}?o={token()}&v=1&e={int(until)}"

    def end_addresses(self) -> None:
        """All signed addresses given so far are over."""
        self._addresses = {key: (node, 0.0) for key, (node, _) in self._addresses.items()}

    def address(self, key: str) -> tuple[Node, float] | None:
        return self._addresses.get(key)

    def give_out(self, node: Node, until: float, request: Request) -> Answer:
        """The content, whole or in part."""
        if until < self.drive.apple.now() or node.blob is None or node.docwsid not in self.drive.tree.nodes:
            return Answer(self.drive.manner.expired, [("Content-Type", "text/plain")], b"gone")
        if self.drive.manner.moved:
            self.drive.manner.moved -= 1
            return Answer(330, [("Location", self._signed_url(node)), ("Content-Type", "text/plain")], b"moved")
        kind = "application/json" if node.name.endswith(".json") else "application/octet-stream"
        headers = [("Content-Type", kind), ("Accept-Ranges", "bytes")]
        asked = request.header("Range")
        if not asked or not self.drive.manner.ranges:
            return Answer(200, headers, Part(node.blob, 0, node.size))
        first, end = part(asked, node.size)
        if first >= end:
            return Answer(416, [("Content-Range", f"bytes */{node.size}")])
        return Answer(206, [*headers, ("Content-Range", f"bytes {first}-{end - 1}/{node.size}")], Part(node.blob, first, end - first))


def result(code: int, message: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `update/documents` answers, for its one document."""
    status = {"status_code": code, "error_message": message}
    return {"status": {"status_code": 0, "error_message": ""}, "results": [{"status": status, "operation_id": None, "document": document}]}


def part(asked: str, size: int) -> tuple[int, int]:
    """First byte and end of a Range header (RFC 9110 section 14.1.2, one range): an empty range where it fits nowhere."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.strip())
    if found is None or not (found[1] or found[2]):
        return 0, size
    if not found[1]:
        return max(0, size - int(found[2])), size
    return int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
