"""Bring every destination level: what the first has that others lack, and what waits here for any of them."""

from __future__ import annotations

import time
from contextlib import ExitStack

import msgspec

from backup_tool.actions.deliver import Delivered, Shipping
from backup_tool.actions.state import State
from backup_tool.destinations.delivery import Delivery
from backup_tool.destinations.places import where
from backup_tool.models import Progress, Secret
from backup_tool.repository import Repository


class SyncResult(msgspec.Struct):
    """What every destination took, and how long it all lasted."""

    destinations: list[Delivered]
    seconds: float


def sync(delivery: Delivery, password: Secret, state: State, progress: Progress) -> tuple[SyncResult, int]:
    """Do it: every object of the first place that is reached is compared with the others' by name and size. The exit code, too.

    Raises Locked, NoRepository, WrongPassword, and what the places raised where none is reached.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(state.run_lock(where(delivery), delivery.label))
        repository = Repository.open(delivery, password)
        lock = stack.enter_context(repository.lock())
        delivery.sweep()
        shipping = stack.enter_context(Shipping(delivery, repository, lock, state, progress))
        shipping.begin(all_data=True)
        shipping.settle()
        places, code = shipping.finish()
    return SyncResult(places, round(time.monotonic() - started, 3)), code
