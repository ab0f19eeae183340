"""Locks: nobody prunes beside a backup, no dead run stops the next one, and a laptop that slept does not write on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import BackupError, IntegrityError, Locked, NoSpace, Unreachable
from backup_tool.repository import Clock, Lock, Repository
from tests.parts import needs
from tests.repository.conftest import PASSWORD, Place, save_notes, snapshot


class Laptop(Clock):
    """Time that passes when the test says so. `slept` are the waits, `during` what happens in a wait."""

    def __init__(self) -> None:
        self.now = time.time()
        self.ticks = 0.0
        self.slept: list[float] = []
        self.during: Callable[[], None] = lambda: None

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.ticks

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.during()
        self.pass_(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(3600)

    def pass_(self, seconds: float, *, asleep: bool = False) -> None:
        self.now += seconds
        if not asleep:
            self.ticks += seconds


def with_laptop(place: Place) -> tuple[Repository, Laptop]:
    clock = Laptop()
    repo = place.repo
    return Repository(LocalDestination(place.folder), repo._key, repo.key_id, repo.config, clock), clock


def written(place: Place, *, age: float, host: str = "elsewhere", pid: int = 4711, exclusive: bool = False, **more: Any) -> str:
    """A lock file of another program."""
    moment = datetime.fromtimestamp(time.time() - age, UTC).isoformat().replace("+00:00", "Z")
    fields = {"time": moment, "exclusive": exclusive, "hostname": host, "username": "u", "pid": pid}
    return place.forge.sealed_json("locks", fields | more)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(place: Place) -> list[str]:
    return [path.name for path in place.files("locks")]


def test_a_lock_says_who_holds_it_and_goes(place: Place) -> None:
    """While it is held: host, process and kind can be read; afterwards nothing is left, also after an error."""
    with place.repo.lock() as held:
        (lock,) = place.repo.locks()
        assert (lock.hostname, lock.pid, lock.exclusive, lock.readable) == (socket.gethostname(), os.getpid(), False, True)
        assert abs((lock.since() or 0) - time.time()) < 60
        assert held.skipped is None

    def fail() -> None:
        with place.repo.lock(exclusive=True):
            assert place.repo.locks()[0].exclusive
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(place) == []


@pytest.mark.parametrize(
    ("theirs", "ours", "refused"), [(False, False, False), (True, False, True), (False, True, True), (True, True, True)]
)
def test_shared_locks_go_together_and_exclusive_ones_do_not(place: Place, theirs: bool, ours: bool, refused: bool) -> None:
    """Two backups run side by side; beside or before a prune nothing does. The message names host, process and age."""
    name = written(place, age=300, exclusive=theirs)
    if refused:
        with pytest.raises(Locked) as told, place.repo.lock(ours):
            pass
        assert told.value.exit_code == 11
        assert "process 4711 on elsewhere since 5 min" in told.value.message
        assert told.value.hint
    else:
        with place.repo.lock(ours):
            assert len(names(place)) == 2
    assert names(place) == [name]


def test_who_comes_second_at_the_same_moment_gives_way(place: Place) -> None:
    """A lock that appears while ours is being taken is seen: ours goes again."""
    repo, clock = with_laptop(place)

    def they_lock() -> None:
        written(place, age=0, exclusive=True)

    clock.during = they_lock
    with pytest.raises(Locked), repo.lock() as held:
        held.refuse_if_lost()  # the second look comes before the first write
    assert len(names(place)) == 1


def test_a_dead_run_of_this_machine_stops_nobody(place: Place) -> None:
    """Locks of processes that ended are removed at once, whatever their age or kind."""
    written(place, age=5, host=socket.gethostname(), pid=dead_pid(), exclusive=True)
    with place.repo.lock(exclusive=True):
        assert len(names(place)) == 1
    assert names(place) == []


def test_a_process_number_that_was_given_again_is_not_alive(place: Place) -> None:
    """A lock older than the process that has its number now was another process's."""
    started = time.time() - Path("/proc/self").stat().st_ctime if Path("/proc/self").exists() else None
    if started is None:
        pytest.skip("needs Linux, to see when a process began")
    running = subprocess.Popen(["sleep", "60"])
    try:
        written(place, age=600, host=socket.gethostname(), pid=running.pid, exclusive=True)
        with place.repo.lock():
            assert len(names(place)) == 1
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize("pid", [os.getppid(), 1, 2**40, 0, -5])
def test_a_living_run_of_this_machine_is_respected(place: Place, pid: int) -> None:
    """A lock of a process that lives, or whose number says nothing, stays."""
    name = written(place, age=1, host=socket.gethostname(), pid=pid, exclusive=True)
    with pytest.raises(Locked), place.repo.lock():
        pass
    assert names(place) == [name]


def test_an_old_foreign_lock_is_watched_before_it_goes(place: Place) -> None:
    """Older than 30 minutes and the same after 60 s: removed. Younger: respected."""
    repo, clock = with_laptop(place)
    written(place, age=1801, exclusive=True)
    with repo.lock():
        assert clock.slept[0] == 60
    assert names(place) == []
    repo, clock = with_laptop(place)
    written(place, age=1790, exclusive=True)
    with pytest.raises(Locked), repo.lock():
        pass
    assert clock.slept == []


def test_a_holder_that_wakes_up_while_it_is_watched_keeps_its_lock(place: Place) -> None:
    """A lock that is renewed during the 60 s belongs to somebody who lives."""
    repo, clock = with_laptop(place)
    old = written(place, age=4000, exclusive=True)

    def renew() -> None:
        if len(clock.slept) == 1:
            written(place, age=0, exclusive=True)
            (place.folder / "locks" / old).unlink()

    clock.during = renew
    with pytest.raises(Locked), repo.lock():
        pass
    assert len(names(place)) == 1


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize("data", [b"x" * 50, bytes(200)])
def test_a_lock_that_cannot_be_read_counts_as_fresh_for_half_an_hour(place: Place, data: bytes) -> None:
    """It may be exclusive. Its age is that of its file; after 30 minutes it goes."""
    name = place.forge.put("locks", data)
    with pytest.raises(Locked, match="cannot be read"), place.repo.lock():
        pass
    assert [lock.readable for lock in place.repo.locks()] == [False]
    aged(place.folder / "locks" / name, 1900)
    repo, _ = with_laptop(place)
    with repo.lock():
        assert len(names(place)) == 1
    assert names(place) == []


def test_an_empty_lock_file_stops_nobody(place: Place) -> None:
    """What a power cut leaves of a lock is no lock."""
    name = place.forge.put("locks", b"", "ab" * 32)
    with place.repo.lock(exclusive=True):
        pass
    assert names(place) == [name]


def test_a_lock_from_the_future_ages_by_its_file(place: Place) -> None:
    """A host with a clock that is years ahead cannot lock the archive for years."""
    name = written(place, age=-1e8, exclusive=True)
    with pytest.raises(Locked), place.repo.lock():
        pass
    aged(place.folder / "locks" / name, 1900)
    repo, _ = with_laptop(place)
    with repo.lock():
        assert len(names(place)) == 1


def test_locks_are_renewed_new_one_first(place: Place) -> None:
    """Every five minutes there is a new file, and never a moment without one."""
    repo, clock = with_laptop(place)
    seen: list[int] = []

    class Watching(LocalDestination):
        def remove(self, kind: ObjectKind, name: str) -> None:
            seen.append(len(names(place)))
            super().remove(kind, name)

    repo._locks._destination = Watching(place.folder)
    with repo.lock() as held:
        first = names(place)
        clock.pass_(299)
        held.refresh_if_due()
        assert names(place) == first
        for _ in range(20):
            clock.pass_(301)
            held.refresh_if_due()
            held.refuse_if_lost()
        assert len(names(place)) == 1
        assert names(place) != first
        assert repo.locks()[0].since() == pytest.approx(clock.now, abs=0.01)
    assert seen == [2] * 20 + [1]


@pytest.mark.parametrize("asleep", [True, False])
def test_after_a_long_sleep_nothing_more_is_written(place: Place, asleep: bool) -> None:
    """A laptop that slept through its renewals stops writing, whichever clock shows it; renewing does not make it good."""
    repo, clock = with_laptop(place)
    with repo.lock() as held:
        writer = repo.writer()
        writer.add("audio", b"before")
        clock.pass_(1351, asleep=asleep)
        with pytest.raises(Locked, match="writing stopped"):
            held.refuse_if_lost()
        held.refresh_if_due()
        with pytest.raises(Locked), writer:
            writer.add("catalog", b"after")
    assert place.files("data") == []


def test_a_lock_that_somebody_removed_is_missed(place: Place) -> None:
    """After `unlock --remove-all` by somebody else, the next renewal notices, and writing stops."""
    repo, clock = with_laptop(place)
    with repo.lock() as held:
        place.repo.unlock(remove_all=True)
        clock.pass_(301)
        held.refresh_if_due()
        assert names(place) == []
        with pytest.raises(Locked, match="another program"):
            held.refuse_if_lost()


def test_a_failing_renewal_is_tried_again_until_it_is_too_late(place: Place) -> None:
    """A network that is away for minutes costs nothing; one away for longer stops the writing."""
    repo, clock = with_laptop(place)

    class Away(LocalDestination):
        away = True

        def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
            if self.away:
                raise Unreachable("no network")
            super().save(kind, name, data)

    with repo.lock() as held:
        destination = repo._locks._destination = Away(place.folder)
        clock.pass_(400)
        with pytest.raises(Unreachable):
            held.refresh_if_due()
        held.refuse_if_lost()
        clock.pass_(400)
        destination.away = False
        held.refresh_if_due()
        clock.pass_(1000)
        held.refuse_if_lost()
        assert held.still_held()


def test_the_lock_is_renewed_by_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run is busy, a thread renews the lock."""
    monkeypatch.setattr("backup_tool.repository.locks._LOOK_EVERY", 0.02)
    monkeypatch.setattr("backup_tool.repository.locks.REFRESH_EVERY", 0.1)
    with place.repo.lock():
        first = names(place)
        deadline = time.monotonic() + 10
        while names(place) == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert names(place) != first
    assert names(place) == []


def test_a_snapshot_after_a_long_sleep_is_written_only_if_all_is_still_there(place: Place) -> None:
    """Before the snapshot the lock is looked at: lost, it is taken again, and everything the snapshot names must still be stored."""
    save_notes(place.repo, {"a": b"audio"})
    (old,) = place.repo.snapshots()
    for gone in (False, True):
        repo, clock = with_laptop(place)
        repo.load_index()
        with repo.lock():
            clock.pass_(2000, asleep=True)
            if gone:
                for path in place.files("data"):
                    path.unlink()
                with pytest.raises(IntegrityError, match="another program removed"):
                    repo.save_snapshot(snapshot(old.tree))
            else:
                repo.save_snapshot(snapshot(old.tree))
                assert len(names(place)) == 1
    assert len(place.files("snapshots")) == 2
    assert names(place) == []


def test_a_snapshot_after_a_sleep_gives_way_to_a_prune(place: Place) -> None:
    """If somebody holds the repository exclusively by now, no snapshot is written."""
    save_notes(place.repo, {"a": b"audio"})
    (old,) = place.repo.snapshots()
    repo, clock = with_laptop(place)
    with repo.lock():
        clock.pass_(2000, asleep=True)
        written(place, age=-2000, exclusive=True)
        with pytest.raises(Locked):
            repo.save_snapshot(snapshot(old.tree))
    assert len(place.files("snapshots")) == 1


class ReadOnly(LocalDestination):
    """A disc that cannot be written."""

    error: BackupError = BackupError("the disk is read-only")

    def save(self, kind: ObjectKind, name: str, data: bytes) -> None:
        raise self.error

    def remove(self, kind: ObjectKind, name: str) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BackupError("read-only"), NoSpace("full")])
@pytest.mark.parametrize("stale", [True, False])
def test_reading_goes_on_without_a_lock_where_none_can_be_written(place: Place, error: BackupError, stale: bool) -> None:
    """On read-only or full media an optional lock is skipped, and says why; writing then is refused; without the option it raises."""
    if stale:
        written(place, age=5, host=socket.gethostname(), pid=dead_pid())
    destination = ReadOnly(place.folder)
    destination.error = error
    repo = Repository(destination, place.repo._key, "", place.repo.config, place.repo.clock)
    with repo.lock(optional=True) as held:
        assert held.skipped == error.message
        with pytest.raises(Locked, match="could not be locked"):
            repo.writer()
    with pytest.raises(type(error)), repo.lock():
        pass


def test_a_network_error_is_no_reason_to_go_on_without(place: Place) -> None:
    """What may get better is not passed over, however optional the lock."""
    destination = ReadOnly(place.folder)
    destination.error = Unreachable("no network")
    repo = Repository(destination, place.repo._key, "", place.repo.config, place.repo.clock)
    with pytest.raises(Unreachable), repo.lock(optional=True):
        pass


def test_a_lock_within_a_lock(place: Place) -> None:
    """Who holds a lock already may ask for one again; asking for more than is held conflicts with oneself."""
    with place.repo.lock() as outer:
        with place.repo.lock() as inner:
            assert inner is outer
        assert len(names(place)) == 1
        with pytest.raises(Locked), place.repo.lock(exclusive=True):
            pass
        assert len(names(place)) == 1
    with place.repo.lock(exclusive=True) as held, place.repo.lock() as inner:
        assert inner is held


def test_unlock_removes_what_nobody_holds(place: Place) -> None:
    """`unlock` takes away dead and old locks, and gives them; living ones only when told to remove all."""
    dead = {written(place, age=5, host=socket.gethostname(), pid=dead_pid()), written(place, age=1900)}
    living = written(place, age=10)
    assert {lock.id for lock in place.repo.unlock()} == dead
    assert names(place) == [living]
    assert [lock.id for lock in place.repo.unlock(remove_all=True)] == [living]
    assert names(place) == []


def test_hangups_do_nothing_while_a_lock_is_held(place: Place) -> None:
    """The signal that `restic unlock` sends does not end a run, and afterwards means again what it meant before."""
    hangups: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    try:
        with place.repo.lock():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert hangups == []
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.01)
        assert hangups == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_lock_may_be_taken_in_any_thread(place: Place) -> None:
    """Outside the main thread signals cannot be handled; the lock itself works there too."""
    seen: list[Lock] = []

    def work() -> None:
        with place.repo.lock():
            seen.extend(place.repo.locks())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(seen) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"pid":-1e400}', b'{"time":5}', b"[" * 100_000, b'{"hostname":"\xff"}'])
def test_hostile_locks_are_unreadable_locks(place: Place, body: bytes) -> None:
    """A lock file full of nonsense is a lock that cannot be read, never a crash."""
    place.forge.sealed_json("locks", body)
    (lock,) = place.repo.locks()
    assert not lock.readable


def test_a_hostile_host_name_is_shown_escaped(place: Place) -> None:
    """Names in a foreign lock cannot steer the terminal."""
    written(place, age=1, host="evil\x1b[2J\u202e", exclusive=True)
    with pytest.raises(Locked) as told, place.repo.lock():
        pass
    assert "\x1b" not in told.value.message
    assert "\u202e" not in told.value.message


HOLDER = """
import sys
from backup_tool.destinations.local import LocalDestination
from backup_tool.models import Secret
from backup_tool.repository import Repository
repo = Repository.open(LocalDestination(sys.argv[1]), Secret(sys.argv[2]))
with repo.lock(exclusive=sys.argv[3] == "exclusive"):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


def restic(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["restic", "--no-cache", "-r", str(place.folder), *words],
        env=os.environ | {"RESTIC_PASSWORD": PASSWORD}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_restic_and_we_respect_each_other(place: Place) -> None:
    """Our lock stops restic's prune and check; `restic unlock` neither removes it nor ends us by its signal."""
    needs("restic")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place.folder), PASSWORD, "shared"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        refused = restic(place, "prune")
        assert refused.returncode in (1, 11)
        assert "already locked" in refused.stderr
        assert restic(place, "unlock").returncode == 0
        assert len(names(place)) == 1
        assert holder.poll() is None
        holder.stdin.write("\n")
        holder.stdin.close()
        assert holder.stdout.readline() == "released\n"
    assert holder.returncode == 0
    assert names(place) == []
    assert restic(place, "prune").returncode == 0


def test_restics_lock_stops_us(place: Place) -> None:
    """While restic backs up, we may read and back up too, and may not prune; a lock that a killed restic left stops nobody."""
    needs("restic")
    with subprocess.Popen(
        ["restic", "--no-cache", "-r", str(place.folder), "backup", "--stdin"],
        env=os.environ | {"RESTIC_PASSWORD": PASSWORD}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as backup:  # fmt: skip
        deadline = time.monotonic() + 20
        while not names(place) and time.monotonic() < deadline:
            time.sleep(0.02)
        (lock,) = place.repo.locks()
        assert (lock.pid, lock.hostname, lock.exclusive, lock.readable) == (backup.pid, socket.gethostname(), False, True)
        with place.repo.lock():
            pass
        with pytest.raises(Locked, match=f"process {backup.pid}"), place.repo.lock(exclusive=True):
            pass
        backup.kill()
    assert len(names(place)) == 1
    with place.repo.lock(exclusive=True):
        assert len(names(place)) == 1
    assert names(place) == []
