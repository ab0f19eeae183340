"""Stored bytes that rot: each kind of object, damaged in each way, is found and named, and costs no more than what it held."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability.world import World, add_notes, cheapen, hashes, new_world
from tests.repository.forge import seal, sha

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
    cheapen(world.repo)
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
        what = {path: {"tree" if type_ == "tree" else "audio" if id in notes else "catalog" for type_, id in blobs} for path, blobs in world.packs().items()}
        found = [path for path, kinds in what.items() if kinds == {kind}]
    assert len(found) == 2
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("which", [0, 1], ids=["older", "newer"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_probe(world: World, tmp_path: Path, kind: str, way: str, which: int) -> None:
    """probe"""
    two = objects(world, kind)
    path = two[which]
    WAYS[way](path, two[1 - which])
    notes = world.notes()
    out = []
    for words in (["check", "--read-data"], ["check"], ["list"], ["restore", "--to", tmp_path / "out"], ["run"], ["check", "--read-data"]):
        ended = world.start(*words).wait()
        named = path.name[:16] in ended.err or path.name[:8] in ended.err
        extra = ""
        if words[0] == "restore":
            got = hashes(tmp_path / "out") if (tmp_path / "out").exists() else Counter()
            extra = f"{sum(got.values())}/{sum(notes.values())}"
        out.append(f"{words[0]}={ended.code}{'n' if named else ''}{extra} [{ended.err.splitlines()[0][:110] if ended.err else ended.out.splitlines()[-1][:60]}]")
    with open("/tmp/s2/rot.txt", "a") as f:
        f.write(f"{kind} {way} {which}\n   " + "\n   ".join(out) + "\n")
