"""Sealed JSON files, times and zstd: what others write is read, what is hostile is refused."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.repository import gojson, sealed, times
from backup_tool.repository.crypto import Key
from backup_tool.repository.sealed import Unreadable
from backup_tool.repository.snapshots import Snapshot, decode_snapshot, encode_snapshot
from tests.repository import forge

SECRETS = (b"e" * 32, b"k" * 16, b"r" * 16)
KEY = Key(*SECRETS)
ID = "0123456789abcdef" * 4


@given(st.binary(min_size=1, max_size=3000))
def test_sealed_files_come_back(body: bytes) -> None:
    """A sealed file gives back its JSON, and another implementation finds version byte and zstd frame in it."""
    stored = sealed.encode(KEY, body)
    assert sealed.decode(KEY, stored, 3000) == body
    plain = forge.unseal(SECRETS, stored)
    assert plain[:1] == b"\x02"
    assert zstandard.ZstdDecompressor().decompressobj().decompress(plain[1:]) == body


@pytest.mark.parametrize("body", [b'{"a":1}', b"[1]"])
def test_plain_json_inside_a_seal_is_read(body: bytes) -> None:
    """Files of format version 1 are not compressed, and valid in version 2 too."""
    assert sealed.decode(KEY, forge.seal(SECRETS, body), 100) == body


@pytest.mark.parametrize("plain", [b"", b"\x01{}", b"\x03", b"x", b"\x02", b"\x02junk", b"\x02" + b"\x28\xb5\x2f\xfd"])
def test_unknown_contents_are_refused(plain: bytes) -> None:
    """An unknown version byte, or a frame that is none, is damage."""
    with pytest.raises(Unreadable):
        sealed.parse(sealed.decode(KEY, forge.seal(SECRETS, plain), 100), dict)


def test_frames_without_content_size_are_read() -> None:
    """restic leaves the size out of frames below 256 bytes."""
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"short")
    assert sealed.inflate(frame, 5) == b"short"


@pytest.mark.parametrize("states_size", [True, False])
def test_a_bomb_is_stopped_at_its_budget(states_size: bool) -> None:
    """A few kilobytes that would inflate to a gibibyte cost no more memory than the budget."""
    compressor = zstandard.ZstdCompressor(write_content_size=states_size).compressobj(size=2**30 if states_size else -1)
    zeros = bytes(2**20)
    bomb = b"".join(compressor.compress(zeros) for _ in range(2**10)) + compressor.flush()
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="grows beyond"):
            sealed.inflate(bomb, 10 * 2**20)
        assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    finally:
        tracemalloc.stop()


def test_exactly_the_budget_is_allowed() -> None:
    """The limit itself still fits, one byte more does not."""
    frame = zstandard.ZstdCompressor().compress(bytes(100))
    assert sealed.inflate(frame, 100) == bytes(100)
    with pytest.raises(Unreadable):
        sealed.inflate(frame, 99)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 200_000,
        b'{"time":' * 100_000,
        b'{"time":NaN}',
        b'{"time":1}',
        b'{"time":"2026-01-02T03:04:05Z"}',
        b"\xff\xfe",
        b"{}x",
        b"null",
    ],
)
def test_hostile_json_is_only_wrong_json(body: bytes) -> None:
    """Deep, cut or mistyped JSON is told as such, never a crash."""
    with pytest.raises(Unreadable):
        decode_snapshot(ID, body)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-09-13T12:26:40Z", datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)),
        ("2020-09-13T12:26:40.123456789Z", datetime(2020, 9, 13, 12, 26, 40, 123456, tzinfo=UTC)),
        ("2020-09-13T12:26:40.1+02:00", datetime(2020, 9, 13, 10, 26, 40, 100000, tzinfo=UTC)),
        ("2020-09-13T12:26:40-09:30", datetime(2020, 9, 13, 21, 56, 40, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_of_other_programs_are_read(text: str, moment: datetime) -> None:
    """Nanoseconds, zones, and Go's zero time."""
    assert times.moment(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2020-09-13",
        "2020-09-13T12:26:40",
        "2020-13-13T12:26:40Z",
        "2020-09-13 12:26:40Z",
        "0001-01-01T00:00:00+10:00",
        "２020-09-13T12:26:40Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """A moment without zone, a month 13, a time before the first year: ValueError, nothing else."""
    with pytest.raises(ValueError, match=r".+"):
        times.moment(text)


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))
def test_times_come_back(when: datetime) -> None:
    """Any moment between the years 1 and 9999 is written and read back, to the microsecond."""
    when = when.replace(tzinfo=UTC)
    ns = ((when - datetime(1970, 1, 1, tzinfo=UTC)) // (when.resolution)) * 1000
    assert times.moment(times.written(ns)) == when


@pytest.mark.parametrize(
    ("ns", "text"), [(10**30, "9999-12-31T23:59:59.999999999Z"), (-(10**30), "0001-01-01T00:00:00Z"), (1, "1970-01-01T00:00:00.000000001Z")]
)
def test_impossible_times_move_to_the_nearer_end(ns: int, text: str) -> None:
    """A file from the year 30000 does not stop a backup."""
    assert times.written(ns) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_text_means_the_same(thing: object) -> None:
    """What is written in Go's way is the same JSON to every reader (lone halves of characters become the replacement character)."""
    text = gojson.value(thing)
    assert not set(text) & set("<>&\u2028\u2029\n")
    assert msgspec.json.decode(text) == thing


@given(
    st.builds(
        Snapshot, id=st.just(ID), time=st.sampled_from(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000001+01:00"]), tree=st.just(ID),
        parent=st.none() | st.just(ID), paths=st.lists(st.text()), hostname=st.text(), username=st.text(), uid=st.integers(0, 2**32),
        gid=st.integers(0, 2**32), tags=st.none() | st.lists(st.text(), min_size=1), program_version=st.text(),
        summary=st.none() | st.dictionaries(st.text(), st.integers(0, 2**53)),
    )
)  # fmt: skip
def test_snapshots_come_back(snapshot: Snapshot) -> None:
    """Every field of a snapshot is written and read back."""
    assert decode_snapshot(ID, encode_snapshot(snapshot)) == snapshot


def test_a_snapshots_fields_stand_in_restics_order() -> None:
    """Compact JSON, restic's order, empty fields left out."""
    short = Snapshot(
        time="2026-01-02T03:04:05Z", tree=ID, paths=["/voice-notes"], hostname="h", program_version="backup 1.0", summary={"b": 1}
    )
    assert (
        encode_snapshot(short)
        == (
            f'{{"time":"2026-01-02T03:04:05Z","tree":"{ID}","paths":["/voice-notes"],"hostname":"h","program_version":"backup 1.0",'
            '"summary":{"b":1}}'
        ).encode()
    )


def test_a_snapshot_without_a_time_is_not_written() -> None:
    """A time that other programs cannot read is refused before anything is stored."""
    with pytest.raises(ValueError, match="RFC 3339"):
        encode_snapshot(Snapshot(time="yesterday", tree=ID))
