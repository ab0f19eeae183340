"""Create a repository."""

from __future__ import annotations

import getpass

from backup_tool.destinations.base import Destination
from backup_tool.models import Secret
from backup_tool.repository import Repository


def init(destination: Destination, password: Secret, *, host: str) -> dict[str, str]:
    """Make the place ready and write key and config. Raises UsageError, touching nothing, where a repository is already."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = ""
    made = Repository.create(destination, password, hostname=host, username=user)
    return {"id": made.id, "repository": destination.label}
