"""Exports of Telegram Desktop, "Machine-readable JSON": a `result.json` with media folders beside it.

One chat (`ChatExport_…`): the file is the chat, with `name`, `type`, `id` and `messages`. All chats (`DataExport_…`): such objects in
`chats.list` and `left_chats.list`, their media below `chats/chat_NNN/`. A message with a recording has `media_type` (`voice_message`,
`audio_file`, `video_message`) and `file`: a path below the folder of `result.json`, or, where the export left it out, a sentence in
parentheses. Source of the format: Telegram Desktop's own exporter (telegramdesktop/tdesktop, `export_output_json.cpp`).
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from backup_tool.audio import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from backup_tool.models import Chat, Kind, Note, Problem
from backup_tool.names import shown
from backup_tool.sources.base import AudioFile, FileUnreadable, KnownId, Scan, Summary, Unlock
from backup_tool.sources.filenames import time_text, zone_named
from backup_tool.sources.listing import Lister, Listing, Terms
from backup_tool.sources.places import cure
from backup_tool.sources.telegram.stream import Broken, Export, Message
from backup_tool.sources.tree import Folder, Tree, text_of, why

__all__ = ["TelegramRecogniser", "TelegramSource", "describe"]

_HEAD_BYTES = 64 * 1024
_JSON = re.compile(r"result.*\.json", re.IGNORECASE)
_TYPES = (
    "saved_messages|replies|verification_codes|personal_chat|bot_chat|private_group|private_supergroup|public_supergroup|private_channel|"
    "public_channel"
)
_OF_TELEGRAM = re.compile(
    rb'\A(?:\xef\xbb\xbf)?\s*\{.*?(?:"type"\s*:\s*"(?:' + _TYPES.encode() + rb')"|"(?:personal_information|chats|left_chats)"\s*:\s*\{)',
    re.DOTALL,
)
_EXPORT_FOLDER = re.compile(r"(chat|data)export_.*", re.IGNORECASE)
_INSIDE = frozenset(
    [
        "voice_messages", "round_video_messages", "video_files", "files", "photos", "stickers", "gifs", "chats", "profile_pictures",
        "stories", "contacts", "lists", "images", "css", "js",
    ]
)  # fmt: skip
"""What an export keeps beside `result.json`."""
_KINDS: dict[str, Kind] = {"voice_message": "voice", "audio_file": "audio", "video_message": "video"}
_VOICE = Terms(AUDIO_SUFFIXES, kind="voice")
_VIDEO = Terms(AUDIO_SUFFIXES | VIDEO_SUFFIXES, kind="video")
_OTHER = Terms(AUDIO_SUFFIXES, look="", kind="audio")
_ONE_TO_ONE = frozenset(["personal_chat", "bot_chat"])
_NUMBERED_AS = {
    **dict.fromkeys(["saved_messages", "replies", "verification_codes", *_ONE_TO_ONE], "user"),
    "private_group": "chat",
    **dict.fromkeys(["private_supergroup", "public_supergroup", "private_channel", "public_channel"], "channel"),
}
"""What a chat of a `type` is to Telegram, which counts the three apart: user 500 is not channel 500 (Telegram API, "Peers")."""


class TelegramRecogniser:
    """Finds folders with a `result.json` of Telegram's."""

    type = "telegram"

    def look(self, tree: Tree, folder: Folder) -> list[str]:
        """See `Recogniser.look`."""
        found = _found_in(tree, folder)
        if not found:
            return []
        if _EXPORT_FOLDER.fullmatch(folder.path.rpartition("/")[2]):
            folder.folders, folder.files = [], []
        else:  # moved elsewhere, among other things
            folder.folders = [name for name in folder.folders if name.lower() not in _INSIDE]
            folder.files = [entry for entry in folder.files if entry.name not in found]
        return [folder.path]


def _exports(folder: Folder) -> list[str]:
    return [entry.name for entry in folder.files if entry.name[-5:].lower() == ".json" and _JSON.fullmatch(entry.name)]


def _found_in(tree: Tree, folder: Folder) -> list[str]:
    """The files of a folder that are exports. One that cannot be read is taken for one where all else looks so: the scan then names it."""
    looks_so = bool(_EXPORT_FOLDER.fullmatch(folder.path.rpartition("/")[2])) or not _INSIDE.isdisjoint(map(str.lower, folder.folders))
    return [name for name in _exports(folder) if _is_telegrams(tree, folder.below(name), unread=looks_so)]


def _is_telegrams(tree: Tree, path: str, *, unread: bool) -> bool:
    try:
        return bool(_OF_TELEGRAM.match(tree.head(path, _HEAD_BYTES)))
    except FileUnreadable:
        return unread


def describe(tree: Tree, store: str) -> str:
    """An export in a person's words: of one chat, or of all."""
    paths: list[str] = []
    for folder in tree.walk(store, Summary()):
        paths = [folder.below(name) for name in _found_in(tree, folder)]
        break
    names = [_title(tree, path) for path in paths]
    one = [name for name in names if name]
    if not any(_is_telegrams(tree, path, unread=False) for path in paths):
        return "a Telegram export whose list of messages cannot be read"
    return f"a Telegram export of {', '.join(one)}" if one and len(one) == len(names) else "a Telegram export of all chats"


def _title(tree: Tree, path: str) -> str | None:
    try:
        handle = tree.open_file(tree.location(path))
    except FileUnreadable:
        return None
    try:
        head = Export(partial(os.read, handle)).heading()
    except (Broken, OSError):
        return None
    finally:
        os.close(handle)
    if head.get("type") == "saved_messages":
        return "Saved Messages"
    name = head.get("name")
    return shown(name, 60) if isinstance(name, str) else "one chat" if "type" in head else None


class TelegramSource:
    """Made by `sources.open_source`: all exports below one folder. `timezone` is for exports of before 2021, whose times have none."""

    type = "telegram"
    plain = True

    def __init__(self, name: str, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock, timezone: str | None = None) -> None:
        self.name = name
        self.root = tree.root
        self._tree = tree
        self._stores = stores
        self._timezone = timezone
        self.read = tree.read

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the exports once: the messages with recordings are held in memory, nothing else."""
        return Listing(self._go)

    def _go(self, summary: Summary) -> Iterator[AudioFile]:
        lister, messages = Lister(self._tree, summary, zone_named(self._timezone)), _Messages(self._timezone, summary)
        for store in self._stores:
            before, orphans = summary.database, summary.orphans
            wanted = self._read_messages(store, messages, summary)
            yield from self._files(store, wanted, messages, lister, summary)
            if summary.database == before:
                summary.orphans = orphans  # no messages could be read: of no file is known that it has none
        messages.finish()
        lister.finish()

    def _read_messages(self, store: str, messages: _Messages, summary: Summary) -> dict[str, list[Note]]:
        """The notes of one export by their files' paths (below the export, NFC)."""
        wanted: dict[str, list[Note]] = {}
        for folder in self._tree.walk(store, summary):
            for name in _found_in(self._tree, folder):
                self._read_one(folder.below(name), messages, wanted, summary)
            break
        return wanted

    def _read_one(self, path: str, messages: _Messages, wanted: dict[str, list[Note]], summary: Summary) -> None:
        text = text_of(path)
        handle = None
        try:
            handle = self._tree.open_file(self._tree.location(path))
            export = Export(partial(os.read, handle))
            for message in export.messages():
                messages.take(message, export.owner, wanted, text)
        except Broken as broken:
            summary.problems.append(
                Problem(text, f"{broken}: {export.read_messages:,} messages were read before; export again, and wait for its end")
            )
        except FileUnreadable as error:
            denied = isinstance(error.__context__, PermissionError)
            summary.problems.append(Problem(text, f"not readable: {cure()}" if denied else str(error)))
            summary.unreadable_folders.append(text_of(path.rpartition("/")[0]))
            return
        except OSError as error:
            summary.problems.append(Problem(text, why(error)))
        finally:
            if handle is not None:
                os.close(handle)
        summary.database = f"{summary.database}, {text}" if summary.database else text

    def _files(
        self, store: str, wanted: dict[str, list[Note]], messages: _Messages, lister: Lister, summary: Summary
    ) -> Iterator[AudioFile]:
        """The files of one export, those of messages with what the messages say; then whoever is left in `wanted` is missing."""
        whole = bool(_EXPORT_FOLDER.fullmatch(store.rpartition("/")[2]))
        tops = _INSIDE | {path.split("/")[0].lower() for path in wanted}
        for folder in self._tree.walk(store, summary):
            inside = folder.path[len(store) :].strip("/")
            if not inside and not whole:
                folder.folders = [name for name in folder.folders if name.lower() in tops]
            rest = []
            for entry in folder.files:
                original = text_of(f"{inside}/{entry.name}" if inside else entry.name)
                notes = wanted.pop(_key(original), None)
                if notes is None:
                    rest.append(entry)
                elif file := lister.take(folder, entry, original, notes):
                    messages.found(notes)
                    yield file
            folder.files = rest if inside or whole else []
            for file in lister.files(folder, text_of(inside) + "/" if inside else "", _terms(inside)):
                summary.orphans += 1
                yield file
        for notes in wanted.values():
            summary.missing += notes


def _terms(inside: str) -> Terms:
    last = inside.rpartition("/")[2].lower()
    return _VOICE if last == "voice_messages" else _VIDEO if last == "round_video_messages" else _OTHER


def _key(path: str) -> str:
    return path if path.isascii() else unicodedata.normalize("NFC", path)


class _Messages:
    """What the messages of all exports of one scan come to."""

    def __init__(self, timezone: str | None, summary: Summary) -> None:
        self._timezone = timezone
        self._summary = summary
        self._chats: dict[str, Chat] = {}
        self._found: set[tuple[str | None, str | None]] = set()

    def take(self, message: Message, owner: object, wanted: dict[str, list[Note]], export: str) -> None:
        """A message: if it has a recording, its note goes where its file decides."""
        kind = _kind(message.body)
        if kind is None:
            return
        note = self._note(message, owner, kind)
        if note.chat_id and note.chat_id not in self._chats:
            self._chats[note.chat_id] = Chat(chat_id=note.chat_id, titles=[note.chat] if note.chat else [])
        file = message.body.get("file")
        if not isinstance(file, str) or not file or file.startswith("("):
            self._summary.not_downloaded.append(note)
            return
        path = _key(_storable(file).replace("\\", "/"))
        if path.startswith("/") or ":" in path.split("/")[0] or {"", ".", ".."} & set(path.split("/")):
            self._summary.problems.append(Problem(export, f"a message names a file outside the export: {shown(file, 80)}"))
            return
        note.original_path = path
        wanted.setdefault(path, []).append(note)

    def _note(self, message: Message, owner: object, kind: Kind) -> Note:
        head, body = message
        number, sender_id = _number(head.get("id")), _sender_id(body.get("from_id"))
        chat_id = _chat_id(head, number)
        sent_at, zone = self._moment(body)
        duration, size = body.get("duration_seconds"), body.get("file_size")
        return Note(
            kind=kind,
            chat=_title_of(head),
            chat_id=chat_id,
            message_id=_message_id(chat_id, body.get("id"), sent_at, sender_id) if chat_id else None,
            sender=_words(body.get("from")),
            sender_id=sender_id,
            from_me=_from_me(head, number, sender_id, owner),
            sent_at=sent_at,
            sent_at_from="message" if sent_at else None,
            zone=zone,
            forwarded="forwarded_from" in body,
            title=_words(body.get("title")) if kind == "audio" else None,
            duration=float(duration) if _is_whole(duration) and 0 < duration < 10**6 else None,
            size=size if _is_whole(size) and 0 < size < 2**40 else None,
        )

    def _moment(self, body: dict[str, Any]) -> tuple[str | None, str | None]:
        """RFC 3339 time, and the zone it was read in where the export has local times only."""
        seconds = body.get("date_unixtime")
        seconds = str(seconds) if _is_whole(seconds) else seconds
        if isinstance(seconds, str) and re.fullmatch(r"[0-9]{1,11}", seconds):
            return time_text(int(seconds) * 1000), None
        try:
            local = datetime.fromisoformat(body["date"]).replace(tzinfo=None)
        except (KeyError, TypeError, ValueError):
            return None, None
        zone = zone_named(self._timezone)
        return zone.time_text(local), zone.name

    def found(self, notes: list[Note]) -> None:
        """The file of these is there."""
        self._found.update((note.chat_id, note.message_id) for note in notes if note.message_id)

    def finish(self) -> None:
        """When all exports were read: what one lacks and another has is not missing."""
        summary = self._summary
        summary.chats = list(self._chats.values())
        summary.missing = self._lacking(summary.missing)
        summary.not_downloaded = self._lacking(summary.not_downloaded)
        if summary.not_downloaded:
            count = f"{len(summary.not_downloaded):,} " + ("message" if len(summary.not_downloaded) == 1 else "messages")
            summary.warnings.append(
                f"{count} came without the recording, as Telegram's export settings ask for: export again with voice messages, "
                "video messages and files ticked, and the size limit at its highest"
            )

    def _lacking(self, notes: list[Note]) -> list[Note]:
        kept = []
        for note in notes:
            key = (note.chat_id, note.message_id)
            if note.message_id is None or key not in self._found:
                kept.append(note)
                self._found.add(key)
        return kept


def _kind(body: dict[str, Any]) -> Kind | None:
    """The kind of a message's recording; None for a message without one. A file that was sent as a document counts by its media type."""
    if body.get("type") != "message":
        return None
    media = body.get("media_type")
    if isinstance(media, str):
        return _KINDS.get(media)
    mime = body.get("mime_type")
    return "audio" if isinstance(mime, str) and mime.startswith("audio/") and "file" in body else None


def _title_of(head: dict[str, Any]) -> str | None:
    """A chat's name; None for that of somebody who deleted their account."""
    return "Saved Messages" if head.get("type") == "saved_messages" else _words(head.get("name"))


def _words(value: object) -> str | None:
    return _storable(value).strip()[:1000] or None if isinstance(value, str) else None


def _storable(text: str) -> str:
    """JSON can name half a character (`\\ud800`), which no record can hold: a question mark in its place."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> str | None:
    return str(value) if _is_whole(value) and abs(value) < 2**63 else None


def _chat_id(head: dict[str, Any], number: str | None) -> str | None:
    """`telegram:user12`; of a type that no known version writes, `telegram:12`."""
    kind = head.get("type")
    return f"telegram:{_NUMBERED_AS.get(kind, '') if isinstance(kind, str) else ''}{number}" if number else None


def _message_id(chat_id: str, value: object, sent_at: str | None, sender_id: str | None) -> str | None:
    """What no other message of the chat has, in whoever's export.

    A channel or supergroup numbers its messages for all. Elsewhere each account has numbers of its own, and so have messages of the time
    before a group became a supergroup (exported with numbers below zero): there, moment and sender are part of it, which every export of
    the account repeats, with or without a word on whose account it is. None where the message has no moment. (Telegram API, "Message
    identifiers"; `kMigratedMessagesIdShift` of the exporter.)
    """
    number = _number(value)
    if number is None or (chat_id.startswith("telegram:channel") and not number.startswith("-")):
        return number
    return " ".join(filter(None, (number, sent_at, sender_id))) if sent_at else None


def _sender_id(value: object) -> str | None:
    """Who sent it, as newer exports write it: `user123`, `channel123`; older ones have the bare number of a user."""
    number = _number(value)
    return f"user{number}" if number else _words(value)


def _from_me(head: dict[str, Any], number: str | None, sender_id: str | None, owner: object) -> bool | None:
    """Whether the owner sent it: an export of all chats says who that is; between two, it is the one that the chat is not called after."""
    own = _number(owner)
    if sender_id is None:
        return None
    if own:
        return sender_id == f"user{own}"
    if head.get("type") in _ONE_TO_ONE and number:
        return sender_id != f"user{number}"
    if head.get("type") == "saved_messages" and number:
        return sender_id == f"user{number}"
    return None
