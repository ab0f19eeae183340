"""Encrypted archives in the format of restic, version 2 (https://restic.readthedocs.io/en/stable/100_references.html#design).

`Repository` is the door; the rest are the words it speaks.
"""

from backup_tool.repository.findings import Finding
from backup_tool.repository.index import BlobKind
from backup_tool.repository.keys import KeyInfo
from backup_tool.repository.locks import Clock, HeldLock, Lock
from backup_tool.repository.reading import ReadRequest
from backup_tool.repository.repository import Repository
from backup_tool.repository.snapshots import Snapshot, ancestry, short_id
from backup_tool.repository.trees import Node, Tree, encode_tree
from backup_tool.repository.writer import Writer, WriterStats

__all__ = [
    "BlobKind", "Clock", "Finding", "HeldLock", "KeyInfo", "Lock", "Node", "ReadRequest", "Repository", "Snapshot", "Tree", "Writer",
    "WriterStats", "ancestry", "encode_tree", "short_id",
]  # fmt: skip
