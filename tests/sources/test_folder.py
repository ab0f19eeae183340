"""A folder of audio files."""

from __future__ import annotations

import os
from pathlib import Path

from backup_tool.sources import detect
from tests.generators import sounds
from tests.generators.ogg import opus_note
from tests.sources.stores import everything, scan


def fill(folder: Path, files: dict[str, bytes], moment: float = 1_700_000_000.5) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (moment, moment))


def test_any_folder_of_recordings_is_a_source(tmp_path: Path) -> None:
    """Recordings of every format, at any depth, are found by suffix, or by content where a name has none; other files are not."""
    note, song = opus_note(1), sounds.encoded("mp3", 1)
    files = {
        "b.opus": note, "a/Interview.M4A": sounds.encoded("m4a", 1), "a/deep/er/x.amr": sounds.amr(1), "memo": sounds.wav(1),
        "c.CAF": sounds.caf(1), "d.flac": sounds.encoded("flac", 1), "a/tune": song,
    }  # fmt: skip
    fill(tmp_path, files | {"letter.txt": song, "a/picture": b"\x89PNG\r\n", "film.mp4": sounds.video_note(1), "._b.opus": b"\0\5\x16\7"})
    before = everything(tmp_path)
    found = scan(tmp_path)
    assert found.source.type == "folder"
    assert sorted(found.paths) == sorted(files)
    assert {file.path: found.read(file) for file in found.files} == files
    assert all(file.path == file.original_path for file in found.files)
    assert (found.summary.files, found.summary.complete, found.summary.problems) == (7, True, [])
    assert everything(tmp_path) == before


def test_files_come_folder_by_folder_in_order(tmp_path: Path) -> None:
    """The order of a scan never changes: each folder's files by name, then the folders below it by name."""
    fill(tmp_path, {name: b"OggS" for name in ("z.opus", "b/2.opus", "b/1.opus", "a.opus", "b/a/3.opus", "c/1.opus")})
    assert scan(tmp_path).paths == ["a.opus", "z.opus", "b/1.opus", "b/2.opus", "b/a/3.opus", "c/1.opus"]


def test_kind_and_day_come_from_whatsapps_names(tmp_path: Path) -> None:
    """Voice notes that were saved to a folder by hand keep kind and day; anything else has its file's time."""
    note = opus_note(1)
    fill(
        tmp_path,
        {"PTT-20260303-WA0001.opus": note, "AUD-20250101-WA0001.mp3": note, "old/Voice Notes/memo 1.wav": note, "plain.opus": note},
    )
    fill(tmp_path, {"PTV-20260304-WA0001.mp4": sounds.video_note(1)})
    notes = {path: (note.kind, note.sent_at, note.sent_at_from) for path, note in ((n.original_path, n) for n in scan(tmp_path).notes)}
    assert notes == {
        "PTT-20260303-WA0001.opus": ("voice", "2026-03-03T12:00:00Z", "name"),
        "AUD-20250101-WA0001.mp3": ("audio", "2025-01-01T12:00:00Z", "name"),
        "PTV-20260304-WA0001.mp4": ("video", "2026-03-04T12:00:00Z", "name"),
        "old/Voice Notes/memo 1.wav": ("voice", "2023-11-14T22:13:20Z", "file"),
        "plain.opus": ("audio", "2023-11-14T22:13:20Z", "file"),
    }


def test_a_files_own_time_is_believed_only_within_reason(tmp_path: Path) -> None:
    """A file of 1980, as some copies make them, has no known time."""
    fill(tmp_path, {"a.opus": opus_note(1)}, moment=315532800)
    (note,) = scan(tmp_path).notes
    assert (note.sent_at, note.sent_at_from, note.mtime_ns) == (None, None, 315532800 * 10**9)


def test_a_type_can_be_forced(tmp_path: Path) -> None:
    """A folder that looks like WhatsApp's can be taken as a plain folder; an empty one is then no error."""
    fill(tmp_path, {"WhatsApp Voice Notes/202610/PTT-20260303-WA0001.opus": opus_note(1)})
    assert scan(tmp_path).source.type == "whatsapp-android"
    found = scan(tmp_path, "folder")
    assert (found.source.type, found.paths) == ("folder", ["WhatsApp Voice Notes/202610/PTT-20260303-WA0001.opus"])
    assert found.notes[0].kind == "voice"
    (tmp_path / "empty").mkdir()
    assert scan(tmp_path / "empty", "folder").summary.complete is False


def test_a_folder_is_detected_as_what_it_is(tmp_path: Path) -> None:
    """Setting up offers a folder of recordings, with their number."""
    fill(tmp_path, {"a.opus": b"OggS", "b/c.m4a": b""})
    assert [(one.type, one.path, one.notes) for one in detect(tmp_path)] == [("folder", str(tmp_path), 2)]
