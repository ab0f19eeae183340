"""MP3 by either encoder: `lameenc`, and PyAV, which stands in where that is not installed."""

from __future__ import annotations

import io
import struct
import sys
from array import array
from typing import Any

import pytest

from backup_tool.audio.convert import Tags, convert
from tests.audio.judge import by_ffmpeg
from tests.audio.test_convert import stereo
from tests.generators import sounds
from tests.generators.ogg import opus_note


@pytest.fixture(params=["lameenc", "PyAV"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "PyAV":
        monkeypatch.setitem(sys.modules, "lameenc", None)  # as where it is not installed
    return str(request.param)


def mp3_of(source: bytes) -> bytes:
    out = io.BytesIO()
    assert convert(source, out, "mp3", Tags("Voice note from Zoë", "Zoë", "Família 字", "2026-03-03T15:05:00+01:00", "as recorded")) is None
    return out.getvalue()


def said(data: bytes) -> dict[str, str]:
    with by_ffmpeg(data) as container:
        return dict(container.metadata)


def info_of(data: bytes) -> tuple[bytes, int, int, int]:
    """Of the Info frame: version and rates, the numbers of frames and bytes, and of the samples before and after that were not recorded."""
    at = data.index(b"Info")
    frame = data.rindex(b"\xff", 0, at)
    frames, size = struct.unpack_from(">II", data, at + 8)
    return data[frame : frame + 3], frames, size, int.from_bytes(data[at + 141 : at + 144], "big")


def samples(data: bytes) -> tuple[list[float], int]:
    """What a player plays of the first channel, and the rate."""
    with by_ffmpeg(data) as container:
        played: list[float] = []
        for frame in container.decode(audio=0):
            whole = frame.format.name.startswith("s16")
            values = array("h" if whole else "f", bytes(frame.planes[0]))
            step = 1 if frame.format.is_planar else frame.layout.nb_channels
            played += [value / 32768 if whole else value for value in values[: frame.samples * step : step]]
        return played, container.streams.audio[0].rate


def noise(heard: list[float], meant: list[float]) -> float:
    """The power of what differs, for each part of the power that was meant."""
    return sum((a - b) ** 2 for a, b in zip(heard, meant, strict=True)) / sum(value**2 for value in meant)


@pytest.mark.parametrize("count", [160, 575, 576, 1105, 8000, 11_999, 40_000])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_mp3_is_played_without_silence_around_it(encoder: str, rate: int, count: int) -> None:
    """Players play as many samples as were recorded, to the sample: the Info frame names what the encoder put around them."""
    played, played_rate = samples(mp3_of(sounds.wav(count / rate, rate)))
    assert (len(played), played_rate) == (count, rate)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_mp3_sounds_as_the_recording_at_every_moment(encoder: str, rate: int) -> None:
    """Sample by sample the sound is where it was, with less than a hundredth of its power in noise."""
    source = sounds.wav(2.5, rate)
    played, _ = samples(mp3_of(source))
    assert noise(played, samples(source)[0]) < 0.01


@pytest.mark.parametrize("source", [opus_note(3.0, seed=7), stereo(1.0)], ids=["a note", "stereo"])
def test_the_two_encoders_make_the_same(source: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether `lameenc` is installed or not: the same tags, the same Info frame (as FFmpeg writes it), the same sound but for rounding."""
    made = mp3_of(source)
    monkeypatch.setitem(sys.modules, "lameenc", None)
    by_pyav = mp3_of(source)
    assert said(made) == said(by_pyav)
    assert info_of(made) == info_of(by_pyav)
    assert noise(samples(made)[0], samples(by_pyav)[0]) < 0.01


def test_the_info_frame_has_the_checksums_of_itself_and_of_the_sound() -> None:
    """Players that check them before they believe the frame can (CRC-16 with the polynomial 8005, bits reversed)."""
    made = mp3_of(opus_note(1.0))
    at = made.index(b"Info")
    frame = made.rindex(b"\xff", 0, at)
    sound = made.index(made[frame : frame + 3], at)
    assert struct.unpack_from(">HH", made, at + 152) == (crc(made[sound:]), crc(made[frame : at + 154]))


def crc(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value


def test_lameenc_does_the_work_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample goes to `lameenc`: under Python 3.11 the encoder in PyAV takes three times as long."""
    import lameenc

    real, given = lameenc.Encoder, []

    class Counting:
        def __init__(self) -> None:
            self._encoder = real()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._encoder, name)

        def encode(self, data: bytes) -> bytes:
            given.append(len(data))
            return bytes(self._encoder.encode(data))

    monkeypatch.setattr(lameenc, "Encoder", Counting)
    mp3_of(sounds.wav(2.0, 16_000))
    assert sum(given) == 2 * 16_000 * 2
