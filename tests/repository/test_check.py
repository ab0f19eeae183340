"""The check: silent about what is sound, exact about what is not, and never brought down by either."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import Unreachable, UsageError
from backup_tool.models import Progress
from backup_tool.repository import Finding, Repository
from backup_tool.repository.check import check
from tests.repository.conftest import Place, note, save_notes
from tests.repository.forge import node, seal, sha

Saved = tuple[Place, dict[str, bytes], dict[str, str]]
OURS = "backup 1.0"


def told(place: Place, **options: Any) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.kind, finding.name) for finding in check(place.again(), **options)]


def grave(place: Place, **options: Any) -> list[Finding]:
    return [finding for finding in check(place.again(), **options) if finding.severity != "hint"]


def test_a_sound_repository_gives_nothing_to_tell(saved: Saved) -> None:
    """No finding, with or without reading all data, and for an empty repository."""
    place, _, _ = saved
    assert check(place.again()) == check(place.again(), read_data=True) == []


def test_progress_is_told_in_bytes(saved: Saved) -> None:
    """Reading all data reports as many bytes as there are in packs."""
    place, _, _ = saved
    begun: list[tuple[str, int | None, str]] = []
    steps: list[int] = []

    class Seen(Progress):
        def begin(self, what: str, total: int | None = None, unit: str = "notes") -> None:
            begun.append((what, total, unit))

        def step(self, amount: int = 1) -> None:
            steps.append(amount)

    check(place.again(), read_data=True, progress=Seen())
    total = sum(path.stat().st_size for path in place.files("data"))
    assert begun[0] == ("reading packs", total, "bytes")
    assert sum(steps) == total + len(place.repo.snapshots()) * 5


def change(path: Path, data: bytes | None) -> None:
    path.chmod(0o600)
    path.unlink() if data is None else path.write_bytes(data)


WAYS: dict[str, Callable[[bytes], bytes | None]] = {
    "flipped first": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "flipped middle": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x80]) + data[len(data) // 2 + 1 :],
    "flipped last": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut": lambda data: data[:-1],
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zero tail": lambda data: data[:-40] + bytes(40),
    "longer": lambda data: data + b"x",
    "gone": lambda data: None,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["keys", "index", "snapshots", "data"])
def test_every_damage_is_found_and_named(saved: Saved, kind: str, way: str) -> None:
    """Each kind of file, damaged in each way: an error that names it (a missing snapshot or key can leave no trace)."""
    place, _, _ = saved
    for path in place.files(kind):
        data = path.read_bytes()
        change(path, WAYS[way](data))
        errors = [finding for finding in check(place.again(), read_data=True) if finding.severity == "error"]
        if way == "gone" and kind in ("keys", "snapshots"):
            assert errors == []
        elif way == "gone" and kind == "index":
            assert {finding.kind for finding in errors} == {"tree"}
        else:
            assert path.name in {finding.name for finding in errors}
        place.forge.put(kind, data, path.name)
    assert check(place.again(), read_data=True) == []


def test_a_swapped_pack_is_found(saved: Saved) -> None:
    """Two packs whose contents were exchanged are both told, even without reading them if their sizes differ."""
    place, _, _ = saved
    one, two = place.files("data")
    first, second = one.read_bytes(), two.read_bytes()
    change(one, second)
    change(two, first)
    for read_data in (False, True):
        found = check(place.again(), read_data=read_data)
        assert {one.name, two.name} <= {finding.name for finding in found if finding.severity == "error"}


def test_a_hurt_note_is_named_with_its_place(saved: Saved) -> None:
    """Damage of one recording names its pack, its id, and the file that needs it."""
    place, _, ids = saved
    where = place.loaded().index.find("data", bytes.fromhex(ids["note 3.opus"]))[0]
    path = place.folder / "data" / where.pack.hex()[:2] / where.pack.hex()
    data = bytearray(path.read_bytes())
    data[where.offset + 20] ^= 1
    change(path, bytes(data))
    assert check(place.again()) == []  # not read, not seen
    found = check(place.again(), read_data=True)
    assert ("error", "pack", path.name) in [(f.severity, f.kind, f.name) for f in found]
    (snapshot,) = place.repo.snapshots()
    needed = [f.message for f in found if f.name == ids["note 3.opus"]]
    assert any(f"/voice-notes/note 3.opus in snapshot {snapshot.id[:8]}" in message for message in needed)
    assert {f.name for f in found} == {path.name, ids["note 3.opus"]}


def test_a_part_of_the_data_is_the_same_part_every_time(place: Place) -> None:
    """The parts of a subset together read every pack once; damage is found by exactly one of them."""
    with place.repo.lock(), place.repo.writer(pack_size=1000) as writer:
        for number in range(40):
            writer.add("audio", note(number, 1000))
    victim = place.files("data")[7]
    data = victim.read_bytes()
    change(victim, WAYS["flipped first"](data))
    found = [bool(grave(place, subset=(part, 4))) for part in (1, 2, 3, 4)]
    assert found == [bool(grave(place, subset=(part, 4))) for part in (1, 2, 3, 4)]
    assert sum(found) == 1
    for wrong in ((0, 4), (5, 4), (1, 0)):
        with pytest.raises(UsageError):
            check(place.again(), subset=wrong)


@pytest.mark.parametrize("hurt", [1, 2, 3])
def test_what_was_hurt_on_the_way_is_no_damage(saved: Saved, hurt: int) -> None:
    """Of each object one answer arrives wrong (the header, the blobs, or what follows), and right when asked again: nothing is told."""
    place, _, _ = saved

    class Noisy(LocalDestination):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.calls: dict[str, int] = {}

        def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
            data = super().load(kind, name, offset, length)
            self.calls[name] = self.calls.get(name, 0) + 1
            return data[:-1] + bytes([data[-1] ^ 1]) if self.calls[name] == hurt else data

    repo = Repository(Noisy(place.folder), place.repo._key, "", place.repo.config, place.repo.clock)
    assert check(repo, read_data=True) == []


def test_a_network_that_is_away_is_no_damage(saved: Saved) -> None:
    """What the destination raises comes out as it is."""
    place, _, _ = saved

    class Away(LocalDestination):
        def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
            if kind == "data":
                raise Unreachable("no network")
            return super().load(kind, name, offset, length)

    with pytest.raises(Unreachable):
        check(Repository(Away(place.folder), place.repo._key, "", place.repo.config, place.repo.clock), read_data=True)


@pytest.mark.parametrize(
    ("polynomial", "sound"), [("25b468838dcb75", True), ("20000000000003", False), ("", False), ("zz", False), ("f" * 5000, False)]
)
def test_the_chunker_polynomial(place: Place, polynomial: str, sound: bool) -> None:
    """A polynomial that restic would refuse, making the whole archive unreadable to it, is told."""
    change(
        place.folder / "config",
        seal(place.forge.secrets, json.dumps({"version": 2, "id": "ab" * 32, "chunker_polynomial": polynomial}).encode()),
    )
    place.repo.config.chunker_polynomial, before = polynomial, place.repo.config.chunker_polynomial
    try:
        assert told(place) == ([] if sound else [("error", "config", "config")])
    finally:
        place.repo.config.chunker_polynomial = before


def index_of(place: Place, *changes: dict[str, Any]) -> None:
    """One pack of three notes, described with these changes to its blobs."""
    for number in range(3):
        place.forge.blob("data", note(number))
    name, described = place.forge.pack(index=False)
    for blob, change_to in zip(described, changes, strict=False):
        blob |= change_to
    place.forge.index({"packs": [{"id": name, "blobs": described}]})


@pytest.mark.parametrize("lie", [{"offset": 1}, {"offset": 3000}, {"length": 33}, {"length": 10**6}, {"uncompressed_length": 3008}])
def test_an_inexact_index_is_an_error(place: Place, lie: dict[str, Any]) -> None:
    """Gaps, overlaps, wrong lengths: found without reading a pack."""
    index_of(place, {}, lie)
    assert {finding.kind for finding in grave(place)} == {"pack"}


def test_a_wrong_id_in_the_index_is_found_by_reading(place: Place) -> None:
    """An index that names other blobs than the pack's own header is an error once packs are read."""
    index_of(place, {"id": "ef" * 32})
    assert grave(place) == []
    assert [finding.message for finding in grave(place, read_data=True) if "header and the index differ" in finding.message]


def test_packs_in_several_indexes(place: Place) -> None:
    """The same description twice is a hint; a pack that is split over two files, or described in two ways, is an error."""
    ids = [place.forge.blob("data", note(number)) for number in range(2)]
    name, described = place.forge.pack()
    place.forge.index({"packs": [{"id": name, "blobs": described}]})
    assert told(place, read_data=True) == [("hint", "pack", name)]
    place.forge.index({"packs": [{"id": name, "blobs": described[:1]}]})
    assert ("error", "pack", name) in told(place)
    assert len(ids) == 2


def test_hints(place: Place) -> None:
    """Packs that nothing names, and trees beside other blobs, cost space only."""
    place.forge.blob("data", b"loose")
    loose, _ = place.forge.pack(index=False)
    place.forge.tree([])
    place.forge.blob("data", b"beside")
    mixed, _ = place.forge.pack()
    assert sorted(told(place, read_data=True)) == sorted([("hint", "pack", loose), ("hint", "pack", mixed)])


def test_a_pack_that_another_program_will_delete_is_no_damage(place: Place) -> None:
    """rustic names packs it means to delete: present or gone already, they are fine."""
    place.forge.blob("data", b"doomed")
    name, described = place.forge.pack(index=False)
    place.forge.index({"packs": [], "packs_to_delete": [{"id": name, "blobs": described}, {"id": "ab" * 32, "blobs": []}]})
    assert told(place, read_data=True) == []


def with_tree(place: Place, nodes: list[dict[str, Any]] | None, program: str) -> list[Finding]:
    for fine in (b"hello voice", b"more"):
        place.forge.blob("data", fine)
    place.forge.pack()
    tree = place.forge.tree(nodes)
    place.forge.pack()
    place.forge.snapshot(tree, program_version=program)
    return grave(place)


HELLO = sha(b"hello voice")
BOTH_SEVERE: list[list[dict[str, Any]] | None] = [
    [node("a", content=None)],
    [node("a", type="dir")],
    [node("a", type="irregular")],
    [node("a", type="door")],
    [node('bare"quote')],
    [node("cut\\x1")],
    [node("a", mtime="yesterday")],
    [node("a", ctime="2026-13-01T00:00:00Z")],
    [node("a", content=["ef" * 32], size=4)],
    [node("a", content=["EF" * 32], size=4)],
    [node("a", type="dir", subtree="ef" * 32)],
    [node("a", type="dir", subtree="no hexadecimal digits at all, but of the length that an id has...")],
    [node("a", content="x")],
    [node("a", size="x")],
    None,
]


@pytest.mark.parametrize("program", [OURS, "restic 0.19.1"])
@pytest.mark.parametrize("nodes", BOTH_SEVERE, ids=lambda nodes: str(nodes)[:60])
def test_broken_trees_are_errors_whoever_wrote_them(place: Place, nodes: list[dict[str, Any]] | None, program: str) -> None:
    """Missing lists, trees and blobs, unknown types, names and times that stop other programs."""
    found = with_tree(place, nodes, program)
    assert [finding.severity for finding in found] == ["error"]


STRICT: list[list[dict[str, Any]]] = [
    [node("a", content=[HELLO], size=10)],
    [node("a", content=[HELLO], size=12)],
    [node("a", content=[HELLO])],
    [node("a", size=1)],
    [node("b"), node("a")],
    [node("a"), node("a")],
    [node("a/b")],
    [node("..")],
    [node("a\\x00b")],
    [node("\\x2e\\x2e")],
    [node("x" * 300)],
]


@pytest.mark.parametrize(("program", "severity"), [(OURS, "error"), ("restic 0.19.1", "warning"), ("", "warning")])
@pytest.mark.parametrize("nodes", STRICT, ids=lambda nodes: str(nodes)[:60])
def test_our_own_rules_are_errors_in_our_own_snapshots(place: Place, nodes: list[dict[str, Any]], program: str, severity: str) -> None:
    """Sizes, order and names that restic's check passes over: errors where we wrote them, warnings elsewhere."""
    found = with_tree(place, nodes, program)
    assert [finding.severity for finding in found] == [severity]


def test_what_is_odd_but_allowed(place: Place) -> None:
    """Links, devices, empty files, unknown fields, a file of two blobs, times with zones: nothing to tell."""
    nodes = [
        node("a", content=[HELLO, sha(b"more")], size=15), node("b"), node("c", type="symlink", linktarget="../x", content=None),
        node("d", type="fifo", content=None), node("e", new_field=[1], mtime="2026-01-01T00:00:00.123456789+05:30"), node("ünï \\u200e"),
    ]  # fmt: skip
    assert with_tree(place, nodes, OURS) == []


def test_each_tree_and_blob_is_told_once(place: Place) -> None:
    """A missing blob that a thousand files need is one finding, and so is a missing tree."""
    missing = [node(f"{number:04d}", content=["ef" * 32], size=4) for number in range(1000)]
    folders = [node(f"x{number:04d}", type="dir", subtree="cd" * 32) for number in range(1000)]
    assert sorted(finding.kind for finding in with_tree(place, missing + folders, OURS)) == ["blob", "tree"]


def test_endless_findings_are_cut_short(place: Place) -> None:
    """A repository that is wrong in ten thousand places gives a list that a person can take, and says how much is left out."""
    found = with_tree(place, [node(f"{number:05d}", content=None) for number in range(10_000)], OURS)
    assert len(found) < 2_100
    assert "8,000 more findings" in found[-1].message


def test_folders_that_lie_within_themselves_end(place: Place) -> None:
    """Three thousand levels of folders, as no person makes them, are told and not followed for ever; memory and stack hold."""
    tree = place.forge.tree([])
    for _ in range(3000):
        tree = place.forge.tree([node("deeper", type="dir", subtree=tree)])
    place.forge.pack()
    place.forge.snapshot(tree)
    assert ["too deep" in finding.message for finding in grave(place)] == [True]


@pytest.mark.parametrize("way", ["tree as data", "data as tree", "no json", "bomb"])
def test_blobs_that_are_not_what_they_are_named_for(place: Place, way: str) -> None:
    """A recording named as a tree, a tree that is none, or that inflates without end: one error, no crash."""
    text = b'{"nodes":[]}\n'
    if way == "tree as data":
        tree = place.forge.blob("data", text)
    elif way == "bomb":
        tree = place.forge.blob("tree", bytes(70 * 2**20), packed=True)
    else:
        tree = place.forge.blob("tree", b"audio, not a folder" if way == "data as tree" else b'{"nodes":' + b"[" * 100_000)
    place.forge.pack()
    place.forge.snapshot(tree, program_version=OURS)
    assert [(finding.severity, finding.kind, finding.name) for finding in grave(place)] == [("error", "tree", tree)]


def test_a_blob_beyond_all_measure_is_told_and_its_neighbours_are_read(place: Place) -> None:
    """A blob that nothing here would open is an error; what lies before and behind it in the pack is still verified."""
    before, huge = place.forge.blob("data", b"before"), place.forge.blob("data", bytes(65 * 2**20))
    behind = place.forge.blob("data", b"behind", id="ef" * 32)
    place.forge.pack()
    assert {finding.name for finding in grave(place, read_data=True)} == {huge, behind}
    assert place.loaded().load_blob("data", before) == b"before"


def test_hostile_names_cannot_steer_the_terminal(place: Place) -> None:
    """Names in findings are shown with control characters escaped."""
    found = with_tree(place, [node("\\x1b[2Jevil", content=None), node("\\u202egpj", content=None), node("\x1b[1m/", content=[])], OURS)
    assert len(found) == 3
    assert not any(set(finding.message) & set("\x1b\u202e\n") for finding in found)


def test_one_broken_snapshot_hides_no_other(saved: Saved) -> None:
    """A snapshot that cannot be read is told, and the rest of the repository is still looked at."""
    place, _, _ = saved
    broken = place.forge.sealed_json("snapshots", b'{"time":"never","tree":"x"}')
    save_notes(place.again(), {"other": note(99)})
    for path in place.files("data"):
        if path.stat().st_size > 10_000:
            change(path, None)
    kinds = {(finding.kind, finding.name) for finding in grave(place)}
    assert ("snapshot", broken) in kinds
    assert {"pack", "blob"} <= {kind for kind, _ in kinds}
