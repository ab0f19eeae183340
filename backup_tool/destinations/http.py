"""A small HTTP client for destinations that speak HTTP, over the standard library's.

The other side is foreign, maybe broken or hostile: every wait, size and count is bounded, certificates are always verified, and a request
never goes to another server than the one that was named, so that its password cannot.
"""

from __future__ import annotations

import base64
import email.message
import email.utils
import http
import http.client
import ipaddress
import os
import re
import selectors
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

from backup_tool import __version__
from backup_tool.destinations.limits import UploadLimit
from backup_tool.errors import BackupError, NoSpace, SignInNeeded, Unreachable, UsageError
from backup_tool.models import Secret
from backup_tool.names import shown

CONNECT_SECONDS = 30.0
STALL_SECONDS = 120.0
"""So long not a byte may come or go."""
LONGEST_SECONDS = 600.0
SLOWEST = 8192
"""A request may take LONGEST_SECONDS, and a second more for each SLOWEST bytes that it moves."""
MAX_REDIRECTS = 3
PIECE = 2**16
_IDLE_SECONDS = 50.0
"""Connections unused for longer are not used again: many servers and routers drop them after 60 s."""
_REDIRECTS = {301, 302, 303, 307, 308}
_WORTH_A_RETRY = {408, 421, 425, 429}
_FULL = {413, 507}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and who we are there. `path` begins and ends with a slash, percent-encoded."""

    secure: bool
    host: str
    port: int
    path: str = "/"
    user: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL as a person writes it. Raises UsageError, which never repeats a password."""
        try:
            parts = urllib.parse.urlsplit(url.strip())
            host, port = parts.hostname or "", parts.port
            host.encode("idna")
        except ValueError:
            raise _no_address() from None
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not url.strip().isprintable():
            raise _no_address()
        if parts.scheme == "http" and not is_loopback(host):
            hint = "use https://, or bring the server's port to this machine: ssh -L 8000:localhost:8000 SERVER"
            raise UsageError(f"http:// to {shown(host)} would send the password for anyone to read", hint)
        path = urllib.parse.quote(urllib.parse.unquote(parts.path), safe="/-_.~!$&'()*+,;=:@")
        unquote = urllib.parse.unquote
        user, password = unquote(parts.username or ""), Secret(unquote(parts.password or ""))
        return cls(
            parts.scheme == "https", host, port or (443 if parts.scheme == "https" else 80), f"/{path.strip('/')}/".replace("//", "/"),
            user, password,
        )  # fmt: skip

    def by(self, user: str) -> Address:
        """With this user, where none is named yet."""
        return replace(self, user=self.user or user)

    @property
    def origin(self) -> tuple[bool, str, int]:
        """What tells one server from another."""
        return self.secure, self.host.lower(), self.port

    @property
    def authority(self) -> str:
        """Host and port as they stand in URLs and in the header Host: the port only where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def label(self) -> str:
        """The URL without the password."""
        user = urllib.parse.quote(self.user, safe="") + "@" if self.user else ""
        return shown(f"{'https' if self.secure else 'http'}://{user}{self.authority}{self.path}", 500)


def _no_address() -> UsageError:
    return UsageError("that is not the address of a server", "write it like https://user@backup.example.org:8000/archive/")


def is_loopback(host: str) -> bool:
    """True where nothing leaves this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A program that carries encrypted connections to servers outside (RFC 9110, section 9.3.6: CONNECT)."""

    host: str
    port: int
    sign_in: Secret = field(default_factory=lambda: Secret(""))

    @classmethod
    def for_host(cls, host: str) -> Proxy | None:
        """The one that this machine's settings name for that host (`https_proxy`, `all_proxy`, `no_proxy`, or the system's), or None.

        Raises UsageError for one of a kind that is not spoken here: going around it could be against the rules of the place.
        """
        named = urllib.request.getproxies()
        url = named.get("https") or named.get("all")
        if not url or urllib.request.proxy_bypass(host):
            return None
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
            if parts.scheme == "http" and parts.hostname:
                user, password = (urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
                return cls(parts.hostname, parts.port or 80, Secret(f"{user}:{password}" if parts.username else ""))
        except ValueError:
            pass
        hint = "name one as http://HOST:PORT in https_proxy, or exempt the server in no_proxy"
        raise UsageError("the proxy that https_proxy or all_proxy names is of a kind that is not spoken here", hint)


class Reply:
    """An answer: its status, its headers, and its body, which is read at most once."""

    def __init__(self, client: HttpClient, method: str, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self._client, self._response = client, response
        bodiless = method == "HEAD" or response.status in (204, 304)
        self._left = 0 if bodiless else _whole_number(response.headers.get("Content-Length"))
        self.complete = self._left == 0

    @property
    def length(self) -> int | None:
        """What the header Content-Length says; None where it is missing or no number."""
        return _whole_number(self.headers.get("Content-Length"))

    def pieces(self) -> Iterator[bytes]:
        """The body. Raises Unreachable where it breaks off; one whose length is not told could do so unseen, so it is not read at all."""
        if self._left is None and not self._response.chunked:
            raise Unreachable(f"{self._client.label} gave a broken answer (it does not say how long it is)", _AGAIN)
        while not self.complete:
            with self._client.errors():
                piece = self._response.read1(PIECE if self._left is None else min(PIECE, self._left))
            if not piece and self._left is not None:
                raise Unreachable(f"{self._client.label} broke off in the middle of an answer", _AGAIN)
            self._left = None if self._left is None else self._left - len(piece)
            self.complete = not piece or self._left == 0
            if piece:
                yield piece

    def read(self, limit: int, *, skip: int = 0, cut: bool = False) -> bytes:
        """The body from byte `skip`. Raises BackupError for more than `limit` bytes, which with `cut` are left unread."""
        found: list[bytes] = []
        size = 0
        for piece in self.pieces():
            piece, skip = piece[skip:], max(0, skip - len(piece))
            found.append(piece)
            size += len(piece)
            if size > limit and not cut:
                raise BackupError(
                    f"{self._client.label} sent more than {limit:,} bytes", "see that this is the address of the right server"
                )
            if size >= limit and cut:
                break
        return b"".join(found)[:limit]


_AGAIN = "see that the network and the server are well, then run it again: what has arrived is not sent twice"


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


class HttpClient:
    """Requests to one server, from any number of threads, over connections that are kept.

    `label` names the server in errors: UsageError, SignInNeeded (401), NoSpace (413, 507), Unreachable (no connection, silence, a broken
    answer, 408, 429, 5xx; with `retry_after`), BackupError (a certificate that is not trusted, a redirect elsewhere, every other status).
    `password` is asked for the password when the first request needs it and the address has none; what it raises, the request raises.
    """

    def __init__(
        self,
        address: Address,
        label: str,
        *,
        limit: UploadLimit | None = None,
        proxy: Proxy | None = None,
        password: Callable[[], Secret] | None = None,
    ) -> None:
        self.label = label
        self._address = address
        self._proxy = proxy
        self._limit = limit
        self._context = ssl.create_default_context() if address.secure else None
        self._idle: list[_Link] = []
        self._busy: set[_Link] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._headers = {"User-Agent": f"backup/{__version__}", "Accept-Encoding": "identity"}
        self._find_password = password
        self._finding = threading.Lock()
        self._signed_in: dict[str, str] | None = None

    def _sign_in(self) -> dict[str, str]:
        """The header that signs in, found once; none where there is neither user nor password."""
        with self._finding:
            if self._signed_in is None:
                password = self._address.password
                if self._find_password is not None and not password.reveal():
                    password = self._find_password()
                who = f"{self._address.user}:{password.reveal()}"
                basic = "Basic " + base64.b64encode(who.encode("utf-8", "surrogateescape")).decode()
                self._signed_in = {"Authorization": basic} if who != ":" else {}
            return self._signed_in

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        expected: Collection[int] = (200,),
        headers: Mapping[str, str] | None = None,
        body: BinaryIO | None = None,
        size: int = 0,
        moved: int = 0,
        redirects: bool = True,
    ) -> Iterator[Reply]:
        """Ask for `path` below the address; the answer is one of `expected`. `body` has `size` bytes and is read from its start; `moved`
        is how many bytes the answer is thought to have. A redirect is followed on the same server only, unless it is expected, and none
        without `redirects`.

        Raises what the class says; what is raised inside the `with` block ends the connection.
        """
        target = self._address.path + path
        headers = {**self._headers, **self._sign_in(), **(headers or {})}
        for _ in range(MAX_REDIRECTS + 1):
            with self._exchange(method, target, headers, body, size, moved) as reply:
                if reply.status in expected:
                    yield reply
                    return
                if reply.status not in _REDIRECTS or not redirects:
                    raise self.refusal(method, reply)
                target = self._redirected(method, target, reply)
        raise BackupError(f"{self.label} sends us in circles", "see that this is the address of the right server")

    def _redirected(self, method: str, target: str, reply: Reply) -> str:
        """Where a redirect leads: only to the same server, since any other one would be given the password, or what is stored."""
        here = f"{'https' if self._address.secure else 'http'}://{self._address.host}:{self._address.port}{target}"
        try:
            url = urllib.parse.urljoin(here, reply.headers.get("Location", ""))
            there, query = Address.parse(url.partition("?")[0]), url.partition("?")[2]
        except (UsageError, ValueError):
            there, query = None, ""
        if there is None or there.origin != self._address.origin or (method not in ("GET", "HEAD") and reply.status not in (307, 308)):
            elsewhere = f": {there.label}" if there is not None else ""
            hint = "if that is your server, write its own address in the settings"
            raise BackupError(f"{self.label} sends us to another address{elsewhere}", hint)
        path = urllib.parse.urlsplit(url).path
        return (path or "/") + (f"?{query}" if query else "")

    @contextmanager
    def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: BinaryIO | None, size: int, moved: int
    ) -> Iterator[Reply]:
        link = self._take()
        seconds = LONGEST_SECONDS + (size + moved) / SLOWEST + (size / self._limit.rate if self._limit else 0)
        watchdog = threading.Timer(min(seconds, 86_400.0), link.shut)
        watchdog.daemon = True
        watchdog.start()
        keep = False
        try:
            with self.errors():
                link.connect()
                response = self._send(link.connection, method, target, headers, body, size)
            with closing(response):
                reply = Reply(self, method, response)
                yield reply
                _drain(reply)
                keep = reply.complete and not response.will_close
        finally:
            watchdog.cancel()
            self._give_back(link, keep)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: BinaryIO | None, size: int
    ) -> http.client.HTTPResponse:
        if body is None and method != "POST":
            connection.request(method, target, headers=dict(headers))
            return connection.getresponse()
        sent = _Sent(body, size, self._limit)
        try:
            connection.request(method, target, body=sent, headers={**headers, "Content-Length": str(size)})
        except (BrokenPipeError, ConnectionResetError):
            # The server may have answered before it had everything, and gone: "full", for example.
            with suppress(OSError, http.client.HTTPException):
                return _answer_so_far(connection)
            raise
        return connection.getresponse()

    def _take(self) -> _Link:
        with self._lock:
            if self._closed:
                raise Unreachable(f"the connection to {self.label} was closed", _AGAIN)
            link = self._kept() or _Link(self._address, self._context, self._proxy)
            self._busy.add(link)
        return link

    def _kept(self) -> _Link | None:
        """The connection used last, if it is still good: the server has neither closed it nor said anything unasked."""
        while self._idle:
            link = self._idle.pop()
            if time.monotonic() - link.idle_since < _IDLE_SECONDS and not link.is_readable():
                return link
            link.connection.close()
        return None

    def _give_back(self, link: _Link, keep: bool) -> None:
        with self._lock:
            self._busy.discard(link)
            if keep and not self._closed:
                link.idle_since = time.monotonic()
                self._idle.append(link)
                return
        link.connection.close()

    def close(self) -> None:
        """End all connections; requests under way in other threads fail at once."""
        with self._lock:
            self._closed = True
            busy, idle, self._idle = list(self._busy), self._idle, []
        for link in busy:
            link.shut()
        for link in idle:
            link.connection.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """The errors of sockets, TLS and HTTP as ours. None of them repeats what the server said."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            hint = "if the server has a certificate of your own, name its authority's file: SSL_CERT_FILE=/path/to/ca.pem"
            raise BackupError(f"the certificate of {self.label} is not trusted: {shown(error.verify_message.lower())}", hint) from error
        except TimeoutError as error:
            raise Unreachable(f"{self.label} did not answer in time", _AGAIN) from error
        except socket.gaierror as error:
            raise Unreachable(f"no server of that name can be found: {shown(self._address.host)}", _AGAIN) from error
        except ssl.SSLError as error:
            raise Unreachable(f"no secure connection to {self.label}: {shown((error.reason or 'it broke off').lower())}", _AGAIN) from error
        except OSError as error:
            raise Unreachable(f"{self.label} cannot be reached: {_reason(error)}", _AGAIN) from error
        except (http.client.HTTPException, ValueError) as error:
            raise Unreachable(f"{self.label} gave a broken answer ({type(error).__name__})", _AGAIN) from error

    def refusal(self, method: str, reply: Reply) -> BackupError:
        """The error of ours for an answer that is none of those expected, by its status and headers."""
        status, told = reply.status, f"{self.label} answered {method} with {_phrase(reply.status)}"
        if status == 401:
            return SignInNeeded(f"{self.label} does not accept the user or password", "see that both are right, and run it again")
        if status == 413:
            return NoSpace(f"{self.label} takes no objects of this size", "raise the server's limit, or lower pack_size in the settings")
        if status in _FULL:
            return NoSpace(f"no space left at {self.label}", "make room there, or raise its quota")
        if status in _WORTH_A_RETRY or (status >= 500 and status not in (501, 505)):
            error = Unreachable(told, _AGAIN)
            error.retry_after = retry_after(reply.headers)
            return error
        if status == 403:
            return BackupError(f"{self.label} does not allow this ({method})", "see what this user may do there")
        return BackupError(told, "see that this is the address of the right server")


class _Link:
    """One connection to the server, made when it is first used."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        host, port = (address.host, address.port) if proxy is None else (proxy.host, proxy.port)
        self.connection: http.client.HTTPConnection
        if context is not None:
            self.connection = http.client.HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=context, blocksize=PIECE)
            if proxy is not None:
                sign_in = base64.b64encode(proxy.sign_in.reveal().encode()).decode()
                headers = {"Proxy-Authorization": f"Basic {sign_in}"} if sign_in else {}
                self.connection.set_tunnel(address.host, address.port, headers)
        else:
            self.connection = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS, blocksize=PIECE)
        self.idle_since = 0.0
        self._sock: socket.socket | None = None  # http.client forgets it while the last answer is still being read

    def connect(self) -> None:
        """Be connected. Raises OSError."""
        if self.connection.sock is None:
            self.connection.connect()
            self._sock = cast(socket.socket, self.connection.sock)
            self._sock.settimeout(STALL_SECONDS)

    def shut(self) -> None:
        """Whoever waits on this connection waits no longer."""
        if self._sock is not None:
            with suppress(OSError):
                # Not the method of ssl's sockets, which would turn the encryption off under the thread that still reads.
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def is_readable(self) -> bool:
        """True where something waits to be read: on a connection nobody uses, its end."""
        if self._sock is None:
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            return bool(selector.select(0))


class _Sent:
    """A body as `http.client` reads it: from its start, exactly as many bytes as announced, no faster than allowed."""

    def __init__(self, body: BinaryIO | None, size: int, limit: UploadLimit | None) -> None:
        self._body, self._left, self._limit = body, size, limit
        if body is not None:
            body.seek(0)

    def read(self, size: int = PIECE, /) -> bytes:
        size = min(size, self._left)
        if self._limit is not None and size:
            size = self._limit.piece(size)
            self._limit.take(size)
        try:
            piece = self._body.read(size) if self._body is not None and size else b""
        except OSError as error:
            raise BackupError(f"a file could not be read while it was sent: {_reason(error)}") from error
        if len(piece) < size:
            raise BackupError("a file became shorter while it was sent", "run it again")
        self._left -= len(piece)
        return piece


def _answer_so_far(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """An answer that came before everything was sent. The connection is of no further use."""
    response = http.client.HTTPResponse(connection.sock, method="POST")
    try:
        response.begin()
    except BaseException:
        response.close()
        raise
    response.will_close = True
    return response


def _drain(reply: Reply) -> None:
    """Read what little is left of an answer, so that its connection can be used again. More is not worth it."""
    if reply.complete or (reply.length or 0) > PIECE:
        return
    with suppress(BackupError):
        reply.read(PIECE)


def _reason(error: OSError) -> str:
    if str(error).startswith("Tunnel connection failed"):  # the words of http.client
        return "the proxy named in https_proxy does not let us through"
    if isinstance(error, http.client.RemoteDisconnected) or not error.errno:
        return "it closed the connection"
    return (os.strerror(error.errno) or type(error).__name__).lower()


def _phrase(status: int) -> str:
    with suppress(ValueError):
        return f"{status} ({http.HTTPStatus(status).phrase.lower()})"
    return str(status)


def retry_after(headers: Mapping[str, str] | email.message.Message) -> float | None:
    """Seconds that a server asks to wait (RFC 9110, section 10.2.3): a number, or a date, counted from its own where it says one."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    until = http_time(text)
    return None if until is None else max(0.0, until - (http_time(headers.get("Date")) or time.time()))


def http_time(text: str | None) -> float | None:
    """Seconds since 1970 of a date in a header (RFC 9110, section 5.6.7); None where it is none."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
