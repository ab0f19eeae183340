"""Reads names and telephone numbers from vCards: versions 2.1, 3.0 (RFC 2426) and 4.0 (RFC 6350), as phones and address books write them.

Lenient: what is no vCard is passed over, a card that is cut short counts as far as it goes. Pictures and everything else are skipped.
"""

from __future__ import annotations

import codecs
import quopri
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_LONGEST_LINE = 2**13
_MOST_NUMBERS = 100
_CHARSETS = ("utf-8", "utf-16", "ascii", "iso8859", "cp125", "koi8", "shift_jis", "gb", "big5", "euc")
# "item1.TEL;TYPE=\"cell,home\":…": a name, perhaps after a group, then parameters. A colon in quotes does not end them.
_PROPERTY = re.compile(rb'(?:[A-Za-z0-9-]+\.)?([A-Za-z0-9-]+)((?:;(?:[^":;]|"[^"]*")*)*):', re.DOTALL)
_WAID = re.compile(r"(?:^|;)waid=\"?([0-9]{5,20})", re.IGNORECASE)
_CHARSET = re.compile(r"(?:^|;)charset=\"?([A-Za-z0-9_-]{1,40})", re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NAMES = ("FN", "N", "ORG", "NICKNAME")
"""Where a name is looked for, the best first: old and careless writers leave FN out, and firms have neither."""


@dataclass
class Card:
    """One contact. `numbers` are as they were typed; `whatsapp` as WhatsApp itself wrote them, digits with country and nothing else."""

    names: dict[str, str] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    whatsapp: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The best name there is; empty without any."""
        return next((self.names[which] for which in _NAMES if self.names.get(which)), "")


def read_vcards(lines: Iterable[bytes]) -> Iterator[Card]:
    """Every card, in the order of the file. Raises nothing."""
    card: Card | None = None
    for line in _unfolded(lines):
        found = _PROPERTY.match(line)
        if not found:
            continue
        name, value = found[1].upper(), line[found.end() :]
        if name == b"BEGIN":
            if card:
                yield card  # the one before was cut short
            card = Card()
        elif card and name == b"END":
            yield card
            card = None
        elif card:
            _learn(card, name.decode(), found[2].decode("ascii", "replace"), value)
    if card:
        yield card


def _unfolded(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines: a line goes on where the next one begins with white space, or, quoted-printable, where it ends with `=`."""
    held, keeps_space = b"", False
    for raw in lines:
        line = raw.rstrip(b"\r\n")
        if held.endswith(b"=") and b"quoted-printable" in held.partition(b":")[0].lower():
            held = _joined(held[:-1], line)
        elif held and line[:1] in (b" ", b"\t"):
            held = _joined(held, line if keeps_space else line[1:])  # in version 2.1 a fold stands in place of a space
        else:
            yield held
            held = line.lstrip(b"\xef\xbb\xbf") if line.startswith(b"\xef\xbb\xbf") else line
            if held[:8].upper() == b"VERSION:":
                keeps_space = held[8:].strip() == b"2.1"
    yield held


def _joined(held: bytes, line: bytes) -> bytes:
    # A picture may be many megabytes: nobody reads it.
    return held + line if len(held) + len(line) <= _LONGEST_LINE else held


def _learn(card: Card, name: str, parameters: str, value: bytes) -> None:
    if name == "TEL":
        waid = _WAID.search(parameters)
        if waid and len(card.whatsapp) < _MOST_NUMBERS:
            card.whatsapp.append(waid[1])
        elif len(card.numbers) < _MOST_NUMBERS:
            card.numbers.append(_text(parameters, value))
    elif name in _NAMES and not card.names.get(name):
        card.names[name] = _name(name, _text(parameters, value))


def _text(parameters: str, value: bytes) -> str:
    """The value as text: the encoding and the character set that are named, else UTF-8, else what Windows wrote in Western Europe."""
    if "quoted-printable" in parameters.lower():
        value = quopri.decodestring(value)
    named = _CHARSET.search(parameters)
    for charset in (named[1] if named else "utf-8", "utf-8"):
        try:
            if codecs.lookup(charset).name.startswith(_CHARSETS):
                return value.decode(charset)
        except (LookupError, UnicodeError):
            continue
    return value.decode("cp1252", "replace")


def _name(which: str, text: str) -> str:
    """A name as people read it: of `N` (family; given; additional; …) the given names first."""
    if which in ("FN", "NICKNAME"):
        return _unescaped(text)
    parts = [_unescaped(part) for part in re.split(r"(?<!\\);", text)]
    if which == "N":
        parts = [*parts[1:3], *parts[:1]]
    return " ".join(" ".join(parts).split())


def _unescaped(text: str) -> str:
    plain = _ESCAPED.sub(lambda found: " " if found[1] in "nN" else found[1], text)
    return " ".join(plain.split())
