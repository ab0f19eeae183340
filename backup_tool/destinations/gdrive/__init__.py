"""Google Drive: the destination `gdrive:FOLDER`.

`open_drive` opens it, `login.sign_in` signs in to it. Layers, each of which knows only those below:

destination    the contract of destinations
folders        which folder has which id; made once
uploads        each object once, resumed after a kill
api            the calls of Google Drive, tried again, within the budget (`pacing`)
transport      the bytes, over this program's own HTTP client
signin         access tokens
faults         what Google's refusals mean
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from backup_tool.destinations.gdrive.faults import NO_STORAGE, Who, who_of
from backup_tool.errors import SignInNeeded, UsageError
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.config import DestinationSpec
    from backup_tool.destinations.gdrive.destination import GoogleDriveDestination
    from backup_tool.destinations.gdrive.pacing import Pacer
    from backup_tool.destinations.gdrive.signin import Keeper, Kept, SignIn
    from backup_tool.destinations.http import HttpClient
    from backup_tool.destinations.limits import UploadLimit
    from backup_tool.destinations.retry import Patience

DEFAULT_SCOPE = "drive.file"


def open_drive(
    spec: DestinationSpec,
    *,
    limit: UploadLimit | None = None,
    home: Path | None = None,
    patience: Patience | None = None,
    pacer: Pacer | None = None,
) -> GoogleDriveDestination:
    """The destination. Nothing is asked of Google yet. Raises UsageError for settings that cannot be meant."""
    from backup_tool.destinations.gdrive.api import Drive
    from backup_tool.destinations.gdrive.destination import GoogleDriveDestination
    from backup_tool.destinations.gdrive.transport import API, TOKENS, Transport, client_for

    refuse_path(spec)
    who = who_of(spec)
    sign_in = sign_in_of(spec, home, who, lambda: client_for(TOKENS, who.label))
    transport = Transport(client_for(API, who.label, limit), sign_in)
    drive = Drive(transport, who, shared_drive=spec.options.get("shared_drive"), patience=patience, pacer=pacer)
    return GoogleDriveDestination(drive, spec.place, sign_in, who, home)


def refuse_path(spec: DestinationSpec) -> None:
    """Raises UsageError where the spec names more than one folder."""
    if "/" in spec.place:
        hint = "name one folder; once made, it may be moved anywhere in Google Drive"
        raise UsageError(f"{shown(spec.place)} is no name of one folder", hint)


def sign_in_of(spec: DestinationSpec, home: Path | None, who: Who, client: Callable[[], HttpClient]) -> SignIn:
    """Who we are there: the service account of the settings, else the person that signed in."""
    from backup_tool.destinations.gdrive.signin import PersonSignIn, ServiceAccount

    options = spec.options
    scope = options.get("scope", DEFAULT_SCOPE)
    key_file = options.get("service_account")
    if key_file is not None:
        if "shared_drive" not in options and "subject" not in options:
            raise UsageError(f"{who.label}: a service account cannot store anything of its own", NO_STORAGE)
        return ServiceAccount(client(), key_file, options.get("subject"), scope, who)
    lock = None if home is None else home / "sign-in.lock"
    return PersonSignIn(client(), keeper_of(spec, home, who), lock, who)


def signed_in(spec: DestinationSpec, home: Path) -> Kept | None:
    """The sign-in of a person that is kept for a destination; None where there is none. Raises as keepers do."""
    from backup_tool.destinations.gdrive.signin import kept_in

    return None if "service_account" in spec.options else kept_in(keeper_of(spec, home, who_of(spec)))


def keeper_of(spec: DestinationSpec, home: Path | None, who: Who) -> Keeper:
    """Where the sign-in is kept. Raises SignInNeeded where nothing may be kept."""
    from backup_tool.destinations.gdrive.signin import FileKeeper, KeyringKeeper, sign_in_file

    if name := spec.options.get("keyring"):
        return KeyringKeeper(name)
    if home is None:
        raise SignInNeeded(f"{who.label}: there is no folder for the sign-in", "name one in BACKUP_STATE_DIR")
    return FileKeeper(sign_in_file(home))
