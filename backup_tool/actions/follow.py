"""Remove from mirrors what was pruned at the primary: objects that it is known to have had, and has no more."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from backup_tool.actions.state import State
from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.delivery import Delivery
from backup_tool.destinations.places import where
from backup_tool.destinations.several import Place
from backup_tool.destinations.spool import QUEUED, Parcel, Spool
from backup_tool.errors import IntegrityError
from backup_tool.models import Progress
from backup_tool.repository import Repository
from backup_tool.repository.check import check as check_repository


class Removed(msgspec.Struct):
    """What was removed from a mirror, or with `dry_run` would be."""

    name: str
    objects: int
    bytes: int


def remove_pruned(
    delivery: Delivery, repository: Repository, mirrors: Iterable[Place], state: State, progress: Progress, *, dry_run: bool
) -> list[Removed]:
    """Do it at these mirrors, which are level. Everything that goes is named beforehand: nothing but what the primary once had.

    The primary and each mirror are checked first. Raises IntegrityError, removing nothing, where one of them is not sound, or where
    snapshots disappeared from the primary that nobody said were removed on purpose.
    """
    primary = delivery.primary
    copy = f"{repository.id} {where(primary.destination)}"
    there: dict[ObjectKind, set[str]] = {kind: {name for name, _ in primary.destination.list(kind)} for kind in QUEUED}
    if gone := state.held(copy) - there["snapshots"]:
        hint = f"if you removed them on purpose, say so once: backup check --accept-gone --repo {primary.name}"
        raise IntegrityError(f"{len(gone)} snapshots have disappeared from {primary.name}: mirrors keep them", hint)
    assert delivery.spool is not None
    found = [(mirror, _list(delivery.spool, mirror, there)) for mirror in mirrors]
    if any(parcels for _, parcels in found) and not dry_run:
        _refuse_unsound(repository.at(primary.destination), primary.name, progress)
        for mirror, parcels in found:
            _remove(repository.at(mirror.destination), mirror, parcels, state, progress)
    return [Removed(mirror.name, len(parcels), sum(one.size for one in parcels)) for mirror, parcels in found]


def _list(spool: Spool, mirror: Place, there: dict[ObjectKind, set[str]]) -> list[Parcel]:
    """What the mirror has that the primary had, and has no more; in the order in which it may go: snapshots, index, packs."""
    return [
        Parcel(kind, name, size)
        for kind in reversed(QUEUED)
        for name, size in sorted(mirror.destination.list(kind))
        if name in spool.had(kind) and name not in there[kind]
    ]


def _remove(repository: Repository, mirror: Place, parcels: list[Parcel], state: State, progress: Progress) -> None:
    _refuse_unsound(repository, mirror.name, progress)
    with repository.lock(exclusive=True) as lock:
        state.forgotten_by_us(f"{repository.id} {where(mirror.destination)}", [one.name for one in parcels if one.kind == "snapshots"])
        for one in parcels:
            lock.refuse_if_lost()
            mirror.destination.remove(one.kind, one.name)


def _refuse_unsound(repository: Repository, name: str, progress: Progress) -> None:
    errors = [one for one in check_repository(repository, read_data=False, progress=progress) if one.severity == "error"]
    if errors:
        hint = f"see all that is wrong: backup check --repo {name}"
        raise IntegrityError(f"{name} is not sound, so nothing is removed from any place: {errors[0].message}", hint)
