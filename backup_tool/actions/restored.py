"""What was given back, and what could not be."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import msgspec

from backup_tool.catalog import Entry
from backup_tool.errors import UsageError, gravest
from backup_tool.exporters.folder import Written
from backup_tool.models import Problem
from backup_tool.names import shown


class RestoredFile(msgspec.Struct):
    """A note that was given back, and where it is now."""

    id: str
    path: str


@dataclass
class Restored:
    """What was given back, in `files`. `errors` are notes that were left out, and those that had to take another name."""

    notes: int = 0
    bytes: int = 0
    files: list[RestoredFile] = field(default_factory=list)
    errors: list[Problem] = field(default_factory=list)
    same: int = 0
    codes: set[int] = field(default_factory=set)

    @property
    def document(self) -> dict[str, object]:
        """For `--json`."""
        return {"notes": self.notes, "bytes": self.bytes, "files": self.files, "errors": self.errors}

    @property
    def exit_code(self) -> int:
        """3 where something was left out or got another name, 5 where bytes were not what they should be."""
        return gravest(self.codes)

    def took(self, item: Entry, written: Written, name: str) -> None:
        """One note is there now; `name` is what its file was to be called."""
        self.notes += 1
        self.bytes += item.size or 0
        self.same += written.status == "same"
        self.files.append(RestoredFile(item.id or "", written.path))
        if written.status == "renamed":
            self.left_out(Problem(name, f"another file has this name: written as {os.path.basename(written.path)}"), 3)

    def left_out(self, problem: Problem, code: int) -> None:
        """One note is not there, or not under its name."""
        self.errors.append(problem)
        self.codes.add(code)


def only_original(format: str) -> None:
    """Raises UsageError for a format that this version does not make."""
    if format != "original":
        raise UsageError(
            f"this version gives notes back as they are, not as {shown(format)}", "leave out --format, or say --format original"
        )
