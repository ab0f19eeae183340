"""Connections with an end: each request has a time limit, whatever it waits for, and all of them can be ended from outside."""

from __future__ import annotations

import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from backup_tool.errors import UsageError

CONNECT_SECONDS = 15.0
STALL_SECONDS = 120.0
"""So long not a byte may come or go."""
PIECE = 2**16
_TICK = 0.5


class Wire(HTTPAdapter):
    """The way to all servers, from any number of threads.

    `requests` knows no limit for a whole request, and no way to end one that waits in another thread: here a watchdog, or `shut`, shuts
    down the sockets in use.
    """

    def __init__(self) -> None:
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._held: set[_Held] = set()
        self._watchdog: threading.Thread | None = None
        self._over = threading.Event()
        super().__init__(pool_connections=16, pool_maxsize=8)

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        """As requests calls it, with connections that are known here."""
        super().init_poolmanager(*args, **more, blocksize=PIECE)
        self.poolmanager.pool_classes_by_scheme = self._pools()

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        """As requests calls it, with connections that are known here. Raises UsageError for a kind of proxy that they do not speak to."""
        if not proxy.lower().startswith(("http://", "https://")):
            hint = "name one as http://HOST:PORT in https_proxy, or exempt Apple in no_proxy: apple.com,icloud.com,icloud-content.com"
            raise UsageError("the proxy that https_proxy or all_proxy names is of a kind that is not spoken here", hint)
        # urllib3 lets small writes wait for one another behind a proxy, which costs each request 40 ms.
        manager = super().proxy_manager_for(proxy, **more, blocksize=PIECE, socket_options=HTTPSConnection.default_socket_options)
        manager.pool_classes_by_scheme = self._pools()
        return manager

    def _pools(self) -> dict[str, type[HTTPConnectionPool]]:
        wire = self

        class Connection(_Connection):
            """A connection that tells the wire when it is used."""

            def request(self, *args: Any, **more: Any) -> None:
                wire.is_used(self)
                super().request(*args, **more)

        class Pool(HTTPSConnectionPool):
            """A pool of them."""

            ConnectionCls = Connection

        return {"https": Pool, "http": HTTPConnectionPool}

    def send(
        self, request: Any, stream: bool = False, timeout: Any = None, verify: Any = True, cert: Any = None, proxies: Any = None
    ) -> Any:
        """Send a request; pyicloud sets no time limit for its own."""
        if self._over.is_set():
            raise ConnectionError("closed")
        return super().send(request, stream, timeout or (CONNECT_SECONDS, STALL_SECONDS), verify, cert, proxies)

    def is_used(self, connection: _Connection) -> None:
        """This thread's request goes over that connection."""
        self._connections.add(connection)
        if self._over.is_set():  # it was connected while all were shut
            connection.shut()
        holders: list[_Held] = getattr(self._mine, "holders", [])
        for held in holders:
            held.connections.add(connection)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """All that this thread asks in the block ends after so many seconds."""
        held = _Held(time.monotonic() + seconds)
        holders: list[_Held] = self._mine.__dict__.setdefault("holders", [])
        holders.append(held)
        with self._lock:
            self._held.add(held)
            if self._watchdog is None:
                self._watchdog = threading.Thread(target=self._watch, name="deadlines of requests", daemon=True)
                self._watchdog.start()
        try:
            yield
        finally:
            holders.remove(held)
            with self._lock:
                self._held.discard(held)

    def _watch(self) -> None:
        while not self._over.wait(_TICK):
            with self._lock:
                late = [held for held in self._held if held.until < time.monotonic()]
            for held in late:
                _shut(held.connections)

    def shut(self) -> None:
        """End all connections, those in use too: whoever waits on one gets an error at once."""
        self._over.set()
        _shut(self._connections)
        self.close()


class _Held:
    """The connections that a thread uses in one block, and when that has to end."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.connections: weakref.WeakSet[_Connection] = weakref.WeakSet()


def _shut(connections: weakref.WeakSet[_Connection]) -> None:
    for connection in list(connections):
        connection.shut()


class _Connection(HTTPSConnection):
    _socket: Any = None

    def connect(self) -> None:
        """Be connected, and remember the socket: http.client forgets it while the last answer is still being read."""
        super().connect()
        self._socket = self.sock

    def shut(self) -> None:
        """Whoever waits on this connection waits no longer."""
        if self._socket is not None:
            with suppress(OSError):
                # Not the method of ssl's sockets, which would turn the encryption off under the thread that still reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
