"""Notes of WhatsApp on Apple's systems: which file belongs to which message, over all containers of one source.

A container is the folder of one app on one device, as a backup holds it or as it lies on a Mac. Several backups of one phone hold the same
messages and files again: of each, the newest counts.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from backup_tool.audio import suffix_of
from backup_tool.models import Chat, Kind, Note, Problem
from backup_tool.sources.apple.chatstorage import (
    CHAT_STORAGE,
    CONTACTS,
    LIDS,
    Row,
    Schema,
    join_people,
    key_of_path,
    name_people,
    note_of,
    read_rows,
)
from backup_tool.sources.apple.people import LID_SERVER, People, is_person
from backup_tool.sources.base import AudioFile, FileUnreadable, Summary
from backup_tool.sources.sqlite import is_cut, opened

Database = Callable[[str], AbstractContextManager["Path | None"]]
"""A private copy of the container's database of that name; None where it has none. Raises FileUnreadable."""

_CHAT_OF_PATH = re.compile(r"(?:^|/)Media/([^/]+@[^/]+)/")
_LOOKED_INTO = 4
"""So many files tell whether a database has on record what we think it has."""
_PIECE = 2**20


@dataclass
class Container:
    """One app's folder: `database` is the path of its messages for people to read, None where there are none to be read."""

    database: str | None = None
    rows: list[Row] = field(default_factory=list)
    people: People = field(default_factory=People)
    files: list[AudioFile] = field(default_factory=list)


def read_messages(container: Container, database: Database, shown: Callable[[str], str], summary: Summary) -> None:
    """Fill in rows and people. What is wrong with a database is named in the summary; `shown` gives its path for that."""
    with ExitStack() as stack:
        schemas = []
        for name in (CHAT_STORAGE, CONTACTS, LIDS):
            try:
                copy = stack.enter_context(database(name))
                if copy is not None:
                    schemas.append((name, _schema(copy, stack, shown(name), summary)))
            except (FileUnreadable, sqlite3.Error) as error:
                _name_damage(summary, shown(name), error)
        for step in (join_people, name_people):
            for name, schema in schemas:
                try:
                    step(schema, container.people)
                except sqlite3.Error as error:
                    _name_damage(summary, shown(name), error)
        if schemas and schemas[0][0] == CHAT_STORAGE:
            _read_rows(container, schemas[0][1], shown(CHAT_STORAGE), summary)


def _schema(copy: Path, stack: ExitStack, path: str, summary: Summary) -> Schema:
    if is_cut(copy):
        _name_damage(summary, path, FileUnreadable("cut short (it is smaller than it says itself): what could be read of it was used"))
    return Schema(stack.enter_context(opened(copy)))


def _read_rows(container: Container, schema: Schema, path: str, summary: Summary) -> None:
    if not schema.holds_messages:
        summary.warnings.append(f"{path} is not laid out as WhatsApp does: its names and times are not read")
        return
    container.database = path
    try:
        for row in read_rows(schema, container.people):
            container.rows.append(row)  # what was read before damage shows is kept
    except sqlite3.Error as error:
        _name_damage(summary, path, error)


def _name_damage(summary: Summary, path: str, error: Exception) -> None:
    reason = str(error)
    if isinstance(error, sqlite3.Error):
        never_ends = reason == "interrupted"
        reason = "made so that reading it never ends" if never_ends else f"damaged ({reason}): what could be read of it was used"
    if path.endswith(CHAT_STORAGE):
        if not any(told.path == path for told in summary.problems):
            summary.problems.append(Problem(path, reason))
        return
    without = f"{path} cannot be read, names of people may be missing: "
    if not any(warning.startswith(without) for warning in summary.warnings):
        summary.warnings.append(without + reason)


def kind_of_file(path: str) -> Kind:
    """The kind of a file without a message: the app records notes as Opus, and keeps other audio under the suffix that it came with."""
    return "voice" if suffix_of(path) == "opus" else "audio"


def join(containers: list[Container], read: Callable[[AudioFile, int], Iterator[bytes]], summary: Summary) -> Iterator[AudioFile]:
    """Every file with the messages that it belongs to, sorted by path. `containers` with the newest first; what they hold is used up."""
    files, owners = _each_once(containers)
    rows_of, unmatched = _matched(files, containers)
    for number, file in enumerate(files):
        if number not in rows_of:
            _name_chat(file.notes[0], owners[number].people)
    summary.orphans = len(files) - len(rows_of) if summary.database else 0
    _name_absent(unmatched, {row.message for rows in rows_of.values() for row in rows}, summary)
    summary.chats = _chats(files, rows_of, unmatched)
    believed = _believed(files, rows_of, read)
    for number, file in enumerate(files):
        rows = sorted(rows_of.pop(number, ()), key=lambda row: row.order)
        if rows:
            file.notes = [_told(row, file.notes[0]) for row in rows]
            hashes = {row.hash for row in rows if row.hash} if believed else set()
            file.recorded_id = hashes.pop().hex() if len(hashes) == 1 else None
        yield file


def _each_once(containers: list[Container]) -> tuple[list[AudioFile], list[Container]]:
    """The files of all containers, of each path the newest one; and the container of each.

    The app never changes a note: one that is shorter than in another backup was cut, or emptied, when the backup was made or copied.
    """
    best: dict[str, tuple[AudioFile, Container]] = {}
    for container in containers:
        for file in container.files:
            known = best.setdefault(file.original_path, (file, container))
            if file.size > known[0].size:
                best[file.original_path] = file, container
        container.files = []
    both = sorted(best.values(), key=lambda one: one[0].path)
    return [file for file, _ in both], [container for _, container in both]


def _matched(files: list[AudioFile], containers: list[Container]) -> tuple[dict[int, list[Row]], list[Row]]:
    """The messages of each file, by its number, and the messages that have none."""
    by_key = {key_of_path(file.original_path): number for number, file in enumerate(files)}
    rows_of: dict[int, list[Row]] = {}
    unmatched: list[Row] = []
    for container in containers:
        found: dict[int, list[Row]] = {}
        for row in container.rows:
            number = by_key.get(row.path) if row.path else None
            if number is None:
                unmatched.append(row)
            else:
                found.setdefault(number, []).append(row)
        for number, rows in found.items():
            rows_of[number] = _joined(rows_of.get(number, []), rows)
        container.rows = []
    return rows_of, unmatched


def _joined(newer: list[Row], older: list[Row]) -> list[Row]:
    """The messages of one file by several containers, each once, as the newer one says.

    One backup may have the other person under a hidden identity, and the next under the number: then the number counts. A message to
    several people at once stands in several chats of one container: those stay apart.
    """
    rows: dict[object, Row] = {row.message or id(row): row for row in newer}
    of_key = {(row.key, row.from_me): row for row in newer if _is_between_two(row)}
    chats = Counter((row.key, row.from_me) for row in older)
    for row in older:
        known = of_key.get((row.key, row.from_me)) if _is_between_two(row) and row.key else None
        if known is None or _is_hidden(known) == _is_hidden(row) or chats[row.key, row.from_me] > 1:
            rows.setdefault(row.message or id(row), row)
        elif _is_hidden(known):
            rows[known.message] = row
    return list(rows.values())


def _is_between_two(row: Row) -> bool:
    return row.chat is not None and is_person(row.chat.id)


def _is_hidden(row: Row) -> bool:
    return row.chat is not None and row.chat.id.endswith("@" + LID_SERVER)


def _name_absent(unmatched: list[Row], told: set[object], summary: Summary) -> None:
    """Messages without a file, each once: on record with a path, it was there once; without one, it never was."""
    for row in sorted(unmatched, key=lambda row: (row.path is None, row.order)):
        if row.revoked or (row.message and row.message in told):
            continue
        told.add(row.message)
        note = note_of(row, f"Message/{row.path}" if row.path else None)
        note.size = row.size
        (summary.missing if row.path else summary.not_downloaded).append(note)


def _chats(files: list[AudioFile], rows_of: dict[int, list[Row]], unmatched: list[Row]) -> list[Chat]:
    titles: dict[str, str] = {}
    for row in (*(row for rows in rows_of.values() for row in rows), *unmatched):
        if row.chat:
            titles.setdefault(row.chat.id, row.chat.name)
    for file in files:
        note = file.notes[0]
        if note.chat_id and note.chat:
            titles.setdefault(note.chat_id, note.chat)
    return [Chat(chat_id=chat, titles=[title]) for chat, title in sorted(titles.items())]


def _told(row: Row, by_file: Note) -> Note:
    """What the database says of a note, and where it says nothing, what its file says."""
    note = note_of(row, by_file.original_path)
    note.mtime_ns = by_file.mtime_ns
    if note.sent_at is None:
        note.sent_at, note.sent_at_from = by_file.sent_at, by_file.sent_at_from
    return note


def _name_chat(note: Note, people: People) -> None:
    """A file without a message still lies in the folder of its chat."""
    found = _CHAT_OF_PATH.search(note.original_path or "")
    who = people.who(found[1]) if found else None
    if who:
        note.chat_id, note.chat = who


def _believed(files: list[AudioFile], rows_of: dict[int, list[Row]], read: Callable[[AudioFile, int], Iterator[bytes]]) -> bool:
    """Whether the hashes on record are those of the files: tools say so, Apple's world does not, so a few small files are asked."""
    recorded = [(files[number], rows[0].hash) for number, rows in rows_of.items() if rows[0].hash]
    for file, expected in sorted(recorded, key=lambda one: (one[0].size, one[0].path))[:_LOOKED_INTO]:
        whole = hashlib.sha256()
        try:
            for piece in read(file, _PIECE):
                whole.update(piece)
        except FileUnreadable:
            continue
        if whole.digest() == expected:
            return True
    return False
