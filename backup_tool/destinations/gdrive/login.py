"""Signing in to Google Drive with a client of one's own (OAuth 2.0 for native apps, RFC 8252; PKCE, RFC 7636; device grant, RFC 8628).

Three ways: the page opens in a browser of this machine and Google sends it back to a listener on loopback; or it opens anywhere and the
person pastes the address that it ended on; or another device shows a code. Whichever it is, only Google's own addresses are asked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from backup_tool.config import DestinationSpec
from backup_tool.destinations.base import Person
from backup_tool.destinations.gdrive import DEFAULT_SCOPE, keeper_of, refuse_path, sign_in_of
from backup_tool.destinations.gdrive.api import About, Drive
from backup_tool.destinations.gdrive.faults import Who, who_of
from backup_tool.destinations.gdrive.signin import (
    SCOPE,
    Kept,
    Refused,
    SignIn,
    access_token,
    ask_tokens,
    kept_in,
    locked,
)
from backup_tool.destinations.gdrive.transport import API, TOKENS, Transport, client_for
from backup_tool.destinations.http import HttpClient
from backup_tool.destinations.retry import Patience
from backup_tool.errors import BackupError, ConfigError, SignInNeeded, Unreachable, UsageError
from backup_tool.names import shown

AUTHORIZE = "https://accounts.google.com/o/oauth2/v2/auth"
GUIDE = "docs/how-to/google-drive.md"
MODES = ("browser", "paste", "device")
PERSON_SECONDS = 900.0
"""So long a person may take."""
_PASTE = "http://127.0.0.1:8765/"
"""Where the browser is sent when nobody listens: it shows an error, and in its address bar what is wanted."""
_MOST_TRIES = 3
_NO_CLIENT = ("invalid_client", "deleted_client", "unauthorized_client")
_PAGE = b"<!doctype html><meta charset=utf-8><title>backup</title><p>You may close this page and go back to the terminal.\n"


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the person's own."""

    id: str
    secret: str

    @property
    def project(self) -> str:
        """The number of its project: what is stored with `drive.file` belongs to that."""
        return self.id.partition("-")[0]


def sign_in(spec: DestinationSpec, home: Path, person: Person) -> None:
    """Sign in to a destination and keep the sign-in for all later commands. `mode` among the spec's options is one of MODES.

    Raises UsageError without a client, SignInNeeded where it was refused, and what asking Google for the account raises: then the sign-in
    is kept all the same.
    """
    refuse_path(spec)
    who = who_of(spec)
    if "service_account" in spec.options:
        about = _account(spec, sign_in_of(spec, home, who, lambda: client_for(TOKENS, who.label)), who)
        person.tell(f"the key of {shown(about.account)} works: a service account needs no sign-in")
        return
    keeper = keeper_of(spec, home, who)
    old = kept_in(keeper)
    client = client_of(spec.options.get("client"), old, who)
    wish = Wish(SCOPE.format(spec.options.get("scope", DEFAULT_SCOPE)), "Google Drive", "stored", spec.options.get("mode", "browser"))
    kept = granted(wish, client, person, who)
    if old is not None and client.project != old.client_id.partition("-")[0]:
        person.tell(f"this is a client of another Google project than before: it does not see what the earlier one stored ({GUIDE})")
    with locked(home / "sign-in.lock"):
        keeper.save(msgspec.json.encode(kept))
    signed_in = sign_in_of(spec, home, who, lambda: client_for(TOKENS, who.label))
    kept.account = _account(spec, signed_in, who).account
    with locked(home / "sign-in.lock"):
        keeper.save(msgspec.json.encode(kept))
    if old is not None and old.account not in ("", kept.account):
        person.tell(f"before, {shown(old.account)} was signed in: what is there stays in that account's Drive")
    person.tell(f"signed in as {shown(kept.account)}")


def client_of(file: Path | None, old: Kept | None, who: Who) -> Client:
    """The client in a file, else that of the sign-in of before. Raises UsageError where there is neither, and as `read_client`."""
    if file is not None:
        return read_client(file)
    if old is None:
        hint = f"make one in ten minutes ({GUIDE}), then: {who.login} --client FILE"
        raise UsageError("signing in to Google needs a client of your own", hint)
    return Client(old.client_id, old.client_secret)


def read_client(file: Path) -> Client:
    """The client in a file that Google's console gives. Raises ConfigError."""
    try:
        with file.open("rb") as stream:
            content = json.loads(stream.read(2**16))
    except OSError as error:
        raise ConfigError(f"{shown(str(file))} cannot be read: {(error.strerror or str(error)).lower()}", "see that it is there") from None
    except (ValueError, RecursionError):
        content = None
    kinds = content if isinstance(content, dict) else {}
    if "web" in kinds:
        raise ConfigError(f"{shown(str(file))} is a client for web sites", f'make one of the type "Desktop app" ({GUIDE})')
    part = kinds.get("installed")
    texts = [part.get(key) if isinstance(part, dict) else None for key in ("client_id", "client_secret")]
    if not all(isinstance(text, str) and text and text.isascii() and text.isprintable() for text in texts):
        raise ConfigError(f"{shown(str(file))} is no client of Google's", f"download its JSON file in Google's console ({GUIDE})")
    return Client(*map(str, texts))


class Wish(NamedTuple):
    """What is asked for: a scope, whose box `what` is, without which nothing can be `done`; one of MODES; the address that is to be the
    account's, "" for any."""

    scope: str
    what: str
    done: str
    mode: str
    account: str = ""


def granted(wish: Wish, client: Client, person: Person, who: Who) -> Kept:
    """Have it granted, once more where the box was left unticked. Raises SignInNeeded."""
    with closing(client_for(TOKENS, who.label)) as http:
        return _granted(http, wish, client, person, who)


def _granted(http: HttpClient, wish: Wish, client: Client, person: Person, who: Who) -> Kept:
    ways: Mapping[str, Callable[..., dict[str, Any]]] = {"browser": _by_browser, "paste": _by_paste, "device": _by_device}
    way = ways[wish.mode]
    for last in (False, True):
        answer = way(http, client, wish, person, who)
        if wish.scope in str(answer.get("scope", "")).split():
            return _kept(answer, client, wish.scope, who)
        if not last:
            person.tell(f"the box for {wish.what} was not ticked: without it nothing can be {wish.done}; once more, with the box ticked")
    raise SignInNeeded(f"{who.label}: the box for {wish.what} was not ticked", f"sign in again and tick it: {who.login}")


def _kept(answer: Mapping[str, Any], client: Client, scope: str, who: Who) -> Kept:
    now = time.time()
    token, expires = access_token(answer, now)
    refresh, ends = answer.get("refresh_token"), answer.get("refresh_token_expires_in")
    if not isinstance(refresh, str) or not refresh:
        hint = f"remove the client's access at https://myaccount.google.com/connections and sign in again: {who.login}"
        raise SignInNeeded(f"{who.label}: Google gave no lasting sign-in", hint)
    until = now + ends if isinstance(ends, int | float) and 0 < ends < 10**9 else None
    return Kept(refresh, client.id, client.secret, [scope], now, ends=until, access_token=token, expires=expires)


def _account(spec: DestinationSpec, signed_in: SignIn, who: Who) -> About:
    """Ask Google whose it is: the first call, which also tells whether the API is switched on."""
    drive = Drive(Transport(client_for(API, who.label), signed_in), who, shared_drive=spec.options.get("shared_drive"))
    try:
        return drive.about()
    finally:
        drive.close()


# The ways


class _Asked:
    """One request for consent: what is sent along, and what has to come back."""

    def __init__(self, client: Client, wish: Wish, redirect: str) -> None:
        self._client, self._redirect = client, redirect
        self.state, self._verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "client_id": client.id, "redirect_uri": redirect, "response_type": "code", "scope": wish.scope, "state": self.state,
            "code_challenge": challenge, "code_challenge_method": "S256", "access_type": "offline", "prompt": "consent",
        }  # fmt: skip
        self.url = f"{AUTHORIZE}?" + urlencode(asked | ({"login_hint": wish.account} if wish.account else {}))

    def is_answer(self, query: str) -> bool:
        """Whether this comes from the page that was opened."""
        return hmac.compare_digest(_one(query, "state").encode(), self.state.encode())

    def redeem(self, http: HttpClient, query: str, who: Who) -> dict[str, Any]:
        """The tokens for the code in the answer. Raises SignInNeeded."""
        if not (code := _one(query, "code")):
            reason = shown(_one(query, "error") or "no code", 40)
            raise SignInNeeded(f"{who.label}: access was refused ({reason})", f"sign in again: {who.login}")
        fields = {
            "grant_type": "authorization_code", "code": code, "code_verifier": self._verifier, "redirect_uri": self._redirect,
            "client_id": self._client.id, "client_secret": self._client.secret,
        }  # fmt: skip
        return _tokens(http, fields, who)


def _one(query: str, name: str) -> str:
    return (parse_qs(query, max_num_fields=50).get(name) or [""])[0]


def _tokens(http: HttpClient, fields: Mapping[str, str], who: Who) -> dict[str, Any]:
    try:
        return Patience().run(lambda: ask_tokens(http, "token", fields))
    except Refused as refusal:
        raise _refused(refusal, who) from None


def _refused(refusal: Refused, who: Who) -> BackupError:
    if refusal.code in _NO_CLIENT:
        hint = f"download its file again in Google's console: {who.login} --client FILE"
        return SignInNeeded(f"{who.label}: Google does not accept the client", hint)
    return SignInNeeded(f"{who.label}: Google refused the sign-in ({shown(refusal.code, 40)})", f"sign in again: {who.login}")


def _by_browser(http: HttpClient, client: Client, wish: Wish, person: Person, who: Who) -> dict[str, Any]:
    with _Listener.listening() as listener:
        asked = listener.asked = _Asked(client, wish, f"http://127.0.0.1:{listener.server_port}/")
        person.tell(f"open this page in a browser of this machine and allow access: {asked.url}")
        person.open(asked.url)
        if not listener.done.wait(PERSON_SECONDS):
            hint = f"on a machine without a browser: {who.login} --paste"
            raise SignInNeeded(f"{who.label}: nobody allowed access within {PERSON_SECONDS / 60:.0f} minutes", hint)
    return asked.redeem(http, listener.query, who)


class _Listener(ThreadingHTTPServer):
    """Waits on loopback for the one request that carries our state; anything else that a browser sends is passed over."""

    daemon_threads = True
    asked: _Asked
    query = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Redirected)
        self.done = threading.Event()

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[_Listener]:
        with cls() as listener:
            thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
            thread.start()
            try:
                yield listener
            finally:
                listener.shutdown()
                thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        """Browsers open connections that they do not use."""


class _Redirected(BaseHTTPRequestHandler):
    server: _Listener
    timeout = 10

    def do_GET(self) -> None:
        query = urlsplit(self.path).query
        ours = urlsplit(self.path).path == "/" and not self.server.done.is_set() and self.server.asked.is_answer(query)
        self.send_response_only(200 if ours else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Length", str(len(_PAGE) if ours else 0))
        self.end_headers()
        if ours:
            self.wfile.write(_PAGE)
            self.server.query = query
            self.server.done.set()

    def log_message(self, format: str, *args: object) -> None:
        """What comes in holds a secret."""


def _by_paste(http: HttpClient, client: Client, wish: Wish, person: Person, who: Who) -> dict[str, Any]:
    asked = _Asked(client, wish, _PASTE)
    person.tell(f"open this page in any browser and allow access: {asked.url}")
    person.tell("the browser then says that it cannot reach a page at 127.0.0.1: copy that page's address from the address bar")
    for _ in range(_MOST_TRIES):
        query = urlsplit(person.ask_secret("the address: ").reveal().strip()).query
        if asked.is_answer(query):
            return asked.redeem(http, query, who)
        person.tell("that is not the address of this sign-in: it begins with http://127.0.0.1")
    raise SignInNeeded(f"{who.label}: that was not the address of this sign-in", f"begin again: {who.login} --paste")


def _by_device(http: HttpClient, client: Client, wish: Wish, person: Person, who: Who) -> dict[str, Any]:
    try:
        answer = Patience().run(lambda: ask_tokens(http, "device/code", {"client_id": client.id, "scope": wish.scope}))
    except Refused as refusal:
        if refusal.code in _NO_CLIENT:
            hint = f'make one of the type "TVs and Limited Input devices", and download its file: {who.login} --client FILE --device'
            raise SignInNeeded(f"{who.label}: Google does not accept this client for --device", hint) from None
        raise _refused(refusal, who) from None
    texts = [answer.get(key) for key in ("device_code", "user_code", "verification_url")]
    if not all(isinstance(text, str) for text in texts):
        raise Unreachable("Google's token server gave a broken answer", f"try again: {who.login} --device")
    code, typed, page = map(str, texts)
    person.tell(f"on any device open {shown(page)} and type the code {shown(typed)}")
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": code, "client_id": client.id,
        "client_secret": client.secret,
    }  # fmt: skip
    pause = _seconds(answer, "interval", 5.0, 60.0)
    until = time.monotonic() + _seconds(answer, "expires_in", PERSON_SECONDS, PERSON_SECONDS)
    while time.monotonic() < until:
        time.sleep(pause)
        try:
            return Patience().run(lambda: ask_tokens(http, "token", fields))
        except Refused as refusal:
            if refusal.code == "slow_down":
                pause += 5.0
            elif refusal.code != "authorization_pending":
                raise _refused(refusal, who) from None
    raise SignInNeeded(f"{who.label}: nobody typed the code in time", f"begin again: {who.login} --device")


def _seconds(answer: Mapping[str, Any], key: str, usual: float, most: float) -> float:
    value = answer.get(key)
    return min(max(float(value), 0.0), most) if isinstance(value, int | float) else usual
