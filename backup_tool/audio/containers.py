"""Sound files other than Ogg: length, and whether the file is cut, read from boxes, chunks and frames without decoding.

Every reader goes forwards through the file once, keeps at most a few megabytes of it, and believes no size further than the file's end.
A length is None where the structure does not tell it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from backup_tool.audio.facts import AudioFacts
from backup_tool.audio.pulled import FileEnds, Reader
from backup_tool.audio.sniff import adts_length, id3_length, mp3_length, mp3_rate, mp3_samples

_LARGEST_MOOV = 32 * 2**20
_LONGEST = 1000 * 3600.0
_TO_THE_END = 2**62


def _believed(seconds: float) -> float | None:
    """A length of more than 1000 hours is a damaged header."""
    return seconds if 0 <= seconds <= _LONGEST else None


# --- MP4, M4A, 3GP, MOV: ISO/IEC 14496-12 ---------------------------------------------------------------------------------------------


def read_boxes(media_type: str) -> Reader:
    """The length stands in `moov/mvhd`; a picture track makes it a video; a box past the file's end, or no `moov`: it was cut."""
    facts = AudioFacts(media_type)
    movie = False
    try:
        while True:
            size, name = struct.unpack(">I4s", (yield 8))
            header = 8
            if size == 1:
                size, header = int.from_bytes((yield 8), "big"), 16
            if size == 0:
                yield -_TO_THE_END
            if size < header or not name.isascii():
                break  # no box: something appended
            movie = movie or name == b"moov"
            if name == b"moov" and size <= _LARGEST_MOOV:
                _read_movie((yield size - header), facts)
            else:
                yield header - size
    except FileEnds as end:
        clean = end.wanted == _TO_THE_END or (end.wanted == 8 and not end.part.strip(b"\0"))
        facts.damaged = None if clean else "truncated"
    if not movie:
        facts.damaged = "truncated"
    return facts


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield name, data[at + 8 : at + size]
        at += size


def _read_movie(movie: bytes, facts: AudioFacts) -> None:
    for name, body in _boxes(movie):
        if name == b"mvhd":
            facts.duration = _movie_seconds(body)
        elif name == b"trak":
            for inner, media in _boxes(body):
                if inner == b"mdia" and any(part == b"hdlr" and handler[8:12] == b"vide" for part, handler in _boxes(media)):
                    facts.has_video = True
                    facts.media_type = (facts.media_type or "").replace("audio/", "video/")


def _movie_seconds(body: bytes) -> float | None:
    """Time scale and duration of a movie header, version 0 or 1; a duration of 0 or of all ones is "not known" (fragments follow)."""
    wide = body[:1] == b"\1"
    layout = struct.Struct(">IQ" if wide else ">II")
    at = 20 if wide else 12
    if len(body) < at + layout.size:
        return None
    scale, duration = layout.unpack_from(body, at)
    if not scale or duration in (0, 0xFFFFFFFF, 2**64 - 1):
        return None
    return _believed(duration / scale)


# --- WAV, CAF -------------------------------------------------------------------------------------------------------------------------


def read_wave() -> Reader:
    """RIFF (Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0): bytes of sound over bytes a second."""
    facts = AudioFacts("audio/wav")
    a_second, sound, whole, at, name = 0, 0, 0, 0, b""
    try:
        riff = yield 12
        # Recorders that cannot seek back leave the sizes at 0 or at all ones.
        whole, at = int.from_bytes(riff[4:8], "little"), 12
        while True:
            name, size = struct.unpack("<4sI", (yield 8))
            if name == b"data":
                sound = size = _TO_THE_END if size in (0, 0xFFFFFFFF) else size
            if name == b"fmt " and 16 <= size <= 4096:
                a_second = int.from_bytes((yield size)[8:12], "little")
            else:
                yield -size
            at += 8 + size + size % 2
            yield -(size % 2)
    except FileEnds as end:
        if name == b"data" and end.wanted == sound:
            sound = end.got
        whole_there = end.wanted in (1, 8) and (whole in (0, 0xFFFFFFFF) or at >= whole + 7)
        facts.damaged = None if whole_there or end.wanted == _TO_THE_END else "truncated"
    if a_second and sound:
        facts.duration = _believed(sound / a_second)
    return facts


def read_caf() -> Reader:
    """Apple's Core Audio Format: valid frames of the packet table over the rate, or bytes of sound where packets are all alike."""
    facts = AudioFacts("audio/x-caf")
    rate, packet_bytes, packet_frames, sound, frames, name = 0.0, 0, 0, 0, 0, b""
    try:
        yield 8
        while True:
            name, size = struct.unpack(">4sq", (yield 12))
            if name == b"desc" and size == 32:
                rate, _, _, packet_bytes, packet_frames = struct.unpack(">d4sIII", (yield 32)[:24])
            elif name == b"pakt" and size >= 24:
                frames = struct.unpack(">qqii", (yield 24))[1]
                yield 24 - size
            else:
                size = _TO_THE_END if name == b"data" and size == -1 else max(size, 0)
                sound = size - 4 if name == b"data" else sound
                yield -size
    except FileEnds as end:
        if name == b"data" and end.wanted == sound + 4:
            sound = end.got - 4
        facts.damaged = None if end.wanted == _TO_THE_END or (end.wanted == 12 and not end.got) else "truncated"
    if not frames and packet_bytes:
        frames = sound // packet_bytes * packet_frames
    if 1 <= rate <= 1e6 and frames > 0:
        facts.duration = _believed(frames / rate)
    return facts


# --- FLAC -----------------------------------------------------------------------------------------------------------------------------


def read_flac() -> Reader:
    """RFC 9639, section 8.2: rate and number of samples stand in the first metadata block."""
    facts = AudioFacts("audio/flac")
    try:
        head = yield 42
    except FileEnds:
        facts.damaged = "truncated"
        return facts
    rate = int.from_bytes(head[18:21], "big") >> 4
    samples = int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF
    if rate and samples:
        facts.duration = _believed(samples / rate)
    return facts


# --- frames: AMR, AAC, MP3 ------------------------------------------------------------------------------------------------------------

# Bytes of a frame after its first, by frame type; -1 where there is no such type (RFC 4867, section 5.3; 3GPP TS 26.101 and 26.201).
_AMR_NARROW = (12, 13, 15, 17, 19, 20, 26, 31, 5, -1, -1, -1, -1, -1, -1, 0)
_AMR_WIDE = (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, -1, -1, -1, -1, 0, 0)


def read_amr() -> Reader:
    """RFC 4867, section 5: frames of 20 ms, each with its type in its first byte."""
    facts = AudioFacts("audio/amr")
    frames = 0
    try:
        magic = yield 6
        sizes = _AMR_NARROW
        if magic != b"#!AMR\n":
            sizes = _AMR_WIDE
            if magic + (yield 3) != b"#!AMR-WB\n":
                return facts  # several channels: not seen in messengers
        while True:
            size = sizes[(yield 1)[0] >> 3 & 15]
            if size < 0:
                return facts
            if size:
                yield -size
            frames += 1
    except FileEnds as end:
        if end.wanted > 1 or end.got:
            facts.damaged = "truncated"
    facts.duration = frames / 50
    return facts


_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


def _adts_frame(header: bytes) -> tuple[int, float]:
    """(length, seconds) of an AAC frame; it holds 1 to 4 blocks of 1024 samples."""
    length = adts_length(header)
    return length, (1024 * ((header[6] & 3) + 1) / _ADTS_RATES[header[2] >> 2 & 15] if length else 0.0)


def _mp3_frame(header: bytes) -> tuple[int, float]:
    length = mp3_length(header)
    return length, (mp3_samples(header) / mp3_rate(header) if length else 0.0)


def read_adts(start: bytes) -> Reader:
    """Raw AAC in ADTS frames (ISO/IEC 13818-7, section 6.2). `start` is what the file begins with: there may be a tag before the sound."""
    return _read_frames("audio/aac", id3_length(start), 7, _adts_frame)


def read_mp3(start: bytes) -> Reader:
    """Layer III frames (ISO/IEC 11172-3). A first frame that only holds a Xing or Info table is no sound."""
    return _read_frames("audio/mpeg", id3_length(start), 4, _mp3_frame)


def _read_frames(media_type: str, tag: int, header: int, frame: Callable[[bytes], tuple[int, float]]) -> Reader:
    """Counts frames. Tags before and after them are passed over; where the frames lose each other the length is not known."""
    facts = AudioFacts(media_type)
    seconds = 0.0
    try:
        yield -tag
        while True:
            head = yield header
            length, lasts = frame(head)
            if not length and not _is_tag(head):
                return facts
            if not length:
                break
            body = yield length - header
            if seconds or not (b"Xing" in body[:40] or b"Info" in body[:40]):
                seconds += lasts
    except FileEnds as end:
        if end.wanted != header or end.part[:1] == b"\xff":
            facts.damaged = "truncated"
    facts.duration = _believed(seconds)
    return facts


def _is_tag(head: bytes) -> bool:
    """A tag that stands after the sound (ID3v1, ID3v2, APE, Lyrics3), or the zeros that some writers pad with."""
    return head[:3] in (b"TAG", b"ID3") or head[:4] in (b"APET", b"LYRI") or not head.strip(b"\0")
