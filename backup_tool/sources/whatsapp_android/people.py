"""Who is meant by a jid: WhatsApp's addresses, the hidden ones of newer versions resolved where the database knows how.

`<digits>@s.whatsapp.net` is a phone number, `…@g.us` a group, `<digits>@lid` a hidden identity whose digits are no phone number.
The same person may appear under both; `jid_map` joins them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from backup_tool.sources.whatsapp_android.schema import CHAT, JID, JID_MAP, LID_NAME, LID_SERVER, PHONE_SERVER, Schema

_LONGEST_NAME = 10_000
_DEVICE = re.compile(r"^([0-9]+)(?:\.[0-9]+)?(?::[0-9]+)?@(.+)")


class Who(NamedTuple):
    """An address, and the best name that the database has for it: never empty."""

    id: str
    name: str


class People:
    """The addresses and chats of one database, in memory."""

    def __init__(self, schema: Schema) -> None:
        self._jids: dict[int, str] = {}
        for number, user, server, raw in schema.rows(JID, "_id", "user", "server", "raw_string"):
            if isinstance(number, int):
                self._jids[number] = _short(raw if raw else f"{user or ''}@{server}" if server else user)
        pairs = schema.rows(JID_MAP, "lid_row_id", "jid_row_id")
        self._phone_of = {lid: phone for lid, phone in pairs if isinstance(lid, int) and isinstance(phone, int)}
        self._lid_of = {phone: lid for lid, phone in self._phone_of.items()}
        names = schema.rows(LID_NAME, "lid_row_id", "display_name")
        self._shown = {number: _short(name) for number, name in names if isinstance(number, int) and name}
        self._chats: dict[int, tuple[int, str]] = {}
        for number, jid, subject in schema.rows(CHAT, "_id", "jid_row_id", "subject"):
            if isinstance(number, int) and isinstance(jid, int):
                self._chats[number] = jid, _short(subject)
        self._known: dict[int, Who] = {}

    def chat(self, number: object) -> Who | None:
        """The chat of a row: its address (of the phone, where a hidden one resolves) and its title; None where the database has lost it."""
        jid, subject = self._chats.get(number, (0, "")) if isinstance(number, int) else (0, "")
        who = self.person(jid)
        return Who(who.id, subject) if who and subject else who

    def is_direct(self, number: object) -> bool:
        """True for a conversation of two: its messages come from the other, or from the owner."""
        jid = self._chats.get(number, (0, ""))[0] if isinstance(number, int) else 0
        return self._jids.get(jid, "").rpartition("@")[2] in (PHONE_SERVER, LID_SERVER)

    def sender(self, chat: object, jid: object) -> Who | None:
        """Who sent a message that the owner did not send: in a group the address on the message, between two the chat's own."""
        who = self.person(jid) if isinstance(jid, int) else None
        if who is None and self.is_direct(chat):
            assert isinstance(chat, int)
            who = self.person(self._chats[chat][0])
        return who

    def person(self, jid: int) -> Who | None:
        """An address by its row; None where there is no such row (0 stands for nobody)."""
        if jid not in self._jids:
            return None
        if jid not in self._known:
            self._known[jid] = self._identify(jid)
        return self._known[jid]

    def _identify(self, jid: int) -> Who:
        phone = self._phone_of.get(jid, jid)
        phone = phone if phone in self._jids else jid
        address = _DEVICE.sub(r"\1@\2", self._jids[phone])
        user, _, server = address.rpartition("@")
        name = self._shown.get(jid) or self._shown.get(self._lid_of.get(phone, 0), "")
        if not name and server == PHONE_SERVER and user.isascii() and user.isdigit():
            name = "WhatsApp" if user == "0" else f"+{user}"
        return Who(address, name or address)


def _short(text: object) -> str:
    """A name or an address from the database; cut where it is longer than any is, as all of them stay in memory."""
    return str(text or "")[:_LONGEST_NAME].strip()
