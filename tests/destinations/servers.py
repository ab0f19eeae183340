"""Servers to keep a repository at, all on this machine: one of our own for restic's REST protocol, rclone's and pyrestserver's.

Our own stands in for rest-server, which Debian does not have: it answers as that does, and on demand as worse ones do. restic itself is run
against it in the tests, so that it is not only our idea of the protocol.

    python -m tests.destinations.servers ROOT [MANNER…]     serves until standard input ends; prints the port
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, NoReturn

import pytest

from tests.parts import needs

ROOT = Path(__file__).parents[2]
VERSION_2 = "application/vnd.x.restic.rest.v2"
KINDS = ("data", "keys", "locks", "snapshots", "index")
MANNERS = {
    "unverified": "bodies are stored whatever their hash (rest-server --no-verify-upload)",
    "overwrites": "an object that is there is replaced, not refused",
    "append-only": "only locks may be removed",
    "version-1": "listings tell no sizes",
    "no-ranges": "the whole object, whatever range is asked for",
    "empty-ranges": "206 and nothing, whatever range is asked for",
    "other-ranges": "206 and the first bytes, whatever range is asked for",
    "cut-bodies": "stores the first half of a body, and says that all is well",
    "no-times": "no Last-Modified and no Date",
    "dated": "its clock says 2031; objects are stored an hour before",
    "full": "507 for every body",
    "small": "413 for every body",
    "busy": "429 with Retry-After for every request",
    "redirects": "one redirect for every request, to the same server",
    "circles": "redirects without end",
    "elsewhere": "redirects to another server",
    "endless": "listings without end",
    "garbage": "listings that are none",
    "wrong-bytes": "flips a bit in everything it sends",
    "silent": "never answers",
}


class Rest(ThreadingHTTPServer):
    """The server; `seen` are the requests so far: (method, path, headers). Each waits `delay` seconds, as on a long way."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path, *manners: str, user: str = "", password: str = "", elsewhere: str = "") -> None:
        assert set(manners) <= set(MANNERS)
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.manners, self.elsewhere = root, frozenset(manners), elsewhere
        self.sign_in = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.released = threading.Event()
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes is none of a server's business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Rest
    timeout = 30
    disable_nagle_algorithm = True
    routes: ClassVar[dict[str, str]] = {"HEAD": "head", "GET": "get", "POST": "post", "DELETE": "delete"}

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""

    def has(self, manner: str) -> bool:
        return manner in self.server.manners

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def serve(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        time.sleep(self.server.delay)
        if self.server.sign_in and self.headers.get("Authorization") != self.server.sign_in:
            self.answer(401, drop=True)
            return
        if self.misbehaved():
            return
        path, _, query = self.path.partition("?")
        parts = [part for part in urllib.parse.unquote(path).split("/") if part]
        if self.command == "POST" and query == "create=true":
            return self.create(self.server.root.joinpath(*parts))
        if self.command == "GET" and parts and parts[-1] in KINDS and path.endswith("/"):
            return self.listing(self.server.root.joinpath(*parts))
        file = self.file(parts)
        if file is None:
            return self.answer(404, drop=True)
        answer: Callable[[Path, list[str]], None] = getattr(self, self.routes[self.command])
        return answer(file, parts)

    do_HEAD = do_GET = do_POST = do_DELETE = serve

    def misbehaved(self) -> bool:
        if self.has("silent"):
            self.server.released.wait(60)
            self.close_connection = True
        elif self.has("busy"):
            self.answer(429, {"Retry-After": "7"}, drop=True)
        elif self.has("circles") or (self.has("redirects") and "again" not in self.path):
            self.answer(307, {"Location": self.path + ("&again" if "?" in self.path else "?again")}, drop=True)
        elif self.has("elsewhere"):
            self.answer(307, {"Location": self.server.elsewhere + self.path[1:]}, drop=True)
        else:
            return False
        return True

    def file(self, parts: list[str]) -> Path | None:
        if parts[-1:] == ["config"]:
            return self.server.root.joinpath(*parts)
        if len(parts) < 2 or parts[-2] not in KINDS or not re.fullmatch("[0-9a-f]{64}", parts[-1]):
            return None
        *repository, kind, name = parts
        return self.server.root.joinpath(*repository, kind, *([name[:2]] if kind == "data" else []), name)

    def create(self, repository: Path) -> None:
        for kind in KINDS:
            (repository / kind).mkdir(parents=True, exist_ok=True)
        self.answer(200)

    def listing(self, folder: Path) -> None:
        if not folder.is_dir():
            return self.answer(404)
        if self.has("endless"):
            self.endless()
        files = folder.glob("*/*") if folder.name == "data" else folder.glob("*")
        found = [(file.name, file.stat().st_size) for file in list(files) if "-temp" not in file.name and file.exists()]
        if self.has("garbage"):
            return self.answer(200, body=b'{"names": [[[')
        if self.has("version-1") or self.headers.get("Accept") != VERSION_2:
            return self.answer(200, {"Content-Type": "application/vnd.x.restic.rest.v1"}, json.dumps([name for name, _ in found]).encode())
        return self.answer(200, {"Content-Type": VERSION_2}, json.dumps([{"name": name, "size": size} for name, size in found]).encode())

    def endless(self) -> NoReturn:
        self.send_response(200)
        self.send_header("Content-Length", str(10**15))
        self.end_headers()
        piece = b'{"name":"' + b"a" * 64 + b'","size":1},' * 1000
        while True:
            self.wfile.write(piece)

    def head(self, file: Path, parts: list[str]) -> None:
        if not file.is_file():
            return self.answer(404)
        self.answer(200, self.times(file), size=file.stat().st_size)

    def get(self, file: Path, parts: list[str]) -> None:
        try:
            opened = file.open("rb")
        except OSError:
            return self.answer(404)
        with opened:
            size = os.fstat(opened.fileno()).st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if asked is None or self.has("no-ranges"):
                return self.answer(200, self.times(file), self.wrong(opened.read()))
            first, last = int(asked[1]), min(int(asked[2]), size - 1)
            if self.has("empty-ranges"):
                return self.answer(206, self.times(file))
            if first >= size:
                return self.answer(416)
            if self.has("other-ranges"):
                first, last = 0, last - first
            opened.seek(first)
            headers = {**self.times(file), "Content-Range": f"bytes {first}-{last}/{size}"}
            return self.answer(206, headers, self.wrong(opened.read(last - first + 1)))

    def wrong(self, data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if data and self.has("wrong-bytes") else data

    def times(self, file: Path) -> dict[str, str]:
        if self.has("no-times"):
            return {}
        stored = file.stat().st_mtime if not self.has("dated") else 1_925_000_000 - 3600
        return {"Last-Modified": email.utils.formatdate(stored, usegmt=True)}

    def post(self, file: Path, parts: list[str]) -> None:
        if self.has("full") or self.has("small"):
            return self.answer(507 if self.has("full") else 413, drop=True)
        if file.exists() and not self.has("overwrites"):
            return self.answer(403, drop=True)
        size = int(self.headers["Content-Length"])
        folder = file.parent
        if not folder.parent.is_dir():
            return self.answer(404, drop=True)
        folder.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{file.name}-temp", delete=False) as new:
            digest, left = hashlib.sha256(), size
            while left and (piece := self.rfile.read(min(2**16, left))):
                new.write(piece)
                digest.update(piece)
                left -= len(piece)
            if self.has("cut-bodies"):
                new.truncate(size // 2)
        if left or (file.name != "config" and not self.has("unverified") and digest.hexdigest() != file.name):
            os.unlink(new.name)
            return self.answer(400, drop=left > 0)
        os.replace(new.name, file)
        return self.answer(200)

    def delete(self, file: Path, parts: list[str]) -> None:
        if self.has("append-only") and parts[-2:-1] != ["locks"]:
            return self.answer(403)
        file.unlink(missing_ok=True)
        return self.answer(200)

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", *, size: int = 0, drop: bool = False) -> None:
        """Answer; `drop`: without having read the body."""
        if drop and self.command == "POST":
            self.close_connection = True
        self.send_response_only(status)
        if not self.has("no-times"):
            now = 1_925_000_000 if self.has("dated") else time.time()
            self.send_header("Date", email.utils.formatdate(now, usegmt=True))
        for name, value in {"Content-Length": str(size or len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving(root: Path, *manners: str, user: str = "", password: str = "", elsewhere: str = "") -> Iterator[Rest]:
    """A server of our own in this process, at `root`."""
    with Rest(root, *manners, user=user, password=password, elsewhere=elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def installed(program: str) -> str:
    """A program that a package of the development lock brings: beside this Python, not the system's. Fails on CI where it is missing."""
    found = Path(sysconfig.get_path("scripts")) / program
    if not found.is_file():
        if os.environ.get("CI"):
            pytest.fail(f"needs {program} beside {sys.executable}")
        pytest.skip(f"needs {program} beside {sys.executable}")
    return str(found)


def rclones() -> dict[str, Callable[[], str]]:
    """Where each rclone is: the system's (Debian's is old), and the current one that the lock pins."""

    def system() -> str:
        needs("rclone")
        return str(shutil.which("rclone"))

    return {"rclone of the system": system, "current rclone": lambda: installed("rclone")}


@contextlib.contextmanager
def started(command: list[str], ready: str, **env: str) -> Iterator[str]:
    """A server as a process; the URL that it tells on a line that matches `ready`."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env={**os.environ, **env}
    ) as process:
        assert process.stdout is not None
        said = []
        try:
            for line in process.stdout:
                said.append(line)
                if found := re.search(ready, line):
                    _wait_for(int(found[1]))
                    reader = threading.Thread(target=_discard, args=[process.stdout])  # a full pipe would stop the server
                    reader.start()
                    yield f"http://127.0.0.1:{found[1]}/"
                    process.kill()
                    reader.join()
                    return
            pytest.fail(f"{command[0]} did not start: {''.join(said)}")
        finally:
            process.kill()
            process.wait()


def _discard(lines: Iterable[str]) -> None:
    for _ in lines:
        pass


def _wait_for(port: int) -> None:
    """Until somebody listens there."""
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
            return
        time.sleep(0.05)
    pytest.fail(f"nobody listens on port {port}")


class Shared:
    """Servers for all tests of a session, each started when it is first asked for."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._urls: dict[str, str] = {}

    def url(self, name: str, start: Callable[[], contextlib.AbstractContextManager[str]]) -> str:
        if name not in self._urls:
            self._urls[name] = self._stack.enter_context(start())
        return self._urls[name]

    def end(self) -> None:
        self._urls.clear()
        self._stack.close()


def own_process(root: Path, *manners: str) -> contextlib.AbstractContextManager[str]:
    """A server of our own in another process."""
    return started([sys.executable, "-m", "tests.destinations.servers", str(root), *manners], r"port (\d+)")


def rclone_serving(program: str, root: Path, config: Path) -> contextlib.AbstractContextManager[str]:
    """`rclone serve restic` as it comes."""
    config.touch()
    command = [program, "serve", "restic", "--addr", "127.0.0.1:0", str(root)]
    return started(command, r"http://127\.0\.0\.1:(\d+)/", RCLONE_CONFIG=str(config))


def pyrestserver_serving(root: Path, *options: str) -> contextlib.AbstractContextManager[str]:
    """pyrestserver: a REST server by others, in Python."""
    port = free_port()
    command = [installed("pyrestserver"), "serve", "--path", str(root), "--listen", f"127.0.0.1:{port}", *options]
    return started(command, rf"127\.0\.0\.1:({port})", PYTHONUNBUFFERED="1")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main(root: str, *manners: str) -> None:
    """Serve until standard input ends."""
    with serving(Path(root), *manners) as server:
        print(f"port {server.server_port}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
