"""Secrets from where settings say they are: a file, a program, the keyring. Never asks, never shows what it found."""

from __future__ import annotations

import codecs
import os
import shlex
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from backup_tool.config import APP
from backup_tool.errors import BackupError, ConfigError, UsageError
from backup_tool.models import Secret
from backup_tool.names import shown

TIME_LIMIT = 60.0
"""Seconds that a password command may take."""
Noun = Literal["password", "key"]
"""Of a repository a password, of a source a key: settings are called after it."""
_LONGEST = 2**16
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def configured_password(options: Mapping[str, Any], env: Mapping[str, str]) -> Secret | None:
    """What `password_file`, `password_command` or `password_keyring` of a table of the settings lead to; None where it has none of them.

    Raises as the reading functions below do.
    """
    if (file := options.get("password_file")) is not None:
        return read_secret_file(file, env)
    if (command := options.get("password_command")) is not None:
        return run_secret_command(command, env)
    name = options.get("password_keyring")
    return None if name is None else read_keyring(name)


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for programs that this one starts: without any password."""
    return {name: value for name, value in env.items() if not name.startswith(("BACKUP_PASSWORD", "BACKUP_REST_PASSWORD"))}


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

    Raises UsageError where there is no keyring, one that encrypts nothing, or no such entry.
    """
    import keyring
    import keyring.errors

    instead = f"use {noun}_command or {noun}_file instead"
    refuse_plain_text(instead)
    try:
        found = keyring.get_password(APP, name)
    except keyring.errors.NoKeyringError:
        raise UsageError("this machine has no keyring that can be used here", instead) from None
    except keyring.errors.KeyringError as error:
        raise BackupError(f"the keyring cannot be read: {type(error).__name__}", f"unlock it, or {instead}") from None
    if found is None:
        raise ConfigError(f'the keyring has no entry "{shown(name)}"', f"make it: keyring set {APP} {shlex.quote(shown(name))}")
    return not_empty(Secret(found), "the keyring's entry", noun)


def refuse_plain_text(instead: str) -> None:
    """Raise UsageError where the keyring in use would keep secrets unencrypted; `instead` is what to do, for the hint.

    pyicloud brings keyrings.alt, whose PlaintextKeyring is taken by itself on a machine without a keyring of its own.
    """
    import keyring

    backend: Any = keyring.get_keyring()
    first = next(iter(getattr(backend, "backends", None) or [backend]))  # a chain of several uses the first for what is new
    if type(first).__module__.startswith("keyrings.alt") and type(first).__name__ != "EncryptedKeyring":
        raise UsageError("this machine's keyring would keep secrets unencrypted", instead)


def _secret(data: bytes, what: str, noun: Noun = "password") -> Secret:
    """Text from bytes, as restic reads a password file: a byte order mark is obeyed, and bytes that are no UTF-8 are kept."""
    if len(data) > _LONGEST:
        raise UsageError(f"{what} is longer than {_LONGEST} bytes: that is no {noun}")
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    text = data[len(mark) :].decode(_MARKS.get(mark, "utf-8"), "surrogateescape" if not mark else "replace")
    return not_empty(Secret(text.removesuffix("\n").removesuffix("\r")), what, noun)


def not_empty(secret: Secret, what: str, noun: Noun = "password") -> Secret:
    """The secret itself. Raises UsageError where it is nothing but white space; `what` says where it was found."""
    if not secret.reveal().strip():
        raise UsageError(f"{what} is empty", f"a {noun} has at least one character")
    return secret


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or "its words cannot be passed on").lower()
