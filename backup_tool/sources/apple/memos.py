"""Voice Memos in device backups: the folder that a Mac has too (`sources.voice_memos`), in the domain of the iOS version.

A memo has the same path, chat and id there as on a Mac: with both archived, it is one note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backup_tool.audio import AUDIO_SUFFIXES, suffix_of
from backup_tool.models import Note
from backup_tool.sources.base import AudioFile, Summary
from backup_tool.sources.filenames import moment_of_name, read_name, zone_named
from backup_tool.sources.voice_memos import CHAT, Recordings, joined

MEMOS = (("AppDomainGroup-group.com.apple.VoiceMemos.shared", "Recordings/"), ("MediaDomain", "Media/Recordings/"))
"""(domain, folder) of the recordings, the newest version of iOS first."""
_PLAY_THEM = "open Voice Memos on the phone and play them once, then make a new device backup"


def is_recording(path: str) -> bool:
    """True for what counts as a recording on a Mac too; `path` is below the folder of recordings."""
    name = path.rpartition("/")[2]
    return suffix_of(name) in AUDIO_SUFFIXES and not name.startswith("._")


def memo_note(path: str) -> Note:
    """What the name of a recording tells."""
    name = path.rpartition("/")[2]
    note = Note(kind="voice", chat=CHAT.titles[-1], chat_id=CHAT.chat_id)
    zone = zone_named(None)
    if moment := moment_of_name(name, zone):
        note.sent_at, note.sent_at_from, note.zone = moment, "name", zone.name
    elif day := read_name(name)[1]:
        note.sent_at, note.sent_at_from = day, "name"
    return note


def join_memos(devices: Mapping[str, list[Recordings]], summary: Summary) -> Iterator[AudioFile]:
    """The recordings of all devices, each with what the databases of its own device know; those of one device with the newest first."""
    if any(reading.files for readings in devices.values() for reading in readings):
        summary.chats.append(CHAT)
    for readings in devices.values():
        yield from joined(readings, summary, _PLAY_THEM)
