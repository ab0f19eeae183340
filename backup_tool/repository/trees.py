"""Trees: the folders of a snapshot (restic's design document, section "Trees and Data"), in JSON exactly as restic writes it.

A tree blob is ``{"nodes":[…]}`` and a newline; its id is the hash of these bytes, so that one byte off gives another id, and programs that
write a tree anew refuse one that does not come out the same. Names are quoted as Go's strconv.Quote does, then escaped as JSON.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Annotated, NamedTuple

import msgspec

from backup_tool.models import Problem
from backup_tool.repository import gojson, times
from backup_tool.repository.sealed import Unreadable, parse

MAX_TREE = 64 * 2**20
# A node takes some 300 bytes, so that no honest tree within MAX_TREE holds more objects; a dishonest one would cost a gigabyte.
_MOST_OBJECTS = 500_000
_LONGEST_NAME = 255
BADLY_QUOTED = "its name is not quoted as Go quotes"
"""The reason in a Problem for a name that other programs stop at."""

# Go's bits for a folder, and permissions for the owner alone: what the nodes that this program makes say.
_FOLDER_MODE = 1 << 31 | 0o700
_FILE_MODE = 0o600

_Id = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
_U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Node(msgspec.Struct, kw_only=True, gc=False):
    """One entry of a folder, fields in restic's order.

    `name` is the true name (undecodable bytes as surrogateescape), `mode` Go's FileMode, times RFC 3339 text, `content` the data blobs of a
    file in order (None for everything else), `subtree` the tree of a folder. What only other programs write is kept for reading.
    """

    name: str
    type: str
    mode: _U32 = 0
    mtime: str = ""
    atime: str = ""
    ctime: str = ""
    uid: _U32 = 0
    gid: _U32 = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: _Size = 0
    links: int = 0
    linktarget: str = ""
    linktarget_raw: str | None = None
    extended_attributes: msgspec.Raw = msgspec.Raw()
    generic_attributes: msgspec.Raw = msgspec.Raw()
    device: int = 0
    content: list[_Id] | None = None
    subtree: _Id | None = None
    error: str = ""

    @classmethod
    def file(cls, name: str, size: int, content: list[str], mtime: int | str) -> Node:
        """A file that this program archives: for its owner alone, all three times the same, `content` as long as `size` bytes exactly.

        `mtime` in nanoseconds since 1970, or as RFC 3339 text. Raises ValueError for text that is no time.
        """
        time = times.canonical(mtime)
        return cls(name=name, type="file", mode=_FILE_MODE, mtime=time, atime=time, ctime=time, size=size, links=1, content=content)

    @classmethod
    def folder(cls, name: str, subtree: str, mtime: int | str) -> Node:
        """A folder that this program archives: for its owner alone, all three times the same; `mtime` as for a file."""
        time = times.canonical(mtime)
        return cls(name=name, type="dir", mode=_FOLDER_MODE, mtime=time, atime=time, ctime=time, subtree=subtree)


class Tree(NamedTuple):
    """A folder that was read. `refused` are entries whose name is no name of a file: left out of `nodes`, never cleaned up in silence."""

    nodes: list[Node]
    refused: list[Problem]
    null: bool = False
    """True where it says null in place of an empty list: some programs stop at it."""


class _Stored(msgspec.Struct):
    nodes: list[Node] | None


def decode_tree(blob: bytes) -> Tree:
    """The nodes of a tree blob, in the order they stand there. Raises Unreadable."""
    if blob.count(b"{") > _MOST_OBJECTS:
        raise Unreadable(f"it holds more than {_MOST_OBJECTS:,} entries")
    stored = parse(blob, _Stored).nodes
    nodes: list[Node] = []
    refused: list[Problem] = []
    for node in stored or ():
        try:
            node.name = component(unquoted(node.name))
        except ValueError as error:
            refused.append(Problem(node.name, str(error)))
        else:
            nodes.append(node)
    return Tree(nodes, refused, stored is None)


def component(name: str) -> str:
    """The name, if it is that of one entry in a folder. Raises ValueError with the reason: what else it could be would lead elsewhere."""
    if name in ("", ".", ".."):
        raise ValueError("its name is empty or names another folder")
    if "/" in name or "\0" in name:
        raise ValueError("its name holds a slash or a NUL")
    if len(name) > _LONGEST_NAME // 4 and len(name_bytes(name)) > _LONGEST_NAME:
        raise ValueError(f"its name is longer than {_LONGEST_NAME} bytes")
    return name


def name_bytes(name: str) -> bytes:
    """A name as bytes: what names are sorted by."""
    return name.encode("utf-8", "surrogateescape")


_GO_LETTERS = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", '"': '\\"', "\\": "\\\\"}


def quoted(name: str) -> str:
    """A name as Go's strconv.Quote writes it, without the outer quotes.

    Printable to Go is what is printable to Python (letters, marks, numbers, punctuation, symbols, and the ASCII space), each by its own
    Unicode tables: names from `names.safe_name` stay within what all of them know.
    """
    if name.isprintable() and '"' not in name and "\\" not in name:
        return name
    return "".join(c if c.isprintable() and c not in '"\\' else _quote(c) for c in name)


def _quote(c: str) -> str:
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if c in _GO_LETTERS:
        return _GO_LETTERS[c]
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPE = re.compile(rb'\\(?:([abfnrtv\\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))|([\\"\n])', re.DOTALL)
_LETTERS = {written[1:].encode(): meant.encode() for meant, written in _GO_LETTERS.items()}


def unquoted(text: str) -> str:
    """The name that Go's strconv.Unquote would give, undecodable bytes as surrogateescape. Raises ValueError where it would refuse."""
    if "\\" not in text and '"' not in text and "\n" not in text:
        return text
    return _ESCAPE.sub(_meaning, text.encode()).decode("utf-8", "surrogateescape")


def _meaning(match: re.Match[bytes]) -> bytes:
    letter, byte, short, long, octal, wrong = match.groups()
    if wrong:
        raise ValueError(BADLY_QUOTED)
    if letter:
        return _LETTERS[letter]
    if byte or octal:
        number = int(byte, 16) if byte else int(octal, 8)
        if number > 0xFF:
            raise ValueError(BADLY_QUOTED)
        return bytes([number])
    number = int(short or long, 16)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise ValueError(BADLY_QUOTED)
    return chr(number).encode()


LengthOf = Callable[[str], int]


def encode_tree(nodes: Iterable[Node], length_of: LengthOf | None = None) -> bytes:
    """The tree blob of these nodes, sorted by the bytes of their names.

    Raises ValueError for what other readers would trip over: an unclean or a double name, a file without content list, a folder without
    tree, a size that cannot be that of the blobs. With `length_of` (a data blob's length by its id) sizes are checked to the byte.
    """
    by_name = sorted(((name_bytes(component(node.name)), node) for node in nodes), key=itemgetter(0))
    for (name, _), (following, _) in itertools.pairwise(by_name):
        if name == following:
            raise ValueError(f"two entries of one name in a folder: {os.fsdecode(name)!r}")
    for _, node in by_name:
        _refuse_inexact(node, length_of)
    return ('{"nodes":[' + ",".join(_node_json(node) for _, node in by_name) + "]}\n").encode()


def _refuse_inexact(node: Node, length_of: LengthOf | None) -> None:
    if node.type == "dir":
        if node.subtree is None or node.content is not None or node.size:
            raise ValueError(f"a folder has a tree, and neither content nor size: {node.name!r}")
        return
    if node.type != "file":
        return
    if node.content is None or node.subtree is not None:
        raise ValueError(f"a file has a content list, and no tree: {node.name!r}")
    # A wrong size makes other programs restore an empty file, or one padded with zeros, without a word.
    blobs_fit = node.size >= len(node.content) and bool(node.size) == bool(node.content)
    if not blobs_fit or (length_of is not None and sum(map(length_of, node.content)) != node.size):
        raise ValueError(f"a file's size is not that of its blobs: {node.name!r}")


def _node_json(node: Node) -> str:
    # By hand and in one piece: a first run writes tens of thousands of these.
    text = gojson.text
    mode = f',"mode":{node.mode}' if node.mode else ""
    times_and_owner = f'"mtime":"{node.mtime}","atime":"{node.atime}","ctime":"{node.ctime}","uid":{node.uid},"gid":{node.gid}'
    content = "null" if node.content is None else "[" + ",".join(f'"{id}"' for id in node.content) + "]"
    subtree = f',"subtree":"{node.subtree}"' if node.subtree else ""
    error = f',"error":{text(node.error)}' if node.error else ""
    if node.inode or node.user or node.group or node.device_id or node.linktarget or node.linktarget_raw or node.device or _raw(node):
        between = "".join(f',"{name}":{value}' for name, value in _optional(node))
    else:
        between = (f',"size":{node.size}' if node.size else "") + (f',"links":{node.links}' if node.links else "")
    begin = f'{{"name":{text(quoted(node.name))},"type":{text(node.type)}{mode},'
    return f'{begin}{times_and_owner}{between},"content":{content}{subtree}{error}}}'


def _raw(node: Node) -> bool:
    return bool(node.extended_attributes) or bool(node.generic_attributes)


def _optional(node: Node) -> Iterator[tuple[str, str]]:
    for name in ("user", "group"):
        if value := getattr(node, name):
            yield name, gojson.text(value)
    for name in ("inode", "device_id", "size", "links"):
        if value := getattr(node, name):
            yield name, str(value)
    if node.linktarget:
        yield "linktarget", gojson.text(node.linktarget)
    if node.linktarget_raw:
        yield "linktarget_raw", gojson.text(node.linktarget_raw)
    for name in ("extended_attributes", "generic_attributes"):
        if raw := bytes(getattr(node, name)):
            yield name, raw.decode()
    if node.device:
        yield "device", str(node.device)
