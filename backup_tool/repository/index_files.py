"""The index files of a repository: read into one index, added to while packs are written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from backup_tool.destinations.base import Destination
from backup_tool.errors import DamagedObject, ObjectMissing, Unreachable
from backup_tool.repository import sealed
from backup_tool.repository.crypto import Key
from backup_tool.repository.index import FULL_INDEX, MAX_INDEX, Entry, Index, PackEntries, decode_index, encode_index
from backup_tool.repository.objects import load_whole, store
from backup_tool.repository.sealed import Unreadable

# How often a listing may be overtaken by somebody who rewrites the index, before we say that something else is wrong.
_TRIES = 3

OnDamage = Callable[[DamagedObject], None]
OnPack = Callable[[PackEntries], None]


class IndexFiles:
    """`index` is what is known now: all index files as last loaded, and every pack confirmed since. Safe for several threads."""

    def __init__(self, destination: Destination, key: Key) -> None:
        self.index = Index()
        self.loads = 0
        self._destination = destination
        self._key = key
        self._loaded: set[str] = set()
        self._unwritten: dict[bytes, Sequence[Entry]] = {}
        self._lost: set[bytes] = set()
        self._lock = threading.RLock()

    def load(self, on_damage: OnDamage | None = None, on_pack: OnPack | None = None) -> None:
        """Read every index file that is not known yet; all of them anew where one that was known is gone (somebody compacted).

        A damaged file goes to `on_damage`, or is raised as DamagedObject. With `on_pack` all are read anew, and each pack in them told.
        """
        with self._lock:
            for _ in range(_TRIES):
                try:
                    self._load_listed(on_damage, on_pack)
                except ObjectMissing:  # rewritten between listing and reading: list again
                    continue
                self.loads += 1
                return
        raise Unreachable("the index files change faster than they can be read", "try again when the other run has ended")

    def _load_listed(self, on_damage: OnDamage | None, on_pack: OnPack | None) -> None:
        listed = dict(self._destination.list("index"))
        anew = on_pack is not None or not self._loaded <= listed.keys()
        index, loaded = (Index(), set[str]()) if anew else (self.index, self._loaded)
        for name in sorted(listed.keys() - loaded):
            try:
                for pack in self.read(name, listed[name]):
                    index.add(pack.pack, pack.entries, doomed=pack.doomed)
                    if on_pack is not None:
                        on_pack(pack)
            except DamagedObject as error:
                if on_damage is None:
                    raise
                on_damage(error)
            loaded.add(name)
        for own, own_entries in self._unwritten.items():
            index.add(own, own_entries)
        if self._lost:
            index.doom(self._lost)
        self.index, self._loaded = index, loaded

    def doom(self, packs: Iterable[bytes]) -> None:
        """These packs are lost, whatever index files say: what they held does not count as stored, now and after every further load."""
        with self._lock:
            self._lost.update(packs)
            if self._lost:
                self.index.doom(self._lost)

    def read(self, name: str, size: int) -> Iterator[PackEntries]:
        """The packs of one index file. Raises DamagedObject, ObjectMissing; before the first pack."""
        stored = load_whole(self._destination, "index", name, size, MAX_INDEX)
        try:
            return decode_index(sealed.decode(self._key, stored, MAX_INDEX))
        except Unreadable as error:
            raise DamagedObject("index", name, str(error)) from None

    def confirm(self, pack: bytes, entries: Sequence[Entry]) -> int:
        """The destination has this pack: its blobs count as stored from now on. Gives the number of blobs that no index file names yet."""
        with self._lock:
            self.index.add(pack, entries)
            self._unwritten[pack] = entries
            return sum(map(len, self._unwritten.values()))

    def write(self) -> list[int]:
        """Write index files for the packs confirmed since the last time, and give their stored sizes."""
        with self._lock:
            waiting = list(self._unwritten.items())
            sizes: list[int] = []
            while waiting:
                # All of one pack's blobs stand in one file: readers take a split pack for damage.
                part, blobs = 0, 0
                while part < len(waiting) and (not part or blobs + len(waiting[part][1]) <= FULL_INDEX):
                    blobs += len(waiting[part][1])
                    part += 1
                data = sealed.encode(self._key, encode_index(waiting[:part]))
                self._loaded.add(store(self._destination, "index", data))
                sizes.append(len(data))
                for pack, _ in waiting[:part]:
                    del self._unwritten[pack]
                del waiting[:part]
            return sizes
