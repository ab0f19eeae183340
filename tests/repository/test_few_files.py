"""Years of nights leave thousands of small files: few of them have to be read, and none of the others is ever needed."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backup_tool.actions.archive import tips
from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import DamagedObject, Unreachable
from backup_tool.repository import Repository, Snapshot, ancestry, sealed
from backup_tool.repository.check import check
from backup_tool.repository.index import Entry, Index, Place
from backup_tool.repository.index_files import MOST_INDEX_FILES
from backup_tool.repository.parallel import abreast, largest_first
from tests.destinations.doubles import Wrapper
from tests.repository.conftest import Place as Home
from tests.repository.conftest import note, snapshot

Loaded = list[tuple[ObjectKind, str]]


class Far(Wrapper):
    """The same place a long way off: what is loaded is written down, and how many at once."""

    def __init__(self, inner: LocalDestination, delay: float = 0.0) -> None:
        super().__init__(inner)
        self.loads: Loaded = []
        self.at_once = self.most_at_once = 0
        self._delay, self._lock = delay, threading.Lock()

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._lock:
            self.loads.append((kind, name))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            time.sleep(self._delay)
            return super().load(kind, name, offset, length)
        finally:
            with self._lock:
                self.at_once -= 1


def far(place: Home, delay: float = 0.0) -> tuple[Repository, Far]:
    """A machine that has never seen the archive, far from it."""
    there = Far(LocalDestination(place.folder), delay)
    repo = place.repo
    return Repository(there, repo._key, repo.key_id, repo.config, repo.clock), there


def night(repo: Repository, number: int, notes: int = 2) -> list[str]:
    """One run's blobs: some notes, a catalog, a folder."""
    with repo.lock(), repo.writer() as writer:
        ids = [writer.add("audio", note(number * 100 + one, 200))[0] for one in range(notes)]
        ids.append(writer.add("catalog", b"catalog %d" % number)[0])
        writer.add("tree", b'{"nodes":[]}\n')
        return ids


def everything(repo: Repository) -> set[tuple[str, bytes, Place]]:
    return {(kind, id, place) for kind, id, place in repo.index.blobs()}


def test_few_index_files_are_read_after_many_nights(place: Home) -> None:
    """After any number of nights a fresh machine reads four index files at most, and knows all that all of them say."""
    read = []
    for number in range(40):
        night(place.again(), number, notes=1 + number % 5)
        repo, there = far(place)
        repo.load_index()
        read.append(len(there.loads))
        every = place.again()
        every.load_index(on_pack=lambda pack, superseded: None)
        assert everything(repo) == everything(every)
    assert max(read) <= MOST_INDEX_FILES
    assert len(place.files("index")) == 40
    assert check(place.again(), read_data=True) == []


def test_what_index_files_repeat_stays_little(place: Home) -> None:
    """All the index files of a hundred nights together are no more than some fifteen times what they say."""
    for number in range(100):
        night(place.again(), number)
    said = len(place.loaded().index) * 40
    assert sum(path.stat().st_size for path in place.files("index")) < 15 * said


def test_without_the_file_that_stands_for_others_they_are_read(place: Home) -> None:
    """A damaged index file, or one that somebody removed, hides nothing of what older ones say."""
    ids = [id for number in range(12) for id in night(place.again(), number)]
    standing = max(place.files("index"), key=lambda path: path.stat().st_size)
    standing.chmod(0o600)
    standing.write_bytes(b"damaged")
    repo, _ = far(place)
    with pytest.raises(DamagedObject):
        repo.load_index()
    repo, _ = far(place)
    repo.load_index(lambda error: None)
    alone = {pack for pack in (path.name for path in place.files("data")) if not repo.index.knows_pack(bytes.fromhex(pack))}
    assert len(alone) <= 2  # those of the night that wrote it
    standing.unlink()
    repo, _ = far(place)
    repo.load_index()
    assert sum(repo.has("data", id) for id in ids) >= len(ids) - 3


def test_a_file_that_stands_for_others_wrongly_only_costs_time(place: Home) -> None:
    """Where an index file claims to describe what it does not, blobs are found all the same, and `check` names the packs."""
    ids = [id for number in range(6) for id in night(place.again(), number)]
    older = [path.name for path in place.files("index")]
    place.forge.index({"packs": [], "supersedes": older, "padding": [f"{random.Random(n).getrandbits(256):x}" for n in range(500)]})
    repo, _ = far(place)
    repo.load_index()
    assert len(repo.index) == 0
    assert [repo.load_blob("data", id) for id in ids] == [place.loaded().load_blob("data", id) for id in ids]
    findings = check(place.again())
    assert {finding.severity for finding in findings} == {"warning"}
    assert {finding.name for finding in findings} == {path.name for path in place.files("data")}


def test_index_files_of_other_programs_stay_as_they_are(place: Home) -> None:
    """A file with packs that another program means to delete is never taken into one of ours."""
    for number in range(3):
        night(place.again(), number)
    doomed = {"id": "cd" * 32, "blobs": [{"id": "ef" * 32, "type": "data", "offset": 0, "length": 40}]}
    name = place.forge.index({"packs": [], "packs_to_delete": [doomed]})
    for number in range(3, 12):
        night(place.again(), number)
    repo, there = far(place)
    repo.load_index()
    assert ("index", name) in there.loads
    assert not repo.index.has("data", bytes.fromhex("ef" * 32))


def test_two_runs_at_once_take_in_the_same_files(place: Home) -> None:
    """Runs that begin on one state, and both take in what is there, leave everything known."""
    ids = [id for number in range(4) for id in night(place.again(), number)]
    one, other = place.again(), place.again()
    with one.lock(), one.writer() as first, other.lock(), other.writer() as second:
        ids += [first.add("audio", note(7001))[0], second.add("audio", note(7002))[0]]
    repo, there = far(place)
    repo.load_index()
    assert all(repo.has("data", id) for id in ids)
    assert len(there.loads) <= MOST_INDEX_FILES
    assert [finding for finding in check(place.again(), read_data=True) if finding.severity != "hint"] == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_of_several_copies_the_youngest_is_read(order: tuple[int, ...]) -> None:
    """Whichever index file is read first, a catalog comes from the pack that was made last."""
    index, id = Index(), b"i" * 32
    for time_ in (*order, *order):
        index.add(bytes([time_]) * 32, [Entry("data", id, 0, 40 + time_, 50)], time=time_)
    first = index.first("data", id)
    assert first is not None
    assert first.pack[0] == 2
    assert sorted(place.pack[0] for place in index.find("data", id)) == [0, 1, 2]
    index.doom([b"\2" * 32])
    assert sorted(place.pack[0] for place in index.find("data", id)) == [0, 1, 2]
    assert index.has("data", id)


def test_a_clock_that_goes_backwards_changes_no_order(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored again tonight counts as younger, also where the clock of the night before was ahead."""
    real = time.time
    monkeypatch.setattr("backup_tool.repository.index_files.time.time", lambda: real() + 7200)
    night(place.again(), 1)
    monkeypatch.setattr("backup_tool.repository.index_files.time.time", real)
    repo = place.loaded()
    (old,) = [path for path in place.files("data") if repo.index.find("data", bytes.fromhex(catalog_of(1)))[0].pack.hex() == path.name]
    with repo.lock(), repo.writer() as writer:
        writer.add("catalog", b"catalog 1", again=True)
    again, _ = far(place)
    again.load_index()
    assert again.index.find("data", bytes.fromhex(catalog_of(1)))[0].pack.hex() != old.name


def catalog_of(number: int) -> str:
    return hashlib.sha256(b"catalog %d" % number).hexdigest()


# Snapshots


class History:
    """Snapshots as runs of several hosts write them, some of them at the same time; some are forgotten or rewritten by others."""

    def __init__(self, place: Home, seed: int) -> None:
        self.repo, self.away = place.repo, far(place)[0]
        self.dice, self.minute = random.Random(seed), 0

    def write(self, host: str, parent: Snapshot | None, seen: list[Snapshot], **fields: Any) -> None:
        self.minute += 1
        stored = self.repo.snapshot_ids()
        fields |= {"parent": parent.id, "ancestors": ancestry(parent, seen, stored)} if parent else {}
        self.repo.save_snapshot(
            snapshot("ab" * 32, hostname=host, time=f"2026-01-01T{self.minute // 60:02}:{self.minute % 60:02}:00Z", **fields)
        )

    def run(self, host: str, at_once: int = 1) -> None:
        seen = [one for one in self.away.newest_snapshots() if one.hostname == host]
        parent = next(iter(tips(seen)), None)
        for _ in range(at_once):
            self.write(host, parent, seen)

    def forget(self) -> None:
        self.repo.destination.remove("snapshots", self.dice.choice(self.repo.snapshot_ids()))

    def rewrite(self) -> None:
        """As `restic tag` does: a new file that names the first id, and knows no fields of ours."""
        old = self.dice.choice(self.repo.snapshots())
        self.repo.destination.remove("snapshots", old.id)
        fields = {"parent": old.parent, "original": old.original or old.id, "tags": [f"tag {self.minute}"]}
        self.repo.save_snapshot(snapshot(old.tree, hostname=old.hostname, time=old.time, **fields))


@pytest.mark.parametrize("seed", range(4))
def test_the_newest_snapshots_are_the_whole_view(place: Home, seed: int) -> None:
    """Whatever runs, overlapping runs, forgetting and rewriting left: reading few snapshots shows the same view as reading all."""
    with place.repo.lock():
        history = History(place, seed)
        for _ in range(30):
            what = history.dice.random()
            if what < 0.08 and place.repo.snapshot_ids():
                history.forget()
            elif what < 0.16 and place.repo.snapshot_ids():
                history.rewrite()
            else:
                history.run(history.dice.choice(["one", "one", "two"]), 2 if what > 0.95 else 1)
            few, all_of_them = far(place)[0].newest_snapshots(), place.repo.snapshots()
            assert [one.id for one in tips(few)] == [one.id for one in tips(all_of_them)]


def test_one_snapshot_is_read_after_many_nights(place: Home) -> None:
    """After a hundred nights of one host a fresh machine reads one snapshot to know what there is."""
    with place.repo.lock():
        history = History(place, 0)
        for _ in range(100):
            history.run("one")
    repo, there = far(place)
    assert [one.id for one in repo.newest_snapshots()] == [place.repo.snapshots()[-1].id]
    assert len(there.loads) == 1


def test_all_snapshots_come_in_order_over_a_long_way(place: Home) -> None:
    """Several are fetched at once, at most eight; what is given is what reading one by one gives."""
    with place.repo.lock():
        for number in range(30):
            place.repo.save_snapshot(snapshot(f"{number:064x}", time=f"2026-03-{number % 28 + 1:02}T00:00:00Z"))
    repo, there = far(place, 0.01)
    assert repo.snapshots() == place.repo.snapshots()
    assert 2 <= there.most_at_once <= 8


# Reading


def test_a_small_pack_is_one_request(place: Home) -> None:
    """Blobs of a small pack of catalogs or folders come in one request, however they are asked for, and each is verified."""
    with place.repo.lock(), place.repo.writer() as writer:
        catalogs = {writer.add("catalog", b"month %d" % n * 50)[0]: b"month %d" % n * 50 for n in range(20)}
        trees = {writer.add("tree", b'{"nodes":[]}\n' + b" " * n)[0] for n in range(9)}
    repo, there = far(place)
    repo.load_index()
    there.loads.clear()
    assert {id: repo.load_blob("data", id) for id in catalogs} == catalogs
    assert dict(repo.load_blobs("data", catalogs)) == catalogs
    assert len([repo.load_blob("tree", id) for id in trees]) == 9
    assert len(there.loads) == len(set(there.loads)) == 2


def test_a_damaged_small_pack_still_gives_what_is_whole(place: Home) -> None:
    """One wrong byte costs the blob that it is in, and no other."""
    with place.repo.lock(), place.repo.writer() as writer:
        ids = [writer.add("catalog", bytes([n]) * 100)[0] for n in range(5)]
    (pack,) = place.files("data")
    pack.chmod(0o600)
    stored = bytearray(pack.read_bytes())
    stored[place.loaded().index.find("data", bytes.fromhex(ids[2]))[0].offset + 20] ^= 1
    pack.write_bytes(stored)
    repo, _ = far(place)
    repo.load_index()
    for number, id in enumerate(ids):
        if number == 2:
            with pytest.raises(DamagedObject):
                repo.load_blob("data", id)
        else:
            assert repo.load_blob("data", id) == bytes([number]) * 100


def test_recordings_are_never_fetched_with_their_neighbours(place: Home) -> None:
    """One note is one range of its pack, however small the pack: as many bytes as it has, sealed."""
    ids = night(place.repo, 1, notes=5)
    repo, there = far(place)
    repo.load_index()
    ranges: list[int | None] = []
    real = there.inner.load
    there.inner.load = lambda kind, name, offset=0, length=None: ranges.append(length) or real(kind, name, offset, length)  # type: ignore
    assert repo.load_blob("data", ids[2]) == note(102, 200)
    assert ranges == [len(note(102, 200)) + 32]


# Several at once


def test_answers_keep_the_order_of_the_questions() -> None:
    """Whatever takes longer, results and errors come in the order in which they were asked for, and no more at once than allowed."""
    running, most, lock = [0], [0], threading.Lock()

    def work(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.001 * (number * 7 % 5))
        with lock:
            running[0] -= 1
        if number == 13:
            raise Unreachable("thirteen")
        return number * number

    got: list[int | str] = []
    for answer in abreast(work, range(30), 4):
        try:
            got.append(answer())
        except Unreachable as error:
            got.append(error.message)
    assert got == [number * number if number != 13 else "thirteen" for number in range(30)]
    assert most[0] <= 4


def test_little_waits_to_be_taken() -> None:
    """Large answers are not fetched ahead of one another: memory stays bounded."""
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    answers = abreast(work, range(20), 8, lambda number: 20 * 2**20)
    for number, answer in enumerate(answers):
        assert answer() == number
        assert len(begun) <= number + 2


def test_who_leaves_early_waits_for_nobody() -> None:
    """After an error nothing more is begun, and what hangs does not hold up the end."""
    released, begun = threading.Event(), list[int]()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            released.wait(20)
        return number

    answers: Iterator[Callable[[], int]] = abreast(work, range(100), 3)
    assert next(answers)() == 0
    answers.close()  # type: ignore[attr-defined]
    released.set()
    assert len(begun) <= 4


def test_largest_first_leaves_out_what_became_needless() -> None:
    """Files are read by size, first one by one, then in eights, without those that an earlier one stands for."""
    listed, needless = {f"{size:02}": size for size in range(40)}, set[str]()
    groups = []
    for group in largest_first(listed, needless, 2):
        groups.append(group)
        if group == ["38"]:
            needless.update(f"{size:02}" for size in range(20, 38))
    assert groups == [
        ["39"],
        ["38"],
        [f"{size:02}" for size in range(19, 11, -1)],
        [f"{size:02}" for size in range(11, 3, -1)],
        ["03", "02", "01", "00"],
    ]


def test_a_file_that_stands_for_others_has_fields_that_others_know(place: Home) -> None:
    """What an index file says besides packs and blobs is in words of restic's and rustic's own."""
    for number in range(8):
        night(place.again(), number)
    newest = max(place.files("index"), key=lambda path: path.stat().st_size)
    told = json.loads(sealed.decode(place.repo._key, newest.read_bytes(), 2**20))
    assert set(told) == {"supersedes", "packs"}
    assert {key for pack in told["packs"] for key in pack} == {"id", "time", "blobs"}
