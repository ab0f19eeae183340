"""A readable copy of notes: their files, a table, the records, and a playlist for each chat, in one folder that can be exported to again.

    DIR/Family/2026-03-03 15-05-00 Anna.opus
    DIR/Family.m3u8, DIR/notes.csv, DIR/notes.json

The lists are written anew each time, in place of those of the last export, and of nothing else: `.backup-export.json` says which bytes
those had. One that a person has changed since stays, and the new one stands beside it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from pathlib import Path

import msgspec

from backup_tool.actions.archive import Archive
from backup_tool.actions.find import Wanted
from backup_tool.actions.restore import restore
from backup_tool.actions.restored import Restored
from backup_tool.catalog import Entry, by_time
from backup_tool.exporters.folder import Refused, TargetFolder
from backup_tool.exporters.lists import Listed, playlist, table
from backup_tool.models import Problem, Progress

OWN = ".backup-export.json"
_LARGEST = 64 * 2**20


class OwnList(msgspec.Struct):
    """A list that an export wrote: its name, and what was in it."""

    name: str
    size: int
    sha256: str


class ExportedNote(Entry, kw_only=True):
    """A record as `notes.json` has it: with the path of its file below the folder."""

    file: str


class Exported(msgspec.Struct):
    """What was exported: `restored` are the files of notes, `lists` the paths of table, records and playlists."""

    restored: Restored
    lists: list[str]

    @property
    def document(self) -> dict[str, object]:
        """For `--json`."""
        return {**self.restored.document, "lists": self.lists}


def export(archive: Archive, wanted: Wanted, to: Path, progress: Progress, *, format: str, overwrite: bool, dry_run: bool) -> Exported:
    """Write the notes that were asked for below `to`, and lists of them. Raises as `restore` does."""
    done = restore(archive, wanted, to, progress, layout="chat", format=format, overwrite=overwrite, dry_run=dry_run)
    rows = [
        Listed(item, os.path.relpath(path, to).replace(os.sep, "/"), item.source, item.saved)
        for item, path in sorted(done.written, key=lambda pair: (by_time(pair[0]), pair[1]))
    ]
    lists = {"notes.csv": table(rows), "notes.json": _records(rows), **_playlists(rows)}
    if dry_run:
        return Exported(done, [str(to / name) for name in lists])
    with TargetFolder(to) as target:
        written = _Lists(target, to, done).write(lists)
        target.finish()
    return Exported(done, written)


def _records(rows: list[Listed]) -> bytes:
    """The records, one a line: an array as `list --json` prints it."""
    lines = []
    for row in rows:
        fields = {name: getattr(row.note, name) for name in Entry.__struct_fields__}
        lines.append(msgspec.json.encode(ExportedNote(**fields, file=row.file)))
    return b"[" + b",\n".join(lines) + b"]\n"


def _playlists(rows: list[Listed]) -> dict[str, bytes]:
    """One for each folder of a chat, in the order of time."""
    folders: dict[str, list[Listed]] = defaultdict(list)
    for row in rows:
        folders[row.file.partition("/")[0]].append(row)
    return {f"{folder}.m3u8": playlist(inside[-1].note.chat or folder, inside) for folder, inside in sorted(folders.items())}


class _Lists:
    """The lists of one folder."""

    def __init__(self, target: TargetFolder, to: Path, done: Restored) -> None:
        self._target = target
        self._to = to
        self._done = done
        self._own = {one.name: one for one in _own_lists(to)}

    def write(self, lists: dict[str, bytes]) -> list[str]:
        """Write them, and which they are; the paths of those that are there now."""
        paths = []
        for name, data in lists.items():
            try:
                paths.append(self._write(name, data))
            except Refused as refused:
                self._done.left_out(refused.problem, refused.exit_code)
        own = msgspec.json.encode(sorted(self._own.values(), key=lambda one: one.name))
        self._target.write((OWN,), (own,), size=len(own), sha256=None, mtime_ns=None, overwrite=True)
        return paths

    def _is_ours(self, name: str) -> bool:
        """Whether the file of that name is one that an export wrote, and nobody has changed since."""
        own = self._own.get(name)
        there = self._target.holds((name,), own.size, own.sha256) if own else None
        return there is not None and os.path.basename(there.path) == name

    def _write(self, name: str, data: bytes) -> str:
        stem, suffix = os.path.splitext(name)
        beside = re.compile(rf"{re.escape(stem)} \([0-9]+\){re.escape(suffix)}")
        # Where a list that a person changed stays, the one beside it is ours from then on.
        own = next((one for one in (name, *sorted(filter(beside.fullmatch, self._own))) if self._is_ours(one)), None)
        digest = hashlib.sha256(data).hexdigest()
        written = self._target.write((own or name,), (data,), size=len(data), sha256=digest, mtime_ns=None, overwrite=own is not None)
        called = os.path.basename(written.path)
        if called != name:
            reason = "is not as the last export left it" if name in self._own else "something else has this name"
            self._done.left_out(Problem(name, f"{reason}: written as {called}"), 3)
        self._own[called] = OwnList(called, len(data), digest)
        return str(self._to / called)


def _own_lists(to: Path) -> list[OwnList]:
    """What the last export to this folder wrote; nothing where that cannot be told: then nothing is replaced."""
    try:
        with os.fdopen(os.open(to / OWN, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            return msgspec.json.decode(file.read(_LARGEST), type=list[OwnList])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
