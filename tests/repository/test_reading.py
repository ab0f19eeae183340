"""Reading: few requests, every byte verified, another copy where one fails."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard

from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import DamagedObject, IntegrityError, ObjectMissing
from backup_tool.repository import Repository
from tests.repository.conftest import Maker, Place, note, save_notes
from tests.repository.forge import node, sha


class Counting(LocalDestination):
    """A local destination that notes every range asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[tuple[str, int, int | None]] = []

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self.asked.append((kind, offset, length))
        return super().load(kind, name, offset, length)


def counting(place: Place) -> tuple[Repository, Counting]:
    destination = Counting(place.folder)
    repo = place.repo
    again = Repository(destination, repo._key, repo.key_id, repo.config, repo.clock)
    again.load_index()
    destination.asked.clear()
    return again, destination


Saved = tuple[Place, dict[str, bytes], dict[str, str]]


def test_one_note_is_one_request(saved: Saved) -> None:
    """A single note is fetched by its own range, no more."""
    place, notes, ids = saved
    repo, destination = counting(place)
    assert repo.load_blob("data", ids["note 3.opus"]) == notes["note 3.opus"]
    assert [(kind, length) for kind, _, length in destination.asked] == [("data", len(notes["note 3.opus"]) + 32)]


def test_neighbours_share_a_request(place: Place) -> None:
    """Notes that lie close together come in one request; a far one in another; each id once, whatever the order asked for."""
    blobs = [note(number, 700_000) for number in range(6)]
    ids = [place.forge.blob("data", blob) for blob in blobs]
    place.forge.pack()
    repo, destination = counting(place)
    wanted = [ids[5], ids[0], ids[2], ids[0]]
    assert dict(repo.load_blobs("data", wanted)) == {ids[n]: blobs[n] for n in (0, 2, 5)}
    assert len(destination.asked) == 2  # from 0 to 2 the gap is one note, from 2 to 5 it is two
    assert sum(length or 0 for _, _, length in destination.asked) == 4 * (len(blobs[0]) + 32)


def test_requests_stay_small_enough_for_memory(place: Place) -> None:
    """However much is wanted, no request and no answer exceeds its budget; compressed blobs count by what they become."""
    big = [place.forge.blob("data", bytes([number]) * (9 * 2**20)) for number in range(8)]
    packed = [place.forge.blob("data", bytes([number]) * (30 * 2**20), packed=True) for number in range(100, 105)]
    place.forge.pack()
    repo = place.loaded()
    for request in repo.plan_reads("data", big + packed):
        assert request.length <= 32 * 2**20 + 32
        assert sum(len(blob) for _, blob in repo.read(request)) <= 64 * 2**20


def test_requests_run_in_threads(place: Place) -> None:
    """A plan's requests can be run by several threads at once, and bring everything."""
    notes = {f"{number}": note(number, 5000) for number in range(300)}
    with place.repo.lock(), place.repo.writer(pack_size=100_000) as writer:
        ids = {writer.add("audio", data)[0]: data for data in notes.values()}
    repo = place.loaded()
    requests = repo.plan_reads("data", ids)
    assert len(requests) > 10
    with ThreadPoolExecutor(4) as pool:
        assert {id: blob for part in pool.map(repo.read, requests) for id, blob in part} == ids


def test_random_orders_bring_the_same(saved: Saved) -> None:
    """Any selection in any order gives exactly the blobs asked for."""
    place, notes, ids = saved
    repo = place.loaded()
    names = list(notes)
    for seed in range(20):
        chosen = random.Random(seed).choices(names, k=4)
        assert dict(repo.load_blobs("data", [ids[name] for name in chosen])) == {ids[name]: notes[name] for name in chosen}


def test_unknown_blobs_are_told(saved: Saved) -> None:
    """An id that no index names is damage of that blob (5); a text that is no id is told as that; neither is a crash."""
    place, _, ids = saved
    repo = place.loaded()
    for read in (lambda: repo.load_blob("data", "ab" * 32), lambda: repo.plan_reads("data", ["ab" * 32])):
        with pytest.raises(DamagedObject) as told:
            read()
        assert (told.value.kind, told.value.name, told.value.exit_code) == ("blob", "ab" * 32, 5)
    with pytest.raises(ObjectMissing):
        repo.blob_length("data", "ab" * 32)
    for text in ("", "xyz", "AB" * 32, ids["note 1.opus"] + " ", "\x1b[2J"):
        assert not repo.has("data", text)
        with pytest.raises(IntegrityError) as refused:
            repo.load_blob("data", text)
        assert "\x1b" not in refused.value.message


def test_a_recording_is_never_taken_for_a_tree(saved: Saved) -> None:
    """The kind that is asked for must be the kind that is stored."""
    place, _, ids = saved
    repo = place.loaded()
    assert not repo.has("tree", ids["note 1.opus"])
    with pytest.raises(DamagedObject, match="tree"):
        repo.load_tree(ids["note 1.opus"])


def hurt(path: Path, position: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def audio_pack(place: Place, id: str) -> tuple[Path, int]:
    where = place.loaded().index.find("data", bytes.fromhex(id))[0]
    return place.folder / "data" / where.pack.hex()[:2] / where.pack.hex(), where.offset


@pytest.mark.parametrize("position", [0, 20, -1])
def test_a_flipped_bit_is_named(saved: Saved, position: int) -> None:
    """One bit anywhere in a stored note: the blob and its pack are named, exit code 5, and its neighbours still come."""
    place, notes, ids = saved
    path, offset = audio_pack(place, ids["note 2.opus"])
    length = len(notes["note 2.opus"]) + 32
    hurt(path, offset + position % length)
    repo = place.loaded()
    with pytest.raises(DamagedObject) as told:
        repo.load_blob("data", ids["note 2.opus"])
    assert told.value.name == ids["note 2.opus"]
    assert path.name[:16] in told.value.message
    assert repo.load_blob("data", ids["note 1.opus"]) == notes["note 1.opus"]
    with pytest.raises(DamagedObject):
        dict(repo.load_blobs("data", ids.values()))


@pytest.mark.parametrize("how", ["missing", "empty", "cut"])
def test_a_pack_that_is_gone_is_named(saved: Saved, how: str) -> None:
    """A missing, emptied or cut pack is told as damage of what lay in it."""
    place, _, ids = saved
    path, _ = audio_pack(place, ids["note 4.opus"])
    path.chmod(0o600)
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if how == "empty" else 40])
    with pytest.raises(DamagedObject, match=path.name[:16]):
        place.loaded().load_blob("data", ids["note 4.opus"])


def test_another_copy_heals(place: Place) -> None:
    """Where a note is stored twice, damage of one copy costs nothing: alone, in a batch, or when its pack is gone."""
    packs = []
    for other in (b"first", b"second"):
        id = place.forge.blob("data", b"twice")
        place.forge.blob("data", other)
        packs.append(place.forge.pack()[0])
    for pack in packs:
        path = place.folder / "data" / pack[:2] / pack
        good = path.read_bytes()
        for bad in (bytes(len(good)), b"", None):
            path.unlink() if bad is None else path.write_bytes(bad)
            repo = place.loaded()
            assert repo.load_blob("data", id) == b"twice"
            assert dict(repo.load_blobs("data", [id])) == {id: b"twice"}
        path.write_bytes(good)


def test_what_was_hurt_on_the_way_is_fetched_again(saved: Saved) -> None:
    """Bytes that arrive wrong once are asked for once more."""
    place, notes, ids = saved

    class Noisy(LocalDestination):
        calls = 0

        def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
            data = super().load(kind, name, offset, length)
            self.calls += 1
            return data if self.calls % 2 == 0 else data[:-1] + bytes([data[-1] ^ 1])

    noisy = Repository(Noisy(place.folder), place.repo._key, "", place.repo.config, place.repo.clock)
    noisy.load_index()
    assert len(noisy.snapshots()) == 1
    assert noisy.load_blob("data", ids["note 0.opus"]) == notes["note 0.opus"]


def test_a_compacted_repository_is_followed(saved: Saved) -> None:
    """When another program moves everything to new packs and a new index, reading goes on: the index is loaded once more."""
    place, notes, ids = saved
    repo = place.loaded()
    old = place.files("data") + place.files("index")
    for data in notes.values():
        place.forge.blob("data", data)
    place.forge.pack()
    for path in old:
        path.unlink()
    assert {name: repo.load_blob("data", id) for name, id in ids.items()} == notes
    assert not repo.has("data", "ab" * 32)
    assert len(list(repo.index.blobs())) == len(notes)


def test_what_others_write_meanwhile_is_found(saved: Saved) -> None:
    """A blob that another run stored after our index was loaded is found by loading the index again."""
    place, _, _ = saved
    repo = place.loaded()
    _, later = save_notes(place.again(), {"later": note(77)})
    assert not repo.has("data", later["later"])
    assert repo.load_blob("data", later["later"]) == note(77)


def test_lies_of_an_index_are_found_out(make_place: Maker) -> None:
    """An index with a wrong offset, length, kind or id gives an error, never wrong bytes and never endless memory."""
    lies: list[dict[str, Any]] = [{"offset": 1}, {"offset": 2**32 - 1}, {"length": 2**32 - 1}, {"length": 40}]
    lies += [{"uncompressed_length": 10}, {"id": "ef" * 32}]
    for number, lie in enumerate(lies):
        place = make_place(f"lie{number}")
        id = place.forge.blob("data", b"a note" * 10)
        name, described = place.forge.pack(index=False)
        described[0] |= lie
        place.forge.index({"packs": [{"id": name, "blobs": described}]})
        repo = place.loaded()
        wanted = str(lie.get("id", id))
        with pytest.raises(DamagedObject):
            repo.load_blob("data", wanted)
        with pytest.raises(DamagedObject):
            dict(repo.load_blobs("data", [wanted]))


def test_an_id_that_is_not_the_contents_hash_is_refused(place: Place) -> None:
    """A well-sealed blob under a wrong id is not given out."""
    place.forge.blob("data", b"something else", id="cd" * 32)
    place.forge.pack()
    with pytest.raises(DamagedObject, match="does not match its id"):
        place.loaded().load_blob("data", "cd" * 32)


BOMB = """
import sys
from backup_tool.destinations.local import LocalDestination
from backup_tool.models import Secret
from backup_tool.repository import Repository
from backup_tool.errors import IntegrityError
repo = Repository.open(LocalDestination(sys.argv[1]), Secret("pässword of the tests"))
repo.load_index()
for kind, id in (a.split(":") for a in sys.argv[2:]):
    try:
        repo.load_blob(kind, id)
        print("given out")
    except IntegrityError as error:
        print("refused")
# Not getrusage: its maximum is that of the process this one was forked from, too.
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux, to see how much memory was used")
def test_bombs_cost_little_memory(place: Place) -> None:
    """Small blobs that inflate to a gibibyte, told truly or not, are refused within 256 MiB of memory."""
    huge = 2**30
    compressor = zstandard.ZstdCompressor().compressobj(size=huge)
    zeros = bytes(2**20)
    bomb = b"".join(compressor.compress(zeros) for _ in range(huge // 2**20)) + compressor.flush()
    wanted = []
    for kind, raw in (("data", huge), ("tree", huge), ("data", 60_000_000), ("tree", 1000), ("data", 2**32 - 1)):
        id = place.forge.blob(kind, b"", id=sha(f"{kind}{raw}".encode()), packed=bomb, raw_length=raw)
        wanted.append(f"{kind}:{id}")
    place.forge.pack()
    run = subprocess.run([sys.executable, "-c", BOMB, place.folder, *wanted], capture_output=True, text=True, check=True)
    *told, peak = run.stdout.split("\n")[:-1]
    assert told == ["refused"] * 5
    assert int(peak) < 256


def test_trees_are_read_with_their_refused_names(place: Place) -> None:
    """Names that would leave the folder are reported beside the nodes that are fine."""
    id = place.forge.tree([node("../../etc/passwd"), node("fine"), node('bad"quote')], packed=True)
    place.forge.pack()
    tree = place.loaded().load_tree(id)
    assert [n.name for n in tree.nodes] == ["fine"]
    assert [problem.path for problem in tree.refused] == ["../../etc/passwd", 'bad"quote']


def test_a_tree_that_is_no_tree_is_named(place: Place) -> None:
    """A tree blob full of other JSON is damage of that tree."""
    id = place.forge.blob("tree", json.dumps({"nodes": 5}).encode())
    place.forge.pack()
    with pytest.raises(DamagedObject) as told:
        place.loaded().load_tree(id)
    assert (told.value.kind, told.value.name) == ("tree", id)


def test_mixed_packs_of_old_repositories_are_read(place: Place) -> None:
    """Trees and recordings in one pack, as format version 1 wrote them."""
    tree, data = place.forge.tree([node("a")]), place.forge.blob("data", b"audio")
    place.forge.pack()
    repo = place.loaded()
    assert repo.load_blob("data", data) == b"audio"
    assert repo.load_tree(tree).nodes[0].name == "a"


def test_snapshots_come_oldest_first(place: Place) -> None:
    """Sorted by the moment, whatever zone it is written in; plain JSON and unknown fields are read."""
    times = ["2026-01-02T12:00:00+09:00", "2026-01-02T03:30:00Z", "2026-01-01T23:00:00.5-05:00"]
    ids = [place.forge.snapshot("ab" * 32, time=time, label="rustic's") for time in times[1:]]
    ids.append(place.forge.sealed_json("snapshots", {"time": times[0], "tree": "ab" * 32}, packed=False))
    read = place.repo.snapshots()
    assert [snapshot.time for snapshot in read] == times
    assert {snapshot.id for snapshot in read} == set(ids)
    assert sorted(place.repo.snapshot_ids()) == sorted(ids)
    assert place.repo.load_snapshot(ids[0]).time == times[1]


@pytest.mark.parametrize("kind", ["snapshots", "index"])
@pytest.mark.parametrize("how", ["flipped", "empty", "cut", "swapped", "nonsense", "resealed"])
def test_damaged_small_files_are_named(saved: Saved, kind: str, how: str) -> None:
    """Each way to damage a snapshot or an index: its kind and name are told, exit code 5."""
    place, _, _ = saved
    (path,) = place.files(kind)
    name = path.name
    data = path.read_bytes()
    path.unlink()
    if how == "nonsense":
        name = place.forge.sealed_json(kind, b'{"packs":[{}],"time":7}')
    elif how == "resealed":  # sealed with another key: a swapped master key, or another repository's file
        other = (bytes(reversed(place.forge.secrets[0])), *place.forge.secrets[1:])
        place.forge.secrets = (other[0], place.forge.secrets[2], place.forge.secrets[1])
        name = place.forge.sealed_json(kind, {"packs": [], "time": "2026-01-02T03:04:05Z", "tree": "ab" * 32})
    else:
        (sibling,) = place.files("snapshots" if kind == "index" else "index")
        flipped = data[:40] + bytes([data[40] ^ 1]) + data[41:]
        place.forge.put(kind, {"flipped": flipped, "empty": b"", "cut": data[:-1], "swapped": sibling.read_bytes()}[how], name)
    with pytest.raises(DamagedObject) as told:
        place.again().snapshots() if kind == "snapshots" else place.loaded()
    assert (told.value.kind, told.value.name, told.value.exit_code) == (kind.removesuffix("s"), name, 5)


def test_an_index_that_is_rewritten_while_it_is_read(saved: Saved) -> None:
    """A file that vanishes between listing and reading is no damage: the list is read again."""
    place, _, ids = saved

    class Rewritten(LocalDestination):
        done = False

        def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
            if kind == "index" and not self.done:
                self.done = True
                place.forge.index({"packs": []})
                raise ObjectMissing(name)
            return super().load(kind, name, offset, length)

    repo = Repository(Rewritten(place.folder), place.repo._key, "", place.repo.config, place.repo.clock)
    repo.load_index()
    assert all(repo.has("data", id) for id in ids.values())


def test_looking_up_while_the_index_is_loaded(saved: Saved) -> None:
    """Threads may look up blobs while others load the index again."""
    place, _, ids = saved
    repo = place.loaded()
    stop = threading.Event()
    missed: list[str] = []

    def look() -> None:
        while not stop.is_set():
            missed.extend(id for id in ids.values() if not repo.has("data", id))

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(10):
        place.forge.blob("data", b"%d" % number)
        place.forge.pack()
        repo.load_index()
    stop.set()
    thread.join()
    assert not missed
    assert len(repo.index) == len(ids) + 12
