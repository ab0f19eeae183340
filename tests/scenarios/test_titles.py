"""What people called their recordings: shown, found, learned later, never lost; and one memo of a Mac and of a phone's backup."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from tests.generators import telegram
from tests.generators.iphone_backup import IPhoneBackup
from tests.generators.sounds import encoded
from tests.generators.voice_memos import CLOUD, Recordings
from tests.scenarios.world import World

ONE, TWO = encoded("m4a", 1, 1), encoded("m4a", 1, 2)
NAME, OTHER = "20260303 140500-1A2B3C4D.m4a", "20260304 090000-5E6F7A8B.m4a"
FOLDER = "group.com.apple.VoiceMemos.shared/Recordings"


def recorded(folder: Path, **titles: str) -> Path:
    """Two memos of a Mac, with the titles they have tonight; their files are written once."""
    (folder / CLOUD).unlink(missing_ok=True)
    memos = Recordings(folder)
    for name, data, title in ((NAME, ONE, titles.get("one")), (OTHER, TWO, titles.get("two"))):
        memos.memo(name, None if (folder / name).exists() else data, title=title)
    memos.close()
    return folder


def backed_up(folder: Path, memos: Path) -> Path:
    """The same recordings in a backup of the phone."""
    backup = IPhoneBackup(folder)
    for path in sorted(memos.iterdir()):
        backup.put("AppDomainGroup-group.com.apple.VoiceMemos.shared", f"Recordings/{path.name}", path.read_bytes())
    return backup.close()


def test_titles_are_shown_and_found(world: World) -> None:
    """`list` shows a title where there is one, and the lines of other notes stay as short; `search` finds its words, in any spelling."""
    recorded(world.folder / "memos", one="Großmama erzählt \x1b[2J")
    chat = telegram.Chat("Anna", 4711, "personal_chat")
    chat.attach(4, "files/song.mp3", encoded("mp3", 1), media_type="audio_file", mime_type="audio/mpeg", title="Erbarme dich")
    telegram.export_chat(world.folder / "ChatExport_1", chat)
    world.run("memos", "ChatExport_1")
    song, memo, plain = sorted(world.backup("list").text.splitlines()[1:], key=lambda line: ("Anna" not in line, "Groß" not in line))
    assert world.backup("list").text.splitlines()[0].endswith("  title")
    assert song.endswith("  Erbarme dich")
    assert "  Großmama erzählt " in memo
    assert "\x1b" not in memo
    assert plain.endswith("  me")
    for words, title in (("GROSSMAMA", "Großmama erzählt \x1b[2J"), ("erzahlt", "Großmama erzählt \x1b[2J"), ("erbarme", "Erbarme dich")):
        assert [record["title"] for record in world.backup("search", words, "--json").json] == [title]
    assert world.backup("list", "--chat", "Voice Memos", "--until", "2026-03-03T14:05:01Z").text.count("\n") == 2
    world.backup("restore", "--to", "out")
    names = sorted(path.name for path in (world.folder / "out").rglob("*") if path.is_file())
    assert not [name for name in names if "Gro" in name or "Erb" in name]
    assert len(names) == 3


def test_without_titles_the_table_has_no_column_for_them(world: World) -> None:
    """A list of notes that nobody named looks as it always did."""
    recorded(world.folder / "memos")
    world.run("memos")
    assert world.backup("list").text.splitlines()[0].endswith("  sender")


def test_a_title_is_learned_without_reading_and_never_lost(world: World) -> None:
    """A record without title gets it the next night, and a new one when the memo is renamed, without reading any audio again; a night
    without the database, or without a title in it, takes nothing back."""
    memos = recorded(world.folder / "memos")
    world.run("memos")
    for titles, known in (({"one": "Grandma"}, "Grandma"), ({"one": "Grandma, 90"}, "Grandma, 90"), ({}, "Grandma, 90")):
        recorded(memos, **titles)
        ran = world.run("memos")
        assert (ran["notes"], ran["new"], ran["gone"], ran["bytes_read"]) == (2, 0, 0, 0)
        assert [record["title"] for record in world.records()] == [known, None]
    (memos / CLOUD).write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert world.run("memos", code=3)["new"] == 0
    (memos / CLOUD).unlink()
    assert world.run("memos")["new"] == 0
    assert [record["title"] for record in world.records()] == ["Grandma, 90", None]
    world.restic("check", "--read-data")


@pytest.mark.parametrize("order", [*permutations(("mac", "iphone")), ("both",)], ids=str)
def test_a_memo_of_a_mac_and_of_a_backup_is_one_note(world: World, order: tuple[str, ...]) -> None:
    """The same memo from the Mac's folder and from the phone's backup is one record, whichever is met first, on one night or two."""
    mac = recorded(world.folder / "stores/mac" / FOLDER, one="Grandma")
    backed_up(world.folder / "stores/iphone", mac)
    for source in order:
        world.run(world.folder / "stores" / ("" if source == "both" else source))
    records = world.records()
    assert [(record["chat_id"], record["original_path"], record["title"]) for record in records] == [
        ("voice-memos", NAME, "Grandma"),
        ("voice-memos", OTHER, None),
    ]
    assert [len(record["found"]) for record in records] == [2, 2]
