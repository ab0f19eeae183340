"""How a mail leaves through Gmail's own interface (Gmail API v1, users.messages.send), with a sign-in that may send and nothing else.

    with open_gmail(settings, home) as sender:
        sender.send(data, [address("anna@example.org")])

A mail that was sent twice cannot be taken back. So each goes through an upload session (Gmail API, "Upload attachments"): to begin one
sends nothing, and where the answer to the mail itself is lost the session is asked what became of it. What even that does not tell is told
as what it is, and never tried again.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.headerregistry import Address
from pathlib import Path
from time import time
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from backup_tool.config import EmailSettings
from backup_tool.destinations.gdrive.faults import AGAIN, BUSY, NO_MORE_TODAY, SCOPE_MISSING, SWITCHED_OFF, Who, read_error, switched_off
from backup_tool.destinations.gdrive.signin import SCOPE, FileKeeper, Keeper, Kept, KeyringKeeper, PersonSignIn, SignIn, kept_in, locked
from backup_tool.destinations.gdrive.transport import API, TOKENS, Transport, client_for
from backup_tool.destinations.http import http_time, retry_after
from backup_tool.destinations.retry import Patience
from backup_tool.errors import BackupError, NoSpace, SignInNeeded, Unreachable

if TYPE_CHECKING:
    from backup_tool.destinations.base import Person

HOST = "gmail.googleapis.com"
LARGEST = 25_000_000
"""Bytes of a mail, as it travels, that Gmail carries to others (Gmail Help); its interface alone takes 36,700,160."""
WHO = Who("Gmail", "backup email login")
SEND_SCOPE = SCOPE.format("gmail.send")
_SEND = f"https://{HOST}/upload/gmail/v1/users/me/messages/send?uploadType=resumable"
_MAIL = "message/rfc822"
_PATIENCE = 90.0
"""Seconds that one mail is tried for."""
_MOST_PARTS = 100
_SOON = 3600.0
"""Seconds: a pause that is longer is no matter of pace, but of the limit of a day."""
_LONGEST_PAUSE = 8 * 86_400.0
_AGAIN = "see that the network is well, then run it again"
_LOOK = "look in Gmail whether it stands under Sent before you send it again"


def open_gmail(settings: EmailSettings, home: Path, patience: Patience | None = None) -> GmailSender:
    """The way to send. `home` is the folder of the sign-in. Nothing is asked yet. Raises UsageError for a proxy of an unknown kind."""
    sign_in = PersonSignIn(client_for(TOKENS, WHO.label), keeper_of(settings, home), home / "sign-in.lock", WHO)
    return GmailSender(settings.max_size, sign_in, patience or Patience(patience=_PATIENCE, first_patience=_PATIENCE))


def keeper_of(settings: EmailSettings, home: Path) -> Keeper:
    """Where the sign-in is kept."""
    return KeyringKeeper(settings.keyring) if settings.keyring else FileKeeper(home / "sign-in.json")


def sign_in(
    settings: EmailSettings, account: str, home: Path, person: Person, *, client: Path | None, mode: str, other: Kept | None
) -> None:
    """Have it granted that mail may be sent, and keep that. `account` is the address that mail comes from, `client` the file of a client
    that was typed, `mode` "browser" or "paste", `other` a sign-in to Google whose client may serve.

    Raises UsageError without a client, SignInNeeded where it was refused.
    """
    import msgspec

    from backup_tool.destinations.gdrive import login

    keeper = keeper_of(settings, home)
    chosen = login.client_of(client or settings.client, kept_in(keeper) or other, WHO)
    kept = login.granted(login.Wish(SEND_SCOPE, "sending mail", "sent", mode, account), chosen, person, WHO)
    with locked(home / "sign-in.lock"):
        keeper.save(msgspec.json.encode(kept))


class GmailSender:
    """A `Sender`. Whom Gmail cannot reach it tells by mail, later: no address is refused at once."""

    def __init__(self, max_size: int, sign_in: SignIn, patience: Patience) -> None:
        self._max_size, self._sign_in, self._patience = max_size, sign_in, patience
        # Google's guides show sessions at either of these addresses.
        self._ways = {host: Transport(client_for(host, WHO.label), sign_in, host) for host in (HOST, API)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for way in self._ways.values():
            way.close()

    def limit(self) -> int:
        """The smaller of what the settings and Gmail allow. Raises SignInNeeded, Unreachable."""
        self._patience.run(self._sign_in.token)
        return min(self._max_size, LARGEST)

    def send(self, data: bytes, to: Sequence[Address]) -> dict[str, str]:
        """As `Sender`. Raises NoSpace, too, where the account may send no more today."""
        mail = _Mail(data, self)
        try:
            self._patience.run(mail.advance)
        except BackupError as failed:
            if not mail.in_doubt:
                raise
            raise BackupError(f"{failed.message}: the mail may have been sent all the same", _LOOK) from None
        return {}

    def exchange(self, uri: str, method: str, body: io.BytesIO, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers (in lower case) and body of an answer. Raises as Transport does."""
        head, content = self._ways[_host(uri)].send(uri, method, body, len(body.getvalue()), headers)
        return int(head.status), head, content


def _host(uri: str) -> str:
    """Of the two, the one that an address is at; `Transport` refuses what is at neither."""
    return API if urlsplit(uri).netloc == API else HOST


class _Mail:
    """One mail on its way. `in_doubt`: all of it was handed over, and nothing has told what became of it."""

    def __init__(self, data: bytes, sender: GmailSender) -> None:
        self.in_doubt = False
        self._data, self._sender = data, sender
        self._session = ""

    def advance(self) -> None:
        """Bring it to its end. Raises Unreachable where doing so again may bring it further, and is no second sending."""
        left: bytes | None = self._data
        if self._session:
            left = self._put(b"")
        if not self._session:
            self._session = self._begun()
        for _ in range(_MOST_PARTS):
            if left is None:
                return
            left = self._put(left)
        raise Unreachable(f"{WHO.label} takes the mail in bits only", _AGAIN)

    def _begun(self) -> str:
        """A new session: its address. Nothing is sent by it."""
        asked = {"X-Upload-Content-Type": _MAIL, "X-Upload-Content-Length": str(len(self._data))}
        status, head, content = self._sender.exchange(_SEND, "POST", io.BytesIO(), asked)
        if status != 200:
            raise told(status, head, content)
        return head.get("location", "")

    def _put(self, part: bytes) -> bytes | None:
        """Hand over the end of the mail; an empty one asks how far it is. What is left to be handed over, None where it is sent.

        Where the session is over, and the mail was not sent by it, there is no session any more and all of it is left.
        """
        total = len(self._data)
        span = f"{total - len(part)}-{total - 1}" if part else "*"
        body = io.BytesIO(part)
        try:
            status, head, content = self._sender.exchange(
                self._session, "PUT", body, {"Content-Type": _MAIL, "Content-Range": f"bytes {span}/{total}"}
            )
        except BackupError:
            self.in_doubt |= bool(part) and body.tell() == len(part)
            raise
        if status in (200, 201):
            return None
        if status == 308:
            return self._rest(head)
        if status == 408 or status >= 500:
            self.in_doubt |= bool(part)
            raise told(status, head, content)
        if status in (404, 410) or (not part and status == 400):
            # A session that lived just now: perhaps something on the way asked twice, and the first time was enough.
            self.in_doubt |= bool(part)
            return self._over()
        self.in_doubt &= not part  # a refusal of the mail; one to answer a question tells nothing of it
        raise told(status, head, content)

    def _rest(self, head: Mapping[str, str]) -> bytes:
        found = re.fullmatch(r"bytes=0-(\d{1,18})", head.get("range", ""))
        rest = self._data[int(found[1]) + 1 :] if found else self._data
        self.in_doubt = not rest
        if not rest:
            raise Unreachable(f"{WHO.label} has the whole mail and does not say that it is sent", AGAIN)
        return rest

    def _over(self) -> bytes:
        if self.in_doubt:
            raise BackupError(f"the answer of {WHO.label} to the mail was lost", _LOOK)
        self._session = ""
        return self._data


def told(status: int, headers: Mapping[str, str], body: bytes) -> BackupError:
    """The error for an answer that is none of success (Gmail API, "Resolve errors"): by status and reason, never by the words."""
    reasons, message = read_error(body)
    if status in (408, 429) or status >= 500 or (status == 403 and reasons & (BUSY | NO_MORE_TODAY)):
        return _busy(status, reasons, headers, message)
    if status == 401:
        return SignInNeeded(f"{WHO.label} does not accept the sign-in any more", f"sign in again: {WHO.login}")
    if reasons & SCOPE_MISSING:
        return SignInNeeded(f"{WHO.label}: the sign-in does not allow sending mail", f"sign in again and allow it: {WHO.login}")
    if reasons & SWITCHED_OFF:
        return switched_off(WHO, "Gmail", "gmail", message)
    if "domainPolicy" in reasons:
        hint = "ask the administrator, or send by SMTP: see docs/how-to/email.md"
        return BackupError(f"{WHO.label} does not let programs in: the administrator of your account forbids it", hint)
    if "failedPrecondition" in reasons:
        return BackupError("this Google account has no Gmail", f"sign in with one that has: {WHO.login}")
    if status == 413:
        return BackupError(f"{WHO.label} takes no mail of this size", "lower max_size under [email]")
    hint = "see that the addresses are right, and that from is an address of this account"
    return BackupError(f"{WHO.label} refused the mail ({status})", hint)


def _busy(status: int, reasons: set[str], headers: Mapping[str, str], message: str) -> BackupError:
    """For the moment, or for the day: Gmail says in its message when it takes mail again (its header Retry-After is heeded, too)."""
    pause = _pause(headers, message)
    after = f"after {datetime.fromtimestamp(time() + pause):%Y-%m-%d %H:%M}" if pause and pause > 60 else ""
    if reasons & NO_MORE_TODAY or (pause or 0.0) > _SOON:
        what = f"{WHO.label} takes no more mail from this account for now: a limit of Google's is reached"
        return NoSpace(what, f"send it again {after or 'tomorrow'}")
    busy = Unreachable(f"{WHO.label} is busy ({status})", f"send it again {after or 'later'}")
    busy.retry_after = pause
    return busy


def _pause(headers: Mapping[str, str], message: str) -> float | None:
    """Seconds that Google asks to wait; None where it does not say."""
    asked = retry_after({name.title(): value for name, value in headers.items()})
    if found := re.search(r"\bRetry after (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?Z", message, re.IGNORECASE):
        try:
            then = datetime.fromisoformat(found[1] + "+00:00").timestamp()
        except ValueError:
            return asked
        asked = max(asked or 0.0, then - (http_time(headers.get("date")) or time()), 0.0)
    return None if asked is None else min(asked, _LONGEST_PAUSE)
