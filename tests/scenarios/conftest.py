"""Machines for the tests here. Their archives are copies of one that `backup init` made, with a key that is cheap to try."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.repository.forge import cheapen
from tests.scenarios.album import Album, make_album
from tests.scenarios.world import PASSWORD, World

NewWorld = Callable[[Path], World]


@pytest.fixture(scope="session")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> NewWorld:
    """Makes a machine with an empty archive in a folder."""
    made = World(tmp_path_factory.mktemp("empty"))
    made.backup("init")
    cheapen(made.repo, PASSWORD)

    def make(folder: Path) -> World:
        world = World(folder)
        shutil.copytree(made.repo, world.repo)
        return world

    return make


@pytest.fixture
def world(new_world: NewWorld, tmp_path: Path) -> World:
    """A machine of the test's own, with an empty archive."""
    return new_world(tmp_path)


@pytest.fixture(scope="session")
def album(new_world: NewWorld, tmp_path_factory: pytest.TempPathFactory) -> Album:
    """An archive to look at, not to change."""
    return make_album(new_world(tmp_path_factory.mktemp("album")))
