"""Which databases of a phone are read, and what is said of those that are not.

Of one store's databases, plain and encrypted, the one with the newest message is read: names and file times survive no copy. An encrypted
one beside a plain one is opened if its key is at hand. Where a person would have to be asked, its file's time decides: it stays closed, and
that is said, unless it is more than a day newer than the plain one's newest message. Of encrypted ones, that without a date in its name is
the newest of its series; where it does not open, earlier ones are tried, newest first. While the newest opens, earlier ones are left
closed: each would cost as much again every night, and what they know of messages deleted since was archived on the night that they were the
newest.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from backup_tool.models import Problem
from backup_tool.names import path_text
from backup_tool.sources.base import FileUnreadable, Summary, Unlock
from backup_tool.sources.filenames import time_text
from backup_tool.sources.sqlite import Opener, copied, is_cut, open_named, opened
from backup_tool.sources.tree import Tree, text_of, why
from backup_tool.sources.whatsapp_android.encrypted import (
    HEADER_BYTES,
    SQLITE,
    Header,
    Increment,
    KeyMissing,
    NotOpened,
    PhoneOnly,
    WrongKey,
    decrypt,
    is_encrypted,
    key_missing,
    phone_only,
    read_header,
    wrong_key,
    wrong_kind,
)
from backup_tool.sources.whatsapp_android.keys import KEY_FILE_SIZES, Key, Keys
from backup_tool.sources.whatsapp_android.rows import Row, complete, elsewhere, read_rows
from backup_tool.sources.whatsapp_android.schema import Schema
from backup_tool.sources.whatsapp_android.stores import DatabaseFile, Found

_DAY_MS = 86400 * 1000
_MOST_TRIED = 20
"""Encrypted databases of one store that are tried: a phone keeps eight or so."""


class _Read(NamedTuple):
    """A database that was read: its path as text, the moment of its newest message (ms; 0 where it has none), its rows, and whether that
    was all of it."""

    path: str
    newest: int
    rows: list[Row]
    whole: bool


@dataclass(frozen=True, slots=True)
class _Closed:
    """An encrypted database that did not open, and why."""

    file: DatabaseFile
    why: NotOpened | FileUnreadable


class Databases:
    """Reads the newest database of every store (and account) of one scan. `unlock` is called only for one that would be read."""

    def __init__(self, tree: Tree, workdir: Path, summary: Summary, unlock: Unlock = list) -> None:
        self._tree = tree
        self._workdir = workdir
        self._summary = summary
        self._unlock = unlock
        self._keys = Keys(list, unlock)
        self._increments = 0

    def read(self, found: Found, named: Path | None) -> list[Row]:
        """The messages with notes, each once, newest database first. `summary.database` stays None where none could be read."""
        self._keys = Keys(partial(_key_files, self._tree, self._summary, found.keys), self._unlock)
        if named is not None:
            done = self._read_named(found, named)
            read = [done] if done else []
        else:
            roots = dict.fromkeys(_root_of(found, file) for file in (*found.plain, *found.encrypted))
            read = [done for root in roots if (done := self._read_store(found, root))]
        read.sort(key=lambda done: -done.newest)
        if read:
            self._summary.database = read[0].path
        self._tell_of_keys()
        self._tell_of_increments(found, read)
        return _each_once(read)

    def _read_named(self, found: Found, named: Path) -> _Read | None:
        path, opener = path_text(os.fsencode(named)), partial(open_named, named, "the database that was named is not there")
        root = self._root_of_named(found, named)
        file = DatabaseFile(path, 0)
        try:
            head = _head(opener)
            # What is neither encrypted nor called so is left to SQLite, which says best what is wrong with it.
            if head.startswith(SQLITE) or not (file.version or is_encrypted(head)):
                return self._read_plain(path, opener, root)
            return self._read_encrypted(path, opener, root, read_header(head))
        except FileUnreadable as error:
            self._summary.problems.append(Problem(path, str(error)))
        except NotOpened as reason:
            self._tell_closed([_Closed(file, reason)], None)
        return None

    def _root_of_named(self, found: Found, named: Path) -> str | None:
        if len(found.roots) == 1:
            return found.only_root
        inside = os.path.relpath(os.path.realpath(named), os.fsdecode(self._tree.root))
        return None if inside.startswith("../") else found.root_of(inside)

    def _read_store(self, found: Found, root: str | None) -> _Read | None:
        """The one database of a store that knows the newest message."""
        plain = [file for file in found.plain if _root_of(found, file) == root]
        locked = [file for file in found.encrypted if _root_of(found, file) == root]
        read: _Read | None = None
        for file in plain:
            opener = partial(self._open_found, file.path)
            read = self._newer(read, self._read_plain(text_of(file.path), opener, root, renamed=file.renamed))
        if not locked or read is None or not read.whole:
            return self._newer(read, self._read_newest_encrypted(locked, root, read))
        since = (read.newest + _DAY_MS) * 10**6
        later = [file for file in locked if file.mtime_ns >= since]
        newest = max(locked, key=_age)
        if self._has_key_for(newest):
            return self._newer(read, self._read_newest_encrypted(locked, root, read, ask=bool(later)))
        if later:
            return self._newer(read, self._read_newest_encrypted(later, root, read))
        self._summary.warnings.append(
            f"{text_of(newest.path)} was not opened: {read.path}, which is not encrypted, was read and seems to be as new; to be sure, "
            "give the key of the other"
        )
        return read

    def _has_key_for(self, file: DatabaseFile) -> bool:
        """Whether a key that may be its is there without asking anybody."""
        try:
            header = read_header(_head(partial(self._open_found, file.path)))
        except (NotOpened, FileUnreadable):
            return False
        return next(self._keys_for(header, ask=False), None) is not None

    def _newer(self, one: _Read | None, other: _Read | None) -> _Read | None:
        """The one with the newer message; that the other was not used is said."""
        if one is None or other is None:
            return one or other
        older, newer = sorted((other, one), key=lambda done: (done.newest, done.whole))
        how = "is older than" if older.newest < newer.newest else "has no newer messages than"
        self._summary.warnings.append(f"{older.path} {how} {newer.path}: it was not used")
        return newer

    def _read_newest_encrypted(
        self, files: Sequence[DatabaseFile], root: str | None, plain: _Read | None, *, ask: bool = True
    ) -> _Read | None:
        """Of the encrypted databases of one store the newest that opens. `plain` was read already. With `ask` a person may be asked."""
        read: _Read | None = None
        used: DatabaseFile | None = None
        closed: list[_Closed] = []
        for file in sorted(files, key=_age, reverse=True)[:_MOST_TRIED]:
            if read and used and not _may_be_newer(file, read, used):
                continue
            opener = partial(self._open_found, file.path)
            try:
                one = self._read_encrypted(text_of(file.path), opener, root, read_header(_head(opener)), ask=ask)
            except Increment:
                self._increments += 1
                continue
            except (NotOpened, FileUnreadable) as reason:
                closed.append(_Closed(file, reason))
                continue
            before, read = read, self._newer(read, one)
            used = used if read is before else file
        self._tell_closed(closed, read or plain, used)
        if not read and len(files) > _MOST_TRIED:
            self._summary.warnings.append(f"{len(files) - _MOST_TRIED} more encrypted databases were not tried: the newest do not open")
        return read

    def _open_found(self, path: str, beside: str) -> int | None:
        location = self._tree.location(path + beside)
        return None if beside and not os.path.lexists(location) else self._tree.open_file(location)

    def _read_plain(self, path: str, opener: Opener, root: str | None, *, renamed: bool = False) -> _Read | None:
        """One plain database, as far as it can be read: what is wrong with it is named in the summary."""
        try:
            with copied(opener, self._workdir) as copy:
                return self._read_copy(path, copy, root, renamed=renamed)
        except FileUnreadable as error:
            self._summary.problems.append(Problem(path, str(error)))
            return None

    def _read_encrypted(self, path: str, opener: Opener, root: str | None, header: Header, *, ask: bool = True) -> _Read | None:
        """One encrypted database. Raises NotOpened, and FileUnreadable."""
        ask = ask and not header.locked_by  # what a person could type opens no such one
        keys = self._keys_for(header, ask=ask)
        key = next(keys, None)
        if key is None:
            raise self._no_key(header, ask=ask)
        with copied(lambda beside: None if beside else opener(""), self._workdir) as copy:
            target = copy.with_name("opened.db")
            try:
                spoilt = decrypt(copy, header, chain((key,), keys), target)
            except WrongKey as wrong:
                raise wrong if self._keys.given(ask=ask) and not header.locked_by else self._no_key(header, ask=ask) from None
            except OSError as error:
                raise FileUnreadable(f"cannot be opened in {self._workdir}: {why(error)}") from None
            copy.unlink()
            if spoilt:
                self._summary.warnings.append(f"{path} opens, but its last bytes are damaged: copy it from the phone again")
            return self._read_copy(path, target, root)

    def _keys_for(self, header: Header, *, ask: bool) -> Iterator[Key]:
        """The keys that may be this file's: the store's own first, so that nobody is asked for what lies there."""
        yield from filter(header.fits, self._keys.of_store())
        yield from filter(header.fits, self._keys.given(ask=ask))

    def _no_key(self, header: Header, *, ask: bool) -> NotOpened:
        """Why there is no key to open it with. What lies in a store by chance is not held against anybody: only what was given is wrong."""
        if header.locked_by:
            return phone_only(header.locked_by)
        given = self._keys.given(ask=ask)
        if self._keys.faults:
            return WrongKey(f"cannot be opened: {'; '.join(self._keys.faults)}")
        if not given:
            return key_missing(header)
        return wrong_key(header) if any(key.end_to_end == header.end_to_end for key in given) else wrong_kind(header)

    def _read_copy(self, path: str, copy: Path, root: str | None, *, renamed: bool = False) -> _Read | None:
        """A database that is private now, as far as it can be read: what is wrong with it is named in the summary."""
        rows: list[Row] = []
        newest, whole = 0, False
        try:
            if is_cut(copy):
                self._damaged(path, "cut short: it is smaller than it says itself")
            with opened(copy) as connection:
                schema = Schema(connection)
                if not schema.readable and renamed:
                    return None  # something else's, of which nothing was expected
                if not schema.readable:
                    self._summary.warnings.append(f"{path} is not laid out as WhatsApp does: its names and times cannot be read")
                    return None
                for row in read_rows(schema, root):
                    rows.append(row)  # what was read before damage shows is kept
                newest = _newest(schema)
                whole = True
        except sqlite3.Error as error:
            self._damaged(path, _in_words(error))
        newest = max([newest, *(row.sent or 0 for row in rows)])
        return _Read(path, newest, rows, whole) if whole or rows else None

    def _damaged(self, path: str, reason: str) -> None:
        problem = Problem(path, reason)
        if not any(told.path == path for told in self._summary.problems):
            self._summary.problems.append(problem)
            self._summary.warnings.append(f"{path} is damaged ({reason}): what could be read of it was used; copy it from the phone again")

    def _tell_closed(self, closed: Sequence[_Closed], read: _Read | None, used: DatabaseFile | None = None) -> None:
        """Say of what did not open why, once for each reason. It is a problem unless nobody gave a key or could.

        `read` is what was read in its place; `used` its file, if that was encrypted too.
        """
        newer = [one for one in closed if used is None or _age(one.file) > _age(used)]
        for one in closed:
            if one not in newer and read:
                self._summary.warnings.append(f"{text_of(one.file.path)} is older than {read.path} and does not open: it was not used")
        reasons: dict[str, list[_Closed]] = {}
        for one in newer:
            reasons.setdefault(str(one.why), []).append(one)
        for reason, same in reasons.items():
            self._tell_reason(same[0], reason, len(same) - 1)
        if newer and read:
            which = "an older backup" if used else "which is not encrypted"
            self._summary.warnings.append(f"{read.path}, {which}, was used instead of {text_of(newer[0].file.path)}")

    def _tell_reason(self, first: _Closed, reason: str, others: int) -> None:
        path = text_of(first.file.path)
        as_well = "" if not others else ", and 1 more database too" if others == 1 else f", and {others} more databases too"
        if isinstance(first.why, KeyMissing):
            self._summary.warnings.append(f"{path} is encrypted{as_well}: names and times in it are not known; {reason}")
        elif isinstance(first.why, PhoneOnly):
            self._summary.warnings.append(f"{path} {reason}{as_well}")
        else:
            self._summary.problems.append(Problem(path, f"{reason}{as_well}"))

    def _tell_of_keys(self) -> None:
        """A key that is none is worth a word even where another one opened what there is."""
        told = " ".join(problem.reason for problem in self._summary.problems)
        faults = [*self._keys.faults_of_store, *self._keys.faults]
        self._summary.warnings += [fault for fault in faults if fault not in told]

    def _tell_of_increments(self, found: Found, read: Sequence[_Read]) -> None:
        """Changes since a full backup are in a format of their own. Those with a day in their name went into the full backups since."""
        newest = max((done.newest for done in read), default=0)
        count = self._increments + sum(1 for file in found.increments if file.day is None or _day_ms(file.day) > newest)
        if count and read:
            what = "1 increment" if count == 1 else f"{count} increments"
            self._summary.warnings.append(
                f"{what} newer than {read[0].path} not read: for the names and times of the last days back up in the app (Settings, Chats, "
                "Chat backup, Back up) and copy again"
            )
        elif count:
            what = "1 increment is there, which says" if count == 1 else f"{count} increments are there, which say"
            self._summary.warnings.append(f"{what} nothing without a full backup that opens")


def _key_files(tree: Tree, summary: Summary, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The files that may be keys, by their paths as text."""
    for path in paths:
        try:
            yield text_of(path), tree.head(path, max(KEY_FILE_SIZES) + 1)
        except FileUnreadable as error:
            summary.problems.append(Problem(text_of(path), str(error)))


def _root_of(found: Found, file: DatabaseFile) -> str | None:
    return found.only_root if len(found.roots) == 1 else found.root_of(file.path)


def _age(file: DatabaseFile) -> tuple[bool, str, int]:
    """Newest last: one without a day in its name is the newest of its series; file times tell only what names do not."""
    return file.day is None, file.day or "", file.mtime_ns


def _may_be_newer(file: DatabaseFile, read: _Read, used: DatabaseFile) -> bool:
    """Whether a further encrypted database is worth opening. Only another series can be newer than one's newest: the app moved on to it."""
    if file.version == used.version and (file.day is not None or used.day is not None):
        return False
    return file.day is None or _day_ms(file.day) > read.newest + _DAY_MS


def _day_ms(day: str) -> int:
    try:
        return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return 0


def _head(opener: Opener) -> bytes:
    """The beginning of a file. Raises FileUnreadable."""
    handle = opener("")
    assert handle is not None
    try:
        return os.read(handle, HEADER_BYTES)
    except OSError as error:
        raise FileUnreadable(why(error)) from None
    finally:
        os.close(handle)


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
    """The rows of all databases; of a message that several have, what the newest says.

    Each says where the file is on its own phone, or in its own chat, if one message is in two: so such a message has a row for each.
    """
    rows: list[Row] = []
    first: dict[object, Row] = {}
    for done in read:
        for row in done.rows:
            known = first.setdefault(row.message, row) if row.message else row
            if known is not row:
                complete(known, row)
            if known is row or ((row.path or row.hash) and (row.root, row.path, row.hash) != (known.root, known.path, known.hash)):
                rows.append(row)
    return [row if row.message is None or first[row.message] is row else elsewhere(first[row.message], row) for row in rows]
