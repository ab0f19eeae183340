"""Goes through the messages of a Telegram export without holding the file: a window of text, one message at a time.

An export of years is larger than the memory of many machines: whole, it would need about ten times its size.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_PIECE = 2**20
MOST_AT_ONCE = 32 * 2**20
"""Characters of one message, or of one value that is passed over. A real message has some hundred."""
_SPACE = re.compile(r"[ \t\n\r]*")
_LISTS = ("chats", "left_chats")

Read = Callable[[int], bytes]
"""Gives the next bytes of a file, at most so many; none at its end."""


class Broken(Exception):
    """The file ends too early, or is not JSON, or not laid out as Telegram does; the text says which, in a person's words."""


class Message(NamedTuple):
    """A message as the file has it, and what its chat says of itself: `id`, `name`, `type` and whatever else stands before its messages."""

    chat: dict[str, Any]
    body: dict[str, Any]


class Export:
    """One `result.json`: iterate `messages`; what the file says of its owner is known from where it stands on."""

    def __init__(self, read: Read) -> None:
        self.owner: object = None
        """`personal_information.user_id`, which only an export of all chats has."""
        self.read_messages = 0
        self._window = _Window(read)

    def messages(self) -> Iterator[Message]:
        """Every message, in the order of the file. Raises Broken, after what could be read, and OSError."""
        yield from self._chat(top=True)
        if self._window.peek():
            raise Broken("holds something after its end")

    def heading(self) -> dict[str, Any]:
        """What a single chat says of itself; of an export of all chats, nothing. Raises Broken."""
        head: dict[str, Any] = {}
        for key in self._window.members():
            if key == "messages" or self._window.peek() in "{[":
                break
            head[key] = self._window.value()
        return head

    def _chat(self, *, top: bool) -> Iterator[Message]:
        """The messages of a chat's object; of the outermost one, those of the chats in it."""
        head: dict[str, Any] = {}
        window = self._window
        for key in window.members():
            if key == "messages" and window.peek() == "[":
                for _ in window.elements():
                    body = window.value()
                    self.read_messages += 1
                    if isinstance(body, dict):
                        yield Message(head, body)
            elif top and key in _LISTS and window.peek() == "{":
                yield from self._list()
            else:
                value = window.value()
                if top and key == "personal_information" and isinstance(value, dict):
                    self.owner = value.get("user_id")
                elif not isinstance(value, (dict, list)):
                    head[key] = value

    def _list(self) -> Iterator[Message]:
        for key in self._window.members():
            if key != "list" or self._window.peek() != "[":
                self._window.value()
                continue
            for _ in self._window.elements():
                if self._window.peek() == "{":
                    yield from self._chat(top=False)
                else:
                    self._window.value()


class _Window:
    """The part of the text that is looked at now."""

    def __init__(self, read: Read) -> None:
        self._read = read
        # What is no UTF-8 in one name must not cost all messages.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._text = ""
        self._at = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_PIECE):
                return ""

    def _take(self, wanted: str) -> str:
        found = self.peek()
        if not found:
            raise Broken("ends in the middle")
        if found not in wanted:
            raise Broken("is not laid out as Telegram does")
        self._at += 1
        return found

    def members(self) -> Iterator[str]:
        """The keys of an object; before the next one is asked for, the value must have been taken."""
        self._take("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise Broken("is not laid out as Telegram does")
            self._take(":")
            self.peek()
            yield key
            if self._take(",}") == "}":
                return

    def elements(self) -> Iterator[None]:
        """Stands before each element of an array in turn; it must have been taken before the next one is asked for."""
        self._take("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield None
            if self._take(",]") == "]":
                return

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # a number may go on where the window ends
                    self._at = end
                    return value
            except RecursionError:
                raise Broken("is nested deeper than any message") from None
            except ValueError:
                if self._ended:
                    raise Broken("ends in the middle, or is damaged") from None
            if len(self._text) - self._at > MOST_AT_ONCE:
                raise Broken("is damaged, or holds a message larger than any")
            self._more(max(_PIECE, len(self._text) - self._at))

    def _more(self, count: int) -> bool:
        """Take in more of the file, and let go of what was used. False at its end."""
        if self._ended:
            return False
        parts: list[bytes] = []
        while count > 0 and not self._ended:
            parts.append(self._read(count))
            count -= len(parts[-1])
            self._ended = not parts[-1]
        self._text = self._text[self._at :] + self._decoder.decode(b"".join(parts), final=self._ended)
        self._at = 0
        return True
