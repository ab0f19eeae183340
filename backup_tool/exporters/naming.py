"""What a restored note is called: names that a person can read, that never change with the filters of a restore.

Family/2026-03-03 15-05-00 Anna.opus
Family/2026-03-03 15-05-00 Anna 5f2c9a01.opus      where another note of the chat would have the same name
"""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Iterable
from datetime import datetime, tzinfo
from functools import lru_cache
from itertools import pairwise

from backup_tool.models import Note
from backup_tool.names import chat_folder, folded, own_name, safe_name, told_apart

UNSORTED = "unsorted"
"""The folder of notes whose chat is not known."""
UNDATED = "undated"
"""What stands for the time of a note where it is not known."""

_LISTS = re.compile(r"notes\.(csv|json)|.*\.m3u8")
"""What an export calls its lists, which stand beside the folders of the chats."""
_SENDER_BYTES = 120
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_SUFFIXES = {
    "audio/ogg": ".opus", "audio/opus": ".opus", "audio/mpeg": ".mp3", "audio/mp4": ".m4a", "audio/x-m4a": ".m4a", "audio/aac": ".aac",
    "audio/amr": ".amr", "audio/3gpp": ".3gp", "audio/wav": ".wav", "audio/x-wav": ".wav", "audio/x-caf": ".caf", "audio/flac": ".flac",
    "audio/webm": ".webm", "video/mp4": ".mp4", "video/3gpp": ".3gp", "video/quicktime": ".mov", "video/webm": ".webm",
}  # fmt: skip


def restored_name(note: Note, zone: tzinfo | None = None, suffix: str | None = None) -> tuple[str, str]:
    """(folder, file name) of a note: chat, local time, sender, and the suffix of its file.

    `zone` is where local time is; None is this machine's. A note known by its day only gets no time, an unknown sender is left out.
    `suffix` (".mp3") replaces the file's own, for a note that was converted.
    """
    return folder_name(note.chat), _stem(note, zone) + (file_suffix(note) if suffix is None else suffix)


class RestoredNames:
    """The names of all notes of an archive view: those that would be equal are told apart, whatever part of them is then restored.

    Goes through the notes once and remembers 16 bytes of each. Two notes of one chat with equal names get the first 8 digits of their id;
    the same audio twice under one name (sent twice in one second) gets 8 digits of the message's id besides. Chats with equal folder names
    get digits of their id. Case is ignored in comparing: some file systems do.
    """

    def __init__(self, notes: Iterable[Note], zone: tzinfo | None = None, suffix: str | None = None) -> None:
        self._zone, self._suffix = zone, suffix
        names, twins = array("q"), array("q")
        titles: dict[str, tuple[str, str]] = {}
        for note in notes:
            chat, title = _chat_key(note)
            titles[chat] = max(titles.get(chat, ("", "")), (note.sent_at or "", title))
            name = folded(restored_name(note, zone, suffix)[1])
            names.append(hash((chat, name)))
            twins.append(hash((chat, name, note.id)))
        self._equal, self._twins = _repeated(names), _repeated(twins)
        self._folders = _folders({chat: title for chat, (_, title) in titles.items()})

    def of(self, note: Note) -> tuple[str, str]:
        """(folder, file name) of one of the notes."""
        chat, _ = _chat_key(note)
        stem, suffix = _stem(note, self._zone), file_suffix(note) if self._suffix is None else self._suffix
        key = folded(stem + suffix)
        if hash((chat, key)) in self._equal:
            stem += f" {(note.id or '')[:8]}"
            if hash((chat, key, note.id)) in self._twins:
                stem += f" {_digits(note.message_id or note.original_path or '')}"
        return self._folders.get(chat) or folder_name(note.chat), stem + suffix


def local_time(note: Note, zone: tzinfo | None = None) -> str | None:
    """``2026-03-03 15-05-00``, or ``2026-03-03`` where only the day is known, or None. A day is the same day in every zone."""
    if not note.sent_at:
        return None
    try:
        moment = datetime.fromisoformat(note.sent_at)
        if note.known_by_day:
            return f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
        moment = moment.astimezone(zone)
    except (ValueError, OverflowError, OSError):  # no time at all, or one that this machine's clock cannot name
        return None
    return f"{moment.year:04}-{moment.month:02}-{moment.day:02} {moment.hour:02}-{moment.minute:02}-{moment.second:02}"


def folder_name(chat: str | None) -> str:
    """The folder of a chat, by its title."""
    return _clean_part(own_name(chat)) if chat and chat.strip() else UNSORTED


def file_suffix(note: Note) -> str:
    """The suffix of a note's file, by its own name, else by its media type; empty where neither says."""
    own = os.path.splitext((note.original_path or note.path or "").rpartition("/")[2])[1]
    if _SUFFIX.fullmatch(own):
        return own.lower()
    return _SUFFIXES.get((note.media_type or "").partition(";")[0].strip().lower(), "")


def _stem(note: Note, zone: tzinfo | None) -> str:
    time = local_time(note, zone) or UNDATED
    return f"{time} {_clean_sender(note.sender)}" if note.sender and note.sender.strip() else time


def _digits(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]


@lru_cache(maxsize=4096)
def _clean_part(text: str) -> str:
    return safe_name(text.strip())


@lru_cache(maxsize=4096)
def _clean_sender(text: str) -> str:
    return safe_name(own_name(text), _SENDER_BYTES)


def _chat_key(note: Note) -> tuple[str, str]:
    """What tells a note's chat from all others, and its title; ("", "") where the chat has no title to name a folder by."""
    if not note.chat or not note.chat.strip():
        return "", ""
    return note.chat_id or "\0" + note.chat, note.chat


def _repeated(values: array[int]) -> frozenset[int]:
    """The values that occur more than once."""
    ordered = sorted(values)
    return frozenset(one for one, other in pairwise(ordered) if one == other)


def _folders(titles: dict[str, str]) -> dict[str, str]:
    """A folder for each chat; equal ones, and those that are called as a list of an export is, get digits of the chat's id."""
    plain = {chat: folder_name(title) for chat, title in titles.items()}
    counts: dict[str, int] = {folded(UNSORTED): 1}
    for chat, folder in plain.items():
        if chat:
            counts[folded(folder)] = counts.get(folded(folder), 0) + 1
    unclear = {name for name, count in counts.items() if count > 1 or _LISTS.fullmatch(name)}
    chosen = {chat: chat_folder(titles[chat], chat) if chat and folded(name) in unclear else name for chat, name in plain.items()}
    taken: dict[str, str] = {}
    for chat in sorted(chosen):
        if taken.setdefault(folded(chosen[chat]), chat) != chat:
            chosen[chat] = told_apart(chosen[chat], chat)
    return chosen
