"""What is at a path, when it is one store, several, or none; and the usual places of a machine."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from backup_tool.config import SOURCE_TYPES
from backup_tool.errors import BackupError, Interrupted, Terminated, UsageError
from backup_tool.models import Secret
from backup_tool.sources import SourceAbsent, detect, open_source
from backup_tool.sources.detection import TYPES
from backup_tool.sources.places import Place, cure, named_places, usual_places
from tests.generators import android, chat_export, iphone_backup, telegram, voice_memos
from tests.generators.ogg import opus_note
from tests.generators.sounds import encoded
from tests.sources.stores import Spec, as_ordinary_user, everything, scan


def a_telegram_export(folder: Path) -> None:
    chat = telegram.Chat("Anna", 4711, "personal_chat")
    chat.voice(1, opus_note(2, 71))
    telegram.export_chat(folder / "ChatExport_2026-03-04", chat)


def a_recordings_folder(folder: Path) -> None:
    memos = voice_memos.Recordings(folder / "memos")
    memos.memo("20260303 140500-1A2B3C4D.m4a", encoded("m4a", 1))
    memos.close()


def a_backup(folder: Path) -> None:
    backup = iphone_backup.IPhoneBackup(folder / "00008101-0000000000000001", password="open sesame")
    for number in range(2):
        path = f"Message/Media/4917@s.whatsapp.net/{number}/b/{number}b120000-fd7d-4a7e-9d5c-0123456789ab.opus"
        backup.put(iphone_backup.WHATSAPP, path, opus_note(2, 50 + number))
    backup.close()


def a_zip(folder: Path) -> None:
    lines = [chat_export.Line(datetime(2026, 3, 1 + n, 20, 5), "Ben", file=f"PTT-2026030{1 + n}-WA0000.opus") for n in range(2)]
    files = {line.file: opus_note(2, 60 + n) for n, line in enumerate(lines) if line.file}
    name, data = chat_export.zipped(chat_export.WRITERS["android us"], "Choir", lines, files)
    (folder / name).write_bytes(data)


def a_phone(folder: Path) -> None:
    android.phone(folder / "phone", notes=3)


STORES: dict[str, Callable[[Path], None]] = {
    "telegram": a_telegram_export,
    "voice-memos": a_recordings_folder,
    "whatsapp-android": a_phone,
}


def test_every_type_of_the_settings_can_be_opened() -> None:
    """What the settings allow as a type of source, this program can read."""
    assert set(SOURCE_TYPES) == set(TYPES)


def test_several_kinds_below_one_folder_are_one_source(tmp_path: Path) -> None:
    """All that lies below a folder is read: each kind as itself, every path once, one account of all; nothing is written."""
    for make in STORES.values():
        make(tmp_path)
    before = everything(tmp_path)
    found = scan(tmp_path)
    assert sorted(found.source.type.split(" + ")) == sorted(STORES)
    assert found.source.plain
    assert len({file.path for file in found.files}) == len(found.files) == 5
    assert {(tmp_path / file.path).read_bytes() for file in found.files} == {found.read(file) for file in found.files}
    assert {note.chat for note in found.notes} == {"Anna", "Family", "Voice Memos"}
    assert (found.summary.complete, found.summary.files, found.summary.problems) == (True, 5, [])
    assert (found.summary.database or "").count(", ") == 2
    assert everything(tmp_path) == before


def test_every_store_is_listed_with_its_notes(tmp_path: Path) -> None:
    """A listing names every store: what it is, where it is, how many notes it has."""
    for make in STORES.values():
        make(tmp_path)
    assert [(one.type, one.path.removeprefix(str(tmp_path)), one.notes) for one in detect(tmp_path)] == [
        ("telegram", "/ChatExport_2026-03-04", 1),
        ("voice-memos", "/memos", 1),
        ("whatsapp-android", f"/phone/{android.CURRENT}", 3),
    ]


@pytest.mark.parametrize("kind", STORES)
def test_a_named_type_opens_only_its_stores(tmp_path: Path, kind: str) -> None:
    """With a type in the settings, only stores of that kind are read; where there is none, that is an error with what it is known by."""
    for make in STORES.values():
        make(tmp_path)
    only = {"telegram": 1, "voice-memos": 1, "whatsapp-android": 3}
    found = scan(tmp_path, kind)
    assert (found.source.type, len(found.files)) == (kind, only[kind])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceAbsent, match="nothing recognised") as caught:
        open_source(Spec(tmp_path / "empty", kind), tmp_path)
    assert "backup scan --all" in caught.value.hint


def test_sealed_stores_among_others(tmp_path: Path) -> None:
    """Zips and encrypted backups beside plain stores: each note's bytes come out of where they are."""
    for make in (*STORES.values(), a_backup, a_zip):
        make(tmp_path)
    before = everything(tmp_path)
    with tempfile.TemporaryDirectory() as workdir:
        source = open_source(Spec(tmp_path), Path(workdir), lambda: [Secret("open sesame")])
        going = source.scan()
        files = list(going)
        read = {b"".join(source.read(file, 2**20)) for file in files}
    assert not source.plain
    assert len(files) == len(read) == len({file.path for file in files}) == 9
    assert {opus_note(2, seed) for seed in (50, 51, 60, 61, 71)} <= read
    assert going.summary.problems == []
    assert everything(tmp_path) == before
    listed = {one.type: one.notes for one in detect(tmp_path)}
    assert listed == {"telegram": 1, "voice-memos": 1, "whatsapp-android": 3, "chat-export": 2, "whatsapp-iphone": None}


def test_a_zip_is_looked_at_alone(tmp_path: Path) -> None:
    """Naming a zip means that zip: what lies beside it is left alone."""
    for make in (*STORES.values(), a_zip):
        make(tmp_path)
    (path,) = tmp_path.glob("*.zip")
    found = scan(path)
    assert (found.source.type, len(found.files)) == ("chat-export", 2)
    assert [(one.type, one.notes) for one in detect(path)] == [("chat-export", 2)]


def test_without_its_key_only_the_locked_store_is_left_out(tmp_path: Path) -> None:
    """A key that cannot be had costs the store that it is for, and is a problem there; what is on record of it stays as it is."""
    for make in (*STORES.values(), a_backup):
        make(tmp_path)

    def unlock() -> list[Secret]:
        raise UsageError("the key file is not there", "look at its path")

    going = open_source(Spec(tmp_path), tmp_path, unlock).scan()
    assert len(list(going)) == 5
    backup = "00008101-0000000000000001"
    assert [(problem.path, problem.reason) for problem in going.summary.problems] == [
        (backup, "the key file is not there: look at its path")
    ]
    assert backup in going.summary.unreadable_folders


@pytest.mark.parametrize("ending", [Terminated("terminated"), Interrupted("interrupted")])
def test_an_ending_is_no_failed_store(tmp_path: Path, ending: BackupError) -> None:
    """Ctrl-C and a signal to end, while a person is asked for a key, end the whole scan and listing: no store is blamed for it."""
    for make in (a_telegram_export, a_backup):
        make(tmp_path)

    def unlock() -> list[Secret]:
        raise ending

    with pytest.raises(type(ending)):
        list(open_source(Spec(tmp_path), tmp_path, unlock).scan())
    with pytest.raises(type(ending)):
        detect(tmp_path, unlock)


def test_a_store_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    """A damaged store among several costs its own messages: the others are read, and the damage is a problem."""
    for make in STORES.values():
        make(tmp_path)
    (tmp_path / "ChatExport_2026-03-04/result.json").write_bytes(
        (tmp_path / "ChatExport_2026-03-04/result.json").read_bytes()[:200] + b"\0" * 1000
    )
    found = scan(tmp_path)
    assert len(found.files) == 5
    assert {problem.path for problem in found.summary.problems} == {"ChatExport_2026-03-04/result.json"}


def test_an_empty_store_among_others_calls_nothing_gone(tmp_path: Path) -> None:
    """A store that has lost all its files, beside one that has some, leaves what is on record of it as it is."""
    a_telegram_export(tmp_path)
    store = android.Store(tmp_path / "phone/WhatsApp")
    summary = scan(tmp_path).summary
    assert summary.complete
    assert summary.unreadable_folders == [store.root.relative_to(tmp_path).as_posix()]
    assert summary.problems == []


def test_a_folder_that_cannot_be_looked_into_is_a_problem() -> None:
    """Where a folder beside a store cannot be opened, a store may be in it: that is said, and nothing below it counts as gone."""
    with as_ordinary_user() as folder:
        a_telegram_export(folder)
        (folder / "closed").mkdir(mode=0)
        found = scan(folder)
        (folder / "closed").chmod(0o700)
    assert len(found.files) == 1
    assert [problem.path for problem in found.summary.problems] == ["closed"]
    assert "closed" in found.summary.unreadable_folders


def test_a_link_to_where_a_store_may_be_is_named(tmp_path: Path) -> None:
    """A link that leads elsewhere is not followed, and that is said, whether a store lies beside it or not; nothing below it counts as
    gone. One that leads to nothing, to other files or to what is read anyway is not worth a word."""
    a_telegram_export(tmp_path / "disk")
    (tmp_path / "disk/notes.txt").touch()
    links = tmp_path / "MobileSync"
    links.mkdir()
    for name, target in (("Backup", "../disk"), ("away", "../nowhere"), ("text", "../disk/notes.txt")):
        (links / name).symlink_to(target)
    with pytest.raises(SourceAbsent, match="Backup is a symbolic link, which is not followed: name the place that it leads to"):
        open_source(Spec(links), tmp_path)
    a_telegram_export(links)
    (links / "latest").symlink_to("ChatExport_2026-03-04")
    (links / "one.json").symlink_to("../disk/ChatExport_2026-03-04/result.json")
    found = scan(links)
    assert len(found.files) == 1
    assert found.summary.warnings == ["Backup and 1 more are symbolic links, which are not followed: name the place that it leads to"]
    assert (found.summary.unreadable_folders, found.summary.problems) == (["Backup", "one.json"], [])


def test_a_closed_folder_is_why_nothing_was_recognised() -> None:
    """Where the only folder is closed, the message names it, why, and what helps."""
    with as_ordinary_user() as folder:
        (folder / "closed").mkdir(mode=0)
        with pytest.raises(SourceAbsent, match=r"nothing recognised in .*: closed in it cannot be read \(permission denied\)") as caught:
            open_source(Spec(folder), folder)
        assert caught.value.hint.startswith(cure())


BESIDE: dict[str, tuple[Callable[[Path], None], int]] = {
    "telegram": (a_telegram_export, 1),
    "whatsapp-android": (a_phone, 3),
    "chat-export": (a_zip, 2),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_audio_beside_a_store_is_left_out_and_said(tmp_path: Path, kind: str) -> None:
    """Songs beside a messenger's store are not archived by the way: they are counted, and where they were archived before the store came,
    they do not count as gone."""
    for path in ("song.mp3", "Podcasts/deep/1.mp3", "Podcasts/2.mp3"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(encoded("mp3", 1))
    assert len(scan(tmp_path).files) == 3
    make, notes = BESIDE[kind]
    make(tmp_path)
    found = scan(tmp_path)
    assert (len(found.files), found.source.type) == (notes, kind)
    assert found.summary.warnings == [
        "3 audio files lie outside these stores, the first in the folder itself, left out: to archive such too, name their folder as a "
        "source of its own"
    ]
    assert found.summary.complete
    assert sorted(found.summary.unreadable_folders) == ["Podcasts", "Podcasts/deep", "song.mp3"]


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    """A single recording, or a database, is no store by itself: the person is told to name its folder."""
    for name in ("note.opus", "msgstore.db", "archive.zip", "result.json"):
        (tmp_path / name).write_bytes(opus_note(1))
        with pytest.raises(SourceAbsent, match="is a file") as caught:
            open_source(Spec(tmp_path / name), tmp_path)
        assert str(tmp_path) in caught.value.hint


def test_plain_recordings_load_nothing_heavy(tmp_path: Path) -> None:
    """A scan of plain recordings pays for no other kind of store: no cryptography is loaded, and no key is asked for."""
    (tmp_path / "a.opus").write_bytes(opus_note(1))
    script = (
        "import sys\nfrom pathlib import Path\nfrom backup_tool.sources import open_source\nfrom tests.sources.stores import Spec\n"
        "def ask():\n    raise SystemExit('asked')\n"
        "assert len(list(open_source(Spec(Path(sys.argv[1])), Path(sys.argv[1]), ask).scan())) == 1\n"
        "print([name for name in ('cryptography', 'av', 'zstandard', 'keyring') if name in sys.modules])\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "[]\n"


def test_keys_are_asked_for_only_where_something_is_locked(tmp_path: Path) -> None:
    """Stores that are not encrypted never ask for a key."""
    for make in STORES.values():
        make(tmp_path)

    def unlock() -> list[Secret]:
        raise AssertionError("asked")

    assert len(list(open_source(Spec(tmp_path), tmp_path, unlock).scan())) == 5


def test_every_kind_of_store_is_read_from_read_only_media_and_stays_as_it_is() -> None:
    """From a card that cannot be written to, every store gives all its notes; no byte of any store, and nothing beside it, changes."""
    with as_ordinary_user() as folder:
        store = folder / "card"
        store.mkdir()
        for make in (*STORES.values(), a_backup, a_zip):
            make(store)
        places = sorted(store.rglob("*"))
        before = {path: hashlib.sha256(path.read_bytes()).digest() for path in places if path.is_file()}
        for path in [*reversed(places), store]:
            path.chmod(0o500 if path.is_dir() else 0o400)
        listed = everything(store)
        workdir = folder / "work"
        workdir.mkdir()
        source = open_source(Spec(store), workdir, lambda: [Secret("open sesame")])
        going = source.scan()
        sizes = [sum(map(len, source.read(file, 2**20))) == file.size for file in going]
        assert (len(sizes), all(sizes), going.summary.problems) == (9, True, [])
        assert everything(store) == listed
        assert {path: hashlib.sha256(path.read_bytes()).digest() for path in before} == before
        for path in [store, *places]:
            path.chmod(0o700)


# --- the usual places -------------------------------------------------------------------------------------


def made(home: Path, *paths: str) -> None:
    for path in paths:
        (home / path).mkdir(parents=True)


MAC = [
    "Library/Application Support/MobileSync/Backup",
    "Library/Group Containers/group.net.whatsapp.WhatsApp.shared",
    "Library/Group Containers/group.net.whatsapp.WhatsAppSMB.shared",
    "Library/Group Containers/group.com.apple.VoiceMemos.shared/Recordings",
    "Library/Application Support/com.apple.voicememos/Recordings",
    "Downloads",
]


def test_the_usual_places_of_a_mac(tmp_path: Path) -> None:
    """On a Mac: device backups, the containers of WhatsApp and Voice Memos, downloads."""
    made(tmp_path, *MAC)
    assert [place.path for place in usual_places({"HOME": str(tmp_path)}, "darwin", tmp_path)] == [tmp_path / path for path in MAC]


def test_the_usual_places_of_windows(tmp_path: Path) -> None:
    """On Windows: the backups of both iTunes, what WhatsApp keeps of media, downloads, wherever the profile says they are."""
    transfers = "local/Packages/5319275A.WhatsAppDesktop_cv1g1gvanyjgm/LocalState/shared/transfers"
    made(tmp_path, "roaming/Apple Computer/MobileSync/Backup", "me/Apple/MobileSync/Backup", transfers, "me/Downloads")
    env = {"USERPROFILE": str(tmp_path / "me"), "APPDATA": str(tmp_path / "roaming"), "LOCALAPPDATA": str(tmp_path / "local")}
    assert [place.path.relative_to(tmp_path).as_posix() for place in usual_places(env, "win32", tmp_path)] == [
        "roaming/Apple Computer/MobileSync/Backup", "me/Apple/MobileSync/Backup", transfers, "me/Downloads",
    ]  # fmt: skip


def test_the_usual_places_of_linux(tmp_path: Path) -> None:
    """On Linux: downloads as the desktop has them, Syncthing's folders as it has them, a phone that is plugged in, a Windows beside it."""
    home = tmp_path / "home"
    made(home, "Heruntergeladen/Telegram Desktop", ".config", ".local/state/syncthing", "Sync & more", "phone")
    (home / ".config/user-dirs.dirs").write_text('# x\nXDG_DOWNLOAD_DIR="$HOME/Heruntergeladen"\n')
    (home / ".local/state/syncthing/config.xml").write_text(
        '<configuration version="37">\n<folder id="a" label="WhatsApp" path="~/Sync &amp; more" type="sendreceive">\n'
        f'<folder id="b" path="{home}/away"><folder id="" path="~">\n'
    )
    made(tmp_path, "run/gvfs/mtp:host=x/Internal storage/Android/media/com.whatsapp/WhatsApp")
    made(tmp_path, "mnt/c/Users/Zoë/Apple/MobileSync/Backup", "mnt/c/Users/Zoë/Downloads")
    env = {"HOME": str(home), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    assert [(place.what, place.path.relative_to(tmp_path).as_posix()) for place in usual_places(env, "linux", tmp_path)] == [
        ("connected phone", "run/gvfs/mtp:host=x/Internal storage/Android/media/com.whatsapp/WhatsApp"),
        ("iPhone backups", "mnt/c/Users/Zoë/Apple/MobileSync/Backup"),
        ("downloads", "mnt/c/Users/Zoë/Downloads"),
        ("downloads", "home/Heruntergeladen"),
        ("copy of a phone", "home/phone"),
        ("Syncthing folder", "home/Sync & more"),
    ]


def test_a_place_is_looked_at_once(tmp_path: Path) -> None:
    """A place that is a link to another one, or lies inside it, is not looked at again."""
    made(tmp_path, "Downloads/Telegram Desktop", ".config/syncthing")
    (tmp_path / "Sync").symlink_to(tmp_path / "Downloads")
    (tmp_path / ".config/syncthing/config.xml").write_text('<folder path="~/Downloads/Telegram Desktop">')
    assert usual_places({"HOME": str(tmp_path)}, "linux", tmp_path) == [Place("downloads", tmp_path / "Downloads")]


def test_the_usual_places_have_names() -> None:
    """A person who has none of them is told where they would be: the places of their own system."""
    assert "~/Library/Application Support/MobileSync/Backup" in named_places({"HOME": "/h"}, "darwin")
    assert "~/Apple/MobileSync/Backup" in named_places({"USERPROFILE": "/h"}, "win32")
    assert "~/Downloads" in named_places({"HOME": "/h"}, "linux", Path("/nowhere"))


def test_what_helps_on_a_mac() -> None:
    """Where a Mac forbids the look, the setting that allows it is named."""
    assert "Full Disk Access" in cure("darwin")
    assert cure("linux") == "look at its permissions"
