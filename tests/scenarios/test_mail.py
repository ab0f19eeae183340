"""Notes that go to somebody by mail, from the command that is typed to what arrives, and what is left where it does not."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from backup_tool.audio import inspect
from tests.exporters.mailserver import MailServer, mail_server
from tests.generators.android import phone
from tests.generators.ogg import opus_note
from tests.generators.old import put_old
from tests.scenarios.album import Album
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World

MAIL_PASSWORD = "quiet otters hum"
ANNA, BEN = "anna@example.org", "ben@example.com"


@contextmanager
def post(world: World, settings: str = "", **how: Any) -> Iterator[MailServer]:
    """A mail server, and the settings to use it; the machine trusts its certificate through the variable that OpenSSL knows."""
    word = world.folder / "mail-password"
    word.write_text(MAIL_PASSWORD + "\n")
    word.chmod(0o600)
    with mail_server(world.folder, **{"users": {"me@example.org": MAIL_PASSWORD}, **how}) as server:
        world.configure(
            f'[email]\nfrom = "Me <me@example.org>"\nhost = "localhost"\nport = {server.port}\npassword_file = "{word}"\n{settings}'
        )
        yield server


def trusting(server: MailServer) -> dict[str, str | None]:
    return {"SSL_CERT_FILE": str(server.authority)}


@pytest.fixture
def here(album: Album, tmp_path: Path) -> World:
    """Another folder on the machine of the album."""
    return World(tmp_path / "here", repo=album.world.repo)


def read(raw: bytes) -> tuple[EmailMessage, list[EmailMessage]]:
    """A mail as a mail program reads it, and its attachments."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    attached = [part for part in message.iter_attachments() if isinstance(part, EmailMessage)]
    assert not any(part.defects for part in message.walk())
    return message, attached


def text_of(message: EmailMessage) -> str:
    body = message.get_body()
    assert isinstance(body, EmailMessage)
    return str(body.get_content()).replace("\r\n", "\n")


def test_a_note_arrives_as_something_that_everybody_can_play(album: Album, here: World) -> None:
    """Grandmother gets a mail that says who speaks, when and how long, with an MP3 whose name any server leaves as it is."""
    with post(here) as server:
        ended = here.backup("extract", album.ids["zoe"], "--email", f"Oma <{ANNA}>", "--json", env=trusting(server))
        [mail] = server.mails
    message, [attached] = read(mail.content)
    assert (mail.sender, mail.to, mail.encrypted, mail.user) == ("me@example.org", [ANNA], True, "me@example.org")
    assert str(message["From"]) == "Me <me@example.org>"
    assert str(message["To"]) == f"Oma <{ANNA}>"
    assert message["Subject"] == "Voice note from Zoë Núñez – 2024-03-01 13:45"
    assert text_of(message).startswith("From: Zoë Núñez\nSent: 2024-03-01 13:45\nChat: Family\nLength: 0:02\n")
    assert (attached.get_filename(), attached.get_content_type()) == ("2024-03-01_1345_zoe-nunez_family.mp3", "audio/mpeg")
    assert inspect(attached.get_content()).duration == pytest.approx(2.5, abs=0.25)
    zoe = album.made["zoe"]
    document = ended.json
    [sent] = document.pop("mails")
    assert document.pop("unsent") == 0
    assert sent == {"to": [ANNA], "refused": [], "notes": [album.ids["zoe"]], "bytes": len(mail.content), "draft": None}
    assert document == {"notes": 1, "bytes": len(zoe.data), "files": [], "errors": []}
    assert not list((here.folder / "state").rglob("*.eml"))


def test_the_recording_itself_is_sent_on_request_with_what_was_said_in_it(album: Album, here: World) -> None:
    """With --format original every byte of the recording arrives; the transcript stands in the mail."""
    with post(here) as server:
        told = here.backup("extract", album.ids["keys"], "--email", ANNA, "--format", "original", env=trusting(server)).text
        message, [attached] = read(server.mails[0].content)
    assert attached.get_content() == album.made["keys"].data
    assert attached.get_content_type() == "audio/ogg"
    assert "\n\nDie Schlüssel sind unter der Matte\n" in text_of(message)
    assert re.fullmatch(rf"mailed 1 note, [\d.]+ KB, to {ANNA}\n", told)


def test_several_notes_go_in_one_mail_to_several_people(album: Album, here: World) -> None:
    """Each named note is attached once, and everybody gets the mail."""
    ids = [album.ids[name] for name in ("zoe", "ben")]
    with post(here) as server:
        here.backup(
            "extract",
            *ids,
            "latest",
            ids[0][:12],
            "--chat",
            "Family",
            "--email",
            ANNA,
            "--email",
            BEN,
            "--email",
            ANNA,
            env=trusting(server),
        )
        [mail] = server.mails
    message, attached = read(mail.content)
    assert mail.to == [ANNA, BEN]
    assert message["Subject"] == "3 voice notes – 2024-03-01 to 2024-03-03"
    names = ["2024-03-01_1345_zoe-nunez_family.mp3", "2024-03-02_0005_family.mp3", "2024-03-03_1445_family.mp3"]
    assert [part.get_filename() for part in attached] == names


def test_many_notes_are_spread_over_mails_that_the_server_takes(new_world: NewWorld, tmp_path: Path) -> None:
    """What one mail cannot hold goes in several, numbered; a copy too large for any goes as recorded; what fits in none is named."""
    world = new_world(tmp_path / "machine")
    store = world.folder / "notes"
    store.mkdir()
    for number, seconds in ((1, 50), (2, 50), (3, 50), (4, 200)):
        put_old(store / f"PTT-2026030{number}-WA0001.opus", opus_note(seconds, number))
    put_old(store / "AUD-20260305-WA0005.wav", b"RIFF" + bytes(1_500_000))
    world.run("notes")
    ids = [record["id"] for record in world.records()]
    with post(world, size=1_000_000) as server:
        ended = world.backup("extract", *ids, "--email", ANNA, "--json", code=3, env=trusting(server))
        mails = [read(mail.content) for mail in server.mails]
        assert all(len(mail.content) <= 1_000_000 for mail in server.mails)
    assert [message["Subject"][-8:] for message, _ in mails] == ["(part 1)", "(part 2)"]
    names = [part.get_filename() for _, attached in mails for part in attached]
    assert names == ["2026-03-01.mp3", "2026-03-02.mp3", "2026-03-03.mp3", "2026-03-04.opus"]
    assert mails[1][1][-1].get_content() == (store / "PTT-20260304-WA0001.opus").read_bytes()
    first, second = ended.json["errors"]
    assert first == {"path": "2026-03-04.opus", "reason": "attached as it is: its mp3 is larger than a mail may be"}
    assert second["path"] == "2026-03-05.wav"
    assert second["reason"].startswith("it is larger than a mail may be")
    assert ended.json["notes"] == 4


def test_somebody_refused_costs_nobody_else_the_mail(album: Album, here: World) -> None:
    """The others have it, the refused one is named with the server's reason, a draft for him is kept, and the exit code is 3."""
    with post(here, answers={BEN: ["550 no such user here"]}) as server:
        words = ("extract", album.ids["zoe"], "--email", ANNA, "--email", BEN)
        ended = here.backup(*words, "--json", code=3, env=trusting(server))
        assert [mail.to for mail in server.mails] == [[ANNA]]
    [sent] = ended.json["mails"]
    problem = {"path": BEN, "reason": "the mail server refused it: 550 no such user here"}
    assert (sent["to"], sent["refused"], ended.json["errors"]) == ([ANNA], [problem], [problem])
    message, [attached] = read(Path(sent["draft"]).read_bytes())
    assert (message["To"], message["X-Unsent"], attached.get_content_type()) == (BEN, "1", "audio/mpeg")
    assert "no such user here" in ended.told


def test_nobody_taken_is_a_failure(album: Album, here: World) -> None:
    """Where no one got the mail the exit code is 1."""
    with post(here, answers={ANNA: ["550 no such user here"]}) as server:
        ended = here.backup("extract", album.ids["zoe"], "--email", ANNA, "--json", code=1, env=trusting(server))
    assert ended.json["notes"] == 0
    assert Path(ended.json["mails"][0]["draft"]).exists()


@pytest.mark.parametrize(
    ("how", "trusted", "code", "message"),
    [
        ({"users": {"me@example.org": "another"}}, True, 4, "the mail server localhost refused the sign-in (535)"),
        ({}, False, 13, "localhost cannot prove that it is localhost"),
        ({"answers": {"DATA": ["554 this looks like spam"]}}, True, 1, "the mail server localhost refused: 554 this looks like spam"),
        ({"tls": "none"}, True, 1, "offers no encryption"),
    ],
)
def test_a_mail_that_cannot_be_sent_is_kept_and_its_place_is_told(
    album: Album, here: World, how: dict[str, Any], trusted: bool, code: int, message: str
) -> None:
    """One error line, a hint with the path of the draft, which only its owner can read; trying again keeps one draft, not two."""
    with post(here, **how) as server:
        for _ in range(2):
            server.answers.setdefault("DATA", []).append("554 this looks like spam")
            env = trusting(server) if trusted else {}
            ended = here.backup("extract", album.ids["zoe"], "--email", ANNA, "--json", code=code, env=env)
    error = ended.json["error"]
    assert message in error["message"]
    [kept] = (here.folder / "state/unsent").iterdir()
    assert str(kept) in error["hint"]
    assert "not encrypted" in error["hint"]
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    draft, [attached] = read(kept.read_bytes())
    assert (draft["X-Unsent"], draft["To"]) == ("1", ANNA)
    assert inspect(attached.get_content()).media_type == "audio/mpeg"
    assert MAIL_PASSWORD not in ended.told + ended.out.decode()


def test_a_draft_goes_when_its_notes_have_arrived(album: Album, here: World) -> None:
    """What could not be sent is kept until everybody has every note of it, in whatever mails; until then it is said how many wait."""
    zoe, ben = album.ids["zoe"], album.ids["ben"]
    unsent = here.folder / "state/unsent"
    with post(here) as server:
        server.answers["DATA"] = ["554 this looks like spam"]
        here.backup("extract", zoe, ben, "--email", ANNA, "--email", BEN, code=1, env=trusting(server))
        [draft] = unsent.iterdir()
        ended = here.backup("extract", zoe, ben, "--email", ANNA, "--json", env=trusting(server))
        assert ended.json["unsent"] == 1
        assert ended.told == f"1 draft of mails that could not be sent is kept in {unsent}\n"
        assert here.backup("email", "test", "--json", env=trusting(server)).json["unsent"] == 1
        here.backup("extract", zoe, "--email", BEN, env=trusting(server))
        assert draft.exists()
        assert here.backup("extract", ben, "--email", BEN, "--json", env=trusting(server)).json["unsent"] == 0
    assert list(unsent.iterdir()) == []


def test_the_draft_of_a_refused_one_goes_when_he_has_it(album: Album, here: World) -> None:
    """A draft for one of several receivers is his: it goes when he is served, not before."""
    with post(here, answers={BEN: ["550 no such user here"]}) as server:
        words = ("extract", album.ids["zoe"], "--email", ANNA, "--email", BEN)
        [sent] = here.backup(*words, "--json", code=3, env=trusting(server)).json["mails"]
        here.backup(*words[:4], env=trusting(server))
        assert Path(sent["draft"]).exists()
        here.backup(*words, env=trusting(server))
    assert not Path(sent["draft"]).exists()


def test_a_draft_that_somebody_worked_on_stays(album: Album, here: World) -> None:
    """What a person has written into a draft is never removed, nor is a file of his own in its place."""
    with post(here) as server:
        server.answers["DATA"] = ["554 this looks like spam"]
        here.backup("extract", album.ids["zoe"], "--email", ANNA, code=1, env=trusting(server))
        [draft] = (here.folder / "state/unsent").iterdir()
        draft.write_bytes(draft.read_bytes() + b"Dear Anna\r\n")
        here.backup("extract", album.ids["zoe"], "--email", ANNA, env=trusting(server))
    assert draft.read_bytes().endswith(b"Dear Anna\r\n")


def test_a_failure_half_way_tells_what_was_sent(new_world: NewWorld, tmp_path: Path) -> None:
    """Of two mails the first arrived: it is told, the second is kept as a draft, and the exit code is that of what went wrong."""
    world = new_world(tmp_path / "machine")
    store = world.folder / "notes"
    store.mkdir()
    for number in (1, 2):
        put_old(store / f"PTT-2026030{number}-WA0001.opus", opus_note(80, number))
    world.run("notes")
    ids = [record["id"] for record in world.records()]
    with post(world, size=1_000_000, most=1) as server:
        ended = world.backup("extract", *ids, "--email", ANNA, "--json", code=1, env=trusting(server))
    assert [mail["notes"] for mail in ended.json["mails"]] == [[ids[0]]]
    [problem] = ended.json["errors"]
    assert problem["reason"] == "not sent, kept as a draft: the mail server localhost refused: 554 that is enough"
    assert problem["path"].endswith("2026-03-02_part2.eml")
    assert ended.json["notes"] == 1


def test_a_test_mail_shows_that_the_settings_are_right(here: World) -> None:
    """`email test` sends a short mail to oneself, or to whom it is told, and says what the server takes."""
    with post(here, settings='max_size = "30 MB"\n', size=12_000_000) as server:
        told = here.backup("email", "test", env=trusting(server)).text
        assert told == f"sent a test mail to me@example.org by localhost, port {server.port}, starttls; a mail may have 12.0 MB\n"
        ended = here.backup("email", "test", "--to", ANNA, "--json", env=trusting(server))
        trial = {"to": ANNA, "host": "localhost", "port": server.port, "security": "starttls", "max_size": 12_000_000}
        assert ended.json == trial | {"via": "smtp", "unsent": 0}
        assert [mail.to for mail in server.mails] == [["me@example.org"], [ANNA]]
        server.answers[ANNA] = ["550 no such user"]
        assert "refused anna@example.org: 550 no such user" in here.backup("email", "test", "--to", ANNA, code=1, env=trusting(server)).told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("extract", "latest", "--email", ANNA), "the settings name no mail server"),
        (("extract", "latest", "--email", "anna"), '"anna" is no mail address'),
        (("extract", "latest", "--email", f"{ANNA}\nBcc: {BEN}"), "is no mail address"),
        (("email", "test"), "the settings name no mail server"),
    ],
)
def test_what_cannot_be_mailed_as_typed_is_told_before_anything_is_done(here: World, words: tuple[str, ...], told: str) -> None:
    """Without mail settings, or with a mistyped address, the exit code is 2."""
    assert told in here.backup(*words, code=2).told


def test_no_mail_goes_unencrypted_over_a_network(here: World) -> None:
    """`security = "none"` is for this very machine; for any other the settings are refused."""
    here.configure('[email]\nfrom = "me@example.org"\nhost = "mail.example.org"\nsecurity = "none"\n')
    assert "only a server on this machine" in here.backup("email", "test", code=2).told


def test_a_hostile_name_forges_no_header_on_the_wire(new_world: NewWorld, tmp_path: Path) -> None:
    """A file and a sender named to add receivers change nothing but words."""
    world = new_world(tmp_path / "machine")
    name = "family\r\nBcc: victim@example.org\r\n\r\n<script>"
    store = world.folder / "notes" / name
    store.mkdir(parents=True)
    put_old(store / "AUD-20260305-WA0005.opus", opus_note(1, 1))
    world.run(store.parent)
    with post(world) as server:
        world.backup("extract", "latest", "--email", f'"x, y" <{ANNA}>', env=trusting(server))
        [mail] = server.mails
    assert mail.to == [ANNA]
    message, [attached] = read(mail.content)
    assert set(message.keys()) == {"From", "To", "Date", "Message-ID", "Subject", "MIME-Version", "Content-Type"}
    assert [one.addr_spec for one in message["To"].addresses] == [ANNA]
    assert re.fullmatch(r"[a-z0-9_.-]+\.mp3", str(attached.get_filename()))


def test_no_telephone_number_goes_with_a_mail(world: World) -> None:
    """Who is known by a number alone is not named: not in subject, text and name of the attachment, nor in its tags."""
    phone(world.folder / "phone", notes=1)
    world.run("phone")
    [record] = world.records()
    assert record["sender"] == "+491700000001"
    world.backup("extract", "latest", "--eml", "note.eml")
    message, [attached] = read((world.folder / "note.eml").read_bytes())
    assert message["Subject"] == "Voice note – 2026-03-01 13:45"
    assert text_of(message).startswith("Sent: 2026-03-01 13:45\nChat: Family\n")
    assert "491700000001" not in str(attached.get_filename())
    assert b"491700000001" not in attached.get_content().replace(b"\0", b"")


def test_a_draft_of_several_notes_is_one_file(album: Album, here: World) -> None:
    """--eml takes several notes as well, as MP3, and says where it wrote."""
    ids = [album.ids[name] for name in ("zoe", "twin")]
    assert here.backup("extract", *ids, "--eml", "notes.eml").text == "wrote notes.eml\n"
    _, attached = read((here.folder / "notes.eml").read_bytes())
    assert len(attached) == 2
