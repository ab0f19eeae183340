"""The spool: objects on this machine's disk that the primary does not have yet. A folder laid out like a repository, encrypted as that is.

An object leaves it when the primary has it and every place that is reached in this run has taken its copy. Where the spool is full, a pack
may leave as soon as any place has it; which ones the primary still lacks then stands in ``owed.json``. Where that other place is no longer
in the settings, they are set aside with all that names them: ``aside.json``.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.files import make_folder, replace_file, told
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import BackupError, NoSpace
from backup_tool.names import shown

QUEUED: tuple[ObjectKind, ...] = ("data", "index", "snapshots")
"""What waits, in the order in which it is delivered."""
_LARGEST = 256 * 2**20


class Parcel(NamedTuple):
    """An object to deliver; `size` in bytes."""

    kind: ObjectKind
    name: str
    size: int


class Spool:
    """The spool of one repository in `folder`, of about `bound` bytes of packs at most."""

    def __init__(self, folder: Path, bound: int) -> None:
        self.store = LocalDestination(folder)
        self.bound = bound
        self._folder = folder
        self._change = threading.Condition()
        self._packs: dict[str, int] = {}
        self._growing = 0
        self._has: dict[tuple[ObjectKind, str], set[str]] = {}
        self._owed: dict[str, int] = {}

    def prepare(self, config: bytes, keys: dict[str, bytes], places: list[str]) -> None:
        """Make it ready. Config and keys are kept beside the objects, so that a run can begin where no place is reached; `places` are the
        labels by which it is found then."""
        try:
            make_folder(self._folder)
        except OSError as error:
            raise told(error, str(self._folder)) from error
        if not self.store.exists():
            self.store.create()
            self.store.save("config", "config", config)
        for name, _ in [*self.store.list("keys")]:
            if keys and name not in keys:
                self.store.remove("keys", name)
        for name, data in keys.items():
            self.store.save("keys", name, data)
        self.load()
        self._write("places.json", sorted({*_places(self._folder), *places}))

    def discard(self) -> None:
        """Remove it, with all that is in it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def load(self) -> None:
        """Look what is in it."""
        self._packs = dict(self.store.list("data"))
        found = _read(self._folder / "owed.json")
        self._owed = {name: size for name, size in found.items() if isinstance(size, int)} if isinstance(found, dict) else {}

    def waiting(self) -> Iterator[Parcel]:
        """All that is in it, in the order of delivery."""
        return (Parcel(kind, name, size) for kind in QUEUED for name, size in sorted(self.store.list(kind)))

    def note(self, needed: Mapping[str, Mapping[str, int]]) -> None:
        """What the view has of each kind, as far as a run needs it: so that the next one can do without."""
        if self._folder.is_dir():
            self._write("needed.json", needed)

    def noted(self) -> dict[str, dict[str, int]]:
        """What was noted last; nothing where that cannot be read."""
        found = _read(self._folder / "needed.json")
        whole = isinstance(found, dict) and all(isinstance(names, dict) for names in found.values())
        return found if whole and isinstance(found, dict) else {}

    def places(self) -> list[str]:
        """The labels of the places it was ever for."""
        return _places(self._folder)

    @property
    def aside(self) -> set[str]:
        """Names of what cannot be delivered until a place is back in the settings: packs, and index files and snapshots that name them."""
        found = _read(self._folder / "aside.json")
        return set(map(str, found)) if isinstance(found, list) else set()

    def set_aside(self, names: Iterable[str]) -> None:
        """These, and nothing else, are set aside."""
        if self.aside != (wanted := set(names)):
            self._write("aside.json", sorted(wanted))

    def is_of(self, config: bytes) -> bool:
        """Whether it is of the repository with this config."""
        return self.store.load("config", "config") == config

    def is_empty(self) -> bool:
        """True where everything has been delivered to the primary."""
        return not self._owed and next(iter(self.waiting()), None) is None

    @property
    def owed(self) -> dict[str, int]:
        """Packs, with their sizes, that left before the primary had them: another place has them."""
        with self._change:
            return dict(self._owed)

    def remember(self, kind: ObjectKind, listed: Iterable[str]) -> None:
        """What the primary has now: added to what it ever had, so that mirrors can be told what was pruned there."""
        known = self._had()
        if not set(listed) <= known.get(kind, set()):
            known[kind] = known.get(kind, set()) | set(listed)
            self._write("primary.json", {name: sorted(names) for name, names in known.items()})

    def had(self, kind: ObjectKind) -> set[str]:
        """Everything that the primary has had, as far as runs of this machine saw."""
        return self._had().get(kind, set())

    def _had(self) -> dict[str, set[str]]:
        found = _read(self._folder / "primary.json")
        return {kind: set(map(str, names)) for kind, names in found.items()} if isinstance(found, dict) else {}

    # Room

    def put(self, parcel: Parcel) -> None:
        """An object has come."""
        if parcel.kind == "data":
            with self._change:
                self._packs[parcel.name] = parcel.size

    @contextmanager
    def growing(self) -> Iterator[Callable[[int], None]]:
        """An object begins to grow: what is given takes so many bytes more, until the block ends."""
        taken = 0

        def grow(size: int) -> None:
            nonlocal taken
            with self._change:
                taken += size
                self._growing += size

        try:
            yield grow
        finally:
            with self._change:
                self._growing -= taken
                self._change.notify_all()

    def wait_for_room(self, is_hopeless: Callable[[], bool]) -> None:
        """Wait until a further pack may grow. Raises NoSpace where nothing will take one away, because no place is reached."""
        while True:
            with self._change:
                if sum(self._packs.values()) + self._growing < self.bound:
                    return
                candidates = [name for name in self._packs if self._has.get(("data", name))]
                if not candidates:
                    if is_hopeless():
                        raise NoSpace(
                            f"no destination is reached, and the spool is full ({self.bound:,} bytes at {shown(str(self._folder))})",
                            "see that a destination can be reached, then run it again; spool_size in the settings sets the size",
                        )
                    self._change.wait(1.0)
                    continue
            for name in candidates:
                self._evict(name)

    def _evict(self, name: str) -> None:
        self.owe(name, self._packs.get(name, 0))

    def owe(self, name: str, size: int) -> None:
        """A pack leaves that the primary may lack, and another place has."""
        with self._change:
            self._owed[name] = size
        self._write("owed.json", self.owed)
        self._drop("data", name)

    # Leaving

    def has(self, parcel: Parcel, place: str, reached: set[str], primary: str) -> None:
        """A place has confirmed an object. It leaves when the primary and all places that are `reached` have it."""
        with self._change:
            names = self._has.setdefault((parcel.kind, parcel.name), set())
            names.add(place)
            paid = place == primary and self._owed.pop(parcel.name, None) is not None
            done = primary in names and reached <= names
            self._change.notify_all()
        if paid:
            self._write("owed.json", self.owed)
        if done:
            self._drop(parcel.kind, parcel.name)

    def tidy(self, primary: str) -> None:
        """At the end of a run: what the primary has leaves, for places that were not reached are levelled from there."""
        for (kind, name), names in [*self._has.items()]:
            if primary in names:
                self._drop(kind, name)

    def _drop(self, kind: ObjectKind, name: str) -> None:
        with suppress(BackupError):  # tried again at the end of the next run
            self.store.remove(kind, name)
        with self._change:
            self._packs.pop(name, None)
            self._change.notify_all()

    def _write(self, name: str, content: object) -> None:
        try:
            replace_file(self._folder / name, json.dumps(content, sort_keys=True).encode())
        except OSError as error:
            raise told(error, str(self._folder)) from error


def find_spool(folder: Path, labels: Sequence[str], bound: int = 0) -> Spool | None:
    """The spool below `folder` for these places, by their labels; the newest, if there are several."""
    found = [path for path in (folder.iterdir() if folder.is_dir() else ()) if set(labels) & set(_places(path))]
    if not found:
        return None
    spool = Spool(max(found, key=lambda path: (path / "places.json").stat().st_mtime), bound)
    spool.load()
    return spool


def spools_in(folder: Path) -> list[Spool]:
    """Every spool below `folder` that can be looked into."""
    found = []
    with suppress(OSError):
        for path in sorted(path for path in folder.iterdir() if path.is_dir()):
            with suppress(BackupError):
                spool = Spool(path, 0)
                spool.load()
                found.append(spool)
    return found


def _places(folder: Path) -> list[str]:
    found = _read(folder / "places.json")
    return [label for label in found if isinstance(label, str)] if isinstance(found, list) else []


def _read(path: Path) -> object:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
