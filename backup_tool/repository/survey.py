"""What a repository holds by its own bytes: every pack read, opened and held against its name. No index is believed without looking.

survey = survey_packs(repo, named, progress)
survey.sound[pack]     # the blobs of a pack that is right to the last byte
survey.bad[pack]       # what is wrong with another one, and which of its blobs can be read all the same
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from backup_tool.destinations.base import Checksums
from backup_tool.errors import BadRange, DamagedObject, ObjectMissing
from backup_tool.models import Progress
from backup_tool.repository.check_packs import faults_in
from backup_tool.repository.crypto import OVERHEAD
from backup_tool.repository.index import Entry
from backup_tool.repository.reading import MAX_BLOB
from backup_tool.repository.repository import Repository

_READERS = 2
Named = Mapping[bytes, Sequence[Entry]]
"""Packs and their blobs, as index files describe them."""


@dataclass(slots=True)
class BadPack:
    """A pack that is not what its name says. `size` is None where it is gone; `readable` are the blobs of it that can be had all the
    same, `blobs` how many it has as far as anybody knows. With `right` its bytes are those of its name: no copy of it is any better."""

    reason: str
    size: int | None
    blobs: int = 0
    readable: list[Entry] = field(default_factory=list)
    right: bool = False


@dataclass(slots=True)
class Survey:
    """Every pack that is stored, or that an index names, by its 32-byte id."""

    sound: dict[bytes, list[Entry]] = field(default_factory=dict)
    bad: dict[bytes, BadPack] = field(default_factory=dict)
    sizes: dict[bytes, int] = field(default_factory=dict)


def survey_packs(repo: Repository, named: Named, elsewhere: Callable[[bytes], Sequence[Entry]], progress: Progress) -> Survey:
    """Read every pack. `named` are those that ought to be there; `elsewhere` says what a pack holds whose own header cannot be read, and
    that is not among them. A place that tells checksums is believed as to its bytes, and only the packs' headers are read there."""
    survey = Survey(sizes={bytes.fromhex(name): size for name, size in repo.destination.list("data")})
    for pack in named.keys() - survey.sizes.keys():
        try:  # a listing may lag behind
            survey.sizes[pack] = repo.destination.size("data", pack.hex())
        except ObjectMissing:
            survey.bad[pack] = BadPack("it is missing", None, len(named[pack]))
    proven = _proven(repo)
    progress.begin("reading packs", sum(size for pack, size in survey.sizes.items() if pack not in proven), "bytes")
    pool = ThreadPoolExecutor(_READERS, "surveying")

    def look(pack: bytes) -> tuple[bytes, list[Entry] | BadPack]:
        found = _look(repo, pack, survey.sizes[pack], pack in proven, lambda: named.get(pack) or elsewhere(pack))
        progress.step(0 if pack in proven else survey.sizes[pack])
        return pack, found

    try:
        for pack, found in pool.map(look, sorted(survey.sizes)):
            if isinstance(found, BadPack):
                survey.bad[pack] = found
            else:
                survey.sound[pack] = found
    finally:
        pool.shutdown(cancel_futures=True)
        progress.end()
    return survey


def _proven(repo: Repository) -> set[bytes]:
    if not isinstance(repo.destination, Checksums):
        return set()
    return {bytes.fromhex(name) for name, _, sha256 in repo.destination.checksums("data") if sha256 == name}


def _look(repo: Repository, pack: bytes, size: int, proven: bool, described: Callable[[], Sequence[Entry]]) -> list[Entry] | BadPack:
    faults: list[DamagedObject] = []
    entries: Sequence[Entry] = []
    for _ in range(2):  # bytes may be hurt on their way, too: only what is wrong twice is damage
        try:
            entries = repo.pack_header(pack.hex(), size)
            faults = [] if proven else [fault for fault, _ in faults_in(repo, pack, size, list(entries))]
            if not faults:
                return list(entries)
        except DamagedObject as error:
            entries, faults = [], [error]
        except ObjectMissing:
            return BadPack("it is missing", None, len(described()))
    entries = entries or described()
    right = proven or not any(fault.name == pack.hex() for fault in faults)
    return BadPack(faults[-1].reason, size, len(entries), list(_readable(repo, pack, entries)), right)


def _readable(repo: Repository, pack: bytes, entries: Sequence[Entry]) -> Iterator[Entry]:
    """The blobs of a damaged pack that open and are what their ids say."""
    for entry in entries:
        for _ in range(2):
            try:
                if entry.length - OVERHEAD <= MAX_BLOB[entry.kind]:
                    repo.open_blob(entry, repo.destination.load("data", pack.hex(), entry.offset, entry.length))
                    yield entry
                break
            except (DamagedObject, BadRange, ObjectMissing):
                continue
