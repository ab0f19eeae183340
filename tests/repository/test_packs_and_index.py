"""Packs and index files: written as restic reads them, and read without trusting them."""

from __future__ import annotations

import json
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.repository.crypto import Key
from backup_tool.repository.index import Entry, Index, PackEntries, Place, decode_index, encode_index
from backup_tool.repository.packs import decode_header, encode_header, pack_size, read_header
from backup_tool.repository.sealed import Unreadable
from tests.repository import forge

SECRETS = (b"e" * 32, b"k" * 16, b"r" * 16)
KEY = Key(*SECRETS)
PACK = bytes(range(32))


def laid_out(blobs: list[tuple[str, bytes, int, int]]) -> list[Entry]:
    """Entries back to back from offset 0."""
    entries, offset = [], 0
    for kind, id, length, raw in blobs:
        entries.append(Entry(kind, id, offset, length, raw))  # type: ignore[arg-type]
        offset += length
    return entries


BLOBS = st.lists(
    st.tuples(st.sampled_from(["data", "tree"]), st.binary(min_size=32, max_size=32), st.integers(32, 2**20), st.integers(0, 2**32 - 1)),
    max_size=40,
).map(laid_out)


@given(BLOBS)
def test_headers_come_back(entries: list[Entry]) -> None:
    """What a pack's header says is read again, in one request or two."""
    tail = encode_header(KEY, entries)
    size = sum(entry.length for entry in entries) + len(tail)
    assert size == pack_size(entries)
    stored = bytes(size - len(tail)) + tail
    asked: list[int] = []

    def load(offset: int, length: int) -> bytes:
        asked.append(length)
        return stored[offset : offset + length]

    assert read_header(KEY, size, load) == entries
    assert len(asked) <= 2
    assert sum(asked) <= len(tail) + 15 * 41 + 36


def test_header_bytes_are_those_of_the_document() -> None:
    """Type, length, raw length where compressed, id: 37 or 41 bytes an entry, then the length of the sealed header."""
    entries = laid_out([("data", b"d" * 32, 50, 0), ("tree", b"t" * 32, 60, 0), ("data", b"D" * 32, 70, 7), ("tree", b"T" * 32, 80, 8)])
    stored = encode_header(KEY, entries)
    assert struct.unpack("<I", stored[-4:]) == (len(stored) - 4,)
    assert forge.unseal(SECRETS, stored[:-4]) == (
        b"\x00" + struct.pack("<I", 50) + b"d" * 32 + b"\x01" + struct.pack("<I", 60) + b"t" * 32
        + b"\x02" + struct.pack("<II", 70, 7) + b"D" * 32 + b"\x03" + struct.pack("<II", 80, 8) + b"T" * 32
    )  # fmt: skip


@pytest.mark.parametrize(
    "plain",
    [
        b"\x04" + bytes(36), b"\x80" + bytes(36), bytes(36), b"\x02" + bytes(39), b"\x00" + struct.pack("<I", 31) + bytes(32),
        b"\x02" + struct.pack("<II", 40, 0) + bytes(32), b"\x00" + struct.pack("<I", 40) + bytes(32) + b"\x00",
    ],
)  # fmt: skip
def test_what_is_no_header_is_refused(plain: bytes) -> None:
    """Unknown types, cut entries, lengths below that of a seal, compressed blobs of no length."""
    with pytest.raises(Unreadable):
        decode_header(plain)


def whole_pack(header_length: int | None = None, extra: bytes = b"") -> bytes:
    sealed = forge.seal(SECRETS, b"x" * 10)
    header = forge.seal(SECRETS, b"\x00" + struct.pack("<I", len(sealed)) + b"i" * 32)
    return sealed + extra + header + struct.pack("<I", len(header) if header_length is None else header_length)


@pytest.mark.parametrize(
    "stored",
    [
        b"", b"x", bytes(35), bytes(36), bytes(1000), whole_pack(0), whole_pack(31), whole_pack(2**32 - 1), whole_pack(10_000),
        whole_pack(70),
        whole_pack(extra=b"gap"), whole_pack()[1:], whole_pack()[:-1], whole_pack() + b"\0",
    ],
)  # fmt: skip
def test_broken_packs_are_told(stored: bytes) -> None:
    """Empty, cut, zeroed, padded, with an impossible header length or with gaps: Unreadable, whatever it is."""
    with pytest.raises(Unreadable):
        read_header(KEY, len(stored), lambda offset, length: stored[offset : offset + length])


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), BLOBS), max_size=5))
def test_index_files_come_back(packs: list[tuple[bytes, list[Entry]]]) -> None:
    """What an index file says is read again, and is JSON in restic's words with a newline."""
    text = encode_index(PackEntries(pack, entries) for pack, entries in packs)
    assert text.endswith(b"]}\n")
    for described, (pack, entries) in zip(json.loads(text)["packs"], packs, strict=True):
        assert described["id"] == pack.hex()
        assert [blob["offset"] for blob in described["blobs"]] == [entry.offset for entry in entries]
        assert all(
            ("uncompressed_length" in blob) == bool(entry.raw_length) for blob, entry in zip(described["blobs"], entries, strict=True)
        )
    assert [(pack.pack, pack.entries, pack.doomed) for pack in decode_index(text).packs] == [
        (pack, entries, False) for pack, entries in packs
    ]


def blob_json(**changes: object) -> dict[str, object]:
    return {"id": "ab" * 32, "type": "data", "offset": 0, "length": 40} | changes


@pytest.mark.parametrize(
    "value",
    [
        [], 1, {"packs": 1}, {"packs": [{}]}, {"packs": [{"id": "ab" * 32}]}, {"packs": [{"id": "xy" * 32, "blobs": []}]},
        {"packs": [{"id": "ab", "blobs": []}]}, *({"packs": [{"id": "ab" * 32, "blobs": [blob]}]} for blob in (
            blob_json(id="zz" * 32), blob_json(id="ab" * 31), blob_json(type="key"), blob_json(offset=-1), blob_json(offset=2**32),
            blob_json(length=31), blob_json(length=2**32), blob_json(length="40"), blob_json(uncompressed_length=2**32),
            blob_json(offset=0.5),
        )),
    ],
)  # fmt: skip
def test_what_is_no_index_is_refused(value: object) -> None:
    """Wrong shapes, ids that are none, numbers out of bounds: Unreadable before any of it is used."""
    with pytest.raises(Unreadable):
        decode_index(json.dumps(value).encode())


def test_old_and_foreign_index_files() -> None:
    """Blobs in any order are put in order; packs that rustic will delete are marked, and a time that is none is no reason to stop."""
    entries = laid_out([("data", b"a" * 32, 40, 0), ("data", b"b" * 32, 50, 0)])
    doomed = {"id": "cd" * 32, "blobs": [], "time": "x"}
    value = json.loads(encode_index([PackEntries(PACK, entries[::-1])])) | {"supersedes": ["ab" * 32], "packs_to_delete": [doomed]}
    (first, second), superseded = decode_index(json.dumps(value).encode())
    assert superseded == ["ab" * 32]
    assert first.entries == entries
    assert not first.doomed
    assert (second.pack, second.doomed) == (bytes.fromhex("cd" * 32), True)


def test_an_index_of_countless_packs_is_refused() -> None:
    """An index that nobody would write is refused before it fills memory."""
    with pytest.raises(Unreadable, match="more than"):
        decode_index(b'{"packs":[' + b"{}," * 20_000_000 + b"{}]}")


def test_a_tree_and_a_recording_of_the_same_bytes_are_two_things() -> None:
    """Blobs are looked up by kind and id, never by id alone."""
    index = Index()
    index.add(PACK, [Entry("data", b"i" * 32, 0, 40, 0)])
    assert index.has("data", b"i" * 32)
    assert not index.has("tree", b"i" * 32)
    assert index.find("tree", b"i" * 32) == []


def test_copies_are_kept_and_doomed_ones_come_last() -> None:
    """Every copy can be tried; one in a pack that some program means to delete does not count as stored."""
    index, id = Index(), b"i" * 32
    packs = [bytes([number]) * 32 for number in range(3)]
    index.add(packs[0], [Entry("data", id, 5, 40, 0)], doomed=True)
    assert not index.has("data", id)
    assert index.first("data", id) == Place(packs[0], 5, 40, 0)
    for pack in packs[1:]:
        for _ in range(2):
            index.add(pack, [Entry("data", id, 7, 40, 9)])
    assert index.has("data", id)
    assert [place.pack for place in index.find("data", id)] == [packs[1], packs[2], packs[0]]
    assert index.first("data", id) == Place(packs[1], 7, 40, 9)
    assert len(index) == 1
    assert len(list(index.blobs())) == 3


@given(st.integers(0, 2**32 - 1), st.integers(32, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_places_come_back_to_the_last_bit(offset: int, length: int, raw: int) -> None:
    """The largest offsets and lengths that the format allows are kept exactly."""
    index = Index()
    index.add(b"\0" * 32, [Entry("tree", b"x" * 32, 0, 32, 0)])
    index.add(PACK, [Entry("data", b"i" * 32, offset, length, raw)])
    assert index.find("data", b"i" * 32) == [Place(PACK, offset, length, raw)]


def test_a_hundred_thousand_notes_fit_in_twenty_megabytes() -> None:
    """The index of a very large archive stays small in memory."""
    tracemalloc.start()
    index = Index()
    for number in range(100):
        pack = number.to_bytes(32, "big")
        index.add(pack, laid_out([("data", (number * 1000 + i).to_bytes(32, "big"), 50_000, 0) for i in range(1000)]))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(index) == 100_000
    assert used < 20_000_000


def test_an_index_of_twenty_thousand_notes_is_read_whole() -> None:
    """Every one of them is found where it was put."""
    packs = [
        PackEntries(bytes([n]) * 32, laid_out([("data", (n * 1000 + i).to_bytes(32, "big"), 50_000, 0) for i in range(1000)]))
        for n in range(20)
    ]
    index = Index()
    for pack in decode_index(encode_index(packs)).packs:
        index.add(pack.pack, pack.entries)
    assert len(index) == 20_000
    for id, entries, _, _ in packs:
        assert all(index.find("data", entry.id) == [Place(id, entry.offset, entry.length, entry.raw_length)] for entry in entries)
