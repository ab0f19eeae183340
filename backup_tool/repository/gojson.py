"""JSON text exactly as Go's encoding/json writes it, because a tree's id is the hash of that text.

Go leaves letters of all scripts as they are, and escapes besides the usual: ``< > &`` and the two line separators U+2028 and U+2029.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_ESCAPED = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029\ud800-\udfff]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if "\ud800" <= character <= "\udfff":  # no text at all: Go writes the replacement character
        return "\\ufffd"
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def text(value: str) -> str:
    """A string with its quotes."""
    return f'"{_ESCAPED.sub(_escape, value)}"'


def value(thing: Any) -> str:
    """Anything that JSON can hold, compact, keys in the order given. A msgspec.Raw is put in as it is."""
    match thing:
        case str():
            return text(thing)
        case msgspec.Raw():
            return bytes(thing).decode()
        case list() | tuple():
            return "[" + ",".join(value(item) for item in thing) + "]"
        case dict():
            return "{" + ",".join(f"{text(key)}:{value(item)}" for key, item in thing.items()) + "}"
        case _:
            return msgspec.json.encode(thing).decode()


def record(fields: dict[str, Any]) -> str:
    """An object without its None fields."""
    return value({key: item for key, item in fields.items() if item is not None})
