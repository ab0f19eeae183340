"""Several places that hold one repository: the first is the primary, the others its mirrors. Here for reading; `delivery` writes to them.

What a repository holds is what its *view* says: the first place that can be reached. Mirrors are never added to it, since one of them may
still have what was pruned elsewhere. Bytes are taken from any place, but only if they are what their name says.
"""

from __future__ import annotations

import hashlib
import hmac
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from backup_tool.destinations.base import Destination, Draft, ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.several.spool import Spool
from backup_tool.errors import BackupError, BadRange, IntegrityError, NoRepository, ObjectMissing

T = TypeVar("T")


class Bytes(Protocol):
    """Where the bytes of objects can be had."""

    label: str

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes: ...


class Place:
    """One of the places: what a person calls it, and `error`, why nothing more is asked of it by this process (or None)."""

    def __init__(self, name: str, destination: Destination) -> None:
        self.name = name
        self.destination = destination
        self.error: BackupError | None = None
        self.refused = False
        """Whether a person has to do something before anything is stored there: it is not only away."""

    def refuse(self, error: BackupError) -> None:
        """Nothing may be stored there, and nothing read."""
        self.error, self.refused = error, True


class Several:
    """A destination for reading: what is stored in the first place that answers, from there or from another where that fails.

    `told` hears, once a place, that one is passed over. What waits in the spool is there, too, if that is a spool of the same repository.
    Every writing operation raises BackupError: that is for `Delivery`.
    """

    def __init__(self, places: Sequence[Place], spool: Spool | None = None, *, told: Callable[[str], None] = lambda text: None) -> None:
        self.places = list(places)
        self.label = self.places[0].destination.label
        self.view: Place | None = None
        self.spool = spool
        self.waiting: Destination | None = None
        """The spool's objects, where there are any."""
        self._aside: frozenset[str] = frozenset()
        """Of these: what cannot be had whole, and is not listed."""
        self._told = told
        self._said: set[str] = set()

    # What is there

    def exists(self) -> bool:
        """True where one of the places has the repository. Raises the first error where none has it and one could not be asked."""
        problem: BackupError | None = None
        for place in self._reached():
            try:
                if place.destination.exists():
                    self.view = place
                    self._look_into_spool(place)
                    return True
                place.error = no_repository(place)
            except BackupError as error:
                problem = problem or error
                self.lose(place, error)
        if problem is not None:
            raise problem
        return False

    def _look_into_spool(self, view: Place) -> None:
        if self.spool is not None and not self.spool.is_empty() and self.spool.is_of(view.destination.load("config", "config")):
            self.waiting, self._aside = self.spool.store, frozenset(self.spool.aside)

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """What the view has, and what waits for it."""
        yield from {**dict(self._waiting_list(kind)), **dict(self._of_view(lambda place: [*place.list(kind)]))}.items()

    def _waiting_list(self, kind: ObjectKind) -> Sequence[tuple[str, int]]:
        if self.waiting is None or kind in ("config", "keys", "locks"):
            return []
        return [(name, size) for name, size in self.waiting.list(kind) if name not in self._aside]

    def size(self, kind: ObjectKind, name: str) -> int:
        """Its size in the view, or where it waits."""
        if self.waiting is not None:
            with suppress(ObjectMissing):
                return self.waiting.size(kind, name)
        return self._of_view(lambda place: place.size(kind, name))

    def age(self, kind: ObjectKind, name: str) -> float:
        """By the view's clock."""
        return self._of_view(lambda place: place.age(kind, name))

    def _of_view(self, ask: Callable[[Destination], T]) -> T:
        """Asked of the view; where it fails, the next place that answers is the view from then on."""
        while True:
            if self.view is None and not self.exists():
                raise no_repository(self.places[0])
            view = self.view
            assert view is not None
            try:
                return ask(view.destination)
            except (ObjectMissing, BadRange):
                raise
            except BackupError as error:
                self.lose(view, error)
                if not self._reached():
                    raise

    # Bytes

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes, from the first place where they are right as far as can be told: whole objects are held against their names.

        An object that the view lacks is looked for elsewhere only where it is a pack: what is gone from the other folders was removed.
        """
        whole = offset == 0 and length is None and kind not in ("config", "locks")
        problem: BackupError | None = None
        wrong: bytes | None = None
        for source in self._sources():
            destination = source.destination if isinstance(source, Place) else source
            try:
                data = destination.load(kind, name, offset, length)
            except (ObjectMissing, BadRange) as error:
                # A lock of a place that has just gone is of no concern where the next one is looked at.
                problem = error if kind == "locks" else problem or error
                if source is self.view and kind != "data":
                    break
                continue
            except BackupError as error:
                problem = error if problem is None or source is self.view else problem  # what the view says counts
                if isinstance(source, Place):
                    self.lose(source, error)
                continue
            if whole and not is_named(data, name):
                wrong = data
                self._tell_once(f"{kind} {name[:16]} is damaged at {destination.label}")
                continue
            view = self.view
            if problem is not None and isinstance(problem, ObjectMissing | BadRange) and view is not None and source is not view:
                self._tell_once(f"{kind} {name[:16]} is not whole at {view.name}: it is read at {destination.label}")
            return data
        if wrong is not None:
            return wrong  # whoever reads it says what is wrong with it
        raise problem or no_repository(self.places[0])

    def copies(self, kind: ObjectKind, name: str, offset: int, length: int) -> Iterator[bytes]:
        """The same range from every place but the view, one after the other: for a reader whose first copy is damaged."""
        for place in [place for place in self._reached() if place is not self.view]:
            try:
                data = place.destination.load(kind, name, offset, length)
            except (ObjectMissing, BadRange):
                continue
            except BackupError as error:
                self.lose(place, error)
                continue
            self._tell_once(f"{kind} {name[:16]} is damaged at {self.view.name if self.view else self.label}: it is read at {place.name}")
            yield data

    def _tell_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._told(text)

    def _sources(self) -> Sequence[Place | Bytes]:
        """Where bytes are taken from, in order."""
        others = [place for place in self._reached() if place is not self.view]
        view = self.view  # another thread may lose it meanwhile
        return [*([] if self.waiting is None else [self.waiting]), *([view] if view is not None and view.error is None else []), *others]

    def _reached(self) -> Sequence[Place]:
        return [place for place in self.places if place.error is None]

    def lose(self, place: Place, error: BackupError) -> None:
        """Nothing more is asked of a place, because of this error."""
        if place.error is not None:
            return
        place.error = error
        if self.view is place:
            self.view = None
        if left := self._reached():
            self._told(f"{place.name} is passed over ({error.message}): {left[0].name} is used")

    def pass_over(self, damaged: BackupError) -> bool:
        """As the protocol says: nothing more is asked of the view, whose config is `damaged`."""
        view = self.view
        if view is None or len(self._reached()) < 2:
            return False
        self.lose(view, config_damaged(view))
        with suppress(BackupError):
            return self.exists()
        return False

    def close(self) -> None:
        """Let go of all places."""
        for place in self.places:
            place.destination.close()

    # Writing

    def create(self) -> None:
        """Never: places are made one by one."""
        self._refuse()

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """Only a lock, which is the view's business."""
        if kind != "locks":
            self._refuse()
        self._of_view(lambda place: place.save(kind, name, data))

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """Never."""
        self._refuse()

    def draft(self, kind: ObjectKind) -> AbstractContextManager[Draft]:
        """Never."""
        self._refuse()

    def remove(self, kind: ObjectKind, name: str) -> None:
        """Only a lock."""
        if kind != "locks":
            self._refuse()
        self._of_view(lambda place: place.remove(kind, name))

    def sweep(self) -> int:
        """Nothing."""
        return 0

    def _refuse(self) -> NoReturn:
        raise BackupError("these places were opened for reading", "name the one to change: --repo NAME")


def no_repository(place: Place) -> NoRepository:
    """The error for a place that answers and has none."""
    label = place.destination.label
    doubt = "is its disk mounted?" if isinstance(place.destination, LocalDestination) else "is that the right place, account and client?"
    return NoRepository(f"there is no repository at {label}", f"{doubt} to make one there: backup init --repo {place.name}")


def config_damaged(place: Place, sound: Place | None = None) -> IntegrityError:
    """The error for a place whose config cannot be opened, while `sound` has one that can."""
    source = f" from {sound.name}" if sound is not None else ""
    hint = f"mend it{source}: backup repair --repo {shlex.quote(place.name)}"
    return IntegrityError(f"{place.name} has a damaged config", hint)


def is_named(data: bytes, name: str) -> bool:
    """Whether bytes are what their name says."""
    return hmac.compare_digest(hashlib.sha256(data).hexdigest(), name)
