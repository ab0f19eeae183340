"""What the name and the folder of a file say: which kind of note it is, and the day it was sent.

Names as WhatsApp gives them, with whatever a copy added around them (`PTT-20260303-WA0007 (1).opus`, `.trashed-1700000000-PTT-…`):

    PTT-YYYYMMDD-WA####     a voice note          AUD-YYYYMMDD-WA####     an audio attachment
    PTV-YYYYMMDD-WA####     a video note          WhatsApp Ptt 2026-03-03 at 14.05.00     as the desktop program saves it

The day is the phone's own calendar day; the name holds no time of day that a time zone would belong to.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from backup_tool.models import Kind

_NAME = re.compile(r"(?:^|[^A-Z0-9])(PTT|AUD|PTV)-([0-9]{8})-WA[0-9]", re.IGNORECASE)
_DESKTOP = re.compile(r"WhatsApp (Ptt|Audio) ([0-9]{4})-([0-9]{2})-([0-9]{2}) at ", re.IGNORECASE)
_KINDS: dict[str, Kind] = {"PTT": "voice", "AUD": "audio", "PTV": "video", "AUDIO": "audio"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = int(datetime(2009, 1, 1, tzinfo=UTC).timestamp())
"""WhatsApp began in 2009: what claims to be older is a clock that was not set."""


def read_name(name: str) -> tuple[Kind | None, str | None]:
    """(kind, RFC 3339 time) that a file name tells: the day at 12:00 UTC. None where it tells nothing, or no possible day."""
    found = _NAME.search(name)
    if found:
        return _KINDS[found[1].upper()], _noon(found[2])
    found = _DESKTOP.search(name)
    if found:
        return _KINDS[found[1].upper()], _noon(found[2] + found[3] + found[4])
    return None, None


def time_of_name(name: str) -> str | None:
    """The RFC 3339 time that a file name tells, as `read_name` says."""
    return read_name(name)[1]


def kind_of_name(path: str) -> Kind:
    """The kind of the note at this path: by its folders first, then by its name; plain audio where neither says more."""
    folders, _, name = path.rpartition("/")
    lower = folders.lower() + "/"
    if "voice notes/" in lower:
        return "voice"
    if "video notes/" in lower:
        return "video"
    return read_name(name)[0] or "audio"


@lru_cache(maxsize=8192)
def _noon(day: str) -> str | None:
    try:
        noon = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), 12, tzinfo=UTC)
    except ValueError:
        return None
    return time_text(int(noon.timestamp()) * 1000)


def time_text(milliseconds: int) -> str | None:
    """RFC 3339 in UTC of milliseconds since 1970; None outside 2009 … now + 1 day, where times are unknown."""
    if not _FIRST <= milliseconds // 1000 <= time.time() + 86400:
        return None
    text = (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()[:-6]
    return (text.rstrip("0") if "." in text else text) + "Z"
