"""Moments as the repository writes them: RFC 3339, up to nine digits of a second, trailing zeros cut (as Go's time.Time in JSON)."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

_SECOND = 10**9
# Years 1 to 9999: what datetime, and with it every reader here, can hold. A clock or file beyond is moved to the nearer end.
_EARLIEST = -62_135_596_800 * _SECOND
_LATEST = 253_402_300_800 * _SECOND - 1
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,18}))?(Z|[+-]\d\d:\d\d)", re.ASCII)


def written(ns: int) -> str:
    """A moment in nanoseconds since 1970 as text in UTC: ``2020-09-13T12:26:40.12Z``."""
    seconds, rest = divmod(min(max(ns, _EARLIEST), _LATEST), _SECOND)
    t = time.gmtime(seconds)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}T{t[3]:02d}:{t[4]:02d}:{t[5]:02d}{fraction}Z"


_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?Z", re.ASCII)


def canonical(time: int | str) -> str:
    """A moment, in nanoseconds or as RFC 3339 text, as `written` writes it. Raises ValueError."""
    if isinstance(time, int):
        return written(time)
    if _CANONICAL.fullmatch(time):
        datetime.fromisoformat(time[:19])  # is there such a day
        return time
    return written(round(moment(time).timestamp() * 10**6) * 1000)


def moment(text: str) -> datetime:
    """RFC 3339 text as a datetime in UTC (digits past the microsecond are dropped). Raises ValueError for anything else."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not a time as in RFC 3339")
    day_and_time, fraction, zone = match.groups()
    local = datetime.fromisoformat(day_and_time).replace(tzinfo=UTC, microsecond=int(((fraction or "") + "000000")[:6]))
    if zone == "Z":
        return local
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    try:
        return local - offset if zone[0] == "+" else local + offset
    except OverflowError:
        raise ValueError("a time outside the years 1 to 9999") from None
