"""Apple's calls for the files and folders of iCloud Drive, as its web page makes them.

A file is sent in three steps: a slot is asked for, which already has the document's id; the bytes go to the slot's address; one call then
makes them visible under a name. Until that call nothing can be seen, and where its answer was lost, the id tells whether it was done. Apple
never overwrites: a taken name makes it invent another one (`name 2`). Statuses stand beside each item of an answer: all are read here.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, BinaryIO

import msgspec

from backup_tool.destinations.icloud.account import MAX_REFUSAL, SLOWEST, Account, decoded
from backup_tool.destinations.limits import UploadLimit
from backup_tool.errors import BackupError, NoSpace, Unreachable

ZONE = "com.apple.CloudDocs"
ROOT = f"FOLDER::{ZONE}::root"
FOLDERS_AT_ONCE = 32
"""So many folders are listed, or made, in one call; how many Apple takes is not known, so a refusal halves it."""
_URL_SECONDS = 300.0
"""A signed address is used for so long; one that has ended sooner is asked for again."""
_MOST_ADDRESSES = 10_000
_MARGIN = 16 * 2**20
_EXPIRED = (400, 401, 403, 404, 410)
_BINARY = {"Content-Type": "application/octet-stream"}


class Item(msgspec.Struct):
    """A file or folder in a listing. `name` and `extension` are kept apart by Apple, at the last dot."""

    drivewsid: str
    docwsid: str = ""
    zone: str = ZONE
    type: str = ""
    name: str = ""
    extension: str | None = None
    size: int | None = None
    etag: str | None = None
    status: str | int | None = None
    dateCreated: str | None = None
    dateModified: str | None = None
    dateChanged: str | None = None

    @property
    def full_name(self) -> str:
        """The name as a person sees it."""
        return f"{self.name}.{self.extension}" if self.extension else self.name

    @property
    def stored(self) -> float | None:
        """The newest of its times, in seconds since 1970; None where none can be read."""
        times = [_seconds(text) for text in (self.dateCreated, self.dateModified, self.dateChanged) if text]
        return max((found for found in times if found is not None), default=None)


class Listing(msgspec.Struct):
    """What is in a folder; `status` is not "OK" for one that is gone."""

    drivewsid: str = ""
    name: str = ""
    status: str | int | None = None
    items: list[Item] | None = None
    numberOfItems: int | None = None

    @property
    def is_gone(self) -> bool:
        """True where Apple knows no such folder (any more)."""
        return self.items is None or self.status not in (None, "OK")


class Slot(msgspec.Struct):
    """Where the bytes of a new document go."""

    document_id: str
    url: str


class _Status(msgspec.Struct):
    status_code: int = 0
    error_message: str = ""


class Document(msgspec.Struct):
    """A document as Apple tells of it after it was made visible."""

    document_id: str = ""
    name: str = ""
    extension: str | None = None
    size: int | None = None
    etag: str | None = None


class _Result(msgspec.Struct):
    status: _Status | None = None
    document: Document | None = None


class _Committed(msgspec.Struct):
    status: _Status | None = None
    results: list[_Result] = []


class _DataToken(msgspec.Struct):
    url: str = ""


class _Address(msgspec.Struct):
    data_token: _DataToken | None = None


class _Storage(msgspec.Struct):
    totalStorageInBytes: int | None = None
    usedStorageInBytes: int | None = None


class _Quota(msgspec.Struct):
    storageUsageInfo: _Storage | None = None


class Taken(Exception):
    """The document was made visible under another name, or not at all, because the name is taken. `document` is what Apple made, if so."""

    def __init__(self, document: Document | None) -> None:
        super().__init__("taken")
        self.document = document


class Drive:
    """The Drive of an account. Errors as `Account` says."""

    def __init__(self, account: Account, limit: UploadLimit | None = None) -> None:
        self._account, self._limit = account, limit
        self._faults = account.faults
        self._drivews, self._docws = account.service("drivews"), account.service("docws")
        self._at_once = FOLDERS_AT_ONCE
        self._free: int | None = None
        self._addresses: dict[str, tuple[str, float]] = {}

    # --- folders ----------------------------------------------------------------------------------------------------------------------

    def list_folders(self, ids: Sequence[str]) -> list[Listing]:
        """The whole content of each of these folders, in their order. Raises Unreachable for an answer that is not complete."""
        found: list[Listing] = []
        while len(found) < len(ids):
            some = ids[len(found) : len(found) + self._at_once]
            try:
                found += self._list_some(some)
            except (Unreachable, NoSpace):
                raise
            except BackupError as error:
                if len(some) == 1 or error.exit_code != BackupError.exit_code:
                    raise
                self._at_once = max(1, len(some) // 2)
        return found

    def _list_some(self, ids: Sequence[str]) -> list[Listing]:
        payload = [{"drivewsid": id, "partialData": False} for id in ids]
        what = "a list of a folder"
        found: list[Listing] = self._account.ask(
            what, "POST", lambda: f"{self._drivews()}/retrieveItemDetailsInFolders", list[Listing], payload=payload
        )
        if len(found) != len(ids):
            raise self._faults.broken("lists are missing")
        for id, one in zip(ids, found, strict=True):
            if one.drivewsid not in ("", id):
                raise self._faults.broken("a list of another folder")
            if one.items is not None and one.numberOfItems is not None and one.numberOfItems != len(one.items):
                raise self._faults.broken("a list is shorter than it says")
        return found

    def make_folders(self, parent: str, names: Sequence[str]) -> list[Item]:
        """Make folders whose names were free at the last look; what came of each. One taken meanwhile may have become another name."""
        made: list[Item] = []
        for start in range(0, len(names), FOLDERS_AT_ONCE):
            wanted = [
                {"clientId": f"FOLDER::UNKNOWN_ZONE::TempId-{uuid.uuid4()}", "name": n} for n in names[start : start + FOLDERS_AT_ONCE]
            ]
            answer = self._account.ask(
                "a new folder", "POST", lambda: f"{self._drivews()}/createFolders", dict[str, Any],
                payload={"destinationDrivewsId": parent, "folders": wanted},
            )  # fmt: skip
            made += [self._made(each) for each in answer.get("folders") or () if self._is_done(each, "a new folder")]
        return made

    def _made(self, found: Any) -> Item:
        try:
            return msgspec.convert(found, Item)
        except msgspec.ValidationError:
            raise self._faults.unknown("a new folder without an id") from None

    def _is_done(self, found: Any, what: str) -> bool:
        """Whether an item's own status is good; a folder that is there already is no failure."""
        status = found.get("status") if isinstance(found, dict) else "none"
        if status in (None, "OK"):
            return True
        if status == "ALREADY_EXISTS":
            return False
        if str(status).upper() in ("UNKNOWN", "ETAG_CONFLICT", "THROTTLED", "TRY_AGAIN", "ID_INVALID"):
            raise self._faults.unreachable(f"iCloud did not do {what} ({_code(status)})")
        raise self._faults.unknown(f"{_code(status)} for {what}")

    def trash(self, item: Item) -> bool:
        """Move an item to Apple's trash, where it stays about 30 days; False where it is not there any more.

        Raises Unreachable where it was changed meanwhile: it has to be listed again first.
        """
        payload = {"items": [{"drivewsid": item.drivewsid, "etag": item.etag, "clientId": item.drivewsid}]}
        answer = self._account.ask("a removal", "POST", lambda: f"{self._drivews()}/moveItemsToTrash", dict[str, Any], payload=payload)
        done = answer.get("items")
        if not isinstance(done, list) or len(done) != 1:
            raise self._faults.broken("no status of a removal")
        if isinstance(done[0], dict) and done[0].get("status") == "ID_INVALID":
            return False
        return self._is_done(done[0], "a removal")

    # --- sending ----------------------------------------------------------------------------------------------------------------------

    def slot(self, name: str, size: int, zone: str) -> Slot:
        """A place for the bytes of a new document. Raises NoSpace where they do not fit."""
        self._check_room(size)
        match = re.search(r"\bt=([^:]+)", self._account.cookie("X-APPLE-WEBAUTH-VALIDATE"))
        params = {"token": match[1]} if match else {}
        payload = {"filename": name, "type": "FILE", "content_type": "application/octet-stream", "size": size}
        found: list[Slot] = self._account.ask(
            "room for a file", "POST", lambda: f"{self._docws()}/ws/{zone}/upload/web", list[Slot], params=params, payload=payload
        )
        if not found:
            raise self._faults.broken("no room for a file")
        return found[0]

    def send(self, slot: Slot, body: BinaryIO, size: int) -> dict[str, Any]:
        """Send the bytes to their slot; what Apple says of them (`singleFile`). Nothing is visible yet.

        An empty file goes as a form, as the web page sends all: the bare body of one is not taken.
        """

        def how() -> dict[str, Any]:
            if not size:
                return {"files": {"file": ("file", b"", "application/octet-stream")}}
            return {"data": _Body(body, size, self._limit), "headers": dict(_BINARY)}

        expected = (200, 409, *_EXPIRED)
        with self._account.transfer("the bytes of a file", "POST", slot.url, how, size=self._paid(size), expected=expected) as response:
            if response.status_code != 200:
                raise self._faults.unreachable(f"iCloud answered {response.status_code} to the bytes of a file", response.headers)
            answer = decoded(self._account.body(response, MAX_REFUSAL), dict[str, Any], self._faults)
        stored = answer.get("singleFile")
        if not isinstance(stored, dict) or stored.get("size") != size:
            raise self._faults.unreachable("iCloud did not take all bytes of a file")
        return stored

    def _paid(self, size: int) -> int:
        """The size as the time limit of a request should see it: a limit for uploads makes it longer."""
        return size if self._limit is None else size + SLOWEST * size // self._limit.rate

    def commit(self, parent: str, name: str, slot: Slot, stored: dict[str, Any], zone: str) -> Document:
        """Make the bytes visible as `name` in a folder (its docwsid). Raises Taken; Unreachable where it may have been done."""
        now = int((time.time() + self._account.clock_ahead) * 1000)
        payload = {
            "command": "add_file", "document_id": slot.document_id, "data": _signatures(stored),
            "path": {"starting_document_id": parent, "path": name},
            "allow_conflict": False, "create_short_guid": True,
            "file_flags": {"is_writable": True, "is_executable": False, "is_hidden": False},
            "mtime": now, "btime": now,
        }  # fmt: skip
        answer: _Committed = self._account.ask(
            "a new file", "POST", lambda: f"{self._docws()}/ws/{zone}/update/documents", _Committed, payload=payload
        )
        result = answer.results[0] if answer.results else None
        for status in (answer.status, result.status if result else None):
            if status is not None and status.status_code:
                raise self._not_committed(status)
        document = result.document if result else None
        if document is None or document.document_id != slot.document_id:
            raise self._faults.broken("no answer for a new file")
        given = f"{document.name}.{document.extension}" if document.extension else document.name
        if given != name:
            raise Taken(document)
        if document.size != stored.get("size"):
            raise self._faults.broken("a new file of another size")
        return document

    def _not_committed(self, status: _Status) -> Exception:
        words = status.error_message.upper()
        if status.status_code == 409 or "EXIST" in words or "CONFLICT" in words:
            return Taken(None)
        if 100 <= status.status_code < 600:
            return self._faults.refusal("a new file", status.status_code, {}, words)
        return self._faults.unreachable("iCloud did not make a file visible")

    def _check_room(self, size: int) -> None:
        """Raise NoSpace where the account has no room for so many bytes more. Asked once, and again when it is nearly used up."""
        if self._free is None or self._free < size + _MARGIN:
            self._free = self._ask_room()
        if self._free is not None:
            if self._free < size:
                raise self._faults.full()
            self._free -= size

    def _ask_room(self) -> int | None:
        """The free bytes; None where Apple does not tell: the upload will."""
        limit, used = self.quota()
        return None if limit is None or used is None else max(0, limit - used)

    def quota(self) -> tuple[int | None, int | None]:
        """Bytes that the account may hold, and holds; None where Apple does not tell."""
        address = self._account.service("account")
        try:
            found: _Quota = self._account.ask("the room left", "POST", lambda: f"{address()}/setup/ws/1/storageUsageInfo", _Quota)
        except (Unreachable, BackupError):
            return None, None
        usage = found.storageUsageInfo or _Storage()
        return usage.totalStorageInBytes, usage.usedStorageInBytes

    # --- fetching ---------------------------------------------------------------------------------------------------------------------

    def fetch(self, item: Item, offset: int, length: int) -> bytes | None:
        """Exactly `length` bytes of a document from `offset`; None where there is no such document any more."""
        for fresh in (False, True):
            url = self._address(item, fresh=fresh)
            if url is None:
                return None
            data = self._fetch(url, offset, length)
            if data is not None:
                return data
        raise self._faults.unreachable("iCloud gave an address that does not work")

    def _address(self, item: Item, *, fresh: bool) -> str | None:
        """The signed address of a document's content; None where there is none."""
        known = self._addresses.get(item.docwsid)
        if known is not None and not fresh and known[1] > time.monotonic():
            return known[0]
        address = lambda: f"{self._docws()}/ws/{item.zone}/download/by_id"  # noqa: E731

        def how() -> dict[str, Any]:
            return {"params": {**self._account.params(), "document_id": item.docwsid}}

        with self._account.request("a file", "GET", address, how, expected=(200, 404)) as response:
            if response.status_code == 404:
                return None
            found: _Address = decoded(self._account.body(response, MAX_REFUSAL), _Address, self._faults)
        if found.data_token is None or not found.data_token.url:
            raise self._faults.broken("a file without an address")
        if len(self._addresses) > _MOST_ADDRESSES:
            self._addresses.clear()
        self._addresses[item.docwsid] = found.data_token.url, time.monotonic() + _URL_SECONDS
        return found.data_token.url

    def _fetch(self, url: str, offset: int, length: int, *, moved: bool = False) -> bytes | None:
        """The bytes; None where the address is not good any more. 330 is Apple's own kind of redirect."""
        headers = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
        expected = (200, 206, 330, *_EXPIRED)
        target = ""
        with self._account.transfer(
            "the bytes of a file", "GET", url, lambda: {"headers": headers}, size=length, expected=expected
        ) as response:
            if response.status_code in _EXPIRED:
                return None
            if response.status_code == 330:
                target = response.headers.get("Location", "")
            elif response.status_code == 206 and _begins(response.headers.get("Content-Range"), offset):
                return self._exactly(self._account.pieces(response), 0, length)
            elif response.status_code == 200:  # the server knows no ranges and sends everything
                return self._exactly(self._account.pieces(response), offset, length)
        if not target or moved:
            raise self._faults.broken("another part of a file")
        return self._fetch(target, offset, length, moved=True)

    def _exactly(self, pieces: Iterator[bytes], skip: int, length: int) -> bytes:
        found: list[bytes] = []
        size = 0
        for piece in pieces:
            piece, skip = piece[skip:], max(0, skip - len(piece))
            found.append(piece[: length - size])
            size += len(found[-1])
            if size == length:
                break
        if size != length:
            raise self._faults.unreachable(f"iCloud sent {size} bytes of {length} that were asked for")
        return b"".join(found)


class _Body:
    """A body as requests and urllib3 read it: from its start, exactly as many bytes as announced, no faster than allowed."""

    def __init__(self, body: BinaryIO, size: int, limit: UploadLimit | None) -> None:
        self._body, self._size, self._left, self._limit = body, size, size, limit
        body.seek(0)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(2**16):
            yield piece

    def read(self, size: int = 2**16) -> bytes:
        """The next bytes."""
        size = min(size, self._left)
        if self._limit is not None and size:
            size = self._limit.piece(size)
            self._limit.take(size)
        try:
            piece = self._body.read(size) if size else b""
        except OSError:
            raise BackupError("a file could not be read while it was sent", "see that the disk is well") from None
        if len(piece) < size:
            raise BackupError("a file became shorter while it was sent", "run it again")
        self._left -= size
        return piece


def _signatures(stored: dict[str, Any]) -> dict[str, Any]:
    """What Apple said of the bytes, in the words in which it wants it back; an empty file has no receipt."""
    named = {"signature": "fileChecksum", "wrapping_key": "wrappingKey", "reference_signature": "referenceChecksum", "size": "size"}
    found = {name: stored.get(theirs) for name, theirs in named.items()}
    return {**found, "receipt": stored["receipt"]} if stored.get("receipt") else found


def _begins(header: str | None, offset: int) -> bool:
    """Whether a part begins where it was asked for (RFC 9110, section 14.4)."""
    return header is not None and re.match(rf"bytes {offset}-", header) is not None


def _code(status: object) -> str:
    return re.sub(r"[^\w-]", "", str(status))[:40]


def _seconds(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
