"""What damage, a full disk or a changed settings file does to a night with several destinations, and what is said of it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.generators.ogg import opus_note
from tests.parts import needs_root
from tests.scenarios.conftest import NewWorld
from tests.scenarios.test_delivery import Places
from tests.scenarios.world import World, finish, wait_for_lock


@pytest.fixture
def places(world: World) -> Places:
    """A primary and one mirror, which hold four notes."""
    made = Places(world, ("usb", "nas"))
    made.backup("init")
    made.run()
    return made


def spoil(path: Path) -> bytes:
    """Flip a bit; the sound bytes."""
    sound = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(sound[:20] + bytes([sound[20] ^ 1]) + sound[21:])
    return sound


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of that size, mounted on the folder, with what the folder holds."""
    needs_root()
    whole = folder.with_name(f"{folder.name}.whole")
    folder.rename(whole)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_damaged_config_of_the_primary_costs_no_night(places: Places) -> None:
    """One flipped bit: list reads the mirror and says so, the night goes to the mirror and waits for the primary; mended, all is level."""
    sound = spoil(places.folder("usb") / "config")
    places.add_notes(2, seed=1)
    ended = places.backup("list", "--json")
    assert len(ended.json) == 4
    assert "usb is passed over (usb has a damaged config): nas is used" in ended.told
    for night in range(2):
        result = places.run(code=3)
        assert (result["new"], places.status(result)) == (2 * (not night), {"usb": "failed", "nas": "delivered"})
        assert "has a damaged config (mend it from nas: backup repair --repo usb" in result["destinations"][0]["error"]
    assert places.spooled() != []
    assert len(places.backup("list", "--json").json) == 6
    status = places.backup("status", "--json", code=5).json
    assert status["destinations"][0]["last_delivery"]["status"] == "failed"
    places.backup("repair", "--repo", "usb")
    assert (places.folder("usb") / "config").read_bytes() == sound
    assert places.status(places.run()) == {"usb": "delivered", "nas": "delivered"}
    places.all_alike_and_sound()


@pytest.mark.parametrize("mirror", ["away", "damaged as well"])
def test_a_damaged_config_without_a_sound_mirror_is_an_integrity_failure(places: Places, mirror: str) -> None:
    """Where no other place has a sound config, run and list end with 5 and name the damage."""
    spoil(places.folder("usb") / "config")
    if mirror == "away":
        places.away("nas")
    else:
        spoil(places.folder("nas") / "config")
    shutil.rmtree(places.world.folder / "cache", ignore_errors=True)
    for verb in ("list", "run"):
        assert "config" in places.backup(verb, code=5).told


def set_owing(places: Places) -> str:
    """A night without the primary, of which the mirror alone has the packs; then the mirror leaves the settings, which were these."""
    places.away("usb")
    places.add_notes(2, seed=1)
    places.run(code=3)
    (spool,) = (places.world.folder / "state" / "spool").iterdir()
    packs = [path for path in (spool / "data").rglob("*") if path.is_file()]
    (spool / "owed.json").write_text(json.dumps({path.name: path.stat().st_size for path in packs}))
    for path in packs:
        path.unlink()
    places.back("usb")
    settings = places.world.settings.read_text()
    places.world.settings.write_text(settings.partition("[destinations.nas]")[0])
    return settings


@pytest.mark.parametrize("phone", ["has them still", "has lost them"])
def test_what_only_a_removed_mirror_has_is_said_once(places: Places, phone: str) -> None:
    """The first run names the place and what to do, later ones end with 0 and go on without; back in the settings, everything arrives."""
    settings = set_owing(places)
    if phone == "has lost them":
        for note in (places.world.folder / "phone").rglob("PTT-202604*"):
            note.unlink()
    ended = places.backup("run", code=None)
    # What the phone has may be stored again just as it was, where the same second has not passed: then nothing is left to wait for.
    assert ended.code == 3 or (ended.code == 0 and phone == "has them still")
    assert f"they went to {places.folder('nas')} only, and cannot be delivered" in ended.told
    assert "backup sync" in ended.told
    here = 6 if phone == "has them still" else 4
    for _ in range(2):
        ended = places.backup("run")
        assert ended.told == ""
        assert len(places.backup("list", "--json").json) == here
    assert places.backup("check", "--read-data").code == 0
    advice = places.backup("status", "--json").json["advice"]
    assert [(one["code"], "cannot be delivered" in one["message"]) for one in advice] == [(0, True)]
    places.world.settings.write_text(settings)
    places.run()
    assert len(places.backup("list", "--json").json) == 6
    places.run()
    assert places.backup("check", "--read-data").text.count("no errors") == 2
    assert "restored 6 notes" in places.backup("restore", "--repo", "usb", "--to", "given").text


def test_a_primary_that_fills_in_the_middle_of_a_night_costs_the_mirror_nothing(places: Places) -> None:
    """The first disk has room when the run begins and none before it ends: that same run brings everything to the mirror, and what fits
    on the disk is not sent twice; with room, the disk has it all."""
    places.world.settings.write_text(places.world.settings.read_text() + '[repository]\npack_size = "4 MiB"\n')
    for number in range(50):
        name = f"PTT-20260405-WA{number:04d}.opus"
        places.store.put(f"Media/WhatsApp Voice Notes/202614/{name}", opus_note(1.0, 9000 + number) + bytes(400_000) + bytes([number]))
    usb = places.folder("usb")
    with small_disk(usb, "400m"):
        process = places.world.start("run", "--json", env={"BACKUP_REPOSITORY": None})
        wait_for_lock(usb, process)
        process.send_signal(signal.SIGSTOP)
        resize(usb, 9 * 2**20)
        process.send_signal(signal.SIGCONT)
        ended = finish(process)
        assert (ended.code, "Traceback" in ended.told) == (3, False), ended.told
        assert (ended.json["new"], places.status(ended.json)) == (50, {"usb": "queued", "nas": "delivered"})
        assert "the run goes on with the other destinations" in ended.told
        assert ended.json["destinations"][0]["lacks"]["objects"] > 0
        assert len(places.backup("list", "--json", "--repo", "nas").json) == 54
        resize(usb, 300 * 2**20)
        assert places.status(places.run()) == {"usb": "delivered", "nas": "delivered"}
        places.all_alike_and_sound()


def resize(disk: Path, left: int) -> None:
    """Of a mounted disk, so many bytes are left from now on."""
    usage = shutil.disk_usage(disk)
    subprocess.run(["mount", "-o", f"remount,size={usage.used + left}", disk], check=True)


@pytest.mark.parametrize("spool", ["no folder", "read-only", "full"])
def test_a_spool_that_cannot_be_written_costs_nothing_where_all_places_are_there(places: Places, spool: str) -> None:
    """Its disk is full, or cannot be written: the night is delivered all the same, and it is said."""
    folder = places.world.folder / "state" / "spool"
    places.add_notes(1, seed=1)
    shutil.rmtree(folder)
    if spool == "no folder":
        folder.write_bytes(b"")
        check_delivered(places)
        return
    folder.mkdir()
    with small_disk(folder, "1m"):
        if spool == "full":
            (folder / "fill").write_bytes(bytes(4096))
            resize(folder, 0)
        else:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        check_delivered(places)


def check_delivered(places: Places) -> None:
    ended = places.backup("run", "--json")
    assert (ended.json["new"], places.status(ended.json)) == (1, {"usb": "delivered", "nas": "delivered"})
    assert "the spool is done without" in ended.told
    assert places.objects("usb") == places.objects("nas")


def test_a_third_place_gets_from_the_second_what_is_damaged_at_the_first(new_world: NewWorld, tmp_path: Path) -> None:
    """A pack that is rotten at the primary reaches a new mirror from the other one, and the run says so."""
    places = Places(new_world(tmp_path / "desk"), ("usb", "nas", "attic"))
    places.backup("init")
    places.away("attic")
    places.run(code=3)
    places.back("attic")
    pack = max((places.folder("usb") / "data").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    spoil(pack)
    ended = places.backup("run", "--json")
    assert places.status(ended.json) == {"usb": "delivered", "nas": "delivered", "attic": "delivered"}
    assert f"data {pack.name[:16]} is damaged on this machine: attic gets it from nas" in ended.told
    assert places.objects("attic") == places.objects("nas")


def test_a_mistyped_destination_is_answered_with_the_nearest(places: Places) -> None:
    """--repo nass: the hint names nas; a path that is not there is told as before."""
    for verb in (["list"], ["run"], ["check"]):
        assert "hint: the nearest destination of the settings is: --repo nas\n" in places.backup(*verb, "--repo", "nass", code=10).told
    assert "backup init --repo" in places.backup("list", "--repo", "./nass", code=10).told


def test_check_says_that_two_places_hold_two_archives(places: Places) -> None:
    """Two sound archives in the places of one: check says that neither is a copy of the other, with exit code 3."""
    shutil.rmtree(places.folder("nas"))
    World(places.world.folder / "other").backup("init", "--repo", places.folder("nas"))
    ended = places.backup("check", code=3)
    assert ended.text.count("no errors") == 2
    assert "nas holds another repository than usb, and is no copy of it" in ended.told
