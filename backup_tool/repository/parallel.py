"""Several requests at once, where each has to travel: the answers come in the order of the questions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, repeat
from typing import TypeVar

from backup_tool.destinations.base import Destination
from backup_tool.destinations.places import folder_of

T = TypeVar("T")
R = TypeVar("R")

WIDTH = 8
# Answers that wait to be taken, in bytes.
_IN_FLIGHT = 32 * 2**20


def width_for(destination: Destination) -> int:
    """How many requests at once pay there: one where nothing travels."""
    return WIDTH if folder_of(destination) is None else 1


def abreast(
    work: Callable[[T], R], items: Iterable[T], width: int, weight: Callable[[T], int] = lambda item: 0
) -> Iterator[Callable[[], R]]:
    """For each item, in order, what gives its result or raises its error. `weight` is the size of an answer in bytes: more than 32 MiB are
    not fetched ahead. With a width of 1, each is done when it is asked for.
    """
    if width == 1:
        for item in items:
            yield partial(work, item)
        return
    pool = ThreadPoolExecutor(width, "reading")
    waiting: deque[tuple[Future[R], int]] = deque()
    ahead = 0
    try:
        for item in items:
            size = weight(item)
            while waiting and (len(waiting) >= width or ahead + size > _IN_FLIGHT):
                future, done = waiting.popleft()
                yield future.result
                ahead -= done
            waiting.append((pool.submit(work, item), size))
            ahead += size
        while waiting:
            yield waiting.popleft()[0].result
    finally:
        # Whoever leaves early does not wait for what is on its way: it ends with the connections.
        pool.shutdown(wait=False, cancel_futures=True)


def largest_first(listed: Mapping[str, int], needless: set[str], singly: int) -> Iterator[list[str]]:
    """The names of a listing (with sizes), largest first, in groups to be read together: the first `singly` one by one, then `WIDTH`.

    What comes to be in `needless` meanwhile is left out: a file that stands for others is larger than they are.
    """
    waiting = sorted(listed, key=lambda name: (-listed[name], name))
    for width in chain(repeat(1, singly), repeat(WIDTH)):
        waiting = [name for name in waiting if name not in needless]
        if not waiting:
            return
        yield waiting[:width]
        del waiting[:width]
