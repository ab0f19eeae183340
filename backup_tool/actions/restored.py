"""What was given back, and what could not be."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import msgspec

from backup_tool.catalog import Entry
from backup_tool.errors import gravest
from backup_tool.exporters.folder import Written
from backup_tool.models import Note, Problem


class RestoredFile(msgspec.Struct):
    """A note that was given back, and where it is now."""

    id: str
    path: str


class SentMail(msgspec.Struct):
    """One mail: the addresses that got it and those refused, the ids of its notes, its bytes, and where a draft for those refused is."""

    to: list[str]
    refused: list[Problem]
    notes: list[str]
    bytes: int
    draft: str | None = None


@dataclass
class Restored:
    """What was given back, in `files`. `errors` are notes that were left out, and those that had to take another name."""

    notes: int = 0
    bytes: int = 0
    files: list[RestoredFile] = field(default_factory=list)
    errors: list[Problem] = field(default_factory=list)
    same: int = 0
    written: list[tuple[Entry, str]] = field(default_factory=list)
    """Each note that was given back, and where it is now."""
    renamed: int | None = None
    """In the phone's own layout: of all notes, those whose name there no disk or phone could hold."""
    codes: set[int] = field(default_factory=set)
    mails: list[SentMail] = field(default_factory=list)
    unsent: int = 0
    """Of all mails that could not be sent, those whose drafts wait."""
    _given: set[str | None] = field(default_factory=set)

    @property
    def document(self) -> dict[str, object]:
        """For `--json`."""
        mails = {"mails": self.mails, "unsent": self.unsent} if self.mails else {}
        renamed = {} if self.renamed is None else {"renamed": self.renamed}
        return {"notes": self.notes, "bytes": self.bytes, "files": self.files, "errors": self.errors} | renamed | mails

    @property
    def exit_code(self) -> int:
        """3 where something was left out or got another name, 5 where bytes were not what they should be."""
        return gravest(self.codes)

    def took(self, item: Entry, written: Written, name: str, reason: str | None = None) -> None:
        """One note is there now; `name` is what its file was to be called, `reason` what a person should know of it."""
        self.notes += 1
        self.bytes += item.size or 0
        self.same += written.status == "same"
        self.files.append(RestoredFile(item.id or "", written.path))
        self.written.append((item, written.path))
        if written.status == "renamed":
            self.left_out(Problem(name, f"another file has this name: written as {os.path.basename(written.path)}"), 3)
        if reason:
            self.left_out(Problem(name, reason), 3)

    def gave(self, item: Note) -> None:
        """One note was given; it counts once, in however many ways."""
        if item.id not in self._given:
            self._given.add(item.id)
            self.notes += 1
            self.bytes += item.size or 0

    def left_out(self, problem: Problem, code: int) -> None:
        """One note is not there, or not under its name."""
        self.errors.append(problem)
        self.codes.add(code)
