"""Which databases of a phone are read, and what is said of those that are not."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from backup_tool.models import Problem
from backup_tool.names import path_text
from backup_tool.sources.base import FileUnreadable, Summary
from backup_tool.sources.filenames import time_text
from backup_tool.sources.sqlite import Opener, copied, is_cut, opened
from backup_tool.sources.tree import Tree, text_of, why
from backup_tool.sources.whatsapp_android.rows import Row, read_rows
from backup_tool.sources.whatsapp_android.schema import LEGACY, Schema
from backup_tool.sources.whatsapp_android.stores import Found

_DAY_NS = 86400 * 10**9


class _Read(NamedTuple):
    """A database that was read: its path as text, the moment of its newest message (ms; 0 where it has none), and its rows."""

    path: str
    newest: int
    rows: list[Row]


class Databases:
    """Reads the newest plain database of every store (and account) of one scan."""

    def __init__(self, tree: Tree, workdir: Path, summary: Summary) -> None:
        self._tree = tree
        self._workdir = workdir
        self._summary = summary

    def read(self, found: Found, named: Path | None) -> list[Row]:
        """The messages with notes, each once, newest database first. `summary.database` stays None where none could be read."""
        if named is not None:
            done = self._read_one(path_text(os.fsencode(named)), partial(_open_named, named), self._root_of_named(found, named))
            read = [done] if done else []
        else:
            groups = defaultdict[str | None, list[str]](list)
            for file in found.plain:
                groups[found.only_root if len(found.roots) == 1 else found.root_of(file.path)].append(file.path)
            read = [done for root, paths in groups.items() if (done := self._read_newest(root, paths))]
        read.sort(key=lambda done: -done.newest)
        if read:
            self._summary.database = read[0].path
        self._tell_of_encrypted(found, read)
        return _each_once(read)

    def _root_of_named(self, found: Found, named: Path) -> str | None:
        if len(found.roots) == 1:
            return found.only_root
        inside = os.path.relpath(os.path.realpath(named), os.fsdecode(self._tree.root))
        return None if inside.startswith("../") else found.root_of(inside)

    def _read_newest(self, root: str | None, paths: list[str]) -> _Read | None:
        """Of several databases of one store the one with the newest message: names and file times survive no copy."""
        read: _Read | None = None
        for path in paths:
            one = self._read_one(text_of(path), partial(self._open_found, path), root)
            if one and read:
                older, newer = sorted((one, read), key=lambda done: done.newest)
                self._summary.warnings.append(f"{older.path} is older than {newer.path}: it was not used")
                read = newer
            read = read or one
        return read

    def _open_found(self, path: str, beside: str) -> int | None:
        location = self._tree.location(path + beside)
        return None if beside and not os.path.lexists(location) else self._tree.open_file(location)

    def _read_one(self, path: str, opener: Opener, root: str | None) -> _Read | None:
        """One database, as far as it can be read: what is wrong with it is named in the summary."""
        rows: list[Row] = []
        newest, whole = 0, False
        try:
            with copied(opener, self._workdir) as copy:
                if is_cut(copy):
                    self._damaged(path, "cut short: it is smaller than it says itself")
                with opened(copy) as connection:
                    schema = Schema(connection)
                    if schema.legacy_rows or not schema.modern:
                        layout = "is laid out as before 2022" if schema.has(LEGACY) else "is not laid out as WhatsApp does"
                        self._summary.warnings.append(f"{path} {layout}: its names and times are not read yet")
                        return None
                    for row in read_rows(schema, root):
                        rows.append(row)  # what was read before damage shows is kept
                    newest = _newest(schema)
                    whole = True
        except FileUnreadable as error:
            self._summary.problems.append(Problem(path, str(error)))
        except sqlite3.Error as error:
            self._damaged(path, _in_words(error))
        newest = max([newest, *(row.sent or 0 for row in rows)])
        return _Read(path, newest, rows) if whole or rows else None

    def _damaged(self, path: str, reason: str) -> None:
        problem = Problem(path, reason)
        if not any(told.path == path for told in self._summary.problems):
            self._summary.problems.append(problem)
            self._summary.warnings.append(f"{path} is damaged ({reason}): what could be read of it was used; copy it from the phone again")

    def _tell_of_encrypted(self, found: Found, read: list[_Read]) -> None:
        """An encrypted database is worth a word where no plain one was read, or where it is newer."""
        if not found.encrypted:
            return
        latest = max(found.encrypted, key=lambda file: (file.mtime_ns, -len(file.path)))
        if read and latest.mtime_ns < read[0].newest * 10**6 + _DAY_NS:
            return
        more = f", {len(found.encrypted) - 1} more are too" if len(found.encrypted) > 1 else ""
        self._summary.warnings.append(f"{text_of(latest.path)} is encrypted{more}: its names and times are not read yet")


def _open_named(named: Path, beside: str) -> int | None:
    path = Path(f"{named}{beside}")
    if beside and not path.exists():
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileUnreadable("the database that was named is not there" if isinstance(error, FileNotFoundError) else why(error)) from None


def _newest(schema: Schema) -> int:
    """The moment of the newest message in milliseconds; times that cannot be are passed over. 0 where there is none."""
    return next((moment for moment in schema.newest_moments() if time_text(moment)), 0)


def _in_words(error: sqlite3.Error) -> str:
    text = str(error)
    if "malformed database schema" in text:
        return f"SQLite {sqlite3.sqlite_version} of this machine does not understand it: {text}"
    if "interrupted" in text:
        return "made so that reading it never ends"
    return text


def _each_once(read: list[_Read]) -> list[Row]:
    """The rows of all databases; of a message that several have, the one of the newest."""
    rows: list[Row] = []
    seen: set[object] = set()
    for done in read:
        for row in done.rows:
            if row.message is None or row.message not in seen:
                seen.add(row.message)
                rows.append(row)
    return rows
