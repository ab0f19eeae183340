"""Reads a file that comes in pieces as if it were asked for part by part, forwards only, in bounded memory.

A reader is a generator: it yields how many bytes it wants next and is sent exactly those; a negative number skips so many. Where the file
ends first, `FileEnds` is raised inside it. It returns the facts.

    def reader():
        magic = yield 4
        yield -1000
        last = yield 8
        return AudioFacts("audio/x-example")
"""

from __future__ import annotations

from collections.abc import Generator

from backup_tool.audio.facts import AudioFacts

Reader = Generator[int, bytes, AudioFacts]


class FileEnds(Exception):
    """The file ended. `got` of the `wanted` bytes were there; those to be read (not those to be skipped) are `part`."""

    def __init__(self, wanted: int, got: int, part: bytes = b"") -> None:
        super().__init__(wanted, got)
        self.wanted = wanted
        self.got = got
        self.part = part


class Pulled:
    """Drives a reader with the pieces of a file."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._facts: AudioFacts | None = None
        self._wants = next(reader)
        self._skipped = 0
        self._left = b""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        data = self._left + piece if self._left else piece
        at, end = 0, len(data)
        while self._facts is None:
            if self._wants < 0:
                step = min(-self._wants - self._skipped, end - at)
                at, self._skipped = at + step, self._skipped + step
                if self._skipped < -self._wants:
                    break
                self._send(b"")
            elif at + self._wants > end:
                break
            else:
                at += self._wants
                self._send(data[at - self._wants : at])
        self._left = data[at:] if self._facts is None else b""

    def _send(self, data: bytes) -> None:
        self._skipped = 0
        try:
            self._wants = self._reader.send(data)
        except StopIteration as done:
            self._facts = done.value

    def facts(self) -> AudioFacts:
        """What the reader found. Call once, at the end."""
        if self._facts is None:
            got = self._skipped if self._wants < 0 else len(self._left)
            try:
                self._reader.throw(FileEnds(abs(self._wants), got, self._left))
            except StopIteration as done:
                self._facts = done.value
        return self._facts or AudioFacts()
