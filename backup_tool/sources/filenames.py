"""What the name and the folder of a file say: which kind of note it is, and the day it was sent.

Names as WhatsApp gives them, with whatever a copy added around them (`PTT-20260303-WA0007 (1).opus`, `.trashed-1700000000-PTT-…`):

    PTT-YYYYMMDD-WA####     a voice note          AUD-YYYYMMDD-WA####     an audio attachment
    PTV-YYYYMMDD-WA####     a video note          WhatsApp Ptt 2026-03-03 at 14.05.00     as the desktop program saves it

The day is the phone's own calendar day; the name holds no time of day that a time zone would belong to.

Recorders and other programs put the whole moment into the name, in the zone of the device (`moment_of_name`):

    20260303 140500-1A2B3C4D.m4a          Recording_20260303_140500.m4a          AUDIO-2026-03-03-14-05-00.m4a
    2026-03-03 14.05.00.m4a               WhatsApp Audio 2026-03-03 at 2.05.00 PM.m4a          audio_7@03-03-2026_14-05-00.ogg
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from backup_tool.models import Kind

_NAME = re.compile(r"(?:^|[^A-Z0-9])(PTT|AUD|PTV)-([0-9]{8})-WA[0-9]", re.IGNORECASE)
_DESKTOP = re.compile(r"WhatsApp (Ptt|Audio) ([0-9]{4})-([0-9]{2})-([0-9]{2}) at ", re.IGNORECASE)
_MOMENT = re.compile(
    r"(?<![0-9])(20[0-9]{2})(-?)([01][0-9])\2([0-3][0-9])(?:[ _-]| at )([0-2]?[0-9])([-.:]?)([0-5][0-9])\6([0-5][0-9])(?![0-9])"
    r"(?:[ \u00a0\u202f]?([ap])\.?m\b)?",
    re.IGNORECASE,
)
_TELEGRAM_MOMENT = re.compile(r"@([0-3][0-9])-([01][0-9])-(20[0-9]{2})_([0-2][0-9])-([0-5][0-9])-([0-5][0-9])(?![0-9])")
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


class Zone(NamedTuple):
    """The time zone in which times without one are read. `rules` is None where only this machine itself knows them."""

    name: str
    rules: tzinfo | None

    def time_text(self, local: datetime) -> str | None:
        """RFC 3339 in UTC of a local time; of a time that the clock showed twice, the first. None where it cannot be."""
        try:
            moment = local.astimezone() if self.rules is None else local.replace(tzinfo=self.rules)
            return time_text(int(moment.timestamp()) * 1000)
        except (ValueError, OverflowError, OSError):
            return None


def zone_named(name: str | None) -> Zone:
    """A zone by its IANA name; this machine's own without one, or where this machine does not know the name."""
    from zoneinfo import ZoneInfo

    own = os.environ.get("TZ", "").lstrip(":") or os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    for known in filter(None, (name, own)):
        try:
            return Zone(known, ZoneInfo(known))
        except (KeyError, ValueError, OSError):
            continue
    return Zone(own or datetime.now().astimezone().strftime("UTC%z"), None)


def zone_for(set_to: str | None, used_before: Iterable[str | None]) -> str | None:
    """The IANA name of the zone to read a source's times in: the one that is set, else the first usable one of those that were used
    before, else this machine's; None where that has no such name, so that only this machine itself knows its rules."""
    for name in filter(None, (set_to, *used_before)):
        if zone_named(name).name == name and zone_named(name).rules is not None:
            return name
    own = zone_named(None)
    return own.name if own.rules is not None else None


def moment_of_name(name: str, zone: Zone) -> str | None:
    """The RFC 3339 time of a name that holds date and time of day, read in a zone; None where it holds none, or no possible one."""
    found = _MOMENT.search(name)
    if found:
        year, _, month, day, hour, _, minute, second, half = found.groups()
    else:
        found = _TELEGRAM_MOMENT.search(name) if "@" in name else None
        if not found:
            return None
        (day, month, year, hour, minute, second), half = found.groups(), None
    try:
        local = datetime(int(year), int(month), int(day), _hour(int(hour), half), int(minute), int(second))
    except ValueError:
        return None
    return zone.time_text(local)


def _hour(hour: int, half: str | None) -> int:
    if half is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError("no such hour")
    return hour % 12 + (12 if half in "pP" else 0)
