"""Apple's push service for browsers, as far as a sign-in needs it: a WebSocket over which a trusted device's prompt is announced.

The client opens a WebSocket (RFC 6455), learns its push token, names that token to idmsa, and is pushed JSON messages: a device is showing
a code, or answers. The messages are protocol buffers of a few fields. The client reaches this service directly, not through the proxy: on
`localhost`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import select
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.destinations.apple_cloud.server import Apple
    from tests.destinations.tls_proxy import Authority

TOPIC = "com.apple.idmsauthwidget"
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class PushService:
    """Open connections by their push token."""

    def __init__(self, apple: Apple) -> None:
        self.apple = apple
        self.address = ""
        self.refuses = False
        self.connections: dict[str, ssl.SSLSocket] = {}
        self._lock = threading.Lock()

    def deliver(self, push_token: str, message: dict[str, Any]) -> bool:
        """Push a message to the client with that token. False if nobody has it."""
        connection = self.connections.get(push_token)
        if connection is None:
            return False
        topic = hashlib.sha1(TOPIC.encode()).digest()
        with self._lock:
            frame(connection, block(2, block(1, topic) + number(2, 1) + block(4, json.dumps(message).encode())))
        return True

    @contextlib.contextmanager
    def open(self, authority: Authority) -> Iterator[None]:
        """Listen on loopback, with a certificate for `localhost`."""
        context, service = authority.context("localhost"), self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, EOFError), context.wrap_socket(self.request, server_side=True) as connection:
                    connection.settimeout(10)
                    service.converse(connection)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        with Server(("127.0.0.1", 0), Handler) as server:
            self.address = f"localhost:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def converse(self, connection: ssl.SSLSocket) -> None:
        """One client, from its greeting to its end."""
        greeting = b""
        while not greeting.endswith(b"\r\n\r\n"):
            if not (more := connection.recv(1 << 16)):
                return
            greeting += more
        if self.refuses:
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        key = next(line.partition(b":")[2].strip() for line in greeting.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key + GUID.encode()).digest())
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        connection.sendall(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        push_token = secrets.token_bytes(32)
        self.connections[push_token.hex()] = connection
        try:
            frame(connection, block(1, block(1, base64.b64encode(push_token)) + number(2, 0)))
            while self._heard(connection):
                pass
        finally:
            del self.connections[push_token.hex()]

    def _heard(self, connection: ssl.SSLSocket) -> bytes:
        """What the client says next (its choice of topics, its receipts: nothing hangs on them here); nothing once it is gone."""
        select.select([connection], [], [], 60)
        with self._lock:  # not while something is pushed: one connection is not for two threads
            return connection.recv(1 << 16)


def frame(connection: ssl.SSLSocket, payload: bytes) -> None:
    """One unmasked binary frame, as servers send them (RFC 6455 section 5.2)."""
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + struct.pack("!H", len(payload))
    connection.sendall(b"\x82" + size + payload)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value
