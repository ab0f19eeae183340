"""How a mail leaves this machine: over SMTP (RFC 5321), encrypted, to the server that the settings name.

    with SmtpSender(settings, password) as sender:
        refused = sender.send(data, [address("anna@example.org")])     # {} where everybody is served

Encryption is STARTTLS (RFC 3207) or TLS from the start (RFC 8314), and the server must prove its name; without it only this very machine is
spoken to. What fails for the moment (4xx, a connection that breaks) is tried again, but for a mail that was handed over whole and whose
answer was lost: it may be on its way, and would arrive twice. No answer of a server to a sign-in is passed on: it may hold what was sent.
"""

from __future__ import annotations

import smtplib
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.headerregistry import Address
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from backup_tool.config import EmailSettings
from backup_tool.errors import BackupError, SignInNeeded, Unreachable
from backup_tool.exporters.email import is_international
from backup_tool.models import Secret
from backup_tool.names import on_one_line, shown

T = TypeVar("T")
_Answers = dict[str, tuple[int, bytes]]
TIMEOUT = 30.0
"""Seconds to wait for each answer of a server."""
LAST_TIMEOUT = 600.0
"""The same after a whole mail: some servers look for viruses first, and to give up too soon is to send it twice (RFC 5321, 4.5.3.2.6)."""
WAITS = (2.0, 10.0)
"""Seconds before a second and a third try."""
_PIECE = 2**16
"""Bytes that leave at once: for so many the server has TIMEOUT seconds."""
# What we call ourselves in the greeting: the name of this machine is nobody's business.
_OURSELVES = "[127.0.0.1]"
_NO_UTF8 = b"this server knows no such addresses"
_ASK = "ask whom it is for, or look under Sent, before you send it again"
_TEST = "try the settings: backup email test"
_TLS_PORT = 465
_NEEDS_TLS = f'port {_TLS_PORT} wants security = "tls" under [email]'
# What OpenSSL calls it when somebody greets in plain words.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_NOT_TLS = 'try security = "starttls" under [email]'


class Sender(Protocol):
    """A way for mails to leave. SMTP is the one there is."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def limit(self) -> int:
        """Bytes of the largest mail that it takes. Raises as `send`."""

    def send(self, data: bytes, to: Sequence[Address]) -> dict[str, str]:
        """Hand over a whole mail for all of `to`; the addresses that were refused, and why: the others are served.

        Raises SignInNeeded, Unreachable, or BackupError where the mail itself is refused; then nobody is served.
        """


class _Failed(Exception):
    """One try failed; `told` is what a person is told should it have been the last."""

    def __init__(self, told: BackupError, *, for_now: bool) -> None:
        super().__init__(told.message)
        self.told, self.for_now = told, for_now


class _Noting(smtplib.SMTP):
    """Notes when a mail was handed over whole and the server has not answered yet: nobody knows then whether it took it."""

    in_doubt = False

    def send(self, s: Any) -> None:
        """A mail goes in pieces: all of a large one may take longer than the wait for an answer. It ends with a line of one dot, which no
        command does (RFC 5321, section 4.1.1.4)."""
        for start in range(0, len(s), _PIECE):
            super().send(s[start : start + _PIECE])
        self.in_doubt = isinstance(s, bytes) and s.endswith(b"\r\n.\r\n")
        if self.in_doubt and self.sock is not None:
            self.sock.settimeout(LAST_TIMEOUT)

    def getreply(self) -> tuple[int, bytes]:
        """An answer, of whatever kind, ends the doubt."""
        answer = super().getreply()
        if self.in_doubt and self.sock is not None:
            self.sock.settimeout(TIMEOUT)
        self.in_doubt = False
        return answer


class _NotingTls(_Noting, smtplib.SMTP_SSL):
    """The same, encrypted from the start."""


class SmtpSender:
    """Sends through the server of the settings. `secret` is the password or token, None where the server wants none."""

    def __init__(self, settings: EmailSettings, sender: Address, secret: Secret | None, wait: Callable[[float], None] = time.sleep) -> None:
        self._settings, self._sender, self._secret, self._wait = settings, sender, secret, wait
        self._smtp: _Noting | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def limit(self) -> int:
        """The smaller of what the settings and the server (RFC 1870) allow."""
        said = self._trying(lambda smtp: smtp.esmtp_features.get("size", ""))
        return min([self._settings.max_size, *([int(said)] if said.isdecimal() and int(said) else [])])

    def send(self, data: bytes, to: Sequence[Address]) -> dict[str, str]:
        """As `Sender`."""
        waiting = list(to)
        refused: dict[str, str] = {}
        for wait in (*WAITS, None):
            try:
                answers = self._trying(partial(self._hand_over, data=data, to=waiting))
            except BackupError as failed:
                if len(waiting) == len(to):
                    raise
                return refused | {one.addr_spec: failed.message for one in waiting}  # others have it already
            later = {spec for spec, answer in answers.items() if 400 <= answer[0] < 500 and wait is not None}
            refused |= {spec: _said(*answer) for spec, answer in answers.items() if spec not in later}
            waiting = [one for one in waiting if one.addr_spec in later]
            if not waiting or wait is None:
                break
            self._wait(wait)
        return refused

    def _hand_over(self, smtp: smtplib.SMTP, data: bytes, to: Sequence[Address]) -> _Answers:
        """One try; what the server said to those whom it refused, by address."""
        international = any(map(is_international, (self._sender, *to)))
        if international and not smtp.has_extn("smtputf8"):
            able = [] if is_international(self._sender) else [one for one in to if not is_international(one)]
            unable = {one.addr_spec: (553, _NO_UTF8) for one in to if one not in able}
            return unable | (self._hand_over(smtp, data, able) if able else {})
        options = ["SMTPUTF8", "BODY=8BITMIME"] if international else []
        try:
            return smtp.sendmail(self._sender.addr_spec, [one.addr_spec for one in to], data, options)
        except smtplib.SMTPRecipientsRefused as everybody:
            return everybody.recipients

    # --- the connection -----------------------------------------------------------------------------------------------------------------

    def _trying(self, work: Callable[[smtplib.SMTP], T]) -> T:
        """The result of the first try that goes well. Raises what a person is to be told of the last."""
        for wait in (*WAITS, None):
            try:
                return self._once(work)
            except _Failed as failed:
                self._leave()
                if wait is None or not failed.for_now:
                    raise failed.told from None
            self._wait(wait)
        raise AssertionError("the last try returns or raises")

    def _once(self, work: Callable[[smtplib.SMTP], T]) -> T:
        try:
            if self._smtp is None:
                self._smtp = self._connected()
            return work(self._smtp)
        except (smtplib.SMTPException, OSError) as error:
            raise self._failed(error) from None

    def _failed(self, error: smtplib.SMTPException | OSError) -> _Failed:
        if self._smtp is not None and self._smtp.in_doubt:
            lost = f"the answer of the mail server {shown(self._settings.host)} to the mail was lost: it may have been sent all the same"
            return _Failed(BackupError(lost, _ASK), for_now=False)
        host = shown(self._settings.host)
        if isinstance(error, ssl.SSLCertVerificationError):
            what = f"{host} cannot prove that it is {host}: {shown(error.verify_message)}"
            return _Failed(Unreachable(what, "look at host and port under [email]"), for_now=False)
        if isinstance(error, ssl.SSLError) and self._settings.security == "tls" and error.reason in _NO_TLS:
            what = f"the mail server {host} does not speak TLS on port {self._settings.port}"
            return _Failed(Unreachable(what, _NOT_TLS), for_now=False)
        if isinstance(error, smtplib.SMTPResponseException):
            return self._answered(error)
        return self._lost(error)

    def _lost(self, error: Exception) -> _Failed:
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__).lower()
        told = f"the mail server {shown(self._settings.host)} cannot be reached: {shown(reason)}"
        is_wrong = self._settings.security == "starttls" and self._settings.port == _TLS_PORT
        return _Failed(Unreachable(told, _NEEDS_TLS if is_wrong else _TEST), for_now=True)

    def _answered(self, answer: smtplib.SMTPResponseException) -> _Failed:
        code, host = answer.smtp_code, shown(self._settings.host)
        for_now = 400 <= code < 500
        if isinstance(answer, smtplib.SMTPAuthenticationError) and not for_now:
            return _Failed(SignInNeeded(f"the mail server {host} refused the sign-in ({code})", self._sign_in_hint()), for_now=False)
        if code == 530:
            return _Failed(SignInNeeded(f"the mail server {host} wants a sign-in", self._sign_in_hint()), for_now=False)
        if isinstance(answer, smtplib.SMTPAuthenticationError):
            return _Failed(Unreachable(f"the mail server {host} cannot check the sign-in now ({code})", "try again later"), for_now=True)
        said = f"the mail server {host} refused: {_said(code, answer.smtp_error)}"
        return _Failed(Unreachable(said, "try again later") if for_now else BackupError(said, _TEST), for_now=for_now)

    def _sign_in_hint(self) -> str:
        if self._secret is None:
            return "name user and password under [email]: see configs/full.toml"
        if self._settings.auth == "xoauth2":
            return "the access token is no longer good, or not for mail: get a new one where password_command gets it"
        return "look at user and password under [email]; Gmail, iCloud and others want an app password, made in the settings of the account"

    def _connected(self) -> _Noting:
        settings, context = self._settings, ssl.create_default_context()
        if settings.security == "tls":
            smtp: _Noting = _NotingTls(settings.host, settings.port, _OURSELVES, timeout=TIMEOUT, context=context)
        else:
            smtp = _Noting(settings.host, settings.port, _OURSELVES, timeout=TIMEOUT)
        try:
            smtp.ehlo_or_helo_if_needed()
            if settings.security == "starttls":
                self._encrypt(smtp, context)
            if self._secret is not None:
                self._sign_in(smtp, self._secret)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _encrypt(self, smtp: smtplib.SMTP, context: ssl.SSLContext) -> None:
        if not smtp.has_extn("starttls"):
            host = shown(self._settings.host)
            told = BackupError(
                f"the mail server {host} offers no encryption on port {self._settings.port}", 'try security = "tls" under [email]'
            )
            raise _Failed(told, for_now=False)
        smtp.starttls(context=context)
        smtp.ehlo()

    def _sign_in(self, smtp: smtplib.SMTP, secret: Secret) -> None:
        user = self._settings.user or self._sender.addr_spec
        ways = smtp.esmtp_features.get("auth", "").upper().split()
        if self._settings.auth == "xoauth2":
            # The first answer is the token; to what the server says of a bad one, an empty one (Google's description of XOAUTH2).
            answers = iter([f"user={user}\1auth=Bearer {_ascii(secret)}\1\1"])
            smtp.auth("XOAUTH2", lambda challenge=None: next(answers, ""))
            return
        # One try, and in UTF-8 (RFC 4616): the standard library's own would try every way with a wrong password, and knows ASCII alone.
        if "PLAIN" in ways:
            answer = smtp.docmd("AUTH", "PLAIN " + _base64(f"\0{user}\0".encode() + secret.reveal_bytes()))
        elif "LOGIN" in ways:
            answer = smtp.docmd("AUTH", "LOGIN " + _base64(user.encode()))
            answer = smtp.docmd(_base64(secret.reveal_bytes())) if answer[0] == 334 else answer
        else:
            host = shown(self._settings.host)
            told = BackupError(f"the mail server {host} takes no user and password", "leave them out under [email], or try another port")
            raise _Failed(told, for_now=False)
        if answer[0] not in (235, 503):
            raise smtplib.SMTPAuthenticationError(*answer)

    def _leave(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            with suppress(smtplib.SMTPException, OSError):
                smtp.quit()
            smtp.close()


def _said(code: int, words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return f"{code} {shown(on_one_line(text, 150))}".strip()


def _ascii(token: Secret) -> str:
    if not token.reveal().isascii():
        raise _Failed(SignInNeeded("what password_command gave is no access token", "see what it prints: type it"), for_now=False)
    return token.reveal().strip()


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
