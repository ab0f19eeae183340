"""The chunker polynomial: restic refuses a repository whose polynomial can be factored."""

from __future__ import annotations

import pytest

from backup_tool.repository.polynomial import is_irreducible, random_polynomial


def factors(degree: int) -> set[int]:
    """All irreducible polynomials up to a degree, by trying every product: slow and obvious."""

    def product(a: int, b: int) -> int:
        return 0 if not b else (a if b & 1 else 0) ^ product(a << 1, b >> 1)

    every = set(range(2, 2 << degree))
    return every - {product(a, b) for a in every for b in every if a.bit_length() + b.bit_length() <= degree + 2}


def test_small_polynomials_are_told_apart() -> None:
    """Every polynomial up to degree 7 is judged as by multiplying them all."""
    assert {p for p in range(2, 2**8) if is_irreducible(p)} == factors(7)


@pytest.mark.parametrize(
    ("polynomial", "irreducible"), [(0x25B468838DCB75, True), (0x387AD4CBCF83C1, True), (2**53 + 3, False), (0, False), (1, False)]
)
def test_known_polynomials(polynomial: int, irreducible: bool) -> None:
    """Those of restic's document and of known repositories are irreducible; x^53 + x + 1 is not."""
    assert is_irreducible(polynomial) is irreducible


def test_new_polynomials_have_degree_53_and_differ() -> None:
    """A new repository gets an own irreducible polynomial of the degree that restic's chunker wants."""
    made = {random_polynomial() for _ in range(8)}
    assert len(made) == 8
    assert all(p.bit_length() == 54 and is_irreducible(p) for p in made)
