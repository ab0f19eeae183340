"""What Drive shows of a file: the File resource of its API, each field made only where the mask asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.destinations.drive.discovery import Selection
from tests.destinations.drive.people import AccessToken
from tests.destinations.drive.store import FOLDER, Item
from tests.destinations.drive.world import World

USUAL = "kind,id,name,mimeType"
"""What comes where a request has no mask."""
PLAIN = ("description", "folderColorRgb", "writersCanShare", "copyRequiresWriterPermission", "viewedByMeTime", "contentRestrictions")
"""Fields that are kept as they came."""


def rfc3339(moment: float) -> str:
    """A time as Google writes it: UTC, milliseconds."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown(world: World, token: AccessToken, item: Item, selection: Selection) -> dict[str, Any]:
    """The resource as this token's owner sees it, with the chosen fields. Holds the world's lock."""
    made = {}
    for name, make in FIELDS.items():
        if name in selection:
            value = make(world, token, item)
            if value is not None:
                made[name] = selection.below(name).applied(value)
    return made


def user(world: World, token: AccessToken, email: str | None) -> dict[str, Any] | None:
    """The User resource of an account."""
    account = world.accounts.get(email or "")
    if account is None:
        return None
    return {
        "kind": "drive#user",
        "displayName": account.name,
        "me": account is token.account,
        "permissionId": account.permission_id,
        "emailAddress": account.email,
    }


Maker = Callable[[World, AccessToken, Item], Any]


def _content(name: str) -> Maker:
    """A field that only files with bytes have."""
    return lambda world, token, item: None if item.size is None else getattr(item, name)


def _checksum(name: str) -> Maker:
    return lambda world, token, item: None if world.manners.no_checksums else getattr(item, name)


def _plain(name: str) -> Maker:
    return lambda world, token, item: item.plain.get(name)


def _extension(world: World, token: AccessToken, item: Item) -> str | None:
    if item.size is None:
        return None
    return item.name.rpartition(".")[2] if "." in item.name else ""


def _capabilities(world: World, token: AccessToken, item: Item) -> dict[str, bool]:
    own = item.owner == token.account.email
    role = world.store.drives[item.drive].roles.get(token.account.email, "") if item.drive else ""
    edit = own or role in ("organizer", "fileOrganizer", "writer")
    return {
        "canEdit": edit,
        "canRename": edit,
        "canDownload": item.size is not None,
        "canDelete": own or role == "organizer",
        "canTrash": own or role in ("organizer", "fileOrganizer"),
        "canUntrash": own or role in ("organizer", "fileOrganizer"),
        "canAddChildren": item.is_folder and edit,
        "canListChildren": item.is_folder,
        "canReadRevisions": item.size is not None,
        "canShare": edit,
    }


FIELDS: Mapping[str, Maker] = {
    "kind": lambda world, token, item: "drive#file",
    "id": lambda world, token, item: item.id,
    "name": lambda world, token, item: item.name,
    "mimeType": lambda world, token, item: item.mime_type,
    "starred": lambda world, token, item: item.starred,
    "trashed": lambda world, token, item: world.store.trashed(item),
    "explicitlyTrashed": lambda world, token, item: item.explicitly_trashed,
    "trashedTime": lambda world, token, item: None if item.trashed_at is None else rfc3339(item.trashed_at),
    "trashingUser": lambda world, token, item: user(world, token, item.trashed_by) if item.drive else None,
    "parents": lambda world, token, item: None if item.parent is None else [item.parent],
    "properties": lambda world, token, item: item.properties or None,
    "appProperties": lambda world, token, item: item.app_properties.get(token.project) or None,
    "spaces": lambda world, token, item: [item.space],
    "version": lambda world, token, item: str(item.version),
    "webViewLink": lambda world, token, item: f"https://drive.google.com/{'drive/folders' if item.is_folder else 'file/d'}/{item.id}",
    "createdTime": lambda world, token, item: rfc3339(item.created),
    "modifiedTime": lambda world, token, item: rfc3339(item.modified),
    "owners": lambda world, token, item: None if item.drive else [user(world, token, item.owner)],
    "ownedByMe": lambda world, token, item: None if item.drive else item.owner == token.account.email,
    "lastModifyingUser": lambda world, token, item: user(world, token, item.modified_by),
    "shared": lambda world, token, item: None if item.drive else bool(item.roles),
    "driveId": lambda world, token, item: item.drive,
    "teamDriveId": lambda world, token, item: item.drive,
    "capabilities": _capabilities,
    "isAppAuthorized": lambda world, token, item: token.project in item.projects,
    "originalFilename": _content("original_name"),
    "fullFileExtension": _extension,
    "fileExtension": _extension,
    "md5Checksum": _checksum("md5"),
    "sha1Checksum": _checksum("sha1"),
    "sha256Checksum": _checksum("sha256"),
    "size": lambda world, token, item: None if item.size is None else str(item.size),
    "quotaBytesUsed": lambda world, token, item: str(0 if item.mime_type == FOLDER else item.size or 0),
    "headRevisionId": _content("revision"),
    **{name: _plain(name) for name in PLAIN},
}
