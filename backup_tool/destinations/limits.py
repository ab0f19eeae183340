"""How fast bytes may leave: one limit for all uploads of a run, whichever destination they go to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class UploadLimit:
    """A token bucket: `rate` bytes a second on average over all threads, with bursts of a quarter of a second."""

    BURST = 0.25

    def __init__(self, rate: int, *, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        if rate < 1:
            raise ValueError("at least one byte a second")
        self.rate = rate
        self._now, self._sleep = now, sleep
        self._lock = threading.Lock()
        self._due = now()

    def piece(self, wanted: int) -> int:
        """How many of so many bytes to send at once: no wait is longer than about a second, so that a cancelled run ends soon."""
        return max(1, min(wanted, self.rate))

    def take(self, size: int) -> None:
        """Wait until `size` more bytes may leave."""
        with self._lock:  # threads are served in the order they come, each after the bytes of those before it
            now = self._now()
            self._due = max(self._due, now - self.BURST) + size / self.rate
            wait = self._due - now
        if wait > 0:
            self._sleep(wait)
