"""The places that the contract suite runs against. A new kind of destination adds one line to `PLACES` and passes all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup_tool.destinations.base import Destination
from backup_tool.destinations.local import LocalDestination
from tests.destinations.doubles import Flaky, Full, SlowListing

Maker = Callable[[Path], Destination]


def _well_behaved_doubles(path: Path) -> Destination:
    """All doubles around one another on a good day: what misbehaves on purpose must do everything else right."""
    return Flaky(SlowListing(Full(LocalDestination(path), limit=2**40), late=0), seed=0, rate=0)


PLACES: dict[str, Maker] = {"local": LocalDestination, "doubles": _well_behaved_doubles}


@pytest.fixture(params=list(PLACES.values()), ids=list(PLACES))
def make(request: pytest.FixtureRequest) -> Maker:
    """How to open one kind of place at a path."""
    maker: Maker = request.param
    return maker


@pytest.fixture
def place(make: Maker, tmp_path: Path) -> Iterator[Destination]:
    """An empty place, ready for a repository."""
    opened = make(tmp_path / "repository")
    opened.create()
    yield opened
    opened.close()
