"""What is in a sound file: its kind by content, its length in seconds, and whether it is damaged.

    facts = inspect(data, "PTT-20260303-WA0007.opus")
    facts.media_type, facts.duration, facts.damaged     # "audio/ogg; codecs=opus", 12.34, None

Damage words (models.Damage):

    empty          no bytes
    not-ogg        the name promises Ogg (.opus, .ogg, .oga, .spx), the content is no audio known here
    truncated      the file ends inside a page, box, chunk or frame, or in zeros; or an MP4 has no `moov`
    crc-mismatch   a page of an Ogg file is not what its checksum says, or bytes between pages are no page
    sequence-gap   pages of an Ogg file are missing

Damage never keeps a file out of the archive. Bytes that are no known audio are "application/octet-stream"; under another suffix than
Ogg's that is no damage.
"""

from __future__ import annotations

from typing import Protocol

from backup_tool.audio import containers
from backup_tool.audio.facts import AudioFacts
from backup_tool.audio.ogg import OggWalk
from backup_tool.audio.pulled import Pulled
from backup_tool.audio.sniff import AUDIO_SUFFIXES, OGG_SUFFIXES, SNIFF_BYTES, UNKNOWN, VIDEO_SUFFIXES, media_type_of, suffix_of

__all__ = [
    "AUDIO_SUFFIXES", "SNIFF_BYTES", "UNKNOWN", "VIDEO_SUFFIXES", "AudioFacts", "Inspector", "inspect", "media_type_of", "suffix_of",
]  # fmt: skip


def inspect(data: bytes, name: str = "") -> AudioFacts:
    """The facts of a file held in memory. `name`, its name or path, only decides whether unknown content is `not-ogg`."""
    inspector = Inspector(name)
    inspector.feed(data)
    return inspector.facts()


class Inspector:
    """Takes a file in pieces of any size, in order; then tells its facts. Memory does not depend on the size of the file.

    A format whose length only a decoder can tell (WebM, AIFF, WMA) has a `duration` where the file came as a single piece.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._start = b""
        self._walk: _Walk | None = None
        self._whole: bytes | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._walk is not None:
            self._whole = None
            self._walk.feed(piece)
            return
        self._start = self._start + piece if self._start else piece
        if len(self._start) >= SNIFF_BYTES:
            self._begin()

    def _begin(self) -> None:
        self._whole, self._start = self._start, b""
        self._walk = _walk_of(self._whole[:SNIFF_BYTES])
        self._walk.feed(self._whole)

    def facts(self) -> AudioFacts:
        """What the whole file is. Call once, at the end."""
        if self._walk is None:
            if not self._start:
                return AudioFacts(damaged="empty")
            self._begin()
        assert self._walk is not None
        facts = self._walk.facts()
        if facts.media_type == UNKNOWN:
            facts.damaged = "not-ogg" if suffix_of(self._name) in OGG_SUFFIXES else None
        elif facts.duration is None and self._whole is not None:
            from backup_tool.audio.decoded import complete

            complete(facts, self._whole)
        return facts


class _Walk(Protocol):
    def feed(self, piece: bytes) -> None: ...

    def facts(self) -> AudioFacts: ...


class _Unread:
    """A file of which only the kind is known."""

    def __init__(self, media_type: str) -> None:
        self._media_type = media_type

    def feed(self, piece: bytes) -> None:
        pass

    def facts(self) -> AudioFacts:
        return AudioFacts(self._media_type)


def _walk_of(start: bytes) -> _Walk:
    media_type = media_type_of(start)
    if media_type == "audio/ogg":
        return OggWalk()
    if media_type in ("audio/mp4", "audio/3gpp"):
        return Pulled(containers.read_boxes(media_type))
    if media_type == "audio/mpeg":
        return Pulled(containers.read_mp3(start))
    if media_type == "audio/aac":
        return Pulled(containers.read_adts(start))
    reader = _READERS.get(media_type)
    return Pulled(reader()) if reader else _Unread(media_type)


_READERS = {
    "audio/wav": containers.read_wave,
    "audio/x-caf": containers.read_caf,
    "audio/flac": containers.read_flac,
    "audio/amr": containers.read_amr,
}
