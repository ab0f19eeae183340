"""What a check found."""

from __future__ import annotations

import threading
from typing import Literal

import msgspec

from backup_tool.errors import DamagedObject

Severity = Literal["error", "warning", "hint"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "hint")
# A hostile repository could give millions; nobody reads more than this.
_MOST = 2_000


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be.

    An "error" is damage, or what other programs take for it; a "warning" is what this program would not have written; a "hint" costs space
    only. `kind` and `name` are those of the object (kind: config, key, snapshot, index, pack, tree, blob or repository).
    """

    severity: Severity
    kind: str
    name: str
    message: str


class Findings:
    """Gathers findings, from any thread."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._untold = 0
        self._lock = threading.Lock()

    def add(self, severity: Severity, kind: str, name: str, message: str) -> None:
        """One more. Its message names the object, too."""
        if name[:16] not in message:
            message = f"{kind} {name[:16]}: {message}"
        with self._lock:
            if len(self._found) < _MOST:
                self._found.append(Finding(severity, kind, name, message))
            else:
                self._untold += 1

    def damage(self, error: DamagedObject) -> None:
        """An object that is damaged."""
        self.add("error", error.kind, error.name, error.message)

    def gravest_first(self) -> list[Finding]:
        """All of them; the last one says how many more there were."""
        found = sorted(self._found, key=lambda finding: _ORDER.index(finding.severity))
        if self._untold:
            found.append(Finding("error", "repository", "", f"{self._untold:,} more findings are not shown"))
        return found
