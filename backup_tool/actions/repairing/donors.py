"""Other places that hold the same repository, as sources of what one place has lost; and a place as it will be with what they lend."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

from backup_tool.destinations.base import Checksums, Destination, Draft, ObjectKind
from backup_tool.errors import BackupError, BadRange, DamagedObject, IntegrityError, ObjectMissing
from backup_tool.repository import Repository
from backup_tool.repository.index import BlobKind, Entry
from backup_tool.repository.objects import load_whole

_PIECE = 16 * 2**20


class Donor:
    """One of them: `name` is what a person calls it. Whatever it gives was verified. `error`, if not None: why nothing more is asked."""

    def __init__(self, name: str, repository: Repository) -> None:
        self.name = name
        self.repository = repository
        self.error: BackupError | None = None
        self._listed: dict[ObjectKind, dict[str, int]] = {}
        self._proven: set[str] | None = None
        self._has_index = False

    def whole(self, kind: ObjectKind, name: str, limit: int) -> bytes | None:
        """The bytes of a small object; None where it is not there, or damaged there too."""
        try:
            size = self._sizes(kind).get(name)
            return None if size is None else load_whole(self.repository.destination, kind, name, size, limit)
        except BackupError as error:
            self._note(error)
            return None

    def has_pack(self, name: str) -> bool:
        """Whether a pack is there whole: by the checksum that the place tells, or else by reading it."""
        try:
            size = self._sizes("data").get(name)
            return size is not None and (name in self._by_checksum() or self._hash(name, size, None) == name)
        except BackupError as error:
            self._note(error)
            return False

    def fetch_pack(self, name: str, path: Path) -> None:
        """Write a pack to a file. Raises DamagedObject where it is not what its name says, and what the place raises."""
        if self._hash(name, self._sizes("data").get(name, 0), path) != name:
            raise DamagedObject("pack", name, f"what {self.name} gave does not match its name")

    def entries(self, pack: bytes) -> Sequence[Entry]:
        """The blobs of a pack by its header; none where that cannot be had."""
        try:
            size = self._sizes("data").get(pack.hex())
            return [] if size is None else self.repository.pack_header(pack.hex(), size)
        except BackupError as error:
            self._note(error)
            return []

    def described(self, pack: bytes) -> Sequence[Entry]:
        """The blobs of a pack as the index there describes it: right for the same pack anywhere."""
        self._load_index()
        return sorted(
            (
                Entry(kind, id, place.offset, place.length, place.raw_length)
                for kind, id, place in self.repository.index.blobs()
                if place.pack == pack
            ),
            key=lambda entry: entry.offset,
        )

    def blob(self, kind: BlobKind, id: str) -> tuple[bytes, Entry] | None:
        """The pack in which a blob lies there, and the blob as it lies in it; None where it cannot be had."""
        if self.error is not None:
            return None
        self._load_index()
        for place in self.repository.index.find(kind, bytes.fromhex(id)):
            entry = Entry(kind, bytes.fromhex(id), place.offset, place.length, place.raw_length)
            try:
                stored = self.repository.destination.load("data", place.pack.hex(), place.offset, place.length)
                self.repository.open_blob(entry, stored)
            except BackupError as error:
                self._note(error)
                continue
            return place.pack, entry
        return None

    def _hash(self, name: str, size: int, path: Path | None) -> str:
        digest, load = hashlib.sha256(), self.repository.destination.load
        with path.open("wb") if path is not None else nullcontext() as file:
            for start in range(0, size, _PIECE):
                piece = load("data", name, start, min(_PIECE, size - start))
                digest.update(piece)
                if file is not None:
                    file.write(piece)
        return digest.hexdigest()

    def _by_checksum(self) -> set[str]:
        if self._proven is None:
            place = self.repository.destination
            listed = place.checksums("data") if isinstance(place, Checksums) else ()
            self._proven = {name for name, _, sha256 in listed if sha256 == name}
        return self._proven

    def _sizes(self, kind: ObjectKind) -> dict[str, int]:
        if self.error is not None:
            return {}
        if kind not in self._listed:
            self._listed[kind] = dict(self.repository.destination.list(kind))
        return self._listed[kind]

    def _load_index(self) -> None:
        if not self._has_index and self.error is None:
            self._has_index = True
            try:
                self.repository.load_index(lambda _: None)
            except BackupError as error:
                self._note(error)

    def _note(self, error: BackupError) -> None:
        """Damage of one object says nothing of the others; anything else does."""
        if not isinstance(error, ObjectMissing | BadRange | IntegrityError):
            self.error = self.error or error


class AsRepaired:
    """A destination for looking: a place with what is to be stored there, without what is to go, and with packs that others lend."""

    def __init__(self, place: Destination) -> None:
        self.label = place.label
        self.puts: dict[tuple[ObjectKind, str], bytes] = {}
        self.gone: set[tuple[ObjectKind, str]] = set()
        self._place = place
        self._lent: dict[str, tuple[Donor, str]] = {}

    def lend(self, donor: Donor, pack: bytes, *, whole: bool = False) -> bytes:
        """The name under which a donor's pack is read here: its own where it is to be here, too."""
        name = pack if whole else hashlib.sha256(donor.name.encode() + pack).digest()
        self._lent[name.hex()] = donor, pack.hex()
        return name

    def exists(self) -> bool:
        """True: it was opened."""
        return True

    def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """What will be there."""
        found = {name: size for name, size in self._place.list(kind) if (kind, name) not in self.gone}
        yield from {**found, **{name: len(data) for (of, name), data in self.puts.items() if of == kind}}.items()

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """From where it is."""
        if (data := self.puts.get((kind, name))) is not None:
            return data[offset:] if length is None else data[offset : offset + length]
        if kind == "data" and name in self._lent:
            donor, real = self._lent[name]
            return donor.repository.destination.load(kind, real, offset, length)
        return self._place.load(kind, name, offset, length)

    def size(self, kind: ObjectKind, name: str) -> int:
        """As it will be."""
        return dict(self.list(kind))[name]

    def age(self, kind: ObjectKind, name: str) -> float:
        """As it is there."""
        return self._place.age(kind, name)

    def sweep(self) -> int:
        """Nothing."""
        return 0

    def close(self) -> None:
        """Nothing is held open."""

    def create(self) -> None:
        """Never."""
        self._refuse()

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        """Never."""
        self._refuse()

    def save_file(self, kind: ObjectKind, name: str, path: Path) -> None:
        """Never."""
        self._refuse()

    def draft(self, kind: ObjectKind) -> AbstractContextManager[Draft]:
        """Never."""
        self._refuse()

    def remove(self, kind: ObjectKind, name: str) -> None:
        """Never."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise BackupError("this was opened for looking only")
