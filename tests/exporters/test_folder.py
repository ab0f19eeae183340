"""A target folder: whole files or none, nothing overwritten, nothing outside it, whatever lies there already."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backup_tool.errors import BackupError, IntegrityError, NoSpace, UsageError
from backup_tool.exporters.folder import Refused, TargetFolder, Written
from tests.parts import exfat_stick, needs, needs_root

SENT = 1_772_546_700_123_456_789


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(target: TargetFolder, parts: Sequence[str], data: bytes, overwrite: bool = False) -> Written:
    return target.write(parts, [data], size=len(data), sha256=sha(data), mtime_ns=SENT, overwrite=overwrite)


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder that is no folder, hidden files included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[TargetFolder]:
    with TargetFolder(tmp_path / "target") as opened:
        yield opened


def test_a_note_arrives_whole_with_its_time_and_for_its_owner_only(tmp_path: Path, target: TargetFolder) -> None:
    """A restored file has the note's bytes and the moment it was sent; nobody else may read it; nothing is beside it."""
    done = target.write(["Family", "2026", "a.opus"], iter([b"one ", b"", b"two"]), size=7, sha256=sha(b"one two"), mtime_ns=SENT)
    assert done == Written(str(tmp_path / "target/Family/2026/a.opus"), "written")
    assert files(tmp_path / "target") == {"Family/2026/a.opus": b"one two"}
    found = os.stat(done.path)
    assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode), found.st_nlink) == (SENT, 0o600, 1)
    assert stat.S_IMODE(os.stat(tmp_path / "target/Family/2026").st_mode) == 0o700
    target.finish()


def test_an_empty_note_is_an_empty_file(tmp_path: Path, target: TargetFolder) -> None:
    """A note of no bytes at all is given back too."""
    assert target.write(["a.opus"], [], size=0, sha256=sha(b""), mtime_ns=None).status == "written"
    assert files(tmp_path / "target") == {"a.opus": b""}


def test_what_is_there_already_is_not_fetched_again(target: TargetFolder) -> None:
    """Restoring twice reads nothing from the archive the second time."""

    def never() -> Iterator[bytes]:
        raise AssertionError("was asked for bytes")
        yield b""

    first = put(target, ["Family", "a.opus"], b"voice")
    assert target.holds(["Family", "a.opus"], 5, sha(b"voice")) == Written(first.path, "same")
    again = target.write(["Family", "a.opus"], never(), size=5, sha256=sha(b"voice"), mtime_ns=SENT)
    assert again == Written(first.path, "same")


def test_the_same_bytes_are_recognised_without_knowing_their_hash(tmp_path: Path, target: TargetFolder) -> None:
    """A converted note, whose hash nobody knows before, is not written twice either."""
    for status in ("written", "same"):
        assert target.write(["a.mp3"], [b"converted"], size=9, sha256=None, mtime_ns=None).status == status
    assert files(tmp_path / "target") == {"a.mp3": b"converted"}


def test_asking_what_is_there_makes_nothing(tmp_path: Path, target: TargetFolder) -> None:
    """Looking whether a note is there leaves no folders behind."""
    assert target.holds(["Family", "a.opus"], 1, sha(b"x")) is None
    assert not list((tmp_path / "target").iterdir())


def test_other_bytes_of_that_name_are_kept(tmp_path: Path, target: TargetFolder) -> None:
    """A file of a person's own is never replaced: the note gets a number, once, however often it is restored."""
    (tmp_path / "target/a.b.opus").write_bytes(b"mine")
    assert put(target, ["a.b.opus"], b"voice") == Written(str(tmp_path / "target/a.b (2).opus"), "renamed")
    assert put(target, ["a.b.opus"], b"voice") == Written(str(tmp_path / "target/a.b (2).opus"), "same")
    assert put(target, ["a.b.opus"], b"other") == Written(str(tmp_path / "target/a.b (3).opus"), "renamed")
    assert target.holds(["a.b.opus"], 5, sha(b"other")) == Written(str(tmp_path / "target/a.b (3).opus"), "same")
    assert files(tmp_path / "target") == {"a.b.opus": b"mine", "a.b (2).opus": b"voice", "a.b (3).opus": b"other"}


def test_overwriting_is_done_when_asked_for(tmp_path: Path, target: TargetFolder) -> None:
    """With `overwrite` the note takes the place of what was there."""
    (tmp_path / "target/a.opus").write_bytes(b"mine")
    assert put(target, ["a.opus"], b"voice", overwrite=True).status == "written"
    assert put(target, ["a.opus"], b"voice", overwrite=True).status == "same"
    assert files(tmp_path / "target") == {"a.opus": b"voice"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path, target: TargetFolder, overwrite: bool) -> None:
    """What a link in the target points to stays as it is, even where it is of the same bytes."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"voice")
    (tmp_path / "target/a.opus").symlink_to(outside)
    (tmp_path / "target/b.opus").symlink_to(tmp_path / "nowhere")
    for name in ("a", "b"):
        done = put(target, [f"{name}.opus"], b"voice", overwrite)
        assert done == Written(str(tmp_path / f"target/{name}{'' if overwrite else ' (2)'}.opus"), "written" if overwrite else "renamed")
        assert stat.S_ISREG(os.lstat(done.path).st_mode)
    assert outside.read_bytes() == b"voice"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("inner", [[], ["2026"]])
def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path, target: TargetFolder, inner: list[str]) -> None:
    """Nothing is written through a folder that is a link; the other notes still arrive."""
    (tmp_path / "outside/2026").mkdir(parents=True)
    (tmp_path / "target/Family").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused, match="a link or a file stands where its folder should be"):
        put(target, ["Family", *inner, "a.opus"], b"voice")
    with pytest.raises(Refused):
        target.holds(["Family", *inner, "a.opus"], 5, sha(b"voice"))
    assert put(target, ["Friends", "a.opus"], b"voice").status == "written"
    assert files(tmp_path / "outside") == {}


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path, target: TargetFolder) -> None:
    """A file that has a chat's name costs that chat's notes, not the restore; the error names the entry."""
    (tmp_path / "target/Family").write_bytes(b"mine")
    with pytest.raises(Refused) as refused:
        put(target, ["Family", "a.opus"], b"voice")
    assert refused.value.problem.path == str(tmp_path / "target/Family")
    assert refused.value.exit_code == 3
    assert files(tmp_path / "target") == {"Family": b"mine"}


@pytest.mark.parametrize(
    "parts",
    [
        [], [""], ["."], [".."], ["..", "a"], ["a", "..", "b"], ["/etc", "a"], ["/"], ["a/b"], ["a", ""], ["a\0b"], ["../a"],
        ["a" * 256], ["ä" * 128], ["\ud800"], ["a"] * 65, ["ok", "x" * 300, "a"],
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, target: TargetFolder, parts: list[str]) -> None:
    """No name, wherever it comes from, puts a file outside its folder; the message is one clean line."""
    with pytest.raises(Refused) as refused:
        put(target, parts, b"voice")
    assert refused.value.message.isprintable()
    assert files(tmp_path) == {}


def test_the_longest_names_work_and_still_get_a_number(tmp_path: Path, target: TargetFolder) -> None:
    """A name of 255 bytes is written as it is, and cut where a number must fit."""
    name = "ä" * 125 + ".opus"
    put(target, [name], b"one")
    assert put(target, [name], b"two").path.endswith("ä (2).opus")
    odd = "a." + "b" * 253
    put(target, [odd], b"one")
    assert put(target, [odd], b"two").status == "renamed"
    assert sorted(files(tmp_path / "target").values()) == [b"one", b"one", b"two", b"two"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_folder_of_that_name_does_not_stop_it(tmp_path: Path, target: TargetFolder, make: object) -> None:
    """Where something that is no file has the name, the note gets a number, and nothing hangs."""
    assert callable(make)
    make(tmp_path / "target/a.opus")
    assert put(target, ["a.opus"], b"voice").status == "renamed"
    assert (tmp_path / "target/a (2).opus").read_bytes() == b"voice"


@pytest.mark.parametrize("data", [b"voicf", b"voic", b"voice and more", b""])
def test_other_bytes_than_promised_are_not_kept(tmp_path: Path, target: TargetFolder, data: bytes) -> None:
    """What does not match the catalog's size and hash is an integrity failure and leaves no file."""
    with pytest.raises(IntegrityError):
        target.write(["a.opus"], [data], size=5, sha256=sha(b"voice"), mtime_ns=SENT)
    assert files(tmp_path / "target") == {}


def test_an_endless_stream_ends_at_the_size_promised(target: TargetFolder) -> None:
    """A stream longer than its size is cut off at once, not written until the disk is full."""
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield bytes(1000)

    with pytest.raises(IntegrityError):
        target.write(["a.opus"], endless(), size=5000, sha256=None, mtime_ns=None)
    assert given == 6


@pytest.mark.parametrize("error", [IntegrityError("pack is damaged"), KeyboardInterrupt()])
def test_an_interrupted_file_leaves_nothing(tmp_path: Path, target: TargetFolder, error: BaseException) -> None:
    """When the bytes stop coming, the error passes through and no half file stays."""

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise error

    with pytest.raises(type(error)):
        target.write(["Family", "a.opus"], broken(), size=8, sha256=None, mtime_ns=None)
    assert files(tmp_path / "target") == {}


def test_a_target_that_is_a_file_is_a_mistake(tmp_path: Path) -> None:
    """Naming a file as target is told at once; a target that is a link to a folder is what its owner meant."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UsageError, match="is not a folder"):
            TargetFolder(path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    put(TargetFolder(tmp_path / "link"), ["a.opus"], b"voice")
    assert files(tmp_path / "real") == {"a.opus": b"voice"}


def test_a_target_moved_meanwhile_is_still_the_one_written_to(tmp_path: Path, target: TargetFolder) -> None:
    """Once opened, the target stays the same folder, even if someone puts a link in its place."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "target").rename(tmp_path / "moved")
    (tmp_path / "target").symlink_to(tmp_path / "outside")
    put(target, ["Family", "a.opus"], b"voice")
    assert files(tmp_path / "moved") == {"Family/a.opus": b"voice"}
    assert files(tmp_path / "outside") == {}


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path, target: TargetFolder) -> None:
    """A restore that cannot fit says so at the start, with both numbers."""
    target.require(1)
    with pytest.raises(NoSpace, match=r"[KMGT]B free, and 1000000.0 TB are to be written"):
        target.require(10**18)
    assert files(tmp_path) == {}


def test_many_folders_need_few_handles(tmp_path: Path, target: TargetFolder) -> None:
    """Thousands of chats do not use up the handles of the process."""
    before = len(os.listdir("/dev/fd"))
    for number in range(600):
        put(target, [f"chat {number}", "a.opus"], b"voice")
    assert len(os.listdir("/dev/fd")) - before < 200
    target.finish()
    assert len(files(tmp_path / "target")) == 600


def test_several_threads_and_two_restores_at_once_lose_nothing(tmp_path: Path) -> None:
    """Four writers of other bytes under the same names, in more folders than are kept open: each one's bytes are there, once."""
    first, second = TargetFolder(tmp_path), TargetFolder(tmp_path)
    errors: list[BaseException] = []

    def work(target: TargetFolder, who: bytes) -> None:
        try:
            for number in range(400):
                put(target, [f"chat {number % 200}", f"{number}.opus"], who + b"%d" % number)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(t, who)) for t, who in ((first, b"a"), (first, b"b"), (second, b"c"), (second, b"d"))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert sorted(files(tmp_path).values()) == sorted(who + b"%d" % n for who in (b"a", b"b", b"c", b"d") for n in range(400))


# --- a restore killed, on a full disk, on a stick --------------------------------------------------------------------------------

RESTORE = """
import hashlib, sys
from pathlib import Path
from backup_tool.exporters.folder import TargetFolder
target = TargetFolder(Path(sys.argv[1]))
for number in range(3):
    data = b"%d" % number * 30_000
    digest = hashlib.sha256(data).hexdigest()
    target.write(["Family", f"{number}.opus"], [data[:20_000], data[20_000:]], size=30_000, sha256=digest, mtime_ns=10**18)
target.finish()
"""
RESTORED = {f"Family/{n}.opus": b"%d" % n * 30_000 for n in range(3)}


# How a finished file gets its name: straight from none, by a rename that replaces nothing, by a link.
ROOM = "import backup_tool.exporters.folder as room\n"
BY_RENAME = ROOM + "room._UNNAMED_FILE = 0\n"
BY_LINK = BY_RENAME + "room._rename_if_free = None\n"
STEPS = [("", call) for call in ("mkdirat", "openat", "write", "utimensat", "linkat", "fsync")] + [
    (BY_RENAME, "openat"), (BY_RENAME, "write"), (BY_RENAME, "renameat2"), (BY_LINK, "linkat"), (BY_LINK, "unlinkat"),
]  # fmt: skip


def restore(folder: Path, *before: str, script: str = RESTORE) -> int:
    return subprocess.run([*before, sys.executable, "-B", "-c", script, str(folder)], check=False, stderr=subprocess.DEVNULL).returncode


def traced(folder: Path, way: str, call: str, when: int) -> int:
    """Restore into a folder, killed at the n-th of these system calls (of `openat`: those in the target); 0 where it came to its end."""
    only = ["-P", str(folder), "-P", str(folder / "Family")] if call == "openat" else []
    kill = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
    return restore(folder, "strace", "-f", "-o", os.devnull, *only, *kill, script=way + RESTORE)


@pytest.mark.parametrize(("way", "call"), STEPS)
def test_a_killed_restore_leaves_only_whole_files_and_the_next_one_completes_it(tmp_path: Path, way: str, call: str) -> None:
    """Killed before or after any step: what has its name has all its bytes, and running it again leaves exactly the notes."""
    needs("strace")
    killed = 0
    for when in range(1, 50):
        folder = tmp_path / f"{when}"
        folder.mkdir()
        if traced(folder, way, call, when) == 0:
            break
        killed += 1
        left = {name: data for name, data in files(folder).items() if not name.endswith(".part")}
        assert left.items() <= RESTORED.items()
        with TargetFolder(folder) as target:
            for name, data in RESTORED.items():
                put(target, name.split("/"), data)
        assert files(folder) == RESTORED
    else:
        pytest.fail("never came to its end")
    assert killed


def test_a_restore_is_synced_once_a_folder_not_once_a_file(tmp_path: Path) -> None:
    """Thousands of small files do not wait for the disk one by one; at the end each folder is synced once."""
    needs("strace")
    log = tmp_path / "log"
    assert restore(tmp_path / "target", "strace", "-f", "-o", str(log), "-e", "trace=syncfs,fsync,fdatasync,sync") == 0
    calls = [line.split(maxsplit=1)[1].partition("(")[0] for line in log.read_text().splitlines() if "(" in line]
    assert calls == ["fsync", "fsync"]  # the target, and the one chat in it


def test_a_target_that_was_closed_is_not_written_to(tmp_path: Path, target: TargetFolder) -> None:
    """After closing, nothing goes anywhere, not even by path."""
    put(target, ["Family", "a.opus"], b"voice")
    target.close()
    for parts in (["Family", "b.opus"], ["b.opus"], ["New", "b.opus"]):
        with pytest.raises(BackupError):
            put(target, parts, b"voice")
    assert files(tmp_path / "target") == {"Family/a.opus": b"voice"}


def test_what_a_living_restore_is_writing_stays(tmp_path: Path) -> None:
    """Cleaning up after a dead restore never takes a file from a restore that is still at work."""
    living = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        names = [f".{living.pid}-0123456789ab.part", "mine.part", ".1-x.part"]
        for name in (*names, f".{dead.pid}-0123456789ab.part"):
            (tmp_path / name).write_bytes(b"half")
        TargetFolder(tmp_path)
        assert sorted(files(tmp_path)) == sorted(names)
    finally:
        living.send_signal(signal.SIGKILL)
        living.communicate()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    needs_root()
    needs("mount", "umount")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_keeps_what_fitted_and_leaves_no_half_file(small_disk: Path) -> None:
    """No space is its own error; with more room the same restore completes what is missing."""
    notes = {f"Family/{n}.opus": bytes([n]) * 300_000 for n in range(5)}

    def restore_all() -> list[str]:
        with TargetFolder(small_disk) as target:
            return [put(target, name.split("/"), data).status for name, data in notes.items()]

    with pytest.raises(NoSpace) as full:
        restore_all()
    assert full.value.exit_code == 14
    assert files(small_disk) == {name: data for name, data in notes.items() if name < "Family/3"}
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert restore_all() == ["same", "same", "same", "written", "written"]
    assert files(small_disk) == notes


def test_a_read_only_target_is_told_as_such(small_disk: Path) -> None:
    """A disk that cannot be written to is one clear error, not a traceback."""
    with TargetFolder(small_disk) as target:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        with pytest.raises(BackupError, match="read-only file system") as failed:
            put(target, ["a.opus"], b"voice")
    assert failed.value.exit_code == 1


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Path]:
    with exfat_stick(tmp_path) as place:
        yield place


def test_a_stick_without_links_works_too(stick: Path) -> None:
    """On exFAT, which has no hard links and ignores case, nothing is overwritten either."""
    with TargetFolder(stick) as target:
        assert put(target, ["Family", "a.opus"], b"one").status == "written"
        assert put(target, ["Family", "A.opus"], b"two").status == "renamed"
        assert put(target, ["family", "a.opus"], b"one").status == "same"
        target.finish()
    assert files(stick) == {"Family/a.opus": b"one", "Family/A (2).opus": b"two"}


def test_without_folder_handles_the_same_promises_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems where folders cannot be opened (Windows), links are still not followed and nothing is overwritten."""
    monkeypatch.setattr("backup_tool.exporters.folder._HANDLES", False)
    (tmp_path / "outside").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target/Link").symlink_to(tmp_path / "outside")
    target = TargetFolder(tmp_path / "target")
    assert [put(target, ["Family", "a.opus"], data).status for data in (b"one", b"two", b"one")] == ["written", "renamed", "same"]
    assert target.holds(["Nowhere", "a.opus"], 3, sha(b"one")) is None
    with pytest.raises(Refused):
        put(target, ["Link", "a.opus"], b"one")
    target.finish()
    assert files(tmp_path / "target") == {"Family/a.opus": b"one", "Family/a (2).opus": b"two"}
    assert files(tmp_path / "outside") == {}
    shutil.rmtree(tmp_path / "target")
