"""The settings file: what is right in it is understood, and what is wrong is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.config import (
    KEYS,
    DestinationSpec,
    Settings,
    cache_dir,
    config_path,
    load_settings,
    parse_place,
    parse_settings,
    parse_size,
    resolve_destinations,
    resolve_repository,
    state_dir,
)
from backup_tool.errors import ConfigError, UsageError
from backup_tool.names import shown

ROOT = Path(__file__).parents[2]
Reader = Callable[[str], Settings]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Write a settings file and read it as the program does."""

    def write_and_read(text: str) -> Settings:
        (tmp_path / "config.toml").write_text(text)
        return load_settings(tmp_path / "config.toml", {})

    return write_and_read


def test_everything_that_is_said_is_understood(read: Reader, tmp_path: Path) -> None:
    """Sources, destinations in their order, repository, retention and mail are as the file says."""
    settings = read(
        """
[sources.phone]
type = "whatsapp-android"
path = "~/phone"
database = "db/msgstore.db"
key_command = "pass show 'whats app'"
contacts = ["contacts.vcf", "~/more.csv"]
timezone = "America/Argentina/Buenos_Aires"
[sources."Großmutter's"]
path = "/data/oma"
contacts = "oma.vcf"
[destinations.zebra]
path = "archive"
[destinations.drive]
type = "gdrive"
folder = "Voice notes"
[destinations.apple]
type = "rest"
url = "rest:https://example.org/x"
[repository]
host = "home"
password_command = ["pass", "show", "x"]
pack_size = "16 MiB"
verify_writes = true
[retention]
keep_daily = 14
[email]
from = "me@example.org"
host = "smtp.example.org"
security = "tls"
password_file = "mail"
""".replace("Großmutter's", "Großmutter")
    )
    phone, other = settings.sources.values()
    assert (phone.name, phone.type, phone.path) == ("phone", "whatsapp-android", Path.home() / "phone")
    assert phone.database == tmp_path / "db" / "msgstore.db"
    assert phone.key_command == ("pass", "show", "whats app")
    assert phone.contacts == (tmp_path / "contacts.vcf", Path.home() / "more.csv")
    assert other.contacts == (tmp_path / "oma.vcf",)
    assert phone.timezone == "America/Argentina/Buenos_Aires"
    assert (other.name, other.type, other.path) == ("Großmutter", "auto", Path("/data/oma"))
    assert list(settings.destinations) == ["zebra", "drive", "apple"]
    assert settings.destinations["zebra"] == DestinationSpec(name="zebra", path=tmp_path / "archive")
    assert [spec.label for spec in settings.destinations.values()] == [
        str(tmp_path / "archive"),
        "gdrive:Voice notes",
        "rest:https://example.org/x",
    ]
    repository = settings.repository
    assert (repository.host, repository.password_command, repository.verify_writes) == ("home", ("pass", "show", "x"), True)
    assert repository.pack_size == 16 * 2**20
    assert settings.retention is not None
    assert (settings.retention.keep_daily, settings.retention.keep_last) == (14, 0)
    assert settings.email is not None
    assert (settings.email.sender, settings.email.port, settings.email.password_file) == ("me@example.org", 465, tmp_path / "mail")


def test_an_empty_file_is_right(read: Reader) -> None:
    """Every setting has a default; a byte order mark, as some editors write one, is no error."""
    settings = read("\ufeff# nothing\n")
    assert (settings.sources, settings.destinations, settings.retention, settings.email) == ({}, {}, None, None)
    assert settings.repository.pack_size == 32 * 2**20
    assert settings.repository.verify_writes is False


@pytest.mark.parametrize(
    ("text", "where", "nearest"),
    [
        ("[source.phone]\npath='x'", "its top", "sources"),
        ("[sources.phone]\npth='x'", "[sources.phone]", "path"),
        ("[sources.phone]\npath='x'\ntimezon='UTC'", "[sources.phone]", "timezone"),
        ("[destinations.usb]\ntype='local'\nfolder='x'", "[destinations.usb]", ""),
        ("[destinations.usb]\npath='x'\npaht='x'", "[destinations.usb]", "path"),
        ("[destinations.d]\ntype='gdrive'\nFolder='x'", "[destinations.d]", "folder"),
        ("[repository]\npasswordfile='x'", "[repository]", "password_file"),
        ("[repository]\npassword='x'", "[repository]", "password_"),
        ("[repository]\nzzz='x'", "[repository]", ""),
        ("[retention]\nkeep-daily=1", "[retention]", "keep_daily"),
        ("[email]\nfrom='a'\nhost='b'\nhots='c'", "[email]", "host"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(read: Reader, tmp_path: Path, text: str, where: str, nearest: str) -> None:
    """A misspelt key is never ignored: the error names the file, the table and the key that was probably meant."""
    with pytest.raises(ConfigError, match="there is no key") as caught:
        read(text)
    assert caught.value.message.startswith(f"{tmp_path / 'config.toml'}, {where}: ")
    assert caught.value.hint.startswith(f'the nearest is "{nearest}')
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sources.p]\npath=1", "[sources.p]: path must be text in quotes"),
        ("[sources.p]\npath=''", "path must be text"),
        ('[sources.p]\npath="a\\u0000b"', "path must be text"),
        ("[sources.p]\ntype='auto'", 'the key "path" is missing'),
        ("[sources.p]\npath='x'\ntype='whatsap-android'", 'did you mean "whatsapp-android"?'),
        ("[sources.p]\npath='x'\ntype=['auto']", "type must be one of auto, "),
        ("[sources.p]\npath='x'\ntimezone='Berlin'", "timezone must be a time zone"),
        ("[sources.p]\npath='x'\ntimezone='../../etc/passwd'", "timezone must be a time zone"),
        ("[sources.p]\npath='x'\ntimezone='Europe'", "timezone must be a time zone"),
        ("[sources.p]\npath='x'\nkey_file='y'\nkeyring='z'", "only one of key_file and keyring"),
        ("[sources.p]\npath='x'\ncontacts=[]", "contacts must be a file, or a list of them"),
        ("[sources.p]\npath='x'\ncontacts=[1]", "contacts must be text in quotes"),
        ("[sources.p]\npath='x'\nkey_command=[]", "key_command must be a program"),
        ("[sources.p]\npath='x'\nkey_command=['a', 1]", "key_command must be a program"),
        ("[sources.p]\npath='x'\nkey_command=\"it's\"", "key_command must be a program"),
        ("sources=1", "[sources]: must be a table"),
        ("[sources]\np='x'", "[sources.p]: must be a table"),
        ("[[sources.p]]\npath='x'", "[sources.p]: must be a table"),
        ("[sources.'../x']\npath='x'", '"../x" cannot be a name'),
        ("[sources.'']\npath='x'", '"" cannot be a name'),
        ("[sources.CON]\npath='x'", '"CON" cannot be a name'),
        ("[destinations.'gdrive:x']\npath='x'", "cannot be a name"),
        ("[sources.Phone]\npath='x'\n[sources.phone]\npath='y'", '"phone" and "Phone" are too alike'),
        ("[destinations.d]\ntype='drive'\nfolder='x'", "type must be one of local, gdrive"),
        ("[destinations.d]\ntype='gdrive'", 'the key "folder" is missing'),
        ("[destinations.d]\ntype='rest'\nurl='https://me:word@example.org/'", "url must be an address without a password"),
        ("[repository]\npack_size='32 MB of it'", 'pack_size must be a size such as "32 MiB"'),
        ("[repository]\npack_size='1 GiB'", 'pack_size must be a size from "4 MiB" to "128 MiB"'),
        ("[repository]\npack_size=4194303", "pack_size must be a size from"),
        ("[repository]\npack_size=true", "pack_size must be a size from"),
        ("[repository]\nverify_writes='no'", "verify_writes must be true or false"),
        ("[repository]\npassword_file='a'\npassword_command='b'", "only one of password_file and password_command"),
        ("[destinations.d]\ntype='s3'\nurl='h/b'\npassword_file='a'\npassword_keyring='b'", "only one of password_file and"),
        ("[destinations.d]\ntype='s3'\nurl='h/b'\npath_style='no'", "path_style must be true or false"),
        ("[destinations.d]\ntype='s3'\nurl='https://key:word@h/b'", "url must be an address without a password"),
        ("[retention]", "says nothing to keep"),
        ("[retention]\nkeep_daily=0", "keep_daily must be a whole number above 0"),
        ("[retention]\nkeep_daily=true", "keep_daily must be a whole number above 0"),
        ("[retention]\nkeep_daily='7'", "keep_daily must be a whole number above 0"),
        ("[email]\nfrom='a'", 'the key "host" is missing'),
        ("[email]\nfrom='a'\nvia='smtp'", 'the key "host" is missing'),
        ("[email]\nvia='gmail'", 'the key "from" is missing'),
        ("[email]\nfrom='a'\nvia='google'", "via must be one of smtp, gmail"),
        ("[email]\nfrom='a'\nhost='b'\nport=65536", "port must be a whole number from 1 to 65535"),
        ("[email]\nfrom='a\\nBcc: b'\nhost='b'".replace("'a\\nBcc: b'", '"a\\nBcc: b"'), "from must be text"),
        ("[email]\nfrom='a'\nhost='b'\nsecurity='ssl'", "security must be one of starttls, tls, none"),
        ("key = ", "is not TOML: "),
        ("x" + "[" * 100_000, "is not TOML: "),
    ],
)
def test_a_wrong_value_is_told_in_words(read: Reader, text: str, words: str) -> None:
    """What cannot be meant is refused, naming the table and the key and what it should be instead; never a traceback."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("/")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, a folder, a file that may not be there: each is an error of the settings, exit code 2."""
    (tmp_path / "odd.toml").write_bytes(b"host = '\xff'")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_settings(tmp_path / "odd.toml", {})
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        load_settings(tmp_path, {})


def test_only_the_default_file_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a settings file all is default; one that was named must be there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert load_settings(None, {}) == Settings()
    assert load_settings(None, {"BACKUP_CONFIG": ""}) == Settings()
    for option, env in ((tmp_path / "x.toml", {}), (None, {"BACKUP_CONFIG": str(tmp_path / "x.toml")})):
        with pytest.raises(ConfigError, match=r"there is no settings file .*x\.toml") as caught:
            load_settings(option, env)
        assert "backup config path" in caught.value.hint


def test_the_option_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Precedence is option, environment, default; relative places are below the current folder, and ~ is the home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    env = {"BACKUP_CONFIG": "~/env.toml", "BACKUP_CACHE_DIR": "cache", "BACKUP_STATE_DIR": "/var/state"}
    assert config_path(env, "option.toml") == tmp_path / "option.toml"
    assert config_path(env) == Path("/home/me/env.toml")
    assert cache_dir(env) == tmp_path / "cache"
    assert state_dir(env) == Path("/var/state")


@pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
def test_the_places_are_found_without_an_environment(tmp_path: Path) -> None:
    """As cron starts it, with nothing but PATH and HOME, the program finds its folders."""
    script = "from backup_tool.config import *; print(config_path({}), cache_dir({}), state_dir({}), sep='\\n')"
    command = ["env", "-i", f"HOME={tmp_path}", "PATH=/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == [
        f"{tmp_path}/.config/backup-tool/config.toml",
        f"{tmp_path}/.cache/backup-tool",
        f"{tmp_path}/.local/state/backup-tool",
    ]


CONFIGURED = Settings(
    destinations={
        "usb": DestinationSpec(name="usb", path=Path("/mnt/usb")),
        "drive": DestinationSpec(name="drive", type="gdrive", place="Voice notes"),
    }
)


@pytest.mark.parametrize(
    ("text", "type_", "where"),
    [
        ("usb", "local", Path("/mnt/usb")),
        ("drive", "gdrive", "Voice notes"),
        ("./usb", "local", Path("usb")),
        ("other", "local", Path("other")),
        ("/x/y:z", "local", Path("/x/y:z")),
        ("~/notes", "local", Path("/home/me/notes")),
        ("C:/notes", "local", Path("C:/notes")),
        ("local:x", "local", Path("local:x")),
        ("gdrive:a/b", "gdrive", "a/b"),
        ("icloud:Voice notes", "icloud", "Voice notes"),
        ("rclone:nas:voice", "rclone", "nas:voice"),
        ("rest:http://localhost:8000/", "rest", "http://localhost:8000/"),
        ("s3:https://s3.example.org/x", "s3", "https://s3.example.org/x"),
    ],
)
def test_a_place_is_a_name_a_kind_or_a_path(
    text: str, type_: str, where: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--repo` takes a configured name first, then type:place, else a path; what it is called can be typed again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    spec = parse_place(text, CONFIGURED)
    assert spec.type == type_
    assert (tmp_path / where if isinstance(where, Path) else where) == (spec.path if spec.type == "local" else spec.place)
    assert spec.name == (text if text in CONFIGURED.destinations else spec.label)
    again = parse_place(spec.label, Settings())
    assert (again.type, again.path, again.place) == (spec.type, spec.path, spec.place)


@pytest.mark.parametrize("text", ["", " ", "gdrive:", "sftp:me@host:/x", "b2:bucket"])
def test_a_place_that_cannot_be_is_refused(text: str) -> None:
    """Nothing, a kind without a place, and kinds that only restic knows are not taken for folder names."""
    with pytest.raises(UsageError) as caught:
        parse_place(text, CONFIGURED)
    assert caught.value.hint


def test_a_password_in_an_address_is_never_shown() -> None:
    """The label of an address with a password in it has *** in its place."""
    spec = parse_place("rest:https://me:secret@example.org/x", Settings())
    assert spec.label == spec.name == "rest:https://me:***@example.org/x"
    assert spec.place == "https://me:secret@example.org/x"


def test_what_is_typed_is_the_only_place_that_is_meant() -> None:
    """The option wins over BACKUP_REPOSITORY, which wins over the settings; either means one place only."""
    env = {"BACKUP_REPOSITORY": "drive"}
    assert [spec.name for spec in resolve_destinations("/a", env, CONFIGURED)] == ["/a"]
    assert [spec.name for spec in resolve_destinations(None, env, CONFIGURED)] == ["drive"]
    assert [spec.name for spec in resolve_destinations(None, {"BACKUP_REPOSITORY": ""}, CONFIGURED)] == ["usb", "drive"]
    assert resolve_repository(None, {}, CONFIGURED).name == "usb"
    with pytest.raises(UsageError, match="no repository is named") as caught:
        resolve_repository(None, {}, Settings())
    assert "--repo /path/to/archive" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32 MiB", 2**25),
        ("32MiB", 2**25),
        ("32m", 2**25),
        ("1G", 2**30),
        ("500 kB", 500_000),
        ("7", 7),
        ("7 B", 7),
        ("2 KiB", 2048),
        ("0", 0),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    """MiB and M are powers of 1024, kB and MB of 1000."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5 MiB", "1 TiB", "32 MiBB", "9" * 16])
def test_other_sizes_are_refused(text: str) -> None:
    """A size that is not exactly understood is never guessed."""
    with pytest.raises(ValueError, match="such as"):
        parse_size(text)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["local", "auto", "a", "32 MiB", "tls"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(sorted({key for keys in KEYS.values() for key in keys} | set("abc"))) | st.text(max_size=6)
_TABLE = st.dictionaries(_NAMES, _VALUES, max_size=4)


@given(
    st.dictionaries(
        st.sampled_from(["sources", "destinations", "repository", "retention", "email"]) | st.text(max_size=5),
        _TABLE | st.dictionaries(st.text(max_size=5), _TABLE, max_size=3) | _VALUES,
        max_size=3,
    )
)
def test_any_file_is_understood_or_refused(tables: dict[str, Any]) -> None:
    """Whatever stands in the file, it gives settings or an error of the settings that cannot steer a terminal, and nothing else."""
    refusal = ""
    try:
        assert parse_settings(tables, Path("/etc/config.toml")).path == Path("/etc/config.toml")
    except ConfigError as error:
        refusal = error.message + error.hint
    assert refusal == shown(refusal, 10**6)
