"""WhatsApp on a Mac: its group container is found and read as it lies there, also while the app runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from backup_tool.models import Problem
from backup_tool.sources.apple import MacRecogniser, describe
from backup_tool.sources.tree import Tree
from tests.generators.chatstorage import ChatStorage
from tests.generators.iphone_backup import WHATSAPP, IPhoneBackup
from tests.generators.ogg import opus_note
from tests.sources.apple_stores import ANNA, SENT, Container, found_in, iphone, mac, media
from tests.sources.stores import as_ordinary_user, everything, scan

GROUP = "Library/Group Containers/group.net.whatsapp.WhatsApp.shared"
NOTE, OTHER = opus_note(1.0, seed=1), opus_note(1.0, seed=2)


def filled(folder: Path, *, running: bool = False) -> Container:
    """A container with one note; `running`: its message is still in the `-wal`."""
    container = Container(folder)
    container.put(media(1), NOTE)
    container.put("Media/x@g.us/a/b/picture.jpg", b"\xff\xd8\xff")
    container.put(f"{media(1)}.thumb", b"a preview")
    storage = container.storage(wal=running)
    storage.message(storage.chat(ANNA, "Anna"), "K", sent=SENT, file=media(1))
    if running:
        storage.close_running()
    else:
        storage.close()
    return container


@pytest.mark.parametrize("running", [False, True])
def test_notes_of_a_mac(tmp_path: Path, running: bool) -> None:
    """Notes have bytes, message and the app's own path, also where the app has not written its messages back yet; nothing is touched."""
    filled(tmp_path / GROUP, running=running)
    before = everything(tmp_path)
    found = mac(tmp_path)
    assert found.paths == [f"Message/{media(1)}"]
    assert [(note.message_id, note.chat) for note in found.notes] == [("K", "Anna")]
    assert found.read(found.files[0]) == NOTE
    assert found.files[0].path == f"{GROUP}/Message/{media(1)}"
    assert (found.summary.database, found.summary.complete, found.source.plain) == (f"{GROUP}/ChatStorage.sqlite", True, True)
    assert (found.summary.problems, found.summary.warnings) == ([], [])
    assert everything(tmp_path) == before


def test_it_reads_from_a_read_only_disk() -> None:
    """A copy on media that nobody can write to, its `-wal` included, is read like any other."""
    with as_ordinary_user() as folder:
        container = filled(folder / "copy", running=True)
        paths = [*container.folder.rglob("*"), container.folder]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            assert [note.message_id for note in mac(folder / "copy").notes] == ["K"]
        finally:
            for path in reversed(paths):
                path.chmod(0o755)


def test_the_same_note_on_phone_and_mac_has_one_path(tmp_path: Path) -> None:
    """A note has the same path, message and chat in a device backup and in the container that it comes from."""
    container = filled(tmp_path / "mac")
    backup = IPhoneBackup(tmp_path / "phone", password="word")
    backup.put(WHATSAPP, f"Message/{media(1)}", NOTE)
    backup.put_database(WHATSAPP, "ChatStorage.sqlite", container.folder / "ChatStorage.sqlite")
    backup.close()
    here, there = mac(tmp_path / "mac"), iphone(tmp_path / "phone", "word")
    assert here.paths == there.paths
    for one, other in zip(here.notes, there.notes, strict=True):
        one.mtime_ns = other.mtime_ns
        assert one == other


class TestRecognising:
    """A container is known by what is in it."""

    def test_at_any_level_under_any_name(self, tmp_path: Path) -> None:
        """The home folder, the container, and copies under other names; both apps; their folders are nobody else's."""
        filled(tmp_path / GROUP)
        filled(tmp_path / "Library/Group Containers/group.net.whatsapp.WhatsAppSMB.shared")
        filled(tmp_path / "old/my copy")
        found = found_in(tmp_path, MacRecogniser())
        assert found == [GROUP, "Library/Group Containers/group.net.whatsapp.WhatsAppSMB.shared", "old/my copy"]
        tree = Tree(os.fsencode(tmp_path))
        assert [describe(tree, store) for store in found] == [
            "WhatsApp on a Mac, with its database", "WhatsApp Business on a Mac, with its database", "WhatsApp on a Mac, with its database",
        ]  # fmt: skip

    def test_media_without_a_database_are_salvaged(self, tmp_path: Path) -> None:
        """Where only the media were copied, notes keep their chat and the time of their files, and that is said."""
        container = filled(tmp_path / "copy")
        (container.folder / "ChatStorage.sqlite").unlink()
        found = mac(tmp_path)
        assert [(note.chat_id, note.sent_at, note.sent_at_from) for note in found.notes] == [(ANNA, "2026-03-03T14:06:00Z", "file")]
        assert found.summary.warnings == ["copy has no ChatStorage.sqlite: notes have no sender, and times are those of their files"]
        assert describe(Tree(os.fsencode(tmp_path)), "copy") == "WhatsApp on a Mac, without a database"

    def test_names_alone_are_nothing(self, tmp_path: Path) -> None:
        """A file of that name that is no database, or a folder `Message` of something else, is no container."""
        (tmp_path / "a").mkdir()
        (tmp_path / "a/ChatStorage.sqlite").write_bytes(b"encrypted or whatever")
        (tmp_path / "b/Message/Media/2026").mkdir(parents=True)
        assert found_in(tmp_path, MacRecogniser()) == []


def test_a_container_without_any_media_yet(tmp_path: Path) -> None:
    """A Mac that was only just linked has messages and no files: they count as never loaded."""
    container = Container(tmp_path / "new")
    storage = container.storage()
    storage.message(storage.chat(ANNA, "Anna"), "K", sent=SENT, file=None)
    storage.close()
    found = mac(tmp_path)
    assert [note.message_id for note in found.summary.not_downloaded] == ["K"]
    assert (found.files, found.summary.problems, found.summary.complete) == ([], [], False)


@pytest.mark.parametrize("written", ["ChatStorage.sqlite", "ChatStorage.sqlite-wal"])
def test_two_copies_of_one_container_are_one(tmp_path: Path, written: str) -> None:
    """Of a container that was copied, each note is listed once, from the copy that was written to last."""
    old = filled(tmp_path / "old")
    old.put(media(2), OTHER)
    shutil.copytree(old.folder, tmp_path / "new")
    (tmp_path / "new" / written).touch()
    for name, moment in (("old/ChatStorage.sqlite", SENT), ("new/ChatStorage.sqlite", SENT - 9), (f"new/{written}", SENT + 100)):
        os.utime(tmp_path / name, (moment, moment))
    (tmp_path / "new/Message" / media(2)).unlink()
    found = mac(tmp_path)
    assert [file.path for file in found.files] == [f"new/Message/{media(1)}", f"old/Message/{media(2)}"]
    assert (found.summary.files, len(found.notes)) == (2, 2)


@pytest.mark.parametrize("level", ["Message", "Message/Media", f"Message/Media/{ANNA}"])
@pytest.mark.parametrize("above", [True, False])
def test_any_folder_of_the_container_will_do(tmp_path: Path, level: str, above: bool) -> None:
    """A copy of `Message`, of what is in it or of one chat's folder, named itself or with the folder above, has the same paths and chats as
    the whole container; without the folder's own name above it a single chat cannot be known."""
    container = filled(tmp_path / "copy")
    alone = tmp_path / "alone" / ("some name" if above and "@" not in level else Path(level).name)
    shutil.copytree(container.folder / level, alone)
    found = scan(alone.parent if above else alone, "whatsapp-mac")
    assert found.paths == [f"Message/{media(1)}"]
    assert [(note.chat_id, note.message_id) for note in found.notes] == [(ANNA, None)]
    assert (found.read(found.files[0]), found.summary.problems, found.summary.complete) == (NOTE, [], True)


@pytest.mark.parametrize("closed", ["Message", "ChatStorage.sqlite"])
def test_what_is_closed_is_a_problem(closed: str) -> None:
    """Recordings, or a database, that may not be read are named as such, and never taken for absent."""
    with as_ordinary_user() as folder:
        container = filled(folder / "copy")
        (container.folder / closed).chmod(0)
        try:
            found = mac(folder / "copy")
        finally:
            (container.folder / closed).chmod(0o700)
    (problem,) = found.summary.problems
    assert problem.path == ("Message/Media" if closed == "Message" else closed)
    assert "permission denied" in problem.reason
    assert found.summary.unreadable_folders == (["Message/Media"] if closed == "Message" else [])
    assert found.summary.missing == []
    assert not any("has no ChatStorage" in warning for warning in found.summary.warnings)


def test_links_are_never_followed(tmp_path: Path) -> None:
    """A link among the media, or in the place of the database, is named and left alone."""
    container = filled(tmp_path / "copy")
    (tmp_path / "secret.opus").write_bytes(OTHER)
    place = container.put(media(3), b"")
    place.unlink()
    place.symlink_to(tmp_path / "secret.opus")
    storage = ChatStorage(tmp_path / "elsewhere.sqlite")
    storage.close()
    (container.folder / "ContactsV2.sqlite").symlink_to(storage.path)
    found = mac(tmp_path / "copy")
    assert [found.read(file) for file in found.files] == [NOTE]
    assert found.summary.problems == [Problem(f"Message/{media(3)}", "a symbolic link, which is not followed")]
    assert found.summary.warnings == [
        "ContactsV2.sqlite cannot be read, names of people may be missing: a symbolic link, which is not followed"
    ]
