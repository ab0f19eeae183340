"""Which file belongs to which message.

Paths in a database are those of the phone that wrote it; stores are moved, renamed, copied through disks that change case, and joined. In
this order, each step only for what is left:

1. the path, in the message's own store; then in any other
2. the same, without regard to case and Unicode form
3. the last three parts of the path, then the last two; of messages that dispute a file, those keep it whose content it is
4. the content: SHA-256 against what the database recorded
5. the file's name alone, where only one file has it

Except in the message's own store, a file must have the size that the database recorded; where it recorded only the content, that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from backup_tool.names import folded
from backup_tool.sources.base import AudioFile, FileUnreadable, KnownId
from backup_tool.sources.whatsapp_android.rows import Row

Hasher = Callable[[AudioFile], str]
"""The SHA-256 of a file in hex. Raises FileUnreadable."""
_Key = Callable[[str], "str | None"]


class Matching:
    """Files and messages of one scan. `rows_of` holds, by a file's number, its messages; `unmatched` the messages without a file.

    A message may have several rows, for several places where its file may be: a file has it once, and it is unmatched where none matches.
    """

    def __init__(self, files: Sequence[AudioFile], roots: Sequence[str], rows: Sequence[Row]) -> None:
        self.rows_of: dict[int, list[Row]] = {}
        self.unmatched: list[Row] = list(rows)
        self._files = files
        self._roots = roots

    def run(self, hash_file: Hasher, known: KnownId | None) -> None:
        """Match all that can be matched."""
        self._by_key(lambda path: path, self._by_whole_path)
        self._by_key(folded, self._by_whole_path)
        self._by_key(lambda path: _tail(path, 3), self._by_part)
        self._by_key(lambda path: _tail(path, 2), self._by_part)
        self._settle_disputes(hash_file, known)
        self._by_recorded_hash()
        self._by_content(hash_file, known)
        self._by_key(lambda path: _tail(path, 1), self._by_name)
        for number, rows in self.rows_of.items():
            self.rows_of[number] = _each_message_once(sorted(rows, key=lambda row: (*row.order, row.again)))
        # Of two phones, one sent what the other received: in a group that is one message.
        there = {_message(row) for rows in self.rows_of.values() for row in rows}
        left = [row for row in self.unmatched if _message(row) is None or _message(row) not in there]
        self.unmatched = _each_message_once(sorted(left, key=lambda row: not row.arrived))

    def _assign(self, choose: Callable[[Row], int | None]) -> None:
        left = []
        for row in self.unmatched:
            number = choose(row)
            if number is None:
                left.append(row)
            else:
                self.rows_of.setdefault(number, []).append(row)
        self.unmatched = left

    def _by_key(self, key: _Key, choose: Callable[[Row, list[int]], int | None]) -> None:
        """Match where a message's path and a file's give the same key; `choose` picks among the files that do."""
        if not any(row.path for row in self.unmatched):
            return
        files = defaultdict[str | None, list[int]](list)
        for number, file in enumerate(self._files):
            files[key(file.original_path)].append(number)

        def pick(row: Row) -> int | None:
            wanted = key(row.path) if row.path else None
            there = files.get(wanted) if wanted else None
            return choose(row, there) if there else None

        self._assign(pick)

    def _by_whole_path(self, row: Row, there: list[int]) -> int | None:
        own = [number for number in there if self._roots[number] == row.root]
        if len(own) == 1:
            return own[0]  # of whatever size: a cut copy is still this message's file
        fitting = self._of_size(row, own or there)
        return fitting[0] if len(fitting) == 1 or (fitting and row.size) else None

    def _by_part(self, row: Row, there: list[int]) -> int | None:
        fitting = self._of_size(row, [number for number in there if self._roots[number] == row.root]) or self._of_size(row, there)
        return fitting[0] if len(fitting) == 1 else None

    def _by_name(self, row: Row, there: list[int]) -> int | None:
        return there[0] if len(there) == 1 and row.size == self._files[there[0]].size else None

    def _of_size(self, row: Row, numbers: list[int]) -> list[int]:
        return [number for number in numbers if self._may_be(row, number)]

    def _may_be(self, row: Row, number: int) -> bool:
        if row.size is not None:
            return self._files[number].size == row.size
        # A name that another phone gave says nothing: the content tells (step 4).
        return (row.hash is None and not row.again) or self._roots[number] == row.root

    def _settle_disputes(self, hash_file: Hasher, known: KnownId | None) -> None:
        """Of messages that name one file and recorded different audio for it, those keep it whose audio it is.

        The app gives a name again when the file that had it was deleted: the note must not go to the one whom it was never sent to.
        """
        for number, rows in list(self.rows_of.items()):
            if len({row.hash for row in rows if row.hash}) < 2:
                continue
            file = self._files[number]
            try:
                file.id = file.id or (known and known(file)) or hash_file(file)
            except FileUnreadable:
                continue
            told = [row for row in rows if row.hash]
            right = [row for row in told if row.hash and row.hash.hex() == file.id] or [row for row in told if row.size == file.size]
            right = right or [max(told, key=lambda row: row.order)]
            right += [row for row in rows if not row.hash and row.size in (None, file.size)]
            self.rows_of[number] = right
            self.unmatched += [row for row in rows if row not in right]

    def _by_recorded_hash(self) -> None:
        """Further messages of a file that is matched: the app keeps one file for a note that was forwarded."""
        by_hash: dict[bytes, int] = {}
        for number, rows in self.rows_of.items():
            for row in rows:
                if row.hash and row.size in (None, self._files[number].size):
                    by_hash.setdefault(row.hash, number)
        self._assign(lambda row: by_hash.get(row.hash) if row.hash else None)

    def _by_content(self, hash_file: Hasher, known: KnownId | None) -> None:
        """Files without a message against messages without a file; only those of a size that one of these has are read, and where a
        message has none, those of its name."""
        sizes = {row.size for row in self.unmatched if row.hash}
        names = {_tail(row.path, 1) for row in self.unmatched if row.hash and row.size is None and row.path}
        by_hash: dict[str, int] = {}
        for number, file in enumerate(self._files):
            if number in self.rows_of or not (file.size in sizes or _tail(file.original_path, 1) in names):
                continue
            try:
                file.id = (known and known(file)) or hash_file(file)
            except FileUnreadable:
                continue  # the one who reads it for its bytes will say so
            by_hash.setdefault(file.id, number)
        self._assign(lambda row: by_hash.get(row.hash.hex()) if row.hash else None)


def _message(row: Row) -> tuple[str, str] | None:
    return row.message and row.message[:2]


def _each_message_once(rows: Sequence[Row]) -> list[Row]:
    """The rows without those of a message that one before is of."""
    once: dict[object, Row] = {}
    for row in rows:
        once.setdefault(row.message or id(row), row)
    return list(once.values())


def _tail(path: str, parts: int) -> str | None:
    """The last parts of a path, folded; None where there are fewer."""
    pieces = path.split("/")
    return folded("/".join(pieces[-parts:])) if len(pieces) >= parts else None


def recorded_id(rows: Sequence[Row]) -> str | None:
    """What the database has on record for a file, in hex; None where it has nothing, or its messages do not agree."""
    hashes = {row.hash for row in rows if row.hash}
    return hashes.pop().hex() if len(hashes) == 1 else None
