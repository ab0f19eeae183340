"""Take one note out: as a file, to a stream, or as a mail draft. Reads one range of one pack besides index and catalog."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from backup_tool.actions.archive import Archive, check_prefix, pick, problem_of, read_note
from backup_tool.actions.find import Wanted, find
from backup_tool.actions.restored import Restored, RestoredFile, only_original
from backup_tool.catalog import Entry, time_ns
from backup_tool.errors import UsageError
from backup_tool.exporters.folder import TargetFolder, Written
from backup_tool.exporters.naming import restored_name
from backup_tool.models import Problem
from backup_tool.names import shown


def extract(
    archive: Archive,
    note: str,
    wanted: Wanted,
    *,
    to: str | None,
    eml: Path | None,
    format: str,
    overwrite: bool,
    stdout: BinaryIO | None,
) -> Restored:
    """Write the note to `to` (a file or an existing directory), to `stdout`, and to `eml` as a draft; by default to a file here.

    Raises UsageError where no or several notes are meant, IntegrityError where its bytes are not what they should be.
    """
    only_original(format)
    check_prefix(note)
    done = Restored()
    try:
        item = pick(find(archive, wanted, id_prefix="" if note == "latest" else note.lower()), note)
    except UsageError:
        # Perhaps it is in what cannot be read.
        if archive.damage:
            raise archive.damage[0] from None
        raise
    for damaged in archive.damage:
        done.left_out(problem_of(damaged), damaged.exit_code)
    if stdout is not None and eml is not None and str(eml) == "-":
        stdout.write(_draft(archive, item))
        stdout.flush()
        _count(done, item, "-")
        return done
    if stdout is not None:
        for data in read_note(archive.repository, item):
            stdout.write(data)
        stdout.flush()
        _count(done, item, "-")
    elif to is not None or eml is None:
        _write_file(archive, item, to, overwrite, done)
    if eml is not None:
        _write_draft(archive, item, eml, overwrite, done)
    return done


def _count(done: Restored, item: Entry, path: str) -> None:
    done.notes, done.bytes = 1, item.size or 0
    done.files.append(RestoredFile(item.id or "", path))


def _write_file(archive: Archive, item: Entry, to: str | None, overwrite: bool, done: Restored) -> None:
    path = Path(to) if to else Path(restored_name(item)[1])
    if to and to.endswith(("/", os.sep)) and not path.is_dir():
        raise UsageError(f"there is no folder {shown(to)}", "make it first, or leave out the slash")
    if path.is_dir():
        path /= restored_name(item)[1]
    mtime = time_ns(item.sent_at) if item.sent_at else item.mtime_ns
    with _folder_of(path) as folder:
        chunks = read_note(archive.repository, item)
        written = folder.write((path.name,), chunks, size=item.size or 0, sha256=item.id, mtime_ns=mtime, overwrite=overwrite)
        folder.finish()
    _took(done, item, written, path)


def _write_draft(archive: Archive, item: Entry, eml: Path, overwrite: bool, done: Restored) -> None:
    data = _draft(archive, item)
    with _folder_of(eml) as folder:
        digest = hashlib.sha256(data).hexdigest()
        written = folder.write((eml.name,), (data,), size=len(data), sha256=digest, mtime_ns=None, overwrite=overwrite)
        folder.finish()
    _took(done, item, written, eml)


def _draft(archive: Archive, item: Entry) -> bytes:
    from backup_tool.exporters.email import draft

    return draft(item, b"".join(read_note(archive.repository, item)))


def _folder_of(path: Path) -> TargetFolder:
    if not path.name or path.is_dir():
        raise UsageError(f"{shown(str(path))} is a folder", "name a file")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {shown(str(path.parent))}", "make it first, or name another")
    return TargetFolder(path.parent)


def _took(done: Restored, item: Entry, written: Written, path: Path) -> None:
    _count(done, item, str(path.parent / Path(written.path).name))
    if written.status == "renamed":
        done.left_out(Problem(str(path), f"holds something else: written as {Path(written.path).name}"), 3)
