"""A proxy between a client and a server on this machine that spoils a share of the requests, the same ones for the same seed."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("503", "429", "reset", "lost", "cut body", "cut reply", "twice", "stall")
"""A busy server; one that says when to come back; no answer and no effect; no answer but the effect; half of the body arrives; half of the
answer does; the request is carried out twice; silence."""


class Faulty(ThreadingHTTPServer):
    """The proxy. `requests` counts what clients asked, `faults` names what became of those that were spoiled."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str, seed: int, rate: float, faults: tuple[str, ...] = FAULTS) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.rate, self.choice = rate, faults
        self.requests = 0
        self.faults: list[tuple[str, str]] = []
        self.over = threading.Event()
        self._random, self._lock = random.Random(seed), threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def fault(self, method: str) -> str | None:
        with self._lock:
            self.requests += 1
            if self._random.random() >= self.rate:
                return None
            self.faults.append((self._random.choice(self.choice), method))
            return self.faults[-1][0]

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections break here on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty
    timeout = 30
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""

    def carry(self) -> None:
        fault = self.server.fault(self.command)
        if fault == "stall":
            self.server.over.wait(10)
            return self.reset()
        if fault == "reset":
            return self.reset()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault in ("503", "429"):
            return self.answer(int(fault), {"Retry-After": "1"} if fault == "429" else {}, b"")
        if fault == "cut body" and len(body) > 1:
            self.forward(body[: len(body) // 2])
            return self.reset()
        status, headers, reply = self.forward(body)
        if fault == "twice":
            status, headers, reply = self.forward(body)
        if fault in ("lost", "cut body"):
            return self.reset()
        if fault == "cut reply":
            if reply:
                self.answer(status, {**headers, "Content-Length": str(len(reply))}, reply[: len(reply) // 2])
            return self.reset()
        return self.answer(status, headers, reply)

    do_HEAD = do_GET = do_POST = do_PUT = do_DELETE = carry

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """What the server answers; where the body is not all that was announced, nothing: the connection breaks."""
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        with contextlib.closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            if len(body) < int(self.headers.get("Content-Length", 0)):
                return 0, {}, b""
            response = connection.getresponse()
            reply = response.read()
            kept = ("Content-Type", "Content-Range", "Last-Modified", "Date", "Content-Length", "Retry-After")
            return response.status, {name: value for name in kept if (value := response.headers[name]) is not None}, reply

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def reset(self) -> None:
        """End the connection as a crash does: RST instead of FIN."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()


@contextlib.contextmanager
def faulty(upstream: str, seed: int, rate: float, faults: tuple[str, ...] = FAULTS) -> Iterator[Faulty]:
    """The proxy in front of a server, for as long as the block runs."""
    with Faulty(upstream, seed, rate, faults) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            proxy.shutdown()
            thread.join()
