"""Look into a repository: which snapshots make up the archive view, their catalogs, and snapshots that another program wrote.

/voice-notes/saved.jsonl
/voice-notes/<source>/catalog/<YYYY-MM>.jsonl, chats.jsonl, deleted.jsonl
/voice-notes/<source>/notes/<chat folder>/<YYYY-MM>/<file name>
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import msgspec

from backup_tool.catalog import (
    MONTH,
    CatalogDamaged,
    Entry,
    Marks,
    View,
    by_time,
    decode_chats,
    decode_deleted,
    entry_decoder,
    file_name,
    joined_chats,
    time_of,
    time_text,
)
from backup_tool.errors import DamagedObject, IntegrityError, ObjectMissing, UsageError
from backup_tool.models import IMPORTED, SAVED_FILE, Chat, Place, Problem
from backup_tool.names import safe_name, shown
from backup_tool.repository import Node, Repository, Snapshot, short_id

TOP = "voice-notes"
FOREIGN = "restic"
_MONTHS_AT_ONCE = 24
_SPECIAL = {"symlink": "a symbolic link", "dev": "a device", "chardev": "a device", "fifo": "a named pipe", "socket": "a socket"}
# The same set-id bits as Go's FileMode writes them in a tree (restic's design document, section Trees and Data).
_SET_ID = 1 << 23 | 1 << 22


_Home = tuple[str | None, str]
"""The host and the source in whose folder a record stands."""


@dataclass(slots=True)
class SourceFolder:
    """What a snapshot holds of one source: the nodes of its catalog files, and of its chat folders."""

    catalog: dict[str, Node] = field(default_factory=dict)
    notes: dict[str, Node] = field(default_factory=dict)

    def months(self) -> list[str]:
        """The months with a catalog file, oldest first, `undated` last."""
        names = (name.removesuffix(".jsonl") for name in self.catalog if name.endswith(".jsonl"))
        return sorted(name for name in names if MONTH.fullmatch(name))


def ours(snapshot: Snapshot) -> bool:
    """True for a snapshot that this program wrote and nobody rewrote."""
    return (snapshot.program_version or "").startswith("backup ")


def source_folders(repository: Repository, root: str) -> dict[str, SourceFolder] | None:
    """The sources in a snapshot's tree by name; None for a snapshot without a catalog (another program's)."""
    top = _child(repository, root, TOP)
    if top is None:
        return None
    folders = {}
    for node in repository.load_tree(top).nodes:
        if node.subtree is None:
            continue
        inside = {below.name: below.subtree for below in repository.load_tree(node.subtree).nodes if below.subtree}
        if "catalog" in inside:
            folders[node.name] = SourceFolder(
                *(
                    {below.name: below for below in repository.load_tree(inside[part]).nodes} if part in inside else {}
                    for part in ("catalog", "notes")
                )
            )
    return folders or (None if not _is_empty_archive(repository, top) else {})


def _is_empty_archive(repository: Repository, top: str) -> bool:
    """True for a snapshot of a host that has no notes of its own yet; it may have saved others'."""
    return all(node.name == SAVED_FILE for node in repository.load_tree(top).nodes)


def load_marks(repository: Repository, root: str, marks: Marks) -> None:
    """Take in what a snapshot's tree says of saved notes. Raises CatalogDamaged, and what reading the repository raises."""
    top = _child(repository, root, TOP)
    nodes = repository.load_tree(top).nodes if top else ()
    for node in nodes:
        if node.name == SAVED_FILE and node.type == "file":
            marks.load(read_node(repository, node))


def _child(repository: Repository, tree: str, name: str) -> str | None:
    return next((node.subtree for node in repository.load_tree(tree).nodes if node.name == name and node.subtree), None)


def read_node(repository: Repository, node: Node) -> bytes:
    """The bytes of a small file of a snapshot (a catalog file)."""
    blobs = dict(repository.load_blobs("data", node.content or []))
    return b"".join(blobs[blob] for blob in node.content or [])


def catalog_files(repository: Repository, nodes: Iterable[Node]) -> list[bytes]:
    """The bytes of several catalog files, in the order of the nodes, read together."""
    wanted = list(nodes)
    blobs = dict(repository.load_blobs("data", [blob for node in wanted for blob in node.content or []]))
    return [b"".join(blobs[blob] for blob in node.content or []) for node in wanted]


def tips(snapshots: list[Snapshot]) -> list[Snapshot]:
    """The snapshots that make up the archive view, newest first: of each host the newest, and those outside its chain of parents.

    That is every snapshot from which no other of its host descends: right even where a clock went backwards. A rewritten snapshot
    is found by the id it had first.
    """
    above = {(one.hostname, id) for one in snapshots for id in [short_id(one.parent or ""), *(one.ancestors or ())] if id}
    ends = [one for one in snapshots if not {(one.hostname, short_id(id)) for id in (one.id, one.original) if id} & above]
    return sorted(ends, key=lambda snapshot: snapshot.when(), reverse=True)


def find_snapshot(snapshots: list[Snapshot], wanted: str) -> Snapshot:
    """The snapshot that a person named: `latest`, or a prefix of its id of 4 or more characters. Raises UsageError."""
    if wanted == "latest" and snapshots:
        return snapshots[-1]
    found = [snapshot for snapshot in snapshots if len(wanted) >= 4 and snapshot.id.startswith(wanted.lower())]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} snapshots begin with" if found else "no snapshot begins with"
    raise UsageError(f'{what} "{shown(wanted)}"', "'backup snapshots' lists them; give 4 or more characters of an id, or latest")


def problem_of(damaged: DamagedObject) -> Problem:
    """A damaged object, to be named among what was left out."""
    return Problem(f"{damaged.kind} {damaged.name[:16]}", damaged.reason)


_Folders = tuple[Snapshot, dict[str, SourceFolder] | None]
"""A snapshot and what it holds of each source; None for one of another program."""


class Archive:
    """The archive view of an open repository, or the view of one snapshot."""

    def __init__(self, repository: Repository, snapshot: str | None = None) -> None:
        self.repository = repository
        self.damage: list[DamagedObject] = []
        """Snapshots and index files that cannot be read. What others know of the notes is the view all the same."""
        snapshots = (repository.newest_snapshots if snapshot is None else repository.snapshots)(self.damage.append)
        self._refuse_damaged(snapshot, any_left=bool(snapshots))
        repository.load_index(self.damage.append)
        if any(damaged.kind == "index" for damaged in self.damage):
            repository.know_loose_packs()
        self._torn: list[Problem] = []
        self.lost = False
        """True where `problems` holds damage. Filled while `entries` runs, too."""
        self.problems: list[Problem] = []
        """What is not in the view: `damage`, and what could not be taken from other programs' snapshots. Filled while `entries` runs."""
        self._folders = self._readable_tips(snapshots) if snapshot is None else [self._with_folders(find_snapshot(snapshots, snapshot))]
        self.snapshots = [one for one, _ in self._folders]

    def _with_folders(self, one: Snapshot) -> _Folders:
        return one, source_folders(self.repository, one.tree)

    def _readable_tips(self, snapshots: list[Snapshot]) -> list[_Folders]:
        """The tips with their folders. One whose trees cannot be read is named as damage, and its parents stand for it."""
        bad: set[str] = set()
        while True:
            found = []
            for one in tips(snapshots):
                try:
                    found.append(self._with_folders(one))
                except DamagedObject as damaged:
                    bad.add(one.id)
                    self.damage.append(DamagedObject("snapshot", one.id, damaged.message))
            left = [one for one in snapshots if one.id not in bad]
            if len(left) == len(snapshots):
                return found
            snapshots = [one for one in self.repository.snapshots(lambda _: None) if one.id not in bad]
            if not snapshots:
                raise self.damage[-1]

    def entries(self, id_prefix: str = "") -> Iterator[Entry]:
        """Every note whose id begins so, oldest first, undated last. One snapshot with a catalog streams; several are merged in memory."""
        joined, saved = self._joined_chats, self.saved
        self.problems = [*map(problem_of, self.damage), *self._torn]
        self.lost = bool(self.problems)
        for item in map(self._in_real_chat, self._entries(id_prefix)) if joined else self._entries(id_prefix):
            item.saved = item.id in saved
            yield item

    def _entries(self, id_prefix: str) -> Iterator[Entry]:
        if len(self._folders) == 1 and self._folders[0][1] is not None:
            yield from self._stream(self.snapshots[0], self._folders[0][1], id_prefix)
            return
        view = View(self._titles_of)
        deleted = self.deleted()
        for snapshot, folders in self._folders:
            for item in self._foreign(snapshot) if folders is None else self._stream(snapshot, folders, id_prefix):
                if item.id not in deleted and (item.id or "").startswith(id_prefix):
                    view.add(item)
        yield from sorted(view, key=by_time)

    def _in_real_chat(self, item: Entry) -> Entry:
        """A note of a chat that was known by its title only, in the chat that is known to be this one."""
        real = self._joined_chats.get(item.chat_id or "", {}).get((item.host, item.source or ""))
        if real is not None:
            item.chat_id, item.chat = real, self._titles_of(real)[-1]
        return item

    def _refuse_damaged(self, wanted: str | None, *, any_left: bool) -> None:
        """A damaged snapshot that was asked for by name, or is all there is, is no view at all."""
        for damaged in self.damage:
            if not any_left or (wanted is not None and len(wanted) >= 4 and damaged.name.startswith(wanted.lower())):
                raise damaged

    def chats(self) -> list[Chat]:
        """Every chat of the view with every title it ever had; one of several sources is there once. A chat that was known by its title
        only, and is one with another, is there as that: its id is among the titles."""
        chats = {chat.chat_id: chat for chat in self._every_chat}
        for by_title, homes in self._joined_chats.items():
            for real in set(homes.values()):
                chats[real] = msgspec.structs.replace(chats[real], titles=[by_title, *chats[real].titles])
        return [chat for chat_id, chat in chats.items() if self._homes[chat_id] != self._joined_chats.get(chat_id, {}).keys()]

    @cached_property
    def _joined_chats(self) -> dict[str, dict[_Home, str]]:
        """Chats that are known by their title only, by host and source, each with the id of the chat that it is: one with this title that
        the same source knows, or that had a note of it in another. A title alone says nothing across sources: everybody has a "Mama"."""
        by_title = joined_chats(self._every_chat)
        # Into which chat a recording was put a person said, by the title that it has on that machine.
        met = {real: {*self._homes[real], *((host, IMPORTED) for host, _ in self._homes[real])} for real in by_title.values()}
        if by_title and len(self._folders) > 1:
            for item in self._of_several_hosts():
                if item.chat_id in met:
                    met[item.chat_id].update((host, safe_name(place.source)) for host in item.hosts for place in item.found)
        found = {chat: {home: real for home in self._homes[chat] if home in met[real]} for chat, real in by_title.items()}
        return {chat: homes for chat, homes in found.items() if homes}

    def _of_several_hosts(self) -> list[Entry]:
        """The entries that more than one host has, without word of what cannot be read: that is for who lists them to hear."""
        problems, lost = self.problems, self.lost
        self.problems = []
        try:
            return [item for item in self._entries("") if len(item.hosts) > 1]
        finally:
            self.problems, self.lost = problems, lost

    @cached_property
    def _homes(self) -> dict[str, set[_Home]]:
        """The host and source of every list that has a chat, by the chat's id."""
        homes: dict[str, set[_Home]] = defaultdict(set)
        for home, chats in self._chat_lists:
            for chat in chats:
                homes[chat.chat_id].add(home)
        return homes

    @cached_property
    def _chat_lists(self) -> list[tuple[_Home, list[Chat]]]:
        return [
            ((snapshot.hostname, source), self._chats_of(folder))
            for snapshot, folders in reversed(self._folders)
            for source, folder in (folders or {}).items()
        ]

    @cached_property
    def _titles(self) -> dict[str, list[str]]:
        return {chat.chat_id: chat.titles for chat in self._every_chat}

    def _titles_of(self, chat_id: str) -> list[str]:
        return self._titles.get(chat_id, [])

    @cached_property
    def _every_chat(self) -> list[Chat]:
        merged: dict[str, Chat] = {}
        for _, chats in self._chat_lists:
            for chat in chats:
                known = merged.setdefault(chat.chat_id, Chat(chat_id=chat.chat_id, folder=chat.folder))
                known.folder = known.folder or chat.folder
                known.titles = [title for title in known.titles if title not in chat.titles] + chat.titles
        return list(merged.values())

    @cached_property
    def saved(self) -> frozenset[str]:
        """The ids of the notes that a person saved, on whichever host. A list that is damaged is a problem of the view, no error."""
        marks = Marks()
        for snapshot in self.snapshots:
            try:
                load_marks(self.repository, snapshot.tree, marks)
            except (CatalogDamaged, IntegrityError) as damaged:
                self._torn.append(Problem(SAVED_FILE, damaged.message))
        return marks.ids()

    def deleted(self) -> set[str]:
        """The ids that a person removed from any snapshot of the view."""
        nodes = [folder.catalog.get("deleted.jsonl") for _, folders in self._folders for folder in (folders or {}).values()]
        return {gone for data in catalog_files(self.repository, [node for node in nodes if node]) for gone in decode_deleted(data)}

    def _chats_of(self, folder: SourceFolder) -> list[Chat]:
        node = folder.catalog.get("chats.jsonl")
        try:
            return decode_chats(read_node(self.repository, node)) if node else []
        except (CatalogDamaged, IntegrityError) as damaged:
            self._torn.append(Problem("chats.jsonl", damaged.message))
            return []

    def _stream(self, snapshot: Snapshot, folders: dict[str, SourceFolder], id_prefix: str) -> Iterator[Entry]:
        months = sorted({month for folder in folders.values() for month in folder.months()})
        for start in range(0, len(months), _MONTHS_AT_ONCE):
            parts = [
                (month, source, node)
                for month in months[start : start + _MONTHS_AT_ONCE]
                for source, folder in folders.items()
                if (node := folder.catalog.get(f"{month}.jsonl"))
            ]
            files = self._catalog_files(node for _, _, node in parts)
            for month in months[start : start + _MONTHS_AT_ONCE]:
                here = [(source, files[n]) for n, (m, source, _) in enumerate(parts) if m == month]
                items = (item for source, data in here for item in self._month(snapshot, folders[source], source, month, data, id_prefix))
                yield from sorted(items, key=by_time)

    def _catalog_files(self, nodes: Iterable[Node]) -> list[bytes | IntegrityError]:
        """The bytes of catalog files, or why they cannot be read: one that is damaged costs no other."""
        wanted = list(nodes)
        try:
            return list(catalog_files(self.repository, wanted))
        except IntegrityError:
            return list(map(self._catalog_file, wanted))

    def _catalog_file(self, node: Node) -> bytes | IntegrityError:
        try:
            return read_node(self.repository, node)
        except IntegrityError as damaged:
            return damaged

    def _month(
        self, snapshot: Snapshot, folder: SourceFolder, source: str, month: str, data: bytes | IntegrityError, id_prefix: str
    ) -> list[Entry]:
        """The notes of a month of a source. Where its catalog is damaged, that is named, and they are what the folders still tell."""
        if isinstance(data, bytes):
            try:
                return list(_entries(data, source, snapshot.hostname, id_prefix))
            except CatalogDamaged as damaged:
                reason = damaged.message
        else:
            reason = data.message
        told = "names and times of its notes are lost; the audio is not"
        self._torn_apart(f"{source}/catalog/{month}.jsonl", f"{reason}: {told}")
        return [item for item in self._by_folders(snapshot, folder, source, month) if (item.id or "").startswith(id_prefix)]

    def _by_folders(self, snapshot: Snapshot, folder: SourceFolder, source: str, month: str) -> Iterator[Entry]:
        titles = {chat.folder: chat for chat in self._every_chat if chat.folder}
        for name, chat in folder.notes.items():
            tree = _child(self.repository, chat.subtree or "", month)
            for node in self.repository.load_tree(tree).nodes if tree else ():
                item = self._foreign_entry(snapshot, node, f"{TOP}/{source}/notes/{name}/{month}/{node.name}")
                item.source, item.found, item.original_path = source, [Place(source, node.name)], node.name
                if known := titles.get(name):
                    item.chat_id, item.chat = known.chat_id, known.titles[-1] if known.titles else None
                yield item

    def _torn_apart(self, path: str, reason: str) -> None:
        """A part of our own catalogs that cannot be read."""
        self.problems.append(Problem(path, reason))
        self.lost = True

    def _foreign(self, snapshot: Snapshot) -> Iterator[Entry]:
        """Every regular file of a snapshot without a catalog. What is refused or left out is named in `problems`."""
        waiting = [("", snapshot.tree, 0)]
        while waiting:
            above, tree, depth = waiting.pop()
            try:
                listing = self.repository.load_tree(tree)
            except IntegrityError as damaged:
                self._lost(above or "/", damaged)
                continue
            self.problems += [Problem(above + shown(refused.path), refused.reason) for refused in listing.refused]
            for node in listing.nodes:
                path = above + node.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                if node.type == "dir" and node.subtree and depth < 1000:
                    waiting.append((path + "/", node.subtree, depth + 1))
                elif node.type == "file" and not (node.mode or 0) & _SET_ID:
                    try:
                        yield self._foreign_entry(snapshot, node, path)
                    except IntegrityError as damaged:
                        self._lost(path, damaged)
                else:
                    self.problems.append(Problem(path, f"left out: it is {_SPECIAL.get(node.type, 'not an ordinary file')}"))

    def _lost(self, path: str, damaged: IntegrityError) -> None:
        """A folder or file of another program's snapshot that is damaged."""
        self.problems.append(Problem(path, damaged.message))
        self.lost = True

    def _foreign_entry(self, snapshot: Snapshot, node: Node, path: str) -> Entry:
        from backup_tool.sources import kind_of_name, time_of_name

        blobs = node.content or []
        if stored_size(self.repository, blobs) != node.size:
            raise IntegrityError("its size is not that of its content")
        modified = _moment(node.mtime)
        named = time_of_name(path.rpartition("/")[2])
        return Entry(
            id=blobs[0] if len(blobs) == 1 else self._hash(blobs),
            blobs=blobs,
            size=node.size or 0,
            kind=kind_of_name(path),
            sent_at=named or modified,
            sent_at_from="name" if named else "file" if modified else None,
            original_path=path,
            path="/" + path,
            found=[Place(FOREIGN, path)],
            first_seen=time_text(snapshot.when()),
            source=FOREIGN,
            host=snapshot.hostname,
            hosts=[snapshot.hostname] if snapshot.hostname else [],
        )

    def _hash(self, blobs: list[str]) -> str:
        """The id of a file that another program cut into pieces is nowhere written down: it is read and hashed."""
        whole = hashlib.sha256()
        for blob in blobs:
            whole.update(self.repository.load_blob("data", blob))
        return whole.hexdigest()


def _entries(data: bytes, source: str, host: str | None, id_prefix: str) -> Iterator[Entry]:
    # One note among many thousands: most lines need not be decoded to see that they are not it.
    wanted = f'"id":"{id_prefix}'.encode() if id_prefix else b""
    try:
        for line in data.splitlines() if wanted in data else ():
            if wanted not in line:
                continue
            item = entry_decoder.decode(line)
            item.source, item.host, item.hosts = source, host, [host] if host else []
            if item.sent_at is not None and not is_time(item.sent_at):  # for `check` to tell; here it is a note without a time
                item.sent_at = item.sent_at_from = None
            yield item
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise CatalogDamaged(f"a catalog of source {shown(source)} is damaged: {broken}", "run 'backup check' to see all damage") from None


def is_time(text: str) -> bool:
    """True for a moment as records have it: RFC 3339 in UTC."""
    try:
        return text.endswith("Z") and time_of(text).year > 1
    except (ValueError, OverflowError):
        return False


def stored_size(repository: Repository, blobs: Iterable[str]) -> int:
    """How many bytes these blobs are together, by the index. Raises IntegrityError where one of them is not in the archive."""
    try:
        return sum(repository.blob_length("data", blob) for blob in blobs)
    except ObjectMissing:
        raise IntegrityError("its content is not in the archive: no index names it") from None


def _moment(mtime: str | None) -> str | None:
    """A node's time as a record's, or None outside 2009 … now + 1 day, where times are unknown."""
    try:
        moment = datetime.fromisoformat(mtime or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return time_text(moment) if moment.year >= 2009 and (moment - datetime.now(UTC)).days < 1 else None


def read_note(repository: Repository, item: Entry) -> Iterator[bytes]:
    """The audio of a note, blob by blob. Raises IntegrityError when, at the end, it is not the note that the catalog names."""
    name, hint = f"note {shown(item.id or '?', 16)}", "run 'backup check --read-data' to see all damage"
    try:
        size = stored_size(repository, item.blobs or ())
    except IntegrityError as gone:
        raise IntegrityError(f"{name}: {gone.message}", hint) from None
    whole = hashlib.sha256()
    # No more is read than the record promises, however many pieces it names.
    for blob in item.blobs or () if size == item.size else ():
        data = repository.load_blob("data", blob)
        whole.update(data)
        yield data
    if whole.hexdigest() != item.id or size != item.size:
        raise IntegrityError(f"{name} is not what its record says", hint)


def pick(entries: Iterable[Entry], wanted: str) -> Entry:
    """The note that a person named by a prefix of its id (4 or more hex digits), or `latest`. Raises UsageError.

    Of a recording that was found in several places it is the record that has a chat.
    """
    found: dict[str, Entry] = {}
    for item in entries:
        if wanted == "latest":
            if item.sent_at or not found:
                found = {"latest": item}
        elif item.id and item.id.startswith(wanted.lower()):
            known = found.get(item.id)
            found[item.id] = item if known is None or (known.chat_id is None and item.chat_id is not None) else known
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        what = "no note is there" if wanted == "latest" else f'no note begins with "{shown(wanted)}"'
        raise UsageError(what, "'backup list' shows the notes and their ids; filters leave some out")
    names = ", ".join(f"{note_id[:12]} ({shown(file_name(item.original_path))})" for note_id, item in list(found.items())[:5])
    raise UsageError(f'{len(found)} notes begin with "{shown(wanted)}"', f"give more of the id: {names}")


def check_prefix(wanted: str) -> None:
    """Raises UsageError where this cannot name a note."""
    if wanted != "latest" and (len(wanted) < 4 or any(digit not in "0123456789abcdefABCDEF" for digit in wanted)):
        raise UsageError(f'"{shown(wanted)}" is not the id of a note', "give 4 or more digits of an id from 'backup list', or latest")
