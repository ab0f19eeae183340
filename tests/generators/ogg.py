"""Ogg files made by hand (RFC 3533, RFC 7845), as WhatsApp writes them: vendor "WhatsApp", serial number 0, never a last-page flag.

data = opus_note(12.5, seed=7)      # 12.5 seconds of noise, mono, pages of about 4 KB
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Sequence

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_TOC = 11 << 3  # SILK, wide band, one frame of 60 ms, mono (RFC 6716, section 3.1)
_PACKET_SAMPLES = 2880
_PACKETS_A_PAGE = 34


def checksum(page: bytes) -> int:
    """Ogg's CRC: zlib's is the same polynomial with all bits the other way round, started at and finished with all ones."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def page(packets: Sequence[bytes], granule: int, number: int, *, serial: int = 0, flags: int = 0) -> bytes:
    """One page that holds whole packets."""
    lacing = bytearray()
    for packet in packets:
        lacing += b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    return _page(bytes(lacing), b"".join(packets), granule, number, serial, flags)


def _page(lacing: bytes, payload: bytes, granule: int, number: int, serial: int, flags: int) -> bytes:
    start = struct.pack("<4sBBqII", b"OggS", 0, flags, granule, serial, number)
    end = bytes([len(lacing)]) + lacing + payload
    return start + struct.pack("<I", checksum(start + bytes(4) + end)) + end


def opus_head(*, rate: int = 16000, pre_skip: int = 104, channels: int = 1) -> bytes:
    """The identification packet."""
    return struct.pack("<8sBBHIhB", b"OpusHead", 1, channels, pre_skip, rate, 0, 0)


def opus_tags(vendor: bytes = b"WhatsApp") -> bytes:
    """The comment packet, without comments."""
    return b"OpusTags" + struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", 0)


def opus_note(seconds: float, seed: int = 0, *, rate: int = 16000, pre_skip: int = 104, serial: int = 0, first: int = 0) -> bytes:
    """A whole note of exactly so many seconds. `first` is the number of its first page; the sound is noise, another for each seed."""
    noise = random.Random(seed)
    head, tags = opus_head(rate=rate, pre_skip=pre_skip), opus_tags()
    pages = [page([head], 0, first, serial=serial, flags=2), page([tags], 0, first + 1, serial=serial)]
    last = pre_skip + round(seconds * 48000)
    packets = max(-(-last // _PACKET_SAMPLES), 1)
    done = 0
    while done < packets:
        count = min(_PACKETS_A_PAGE, packets - done)
        done += count
        sizes = bytes(noise.choices(range(104, 137), k=count))
        payload = bytearray(noise.randbytes(sum(sizes)))
        at = 0
        for size in sizes:
            payload[at] = _TOC
            at += size
        granule = min(done * _PACKET_SAMPLES, last)
        pages.append(_page(sizes, bytes(payload), granule, first + len(pages), serial, 0))
    return b"".join(pages)


def vorbis_note(seconds: float, rate: int = 44100, *, serial: int = 9) -> bytes:
    """A Vorbis stream's pages: true headers of the first packet, noise for the rest. It tells its length; it cannot be played."""
    head = struct.pack("<B6sIBIiiiBB", 1, b"vorbis", 0, 1, rate, 0, 64000, 0, 0xB8, 1)
    noise = random.Random(serial)
    pages = [page([head], 0, 0, serial=serial, flags=2), page([b"\x03vorbis" + bytes(20), b"\x05vorbis" + bytes(40)], 0, 1, serial=serial)]
    total, done = round(seconds * rate), 0
    while done < total:
        done = min(done + 20 * 1024, total)
        pages.append(page([noise.randbytes(90) for _ in range(20)], done, len(pages), serial=serial))
    return b"".join(pages)


def side_by_side(first: bytes, second: bytes) -> bytes:
    """Two streams multiplexed into one file: both first pages, then the other pages in turn."""
    one, two = split(first), split(second)
    rest: list[bytes] = []
    for index in range(1, max(len(one), len(two))):
        rest += one[index : index + 1] + two[index : index + 1]
    return b"".join([one[0], two[0], *rest])


def split(data: bytes) -> list[bytes]:
    """The pages of a whole, sound file."""
    pages = []
    at = 0
    while at < len(data):
        table = data[at + 27 : at + 27 + data[at + 26]]
        length = 27 + len(table) + sum(table)
        pages.append(data[at : at + length])
        at += length
    return pages
