"""S3 servers on this machine: rclone's and moto's, which are other people's, and one of our own that misbehaves on demand.

rclone's checks every signature and keeps objects as files; moto's has pages, conditions, versions and, where it is asked to, the policies
of Amazon's users, whose signatures it then checks.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import re
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from backup_tool.destinations.s3.destination import S3Destination, S3Place
from backup_tool.destinations.s3.signing import S3Keys
from backup_tool.models import Secret
from tests.destinations.servers import free_port, installed, started

KEY, SECRET = "AKIATESTTESTTEST", "s3cret/of+the=key"
BUCKET = "voices"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


def at(url: str, *, bucket: str = BUCKET, prefix: str = "archive", secret: str = SECRET, **options: Any) -> S3Destination:
    """A place at a server, which nothing is tried again at."""
    return S3Destination(S3Place.parse(f"{url}{bucket}/{prefix}", options, {}), lambda: S3Keys(KEY, Secret(secret)))


@contextlib.contextmanager
def rclone_s3(folder: Path) -> Iterator[str]:
    """`rclone serve s3` of a folder, whose folders are the buckets."""
    (folder / BUCKET).mkdir(parents=True)
    command = [installed("rclone"), "serve", "s3", "--addr", "127.0.0.1:0", "--config", str(folder.parent / "no.conf"), str(folder)]
    with started(command, r"http://127\.0\.0\.1:(\d+)/", RCLONE_AUTH_KEY=f'"{KEY},{SECRET}"') as url:
        yield url


@contextlib.contextmanager
def moto_s3() -> Iterator[str]:
    """moto's server, with a bucket."""
    port = free_port()
    script = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    with started([sys.executable, "-c", script], rf"Running on http://127\.0\.0\.1:({port})", PYTHONUNBUFFERED="1", NO_COLOR="1") as url:
        amazon(url, "s3").create_bucket(Bucket=BUCKET)
        yield url


def amazon(url: str, service: str, key: str = KEY, secret: str = SECRET) -> Any:
    """Amazon's own client for one of its services, as an administrator uses it."""
    import boto3

    return boto3.client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=None
    )


SERVERS: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "s3 of rclone": rclone_s3,
    "s3 of moto": lambda _: moto_s3(),
}

MANNERS = {
    "no-conditions": "501 for a condition",
    "ignores-conditions": "stores whatever the condition",
    "no-ranges": "the whole object, whatever range is asked for",
    "empty-ranges": "206 and nothing, whatever range is asked for",
    "other-ranges": "206 and the first bytes, whatever range is asked for",
    "cut-bodies": "stores the first half of a body, and says that all is well",
    "wrong-bytes": "flips a bit in everything it sends",
    "dated": "its clock says 2031; objects are stored an hour before",
    "same-page": "the same page of a listing again and again",
    "no-next-page": "a page that is not the last and tells no next one",
    "garbage": "listings that are none",
    "declares": "listings with a document type",
    "deep": "listings in which everything is inside of something",
    "huge": "listings of 9 MiB a page",
    "plain-keys": "keys in listings are not encoded",
    "elsewhere": "redirects to another server",
    "silent": "never answers",
    "race": "whatever is stored was there a moment earlier",
}


class Bucket(ThreadingHTTPServer):
    """Our own server; `seen` are the requests so far: (method, path with query, headers). `refusal` is the answer to everything, while it
    is set: status, code, and further headers. A bucket's `objects` can be looked at and changed."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *manners: str) -> None:
        assert set(manners) <= set(MANNERS)
        super().__init__(("127.0.0.1", 0), _Handler)
        self.manners = frozenset(manners)
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.refusal: tuple[int, str, Mapping[str, str]] | None = None
        self.page = 1000
        self.elsewhere = ""
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.lock = threading.Lock()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes is none of a server's business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket
    timeout = 30
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""

    def has(self, manner: str) -> bool:
        return manner in self.server.manners

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def serve(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.has("silent"):
            self.server.released.wait(60)
            self.close_connection = True
            return None
        if self.server.refusal is not None:
            status, code, headers = self.server.refusal
            return self.refuse(status, code, headers)
        if self.has("elsewhere"):
            return self.answer(307, {"Location": self.server.elsewhere + self.path[1:]})
        bucket, _, key = urllib.parse.unquote(path[1:]).partition("/")
        if bucket != BUCKET:
            return self.refuse(404, "NoSuchBucket")
        if self.command == "PUT":
            return self.put(key, body)
        if self.command == "DELETE":
            self.server.objects.pop(key, None)
            return self.answer(204)
        if not key:
            return self.listing({name: values[0] for name, values in urllib.parse.parse_qs(query, keep_blank_values=True).items()})
        return self.get(key)

    do_HEAD = do_GET = do_PUT = do_DELETE = serve

    def put(self, key: str, body: bytes) -> None:
        condition = self.headers.get("If-None-Match")
        if condition and self.has("no-conditions"):
            return self.refuse(501, "NotImplemented")
        if hashlib.sha256(body).hexdigest() != self.headers["X-Amz-Content-Sha256"]:
            return self.refuse(400, "XAmzContentSHA256Mismatch")
        if base64.b64encode(hashlib.md5(body).digest()).decode() != self.headers["Content-MD5"]:
            return self.refuse(400, "BadDigest")
        with self.server.lock:
            if self.has("race"):
                self.server.objects.setdefault(key, (body, time.time()))
            if condition and key in self.server.objects and not self.has("ignores-conditions"):
                return self.refuse(412, "PreconditionFailed")
            self.server.objects[key] = (body[: len(body) // 2] if self.has("cut-bodies") else body, time.time())
        return self.answer(200)

    def get(self, key: str) -> None:
        found = self.server.objects.get(key)
        if found is None:
            return self.refuse(404, "NoSuchKey")
        data, stored = found
        size = len(data)
        times = {"Last-Modified": email.utils.formatdate(stored if not self.has("dated") else 1_925_000_000 - 3600, usegmt=True)}
        if data and self.has("wrong-bytes"):
            data = bytes([data[0] ^ 1]) + data[1:]
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or self.has("no-ranges"):
            return self.answer(200, times, data)
        first, last = int(asked[1]), min(int(asked[2]), size - 1)
        if self.has("empty-ranges"):
            return self.answer(206, times)
        if first >= size:
            return self.refuse(416, "InvalidRange")
        if self.has("other-ranges"):
            first, last = 0, last - first
        return self.answer(206, {**times, "Content-Range": f"bytes {first}-{last}/{size}"}, data[first : last + 1])

    def listing(self, query: dict[str, str]) -> None:
        assert query["list-type"] == "2"
        if self.has("garbage"):
            return self.answer(200, {}, b"<ListBucketResult><Contents>")
        keys = sorted(key for key in self.server.objects if key.startswith(query["prefix"]))
        first = int(query.get("continuation-token", "0"))
        shown = keys[first : first + min(self.server.page, int(query["max-keys"]))]
        more = first + len(shown) < len(keys) or self.has("same-page") or self.has("no-next-page")
        token = "0" if self.has("same-page") else str(first + len(shown))
        spelled = escape if self.has("plain-keys") else urllib.parse.quote_plus
        found = "".join(f"<Contents><Key>{spelled(key)}</Key><Size>{len(self.server.objects[key][0])}</Size></Contents>" for key in shown)
        text = "" if self.has("plain-keys") else "<EncodingType>url</EncodingType>"
        text += f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{found}"
        text += f"<NextContinuationToken>{token}</NextContinuationToken>" if more and not self.has("no-next-page") else ""
        text += "<X>" * 100 + "</X>" * 100 if self.has("deep") else ""
        text += "<Y>" + "y" * 9 * 2**20 + "</Y>" if self.has("huge") else ""
        kind = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' if self.has("declares") else ""
        namespace = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        self.answer(200, {}, f'<?xml version="1.0"?>{kind}<ListBucketResult {namespace}>{text}</ListBucketResult>'.encode())

    def refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        text = f"<Error><Code>{code}</Code><Message>\x1b[2J told by the server</Message></Error>" if code else ""
        self.answer(status, headers, text.encode())

    def answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response_only(status)
        now = 1_925_000_000 if self.has("dated") else time.time()
        given = {"Date": email.utils.formatdate(now, usegmt=True), "Content-Length": str(len(body)), **(headers or {})}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def bucket(*manners: str) -> Iterator[Bucket]:
    """A server of our own in this process."""
    with Bucket(*manners) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
