"""`backup repair`: from damage of every kind to an archive in which restic finds no fault, with everything in it that could be saved."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from backup_tool.actions.repairing.repair import RepairReport, repair
from backup_tool.actions.state import State
from backup_tool.destinations.base import Destination, ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.several.reading import Place
from backup_tool.models import Progress, Secret
from tests.destinations.doubles import Wrapper
from tests.parts import needs
from tests.reliability.test_rot import WAYS, objects, second_key
from tests.reliability.world import PASSWORD, World, add_notes, hashes, new_world
from tests.repository.forge import sha

SMALL_OBJECTS = ("config", "key", "snapshot", "index")
EVERYTHING = (*SMALL_OBJECTS, "audio", "catalog", "tree")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An archive of two nights: two of every kind of object, each with other things in it."""
    world = new_world(tmp_path_factory.mktemp("repair") / "w", 12)
    world.backup("run")
    add_notes(world, 9)
    world.backup("run")
    second_key(world)
    return world


@pytest.fixture
def world(whole: World, tmp_path: Path) -> World:
    """The test's own copy, which this machine has seen as it is."""
    copy = whole.copy(tmp_path / "w")
    copy.backup("run")
    return copy


def mirror(world: World) -> Path:
    """A second destination with the same archive."""
    folder = world.root / "mirror"
    shutil.copytree(world.repo, folder)
    settings = world.root / "config.toml"
    settings.write_text(settings.read_text().replace("[repository]", f"[destinations.nas]\npath = '{folder}'\n[repository]"))
    return folder


def damage(world: World, way: str, *kinds: str, which: int = 0) -> None:
    """Damage one object of each of these kinds; of config and key the config, or one of the two keys."""
    chosen = {kind: two(world, kind) for kind in kinds}
    for kind, both in chosen.items():
        at = {"config": 0, "key": 0}.get(kind, which)
        WAYS[way](both[at], both[1 - at])


def two(world: World, kind: str) -> list[Path]:
    """Two objects of a kind, of the first night and of the second."""
    if kind in ("key", "snapshot", "index"):
        found = world.objects({"key": "keys", "snapshot": "snapshots"}.get(kind, kind))
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)[:2]
    return objects(world, kind)


def mended(world: World, *words: str, code: int = 0) -> Any:
    """`backup repair --json`."""
    return json.loads(world.backup("repair", "--json", *words, code=code).out)


def sound(world: World) -> None:
    """restic reads every byte and has nothing to complain of, nor have we; nothing is left to mend, and nothing lies about."""
    told = world.restic("check", "--read-data")
    assert "several indexes" not in told
    assert "not referenced" not in told
    assert mended(world)["steps"] == []
    assert "no errors" in world.backup("check", "--read-data", "--repo", "disk").out
    assert world.leftovers() == []


def sound_after_a_run(world: World) -> None:
    """The same, but for index files that repeat others, as runs write them."""
    assert {step["kind"] for step in mended(world)["steps"]} <= {"index"}
    sound(world)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- from other places


@pytest.mark.parametrize("way", WAYS)
def test_what_is_damaged_comes_back_from_another_destination(world: World, way: str) -> None:
    """Config, key, snapshot, index and packs damaged at once: all of it is as it was, byte for byte, and the other place is left alone."""
    copy = mirror(world)
    before, kinds = bytes_of(copy), [kind for kind in EVERYTHING if (kind, way) not in (("config", "swap"), ("index", "delete"))]
    damage(world, way, *kinds)
    report = mended(world)
    assert report["sound"]
    assert report["lost"] == report["left"] == []
    if way != "delete":  # of a key that is gone nobody knows that it was there
        assert len(report["steps"]) >= len(kinds)
        assert bytes_of(world.repo) == before
    assert bytes_of(copy) == before
    sound(world)
    assert world.restored("out") == world.notes()


def test_a_copy_that_was_named_for_it_is_used(world: World, tmp_path: Path) -> None:
    """--from names a further copy; another archive is refused, and so is a place without one: nothing is changed then."""
    shutil.copytree(world.repo, tmp_path / "old disk")
    stranger = new_world(tmp_path / "stranger", 2)
    before = bytes_of(world.repo)
    damage(world, "flip", "audio", "snapshot")
    damaged = bytes_of(world.repo)
    assert "holds another repository" in world.backup("repair", "--from", stranger.repo, code=2).err
    assert "no repository" in world.backup("repair", "--from", tmp_path / "nowhere", code=2).err
    assert bytes_of(world.repo) == damaged
    assert "sound" in world.backup("repair", "--from", tmp_path / "old disk").out
    assert bytes_of(world.repo) == before


def test_two_damaged_copies_make_a_whole_one(world: World) -> None:
    """Where both places are damaged, each in other packs and at other notes of one pack, each gets from the other what it lacks."""
    copy = mirror(world)
    older, newer = objects(world, "audio")
    WAYS["flip"](older, older)
    for name, place in ((older, copy), (newer, copy)):
        path = place / name.relative_to(world.repo)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:400] + b"?" + path.read_bytes()[401:])
    for words in (("--repo", "disk"), ("--repo", "nas")):
        assert mended(world, *words)["sound"]
    sound(world)
    assert world.restored("out") == world.notes()
    assert "no errors" in world.backup("check", "--read-data", "--repo", "nas").out


def test_a_place_without_its_config_helps_all_the_same(world: World) -> None:
    """Another place that lost only its config gives what it has; where all lost theirs, one is made anew and then copied."""
    copy = mirror(world)
    pack = objects(world, "audio")[0]
    data = pack.read_bytes()
    (copy / "config").unlink()
    WAYS["truncate"](pack, pack)
    assert mended(world)["sound"]
    assert pack.read_bytes() == data
    (world.repo / "config").unlink()
    assert "another id" in world.backup("repair").err
    assert "copied from disk" in world.backup("repair", "--repo", "nas").err
    world.backup("run")
    sound(world)


def test_what_another_place_may_have_is_not_given_up(world: World) -> None:
    """While a configured place is away, no snapshot is removed that it may have whole: when it is back, the snapshot is as before."""
    copy = mirror(world)
    before = bytes_of(copy)
    copy.rename(world.root / "unplugged")
    damage(world, "truncate", "snapshot")
    damaged = bytes_of(world.repo)
    report = mended(world, code=5)
    assert [step["remedy"] for step in report["steps"]] == [None]
    assert "nas could not be asked, and may have it whole" in report["steps"][0]["problem"]
    assert bytes_of(world.repo) == damaged
    assert "connect it, and repair again" in world.backup("repair", code=5).err
    (world.root / "unplugged").rename(copy)
    assert mended(world)["sound"]
    assert bytes_of(world.repo) == before


def test_a_snapshot_that_disappeared_is_brought_back(world: World) -> None:
    """A snapshot that a run of this machine saw, and that nobody here forgot, comes back from the other place."""
    mirror(world)
    before = bytes_of(world.repo)
    two(world, "snapshot")[0].unlink()
    world.backup("check", code=5)
    assert mended(world)["sound"]
    assert bytes_of(world.repo) == before


# --- from itself


@pytest.mark.parametrize("way", ["truncate", "delete"])
def test_a_lost_index_is_made_from_the_packs(world: World, way: str) -> None:
    """Index files damaged or gone, with no copy anywhere: made again from the headers of the packs, and all notes are there."""
    damage(world, way, "index")
    report = mended(world)
    assert {step["kind"] for step in report["steps"]} <= {"index", "pack"}
    sound(world)
    assert world.restored("out") == world.notes()
    assert json.loads(world.backup("run", "--json").out)["bytes_added"] == 0


@pytest.mark.parametrize(("way", "which"), [("flip", 0), ("truncate", 1), ("delete", 0), ("flip", 1)])
def test_lost_folders_are_made_from_the_catalogs(world: World, way: str, which: int) -> None:
    """Folders of snapshots damaged or gone, even those on the way to the catalogs: made again, the very same. Only a snapshot to whose
    catalogs no way leads any more goes, where a later one has all that it had."""
    before, records = world.documents("snapshots"), world.documents("list")
    damage(world, way, "tree", which=which)
    assert mended(world)["sound"]
    sound(world)
    assert world.documents("snapshots") in ((before,) if which else (before, before[1:]))
    assert world.documents("list") == records
    assert world.restored("out") == world.notes()


def test_where_all_folders_are_lost_the_catalogs_are_enough(world: World) -> None:
    """With every pack of folders gone, no snapshot leads anywhere: the records are found in the packs, with all they say."""
    records = world.documents("list")
    for path in [path for path, blobs in world.packs().items() if blobs[0][0] == "tree"]:
        path.unlink()
    assert mended(world)["sound"]
    sound(world)
    given = world.documents("list")
    assert [(one["id"], one["chat"], one["sent_at"], one["sender"]) for one in given] == [
        (one["id"], one["chat"], one["sent_at"], one["sender"]) for one in records
    ]
    assert world.restored("out") == world.notes()


@pytest.mark.parametrize(("way", "which"), [("delete", 0), ("flip", 1)], ids=["older", "newer"])
def test_a_lost_catalog_is_put_together(world: World, way: str, which: int) -> None:
    """A catalog damaged or gone: every note is there with its audio, and the next run knows again who said it; runs go on."""
    records = {one["id"]: one for one in world.documents("list")}
    damage(world, way, "catalog", which=which)
    world.backup("run", code=5)
    report = mended(world)
    assert any(step["kind"] == "snapshot" for step in report["steps"])
    sound(world)
    assert world.restored("out") == world.notes()
    world.backup("run")
    again = {one["id"]: one for one in world.documents("list")}
    known = ("chat", "chat_id", "message_id", "sender", "sent_at", "size", "duration")
    assert {id: [one[key] for key in known] for id, one in again.items()} == {
        id: [one[key] for key in known] for id, one in records.items()
    }
    sound_after_a_run(world)


def test_without_any_copy_a_config_is_made_anew(world: World) -> None:
    """A config that nobody has any more is no end of an archive whose keys and packs are there; it is told that its id is another one."""
    (world.repo / "config").unlink()
    assert "another id" in world.backup("repair").err
    sound(world)
    assert world.restored("out") == world.notes()


def test_keys_that_changed_names_open_the_archive_again(world: World) -> None:
    """Key files and snapshots whose names were exchanged get their own again; nothing of them is lost."""
    before = bytes_of(world.repo)
    damage(world, "swap", "key", "snapshot")
    world.backup("list", code=5)
    assert mended(world)["sound"]
    assert bytes_of(world.repo) == before


def test_a_snapshot_that_nobody_can_read_goes_and_is_kept_aside(world: World) -> None:
    """Its bytes stay on this machine, the others stand for it, and `check` and restic are content."""
    path = two(world, "snapshot")[0]
    WAYS["truncate"](path, path)
    data = path.read_bytes()
    report = mended(world)
    assert data in [path.read_bytes() for path in Path(report["kept"]).iterdir()]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in Path(report["kept"]).iterdir())
    sound(world)
    assert len(world.documents("list")) == 21


@pytest.mark.parametrize("which", ["newest", "all", "gone"])
def test_notes_that_only_a_lost_snapshot_named_are_in_the_archive_again(world: World, which: str) -> None:
    """A snapshot that cannot be read, or is gone, costs no note that only it named, nor what was saved: its folders are found."""
    add_notes(world, 3, seed=12_000)
    world.backup("run")
    world.backup("save", sha((world.store / "Media/WhatsApp Voice Notes/202640/PTT-20260928-WA12001.opus").read_bytes()))
    records = world.documents("list")
    for path in sorted(world.objects("snapshots"), key=lambda path: path.stat().st_mtime_ns)[0 if which == "all" else -2 :]:
        WAYS["delete" if which == "gone" else "truncate"](path, path)
    found = [step for step in mended(world, code=5 if which == "gone" else 0)["steps"] if step["remedy"] == "stored"]
    assert "folders to which no snapshot led" in found[0]["problem"]
    facts = ("id", "chat", "chat_id", "message_id", "sender", "sent_at", "found", "saved")
    assert [[one[key] for key in facts] for one in world.documents("list")] == [[one[key] for key in facts] for one in records]
    assert world.restored("out") == world.notes()
    assert "no errors" in world.restic("check", "--read-data")
    assert not [step for step in mended(world, code=5 if which == "gone" else 0)["steps"] if step["remedy"] == "stored"]
    world.backup("run")


@pytest.mark.parametrize("night", [0, 1], ids=["older", "newer"])
def test_audio_of_which_folders_and_catalogs_are_lost_is_kept_by_its_ids(world: World, night: int) -> None:
    """Where both the folders and the catalog of a night are gone, its notes are in the list and are given back, without their names."""
    damage(world, "delete", "tree", "catalog", which=night)
    found = [step for step in mended(world)["steps"] if step["remedy"] == "stored"]
    assert [f"audio of {12 if not night else 9} notes" in step["problem"] for step in found] == [True]
    sound(world)
    shutil.rmtree(world.store / "Media")
    assert len(world.documents("list")) == 21
    assert len(world.restored("out")) == 21


# --- what is lost


@pytest.mark.parametrize(("way", "lost"), [("flip", 1), ("truncate", None), ("empty", 12), ("delete", 12)])
def test_of_a_damaged_pack_all_is_saved_that_can_be_read(world: World, way: str, lost: int | None) -> None:
    """Notes of it that open are stored elsewhere before it goes; the lost ones are named, exit 5, until a run stores them again."""
    pack = objects(world, "audio")[0]
    WAYS[way](pack, pack)
    report = mended(world, code=5)
    gone = {note["id"] for note in report["lost"]}
    assert 0 < len(gone) < 12 if lost is None else len(gone) == lost
    assert {note["chat"] for note in report["lost"]} <= {one["chat"] for one in world.documents("list")}
    assert all(note["sent_at"] and note["path"] for note in report["lost"])
    assert not pack.exists()
    assert set(world.restored("out", code=5)) == set(world.notes()) - gone
    assert {note["id"] for note in mended(world, code=5)["lost"]} == gone
    assert json.loads(world.backup("run", "--json").out)["new"] == 0
    sound_after_a_run(world)
    assert world.restored("again") == world.notes()


def test_lost_audio_of_which_not_even_a_record_is_left_is_told(world: World) -> None:
    """Where a night's audio is gone with its folders and its catalog, nobody can name the notes: how many is said, with exit 5."""
    damage(world, "delete", "audio", "tree", "catalog", which=1)
    told = world.backup("repair", code=5).out
    assert "audio is lost (9 pieces)" in told
    assert "sound" not in told
    assert len(world.documents("list")) == 12


def test_lost_audio_of_a_lost_snapshot_is_named_and_stored_again(world: World) -> None:
    """Where all snapshots are lost and the audio of a night as well, its notes stay in the list, and the next run stores them again."""
    damage(world, "delete", "audio", which=1)
    for path in world.objects("snapshots"):
        WAYS["truncate"](path, path)
    assert len(mended(world, code=5)["lost"]) == 9
    assert len(world.documents("list")) == 21
    world.backup("run")
    sound_after_a_run(world)
    assert set(world.restored("out")) == set(world.notes())


def test_what_no_source_has_any_more_is_told_every_night(world: World) -> None:
    """A lost note that the phone lost, too, stays in the list, and each run names it with exit 5, after a repair as before."""
    pack = objects(world, "audio")[0]
    WAYS["delete"](pack, pack)
    gone = {note["id"] for note in mended(world, code=5)["lost"]}
    shutil.rmtree(world.store / "Media")
    for _ in range(2):
        told = json.loads(world.backup("run", "--json", code=5).out)
        assert len([error for error in told["errors"] if "audio is gone" in error["reason"]]) == len(gone)
    assert gone <= {one["id"] for one in world.documents("list")}
    assert "backup run" in world.backup("repair", code=5).err


def test_a_pack_of_which_nobody_knows_the_contents_stays_while_something_is_missed(world: World) -> None:
    """Where header and index are lost, what a pack holds cannot be found: it is left alone until all notes are there again."""
    pack = objects(world, "audio")[0]
    damage(world, "truncate", "audio", "index")
    report = mended(world, code=5)
    assert pack.exists()
    assert len(report["lost"]) == 12
    assert [step["remedy"] for step in report["steps"] if step["name"] == pack.name] == [None]
    world.backup("run")
    assert mended(world)["sound"]
    assert not pack.exists()
    sound(world)
    assert world.restored("out") == world.notes()


def test_a_disk_that_is_half_there_is_not_mended(world: World) -> None:
    """Where no pack at all can be found, something else is wrong than damage: nothing is changed, and it says what to look at."""
    shutil.rmtree(world.repo / "data")
    before = bytes_of(world.repo)
    told = world.backup("repair", code=5).err
    assert "nothing is changed" in told
    assert bytes_of(world.repo) == before


# --- how it goes about it


def test_a_dry_run_shows_the_plan_and_changes_nothing(world: World) -> None:
    """--dry-run names every step that the real one takes, and touches nothing."""
    damage(world, "truncate", "audio", "tree")
    damage(world, "flip", "index", which=1)
    before = bytes_of(world.repo)
    planned = mended(world, "--dry-run", code=5)
    assert bytes_of(world.repo) == before
    assert "stored in other packs" in world.backup("repair", "--dry-run", code=5).out
    done = mended(world, code=5)
    assert (planned["steps"], planned["lost"]) == (done["steps"], done["lost"])
    assert (planned["dry_run"], done["dry_run"]) == (True, False)


def test_index_files_that_repeat_others_are_tidied(world: World) -> None:
    """What many nights leave in several index files stands in one of them afterwards, and restic says so no more."""
    for night in range(5):
        add_notes(world, 1, seed=11_000 + night)
        world.backup("run")
    assert "several indexes" in world.restic("check")
    mended(world)
    sound(world)
    assert world.restored("out") == world.notes()


def test_a_file_that_the_disk_cannot_read_is_named(world: World) -> None:
    """An error of the disk is no damage to be mended where it is: nothing is changed, and the file is named with what to do."""
    needs("strace")
    pack, before = objects(world, "audio")[0], bytes_of(world.repo)
    under = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(pack), "-e", "trace=read", "-e", "inject=read:error=EIO"]
    words = [*under, sys.executable, "-m", "backup_tool", "repair"]
    env = world.env | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(words, cwd=world.root, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert f"{pack} cannot be read" in ended.stderr
    assert "cp -a" in ended.stderr
    assert bytes_of(world.repo) == before


def test_another_run_is_waited_for(world: World) -> None:
    """While somebody else holds the archive, nothing is mended: exit 11."""
    with (world.repo / "locks" / ("0" * 64)).open("wb") as lock:
        lock.write(b"somebody else's, and unreadable")
    assert "locked" in world.backup("repair", code=11).err


class Killing(LocalDestination):
    """Kills this process just before the n-th change of an object: that is just after the one before it."""

    step = at = 0

    def _change(self) -> None:
        self.step += 1
        if self.step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def replace(self, kind: ObjectKind, name: str, path: Path) -> None:
        self._change()
        super().replace(kind, name, path)

    def remove(self, kind: ObjectKind, name: str) -> None:
        self._change()
        super().remove(kind, name)

    def _is_stored(self, kind: ObjectKind, name: str, size: int) -> bool:
        """Comes before whatever is saved or committed."""
        self._change()
        return super()._is_stored(kind, name, size)


def repaired(world: World, place: Destination) -> RepairReport:
    """A repair in this process."""
    others = [Place("nas", LocalDestination(world.root / "mirror"))]
    return repair(Place("disk", place), others, Secret(PASSWORD), State(world.root / "state"), Progress())


def test_a_place_that_is_no_folder_is_mended_as_well(world: World) -> None:
    """Where an object cannot be exchanged in one step, as behind a network, it is as it was all the same."""
    mirror(world)
    before = bytes_of(world.repo)
    damage(world, "flip", *SMALL_OBJECTS, "audio", "tree")
    report = repaired(world, Wrapper(LocalDestination(world.repo)))
    assert (report.sound, report.lost) == (True, [])
    assert bytes_of(world.repo) == before


def was_killed(world: World, at: int) -> bool:
    """Whether it was killed; else it came to its end."""
    place = Killing(world.repo)
    place.at = at
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads, and there are none here
        child = os.fork()
    if not child:
        try:
            repaired(world, place)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system where processes are forked")
def test_killed_at_any_change_the_next_repair_completes_it(world: World, tmp_path: Path) -> None:
    """Wherever a repair is killed, what could be saved before can be saved still, and the next one ends in the same sound archive."""
    copy = mirror(world)
    older, newer = objects(world, "audio")
    twin = copy / older.relative_to(world.repo)
    twin.chmod(0o600)
    twin.write_bytes(twin.read_bytes()[:5000])  # a part of this pack can be saved, and another one is whole at the other place only
    WAYS["truncate"](older, older)
    WAYS["flip"](newer, newer)
    damage(world, "swap", "snapshot", "key")
    damage(world, "truncate", "index", "catalog")
    lost: set[str | None] = set()
    for at in range(200):
        one = world.copy(tmp_path / f"at {at}")
        if at and not was_killed(one, at):
            break
        report = repaired(one, LocalDestination(one.repo))
        gone = {note.id for note in report.lost}
        if not at:
            lost = gone
        assert gone == lost
        assert 0 < len(lost) < 12
        if at % 5 == 0:
            assert set(given_back(one)) == set(world.notes()) - lost
            one.backup("run")
            sound_after_a_run(one)
        shutil.rmtree(one.root)
    assert 12 < at < 199


def given_back(world: World) -> Counter[str]:
    """What a restore gives, where not all can be."""
    world.backup("restore", "--to", world.root / "given", "--quiet", code=5)
    return hashes(world.root / "given")
