"""Where the password of a repository comes from. Never asks by itself, never shows what it found.

Order: option, environment (BACKUP_PASSWORD, BACKUP_PASSWORD_FILE, BACKUP_PASSWORD_COMMAND), settings (file, command, keyring), then `ask`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from backup_tool.config import Settings
from backup_tool.credentials import not_empty, read_keyring, read_secret_file, run_secret_command
from backup_tool.errors import NoPassword, UsageError
from backup_tool.models import Secret

VARIABLES = ("BACKUP_PASSWORD", "BACKUP_PASSWORD_FILE", "BACKUP_PASSWORD_COMMAND")


def find_password(
    *,
    password_file: str | os.PathLike[str] | None,
    password_command: str | Sequence[str] | None,
    env: Mapping[str, str],
    settings: Settings,
    ask: Callable[[], Secret] | None,
) -> Secret:
    """The password, as it was given but for one line end: the repository brings it into NFC and without outer white space.

    Raises UsageError for two sources at once, a file that others may read, a command that fails, an empty password;
    NoPassword at once where there is no source and `ask` is None.
    """
    finders = (_typed(password_file, password_command), _from_environment(env), _configured(settings))
    for find in finders:
        if find is not None:
            return find(env)
    if ask is None:
        hint = "name a source: --password-file FILE, --password-command 'pass show voice-notes', or set BACKUP_PASSWORD_FILE"
        raise NoPassword("no password source, and no terminal to ask on", hint)
    return not_empty(ask(), "the password")


_Finder = Callable[[Mapping[str, str]], Secret]


def _typed(file: str | os.PathLike[str] | None, command: str | Sequence[str] | None) -> _Finder | None:
    if file is not None and command is not None:
        raise UsageError("--password-file and --password-command were both given", "give one of them")
    if file is not None:
        return lambda env: read_secret_file(Path(file), env)
    return (lambda env: run_secret_command(command, env)) if command is not None else None


def _from_environment(env: Mapping[str, str]) -> _Finder | None:
    given = [name for name in VARIABLES if env.get(name)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are both set", f"keep one of them: unset {given[1]}")
    if not given:
        return None
    value = env[given[0]]
    if given[0] == "BACKUP_PASSWORD":
        return lambda env: not_empty(Secret(value), "BACKUP_PASSWORD")
    return _typed(value, None) if given[0] == "BACKUP_PASSWORD_FILE" else _typed(None, value)


def _configured(settings: Settings) -> _Finder | None:
    repository = settings.repository
    if (name := repository.password_keyring) is not None:
        return lambda env: read_keyring(name)
    return _typed(repository.password_file, repository.password_command)
