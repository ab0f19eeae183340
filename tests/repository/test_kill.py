"""Killed at any step: what is stored stays sound, and the next run completes it without sending again what arrived."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backup_tool.destinations.base import Draft, ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.repository import Repository
from backup_tool.repository.check import check
from tests.repository.conftest import Place, add_folder, add_notes, note, save_notes, snapshot

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system where processes are forked")

EARLIER = {f"old {number}": note(number) for number in range(5)}
NOTES = EARLIER | {f"new {number}": note(100 + number) for number in range(12)}
STEPS = 7  # a lock, three packs of audio and one of trees, an index, a snapshot


class Killing(LocalDestination):
    """Kills this process just before or just after its n-th object becomes visible."""

    step = 0
    at = 0
    after = False

    @contextmanager
    def draft(self, kind: ObjectKind) -> Iterator[Draft]:  # type: ignore[override]
        with super().draft(kind) as draft:
            outer = self

            class Counted:
                def write(self, data: bytes | memoryview) -> None:
                    draft.write(data)

                def commit(self, name: str) -> None:
                    outer.step += 1
                    if outer.step == outer.at and not outer.after:
                        os.kill(os.getpid(), signal.SIGKILL)
                    draft.commit(name)
                    if outer.step == outer.at:
                        os.kill(os.getpid(), signal.SIGKILL)

            yield Counted()


def run(repo: Repository) -> tuple[list[str], str]:
    """A nightly run: the blobs that were new, and the snapshot."""
    with repo.lock():
        repo.destination.sweep()
        repo.adopt_loose_packs()
        with repo.writer(pack_size=12_000) as writer:
            new = [name for name, data in NOTES.items() if writer.add("audio", data)[1]]
            root = add_folder(writer, NOTES, add_notes(writer, NOTES))
            writer.finish()
            return new, repo.save_snapshot(snapshot(root, program_version="backup 0.1"))


def killed_run(place: Place, at: int, after: bool) -> bool:
    """True where the run was killed, False where it came to its end first."""
    destination = Killing(place.folder)
    destination.at, destination.after = at, after
    repo = Repository(destination, place.repo._key, "", place.repo.config, place.repo.clock)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads, and there are none here
        child = os.fork()
    if not child:
        try:
            run(repo)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_killed_at_any_step(place: Place, at: int, after: bool) -> None:
    """Sound right after the kill, old snapshot readable, and the next run sends only what had not arrived; no lock, no leftovers."""
    save_notes(place.repo, EARLIER)
    assert killed_run(place, at, after)
    assert [finding for finding in check(place.again(), read_data=True) if finding.severity != "hint"] == []
    stored = {path.name for path in place.files("data")}
    repo = place.again()
    new, written = run(repo)
    arrived = max(0, min(at - 1 - (not after), 3))  # packs of audio, of four notes each
    assert len(new) == 12 - 4 * arrived
    assert stored <= {path.name for path in place.files("data")}
    assert check(place.again(), read_data=True) == []
    (folder,) = repo.load_tree(repo.load_snapshot(written).tree).nodes
    assert len(repo.load_tree(folder.subtree or "").nodes) == len(NOTES)
    assert place.files("locks") == []
    assert [path for path in place.folder.rglob("*") if path.is_file() and len(path.name) != 64 and path.name != "config"] == []


def test_the_steps_are_all_there_are(place: Place) -> None:
    """The steps above are all: one more, and the run comes to its end."""
    save_notes(place.repo, EARLIER)
    assert not killed_run(place, STEPS + 1, False)
    assert len(place.files("snapshots")) == 2
