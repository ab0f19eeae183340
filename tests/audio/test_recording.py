"""The sound of screen recordings: copied as it is, cut where it is silent, and never a way for a hostile file to open others."""

from __future__ import annotations

import hashlib
import io
import random
from datetime import UTC, datetime

import av
import pytest

from backup_tool.audio import inspect, media_type_of
from backup_tool.audio.recording import Recording, Unplayable
from tests.generators.recordings import screen_recording
from tests.generators.sounds import amr, encoded


def opened(data: bytes) -> Recording:
    return Recording(io.BytesIO(data), media_type_of(data[:4096]))


def packets(data: bytes) -> str:
    """The hash of all packets of sound."""
    whole = hashlib.sha256()
    with av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux(container.streams.audio[0]):
            whole.update(bytes(packet))
    return whole.hexdigest()


def samples(data: bytes) -> int:
    with av.open(io.BytesIO(data), "r") as container:
        return sum(frame.samples for frame in container.decode(container.streams.audio[0]))


@pytest.mark.parametrize(
    ("kind", "suffix", "media_type"),
    [
        ("mp4", ".m4a", "audio/mp4"),
        ("mov", ".m4a", "audio/mp4"),
        ("mkv", ".opus", "audio/ogg; codecs=opus"),
        ("webm", ".opus", "audio/ogg; codecs=opus"),
        ("pcm.mov", ".wav", "audio/wav"),
    ],
)
def test_sound_is_copied_and_never_encoded_again(kind: str, suffix: str, media_type: str) -> None:
    """The very packets of the recording, as long as it was, in a file of their own kind; the same bytes each time."""
    data = screen_recording(kind, [0.6], pause=0.4)
    with opened(data) as recording:
        assert recording.has_picture
        [track] = recording.tracks
        sound = recording.sound(0)
        assert recording.sound(0) == sound
    assert track.suffix == suffix
    if kind != "pcm.mov":  # whose packets are of any length
        assert packets(sound) == packets(data)
    assert abs(samples(sound) - samples(data)) <= 48  # Matroska counts in milliseconds
    facts = inspect(sound, "x" + suffix)
    assert (facts.media_type, facts.has_video, facts.damaged) == (media_type, False, None)
    assert facts.duration == pytest.approx(1.4, abs=0.05)


@pytest.mark.parametrize("hiss", [0, 40])
def test_silence_parts_notes(hiss: int) -> None:
    """Three notes played one after the other are found where they are, with a little air around them, in a noisy room too."""
    lengths, pause = [1.0, 0.7, 1.4], 1.0
    with opened(screen_recording("mp4", lengths, pause=pause, hiss=hiss)) as recording:
        cuts = recording.notes(0, 0.8)
        assert len(cuts) == 3
        at = pause
        for (start, end), length in zip(cuts, lengths, strict=True):
            assert at - 0.35 <= start <= at
            assert at + length <= end <= at + length + 0.4
            sound = recording.sound(0, start, end)
            assert inspect(sound, "x.m4a").duration == pytest.approx(end - start, abs=0.1)
            at += length + pause
        assert len(recording.notes(0, 1.6)) == 1


def test_a_part_of_a_flac_file_says_how_long_it_is() -> None:
    """A note that was cut out of a longer recording has its own length everywhere, not that of the whole."""
    with opened(encoded("flac", 4.0)) as recording:
        part = recording.sound(0, 1.0, 2.5)
    seconds = samples(part) / 16_000
    assert inspect(part, "x.flac").duration == seconds
    with av.open(io.BytesIO(part), "r") as container:
        assert container.duration == seconds * 1e6


def test_silence_alone_is_no_note() -> None:
    """A track in which nobody speaks has nothing to be cut out of."""
    with opened(screen_recording("mp4", [0.5], pause=0.3, tracks=2)) as recording:
        assert len(recording.tracks) == 2
        assert recording.notes(1, 1.0) == []
        assert len(recording.notes(0, 1.0)) == 1


def test_the_container_says_when_it_was_made() -> None:
    """Its time is believed unless its clock was not set."""
    with opened(screen_recording("mp4", [0.2], pause=0.1, made="2024-03-01T08:00:00Z")) as recording:
        assert recording.made_at() == datetime(2024, 3, 1, 8, tzinfo=UTC)
    with opened(screen_recording("mp4", [0.2], pause=0.1, made="1970-01-01T00:00:00Z")) as recording:
        assert recording.made_at() is None


@pytest.mark.parametrize("suffix", ["m4a", "mp3", "aac", "flac", "webm", "opus", "wav", "caf", "aiff"])
def test_every_kind_of_sound_file_can_be_looked_into(suffix: str) -> None:
    """Recorder files have a track, no picture, and can be cut."""
    data = encoded(suffix, 1.0)
    with opened(data) as recording:
        assert not recording.has_picture
        assert len(recording.tracks) == 1
        assert samples(recording.sound(0)) == pytest.approx(samples(data), abs=4000)


def test_a_file_is_only_what_its_first_bytes_say() -> None:
    """A playlist that names other files, under whatever name, is not opened."""
    for text in (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n", b"<MPD></MPD>"):
        with pytest.raises(Unplayable, match="not a recording"):
            opened(text)


def test_what_was_not_finished_is_told() -> None:
    """A recording whose end is missing, as after an empty battery, is named as such."""
    with pytest.raises(Unplayable, match="not finished"):
        opened(screen_recording("mp4", [0.3], pause=0.1)[:2000])


def test_damaged_recordings_end_in_words() -> None:
    """Whatever bytes are wrong, there is sound or a sentence, never a crash."""
    seeded, said = random.Random(5), set[str]()
    whole = [screen_recording(kind, [0.3], pause=0.2) for kind in ("mp4", "mkv")] + [amr(0.5), encoded("opus", 0.5)]
    for _ in range(60):
        data = bytearray(seeded.choice(whole))
        for _ in range(seeded.randrange(1, 30)):
            data[seeded.randrange(8, len(data))] = seeded.randrange(256)
        try:
            with opened(bytes(data)) as recording:
                for number, _ in enumerate(recording.tracks):
                    recording.notes(number, 0.5)
                    recording.sound(number)
        except Unplayable as reason:
            said.add(str(reason))
    assert said
    assert "" not in said
