"""Trying again: what is tried again, how long, how soon it ends; and the limit for uploads."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup_tool.destinations import http
from backup_tool.destinations.base import KINDS, Destination
from backup_tool.destinations.http import Address
from backup_tool.destinations.limits import UploadLimit
from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.rest import RestDestination
from backup_tool.destinations.retry import Retry
from backup_tool.errors import BackupError, BadRange, NoRepository, NoSpace, ObjectMissing, SignInNeeded, Unreachable
from tests.destinations.doubles import Flaky
from tests.destinations.proxy import FAULTS, faulty
from tests.destinations.servers import Rest, serving

SEEDS = [1, 2]


class Watch:
    """A clock that only waiting moves; `waited` is how long each time. With `jumps`, other things take time too."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.waited: list[float] = []

    def now(self) -> float:
        return self.time

    def wait(self, closed: threading.Event, seconds: float) -> bool:
        self.waited.append(seconds)
        self.time += seconds
        return closed.is_set()


def named(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def patient(place: Destination, watch: Watch, chance: float = 1.0) -> Retry:
    return Retry(place, now=watch.now, wait=watch.wait, chance=lambda: chance)


@pytest.fixture
def local(tmp_path: Path) -> LocalDestination:
    made = LocalDestination(tmp_path / "repository")
    made.create()
    return made


def test_waits_grow_and_end(local: LocalDestination) -> None:
    """Waits double from one second to a minute; after a quarter of an hour the error comes as it is."""
    watch, flaky = Watch(), Flaky(local, seed=0, rate=0)
    retry = patient(flaky, watch)
    assert not retry.exists()
    flaky.fail_at(1, stay=True)
    with pytest.raises(Unreachable):
        retry.size("data", "0" * 64)
    assert watch.waited[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert 840 < sum(watch.waited) <= 900


def test_a_wrong_address_is_told_within_a_minute(local: LocalDestination) -> None:
    """While nothing has worked yet, a person does not wait a quarter of an hour to learn that the server is not there."""
    watch, flaky = Watch(), Flaky(local, seed=0, rate=0)
    flaky.fail_at(1, stay=True)
    with pytest.raises(Unreachable):
        patient(flaky, watch).exists()
    assert 30 <= sum(watch.waited) <= 60


def test_who_was_waited_for_in_vain_is_not_waited_for_as_long_again(local: LocalDestination) -> None:
    """After a quarter of an hour in vain, each further step waits a minute at most; when something works, patience is as it was."""
    watch, flaky = Watch(), Flaky(local, seed=0, rate=0)
    retry = patient(flaky, watch)
    assert not retry.exists()
    flaky.fail_at(1, stay=True)
    for least, most in ((840, 900), (30, 60), (30, 60)):
        before = sum(watch.waited)
        with pytest.raises(Unreachable):
            retry.size("data", "0" * 64)
        assert least < sum(watch.waited) - before <= most
    flaky.fail_at(10**9)
    assert not retry.exists()
    flaky.fail_at(1, stay=True)
    before = sum(watch.waited)
    with pytest.raises(Unreachable):
        retry.exists()
    assert sum(watch.waited) - before > 840


def test_many_machines_do_not_come_back_at_one_moment(local: LocalDestination) -> None:
    """Each wait is shortened at random, down to nothing."""
    watch, flaky = Watch(), Flaky(local, seed=0, rate=0)
    flaky.fail_at(1, stay=True)
    chances = random.Random(5)
    retry = Retry(flaky, now=watch.now, wait=watch.wait, chance=chances.random)
    with pytest.raises(Unreachable):
        retry.exists()
    again = random.Random(5)
    assert watch.waited[:4] == [again.random() * 2.0**number for number in range(4)]


@pytest.mark.parametrize("error", [NoSpace, SignInNeeded, BackupError, NoRepository, ObjectMissing, BadRange])
def test_what_will_not_get_better_is_told_at_once(local: LocalDestination, error: type[BackupError]) -> None:
    """Only what is worth a retry is tried again."""
    watch, flaky = Watch(), Flaky(local, seed=0, rate=0, error=error)
    flaky.fail_at(1, stay=True)
    with pytest.raises(error):
        patient(flaky, watch).save("data", "0" * 64, b"x")
    assert watch.waited == []
    assert flaky.operations == 1


def test_a_service_that_says_when_is_asked_then(tmp_path: Path) -> None:
    """Retry-After is honoured: nobody comes back sooner; where it asks for more than there is patience, the error comes at once."""
    watch = Watch()
    with serving(tmp_path, "busy") as server:
        place = patient(RestDestination(Address.parse(server.url)), watch, chance=0)
        with pytest.raises(Unreachable) as caught:
            place.exists()
        place.close()
    assert caught.value.retry_after == 7
    assert watch.waited == [7] * 8
    hasty = Retry(place.inner, first_patience=6.9, now=watch.now, wait=watch.wait)
    assert hasty.label == place.label


def test_closing_ends_all_waiting(local: LocalDestination) -> None:
    """A run that is cancelled does not wait for a server: whoever waits gets the last error at once."""
    flaky = Flaky(local, seed=0, rate=0)
    flaky.fail_at(1, stay=True)
    retry = Retry(flaky, chance=lambda: 1.0)
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            retry.load("data", "0" * 64)
        except Unreachable as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while flaky.operations < 2:  # it waits its second now, or the two after it
        time.sleep(0.01)
    started = time.monotonic()
    retry.close()
    thread.join(10)
    assert len(caught) == 1
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_among_failures(local: LocalDestination, tmp_path: Path, seed: int) -> None:
    """With two operations of five failing before, after or with double effect, everything is stored, listed and given back as it was."""
    only = ("create", "exists", "save", "save_file", "commit", "load", "size", "list", "remove")
    flaky = Flaky(local, seed=seed, rate=0.4, only=only)
    retry = patient(flaky, Watch())
    use(retry, tmp_path, seed)
    assert {how for _, how in flaky.faults} == {"before", "after", "twice"}


def use(place: Destination, folder: Path, seed: int) -> None:
    """Store, read, list and remove, and see that all is as it should be."""
    noise = random.Random(seed)
    kept: dict[str, dict[str, bytes]] = {kind: {} for kind in KINDS}
    place.create()
    config = noise.randbytes(150)
    place.save("config", "config", config)
    for number in range(30):
        kind, data = noise.choice(KINDS[1:]), noise.randbytes(noise.choice([0, 1, 200, 70_000]))
        if number % 3 == 0:
            place.save(kind, named(data), data)
        elif number % 3 == 1:
            (folder / "file").write_bytes(data)
            place.save_file(kind, named(data), folder / "file")
        else:
            with place.draft(kind) as draft:
                draft.write(data[:100])
                draft.write(data[100:])
                draft.commit(named(data))
        kept[kind][named(data)] = data
        if number % 5 == 4:
            gone = noise.choice(sorted(kept[kind]))
            place.remove(kind, gone)
            del kept[kind][gone]
            with pytest.raises(ObjectMissing):
                place.load(kind, gone)
    assert place.exists()
    assert place.load("config", "config") == config
    for kind in KINDS[1:]:
        assert dict(place.list(kind)) == {name: len(data) for name, data in kept[kind].items()}
        for name, data in kept[kind].items():
            assert place.load(kind, name) == data
            assert place.size(kind, name) == len(data)
            if len(data) > 100:
                assert place.load(kind, name, 50, 37) == data[50:87]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of silence counts as two minutes do outside."""
    monkeypatch.setattr(http, "STALL_SECONDS", 0.5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Rest]:
    with serving(tmp_path / "served") as running:
        (tmp_path / "served").mkdir()
        yield running


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_on_a_bad_network(server: Rest, tmp_path: Path, seed: int) -> None:
    """With two requests of five spoiled on the way nothing is lost, and nothing is wrong."""
    with faulty(server.url, seed, 0.4) as proxy:
        place = patient(RestDestination(Address.parse(proxy.url)), Watch())
        use(place, tmp_path, seed)
        place.close()
    assert {fault for fault, _ in proxy.faults} == set(FAULTS)


@pytest.mark.usefixtures("impatient")
def test_few_requests_are_repeated(server: Rest, tmp_path: Path) -> None:
    """With one request of ten spoiled, at most three of ten are needed more than on a good network."""
    counts = []
    for rate in (0.0, 0.1):
        requests = 0
        for seed in (11, 12, 13, 14):
            with faulty(f"{server.url}", seed, rate) as proxy:
                place = patient(RestDestination(Address.parse(f"{proxy.url}{rate}/{seed}/")), Watch())
                use(place, tmp_path, seed)
                place.close()
                requests += proxy.requests
        counts.append(requests)
    assert 1 < counts[1] / counts[0] <= 1.3, counts


@pytest.mark.parametrize("fault", ["lost", "cut reply"])
def test_what_has_arrived_is_not_sent_again(server: Rest, tmp_path: Path, fault: str) -> None:
    """Where only the answer to an upload was lost, the object is looked for before it is sent a second time."""
    data = random.Random(3).randbytes(3_000_000)
    direct = RestDestination(Address.parse(server.url))
    direct.create()
    direct.save("config", "config", b"x")
    direct.close()
    with faulty(server.url, 0, 1.0, (fault,)) as proxy:
        place = patient(RestDestination(Address.parse(proxy.url)), Watch())
        proxy.rate = 0
        assert place.exists()
        proxy.fault = lambda method: fault if method == "POST" else None  # type: ignore[method-assign]
        place.save("data", named(data), data)
        assert place.load("data", named(data)) == data
        place.close()
    assert [method for method, path, _ in server.seen if path.startswith("/data/")].count("POST") == 1


def test_uploads_share_one_limit() -> None:
    """However many threads send, together they send no faster than allowed, and pieces are small enough to stop within a second."""
    watch = Watch()

    def sleep(seconds: float) -> None:
        watch.waited.append(seconds)
        watch.time += seconds

    limit = UploadLimit(100_000, now=watch.now, sleep=sleep)
    for _ in range(100):
        limit.take(limit.piece(65_536))
    assert 65.536 - 0.26 <= watch.time - 1000 <= 65.537
    assert max(watch.waited) <= 1
    assert UploadLimit(1000).piece(65_536) == 1000


def test_an_upload_is_as_slow_as_it_should_be(server: Rest) -> None:
    """A limit of 400 kB a second is kept on the wire; reading is as fast as ever."""
    data = random.Random(4).randbytes(400_000)
    place = RestDestination(Address.parse(server.url), limit=UploadLimit(400_000))
    place.create()
    started = time.monotonic()
    place.save("data", named(data), data)
    assert 0.7 < time.monotonic() - started < 8
    assert place.load("data", named(data)) == data
    place.close()
