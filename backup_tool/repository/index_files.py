"""The index files of a repository: read into one index, added to while packs are written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from backup_tool.destinations.base import Destination
from backup_tool.destinations.cache import SMALL_PACK
from backup_tool.errors import DamagedObject, ObjectMissing, Unreachable
from backup_tool.repository import sealed
from backup_tool.repository.crypto import Key
from backup_tool.repository.index import FULL_INDEX, MAX_INDEX, DecodedIndex, Entry, Index, PackEntries, decode_index, encode_index
from backup_tool.repository.objects import load_whole, store
from backup_tool.repository.packs import pack_size
from backup_tool.repository.parallel import abreast, largest_first, width_for
from backup_tool.repository.sealed import Unreadable

MOST_INDEX_FILES = 4
"""So many index files that are not full are to be read at most: a run that would make one more takes the smaller ones into its own."""
# How often a listing may be overtaken by somebody who rewrites the index, before we say that something else is wrong.
_TRIES = 3
_DAY = 86_400

OnDamage = Callable[[DamagedObject], None]
OnPack = Callable[[PackEntries, bool], None]
"""Takes a pack as an index file describes it, and whether another file is said to describe it too (supersedes this one)."""


class _Read(NamedTuple):
    """What is remembered of an index file: the number of its blobs, what it supersedes, and whether all its packs are there to stay."""

    blobs: int
    supersedes: list[str]
    lasting: bool


class _Known:
    """What was read: the index, and the files it comes from."""

    def __init__(self) -> None:
        self.index = Index()
        self.small: dict[bytes, int] = {}
        self.files: dict[str, _Read] = {}
        self.needless: set[str] = set()

    def add(self, pack: PackEntries) -> None:
        self.index.add(pack.pack, pack.entries, doomed=pack.doomed, time=pack.time)
        if _is_read_together(pack.entries) and pack.entries[-1].offset < SMALL_PACK and (size := pack_size(pack.entries)) < SMALL_PACK:
            self.small[pack.pack] = size

    def add_file(self, name: str, decoded: DecodedIndex) -> None:
        for pack in decoded.packs:
            self.add(pack)
        blobs, lasting = sum(len(pack.entries) for pack in decoded.packs), not any(pack.doomed for pack in decoded.packs)
        self.files[name] = _Read(blobs, decoded.supersedes, lasting)
        self.needless.update(decoded.supersedes)


def _is_read_together(entries: Sequence[Entry]) -> bool:
    """True for trees, and for compressed blobs, which are catalogs; recordings are never compressed, and read one by one."""
    return bool(entries) and (entries[0].kind == "tree" or entries[0].raw_length > 0)


class IndexFiles:
    """`index` is what is known now: all index files as last loaded, and every pack confirmed since. Safe for several threads."""

    def __init__(self, destination: Destination, key: Key) -> None:
        self.loads = 0
        self._known = _Known()
        self._destination = destination
        self._key = key
        self._listed: dict[str, int] = {}
        self._unwritten: dict[bytes, PackEntries] = {}
        self._lost: set[bytes] = set()
        self._lock = threading.RLock()

    @property
    def index(self) -> Index:
        """Which blob lies where."""
        return self._known.index

    def small_pack(self, pack: bytes) -> int | None:
        """The exact size of a pack of catalogs or trees that is below 4 MiB; None for every other."""
        return self._known.small.get(pack)

    def load(self, on_damage: OnDamage | None = None, on_pack: OnPack | None = None, *, everything: bool = False) -> None:
        """Read every index file that is not known yet; all of them anew where one that was known is gone (somebody compacted).

        Those that another one supersedes are left out, but with `everything`. A damaged file goes to `on_damage`, or is raised as
        DamagedObject. With `on_pack` all are read anew, superseded ones too, and each pack in them told.
        """
        with self._lock:
            for _ in range(_TRIES):
                try:
                    self._load_listed(on_damage, on_pack, everything or on_pack is not None)
                except ObjectMissing:  # rewritten between listing and reading: list again
                    continue
                self.loads += 1
                return
        raise Unreachable("the index files change faster than they can be read", "try again when the other run has ended")

    def load_all(self) -> None:
        """`load`, and what others supersede as well: for a blob that was not found where it should be."""
        self.load(everything=True)

    def _load_listed(self, on_damage: OnDamage | None, on_pack: OnPack | None, everything: bool) -> None:
        listed = dict(self._destination.list("index"))
        known = _Known() if on_pack is not None or not self._known.files.keys() <= listed.keys() else self._known
        new = {name: size for name, size in listed.items() if name not in known.files}
        few = everything or len(new) <= MOST_INDEX_FILES
        for group in largest_first(new, set() if everything else known.needless, 0 if few else MOST_INDEX_FILES):
            for name, stored in zip(group, self._fetched(group, listed), strict=True):
                try:
                    decoded = self._decoded(name, stored())
                except DamagedObject as error:
                    if on_damage is None:
                        raise
                    on_damage(error)
                    decoded = DecodedIndex([], [])
                known.add_file(name, decoded)
                if on_pack is not None:
                    for pack in decoded.packs:
                        on_pack(pack, name in known.needless)
        for own in self._unwritten.values():
            known.add(own)
        if self._lost:
            known.index.doom(self._lost)
        self._known, self._listed = known, listed

    def _fetched(self, names: Iterable[str], listed: dict[str, int]) -> Iterable[Callable[[], bytes]]:
        return abreast(
            lambda name: load_whole(self._destination, "index", name, listed[name], MAX_INDEX),
            names,
            width_for(self._destination),
            lambda name: listed[name],
        )

    def needed(self) -> set[str]:
        """The files that are enough to read all there is, as far as is known."""
        return self._known.files.keys() - self._known.needless

    def read(self, name: str, size: int) -> DecodedIndex:
        """What one index file of `size` bytes says, by itself. Raises DamagedObject, ObjectMissing."""
        return self._decoded(name, load_whole(self._destination, "index", name, size, MAX_INDEX))

    def _decoded(self, name: str, stored: bytes) -> DecodedIndex:
        try:
            return decode_index(sealed.decode(self._key, stored, MAX_INDEX))
        except Unreadable as error:
            raise DamagedObject("index", name, str(error)) from None

    def doom(self, packs: Iterable[bytes]) -> None:
        """These packs are lost, whatever index files say: what they held does not count as stored, now and after every further load."""
        with self._lock:
            self._lost.update(packs)
            if self._lost:
                self.index.doom(self._lost)

    def confirm(self, pack: bytes, entries: Sequence[Entry]) -> int:
        """The destination has this pack: its blobs count as stored from now on. Gives the number of blobs that no index file names yet."""
        with self._lock:
            self._unwritten[pack] = PackEntries(pack, entries, time=self._time() if _is_read_together(entries) else 0)
            self._known.add(self._unwritten[pack])
            return sum(len(waiting.entries) for waiting in self._unwritten.values())

    def _time(self) -> int:
        """Now, and after every pack that is known: a clock that went backwards, here or elsewhere, must not make old copies the younger."""
        now, newest = int(time.time()), self.index.newest
        return max(now, newest + 1) if newest < now + _DAY else now

    def write(self, *, last: bool = False) -> list[int]:
        """Write index files for the packs confirmed since the last time, and give their stored sizes.

        The `last` one of a run takes in what smaller ones say, so that few have to be read: nothing is removed, but it supersedes them.
        """
        with self._lock:
            waiting = list(self._unwritten.values())
            taken, superseded = self._take_in(waiting) if last and waiting else ([], [])
            sizes: list[int] = []
            for part in _parts(waiting):
                sizes.append(self._listed[self._store([*part, *taken], superseded)])
                for pack in part:
                    del self._unwritten[pack.pack]
            return sizes

    def write_for(self, packs: Iterable[PackEntries]) -> list[str]:
        """Write index files that describe these packs, and supersede none; their names."""
        with self._lock:
            return [self._store(part, []) for part in _parts(list(packs))]

    def _store(self, packs: list[PackEntries], superseded: list[str]) -> str:
        data = sealed.encode(self._key, encode_index(packs, superseded))
        name = store(self._destination, "index", data)
        self._known.files[name] = _Read(sum(len(pack.entries) for pack in packs), superseded, True)
        self._known.needless.update(superseded)
        self._listed[name] = len(data)
        return name

    def _take_in(self, own: list[PackEntries]) -> tuple[list[PackEntries], list[str]]:
        """What an index file of these packs also describes: the packs of smaller files, and the names of those that need not be read then.

        Like with like: a file is taken in to keep their number down, or when it is no larger than all that is taken in already. So what a
        file says is written again once for each time it doubles, roughly, and not every night.
        """
        known, total = self._known, sum(len(pack.entries) for pack in own)
        open_files = sorted((read.blobs, name) for name, read in known.files.items() if self._may_supersede(name, read))
        left = len(open_files) + 1
        if left <= MOST_INDEX_FILES or total > FULL_INDEX // 2:
            return [], []
        packs: dict[bytes, PackEntries] = {}
        superseded: list[str] = []
        for blobs, name in open_files:
            if (left <= MOST_INDEX_FILES and blobs > total) or total + blobs > FULL_INDEX:
                break
            inside = self._packs_of(name)
            if inside is None or any(packs.get(pack.pack, pack).entries != pack.entries for pack in inside):
                continue
            packs.update((pack.pack, pack) for pack in inside)
            superseded += [name, *(older for older in known.files[name].supersedes if older in self._listed)]
            total, left = total + blobs, left - 1
        for pack in own:
            packs.pop(pack.pack, None)
        return list(packs.values()), list(dict.fromkeys(superseded))

    def _may_supersede(self, name: str, read: _Read) -> bool:
        return read.lasting and 0 < read.blobs <= FULL_INDEX // 2 and name in self._listed and name not in self._known.needless

    def _packs_of(self, name: str) -> list[PackEntries] | None:
        """The packs of a file as it is stored; None where it cannot be had whole, or names a pack that is lost: it stays as it is then."""
        try:
            decoded = self._decoded(name, load_whole(self._destination, "index", name, self._listed[name], MAX_INDEX))
        except (DamagedObject, ObjectMissing):
            return None
        return None if any(pack.pack in self._lost for pack in decoded.packs) else decoded.packs


class FixedIndex(IndexFiles):
    """An index of the packs that it is told, whatever index files say. None is read."""

    def __init__(self, destination: Destination, key: Key) -> None:
        super().__init__(destination, key)
        self.loads = 1

    def load(self, on_damage: OnDamage | None = None, on_pack: OnPack | None = None, *, everything: bool = False) -> None:
        """Nothing is loaded."""

    def add(self, pack: PackEntries) -> None:
        """One more pack, or more blobs of one."""
        self._known.add(pack)


def _parts(packs: list[PackEntries]) -> Iterator[list[PackEntries]]:
    """The packs for one index file each. All of one pack's blobs stand in one file: readers take a split pack for damage."""
    part: list[PackEntries] = []
    blobs = 0
    for pack in packs:
        if part and blobs + len(pack.entries) > FULL_INDEX:
            yield part
            part, blobs = [], 0
        part.append(pack)
        blobs += len(pack.entries)
    if part:
        yield part
