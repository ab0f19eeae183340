"""Named bytes in a place. `open_destination` is the one way to a place from its spec; each kind's library is loaded only then."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from backup_tool.errors import UsageError
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.config import DestinationSpec
    from backup_tool.destinations.base import Destination, SignInKept
    from backup_tool.destinations.limits import UploadLimit


def open_destination(
    spec: DestinationSpec,
    *,
    limit: UploadLimit | None = None,
    home: Path | None = None,
    cache: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Destination:
    """The place that the spec names, wrapped in what that kind of place needs. Nothing is read or made there yet.

    `limit` is for all uploads over a network. `home` is a folder of this machine for what the place has to remember (tokens, journals of
    uploads): made, 0700, by who first writes there; None where nothing may be kept. `cache` is the folder for copies of what is read again
    and again over a network; None where everything is to be read from the place. `tell` hears that it cannot be used. Passwords and keys
    are looked for when the place is first used: where one cannot be had, only that place is out of reach. Raises UsageError for a place
    that cannot be meant, and for a type that this version does not have.
    """
    if spec.type == "local" and spec.path is not None:
        from backup_tool.destinations.local import LocalDestination

        return LocalDestination(spec.path)
    if spec.type in _REMOTE:
        from backup_tool.destinations.retry import Retry

        return _kept(Retry(_REMOTE[spec.type](spec, limit)), cache, tell)
    if spec.type == "gdrive":
        from backup_tool.destinations.gdrive import open_drive

        return _kept(open_drive(spec, limit=limit, home=home), cache, tell)
    if spec.type == "icloud":
        return _kept(_icloud(spec, limit, home), cache, tell)
    raise UsageError(
        f"destinations of type {spec.type} are not in this version yet",
        "keep the archive in a local folder for now, for example: --repo /path/to/archive",
    )


def label_of(spec: DestinationSpec) -> str:
    """The label that the place has when it is open, without what only opening needs. Raises UsageError for a place that cannot be meant."""
    if spec.type == "gdrive":
        return spec.label
    if spec.type == "icloud":
        return f"icloud:{shown(spec.place, 200)}"
    return open_destination(spec).label


def _kept(place: Destination, cache: Path | None, tell: Callable[[str], None]) -> Destination:
    from backup_tool.destinations.cache import Cache

    return place if cache is None else Cache(place, cache, tell=tell)


def days_left(spec: DestinationSpec, home: Path) -> float | None:
    """Days until somebody has to sign in to this destination again, by what is known on this machine; None where that is nothing."""
    if spec.type != "icloud":
        return None
    from backup_tool.destinations.icloud.session import days_left as of_icloud

    return of_icloud(home)


def sign_in_kept(spec: DestinationSpec, home: Path) -> SignInKept | None:
    """What is kept of the sign-in to this destination; None where it has none that a person gives, or where looking could ask one (a
    keyring). Raises BackupError where it cannot be read."""
    if spec.type == "icloud":
        from backup_tool.destinations.icloud.session import kept as of_icloud

        return of_icloud(home)
    if spec.type == "gdrive" and not spec.options.keys() & {"service_account", "keyring"}:
        from backup_tool.destinations.gdrive.signin import kept as of_drive

        return of_drive(home)
    return None


def _rest(spec: DestinationSpec, limit: UploadLimit | None) -> Destination:
    from backup_tool.credentials import configured_password
    from backup_tool.destinations.http import Address
    from backup_tool.destinations.rest import RestDestination
    from backup_tool.models import Secret

    def password() -> Secret:
        return configured_password(spec.options, os.environ) or Secret(os.environ.get("BACKUP_REST_PASSWORD", ""))

    address = Address.parse(spec.place).by(spec.options.get("user") or os.environ.get("BACKUP_REST_USER", ""))
    return RestDestination(address, limit=limit, password=password)


def _rclone(spec: DestinationSpec, limit: UploadLimit | None) -> Destination:
    from backup_tool.destinations.rclone import RcloneDestination

    return RcloneDestination(spec.place, limit=limit)


def _s3(spec: DestinationSpec, limit: UploadLimit | None) -> Destination:
    from backup_tool.destinations.s3.destination import S3Destination, S3Place, find_keys

    place = S3Place.parse(spec.place, spec.options, os.environ)
    return S3Destination(place, lambda: find_keys(spec.options, os.environ), limit=limit)


_REMOTE: Mapping[str, Callable[[DestinationSpec, UploadLimit | None], Destination]] = {"rest": _rest, "rclone": _rclone, "s3": _s3}


def _icloud(spec: DestinationSpec, limit: UploadLimit | None, home: Path | None) -> Destination:
    if home is None:
        raise UsageError("iCloud needs a folder that keeps the sign-in", "set one: BACKUP_STATE_DIR=/path/to/folder")
    from backup_tool.destinations.icloud.destination import ICloudDestination, PatientICloud

    return PatientICloud(ICloudDestination(spec.place, home=home, name=spec.name, limit=limit, **spec.options))
