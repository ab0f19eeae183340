"""Remove locks that nobody holds any more."""

from __future__ import annotations

from backup_tool.repository import Repository


def unlock(repository: Repository, *, remove_all: bool) -> list[str]:
    """The ids of the locks that were removed: stale ones, or all."""
    return [lock.id for lock in repository.unlock(remove_all=remove_all)]
