"""An archive that somebody with the password made to do harm: nothing leaves the target, nothing eats the machine, the rest comes back.

Trees, indexes and catalogs are written by hand through the tests' own crypto; the program reads them as it reads any.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.generators.ogg import opus_note
from tests.reliability.world import World, files, new_world
from tests.repository.forge import Forge, node, sha

MOST_MEMORY = 512 * 2**20
MOST_SECONDS = 30.0
BOMB = 640 * 2**20
GOOD = opus_note(1, 1)
EVIL = b"what must not get out"
OURS = {"program_version": "backup 9", "paths": ["/voice-notes"], "hostname": "machine"}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An empty archive."""
    return new_world(tmp_path_factory.mktemp("hostile") / "w", 1)


@pytest.fixture
def world(bare: World, tmp_path: Path) -> World:
    """The test's own, and beside it a file that must stay what it is."""
    world = bare.copy(tmp_path / "w")
    (tmp_path / "precious").write_bytes(b"mine")
    return world


def file(forge: Forge, name: str, data: bytes, **lies: Any) -> dict[str, Any]:
    """A file of a tree; `lies` stand in place of the truth."""
    return node(name, **({"size": len(data), "content": [forge.blob("data", data)]} | lies))


def folder(forge: Forge, name: str, nodes: list[dict[str, Any]], **lies: Any) -> dict[str, Any]:
    return node(name, **({"type": "dir", "subtree": forge.tree(nodes)} | lies))


def attack(world: World, tmp_path: Path, *, codes: tuple[int, ...] = (3, 5), unread: tuple[int, ...] = ()) -> list[str]:
    """Do with it all that people do: the one good note comes back in spite of everything. Returns what was complained of.

    `codes` are how commands may end that meet the harm; `unread` more of them for those that do not read the audio.
    """
    before = everything_but(tmp_path, world)
    told = []
    for words, allowed in (
        (["list"], codes + unread),
        (["restore", "--to", tmp_path / "out"], codes), (["restore", "--to", tmp_path / "original", "--layout", "original"], codes),
        (["extract", sha(GOOD), "--to", tmp_path / "one.opus", "--overwrite"], (0, 3, 5)), (["check", "--read-data"], (5,)),
    ):  # fmt: skip
        ended = world.backup(*words, code=allowed)
        assert ended.seconds < MOST_SECONDS, words
        assert ended.peak < MOST_MEMORY, (words, ended.peak)
        assert ended.code == 0 or ended.err.strip(), words
        told.append(ended.err)
        if words[0] == "restore":
            target = tmp_path / ("original" if "original" in words else "out")
            look_harmless(target)
            assert sha(GOOD) in {sha(path.read_bytes()) for path in files(target)}, ended
    assert (tmp_path / "one.opus").read_bytes() == GOOD
    (tmp_path / "one.opus").unlink()
    assert everything_but(tmp_path, world) == before
    return told


def everything_but(tmp_path: Path, world: World) -> dict[str, bytes | str]:
    """All that is around the targets, links too."""
    found: dict[str, bytes | str] = {}
    for above, folders, names in os.walk(tmp_path):
        folders[:] = [name for name in folders if Path(above, name) not in (world.root, tmp_path / "out", tmp_path / "original")]
        for name in (*names, *folders):
            path = Path(above, name)
            found[str(path)] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


def look_harmless(target: Path) -> None:
    """Only files and folders of the owner alone, and no half ones."""
    for path in target.rglob("*"):
        mode = path.lstat().st_mode
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode), path
        assert stat.S_IMODE(mode) in (0o600, 0o700), path
        assert not path.name.endswith(".part")
        assert stat.S_ISDIR(mode) or path.read_bytes() != EVIL, path


# --- names --------------------------------------------------------------------------------------------------------------------------------

NAMES = [
    "..", "/etc/evil.opus", "a/../../evil.opus", "a/b.opus", ".", "", "a\\x00b.opus", "x" * 10_000 + ".opus", "x" * 251 + ".opus",
    "a\\qb.opus", 'a"b.opus', "..\\x2f..\\x2fevil.opus",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "dir"])
def test_a_name_that_leads_elsewhere_is_refused(world: World, tmp_path: Path, kind: str) -> None:
    """A file or folder whose name is no plain name is named and left out, never cleaned; the note beside it comes back."""
    forge = world.forge()
    inner = file(forge, "inner.opus", EVIL)
    evil = [file(forge, name, EVIL) if kind == "file" else folder(forge, name, [inner]) for name in NAMES]
    forge.snapshot(forge.tree([*evil, file(forge, "good.opus", GOOD)]), **OURS)
    forge.pack()
    told = attack(world, tmp_path, codes=(3,))
    assert told[0].count("its name is ") + told[0].count("its name holds ") == len(NAMES)


def test_two_of_one_name_and_a_link_before_its_child(world: World, tmp_path: Path) -> None:
    """A link and then a folder of its name, twins, a set-id file and a device: nothing is followed or made, both twins come back."""
    forge = world.forge()
    twins = [file(forge, "twin.opus", b"one" * 50), file(forge, "twin.opus", b"two" * 50), file(forge, "TWIN.opus", b"three" * 50)]
    links = [
        node("out", type="symlink", linktarget="/", content=None),
        folder(forge, "out", [file(forge, "child.opus", b"child" * 20)]),
        node("precious.opus", type="symlink", linktarget=str(tmp_path / "precious"), content=None),
        file(forge, "precious.opus", b"other" * 20),
        file(forge, "set-id.opus", EVIL, mode=0o755 | 1 << 23),
        node("zero.opus", type="chardev", device=261, content=None),
        node("pipe.opus", type="fifo", content=None),
        node("odd.opus", type="portal", content=None),
    ]
    forge.snapshot(forge.tree([*twins, *links, file(forge, "good.opus", GOOD)]), **OURS)
    forge.pack()
    told = attack(world, tmp_path)
    for name in ("out", "precious.opus", "set-id.opus", "zero.opus", "pipe.opus", "odd.opus"):
        assert f"  {name}: left out: " in told[0]
    given = {path.read_bytes() for path in files(tmp_path / "original")}
    assert {b"one" * 50, b"two" * 50, b"three" * 50, b"child" * 20, b"other" * 20, GOOD} == given - {b""}


# --- sizes and references -----------------------------------------------------------------------------------------------------------------

Harm = Callable[[Forge], list[dict[str, Any]]]


def huge(forge: Forge) -> list[dict[str, Any]]:
    return [file(forge, "evil.opus", EVIL, size=2**60)]


def huge_of_two(forge: Forge) -> list[dict[str, Any]]:
    return [file(forge, "evil.opus", EVIL, size=2**60, content=[forge.blob("data", EVIL), forge.blob("data", b"more")])]


def smaller(forge: Forge) -> list[dict[str, Any]]:
    return [file(forge, "evil.opus", EVIL, size=3)]


def none_missing(forge: Forge) -> list[dict[str, Any]]:
    return [file(forge, "evil.opus", EVIL, size=30, content=[])]


def missing_blob(forge: Forge) -> list[dict[str, Any]]:
    return [file(forge, "evil.opus", EVIL, content=["ab" * 32]), file(forge, "worse.opus", EVIL, content=["ab" * 32, "cd" * 32])]


def missing_tree(forge: Forge) -> list[dict[str, Any]]:
    return [folder(forge, "evil", [], subtree="ab" * 32)]


def tree_as_data(forge: Forge) -> list[dict[str, Any]]:
    return [file(forge, "evil.opus", EVIL, content=[forge.tree([file(forge, "x", b"x")])])]


def data_as_tree(forge: Forge) -> list[dict[str, Any]]:
    return [folder(forge, "evil", [], subtree=forge.blob("data", b'{"nodes":[ ]}\n'))]


def not_json(forge: Forge) -> list[dict[str, Any]]:
    return [folder(forge, "evil", [], subtree=forge.blob("tree", b"\x00\xff not JSON"))]


def wrong_shape(forge: Forge) -> list[dict[str, Any]]:
    return [
        folder(forge, f"evil {number}", [], subtree=forge.blob("tree", json.dumps(shape).encode())) for number, shape in enumerate(SHAPES)
    ]


SHAPES: list[Any] = [7, [], {"nodes": 7}, {"nodes": [7]}, {"nodes": [{"name": 7, "type": "file"}]}, {"nodes": [{"name": "x"}]}, {}]


def wrong_ids(forge: Forge) -> list[dict[str, Any]]:
    return [file(forge, "evil.opus", EVIL, content=["zz" * 32]), folder(forge, "worse", [], subtree="AB" * 32)]


def brackets(forge: Forge) -> list[dict[str, Any]]:
    return [folder(forge, "evil", [], subtree=forge.blob("tree", b"[" * 200_000))]


def lying_id(forge: Forge) -> list[dict[str, Any]]:
    forge.blob("data", EVIL, id="ab" * 32)
    return [file(forge, "evil.opus", EVIL, content=["ab" * 32])]


def bombs(forge: Forge) -> list[dict[str, Any]]:
    """Compressed blobs that grow beyond the memory allowed: as a folder, and as a note, with true and with false lengths in the index."""
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(BOMB))
    honest = forge.blob("data", b"", id="a1" * 32, packed=bomb, raw_length=BOMB)
    liar = forge.blob("data", b"", id="a2" * 32, packed=bomb, raw_length=1000)
    tree = forge.blob("tree", b"", id="a3" * 32, packed=bomb, raw_length=60 * 2**20)
    return [
        file(forge, "evil.opus", EVIL, size=BOMB, content=[honest]),
        file(forge, "worse.opus", EVIL, size=1000, content=[liar]),
        folder(forge, "evil", [], subtree=tree),
    ]


def many_times(forge: Forge) -> list[dict[str, Any]]:
    """A small blob a hundred thousand times, as a note of five bytes."""
    return [file(forge, "evil.opus", EVIL, size=5, content=[forge.blob("data", bytes(40))] * 100_000)]


HARMS: list[Harm] = [
    huge, huge_of_two, smaller, none_missing, missing_blob, missing_tree, tree_as_data, data_as_tree, not_json, wrong_shape, wrong_ids,
    brackets, lying_id, bombs, many_times,
]  # fmt: skip


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_a_lie_about_content_costs_only_the_liar(world: World, tmp_path: Path, harm: Harm) -> None:
    """Sizes, ids and folders that lie are named; nothing of them is written; the note beside them comes back."""
    forge = world.forge()
    forge.snapshot(forge.tree([*harm(forge), file(forge, "good.opus", GOOD)]), **OURS)
    forge.pack()
    attack(world, tmp_path, unread=(0,) if harm is lying_id else ())


def test_folders_three_thousand_deep(world: World, tmp_path: Path) -> None:
    """Folders within folders beyond all reason are left out by name; the note at the top comes back."""
    forge = world.forge()
    inner = forge.tree([file(forge, "evil.opus", EVIL)])
    for _ in range(3000):
        inner = forge.tree([node("d", type="dir", subtree=inner)])
    forge.snapshot(forge.tree([node("d", type="dir", subtree=inner), file(forge, "good.opus", GOOD)]), **OURS)
    forge.pack()
    attack(world, tmp_path)


def bomb_snapshot(forge: Forge) -> None:
    forge.sealed_json("snapshots", b"{" + b" " * BOMB)


def bomb_index(forge: Forge) -> None:
    forge.sealed_json("index", b'{"packs":[' + b" " * BOMB)


def shapeless_snapshot(forge: Forge) -> None:
    forge.sealed_json("snapshots", {"time": "yesterday", "tree": 7})


def shapeless_index(forge: Forge) -> None:
    forge.sealed_json("index", {"packs": [{"id": "..", "blobs": [{"id": "/", "type": "x", "offset": -1, "length": 2**70}]}]})


def crowded_index(forge: Forge) -> None:
    """A hundred thousand blobs in a pack that does not exist."""
    blobs = [{"id": f"{n:064x}", "type": "data", "offset": n * 50, "length": 50} for n in range(100_000)]
    forge.index({"packs": [{"id": "ab" * 32, "blobs": blobs}]})


@pytest.mark.parametrize("harm", [bomb_snapshot, bomb_index, shapeless_snapshot, shapeless_index, crowded_index], ids=lambda h: h.__name__)
def test_a_hostile_snapshot_or_index_beside_a_good_one(world: World, tmp_path: Path, harm: Callable[[Forge], None]) -> None:
    """What another machine put beside our own cannot take more than it is given; what is good comes back."""
    forge = world.forge()
    forge.snapshot(forge.tree([file(forge, "good.opus", GOOD)]), **OURS)
    forge.pack()
    harm(forge)
    attack(world, tmp_path, codes=(0, 3, 5))


# --- catalogs -----------------------------------------------------------------------------------------------------------------------------


def record(data: bytes, **lies: Any) -> dict[str, Any]:
    """A record of a note as this program writes it; `lies` stand in place of the truth."""
    known = {
        "id": sha(data), "blobs": [sha(data)], "size": len(data), "media_type": "audio/ogg", "kind": "voice", "chat": "Family",
        "chat_id": "1@g.us", "message_id": sha(data)[:8], "sender": "Anna", "sent_at": "2026-03-03T14:05:00Z", "sent_at_from": "message",
        "duration": 1.0, "original_path": "Media/WhatsApp Voice Notes/202610/good.opus", "found": [{"source": "phone", "path": "g.opus"}],
        "path": "/voice-notes/phone/notes/Family 1234/2026-03/good.opus", "first_seen": "2026-03-04T00:00:00Z",
    }  # fmt: skip
    return known | lies


def archive(forge: Forge, lines: bytes, chats: bytes = b"", deleted: bytes = b"") -> None:
    """A snapshot of ours with that catalog."""
    forge.blob("data", GOOD)
    forge.blob("data", EVIL)
    catalog = [file(forge, "2026-03.jsonl", lines)]
    catalog += [file(forge, name, data) for name, data in (("chats.jsonl", chats), ("deleted.jsonl", deleted)) if data]
    notes = folder(forge, "notes", [folder(forge, "Family 1234", [folder(forge, "2026-03", [file(forge, "good.opus", GOOD)])])])
    phone = folder(forge, "phone", [folder(forge, "catalog", catalog), notes])
    forge.snapshot(forge.tree([folder(forge, "voice-notes", [phone])]), **OURS)
    forge.pack()


def jsonl(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in records)


LIES: list[dict[str, Any]] = [
    {"chat": "../../../evil"}, {"chat": "/etc/evil"}, {"chat": "\x1b[2J\u202e\n"}, {"chat": ".."}, {"chat": "a\0b"}, {"chat": ""},
    {"sender": "../../evil"}, {"sender": "a\nBcc: b@c"}, {"sender": "/"}, {"path": "/../../evil.opus"}, {"path": "evil"}, {"path": ""},
    {"original_path": "../../../../evil.opus"}, {"original_path": "/etc/evil.opus"}, {"original_path": "a\0b.opus"}, {"original_path": ""},
    {"original_path": "d/" * 3000 + "x.opus"}, {"original_path": "..\\..\\x"}, {"id": "ab" * 32}, {"id": "../../evil"}, {"id": None},
    {"id": ""}, {"blobs": ["ab" * 32]}, {"blobs": ["../../../../etc/passwd"]}, {"blobs": ["AB" * 32]}, {"blobs": ["ab"]}, {"blobs": None},
    {"blobs": []}, {"blobs": ["\u00e9" * 64]}, {"blobs": [sha(EVIL), sha(EVIL)]}, {"size": 2**60}, {"size": 2**62}, {"size": 3},
    {"size": -5},
    {"size": None}, {"sent_at": "soon"}, {"sent_at": "9999-12-31T23:59:59Z"}, {"sent_at": "0001-01-01T00:00:00Z"}, {"sent_at": ""},
    {"sent_at": "2026-13-45T99:99:99Z"}, {"sent_at": "2026-03-03"}, {"sent_at": "2026-03-03T14:05:00"}, {"sent_at": "\x1b[2J"},
    {"sent_at": "garbage", "sent_at_from": "name"}, {"sent_at": None, "mtime_ns": 2**62}, {"sent_at": None, "mtime_ns": -(2**62)},
    {"duration": 1e308}, {"duration": -1e300}, {"media_type": "audio/ogg\nBcc: x@y", "original_path": "noname"},
    {"first_seen": "\x1b]0;x\x07"},
    {"message_id": "\x1b[2J"}, {"chat_id": "../x"}, {"found": []}, {"found": [{"source": "../x", "path": "../y"}] * 1000},
    {"zone": "../../x"},
    {"transcript": {"text": "\x1b[2J", "language": "../x"}}, {"kind": "video", "media_type": "text/html"}, {"missing_since": "never"},
]  # fmt: skip
LONG: list[dict[str, Any]] = [
    {"transcript": {"text": "x" * 10_000_000}}, {"chat": "x" * 300_000}, {"original_path": "é" * 300_000},
    {"blobs": [sha(EVIL)] * 50_000},
]  # fmt: skip


def lying(lies: list[dict[str, Any]]) -> bytes:
    """The good note's record, and one for each of these lies about a note that is there."""
    honest = [record(EVIL, message_id=str(number), original_path=f"Media/{number}.opus") for number in range(len(lies))]
    return jsonl(record(GOOD), *(one | lie for one, lie in zip(honest, lies, strict=True)))


@pytest.mark.parametrize("lies", [LIES, LONG], ids=["all", "long"])
def test_lying_records_harm_nobody(world: World, tmp_path: Path, lies: list[dict[str, Any]]) -> None:
    """Whatever records say, they stay inside the target and within bounds; no wrong note is ever given back, and the good one is."""
    archive(world.forge(), lying(lies))
    before = everything_but(tmp_path, world)
    (tmp_path / "out").mkdir()
    for words in (
        ["list"], ["list", "--json"], ["list", "--since", "2026-01-01"], ["chats"], ["search", "evil"],
        ["restore", "--to", tmp_path / "out"],
        ["restore", "--to", tmp_path / "original", "--layout", "original"], ["check"], ["snapshots"],
        ["extract", sha(GOOD), "--eml", tmp_path / "out/good.eml"], ["extract", sha(EVIL), "--eml", tmp_path / "out/evil.eml"],
        ["extract", sha(EVIL), "--to", tmp_path / "out"],
    ):  # fmt: skip
        ended = world.backup(*words, code=(0, 2, 3, 5) if words[0] == "extract" else 5 if words[0] in ("restore", "check") else 0)
        assert ended.seconds < MOST_SECONDS, words
        assert ended.peak < MOST_MEMORY, (words, ended.peak)
    for target in (tmp_path / "out", tmp_path / "original"):
        given = {sha(path.read_bytes()) for path in files(target) if path.suffix != ".eml"}
        assert given == {sha(GOOD), sha(EVIL)}
        for path in target.rglob("*"):
            assert path.name.isprintable()
            assert not path.is_symlink()
    assert everything_but(tmp_path, world) == before


BROKEN = {
    "no JSON": b"not JSON\n", "wrong types": jsonl(record(GOOD, size="many", blobs=7)), "list": b"[1, 2]\n", "deep": b"[" * 200_000 + b"\n",
    "NUL": b"\0" * 1000 + b"\n", "number": b'{"size": 1e999}\n', "kind": jsonl(record(GOOD, kind="evil")),
    "digits": b'{"size": ' + b"9" * 400 + b"}\n", "time as number": jsonl(record(GOOD, sent_at=7)), "surrogate": b'{"chat": "\\ud800"}\n',
}  # fmt: skip


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN.keys())
def test_a_catalog_that_is_none_is_said_to_be_damaged(world: World, tmp_path: Path, line: bytes) -> None:
    """A line that is no record is told in one line, exit 5, by all that read it."""
    archive(world.forge(), jsonl(record(GOOD)) + line)
    for words in (["list"], ["restore", "--to", tmp_path / "out"], ["check"]):
        ended = world.backup(*words, code=5)
        assert ended.peak < MOST_MEMORY


def test_records_that_are_told_twice_are_one_note_or_two_files(world: World, tmp_path: Path) -> None:
    """A record repeated a thousand times, and many notes of one name: each comes back under a name of its own."""
    twins = [record(data, message_id=str(number)) for number, data in enumerate([GOOD] * 5 + [EVIL] * 5)]
    archive(world.forge(), jsonl(*[record(GOOD)] * 1000, *twins))
    for layout in ("chat", "original"):
        world.backup("restore", "--to", tmp_path / layout, "--layout", layout, code=(0, 3))
        assert {sha(path.read_bytes()) for path in files(tmp_path / layout)} == {sha(GOOD), sha(EVIL)}
    world.backup("check", code=5)


def test_a_hostile_list_of_chats(world: World, tmp_path: Path) -> None:
    """Titles that could fool a terminal or lead elsewhere are shown escaped, and restoring by chat stays inside the target."""
    titles = ["\x1b[2J", "../../evil", "a\nb", "\u202eabc", "x" * 1_000_000, ""]
    chats = jsonl({"chat_id": "1@g.us", "titles": titles, "folder": "../../evil"}, {"chat_id": "\x1b]0;x\x07", "titles": ["Family"]})
    archive(world.forge(), jsonl(record(GOOD)), chats)
    world.backup("chats")
    world.backup("list", "--chat", "Family", code=(0, 2))
    world.backup("list", "--chat", "nobody", code=2)
    world.backup("restore", "--chat", "1@g.us", "--to", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Family"]
    world.backup("run")


# --- a target that is a trap --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["chat", "original"])
def test_links_in_the_target_are_never_followed(world: World, tmp_path: Path, layout: str) -> None:
    """Links that lie in the target already, in place of a folder or of a file, lead nowhere: what is behind them stays as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    archive(world.forge(), jsonl(record(GOOD)))
    target = tmp_path / "target"
    world.backup("restore", "--to", target, "--layout", layout)
    (path,) = files(target)
    for place in (path, *path.relative_to(target).parents):
        where = target / place
        if where == target:
            continue
        shutil.rmtree(target)
        where.parent.mkdir(parents=True)
        where.symlink_to(outside if where != path else tmp_path / "precious")
        for more in ([], ["--overwrite"]):
            ended = world.backup("restore", "--to", target, "--layout", layout, *more, code=0 if more and where == path else 3)
            assert "error: " not in ended.err  # told as something left out or renamed, not as a failure of the whole
            assert list(outside.iterdir()) == []
            assert (tmp_path / "precious").read_bytes() == b"mine"
    world.backup("extract", sha(GOOD), "--to", tmp_path / "precious", code=3)
    assert (tmp_path / "precious").read_bytes() == b"mine"
