"""Where a destination is on this machine, if it is."""

from __future__ import annotations

import os
from pathlib import Path

from backup_tool.destinations.base import Destination, Noticing
from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.several.delivery import Delivery
from backup_tool.destinations.several.reading import Several


def folder_of(destination: Destination) -> Path | None:
    """The folder of this machine that holds all of it, which other processes may read too; None where there is none."""
    if isinstance(destination, Several):
        view = destination.view
        return None if view is None or destination.waiting is not None else folder_of(view.destination)
    return destination.path if isinstance(destination, LocalDestination) else None


def writing_folder(destination: Destination) -> Path | None:
    """The folder of this machine in which other processes may store objects for it; None where there is none."""
    return destination.store.path if isinstance(destination, Delivery) else folder_of(destination)


def where(destination: Destination) -> str:
    """The place itself, however it was spelled: what tells two copies of one repository apart. For comparing, not for showing.

    Of several places it is the view, and as long as that is not known, the primary.
    """
    if isinstance(destination, Several):
        return where((destination.view or destination.places[0]).destination)
    folder = folder_of(destination)
    return destination.label if folder is None else os.path.realpath(folder)


def notices(destination: Destination) -> list[str]:
    """What a person should do before it is too late, as any of the places says; whatever is wrapped around them."""
    if isinstance(destination, Several):
        return [text for place in destination.places for text in notices(place.destination)]
    if isinstance(destination, Noticing):
        return list(destination.notices())
    inner = getattr(destination, "inner", None)
    return notices(inner) if isinstance(inner, Destination) else []
