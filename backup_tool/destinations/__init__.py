"""Named bytes in a place. `open_destination` is the one way to a place from its spec; each kind's library is loaded only then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from backup_tool.errors import UsageError

if TYPE_CHECKING:
    from backup_tool.config import DestinationSpec
    from backup_tool.destinations.base import Destination
    from backup_tool.destinations.limits import UploadLimit


def open_destination(spec: DestinationSpec, *, limit: UploadLimit | None = None, home: Path | None = None) -> Destination:
    """The place that the spec names, wrapped in what that kind of place needs. Nothing is read or made there yet.

    `limit` is for all uploads over a network. `home` is a folder of this machine for what the place has to remember (tokens, journals of
    uploads): made, 0700, by who first writes there; None where nothing may be kept. Raises UsageError for a place that cannot be meant, and
    for a type that this version does not have.
    """
    if spec.type == "local" and spec.path is not None:
        from backup_tool.destinations.local import LocalDestination

        return LocalDestination(spec.path)
    if spec.type in ("rest", "rclone"):
        from backup_tool.destinations.retry import Retry

        return Retry(_rest(spec.place, limit) if spec.type == "rest" else _rclone(spec.place, limit))
    raise UsageError(
        f"destinations of type {spec.type} are not in this version yet",
        "keep the archive in a local folder for now, for example: --repo /path/to/archive",
    )


def _rest(url: str, limit: UploadLimit | None) -> Destination:
    from backup_tool.destinations.http import Address
    from backup_tool.destinations.rest import RestDestination

    return RestDestination(Address.parse(url).signed_in(os.environ), limit=limit)


def _rclone(remote: str, limit: UploadLimit | None) -> Destination:
    from backup_tool.destinations.rclone import RcloneDestination

    return RcloneDestination(remote, limit=limit)
