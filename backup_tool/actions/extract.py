"""Take notes out: as files, to a stream, as mail drafts, or by mail. Reads one range of one pack for each besides index and catalog."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from backup_tool.actions.archive import Archive, check_prefix, pick, problem_of, read_note
from backup_tool.actions.converting import copy_order, give_copy, made, pieces
from backup_tool.actions.find import Wanted, find
from backup_tool.actions.restored import Restored, RestoredFile
from backup_tool.audio.convert import Format, known_format
from backup_tool.catalog import Entry, time_ns
from backup_tool.config import MAIL_SIZE
from backup_tool.errors import BackupError, NoSpace, UsageError
from backup_tool.exporters.folder import TargetFolder, Written
from backup_tool.exporters.naming import RestoredNames
from backup_tool.exporters.words import origin, tags_of
from backup_tool.models import Note, Problem
from backup_tool.names import shown

if TYPE_CHECKING:
    from email.headerregistry import Address

    from backup_tool.actions.mail import Mailbox

_IN_MEMORY = 16 * 2**20


class Mailing(NamedTuple):
    """To whom notes are to be sent, and from where."""

    to: Sequence[Address]
    mailbox: Mailbox


def extract(
    archive: Archive,
    notes: Sequence[str],
    wanted: Wanted,
    *,
    to: str | None = None,
    eml: Path | None = None,
    mailing: Mailing | None = None,
    format: str | None = None,
    overwrite: bool = False,
    stdout: BinaryIO | None = None,
    mail_size: int = MAIL_SIZE,
) -> Restored:
    """Write the notes to `to` (a file, or an existing directory; "-" is `stdout`), to `eml` as a draft, and send them; else to files here.

    `format` is None where none was typed: files are as recorded, attachments MP3. Raises UsageError where no or several notes are meant by
    one word, IntegrityError where the bytes are not what they should be.
    """
    file_format, mail_format = known_format(format or "original"), known_format(format or "mp3")
    items = _picked(archive, notes, wanted)
    if len(items) > 1 and to is not None and (stdout is not None or not Path(to).is_dir()):
        raise UsageError(f"{shown(to)} is one place for {len(items)} notes", "name a folder that is there: --to FOLDER")
    done = Restored()
    for damaged in archive.damage:
        done.left_out(problem_of(damaged), damaged.exit_code)
    if to == "-":
        assert stdout is not None
        _write_stream(archive, items[0], file_format, stdout, done)
    elif to is not None or (eml is None and mailing is None):
        _write_files(archive, items, to, file_format, overwrite, done)
    if eml is not None and str(eml) == "-":
        assert stdout is not None
        _stream_draft(archive, items, mail_format, stdout, mail_size, done)
    elif eml is not None and _is_stream(eml):
        with _opened(eml) as stream:
            _stream_draft(archive, items, mail_format, stream, mail_size, done, str(eml))
    elif eml is not None:
        _write_drafts(archive, items, eml, mail_format, overwrite, mail_size, done)
    if mailing is not None:
        from backup_tool.actions.mail import mail

        mail(archive, items, mailing.to, mail_format, mailing.mailbox, done)
    if not done.notes:
        done.codes.add(BackupError.exit_code)
    return done


def _picked(archive: Archive, notes: Sequence[str], wanted: Wanted) -> list[Entry]:
    """The notes that are meant, each once. Raises UsageError, or the damage that may be why one was not found."""
    for note in notes:
        check_prefix(note)
    try:
        found = [pick(find(archive, wanted, id_prefix="" if note == "latest" else note.lower()), note) for note in notes]
    except UsageError:
        # Perhaps it is in what cannot be read.
        if archive.damage:
            raise archive.damage[0] from None
        raise
    return list({item.id: item for item in found}.values())


# --- files ------------------------------------------------------------------------------------------------------------------------------


def _write_files(archive: Archive, items: Sequence[Entry], to: str | None, format: Format | None, overwrite: bool, done: Restored) -> None:
    names = RestoredNames(items, suffix=None if format is None else f".{format}")
    for item in items:
        path = Path(to) if to else Path(names.of(item)[1])
        if to and _is_stream(path):
            with _opened(path) as stream:
                _write_stream(archive, item, format, stream, done, str(path))
            continue
        if to and to.endswith(("/", os.sep)) and not path.is_dir():
            raise UsageError(f"there is no folder {shown(to)}", "make it first, or leave out the slash")
        _write_file(archive, item, path / names.of(item)[1] if path.is_dir() else path, format, overwrite, done)


def _write_file(archive: Archive, item: Entry, path: Path, format: Format | None, overwrite: bool, done: Restored) -> None:
    mtime, size = time_ns(item.sent_at) if item.sent_at else item.mtime_ns, item.size or 0
    order, reason = copy_order(item, format, path.name), None
    with _folder_of(path) as folder:
        chunks = read_note(archive.repository, item)
        if order is None:
            written = folder.write((path.name,), chunks, size=size, sha256=item.id, mtime_ns=mtime, overwrite=overwrite)
        else:
            written, reason = give_copy(folder, (path.name,), chunks, order, size=size, sha256=item.id, mtime_ns=mtime, overwrite=overwrite)
        folder.finish()
    _took(done, [item], written, path)
    if reason:
        done.left_out(Problem(str(path), reason), 3)


def _write_stream(archive: Archive, item: Entry, format: Format | None, stdout: BinaryIO, done: Restored, path: str = "-") -> None:
    chunks = read_note(archive.repository, item)
    if format is None:
        _stream(chunks, stdout)
    else:
        with made(_scratch, chunks, format, tags_of(item, comment=origin(item))) as (whole, copy, reason):
            _stream(pieces(copy or whole), stdout)
            if reason:
                done.left_out(Problem(path, reason), 3)
    _count(done, [item], path)


def _stream(chunks: Iterable[bytes], stdout: BinaryIO) -> None:
    for chunk in chunks:
        stdout.write(chunk)
    stdout.flush()


def _is_stream(path: Path) -> bool:
    """Whether what is written to this path goes on: a device, or a pipe, which no file may take the place of.

    Raises UsageError for one that is not there, and for a disk.
    """
    above = os.path.realpath(path.parent).replace(os.sep, "/")
    of_system = above in ("/dev", "/proc") or above.startswith("/proc/")
    try:
        mode = path.stat().st_mode
    except OSError:
        if of_system:
            raise UsageError(f"there is no device {shown(str(path))}", "name a file, or - for stdout") from None
        return False
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        what = "a disk" if stat.S_ISBLK(mode) else "a socket"
        raise UsageError(f"{shown(str(path))} is {what}: no note is written there", "name a file, or - for stdout")
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or (of_system and not stat.S_ISDIR(mode))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A device or pipe, to write to. Raises NoSpace and BackupError."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOCTTY", 0)), "wb") as stream:
            yield stream
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace(f"no space left to write {shown(str(path))}", "write to another place") from error
        reason = (error.strerror or str(error)).lower()
        raise BackupError(f"{shown(str(path))} cannot be written: {reason}", "write to another place") from error


def _scratch() -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(_IN_MEMORY)


# --- drafts -----------------------------------------------------------------------------------------------------------------------------


def _write_drafts(
    archive: Archive, items: Sequence[Entry], eml: Path, format: Format | None, overwrite: bool, mail_size: int, done: Restored
) -> None:
    from backup_tool.actions.mail import drafts

    with _folder_of(eml) as folder:
        for batch, data in drafts(archive, items, format, folder.scratch, mail_size, done):
            path = eml if (batch.part or 1) == 1 else eml.with_name(f"{eml.stem} (part {batch.part}){eml.suffix}")
            digest = hashlib.sha256(data).hexdigest()
            written = folder.write((path.name,), (data,), size=len(data), sha256=digest, mtime_ns=None, overwrite=overwrite)
            folder.finish()
            _took(done, [one.note for one in batch.attachments], written, path)


def _stream_draft(
    archive: Archive, items: Sequence[Entry], format: Format | None, stdout: BinaryIO, mail_size: int, done: Restored, path: str = "-"
) -> None:
    from backup_tool.actions.mail import drafts

    for batch, data in drafts(archive, items, format, _scratch, mail_size, done):
        if batch.part:
            where = "stdout" if path == "-" else shown(path)
            raise UsageError(f"the notes need several mails, and {where} is one", "name a file: --eml notes.eml")
        _stream((data,), stdout)
        _count(done, [one.note for one in batch.attachments], path)


def _folder_of(path: Path) -> TargetFolder:
    if not path.name or path.is_dir():
        raise UsageError(f"{shown(str(path))} is a folder", "name a file")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {shown(str(path.parent))}", "make it first, or name another")
    return TargetFolder(path.parent)


def _took(done: Restored, items: Sequence[Note], written: Written, path: Path) -> None:
    _count(done, items, str(path.parent / Path(written.path).name))
    if written.status == "renamed":
        done.left_out(Problem(str(path), f"holds something else: written as {Path(written.path).name}"), 3)


def _count(done: Restored, items: Sequence[Note], path: str) -> None:
    for item in items:
        done.gave(item)
        done.files.append(RestoredFile(item.id or "", path))
