"""Apple: all its hosts in one, behind the TLS proxy."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.destinations import tls_proxy
from tests.destinations.apple_cloud.account import DAY, Account
from tests.destinations.apple_cloud.drive import Drive
from tests.destinations.apple_cloud.push import PushService
from tests.destinations.apple_cloud.sign_in import ROOT as SIGN_IN
from tests.destinations.apple_cloud.sign_in import SignInDesk, boot_page
from tests.destinations.apple_cloud.web_setup import DOCUMENTS, NO_COOKIE, SetupDesk
from tests.destinations.apple_cloud.web_setup import ROOT as SETUP
from tests.destinations.apple_cloud.wire import Answer, Request, said

SERVICE_QUERY = ("clientBuildNumber", "clientMasteringNumber", "clientId", "dsid")


@dataclass(frozen=True)
class Prompt:
    """Something that reached a person: a code by `push` or `sms`, or the question for an `approval`."""

    kind: str
    apple_id: str
    code: str
    at: float


class Apple:
    """The service behind every host of Apple's. Set up and inspected from tests."""

    def __init__(self, root: Path, *accounts: Account) -> None:
        self.root = root
        self.accounts = {account.apple_id: account for account in accounts}
        self.lock = threading.RLock()
        self.prompts: list[Prompt] = []
        self.complaints: list[str] = []
        """What a well-behaved client would not do; a test of ours asserts that it stays empty."""
        self.wrong_passwords = 0
        self.wrong_codes = 0
        self.push = PushService(self)
        self.sign_in = SignInDesk(self)
        self.setup = SetupDesk(self)
        self._drives: dict[str, Drive] = {}
        self._shown: dict[str, set[str]] = {}
        self._later = 0.0
        self._connections: Callable[[], int] = lambda: 0
        self._misdirected = -1

    # For tests

    def now(self) -> float:
        """Apple's clock: this machine's, and what `later` added."""
        return time.time() + self._later

    def later(self, days: float = 0, *, hours: float = 0) -> None:
        """Time passes, here only: sessions and trust grow old, the trash is emptied."""
        self._later += days * DAY + hours * 3600

    def add(self, account: Account) -> Account:
        self.accounts[account.apple_id] = account
        return account

    def drive(self, apple_id: str = "") -> Drive:
        """The Drive of that account; of the only one if none is named."""
        return self.drive_of(self.accounts[apple_id] if apple_id else self.account)

    @property
    def account(self) -> Account:
        """The only account, or the first."""
        return next(iter(self.accounts.values()))

    def drive_of(self, account: Account) -> Drive:
        with self.lock:
            if account.apple_id not in self._drives:
                self._drives[account.apple_id] = Drive(self, account, self.root / account.apple_id)
            return self._drives[account.apple_id]

    def objects(self, apple_id: str = "") -> dict[str, Path]:
        """Every visible file: its path in the Drive, and where its bytes lie on this disk."""
        with self.lock:
            return {path: node.blob for path, node in self.drive(apple_id).tree.files() if node.blob}

    def duplicates(self, apple_id: str = "") -> list[str]:
        """Every visible file or folder that bears another name than it was given, since that was taken."""
        with self.lock:
            tree = self.drive(apple_id).tree
            return [tree.where(node) for node in tree.nodes.values() if node.asked and tree.live(node)]

    def misdirect(self) -> None:
        """From now on drivews and docws answer 421, until somebody connects anew: the connection led to the wrong part of Apple."""
        self._misdirected = self._connections()

    def end_web_sessions(self) -> None:
        """As when the browser session is over: cookies count no more, tokens do."""
        self.setup.sessions.clear()

    def end_trust(self) -> None:
        """As after thirty days: neither cookies nor tokens count, a code is needed."""
        self.end_web_sessions()
        self.sign_in.session_tokens.clear()
        self.sign_in.trust_tokens.clear()
        self.sign_in.under_way.clear()

    def trusted_session(self, apple_id: str = "") -> dict[str, str]:
        """What pyicloud keeps (in `<letters and digits of the Apple ID>.session`, as JSON) of a sign-in that has just been trusted."""
        account = self.accounts[apple_id] if apple_id else self.account
        session = self.sign_in.give(self.sign_in.session_tokens, account, account.token_days)
        trust = self.sign_in.give(self.sign_in.trust_tokens, account, account.trust_days)
        return {"client_id": "a-browser", "session_token": session, "trust_token": trust, "account_country": account.country}

    def code_from_settings(self, apple_id: str = "") -> str:
        """The code that a trusted device shows when a person asks it: Settings, Get Verification Code."""
        account = self.accounts[apple_id] if apple_id else self.account
        code = f"{len(self._shown.get(account.apple_id, ())) + 700001:06}"
        self._shown.setdefault(account.apple_id, set()).add(code)
        return code

    def last_code(self, kind: str = "") -> str:
        """The code that was sent last (by `sms` or `push`)."""
        return next(prompt.code for prompt in reversed(self.prompts) if prompt.kind == kind or (prompt.code and not kind))

    # For the desks

    def count_connections(self, count: Callable[[], int]) -> None:
        """How the server learns how many connections there have been."""
        self._connections = count

    def shown_codes(self, account: Account) -> set[str]:
        return self._shown.get(account.apple_id, set())

    def prompted(self, kind: str, account: Account, code: str) -> None:
        self.prompts.append(Prompt(kind, account.apple_id, code, self.now()))

    def complain(self, what: str) -> None:
        self.complaints.append(what)

    def boot_page(self, account: Account) -> str:
        self.push.refuses = account.push_service == "refuses"
        return boot_page(account, self.push.address if account.push_service != "absent" else "localhost:9")

    # For the proxy

    def label(self, request: tls_proxy.Request) -> str:
        """Host and call: `sign-in signin/init`, `setup validate`, `drive createFolders`, `docs update/documents`, `content download`."""
        role, path = role_of(request.host), request.path
        if role == "content":
            return "content " + ("upload" if request.method == "POST" else "download")
        if role == "docs":
            return "docs " + "/".join(path.split("/")[3:5])
        call = path.removeprefix(SIGN_IN if role == "sign-in" else SETUP).strip("/")
        return f"{role} {request.method + ' ' if call.startswith('verify/') else ''}{call or 'options'}"

    def answer(self, carried: tls_proxy.Request) -> tls_proxy.Response:
        request = Request.of(carried)
        role = role_of(request.host)
        if role == "content":
            return self._content(request).carried()
        with self.lock:
            if not request.whole:
                return said(400, {}).carried()
            desks = {"sign-in": self.sign_in.answer, "setup": self.setup.answer, "drive": self._service, "docs": self._service}
            self._check_head(role, request)
            return desks[role](request).carried()

    def _check_head(self, role: str, request: Request) -> None:
        missing = [name for name in SERVICE_QUERY if name not in request.query] if role in ("drive", "docs") else []
        if missing:
            self.complain(f"{request.path} without {', '.join(missing)}")
        if role in ("drive", "docs", "setup") and "icloud.com" not in request.header("Origin"):
            self.complain(f"{request.path} without the origin of a browser")

    def _service(self, request: Request) -> Answer:
        """drivews and docws, which want a session."""
        if self._misdirected == self._connections():
            return Answer(421, [("Content-Type", "text/html")], b"<html>Misdirected Request</html>")
        session = self.setup.session(request)
        if session is None or not session.account.web_access:
            return said(421, NO_COOKIE)
        if request.query.get("dsid", session.account.dsid) != session.account.dsid:
            return said(421, {"error": "wrong account"})
        account = session.account
        documents = role_of(request.host) == "docs"
        if account.adp and not (session.documents and request.cookie(DOCUMENTS) and self.setup.granted(account)):
            if documents:
                return said(400, {"errorCode": 400, "errorReason": "Cannot find PCS auth info"})
            return said(423, {"errorCode": 423, "errorReason": "Missing PCS cookies from the request"})
        if not account.drive:
            return said(200, {"errorCode": "ZONE_NOT_FOUND", "errorReason": "Zone not found"})
        drive = self.drive_of(account)
        return drive.documents.answer(request) if documents else drive.folders.answer(request)

    def _content(self, request: Request) -> Answer:
        """*.icloud-content.com: the address alone says who may do what."""
        with self.lock:
            if "dsid" in request.query or "clientId" in request.query:
                self.complain("the content host was told of the session")
            key = request.query.get("tk", "") if request.method == "POST" else [*request.path.split("/"), "", ""][2]
            for drive in self._drives.values():
                if request.method == "POST" and (slot := drive.documents.slot(key)):
                    break
                if request.method == "GET" and (found := drive.documents.address(key)):
                    return drive.documents.give_out(*found, request)
            else:
                return Answer(404, [("Content-Type", "text/plain")], b"not found")
        return drive.documents.take_in(slot, request)


def role_of(host: str) -> str:
    """Which part of Apple a host belongs to."""
    if host.startswith("idmsa."):
        return "sign-in"
    if "icloud-content" in host:
        return "content"
    for name, role in {"drivews": "drive", "docws": "docs"}.items():
        if name in host:
            return role
    return "setup"


HOSTS = ("idmsa.apple.com", "idmsa.apple.com.cn", "*.icloud.com", "*.icloud.com.cn", "*.icloud-content.com", "*.icloud-content.com.cn")


@contextlib.contextmanager
def serving(folder: Path, *accounts: Account) -> Iterator[tuple[Apple, tls_proxy.Proxy]]:
    """Apple and the proxy that leads to it, for as long as the block runs; everything it keeps is below `folder`."""
    apple = Apple(folder / "apple", *accounts)
    spill = folder / "proxy"
    spill.mkdir(parents=True, exist_ok=True)
    with tls_proxy.serving(spill, dict.fromkeys(HOSTS, apple)) as proxy, apple.push.open(proxy.authority):
        apple.count_connections(lambda: proxy.tunnels)
        yield apple, proxy
