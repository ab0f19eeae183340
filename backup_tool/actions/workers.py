"""Two workers for a large job: started here, given batches, asked for what became of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import msgspec

import backup_tool
from backup_tool import errors
from backup_tool.actions.worker import Batch, FailedFile, FileOrder, Finish, Message, Order, ReadFile, Reply, receive, send
from backup_tool.errors import BackupError
from backup_tool.repository import Writer
from backup_tool.sources.base import AudioFile

COUNT = 2
# From so much on, workers are worth the fifth of a second that they take to start.
MANY_FILES = 400
MANY_COPIES = 12
MANY_BYTES = 48 * 2**20
_BATCH_FILES = 64
_BATCH_BYTES = 8 * 2**20
_AHEAD = 3

Answer = tuple[AudioFile, "ReadFile | FailedFile"]


class Workers:
    """Processes that answer messages. Use it in a `with` block: leaving it ends them, at once where they work on something still."""

    def __init__(self, order: Order) -> None:
        self._workers = [_Process(order) for _ in range(COUNT)]

    def ask(self, number: int, message: Message) -> Future[Reply]:
        """Give worker `number` (0 to COUNT - 1) a message. Its answer raises what went wrong there."""
        return self._workers[number].submit(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self._workers:
            worker.close()


class StoringWorkers(Workers):
    """Workers that store files; call `finish` at the end.

    Files of equal size go to the same worker: so equal audio does too, and is stored once.
    """

    def __init__(self, order: Order, writer: Writer) -> None:
        super().__init__(order)
        self._writer = writer
        self._batches: list[list[AudioFile]] = [[] for _ in range(COUNT)]
        self._sizes = [0] * COUNT
        self._waiting: deque[tuple[list[AudioFile], Future[Reply]]] = deque()

    def put(self, root: bytes, file: AudioFile) -> Iterator[Answer]:
        """Give one more file of the tree at `root`; what others came to meanwhile. Raises what went wrong in a worker."""
        number = file.size % COUNT
        self._batches[number].append(file)
        self._sizes[number] += file.size
        if len(self._batches[number]) < _BATCH_FILES and self._sizes[number] < _BATCH_BYTES:
            return
        self._send(root, number)
        yield from self._answers(_AHEAD * COUNT)

    def drain(self, root: bytes) -> Iterator[Answer]:
        """Wait for all that was given."""
        for number in range(COUNT):
            if self._batches[number]:
                self._send(root, number)
        yield from self._answers(0)

    def _send(self, root: bytes, number: int) -> None:
        files, self._batches[number], self._sizes[number] = self._batches[number], [], 0
        orders = [FileOrder(file.location, file.size, file.mtime_ns, file.original_path) for file in files]
        self._waiting.append((files, self.ask(number, Batch(root, orders))))

    def _answers(self, most: int) -> Iterator[Answer]:
        while self._waiting and (len(self._waiting) > most or self._waiting[0][1].done()):
            files, future = self._waiting.popleft()
            yield from zip(files, cast(list[ReadFile | FailedFile], self._take(future).files), strict=True)

    def _take(self, future: Future[Reply]) -> Reply:
        reply = future.result()
        for pack in reply.packs:
            self._writer.take_over(pack.id, pack.entries)
        return reply

    def finish(self) -> None:
        """All packs of the workers are durable, and their blobs known to the writer."""
        for future in [self.ask(number, Finish()) for number in range(COUNT)]:
            self._take(future)


class _Process:
    """One worker, and the thread that waits for its answers."""

    def __init__(self, order: Order) -> None:
        # The child finds this package wherever this process found it.
        where = str(Path(backup_tool.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [where, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "backup_tool.actions.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("BACKUP_PASSWORD")} | {"PYTHONPATH": path},
        )
        self._pool = ThreadPoolExecutor(1, "worker")
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Reply).decode
        self._pool.submit(self._tell, self._encode(order))

    def submit(self, message: Message) -> Future[Reply]:
        return self._pool.submit(self._ask, self._encode(message))

    def _tell(self, message: bytes) -> None:
        send(cast(IO[bytes], self._process.stdin), message)  # type: ignore[arg-type]

    def _ask(self, message: bytes) -> Reply:
        with suppress(BrokenPipeError, ValueError):  # it told why before it went, or it did not
            self._tell(message)
        reply = receive(self._process.stdout)  # type: ignore[arg-type]
        if reply is None:
            raise BackupError("a worker process ended unexpectedly", "run it again: what was stored is found and not sent twice")
        answer: Reply = self._decode(reply)
        if answer.error is not None:
            kind, text, hint = answer.error
            raise cast(type[BackupError], getattr(errors, kind, BackupError))(text, hint)
        return answer

    def close(self) -> None:
        """End it: at once where it works on something still."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._pool.shutdown(wait=False, cancel_futures=True)
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pool.shutdown()
        self._process.stdout.close()
