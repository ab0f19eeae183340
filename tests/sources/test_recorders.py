"""Folders of recorder apps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup_tool.sources import detect, open_source
from backup_tool.sources.filenames import moment_of_name, zone_named
from tests.generators import android
from tests.generators.ogg import opus_note
from tests.generators.sounds import amr, encoded
from tests.sources.stores import Spec, everything, scan

RECORDERS = [
    "Recordings", "Recordings/Voice Recorder", "Voice Recorder", "Sounds/Voice Recorder", "MIUI/sound_recorder", "Sounds", "record",
    "Music/Recordings/Standard Recordings", "Music/Recordings", "Recorder", "SoundRecorder", "VoiceRecorder", "recordings/voice recorder",
]  # fmt: skip
CALLS = [
    "Recordings/Call Recordings", "Recordings/Call recordings", "Recordings/Call", "Music/Recordings/Call Recordings", "Record/Call",
    "MIUI/sound_recorder/call_rec", "Sounds/CallRecord", "Call", "PhoneRecord", "CallRecordings",
]  # fmt: skip


def storage(folder: Path, files: dict[str, bytes]) -> Path:
    """A phone's storage with these files, and what lies on every phone."""
    for path in ("DCIM/Camera", "Android/media", "Music/Album"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    (folder / "Music/Album/01 Song.mp3").write_bytes(encoded("mp3", 1))
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.mark.parametrize("place", RECORDERS)
@pytest.mark.parametrize("with_whatsapp", [True, False])
def test_recordings_of_every_phone(tmp_path: Path, place: str, with_whatsapp: bool) -> None:
    """Wherever a phone's recorder writes to, its recordings are found beside WhatsApp's notes, in a chat of their own."""
    storage(tmp_path, {f"{place}/Recording_20240115_101112.m4a": encoded("m4a", 1)})
    if with_whatsapp:
        android.Store(tmp_path / android.CURRENT).voice_notes(2)
    before = everything(tmp_path)
    found = scan(tmp_path)
    (note,) = [note for note in found.notes if note.original_path and note.original_path.startswith(place)]
    assert (note.chat, note.chat_id, note.kind, note.sent_at_from) == ("Recordings", "recorder:recordings", "audio", "name")
    assert found.source.type == ("whatsapp-android + folder" if with_whatsapp else "folder")
    assert len(found.files) == (3 if with_whatsapp else 2)
    assert "Recordings" in [title for chat in found.summary.chats for title in chat.titles]
    assert {"folder"} <= {one.type for one in detect(tmp_path)}
    assert everything(tmp_path) == before


@pytest.mark.parametrize("place", CALLS)
def test_recorded_calls_are_left_out_until_named(tmp_path: Path, place: str) -> None:
    """Recorded calls are not archived by the way: that they are there is said, with what to do; whoever names their folder gets them."""
    storage(
        tmp_path, {f"{place}/Anna_20240115_101112.amr": amr(1), f"{place}/deep/b.amr": amr(2), "Recordings/memo.m4a": encoded("m4a", 1)}
    )
    found = scan(tmp_path)
    assert sorted(found.paths) == ["Music/Album/01 Song.mp3", "Recordings/memo.m4a"]
    (warning,) = found.summary.warnings
    assert warning == f"2 recorded calls in {place} left out: to archive them too, name that folder as a source of its own"
    assert place in found.summary.unreadable_folders
    named = scan(tmp_path / place)
    if place != "Call":  # a name that means calls only where a phone's other folders lie beside it
        assert {(note.chat, note.chat_id) for note in named.notes} == {("Call recordings", "recorder:calls")}
    assert len(named.files) == 2


def test_recorded_calls_beside_whatsapp(tmp_path: Path) -> None:
    """Of a whole phone, recorded calls are left out too, and music is nobody's recording."""
    android.Store(tmp_path / android.CURRENT).voice_notes(1)
    storage(tmp_path, {"Recordings/Call/a.amr": amr(1), "Recordings/memo.m4a": encoded("m4a", 1)})
    found = scan(tmp_path)
    assert [file.path.rpartition("/")[2] for file in found.files] == ["PTT-20260301-WA0000.opus", "memo.m4a"]
    assert "1 recorded call in Recordings/Call left out" in "; ".join(found.summary.warnings)
    assert found.summary.complete


def test_all_recorded_calls_beside_whatsapp_are_said(tmp_path: Path) -> None:
    """Beside WhatsApp, each folder of recorded calls is named once with its calls, and they are not counted as other audio."""
    android.Store(tmp_path / android.CURRENT).voice_notes(1)
    places = ["Call", "CallRecordings", "PhoneRecord", "Record/Call", "Recordings/Call"]
    storage(tmp_path, {f"{place}/{name}": amr(1) for place in places for name in ("a.amr", "deep/b.amr")})
    summary = scan(tmp_path).summary
    assert summary.warnings == [
        *(f"2 recorded calls in {place} left out: to archive them too, name that folder as a source of its own" for place in places),
        "1 audio file lies outside these stores, the first in Music/Album, left out: to archive such too, name their folder as a source of "
        "its own",
    ]
    assert set(places) <= set(summary.unreadable_folders)


def test_notes_that_a_database_knows_are_whatsapps(tmp_path: Path) -> None:
    """Notes of WhatsApp's that were put into a folder of any name are known by the database beside them, not taken for recordings."""
    store = android.Store(tmp_path / "phone")
    notes = store.voice_notes(2)
    path = store.database(notes)
    (tmp_path / "rescued/Recordings").mkdir(parents=True)
    for note in notes:
        (tmp_path / "rescued/Recordings" / note.location.name).write_bytes(note.data)
    path.rename(tmp_path / "rescued/msgstore.db")
    found = scan(tmp_path / "rescued")
    assert found.source.type == "whatsapp-android"
    assert [note.chat for note in found.notes] == ["Family", "Family"]


@pytest.mark.parametrize("place", ["Music/Album", "Sounds", "record", "Call", "my recordings", "recorded"])
def test_other_folders_are_no_recorders(tmp_path: Path, place: str) -> None:
    """A name that means a recorder only on a phone's storage means nothing elsewhere: its files are plain recordings, none is left out."""
    (tmp_path / "x" / place).mkdir(parents=True)
    (tmp_path / "x" / place / "a.opus").write_bytes(opus_note(1))
    found = scan(tmp_path / "x")
    assert [(note.chat, note.chat_id) for note in found.notes] == [(None, None)]
    assert found.summary.warnings == []


NAMES = {
    "20240115 101112-1A2B3C4D.m4a": "2024-01-15T10:11:12Z",
    "Recording_20240115_101112.m4a": "2024-01-15T10:11:12Z",
    "20240115-101112.wav": "2024-01-15T10:11:12Z",
    "AUDIO-2024-01-15-10-11-12.m4a": "2024-01-15T10:11:12Z",
    "2024-01-15 10.11.12.m4a": "2024-01-15T10:11:12Z",
    "2024-01-15 10-11-12.m4a": "2024-01-15T10:11:12Z",
    "WhatsApp Audio 2024-01-15 at 10.11.12.opus": "2024-01-15T10:11:12Z",
    "WhatsApp Ptt 2024-01-15 at 1.11.12 PM.ogg": "2024-01-15T13:11:12Z",
    "WhatsApp Audio 2024-01-15 at 12.11.12\u202fAM.opus": "2024-01-15T00:11:12Z",
    "audio_7@15-01-2024_10-11-12.ogg": "2024-01-15T10:11:12Z",
    "copy of 20240115_101112 (2).m4a": "2024-01-15T10:11:12Z",
    "Voice 001.m4a": None,
    "20240115.m4a": None,
    "PTT-20240115-WA0001.opus": None,
    "20241315_101112.m4a": None,
    "20240230_101112.m4a": None,
    "20240115_251112.m4a": None,
    "120240115_1011123.m4a": None,
    "2024-01-15 at 13.11.12 PM.m4a": None,
    "20990115_101112.m4a": None,
    "2024-0115 10.11.12.m4a": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_the_moment_in_a_name(name: str) -> None:
    """Names that recorders and messengers give tell the moment; one that cannot be, or is only a day, tells none."""
    assert moment_of_name(name, zone_named("UTC")) == NAMES[name]


def test_moments_are_read_in_the_sources_zone(tmp_path: Path) -> None:
    """A name's moment is the device's clock: it is read in the zone of the source, which the record keeps."""
    for name in ("20240715_101112.m4a", "20240115_101112.m4a", "AUD-20240115-WA0001.m4a", "memo.m4a"):
        (tmp_path / name).write_bytes(encoded("m4a", 1))
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    source = open_source(Spec(tmp_path, timezone="Europe/Berlin"), tmp_path)
    notes = {file.path: file.notes[0] for file in source.scan()}
    assert {path: (note.sent_at, note.sent_at_from, note.zone) for path, note in notes.items()} == {
        "20240715_101112.m4a": ("2024-07-15T08:11:12Z", "name", "Europe/Berlin"),
        "20240115_101112.m4a": ("2024-01-15T09:11:12Z", "name", "Europe/Berlin"),
        "AUD-20240115-WA0001.m4a": ("2024-01-15T12:00:00Z", "name", None),
        "memo.m4a": ("2023-11-14T22:13:20Z", "file", None),
    }


def test_memos_without_their_database(tmp_path: Path) -> None:
    """Files of Apple's Voice Memos that were copied without the database are recordings with the moment of their names, `.qta` too."""
    (tmp_path / "20260303 140500-1A2B3C4D.qta").write_bytes(encoded("m4a", 1))
    (note,) = scan(tmp_path).notes
    assert note.sent_at_from == "name"
