"""Finds WhatsApp's stores below any folder a person may name, by what is inside.

On a phone, relative to its storage: `Android/media/com.whatsapp/WhatsApp/`, before 2021 `WhatsApp/`; for the Business app
`Android/media/com.whatsapp.w4b/WhatsApp Business/`; further accounts in `…/WhatsApp/accounts/NNNN/`; modified clients under their own
brand. In each: `Media/<brand> Voice Notes/<week>/PTT-….opus` and so on, `Databases/`. Copies start at any of these levels, under any name.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from backup_tool.audio import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from backup_tool.sources.base import FileUnreadable, Summary
from backup_tool.sources.filenames import read_name
from backup_tool.sources.folder import CLOSED
from backup_tool.sources.listing import Terms
from backup_tool.sources.tree import Folder, Tree, refuse, text_of, why
from backup_tool.sources.whatsapp_android.encrypted import HEADER_BYTES, SQLITE, is_encrypted

# Folders of `Media`. Their names are English on every phone; copies change the case.
_MEDIA_FOLDER = re.compile(
    r".*whatsapp.* (voice notes|audio|video notes|documents|images|video|animated gifs|stickers|sticker packs|profile photos)",
    re.IGNORECASE,
)
_WEEK = re.compile(r"[0-9]{6}")
_DATABASE = re.compile(r"msgstore.*", re.IGNORECASE)
_BESIDE = re.compile(r".*-(wal|shm|journal)", re.IGNORECASE)
_ENCRYPTED = re.compile(r".*\.crypt(?P<version>[0-9]+)\b.*", re.IGNORECASE)
_INCREMENT = re.compile(r"msgstore-increment\b.*", re.IGNORECASE)
_DAY = re.compile(r"(?<![0-9])20[0-9]{2}-[0-9]{2}-[0-9]{2}(?![0-9])")
# What else the app backs up beside its messages: contacts without names, settings, pictures.
_NO_MESSAGES = re.compile(
    r"(?!whatsapp)(wa|chatsettings|stickers|commerce|backup_settings|wallpapers|avatar|status|axolotl|media|payments)\w*[.\-].*",
    re.IGNORECASE,
)
# Key files, by name: sizes of `key` and `encrypted_backup.key`, also without their 27 bytes of Java. Tools that get a key off a phone put
# it into `.nomedia`, which is empty otherwise.
_KEY_FILES = {"key": (158, 131), "encrypted_backup.key": (59, 32), ".nomedia": (158, 59)}
_MOST_KEY_FILES = 8
# Two bytes are little to know crypt12 by (fonts begin so); the third is the version of its key.
_MAYBE_CRYPT12, _CRYPT12 = b"\x00\x01", (b"\x00\x01\x01", b"\x00\x01\x02", b"\x00\x01\x03")
_CONTACTS = (".vcf", ".vcard")
# Temporary copies, previews, and other apps' private folders, which no phone lets anybody list.
_SKIPPED = frozenset([".shared", ".thumbs", ".links", ".thumbnails"]) | CLOSED
_PRIVATE = ("android/data", "android/obb")
_INSIDE = frozenset(["sent", "private"])
_WEEKS_LOOKED_INTO = 5
_PURE_AUDIO = AUDIO_SUFFIXES - VIDEO_SUFFIXES

VOICE = Terms(look="all", kind="voice")
VIDEO = Terms(AUDIO_SUFFIXES | VIDEO_SUFFIXES, look="all", kind="video")
AUDIO = Terms(look="all")
# Among documents and statuses only what is named as audio: the rest is pictures and papers.
OTHERS = Terms(_PURE_AUDIO, look="")
LOOSE = Terms()


@dataclass(frozen=True, slots=True)
class MediaFolder:
    """A folder with notes. Paths are below the source's folder, as the system gives names."""

    path: str
    root: str
    """The store that it belongs to: the folder that holds `Media`."""
    original: str
    """Its path below the store's root, always `Media/…`, whatever level was named."""
    terms: Terms


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """A message database: plain SQLite, or encrypted."""

    path: str
    mtime_ns: int
    renamed: bool = False
    """True where neither its name nor its first bytes tell whose it is, only its tables: it may be anything."""

    @property
    def day(self) -> str | None:
        """The day of an earlier backup, as its name has it; None for the newest of its kind, whose name has none."""
        day = _DAY.search(self.path.rpartition("/")[2])
        return day[0] if day else None

    @property
    def version(self) -> str:
        """The number behind "crypt" in its name, or nothing. A name proves nothing: it only tells which files are of one series."""
        name = _ENCRYPTED.fullmatch(self.path.rpartition("/")[2])
        return name["version"] if name else ""


@dataclass(slots=True)
class Found:
    """All that was recognised."""

    roots: set[str] = field(default_factory=set)
    media: list[MediaFolder] = field(default_factory=list)
    plain: list[DatabaseFile] = field(default_factory=list)
    encrypted: list[DatabaseFile] = field(default_factory=list)
    increments: list[DatabaseFile] = field(default_factory=list)
    """Changes since a full backup: no databases."""
    keys: list[str] = field(default_factory=list)
    """Files that are named, and as long, as key files are."""

    def __bool__(self) -> bool:
        return bool(self.roots or self.plain or self.encrypted)

    @property
    def only_root(self) -> str | None:
        """The one store there is; None where there are none or several."""
        return next(iter(self.roots)) if len(self.roots) == 1 else None

    def root_of(self, path: str) -> str | None:
        """The innermost store that a path lies in; None outside all."""
        holding = [root for root in self.roots if not root or path == root or path.startswith(root + "/")]
        return max(holding, key=len, default=None)


def find_stores(tree: Tree, summary: Summary, *, database_is_named: bool = False) -> Found:
    """Go through the folders (not into those with notes) and recognise. Folders that cannot be listed are named in the summary.

    Where there is a database but no folder of WhatsApp's own, its notes may lie anywhere in the folder that was named.
    """
    found = Found()
    for folder in tree.walk("", summary):
        leave_out(folder)
        _note_databases(tree, folder, found, summary)
        if not folder.path and _is_part_of_media(tree, folder, found):
            break
        _recognise(tree, folder, found)
        _name_links(folder, summary)
    found.plain = [file for file in found.plain if not file.renamed or _is_in_own_folder(found, file)]
    found.encrypted = [file for file in found.encrypted if not file.renamed or _is_in_own_folder(found, file)]
    if not found.media and (any(not file.renamed for file in found.plain) or found.encrypted or database_is_named):
        found.media.append(MediaFolder("", "", "", LOOSE))
    found.media.sort(key=lambda media: media.path)
    return found


def leave_out(folder: Folder) -> None:
    """Keep the walk out of what holds no notes of anyone."""
    folder.folders = [name for name in folder.folders if name.lower() not in _SKIPPED and not folder.below(name).lower().endswith(_PRIVATE)]


def _note_databases(tree: Tree, folder: Folder, found: Found, summary: Summary) -> None:
    others = folder.path.rpartition("/")[2].lower() == "backups"
    own = _may_be_own(folder)
    for entry in folder.files:
        name = entry.name
        if _is_key_file(entry) and len(found.keys) < _MOST_KEY_FILES:
            found.keys.append(folder.below(name))
        elif not _BESIDE.fullmatch(name) and (_DATABASE.fullmatch(name) or (not others and _is_renamed(tree, folder, name))):
            _note_database(tree, folder, entry, found, summary)
        elif own and not (_BESIDE.fullmatch(name) or _NO_MESSAGES.fullmatch(name) or name.lower().endswith(_CONTACTS)):
            _note_renamed(tree, folder, entry, found)


def _may_be_own(folder: Folder) -> bool:
    """Whether this may turn out to be a store's root or its `Databases`, where a database is looked for under any name."""
    name = folder.path.rpartition("/")[2].lower()
    return name == "databases" or any(child.lower() == "media" or _MEDIA_FOLDER.fullmatch(child) for child in folder.folders)


def _is_in_own_folder(found: Found, file: DatabaseFile) -> bool:
    folder = file.path.rpartition("/")[0]
    above, _, name = folder.rpartition("/")
    return folder in found.roots or (name.lower() == "databases" and above in found.roots)


def _note_renamed(tree: Tree, folder: Folder, entry: os.DirEntry[str], found: Found) -> None:
    """A file under a name that says nothing. What cannot be read is not recognised."""
    path = folder.below(entry.name)
    try:
        head = tree.head(path, HEADER_BYTES)
        file = DatabaseFile(path, entry.stat(follow_symlinks=False).st_mtime_ns, renamed=True)
    except (OSError, FileUnreadable):
        return
    if head.startswith(SQLITE):
        found.plain.append(file)
    elif is_encrypted(head) and (head.startswith(_CRYPT12) or not head.startswith(_MAYBE_CRYPT12)):
        found.encrypted.append(file)


def _note_database(tree: Tree, folder: Folder, entry: os.DirEntry[str], found: Found, summary: Summary) -> None:
    path = folder.below(entry.name)
    try:
        file = DatabaseFile(path, entry.stat(follow_symlinks=False).st_mtime_ns)
        plain = tree.head(path, len(SQLITE)) == SQLITE
    except (OSError, FileUnreadable) as error:
        refuse(summary, path, why(error) if isinstance(error, OSError) else str(error))
        return
    if plain:
        found.plain.append(file)
    elif _INCREMENT.fullmatch(entry.name):
        found.increments.append(file)
    elif _ENCRYPTED.fullmatch(entry.name) or _is_encrypted(tree, path):
        found.encrypted.append(file)
    else:
        found.plain.append(file)


def _is_renamed(tree: Tree, folder: Folder, name: str) -> bool:
    return bool(_ENCRYPTED.fullmatch(name)) and not _NO_MESSAGES.fullmatch(name) and _is_encrypted(tree, folder.below(name))


def _is_encrypted(tree: Tree, path: str) -> bool:
    """By content, whatever the name says: copies are called `msgstore.db`, `msgstore.db.crypt15.db`, `my backup.crypt15` and worse."""
    try:
        return is_encrypted(tree.head(path, HEADER_BYTES))
    except FileUnreadable:
        return False


def _is_key_file(entry: os.DirEntry[str]) -> bool:
    sizes = _KEY_FILES.get(entry.name.lower())
    try:
        return sizes is not None and entry.stat(follow_symlinks=False).st_size in sizes
    except OSError:
        return False


def _is_part_of_media(tree: Tree, folder: Folder, found: Found) -> bool:
    """True where the folder that was named is itself one of `Media`'s folders, or a week of one."""
    _, above, name = f"//{os.fsdecode(tree.root)}".rsplit("/", 2)
    terms = _terms_of(name)
    if terms and all(_WEEK.fullmatch(child) or child.lower() in _INSIDE or child[0] == "." for child in folder.folders):
        found.media.append(MediaFolder("", "", f"Media/{text_of(name)}", terms))
    elif _WEEK.fullmatch(name) and _holds_notes(folder):
        known = _terms_of(above)
        brand = text_of(above) if known else "WhatsApp Voice Notes"
        found.media.append(MediaFolder("", "", f"Media/{brand}/{name}", known or VOICE))
    else:
        return False
    found.roots.add("")
    return True


def _recognise(tree: Tree, folder: Folder, found: Found) -> None:
    """Take the folder for a `Media`, a root, or renamed voice notes, if it is one; the walk then stays out of what is settled."""
    inside = [name for name in folder.folders if _MEDIA_FOLDER.fullmatch(name)]
    lower = {name.lower() for name in folder.folders}
    if inside:
        _take_media(tree, folder, inside, found)
    elif "media" in lower and lower & {"databases", "backups"}:
        found.roots.add(folder.path)
    elif _is_voice_notes(tree, folder):
        root = folder.path.rpartition("/")[0]
        found.roots.add(root)
        found.media.append(MediaFolder(folder.path, root, "Media/WhatsApp Voice Notes", VOICE))
        folder.folders = []


def _take_media(tree: Tree, folder: Folder, inside: list[str], found: Found) -> None:
    above, _, name = folder.path.rpartition("/")
    is_media = name.lower() == "media"
    root = above if is_media else folder.path
    found.roots.add(root)
    for child in [*inside, *(name for name in folder.folders if name.lower() == ".statuses")]:
        terms = _terms_of(child)
        if terms:
            found.media.append(MediaFolder(folder.below(child), root, f"Media/{text_of(child)}", terms))
    settled = set(inside)
    folder.folders = [] if is_media else [name for name in folder.folders if name not in settled]


def _terms_of(name: str) -> Terms | None:
    """What counts in a folder of `Media` with this name; None where nothing there is for us."""
    if name.lower() == ".statuses":
        return OTHERS
    what = _MEDIA_FOLDER.fullmatch(name)
    return {"voice notes": VOICE, "video notes": VIDEO, "audio": AUDIO, "documents": OTHERS}.get(what[1].lower()) if what else None


def _is_voice_notes(tree: Tree, folder: Folder) -> bool:
    """True for a folder of week folders that hold voice notes, whatever its own name is."""
    weeks = [name for name in folder.folders if _WEEK.fullmatch(name)]
    for week in weeks[:_WEEKS_LOOKED_INTO]:
        for inner in tree.walk(folder.below(week), Summary()):
            if _holds_notes(inner):
                return True
            break
    return False


def _holds_notes(folder: Folder) -> bool:
    return any(read_name(entry.name)[0] == "voice" for entry in folder.files)


def _name_links(folder: Folder, summary: Summary) -> None:
    """A link where a store, or a part of one, would be: it is not followed, and that is said."""
    for name in folder.links:
        if _MEDIA_FOLDER.fullmatch(name) or name.lower() in ("media", "whatsapp", "databases") or _DATABASE.fullmatch(name):
            refuse(summary, folder.below(name), "a symbolic link, which is not followed")
