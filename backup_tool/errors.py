"""Every error a person can meet: what happened, what to do, and the exit code that scripts rely on.

BackupError                     1   failed
├── UsageError                  2   what was typed cannot be done
│   ├── ConfigError             2   the settings file is wrong
│   └── NoPassword              2   no password source
├── Incomplete                  3   done, but something was left out
├── SignInNeeded                4   a destination, or a mail server, wants a person
├── IntegrityError              5   stored bytes are not what they should be
│   └── DamagedObject           5   … of one named object
├── NoRepository               10   nothing there
├── Locked                     11   another run holds the repository
├── WrongPassword              12   no key file opens
├── Unreachable                13   network or service; worth a retry
├── NoSpace                    14   disk full or quota used up
├── Interrupted               130   Ctrl-C
└── Terminated                143   SIGTERM

Destinations further raise `ObjectMissing` and `BadRange`: never seen by a person as they are, callers turn them into one of the above.
A message says what happened, in lower case, without a full stop; the hint says what to do, with the command to type.
Neither ever holds a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class BackupError(Exception):
    """Something failed. `message` is one line; `hint` is what the person can do, or an empty string."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BackupError):
    """What was typed cannot be done as typed."""

    exit_code = 2


class ConfigError(UsageError):
    """The settings file is missing, unreadable or wrong."""


class NoPassword(UsageError):
    """No password source, and no terminal to ask on."""


class Incomplete(BackupError):
    """The job was done, but something was left out and has been named."""

    exit_code = 3


class SignInNeeded(BackupError):
    """A destination or a mail server wants a person to sign in, or to sign in again."""

    exit_code = 4


class IntegrityError(BackupError):
    """Stored bytes are not what they should be."""

    exit_code = 5


_MEND = "see all damage: backup check --read-data; mend it: backup repair"


class DamagedObject(IntegrityError):
    """One stored object is damaged. `kind` is config, key, lock, snapshot, index, pack, tree or blob; `name` its name."""

    def __init__(self, kind: str, name: str, reason: str, hint: str = "") -> None:
        super().__init__(f"{kind} {name[:16]} is damaged: {reason}", hint or _MEND)
        self.kind = kind
        self.name = name
        self.reason = reason


class NoRepository(BackupError):
    """There is no repository at that place."""

    exit_code = 10


class Locked(BackupError):
    """Another run holds the repository."""

    exit_code = 11


class WrongPassword(BackupError):
    """No key file opens with this password."""

    exit_code = 12


class Unreachable(BackupError):
    """The network or a service failed; trying again may help. `retry_after` is how many seconds the service asked to wait, where it did."""

    exit_code = 13
    retry_after: float | None = None


class NoSpace(BackupError):
    """The disk is full or the quota is used up."""

    exit_code = 14


class Interrupted(BackupError):
    """Ctrl-C."""

    exit_code = 130


class Terminated(BackupError):
    """SIGTERM."""

    exit_code = 143


class SignalledToEnd(KeyboardInterrupt):
    """SIGTERM has come. Raised wherever the program is then, and like Ctrl-C no failure of what was going on: whoever takes a failing
    place for one that is away must not take this for it. It is told as `Terminated`."""


class ObjectMissing(BackupError):
    """A destination has no object of that name."""


class BadRange(BackupError):
    """A byte range lies outside an object."""


# Gravest first: what a command that failed in several ways exits with.
SEVERITY = (130, 143, 2, 5, 12, 11, 10, 4, 14, 13, 1, 3)


def gravest(codes: Iterable[int]) -> int:
    """The one exit code for several causes; 0 for none."""
    present = {code for code in codes if code}
    return next((code for code in SEVERITY if code in present), 1 if present else 0)
