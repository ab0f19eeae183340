"""Ogg: walks the pages of a file, checks each, and reads the length of what is in it.

Pages as in RFC 3533, section 6: 27 bytes of header (capture pattern, version, flags, granule position, serial number, sequence number, CRC,
number of segments), the segment table, the payload. Opus as in RFC 7845, Vorbis as in the Vorbis I specification, section 4.2.

Not damage: that no page says it is the last. Messengers never set that flag, so a note cut exactly between two pages looks whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from fastcrc import crc32

from backup_tool.audio.facts import AudioFacts
from backup_tool.models import Damage

_HEADER = struct.Struct("<4sxBqIIIB")
_CAPTURE = b"OggS"
_NO_CRC = bytes(4)
_FIRST = 2  # the flag of a page that begins a stream
# A page holds at most 255 packets; no codec here has a packet of more than 8192 samples. A granule position beyond that is not believed.
_SAMPLES_A_PAGE = 255 * 8192
# A file made of false page starts could keep a scan busy for minutes: after so many it is known to be damaged, and no more is looked at.
_MOST_LOSSES = 1000


@dataclass(slots=True)
class _Stream:
    """One logical stream: its clock, where it stands, and the number its next page should bear."""

    codec: str = ""
    rate: int = 0
    skip: int = 0
    granule: int = 0
    pages: int = 0
    next_number: int | None = None

    def seconds(self) -> float | None:
        if not self.rate or self.granule > self.pages * _SAMPLES_A_PAGE:
            return None
        return max(self.granule - self.skip, 0) / self.rate


def _checksum(data: bytes, at: int, stop: int, crc: Callable[[bytes, int], int] = crc32.mpeg_2) -> int:
    """The CRC of a page, its own field taken as zero. CRC-32/MPEG-2 is Ogg's polynomial in Ogg's direction; Ogg starts at 0."""
    return crc(data[at + 26 : stop], crc(_NO_CRC, crc(data[at : at + 22], 0)))


class OggWalk:
    """Takes a file in pieces of any size, in order; then tells its facts. Keeps at most one page of it.

    `links` is then how many recordings follow each other in the file (RFC 3533, section 4: chained).
    """

    def __init__(self) -> None:
        self.links = 0
        self._left = b""
        self._streams: dict[int, _Stream] = {}
        self._seconds: float | None = None
        self._codecs: set[str] = set()
        self._damaged: Damage | None = None
        self._zeros_at_end = False
        self._losses = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        data = self._left + piece if self._left else piece
        self._left = data[self._walk(data) :]

    def facts(self) -> AudioFacts:
        """What was found. `damaged` is the first thing that is wrong, from the start of the file. Call once, at the end."""
        self._finish()
        self._close_link()
        video = "theora" in self._codecs
        codecs = "; codecs=opus" if self._codecs == {"opus"} else ""
        return AudioFacts("video/ogg" if video else "audio/ogg" + codecs, self._seconds, self._damaged, video)

    def _walk(self, data: bytes) -> int:
        """Go from page to page; returns where the first byte is that more bytes are needed for."""
        unpack, at, end, last_serial = _HEADER.unpack_from, 0, len(data), -1
        stream = _Stream()
        while at + 27 <= end:
            capture, flags, granule, serial, number, checksum, segments = unpack(data, at)
            if capture != _CAPTURE:
                at = self._lost(data, at)
                continue
            body = at + 27 + segments
            stop = body + sum(data[at + 27 : body])
            if stop > end or body > end:
                break
            if _checksum(data, at, stop) != checksum:
                at = self._lost(data, at + 3)
                continue
            if serial != last_serial or flags & _FIRST:
                stream, last_serial = self._stream(serial, flags, data[body : min(stop, body + 64)]), serial
            if number != stream.next_number and stream.next_number is not None:
                self._wrong("sequence-gap")
            stream.next_number = number + 1
            stream.pages += 1
            if granule >= 0:
                stream.granule = granule
            at = stop
        return at

    def _wrong(self, what: Damage) -> None:
        if self._damaged is None:
            self._damaged = what

    def _lost(self, data: bytes, at: int) -> int:
        """What stands at `at` is no page, or a damaged one: on to the next that looks like one."""
        found = data.find(_CAPTURE, at + 1)
        self._losses += 1
        if found < 0 and not data[at:].strip(b"\0"):
            self._zeros_at_end = True
            return len(data)
        self._wrong("crc-mismatch")
        if self._losses > _MOST_LOSSES:
            return len(data)
        return found if found >= 0 else max(at + 1, len(data) - 3)

    def _stream(self, serial: int, flags: int, start: bytes) -> _Stream:
        """The stream that a page belongs to; a new one where the page says that it is the first."""
        if flags & _FIRST:
            if any(stream.pages > 1 for stream in self._streams.values()):
                self._close_link()
            stream = _identify(start)
            self._codecs.add(stream.codec)
            self._streams[serial] = stream
            return stream
        if serial not in self._streams:
            self._wrong("sequence-gap")  # its first page is missing
            self._streams[serial] = _Stream()
        return self._streams[serial]

    def _close_link(self) -> None:
        """Streams side by side are as long as the longest; links of a chain follow each other."""
        lengths = [seconds for stream in self._streams.values() if (seconds := stream.seconds()) is not None]
        self.links += bool(self._streams)
        if lengths:
            self._seconds = (self._seconds or 0.0) + max(lengths)
        self._streams = {}

    def _finish(self) -> None:
        """What is left at the end is a page that was cut, unless whole pages stand in it: then its header is what is damaged."""
        left, self._left = self._left, b""
        if self._zeros_at_end:
            self._wrong("truncated")
        if not left:
            return
        again = left.find(_CAPTURE, 1)
        if self._damaged is None and again > 0 and left.startswith(_CAPTURE) and _whole_page(left, again):
            self._wrong("crc-mismatch")
            self._left = left[again + self._walk(left[again:]) :]
        elif _CAPTURE.startswith(left[:4]) or not left.strip(b"\0"):
            self._wrong("truncated")
        else:
            self._wrong("crc-mismatch")


def _whole_page(data: bytes, at: int) -> bool:
    if at + 27 > len(data):
        return False
    body = at + 27 + data[at + 26]
    stop = body + sum(data[at + 27 : body])
    return stop <= len(data) and _checksum(data, at, stop) == int.from_bytes(data[at + 22 : at + 26], "little")


def _identify(start: bytes) -> _Stream:
    """What a stream's first page says it is. Opus always counts in 48 kHz, whatever rate its header names (RFC 7845, section 4)."""
    if start.startswith(b"OpusHead") and len(start) >= 19:
        return _Stream("opus", 48000, int.from_bytes(start[10:12], "little"))
    if start.startswith(b"\x01vorbis") and len(start) >= 16:
        return _Stream("vorbis", int.from_bytes(start[12:16], "little"))
    return _Stream("theora" if start.startswith(b"\x80theora") else "")
