"""Two workers for a large run: give them batches of files, take back what they read."""

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
from typing import IO, cast

import msgspec

import backup_tool
from backup_tool import errors
from backup_tool.actions.worker import Batch, FailedFile, FileOrder, Finish, Order, ReadFile, Reply, receive, send
from backup_tool.errors import BackupError
from backup_tool.repository import Writer
from backup_tool.sources.base import AudioFile

COUNT = 2
_BATCH_FILES = 64
_BATCH_BYTES = 8 * 2**20
_AHEAD = 3

Answer = tuple[AudioFile, "ReadFile | FailedFile"]


class Workers:
    """Processes that store files; use it in a `with` block and call `finish` at its end. Leaving it otherwise ends them at once.

    Files of equal size go to the same worker: so equal audio does too, and is stored once.
    """

    def __init__(self, order: Order, writer: Writer) -> None:
        self._writer = writer
        self._workers = [_Process(order) for _ in range(COUNT)]
        self._batches: list[list[AudioFile]] = [[] for _ in self._workers]
        self._waiting: deque[tuple[list[AudioFile], Future[Reply]]] = deque()

    def put(self, root: bytes, file: AudioFile) -> Iterator[Answer]:
        """Give one more file of the tree at `root`; what others came to meanwhile. Raises what went wrong in a worker."""
        number = file.size % COUNT
        batch = self._batches[number]
        batch.append(file)
        if len(batch) >= _BATCH_FILES or sum(one.size for one in batch[-8:]) >= _BATCH_BYTES:
            self._send(root, number)
        yield from self._answers(_AHEAD * COUNT)

    def drain(self, root: bytes) -> Iterator[Answer]:
        """Wait for all that was given."""
        for number in range(COUNT):
            if self._batches[number]:
                self._send(root, number)
        yield from self._answers(0)

    def _send(self, root: bytes, number: int) -> None:
        files, self._batches[number] = self._batches[number], []
        orders = [FileOrder(file.location, file.size, file.mtime_ns, file.original_path) for file in files]
        self._waiting.append((files, self._workers[number].submit(Batch(root, orders))))

    def _answers(self, most: int) -> Iterator[Answer]:
        while self._waiting and (len(self._waiting) > most or self._waiting[0][1].done()):
            files, future = self._waiting.popleft()
            yield from zip(files, self._take(future).files, strict=True)

    def _take(self, future: Future[Reply]) -> Reply:
        reply = future.result()
        for pack in reply.packs:
            self._writer.take_over(pack.id, pack.entries)
        if reply.error is not None:
            kind, message, hint = reply.error
            raise cast(type[BackupError], getattr(errors, kind, BackupError))(message, hint)
        return reply

    def finish(self) -> None:
        """All packs of the workers are durable, and their blobs known to the writer."""
        for future in [worker.submit(Finish()) for worker in self._workers]:
            self._take(future)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self._workers:
            worker.close()


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

    def submit(self, batch: Batch | Finish) -> Future[Reply]:
        return self._pool.submit(self._ask, self._encode(batch))

    def _tell(self, message: bytes) -> None:
        send(cast(IO[bytes], self._process.stdin), message)  # type: ignore[arg-type]

    def _ask(self, message: bytes) -> Reply:
        with suppress(BrokenPipeError, ValueError):  # it told why before it went, or it did not
            self._tell(message)
        reply = receive(self._process.stdout)  # type: ignore[arg-type]
        if reply is None:
            raise BackupError("a worker process ended unexpectedly", "run it again: what was stored is found and not sent twice")
        return self._decode(reply)

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
