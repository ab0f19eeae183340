"""Sound files other than Ogg: kind by content, length, cuts."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_tool.audio import AUDIO_SUFFIXES, inspect, media_type_of, suffix_of
from tests.audio.judge import by_ffmpeg, check, in_pieces
from tests.generators import sounds

TYPES = {
    "m4a": "audio/mp4", "mp4": "audio/mp4", "aac": "audio/aac", "mp3": "audio/mpeg", "3gp": "audio/3gpp", "flac": "audio/flac",
    "webm": "audio/webm", "aiff": "audio/aiff", "wav": "audio/wav", "caf": "audio/x-caf", "ogg": "audio/ogg; codecs=opus",
}  # fmt: skip
MAGICS = [
    b"OggS\0\2", b"ID3\4\0\0\0\0\1\1", b"\xff\xfb\x90\0", b"\xff\xf1P\x80", b"#!AMR\n", b"#!AMR-WB\n", b"fLaC\0\0\0\x22",
    b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0", b"caff\0\1\0\0", b"\0\0\0\x18ftypM4A ", b"\0\0\0\1moov\0\0\0\0", b"FORM\0\0\0\0AIFF",
    b"\x1aE\xdf\xa3",
]  # fmt: skip


@pytest.mark.parametrize("suffix", sorted(TYPES))
def test_each_format_is_known_by_content_and_tells_its_length(suffix: str) -> None:
    """Whatever a file is called, its kind and its length come from its bytes; 0.1 s may go to an encoder's own silence."""
    facts = inspect(sounds.encoded(suffix, 5.3), "wrong.txt")
    check(facts, TYPES[suffix], 5.3, within=0.1)


@pytest.mark.parametrize("data", [sounds.wav(2.5), sounds.amr(2.5), sounds.caf(2.5)])
def test_hand_made_files_tell_their_exact_length(data: bytes) -> None:
    """Where a length can be known exactly, it is exact: AMR by its frames, not by an estimate."""
    assert inspect(data).duration == pytest.approx(2.5, abs=1e-9)


@pytest.mark.parametrize("suffix", ["aac", "mp3"])
def test_frames_are_counted_as_ffmpeg_counts_packets(suffix: str) -> None:
    """The length of raw AAC and MP3 is that of all their packets, as another program finds them."""
    data = sounds.encoded(suffix, 7.7)
    with by_ffmpeg(data) as container:
        stream = container.streams.audio[0]
        packets = len([packet for packet in container.demux(stream) if packet.size])
        samples = {"aac": 1024, "mp3": 1152}[suffix]
        assert inspect(data).duration == pytest.approx(packets * samples / stream.rate, abs=1e-6)


@pytest.mark.parametrize("suffix", ["m4a", "3gp", "aac", "mp3", "flac", "caf", "wav"])
def test_large_files_read_in_pieces_tell_the_same(suffix: str) -> None:
    """A long attachment is measured without holding it in memory."""
    data = sounds.encoded(suffix, 4)
    for size in (1, 13, 4096, 30000):
        assert in_pieces(data[:60000], size) == inspect(data[:60000])


@pytest.mark.parametrize("suffix", ["m4a", "3gp", "aac", "mp3", "wav", "amr", "caf"])
def test_a_cut_file_is_called_truncated(suffix: str) -> None:
    """A copy that stopped early is said to be cut; what is left keeps its length where it can be told."""
    data = sounds.amr(3) if suffix == "amr" else sounds.encoded(suffix, 3)
    assert inspect(data).damaged is None
    assert inspect(data[: len(data) * 2 // 3 + 1]).damaged == "truncated"
    assert inspect(data[:-1]).damaged == "truncated"


def test_a_recording_without_its_table_of_contents_is_cut() -> None:
    """An MP4 that was never finished has no movie box: truncated, of unknown length."""
    data = sounds.encoded("m4a", 2)
    check(inspect(data[: data.index(b"moov") - 4]), "audio/mp4", None, "truncated")


def test_a_fragmented_recording_tells_its_length() -> None:
    """An MP4 written in fragments, as live recorders do, has its length too."""
    data = sounds.encoded("m4a", 3, options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    check(inspect(data), "audio/mp4", 3, within=0.1)


def test_a_video_note_says_that_it_has_a_picture() -> None:
    """A round video is told apart from sound in the same container."""
    check(inspect(sounds.video_note(2)), "video/mp4", 2, video=True, within=0.15)


def test_a_wave_file_cannot_claim_more_than_it_holds() -> None:
    """A WAV whose header promises hours has the length of the sound that is there."""
    check(inspect(sounds.wav(1, data_size=0x7FFFFFFE)), "audio/wav", 1, "truncated")
    assert inspect(sounds.wav(1, riff_size=10**6)).damaged == "truncated"


def test_a_wave_file_from_a_recorder_that_cannot_seek_is_whole() -> None:
    """Sizes left open while recording are no damage."""
    check(inspect(sounds.wav(1, data_size=0xFFFFFFFF, riff_size=0xFFFFFFFF)), "audio/wav", 1)
    check(inspect(sounds.wav(1, data_size=0, riff_size=0)), "audio/wav", 1)


def test_a_wave_file_with_a_chunk_of_odd_length_is_whole() -> None:
    """Remarks of an odd number of bytes before the sound, which are filled up to an even one, disturb nothing."""
    plain = sounds.wav(1)
    remark = struct.pack("<4sI", b"LIST", 3) + b"abc\0"
    check(inspect(plain[:4] + struct.pack("<I", len(plain) - 8 + len(remark)) + plain[8:36] + remark + plain[36:]), "audio/wav", 1)


def test_tags_around_the_frames_are_no_sound_and_no_damage() -> None:
    """Title and cover before an MP3, and an old tag after it, change nothing."""
    bare = sounds.encoded("mp3", 3)
    bare = bare[10 + (bare[8] << 7 | bare[9]) :] if bare[:3] == b"ID3" else bare
    tagged = b"ID3\4\0\0" + bytes([0, 0, 0x50, 0]) + bytes(0x50 << 7) + bare + b"TAG" + bytes(125)
    assert inspect(tagged) == inspect(bare)
    assert inspect(bare).duration == pytest.approx(3, abs=0.1)


def test_two_bytes_of_sync_are_no_proof() -> None:
    """Bytes that happen to begin like a frame are not taken for a song."""
    assert media_type_of(b"\xff\xfb\x90\x00" + b"\x55" * 2000) == "application/octet-stream"
    assert media_type_of(b"\xff\xf1\x50\x80\x02\x1f\xfc" + b"\x55" * 2000) == "application/octet-stream"


@settings(max_examples=400, deadline=None)
@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=300), repeat=st.integers(1, 3))
def test_any_bytes_are_judged_without_an_error(magic: bytes, rest: bytes, repeat: int) -> None:
    """Whatever a stranger sends, looking at it never fails, and no length is beyond belief."""
    data = (magic + rest) * repeat
    facts = in_pieces(data, 64, "x.opus")
    assert facts.duration is None or 0 <= facts.duration < 4e6
    assert facts.media_type


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["m4a", "webm", "caf", "wav", "mp3", "aac", "flac", "aiff"]))
def test_damaged_files_are_judged_without_an_error(data: st.DataObject, suffix: str) -> None:
    """A damaged file of any format is looked at without failing, also where FFmpeg is asked."""
    good = bytearray(_good(suffix))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    facts = inspect(bytes(good))
    assert facts.duration is None or 0 <= facts.duration < 4e6


_made: dict[str, bytes] = {}


def _good(suffix: str) -> bytes:
    if suffix not in _made:
        _made[suffix] = sounds.encoded(suffix, 0.5)
    return _made[suffix]


def test_ffmpeg_is_loaded_only_when_needed() -> None:
    """Looking at voice notes loads no decoder."""
    script = (
        "import sys; from tests.generators import ogg, sounds; from backup_tool.audio import inspect\n"
        "inspect(ogg.opus_note(2)); inspect(sounds.wav(1)); inspect(sounds.amr(1)); inspect(sounds.caf(1))\n"
        "assert 'av' not in sys.modules\n"
        "inspect(b'FORM\\0\\0\\0\\0AIFF'); assert 'av' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("PTT-20260303-WA0007.opus", "opus"),
        ("a/b.c/NOTE.M4A", "m4a"),
        ("x.opus.opus", "opus"),
        ("no suffix", ""),
        ("dir.opus/x", ""),
        ("ends.", ""),
    ],
)
def test_the_suffix_of_a_name(name: str, suffix: str) -> None:
    """Only what follows the last dot of the file's own name counts, in any case of letters."""
    assert suffix_of(name) == suffix
    assert (suffix in AUDIO_SUFFIXES) == bool(suffix)
