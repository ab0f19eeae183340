"""What a later record may change in an earlier one: better knowledge upgrades, worse never degrades."""

from __future__ import annotations

import msgspec

from backup_tool.catalog.identity import (
    EXPORTED,
    better_title,
    chats_agree,
    is_imported,
    name_worth,
    same_message_in_another_zone,
    same_moment,
    same_person_elsewhere,
    standing,
    whole_minute,
)
from backup_tool.models import Note, Place

_TRUST = {None: -1, "file": 0, "guess": 1, "name": 2, "message": 3}
_GROWS = ("id", "blobs", "size", "media_type", "from_me", "duration", "starred", "forwarded", "transcript", "title", "damaged")


def _address_worth(address: str | None) -> int:
    """As `name_worth`, of ids of people and chats: the messenger's own, a hidden one, a mere title, nothing."""
    if not address:
        return 0
    return 1 if address.startswith(EXPORTED) else 2 if address.endswith("@lid") else 3


def learn(old: Note, new: Note, leads: bool = True) -> Note:
    """What is known after seeing a note again: a copy of `old` that grew by what `new` says; an unknown value never replaces a known one.

    What says more of where the note belongs (a message over an exported chat over a file's name) prevails; of two that say as much, `new`
    does if it `leads`. What does not prevail fills in what is not known, and gives a better time, a name for a number, a number for a
    hidden identity. Places are joined; `missing_since` and `path` stay the old ones: they are not the source's to say.
    """
    if same_message_in_another_zone(old, new):
        old, new = _in_one_zone(old, new, leads)
    note = msgspec.structs.replace(old)
    ahead = standing(new) - standing(old)
    prevails = ahead > 0 or (ahead == 0 and leads)
    for field in _GROWS:
        value = getattr(new, field)
        if value is not None and (prevails or getattr(old, field) is None):
            setattr(note, field, value)
    if prevails:
        note.kind = new.kind
        if new.original_path is not None:
            note.original_path, note.mtime_ns = new.original_path, new.mtime_ns
    _learn_chat(note, new, ahead, prevails)
    _learn_sender(note, new, prevails)
    if _is_better_time(note, new, prevails):
        note.sent_at, note.sent_at_from, note.zone = new.sent_at, new.sent_at_from, new.zone
    if new.first_seen and (not old.first_seen or new.first_seen < old.first_seen):
        note.first_seen = new.first_seen
    note.found = _places(note, old, new)
    return note


def _in_one_zone(old: Note, new: Note, leads: bool) -> tuple[Note, Note]:
    """Both with one moment, and the id that it is a part of: the one that needs no zone, else that of the one who speaks."""
    sure = old if (old.zone is None) > (new.zone is None) or (old.zone and new.zone and not leads) else new
    moment = {"message_id": sure.message_id, "sent_at": sure.sent_at, "sent_at_from": sure.sent_at_from, "zone": sure.zone}
    return msgspec.structs.replace(old, **moment), msgspec.structs.replace(new, **moment)


def _learn_chat(note: Note, new: Note, ahead: int, prevails: bool) -> None:
    """Id and title of a chat, and the id of the message in it, belong together."""
    if new.chat_id is None:
        if note.chat_id is None:
            note.chat = note.chat if name_worth(note.chat) > name_worth(new.chat) else new.chat
            note.message_id = note.message_id if new.message_id is None else new.message_id
        return
    gain = _address_worth(new.chat_id) - _address_worth(note.chat_id)
    if note.chat_id in (None, new.chat_id) or same_person_elsewhere(note, new) or chats_agree(note, new, lambda chat_id: (), surely=True):
        gain_in_name = name_worth(new.chat) - name_worth(note.chat)
        if gain_in_name > 0 or (gain_in_name == 0 and prevails):
            note.chat = new.chat
    elif ahead > 0 or (ahead == 0 and gain > 0):
        note.chat = better_title(new, note) or new.chat
    else:
        note.chat = better_title(note, new) or note.chat
        return
    is_found_out = new.message_id is not None and note.message_id is None  # a file's folder says less than a message
    if gain > 0 or (gain == 0 and prevails) or is_found_out:
        note.chat_id = new.chat_id
    note.message_id = _message_id(note, new, ahead)


def _message_id(note: Note, new: Note, ahead: int) -> str | None:
    """The messenger's id, whoever says it. That a person put a recording into a chat counts until a store is known to have it there."""
    if is_imported(new):
        return new.message_id if is_imported(note) or (ahead > 0 and note.message_id is None) else note.message_id
    if is_imported(note) and ahead > 0:
        return new.message_id
    return note.message_id if new.message_id is None else new.message_id


def _learn_sender(note: Note, new: Note, prevails: bool) -> None:
    """A name is better than a number, a number than a hidden identity, whoever says it."""
    gain = name_worth(new.sender) - name_worth(note.sender)
    if gain > 0 or (gain == 0 and prevails):
        note.sender = new.sender
    gain = _address_worth(new.sender_id) - _address_worth(note.sender_id)
    if gain > 0 or (gain == 0 and prevails):
        note.sender_id = new.sender_id


def _is_better_time(old: Note, new: Note, prevails: bool) -> bool:
    """True for a time of more trust. Of the same trust: of files the earlier, as copying only makes it later; in a minute the finer; else
    what prevails."""
    if new.sent_at is None or _TRUST[new.sent_at_from] != _TRUST[old.sent_at_from]:
        return _TRUST[new.sent_at_from] > _TRUST[old.sent_at_from]
    if new.sent_at_from == "file":
        return old.sent_at is None or new.sent_at < old.sent_at
    if old.sent_at is not None and (old.sent_at[:19] == new.sent_at[:19] or (old.message_id is None and same_moment(old, new))):
        return (whole_minute(old.sent_at), len(new.sent_at)) > (whole_minute(new.sent_at), len(old.sent_at))
    return prevails


def _places(note: Note, old: Note, new: Note) -> list[Place]:
    """Every place that either knows, in a fixed order: with the time of its file, where that is not the one that the record has now."""
    if len(old.found) == 1 and old.found == new.found and (note.original_path, note.mtime_ns) == (new.original_path, new.mtime_ns):
        return old.found
    places: dict[tuple[str, str], Place] = {}
    for said in (old, new):
        own = (said.original_path, said.mtime_ns) == (note.original_path, note.mtime_ns)
        for place in said.found:
            if place.mtime_ns is None and not own:
                place = Place(place.source, place.path, said.mtime_ns)
            places[place.source, place.path] = place
    return [places[key] for key in sorted(places)]
