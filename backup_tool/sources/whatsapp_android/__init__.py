"""WhatsApp on an Android phone, or a copy of it: notes from its folders; chats, people and times from its database where that can be read.

Useful without any database: then a note has its day from its name and no chat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from backup_tool.models import Note
from backup_tool.sources.base import AudioFile, KnownId, Scan, Summary, Unlock
from backup_tool.sources.folder import terms_of
from backup_tool.sources.listing import Lister, Listing
from backup_tool.sources.tree import Tree, text_of
from backup_tool.sources.whatsapp_android.contacts import ContactFiles
from backup_tool.sources.whatsapp_android.databases import Databases
from backup_tool.sources.whatsapp_android.matching import Matching, recorded_id
from backup_tool.sources.whatsapp_android.rows import Row, chats_of, missing_note, note_of
from backup_tool.sources.whatsapp_android.stores import LOOSE, Found, find_stores, leave_out

__all__ = ["AndroidSource", "Found", "describe", "find_stores"]

_PIECE = 2**20


class AndroidSource:
    """Made by `sources.open_source`. `database` is one that the person named: then no other is looked for. `contacts` are lists of names,
    read beside those that lie in the store."""

    type = "whatsapp-android"
    plain = True

    def __init__(
        self,
        name: str,
        tree: Tree,
        workdir: Path,
        database: Path | None = None,
        unlock: Unlock = list,
        contacts: Sequence[Path] = (),
    ) -> None:
        self.name = name
        self.root = tree.root
        self._tree = tree
        self._workdir = workdir
        self._database = database
        self._unlock = unlock
        self._contacts = contacts
        self.read = tree.read

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the stores once: with a database in memory (compact), without one as a stream."""
        return Listing(partial(self._go, known))

    def _go(self, known: KnownId | None, summary: Summary) -> Iterator[AudioFile]:
        found = find_stores(self._tree, summary, database_is_named=self._database is not None)
        rows = Databases(self._tree, self._workdir, summary, self._unlock).read(found, self._database)
        self._give_names(found, rows, summary)
        files = self.files(found, summary)
        if summary.database is None:
            yield from (file for file, _ in files)
        else:
            yield from self._joined(files, rows, known, summary)

    def _give_names(self, found: Found, rows: list[Row], summary: Summary) -> None:
        """Name the people of the messages as their contacts do. A store without messages has nobody to name."""
        if not rows:
            return
        files = ContactFiles(self._workdir, summary)
        for path in self._contacts:
            files.read_named(path)
        beside = (file.path.rpartition("/")[0] for file in (*found.plain, *found.encrypted))
        files.read_found(self._tree, {"", *found.roots, *beside})
        files.contacts.give_names(who for row in rows for who in (row.chat, row.sender) if who)

    def files(self, found: Found, summary: Summary) -> Iterator[tuple[AudioFile, str]]:
        """Every audio file, and the store it lies in."""
        lister = Lister(self._tree, summary)
        for media in found.media:
            for folder in self._tree.walk(media.path, summary):
                leave_out(folder)
                inside = text_of(folder.path[len(media.path) :]).strip("/")
                original = "/".join(filter(None, (media.original, inside)))
                terms = terms_of(folder.path) if media.terms is LOOSE else media.terms
                for file in lister.files(folder, original + "/" if original else "", terms):
                    yield file, media.root
        lister.finish()

    def _joined(
        self, listed: Iterator[tuple[AudioFile, str]], rows: list[Row], known: KnownId | None, summary: Summary
    ) -> Iterator[AudioFile]:
        """Every file with the messages that it belongs to."""
        files, roots = [], []
        for file, root in listed:
            files.append(file)
            roots.append(root)
        summary.chats = chats_of(rows)
        matching = Matching(files, roots, rows)
        rows.clear()
        matching.run(self._hash, known)
        for row in sorted(matching.unmatched, key=lambda row: row.order):
            if not row.revoked:
                (summary.missing if row.arrived else summary.not_downloaded).append(missing_note(row))
        summary.orphans = len(files) - len(matching.rows_of)
        files.reverse()  # taken from the end, so that each is let go of as soon as it was given out
        for number in range(len(files)):
            file = files.pop()
            found = matching.rows_of.pop(number, None)
            if found:
                file.notes = [_told(row, file.notes[0]) for row in found]
                file.recorded_id = recorded_id(found)
            yield file

    def _hash(self, file: AudioFile) -> str:
        whole = hashlib.sha256()
        for piece in self._tree.read(file, _PIECE):
            whole.update(piece)
        return whole.hexdigest()


def _told(row: Row, by_file: Note) -> Note:
    """What the database says of a note, and where it says nothing, what its file says."""
    note = note_of(row, kind=by_file.kind, original_path=by_file.original_path)
    note.mtime_ns = by_file.mtime_ns
    if note.sent_at is None:
        note.sent_at, note.sent_at_from = by_file.sent_at, by_file.sent_at_from
    return note


def describe(found: Found, root: str) -> str:
    """A store in a person's words: which app's it is, and whether its database can be read."""
    media = [media.original.lower() for media in found.media if media.root == root]
    what = "WhatsApp Business on Android" if any("business" in original for original in media) else "WhatsApp on Android"
    plain = [file for file in found.plain if found.root_of(file.path) in (root, None)]
    if any(not file.renamed for file in plain):
        return f"{what}, with a readable database"
    if any(found.root_of(file.path) in (root, None) for file in found.encrypted):
        return f"{what}, its database is encrypted"
    if plain:
        return f"{what}, with a database under another name"
    return f"{what}, without a database"
