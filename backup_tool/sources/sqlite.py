"""Opens a copy of a message database in a private folder, as something a stranger may have written.

Copied are the database and, where they lie beside it, its `-wal` (the newest messages) and its `-journal` (what a writer would undo). The
`-shm` is only an index into the first; SQLite makes it anew in the private folder.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from backup_tool.sources.base import FileUnreadable
from backup_tool.sources.tree import why

_TRIES = 3
_CHUNK = 2**20
_MOST_BYTES = 8 * 2**30
_LONGEST_VALUE = 10**7
_CACHE_KIB = 16 * 1024
# Steps of SQLite's machine before a database counts as made to be read for ever. A real one takes less than one step a byte.
_STEPS, _STEPS_A_BYTE, _STEPS_A_CALL = 10**7, 20, 10**5

Opener = Callable[[str], "int | None"]
"""Opens the database ("") or what lies beside it ("-wal") for reading; None where nothing does. Raises FileUnreadable."""


def open_named(named: Path, absent: str, beside: str) -> int | None:
    """An `Opener` of a file that a person named, with its first two arguments bound; `absent` is what is said where it is not there."""
    path = Path(f"{named}{beside}")
    if beside and not path.exists():
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileUnreadable(absent if isinstance(error, FileNotFoundError) else why(error)) from None


@contextmanager
def copied(opener: Opener, workdir: Path) -> Iterator[Path]:
    """A private copy of a database, removed at the end. Raises FileUnreadable where it cannot be read, or never keeps still."""
    folder = Path(tempfile.mkdtemp(prefix="database-", dir=workdir))
    try:
        for _ in range(_TRIES):
            if _copy_all(opener, folder / "copy.db"):
                break
        else:
            raise FileUnreadable("written to while it was copied")
        yield folder / "copy.db"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_all(opener: Opener, target: Path) -> bool:
    """True where none of the files changed until all were copied: together they are one state of the database."""
    handles: list[tuple[int, os.stat_result]] = []
    try:
        for beside in ("", "-wal", "-journal"):
            copy = target.with_name(target.name + beside)
            copy.unlink(missing_ok=True)
            handle = opener(beside)
            if handle is not None:
                handles.append((handle, os.fstat(handle)))
                _copy(handle, copy)
        return all(_state(os.fstat(handle)) == _state(before) for handle, before in handles)
    except OSError as error:
        raise FileUnreadable(f"cannot be copied: {why(error)}") from None
    finally:
        for handle, _ in handles:
            os.close(handle)


def _copy(handle: int, target: Path) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode) or os.fstat(handle).st_size > _MOST_BYTES:
        raise FileUnreadable("not an ordinary file" if os.fstat(handle).st_size <= _MOST_BYTES else "larger than 8 GiB")
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as out:
        while chunk := os.read(handle, _CHUNK):
            out.write(chunk)


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a copy that belongs to nobody else. What is wrong with the database shows as sqlite3.Error, here or later."""
    try:
        with _opened(path) as connection:
            yield connection
    except UnicodeDecodeError:
        # Python's module fails so where SQLite's complaint quotes a damaged schema. No value read does: see _text.
        raise sqlite3.DatabaseError("its schema is damaged, even its names are no text") from None


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.text_factory = _text
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        try:
            for setting in ("trusted_schema = OFF", "cell_size_check = ON", "temp_store = MEMORY", f"cache_size = -{_CACHE_KIB}"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").close()
        except MemoryError:  # so SQLite calls a record whose lengths no memory could hold
            raise sqlite3.DatabaseError("its schema is damaged") from None
        calls = (_STEPS + _STEPS_A_BYTE * path.stat().st_size) // _STEPS_A_CALL

        def stop() -> bool:
            nonlocal calls
            calls -= 1
            return calls < 0

        connection.set_progress_handler(stop, _STEPS_A_CALL)
        yield connection


def _text(raw: bytes) -> str:
    # One bad byte in one name must not cost all rows: broken encodings occur in real databases.
    return raw.decode("utf-8", "backslashreplace")


def is_cut(path: Path) -> bool:
    """True where the file is shorter than its own header says (SQLite's database file format, section 1.3): a copy that was cut short."""
    if path.with_name(path.name + "-wal").exists() or path.with_name(path.name + "-journal").exists():
        return False  # the true state is in both files together
    with open(path, "rb") as file:
        head = file.read(100)
    if len(head) < 100:
        return True
    page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
    counted = head[24:28] == head[92:96]  # only writers that keep these two equal also keep the number of pages
    return counted and path.stat().st_size < pages * (65536 if page == 1 else page)
