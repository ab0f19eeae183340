"""The calls of Google Drive that a destination needs (Drive API v3), each tried again while there is hope, each within the budget.

One service object of Google's library for each thread: they are not made to be shared. The connections below are.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, BinaryIO, TypeVar

import msgspec
from google.api_core.client_options import ClientOptions
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaInMemoryUpload, MediaUpload

from backup_tool.destinations.gdrive import pacing
from backup_tool.destinations.gdrive.faults import AGAIN, RateLimited, Stale, Taken, Who, day_is_over, told
from backup_tool.destinations.gdrive.pacing import Pacer
from backup_tool.destinations.gdrive.transport import API, Transport, path_of
from backup_tool.destinations.http import http_time
from backup_tool.destinations.retry import Patience
from backup_tool.errors import BackupError, ObjectMissing, Unreachable

# The library tells of refusals by itself, on standard error: that is for the command line to do.
logging.getLogger("googleapiclient").addHandler(logging.NullHandler())
logging.getLogger("googleapiclient").propagate = False

T = TypeVar("T")
FOLDER = "application/vnd.google-apps.folder"
BYTES = "application/octet-stream"
FIELDS = "id,name,size,sha256Checksum,mimeType,trashed,createdTime,parents"
WALL_SECONDS = 300.0
"""So long are writes tried that Google refuses as too many, before that counts as the limit of the day."""
FRESH_SECONDS = 30.0
"""So long a new id may not be found yet everywhere at Google."""
_PAGE = 1000
_MOST_PAGES = 10_000


class File(msgspec.Struct, rename="camel"):
    """A file or folder as Drive tells of it."""

    id: str
    name: str = ""
    mime_type: str = ""
    size: int | None = None
    sha256: str | None = msgspec.field(default=None, name="sha256Checksum")
    trashed: bool = False
    created_time: str = ""
    parents: list[str] = []

    @property
    def is_folder(self) -> bool:
        """Whether it is one."""
        return self.mime_type == FOLDER

    @property
    def born(self) -> tuple[str, str]:
        """What the copies of one thing are ordered by: the oldest counts."""
        return self.created_time, self.id


class About(msgspec.Struct):
    """An account: its address, and bytes of storage, None where not told."""

    account: str
    limit: int | None
    used: int | None
    in_trash: int | None


class _Media(MediaUpload):  # type: ignore[misc]  # the library has no types
    """Tells the library how large an upload is. Its bytes never pass through it."""

    def __init__(self, size: int) -> None:
        self._size = size

    def chunksize(self) -> int:
        return self._size

    def mimetype(self) -> str:
        return BYTES

    def size(self) -> int:
        return self._size

    def resumable(self) -> bool:
        return True

    def has_stream(self) -> bool:
        return False


class Drive:
    """Google Drive for one account. May be used from several threads.

    Every call raises Unreachable, SignInNeeded, NoSpace or BackupError as `faults` says; those that need an id, ObjectMissing; those that
    make something under an id, Taken where there is something already.
    """

    def __init__(
        self,
        transport: Transport,
        who: Who,
        *,
        shared_drive: str | None = None,
        patience: Patience | None = None,
        pacer: Pacer | None = None,
    ) -> None:
        self.shared_drive = shared_drive
        self.pacer = pacer or Pacer()
        self._transport, self._who = transport, who
        self._patience = patience or Patience()
        self._now = self._patience.now
        self._wall = _Wall()
        self._threads = threading.local()
        self._ids: list[str] = []
        self._made: dict[str, float] = {}
        self._clock = 0.0
        self._lock = threading.Lock()
        self._everywhere = {"supportsAllDrives": True}
        transport.dated = self._set_clock

    def close(self) -> None:
        """End all connections and all waiting."""
        self._patience.end()
        self.pacer.end()
        self._transport.close()

    # Ids and folders

    def new_ids(self, count: int) -> list[str]:
        """Ids that only we may use, for files that are still to be made: so no repetition makes two."""
        with self._lock:
            if len(self._ids) < count:
                request = self._files().generateIds(count=max(100, count), space="drive", type="files")
                self._ids += _texts(self._call(pacing.OTHER, request).get("ids"))
            taken, self._ids = self._ids[:count], self._ids[count:]
        if len(taken) < count:
            raise Unreachable(f"{self._who.label}: Google Drive gave no ids", AGAIN)
        return taken

    def make_folder(self, id: str, name: str, parent: str) -> File:
        """Make a folder under a reserved id; one that is there under it counts."""
        body = {"id": id, "name": name, "mimeType": FOLDER, "parents": [parent]}
        request = self._files().create(body=body, fields=FIELDS, **self._everywhere)
        try:
            return self._told_of(self._call(pacing.EDIT, request, parent, write=True, makes=id))
        except Taken:
            return self.get(id)

    # Reading

    def get(self, id: str) -> File:
        """What Drive knows of an id now: never out of date."""
        return self._told_of(self._call(pacing.READ, self._files().get(fileId=id, fields=FIELDS, **self._everywhere), id))

    def find(self, query: str) -> list[File]:
        """All files and folders that match (Drive API, "Search for files and folders"); complete, or it raises."""
        where: dict[str, Any] = {"corpora": "user"}
        if self.shared_drive:
            where = {"corpora": "drive", "driveId": self.shared_drive, "includeItemsFromAllDrives": True, **self._everywhere}
        asked = {"q": query, "fields": f"nextPageToken,incompleteSearch,files({FIELDS})", "pageSize": _PAGE, "spaces": "drive", **where}
        return self._patience.run(lambda: [file for page in self._pages(asked) for file in page])

    def _pages(self, asked: Mapping[str, Any]) -> Iterator[list[File]]:
        seen: set[str] = set()
        token = None
        for _ in range(_MOST_PAGES):
            answer = self._call(pacing.LIST, self._files().list(**asked, **({"pageToken": token} if token else {})))
            if answer.get("incompleteSearch"):
                raise Unreachable(f"{self._who.label}: Google Drive could not search everywhere", AGAIN)
            yield self._convert(answer.get("files", []), list[File])
            token = answer.get("nextPageToken")
            if token is None:
                return
            if not isinstance(token, str) or token in seen:
                break
            seen.add(token)
        raise Unreachable(f"{self._who.label}: Google Drive's listing does not end", AGAIN)

    def read(self, id: str, offset: int, length: int) -> bytes:
        """Exactly `length` (1 or more) bytes of a file from `offset`. Raises Unreachable for anything else."""
        request = self._files().get_media(fileId=id, **self._everywhere)
        uri, asked = request.uri, {"Range": f"bytes={offset}-{offset + length - 1}"}

        def part() -> bytes:
            head, content = self._transport.send(uri, "GET", None, 0, asked, moved=length)
            if head.status not in (200, 206):
                raise HttpError(head, content, uri=uri)
            if len(content) != length or (head.status == 206 and not _begins_at(head.get("content-range", ""), offset)):
                raise Unreachable(f"{self._who.label}: Google Drive sent other bytes than were asked for", AGAIN)
            return content

        return self._try(part, pacing.DOWNLOAD, (id,))

    def about(self) -> About:
        """The account and its storage."""
        answer = self._call(pacing.READ, self._service().about().get(fields="user(emailAddress),storageQuota"))
        quota, user = answer.get("storageQuota", {}), answer.get("user", {})
        numbers = [int(quota[key]) if str(quota.get(key, "")).isdecimal() else None for key in ("limit", "usage", "usageInDriveTrash")]
        return About(str(user.get("emailAddress", "")), *numbers)

    # Writing

    def create(self, id: str, name: str, parent: str, data: bytes) -> File:
        """Store a small file in one request."""
        media = MediaInMemoryUpload(data, mimetype=BYTES, resumable=False)
        request = self._files().create(body=_described(id, name, parent), media_body=media, fields=FIELDS, **self._everywhere)
        return self._told_of(self._call(pacing.EDIT, request, parent, write=True, makes=id))

    def begin(self, id: str, name: str, parent: str, size: int) -> str:
        """Begin an upload in parts (Drive API, "Perform a resumable upload"); the address to send them to, which is a secret."""
        request = self._files().create(body=_described(id, name, parent), media_body=_Media(size), fields=FIELDS, **self._everywhere)
        asked = {**request.headers, "X-Upload-Content-Type": BYTES, "X-Upload-Content-Length": str(size)}

        def once() -> str:
            head, content = self._transport.request(request.uri, "POST", request.body, asked)
            if head.status != 200:
                raise HttpError(head, content, uri=request.uri)
            return _session(head)

        return self._try(once, pacing.EDIT, (parent,), write=True)

    def send(self, session: str, part: BinaryIO | None, start: int, size: int, total: int) -> File | tuple[int, str]:
        """Send bytes of an upload, or ask (part None) how much of it arrived. Not tried again here: what comes next depends on the answer.

        Gives the file when it is complete, else how many bytes Drive has and where to send the rest. Raises Stale where the upload has to
        begin again.
        """
        span = f"{start}-{start + size - 1}" if part is not None and size else "*"
        headers = {"Content-Range": f"bytes {span}/{total}", "Content-Type": BYTES}
        self.pacer.take(pacing.OTHER)
        head, content = self._transport.send(session, "PUT", part, size, headers)
        if head.status in (200, 201):
            self.pacer.answered()
            file = self._told_of(self._json(content))
            self._made[file.id] = self._now()
            return file
        if head.status == 308:
            self.pacer.answered()
            return _arrived(head, total), _session(head) if "location" in head else session
        if head.status == 409:
            raise Taken
        error = told(head.status, head, content, self._who)
        if head.status in (400, 404, 410, 411, 412, 416) or isinstance(error, ObjectMissing):
            raise Stale
        self._note(error)
        raise error

    def retried(self, step: Callable[[], T]) -> T:
        """Carry out a step until it raises something else than Unreachable, or patience ends."""
        return self._write_wall(step, stores=True)

    def delete(self, id: str) -> None:
        """Remove for good; what is not there counts as removed. Who may only put into the trash (on shared drives) does that."""
        self._made.pop(id, None)
        with suppress(ObjectMissing):
            try:
                self._call(pacing.EDIT, self._files().delete(fileId=id, **self._everywhere), write=True)
            except BackupError:
                if self.shared_drive is None:
                    raise
                self.trash(id)

    def trash(self, id: str) -> None:
        """Put into the trash, from which a person may take it back for 30 days."""
        request = self._files().update(fileId=id, body={"trashed": True}, fields="id", **self._everywhere)
        self._call(pacing.EDIT, request, write=True)

    def move(self, id: str, source: str, target: str) -> None:
        """Move a file from one folder to another."""
        request = self._files().update(fileId=id, addParents=target, removeParents=source, fields="id", **self._everywhere)
        self._call(pacing.EDIT, request, write=True)

    def age(self, file: File) -> float:
        """Seconds since a file was made, by Google's clock."""
        with suppress(ValueError):
            return time.time() + self._clock - datetime.fromisoformat(file.created_time).timestamp()
        raise Unreachable(f"{self._who.label}: Google Drive does not say how old a file is", AGAIN)

    # One request

    def _service(self) -> Any:
        if not hasattr(self._threads, "service"):
            # Explicitly Google's own address: the library would let the environment rewrite it.
            options = ClientOptions(universe_domain="googleapis.com", api_endpoint=f"https://{API}/drive/v3/")
            self._threads.service = build(
                "drive", "v3", http=self._transport, static_discovery=True, cache_discovery=False, client_options=options
            )
        return self._threads.service

    def _files(self) -> Any:
        if not hasattr(self._threads, "files"):
            self._threads.files = self._service().files()
        return self._threads.files

    def _call(self, units: int, request: Any, *ids: str, write: bool = False, makes: str = "") -> dict[str, Any]:
        """Carry out a request of the library. `ids` are those that have to exist for it, `makes` is the one it makes."""
        try:
            answer: Any = self._try(lambda: request.execute(num_retries=0), units, ids, write=write, stores=bool(makes))
        finally:  # Taken tells of one that was made just now, too
            if makes:
                self._made[makes] = self._now()
        return answer if isinstance(answer, dict) else {}

    def _try(self, once: Callable[[], T], units: int, ids: Sequence[str], *, write: bool = False, stores: bool = False) -> T:
        def operation() -> T:
            self.pacer.take(units, write=write)
            try:
                answer = once()
            except HttpError as error:
                raise self._error(error, ids) from None  # its text holds the address
            except (ValueError, RecursionError):
                raise Unreachable(f"{self._who.label}: Google Drive gave a broken answer", AGAIN) from None
            self.pacer.answered()
            return answer

        return self._write_wall(operation, stores=stores) if write else self._patience.run(operation)

    def _write_wall(self, operation: Callable[[], T], *, stores: bool) -> T:
        """A refusal of writes that does not pass is the limit of the day (750 GB for each account): from then on each is tried once only,
        until one goes well that `stores` something."""

        def once() -> T:
            try:
                answer = operation()
            except RateLimited:
                if self._wall.stands(self._now()):
                    raise day_is_over(self._who) from None
                raise
            if stores:
                self._wall.passed()
            return answer

        try:
            return self._patience.run(once)
        except RateLimited:
            self._wall.found()
            raise day_is_over(self._who) from None

    def _error(self, error: HttpError, ids: Sequence[str]) -> Exception:
        status = int(error.resp.status)
        if status == 409:
            return Taken()
        ours = told(status, error.resp, error.content, self._who)
        if isinstance(ours, ObjectMissing) and any(self._now() - self._made.get(id, -FRESH_SECONDS) < FRESH_SECONDS for id in ids):
            return Unreachable(f"{self._who.label}: Google Drive does not find yet what was just stored", AGAIN)
        self._note(ours)
        return ours

    def _note(self, error: BackupError) -> None:
        if isinstance(error, RateLimited):
            self.pacer.refused()

    def _told_of(self, answer: dict[str, Any]) -> File:
        return self._convert(answer, File)

    def _convert(self, answer: Any, kind: type[T]) -> T:
        try:
            return msgspec.convert(answer, kind, strict=False)
        except (msgspec.ValidationError, RecursionError):
            raise Unreachable(f"{self._who.label}: Google Drive gave a broken answer", AGAIN) from None

    def _json(self, content: bytes) -> dict[str, Any]:
        try:
            answer = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            answer = None
        return answer if isinstance(answer, dict) else {}

    def _set_clock(self, date: str) -> None:
        there = http_time(date)
        if there is not None:
            self._clock = there - time.time()


class _Wall:
    """Since when all writes of all threads are refused as too many. Pacing is over in a minute or two, the limit of the day in hours."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._is_there = False

    def stands(self, now: float) -> bool:
        """After one more refusal: whether it is to be taken for the limit of the day."""
        self._since = now if self._since is None else self._since
        self._is_there = self._is_there or now - self._since > WALL_SECONDS
        return self._is_there

    def found(self) -> None:
        """Patience came to its end before that."""
        self._is_there = True

    def passed(self) -> None:
        """Something was stored."""
        self._since, self._is_there = None, False


def _described(id: str, name: str, parent: str) -> dict[str, Any]:
    return {"id": id, "name": name, "parents": [parent], "mimeType": BYTES}


def _session(head: Mapping[str, str]) -> str:
    """The address of an upload: at Google, since what is sent there is the archive."""
    address = head.get("location", "")
    path_of(address)
    return address


def _arrived(head: Mapping[str, str], total: int) -> int:
    """How many bytes of an upload Drive has, as a 308 tells: no header Range, nothing."""
    found = re.fullmatch(r"bytes=0-(\d{1,18})", head.get("range", ""))
    return min(int(found[1]) + 1, total) if found else 0


def _begins_at(content_range: str, offset: int) -> bool:
    return content_range.startswith(f"bytes {offset}-")


def _texts(answer: Any) -> list[str]:
    return [one for one in answer if isinstance(one, str)] if isinstance(answer, list) else []
