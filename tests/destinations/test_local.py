"""The folder on a disk: modes, durability, full and failing disks, kills, what others left there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import plistlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup_tool.config import DestinationSpec
from backup_tool.destinations import open_destination, processes
from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.processes import Maker, maker_of, process_start, temporary_name, this_process
from backup_tool.errors import BackupError, BadRange, NoRepository, NoSpace, ObjectMissing, Unreachable, UsageError
from tests.parts import exfat_stick, needs, needs_root

ROOT = Path(__file__).parents[2]
NAME = hashlib.sha256(b"name").hexdigest()
MIB = 2**20


@pytest.fixture
def place(tmp_path: Path) -> LocalDestination:
    made = LocalDestination(tmp_path / "repository")
    made.create()
    return made


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small file system in memory at `folder`."""
    needs_root()
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(("remount", *options)), str(folder)], check=True)


def run_script(script: str, *arguments: object, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run Python code as another process, with LocalDestination at hand and its arguments in `argv`."""
    whole = f"import sys\nfrom backup_tool.destinations.local import LocalDestination\nargv = sys.argv[1:]\n{script}"
    return subprocess.run(
        [*under, sys.executable, "-c", whole, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_a_spec_opens_its_place(tmp_path: Path) -> None:
    """A local destination opens by its path; a type that there is not says so instead of guessing."""
    opened = open_destination(DestinationSpec(name="usb", path=tmp_path))
    assert isinstance(opened, LocalDestination)
    assert opened.label == str(tmp_path)
    with pytest.raises(UsageError, match="type ftp are not in this version yet"):
        open_destination(DestinationSpec(name="x", type="ftp", place="y"))


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_only_the_owner_may_look(tmp_path: Path, umask: int) -> None:
    """Folders are 0700 and objects 0400, whatever the umask; restic's folders are all there."""
    before = os.umask(umask)
    try:
        place = LocalDestination(tmp_path / "above" / "repository")
        place.create()
        place.save("config", "config", b"x")
        with place.draft("data") as draft:
            draft.write(b"x")
            assert [path.stat().st_mode & 0o777 & ~0o600 for path in (place.path / "data").iterdir() if path.is_file()] == [0]
            draft.commit(NAME)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o7777 for path in (tmp_path / "above").rglob("*") if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*") if path.is_file()} == {0o400}
    assert {path.name for path in place.path.iterdir()} == {"config", "keys", "snapshots", "index", "locks", "data"}
    assert {path.name for path in (place.path / "data").iterdir()} == {f"{number:02x}" for number in range(256)}


def test_missing_folders_are_made_when_needed(place: LocalDestination) -> None:
    """A repository whose empty folders were lost (some copying programs drop them) reads as empty and takes new objects."""
    place.save("config", "config", b"x")
    for folder in sorted(place.path.rglob("*"), reverse=True):
        if folder.is_dir():
            folder.rmdir()
    assert list(place.list("data")) == list(place.list("index")) == []
    place.save("index", NAME, b"x")
    place.save("data", NAME, b"xy")
    assert list(place.list("index")) == [(NAME, 1)]
    assert list(place.list("data")) == [(NAME, 2)]


def test_foreign_files_are_passed_over(place: LocalDestination) -> None:
    """What others put there (a file manager, restic's own temporaries, copies by a sync program) is never taken for an object."""
    place.save("data", NAME, b"x")
    place.save("index", NAME, b"x")
    home = place.path / "data" / NAME[:2]
    for odd in (home / ".DS_Store", home / f"{NAME}-tmp-123", home / f"{NAME} 2", home / ("0" * 64), place.path / "data" / NAME):
        odd.write_bytes(b"odd")
    (place.path / "data" / "zz").mkdir()
    (place.path / "data" / "zz" / ("f" * 64)).write_bytes(b"odd")
    (place.path / "index" / ("a" * 64)).mkdir()
    os.mkfifo(place.path / "index" / ("b" * 64))
    assert list(place.list("data")) == [(NAME, 1)]
    assert list(place.list("index")) == [(NAME, 1)]
    for name in ("a" * 64, "b" * 64):
        with pytest.raises((ObjectMissing, BackupError)):
            place.load("index", name)


def test_a_file_that_shrinks_is_never_read_short(place: LocalDestination) -> None:
    """A stored file that lost its end since it was written is an error, not fewer bytes."""
    place.save("data", NAME, b"0123456789")
    path = place.path / "data" / NAME[:2] / NAME
    path.chmod(0o600)
    os.truncate(path, 4)
    with pytest.raises(BadRange):
        place.load("data", NAME, 2, 8)
    assert place.load("data", NAME) == b"0123"


def test_relative_places_stay_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place named by a relative path is still the same one after the program went to another folder."""
    monkeypatch.chdir(tmp_path)
    place = LocalDestination("here")
    monkeypatch.chdir("/")
    place.create()
    assert (tmp_path / "here" / "data" / "ff").is_dir()


# Disks that are full, read-only, or gone


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """A disk that fills up while an object grows: a clear error, no part of it stays, all others are intact, and with room it goes on."""
    with mounted(tmp_path / "disk", "size=8m") as disk:
        place = LocalDestination(disk / "repository")
        place.create()
        place.save("index", NAME, b"kept")
        before = files(disk)

        def fill() -> None:
            with place.draft("data") as draft:
                for _ in range(100):
                    draft.write(bytes(MIB))
                draft.commit(NAME)

        with pytest.raises(NoSpace, match="no space left") as caught:
            fill()
        assert caught.value.exit_code == 14
        with pytest.raises(NoSpace):
            place.save("data", NAME, bytes(9 * MIB))
        assert files(disk) == before
        assert list(place.list("data")) == []
        remount(disk, "size=16m")
        place.save("data", NAME, bytes(9 * MIB))
        assert place.size("data", NAME) == 9 * MIB
        assert place.load("index", NAME) == b"kept"


def test_a_read_only_disk_is_read_and_never_written(tmp_path: Path) -> None:
    """On a read-only disk everything can be read; writing, removing and making say that it is read-only."""
    with mounted(tmp_path / "disk", "size=8m") as disk:
        place = LocalDestination(disk / "repository")
        place.create()
        place.save("config", "config", b"x")
        place.save("data", NAME, b"xyz")
        dead = temporary_name().replace(f".{this_process().start}.", ".1.")
        (place.path / "data" / dead).write_bytes(b"half")
        remount(disk, "ro")
        fresh = LocalDestination(disk / "repository")
        assert fresh.exists()
        assert fresh.load("data", NAME) == b"xyz"
        assert list(fresh.list("data")) == [(NAME, 3)]
        fresh.create()
        fresh.save("data", NAME, b"xyz")
        assert fresh.sweep() == 0
        writes: list[Callable[[], object]] = [
            lambda: fresh.save("index", NAME, b"x"),
            lambda: fresh.save("data", NAME, b"other"),
            lambda: fresh.remove("data", NAME),
            lambda: LocalDestination(disk / "other").create(),
        ]
        for write in writes:
            with pytest.raises(BackupError, match="read-only") as caught:
                write()
            assert caught.value.exit_code == 1


def test_a_disk_that_is_unmounted_meanwhile_is_no_empty_repository(tmp_path: Path) -> None:
    """When the disk goes away during a run, nothing is listed as empty and nothing is written onto the bare mount point."""
    folder = tmp_path / "disk"
    with mounted(folder, "size=8m"):
        place = LocalDestination(folder)
        place.create()
        place.save("config", "config", b"x")
        place.save("data", NAME, b"x")
        assert place.exists()
    for action in (
        lambda: list(place.list("data")),
        lambda: list(place.list("snapshots")),
        lambda: place.load("data", NAME),
        lambda: place.save("data", NAME, b"x"),
        lambda: place.draft("data").__enter__(),
        lambda: place.remove("index", NAME),
    ):
        with pytest.raises(NoRepository, match="there is no repository") as caught:
            action()
        assert caught.value.exit_code == 10
    assert not place.exists()
    assert list(folder.iterdir()) == []


def test_a_folder_of_somebody_else_is_told(tmp_path: Path) -> None:
    """Where this user may not look or write, the message says so and how to see who may."""
    needs_root()
    place = LocalDestination(tmp_path / "repository")
    place.create()
    place.save("config", "config", b"x")
    for above in (tmp_path, *tmp_path.parents[:-2]):
        above.chmod(above.stat().st_mode | 0o055)
    script = """
import json, os
from backup_tool.errors import BackupError
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
place = LocalDestination(argv[0])
for action in (place.exists, lambda: list(place.list("index")), lambda: place.load("config", "config"), place.create,
               lambda: place.save("index", "0" * 64, b"x"), LocalDestination(argv[1]).create):
    try:
        action()
        print("null")
    except BackupError as error:
        print(json.dumps([error.message, error.hint, error.exit_code]))
"""
    done = run_script(script, place.path, tmp_path / "own")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 6, done.stderr
    assert all(one and "no permission at" in one[0] and "ls -ld" in one[1] and one[2] == 1 for one in told), told


def test_a_file_system_without_modes_is_good_enough(tmp_path: Path) -> None:
    """An exFAT stick (no modes, no hard links) holds a repository."""
    with exfat_stick(tmp_path) as stick:
        place = LocalDestination(stick / "repository")
        place.create()
        place.save("data", NAME, b"12")
        place.save("data", NAME, b"123")
        with place.draft("data") as draft:
            draft.write(b"x" * (2 * MIB + 5))
            draft.commit("0" * 64)
        assert sorted(place.list("data")) == sorted([(NAME, 3), ("0" * 64, 2 * MIB + 5)])
        place.remove("data", NAME)
        assert list(place.list("data")) == [("0" * 64, 2 * MIB + 5)]


# Disks that fail: errors given by the system itself, one call at a time

RENAMES = "?rename,?renameat,?renameat2"
MODES = "?chmod,?fchmod,?fchmodat,?fchmodat2"
SAVE = """
from backup_tool.errors import BackupError
place = LocalDestination(argv[0])
try:
    place.save("data", argv[1], b"x" * 100000)
    print("saved")
except BackupError as error:
    print(type(error).__name__, error.message)
"""


def failing(calls: str, fault: str) -> tuple[str, ...]:
    """The words before a command that make the system answer these calls with the fault (strace(1), section Tampering)."""
    return ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}")


def inject(place: LocalDestination, calls: str, fault: str) -> str:
    """Save an object while the system answers these calls with the fault; what came of it."""
    needs("strace")
    done = run_script(
        SAVE,
        place.path,
        NAME,
        under=failing(calls, fault),
    )
    return done.stdout + done.stderr


def test_what_a_share_cannot_do_is_done_without(place: LocalDestination) -> None:
    """File systems that know no modes, and no fsync of folders, hold objects all the same."""
    assert inject(place, MODES, "error=EPERM") == "saved\n"
    place.remove("data", NAME)
    assert inject(place, "fsync", "error=EINVAL:when=2") == "saved\n"
    assert place.load("data", NAME) == b"x" * 100000


@pytest.mark.parametrize("calls", ["fsync", RENAMES])
def test_a_failing_disk_is_never_taken_for_success(place: LocalDestination, calls: str) -> None:
    """When fsync or rename fail, the object is not there, nothing half-written is left, and the error is told."""
    assert inject(place, calls, "error=EIO:when=1") == f"BackupError {place.label}: input/output error\n"
    assert files(place.path) == set()


def test_a_folder_that_cannot_be_synced_is_told(place: LocalDestination) -> None:
    """An error of the disk while the name is made durable is told: nobody may rely on that name."""
    assert inject(place, "fsync", "error=EIO:when=2") == f"BackupError {place.label}: input/output error\n"


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("calls", ["fsync", RENAMES])
def test_space_that_runs_out_late_is_told_as_such(place: LocalDestination, calls: str, error: str) -> None:
    """Some disks, shares and quotas say only at the end that they are full."""
    assert inject(place, calls, f"error={error}:when=1").startswith("NoSpace no space left at")
    assert files(place.path) == set()


def test_an_object_is_durable_before_it_is_visible(place: LocalDestination, tmp_path: Path) -> None:
    """Every byte is written and synced under a temporary name in 0600; only then it gets its name, and the name is synced too."""
    needs("strace")
    log, calls = tmp_path / "log", f"?open,openat,write,fsync,fdatasync,close,{RENAMES},{MODES}"
    done = run_script(SAVE, place.path, NAME, under=("strace", "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={calls}"))
    assert done.stdout == "saved\n", done.stderr
    ours = [line.partition(" ")[2].strip() for line in log.read_text().splitlines() if str(place.path) in line]
    steps = [re.match(r"[a-z]+", line)[0].removesuffix("at") for line in ours]  # type: ignore[index]
    home = str(place.path / "data" / NAME[:2])
    assert steps == ["open", "write", "fsync", "close", "rename", "chmod", "open", "fsync", "close"]
    assert all(flag in ours[0] for flag in ("O_EXCL", "O_NOFOLLOW", "O_CLOEXEC", "0600"))
    temporary = re.search(r"<(.*?)>", ours[1])[1]  # type: ignore[index]
    assert temporary.startswith(f"{place.path}/data/tmp.")
    assert ours[1].endswith("= 100000")
    assert ours[4].startswith(f'rename("{temporary}", "{home}/{NAME}")')
    assert f"<{home}>" in ours[7]


@pytest.mark.parametrize("calls", ["?mkdir,?mkdirat", "write", "fsync", RENAMES, MODES])
def test_a_kill_at_any_step_leaves_all_or_nothing(tmp_path: Path, calls: str) -> None:
    """A process that dies at any step leaves the whole object or none; the next run clears its temporary away and completes the work."""
    needs("strace")
    final = f"data/{NAME[:2]}/{NAME}"
    killed = 0
    for number in range(1, 20):
        place = LocalDestination(tmp_path / str(number))
        place.create()
        (place.path / "data" / NAME[:2]).rmdir()
        done = run_script(SAVE.replace("print", "str"), place.path, NAME, under=failing(calls, f"signal=KILL:when={number}"))
        left = files(place.path)
        temporaries = {name for name in left if name.startswith("data/tmp.")}
        assert len(temporaries) <= 1
        whole = dict(place.list("data")) == {NAME: 100000}
        assert left - temporaries == ({final} if whole else set())
        assert place.sweep() == len(temporaries)
        place.save("data", NAME, b"x" * 100000)
        assert files(place.path) == {final}
        assert place.load("data", NAME) == b"x" * 100000
        if done.returncode == 0:
            break
        killed += 1
    assert whole, "it survived in the end"
    assert killed >= (3 if calls == "fsync" else 1)


# What runs leave behind


def test_only_what_dead_runs_left_is_swept(place: LocalDestination) -> None:
    """The temporary of a run that lives is never touched; as soon as its process is dead it is removed, also when killed the hard way."""
    script = """
draft = LocalDestination(argv[0]).draft("data").__enter__()
draft.write(b"x" * 1000)
print("growing", flush=True)
sys.stdin.read()
"""
    whole = f"import sys\nfrom backup_tool.destinations.local import LocalDestination\nargv = sys.argv[1:]\n{script}"
    with subprocess.Popen(
        [sys.executable, "-c", whole, str(place.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as living:
        assert living.stdout is not None
        assert living.stdout.readline() == b"growing\n"
        assert place.sweep() == 0
        assert len(files(place.path)) == 1
        living.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, living.pid, os.WEXITED | os.WNOWAIT)
        assert place.sweep() == 1, "a zombie is dead"
        assert files(place.path) == set()


@pytest.mark.parametrize("folder", [".", "keys", "snapshots", "index", "locks", "data"])
def test_a_process_id_given_out_again_is_no_excuse(place: LocalDestination, folder: str) -> None:
    """A temporary whose maker's number now belongs to another process is swept, in every folder."""
    mine = temporary_name()
    start = this_process().start
    assert start in mine
    (place.path / folder / mine).write_bytes(b"living")
    (place.path / folder / mine.replace(f".{start}.", f".{int(start) - 1}.")).write_bytes(b"dead")
    assert place.sweep() == 1
    assert (place.path / folder / mine).exists()


@pytest.mark.parametrize(
    ("changed", "hours", "gone"),
    [
        ({"host": "another"}, 0, False),
        ({"host": "another"}, 1000, False),
        ({"boot": "another_1"}, 0, False),
        ({"boot": "another_1"}, 2, True),
        ({"boot": "x"}, 0, False),
        ({"boot": "x"}, 2, True),
    ],
)
def test_in_doubt_a_temporary_stays(place: LocalDestination, changed: dict[str, str], hours: float, gone: bool) -> None:
    """Temporaries of other machines stay; those of another boot stay for an hour, since a machine of the same name may be writing."""
    me = this_process()
    parts = {"host": me.host, "boot": me.boot, "pid": "1", "start": me.start} | changed
    path = place.path / "data" / "tmp.0123456789ab.{pid}.{start}.{boot}.{host}".format(**parts)
    path.write_bytes(b"x")
    os.utime(path, (time.time() - hours * 3600,) * 2)
    assert place.sweep() == gone
    assert path.exists() == (not gone)


def test_sweeping_touches_no_other_files(place: LocalDestination) -> None:
    """Objects, restic's temporaries and people's own files are never swept, however old."""
    place.save("data", NAME, b"x")
    for name in ("tmp.txt", "tmp.0123.1.2.3.host", f"{NAME}-tmp-77", "notes.txt"):
        (place.path / "data" / name).write_bytes(b"x")
        os.utime(place.path / "data" / name, (0, 0))
    before = files(place.path)
    assert place.sweep() == 0
    assert files(place.path) == before


def test_a_temporary_names_its_maker() -> None:
    """The name of a temporary tells whose it is and is no name of an object; no two are alike."""
    names = {temporary_name() for _ in range(1000)}
    assert len(names) == 1000
    maker = maker_of(names.pop())
    assert maker == this_process()
    assert maker.pid == os.getpid()
    assert maker.is_alive()
    assert re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname())[:64] == maker.host
    assert not any(re.fullmatch(r"[0-9a-f]{64}", name) or "/" in name for name in names)
    assert maker_of(NAME) is None
    assert Maker(maker.host, maker.boot, 2**22 + 1, maker.start).is_alive() is False
    assert process_start(os.getppid()) is not None


def test_where_there_is_no_proc_ps_tells() -> None:
    """On systems without /proc the start of a process is what ps says: the same twice, and nothing for one that is gone."""
    needs("ps")
    with subprocess.Popen(["sleep", "60"]) as living:
        start = processes._start_from_ps(living.pid)
        assert start is not None
        assert re.fullmatch(r"\w+_\d\d_\d\d_\d\d_\d{4}", start)
        assert processes._start_from_ps(living.pid) == start
        living.kill()
        os.waitid(os.P_PID, living.pid, os.WEXITED | os.WNOWAIT)
        assert processes._start_from_ps(living.pid) is None, "a zombie is dead"
    assert processes._start_from_ps(living.pid) is None


def test_leftovers_do_not_trouble_restic(tmp_path: Path) -> None:
    """Temporaries of a killed run in any folder harm nothing that restic does: check, backup, restore, prune, list."""
    needs("restic")
    repository = tmp_path / "repository"
    (tmp_path / "source").mkdir()
    for number in range(3):
        (tmp_path / "source" / str(number)).write_bytes(os.urandom(100_000))
    env = {**os.environ, "RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": "test", "RESTIC_CACHE_DIR": str(tmp_path / "cache")}

    def restic(*words: str) -> str:
        done = subprocess.run(["restic", *words], env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    LocalDestination(repository).create()
    restic("init")
    left = [repository / folder / temporary_name() for folder in (".", "keys", "snapshots", "index", "locks", "data", "data/00")]
    for path in left:
        path.write_bytes(os.urandom(5000))
    restic("backup", str(tmp_path / "source"))
    (tmp_path / "source" / "0").write_bytes(os.urandom(100_000))
    restic("backup", str(tmp_path / "source"))
    restic("forget", "--keep-last", "1", "--prune")
    assert "no errors were found" in restic("check", "--read-data")
    restic("restore", "latest", "--target", str(tmp_path / "back"))
    assert len(restic("list", "packs").split()) == len(list(LocalDestination(repository).list("data")))
    for number in range(3):
        assert (tmp_path / "back").joinpath(*(tmp_path / "source" / str(number)).parts[1:]).read_bytes() == (
            tmp_path / "source" / str(number)
        ).read_bytes()
    assert all(path.exists() for path in left)


# A folder that iCloud Drive keeps


def evict(file: Path, *, told: bool = True) -> None:
    """As macOS up to 13 takes a file off its disk: a property list of a hidden name stands for it."""
    content = {"NSURLNameKey": file.name, "NSURLFileResourceTypeKey": "NSURLFileResourceTypeRegular"}
    stub = file.with_name(f".{file.name}.icloud")
    stub.write_bytes(plistlib.dumps({**content, "NSURLFileSizeKey": file.stat().st_size} if told else content, fmt=plistlib.FMT_BINARY))
    file.unlink()


def icloud_folder(tmp_path: Path) -> tuple[LocalDestination, str, Path]:
    """A repository whose one pack and config were taken off the disk: the place, the pack's name, its path."""
    place = LocalDestination(tmp_path / "archive")
    place.create()
    name = hashlib.sha256(b"pack").hexdigest()
    place.save("data", name, b"pack")
    place.save("config", "config", b"sealed")
    pack = place.path / "data" / name[:2] / name
    for file in (pack, place.path / "config"):
        evict(file)
    return place, name, pack


def test_what_a_mac_took_off_its_disk_is_there(tmp_path: Path) -> None:
    """Objects that are in iCloud only are listed with their size, count as stored, and are not written a second time."""
    place, name, pack = icloud_folder(tmp_path)
    assert place.exists()
    assert list(place.list("data")) == [(name, 4)]
    assert list(place.list("config")) == [("config", 6)]
    assert place.size("data", name) == 4
    assert place.age("data", name) < 60
    place.save("data", name, b"pack")
    assert not pack.exists()
    place.remove("data", name)
    assert list(place.list("data")) == []
    assert os.listdir(pack.parent) == []


def test_reading_brings_a_file_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading an object that is in iCloud only has the system fetch it first; where that cannot be, the file is named with what to type."""
    place, name, pack = icloud_folder(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    with pytest.raises(Unreachable, match="is in iCloud only") as caught:
        place.load("data", name)
    assert f"brctl download '{pack}'" in caught.value.hint
    (tmp_path / "programs").mkdir()
    brctl = tmp_path / "programs" / "brctl"
    brctl.write_text(f'#!{sys.executable}\nimport sys\nassert sys.argv[1] == "download"\nopen(sys.argv[2], "wb").write(b"pack")\n')
    brctl.chmod(0o700)
    assert place.load("data", name, 1, 2) == b"ac"


@pytest.mark.parametrize("stub", [b"", b"bplist00", b"<plist><array/></plist>", plistlib.dumps({"NSURLFileSizeKey": -1})])
def test_a_placeholder_that_does_not_tell_is_no_empty_object(tmp_path: Path, stub: bytes) -> None:
    """Where a placeholder does not say how large its file is, a listing says which file has to be brought back first."""
    place, name, pack = icloud_folder(tmp_path)
    pack.with_name(f".{name}.icloud").write_bytes(stub)
    with pytest.raises(Unreachable, match=name):
        list(place.list("data"))


def test_conflict_copies_are_no_objects(tmp_path: Path) -> None:
    """What iCloud Drive calls `… 2`, because two Macs wrote at once, is passed over and left where it is."""
    place = LocalDestination(tmp_path / "archive")
    place.create()
    name = hashlib.sha256(b"pack").hexdigest()
    place.save("data", name, b"pack")
    place.save("config", "config", b"sealed")
    for copy in (place.path / "data" / name[:2] / f"{name} 2", place.path / "config 2", place.path / "locks" / f".{name} 2.icloud"):
        copy.write_bytes(b"copy")
    assert [dict(place.list(kind)) for kind in ("data", "config", "locks")] == [{name: 4}, {"config": 6}, {}]
    assert place.sweep() == 0
