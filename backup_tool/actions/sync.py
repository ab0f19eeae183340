"""Bring every destination level: what the first has that others lack, and what waits here for any of them."""

from __future__ import annotations

import time
from contextlib import ExitStack

import msgspec

from backup_tool.actions.deliver import Delivered, Shipping
from backup_tool.actions.prune_mirrors import Removed, remove_pruned
from backup_tool.actions.state import State
from backup_tool.destinations.places import where
from backup_tool.destinations.several.delivery import Delivery
from backup_tool.models import Progress, Secret
from backup_tool.repository import Repository


class SyncResult(msgspec.Struct, omit_defaults=True):
    """What every destination took, what was removed from mirrors, and how long it all lasted."""

    destinations: list[Delivered]
    seconds: float
    removed: list[Removed] = []


def sync(
    delivery: Delivery, password: Secret, state: State, progress: Progress, *, prune: bool = False, dry_run: bool = False
) -> tuple[SyncResult, int]:
    """Do it: every object of the first place that is reached is compared with the others' by name and size. The exit code, too.

    With `prune`, what was pruned at the primary is removed from the mirrors that are level (with `dry_run` it is only told). Raises Locked,
    NoRepository, WrongPassword, IntegrityError (see `remove_pruned`), and what the places raised where none is reached.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(state.run_lock(where(delivery), delivery.label))
        repository = Repository.open(delivery, password)
        lock = stack.enter_context(repository.lock())
        delivery.sweep()
        with Shipping(delivery, repository, lock, state, progress) as shipping:
            shipping.begin(all_data=True)
            places, code = shipping.finish()
        done = SyncResult(places, 0.0)
        if prune and places[0].status == "delivered":
            level = [place for place, one in zip(delivery.places[1:], places[1:], strict=True) if one.status == "delivered"]
            done.removed = remove_pruned(delivery, repository, level, state, progress, dry_run=dry_run)
    done.seconds = round(time.monotonic() - started, 3)
    return done, code
