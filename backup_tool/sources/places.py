"""The usual places of this machine: where device backups, messengers and synchronisers put what holds voice notes.

Backups of iPhones (Apple Support, "Locate backups of your iPhone"): `~/Library/Application Support/MobileSync/Backup` on a Mac;
`%APPDATA%\\Apple Computer\\MobileSync\\Backup` or `%USERPROFILE%\\Apple\\MobileSync\\Backup` on Windows. Syncthing names its folders in
its own `config.xml` (Syncthing, "Configuration").
"""

from __future__ import annotations

import html
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_GROUPS = "Library/Group Containers"
_ON_A_MAC = (
    ("iPhone backups", "Library/Application Support/MobileSync/Backup"),
    ("WhatsApp on this Mac", f"{_GROUPS}/group.net.whatsapp.WhatsApp.shared"),
    ("WhatsApp Business on this Mac", f"{_GROUPS}/group.net.whatsapp.WhatsAppSMB.shared"),
    ("Voice Memos", f"{_GROUPS}/group.com.apple.VoiceMemos.shared/Recordings"),
    ("Voice Memos", "Library/Application Support/com.apple.voicememos/Recordings"),
)
_ON_WINDOWS = (
    ("iPhone backups", "AppData/Roaming/Apple Computer/MobileSync/Backup"),
    ("iPhone backups", "Apple/MobileSync/Backup"),
)
_TRANSFERS = "Packages/5319275A.WhatsAppDesktop_cv1g1gvanyjgm/LocalState/shared/transfers"
_AT_HOME = (
    ("Telegram exports", "Telegram Desktop"),
    ("synchronised", "Sync"),
    ("synchronised", "Syncthing"),
    ("synchronised", "Nextcloud"),
    ("synchronised", "Dropbox"),
    ("copy of a phone", "phone"),
    ("copy of a phone", "Phone"),
    ("copy of a phone", "phones"),
    ("copy of a phone", "Android"),
    ("copy of a phone", "WhatsApp"),
    ("recordings", "Recordings"),
)
_SYNCTHING = (".local/state/syncthing", ".config/syncthing", "Library/Application Support/Syncthing", "AppData/Local/Syncthing")
_SYNCED = re.compile(r'<folder\s[^>]*?\bpath="([^"]+)"')
_LONGEST_SETTINGS = 2**22
_PHONE = ("Android/media/com.whatsapp/WhatsApp", "Android/media/com.whatsapp.w4b/WhatsApp Business", "WhatsApp", "Recordings")


class Place(NamedTuple):
    """A place worth a look: what is usually there, and where it is."""

    what: str
    path: Path


def usual_places(env: Mapping[str, str], system: str = sys.platform, root: Path = Path("/")) -> list[Place]:
    """The places that are there, each once, none inside another. `env` says where home is (HOME, USERPROFILE, APPDATA, LOCALAPPDATA,
    XDG_CONFIG_HOME, XDG_RUNTIME_DIR), `root` where the file systems of a Windows beside this Linux are mounted.
    """
    found: dict[str, Place] = {}
    for place in _candidates(env, system, root):
        if os.path.lexists(place.path):
            found.setdefault(os.path.realpath(place.path), place)
    return [
        place for real, place in found.items() if not any(real != other and real.startswith(other.rstrip("/") + "/") for other in found)
    ]


def named_places(env: Mapping[str, str], system: str = sys.platform, root: Path = Path("/")) -> list[str]:
    """The same for a person to read, whether they are there or not, `~` for home."""
    home = str(_home(env))
    names = [str(place.path) for place in _candidates(env, system, root)]
    return list(dict.fromkeys("~" + name.removeprefix(home) if name.startswith(home + os.sep) else name for name in names))


def _home(env: Mapping[str, str]) -> Path:
    return Path(env.get("HOME") or env.get("USERPROFILE") or "~").expanduser()


def _candidates(env: Mapping[str, str], system: str, root: Path) -> Iterator[Place]:
    home = _home(env)
    if system == "darwin":
        yield from (Place(what, home / path) for what, path in _ON_A_MAC)
    elif system == "win32":
        yield from _on_windows(env, home)
    else:
        yield from _phones(env)
        for user in _folders(root / "mnt/c/Users"):
            yield from (Place(what, user / path) for what, path in (*_ON_WINDOWS, ("downloads", "Downloads")))
            yield Place("WhatsApp for Windows", user / "AppData/Local" / _TRANSFERS)
    yield Place("downloads", _downloads(env, home))
    yield from (Place(what, home / path) for what, path in _AT_HOME)
    yield from _synchronised(env, home)


def _on_windows(env: Mapping[str, str], home: Path) -> Iterator[Place]:
    yield Place("iPhone backups", Path(env.get("APPDATA") or home / "AppData/Roaming") / "Apple Computer/MobileSync/Backup")
    yield Place("iPhone backups", home / "Apple/MobileSync/Backup")
    yield Place("WhatsApp for Windows", Path(env.get("LOCALAPPDATA") or home / "AppData/Local") / _TRANSFERS)


def _phones(env: Mapping[str, str]) -> Iterator[Place]:
    """Phones that are plugged in: only the folders themselves are looked for, as every step on a phone is slow."""
    for phone in _folders(Path(env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "gvfs"):
        for storage in _folders(phone):
            yield from (Place("connected phone", storage / path) for path in _PHONE)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir())
    except OSError:
        return []


def _downloads(env: Mapping[str, str], home: Path) -> Path:
    """The folder of downloads: as the desktop's `user-dirs.dirs` has it (xdg-user-dirs), else `Downloads`."""
    settings = _text(Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "user-dirs.dirs")
    named = re.search(r'^XDG_DOWNLOAD_DIR="(\$HOME/)?([^"]+)"', settings, re.MULTILINE)
    return home / named[2] if named else home / "Downloads"


def _synchronised(env: Mapping[str, str], home: Path) -> Iterator[Place]:
    folders = [home / path for path in _SYNCTHING]
    if local := env.get("LOCALAPPDATA"):
        folders.append(Path(local) / "Syncthing")
    if config := env.get("XDG_CONFIG_HOME"):
        folders.append(Path(config) / "syncthing")
    for folder in folders:
        for path in _SYNCED.findall(_text(folder / "config.xml")):
            named = html.unescape(path)
            if "\0" not in named and named not in ("/", "~"):
                yield Place("Syncthing folder", home / named.removeprefix("~/"))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_SETTINGS).decode("utf-8", "replace")
    except OSError:
        return ""


def cure(system: str = sys.platform) -> str:
    """What helps where a place may not be read."""
    if system == "darwin":
        where = "System Settings, Privacy & Security, Full Disk Access"
        return f"allow it in {where} (for the terminal that you type in, or for cron), then start that anew"
    return "look at its permissions"
