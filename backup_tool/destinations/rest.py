"""A destination behind restic's REST protocol: rest-server, `rclone serve restic`, and others.

The protocol is restic's documentation, "REST Backend": `POST /?create=true`, then `HEAD`, `GET` (with `Range`), `POST` and `DELETE` of
`/config` and `/KIND/NAME`, and `GET /KIND/` for a listing. Packs are `data/NAME` here: how they are laid out is the server's business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Annotated, BinaryIO

import msgspec

from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.http import Address, HttpClient, Reply
from backup_tool.destinations.limits import UploadLimit
from backup_tool.destinations.remote import RemoteDestination
from backup_tool.errors import BackupError, Unreachable
from backup_tool.models import Secret

_VERSION_2 = {"Accept": "application/vnd.x.restic.rest.v2"}
_BINARY = {"Content-Type": "application/octet-stream"}
_STORED = (200, 201, 204)
_REFUSED = (403, 405, 409)
_MAX_LISTING = 64 * 2**20


class _Listed(msgspec.Struct):
    name: str
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None


_Listing = list[_Listed | str]
_LISTING = msgspec.json.Decoder(_Listing | None)


class RestDestination(RemoteDestination):
    """The repository at an address. Nothing is asked of the server, nor `password` for a password, before the first operation."""

    MISSING_FOLDER_IS_EMPTY = True
    """Whether 404 for a listing says that nothing was stored there yet."""

    def __init__(
        self, address: Address, *, limit: UploadLimit | None = None, label: str = "", password: Callable[[], Secret] | None = None
    ) -> None:
        super().__init__(label or f"rest:{address.label}")
        self._http = HttpClient(address, self.label, limit=limit, password=password)

    def client(self) -> HttpClient:
        """The way to the server."""
        return self._http

    def create(self) -> None:
        """Ask the server to make room for a repository; harmless where it has."""
        with self.request("POST", "?create=true", _STORED):
            self._ready = True

    def listing(self, kind: ObjectKind) -> list[tuple[str, int | None]]:
        """Names and sizes; servers of the first version tell no sizes."""
        with self.request("GET", f"{kind}/", (200, 404), headers=_VERSION_2, moved=_MAX_LISTING) as reply:
            if reply.status == 404 and not self.MISSING_FOLDER_IS_EMPTY:
                raise Unreachable(f"{self.label} could not list {kind}", "see that the server is well, then run it again")
            if reply.status == 404:
                return []
            text = reply.read(_MAX_LISTING)
        try:
            found = _LISTING.decode(text) or []
        except (msgspec.DecodeError, RecursionError) as error:
            raise BackupError(f"{self.label} gave no list of {kind}", "see that this is the address of the right server") from error
        return [*dict((one, None) if isinstance(one, str) else (one.name, one.size) for one in found).items()]

    def remove(self, kind: ObjectKind, name: str) -> None:
        """Remove an object; one that is not there counts as removed. An append-only server lets only locks be removed."""
        path = self.path(kind, name)
        self.check_place()
        with self.request("DELETE", path, (*_STORED, 202, 404, *_REFUSED)) as reply:
            if reply.status in _REFUSED:
                raise BackupError(
                    f"{self.label} does not let {kind} be removed: it is append-only",
                    "remove from a machine whose user may do that",
                )
            missing = reply.status == 404
        if missing:
            self._check_still_there()

    def send(self, path: str, body: BinaryIO, size: int, *, replace: bool) -> bool:
        """Send an object; whether one that is there is replaced is up to the server: False where it refuses."""
        with self.request("POST", path, (*_STORED, *_REFUSED), headers=_BINARY, body=body, size=size) as reply:
            return reply.status in _STORED

    def request(
        self,
        method: str,
        path: str,
        expected: Collection[int],
        *,
        headers: Mapping[str, str] | None = None,
        body: BinaryIO | None = None,
        size: int = 0,
        moved: int = 0,
    ) -> AbstractContextManager[Reply]:
        """As `HttpClient.request`, in version 2 of the protocol."""
        headers = {**_VERSION_2, **(headers or {})}
        return self.client().request(method, path, expected=expected, headers=headers, body=body, size=size, moved=moved)

    def close(self) -> None:
        """End all connections, those in use too."""
        self._http.close()
