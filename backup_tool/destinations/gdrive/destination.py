"""A repository in a folder of Google Drive.

Names there are labels and ids are identity: what a name stands for is found by listing its folder, by the id of that folder, and is kept
in memory with what this process stored and removed itself. Several files of one name are one object: the one counts whose checksum is its
name, then the oldest. Nothing is concluded from what a listing does not show without asking for it by id.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from backup_tool.destinations.base import KINDS, Condition, Draft, ObjectKind
from backup_tool.destinations.gdrive.api import Drive, File
from backup_tool.destinations.gdrive.faults import Who
from backup_tool.destinations.gdrive.folders import SHARDS, Folders, InTrash, Memory, in_folders
from backup_tool.destinations.gdrive.signin import PersonSignIn, SignIn, ends_in_testing, utc
from backup_tool.destinations.gdrive.uploads import Journal, KeptFile, Uploader, digest_of
from backup_tool.errors import BackupError, BadRange, NoRepository, NoSpace, ObjectMissing
from backup_tool.names import in_bytes, shown

Files = list[File]
Lines = list[str]
_NAME = re.compile(r"[0-9a-f]{64}")
_GROUP = 50
"""Folders listed by one query."""
_READ = 16 * 2**20
"""Bytes of one request for a part of a file."""
_MAX_OBJECT = 256 * 2**20
_WORKERS = 4


class GoogleDriveDestination:
    """The repository in a folder. Nothing is asked of Google before the first operation. May be used from several threads."""

    def __init__(self, drive: Drive, folder: str, sign_in: SignIn, who: Who, home: Path | None) -> None:
        self.label = who.label
        self._drive, self._sign_in, self._who = drive, sign_in, who
        self._folders = Folders(drive, folder, Memory(None if home is None else home / "folder.json"), who)
        self._journal = Journal(None if home is None else home / "uploads")
        self._uploader = Uploader(drive, self._journal, who)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="drive")
        self._objects = _Objects()
        self._lock = threading.RLock()
        self._saving: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._opened = False
        self._flat: Files | None = None

    # The place

    def create(self) -> None:
        """Make the folder and all those in it, as far as they are not there."""
        with self._lock:
            self._folders.make(self._pool)
            self._opened, self._flat = True, []

    def exists(self) -> bool:
        """True where the folder holds a config. Raises BackupError for a folder in the trash."""
        with self._lock:
            for file in self._objects.copies("config", "config"):
                with suppress(ObjectMissing):
                    if not self._drive.get(file.id).trashed:
                        return True
            self._opened = self._folders.open()
            if self._opened:
                self._objects.listed("config", [("config", file) for file in self._folders.configs], ["config"])
            return self._opened and bool(self._objects.copies("config", "config"))

    def _open(self) -> None:
        """Raise NoRepository where the folder is not there."""
        with self._lock:
            if not self._opened and not self.exists() and not self._opened:
                raise self._folders.refuse_absent()

    def condition(self) -> Condition:
        """The account, its storage, how long the sign-in lasts, and what became of the folder."""
        about = self._drive.about()
        condition = Condition(account=about.account or None, limit=about.limit, used=about.used, in_trash=about.in_trash)
        if isinstance(self._sign_in, PersonSignIn):
            kept = self._sign_in.load()
            condition.signed_in, condition.sign_in_ends = utc(kept.signed_in), utc(kept.ends)
            condition.sign_in_may_end = ends_in_testing(kept)
        try:
            condition.folder = "there" if self._folders.open() else "absent"
        except InTrash:
            condition.folder = "in the trash"
        return condition

    def sweep(self) -> int:
        """Finish the uploads that dead runs of this machine left on their way, and remove what is of no further use."""
        unfinished, useless = self._journal.left_behind()
        for entry in unfinished:
            with self._journal.bytes_of(entry.kind, entry.name).open("rb") as body:
                size, sha256 = body.seek(0, io.SEEK_END), digest_of(body)
                if (size, sha256) == (entry.size, entry.sha256):
                    self.store(entry.kind, entry.name, body, size, sha256)
            self._journal.drop(entry.kind, entry.name)
        for path in useless:
            with suppress(OSError):
                path.unlink()
        return len(unfinished) + len(useless)

    def close(self) -> None:
        """End all connections and all waiting."""
        self._drive.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # Writing

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """Store the bytes under the name."""
        self.store(kind, name, io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """`save` from a local file, part by part. Raises OSError where it cannot be opened."""
        with path.open("rb") as body:
            self.store(kind, name, body, body.seek(0, io.SEEK_END), digest_of(body))

    def replace(self, kind: ObjectKind, name: str, path: Path) -> None:
        """`save_file`: where Drive tells another checksum than the right one, the new file is there before the old one goes."""
        self.save_file(kind, name, path)

    def draft(self, kind: ObjectKind) -> DriveDraft:
        """An object whose name is known only at its end; until then it is a private file on this machine."""
        return DriveDraft(self, kind, self._journal)

    def store(self, kind: ObjectKind, name: str, body: BinaryIO, size: int, sha256: str) -> None:
        """Store `size` bytes of a file that can be read again, unless they are there; then let go of its journal."""
        name = self.name_of(kind, name)
        self._open()
        with self._saving[kind, name]:
            broken = self._copies(kind, name, sure=False)
            if not any(self._is_stored(file, name, size, sha256) for file in broken):
                file = self._upload(kind, name, body, size, sha256)
                for old in broken:
                    self._remove(kind, name, old)
                self._objects.stored(kind, name, file)
                if kind == "config":
                    self._give_way(file)
        self._journal.drop(kind, name)

    def _give_way(self, config: File) -> None:
        """Where two machines stored a config at the same moment, the older one stays."""
        with self._lock:
            self._folders.open()
            self._objects.listed("config", [("config", file) for file in self._folders.configs], ["config"])
        if self._objects.copies("config", "config")[0].id != config.id:
            self._remove("config", "config", config)

    def _is_stored(self, file: File, name: str, size: int, sha256: str) -> bool:
        """Whether a file is this object: of its size; where Drive tells another checksum than the right one, it is not."""
        if file.size != size or (sha256 == name and file.sha256 not in (None, name)):
            return False
        with suppress(ObjectMissing):
            return not self._drive.get(file.id).trashed
        return False

    def _upload(self, kind: ObjectKind, name: str, body: BinaryIO, size: int, sha256: str) -> File:
        try:
            return self._uploader.store(kind, name, self._folder_for(kind, name), body, size, sha256)
        except ObjectMissing:
            self._folders.open()
            raise NoRepository(f"a folder of {self.label} is gone", "see in Google Drive who moved or removed it") from None
        except NoSpace as error:
            raise self._with_numbers(error) from None

    def _with_numbers(self, error: NoSpace) -> NoSpace:
        """How full is full; as far as that can be asked for now."""
        with suppress(BackupError):
            about = self._drive.about()
            if about.limit and about.used is not None and about.used >= 0.95 * about.limit:
                trash = f", {in_bytes(about.in_trash)} of it in the trash" if about.in_trash else ""
                return NoSpace(f"{error.message}: {in_bytes(about.used)} of {in_bytes(about.limit)} are used{trash}", error.hint)
        return error

    def _folder_for(self, kind: ObjectKind, name: str) -> str:
        path = "" if kind == "config" else _folder(kind, name)
        with self._lock:
            ids = self._folders.ids.get(path)
            if not ids and kind == "data" and self._flat is None:
                self._open_shards()
                ids = self._folders.ids.get(path)
            return ids[0] if ids else self._folders.make_one(path)

    def remove(self, kind: ObjectKind, name: str) -> None:
        """Remove all copies of an object."""
        name = self.name_of(kind, name)
        self._open()
        for file in self._copies(kind, name):
            self._remove(kind, name, file)

    def _remove(self, kind: ObjectKind, name: str, file: File) -> None:
        self._drive.delete(file.id)
        self._objects.removed(kind, name, file)

    # Reading

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes, or exactly `length` of them from `offset`. At most 256 MiB."""
        name = self.name_of(kind, name)
        self._open()
        for file in self._copies(kind, name):
            size = file.size or 0
            wanted = size - offset if length is None else length
            if offset < 0 or wanted < 0 or offset + wanted > size:
                raise BadRange(f"bytes {offset} to {offset + wanted} of {kind} {name[:16]}, which has {size}")
            if wanted > _MAX_OBJECT:
                raise BackupError(f"{kind} {name[:16]} is larger than {_MAX_OBJECT:,} bytes")
            with suppress(ObjectMissing):
                return self._read(file.id, offset, wanted)
            self._objects.forget(kind, name, file)
        raise self._missing(kind, name)

    def _read(self, id: str, offset: int, length: int) -> bytes:
        end = offset + length
        parts = [self._drive.read(id, start, min(_READ, end - start)) for start in range(offset, end, _READ)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self, kind: ObjectKind, name: str) -> int:
        """The stored size in bytes, as Drive knows it now."""
        return self._now(kind, name).size or 0

    def age(self, kind: ObjectKind, name: str) -> float:
        """Seconds since the object was stored, by Google's clock."""
        return self._drive.age(self._now(kind, name))

    def _now(self, kind: ObjectKind, name: str) -> File:
        name = self.name_of(kind, name)
        self._open()
        for file in self._copies(kind, name):
            with suppress(ObjectMissing):
                found = self._drive.get(file.id)
                if not found.trashed:
                    return found
            self._objects.forget(kind, name, file)
        raise self._missing(kind, name)

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """All (name, size) of a kind."""
        self._list(kind)
        yield from [(name, files[0].size or 0) for name, files in self._objects.all(kind).items()]

    def checksums(self, kind: ObjectKind) -> Iterator[tuple[str, int, str | None]]:
        """(name, size, SHA-256 as Google computed it) of every copy of every object, by listing alone."""
        self._list(kind)
        yield from [(name, file.size or 0, file.sha256) for name, files in self._objects.all(kind).items() for file in files]

    # Listings

    def _copies(self, kind: ObjectKind, name: str, *, sure: bool = True) -> Files:
        """The files that are this object, the one that counts first. Where none is known its folder is listed; unless `sure`, only where
        this process has not done so yet: at worst there are two then of what another process stored meanwhile, and they count as one."""
        path = _folder(kind, name)
        if not self._objects.copies(kind, name) and (sure or not self._objects.knows(path)):
            self._list(kind, [path])
        return self._objects.copies(kind, name)

    def _list(self, kind: ObjectKind, paths: Iterable[str] | None = None) -> None:
        """List all folders of a kind, or some of them."""
        self._open()
        if kind == "config":
            if not self.exists() and not self._opened:
                raise self._folders.refuse_absent()
            return
        some = [*(paths or ([f"data/{shard}" for shard in SHARDS] if kind == "data" else [kind]))]
        try:
            files = self._files_in(kind, some, anew=paths is None)
        except ObjectMissing:  # a folder is gone that was there: look again which there are
            self._check_still_there()
            with self._lock:
                self._folders.open()
                self._flat = None
            files = self._files_in(kind, some, anew=True)
        found = [(file.name, file) for file in files if _NAME.fullmatch(file.name) and not file.is_folder and file.size is not None]
        wanted = set(some)
        found = [(name, file) for name, file in found if _folder(kind, name) in wanted]
        if not files:
            self._check_still_there()
        for name, file in self._objects.listed(kind, found, some):
            self._look_again(kind, name, file)

    def _files_in(self, kind: ObjectKind, paths: Lines, *, anew: bool) -> Files:
        """What lies in these folders; `anew`: after finding out which folders of packs there are."""
        with self._lock:
            if kind == "data" and (anew or self._flat is None):
                self._open_shards()
            flat = self._flat or [] if kind == "data" else []
            ids = [id for path in paths for id in self._folders.ids.get(path, ())]
        return [*self._in_groups(ids), *flat]

    def _look_again(self, kind: ObjectKind, name: str, file: File) -> None:
        """A listing does not show what this process stored: it may lag behind, or somebody removed it."""
        try:
            gone = self._drive.get(file.id).trashed
        except ObjectMissing:
            gone = True
        if gone:
            self._objects.forget(kind, name, file)

    def _in_groups(self, ids: Lines) -> Files:
        """What lies in these folders. Google's grouped queries sometimes answer with nothing at all, so each group has the archive's own
        folder in it, which is never empty; where not even that has anything, every folder of the group is listed alone."""
        if len(ids) <= 1:
            return self._drive.find(in_folders(ids)) if ids else []
        root = self._folders.ids[""][0]
        groups = [ids[start : start + _GROUP - 1] for start in range(0, len(ids), _GROUP - 1)]
        found: Files = []
        for group, files in zip(groups, self._pool.map(lambda group: self._drive.find(in_folders([*group, root])), groups), strict=True):
            if not files:
                files = [file for one in self._pool.map(lambda id: self._drive.find(in_folders([id])), group) for file in one]
            found += [file for file in files if root not in file.parents]
        return found

    def _open_shards(self) -> None:
        """Find the folders of packs, and the packs that lie flat beside them, as where somebody else put them there."""
        self._flat = self._folders.open_shards()

    def _check_still_there(self) -> None:
        """Nothing is found. Where the folder is gone too, or in the trash, nothing may be concluded from that."""
        try:
            gone = self._drive.get(self._folders.ids[""][0]).trashed
        except ObjectMissing:
            gone = True
        if gone and not self._folders.open():
            raise self._folders.refuse_absent()

    def _missing(self, kind: ObjectKind, name: str) -> ObjectMissing:
        self._check_still_there()
        return ObjectMissing(f"there is no {kind} {name[:16]} at {self.label}")

    # Names

    def name_of(self, kind: ObjectKind, name: str) -> str:
        """The name of an object's file. Raises BackupError for what is no name."""
        if kind == "config":
            return "config"
        if kind not in KINDS or not _NAME.fullmatch(name):
            raise BackupError(f"{shown(name)!r} is no name of an object of kind {shown(kind)}")
        return name

    def begin(self) -> None:
        """Before an object grows: raise NoRepository where there is no place for it."""
        self._open()

    # Mending

    def mend(self, *, dry_run: bool = False) -> Lines:
        """Join folders of one name, and remove further copies of what is there whole; what was done (or would be), a line each.

        Only while nobody writes. Nothing is removed unless a copy stays whose checksum is its name, or the very same.
        """
        self._open()
        done: Lines = []
        for twin in self._folders.search_twins():
            if twin.id not in self._folders.ids[""]:
                self._folders.ids[""].append(twin.id)
        self._join("", done, dry_run)
        if not dry_run:
            self.exists()
        self._open_shards()
        for path in [path for path, ids in self._folders.ids.items() if path and "/" not in path and len(ids) > 1]:
            self._join(path, done, dry_run)
        self._open_shards()
        for path in [path for path, ids in self._folders.ids.items() if "/" in path and len(ids) > 1]:
            self._join(path, done, dry_run)
        for kind in KINDS:
            self._list(kind)
            for name, files in self._objects.all(kind).items():
                for copy in files[1:]:
                    self._remove_copy(kind, name, files[0], copy, done, dry_run)
        return done

    def _remove_copy(self, kind: ObjectKind, name: str, first: File, copy: File, done: Lines, dry_run: bool) -> None:
        kept = self._drive.get(first.id)
        same = copy.sha256 is not None and (copy.size, copy.sha256) == (kept.size, kept.sha256)
        if kept.trashed or not (same or kept.sha256 == name):
            return
        if not dry_run:
            self._remove(kind, name, copy)
        which = "second copy" if same else "damaged second copy"
        done.append(f"{'would remove' if dry_run else 'removed'} a {which} of {kind} {name[:16]}")

    def _join(self, path: str, done: Lines, dry_run: bool) -> None:
        """Move everything from the younger folders into the oldest. What is empty then goes into the trash, and is not removed for good: a
        listing may lag behind."""
        ids = self._folders.ids[path]
        if dry_run:
            done += [f"would join two folders {path or self.label}" for _ in ids[1:]]
            return
        for twin in ids[1:]:
            for file in self._drive.find(in_folders([twin])):
                self._drive.move(file.id, twin, ids[0])
            if not self._drive.find(f"'{twin}' in parents"):
                self._drive.trash(twin)
                done.append(f"joined two folders {path or self.label}")
        del ids[1:]


class _Objects:
    """What is known of the objects: copies by kind and name, the one that counts first. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, list[File]]] = {kind: {} for kind in KINDS}
        self._listed: set[str] = set()
        self._ours: dict[str, tuple[str, str, File]] = {}
        self._gone: set[str] = set()

    def knows(self, path: str) -> bool:
        """Whether a folder was listed."""
        with self._lock:
            return path in self._listed

    def copies(self, kind: str, name: str) -> Files:
        """The files of one object."""
        with self._lock:
            return list(self._known[kind].get(name, ()))

    def all(self, kind: str) -> dict[str, list[File]]:
        """The files of all objects of a kind."""
        with self._lock:
            return {name: list(files) for name, files in self._known[kind].items()}

    def listed(self, kind: str, found: Iterable[tuple[str, File]], paths: Iterable[str]) -> list[tuple[str, File]]:
        """What these folders hold now; gives what this process stored there and the listing does not show."""
        folders = set(paths)
        with self._lock:
            new: dict[str, list[File]] = defaultdict(list)
            shown_ids = set()
            for name, file in found:
                shown_ids.add(file.id)
                if file.id not in self._gone:
                    new[name].append(file)
            unseen = [
                (name, file)
                for id, (of, name, file) in self._ours.items()
                if of == kind and id not in shown_ids and _folder(kind, name) in folders
            ]
            for name, file in unseen:
                new[name].append(file)
            self._known[kind] = {name: files for name, files in self._known[kind].items() if _folder(kind, name) not in folders}
            self._known[kind] |= {name: sorted(files, key=lambda file: _rank(name, file)) for name, files in new.items()}
            self._listed |= folders
            return unseen

    def stored(self, kind: str, name: str, file: File) -> None:
        """This process stored it."""
        with self._lock:
            self._ours[file.id] = (kind, name, file)
            self._known[kind][name] = [file]

    def removed(self, kind: str, name: str, file: File) -> None:
        """This process removed it, whatever listings show for a while."""
        with self._lock:
            self._gone.add(file.id)
        self.forget(kind, name, file)

    def forget(self, kind: str, name: str, file: File) -> None:
        """It is not there any more."""
        with self._lock:
            self._ours.pop(file.id, None)
            left = [one for one in self._known[kind].pop(name, ()) if one.id != file.id]
            if left:
                self._known[kind][name] = left


def _folder(kind: str, name: str) -> str:
    """The folder of an object below the archive's own; "config" for the config, which is in none."""
    return "config" if kind == "config" else f"data/{name[:2]}" if kind == "data" else kind


def _rank(name: str, file: File) -> tuple[bool, str, str]:
    """The copy whose checksum is its name first, then the oldest."""
    return file.sha256 != name, *file.born


class DriveDraft:
    """An object growing in a private file. It may be committed again; an upload that was begun outlives this process."""

    def __init__(self, destination: GoogleDriveDestination, kind: ObjectKind, journal: Journal) -> None:
        self._destination, self._kind, self._journal = destination, kind, journal

    def __enter__(self) -> Draft:
        self._destination.begin()
        self._file = KeptFile(self._journal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._file.write(data)

    def commit(self, name: str) -> None:
        """Send it. It is at Google, compared by its checksum, when this returns."""
        name = self._destination.name_of(self._kind, name)
        sha256 = self._file.complete(self._kind, name)
        self._destination.store(self._kind, name, self._file.file, self._file.size, sha256)
