"""Snapshots: one moment of the archive (restic's design document, section "Snapshots")."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import msgspec

from backup_tool.repository import gojson, times
from backup_tool.repository.sealed import Unreadable, parse

MAX_SNAPSHOT = 4 * 2**20
_SHORT = 16
_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Snapshot(msgspec.Struct, kw_only=True):
    """What a snapshot says. `id` is the name of its file ("" until it is saved), `time` RFC 3339 as stored, `tree` the id of its root.

    `original` is the first id of a snapshot that was rewritten since; `summary` the counts of the run that made it, in restic's words.
    `ancestors` is ours alone: its parent, that one's parent and so on, by the first 16 digits of their ids. Whoever reads the newest
    snapshot of a host need not read those: whatever they hold of the archive view, it holds too.
    """

    id: str = ""
    time: str
    parent: _Id | None = None
    tree: _Id
    paths: list[str] | None = None
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: list[str] | None = None
    tags: list[str] | None = None
    original: _Id | None = None
    program_version: str = ""
    summary: dict[str, Any] | None = None
    ancestors: list[str] | None = None

    def when(self) -> datetime:
        """The moment in UTC, to the microsecond."""
        return times.moment(self.time)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The JSON of a snapshot, fields in restic's order, empty ones left out. Raises ValueError for a time that is none."""
    snapshot.when()
    s = snapshot
    fields: dict[str, Any] = {
        "time": s.time, "parent": s.parent, "tree": s.tree, "paths": s.paths or [], "hostname": s.hostname or None,
        "username": s.username or None, "uid": s.uid or None, "gid": s.gid or None, "excludes": s.excludes or None, "tags": s.tags or None,
        "original": s.original, "program_version": s.program_version or None, "summary": s.summary,
        "ancestors": s.ancestors or None,
    }  # fmt: skip
    return gojson.record(fields).encode()


def decode_snapshot(id: str, json: bytes) -> Snapshot:
    """A snapshot from its JSON. Raises Unreadable."""
    snapshot = parse(json, Snapshot)
    snapshot.id = id
    try:
        snapshot.when()
    except ValueError as error:
        raise Unreadable(f"its time is {error}") from None
    return snapshot


def oldest_first(snapshot: Snapshot) -> tuple[datetime, str]:
    """The key to sort snapshots by."""
    return snapshot.when(), snapshot.id


def short_id(id: str) -> str:
    """An id as it stands among `ancestors`."""
    return id[:_SHORT]


def ancestry(parent: Snapshot, known: Iterable[Snapshot], stored: Iterable[str]) -> list[str]:
    """The `ancestors` of a snapshot to be made: its parent, and the chain above it as far as it is known, the nearest first.

    Only those that are still `stored`, by their ids; one of the `known` that was rewritten since goes by its first id as well.
    """
    by_id = {id: one for one in known for id in (one.original, one.id) if id}
    chain: dict[str, None] = {}
    at: Snapshot | None = parent
    while at is not None and short_id(at.id) not in chain:
        chain |= dict.fromkeys([short_id(at.id), *(at.ancestors or ())])
        at = by_id.get(at.parent or "")
    here = {short_id(id) for id in (*stored, *by_id)}
    return [id for id in chain if id in here]
