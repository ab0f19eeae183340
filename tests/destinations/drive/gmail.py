"""gmail.googleapis.com as far as sending goes (Gmail v1, users.messages.send), checked against Google's discovery document.

The upload protocol is that of Google's guide "Upload attachments": at once (`media`), or in a session that is begun, given the mail, and
may be asked how far it is. The words of refusals are those that people have reported.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import secrets
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from tests.destinations.drive.discovery import Method, gmail_v1
from tests.destinations.drive.errors import JSON, ApiError, api_disabled, scope_missing
from tests.destinations.drive.people import AccessToken, Account
from tests.destinations.drive.resource import rfc3339
from tests.destinations.drive.world import World
from tests.destinations.tls_proxy import Request, Response

PATH = "/upload/gmail/v1/users/me/messages/send"
STEP = 256 << 10
RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


@dataclass
class Sent:
    """A mail that left: whose it is, and its bytes."""

    account: Account
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        """As a mail program reads it."""
        found = email.message_from_bytes(self.raw, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        return found


@dataclass
class Session:
    """A mail on its way up."""

    token: AccessToken
    total: int
    stored: bytearray = field(default_factory=bytearray)
    answer: dict[str, Any] | None = None


class Gmail:
    """The service, with what it does on a given day. Labels: `mail.start`, `mail.send`, `mail.ask`, `mail.at once`."""

    def __init__(self, world: World) -> None:
        self.world, self.document = world, gmail_v1()
        self.sent: list[Sent] = []
        self.sessions: dict[str, Session] = {}
        self.host = "gmail.googleapis.com"
        """Where sessions are said to be: Google's guide shows its address of old as well."""
        self.per_day: int | None = None
        """Mails that an account may still send today."""
        self.forgets = False
        """A session is unknown as soon as its mail was sent."""
        self.holds_back = 0
        """So many times the whole mail is there and the answer says that it is not sent yet."""

    def label(self, request: Request) -> str:
        query = dict(request.query)
        if "upload_id" in query:
            return "mail.ask" if "bytes */" in request.headers.get("Content-Range", "") else "mail.send"
        return "mail.start" if query.get("uploadType") == "resumable" else "mail.at once"

    def answer(self, request: Request) -> Response:
        try:
            with self.world.lock:
                return self.routed(request)
        except ApiError as refusal:
            return refusal.response()

    def routed(self, request: Request) -> Response:
        query = dict(request.query)
        found = self.document.method("POST", request.path.removeprefix("/upload/"))
        if found is None or not found[0].media or request.path != PATH:
            self.world.violations.append(f"no such method: {request.method} {request.path}")
            raise ApiError(404, "notFound")
        method, _ = found
        self.blame(list(self.document.parameter_faults(method, request.query)))
        if "upload_id" in query:
            return self.further(request, query["upload_id"], method)
        token = self.admitted(request, method)
        if query.get("uploadType") == "media":
            self.fits(method, request.headers.get("Content-Type", ""), request.size)
            return self.shown(method, self.sends(token, request.body.read()))
        if request.method != "POST" or query.get("uploadType") != "resumable":
            self.blame([f"{method.id}: {request.method} with uploadType {query.get('uploadType')}"])
        if request.size:
            self.blame(list(self.document.body_faults(method, json.loads(request.body.read()))))
        total = int(request.headers["X-Upload-Content-Length"])
        self.fits(method, request.headers.get("X-Upload-Content-Type", ""), total)
        name = secrets.token_urlsafe(60)
        self.sessions[name] = Session(token, total)
        return Response(200, {"Location": f"https://{self.host}{PATH}?uploadType=resumable&upload_id={name}"})

    def admitted(self, request: Request, method: Method) -> AccessToken:
        """Whose request it is; raises ApiError where it may not send."""
        token = self.world.bearer(request.headers.get("Authorization"))
        if token.client is not None and not token.client.gmail_enabled:
            raise api_disabled(token.project, "gmail", "Gmail")
        if not token.scopes & method.scopes:
            raise scope_missing(method.id, "gmail")
        return token

    def fits(self, method: Method, media_type: str, size: int) -> None:
        if media_type != "message/rfc822":
            self.blame([f"{method.id}: a mail that is said to be {media_type!r}"])
        if size > method.largest:
            raise ApiError(413, "uploadTooLarge", "Upload too large.")

    def blame(self, faults: list[str]) -> None:
        """A client departed from the document: it is told so, and the test run fails."""
        if faults:
            self.world.violations += faults
            raise ApiError(400, "badRequest", faults[0])

    def further(self, request: Request, name: str, method: Method) -> Response:
        """The mail, the rest of it, or the question how far it is."""
        session = self.sessions.get(name)
        if session is None:
            raise ApiError(404, "notFound", "Upload session not found.")
        if session.answer is not None:
            return self.shown(method, session.answer)
        self.world.bearer(request.headers.get("Authorization"))
        asked = RANGE.fullmatch(request.headers.get("Content-Range", ""))
        if request.method != "PUT" or asked is None or int(asked[3]) != session.total:
            self.blame([f"{method.id}: {request.method} with Content-Range {request.headers.get('Content-Range')!r}"])
            raise AssertionError
        if asked[1] is not None:
            self.take(session, request, int(asked[1]), int(asked[2]))
        if request.ended != "complete" or len(session.stored) < session.total:
            return self.stored(session)
        if self.holds_back:
            self.holds_back -= 1
            return self.stored(session)
        session.answer = self.sends(session.token, bytes(session.stored))
        if self.forgets:
            del self.sessions[name]
        return self.shown(method, session.answer)

    def take(self, session: Session, request: Request, first: int, last: int) -> None:
        if first != len(session.stored) or last != session.total - 1:
            self.blame([f"bytes {first}-{last} where {len(session.stored)} of {session.total} are there"])
        if request.ended != "complete":
            session.stored += request.body.read(request.size // STEP * STEP)
            return
        if request.size != last - first + 1:
            self.blame([f"{request.size} bytes as bytes {first}-{last}"])
        session.stored += request.body.read()

    def stored(self, session: Session) -> Response:
        there = len(session.stored)
        return Response(308, {"Range": f"bytes=0-{there - 1}"} if there else {})

    def sends(self, token: AccessToken, raw: bytes) -> dict[str, Any]:
        """The mail leaves; raises ApiError."""
        mail = Sent(token.account, raw)
        receivers = [one.addr_spec for name in ("To", "Cc", "Bcc") for one in getattr(mail.message[name], "addresses", ())]
        if not receivers:
            raise ApiError(400, "invalidArgument", "Recipient address required", status="INVALID_ARGUMENT")
        if any(one.endswith(".invalid") for one in receivers):
            raise ApiError(400, "invalidArgument", "Invalid To header", status="INVALID_ARGUMENT")
        if self.per_day is not None and self.per_day <= 0:
            until = rfc3339(self.world.now() + 20 * 3600)
            message = f"User-rate limit exceeded.  Retry after {until} (Mail sending)"
            raise ApiError(429, "rateLimitExceeded", message, status="RESOURCE_EXHAUSTED")
        self.per_day = None if self.per_day is None else self.per_day - 1
        self.sent.append(mail)
        name = secrets.token_hex(8)
        return {"id": name, "threadId": name, "labelIds": ["SENT"]}

    def shown(self, method: Method, answer: dict[str, Any]) -> Response:
        self.world.violations += self.document.answer_faults(method, answer)
        return Response(200, {"Content-Type": JSON}, json.dumps(answer).encode())
