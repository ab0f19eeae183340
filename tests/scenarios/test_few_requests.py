"""Over a network every request is a journey: how many a machine needs that has never seen the archive, and one that has."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backup_tool.actions.archive import Archive
from backup_tool.actions.run import RunPlan, run
from backup_tool.actions.state import State
from backup_tool.config import SourceSpec
from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.models import Progress, Secret
from backup_tool.repository import Repository
from tests.destinations.doubles import Wrapper
from tests.destinations.servers import Rest, serving
from tests.generators.android import CURRENT
from tests.generators.nights import GrowingPhone
from tests.generators.ogg import opus_note
from tests.generators.old import put_old
from tests.repository.forge import cheapen
from tests.scenarios.world import PASSWORD, Ended, World

NIGHTS, BEFORE, A_NIGHT = 30, 600, 6


@dataclass
class Watched:
    """The archive behind a server that writes down what is asked of it."""

    server: Rest
    world: World

    def asked(self, *words: object, code: int = 0) -> tuple[list[tuple[str, str]], Ended]:
        """What a command asked for once the archive was open, (method, path) each; and how it ended."""
        self.server.seen.clear()
        ended = self.world.backup(*words, code=code, env={"BACKUP_REPOSITORY": f"rest:{self.server.url}"})
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
    cheapen(place.path, PASSWORD)
    for _ in range(NIGHTS):
        plan = RunPlan(
            sources=[SourceSpec(name="phone", path=folder / CURRENT)], typed=set(), known_names={"phone"}, destination=place,
            destination_name="archive", password=Secret(PASSWORD), state=State(folder / "state"), host="host",
        )  # fmt: skip
        run(plan, Progress())
        phone.grow(A_NIGHT, days=1)
    return place.path


@pytest.fixture
def watched(archive: Path, tmp_path: Path) -> Iterator[Watched]:
    with serving(archive) as server:
        yield Watched(server, World(tmp_path / "machine"))


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


def test_what_is_kept_here_is_encrypted_and_no_recording(watched: Watched, archive: Path) -> None:
    """The cache holds objects exactly as the destination has them, and none that holds a recording."""
    watched.asked("restore", "--to", str(watched.world.folder / "back"))
    kept = [path for path in (watched.world.folder / "cache").rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG"]
    stored = {path.name: path for path in archive.rglob("*") if path.is_file()}
    assert {path.parent.name for path in kept} == {"index", "snapshots", "data"}
    assert all(path.read_bytes() == stored[path.name].read_bytes() for path in kept)
    repo = Repository.open(LocalDestination(archive), Secret(PASSWORD))
    repo.load_index()
    audio = {place.pack.hex() for kind, _, place in repo.index.blobs() if kind == "data" and not place.raw_length}
    assert not audio & {path.name for path in kept}
    shutil.rmtree(watched.world.folder / "cache")
    asked, _ = watched.asked("list")
    assert 2 < len(asked) <= 12


def test_a_check_never_believes_what_is_kept_here(archive: Path, tmp_path: Path) -> None:
    """Damage at the destination is found although this machine has whole copies; listing goes on with those."""
    hurt = tmp_path / "hurt"
    shutil.copytree(archive, hurt)
    with serving(hurt) as server:
        watched = Watched(server, World(tmp_path / "machine"))
        _, before = watched.asked("list", "--json")
        kept = {path.name for path in (watched.world.folder / "cache").rglob("data/*")}
        assert kept
        for path in hurt.glob("data/*/*"):
            if path.name in kept:
                path.chmod(0o600)
                path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
        _, after = watched.asked("list", "--json")
        assert after.out == before.out
        _, found = watched.asked("check", "--read-data", "--json", code=5)
        assert kept <= {finding["name"] for finding in found.json["findings"]}


class Far(Wrapper):
    """The same place over a network, as far as the program knows; what is loaded is counted."""

    loads = 0

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self.loads += 1
        return super().load(kind, name, offset, length)


def test_old_months_and_several_sources_need_no_more(tmp_path: Path) -> None:
    """Also where each night brings notes of other months to another source, two listings and ten requests show all of it; and nothing
    is lost from it."""
    place, dice = LocalDestination(tmp_path / "archive"), random.Random(3)
    opened = Repository.create(place, Secret(PASSWORD), hostname="host", username="user")
    cheapen(place.path, PASSWORD)
    folders = [tmp_path / name for name in ("one", "two", "three")]
    count = 0
    for night in range(14):
        folder = folders[night % 3]
        folder.mkdir(exist_ok=True)
        for _ in range(5):
            name = f"PTT-{dice.randrange(2016, 2024)}{dice.randrange(1, 13):02}15-WA{count:04}.opus"
            put_old(folder / name, opus_note(0.5, seed=count))
            count += 1
        plan = RunPlan(
            sources=[SourceSpec(name=one.name, path=one, type="folder") for one in folders if one.exists()], typed=set(),
            known_names={one.name for one in folders}, destination=place, destination_name="archive",
            password=Secret(PASSWORD), state=State(tmp_path / "state"), host="host",
        )  # fmt: skip
        run(plan, Progress())
        far = Far(place)
        archive = Archive(Repository(far, opened._key, opened.key_id, opened.config, opened.clock))
        assert len(list(archive.entries())) == count
        assert far.loads <= 10
    world = World(tmp_path / "machine", repo=place.path)
    world.restic("check", "--read-data")
    assert world.backup("check", "--read-data", "-v").told == ""
