"""Stored bytes that rot: each kind of object, damaged in each way, is found and named, and costs no more than what it held."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.reliability.kills import MANY
from tests.reliability.world import PASSWORD, World, add_notes, hashes, new_world
from tests.repository.forge import cheapen, sha, unseal

Damage = Callable[[Path, Path], None]


def flip(path: Path, _: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    write(path, bytes(data))


def truncate(path: Path, _: Path) -> None:
    """The second half is gone."""
    data = path.read_bytes()
    write(path, data[: len(data) // 2])


def empty(path: Path, _: Path) -> None:
    """Nothing is left, as after a power cut."""
    write(path, b"")


def delete(path: Path, _: Path) -> None:
    """Somebody removed it."""
    path.unlink()


def swap(path: Path, sibling: Path) -> None:
    """It and another of its kind changed names."""
    one, other = path.read_bytes(), sibling.read_bytes()
    write(path, other)
    write(sibling, one)


def write(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


WAYS: dict[str, Damage] = {"flip": flip, "truncate": truncate, "empty": empty, "delete": delete, "swap": swap}
KINDS = ["config", "key", "snapshot", "index", "audio", "catalog", "tree"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An archive of two nights, so that there are two of every kind; the second one has new notes and a new chat folder."""
    world = new_world(tmp_path_factory.mktemp("rot") / "w", 12)
    world.backup("run")
    add_notes(world, 9)
    world.backup("run")
    second_key(world)
    return world


def second_key(world: World) -> None:
    """One more key file for the same password, as a second person would add."""
    (only,) = world.objects("keys")
    kept = only.read_bytes()
    cheapen(world.repo, PASSWORD)
    (world.repo / "keys" / only.name).write_bytes(kept)


@pytest.fixture
def world(whole: World, tmp_path: Path) -> World:
    """The test's own copy."""
    return whole.copy(tmp_path / "w")


def objects(world: World, kind: str) -> list[Path]:
    """The objects of a kind, those of the first night first. `audio`, `catalog` and `tree` are packs."""
    if kind == "config":
        return [world.repo / "config", world.objects("keys")[0]]
    if kind in ("key", "snapshot", "index"):
        found = world.objects({"key": "keys", "snapshot": "snapshots"}.get(kind, kind))
    else:
        notes = world.notes()
        what = {
            path: {"tree" if type_ == "tree" else "audio" if id in notes else "catalog" for type_, id in blobs}
            for path, blobs in world.packs().items()
        }
        found = [path for path, kinds in what.items() if kinds == {kind}]
    assert len(found) == 2
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


CASES = [(kind, way, 1 if kind != "config" else 0) for kind in KINDS for way in WAYS]
# How reading and running may end with damage of that kind: going on with the rest, or not at all.
ENDS: dict[str, tuple[int, ...]] = {
    "config": (5, 10), "key": (0, 5), "snapshot": (0, 3, 5), "index": (0, 3, 5), "audio": (0, 5), "catalog": (5,), "tree": (0, 5),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "way", "which"), CASES, ids=lambda part: str(part))
def test_damage_is_named_and_no_note_comes_back_wrong(world: World, tmp_path: Path, kind: str, way: str, which: int) -> None:
    """`check` names what is damaged; `list`, `restore` and `run` go on with the rest, or say in one line why they cannot."""
    two = objects(world, kind)
    if (kind, way) == ("key", "delete"):
        two[1 - which].unlink()  # one of two is missed by nobody
    WAYS[way](two[which], two[1 - which])

    told = world.backup("check", "--read-data", code=10 if (kind, way) == ("config", "delete") else 5)
    assert any(name in told.err for name in names_to_be_told(world, kind, way, two, which)), told.err
    world.backup("list", code=ENDS[kind])
    restored = world.backup("restore", "--to", tmp_path / "out", code=ENDS[kind])
    given = hashes(tmp_path / "out") if (tmp_path / "out").exists() else Counter()
    assert given <= world.notes()
    # A removed snapshot leaves no trace in the archive: that it is gone is for `check` to say, which remembers it.
    assert restored.code or given == world.notes() or (kind, way, which) == ("snapshot", "delete", 1)
    world.backup("run", code=ENDS[kind])


def names_to_be_told(world: World, kind: str, way: str, two: list[Path], which: int) -> list[str]:
    """What the report of `check` must hold: one of these."""
    if (kind, way) == ("key", "delete"):
        return ["error: the repository has no key files: nothing can open it"]
    if (kind, way) == ("config", "delete"):
        return [f"error: no repository at {world.repo}"]
    if (kind, way) == ("index", "delete"):  # its name is known nowhere; the snapshots that cannot be read without it are told
        return [f"snapshot {path.name[:8]}" for path in world.objects("snapshots")]
    return [path.name[:16] for path in (two if way == "swap" else [two[which]])]


@pytest.mark.parametrize(("way", "which"), [("flip", 0), ("flip", 1), ("truncate", 0), ("empty", 1), ("delete", 0)])
def test_a_damaged_audio_pack_costs_its_own_notes_alone(world: World, tmp_path: Path, way: str, which: int) -> None:
    """Every note outside the damage comes back, exit 5, each of the others is named; by extract, one that is whole comes back as ever."""
    path = objects(world, "audio")[which]
    inside = [id for _, id in world.packs()[path]]
    WAYS[way](path, path)
    lost = {"flip": 1, "truncate": 1 + len(inside) // 2, "empty": len(inside), "delete": len(inside)}[way]
    ended = world.backup("restore", "--to", tmp_path / "out", "--json", code=5)
    document = json.loads(ended.out)
    whole = hashes(tmp_path / "out")
    assert world.notes() - whole == Counter(set(world.notes()) - set(whole))
    assert 0 < sum((world.notes() - whole).values()) <= lost
    assert set(world.notes() - whole) <= set(inside)
    assert len(document["errors"]) == sum((world.notes() - whole).values())
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".part")]
    damaged = next(iter(world.notes() - whole))
    world.backup("extract", damaged, "--to", tmp_path / "one", code=5)
    assert not (tmp_path / "one").exists()
    world.backup("extract", next(iter(whole)), "--to", tmp_path / "other")


@pytest.mark.parametrize("kind", ["snapshot", "index"])
@pytest.mark.parametrize("way", ["flip", "truncate", "empty"])
def test_one_damaged_snapshot_or_index_keeps_nothing_else_back(world: World, tmp_path: Path, kind: str, way: str) -> None:
    """Where the first night's snapshot or index is damaged, everything comes back all the same, with exit 5 and its name."""
    path = objects(world, kind)[0]
    WAYS[way](path, path)
    ended = world.backup("restore", "--to", tmp_path / "out", code=5)
    assert f"{kind} {path.name[:16]}" in ended.err
    assert hashes(tmp_path / "out") == world.notes()
    some = next(iter(world.notes()))
    world.backup("extract", some, "--to", tmp_path / "one.opus", code=5)
    assert sha((tmp_path / "one.opus").read_bytes()) == some


@pytest.mark.parametrize("kind", ["catalog", "tree"])
def test_where_the_newest_night_cannot_be_read_the_one_before_can(world: World, tmp_path: Path, kind: str) -> None:
    """With the newest catalog or folders damaged, each earlier snapshot is still given back whole, by its id."""
    first = str(world.documents("snapshots")[0]["id"])
    path = objects(world, kind)[1]
    truncate(path, path)
    world.backup("restore", "--to", tmp_path / "no", code=5)
    world.backup("restore", "--snapshot", first, "--to", tmp_path / "out")
    assert sum(hashes(tmp_path / "out").values()) == 12


@pytest.mark.parametrize(("way", "which"), [("truncate", 0), ("empty", 1), ("delete", 0), ("delete", 1)])
def test_the_next_run_stores_again_what_is_gone(world: World, way: str, which: int) -> None:
    """A note whose audio is gone from the archive and is on the phone still is stored again by the next ordinary run, once."""
    path = objects(world, "audio")[which]
    WAYS[way](path, path)
    done = json.loads(world.backup("run", "--json").out)
    assert done["new"] == 0
    assert done["bytes_read"] > 20_000
    assert world.restored("out") == world.notes()
    again = json.loads(world.backup("run", "--json").out)
    assert (again["bytes_read"], again["bytes_added"]) == (0, 0)


@pytest.mark.parametrize("which", [0, 1], ids=["older", "newer"])
def test_the_next_run_finds_what_a_lost_index_named(world: World, which: int) -> None:
    """Packs whose index is gone are looked into by the next run: everything is there again, and nothing is sent twice."""
    objects(world, "index")[which].unlink()
    done = json.loads(world.backup("run", "--json").out)
    assert (done["new"], done["bytes_read"]) == (0, 0)
    world.backup("check", "--read-data")
    assert world.stored_twice() == 0
    assert world.restored("out") == world.notes()


def test_what_another_program_means_to_delete_is_stored_again(tmp_path: Path) -> None:
    """Packs that an index names as about to be deleted are not built upon, by the run itself or by its workers."""
    world = new_world(tmp_path / "w", MANY, seconds=1, database=False)
    world.backup("run")
    (index,) = world.objects("index")
    packs = json.loads(inflated(unseal(world.secrets(), index.read_bytes())))["packs"]
    audio = [pack for pack in packs if len(pack["blobs"]) > 100]
    assert sum(len(pack["blobs"]) for pack in audio) == MANY
    index.unlink()
    world.forge().index({"packs": [pack for pack in packs if pack not in audio], "packs_to_delete": audio})
    world.backup("run")
    for pack in audio:
        (world.repo / "data" / pack["id"][:2] / pack["id"]).unlink()
    assert world.restored("out") == world.notes()


def inflated(plain: bytes) -> bytes:
    """A sealed file's JSON."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(plain[1:])


def test_a_run_says_what_is_gone_for_good_and_what_healed(world: World) -> None:
    """A lost pack whose notes are on the phone is a warning; notes that only it had are named, exit 5, every night until they are back."""
    path, other = objects(world, "audio")
    kept, before = path.read_bytes(), set(world.objects("data"))
    path.unlink()
    healed = world.backup("run")
    assert "stored elsewhere in the archive" in healed.err
    again = max(set(world.objects("data")) - before, key=lambda pack: pack.stat().st_size)
    for file in [*world.store.rglob("*.opus"), other, again]:
        file.unlink()
    lost = json.loads(world.backup("run", "--json", code=5).out)
    assert {"its audio is gone from the archive, and no source has it"} < {error["reason"] for error in lost["errors"]}
    path.write_bytes(kept)
    fewer = json.loads(world.backup("run", "--json", code=5).out)
    assert 0 < len(fewer["errors"]) < len(lost["errors"])


def test_a_damaged_catalog_costs_names_and_no_note(world: World, tmp_path: Path) -> None:
    """Where a month's catalog cannot be read, its notes are listed and given back all the same, by what the folders tell; exit 5."""
    ids = sorted(str(record["id"]) for record in world.documents("list"))
    damaged = 0
    for pack in sorted(world.objects("data"), key=lambda path: path.stat().st_size):
        whole = pack.read_bytes()
        _damage(pack, whole)
        listed = world.backup("list", "--json", code=(0, 5))
        if listed.code == 5 and "names and times of its notes are lost" in listed.err:
            damaged += 1
            assert sorted(record["id"] for record in json.loads(listed.out)) == ids
            assert world.restored(f"out{damaged}", code=5) == world.notes()
        pack.chmod(0o600)
        pack.write_bytes(whole)
    assert damaged


def _damage(path: Path, whole: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
