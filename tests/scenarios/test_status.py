"""`backup status`: what somebody, or a script, learns of an installation that nobody looks after."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup_tool.actions.state import State
from backup_tool.config import DestinationSpec
from backup_tool.destinations import label_of, open_destination
from tests.destinations.icloud import Cloud, apple_for
from tests.destinations.servers import serving
from tests.generators.android import phone
from tests.generators.ogg import opus_note
from tests.scenarios.test_delivery import Places
from tests.scenarios.test_icloud_runs import Machine, notes
from tests.scenarios.test_places_that_fail import spoil
from tests.scenarios.world import World, finish, give_up_reading_everything, wait_for_lock


@pytest.fixture
def places(world: World) -> Places:
    """A primary and one mirror, both empty."""
    made = Places(world, ("usb", "nas"))
    made.backup("init")
    return made


def status(places: Places, code: int = 0, **env: str | None) -> Any:
    """What it says, without a password."""
    given = {"BACKUP_REPOSITORY": None, "BACKUP_PASSWORD_FILE": None, **env}
    found = places.world.backup("status", "--json", code=code, env=given).json
    assert found["code"] == code
    return found


def told(found: Any) -> list[tuple[int, str]]:
    return [(one["code"], f"{one['message']} -> {one['hint']}") for one in found["advice"]]


def seconds_ago(text: str) -> float:
    """Of an RFC 3339 time in UTC."""
    assert text.endswith("Z")
    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()


def state_of(world: World) -> State:
    return State(world.folder / "state")


def change_history(world: World, change: Any) -> None:
    """As if other nights had been: the record is changed, and is a right one afterwards."""
    state = state_of(world)
    record = state.load_history()
    assert record is not None
    change(record)
    state.save_history(record)


def days_ago(days: float) -> str:
    return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def test_a_machine_without_anything_says_where_to_begin(world: World) -> None:
    """No settings and no run: exit code 2, and the command that makes an archive."""
    ended = world.backup("status", code=2, env={"BACKUP_REPOSITORY": None})
    assert "nothing is configured" in ended.text
    assert "backup init --repo" in ended.text


def test_what_was_set_up_and_never_run_says_so(places: Places) -> None:
    """Settings alone archive nothing: exit code 1, and the command that does."""
    assert told(status(places, 1)) == [(1, "phone: no run is on record -> backup run")]


def test_after_a_good_night_all_is_well(places: Places) -> None:
    """Exit code 0; when it ran, what was new, who has everything, and nothing that waits; in words, with local times, for people."""
    places.run()
    found = status(places)
    (source,), (usb, nas) = found["sources"], found["destinations"]
    assert (source["name"], source["last_run"]["code"], source["last_run"]["new"]) == ("phone", 0, 4)
    assert source["last_run"]["line"].startswith("4 new notes, 0 unchanged; ")
    assert source["last_run"]["at"] == source["archived"] == source["arrived"]
    assert 0 <= seconds_ago(source["archived"]) < 120
    assert [(one["name"], one["role"], one["last_delivery"]["status"]) for one in (usb, nas)] == [
        ("usb", "primary", "delivered"), ("nas", "mirror", "delivered"),
    ]  # fmt: skip
    assert usb["queued"] == nas["queued"] == {"objects": 0, "bytes": 0, "since": None}
    assert (found["spool"], found["running"], found["advice"]) == ({"bytes": 0, "bound": 2 * 2**30}, None, [])
    places.run()
    text = places.backup("status").text
    assert "phone  source: last run" in text
    assert "0 new notes here: 0 new notes, 4 unchanged" in text
    local = datetime.fromisoformat(source["arrived"]) + timedelta(hours=5, minutes=45)
    assert re.search(rf"new notes last arrived \d+ (second|minute)s? ago \({local:%Y-%m-%d %H:%M}\)", text)
    assert text.endswith("all is well\n")
    assert places.backup("status", "--quiet").out == b""


def test_what_waits_for_a_mirror_is_counted_over_all_nights(places: Places) -> None:
    """Objects and bytes are exactly what the disk lacks, since the first night without it: exit code 3, then 0 when it has them."""
    places.run()
    places.away("nas")
    since = []
    for seed in (1, 2, 3):
        places.add_notes(2, seed=seed)
        places.run(code=3)
        found = status(places, 3)
        since.append(found["destinations"][1]["queued"]["since"])
    places.back("nas")
    lacking = places.objects("usb").keys() - places.objects("nas").keys()
    size = sum((places.folder("usb") / name).stat().st_size for name in lacking)
    assert found["destinations"][1]["queued"] == {"objects": len(lacking), "bytes": size, "since": since[0]}
    assert found["destinations"][0]["queued"]["objects"] == 0
    ((code, text),) = told(found)
    assert code == 3
    assert text.startswith("nas: there is no repository at ")
    assert f"{len(lacking)} objects (" in text
    assert text.endswith("backup run")
    shown = places.backup("status", "--quiet", code=3).text.splitlines()
    assert [line.split(":")[0] for line in shown] == ["warning", "hint"]
    places.backup("sync")
    assert status(places)["destinations"][1]["queued"]["objects"] == 0


def test_what_waits_for_the_primary_is_what_is_in_the_spool(places: Places) -> None:
    """The first disk is away: objects and bytes are those on this machine, and the spool's size is told against its bound."""
    places.run()
    places.away("usb")
    places.add_notes(2, seed=1)
    places.run(code=3)
    found = status(places, 3)
    queued = found["destinations"][0]["queued"]
    assert queued["objects"] == len(places.spooled()) > 2
    assert queued["bytes"] == found["spool"]["bytes"] > 4000
    assert 0 <= seconds_ago(queued["since"]) < 120
    assert found["destinations"][1]["last_delivery"]["status"] == "delivered"


def test_a_night_that_reached_nobody_is_told_by_the_places(places: Places) -> None:
    """With every disk away the code is the run's own, and each place is named once with what to do."""
    places.run()
    places.away("usb")
    places.away("nas")
    places.backup("run", code=10)
    found = status(places, 10)
    assert [code for code, _ in told(found)] == [10, 10]
    assert (found["sources"][0]["last_run"]["code"], found["sources"][0]["arrived"]) == (10, found["sources"][0]["archived"])


def test_a_run_that_failed_is_told_with_its_code_and_hint(places: Places) -> None:
    """A wrong password at night is exit code 12 of status, too, until a run has ended well."""
    places.run()
    wrong = places.world.folder / "wrong"
    wrong.write_text("not that\n")
    wrong.chmod(0o600)
    places.backup("run", "--password-file", wrong, code=12)
    ((code, text),) = told(status(places, 12))
    assert code == 12
    assert "the last run failed" in text
    places.run()
    status(places)


def test_a_source_that_is_away_is_named(places: Places) -> None:
    """The phone's folder is not mounted: exit code 3 and why; after two days without it, that too, though runs went on."""
    places.run()
    shutil.move(places.world.folder / "phone", places.world.folder / "elsewhere")
    places.run(code=3)
    ((code, text),) = told(status(places, 3))
    assert code == 3
    assert "phone" in text
    assert "its notes stay as they are" in text
    change_history(places.world, lambda record: record["sources"]["phone"].update(archived=days_ago(2.5)))
    assert told(status(places, 1))[0] == (1, "phone: the last successful run was 2 days ago -> see why: backup run")


def test_two_days_without_a_good_run_are_too_many(places: Places) -> None:
    """The machine was off, or cron is broken: exit code 1 after two days, 0 before."""
    places.run()
    for days, code in ((1.9, 0), (2.1, 1), (400, 1)):
        change_history(places.world, lambda record, days=days: record["sources"]["phone"].update(archived=days_ago(days)))
        assert [one for one, _ in told(status(places, code))] == [1] * code


def test_a_run_in_the_future_is_no_good_run(places: Places) -> None:
    """The clock was years ahead for one night: that night hides none of those that never begin afterwards; the next run mends it."""
    places.run()
    change_history(places.world, lambda record: record["sources"]["phone"].update(archived=days_ago(-900)))
    ((code, text),) = told(status(places, 1))
    assert (code, "clock" in text) == (1, True)
    places.run()
    assert status(places)["advice"] == []


def test_a_run_under_way_is_shown_and_one_that_was_killed_too(places: Places) -> None:
    """While a run works its process is named, and nothing complained of; killed, it is said that it did not end; the next one mends it."""
    places.add_notes(200, seed=1)
    process = places.world.start("run", env={"BACKUP_REPOSITORY": None})
    wait_for_lock(places.folder("usb"), process)
    process.send_signal(signal.SIGSTOP)
    found = status(places)
    assert (found["running"]["pid"], found["advice"]) == (process.pid, [])
    assert f"under way: process {process.pid}, " in places.backup("status").text
    process.kill()
    process.wait()
    found = status(places, 1)
    assert found["running"] is None
    assert [code for code, text in told(found) if "did not end: it was killed" in text] == [3]
    places.run()
    assert status(places)["sources"][0]["broke_off"] is None
    finish(process)


def test_a_run_that_is_interrupted_counts_as_incomplete(places: Places) -> None:
    """Ctrl-C and shutdown end a run with codes of their own; what is to be done is to run again: exit code 3."""
    places.run()
    places.add_notes(200, seed=1)
    process = places.world.start("run", env={"BACKUP_REPOSITORY": None})
    wait_for_lock(places.folder("usb"), process)
    process.terminate()
    assert finish(process).code == 143
    ((code, text),) = told(status(places, 3))
    assert (code, text) == (3, "the last run was ended: terminated -> backup run")


@pytest.mark.parametrize("bad", [b"", b"\0\xff{", b'{"version": 99}', "shape"], ids=["empty", "bytes", "another version", "another shape"])
def test_a_record_that_cannot_be_read_is_said_to_be_unknown(places: Places, bad: bytes | str) -> None:
    """Written by another version, cut or wrong: exit code 1 and no guess; the next run writes it anew."""
    places.run()
    if isinstance(bad, str):
        state_of(places.world).save_history({"sources": {"phone": {"met": 7}}, "places": []})
    else:
        (places.world.folder / "state" / "history.json").write_bytes(bad)
    found = status(places, 1)
    assert [(code, "cannot be read" in text) for code, text in told(found)] == [(1, True)]
    assert (found["sources"][0]["last_run"], found["destinations"][1]["queued"]) == (None, None)
    places.run()
    status(places)


def test_a_state_folder_that_cannot_be_written_fails_no_run(world: World) -> None:
    """The run ends well and says that nothing could be kept; status then knows of no run."""
    (world.folder / "state").write_bytes(b"")
    phone(world.folder / "phone", notes=2)
    ended = world.backup("run", "phone")
    assert "could not be kept" in ended.told
    world.backup("status", code=2, env={"BACKUP_REPOSITORY": None})


def test_a_state_folder_that_cannot_be_read_is_no_crash(places: Places) -> None:
    """Somebody else's, or of wrong modes: nothing is known, and it says so."""
    places.run()
    (places.world.folder / "state").chmod(0)
    env = {"BACKUP_REPOSITORY": None}
    ended = places.world.backup("status", code=1, env=env, preexec_fn=give_up_reading_everything)
    (places.world.folder / "state").chmod(0o700)
    assert "phone: no run is on record" in ended.text


def test_a_run_that_hangs_is_no_excuse(places: Places) -> None:
    """A run that is at work for longer than two days is shown, and so is that nothing was archived."""
    process = places.world.start("run", env={"BACKUP_REPOSITORY": None})
    wait_for_lock(places.folder("usb"), process)
    process.send_signal(signal.SIGSTOP)
    lock = next(path for path in (places.world.folder / "state").glob("run-*.lock") if path.read_bytes())
    pid, _, start, boot = lock.read_text().split()
    lock.write_text(f"{pid} {days_ago(3)} {start} {boot}\n")
    found = status(places, 1)
    assert (found["running"]["pid"], told(found)[0]) == (process.pid, (1, "phone: no run is on record -> backup run"))
    process.kill()
    finish(process)


@pytest.mark.parametrize(
    ("kind", "place", "options"),
    [
        ("rest", "https://nas.example.org:8000/ann/", {"user": "ann"}),
        ("s3", "https://s3.example.org/bucket/x", {}),
        ("rclone", "drive:Voice notes", {}),
        ("gdrive", "Voice\x1bnotes", {}),
        ("icloud", "Voice notes/2026", {}),
    ],
    ids=["rest", "s3", "rclone", "gdrive", "icloud"],
)
def test_what_is_on_record_of_a_place_is_found_under_the_name_it_has_in_a_run(
    kind: str, place: str, options: dict[str, str], tmp_path: Path
) -> None:
    """status opens no place, and calls each just as a run does that has opened it."""
    spec = DestinationSpec(name="x", type=kind, place=place, options=options)
    with closing(open_destination(spec, home=tmp_path)) as opened:
        assert label_of(spec) == opened.label


def test_without_settings_it_shows_what_was_typed_last(world: World) -> None:
    """As the first line of a crontab does it: source and archive typed. Both are shown, and all is well."""
    phone(world.folder / "phone", notes=2)
    world.backup("run", "phone")
    found = world.backup("status", "--json", env={"BACKUP_REPOSITORY": None}).json
    assert [one["name"] for one in found["sources"]] == ["phone"]
    assert [one["place"] for one in found["destinations"]] == [str(world.repo)]


def test_a_check_that_found_damage_is_not_forgotten_for_a_lesser_one(places: Places) -> None:
    """Bytes that --read-data found rotten are told with exit code 5 until --read-data finds them well, whatever a quick check says."""
    places.run()
    pack = max((places.folder("nas") / "data").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    sound = spoil(pack)
    places.backup("check", "--read-data", code=5)
    places.backup("check")
    found = status(places, 5)
    assert {one["how"]: one["code"] for one in found["destinations"][1]["checks"]} == {"structure": 0, "every byte": 5}
    ((code, text),) = told(found)
    assert code == 5
    assert text.startswith("nas: the check ")
    assert text.endswith("backup check --repo nas")
    pack.write_bytes(sound)
    places.backup("check", "--read-data")
    checks = status(places)["destinations"][0]["checks"]
    assert all(one["code"] == 0 and "no errors" in one["verdict"] for one in checks)


def test_what_was_repaired_is_no_damage_any_more(places: Places) -> None:
    """After a repair that left nothing damaged the alarm of the check before it is over, without a second look at every byte."""
    places.run()
    spoil(next(path for path in (places.folder("usb") / "data").rglob("*") if path.is_file()))
    places.backup("check", "--read-data", code=5)
    status(places, code=5)
    places.backup("repair", "--dry-run")
    status(places, code=5)
    places.backup("repair")
    status(places)


def test_neither_network_nor_password_is_asked_for(world: World) -> None:
    """A server that is there is not spoken to, and no password source is run; what it did not take is counted all the same."""
    store = phone(world.folder / "phone", notes=3)
    with serving(world.repo) as rest:
        world.configure(
            f'[sources.phone]\npath = "{world.folder / "phone"}"\n[destinations.cloud]\ntype = "rest"\nurl = "{rest.url}"\n'
            '[repository]\npassword_command = ["false"]\n'
        )
        world.backup("run", env={"BACKUP_REPOSITORY": None})
        store.put("Media/WhatsApp Voice Notes/202614/PTT-20260401-WA0001.opus", opus_note(1.0, 77))
        rest.sign_in = "Basic nobody"
        world.backup("run", code=4, env={"BACKUP_REPOSITORY": None})
        asked = len(rest.seen)
        found = world.backup("status", "--json", code=4, env={"BACKUP_REPOSITORY": None, "BACKUP_PASSWORD_FILE": None}).json
        assert len(rest.seen) == asked
        (cloud,) = found["destinations"]
        assert cloud["queued"]["objects"] > 2
        assert (cloud["last_delivery"]["code"], cloud["sign_in"]) == (4, None)


def test_what_was_queued_for_a_place_that_was_typed_once_is_not_forgotten(places: Places) -> None:
    """Objects that wait on this machine for a server which the settings do not name are told, with the command that delivers them."""
    places.run()
    with serving(places.world.folder / "server") as rest:
        other = f"rest:{rest.url}"
        places.backup("init", "--repo", other)
        rest.manners = frozenset(["full"])
        places.backup("run", "--repo", other, code=14)
        text = dict(told(status(places, 3)))
        assert any(f"backup run --repo {other}" in one for one in text.values())
        rest.manners = frozenset()
        places.backup("run", "--repo", other)
    assert status(places)["advice"] == []


def test_a_run_to_another_place_by_hand_is_no_night(places: Places) -> None:
    """Typed for once, a place that is not in the settings, mistyped or not, neither raises an alarm of the nights nor ends one."""
    places.run()
    before = status(places)["sources"]
    places.backup("run", "--repo", "./typo", code=10)
    places.backup("init", "--repo", "./once")
    places.backup("run", "--repo", "./once")
    assert status(places)["sources"] == before


def test_hostile_text_of_the_record_is_escaped(places: Places) -> None:
    """What a store or a server said, and stands on record, cannot steer a terminal."""
    places.run()

    def change(record: Any) -> None:
        record["sources"]["phone"]["last"].update(code=1, line="\x1b[2Jgone\u202e", hint="\x07")
        record["sources"]["phone"].update(new=None)
        record["places"][str(places.folder("nas"))].update(status="queued", error="\x1b]0;x\x07")

    change_history(places.world, change)
    text = places.backup("status", code=1).text
    assert not any(sign in text for sign in "\x1b\x07\u202e")
    assert "\\x1b[2Jgone" in text


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """Apple, with one account."""
    with apple_for(tmp_path / "apple") as found:
        yield found


def test_a_sign_in_to_icloud_is_told_by_its_days(cloud: Cloud, tmp_path: Path) -> None:
    """Nobody signed in: 4 and the command; then the days left, a warning before the end, 4 after a refusal, and not after a new sign-in.

    Apple is not asked for any of it.
    """
    machine = Machine(tmp_path / "machine", cloud)
    notes(machine.folder / "phone", 0, 1)
    disk = f'[sources.phone]\npath = "{machine.folder / "phone"}"\n[destinations.disk]\npath = "{machine.folder / "disk"}"\n'
    machine.configure(disk + machine.settings.read_text())
    found = machine.backup("status", "--json", code=4).json
    assert "backup login cloud" in told(found)[0][1]
    machine.sign_in()
    machine.backup("init")
    machine.backup("run")
    asked = len(cloud.proxy.seen)
    sign_in = machine.backup("status", "--json").json["destinations"][1]["sign_in"]
    assert (sign_in["needed"], round(sign_in["days_left"])) == (False, 30)
    assert sign_in["signed_in"] <= sign_in["accepted"]
    assert seconds_ago(sign_in["accepted"]) >= 0
    assert "sign-in ends in 30 days or so" in machine.backup("status").text
    (session,) = (machine.folder / "state" / "destinations").rglob("session.json")
    kept = json.loads(session.read_bytes())
    session.write_text(json.dumps({**kept, "signed_in": kept["signed_in"] - 26 * 86_400}))
    found = machine.backup("status", "--json").json
    assert [(code, "ends in about" in text, "backup login cloud" in text) for code, text in told(found)] == [(0, True, True)]
    session.write_text(json.dumps(kept))
    assert len(cloud.proxy.seen) == asked
    cloud.apple.later(days=31)
    machine.backup("run", code=3)
    found = machine.backup("status", "--json", code=4).json
    assert "the sign-in to iCloud has ended" in told(found)[0][1]
    machine.sign_in()
    assert "somebody has signed in since" in told(machine.backup("status", "--json", code=3).json)[0][1]
    machine.backup("run")
    machine.backup("status")


@pytest.mark.parametrize(
    ("days", "code", "said"),
    [(5.0, 0, "ends in about"), (3.0, 0, "ends in 3 days"), (-1.0, 4, "backup login drive")],
    ids=["testing", "soon", "over"],
)
def test_a_sign_in_to_google_is_told_by_its_days(world: World, days: float, code: int, said: str) -> None:
    """A client in testing lasts seven days, and Google may say when it ends: told before, and exit code 4 after."""
    world.configure('[destinations.drive]\ntype = "gdrive"\nfolder = "Voice notes"\n')
    home = state_of(world).home("gdrive:Voice notes")
    home.mkdir(parents=True)
    now = datetime.now(UTC).timestamp()
    kept = {"refresh_token": "r", "client_id": "c", "client_secret": "s", "scopes": [], "signed_in": now - 86_400}
    if said != "ends in about":
        kept["ends"] = now + days * 86_400 + 60
    (home / "sign-in.json").write_text(json.dumps(kept))
    (home / "sign-in.json").chmod(0o600)
    ended = world.backup("status", "--json", code=code, env={"BACKUP_REPOSITORY": None})
    (drive,) = ended.json["destinations"]
    if said == "ends in about":
        assert (drive["sign_in"]["days_left"], round(drive["sign_in"]["days_left_in_testing"])) == (None, 6)
    else:
        assert round(drive["sign_in"]["days_left"]) == days
        assert said in told(ended.json)[0][1]
    assert "refresh" not in ended.out.decode()


def test_doctor_and_status_say_not_told_where_nothing_is_known(cloud: Cloud, tmp_path: Path) -> None:
    """What iCloud does not say of its trash is told to be so: no question mark."""
    machine = Machine(tmp_path / "machine", cloud)
    machine.sign_in()
    machine.backup("init", "--repo", "cloud")
    text = machine.backup("doctor", "cloud", "--online").text
    assert [line.split("  ")[-1].strip() for line in text.splitlines() if line.startswith("in the trash")] == ["not told"]


def test_what_a_mirror_has_alone_is_told(places: Places) -> None:
    """Stored at the mirror only, in a night of which the state folder was lost: said every day, until it was brought to the others."""
    places.run()
    places.away("usb")
    places.add_notes(2, seed=1)
    places.run(code=3)
    for note in (places.world.folder / "phone").rglob("PTT-202604*"):
        note.unlink()
    shutil.rmtree(places.world.folder / "state")
    places.back("usb")
    assert places.run()["destinations"][1]["alone"] == 1
    ((code, text),) = told(status(places))
    assert (code, text.startswith("nas has a snapshot that the first destination never had: ")) == (0, True)
    settings = places.world.settings.read_text()
    head, usb, nas = re.split(r"(?=\[destinations)", settings)
    places.world.settings.write_text(head + nas + usb)
    places.backup("sync")
    places.world.settings.write_text(settings)
    places.run()
    assert status(places)["advice"] == []
    assert len(places.backup("list", "--json").json) == 6


def test_what_waits_for_whom_cannot_be_read_is_told_so(places: Places) -> None:
    """Damage in the list of places of what waits here: no empty name and no command that cannot be typed; the next run delivers it."""
    places.run()
    places.away("usb")
    places.add_notes(1, seed=1)
    places.run(code=3)
    (spool,) = (places.world.folder / "state" / "spool").iterdir()
    (spool / "places.json").write_bytes(b"[")
    text = next(text for _, text in told(status(places, 3)) if "on this machine" in text)
    assert text.endswith(" on this machine, and for whom cannot be read -> find out, and deliver it: backup run")
    places.back("usb")
    places.run()
    assert status(places)["advice"] == []
    places.all_alike_and_sound()


def test_nothing_waits_for_a_mirror_that_became_the_primary(places: Places) -> None:
    """The first disk is lost and taken from the settings: the mirror has all that waited for it, and after a run nothing is to be done."""
    places.run()
    places.away("usb")
    places.add_notes(1, seed=1)
    places.run(code=3)
    for path in (places.world.folder / "state" / "spool").rglob("*"):
        os.utime(path, (path.stat().st_mtime - 86_400,) * 2)
    settings = places.world.settings.read_text()
    places.world.settings.write_text(re.sub(r"\[destinations.usb\]\npath = .*\n", "", settings))
    places.run()
    found = status(places)
    assert (found["advice"], found["destinations"][0]["queued"]["objects"]) == ([], 0)
    places.world.settings.write_text(settings)
    assert status(places, 3)["destinations"][0]["queued"]["objects"] > 0
