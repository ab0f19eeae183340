"""Writes `ChatStorage.sqlite`, `ContactsV2.sqlite` and `LID.sqlite` as WhatsApp keeps them on Apple's systems, odd values included.

storage = ChatStorage(folder / "ChatStorage.sqlite")
family = storage.chat("1203630@g.us", "Family", kind=1)
storage.message(family, "3EB0A1", sent=1772546700, member=storage.member(family, "4917@s.whatsapp.net"), file="Media/…/ab12.opus")
storage.close()
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

EPOCH_2001 = 978_307_200
_TABLES = {
    "ZWAMESSAGE": (
        "Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZFLAGS INTEGER, ZISFROMME INTEGER, ZMESSAGETYPE INTEGER, ZSORT INTEGER, "
        "ZSTARRED INTEGER, ZCHATSESSION INTEGER, ZGROUPMEMBER INTEGER, ZMEDIAITEM INTEGER, ZPARENTMESSAGE INTEGER, ZMESSAGEDATE TIMESTAMP, "
        "ZSENTDATE TIMESTAMP, ZFROMJID VARCHAR, ZPUSHNAME VARCHAR, ZSTANZAID VARCHAR, ZTEXT VARCHAR, ZTOJID VARCHAR"
    ),
    "ZWAMEDIAITEM": (
        "Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZCLOUDSTATUS INTEGER, ZFILESIZE INTEGER, ZMEDIAORIGIN INTEGER, "
        "ZMOVIEDURATION INTEGER, ZMESSAGE INTEGER, ZMEDIALOCALPATH VARCHAR, ZMEDIAURL VARCHAR, ZTITLE VARCHAR, ZVCARDNAME VARCHAR, "
        "ZVCARDSTRING VARCHAR, ZMEDIAKEY BLOB, ZMETADATA BLOB"
    ),
    "ZWACHATSESSION": (
        "Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZHIDDEN INTEGER, ZREMOVED INTEGER, ZSESSIONTYPE INTEGER, "
        "ZLASTMESSAGEDATE TIMESTAMP, ZCONTACTIDENTIFIER VARCHAR, ZCONTACTJID VARCHAR, ZPARTNERNAME VARCHAR"
    ),
    "ZWAGROUPMEMBER": (
        "Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZISACTIVE INTEGER, ZCHATSESSION INTEGER, ZCONTACTNAME VARCHAR, "
        "ZFIRSTNAME VARCHAR, ZMEMBERJID VARCHAR"
    ),
    "ZWAPROFILEPUSHNAME": "Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZJID VARCHAR, ZPUSHNAME VARCHAR",
}
_CONTACTS = (
    "CREATE TABLE ZWAADDRESSBOOKCONTACT (Z_PK INTEGER PRIMARY KEY, ZFULLNAME, ZGIVENNAME, ZLASTNAME, ZBUSINESSNAME, ZHIGHLIGHTEDNAME, "
    "ZPHONENUMBER, ZWHATSAPPID, ZLID)"
)


class ChatStorage:
    """A database that is being written. `without` names tables ("ZWAGROUPMEMBER") and columns ("ZWAMESSAGE.ZSTARRED") that it lacks."""

    def __init__(self, path: Path, *, without: frozenset[str] = frozenset(), wal: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.without = without
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
        self.connection.execute("PRAGMA wal_autocheckpoint = 0")
        self.connection.execute("BEGIN")
        for table, columns in _TABLES.items():
            if table not in without:
                kept = [column for column in columns.split(", ") if f"{table}.{column.split()[0]}" not in without]
                self.connection.execute(f"CREATE TABLE {table} ({', '.join(kept)})")

    def insert(self, table: str, **values: Any) -> int:
        """A row; its number."""
        kept = {name: value for name, value in values.items() if f"{table}.{name}" not in self.without}
        if table in self.without:
            return 0
        marks = ", ".join("?" * len(kept))
        return self.connection.execute(f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({marks})", tuple(kept.values())).lastrowid or 0

    def chat(self, jid: str, title: Any = None, *, kind: int = 0, identifier: Any = None) -> int:
        """A chat: kind 0 is between two, 1 a group. The time of its last message is one of those that cannot be."""
        return self.insert(
            "ZWACHATSESSION", ZCONTACTJID=jid, ZPARTNERNAME=title, ZSESSIONTYPE=kind, ZCONTACTIDENTIFIER=identifier, ZLASTMESSAGEDATE=2e11
        )

    def member(self, chat: int, jid: str, *, name: Any = "", first: Any = None) -> int:
        """Somebody in a group."""
        return self.insert("ZWAGROUPMEMBER", ZCHATSESSION=chat, ZMEMBERJID=jid, ZCONTACTNAME=name, ZFIRSTNAME=first)

    def push_name(self, jid: str, name: str) -> None:
        """What somebody calls themselves."""
        self.insert("ZWAPROFILEPUSHNAME", ZJID=jid, ZPUSHNAME=name)

    def message(
        self, chat: int | None, key: Any, *, sent: float | None = 0, file: Any = None, from_me: bool = False, member: int | None = None,
        type_: int = 3, origin: Any = 1, mime: Any = "audio/ogg; codecs=opus", back: bool = False, media: bool = True, **columns: Any,
    ) -> int:  # fmt: skip
        """A message with audio; its number. `sent` in seconds since 1970. `back`: only the media row knows which message it is of."""
        mine = {name: value for name, value in columns.items() if f" {name} " in f" {_TABLES['ZWAMESSAGE']}"}
        theirs = {name: value for name, value in columns.items() if f" {name} " in f" {_TABLES['ZWAMEDIAITEM']}"}
        assert len(mine) + len(theirs) == len(columns)
        message: dict[str, Any] = {
            "ZISFROMME": int(from_me), "ZMESSAGETYPE": type_, "ZCHATSESSION": chat, "ZGROUPMEMBER": member, "ZSTANZAID": key,
            "ZMESSAGEDATE": None if sent is None else sent - EPOCH_2001, "ZPUSHNAME": "CLTEyJkGGhsx", "ZSORT": 1,
        }  # fmt: skip
        number = self.insert("ZWAMESSAGE", **message | mine)
        if media:
            row: dict[str, Any] = {
                "ZMESSAGE": number,
                "ZMEDIALOCALPATH": file,
                "ZMEDIAORIGIN": origin,
                "ZVCARDSTRING": mime,
                "ZFILESIZE": 0,
            }
            item = self.insert("ZWAMEDIAITEM", **row | theirs)
            if not back and "ZWAMESSAGE.ZMEDIAITEM" not in self.without:
                self.connection.execute("UPDATE ZWAMESSAGE SET ZMEDIAITEM = ? WHERE Z_PK = ?", (item, number))
        return number

    def pair(self, lid: str, phone: str) -> None:
        """A hidden identity and its number, as some versions keep them in this very database."""
        _pair_table(self.connection)
        self.connection.execute("INSERT INTO ZWAPHONENUMBERLIDPAIR (ZLID, ZPHONENUMBER) VALUES (?, ?)", (lid, phone))

    def close(self) -> Path:
        """Finish."""
        self.connection.execute("COMMIT")
        self.connection.close()
        return self.path

    def close_running(self) -> Path:
        """Leave the database as the running app does: all that was written still in the `-wal`."""
        self.connection.execute("COMMIT")
        for name in (self.path.name, self.path.name + "-wal"):
            shutil.copy2(self.path.with_name(name), self.path.with_name(name + ".kept"))
        self.connection.close()
        for name in (self.path.name, self.path.name + "-wal"):
            self.path.with_name(name + ".kept").rename(self.path.with_name(name))
        return self.path


def _pair_table(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS ZWAPHONENUMBERLIDPAIR (Z_PK INTEGER PRIMARY KEY, ZLID VARCHAR, ZPHONENUMBER VARCHAR)")


def contacts(path: Path, *people: dict[str, Any]) -> Path:
    """An address book: columns by name."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(_CONTACTS)
    for person in people:
        marks = ", ".join("?" * len(person))
        connection.execute(f"INSERT INTO ZWAADDRESSBOOKCONTACT ({', '.join(person)}) VALUES ({marks})", tuple(person.values()))
    connection.close()
    return path


def lids(path: Path, *pairs: tuple[Any, Any], old: bool = False) -> Path:
    """Hidden identities and their numbers, in the layout of today or the one before."""
    connection = sqlite3.connect(path, isolation_level=None)
    if old:
        _pair_table(connection)
        connection.executemany("INSERT INTO ZWAPHONENUMBERLIDPAIR (ZLID, ZPHONENUMBER) VALUES (?, ?)", pairs)
    else:
        connection.execute("CREATE TABLE ZWAZACCOUNT (Z_PK INTEGER PRIMARY KEY, ZIDENTIFIER VARCHAR, ZPHONENUMBER VARCHAR)")
        connection.executemany("INSERT INTO ZWAZACCOUNT (ZIDENTIFIER, ZPHONENUMBER) VALUES (?, ?)", pairs)
    connection.close()
    return path
