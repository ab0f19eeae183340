"""Drafts of emails: correct by the standards, with the note inside as it was, and nothing forged by a name."""

from __future__ import annotations

import base64
import email
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_tool.errors import UsageError
from backup_tool.exporters.email import Attachment, address, attachment_name, batches, draft, is_international, room
from backup_tool.exporters.email import message as whole_message
from backup_tool.exporters.naming import file_suffix
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


def drafted(known: Note, data: bytes, *, to: str | None = None, suffix: str | None = None, zone: tzinfo = ZONE) -> bytes:
    """A draft with one note."""
    attachment = Attachment(known, data, file_suffix(known) if suffix is None else suffix)
    return draft([attachment], to=[address(to)] if to else [], zone=zone)


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
    message, text, attached = read(drafted(note(), SOUND, to="Oma Müller <oma@example.org>", zone=ZONE))
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
    raw = drafted(note(), SOUND, zone=ZONE)
    found = re.search(rb'boundary="([^"]+)"', raw)
    assert found
    part = raw.split(b"--" + found[1])[2]
    head, body = part.split(b"\r\n\r\n", 1)
    assert b"Content-Transfer-Encoding: base64" in head
    assert max(map(len, body.splitlines())) <= 76
    assert base64.b64decode(body) == SOUND


def test_a_draft_tells_nothing_of_the_archive() -> None:
    """No path, id or chat id of the archive leaves with the mail."""
    raw = drafted(note(chat_id="4915112345678@s.whatsapp.net", sender_id="4915112345678@s.whatsapp.net"), b"voice", zone=ZONE)
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
    message, _, attached = read(drafted(note(**known), b"voice", zone=ZONE))
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
    _, _, attached = read(drafted(note(), b"voice", suffix=suffix))
    assert attached.get_content_type() == media_type
    assert attached.get_param("codecs") is None
    assert str(attached.get_filename()).endswith(suffix)


def test_what_was_said_comes_along() -> None:
    """A transcript stands in the text, line by line, however long."""
    said = "Grüße!\r\n.\n" + "word " * 1000
    _, text, _ = read(drafted(note(transcript=Transcript(text=said)), b"voice", zone=ZONE))
    assert "\n\nGrüße!\n.\n" + ("word " * 1000).strip() + "\n" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_forges_nothing(text: str) -> None:
    """A chat, sender or transcript written to add headers or parts ends up as words, and the note is still delivered."""
    message, body, attached = read(drafted(note(chat=text, sender=text, transcript=Transcript(text=text)), SOUND, zone=ZONE))
    assert set(message.keys()) == {"X-Unsent", "Subject", "MIME-Version", "Content-Type"}
    assert len(message["Subject"]) < 200
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029]", message["Subject"] + body)
    assert attached.get_content() == SOUND
    assert re.fullmatch(r"2026-03-03_1505[a-z0-9_-]*\.opus", str(attached.get_filename()))


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_name_makes_a_mail(chat: str, sender: str) -> None:
    """No name at all breaks a draft, and the attachment is always whole."""
    _, _, attached = read(drafted(note(chat=chat, sender=sender), b"\r\n.\r\nvoice", zone=ZONE))
    assert attached.get_content() == b"\r\n.\r\nvoice"
    assert attachment_name(note(chat=chat, sender=sender), ZONE, ".mp3").isascii()


def test_several_notes_are_told_one_by_one() -> None:
    """A mail of several says how many, of whom and of which days, and tells each under the name of its file; no two names are alike."""
    notes = [note(), note(sent_at="2026-03-05T14:05:09Z", transcript=Transcript(text="Hello")), note()]
    raw = draft([Attachment(one, bytes([number]), ".mp3") for number, one in enumerate(notes)], zone=ZONE)
    mail = email.message_from_bytes(raw, policy=default)
    assert isinstance(mail, EmailMessage)
    text, *attached = mail.iter_parts()
    assert mail["Subject"] == "3 voice notes from Zoë – 2026-03-03 to 2026-03-05"
    names = ["2026-03-03_1505_zoe_familia.mp3", "2026-03-05_1505_zoe_familia.mp3", "2026-03-03_1505_zoe_familia_2.mp3"]
    assert [part.get_filename() for part in attached] == names
    assert [part.get_payload(decode=True) for part in attached] == [b"\0", b"\1", b"\2"]
    assert isinstance(text, EmailMessage)
    told = text.get_content().replace("\r\n", "\n")
    assert told.startswith(f"{names[0]}\nFrom: Zoë\nSent: 2026-03-03 15:05\n")
    assert f"\n\n{names[1]}\nFrom: Zoë\nSent: 2026-03-05 15:05\nChat: Família\nLength: 1:23\n\nHello\n" in told
    assert told.endswith("\nThe recordings are attached.\n")


@pytest.mark.parametrize(
    ("others", "subject"),
    [
        ({"sender": "Ben"}, "2 voice notes – 2026-03-03"),
        ({"kind": "audio"}, "2 recordings from Zoë – 2026-03-03"),
        ({"sent_at": None, "sender": "a\r\nBcc: b@c"}, "2 voice notes – 2026-03-03"),
    ],
)
def test_the_subject_of_several_says_only_what_holds_for_all(others: dict[str, Any], subject: str) -> None:
    """A name in the subject is that of everybody in it."""
    raw = draft([Attachment(note(), b"x", ".mp3"), Attachment(note(**others), b"y", ".mp3")], zone=ZONE)
    assert email.message_from_bytes(raw, policy=default)["Subject"] == subject


@pytest.mark.parametrize("sizes", [[10], [400_000] * 5, [900_000, 10, 900_000], [100] * 3000, [650_000, 650_000]])
def test_no_mail_is_larger_than_it_may_be(sizes: list[int]) -> None:
    """Notes are spread over as many mails as they need, in order, none left out; the mails are numbered where they are several."""
    limit = 1_300_000
    given = [
        Attachment(note(sender=str(n), transcript=Transcript(text="字" * (n % 50))), bytes(size), ".mp3") for n, size in enumerate(sizes)
    ]
    made = list(batches(given, limit))
    assert [one for batch in made for one in batch.attachments] == given
    assert [batch.part for batch in made] == ([None] if len(made) == 1 else [*range(1, len(made) + 1)])
    assert len(made) <= 4
    for attachments, part in made:
        raw = draft(attachments, part=part)
        assert len(raw) <= limit
        assert (f"(part {part})" in email.message_from_bytes(raw, policy=default)["Subject"]) == (part is not None)


@settings(max_examples=30)
@given(st.integers(20_000, 400_000))
def test_a_note_that_just_fits_does_fit(limit: int) -> None:
    """The largest note for a mail makes a mail that is not too large, and uses nearly all of it."""
    raw = drafted(note(), bytes(room(limit)))
    assert limit - 20_000 < len(raw) <= limit


def test_a_whole_mail_is_from_somebody_and_of_now() -> None:
    """What is sent has sender, receivers, date and an id that tells nothing of this machine."""
    to = [address("Oma <oma@example.org>"), address("ben@example.com")]
    raw = whole_message([Attachment(note(), SOUND, ".mp3")], sender=address("Zoë <me@example.net>"), to=to, zone=ZONE)
    mail, _, attached = read(raw)
    assert str(mail["From"]) == "Zoë <me@example.net>"
    assert [one.addr_spec for one in mail["To"].addresses] == ["oma@example.org", "ben@example.com"]
    assert abs(mail["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=5)
    assert re.fullmatch(r"<[\w.]+@example\.net>", mail["Message-ID"])
    assert "X-Unsent" not in mail
    assert attached.get_content() == SOUND


def test_an_address_in_other_letters_is_written_as_servers_want_it() -> None:
    """A domain gets the form that names exactly it; letters left of the @ make a mail in UTF-8."""
    assert address("a@faß.de").addr_spec == "a@xn--fa-hia.de"
    assert address("Grüße <a@bücher.example>").addr_spec == "a@xn--bcher-kva.example"
    assert address("ju\u0308rgen@example.org").addr_spec == "jürgen@example.org"
    assert [is_international(address(text)) for text in ("a@faß.de", "jürgen@faß.de", "用户@例子.广告")] == [False, True, True]
    raw = draft([Attachment(note(), b"x", ".mp3")], to=[address("jürgen@faß.de")], zone=ZONE)
    assert "To: jürgen@xn--fa-hia.de\r\n".encode() in raw


@pytest.mark.parametrize(
    "text", ["anna@example.org", " Anna B. <a.b+c@mail.example.org> ", '"B, Anna" <a@b>', "<a@xn--fa-hia.de>", "Zoë <z@e.org>"]
)
def test_an_address_is_taken_with_or_without_a_name(text: str) -> None:
    """Addresses are taken as people write them, and come out as they went in."""
    message, _, _ = read(drafted(note(), b"voice", to=text))
    (only,) = message["To"].addresses
    assert only.addr_spec in text
    assert only.display_name in text


@pytest.mark.parametrize(
    "text",
    [
        "", "anna", "@example.org", "anna@", "jür\u202egen@example.org", "a@fa\u2028ß.de", "😀@b.org", "ü" * 33 + "@b.org",
        "a@b, c@d", "a b@example.org", "a@b\r\nBcc: c@d", "a@-b.org",
        "x\nY: z <a@b.org>", "a..b@example.org", ".a@example.org", "a@b..org", "a@" + "b" * 64 + ".org", "x" * 65 + "@b.org", "<a@b> <c@d>",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """A typing mistake in an address, or one that would reach another domain, is told before anything is written."""
    with pytest.raises(UsageError) as refused:
        address(text)
    assert refused.value.message.isprintable()
