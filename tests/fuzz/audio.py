"""The readers of sound files: they never raise, and tell the same damage whether a file comes whole or in pieces.
A copy that cannot be made is said to be so.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress

from backup_tool.audio import Inspector, inspect, media_type_of
from backup_tool.audio.convert import NotConverted, convert
from tests.fuzz import Target
from tests.generators.ogg import opus_note
from tests.generators.sounds import amr, caf, encoded, wav


def _read(name: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        media_type_of(data[:64])
        pieces = Inspector(name)
        for start in range(0, len(data), 1000):
            pieces.feed(data[start : start + 1000])
        facts = inspect(data, name)
        assert facts.damaged == pieces.facts().damaged
        return facts

    return read


def _convert(data: bytes) -> object:
    with suppress(NotConverted):
        return convert(data, io.BytesIO(), "mp3")
    return None


def _boxes() -> bytes:
    """An MP4 that has all that a reader looks at: `ftyp`, `moov` with `mvhd`, `mdat`."""
    header = bytes(4) + bytes(8) + (1000).to_bytes(4, "big") + (12_340).to_bytes(4, "big") + bytes(80)
    movie = _box(b"moov", _box(b"mvhd", header))
    return _box(b"ftyp", b"M4A \0\0\0\0M4A isom") + movie + _box(b"mdat", bytes(200))


def _box(kind: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + kind + body


_MP3 = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + (b"\xff\xfb\x90\0" + bytes(413)) * 4
_ADTS = (b"\xff\xf1\x50\x80\x0d\x1f\xfc" + bytes(97)) * 4
_FLAC = b"fLaC\x80\0\0\x22" + bytes(10) + b"\x0a\xc4\x42\xf0\0\0\xac\x44" + bytes(16) + b"\xff\xf8" + bytes(50)

TARGETS: dict[str, Target] = {
    "ogg": (_read("note.opus"), [opus_note(1.0, seed=1), opus_note(9.0, seed=2)]),
    "mp4": (_read("note.m4a"), [_boxes()]),
    "convert": (
        _convert,
        [opus_note(0.5, seed=3), wav(0.2), amr(0.2), caf(0.1), *(encoded(kind, 0.2) for kind in ("m4a", "mp3", "webm", "flac"))],
    ),
    "others": (_read("note"), [wav(0.2), amr(0.4), caf(0.1), _MP3, _ADTS, _FLAC]),
}
