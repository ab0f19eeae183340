"""The file's path in a message of before 2020: inside `thumb_image`, a serialised Java object of class `com.whatsapp.MediaData`.

Nothing is deserialised. The object holds a `java.io.File` with its path as a string, and a string is written as the byte 0x74, two bytes of
length and that many bytes of modified UTF-8 (Java Object Serialization Specification, section 6.4.2: TC_STRING; the Java Virtual Machine
Specification, section 4.4.7). So it is searched for.
"""

from __future__ import annotations

from backup_tool.audio import AUDIO_SUFFIXES, suffix_of
from backup_tool.sources.filenames import read_name

_STRING = b"\x74"
_LONGEST_PATH = 4096
_MOST_STRINGS = 1000


def path_in(media_data: object) -> str | None:
    """The path of the file: the first string that begins with `Media/` or has `/Media/` in it. None where there is none."""
    if not isinstance(media_data, bytes):
        return None
    at = -1
    for _ in range(_MOST_STRINGS):
        at = media_data.find(_STRING, at + 1)
        if at < 0:
            return None
        length = int.from_bytes(media_data[at + 1 : at + 3], "big")
        raw = media_data[at + 3 : at + 3 + length]
        if 0 < length <= _LONGEST_PATH and len(raw) == length and (raw.startswith(b"Media/") or b"/Media/" in raw):
            text = _modified_utf8(raw)
            if text is not None:
                return text
    return None


def _modified_utf8(raw: bytes) -> str | None:
    """Java's own form of UTF-8: NUL in two bytes, and characters beyond the first plane as two surrogates of three bytes each."""
    try:
        halves = raw.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeError:
        return None


def name_in(media_name: object) -> str | None:
    """The file's name, where the message's `media_name` is one: other values are what a sender called a document."""
    if not isinstance(media_name, str) or len(media_name) > _LONGEST_PATH or "/" in media_name:
        return None
    return media_name if suffix_of(media_name) in AUDIO_SUFFIXES or read_name(media_name)[0] else None
