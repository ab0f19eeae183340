"""Where the keys and passwords of locked stores come from: files that were typed, the settings, then a person.

Nothing is read before a store turns out to be locked, and each only once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from backup_tool.actions.password import read_keyring, run_secret_command
from backup_tool.config import SourceSpec
from backup_tool.errors import UsageError
from backup_tool.models import Secret
from backup_tool.names import shown
from backup_tool.sources.base import Unlock

_LONGEST = 2**16
"""A key is 32 to 158 bytes, or a password; a longer file was named by mistake."""


def keys_of(spec: SourceSpec, typed: Sequence[Path], env: Mapping[str, str], ask: Callable[[str], Secret] | None) -> Unlock:
    """The keys of a source, when they are asked for. `ask` takes the source's name; None where there is no terminal."""

    @cache
    def find() -> tuple[Secret, ...]:
        found = [_read_key_file(path) for path in (*typed, *spec.key_files)]
        if spec.key_command is not None:
            found.append(run_secret_command(spec.key_command, env))
        if spec.keyring is not None:
            found.append(read_keyring(spec.keyring))
        if not found and ask is not None:
            found.append(ask(spec.name))
        return tuple(found)

    return find


def _read_key_file(path: Path) -> Secret:
    """A key just as it is in its file, binary or text. Raises UsageError where it is not there, or others may read it."""
    name = shown(str(path), 1000)
    try:
        with path.expanduser().open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o066 and os.name != "nt":
                raise UsageError(f"others may read the key file {name}", f"make it yours alone: chmod 600 {name}")
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise UsageError(f"the key file {name} cannot be read: {(error.strerror or str(error)).lower()}", "look at its path") from None
    if not data or len(data) > _LONGEST:
        raise UsageError(f"the key file {name} is {'longer than any key' if data else 'empty'}", "name the file that holds the key")
    return Secret.of_bytes(data)
