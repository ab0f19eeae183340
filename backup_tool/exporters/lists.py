"""Lists of notes beside their files: a table for spreadsheets (RFC 4180), and playlists (M3U, as UTF-8).

    chat,sender,sent,length,title,transcript,kind,…,file
    Family,Anna,2026-03-03 15:05:00,12.3,,,voice,…,Family/2026-03-03 15-05-00 Anna.opus

What a spreadsheet would take for a formula gets an apostrophe in front, as spreadsheets themselves write text: names and transcripts are
written by whoever can message the owner.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from datetime import tzinfo
from typing import NamedTuple

from backup_tool.exporters.naming import local_time
from backup_tool.models import Note
from backup_tool.names import on_one_line, own_name

COLUMNS = (
    "chat", "sender", "sent", "length", "title", "transcript", "kind", "starred", "saved", "forwarded", "gone", "damaged", "sent_utc",
    "size", "source", "id", "file",
)  # fmt: skip
# OWASP, "CSV Injection"; the wide forms of the same signs too, which some spreadsheets read as them.
_FORMULA = re.compile(r"\s*[=+\-@\t\r\n|%＝＋－＠]")
# Where a comma is in numbers, spreadsheets take a semicolon for the end of a cell.
_LATER_FORMULA = re.compile(r"(;\s*)(?=[=+\-@|%＝＋－＠])")
_JOINERS = "\u200c\u200d"
"""Tell whether letters, or pictures, are joined: names of some languages are not right without them."""
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_LONGEST_CELL = 32_000
"""Characters: no more fit into a cell of the usual spreadsheets."""


class Listed(NamedTuple):
    """A note, where its file is below the folder (`/` between parts), and what the archive says of it besides."""

    note: Note
    file: str
    source: str | None
    saved: bool | None


def table(rows: Iterable[Listed], zone: tzinfo | None = None) -> bytes:
    """The notes as a table; local times are of `zone`. A byte order mark comes first: without it some spreadsheets think of Latin-1."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(map(cell, _values(row, zone)))
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8", "replace")


def _values(row: Listed, zone: tzinfo | None) -> tuple[object, ...]:
    note = row.note
    return (
        note.chat, "me" if note.from_me else own_name(note.sender or ""), _clock(local_time(note, zone)), note.duration, note.title,
        note.transcript and note.transcript.text, note.kind, note.starred, row.saved, note.forwarded, note.missing_since is not None,
        note.damaged, note.sent_at, note.size, row.source, note.id, row.file,
    )  # fmt: skip


def _clock(local: str | None) -> str | None:
    """As spreadsheets know times: ``2026-03-03 15:05:00``."""
    return local and local[:10] + local[10:].replace("-", ":")


def cell(value: object) -> str:
    """A value as the text of a cell that no spreadsheet carries out: one line, nothing that turns the reading direction."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = on_one_line(str(value), _LONGEST_CELL, keep=_JOINERS)
    if _NUMBER.fullmatch(text):
        return text
    return ("'" if _FORMULA.match(text) else "") + _LATER_FORMULA.sub(r"\1'", text)


def playlist(title: str, rows: Iterable[Listed], zone: tzinfo | None = None) -> bytes:
    """A playlist of files; their paths are relative to the folder that it lies in."""
    lines = ["#EXTM3U", f"#PLAYLIST:{on_one_line(title)}"]
    for row in rows:
        who = "me" if row.note.from_me else on_one_line(own_name(row.note.sender or ""))
        told = [part for part in (_clock(local_time(row.note, zone)), who, on_one_line(row.note.title or "")) if part]
        seconds = -1 if row.note.duration is None else round(row.note.duration)
        lines += [f"#EXTINF:{seconds},{' – '.join(told)}", row.file]
    return "\n".join([*lines, ""]).encode("utf-8", "replace")
