"""Write a snapshot anew of which folders or catalogs are lost, from all that can still be read.

Folders are made again from the catalog, which knows everything that is in them: where nothing else was lost, the very same ones, and the
snapshot stays as it is. A month whose catalog is lost is put together from other snapshots' records of the same files, and for a file that
no other snapshot knows from what its folder tells of it. Where not even the way to the catalogs can be read, they are looked for among all
blobs: a catalog tells by itself whose it is.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from backup_tool.actions.archive import TOP, SourceFolder, catalog_files, is_time, ours, read_node, source_folders
from backup_tool.actions.bundle import Bundler, Chats
from backup_tool.catalog import EXPORTED, UNSORTED, CatalogDamaged, Ledger, decode_chats, decode_note, merge
from backup_tool.errors import DamagedObject, IntegrityError
from backup_tool.models import SAVED_FILE, Chat, Note, Place
from backup_tool.repository import Node, Repository, Snapshot, Writer
from backup_tool.sources import kind_of_name

_EPOCH = "2009-01-01T00:00:00Z"
_Months = dict[str, "dict[str, Node] | None"]
"""The month folders of a chat: their files by name, None for one that is lost."""


def way_is_lost(repository: Repository, snapshot: Snapshot) -> bool:
    """Whether catalogs of a snapshot cannot be found any more, since folders above them are lost."""
    one = _OneSnapshot(Rewriter(repository, [], set()), repository, snapshot)
    return one.way_is_lost()


class Rewriter:
    """Writes torn snapshots anew. `snapshots` are all that can be read, oldest first, `torn` the ids of those that are torn."""

    def __init__(self, repository: Repository, snapshots: Iterable[Snapshot], torn: set[str]) -> None:
        self._repository = repository
        self.snapshots = [one for one in snapshots if ours(one)]
        self._torn = set(torn)
        self._pool: dict[str, dict[str, list[Note]]] = {}
        self._orphans: list[tuple[str, Note]] | None = None

    def write(self, snapshot: Snapshot, writer: Writer) -> str:
        """The tree of it, as far as it can be read; the same as before where nothing is missing from that. The writer has to finish."""
        one = _OneSnapshot(self, self._repository, snapshot)
        one.gather()
        return one.bundle(writer)

    def wrote(self, old: Snapshot, new: Snapshot) -> None:
        """The new one stands for the old one from now on, and is whole."""
        self.snapshots = [new if one.id == old.id else one for one in self.snapshots]
        self._torn.discard(old.id)

    def before(self, snapshot: Snapshot) -> Snapshot | None:
        """The nearest older snapshot of the same host that is whole."""
        older = [one for one in self.snapshots if one.hostname == snapshot.hostname and one.when() < snapshot.when()]
        return next((one for one in reversed(older) if one.id not in self._torn), None)

    def known(self, host: str) -> dict[str, list[Note]]:
        """By path, what whole snapshots of a host say of the notes."""
        if host not in self._pool:
            found = self._pool[host] = defaultdict(list)
            seen: set[tuple[str, ...]] = set()
            for one in reversed(self.snapshots):
                if one.hostname != host or one.id in self._torn:
                    continue
                for folder in (source_folders(self._repository, one.tree) or {}).values():
                    nodes = [folder.catalog[f"{month}.jsonl"] for month in folder.months()]
                    new = [node for node in nodes if tuple(node.content or ()) not in seen]
                    seen.update(tuple(node.content or ()) for node in new)
                    for data in catalog_files(self._repository, new):
                        for note in map(decode_note, data.splitlines()):
                            found[note.path or ""].append(note)
        return self._pool[host]

    def orphans(self) -> list[tuple[str, Note]]:
        """(source, record) of every catalog that lies in the repository and that no whole snapshot names."""
        if self._orphans is None:
            named = {
                blob
                for one in self.snapshots
                if one.id not in self._torn
                for folder in (source_folders(self._repository, one.tree) or {}).values()
                for node in folder.catalog.values()
                for blob in node.content or ()
            }
            index = self._repository.index
            loose = {id.hex() for kind, id, place in index.blobs() if kind == "data" and place.raw_length} - named
            self._orphans = [found for _, data in self._repository.load_blobs("data", loose) for found in _records(data)]
        return self._orphans


def _records(data: bytes) -> Iterator[tuple[str, Note]]:
    """Every record in the bytes of a catalog, with its source; nothing for any other file."""
    for line in data.splitlines():
        try:
            note = decode_note(line)
        except CatalogDamaged:  # a list of chats, or the half of a line where a catalog was cut into blobs
            continue
        parts = (note.path or "").split("/")
        if note.id and len(parts) == 7 and (parts[1], parts[3]) == (TOP, "notes"):
            yield parts[2], note


class _OneSnapshot:
    """What can be read of one snapshot, as records."""

    def __init__(self, rewriter: Rewriter, repository: Repository, snapshot: Snapshot) -> None:
        self._rewriter, self._repository, self._snapshot = rewriter, repository, snapshot
        self._ledger, self._chats = Ledger(), Chats()
        self._ledger.titles = self._chats.titles
        self._previous: dict[str, SourceFolder] = {}
        self._deleted: dict[str, bytes] = {}
        self._saved: list[bytes] = []

    def way_is_lost(self) -> bool:
        """As the function of this name."""
        top = self._below(self._tree(self._snapshot.tree), TOP)
        sources = [self._below(top, name) for name, node in (top or {}).items() if node.subtree]
        return top is None or any(inside is None or self._below(inside, "catalog") is None for inside in sources)

    def gather(self) -> None:
        """Read all there is."""
        older = self._rewriter.before(self._snapshot)
        base = (source_folders(self._repository, older.tree) or {}) if older is not None else {}
        top = self._below(self._tree(self._snapshot.tree), TOP)
        self._saved = (self._lost_or(top, SAVED_FILE) or self._saved_of(older) or b"").splitlines()
        if top is None:
            for home, folder in base.items():
                self._take_source(home, folder, folder, {})
            self._take_orphans(None)
            return
        for home in [name for name, node in top.items() if node.subtree]:
            inside, known = self._below(top, home), base.get(home, SourceFolder())
            catalog = self._below(inside, "catalog")
            notes = {} if inside is not None and "notes" not in inside else self._below(inside, "notes")
            folder = SourceFolder(catalog or known.catalog, notes or {})
            months = {chat: self._months_of(node) for chat, node in (notes or {}).items()}
            self._take_source(home, folder, known, months, rebuild=notes is None)
            if catalog is None:
                self._take_orphans(home)

    def bundle(self, writer: Writer) -> str:
        """Write catalogs and folders; the id of the tree."""
        return Bundler(self._repository, writer, self._ledger, self._chats, self._previous).write(self._deleted, self._saved)

    # Reading what may be lost

    def _tree(self, id: str | None) -> dict[str, Node] | None:
        """The entries of a folder by name; None where it is lost."""
        try:
            return None if id is None else {node.name: node for node in self._repository.load_tree(id).nodes}
        except IntegrityError:
            return None

    def _below(self, nodes: dict[str, Node] | None, name: str) -> dict[str, Node] | None:
        return self._tree(nodes[name].subtree) if nodes and name in nodes else None

    def _bytes(self, node: Node | None) -> bytes | None:
        """A file of the archive itself; None where it is lost or not there."""
        try:
            return None if node is None else read_node(self._repository, node)
        except IntegrityError:
            return None

    def _lost_or(self, nodes: dict[str, Node] | None, name: str) -> bytes | None:
        return self._bytes(nodes.get(name)) if nodes else None

    def _saved_of(self, snapshot: Snapshot | None) -> bytes | None:
        return None if snapshot is None else self._lost_or(self._below(self._tree(snapshot.tree), TOP), SAVED_FILE)

    def _months_of(self, chat: Node) -> _Months | None:
        """The months of a chat folder; None where that is lost."""
        months = self._tree(chat.subtree)
        return None if months is None else {name: self._tree(node.subtree) for name, node in months.items()}

    # Taking in

    def _take_source(
        self, home: str, folder: SourceFolder, known: SourceFolder, chats: dict[str, _Months | None], *, rebuild: bool = False
    ) -> None:
        """The records of a source. Months of which all is there stay as they are; the others are written anew, and with `rebuild`, or where
        a whole chat's folder is lost, all of them."""
        rebuild = rebuild or None in chats.values()
        data = {month: self._bytes(folder.catalog.get(f"{month}.jsonl")) for month in folder.months()}
        self._take_lists(home, folder, known, [text for text in data.values() if text is not None])
        torn = {month for months in chats.values() for month, files in (months or {}).items() if files is None}
        whole = SourceFolder({}, {} if rebuild else {chat: folder.notes[chat] for chat in folder.notes})
        for month in sorted({*data, *(month for months in chats.values() for month in months or {})}):
            text = data.get(month)
            if text is not None and not rebuild and month not in torn:
                whole.catalog[f"{month}.jsonl"] = folder.catalog[f"{month}.jsonl"]
                self._ledger.load(home, month, lambda text=text: text, lambda _: True)  # type: ignore[misc]
                continue
            notes = map(decode_note, text.splitlines()) if text is not None else self._from_files(home, month, known, chats)
            for note in notes:
                self._ledger.add(home, note)
        self._previous[home] = whole

    def _take_lists(self, home: str, folder: SourceFolder, known: SourceFolder, catalogs: Sequence[bytes]) -> None:
        """The chats with the folders that they have, and what was deleted."""
        for one in (folder, known):
            if (listed := self._bytes(one.catalog.get("chats.jsonl"))) is not None:
                self._chats.load(home, decode_chats(listed))
                break
        for text in catalogs:
            for note in map(decode_note, text.splitlines()):
                self._meet(home, note)
        gone = [self._bytes(one.catalog.get("deleted.jsonl")) for one in (folder, known)]
        if deleted := next((text for text in gone if text is not None), None):
            self._deleted[home] = deleted

    def _meet(self, home: str, note: Note) -> None:
        """A chat keeps the folder in which its notes stand."""
        if note.chat_id is not None and note.path is not None:
            titles = [note.chat] if note.chat else []
            self._chats.load(home, [Chat(chat_id=note.chat_id, titles=titles, folder=note.path.split("/")[-3])])

    def _from_files(self, home: str, month: str, known: SourceFolder, chats: dict[str, _Months | None]) -> Iterator[Note]:
        """The records of a month whose catalog is lost: those that other snapshots have of its files, or what the files tell. Where a
        folder is lost as well, what the snapshot before had in it."""
        records = self._rewriter.known(self._snapshot.hostname)
        by_folder = {chat.folder: chat for chat in self._chats.of(home) if chat.folder}
        before = [note for line in (self._bytes(known.catalog.get(f"{month}.jsonl")) or b"").splitlines() for note in [decode_note(line)]]
        for chat, months in chats.items():
            files = (months or {}).get(month)
            if files is None:
                yield from (note for note in before if (note.path or "").split("/")[-3:-1] == [chat, month])
                continue
            for node in files.values():
                path = f"/{TOP}/{home}/notes/{chat}/{month}/{node.name}"
                same = [note for note in records.get(path, ()) if (note.blobs or []) == (node.content or [])]
                yield same[0] if same else self._of_file(home, path, node, by_folder.get(chat) or self._chat_of(home, chat))

    def _chat_of(self, home: str, folder: str) -> Chat | None:
        """A chat of which only the folder is left: known by the title in its name, as those of exported chats are."""
        if folder == UNSORTED:
            return None
        title = folder[:-5] or folder
        chat = Chat(chat_id=EXPORTED + title, titles=[title], folder=folder)
        self._chats.load(home, [chat])
        return chat

    def _of_file(self, home: str, path: str, node: Node, chat: Chat | None) -> Note:
        """What a file in a folder tells of its note: a run that sees the note again learns the rest."""
        blobs = node.content or []
        sent_at = node.mtime if node.mtime != _EPOCH and is_time(node.mtime) else None
        return Note(
            id=blobs[0] if len(blobs) == 1 else self._hash(blobs), blobs=blobs, size=node.size, kind=kind_of_name(path),
            chat=chat.titles[-1] if chat is not None and chat.titles else None, chat_id=chat.chat_id if chat is not None else None,
            sent_at=sent_at, sent_at_from="file" if sent_at else None, original_path=node.name, path=path,
            found=[Place(home, node.name)], first_seen=self._snapshot.time,
        )  # fmt: skip

    def _hash(self, blobs: list[str]) -> str | None:
        """The id of a note of several blobs; None where one of them is lost."""
        whole = hashlib.sha256()
        try:
            for blob in blobs:
                whole.update(self._repository.load_blob("data", blob))
        except DamagedObject:
            return None
        return whole.hexdigest()

    def _take_orphans(self, home: str | None) -> None:
        """Records in catalogs that no snapshot names any more: of this source, or of all."""
        for source, note in self._rewriter.orphans():
            if home in (None, source):
                self._meet(source, note)
                merge(self._ledger, source, note)
