"""How much may be asked of Google Drive in a minute: one budget for all threads.

Google counts units (Drive API, "Usage limits": 325,000 a minute for each user; a read is 5, an edit 50, a list 100, a download 200), and
writes besides: no more than about three a second for long. A refusal halves the pace, which then comes back by and by.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

READ, OTHER, EDIT, LIST, DOWNLOAD = 5, 5, 50, 100, 200
UNITS = (5000.0, 100_000.0)
"""Units a second for long, and at once."""
WRITES = (3.0, 600.0)
"""Writes a second for long, and at once: a new archive is 263 folders and files."""
_SLOWEST = 1 / 16
_RECOVERY = 1.02
"""What each answered request adds to the pace after a refusal."""


class Pacer:
    """Waits before requests so that none is refused. `spent` counts the units of all of them."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] | None = None) -> None:
        self.spent = 0
        self._ended = threading.Event()
        self._now, self._sleep = now, sleep or self._ended.wait
        self._lock = threading.Lock()
        self._pace = 1.0
        self._units, self._writes = _Bucket(*UNITS, now()), _Bucket(*WRITES, now())

    def take(self, units: int, *, write: bool = False) -> None:
        """Wait until a request of so many units may be sent."""
        with self._lock:
            self.spent += units
            now = self._now()
            wait = self._units.take(units, now, self._pace)
            if write:
                wait = max(wait, self._writes.take(1, now, self._pace))
        if wait > 0:
            self._sleep(wait)

    def end(self) -> None:
        """Let nobody wait any longer."""
        self._ended.set()

    def refused(self) -> None:
        """Google said that it was too much."""
        with self._lock:
            self._pace = max(_SLOWEST, self._pace / 2)
            self._units.empty(self._now())
            self._writes.empty(self._now())

    def answered(self) -> None:
        """A request went well."""
        if self._pace < 1.0:
            with self._lock:
                self._pace = min(1.0, self._pace * _RECOVERY)


class _Bucket:
    """Fills at `rate` up to `most`; may be overdrawn by who then waits."""

    def __init__(self, rate: float, most: float, now: float) -> None:
        self._rate, self._most = rate, most
        self._left, self._at = most, now

    def take(self, amount: float, now: float, pace: float) -> float:
        """Seconds to wait."""
        rate = self._rate * pace
        self._left = min(self._most, self._left + (now - self._at) * rate) - amount
        self._at = now
        return max(0.0, -self._left / rate)

    def empty(self, now: float) -> None:
        self._left, self._at = min(self._left, 0.0), now
