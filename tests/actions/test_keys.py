"""Where the keys of locked stores come from: each is read once, one that is away costs no other, and a person is asked last."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from backup_tool.actions.keys import keys_of
from backup_tool.config import SourceSpec
from backup_tool.errors import UsageError
from backup_tool.models import Secret
from backup_tool.sources.base import KeyKind, Keyring
from tests.generators.android import Store
from tests.generators.crypt import PhoneKeys, crypt15
from tests.generators.iphone_backup import WHATSAPP, IPhoneBackup
from tests.generators.ogg import opus_note
from tests.scenarios.test_settings_and_passwords import take_terminal
from tests.scenarios.world import World, finish

PHONE = PhoneKeys(1)


class Person:
    """Types the same for every question, and remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def ask(self, name: str, kind: KeyKind) -> Secret:
        self.asked.append((name, kind))
        return Secret(kind)


def spec(*files: Path, command: tuple[str, ...] | None = None) -> SourceSpec:
    return SourceSpec(name="phone", path=Path("/nowhere"), key_files=files, key_command=command)


def revealed(secrets: object) -> list[str]:
    assert isinstance(secrets, list)
    return [secret.reveal() for secret in secrets]


def key_file(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_person_is_asked_once_for_each_kind_and_only_where_nothing_was_given(tmp_path: Path) -> None:
    """A key at hand is never asked for; without one, the question is for what the store needs."""
    person = Person()
    unlock = keys_of(spec(), [], {}, person.ask)
    assert isinstance(unlock, Keyring)
    assert (unlock.at_hand(), person.asked) == ([], [])
    assert [revealed(unlock("key")), revealed(unlock()), revealed(unlock("key"))] == [["key"], ["password"], ["key"]]
    assert person.asked == [("phone", "key"), ("phone", "password")]
    given = keys_of(spec(), [key_file(tmp_path / "k", "from a file")], {}, person.ask)
    assert (revealed(given("key")), revealed(given.at_hand())) == (["from a file"], ["from a file"])
    assert len(person.asked) == 2


def test_one_that_cannot_be_had_is_told_once_and_costs_no_other(tmp_path: Path) -> None:
    """Files, and what a command prints: the rest is there, and a sentence with its cure for each that is not."""
    good = key_file(tmp_path / "good", "good")
    told: list[str] = []
    unlock = keys_of(spec(tmp_path / "away", good, command=("/nowhere/x",)), [], {}, Person().ask, told.append)
    assert (revealed(unlock()), revealed(unlock("key"))) == (["good"], ["good"])
    assert told == [
        f"the key file {tmp_path / 'away'} cannot be read: no such file or directory; look at its path",
        "the key command /nowhere/x cannot be started: no such file or directory; see that it is there: command -v /nowhere/x",
    ]


def test_where_none_can_be_had_nobody_is_asked_and_each_is_named(tmp_path: Path) -> None:
    """Settings that name keys mean those: a question would hide that they are gone."""
    person = Person()
    unlock = keys_of(spec(tmp_path / "one", tmp_path / "two"), [], {}, person.ask)
    for get in (unlock, unlock.at_hand):
        with pytest.raises(UsageError, match=r"one cannot be read.*; look at its path; the key file .*two cannot be read") as caught:
            get()
        assert caught.value.hint == "look at its path"
    assert person.asked == []


def answer(world: World, folder: str, typed: str) -> tuple[str, str]:
    """`backup scan` on a terminal: what it asked, and its result."""
    ours, theirs = pty.openpty()
    process = world.start("scan", folder, stdin=theirs, stderr=theirs, env={"TERM": "dumb"}, preexec_fn=lambda: take_terminal(theirs))
    screen = b""
    while not screen.endswith(b": "):
        screen += os.read(ours, 1000)
    os.write(ours, typed.encode() + b"\n")
    ended = finish(process)
    os.close(theirs)
    os.close(ours)
    return screen.decode(), ended.text


def test_a_terminal_says_which_key_is_wanted(tmp_path: Path) -> None:
    """Of a phone's backup the 64 digits, of a device backup its password; Enter goes on without."""
    world = World(tmp_path / "machine")
    store = Store(world.folder / "android/WhatsApp")
    plain = store.database(store.voice_notes(2))
    (store.root / "Databases/msgstore.db.crypt15").write_bytes(crypt15(plain.read_bytes(), PHONE))
    plain.unlink()
    question = "64-digit key of WhatsApp's encrypted backup for android (Enter to go on without): "
    asked, result = answer(world, "android", PHONE.root.hex())
    assert asked == question
    assert "names and times from WhatsApp/Databases/msgstore.db.crypt15" in result
    asked, result = answer(world, "android", "")
    assert (asked, "2 notes" in result, "no messages were read" in result) == (question, True, True)
    backup = IPhoneBackup(world.folder / "iphone/00008101-0000000000000001", password="open sesame")
    backup.put(WHATSAPP, "Message/Media/4917@s.whatsapp.net/a/b/ab12.opus", opus_note(1))
    backup.close()
    asked, result = answer(world, "iphone", "open sesame")
    assert asked == "password of the encrypted device backup for iphone (Enter to go on without): "
    assert "1 note" in result
