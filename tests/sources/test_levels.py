"""A store is recognised by what is inside, at any level of any copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backup_tool.errors import UsageError
from backup_tool.sources import SourceAbsent, detect, open_source
from tests.generators import android, sounds
from tests.generators.ogg import opus_note
from tests.sources.stores import Spec, everything, scan

LEVELS = {
    "storage": ".",
    "media": "Android/media",
    "app": "Android/media/com.whatsapp",
    "store": "Android/media/com.whatsapp/WhatsApp",
    "Media": "Android/media/com.whatsapp/WhatsApp/Media",
    "voice notes": "Android/media/com.whatsapp/WhatsApp/Media/WhatsApp Voice Notes",
}


@pytest.mark.parametrize("level", LEVELS)
def test_any_level_of_a_phone_gives_the_same_notes(tmp_path: Path, level: str) -> None:
    """Whichever folder of the phone a person names, the notes and their paths in the store are the same, and the phone is untouched."""
    store = android.phone(tmp_path / "sdcard", with_database=False)
    before = everything(tmp_path)
    found = scan(tmp_path / "sdcard" / LEVELS[level])
    assert found.source.type == "whatsapp-android"
    assert found.paths == sorted(made.original_path for made in store.made)
    assert [(note.kind, note.sent_at, note.sent_at_from, note.chat) for note in found.notes] == [
        ("voice", made.day, "name", None) for made in store.made
    ]
    assert [found.read(file) for file in found.files] == [made.data for made in store.made]
    assert (found.summary.complete, found.summary.problems, found.summary.warnings) == (True, [], [])
    assert everything(tmp_path) == before


def test_one_week_can_be_named(tmp_path: Path) -> None:
    """A single week folder is enough to go by, and keeps the store's path."""
    store = android.phone(tmp_path, with_database=False)
    week = store.made[0].location.parent
    assert scan(week).paths == [made.original_path for made in store.made if made.location.parent == week]


def test_paths_below_the_source_are_told_beside_those_of_the_store(tmp_path: Path) -> None:
    """A note says where it was found below the folder that was named, and where it belongs in the store."""
    store = android.phone(tmp_path, with_database=False, notes=1)
    (file,) = scan(tmp_path).files
    assert file.path == f"{android.CURRENT}/{store.made[0].original_path}"
    assert file.location == bytes(store.made[0].location)
    assert file.notes[0].original_path == file.original_path == store.made[0].original_path
    assert file.notes[0].mtime_ns == file.mtime_ns == store.made[0].location.stat().st_mtime_ns


@pytest.mark.parametrize(
    ("root", "brand"),
    [
        (android.OLD, "WhatsApp"),
        (android.BUSINESS, "WhatsApp Business"),
        ("WhatsApp Business", "WhatsApp Business"),
        ("GBWhatsApp", "GBWhatsApp"),
        ("Android/media/com.fmwhatsapp/FMWhatsApp", "FMWhatsApp"),
        (f"{android.CURRENT}/accounts/1002", "WhatsApp"),
        ("my old phone, 2019", "WhatsApp"),
        (".", "WhatsApp"),
    ],
)
def test_every_kind_of_root_is_found(tmp_path: Path, root: str, brand: str) -> None:
    """Old, Business, modified and further accounts' stores, renamed copies and bare dumps are all recognised."""
    store = android.Store(tmp_path / root, brand)
    store.voice_notes(3)
    found = scan(tmp_path)
    assert found.paths == [made.original_path for made in store.made]
    assert found.paths[0].startswith(f"Media/{brand} Voice Notes/")


def test_several_stores_at_once(tmp_path: Path) -> None:
    """Old and new root, Business and a second account side by side are all read, each note once; equal names stay apart."""
    stores = [
        android.Store(tmp_path / android.CURRENT),
        android.Store(tmp_path / android.CURRENT / "accounts/1002"),
        android.Store(tmp_path / android.OLD),
        android.Store(tmp_path / android.BUSINESS, "WhatsApp Business"),
    ]
    for seed, store in enumerate(stores):
        store.voice_notes(2, seed=seed * 100)
    found = scan(tmp_path)
    assert len(found.files) == 8
    assert {found.read(file) for file in found.files} == {made.data for store in stores for made in store.made}
    assert [file.path for file in found.files] == sorted(file.path for file in found.files)
    assert [(store.notes, store.path) for store in detect(tmp_path)] == sorted((2, str(store.root)) for store in stores)


def test_case_changed_by_a_copy(tmp_path: Path) -> None:
    """A copy through a disk or a cloud that changes case is recognised all the same."""
    store = android.phone(tmp_path / "a", with_database=False)
    weeks = store.root / "Media" / "WhatsApp Voice Notes"
    target = tmp_path / "b/WHATSAPP/MEDIA/WHATSAPP VOICE NOTES"
    shutil.copytree(weeks, target)
    found = scan(tmp_path / "b")
    assert found.paths[0] == "Media/WHATSAPP VOICE NOTES/202610/PTT-20260301-WA0000.opus"
    assert {note.kind for note in found.notes} == {"voice"}


def test_renamed_voice_notes_are_known_by_their_weeks(tmp_path: Path) -> None:
    """A voice notes folder under any other name is known by its weeks, and its notes keep WhatsApp's own path."""
    store = android.phone(tmp_path / "phone", with_database=False)
    shutil.copytree(store.root / "Media/WhatsApp Voice Notes", tmp_path / "from mum's phone (1)")
    expected = sorted(made.original_path for made in store.made)
    assert scan(tmp_path / "from mum's phone (1)").paths == expected
    found = scan(tmp_path)
    assert len(found.files) == 2 * len(expected)
    assert {path.split("/")[1] for path in found.paths} == {"WhatsApp Voice Notes"}


def test_kinds_follow_folders_then_names(tmp_path: Path) -> None:
    """Voice notes, attachments (sent, private, and old voice notes among them), video notes, audio documents and statuses; nothing else."""
    store = android.Store(tmp_path)
    store.voice_notes(1)
    opus, mp3, film = opus_note(1), sounds.encoded("mp3", 1), sounds.video_note(1)
    store.attachment("AUD-20260303-WA0001.mp3", mp3)
    store.attachment("AUD-20260303-WA0002.opus", opus, inside="Sent")
    store.attachment("PTT-20130303-WA0003.aac", sounds.encoded("aac", 1), inside="Private")
    store.attachment("song without a suffix", mp3)
    store.attachment("ends with a dot.", mp3)
    store.video_note("PTV-20260303-WA0004.mp4", film)
    store.put("Media/WhatsApp Voice Notes/201540/6e4302d7aa006e4302d7aa006e4302d7.1.aac", sounds.encoded("aac", 1))
    store.put("Media/WhatsApp Documents/Sent/interview.m4a", sounds.encoded("m4a", 1))
    store.put("Media/.Statuses/0123.opus", opus)
    for other in (
        "Media/WhatsApp Documents/letter.pdf", "Media/WhatsApp Video/VID-20260303-WA0001.mp4", "Media/WhatsApp Images/IMG-1.jpg",
        "Media/.Statuses/pic.jpg", ".Shared/PTT-20260303-WA0009.opus", "Media/WhatsApp Audio/.nomedia", "Media/.Links/x.opus",
        "Media/WhatsApp Audio/._AUD-20260303-WA0001.mp3", "Backups/wa.db.crypt15", "Media/WhatsApp Stickers/x.webp",
    ):  # fmt: skip
        store.put(other, b"nothing for us")
    found = scan(tmp_path)
    assert {file.original_path.removeprefix("Media/"): file.notes[0].kind for file in found.files} == {
        "WhatsApp Voice Notes/202610/PTT-20260301-WA0000.opus": "voice",
        "WhatsApp Voice Notes/201540/6e4302d7aa006e4302d7aa006e4302d7.1.aac": "voice",
        "WhatsApp Audio/AUD-20260303-WA0001.mp3": "audio",
        "WhatsApp Audio/Sent/AUD-20260303-WA0002.opus": "audio",
        "WhatsApp Audio/Private/PTT-20130303-WA0003.aac": "voice",
        "WhatsApp Audio/song without a suffix": "audio",
        "WhatsApp Audio/ends with a dot.": "audio",
        "WhatsApp Video Notes/PTV-20260303-WA0004.mp4": "video",
        "WhatsApp Documents/Sent/interview.m4a": "audio",
        ".Statuses/0123.opus": "audio",
    }
    assert found.summary.problems == []


def test_what_is_no_audio_among_notes_is_said(tmp_path: Path) -> None:
    """A file among the notes that is audio neither by name nor by content is left out, and that is said."""
    store = android.Store(tmp_path)
    store.voice_notes(1)
    store.put("Media/WhatsApp Voice Notes/202610/index.html", b"<html>")
    store.put("Media/WhatsApp Audio/README", b"")
    found = scan(tmp_path)
    assert len(found.files) == 1
    assert found.summary.warnings == [
        "2 files among the notes left out: not audio by name or content, the first is Media/WhatsApp Audio/README"
    ]


def test_a_store_without_notes_is_recognised_and_never_complete(tmp_path: Path) -> None:
    """An empty store is no error; but it may not call anything gone, as a phone that has just been set up looks the same."""
    android.Store(tmp_path / "WhatsApp")
    found = scan(tmp_path)
    assert (found.source.type, found.files, found.summary.complete) == ("whatsapp-android", [], False)


def test_pictures_of_whatsapp_make_no_store_of_a_folder(tmp_path: Path) -> None:
    """Recordings beside a copy of WhatsApp's pictures are a folder of recordings, not a store without notes."""
    (tmp_path / "WhatsApp Images").mkdir()
    (tmp_path / "grandma.m4a").write_bytes(sounds.encoded("m4a", 1))
    found = scan(tmp_path)
    assert (found.source.type, found.paths) == ("folder", ["grandma.m4a"])
    assert [one.type for one in detect(tmp_path)] == ["folder"]


@pytest.mark.parametrize("type_", ["auto", "whatsapp-android"])
def test_nothing_recognised_says_what_was_looked_for(tmp_path: Path, type_: str) -> None:
    """Where nothing is recognised, the person learns what to name instead; scripts see it as what is typed being wrong."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/a.txt").write_text("no sound")
    with pytest.raises(SourceAbsent, match="nothing recognised in") as caught:
        open_source(Spec(tmp_path / "letters", type_), tmp_path)
    assert "com.whatsapp" in caught.value.hint
    assert caught.value.exit_code == 2
    assert detect(tmp_path / "letters") == []


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    """A source whose folder is away, or is a file, is an error of its own, so that a configured one can be carried."""
    (tmp_path / "note.opus").write_bytes(opus_note(1))
    with pytest.raises(SourceAbsent, match="is not there"):
        open_source(Spec(tmp_path / "away"), tmp_path)
    with pytest.raises(SourceAbsent, match="is a file"):
        open_source(Spec(tmp_path / "note.opus"), tmp_path)
    with pytest.raises(SourceAbsent, match="is not there"):
        detect(tmp_path / "away")


def test_a_type_that_cannot_be_read(tmp_path: Path) -> None:
    """A type of source that this program does not know is refused with those it does."""
    with pytest.raises(UsageError, match=r'sources of type "signal"') as caught:
        open_source(Spec(tmp_path, "signal"), tmp_path)
    assert not isinstance(caught.value, SourceAbsent)
    assert caught.value.hint.startswith("use auto, whatsapp-android, ")


def test_detect_says_what_each_store_is(tmp_path: Path) -> None:
    """Setting up shows each store with what can be known of it."""
    store = android.phone(tmp_path / "phone")
    business = android.Store(tmp_path / "phone" / android.BUSINESS, "WhatsApp Business")
    business.voice_notes(3)
    business.put("Databases/msgstore.db.crypt15", b"\x80\x01 not readable")
    old = android.Store(tmp_path / "phone" / android.OLD)
    old.voice_notes(2)
    assert [(one.type, one.path, one.description, one.notes) for one in detect(tmp_path / "phone")] == [
        ("whatsapp-android", str(business.root), "WhatsApp Business on Android, its database is encrypted", 3),
        ("whatsapp-android", str(store.root), "WhatsApp on Android, with a readable database", 8),
        ("whatsapp-android", str(old.root), "WhatsApp on Android, without a database", 2),
    ]


def test_a_named_folder_may_itself_be_reached_by_a_link(tmp_path: Path) -> None:
    """A person may name a link to the store."""
    store = android.phone(tmp_path / "phone", with_database=False)
    (tmp_path / "link").symlink_to(store.root)
    assert len(scan(tmp_path / "link").files) == 8
