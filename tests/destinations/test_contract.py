"""What every destination promises, whatever it is made of."""

from __future__ import annotations

import hashlib
import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from backup_tool.destinations.base import KINDS, Destination, ObjectKind
from backup_tool.errors import BackupError, BadRange, NoRepository, ObjectMissing
from tests.destinations.conftest import Maker

MIB = 2**20
NAMED = KINDS[1:]


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def stored(place: Destination, data: bytes, kind: ObjectKind = "data") -> str:
    name = name_of(data)
    place.save(kind, name, data)
    return name


def everything(place: Destination) -> dict[tuple[str, str], int]:
    return {(kind, name): size for kind in KINDS for name, size in place.list(kind)}


def test_it_is_a_destination(place: Destination) -> None:
    """Every place has all operations of the contract, for all kinds of object."""
    assert isinstance(place, Destination)
    assert place.label
    assert get_args(ObjectKind) == KINDS


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 300], ids=["empty", "one byte", "75 KiB"])
def test_what_is_saved_is_found(place: Destination, data: bytes) -> None:
    """What was saved is listed under its kind alone, with its exact size, and comes back byte for byte."""
    sizes: dict[tuple[str, str], int] = {}
    for kind in KINDS:
        name = "config" if kind == "config" else name_of(data)
        place.save(kind, name, data)
        assert place.load(kind, name) == data
        assert place.size(kind, name) == len(data)
        sizes[kind, name] = len(data)
        assert everything(place) == sizes


def test_a_ready_place_is_empty(place: Destination) -> None:
    """A new place holds nothing, is no repository yet, and getting it ready again changes nothing."""
    assert everything(place) == {}
    assert not place.exists()
    name = stored(place, b"kept")
    place.create()
    assert place.load("data", name) == b"kept"


def test_a_repository_is_where_a_config_is(place: Destination) -> None:
    """A place counts as a repository from the moment its config is stored, under whatever name it is passed."""
    place.save("config", "config", b"sealed")
    assert place.exists()
    assert place.load("config", "") == b"sealed"
    place.remove("config", "config")
    assert not place.exists()


@pytest.mark.parametrize("other", ["data", "index"])
def test_what_is_missing_is_missing(place: Destination, other: ObjectKind) -> None:
    """An object that is not there is told from every other failure, also where one of another kind is."""
    stored(place, b"another", other)
    name = name_of(b"never stored")
    for kind in KINDS:
        for ask in (place.load, place.size, place.age):
            with pytest.raises(ObjectMissing):
                ask(kind, name)
        with pytest.raises(ObjectMissing):
            place.load(kind, name, 5, 10)


def test_a_range_is_exact(place: Destination) -> None:
    """A part of an object is exactly the bytes asked for."""
    data = b"0123456789"
    name = stored(place, data)
    for offset, length in ((0, 10), (3, 4), (9, 1), (0, 0), (10, 0), (10, None), (4, None), (0, None)):
        end = len(data) if length is None else offset + length
        assert place.load("data", name, offset, length) == data[offset:end], (offset, length)


def test_a_range_outside_is_an_error(place: Destination) -> None:
    """A range that is not wholly inside an object is never answered with fewer bytes."""
    name = stored(place, b"0123456789")
    for offset, length in ((0, 11), (10, 1), (11, 0), (11, None), (2**40, 1), (-1, 1), (-1, None), (0, -1), (5, 2**62)):
        with pytest.raises(BadRange):
            pytest.fail(f"{offset}, {length}: {place.load('data', name, offset, length)!r}")


def test_saving_again_is_harmless(place: Destination) -> None:
    """The same name with the same size counts as stored: what is there stays as it is."""
    name = stored(place, b"first")
    place.save("data", name, b"other")
    with place.draft("data") as draft:
        draft.write(b"third")
        draft.commit(name)
    assert place.load("data", name) == b"first"
    assert everything(place) == {("data", name): 5}


def test_a_broken_earlier_try_is_replaced(place: Destination, tmp_path: Path) -> None:
    """An object of another size under the name is a broken earlier try; the whole one takes its place, however it is saved."""
    name = name_of(b"whole")
    place.save("data", name, b"wh")
    place.save("data", name, b"whole")
    assert place.load("data", name) == b"whole"
    place.save("index", name, b"")
    (tmp_path / "file").write_bytes(b"whole")
    place.save_file("index", name, tmp_path / "file")
    assert place.load("index", name) == b"whole"
    place.save("keys", name, b"whole and more")
    with place.draft("keys") as draft:
        draft.write(b"whole")
        draft.commit(name)
    assert place.load("keys", name) == b"whole"


def test_a_draft_is_invisible_until_it_is_committed(place: Destination) -> None:
    """An object that grows piece by piece appears at once and whole, whatever its kind."""
    sizes: dict[tuple[str, str], int] = {}
    for kind in KINDS:
        name = "config" if kind == "config" else name_of(b"")
        with place.draft(kind) as draft:
            draft.write(b"one ")
            draft.write(memoryview(b"-two-")[1:4])
            assert everything(place) == sizes
            draft.commit(name)
            sizes[kind, name] = 7
            assert everything(place) == sizes
        assert place.load(kind, name) == b"one two"


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB + 12_345])
def test_a_draft_keeps_the_order_of_its_pieces(place: Destination, size: int) -> None:
    """However odd the pieces are, empty and very large ones among them, the object is exactly their sequence."""
    data = random.Random(size).randbytes(size)
    with place.draft("data") as draft:
        at = 0
        for piece in (1, 16, 0, 50_000, 4095, 2 * MIB + 7, size):
            draft.write(memoryview(data)[at : at + piece])
            at += piece
        draft.commit(name_of(data))
    assert name_of(place.load("data", name_of(data))) == name_of(data)
    assert place.size("data", name_of(data)) == size


def _interrupted(place: Destination, name: str) -> None:
    with place.draft("data") as draft:
        draft.write(b"half")
        raise KeyboardInterrupt


def test_a_draft_that_is_left_leaves_nothing(place: Destination) -> None:
    """A draft that was interrupted, or simply not committed, is gone without a trace, and its name is free."""
    name = name_of(b"half and half")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(place, name)
    with place.draft("data") as draft:
        draft.write(b"half")
    assert everything(place) == {}
    assert place.sweep() == 0
    place.save("data", name, b"half and half")
    assert place.load("data", name) == b"half and half"


def test_a_file_is_saved_like_bytes(place: Destination, tmp_path: Path) -> None:
    """Saving from a file gives the same object; a file that is not there stores nothing."""
    data = bytes(range(256)) * (3 * MIB // 256) + b"end"
    (tmp_path / "file").write_bytes(data)
    place.save_file("data", name_of(data), tmp_path / "file")
    assert place.load("data", name_of(data)) == data
    with pytest.raises(FileNotFoundError):
        place.save_file("data", name_of(b"other"), tmp_path / "absent")
    assert len(everything(place)) == 1


def test_big_objects_need_little_memory(place: Destination, tmp_path: Path) -> None:
    """An object of 96 MiB is stored, and one that grows, and read in parts, in a few megabytes of memory."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(96 * MIB)
    piece = bytes(MIB)
    tracemalloc.start()
    try:
        place.save_file("data", name_of(b"file"), tmp_path / "file")
        with place.draft("data") as draft:
            for _ in range(32):
                draft.write(piece)
            draft.commit(name_of(b"draft"))
        assert place.load("data", name_of(b"file"), 95 * MIB, MIB) == piece
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
    assert set(everything(place).values()) == {96 * MIB, 32 * MIB}


def test_a_removed_object_is_gone(place: Destination) -> None:
    """Removing is final and touches nothing else; what is not there counts as removed."""
    name, other = stored(place, b"one"), stored(place, b"two")
    place.remove("data", name)
    place.remove("data", name)
    place.remove("index", other)
    assert everything(place) == {("data", other): 3}
    with pytest.raises(ObjectMissing):
        place.load("data", name)
    assert stored(place, b"one") == name
    assert place.load("data", name) == b"one"


def test_odd_names_are_refused(place: Destination) -> None:
    """Only names of 64 lower-case hex digits ever reach the place, whoever asks."""
    place.save("config", "config", b"there")
    names = ["", "config", "..", "../../etc/passwd", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", "/" + "a" * 63]
    for kind, name in product(NAMED, names):
        for action in (place.load, place.size, place.age, place.remove, lambda kind, name: place.save(kind, name, b"x")):
            with pytest.raises(BackupError, match="no name"):
                action(kind, name)
        with place.draft(kind) as draft:
            draft.write(b"x")
            with pytest.raises(BackupError, match="no name"):
                draft.commit(name)
    assert everything(place) == {("config", "config"): 5}


def test_every_name_is_allowed(place: Destination) -> None:
    """Names are opaque: each of the digits may stand anywhere."""
    names = [digit * 64 for digit in "0123456789abcdef"]
    for name in names:
        place.save("data", name, b"x")
        place.save("snapshots", name, b"x")
    assert everything(place) == {(kind, name): 1 for kind in ("data", "snapshots") for name in names}


def test_long_listings_are_complete(place: Destination) -> None:
    """A listing of more than a thousand objects (a page of most services) has each of them once."""
    names = {name_of(str(number).encode()) for number in range(1010)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: place.save("locks", name, b"xy"), names))
    listed = list(place.list("locks"))
    assert len(listed) == len(names)
    assert dict(listed) == dict.fromkeys(names, 2)


def test_listing_while_others_write_misses_nothing_old(place: Destination) -> None:
    """Whatever was stored before a listing began is in it, even while another thread stores and removes."""
    old = {stored(place, b"old %d" % number) for number in range(60)}
    stop = threading.Event()

    def churn() -> int:
        number = 0
        while not stop.is_set():
            name = stored(place, b"new %d" % number)
            place.remove("data", name)
            number += 1
        return number

    with ThreadPoolExecutor(1) as pool:
        churned = pool.submit(churn)
        listings = [{name for name, _ in place.list("data")} for _ in range(10)]
        stop.set()
        assert churned.result() > 0
    assert all(old <= listing for listing in listings)


def test_two_may_save_one_name_at_once(place: Destination) -> None:
    """Threads that save the same object at the same moment all succeed, and it is there once and whole."""
    data = bytes(range(256)) * 4096
    name, start = name_of(data), threading.Barrier(4)

    def save(number: int) -> None:
        start.wait(30)
        if number % 2:
            place.save("data", name, data)
            return
        with place.draft("data") as draft:
            draft.write(data)
            draft.commit(name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(4)))
    assert everything(place) == {("data", name): len(data)}
    assert place.load("data", name) == data
    assert place.sweep() == 0


def test_many_drafts_grow_side_by_side(place: Destination) -> None:
    """Several objects may grow at once, each committed from another thread than it was begun in, without mixing."""
    with ThreadPoolExecutor(2) as pool, place.draft("data") as one, place.draft("data") as two:
        for _ in range(50):
            one.write(b"1")
            two.write(b"22")
        list(pool.map(lambda pair: pair[0].commit(pair[1]), [(one, "1" * 64), (two, "2" * 64)]))
    assert place.load("data", "1" * 64) == b"1" * 50
    assert place.load("data", "2" * 64) == b"2" * 100


def test_age_counts_from_storing(place: Destination) -> None:
    """A fresh object is seconds old, by the place's own clock."""
    assert -2 < place.age("locks", stored(place, b"lock", "locks")) < 60


def test_where_nothing_is_nothing_is_made(make: Maker, tmp_path: Path) -> None:
    """A place that is not there is no repository; reading says so, and writing never makes it: its disk may only be unplugged."""
    place = make(tmp_path / "unplugged")
    assert not place.exists()
    for action in (
        lambda: list(place.list("data")),
        lambda: list(place.list("snapshots")),
        lambda: place.load("data", "0" * 64),
        lambda: place.size("config", "config"),
        lambda: place.save("data", "0" * 64, b"x"),
        lambda: place.save("config", "config", b"x"),
        lambda: place.draft("data").__enter__(),
        lambda: place.remove("data", "0" * 64),
    ):
        with pytest.raises(NoRepository):
            action()
    assert not (tmp_path / "unplugged").exists()
