"""Writing to several places, or to one over a network: objects are stored on this machine first, and carried from there while work goes on.

They are stored in the primary itself where that is a folder of this machine that can be reached; else in the spool. What was stored counts
from then on, for this process and for the next one; each place gets packs first, then the index, then snapshots (`courier`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from backup_tool.destinations.base import Destination, Draft, ObjectKind
from backup_tool.destinations.cache import Kept
from backup_tool.destinations.files import NewFile, told
from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.several.courier import Courier
from backup_tool.destinations.several.reading import Bytes, Place, Several, T, config_damaged, is_named, no_repository
from backup_tool.destinations.several.spool import QUEUED, Parcel, Spool, find_spool
from backup_tool.errors import (
    BackupError,
    BadRange,
    Incomplete,
    IntegrityError,
    NoSpace,
    ObjectMissing,
    gravest,
)

_PIECE = 4 * 2**20
_ROOM = 256 * 2**20


class Delivery(Several):
    """A destination that delivers to all places; the first is the primary. `spools` is the folder for spools.

    `exists` looks which places can be reached: call it first. Where the view goes away in the middle of a run, what it last listed stands,
    its locks are held in memory only, and what was written for it waits. `memory` is asked for what no place that is reached can give: what
    this machine has kept of the repository.
    """

    memory: Kept | None = None
    is_kept: Callable[[Parcel], bool] = staticmethod(lambda parcel: parcel.kind in ("index", "snapshots"))
    """Whether a copy of an object that was delivered stays in `memory`: index files, snapshots, catalogs and trees are read every night."""
    is_settled = False
    """Whether something was built on the view: it is not exchanged for another place any more."""

    def __init__(
        self,
        places: Sequence[Place],
        spools: Path,
        *,
        bound: int,
        cache: Path | None = None,
        uploads: int = 4,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(places, told=told)
        self.couriers: dict[str, Courier] = {}
        self._cache = cache
        self._added: dict[ObjectKind, dict[str, int]] = {}
        self._spools, self._bound, self._uploads = spools, bound, uploads
        self._locks: dict[str, bytes] = {}
        self._held_back: set[str] = set()
        self._listed: dict[ObjectKind, dict[str, int]] = {}
        self._store: LocalDestination | None = None
        self._probed = False
        self._strangers: list[Place] = []
        """Places that were refused for having another config than the view."""
        self._new_spool = False
        self._is_writable = True
        """Whether the spool can be written."""

    # Looking what is there

    @property
    def primary(self) -> Place:
        """The first place."""
        return self.places[0]

    @property
    def store(self) -> LocalDestination:
        """Where new objects are stored: the primary, or the spool."""
        if self._store is None:
            raise BackupError("nothing is delivered before it is known what is reached")
        return self._store

    def exists(self) -> bool:
        """Look at all places at once, and get ready. True where one of them, or the spool of an earlier run, has the repository.

        Raises what the first place raised where none has it. A place with another repository is refused.
        """
        if self._probed:
            return True
        configs = self._look()
        reached = [(place, config) for place, config in zip(self.places, configs, strict=True) if config is not None]
        if not reached:
            return self._begin_away()
        self.view, config = reached[0]
        self._refuse_strangers(self.view, reached)
        self.spool = Spool(self._spools / hashlib.sha256(config).hexdigest()[:16], self._bound)
        primary = self.primary.destination
        direct = isinstance(primary, LocalDestination) and self.primary.error is None
        if direct and len(reached) > 1:
            direct = _has_room(primary)
        if not direct or len(self.places) > 1 or self.spool.store.path.is_dir():
            self._prepare(self.spool, config, self.view, needed=not direct)
        self.memory = None if self._cache is None else Kept(self._cache, config)
        self._store = primary if direct and isinstance(primary, LocalDestination) else self.spool.store
        self.waiting = None if self.spool is None or (self.spool.is_empty() and direct) else self.spool.store
        self._start()
        return True

    def _refuse_strangers(self, view: Place, reached: Sequence[tuple[Place, bytes]]) -> None:
        """What is no mirror of the view: another repository, or the same place under a second name."""
        for number, (place, config) in enumerate(reached[1:], 1):
            if config != reached[0][1]:
                place.refuse(self._another(place, view))
                self._strangers.append(place)
            elif twin := next((one for one, _ in reached[:number] if _is_same(one.destination, place.destination)), None):
                hint = f"give {place.name} a place of its own in the settings, then: backup init --repo {place.name}"
                place.refuse(BackupError(f"{place.name} is the same place as {twin.name}, and no second copy", hint))

    def _prepare(self, spool: Spool, config: bytes, view: Place, *, needed: bool) -> None:
        """Make the spool ready. One that cannot be written is done without where it is not `needed`; what waits in it can be read still."""
        self._new_spool = not spool.store.path.is_dir()
        try:
            spool.prepare(config, self._keys_of(view), [place.destination.label for place in self.places])
        except BackupError as error:
            if needed:
                raise
            self._told(f"the spool is done without ({error.message}): what a place cannot take now is brought there by a later run")
            self._is_writable = False
            with suppress(BackupError):
                spool.load()
                if not spool.is_empty() and spool.is_of(config):
                    return
            self.spool = None

    def pass_over(self, damaged: BackupError) -> bool:
        """As the protocol says: the view, whose config is `damaged`, gets nothing, and what it made look strange is looked at again."""
        broken = self.view
        if broken is None or len(self.places) < 2:
            return False
        for courier in self.couriers.values():
            courier.stop()
        if self.spool is not None and self._new_spool:
            self.spool.discard()
        for place in self._strangers:
            place.error, place.refused = None, False
        broken.refuse(config_damaged(broken))
        self.couriers, self._strangers, self._probed, self.view = {}, [], False, None
        with suppress(BackupError):
            if self.exists():
                broken.refuse(config_damaged(broken, self.view))
                return True
        return False

    def _look(self) -> Sequence[bytes | None]:
        with ThreadPoolExecutor(len(self.places), "looking") as pool:
            try:
                return list(pool.map(_config_of, self.places))
            except BaseException:
                self.close()  # nobody goes on waiting for a place that is silent
                raise

    @staticmethod
    def _another(place: Place, view: Place) -> BackupError:
        """Why a mirror's config is not the view's: it is of another repository, unless a key of it is the same."""
        with suppress(BackupError):
            if {name for name, _ in place.destination.list("keys")} & {name for name, _ in view.destination.list("keys")}:
                hint = f"see which: backup check; it is mended from the other one: backup repair --repo {place.name}"
                return IntegrityError(f"{place.name} has another config than {view.name}, and the same keys: one config is damaged", hint)
        return another_repository(place, view)

    def _begin_away(self) -> bool:
        """No place is reached: go on from what the spool knows, or say why not."""
        self.spool = find_spool(self._spools, [place.destination.label for place in self.places], self._bound)
        if self.spool is None or not self._recall(self.spool):
            self.raise_unreached()  # without the index, everything would be stored once more
            return False
        self._store_in(self.spool)
        self._start()
        return True

    def _recall(self, spool: Spool) -> bool:
        """Take the listings as they were last noted. False where not all that a run needs of them is on this machine."""
        noted = spool.noted()
        if self._cache is None or not noted or not spool.store.exists():
            return False
        self.memory = Kept(self._cache, spool.store.load("config", "config"))
        for kind in ("index", "snapshots"):
            here = {name for place in (self.memory, spool.store) for name, _ in place.list(kind)}
            if not noted.get(kind, {}).keys() <= here:
                return False
        self._listed = {kind: dict(noted.get(kind, {})) for kind in QUEUED}
        self._listed["keys"] = dict(spool.store.list("keys"))
        self.is_settled = True
        return True

    @property
    def is_away(self) -> bool:
        """Whether no place is reached, and this machine goes on from what it has kept."""
        return self.view is None and self.is_settled

    def view_has(self, kind: ObjectKind) -> Mapping[str, int]:
        """What the view listed, and what this run stored: what it has, where all of it was delivered."""
        return {**self._listed.get(kind, {}), **self._added.get(kind, {})}

    @property
    def stored(self) -> tuple[int, int]:
        """(objects, bytes) that this run stored."""
        sizes = [size for of_kind in self._added.values() for size in of_kind.values()]
        return len(sizes), sum(sizes)

    def note(self, index: set[str], snapshots: set[str]) -> None:
        """At the end of a run: these of its index files and snapshots the next one needs, should it reach nobody."""
        if self.spool is None or self.view is None or not self._spooled():
            return
        all_of = {kind: self.view_has(kind) for kind in QUEUED}
        needed = {"index": index, "snapshots": snapshots, "data": all_of["data"].keys()}
        with suppress(BackupError):
            self.spool.note({kind: {name: size for name, size in all_of[kind].items() if name in needed[kind]} for kind in QUEUED})

    def _start(self) -> None:
        self._probed = True
        if self.waiting is not None and self.spool is not None and self._reached():  # else a place that is away may have it
            with suppress(BackupError):  # a spool that cannot be written: what is damaged in it stays there
                self._mend(self.spool)
        for place in self._reached():
            uploads = 1 if isinstance(place.destination, LocalDestination) else self._uploads
            self.couriers[place.name] = Courier(place, self._fetched, self._has_arrived, uploads=uploads)

    def _mend(self, spool: Spool) -> None:
        """What was damaged while it waited is no reason to keep back all the rest: it comes from another place, or goes."""
        for parcel in spool.waiting():
            if _hash_of(spool.store.file_of(parcel.kind, parcel.name)) == parcel.name:
                continue
            found = self._elsewhere(parcel)
            if parcel.kind == "data" and found is not None:
                spool.owe(parcel.name, found[0])
                continue
            spool.store.remove(parcel.kind, parcel.name)
            if found is not None:
                spool.store.save(parcel.kind, parcel.name, found[1])
            else:
                self._told(
                    f"{parcel.kind} {parcel.name[:16]} was damaged on this machine while it waited, and no place that is reached has it"
                )
        spool.load()

    def _elsewhere(self, parcel: Parcel) -> tuple[int, bytes] | None:
        """(size, bytes) of an object at a place that has it; of a pack only the size."""
        for place in self._reached():
            with suppress(BackupError):
                if parcel.kind == "data":
                    return place.destination.size(parcel.kind, parcel.name), b""
                if is_named(data := place.destination.load(parcel.kind, parcel.name), parcel.name):
                    return len(data), data
        return None

    def raise_unreached(self) -> None:
        """Raise the gravest reason why places are not reached, where there is any."""
        errors = [place.error for place in self.places if place.error is not None]
        worst = gravest(error.exit_code for error in errors)
        for error in errors:
            if error.exit_code == worst:
                raise error

    @staticmethod
    def _keys_of(view: Place) -> dict[str, bytes]:
        return {name: view.destination.load("keys", name) for name, _ in view.destination.list("keys")}

    # Storing

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """Store it here, to be delivered. A lock goes to the view."""
        if kind == "locks":
            self._locks[name] = data
            self._lock_view(name, data)
        else:
            store = self._store_of_snapshots() if kind == "snapshots" else self.store
            store.save(kind, name, data)
            self._stored(Parcel(kind, name, len(data)), store)

    def _store_of_snapshots(self) -> LocalDestination:
        """The spool, where a primary that is written directly did not get all that waited for it: a snapshot may name it."""
        courier = self.couriers.get(self.primary.name)
        if courier is not None and self.spool is not None and self.store is not self.spool.store:
            courier.wait()
            if not courier.is_going():
                self.waiting = self.spool.store
                return self.spool.store
        return self.store

    def turn_to_spool(self, full: NoSpace) -> bool:
        """The primary, which was written directly, is `full`: what comes now is stored on this machine, and the primary waits for it. False
        where it is not that which is full, or there is no spool."""
        primary = self.primary.destination
        if self.spool is None or not self._is_writable or self._store is not primary or primary.label not in full.message:
            return False
        self.couriers[self.primary.name].error = full
        self._store_in(self.spool)
        self._listed.pop("data", None)  # what this run has stored there is found again
        return True

    def _lock_view(self, name: str, data: bytes) -> None:
        view = self.view
        if view is None:
            return
        try:
            view.destination.save("locks", name, data)
        except NoSpace as error:  # it is still good for reading; but what is not locked is not written to
            self.couriers[view.name].error = error
            self._do_without(view)
        except BackupError as error:
            self.lose(view, error)
            self._do_without(view)

    def _store_in(self, spool: Spool) -> None:
        self._store = self.waiting = spool.store

    def _do_without(self, place: Place) -> None:
        """Where a lock cannot be written, nothing can: what the others are to get is stored on this machine instead."""
        if not self.is_settled and self.spool is not None and place.destination is self._store:
            self._store_in(self.spool)

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """`save` from a local file."""
        self.store.save_file(kind, name, path)
        self._stored(Parcel(kind, name, path.stat().st_size))

    @contextmanager
    def draft(self, kind: ObjectKind) -> Iterator[Draft]:
        """An object that grows here. A pack waits for room in the spool. Raises NoSpace where there is none, and no place is reached."""
        if kind == "data":
            self.wait_for_room()
        with self.store.draft(kind) as draft, self._growing() as grow:
            yield _Counted(draft, grow, lambda name, size: self._stored(Parcel(kind, name, size)))

    @contextmanager
    def _growing(self) -> Iterator[Callable[[int], None]]:
        """Bytes that grow here take room in the spool before they are an object of it."""
        spool = self.spool if self._spooled() else None
        if spool is None:
            yield lambda size: None
            return
        with spool.growing() as grow:
            yield grow

    def _spooled(self) -> bool:
        """Whether new objects are stored in the spool, and not in a place."""
        return self.spool is not None and self._store is self.spool.store

    def adopt(self, kind: ObjectKind, name: str, size: int) -> None:
        """Another process of ours has stored an object in the folder of `store`."""
        self._stored(Parcel(kind, name, size))
        self.wait_for_room()

    def wait_for_room(self) -> None:
        """Wait until the spool has room. Raises NoSpace where nothing will make any."""
        if self.spool is not None and self._spooled():
            self.spool.wait_for_room(lambda: not any(courier.is_going() for courier in self.couriers.values()))

    def _stored(self, parcel: Parcel, store: LocalDestination | None = None) -> None:
        self._added.setdefault(parcel.kind, {})[parcel.name] = parcel.size
        if self.spool is not None and self._spooled():
            self.spool.put(parcel)
        for courier in self.couriers.values():
            if courier.place.destination is (store or self._store):
                courier.count(parcel)
            else:
                courier.put(parcel)

    # Carrying

    def _has_arrived(self, place: Place, parcel: Parcel) -> None:
        if self.memory is not None and self._spooled() and self.is_kept(parcel) and (path := self._here(parcel)) is not None:
            self.memory.keep(parcel.kind, parcel.name, path)
        if self.spool is not None:
            reached = {courier.place.name for courier in self.couriers.values() if courier.is_going()}
            self.spool.has(parcel, place.name, reached, self.primary.name)

    @contextmanager
    def _fetched(self, parcel: Parcel, to: Place) -> Iterator[Path]:
        """The bytes of an object, held against its name: from this machine, else from another place."""
        path = self._here(parcel)
        if path is not None and _hash_of(path) == parcel.name:
            yield path
            return
        what, hint = f"{parcel.kind} {parcel.name[:16]}", "see: backup check"
        problem: BackupError = Incomplete(f"{what} is at no other place that is reached", hint)
        if path is not None:
            problem = IntegrityError(f"{what} is damaged on this machine, and was not delivered", hint)
        spool = self.spool.store if self.spool is not None and self._is_writable else self.store
        with NewFile(spool.path) as file:
            source = self._copy(parcel, to, file, problem)
            if path is not None:
                self._tell_once(f"{what} is damaged on this machine: {to.name} gets it from {source.name}")
            yield file.path

    def _here(self, parcel: Parcel) -> Path | None:
        stores = [self._store, *([self.spool.store] if self.spool is not None else [])]
        paths = [store.file_of(parcel.kind, parcel.name) for store in stores if store is not None]
        return next((path for path in paths if path.is_file()), None)

    def _copy(self, parcel: Parcel, to: Place, file: NewFile, problem: BackupError) -> Place:
        """Fill the file from another place, and say which. Raises `problem` where none has the object."""
        is_damaged = isinstance(problem, IntegrityError)
        for place in [place for place in self.places if place is not to and place.error is None]:
            try:
                os.ftruncate(file.fd, 0)
                os.lseek(file.fd, 0, os.SEEK_SET)
                digest, done = hashlib.sha256(), 0
                while done < parcel.size:
                    data = place.destination.load(parcel.kind, parcel.name, done, min(_PIECE, parcel.size - done))
                    file.write(data)
                    digest.update(data)
                    done += len(data)
            except OSError as error:
                raise told(error, str(file.path.parent)) from error
            except BackupError as error:
                problem = problem if is_damaged else error
                continue
            if digest.hexdigest() == parcel.name:
                return place
            if not is_damaged:
                hint = f"see: backup check --repo {place.name}"
                problem = IntegrityError(f"{parcel.kind} {parcel.name[:16]} at {place.name} is damaged", hint)
        raise problem

    def hold_back(self, name: str) -> None:
        """A snapshot or an index file that waits is not listed by this process: what it names is not there."""
        self._held_back.add(name)

    @property
    def held_back(self) -> frozenset[str]:
        """What is not listed."""
        return frozenset(self._held_back)

    def out_of_reach(self) -> dict[str, int]:
        """Packs, with their sizes, that left the spool before the primary had them, and that no place has now. Where a place that may have
        them cannot be asked, only those that an earlier run has set aside."""
        if self.spool is None or not (owed := self.spool.owed):
            return {}
        for place in self._reached():
            try:
                there = {name for name, _ in place.destination.list("data")}
            except BackupError as error:
                self.lose(place, error)
                continue
            owed = {name: size for name, size in owed.items() if name not in there}
        aside = owed.keys() if len(self._reached()) == len(self.places) else self.spool.aside
        return {name: size for name, size in owed.items() if name in aside}

    # What is there: by the view, as long as it answers

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """What the view has, or had when it was last asked, and what waits here. Packs are listed once: under its lock, none disappears.

        Raises the view's error where it goes away before it has ever listed that kind.
        """
        if kind == "locks":
            yield from self._at_view(lambda place: [*place.list(kind)], [(name, len(data)) for name, data in self._locks.items()])
            return
        listed = self._listed.get(kind)
        if listed is None or kind != "data":
            listed = self._at_view(lambda place: dict(place.list(kind)), listed)
        while not self.is_settled and self.view is None and self.change_view():
            listed = self._at_view(lambda place: dict(place.list(kind)), None)
        if listed is None:
            self.raise_unreached()
        self._listed[kind] = listed or {}
        for name, size in {**dict(self._waiting_list(kind)), **self._listed[kind]}.items():
            if name not in self._held_back:
                yield name, size

    def listed(self, kind: ObjectKind) -> Mapping[str, int]:
        """What the view itself had when it was last asked."""
        return self._listed.get(kind, {})

    def change_view(self) -> bool:
        """The view has gone before anything was built on it: the next place takes its part, and our locks. False where none is left."""
        if self.is_settled:
            return False
        self._listed.clear()
        self.view = next((place for place in self._reached() if self.couriers[place.name].is_going()), None)
        for name, data in list(self._locks.items()):
            self._lock_view(name, data)
        return self.view is not None

    def _at_view(self, ask: Callable[[Destination], T], otherwise: T) -> T:
        if self.view is None:
            return otherwise
        try:
            return ask(self.view.destination)
        except (ObjectMissing, BadRange):
            raise
        except BackupError as error:
            self.lose(self.view, error)
            return otherwise

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes: what waits here first, then the view, the other places, and what this machine has kept."""
        if kind == "locks" and name in self._locks:
            return self._locks[name]
        return super().load(kind, name, offset, length)

    def _sources(self) -> Sequence[Place | Bytes]:
        return [*super()._sources(), *([] if self._store is None or self._reached() else [self._store]), *self._remembered()]

    def _remembered(self) -> Sequence[Kept]:
        return [] if self.memory is None else [self.memory]

    def size(self, kind: ObjectKind, name: str) -> int:
        """Its size here or in the view."""
        with suppress(ObjectMissing):
            return self.store.size(kind, name)
        if self.view is not None:
            return super().size(kind, name)
        if name not in self._listed.get(kind, {}):
            raise ObjectMissing(f"there is no {kind} {name[:16]} at {self.label}")
        return self._listed[kind][name]

    def age(self, kind: ObjectKind, name: str) -> float:
        """By the view's clock."""
        return self._at_view(lambda place: place.age(kind, name), 0.0)

    def remove(self, kind: ObjectKind, name: str) -> None:
        """A lock is given back. Nothing else is removed by a run."""
        if kind != "locks":
            super().remove(kind, name)
        self._locks.pop(name, None)
        self._at_view(lambda place: place.remove(kind, name), None)

    def sweep(self) -> int:
        """What dead runs left half-written, here and in every place."""
        removed = 0 if self.spool is None or not self.spool.store.path.is_dir() else self.spool.store.sweep()
        for place in self._reached():
            with suppress(BackupError):
                removed += place.destination.sweep()
        return removed

    def close(self) -> None:
        """Carry nothing more, and let go of all places."""
        for courier in self.couriers.values():
            courier.stop()
        super().close()


class _Counted:
    """A draft that tells its size and name when it is stored."""

    def __init__(self, draft: Draft, grow: Callable[[int], None], stored: Callable[[str, int], None]) -> None:
        self._draft, self._grow, self._stored, self._size = draft, grow, stored, 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._size += len(data)
        self._grow(len(data))
        self._draft.write(data)

    def commit(self, name: str) -> None:
        """Store it here under its name; it is on its way then."""
        self._draft.commit(name)
        self._stored(name, self._size)


def _is_same(one: Destination, other: Destination) -> bool:
    if isinstance(one, LocalDestination) and isinstance(other, LocalDestination):
        return os.path.realpath(one.path) == os.path.realpath(other.path)
    return one.label == other.label


def _has_room(folder: Destination) -> bool:
    """Whether a night's notes may be written there directly. One that becomes full all the same costs a second look at the sources."""
    assert isinstance(folder, LocalDestination)
    try:
        return shutil.disk_usage(folder.path).free >= _ROOM
    except OSError:
        return False


def _config_of(place: Place) -> bytes | None:
    """The bytes of a place's config; None, with the place's error set, where it cannot be had."""
    if place.error is not None:
        return None
    try:
        if place.destination.exists():
            return place.destination.load("config", "config")
        place.error = no_repository(place)
    except (ObjectMissing, BadRange):
        place.error = no_repository(place)
    except BackupError as error:
        place.error = error
    return None


def another_repository(place: Place, than: Place) -> BackupError:
    """The error for a mirror that is none."""
    return BackupError(
        f"{place.name} holds another repository than {than.name}",
        f"give {place.name} a place of its own in the settings, then: backup init --repo {place.name}",
    )


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
