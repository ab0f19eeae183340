"""What is kept of a sign-in between runs, in a private folder of this machine.

`session.json` is written whole or not at all, `session.good.json` is the state of the last time that Apple accepted it: no kill and no torn
write costs a person a second factor. Both are as good as the password: 0600, in a folder of 0700, never part of an archive.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from backup_tool.destinations.base import SignInKept
from backup_tool.destinations.files import is_abandoned, make_folder, replace_file, told
from backup_tool.destinations.processes import temporary_name, try_lock
from backup_tool.errors import Unreachable

LIFETIME = 30.0
"""Days that Apple trusts a browser after a second factor, as people report it; Apple promises nothing."""
WARN_DAYS = 7.0
CODE_SECONDS = 900.0
"""A sign-in that waits for its code is forgotten after so long."""
_TRUST = ("X-APPLE-WEBAUTH-HSA-TRUST", "X-APPLE-WEBAUTH-USER")
_LARGEST = 2**20
_PATIENCE = 180.0
_DAY = 86_400.0


class SavedSession(msgspec.Struct, kw_only=True):
    """A signed-in browser: pyicloud's own data (`tokens`) and its cookies (LWP text). Times are seconds since 1970.

    `signed_in` is when a person last gave a second factor, `accepted` when Apple last accepted the session. `challenge` is what a code is
    awaited for, in a sign-in that is under way.
    """

    account: str
    china: bool
    tokens: dict[str, Any]
    cookies: str
    signed_in: float
    accepted: float
    challenge: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return "SavedSession(***)"

    def days_left(self, now: float) -> float:
        """Days until Apple wants a second factor again: the earlier of its cookie's end and 30 days after the last one. An estimate."""
        ends = [self.signed_in + LIFETIME * _DAY]
        for name in _TRUST:
            if (end := _expires(self.cookies, name)) is not None:
                ends.append(end)
                break
        return (min(ends) - now) / _DAY


class SessionStore:
    """The saved session in the folder `home`, which may not be there yet."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def load(self) -> SavedSession | None:
        """The saved session, or the good copy of it where it is unreadable; None where nobody has signed in."""
        return self._read("session.json") or self._read("session.good.json")

    def save(self, session: SavedSession, *, good: bool = False) -> None:
        """Keep this state; with `good` also as the copy aside. One that Apple accepted later (of another process) is not replaced."""
        current = self._read("session.json")
        if current is not None and current.accepted > session.accepted:
            return
        data = msgspec.json.encode(session)
        with self._errors():
            make_folder(self._home)
            replace_file(self._home / "session.json", data)
            if good:
                replace_file(self._home / "session.good.json", data)

    def pending(self) -> SavedSession | None:
        """A sign-in that waits for its code; None where there is none, or it has waited for too long."""
        found = self._read("signing-in.json")
        return found if found is not None and 0 <= time.time() - found.signed_in < CODE_SECONDS else None

    def save_pending(self, session: SavedSession | None) -> None:
        """Keep a sign-in that waits for its code, for another process to finish; None forgets it."""
        path = self._home / "signing-in.json"
        with self._errors():
            if session is None:
                path.unlink(missing_ok=True)
            else:
                make_folder(self._home)
                replace_file(path, msgspec.json.encode(session))

    @contextmanager
    def lock(self, over: threading.Event | None = None) -> Iterator[None]:
        """Only one process at a time signs in. Waits for another one for three minutes, or until `over`; then raises Unreachable."""
        with self._errors():
            make_folder(self._home)
            file = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            over, end = over or threading.Event(), time.monotonic() + _PATIENCE
            while not try_lock(file):
                if over.wait(0.1) or time.monotonic() > end:
                    raise Unreachable("another process is signing in to iCloud", "let it finish, then run this again")
            yield
        finally:
            os.close(file)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private folder for the files that pyicloud rewrites at every request, removed at the end. Those of dead processes go first."""
        with self._errors():
            make_folder(self._home)
            for entry in list(os.scandir(self._home)):
                if entry.is_dir(follow_symlinks=False) and is_abandoned(entry.name, entry.stat().st_mtime, time.time()):
                    shutil.rmtree(entry.path, ignore_errors=True)
            folder = self._home / temporary_name()
            folder.mkdir(0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _read(self, name: str) -> SavedSession | None:
        try:
            with (self._home / name).open("rb") as file:
                return msgspec.json.decode(file.read(_LARGEST), type=SavedSession)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, RecursionError):
            return None
        except OSError as error:
            raise told(error, str(self._home)) from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise told(error, str(self._home)) from error


def days_left(home: Path) -> float | None:
    """Days until a person has to sign in again, below zero where that is overdue by the estimate; None where nobody has signed in."""
    found = SessionStore(home).load()
    return None if found is None else found.days_left(time.time())


def kept(home: Path) -> SignInKept:
    """What is known of the sign-in. Raises BackupError where the folder cannot be read."""
    found = SessionStore(home).load()
    if found is None:
        return SignInKept()
    ends = time.time() + found.days_left(time.time()) * _DAY
    return SignInKept(signed_in=utc(found.signed_in), accepted=utc(found.accepted), sign_in_ends=utc(ends), is_estimate=True)


def utc(seconds: float) -> str:
    """RFC 3339 of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def warning(left: float | None, command: str) -> str:
    """What a person should know before it is too late, `left` days before; empty while there is time."""
    if left is None or left >= WARN_DAYS:
        return ""
    when = f"in about {max(1, round(left))} days" if left > 0 else "any day now"
    return f"the sign-in to iCloud ends {when}; renew it: {command}"


def _expires(cookies: str, name: str) -> float | None:
    """When a cookie of an LWP file ends; None where it is not there or has no end."""
    line = next((line for line in cookies.splitlines() if line.startswith(f"Set-Cookie3: {name}=")), "")
    found = re.search(r'expires="(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)Z"', line)
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp() if found else None
    return None
