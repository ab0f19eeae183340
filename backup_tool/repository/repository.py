"""A restic repository, format version 2: the one door to everything in this folder."""

from __future__ import annotations

import contextlib
import secrets
from binascii import unhexlify
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from backup_tool.destinations.base import Destination, ObjectKind, PassingOver
from backup_tool.errors import BackupError, BadRange, DamagedObject, IntegrityError, NoRepository, ObjectMissing, UsageError
from backup_tool.models import Secret
from backup_tool.repository import keys, polynomial, sealed
from backup_tool.repository.crypto import BrokenSeal, Buffer, Key
from backup_tool.repository.index import BlobKind, DecodedIndex, Entry, Index, PackEntries
from backup_tool.repository.index_files import FixedIndex, IndexFiles, OnDamage, OnPack
from backup_tool.repository.keys import KeyInfo
from backup_tool.repository.locks import SETTLE, Clock, HeldLock, Lock, LockFiles, hangups_ignored
from backup_tool.repository.objects import is_id, load_whole, store
from backup_tool.repository.packing import PackingOrder
from backup_tool.repository.packs import read_header
from backup_tool.repository.parallel import abreast, largest_first, width_for
from backup_tool.repository.reading import WORD, Reader, ReadRequest, blob_id, open_blob
from backup_tool.repository.sealed import Unreadable, parse
from backup_tool.repository.snapshots import MAX_SNAPSHOT, Snapshot, decode_snapshot, encode_snapshot, oldest_first, short_id
from backup_tool.repository.trees import Tree, decode_tree
from backup_tool.repository.writer import PACK_SIZE, Writer

_VERSIONS = (1, 2)


class Config(msgspec.Struct):
    """The config file's JSON. Fields of other programs are passed over."""

    version: int
    id: str
    chunker_polynomial: str = ""


class Repository:
    """An open repository. Reading is safe from several threads; locks, writers and snapshots are one thread's business.

    Ids are 64 lower-case hex digits. `id` is the repository's own, `version` 1 or 2; one of version 1 can be read only.
    """

    def __init__(self, destination: Destination, key: Key, key_id: str, config: Config, clock: Clock) -> None:
        self.destination = destination
        self.id = config.id
        self.version = config.version
        self.config = config
        self.key_id = key_id
        self.clock = clock
        self._key = key
        self._files = IndexFiles(destination, key)
        self._reader = Reader(destination, key, self._files)
        self._locks = LockFiles(destination, key, clock)
        self._held: HeldLock | None = None

    def __repr__(self) -> str:
        return f"Repository({self.destination.label!r})"

    # Making and opening

    @classmethod
    def create(cls, destination: Destination, password: Secret, *, hostname: str, username: str, clock: Clock | None = None) -> Repository:
        """Make a new repository: first its key, then its config. Raises UsageError, and touches nothing, where one is already."""
        clock = clock or Clock()
        keys.new_password(password)
        if destination.exists() or _has_any(destination, "keys") or _has_any(destination, "snapshots"):
            raise UsageError(f"there is a repository at {destination.label} already", "choose another place, or use the one that is there")
        destination.create()
        key = Key.random()
        key_id = keys.add_key(destination, key, password, hostname=hostname, username=username, created_ns=round(clock.wall() * 10**9))
        config = Config(version=2, id=secrets.token_hex(32), chunker_polynomial=f"{polynomial.random_polynomial():x}")
        destination.save("config", "config", key.sealed(msgspec.json.encode(config)))
        try:
            stored = _read_config(destination, key)
        except DamagedObject:
            stored = None
        if stored != config:  # somebody else made one here at the same moment, and theirs came first
            destination.remove("keys", key_id)
            raise UsageError(f"somebody else made a repository at {destination.label} just now", "open that one, with its password")
        return cls(destination, key, key_id, config, clock)

    @classmethod
    def open(cls, destination: Destination, password: Secret, *, clock: Clock | None = None) -> Repository:
        """Open a repository; of several places, the first whose config is sound. Raises NoRepository, WrongPassword, DamagedObject (a key
        or the config), and what the destination raises."""
        if not destination.exists():
            raise NoRepository(f"there is no repository at {destination.label}", "is the disk mounted? to make a new one: 'backup init'")
        key_id, key = keys.open_key(destination, password)
        try:
            config = _read_config(destination, key)
        except DamagedObject as damaged:
            if isinstance(destination, PassingOver) and destination.pass_over(damaged):
                return cls.open(destination, password, clock=clock)
            raise
        if config.version not in _VERSIONS:
            raise BackupError(f"the repository has format version {config.version}, unknown to this release", "use a newer one")
        return cls(destination, key, key_id, config, clock or Clock())

    # Keys

    def key_files(self) -> list[KeyInfo]:
        """Every key file; the one that opened this repository is `key_id`. Raises DamagedObject."""
        return list(keys.list_keys(self.destination))

    def add_key(self, password: Secret, *, hostname: str, username: str) -> str:
        """One more password; gives the id of its key file, which was opened once to make sure."""
        created = round(self.clock.wall() * 10**9)
        added = keys.add_key(self.destination, self._key, password, hostname=hostname, username=username, created_ns=created)
        keys.open_key(self.destination, password)
        return added

    def remove_key(self, id: str) -> None:
        """Take a password away. Raises UsageError for the key that this repository was opened with."""
        if id == self.key_id:
            raise UsageError("that is the key in use", "open the repository with another password first")
        self.destination.remove("keys", id)

    # Snapshots

    def snapshot_ids(self) -> list[str]:
        """The id of every snapshot, in no order."""
        return [name for name, _ in self.destination.list("snapshots")]

    def snapshots(self, on_damage: OnDamage | None = None) -> list[Snapshot]:
        """Every snapshot, oldest first. Call it before `load_index`: what a snapshot names is then in the index.

        A damaged one is raised as DamagedObject, or goes to `on_damage`.
        """
        listed = dict(self.destination.list("snapshots"))
        return sorted(self._read_snapshots(sorted(listed), listed, on_damage), key=oldest_first)

    def newest_snapshots(self, on_damage: OnDamage | None = None) -> list[Snapshot]:
        """`snapshots`, but for what another one names among its ancestors: enough to tell the archive view. The rest need not be read.

        Where nothing travels it is read all the same: so damage is told sooner, at no price.
        """
        if width_for(self.destination) == 1:
            return self.snapshots(on_damage)
        listed = dict(self.destination.list("snapshots"))
        by_short = {short_id(name): name for name in listed}
        found: list[Snapshot] = []
        needless: set[str] = set()
        for group in largest_first(listed, needless, 1):
            for one in self._read_snapshots(group, listed, on_damage):
                found.append(one)
                needless.update(by_short[id] for id in one.ancestors or () if id in by_short and id != short_id(one.id))
        return sorted((one for one in found if one.id not in needless), key=oldest_first)

    def _read_snapshots(self, names: Iterable[str], listed: dict[str, int], on_damage: OnDamage | None) -> Iterator[Snapshot]:
        for one in abreast(lambda name: self._snapshot(name, listed[name]), names, width_for(self.destination)):
            try:
                yield one()
            except ObjectMissing:  # forgotten by somebody meanwhile
                continue
            except DamagedObject as error:
                if on_damage is None:
                    raise
                on_damage(error)

    def load_snapshot(self, id: str) -> Snapshot:
        """One snapshot by its full id. Raises DamagedObject, ObjectMissing."""
        return self._snapshot(id, self.destination.size("snapshots", id))

    def _snapshot(self, name: str, size: int) -> Snapshot:
        return self.decode_snapshot(name, load_whole(self.destination, "snapshots", name, size, MAX_SNAPSHOT))

    def decode_snapshot(self, name: str, stored: bytes) -> Snapshot:
        """A snapshot from the bytes of its file. Raises DamagedObject."""
        try:
            return decode_snapshot(name, sealed.decode(self._key, stored, MAX_SNAPSHOT))
        except Unreadable as error:
            raise DamagedObject("snapshot", name, str(error)) from None

    def save_snapshot(self, snapshot: Snapshot) -> str:
        """Write a snapshot, the last act of a run: all that it names must be durable. Sets its id, and gives it.

        A lock that was lost meanwhile is taken again, and then everything the snapshot names is looked up anew: somebody may have removed
        packs. Raises Locked, and IntegrityError where that happened.
        """
        held = self._writing_lock()
        if not held.still_held():
            held.retake()
            self._refuse_unstored(snapshot.tree)
        snapshot.id = store(self.destination, "snapshots", sealed.encode(self._key, encode_snapshot(snapshot)))
        return snapshot.id

    def _refuse_unstored(self, tree: str) -> None:
        self.load_index()
        if next(self.lacks(self._reachable(tree)), None) is not None:
            raise IntegrityError("another program removed what this run had stored", "run it again: what is gone is stored anew")

    def at(self, destination: Destination) -> Repository:
        """The same repository as another place has it."""
        return Repository(destination, self._key, self.key_id, self.config, self.clock)

    def with_index(self, destination: Destination, files: FixedIndex) -> Repository:
        """The same repository as another place has it, for looking, with an index that says what it is told, whatever is stored."""
        other = self.at(destination)
        other._files, other._reader = files, Reader(destination, self._key, files)
        return other

    def fixed_index(self, destination: Destination) -> FixedIndex:
        """An index for `with_index`, empty."""
        return FixedIndex(destination, self._key)

    def named_by(self, snapshot: Snapshot, tree_blob: Callable[[str], bytes]) -> list[tuple[BlobKind, str]]:
        """Every blob that a snapshot names, each once; `tree_blob` gives the blobs of trees. Raises DamagedObject, and what that raises."""
        return list(dict.fromkeys(self._reachable(snapshot.tree, lambda id: _tree(id, tree_blob(id)))))

    def lacks(self, blobs: Iterable[tuple[BlobKind, str]]) -> Iterator[tuple[BlobKind, str]]:
        """Those that this place does not have: no index file of it names a pack for them that it lists. Needs `load_index`."""
        packs = {name for name, _ in self.destination.list("data")}
        for kind, id in blobs:
            if not any(place.pack.hex() in packs for place in self._files.index.find(kind, blob_id(id))):
                yield kind, id

    def _reachable(self, root: str, load_tree: Callable[[str], Tree] | None = None) -> Iterator[tuple[BlobKind, str]]:
        load_tree = load_tree or self.load_tree
        seen, waiting = {root}, [root]
        while waiting:
            tree = waiting.pop()
            yield "tree", tree
            for node in load_tree(tree).nodes:
                for blob in node.content or ():
                    yield "data", blob
                if node.subtree is not None and node.subtree not in seen:
                    seen.add(node.subtree)
                    waiting.append(node.subtree)

    # Index and blobs

    @property
    def index(self) -> Index:
        """The index as last loaded, with what was written since."""
        return self._files.index

    def load_index(self, on_damage: OnDamage | None = None, on_pack: OnPack | None = None) -> None:
        """Load all index files; again = what is new of them. A damaged one is raised as DamagedObject, or goes to `on_damage`.

        With `on_pack` all are read anew, and each pack that one of them describes is told.
        """
        self._files.load(on_damage, on_pack)

    def needed_index(self) -> set[str]:
        """The index files that have to be read, by what was loaded and written so far."""
        return self._files.needed()

    def is_read_whole(self, pack: str) -> bool:
        """True for a small pack of catalogs or trees that is known."""
        return self._files.small_pack(bytes.fromhex(pack)) is not None

    def packs_in_index(self, name: str, size: int) -> set[str]:
        """The packs that one stored index file of `size` bytes names. Raises DamagedObject, ObjectMissing."""
        return {pack.pack.hex() for pack in self._files.read(name, size).packs}

    def read_index(self, name: str, size: int) -> DecodedIndex:
        """What one stored index file of `size` bytes says. Raises DamagedObject, ObjectMissing."""
        return self._files.read(name, size)

    def write_index(self, packs: Iterable[PackEntries]) -> set[str]:
        """Write index files for exactly these packs, whatever other ones say; their names."""
        self._writing_lock().refuse_if_lost()
        return set(self._files.write_for(packs))

    def has(self, kind: BlobKind, id: str) -> bool:
        """True where the blob is stored. False for what is no id at all."""
        try:
            return self._files.index.has(kind, unhexlify(id))
        except ValueError:
            return False

    def blob_length(self, kind: BlobKind, id: str) -> int:
        """A blob's own length in bytes, from the index. Raises ObjectMissing."""
        place = self._files.index.first(kind, blob_id(id))
        if place is None:
            raise ObjectMissing(f"no index file names blob {id[:16]}")
        return place.plain_length

    def load_blob(self, kind: BlobKind, id: str) -> bytes:
        """One blob, by one range request, verified. Raises DamagedObject after trying other copies, and the index loaded once more."""
        return self._reader.load(kind, id)

    def plan_reads(self, kind: BlobKind, ids: Iterable[str]) -> list[ReadRequest]:
        """The requests that bring these blobs, each id once. Raises DamagedObject for a blob that no index names."""
        return self._reader.plan(kind, ids)

    def read(self, request: ReadRequest) -> list[tuple[str, bytes]]:
        """The blobs of a request, verified, at most some 64 MiB. May run in several threads. Raises DamagedObject if any cannot be had."""
        return list(self._reader.read(request))

    def stream(self, request: ReadRequest) -> Iterator[tuple[str, bytes]]:
        """`read`, blob by blob."""
        return self._reader.read(request)

    def load_blobs(self, kind: BlobKind, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """(id, bytes) of many blobs in few requests, each id once, in order of their packs. Memory is bounded."""
        yield from self._reader.read_all(self.plan_reads(kind, ids))

    def small_pack_of(self, kind: BlobKind, id: str) -> str | None:
        """The pack of catalogs or trees below 4 MiB from which a blob is read; None where it lies elsewhere, or nowhere."""
        place = self._files.index.first(kind, blob_id(id))
        return None if place is None or self._files.small_pack(place.pack) is None else place.pack.hex()

    def load_tree(self, id: str) -> Tree:
        """A folder. Raises DamagedObject."""
        return _tree(id, self.load_blob("tree", id))

    def pack_header(self, name: str, size: int) -> list[Entry]:
        """The blobs of a stored pack of `size` bytes by its own header, in two small requests. Raises DamagedObject, ObjectMissing."""
        try:
            return read_header(self._key, size, partial(self.destination.load, "data", name))
        except (Unreadable, BadRange) as error:
            raise DamagedObject("pack", name, str(error)) from None

    def open_blob(self, entry: Entry, stored: Buffer) -> bytes:
        """A blob from its sealed bytes, verified. Raises DamagedObject."""
        try:
            return open_blob(self._key, entry.kind, entry.id, stored, entry.raw_length)
        except Unreadable as error:
            raise DamagedObject(WORD[entry.kind], entry.id.hex(), str(error)) from None

    # Writing

    def refuse_old(self) -> None:
        """Raise UsageError for a repository of version 1."""
        if self.version != 2:
            raise UsageError("the repository has format version 1, which is only read here", "upgrade it: 'restic migrate upgrade_repo_v2'")

    def writer(self, *, pack_size: int = PACK_SIZE, verify_writes: bool = False) -> Writer:
        """What adds blobs; needs `load_index` and a lock. Raises UsageError for a repository of version 1."""
        self.refuse_old()
        held = self._writing_lock()
        if not self._files.loads:
            self.load_index()
        return Writer(self.destination, self._key, self._files, held.refuse_if_lost, pack_size=pack_size, verify_writes=verify_writes)

    def packing_order(self, *, known: bool = True, pack_size: int = PACK_SIZE, verify_writes: bool = False) -> PackingOrder:
        """What another process of ours needs to make packs for this repository, or (without what is `known`) to read them; see `packing`.

        Holds the master key.
        """
        index = self._files.index
        # Not those of packs that are doomed: they are to be stored again.
        ids = b"".join({id for kind, id, _ in index.blobs() if kind == "data" and index.has(kind, id)}) if known else b""
        key = self._key
        return PackingOrder(key.encrypt + key.mac_k + key.mac_r, ids, pack_size, verify_writes)

    def adopt_loose_packs(self, report: OnDamage | None = None) -> int:
        """Write an index for the packs that no index file names: what a killed run had stored already. Gives the number of packs.

        Each costs two small requests. Damaged ones go to `report`, and are left as they are. So do packs that an index file names and that
        are gone or cut short: what they held no longer counts as stored, so that whoever has it stores it again.
        """
        self._writing_lock()
        self.load_index()
        adopted = 0
        stored = dict(self.destination.list("data"))
        self._files.doom(self._lost_packs(stored, report))
        for pack, entries in self._loose_packs(stored, report):
            self._files.confirm(pack, entries)
            adopted += 1
        if adopted:
            self._writing_lock().refuse_if_lost()
            self._files.write()
        return adopted

    def know_loose_packs(self) -> None:
        """Take packs that no index file names into the index in memory: for reading on where an index file is damaged. Writes nothing.

        Each costs two small requests. Damaged ones are passed over.
        """
        for pack, entries in self._loose_packs(dict(self.destination.list("data")), None):
            self._files.index.add(pack, entries)

    def _loose_packs(self, stored: dict[str, int], report: OnDamage | None) -> Iterator[tuple[bytes, list[Entry]]]:
        for name, size in stored.items():
            pack = bytes.fromhex(name)
            if self._files.index.knows_pack(pack):
                continue
            try:
                yield pack, self.pack_header(name, size)
            except DamagedObject as error:
                if report is not None:
                    report(error)
            except ObjectMissing:
                continue

    def _lost_packs(self, stored: dict[str, int], report: OnDamage | None) -> list[bytes]:
        lost = []
        for pack, end in self._files.index.cut_short({bytes.fromhex(name): size for name, size in stored.items()}):
            try:  # a listing may lag behind
                reason = "" if self.destination.size("data", pack.hex()) >= end else "it was cut short"
            except ObjectMissing:
                reason = "it is missing"
            if reason:
                lost.append(pack)
                if report is not None:
                    report(DamagedObject("pack", pack.hex(), reason))
        return lost

    # Locks

    @contextlib.contextmanager
    def lock(self, exclusive: bool = False, *, optional: bool = False, settle: float = SETTLE) -> Iterator[HeldLock]:
        """Hold a lock: shared, so that nothing is removed meanwhile, or exclusive. Raises Locked, naming who holds the other.

        With `optional`, a place that cannot be written is no error: the block runs without, and `skipped` of what is given says why.
        `settle` is how many seconds the place needs to list what was just stored. SIGHUP does nothing meanwhile.
        """
        if self._held is not None and not (exclusive and not self._held.exclusive):
            yield self._held  # this thread holds one that is as good
            return
        outer, held = self._held, HeldLock(self._locks, exclusive, settle)
        with hangups_ignored():
            held.take(optional=optional)
            self._held = held
            try:
                yield held
            finally:
                self._held = outer
                held.release()

    def _writing_lock(self) -> HeldLock:
        if self._held is None:
            raise BackupError("nothing is written without a lock")
        if self._held.skipped is not None:
            self._held.refuse_if_lost()
        return self._held

    def locks(self) -> list[Lock]:
        """Every lock there is."""
        return self._locks.all()

    def unlock(self, remove_all: bool = False) -> list[Lock]:
        """Remove the locks that nobody holds any more, or all of them; gives those it removed."""
        if not remove_all:
            return self._locks.remove_stale(watch=False)
        removed = self._locks.all()
        for lock in removed:
            self._locks.remove(lock)
        return removed


def _tree(id: str, blob: bytes) -> Tree:
    try:
        return decode_tree(blob)
    except Unreadable as error:
        raise DamagedObject("tree", id, str(error)) from None


def _has_any(destination: Destination, kind: ObjectKind) -> bool:
    try:
        return next(iter(destination.list(kind)), None) is not None
    except NoRepository:
        return False


def _read_config(destination: Destination, key: Key) -> Config:
    try:
        stored = destination.load("config", "config")
    except ObjectMissing:
        raise NoRepository(f"there is no repository at {destination.label}", "to make a new one: 'backup init'") from None
    return parse_config(key, stored)


def parse_config(key: Key, stored: bytes) -> Config:
    """A config from its stored bytes. Raises DamagedObject."""
    try:
        config = parse(key.open(stored), Config)
    except (BrokenSeal, Unreadable) as error:
        raise DamagedObject("config", "config", str(error)) from None
    if not is_id(config.id):
        raise DamagedObject("config", "config", "its id is not 64 hex digits")
    return config
