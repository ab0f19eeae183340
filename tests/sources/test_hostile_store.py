"""A store that breaks, lies or attacks: nothing hangs, nothing is followed out of it, nothing is passed over in silence."""

from __future__ import annotations

import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backup_tool.models import Problem
from backup_tool.sources.base import FileChanging, FileUnreadable
from tests.generators import android
from tests.generators.ogg import opus_note
from tests.sources.stores import Scanned, as_ordinary_user, scan

WEEK = "Media/WhatsApp Voice Notes/202610"


@pytest.fixture(params=["whatsapp-android", "folder"])
def kind(request: pytest.FixtureRequest) -> str:
    """Every promise here holds for both types of source."""
    return str(request.param)


@pytest.fixture
def week(tmp_path: Path) -> Path:
    """A week folder with one sound note, in a store at `tmp_path`."""
    store = android.Store(tmp_path / "store")
    return store.put(f"{WEEK}/PTT-20260303-WA0001.opus", opus_note(1)).location.parent


def go(week: Path, kind: str) -> Scanned:
    found = scan(week.parents[2], kind)
    assert "PTT-20260303-WA0001.opus" in found.paths[0]
    return found


def refused(found: Scanned) -> dict[str, str]:
    """Names of what was refused, with the reason; what is on record of each stays as it is."""
    assert found.summary.unreadable_folders == [problem.path for problem in found.summary.problems]
    return {problem.path.removeprefix(WEEK + "/"): problem.reason for problem in found.summary.problems}


def test_links_are_never_followed(week: Path, kind: str, tmp_path: Path) -> None:
    """A link to a file, to a folder, in a circle, to nothing or to a device is named and left alone."""
    secret = tmp_path / "secret.opus"
    secret.write_bytes(b"OggS not of this store")
    (week / "PTT-20260303-WA0002.opus").symlink_to(secret)
    (week / "PTT-20260303-WA0003.opus").symlink_to("/dev/zero")
    (week / "PTT-20260303-WA0004.opus").symlink_to("nowhere")
    (week / "round").symlink_to(week)
    (week / "outside").symlink_to(tmp_path)
    found = go(week, kind)
    assert len(found.files) == 1
    names = ["PTT-20260303-WA0002.opus", "PTT-20260303-WA0003.opus", "PTT-20260303-WA0004.opus", "outside", "round"]
    assert refused(found) == dict.fromkeys(names, "a symbolic link, which is not followed")


def test_pipes_sockets_and_devices_are_never_opened(week: Path, kind: str) -> None:
    """A named pipe called like a note, which would block a reader for ever, is named as a problem."""
    os.mkfifo(week / "PTT-20260303-WA0002.opus")
    os.mkfifo(week / "something else")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(week)  # a socket's name is short
        try:
            bound.bind("PTT-20260303-WA0003.opus")
        finally:
            os.chdir(here)
    found = go(week, kind)
    assert len(found.files) == 1
    assert refused(found) == {"PTT-20260303-WA0002.opus": "not an ordinary file", "PTT-20260303-WA0003.opus": "not an ordinary file"}


def test_a_folder_named_like_a_note_is_a_folder(week: Path, kind: str) -> None:
    """What lies in it is found."""
    (week / "PTT-20260303-WA0002.opus").mkdir()
    (week / "PTT-20260303-WA0002.opus" / "PTT-20260303-WA0003.opus").write_bytes(opus_note(1))
    assert [path.removeprefix(WEEK) for path in go(week, kind).paths] == [
        "/PTT-20260303-WA0001.opus",
        "/PTT-20260303-WA0002.opus/PTT-20260303-WA0003.opus",
    ]


def test_names_of_any_bytes_are_kept(week: Path, kind: str) -> None:
    """Names that are no text, hold line ends or control characters, or differ only in form are each found, told apart and read."""
    names = [
        b"PTT-20260303-WA0002 \xff\xfe.opus", b"line\nend.opus", b"\x1b[2J.opus", "\u202egpj.opus".encode(), b"-rf.opus", b"$(id).opus",
        "\u00e9.opus".encode(), "e\u0301.opus".encode(), "\u00c9.opus".encode(), b"%s{0}.opus", b" .opus", b"x" * 250 + b".opus",
    ]  # fmt: skip
    for number, name in enumerate(names):
        with open(bytes(week) + b"/" + name, "wb") as file:
            file.write(b"OggS%d" % number)
    found = scan(week.parents[2], kind)
    told = {found.read(file): file.path.rpartition("/")[2] for file in found.files}
    assert told[b"OggS0"] == "PTT-20260303-WA0002 \\xff\\xfe.opus"
    assert [told[b"OggS%d" % number] for number in range(1, len(names))] == [name.decode() for name in names[1:]]
    for path in told.values():
        path.encode()  # every path can be written down


def test_what_is_closed_is_named_and_the_rest_goes_on(kind: str) -> None:
    """A folder and a file that may not be read are problems; all others are taken."""
    with as_ordinary_user() as folder:
        store = android.Store(folder)
        store.put(f"{WEEK}/PTT-20260303-WA0001.opus", opus_note(1))
        closed = store.put(f"{WEEK}/PTT-20260303-WA0002.opus", opus_note(1)).location
        store.put("Media/WhatsApp Voice Notes/202611/PTT-20260310-WA0001.opus", opus_note(1))
        store.put("Media/WhatsApp Voice Notes/202612/PTT-20260317-WA0001.opus", opus_note(1))
        closed.chmod(0)
        (folder / "Media/WhatsApp Voice Notes/202611").chmod(0)
        found = scan(folder, kind)
        (folder / "Media/WhatsApp Voice Notes/202611").chmod(0o700)
        assert [path[-30:] for path in found.paths] == [
            "02610/PTT-20260303-WA0001.opus", "02610/PTT-20260303-WA0002.opus", "02612/PTT-20260317-WA0001.opus",
        ]  # fmt: skip
        assert found.summary.problems == [Problem("Media/WhatsApp Voice Notes/202611", "permission denied")]
        assert found.summary.unreadable_folders == ["Media/WhatsApp Voice Notes/202611"]
        assert found.summary.complete
        with pytest.raises(FileUnreadable, match="permission denied"):
            found.read(found.files[1])


def test_other_apps_private_folders_are_not_our_problem() -> None:
    """A phone's storage has folders that nobody may list: they are not looked into, and no night fails for them."""
    with as_ordinary_user() as folder:
        android.phone(folder, with_database=False)
        for closed in ("Android/data", "Android/obb", "lost+found"):
            (folder / closed).mkdir()
            (folder / closed).chmod(0)
        found = scan(folder)
        assert (len(found.files), found.summary.problems) == (8, [])


def test_a_store_that_cannot_be_listed_is_never_complete() -> None:
    """Nothing is called gone where the media folder itself was closed."""
    with as_ordinary_user() as folder:
        store = android.phone(folder, with_database=False)
        (store.root / "Media").chmod(0)
        found = scan(folder, "whatsapp-android")
        (store.root / "Media").chmod(0o700)
        assert (found.files, found.summary.complete) == ([], False)
        assert found.summary.problems == [Problem(f"{android.CURRENT}/Media", "permission denied")]


def test_giants_are_refused(week: Path, kind: str) -> None:
    """A sparse file of 8 GiB costs no time, and is named."""
    with open(week / "PTT-20260303-WA0002.opus", "wb") as giant:
        giant.truncate(8 * 2**30)
    found = go(week, kind)
    assert refused(found) == {"PTT-20260303-WA0002.opus": "larger than 2 GiB"}


def test_depth_is_bounded(week: Path, kind: str) -> None:
    """A tree without end is entered 64 folders deep, and that is said."""
    here = os.getcwd()
    os.chdir(week)
    try:
        for _ in range(80):
            os.mkdir("d")
            os.chdir("d")
            Path("x.opus").write_bytes(b"OggS")
    finally:
        os.chdir(here)
    found = go(week, kind)
    assert 55 < len(found.files) < 70
    assert list(refused(found).values()) == ["more than 64 folders deep"]


def test_an_empty_file_is_a_note(week: Path, kind: str) -> None:
    """A placeholder of no bytes is listed, and reads as nothing."""
    (week / "PTT-20260303-WA0002.opus").touch()
    found = go(week, kind)
    assert (found.files[1].size, list(found.source.read(found.files[1], 1024))) == (0, [])


def test_what_vanishes_while_it_is_listed_is_not_there(week: Path, kind: str) -> None:
    """A file deleted between the look at its folder and the look at itself is as if it had been deleted before."""
    source = go(week, kind).source
    for number in range(2, 6):
        (week / f"PTT-20260303-WA000{number}.opus").write_bytes(opus_note(1))
    going = iter(source.scan())
    assert next(going).path.endswith("WA0001.opus")
    (week / "PTT-20260303-WA0004.opus").unlink()
    assert [file.path[-6:-5] for file in going] == ["2", "3", "5"]


def test_a_folder_that_vanishes_is_a_problem(week: Path, kind: str) -> None:
    """Notes of a folder that went away while the store was read are not called gone."""
    other = week.with_name("202611")
    other.mkdir()
    (other / "PTT-20260310-WA0001.opus").write_bytes(opus_note(1))
    source = go(week, kind).source
    scanning = source.scan()
    going = iter(scanning)
    next(going)
    shutil.rmtree(other)
    assert list(going) == []
    assert scanning.summary.unreadable_folders == ["Media/WhatsApp Voice Notes/202611"]
    assert scanning.summary.problems[0].reason == "gone while the store was read"


class TestReading:
    """Bytes of one file."""

    def test_pieces_have_the_size_asked_for(self, week: Path, kind: str) -> None:
        """A file comes in pieces of exactly that size but for the last, and is what is on disk."""
        data = os.urandom(10_000)
        (week / "PTT-20260303-WA0002.opus").write_bytes(data)
        found = go(week, kind)
        pieces = list(found.source.read(found.files[1], 4096))
        assert [len(piece) for piece in pieces] == [4096, 4096, 1808]
        assert b"".join(pieces) == data
        assert [len(piece) for piece in found.source.read(found.files[1], 5000)] == [5000, 5000]
        assert [len(piece) for piece in found.source.read(found.files[1], 10_000)] == [10_000]

    def test_a_file_swapped_for_a_link_is_refused(self, week: Path, kind: str, tmp_path: Path) -> None:
        """A name that became a link after the scan is not followed, nor is a folder."""
        secret = tmp_path / "elsewhere"
        secret.mkdir()
        (secret / "PTT-20260303-WA0001.opus").write_bytes(b"secret")
        found = go(week, kind)
        (week / "PTT-20260303-WA0001.opus").unlink()
        (week / "PTT-20260303-WA0001.opus").symlink_to(secret / "PTT-20260303-WA0001.opus")
        with pytest.raises(FileUnreadable, match="a symbolic link, which is not followed"):
            found.read(found.files[0])

    def test_a_folder_swapped_for_a_link_is_refused(self, week: Path, kind: str, tmp_path: Path) -> None:
        """A folder that became a link after the scan is not followed either, even to a file that looks the same."""
        found = go(week, kind)
        shutil.copytree(week, tmp_path / "elsewhere")
        shutil.rmtree(week)
        week.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileUnreadable, match="not a directory"):
            found.read(found.files[0])

    def test_a_file_swapped_for_a_pipe_does_not_block(self, week: Path, kind: str) -> None:
        """A name that became a named pipe is refused at once."""
        found = go(week, kind)
        (week / "PTT-20260303-WA0001.opus").unlink()
        os.mkfifo(week / "PTT-20260303-WA0001.opus")
        with pytest.raises(FileUnreadable, match="not an ordinary file"):
            found.read(found.files[0])

    def test_a_file_that_is_gone_says_so(self, week: Path, kind: str) -> None:
        """A note deleted since the scan is unreadable, with the reason."""
        found = go(week, kind)
        (week / "PTT-20260303-WA0001.opus").unlink()
        with pytest.raises(FileUnreadable, match="gone while the store was read"):
            found.read(found.files[0])

    @pytest.mark.parametrize("how", ["grow", "shrink", "rewrite", "replace"])
    def test_a_file_written_to_while_it_is_read_is_not_kept(self, week: Path, kind: str, how: str) -> None:
        """Torn notes never get through: growing, shrinking, rewritten or replaced files are changing."""
        path = week / "PTT-20260303-WA0002.opus"
        path.write_bytes(bytes(9000))
        found = go(week, kind)
        pieces = found.source.read(found.files[1], 1000)
        next(pieces)
        if how == "grow":
            with open(path, "ab") as file:
                file.write(b"more")
        elif how == "shrink":
            os.truncate(path, 3000)
        elif how == "rewrite":
            path.write_bytes(b"y" * 9000)
        else:
            path.with_name("new").write_bytes(bytes(9000))
            os.utime(path.with_name("new"), ns=(1, found.files[1].mtime_ns))
            path.with_name("new").replace(path)
        with pytest.raises(FileChanging):
            list(pieces)

    def test_a_file_written_to_since_the_scan_is_changing(self, week: Path, kind: str) -> None:
        """A note that grew after it was listed is read again later, with its new size."""
        found = go(week, kind)
        (week / "PTT-20260303-WA0001.opus").write_bytes(opus_note(3))
        with pytest.raises(FileChanging, match="written to since it was listed"):
            found.read(found.files[0])

    def test_what_lies_outside_is_never_read(self, week: Path, kind: str, tmp_path: Path) -> None:
        """A location that is not below the source's folder is refused."""
        found = go(week, kind)
        (tmp_path / "store2").mkdir()
        (tmp_path / "store2/x.opus").write_bytes(b"secret")
        for outside in (bytes(tmp_path) + b"/store2/x.opus", bytes(week) + b"/../../../../store2/x.opus"):
            found.files[0].location = outside
            with pytest.raises(FileUnreadable, match="not a file of this source"):
                found.read(found.files[0])

    def test_two_readers_do_not_disturb_each_other(self, week: Path, kind: str) -> None:
        """Files of several folders read by several threads at once are each read whole."""
        for number in range(60):
            folder = week.with_name(f"2026{11 + number % 7}")
            folder.mkdir(exist_ok=True)
            (folder / f"PTT-20260303-WA{number:04d}.opus").write_bytes(b"OggS" + bytes([number]) * 20_000)
        found = go(week, kind)
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda file: found.read(file, 4096), found.files * 5))
        assert read == [Path(os.fsdecode(file.location)).read_bytes() for file in found.files] * 5

    def test_no_handle_stays_open(self, week: Path, kind: str) -> None:
        """Thousands of scans and reads, finished or not, leave no file open."""
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        for _ in range(20):
            found = go(week, kind)
            found.read(found.files[0])
            half = found.source.read(found.files[0], 10)
            next(half)
            going = iter(found.source.scan())
            next(going)
            del half, going, found
        if before:
            assert len(os.listdir("/proc/self/fd")) <= before + 1
