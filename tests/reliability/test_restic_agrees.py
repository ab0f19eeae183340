"""Two independent programs agree: restic reads, checks and tends what we wrote; we read what it wrote; both go on in one archive."""

from __future__ import annotations

import json
import os
import random
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.generators.ogg import opus_note
from tests.parts import needs, needs_root
from tests.reliability.world import PASSWORD, World, add_notes, files, hashes, new_world
from tests.repository.forge import cheapen, sha

BIG = 9 * 2**20


@pytest.fixture(autouse=True)
def _restic() -> None:
    needs("restic")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An archive of three nights: everything; nothing new; some new ones and one that is gone."""
    needs("restic")
    world = new_world(tmp_path_factory.mktemp("kept") / "w", 24)
    (world.store / "Media/WhatsApp Audio/a long one.opus").parent.mkdir()
    (world.store / "Media/WhatsApp Audio/a long one.opus").write_bytes(opus_note(3600, seed=1))
    (world.store / "Media/WhatsApp Audio/empty.opus").touch()
    world.backup("run")
    world.backup("run")
    add_notes(world, 6)
    next(iter(sorted((world.store / "Media/WhatsApp Voice Notes").rglob("*.opus")))).unlink()
    world.backup("run")
    return world


@pytest.fixture
def world(kept: World, tmp_path: Path) -> World:
    """The test's own copy."""
    return kept.copy(tmp_path / "w")


def everything(world: World) -> Counter[str]:
    """What the archive of `kept` holds: the phone's notes and the one that is gone."""
    return world.notes() + Counter([sha(opus_note(1.5, 0))])


def ids(world: World) -> list[str]:
    """The snapshots, oldest first."""
    return [str(row["id"]) for row in world.documents("snapshots")]


# --- restic reads what we wrote -----------------------------------------------------------------------------------------------------------


def test_restic_finds_every_byte_after_each_night(tmp_path: Path) -> None:
    """After a first run, one without news and one with, restic reads all data without a complaint."""
    world = new_world(tmp_path / "w", 8)
    for count in (0, 0, 5):
        add_notes(world, count)
        world.backup("run")
        assert "no errors were found" in world.restic("check", "--read-data")
    assert len(json.loads(world.restic("snapshots", "--json"))) == 3


def test_restic_lists_what_we_list(kept: World) -> None:
    """`restic ls latest` names every note at the path that our list gives it, with the size and the time of the note."""
    listed = [json.loads(line) for line in kept.restic("ls", "latest", "--json").splitlines()][1:]
    theirs = {
        node["path"]: (node.get("size", 0), node["mtime"][:19]) for node in listed if node["type"] == "file" and "/notes/" in node["path"]
    }
    ours = {str(note["path"]): (note["size"], str(note["sent_at"])[:19]) for note in kept.documents("list")}
    assert theirs == ours


def test_restic_gives_back_the_same_bytes(kept: World, tmp_path: Path) -> None:
    """`restic restore latest` writes every note, the one that is gone too, byte for byte; private, as we archived them."""
    kept.restic("restore", "latest", "--target", tmp_path)
    notes = tmp_path / "voice-notes/phone/notes"
    assert hashes(notes) == everything(kept)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(notes)} == {0o600}


# --- restic tends what we wrote -----------------------------------------------------------------------------------------------------------


def look_right(world: World, notes: Counter[str], tmp_path: Path) -> None:
    """Both programs call it sound, everything comes back, once, and the next night knows all of it."""
    world.backup("check", "--read-data")
    assert len(world.documents("list")) == sum(notes.values())
    out = tmp_path / f"out {len(list(tmp_path.iterdir()))}"
    world.backup("restore", "--to", out)
    assert hashes(out) == notes
    done = json.loads(world.backup("run", "--json").out)
    assert (done["new"], done["bytes_read"], done["notes"]) == (0, 0, sum(notes.values()))
    assert "no errors were found" in world.restic("check", "--read-data")


TENDED: dict[str, list[list[str]]] = {
    "tag": [["tag", "--add", "precious"]],
    "prune": [["prune", "--max-unused", "0"]],
    "rebuild-index": [["rebuild-index"]],
    "all": [["tag", "--add", "a"], ["prune", "--max-unused", "0"], ["rebuild-index", "--read-all-packs"], ["tag", "--remove", "a"]],
}


@pytest.mark.parametrize("commands", TENDED.values(), ids=TENDED.keys())
def test_what_restic_tended_is_as_good_as_before(world: World, tmp_path: Path, commands: list[list[str]]) -> None:
    """restic may tag snapshots, repack and write the index anew: nothing is lost, doubled, or called damaged."""
    for words in commands:
        world.restic(*words)
    look_right(world, everything(world), tmp_path)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_snapshot_that_restic_removed_is_named_until_a_person_says_so(world: World, tmp_path: Path, which: int) -> None:
    """Whoever removes a snapshot behind our back is found out, by name; said once to be on purpose, that is the end of it."""
    gone = ids(world)[which]
    world.restic("forget", "--prune", gone)
    ended = world.backup("check", code=5)
    assert f"snapshot {gone[:16]} has disappeared" in ended.err
    assert "1 error in 2 snapshots" in ended.out
    world.backup("check", "--accept-gone")
    # The newest one alone held six of the notes; they are on the phone still, and are archived anew.
    world.backup("run")
    look_right(world, everything(world), tmp_path)


def test_both_programs_take_turns(world: World, tmp_path: Path) -> None:
    """restic may back up its own things into our archive: both go on, and each gives back the other's."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "talk.ogg").write_bytes(opus_note(2, seed=77))
    before = everything(world)
    world.restic("backup", "--host", "elsewhere", mine)
    add_notes(world, 2, seed=500)
    world.backup("run")
    (mine / "more.ogg").write_bytes(opus_note(2, seed=78))
    world.restic("backup", "--host", "elsewhere", mine)
    world.backup("run")
    world.backup("check", "--read-data")
    assert "no errors were found" in world.restic("check", "--read-data")
    assert {str(note["source"]) for note in world.documents("list")} == {"phone", "restic"}
    notes = before + Counter(sha(opus_note(1.5, 500 + number)) for number in range(2))
    assert world.restored("both") == notes + Counter(sha(opus_note(2, seed)) for seed in (77, 78))
    world.restic("restore", "latest", "--host", "machine", "--target", tmp_path / "theirs")
    assert hashes(tmp_path / "theirs/voice-notes/phone/notes") == notes


# --- we read what restic wrote ------------------------------------------------------------------------------------------------------------

Backed = Callable[..., World]


@pytest.fixture
def theirs(tmp_path: Path) -> World:
    """A world whose archive restic makes."""
    world = World(tmp_path / "w").settle()
    world.restic("init")
    cheapen(world.repo, PASSWORD)
    return world


def recordings(folder: Path) -> Counter[str]:
    """Audio as people keep it: two small ones, one that restic cuts, an empty one, awkward names."""
    seeded = random.Random(5)
    (folder / "2019/Grandma's").mkdir(parents=True)
    for name, data in {
        "2019/PTT-20190503-WA0001.opus": opus_note(3, 1), "twin.opus": opus_note(3, 1), "2019/empty.m4a": b"", "list.txt": b"text",
        "2019/Grandma's/long talk.opus": opus_note(1, 2) + seeded.randbytes(BIG), "2019/Grandma's/\n\x1b[2Jé\\\".mp3": b"ID3" + bytes(700),
    }.items():  # fmt: skip
        (folder / name).write_bytes(data)
    os.utime(folder / "2019/Grandma's/long talk.opus", (1_556_000_000, 1_556_000_000))
    return hashes(folder)


def test_what_restic_archived_is_listed_and_given_back(theirs: World, tmp_path: Path) -> None:
    """Every ordinary file of an archive that only restic ever wrote is listed as source `restic` and comes back byte for byte."""
    made = recordings(tmp_path / "audio")
    theirs.restic("backup", "--host", "old", tmp_path / "audio")
    theirs.backup("check", "--read-data")
    listed = theirs.documents("list")
    assert {(note["source"], note["host"]) for note in listed} == {("restic", "old")}
    assert Counter(str(note["id"]) for note in listed) == made
    assert theirs.restored("chat") == made
    theirs.backup("restore", "--layout", "original", "--to", tmp_path / "original")
    assert hashes(tmp_path / "original") == made
    long = next(note for note in listed if note["size"] and int(str(note["size"])) > BIG)
    assert len(long["blobs"]) > 1  # type: ignore[arg-type]
    theirs.backup("extract", str(long["id"])[:12], "--to", tmp_path / "one.opus")
    assert sha((tmp_path / "one.opus").read_bytes()) == long["id"]
    assert int((tmp_path / "one.opus").stat().st_mtime) == 1_556_000_000


def test_what_is_no_ordinary_file_is_named_and_left_out(theirs: World, tmp_path: Path) -> None:
    """Links, devices, pipes and set-id files in restic's archive are named, exit 3; nothing like them is ever made."""
    needs_root()
    made = recordings(tmp_path / "audio")
    odd = tmp_path / "audio/odd"
    odd.mkdir()
    (odd / "link.opus").symlink_to("/etc/passwd")
    os.mkfifo(odd / "pipe.opus")
    os.mknod(odd / "device.opus", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    (odd / "set-uid.opus").write_bytes(b"#!/bin/sh")
    (odd / "set-uid.opus").chmod(0o4755)
    (odd / "set-gid.opus").write_bytes(b"#!/bin/sh")
    (odd / "set-gid.opus").chmod(0o2755)
    (odd / "linked twice.opus").hardlink_to(tmp_path / "audio/twin.opus")
    theirs.restic("backup", tmp_path / "audio")
    for verb in (["list"], ["restore", "--to", tmp_path / "out"]):
        ended = theirs.backup(*verb, code=3)
        for name in ("link.opus", "pipe.opus", "device.opus", "set-uid.opus", "set-gid.opus"):
            assert f"odd/{name}: " in ended.err
        assert "linked twice" not in ended.err
    assert hashes(tmp_path / "out") == made + Counter([sha(opus_note(3, 1))])
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert stat.S_ISREG(path.lstat().st_mode) or path.is_dir()


def test_an_archive_that_restic_began_is_ours_to_go_on_with(tmp_path: Path) -> None:
    """`restic init` makes an archive as good as our own, opened with the very key that restic made."""
    world = new_world(tmp_path / "w", 6)
    for path in sorted(world.repo.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    world.repo.rmdir()
    world.restic("init")
    world.backup("run")
    cheapen(world.repo, PASSWORD)  # restic's own key is dear to open: once is enough
    world.backup("check", "--read-data")
    assert world.restored("out") == world.notes()
    assert "no errors were found" in world.restic("check", "--read-data")
