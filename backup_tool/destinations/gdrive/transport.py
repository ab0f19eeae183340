"""How Google's client library reaches Google: over the bounded HTTP client of this program instead of the library's own.

The library's own transport (httplib2) sends a request again by itself when a connection ends before the answer, so that one lost answer
makes two files; takes 308, which a resumable upload answers with, for a redirect; and passes by a proxy without a word where it cannot use
it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httplib2

from backup_tool.destinations.gdrive.signin import SignIn
from backup_tool.destinations.http import Address, HttpClient, Proxy
from backup_tool.destinations.limits import UploadLimit
from backup_tool.errors import BackupError

API = "www.googleapis.com"
TOKENS = "oauth2.googleapis.com"
MAX_ANSWER = 256 * 2**20
"""Bytes of an answer: a pack is at most 128 MiB and one blob."""
_ANY = range(100, 600)
_OWN = {"user-agent", "accept-encoding", "content-length", "authorization"}
"""Headers that are set here, whatever the library thinks."""


def client_for(host: str, label: str, limit: UploadLimit | None = None) -> HttpClient:
    """The way to one of Google's hosts, through this machine's proxy where it names one. Raises UsageError for a proxy of another kind."""
    return HttpClient(Address(secure=True, host=host, port=443), label, limit=limit, proxy=Proxy.for_host(host))


class Transport:
    """What the library takes for its transport: `request` and nothing else. May be used from several threads.

    `close` is the sign-in's end, too.
    """

    def __init__(self, client: HttpClient, sign_in: SignIn, host: str = API) -> None:
        self.client = client
        self.dated: Callable[[str], None] = lambda date: None
        """Is told the header Date of every answer."""
        self._sign_in, self._host = sign_in, host

    def close(self) -> None:
        """End all connections, those in use too."""
        self.client.close()
        self._sign_in.close()

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        redirections: int = 0,
        connection_type: Any = None,
    ) -> tuple[httplib2.Response, bytes]:
        """An exchange: the answer's head and body, whatever its status. Raises what HttpClient does, and SignInNeeded."""
        data = body.encode() if isinstance(body, str) else body
        stream = None if data is None else io.BytesIO(data)
        return self.send(uri, method, stream, len(data or b""), headers or {})

    def send(
        self, uri: str, method: str, body: BinaryIO | None, size: int, headers: Mapping[str, str], moved: int = 0
    ) -> tuple[httplib2.Response, bytes]:
        """`request` with a body that is read piece by piece, from its start at every try."""
        token = self._sign_in.token()
        head, content = self._send(uri, method, body, size, headers, token, moved)
        if head.status == 401:
            head, content = self._send(uri, method, body, size, headers, self._sign_in.token(token), moved)
        return head, content

    def _send(
        self, uri: str, method: str, body: BinaryIO | None, size: int, headers: Mapping[str, str], token: str, moved: int
    ) -> tuple[httplib2.Response, bytes]:
        asked = {name: value for name, value in headers.items() if name.lower() not in _OWN} | {"Authorization": f"Bearer {token}"}
        path = path_of(uri, self._host)
        with self.client.request(method, path, expected=_ANY, headers=asked, body=body, size=size, moved=moved, redirects=False) as reply:
            head = httplib2.Response({**{name.lower(): value for name, value in reply.headers.items()}, "status": str(reply.status)})
            content = b"" if reply.complete else reply.read(MAX_ANSWER)
        self.dated(head.get("date", ""))
        return head, content


def path_of(uri: str, host: str = API) -> str:
    """The path and query of an address at that host of Google's. Raises BackupError for any other place: the token goes nowhere else."""
    parts = urlsplit(uri)
    if parts.scheme != "https" or parts.netloc not in (host, f"{host}:443"):
        hint = "run it again; if it stays so, something stands between you and Google"
        raise BackupError("Google sends us to another server", hint)
    return parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
