"""Contents on their way up: in one request (simple, multipart) and in resumable sessions (Drive API v3, "Upload file data")."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any

from tests.destinations.drive.discovery import Selection
from tests.destinations.drive.errors import JSON, ApiError
from tests.destinations.drive.files import Files
from tests.destinations.drive.people import AccessToken
from tests.destinations.drive.resource import shown
from tests.destinations.drive.store import BYTES, Digests, Item
from tests.destinations.drive.world import World
from tests.destinations.tls_proxy import PIECE, Request, Response

STEP = 256 << 10
"""Chunks are multiples of this, the last one aside."""
RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
LARGEST_MULTIPART = 256 << 20
"""Ours: such a body is held in memory. Google says 5 MB, and takes more."""


@dataclass
class Target:
    """What a finished upload becomes: a new item, or the new content of `file_id`."""

    token: AccessToken
    params: Mapping[str, str]
    body: Mapping[str, Any]
    selection: Selection
    file_id: str = ""


@dataclass
class Session:
    """A resumable upload. Its address is all that a client needs to go on."""

    id: str
    target: Target
    draft: Item | None
    mime_type: str
    total: int | None
    path: Path
    expires: float
    digests: Digests = field(default_factory=Digests)
    lock: threading.Lock = field(default_factory=threading.Lock)
    answer: dict[str, Any] | None = None


class Uploads:
    """All uploads."""

    def __init__(self, world: World, files: Files) -> None:
        self.world, self.files = world, files
        self.folder = world.folder / "sessions"
        self.folder.mkdir(exist_ok=True)
        self.sessions: dict[str, Session] = {}

    # --- in one request

    def simple(self, target: Target, request: Request) -> dict[str, Any]:
        """`uploadType=media`: the body is the content."""
        return self.taken_in(target, request.headers.get("Content-Type", BYTES), request.body)

    def multipart(self, target: Target, metadata: Mapping[str, Any], mime_type: str, content: IO[bytes]) -> dict[str, Any]:
        """`uploadType=multipart`, already taken apart."""
        target.body = metadata
        return self.taken_in(target, mime_type, content)

    def taken_in(self, target: Target, mime_type: str, content: IO[bytes]) -> dict[str, Any]:
        source, digests = self.folder / secrets.token_hex(16), Digests()
        self.pour(content, source, digests, None)
        with self.world.lock:
            draft = self.start(target, mime_type, digests.size)
            return self.finish(target, draft, mime_type, source, digests)

    def start(self, target: Target, mime_type: str, size: int) -> Item | None:
        """Check all that can be checked before the content is there; the draft of a new item."""
        if target.file_id:
            item = self.files.editable(target.token, target.file_id, target.params)
            if item.size is None:
                raise ApiError(403, "fileNotDownloadable")
            self.files.room(target.token, item, max(0, size - item.size))
            return None
        draft = self.files.draft(target.token, {"mimeType": mime_type, **target.body}, target.params)
        self.files.room(target.token, draft, size)
        return draft

    def finish(self, target: Target, draft: Item | None, mime_type: str, source: Path, digests: Digests) -> dict[str, Any]:
        """The content is complete: the file appears, or changes."""
        self.world.count_upload(target.token.account, digests.size)
        if self.world.tick("corrupt_uploads_left"):
            digests = _spoil(source)
        if draft is None:
            item = self.files.editable(target.token, target.file_id, target.params)
            self.files.room(target.token, item, max(0, digests.size - (item.size or 0)))
            self.world.store.keep(item, source, digests)
            return self.files.update(target.token, target.file_id, target.params, target.body, target.selection)
        self.files.room(target.token, draft, digests.size)
        self.files.free(draft.id)
        self.world.store.keep(draft, source, digests)
        self.files.appear(target.token, draft)
        return shown(self.world, target.token, draft, target.selection)

    @staticmethod
    def pour(content: IO[bytes], path: Path, digests: Digests, limit: int | None) -> None:
        """Add content, at most `limit` bytes, to a file."""
        with open(path, "ab") as file:
            while piece := content.read(PIECE if limit is None else min(PIECE, limit)):
                file.write(piece)
                digests.update(piece)
                limit = None if limit is None else limit - len(piece)

    # --- sessions

    def open(self, target: Target, request: Request) -> Response:
        """`uploadType=resumable`: the answer names the address to send the content to."""
        announced = request.headers.get("X-Upload-Content-Length")
        mime_type = request.headers.get("X-Upload-Content-Type", BYTES)
        total = None if announced is None else int(announced)
        with self.world.lock:
            draft = self.start(target, mime_type, total or 0)
            if draft is not None and self.world.manners.conflict_at == "start":
                self.files.free(draft.id)
            name = "AJRbA5" + secrets.token_urlsafe(96)
            path = self.folder / secrets.token_hex(16)
            path.touch()
            expires = self.world.now() + self.world.manners.session_life
            self.sessions[name] = Session(name, target, draft, mime_type, total, path, expires)
        return Response(200, {"Location": self.address(request, name), "X-GUploader-UploadID": name})

    def address(self, request: Request, name: str) -> str:
        return f"https://{request.host}{request.path}?uploadType=resumable&upload_id={name}"

    def find(self, name: str) -> Session:
        """A session that lives; raises ApiError 404 or 410."""
        session = self.sessions.get(name)
        if session is None or session.expires < self.world.now():
            raise ApiError(self.world.manners.gone_status, "notFound", "Upload session not found.")
        return session

    def take(self, name: str, request: Request) -> Response:
        """A chunk, the whole content, or a question how far the upload is."""
        session = self.find(name)
        with session.lock:
            if session.answer is not None:
                return _json(session.answer)
            first, last, total = self.asked(session, request)
            if first is not None:
                early = self.store_chunk(session, request, first, last)
                if request.ended != "complete":
                    return Response(400)
                if early is not None:
                    return early
            if total is not None and session.digests.size == total:
                return self.ended(session)
            return self.stored_so_far(session)

    def asked(self, session: Session, request: Request) -> tuple[int | None, int, int | None]:
        """The range that a request sends (first None: a question) and the total; raises ApiError where it makes no sense."""
        text = request.headers.get("Content-Range")
        if text is None:
            size = request.announced if request.announced is not None else request.size
            return 0, size - 1, self.agreed(session, size)
        if (found := RANGE.fullmatch(text)) is None:
            raise ApiError(400, "badRequest", "Failed to parse Content-Range header.")
        total = None if found[3] == "*" else int(found[3])
        if found[1] is None:
            return None, 0, self.agreed(session, total)
        first, last = int(found[1]), int(found[2])
        if request.announced is not None and request.announced != last - first + 1:
            raise ApiError(400, "badRequest", "Content-Length does not match Content-Range.")
        if first > session.digests.size:
            raise ApiError(400, "badRequest", "Content-Range starts beyond what is stored.")
        if (total is None and (last + 1 - first) % STEP) or (total is not None and last + 1 != total and (last + 1 - first) % STEP):
            raise ApiError(400, "badRequest", "A chunk that is not the last must be a multiple of 256 KiB.")
        if total is not None and last >= total:
            raise ApiError(400, "badRequest", "Content-Range ends beyond its total.")
        return first, last, self.agreed(session, total)

    @staticmethod
    def agreed(session: Session, total: int | None) -> int | None:
        """The total, which never changes once it was named."""
        if total is not None and session.total is not None and total != session.total:
            raise ApiError(400, "badRequest", "Upload size differs from what was announced.")
        session.total = session.total if total is None else total
        return session.total

    def store_chunk(self, session: Session, request: Request, first: int, last: int) -> Response | None:
        """Add what is new of a chunk. An answer where the server's manners of the day ask for one."""
        if self.world.tick("stuck_left"):
            return self.stored_so_far(session)
        overlap = session.digests.size - first
        if overlap:
            request.body.seek(min(overlap, request.size))
        limit = max(0, request.size - overlap)
        short = request.ended == "complete" and limit > STEP and self.world.tick("short_acks_left")
        if short or request.ended != "complete":
            limit = (limit // 2 if short else limit) // STEP * STEP
        self.pour(request.body, session.path, session.digests, limit)
        if session.draft is not None:
            self.files.room(session.target.token, session.draft, session.digests.size)
        if short:
            return self.stored_so_far(session)
        if last + 1 != session.total and self.world.tick("moved_sessions_left"):
            return self.moved(session, request)
        return None

    def moved(self, session: Session, request: Request) -> Response:
        """The upload goes on under another address; the old one still works."""
        name = "AJRbA6" + secrets.token_urlsafe(96)
        self.sessions[name] = session
        so_far = self.stored_so_far(session)
        return Response(308, {**so_far.headers, "Location": self.address(request, name)})

    @staticmethod
    def stored_so_far(session: Session) -> Response:
        size = session.digests.size
        return Response(308, {"Range": f"bytes=0-{size - 1}"} if size else {})

    def ended(self, session: Session) -> Response:
        try:
            with self.world.lock:
                session.answer = self.finish(session.target, session.draft, session.mime_type, session.path, session.digests)
        except ApiError:
            self.sessions = {name: other for name, other in self.sessions.items() if other is not session}
            session.path.unlink(missing_ok=True)
            raise
        return _json(session.answer)


def _json(answer: Mapping[str, Any]) -> Response:
    return Response(200, {"Content-Type": JSON}, json.dumps(answer).encode())


def _spoil(path: Path) -> Digests:
    """One bit of what is stored is wrong; the checksums are those of what is stored."""
    data, digests = bytearray(path.read_bytes()), Digests()
    if data:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
    digests.update(bytes(data))
    return digests


def parts(headers: Message, body: IO[bytes]) -> tuple[dict[str, Any], str, bytes]:
    """Take a `multipart/related` body apart (RFC 2387): metadata, media type and content. Raises ApiError."""
    boundary = headers.get_param("boundary")
    data = body.read(LARGEST_MULTIPART + 1)
    if not isinstance(boundary, str) or len(data) > LARGEST_MULTIPART:
        raise ApiError(400, "badRequest", "Multipart must have a boundary, and be small.")
    mark = b"--" + boundary.encode()
    start = data.find(mark)
    line = b"\r\n" if data[start + len(mark) : start + len(mark) + 2] == b"\r\n" else b"\n"
    end = data.rfind(line + mark + b"--")
    middle = data.find(line + mark + line, start + 1)
    if start < 0 or middle < 0 or end < middle:
        raise ApiError(400, "badRequest", "Multipart must contain exactly two non-empty parts.")
    _, text = _part(data[start + len(mark) + len(line) : middle], line)
    head, content = _part(data[middle + len(line + mark + line) : end], line)
    try:
        metadata = json.loads(text)
    except ValueError:
        raise ApiError(400, "parseError") from None
    found = re.search(rb"(?im)^content-type:\s*([^\r\n]+)", head)
    return metadata, found[1].decode() if found else BYTES, content


def _part(data: bytes, line: bytes) -> tuple[bytes, bytes]:
    head, _, content = data.partition(line + line)
    return head, content
