"""Runs every target, or those named, for so many seconds each, and keeps what broke one.

    python -m tests.fuzz --seconds 300 [NAME …]

An input that reaches a line of this program that none before it reached becomes a seed. Ends with 1 where anything was found: an
exception that the reader does not document, or more than ten seconds or 500 MB for one input.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import time
import traceback
from itertools import chain
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.fuzz import Target, mutations, targets

_LONGEST_SECONDS = 10
_MORE_BYTES = 500 * 2**20
_OURS = str(Path(__file__).parents[2] / "backup_tool")


class TookTooLong(BaseException):
    """One input kept a reader busy: no reader may catch this."""


def _stop(signal_number: int, frame: FrameType | None) -> None:
    raise TookTooLong(f"more than {_LONGEST_SECONDS} seconds")


class Reached:
    """The lines of this program that have been reached by any input."""

    def __init__(self) -> None:
        self._lines: set[tuple[CodeType, int]] = set()

    def run(self, function: Any, data: bytes) -> bool:
        """Feed the input; True where it reached something new. Raises what the reader raises."""
        before = len(self._lines)
        sys.settrace(self._enter)
        signal.alarm(_LONGEST_SECONDS)
        try:
            function(data)
        finally:
            signal.alarm(0)
            sys.settrace(None)
        return len(self._lines) > before

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(_OURS) else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self._lines.add((frame.f_code, frame.f_lineno))
        return self._line


def fuzz(name: str, target: Target, seconds: float, seed: int, kept: Path) -> bool:
    """One target; True where nothing broke. What breaks it is written to `kept`."""
    function, seeds = target[0], list(target[1])
    reached, dice, runs, broken = Reached(), random.Random(seed), 0, 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    until = time.monotonic() + seconds
    for data in chain(target[1], mutations(seeds, dice)):
        if time.monotonic() > until or broken >= 5:
            break
        runs += 1
        try:
            new = reached.run(function, data)
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if now > peak + _MORE_BYTES:
                peak = now
                raise MemoryError(f"more than {_MORE_BYTES // 2**20} MB for one input")
            if new and runs > len(target[1]):
                seeds.append(data)
        except (Exception, TookTooLong):
            broken += 1
            place = kept / f"{name}-{broken}"
            place.write_bytes(data)
            print(f"{name} broke; the input is in {place}")
            traceback.print_exc(limit=-4)
    print(f"{name}: {runs:,} inputs, {len(seeds)} seeds, {broken} broke it", flush=True)
    return not broken


def main() -> None:
    """Fuzz what was named."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("names", nargs="*", help="targets, or the beginning of their names (default: all)")
    parser.add_argument("--seconds", type=float, default=300, help="for each target")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    parser.add_argument("--keep", type=Path, default=Path(".fuzz"), help="the folder for inputs that break something")
    given = parser.parse_args()
    given.keep.mkdir(exist_ok=True)
    signal.signal(signal.SIGALRM, _stop)
    print(f"seed {given.seed}")
    chosen = {name: target for name, target in targets().items() if not given.names or name.startswith(tuple(given.names))}
    raise SystemExit(not all([fuzz(name, target, given.seconds, given.seed, given.keep) for name, target in chosen.items()]))


if __name__ == "__main__":
    main()
