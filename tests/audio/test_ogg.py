"""Ogg: length and damage of voice notes."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_tool.audio import Inspector, inspect
from tests.audio.judge import by_ffmpeg, check, in_pieces
from tests.generators import ogg, sounds

NOTE = ogg.opus_note(9.3, seed=1)
PAGES = ogg.split(NOTE)


def with_page(number: int, page: bytes) -> bytes:
    return b"".join([*PAGES[:number], page, *PAGES[number + 1 :]])


@pytest.mark.parametrize("seconds", [0.02, 1.0, 2.18, 59.94, 600.0])
def test_a_note_tells_its_length(seconds: float) -> None:
    """The length of a note comes from the note itself, to the sample."""
    facts = inspect(ogg.opus_note(seconds, seed=3))
    check(facts, "audio/ogg; codecs=opus", seconds)


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_opus_time_does_not_depend_on_the_rate_in_its_header(rate: int) -> None:
    """A note recorded at any rate has its true length, never three times that."""
    assert inspect(ogg.opus_note(7.5, rate=rate, pre_skip=312)).duration == pytest.approx(7.5, abs=1e-4)


def test_a_real_encoders_note_is_measured_as_its_decoder_measures_it() -> None:
    """Another program's file has the length that decoding it gives."""
    data = sounds.encoded("opus", 4.2)
    with by_ffmpeg(data) as container:
        decoded = sum(frame.samples / 48000 for frame in container.decode(container.streams.audio[0]))
    facts = inspect(data)
    assert facts.damaged is None
    assert facts.duration == pytest.approx(decoded, abs=0.01)


def test_another_reader_accepts_the_sample_notes() -> None:
    """The notes that these tests are made with are what FFmpeg takes for Opus in Ogg."""
    with by_ffmpeg(NOTE) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name in ("opus", "libopus")
        assert len([packet for packet in container.demux(stream) if packet.size]) == 156


def test_vorbis_counts_in_its_own_rate() -> None:
    """An Ogg Vorbis file has its true length."""
    check(inspect(ogg.vorbis_note(4.5, rate=22050)), "audio/ogg", 4.5)


def test_streams_one_after_the_other_add_up() -> None:
    """A file of several recordings in a row is as long as all of them, also where they share a serial number."""
    assert inspect(ogg.opus_note(3) + ogg.opus_note(4, serial=5)).duration == pytest.approx(7)
    check(inspect(ogg.opus_note(3) + ogg.opus_note(4)), "audio/ogg; codecs=opus", 7)


def test_streams_side_by_side_count_once() -> None:
    """Two tracks in one file are as long as the longer one."""
    both = ogg.side_by_side(ogg.opus_note(6, serial=1), ogg.opus_note(2, serial=2))
    check(inspect(both), "audio/ogg; codecs=opus", 6)


def test_a_film_in_ogg_says_that_it_has_a_picture() -> None:
    """Sound with a picture beside it is told apart from sound alone."""
    picture = ogg.page([b"\x80theora" + bytes(35)], 0, 0, serial=77, flags=2)
    facts = inspect(picture + ogg.opus_note(2, serial=1))
    check(facts, "video/ogg", 2, video=True)


def test_a_note_without_a_last_page_flag_is_whole() -> None:
    """WhatsApp never marks the last page: that alone is no damage."""
    assert NOTE[len(NOTE) - len(PAGES[-1]) + 5] & 4 == 0
    assert inspect(NOTE).damaged is None


@settings(max_examples=150, deadline=None)
@given(bit=st.integers(0, len(NOTE) * 8 - 1))
def test_any_flipped_bit_shows(bit: int) -> None:
    """A note in which a single bit changed is never called whole."""
    broken = bytearray(NOTE)
    broken[bit // 8] ^= 1 << bit % 8
    assert inspect(bytes(broken), "PTT-20260303-WA0007.opus").damaged in ("crc-mismatch", "sequence-gap", "not-ogg", "truncated")


@settings(max_examples=150, deadline=None)
@given(length=st.integers(1, len(NOTE) - 1))
def test_any_cut_inside_a_page_shows(length: int) -> None:
    """A note that ends too early is called truncated, unless it was cut exactly between two pages, where it cannot be told."""
    ends = {sum(map(len, PAGES[:count])) for count in range(1, len(PAGES) + 1)}
    facts = inspect(NOTE[:length], "x.opus")
    if length in ends:
        assert facts.damaged is None
    else:
        assert facts.damaged == ("truncated" if length >= 4 else "not-ogg")


def test_a_cut_note_keeps_the_length_of_what_is_left() -> None:
    """The length of a damaged note is that of the sound still in it."""
    whole = inspect(b"".join(PAGES[:4]))
    cut = inspect(b"".join(PAGES[:4]) + PAGES[4][:900])
    check(whole, "audio/ogg; codecs=opus", (68 * 2880 - 104) / 48000)
    check(cut, "audio/ogg; codecs=opus", (68 * 2880 - 104) / 48000, "truncated")


def test_a_tail_of_zeros_is_a_cut() -> None:
    """A copy that was interrupted after its space was reserved ends in zeros: truncated."""
    kept = b"".join(PAGES[:4])
    assert inspect(kept.ljust(len(NOTE), b"\0")).damaged == "truncated"


def test_a_missing_page_is_a_gap() -> None:
    """A page that is not there is noticed, though every other is sound."""
    check(inspect(with_page(3, b"")), "audio/ogg; codecs=opus", 9.3, "sequence-gap")


def test_foreign_bytes_between_pages_are_noticed() -> None:
    """Bytes that belong to no page are damage, and what follows them is still read."""
    facts = inspect(with_page(3, b"?" * 50 + PAGES[3]))
    check(facts, "audio/ogg; codecs=opus", 9.3, "crc-mismatch")


def test_a_wrong_page_length_is_told_from_a_cut() -> None:
    """A damaged page header near the end does not make a whole file look cut."""
    last_but_one = bytearray(PAGES[-2])
    last_but_one[27] = 255
    last_but_one[28] = 255
    assert inspect(with_page(len(PAGES) - 2, bytes(last_but_one))).damaged == "crc-mismatch"


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 5000), what=st.sampled_from(["whole", "cut", "gap", "flip", "zeros", "foreign"]))
def test_pieces_of_any_size_tell_the_same(size: int, what: str) -> None:
    """A large file, read in pieces, is judged exactly as if it were read at once."""
    flipped = bytearray(NOTE)
    flipped[len(NOTE) // 2] ^= 8
    data = {
        "whole": NOTE,
        "cut": NOTE[:-77],
        "gap": with_page(2, b""),
        "flip": bytes(flipped),
        "zeros": NOTE[:5000].ljust(9000, b"\0"),
        "foreign": with_page(3, b"?" * 99),
    }[what]
    assert in_pieces(data, size, "x.opus") == inspect(data, "x.opus")


def test_a_length_beyond_belief_is_not_told() -> None:
    """A header that claims centuries is not believed."""
    head, tags = PAGES[:2]
    facts = inspect(head + tags + ogg.page([b"x" * 100], 2**61, 2))
    assert facts.duration is None


def test_false_page_starts_cannot_keep_a_scan_busy() -> None:
    """A file made of nothing but page starts is called damaged at once, however large it is."""
    data = PAGES[0] + b"OggS" * 2**22
    started = time.process_time()
    assert inspect(data).damaged == "crc-mismatch"
    assert time.process_time() - started < 2


def test_what_is_no_audio_under_an_ogg_name_is_said() -> None:
    """Random bytes called .opus are reported as not Ogg; under another name, or none, they are only unknown."""
    noise = b"\x07" + random.Random(5).randbytes(3000)
    check(inspect(noise, "Media/PTT-20260303-WA0001.opus"), "application/octet-stream", None, "not-ogg")
    check(inspect(noise, "AUD-20260303-WA0001.mp3"), "application/octet-stream", None)
    check(inspect(noise), "application/octet-stream", None)


def test_other_audio_under_an_ogg_name_is_what_it_is() -> None:
    """A WAV file called .opus is a WAV file, and nothing is wrong with it."""
    check(inspect(sounds.wav(1), "PTT-20260303-WA0001.opus"), "audio/wav", 1)


@pytest.mark.parametrize("name", ["", "x.opus", "x.m4a"])
def test_an_empty_file_is_called_empty(name: str) -> None:
    """A placeholder of no bytes is damage of its own kind."""
    check(inspect(b"", name), None, None, "empty")
    check(Inspector(name).facts(), None, None, "empty")
