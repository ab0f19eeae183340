"""Mails that could not be sent: kept as drafts, readable by their owner alone, until the same notes reach the same people."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from email.headerregistry import Address
from pathlib import Path
from types import TracebackType

import msgspec

from backup_tool.actions.converting import Scratch
from backup_tool.actions.state import State
from backup_tool.exporters.email import Batch, attachment_name, draft
from backup_tool.exporters.folder import TargetFolder
from backup_tool.names import folded


class _Draft(msgspec.Struct):
    """The bytes that were written, and who still lacks which note: (id, address)."""

    size: int
    sha256: str
    left: list[tuple[str, str]]


class Unsent:
    """The folder of drafts. Use it in a `with` block to keep one; `waiting` needs none."""

    def __init__(self, state: State) -> None:
        self.path = state.unsent
        self._state = state
        self._folder: TargetFolder | None = None

    def __enter__(self) -> Unsent:
        self._folder = TargetFolder(self.path).__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        folder, self._folder = self._folder, None
        assert folder is not None
        folder.__exit__(kind, error, trace)

    @property
    def scratch(self) -> Scratch:
        """Makes files to work on in the same folder."""
        assert self._folder is not None
        return self._folder.scratch

    def keep(self, batch: Batch, to: Sequence[Address]) -> str:
        """The path of the draft that was written: the same for the same mail."""
        assert self._folder is not None
        data = draft(batch.attachments, to=to, part=batch.part)
        digest = hashlib.sha256(data).hexdigest()
        name = attachment_name(batch.attachments[0].note, None, f"_part{batch.part}.eml" if batch.part else ".eml")
        path = self._folder.write((name,), (data,), size=len(data), sha256=digest, mtime_ns=None).path
        self._folder.finish()
        left = [(one.note.id or "", folded(to_whom.addr_spec)) for one in batch.attachments for to_whom in to]
        self._remember(self._known() | {os.path.basename(path): _Draft(len(data), digest, left)})
        return path

    def delivered(self, notes: Iterable[str], to: Iterable[str]) -> None:
        """These people have these notes now: drafts that nobody needs any more go, but for those that a person has worked on."""
        ids, people = set(notes), set(map(folded, to))
        known = self._known()
        for name, one in list(known.items()):
            one.left = [pair for pair in one.left if pair[0] not in ids or pair[1] not in people]
            if not one.left:
                del known[name]
                _remove(self.path / name, one)
        self._remember(known)

    def waiting(self) -> int:
        """How many drafts there are."""
        with suppress(OSError):
            return sum(entry.name.endswith(".eml") and entry.is_file(follow_symlinks=False) for entry in os.scandir(self.path))
        return 0

    def _known(self) -> dict[str, _Draft]:
        with suppress(msgspec.ValidationError):
            return msgspec.convert(self._state.drafts(), dict[str, _Draft])
        return {}

    def _remember(self, known: dict[str, _Draft]) -> None:
        before, now = self._state.drafts(), msgspec.to_builtins(known)
        if now != before:
            self._state.remember_drafts({name: one for name, one in now.items() if os.path.lexists(self.path / name)})


def _remove(path: Path, known: _Draft) -> None:
    """Remove a file that is just as it was written."""
    with suppress(OSError):
        there = path.lstat()
        if stat.S_ISREG(there.st_mode) and there.st_size == known.size and hashlib.sha256(path.read_bytes()).hexdigest() == known.sha256:
            path.unlink()
