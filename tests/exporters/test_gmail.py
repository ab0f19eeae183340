"""Mail goes through Gmail once: whatever is lost on the way, nobody gets it twice, and what nobody can know is said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import msgspec
import pytest
from keyring.backend import KeyringBackend

from backup_tool.config import EmailSettings
from backup_tool.destinations.gdrive.signin import FileKeeper, Kept
from backup_tool.destinations.retry import Patience
from backup_tool.errors import BackupError, NoSpace, SignInNeeded, Unreachable, UsageError
from backup_tool.exporters.email import address, trial
from backup_tool.exporters.gmail import GmailSender, open_gmail
from tests.destinations.drive import DRIVE_FILE, GMAIL_SEND, MISHAPS, Fault, Google, failure, google
from tests.destinations.drives import Time, environment

ME, ANNA = address("me@example.org"), address("anna@example.org")
DATA = trial(ME, ANNA)
LONG = DATA + b"sound\r\n" * 300_000
"""A mail of more than one piece of the upload protocol."""


class Desk:
    """A machine that has signed in to send mail. `google` is what it reaches, `time` passes where it would wait."""

    def __init__(self, world: Google, folder: Path) -> None:
        self.google, self.home, self.time = world, folder / "gmail", Time()
        self.me, self.client = world.person("me@example.org"), world.client()

    def sign_in(self, *scopes: str) -> None:
        answer = self.google.sign_in(self.me, self.client, *scopes)
        kept = Kept(str(answer["refresh_token"]), self.client.id, self.client.secret, list(scopes), time.time())
        FileKeeper(self.home / "sign-in.json").save(msgspec.json.encode(kept))

    def open(self, **known: Any) -> GmailSender:
        settings = EmailSettings(**{"sender": "me@example.org", "via": "gmail", "port": 587, **known})
        with environment(self.google.proxy.environment()):
            return open_gmail(settings, self.home, Patience(patience=90.0, first_patience=90.0, now=self.time.now, wait=self.time.wait))

    def send(self, data: bytes = DATA) -> dict[str, str]:
        with environment(self.google.proxy.environment()), self.open() as sender:
            return sender.send(data, [ANNA])

    @property
    def sent(self) -> list[bytes]:
        return [mail.raw for mail in self.google.gmail.sent]

    def asked(self) -> list[str]:
        return [label for label in self.google.proxy.labels() if label.startswith("mail.")]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with google(tmp_path / "google") as world:
        made = Desk(world, tmp_path)
        made.sign_in(GMAIL_SEND)
        yield made


def test_a_mail_leaves_byte_for_byte(desk: Desk) -> None:
    """What Gmail sends is what was made, in two requests; a second mail needs no second sign-in."""
    with environment(desk.google.proxy.environment()), desk.open() as sender:
        assert sender.send(DATA, [ANNA]) == {}
        assert sender.send(LONG, [ANNA]) == {}
    assert desk.sent == [DATA, LONG]
    assert [mail.account for mail in desk.google.gmail.sent] == [desk.me, desk.me]
    assert desk.asked() == ["mail.start", "mail.send"] * 2
    assert desk.google.proxy.labels().count("oauth.token") == 1


def test_a_session_at_googles_address_of_old_is_followed(desk: Desk) -> None:
    """Wherever at Google the upload is to go, it goes; to any other server it does not, and no token with it."""
    desk.google.gmail.host = "www.googleapis.com"
    desk.send()
    desk.google.gmail.host = "mail.example.org"
    with pytest.raises(BackupError, match="sends us to another server"):
        desk.send()
    assert desk.sent == [DATA]
    assert desk.google.proxy.refused == []


@pytest.mark.parametrize("fault", MISHAPS, ids=lambda fault: f"{fault.kind}{'+' if fault.effect else ''}")
@pytest.mark.parametrize(
    ("label", "data"),
    [("mail.start", DATA), ("mail.send", DATA), ("mail.send", LONG), ("oauth.token", DATA)],
    ids=["start", "short", "long", "token"],
)
def test_what_passes_is_tried_again_and_sends_once(desk: Desk, label: str, fault: Fault, data: bytes) -> None:
    """A busy server, a lost answer, a broken connection at any step: the mail arrives, whole, and one time only."""
    desk.google.proxy.faults.add(label, fault)
    desk.send(data)
    assert desk.sent == [data]
    assert desk.google.proxy.faults.happened


@pytest.mark.parametrize("seed", range(12))
def test_a_bad_day_sends_nothing_twice(desk: Desk, seed: int) -> None:
    """However often anything fails, a mail is there once or never, and where it failed without a doubt it is never there."""
    desk.google.gmail.forgets = seed % 2 == 1
    desk.google.proxy.faults.randomly(seed, 0.4, MISHAPS)
    for number in range(3):
        mail = DATA + b"%d\r\n" % number
        failed = None
        try:
            desk.send(mail)
        except BackupError as error:
            failed = error.message
        allowed = {1} if failed is None else {0, 1} if "may have been sent" in failed else {0}
        assert desk.sent.count(mail) in allowed, failed


@pytest.mark.parametrize(
    "fault",
    [Fault("drop", effect=True), Fault("cut answer"), Fault("answer", effect=True, response=failure(502))],
    ids=["no answer", "half an answer", "a broken server"],
)
def test_what_nobody_can_know_is_said_and_not_tried_again(desk: Desk, fault: Fault) -> None:
    """Where the answer is lost and Gmail no longer knows the upload, the mail is not sent again: a person is to look first."""
    desk.google.gmail.forgets = True
    desk.google.proxy.faults.add("mail.send", fault)
    with pytest.raises(BackupError, match="may have been sent all the same") as told:
        desk.send()
    assert type(told.value) is BackupError  # not one that scripts try again
    assert "under Sent" in told.value.hint
    assert (desk.sent, desk.asked()) == ([DATA], ["mail.start", "mail.send", "mail.ask"])


def test_a_network_that_stays_away_after_the_mail_left_is_told_so(desk: Desk) -> None:
    """Sent, and nothing heard of it again: the mail may have gone. Where nothing of it was sent there is no doubt, and none is told."""
    desk.google.proxy.faults.add("mail.send", Fault("drop", effect=True))
    desk.google.proxy.faults.add("mail.ask", Fault("drop"), times=1000)
    with pytest.raises(BackupError, match="may have been sent all the same"):
        desk.send()
    desk.google.proxy.faults.clear()
    desk.google.proxy.faults.add("mail.start", Fault("drop"), times=1000)
    with pytest.raises(Unreachable) as told:
        desk.send()
    assert "may have been sent" not in told.value.message
    assert desk.sent == [DATA]


def test_an_answer_that_leaves_it_open_is_asked_after(desk: Desk) -> None:
    """Gmail has all of it and is not done: it is asked until it says so, and given nothing twice."""
    desk.google.gmail.holds_back = 2
    desk.send()
    assert (desk.sent, desk.asked()) == ([DATA], ["mail.start", "mail.send", "mail.ask", "mail.ask"])


@pytest.mark.parametrize(
    ("status", "reason", "error", "words"),
    [
        (400, "invalidArgument", BackupError, "refused the mail"),
        (400, "failedPrecondition", BackupError, "has no Gmail"),
        (403, "domainPolicy", BackupError, "the administrator of your account forbids it"),
        (403, "dailyLimitExceeded", NoSpace, "a limit of Google's is reached"),
        (403, "somethingNew", BackupError, "refused the mail"),
        (413, "uploadTooLarge", BackupError, "takes no mail of this size"),
    ],
)
@pytest.mark.parametrize("label", ["mail.start", "mail.send"])
def test_a_refusal_is_told_for_what_it_is(desk: Desk, label: str, status: int, reason: str, error: type[BackupError], words: str) -> None:
    """What will not pass is told at once, is not tried again, and leaves no doubt that nothing was sent."""
    desk.google.proxy.faults.add(label, Fault("answer", response=failure(status, reason, "words of a server")))
    with pytest.raises(error, match=words) as told:
        desk.send()
    assert type(told.value) is error
    assert told.value.hint
    assert "words of a server" not in told.value.message + told.value.hint
    assert (desk.sent, desk.time.waited) == ([], 0.0)


def test_the_limit_of_the_day_is_told_with_its_end(desk: Desk) -> None:
    """Who has sent too much today reads when Gmail takes mail again; nobody waits for that."""
    desk.google.gmail.per_day = 1
    desk.send()
    with pytest.raises(NoSpace, match="takes no more mail from this account") as told:
        desk.send()
    assert told.value.hint.startswith("send it again after 20")
    assert (len(desk.sent), desk.time.waited) == (1, 0.0)


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded"])
def test_a_pause_that_google_asks_for_is_kept(desk: Desk, reason: str) -> None:
    """A short pause is waited out; one that is longer than anybody's patience ends it, with the time when it is over."""
    desk.google.proxy.faults.add("mail.*", Fault("answer", response=failure(429, reason, retry_after=40)))
    desk.send()
    assert 40 <= desk.time.waited < 45
    then = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 900))
    words = f"User-rate limit exceeded.  Retry after {then}"
    desk.google.proxy.faults.add("mail.send", Fault("answer", response=failure(403, reason, words)))
    with pytest.raises(Unreachable, match="busy") as told:
        desk.send()
    assert told.value.hint.startswith("send it again after 20")
    assert (len(desk.sent), desk.time.waited < 45) == (1, True)


def test_the_sign_in_of_drive_is_none_for_mail(desk: Desk) -> None:
    """A sign-in that may not send is told, with the command that asks for it; so is one that was never given, or taken back."""
    desk.sign_in(DRIVE_FILE)
    for words in ("does not allow sending", "the sign-in has ended", "nobody has signed in"):
        with pytest.raises(SignInNeeded, match=words) as told:
            desk.send()
        assert told.value.hint.endswith("backup email login")
        if words == "does not allow sending":
            desk.google.revoke(desk.me)
            desk.google.expire_access_tokens()
        else:
            (desk.home / "sign-in.json").unlink(missing_ok=True)
    assert desk.sent == []


def test_an_expired_token_is_renewed_amid_a_mail(desk: Desk) -> None:
    """An access token that ends between two requests costs one more, and nothing else."""
    first = iter(["mail.send"])
    desk.google.proxy.on_request = lambda label: desk.google.expire_access_tokens() if label == "mail.send" and next(first, None) else None
    desk.send()
    assert desk.sent == [DATA]
    assert desk.google.proxy.labels().count("oauth.token") == 2


def test_a_switched_off_api_is_told_with_the_page_that_switches_it_on(desk: Desk) -> None:
    """Who enabled Drive alone reads where Gmail's interface is switched on, for the project of the client."""
    desk.client.gmail_enabled = False
    with pytest.raises(BackupError, match="the Gmail API is switched off") as told:
        desk.send()
    assert told.value.hint.endswith(f"https://console.cloud.google.com/apis/library/gmail.googleapis.com?project={desk.client.project}")


def test_a_mail_is_no_larger_than_gmail_carries(desk: Desk) -> None:
    """The settings may ask for less, not for more."""
    with environment(desk.google.proxy.environment()), desk.open(max_size=5_000_000) as less, desk.open(max_size=10**9) as more:
        assert (less.limit(), more.limit()) == (5_000_000, 25_000_000)


def test_a_proxy_of_another_kind_is_refused(desk: Desk) -> None:
    """A proxy that is not spoken here is never gone around."""
    with environment({"https_proxy": "socks5://127.0.0.1:9"}), pytest.raises(UsageError, match="of a kind that is not spoken here"):
        open_gmail(EmailSettings(sender="me@example.org", via="gmail", port=587), desk.home)


def test_the_keyring_may_keep_the_sign_in(desk: Desk) -> None:
    """With keyring in the settings the sign-in is in this machine's keyring under that name, and in no file."""
    file = desk.home / "sign-in.json"

    class Chest(KeyringBackend):
        priority = 1.0
        held: dict[tuple[str, str], str] = {("backup-tool", "gmail"): file.read_text()}  # noqa: RUF012

        def get_password(self, service: str, username: str) -> str | None:
            return self.held.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.held[service, username] = password

    file.unlink()
    before = keyring.get_keyring()
    keyring.set_keyring(Chest())  # type: ignore[no-untyped-call]
    try:
        with environment(desk.google.proxy.environment()), desk.open(keyring="gmail") as sender:
            sender.send(DATA, [ANNA])
    finally:
        keyring.set_keyring(before)
    assert desk.sent == [DATA]
    assert "ya29." in Chest.held["backup-tool", "gmail"]
    assert [path.name for path in desk.home.iterdir()] == ["sign-in.lock"]


def test_a_sign_in_that_others_may_read_is_refused(desk: Desk) -> None:
    """The file of the sign-in is for its owner alone."""
    (desk.home / "sign-in.json").chmod(0o644)
    with pytest.raises(UsageError, match="may be read by others"):
        desk.send()
