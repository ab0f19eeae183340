"""Work in threads, results in order, only so much ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 2
_AHEAD = 48


def in_order(work: Callable[[T], R], items: Iterable[T], name: str) -> Iterator[R]:
    """`work` on each item, in threads; results in the order of the items, which are taken only a little ahead.

    An exception of `work` or of `items` ends it: what has not begun is dropped.
    """
    with ThreadPoolExecutor(WORKERS, name) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                while waiting and (len(waiting) > _AHEAD or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
