"""Where the keys and passwords of locked stores come from: files that were typed, the settings, then a person.

Nothing is read before a store turns out to be locked, and each only once.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from backup_tool.config import SourceSpec
from backup_tool.credentials import read_keyring, run_secret_command
from backup_tool.errors import BackupError, Interrupted, Terminated, UsageError
from backup_tool.models import Secret
from backup_tool.names import shown
from backup_tool.sources.base import KeyKind, Keyring

_LONGEST = 2**16
"""A key is 32 to 158 bytes, or a password; a longer file was named by mistake."""


Ask = Callable[[str, KeyKind], Secret]
"""Asks a person for a source's key or password, by the source's name."""


def keys_of(
    spec: SourceSpec, typed: Sequence[Path], env: Mapping[str, str], ask: Ask | None, warn: Callable[[str], None] = lambda text: None
) -> Keyring:
    """The keys of a source, when they are asked for. `ask` is None where there is no terminal.

    One that cannot be had does not cost the others: `warn` is told of it. Where none can be had, UsageError says why of each.
    """
    finders: list[Callable[[], Secret]] = [partial(_read_key_file, path) for path in (*typed, *spec.key_files)]
    if spec.key_command is not None:
        finders.append(partial(run_secret_command, spec.key_command, env, "key"))
    if spec.keyring is not None:
        finders.append(partial(read_keyring, spec.keyring, "key"))
    return _Keyring(finders, None if ask is None else partial(ask, spec.name), warn)


class _Keyring:
    def __init__(
        self, finders: Sequence[Callable[[], Secret]], ask: Callable[[KeyKind], Secret] | None, warn: Callable[[str], None]
    ) -> None:
        self._finders = finders
        self._ask = ask
        self._warn = warn
        self._found: list[Secret] | None = None
        self._faults: list[BackupError] = []
        self._typed: dict[KeyKind, Secret] = {}

    def __call__(self, kind: KeyKind = "password") -> Sequence[Secret]:
        found = self.at_hand()
        if found or self._ask is None:
            return found
        if kind not in self._typed:
            self._typed[kind] = self._ask(kind)
        return [self._typed[kind]]

    def at_hand(self) -> Sequence[Secret]:
        if self._found is None:
            self._found = list(self._read())
            if self._found:
                for fault in self._faults:
                    self._warn(_sentence(fault))
        if self._faults and not self._found:
            *others, last = self._faults
            raise UsageError("; ".join([*map(_sentence, others), last.message]), last.hint)
        return self._found

    def _read(self) -> Iterator[Secret]:
        for find in self._finders:
            try:
                yield find()
            except (Interrupted, Terminated):
                raise
            except BackupError as fault:
                self._faults.append(fault)


def _sentence(fault: BackupError) -> str:
    return fault.message + (f"; {fault.hint}" if fault.hint else "")


def _read_key_file(path: Path) -> Secret:
    """A key just as it is in its file, binary or text. Raises UsageError where it is not there, or others may read it."""
    name = shown(str(path), 1000)
    try:
        with path.expanduser().open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o066 and os.name != "nt":
                raise UsageError(f"others may read the key file {name}", f"make it yours alone: chmod 600 {shlex.quote(name)}")
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise UsageError(f"the key file {name} cannot be read: {(error.strerror or str(error)).lower()}", "look at its path") from None
    if not data or len(data) > _LONGEST:
        raise UsageError(f"the key file {name} is {'longer than any key' if data else 'empty'}", "name the file that holds the key")
    return Secret.of_bytes(data)
