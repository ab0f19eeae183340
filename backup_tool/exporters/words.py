"""What is said of a note where people look: the subject of a mail, the tags of a copy."""

from __future__ import annotations

from datetime import datetime, tzinfo

from backup_tool.audio.convert import Tags
from backup_tool.exporters.naming import local_time
from backup_tool.models import Note
from backup_tool.names import on_one_line, own_name

_KINDS = {"voice": "Voice note", "audio": "Recording", "video": "Video note"}


def headline(note: Note, zone: tzinfo | None = None) -> str:
    """``Voice note from Anna – 2026-03-03 15:05``: what is not known is left out. `zone` is where local time is (None: this machine's)."""
    words = [_KINDS[note.kind]]
    if sender := on_one_line(own_name(note.sender or "")):
        words.append(f"from {sender}")
    if time := time_in_words(note, zone):
        words.append(f"– {time}")
    return " ".join(words)


def time_in_words(note: Note, zone: tzinfo | None = None) -> str | None:
    """``2026-03-03 15:05``, or the day alone where no more is known."""
    time = local_time(note, zone)
    return f"{time[:10]} {time[11:16].replace('-', ':')}" if time and len(time) > 10 else time


def length_in_words(seconds: float | None) -> str | None:
    """``1:23``, or ``1:02:03`` of an hour and more."""
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def tags_of(note: Note, zone: tzinfo | None = None, *, comment: str | None = None) -> Tags:
    """The tags of a copy of this note: title, person, chat, and the moment it was sent with its distance from UTC."""
    return Tags(
        title=on_one_line(note.title or "") or headline(note, zone),
        person=own_name(note.sender or "") or None,
        chat=own_name(note.chat or "") or None,
        date=_date(note, zone),
        comment=comment,
    )


def origin(note: Note) -> str | None:
    """``original SHA-256 5f2c…``: says in the tags of a copy which recording it was made from, for whoever wants to prove it, and for the
    next restore, which finds its copies by it."""
    return f"original SHA-256 {note.id}" if note.id else None


def _date(note: Note, zone: tzinfo | None) -> str | None:
    time = local_time(note, zone)
    if not time or not note.sent_at or len(time) == 10:
        return time
    return datetime.fromisoformat(note.sent_at).astimezone(zone).isoformat(timespec="seconds")
