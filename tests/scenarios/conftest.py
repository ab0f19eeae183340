"""Machines for the tests here. Their archives are copies of one that `backup init` made, with a key that is cheap to try."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.repository.forge import seal, sha, unseal
from tests.scenarios.album import Album, make_album
from tests.scenarios.world import PASSWORD, World

NewWorld = Callable[[Path], World]


@pytest.fixture(scope="session")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> NewWorld:
    """Makes a machine with an empty archive in a folder."""
    made = World(tmp_path_factory.mktemp("empty"))
    made.backup("init")
    make_cheap(made.repo)

    def make(folder: Path) -> World:
        world = World(folder)
        shutil.copytree(made.repo, world.repo)
        return world

    return make


@pytest.fixture
def world(new_world: NewWorld, tmp_path: Path) -> World:
    """A machine of the test's own, with an empty archive."""
    return new_world(tmp_path)


def make_cheap(repo: Path) -> None:
    """The same master key and password in a key file that takes no time to open (restic's design document, Keys)."""
    old = next((repo / "keys").iterdir())
    fields = json.loads(old.read_bytes())
    salt, sealed = base64.b64decode(fields["salt"]), base64.b64decode(fields["data"])
    master = unseal(secrets_from_password(salt, fields["N"]), sealed)
    fields |= {"N": 1024, "data": base64.b64encode(seal(secrets_from_password(salt, 1024), master)).decode()}
    new = json.dumps(fields).encode()
    old.with_name(sha(new)).write_bytes(new)
    old.unlink()


def secrets_from_password(salt: bytes, cost: int) -> tuple[bytes, bytes, bytes]:
    """(encryption key, k and r of the MAC) from the password."""
    key = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=cost, r=8, p=1, maxmem=2**28, dklen=64)
    return key[:32], key[32:48], key[48:]


@pytest.fixture(scope="session")
def album(new_world: NewWorld, tmp_path_factory: pytest.TempPathFactory) -> Album:
    """An archive to look at, not to change."""
    return make_album(new_world(tmp_path_factory.mktemp("album")))
