"""The nightly job: scan the sources, archive what is new, keep what is gone, deliver, and say what happened."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from backup_tool import __version__
from backup_tool.actions.archive import SourceFolder, catalog_files, load_marks, read_node, source_folders, tips
from backup_tool.actions.bundle import Bundler, Chats
from backup_tool.actions.deliver import Delivered, Shipping
from backup_tool.actions.gather import Gatherer
from backup_tool.actions.state import State, witnessed
from backup_tool.actions.worker import Order
from backup_tool.actions.workers import StoringWorkers
from backup_tool.catalog import (
    CatalogDamaged,
    Ledger,
    Marks,
    best_titles,
    decode_chats,
    decode_deleted,
    decode_note,
    merge,
    name_worth,
    time_text,
)
from backup_tool.config import SourceSpec
from backup_tool.destinations.base import Destination
from backup_tool.destinations.places import notices, where, writing_folder
from backup_tool.destinations.several.delivery import Delivery
from backup_tool.errors import IntegrityError, NoSpace, UsageError, gravest
from backup_tool.models import IMPORTED, Chat, Problem, Progress, Secret
from backup_tool.names import shown
from backup_tool.repository import Node, Repository, Snapshot, Writer, ancestry
from backup_tool.repository.locks import user_name
from backup_tool.sources import open_source
from backup_tool.sources.base import Unlock
from backup_tool.sources.filenames import zone_for, zone_named

PATHS = ["/voice-notes"]
_MONTHS_AT_ONCE = 24


_STAY = "its notes stay as they are"


class SourceResult(msgspec.Struct):
    """What a run came to at one source: notes that it found there first; why it could not be read, None where it could."""

    name: str
    new: int
    away: str | None = None


class RunResult(msgspec.Struct, omit_defaults=True):
    """What a run did. `notes` = records in the snapshot = `new` + `unchanged` + `gone`."""

    snapshot: str
    notes: int
    new: int
    unchanged: int
    gone: int
    missing: int
    orphan: int
    unreadable: int
    damaged: int
    deleted: int
    bytes_read: int
    bytes_added: int
    destinations: list[Delivered]
    errors: list[Problem]
    seconds: float
    not_downloaded: int = 0
    """Of the missing ones: the device never had the file."""
    omitted: int = 0
    """Of the missing ones: the chat was exported without the file."""
    sources: list[SourceResult] = []


@dataclass(slots=True)
class RunPlan:
    """What to do: sources (typed ones must exist; configured ones may be away), where to, and the settings that matter."""

    sources: Sequence[SourceSpec]
    typed: set[str]
    known_names: set[str]
    """Names of sources that exist even if they are not in this run: their places stay on record."""
    destination: Destination
    destination_name: str
    password: Secret
    state: State
    unlock: Callable[[SourceSpec], Unlock] = lambda spec: list
    """Gives the keys of a source that is locked."""
    host: str = field(default_factory=socket.gethostname)
    pack_size: int = 32 * 2**20
    verify_writes: bool = False
    alone: bool = True
    """Whether no other run of this machine may be at work: right for what scans sources."""


def run(plan: RunPlan, progress: Progress, kind: Callable[..., Job] | None = None) -> tuple[RunResult, int]:
    """Do it; the exit code too: 3 where something could not be read, 5 where audio is gone from the archive itself (all is in `errors`).

    `kind` makes the job from what `Job` takes, where it is another than to scan the plan's sources. Raises BackupError where no snapshot
    could be made.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        if plan.alone or isinstance(plan.destination, Delivery):  # there is one spool on this machine
            stack.enter_context(plan.state.run_lock(where(plan.destination), plan.destination.label))
        repository = Repository.open(plan.destination, plan.password)
        lock = stack.enter_context(repository.lock())
        plan.destination.sweep()
        shipping = None
        if isinstance(plan.destination, Delivery):
            shipping = stack.enter_context(Shipping(plan.destination, repository, lock, plan.state, progress))
            shipping.begin()
        job = (kind or Job)(plan, repository, progress, shipping)
        try:
            result = _carried_out(job)
        except IntegrityError:
            if isinstance(plan.destination, Delivery) and plan.destination.is_away:
                plan.destination.raise_unreached()  # what the archive is to be read for is not all on this machine
            raise
        codes = [3 * bool(result.errors), IntegrityError.exit_code * bool(job.lost)]
        if shipping is not None:
            result.destinations, code = shipping.finish()
            codes.append(code)
        for text in notices(plan.destination):
            progress.warn(text)
        result.seconds = round(time.monotonic() - started, 3)
        return result, gravest(codes)


def _carried_out(job: Job) -> RunResult:
    """The job's result. Where the first destination becomes full under it, it is done again with the spool, and finds what is stored."""
    try:
        return job.run()
    except NoSpace as full:
        again = job.without_primary(full)
        if again is None:
            raise
    return again.run()


class Job:
    """One new snapshot of this host: what was there, and what `gather` brings in."""

    def __init__(self, plan: RunPlan, repository: Repository, progress: Progress, shipping: Shipping | None) -> None:
        self._plan = plan
        self._shipping = shipping
        self._repository = repository
        self._progress = progress
        self._now = time_text(datetime.now(UTC).replace(microsecond=0))
        self._ledger = Ledger()
        self._chats = Chats()
        self._ledger.titles = self._chats.titles
        self._deleted: dict[str, bytes] = {}
        self._saved = Marks()
        self._previous: dict[str, SourceFolder] = {}
        self._merged: set[str] = set()
        self._absent: list[Problem] = []
        self._away: dict[str, str] = {}
        self._writers: list[Writer] = []
        self._seen: list[Snapshot] = []
        self._lost_packs: list[Problem] = []
        self.lost: list[Problem] = []
        """What is gone from the archive: packs, and the notes of which nobody has the audio any more."""

    def run(self) -> RunResult:
        parent = self._load()
        before = self._ledger.numbers()
        self._writers.append(writer := self._writer())
        with writer:
            gatherer = self.gather(writer)
            new = Counter(self._ledger.home(number) for number in self._ledger if number >= before)
            snapshot = self._write(writer, parent)
        if self._shipping is None:
            self._remember()
        return self._result(snapshot, new, gatherer)

    def without_primary(self, full: NoSpace) -> Job | None:
        """The same job anew, storing on this machine what the primary has no room for; None where that cannot be done."""
        destination = self._plan.destination
        if type(self) is not Job or not isinstance(destination, Delivery) or not destination.turn_to_spool(full):
            return None
        self._progress.warn(f"{full.message}: the run goes on with the other destinations")
        return Job(self._plan, self._repository, self._progress, self._shipping)

    def _writer(self) -> Writer:
        return self._repository.writer(pack_size=self._plan.pack_size, verify_writes=self._plan.verify_writes)

    def _remember(self) -> None:
        """What this run saw, so that `check` can tell what disappears; one that is gone already stays remembered until a person says so."""
        state, repository = self._plan.state, self._repository
        copy, seen = witnessed(repository), {one.id: one.time for one in repository.newest_snapshots()}
        state.remember_snapshots(copy, {**dict.fromkeys(repository.snapshot_ids(), ""), **state.witness(copy), **seen})

    def _load(self) -> Snapshot | None:
        """Take in the records of this host's newest snapshot, and what other snapshots of it know more."""
        everyones = self._repository.newest_snapshots()
        snapshots = [one for one in everyones if one.hostname == self._plan.host]
        self._repository.load_index()
        if adopted := self._repository.adopt_loose_packs(lambda gone: self._lost_packs.append(Problem(gone.name, gone.message))):
            self._progress.tell(f"taken over from an interrupted run: {adopted} packs")
        self._seen = snapshots
        with_catalog = [(one, folders) for one in tips(snapshots) if (folders := source_folders(self._repository, one.tree)) is not None]
        self._merged = {one.id for one, _ in with_catalog}
        for one in tips(everyones):
            self._load_marks(one)
        if not with_catalog:
            return None
        (newest, folders), *others = with_catalog
        self._start_from(folders)
        for _, more in others:
            self._merge(more)
        self._ledger.forget(self._gone_for_good())
        return newest

    def _start_from(self, folders: dict[str, SourceFolder]) -> None:
        """Take in the records of one tree as they stand."""
        self._ledger, self._chats, self._previous = Ledger(), Chats(), folders
        self._ledger.titles = self._chats.titles
        for home, folder in folders.items():
            months = folder.months()
            for start in range(0, len(months), _MONTHS_AT_ONCE):
                some = months[start : start + _MONTHS_AT_ONCE]
                nodes = [folder.catalog[f"{month}.jsonl"] for month in some]
                for month, node, data in zip(some, nodes, catalog_files(self._repository, nodes), strict=True):
                    self._ledger.load(home, month, _CatalogFile(self._repository, node, data), self._is_stored)
            self._load_chats(home, folder)

    def _load_marks(self, snapshot: Snapshot) -> None:
        """What a snapshot says of saved notes. Other hosts' word is carried on, for the day when theirs are forgotten; where it cannot be
        read, that is for them to mend."""
        try:
            load_marks(self._repository, snapshot.tree, self._saved)
        except (CatalogDamaged, IntegrityError):
            if snapshot.hostname == self._plan.host:
                raise

    def _is_stored(self, blob: str) -> bool:
        return self._repository.has("data", blob)

    def _load_chats(self, home: str, folder: SourceFolder) -> None:
        if node := folder.catalog.get("chats.jsonl"):
            self._chats.load(home, decode_chats(read_node(self._repository, node)))
        if node := folder.catalog.get("deleted.jsonl"):
            self._deleted[home] = _joined(self._deleted.get(home, b""), read_node(self._repository, node))

    def _merge(self, folders: dict[str, SourceFolder]) -> None:
        for home, folder in folders.items():
            self._load_chats(home, folder)
            for data in catalog_files(self._repository, [folder.catalog[f"{month}.jsonl"] for month in folder.months()]):
                for line in data.splitlines():
                    note = decode_note(line)
                    if note.id not in self._gone_for_good():
                        merge(self._ledger, home, note)

    def _gone_for_good(self) -> set[str]:
        return {gone for data in self._deleted.values() for gone in decode_deleted(data)}

    def gather(self, writer: Writer) -> Gatherer:
        """Take in what is to be in the snapshot."""
        names = [spec.name for spec in self._plan.sources]
        found_before, first_new = self._ledger.places(), self._ledger.numbers()
        retired = self._ledger.places() - self._plan.known_names - {*names, IMPORTED}
        # Of two phones that know a note as well, the first in the settings (or as typed) speaks; one not in this run keeps its say.
        self._ledger.ranks = dict.fromkeys(retired, len(names)) | {name: rank for rank, name in enumerate(names)}
        gatherer = self._gatherer(writer, retired)
        with self._plan.state.workspace() as workspace:
            for spec in self._plan.sources:
                spec = self._in_its_zone(spec)
                try:
                    source = open_source(spec, workspace, self._plan.unlock(spec))
                    self._progress.begin(f"scanning {spec.name}")
                    gatherer.take(source)
                    if spec.name in found_before and not gatherer.tally.scanned[source.name].files:
                        self._tell_empty(spec, source.type)
                except UsageError as absent:  # away, or its key cannot be had: no reason to leave out the others
                    if spec.name in self._plan.typed:
                        raise
                    path = shown(str(spec.path))
                    reason = absent.message.removeprefix(f"{path} ").removesuffix(f" in {path}")
                    self._tell_absent(spec, f"{reason}: {_STAY}")
                finally:
                    self._progress.end()
        gatherer.settle()
        gatherer.mark_missing()
        self._retitle(gatherer, first_new)
        return gatherer

    def _gatherer(self, writer: Writer, retired: set[str]) -> Gatherer:
        return Gatherer(
            self._ledger,
            writer,
            deleted=self._gone_for_good(),
            retired=retired,
            now=self._now,
            workers=self._workers(writer),
            progress=self._progress,
        )

    def _workers(self, writer: Writer) -> Callable[[], StoringWorkers] | None:
        folder = writing_folder(self._plan.destination)
        return None if folder is None else lambda: StoringWorkers(self._order(folder), writer)

    def _in_its_zone(self, spec: SourceSpec) -> SourceSpec:
        """Times without a zone are read in the one of the first scan, wherever this machine is now; a setting overrules it."""
        told = [zone for zone, _ in self._ledger.zones.get(spec.name, Counter()).most_common()]
        zone = zone_for(spec.timezone, [self._plan.state.zone(spec.name), *told])
        if zone is None:
            return spec
        self._plan.state.remember_zone(spec.name, zone)
        if spec.timezone is None and zone != (own := zone_named(None).name):
            self._progress.tell(f"{spec.name}: times without a zone are read in {zone} as before, not in this machine's {own}")
        return msgspec.structs.replace(spec, timezone=zone)

    def _tell_empty(self, spec: SourceSpec, kind: str) -> None:
        """There were notes once, and now there is no file. A bare folder is what an unmounted disk leaves; a messenger's may be emptied."""
        reason = f"nothing is there, as where a disk is not mounted: {_STAY}"
        if kind == "folder":
            self._tell_absent(spec, reason)
        else:
            self._progress.warn(f"{spec.name}: {reason}")

    def _tell_absent(self, spec: SourceSpec, reason: str) -> None:
        self._absent.append(Problem(str(spec.path), reason))
        self._away[spec.name] = reason

    def _name_lost(self, doubtful: list[tuple[str, list[str]]]) -> None:
        """Where audio is gone: name the notes that no source could give again. The others were stored anew just now."""
        gone = [path for path, blobs in doubtful if not all(map(self._is_stored, blobs))]
        self.lost += [Problem(path, "its audio is gone from the archive, and no source has it") for path in gone]
        if self.lost:
            self.lost[:0] = self._lost_packs
        elif self._lost_packs:
            self._progress.warn(
                f"{self._lost_packs[0].reason}; every note in it is stored elsewhere in the archive ('backup repair' tidies up)"
            )

    def _doubtful(self) -> list[tuple[str, list[str]]]:
        """Path and blobs of the notes whose audio is not all there. Where no pack is gone, it is known from when they were loaded."""
        numbers = self._ledger if self._lost_packs else [number for number in self._ledger.lacking if number in self._ledger]
        notes = map(self._ledger.note, numbers)
        return [(note.original_path or "", note.blobs or []) for note in notes if not all(map(self._is_stored, note.blobs or ()))]

    def _order(self, folder: Path) -> Order:
        packing = self._repository.packing_order(pack_size=self._plan.pack_size, verify_writes=self._plan.verify_writes)
        return Order(str(folder), packing, self._gone_for_good())

    def _retitle(self, gatherer: Gatherer, first_new: int) -> None:
        """A chat that has a new title has it in all its records, also in those of notes that are gone. One that has a name keeps it in new
        records, whose source may know a number only."""
        learned = [
            Chat(chat_id=chat_id, titles=[title])
            for chat_id, title in self._ledger.learned.items()
            if name_worth(title) > name_worth(self._chats.title(chat_id))
        ]
        best = best_titles([*gatherer.tally.chats.values(), learned])
        titles, fresh = self._chats.rename(best), {chat.chat_id for chat in learned}
        titles |= {chat.chat_id: chat.titles[-1] for chat in best if chat.chat_id in fresh}
        for number in list(self._ledger) if titles else range(first_new, self._ledger.numbers()):
            if number not in self._ledger:
                continue
            note = self._ledger.note(number)
            known = titles.get(note.chat_id or "") or self._chats.title(note.chat_id or "")
            if known and note.chat != known and (note.chat_id in titles or name_worth(known) > name_worth(note.chat)):
                note.chat = known
                self._ledger.put(number, note)

    def _meet(self) -> None:
        for home, chat_id in sorted(self._ledger.met):
            self._chats.meet(home, chat_id)

    def _write(self, writer: Writer, parent: Snapshot | None) -> str:
        """Catalogs and trees, then packs, then the index, then the snapshot: it exists only when all it names is stored (promise 2)."""
        self._meet()
        bundler = Bundler(self._repository, writer, self._ledger, self._chats, self._previous)
        doubtful = self._doubtful()
        tree = bundler.write(self._deleted, self._saved.lines())
        writer.finish()
        self._name_lost(doubtful)
        while self._take_over_others(tree):
            self._writers.append(more := self._writer())
            with more:
                bundler = Bundler(self._repository, more, self._ledger, self._chats, self._previous)
                tree = bundler.write(self._deleted, self._saved.lines())
        if self._shipping is not None:
            self._shipping.settle()
        notes, _, size = self._ledger.totals()
        return self._repository.save_snapshot(
            Snapshot(
                time=time_text(datetime.now(UTC)),
                parent=parent.id if parent else None,
                ancestors=ancestry(parent, self._seen, self._repository.snapshot_ids()) if parent else None,
                tree=tree,
                paths=PATHS,
                hostname=self._plan.host,
                username=user_name(),
                program_version=f"backup {__version__}",
                summary={"total_files_processed": notes, "total_bytes_processed": size, "data_added_packed": writer.stats.bytes},
            )
        )

    def _take_over_others(self, tree: str) -> bool:
        """Snapshots of this host that another run wrote meanwhile: their records join ours, so that neither run hides the other's."""
        new = [
            one
            for one in tips([s for s in self._repository.newest_snapshots() if s.hostname == self._plan.host])
            if one.id not in self._merged
        ]
        if not new:
            return False
        self._repository.load_index()
        self._start_from(source_folders(self._repository, tree) or {})
        for one in new:
            self._merged.add(one.id)
            self._load_marks(one)
            self._merge(source_folders(self._repository, one.tree) or {})
        self._ledger.forget(self._gone_for_good())
        return True

    def _result(self, snapshot: str, found: Counter[str], gatherer: Gatherer) -> RunResult:
        notes, gone, _ = self._ledger.totals()
        new = found.total()
        tally = gatherer.tally
        added = sum(writer.stats.bytes for writer in self._writers)
        objects = sum(writer.stats.objects for writer in self._writers) + 1
        delivery = Delivered(self._plan.destination_name, "delivered", objects, added, None)
        return RunResult(
            snapshot=snapshot, notes=notes, new=new, unchanged=notes - new - gone, gone=gone, missing=tally.missing,
            not_downloaded=tally.not_downloaded, omitted=tally.omitted, orphan=tally.orphans,
            unreadable=len(tally.problems), damaged=self._ledger.damaged(), deleted=tally.deleted, bytes_read=tally.bytes_read,
            bytes_added=added, destinations=[delivery], errors=self._absent + tally.problems + self.lost, seconds=0.0,
            sources=[SourceResult(spec.name, found[spec.name], self._away.get(spec.name)) for spec in self._plan.sources],
        )  # fmt: skip


class _CatalogFile:
    """A catalog file that was just read, and is read again when it is asked for again: so it need not stay in memory."""

    def __init__(self, repository: Repository, node: Node, data: bytes) -> None:
        self._repository = repository
        self._node = node
        self._data: bytes | None = data

    def __call__(self) -> bytes:
        data, self._data = self._data, None
        return read_node(self._repository, self._node) if data is None else data


def _joined(one: bytes, other: bytes) -> bytes:
    return b"".join(line + b"\n" for line in dict.fromkeys(one.splitlines() + other.splitlines()))
