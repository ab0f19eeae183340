"""What lies in a repository and no snapshot names, after snapshots or catalogs were lost: put into snapshots of its own.

Whole folders of a lost snapshot become one again just as they are. Records in catalogs to which no folder leads are put together. Audio of
which not even a record is left is there under its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from backup_tool import __version__
from backup_tool.actions.archive import TOP, Archive, catalog_files, load_marks, source_folders, tips
from backup_tool.actions.bundle import Bundler, Chats
from backup_tool.actions.repairing.rewrite import Rewriter
from backup_tool.actions.worker import PIECE
from backup_tool.audio import SNIFF_BYTES, UNKNOWN, media_type_of
from backup_tool.catalog import CatalogDamaged, Ledger, Marks, decode_note, merge, time_text
from backup_tool.errors import IntegrityError
from backup_tool.models import Chat, Note
from backup_tool.repository import Node, Repository, Snapshot, encode_tree
from backup_tool.repository.reachable import walk
from backup_tool.repository.sealed import Unreadable
from backup_tool.repository.trees import decode_tree

_FOUND = "found"
_NO_TIME = "1970-01-01T00:00:00Z"
_SUFFIXES = {
    "audio/ogg": "opus", "audio/amr": "amr", "audio/mp4": "m4a", "audio/3gpp": "3gp", "audio/mpeg": "mp3", "audio/aac": "aac",
    "audio/wav": "wav",
}  # fmt: skip


class Unnamed:
    """Looks for it. `snapshots` are those that stay; the index has to be that of sound packs."""

    def __init__(self, repository: Repository, snapshots: Sequence[Snapshot]) -> None:
        self._repository, self._snapshots = repository, list(snapshots)
        self._saved: frozenset[str] = frozenset()
        self._ids: set[str | None] = set()
        self._messages: set[tuple[str | None, str | None]] = set()
        self._deleted: set[str] = set()

    def store(self) -> Iterator[tuple[str, str]]:
        """Write the snapshots, each only when all it names is stored; the id of each, and in words what is in it."""
        self._look_at_view()
        for notes in self._folders():
            yield self._newest(), f"made of folders to which no snapshot led any more, with {_counted(notes)} that no other one has"
        if notes := self._records():
            yield self._newest(), f"made of catalogs to which no snapshot led any more, with {_counted(notes)}"
        if notes := self._audio():
            yield self._newest(), f"made of the audio of {_counted(notes)} whose chat, sender and time are lost"

    def _newest(self) -> str:
        return self._snapshots[-1].id

    def _look_at_view(self) -> None:
        marks = Marks()
        for one in self._snapshots:
            self._load_marks(one.tree, marks)
        self._saved = marks.ids()
        for one in tips(self._snapshots):
            try:
                view = Archive(self._repository, one.id)
                self._deleted |= view.deleted()
                for item in view.entries():
                    self._ids.add(item.id)
                    self._messages.add((item.chat_id, item.message_id))
            except IntegrityError:  # another program's, and torn: what is in there is named all the same
                continue

    def _is_new(self, note: Note) -> bool:
        if note.id in self._deleted:
            return False
        if note.chat_id is not None and note.message_id is not None and (note.chat_id, note.message_id) not in self._messages:
            return True
        return note.id not in self._ids

    def _named(self) -> set[tuple[str, str]]:
        """Every blob to which a snapshot leads."""
        named: set[tuple[str, str]] = set()

        def seek(kind: str, id: str) -> bool:
            named.add((kind, id))
            return self._repository.has(kind, id)  # type: ignore[arg-type]

        walk(self._repository, self._snapshots, seek, lambda path: False)
        return named

    def _folders(self) -> Iterator[int]:
        """Snapshots of roots that no snapshot has any more, those with most first."""
        roots = dict(self._roots())
        while roots:
            new = {id: [note for note in notes if self._is_new(note)] for id, notes in roots.items()}
            best = max(new, key=lambda id: (len(new[id]), len(roots[id]), id))
            notes = roots.pop(best)
            marks = Marks()
            for one in [*(snapshot.tree for snapshot in self._snapshots), best]:
                self._load_marks(one, marks)
            if not new[best] and marks.ids() == self._saved:
                continue
            self._save(best, [TOP], max((note.first_seen or "" for note in notes), default=""), f"backup {__version__}")
            self._saved = marks.ids()
            self._ids.update(note.id for note in notes)
            self._messages.update((note.chat_id, note.message_id) for note in notes)
            yield len(new[best])

    def _load_marks(self, root: str, marks: Marks) -> None:
        try:
            load_marks(self._repository, root, marks)
        except (CatalogDamaged, IntegrityError):
            return

    def _roots(self) -> Iterator[tuple[str, list[Note]]]:
        named = self._named()
        loose = {id.hex() for kind, id, _ in self._repository.index.blobs() if kind == "tree"} - {
            id for kind, id in named if kind == "tree"
        }
        for id, blob in list(self._repository.load_blobs("tree", loose)):
            try:
                nodes = decode_tree(blob).nodes
                if [node.name for node in nodes] != [TOP] or nodes[0].subtree is None:
                    continue
                pretended = Snapshot(id=id, time=_NO_TIME, tree=id)
                if walk(self._repository, [pretended], self._repository.has, _is_catalog).torn:
                    continue
                folders = source_folders(self._repository, id) or {}
                months = [folder.catalog[f"{month}.jsonl"] for folder in folders.values() for month in folder.months()]
                yield id, [decode_note(line) for data in catalog_files(self._repository, months) for line in data.splitlines()]
            except (Unreadable, CatalogDamaged, IntegrityError):
                continue

    def _records(self) -> int:
        """A snapshot of the records that no snapshot leads to. Where the audio is lost, a run that finds it stores it again."""
        ledger, chats = Ledger(), Chats()
        ledger.titles = chats.titles
        for home, note in Rewriter(self._repository, self._snapshots, set()).orphans():
            if self._is_new(note) and note.blobs is not None:
                if note.chat_id is not None and note.path is not None:
                    titles = [note.chat] if note.chat else []
                    chats.load(home, [Chat(chat_id=note.chat_id, titles=titles, folder=note.path.split("/")[-3])])
                merge(ledger, home, note)
        if not len(ledger):
            return 0
        count, newest = len(ledger), max((ledger.note(number).first_seen or "" for number in ledger), default="")
        with self._repository.writer(verify_writes=True) as writer:
            tree = Bundler(self._repository, writer, ledger, chats, {}).write({}, [])
        self._save(tree, [TOP], newest, f"backup {__version__}")
        return count

    def _audio(self) -> int:
        """A snapshot of the files of which nothing but the audio is left. One that was cut into blobs is put together where these follow
        one another in their pack, as they were written."""
        named, index = self._named(), self._repository.index
        places = sorted(
            ((place.pack, place.offset), id.hex(), place.plain_length)
            for kind, id, place in index.blobs()
            if kind == "data" and not place.raw_length and ("data", id.hex()) not in named and id.hex() not in self._deleted
        )
        files: list[tuple[list[str], int, bytes]] = []
        goes_on = False
        for (pack, _), id, size in {id: (at, id, size) for at, id, size in places}.values():
            head = self._repository.load_blob("data", id)[:SNIFF_BYTES]
            if goes_on and files[-1][2] == pack and media_type_of(head) == UNKNOWN:
                files[-1] = ([*files[-1][0], id], files[-1][1] + size, pack)
            else:
                files.append(([id], size, pack))
            goes_on = size == PIECE
        if not files:
            return 0
        nodes = [self._file(blobs, size) for blobs, size, _ in files]
        with self._repository.writer(verify_writes=True) as writer:
            inside = writer.add("tree", encode_tree(nodes))[0]
            tree = writer.add("tree", encode_tree([Node.folder(_FOUND, inside, _NO_TIME)]))[0]
        self._save(tree, [_FOUND], "", "")
        return len(files)

    def _file(self, blobs: list[str], size: int) -> Node:
        suffix = _SUFFIXES.get(media_type_of(self._repository.load_blob("data", blobs[0])[:SNIFF_BYTES]), "audio")
        return Node.file(f"{blobs[0]}.{suffix}", size, blobs, _NO_TIME)

    def _save(self, tree: str, paths: list[str], time: str, program: str) -> None:
        """A host of its own: whose the notes were nobody knows, and so no other snapshot stands before it or after it."""
        one = Snapshot(
            time=time or time_text(datetime.now(UTC)), tree=tree, paths=[f"/{path}" for path in paths],
            hostname=f"recovered-{tree[:8]}", program_version=program,
        )  # fmt: skip
        self._repository.save_snapshot(one)
        self._snapshots.append(one)


def _is_catalog(path: str) -> bool:
    """Whether a snapshot without this file is no good: one without the audio of a note still knows of the note."""
    return path.split("/")[3:4] != ["notes"]


def _counted(notes: int) -> str:
    return f"{notes} note{'' if notes == 1 else 's'}"
