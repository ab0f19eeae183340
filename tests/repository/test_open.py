"""Making and opening a repository: keys, passwords, config, and what is told when they are wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import BackupError, DamagedObject, IntegrityError, NoRepository, UsageError, WrongPassword
from backup_tool.models import Secret
from backup_tool.repository import Repository
from backup_tool.repository.polynomial import is_irreducible
from tests.repository.conftest import PASSWORD, Place, save_notes
from tests.repository.forge import seal, unseal


def opened(place: Place, password: str = PASSWORD) -> Repository:
    return Repository.open(LocalDestination(place.folder), Secret(password))


def key_file(place: Place, password: bytes, **changes: Any) -> str:
    """Write a key file by hand, with parameters that are quick to try."""
    salt = changes.pop("salt", os.urandom(64))
    n, r, p = changes.get("N", 128), changes.get("r", 8), changes.get("p", 1)
    cheap = (n, r, p) == (128, 8, 1)
    derived = hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, dklen=64) if cheap else bytes(range(64))
    encrypt, k, master_r = place.forge.secrets
    text = {
        "mac": {"k": base64.b64encode(k).decode(), "r": base64.b64encode(master_r).decode()},
        "encrypt": base64.b64encode(encrypt).decode(),
    }
    inner = changes.pop("inner", json.dumps(text).encode())
    fields = {"kdf": "scrypt", "N": n, "r": r, "p": p, "salt": base64.b64encode(salt).decode(), "created": "2026-01-02T03:04:05+01:00"}
    fields["data"] = base64.b64encode(seal((derived[:32], derived[32:48], derived[48:]), inner)).decode()
    return place.forge.put("keys", json.dumps(fields | changes).encode())


def without_keys(place: Place) -> Place:
    for path in place.files("keys"):
        path.unlink()
    return place


def test_a_new_repository_is_laid_out_as_restics(place: Place) -> None:
    """Config, one key and all folders of the standard layout; nothing readable by others."""
    repo = opened(place)
    assert repo.version == 2
    assert len(repo.id) == 64
    (key,) = place.files("keys")
    assert key.name == hashlib.sha256(key.read_bytes()).hexdigest() == repo.key_id
    fields = json.loads(key.read_bytes())
    assert {name: fields[name] for name in ("kdf", "N", "r", "p", "hostname", "username")} == {
        "kdf": "scrypt", "N": 32768, "r": 8, "p": 1, "hostname": "host", "username": "user",
    }  # fmt: skip
    assert len(base64.b64decode(fields["salt"])) == 64
    config = json.loads(unseal(place.forge.secrets, (place.folder / "config").read_bytes()))
    assert list(config) == ["version", "id", "chunker_polynomial"]
    assert is_irreducible(int(config["chunker_polynomial"], 16))
    assert {path.name for path in (place.folder / "data").iterdir()} == {f"{number:02x}" for number in range(256)}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in place.folder.rglob("*"))


def test_two_repositories_share_nothing(place: Place, tmp_path: Path) -> None:
    """Each has its own id, polynomial and master key, even with one password."""
    other = Repository.create(LocalDestination(tmp_path / "other"), Secret(PASSWORD), hostname="h", username="u")
    assert other.id != place.repo.id
    assert other.config.chunker_polynomial != place.repo.config.chunker_polynomial
    assert other._key.encrypt != place.repo._key.encrypt


@pytest.mark.parametrize("left", ["config", "keys", "snapshots"])
def test_what_is_there_is_never_made_anew(place: Place, left: str) -> None:
    """A place with a config, or only a key or a snapshot left, is refused and stays as it was, byte for byte."""
    save_notes(place.repo, {"a": b"audio"})
    for kind in {"config", "keys", "snapshots"} - {left}:
        path = place.folder / kind
        path.unlink() if kind == "config" else shutil.rmtree(path)
    before = {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError) as told:
        Repository.create(LocalDestination(place.folder), Secret("new"), hostname="h", username="u")
    assert told.value.exit_code == 2
    assert {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("password", ["", "  \n", "two\nlines"])
def test_passwords_that_other_tools_could_not_give_are_refused(tmp_path: Path, password: str) -> None:
    """An empty password, or one with a line break inside, makes no repository."""
    with pytest.raises(UsageError, match="password"):
        Repository.create(LocalDestination(tmp_path / "new"), Secret(password), hostname="h", username="u")
    assert not (tmp_path / "new").exists()


def test_of_two_that_make_a_repository_at_once_one_is_told(tmp_path: Path) -> None:
    """When somebody else's config comes first, ours gives way, takes its key back and says so."""

    class Overtaken(LocalDestination):
        def save(self, kind: Any, name: str, data: bytes) -> None:
            if kind == "config":
                Repository.create(LocalDestination(self.path.with_name("theirs")), Secret("theirs"), hostname="h", username="u")
                for path in ("config", "keys"):
                    shutil.copytree(self.path.with_name("theirs"), self.path, dirs_exist_ok=True)
                    assert (self.path / path).exists()
            super().save(kind, name, data)

    with pytest.raises(UsageError, match="somebody else"):
        Repository.create(Overtaken(tmp_path / "new"), Secret("ours"), hostname="h", username="u")
    assert Repository.open(LocalDestination(tmp_path / "new"), Secret("theirs"))
    assert len(list((tmp_path / "new" / "keys").iterdir())) == 1


def test_nothing_there(tmp_path: Path) -> None:
    """An absent or empty folder is no repository: exit code 10, and nothing is made there."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NoRepository) as told:
            Repository.open(LocalDestination(folder), Secret("x"))
        assert told.value.exit_code == 10
        assert told.value.hint
    assert list(tmp_path.iterdir()) == []


def test_wrong_password(place: Place) -> None:
    """A wrong password is exit code 12, and the message holds no part of it."""
    with pytest.raises(WrongPassword) as told:
        opened(place, "sesame open")
    assert told.value.exit_code == 12
    assert "sesame" not in f"{told.value.message} {told.value.hint}"


@pytest.mark.parametrize("typed", ["pässword of the tests", "pa\u0308ssword of the tests", "  pässword of the tests\n"])
def test_the_same_password_however_it_is_typed(place: Place, typed: str) -> None:
    """Composed or decomposed accents, white space around it: it opens."""
    assert opened(place, typed).id == place.repo.id


def test_passwords_set_by_others_open_as_they_are(place: Place) -> None:
    """A password that another program took with its white space, or decomposed, opens as typed."""
    without_keys(place)
    key_file(place, " pa\u0308ss ".encode())
    assert opened(place, " pa\u0308ss ").id == place.repo.id
    with pytest.raises(WrongPassword):
        opened(place, "päss")


def test_any_of_several_passwords(place: Place) -> None:
    """A second password opens the same repository; taken away, it no longer does; the one in use stays."""
    added = place.repo.add_key(Secret("second"), hostname="h2", username="u2")
    second = opened(place, "second")
    assert (second.id, second.key_id) == (place.repo.id, added)
    assert {key.hostname for key in place.repo.key_files()} == {"host", "h2"}
    with pytest.raises(UsageError):
        second.remove_key(added)
    place.repo.remove_key(added)
    with pytest.raises(WrongPassword):
        opened(place, "second")
    assert opened(place)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def test_a_damaged_key_is_no_wrong_password(place: Place) -> None:
    """A key file whose bytes do not match its name is damage, exit code 5, and is named; a sound one beside it still opens."""
    (path,) = place.files("keys")
    damage(path)
    with pytest.raises(DamagedObject) as told:
        opened(place)
    assert (told.value.exit_code, told.value.kind, told.value.name) == (5, "key", path.name)
    key_file(place, b"other")
    assert opened(place, "other")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"N": 2**30}, "out of bounds"),
        ({"N": 100}, "out of bounds"),
        ({"N": 1}, "out of bounds"),
        ({"N": -(2**14)}, "out of bounds"),
        ({"r": 2**20}, "out of bounds"),
        ({"p": 10**9}, "out of bounds"),
        ({"N": 2**20, "r": 32}, "memory"),
        ({"salt": bytes(63)}, "64 bytes"),
        ({"kdf": "argon2"}, "scrypt"),
        ({"data": "!"}, "base64"),
        ({"N": "many"}, "JSON"),
    ],
)
def test_hostile_key_files_cost_nothing(place: Place, changes: dict[str, Any], reason: str) -> None:
    """Parameters that would take all memory or a day, wrong salts, other methods: refused before anything is derived."""
    without_keys(place)
    key_file(place, b"x", **changes)
    with pytest.raises(DamagedObject, match=reason):
        opened(place, "x")


@pytest.mark.parametrize("inner", [b"{}", b"[" * 10_000, b'{"mac":{"k":"AA==","r":"AA=="},"encrypt":"AA=="}'])
def test_a_key_that_holds_no_master_key(place: Place, inner: bytes) -> None:
    """A key file that opens but holds nonsense is damage, and the message does not quote what was inside."""
    without_keys(place)
    key_file(place, b"x", inner=inner)
    with pytest.raises(DamagedObject) as told:
        opened(place, "x")
    assert told.value.message.endswith("it holds no usable master key")


def test_only_twenty_keys_are_tried(place: Place) -> None:
    """A flood of key files does not keep the program busy for hours."""
    without_keys(place)
    made = sorted(key_file(place, b"x%d" % number) for number in range(25))
    last = json.loads((place.folder / "keys" / made[-1]).read_bytes())
    assert last["kdf"] == "scrypt"
    with pytest.raises(WrongPassword, match="first 20 of 25"):
        opened(place, "none of them")


def test_no_key_at_all(place: Place) -> None:
    """A repository whose keys are gone says that, not that the password is wrong."""
    without_keys(place)
    with pytest.raises(IntegrityError, match="no key files"):
        opened(place)


def with_config(place: Place, config: bytes) -> Place:
    path = place.folder / "config"
    path.chmod(0o600)
    path.write_bytes(seal(place.forge.secrets, config))
    return place


@pytest.mark.parametrize("config", [b"", b"{}", b'{"version":2,"id":"abc"}', b'{"version":"2","id":"' + b"a" * 64 + b'"}', b"[" * 100_000])
def test_a_config_that_is_none(place: Place, config: bytes) -> None:
    """A sealed config without the right fields is damage, exit code 5."""
    with pytest.raises(DamagedObject) as told:
        opened(with_config(place, config))
    assert told.value.kind == "config"


def test_a_damaged_config(place: Place) -> None:
    """A flipped bit or an emptied file: named, exit code 5."""
    damage(place.folder / "config")
    with pytest.raises(DamagedObject, match="config"):
        opened(place)
    (place.folder / "config").write_bytes(b"")
    with pytest.raises(DamagedObject, match="config"):
        opened(place)


def test_unknown_versions_and_unknown_fields(place: Place) -> None:
    """Version 3 is refused politely; version 1 can be read; fields of other programs are passed over."""
    id = "ab" * 32
    with pytest.raises(BackupError, match="version 3"):
        opened(with_config(place, json.dumps({"version": 3, "id": id}).encode()))
    repo = opened(with_config(place, json.dumps({"version": 1, "id": id, "is_hot": True, "chunker_polynomial": "25b468838dcb75"}).encode()))
    assert (repo.version, repo.id) == (1, id)
    with repo.lock(), pytest.raises(UsageError, match="version 1"):
        repo.writer()


def test_nothing_shows_the_key(place: Place) -> None:
    """The text of an open repository names its place and no secret."""
    assert repr(place.repo) == f"Repository({str(place.folder)!r})"
