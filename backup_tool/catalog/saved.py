"""The notes that a person saved, as `saved.jsonl` holds them: one line a note that was ever saved, by the id of its audio.

    {"id":"3f9a…","saved":true,"at":"2026-03-03T14:05:00.123456Z"}

A mark is never removed, so that taking one back on one machine counts on all: of several marks of one note the latest counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from backup_tool.catalog.records import CatalogDamaged, time_of, time_text


class Mark(msgspec.Struct, frozen=True):
    """That a note was saved, or is no more; `at` is when a person said so (RFC 3339, UTC)."""

    id: str
    saved: bool
    at: str


class Marks:
    """The marks of several snapshots as one."""

    def __init__(self) -> None:
        self._marks: dict[str, Mark] = {}

    def load(self, data: bytes) -> None:
        """Take in a `saved.jsonl`. Raises CatalogDamaged."""
        try:
            marks = [_decoder.decode(line) for line in data.splitlines()]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
            raise CatalogDamaged(f"a list of saved notes is damaged: {broken}", "run 'backup check' to see all damage") from None
        for mark in marks:
            known = self._marks.get(mark.id)
            if known is None or _order(known) < _order(mark):
                self._marks[mark.id] = mark

    def lines(self) -> list[bytes]:
        """A `saved.jsonl`, line by line: the same marks always make the same bytes."""
        return [msgspec.json.encode(mark) for _, mark in sorted(self._marks.items())]

    def ids(self) -> frozenset[str]:
        """The notes that are saved."""
        return frozenset(mark.id for mark in self._marks.values() if mark.saved)

    def set(self, ids: Iterable[str], saved: bool) -> None:
        """A person says so now. It counts as later than all that was said before, whatever other machines' clocks showed."""
        now = datetime.now(UTC)
        for note_id in ids:
            before = self._marks.get(note_id)
            at = now if before is None else max(now, _moment(before) + timedelta(microseconds=1))
            self._marks[note_id] = Mark(note_id, saved, time_text(at))


_decoder = msgspec.json.Decoder(Mark)
_LAST = datetime(9999, 1, 1, tzinfo=UTC)


def _order(mark: Mark) -> tuple[datetime, bool]:
    """Of two marks of one moment, the one that keeps more counts."""
    return _moment(mark), mark.saved


def _moment(mark: Mark) -> datetime:
    try:
        return min(time_of(mark.at).astimezone(UTC), _LAST)
    except (ValueError, OverflowError):
        return datetime.min.replace(tzinfo=UTC)
