"""Mend a repository at one place: what is damaged or missing comes from other places that hold it, or from what can still be read of it.

Nothing is removed before all that can be read of it is stored elsewhere and indexed, and each step can be done again: a repair that was
stopped anywhere is completed by the next one.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from backup_tool.actions.check import check
from backup_tool.actions.repairing.donors import Donor
from backup_tool.actions.repairing.plan import LostNote, Plan, Planner, Step, lost_notes, right_index_files
from backup_tool.actions.repairing.rewrite import Rewriter, way_is_lost
from backup_tool.actions.repairing.unnamed import Unnamed
from backup_tool.actions.state import State, witnessed
from backup_tool.destinations.base import Destination, Mending, ObjectKind, Replacing
from backup_tool.destinations.files import make_folder, replace_file, told
from backup_tool.destinations.places import where
from backup_tool.destinations.several.reading import Place
from backup_tool.errors import BackupError, BadRange, Locked, NoRepository, ObjectMissing, UsageError
from backup_tool.models import Progress, Secret
from backup_tool.repository import Finding, Repository, Snapshot
from backup_tool.repository.index import BlobKind, PackEntries
from backup_tool.repository.locks import HeldLock
from backup_tool.repository.objects import name_of
from backup_tool.repository.rescue import Put, open_damaged
from backup_tool.repository.snapshots import oldest_first

_MOST_KEPT = 2**27


class RepairReport(msgspec.Struct):
    """What was found and done, or with `dry_run` would be. `sound` is False where anything is still wrong: `lost` are the notes of which
    the audio is gone, `left` is what `check` still finds. `kept` is the folder of this machine with what was removed and is unreadable."""

    destination: str
    dry_run: bool
    sound: bool
    duplicates: Sequence[str]
    steps: list[Step]
    lost: list[LostNote]
    left: list[Finding]
    kept: str | None
    verdict: str


def repair(
    place: Place,
    others: Sequence[Place],
    password: Secret,
    state: State,
    progress: Progress,
    *,
    given: bool = False,
    dry_run: bool = False,
    planned: Callable[[Sequence[Step]], None] = lambda steps: None,
) -> RepairReport:
    """Do it at one place; `others` are those that may hold sound copies (with `given`, the first of them was named for that and has to be
    of the same repository). `planned` hears everything that will be done before anything is.

    Raises what opening the repository raises, Locked, and IntegrityError where so much is gone that a disk may be missing.
    """
    with ExitStack() as stack:
        stack.enter_context(state.run_lock(where(place.destination), place.destination.label))
        found, away = _reached(others, must=given)
        copies = {other.name: other.destination for other in found}
        repository, puts = open_damaged(place.destination, password, copies, may_renew=not away)
        if not dry_run:
            repository.refuse_old()
        lock = stack.enter_context(repository.lock(exclusive=not dry_run, optional=dry_run))
        donors, strangers = _donors(repository, puts, found, progress, must=given)
        for donor in donors:
            _hold(stack, donor)
        seen = state.held(witnessed(repository))
        planner = Planner(repository, puts, donors, kept_in(state, repository), [*away, *strangers], seen, progress)
        plan = planner.make()
        for donor in donors:
            if donor.error is not None:
                progress.warn(f"{donor.name} was left out: {donor.error.message}")
        planned(plan.steps)
        if (missing := planner.unasked()) and (plan.lost or any(step.remedy is None for step in plan.steps)):
            progress.warn(f"{', '.join(missing)} could not be asked, and may have what is lost here: connect it, and repair again")
        if dry_run:
            return _report(place.name, plan, [], None, dry_run=True)
        kept = _Repair(repository, lock, planner, state, progress, planned).carry_out()
        plan.lost = list(lost_notes(repository)) if plan.lost or plan.is_snapshot_lost else []
        left = [one for one in check(repository, state, progress, read_data=False).findings if one.severity == "error"]
        return _report(place.name, plan, left, kept, dry_run=False)


def _reached(others: Sequence[Place], *, must: bool) -> tuple[list[Place], list[str]]:
    """The places that have a repository, and the names of those that could not be asked. Raises the error of the first one if it `must`."""
    found, away = [], []
    for number, other in enumerate(others):
        try:
            if other.destination.exists() or _has_keys(other.destination):
                found.append(other)
            elif must and not number:
                raise UsageError(f"there is no repository at {other.name}", "name the place that has a copy: --from PLACE")
            else:
                away.append(other.name)
        except BackupError:
            if must and not number:
                raise
            away.append(other.name)
    return found, away


def _has_keys(place: Destination) -> bool:
    """Whether keys are there, and only the config is lost."""
    try:
        return any(True for _ in place.list("keys"))
    except NoRepository:
        return False


def _donors(
    repository: Repository, puts: Iterable[Put], found: Sequence[Place], progress: Progress, *, must: bool
) -> tuple[list[Donor], list[str]]:
    """Those that hold the same repository, and the names of those of which that could not be told."""
    donors, doubtful = [], []
    own = repository.destination
    config = next((put.data for put in puts if put.kind == "config"), None) or own.load("config", "config")
    keys = {name for name, _ in own.list("keys")}
    for number, other in enumerate(found):
        try:  # where a config is damaged or gone there, the keys still tell
            there = other.destination
            same = not keys.isdisjoint(name for name, _ in there.list("keys")) or there.load("config", "config") == config
        except BackupError:
            doubtful.append(other.name)
            continue
        if same:
            donors.append(Donor(other.name, repository.at(there)))
        elif must and not number:
            raise UsageError(f"{other.name} holds another repository", "--from takes a copy of the same one")
        else:
            progress.warn(f"{other.name} holds another repository: nothing is taken from it")
    return donors, doubtful


def _hold(stack: ExitStack, donor: Donor) -> None:
    """Nothing is removed there while it is read."""
    try:
        stack.enter_context(donor.repository.lock(optional=True))
    except Locked:
        raise
    except BackupError as error:
        donor.error = error


def _report(name: str, plan: Plan, left: list[Finding], kept: str | None, *, dry_run: bool) -> RepairReport:
    unmended = [step for step in plan.steps if step.remedy is None]
    nameless = plan.audio_lost if plan.is_snapshot_lost and not plan.lost else 0  # else it was audio that no snapshot needed
    sound = not nameless and (not plan.lost and not unmended if dry_run else not left)
    count = len(plan.steps) + len(plan.merged) - len(unmended)
    done = "nothing to mend" if not count else f"{count} thing{'' if count == 1 else 's'} {'would be ' if dry_run else ''}mended"
    if plan.lost:
        verdict = f"{done}; the audio of {len(plan.lost)} note{'' if len(plan.lost) == 1 else 's'} is lost"
    elif nameless:
        verdict = f"{done}; audio is lost ({nameless} piece{'' if nameless == 1 else 's'}), and with it all that was known of whose it was"
    elif sound:
        verdict = done if dry_run else f"{done}: the archive is sound"
    else:
        verdict = f"{done}; not all is sound"
    return RepairReport(name, dry_run, sound, plan.merged, plan.steps, plan.lost, left, kept, verdict)


def kept_in(state: State, repository: Repository) -> Path:
    """The folder of this machine for what repairs of a repository removed or overwrote: KIND-SHA256. A later repair looks there, too."""
    return state.folder / "removed" / repository.id[:16]


class _Repair:
    """Carries a plan out, in an order in which nothing is lost wherever it stops."""

    def __init__(
        self,
        repository: Repository,
        lock: HeldLock,
        planner: Planner,
        state: State,
        progress: Progress,
        planned: Callable[[Sequence[Step]], None],
    ) -> None:
        self._planned = planned
        self._repository, self._lock, self._planner, self._plan = repository, lock, planner, planner.plan
        self._state, self._progress = state, progress
        self._place = repository.destination
        self._kept = kept_in(state, repository)
        self._moved = False

    def carry_out(self) -> str | None:
        """Do it all; the folder with what was kept of what was removed, None where that is nothing."""
        plan = self._plan
        if plan.merged and isinstance(self._place, Mending):
            self._lock.refuse_if_lost()
            plan.merged = self._place.mend()
        with self._state.workspace() as workspace:
            for put in plan.puts:
                self._keep(put.kind, put.name)
            for put in sorted(plan.puts, key=lambda put: put.kind != "keys"):
                path = workspace / "object"
                path.write_bytes(put.data)
                self._replace(put.kind, put.name, path)
            self._copy_packs(workspace)
        self._reload()
        self._store()
        self._write_index()
        self._drop_packs()
        replaced = self._rewrite()
        self._name_again({name for kind, name in plan.useless if kind == "snapshots"}, replaced)
        for kind, name in [*(("snapshots", one.id) for one in replaced), *plan.useless]:
            self._keep(kind, name)
            self._remove(kind, name)
        return str(self._kept) if self._moved else None

    def _replace(self, kind: ObjectKind, name: str, path: Path) -> None:
        """Put sound bytes in an object's place. Where that takes two steps, the sound copy is still where it came from in between."""
        self._lock.refuse_if_lost()
        if isinstance(self._place, Replacing):
            self._place.replace(kind, name, path)
            return
        with contextlib.suppress(ObjectMissing):
            if self._place.size(kind, name) == path.stat().st_size:  # it would count as stored
                self._make_room(kind, name, path)
        self._place.save_file(kind, name, path)

    def _make_room(self, kind: ObjectKind, name: str, path: Path) -> None:
        """A place without config counts as gone: there a shorter one comes in between, which is replaced like any that broke off."""
        if kind != "config":
            self._place.remove(kind, name)
            return
        shorter = path.with_name("shorter")
        shorter.write_bytes(path.read_bytes()[:-1])
        self._place.save_file(kind, name, shorter)

    def _copy_packs(self, workspace: Path) -> None:
        sizes = {pack: self._planner.pack_size(pack) for pack in self._plan.copies}
        self._progress.begin("copying packs", sum(sizes.values()) or None, "bytes")
        for pack, donor in self._plan.copies.items():
            donor.fetch_pack(pack.hex(), workspace / "pack")
            self._replace("data", pack.hex(), workspace / "pack")
            self._progress.step(sizes[pack])
        self._progress.end()

    def _reload(self) -> None:
        """Read the index as it is stored now; what is damaged in it was planned for."""
        self._repository.load_index(lambda _: None, lambda pack, superseded: None)

    def _store(self) -> None:
        """Store what can be read of damaged packs in new ones, each blob opened again before it is: it may be the last copy."""
        wanted: dict[BlobKind, list[str]] = defaultdict(list)
        for kind, id in self._plan.store:
            wanted[kind].append(id)
        if not wanted:
            return
        view = self._planner.view
        with self._repository.writer(verify_writes=True) as writer:
            for kind, ids in wanted.items():
                for id, data in view.load_blobs(kind, ids):
                    place = view.index.first(kind, bytes.fromhex(id))
                    packed = place is not None and place.raw_length > 0
                    writer.add("tree" if kind == "tree" else "catalog" if packed else "audio", data, id, again=True)

    def _write_index(self) -> None:
        """Name every pack once, as it is; then, and only then, index files go that say anything else."""
        final, times = self._planner.final, self._planner.times
        for name, size in self._place.list("data"):
            if (pack := bytes.fromhex(name)) not in final and pack not in self._planner.bad:  # written just now
                final[pack] = self._repository.pack_header(name, size)
        kept, covered = right_index_files(self._repository, final)
        missing = [PackEntries(pack, list(entries), time=times.get(pack, 0)) for pack, entries in final.items() if pack not in covered]
        kept |= self._repository.write_index(missing)
        for name in [name for name, _ in self._place.list("index") if name not in kept]:
            self._remove("index", name)
        self._reload()

    def _drop_packs(self) -> None:
        index = self._repository.index
        for pack, bad in self._plan.drop.items():
            saved = all(index.find(entry.kind, entry.id) for entry in bad.readable)
            if saved and not index.knows_pack(pack):
                self._remove("data", pack.hex())

    def _rewrite(self) -> list[Snapshot]:
        """Write snapshots anew of which folders or catalogs are lost, the oldest first: a later one may take from it. Those that can go
        then, since others stand for them."""
        torn, succeeded = sorted(self._plan.torn, key=oldest_first), sorted(self._plan.succeeded, key=oldest_first)
        if not torn and not succeeded:
            return []
        self._progress.begin("writing snapshots anew")
        readable = self._repository.snapshots(lambda _: None)
        rewriter = Rewriter(self._repository, readable, {one.id for one in (*torn, *succeeded)})
        replaced = []
        for one in torn:
            replaced += self._write_anew(rewriter, one)
            self._progress.step()
        self._progress.end()
        for one in succeeded:  # the same folders may have been made again by now
            replaced += [one] if way_is_lost(self._repository, one) else self._write_anew(rewriter, one)
        self._write_index()
        return replaced

    def _write_anew(self, rewriter: Rewriter, one: Snapshot) -> list[Snapshot]:
        with self._repository.writer(verify_writes=True) as writer:
            tree = rewriter.write(one, writer)
        if tree == one.tree:
            rewriter.wrote(one, one)
            return []
        new = msgspec.structs.replace(one, id="", tree=tree, original=one.original or one.id)
        there = [known for known in rewriter.snapshots if (known.tree, known.original, known.time) == (tree, new.original, new.time)]
        if there:  # a repair that was stopped wrote it
            new = there[0]
        else:
            self._repository.save_snapshot(new)
        rewriter.wrote(one, new)
        return [one]

    def _name_again(self, unreadable: set[str], replaced: Sequence[Snapshot]) -> None:
        """Put into snapshots what only those named that cannot be read. They are still there: a repair that is stopped does it again."""
        if not self._plan.is_snapshot_lost:
            return
        gone = {*unreadable, *(one.id for one in replaced)}
        staying = [one for one in self._repository.snapshots(lambda _: None) if one.id not in gone]
        found = [Step("snapshot", one, what, "stored") for one, what in Unnamed(self._repository, staying).store()]
        if found:
            self._plan.steps += found
            self._planned(found)
            self._write_index()

    def _remove(self, kind: ObjectKind, name: str) -> None:
        self._lock.refuse_if_lost()
        if kind == "snapshots":
            self._state.forgotten_by_us(witnessed(self._repository), [name])
        self._place.remove(kind, name)

    def _keep(self, kind: ObjectKind, name: str) -> None:
        """A copy on this machine of what goes and is not stored elsewhere: encrypted, small, and a last resort."""
        try:
            if self._place.size(kind, name) > _MOST_KEPT:  # nothing that anybody honest wrote
                return
            data = self._place.load(kind, name)
        except (ObjectMissing, BadRange):
            return
        try:
            make_folder(self._kept)
            replace_file(self._kept / f"{kind}-{name_of(data)}", data)
        except OSError as error:
            raise told(error, str(self._kept)) from error
        self._moved = True
