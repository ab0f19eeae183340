"""Create a repository, or a mirror of one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec

from backup_tool.actions.state import State, witnessed
from backup_tool.destinations.base import KINDS, Destination
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import UsageError
from backup_tool.models import Secret
from backup_tool.names import shown
from backup_tool.repository import Repository
from backup_tool.repository.locks import user_name


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


def refuse_second(primary: str, mirrors: Mapping[str, Destination]) -> None:
    """Raises UsageError where one of the primary's mirrors (by their names) has an archive, as where only the primary was lost: a new one
    would hide it. Raises what a mirror raises that cannot be asked."""
    for name, mirror in mirrors.items():
        if mirror.exists():
            first = f"put [destinations.{name}] before [destinations.{primary}] in the settings"
            hint = f"{first}, then: backup init --repo {primary}, and: backup sync"
            raise UsageError(f"{name} holds an archive, and {primary} would begin another one", hint)


# What a freshly formatted disk holds; and the folders of an earlier try to make a repository, which may go on.
_FORMATTED = ("lost+found", "System Volume Information", "$RECYCLE.BIN", ".Trashes", ".fseventsd", ".Spotlight-V100", ".DS_Store")


class Made(msgspec.Struct, omit_defaults=True):
    """A repository: its id, where it is, and the mirrors that were made of it just now."""

    id: str
    repository: str
    mirrors: list[str] = []


def init(primary: Destination, mirrors: Sequence[Destination], password: Secret, state: State, *, host: str, create: bool = True) -> Made:
    """Make the repository (unless it is there: `create` is False), and every mirror that is none yet.

    That a mirror which is made anew lacks what was there before is no alarm.

    Raises UsageError, touching nothing, where `refuse_taken` would, for mirrors: where none of them is to be made; NoRepository,
    WrongPassword.
    """
    if create:
        refuse_taken(primary)
        repository = Repository.create(primary, password, hostname=host, username=user_name())
    else:
        repository = Repository.open(primary, password)
    wanted = [mirror for mirror in mirrors if not mirror.exists()]
    if not wanted and not create:
        raise UsageError(f"there is a repository at {mirrors[-1].label} already", "to bring all destinations level: backup sync")
    for mirror in wanted:
        refuse_taken(mirror)
        _mirror(primary, mirror)
        state.remember_snapshots(witnessed(Repository.open(mirror, password)), {})  # and it can be opened there
    return Made(repository.id, primary.label, [mirror.label for mirror in wanted])


def _mirror(primary: Destination, mirror: Destination) -> None:
    """Keys and config; what else there is comes by `run` and `sync`."""
    mirror.create()
    for name, _ in primary.list("keys"):
        mirror.save("keys", name, primary.load("keys", name))
    mirror.save("config", "config", primary.load("config", "config"))
