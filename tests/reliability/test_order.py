"""A snapshot exists only when all it names is stored (promise 2): one run, watched call by call as the system sees it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.parts import needs
from tests.reliability.kills import MANY
from tests.reliability.world import World, add_notes, new_world

_CALLS = (
    "openat,open,creat,write,pwrite64,writev,ftruncate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,symlink,unlink,unlinkat,close"
)
_LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\((.*)| resumed>(.*))")


@dataclass(frozen=True)
class Call:
    """One call that succeeded, when it had: what it was, on which paths, and how a file was opened."""

    name: str
    paths: tuple[str, ...]
    text: str


def watched(world: World, log: Path) -> list[Call]:
    """All calls of a run, and of its workers, that touch the archive."""
    strace = ["strace", "-f", "-y", "-qq", "-s", "0", "--seccomp-bpf", "-o", str(log), "-e", f"trace={_CALLS}"]
    run = subprocess.run(
        [*strace, sys.executable, "-m", "backup_tool", "run"],
        cwd=Path(__file__).parents[2], env=world.env, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return [call for call in calls(log.read_text()) if any(path.startswith(f"{world.repo}/") for path in call.paths)]


def calls(log: str) -> Iterator[Call]:
    """The calls in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in log.splitlines():
        if (match := _LINE.match(line)) is None:
            continue
        process, name, whole, rest = match.groups()
        if whole is not None and whole.endswith("<unfinished ...>"):
            begun[process] = whole.removesuffix("<unfinished ...>")
            continue
        text = whole if whole is not None else begun.pop(process, "") + rest
        if not re.search(r"\) += -1 ", text):
            paths = re.findall(r'"([^"]*)"|\d+<([^>]*)>', text.rpartition(") ")[0] + text.rpartition(") ")[2])
            yield Call(name, tuple(one or other for one, other in paths), text)


@pytest.fixture(scope="module", params=["few", "many"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Call]]:
    """A second run that finds new notes: a few, or so many that two workers store them."""
    needs("strace")
    folder = tmp_path_factory.mktemp("order")
    world = new_world(folder / "w", 5, pack_size="4 MiB", database=False)
    world.backup("run")
    add_notes(world, 12 if request.param == "few" else MANY, seconds=1.5 if request.param == "few" else 6)
    return world, watched(world, folder / "log")


def kind_of(world: World, path: str) -> str:
    """data, index, snapshots, locks …; the folder that an object stands in."""
    return Path(path).relative_to(world.repo).parts[0]


def renames(world: World, calls: list[Call]) -> list[tuple[int, str, str]]:
    """(place in the order, temporary name, final name) of every object that became visible."""
    found = [(at, call.paths[-2], call.paths[-1]) for at, call in enumerate(calls) if call.name.startswith("rename")]
    assert {"data", "index", "snapshots", "locks"} == {kind_of(world, final) for _, _, final in found}
    return found


def test_every_object_is_on_the_disk_before_it_has_its_name(seen: tuple[World, list[Call]]) -> None:
    """The last that happens to a file's bytes before it is renamed is an fsync; then it is never written to again."""
    world, calls = seen
    for at, temporary, final in renames(world, calls):
        touched = [call.name for call in calls[:at] if temporary in call.paths and call.name not in ("openat", "close")]
        assert touched[-1] == "fsync", (final, touched)
        assert touched[0] == "write"
        assert not [call for call in calls[at + 1 :] if final in call.paths and call.name in ("write", "pwrite64", "writev", "ftruncate")]


def test_nothing_is_made_under_its_final_name(seen: tuple[World, list[Call]]) -> None:
    """Whatever is created in the archive has a temporary name, for its owner alone, and is new; nothing is linked."""
    _, calls = seen
    made = [call for call in calls if "O_CREAT" in call.text or call.name == "creat"]
    assert made
    for call in made:
        assert Path(call.paths[-1]).name.startswith("tmp.")
        assert "O_EXCL" in call.text
        assert ", 0600" in call.text
    assert not [call for call in calls if call.name in ("link", "linkat", "symlink")]


def test_packs_then_index_then_snapshot(seen: tuple[World, list[Call]]) -> None:
    """All packs have their names on the disk before an index names them, the index before the snapshot; the snapshot is the last."""
    world, calls = seen
    at: dict[str, list[tuple[int, str]]] = {"data": [], "index": [], "snapshots": [], "locks": []}
    for number, _, final in renames(world, calls):
        at[kind_of(world, final)].append((number, final))
    assert len(at["snapshots"]) == 1
    first_index, (snapshot, _) = at["index"][0][0], at["snapshots"][0]
    assert max(at["data"])[0] < first_index < max(at["index"])[0] + 1 <= snapshot
    for kind, before in (("data", first_index), ("index", snapshot), ("snapshots", len(calls))):
        for number, final in at[kind]:
            synced = [n for n, call in enumerate(calls) if call.name == "fsync" and str(Path(final).parent) in call.paths and n > number]
            assert synced, final
            assert synced[0] < before, f"the name of {final} was not on the disk in time"


def test_nothing_is_removed_but_the_lock_of_the_run(seen: tuple[World, list[Call]]) -> None:
    """A run takes nothing away from the archive except its own lock, at its end."""
    world, calls = seen
    removed = [call.paths[-1] for call in calls if call.name in ("unlink", "unlinkat")]
    assert [kind_of(world, path) for path in removed] == ["locks"]
    assert removed == [final for _, _, final in renames(world, calls) if kind_of(world, final) == "locks"]
