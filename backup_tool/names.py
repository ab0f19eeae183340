"""Names from outside made safe: for paths in a snapshot and on disk, and for a terminal.

Chat titles, senders and file names are written by whoever can message the owner: hostile text.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata

# The Unicode tables of one fixed version: the same name comes out on every interpreter, time zone and locale, and every
# letter in it is printable to readers with older tables (restic quotes what its Go does not know: facts, tree names).
_FIXED = unicodedata.ucd_3_2_0
_ALSO_ALLOWED = frozenset(" -_.()+@")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
# Names that need no work: most of them.
_PLAIN = re.compile(r"[A-Za-z0-9_()+@](?:[A-Za-z0-9 _.()+@-]*[A-Za-z0-9_()+@-])?")
_LIMIT = 200
# What a terminal or a reader could be fooled with: controls, bidirectional overrides and isolates, zero-width characters, line separators,
# lone surrogates, tags.
_UNSHOWN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


# What no name can hold on FAT, exFAT or the storage of a phone, and what must not be shown.
_NOT_KEPT = re.compile(rf'[\\/:*?"<>|]|{_UNSHOWN.pattern}')


def safe_name(text: str, limit: int = _LIMIT) -> str:
    """A file or folder name made from an outside name: NFC, letters, marks, numbers, space and ``-_.()+@``; anything else ``_``.

    Never empty, never hidden, never an option, never a device name of Windows; at most `limit` bytes in UTF-8, a suffix kept.
    """
    if _PLAIN.fullmatch(text) and len(text) <= limit and not _RESERVED.fullmatch(text):
        return text
    composed = _FIXED.normalize("NFC", text.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    kept = "".join(c if c in _ALSO_ALLOWED or _FIXED.category(c)[0] in "LMN" else "_" for c in composed)
    if kept[:1] in ("-", "."):
        kept = "_" + kept[1:]
    kept = _shorten(kept, limit).rstrip(". ")
    if _RESERVED.fullmatch(kept):
        kept = "_" + kept
    return kept or "_"


def kept_name(text: str) -> str:
    """A file name as it was, to be found again by a program that knows it so; as `safe_name` where it could steer a terminal, hide, be
    taken for an option, or not stand on disks that people carry."""
    if _PLAIN.fullmatch(text) and len(text) <= _LIMIT and not _RESERVED.fullmatch(text):
        return text
    bad = (
        _NOT_KEPT.search(text)
        or text[:1] in ("", "-", ".", "~", " ")
        or text[-1:] in (".", " ")
        or len(text.encode("utf-8", "replace")) > 255
    )
    return safe_name(text) if bad or _RESERVED.fullmatch(text) else text


def _shorten(name: str, limit: int) -> str:
    if len(name.encode()) <= limit:
        return name
    stem, suffix = os.path.splitext(name)
    if len(suffix.encode()) > 20:
        stem, suffix = name, ""
    return stem.encode()[: limit - len(suffix.encode())].decode("utf-8", "ignore") + suffix


def told_apart(name: str, key: str, limit: int = _LIMIT) -> str:
    """The name with 8 hex digits of the key's SHA-256 before its suffix: for two things that would share one name."""
    stem, suffix = os.path.splitext(name)
    mark = " " + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return _shorten(stem, limit - len(mark) - len(suffix.encode())) + mark + suffix


def chat_folder(title: str, chat_id: str) -> str:
    """The folder of a chat inside a snapshot: its name at first sight and 4 hex digits of SHA-256(chat_id)."""
    digits = hashlib.sha256(chat_id.encode("utf-8", "surrogatepass")).hexdigest()[:4]
    return f"{safe_name(own_name(title), _LIMIT - 5)} {digits}"


def folded(text: str) -> str:
    """For comparing paths and names: NFC and case-folded."""
    return unicodedata.normalize("NFC", text).casefold() if not text.isascii() else text.lower()


def plain(text: str) -> str:
    """For searching: case, accents, marks that only change how a sign is drawn, and further spaces ignored; so is a `~` in front."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if unicodedata.category(c) not in ("Mn", "Cf"))
    return " ".join(text.lower().removeprefix("~").split())


def own_name(name: str) -> str:
    """A name without the `~` that marks those which people gave themselves: in the names of files it would only be in the way."""
    return name.strip().removeprefix("~").lstrip()


def in_bytes(count: int) -> str:
    """Bytes for people: 999 B, 12.3 KB, 4.0 GB (powers of 1000)."""
    amount = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def in_time(seconds: float) -> str:
    """A stretch of time for people, in whole units: 45 seconds, 5 minutes, 3 hours, 12 days."""
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= (2 if unit == "day" else 1) * size:
            number = int(seconds // size)
            return f"{number:,} {unit}{'' if number == 1 else 's'}"
    return f"{max(0, int(seconds))} second{'' if int(seconds) == 1 else 's'}"


def shown(text: str, limit: int = 200) -> str:
    """Outside text as a terminal may show it: what could steer or fool it is escaped, and it is cut at `limit` characters."""
    clean = _UNSHOWN.sub(lambda m: m[0].encode("unicode_escape").decode(), text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def path_text(raw: bytes) -> str:
    r"""A path's bytes as text for a record: UTF-8 where it is, undecodable bytes as ``\xNN``."""
    return raw.decode("utf-8", "backslashreplace")


def on_one_line(text: str, limit: int = 120, *, keep: str = "") -> str:
    """Outside text as one line for people: without controls, line separators, and what turns the reading direction; cut at `limit`.

    Signs in `keep` stay.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())[:limit]
    kept = (
        " " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c
        for c in text
        if c in keep or unicodedata.category(c) not in ("Cf", "Cs")
    )
    return " ".join("".join(kept).split())[:limit]
