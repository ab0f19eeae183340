"""Notes given back in other formats: as copies that any player takes, with the recordings themselves untouched in the archive."""

from __future__ import annotations

import hashlib
import io
import wave
from pathlib import Path

import pytest

from backup_tool.audio import inspect
from tests.audio.judge import by_ffmpeg
from tests.generators.ogg import opus_note
from tests.generators.old import put_old
from tests.scenarios.album import Album
from tests.scenarios.conftest import NewWorld
from tests.scenarios.test_giving_back import expected, tree
from tests.scenarios.world import World

FORMATS = {"ogg": "audio/ogg; codecs=opus", "mp3": "audio/mpeg", "m4a": "audio/mp4", "wav": "audio/wav"}


@pytest.fixture
def here(album: Album, tmp_path: Path) -> World:
    """Another folder on the machine of the album, to write into."""
    return World(tmp_path / "here", repo=album.world.repo)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_a_restore_in_a_format_gives_copies_under_the_same_names(album: Album, here: World, format: str) -> None:
    """Each note is a file of that format, called as its original would be, as long as it, dated as it was sent."""
    ended = here.backup("restore", "--format", format, "--json")
    names = {str(Path(path).with_suffix(f".{format}")): name for path, name in expected(album).items()}
    made = tree(here.folder / "restored")
    assert set(made) == set(names)
    for path, data in made.items():
        facts, original = inspect(data), inspect(album.made[names[path]].data)
        assert (facts.media_type, facts.damaged) == (FORMATS[format], None)
        if names[path] != "cut":
            assert facts.duration == pytest.approx(original.duration, abs=0.25)
        written = here.folder / "restored" / path
        assert written.stat().st_mtime_ns // 10**6 == round(album.made[names[path]].sent.timestamp() * 1000)
        assert written.stat().st_mode & 0o077 == 0
    assert {file["path"]: file["id"] for file in ended.json["files"]} == {
        f"restored/{path}": album.ids[name] for path, name in names.items()
    }


def test_a_copy_says_who_speaks_and_which_recording_it_is_of(album: Album, here: World) -> None:
    """Title, person, chat and the moment it was sent are in the tags, and the id of the original by which it can be proved."""
    here.backup("restore", "--chat", "Family", "--sender", "zoe", "--format", "mp3")
    [(_, data)] = tree(here.folder / "restored").items()
    with by_ffmpeg(data) as container:
        said = container.metadata
    assert said["title"] == "Voice note from Zoë Núñez – 2024-03-01 13:45"
    assert (said["artist"], said["album"], said["date"]) == ("Zoë Núñez", "Family", "2024-03-01T13:45:00+05:45")
    assert said["comment"] == f"original SHA-256 {album.ids['zoe']}"


def test_a_second_restore_finds_its_copies_whatever_made_them(album: Album, here: World) -> None:
    """Copies that are there are left alone, also those that other versions made with other bytes; one that was lost is made again."""
    first = here.backup("restore", "--chat", "Family", "--format", "mp3", "--to", "out")
    assert first.text.splitlines()[0].startswith("restored 3 notes")
    lost, other, kept = sorted((here.folder / "out/Family").iterdir())
    lost.unlink()
    other.write_bytes(other.read_bytes() + bytes(417))
    before = {path: path.read_bytes() for path in (other, kept)}
    again = here.backup("restore", "--chat", "Family", "--format", "mp3", "--to", "out")
    assert again.text.splitlines()[1] == "2 files of them were there already"
    assert {path: path.read_bytes() for path in (other, kept)} == before
    assert inspect(lost.read_bytes()).media_type == "audio/mpeg"
    assert len(tree(here.folder / "out")) == 3


def test_somebody_elses_file_of_that_name_stays(album: Album, here: World) -> None:
    """A file that is no copy of the note is not replaced: the copy stands beside it, is found again; --overwrite takes the place."""
    mine = here.folder / "out/Familie Müller/2024-03-05 15-45-00 Anna.mp3"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"my own work")
    words = ("restore", "--chat", "muller", "--format", "mp3", "--to", "out")
    here.backup(*words, code=3)
    here.backup(*words)
    beside = mine.with_name("2024-03-05 15-45-00 Anna (2).mp3")
    assert {path.name for path in mine.parent.iterdir()} == {mine.name, beside.name}
    assert mine.read_bytes() == b"my own work"
    here.backup(*words, "--overwrite")
    assert mine.read_bytes() == beside.read_bytes()


def test_originals_and_copies_do_not_stand_in_each_others_way(album: Album, here: World) -> None:
    """Restored as recorded first, a chat can be had as MP3 in the same folder; the recordings keep their bytes."""
    here.backup("restore", "--chat", "Family", "--to", "out")
    here.backup("restore", "--chat", "Family", "--format", "mp3", "--to", "out")
    by_suffix = [path.suffix for path in sorted((here.folder / "out/Family").iterdir())]
    assert by_suffix == [".mp3", ".opus"] * 3
    ids = {hashlib.sha256(data).hexdigest() for path, data in tree(here.folder / "out").items() if path.endswith(".opus")}
    assert ids == {album.ids[name] for name in ("zoe", "ben", "mine")}


def test_a_note_that_cannot_be_played_is_given_back_as_it_is(new_world: NewWorld, tmp_path: Path) -> None:
    """It comes under its own name with its own bytes, is named with the reason, and the exit code is 3; the others are converted."""
    world = new_world(tmp_path / "machine")
    store = world.folder / "notes"
    store.mkdir()
    broken = b"OggS" + bytes(range(256)) * 8
    put_old(store / "PTT-20260301-WA0001.opus", broken)
    put_old(store / "PTT-20260302-WA0002.opus", opus_note(1.0, 1))
    put_old(store / "PTT-20260303-WA0003.opus", b"")
    world.run("notes")
    ended = world.backup("restore", "--format", "mp3", "--json", code=3)
    made = tree(world.folder / "restored/unsorted")
    assert (made["2026-03-01.opus"], made["2026-03-03.opus"]) == (broken, b"")
    assert inspect(made["2026-03-02.mp3"]).media_type == "audio/mpeg"
    assert len(made) == 3
    assert [error["path"] for error in ended.json["errors"]] == ["unsorted/2026-03-01.mp3", "unsorted/2026-03-03.mp3"]
    assert all(error["reason"].startswith("given back as it is: ") for error in ended.json["errors"])
    assert world.backup("restore", "--format", "mp3", code=3).text.splitlines()[1] == "3 files of them were there already"
    told = world.backup("extract", hashlib.sha256(broken).hexdigest(), "--format", "mp3", code=3)
    assert told.text == "wrote 2026-03-01.opus\n"
    assert (world.folder / "2026-03-01.opus").read_bytes() == broken


def test_many_notes_are_converted_by_two_processes_to_the_same_copies(new_world: NewWorld, tmp_path: Path) -> None:
    """Whether a few are converted here or many by workers, each note gets the same copy; a long one of many pieces too."""
    world = new_world(tmp_path / "machine")
    store = world.folder / "notes"
    store.mkdir()
    for number in range(40):
        put_old(store / f"PTT-20260301-WA{number:04}.opus", opus_note(0.5, number))
    put_old(store / "long.wav", silence(150))
    world.run("notes")
    world.backup("restore", "--format", "m4a", "--to", "all")
    made = tree(world.folder / "all")
    assert len(made) == 41
    assert all(inspect(data).media_type == "audio/mp4" for data in made.values())
    record = world.records()[7]
    world.backup("extract", record["id"], "--format", "m4a", "--to", "one.m4a")
    assert (world.folder / "one.m4a").read_bytes() in made.values()
    [long] = [data for data in made.values() if (inspect(data).duration or 0) > 100]
    assert inspect(long).duration == pytest.approx(150, abs=0.2)


def test_one_note_is_extracted_in_a_format_to_wherever_it_is_wanted(album: Album, here: World) -> None:
    """A file, a folder, stdout: the same copy; and the archive gives the recording itself as before."""
    zoe = album.ids["zoe"]
    out = here.backup("extract", zoe, "--format", "wav", "--to", "-").out
    with wave.open(io.BytesIO(out)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert file.getnframes() / 16000 == pytest.approx(2.5, abs=0.1)
    (here.folder / "folder").mkdir()
    here.backup("extract", zoe, "--format", "wav", "--to", "folder")
    assert (here.folder / "folder/2024-03-01 13-45-00 Zoë Núñez.wav").read_bytes() == out
    assert here.backup("extract", zoe, "--to", "-").out == album.made["zoe"].data


def test_several_notes_are_extracted_into_a_folder(album: Album, here: World) -> None:
    """Named one after the other, each gets a file; one file for all is refused, and nothing is written."""
    ids = [album.ids[name] for name in ("zoe", "twin", "other twin")]
    told = here.backup("extract", *ids, "--to", "note.opus", code=2).told
    assert "error: note.opus is one place for 3 notes" in told
    assert not (here.folder / "note.opus").exists()
    (here.folder / "folder").mkdir()
    ended = here.backup("extract", *ids, ids[0], "--to", "folder", "--json")
    assert (ended.json["notes"], len(ended.json["files"])) == (3, 3)
    assert {hashlib.sha256(data).hexdigest() for data in tree(here.folder / "folder").values()} == set(ids)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("restore", "--format", "flac"), '"flac" is not a format'),
        (("restore", "--format", "mp3", "--layout", "original"), "the phone's own files"),
        (("extract", "latest", "--format", "MP3"), '"MP3" is not a format'),
    ],
)
def test_a_format_that_is_none_is_told_before_anything_is_written(here: World, words: tuple[str, ...], told: str) -> None:
    """Exit code 2 with the formats that there are, and no file."""
    before = tree(here.folder)
    assert told in here.backup(*words, code=2).told
    assert tree(here.folder) == before


def silence(seconds: int) -> bytes:
    """A WAV file of more than 4 MiB, by the standard library."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(32000 * seconds))
    return out.getvalue()
