"""The doubles misbehave exactly as they say: other tests rely on it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import BackupError, NoSpace, SignInNeeded, Unreachable
from tests.destinations.doubles import Flaky, Full, SlowListing

NAMES = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(60)]


@pytest.fixture
def place(tmp_path: Path) -> LocalDestination:
    made = LocalDestination(tmp_path / "repository")
    made.create()
    return made


def outcome(flaky: Flaky, name: str) -> str:
    try:
        flaky.save("data", name, b"x")
    except BackupError as error:
        return type(error).__name__
    return "saved"


def test_the_same_seed_fails_the_same_way(place: LocalDestination) -> None:
    """A failing test can be repeated: the faults follow from the seed, and every kind of fault occurs."""
    one, two, other = (Flaky(place, seed=seed, rate=0.5) for seed in (7, 7, 8))
    outcomes = [[outcome(flaky, name) for name in NAMES] for flaky in (one, two, other)]
    assert outcomes[0] == outcomes[1] != outcomes[2]
    assert one.faults == two.faults
    assert {how for _, how in one.faults} == {"before", "after", "twice"}
    assert one.operations == len(NAMES)


def test_faults_come_before_or_after_the_effect(place: LocalDestination) -> None:
    """A planned fault strikes at its operation only, and either nothing was done or all of it."""
    flaky = Flaky(place, seed=1, rate=0, error=SignInNeeded)
    flaky.fail_at(2)
    assert [outcome(flaky, name) for name in NAMES[:3]] == ["saved", "SignInNeeded", "saved"]
    assert {name for name, _ in place.list("data")} == {NAMES[0], NAMES[2]}
    flaky.fail_at(1, "after")
    assert outcome(flaky, NAMES[3]) == "SignInNeeded"
    assert place.load("data", NAMES[3]) == b"x"
    flaky.fail_at(1, stay=True)
    with pytest.raises(SignInNeeded):
        list(flaky.list("data"))
    assert outcome(flaky, NAMES[4]) == "SignInNeeded"


def test_faults_can_be_kept_to_some_operations(place: LocalDestination) -> None:
    """Only the operations named fail, drafts included."""
    flaky = Flaky(place, seed=1, rate=1, only=("commit",))
    flaky.save("data", NAMES[0], b"x")
    with flaky.draft("data") as draft:
        draft.write(b"y")
        with pytest.raises(Unreachable):
            draft.commit(NAMES[1])
    assert [what for what, _ in flaky.faults] == ["commit"]


def test_slow_listings_catch_up(place: LocalDestination) -> None:
    """A new object is missing from so many listings and a removed one stays in them, while loading tells the truth."""
    slow = SlowListing(place, late=2)
    slow.save("data", NAMES[0], b"x")
    with slow.draft("data") as draft:
        draft.write(b"yy")
        draft.commit(NAMES[1])
    assert slow.load("data", NAMES[0]) == b"x"
    assert [dict(slow.list("data")) for _ in range(3)] == [{}, {}, {NAMES[0]: 1, NAMES[1]: 2}]
    slow.remove("data", NAMES[1])
    assert [set(dict(slow.list("data"))) for _ in range(3)] == [set(NAMES[:2]), set(NAMES[:2]), {NAMES[0]}]


def test_a_full_place_takes_what_fits(place: LocalDestination, tmp_path: Path) -> None:
    """Up to the limit everything is stored, beyond it nothing, however it is saved."""
    full = Full(place, limit=10)
    full.save("data", NAMES[0], b"12345")
    with full.draft("data") as draft:
        draft.write(b"123")
        with pytest.raises(NoSpace):
            draft.write(b"456")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NoSpace):
        full.save_file("data", NAMES[1], tmp_path / "file")
    assert dict(place.list("data")) == {NAMES[0]: 5}
