"""Who is meant by a jid: WhatsApp's addresses, one person's several ones joined as far as the database knows how.

`<digits>@s.whatsapp.net` is a phone number, `…@g.us` a group, `<digits>@lid` a hidden identity whose digits are no phone number. One person
may appear

- under a number and under hidden identities: `jid_map` joins them. The number is who they are.
- under several numbers, one after the other: a system message tells of each change. The first number is who they are, for good: what was
  archived under it stays where it is when the person moves on. The newest one is shown.

A number that was given up may be given to somebody else. So a change away from a number that its owner had left already joins nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict

import msgspec

from backup_tool.sources.whatsapp_android.schema import (
    CHAT,
    JID,
    JID_MAP,
    LEGACY_CHAT,
    LID_JID_MAP,
    LID_NAME,
    LID_SERVER,
    NUMBER_CHANGE,
    PHONE_SERVER,
    Schema,
)

_LONGEST_NAME = 10_000
_DEVICE = re.compile(r"^([0-9]+)(?:\.[0-9]+)?(?::[0-9]+)?@(.+)")
OWN_NAME = "~"
"""Begins a name that a person gave themselves: nobody who knows them did."""


class Who(msgspec.Struct, eq=False):
    """An address, and the best name that is known for it: never empty. `addresses` are all that the same person has, `id` among them.

    `numbers` are the phone numbers of everyone in the database: a number typed without its country can be meant for one of them only.
    """

    id: str
    name: str
    addresses: tuple[str, ...] = ()
    numbers: list[str] = []


class People:
    """The addresses and chats of one database, in memory."""

    def __init__(self, schema: Schema) -> None:
        self._jids: dict[int, str] = {}
        for number, user, server, raw in schema.rows(JID, "_id", "user", "server", "raw_string"):
            if isinstance(number, int):
                self._jids[number] = without_device(_short(raw if raw else f"{user or ''}@{server}" if server else user))
        self._numbers = [number for address in self._jids.values() if (number := phone_number(address))]
        self._phone_of: dict[str, str] = {}
        self._lids_of = defaultdict[str, list[str]](list)
        self._join_hidden(schema)
        self._first: dict[str, str] = {}
        self._moves: dict[str, list[str]] = {}
        self._join_numbers(schema)
        names = schema.rows(LID_NAME, "lid_row_id", "display_name")
        self._shown = {self._jids.get(number, ""): _short(name) for number, name in names if isinstance(number, int) and _short(name)}
        self._chats: dict[int, str] = {}
        self._titles: dict[str, str] = {}
        for number, jid, subject in schema.rows(CHAT, "_id", "jid_row_id", "subject"):
            if isinstance(number, int) and isinstance(jid, int) and jid in self._jids:
                self._chats[number] = self._jids[jid]
                self._titles.setdefault(self._jids[jid], _short(subject))
        for address, subject in schema.rows(LEGACY_CHAT, "key_remote_jid", "subject"):
            if isinstance(address, str) and not self._titles.get(address):
                self._titles[without_device(_short(address))] = _short(subject)
                self._add_number(address)
        self._known: dict[str, Who] = {}

    def chat(self, place: object) -> Who | None:
        """A chat by its row or its address, with its title; None where the database has lost it."""
        address = self._address_of_chat(place)
        if not address:
            return None
        title = "" if is_person(address) else self._titles.get(address, "")
        if title and address not in self._known:
            self._known[address] = Who(address, title, (address,))
        return self._person(address)

    def sender(self, chat: object, place: object) -> Who | None:
        """Who sent a message that the owner did not send: in a group the address on the message, between two the chat's own."""
        address = self._jids.get(place) if isinstance(place, int) else without_device(_short(place)) if isinstance(place, str) else None
        if not address:
            address = self._address_of_chat(chat)
            if not address or not is_person(address):
                return None
        return self._person(address)

    def _address_of_chat(self, place: object) -> str | None:
        if isinstance(place, int):
            return self._chats.get(place)
        return without_device(_short(place)) if isinstance(place, str) else None

    def _person(self, address: str) -> Who:
        if address not in self._known:
            phone = self._phone_of.get(address, address)
            first = self._first.get(phone, phone)
            if first not in self._known:
                self._known[first] = self._identify(first)
            self._known[address] = self._known[first]
        return self._known[address]

    def _identify(self, first: str) -> Who:
        phones = self._moves.get(first, [first])
        hidden = [lid for phone in phones for lid in self._lids_of.get(phone, ())]
        own = next((OWN_NAME + self._shown[address] for address in [*hidden, first] if address in self._shown), "")
        # Apps leave the title of a conversation of two empty. Where a database has one all the same, it is better than a number.
        title = next((self._titles[address] for address in [*reversed(phones), *hidden] if self._titles.get(address)), "")
        number = phone_number(phones[-1])
        self._add_number(first)
        name = own or title or ("WhatsApp" if number == "0" else f"+{number}" if number else first)
        return Who(first, name, tuple(dict.fromkeys([*reversed(phones), *hidden])), self._numbers)

    def _add_number(self, address: str) -> None:
        """A database of before 2021 has no table of addresses: they are learned as they occur."""
        if not self._jids and (number := phone_number(address)):
            self._numbers.append(number)

    def _join_hidden(self, schema: Schema) -> None:
        """Hidden identities with their numbers. Which is which is told by the address, not by the column."""
        for table in (JID_MAP, LID_JID_MAP):
            for one, other in schema.rows(table, "lid_row_id", "jid_row_id"):
                pair = [self._jids.get(number, "") for number in (one, other) if isinstance(number, int)]
                hidden = [address for address in pair if address.endswith("@" + LID_SERVER)]
                phones = [address for address in pair if phone_number(address)]
                if len(hidden) == len(phones) == 1 and self._phone_of.setdefault(hidden[0], phones[0]) == phones[0]:
                    self._lids_of[phones[0]] += hidden

    def _join_numbers(self, schema: Schema) -> None:
        """Follow the changes of numbers in the order they were told. Every group that both are in tells of each again."""
        rows = schema.rows(NUMBER_CHANGE, "message_row_id", "old_jid_row_id", "new_jid_row_id")
        for _, *pair in sorted((row for row in rows if all(isinstance(number, int) for number in row)), key=lambda row: int(row[0])):
            old, new = (self._phone_of.get(address, address) for address in (self._jids.get(number, "") for number in pair))
            first = self._first.get(old, old)
            moves = self._moves.get(first, [first])
            if old == new or moves[-1] != old or not (phone_number(old) and phone_number(new)):
                continue  # told again, or the number of somebody who came after
            if self._first.get(new, new) != first:
                if new in self._first or new in self._moves:
                    continue  # another person's
                self._first[new] = first
            self._moves.setdefault(first, [first]).append(new)


def phone_number(address: str) -> str | None:
    """The digits of an address that is a phone number, else None."""
    user, _, server = address.partition("@")
    return user if server == PHONE_SERVER and user.isascii() and user.isdigit() else None


def is_person(address: str) -> bool:
    """True for the address of one person: a conversation with it is one of two."""
    return address.endswith(("@" + PHONE_SERVER, "@" + LID_SERVER))


def without_device(address: str) -> str:
    """The address of a person, without the device (`user.agent:device@server`) it was written from."""
    return _DEVICE.sub(r"\1@\2", address) if ":" in address or "." in address.partition("@")[0] else address


def _short(text: object) -> str:
    """A name or an address from the database; cut where it is longer than any is, as all of them stay in memory."""
    return str(text or "")[:_LONGEST_NAME].strip()
