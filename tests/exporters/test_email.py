"""Drafts of emails: correct by the standards, with the note inside as it was, and nothing forged by a name."""

from __future__ import annotations

import base64
import email
import re
from datetime import timedelta, timezone
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.errors import UsageError
from backup_tool.exporters.email import address, attachment_name, draft
from backup_tool.models import Note, Transcript

ZONE = timezone(timedelta(hours=1))
SOUND = bytes(range(256)) * 200
HOSTILE = [
    "a\r\nBcc: victim@example.org", "a\nb", "\u2028x", "\x85x", "\x1c\x1d\x1e", "../../x", '"; x="', "\u202egpj", "\ud800", "=?utf-8?q?x?=",
    "x" * 10_000, "<img src=x>", "\0", "字" * 400, "👨‍👩‍👧", "e\u0301", ".", "",
]  # fmt: skip


def note(**known: Any) -> Note:
    start: dict[str, Any] = {
        "id": "5f" * 32, "chat": "Família", "sender": "Zoë", "sent_at": "2026-03-03T14:05:09Z", "sent_at_from": "message", "duration": 83.2,
        "original_path": "Media/PTT-20260303-WA0001.opus", "path": "notes/secret place/PTT.opus",
    }  # fmt: skip
    return Note(**start | known)


def read(raw: bytes) -> tuple[EmailMessage, str, EmailMessage]:
    """A draft as a mail program reads it: the message, its text, its attachment. Checks the form on the way."""
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(raw, policy=default)
    assert isinstance(message, EmailMessage)
    text, attached = message.iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(attached, EmailMessage)
    assert not any(part.defects for part in message.walk())
    return message, text.get_content().replace("\r\n", "\n"), attached


def test_a_draft_says_who_when_and_where_with_the_note_attached() -> None:
    """The draft opens ready to send: subject and text in a person's words, the recording byte for byte, a name that survives any server."""
    message, text, attached = read(draft(note(), SOUND, to="Oma Müller <oma@example.org>", zone=ZONE))
    assert message["X-Unsent"] == "1"
    assert message["Subject"] == "Voice note from Zoë – 2026-03-03 15:05"
    assert message["To"].addresses[0].addr_spec == "oma@example.org"
    assert message["To"].addresses[0].display_name == "Oma Müller"
    assert not {"From", "Date", "Message-ID"} & set(message)
    assert text.startswith("From: Zoë\nSent: 2026-03-03 15:05\nChat: Família\nLength: 1:23\n")
    assert attached.get_content() == SOUND
    assert attached.get_content_type() == "audio/ogg"
    assert attached.get_param("codecs") == "opus"
    assert attached.get_content_disposition() == "attachment"
    assert attached.get_filename() == "2026-03-03_1505_zoe_familia.opus"


def test_the_attachment_can_be_taken_out_by_hand() -> None:
    """A reader that knows nothing but boundaries and base64 finds the same bytes."""
    raw = draft(note(), SOUND, zone=ZONE)
    found = re.search(rb'boundary="([^"]+)"', raw)
    assert found
    part = raw.split(b"--" + found[1])[2]
    head, body = part.split(b"\r\n\r\n", 1)
    assert b"Content-Transfer-Encoding: base64" in head
    assert max(map(len, body.splitlines())) <= 76
    assert base64.b64decode(body) == SOUND


def test_a_draft_tells_nothing_of_the_archive() -> None:
    """No path, id or chat id of the archive leaves with the mail."""
    raw = draft(note(chat_id="4915112345678@s.whatsapp.net", sender_id="4915112345678@s.whatsapp.net"), b"voice", zone=ZONE)
    _, text, _ = read(raw)
    for secret in ("secret place", "WA0001", "5f5f", "4915112345678", "whatsapp.net"):
        assert secret not in raw.decode() + text


@pytest.mark.parametrize(
    ("known", "subject", "name"),
    [
        ({"sender": None}, "Voice note – 2026-03-03 15:05", "2026-03-03_1505_familia.opus"),
        ({"sent_at": None}, "Voice note from Zoë", "undated_zoe_familia.opus"),
        ({"sent_at": "2026-03-03T12:00:00Z", "sent_at_from": "name"}, "Voice note from Zoë – 2026-03-03", "2026-03-03_zoe_familia.opus"),
        ({"sender": "字", "chat": "字"}, "Voice note from 字 – 2026-03-03 15:05", "2026-03-03_1505.opus"),
        ({"chat": "Zoë", "kind": "video", "original_path": "a.mp4"}, "Video note from Zoë – 2026-03-03 15:05", "2026-03-03_1505_zoe.mp4"),
        (
            {"sender": "Straße Łódź", "kind": "audio"},
            "Recording from Straße Łódź – 2026-03-03 15:05",
            "2026-03-03_1505_strasse-lodz_familia.opus",
        ),
    ],
)
def test_what_is_unknown_is_left_out(known: dict[str, Any], subject: str, name: str) -> None:
    """Subject and file name hold what is known, no placeholders, and no letters that old mail servers lose."""
    message, _, attached = read(draft(note(**known), b"voice", zone=ZONE))
    assert message["Subject"] == subject
    assert attached.get_filename() == name


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [
        (".mp3", "audio/mpeg"), (".m4a", "audio/mp4"), (".aac", "audio/aac"), (".amr", "audio/amr"), (".3gp", "audio/3gpp"),
        (".wav", "audio/wav"), (".caf", "audio/x-caf"), (".ogg", "audio/ogg"), (".mp4", "video/mp4"), (".xyz", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)  # fmt: skip
def test_the_attachment_says_what_it_is(suffix: str, media_type: str) -> None:
    """Mail programs learn the kind of file, also of a converted one."""
    _, _, attached = read(draft(note(), b"voice", suffix=suffix))
    assert attached.get_content_type() == media_type
    assert attached.get_param("codecs") is None
    assert str(attached.get_filename()).endswith(suffix)


def test_what_was_said_comes_along() -> None:
    """A transcript stands in the text, line by line, however long."""
    said = "Grüße!\r\n.\n" + "word " * 1000
    _, text, _ = read(draft(note(transcript=Transcript(text=said)), b"voice", zone=ZONE))
    assert "\n\nGrüße!\n.\n" + ("word " * 1000).strip() + "\n" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_forges_nothing(text: str) -> None:
    """A chat, sender or transcript written to add headers or parts ends up as words, and the note is still delivered."""
    message, body, attached = read(draft(note(chat=text, sender=text, transcript=Transcript(text=text)), SOUND, zone=ZONE))
    assert set(message.keys()) == {"X-Unsent", "Subject", "MIME-Version", "Content-Type"}
    assert len(message["Subject"]) < 200
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029]", message["Subject"] + body)
    assert attached.get_content() == SOUND
    assert re.fullmatch(r"2026-03-03_1505[a-z0-9_-]*\.opus", str(attached.get_filename()))


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_name_makes_a_mail(chat: str, sender: str) -> None:
    """No name at all breaks a draft, and the attachment is always whole."""
    _, _, attached = read(draft(note(chat=chat, sender=sender), b"\r\n.\r\nvoice", zone=ZONE))
    assert attached.get_content() == b"\r\n.\r\nvoice"
    assert attachment_name(note(chat=chat, sender=sender), ZONE).isascii()


@pytest.mark.parametrize(
    "text", ["anna@example.org", " Anna B. <a.b+c@mail.example.org> ", '"B, Anna" <a@b>', "<a@xn--fa-hia.de>", "Zoë <z@e.org>"]
)
def test_an_address_is_taken_with_or_without_a_name(text: str) -> None:
    """Addresses are taken as people write them, and come out as they went in."""
    message, _, _ = read(draft(note(), b"voice", to=text))
    (only,) = message["To"].addresses
    assert only.addr_spec in text
    assert only.display_name in text


@pytest.mark.parametrize(
    "text",
    [
        "", "anna", "@example.org", "anna@", "jürgen@example.org", "a@faß.de", "a@b, c@d", "a b@example.org", "a@b\r\nBcc: c@d", "a@-b.org",
        "x\nY: z <a@b.org>", "a..b@example.org", ".a@example.org", "a@b..org", "a@" + "b" * 64 + ".org", "x" * 65 + "@b.org", "<a@b> <c@d>",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """A typing mistake in an address, or one that would reach another domain, is told before anything is written."""
    with pytest.raises(UsageError) as refused:
        address(text)
    assert refused.value.message.isprintable()
