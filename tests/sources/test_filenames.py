"""What names tell."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.sources import kind_of_name, time_of_name
from backup_tool.sources.filenames import time_text


@pytest.mark.parametrize(
    ("name", "kind", "day"),
    [
        ("PTT-20260303-WA0007.opus", "voice", "2026-03-03"),
        ("ptt-20260303-wa0007.OPUS", "voice", "2026-03-03"),
        ("AUD-20131121-WA12345.m4a", "audio", "2013-11-21"),
        ("PTV-20260801-WA0001.mp4", "video", "2026-08-01"),
        ("PTT-20260303-WA0007 (1).opus", "voice", "2026-03-03"),
        ("PTT-20260303-WA0007~2.opus.opus", "voice", "2026-03-03"),
        (".trashed-1700000000-PTT-20260303-WA0007.opus", "voice", "2026-03-03"),
        ("WhatsApp Ptt 2024-03-01 at 10.22.33.ogg", "voice", "2024-03-01"),
        ("WhatsApp Audio 2024-03-01 at 10.22.33.mpeg", "audio", "2024-03-01"),
        ("PTT-20261399-WA0007.opus", "voice", None),
        ("PTT-20080303-WA0007.opus", "voice", None),
        ("PTT-20990303-WA0007.opus", "voice", None),
        ("PTT-２０２６０３０３-WA0007.opus", "audio", None),
        ("xPTT-20260303-WA0007.opus", "audio", None),
        ("20260303_140500.m4a", "audio", None),
        ("6e4302d7aa006e4302d7aa006e4302d7.1.aac", "audio", None),
        ("", "audio", None),
    ],
)
def test_a_name_tells_kind_and_day(name: str, kind: str, day: str | None) -> None:
    """Kind and calendar day come out of WhatsApp's names, with whatever a copy added; an impossible day is no day."""
    assert kind_of_name(name) == kind
    assert time_of_name(name) == (f"{day}T12:00:00Z" if day else None)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("Media/WhatsApp Voice Notes/201540/6e43.1.aac", "voice"),
        ("Media/WhatsApp Business Voice Notes/AUD-20260303-WA0007.opus", "voice"),
        ("MEDIA/WHATSAPP VIDEO NOTES/PTV-20260303-WA0007.mp4", "video"),
        ("Media/WhatsApp Audio/PTT-20260303-WA0007.opus", "voice"),
        ("Media/WhatsApp Audio/Voice Notes of a friend.mp3", "audio"),
    ],
)
def test_folders_say_more_than_names(path: str, kind: str) -> None:
    """What lies among voice notes is one, whatever it is called."""
    assert kind_of_name(path) == kind


def test_times_outside_living_memory_are_unknown() -> None:
    """A clock that was never set, or far in the future, gives no time: 2009 to tomorrow is believed."""
    assert time_text(1230768000000) == "2009-01-01T00:00:00Z"
    assert time_text(1230767999999) is None
    soon, late = int(time.time() * 1000) + 86_000_000, int(time.time() * 1000) + 87_000_000
    assert time_text(soon) is not None
    assert time_text(late) is None
    assert time_text(2**62) is None
    assert time_text(-1) is None


def test_today_and_tomorrow_by_name_are_believed() -> None:
    """A phone ahead of this machine's clock, by its time zone, still has its day."""
    today = datetime.now(UTC)
    assert time_of_name(f"PTT-{today:%Y%m%d}-WA0001.opus")
    far = today + timedelta(days=3)
    assert time_of_name(f"PTT-{far:%Y%m%d}-WA0001.opus") is None


@given(st.integers(1230768000000, 1772600000000))
def test_times_are_exact_to_the_millisecond(moment: int) -> None:
    """The time of a message is written exactly, with a fraction only where it has one."""
    text = time_text(moment)
    assert text is not None
    assert datetime.fromisoformat(text) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment)
    assert ("." in text) == (moment % 1000 != 0)


@given(st.text(max_size=80))
def test_any_name_is_read_without_an_error(name: str) -> None:
    """No name a stranger chooses stops a scan."""
    assert kind_of_name(name) in ("voice", "audio", "video")
    time_of_name(name)
