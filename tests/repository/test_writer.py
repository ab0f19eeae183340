"""Writing: nothing is lost, nothing is stored twice, and a run that ends early leaves a sound repository."""

from __future__ import annotations

import hashlib
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backup_tool.destinations.base import Draft, ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import BackupError, DamagedObject, IntegrityError, NoSpace, ObjectMissing
from backup_tool.repository import Node, Repository, encode_tree
from backup_tool.repository import writer as writer_module
from backup_tool.repository.check import check
from backup_tool.repository.crypto import Key
from tests.repository.conftest import TIME, Place, note, save_notes, snapshot


class Watched(LocalDestination):
    """A local destination that notes what becomes visible, in order, and can refuse."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.stored: list[tuple[ObjectKind, str]] = []
        self.refuse: ObjectKind | None = None

    @contextmanager
    def draft(self, kind: ObjectKind) -> Iterator[Draft]:  # type: ignore[override]
        with super().draft(kind) as draft:
            outer = self

            class Telling:
                def write(self, data: bytes | memoryview) -> None:
                    draft.write(data)

                def commit(self, name: str) -> None:
                    outer._refuse(kind)
                    draft.commit(name)
                    outer.stored.append((kind, name))

            yield Telling()

    def _refuse(self, kind: ObjectKind) -> None:
        if kind == self.refuse:
            raise NoSpace("the disk is full")


def watched(place: Place) -> tuple[Repository, Watched]:
    destination = Watched(place.folder)
    repo = place.repo
    return Repository(destination, repo._key, repo.key_id, repo.config, repo.clock), destination


def temporaries(place: Place) -> list[str]:
    return [path.name for path in place.folder.rglob("*") if path.is_file() and path.name != "config" and len(path.name) != 64]


def test_what_is_added_comes_back(place: Place) -> None:
    """Audio, catalogs and trees of all sizes are read again byte for byte, by a program that knows nothing of the run."""
    payloads = [note(number, size) for number, size in enumerate([1, 31, 32, 33, 4096, 70_000, 4 * 2**20])]
    with place.repo.lock(), place.repo.writer() as writer:
        audio = [writer.add("audio", data) for data in payloads]
        catalog = [writer.add("catalog", b"c" + data)[0] for data in payloads]
        tree, _ = writer.add("tree", encode_tree([Node.file("a", len(payloads[0]), [audio[0][0]], TIME)]))
    repo = place.loaded()
    for payload, (id, new), other in zip(payloads, audio, catalog, strict=True):
        assert id == hashlib.sha256(payload).hexdigest()
        assert new
        assert repo.load_blob("data", id) == payload
        assert repo.load_blob("data", other) == b"c" + payload
        assert repo.blob_length("data", id) == len(payload)
    assert repo.load_tree(tree).nodes[0].size == len(payloads[0])


def test_three_kinds_of_pack_are_never_mixed(place: Place) -> None:
    """Recordings, catalogs and trees lie apart; recordings as they are, the others compressed."""
    with place.repo.lock(), place.repo.writer() as writer:
        for number in range(10):
            writer.add("audio", note(number))
            writer.add("catalog", note(number, 5000))
            writer.add("tree", encode_tree([Node.folder("x", f"{number:064x}", TIME)]))
        stats = writer.stats
    repo = place.loaded()
    packs: dict[str, set[tuple[str, bool]]] = {}
    for kind, _, where in repo.index.blobs():
        packs.setdefault(where.pack.hex(), set()).add((kind, bool(where.raw_length)))
    assert sorted(packs.values(), key=str) == sorted([{("data", False)}, {("data", True)}, {("tree", True)}], key=str)
    assert len(packs) == len(place.files("data")) == 3
    assert (stats.objects, stats.blobs_added, stats.data_blobs, stats.tree_blobs) == (4, 30, 20, 10)
    assert stats.bytes == sum(path.stat().st_size for path in place.files("data") + place.files("index"))
    assert stats.raw_bytes > stats.packed_bytes - 30 * 32


def test_nothing_is_stored_twice(place: Place) -> None:
    """A blob that the archive has, or that this run has added, costs nothing."""
    save_notes(place.repo, {"a": note(1)})
    repo = place.loaded()
    before = len(place.files("data"))
    with repo.lock(), repo.writer() as writer:
        assert writer.add("audio", note(1)) == (hashlib.sha256(note(1)).hexdigest(), False)
        id, new = writer.add("audio", note(2), hashlib.sha256(note(2)).hexdigest())
        assert new
        assert writer.has("data", id)
        assert not repo.has("data", id)  # not before the destination has it
        assert writer.blob_length("data", id) == len(note(2))
        assert writer.add("audio", note(2)) == (id, False)
        writer.finish()
        assert repo.has("data", id)
        assert writer.blob_length("data", id) == len(note(2))
        with pytest.raises(ObjectMissing):
            writer.blob_length("data", "ab" * 32)
    assert len(place.files("data")) == before + 1


def test_threads_that_add_the_same_store_it_once(place: Place) -> None:
    """Four threads adding the same thousand notes: each is new to exactly one of them, and stored once."""
    notes = [note(number, 400) for number in range(1000)]
    new: list[str] = []
    with place.repo.lock(), place.repo.writer(pack_size=50_000) as writer:

        def work(step: int) -> None:
            for number in range(1000):
                id, added = writer.add("audio", notes[number * step % 1000])
                if added:
                    new.append(id)

        threads = [threading.Thread(target=work, args=(step,)) for step in (1, 3, 7, 999)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(new) == len(set(new)) == 1000
    repo = place.loaded()
    assert len(list(repo.index.blobs())) == 1000
    assert dict(repo.load_blobs("data", new)) == {hashlib.sha256(data).hexdigest(): data for data in notes}
    assert check(repo, read_data=True) == []


def test_packs_before_index_before_snapshot(place: Place) -> None:
    """Nothing becomes visible before what it names: packs, then the index, then the snapshot."""
    repo, destination = watched(place)
    save_notes(repo, {f"{number}": note(number) for number in range(20)})
    kinds = [kind for kind, _ in destination.stored]
    assert kinds[0] == "locks"
    assert kinds[1:] == ["data"] * (len(kinds) - 3) + ["index", "snapshots"]


def test_packs_are_closed_at_their_size_and_committed_as_they_fill(place: Place) -> None:
    """A pack is complete when it reaches its size, and is durable long before the run ends."""
    repo, destination = watched(place)
    with repo.lock(), repo.writer(pack_size=10_000) as writer:
        for number in range(45):
            writer.add("audio", note(number, 1000))
        deadline = time.monotonic() + 10
        while len(destination.stored) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(destination.stored) == 5  # a lock, and four full packs; the fifth is open
    sizes = [path.stat().st_size for path in place.files("data")]
    assert len(sizes) == 5
    assert all(size < 10_000 + 1100 + 10 * 37 + 36 for size in sizes)


@pytest.mark.parametrize("payload", [b"", bytes(64 * 2**20 + 1)], ids=["empty", "too large"])
def test_impossible_blobs_are_refused_and_harm_nothing(place: Place, payload: bytes) -> None:
    """An empty blob or one beyond what readers accept is refused, and the run can go on."""
    with place.repo.lock(), place.repo.writer() as writer:
        with pytest.raises(ValueError, match="a blob has"):
            writer.add("audio", payload)
        id, _ = writer.add("audio", b"fine")
    assert place.loaded().load_blob("data", id) == b"fine"


def test_nothing_is_written_without_a_lock(place: Place) -> None:
    """A writer, a snapshot or an index without a lock would be at the mercy of anybody's prune: refused."""
    for write in (place.repo.writer, place.repo.adopt_loose_packs, lambda: place.repo.save_snapshot(snapshot("ab" * 32))):
        with pytest.raises(BackupError, match="without a lock"):
            write()
    assert place.files("data") == place.files("snapshots") == place.files("index") == []


@pytest.mark.parametrize("kind", ["data", "index"])
def test_a_full_disk_stops_the_run_and_leaves_it_sound(place: Place, kind: ObjectKind) -> None:
    """When the destination refuses, the error comes out as it is, no snapshot exists, and nothing counts as stored that is not."""
    repo, destination = watched(place)
    destination.refuse = kind
    with pytest.raises(NoSpace):
        save_notes(repo, {f"{number}": note(number) for number in range(20)})
    assert place.files("snapshots") == []
    assert temporaries(place) == []
    if kind == "data":
        assert not repo.has("data", hashlib.sha256(note(1)).hexdigest())
        assert place.files("data") == []
    assert [finding.severity for finding in check(place.again(), read_data=True) if finding.severity != "hint"] == []
    save_notes(place.again(), {f"{number}": note(number) for number in range(20)})
    assert [finding for finding in check(place.again(), read_data=True) if finding.severity != "hint"] == []


def test_an_error_of_the_packing_thread_reaches_the_next_add(place: Place) -> None:
    """What goes wrong in the background is not swallowed: adding raises it, and so does the end."""
    repo, destination = watched(place)
    destination.refuse = "data"

    def add_many() -> None:
        with repo.lock(), repo.writer(pack_size=1000) as writer:
            for number in range(10_000):
                writer.add("audio", note(number, 2000))

    with pytest.raises(NoSpace):
        add_many()


def test_an_interrupted_run_keeps_what_it_has_sent(place: Place) -> None:
    """Ctrl-C in the middle: complete packs are in an index, so that the next run stores only the rest; no temporary is left."""

    def interrupted() -> None:
        with place.repo.lock(), place.repo.writer(pack_size=10_000) as writer:
            for number in range(25):
                writer.add("audio", note(number, 1000))
            deadline = time.monotonic() + 10
            while len(place.files("data")) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert temporaries(place) == []
    repo = place.loaded()
    assert len(repo.index) == 20
    assert check(repo, read_data=True) == []
    with repo.lock(), repo.writer() as writer:
        assert [writer.add("audio", note(number, 1000))[1] for number in range(25)] == [False] * 20 + [True] * 5


def test_index_files_are_written_during_a_long_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run writes an index now and then, so that little is to be found out again after a power cut."""
    monkeypatch.setattr(writer_module, "FULL_INDEX", 100)
    with place.repo.lock(), place.repo.writer(pack_size=1000) as writer:
        for number in range(500):
            writer.add("audio", note(number, 100))
    names = [path.name for path in place.files("index")]
    assert 4 <= len(names) <= 6
    assert len(place.loaded().index) == 500
    assert check(place.again(), read_data=True) == []


def test_packs_that_no_index_names_are_taken_in(place: Place) -> None:
    """After a kill between packs and index, the next run finds what was stored, and sends none of it again."""
    save_notes(place.repo, {f"{number}": note(number) for number in range(30)})
    for path in place.files("index") + place.files("snapshots"):
        path.unlink()
    repo = place.loaded()
    assert len(repo.index) == 0
    assert {finding.severity for finding in check(place.again())} == {"hint"}
    with repo.lock():
        assert repo.adopt_loose_packs() == 2
        assert repo.adopt_loose_packs() == 0
    assert len(place.files("index")) == 1
    assert check(place.again(), read_data=True) == []
    packs = place.files("data")
    save_notes(place.again(), {f"{number}": note(number) for number in range(30)})
    assert place.files("data") == packs


def test_damaged_loose_packs_are_told_and_left(place: Place) -> None:
    """A loose pack that is cut, empty or foreign is named; the sound ones beside it are taken in."""
    save_notes(place.repo, {"a": note(1)})
    for path in place.files("index") + place.files("snapshots"):
        path.unlink()
    bad = [place.forge.put("data", data) for data in (b"", b"x" * 100, place.files("data")[0].read_bytes()[:-1])]
    told: list[DamagedObject] = []
    repo = place.loaded()
    with repo.lock():
        assert repo.adopt_loose_packs(told.append) == 2
    assert sorted(error.name for error in told) == sorted(bad)
    assert all(error.kind == "pack" for error in told)


def test_every_seal_can_be_verified_before_it_is_stored(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With verification on, a blob that would not open again (bad memory) is never stored, and the run fails."""
    with place.repo.lock(), place.repo.writer(verify_writes=True) as writer:
        ids = [writer.add(kind, note(5))[0] for kind in ("audio", "tree")]
    assert place.loaded().load_blob("data", ids[0]) == place.loaded().load_blob("tree", ids[1]) == note(5)
    honest = Key.seal

    def failing_memory(key: Key, plain: bytes) -> tuple[bytes, bytes, bytes]:
        iv, text, tag = honest(key, plain)
        return (iv, bytes([text[0] ^ 1]) + text[1:], tag) if plain == note(6) else (iv, text, tag)

    monkeypatch.setattr(Key, "seal", failing_memory)

    def run() -> None:
        with place.repo.lock(), place.repo.writer(verify_writes=True) as writer:
            writer.add("audio", note(6))

    with pytest.raises(IntegrityError, match="memory"):
        run()
    monkeypatch.undo()
    assert not place.loaded().has("data", hashlib.sha256(note(6)).hexdigest())


def test_memory_does_not_grow_with_the_pack(place: Place) -> None:
    """A pack of 64 MiB is written in a few mebibytes of memory."""
    payload = bytes(2**20)
    tracemalloc.start()
    with place.repo.lock(), place.repo.writer(pack_size=64 * 2**20) as writer:
        for number in range(64):
            writer.add("audio", number.to_bytes(4, "big") + payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(place.files("data")) == 1
    assert peak < 24 * 2**20


def test_a_writer_that_has_ended_can_be_ended_again(place: Place) -> None:
    """Calling finish by hand and leaving the block is the same as either."""
    with place.repo.lock(), place.repo.writer() as writer:
        writer.add("audio", b"x")
        writer.finish()
        writer.finish()
    assert len(place.files("index")) == 1
