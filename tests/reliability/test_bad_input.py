"""Bad input: each kind has its exit code and one clear line, and keeps nothing else from being archived."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.generators.ogg import opus_note
from tests.parts import needs, needs_root
from tests.reliability.test_full_disk import unprivileged
from tests.reliability.world import World, hashes, new_world
from tests.repository.forge import seal, sha


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A phone of four notes, archived once."""
    world = new_world(tmp_path_factory.mktemp("kept") / "w", 4)
    world.backup("run")
    return world


@pytest.fixture
def world(kept: World, tmp_path: Path) -> World:
    """The test's own copy."""
    return kept.copy(tmp_path / "w")


# --- what is typed, and what is not there -------------------------------------------------------------------------------------------------


def unplugged(world: World) -> None:
    """The disk is not mounted: an empty folder is there."""
    shutil.rmtree(world.repo)
    world.repo.mkdir()


def other_password(world: World) -> None:
    (world.root / "password").write_text("something else\n")


def open_password(world: World) -> None:
    (world.root / "password").chmod(0o644)


def no_password(world: World) -> None:
    (world.root / "password").unlink()


def bad_settings(world: World) -> None:
    (world.root / "config.toml").write_text("[destinations.disk]\ntype = 'local'\npaht = '/x'\n")


def torn_settings(world: World) -> None:
    (world.root / "config.toml").write_bytes(b"[sources.phone\n\xff\0")


def nothing(world: World) -> None:
    """All is well."""


def lock_it(world: World) -> None:
    """Somebody else, on another machine, is tidying up."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    fields = {"time": now, "exclusive": True, "hostname": "elsewhere", "username": "u", "pid": 7}
    world.forge().sealed_json("locks", fields)


def future_version(world: World) -> None:
    """A repository of a version to come."""
    config = {"version": 3, "id": "ab" * 32, "chunker_polynomial": "25b468838dcb75"}
    (world.repo / "config").chmod(0o600)
    (world.repo / "config").write_bytes(seal(world.secrets(), json.dumps(config).encode()))


def phone_is_empty(world: World) -> None:
    shutil.rmtree(world.phone)
    world.phone.mkdir()


def phone_is_away(world: World) -> None:
    shutil.rmtree(world.phone)


def phone_is_a_file(world: World) -> None:
    shutil.rmtree(world.phone)
    world.phone.write_bytes(b"not a folder")


Case = tuple[Callable[[World], None], list[str], int, str]
REFUSED: dict[str, Case] = {
    "no such source": (nothing, ["run", "./nowhere"], 2, "no such folder or configured source: ./nowhere"),
    "no such source to scan": (nothing, ["scan", "./nowhere"], 2, "no such folder or configured source: ./nowhere"),
    "empty folder typed": (phone_is_empty, ["run", "phone/"], 2, ""),
    "empty folder scanned": (phone_is_empty, ["scan", "./phone"], 2, ""),
    "a file as source": (phone_is_a_file, ["run", "./phone"], 2, ""),
    "missing repository": (nothing, ["run", "--repo", "./elsewhere"], 10, "no repository at "),
    "missing repository to list": (nothing, ["list", "--repo", "./elsewhere"], 10, "no repository at "),
    "unmounted disk": (unplugged, ["run"], 10, "no repository at "),
    "unmounted disk to restore": (unplugged, ["restore"], 10, "no repository at"),
    "wrong password": (other_password, ["run"], 12, "the password opens none of the repository's keys"),
    "wrong password to list": (other_password, ["list"], 12, "the password opens none of the repository's keys"),
    "password that others may read": (open_password, ["run"], 2, "password"),
    "no password file": (no_password, ["run"], 2, "password"),
    "unknown setting": (bad_settings, ["run"], 2, "paht"),
    "torn settings": (torn_settings, ["run"], 2, "config.toml"),
    "locked by somebody else": (lock_it, ["run"], 11, "the repository is locked by process 7 on elsewhere"),
    "version to come": (future_version, ["list"], 1, "format version 3"),
    "no such chat": (nothing, ["list", "--chat", "nobody"], 2, 'no chat matches "nobody"'),
    "no such note": (nothing, ["extract", "abcd"], 2, 'no note begins with "abcd"'),
    "no id at all": (nothing, ["extract", "x;y"], 2, '"x;y" is not the id of a note'),
    "no such snapshot": (nothing, ["list", "--snapshot", "abcd"], 2, 'no snapshot begins with "abcd"'),
    "no such day": (nothing, ["list", "--since", "yesterday"], 2, '"yesterday" is not a day or time'),
    "restore onto a file": (nothing, ["restore", "--to", "password"], 2, "password is not a folder"),
    "init twice": (nothing, ["init"], 2, "there is a repository at"),
    "unknown option": (nothing, ["list", "--colour"], 2, "no such option: --colour"),
    "unknown verb": (nothing, ["lst"], 2, "no such command 'lst'"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_done_is_said_in_one_line_and_changes_nothing(world: World, case: Case) -> None:
    """Each mistake has its exit code, one line that names it, the same as JSON, and the archive is untouched."""
    harm, words, code, line = case
    harm(world)
    before = hashes(world.root)
    ended = world.backup(*words, code=code)
    assert line in ended.told
    assert "\nhint: " in ended.err
    as_json = world.backup(*words, "--json", code=code)
    assert json.loads(as_json.out)["error"]["code"] == code
    changed = (hashes(world.repo) if world.repo.is_dir() else Counter()) - before
    assert not changed
    assert not (world.root / "elsewhere").exists()


def test_a_configured_source_that_is_away_is_carried(world: World) -> None:
    """A card that is out costs nothing: its notes stay as they are, none is marked, exit 3, and it is named."""
    phone_is_away(world)
    ended = world.backup("run", "--json", code=3)
    done = json.loads(ended.out)
    assert (done["notes"], done["unchanged"], done["gone"]) == (4, 4, 0)
    assert str(world.phone) in json.dumps(done["errors"])


# --- one bad file among good ones ---------------------------------------------------------------------------------------------------------


def put(path: Path | bytes, data: bytes) -> None:
    """A file that has been at rest for long."""
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, (1_772_000_000, 1_772_000_000))


def voice(world: World) -> Path:
    """The folder of voice notes."""
    return world.store / "Media/WhatsApp Voice Notes"


def test_an_unreadable_file_is_named_and_the_rest_is_archived(world: World) -> None:
    """A file or a folder that may not be read is named, exit 3; what is on record of it stays; all else is archived."""
    needs("setpriv")
    known = next(iter(sorted(voice(world).rglob("*.opus"))))
    put(known, opus_note(1, 900))
    known.chmod(0)
    closed = voice(world) / "202611"
    closed.mkdir()
    put(closed / "PTT-20260310-WA0001.opus", opus_note(1, 901))
    closed.chmod(0)
    good = voice(world) / "202612"
    good.mkdir()
    put(good / "PTT-20260320-WA0001.opus", opus_note(1, 902))
    ended = unprivileged(world, "run", "--json")
    assert ended.code == 3
    done = json.loads(ended.out)
    closed.chmod(0o700)
    assert {problem["path"].rpartition("/")[2] for problem in done["errors"]} == {known.name, "202611"}
    assert (done["new"], done["unchanged"], done["gone"], done["unreadable"]) == (1, 4, 0, 2)
    assert all(problem["reason"] == "permission denied" for problem in done["errors"])


HOSTILE = [
    b"PTT-20260303-WA0100\n.opus", b"PTT-20260303-WA0101\x1b[2J.opus", b"PTT-20260303-WA0102\xff\xfe.opus", b"PTT-20260303-WA0103..opus",
    b"PTT-20260303-WA0104" + b"x" * 231 + b".opus", b"PTT-20260303-WA0105\\..\\..\\x.opus", b"PTT-20260303-WA0106\xe2\x80\xae.opus",
    b"-rf PTT-20260303-WA0107.opus", b"PTT-20260303-WA0108 ' \" $(id) `id`.opus", b"PTT-20260303-WA0109\r\nBcc: a@b.opus",
    b"PTT-20260303-WA0110\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9.opus",
    b"PTT-20260303-WA0111\xc3\xa9.opus", b"PTT-20260303-WA0111e\xcc\x81.opus",
    b"CON.opus", b"%s%n.opus", b"\x01.opus",
]  # fmt: skip


def test_hostile_names_are_archived_and_never_reach_a_terminal_raw(world: World, tmp_path: Path) -> None:
    """Whatever a file is called, up to 255 bytes that are no text at all: it is archived, listed, and given back inside the target."""
    needs("restic")
    folder = os.fsencode(voice(world) / "202610")
    os.makedirs(folder, exist_ok=True)
    for number, name in enumerate(HOSTILE):
        assert len(name) <= 255
        put(os.path.join(folder, name), opus_note(1, 2000 + number))
    odd = voice(world) / os.fsdecode(b"2026\n\x1b]0;x\x07\xff")
    odd.mkdir()
    put(odd / "PTT-20260304-WA0001.opus", opus_note(1, 2100))
    (voice(world) / "loop").symlink_to(voice(world))
    (voice(world) / "PTT-20260304-WA0002.opus").symlink_to("/etc/passwd")
    os.mkfifo(voice(world) / "PTT-20260304-WA0003.opus")

    ended = world.backup("run", "--json", code=3)
    done = json.loads(ended.out)
    assert done["new"] == len(HOSTILE) + 1
    assert {problem["path"].rpartition("/")[2] for problem in done["errors"]} == {
        "loop", "PTT-20260304-WA0002.opus", "PTT-20260304-WA0003.opus",
    }  # fmt: skip
    for words in (["list"], ["scan"], ["scan", "--show", "orphan"], ["search", "ptt"], ["chats"], ["check", "--read-data"]):
        world.backup(*words, code=(0, 3))
    notes = world.notes()
    # On the phone two names differ only in how an accent is written; in the target that would be one name, so one file gets another.
    for layout in ("chat", "original"):
        world.backup("restore", "--to", tmp_path / layout, "--layout", layout)
        assert hashes(tmp_path / layout) == notes
        for path in (tmp_path / layout).rglob("*"):
            assert path.name.isprintable()
            assert not path.is_symlink()
    assert len(json.loads(world.backup("run", "--json", code=3).out)["errors"]) == 3
    world.restic("check", "--read-data")
    world.restic("restore", "latest", "--target", tmp_path / "theirs")
    assert hashes(tmp_path / "theirs/voice-notes/phone/notes") == notes


def test_an_endless_device_and_a_giant_hang_nobody(world: World) -> None:
    """A device named like a note is not read, a sparse giant is not stored; both are named, and the run ends."""
    needs_root()
    os.mknod(voice(world) / "PTT-20260304-WA0004.opus", 0o20666, os.makedev(1, 5))
    with (voice(world) / "PTT-20260304-WA0005.opus").open("wb") as giant:
        giant.truncate(8 * 2**30)
    ended = world.backup("run", "--json", code=3)
    assert {problem["path"][-11:-5] for problem in json.loads(ended.out)["errors"]} == {"WA0004", "WA0005"}
    assert ended.seconds < 30
    assert ended.peak < 200 * 2**20


# --- files that move ----------------------------------------------------------------------------------------------------------------------


@contextmanager
def restless(work: Callable[[int], None]) -> Iterator[None]:
    """Somebody does this again and again meanwhile."""
    stop = threading.Event()

    def go() -> None:
        number = 0
        while not stop.is_set():
            work(number)
            number += 1

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_no_torn_note_is_stored_while_files_are_rewritten(world: World) -> None:
    """While notes are rewritten in place and appended to, what is archived is always a whole version that was there."""
    versions: set[str] = set()
    paths = [voice(world) / f"PTT-20260305-WA{number:04}.opus" for number in range(6)]
    noise = [os.urandom(700_000) for _ in range(4)]

    def rewrite(number: int) -> None:
        path = paths[number % len(paths)]
        data = noise[number % 4] + number.to_bytes(8, "big")
        versions.add(sha(data))
        with path.open("r+b" if path.exists() else "wb", buffering=0) as file:
            file.write(data[:300_000])
            time.sleep(0.002)
            file.write(data[300_000:])
            file.truncate(len(data))
        old = time.time() - 3600  # as if long at rest: only looking twice tells
        os.utime(path, (old, old))

    for number in range(len(paths)):
        rewrite(number)
    with restless(rewrite):
        world.backup("run", code=(0, 3))
    world.backup("run")
    notes = {str(note["id"]) for note in world.documents("list")}
    torn = notes - versions - set(hashes(world.store / "Media"))
    assert not torn
    world.backup("check", "--read-data")


def test_a_note_rewritten_while_it_is_read_is_not_stored_torn(world: World) -> None:
    """Even where size and time stay what they were, a note that changed under the reader is read again, never kept half old, half new."""
    path = voice(world) / "PTT-20260305-WA0100.opus"
    old, new = os.urandom(40 * 2**20), os.urandom(40 * 2**20)
    put(path, old)
    running = world.start("run")
    while not any(link == str(path) for link in open_files(running.pid)):
        assert not running.has_ended(), "it was never open"
    with path.open("r+b", buffering=0) as file:
        file.write(new)
    os.utime(path, (1_772_000_000, 1_772_000_000))
    assert running.wait().code in (0, 3)
    stored = {str(note["id"]) for note in world.documents("list")} - set(world.notes())
    assert stored <= {sha(old)}
    world.backup("run")
    assert sha(new) in {str(note["id"]) for note in world.documents("list")}


def open_files(pid: int) -> Iterator[str]:
    """What a process has open now."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{number}")


def test_a_note_that_is_being_recorded_is_waited_for(world: World) -> None:
    """A recording that grows while the run looks is not stored half: the run waits until it has been quiet, and takes it whole."""
    growing = voice(world) / "PTT-20260306-WA0001.opus"
    growing.write_bytes(b"OggS")
    until = time.monotonic() + 2.5

    def append(_: int) -> None:
        if time.monotonic() < until:
            with growing.open("ab") as file:
                file.write(os.urandom(5000))
        time.sleep(0.05)

    with restless(append):
        done = json.loads(world.backup("run", "--json").out)
    assert (done["new"], done["bytes_read"]) == (1, growing.stat().st_size)
    assert world.restored("out") == world.notes()


def test_files_that_vanish_during_the_scan_are_no_failure_of_the_rest(world: World) -> None:
    """Notes that come and go while the run looks: those that stay are archived, and the run ends well or names what was gone."""
    folder = voice(world) / "202613"
    folder.mkdir()

    def come_and_go(number: int) -> None:
        path = folder / f"PTT-20260322-WA{number % 50:04}.opus"
        path.write_bytes(opus_note(0.2, number % 50))
        os.utime(path, (1_790_000_000, 1_790_000_000))
        if number > 25:
            (folder / f"PTT-20260322-WA{(number - 25) % 50:04}.opus").unlink(missing_ok=True)

    with restless(come_and_go):
        for _ in range(3):
            done = json.loads(world.backup("run", "--json", code=(0, 3)).out)
            assert all("/202613/" in problem["path"] for problem in done["errors"]), done["errors"]
            assert done["unreadable"] == len(done["errors"])
    world.backup("check", "--read-data")
    world.backup("run", code=(0, 3))
    assert set(hashes(world.store / "Media")) <= set(world.restored("out"))


# --- databases ----------------------------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def scribble(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))


def no_database(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def endless_view(path: Path) -> None:
    """In place of the table of messages, a view that never ends."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("ALTER TABLE message RENAME TO hidden")
        columns = ", ".join(f"n AS {row[1]}" for row in database.execute("PRAGMA table_info(hidden)"))
        database.execute(f"CREATE VIEW message AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT {columns} FROM c")


@pytest.mark.parametrize("harm", [cut, scribble, no_database, emptied, endless_view], ids=lambda harm: harm.__name__)
def test_a_damaged_database_takes_nothing_away(world: World, harm: Callable[[Path], None]) -> None:
    """With a database that cannot be read, every note is archived all the same, and what was known of each stays known."""
    before = {note["id"]: (note["chat"], note["sent_at"]) for note in world.documents("list")}
    database = world.store / "Databases/msgstore.db"
    harm(database)
    damaged = database.read_bytes()
    put(voice(world) / "PTT-20260307-WA0001.opus", opus_note(1, 77))
    ended = world.backup("run", "--json", code=(0, 3))
    assert ended.seconds < 60
    done = json.loads(ended.out)
    assert (done["new"], done["gone"]) == (1, 0)
    assert ended.code == 3 or harm is endless_view or "warning: " in ended.err, ended
    after = {note["id"]: (note["chat"], note["sent_at"]) for note in world.documents("list")}
    assert {id: after[id] for id in before} == before
    assert database.read_bytes() == damaged
    assert sorted(path.name for path in database.parent.iterdir()) == ["msgstore.db"]


def test_the_remains_of_a_broken_state_folder_are_no_matter(world: World) -> None:
    """Nothing in the state folder is needed: torn, replaced by folders, or not writable, the run goes on."""
    for path in list((world.root / "state").glob("*.json")):
        path.write_bytes(b'{"version": 1, "sha256": "')
    world.backup("run")
    shutil.rmtree(world.root / "state")
    (world.root / "state").write_bytes(b"a file")
    world.backup("run")
    world.backup("check")
    assert world.restored("out") == world.notes()


def test_a_pipe_that_nobody_reads_any_more_is_no_error(world: World) -> None:
    """`backup list | head -1` ends quietly."""
    run = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m backup_tool list | head -c 1"],
        cwd=Path(__file__).parents[2], env=world.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
