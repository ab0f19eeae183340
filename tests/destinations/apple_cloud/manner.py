"""How a Drive behaves where Apple's own way varies or is not known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Manner:
    """The defaults are what was reported, or the safer guess."""

    late: int = 0
    """How many listings of a folder pass until a change shows in it."""
    short: int = 0
    """How many listings come with half of their items, though `numberOfItems` counts them all."""
    unknown_status: int = 0
    """How many changes are answered with the item status `UNKNOWN`, and not made."""
    batch: int | None = None
    """The most folders in one listing call; more: 400. Not known of Apple."""
    taken_folder: str = "renames"
    """createFolders on a taken name: `renames` the new one, gives back the `same` one, or `refuses`. Not known of Apple."""
    taken_file: str = "renames"
    """A commit on a taken name with `allow_conflict: false`: `renames` or `refuses`. Not known of Apple; without that word it renames."""
    bare_extension: str | None = "absent"
    """What the field `extension` of a file without one is: absent, or this."""
    ranges: bool = True
    """Whether `Range` is obeyed; if not, everything comes with 200."""
    moved: int = 0
    """How many downloads are answered with 330 and another address."""
    expired: int = 410
    """What a signed address says when its time is over: 410 and 404 have been seen."""
    full_at: str = "slot"
    """Where a full account says so: at the `slot` or at the `commit`. Not known of Apple."""
    full_status: int = 507
    """Not known of Apple either."""
    trash_counts: bool = True
    """Whether the trash uses quota. Reported so."""
