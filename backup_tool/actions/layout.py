"""Where a note stands in `--layout original`: at the phone's own path, to be copied back there so that the messenger plays it again.

Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0007.opus           the only phone of the archive
phone/Android/media/com.whatsapp/WhatsApp/Media/…                    each of several phones, or stores of one: below its source's name
memos/20260303 140500.m4a, imported/Anna/Memo.m4a                    what never was on such a phone
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from backup_tool.catalog import Entry
from backup_tool.exporters.naming import folder_name, restored_name
from backup_tool.models import IMPORTED
from backup_tool.names import folded, kept_name, safe_name

_Rank = tuple[bool, str, str]


class _Spot(NamedTuple):
    """Where a note is: its source, the folders of its store below that, and its path in the store."""

    source: str
    root: tuple[str, ...]
    inside: tuple[str, ...]
    on_phone: bool

    @property
    def key(self) -> int:
        """The same for the same place, as disks that ignore case see it."""
        return hash((self.source, folded("/".join((*self.root, *self.inside)))))


class OriginalLayout:
    """The paths of all notes of an archive view, whatever part of them is then restored. Goes through the notes once.

    A name that two notes of a store had on the phone, one after the other, belongs to the one that is there still, else to the newer; the
    other one gets digits of its id (`is_second`).
    """

    def __init__(self, notes: Iterable[Entry]) -> None:
        self._phones: set[tuple[str, tuple[str, ...]]] = set()
        holders: dict[int, tuple[_Rank, str | None]] = {}
        self._first: dict[int, str] = {}
        """Of names that several notes had: the id of the one that it belongs to."""
        # Machines that call different phones alike: one name, two recordings.
        self._apart: set[str] = set()
        for item in notes:
            spot = _spot(item)
            if spot.on_phone:
                self._phones.add((spot.source, spot.root))
            rank = (item.missing_since is None, item.sent_at or "", item.id or "")
            other, host = holders.setdefault(spot.key, (rank, item.host))
            if other[2] != item.id:
                holders[spot.key] = max((other, host), (rank, item.host), key=lambda one: one[0])
                self._first[spot.key] = holders[spot.key][0][2]
                if host != item.host:
                    self._apart.add(spot.source)

    def is_second(self, item: Entry) -> bool:
        """True for a note whose name belongs to another one now."""
        return self._is_second(_spot(item), item)

    def is_renamed(self, item: Entry) -> bool:
        """True for a note whose own name, or a folder's in it, disks and phones could not hold: it has another here."""
        own = item.original_path or ""
        return "/".join(_parts(own)) != own

    def _is_second(self, spot: _Spot, item: Entry) -> bool:
        return bool(self._first) and spot.source not in self._apart and self._first.get(spot.key, item.id) != item.id

    def of(self, item: Entry) -> tuple[str, ...]:
        """Folders and file name of one of the notes."""
        spot = _spot(item)
        *folders, name = spot.inside
        if spot.source in self._apart:
            folders = [safe_name(f"{spot.source} {item.host}"), *spot.root, *folders]
        elif not spot.on_phone or len(self._phones) > 1:
            folders = [safe_name(spot.source), *spot.root, *folders]
        return (*folders, _with_digits(name, item.id or "") if self._is_second(spot, item) else name)


def _with_digits(name: str, note_id: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{stem} {note_id[:8]}{dot}{suffix}" if stem else f"{name} {note_id[:8]}"


def _spot(item: Entry) -> _Spot:
    """Read from where the file lay that the record's path is of."""
    own = item.original_path or ""
    place = next((place for place in item.found if place.mtime_ns is None), item.found[0] if item.found else None)
    source, path = (item.source or "", own) if place is None else (place.source, place.path)
    inside = _parts(own) or restored_name(item)
    if source == IMPORTED:
        return _Spot(source, (), (folder_name(item.chat), *inside), False)
    on_phone = own.startswith("Media/")  # WhatsApp's on Android; an iPhone keeps its files where nobody can put any
    if own and path.endswith("/" + own):
        return _Spot(source, _parts(path[: -len(own)]), inside, on_phone)
    if len(inside) == 1:
        return _Spot(source, _parts(path)[:-1], inside, on_phone)
    return _Spot(source, (), inside, on_phone)


def _parts(path: str) -> tuple[str, ...]:
    above, _, name = path.rpartition("/")
    return (*_folders(above), kept_name(name)) if name else _folders(above)


@lru_cache(maxsize=4096)
def _folders(path: str) -> tuple[str, ...]:
    return tuple(kept_name(part) for part in path.split("/") if part not in ("", "."))
