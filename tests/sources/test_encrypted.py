"""What a key adds: encrypted databases open with every form of their key, and whatever does not open says why, once, with its cure."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_tool.actions.keys import Ask, keys_of
from backup_tool.config import SourceSpec
from backup_tool.errors import Interrupted, UsageError
from backup_tool.models import Secret
from backup_tool.sources.base import AudioFile, Summary
from backup_tool.sources.tree import Tree
from backup_tool.sources.whatsapp_android import AndroidSource
from backup_tool.sources.whatsapp_android.encrypted import HEADER_BYTES, NotOpened, decrypt, read_header
from backup_tool.sources.whatsapp_android.keys import BadKey, parse_key
from tests.generators import crypt
from tests.generators.android import ANNA, FAMILY, Store
from tests.generators.crypt import PhoneKeys, crypt12, crypt14, crypt15
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.scenarios.world import World
from tests.sources.stores import everything

PHONE, OTHER = PhoneKeys(1), PhoneKeys(2)
SENT = 1772546700123
DAY = 86400
NOTE = "Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0001.opus"
NEWEST = "Databases/msgstore.db.crypt15"
SETTINGS = "--key-file FILE or as key_file in the settings"

Encrypt = Callable[..., bytes]
ALL: list[Encrypt] = [crypt12, crypt14, crypt15]


@dataclass
class Person:
    """Who gives the keys, and how often they were asked."""

    keys: Sequence[bytes | str] = ()
    asked: int = 0

    def unlock(self) -> Sequence[Secret]:
        self.asked += 1
        return [Secret(key) if isinstance(key, str) else Secret.of_bytes(key) for key in self.keys]


@dataclass
class Seen:
    """What a scan found."""

    files: list[AudioFile]
    summary: Summary
    asked: int
    told: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.told = [f"{problem.path} {problem.reason}" for problem in self.summary.problems]

    @property
    def chat(self) -> str | None:
        """The chat of the one note."""
        (one,) = self.files
        return one.notes[0].chat


def look(store: Store | Path, *keys: bytes | str, database: Path | None = None) -> Seen:
    """Scan with these keys: nothing private is left behind, and nothing is written to the store."""
    root = store.root if isinstance(store, Store) else store
    before = everything(root)
    person = Person(keys)
    with tempfile.TemporaryDirectory() as workdir:
        scan = AndroidSource("phone", Tree(os.fsencode(root)), Path(workdir), database, person.unlock).scan()
        files = list(scan)
        assert os.listdir(workdir) == []
    assert everything(root) == before
    return Seen(files, scan.summary, person.asked)


def key_file(path: Path, content: str | bytes, *, mode: int = 0o600) -> Path:
    """A key in a file."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def look_with_files(store: Store, *files: Path, ask: Ask | None = None) -> Seen:
    """Scan with keys in files, as `--key-file` gives them. Whoever is asked fails the test."""
    warned: list[str] = []
    with tempfile.TemporaryDirectory() as workdir:
        unlock = keys_of(SourceSpec(name="phone", path=store.root), files, {}, ask, warned.append)
        scan = AndroidSource("phone", Tree(os.fsencode(store.root)), Path(workdir), None, unlock).scan()
        files_found = list(scan)
    scan.summary.warnings += warned
    return Seen(files_found, scan.summary, 0)


def never(name: str, kind: str) -> Secret:
    """Asks nobody."""
    raise AssertionError(f"{name} was asked for a {kind}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one note, and no database yet."""
    store = Store(tmp_path / "WhatsApp")
    store.put(NOTE, opus_note(1.0, seed=1))
    return store


def database(title: str = "Family", *, sent: int = SENT, key: str = "3EB0A1", file: str = NOTE) -> bytes:
    """A database that has the note in a chat of this title."""
    with tempfile.TemporaryDirectory() as folder:
        msgstore = Msgstore(Path(folder) / "msgstore.db")
        msgstore.message(msgstore.chat(FAMILY, subject=title), key, sent=sent, sender=ANNA, file=file)
        return msgstore.close().read_bytes()


def put(store: Store, data: bytes, name: str = NEWEST, *, days: float = 1) -> Path:
    """A file of the store, last written so many days after the message."""
    location = store.put(name, data).location
    os.utime(location, (0, SENT / 1000 + days * DAY))
    return location


class TestOpening:
    """What opens."""

    @pytest.mark.parametrize("packed", [True, False])
    @pytest.mark.parametrize("encrypt", ALL)
    def test_each_format_opens_with_its_key(self, store: Store, encrypt: Encrypt, packed: bool) -> None:
        """Chats, names and times come from the encrypted database, packed inside or not."""
        put(store, encrypt(database(), PHONE, packed=packed))
        seen = look(store, PHONE.root_file if encrypt is crypt15 else PHONE.key_file)
        assert (seen.chat, seen.summary.database) == ("Family", NEWEST)
        assert seen.files[0].notes[0].sent_at == "2026-03-03T14:05:00.123Z"
        assert (seen.summary.problems, seen.summary.warnings) == ([], [])

    @pytest.mark.parametrize(
        "key",
        [
            PHONE.digits,
            PHONE.root.hex(),
            PHONE.root.hex().upper() + "\r\n",
            "-".join(PHONE.root.hex()[at : at + 8] for at in range(0, 64, 8)),
            ": ".join(PHONE.root.hex()[at : at + 2] for at in range(0, 64, 2)),
            "\u2013".join([PHONE.root.hex()[:32], PHONE.root.hex()[32:]]),
            b"\xef\xbb\xbf" + PHONE.digits.encode(),
            PHONE.digits.encode("utf-16"),
            PHONE.root_file,
            PHONE.root,
        ],
    )
    def test_the_64_digits_in_any_form(self, store: Store, key: bytes | str) -> None:
        """Typed in groups, in capitals, with dashes or colons, from an editor with marks of its own, or as a key file."""
        put(store, crypt15(database(), PHONE))
        assert look(store, key).chat == "Family"

    @pytest.mark.parametrize("encrypt", [crypt12, crypt14])
    @pytest.mark.parametrize("key", [PHONE.key_file, PHONE.key_array])
    def test_the_key_file_in_both_layouts(self, store: Store, encrypt: Encrypt, key: bytes) -> None:
        """`key` as the phone has it, and without its Java wrapping."""
        put(store, encrypt(database(), PHONE))
        assert look(store, key).chat == "Family"

    @pytest.mark.parametrize("encrypt", ALL)
    def test_of_several_keys_the_right_one_is_found(self, store: Store, encrypt: Encrypt) -> None:
        """Keys of other phones and other kinds do no harm, and nobody is asked twice."""
        put(store, encrypt(database(), PHONE))
        seen = look(store, OTHER.key_file, OTHER.digits, PHONE.key_file, PHONE.digits, PhoneKeys(3).digits)
        assert (seen.chat, seen.asked, seen.summary.problems, seen.summary.warnings) == ("Family", 1, [], [])

    @pytest.mark.parametrize(
        ("encrypt", "name", "key"),
        [
            (crypt15, "Databases/encrypted_backup.key", PHONE.root_file),
            (crypt15, "files/encrypted_backup.key", PHONE.root),
            (crypt15, "Databases/.nomedia", PHONE.root_file),
            (crypt14, "Databases/.nomedia", PHONE.key_file),
            (crypt14, "Databases/key", PHONE.key_file),
            (crypt12, "KEY", PHONE.key_array),
        ],
    )
    def test_keys_that_lie_in_the_store_are_used(self, store: Store, encrypt: Encrypt, name: str, key: bytes) -> None:
        """A rooted copy brings its key along: then nobody is asked for one."""
        put(store, encrypt(database(), PHONE))
        store.put(name, key)
        store.put("Media/WhatsApp Voice Notes/.nomedia", b"")
        seen = look(store, "never looked at")
        assert (seen.chat, seen.asked) == ("Family", 0)

    @pytest.mark.parametrize("length", [0, 40, 90, 160, 290, 5000, 17_000])
    @pytest.mark.parametrize("encrypt", [crypt14, crypt15])
    def test_headers_of_any_length(self, store: Store, encrypt: Encrypt, length: int) -> None:
        """The header's length takes one, two or three bytes; fields of newer versions are passed over, of whatever kind."""
        newer = bytes([40 << 3 & 0x7F | 0x81, 2]) + bytes(8) + bytes([0xC5, 2]) + bytes(4)  # field 40 of 8 bytes, field 40 of 4
        filler = crypt.about(version=b"9" * length) + newer
        put(store, encrypt(database(), PHONE, info=filler))
        assert look(store, PHONE.key_file, PHONE.digits).chat == "Family"

    @pytest.mark.parametrize(("kind", "new_kind"), [(1, None), (None, 3), (1, 3), (None, None), (7, 9)])
    def test_kinds_of_key_do_not_decide_what_is_tried(self, store: Store, kind: int | None, new_kind: int | None) -> None:
        """Which key a file takes is told by what its header holds: files of old and newer apps open alike."""
        put(store, crypt15(database(), PHONE, kind=kind, new_kind=new_kind))
        assert look(store, PHONE.digits).chat == "Family"

    def test_a_header_without_salts_is_tried(self, store: Store) -> None:
        """Where a file does not say which key it takes, those of its kind are tried."""
        put(store, crypt14(database(), PHONE, salts=False))
        assert look(store, OTHER.key_file, PHONE.key_file).chat == "Family"

    @pytest.mark.parametrize("encrypt", ALL)
    def test_files_without_a_checksum_open(self, store: Store, encrypt: Encrypt) -> None:
        """Some downloads end with the tag."""
        put(store, encrypt(database(), PHONE, md5=False))
        seen = look(store, PHONE.key_file, PHONE.digits)
        assert (seen.chat, seen.summary.warnings) == ("Family", [])

    @pytest.mark.parametrize("number", [b"", b"--09"])
    def test_crypt12_with_and_without_its_number(self, store: Store, number: bytes) -> None:
        """The digits at the end are no part of the rest."""
        put(store, crypt12(database(), PHONE, number=number))
        assert look(store, PHONE.key_file).chat == "Family"

    @pytest.mark.parametrize("encrypt", ALL)
    def test_a_damaged_checksum_alone_costs_nothing(self, store: Store, encrypt: Encrypt) -> None:
        """What is authentic is used; that the end of the file is damaged is said."""
        data = bytearray(encrypt(database(), PHONE))
        data[-10] ^= 1
        put(store, bytes(data))
        seen = look(store, PHONE.key_file, PHONE.digits)
        assert (seen.chat, seen.summary.problems) == ("Family", [])
        assert seen.summary.warnings == [f"{NEWEST} opens, but its last bytes are damaged: copy it from the phone again"]

    @pytest.mark.parametrize(
        "name",
        [
            "Databases/msgstore.db",
            "Databases/msgstore.db.crypt15.db",
            "Databases/msgstore (1).db.crypt14",
            "my backup.crypt12",
            "x.CRYPT15",
        ],
    )
    def test_names_prove_nothing(self, store: Store, name: str) -> None:
        """Renamed files are known by what is in them."""
        put(store, crypt15(database(), PHONE), name)
        assert look(store, PHONE.digits).chat == "Family"

    @pytest.mark.parametrize("encrypt", ALL)
    @pytest.mark.parametrize("name", ["Databases/backup.bin", "copy of my phone", "databases/whatsapp.db"])
    def test_no_name_at_all_is_needed_in_the_apps_own_folders(self, store: Store, encrypt: Encrypt, name: str) -> None:
        """In a store's root and its Databases an encrypted database is found under any name."""
        put(store, encrypt(database(), PHONE), name)
        assert look(store, PHONE.digits, PHONE.key_file).chat == "Family"

    def test_other_files_of_the_apps_own_folders_are_left_alone(self, store: Store) -> None:
        """Fonts, pictures and databases of something else there are neither opened with a key nor complained of."""
        put(store, b"\x00\x01\x00\x00" + crypt.noise("font", 5000), "Databases/letters.ttf")
        put(store, crypt.noise("picture", 5000), "Databases/picture")
        put(store, b"", "Databases/empty")
        with sqlite3.connect(store.root / "Databases/places.db") as connection:
            connection.execute("CREATE TABLE message (body)")
        connection.close()
        seen = look(store, PHONE.digits)
        assert (seen.asked, seen.told, seen.summary.warnings) == (0, [], [])

    def test_other_backups_of_the_app_are_left_alone(self, store: Store) -> None:
        """Settings and stickers, which lie beside messages, are neither opened nor complained of."""
        for name in (
            "Backups/wa.db.crypt15",
            "Backups/chatsettingsbackup.db.crypt15",
            "Backups/new.db.crypt15",
            "Databases/stickers.db.crypt15",
        ):
            put(store, crypt15(b"SQLite format 3\0 of another kind", PHONE), name)
        seen = look(store, PHONE.digits)
        assert (seen.asked, seen.summary.problems, seen.summary.warnings) == (0, [], [])

    def test_a_named_database_may_be_encrypted(self, store: Store, tmp_path: Path) -> None:
        """The setting `database` takes one from anywhere; only that one is opened."""
        elsewhere = tmp_path / "elsewhere.bin"
        elsewhere.write_bytes(crypt15(database("Elsewhere"), PHONE))
        put(store, crypt15(database(), PHONE))
        seen = look(store, PHONE.digits, database=elsewhere)
        assert (seen.chat, seen.summary.database) == ("Elsewhere", str(elsewhere))
        assert look(store, OTHER.digits, database=elsewhere).told == [f"{elsewhere} {WRONG_DIGITS}"]

    def test_two_accounts_with_two_keys(self, store: Store) -> None:
        """Each account's database opens with its own key."""
        second = Store(store.root / "accounts/1001")
        other = second.put(NOTE.replace("0001", "0002"), opus_note(1.0, seed=2)).original_path
        put(store, crypt15(database("One"), PHONE))
        put(second, crypt15(database("Two", key="3EB0A2", file=other), OTHER))
        seen = look(store, PHONE.digits, OTHER.digits)
        assert sorted(file.notes[0].chat or "" for file in seen.files) == ["One", "Two"]


PLACE = " (Settings, Chats, Chat backup, End-to-end encrypted backup)"
CURE = "choose a new 64-digit key in the app{}, back up and copy again"
WRONG_DIGITS = f"is whole, but takes another key than was given: add older keys; if none fits, or it has a password, {CURE.format('')}"
VERY_PHONE = f"it takes the file 'key' of the very installation that made it, from a rooted phone; else {CURE.format('')}"


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class TestFailing:
    """What does not open says why, and what to do; the notes are taken without it."""

    @pytest.mark.parametrize(
        ("data", "keys", "reason"),
        [
            pytest.param(crypt15(database(), PHONE), [OTHER.digits], WRONG_DIGITS, id="wrong digits"),
            pytest.param(
                crypt14(database(), PHONE), [OTHER.key_file], f"takes another key than was given: {VERY_PHONE}", id="wrong key file"
            ),
            pytest.param(
                crypt12(database(), PHONE),
                [OTHER.key_file],
                f"takes another key than was given: {VERY_PHONE}",
                id="wrong key file, crypt12",
            ),
            pytest.param(crypt14(database(), PHONE), [PHONE.digits], f"takes no 64-digit key: {VERY_PHONE}", id="digits for crypt14"),
            pytest.param(
                crypt15(database(), PHONE),
                [PHONE.key_file],
                f"takes the 64-digit key or encrypted_backup.key, not the file 'key': give that, or {CURE.format('')}",
                id="key file for crypt15",
            ),
            pytest.param(
                flipped(crypt14(database(), PHONE), 300),
                [PHONE.key_file],
                "is damaged or incomplete ({size:,} bytes are there): copy it from the phone again",
                id="damaged",
            ),
            pytest.param(
                crypt14(database(), PHONE)[:600],
                [PHONE.key_file],
                "is damaged or incomplete (600 bytes are there): copy it from the phone again",
                id="cut",
            ),
            pytest.param(
                crypt12(database(), PHONE)[:600],
                [PHONE.key_file],
                "is incomplete, only its first 600 bytes are there: copy it from the phone again",
                id="cut, crypt12",
            ),
            pytest.param(
                crypt14(database(), PHONE, info=b"")[:95],
                [PHONE.key_file],
                "is incomplete, only 95 bytes of it are there: copy it from the phone again",
                id="hardly begun",
            ),
            pytest.param(
                crypt12(database(), PHONE)[:40],
                [PHONE.key_file],
                "is incomplete, only 40 bytes of it are there: copy it from the phone again",
                id="hardly begun, crypt12",
            ),
            pytest.param(
                flipped(crypt15(database(), PHONE), 300),
                [PHONE.digits],
                "is damaged or incomplete ({size:,} bytes are there), or takes another key than was given, which cannot be told apart: "
                "copy it from the phone again, then add older keys",
                id="damaged, or another key",
            ),
            pytest.param(b"", [PHONE.digits], "is empty: copy it from the phone again", id="empty"),
            pytest.param(bytes(5000), [PHONE.digits], "holds nothing but zeros: copy it from the phone again", id="zeros"),
            pytest.param(
                b"\n<!DOCTYPE html><html>sign in",
                [PHONE.digits],
                "is a web page and no backup: download or copy it again",
                id="web page",
            ),
            pytest.param(b"PK\x03\x04" + bytes(100), [PHONE.digits], "is a ZIP and no backup: unpack it", id="zip"),
            pytest.param(
                b"\x7f\x01" + crypt.noise("noise", 900),
                [PHONE.digits],
                "is no backup of WhatsApp's that is known, or its beginning is damaged: copy it from the phone again",
                id="noise",
            ),
            pytest.param(
                crypt15(b'{"settings": true}', PHONE), [PHONE.digits], "opens, but what is inside is no database", id="another backup"
            ),
            pytest.param(
                crypt15(b"x\x9c no zlib at all", PHONE, packed=False),
                [PHONE.digits],
                "opens, but what is inside cannot be unpacked",
                id="cannot be unpacked",
            ),
            pytest.param(
                crypt15(b"", PHONE), [PHONE.digits], "opens, but is empty inside: copy it from the phone again", id="nothing inside"
            ),
            pytest.param(
                crypt15(zlib.compress(database())[:-600], PHONE, packed=False),
                [PHONE.digits],
                "opens, but what is inside was cut short when it was made: back up in the app again, and copy it from the phone again",
                id="half a database",
            ),
            pytest.param(
                crypt15(database(), PHONE),
                [PHONE.root.hex()[:63]],
                "cannot be opened: the key that was given has 63 digits, where 64 are expected; look at it again",
                id="63 digits",
            ),
            pytest.param(
                crypt15(database(), PHONE),
                [PHONE.root.hex()[:32]],
                "cannot be opened: the key that was given has 32 digits, where 64 are expected; look at it again",
                id="32 digits",
            ),
            pytest.param(
                crypt15(database(), PHONE),
                ["correct horse battery staple"],
                "cannot be opened: the key that was given is neither a key file of WhatsApp's nor a 64-digit key, which has only 0 to 9 "
                "and a to f",
                id="a password",
            ),
            pytest.param(
                crypt14(database(), PHONE),
                [flipped(PHONE.key_file, 70)],
                "cannot be opened: the key that was given is a damaged key file: its own checksum is wrong; copy it again",
                id="damaged key file",
            ),
            pytest.param(
                crypt14(database(), PHONE),
                [PHONE.key_file[:100]],
                "cannot be opened: the key that was given is a damaged key file: 100 bytes, where 59 or 158 are expected; copy it again",
                id="cut key file",
            ),
        ],
    )
    def test_each_cause_has_its_own_sentence(self, store: Store, data: bytes, keys: list[bytes | str], reason: str) -> None:
        """Wrong key, wrong kind of key, damaged, cut, no backup, damaged key: each is told apart, and makes the night incomplete."""
        put(store, data)
        seen = look(store, *keys)
        assert seen.told == [f"{NEWEST} {reason.format(size=len(data))}"]
        assert len(reason) < 200  # a terminal shows no more
        assert (seen.chat, seen.summary.database, seen.summary.complete) == (None, None, True)

    @pytest.mark.parametrize(
        ("how", "word"),
        [
            ({"new_kind": crypt.PASSWORD}, "password"),
            ({"kind": crypt.PASSWORD, "new_kind": None}, "password"),
            ({"passkey": True}, "passkey"),
            ({"new_kind": crypt.PASSKEY}, "passkey"),
            ({"passkey": True, "with_iv": False}, "passkey"),
        ],
    )
    def test_what_only_the_app_opens_says_so_and_asks_nobody(self, store: Store, how: dict[str, Any], word: str) -> None:
        """Backups under a password or a passkey are told from those under a key, with the way out; no night fails for them."""
        put(store, crypt15(database(), PHONE, **how))
        seen = look(store, PHONE.digits)
        assert seen.summary.warnings == [f"{NEWEST} is locked by a {word}, which only the app itself can use: {CURE.format(PLACE)}"]
        assert (seen.asked, seen.told, seen.chat) == (0, [], None)
        if "with_iv" not in how:
            store.put("files/encrypted_backup.key", PHONE.root_file)
            assert look(store).chat == "Family"

    @pytest.mark.parametrize("how", [{"new_kind": crypt.PASSWORD}, {"passkey": True}])
    def test_a_key_that_was_given_is_tried_even_there(self, store: Store, tmp_path: Path, how: dict[str, Any]) -> None:
        """The file of a rooted phone opens a backup by password or passkey too; where it does not, the way out is said."""
        put(store, crypt15(database(), PHONE, **how))
        seen = look_with_files(store, key_file(tmp_path / "key", PHONE.root_file), ask=never)
        assert (seen.chat, seen.told, seen.summary.warnings) == ("Family", [], [])
        seen = look_with_files(store, key_file(tmp_path / "key", OTHER.root_file), ask=never)
        (warning,) = seen.summary.warnings
        assert (seen.chat, seen.told, "which only the app itself can use" in warning) == (None, [], True)

    @pytest.mark.parametrize("bad", ["away", "open to others", "empty"])
    def test_a_key_file_that_cannot_be_used_costs_no_other(self, store: Store, tmp_path: Path, bad: str) -> None:
        """Of several key files those that can be read are tried; what is wrong with the other is said."""
        put(store, crypt15(database(), PHONE))
        other = tmp_path / "old.key"
        if bad != "away":
            key_file(other, "" if bad == "empty" else OTHER.digits, mode=0o644 if bad == "open to others" else 0o600)
        good = key_file(tmp_path / "new.key", PHONE.digits)
        for files in ((other, good), (good, other)):
            seen = look_with_files(store, *files)
            assert (seen.chat, seen.told) == ("Family", [])
            (warning,) = seen.summary.warnings
            assert warning.startswith({"away": f"the key file {other} cannot be read", "empty": f"the key file {other} is empty"}.get(
                bad, f"others may read the key file {other}; make it yours alone: chmod 600 "
            ))  # fmt: skip

    @pytest.mark.parametrize(
        ("encrypt", "cure"),
        [
            (crypt15, f"give the 64-digit key, which the app shows when it is chosen{PLACE}, with {SETTINGS}"),
            (crypt14, f"give the file 'key' of a rooted phone with {SETTINGS}, or {CURE.format(PLACE)}"),
            (crypt12, f"give the file 'key' of a rooted phone with {SETTINGS}, or {CURE.format(PLACE)}"),
        ],
    )
    def test_without_a_key_it_is_said_how_to_get_one(self, store: Store, encrypt: Encrypt, cure: str) -> None:
        """No key is no failure: the notes are taken by their names, and one sentence names the option and the setting."""
        put(store, encrypt(database(), PHONE))
        put(store, encrypt(database(), OTHER), "Databases/msgstore-2026-03-01.1.db.crypt15")
        put(store, encrypt(database(), OTHER), "Databases/msgstore-2026-03-02.1.db.crypt15")
        seen = look(store)
        assert seen.summary.warnings == [f"{NEWEST} is encrypted, and 2 more databases too: names and times in it are not known; {cure}"]
        assert (seen.told, seen.files[0].notes[0].sent_at_from) == ([], "name")

    def test_a_key_that_lies_there_by_chance_is_nobodys_mistake(self, store: Store) -> None:
        """A key file in the store that does not fit is as good as none; a damaged one is named."""
        put(store, crypt15(database(), PHONE))
        store.put("Databases/encrypted_backup.key", OTHER.root_file)
        store.put("Databases/key", flipped(PHONE.key_file, 70))
        seen = look(store)
        assert seen.told == []
        assert [warning.partition(":")[0] for warning in seen.summary.warnings] == [
            f"{NEWEST} is encrypted", "Databases/key is a damaged key file",
        ]  # fmt: skip

    def test_a_damaged_key_beside_the_right_one_is_named(self, store: Store) -> None:
        """The database opens, and the person learns which of their keys is none."""
        put(store, crypt15(database(), PHONE))
        seen = look(store, PHONE.root_file[:50], PHONE.digits)
        assert (seen.chat, seen.told) == ("Family", [])
        assert seen.summary.warnings == [
            "the key that was given is a damaged key file: 50 bytes, where 59 or 158 are expected; copy it again"
        ]

    def test_a_key_that_cannot_be_had_does_not_cost_the_night(self, store: Store) -> None:
        """Where the key file is away, the notes are archived without names, and that is a problem."""
        put(store, crypt15(database(), PHONE))

        def away() -> Sequence[Secret]:
            raise UsageError("the key file ~/whatsapp.key cannot be read: no such file or directory", "look at its path")

        with tempfile.TemporaryDirectory() as workdir:
            scan = AndroidSource("phone", Tree(os.fsencode(store.root)), Path(workdir), None, away).scan()
            assert len(list(scan)) == 1
        assert [problem.reason for problem in scan.summary.problems] == [
            "cannot be opened: its key could not be had: the key file ~/whatsapp.key cannot be read: no such file or directory; look at "
            "its path"
        ]

    def test_ctrl_c_at_the_question_ends_the_run(self, store: Store) -> None:
        """Whoever interrupts is not taken for somebody without a key."""
        put(store, crypt15(database(), PHONE))

        def interrupt() -> Sequence[Secret]:
            raise Interrupted("interrupted", "nothing was done")

        with tempfile.TemporaryDirectory() as workdir, pytest.raises(Interrupted):
            list(AndroidSource("phone", Tree(os.fsencode(store.root)), Path(workdir), None, interrupt).scan())

    def test_a_pipe_called_like_a_key_blocks_nobody(self, store: Store) -> None:
        """Key files are looked at by size and opened as ordinary files only."""
        put(store, crypt15(database(), PHONE))
        os.mkfifo(store.root / "Databases/key")
        (store.root / "Databases/encrypted_backup.key").symlink_to("/dev/zero")
        assert look(store, PHONE.digits).chat == "Family"


class TestChoosing:
    """Which of several databases is read."""

    def test_a_database_that_fails_is_replaced_by_the_next_older_one(self, store: Store) -> None:
        """The newest backup that opens is used; which one, and why not the newest, is said."""
        put(store, flipped(crypt14(database("Newest"), PHONE), 400), "Databases/msgstore.db.crypt14")
        put(store, crypt14(database("Other phone"), OTHER), "Databases/msgstore-2026-03-04.1.db.crypt14", days=9)
        put(store, crypt14(database("Older"), PHONE), "Databases/msgstore-2026-03-03.1.db.crypt14")
        put(store, crypt14(database("Oldest"), PHONE), "Databases/msgstore-2026-03-02.1.db.crypt14", days=10)
        seen = look(store, PHONE.key_file)
        assert (seen.chat, seen.summary.database) == ("Older", "Databases/msgstore-2026-03-03.1.db.crypt14")
        assert [problem.path for problem in seen.summary.problems] == [
            "Databases/msgstore.db.crypt14", "Databases/msgstore-2026-03-04.1.db.crypt14",
        ]  # fmt: skip
        assert seen.summary.warnings == [
            "Databases/msgstore-2026-03-03.1.db.crypt14, an older backup, was used instead of Databases/msgstore.db.crypt14"
        ]

    def test_an_old_key_opens_an_old_backup(self, store: Store) -> None:
        """Keys change: what the old one still opens is used until the new one is given, and then no more."""
        put(store, crypt15(database("New key"), OTHER))
        put(store, crypt15(database("Old key"), PHONE), "Databases/msgstore-2026-03-02.1.db.crypt15")
        seen = look(store, PHONE.digits)
        assert (seen.chat, seen.told) == ("Old key", [f"{NEWEST} {WRONG_DIGITS}"])
        seen = look(store, PHONE.digits, OTHER.digits)
        assert (seen.chat, seen.told, seen.summary.warnings) == ("New key", [], [])

    def test_the_newer_of_a_plain_and_an_encrypted_one_wins(self, store: Store) -> None:
        """By their newest message, whatever their file times say; which was not used is said."""
        plain = put(store, database("Plain"), "Databases/msgstore.db")
        put(store, crypt15(database("Encrypted", sent=SENT + 5000), PHONE), days=3)
        seen = look(store, PHONE.digits)
        assert (seen.chat, seen.summary.database) == ("Encrypted", NEWEST)
        assert seen.summary.warnings == [f"Databases/msgstore.db is older than {NEWEST}: it was not used"]
        plain.write_bytes(database("Plain", sent=SENT + 9000))
        seen = look(store, PHONE.digits)
        assert (seen.chat, seen.summary.database) == ("Plain", "Databases/msgstore.db")
        assert seen.summary.warnings == [f"{NEWEST} is older than Databases/msgstore.db: it was not used"]

    def test_nobody_is_asked_for_a_key_that_would_not_be_used(self, store: Store) -> None:
        """A plain database that seems as new leaves the encrypted one closed, which is said; one of later days is worth the question."""
        put(store, database("Plain"), "Databases/msgstore.db")
        encrypted = put(store, crypt15(database(), PHONE), days=0.5)
        seen = look(store, PHONE.digits)
        assert (seen.chat, seen.asked, seen.told) == ("Plain", 0, [])
        assert seen.summary.warnings == [
            f"{NEWEST} was not opened: Databases/msgstore.db, which is not encrypted, was read and seems to be as new; to be sure, "
            "give the key of the other"
        ]
        os.utime(encrypted, (0, SENT / 1000 + 3 * DAY))
        assert look(store, PHONE.digits).asked == 1
        seen = look(store)
        assert [warning.partition(":")[0] for warning in seen.summary.warnings] == [
            f"{NEWEST} is encrypted", f"Databases/msgstore.db, which is not encrypted, was used instead of {NEWEST}",
        ]  # fmt: skip

    @pytest.mark.parametrize("days", [-4000, 0.1])
    @pytest.mark.parametrize("where", ["given", "lying in the store"])
    def test_with_its_key_at_hand_the_newer_wins_whatever_file_times_say(
        self, store: Store, tmp_path: Path, where: str, days: float
    ) -> None:
        """Copies lose file times: an encrypted database whose key is there is opened, and the one with the newer message is read."""
        plain = put(store, database("Plain"), "Databases/msgstore.db")
        put(store, crypt15(database("Encrypted", sent=SENT + 5000), PHONE), days=days)
        given = [key_file(tmp_path / "whatsapp.key", PHONE.digits)] if where == "given" else []
        if not given:
            store.put("encrypted_backup.key", PHONE.root_file)
        seen = look_with_files(store, *given)
        assert (seen.chat, seen.told) == ("Encrypted", [])
        assert seen.summary.warnings == [f"Databases/msgstore.db is older than {NEWEST}: it was not used"]
        plain.write_bytes(database("Plain", sent=SENT + 5000))
        seen = look_with_files(store, *given)
        assert (seen.chat, seen.told) == ("Plain", [])
        assert seen.summary.warnings == [f"{NEWEST} has no newer messages than Databases/msgstore.db: it was not used"]

    def test_a_key_that_lies_there_by_chance_makes_nobody_be_asked(self, store: Store) -> None:
        """A wrong key in the store opens nothing beside a plain database that seems as new, and nobody is asked for a better one."""
        put(store, database("Plain"), "Databases/msgstore.db")
        put(store, crypt15(database(), PHONE), days=0.5)
        store.put("encrypted_backup.key", OTHER.root_file)
        seen = look(store, PHONE.digits)
        assert (seen.chat, seen.asked, seen.told) == ("Plain", 0, [])
        assert f"Databases/msgstore.db, which is not encrypted, was used instead of {NEWEST}" in seen.summary.warnings

    def test_a_whole_encrypted_one_replaces_a_damaged_plain_one(self, store: Store) -> None:
        """Even of the same night."""
        plain = database("Plain")
        put(store, plain[: len(plain) // 2], "Databases/msgstore.db")
        put(store, crypt15(database("Encrypted"), PHONE), days=0.5)
        assert look(store, PHONE.digits).chat == "Encrypted"

    def test_a_series_that_the_app_left_behind_is_not_missed(self, store: Store) -> None:
        """An old crypt14 that stayed beside today's crypt15 is a word, no failure; without today's newest, yesterday's is taken."""
        put(store, crypt14(database("Years ago", sent=SENT - 400 * DAY * 1000), PHONE), "Databases/msgstore.db.crypt14", days=-400)
        newest = put(store, crypt15(database("Today"), PHONE))
        put(store, crypt15(database("Yesterday", sent=SENT - 1000), PHONE), "Databases/msgstore-2026-03-02.1.db.crypt15")
        seen = look(store, PHONE.digits)
        assert (seen.chat, seen.told) == ("Today", [])
        assert seen.summary.warnings == [f"Databases/msgstore.db.crypt14 is older than {NEWEST} and does not open: it was not used"]
        newest.unlink()
        assert look(store, PHONE.digits, PHONE.key_file).chat == "Yesterday"

    @pytest.mark.parametrize("name", ["msgstore-increment-1.db.crypt15", "my backup.crypt15"])
    def test_increments_are_counted_and_never_read_as_databases(self, store: Store, name: str) -> None:
        """What the app wrote since its last full backup is named as not read, by name and, where it was renamed, by content."""
        put(store, crypt15(database(), PHONE), days=1)
        put(store, crypt15(b"PK\x03\x04messages.bin", PHONE), f"Databases/{name}", days=2)
        put(store, crypt15(b"PK\x03\x04messages.bin", PHONE), "Databases/msgstore-increment-2-2026-03-01.1.db.crypt15", days=2)
        seen = look(store, PHONE.digits)
        assert (seen.chat, seen.told) == ("Family", [])
        assert seen.summary.warnings == [
            f"1 increment newer than {NEWEST} not read: for the names and times of the last days back up in the app (Settings, Chats, Chat "
            "backup, Back up) and copy again"
        ]

    def test_increments_alone(self, store: Store) -> None:
        """Without a full backup they are counted, and nobody is asked for a key."""
        for number in (1, 2):
            put(store, crypt15(b"PK\x03\x04messages.bin", PHONE), f"Databases/msgstore-increment-{number}.db.crypt15")
        seen = look(store, PHONE.digits)
        assert (seen.asked, seen.told) == (0, [])
        assert seen.summary.warnings == ["2 increments are there, which say nothing without a full backup that opens"]

    def test_one_file_costs_one_look_however_many_there_are(self, store: Store) -> None:
        """A store of hundreds of backups that do not open is given up after twenty."""
        for number in range(60):
            put(store, b"", f"Databases/msgstore-2026-03-03.1.db ({number}).crypt15")
        seen = look(store, PHONE.digits)
        assert seen.told[0].endswith("is empty: copy it from the phone again, and 19 more databases too")
        assert seen.summary.warnings == ["40 more encrypted databases were not tried: the newest do not open"]


class TestNothingUnproven:
    """Not one byte is used before the tag over all of them was right."""

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_no_change_goes_unnoticed(self, data: st.DataObject) -> None:
        """One bit anywhere, or any cut: the file does not open, or opens to exactly what was encrypted."""
        encrypt = data.draw(st.sampled_from(ALL))
        whole = encrypt(SMALL, PHONE, md5=data.draw(st.booleans()))
        at = data.draw(st.integers(0, len(whole) - 1))
        changed = whole[:at] if data.draw(st.booleans()) else flipped(whole, at)
        opened = open_bytes(changed, PHONE)
        assert opened in (None, SMALL)

    def test_a_bomb_is_given_up(self, tmp_path: Path) -> None:
        """What unpacks to more than any database has leaves nothing behind."""
        bomb = crypt15(b"SQLite format 3\0" + bytes(8 * 2**20), PHONE)
        (tmp_path / "copy").write_bytes(bomb)
        with pytest.raises(NotOpened, match="unpacks to more than 1,048,576 bytes"):
            decrypt(tmp_path / "copy", read_header(bomb), [parse_key(PHONE.root)], tmp_path / "target", most=2**20)
        assert os.listdir(tmp_path) == ["copy"]

    @pytest.mark.parametrize("packed", [True, False])
    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path, packed: bool) -> None:
        """A database of 32 MiB takes a few at a time."""
        assert open_bytes(crypt15(SMALL, PHONE), PHONE) == SMALL  # so that what is loaded once is loaded
        plain = b"SQLite format 3\0" + crypt.noise("large", 2**16) * 512
        data = crypt15(plain, PHONE, packed=packed)
        (tmp_path / "copy").write_bytes(data)
        key = parse_key(PHONE.root)
        tracemalloc.start()
        try:
            decrypt(tmp_path / "copy", read_header(data), [key], tmp_path / "target")
            assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
        finally:
            tracemalloc.stop()
        assert (tmp_path / "target").read_bytes() == plain
        assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600

    def test_what_is_inside_may_be_hostile_too(self, store: Store) -> None:
        """A database that was encrypted with the right key is a stranger's all the same: damage is named, nothing breaks."""
        broken = bytearray(database())
        broken[4096:] = crypt.noise("pages", len(broken) - 4096)
        put(store, crypt15(bytes(broken), PHONE))
        seen = look(store, PHONE.digits)
        assert seen.chat is None
        assert seen.told == [f"{NEWEST} database disk image is malformed"]


SMALL = b"SQLite format 3\0" + crypt.noise("small", 2000)


def open_bytes(data: bytes, keys: PhoneKeys) -> bytes | None:
    """What an encrypted file opens to; None where it does not, and then nothing was written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "copy").write_bytes(data)
        try:
            header = read_header(data[:HEADER_BYTES])
            every = [parse_key(keys.root), parse_key(keys.key_file)]
            decrypt(folder / "copy", header, filter(header.fits, every), folder / "target")
        except NotOpened:
            assert os.listdir(folder) == ["copy"]
            return None
        return (folder / "target").read_bytes()


@given(
    st.binary(max_size=200)
    | st.binary(max_size=160).map(lambda data: crypt.JAVA + data)
    | st.text("0123456789abcdefF -", min_size=60).map(str.encode)
)
def test_any_bytes_are_a_key_or_say_why_not(data: bytes) -> None:
    """Whatever a key file holds, it is a key or a sentence about it; neither shows what it was."""
    with suppress(BadKey):
        key = parse_key(data)
        assert len(key.aes) == 32
        assert repr(key) == "Key()"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A machine with an empty archive."""
    world = World(tmp_path / "machine")
    world.backup("init")
    return world


def test_a_key_given_later_names_what_was_archived_without_it(world: World) -> None:
    """The first night has days and no chats; the night that has the key joins them to the same notes, and stores no audio again."""
    store = Store(world.folder / "phone/WhatsApp")
    made = store.voice_notes(6)
    plain = store.database(made)
    (store.root / NEWEST).write_bytes(crypt15(plain.read_bytes(), PHONE))
    plain.unlink()
    first = world.backup("run", "phone", "--json")
    assert "is encrypted: names and times in it are not known; give the 64-digit key" in first.told
    before = world.records()
    assert [(note["chat"], note["sent_at_from"]) for note in before] == [(None, "name")] * 6
    key = world.folder / "whatsapp.key"
    key.write_text(PHONE.digits)
    key.chmod(0o600)
    result = world.run("phone", "--key-file", key)
    assert (result["notes"], result["new"], result["unchanged"], result["bytes_read"]) == (6, 0, 6, 0)
    after = world.records()
    assert [(note["chat"], note["sent_at_from"]) for note in after] == [("Family", "message")] * 6
    assert {note["id"] for note in after} == {note["id"] for note in before}
    assert world.run("phone")["gone"] == 0  # a night without the key undoes nothing
    assert world.records() == after
    assert PHONE.root.hex()[:16].encode() not in b"".join(file.read_bytes() for file in world.repo.rglob("*") if file.is_file())


def test_a_wrong_key_is_told_with_exit_code_3(world: World) -> None:
    """Scripts see that something could not be read; the notes are archived all the same, and the key shows nowhere."""
    store = Store(world.folder / "phone/WhatsApp")
    made = store.voice_notes(2)
    plain = store.database(made)
    (store.root / NEWEST).write_bytes(crypt15(plain.read_bytes(), PHONE))
    plain.unlink()
    key = world.folder / "whatsapp.key"
    key.write_text(OTHER.digits)
    key.chmod(0o600)
    done = world.backup("run", "phone", "--key-file", key, "--json", code=3)
    assert done.json["errors"] == [{"path": f"WhatsApp/{NEWEST}", "reason": WRONG_DIGITS}]
    assert done.json["new"] == 2
    assert OTHER.digits[:9] not in done.told + done.text
