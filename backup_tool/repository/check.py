"""Is everything there, and is it what it should be? What `restic check` looks for, and what it leaves out: sizes, names and their order.

Nothing here stops at damage: each thing that is wrong becomes a Finding, and the next is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from backup_tool.errors import DamagedObject, ObjectMissing, UsageError
from backup_tool.models import Progress
from backup_tool.names import shown
from backup_tool.repository import polynomial, times
from backup_tool.repository.check_packs import PackCheck
from backup_tool.repository.findings import Finding, Findings, Severity
from backup_tool.repository.keys import load_key
from backup_tool.repository.objects import is_id
from backup_tool.repository.repository import Repository
from backup_tool.repository.sealed import Unreadable
from backup_tool.repository.snapshots import Snapshot
from backup_tool.repository.trees import BADLY_QUOTED, Node, Tree, decode_tree, name_bytes

__all__ = ["Finding", "check", "written_by_us"]

_MOST_NODES = 10**7
_DEEPEST = 1_000
_TYPES = frozenset(["file", "dir", "symlink", "dev", "chardev", "fifo", "socket"])


def written_by_us(snapshot: Snapshot) -> bool:
    """True for a snapshot that this program made."""
    return snapshot.program_version.startswith("backup ")


def check(
    repo: Repository,
    *,
    read_data: bool = False,
    subset: tuple[int, int] | None = None,
    progress: Progress | None = None,
    ours: Callable[[Snapshot], bool] = written_by_us,
) -> list[Finding]:
    """Everything that is wrong with a repository, gravest first. Without `read_data` packs are not read, but for their trees.

    `subset` (n, t) reads the n-th of t parts of the packs, the same ones every time: with n = 1 … t all is read. Rules that restic does not
    have are errors only in snapshots that are `ours`, warnings elsewhere. Raises what the destination raises, never for damage.
    """
    part, parts = subset or (1, 1)
    if not 1 <= part <= parts:
        raise UsageError("a subset is n/t with n from 1 to t", "for example 1/8")
    progress = progress or Progress()
    findings = Findings()
    _check_config(repo, findings)
    _check_keys(repo, findings)
    # Before the index, so that what they name is in it; ours first, so that what they share with others is held to the stricter rules.
    snapshots = sorted(repo.snapshots(findings.damage), key=lambda snapshot: not ours(snapshot))
    packs = PackCheck(repo, findings)
    packs.check_index()
    if read_data or subset is not None:
        packs.read_packs(part, parts, progress)
    _TreeCheck(repo, findings, packs, progress).walk(snapshots, ours)
    return findings.gravest_first()


def _check_config(repo: Repository, findings: Findings) -> None:
    text = repo.config.chunker_polynomial
    try:
        number = int(text, 16) if len(text) <= 16 else 0
    except ValueError:
        number = 0
    # restic tests this at every open, and its chunker stops at a degree above 53.
    if number.bit_length() > polynomial.DEGREE + 1 or not polynomial.is_irreducible(number):
        findings.add("error", "config", "config", "its chunker polynomial can be factored: restic will not open this repository")


def _check_keys(repo: Repository, findings: Findings) -> None:
    for name, size in sorted(repo.destination.list("keys")):
        try:
            load_key(repo.destination, name, size)
        except DamagedObject as error:
            findings.damage(error)
        except ObjectMissing:
            continue


class _Folder(NamedTuple):
    """Where a tree was met first, and whether our own rules hold there."""

    path: str
    snapshot: str
    strict: bool

    def of(self, name: str) -> str:
        """An entry of it, as a message names it."""
        return f"{shown(f'{self.path}/{name}')} in snapshot {self.snapshot[:8]}"


class _TreeCheck:
    """Walks every folder of every snapshot, each tree once, level by level, so that trees are read in few requests."""

    def __init__(self, repo: Repository, findings: Findings, packs: PackCheck, progress: Progress) -> None:
        self._repo = repo
        self._findings = findings
        self._packs = packs
        self._progress = progress
        self._seen: set[bytes] = set()
        self._missing: set[tuple[str, bytes]] = set()
        self._nodes = 0

    def walk(self, snapshots: list[Snapshot], ours: Callable[[Snapshot], bool]) -> None:
        self._progress.begin("checking folders", None, "notes")
        level: dict[str, _Folder] = {}
        for snapshot in snapshots:
            self._meet(level, snapshot.tree, _Folder("", snapshot.id, ours(snapshot)))
        for _ in range(_DEEPEST):
            deeper: dict[str, _Folder] = {}
            for id, blob in self._load(level):
                self._check_tree(id, blob, level[id], deeper)
            level = deeper
            if not level or self._nodes > _MOST_NODES:
                break
        if level:
            self._findings.add("error", "repository", self._repo.id, "its folders are too deep or too many to be looked at")
        self._progress.end()

    def _meet(self, level: dict[str, _Folder], id: str, folder: _Folder) -> None:
        """A tree is named: to be looked at once, if it is there."""
        if not is_id(id):
            self._findings.add("error", "tree", shown(id), f"no id: {folder.of('')}")
            return
        raw = bytes.fromhex(id)
        if raw in self._seen:
            return
        self._seen.add(raw)
        if self._packs.usable("tree", raw):
            level[id] = folder
        else:
            self._findings.add("error", "tree", id, f"missing or damaged, and with it all below {folder.of('')}")

    def _load(self, level: dict[str, _Folder]) -> Iterator[tuple[str, bytes]]:
        for request in self._repo.plan_reads("tree", level):
            try:
                yield from self._repo.read(request)
            except DamagedObject:
                yield from self._load_singly([id for id, _ in request.blobs], level)

    def _load_singly(self, ids: list[str], level: dict[str, _Folder]) -> Iterator[tuple[str, bytes]]:
        for id in ids:
            try:
                yield id, self._repo.load_blob("tree", id)
            except DamagedObject as error:
                self._findings.add("error", "tree", id, f"{error.message}, and with it all below {level[id].of('')}")

    def _check_tree(self, id: str, blob: bytes, folder: _Folder, deeper: dict[str, _Folder]) -> None:
        try:
            tree = decode_tree(blob)
        except Unreadable as error:
            self._findings.add("error", "tree", id, f"{error}: {folder.of('')}")
            return
        self._nodes += len(tree.nodes)
        self._progress.step(sum(node.type == "file" for node in tree.nodes))
        for severity, message in _list_faults(tree, folder):
            self._findings.add(severity, "tree", id, message)
        for node in tree.nodes:
            for fixed, message in _node_faults(node):
                self._findings.add(fixed or _own(folder), "tree", id, f"{message}: {folder.of(node.name)}")
            if node.type == "file":
                self._check_content(id, node, folder)
            elif node.type == "dir" and node.subtree is not None:
                self._meet(deeper, node.subtree, folder._replace(path=f"{folder.path}/{node.name}"))

    def _check_content(self, id: str, node: Node, folder: _Folder) -> None:
        length, complete = 0, True
        for blob in node.content or ():
            raw = bytes.fromhex(blob) if is_id(blob) else b""
            if self._packs.usable("data", raw):
                length += self._repo.blob_length("data", blob)
                continue
            complete = False
            if ("data", raw) not in self._missing:
                self._missing.add(("data", raw))
                self._findings.add("error", "blob", shown(blob), f"missing or damaged, and needed by {folder.of(node.name)}")
        if complete and length != node.size:
            told = f"its size is given as {node.size:,} and its blobs have {length:,} bytes: {folder.of(node.name)}"
            self._findings.add(_own(folder), "tree", id, told)


def _own(folder: _Folder) -> Severity:
    return "error" if folder.strict else "warning"


def _list_faults(tree: Tree, folder: _Folder) -> Iterator[tuple[Severity, str]]:
    if tree.null:
        yield "error", f"it says null in place of a list: {folder.of('')}"
    for problem in tree.refused:
        # restic itself stops at a name that was not quoted as it does; the rest it leaves out when it restores.
        yield "error" if problem.reason == BADLY_QUOTED else _own(folder), f"{problem.reason}: {folder.of(problem.path)}"
    for one, next_one in pairwise(tree.nodes):
        if (before := name_bytes(one.name)) >= (after := name_bytes(next_one.name)):
            told = "two entries of this name" if before == after else "not in order of names"
            yield _own(folder), f"{told}: {folder.of(next_one.name)}"


def _node_faults(node: Node) -> Iterator[tuple[Severity | None, str]]:
    """(severity, what is wrong) in the node itself; None = an error where it is ours."""
    if node.type not in _TYPES:
        yield "error", f"unknown type {shown(node.type, 40)}"
    if node.type == "file" and node.content is None:
        yield "error", "a file without a list of blobs"
    if node.type == "dir" and node.subtree is None:
        yield "error", "a folder without a tree"
    if node.type == "file" and node.subtree is not None:
        yield None, "a file with a tree"
    for time in {node.mtime, node.atime, node.ctime} - {""}:
        try:
            times.moment(time)
        except ValueError:
            yield "error", f"{shown(time, 40)} is no time"
