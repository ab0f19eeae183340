"""Everything that snapshots name, followed from their roots: what of it is lost, and which snapshots are torn by that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from backup_tool.errors import DamagedObject
from backup_tool.repository.index import BlobKind
from backup_tool.repository.repository import Repository
from backup_tool.repository.sealed import Unreadable
from backup_tool.repository.snapshots import Snapshot
from backup_tool.repository.trees import Tree, decode_tree

_DEEPEST = 1_000

Seek = Callable[[BlobKind, str], bool]
"""Says whether a blob can be had; may look for it elsewhere."""


@dataclass(slots=True)
class Reached:
    """`lost` are the blobs that cannot be had, each with a path at which it is missed; `torn` the ids of the snapshots of which folders, or
    files that are read as a part of the archive itself (see `walk`), are among them."""

    lost: dict[tuple[BlobKind, str], str] = field(default_factory=dict)
    torn: set[str] = field(default_factory=set)


def walk(repo: Repository, snapshots: Iterable[Snapshot], seek: Seek, is_vital: Callable[[str], bool]) -> Reached:
    """Follow snapshots through their folders, each tree once. `is_vital` says of a path in a snapshot whether losing that file tears it."""
    reached, parents, torn = Reached(), defaultdict[str, set[str]](set), set[str]()
    roots = {snapshot.id: snapshot.tree for snapshot in snapshots}
    level, seen = dict.fromkeys(roots.values(), ""), set(roots.values())
    for _ in range(_DEEPEST):
        deeper: dict[str, str] = {}
        for id, tree in _trees(repo, level, seek):
            if tree is None:
                reached.lost["tree", id] = level[id] or "/"
                torn.add(id)
                continue
            for node in tree.nodes:
                path = f"{level[id]}/{node.name}"
                for blob in node.content or ():
                    if not seek("data", blob):
                        reached.lost.setdefault(("data", blob), path)
                        if is_vital(path):
                            torn.add(id)
                if node.subtree is not None:
                    parents[node.subtree].add(id)
                    if node.subtree not in seen:
                        seen.add(node.subtree)
                        deeper[node.subtree] = path
        level = deeper
    waiting = list(torn)
    while waiting:
        above = parents[waiting.pop()] - torn
        torn |= above
        waiting += above
    reached.torn = {id for id, root in roots.items() if root in torn}
    return reached


def _trees(repo: Repository, ids: Iterable[str], seek: Seek) -> Iterator[tuple[str, Tree | None]]:
    there = []
    for id in ids:
        if seek("tree", id):
            there.append(id)
        else:
            yield id, None
    for request in repo.plan_reads("tree", there):
        try:
            found = dict(repo.read(request))
        except DamagedObject:
            found = {}
        for id, _ in request.blobs:
            yield id, _tree(repo, id, found.get(id))


def _tree(repo: Repository, id: str, blob: bytes | None) -> Tree | None:
    try:
        return decode_tree(repo.load_blob("tree", id) if blob is None else blob)
    except (DamagedObject, Unreadable):
        return None
