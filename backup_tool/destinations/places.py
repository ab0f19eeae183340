"""Where a destination is on this machine, if it is."""

from __future__ import annotations

import os
from pathlib import Path

from backup_tool.destinations.base import Destination
from backup_tool.destinations.local import LocalDestination


def folder_of(destination: Destination) -> Path | None:
    """The folder of this machine that the destination is, which other processes may open too; None where it is none."""
    return destination.path if isinstance(destination, LocalDestination) else None


def where(destination: Destination) -> str:
    """The place itself, however it was spelled: what tells two copies of one repository apart. For comparing, not for showing."""
    folder = folder_of(destination)
    return destination.label if folder is None else os.path.realpath(folder)
