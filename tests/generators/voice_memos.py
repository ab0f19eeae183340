"""Writes the folder `Recordings` of Apple's Voice Memos: the database as Core Data lays it out, and the files beside it.

memos = Recordings(folder / "Recordings")
memos.memo("20260303 140500-1A2B3C4D.m4a", data, title="Grandma")
memos.close()
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.generators.old import put_old

EPOCH_2001 = 978_307_200
FIRST = datetime(2026, 3, 3, 14, 5, tzinfo=UTC)
CLOUD = "CloudRecordings.db"
OLD = "Recordings.db"
_COLUMNS = {
    CLOUD: (
        "ZCLOUDRECORDING",
        "Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZFLAGS INTEGER, ZSHAREDFLAGS INTEGER, ZFOLDER INTEGER, ZDATE TIMESTAMP, "
        "ZDURATION FLOAT, ZEVICTIONDATE TIMESTAMP, ZLOCALDURATION FLOAT, ZCUSTOMLABEL VARCHAR, ZCUSTOMLABELFORSORTING VARCHAR, "
        "ZENCRYPTEDTITLE VARCHAR, ZPATH VARCHAR, ZUNIQUEID VARCHAR, ZAUDIODIGEST BLOB, ZAUDIOFUTURE BLOB",
    ),
    OLD: (
        "ZRECORDING",
        "Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZITUNESPERSISTENTID INTEGER, ZRECORDINGID INTEGER, ZDATE TIMESTAMP, "
        "ZDURATION FLOAT, ZCUSTOMLABEL VARCHAR, ZPATH VARCHAR",
    ),
}


class Recordings:
    """The folder while it is filled. `without` names columns that the version does not have."""

    def __init__(self, folder: Path, *, database: str = CLOUD, without: frozenset[str] = frozenset(), wal: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._table, columns = _COLUMNS[database]
        self._has = {column.split()[0] for column in columns.split(", ")} - without
        kept = [column for column in columns.split(", ") if column.split()[0] in self._has]
        self._connection = sqlite3.connect(folder / database, isolation_level=None)
        if wal:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._connection.execute(f"CREATE TABLE {self._table} ({', '.join(kept)})")
        self._connection.execute("CREATE TABLE Z_METADATA (Z_VERSION INTEGER PRIMARY KEY, Z_UUID VARCHAR(255), Z_PLIST BLOB)")
        self._number = 0

    def memo(
        self,
        name: str | None,
        data: bytes | None = None,
        *,
        title: str | None = None,
        sent: datetime | None = None,
        duration: float = 2.5,
        **more: Any,
    ) -> str:
        """A memo: its row, and its file where there is data. Its ZUNIQUEID."""
        self._number += 1
        unique = f"00000000-0000-4000-8000-{self._number:012}"
        values: dict[str, Any] = {
            "ZUNIQUEID": unique,
            "ZPATH": name,
            "ZDATE": (sent or FIRST + timedelta(seconds=self._number)).timestamp() - EPOCH_2001,
            "ZDURATION": duration,
            "ZENCRYPTEDTITLE": title,
            "ZCUSTOMLABEL": "2026-03-03T14:05:00Z" if title else None,
            **more,
        }
        known = {column: value for column, value in values.items() if column in self._has}
        marks = ", ".join("?" * len(known))
        self._connection.execute(f"INSERT INTO {self._table} ({', '.join(known)}) VALUES ({marks})", tuple(known.values()))
        if name and data is not None:
            self.file(name.rpartition("/")[2], data)
        return unique

    def file(self, path: str, data: bytes) -> None:
        """A file that no row names."""
        location = self.folder / path
        location.parent.mkdir(parents=True, exist_ok=True)
        put_old(location, data)

    def close(self) -> None:
        """The folder is as the app leaves it."""
        self._connection.close()

    def left_open(self) -> sqlite3.Connection:
        """As the app leaves it while it runs: what was written last is in the `-wal` only. Close it at the end."""
        return self._connection
