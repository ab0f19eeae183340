"""Mail leaves encrypted for a server that proves its name, is tried again where that helps, and nobody learns the password."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from backup_tool.config import EmailSettings
from backup_tool.errors import BackupError, SignInNeeded, Unreachable
from backup_tool.exporters import sending
from backup_tool.exporters.email import address, trial
from backup_tool.exporters.sending import SmtpSender
from backup_tool.models import Secret
from tests.exporters.mailserver import MailServer, mail_server

ME = address("me@example.org")
ANNA, BEN, JÜRGEN = address("anna@example.org"), address("ben@example.com"), address("jürgen@example.org")
PASSWORD = "quiet otters hum"
DATA = trial(ME, ANNA)


@pytest.fixture
def waits() -> list[float]:
    """How long was waited before each further try."""
    return []


@pytest.fixture
def open_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens a server whose authority this process trusts."""

    @contextmanager
    def start(**how: Any) -> Iterator[MailServer]:
        with mail_server(tmp_path, **{"users": {"me@example.org": PASSWORD}, **how}) as server:
            monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
            yield server

    return start


def sender(server: MailServer, waits: list[float], secret: str | None = PASSWORD, **known: Any) -> SmtpSender:
    settings = EmailSettings(**{"sender": "me@example.org", "host": "localhost", "port": server.port, **known})
    return SmtpSender(settings, ME, None if secret is None else Secret(secret), waits.append)


def test_a_port_that_does_not_speak_tls_is_told_at_once(open_server: Any, waits: list[float]) -> None:
    """Who mixes up the two ways of encryption reads which one to try, and nothing leaves unencrypted."""
    with open_server(tls="starttls") as server:
        with pytest.raises(Unreachable, match="does not speak TLS on port") as told:
            sender(server, waits, security="tls").limit()
        assert told.value.hint == 'try security = "starttls" under [email]'
        assert (server.mails, server.sign_ins, waits) == ([], 0, [])


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_handed_over_encrypted_and_signed_in(open_server: Any, waits: list[float], security: str) -> None:
    """With STARTTLS and with TLS from the start, every byte arrives, for everybody it is for."""
    with open_server(tls=security) as server:
        with sender(server, waits, security=security) as way:
            assert way.send(DATA, [ANNA, BEN]) == {}
            assert way.send(DATA + b".\r\n..\r\n", [ANNA]) == {}
        first, second = server.mails
        assert (first.sender, first.to) == ("me@example.org", ["anna@example.org", "ben@example.com"])
        assert first.content == DATA
        assert second.content == DATA + b".\r\n..\r\n"
        assert first.encrypted
        assert first.user == "me@example.org"
        assert (server.sign_ins, waits) == (1, [])


def test_a_token_signs_in_instead_of_a_password(open_server: Any, waits: list[float]) -> None:
    """XOAUTH2 with the access token; a bad one is told as such."""
    with open_server(tokens={"me@example.org": "ya29.token"}) as server:
        with sender(server, waits, "ya29.token\n", auth="xoauth2") as way:
            assert way.send(DATA, [ANNA]) == {}
        with pytest.raises(SignInNeeded) as refused, sender(server, waits, "ya29.old", auth="xoauth2") as way:
            way.send(DATA, [ANNA])
        assert "access token" in refused.value.hint
        assert len(server.mails) == 1


@pytest.mark.parametrize("way", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("word", ["grüne Wölfe", "plain", 'quo"te \\ \1'])
def test_a_password_may_have_any_letters(open_server: Any, waits: list[float], word: str, way: str) -> None:
    """Umlauts and quotes in a password are no trouble, in whichever way the server takes it."""
    with open_server(users={"me@example.org": word}, only=way) as server, sender(server, waits, word) as open_way:
        assert open_way.send(DATA, [ANNA]) == {}


def test_a_server_without_a_way_to_sign_in_is_told(open_server: Any, waits: list[float]) -> None:
    """A password in the settings for a server that takes none is a mistake of the settings."""
    with open_server(only="XOAUTH2") as server:
        with pytest.raises(BackupError, match="takes no user and password"), sender(server, waits) as way:
            way.send(DATA, [ANNA])
        assert (server.sign_ins, waits) == (0, [])


@pytest.mark.parametrize("word", ["cross crows caw", "fälsch"])
def test_a_wrong_password_is_told_at_once_and_shown_nowhere(open_server: Any, waits: list[float], word: str) -> None:
    """Exit code 4, without a second try that could lock the account, and without the password in any word."""
    with open_server() as server:
        with pytest.raises(SignInNeeded) as refused, sender(server, waits, word) as way:
            way.send(DATA, [ANNA])
        assert refused.value.message == "the mail server localhost refused the sign-in (535)"
        assert "app password" in refused.value.hint
        assert word not in str(refused.getrepr(style="native")) + refused.value.hint
        assert (server.sign_ins, server.mails, waits) == (1, [], [])


def test_a_server_that_wants_a_sign_in_says_so(open_server: Any, waits: list[float]) -> None:
    """Without user and password in the settings a person is told to name them."""
    with open_server() as server, pytest.raises(SignInNeeded) as refused, sender(server, waits, None) as way:
        way.send(DATA, [ANNA])
    assert "user and password" in refused.value.hint


def test_no_password_goes_to_a_server_that_cannot_encrypt(open_server: Any, waits: list[float]) -> None:
    """A server without STARTTLS gets neither the password nor the mail."""
    with open_server(tls="none") as server:
        with pytest.raises(BackupError, match="offers no encryption") as refused, sender(server, waits) as way:
            way.send(DATA, [ANNA])
        assert 'security = "tls"' in refused.value.hint
        assert (server.sign_ins, server.mails, waits) == (0, [], [])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_that_cannot_prove_its_name_gets_nothing(
    open_server: Any, waits: list[float], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """A certificate that nobody vouches for, or of another name, ends it before the password."""
    with open_server() as server:
        if host == "localhost":
            monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(Unreachable, match="cannot prove that it is") as refused, sender(server, waits, host=host) as way:
            way.send(DATA, [ANNA])
        assert refused.value.exit_code == 13
        assert (server.sign_ins, server.mails, waits) == (0, [], [])


def test_a_server_on_this_machine_needs_no_encryption(open_server: Any, waits: list[float]) -> None:
    """The local mail service of a machine takes mail as it always did."""
    with open_server(tls="none", sign_in=False) as server, sender(server, waits, None, security="none") as way:
        assert way.send(DATA, [ANNA]) == {}
        assert not server.mails[0].encrypted


@pytest.mark.parametrize(
    "answers",
    [
        {"DATA": ["451 busy"]},
        {"MAIL": ["421 too many connections"]},
        {"anna@example.org": [""]},
        {"MAIL": ["", "450 later"]},
        {"anna@example.org": ["450 greylisted"]},
    ],
)
def test_what_fails_for_the_moment_is_tried_again(open_server: Any, waits: list[float], answers: dict[str, list[str]]) -> None:
    """A busy server, a full one, a connection that breaks: the mail arrives once, a little later."""
    with open_server(answers=answers) as server, sender(server, waits) as way:
        tries = sum(map(len, answers.values()))
        assert way.send(DATA, [ANNA]) == {}
        assert len(server.mails) == 1
        assert waits == list(sending.WAITS[:tries])


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_mail_whose_answer_was_lost_is_not_sent_again(open_server: Any, waits: list[float], tls: str) -> None:
    """A server that has the whole mail and falls silent may have taken it: nobody gets it twice, and the doubt is told as what it is."""
    with open_server(tls=tls, answers={"DATA": [""]}) as server, sender(server, waits, security=tls) as way:
        with pytest.raises(BackupError, match="may have been sent all the same") as told:
            way.send(DATA, [ANNA])
        assert (told.value.exit_code, told.value.hint) == (1, sending._ASK)
        assert (server.mails, waits) == ([], [])
        assert way.send(DATA, [BEN]) == {}  # the next mail is no matter of doubt


def take_slowly(place: socket.socket, took: list[int]) -> None:
    """Take one mail a connection, two megabytes a second."""
    with suppress(OSError):
        while True:
            way, _ = place.accept()
            with way, way.makefile("rb") as lines, suppress(OSError):
                way.sendall(b"220 here\r\n")
                while (line := lines.readline()) and line.upper() != b"DATA\r\n":
                    way.sendall(b"250 fine\r\n")
                way.sendall(b"354 go on\r\n")
                size, end = 0, b""
                while end != b"\r\n.\r\n" and (piece := lines.read1(2**16)):
                    size, end = size + len(piece), (end + piece)[-5:]
                    time.sleep(len(piece) / 2e6)
                took.append(size)
                way.sendall(b"250 taken\r\n")
                lines.readline()


def test_a_large_mail_may_take_its_time(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail that leaves slowly arrives, however much longer that takes than a server may take for an answer."""
    monkeypatch.setattr(sending, "TIMEOUT", 1.0)
    data, took = DATA + b"as long as it gets\r\n" * 400_000, list[int]()
    with socket.create_server(("localhost", 0)) as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        server = threading.Thread(target=take_slowly, args=(place, took), daemon=True)
        server.start()
        settings = EmailSettings(sender="me@example.org", host="localhost", port=place.getsockname()[1], security="none")
        with SmtpSender(settings, ME, None, waits.append) as way:
            assert way.send(data, [ANNA]) == {}
    assert took[-1] == len(data) + len(b".\r\n")


def test_a_third_failure_is_the_last(open_server: Any, waits: list[float]) -> None:
    """A server that stays busy is told as unreachable, with what it said, fit for a terminal."""
    with open_server(answers={"DATA": ["451 no room \x1b[31m now"] * 9}) as server:
        with pytest.raises(Unreachable) as refused, sender(server, waits) as way:
            way.send(DATA, [ANNA])
        assert refused.value.message == "the mail server localhost refused: 451 no room [31m now"
        assert (server.mails, waits) == ([], list(sending.WAITS))


def test_a_mail_that_is_refused_for_good_is_not_tried_again(open_server: Any, waits: list[float]) -> None:
    """What the server will never take ends at once with its reason."""
    with open_server(answers={"DATA": ["554 looks like spam"]}) as server:
        with pytest.raises(BackupError, match="refused: 554 looks like spam") as refused, sender(server, waits) as way:
            way.send(DATA, [ANNA])
        assert refused.value.exit_code == 1
        assert (server.mails, waits) == ([], [])


def test_one_refused_receiver_does_not_cost_the_others(open_server: Any, waits: list[float]) -> None:
    """The others get the mail, once; who was refused is named with the reason, and who was put off is tried again."""
    answers = {"anna@example.org": ["550 no such user"], "ben@example.com": ["450 greylisted"]}
    with open_server(answers=answers) as server, sender(server, waits) as way:
        assert way.send(DATA, [ANNA, BEN, ME]) == {ANNA.addr_spec: "550 no such user"}
        assert [mail.to for mail in server.mails] == [["me@example.org"], ["ben@example.com"]]
        assert waits == [sending.WAITS[0]]


def test_a_failure_after_some_have_it_is_theirs_alone_who_have_it_not(open_server: Any, waits: list[float]) -> None:
    """Where one receiver was put off and the server then goes away, the other is not said to have got nothing."""
    answers = {"ben@example.com": ["450 later", "450 later", "450 later"]}
    with open_server(answers=answers) as server, sender(server, waits) as way:
        assert way.send(DATA, [ANNA, BEN]) == {BEN.addr_spec: "450 later"}
        assert [mail.to for mail in server.mails] == [["anna@example.org"]]


def test_everybody_refused_is_told_of_everybody(open_server: Any, waits: list[float]) -> None:
    """Where nobody is taken, each is named."""
    answers = {"anna@example.org": ["550 unknown"], "ben@example.com": ["550 left"]}
    with open_server(answers=answers) as server, sender(server, waits) as way:
        assert way.send(DATA, [ANNA, BEN]) == {ANNA.addr_spec: "550 unknown", BEN.addr_spec: "550 left"}
        assert server.mails == []


def test_an_international_address_goes_where_it_can(open_server: Any, waits: list[float]) -> None:
    """A server with SMTPUTF8 delivers to jürgen@; for another he is refused, and the others get theirs."""
    with open_server() as server, sender(server, waits) as way:
        assert way.send(trial(ME, JÜRGEN), [JÜRGEN, ANNA]) == {}
        assert server.mails[0].to == ["jürgen@example.org", "anna@example.org"]
        assert "To: jürgen@example.org\r\n".encode() in server.mails[0].content
    with open_server(utf8=False) as server, sender(server, waits) as way:
        assert way.send(DATA, [JÜRGEN, ANNA]) == {JÜRGEN.addr_spec: "553 this server knows no such addresses"}
        assert server.mails[0].to == ["anna@example.org"]


@pytest.mark.parametrize(
    ("size", "ours", "limit"), [(5_000_000, 20_000_000, 5_000_000), (None, 20_000_000, 20_000_000), (10**8, 10**6, 10**6)]
)
def test_the_smaller_limit_holds(open_server: Any, waits: list[float], size: int | None, ours: int, limit: int) -> None:
    """No mail is made that the server said it would not take, or that the settings forbid."""
    with open_server(size=size) as server, sender(server, waits, max_size=ours) as way:
        assert way.limit() == limit


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence, and a port where nobody is, are told as unreachable."""
    monkeypatch.setattr(sending, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = MailServer(port=silent.getsockname()[1])
        with pytest.raises(Unreachable, match=r"cannot be reached: .*timed out"), sender(server, waits) as way:
            way.limit()
    with pytest.raises(Unreachable, match="cannot be reached: connection refused"), sender(server, waits) as way:
        way.limit()
    assert waits == list(sending.WAITS) * 2
