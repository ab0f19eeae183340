"""What the server sees and says: one request, one answer, whatever carries them. Bodies of any size lie on disk, not in memory."""

from __future__ import annotations

import json
import secrets
import shutil
import urllib.parse
from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any, cast

from tests.destinations import tls_proxy

JSON = "application/json; charset=utf-8"


@dataclass
class Request:
    """One request as it arrived, its body at its start; `whole`: nothing is missing of that."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: Message
    body: IO[bytes]
    whole: bool = True

    @classmethod
    def of(cls, carried: tls_proxy.Request) -> Request:
        path = urllib.parse.unquote(carried.path)
        whole = carried.ended == "complete"
        return cls(carried.method, carried.host, path, dict(carried.query), carried.headers, carried.body, whole)

    def header(self, name: str) -> str:
        return str(self.headers.get(name, ""))

    def json(self) -> Any:
        """The body as JSON, whatever content type it claims; None where there is none or it cannot be read."""
        self.body.seek(0)
        try:
            return json.loads(self.body.read(1 << 24) or b"null")
        except ValueError:
            return None

    def fields(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one where it is none."""
        read = self.json()
        return read if isinstance(read, dict) else {}

    def cookie(self, name: str) -> str:
        for line in self.headers.get_all("Cookie", []):
            for pair in str(line).split(";"):
                found, _, value = pair.strip().partition("=")
                if found == name:
                    return value.strip('"')
        return ""


class _Headers(Mapping[str, str]):
    """Headers of which a name may have several values, as Set-Cookie has: `items()` gives each."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __getitem__(self, name: str) -> str:
        return dict(self._pairs)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def items(self) -> ItemsView[str, str]:
        return cast("ItemsView[str, str]", list(self._pairs))


@dataclass
class Answer:
    """One answer: a body in memory, or a part of a file on disk."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | tls_proxy.Part = b""

    def carried(self) -> tls_proxy.Response:
        return tls_proxy.Response(self.status, _Headers(self.headers), self.body)


def said(status: int, what: object = None, **headers: str) -> Answer:
    """An answer of JSON; header names with `_` for `-`."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if what is None:
        return Answer(status, named)
    return Answer(status, [("Content-Type", JSON), *named], json.dumps(what).encode())


def cookie(name: str, value: str, domain: str, expires: str = "") -> tuple[str, str]:
    end = f"; Expires={expires}" if expires else ""
    return "Set-Cookie", f"{name}={value}; Domain={domain}; Path=/; Secure; HttpOnly{end}"


def token() -> str:
    return secrets.token_urlsafe(24)


def upload_part(request: Request, into: Path) -> int:
    """The uploaded bytes: of the single part of a multipart form, or the whole body. Their number; ValueError for a broken form."""
    body, content_type = request.body, request.header("Content-Type")
    body.seek(0)
    with into.open("wb") as out:
        if not content_type.startswith("multipart/form-data"):
            shutil.copyfileobj(body, out, 1 << 20)
            return out.tell()
        boundary = content_type.partition("boundary=")[2].strip('"').encode()
        if body.readline().strip() != b"--" + boundary:
            raise ValueError("no first boundary")
        while body.readline().strip():
            pass
        shutil.copyfileobj(body, out, 1 << 20)
    return _cut_end(into, b"\r\n--" + boundary + b"--")


def _cut_end(file: Path, end: bytes) -> int:
    with file.open("r+b") as out:
        size = out.seek(0, 2)
        start = max(0, size - len(end) - 4)
        out.seek(start)
        found = out.read().rfind(end)
        if found < 0:
            raise ValueError("no last boundary")
        out.truncate(start + found)
    return start + found
