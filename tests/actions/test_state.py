"""The state folder: a help, never a need."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backup_tool.actions.state import State
from backup_tool.destinations.processes import temporary_name, this_process
from backup_tool.errors import Locked
from tests.parts import needs_root

ROOT = Path(__file__).parents[2]
ID = hashlib.sha256(b"repository").hexdigest()


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "above" / "state")


def start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Another process with a State `state` on the folder in argv[1]; it has said a line when this returns."""
    whole = f"import sys\nfrom pathlib import Path\nfrom backup_tool.actions.state import State\nstate = State(Path(sys.argv[1]))\n{script}"
    process = subprocess.Popen([sys.executable, "-c", whole, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def end(process: subprocess.Popen[bytes], how: int = signal.SIGKILL) -> None:
    process.send_signal(how)
    process.communicate(timeout=30)


HOLD = """
with state.run_lock("/mnt/usb/notes"):
    print("ready", flush=True)
    sys.stdin.read()
"""
WORK = """
with state.workspace() as folder:
    (folder / "msgstore.db").write_bytes(b"opened")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_nothing_is_made_before_it_is_needed(state: State) -> None:
    """Asking makes no folder; the folder and its files are for the owner only."""
    assert state.load_history() is None
    assert state.seen_snapshots(ID) == state.names_in_use() == set()
    assert not state.folder.parent.exists()
    before = os.umask(0)
    try:
        state.save_history({"notes": 1})
        with state.run_lock(ID), state.workspace():
            pass
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in state.folder.parent.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (state.folder.parent, state.folder, state.folder / "work")} == {0o700}


# One run at a time


def test_two_runs_of_one_machine_never_meet(state: State) -> None:
    """While a run works, another one of the same repository is refused, naming process and since when; one of another is not."""
    other = start(HOLD, state.folder)
    try:
        with (
            pytest.raises(Locked, match=rf"another run is working on /mnt/usb/notes \(process {other.pid}, since 20\d\d-.*Z\)") as caught,
            state.run_lock("/mnt/usb/notes"),
        ):
            pytest.fail("two runs at once")
        assert caught.value.exit_code == 11
        with state.run_lock("/mnt/usb/other"):
            pass
    finally:
        end(other)
    with state.run_lock("/mnt/usb/notes"):
        pass


def test_a_killed_run_holds_nothing(state: State) -> None:
    """The lock of a run that was killed is free at once, whatever is left of its file."""
    end(start(HOLD, state.folder))
    assert len(list(state.folder.glob("run-*.lock"))) == 1
    with state.run_lock("/mnt/usb/notes"):
        pass


def test_the_lock_is_free_after_an_error(state: State) -> None:
    """A run that fails lets go of its lock, and the error is its own."""
    with pytest.raises(ZeroDivisionError), state.run_lock("x"):
        raise ZeroDivisionError
    with state.run_lock("x"):
        pass


# What was seen


def test_what_was_seen_is_remembered(state: State) -> None:
    """The snapshots of the last look are known to the next run, by repository; those that were removed on purpose are not missed."""
    state.remember_snapshots(ID, {"a" * 64: "2026-01-01T00:00:00Z", "b" * 64: "2026-01-02T00:00:00Z"})
    again = State(state.folder)
    assert again.seen_snapshots(ID) == {"a" * 64, "b" * 64}
    assert again.newest_seen(ID) == "2026-01-02T00:00:00Z"
    assert again.witness(ID)["a" * 64] == "2026-01-01T00:00:00Z"
    assert again.seen_snapshots("0" * 64) == set()
    assert again.newest_seen("0" * 64) is None
    again.forgotten_by_us(ID, ["b" * 64, "c" * 64])
    assert state.seen_snapshots(ID) == {"a" * 64}
    state.remember_snapshots(ID, {"d" * 64: "2026-01-03T00:00:00Z"})
    assert state.seen_snapshots(ID) == {"d" * 64}


def test_the_last_run_is_kept(state: State) -> None:
    """What the last run did can be told later."""
    record = {"snapshot": "a" * 64, "notes": 5, "errors": [{"path": "ä\udcff", "reason": "x"}], "seconds": 1.5}
    state.save_history(record)
    assert State(state.folder).load_history() == record
    state.save_history({})
    assert state.load_history() == {}


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": 1, "sha256": "x", "content": {}}',
        b'{"version": 1, "sha256": null, "content": null}',
    ],
)
def test_odd_state_is_thrown_away(state: State, damage: bytes) -> None:
    """Whatever stands in a state file, it is exactly what was saved or it counts as nothing; the next save makes it right."""
    state.save_history({"notes": 1})
    (state.folder / "history.json").write_bytes(damage)
    assert state.load_history() is None
    state.save_history({"notes": 2})
    assert state.load_history() == {"notes": 2}


def test_changed_state_is_thrown_away(state: State) -> None:
    """A state file that was edited, cut or written by a later version is not believed."""
    state.save_history({"notes": 11})
    path = state.folder / "history.json"
    whole = path.read_bytes()
    for changed in (whole.replace(b"11", b"12"), whole[:-2], json.dumps({**json.loads(whole), "version": 2}).encode()):
        assert changed != whole
        path.write_bytes(changed)
        assert state.load_history() is None
    path.write_bytes(whole)
    assert state.load_history() == {"notes": 11}


# Names of sources


def test_a_path_keeps_its_name(state: State) -> None:
    """A path typed again has the same name; another path of the same last folder gets a number; upper and lower case are one."""
    assert state.name_for_path(Path("/a/WhatsApp"), "WhatsApp") == "WhatsApp"
    assert state.name_for_path("/b/WhatsApp", "WhatsApp") == "WhatsApp 2"
    assert state.name_for_path("/c/whatsapp", "whatsapp") == "whatsapp 3"
    again = State(state.folder)
    assert again.name_for_path("/b/WhatsApp", "WhatsApp") == "WhatsApp 2"
    assert again.name_for_path("/a/WhatsApp", "WhatsApp") == "WhatsApp"


def test_names_in_use_are_those_of_folders_that_are_there(state: State, tmp_path: Path) -> None:
    """A remembered name counts as in use as long as its folder exists."""
    (tmp_path / "phone").mkdir()
    state.name_for_path(tmp_path / "phone", "phone")
    state.name_for_path(tmp_path / "gone", "gone")
    assert State(state.folder).names_in_use() == {"phone"}


def test_configured_names_are_taken(state: State) -> None:
    """A path is never given the name of a configured source that is another folder, also when that was configured later."""
    taken = {"phone": "/configured"}
    assert state.name_for_path("/typed/phone", "phone", taken) == "phone 2"
    assert state.name_for_path("/x", "tablet", taken) == "tablet"
    assert state.name_for_path("/x", "tablet", {"tablet": "/y"}) == "tablet 2"
    assert state.name_for_path("/x", "tablet", {"tablet": "/y"}) == "tablet 2"


@pytest.mark.parametrize(
    ("wanted", "name"), [("..", "_"), ("a/b", "a_b"), ("\udcff", "___"), ("", "_"), ("x" * 500, "x" * 100), ("-r", "_r")]
)
def test_names_are_clean(state: State, wanted: str, name: str) -> None:
    """The name of a source can be a folder in the archive, whatever the folder it came from is called."""
    assert state.name_for_path("/odd \udcff", wanted) == name
    assert State(state.folder).name_for_path("/odd \udcff", wanted) == name


# The workspace


def test_a_workspace_is_private_and_gone_afterwards(state: State) -> None:
    """Opened databases lie in a folder that only the owner may enter, and are removed at the end, also after an error."""
    before = os.umask(0)
    try:
        with contextlib.suppress(ZeroDivisionError), state.workspace() as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "sub").mkdir()
            (folder / "sub" / "msgstore.db").write_bytes(b"opened")
            raise ZeroDivisionError
    finally:
        os.umask(before)
    assert list((state.folder / "work").iterdir()) == []


def test_what_dead_runs_opened_is_removed_at_the_next_start(state: State) -> None:
    """A database that a killed run left opened is gone as soon as another run opens one; that of a living run stays."""
    dead, living = start(WORK, state.folder), start(WORK, state.folder)
    end(dead)
    try:
        assert len(list((state.folder / "work").glob("*/msgstore.db"))) == 2
        with state.workspace() as mine:
            left = {path.parent.name for path in (state.folder / "work").glob("*/msgstore.db")}
            assert len(left) == 1
            assert f".{living.pid}." in left.pop()
            assert mine.is_dir()
    finally:
        end(living)
    with state.workspace() as mine:
        assert list((state.folder / "work").iterdir()) == [mine]


def test_foreign_things_in_the_workspace_stay(state: State) -> None:
    """Only what this program made, on this machine, is removed; a link is not followed."""
    work = state.folder / "work"
    work.mkdir(parents=True)
    (state.folder / "precious").mkdir()
    (state.folder / "precious" / "file").write_bytes(b"x")
    dead = temporary_name().replace(f".{this_process().start}.", ".1.")
    (work / dead).symlink_to(state.folder / "precious")
    (work / dead.replace("tmp.", "temp.")).mkdir()
    (work / f"{dead}2").mkdir()
    with state.workspace():
        pass
    assert (state.folder / "precious" / "file").exists()
    assert (work / dead.replace("tmp.", "temp.")).is_dir()
    assert (work / f"{dead}2").is_dir()


# A state folder that cannot be used


def test_a_run_works_without_a_state_folder(tmp_path: Path) -> None:
    """Where the state folder cannot be made, everything goes on, and the reason can be told."""
    (tmp_path / "file").write_bytes(b"")
    state = State(tmp_path / "file" / "state")
    with state.run_lock(ID), state.workspace() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "x").write_bytes(b"x")
    assert not folder.exists()
    state.remember_snapshots(ID, {"a" * 64: "2026-01-01T00:00:00Z"})
    state.save_history({})
    assert state.name_for_path("/a/b", "b") == "b"
    assert (state.seen_snapshots(ID), state.load_history()) == (set(), None)
    assert state.trouble is not None
    assert "file exists" in state.trouble.message


def test_a_full_disk_keeps_the_old_state(tmp_path: Path) -> None:
    """When the disk of the state folder is full, what was known stays known and no half file remains."""
    needs_root()
    (tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "disk")], check=True)
    try:
        state = State(tmp_path / "disk")
        state.save_history({"notes": 1})
        assert state.trouble is None
        state.save_history({"notes": "x" * 100_000})
        assert state.trouble is not None
        assert state.trouble.exit_code == 14
        assert state.load_history() == {"notes": 1}
        assert [path.name for path in state.folder.iterdir()] == ["history.json"]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)
