"""Trees: the same bytes as restic writes for the same folder, and names that lead nowhere else."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.names import safe_name
from backup_tool.repository.sealed import Unreadable
from backup_tool.repository.trees import BADLY_QUOTED, Node, component, decode_tree, encode_tree, quoted, unquoted
from tests.repository.forge import node

HELLO = hashlib.sha256(b"hello voice").hexdigest()
TREE_ID = "ac" * 32


def test_the_empty_folder() -> None:
    """An empty folder is the same tree everywhere."""
    assert hashlib.sha256(encode_tree([])).hexdigest() == "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8"


def test_a_file_with_an_awkward_name() -> None:
    """Quotes, an ampersand's cousin, an accent and an invisible mark: byte for byte what Go's JSON gives."""
    awkward = Node(
        name='q"<é\u200e.opus', type="file", mode=0o644, mtime="2020-09-13T12:26:40.12Z", atime="2020-09-13T12:26:40.12Z",
        ctime="2020-09-13T12:26:40Z", uid=1000, gid=1000, size=11, links=1, content=[HELLO],
    )  # fmt: skip
    blob = encode_tree([awkward])
    assert blob == (
        b'{"nodes":[{"name":"q\\\\\\"\\u003c\xc3\xa9\\\\u200e.opus","type":"file","mode":420,"mtime":"2020-09-13T12:26:40.12Z",'
        b'"atime":"2020-09-13T12:26:40.12Z","ctime":"2020-09-13T12:26:40Z","uid":1000,"gid":1000,"size":11,"links":1,'
        b'"content":["7c1fb7f5d979509eb9505b6837438c2dea95086b49289daddbbf68839f60a51b"]}]}\n'
    )
    assert hashlib.sha256(blob).hexdigest() == "4243c11dfe52dd9da2b76a021e9547abdbba76bd7c6922e361178d24524261b4"
    assert decode_tree(blob).nodes == [awkward]


def test_nodes_of_this_program() -> None:
    """Our files and folders: for the owner alone, three times the same time, no inode, trailing zeros of a second cut."""
    blob = encode_tree([Node.file("b", 11, [HELLO], 1_600_000_000_120_000_000), Node.folder("a", TREE_ID, -1), Node.file("c", 0, [], 0)])
    folder, file, empty = json.loads(blob)["nodes"]
    time, before = "2020-09-13T12:26:40.12Z", "1969-12-31T23:59:59.999999999Z"
    times = {"mtime": time, "atime": time, "ctime": time}
    assert file == {"name": "b", "type": "file", "mode": 0o600, **times, "uid": 0, "gid": 0, "size": 11, "links": 1, "content": [HELLO]}
    assert folder == {
        "name": "a", "type": "dir", "mode": 2**31 + 0o700, "mtime": before, "atime": before, "ctime": before, "uid": 0, "gid": 0,
        "content": None, "subtree": TREE_ID,
    }  # fmt: skip
    assert "size" not in empty
    assert empty["content"] == []
    assert list(file) == ["name", "type", "mode", "mtime", "atime", "ctime", "uid", "gid", "size", "links", "content"]


def test_every_field_stands_in_restics_order() -> None:
    """A node with everything, as other programs write it, is read and written again without a byte changed."""
    full = node(
        "full", user="ü<", group="g", inode=2**64 - 1, device_id=5, size=11, links=2, linktarget="../\u2028", linktarget_raw="AA==",
        extended_attributes=[{"name": "user.x", "value": "AA=="}], generic_attributes={"z": 1, "a": {"b": [1.5, None]}}, device=7,
    )  # fmt: skip
    content = full.pop("content")
    full |= {"content": [HELLO], "error": "odd"}
    assert content == []
    text = json.dumps({"nodes": [full]}, ensure_ascii=False, separators=(",", ":"))
    blob = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").encode() + b"\n"
    assert encode_tree(decode_tree(blob).nodes) == blob


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("plain é.opus", "plain é.opus"),
        ('a"b\\c', 'a\\"b\\\\c'),
        ("\a\b\f\n\r\t\v", "\\a\\b\\f\\n\\r\\t\\v"),
        ("\x01\x1f\x7f", "\\x01\\x1f\\x7f"),
        ("\x80\u00a0\u00ad", "\\u0080\\u00a0\\u00ad"),
        ("\u200d\ufeff\ue000", "\\u200d\\ufeff\\ue000"),
        ("\U000e0001\U0010ffff", "\\U000e0001\\U0010ffff"),
        ("👨\u200d👩", "👨\\u200d👩"),
        ("\ufffd", "\ufffd"),
        ("a\udcffb\udc80", "a\\xffb\\x80"),
        ("'", "'"),
    ],
)
def test_names_are_quoted_as_go_quotes(name: str, written: str) -> None:
    """Each kind of character stands in a tree as Go's strconv.Quote writes it, and is read back."""
    assert quoted(name) == written
    assert unquoted(written) == name


@pytest.mark.parametrize(("written", "name"), [("\\101\\377", "A\udcff"), ("\\xc3\\xa9", "é"), ("\\U0001F600", "😀"), ("\\u00E9", "é")])
def test_other_ways_to_quote_are_read(written: str, name: str) -> None:
    """Octal, bytes that make up a character, and capitals: whatever Go would accept."""
    assert unquoted(written) == name


@pytest.mark.parametrize(
    "written", ['"', "\\", "a\\", "\\q", "\\'", "\\x1", "\\u12", "\\400", "\\777", "\\ud800", "\\U00110000", "a\nb", "\\08"]
)
def test_what_go_cannot_unquote_is_refused(written: str) -> None:
    """A name that other programs stop at is refused, not guessed."""
    with pytest.raises(ValueError, match=BADLY_QUOTED):
        unquoted(written)


@given(st.binary(min_size=1, max_size=60))
def test_any_name_comes_back(raw: bytes) -> None:
    """Whatever bytes a file name has, quoting and unquoting gives them again."""
    name = raw.decode("utf-8", "surrogateescape")
    assert unquoted(quoted(name)) == name


@given(st.lists(st.text(min_size=1, max_size=40), unique_by=safe_name))
def test_folders_of_any_chat_come_back(titles: list[str]) -> None:
    """Folders named after whatever people call their chats are written in one order, and read back whole."""
    names = [safe_name(title) for title in titles]
    blob = encode_tree(Node.folder(name, TREE_ID, 0) for name in names)
    assert blob == encode_tree(Node.folder(name, TREE_ID, 0) for name in reversed(names))
    read = decode_tree(blob)
    assert [n.name for n in read.nodes] == sorted(names, key=os.fsencode)
    assert not read.refused


def test_sorted_by_bytes_not_by_characters() -> None:
    """Names stand in the order of their bytes: 'Z' before 'a', U+FFFF before U+10000, undecodable bytes by their value."""
    names = ["a", "Z", "\U00010000", "\uffff", "é", "\udc80"]
    blob = encode_tree(Node.folder(name, TREE_ID, 0) for name in names)
    assert [n.name for n in decode_tree(blob).nodes] == ["Z", "a", "\udc80", "é", "\uffff", "\U00010000"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "nul\0", "x" * 256, "é" * 128])
def test_no_name_leads_elsewhere(name: str) -> None:
    """A name that is not that of one entry is neither written nor read as one."""
    with pytest.raises(ValueError, match="its name"):
        component(name)
    with pytest.raises(ValueError, match="its name"):
        encode_tree([Node.folder(name, TREE_ID, 0)])
    read = decode_tree(json.dumps({"nodes": [node(quoted(name)), node("fine")]}).encode())
    assert [n.name for n in read.nodes] == ["fine"]
    assert len(read.refused) == 1


def test_hidden_slashes_are_found_behind_quotes() -> None:
    """A slash or a NUL written as an escape is still one."""
    read = decode_tree(json.dumps({"nodes": [node("..\\x2fetc"), node("\\057etc"), node("a\\x00")]}).encode())
    assert read.nodes == []
    assert len(read.refused) == 3


def file(**fields: object) -> Node:
    given: dict[str, object] = {"name": "a", "type": "file", "size": 11, "content": [HELLO]}
    return Node(**(given | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([file(content=None)], "content list"),
        ([file(size=0)], "size"),
        ([file(content=[])], "size"),
        ([file(content=[HELLO, HELLO], size=1)], "size"),
        ([file(subtree=TREE_ID)], "no tree"),
        ([file(), file()], "two entries"),
        ([Node(name="d", type="dir")], "folder has a tree"),
        ([Node(name="d", type="dir", subtree=TREE_ID, content=[])], "neither content"),
    ],
)
def test_nothing_is_written_that_other_programs_trip_over(nodes: list[Node], reason: str) -> None:
    """No file without list or with a size that cannot be, no folder without tree, no two entries of one name."""
    with pytest.raises(ValueError, match=reason):
        encode_tree(nodes)


@pytest.mark.parametrize("size", [10, 12])
def test_sizes_are_exact(size: int) -> None:
    """A size one byte off (restic would cut or pad the file without a word) is refused where the blobs' lengths are known."""
    with pytest.raises(ValueError, match="size"):
        encode_tree([file(size=size)], {HELLO: 11}.__getitem__)
    assert encode_tree([file()], {HELLO: 11}.__getitem__)


@pytest.mark.parametrize(
    "blob",
    [
        b"", b"[]", b"null", b'{"nodes":{}}', b'{"nodes":[1]}', b"{", b'{"nodes":[]} x', b'{"nodes":[{}]}', b"\xff", b'{"nodes":[' * 9000,
        b'{"x":' + b"[" * 200_000,
        json.dumps({"nodes": [node("a", size=-1)]}).encode(), json.dumps({"nodes": [node("a", size=2**63)]}).encode(),
        json.dumps({"nodes": [node("a", content=["ab"])]}).encode(), json.dumps({"nodes": [node("a", mode=2**32)]}).encode(),
        b'{"nodes":[{"name":"a","type":"file","size":NaN}]}', json.dumps({"nodes": [node("a", subtree=[])]}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_tree_is_refused(blob: bytes) -> None:
    """Broken, deep, endless or absurd JSON is told as such, never a crash."""
    with pytest.raises(Unreadable):
        decode_tree(blob)


def test_a_tree_of_countless_entries_is_refused_before_it_fills_memory() -> None:
    """Sixty mebibytes of tiny entries are not even parsed."""
    with pytest.raises(Unreadable, match="more than"):
        decode_tree(b'{"nodes":[' + b"{}," * 20_000_000 + b"{}]}")


def test_unknown_fields_and_a_null_list_are_read() -> None:
    """What newer programs add is passed over; null in place of a list is an empty folder, and marked."""
    read = decode_tree(b'{"nodes":[{"name":"a","type":"file","content":[],"new":{"x":[1]}}],"more":1}')
    assert [n.name for n in read.nodes] == ["a"]
    assert not read.null
    assert decode_tree(b'{"nodes":null}').null
