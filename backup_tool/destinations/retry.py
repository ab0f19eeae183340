"""A destination that tries again: wraps any other one.

Every operation of the contract may be repeated: loading changes nothing, and saving looks first whether the object is there in its size,
so that after an unclear answer nothing is sent twice that has arrived. Only `Unreachable` is tried again; all other errors come at once.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from backup_tool.destinations.base import Destination, Draft, ObjectKind
from backup_tool.errors import Unreachable

T = TypeVar("T")
Wait = Callable[[threading.Event, float], bool]
"""Waits so many seconds, or until the event is set: True where it is."""


class Patience:
    """Tries each operation for up to `patience` seconds, waiting 1 s, 2 s, 4 s … up to 60 s, each shortened at random (full jitter, so that
    many machines do not come back at one moment), and at least as long as the service asked for (Retry-After).

    Until anything has worked, and again after patience has ended once, it is `first_patience`: a wrong address or an absent network is told
    soon, and who was waited for in vain is not waited for as long at every further step. `end` ends all waiting.
    """

    FIRST, LONGEST = 1.0, 60.0

    def __init__(
        self,
        *,
        patience: float = 900.0,
        first_patience: float = 60.0,
        now: Callable[[], float] = time.monotonic,
        wait: Wait = threading.Event.wait,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.now = now
        self._patience, self._first_patience = patience, first_patience
        self._wait, self._chance = wait, chance
        self._ended = threading.Event()
        self._worked = False

    def run(self, operation: Callable[[], T]) -> T:
        """What the operation gives. Raises its last Unreachable when patience is at its end; any other error at once."""
        started, tries = self.now(), 0
        while True:
            try:
                result = operation()
            except Unreachable as error:
                wait = max(self._chance() * min(self.FIRST * 2.0**tries, self.LONGEST), error.retry_after or 0.0)
                tries += 1
                patience = self._patience if self._worked else self._first_patience
                if self.now() - started + wait > patience or self._wait(self._ended, wait):
                    self._worked = False
                    raise
            else:
                self._worked = True
                return result

    def end(self) -> None:
        """Let nobody wait any longer: whoever does gets the error that he waited for to pass."""
        self._ended.set()


class Retry:
    """Tries each operation of a destination as `Patience` does."""

    def __init__(
        self,
        inner: Destination,
        *,
        patience: float = 900.0,
        first_patience: float = 60.0,
        now: Callable[[], float] = time.monotonic,
        wait: Wait = threading.Event.wait,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.inner = inner
        self.label = inner.label
        self._tries = Patience(patience=patience, first_patience=first_patience, now=now, wait=wait, chance=chance)
        self._try = self._tries.run

    def create(self) -> None:
        """As the destination's."""
        self._try(self.inner.create)

    def exists(self) -> bool:
        """As the destination's."""
        return self._try(self.inner.exists)

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """As the destination's."""
        self._try(lambda: self.inner.save(kind, name, data))

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """As the destination's; the file is read from its start each time."""
        self._try(lambda: self.inner.save_file(kind, name, path))

    def draft(self, kind: ObjectKind) -> RetriedDraft:
        """As the destination's. Opening and committing are tried again; what is written stays on this machine until then."""
        return RetriedDraft(self, kind)

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """As the destination's."""
        return self._try(lambda: self.inner.load(kind, name, offset, length))

    def size(self, kind: ObjectKind, name: str) -> int:
        """As the destination's."""
        return self._try(lambda: self.inner.size(kind, name))

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """As the destination's; whole listings are tried again, so that none is put together from two."""
        yield from self._try(lambda: [*self.inner.list(kind)])

    def remove(self, kind: ObjectKind, name: str) -> None:
        """As the destination's."""
        self._try(lambda: self.inner.remove(kind, name))

    def age(self, kind: ObjectKind, name: str) -> float:
        """As the destination's."""
        return self._try(lambda: self.inner.age(kind, name))

    def sweep(self) -> int:
        """As the destination's."""
        return self._try(self.inner.sweep)

    def close(self) -> None:
        """Close the destination, and end all waiting."""
        self._tries.end()
        self.inner.close()


class RetriedDraft:
    """A draft whose opening and commit are tried again."""

    def __init__(self, retry: Retry, kind: ObjectKind) -> None:
        self._retry, self._kind = retry, kind

    def __enter__(self) -> Draft:
        self._manager, self._draft = self._retry._try(self._open)
        return self

    def _open(self) -> tuple[AbstractContextManager[Draft], Draft]:
        manager = self._retry.inner.draft(self._kind)
        return manager, manager.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._manager.__exit__(kind, error, trace)

    def write(self, data: bytes | memoryview) -> None:
        """As the draft's."""
        self._draft.write(data)

    def commit(self, name: str) -> None:
        """As the draft's: it may be committed again after an unclear answer, for it looks first whether it is there."""
        self._retry._try(lambda: self._draft.commit(name))
