"""Bring every place level: what waits from earlier nights, what mirrors lack, and what this run stores, each place in its own pace.

A place gets a snapshot only when it has all that the snapshot names. For what this run stores, the order of delivery sees to that. A mirror
is first given everything that the view has. And a snapshot that has waited is held against the index and the packs of the place as they are
now, under its lock: somebody may have pruned there meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import Literal

import msgspec

from backup_tool.actions import history
from backup_tool.actions.history import Lacking
from backup_tool.actions.state import State
from backup_tool.destinations.base import Destination
from backup_tool.destinations.places import where
from backup_tool.destinations.several.courier import Courier
from backup_tool.destinations.several.delivery import Delivery
from backup_tool.destinations.several.reading import Place
from backup_tool.destinations.several.spool import QUEUED, Parcel, Spool
from backup_tool.errors import BackupError, DamagedObject, Incomplete, IntegrityError, ObjectMissing, gravest
from backup_tool.models import Progress
from backup_tool.names import in_bytes
from backup_tool.repository import Repository, Snapshot
from backup_tool.repository.index import BlobKind
from backup_tool.repository.locks import HeldLock
from backup_tool.repository.snapshots import short_id


class Delivered(msgspec.Struct, omit_defaults=True):
    """What became of a run at one destination: `delivered` (it has everything), `queued` (what it lacks is kept for it) or `failed` (a
    person has to do something first); the objects and bytes that it took in this run. `code` is the exit code that stands for `error`,
    `lacks` what is kept for it, of earlier runs too; None where that is not known. `alone` are the snapshots that it has and the primary
    never had; None where that was not looked at."""

    name: str
    status: Literal["delivered", "queued", "failed"]
    objects: int
    bytes: int
    error: str | None
    code: int | None = None
    lacks: Lacking | None = None
    alone: int | None = None


def not_reached(place: Place) -> Delivered:
    """What became of a place that could not be asked, or is not to be."""
    assert place.error is not None
    status: Literal["queued", "failed"] = "failed" if place.refused else "queued"
    return Delivered(place.name, status, 0, 0, _told(place, place.error), place.error.exit_code)


class Shipping:
    """The delivery of one run, which holds the repository's lock: `begin`, store, `settle` before the snapshot is written, `finish`."""

    def __init__(self, delivery: Delivery, repository: Repository, lock: HeldLock, state: State, progress: Progress) -> None:
        self._delivery = delivery
        self._repository = repository
        self._lock = lock
        self._state = state
        self._progress = progress
        self._locks = ExitStack()
        self._queued: list[Snapshot] = []
        self._held_back: Incomplete | None = None
        delivery.is_kept = lambda one: one.kind in ("index", "snapshots") or (one.kind == "data" and repository.is_read_whole(one.name))
        self._elsewhere: dict[str, Repository] = {}
        self._compared: set[str] = set()
        self._alone: dict[str, int] = {}
        """By mirror: how many snapshots it has that the view never had."""
        self._out_of_reach: Mapping[str, int] | None = None
        """Packs that wait for the view and cannot be had; None before that was looked at."""
        self._told_of: set[str] = set()
        """What cannot be delivered, as an earlier run has said."""
        self._before = history.load(state) or history.History()

    def __enter__(self) -> Shipping:
        return self

    def __exit__(self, *error: object) -> None:
        self._locks.close()

    # At the start

    def begin(self, *, all_data: bool = False) -> None:
        """Send off what waits, and what mirrors lack. With `all_data` every pack is compared, not only the index."""
        if (goods := self._goods()) is None:
            return
        view, self._queued = goods.view, goods.queued
        self._tell_of_undeliverable(goods)
        self._drop_stale_index(goods)
        if all_data:
            self._heal(self._delivery.couriers[view.name], goods.listed["data"])
        for courier in self._delivery.couriers.values():
            try:
                if courier.place is view:
                    courier.may_write = self._lock.refuse_if_lost
                    goods.send_waiting(courier)
                else:
                    self._level(courier, goods, all_data)
                self._compared.add(courier.place.name)
            except BackupError as error:
                courier.error = error
        if self._queued:
            self._repository.load_index()
            self.settle()

    def _goods(self) -> _Goods | None:
        """What there is to deliver; None where no place is left. A view that goes away already is replaced by the next place."""
        delivery, locked = self._delivery, self._delivery.primary
        while delivery.view is not None or delivery.change_view():
            view = delivery.view
            assert view is not None
            try:
                if view is not locked:
                    self._locks.enter_context(self._repository.at(view.destination).lock())
                    locked = view
                goods = _Goods(delivery, view, self._repository.snapshots())
                if delivery.view is view:
                    delivery.is_settled = True
                    return goods
            except BackupError as error:
                delivery.lose(view, error)
        return None

    def _drop_stale_index(self, goods: _Goods) -> None:
        """An index file that has waited may name packs that were pruned meanwhile: one may stand for others. The run writes another."""
        spool = self._delivery.spool
        for parcel in [one for one in goods.waiting if one.kind == "index"]:
            assert spool is not None
            try:
                named = self._repository.at(spool.store).packs_in_index(parcel.name, parcel.size)
            except DamagedObject:
                named = {""}
            if named <= goods.packs.keys():
                continue
            if named <= goods.packs.keys() | goods.out_of_reach.keys():
                self._delivery.hold_back(parcel.name)  # it is right, when the place that has them is back
            else:
                spool.store.remove("index", parcel.name)
            goods.waiting.remove(parcel)
            goods.listed["index"].pop(parcel.name, None)

    def _tell_of_undeliverable(self, goods: _Goods) -> None:
        """What a place has that the settings no longer name is said once. It waits, with all that names it, until that place is back."""
        self._out_of_reach, spool = goods.out_of_reach, self._delivery.spool
        if spool is None or not self._out_of_reach:
            return
        if self._out_of_reach.keys() <= spool.aside:
            self._told_of = spool.aside
        else:
            primary, places = self._delivery.primary, {place.destination.label for place in self._delivery.places}
            where_to = " or ".join(label for label in spool.places() if label not in places) or "a place that was taken away"
            what = f"{in_bytes(sum(self._out_of_reach.values()))} that wait for {primary.name} are at no destination of the settings"
            self._progress.warn(
                f"{what}: they went to {where_to} only, and cannot be delivered (write that destination into the settings again, "
                "then: backup sync; until then the run goes on without, and stores again what the sources still have)"
            )

    def _heal(self, courier: Courier, listed: dict[str, int]) -> None:
        """Packs that the view's own index names, and that are gone or cut short there: they come back from a mirror that has them."""
        self._repository.load_index()
        lost = dict(self._repository.index.cut_short({bytes.fromhex(name): size for name, size in listed.items()}))
        for place in self._delivery.places if lost else ():
            if place is courier.place or place.error is not None:
                continue
            with suppress(BackupError):  # a mirror that fails is told of when it is levelled
                for name, size in place.destination.list("data"):
                    if size >= lost.get(bytes.fromhex(name), size + 1):
                        courier.put(Parcel("data", name, size))
                        listed[name] = size
                        del lost[bytes.fromhex(name)]

    def _level(self, courier: Courier, goods: _Goods, all_data: bool) -> None:
        mirror = courier.place
        there = self._repository.at(mirror.destination)
        courier.may_write = self._locks.enter_context(there.lock()).refuse_if_lost
        has = {name for name, _ in mirror.destination.list("snapshots")}
        self._refuse_rolled_back(mirror, has, goods.snapshots.keys())
        self._tell_of_others(mirror, goods.view, has - goods.snapshots.keys())
        goods.send(courier, all_data=all_data, has=has)

    def _tell_of_others(self, mirror: Place, view: Place, more: set[str]) -> None:
        """What was stored at a mirror alone stays there alone, and is not in what a person sees of the archive."""
        self._alone[mirror.name] = 0
        if not more:
            return
        spool, stored = self._delivery.spool, self._repository.snapshots()
        had = self._state.held(self._copy(view)) | (spool.had("snapshots") if spool is not None else set())
        above = {short_id(id) for one in stored for id in (one.id, one.parent or "", *(one.ancestors or ()))}
        if own := [id for id in more - had if short_id(id) not in above]:
            self._alone[mirror.name] = len(own)
            many = "a snapshot" if len(own) == 1 else f"{len(own)} snapshots"
            self._progress.warn(
                f"{mirror.name} has {many} that {view.name} never had: notes that are in there alone are not seen here (backup list "
                f"--repo {mirror.name} shows them; to bring them to {view.name}, name {mirror.name} first in the settings "
                "once, and type: backup sync)"
            )

    def _refuse_rolled_back(self, mirror: Place, has: set[str], stored: Iterable[str]) -> None:
        """A mirror that lacks snapshots which it had, and the view still has, is an older copy: somebody should know why."""
        if gone := (self._state.held(self._copy(mirror)) - has) & set(stored):
            many = "a snapshot that it had is" if len(gone) == 1 else f"{len(gone)} snapshots that it had are"
            hint = f"if that is right, say so, and it is levelled again: backup check --accept-gone --repo {mirror.name}"
            mirror.refuse(error := IntegrityError(f"{mirror.name} was rolled back: {many} gone from it", hint))
            raise error

    def _copy(self, place: Place) -> str:
        return f"{self._repository.id} {where(place.destination)}"

    # Snapshots that have waited

    def settle(self) -> None:
        """Deliver them, oldest first, where all that they name is there; others go on waiting. Do it again when the run has stored more."""
        view = self._delivery.view
        if not self._queued or view is None or not self._arrived(courier := self._delivery.couriers[view.name]):
            return
        there = self._repository.at(view.destination)
        self._held_back = None
        for one in list(self._queued):
            if self._lacks(there, one, courier):
                if self._out_of_reach:
                    self._delivery.hold_back(one.id)  # nothing is built on what may be nowhere
                if one.id not in self._told_of:
                    what = f"snapshot {one.id[:8]} waits: not all that it names is at {view.name}"
                    self._held_back = Incomplete(what, "see: backup check")
                continue
            self._queued.remove(one)
            self._send_snapshot(one)

    def _lacks(self, there: Repository, one: Snapshot, courier: Courier) -> bool:
        """Whether a place lacks something that a snapshot names. What another place has is stored there first."""
        try:
            named = self._repository.named_by(one, lambda id: self._anywhere("tree", id))
        except DamagedObject:
            self._delivery.hold_back(one.id)  # nobody could read it now
            return True
        there.load_index()
        lacking = list(there.lacks(named))
        if lacking and self._store_again(lacking) and self._arrived(courier):
            there.load_index()
            lacking = list(there.lacks(lacking))
        return bool(lacking)

    def _arrived(self, courier: Courier) -> bool:
        self._wait(courier)
        return courier.is_going()

    def _store_again(self, blobs: list[tuple[BlobKind, str]]) -> bool:
        """What somebody removed from the view, from whichever place still has it: on its way once more. False where nothing was found."""
        found = 0
        with self._repository.writer() as writer:
            for kind, id in blobs:
                with suppress(DamagedObject):
                    found += writer.add("tree" if kind == "tree" else "audio", self._anywhere(kind, id), id)[1]
        return bool(found)

    def _anywhere(self, kind: BlobKind, id: str) -> bytes:
        """A blob, as the repository has it or any of its places by itself. Raises DamagedObject where none has."""
        if not self._repository.index.has(kind, bytes.fromhex(id)):
            for place in self._delivery.places:
                if place.error is None:
                    there = self._elsewhere.setdefault(place.name, self._repository.at(place.destination))
                    with suppress(BackupError):
                        return there.load_blob(kind, id)
        return self._repository.load_blob(kind, id)

    def _send_snapshot(self, one: Snapshot) -> None:
        for courier in self._delivery.couriers.values():
            with suppress(ObjectMissing):
                courier.put(Parcel("snapshots", one.id, self._delivery.size("snapshots", one.id)))

    # At the end

    def finish(self) -> tuple[list[Delivered], int]:
        """Wait until everything has arrived or was given up. What became of each place, and the exit code of it all."""
        for courier in self._delivery.couriers.values():
            self._wait(courier)
        if self._delivery.spool is not None:
            self._delivery.spool.tidy(self._delivery.primary.name)
            self._set_aside(self._delivery.spool)
            self._remember_primary(self._delivery.spool)
        if self._delivery.view is not None:
            with suppress(BackupError):
                newest = {one.id for one in self._repository.newest_snapshots()}
                self._delivery.note(self._repository.needed_index(), newest)
        times: dict[str, str] = {}
        with suppress(BackupError):
            times = {one.id: one.time for one in self._repository.snapshots()}
        results = [self._result(place, times) for place in self._delivery.places]
        if all(one.status == "delivered" for one in results):
            return results, 0
        errors = [self._error(place) for place in self._delivery.places]
        if any(error is None or isinstance(error, Incomplete) for error in errors):
            return results, Incomplete.exit_code
        return results, gravest(error.exit_code for error in errors if error is not None)

    def _result(self, place: Place, times: Mapping[str, str]) -> Delivered:
        courier, error = self._delivery.couriers.get(place.name), self._error(place)
        objects, size = (courier.objects, courier.bytes) if courier is not None else (0, 0)
        if error is None:
            self._remember(place, times)
            return Delivered(place.name, "delivered", objects, size, None, alone=self._alone.get(place.name, 0))
        status: Literal["queued", "failed"] = "failed" if place.refused else "queued"
        told, lacks, alone = _told(place, error), self._still_lacks(place), self._alone.get(place.name)
        return Delivered(place.name, status, objects, size, told, error.exit_code, lacks, alone)

    def _still_lacks(self, place: Place) -> Lacking | None:
        """What is to be carried there still. A place that was not held against the view lacks what it did before, and what came since."""
        courier = self._delivery.couriers.get(place.name)
        objects, size = courier.to_carry if courier is not None else self._delivery.stored
        if place.name in self._compared:
            return Lacking(objects, size)
        before = self._before.places.get(place.destination.label)
        if before is None or (before.status != "delivered" and before.lacks is None):
            return None
        earlier = before.lacks or Lacking(0, 0)
        return Lacking(earlier.objects + objects, earlier.bytes + size)

    def _error(self, place: Place) -> BackupError | None:
        courier = self._delivery.couriers.get(place.name)
        held_back = self._held_back if place is self._delivery.view else None
        return place.error or (courier.error if courier is not None else None) or held_back

    def _set_aside(self, spool: Spool) -> None:
        if self._out_of_reach is not None:
            with suppress(BackupError):
                spool.set_aside(self._out_of_reach.keys() | self._delivery.held_back if self._out_of_reach else ())

    def _remember_primary(self, spool: Spool) -> None:
        delivery = self._delivery
        if len(delivery.places) > 1 and delivery.primary is delivery.view and self._error(delivery.primary) is None:
            with suppress(BackupError):
                for kind in QUEUED:
                    spool.remember(kind, delivery.view_has(kind))

    def _remember(self, place: Place, times: Mapping[str, str]) -> None:
        """What this run saw there, so that a later one can tell that it was rolled back. `times` are those of all snapshots."""
        copy = self._copy(place)
        with suppress(BackupError):
            delivery = self._delivery
            there = delivery.listed("snapshots") if place is delivery.view else dict(place.destination.list("snapshots"))
            seen = {name: time for name, time in times.items() if name in there}
            self._state.remember_snapshots(copy, {**self._state.witness(copy), **seen})

    def _wait(self, courier: Courier) -> None:
        left = courier.left
        if courier.wait(0.0 if not left else 0.05):
            return
        self._progress.begin(f"sending to {courier.place.name}", left or None, "bytes")
        try:
            while not courier.wait(0.2):
                self._progress.step(max(0, left - courier.left))
                left = min(left, courier.left)
        finally:
            self._progress.end()


def _told(place: Place, error: BackupError) -> str:
    return error.message.removeprefix(f"{place.name} ") + (f" ({error.hint})" if error.hint else "")


class _Goods:
    """What there is to deliver: what the view has, and what waits here."""

    def __init__(self, delivery: Delivery, view: Place, snapshots: list[Snapshot]) -> None:
        """Raises what the view raises where it cannot be listed."""
        self.view = view
        self.listed = {kind: dict(delivery.list(kind)) for kind in ("index", "data")}
        self.snapshots = dict(delivery.listed("snapshots"))
        """Those that the view has, with their sizes."""
        spool = delivery.spool if delivery.waiting is not None else None
        self.waiting = list(spool.waiting()) if spool is not None else []
        self.out_of_reach = delivery.out_of_reach()
        """Packs that wait for the view and cannot be had now."""
        self._owed = {name: size for name, size in (spool.owed if spool is not None else {}).items() if name not in self.out_of_reach}
        self.queued = [one for one in snapshots if one.id not in self.snapshots]
        """Those that wait, oldest first."""
        self._oldest_first = [one.id for one in snapshots if one.id in self.snapshots]

    @property
    def packs(self) -> Mapping[str, int]:
        """Every pack that the view has or will have, with its size."""
        return {**self._owed, **self.listed["data"]}

    def send_waiting(self, courier: Courier) -> None:
        """To the view: all that waits but snapshots, which come when everything that they name is there."""
        for name, size in self._owed.items():
            courier.put(Parcel("data", name, size))
        for parcel in self.waiting:
            if parcel.kind != "snapshots":
                courier.put(parcel)

    def send(self, courier: Courier, *, all_data: bool, has: set[str]) -> None:
        """To a mirror: what it lacks of all there is. Who has an index file has its packs: that is the order in which they come."""
        mirror = courier.place.destination
        parcels = _lacking("keys", dict(self.view.destination.list("keys")), mirror)
        index = _lacking("index", self.listed["index"], mirror)
        if index or all_data:
            parcels += _lacking("data", self.packs, mirror)
        parcels += index
        parcels += [Parcel("snapshots", name, self.snapshots[name]) for name in self._oldest_first if name not in has]
        for parcel in parcels:
            courier.put(parcel)


def _lacking(kind: Literal["keys", "index", "data"], wanted: Mapping[str, int], mirror: Destination) -> list[Parcel]:
    has = dict(mirror.list(kind))
    return [Parcel(kind, name, size) for name, size in sorted(wanted.items()) if has.get(name) != size]
