"""Create a repository."""

from __future__ import annotations

import getpass
import os

from backup_tool.destinations.base import KINDS, Destination
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import UsageError
from backup_tool.models import Secret
from backup_tool.names import shown
from backup_tool.repository import Repository


def refuse_taken(destination: Destination) -> None:
    """Raises UsageError where a repository is already, or where a folder holds anything else: an archive wants one of its own."""
    if destination.exists():
        raise UsageError(f"there is a repository at {destination.label} already", "choose another place, or use the one that is there")
    if not isinstance(destination, LocalDestination):
        return
    path, name = destination.path, shown(str(destination.path))
    if path.exists() and not path.is_dir():
        raise UsageError(f"{name} is a file", "name a folder")
    others = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if foreign := [entry for entry in others if entry not in (*KINDS, *_FORMATTED)]:
        hint = f"give the archive a folder of its own: {shown(os.path.join(path, 'voice-notes'))}"
        raise UsageError(f"{name} holds something else already ({shown(foreign[0])})", hint)


# What a freshly formatted disk holds; and the folders of an earlier try to make a repository, which may go on.
_FORMATTED = ("lost+found", "System Volume Information", "$RECYCLE.BIN", ".Trashes", ".fseventsd", ".Spotlight-V100", ".DS_Store")


def init(destination: Destination, password: Secret, *, host: str) -> dict[str, str]:
    """Make the place ready and write key and config. Raises UsageError, touching nothing, where `refuse_taken` would."""
    refuse_taken(destination)
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = ""
    made = Repository.create(destination, password, hostname=host, username=user)
    return {"id": made.id, "repository": destination.label}
