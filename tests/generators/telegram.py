"""Writes what Telegram Desktop leaves when it exports chats as "Machine-readable JSON": `result.json` and media folders beside it.

chat = Chat("Anna", 4711, "personal_chat")
chat.voice(1, opus_note(2), sender=("Anna", "user4711"))
export_chat(folder / "ChatExport_2026-03-04", chat)
export_all(folder / "DataExport_2026-03-04", [chat, other], owner=99)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.generators.old import put_old

FIRST = datetime(2026, 3, 1, 8, tzinfo=UTC)
NOT_INCLUDED = "(File not included. Change data exporting settings to download.)"
TOO_LARGE = "(File exceeds maximum size. Change data exporting settings to download.)"
UNAVAILABLE = "(File unavailable, please try again later)"
HERE = timezone(timedelta(hours=1))
"""The zone of the machine that exports: what `date` is told in."""


@dataclass
class Chat:
    """One chat: its messages as the export has them, and the bytes of their files by path below the chat's own media folder."""

    name: str | None
    id: int
    type: str = "private_group"
    messages: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    dated: str = "both"
    """"both", or "local" as in exports of before 2021, which have no `date_unixtime`."""
    first: datetime = FIRST

    def text(self, number: int, words: object = "hello", **more: Any) -> None:
        """A message without a file, one of the many that are of no interest."""
        self.message(number, text=words, **more)

    def voice(self, number: int, data: bytes | None, **more: Any) -> str:
        """A voice message; without data, one whose message names a file that is not there. Its path below the media folder."""
        sent = self.sent(number)
        path = f"voice_messages/audio_{number}@{sent.astimezone(HERE):%d-%m-%Y_%H-%M-%S}.ogg"
        if data is not None:
            self.files[path] = data
        given = {"file": path, "media_type": "voice_message", "mime_type": "audio/ogg", "duration_seconds": 2, **more}
        self.message(number, **given)
        return path

    def attach(self, number: int, path: str, data: bytes, **more: Any) -> str:
        """A message with any other file."""
        self.files[path] = data
        self.message(number, file=path, **more)
        return path

    def message(self, number: int, *, sender: tuple[str | None, object] = ("Ben", "user12"), **more: Any) -> None:
        """A message with whatever else it says. A value of None leaves the key out; use `null` for JSON's."""
        sent = self.sent(number)
        body: dict[str, Any] = {"id": number, "type": "message", "date": f"{sent.astimezone(HERE):%Y-%m-%dT%H:%M:%S}"}
        if self.dated == "both":
            body["date_unixtime"] = str(int(sent.timestamp()))
        body |= {"from": sender[0], "from_id": sender[1], "text": "", "text_entities": []}
        self.messages.append({key: value for key, value in (body | more).items() if value is not None or key == "from"})

    def sent(self, number: int) -> datetime:
        """When a message of this number was sent: an hour after the one before it, before a group was made a supergroup as well."""
        return self.first + timedelta(hours=number if number > 0 else number + 10**9)

    def told(self, media: str = "") -> dict[str, Any]:
        """The chat's object; `media` goes before the paths of its files."""
        head = {} if self.type == "saved_messages" else {"name": self.name}
        messages = [
            {**body, "file": media + body["file"]} if isinstance(body.get("file"), str) and body["file"][0] != "(" else body
            for body in self.messages
        ]
        return {**head, "type": self.type, "id": self.id, "messages": messages}


def export_chat(folder: Path, chat: Chat) -> Path:
    """One chat, as its own menu exports it. The `result.json`."""
    _put(folder, chat, "")
    return _write(folder, chat.told())


def export_all(folder: Path, chats: list[Chat], *, left: list[Chat] | None = None, owner: int = 99) -> Path:
    """All chats, as the settings export them. The `result.json`."""
    lists = []
    number = 0
    for some in (chats, left or []):
        told = []
        for chat in some:
            number += 1
            media = f"chats/chat_{number:03}/"
            _put(folder, chat, media)
            told.append(chat.told(media))
        lists.append({"about": "This page lists all chats.", "list": told})
    everything = {
        "about": 'Here is the data you requested. {"type": "not this"}',
        "personal_information": {"user_id": owner, "first_name": "Zoë", "last_name": "", "phone_number": "+49 170 0000000"},
        "contacts": {"about": "…", "list": [{"user_id": 12, "first_name": "Ben"}]},
        "frequent_contacts": {"about": "…", "list": []},
        "chats": lists[0],
        **({"left_chats": lists[1]} if left else {}),
    }
    return _write(folder, everything)


def _put(folder: Path, chat: Chat, media: str) -> None:
    for path, data in chat.files.items():
        location = folder / media / path
        location.parent.mkdir(parents=True, exist_ok=True)
        put_old(location, data)


def _write(folder: Path, told: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "result.json"
    path.write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")
    return path
