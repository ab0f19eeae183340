"""Makes copies of recordings in the formats that people can use, through PyAV: no other program is started.

    with open("note.mp3", "w+b") as out:
        convert(data, out, "mp3", Tags(title="Voice note from Anna", person="Anna", chat="Family", date="2026-03-03T15:05:00+01:00"))

Sound that is in the right codec already is copied packet by packet, never encoded again. `ogg` is Opus in Ogg with one channel (RFC 7845),
what WhatsApp takes for a voice message. Nothing here touches the recording itself: its copy has other bytes.

Recordings are foreign and perhaps hostile. Only the container that their first bytes show is opened, never a playlist or anything that
names other files; what comes out of them is bounded in length, size and time.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO, Literal, cast, get_args

import msgspec

from backup_tool.audio.mp3 import Form, Mp3File
from backup_tool.audio.ogg import OggWalk
from backup_tool.audio.sniff import SNIFF_BYTES, media_type_of
from backup_tool.errors import BackupError, Incomplete, UsageError
from backup_tool.names import in_bytes, on_one_line, shown

if TYPE_CHECKING:
    from av import AudioFrame, Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer

Format = Literal["ogg", "mp3", "m4a", "wav"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""What a recording can be turned into; each is also the suffix of its files."""

LONGEST = 24 * 3600
"""Seconds: what claims to last longer is not converted."""
LARGEST = 2**32 - 2**20
"""Bytes of a copy: the headers of a WAV file cannot tell of more."""
_PIECE = 2**20
_GRACE = 60
"""Seconds that a recording may take beyond its own length."""
_GAP = 0.1
"""Seconds between two parts of an Ogg file from which on something is missing there."""
_SHORT = 0.5
"""Seconds by which a recording may be shorter than its header says."""
_RATES = (4_000, 384_000)
_STRETCH = 0.5
"""Seconds of sound that are encoded at a time. A call costs as much for the 20 or 60 milliseconds that come out of a packet."""

# The demuxer for each kind of file: FFmpeg is not left to guess, for some of its guesses open further files.
_DEMUXERS = {
    "audio/ogg": "ogg", "audio/mpeg": "mp3", "audio/mp4": "mov", "audio/3gpp": "mov", "audio/aac": "aac", "audio/amr": "amr",
    "audio/x-caf": "caf", "audio/flac": "flac", "audio/wav": "wav", "audio/aiff": "aiff", "audio/webm": "matroska", "audio/x-ms-wma": "asf",
}  # fmt: skip


# What says nothing to a person who is no programmer, by PyAV's names.
_IN_WORDS = {
    "EOFError": "it breaks off before its sound begins",
    "PatchWelcomeError": "its sound is of a kind, or changes on the way to a kind, that cannot be played here",
}


class _Target(msgspec.Struct, frozen=True):
    """How a format is written. `copied` are the codecs that stay as they are, up to so many `channels`; `low` and `high` are rate and bits
    a second, for one channel, of speech as phones record it (up to 16 kHz) and of anything better (0: the rate that it has)."""

    muxer: str
    encoder: str
    copied: tuple[str, ...]
    low: tuple[int, int]
    high: tuple[int, int]
    channels: int
    options: dict[str, str]


_TARGETS: dict[Format, _Target] = {
    "ogg": _Target(
        "ogg", "libopus", ("opus",), (16_000, 24_000), (48_000, 40_000), 1, {"application": "voip", "frame_duration": "60"}
    ),
    "mp3": _Target("mp3", "libmp3lame", ("mp3", "mp3float"), (16_000, 48_000), (44_100, 64_000), 2, {"compression_level": "7"}),
    "m4a": _Target("ipod", "aac", ("aac", "alac"), (16_000, 48_000), (44_100, 64_000), 2, {"aac_coder": "fast"}),
    "wav": _Target("wav", "pcm_s16le", ("pcm_s16le",), (16_000, 0), (0, 0), 2, {}),
}  # fmt: skip


class Tags(msgspec.Struct, frozen=True, array_like=True):
    """What a copy says of itself; None is left out. Any text will do: what could break a tag is taken out of it.

    `date` is a day or a time as ISO 8601 has it.
    """

    title: str | None = None
    person: str | None = None
    chat: str | None = None
    date: str | None = None
    comment: str | None = None


class NotConverted(Incomplete):
    """A recording cannot be turned into another format: `reason` says why. Give it back as it is, and say so."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the recording cannot be converted: {reason}", "take it as it is: --format original")
        self.reason = reason


def known_format(text: str) -> Format | None:
    """The format that was typed; None for ``original``. Raises UsageError."""
    if text == "original":
        return None
    for format in FORMATS:
        if text == format:
            return format
    raise UsageError(f'"{shown(text)}" is not a format', f"formats are original, {', '.join(FORMATS)}")


def convert(source: bytes | BinaryIO, out: BinaryIO, format: Format, tags: Tags = Tags()) -> str | None:  # noqa: B008
    """Write a copy of the recording to `out`, which can be read, written and sought, and is empty.

    `source` is a whole file: its bytes, or a stream that can be sought. The same bytes and tags make the same copy, as long as the
    libraries stay the same. Returns None, or what a person should know of a copy that lacks a part of the recording. Raises NotConverted;
    what is in `out` then is of no use. Of a file with picture the sound is taken, of several sounds the first.
    """
    import av

    file = io.BytesIO(source) if isinstance(source, bytes) else source
    target = _TARGETS[format]
    try:
        # Each recording of a chain has a clock and headers of its own, and one copy has one: its packets cannot all be taken over.
        chained = format == "ogg" and _is_chain(file)
        with _opened(file) as container:
            sound = _sound_of(container)
            with av.open(out, "w", format=target.muxer, options={"fflags": "+bitexact"}) as copy:
                copy.metadata.update(_metadata(tags))
                return _Copying(container, sound, copy, out, target).run(anew=chained)
    except Exception as error:
        # Broken files make PyAV raise ValueError, UnicodeDecodeError, MemoryError and more besides its own errors.
        if isinstance(error, (BackupError, OSError)) and not isinstance(error, av.FFmpegError):
            raise  # of `source` or `out`, not of what is in them
        raise NotConverted(_words(error)) from None


def _is_chain(file: BinaryIO) -> bool:
    """Whether several recordings follow each other in an Ogg file. It stands at its start afterwards."""
    walk = OggWalk()
    if media_type_of(file.read(SNIFF_BYTES)) == "audio/ogg":
        file.seek(0)
        while piece := file.read(_PIECE):
            walk.feed(piece)
        walk.facts()
    file.seek(0)
    return walk.links > 1


def _opened(file: BinaryIO) -> InputContainer:
    import av

    head = file.read(SNIFF_BYTES)
    demuxer = _DEMUXERS.get(media_type_of(head))
    if demuxer is None:
        raise NotConverted("it is no sound known here" if head else "it is empty")
    try:
        file.seek(0)
        return av.open(file, "r", format=demuxer)
    except UnicodeDecodeError:  # tags of other times, in other alphabets
        file.seek(0)
        return av.open(file, "r", format=demuxer, metadata_encoding="latin-1")


def _sound_of(container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        raise NotConverted("there is no sound in it")
    return container.streams.audio[0]


def _metadata(tags: Tags) -> dict[str, str]:
    """As FFmpeg calls them; each format has its own names for these."""
    said = {"title": tags.title, "artist": tags.person, "album": tags.chat, "date": tags.date, "comment": tags.comment}
    return {key: on_one_line(text) for key, text in said.items() if text and on_one_line(text)}


def _words(error: Exception) -> str:
    if words := _IN_WORDS.get(type(error).__name__):
        return words
    said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
    return shown(said[:1].lower() + said[1:], 100)


class _Copying:
    """The making of one copy."""

    def __init__(self, container: InputContainer, sound: AudioStream, copy: OutputContainer, out: BinaryIO, target: _Target) -> None:
        self._container, self._sound, self._copy, self._out, self._target = container, sound, copy, out, target
        self._began, self._seconds = time.monotonic(), 0.0
        self._packets = self._broken = 0
        self._is_ogg = container.format.name == "ogg"
        self._next: int | None = None
        self._lost = 0.0
        self._last: tuple[int, Fraction | None] = (0, None)
        """Where the last packet ended, and in which units."""
        self._claimed = _claimed(container, sound)

    def run(self, *, anew: bool = False) -> str | None:
        """What there is to say of the copy. With `anew` it is encoded in any case."""
        if self._may_be_copied() and not anew:
            self._copy_packets()
        else:
            self._encode()
        if self._seconds <= 0:
            raise NotConverted("nothing in it can be played")
        if self._broken:
            return f"{self._broken} of its {self._packets} parts cannot be played, and are not in the copy"
        if self._lost:
            return f"{self._lost:.1f} seconds of it are damaged, and are not in the copy"
        short = self._claimed - self._last[0] * float(self._last[1] or 0)
        return f"it breaks off: the last {short:.1f} seconds are not in the copy" if short > _SHORT else None

    def _may_be_copied(self) -> bool:
        return self._sound.codec_context.name in self._target.copied and 1 <= self._sound.channels <= self._target.channels

    def _copy_packets(self) -> None:
        stream = self._copy.add_stream_from_template(self._sound)
        for packet in self._container.demux(self._sound):
            if packet.dts is None:  # the empty one at the end
                continue
            self._follows(packet)
            self._lasted((packet.duration or 0) * _tick(packet))
            packet.stream = stream
            self._copy.mux(packet)

    def _encode(self) -> None:
        take = self._taker()
        for stretch in _stretches(self._frames()):
            take(stretch)
        take(None)

    def _taker(self) -> Callable[[AudioFrame | None], None]:
        """What takes the sound and writes the copy of it."""
        target, channels = self._target, min(self._sound.channels, self._target.channels)
        recorded = _recorded_rate(self._sound)
        rate, bits = target.low if recorded <= target.low[0] else target.high
        if target.muxer == "mp3":
            with suppress(ImportError):
                form = Form(rate, channels, bits * channels, int(target.options["compression_level"]))
                return Mp3File(self._out, form, self._copy.metadata).take
        stream = cast("AudioStream", self._copy.add_stream(target.encoder, rate=rate or min(recorded, 48_000)))
        stream.layout = "mono" if channels == 1 else "stereo"
        stream.bit_rate = bits * channels
        stream.options = {"flags": "+bitexact", **target.options}
        return lambda frame: self._copy.mux(stream.encode(frame))

    def _frames(self) -> Iterator[AudioFrame]:
        """The sound, frame after frame. A packet that cannot be decoded is counted and passed over."""
        import av

        for packet in self._container.demux(self._sound):
            self._packets += packet.size > 0
            self._follows(packet)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._broken += 1
                continue
            for frame in frames:
                yield frame
                self._lasted(frame.samples / frame.sample_rate)

    def _follows(self, packet: Packet[AudioStream]) -> None:
        """Take note of what is missing before a packet: damaged pages of Ogg are passed over without a word. (In other containers a gap may
        be silence that was not recorded.)"""
        if packet.pts is None:
            return
        self._last = (packet.pts + (packet.duration or 0), packet.time_base)
        if not self._is_ogg:
            return
        if self._next is not None and packet.pts > self._next:  # only then: a unit of time is a fraction, and costly
            seconds = (packet.pts - self._next) * _tick(packet)
            self._lost += seconds if seconds > _GAP else 0
        self._next = packet.pts + (packet.duration or 0)

    def _lasted(self, seconds: float) -> None:
        """So much more of it was read. Raises NotConverted where it does not come to an end."""
        self._seconds += max(seconds, 0)
        if self._seconds > LONGEST:
            raise NotConverted(f"it is longer than {LONGEST // 3600} hours")
        if time.monotonic() - self._began > _GRACE + self._seconds:
            raise NotConverted("reading it takes longer than listening to it")
        if self._out.tell() > LARGEST:
            raise NotConverted(f"its copy would be larger than {in_bytes(LARGEST)}")


def _claimed(container: InputContainer, sound: AudioStream) -> float:
    """Seconds that its header promises; 0 where there is none that does, or none that can be relied on."""
    if container.format.name in ("flac", "aiff"):
        return float((sound.duration or 0) * (sound.time_base or 0))
    if container.format.name == "matroska" and len(container.streams) == 1:
        return (container.duration or 0) / 1e6
    return 0.0


def _tick(packet: Packet[AudioStream]) -> float:
    """The seconds in which its times are counted; 0 where it does not say."""
    return float(packet.time_base or 0)


def _recorded_rate(sound: AudioStream) -> int:
    """The rate at which it was recorded. Opus is always decoded to 48 kHz; what went in stands in its header (RFC 7845, section 5.1)."""
    head = sound.codec_context.extradata or b""
    if sound.codec_context.name == "opus" and len(head) >= 16 and head.startswith(b"OpusHead"):
        return int.from_bytes(head[12:16], "little") or 48_000
    return sound.rate or 48_000


def _stretches(frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
    """The sound in longer frames without gaps, in the form of the first: encoders want no other, and recordings may change on the way."""
    from av import AudioFifo, AudioResampler

    gathered, first, form, bridge, tick, enough = AudioFifo(), None, None, None, None, 0.0
    for frame in frames:
        if _form(frame) != form:
            form = _form(frame)
            if not _RATES[0] <= frame.sample_rate <= _RATES[1]:
                raise NotConverted(f"its sampling rate is {frame.sample_rate}")
            if first is None:
                first, tick, enough = form, Fraction(1, frame.sample_rate), _STRETCH * frame.sample_rate
            bridge = None if form == first else AudioResampler(*first)
        for one in bridge.resample(frame) if bridge else (frame,):
            one.pts, one.time_base = None, tick
            gathered.write(one)
        if gathered.samples >= enough and (stretch := gathered.read()):
            yield stretch
    if rest := gathered.read():
        yield rest


def _form(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
