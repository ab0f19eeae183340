"""The sound of a recording, through PyAV: which tracks it has, when it was made, where it is silent, and a track of it as a file.

    with Recording(file, "video/mp4") as recording:
        recording.tracks                          # [Track(codec="aac", duration=12.3, …)]
        cuts = recording.notes(0, pause=1.5)      # [(0.0, 4.2), (6.9, 12.3)]
        data = recording.sound(0, *cuts[0])

Sound is copied packet by packet and never encoded again: the same recording gives the same bytes. A container is opened as what its first
bytes say it is and as nothing else, so that a file which only pretends to be one cannot make FFmpeg open others.
"""

from __future__ import annotations

import io
import math
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from backup_tool.errors import BackupError

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

_FORMATS = {
    "audio/mp4": "mov", "audio/3gpp": "mov", "video/mp4": "mov", "audio/webm": "matroska", "audio/ogg": "ogg", "audio/wav": "wav",
    "audio/mpeg": "mp3", "audio/aac": "aac", "audio/flac": "flac", "audio/x-caf": "caf", "audio/amr": "amr", "audio/aiff": "aiff",
}  # fmt: skip
# FFmpeg's name of a codec, and the container (its name, the suffix) that holds such packets as they are.
_WRAPPERS = {
    "aac": ("ipod", ".m4a"), "alac": ("ipod", ".m4a"), "opus": ("ogg", ".opus"), "vorbis": ("ogg", ".ogg"), "mp3": ("mp3", ".mp3"),
    "flac": ("flac", ".flac"), "amr_nb": ("amr", ".amr"), "amr_wb": ("amr", ".amr"), "pcm_s16le": ("wav", ".wav"),
    "pcm_s24le": ("wav", ".wav"), "pcm_f32le": ("wav", ".wav"),
}  # fmt: skip
_ANYTHING = ("matroska", ".mka")
_MOST_SOUND = 512 * 2**20
_MOST_PACKETS = 10_000_000
_LONGEST = 24 * 3600
_GRACE = 60
"""Seconds that a recording may take beyond its own length."""
_RATE = 8000
_BLOCK = _RATE // 20
_SHORTEST = 0.2
"""Seconds: what is shorter is a click."""
_MARGIN = 0.25
"""Seconds of the silence around a note that stay with it: words begin and end softly."""
_FLOOR, _LOUDEST, _ABOVE_FLOOR = -60.0, -35.0, 8.0
"""dBFS: below the first all is silence, above the second nothing; between them, what is hardly louder than the recording's own noise."""


class Unplayable(Exception):
    """What a recording lacks, or why it cannot be read; in a person's words."""


@dataclass(frozen=True, slots=True)
class Track:
    """One track of sound. `duration` is in seconds, None where nothing tells it; `title` is what the recording calls it."""

    codec: str
    duration: float | None
    title: str | None

    @property
    def suffix(self) -> str:
        """Of a file that holds this track alone: ``.m4a``."""
        return _WRAPPERS.get(self.codec, _ANYTHING)[1]


class Recording:
    """An open recording of that media type (`audio.media_type_of`). Closes the file at the end. Raises Unplayable."""

    def __init__(self, file: BinaryIO, media_type: str) -> None:
        self._file = file
        self._read = False
        if media_type not in _FORMATS:
            raise Unplayable("not a recording of a kind that is known here")
        self._format = _FORMATS[media_type]
        self._container = self._open()

    def _open(self) -> InputContainer:
        import av

        with _failures():
            try:
                return av.open(self._file, "r", format=self._format)
            except UnicodeDecodeError:  # texts of other times, in other alphabets
                self._file.seek(0)
                return av.open(self._file, "r", format=self._format, metadata_encoding="latin-1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._container.close()
        self._file.close()

    @property
    def has_picture(self) -> bool:
        """True for a video; a cover picture is none."""
        return any(not int(getattr(stream, "disposition", 0)) & 0x400 for stream in self._container.streams.video)

    @property
    def tracks(self) -> list[Track]:
        """Its tracks of sound, in the order of the file."""
        return [_track(stream) for stream in self._container.streams.audio]

    def made_at(self) -> datetime | None:
        """When it was made, by what its container says: the local time of an iPhone first, which has its zone; None where it does not."""
        said = {key.lower(): text for key, text in self._container.metadata.items()}
        for key in ("com.apple.quicktime.creationdate", "creation_time", "date"):
            with suppress(ValueError, OverflowError):
                moment = datetime.fromisoformat(said.get(key, "").strip())
                if moment.tzinfo is not None and moment.year >= 2009:  # before, 1904 and 1970 above all: a clock that was not set
                    return moment.astimezone(UTC)
        return None

    def sound(self, track: int, start: float = 0.0, end: float = math.inf) -> bytes:
        """A file of the packets of a track from `start` to `end` (seconds from its beginning), as they are.

        Raises Unplayable where there are none, or more than fit.
        """
        import av

        with _failures():
            stream = self._stream(track)
            name, _ = _WRAPPERS.get(stream.codec.canonical_name, _ANYTHING)
            out, size, first, seconds = io.BytesIO(), 0, None, Fraction(0)
            with av.open(out, "w", format=name, options={"fflags": "+bitexact"}) as made:
                into = made.add_stream_from_template(stream)
                for packet, at in self._packets(stream):
                    if at < start or at >= end:
                        continue
                    first = packet.pts if first is None else first
                    size += packet.size
                    seconds += (packet.duration or 0) * (packet.time_base or 0)
                    if size > _MOST_SOUND:
                        raise Unplayable(f"more than {_MOST_SOUND >> 20} MiB of sound: cut it into parts first")
                    _move(packet, first, cut=start > 0)
                    packet.stream = into
                    made.mux(packet)
            if first is None:
                raise Unplayable("its track of sound is empty")
            if name == "flac" and (start > 0 or end != math.inf):
                _shorten_flac(out, round(seconds * stream.rate))
            return out.getvalue()

    def _stream(self, track: int) -> AudioStream:
        """The track, to be read from its beginning. Opened anew each time but the first: a seek may pass over what a codec begins with."""
        if self._read:
            self._container.close()
            self._file.seek(0)
            self._container = self._open()
        self._read = True
        return self._container.streams.audio[track]

    def _packets(self, stream: AudioStream) -> Iterator[tuple[Packet[AudioStream], float]]:
        """The packets of a track with the moment at which each begins, in seconds from the first. Raises Unplayable for what has no end."""
        began, lasted = time.monotonic(), 0.0
        first: int | None = None
        for count, packet in enumerate(self._container.demux(stream)):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue  # the end
            first = packet.pts if first is None else first
            at = float((packet.pts - first) * packet.time_base)
            lasted = max(lasted, at)
            if count > _MOST_PACKETS or lasted > _LONGEST:
                raise Unplayable(f"it is longer than {_LONGEST // 3600} hours")
            if time.monotonic() - began > _GRACE + lasted:
                raise Unplayable("reading it takes longer than listening to it")
            yield packet, at

    def notes(self, track: int, pause: float) -> list[tuple[float, float]]:
        """(start, end) in seconds of each stretch of sound that is parted from the next by at least `pause` seconds of silence."""
        with _failures():
            levels = self._levels(self._stream(track))
        if not levels:
            return []
        quiet = sorted(levels)[len(levels) // 10]
        threshold = min(max(_FLOOR, quiet + _ABOVE_FLOOR), _LOUDEST)
        seconds = _BLOCK / _RATE
        length = len(levels) * seconds
        stretches: list[list[float]] = []
        for number, level in enumerate(levels):
            if level <= threshold:
                continue
            at = number * seconds
            if stretches and at - stretches[-1][1] < pause:
                stretches[-1][1] = at + seconds
            else:
                stretches.append([at, at + seconds])
        margin = min(_MARGIN, pause / 2)
        kept = [(start, end) for start, end in stretches if end - start >= _SHORTEST]
        return [(round(max(start - margin, 0.0), 3), round(min(end + margin, length), 3)) for start, end in kept]

    def _levels(self, stream: AudioStream) -> list[float]:
        """How loud each twentieth of a second is, in dBFS."""
        import av

        resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE, frame_size=_BLOCK)
        levels: list[float] = []

        def measure(frame: AudioFrame | None) -> None:
            for ready in resampler.resample(frame):
                samples = array("h", bytes(ready.planes[0])[: ready.samples * 2])
                power = sum(map(_square, samples)) / (len(samples) or 1)
                levels.append(10 * math.log10(power / 2**30) if power else -120.0)

        for packet, _ in self._packets(stream):
            for frame in stream.codec_context.decode(packet):
                measure(frame)
        for last in (*stream.codec_context.decode(None), None):
            measure(last)
        return levels


def _square(sample: int) -> int:
    return sample * sample


def _track(stream: AudioStream) -> Track:
    seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
    title = stream.metadata.get("title") or stream.metadata.get("handler_name")
    return Track(stream.codec.canonical_name if stream.codec_context else "unknown", seconds, title)


def _move(packet: Packet[AudioStream], first: int | None, *, cut: bool) -> None:
    """Let the sound begin at zero. Times before zero are what a codec plays in silence to get going: they stay, unless it is cut there."""
    if first is None or packet.pts is None or packet.dts is None or (first <= 0 and not cut):
        return
    packet.pts -= first
    packet.dts -= first


def _shorten_flac(file: io.BytesIO, samples: int) -> None:
    """Let a part of a recording say its own length, and no checksum of the whole (RFC 9639, section 8.2: the last 36 bits before it)."""
    file.seek(18)
    form = int.from_bytes(file.read(8), "big") >> 36 << 36
    file.seek(18)
    file.write((form | samples).to_bytes(8, "big") + bytes(16))


@contextmanager
def _failures() -> Iterator[None]:
    """FFmpeg's complaints in a person's words. Broken files make PyAV raise nearly anything."""
    try:
        yield
    except (Unplayable, BackupError):
        raise
    except Exception as error:
        unfinished = type(error).__name__ == "InvalidDataError"
        raise Unplayable("it was not finished, or is damaged" if unfinished else f"it cannot be read: {str(error).lower()}") from None
