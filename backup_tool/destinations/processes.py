"""Processes of this machine: which one made a temporary file, and whether it is surely gone; locks that keep others out.

A process id alone is not enough: it is given out again. The time the process started tells two of them apart, and the boot tells
whether the id means anything at all.
"""

from __future__ import annotations

import functools
import os
import re
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

_UNKNOWN = "x"
_NAME = re.compile(r"tmp\.(?P<random>[0-9a-f]{12})\.(?P<pid>\d+)\.(?P<start>\w+)\.(?P<boot>\w+)\.(?P<host>.+)")


@dataclass(frozen=True, slots=True)
class Maker:
    """The process that made a temporary: `start` and `boot` are opaque marks, "x" where the system does not tell."""

    host: str
    boot: str
    pid: int
    start: str

    def is_alive(self) -> bool | None:
        """Whether that process still runs; None where it cannot be known: another boot or container, or a system that does not tell."""
        if _UNKNOWN in (self.boot, self.start) or self.boot != _boot_mark():
            return None
        start = process_start(self.pid)
        return None if start == _UNKNOWN else start == self.start


def this_process() -> Maker:
    """The running process."""
    return _maker(os.getpid())


@functools.lru_cache(maxsize=2)
def _maker(pid: int) -> Maker:
    host = re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname())[:64] or "_"
    return Maker(host, _boot_mark(), pid, process_start(pid) or _UNKNOWN)


def temporary_name() -> str:
    """A name nobody else uses that tells its maker, for example ``tmp.9f86d081884c.4711.81723.5feceb66ffc8.laptop``.

    Never 64 hex digits, so that no reader of a repository takes it for an object.
    """
    me = this_process()
    return f"tmp.{secrets.token_hex(6)}.{me.pid}.{me.start}.{me.boot}.{me.host}"


def maker_of(name: str) -> Maker | None:
    """Who made the temporary of this name; None where it is no name of ours."""
    found = _NAME.fullmatch(name)
    return Maker(found["host"], found["boot"], int(found["pid"]), found["start"]) if found else None


def process_start(pid: int) -> str | None:
    """A mark of when this process started; None where there is no such process, "x" where the system does not tell.

    On Linux field 22 of /proc/PID/stat (proc(5)), elsewhere what ps says.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except ProcessLookupError:
        return None
    except OSError:
        return None if Path("/proc/self/stat").exists() else _start_from_ps(pid)
    fields = stat[stat.rindex(b")") + 2 :].split()  # the second field is the program's name and may hold anything
    return None if fields[0] in b"ZX" else fields[19].decode()


def _start_from_ps(pid: int) -> str | None:
    if os.name == "nt":
        return _UNKNOWN
    answer = _output("/bin/ps", "-o", "stat=,lstart=", "-p", str(pid))
    if answer is None:
        return _UNKNOWN
    state, _, start = answer.strip().partition(" ")
    return re.sub(r"\W+", "_", start.strip()) if start and not state.startswith("Z") else None


@functools.cache
def _boot_mark() -> str:
    """12 characters that differ between two boots, and between containers that do not see each other's processes."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return f"{boot.replace('-', '')[:12]}_{space:x}"
    except OSError:
        answer = _output("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
        return re.sub(r"\W", "", answer or "")[:12].lower() or _UNKNOWN


def _output(*command: str) -> str | None:
    """What a system program prints, in the C locale; None where it cannot be run."""
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False, env={"LC_ALL": "C"}).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def try_lock(file: int) -> bool:
    """Take the lock of an open file unless another process has it. It ends with the process, however that ends."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 2**16, os.SEEK_SET)  # a locked range cannot be read: this one is behind the text
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(file, 0, os.SEEK_SET)
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True
