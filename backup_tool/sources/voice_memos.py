"""Recordings of Apple's Voice Memos: the folder `Recordings` of a Mac, or a copy of it or of an older iPhone's.

    CloudRecordings.db      table ZCLOUDRECORDING: ZUNIQUEID, ZPATH, ZDATE, ZDURATION, titles, ZEVICTIONDATE (set: recently deleted)
    Recordings.db           up to iOS 11: table ZRECORDING, of the same columns as far as it has them
    20260303 140500-1A2B3C4D.m4a      a memo; .qta since iOS 18
    20260303 140500-1A2B3C4D.composition/      the layers or pieces of one that was edited

ZDATE counts seconds since 2001-01-01 UTC, as Core Data does. ZPATH is a file name, in old versions the path on the device, and may end in
`.m4a` where the file is a `.qta`; without it, or without the file, the memo is only in iCloud. ZENCRYPTEDTITLE is the plain title.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backup_tool.audio import AUDIO_SUFFIXES, suffix_of
from backup_tool.models import Chat, Note, Problem
from backup_tool.names import shown
from backup_tool.sources.base import AudioFile, FileUnreadable, KnownId, Scan, Summary, Unlock
from backup_tool.sources.filenames import time_text, zone_named
from backup_tool.sources.listing import Lister, Listing, Terms
from backup_tool.sources.sqlite import copied, is_cut, opened
from backup_tool.sources.tree import Folder, Tree, text_of

CHAT = Chat(chat_id="voice-memos", titles=["Voice Memos"])
_DATABASES = ("cloudrecordings.db", "recordings.db")
_TABLES = ("ZCLOUDRECORDING", "ZRECORDING")
_COLUMNS = (
    "ZUNIQUEID", "ZPATH", "ZDATE", "ZDURATION", "ZLOCALDURATION", "ZENCRYPTEDTITLE", "ZCUSTOMLABELFORSORTING", "ZCUSTOMLABEL",
    "ZEVICTIONDATE",
)  # fmt: skip
_COMPOSITION = ".composition"
_SQLITE = b"SQLite format 3\0"
_SINCE_2001 = 978_307_200
_TERMS = Terms(look="", kind="voice", chat=CHAT)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T.*")
_TITLES_SHOWN = 3


class VoiceMemosRecogniser:
    """Finds folders with a database of Voice Memos."""

    type = "voice-memos"

    def look(self, tree: Tree, folder: Folder) -> list[str]:
        """See `Recogniser.look`."""
        databases = [entry.name for entry in folder.files if _is_database(tree, folder, entry.name)]
        if not databases:
            return []
        folder.folders = [name for name in folder.folders if not name.lower().endswith(_COMPOSITION)]
        folder.files = [
            entry for entry in folder.files if suffix_of(entry.name) not in AUDIO_SUFFIXES and not entry.name.startswith(tuple(databases))
        ]
        return [folder.path]


def _is_database(tree: Tree, folder: Folder, name: str) -> bool:
    try:
        return name[-3:].lower() == ".db" and name.lower() in _DATABASES and tree.head(folder.below(name), len(_SQLITE)) == _SQLITE
    except FileUnreadable:
        return False


def describe(tree: Tree, store: str) -> str:
    """A store in a person's words."""
    return "recordings of Apple's Voice Memos"


@dataclass(frozen=True, slots=True)
class _Memo:
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


class VoiceMemosSource:
    """Made by `sources.open_source`."""

    type = "voice-memos"
    plain = True

    def __init__(self, name: str, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock) -> None:
        self.name = name
        self.root = tree.root
        self._tree = tree
        self._stores = stores
        self._workdir = workdir
        self.read = tree.read

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the recordings once."""
        return Listing(self._go)

    def _go(self, summary: Summary) -> Iterator[AudioFile]:
        lister = Lister(self._tree, summary, zone_named(None))
        for store in self._stores:
            yield from self._one(store, lister, summary)
        summary.chats = [CHAT] if summary.files else []
        lister.finish()

    def _one(self, store: str, lister: Lister, summary: Summary) -> Iterator[AudioFile]:
        """The recordings of one folder: those that the database knows with what it says, the others by their names."""
        files = list(self._files(store, lister, summary))
        memos = self._memos(store, summary)
        if memos is None:
            yield from files
            return
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
        _account(memos, recordings, summary)

    def _files(self, store: str, lister: Lister, summary: Summary) -> Iterator[AudioFile]:
        for folder in self._tree.walk(store, summary):
            inside = text_of(folder.path[len(store) :]).strip("/")
            if not inside:
                folder.folders = [name for name in folder.folders if name.lower().endswith(_COMPOSITION)]
            yield from lister.files(folder, inside + "/" if inside else "", _TERMS)

    def _memos(self, store: str, summary: Summary) -> list[_Memo] | None:
        """The rows of the newest kind of database that can be read; None where none can."""
        names = [
            entry.name for folder in _only(self._tree, store) for entry in folder.files if _is_database(self._tree, folder, entry.name)
        ]
        for name in sorted(names, key=lambda name: _DATABASES.index(name.lower())):
            path = f"{store}/{name}" if store else name
            memos = self._read(path, summary)
            if memos is not None:
                summary.database = f"{summary.database}, {text_of(path)}" if summary.database else text_of(path)
                return memos
        return None

    def _read(self, path: str, summary: Summary) -> list[_Memo] | None:
        memos: list[_Memo] = []
        text = text_of(path)
        try:
            with copied(partial(_open, self._tree, path), self._workdir) as copy:
                if is_cut(copy):
                    summary.problems.append(Problem(text, "cut short: it is smaller than it says itself; copy it again"))
                with opened(copy) as connection:
                    rows = _rows(connection)
                    if rows is None:
                        summary.warnings.append(f"{text} is not laid out as Voice Memos does: its titles and times are not known")
                        return None
                    memos.extend(map(_memo, rows))
        except FileUnreadable as error:
            summary.problems.append(Problem(text, str(error)))
            return None
        except sqlite3.Error as error:
            summary.problems.append(Problem(text, f"damaged: {error}; what could be read of it was used"))
        return memos


def _open(tree: Tree, path: str, beside: str) -> int | None:
    location = tree.location(path + beside)
    return None if beside and not os.path.lexists(location) else tree.open_file(location)


def _only(tree: Tree, path: str) -> Iterator[Folder]:
    """One folder, without those below it."""
    for folder in tree.walk(path, Summary()):
        yield folder
        return


def _rows(connection: sqlite3.Connection) -> Iterable[tuple[object, ...]] | None:
    """The columns above of all memos, NULL where this version has none; None without any table of memos."""
    for table in _TABLES:
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if {"ZPATH", "ZDATE"} <= columns:
            wanted = ", ".join(column if column in columns else "NULL" for column in _COLUMNS)
            return connection.execute(f"SELECT {wanted} FROM {table}")  # noqa: S608 (names of our own)
    return None


def _memo(row: tuple[object, ...]) -> _Memo:
    unique, path, date, duration, local_duration, *titles, evicted = row
    name = path.replace("\\", "/").rstrip("/").rpartition("/")[2] if isinstance(path, str) else ""
    return _Memo(
        id=unique if isinstance(unique, str) and unique else _stem(name) or None,
        name=name or None,
        stem=_stem(name) or None,
        sent_at=time_text(round((date + _SINCE_2001) * 1000)) if isinstance(date, (int, float)) and abs(date) < 10**10 else None,
        duration=next((float(one) for one in (local_duration, duration) if isinstance(one, (int, float)) and 0 < one < 10**7), None),
        title=next((title for title in titles if isinstance(title, str) and title.strip() and not _DATE.fullmatch(title)), None),
        deleted=evicted is not None,
    )


def _stem(path: str) -> str:
    """What a memo's file, its composition and what lies in that have in common: the name without suffix, in lower case."""
    name = path.split("/")[0] if _in_composition(path) else path.rpartition("/")[2]
    return name.rpartition(".")[0].lower() if "." in name else name.lower()


def _in_composition(path: str) -> bool:
    return "/" in path


def _tell(note: Note, memo: _Memo, *, whole: bool) -> None:
    """What the database knows of a file. A piece of an edited memo is not the memo: only a file that is has its id."""
    note.message_id = memo.id if whole else None
    note.from_me = True
    if memo.sent_at:
        note.sent_at, note.sent_at_from, note.zone = memo.sent_at, "message", None


def _main(memo: _Memo, recordings: dict[str, list[str]]) -> str | None:
    """The one file that is the memo: the one that the database names, else the only one of that name; None where only pieces are there."""
    paths = recordings[memo.stem or ""]
    direct = [path for path in paths if not _in_composition(path)] or (paths if len(paths) == 1 else [])
    return memo.name if memo.name in direct else direct[0] if direct else None


def _account(memos: list[_Memo], recordings: dict[str, list[str]], summary: Summary) -> None:
    """Memos without a file here: in iCloud only. One that its owner deleted, and is gone, lacks nothing."""
    absent = [memo for memo in memos if not memo.deleted and not (memo.stem and memo.stem in recordings)]
    for memo in absent:
        note = Note(kind="voice", chat=CHAT.titles[-1], chat_id=CHAT.chat_id, message_id=memo.id, from_me=True, duration=memo.duration)
        note.sent_at, note.sent_at_from = memo.sent_at, "message" if memo.sent_at else None
        summary.not_downloaded.append(note)
    if absent:
        titles = [shown(memo.title, 60) for memo in absent if memo.title][:_TITLES_SHOWN]
        named = f" ({', '.join(titles)}{' …' if len(absent) > len(titles) else ''})" if titles else ""
        count = "1 memo is" if len(absent) == 1 else f"{len(absent):,} memos are"
        summary.warnings.append(f"{count} only in iCloud{named}: open Voice Memos and play them once, so that they are on this machine")
    deleted = sum(memo.deleted and memo.stem in recordings for memo in memos)
    if deleted:
        count = "1 memo" if deleted == 1 else f"{deleted:,} memos"
        summary.warnings.append(f"{count} in Recently Deleted: archived too, while the files are there")
