"""Named bytes in a place. `open_destination` is the one way to a place from its spec; each kind's library is loaded only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup_tool.errors import UsageError

if TYPE_CHECKING:
    from backup_tool.config import DestinationSpec
    from backup_tool.destinations.base import Destination


def open_destination(spec: DestinationSpec) -> Destination:
    """The place that the spec names, wrapped in what that kind of place needs. Nothing is read or made there yet.

    Raises UsageError for a type that this version does not have.
    """
    if spec.type == "local" and spec.path is not None:
        from backup_tool.destinations.local import LocalDestination

        return LocalDestination(spec.path)
    raise UsageError(
        f"destinations of type {spec.type} are not in this version yet",
        "keep the archive in a local folder for now, for example: --repo /path/to/archive",
    )
