"""The files of Drive v3 without their bytes: create, get, list, update, copy, delete, and who may do what."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tests.destinations.drive import query
from tests.destinations.drive.discovery import Selection
from tests.destinations.drive.errors import ApiError, drive_not_found, invalid, not_found
from tests.destinations.drive.people import WRITERS, AccessToken
from tests.destinations.drive.resource import PLAIN, shown
from tests.destinations.drive.store import BYTES, Digests, Item
from tests.destinations.drive.world import DRIVE_APPDATA, DRIVE_FILE, Token, World

NARROW = {DRIVE_FILE, DRIVE_APPDATA}
DEEPEST = 100
SORT_KEYS = (
    "createdTime", "folder", "modifiedByMeTime", "modifiedTime", "name", "name_natural", "quotaBytesUsed", "recency", "starred",
    "viewedByMeTime", "sharedWithMeTime",
)  # fmt: skip

Query = Mapping[str, str]


class Files:
    """The methods. Each is called with the world's lock held, with the query of a checked request."""

    def __init__(self, world: World) -> None:
        self.world, self.store = world, world.store

    # --- who sees what

    def wide(self, token: AccessToken) -> bool:
        """Whether the token's scopes reach for files that other programs made."""
        return any("/auth/drive" in scope and scope not in NARROW for scope in token.scopes)

    def role(self, token: AccessToken, item: Item) -> str:
        """The account's role on an item: "" for none."""
        email = token.account.email
        if item.drive is not None:
            return self.store.drives[item.drive].roles.get(email, "")
        if item.owner == email:
            return "owner"
        return next((above.roles[email] for above in (item, *self.store.ancestors(item)) if email in above.roles), "")

    def visible(self, token: AccessToken, item: Item, *, all_drives: bool) -> bool:
        """Whether the account and this program's scopes let it see an item at all."""
        if not self.role(token, item) or (item.drive is not None and not all_drives):
            return False
        if item.space == "appDataFolder":
            return DRIVE_APPDATA in token.scopes and (token.project in item.projects or item.parent is None)
        return self.wide(token) or (DRIVE_FILE in token.scopes and token.project in item.projects)

    def alias(self, token: AccessToken, file_id: str) -> str:
        return {"root": token.account.root, "appDataFolder": token.account.app_data}.get(file_id, file_id)

    def find(self, token: AccessToken, file_id: str, all_drives: bool) -> Item:
        """An item by its id; raises ApiError 404 where it is missing or not visible."""
        item = self.store.items.get(self.alias(token, file_id))
        if item is None or not self.visible(token, item, all_drives=all_drives):
            raise not_found(file_id)
        if item.hidden_gets:
            item.hidden_gets -= 1
            raise not_found(file_id)
        return item

    def folder(self, token: AccessToken, file_id: str, all_drives: bool) -> Item:
        """A folder to put things into or to list. The root of a drive may be named even where `drive.file` does not show it."""
        item = self.store.items.get(self.alias(token, file_id))
        rooted = (
            item is not None
            and item.parent is None
            and item.space == "drive"
            and bool(self.role(token, item))
            and DRIVE_FILE in token.scopes
        )
        if item is None or not (self.visible(token, item, all_drives=all_drives) or (rooted and (all_drives or item.drive is None))):
            if item is not None and item.space == "appDataFolder" and DRIVE_APPDATA not in token.scopes:
                raise ApiError(403, "insufficientScopes", "The granted scopes do not allow use of the Application Data folder.")
            raise not_found(file_id)
        return item

    # --- making

    def draft(self, token: AccessToken, body: Mapping[str, Any], params: Query, *, folder_id: str = "") -> Item:
        """A new item as a request describes it, checked but not yet there."""
        parents = body.get("parents") or [folder_id or "root"]
        if len(parents) > 1:
            raise ApiError(400, "invalid", "A file cannot be created with more than one parent.", location="parents")
        parent = self.folder(token, parents[0], params.get("supportsAllDrives") == "true")
        self.may_add(token, parent)
        file_id = self.usable_id(token, body.get("id"), parent)
        owner, drive = (None, parent.drive) if parent.drive else (token.account.email, None)
        mime_type = body.get("mimeType") or BYTES
        item = self.world.new_item(
            file_id, body.get("name", "Untitled"), mime_type, parent.id, owner, drive, {token.project}, space=parent.space
        )
        item.modified_by = token.account.email
        self.describe(token, item, body)
        if "createdTime" in body:
            item.created = _time(body["createdTime"])
        manners = self.world.manners
        item.hidden_names, item.hidden_parents = manners.name_lag, manners.parent_lag
        item.hidden_gets = manners.drive_lag if drive else 0
        return item

    def may_add(self, token: AccessToken, parent: Item) -> None:
        """Whether something may be put into a folder; raises ApiError."""
        if not parent.is_folder:
            raise ApiError(403, "parentNotAFolder", "The specified parent is not a folder.", location="parents")
        if self.role(token, parent) not in WRITERS:
            raise ApiError(403, "insufficientFilePermissions")
        manners = self.world.manners
        if parent.drive is not None:
            drive = self.store.drives[parent.drive]
            if sum(item.drive == drive.id for item in self.store.items.values()) > drive.item_limit:
                raise ApiError(403, "teamDriveFileLimitExceeded")
            return
        if parent.parent is not None and self.store.child_count(parent.id) >= manners.folder_limit:
            raise ApiError(403, "numChildrenInNonRootLimitExceeded")
        if sum(1 for _ in self.store.ancestors(parent)) >= DEEPEST:
            raise ApiError(403, "myDriveHierarchyDepthLimitExceeded")
        if manners.creation_limit is not None and self.world.created[token.account.email] >= manners.creation_limit:
            raise ApiError(403, "activeItemCreationLimitExceeded")

    def usable_id(self, token: AccessToken, wanted: str | None, parent: Item) -> str:
        """The id of a new file: the one that was reserved for it, or a new one."""
        if wanted is None:
            return self.store.new_id()
        if self.store.reserved.get(wanted) != (token.account.email, parent.space):
            raise ApiError(400, "invalid", "The provided file ID is not usable.", location="id")
        return wanted

    def free(self, file_id: str) -> None:
        """Raises ApiError 409 where an id was used before: also by a file that is deleted."""
        if file_id in self.store.ever:
            raise ApiError(409, self.world.manners.conflict_reason)

    def room(self, token: AccessToken, item: Item, size: int) -> None:
        """Whether there is storage for so many bytes; raises ApiError."""
        if item.drive is not None or (item.space != "drive" and token.account.kind == "person"):
            return
        if token.account.kind == "service":
            message = (
                "Service Accounts do not have storage quota. Leverage shared drives "
                "(https://developers.google.com/workspace/drive/api/guides/about-shareddrives), or use OAuth delegation "
                "(http://support.google.com/a/answer/7281227) instead."
            )
            raise ApiError(403, "storageQuotaExceeded", message)
        account = token.account
        if account.limit is not None and self.store.usage[account.email] + account.elsewhere + size > account.limit:
            raise ApiError(403, "storageQuotaExceeded")

    def appear(self, token: AccessToken, item: Item) -> None:
        """A draft becomes a file."""
        if item.parent is not None and item.parent not in self.store.items:
            raise not_found(item.parent)
        self.free(item.id)
        self.store.add(item)
        self.world.created[token.account.email] += 1

    def describe(self, token: AccessToken, item: Item, body: Mapping[str, Any]) -> None:
        """Take over what a request says of a file."""
        if "name" in body:
            item.name = body["name"]
            item.original_name = item.original_name or item.name
        item.modified = _time(body["modifiedTime"]) if "modifiedTime" in body else item.modified
        item.starred = body.get("starred", item.starred)
        item.plain.update({name: body[name] for name in PLAIN if name in body})
        if "appProperties" in body:
            _put_properties(item.app_properties.setdefault(token.project, {}), body["appProperties"])
        if "properties" in body:
            _put_properties(item.properties, body["properties"])

    def create(self, token: AccessToken, params: Query, body: Mapping[str, Any], selection: Selection) -> dict[str, Any]:
        """A file without content: a folder, as a rule."""
        item = self.draft(token, body, params)
        self.free(item.id)
        if not item.mime_type.startswith("application/vnd.google-apps."):
            self.room(token, item, 0)
            self.empty(item)
        self.appear(token, item)
        return shown(self.world, token, item, selection)

    def empty(self, item: Item) -> None:
        """No bytes are content, too."""
        source = self.store.folder / f"{secrets.token_hex(8)}.new"
        source.touch()
        self.store.keep(item, source, Digests())

    def copy(self, token: AccessToken, file_id: str, params: Query, body: Mapping[str, Any], selection: Selection) -> dict[str, Any]:
        original = self.find(token, file_id, params.get("supportsAllDrives") == "true")
        if original.size is None:
            raise ApiError(403, "cannotCopyFile", "This file cannot be copied by the user.")
        assert original.parent is not None
        item = self.draft(token, {"name": f"Copy of {original.name}", **body}, params, folder_id=original.parent)
        self.free(item.id)
        self.room(token, item, original.size)
        item.mime_type = body.get("mimeType") or original.mime_type
        item.size, item.md5, item.sha1, item.sha256 = original.size, original.md5, original.sha1, original.sha256
        item.revision = original.revision
        shutil.copyfile(self.store.content(original), self.store.content(item))
        self.appear(token, item)
        return shown(self.world, token, item, selection)

    # --- changing

    def editable(self, token: AccessToken, file_id: str, params: Query) -> Item:
        item = self.find(token, file_id, params.get("supportsAllDrives") == "true")
        if self.role(token, item) not in WRITERS:
            raise ApiError(403, "insufficientFilePermissions")
        return item

    def update(self, token: AccessToken, file_id: str, params: Query, body: Mapping[str, Any], selection: Selection) -> dict[str, Any]:
        item = self.editable(token, file_id, params)
        if "trashed" in body:
            self.set_trashed(token, item, trashed=body["trashed"])
        self.reparent(token, item, params)
        self.describe(token, item, body)
        item.mime_type = body.get("mimeType", item.mime_type)
        item.version += 1
        return shown(self.world, token, item, selection)

    def set_trashed(self, token: AccessToken, item: Item, *, trashed: bool) -> None:
        if item.space == "appDataFolder":
            raise ApiError(403, "notSupportedForAppDataFolderFiles")
        if item.parent is None or self.role(token, item) not in ("owner", "organizer", "fileOrganizer"):
            raise ApiError(403, "insufficientFilePermissions")
        if trashed != item.explicitly_trashed:
            self.world.trash(item.id) if trashed else self.world.untrash(item.id)
            item.trashed_by = token.account.email if trashed else None

    def reparent(self, token: AccessToken, item: Item, params: Query) -> None:
        added = [self.alias(token, name) for name in params.get("addParents", "").split(",") if name]
        removed = [self.alias(token, name) for name in params.get("removeParents", "").split(",") if name]
        after = [name for name in [item.parent] if name not in removed] + [name for name in added if name != item.parent]
        if len(after) > 1:
            raise ApiError(403, "cannotAddParent")
        if not after:
            raise ApiError(403, "cannotRemoveLastParent", "A file must have one parent.")
        if after[0] is not None and after[0] != item.parent:
            parent = self.folder(token, after[0], params.get("supportsAllDrives") == "true")
            self.may_add(token, parent)
            if item is parent or item in self.store.ancestors(parent):
                raise ApiError(403, "cyclicFolder", "A folder cannot be put into itself.")
            if (item.drive, item.owner) != (parent.drive, parent.owner):
                raise ApiError(403, "crossDomainMoveRestriction", "This server does not move items between drives.")
            self.store.move(item, parent.id)

    def delete(self, token: AccessToken, file_id: str, params: Query) -> None:
        item = self.find(token, file_id, params.get("supportsAllDrives") == "true")
        if item.parent is None or self.role(token, item) not in ("owner", "organizer"):
            raise ApiError(403, "insufficientFilePermissions")
        self.store.remove(item)

    def empty_trash(self, token: AccessToken, params: Query) -> None:
        for item in self.world.objects(trashed=True):
            same = item.drive == params["driveId"] if "driveId" in params else item.owner == token.account.email
            if same and item.explicitly_trashed and item.id in self.store.items:
                self.store.remove(item)

    # --- looking

    def get(self, token: AccessToken, file_id: str, params: Query, selection: Selection) -> dict[str, Any]:
        return shown(self.world, token, self.find(token, file_id, params.get("supportsAllDrives") == "true"), selection)

    def generate_ids(self, token: AccessToken, params: Query) -> dict[str, Any]:
        space = params.get("space", "drive")
        if space not in ("drive", "appDataFolder"):
            raise invalid("space")
        if params.get("type", "files") != "files":
            raise invalid("type", "This server reserves ids for files only.")
        made = [self.store.new_id() for _ in range(int(params.get("count", "10")))]
        self.store.reserved.update(dict.fromkeys(made, (token.account.email, space)))
        return {"kind": "drive#generatedIds", "space": space, "ids": made}

    def find_all(self, token: AccessToken, params: Query, selection: Selection) -> dict[str, Any]:
        question = repr(sorted((name, value) for name, value in params.items() if name not in ("pageToken", "pageSize", "fields")))
        if "pageToken" in params:
            page = self.world.pages.get(params["pageToken"])
            if page is None or page.question != question or page.expires < self.world.now():
                raise invalid("pageToken")
            rest, incomplete = page.rest, False
        else:
            rest, incomplete = self.hits(token, params)
        size = min(int(params.get("pageSize", "100")), 1000, self.world.manners.page_limit)
        below = selection.below("files")
        found = [shown(self.world, token, item, below) for file_id in rest[:size] if (item := self.store.items.get(file_id))]
        answer: dict[str, Any] = {"kind": "drive#fileList", "incompleteSearch": incomplete, "files": found}
        if len(rest) > size:
            text = "~!!~" + secrets.token_urlsafe(60)
            self.world.pages[text] = Token(question, rest[size:], self.world.now() + self.world.manners.page_life)
            answer["nextPageToken"] = text
        return {name: value for name, value in answer.items() if name in selection}

    def hits(self, token: AccessToken, params: Query) -> tuple[list[str], bool]:
        """The ids of all files that a list is to show, newest first unless it says otherwise, and whether some are missing."""
        try:
            asked = query.parse(params["q"]) if params.get("q") else None
        except query.BadQuery as fault:
            raise invalid("q", f"Invalid Value ({fault})") from fault
        candidates = self.candidates(token, params, asked)
        indexed = asked is not None and any(term.field in query.INDEXED for term in query.terms(asked))
        found = [item for item in candidates if asked is None or query.matches(asked, partial(self.value, token, item))]
        found = [item for item in found if not (item.hidden_names if indexed else item.hidden_parents)]
        self.catch_up(indexed)
        found = _sorted(found, params.get("orderBy", ""))
        several = asked is not None and len(query.required_parents(asked) or ()) > 1
        if several and self.world.tick("empty_groups_left"):
            return [], False
        incomplete = self.world.tick("incomplete_left")
        return [item.id for item in (found[: len(found) // 2] if incomplete else found)], incomplete

    def catch_up(self, indexed: bool) -> None:
        """One more list was answered: the search index is that much nearer to the truth."""
        for item in self.store.lagging():
            if indexed and item.hidden_names:
                item.hidden_names -= 1
            elif not indexed and item.hidden_parents:
                item.hidden_parents -= 1

    def candidates(self, token: AccessToken, params: Query, asked: query.Query | None) -> Iterable[Item]:
        """The items that this token may see in the spaces and drives that the request names."""
        spaces = params.get("spaces", "drive").split(",")
        if not set(spaces) <= {"drive", "appDataFolder"}:
            raise invalid("spaces")
        drive = self.chosen_drive(token, params)
        everywhere = params.get("includeItemsFromAllDrives") == "true"
        parents = query.required_parents(asked) if asked is not None else None
        if parents is None:
            pool: Iterable[Item] = [item for item in self.store.items.values() if item.parent is not None]
        else:
            folders = [self.folder(token, parent, everywhere) for parent in parents]
            pool = [child for folder in folders for child in self.store.children(folder.id)]
        for item in pool:
            if item.space in spaces and (drive is None or item.drive == drive) and self.visible(token, item, all_drives=everywhere):
                yield item

    def chosen_drive(self, token: AccessToken, params: Query) -> str | None:
        """The shared drive that a list is confined to."""
        corpora, drive = params.get("corpora", "user"), params.get("driveId")
        if corpora not in ("user", "domain", "drive", "allDrives"):
            raise invalid("corpora")
        if (corpora == "drive") != (drive is not None):
            raise ApiError(
                400, "invalid", "The driveId parameter must be specified if and only if corpora is set to drive.", location="corpora"
            )
        if drive is None:
            return None
        if params.get("includeItemsFromAllDrives") != "true" or params.get("supportsAllDrives") != "true":
            raise ApiError(403, "teamDrivesNotSupported", "The includeItemsFromAllDrives and supportsAllDrives parameters must be set.")
        if drive not in self.store.drives or token.account.email not in self.store.drives[drive].roles:
            raise drive_not_found(drive)
        return drive

    def value(self, token: AccessToken, item: Item, term: query.Term) -> object:
        """What a file has for a term of a query."""
        match term.field:
            case "parents":
                aliases = {token.account.root: "root", token.account.app_data: "appDataFolder"}
                return {item.parent, aliases.get(item.parent or "")}
            case "name":
                return item.name
            case "mimeType":
                return item.mime_type
            case "trashed":
                return self.store.trashed(item)
            case "starred":
                return item.starred
            case "sharedWithMe":
                return item.owner is not None and item.owner != token.account.email
            case "modifiedTime":
                return datetime.fromtimestamp(item.modified, UTC)
            case "createdTime":
                return datetime.fromtimestamp(item.created, UTC)
            case "appProperties":
                return list(item.app_properties.get(token.project, {}).items())
            case "properties":
                return list(item.properties.items())
            case "owners":
                return {item.owner, "me" if item.owner == token.account.email else None}
        raise invalid("q", f"This server does not know {term.field}.")


def _time(text: str) -> float:
    try:
        return query.moment(text).timestamp()
    except query.BadQuery:
        raise invalid("modifiedTime") from None


def _put_properties(kept: dict[str, str], given: Mapping[str, str | None]) -> None:
    """Add, replace and (null) remove properties, within Drive's limits: 124 bytes each, 30 of them."""
    for name, value in given.items():
        if value is None:
            kept.pop(name, None)
        elif len((name + value).encode()) > 124:
            raise ApiError(400, "propertyTooLong", "Properties may be 124 bytes long, key and value.")
        else:
            kept[name] = value
    if len(kept) > 30:
        raise ApiError(403, "numAppPropertiesLimitExceeded", "A file may have 30 properties of a program.")


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name.casefold())]


def _sorted(items: list[Item], order: str) -> list[Item]:
    """By the keys of `orderBy`; without: newest first."""
    items = sorted(items, key=lambda item: -item.serial)
    for key in reversed([part.split() for part in order.split(",") if part]):
        if key[0] not in SORT_KEYS or key[1:] not in ([], ["desc"]):
            raise invalid("orderBy")
        items.sort(key=lambda item: _sort_value(item, key[0]), reverse=bool(key[1:]))
    return items


def _sort_value(item: Item, key: str) -> Any:
    match key:
        case "name":
            return item.name.casefold()
        case "name_natural":
            return _natural(item.name)
        case "folder":
            return not item.is_folder
        case "createdTime":
            return item.created
        case "quotaBytesUsed":
            return item.size or 0
        case "starred":
            return not item.starred
    return item.modified
