"""Sound files other than Ogg: WAV and AMR made by hand, the rest by FFmpeg's encoders through PyAV."""

from __future__ import annotations

import io
import math
import random
import struct
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import OutputContainer


def wav(seconds: float, rate: int = 8000, *, data_size: int | None = None, riff_size: int | None = None) -> bytes:
    """A tone: mono, 16 bit. The two sizes in its headers can be made to lie."""
    frames = round(seconds * rate)
    sound = struct.pack(f"<{frames}h", *(round(8000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(frames)))
    form = struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16)
    body = b"WAVE" + struct.pack("<4sI", b"fmt ", 16) + form
    body += struct.pack("<4sI", b"data", len(sound) if data_size is None else data_size) + sound
    return struct.pack("<4sI", b"RIFF", len(body) if riff_size is None else riff_size) + body


def amr(seconds: float, seed: int = 0) -> bytes:
    """Narrow band AMR at 12.2 kbit/s: frames of 32 bytes and 20 ms, filled with noise (RFC 4867, section 5)."""
    noise = random.Random(seed)
    return b"#!AMR\n" + b"".join(b"\x3c" + noise.randbytes(31) for _ in range(round(seconds * 50)))


def caf(seconds: float, rate: int = 8000) -> bytes:
    """A CAF file of plain 16 bit samples: description and data (Apple Core Audio Format Specification 1.0)."""
    frames = round(seconds * rate)
    description = struct.pack(">d4sIIIII", float(rate), b"lpcm", 2, 2, 1, 1, 16)
    data = bytes(4) + random.Random(rate).randbytes(frames * 2)
    return b"caff\0\1\0\0" + struct.pack(">4sq", b"desc", len(description)) + description + struct.pack(">4sq", b"data", len(data)) + data


# container, codec, sampling rate, bit rate
_ENCODINGS = {
    "m4a": ("ipod", "aac", 44100, 48000),
    "mp4": ("mp4", "aac", 44100, 48000),
    "aac": ("adts", "aac", 44100, 48000),
    "mp3": ("mp3", "libmp3lame", 44100, 64000),
    "3gp": ("3gp", "aac", 16000, 24000),
    "flac": ("flac", "flac", 16000, 0),
    "webm": ("webm", "libopus", 48000, 24000),
    "opus": ("ogg", "libopus", 48000, 16000),
    "ogg": ("ogg", "libopus", 48000, 16000),
    "aiff": ("aiff", "pcm_s16be", 16000, 0),
    "wav": ("wav", "pcm_s16le", 16000, 0),
    "caf": ("caf", "pcm_s16le", 16000, 0),
}


def encoded(suffix: str, seconds: float, seed: int = 0, options: dict[str, str] | None = None) -> bytes:
    """A tone in the usual encoding of that suffix, about so many seconds long: some encoders add a little silence."""
    return _encode(suffix, seconds, seed, picture=False, options=options or {})


def video_note(seconds: float, seed: int = 0) -> bytes:
    """A small MP4 with picture and sound, as a round video note is."""
    return _encode("mp4", seconds, seed, picture=True, options={})


def _encode(suffix: str, seconds: float, seed: int, *, picture: bool, options: dict[str, str]) -> bytes:
    import av

    container_name, codec, rate, bit_rate = _ENCODINGS[suffix]
    out = io.BytesIO()
    with av.open(out, "w", format=container_name, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        if bit_rate:
            stream.bit_rate = bit_rate
        if picture:
            _add_picture(container, seconds)
        layout_format = stream.format.name
        resampler = av.AudioResampler(format=layout_format, layout="mono", rate=rate, frame_size=stream.frame_size or None)
        for frame in [*_tone(seconds, rate, seed), None]:
            for ready in resampler.resample(frame):
                container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
    return out.getvalue()


def _tone(seconds: float, rate: int, seed: int) -> list[AudioFrame]:
    import av

    frames: list[AudioFrame] = []
    total, at = round(seconds * rate), 0
    pitch = 200 + seed % 400
    while at < total:
        count = min(1024, total - at)
        samples = struct.pack(f"<{count}h", *(round(6000 * math.sin(2 * math.pi * pitch * (at + n) / rate)) for n in range(count)))
        frame = av.AudioFrame(format="s16", layout="mono", samples=count)
        frame.planes[0].update(samples.ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        frames.append(frame)
        at += count
    return frames


def _add_picture(container: OutputContainer, seconds: float) -> None:
    import av

    stream = container.add_stream("mpeg4", rate=10)
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
    for number in range(max(round(seconds * 10), 1)):
        frame = av.VideoFrame(32, 32, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([number % 256]) * plane.buffer_size)
        frame.pts = number
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
