"""Which kind of sound file some bytes are, by what they begin with; and which file names promise one.

Media types are IANA's where there is one. A name decides only whether a file is looked at: people and phones give wrong suffixes.
"""

from __future__ import annotations

from collections.abc import Callable

AUDIO_SUFFIXES = frozenset(
    [
        "opus", "ogg", "oga", "spx", "m4a", "m4b", "mp3", "mpga", "aac", "amr", "awb", "3ga", "3gp", "3gpp", "wav", "wave", "caf", "flac",
        "webm", "weba", "mka", "aif", "aiff", "aifc", "wma",
        "qta",  # QuickTime audio, of Apple's Voice Memos since iOS 18
    ]
)  # fmt: skip
"""Suffixes, without the dot and in lower case, of files taken for audio by their name."""
VIDEO_SUFFIXES = frozenset(["mp4", "m4v", "mov", "3gp", "3gpp", "3g2", "webm", "mkv"])
"""Suffixes of files that a video note may have."""
OGG_SUFFIXES = frozenset(["opus", "ogg", "oga", "spx"])
"""Suffixes that promise an Ogg stream: anything else under such a name is worth a word (damage `not-ogg`)."""
UNKNOWN = "application/octet-stream"
SNIFF_BYTES = 4096
"""So many bytes from the start of a file are enough for `media_type_of` to be sure."""


def suffix_of(name: str) -> str:
    """What follows the last dot of a file name or path, in lower case: ``opus``. Empty where there is no dot."""
    _, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot and "/" not in suffix else ""


def media_type_of(head: bytes) -> str:
    """The media type of a file that begins with `head` (SNIFF_BYTES or the whole file); UNKNOWN where it is no audio known here.

    An MP4 or 3GP file counts as audio here: whether there is a picture is in its boxes, not at its start.
    """
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            return media_type
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "audio/3gpp" if head[8:11] in (b"3gp", b"3g2") else "audio/mp4"
    container = _CHUNKED.get((head[:4], head[8:12]))
    if container:
        return container
    at = id3_length(head)
    if at >= len(head):
        return "audio/mpeg" if at else UNKNOWN
    if _twice(head, at, adts_length):
        return "audio/aac"
    if _twice(head, at, mp3_length) or at:
        return "audio/mpeg"
    return UNKNOWN


_MAGIC = (
    (b"OggS", "audio/ogg"),
    (b"#!AMR", "audio/amr"),
    (b"caff", "audio/x-caf"),
    (b"fLaC", "audio/flac"),
    (b"\x1a\x45\xdf\xa3", "audio/webm"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "audio/x-ms-wma"),
)
_CHUNKED = {
    (b"RIFF", b"WAVE"): "audio/wav",
    (b"RF64", b"WAVE"): "audio/wav",
    (b"FORM", b"AIFF"): "audio/aiff",
    (b"FORM", b"AIFC"): "audio/aiff",
}


def id3_length(head: bytes) -> int:
    """Bytes that an ID3v2 tag takes at the start (ID3v2.4 structure, section 3.1); 0 without one."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def adts_length(header: bytes) -> int:
    """Length of the AAC frame that begins with these 7 bytes (ISO/IEC 13818-7, section 6.2); 0 where none does."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


# kbit/s of layer III by the header's bitrate index; sampling rates by version (ISO/IEC 11172-3, 13818-3, and MPEG 2.5 as in use).
_MPEG1_KBIT = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MPEG2_KBIT = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_MPEG_RATES = {3: (44100, 48000, 32000, 0), 2: (22050, 24000, 16000, 0), 0: (11025, 12000, 8000, 0), 1: (0, 0, 0, 0)}


def mp3_rate(header: bytes) -> int:
    """Samples a second of the layer III frame that begins with these 4 bytes; 0 where none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    return _MPEG_RATES[header[1] >> 3 & 3][header[2] >> 2 & 3]


def mp3_samples(header: bytes) -> int:
    """Samples that a layer III frame holds: 1152, or 576 in the versions for low rates."""
    return 1152 if header[1] >> 3 & 3 == 3 else 576


def mp3_length(header: bytes) -> int:
    """Length of the layer III frame that begins with these 4 bytes; 0 where none does."""
    rate = mp3_rate(header)
    if not rate:
        return 0
    first = header[1] >> 3 & 3 == 3
    kbit = (_MPEG1_KBIT if first else _MPEG2_KBIT)[header[2] >> 4]
    return (144000 if first else 72000) * kbit // rate + (header[2] >> 1 & 1) if kbit else 0


def _twice(head: bytes, at: int, length_of: Callable[[bytes], int]) -> bool:
    """True where a frame begins at `at` and another right after it (or the bytes end there): two bytes of sync alone prove nothing."""
    length = length_of(head[at : at + 8])
    if not length:
        return False
    after = at + length
    return after >= len(head) - 8 or length_of(head[after : after + 8]) > 0
