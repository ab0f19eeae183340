"""A minute's share of the fuzzing in every run of the tests: right inputs are read, and a few hundred wrong ones break nothing."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from tests.fuzz import mutations, targets

ALL = targets()
WRONG = 150


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_reader_of_foreign_bytes_raises_only_what_it_says(name: str) -> None:
    """Whatever a file holds, its reader ends with a result or with the error that it documents."""
    function, seeds = ALL[name]
    assert seeds
    for data in (*seeds, *islice(mutations(seeds, random.Random(name)), WRONG)):
        function(data)
