"""Who we are at Google: the sign-in of a person, or a service account, and the access tokens that come of it.

A sign-in is a refresh token and the client that it was given to (RFC 6749, sections 1.5 and 6). It is kept in a private file of the
destination's own folder, or in this machine's keyring where the settings say so. An access token lives for an hour; one that was fetched is
kept beside it, so that the next command need not fetch another.
"""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec

from backup_tool.config import APP
from backup_tool.credentials import refuse_plain_text
from backup_tool.destinations.base import SignInKept
from backup_tool.destinations.files import make_folder, replace_file, told
from backup_tool.destinations.gdrive.faults import AGAIN, Who
from backup_tool.destinations.http import HttpClient, retry_after
from backup_tool.destinations.processes import try_lock
from backup_tool.errors import BackupError, ConfigError, SignInNeeded, Unreachable, UsageError
from backup_tool.names import shown

SCOPE = "https://www.googleapis.com/auth/{}"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address
TESTING_DAYS = 7
"""So long a sign-in lives whose client is in a project of the state "Testing" (Google Identity, "Using OAuth 2.0")."""
_EARLY = 225.0
"""So many seconds before its end a token is replaced."""
_LOCK_SECONDS = 60.0
_MAX_FILE = 2**16
_LARGEST = 2**20


class Kept(msgspec.Struct):
    """A sign-in as it is kept. `client_id` and `client_secret` are the client's, times seconds since 1970."""

    refresh_token: str
    client_id: str
    client_secret: str
    scopes: list[str]
    signed_in: float
    account: str = ""
    ends: float | None = None
    """When Google said that the sign-in ends; None where it said nothing."""
    access_token: str = ""
    expires: float = 0.0


class Keeper(Protocol):
    """Where a sign-in is kept."""

    def load(self) -> bytes | None:
        """What was kept; None where nothing is."""

    def save(self, data: bytes) -> None:
        """Keep this instead."""


class FileKeeper:
    """A file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        """What the file holds. Raises UsageError where others may read it."""
        return read_private(self._path) if self._path.exists() else None

    def save(self, data: bytes) -> None:
        """Replace it, whole or not at all."""
        try:
            make_folder(self._path.parent)
            replace_file(self._path, data)
        except OSError as error:
            raise told(error, str(self._path)) from error


class KeyringKeeper:
    """An entry of this machine's keyring (service ``backup-tool``)."""

    def __init__(self, name: str) -> None:
        self._name = name

    def load(self) -> bytes | None:
        """What the entry holds."""
        import keyring

        with _keyring_errors():
            found = keyring.get_password(APP, self._name)
        return None if found is None else found.encode()

    def save(self, data: bytes) -> None:
        """Replace it."""
        import keyring

        refuse_plain_text("leave the setting 'keyring' out: the sign-in is then kept in a private file")
        with _keyring_errors():
            keyring.set_password(APP, self._name, data.decode())


@contextmanager
def _keyring_errors() -> Iterator[None]:
    import keyring.errors

    try:
        yield
    except keyring.errors.NoKeyringError:
        hint = "leave out keyring in the settings: a private file is used then"
        raise UsageError("this machine has no keyring that can be used here", hint) from None
    except keyring.errors.KeyringError as error:
        hint = "unlock it, or leave out keyring in the settings"
        raise BackupError(f"the keyring cannot be used: {type(error).__name__}", hint) from None


def kept_in(keeper: Keeper) -> Kept | None:
    """The sign-in that is kept; None where there is none that can be read. Raises as keepers do."""
    data = keeper.load()
    try:
        return None if data is None else msgspec.json.decode(data, type=Kept)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_private(path: Path) -> bytes:
    """A small file that only its owner may read. Raises UsageError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE)
    except OSError as error:
        raise UsageError(f"{shown(str(path))} cannot be read: {(error.strerror or str(error)).lower()}", "see that it is there") from None
    if os.name != "nt" and mode & 0o077:
        raise UsageError(f"{shown(str(path))} may be read by others", f"make it yours alone: chmod 600 {shown(str(path))}")
    return data


class Refused(Exception):
    """The token server's error, by its code (RFC 6749, section 5.2; RFC 8628, section 3.5)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def ask_tokens(http: HttpClient, path: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """POST a form to the token server; its answer. Raises Refused, and Unreachable."""
    body = urlencode(fields).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with http.request(
        "POST", path, expected=range(100, 600), headers=headers, body=io.BytesIO(body), size=len(body), redirects=False
    ) as reply:
        status, asked = reply.status, retry_after(reply.headers)
        text = b"" if reply.complete else reply.read(_LARGEST)
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    code = answer.get("error") if isinstance(answer, dict) else None
    if status >= 500 or status in (408, 429) or code in ("temporarily_unavailable", "internal_failure") or not isinstance(code, str):
        error = Unreachable(f"Google's token server is busy ({status})", AGAIN)
        error.retry_after = asked
        raise error
    raise Refused(code)


class SignIn(Protocol):
    """Gives access tokens."""

    def token(self, stale: str | None = None) -> str:
        """A token; not the `stale` one, which Google refused. Raises SignInNeeded, Unreachable."""

    def close(self) -> None:
        """End its connections."""


class PersonSignIn:
    """The sign-in of a person. May be used from several threads, and by several processes: one fetches, the others take what it got."""

    def __init__(self, http: HttpClient, keeper: Keeper, lock: Path | None, who: Who, *, now: Callable[[], float] = time.time) -> None:
        self._http, self._keeper, self._lock_file, self._who, self._now = http, keeper, lock, who, now
        self._lock = threading.Lock()
        self._kept: Kept | None = None

    def token(self, stale: str | None = None) -> str:
        """As SignIn's."""
        with self._lock:
            kept = self._kept
            if kept is not None and self._is_good(kept, stale):
                return kept.access_token
            with locked(self._lock_file):
                kept = self._kept = self.load()
                if not self._is_good(kept, stale):
                    self._renew(kept)
            return kept.access_token

    def close(self) -> None:
        """As SignIn's."""
        self._http.close()

    def _is_good(self, kept: Kept, stale: str | None) -> bool:
        return bool(kept.access_token) and kept.access_token != stale and self._now() < kept.expires - _EARLY

    def load(self) -> Kept:
        """What is kept. Raises SignInNeeded where there is nothing."""
        data = self._keeper.load()
        if data is None:
            raise SignInNeeded(f"nobody has signed in to {self._who.label} on this machine", f"sign in once: {self._who.login}")
        try:
            return msgspec.json.decode(data, type=Kept)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise SignInNeeded(f"the sign-in to {self._who.label} that was kept is damaged", f"sign in again: {self._who.login}") from None

    def _renew(self, kept: Kept) -> None:
        fields = {
            "grant_type": "refresh_token",
            "refresh_token": kept.refresh_token,
            "client_id": kept.client_id,
            "client_secret": kept.client_secret,
        }
        try:
            answer = ask_tokens(self._http, "token", fields)
        except Refused as refusal:
            raise self._over(kept, refusal.code) from None
        kept.access_token, kept.expires = access_token(answer, self._now())
        self._keeper.save(msgspec.json.encode(kept))

    def _over(self, kept: Kept, code: str) -> BackupError:
        label, login, days = self._who.label, self._who.login, (self._now() - kept.signed_in) / 86_400
        if code in ("invalid_client", "deleted_client", "unauthorized_client"):
            hint = f"make a new one and sign in: {login} --client FILE"
            return SignInNeeded(f"{label}: the client that you signed in with is no more", hint)
        if code == "admin_policy_enforced":
            return SignInNeeded(f"{label}: the administrator of your account forbids this client", "ask the administrator to trust it")
        if code == "invalid_grant" and TESTING_DAYS - 0.5 <= days < TESTING_DAYS + 3:
            hint = f'publish your Google project (Audience, "Publish app"), then sign in again: {login}'
            what = f'the sign-in ended after {TESTING_DAYS} days, as it does while a Google project is in "Testing"'
            return SignInNeeded(f"{label}: {what}", hint)
        return SignInNeeded(f"{label}: the sign-in has ended ({shown(code, 40)})", f"sign in again: {login}")


def access_token(answer: Mapping[str, Any], now: float) -> tuple[str, float]:
    """(token, when it ends in seconds since 1970) of an answer of the token server. Raises Unreachable for one that holds none."""
    token, seconds = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not isinstance(seconds, int | float):
        raise Unreachable("Google's token server gave a broken answer", AGAIN)
    return token, now + min(max(float(seconds), 0.0), 86_400.0)


class ServiceAccount:
    """A service account by its key file, for a shared drive, or acting for a person (`subject`)."""

    def __init__(
        self, http: HttpClient, key_file: Path, subject: str | None, scope: str, who: Who, *, now: Callable[[], float] = time.time
    ) -> None:
        self._http, self._file, self._subject, self._scope, self._who, self._now = http, key_file, subject, scope, who, now
        self._lock = threading.Lock()
        self._token, self._expires = "", 0.0

    def token(self, stale: str | None = None) -> str:
        """As SignIn's."""
        with self._lock:
            if not self._token or self._token == stale or self._now() > self._expires - _EARLY:
                self._token, self._expires = self._fetch()
            return self._token

    def close(self) -> None:
        """As SignIn's."""
        self._http.close()

    def _fetch(self) -> tuple[str, float]:
        fields = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": self._assertion()}
        try:
            return access_token(ask_tokens(self._http, "token", fields), self._now())
        except Refused as refusal:
            hint = "see in Google's console that the account and its key are there; who acts for a person needs domain-wide delegation"
            code = shown(refusal.code, 40)
            raise SignInNeeded(f"{self._who.label}: Google does not accept the service account's key ({code})", hint) from None

    def _assertion(self) -> str:
        """A signed claim (RFC 7523, section 3)."""
        from google.auth import crypt, jwt

        try:
            info = json.loads(read_private(self._file))
            signer = crypt.RSASigner.from_service_account_info(info)  # type: ignore[no-untyped-call]
            claims = {"iss": info["client_email"], "aud": TOKEN_URI, "scope": SCOPE.format(self._scope)}
        except (ValueError, KeyError, TypeError):
            hint = "download the key in Google's console: IAM, service accounts, keys, JSON"
            raise ConfigError(f"{shown(str(self._file))} is no key of a service account", hint) from None
        now = round(self._now())
        claims |= {"iat": now, "exp": now + 3600} | ({"sub": self._subject} if self._subject else {})
        return bytes(jwt.encode(signer, claims)).decode()  # type: ignore[no-untyped-call]


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """While the block runs no other process of this machine is in one of the same file. After a minute of waiting it runs all the same."""
    if path is None:
        yield
        return
    make_folder(path.parent)
    file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        until = time.monotonic() + _LOCK_SECONDS
        while not try_lock(file) and time.monotonic() < until:
            time.sleep(0.05)
        yield
    finally:
        os.close(file)


def utc(seconds: float | None) -> str | None:
    """RFC 3339 of seconds since 1970."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def kept(home: Path) -> SignInKept:
    """What the private file of a sign-in says of it. Raises UsageError where others may read that file."""
    data = FileKeeper(sign_in_file(home)).load()
    try:
        found = None if data is None else msgspec.json.decode(data, type=Kept)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None  # as good as none: a run asks for a new one
    if found is None:
        return SignInKept()
    return SignInKept(signed_in=utc(found.signed_in), sign_in_ends=utc(found.ends), sign_in_may_end=ends_in_testing(found))


def sign_in_file(home: Path) -> Path:
    """Where a sign-in is kept in the folder of its destination."""
    return home / "sign-in.json"


def ends_in_testing(kept: Kept) -> str | None:
    """When the sign-in ends if its project is in "Testing"; None where it has outlived that, or Google told its end."""
    if kept.ends is not None or time.time() - kept.signed_in > (TESTING_DAYS + 1) * 86_400:
        return None
    return utc(kept.signed_in + timedelta(days=TESTING_DAYS).total_seconds())
