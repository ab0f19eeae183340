"""From the places that were meant to one destination to read from, or to deliver to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backup_tool.actions.state import State
from backup_tool.destinations.base import Destination
from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.several.delivery import Delivery
from backup_tool.destinations.several.reading import Place, Several
from backup_tool.destinations.several.spool import find_spool
from backup_tool.models import Progress


def open_for_reading(places: Sequence[Place], state: State, progress: Progress) -> Destination:
    """One place as it is; of several the first that answers, and the others for what it cannot give; and what waits in the spool."""
    spool = find_spool(state.spools, [place.destination.label for place in places])
    if len(places) == 1 and spool is None:
        return places[0].destination
    return Several(places, spool, told=progress.warn)


def open_for_delivery(places: Sequence[Place], state: State, progress: Progress, spool_size: int, cache: Path | None = None) -> Destination:
    """A single folder of this machine as it is; anything else behind a spool. `cache` is the folder of the cache, if there is one."""
    only_folder = len(places) == 1 and isinstance(places[0].destination, LocalDestination)
    if only_folder and find_spool(state.spools, [places[0].destination.label]) is None:
        return places[0].destination
    return Delivery(places, state.spools, bound=spool_size, cache=cache, told=progress.warn)
