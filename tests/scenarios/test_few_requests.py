"""Over a network every request is a journey: how many a machine needs that has never seen the archive, and one that has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backup_tool.actions.run import RunPlan, run
from backup_tool.actions.state import State
from backup_tool.config import SourceSpec
from backup_tool.destinations.local import LocalDestination
from backup_tool.models import Progress, Secret
from backup_tool.repository import Repository
from tests.destinations.servers import Rest, serving
from tests.generators.android import CURRENT
from tests.generators.nights import GrowingPhone
from tests.scenarios.world import PASSWORD, Ended, World

NIGHTS, BEFORE, A_NIGHT = 30, 600, 6


@dataclass
class Watched:
    """The archive behind a server that writes down what is asked of it."""

    server: Rest
    world: World

    def asked(self, *words: object, **more: str) -> tuple[list[tuple[str, str]], Ended]:
        """What a command asked for once the archive was open, (method, path) each; and how it ended."""
        self.server.seen.clear()
        ended = self.world.backup(*words, env={"BACKUP_REPOSITORY": f"rest:{self.server.url}", **more})
        seen = [(method, path) for method, path, _ in self.server.seen]
        opened = max(number for number, one in enumerate(seen) if one == ("GET", "/config"))
        assert all("/keys/" in path or path == "/config" for _, path in seen[:opened])
        return seen[opened + 1 :], ended


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive after thirty nights, on each of which some notes were new."""
    folder = tmp_path_factory.mktemp("nights")
    phone = GrowingPhone(folder / CURRENT, chats=12)
    phone.grow(BEFORE, days=300)
    place = LocalDestination(folder / "archive")
    Repository.create(place, Secret(PASSWORD), hostname="host", username="user")
    for _ in range(NIGHTS):
        plan = RunPlan(
            sources=[SourceSpec(name="phone", path=folder / CURRENT)], typed=set(), known_names={"phone"}, destination=place,
            destination_name="archive", mirrors=[], password=Secret(PASSWORD), state=State(folder / "state"), host="host",
        )  # fmt: skip
        run(plan, Progress())
        phone.grow(A_NIGHT, days=1)
    return place.path


@pytest.fixture
def watched(archive: Path, tmp_path: Path) -> Iterator[Watched]:
    with serving(archive) as server:
        yield Watched(server, World(tmp_path / "machine"))


Asked = Callable[..., tuple[list[tuple[str, str]], Ended]]


def test_a_fresh_machine_lists_an_archive_in_twelve_requests(watched: Watched) -> None:
    """After thirty nights, a machine that has never seen the archive lists all of it with at most 12 requests after opening it."""
    asked, ended = watched.asked("list", "--json")
    assert len(ended.json) == BEFORE + (NIGHTS - 1) * A_NIGHT
    assert len(asked) <= 12, asked


def test_one_note_takes_two_more(watched: Watched) -> None:
    """Taking out one note asks for its own bytes besides what a list asks for."""
    listed, ended = watched.asked("list", "--json", "--no-cache")
    for wanted in (ended.json[3], ended.json[-1]):
        asked, out = watched.asked("extract", wanted["id"], "--to", "-", "--no-cache")
        assert len(out.out) == wanted["size"]
        assert len(asked) <= len(listed) + 2, asked


def test_the_second_time_only_listings_are_asked_for(watched: Watched) -> None:
    """What a machine has read of index, snapshots and catalogs it does not fetch again; what is there is asked anew each time."""
    _, first = watched.asked("list", "--json")
    asked, second = watched.asked("list", "--json")
    assert second.out == first.out
    assert asked == [("GET", "/snapshots/"), ("GET", "/index/")]


def test_restic_is_content_with_thirty_nights(archive: Path, tmp_path: Path) -> None:
    """What is stored twice to be found sooner is no error: restic reads every byte, and the check of our own agrees."""
    world = World(tmp_path / "machine", repo=archive)
    world.restic("check", "--read-data")
    assert world.backup("check", "--read-data", "-v").told == ""
