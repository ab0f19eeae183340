"""Destinations that misbehave as real ones do. Each wraps another one, counts what it did, and is the same for the same seed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from backup_tool.destinations.base import Destination, Draft, ObjectKind
from backup_tool.errors import BackupError, NoSpace, Unreachable


class Wrapper:
    """Passes everything on: `self.do(what, action)` is the one place where a double can step in."""

    def __init__(self, inner: Destination) -> None:
        self.inner = inner
        self.label = inner.label

    def do(self, what: str, action: Callable[[], Any]) -> Any:
        """Carry out an operation; `what` is its name in the contract."""
        return action()

    def create(self) -> None:
        self.do("create", self.inner.create)

    def exists(self) -> bool:
        return bool(self.do("exists", self.inner.exists))

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        self.do("save", lambda: self.inner.save(kind, name, data))

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        self.do("save_file", lambda: self.inner.save_file(kind, name, path))

    def draft(self, kind: ObjectKind) -> AbstractContextManager[Draft]:
        @contextmanager
        def opened() -> Iterator[Draft]:
            with self.inner.draft(kind) as draft:
                yield _Draft(self, kind, draft)

        return opened()

    def wrote(self, kind: ObjectKind, size: int) -> None:
        """So many bytes are about to be written to a draft."""

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return bytes(self.do("load", lambda: self.inner.load(kind, name, offset, length)))

    def size(self, kind: ObjectKind, name: str) -> int:
        return int(self.do("size", lambda: self.inner.size(kind, name)))

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        yield from self.do("list", lambda: [*self.inner.list(kind)])

    def remove(self, kind: ObjectKind, name: str) -> None:
        self.do("remove", lambda: self.inner.remove(kind, name))

    def age(self, kind: ObjectKind, name: str) -> float:
        return float(self.do("age", lambda: self.inner.age(kind, name)))

    def sweep(self) -> int:
        return int(self.do("sweep", self.inner.sweep))

    def close(self) -> None:
        self.inner.close()


class _Draft:
    def __init__(self, wrapper: Wrapper, kind: ObjectKind, draft: Draft) -> None:
        self._wrapper, self._kind, self._draft = wrapper, kind, draft

    def write(self, data: bytes | memoryview) -> None:
        self._wrapper.wrote(self._kind, len(data))
        self._wrapper.do("write", lambda: self._draft.write(data))

    def commit(self, name: str) -> None:
        self._wrapper.do("commit", lambda: self._draft.commit(name))


class Flaky(Wrapper):
    """Operations fail with `error` at `rate` (0 … 1): before they had their effect, after it, or with their effect twice.

    What can be done once only (writing to a draft, committing it) fails before or after. `fail_at(n)` makes the n-th operation from
    now fail whatever the rate, before (default) or "after" its effect, and every one from then on with `stay`.
    """

    ONCE = ("write", "commit")

    def __init__(
        self, inner: Destination, seed: int, rate: float = 0.1, *, only: tuple[str, ...] = (), error: type[BackupError] = Unreachable
    ) -> None:
        super().__init__(inner)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._rate, self._only, self._error = rate, only, error
        self._planned: int | None = None
        self._planned_how, self._stay = "before", False
        self.operations = 0
        self.faults: list[tuple[str, str]] = []
        """Every fault so far: (operation, "before" | "after" | "twice")."""

    def fail_at(self, number: int, how: str = "before", *, stay: bool = False) -> None:
        """The number-th operation from now (1: the next) fails."""
        self._planned, self._planned_how, self._stay = self.operations + number, how, stay

    def do(self, what: str, action: Callable[[], Any]) -> Any:
        fault = self._fault(what)
        if fault == "before":
            raise self._error(f"{what} failed before it did anything")
        result = action()
        if fault == "twice":
            return action()
        if fault == "after":
            raise self._error(f"{what} was done, but the answer was lost")
        return result

    def _fault(self, what: str) -> str | None:
        with self._lock:  # one decision an operation, whichever thread it comes from
            if self._only and what not in self._only:
                return None
            self.operations += 1
            how = self._choice(what)
            if how is not None:
                self.faults.append((what, how))
            return how

    def _choice(self, what: str) -> str | None:
        if self._planned is not None and (self.operations == self._planned or (self._stay and self.operations > self._planned)):
            return self._planned_how
        if self._random.random() >= self._rate:
            return None
        return self._random.choice(["before", "after"] if what in self.ONCE else ["before", "after", "twice"])


class SlowListing(Wrapper):
    """A new object is loadable at once but missing from the next `late` listings of its kind; a removed one stays in them as long."""

    def __init__(self, inner: Destination, late: int = 1) -> None:
        super().__init__(inner)
        self._late = late
        self._hidden: dict[tuple[str, str], int] = {}
        self._ghosts: dict[tuple[str, str], tuple[int, int]] = {}

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        super().save(kind, name, data)
        self._hidden[kind, name] = self._late

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        super().save_file(kind, name, path)
        self._hidden[kind, name] = self._late

    def draft(self, kind: ObjectKind) -> AbstractContextManager[Draft]:
        @contextmanager
        def opened() -> Iterator[Draft]:
            with self.inner.draft(kind) as draft:
                yield _LateDraft(self, kind, draft)

        return opened()

    def hide(self, kind: ObjectKind, name: str) -> None:
        """This one was just stored."""
        self._hidden[kind, name] = self._late

    def remove(self, kind: ObjectKind, name: str) -> None:
        listed = dict(self.inner.list(kind))
        super().remove(kind, name)
        if name in listed and not self._hidden.pop((kind, name), 0):
            self._ghosts[kind, name] = (listed[name], self._late)

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        found = dict(self.inner.list(kind))
        for key, left in list(self._hidden.items()):
            if key[0] == kind and left > 0:
                found.pop(key[1], None)
                self._hidden[key] = left - 1
        for ghost, (size, left) in list(self._ghosts.items()):
            if ghost[0] == kind and left > 0:
                found.setdefault(ghost[1], size)
                self._ghosts[ghost] = (size, left - 1)
        yield from found.items()


class _LateDraft(_Draft):
    def __init__(self, wrapper: SlowListing, kind: ObjectKind, draft: Draft) -> None:
        super().__init__(wrapper, kind, draft)
        self._late = wrapper

    def commit(self, name: str) -> None:
        super().commit(name)
        self._late.hide(self._kind, name)


class Full(Wrapper):
    """Takes so many bytes in all; then NoSpace, before anything of the object is visible."""

    def __init__(self, inner: Destination, limit: int) -> None:
        super().__init__(inner)
        self.left = limit
        self._lock = threading.Lock()

    def wrote(self, kind: ObjectKind, size: int) -> None:
        with self._lock:
            if size > self.left:
                self.left = 0
                raise NoSpace(f"no space left at {self.label}", "make room")
            self.left -= size

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        self.wrote(kind, len(data))
        super().save(kind, name, data)

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        self.wrote(kind, path.stat().st_size)
        super().save_file(kind, name, path)
