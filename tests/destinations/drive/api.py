"""www.googleapis.com as far as Drive v3 goes: each request is checked against Google's discovery document, carried out, checked again."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from typing import IO, Any
from urllib.parse import parse_qsl, urlsplit

from tests.destinations.drive import uploads
from tests.destinations.drive.discovery import ALL, Method, Selection, UnknownField, drive_v3
from tests.destinations.drive.errors import JSON, ApiError, api_disabled, invalid, scope_missing
from tests.destinations.drive.files import Files
from tests.destinations.drive.people import AccessToken
from tests.destinations.drive.resource import USUAL, rfc3339, user
from tests.destinations.drive.store import Item
from tests.destinations.drive.uploads import Target, Uploads
from tests.destinations.drive.world import Call, World
from tests.destinations.tls_proxy import PIECE, Part, Request, Response

META, UPLOAD, BATCH = "/drive/v3/", re.compile(r"(?:/resumable)?/upload/drive/v3/"), "/batch/drive/v3"
EDITS = ("create", "update", "copy", "delete", "emptyTrash")
UNITS = {"drive.files.list": 100, **{f"drive.files.{name}": 50 for name in EDITS}}
"""Quota units by method; all others cost 5, content that is read 200. Google names no price of a chunk: none here."""
LARGEST_BODY = 4 << 20
BATCH_LIMIT = 100
USUAL_ANSWERS = {
    "drive.files.list": f"kind,nextPageToken,incompleteSearch,files({USUAL})",
    "drive.drives.list": "kind,nextPageToken,drives(kind,id,name)",
    "drive.drives.get": "kind,id,name",
}


@dataclass
class Context:
    """What becomes known of a request while it is carried out, for the log."""

    label: str
    method: str = ""
    token: AccessToken | None = None
    units: int = 0
    reason: str = ""
    received: int = 0
    sent: int = 0
    query: list[tuple[str, str]] = field(default_factory=list)

    @property
    def params(self) -> dict[str, str]:
        return dict(self.query)


class DriveApi:
    """The service."""

    def __init__(self, world: World) -> None:
        self.world, self.document = world, drive_v3()
        self.files = Files(world)
        self.uploads = Uploads(world, self.files)

    # --- from outside

    def label(self, request: Request) -> str:
        """`files.create` and the like; for contents `files.media`, `files.upload` (at once), `files.start`, `files.chunk`, `files.ask`."""
        http = request.headers.get("X-HTTP-Method-Override", request.method)
        query = dict(request.query)
        if request.path == BATCH:
            return "batch"
        if UPLOAD.match(request.path):
            if "upload_id" in query:
                return "files.ask" if "bytes */" in request.headers.get("Content-Range", "") else "files.chunk"
            if query.get("uploadType") == "resumable":
                return "files.start"
            return "files.upload"
        known = self.document.method(http, request.path.removeprefix(META)) if request.path.startswith(META) else None
        if known is None:
            return "unknown"
        if known[0].id == "drive.files.get" and query.get("alt") == "media":
            return "files.media"
        return known[0].id.removeprefix("drive.")

    def answer(self, request: Request) -> Response:
        context = Context(self.label(request), query=request.query)
        self.watch(request, context)
        try:
            response = self.routed(request, context)
        except ApiError as refusal:
            context.reason, response = refusal.reason, refusal.response()
        self.log(request, context, response)
        return response

    def watch(self, request: Request, context: Context) -> None:
        """Mistakes of a client below the API."""
        if request.ended == "stalled":
            self.world.violations.append(f"{context.label}: announced {request.announced} bytes, sent {request.size}, and waited")
        if context.label in ("files.upload", "files.chunk"):
            context.received = request.size

    def log(self, request: Request, context: Context, response: Response) -> None:
        token = context.token
        entry = Call(
            context.label, context.method, request.path, response.status, context.reason, context.units, context.received,
            response.size if context.label == "files.media" and response.status < 300 else 0,
            token.account.email if token else "", token.project if token else "",
        )  # fmt: skip
        with self.world.lock:
            self.world.calls.append(entry)

    def routed(self, request: Request, context: Context) -> Response:
        if request.path == BATCH:
            return self.batch(request, context)
        if "upload_id" in context.params and UPLOAD.match(request.path):
            return self.session(request, context)
        if request.ended != "complete":
            return Response(400)
        http, body = request.method, request.body
        if "X-HTTP-Method-Override" in request.headers:
            http = request.headers["X-HTTP-Method-Override"]
            context.query += parse_qsl(request.body.read(LARGEST_BODY).decode(), keep_blank_values=True)
            body = io.BytesIO()
        upload = UPLOAD.match(request.path)
        below = request.path[upload.end() :] if upload else request.path.removeprefix(META)
        found = self.document.method(http, below) if upload or request.path.startswith(META) else None
        if found is None or (upload and not found[0].media):
            self.world.violations.append(f"no such method: {http} {request.path}")
            raise ApiError(404, "notFound", "The requested URL was not found on this server.")
        method, values = found
        self.admit(request, context, method)
        if upload:
            return self.upload(request, context, method, values)
        return self.plain(request, context, method, values, body)

    # --- may it?

    def admit(self, request: Request, context: Context, method: Method) -> None:
        """Check a request's head: token, parameters, scope, quota. Raises ApiError."""
        context.method = method.id
        context.token = token = self.world.bearer(request.headers.get("Authorization"))
        if token.client is not None and not token.client.api_enabled:
            raise api_disabled(token.project)
        self.blame(list(self.document.parameter_faults(method, context.query)))
        if method.scopes and not token.scopes & method.scopes:
            raise scope_missing(method.id)
        units = 200 if context.label == "files.media" else UNITS.get(method.id, 5)
        self.world.spend(token, units)
        context.units = units

    def blame(self, faults: list[str]) -> None:
        """A client departed from the document: it is told so, and the test run fails."""
        if faults:
            self.world.violations += faults
            raise ApiError(400, "badRequest", faults[0])

    def selection(self, method: Method, params: Mapping[str, str]) -> Selection:
        if not params.get("fields"):  # rclone sends an empty one
            if method.id == "drive.about.get":
                raise ApiError(400, "required", "The 'fields' parameter is required for this method.", location="fields")
            usual = USUAL_ANSWERS.get(method.id, USUAL if method.answer == "File" else "")
            return self.document.selection(method, usual) if usual else ALL
        try:
            return self.document.selection(method, params["fields"])
        except UnknownField as fault:
            raise ApiError(400, "invalidParameter", f"Invalid field selection {fault}", location="fields") from None

    def body(self, method: Method, text: bytes) -> dict[str, Any]:
        """The JSON of a request; raises ApiError."""
        if not text:
            return {}
        try:
            found = json.loads(text)
        except ValueError:
            raise ApiError(400, "parseError") from None
        return self.checked_body(method, found)

    def checked_body(self, method: Method, found: Any) -> dict[str, Any]:
        faults = list(self.document.body_faults(method, found))
        if any("is not writable" in fault for fault in faults):
            self.world.violations += faults
            raise ApiError(403, "fieldNotWritable")
        self.blame(faults)
        assert isinstance(found, dict)
        return found

    # --- methods without content

    def plain(self, request: Request, context: Context, method: Method, values: Mapping[str, str], body: IO[bytes]) -> Response:
        if context.label == "files.media":
            return self.media(request, context, values["fileId"])
        token, params = context.token, context.params
        assert token is not None
        selection = self.selection(method, params) if method.answer else ALL
        known = self.body(method, body.read(LARGEST_BODY))
        with self.world.lock:
            answer = self.carried_out(method, values, token, params, known, selection)
        if answer is None:
            return Response(204)
        return self.shown(method, answer)

    def carried_out(
        self, method: Method, values: Mapping[str, str], token: AccessToken, params: Mapping[str, str],
        body: Mapping[str, Any], selection: Selection,
    ) -> dict[str, Any] | None:  # fmt: skip
        file_id = values.get("fileId", "")
        match method.id:
            case "drive.files.list":
                return self.files.find_all(token, params, selection)
            case "drive.files.get":
                return self.files.get(token, file_id, params, selection)
            case "drive.files.create":
                return self.files.create(token, params, body, selection)
            case "drive.files.update":
                return self.files.update(token, file_id, params, body, selection)
            case "drive.files.copy":
                return self.files.copy(token, file_id, params, body, selection)
            case "drive.files.delete":
                self.files.delete(token, file_id, params)
                return None
            case "drive.files.emptyTrash":
                self.files.empty_trash(token, params)
                return None
            case "drive.files.generateIds":
                return selection.applied(self.files.generate_ids(token, params))  # type: ignore[no-any-return]
            case "drive.about.get":
                return selection.applied(self.about(token))  # type: ignore[no-any-return]
            case "drive.drives.list":
                return selection.applied(self.drives(token))  # type: ignore[no-any-return]
            case "drive.drives.get":
                return selection.applied(self.drive(token, values["driveId"]))  # type: ignore[no-any-return]
        self.world.violations.append(f"{method.id} is not served here")
        raise ApiError(501, "notImplemented", f"{method.id} is not served here")

    def shown(self, method: Method, answer: dict[str, Any]) -> Response:
        self.world.violations += self.document.answer_faults(method, answer)
        return Response(200, {"Content-Type": JSON}, json.dumps(answer).encode())

    def about(self, token: AccessToken) -> dict[str, Any]:
        account = token.account
        used = self.world.store.usage[account.email]
        quota = {
            "usage": str(used + account.elsewhere),
            "usageInDrive": str(used),
            "usageInDriveTrash": str(self.world.store.in_trash(account)),
        }
        if account.limit is not None:
            quota["limit"] = str(account.limit)
        return {
            "kind": "drive#about",
            "user": user(self.world, token, account.email),
            "storageQuota": quota,
            "maxUploadSize": "5242880000000",
            "appInstalled": False,
            "canCreateDrives": True,
        }

    def drives(self, token: AccessToken) -> dict[str, Any]:
        own = [drive for drive in self.world.store.drives.values() if token.account.email in drive.roles]
        return {"kind": "drive#driveList", "drives": [self.drive(token, drive.id) for drive in own]}

    def drive(self, token: AccessToken, drive_id: str) -> dict[str, Any]:
        found = self.world.store.drives.get(drive_id)
        if found is None or token.account.email not in found.roles:
            raise ApiError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")
        created = rfc3339(self.world.store.items[drive_id].created)
        return {"kind": "drive#drive", "id": found.id, "name": found.name, "createdTime": created, "hidden": found.hidden}

    # --- content

    def media(self, request: Request, context: Context, file_id: str) -> Response:
        """`alt=media`: the bytes, or a range of them (RFC 9110 section 14)."""
        token, params = context.token, context.params
        assert token is not None
        with self.world.lock:
            item = self.files.find(token, file_id, params.get("supportsAllDrives") == "true")
        if item.size is None:
            raise ApiError(403, "fileNotDownloadable", location="alt")
        if item.abusive and params.get("acknowledgeAbuse") != "true":
            raise ApiError(403, "cannotDownloadAbusiveFile")
        asked = None if self.world.manners.ignore_ranges else request.headers.get("Range")
        return self.ranged(request, item, asked)

    def ranged(self, request: Request, item: Item, asked: str | None) -> Response:
        assert item.size is not None
        path, headers = self.world.store.content(item), {"Content-Type": item.mime_type, "Cache-Control": "private, max-age=0"}
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
        if found is None or found.groups() == ("", ""):
            return self.whole(request, Part(path, 0, item.size), headers)
        if not found[1]:
            first, last = max(0, item.size - int(found[2])), item.size - 1
        else:
            first, last = int(found[1]), min(int(found[2] or item.size), item.size - 1)
        if first >= item.size or last < first:
            raise ApiError(416, "requestedRangeNotSatisfiable", location="Range", headers={"Content-Range": f"bytes */{item.size}"})
        return Response(206, {**headers, "Content-Range": f"bytes {first}-{last}/{item.size}"}, Part(path, first, last - first + 1))

    def whole(self, request: Request, part: Part, headers: dict[str, str]) -> Response:
        if self.world.manners.gzip and "gzip" in request.headers.get("Accept-Encoding", ""):
            return Response(200, {**headers, "Content-Encoding": "gzip"}, gzip.compress(b"".join(part.pieces())))
        return Response(200, headers, part)

    def upload(self, request: Request, context: Context, method: Method, values: Mapping[str, str]) -> Response:
        """A new file with its content, or new content for a file."""
        token, params = context.token, context.params
        assert token is not None
        target = Target(token, params, {}, self.selection(method, params), values.get("fileId", ""))
        match params.get("uploadType"):
            case "resumable":
                target.body = self.body(method, request.body.read(LARGEST_BODY))
                return self.uploads.open(target, request)
            case "multipart":
                metadata, mime_type, content = uploads.parts(request.headers, request.body)
                answer = self.uploads.multipart(target, self.checked_body(method, metadata), mime_type, io.BytesIO(content))
                return self.shown(method, answer)
            case "media":
                return self.shown(method, self.uploads.simple(target, request))
        raise invalid("uploadType")

    def session(self, request: Request, context: Context) -> Response:
        """A request to the address of a resumable upload: it needs no credentials, but none that are wrong."""
        if request.method not in ("PUT", "POST"):
            raise ApiError(400, "badRequest", "An upload goes on with PUT.")
        if "Authorization" in request.headers and request.ended == "complete":
            self.world.bearer(request.headers["Authorization"])
        session = self.uploads.find(context.params["upload_id"])
        context.token = session.target.token
        response = self.uploads.take(session.id, request)
        if session.answer is not None:
            context.method = "drive.files.update" if session.target.file_id else "drive.files.create"
            found = next(method for method in self.document.methods if method.id == context.method)
            self.world.violations += self.document.answer_faults(found, session.answer)
        return response

    # --- several calls in one

    def batch(self, request: Request, context: Context) -> Response:
        """Up to a hundred calls as `multipart/mixed` parts of `application/http`, each answered on its own."""
        head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n".encode()
        message = BytesParser().parsebytes(head + request.body.read(LARGEST_BODY))
        inner = message.get_payload()
        if not isinstance(inner, list) or len(inner) > BATCH_LIMIT:
            raise ApiError(400, "badRequest", f"The batch request must hold 1 to {BATCH_LIMIT} calls.")
        boundary, answers = "batch_of_answers", []
        for part in inner:
            assert isinstance(part, Message)
            text = part.get_payload(decode=True)
            answer = self.one_of_batch(request, text if isinstance(text, bytes) else b"")
            name = str(part["Content-ID"]).strip("<>")
            answers.append(f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <response-{name}>\r\n\r\n".encode() + answer)
        body = b"\r\n".join([*answers, f"--{boundary}--\r\n".encode()])
        return Response(200, {"Content-Type": f"multipart/mixed; boundary={boundary}"}, body)

    def one_of_batch(self, outer: Request, text: bytes) -> bytes:
        head, _, body = text.replace(b"\r\n", b"\n").partition(b"\n\n")
        first, _, rest = head.partition(b"\n")
        http, target, *_ = first.decode().split(" ")
        headers = BytesParser().parsebytes(rest + b"\n\n")
        if "Authorization" not in headers and "Authorization" in outer.headers:
            headers["Authorization"] = outer.headers["Authorization"]
        url = urlsplit(target)
        inner = Request(outer.host, http, url.path + (f"?{url.query}" if url.query else ""), headers, io.BytesIO(body), size=len(body))
        response = self.answer(inner)
        content = b"".join(response.pieces())[: 64 * PIECE]
        lines = [f"HTTP/1.1 {response.status} -", *(f"{name}: {value}" for name, value in response.headers.items())]
        return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content
