"""What reads bytes of strangers is fed damaged and made-up ones, for as long as one likes: `make fuzz`.

Each module here but this one's helpers holds `TARGETS`: a name, a function that takes bytes and may raise only what its reader documents,
and seed inputs that are right. `mutations` makes wrong ones of them; `__main__` keeps those that reach new lines and goes on from there.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator

Target = tuple[Callable[[bytes], object], list[bytes]]

_LARGEST = 2**20
_EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF]


def targets() -> dict[str, Target]:
    """Every target, by module and name."""
    found: dict[str, Target] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith(("_", "test_")):
            loaded = importlib.import_module(f"{__name__}.{module.name}")
            found |= {f"{module.name}.{name}": target for name, target in loaded.TARGETS.items()}
    return found


def mutations(seeds: list[bytes], dice: random.Random) -> Iterator[bytes]:
    """Wrong inputs for ever. Whoever adds to `seeds` meanwhile steers what comes."""
    while True:
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 1, 2, 4, 8))):
            dice.choice(_WAYS)(data, seeds, dice)
        yield bytes(data[:_LARGEST])


def _spot(data: bytearray, dice: random.Random) -> int:
    # The beginning holds lengths and counts: half of all changes go there.
    return dice.randrange(min(len(data), 64) if dice.random() < 0.5 else len(data)) if data else 0


def _flip(data: bytearray, seeds: list[bytes], dice: random.Random) -> None:
    if data:
        data[_spot(data, dice)] ^= 1 << dice.randrange(8)


def _number(data: bytearray, seeds: list[bytes], dice: random.Random) -> None:
    width = dice.choice((1, 2, 4, 8))
    at = _spot(data, dice)
    value = (dice.choice(_EDGES) + dice.choice((0, 0, 1, -1, dice.randrange(256)))) % 256**width
    data[at : at + width] = value.to_bytes(width, dice.choice(("big", "little")))


def _cut(data: bytearray, seeds: list[bytes], dice: random.Random) -> None:
    at = _spot(data, dice)
    if dice.random() < 0.5:
        del data[at:]
    else:
        del data[at : at + dice.choice((1, 2, 4, 16, 256, 4096))]


def _repeat(data: bytearray, seeds: list[bytes], dice: random.Random) -> None:
    at, length = _spot(data, dice), dice.choice((1, 4, 16, 256))
    piece = data[at : at + length] * dice.choice((1, 2, 16, 256))
    data[at:at] = piece[: _LARGEST - len(data)] if len(data) < _LARGEST else b""


def _splice(data: bytearray, seeds: list[bytes], dice: random.Random) -> None:
    other = dice.choice(seeds)
    if other:
        start = dice.randrange(len(other))
        data[_spot(data, dice) :] = other[start:]


def _overwrite(data: bytearray, seeds: list[bytes], dice: random.Random) -> None:
    at = _spot(data, dice)
    noise = dice.choice((dice.randbytes(dice.choice((1, 4, 32))), bytes(16), b"\xff" * 16, "\u202e\ud7ff\0\n\"'\\".encode()))
    data[at : at + len(noise)] = noise


_WAYS = (_flip, _flip, _number, _number, _cut, _repeat, _splice, _overwrite)
