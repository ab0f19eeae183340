"""Signing in to Google Drive: with a browser, by pasting, with a device; only what comes from the page that was opened counts."""

from __future__ import annotations

import json
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from backup_tool.destinations.base import Person
from backup_tool.destinations.gdrive import login
from backup_tool.destinations.gdrive.login import sign_in
from backup_tool.destinations.gdrive.signin import Kept
from backup_tool.errors import BackupError, ConfigError, SignInNeeded, UsageError
from backup_tool.models import Secret
from tests.destinations.drive import DRIVE_FILE, Consent, Fault, failure
from tests.destinations.drives import Drives, drives, environment


class Anna:
    """A person with a browser. `said` is all that was told."""

    def __init__(self, open_page: Callable[[str], None] = lambda url: None, pastes: Callable[[str], str] = lambda told: "") -> None:
        self._open, self._pastes = open_page, pastes
        self.said: list[str] = []

    def ask(self, question: str) -> str:
        return self._pastes("\n".join(self.said))

    def ask_secret(self, question: str) -> Secret:
        return Secret(self.ask(question))

    def tell(self, text: str) -> None:
        self.said.append(text)

    def open(self, url: str) -> None:
        self._open(url)


def visit(url: str) -> int:
    """A page as a browser opens it, redirects followed; its status."""
    try:
        with urllib.request.build_opener().open(url, timeout=30) as page:  # not urlopen, which remembers an earlier test's proxy
            return int(page.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None


def ended_on(told: str) -> str:
    """The address on which a browser elsewhere ends that opens the page that was told."""
    url = next(word for word in told.split() if word.startswith("https://accounts.google.com"))
    try:
        urllib.request.build_opener(_Stay).open(url, timeout=30)
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers["Location"])
    raise AssertionError("no redirect")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Drives]:
    with drives(tmp_path) as started, environment(started.google.proxy.environment()):
        started.google.consent = Consent(started.anna)
        yield started


def client_file(cloud: Drives, folder: Path, kind: str = "desktop") -> Path:
    path = folder / f"{kind}.json"
    client = cloud.client if kind == "desktop" else cloud.google.client("device")
    path.write_text(json.dumps(client.json()))
    return path


def signed_in(cloud: Drives) -> Kept:
    file = cloud.home() / "sign-in.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return msgspec.json.decode(file.read_bytes(), type=Kept)


def test_a_browser_signs_in(cloud: Drives, tmp_path: Path) -> None:
    """The page opens, Google sends the browser back, and what is kept opens the archive; other requests of the browser do not count."""
    statuses = []

    def browse(url: str) -> None:
        back = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        for stray in ("favicon.ico", "?code=x&state=guessed", "?error=access_denied", "other?" + urlsplit(url).query):
            statuses.append(visit(back + stray))
        statuses.append(visit(url))

    anna: Person = Anna(browse)
    sign_in(cloud.spec("Voice notes", client=client_file(cloud, tmp_path)), cloud.home(), anna)
    assert statuses == [404, 404, 404, 404, 200]
    kept = signed_in(cloud)
    assert (kept.account, kept.scopes, kept.client_id) == (cloud.anna.email, [DRIVE_FILE], cloud.client.id)
    assert cloud.google.refresh_tokens[kept.refresh_token].account is cloud.anna
    place = cloud.open()
    assert not place.exists()
    place.close()


def test_signing_in_again_needs_no_file(cloud: Drives, tmp_path: Path) -> None:
    """The second time the client is known; another account and another project's client are pointed out."""
    spec = cloud.spec("Voice notes", client=client_file(cloud, tmp_path))
    sign_in(spec, cloud.home(), Anna(lambda url: void(visit(url))))
    cloud.google.consent = Consent(cloud.google.person("ben@example.org"))
    anna = Anna(lambda url: void(visit(url)))
    sign_in(cloud.spec("Voice notes"), cloud.home(), anna)
    assert any("before, anna@example.org was signed in" in line for line in anna.said)
    cloud.client = cloud.google.client()
    anna = Anna(lambda url: void(visit(url)))
    sign_in(cloud.spec("Voice notes", client=client_file(cloud, tmp_path)), cloud.home(), anna)
    assert any("another Google project" in line for line in anna.said)


def void(_: object) -> None:
    """For lambdas whose value nobody wants."""


def test_a_pasted_address_signs_in(cloud: Drives, tmp_path: Path) -> None:
    """With the browser on another machine the address it ended on is enough; an address of another sign-in is not."""
    answers = iter([lambda told: "http://127.0.0.1:8765/?state=x&code=y", ended_on])
    anna = Anna(pastes=lambda told: next(answers)(told))
    sign_in(cloud.spec("Voice notes", client=client_file(cloud, tmp_path), mode="paste"), cloud.home(), anna)
    assert signed_in(cloud).account == cloud.anna.email
    with pytest.raises(SignInNeeded, match="not the address"):
        sign_in(cloud.spec("Voice notes", mode="paste"), cloud.home(), Anna(pastes=lambda told: "https://example.org/?code=1"))


def test_a_folder_that_cannot_be_meant_is_refused_before_anybody_signs_in(cloud: Drives, tmp_path: Path) -> None:
    """A path is no folder's name at Google: that is said before a page opens, not after."""
    with pytest.raises(UsageError, match="no name of one folder"):
        sign_in(cloud.spec("Backups/Voice notes", client=client_file(cloud, tmp_path)), cloud.home(), Anna())


def test_a_client_that_is_not_for_devices_is_told_so(cloud: Drives, tmp_path: Path) -> None:
    """A desktop client cannot sign in with a code on another device: the hint names the type of client that can, and the command."""
    with pytest.raises(SignInNeeded) as refused:
        sign_in(cloud.spec("Voice notes", client=client_file(cloud, tmp_path), mode="device"), cloud.home(), Anna())
    assert refused.value.hint is not None
    assert "TVs and Limited Input devices" in refused.value.hint
    assert refused.value.hint.endswith("--client FILE --device")


def test_a_device_signs_in(cloud: Drives, tmp_path: Path) -> None:
    """A code typed on another device is enough, though it is asked for too soon and the network fails meanwhile; a refusal ends it."""
    cloud.google.manners.device_interval = 0.2
    typed: list[str] = []

    class Typing(Anna):
        def tell(self, text: str) -> None:
            super().tell(text)
            if "type the code" in text:
                typed.append(text.split()[-1])
                cloud.google.decide_device(typed[-1], cloud.anna, approve=len(typed) == 1)

    cloud.google.proxy.faults.add("oauth.token", Fault("answer", response=failure(503)))
    spec = cloud.spec("Voice notes", client=client_file(cloud, tmp_path, "device"), mode="device")
    sign_in(spec, cloud.home(), Typing())
    assert signed_in(cloud).account == cloud.anna.email
    with pytest.raises(SignInNeeded, match="access_denied"):
        sign_in(spec, cloud.home(), Typing())


def test_an_unticked_box_is_told_and_asked_for_once_more(cloud: Drives, tmp_path: Path) -> None:
    """Who leaves the box for Drive unticked is told so and asked once more, and then told how to begin again."""
    file = client_file(cloud, tmp_path)
    cloud.google.consent = Consent(cloud.anna, ticked=frozenset())

    def second_thought(url: str) -> None:
        visit(url)
        cloud.google.consent = Consent(cloud.anna)

    anna = Anna(second_thought)
    sign_in(cloud.spec("Voice notes", client=file), cloud.home(), anna)
    assert any("not ticked" in line for line in anna.said)
    cloud.google.consent = Consent(cloud.anna, ticked=frozenset())
    with pytest.raises(SignInNeeded, match="not ticked"):
        sign_in(cloud.spec("Voice notes", client=file), cloud.home(), Anna(lambda url: void(visit(url))))


def test_a_refusal_keeps_what_was_there(cloud: Drives, tmp_path: Path) -> None:
    """Who refuses, or never answers, stays signed in as before."""
    spec = cloud.spec("Voice notes", client=client_file(cloud, tmp_path))
    sign_in(spec, cloud.home(), Anna(lambda url: void(visit(url))))
    before = signed_in(cloud)
    cloud.google.consent = Consent(cloud.anna, refuse=True)
    with pytest.raises(SignInNeeded, match="access was refused"):
        sign_in(spec, cloud.home(), Anna(lambda url: void(visit(url))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(login, "PERSON_SECONDS", 0.2)
        with pytest.raises(SignInNeeded, match="nobody allowed access") as told:
            sign_in(spec, cloud.home(), Anna())
    assert told.value.hint.endswith("--paste")
    assert signed_in(cloud) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"web": {"client_id": "1-a", "client_secret": "s"}}', "for web sites"),
        ('{"installed": {"client_id": "1-a"}}', "no client of Google's"),
        ('{"installed": {"client_id": "1-a\\n", "client_secret": "s"}}', "no client of Google's"),
        ("[]", "no client of Google's"),
        ("not json", "no client of Google's"),
        ("[" * 50_000, "no client of Google's"),
    ],
)
def test_a_wrong_client_file_is_told(cloud: Drives, tmp_path: Path, text: str, words: str) -> None:
    """A file that is no client for this purpose is refused with what to download instead, before any page opens."""
    (tmp_path / "client.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        sign_in(cloud.spec("Voice notes", client=tmp_path / "client.json"), cloud.home(), Anna())
    with pytest.raises(ConfigError, match="cannot be read"):
        sign_in(cloud.spec("Voice notes", client=tmp_path / "absent.json"), cloud.home(), Anna())
    with pytest.raises(UsageError, match="client of your own") as told:
        sign_in(cloud.spec("Voice notes"), cloud.home(), Anna())
    assert "backup login drive --client FILE" in told.value.hint
    assert cloud.google.proxy.labels() == []


def test_a_switched_off_api_does_not_cost_the_sign_in(cloud: Drives, tmp_path: Path) -> None:
    """Who forgot to enable the API is told where, and need not sign in again afterwards."""
    cloud.client.api_enabled = False
    with pytest.raises(BackupError, match="switched off"):
        sign_in(cloud.spec("Voice notes", client=client_file(cloud, tmp_path)), cloud.home(), Anna(lambda url: void(visit(url))))
    cloud.client.api_enabled = True
    place = cloud.open()
    assert not place.exists()
    place.close()


def test_a_keyring_may_keep_it(cloud: Drives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With keyring in the settings the sign-in is in this machine's keyring, and in no file; a machine without one is told so."""
    import keyring
    from keyring.backend import KeyringBackend
    from keyring.backends.fail import Keyring as NoKeyring

    class Chest(KeyringBackend):
        priority = 1.0
        held: dict[tuple[str, str], str] = {}  # noqa: RUF012

        def get_password(self, service: str, username: str) -> str | None:
            return self.held.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.held[service, username] = password

    before = keyring.get_keyring()
    try:
        keyring.set_keyring(Chest())  # type: ignore[no-untyped-call]
        spec = cloud.spec("Voice notes", client=client_file(cloud, tmp_path), keyring="drive")
        sign_in(spec, cloud.home("keyring"), Anna(lambda url: void(visit(url))))
        assert list(Chest.held) == [("backup-tool", "drive")]
        assert [path.name for path in cloud.home("keyring").iterdir()] == ["sign-in.lock"]
        keyring.set_keyring(NoKeyring())  # type: ignore[no-untyped-call]
        with pytest.raises(UsageError, match="no keyring"):
            sign_in(spec, cloud.home("keyring"), Anna())
    finally:
        keyring.set_keyring(before)
