"""What a source gives: the audio files of a message store, with what is known of each, and an account of all that is not there.

A source is read-only. Nothing is written beside the store; a database is copied into `workdir` before it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from backup_tool.errors import UsageError
from backup_tool.models import Chat, Note, Problem, Secret

if TYPE_CHECKING:
    from backup_tool.sources.tree import Folder, Tree


class SourceSpec(Protocol):
    """What a source is opened from: a table `[sources.NAME]` of the settings, or a path that was typed."""

    @property
    def name(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def path(self) -> Path: ...

    @property
    def database(self) -> Path | None: ...

    @property
    def timezone(self) -> str | None: ...

    @property
    def contacts(self) -> Sequence[Path]: ...


class SourceAbsent(UsageError):
    """The folder of a source is not there: mistyped, or a card or a share that is away."""


@dataclass(slots=True)
class AudioFile:
    """One audio file of a store, and the notes it is the audio of: one a message that it belongs to, or one without message."""

    path: str
    """Below the source's folder, `/` between parts, undecodable bytes as \\xNN: what `found` says."""
    original_path: str
    """Below the store's own root (the folder that holds `Media`), in the same form: what the record says."""
    location: bytes
    """Where it is on this machine, for opening. Never shown, never stored."""
    size: int
    mtime_ns: int
    notes: list[Note]
    """At least one. Without id, blobs, size, duration, path, found, first_seen: those are not the source's to know.
    `original_path` and `mtime_ns` are filled in by the source."""
    id: str | None = None
    """SHA-256 in hex where the source had to know it (matching by content)."""
    recorded_id: str | None = None
    """SHA-256 in hex that the store's database has on record for this file, if it has one."""


Unlock = Callable[[], Sequence[Secret]]
"""The keys and passwords that a person gave for a store, each as it was given. Called only where something is locked: it may ask a person.
Empty where there are none. Raises UsageError."""

KeyKind = Literal["key", "password"]
"""What a person is asked for: the 64-digit key of an Android phone's backup, or the password of a device backup."""


@runtime_checkable
class Keyring(Protocol):
    """An `Unlock` that can also say what is at hand without a person, and is told what it is asked for."""

    def __call__(self, kind: KeyKind = "password") -> Sequence[Secret]: ...

    def at_hand(self) -> Sequence[Secret]:
        """What was given by file, command or keyring: nobody is asked. Raises UsageError where none of it could be had."""


KnownId = Callable[["AudioFile"], "str | None"]
"""The id that an earlier run gave this very file (in the same place, with the same size and time), or None: spares reading it again."""


@dataclass(slots=True)
class Summary:
    """What a finished scan says of its store."""

    complete: bool = False
    """Scanned to its end: the root exists, everything but `unreadable_folders` listed without error, and at least one audio file was there.
    Only then may a note that was not found be marked as missing."""
    unreadable_folders: list[str] = field(default_factory=list)
    """Paths as in AudioFile.path; notes below them are carried as they are."""
    files: int = 0
    orphans: int = 0
    """Files without a message, in a store whose database was read. 0 without database."""
    missing: list[Note] = field(default_factory=list)
    """One for each message whose file was on the device once and is not there: what is known of it, `size` and `duration` too."""
    not_downloaded: list[Note] = field(default_factory=list)
    """As `missing`: messages whose file the device never had."""
    omitted: list[Note] = field(default_factory=list)
    """As `missing`: messages that whoever exported a chat left the files of out."""
    chats: list[Chat] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """What could not be read: each means exit code 3."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know and a script need not: lower case, no full stop."""
    database: str | None = None
    """What messages were read from, by its path below the source's folder (a database, an exported chat's text), or None."""


class Scan(Protocol):
    """Iterate it to its end for the files, folder by folder in sorted order; then `summary` is whole."""

    summary: Summary

    def __iter__(self) -> Iterator[AudioFile]: ...


class Source(Protocol):
    """A store on this machine. Made by `sources.open_source`."""

    name: str
    type: str
    """The type that was found, never "auto"."""
    root: bytes
    """Where it is on this machine: all files lie below it."""
    plain: bool
    """True where each `location` is an ordinary file below `root`, just as it is to be archived: then any process can read it. Else (inside
    a zip, encrypted) only `read` of this object can."""

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the store once.

        Raises UsageError where the path does not exist or nothing is recognised there; `SourceAbsent` is for the caller to decide.
        """

    def read(self, file: AudioFile, piece: int) -> Iterator[bytes]:
        """The file's bytes in pieces of exactly `piece` bytes but for the last (an empty file gives none).

        Raises FileUnreadable where it cannot be read, and FileChanging (after the last piece) where it was written to meanwhile.
        """


class Recogniser(Protocol):
    """Knows one kind of store when it sees it: asked at each folder of one walk that all kinds share (`sources.detection`)."""

    type: str

    def look(self, tree: Tree, folder: Folder) -> list[str]:
        """The stores of this kind that begin in this open folder: their paths below the tree's root (the folder's own, or files in it).

        Decides by content, never by a name alone. What belongs to a store that was found is taken out of `folder.folders` (and
        `folder.files`), so that the walk, and other kinds, stay out of it. Raises nothing: what cannot be read is not recognised.
        """


class FileUnreadable(Exception):
    """A file of the store cannot be read; the text says why, in a person's words."""


class FileChanging(FileUnreadable):
    """A file was written to while it was read: what was read is not to be kept."""
