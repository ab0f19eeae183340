"""The settings file (TOML), checked when read: an unknown key, a wrong type or a value that cannot be meant is an error that names it.

Settings hold no secret: only where one is found. Precedence everywhere: option, environment, file, default.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import tomllib
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from backup_tool.errors import ConfigError, UsageError
from backup_tool.models import RESERVED
from backup_tool.names import folded, safe_name, shown

APP = "backup-tool"
SOURCE_TYPES = ("auto", "whatsapp-android", "whatsapp-iphone", "whatsapp-mac", "chat-export", "telegram", "voice-memos", "folder")
DESTINATION_KEYS = {"local": "path", "gdrive": "folder", "icloud": "folder", "rclone": "remote", "rest": "url", "s3": "url"}
"""Every type of destination, and the key that says where in it the repository is."""
ELSEWHERE = ("sftp", "b2", "azure", "gs", "swift")
"""Places that restic knows and this program does not: not to be taken for the name of a folder."""
PACK_SIZES = (4 * 2**20, 128 * 2**20)
"""The smallest and largest pack size that restic accepts (its documentation, "Tuning backup parameters", section Pack size)."""
MAIL_SIZE = 20_000_000
"""Bytes of a mail, as it travels, that all large providers take."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this very machine."""
SMALLEST_SPOOL = 256 * 2**20
"""Two of the largest packs, with room for the index."""

Command = tuple[str, ...]


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A place where notes are found. At most one of `key_files`, `key_command` and `keyring` says where its keys, or its password, are.
    `contacts` are lists of names for telephone numbers."""

    name: str
    type: str = "auto"
    path: Path
    database: Path | None = None
    key_files: tuple[Path, ...] = ()
    key_command: Command | None = None
    keyring: str | None = None
    contacts: tuple[Path, ...] = ()
    timezone: str | None = None


class DestinationSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A place where the repository is kept. `path` is set for type "local", `place` (folder, remote or URL) for every other.

    `name` is the configured one, of a typed place its label. `options` are the further keys of its type, as `KEYS` reads them.
    """

    name: str
    type: str = "local"
    path: Path | None = None
    place: str = ""
    options: Mapping[str, Any] = {}

    @property
    def label(self) -> str:
        """How a person would name it: a path, or ``type:place`` without a password. Also what `parse_place` reads."""
        return str(self.path) if self.type == "local" else _label(self.type, self.place)


def _label(kind: str, place: str) -> str:
    return f"{kind}:" + re.sub(r"(?<=//)([^/@:]*):[^/@]*@", r"\1:***@", place)


class RepositorySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the archive is written. `host` is the name snapshots carry; None: this machine's."""

    host: str | None = None
    password_file: Path | None = None
    password_command: Command | None = None
    password_keyring: str | None = None
    pack_size: int = 32 * 2**20
    verify_writes: bool = False
    spool_size: int = 2 * 2**30


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """Which snapshots stay: so many of each period. Notes are never dropped by it."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0


class EmailSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How mail is sent. `max_size` is the size in bytes of the largest mail, as it travels.

    `via` is "smtp", or "gmail": through Google's interface, with the client in the file `client`, and the sign-in in the keyring under that
    name, else in a file. Of what follows only SMTP knows. `security` is "starttls" (port 587), "tls" (port 465), or "none" for a server on
    this machine (port 25). `auth` is "password" (an app password is one), or "xoauth2": then what the password's source gives is an access
    token.
    """

    sender: str
    via: str = "smtp"
    client: Path | None = None
    keyring: str | None = None
    host: str = ""
    port: int
    security: str = "starttls"
    auth: str = "password"
    max_size: int = MAIL_SIZE
    user: str | None = None
    password_file: Path | None = None
    password_command: Command | None = None
    password_keyring: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says. `path` is the file, None where there is none. Sources and destinations by name, in the file's order: the first
    destination is the primary."""

    path: Path | None = None
    sources: Mapping[str, SourceSpec] = {}
    destinations: Mapping[str, DestinationSpec] = {}
    repository: RepositorySettings = RepositorySettings()
    retention: Retention | None = None
    email: EmailSettings | None = None


def config_path(env: Mapping[str, str], option: str | Path | None = None) -> Path:
    """The settings file: the option, BACKUP_CONFIG, else ``config.toml`` in the user's configuration folder."""
    return _location(option, env.get("BACKUP_CONFIG")) or _folder("user_config_path") / "config.toml"


def cache_dir(env: Mapping[str, str]) -> Path:
    """The folder for what can be fetched again: BACKUP_CACHE_DIR, else the user's cache folder."""
    return _location(env.get("BACKUP_CACHE_DIR")) or _folder("user_cache_path")


def state_dir(env: Mapping[str, str]) -> Path:
    """The folder for what one run tells the next: BACKUP_STATE_DIR, else the user's state folder."""
    return _location(env.get("BACKUP_STATE_DIR")) or _folder("user_state_path")


def _location(*given: str | Path | None) -> Path | None:
    """The first that is given and not empty, made absolute."""
    return next((_absolute(str(place), Path.cwd()) for place in given if place and str(place)), None)


def _folder(kind: str) -> Path:
    import platformdirs

    found: Path = getattr(platformdirs, kind)(APP, appauthor=False)
    return found


def _absolute(text: str, base: Path) -> Path:
    return base / os.path.expanduser(text)


def load_settings(path: Path | None, env: Mapping[str, str]) -> Settings:
    """Read the settings file: `path` (an option) or BACKUP_CONFIG, which must be there, or the default, which need not.

    Raises ConfigError, naming the file, the table and the key.
    """
    file = config_path(env, path)
    try:
        text = file.read_bytes().decode("utf-8-sig")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        if path is None and not env.get("BACKUP_CONFIG"):
            return Settings()
        raise ConfigError(f"there is no settings file {shown(str(file))}", "see where it is looked for: backup config path") from None
    except OSError as error:
        raise ConfigError(f"the settings file {shown(str(file))} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{shown(str(file))} is not TOML: {_first_lower(str(error))}", "see its format: https://toml.io") from error
    return parse_settings(tables, file)


def _first_lower(text: str) -> str:
    return shown(text[:1].lower() + text[1:])


def parse_settings(tables: Mapping[str, Any], file: Path) -> Settings:
    """The settings in a parsed file; relative paths are below the file's folder. Raises ConfigError."""
    top = _Table(file, "", tables)
    top.refuse_unknown(_TABLES)
    return Settings(
        path=file,
        sources={table.name: _source(table) for table in top.named_tables("sources")},
        destinations={table.name: _destination(table) for table in top.named_tables("destinations")},
        repository=_repository(top.table("repository")),
        retention=_retention(top.table("retention")) if "retention" in tables else None,
        email=_email(top.table("email")) if "email" in tables else None,
    )


def parse_place(text: str, settings: Settings) -> DestinationSpec:
    """What `--repo` means: a configured name, ``type:place``, else a path (``./name`` for one that is also a configured name).

    Raises UsageError for nothing and for a kind of place that does not exist here.
    """
    if text in settings.destinations:
        return settings.destinations[text]
    scheme, colon, place = text.partition(":")
    if colon and scheme != "local" and scheme in DESTINATION_KEYS:
        if not place:
            raise UsageError(f"{scheme}: of what", f"add the {DESTINATION_KEYS[scheme]}, for example: --repo '{scheme}:Voice notes'")
        return DestinationSpec(name=_label(scheme, place), type=scheme, place=place)
    if colon and scheme in ELSEWHERE:
        known = ", ".join(f"{kind}:" for kind in DESTINATION_KEYS if kind != "local")
        hint = f"a place is a path, or one of {known}; a folder of that name is ./{shown(text)}"
        raise UsageError(f"there is no destination of type {scheme}", hint)
    if not text.strip():
        raise UsageError("the name of the repository is empty", "name a place: --repo /path/to/archive")
    path = _absolute(text, Path.cwd())
    return DestinationSpec(name=str(path), path=path)


def nearest_destination(typed: str | None, settings: Settings) -> str | None:
    """The configured destination that a typed name was perhaps meant for; None where none is like it, or a path was typed."""
    if typed is None or typed in settings.destinations or "/" in typed or ":" in typed:
        return None
    return next(iter(difflib.get_close_matches(typed, list(settings.destinations), n=1)), None)


def resolve_destinations(option: str | None, env: Mapping[str, str], settings: Settings) -> tuple[DestinationSpec, ...]:
    """Every destination that is meant, the primary first: what was typed (option, BACKUP_REPOSITORY) and only that, else all configured.

    Raises UsageError where none is.
    """
    typed = env.get("BACKUP_REPOSITORY") or None if option is None else option
    if typed is not None:
        return (parse_place(typed, settings),)
    if settings.destinations:
        return tuple(settings.destinations.values())
    raise UsageError("no repository is named", "say where it is: --repo /path/to/archive, or write the settings file once: backup init")


def resolve_repository(option: str | None, env: Mapping[str, str], settings: Settings) -> DestinationSpec:
    """The one destination to work with: the first of `resolve_destinations`."""
    return resolve_destinations(option, env, settings)[0]


def parse_size(text: str) -> int:
    """Bytes of ``32 MiB``, ``32M`` (the same), ``500 kB`` or ``1048576``. Raises ValueError with words that finish "… must be"."""
    found = re.fullmatch(r"(\d{1,15})\s*(?:([KMG])(i?B)?|B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise ValueError('a size such as "32 MiB"')
    power = " KMG".index((found[2] or " ").upper())
    return int(found[1]) * int((1000 if (found[3] or "").upper() == "B" else 1024) ** power)


# How each key is read: from what TOML gave and the folder of the file. A ValueError finishes the sentence "… must be".
_Reader = Callable[[Any, Path], Any]
_Keys = Mapping[str, _Reader]


def _text(value: Any, base: Path) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError('text in quotes, such as "…", not empty and of one line')
    return value


def _path(value: Any, base: Path) -> Path:
    return _absolute(_text(value, base), base)


def _paths(value: Any, base: Path) -> tuple[Path, ...]:
    if not isinstance(value, list):
        return (_path(value, base),)
    if not value:
        raise ValueError("a file, or a list of them")
    return tuple(_path(one, base) for one in value)


def _command(value: Any, base: Path) -> Command:
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError:
        words = None  # quotes that do not close
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:
        raise ValueError('a program and its arguments, such as ["pass", "show", "voice-notes"]')
    return tuple(words)


def _flag(value: Any, base: Path) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false, without quotes")
    return value


def _count(value: Any, base: Path) -> int:
    if type(value) is not int or not 1 <= value < 2**31:
        raise ValueError("a whole number above 0, without quotes")
    return value


def _port(value: Any, base: Path) -> int:
    if type(value) is not int or not 1 <= value < 2**16:
        raise ValueError("a whole number from 1 to 65535, without quotes")
    return value


def _pack_size(value: Any, base: Path) -> int:
    size = parse_size(value) if isinstance(value, str) else value
    if type(size) is not int or not PACK_SIZES[0] <= size <= PACK_SIZES[1]:
        raise ValueError('a size from "4 MiB" to "128 MiB"')
    return size


def _mail_size(value: Any, base: Path) -> int:
    size = parse_size(value) if isinstance(value, str) else value
    if type(size) is not int or not 10**6 <= size <= 10**9:
        raise ValueError('a size from "1 MB" to "1 GB", such as "20 MB"')
    return size


def _spool_size(value: Any, base: Path) -> int:
    size = parse_size(value) if isinstance(value, str) else value
    if type(size) is not int or size < SMALLEST_SPOOL:
        raise ValueError('a size of at least "256 MiB"')
    return size


def _zone(value: Any, base: Path) -> str:
    try:
        zoneinfo.ZoneInfo(_text(value, base))
    except (KeyError, ValueError, OSError):
        raise ValueError('a time zone that this machine knows, such as "Europe/Berlin"') from None
    return str(value)


def _url(value: Any, base: Path) -> str:
    if re.search(r"//[^/@]*:[^/@]*@", _text(value, base)):
        raise ValueError("an address without a password in it")
    return str(value)


def _one_of(*words: str) -> _Reader:
    def read(value: Any, base: Path) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}{_nearest(value, words)}")
        return str(value)

    return read


def _nearest(value: object, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(value), list(words), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


_PASSWORD: _Keys = {"password_file": _path, "password_command": _command, "password_keyring": _text}
_TYPE: _Keys = {"type": _one_of(*DESTINATION_KEYS)}
_DESTINATION_OPTIONS: Mapping[str, _Keys] = {
    "rest": {"user": _text, **_PASSWORD},
    "s3": {"access_key_id": _text, **_PASSWORD, "region": _text, "path_style": _flag, "allow_http": _flag},
    "gdrive": {
        "client": _path,
        "service_account": _path,
        "subject": _text,
        "shared_drive": _text,
        "keyring": _text,
        "scope": _one_of("drive.file", "drive.readonly", "drive"),
    },
    "icloud": {"account": _text, "china": _flag},
}
"""What a type of destination may be told beside its place."""
_DESTINATION_KEYS: Mapping[str, _Keys] = {
    kind: {**_TYPE, key: {"path": _path, "url": _url}.get(key, _text), **_DESTINATION_OPTIONS.get(kind, {})}
    for kind, key in DESTINATION_KEYS.items()
}
KEYS: Mapping[str, _Keys] = {
    "sources.*": {
        "type": _one_of(*SOURCE_TYPES),
        "path": _path,
        "database": _path,
        "key_file": _paths,
        "key_command": _command,
        "keyring": _text,
        "contacts": _paths,
        "timezone": _zone,
    },
    **{f"destinations.*:{kind}": keys for kind, keys in _DESTINATION_KEYS.items()},
    "repository": {"host": _text, **_PASSWORD, "pack_size": _pack_size, "verify_writes": _flag, "spool_size": _spool_size},
    "retention": dict.fromkeys(Retention.__struct_fields__, _count),
    "email": {
        "from": _text,
        "via": _one_of("smtp", "gmail"),
        "client": _path,
        "keyring": _text,
        "host": _text,
        "port": _port,
        "security": _one_of("starttls", "tls", "none"),
        "auth": _one_of("password", "xoauth2"),
        "user": _text,
        **_PASSWORD,
        "max_size": _mail_size,
    },
}
"""Every key there is, by table (for destinations by type): what the samples and the reference are checked against."""
_TABLES = ("sources", "destinations", "repository", "retention", "email")


class _Table:
    """One table of the file while it is read; knows its own name for errors."""

    def __init__(self, file: Path, title: str, values: Any) -> None:
        self.file, self.title = file, title
        if not isinstance(values, Mapping):
            raise self.error(f"must be a table: write [{title}] on a line of its own and its keys below")
        self.values: Mapping[str, Any] = values

    @property
    def name(self) -> str:
        """The last part of the title: what the source or destination is called."""
        return self.title.partition(".")[2]

    def error(self, what: str, hint: str = "") -> ConfigError:
        """An error in this table."""
        where = f"[{shown(self.title)}]" if self.title else "its top"
        return ConfigError(f"{shown(str(self.file))}, {where}: {what}", hint or "see every key with its meaning: configs/full.toml")

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Raises ConfigError for the first key that is not known, naming the nearest that is."""
        known = list(known)
        for key in self.values:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
                raise self.error(f'there is no key "{shown(key)}"', f'the nearest is "{close}"; known here: {", ".join(known)}')

    def read(self, keys: _Keys, *, needed: Iterable[str] = (), at_most_one: Iterable[str] = ()) -> dict[str, Any]:
        """The values of all keys that are there, checked."""
        self.refuse_unknown(keys)
        for key in needed:
            if key not in self.values:
                raise self.error(f'the key "{key}" is missing')
        double = [key for key in at_most_one if key in self.values]
        if len(double) > 1:
            raise self.error(f"only one of {' and '.join(double)} can be meant")
        return {key: self._value(key, keys[key]) for key in self.values}

    def _value(self, key: str, reader: _Reader) -> Any:
        try:
            return reader(self.values[key], self.file.parent)
        except ValueError as error:
            raise self.error(f"{key} must be {error}") from error

    def table(self, key: str) -> _Table:
        """The table of that name; an empty one where there is none."""
        return _Table(self.file, f"{self.title}.{key}".lstrip("."), self.values.get(key, {}))

    def named_tables(self, key: str) -> list[_Table]:
        """The tables below that name, each called by a person: names that can be folders, and no two alike but for case."""
        group = self.table(key)
        seen: dict[str, str] = {}
        for name in group.values:
            if safe_name(name, 100) != name or ":" in name:
                raise group.error(f'"{shown(name)}" cannot be a name', f'"{safe_name(name, 100)}" could')
            if folded(name) in seen:
                raise group.error(f'"{name}" and "{seen[folded(name)]}" are too alike')
            seen[folded(name)] = name
        return [group.table(name) for name in group.values]


def _source(table: _Table) -> SourceSpec:
    if folded(table.name) in RESERVED:
        raise table.error(f'no source can be called "{table.name}": the archive has something else of that name', "call it otherwise")
    values = table.read(KEYS["sources.*"], needed=("path",), at_most_one=("key_file", "key_command", "keyring"))
    return SourceSpec(name=table.name, key_files=values.pop("key_file", ()), **values)


def _destination(table: _Table) -> DestinationSpec:
    kind = table.values.get("type", "local")
    if not isinstance(kind, str) or kind not in DESTINATION_KEYS:
        table._value("type", _TYPE["type"])
    key = DESTINATION_KEYS[kind]
    values = table.read(KEYS[f"destinations.*:{kind}"], needed=(key,), at_most_one=_PASSWORD)
    if kind == "local":
        return DestinationSpec(name=table.name, path=values["path"])
    place, options = values[key].removeprefix(f"{kind}:"), {name: value for name, value in values.items() if name not in (key, "type")}
    return DestinationSpec(name=table.name, type=kind, place=place, options=options)


def _repository(table: _Table) -> RepositorySettings:
    return RepositorySettings(**table.read(KEYS["repository"], at_most_one=_PASSWORD))


def _retention(table: _Table) -> Retention:
    if not table.values:
        raise table.error("says nothing to keep", "name a number, for example: keep_daily = 14; without the section nothing is forgotten")
    return Retention(**table.read(KEYS["retention"]))


def _email(table: _Table) -> EmailSettings:
    values = table.read(KEYS["email"], needed=("from",), at_most_one=_PASSWORD)
    if "host" not in values and values.get("via") != "gmail":
        raise table.error('the key "host" is missing', 'name the mail server: host = "smtp.example.org"; or send by Gmail: via = "gmail"')
    security = values.get("security", "starttls")
    if "host" in values and security == "none" and values["host"] not in LOOPBACK:
        raise table.error("without encryption only a server on this machine is spoken to", 'write security = "starttls" or "tls"')
    port = {"starttls": 587, "tls": 465, "none": 25}[security]
    return EmailSettings(sender=values.pop("from"), **{"port": port, **values})
