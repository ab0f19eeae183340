"""Keep what is read together in few packs: catalogs, and the folders on the way to them.

Each night adds a small pack, and what did not change that night stays in those of the nights before. Left alone, a list on a fresh machine
would ask for dozens of packs. So a run stores again, with what it adds anyway, what lies in small packs, once these are more than a few.
Nothing is removed: older snapshots need the old packs, and `prune` is who may tell that they do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

from backup_tool.errors import IntegrityError
from backup_tool.repository import BlobKind, Repository, Writer

MOST_CATALOG_PACKS = 3
MOST_TREE_PACKS = 2
"""So many small packs of each are to be read for a list, tonight's among them."""

_KIND: dict[Literal["catalog", "tree"], BlobKind] = {"catalog": "data", "tree": "tree"}


def keep_together(
    repository: Repository,
    writer: Writer,
    content: Literal["catalog", "tree"],
    blobs: Iterable[str],
    most: int,
    at_hand: Mapping[str, bytes] | None = None,
) -> int:
    """Store blobs again so that they lie in at most `most` small packs, with this run's own; gives how many. `at_hand`: those that need
    not be read for it.

    Where this run adds none of them, nothing is done. Where it has to be, one pack fewer is left than might be: so it is not to be done
    again the night after, whose pack takes that place. Packs with the most bytes stay, and those of 4 MiB and more are left out of account.
    """
    kind, wanted = _KIND[content], list(dict.fromkeys(blobs))
    if all(repository.has(kind, id) for id in wanted):
        return 0
    packs: dict[str, list[str]] = defaultdict(list)
    for id in wanted:
        if (pack := repository.small_pack_of(kind, id)) is not None:
            packs[pack].append(id)
    if len(packs) + 1 <= most:
        return 0
    smallest_first = sorted(packs, key=lambda pack: (sum(repository.blob_length(kind, id) for id in packs[pack]), pack))
    moving = [id for pack in smallest_first[: len(packs) + 2 - most] for id in packs[pack]]
    try:
        for id, data in ((id, at_hand[id]) for id in moving) if at_hand else repository.load_blobs(kind, moving):
            writer.add(content, data, id, again=True)
    except IntegrityError:  # what is damaged stays where it is, for `check` to name; it is no reason to store nothing tonight
        return 0
    return len(moving)
