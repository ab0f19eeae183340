"""Write what a run knows as the catalogs and trees of a new snapshot. Only what changed is written again: the rest keeps its ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from backup_tool.actions.archive import TOP, SourceFolder
from backup_tool.actions.merge_packs import MOST_CATALOG_PACKS, MOST_TREE_PACKS, keep_together
from backup_tool.actions.worker import PIECE
from backup_tool.catalog import UNDATED, UNSORTED, Ledger, encode_chat, encode_note, name_worth, record_order
from backup_tool.models import SAVED_FILE, Chat, Note
from backup_tool.names import chat_folder, folded, safe_name, told_apart
from backup_tool.repository import Node, Repository, Writer, encode_tree

_EPOCH = "2009-01-01T00:00:00Z"
"""The time of files that have none: fixed, so that the same catalog makes the same tree."""


class Chats:
    """The chats of one host by source: their titles, and the folder each got when it was first seen."""

    def __init__(self) -> None:
        self._by_home: dict[str, dict[str, Chat]] = defaultdict(dict)

    def load(self, home: str, chats: Iterable[Chat]) -> None:
        """Take in the chats of a catalog: folders stand as they are, titles are joined."""
        for chat in chats:
            known = self._by_home[home].setdefault(chat.chat_id, chat)
            if known is not chat:
                known.titles = [title for title in chat.titles if title not in known.titles] + known.titles
                known.folder = known.folder or chat.folder

    def of(self, home: str) -> list[Chat]:
        """The chats of a source, in a fixed order."""
        return sorted(self._by_home[home].values(), key=lambda chat: chat.chat_id)

    def folder(self, home: str, note: Note) -> str:
        """The folder of a note's chat below `notes/`: chosen at first sight and never again."""
        if note.chat_id is None:
            return UNSORTED
        chat = self._chat(home, note)
        if chat.folder is None:
            taken = {folded(other.folder) for other in self._by_home[home].values() if other.folder}
            name = chat_folder(chat.titles[0] if chat.titles else note.chat_id, note.chat_id)
            chat.folder = name if folded(name) not in taken else told_apart(name, note.chat_id)
        return chat.folder

    def _chat(self, home: str, note: Note) -> Chat:
        assert note.chat_id is not None
        chat = self._by_home[home].setdefault(note.chat_id, Chat(chat_id=note.chat_id))
        if note.chat and note.chat not in chat.titles:
            chat.titles.append(note.chat)
        return chat

    def titles(self, chat_id: str) -> list[str]:
        """Every title that the chat had in any source."""
        return [title for chats in self._by_home.values() if chat_id in chats for title in chats[chat_id].titles]

    def meet(self, home: str, chat_id: str) -> None:
        """A source, whose notes of it stand elsewhere, knows this chat too."""
        if self._by_home.get(home) and chat_id not in self._by_home[home] and (title := self.title(chat_id)):
            self._by_home[home][chat_id] = Chat(chat_id=chat_id, titles=[title])

    def title(self, chat_id: str) -> str | None:
        """What the chat is called now, of several sources by the best name; None for one that has no title."""
        newest = [chats[chat_id].titles[-1] for chats in self._by_home.values() if chat_id in chats and chats[chat_id].titles]
        return max(newest, key=name_worth, default=None)

    def rename(self, chats: Iterable[Chat]) -> dict[str, str]:
        """Learn the titles that a run saw; the ids whose title is new, with it."""
        new: dict[str, str] = {}
        for seen in chats:
            for known in (chats_of[seen.chat_id] for chats_of in self._by_home.values() if seen.chat_id in chats_of):
                for title in seen.titles:
                    newest = known.titles[-1] if known.titles else None
                    # A night without contacts knows only numbers: they never replace a name.
                    if newest != title and name_worth(title) >= name_worth(newest):
                        known.titles = [old for old in known.titles if old != title] + [title]
                        new[seen.chat_id] = title
        return new


class Bundler:
    """Writes the tree of a snapshot from a ledger and the trees of the snapshot before it."""

    def __init__(self, repository: Repository, writer: Writer, ledger: Ledger, chats: Chats, previous: dict[str, SourceFolder]) -> None:
        self._repository = repository
        self._writer = writer
        self._ledger = ledger
        self._chats = chats
        self._previous = previous
        self._way: dict[str, bytes] = {}
        """The trees on the way to the catalogs, by their ids."""
        self._catalogs: list[str] = []

    def write(self, deleted: dict[str, bytes], saved: list[bytes]) -> str:
        """Write catalogs and trees; the id of the snapshot's tree. `deleted` are the `deleted.jsonl` by source, `saved` the lines of the
        `saved.jsonl`, as they stand.

        The ledger's records are let go of as they are written: it answers no questions afterwards.
        """
        stale: dict[str, dict[str, list[int]]] = defaultdict(dict)
        for home, month in self._ledger.stale_months:
            stale[home][month] = []
        for number in self._ledger:
            months = stale.get(self._ledger.home(number))
            if months is not None and (month := self._ledger.month(number)) in months:
                months[month].append(number)
        nodes = [self._write_source(home, stale.get(home, {}), deleted.get(home)) for home in sorted({*stale, *self._previous})]
        if saved:
            nodes.append(self._file(SAVED_FILE, saved, _EPOCH))
        tree = self._tree([self._way_folder(TOP, [node for node in nodes if node])], on_the_way=True)
        keep_together(self._repository, self._writer, "tree", self._way, MOST_TREE_PACKS, self._way)
        keep_together(self._repository, self._writer, "catalog", self._catalogs, MOST_CATALOG_PACKS)
        return tree

    def _write_source(self, home: str, months: dict[str, list[int]], deleted: bytes | None) -> Node | None:
        before = self._previous.get(home, SourceFolder())
        catalog = dict(before.catalog)
        by_chat: dict[str, dict[str, Node | None]] = defaultdict(dict)
        for chat, month in {_part(path) for of, path in self._ledger.left if of == home}:
            by_chat[chat][month] = None
        for month, numbers in sorted(months.items()):
            catalog.pop(f"{month}.jsonl", None)
            if numbers:
                catalog[f"{month}.jsonl"] = self._write_month(home, month, numbers, by_chat)
        chats = [encode_chat(chat) for chat in self._chats.of(home)]
        if chats:
            catalog["chats.jsonl"] = self._file("chats.jsonl", chats, _EPOCH)
        if deleted:
            catalog["deleted.jsonl"] = self._file("deleted.jsonl", deleted.splitlines(), _EPOCH)
        notes = self._write_chats(before.notes, by_chat)
        if not catalog and not notes:
            return None
        self._catalogs += [blob for node in catalog.values() for blob in node.content or ()]
        return self._way_folder(safe_name(home), [self._way_folder("catalog", catalog.values()), self._way_folder("notes", notes)])

    def _write_month(self, home: str, month: str, numbers: list[int], by_chat: dict[str, dict[str, Node | None]]) -> Node:
        """Write one month's catalog file, and the folder of each chat in which something of that month changed."""
        notes = sorted(((self._ledger.note(number), number) for number in numbers), key=lambda pair: record_order(pair[0]))
        self._place(home, month, notes)
        lines, parts = [], defaultdict[str, list[Note]](list)
        changed = {chat for chat, months in by_chat.items() if month in months}
        for note, number in notes:
            chat = _part(note.path or "")[0]
            parts[chat].append(note)
            if self._ledger.changed[number]:
                changed.add(chat)
            lines.append(encode_note(note))
            self._ledger.let_go(number)
        for chat in changed:
            by_chat[chat][month] = self._folder(month, map(_node, parts[chat])) if parts[chat] else None
        return self._file(f"{month}.jsonl", lines, _start_of(month))

    def _place(self, home: str, month: str, notes: list[tuple[Note, int]]) -> None:
        """Give each note its path in the snapshot. One that stands in the right folder already keeps it."""
        taken, homeless = set[str](), list[tuple[Note, str]]()
        folders: dict[str | None, str] = {}
        for note, _ in notes:
            folder = folders.get(note.chat_id)
            if folder is None:
                folder = folders[note.chat_id] = f"/{TOP}/{safe_name(home)}/notes/{self._chats.folder(home, note)}/{month}"
            if note.path and note.path.rpartition("/")[0] == folder and folded(note.path) not in taken:
                taken.add(folded(note.path))
            else:
                homeless.append((note, folder))
        for note, folder in homeless:
            name = safe_name((note.original_path or note.id or "").rpartition("/")[2])
            path = f"{folder}/{name}"
            for key in (note.id or "", f"{note.id} {note.message_id} {note.original_path}"):
                if folded(path) in taken:
                    path = f"{folder}/{told_apart(name, key)}"
            note.path = path
            taken.add(folded(path))

    def _write_chats(self, before: dict[str, Node], by_chat: dict[str, dict[str, Node | None]]) -> list[Node]:
        """The chat folders: those in which nothing changed as they were."""
        chats = dict(before)
        for chat, months in by_chat.items():
            old = chats.pop(chat, None)
            inside: dict[str, Node | None] = {}
            if old is not None and old.subtree:
                inside.update((node.name, node) for node in self._repository.load_tree(old.subtree).nodes)
            inside.update(months)
            left = [node for node in inside.values() if node]
            if left:
                chats[chat] = self._folder(chat, left)
        return list(chats.values())

    def _file(self, name: str, lines: list[bytes], mtime: str) -> Node:
        data = b"".join(line + b"\n" for line in lines)
        pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
        return Node.file(name, len(data), [self._writer.add("catalog", piece)[0] for piece in pieces], mtime)

    def _folder(self, name: str, nodes: Iterable[Node], *, on_the_way: bool = False) -> Node:
        inside = list(nodes)
        # Without its "Z" such a time sorts as text: a fraction comes after the whole second.
        newest = max((node.mtime[:-1] for node in inside if node.mtime.endswith("Z")), default=_EPOCH[:-1])
        return Node.folder(name, self._tree(inside, on_the_way=on_the_way), newest + "Z")

    def _way_folder(self, name: str, nodes: Iterable[Node]) -> Node:
        return self._folder(name, nodes, on_the_way=True)

    def _tree(self, nodes: Iterable[Node], *, on_the_way: bool = False) -> str:
        blob = encode_tree(nodes)
        id = self._writer.add("tree", blob)[0]
        if on_the_way:
            self._way[id] = blob
        return id


def _part(path: str) -> tuple[str, str]:
    """(chat folder, month) of a record's path in the snapshot."""
    _, chat, month, _ = path.rsplit("/", 3)
    return chat, month


def _start_of(month: str) -> str:
    return _EPOCH if month == UNDATED else f"{month}-01T00:00:00Z"


def _node(note: Note) -> Node:
    assert note.path is not None
    mtime = note.sent_at or note.mtime_ns
    return Node.file(note.path.rpartition("/")[2], note.size or 0, note.blobs or [], _EPOCH if mtime is None else mtime)
