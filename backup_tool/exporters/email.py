"""A note as the draft of an email: a file that mail programs open ready to send, with the note attached exactly as it was recorded.

Format: RFC 5322 (the message), RFC 2045 to 2049 (its parts), RFC 2183 (the attachment). Every line ends with CRLF and is plain ASCII, so
the draft survives any relay. `X-Unsent: 1` is what classic Outlook takes for "not sent yet"; From, Date and Message-ID are for the mail
program to fill in.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import tzinfo
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from backup_tool.errors import UsageError
from backup_tool.exporters.naming import file_suffix, local_time
from backup_tool.exporters.words import headline, length_in_words, time_in_words
from backup_tool.models import Note
from backup_tool.names import on_one_line, own_name, shown

_POLICY = SMTP.clone(cte_type="7bit")
_LONGEST = 120
_TYPES = {
    ".opus": "audio/ogg", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac",
    ".amr": "audio/AMR", ".3gp": "audio/3gpp", ".wav": "audio/wav", ".caf": "audio/x-caf", ".flac": "audio/flac", ".weba": "audio/webm",
    ".mp4": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm",
}  # fmt: skip
# Letters that do not come apart into a plain letter and an accent.
_PLAIN = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
)
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def draft(note: Note, data: bytes, *, to: str | None = None, zone: tzinfo | None = None, suffix: str | None = None) -> bytes:
    """The draft of an email with one note attached, as the bytes of an ``.eml`` file.

    `data` is the note's file; `suffix` (".mp3") says what it is where it was converted. `to` is one address, with or without a name. Times
    are written in `zone` (None: this machine's). Raises UsageError where `to` is no address.
    """
    message = EmailMessage(policy=_POLICY)
    message["X-Unsent"] = "1"
    if to is not None:
        message["To"] = address(to)
    message["Subject"] = headline(note, zone)
    message.set_content(_body(note, zone), charset="utf-8")
    suffix = file_suffix(note) if suffix is None else suffix
    media_type = _TYPES.get(suffix, "application/octet-stream")
    opus = media_type == "audio/ogg" and (suffix == ".opus" or "opus" in (note.media_type or ""))
    maintype, _, subtype = media_type.partition("/")
    name = attachment_name(note, zone, suffix)
    message.add_attachment(data, maintype=maintype, subtype=subtype, filename=name, params={"codecs": "opus"} if opus else None)
    message.set_boundary(_boundary(data, message))
    return message.as_bytes()


def _boundary(data: bytes, message: EmailMessage) -> str:
    """The same note makes the same draft: no random number stands between its parts."""
    boundary = f"=_{hashlib.sha256(data).hexdigest()[:32]}"
    while any(boundary in str(part.get_payload()) for part in message.walk() if not part.is_multipart()):
        boundary += "_"
    return boundary


def attachment_name(note: Note, zone: tzinfo | None = None, suffix: str | None = None) -> str:
    """``2026-03-03_1505_anna_family.opus``: plain ASCII, because some mail servers lose names that are not."""
    time = local_time(note, zone) or "undated"
    words = [time[:10] + ("_" + time[11:16].replace("-", "") if len(time) > 10 else ""), _slug(note.sender), _slug(note.chat)]
    stem = "_".join(word for number, word in enumerate(words) if word and word not in words[:number])
    return stem[:_LONGEST] + (file_suffix(note) if suffix is None else suffix)


def address(text: str) -> Address:
    """One mail address, ``anna@example.org`` or ``Anna <anna@example.org>``.

    Raises UsageError where it is none. Letters outside ASCII are refused: left of the @ few servers take them, right of it they can be
    written in two ways that name different domains.
    """
    match = re.fullmatch(r"\s*(?:(?P<name>[^<>\r\n]*?)\s*<(?P<in>[^<>\s]+)>|(?P<bare>[^<>\s]+))\s*", text)
    local, _, domain = (match["in"] or match["bare"]).rpartition("@") if match else ("", "", "")
    if not match or len(local) > 64 or not _LOCAL_PART.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise UsageError(
            f'"{shown(text)}" is no mail address', "write it like anna@example.org (a domain with other letters in its xn-- form)"
        )
    return Address(display_name=on_one_line(match["name"] or "").strip('"'), username=local, domain=domain)


def _body(note: Note, zone: tzinfo | None) -> str:
    facts = [
        ("From", own_name(note.sender or "")),
        ("Sent", time_in_words(note, zone)),
        ("Chat", note.chat),
        ("Length", length_in_words(note.duration)),
    ]
    lines = [f"{word}: {on_one_line(value)}" for word, value in facts if value and on_one_line(value)]
    if note.transcript and note.transcript.text.strip():
        lines += ["", *(on_one_line(line, 10_000) for line in note.transcript.text.splitlines())]
    lines += [
        "",
        "The recording is attached. If your player does not know the file, VLC (videolan.org) and web browsers play it.",
        "",
    ]
    return "\n".join(lines)


def _slug(text: str | None) -> str:
    letters = unicodedata.normalize("NFKD", (text or "").translate(_PLAIN)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:40]
