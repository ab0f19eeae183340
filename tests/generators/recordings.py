"""Recordings as phones and computers make them of their own screens: a picture, and sound in which somebody speaks and falls silent.

data = screen_recording("mp4", [2.0, 3.0], pause=2.0)      # two notes of 2 and 3 seconds, played one after the other
"""

from __future__ import annotations

import io
import math
import random
import struct
from collections.abc import Sequence
from fractions import Fraction

RATE = 48000

# container, codec of the sound, of the picture
_KINDS = {
    "mp4": ("mp4", "aac", "mpeg4"),
    "mov": ("mov", "aac", "mpeg4"),
    "mkv": ("matroska", "libopus", "mpeg4"),
    "webm": ("webm", "libopus", "libvpx"),
    "pcm.mov": ("mov", "pcm_s16le", "mpeg4"),
    "m4a": ("ipod", "aac", None),
    "mka": ("matroska", "libopus", None),
}


def speech(seconds: float, seed: int = 0) -> list[int]:
    """Samples that are as loud and as uneven as a voice: syllables of a few harmonics, some five a second."""
    noise = random.Random(seed)
    samples: list[int] = []
    while len(samples) < round(seconds * RATE):
        length, pitch = round(noise.uniform(0.12, 0.25) * RATE), noise.uniform(110, 240)
        loud = noise.uniform(5000, 9000)
        step = 2 * math.pi * pitch / RATE
        for n in range(length):
            envelope = loud * (0.15 + math.sin(math.pi * n / length))
            samples.append(round(envelope * (math.sin(step * n) + 0.4 * math.sin(3 * step * n)) / 1.6))
    return samples[: round(seconds * RATE)]


def screen_recording(
    kind: str, notes: Sequence[float], *, pause: float = 2.0, hiss: int = 0, tracks: int = 1, made: str | None = None, seed: int = 0
) -> bytes:
    """A recording of notes of so many seconds, with `pause` seconds before, between and after them, in which a microphone may `hiss`
    (amplitude). Each further track is silent. `made` is the time that its container names."""
    import av

    name, sound, picture = _KINDS[kind]
    noise = random.Random(seed + 1)
    gap = [0] * round(pause * RATE)
    samples = list(gap)
    for number, seconds in enumerate(notes):
        samples += speech(seconds, seed + number) + gap
    if hiss:
        samples = [sample + noise.randint(-hiss, hiss) for sample in samples]
    out = io.BytesIO()
    with av.open(out, "w", format=name) as container:
        if made is not None:
            container.metadata["creation_time"] = made
        video = container.add_stream(picture, rate=5) if picture else None
        streams = [container.add_stream(sound, rate=RATE) for _ in range(tracks)]
        for stream in streams:
            assert isinstance(stream, av.AudioStream)
            stream.layout = "mono"
        if video is not None:
            assert isinstance(video, av.VideoStream)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            for number in range(max(len(samples) * 5 // RATE, 1)):
                frame = av.VideoFrame(64, 64, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([40 + number % 100]) * plane.buffer_size)
                frame.pts = number
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        for number, stream in enumerate(streams):
            assert isinstance(stream, av.AudioStream)
            _encode(container, stream, samples if number == 0 else [0] * len(samples))
    return out.getvalue()


def _encode(container: object, stream: object, samples: Sequence[int]) -> None:
    import av
    from av.container import OutputContainer

    assert isinstance(container, OutputContainer)
    assert isinstance(stream, av.AudioStream)
    resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=RATE, frame_size=stream.frame_size or None)
    for start in range(0, len(samples), 4800):
        part = samples[start : start + 4800]
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(part))
        frame.planes[0].update(struct.pack(f"<{len(part)}h", *part).ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        for ready in resampler.resample(frame):
            container.mux(stream.encode(ready))
    for ready in resampler.resample(None):
        container.mux(stream.encode(ready))
    container.mux(stream.encode(None))
