"""Repositories for the tests here. Deriving a key takes a fifth of a second: one repository is made, and copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from backup_tool.destinations.local import LocalDestination
from backup_tool.models import Secret
from backup_tool.repository import Node, Repository, Snapshot, Writer, encode_tree
from backup_tool.repository.locks import Clock
from tests.repository.forge import Forge

PASSWORD = "pässword of the tests"
TIME = 1_600_000_000_120_000_000


class QuickClock(Clock):
    """Real time, but the wait after taking a lock: nobody else is there."""

    def sleep(self, seconds: float) -> None:
        if seconds > 1:
            raise AssertionError("a test that would wait so long is wrong")


@dataclass
class Place:
    """A repository of a test: the open repository, its folder, and a forge that writes into it behind the program's back."""

    repo: Repository
    folder: Path
    forge: Forge

    def again(self) -> Repository:
        """Opened anew, knowing nothing of what went before (but the key, to save time)."""
        repo = self.repo
        return Repository(LocalDestination(self.folder), repo._key, repo.key_id, repo.config, repo.clock)

    def loaded(self) -> Repository:
        repo = self.again()
        repo.load_index()
        return repo

    def files(self, kind: str) -> list[Path]:
        return sorted(path for path in (self.folder / kind).rglob("*") if path.is_file() and len(path.name) == 64)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Repository]:
    """An empty repository."""
    folder = tmp_path_factory.mktemp("template") / "repo"
    return folder, Repository.create(LocalDestination(folder), Secret(PASSWORD), hostname="host", username="user", clock=QuickClock())


def copied(template: tuple[Path, Repository], folder: Path) -> Place:
    made, repo = template
    shutil.copytree(made, folder)
    key = repo._key
    copy = Repository(LocalDestination(folder), key, repo.key_id, repo.config, QuickClock())
    copy.destination.exists()
    return Place(copy, folder, Forge(folder, (key.encrypt, key.mac_k, key.mac_r)))


@pytest.fixture
def place(template: tuple[Path, Repository], tmp_path: Path) -> Place:
    """An empty repository of the test's own."""
    return copied(template, tmp_path / "repo")


def note(number: int, size: int = 3000) -> bytes:
    """The bytes of a note, different for each number."""
    return (b"%08d" % number) * (size // 8 + 1)


def save_notes(repo: Repository, notes: dict[str, bytes], *, program: str = "backup 0.1") -> tuple[str, dict[str, str]]:
    """Archive these notes by name in one folder: (snapshot id, blob id by name)."""
    with repo.lock(), repo.writer() as writer:
        ids = add_notes(writer, notes)
        root = add_folder(writer, notes, ids)
        writer.finish()
        return repo.save_snapshot(snapshot(root, program_version=program)), ids


def add_notes(writer: Writer, notes: dict[str, bytes]) -> dict[str, str]:
    return {name: writer.add("audio", data)[0] for name, data in notes.items()}


def add_folder(writer: Writer, notes: dict[str, bytes], ids: dict[str, str]) -> str:
    nodes = [Node.file(name, len(data), [ids[name]], TIME) for name, data in notes.items()]
    inner, _ = writer.add("tree", encode_tree(nodes, lambda id: writer.blob_length("data", id)))
    return writer.add("tree", encode_tree([Node.folder("voice-notes", inner, TIME)]))[0]


def snapshot(tree: str, **fields: object) -> Snapshot:
    given: dict[str, object] = {"time": "2026-03-03T14:05:00Z", "tree": tree, "paths": ["/voice-notes"], "hostname": "host"}
    return Snapshot(**(given | fields))  # type: ignore[arg-type]


@pytest.fixture
def saved(place: Place) -> tuple[Place, dict[str, bytes], dict[str, str]]:
    """A repository with one snapshot of five notes: (place, notes by name, ids by name)."""
    notes = {f"note {number}.opus": note(number) for number in range(5)}
    _, ids = save_notes(place.repo, notes)
    return place, notes, ids


Maker = Callable[[str], Place]


@pytest.fixture
def make_place(template: tuple[Path, Repository], tmp_path: Path) -> Maker:
    """Makes any number of repositories with the same key."""
    return lambda name: copied(template, tmp_path / name)
