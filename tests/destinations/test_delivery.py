"""Delivery to several places, in this process: faults of every kind, a spool that is too small, and how often a place is asked."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup_tool.actions.open_places import open_for_delivery
from backup_tool.actions.run import RunPlan, RunResult, run
from backup_tool.actions.state import State
from backup_tool.actions.sync import sync
from backup_tool.config import SourceSpec
from backup_tool.destinations.base import Destination, ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.retry import Retry
from backup_tool.destinations.several.delivery import Delivery
from backup_tool.destinations.several.reading import Place, Several
from backup_tool.errors import BackupError, NoSpace, ObjectMissing, SignInNeeded, Unreachable
from backup_tool.models import Progress, Secret
from backup_tool.repository import Repository
from backup_tool.repository.check import check
from tests.destinations.doubles import Flaky, Wrapper
from tests.destinations.drive.errors import failure
from tests.destinations.drives import drives
from tests.destinations.tls_proxy import Fault
from tests.generators.ogg import opus_note
from tests.generators.old import put_old
from tests.repository.forge import cheapen

PASSWORD = Secret("wise owls sing at noon")
Wrap = Callable[[str, Destination], Destination]


class Machine:
    """A folder of recordings, and places that are wrapped anew for each run."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.folder, self.names = folder, names
        self.state = State(folder / "state")
        self.store = folder / "phone"
        self.store.mkdir()
        first = LocalDestination(folder / names[0])
        Repository.create(first, PASSWORD, hostname="desk", username="ann")
        cheapen(first.path, PASSWORD.reveal())
        for name in names[1:]:
            mirror = LocalDestination(folder / name)
            mirror.create()
            for key, _ in first.list("keys"):
                mirror.save("keys", key, first.load("keys", key))
            mirror.save("config", "config", first.load("config", "config"))

    def record(self, count: int, seed: int, seconds: float = 1.0) -> None:
        for number in range(count):
            put_old(self.store / f"PTT-20260{seed:01d}01-WA{number:04d}.opus", opus_note(seconds, 100 * seed + number))

    def night(self, wrap: Wrap, *, bound: int = 2**31, pack_size: int = 4 * 2**20) -> tuple[RunResult, int]:
        places = [Place(name, wrap(name, LocalDestination(self.folder / name))) for name in self.names]
        destination = open_for_delivery(places, self.state, Progress(), bound)
        try:
            plan = RunPlan(
                sources=[SourceSpec(name="phone", path=self.store)],
                typed=set(),
                known_names={"phone"},
                destination=destination,
                destination_name=self.names[0],
                password=PASSWORD,
                state=self.state,
                host="desk",
                pack_size=pack_size,
            )
            return run(plan, Progress())
        finally:
            destination.close()

    def objects(self, name: str) -> dict[str, str]:
        root = self.folder / name
        files = [path for path in root.rglob("*") if path.is_file()]
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def all_alike_and_sound(self, notes: int) -> None:
        first = self.objects(self.names[0])
        for name in self.names[1:]:
            assert self.objects(name).items() ^ first.items() == set()
        for name in self.names:
            repository = Repository.open(LocalDestination(self.folder / name), PASSWORD)
            assert not [found for found in check(repository, read_data=True) if found.severity == "error"]
        assert not [path for path in first if path.startswith("locks/")]
        spools = self.folder / "state" / "spool"
        waiting = [path for path in spools.rglob("*") if path.is_file() and len(path.name) == 64 and path.parent.name != "keys"]
        assert waiting == []
        assert self.night(plain)[0].notes == notes


def plain(name: str, place: Destination) -> Destination:
    return place


def at_once(closed: threading.Event, seconds: float) -> bool:
    """A wait that takes no time."""
    return closed.is_set()


class Remote(Wrapper):
    """A folder that is not taken for one: as a place behind a network is."""


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_or_wrong_where_four_of_ten_requests_fail(tmp_path: Path, seed: int) -> None:
    """Errors before the effect, after it, and effects twice, at every place, for whole nights: all places end alike and sound."""
    machine = Machine(tmp_path, ("cloud", "nas", "attic"))
    faults: list[Flaky] = []

    def flaky(name: str, place: Destination) -> Destination:
        faults.append(Flaky(place, seed=seed * 100 + len(faults), rate=0.4))
        return Retry(faults[-1], wait=at_once)

    for night in range(1, 4):
        machine.record(6, seed=night)
        assert machine.night(flaky, pack_size=4096)[1] == 0
    assert sum(len(one.faults) for one in faults) > 100
    machine.all_alike_and_sound(notes=18)


def test_one_request_in_ten_failing_costs_less_than_a_third_more_requests(tmp_path: Path) -> None:
    """What was done already is not done again: with a tenth of the requests failing, at most 1.3 times as many are made."""
    asked = []
    for rate in (0.0, 0.1):
        (tmp_path / str(rate)).mkdir()
        machine = Machine(tmp_path / str(rate), ("cloud",))
        machine.record(30, seed=1)
        counted: list[Flaky] = []

        def flaky(name: str, place: Destination, rate: float = rate, counted: list[Flaky] = counted) -> Destination:
            counted.append(Flaky(place, seed=7, rate=rate))
            return Retry(counted[-1], wait=at_once)

        assert machine.night(flaky, pack_size=4096)[1] == 0
        asked.append(counted[0].operations)
    assert asked[0] > 30
    assert asked[1] <= 1.3 * asked[0]


@pytest.mark.parametrize("error", [Unreachable, NoSpace, SignInNeeded, BackupError])
def test_whenever_the_primary_fails_the_mirror_has_the_night_and_the_primary_gets_it_later(
    tmp_path: Path, error: type[BackupError]
) -> None:
    """The primary gives out at any request of a night, for good: the mirror has all, exit 3; the next night brings both level."""
    machine = Machine(tmp_path, ("cloud", "nas"))
    machine.record(4, seed=1)
    assert machine.night(plain)[1] == 0
    notes, chance = 4, random.Random(5)
    for night in range(2, 5):
        machine.record(4, seed=night)
        notes += 4
        failing: list[Flaky] = []

        def gives_out(name: str, place: Destination, failing: list[Flaky] = failing) -> Destination:
            if name != "cloud":
                return place
            failing.append(Flaky(Remote(place), seed=1, rate=0, error=error))
            failing[0].fail_at(chance.randint(8, 40), stay=True)
            return failing[0]

        result, code = machine.night(gives_out, pack_size=4096)
        assert code in (0, 3)
        assert {one.name: one.status for one in result.destinations}["nas"] == "delivered"
        assert machine.night(plain)[1] == 0
    for lock in (machine.folder / "cloud" / "locks").iterdir():
        lock.unlink()  # it could not be given back, and this very process, which took it, still lives: for others it would be void
    machine.all_alike_and_sound(notes=notes)


def test_a_full_spool_with_nobody_to_take_it_ends_the_run_and_keeps_what_is_complete(tmp_path: Path) -> None:
    """Reading stops where the spool is full and no place takes anything; what is complete is delivered the next time, not stored twice."""
    machine = Machine(tmp_path, ("cloud",))
    machine.record(60, seed=1, seconds=4)

    def refuses(name: str, place: Destination) -> Destination:
        return Flaky(Remote(place), seed=1, rate=1.0, only=("save_file",), error=NoSpace)

    with pytest.raises(NoSpace, match="spool is full"):
        machine.night(refuses, bound=100_000, pack_size=30_000)
    assert not list((machine.folder / "cloud" / "snapshots").iterdir())
    result, code = machine.night(lambda name, place: Remote(place))
    assert (result.new, code) == (60, 0)
    assert result.bytes_added < sum(path.stat().st_size for path in machine.store.iterdir())
    machine.all_alike_and_sound(notes=60)


def test_what_left_a_full_spool_for_the_mirror_comes_to_the_primary_from_there(tmp_path: Path) -> None:
    """The primary is away and the spool small: packs go to the mirror only; when the primary is back it gets them from the mirror."""
    machine = Machine(tmp_path, ("cloud", "nas"))
    machine.record(1, seed=1)
    assert machine.night(plain)[1] == 0
    machine.record(60, seed=2, seconds=4)
    (machine.folder / "cloud").rename(machine.folder / "cloud.away")
    result, code = machine.night(lambda name, place: Remote(place) if name == "nas" else place, bound=100_000, pack_size=30_000)
    assert (result.new, code, [one.status for one in result.destinations]) == (60, 3, ["queued", "delivered"])
    spool = next((machine.folder / "state" / "spool").iterdir())
    waiting = sum(path.stat().st_size for path in (spool / "data").rglob("*") if path.is_file())
    assert waiting < 300_000 < result.bytes_added  # the bound, and the few packs that were growing when it was reached
    (machine.folder / "cloud.away").rename(machine.folder / "cloud")
    result, code = machine.night(plain)
    assert (result.new, code) == (0, 0)
    machine.all_alike_and_sound(notes=61)


def test_a_primary_gets_no_snapshot_while_what_it_builds_on_is_only_at_a_mirror_that_is_away(tmp_path: Path) -> None:
    """Packs left a full spool for the mirror; then the primary is back and the mirror away: each night the primary is sound, and says 3."""
    machine = Machine(tmp_path, ("cloud", "nas"))
    machine.record(1, seed=1)
    assert machine.night(plain)[1] == 0
    machine.record(60, seed=2, seconds=4)
    (machine.folder / "cloud").rename(machine.folder / "cloud.away")
    machine.night(lambda name, place: Remote(place) if name == "nas" else place, bound=100_000, pack_size=30_000)
    (machine.folder / "cloud.away").rename(machine.folder / "cloud")
    (machine.folder / "nas").rename(machine.folder / "nas.away")
    for night in (3, 4):
        machine.record(1, seed=night)
        result, code = machine.night(plain)
        assert (result.new, code) == (1, 3)
        assert not list(check(Repository.open(LocalDestination(machine.folder / "cloud"), PASSWORD), read_data=True))
    (machine.folder / "nas.away").rename(machine.folder / "nas")
    assert machine.night(plain)[1] == 0
    machine.all_alike_and_sound(notes=63)


def test_a_place_that_stores_other_bytes_is_found_out_by_its_size(tmp_path: Path) -> None:
    """A mirror that keeps half of what it is given is not taken for level: sync brings the rest as soon as it behaves."""
    machine = Machine(tmp_path, ("usb", "nas"))
    machine.record(3, seed=1)
    assert machine.night(plain)[1] == 0
    pack = next(path for path in (machine.folder / "nas" / "data").rglob("*") if path.is_file())
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[:50])
    places = [Place(name, LocalDestination(machine.folder / name)) for name in machine.names]
    delivery = open_for_delivery(places, machine.state, Progress(), 2**31)
    assert isinstance(delivery, Delivery)
    done, code = sync(delivery, PASSWORD, machine.state, Progress())
    delivery.close()
    assert (code, [one.objects for one in done.destinations]) == (0, [0, 1])
    machine.all_alike_and_sound(notes=3)


def test_a_mirror_that_fails_while_the_primary_is_mended_stops_nobody(tmp_path: Path) -> None:
    """A pack is gone from the primary and one mirror cannot be listed: the pack comes from the other mirror, and the first one waits."""

    class Dumb(Wrapper):
        def list(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
            if kind == "data":
                raise Unreachable("nas did not answer in time")
            return super().list(kind)

    machine = Machine(tmp_path, ("usb", "nas", "attic"))
    machine.record(3, seed=1)
    assert machine.night(plain)[1] == 0
    next(path for path in (machine.folder / "usb" / "data").rglob("*") if path.is_file()).unlink()
    places = [Place(name, LocalDestination(machine.folder / name)) for name in machine.names]
    places[1].destination = Dumb(places[1].destination)
    delivery = open_for_delivery(places, machine.state, Progress(), 2**31)
    assert isinstance(delivery, Delivery)
    done, code = sync(delivery, PASSWORD, machine.state, Progress())
    delivery.close()
    assert (code, [one.status for one in done.destinations]) == (3, ["delivered", "queued", "delivered"])
    assert done.destinations[0].objects == 1
    machine.all_alike_and_sound(notes=3)


def test_a_lock_of_a_place_that_has_just_gone_stops_nobody(tmp_path: Path) -> None:
    """Where the first place gives out while its locks are read, the next one is looked at: what it does not know is no lock any more."""
    places = [LocalDestination(tmp_path / name) for name in ("cloud", "nas")]
    for place in places:
        place.create()
        place.save("config", "config", b"sealed")
    places[0].save("locks", "ab" * 32, b"lock")
    failing = Flaky(places[0], seed=1, rate=0, error=NoSpace)
    several = Several([Place("cloud", failing), Place("nas", places[1])])
    assert several.exists()
    ((name, _),) = several.list("locks")
    failing.fail_at(1, stay=True)
    with pytest.raises(ObjectMissing):
        several.load("locks", name)
    assert list(several.list("locks")) == []


@pytest.mark.parametrize("names", [("disk", "drive"), ("drive",)], ids=["a mirror", "the only place"])
def test_a_google_drive_that_refuses_for_ever_ends_no_run_late(tmp_path: Path, names: tuple[str, ...]) -> None:
    """At the limit of the day a run ends within minutes, says so, keeps for Google what it lacks, and the disk has everything; the next day
    Google gets it."""
    machine = Machine(tmp_path, names)
    machine.record(3, seed=1)
    with drives(tmp_path / "cloud") as cloud:
        first = LocalDestination(machine.folder / names[0])
        place = cloud.with_folders("Voice notes")
        for kind in ("keys", "config"):
            for name, _ in first.list(kind):
                place.save(kind, name, first.load(kind, name))
        place.close()

        def wrap(name: str, folder: Destination) -> Destination:
            return cloud.open() if name == "drive" else folder

        refused = Fault("answer", response=failure(403, "userRateLimitExceeded"))
        for label in ("files.upload", "files.start", "files.chunk", "files.create", "files.update", "files.delete"):
            cloud.google.proxy.faults.add(label, refused, times=10**6)
        result, code = machine.night(wrap)
        assert cloud.time.waited < 600
        assert (result.notes, code) == (3, 3 if len(names) > 1 else NoSpace.exit_code)
        told = {one.name: one for one in result.destinations}
        assert told["drive"].status == "queued"
        assert "takes no more uploads for now" in (told["drive"].error or "")
        assert "run it again tomorrow" in (told["drive"].error or "")
        assert all(one.status == "delivered" for one in result.destinations if one.name != "drive")
        cloud.google.proxy.faults.clear()
        result, code = machine.night(wrap)
        assert (result.notes, code, {one.status for one in result.destinations}) == (3, 0, {"delivered"})
        there = Repository.open(cloud.open(), PASSWORD)
        assert [found for found in check(there, read_data=True) if found.severity == "error"] == []
        assert len(there.snapshots()) == 2
        there.destination.close()
