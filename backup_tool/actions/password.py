"""Where the password of a repository comes from. Never asks by itself, never shows what it found.

Order: option, environment (BACKUP_PASSWORD, BACKUP_PASSWORD_FILE, BACKUP_PASSWORD_COMMAND), settings (file, command, keyring), then `ask`.
"""

from __future__ import annotations

import codecs
import os
import shlex
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from backup_tool.config import APP, Settings
from backup_tool.errors import BackupError, ConfigError, NoPassword, UsageError
from backup_tool.models import Secret
from backup_tool.names import shown

VARIABLES = ("BACKUP_PASSWORD", "BACKUP_PASSWORD_FILE", "BACKUP_PASSWORD_COMMAND")
TIME_LIMIT = 60.0
"""Seconds that a password command may take."""
Noun = Literal["password", "key"]
"""Of a repository a password, of a source a key: settings are called after it."""
_LONGEST = 2**16
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


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
    return _not_empty(ask(), "the password")


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
        return lambda env: _not_empty(Secret(value), "BACKUP_PASSWORD")
    return _typed(value, None) if given[0] == "BACKUP_PASSWORD_FILE" else _typed(None, value)


def _configured(settings: Settings) -> _Finder | None:
    repository = settings.repository
    if (name := repository.password_keyring) is not None:
        return lambda env: read_keyring(name)
    return _typed(repository.password_file, repository.password_command)


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for programs that this one starts: without any password."""
    return {name: value for name, value in env.items() if not name.startswith("BACKUP_PASSWORD")}


def read_secret_file(path: Path, env: Mapping[str, str]) -> Secret:
    """A secret from a file or pipe, without one line end at its end.

    Raises UsageError where it is not there, empty, or a file that group or others may read. Credentials that systemd put below
    CREDENTIALS_DIRECTORY (systemd.exec(5)) are private by their folder.
    """
    path = path.expanduser()
    name = shown(str(path), 1000)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o066 and os.name != "nt" and not _is_credential(path, env):
                raise UsageError(f"others may read the password file {name}", f"make it yours alone: chmod 600 {shlex.quote(name)}")
            data = file.read(_LONGEST + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "is the name right?" if isinstance(error, FileNotFoundError) else f"see who may: ls -l {shlex.quote(name)}"
        raise UsageError(f"the password file {name} cannot be read: {reason}", hint) from error
    return _secret(data, f"the password file {name}")


def _is_credential(path: Path, env: Mapping[str, str]) -> bool:
    folder = env.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.absolute().is_relative_to(str(folder))


def run_secret_command(command: str | Sequence[str], env: Mapping[str, str], noun: Noun = "password") -> Secret:
    """A secret from what a program prints, without one line end at its end. No shell, no input, a minute at most.

    `noun` says what it is for, in words and in names of settings. Raises UsageError where it cannot be started, fails or prints nothing.
    What it says is never shown, only its exit code.
    """
    words = _words(command, noun)
    name = shown(words[0])
    what = f"the {noun} command {name}"
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=child_environment(env)
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"{what} cannot be started: {_reason(error)}", f"see that it is there: command -v {name}") from None
    try:
        data, _ = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise UsageError(f"{what} took longer than {TIME_LIMIT:.0f} seconds", "see what it waits for: type it") from None
    finally:
        _end(process)
    if process.returncode:
        raise UsageError(f"{what} failed with exit code {process.returncode}", "see what it says: type it")
    return _secret(data, f"what {what} printed", noun)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever happened, the program does not outlive its use; a child of its own that still holds the pipe is not waited for."""
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _words(command: str | Sequence[str], noun: Noun) -> list[str]:
    hint = "write it as in a shell: 'pass show voice-notes'"
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError:
        raise UsageError(f"the {noun} command has a quote that does not close", hint) from None
    if not words or not words[0]:
        raise UsageError(f"the {noun} command is empty", hint)
    return words


def read_keyring(name: str, noun: Noun = "password") -> Secret:
    """A secret from this machine's keyring (service ``backup-tool``); `noun` as in `run_secret_command`.

    Raises UsageError where there is no keyring or no such entry.
    """
    import keyring
    import keyring.errors

    instead = f"use {noun}_command or {noun}_file instead"
    try:
        found = keyring.get_password(APP, name)
    except keyring.errors.NoKeyringError:
        raise UsageError("this machine has no keyring that can be used here", instead) from None
    except keyring.errors.KeyringError as error:
        raise BackupError(f"the keyring cannot be read: {type(error).__name__}", f"unlock it, or {instead}") from None
    if found is None:
        raise ConfigError(f'the keyring has no entry "{shown(name)}"', f"make it: keyring set {APP} {shlex.quote(shown(name))}")
    return _not_empty(Secret(found), "the keyring's entry", noun)


def _secret(data: bytes, what: str, noun: Noun = "password") -> Secret:
    """Text from bytes, as restic reads a password file: a byte order mark is obeyed, and bytes that are no UTF-8 are kept."""
    if len(data) > _LONGEST:
        raise UsageError(f"{what} is longer than {_LONGEST} bytes: that is no {noun}")
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    text = data[len(mark) :].decode(_MARKS.get(mark, "utf-8"), "surrogateescape" if not mark else "replace")
    return _not_empty(Secret(text.removesuffix("\n").removesuffix("\r")), what, noun)


def _not_empty(secret: Secret, what: str, noun: Noun = "password") -> Secret:
    if not secret.reveal().strip():
        raise UsageError(f"{what} is empty", f"a {noun} has at least one character")
    return secret


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or "its words cannot be passed on").lower()
