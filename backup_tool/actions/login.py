"""Sign in to a destination that wants a person."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from backup_tool.config import DestinationSpec
from backup_tool.destinations.base import Person
from backup_tool.errors import UsageError
from backup_tool.names import shown

_PLACES = {
    "gdrive": "backup_tool.destinations.gdrive.login",
    "icloud": "backup_tool.destinations.icloud.login",
}
"""Where each type's `sign_in(spec, home, person)` is."""


def login(spec: DestinationSpec, home: Path, person: Person, configured: Iterable[DestinationSpec] = ()) -> None:
    """Sign in, and keep the sign-in in `home` for all later commands. Raises UsageError for a place that needs none."""
    others = [one.name for one in configured if one.type in _PLACES]
    if spec.type not in _PLACES:
        hint = "only destinations of the types gdrive and icloud do" + (f", such as: {shown(', '.join(others))}" if others else "")
        raise UsageError(f"{shown(spec.label)} needs no sign-in", hint)
    if spec.type != "gdrive" and spec.options.keys() & {"client", "mode"}:
        raise UsageError("--client, --paste and --device are for Google Drive", "leave them out: what is needed is asked for")
    import_module(_PLACES[spec.type]).sign_in(spec, home, person)
