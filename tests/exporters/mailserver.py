"""A mail server on this machine: aiosmtpd, with TLS, sign-in, size limit, and the refusals that a test asks for.

with mail_server(users={"me@example.org": "secret"}) as server:
    …                             # smtp on server.port; its certificate is for "localhost", signed by server.authority (a file)
    server.mails[0].content       # as it came over the wire
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class Mail:
    """What arrived: sender and receivers of the envelope, and the whole message; whether it came encrypted, and who was signed in."""

    sender: str
    to: list[str]
    content: bytes
    encrypted: bool
    user: str | None


@dataclass
class MailServer:
    """What the server was told to do, and what it saw. `answers` are what it says instead of taking something, once each.

    Keys of `answers` are "DATA", "MAIL", or an address; "" as an answer drops the connection. After `most` mails it takes no more.
    """

    users: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    most: int = 1000
    port: int = 0
    authority: Path = Path()
    mails: list[Mail] = field(default_factory=list)
    connections: int = 0
    sign_ins: int = 0

    def _answer(self, to: str, server: SMTP) -> str | None:
        waiting = self.answers.get(to)
        if not waiting:
            return None
        answer = waiting.pop(0)
        if not answer:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return answer or "421 gone"

    def _signs_in(self, user: str, word: str, known: dict[str, str]) -> AuthResult:
        self.sign_ins += 1
        return AuthResult(success=known.get(user) == word, handled=False, auth_data=user)

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        """LOGIN and PLAIN."""
        assert isinstance(data, LoginPassword)
        return self._signs_in(data.login.decode(), data.password.decode(), self.users)

    # aiosmtpd finds these by their names.

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:
        """The token that comes with the command; a bad one gets an error to answer first, as Google's server does."""
        user, _, rest = base64.b64decode(args[1]).decode().removeprefix("user=").partition("\1auth=Bearer ")
        found = self._signs_in(user, rest.removesuffix("\1\1"), self.tokens)
        if not found.success:
            await server.challenge_auth(b'{"status":"400"}')
        return found

    async def handle_EHLO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if answer := self._answer("MAIL", server):
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 fine"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if answer := self._answer(address, server):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if answer := self._answer("DATA", server):
            return answer
        if len(self.mails) >= self.most:
            return "554 that is enough"
        assert envelope.mail_from is not None
        assert isinstance(envelope.content, bytes)
        user = str(session.auth_data) if session.authenticated else None
        encrypted = server.transport is not None and server.transport.get_extra_info("sslcontext") is not None
        self.mails.append(Mail(envelope.mail_from, list(envelope.rcpt_tos), envelope.content, encrypted, user))
        return "250 taken"


class _Controller(Controller):
    """On a port that the system chose."""

    def __init__(self, handler: MailServer, place: socket.socket, ssl_context: ssl.SSLContext | None, **how: Any) -> None:
        super().__init__(handler, hostname="127.0.0.1", port=place.getsockname()[1], ssl_context=ssl_context, **how)
        self._place = place

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._place, ssl=self.ssl_context)


@contextmanager
def mail_server(
    folder: Path, *, tls: str = "starttls", size: int | None = None, utf8: bool = True, sign_in: bool = True, only: str = "", **told: Any
) -> Iterator[MailServer]:
    """A running server. `tls` is "starttls", "tls" or "none"; `sign_in` says whether it wants one before it takes mail, `only` how."""
    server = MailServer(**told)
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    server.authority = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(server.authority))
    place = socket.create_server(("127.0.0.1", 0))
    server.port = place.getsockname()[1]
    controller = _Controller(
        server,
        place,
        context if tls == "tls" else None,
        tls_context=context if tls == "starttls" else None,
        require_starttls=tls == "starttls",
        data_size_limit=size,
        enable_SMTPUTF8=utf8,
        authenticator=server.authenticate,
        auth_required=sign_in and tls == "starttls",
        auth_require_tls=tls == "starttls",
        auth_exclude_mechanism=[way for way in ("PLAIN", "LOGIN", "XOAUTH2") if only and way != only],
        loop=asyncio.new_event_loop(),
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()
