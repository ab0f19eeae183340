"""Look what is wrong with a repository at one place, and what can be done about it: nothing is written here.

What the repository will be is looked at as if it were so already: its sound packs, the packs and blobs that other places lend, and what is
readable of damaged packs, under an index made of their own headers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from backup_tool.actions.archive import TOP, Archive, ours
from backup_tool.actions.repairing.donors import AsRepaired, Donor
from backup_tool.actions.repairing.rewrite import way_is_lost
from backup_tool.destinations.base import Mending, ObjectKind
from backup_tool.errors import BackupError, BadRange, DamagedObject, IntegrityError, ObjectMissing
from backup_tool.models import SAVED_FILE, Progress
from backup_tool.repository import Repository, Snapshot
from backup_tool.repository.index import MAX_INDEX, BlobKind, DecodedIndex, Entry, PackEntries
from backup_tool.repository.keys import is_readable, load_key
from backup_tool.repository.objects import WORD, is_id, load_whole, name_of
from backup_tool.repository.packs import pack_size
from backup_tool.repository.reachable import Reached, walk
from backup_tool.repository.rescue import Put
from backup_tool.repository.snapshots import MAX_SNAPSHOT, short_id
from backup_tool.repository.survey import BadPack, Survey, survey_packs

_LIMITS: dict[ObjectKind, int] = {"keys": 2**20, "snapshots": MAX_SNAPSHOT, "index": MAX_INDEX}


class Step(msgspec.Struct, frozen=True):
    """One thing that is wrong, and what is done about it; `remedy` is None where nothing can be. `kind` and `name` are the object's."""

    kind: str
    name: str
    problem: str
    remedy: str | None


class LostNote(msgspec.Struct, frozen=True):
    """A note of which the audio is not in the archive any more. Fields as in its record."""

    id: str | None
    chat: str | None
    sent_at: str | None
    source: str | None
    path: str | None


@dataclass(slots=True)
class Plan:
    """All that is to be done, in the order of its fields."""

    merged: Sequence[str] = ()
    puts: list[Put] = field(default_factory=list)
    useless: list[tuple[ObjectKind, str]] = field(default_factory=list)
    """Keys, snapshots and index files of which nothing can be read."""
    copies: dict[bytes, Donor] = field(default_factory=dict)
    """Packs that another place has whole."""
    store: list[tuple[BlobKind, str]] = field(default_factory=list)
    """Blobs to be stored in new packs: those of damaged packs, and those that only another place has."""
    drop: dict[bytes, BadPack] = field(default_factory=dict)
    """Damaged packs, each of which holds nothing readable that is not stored elsewhere by then."""
    torn: list[Snapshot] = field(default_factory=list)
    """Snapshots of this program of which folders or catalogs are lost."""
    succeeded: list[Snapshot] = field(default_factory=list)
    """Such of which not even catalogs can be found, and which have successors."""
    is_snapshot_lost: bool = False
    """Whether snapshots, or folders or catalogs of some, are lost for good: then there may be notes to which nothing leads any more."""
    audio_lost: int = 0
    """Blobs of audio that were in damaged packs, and that nobody has."""
    steps: list[Step] = field(default_factory=list)
    lost: list[LostNote] = field(default_factory=list)


class Planner:
    """Makes the plan. `view` is the repository as it will be, `final` the packs that it will have: those that are sound or come whole."""

    def __init__(
        self,
        repository: Repository,
        puts: Iterable[Put],
        donors: Sequence[Donor],
        kept: Path,
        away: Sequence[str],
        seen: set[str],
        progress: Progress,
    ) -> None:
        """`kept` is the folder with what earlier repairs removed, `away` are places that could not be asked, `seen` the snapshots that this
        place had at the last look."""
        self._kept = kept
        self._repository, self._donors, self._away, self._seen, self._progress = repository, donors, away, seen, progress
        self._place = repository.destination
        self.plan = Plan()
        self._overlay = AsRepaired(self._place)
        self._files = repository.fixed_index(self._overlay)
        self.view = repository.with_index(self._overlay, self._files)
        self.final: dict[bytes, Sequence[Entry]] = {}
        self.bad: Collection[bytes] = ()
        self.times: dict[bytes, int] = {}
        self._vanished = False
        for put in puts:
            self._put(put)

    def make(self) -> Plan:
        """The plan. Raises IntegrityError where so much is gone that a disk may be missing rather than files."""
        if isinstance(self._place, Mending):
            self._progress.begin("looking for duplicates")
            self.plan.merged = self._place.mend(dry_run=True)
            self._progress.end()
        self._look_at_keys()
        snapshots = self._read_snapshots()
        index = self._read_index()
        survey = self._survey(index)
        self.bad = survey.bad.keys()
        self._find_copies(survey)
        for pack, bad in survey.bad.items():
            if pack not in self.plan.copies:
                self._save_readable(pack, bad, index.entries_of(pack))
        self._progress.begin("following snapshots")
        reached = walk(self.view, snapshots, self._seek, _is_vital)
        self._progress.end()
        self._plan_store()
        self._tell_packs(survey, index, reached)
        self._plan_index(index)
        self._tell_torn(snapshots, reached)
        unreadable = any(kind == "snapshots" for kind, _ in self.plan.useless)
        self.plan.is_snapshot_lost = not self.unasked() and bool(self.plan.torn or self.plan.succeeded or unreadable or self._vanished)
        self.plan.lost = list(lost_notes(self.view)) if reached.lost else []
        return self.plan

    def pack_size(self, pack: bytes) -> int:
        """Bytes of a pack that will be there whole."""
        return pack_size(self.final[pack])

    # Small objects

    def _put(self, put: Put) -> None:
        self.plan.puts.append(put)
        self._overlay.puts[put.kind, put.name] = put.data
        self._overlay.gone.discard((put.kind, put.name))
        if (put.kind, put.name) in self.plan.useless:
            self.plan.useless.remove((put.kind, put.name))
            self.plan.steps = [step for step in self.plan.steps if (step.kind, step.name) != (WORD[put.kind], put.name)]
        self._step(put.kind, put.name, put.problem, put.remedy)

    def _step(self, kind: ObjectKind, name: str, problem: str, remedy: str | None) -> None:
        self.plan.steps.append(Step(WORD[kind], name, problem, remedy))

    def _from_donor(self, kind: ObjectKind, name: str, problem: str) -> bytes | None:
        """Put a sound copy in its place, if there is one."""
        with suppress(OSError):
            if name_of(kept := (self._kept / f"{kind}-{name}").read_bytes()) == name:
                self._put(Put(kind, name, kept, problem, "copied from what this machine has kept of it"))
                return kept
        for donor in self._donors:
            if (data := donor.whole(kind, name, _LIMITS[kind])) is not None:
                self._put(Put(kind, name, data, problem, f"copied from {donor.name}"))
                return data
        return None

    def _misnamed(self, kind: ObjectKind, name: str, is_readable: Callable[[bytes], object]) -> bytes | None:
        """Bytes that are sound, and stand under a name that is not theirs: they get it. So two that were exchanged are both saved."""
        try:
            if not 0 < self._place.size(kind, name) <= _LIMITS[kind] or not is_readable(data := self._place.load(kind, name)):
                return None
        except (DamagedObject, ObjectMissing, BadRange):
            return None
        own = name_of(data)
        if (kind, own) not in self._overlay.puts and not self._is_sound(kind, own):
            self._put(Put(kind, own, data, f"its bytes are under the name {name[:16]}", "they get their own name"))
        return data

    def _is_sound(self, kind: ObjectKind, name: str) -> bool:
        with suppress(BackupError):
            load_whole(self._place, kind, name, self._place.size(kind, name), _LIMITS[kind])
            return True
        return False

    def _remove(self, kind: ObjectKind, name: str, problem: str, *, saved: bool) -> None:
        """Nothing of it can be read, or what can is `saved`. Where another place is away, that may have it whole."""
        if (kind, name) in self._overlay.puts:  # its own bytes were found under another name
            return
        if not saved and (missing := self.unasked()):
            self._step(kind, name, problem + _may_be_whole_at(missing), None)
            return
        self.plan.useless.append((kind, name))
        self._overlay.gone.add((kind, name))
        self._step(kind, name, problem, "removed: its bytes are kept under their own name" if saved else "removed: no sound copy is known")

    def unasked(self) -> list[str]:
        """The places that may have a sound copy, and could not be asked for it."""
        return [*self._away, *(donor.name for donor in self._donors if donor.error is not None)]

    def _look_at_keys(self) -> None:
        for name, size in sorted(self._place.list("keys")):
            try:
                load_key(self._place, name, size)
            except ObjectMissing:
                continue
            except DamagedObject as damaged:
                if self._from_donor("keys", name, damaged.reason) is None:
                    # With another password than ours it may open all the same.
                    self._remove("keys", name, damaged.reason, saved=self._misnamed("keys", name, is_readable) is not None)

    def _read_snapshots(self) -> list[Snapshot]:
        listed = {name for name, _ in self._place.list("snapshots")}
        found: dict[str, Snapshot] = {}
        for name in sorted(listed):
            try:
                found[name] = self._repository.load_snapshot(name)
            except ObjectMissing:
                continue
            except DamagedObject as damaged:
                self._mend_snapshot(name, damaged.reason, found)
        for name in sorted(self._seen - listed - found.keys()):
            problem = "it has disappeared: a run of this machine saw it, and did not forget it"
            if (data := self._from_donor("snapshots", name, problem)) is not None:
                found[name] = self.view.decode_snapshot(name, data)
            else:
                self._vanished = True
                self._step("snapshots", name, problem, None)
        return list(found.values())

    def _mend_snapshot(self, name: str, problem: str, found: dict[str, Snapshot]) -> None:
        decode = self._repository.decode_snapshot
        if (data := self._from_donor("snapshots", name, problem)) is not None:
            found[name] = decode(name, data)
            return
        if (data := self._misnamed("snapshots", name, lambda data: decode(name_of(data), data))) is not None:
            found[name_of(data)] = decode(name_of(data), data)
        self._remove("snapshots", name, problem, saved=data is not None)

    def _read_index(self) -> _Named:
        named = _Named()
        for name, size in sorted(self._place.list("index")):
            try:
                named.files[name] = self._repository.read_index(name, size)
            except ObjectMissing:
                continue
            except DamagedObject as damaged:
                if (data := self._from_donor("index", name, damaged.reason)) is not None:
                    named.files[name] = self.view.read_index(name, len(data))
                else:
                    self._step("index", name, damaged.reason, "made anew from the packs themselves, then removed")
        for packs in named.files.values():
            for pack in packs.packs:
                self.times[pack.pack] = max(pack.time, self.times.get(pack.pack, 0))
        return named

    # Packs

    def _survey(self, index: _Named) -> Survey:
        survey = survey_packs(self._repository, index.wanted(), lambda pack: self._described(pack, index), self._progress)
        for pack, entries in survey.sound.items():
            self._take(pack, entries)
        return survey

    def _described(self, pack: bytes, index: _Named) -> Sequence[Entry]:
        return index.entries_of(pack) or next((found for donor in self._donors if (found := donor.described(pack))), [])

    def _take(self, pack: bytes, entries: Sequence[Entry]) -> None:
        self.final[pack] = entries
        self._files.add(PackEntries(pack, entries, time=self.times.get(pack, 0)))

    def _find_copies(self, survey: Survey) -> None:
        for pack, bad in sorted(survey.bad.items()):
            for donor in self._donors:
                if not bad.right and donor.has_pack(pack.hex()) and (entries := donor.entries(pack)):
                    self.plan.copies[pack] = donor
                    self._overlay.lend(donor, pack, whole=True)
                    self._take(pack, entries)
                    break
        if survey.bad and not self.final and not survey.sizes:
            what = f"not one of {len(survey.bad)} packs is at {self._place.label}: nothing is changed"
            raise IntegrityError(what, "see that all of the archive is there (a disk, a folder 'data'); a copy of it helps: --from PLACE")

    def _save_readable(self, pack: bytes, bad: BadPack, named: Sequence[Entry]) -> None:
        """What can be read of a damaged pack, and what other places have of it."""
        self._files.add(PackEntries(pack, bad.readable))
        for entry in {(entry.kind, entry.id) for entry in named}:
            self._seek(entry[0], entry[1].hex())

    def _seek(self, kind: BlobKind, id: str) -> bool:
        """Whether a blob can be had, here or from a donor, whose copy is used from then on."""
        if not is_id(id):
            return False
        if self.view.has(kind, id):
            return True
        for donor in self._donors:
            if (found := donor.blob(kind, id)) is not None:
                pack, entry = found
                self._files.add(PackEntries(self._overlay.lend(donor, pack), [entry]))
                return True
        return False

    def _plan_store(self) -> None:
        stays: dict[tuple[BlobKind, bytes], bool] = {}
        for kind, id, place in self.view.index.blobs():
            stays[kind, id] = place.pack in self.final or stays.get((kind, id), False)
        self.plan.store = [(kind, id.hex()) for (kind, id), there in stays.items() if not there]

    def _tell_packs(self, survey: Survey, index: _Named, reached: Reached) -> None:
        for pack, bad in sorted(survey.bad.items()):
            if donor := self.plan.copies.get(pack):
                self._step("data", pack.hex(), bad.reason, f"copied from {donor.name}")
                continue
            named = (*index.entries_of(pack), *bad.readable)
            entries = {(entry.kind, entry.id) for entry in named}
            audio = {entry.id for entry in named if entry.kind == "data" and not entry.raw_length}
            self.plan.audio_lost += sum(not self.view.index.has("data", id) for id in audio)
            had = sum(self.view.index.has(kind, id) for kind, id in entries)
            counted = f"{had} of its {len(entries)} blobs can be had"
            if bad.size is None:
                self._step("data", pack.hex(), bad.reason, f"{counted}; the index names it no more")
            elif not entries and reached.lost:  # what is looked for may be in there
                self._step("data", pack.hex(), f"{bad.reason}; no index says what is in it", None)
            else:
                self.plan.drop[pack] = bad
                self._step("data", pack.hex(), bad.reason, f"{counted}: {'stored in other packs; ' if had else ''}it is removed")
        for pack in sorted(survey.sound.keys() - index.wanted().keys()):
            self._step("data", pack.hex(), "no index names it", "its blobs are named in a new index file")

    def _plan_index(self, index: _Named) -> None:
        """Of which index files nothing needs to be written anew: those that say exactly what is so, and no two of them of one pack."""
        kept = index.right_files(self.final)
        for name in sorted(index.files.keys() - kept):
            wrong = index.is_wrong(name, self.final)
            problem = "it names what is not there, or says it wrongly" if wrong else "other index files say the same"
            self._step("index", name, problem, "made anew, then removed" if wrong else "removed")

    # Snapshots and notes

    def _tell_torn(self, snapshots: Iterable[Snapshot], reached: Reached) -> None:
        snapshots = list(snapshots)
        above = {(one.hostname, id) for one in snapshots for id in (short_id(one.parent or ""), *(one.ancestors or ()))}
        for one in snapshots:
            if one.id not in reached.torn:
                continue
            problem, remedy = f"folders or catalogs of it are lost ({one.time[:10]}, {one.hostname or 'no host'})", None
            if not ours(one):
                problem += "; it is another program's"
            elif missing := self.unasked():
                problem += _may_be_whole_at(missing)
            elif (one.hostname, short_id(one.id)) in above and way_is_lost(self.view, one):
                self.plan.succeeded.append(one)
                remedy = "made again with a later one of this host that has all it had, else removed"
            else:
                self.plan.torn.append(one)
                remedy = "written anew from all that can be read"
            self._step("snapshots", one.id, problem, remedy)


def lost_notes(repository: Repository) -> Iterator[LostNote]:
    """The notes of the archive view of which not all audio is stored; none where no snapshot can be read, since then they have no names."""
    try:
        for item in Archive(repository).entries():
            if not all(repository.has("data", blob) for blob in item.blobs or ()):
                yield LostNote(item.id, item.chat, item.sent_at, item.source, item.original_path)
    except BackupError:
        return


def right_index_files(repository: Repository, final: Mapping[bytes, Sequence[Entry]]) -> tuple[set[str], set[bytes]]:
    """Of the index files that are stored, those that are right, and the packs that they name; see `_Named.right_files`."""
    named = _Named()
    for name, size in repository.destination.list("index"):
        with suppress(DamagedObject, ObjectMissing):
            named.files[name] = repository.read_index(name, size)
    kept = named.right_files(final)
    return kept, {pack.pack for name in kept for pack in named.files[name].packs}


def _is_vital(path: str) -> bool:
    """Whether a file is a part of the archive itself: a catalog, or the list of saved notes."""
    parts = path.split("/")[1:]
    return parts[:1] == [TOP] and (parts[2:3] == ["catalog"] or parts[1:] == [SAVED_FILE])


def _may_be_whole_at(missing: Sequence[str]) -> str:
    return f"; {', '.join(missing)} could not be asked, and may have it whole"


@dataclass(slots=True)
class _Named:
    """What index files say, those of them that can be read."""

    files: dict[str, DecodedIndex] = field(default_factory=dict)

    def _superseded(self) -> set[str]:
        return {name for file in self.files.values() for name in file.supersedes}

    def wanted(self) -> dict[bytes, Sequence[Entry]]:
        """The packs that ought to be there: not those that were pruned, or are to be, as far as index files tell."""
        old = self._superseded()
        current = (pack for name, file in self.files.items() if name not in old for pack in file.packs)
        return {pack.pack: pack.entries for pack in current if not pack.doomed}

    def entries_of(self, pack: bytes) -> Sequence[Entry]:
        """The blobs of a pack, as the first file says that knows it."""
        return next((one.entries for file in self.files.values() for one in file.packs if one.pack == pack), [])

    def is_wrong(self, name: str, final: Mapping[bytes, Sequence[Entry]]) -> bool:
        """Whether a file says anything that is not so."""
        return any(one.doomed or list(final.get(one.pack, ())) != list(one.entries) for one in self.files[name].packs)

    def right_files(self, final: Mapping[bytes, Sequence[Entry]]) -> set[str]:
        """Files that say nothing that is not so, and no two of them anything of the same pack; the largest first."""
        kept: set[str] = set()
        covered: set[bytes] = set()
        hidden: set[str] = set()
        by_size: Callable[[str], tuple[int, str]] = lambda name: (-sum(len(one.entries) for one in self.files[name].packs), name)  # noqa: E731
        for name in sorted(self.files, key=by_size):
            packs = [one.pack for one in self.files[name].packs]
            others = self.files[name].supersedes
            alone = covered.isdisjoint(packs) and len(set(packs)) == len(packs) and name not in hidden and kept.isdisjoint(others)
            if packs and alone and not self.is_wrong(name, final):
                kept.add(name)
                covered.update(packs)
                hidden.update(others)
        return kept
