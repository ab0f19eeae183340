"""Several destinations: the same objects at all of them, whatever goes up and down, and every one of them a repository by itself."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.destinations.servers import Rest, serving
from tests.generators.android import Store, phone
from tests.generators.ogg import opus_note
from tests.parts import needs, needs_root
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import PASSWORD, World, finish, wait_for_lock


class Places:
    """A machine whose archive is at several folders: `usb`, the primary, and its mirrors."""

    def __init__(self, world: World, names: tuple[str, ...], addresses: dict[str, str] | None = None) -> None:
        self.world, self.names = world, names
        addresses = addresses or {}
        world.repo.rename(world.folder / names[0])
        tables = [
            f'[destinations.{name}]\ntype = "rest"\nurl = "{addresses[name]}"\n'
            if name in addresses
            else f'[destinations.{name}]\npath = "{self.folder(name)}"\n'
            for name in names
        ]
        self.store: Store = phone(world.folder / "phone", notes=4)
        world.configure(f'[sources.phone]\npath = "{world.folder / "phone"}"\n' + "".join(tables))

    def folder(self, name: str) -> Path:
        return self.world.folder / name

    def backup(self, *words: object, code: int | None = 0, **how: Any) -> Any:
        return self.world.backup(*words, code=code, env={"BACKUP_REPOSITORY": None}, **how)

    def run(self, *words: object, code: int = 0) -> dict[str, Any]:
        result: dict[str, Any] = self.backup("run", "--json", *words, code=code).json
        return result

    def status(self, result: dict[str, Any]) -> dict[str, str]:
        return {one["name"]: one["status"] for one in result["destinations"]}

    def add_notes(self, count: int, seed: int) -> None:
        for number in range(count):
            name = f"PTT-202604{seed:02d}-WA{number:04d}.opus"
            self.store.put(f"Media/WhatsApp Voice Notes/202614/{name}", opus_note(1.0, 1000 * seed + number))

    def away(self, name: str) -> None:
        self.folder(name).rename(self.world.folder / f"{name}.away")

    def back(self, name: str) -> None:
        (self.world.folder / f"{name}.away").rename(self.folder(name))

    def objects(self, name: str) -> dict[str, str]:
        """Every object at a destination, with the hash of its bytes."""
        root = self.folder(name)
        files = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def spooled(self) -> list[str]:
        """What waits on this machine."""
        spool = self.world.folder / "state" / "spool"
        return sorted(
            path.parent.name for path in spool.rglob("*") if path.is_file() and len(path.name) == 64 and path.parent.name != "keys"
        )

    def all_alike_and_sound(self) -> None:
        """Byte for byte the same everywhere, nothing waiting, and restic finds no fault with any of them."""
        first = self.objects(self.names[0])
        assert all(self.objects(name) == first for name in self.names[1:])
        assert self.spooled() == []
        for name in self.names:
            self.world.repo = self.folder(name)
            assert "no errors were found" in self.world.restic("check", "--read-data")


@pytest.fixture
def places(world: World) -> Places:
    """A primary and one mirror, both empty."""
    made = Places(world, ("usb", "nas"))
    made.backup("init")
    return made


def test_a_run_brings_the_same_to_every_destination(places: Places) -> None:
    """After a run primary and mirror hold the same bytes, and each is a sound archive of its own."""
    result = places.run()
    assert (result["new"], places.status(result)) == (4, {"usb": "delivered", "nas": "delivered"})
    first, second = result["destinations"]
    assert first["objects"] == second["objects"] > 3
    assert first["bytes"] == second["bytes"] > result["bytes_read"]
    places.all_alike_and_sound()
    assert [len(places.backup("list", "--json", "--repo", name).json) for name in ("usb", "nas")] == [4, 4]


def test_a_mirror_that_is_away_gets_everything_the_next_time(places: Places) -> None:
    """A night without the mirror ends with 3 and names it; the next run with it brings it level by itself."""
    places.run()
    places.away("nas")
    places.add_notes(3, seed=1)
    result = places.run(code=3)
    assert (result["new"], places.status(result)) == (3, {"usb": "delivered", "nas": "queued"})
    assert "no repository at" in result["destinations"][1]["error"]
    assert places.spooled() == []
    places.back("nas")
    assert places.status(places.run()) == {"usb": "delivered", "nas": "delivered"}
    places.all_alike_and_sound()


def test_a_primary_that_is_away_loses_no_night(places: Places) -> None:
    """New notes go to the mirror and wait for the primary here; meanwhile they are listed and given back; then they arrive there."""
    places.run()
    places.away("usb")
    places.add_notes(3, seed=1)
    ended = places.backup("run", code=3)
    assert "3 new notes" in ended.text
    assert "usb" in ended.told
    assert "delivered by the next run" in ended.told
    assert len(places.backup("list", "--json").json) == 7
    assert "restored 7 notes" in places.backup("restore", "--to", "given").text
    places.back("usb")
    assert len(places.backup("list", "--json").json) == 7  # from the primary and what waits for it
    result = places.run()
    assert (result["new"], places.status(result)) == (0, {"usb": "delivered", "nas": "delivered"})
    places.all_alike_and_sound()


def test_a_folder_of_an_unmounted_disk_is_not_taken_for_the_disk(places: Places) -> None:
    """Where only the bare mount point is, nothing is written into it, and the run goes to the mirror."""
    places.run()
    places.away("usb")
    places.folder("usb").mkdir()
    places.add_notes(1, seed=1)
    assert places.status(places.run(code=3)) == {"usb": "queued", "nas": "delivered"}
    assert list(places.folder("usb").iterdir()) == []
    places.folder("usb").rmdir()
    places.back("usb")
    places.run()
    places.all_alike_and_sound()


def test_where_no_destination_is_there_the_run_says_so_and_stores_nothing_twice(places: Places) -> None:
    """With every disk unplugged the run ends with 10; the next one, with the disks, is as if that night had not been."""
    places.run()
    before = places.objects("usb")
    places.away("usb")
    places.away("nas")
    places.add_notes(2, seed=1)
    assert "no repository at" in places.backup("run", code=10).told
    places.back("usb")
    places.back("nas")
    assert places.objects("usb") == before
    assert places.run()["new"] == 2
    places.all_alike_and_sound()


def test_what_the_primary_cannot_give_comes_from_the_mirror_and_is_said(places: Places) -> None:
    """One note whose pack is damaged, another whose pack is gone: both are given back whole, and the person hears of it."""
    places.run()
    notes = {note.data for note in places.store.made}
    for spoil, told in ((lambda path: path.write_bytes(b"\0" * path.stat().st_size), "damaged"), (Path.unlink, "not whole")):
        for path in (places.folder("usb") / "data").rglob("*"):
            if path.is_file():
                path.chmod(0o600)
                spoil(path)
        ended = places.backup("restore", "--to", "given")
        assert {path.read_bytes() for path in (places.world.folder / "given").rglob("*") if path.is_file()} >= notes
        assert told in ended.told
        assert "nas" in ended.told
        shutil.rmtree(places.world.folder / "given")


def test_a_mirror_that_holds_another_archive_is_refused(places: Places, new_world: NewWorld) -> None:
    """Where another repository lies in the mirror's place nothing is written to it, and the run says what to do."""
    places.run()
    shutil.rmtree(places.folder("nas"))
    other = World(places.world.folder / "other")
    other.backup("init", "--repo", places.folder("nas"))
    before = places.objects("nas")
    places.add_notes(1, seed=1)
    result = places.run(code=3)
    assert places.status(result) == {"usb": "delivered", "nas": "failed"}
    assert "another repository" in result["destinations"][1]["error"]
    assert places.objects("nas") == before
    assert "another repository" in places.backup("sync", code=3).told


def test_one_folder_under_two_names_is_no_second_copy(places: Places) -> None:
    """A further destination that leads to the same folder, by whatever path, is refused: nobody is to think that there are two."""
    (places.world.folder / "twin").symlink_to(places.folder("usb"))
    with places.world.settings.open("a") as settings:
        settings.write(f'[destinations.twin]\npath = "{places.folder("twin")}"\n')
    result = places.run(code=3)
    assert places.status(result) == {"usb": "delivered", "nas": "delivered", "twin": "failed"}
    assert "is the same place as usb" in places.backup("sync", code=3).told


def test_a_dry_sync_is_one_of_prune(places: Places) -> None:
    """--dry-run alone copies nothing: it is told to go with --prune."""
    assert "sync --prune --dry-run" in places.backup("sync", "--dry-run", code=2).told


def test_a_damaged_config_of_a_mirror_is_not_taken_for_another_archive(places: Places) -> None:
    """One flipped bit: the run says that a config is damaged, check says which with exit code 5; with the sound one all is level again."""
    places.run()
    config = places.folder("nas") / "config"
    sound = config.read_bytes()
    config.chmod(0o600)
    config.write_bytes(sound[:20] + bytes([sound[20] ^ 1]) + sound[21:])
    result = places.run(code=3)
    assert places.status(result) == {"usb": "delivered", "nas": "failed"}
    assert "one config is damaged" in result["destinations"][1]["error"]
    assert "nas was not checked: config config is damaged" in places.backup("check", code=5).told
    config.write_bytes(sound)
    places.run()
    places.all_alike_and_sound()


def test_a_mirror_that_was_rolled_back_waits_for_a_person(places: Places) -> None:
    """An older copy of the mirror is not filled up in silence; after the person has said that it is right, it is levelled."""
    places.run()
    shutil.copytree(places.folder("nas"), places.world.folder / "older")
    places.add_notes(1, seed=1)
    places.run()
    shutil.rmtree(places.folder("nas"))
    (places.world.folder / "older").rename(places.folder("nas"))
    before = places.objects("nas")
    result = places.run(code=3)
    assert places.status(result) == {"usb": "delivered", "nas": "failed"}
    assert "rolled back" in result["destinations"][1]["error"]
    assert places.objects("nas") == before
    places.backup("check", "--accept-gone", "--repo", "nas")
    assert places.status(places.run()) == {"usb": "delivered", "nas": "delivered"}
    places.all_alike_and_sound()


def test_sync_fills_a_new_mirror_and_repairs_what_is_missing_or_cut_short(places: Places) -> None:
    """A third place is made a mirror, filled by sync; objects that it lost, or has in part, come again; then there is nothing to do."""
    places.run()
    with places.world.settings.open("a") as settings:
        settings.write(f'[destinations.attic]\npath = "{places.folder("attic")}"\n')
    assert "no repository at" in places.backup("sync", code=3).told
    assert "a mirror of" in places.backup("init", "--repo", "attic").text
    assert "attic: level, " in places.backup("sync").text
    packs = sorted(path for path in (places.folder("attic") / "data").rglob("*") if path.is_file())
    packs[0].unlink()
    packs[1].chmod(0o600)
    packs[1].write_bytes(packs[1].read_bytes()[:100])
    next(iter((places.folder("usb") / "data" / packs[0].name[:2]).iterdir())).unlink()
    done = places.backup("sync", "--json").json
    assert [(one["name"], one["status"], one["objects"]) for one in done["destinations"]] == [
        ("usb", "delivered", 1), ("nas", "delivered", 0), ("attic", "delivered", 2),
    ]  # fmt: skip
    assert places.backup("sync").text.count("level already") == 3
    places.names = ("usb", "nas", "attic")
    places.all_alike_and_sound()


def test_a_replaced_primary_is_filled_from_its_mirror(places: Places) -> None:
    """On an empty disk in the primary's place no second archive is begun; as the docs say, it gets back all that the mirror has."""
    places.run()
    places.run()
    shutil.rmtree(places.folder("usb"))
    places.folder("usb").mkdir()
    for words in (["init"], ["init", "--repo", "usb"]):
        assert "nas holds an archive" in places.backup(*words, code=2).told
    assert list(places.folder("usb").iterdir()) == []
    settings = places.world.settings.read_text()
    start, usb, nas = settings.split("[destinations.")
    places.world.settings.write_text(f"{start}[destinations.{nas}[destinations.{usb}")
    assert "a mirror of" in places.backup("init", "--repo", "usb").text
    places.backup("sync")
    places.world.settings.write_text(settings)
    assert places.run()["unchanged"] == 4
    places.all_alike_and_sound()


def test_what_was_stored_at_a_mirror_alone_is_named_and_can_be_brought_to_the_primary(places: Places) -> None:
    """While the primary is away somebody archives to the mirror alone: later runs say what they do not see, and how it comes there."""
    places.run()
    places.away("usb")
    places.add_notes(1, seed=1)
    places.backup("run", "--repo", "nas")
    places.back("usb")
    next((places.world.folder / "phone").rglob("PTT-202604*")).unlink()
    assert "nas has a snapshot that usb never had" in places.backup("run").told
    settings = places.world.settings.read_text()
    start, usb, nas = settings.split("[destinations.")
    places.world.settings.write_text(f"{start}[destinations.{nas}[destinations.{usb}")
    places.backup("sync")
    places.world.settings.write_text(settings)
    ended = places.backup("run")
    assert "never had" not in ended.told
    assert len(places.backup("list", "--json").json) == 5
    places.all_alike_and_sound()


def test_a_damaged_pack_of_the_primary_is_not_copied_to_a_mirror(places: Places) -> None:
    """Bytes that do not match their name stay where they are: the mirror keeps waiting, and the run says which object it is."""
    places.away("nas")
    places.run(code=3)
    places.back("nas")
    pack = max((places.folder("usb") / "data").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    pack.chmod(0o600)
    pack.write_bytes(b"\0" * pack.stat().st_size)
    result = places.run(code=3)
    assert places.status(result) == {"usb": "delivered", "nas": "queued"}
    assert f"data {pack.name[:16]} is damaged" in result["destinations"][1]["error"]
    assert not list((places.folder("nas") / "snapshots").iterdir())


@pytest.mark.parametrize("nights", [1, 6])
def test_a_snapshot_that_waited_comes_with_what_was_pruned_meanwhile(places: Places, nights: int) -> None:
    """A snapshot waits for the primary, where somebody prunes all that it builds on: it arrives only with all it names, from the mirror."""
    needs("restic")
    for night in range(nights):
        places.add_notes(1, seed=20 + night)
        places.run()
    places.away("usb")
    places.store.made[0].location.unlink()  # what is gone from the phone nobody can read again
    places.add_notes(1, seed=1)
    places.run(code=3)
    places.back("usb")
    places.world.repo = places.folder("usb")
    snapshots = json.loads(places.world.restic("snapshots", "--json"))
    places.world.restic("forget", "--prune", *(one["id"] for one in snapshots))
    assert not list((places.folder("usb") / "index").iterdir()) or places.world.restic("list", "blobs").strip() == ""
    result = places.run()
    assert places.status(result) == {"usb": "delivered", "nas": "delivered"}
    shutil.rmtree(places.folder("nas"))
    assert places.world.restic("check", "--read-data")
    assert len(json.loads(places.world.restic("snapshots", "--json"))) == 2
    assert f"restored {5 + nights} notes" in places.backup("restore", "--repo", "usb", "--to", "given").text


def test_what_was_pruned_at_the_primary_goes_from_the_mirrors_when_a_person_says_so(places: Places) -> None:
    """sync --prune: refused while snapshots vanished unexplained, shown by --dry-run, then mirrors hold exactly what the primary does."""
    needs("restic")
    for night in range(1, 4):
        places.add_notes(1, seed=night)
        places.run()
    places.world.repo = places.folder("usb")
    places.world.restic("forget", "--prune", "--keep-last", "1", "--group-by", "host")
    before = places.objects("nas")
    assert "have disappeared from usb" in places.backup("sync", "--prune", code=5).told
    places.backup("check", "--accept-gone", "--repo", "usb")
    assert "would be removed" in places.backup("sync", "--prune", "--dry-run").text
    assert places.objects("nas").items() >= before.items()
    removed = places.backup("sync", "--prune", "--json").json["removed"]
    assert removed[0]["objects"] >= 3
    places.all_alike_and_sound()
    assert places.backup("check", "--repo", "nas").code == 0
    assert places.run()["notes"] == 7


def test_a_mirror_with_index_files_of_its_own_is_sound_after_pruning(places: Places) -> None:
    """Index files that only the mirror has, as after a lost state folder, go with the pruned packs that they name: it stays sound."""
    needs("restic")
    for night in range(1, 4):
        places.add_notes(1, seed=night)
        places.run()
    places.world.repo = places.folder("usb")
    places.world.restic("rebuild-index", "--read-all-packs")
    shutil.rmtree(places.world.folder / "state")
    places.run()
    assert places.objects("nas").keys() - places.objects("usb").keys()
    places.world.restic("forget", "--prune", "--keep-last", "1", "--group-by", "host", "--max-unused", "0")
    places.backup("check", "--accept-gone", "--repo", "usb")
    assert places.backup("sync", "--prune", "--json").json["removed"][0]["objects"] > 3
    for name in places.names:
        places.world.repo = places.folder(name)
        assert "no errors were found" in places.world.restic("check", "--read-data")
    assert places.backup("check").code == 0
    assert places.run()["notes"] == 7


def test_nothing_is_pruned_from_a_mirror_that_another_machine_writes_to(places: Places) -> None:
    """A laptop's archive is this machine's mirror: what was pruned at the primary may be what its snapshots are made of, and stays."""
    needs("restic")
    places.add_notes(2, seed=1)
    places.run()
    laptop = World(places.world.folder / "laptop", repo=places.folder("nas"), host="laptop")
    laptop.run(places.world.folder / "phone")
    places.world.repo = places.folder("usb")
    for note in (places.world.folder / "phone").rglob("PTT-202604*"):
        note.unlink()
    places.world.restic("forget", "--prune", *(one["id"] for one in json.loads(places.world.restic("snapshots", "--json"))))
    places.backup("check", "--accept-gone", "--repo", "usb")
    places.run()
    assert "nas has a snapshot that usb never had" in places.backup("sync", "--prune", "--dry-run", code=1).told
    assert "nothing is removed" in places.backup("sync", "--prune", code=1).told
    places.world.repo = places.folder("nas")
    assert "no errors were found" in places.world.restic("check", "--read-data")
    assert len(laptop.records()) == 6


def test_nothing_is_pruned_from_a_mirror_while_the_primary_is_not_whole(places: Places) -> None:
    """A pack that the primary lost by accident is not taken for a pruned one: the mirror's copy stays, and the damage is named."""
    places.run()
    places.run()
    index = sorted((places.folder("usb") / "index").iterdir())[0]
    index.unlink()
    pack = max((places.folder("usb") / "data").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    pack.unlink()
    before = places.objects("nas")
    places.backup("sync", "--prune", code=None)
    assert places.objects("nas").items() >= before.items()


def test_check_looks_at_every_place_by_itself(places: Places) -> None:
    """Damage at the primary is found though the mirror could give the bytes, and damage at the mirror though nobody reads there."""
    places.run()
    assert places.backup("check", "--read-data").text.count("no errors") == 2
    for name in ("usb", "nas"):
        pack = max((places.folder(name) / "data").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
        whole = pack.read_bytes()
        pack.chmod(0o600)
        pack.write_bytes(b"\0" * len(whole))
        told = places.backup("check", "--read-data", code=5)
        assert f"error: {name}: " in told.told
        assert told.text.count("no errors") == 1
        pack.write_bytes(whole)
    places.away("nas")
    ended = places.backup("check", code=3)
    assert "nas was not checked" in ended.told
    assert "usb: no errors" in ended.text


def test_a_run_that_is_killed_while_it_delivers_is_completed_by_the_next(places: Places) -> None:
    """Killed at any moment, the next run brings all places level, and every note is there."""
    chance = random.Random(4)
    for seed in range(1, 6):
        places.add_notes(2, seed=seed)
        process = places.world.start("run", env={"BACKUP_REPOSITORY": None})
        wait_for_lock(places.folder("usb"), process)
        with pytest.raises(Exception, match="timed out"):
            process.wait(chance.random() * 0.4)
        process.kill()
        process.communicate()
    assert places.run()["notes"] == 14
    places.all_alike_and_sound()


@pytest.fixture
def servers(world: World) -> Iterator[tuple[Places, Rest]]:
    """A primary behind a REST server, and a mirror that is a folder."""
    with ExitStack() as stack:
        root = world.folder / "server"
        root.mkdir()
        rest = stack.enter_context(serving(root))
        places = Places(world, ("cloud", "nas"), {"cloud": rest.url})
        shutil.copytree(places.folder("cloud"), root, dirs_exist_ok=True)
        shutil.rmtree(places.folder("cloud"))
        places.folder("cloud").symlink_to(root)
        places.backup("init")
        yield places, rest


def test_a_server_that_fails_in_the_middle_of_a_night_costs_nothing(servers: tuple[Places, Rest]) -> None:
    """The primary's disk is full from some moment on: what it lacks waits here, the mirror has everything; later it arrives."""
    places, rest = servers
    places.run()
    places.add_notes(3, seed=1)
    rest.manners = frozenset(["full"])
    result = places.run(code=3)
    assert places.status(result) == {"cloud": "queued", "nas": "delivered"}
    assert {"data", "index", "snapshots"} <= {"data" if len(kind) == 2 else kind for kind in places.spooled()}
    rest.manners = frozenset()
    assert places.status(places.run()) == {"cloud": "delivered", "nas": "delivered"}
    places.all_alike_and_sound()


def test_a_night_that_reaches_nobody_archives_all_the_same(new_world: NewWorld, tmp_path: Path) -> None:
    """The server refuses the sign-in: new notes are archived here from what this machine keeps of the index, with exit code 4, none of the
    old ones again; when the server takes them, all is there in order."""
    world = new_world(tmp_path / "desk")
    store = phone(world.folder / "phone", notes=6)
    with serving(world.repo) as rest:
        there = ["--repo", f"rest:{rest.url}"]
        for night in range(2):
            store.put(f"Media/WhatsApp Voice Notes/202614/PTT-2026040{night}-WA0001.opus", opus_note(1.0, 70 + night))
            world.backup("run", "phone", *there)
        rest.sign_in = "Basic nobody"
        for night in range(2, 5):
            store.put(f"Media/WhatsApp Voice Notes/202614/PTT-2026040{night}-WA0001.opus", opus_note(1.0, 70 + night))
            result = world.backup("run", "phone", "--json", *there, code=4).json
            assert (result["new"], result["notes"], result["destinations"][0]["status"]) == (1, 7 + night, "queued")
            assert result["bytes_added"] < 30_000
        assert len(list((world.repo / "snapshots").iterdir())) == 2
        rest.sign_in = ""
        result = world.backup("run", "phone", "--json", *there).json
        assert (result["new"], result["notes"], result["destinations"][0]["status"]) == (0, 11, "delivered")
        assert len(list((world.repo / "snapshots").iterdir())) == 6
        assert "no errors were found" in world.restic("check", "--read-data")
        assert world.backup("list", "--json", "--repo", world.repo).out.count(b'"message_id"') == 11


def test_a_night_that_reaches_nobody_and_has_no_cache_leaves_everything_for_the_next(new_world: NewWorld, tmp_path: Path) -> None:
    """Where the index is not kept here nothing is stored, least of all everything once more: the run ends with the server's own code."""
    world = new_world(tmp_path / "desk")
    store = phone(world.folder / "phone", notes=3)
    with serving(world.repo) as rest:
        there = ["--repo", f"rest:{rest.url}"]
        world.backup("run", "phone", *there)
        shutil.rmtree(world.folder / "cache")
        store.put("Media/WhatsApp Voice Notes/202614/PTT-20260401-WA0001.opus", opus_note(1.0, 77))
        rest.sign_in = "Basic nobody"
        assert "user or password" in world.backup("run", "phone", *there, code=4).told
        rest.sign_in = ""
        result = world.backup("run", "phone", "--json", *there).json
        assert (result["new"], result["notes"]) == (1, 4)


def test_a_single_server_is_delivered_to_through_the_spool(new_world: NewWorld, tmp_path: Path) -> None:
    """Typed on the command line, too: what a full server did not take waits here, with exit code 14, and arrives the next time."""
    world = new_world(tmp_path / "desk")
    store = phone(world.folder / "phone", notes=3)
    with serving(world.repo) as rest:
        world.backup("run", "phone", "--repo", f"rest:{rest.url}")
        store.put("Media/WhatsApp Voice Notes/202614/PTT-20260401-WA0001.opus", opus_note(1.0, 77))
        rest.manners = frozenset(["full"])
        ended = world.backup("run", "phone", "--repo", f"rest:{rest.url}", code=14)
        assert "no space left" in ended.told
        rest.manners = frozenset()
        result = world.backup("run", "phone", "--json", "--repo", f"rest:{rest.url}").json
        assert result["notes"] == 4
        assert "no errors were found" in world.restic("check", "--read-data")


def test_a_mirror_that_somebody_prunes_is_left_alone(places: Places) -> None:
    """An exclusive lock on a mirror keeps that mirror waiting, and nobody else."""
    places.run()
    places.add_notes(1, seed=1)
    lock = next(iter((places.folder("nas") / "locks").iterdir()), None)
    assert lock is None
    holder = World(places.world.folder / "holder")
    script = (
        "from backup_tool.repository import Repository; from backup_tool.destinations.local import LocalDestination\n"
        "from backup_tool.models import Secret; import sys, time\n"
        f"repository = Repository.open(LocalDestination({str(places.folder('nas'))!r}), Secret({PASSWORD!r}))\n"
        "with repository.lock(exclusive=True):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=holder.environment()) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        result = places.run(code=3)
        other.communicate(b"")
    assert places.status(result) == {"usb": "delivered", "nas": "queued"}
    assert "locked by process" in result["destinations"][1]["error"]
    places.run()
    places.all_alike_and_sound()


def test_twelve_nights_with_destinations_going_up_and_down(world: World) -> None:
    """Each night some of three places are away, one of them behind a server; in the end all are byte for byte alike and sound."""
    with ExitStack() as stack:
        places = Places(world, ("usb", "nas", "attic"))
        places.backup("init")
        chance = random.Random(12)
        absent: set[str] = set()
        for night in range(12):
            wanted = {name for name in places.names if chance.random() < 0.4}
            for name in wanted - absent:
                places.away(name)
            for name in absent - wanted:
                places.back(name)
            absent = wanted
            places.add_notes(1, seed=night + 1)
            if night in (4, 8):
                next(iter((places.world.folder / "phone").rglob("PTT-*.opus"))).unlink()
            code = 10 if len(absent) == 3 else 3 if absent else 0
            places.backup("run", code=code)
        for name in absent:
            places.back(name)
        places.run()
        stack.close()
        places.all_alike_and_sound()
        assert places.run()["notes"] == 4 + 12


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGTERM, 143, ("POST",)), (signal.SIGTERM, 143, ("GET", "HEAD")), (signal.SIGINT, 130, ("GET", "HEAD"))],
    ids=["sending", "looking", "looking, Ctrl-C"],
)
def test_a_signal_ends_a_run_while_a_place_is_silent(
    servers: tuple[Places, Rest], number: signal.Signals, code: int, words: tuple[str, ...]
) -> None:
    """Shutdown or Ctrl-C end it within seconds with their own code, are not taken for a place that is away, and the next run goes on."""
    places, rest = servers
    places.run()
    places.add_notes(3, seed=1)
    asked = len(rest.seen)
    rest.delay = 600.0 if "GET" in words else 0.2
    process = places.world.start("run", env={"BACKUP_REPOSITORY": None})
    while process.poll() is None and not any(seen[0] in words and (seen[0] != "POST" or "/data/" in seen[1]) for seen in rest.seen[asked:]):
        time.sleep(0.02)
    process.send_signal(number)
    ended = finish(process, 5)
    rest.delay = 0.0
    assert (ended.code, ended.out) == (code, b"")
    assert [line.split(":")[0] for line in ended.told.splitlines()] == ["error", "hint"]
    assert places.status(places.run()) == {"cloud": "delivered", "nas": "delivered"}
    places.all_alike_and_sound()


@pytest.mark.parametrize("kind", ["data", "index", "snapshots"])
@pytest.mark.parametrize("spoil", [b"", b"\0" * 3000], ids=["empty", "other bytes"])
def test_what_is_damaged_while_it_waits_comes_from_the_mirror(places: Places, kind: str, spoil: bytes) -> None:
    """A rotten object on this machine's disk keeps nothing back from the primary, and no snapshot comes there before what it names."""
    places.run()
    places.away("usb")
    places.add_notes(2, seed=1)
    places.run(code=3)
    for path in (places.world.folder / "state" / "spool").glob(f"*/{kind}/**/*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(spoil)
    places.back("usb")
    places.add_notes(1, seed=2)
    result = places.run()
    assert (result["notes"], places.status(result)) == (7, {"usb": "delivered", "nas": "delivered"})
    places.all_alike_and_sound()


def test_a_primary_that_did_not_get_all_that_waited_gets_no_snapshot_that_may_name_it(places: Places) -> None:
    """What waits was damaged here while the mirror that has it is away: what the primary holds is sound all the same, every night."""
    places.run()
    places.away("usb")
    places.add_notes(2, seed=1)
    places.run(code=3)
    for path in (places.world.folder / "state" / "spool").glob("*/data/**/*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"")
    places.back("usb")
    places.away("nas")
    for seed in (2, 3):
        places.add_notes(1, seed=seed)
        assert places.run(code=3)["notes"] >= 4 + 2
        assert places.backup("check", "--read-data", "--repo", "usb").code == 0
    places.back("nas")
    result = places.run()
    assert (result["notes"], places.status(result)) == (8, {"usb": "delivered", "nas": "delivered"})
    assert places.backup("check", "--read-data").text.count("no errors") == 2
    assert places.objects("nas").items() >= places.objects("usb").items()


def test_a_snapshot_that_waits_and_cannot_be_read_hides_nothing_that_was_archived_before(places: Places) -> None:
    """Where what it names is gone from this machine's disk, the archive is listed and given back as it was; the damage is named."""
    places.run()
    places.away("usb")
    places.add_notes(2, seed=1)
    places.run(code=3)
    for path in (places.world.folder / "state" / "spool").glob("*/*/**/*"):
        if path.is_file() and path.parent.parent.name == "data":
            path.unlink()
    places.back("usb")
    places.away("nas")
    ended = places.backup("list", "--json", code=5)
    assert len(ended.json) == 4
    assert "snapshot" in ended.told
    assert "restored 4 notes" in places.backup("restore", "--to", "given", code=5).text
    places.back("nas")
    assert len(places.backup("list", "--json").json) == 6


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_primary_that_takes_nothing_more_costs_the_mirror_nothing(places: Places, kind: str) -> None:
    """A first disk that is full or mounted read-only: night after night the mirror gets all that is new; with room, the disk has it too."""
    needs_root()
    places.run()
    whole = places.world.folder / "whole"
    places.folder("usb").rename(whole)
    places.folder("usb").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", places.folder("usb")], check=True)
    try:
        shutil.copytree(whole, places.folder("usb"), dirs_exist_ok=True)
        if kind == "full":
            fill = places.world.folder / "usb" / "fill"
            with suppress(OSError), fill.open("wb", buffering=0) as file:
                while file.write(bytes(1024)):
                    pass
        else:
            subprocess.run(["mount", "-o", "remount,ro", places.folder("usb")], check=True)
        for seed in (1, 2):
            places.add_notes(2, seed=seed)
            result = places.run(code=3)
            assert (result["new"], places.status(result)) == (2, {"usb": "queued", "nas": "delivered"})
        if kind == "full":
            fill.unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", places.folder("usb")], check=True)
        result = places.run()
        assert (result["notes"], places.status(result)) == (8, {"usb": "delivered", "nas": "delivered"})
        places.all_alike_and_sound()
    finally:
        subprocess.run(["umount", "-l", places.folder("usb")], check=True)


def test_a_lost_primary_is_not_begun_anew_beside_its_mirror(places: Places) -> None:
    """Where the primary is gone for good, init makes no second archive that would hide the mirror's: what its hint says brings all back."""
    places.run()
    note = next(path for path in places.store.root.rglob("*.opus"))
    note.unlink()
    shutil.rmtree(places.folder("usb"))
    for words in (["init"], ["init", "--repo", "usb"]):
        told = places.backup(*words, code=2).told
        assert "nas holds an archive, and usb would begin another one" in told
        assert "put [destinations.nas] before [destinations.usb]" in told
    assert not places.folder("usb").exists()
    lines = [f'[sources.phone]\npath = "{places.world.folder / "phone"}"\n']
    lines += [f'[destinations.{name}]\npath = "{places.folder(name)}"\n' for name in ("nas", "usb")]
    places.world.configure("".join(lines))
    assert "a mirror of" in places.backup("init", "--repo", "usb").text
    assert "no errors" in places.backup("check").text
    assert "usb: level, " in places.backup("sync").text
    assert places.status(places.run()) == {"nas": "delivered", "usb": "delivered"}
    assert len(places.backup("list", "--json", "--repo", "usb").json) == 4
    places.all_alike_and_sound()


def test_a_mirror_that_cannot_be_asked_stops_init_before_anything_is_made(world: World) -> None:
    """One that wants a sign-in first: the error is all that happened, and the same command does everything afterwards."""
    world.configure(f'[destinations.usb]\npath = "{world.folder / "usb"}"\n[destinations.drive]\ntype = "gdrive"\nfolder = "Voice notes"\n')
    told = world.backup("init", code=4, env={"BACKUP_REPOSITORY": None}).told
    assert "backup login drive" in told
    assert not (world.folder / "usb").exists()


def test_a_mirror_that_was_replaced_is_filled_again_without_alarm(places: Places) -> None:
    """After the disk of a mirror was replaced, init makes it a mirror and sync fills it: neither takes it for one that was rolled back."""
    places.run()
    shutil.rmtree(places.folder("nas"))
    assert "a mirror of" in places.backup("init", "--repo", "nas").text
    assert "no errors" in places.backup("check").text
    assert "nas: level, " in places.backup("sync").text
    places.all_alike_and_sound()
