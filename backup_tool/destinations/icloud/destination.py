"""A destination that is a folder in iCloud Drive, laid out as restic's design document says: restic opens it in the folder that a Mac keeps
of it, or through rclone.

iCloud never overwrites, so an object is looked for before it is sent, and what Apple called it is compared afterwards: a second `… 2` is
taken away again at once.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from backup_tool.destinations.base import KINDS, Condition, ObjectKind
from backup_tool.destinations.drafts import StagedDraft
from backup_tool.destinations.icloud.account import Account, Wait
from backup_tool.destinations.icloud.drive import Document, Drive, Item, Slot, Taken
from backup_tool.destinations.icloud.faults import Faults
from backup_tool.destinations.icloud.folders import LOOKS, Folders, is_name, path_of
from backup_tool.destinations.icloud.session import SessionStore, warning
from backup_tool.destinations.limits import UploadLimit
from backup_tool.destinations.retry import Retry
from backup_tool.errors import BackupError, BadRange, ObjectMissing, Unreachable
from backup_tool.names import shown


class ICloudDestination:
    """The folder `place` (parts divided by `/`) of an account that has signed in. Nothing is asked before the first operation.

    `home` holds the sign-in; `name` is what a person types after `backup login`; `account` and `china` are what the settings say, if they
    do. `wait` and `looks` are for tests in a hurry.
    """

    def __init__(
        self,
        place: str,
        *,
        home: Path,
        name: str = "",
        account: str = "",
        china: bool | None = None,
        limit: UploadLimit | None = None,
        wait: Wait = threading.Event.wait,
        looks: Sequence[float] = LOOKS,
    ) -> None:
        self.label = f"icloud:{shown(place, 200)}"
        self._faults = Faults(self.label, name or self.label, account.strip().lower())
        self._account = Account(SessionStore(home), self._faults, china=china, wait=wait)
        self._drive = Drive(self._account, limit)
        self._looks = looks
        self._folders = Folders(path_of(place), self._drive, self._faults, self._pause, looks)
        self._opened = False

    def create(self) -> None:
        """Make the folder and all of restic's folders in it; those that are there stay."""
        self._folders.create()

    def exists(self) -> bool:
        """True where the file `config` is."""
        found = self._folders.found() and self._folders.object("", "config", fresh=True) is not None
        self._opened = self._opened or found
        return found

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """Store the bytes under the name."""
        self.save_body(kind, name, io.BytesIO(data), len(data))

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """`save` from a local file, piece by piece. Raises OSError where it cannot be opened."""
        with path.open("rb") as body:
            self.save_body(kind, name, body, body.seek(0, io.SEEK_END))

    def draft(self, kind: ObjectKind) -> StagedDraft:
        """An object whose name is known only at its end; until then it is a nameless file on this machine."""
        return StagedDraft(self, kind)

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes, or exactly `length` of them from `offset`."""
        place, name = _place(kind, name)
        self.check_place()
        if offset < 0 or (length is not None and length < 0):
            raise BadRange(f"bytes {offset} + {length} of {kind} {name[:16]}")
        for fresh in (False, True):  # what was listed earlier may have been replaced since
            item = self._found(place, name, fresh=fresh)
            size = item.size or 0
            end = size if length is None else offset + length
            if max(offset, end) <= size:
                data = self._drive.fetch(item, offset, end - offset) if end > offset else b""
                if data is not None:
                    return data
            elif fresh:
                raise BadRange(f"bytes {offset} to {end} of {kind} {name[:16]}, which has {size}")
        raise self._missing(place, name)

    def size(self, kind: ObjectKind, name: str) -> int:
        """The stored size in bytes."""
        place, name = _place(kind, name)
        self.check_place()
        return self._found(place, name, fresh=True).size or 0

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """All (name, size) of a kind; foreign files are passed over."""
        self.check_place()
        found = self._folders.objects([""] if kind == "config" else self._folders.places(kind))
        if not found and kind != "locks" and self._opened and not self.exists():
            raise self._folders.nothing_there()
        yield from ((name, item.size or 0) for name, item in found.items())

    def remove(self, kind: ObjectKind, name: str) -> None:
        """Move an object to Apple's trash, where it stays for about 30 days; one that is not there counts as removed."""
        place, name = _place(kind, name)
        self.check_place()
        item = self._folders.object(place, name, fresh=True)
        if item is not None:
            self._trash(place, name, item)
        elif self._opened and kind != "config" and not self.exists():
            raise self._folders.nothing_there()

    def age(self, kind: ObjectKind, name: str) -> float:
        """Seconds since the object was stored, by Apple's clock and the newest of its times: never too many."""
        place, name = _place(kind, name)
        self.check_place()
        stored = self._found(place, name, fresh=True).stored
        return 0.0 if stored is None else time.time() + self._account.clock_ahead - stored

    def sweep(self) -> int:
        """Take away the second copies that uploads of two machines at one moment left."""
        return sum([self._drive.trash(item) for item in self._folders.find_copies()]) if self._folders.found() else 0

    def close(self) -> None:
        """Keep the sign-in and end all connections, those in use too."""
        self._account.close()

    def notices(self) -> Sequence[str]:
        """That the sign-in ends soon, where it does."""
        text = warning(self._account.days_left(), self._faults.command)
        return [text] if text else []

    def condition(self) -> Condition:
        """The account, its room and the sign-in, as Apple and this machine know them."""
        there = self._folders.found()
        limit, used = self._drive.quota()
        saved = self._account.saved
        return Condition(
            account=saved.account,
            limit=limit,
            used=used,
            signed_in=_time(saved.signed_in),
            sign_in_ends=_time(time.time() + saved.days_left(time.time()) * 86_400),
            folder="there" if there else "absent",
        )

    def check_place(self) -> None:
        """Raise NoRepository where the folder is not there: it is never made but by `create`."""
        self._folders.check()

    def save_body(self, kind: ObjectKind, name: str, body: BinaryIO, size: int) -> None:
        """Store `size` bytes of a file that can be read again from its start, unless they are there."""
        place, name = _place(kind, name)
        self.check_place()
        try:
            there = self._folders.taken(place, name)
            if there is not None and there.size == size:
                return
            if there is not None:  # a broken earlier try: of another size
                self._trash(place, name, there)
            self._folders.remember(place, name, self._send(place, name, body, size))
        except Unreachable:
            self._folders.forget(place)
            raise
        self._opened = self._opened or kind == "config"

    def _send(self, place: str, name: str, body: BinaryIO, size: int) -> Item:
        parent = self._folders.node(place)
        slot = self._drive.slot(name, size, parent.zone)
        stored = self._drive.send(slot, body, size)
        try:
            document = self._drive.commit(parent.docwsid, name, slot, stored, parent.zone)
        except Taken as taken:
            return self._settle(place, name, size, None if taken.document is None else _item(taken.document, parent.zone))
        except Unreachable as lost:
            return self._found_again(place, name, size, slot, lost)
        return _item(document, parent.zone)

    def _found_again(self, place: str, name: str, size: int, slot: Slot, lost: Unreachable) -> Item:
        """The answer was lost: the document's id tells whether it was done. Not found, it is sent again from the start."""
        for item in self._looked(place, lambda item: item.docwsid == slot.document_id):
            return item if item.full_name == name else self._settle(place, name, size, item)
        raise lost

    def _settle(self, place: str, name: str, size: int, ours: Item | None) -> Item:
        """Somebody else stored the name at the same moment. Theirs stays if it is whole; ours goes, where Apple made one of it."""
        if ours is not None and not self._drive.trash(ours):
            raise self._faults.unreachable("iCloud does not know a file that it has just made")
        for item in self._looked(place, lambda item: item.full_name == name):
            if item.size == size:
                return item
        raise self._faults.unreachable("iCloud has another file under a name of ours")

    def _looked(self, place: str, wanted: Callable[[Item], bool]) -> Iterator[Item]:
        """The items that are wanted, as soon as a listing has one."""
        for seconds in self._looks:
            self._pause(seconds)
            if found := [item for item in self._folders.raw(place) if wanted(item)]:
                yield from found
                return

    def _trash(self, place: str, name: str, item: Item) -> None:
        self._drive.trash(item)
        self._folders.remember(place, name, None, item.docwsid)

    def _pause(self, seconds: float) -> object:
        return self._account.wait(self._account.closed, seconds) if seconds else False

    def _found(self, place: str, name: str, *, fresh: bool) -> Item:
        """An object; raises ObjectMissing."""
        item = self._folders.object(place, name, fresh=fresh)
        if item is None:
            raise self._missing(place, name)
        self._opened = self._opened or name == "config"
        return item

    def _missing(self, place: str, name: str) -> BackupError:
        """ObjectMissing; NoRepository where the whole repository is gone that was there before."""
        if self._opened and not self.exists():
            return self._folders.nothing_there()
        return ObjectMissing(f"there is no {place.partition('/')[0] or 'config'} {name[:16]} at {self.label}")


class PatientICloud(Retry):
    """An `ICloudDestination` that tries again, with its extras."""

    def __init__(self, inner: ICloudDestination, *, wait: Wait = threading.Event.wait) -> None:
        super().__init__(inner, wait=wait)
        self._icloud = inner

    def notices(self) -> Sequence[str]:
        """As the destination's."""
        return self._icloud.notices()

    def condition(self) -> Condition:
        """As the destination's."""
        return self._try(self._icloud.condition)


def _place(kind: ObjectKind, name: str) -> tuple[str, str]:
    """Where an object is, and its name there. Raises BackupError for what is no name."""
    if kind == "config":
        return "", "config"
    if kind not in KINDS or not is_name(name):
        raise BackupError(f"{shown(name)!r} is no name of an object of kind {shown(kind)}")
    return (f"data/{name[:2]}" if kind == "data" else kind), name


def _item(document: Document, zone: str) -> Item:
    """A document that was just made visible, as listings will show it."""
    id, now = document.document_id, _time(time.time())
    return Item(f"FILE::{zone}::{id}", id, zone, "FILE", document.name, document.extension, document.size, document.etag, dateModified=now)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
