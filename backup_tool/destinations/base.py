"""What a destination is: named bytes in a place. Every place, and every wrapper around one, does exactly this.

A destination holds the objects of one restic repository in its standard layout (`config`, `keys/`, `snapshots/`, `index/`, `locks/`,
`data/xx/`), so that restic itself can open it there. It knows nothing of what the bytes mean: they are encrypted before they come here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from backup_tool.errors import BackupError
from backup_tool.models import Secret

ObjectKind = Literal["config", "keys", "snapshots", "index", "locks", "data"]

KINDS: tuple[ObjectKind, ...] = ("config", "keys", "snapshots", "index", "locks", "data")


class Draft(Protocol):
    """An object that grows: nothing of it is visible until `commit`. Leaving its `with` block without a commit leaves nothing behind."""

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. Raises NoSpace, or BackupError where the place cannot be written."""

    def commit(self, name: str) -> None:
        """Make all that was written visible as `name`, complete and durable."""


@runtime_checkable
class Destination(Protocol):
    """Named bytes in a place.

    Names are 64 lower-case hex digits, but for the one object of kind "config" whose name is ignored (pass "config"). Any other name is
    refused with BackupError, when stored and when listed (foreign files are passed over in silence).

    Errors: ObjectMissing (no such object), BadRange (a range that lies outside it), NoRepository (the place itself is not there), NoSpace,
    Unreachable (worth a retry), SignInNeeded, BackupError for what will not get better (read-only, permission).
    """

    label: str
    """How a person would name the place: a path, ``gdrive:FOLDER``. Holds no secret."""

    def create(self) -> None:
        """Make the place ready for a new repository. Harmless where it is already."""

    def exists(self) -> bool:
        """True where a repository's config is. An empty or absent place is False; a place that cannot be reached raises."""

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """Store the bytes under the name: all or nothing, durable and listed when it returns.

        The same name with the same size counts as stored already; of another size it is a broken earlier try and is replaced.
        """

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """`save`, reading from a local file, in bounded memory."""

    def draft(self, kind: ObjectKind) -> AbstractContextManager[Draft]:
        """An object whose name is known only at its end (a pack), growing where that is cheapest."""

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes, or exactly `length` of them from `offset`; never fewer."""

    def size(self, kind: ObjectKind, name: str) -> int:
        """The stored size in bytes."""

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """All (name, size) of a kind, in no order; complete, or it raises."""

    def remove(self, kind: ObjectKind, name: str) -> None:
        """Remove an object; one that is not there counts as removed."""

    def age(self, kind: ObjectKind, name: str) -> float:
        """Seconds since the object was stored, by the destination's own clock where it has one."""

    def sweep(self) -> int:
        """Remove what dead runs of this machine left half-written; the number of things removed."""

    def close(self) -> None:
        """Let go of connections."""


@runtime_checkable
class StoredByOthers(Protocol):
    """A destination into whose folder other processes of ours store objects, and which wants to know of each."""

    def adopt(self, kind: ObjectKind, name: str, size: int) -> None:
        """An object is there, complete and durable. May wait for room. Raises NoSpace."""


@runtime_checkable
class ManyCopies(Protocol):
    """A destination that can get at other copies of an object, where the bytes that `load` gave are wrong."""

    def copies(self, kind: ObjectKind, name: str, offset: int, length: int) -> Iterator[bytes]:
        """The same range from every place that has it, one after the other."""


@runtime_checkable
class PassingOver(Protocol):
    """A destination of several places that can do without the one that it looks at."""

    def pass_over(self, damaged: BackupError) -> bool:
        """What all of the repository hangs on is damaged at that place: go on with the next one. False where none can be had."""


@runtime_checkable
class Checksums(Protocol):
    """An extra of destinations that compute the SHA-256 of what they store by themselves."""

    def checksums(self, kind: ObjectKind) -> Iterator[tuple[str, int, str | None]]:
        """(name, size, SHA-256 in hex as the place tells it, or None where it tells none) of all objects of a kind, every copy of each, by
        listing alone; complete, or it raises."""


@runtime_checkable
class Replacing(Protocol):
    """An extra of destinations that can put other bytes in the place of an object, so that at no moment nothing is there."""

    def replace(self, kind: ObjectKind, name: str, path: Path) -> None:
        """`save_file`, whatever is stored under the name already."""


@runtime_checkable
class Mending(Protocol):
    """An extra of destinations where several files may have one name."""

    def mend(self, *, dry_run: bool = False) -> Sequence[str]:
        """Join folders of one name, and remove copies of objects that are there whole. Only while nobody writes. Nothing is removed that is
        not there a second time, whole. What was done (with `dry_run`: would be), a line each."""


@runtime_checkable
class Noticing(Protocol):
    """An extra of destinations that know what a person should do before it is too late."""

    def notices(self) -> Sequence[str]:
        """Sentences that a run should warn with, with the command to type; after the first operation, and without asking anybody."""


class Condition(msgspec.Struct, kw_only=True):
    """How a destination does, as far as it tells; None is always "not known". Bytes, and times in RFC 3339 (UTC)."""

    account: str | None = None
    limit: int | None = None
    used: int | None = None
    in_trash: int | None = None
    signed_in: str | None = None
    sign_in_ends: str | None = None
    """When the sign-in ends for certain."""
    sign_in_may_end: str | None = None
    """When it ends if the account's own set-up was left in a state for trying out."""
    folder: Literal["there", "absent", "in the trash"] = "absent"


class SignInKept(msgspec.Struct, kw_only=True):
    """What this machine knows of a sign-in, without asking anybody. Times as in `Condition`; `signed_in` is None where nobody has."""

    signed_in: str | None = None
    accepted: str | None = None
    """When the service last accepted it, where that is kept."""
    sign_in_ends: str | None = None
    sign_in_may_end: str | None = None
    is_estimate: bool = False
    """Whether the service itself has not said when it ends."""


@runtime_checkable
class Describing(Protocol):
    """An extra of destinations that can tell of the account behind them."""

    def condition(self) -> Condition:
        """Ask the service. Raises what `exists` does, but not for a folder in the trash: that is told."""


class Person(Protocol):
    """Whoever signs in, at a terminal or not."""

    def ask(self, question: str) -> str:
        """What is typed. Raises SignInNeeded where nobody can be asked."""

    def ask_secret(self, question: str) -> Secret:
        """`ask`, unseen."""

    def tell(self, text: str) -> None:
        """A line to read."""

    def open(self, url: str) -> None:
        """Show a page in a browser, if there is one; the address is told in any case."""
