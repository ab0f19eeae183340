"""The words every room shares: a note, its chat, where it was found, and a secret that never shows itself."""

from __future__ import annotations

from typing import Annotated, Literal, NoReturn

import msgspec

Size = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
"""Bytes. A record is foreign: what no number of a file system can be is refused when it is read."""
Kind = Literal["voice", "audio", "video"]
TimeFrom = Literal["message", "name", "file", "guess"]
Damage = Literal["truncated", "crc-mismatch", "sequence-gap", "not-ogg", "empty", "hash-differs"]


IMPORTED = "imported"
"""The source of notes that a person put into the archive by hand: no folder, and no run looks through it. So begins their `message_id`."""
SAVED_FILE = "saved.jsonl"
"""The file of a snapshot that says which notes a person saved. It stands beside the folders of the sources."""
RESERVED = (IMPORTED, SAVED_FILE)
"""What no source may be called."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a note was seen: the source's name, and the path below that source's folder (``/`` between parts).

    `mtime_ns` is the time of the file there, nanoseconds; None for the file whose path and time the record itself has.
    """

    source: str
    path: str
    mtime_ns: int | None = None


class Transcript(msgspec.Struct, frozen=True):
    """What was said, in which language, and who wrote it down (``whatsapp``, or an engine's name)."""

    text: str
    language: str | None = None
    engine: str | None = None


class Note(msgspec.Struct, kw_only=True):
    """One voice note, audio attachment or video note: the record of it in the catalog. None is always "not known".

    `id` is the SHA-256 of the whole file, `blobs` the ids of its pieces in the archive (one up to 4 MiB), both in hex.
    Times are RFC 3339 in UTC (``2026-03-03T14:05:00Z``, with ``.123`` where the message says so). `duration` is in seconds.
    """

    id: str | None = None
    blobs: list[str] | None = None
    size: Size | None = None
    media_type: str | None = None
    kind: Kind = "voice"
    chat: str | None = None
    chat_id: str | None = None
    message_id: str | None = None
    sender: str | None = None
    sender_id: str | None = None
    from_me: bool | None = None
    sent_at: str | None = None
    sent_at_from: TimeFrom | None = None
    zone: str | None = None
    duration: float | None = None
    starred: bool | None = None
    forwarded: bool | None = None
    transcript: Transcript | None = None
    title: str | None = None
    """What its owner called the recording; of a piece of music, its title."""
    original_path: str | None = None
    mtime_ns: int | None = None
    path: str | None = None
    found: list[Place] = []
    first_seen: str | None = None
    missing_since: str | None = None
    damaged: Damage | None = None

    @property
    def known_by_day(self) -> bool:
        """True where only the day is known: it was read from a file name that holds no more, and the time stands at noon UTC."""
        return self.sent_at_from == "name" and self.sent_at is not None and self.sent_at[10:] == "T12:00:00Z"


class Chat(msgspec.Struct, kw_only=True):
    """A conversation: every title it ever had, newest last, and its folder in the archive (chosen once)."""

    chat_id: str
    titles: list[str] = []
    folder: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """Something that could not be read or was left out: its path as text, and why, in a person's words."""

    path: str
    reason: str


class Secret:
    """Text that no print, log, traceback or pickle shows. `reveal()` is for the one place that needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def of_bytes(cls, data: bytes) -> Secret:
        """A secret of bytes, whatever they are; `reveal_bytes` gives them back."""
        return cls(data.decode("utf-8", "surrogateescape"))

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def reveal_bytes(self) -> bytes:
        """The secret itself, as the bytes it was read from; of typed text, its UTF-8."""
        return self._text.encode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not stored")


class Progress:
    """How a job tells of itself while it works. This one says nothing; the command line has one that does."""

    def begin(self, what: str, total: int | None = None, unit: str = "notes") -> None:
        """A stretch of work begins: `what` in a person's words; `total` in `unit` ("notes" or "bytes"), None where not known."""

    def step(self, amount: int = 1) -> None:
        """So much more of it is done. May be called from any thread."""

    def end(self) -> None:
        """The stretch is over."""

    def warn(self, text: str) -> None:
        """Something a person should read now: lower case, no full stop."""

    def tell(self, text: str) -> None:
        """A detail, for those who asked for more."""
