"""Recordings of Apple's Voice Memos: the folder `Recordings` of a Mac, or a copy of it or of an older iPhone's.

    CloudRecordings.db      table ZCLOUDRECORDING: ZUNIQUEID, ZPATH, ZDATE, ZDURATION, titles, ZEVICTIONDATE (set: recently deleted)
    Recordings.db           up to iOS 11: table ZRECORDING, of the same columns as far as it has them
    20260303 140500-1A2B3C4D.m4a      a memo; .qta since iOS 18
    20260303 140500-1A2B3C4D.composition/      the layers or pieces of one that was edited

ZDATE counts seconds since 2001-01-01 UTC, as Core Data does. ZPATH is a file name, in old versions the path on the device, and may end in
`.m4a` where the file is a `.qta`; without it, or without the file, the memo is only in iCloud. ZENCRYPTEDTITLE is the plain title.

A device backup holds the same folder (`sources.apple`): `read_memos` and `joined` are for both.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from backup_tool.audio import AUDIO_SUFFIXES, suffix_of
from backup_tool.models import Chat, Note, Problem
from backup_tool.names import shown
from backup_tool.sources.base import AudioFile, FileUnreadable, KnownId, Scan, Summary, Unlock
from backup_tool.sources.filenames import time_text, zone_named
from backup_tool.sources.listing import Lister, Listing, Terms
from backup_tool.sources.places import cure
from backup_tool.sources.sqlite import copied, is_cut, opened
from backup_tool.sources.tree import Folder, Tree, text_of

_T = TypeVar("_T")
CHAT = Chat(chat_id="voice-memos", titles=["Voice Memos"])
DATABASES = ("CloudRecordings.db", "Recordings.db")
"""The newest kind first."""
COMPOSITION = ".composition"
_LOWER = tuple(name.lower() for name in DATABASES)
_TABLES = ("ZCLOUDRECORDING", "ZRECORDING")
_COLUMNS = (
    "ZUNIQUEID", "ZPATH", "ZDATE", "ZDURATION", "ZLOCALDURATION", "ZENCRYPTEDTITLE", "ZCUSTOMLABELFORSORTING", "ZCUSTOMLABEL",
    "ZEVICTIONDATE",
)  # fmt: skip
_SQLITE = b"SQLite format 3\0"
_SINCE_2001 = 978_307_200
_TERMS = Terms(look="", kind="voice", chat=CHAT)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T.*")
_TITLES_SHOWN = 3
_LONGEST_TITLE = 1000
_PLAY_THEM = "open Voice Memos and play them once, so that they are on this machine"


class VoiceMemosRecogniser:
    """Finds folders with a database of Voice Memos."""

    type = "voice-memos"

    def look(self, tree: Tree, folder: Folder) -> list[str]:
        """See `Recogniser.look`."""
        databases = [entry.name for entry in folder.files if _is_database(tree, folder, entry.name)]
        if not databases:
            return []
        folder.folders = [name for name in folder.folders if not name.lower().endswith(COMPOSITION)]
        folder.files = [
            entry for entry in folder.files if suffix_of(entry.name) not in AUDIO_SUFFIXES and not entry.name.startswith(tuple(databases))
        ]
        return [folder.path]


def _is_database(tree: Tree, folder: Folder, name: str) -> bool:
    """True for a database by name and first bytes, and for one that cannot be read where the name says enough: the scan then names it."""
    try:
        return name[-3:].lower() == ".db" and name.lower() in _LOWER and tree.head(folder.below(name), len(_SQLITE)) == _SQLITE
    except FileUnreadable:
        return name.lower() == _LOWER[0]


def describe(tree: Tree, store: str) -> str:
    """A store in a person's words."""
    return "recordings of Apple's Voice Memos"


@dataclass(frozen=True, slots=True)
class Memo:
    """One row of the database."""

    id: str | None
    """Where a version has no ids, the name that its file has for good."""
    name: str | None
    """Its file's name; None where the database names none."""
    stem: str | None
    sent_at: str | None
    duration: float | None
    title: str | None
    deleted: bool


@dataclass(slots=True)
class Recordings:
    """What one folder of recordings holds."""

    files: list[AudioFile] = field(default_factory=list)
    """With a note each, of the chat above; `original_path` is below the folder."""
    memos: list[Memo] | None = None
    """None where no database of it can be read."""
    unread: set[str] = field(default_factory=set)
    """As `original_path`: files that the folder has, or had, and that cannot be read now."""


class VoiceMemosSource:
    """Made by `sources.open_source`. `timezone` is for recordings that only their names tell the moment of."""

    type = "voice-memos"
    plain = True

    def __init__(self, name: str, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock, timezone: str | None = None) -> None:
        self.name = name
        self._timezone = timezone
        self.root = tree.root
        self._tree = tree
        self._stores = stores
        self._workdir = workdir
        self.read = tree.read

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the recordings once."""
        return Listing(self._go)

    def _go(self, summary: Summary) -> Iterator[AudioFile]:
        lister = Lister(self._tree, summary, zone_named(self._timezone))
        for store in self._stores:
            files = list(self._files(store, lister, summary))
            yield from joined([Recordings(files, self._memos(store, summary))], summary)
        summary.chats = [CHAT] if summary.files else []
        lister.finish()

    def _files(self, store: str, lister: Lister, summary: Summary) -> Iterator[AudioFile]:
        for folder in self._tree.walk(store, summary):
            inside = text_of(folder.path[len(store) :]).strip("/")
            if not inside:
                folder.folders = [name for name in folder.folders if name.lower().endswith(COMPOSITION)]
            yield from lister.files(folder, inside + "/" if inside else "", _TERMS)

    def _memos(self, store: str, summary: Summary) -> list[Memo] | None:
        """The rows of the newest kind of database that can be read; None where none can."""
        names = [
            entry.name for folder in _only(self._tree, store) for entry in folder.files if _is_database(self._tree, folder, entry.name)
        ]
        for name in sorted(names, key=lambda name: _LOWER.index(name.lower())):
            path = f"{store}/{name}" if store else name
            memos = read_memos(copied(partial(_open, self._tree, path), self._workdir), text_of(path), summary)
            if memos is not None:
                return memos
        return None


def _open(tree: Tree, path: str, beside: str) -> int | None:
    location = tree.location(path + beside)
    if beside and not os.path.lexists(location):
        return None
    try:
        return tree.open_file(location)
    except FileUnreadable as error:
        if isinstance(error.__context__, PermissionError):
            raise FileUnreadable(f"not readable: {cure()}") from None
        raise


def _only(tree: Tree, path: str) -> Iterator[Folder]:
    """One folder, without those below it."""
    for folder in tree.walk(path, Summary()):
        yield folder
        return


# --- the database -------------------------------------------------------------------------------------------------------------------


def read_memos(database: AbstractContextManager[Path | None], path: str, summary: Summary) -> list[Memo] | None:
    """The rows of a private copy of a database; None where there is none, or it cannot be read. What is wrong is named in the summary under
    `path`, and where rows were read, that is the summary's database."""
    memos: list[Memo] = []
    try:
        with database as copy:
            if copy is None:
                return None
            if is_cut(copy):
                summary.problems.append(Problem(path, "cut short: it is smaller than it says itself; copy it again"))
            with opened(copy) as connection:
                rows = _rows(connection)
                if rows is None:
                    summary.warnings.append(f"{path} is not laid out as Voice Memos does: its titles and times are not known")
                    return None
                memos.extend(map(_memo, rows))
    except FileUnreadable as error:
        summary.problems.append(Problem(path, str(error)))
        return None
    except sqlite3.Error as error:
        summary.problems.append(Problem(path, f"damaged: {error}; what could be read of it was used"))
    summary.database = f"{summary.database}, {path}" if summary.database else path
    return memos


def _rows(connection: sqlite3.Connection) -> Iterable[tuple[object, ...]] | None:
    """The columns above of all memos, NULL where this version has none; None without any table of memos."""
    # Neither views nor virtual tables: anything may hide in them.
    stored = "SELECT name FROM sqlite_master WHERE type = 'table' AND ltrim(sql, char(9, 10, 13, 32)) NOT LIKE 'create virtual%'"
    real = {row[0] for row in connection.execute(stored)}
    for table in filter(real.__contains__, _TABLES):
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if {"ZPATH", "ZDATE"} <= columns:
            wanted = ", ".join(column if column in columns else "NULL" for column in _COLUMNS)
            return connection.execute(f"SELECT {wanted} FROM {table}")  # noqa: S608 (names of our own)
    return None


def _memo(row: tuple[object, ...]) -> Memo:
    unique, path, date, duration, local_duration, *titles, evicted = row
    name = path.replace("\\", "/").rstrip("/").rpartition("/")[2] if isinstance(path, str) else ""
    return Memo(
        id=unique if isinstance(unique, str) and unique else _stem(name) or None,
        name=name or None,
        stem=_stem(name) or None,
        sent_at=time_text(round((date + _SINCE_2001) * 1000)) if isinstance(date, (int, float)) and abs(date) < 10**10 else None,
        duration=next((float(one) for one in (local_duration, duration) if isinstance(one, (int, float)) and 0 < one < 10**7), None),
        title=next(filter(None, map(_title, titles)), None),
        deleted=evicted is not None,
    )


def _title(value: object) -> str | None:
    """What a person called it; None for a date, which the app itself put there."""
    text = value.strip()[:_LONGEST_TITLE] if isinstance(value, str) else ""
    return None if _DATE.fullmatch(text) else text or None


# --- which file is which memo -------------------------------------------------------------------------------------------------------------


def joined(readings: Sequence[Recordings], summary: Summary, cure: str = _PLAY_THEM) -> Iterator[AudioFile]:
    """The files of one device's recordings: those that a database knows with what it says, the others by their names.

    `readings` are of the same folder at several times, the newest first: of each file and each memo, the newest counts. Orphans and memos
    without a file are added to the summary; `cure` says how these can be had.
    """
    files = _newest((file.original_path, file) for reading in readings for file in reading.files)
    known = [reading.memos for reading in readings if reading.memos is not None]
    if not known:
        yield from files
        return
    memos = [memo for memos in known for memo in memos]
    if len(known) > 1:
        memos = _newest((memo.id or memo, memo) for memo in memos)
    by_stem = {memo.stem: memo for memo in memos if memo.stem}
    recordings = defaultdict[str, list[str]](list)
    for file in files:
        recordings[_stem(file.original_path)].append(file.original_path)
    for file in files:
        memo = by_stem.get(_stem(file.original_path))
        if memo is None:
            summary.orphans += 1
        else:
            _tell(file.notes[0], memo, whole=file.original_path == _main(memo, recordings))
        yield file
    _account(memos, recordings, {_stem(path) for reading in readings for path in reading.unread}, summary, cure)


def _newest(found: Iterable[tuple[object, _T]]) -> list[_T]:
    """The first of each key."""
    first: dict[object, _T] = {}
    for key, one in found:
        first.setdefault(key, one)
    return list(first.values())


def _stem(path: str) -> str:
    """What a memo's file, its composition and what lies in that have in common: the name without suffix, in lower case."""
    name = path.split("/")[0] if _in_composition(path) else path.rpartition("/")[2]
    return name.rpartition(".")[0].lower() if "." in name else name.lower()


def _in_composition(path: str) -> bool:
    return "/" in path


def _tell(note: Note, memo: Memo, *, whole: bool) -> None:
    """What the database knows of a file. A piece of an edited memo is not the memo: only a file that is has its id."""
    note.message_id = memo.id if whole else None
    note.from_me, note.title = True, memo.title
    if memo.sent_at:
        note.sent_at, note.sent_at_from, note.zone = memo.sent_at, "message", None


def _main(memo: Memo, recordings: dict[str, list[str]]) -> str | None:
    """The one file that is the memo: the one that the database names, else the only one of that name; None where only pieces are there."""
    paths = recordings[memo.stem or ""]
    direct = [path for path in paths if not _in_composition(path)] or (paths if len(paths) == 1 else [])
    return memo.name if memo.name in direct else direct[0] if direct else None


def _account(memos: list[Memo], recordings: dict[str, list[str]], unread: set[str], summary: Summary, cure: str) -> None:
    """Memos without a file: in iCloud only, or lost since. One that its owner deleted, and is gone, lacks nothing."""
    absent = [memo for memo in memos if not memo.deleted and not (memo.stem and memo.stem in recordings)]
    far = [memo for memo in absent if memo.stem not in unread]
    summary.not_downloaded += map(_note_of, far)
    summary.missing += [_note_of(memo) for memo in absent if memo.stem in unread]
    if far:
        titles = [shown(memo.title, 60) for memo in far if memo.title][:_TITLES_SHOWN]
        named = f" ({', '.join(titles)}{' …' if len(far) > len(titles) else ''})" if titles else ""
        count = "1 memo is" if len(far) == 1 else f"{len(far):,} memos are"
        summary.warnings.append(f"{count} only in iCloud{named}: {cure}")
    deleted = sum(memo.deleted and memo.stem in recordings for memo in memos)
    if deleted:
        count = "1 memo" if deleted == 1 else f"{deleted:,} memos"
        summary.warnings.append(f"{count} in Recently Deleted: archived too, while the files are there")


def _note_of(memo: Memo) -> Note:
    """A memo without a file."""
    return Note(
        kind="voice", chat=CHAT.titles[-1], chat_id=CHAT.chat_id, message_id=memo.id, from_me=True, title=memo.title,
        duration=memo.duration, sent_at=memo.sent_at, sent_at_from="message" if memo.sent_at else None,
    )  # fmt: skip
