"""Copies of recordings in other formats: they sound alike, say who speaks, and nothing hostile gets further than an error."""

from __future__ import annotations

import errno
import io
import math
import re
import struct
import wave
from array import array
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_tool.audio import convert as convert_module
from backup_tool.audio import inspect
from backup_tool.audio.convert import FORMATS, Format, NotConverted, Tags, convert, known_format
from backup_tool.errors import IntegrityError, UsageError
from tests.audio.judge import by_ffmpeg
from tests.generators import sounds
from tests.generators.ogg import opus_note, vorbis_note

PITCH = 320
MADE = {"ogg": "audio/ogg; codecs=opus", "mp3": "audio/mpeg", "m4a": "audio/mp4", "wav": "audio/wav"}
TAGS = Tags(title="Voice note from Zoë", person="Zoë", chat="Família 字", date="2026-03-03T15:05:00+01:00", comment="as recorded")
HOSTILE = ["a\r\nb", "x\0y", "\u202egpj", "\ud800", "=" * 5000, "字" * 500, "; artist=x", "\x85\u2028", " ", "\x1b[31m"]


def copy_of(source: bytes, format: Format, tags: Tags = TAGS) -> bytes:
    out = io.BytesIO()
    assert convert(source, out, format, tags) is None
    return out.getvalue()


def packets(data: bytes) -> list[bytes]:
    with by_ffmpeg(data) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def samples(data: bytes) -> tuple[list[float], int, int]:
    """The sound as another decoder's user hears it: the first channel, the rate, the number of channels."""
    heard: list[float] = []
    with by_ffmpeg(data) as container:
        stream = container.streams.audio[0]
        for frame in container.decode(stream):
            wide = frame.format.name.removesuffix("p")
            code, full = {"flt": ("f", 1.0), "s16": ("h", 32768.0)}[wide]
            values = array(code, bytes(frame.planes[0]))
            step = 1 if frame.format.is_planar else frame.layout.nb_channels
            heard += [value / full for value in values[: frame.samples * step : step]]
        return heard, stream.rate, stream.channels


def pitch(data: bytes) -> float:
    """The frequency of a tone, by how often its wave goes through zero."""
    heard, rate, _ = samples(data)
    middle = heard[len(heard) // 4 : -len(heard) // 4]
    crossings = sum((a < 0) != (b < 0) for a, b in pairwise(middle))
    return crossings / 2 / (len(middle) / rate)


def tags_of(data: bytes) -> dict[str, str]:
    with by_ffmpeg(data) as container:
        return {**container.metadata, **container.streams.audio[0].metadata}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("suffix", ["opus", "m4a", "mp4", "3gp", "aac", "mp3", "wav", "aiff", "caf", "flac", "webm"])
def test_every_format_becomes_every_other(suffix: str, format: Format) -> None:
    """The copy is of the kind that was asked for, whole, as long as the recording, with the same tone in it."""
    source = sounds.encoded(suffix, 2.6, seed=PITCH - 200)
    made = copy_of(source, format)
    facts = inspect(made)
    assert (facts.media_type, facts.damaged) == (MADE[format], None)
    assert facts.duration == pytest.approx(2.6, abs=0.15)
    assert pitch(made) == pytest.approx(PITCH, rel=0.02)


@pytest.mark.parametrize("format", FORMATS)
def test_a_note_as_whatsapp_writes_it_and_an_old_phones_recording_are_converted(format: Format) -> None:
    """Notes without a last-page flag, and AMR, become whatever is asked for."""
    for source in (opus_note(3.0, seed=1), sounds.amr(3.0)):
        assert inspect(copy_of(source, format)).duration == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize(("suffix", "format"), [("opus", "ogg"), ("mp3", "mp3"), ("m4a", "m4a"), ("mp4", "m4a"), ("wav", "wav")])
def test_sound_in_the_right_codec_is_not_encoded_again(suffix: str, format: Format) -> None:
    """Every packet of the recording is in its copy as it was: nothing is lost to a second encoding."""
    source = sounds.encoded(suffix, 3)
    assert b"".join(packets(copy_of(source, format))) == b"".join(packets(source))


def test_the_sound_of_a_video_note_is_taken_without_its_picture() -> None:
    """A video note becomes a sound file; its own sound is not encoded again where it may stay."""
    source = sounds.video_note(2.0)
    assert inspect(copy_of(source, "mp3")).duration == pytest.approx(2.0, abs=0.15)
    assert not inspect(copy_of(source, "m4a")).has_video


def test_a_voice_message_has_one_channel_and_music_keeps_two() -> None:
    """`ogg` is mono Opus whatever the recording was, as the messenger wants it; the other formats keep stereo."""
    source = stereo(1.0)
    for format in FORMATS:
        assert samples(copy_of(source, format))[2] == (1 if format == "ogg" else 2)


def test_wide_speech_keeps_its_rate_and_music_is_not_narrowed() -> None:
    """A note that was recorded at 16 kHz is not blown up, one of 48 kHz keeps its high tones."""
    narrow, wide = opus_note(1.0, rate=16000), opus_note(1.0, rate=48000)
    assert [samples(copy_of(narrow, format))[1] for format in ("mp3", "m4a", "wav")] == [16000] * 3
    assert [samples(copy_of(wide, format))[1] for format in ("mp3", "m4a", "wav")] == [44100, 44100, 48000]


@pytest.mark.parametrize("format", FORMATS)
def test_a_copy_says_who_when_and_where(format: Format) -> None:
    """Players show title, person, chat and date, in any script."""
    said = tags_of(copy_of(sounds.encoded("opus", 0.5), format))
    assert said["title"] == "Voice note from Zoë"
    assert said["artist"] == "Zoë"
    assert said["album"] == "Família 字"
    assert said["date"] == "2026-03-03T15:05:00+01:00"
    assert said["comment"] == "as recorded"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_name_in_a_tag_forges_nothing(text: str) -> None:
    """A name with controls, endless or in pieces of code points is a plain line in the copy, and the copy is whole."""
    for format in FORMATS:
        made = copy_of(sounds.encoded("opus", 0.3), format, Tags(title=text, person=text))
        assert inspect(made).damaged is None
        said = tags_of(made)
        assert set(said) & {"title", "artist", "album", "date", "comment"} <= {"title", "artist"}
        assert said.get("title", "").isprintable()
        assert len(said.get("title", "")) <= 120


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_note_makes_the_same_copy(format: Format) -> None:
    """Made twice, from memory and from a file, a copy has the same bytes: no clock and no chance in it."""
    for source in (sounds.encoded("wav", 1.5), opus_note(1.5)):
        again = io.BytesIO()
        convert(io.BytesIO(source), again, format, TAGS)
        assert again.getvalue() == copy_of(source, format)


@pytest.mark.parametrize(
    "source",
    [
        b"", b"voice", bytes(5000), b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", b"ffconcat version 1.0\nfile /etc/hostname\n",
        opus_note(1.0)[:60], sounds.encoded("mp3", 1)[:30], b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + bytes(100), b"OggS" + bytes(4000),
        sounds.encoded("m4a", 1)[:3000],
    ],
    ids=lambda source: ascii(source[:20]),
)  # fmt: skip
def test_what_cannot_be_played_is_said_to_be_so(source: bytes) -> None:
    """A recording that is none, is cut before its sound, or names other files is no copy and no crash: callers give it back as it is."""
    for format in FORMATS:
        with pytest.raises(NotConverted) as refused:
            convert(source, io.BytesIO(), format)
        assert refused.value.message.startswith("the recording cannot be converted: ")
        assert refused.value.message.isprintable()
        assert refused.value.exit_code == 3


def test_a_film_without_sound_is_said_to_have_none() -> None:
    """A recording of a silent screen is no sound."""
    with pytest.raises(NotConverted, match="there is no sound in it"):
        convert(silent_film(), io.BytesIO(), "mp3")


def test_a_recording_that_is_cut_is_converted_as_far_as_it_goes() -> None:
    """What is left of a note can be played in its copy too."""
    whole = opus_note(20.0, seed=5)
    made = copy_of(whole[: len(whole) // 2], "mp3")
    assert 8 < (inspect(made).duration or 0) < 12


def test_a_copy_that_lacks_a_part_is_told_of() -> None:
    """Where some packets cannot be decoded, the rest is converted and a person is told."""
    source = bytearray(sounds.encoded("m4a", 4.0))
    at = len(source) // 2
    source[at : at + 6000] = bytes(6000)
    out = io.BytesIO()
    told = convert(bytes(source), out, "wav")
    assert re.fullmatch(r"\d+ of its 17\d parts cannot be played, and are not in the copy", told or "")
    assert 2 < (inspect(out.getvalue()).duration or 0) < 3.9


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("suffix", ["webm", "flac", "aiff"])
def test_a_copy_of_what_breaks_off_says_so(suffix: str, format: Format) -> None:
    """Where a recording says how long it was and ends before, nobody takes the copy for all of it; a whole one gives no alarm."""
    whole = sounds.encoded(suffix, 4.0)
    assert convert(whole, io.BytesIO(), format) is None
    told = convert(whole[: len(whole) // 2], io.BytesIO(), format)
    assert told is not None
    assert "not in the copy" in told


def test_a_sound_that_changes_on_the_way_is_converted_whole() -> None:
    """Pieces of other rate and channels, one behind the other, all are in the copy."""
    chained = sounds.encoded("mp3", 1.0) + stereo_coded(1.0)
    out = io.BytesIO()
    convert(chained, out, "wav")
    assert inspect(out.getvalue()).duration == pytest.approx(2.0, abs=0.25)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("alike", [True, False], ids=["alike", "of two programs"])
def test_recordings_that_follow_each_other_in_one_file_are_all_in_the_copy(format: Format, alike: bool) -> None:
    """An Ogg file of several recordings, one behind the other, becomes one recording that holds them all, in Ogg too."""
    first, second = sounds.encoded("opus", 1.0, seed=PITCH - 200), sounds.encoded("opus", 2.0, seed=PITCH - 200)
    source = first + second + first if alike else first + second + opus_note(1.0, serial=5)
    out = io.BytesIO()
    assert convert(source, out, format) is None
    made = inspect(out.getvalue())
    assert (made.media_type, made.damaged) == (MADE[format], None)
    assert made.duration == pytest.approx(4.0, abs=0.2)
    if alike:
        assert pitch(out.getvalue()) == pytest.approx(PITCH, rel=0.02)
    assert len(samples(out.getvalue())[0]) / samples(out.getvalue())[1] == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize("format", FORMATS)
def test_recordings_of_two_kinds_in_one_file_are_never_half_a_copy(format: Format) -> None:
    """What follows in an Ogg file is of another kind: it is refused (then the recording itself is given), or what is missing is told."""
    source = sounds.encoded("opus", 1.0) + vorbis_note(2.0)
    out = io.BytesIO()
    try:
        told = convert(source, out, format)
    except NotConverted as refused:
        told = refused.reason
    assert told


@pytest.mark.parametrize("rate", [1, 50, 3_999, 500_000, 2**31 - 1])
def test_a_header_that_lies_about_its_rate_costs_no_memory(rate: int) -> None:
    """A file that claims one sample an hour is refused before it is blown up."""
    with pytest.raises(NotConverted):
        convert(header_says(rate), io.BytesIO(), "mp3")


@pytest.mark.parametrize(
    ("bound", "least", "told"), [("LONGEST", 2, "longer than"), ("LARGEST", 40_000, "larger than"), ("_GRACE", -9, "takes")]
)
def test_what_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, bound: str, least: int, told: str) -> None:
    """Length, size and time of a copy have their limits (a day, 4 GB, slower than listening), whether it is encoded or not."""
    monkeypatch.setattr(convert_module, bound, least)
    for suffix in ("wav", "opus"):
        out = io.BytesIO()
        with pytest.raises(NotConverted, match=told):
            convert(sounds.encoded(suffix, 6.0), out, "wav")
        assert len(out.getvalue()) < 300_000


def test_what_is_wrong_with_the_source_or_the_disk_is_not_blamed_on_the_note() -> None:
    """An archive that is damaged, and a disk that is full, are told as what they are."""

    class Damaged(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100_000:
                raise IntegrityError("a pack is damaged")
            return super().read(size)

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    long = opus_note(60.0)
    with pytest.raises(IntegrityError, match="a pack is damaged"):
        convert(Damaged(long), io.BytesIO(), "mp3")
    with pytest.raises(OSError, match="No space left") as full:
        convert(long, Full(), "mp3")
    assert full.value.errno == errno.ENOSPC


@settings(max_examples=60)
@given(st.data())
def test_wrong_bytes_never_raise_anything_else(data: st.DataObject) -> None:
    """Any change to any kind of file ends in a copy or in the one error that callers know."""
    source = bytearray(data.draw(st.sampled_from(SMALL)))
    for _ in range(data.draw(st.integers(1, 8))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    try:
        convert(bytes(source), io.BytesIO(), data.draw(st.sampled_from(FORMATS)))
    except NotConverted as refused:
        told = refused.message
    else:
        told = "converted"
    assert told.isprintable()


def test_a_format_is_typed_by_its_name() -> None:
    """`original` and the four formats are known; anything else is told with the names of all."""
    assert [known_format(text) for text in ("original", *FORMATS)] == [None, *FORMATS]
    with pytest.raises(UsageError) as refused:
        known_format("MP3\n")
    assert refused.value.hint == "formats are original, ogg, mp3, m4a, wav"


SMALL = [sounds.encoded(suffix, 0.2) for suffix in ("opus", "m4a", "mp3", "aac", "wav", "flac", "webm")] + [sounds.amr(0.2)]


def stereo(seconds: float) -> bytes:
    """A WAV file with a tone left and silence right, by the standard library."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, 2, 44100, 0, "NONE", ""))
        for n in range(round(seconds * 44100)):
            file.writeframesraw(struct.pack("<hh", round(8000 * math.sin(n / 20)), 0))
    return out.getvalue()


def stereo_coded(seconds: float, format: str = "mp3", codec: str = "libmp3lame", rate: int = 32_000) -> bytes:
    import av

    out = io.BytesIO()
    with by_ffmpeg(stereo(seconds)) as source, av.open(out, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "stereo"
        for frame in [*source.decode(audio=0), None]:
            container.mux(stream.encode(frame))
    return out.getvalue()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (sounds.encoded("opus", 1.0)[:150], "it breaks off before its sound begins"),
        (
            sounds.encoded("opus", 1.0) + stereo_coded(1.0, "ogg", "libopus", 48_000),
            "its sound is of a kind, or changes on the way to a kind, that cannot be played here",
        ),
    ],
)
def test_why_there_is_no_copy_is_said_in_a_persons_words(source: bytes, told: str) -> None:
    """Of a note that breaks off at once, or goes on with more channels, one reads why it comes as it is: no word of a library's errors."""
    with pytest.raises(NotConverted) as refused:
        convert(source, io.BytesIO(), "mp3")
    assert refused.value.reason == told


def silent_film() -> bytes:
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        sounds._add_picture(container, 1.0)
    return out.getvalue()


def header_says(rate: int) -> bytes:
    """A WAV file of a million samples, whose header names this rate."""
    form = struct.pack("<HHIIHH", 1, 1, rate, min(rate * 2, 2**32 - 1), 2, 16)
    body = b"WAVE" + struct.pack("<4sI", b"fmt ", 16) + form + struct.pack("<4sI", b"data", 2_000_000) + bytes(2_000_000)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


@pytest.mark.parametrize("format", ["ogg", "mp3"])
def test_a_copy_that_lacks_a_damaged_stretch_is_told_of(format: Format) -> None:
    """Where a disk spoiled some seconds in the middle of a note, a person is told how many are not in the copy."""
    source = bytearray(opus_note(20.0, seed=5))
    assert convert(bytes(source), io.BytesIO(), format) is None
    source[len(source) // 2] ^= 0xFF
    told = convert(bytes(source), io.BytesIO(), format)
    assert re.fullmatch(r"\d\.\d seconds of it are damaged, and are not in the copy", told or "")
