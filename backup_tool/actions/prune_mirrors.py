"""Remove from mirrors what was pruned at the primary: objects that it is known to have had, and has no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from backup_tool.actions.state import State
from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.places import where
from backup_tool.destinations.several.delivery import Delivery
from backup_tool.destinations.several.reading import Place
from backup_tool.destinations.several.spool import QUEUED, Parcel, Spool
from backup_tool.errors import BackupError, IntegrityError
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
    snapshots disappeared from the primary that nobody said were removed on purpose; BackupError where a mirror has snapshots that the
    primary never had: what was pruned there may be what these are made of.
    """
    primary = delivery.primary
    copy = f"{repository.id} {where(primary.destination)}"
    there: dict[ObjectKind, set[str]] = {kind: {name for name, _ in primary.destination.list(kind)} for kind in QUEUED}
    if gone := state.held(copy) - there["snapshots"]:
        hint = f"if you removed them on purpose, say so once: backup check --accept-gone --repo {primary.name}"
        raise IntegrityError(f"{len(gone)} snapshots have disappeared from {primary.name}: mirrors keep them", hint)
    assert delivery.spool is not None
    found = [(mirror, _list(delivery.spool, repository.at(mirror.destination), mirror, there)) for mirror in mirrors]
    for mirror, parcels in found:
        _refuse_its_own(mirror, parcels, there["snapshots"], primary.name)
    if any(parcels for _, parcels in found) and not dry_run:
        _refuse_unsound(repository.at(primary.destination), primary.name, progress)
        for mirror, parcels in found:
            there_alone = partial(_refuse_its_own, mirror, parcels, there["snapshots"], primary.name)
            _remove(repository.at(mirror.destination), mirror, parcels, there_alone, state, progress)
    return [Removed(mirror.name, len(parcels), sum(one.size for one in parcels)) for mirror, parcels in found]


def _list(spool: Spool, repository: Repository, mirror: Place, there: dict[ObjectKind, set[str]]) -> list[Parcel]:
    """What the mirror has that the primary had, and has no more; in the order in which it may go: snapshots, index, packs.

    No index file is left behind that names a pack which goes. One that only the mirror has goes too, where it names nothing else but what
    the primary has; else the packs that it names stay.
    """
    gone = {kind: {name: size for name, size in mirror.destination.list(kind) if name not in there[kind]} for kind in QUEUED}
    pruned = {kind: {name: size for name, size in gone[kind].items() if name in spool.had(kind)} for kind in QUEUED}
    own = [(name, size, repository.packs_in_index(name, size)) for name, size in gone["index"].items() if name not in pruned["index"]]
    while kept := [one for one in own if one[2] & pruned["data"].keys() and not one[2] <= pruned["data"].keys() | there["data"]]:
        for _, _, packs in kept:
            pruned["data"] = {name: size for name, size in pruned["data"].items() if name not in packs}
    pruned["index"] |= {name: size for name, size, packs in own if packs & pruned["data"].keys()}
    return [Parcel(kind, name, size) for kind in reversed(QUEUED) for name, size in sorted(pruned[kind].items())]


def _refuse_its_own(mirror: Place, parcels: list[Parcel], stored: set[str], primary: str) -> None:
    """Another machine may have another place for its primary, and this mirror for it."""
    known = stored | {one.name for one in parcels if one.kind == "snapshots"}
    if own := sum(name not in known for name, _ in mirror.destination.list("snapshots")):
        many = "a snapshot" if own == 1 else f"{own} snapshots"
        raise BackupError(
            f"{mirror.name} has {many} that {primary} never had: nothing is removed from any place",
            f"what is there: backup snapshots --repo {mirror.name}",
        )


def _remove(
    repository: Repository, mirror: Place, parcels: list[Parcel], refuse_its_own: Callable[[], None], state: State, progress: Progress
) -> None:
    _refuse_unsound(repository, mirror.name, progress)
    with repository.lock(exclusive=True) as lock:
        refuse_its_own()
        state.forgotten_by_us(f"{repository.id} {where(mirror.destination)}", [one.name for one in parcels if one.kind == "snapshots"])
        for one in parcels:
            lock.refuse_if_lost()
            mirror.destination.remove(one.kind, one.name)


def _refuse_unsound(repository: Repository, name: str, progress: Progress) -> None:
    errors = [one for one in check_repository(repository, read_data=False, progress=progress) if one.severity == "error"]
    if errors:
        hint = f"see all that is wrong: backup check --repo {name}"
        raise IntegrityError(f"{name} is not sound, so nothing is removed from any place: {errors[0].message}", hint)
