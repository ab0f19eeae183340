"""A forward proxy on loopback behind which a few named hosts are played by this process; all other hosts are refused.

Programs under test run as they are: `environment()` holds the variables by which Python (httplib2, requests, urllib), Go (rclone, restic),
curl and Node send their HTTPS through a proxy and trust a given certificate authority. A client asks the proxy for a tunnel (`CONNECT`,
RFC 9110 section 9.3.6); the proxy ends TLS itself, with a certificate of an authority that is made on the spot and lives as long as the
test, and hands each request to the `Service` that plays the host. What else a client tries to reach is refused and kept in `refused`.

    service = ...                                   # has label(request) and answer(request)
    with serving(tmp_path, {"www.googleapis.com": service}) as proxy:
        subprocess.run([...], env=os.environ | proxy.environment())
        assert not proxy.refused

Request bodies beyond a megabyte wait in a temporary file, answers may be parts of files: objects of any size cost no memory. `latency` is
waited out before each request is carried out. `faults` spoils chosen requests: see `Fault`.
"""

from __future__ import annotations

import contextlib
import datetime
import email.message
import fnmatch
import io
import random
import socket
import socketserver
import ssl
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import IO, Literal, NoReturn, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PIECE = 256 << 10
IN_MEMORY = 1 << 20


@dataclass
class Request:
    """What a client asked. `body` stands at its start; `ended` tells how the body came to its end."""

    host: str
    method: str
    target: str
    headers: email.message.Message
    body: IO[bytes]
    announced: int | None = None
    """Content-Length; None: chunked, or no body."""
    size: int = 0
    """Bytes of body that arrived."""
    ended: Literal["complete", "closed", "stalled"] = "complete"
    """`closed`: the client went away amid its body; `stalled`: it announced more than it sent, and waited."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)


@dataclass(frozen=True)
class Part:
    """Bytes of a file, as the body of an answer."""

    path: Path
    start: int
    size: int

    def pieces(self) -> Iterator[bytes]:
        left = self.size
        with open(self.path, "rb") as file:
            file.seek(self.start)
            while left:
                piece = file.read(min(left, PIECE))
                if not piece:
                    raise EOFError(f"{self.path} is shorter than promised")
                left -= len(piece)
                yield piece


@dataclass(frozen=True)
class Response:
    """An answer; Content-Length is added."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Part = b""

    @property
    def size(self) -> int:
        return self.body.size if isinstance(self.body, Part) else len(self.body)

    def pieces(self) -> Iterator[bytes]:
        if isinstance(self.body, Part):
            yield from self.body.pieces()
        elif self.body:
            yield self.body


NO_ANSWER = Response(500)


class Service(Protocol):
    """Who plays a host."""

    def label(self, request: Request) -> str:
        """A short name of the operation, from the head alone (the body is not there yet): what `Faults` chooses by, and the log shows."""

    def answer(self, request: Request) -> Response:
        """Carry out a request. Also called with a body that did not come to its end; then nobody gets the answer."""


@dataclass(frozen=True)
class Fault:
    """How a request is spoiled. `effect`: it is carried out all the same (what a client cannot know).

    answer      `response` instead of the true one
    drop        the connection ends without an answer (FIN); without effect: before the body is read
    reset       the same as a crash ends it (RST)
    stall       silence for `seconds`, then the connection ends
    cut answer  half of the answer, then RST; always with effect
    cut body    half of the request's body is read, then RST; always with the effect of that half
    flip        one bit of the answer's body is wrong; always with effect
    trickle     the answer comes in small pieces spread over `seconds`; always with effect
    twice       carried out twice, the second answer is given
    """

    kind: Literal["answer", "drop", "reset", "stall", "cut answer", "cut body", "flip", "trickle", "twice"]
    effect: bool = False
    response: Response | None = None
    seconds: float = 60.0


@dataclass
class _Rule:
    labels: str
    fault: Fault
    after: int
    times: int


class Faults:
    """Which requests are spoiled. Labels are patterns (`files.*`)."""

    def __init__(self) -> None:
        self.happened: list[tuple[str, Fault]] = []
        self._rules: list[_Rule] = []
        self._random: tuple[random.Random, float, Sequence[Fault], str] | None = None
        self._lock = threading.Lock()

    def add(self, labels: str, fault: Fault, *, after: int = 0, times: int = 1) -> None:
        """Spoil `times` requests of these labels, from the one after the next `after` on."""
        with self._lock:
            self._rules.append(_Rule(labels, fault, after, times))

    def randomly(self, seed: int, rate: float, faults: Sequence[Fault], labels: str = "*") -> None:
        """Spoil this share of the requests of these labels, the same choice for the same seed and order."""
        with self._lock:
            self._random = (random.Random(seed), rate, faults, labels)

    def clear(self) -> None:
        """No further faults."""
        with self._lock:
            self._rules.clear()
            self._random = None

    def pick(self, label: str) -> Fault | None:
        """What is to become of this request."""
        with self._lock:
            fault = self._by_rule(label) or self._by_chance(label)
            if fault is not None:
                self.happened.append((label, fault))
            return fault

    def _by_rule(self, label: str) -> Fault | None:
        found = None
        for rule in self._rules:
            if not fnmatch.fnmatchcase(label, rule.labels) or rule.times == 0:
                continue
            if rule.after:
                rule.after -= 1
            elif found is None:
                rule.times -= 1
                found = rule.fault
        return found

    def _by_chance(self, label: str) -> Fault | None:
        if self._random is None or not fnmatch.fnmatchcase(label, self._random[3]):
            return None
        chance, rate, faults, _ = self._random
        return chance.choice(faults) if chance.random() < rate else None


@dataclass(frozen=True)
class Seen:
    """One line of the log. `status` 0: no answer was given. `received` counts the bytes of the body that came, `sent` the answer's."""

    host: str
    label: str
    method: str
    target: str
    status: int
    received: int
    sent: int
    fault: Fault | None
    started: float
    ended: float


class Authority:
    """A certificate authority that lives in a folder, and certificates of its own for any host."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.file = folder / "authority.pem"
        self._folder, self._contexts, self._lock = folder, dict[str, ssl.SSLContext](), threading.Lock()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of a test")])
        usage = _usage(signs_certificates=True)
        made = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, host: str) -> ssl.SSLContext:
        """How a server that is this host speaks TLS."""
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._made(host)
            return self._contexts[host]

    def _made(self, host: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        made = self._builder(name, key).add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = made.add_extension(_usage(signs_certificates=False), critical=True)
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        certificate = made.sign(self._key, hashes.SHA256())
        file = self._folder / f"{len(self._contexts)}.pem"
        file.touch(mode=0o600)
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


class Proxy(socketserver.ThreadingTCPServer):
    """The proxy. `services` names the hosts (patterns such as `*.example.org` too) and who plays them."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, folder: Path, services: Mapping[str, Service]) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.services, self.authority = dict(services), Authority(folder / "certificates")
        self.spill = folder
        self.faults = Faults()
        self.latency = 0.0
        self.on_request: Callable[[str], None] = lambda label: None
        """Called with its label when the head of a request is there: a test may wait, count, or kill the client then."""
        self.on_effect: Callable[[str], None] = lambda label: None
        """The same when a request was carried out and its answer has not left."""
        self.patience = 20.0
        """Seconds without a byte after which a client that owes more of its body counts as stalled."""
        self.seen: list[Seen] = []
        self.refused: list[str] = []
        """Every `host:port` or address that a client tried to reach and that nobody plays."""
        self.untrusting: list[str] = []
        """Every host whose certificate a client refused: it does not know the authority."""
        self.failures: list[BaseException] = []
        """Bugs of a service: what it raised. `serving` raises the first at its end."""
        self.tunnels = 0
        self.over = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """Variables by which unmodified programs use this proxy and trust its authority. Loopback addresses stay direct."""
        file = str(self.authority.file)
        proxies = {name: self.url for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")}
        direct = {name: "127.0.0.1,localhost" for name in ("NO_PROXY", "no_proxy")}
        bundles = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPLIB2_CA_CERTS", "NODE_EXTRA_CA_CERTS")
        return {**proxies, **direct, **dict.fromkeys(bundles, file)}

    def adopt(self, patch: pytest.MonkeyPatch) -> None:
        """Let clients in this process use the proxy, too: some libraries read the environment only once."""
        for name, value in self.environment().items():
            patch.setenv(name, value)
        patch.setattr("urllib.request._opener", None)
        if "httplib2" in sys.modules:
            patch.setattr("httplib2.CA_CERTS", str(self.authority.file))

    def service(self, host: str) -> Service | None:
        """Who plays this host."""
        return next((service for pattern, service in self.services.items() if fnmatch.fnmatchcase(host, pattern)), None)

    def labels(self) -> list[str]:
        """The operations so far, in order."""
        with self._lock:
            return [entry.label for entry in self.seen]

    def note(self, entry: Seen) -> None:
        with self._lock:
            self.seen.append(entry)

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        if self.over.is_set():
            self.cut()

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def cut(self) -> None:
        """End all connections, as a lost network does."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS: its state belongs to another thread

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections break here on purpose."""


class _Gone(Exception):
    """The connection is over; nothing more can be said."""


class _Tunnel(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy
    timeout = 300
    disable_nagle_algorithm = True
    host = ""

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(_Gone, OSError, ValueError):
            super().handle()

    def finish(self) -> None:
        self.server.closed(self.connection)
        with contextlib.suppress(OSError, ValueError):
            self.wfile.close()
        self.rfile.close()
        self.connection.close()

    def do_CONNECT(self) -> None:
        host = self.path.rpartition(":")[0].lower()
        if self.host or self.server.service(host) is None or not self.path.endswith(":443"):
            return self.refuse(self.path)
        self.send_response_only(200)
        self.end_headers()
        try:
            tls = self.server.authority.context(host).wrap_socket(self.connection, server_side=True)
        except OSError as failure:
            if "ALERT" in str(getattr(failure, "reason", "")):  # others just went: a browser's or Go's spare connections
                self.server.untrusting.append(host)
            raise _Gone from None
        self.server.closed(self.connection)
        self.host, self.connection = host, tls
        self.server.opened(tls)
        self.server.tunnels += 1
        self.rfile.close()
        self.rfile = cast(io.BufferedReader, tls.makefile("rb", PIECE))
        self.wfile = cast(io.BufferedWriter, tls.makefile("wb", PIECE))
        self.close_connection = False

    def refuse(self, address: str) -> None:
        self.server.refused.append(address)
        self.send_response_only(403)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def carry(self) -> None:
        service = self.server.service(self.host) if self.host else None
        if service is None:
            return self.refuse(self.path)
        with tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(self.server.spill)) as body:
            announced = self.headers.get("Content-Length")
            request = Request(
                self.host, self.command, self.path, self.headers, body, announced=int(announced) if announced is not None else None
            )
            self.exchange(service, request)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = carry

    def exchange(self, service: Service, request: Request) -> None:
        started, label = time.monotonic(), service.label(request)
        fault = self.server.faults.pick(label)
        if self.server.latency:
            self.server.over.wait(self.server.latency)
        self.server.on_request(label)
        response = None
        try:
            response = self.outcome(service, request, fault)
            self.server.on_effect(label)
        finally:  # before the answer goes out: who has it finds the request in the log
            status, sent = (response.status, response.size) if response else (0, 0)
            seen = Seen(self.host, label, request.method, request.target, status, request.size, sent, fault, started, time.monotonic())
            self.server.note(seen)
        self.give(response, fault, bodiless=request.method == "HEAD")

    def outcome(self, service: Service, request: Request, fault: Fault | None) -> Response:
        """Carry out the request as far as the fault lets it; what is to be answered."""
        kind = fault.kind if fault else ""
        if fault and kind in ("drop", "reset", "stall") and not fault.effect:
            self.break_off(fault)
        self.receive(request, (request.announced or 0) // 2 if kind == "cut body" else None)
        if fault and kind == "answer" and not fault.effect:
            return fault.response or NO_ANSWER
        response = self.carried_out(service, request)
        if fault and kind == "twice":
            request.body.seek(0)
            response = self.carried_out(service, request)
        if request.ended != "complete":
            self.break_off(Fault("reset"))
        if fault and kind in ("drop", "reset", "stall"):
            self.break_off(fault)
        return fault.response or NO_ANSWER if fault and kind == "answer" else response

    def carried_out(self, service: Service, request: Request) -> Response:
        try:
            return service.answer(request)
        except Exception as failure:
            self.server.failures.append(failure)
            raise _Gone from failure

    def receive(self, request: Request, limit: int | None) -> None:
        """Take in the body; up to `limit` bytes of it, as if the client had gone then."""
        self.connection.settimeout(self.server.patience)
        try:
            for piece in self.pieces(request):
                if limit is not None and request.size + len(piece) > limit:
                    request.body.write(piece[: limit - request.size])
                    request.size, request.ended = limit, "closed"
                    break
                request.body.write(piece)
                request.size += len(piece)
        except TimeoutError:
            request.ended = "stalled"
        except (OSError, ValueError):
            request.ended = "closed"
        self.connection.settimeout(self.timeout)
        request.body.seek(0)

    def pieces(self, request: Request) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            yield from self.chunks()
            return
        left = request.announced or 0
        while left:
            piece = self.rfile.read1(min(left, PIECE))
            if not piece:
                raise ConnectionError("body ended early")
            left -= len(piece)
            yield piece

    def chunks(self) -> Iterator[bytes]:
        """The pieces of a chunked body (RFC 9112 section 7.1)."""
        while size := int(self.rfile.readline(1 << 10).split(b";")[0], 16):
            while size:
                piece = self.rfile.read(min(size, PIECE))
                if not piece:
                    raise ConnectionError("body ended early")
                size -= len(piece)
                yield piece
            self.rfile.readline(8)
        while self.rfile.readline(1 << 16).strip():
            pass

    def give(self, response: Response, fault: Fault | None, *, bodiless: bool) -> None:
        """Answer."""
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(response.size))
        self.end_headers()
        for piece in [] if bodiless else self.spoiled(response, fault):
            self.wfile.write(piece)
        self.wfile.flush()
        if fault and fault.kind == "cut answer":
            self.break_off(fault)

    def spoiled(self, response: Response, fault: Fault | None) -> Iterator[bytes]:
        kind = fault.kind if fault else ""
        half, at = response.size // 2, 0
        for piece in response.pieces():
            if kind == "cut answer" and at + len(piece) > half:
                yield piece[: half - at]
                return
            if kind == "flip" and at <= half < at + len(piece):
                piece = piece[: half - at] + bytes([piece[half - at] ^ 1]) + piece[half - at + 1 :]
            if fault and kind == "trickle":
                yield from self.slowly(piece, fault.seconds * len(piece) / response.size)
            else:
                yield piece
            at += len(piece)

    def slowly(self, piece: bytes, seconds: float) -> Iterator[bytes]:
        step = max(1, len(piece) // 20)
        for start in range(0, len(piece), step):
            self.wfile.flush()
            self.server.over.wait(seconds / 20)
            yield piece[start : start + step]

    def break_off(self, fault: Fault) -> NoReturn:
        """End the connection without a further word. Never returns normally."""
        if fault.kind == "stall":
            self.silence(fault.seconds)
        if fault.kind != "drop":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Gone

    def silence(self, seconds: float) -> None:
        """Say nothing, until the client goes or the time is over."""
        until = time.monotonic() + seconds
        self.connection.settimeout(0.1)
        while time.monotonic() < until and not self.server.over.is_set():
            try:
                if not self.connection.recv(PIECE):
                    return
            except TimeoutError:
                continue


@contextlib.contextmanager
def serving(folder: Path, services: Mapping[str, Service]) -> Iterator[Proxy]:
    """The proxy, for as long as the block runs. A service that failed fails the block."""
    with Proxy(folder, services) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            proxy.shutdown()
            thread.join()
            proxy.cut()
    if proxy.failures:
        raise proxy.failures[0]
