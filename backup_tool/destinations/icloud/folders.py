"""The folders of one repository in iCloud Drive, and what is in them as far as anybody can know.

Apple's listings lag behind its own changes. What this process stored or removed in the last minutes is therefore remembered and counts for
more than a listing; a listing that is not complete counts for nothing (`Drive.list_folders`).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from backup_tool.destinations.base import KINDS
from backup_tool.destinations.icloud.drive import ROOT, Drive, Item, Listing
from backup_tool.destinations.icloud.faults import Faults
from backup_tool.errors import NoRepository, UsageError
from backup_tool.names import folded, shown

LAG_SECONDS = 120.0
"""So long our own changes count for more than what a listing says."""
LOOKS = (0.0, 2.0, 8.0)
"""The waits (seconds) before each look for a change that a listing does not show yet."""
SHARDS = tuple(f"{number:02x}" for number in range(256))
Pause = Callable[[float], object]
"""Waits so many seconds, or until the destination is closed."""
_NAME = re.compile(r"[0-9a-f]{64}")
_FOLDER = "FOLDER"


class _Folder:
    """One folder: Apple's ids of it (several where two were made under one name) and its objects by the last listing; None: unclear."""

    def __init__(self, nodes: Iterable[Item]) -> None:
        self.nodes = sorted(nodes, key=lambda node: node.docwsid)
        self.objects: dict[str, Item] | None = None


class _Change:
    """What this process did to a name: the object stored last, if any, and the documents that it removed."""

    def __init__(self) -> None:
        self.stored: Item | None = None
        self.removed: set[str] = set()
        self.at = time.monotonic()


class Folders:
    """A place in it is `""` (where the config is), `keys`, `index` …, `data`, or `data/ab`. Errors as those of the destination."""

    def __init__(self, path: Sequence[str], drive: Drive, faults: Faults, pause: Pause, looks: Sequence[float] = LOOKS) -> None:
        self._path, self._drive, self._faults = path, drive, faults
        self._pause, self._looks = pause, looks
        self._lock = threading.RLock()
        self._folders: dict[str, _Folder] = {}
        self._changes: dict[tuple[str, str], _Change] = {}

    # --- which folders there are ------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the folder and all of restic's folders in it; those that are there stay."""
        with self._lock:
            above = Item(ROOT, "root")
            for part in self._path:
                above = self._find(above, part) or self._make(above, [part])[part]
            self._folders = {"": _Folder([above])}
            for place, names in (("", KINDS[1:]), ("data", SHARDS)):
                self._take_in(place, names)
                missing = [name for name in names if _below(place, name) not in self._folders]
                for name, item in self._make(self._folder(place).nodes[0], missing).items() if missing else ():
                    self._folders[_below(place, name)] = _Folder([item])

    def found(self) -> bool:
        """Whether the repository's folder is there, with all that is in it known."""
        with self._lock:
            if self._folders:
                return True
            node: Item | None = Item(ROOT, "root")
            for part in self._path:
                node = self._find(node, part) if node is not None else None
            if node is None:
                return False
            self._folders = {"": _Folder([node])}
            self._take_in("", KINDS[1:])
            return True

    def check(self) -> None:
        """Raise NoRepository where the folder is not there: it is never made but by `create`."""
        if not self.found():
            raise self.nothing_there()

    def nothing_there(self) -> NoRepository:
        """The error for a place without repository."""
        label = self._faults.label
        hint = f"see that the folder has this name at https://www.icloud.com; a new repository is made by: backup init --repo '{label}'"
        return NoRepository(f"there is no repository at {label}", hint)

    def places(self, kind: str) -> list[str]:
        """The places where objects of a kind are."""
        with self._lock:
            if kind not in self._folders:
                self._take_in("", [kind])
            if kind != "data" or kind not in self._folders:
                return [kind] if kind in self._folders else []
            if not all(_below("data", shard) in self._folders for shard in SHARDS):
                self._take_in("data", SHARDS)
            return [place for place in self._folders if place.startswith("data/")]

    def node(self, place: str) -> Item:
        """The folder to write to: the same one for everybody who looks. Made where it is missing."""
        with self._lock:
            if place not in self._folders:
                above, _, name = place.rpartition("/")
                parent = self.node(above)
                self._take_in(above, [name])
                if place not in self._folders:
                    self._folders[place] = _Folder([self._make(parent, [name])[name]])
            return self._folders[place].nodes[0]

    def _folder(self, place: str) -> _Folder:
        found = self._folders.get(place)
        if found is None:  # another thread has just seen that all is gone, or moved
            raise self._faults.unreachable("a folder of the archive in iCloud was moved or removed")
        return found

    def _find(self, above: Item, name: str) -> Item | None:
        """The folder of that name; of several, the one that everybody takes. Raises UsageError for what is no folder of one's own."""
        listing = self._drive.list_folders([above.drivewsid])[0]
        found = sorted((item for item in listing.items or () if folded(item.full_name) == folded(name)), key=lambda item: item.docwsid)
        folders = [item for item in found if item.type == _FOLDER]
        if found and not folders:
            hint = "name another folder: one of your own, that nobody shares with you and no app owns"
            raise UsageError(f"{shown(name)} in iCloud Drive is no folder that an archive can be kept in", hint)
        return folders[0] if folders else None

    def _make(self, above: Item, names: Sequence[str]) -> dict[str, Item]:
        """Make folders whose names were free. What Apple called otherwise, because another machine was quicker, is taken away again."""
        made: dict[str, Item] = {}
        for item in self._drive.make_folders(above.drivewsid, names):
            if item.full_name in names:
                made[item.full_name] = item
            else:
                self._drive.trash(item)
        for seconds in self._looks:
            if len(made) == len(names):
                return made
            self._pause(seconds)
            listing = self._drive.list_folders([above.drivewsid])[0]
            made |= {item.full_name: item for item in listing.items or () if item.full_name in names and item.type == _FOLDER}
        raise self._faults.unreachable("iCloud did not make all folders of the archive")

    def _take_in(self, place: str, names: Sequence[str]) -> None:
        """List a folder of folders, and know those in it."""
        items = self.raw(place)
        if place == "":
            self._folder("").objects = self._merged("", items)
        for name in names:
            nodes = [item for item in items if item.full_name == name and item.type == _FOLDER]
            if nodes and _below(place, name) not in self._folders:
                self._folders[_below(place, name)] = _Folder(nodes)

    # --- what is in them --------------------------------------------------------------------------------------------------------------

    def raw(self, place: str) -> list[Item]:
        """What Apple lists in a place, as it is."""
        return [item for _, item in self._listed([place])]

    def objects(self, places: Sequence[str]) -> dict[str, Item]:
        """All objects of these places by a listing made now, with what this process has done in the last minutes."""
        items: dict[str, list[Item]] = {place: [] for place in places}
        for place, item in self._listed(places):
            items[place].append(item)
        found: dict[str, Item] = {}
        for place in places:
            with self._lock:
                self._folder(place).objects = merged = self._merged(place, items[place])
            found |= merged
        return found

    def object(self, place: str, name: str, *, fresh: bool) -> Item | None:
        """An object, without `fresh` from the last listing if that has it; None where it is not there."""
        with self._lock:
            folder = self._folders.get(place)
            known = folder.objects.get(name) if folder is not None and folder.objects and not fresh else None
            if folder is None and place not in self.places(place.partition("/")[0]):
                return None
        return known or self.objects([place]).get(name)

    def taken(self, place: str, name: str) -> Item | None:
        """The object of a name that is about to be stored, looked for where it may be: all folders of packs are listed once, at first."""
        with self._lock:
            self.node(place)
            known = self._folder(place).objects
        if known is not None:
            return self.objects([place]).get(name) if name in known else None
        siblings = self.places("data") if place.startswith("data/") else []
        unseen = [each for each in siblings if self._folder(each).objects is None]
        self.objects(unseen if place in unseen else [place])
        return (self._folder(place).objects or {}).get(name)

    def remember(self, place: str, name: str, stored: Item | None, removed: str = "") -> None:
        """This process stored an object under the name, or removed the document of this id."""
        with self._lock:
            change = self._changes.setdefault((place, name), _Change())
            change.stored, change.at = stored, time.monotonic()
            change.removed |= {removed} if removed else set()
            folder = self._folders.get(place)
            if folder is None or folder.objects is None:
                return
            if stored is not None:
                folder.objects[name] = stored
            else:
                folder.objects.pop(name, None)

    def forget(self, place: str) -> None:
        """It is not clear what is in this place: it is listed anew before anything is stored there."""
        with self._lock:
            if place in self._folders:
                self._folders[place].objects = None

    def find_copies(self) -> Iterator[Item]:
        """Files called `… 2` beside the object of that name in the same size: two machines stored it at one moment."""
        listed = list(self._listed(["", *(place for kind in KINDS[1:] for place in self.places(kind))]))
        sizes = {(place, item.full_name): item.size for place, item in listed if _is_object(place, item.full_name)}
        for place, item in listed:
            name = re.sub(r" \d{1,3}$", "", item.full_name)
            if name != item.full_name and item.type == "FILE" and sizes.get((place, name), -1) == item.size:
                yield item

    def _listed(self, places: Sequence[str]) -> Iterator[tuple[str, Item]]:
        """Every item of these places, as Apple lists them."""
        nodes = [(place, node) for place in places for node in self._folder(place).nodes]
        for (place, _), listing in zip(nodes, self._drive.list_folders([node.drivewsid for _, node in nodes]), strict=True):
            yield from ((place, item) for item in self._there(listing))

    def _there(self, listing: Listing) -> list[Item]:
        """The items of a folder that is there. Raises NoRepository where all is gone, Unreachable where only this folder is."""
        if not listing.is_gone:
            return listing.items or []
        with self._lock:
            self._folders, self._changes = {}, {}
        self.check()
        raise self._faults.unreachable("a folder of the archive in iCloud was moved or removed")

    def _merged(self, place: str, items: Iterable[Item]) -> dict[str, Item]:
        """The objects of a listing, corrected by our own latest changes."""
        now = time.monotonic()
        self._changes = {key: change for key, change in self._changes.items() if now - change.at < LAG_SECONDS}
        ours = {name: change for (where, name), change in self._changes.items() if where == place}
        removed = {id for change in ours.values() for id in change.removed}
        found = {
            item.full_name: item
            for item in items
            if item.type == "FILE" and _is_object(place, item.full_name) and item.docwsid not in removed
        }
        stored = {name: change.stored for name, change in ours.items() if change.stored is not None and name not in found}
        return {**found, **stored}


def path_of(place: str) -> list[str]:
    """The folders that lead to a place (parts divided by `/`). Raises UsageError for names that Apple does not take."""
    parts = [part for part in place.split("/") if part]
    if not parts or any(part in (".", "..") or ":" in part or not part.isprintable() or len(part.encode()) > 255 for part in parts):
        raise UsageError("that is no name of a folder in iCloud Drive", 'name one, for example: folder = "Voice notes"')
    return parts


def is_name(name: str) -> bool:
    """True for a name of an object."""
    return _NAME.fullmatch(name) is not None


def _is_object(place: str, name: str) -> bool:
    """True for what may be an object there; everything else is foreign."""
    if place == "":
        return name == "config"
    return is_name(name) and (not place.startswith("data") or place == f"data/{name[:2]}")


def _below(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name
