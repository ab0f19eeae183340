"""Getting notes back: restore into folders, extract one of them, and the mail draft, without ever touching what is there already."""

from __future__ import annotations

import email
import email.policy
import hashlib
import os
import socket
import threading
import tty
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from datetime import timedelta, timezone
from pathlib import Path

import pytest

from backup_tool.audio import inspect
from tests.generators.ogg import opus_note
from tests.scenarios.album import Album
from tests.scenarios.world import World


@pytest.fixture
def here(album: Album, tmp_path: Path) -> World:
    """Another folder on the machine of the album, to write into."""
    return World(tmp_path / "here", repo=album.world.repo)


@contextmanager
def reading(path: Path | int) -> Iterator[bytearray]:
    """What comes out of a pipe or terminal that somebody reads while the block lasts, and until it is closed."""
    got = bytearray()

    def read() -> None:
        source = path if isinstance(path, int) else os.open(path, os.O_RDONLY)
        with suppress(OSError):  # what a terminal says when nobody is left
            while piece := os.read(source, 65536):
                got.extend(piece)
        os.close(source)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield got
    finally:
        reader.join(timeout=60)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expected(album: Album) -> dict[str, str]:
    """Which note the archive gives back under which name, in Nepal."""
    twins = {f"Anna/2024-04-01 13-15-00 Anna {album.ids[name][:8]}.opus": name for name in ("twin", "other twin")}
    local = album.made["memo"].sent.astimezone(timezone(timedelta(hours=5, minutes=45)))
    return twins | {
        "Family/2024-03-01 13-45-00 Zoë Núñez.opus": "zoe",
        "Family/2024-03-02 00-05-00 +491700000002.opus": "ben",
        "Family/2024-03-03 14-45-00.opus": "mine",
        "Familie Müller/2024-03-05 15-45-00 Anna.opus": "keys",
        "Anna/2024-04-02 13-15-00 Anna.opus": "cut",
        "Anna/2024-04-03 13-15-00 Anna.mp4": "video",
        "unsorted/2024-03-10.opus": "found",
        f"unsorted/{local:%Y-%m-%d %H-%M-%S}.wav": "memo",
    }


def test_a_restore_gives_every_note_its_name_its_bytes_and_its_time(album: Album, here: World) -> None:
    """One file a note in a folder a chat, in ./restored unless told otherwise, dated as it was sent, for its owner's eyes only."""
    ended = here.backup("restore", "--json")
    names = expected(album)
    restored = here.folder / "restored"
    assert tree(restored) == {path: album.made[name].data for path, name in names.items()}
    for path, name in names.items():
        assert (restored / path).stat().st_mtime_ns // 10**6 == round(album.made[name].sent.timestamp() * 1000)
        assert (restored / path).stat().st_mode & 0o077 == 0
    assert list(ended.json) == ["notes", "bytes", "files", "errors"]
    assert (ended.json["notes"], ended.json["bytes"]) == (10, sum(len(made.data) for made in album.made.values()))
    assert {file["path"]: file["id"] for file in ended.json["files"]} == {f"restored/{path}": album.ids[names[path]] for path in names}
    assert all(list(file) == ["id", "path"] for file in ended.json["files"])
    assert ended.json["errors"] == []


def test_names_do_not_depend_on_the_filters(album: Album, here: World) -> None:
    """A note restored alone has the name it has among all: two of one second are told apart even when only one is asked for."""
    here.backup("restore", "--since", "2024-04-01T07:30:00.5Z", "--until", "2024-04-01T23:00", "--target", "one")
    assert list(tree(here.folder / "one")) == [f"Anna/2024-04-01 13-15-00 Anna {album.ids['other twin'][:8]}.opus"]


def test_the_original_layout_is_the_phones_own(album: Album, here: World) -> None:
    """Folders and file names as the phone had them."""
    here.backup("restore", "--layout", "original", "--to", "phone", "--source", "phone")
    notes = [made for name, made in album.made.items() if name != "memo"]
    assert tree(here.folder / "phone") == {made.original_path: made.data for made in notes}


def test_the_phones_tree_is_completed_and_replaces_nothing(album: Album, here: World) -> None:
    """Doing it again writes what is missing; another file of that name stays, with exit code 3. --dry-run shows the tree."""
    words = ("restore", "--layout", "original", "--source", "phone", "--to", "phone")
    shown = here.backup(*words, "--dry-run").text.splitlines()
    made = {f"phone/{made.original_path}": made for name, made in album.made.items() if name != "memo"}
    assert shown[:-1] == sorted(made)
    here.backup(*words)
    for path, note in made.items():
        assert (here.folder / path).stat().st_mtime_ns // 10**6 == round(note.sent.timestamp() * 1000)
    lost, other, *_ = (here.folder / path for path in sorted(made))
    lost.unlink()
    other.write_bytes(b"recorded since")
    ended = here.backup(*words, code=3)
    assert "another file has this name" in ended.told
    assert lost.read_bytes() == made[str(lost.relative_to(here.folder))].data
    assert other.read_bytes() == b"recorded since"
    assert other.with_name(f"{other.stem} (2){other.suffix}").read_bytes() == made[str(other.relative_to(here.folder))].data


def test_names_that_no_disk_holds_are_counted(world: World) -> None:
    """In the phone's layout it is said how many notes have another name there than they had, in JSON too; of others nothing is said."""
    folder = world.folder / "recorder"
    (folder / "what? really").mkdir(parents=True)
    for number, name in enumerate(("a: b.opus", "plain.opus", "what? really/plain.opus")):
        (folder / name).write_bytes(opus_note(0.5, number))
    world.run("recorder")
    ended = world.backup("restore", "--layout", "original", "--to", "out")
    assert set(tree(world.folder / "out/recorder")) == {"a_ b.opus", "plain.opus", "what_ really/plain.opus"}
    said = "2 notes had a file name that disks or phones cannot hold: other signs stand in it now, mostly _"
    assert [line for line in ended.told.splitlines() if "file name" in line] == [f"warning: {said}"]
    document = world.backup("restore", "--layout", "original", "--to", "out", "--dry-run", "--json").json
    assert (document["renamed"], document["errors"]) == (2, [])
    ended = world.backup("restore", "--layout", "original", "--to", "out", "--kind", "video", "--json")
    assert (ended.json["renamed"], ended.told) == (0, "")
    assert "renamed" not in world.backup("restore", "--to", "by chat", "--json").json


def test_everything_in_the_phones_layout_keeps_the_phone_apart(album: Album, here: World) -> None:
    """What never was on the phone stands beside its tree, below the name of its source."""
    here.backup("restore", "--layout", "original", "--to", "all")
    assert sorted(path.name for path in (here.folder / "all").iterdir()) == ["Media", "memos"]
    assert (here.folder / "all/memos/Café.wav").read_bytes() == album.made["memo"].data


def test_a_second_restore_finds_everything_there_and_completes_what_is_missing(album: Album, here: World) -> None:
    """Doing it again writes nothing again; a file that was lost meanwhile is written."""
    here.backup("restore", "--chat", "Family", "--to", "out")
    lost, *kept = sorted((here.folder / "out/Family").iterdir())
    before = {path: path.stat().st_ino for path in kept}
    lost.unlink()
    ended = here.backup("restore", "--chat", "Family", "--to", "out")
    assert ended.text.splitlines() == ["restored 3 notes, 13.6 KB, to out", "2 files of them were there already"]
    assert {path: path.stat().st_ino for path in kept} == before
    assert hashlib.sha256(lost.read_bytes()).hexdigest() == album.ids["zoe"]


def test_a_different_file_of_that_name_is_never_replaced_unless_told(album: Album, here: World) -> None:
    """Somebody's own file stays; the note stands beside it as (2) and the exit code is 3. With --overwrite it takes the place."""
    mine = here.folder / "out/Familie Müller/2024-03-05 15-45-00 Anna.opus"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"my own work")
    words = ("restore", "--chat", "muller", "--to", "out")
    ended = here.backup(*words, "--json", code=3)
    beside = mine.with_name("2024-03-05 15-45-00 Anna (2).opus")
    assert tree(mine.parent) == {mine.name: b"my own work", beside.name: album.made["keys"].data}
    assert [file["path"] for file in ended.json["files"]] == [str(beside.relative_to(here.folder))]
    here.backup(*words)
    assert len(tree(mine.parent)) == 2
    here.backup(*words, "--overwrite")
    assert mine.read_bytes() == album.made["keys"].data


def test_a_dry_run_tells_the_paths_and_writes_nothing(album: Album, here: World) -> None:
    """What would be written where, and not even the folder is made."""
    ended = here.backup("restore", "--chat", "Family", "--dry-run", "--json")
    assert ended.json["notes"] == 3
    assert {file["path"] for file in ended.json["files"]} == {f"restored/{path}" for path in expected(album) if path.startswith("Family/")}
    text = here.backup("restore", "--chat", "Family", "-n", "--to", "there").text
    assert "there/Family/2024-03-03 14-45-00.opus\n" in text
    assert text.splitlines()[-1].startswith("would restore 3 notes")
    assert not {"restored", "there"} & {path.name for path in here.folder.iterdir()}


def test_extract_writes_where_it_is_told_to(album: Album, here: World) -> None:
    """A file, a folder, stdout, or a name made from the note: the exact bytes, dated by the moment it was sent."""
    zoe, data = album.ids["zoe"], album.made["zoe"].data
    assert here.backup("extract", zoe[:10].upper(), "--to", "-").out == data
    ended = here.backup("extract", zoe[:8], "--to", "note.opus", "--json")
    assert ended.json == {"notes": 1, "bytes": len(data), "files": [{"id": zoe, "path": "note.opus"}], "errors": []}
    (here.folder / "folder").mkdir()
    assert here.backup("extract", zoe, "--to", "folder").text == "wrote folder/2024-03-01 13-45-00 Zoë Núñez.opus\n"
    here.backup("extract", zoe)
    files = ["note.opus", "folder/2024-03-01 13-45-00 Zoë Núñez.opus", "2024-03-01 13-45-00 Zoë Núñez.opus"]
    for file in files:
        assert (here.folder / file).read_bytes() == data
        assert (here.folder / file).stat().st_mtime_ns // 10**6 == 1709280000123
    (here.folder / "note.opus").write_bytes(b"mine")
    assert here.backup("extract", zoe, "--to", "note.opus", code=3).text == "wrote note (2).opus\n"
    assert (here.folder / "note.opus").read_bytes() == b"mine"
    here.backup("extract", zoe, "--to", "note.opus", "--overwrite")
    assert (here.folder / "note.opus").read_bytes() == data


def test_an_id_may_be_shortened_as_long_as_it_names_one_note(album: Album, here: World) -> None:
    """Four digits are enough where no other note begins with them; where two do, both are named."""
    one, other = album.ids["twin"], album.ids["other twin"]
    told = here.backup("extract", one[:4], "--to", "-", code=2)
    assert told.out == b""
    assert f'error: 2 notes begin with "{one[:4]}"' in told.told
    assert one[:12] in told.told
    assert other[:12] in told.told
    shortest = next(n for n in range(5, 64) if one[:n] != other[:n])
    assert here.backup("extract", other[:shortest], "--to", "-").out == album.made["other twin"].data


def test_latest_is_the_newest_that_the_filters_let_through(album: Album, here: World) -> None:
    """`extract latest` alone, and of one chat."""
    assert here.backup("extract", "latest", "--to", "-").out == album.made["memo"].data
    assert here.backup("extract", "latest", "--chat", "family", "--kind", "voice", "--to", "-").out == album.made["mine"].data


def test_a_mail_draft_holds_the_note_and_what_is_known_of_it(album: Album, here: World) -> None:
    """An .eml that mail programs open for sending: subject, facts, and the recording itself attached under a plain name."""
    here.backup("extract", album.ids["zoe"], "--eml", "note.eml", "--format", "original")
    assert [path.name for path in here.folder.iterdir() if path.suffix in (".eml", ".opus")] == ["note.eml"]
    message = email.message_from_bytes((here.folder / "note.eml").read_bytes(), policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    assert (message["X-Unsent"], message["Subject"]) == ("1", "Voice note from Zoë Núñez – 2024-03-01 13:45")
    body = message.get_body()
    assert body is not None
    assert body.get_content().splitlines()[:4] == ["From: Zoë Núñez", "Sent: 2024-03-01 13:45", "Chat: Family", "Length: 0:02"]
    [attached] = message.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("2024-03-01_1345_zoe-nunez_family.opus", "audio/ogg")
    assert attached.get_content() == album.made["zoe"].data


def test_a_mail_draft_plays_in_every_mail_program(album: Album, here: World) -> None:
    """Unless told otherwise the note is attached as MP3, whose tags tell nothing of the archive."""
    out = here.backup("extract", album.ids["zoe"], "--eml", "-").out
    message = email.message_from_bytes(out, policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    [attached] = message.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("2024-03-01_1345_zoe-nunez_family.mp3", "audio/mpeg")
    assert inspect(attached.get_content()).media_type == "audio/mpeg"
    assert album.ids["zoe"].encode() not in attached.get_content()
    assert "VLC" not in str(message.get_body())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--to", "-", "--json"), "both want stdout"),
        (("--to", "no/such/folder/x.opus"), "there is no folder no/such/folder"),
        (("--eml", "."), "is a folder"),
    ],
)
def test_an_extract_that_cannot_be_done_as_typed_leaves_nothing(here: World, words: tuple[str, ...], told: str) -> None:
    """Exit code 2, one clear line, and no file."""
    before = tree(here.folder)
    assert told in here.backup("extract", "latest", *words, code=2).told
    assert tree(here.folder) == before


def test_a_note_goes_through_a_pipe(album: Album, here: World) -> None:
    """A named pipe is written to, note or draft, for the program that reads it; it stays a pipe, --overwrite or not."""
    pipe = here.folder / "pipe"
    os.mkfifo(pipe)
    for words in ((), ("--overwrite",)):
        with reading(pipe) as got:
            assert here.backup("extract", album.ids["zoe"], "--to", "pipe", *words).text == "wrote pipe\n"
        assert bytes(got) == album.made["zoe"].data
    with reading(pipe) as got:
        here.backup("extract", album.ids["zoe"], "--format", "wav", "--to", "pipe")
    assert inspect(bytes(got)).media_type == "audio/wav"
    with reading(pipe) as got:
        here.backup("extract", album.ids["zoe"], "--eml", "pipe")
    assert email.message_from_bytes(bytes(got), policy=email.policy.default)["X-Unsent"] == "1"
    assert pipe.is_fifo()
    assert [path.name for path in here.folder.glob("pipe*")] == ["pipe"]


def test_a_note_goes_to_a_device(album: Album, here: World) -> None:
    """A device is written to and stays one: a terminal, or the one that takes everything."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    name = os.ttyname(theirs)
    with reading(ours) as got:
        here.backup("extract", album.ids["zoe"], "--to", name, "--overwrite")
        os.close(theirs)
    assert bytes(got) == album.made["zoe"].data
    before = os.listdir("/dev")
    assert here.backup("extract", album.ids["zoe"], "--to", "/dev/null", "--json").json["files"] == [
        {"id": album.ids["zoe"], "path": "/dev/null"}
    ]
    assert sorted(os.listdir("/dev")) == sorted(before)


def test_stdout_by_its_other_names_is_stdout(album: Album, here: World) -> None:
    """/dev/stdout gives the recording and nothing besides, into a pipe and into a file; one document of JSON it cannot be as well."""
    assert here.backup("extract", album.ids["zoe"], "--to", "/dev/stdout").out == album.made["zoe"].data
    with open(here.folder / "note", "wb") as file:
        here.backup("extract", album.ids["zoe"], "--to", "/dev/fd/1", stdout=file)
    assert (here.folder / "note").read_bytes() == album.made["zoe"].data
    assert "both want stdout" in here.backup("extract", album.ids["zoe"], "--to", "/dev/stdout", "--json", code=2).told


@pytest.mark.parametrize(
    ("place", "code", "told"),
    [
        ("/dev/full", 14, "no space left to write /dev/full"),
        ("/dev/no such device", 2, "there is no device"),
        ("socket", 2, "is a socket"),
    ],
)
def test_what_takes_no_note_is_told_so(album: Album, here: World, place: str, code: int, told: str) -> None:
    """A full device, one that is not there, a socket: one clear line, and nothing is made in their place."""
    with socket.socket(socket.AF_UNIX) as listening, chdir(here.folder):
        listening.bind("socket")
    before = sorted(os.listdir("/dev"))
    assert told in here.backup("extract", album.ids["zoe"], "--to", place, "--overwrite", code=code).told
    assert (sorted(os.listdir("/dev")), (here.folder / "socket").is_socket()) == (before, True)
