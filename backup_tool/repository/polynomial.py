"""The chunker polynomial of a repository's config: an irreducible polynomial of degree 53 over GF(2).

A polynomial is an int whose bit i is the coefficient of x^i. restic tests it at every open and refuses a repository whose polynomial can be
factored (restic's design document, section "Repository Layout"). The test is M. Ben-Or's, in
"Probabilistic algorithms in finite fields", 1981.
"""

from __future__ import annotations

import secrets

DEGREE = 53


def random_polynomial() -> int:
    """A new random irreducible polynomial of degree 53 (about one candidate in 26 is)."""
    while True:
        candidate = secrets.randbits(DEGREE) | 1 << DEGREE | 1
        if is_irreducible(candidate):
            return candidate


def is_irreducible(polynomial: int) -> bool:
    """True where it cannot be factored: for i = 1 … n/2 it has no factor in common with x^(2^i) − x."""
    degree = polynomial.bit_length() - 1
    if degree < 1:
        return False
    power = 2  # x
    for _ in range(degree // 2):
        power = _remainder(_square(power), polynomial)
        if _common_factor(polynomial, power ^ 2) != 1:
            return False
    return True


def _square(polynomial: int) -> int:
    # Over GF(2) a square has the same coefficients at twice the exponents: the binary digits, read in base 4.
    return int(f"{polynomial:b}", 4)


def _remainder(dividend: int, divisor: int) -> int:
    length = divisor.bit_length()
    while (excess := dividend.bit_length() - length) >= 0:
        dividend ^= divisor << excess
    return dividend


def _common_factor(a: int, b: int) -> int:
    while b:
        a, b = b, _remainder(a, b)
    return a
