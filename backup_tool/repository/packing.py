"""Packs made and read in another process of ours: sealing or opening many notes wants more than one interpreter.

That process has a `Writer` over `ElsewhereIndex` in place of the index files: packs become durable there, and are handed on, to be named in
an index by the process that holds the lock.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from backup_tool.destinations.base import Destination
from backup_tool.repository.crypto import DERIVED_SIZE, Key
from backup_tool.repository.index import BlobKind, Entry, Place
from backup_tool.repository.reading import Reader
from backup_tool.repository.writer import Writer

_ID = 32


class PackingOrder(msgspec.Struct, array_like=True):
    """What the other process needs: the master key (64 bytes; it goes through a pipe, never to disk), and the ids of stored data blobs."""

    key: bytes
    known: bytes
    pack_size: int
    verify_writes: bool

    def __repr__(self) -> str:
        return "PackingOrder(***)"

    def master_key(self) -> Key:
        """The key itself."""
        assert len(self.key) == DERIVED_SIZE
        return Key(self.key[:32], self.key[32:48], self.key[48:])


class MadePack(msgspec.Struct, array_like=True):
    """A durable pack: its id, and what is in it."""

    id: bytes
    entries: list[Entry]


class ElsewhereIndex:
    """Stands where the index files stand: knows which blobs are stored, and keeps the packs that are to be handed on."""

    def __init__(self, known: bytes) -> None:
        self._known = {known[start : start + _ID] for start in range(0, len(known), _ID)}
        self._made: list[MadePack] = []
        self.index = self

    def has(self, kind: BlobKind, id: bytes) -> bool:
        """True for a data blob that was stored before, or is in a pack made here."""
        return kind == "data" and id in self._known

    def first(self, kind: BlobKind, id: bytes) -> Place | None:
        """Where a blob lies is not known here."""
        return None

    def find(self, kind: BlobKind, id: bytes) -> list[Place]:
        """Other copies of a blob are not known here."""
        return []

    def small_pack(self, pack: bytes) -> int | None:
        """What packs hold is not known here."""
        return None

    def load_all(self) -> None:
        """No index is loaded here."""

    def confirm(self, pack: bytes, entries: Sequence[Entry]) -> int:
        """The destination has this pack."""
        self._known.update(entry.id for entry in entries)
        self._made.append(MadePack(pack, list(entries)))
        return 0

    def write(self, *, last: bool = False) -> list[int]:
        """No index is written here."""
        return []

    def take_made(self) -> list[MadePack]:
        """The packs made since the last time."""
        made, self._made = self._made, []
        return made


def packing_reader(destination: Destination, order: PackingOrder) -> Reader:
    """What reads requests in the other process. A blob that is damaged is for the process that has the index: it knows other copies."""
    return Reader(destination, order.master_key(), ElsewhereIndex(b""))


def packing_writer(destination: Destination, order: PackingOrder) -> tuple[Writer, ElsewhereIndex]:
    """The writer of the other process, and where its packs are handed on."""
    index = ElsewhereIndex(order.known)
    writer = Writer(
        destination,
        order.master_key(),
        index,
        lambda: None,  # the process that holds the lock looks after it
        pack_size=order.pack_size,
        verify_writes=order.verify_writes,
    )
    return writer, index
