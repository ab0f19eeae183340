"""Open a repository of which the config or key files are damaged or gone, with what copies of it have.

Nothing is written here: what is to be stored so that the repository opens by itself again is given back as `Put`s.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec

from backup_tool.destinations.base import Destination, ObjectKind
from backup_tool.errors import BackupError, DamagedObject, IntegrityError, NoRepository, ObjectMissing
from backup_tool.models import Secret
from backup_tool.repository import keys, polynomial
from backup_tool.repository.crypto import BrokenSeal, Key
from backup_tool.repository.index import MAX_INDEX
from backup_tool.repository.locks import Clock
from backup_tool.repository.objects import load_whole, name_of
from backup_tool.repository.repository import Config, Repository, parse_config
from backup_tool.repository.snapshots import MAX_SNAPSHOT

_TRIED = 20
"""So many objects are looked at to tell whose they are: some of them may be damaged, too."""


class Put(NamedTuple):
    """An object to be stored under its name. `problem`: what is wrong with what is there, `remedy`: where the bytes come from."""

    kind: ObjectKind
    name: str
    data: bytes
    problem: str
    remedy: str


def open_damaged(
    destination: Destination, password: Secret, copies: Mapping[str, Destination], *, may_renew: bool, clock: Clock | None = None
) -> tuple[Repository, list[Put]]:
    """Open a repository, and say what has to be stored so that it opens by itself. `copies` are places with copies of it, by their names.

    Where nobody has a config that belongs to it, a new one is made if `may_renew`. Raises what `Repository.open` does.
    """
    if not destination.exists() and not any(True for kind in _KINDS for _ in destination.list(kind)):
        raise NoRepository(f"there is no repository at {destination.label}", "is the disk mounted? to make a new one: 'backup init'")
    key_id, key, puts = _open_key(destination, password, copies)
    config, renewed = _read_config(destination, key, copies, may_renew)
    return Repository(destination, key, key_id, config, clock or Clock()), puts + renewed


_KINDS: tuple[ObjectKind, ...] = ("keys", "snapshots", "index")


def _open_key(destination: Destination, password: Secret, copies: Mapping[str, Destination]) -> tuple[str, Key, list[Put]]:
    try:
        return (*keys.open_key(destination, password), [])
    except IntegrityError as error:  # one that this password does not open is WrongPassword, and no damage
        for data, key in keys.open_damaged(destination, password):
            return name_of(data), key, []  # where keys are looked at, it gets the name of its bytes
        for origin, copy in copies.items():
            with suppress(BackupError):
                key_id, key = keys.open_key(copy, password)
                if _is_sealed_with(destination, key):
                    data = copy.load("keys", key_id)
                    return key_id, key, [Put("keys", key_id, data, "no key file is there that opens", f"copied from {origin}")]
        raise error


def _is_sealed_with(destination: Destination, key: Key) -> bool:
    """Whether this is the master key of what lies there: some config, index file or snapshot opens with it."""
    return any(_opens(key, stored) for stored in _some_sealed(destination))


def _some_sealed(destination: Destination) -> Iterator[bytes]:
    with suppress(BackupError):
        yield destination.load("config", "config")
    for kind, limit in (("snapshots", MAX_SNAPSHOT), ("index", MAX_INDEX)):
        for name, size in sorted(destination.list(kind), key=lambda item: item[1])[:_TRIED]:  # type: ignore[arg-type]
            with suppress(BackupError):
                yield load_whole(destination, kind, name, size, limit)  # type: ignore[arg-type]


def _opens(key: Key, stored: bytes) -> bool:
    try:
        key.open(stored)
    except BrokenSeal:
        return False
    return True


def _read_config(destination: Destination, key: Key, copies: Mapping[str, Destination], may_renew: bool) -> tuple[Config, list[Put]]:
    try:
        return parse_config(key, destination.load("config", "config")), []
    except ObjectMissing:
        problem = "it is missing"
        error: BackupError = NoRepository(f"there is no config at {destination.label}", _HINT)
    except DamagedObject as damaged:
        problem, error = damaged.reason, DamagedObject("config", "config", damaged.reason, _HINT)
    for origin, copy in copies.items():
        with suppress(BackupError):
            data = copy.load("config", "config")
            return parse_config(key, data), [Put("config", "config", data, problem, f"copied from {origin}")]
    if not may_renew:
        raise error
    config = Config(version=2, id=secrets.token_hex(32), chunker_polynomial=f"{polynomial.random_polynomial():x}")
    data = key.sealed(msgspec.json.encode(config))
    return config, [Put("config", "config", data, problem, "made anew: the repository has another id from now on")]


_HINT = "a copy of the repository at another place has it: backup repair --from PLACE"
