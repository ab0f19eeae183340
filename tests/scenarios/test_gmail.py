"""Mail through Gmail as people meet it: signed in once, through the environment's proxy."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from backup_tool.destinations.gdrive.signin import FileKeeper, Kept
from tests.destinations.drive import DRIVE_FILE, GMAIL_SEND, Consent, Fault, Google, failure, google
from tests.scenarios.album import Album
from tests.scenarios.test_mail import read
from tests.scenarios.world import World

ANNA = "anna@example.org"
SETTINGS = '[email]\nfrom = "Me <me@example.org>"\nvia = "gmail"\n'


class Desk(World):
    """A machine that reads the album's archive, and reaches Google."""

    def __init__(self, folder: Path, repo: Path, drive: Google) -> None:
        super().__init__(folder, repo=repo)
        self.google, self.me, self.client = drive, drive.person("me@example.org"), drive.client()
        drive.consent = Consent(self.me)
        self.client_file = folder / "client_secret.json"
        self.client_file.write_text(json.dumps(self.client.json()))
        self.configure(SETTINGS)

    def environment(self, **more: str | None) -> dict[str, str]:
        return super().environment(**{**self.google.environment(), **more})

    def login(self, *words: object, code: int = 0) -> str:
        ended = self.backup("email", "login", *words, code=code)
        return ended.text + ended.told

    @property
    def sign_in(self) -> Path:
        return self.folder / "state/gmail/sign-in.json"


@pytest.fixture
def desk(album: Album, tmp_path: Path) -> Iterator[Desk]:
    with google(tmp_path / "google") as world:
        yield Desk(tmp_path / "here", album.world.repo, world)


def test_signed_in_once_mail_leaves(album: Album, desk: Desk) -> None:
    """A browser opens with the account of `from`, sending is all that is asked for, and from then on mail leaves by itself."""
    told = desk.login("--client", desk.client_file)
    assert "signed in for sending mail; try it: backup email test\n" in told
    [asked] = desk.google.asked_for
    assert (asked["scope"], asked["login_hint"]) == (GMAIL_SEND, "me@example.org")
    assert (stat.S_IMODE(desk.sign_in.stat().st_mode), stat.S_IMODE(desk.sign_in.parent.stat().st_mode)) == (0o600, 0o700)
    assert desk.backup("email", "test").text == "sent a test mail to me@example.org by Gmail; a mail may have 20.0 MB\n"
    trial = desk.backup("email", "test", "--to", ANNA, "--json").json
    expected = {"to": ANNA, "host": "gmail.googleapis.com", "port": 443, "security": "tls", "max_size": 20_000_000, "via": "gmail"}
    assert trial == expected | {"unsent": 0}
    ended = desk.backup("extract", album.ids["zoe"], "--email", f"Oma <{ANNA}>", "--json").json
    [sent] = ended["mails"]
    assert (sent["to"], sent["refused"], sent["notes"], sent["draft"]) == ([ANNA], [], [album.ids["zoe"]], None)
    assert len(desk.google.gmail.sent) == 3
    message, [attached] = read(desk.google.gmail.sent[-1].raw)
    assert (str(message["From"]), str(message["To"])) == ("Me <me@example.org>", f"Oma <{ANNA}>")
    assert attached.get_filename() == "2024-03-01_1345_zoe-nunez_family.mp3"
    kept = msgspec.json.decode(desk.sign_in.read_bytes(), type=Kept)
    assert kept.refresh_token not in told


def test_nobody_signed_in_is_told_the_command_to_type(album: Album, desk: Desk) -> None:
    """Without the sign-in for mail the exit code is 4, what was to be sent is kept, and a sign-in to Drive does not stand in for it."""
    ended = desk.backup("email", "test", "--json", code=4).json["error"]
    assert ended["hint"] == "sign in once: backup email login"
    answer = desk.google.sign_in(desk.me, desk.client)
    kept = Kept(str(answer["refresh_token"]), desk.client.id, desk.client.secret, [DRIVE_FILE], 0.0)
    FileKeeper(desk.sign_in).save(msgspec.json.encode(kept))
    error = desk.backup("extract", album.ids["zoe"], "--email", ANNA, "--json", code=4).json["error"]
    assert error["message"] == "Gmail: the sign-in does not allow sending mail"
    [draft] = (desk.folder / "state/unsent").iterdir()
    assert "backup email login" in error["hint"]
    assert str(draft) in error["hint"]
    assert "needs a client of your own" not in desk.login()


def test_the_client_of_the_drive_is_enough(desk: Desk) -> None:
    """Who keeps an archive in Google Drive needs no second client, and the two sign-ins stay apart: neither may what the other may."""
    assert "backup email login --client FILE" in desk.login(code=2)
    desk.configure(SETTINGS + '[destinations.drive]\ntype = "gdrive"\nfolder = "Voice notes"\n')
    desk.backup("login", "drive", "--client", desk.client_file)
    desk.client_file.unlink()
    desk.login()
    assert [asked["scope"] for asked in desk.google.asked_for] == [DRIVE_FILE, GMAIL_SEND]
    assert {token.scopes for token in desk.google.refresh_tokens.values()} == {frozenset({DRIVE_FILE}), frozenset({GMAIL_SEND})}
    desk.backup("email", "test")
    assert len(desk.google.gmail.sent) == 1


def test_a_browser_elsewhere_and_settings_that_name_the_client(desk: Desk) -> None:
    """With --paste any browser will do; the settings may say where the client is; a refusal leaves everything as it was."""
    desk.configure(SETTINGS + f'client = "{desk.client_file}"\n')
    desk.google.consent = Consent(desk.me, refuse=True)
    assert "Gmail: access was refused (access_denied)" in desk.login(code=4)
    assert not desk.sign_in.exists()
    desk.google.consent = Consent(desk.me, ticked=frozenset())
    assert "Gmail: the box for sending mail was not ticked" in desk.login(code=4)
    desk.google.consent = Consent(desk.me)
    assert "that is not the address of this sign-in" in pasted(desk, "http://127.0.0.1:8765/?state=x&code=y\n" * 3, code=4)


def pasted(desk: Desk, lines: str, code: int) -> str:
    (desk.folder / "lines").write_text(lines)
    with (desk.folder / "lines").open() as stream:
        return desk.backup("email", "login", "--paste", "--stdin", code=code, stdin=stream).told


def test_signing_in_where_mail_goes_by_smtp_is_told(desk: Desk) -> None:
    """The command is for Gmail; without it in the settings, or without any, the way there is named."""
    desk.configure('[email]\nfrom = "me@example.org"\nhost = "smtp.example.org"\n')
    assert 'write via = "gmail" under [email]' in desk.login(code=2)
    desk.configure("")
    assert "the settings name no mail server" in desk.login(code=2)


def test_what_gmail_does_not_take_is_kept_until_it_does(album: Album, desk: Desk) -> None:
    """A limit of the day is exit 14 with the draft's place; sent the next day, the draft is gone."""
    desk.login("--client", desk.client_file)
    desk.google.gmail.per_day = 0
    error = desk.backup("extract", album.ids["zoe"], "--email", ANNA, "--json", code=14).json["error"]
    [draft] = (desk.folder / "state/unsent").iterdir()
    assert str(draft) in error["hint"]
    assert "send it again after 20" in error["hint"]
    desk.google.gmail.per_day = None
    told = desk.backup("email", "test").told
    assert told == f"1 draft of mails that could not be sent is kept in {draft.parent}\n"
    desk.backup("extract", album.ids["zoe"], "--email", ANNA)
    assert not draft.exists()


def test_a_lost_answer_sends_one_mail(album: Album, desk: Desk) -> None:
    """The connection breaks when the mail has left: it is asked after, and told as sent. Where nothing tells, that is what is said."""
    desk.login("--client", desk.client_file)
    desk.google.proxy.faults.add("mail.send", Fault("reset", effect=True))
    desk.google.proxy.faults.add("mail.ask", Fault("answer", response=failure(503)))
    desk.backup("extract", album.ids["zoe"], "--email", ANNA)
    assert len(desk.google.gmail.sent) == 1
    desk.google.gmail.forgets = True
    desk.google.proxy.faults.add("mail.send", Fault("reset", effect=True))
    error = desk.backup("extract", album.ids["ben"], "--email", ANNA, "--json", code=1).json["error"]
    assert "may have been sent all the same" in error["message"]
    assert "look in Gmail whether it stands under Sent" in error["hint"]
    assert len(desk.google.gmail.sent) == 2


def test_a_proxy_that_cannot_be_used_is_never_gone_around(desk: Desk) -> None:
    """With a proxy of another kind nothing leaves: not the sign-in, not the mail."""
    desk.login("--client", desk.client_file)
    seen = len(desk.google.proxy.seen)
    for words in (("email", "test"), ("email", "login")):
        ended = desk.backup(*words, code=2, env={"https_proxy": "socks5://127.0.0.1:9"})
        assert "of a kind that is not spoken here" in ended.told
    assert len(desk.google.proxy.seen) == seen
