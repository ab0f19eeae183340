"""A readable copy for people: files, a table, records and playlists, in a folder that can be exported to again and again."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from tests.generators.ogg import opus_note
from tests.scenarios.album import Album
from tests.scenarios.world import World


@pytest.fixture
def here(album: Album, tmp_path: Path) -> World:
    """Another folder on the machine of the album, to write into."""
    return World(tmp_path / "here", repo=album.world.repo)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_is_whole(album: Album, here: World) -> None:
    """Every note is a file with a name to read; table, records and playlists name each of them, and nothing else is there."""
    ended = here.backup("export", "--to", "out", "--json").json
    out = here.folder / "out"
    files = tree(out)
    lists = {name for name in files if "/" not in name}
    assert lists == {
        "notes.csv", "notes.json", "Family.m3u8", "Familie Müller.m3u8", "Anna.m3u8", "unsorted.m3u8", ".backup-export.json",
    }  # fmt: skip
    assert list(ended) == ["notes", "bytes", "files", "errors", "lists"]
    assert {Path(path).relative_to("out").as_posix() for path in ended["lists"]} == lists - {".backup-export.json"}
    records = json.loads(files["notes.json"])
    assert {record["file"] for record in records} == set(files) - lists
    assert [{key: value for key, value in record.items() if key != "file"} for record in records] == here.records()
    rows = list(csv.DictReader(io.StringIO(files["notes.csv"].decode("utf-8-sig"), newline="")))
    assert [(row["file"], row["id"]) for row in rows] == [(record["file"], record["id"]) for record in records]
    [keys] = [row for row in rows if row["chat"] == "Familie Müller"]
    assert (keys["sent"], keys["sender"], keys["transcript"]) == ("2024-03-05 15:45:00", "Anna", "Die Schlüssel sind unter der Matte")
    assert [row["sender"] for row in rows if row["file"].startswith("Family/")] == ["Zoë Núñez", "'+491700000002", "me"]
    played = [line for line in files["Family.m3u8"].decode().splitlines() if not line.startswith("#")]
    assert played == [row["file"] for row in rows if row["chat"] == "Family"]
    for record in records:
        assert (out / record["file"]).read_bytes() in [made.data for made in album.made.values()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in out.rglob("*"))


def test_an_export_can_be_repeated(album: Album, here: World) -> None:
    """The same again writes the same bytes; other filters renew the lists and leave the files of before."""
    here.backup("export", "--to", "out", "--chat", "Family")
    before = tree(here.folder / "out")
    here.backup("export", "--to", "out", "--chat", "Family")
    assert tree(here.folder / "out") == before
    here.backup("export", "--to", "out", "--chat", "muller")
    after = tree(here.folder / "out")
    assert len(json.loads(after["notes.json"])) == 1
    assert {name for name in before if name not in ("notes.csv", "notes.json", ".backup-export.json")} <= set(after)
    here.backup("export", "--to", "out")
    assert len(json.loads(tree(here.folder / "out")["notes.json"])) == len(here.records())


def test_nothing_of_anybody_elses_is_replaced(album: Album, here: World) -> None:
    """A table that a person wrote, or wrote into, stays; the new one stands beside it, the same one each time, and the exit code is 3."""
    out = here.folder / "out"
    out.mkdir()
    (out / "notes.csv").write_text("my own")
    words = ("export", "--to", "out", "--chat", "muller")
    ended = here.backup(*words, code=3)
    assert "notes.csv: something else has this name: written as notes (2).csv" in ended.told
    first = (out / "notes (2).csv").read_bytes()
    (out / "Familie Müller.m3u8").write_text("my own too")
    here.backup(*words, "--saved", code=3)
    assert (out / "notes (2).csv").read_bytes() != first
    here.backup(*words, code=3)
    assert (out / "notes (2).csv").read_bytes() == first
    assert (out / "notes.csv").read_text() == "my own"
    assert (out / "Familie Müller.m3u8").read_text() == "my own too"
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        "notes.csv", "notes (2).csv", "notes.json", "Familie Müller.m3u8", "Familie Müller (2).m3u8", ".backup-export.json",
    }  # fmt: skip


def test_chats_may_be_called_as_the_lists_are(world: World) -> None:
    """Chats whose names an export needs for its lists get digits into the name of their folder: every list is written, every time."""
    titles = ["notes", "notes.csv", "Notes.JSON", "Family", "family.m3u8"]
    for number, title in enumerate(titles):
        (world.folder / "memo.opus").write_bytes(opus_note(0.5, number))
        world.backup("import", "memo.opus", "--chat", title, "--date", "2026-03-03")
    for _ in range(2):
        assert world.backup("export", "--to", "out", "--json").json["errors"] == []
    lists = {name for name in tree(world.folder / "out") if "/" not in name} - {"notes.csv", "notes.json", ".backup-export.json"}
    folders = {path.name for path in (world.folder / "out").iterdir() if path.is_dir()}
    assert lists == {f"{name}.m3u8" for name in folders}
    assert {"Family", "notes"} < folders
    assert sorted(re.sub(" [0-9a-f]{4}$", "", name) for name in folders) == sorted(titles)
    played = [line for line in (world.folder / "out/Family.m3u8").read_text().splitlines() if not line.startswith("#")]
    assert [line.partition("/")[0] for line in played] == ["Family"]


def test_a_list_that_is_no_longer_ours_is_called_so(album: Album, here: World) -> None:
    """Whoever wrote into the table of the last export is told that, and nothing of other files."""
    words = ("export", "--to", "out", "--chat", "muller")
    here.backup(*words)
    (here.folder / "out/notes.csv").write_text("my own")
    assert "notes.csv: is not as the last export left it: written as notes (2).csv" in here.backup(*words, code=3).told


@pytest.mark.parametrize("content", [b"", b"[1]", b"[" * 70_000, b'[{"name":"../x","size":6,"sha256":"x"}]'])
def test_an_odd_memory_of_the_last_export_replaces_nothing(album: Album, here: World, content: bytes) -> None:
    """What the folder says of earlier exports is believed only as far as the very bytes of our own lists go."""
    out = here.folder / "out"
    out.mkdir()
    (out / "notes.csv").write_text("my own")
    (out / ".backup-export.json").write_bytes(content)
    here.backup("export", "--to", "out", "--chat", "muller", code=3)
    assert (out / "notes.csv").read_text() == "my own"


@pytest.mark.parametrize("verb", ["restore", "export"])
def test_a_folder_without_a_name_is_not_this_one(here: World, verb: str) -> None:
    """A script whose variable is not set spreads no notes over the folder that it runs in."""
    before = set(here.folder.iterdir())
    assert "--to names no folder" in here.backup(verb, "--to", "", code=2).told
    assert set(here.folder.iterdir()) == before


def test_a_dry_run_of_an_export_writes_nothing(album: Album, here: World) -> None:
    """Every path is named, and not even the folder is made."""
    ended = here.backup("export", "--to", "out", "--chat", "muller", "--dry-run")
    assert ended.text.splitlines() == [
        "out/notes.csv", "out/notes.json", "out/Familie Müller.m3u8", "out/Familie Müller/2024-03-05 15-45-00 Anna.opus",
        f"would export 1 note, {len(album.made['keys'].data) / 1000:.1f} KB, to out",
    ]  # fmt: skip
    assert not (here.folder / "out").exists()
