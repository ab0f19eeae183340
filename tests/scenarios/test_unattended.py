"""The night itself: cron's own line, no terminal, runs that meet, signals, and a password that shows nowhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.generators.android import Store, phone
from tests.generators.ogg import opus_note
from tests.parts import needs
from tests.repository.forge import cheapen
from tests.scenarios.world import PASSWORD, ROOT, World, finish, wait_for_lock, wait_until_idle

SAMPLES = ROOT / "configs"


@pytest.fixture
def home(world: World) -> Path:
    """The home of somebody who installed the program, copied the smallest sample settings as they are, and made an archive."""
    home = world.folder / "home"
    program = home / ".local/bin/backup"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m backup_tool "$@"\n')
    program.chmod(0o755)
    settings = home / ".config/backup-tool"
    settings.mkdir(parents=True)
    shutil.copy(SAMPLES / "minimal.toml", settings / "config.toml")
    shutil.copy(world.password_file, settings / "password")
    shutil.move(world.repo, home / "voice-notes")
    phone(home / "phone/WhatsApp", notes=5)
    return home


def crontab() -> dict[str, str]:
    """The commands of the sample, by their verb, as cron gives them to sh."""
    lines = [line for line in (SAMPLES / "crontab.example").read_text().splitlines() if line and not line.startswith("#")]
    commands = [line.split(maxsplit=5)[5] for line in lines]
    return {next(verb for verb in ("run", "check") if f" {verb}" in command): command for command in commands}


def cron(home: Path, command: str) -> subprocess.Popen[bytes]:
    """What cron does: sh, hardly any environment, no terminal, in the home folder."""
    words = ["env", "-i", f"HOME={home}", "PATH=/usr/bin:/bin", "sh", "-c", command]
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, cwd=home, start_new_session=True, **how)  # type: ignore[call-overload, no-any-return]


def test_the_sample_crontab_works_as_it_stands(home: Path) -> None:
    """A good night prints one closing line, which cron mails, and nothing else."""
    commands = crontab()
    assert list(commands) == ["run", "check"]
    for words in ("5 new notes, 0 unchanged; ", "0 new notes, 5 unchanged; "):
        night = finish(cron(home, commands["run"]))
        assert (night.code, night.err) == (0, b"")
        assert [line.startswith(words) for line in night.text.splitlines()] == [True]
    sunday = finish(cron(home, commands["check"]))
    assert (sunday.code, sunday.err) == (0, b"")
    assert len(sunday.text.splitlines()) == 1


def test_a_bad_night_mails_one_error_with_its_hint(home: Path) -> None:
    """The disk is not mounted, the phone is away, the password is wrong: the exit code and the mail say which."""
    command = crontab()["run"]
    shutil.move(home / "phone", home / "away")
    away = finish(cron(home, command))
    assert away.code == 3
    assert len(away.text.splitlines()) == 1
    assert [line.startswith(f"  {home}/phone/WhatsApp: ") for line in away.told.splitlines()] == [True]
    (home / ".config/backup-tool/password").write_text("not this one\n")
    wrong = finish(cron(home, command))
    shutil.move(home / "voice-notes", home / "unplugged")
    (home / "voice-notes").mkdir()
    unplugged = finish(cron(home, command))
    for ended, code in ((wrong, 12), (unplugged, 10)):
        assert (ended.code, ended.out) == (code, b"")
        assert [line.split(":")[0] for line in ended.told.splitlines()] == ["error", "hint"]
    assert not list((home / "voice-notes").iterdir())


def test_of_two_overlapping_nights_the_second_gives_way(home: Path) -> None:
    """While one run works, another ends with 11 and one clear line, and the first is not disturbed."""
    command = crontab()["run"]
    first = cron(home, command)
    wait_for_lock(home / "voice-notes", first)
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        second = finish(cron(home, command))
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert (second.code, second.out) == (11, b"")
    error, hint = second.told.splitlines()
    assert error.startswith(f"error: another run is working on {home}/voice-notes (process ")
    assert hint.startswith("hint: let it finish")
    assert finish(first).code == 0
    assert finish(cron(home, command)).code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "working"])
def test_a_signal_ends_a_run_soon_and_the_next_one_completes_it(world: World, number: signal.Signals, code: int, busy: bool) -> None:
    """Shutdown or Ctrl-C: ended within five seconds with its code and one line, nothing left behind, nothing lost."""
    needs("restic")
    store = Store(world.folder / "phone/WhatsApp")
    made = store.voice_notes(900 if busy else 3, seconds=0.2, a_day=100)
    fresh = store.put("Media/WhatsApp Voice Notes/202429/PTT-20240721-WA0001.opus", opus_note(1.0, seed=9999))
    os.utime(fresh.location)  # written to just now: a run waits two seconds before it reads that
    process = world.start("run", "phone")
    wait_for_lock(world.repo, process)
    if not busy:
        os.utime(fresh.location)  # and two seconds from here on, however long it took to come so far
        wait_until_idle(process)
    else:
        wait_for_pack(world.repo, process)
    process.send_signal(number)
    ended = finish(process, 5)
    assert (ended.code, ended.out) == (code, b"")
    assert [line.split(":")[0] for line in ended.told.splitlines()] == ["error", "hint"]
    wait_for_helpers(process.pid)
    assert not list((world.repo / "locks").iterdir())
    assert not list((world.repo / "snapshots").iterdir())
    assert not [path for path in (world.folder / "state").rglob("work/*") if path.exists()]
    assert world.run("phone")["notes"] == len(made) + 1
    assert "no errors were found" in world.restic("check", "--read-data")
    assert not [path for path in world.repo.rglob("*") if path.is_file() and path.name != "config" and len(path.name) != 64]


def wait_for_pack(repo: Path, process: subprocess.Popen[bytes]) -> None:
    """Until audio is being written."""
    while not any(path.is_file() and path.stat().st_size for path in (repo / "data").rglob("*")):
        assert process.poll() is None, process.communicate()


def wait_for_helpers(group: int) -> None:
    """Until no process that the run had started lives; fails where one goes on without it."""
    end = time.monotonic() + 5
    with suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            assert time.monotonic() < end
            time.sleep(0.02)


def test_the_password_shows_nowhere(tmp_path: Path) -> None:
    """Not in any output, not even of errors and of --debug, not in the arguments of any process, not in any file that is written."""
    world = World(tmp_path)
    typed = {"BACKUP_PASSWORD_FILE": None, "BACKUP_PASSWORD": PASSWORD}
    ended = [world.backup("init", "-v", env=typed)]
    cheapen(world.repo, PASSWORD)
    store = Store(world.folder / "phone/WhatsApp")
    store.voice_notes(450, seconds=0.2)  # enough for a run to start its helpers
    process = world.start("run", "phone", "-v", "--debug", env=typed)
    seen = set[bytes]()
    while process.poll() is None:
        seen.update(map(command_line, Path("/proc").glob("[0-9]*/cmdline")))
        time.sleep(0.02)
    ended.append(finish(process))
    assert ended[-1].code == 0, ended[-1].told
    ended += [
        world.backup(*words, env=typed) for words in (("list", "-v"), ("check", "-v"), ("config", "show"), ("config", "show", "--json"))
    ]
    ended.append(world.backup("list", "--debug", env={"BACKUP_PASSWORD_FILE": None, "BACKUP_PASSWORD": PASSWORD + "!"}, code=None))
    assert ended[-1].code == 12
    secret = PASSWORD.encode()
    assert secret not in b"".join(one.out + one.err for one in ended)
    assert any(b"backup_tool" in line for line in seen)
    assert not [line for line in seen if secret in line]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != world.password_file]
    assert any("state" in path.parts for path in files)
    assert not [path for path in files if secret in path.read_bytes()]


def command_line(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
