"""The program as people run it: every command a process of its own, with its output, its exit code and its memory.

Loading interpreter and program takes longer than most commands here. So one process loads the program and forks for each command; the
child is the leader of its own process group and has no terminal, as under cron. `python -m tests.program` is that process:

    → {"words": ["list"], "env": {…}, "cwd": "/…", "in": "/…", "out": "/…", "err": "/…"}
    ← the child's number, then, when it and all that it started have ended, its exit status and the most memory it had, in KiB
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

PATIENCE = 120.0
_HOUSE = Path(__file__).parents[1]
_LOADED = ("av", "keyring", "pyicloud")
"""What verbs import when they use it, and what takes long."""
_NOT_LOADED = ("backup_tool.__main__", "backup_tool.destinations.gdrive")
"""What is left to the commands: Google's library looks for certificates when it is imported, where the environment says."""


class Ended(NamedTuple):
    """How a command ended: exit code (below zero: the signal), the bytes of both outputs, most memory in bytes, seconds."""

    code: int
    raw_out: bytes
    raw_err: bytes
    peak: int = 0
    seconds: float = 0.0

    @property
    def out(self) -> str:
        """Its result as text."""
        return self.raw_out.decode("utf-8", "backslashreplace")

    @property
    def err(self) -> str:
        """What it said besides, as text."""
        return self.raw_err.decode("utf-8", "backslashreplace")

    @property
    def told(self) -> str:
        """Its one `error:` line. Fails where there is none, or several."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line


class Running:
    """A command at work."""

    def __init__(self, server: subprocess.Popen[bytes], pid: int, folder: str, shown: str) -> None:
        self.pid = pid
        self._server = server
        self._folder = Path(folder)
        self._shown = shown
        self._began = time.monotonic()

    def kill(self) -> None:
        """End it and all that it started, at once, as a power cut would."""
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(self.pid, signal.SIGKILL)

    def children(self) -> list[int]:
        """The processes that it started and that live."""
        try:
            return list(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))
        except FileNotFoundError:
            return []

    def has_ended(self) -> bool:
        """True when there is nothing to wait for any more."""
        return self._answers_within(0)

    def _answers_within(self, seconds: float) -> bool:
        assert self._server.stdout is not None
        return bool(select.select([self._server.stdout], [], [], seconds)[0])

    def wait(self) -> Ended:
        """Wait for its end. One that takes too long is ended, and fails."""
        if not self._answers_within(PATIENCE):
            self.kill()
            _line(self._server)
            raise AssertionError(f"{self._shown} did not end within {PATIENCE:.0f} s")
        status, peak = map(int, _line(self._server).split())
        out, err = ((self._folder / name).read_bytes() for name in ("out", "err"))
        shutil.rmtree(self._folder)
        return Ended(os.waitstatus_to_exitcode(status), out, err, peak * 1024, time.monotonic() - self._began)


_servers: list[subprocess.Popen[bytes]] = []


def start(words: Sequence[str | Path], env: Mapping[str, str], cwd: Path, *, typed: str = "") -> Running:
    """Start one command, with `typed` on its standard input. Only one at a time."""
    server = _server()
    folder = tempfile.mkdtemp(prefix="command-")
    files = {name: os.path.join(folder, name) for name in ("in", "out", "err")}
    for path in files.values():  # a child that is killed at once has not opened them yet
        Path(path).touch(0o600)
    Path(files["in"]).write_text(typed)
    order = {"words": [os.fspath(word) for word in words], "env": dict(env), "cwd": os.fspath(cwd), **files}
    assert server.stdin is not None
    server.stdin.write(json.dumps(order).encode() + b"\n")
    server.stdin.flush()
    return Running(server, int(_line(server)), folder, " ".join(map(str, words)))


def _server() -> subprocess.Popen[bytes]:
    if not _servers:
        command, env = [sys.executable, "-m", "tests.program"], {**os.environ, "LC_ALL": "C.UTF-8"}
        _servers.append(
            subprocess.Popen(command, cwd=_HOUSE, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True)
        )
        atexit.register(stop)
    return _servers[0]


def stop() -> None:
    """Let the server go, where there is one."""
    while _servers:
        with _servers.pop() as server:
            server.communicate()


def _line(server: subprocess.Popen[bytes]) -> bytes:
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line, "the server of commands has ended"
    return line


# --- the other side -----------------------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Carry out orders until there are none."""
    import backup_tool

    ours = [module.name for module in pkgutil.walk_packages(backup_tool.__path__, "backup_tool.")]
    for name in (*ours, *_LOADED):
        if not name.startswith(_NOT_LOADED):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is loaded is shared with every child: none of them goes over it
    if sys.platform == "linux":  # what a killed command leaves running becomes ours, so that we can wait for its end
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    for line in sys.stdin.buffer:
        child = os.fork()
        if not child:
            _be(json.loads(line))
        with suppress(ProcessLookupError):
            os.setpgid(child, child)
        os.write(1, b"%d\n" % child)
        while True:
            try:
                pid, status, usage = os.wait4(-1, 0)
            except ChildProcessError:
                break
            if pid == child:
                told = b"%d %d\n" % (status, usage.ru_maxrss)
        os.write(1, told)


def _be(order: dict[str, Any]) -> NoReturn:
    """In the child: become the command."""
    code = 1
    try:
        os.setpgid(0, 0)
        for number, name, flags in ((0, order["in"], os.O_RDONLY), (1, order["out"], os.O_WRONLY), (2, order["err"], os.O_WRONLY)):
            file = os.open(name, flags)
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(order["env"])
        time.tzset()
        os.chdir(order["cwd"])
        sys.argv = ["backup", *order["words"]]
        from backup_tool.cli.app import main

        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
