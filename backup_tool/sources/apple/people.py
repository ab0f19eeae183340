"""Who is meant by an address of WhatsApp on Apple's systems, and the best name there is.

`<digits>@s.whatsapp.net` is a phone number, `…@g.us` a group, `<digits>@lid` a hidden identity whose digits are no phone number. One person
may appear under both; LID.sqlite, the contacts and the chats themselves join them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

PHONE_SERVER, LID_SERVER = "s.whatsapp.net", "lid"
_PERSON = re.compile(r"([0-9]+)(?:\.[0-9]+)?(?::[0-9]+)?@(s\.whatsapp\.net|lid)")
_NOT_DIGITS = re.compile(r"[^0-9]")
_ONLY_A_NUMBER = re.compile(r"[+~]?[0-9()\s./\-\u2010\u2011]*")
_JOINERS = "\u200c\u200d"
"""Invisible, and part of names in some scripts."""
_LONGEST = 1000


class Who(NamedTuple):
    """An address, and the best name for it: never empty."""

    id: str
    name: str


class People:
    """Addresses and names of one WhatsApp account. Fill it first, with all that joins addresses before any name; then ask."""

    NAMES = ("chat", "contact", "member", "push")
    """Where names come from, the best first: the chat's title, the address book, a group's list of members, what people call themselves."""

    def __init__(self) -> None:
        self._phone_of: dict[str, str] = {}
        self._names: dict[str, dict[str, str]] = {origin: {} for origin in self.NAMES}
        self._known: dict[str, Who] = {}

    def join(self, lid: object, phone: object) -> None:
        """A hidden identity and a phone number are one person. Either in any form; what is none is passed over."""
        hidden, number = digits(lid), digits(phone)
        if hidden and number:
            self._phone_of.setdefault(f"{hidden}@{LID_SERVER}", f"{number}@{PHONE_SERVER}")

    def name(self, origin: str, jid: object, name: object) -> None:
        """A name of an address. The first that is said by one origin stays; a number is no name."""
        text, address = text_of_name(name), self.address(jid)
        if address and text and not _ONLY_A_NUMBER.fullmatch(text):
            self._names[origin].setdefault(address, f"~{text}" if origin == "push" else text)

    def address(self, jid: object) -> str | None:
        """The one address of a person or a group: without a device's number, the phone's where a hidden one resolves. None for none."""
        text = as_text(jid)
        if not text or "@" not in text:
            return None
        person = _PERSON.fullmatch(text)
        short = f"{person[1]}@{person[2]}" if person else text
        return self._phone_of.get(short, short)

    def who(self, jid: object) -> Who | None:
        """An address with its name: the best there is, else `+` and the number, else the address itself."""
        address = self.address(jid)
        if address is None:
            return None
        if address not in self._known:
            self._known[address] = Who(address, self._best_name(address))
        return self._known[address]

    def _best_name(self, address: str) -> str:
        for names in self._names.values():
            if address in names:
                return names[address]
        user, _, server = address.rpartition("@")
        return f"+{user}" if server == PHONE_SERVER and user.isascii() and user.isdigit() and user != "0" else address


def is_person(jid: str | None) -> bool:
    """True for the address of a person, not of a group, a broadcast list or a channel."""
    return bool(jid and _PERSON.fullmatch(jid))


def as_text(value: object) -> str | None:
    """Text, also where the app keeps it as bytes; None where it is neither, empty, or longer than any address or name."""
    if isinstance(value, bytes):
        value = value[: 4 * _LONGEST + 1].decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST else None


def text_of_name(value: object) -> str:
    """A name without the invisible marks that the app puts around it (the owner's own chat begins with one)."""
    text = as_text(value) or ""
    if not text.isascii():
        text = "".join(c for c in text if unicodedata.category(c) != "Cf" or c in _JOINERS)
    return text.strip()


def digits(value: object) -> str:
    """The digits of a number in any form: `+49 170 1`, `491701@s.whatsapp.net`, a plain integer. Empty where there are none."""
    if isinstance(value, int):
        return str(value) if 0 < value < 10**20 else ""
    text = (as_text(value) or "").partition("@")[0].partition(":")[0]
    return _NOT_DIGITS.sub("", text) if text.isascii() and len(text) < 40 else ""


def first_text(values: Iterable[object]) -> str:
    """The first of several that is a name."""
    return next((text for value in values if (text := text_of_name(value))), "")
