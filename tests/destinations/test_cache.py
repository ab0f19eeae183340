"""Copies on this machine of what is read again and again: they save requests, and never more than that."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.cache import Cache
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import NoRepository, ObjectMissing
from tests.destinations.doubles import Wrapper
from tests.parts import needs, needs_root

KEPT: tuple[ObjectKind, ...] = ("index", "snapshots")
HOUR = 3600.0


class Counted(Wrapper):
    """Writes down what is asked."""

    def __init__(self, inner: LocalDestination) -> None:
        super().__init__(inner)
        self.asked: list[str] = []

    def do(self, what: str, action: Callable[[], Any]) -> Any:
        self.asked.append(what)
        return action()


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Place:
    """A destination with some objects, and caches before it; `told` is what they said."""

    def __init__(self, folder: Path, config: bytes = b"sealed config") -> None:
        self.folder, self.told, self.now = folder / "cache", list[str](), 1_800_000_000.0
        self.far = Counted(LocalDestination(folder / name_of(config)[:8]))
        self.far.create()
        self.far.save("config", "config", config)

    def put(self, kind: ObjectKind, data: bytes) -> str:
        self.far.save(kind, name_of(data), data)
        return name_of(data)

    def cache(self, **how: Any) -> Cache:
        """As a new process has it, once it has read the config."""
        cache = Cache(self.far, self.folder, tell=self.told.append, now=lambda: self.now, **how)
        cache.load("config", "config")
        self.far.asked.clear()
        return cache

    def files(self) -> dict[str, Path]:
        return {path.name: path for path in self.folder.rglob("*") if len(path.name) == 64 and not path.is_dir()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("kind", KEPT)
def test_what_was_read_is_not_fetched_again(place: Place, kind: ObjectKind) -> None:
    """The second time, and in the next process, an index file or snapshot comes from this machine, byte for byte."""
    name = place.put(kind, b"sealed")
    cache = place.cache()
    assert [cache.load(kind, name) for _ in range(3)] == [b"sealed"] * 3
    assert place.far.asked == ["load"]
    assert place.cache().load(kind, name) == b"sealed"
    assert place.far.asked == []


def test_what_was_written_here_is_known_here(place: Place) -> None:
    """What a run of this machine stored as index and snapshot, the next one need not fetch."""
    place.cache().save("index", name_of(b"new"), b"new")
    assert place.far.load("index", name_of(b"new")) == b"new"
    assert place.cache().load("index", name_of(b"new")) == b"new"
    assert place.far.asked == []


def test_whole_small_packs_are_kept_and_nothing_else_of_packs(place: Place) -> None:
    """A pack below 4 MiB that is read in one piece is kept; parts of packs, and larger packs, never are."""
    small, large = b"s" * 1000, bytes(4 * 2**20)
    names = place.put("data", small), place.put("data", large)
    cache = place.cache()
    assert cache.load("data", names[0], 10, 20) == small[10:30]
    assert cache.load("data", names[0], 0, 999) == small[:999]
    assert cache.load("data", names[1], 0, len(large)) == large
    assert place.files() == {}
    assert cache.load("data", names[0], 0, 1000) == cache.load("data", names[0], 0, 1000) == small
    assert set(place.files()) == {names[0]}
    place.far.asked.clear()
    assert cache.load("data", names[0], 10, 20) == small[10:30]
    assert place.far.asked == ["load"]


@pytest.mark.parametrize("kind", ["config", "keys", "locks"])
def test_keys_locks_and_the_config_are_always_asked_for(place: Place, kind: ObjectKind) -> None:
    """A password that was taken away, or an archive that is gone, is not to be seen here any longer."""
    name = "config" if kind == "config" else place.put(kind, b"there")
    cache = place.cache()
    cache.load(kind, name)
    place.far.remove(kind, name)
    with pytest.raises((ObjectMissing, NoRepository)):
        cache.load(kind, name)
    assert place.files() == {}


def _flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def _other_kind(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


DAMAGE: dict[str, Callable[[Path], object]] = {
    "one bit": _flip,
    "cut": lambda path: os.truncate(path, 3),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a pipe": _other_kind(os.mkfifo),
    "a link": _other_kind(lambda path: path.symlink_to("/etc/passwd")),
    "a link to nothing": _other_kind(lambda path: path.symlink_to("nothing")),
    "a folder": _other_kind(Path.mkdir),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("kind", [*KEPT, "data"])
def test_copies_are_never_believed(place: Place, kind: ObjectKind, how: str) -> None:
    """Whatever became of a copy, what is given is what the destination has."""
    data = b"what it is"
    name, length = place.put(kind, data), len(data) if kind == "data" else None
    place.cache().load(kind, name, 0, length)
    DAMAGE[how](place.files()[name])
    cache = place.cache()
    assert cache.load(kind, name, 0, length) == data
    assert place.far.asked == ["load"]
    if how not in ("a folder", "a link", "a link to nothing"):  # those are for a person to look at
        assert cache.load(kind, name, 0, length) == data
        assert place.far.asked == ["load"]


def test_wrong_bytes_from_the_destination_are_not_kept(place: Place) -> None:
    """A copy is made only of what hashes to its name."""
    place.far.save("index", "ab" * 32, b"not that")
    assert place.cache().load("index", "ab" * 32) == b"not that"
    assert place.files() == {}


def test_nothing_that_is_gone_seems_to_be_there(place: Place) -> None:
    """Listings and sizes come from the destination, also of what is kept here."""
    name = place.put("index", b"index")
    cache = place.cache()
    cache.load("index", name)
    place.far.remove("index", name)
    assert list(cache.list("index")) == []
    with pytest.raises(ObjectMissing):
        cache.size("index", name)
    other = place.put("index", b"another")
    cache.load("index", other)
    cache.remove("index", other)
    assert other not in place.files()
    with pytest.raises(ObjectMissing):
        cache.load("index", other)


def test_what_is_no_longer_listed_goes(place: Place) -> None:
    """A copy of what a complete listing does not name is removed an hour after its last use; all others stay."""
    old, new = place.put("index", b"old"), place.put("index", b"new")
    snapshot = place.put("snapshots", b"old")
    cache = place.cache()
    for kind, name in (("index", old), ("index", new), ("snapshots", snapshot)):
        cache.load(kind, name)  # type: ignore[arg-type]
    place.far.remove("index", old)
    list(cache.list("index"))
    assert old in place.files()
    place.now += 2 * HOUR
    next(cache.list("index"))  # not to its end
    assert old in place.files()
    list(cache.list("index"))
    assert sorted(path.parent.name + path.name for path in place.folder.rglob("?" * 64) if path.is_file()) == sorted(
        ["index" + new, "snapshots" + snapshot]
    )


def test_the_folder_is_private_and_says_what_it_is(place: Place) -> None:
    """Nobody else may look into it, and programs that archive folders leave it out."""
    name = place.put("index", b"index")
    before = os.umask(0)
    try:
        place.cache().load("index", name)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [place.folder, *place.folder.rglob("*")]}
    assert {modes[path] for path in modes if path.is_dir()} == {0o700}
    assert {modes[path] for path in modes if path.is_file()} == {0o600}
    assert (place.folder / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


def test_before_the_config_was_read_nothing_is_kept(place: Place) -> None:
    """Until it is known whose objects they are, all come from the destination."""
    name = place.put("index", b"index")
    cache = Cache(place.far, place.folder)
    assert cache.load("index", name) == b"index"
    assert not place.folder.exists()


def test_copies_of_one_repository_share_and_others_do_not(tmp_path: Path) -> None:
    """What was read from one destination need not be fetched from a second that holds the same repository."""
    one, other = Place(tmp_path), Place(tmp_path, b"another config")
    name = one.put("index", b"index")
    one.cache().load("index", name)
    other.put("index", b"index")
    other.cache().load("index", name)
    assert other.far.asked == ["load"]
    again = one.cache()
    one.far.remove("index", name)
    assert again.load("index", name) == b"index"


def test_more_than_the_limit_is_not_kept(place: Place) -> None:
    """At the end of a run the folder is within its limit, and what was used last is still there."""
    names = [place.put("index", bytes([number]) * 1000) for number in range(10)]
    cache = place.cache(limit=3500)
    for name in names:
        place.now += 1
        cache.load("index", name)
    place.now += 1
    cache.load("index", names[0])
    cache.close()
    assert set(place.files()) == {names[0], names[8], names[9]}


def test_what_was_not_used_for_months_goes(tmp_path: Path) -> None:
    """An archive that nobody opens any more leaves nothing behind, not even its folder."""
    left, used = Place(tmp_path), Place(tmp_path, b"another config")
    left.cache().load("index", left.put("index", b"index"))
    used.now += 91 * 24 * HOUR
    cache = used.cache()
    cache.load("index", used.put("index", b"other"))
    cache.close()
    assert set(used.files()) == {name_of(b"other")}
    assert len([path for path in used.folder.iterdir() if path.is_dir()]) == 1


@contextmanager
def _tiny_disk(folder: Path, options: str) -> Iterator[None]:
    needs_root()
    needs("mount", "umount")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_or_read_only_disk_costs_only_speed(place: Place) -> None:
    """Where nothing can be kept everything still works; that is said once, and what is there already is still of use."""
    names = [place.put("index", os.urandom(20_000)) for _ in range(4)]
    with _tiny_disk(place.folder, "size=100k"):
        cache = place.cache()
        cache.load("index", names[0])
        (place.folder / "filler").write_bytes(bytes(100_000)[: os.statvfs(place.folder).f_bavail * 4096 - 4096])
        assert [name_of(cache.load("index", name)) for name in names] == names
        assert len(place.told) == 1
        assert "no space left" in place.told[0]
        subprocess.run(["mount", "-o", "remount,ro", str(place.folder)], check=True)
        cache = place.cache()
        assert [name_of(cache.load("index", name)) for name in names] == names
        assert place.far.asked == ["load"] * 3
        list(cache.list("index"))
        cache.close()
        assert len(place.told) == 2
        assert "read-only" in place.told[1]


def test_a_file_in_its_place_costs_only_speed(place: Place) -> None:
    """Whatever stands where the folder should be stays, and is no error."""
    place.folder.write_text("mine")
    name = place.put("index", b"index")
    cache = place.cache()
    assert cache.load("index", name) == cache.load("index", name) == b"index"
    cache.close()
    assert place.folder.read_text() == "mine"
    assert len(place.told) == 1


def test_many_at_once_get_what_they_asked_for(place: Place) -> None:
    """Readers that share a folder, while it is tidied and its files go, each get the right bytes."""
    names = [place.put("index", b"%d" % number * 500) for number in range(12)]

    def read(number: int) -> None:
        for turn in range(20):
            cache = place.cache(limit=4000)
            name = names[(number * 7 + turn) % len(names)]
            assert name_of(cache.load("index", name)) == name
            list(cache.list("index"))
            cache.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(read, range(6)))
    assert place.told == []
