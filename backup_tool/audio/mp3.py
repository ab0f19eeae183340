"""Writes MP3 with LAME through `lameenc`, as a whole file: tags (ID3v2.4), an Info frame, the sound.

    file = Mp3File(out, Form(16_000, 1, 48_000, quality=7), {"title": "Voice note from Anna"})
    file.take(frame), …, file.take(None)

PyAV brings LAME too. But in the wheels of PyAV 18, the last for Python 3.11, it was compiled without optimization and takes three times as
long. Its muxer wants every frame of MP3 by itself: 28 a second, which costs more than writing them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from fastcrc import crc16

if TYPE_CHECKING:
    from av import AudioFrame

_ENCODER_DELAY = 576
"""Samples of silence that LAME puts before the sound (its API, `lame_get_encoder_delay`)."""
_TEXTS = {"title": "TIT2", "artist": "TPE1", "album": "TALB", "date": "TDRC"}


class Form(msgspec.Struct, frozen=True):
    """Samples a second, 1 or 2 channels, bits a second (constant), and LAME's `quality`: 0 the best, 9 the fastest."""

    rate: int
    channels: int
    bits: int
    quality: int

    @property
    def samples(self) -> int:
        """Samples of a channel in a frame of MP3 (ISO/IEC 11172-3 and 13818-3: 1152, half as many at low rates)."""
        return 1152 if self.rate >= 32_000 else 576

    @property
    def length(self) -> int:
        """Bytes of a frame that is not padded."""
        return self.samples * self.bits // (8 * self.rate)

    @property
    def side_information(self) -> int:
        """Bytes between the header of a frame and its sound (ISO/IEC 11172-3, section 2.4.1.7; 13818-3, section 2.4.1.7)."""
        return ((9, 17), (17, 32))[self.rate >= 32_000][self.channels - 1]


class Mp3File:
    """A file that is written to `out`, which can be read, written and sought. Raises ImportError where `lameenc` is not installed."""

    def __init__(self, out: BinaryIO, form: Form, tags: Mapping[str, str]) -> None:
        import lameenc
        from av import AudioResampler

        self._out, self._form = out, form
        self._in_form = AudioResampler("s16", "mono" if form.channels == 1 else "stereo", form.rate)
        self._lame: Any = lameenc.Encoder()
        self._lame.silence()
        self._lame.set_channels(form.channels)
        self._lame.set_in_sample_rate(form.rate)
        self._lame.set_out_sample_rate(form.rate)
        self._lame.set_bit_rate(form.bits // 1000)
        self._lame.set_quality(form.quality)
        self._recorded = self._coded = self._crc = 0
        out.write(_id3(tags))
        self._info_at = out.tell()
        out.write(bytes(form.length))

    def take(self, frame: AudioFrame | None) -> None:
        """Write the sound of a frame in whatever form; after the last, None."""
        for ready in self._in_form.resample(frame):
            self._recorded += ready.samples
            self._write(self._lame.encode(bytes(ready.planes[0])[: ready.samples * self._form.channels * 2]))
        if frame is None and self._recorded:
            self._write(self._lame.flush())
            self._write_info()

    def _write(self, coded: bytes) -> None:
        self._out.write(coded)
        self._coded += len(coded)
        self._crc = crc16.arc(coded, self._crc)

    def _write_info(self) -> None:
        """The frame before the sound that says how many frames there are and what in them was not recorded, so that players leave it out
        (LAME's "Mp3 Info Tag rev 1"). It looks like a frame of sound, and is silent in players that do not know it."""
        form, end = self._form, self._out.tell()
        # With a constant bit rate frames differ by the byte that keeps the average.
        frames = round(self._coded * 8 * form.rate / (form.samples * form.bits))
        after = min(max(frames * form.samples - _ENCODER_DELAY - self._recorded, 0), 0xFFF)
        self._out.seek(self._info_at + form.length)
        version, bits, mode = struct.unpack(">HBB", self._out.read(4))
        info = struct.pack(">HBB", version, bits & ~2, mode) + bytes(form.side_information)
        info += struct.pack(">4sIII", b"Info", 0b1111, frames, form.length + self._coded)  # there are frames, bytes, a table, a quality
        info += bytes(n * 256 // 100 for n in range(100)) + struct.pack(">I", 100 - 10 * form.quality)
        info += struct.pack(">9sB10xB", b"LAME", 1, min(form.bits // 1000, 0xFF))  # 1: a constant bit rate
        info += (_ENCODER_DELAY << 12 | after).to_bytes(3, "big") + struct.pack(">4xIH", form.length + self._coded, self._crc)
        info += crc16.arc(info).to_bytes(2, "big")
        self._out.seek(self._info_at)
        self._out.write(info)
        self._out.seek(end)


def _id3(tags: Mapping[str, str]) -> bytes:
    """An ID3v2.4 tag in UTF-8 (its structure, section 3.1; its frames, section 4.2). What has no frame of its own is in a TXXX."""
    frames = b""
    for name, text in tags.items():
        words = b"\3" + (text if name in _TEXTS else f"{name}\0{text}").encode()
        frames += _TEXTS.get(name, "TXXX").encode() + _synchsafe(len(words)) + bytes(2) + words
    return b"ID3\4\0\0" + _synchsafe(len(frames)) + frames if frames else b""


def _synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
