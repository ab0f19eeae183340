"""Notes as a mail: a draft that mail programs open ready to send, or a whole message to be sent by this program.

Format: RFC 5322 (the message), RFC 2045 to 2049 (its parts), RFC 2183 (the attachments), RFC 6532 for addresses that are not ASCII. Every
line ends with CRLF; but for such addresses all is plain ASCII, so that it survives any relay. `X-Unsent: 1` is what classic Outlook takes
for "not sent yet"; From, Date and Message-ID of a draft are for the mail program to fill in.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import localtime, make_msgid
from typing import NamedTuple

from backup_tool.errors import UsageError
from backup_tool.exporters.naming import local_time
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
_PLAYS_ANYWHERE = {".mp3", ".m4a", ".wav"}
# Letters that do not come apart into a plain letter and an accent.
_PLAIN = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
)
# RFC 5322 dot-atoms; RFC 6531 allows every letter beyond ASCII in them.
_ATOM = r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|[^\x00-\x7f\W])+"
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOMAIN = re.compile(r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class Attachment(NamedTuple):
    """A note, the bytes to attach (as it was recorded, or a copy), and the suffix of their kind (".mp3")."""

    note: Note
    data: bytes
    suffix: str


class Batch(NamedTuple):
    """What goes into one mail; `part` counts from 1 where there are several, and is None where there is one only."""

    attachments: list[Attachment]
    part: int | None


def draft(attachments: Sequence[Attachment], *, to: Sequence[Address] = (), zone: tzinfo | None = None, part: int | None = None) -> bytes:
    """The draft of a mail with these notes attached, as the bytes of an ``.eml`` file. Times are written in `zone` (None: this machine's).

    The same notes make the same draft.
    """
    mail = EmailMessage(policy=_policy(to))
    mail["X-Unsent"] = "1"
    if to:
        mail["To"] = tuple(to)
    return _filled(mail, attachments, zone, part)


def message(
    attachments: Sequence[Attachment], *, sender: Address, to: Sequence[Address], zone: tzinfo | None = None, part: int | None = None
) -> bytes:
    """The whole mail from `sender` to all in `to`, of now."""
    mail = _headed(sender, to)
    return _filled(mail, attachments, zone, part)


def trial(sender: Address, to: Address) -> bytes:
    """A mail that shows that mails arrive."""
    mail = _headed(sender, [to])
    mail["Subject"] = "A test of backup"
    mail.set_content("Mail from backup arrives here: notes can be sent this way.\n", charset="utf-8")
    return mail.as_bytes()


def _headed(sender: Address, to: Sequence[Address]) -> EmailMessage:
    mail = EmailMessage(policy=_policy((sender, *to)))
    mail["From"] = sender
    mail["To"] = tuple(to)
    mail["Date"] = localtime()
    # Without a domain the name of this machine would stand in it.
    mail["Message-ID"] = make_msgid(domain=sender.domain)
    return mail


def _policy(addresses: Iterable[Address]) -> EmailPolicy[EmailMessage]:
    return _POLICY.clone(utf8=True) if any(map(is_international, addresses)) else _POLICY


def _filled(mail: EmailMessage, attachments: Sequence[Attachment], zone: tzinfo | None, part: int | None) -> bytes:
    mail["Subject"] = _subject([one.note for one in attachments], zone) + (f" (part {part})" if part else "")
    names = _names(attachments, zone)
    mail.set_content(_body(attachments, names, zone), charset="utf-8")
    for name, (note, data, suffix) in zip(names, attachments, strict=True):
        media_type = _TYPES.get(suffix, "application/octet-stream")
        opus = media_type == "audio/ogg" and (suffix == ".opus" or "opus" in (note.media_type or ""))
        maintype, _, subtype = media_type.partition("/")
        mail.add_attachment(data, maintype=maintype, subtype=subtype, filename=name, params={"codecs": "opus"} if opus else None)
    mail.set_boundary(_boundary(attachments, mail))
    return mail.as_bytes()


def _boundary(attachments: Sequence[Attachment], mail: EmailMessage) -> str:
    """The same notes make the same draft: no random number stands between its parts."""
    digest = hashlib.sha256()
    for one in attachments:
        digest.update(one.data)
    boundary = f"=_{digest.hexdigest()[:32]}"
    while any(boundary in str(part.get_payload()) for part in mail.walk() if not part.is_multipart()):
        boundary += "_"
    return boundary


# --- how much fits --------------------------------------------------------------------------------------------------------------------


def room(limit: int) -> int:
    """How many bytes a single attachment may have in a mail of at most `limit`."""
    return max((limit - 16_384) * 57 // 78, 0)


def batches(attachments: Iterable[Attachment], limit: int) -> Iterator[Batch]:
    """As many mails of at most `limit` bytes as these need, in their order. Each attachment alone must fit."""
    together: list[Attachment] = []
    size, part = 0, 0
    for one in attachments:
        # 57 bytes are 78 in base64 with its line end; the rest is for headers and what is said of the note.
        takes = len(one.data) * 78 // 57 + 1024 + 6 * len(one.note.transcript.text if one.note.transcript else "")
        if together and size + takes > limit - 8192:
            part += 1
            yield Batch(together, part)
            together, size = [], 0
        together.append(one)
        size += takes
    if together:
        yield Batch(together, part + 1 if part else None)


# --- words ------------------------------------------------------------------------------------------------------------------------------


def attachment_name(note: Note, zone: tzinfo | None, suffix: str) -> str:
    """``2026-03-03_1505_anna_family.mp3``: plain ASCII, because some mail servers lose names that are not."""
    time = local_time(note, zone) or "undated"
    words = [time[:10] + ("_" + time[11:16].replace("-", "") if len(time) > 10 else ""), _slug(note.sender), _slug(note.chat)]
    stem = "_".join(word for number, word in enumerate(words) if word and word not in words[:number])
    return stem[:_LONGEST] + suffix


def _names(attachments: Sequence[Attachment], zone: tzinfo | None) -> list[str]:
    """A name for each, no two alike."""
    names: list[str] = []
    for one in attachments:
        name = attachment_name(one.note, zone, one.suffix)
        stem, suffix = os.path.splitext(name)
        number = 2
        while name in names:
            name, number = f"{stem}_{number}{suffix}", number + 1
        names.append(name)
    return names


def _subject(notes: Sequence[Note], zone: tzinfo | None) -> str:
    if len(notes) == 1:
        return headline(notes[0], zone)
    words = [f"{len(notes)} {'voice notes' if all(note.kind == 'voice' for note in notes) else 'recordings'}"]
    senders = {on_one_line(own_name(note.sender or "")) for note in notes}
    if len(senders) == 1 and (sender := senders.pop()):
        words.append(f"from {sender}")
    if days := sorted({time[:10] for note in notes if (time := local_time(note, zone))}):
        words.append(f"– {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else ""))
    return " ".join(words)


def _body(attachments: Sequence[Attachment], names: Sequence[str], zone: tzinfo | None) -> str:
    several = len(attachments) > 1
    lines: list[str] = []
    for one, name in zip(attachments, names, strict=True):
        lines += [name] if several else []
        lines += [*_told(one.note, zone), ""]
    lines.append("The recordings are attached." if several else "The recording is attached.")
    if any(one.suffix not in _PLAYS_ANYWHERE for one in attachments):
        lines[-1] += " If your player does not know the file, VLC (videolan.org) and web browsers play it."
    return "\n".join([*lines, ""])


def _told(note: Note, zone: tzinfo | None) -> list[str]:
    """What is known of a note, a line each, and what was said in it."""
    facts = [
        ("From", own_name(note.sender or "")),
        ("Sent", time_in_words(note, zone)),
        ("Chat", note.chat),
        ("Length", length_in_words(note.duration)),
    ]
    lines = [f"{word}: {on_one_line(value)}" for word, value in facts if value and on_one_line(value)]
    if note.transcript and note.transcript.text.strip():
        lines += ["", *(on_one_line(line, 10_000) for line in note.transcript.text.splitlines())]
    return lines


def _slug(text: str | None) -> str:
    letters = unicodedata.normalize("NFKD", (text or "").translate(_PLAIN)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:40]


# --- addresses --------------------------------------------------------------------------------------------------------------------------


def address(text: str) -> Address:
    """One mail address, ``anna@example.org`` or ``Anna <anna@example.org>``. Raises UsageError where it is none.

    A domain in other letters is brought into its ``xn--`` form (IDNA 2008, RFC 5891, with the mapping of UTS 46): the older form of the
    standard library would make another domain of some. Letters beyond ASCII left of the @ stay: see `is_international`.
    """
    match = re.fullmatch(r"\s*(?:(?P<name>[^<>\r\n]*?)\s*<(?P<in>[^<>\s]+)>|(?P<bare>[^<>\s]+))\s*", text)
    local, _, domain = unicodedata.normalize("NFC", match["in"] or match["bare"]).rpartition("@") if match else ("", "", "")
    domain = _ascii_domain(domain)
    if not match or len(local.encode("utf-8", "replace")) > 64 or not _LOCAL_PART.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise UsageError(f'"{shown(text)}" is no mail address', "write it like anna@example.org, or 'Anna <anna@example.org>'")
    return Address(display_name=on_one_line(match["name"] or "").strip('"'), username=local, domain=domain)


def _ascii_domain(domain: str) -> str:
    if domain.isascii():
        return domain
    import idna

    try:
        return idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return ""


def is_international(address: Address) -> bool:
    """True where only servers with SMTPUTF8 (RFC 6531) can deliver to it."""
    return not address.username.isascii()
