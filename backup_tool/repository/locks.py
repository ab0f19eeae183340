"""Lock files: who works on a repository now (restic's design document, section "Locks").

restic takes, respects and refreshes the same files, so that its `prune` and ours never run beside anybody's backup.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import msgspec

from backup_tool.destinations.base import Destination
from backup_tool.errors import BackupError, DamagedObject, Locked, NoSpace, ObjectMissing
from backup_tool.names import shown
from backup_tool.repository import gojson, sealed, times
from backup_tool.repository.crypto import Key
from backup_tool.repository.objects import load_whole, store
from backup_tool.repository.sealed import Unreadable, parse

# restic's figures, in seconds: a lock is renewed every 5 minutes, void after 30, and its holder stops writing a good while before that.
REFRESH_EVERY = 300.0
OVERDUE = 1350.0
STALE = 1800.0
# Before a foreign lock that looks stale is removed it is watched this long: its holder may just have woken up.
WATCH = 60.0
# Between writing a lock and looking whether somebody did the same at the same moment.
SETTLE = 0.2
_LOOK_EVERY = 30.0
# On the way out: how long to wait for a renewal that is under way.
_PATIENCE = 3.0
_MAX_LOCK = 2**20


class Clock:
    """Time, so that tests can put a laptop to sleep."""

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that no one sets back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for an event so long at most; True where it came."""
        return event.wait(seconds)


class Lock(msgspec.Struct, kw_only=True):
    """A lock file: who holds it. `readable` is False where only its name and size are known."""

    id: str = ""
    time: str = ""
    exclusive: bool = False
    hostname: str = ""
    username: str = ""
    pid: int = 0
    uid: Annotated[int, msgspec.Meta(ge=0)] = 0
    gid: Annotated[int, msgspec.Meta(ge=0)] = 0
    readable: bool = True
    empty: bool = False

    def since(self) -> float | None:
        """Seconds since 1970 when it was written, None where it does not say."""
        try:
            return times.moment(self.time).timestamp()
        except ValueError:
            return None


class LockFiles:
    """The lock files of one repository."""

    def __init__(self, destination: Destination, key: Key, clock: Clock) -> None:
        self._destination = destination
        self._key = key
        self.clock = clock

    def all(self) -> list[Lock]:
        """Every lock, readable or not; one that goes while we look is left out."""
        found = []
        for name, size in sorted(self._destination.list("locks")):
            with contextlib.suppress(ObjectMissing):
                found.append(self._read(name, size))
        return found

    def _read(self, name: str, size: int) -> Lock:
        try:
            stored = load_whole(self._destination, "locks", name, size, _MAX_LOCK)
            lock = parse(sealed.decode(self._key, stored, _MAX_LOCK), Lock)
        except (DamagedObject, Unreadable):
            return Lock(id=name, readable=False, empty=size == 0)
        lock.id, lock.readable, lock.empty = name, True, False
        return lock

    def write(self, exclusive: bool) -> Lock:
        """A new lock of this process."""
        lock = Lock(
            time=times.written(round(self.clock.wall() * 10**6) * 1000),
            exclusive=exclusive,
            hostname=socket.gethostname(),
            username=user_name(),
            pid=os.getpid(),
            uid=os.getuid() if hasattr(os, "getuid") else 0,
            gid=os.getgid() if hasattr(os, "getgid") else 0,
        )
        fields: dict[str, Any] = {"time": lock.time, "exclusive": exclusive, "hostname": lock.hostname, "username": lock.username}
        fields |= {"pid": lock.pid, "uid": lock.uid or None, "gid": lock.gid or None}
        lock.id = store(self._destination, "locks", sealed.encode(self._key, gojson.record(fields).encode()))
        return lock

    def holds(self, lock: Lock) -> bool:
        """True where the lock's file is still there."""
        return any(name == lock.id for name, _ in self._destination.list("locks"))

    def remove(self, lock: Lock) -> None:
        """Take a lock away."""
        self._destination.remove("locks", lock.id)

    def age(self, lock: Lock) -> float:
        """Seconds since it was written; by the destination's clock where the lock does not say, or says a time to come."""
        since = lock.since() if lock.readable else None
        by_itself = -1.0 if since is None else self.clock.wall() - since
        if by_itself >= 0:
            return by_itself
        try:
            return self._destination.age("locks", lock.id)
        except ObjectMissing:
            return 0.0

    def remove_stale(self, *, watch: bool = True) -> list[Lock]:
        """Remove locks that nobody holds any more, and give them.

        Those of this machine whose process is dead; and any older than 30 minutes, if it is still the same after 60 s (`watch`).
        """
        removed, old = [], []
        for lock in self.all():
            if _dead(lock):
                self.remove(lock)
                removed.append(lock)
            elif self.age(lock) > STALE:
                old.append(lock)
        if old and watch:
            self.clock.sleep(WATCH)
            listed = {name for name, _ in self._destination.list("locks")}
            # A holder that lives renews its lock under a new name, and takes the old one away.
            old = [lock for lock in old if lock.id in listed]
        for lock in old:
            self.remove(lock)
        return removed + old

    def refuse_conflict(self, exclusive: bool, own: frozenset[str] = frozenset()) -> None:
        """Raise Locked where somebody else's lock and ours do not go together. A lock that cannot be read may be exclusive."""
        for lock in self.all():
            if lock.id in own or lock.empty:
                continue
            if exclusive or lock.exclusive or not lock.readable:
                raise Locked(*self._told(lock))

    def _told(self, lock: Lock) -> tuple[str, str]:
        age = f"{max(0, round(self.age(lock) / 60))} min"
        if not lock.readable:
            return f"the repository is locked by a lock that cannot be read ({lock.id[:8]}, {age} old)", _HINT
        who = f"process {lock.pid} on {shown(lock.hostname or 'an unnamed host', 80)}"
        return f"the repository is locked by {who} since {age}{' (exclusively)' if lock.exclusive else ''}", _HINT


_HINT = "wait until it has ended; if it has crashed, its lock is void after 30 min, or type 'backup unlock --remove-all'"


def user_name() -> str:
    """Who runs this program; empty where the system has no name for that."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without name, as in containers
        return ""


def _dead(lock: Lock) -> bool:
    """True where the lock is this machine's and its process has ended, or its number belongs to a younger process by now."""
    if not lock.readable or lock.hostname != socket.gethostname() or lock.pid <= 0:
        return False
    if lock.pid == os.getpid() or sys.platform == "win32":  # there os.kill would end the process it asks about
        return False
    try:
        os.kill(lock.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's process; or no number of a process, left to its age
        return False
    started, since = _started(lock.pid), lock.since()
    # The boot time that the start is counted from is known to the second only, and clocks get corrected.
    return started is not None and since is not None and started > since + 60


def _started(pid: int) -> float | None:
    """When a process began, in seconds since 1970; None where the system does not tell (Linux does: proc(5), /proc/pid/stat, starttime)."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return int(boot.split()[1]) + int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None


class HeldLock:
    """A lock that this process holds. `skipped` says why there is none, on a destination that cannot be written (or is None)."""

    def __init__(self, files: LockFiles, exclusive: bool, settle: float) -> None:
        self.exclusive = exclusive
        self.skipped: str | None = None
        self._files = files
        self._settle = settle
        self._lock: Lock | None = None
        self._lost: str | None = None
        self._wall = self._monotonic = 0.0
        self._mutex = threading.Lock()
        self._settling = threading.Lock()
        self._settled = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="lock refresher", daemon=True)

    # Taking and giving back

    def take(self, *, optional: bool = False) -> None:
        """Take the lock. Raises Locked; with `optional`, a place that cannot be written only sets `skipped`."""
        try:
            self._files.remove_stale()
        except BackupError as error:
            self._skip(error, optional)
        self._files.refuse_conflict(self.exclusive)
        if self.skipped is None:
            try:
                self._write()
            except BackupError as error:
                self._skip(error, optional)
        if self.skipped is None:
            if self.exclusive:
                self.settle()
            self._thread.start()

    def _skip(self, error: BackupError, optional: bool) -> None:
        # Read-only and full are no reason not to read; what may get better (network, sign-in) is for the caller.
        if not optional or type(error) not in (BackupError, NoSpace):
            raise error
        self.skipped = error.message

    def _write(self) -> None:
        started = self._files.clock.wall(), self._files.clock.monotonic()
        self._lock, self._lost = self._files.write(self.exclusive), None
        self._wall, self._monotonic = started
        self._settled = False

    def settle(self) -> None:
        """The second look, once everybody's lock had time to show: whoever wrote one at the same moment gives way. Raises Locked.

        Comes before the first write at the latest; reading what the lock protects may begin meanwhile, since our lock is there to be seen.
        """
        if self._settled:
            return
        with self._settling:
            if self._settled or self._lock is None:
                return
            self._files.clock.sleep(max(0.0, self._settle - (self._files.clock.monotonic() - self._monotonic)))
            lock = self._lock
            try:
                self._files.refuse_conflict(self.exclusive, frozenset([lock.id]))
            except BaseException:
                self._lock = None
                self._lost = "another program took a lock at the same moment"
                with contextlib.suppress(BackupError):
                    self._files.remove(lock)
                raise
            self._settled = True

    def release(self) -> None:
        """Give it back. A lock file that cannot be removed is left: it names this process, and the next run sees that it has ended."""
        self._stop.set()
        if not self._mutex.acquire(timeout=_PATIENCE):  # it is being renewed over a network that hangs
            return
        try:
            if self._lock is not None:
                with contextlib.suppress(BackupError):
                    self._files.remove(self._lock)
                self._lock = None
        finally:
            self._mutex.release()

    # Keeping

    def _keep_fresh(self) -> None:
        while not self._files.clock.wait(self._stop, _LOOK_EVERY):
            with contextlib.suppress(BackupError):  # tried again at the next look, until the lock is overdue
                self.refresh_if_due()

    def refresh_if_due(self) -> None:
        """Renew the lock if it is 5 minutes old: first a new file, then the old one goes. A lock that others removed stays lost."""
        with self._mutex:
            if self._lock is None or self._age() < REFRESH_EVERY or self._fault() is not None:
                return
            if not self._listed(self._lock):
                self._lost = "another program removed the lock"
                return
            started = self._files.clock.wall(), self._files.clock.monotonic()
            old, self._lock = self._lock, self._files.write(self.exclusive)
            self._wall, self._monotonic = started
            self._files.remove(old)

    def _age(self) -> float:
        clock = self._files.clock
        return max(clock.wall() - self._wall, clock.monotonic() - self._monotonic)

    def _listed(self, lock: Lock) -> bool:
        return self._files.holds(lock)

    def _fault(self) -> str | None:
        if self.skipped is not None:
            return f"the repository could not be locked: {self.skipped}"
        if self._lost is None and self._age() > OVERDUE:
            # Others may have taken it for dead, and removed packs that nothing names yet. Only `retake` mends that.
            self._lost = "the lock could not be renewed for 22 minutes"
        return self._lost

    def refuse_if_lost(self) -> None:
        """Raise Locked where nothing may be written any more."""
        self.settle()
        if (fault := self._fault()) is not None:
            raise Locked(f"{fault}: writing stopped", "run it again: what was stored is found and not sent twice")

    def still_held(self) -> bool:
        """True where the lock is fresh, and its file is still there."""
        self.settle()
        with self._mutex:
            return self._fault() is None and self._lock is not None and self._listed(self._lock)

    def retake(self) -> None:
        """Take a lost lock again. Raises Locked where somebody else has it. What was counted on under the old one is to be verified."""
        with self._mutex:
            if self._lock is not None:
                self._files.remove(self._lock)
                self._lock = None
            self._files.remove_stale()
            self._files.refuse_conflict(self.exclusive)
            self._write()
            self.settle()


@contextlib.contextmanager
def hangups_ignored() -> Iterator[None]:
    """No SIGHUP ends this process meanwhile: `restic unlock` sends one to every process of this machine that holds a lock.

    A handler that does nothing, and not SIG_IGN, which programs started from here would inherit. Only the main thread can set one.
    """
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Callable[[int, FrameType | None], Any] | int | None = signal.signal(hangup, lambda *_: None)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(hangup, before)
