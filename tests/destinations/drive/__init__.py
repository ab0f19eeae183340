"""A Google Drive of our own for tests: no account, no network, but Google's protocol.

It stands in for `www.googleapis.com` (Drive v3), `gmail.googleapis.com` (Gmail v1, sending only), `oauth2.googleapis.com`,
`accounts.google.com` and `iamcredentials.googleapis.com` behind the TLS proxy, so that programs under test run as they are. What it must
answer is taken from Google's documentation and from reports of peers; every request and every answer is checked against the discovery
documents that Google publishes, and departures fail the test (`violations`). It is not Google: where Google is silent, the choice is
written beside the code, and the live test tells.

    with google(tmp_path) as drive:
        anna, client = drive.person(), drive.client()
        subprocess.run([...], env=os.environ | drive.environment())
        assert drive.duplicates() == []

- `drive` is the `World`: people, clients, tokens, files, `manners` (how Drive behaves today), the log (`calls`), time (`pass_time`).
- `drive.proxy.faults` spoils chosen requests on the way. Labels are those of `DriveApi.label` and `OAuth.label`, error bodies come from
  `failure`.
- Contents lie in files below the given folder; what is known of them is in memory and ends with the block.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

from tests.destinations import tls_proxy
from tests.destinations.drive.api import DriveApi
from tests.destinations.drive.errors import failure
from tests.destinations.drive.gmail import Gmail
from tests.destinations.drive.oauth import OAuth
from tests.destinations.drive.world import DRIVE, DRIVE_APPDATA, DRIVE_FILE, DRIVE_READONLY, GMAIL_SEND, Consent, World
from tests.destinations.tls_proxy import Fault, Request, Response

__all__ = [
    "DRIVE",
    "DRIVE_APPDATA",
    "DRIVE_FILE",
    "DRIVE_READONLY",
    "GMAIL_SEND",
    "MISHAPS",
    "Consent",
    "Fault",
    "Google",
    "failure",
    "google",
]


MISHAPS = (
    Fault("answer", response=failure(503, "backendError")),
    Fault("answer", response=failure(502)),
    Fault("answer", effect=True, response=failure(500, "internalError")),
    Fault("answer", response=failure(403, "userRateLimitExceeded")),
    Fault("answer", response=failure(429, "rateLimitExceeded", retry_after=1)),
    Fault("drop"),
    Fault("drop", effect=True),
    Fault("reset"),
    Fault("reset", effect=True),
    Fault("cut body"),
    Fault("cut answer"),
    Fault("twice"),
)
"""What a bad day brings, for `Faults.randomly`: all of it passes when tried again."""


class Google(World):
    """The world together with the proxy through which programs reach it."""

    proxy: tls_proxy.Proxy
    oauth: OAuth
    gmail: Gmail

    def environment(self) -> dict[str, str]:
        """What an unmodified program needs to meet this Google, and a browser whose person does what `consent` says."""
        browser = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).parent / 'browser.py'))} %s &"
        return {**self.proxy.environment(), "BROWSER": browser}

    def visit(self, url: str) -> str:
        """Open a sign-in address elsewhere: the address at which that browser ends, or the text of the page that refuses."""
        address = urlsplit(url)
        request = Request(address.hostname or "", "GET", f"{address.path}?{address.query}", Message(), io.BytesIO())
        answer = self.oauth.answer(request)
        return answer.headers.get("Location") or b"".join(answer.pieces()).decode()


class _Www:
    """www.googleapis.com: Drive, a place to ask about tokens, and the address of old for uploads to Gmail."""

    def __init__(self, world: Google) -> None:
        self.drive, self.oauth, self.gmail = DriveApi(world), OAuth(world), world.gmail

    def service(self, request: Request) -> tls_proxy.Service:
        if request.path.startswith("/upload/gmail/"):
            return self.gmail
        return self.oauth if request.path.startswith("/oauth2/") else self.drive

    def label(self, request: Request) -> str:
        return self.service(request).label(request)

    def answer(self, request: Request) -> Response:
        return self.service(request).answer(request)


@contextlib.contextmanager
def google(folder: Path) -> Iterator[Google]:
    """Google, for as long as the block runs. At its end every departure from the discovery document is a failure."""
    folder.mkdir(parents=True, exist_ok=True)
    world = Google(folder)
    oauth = world.oauth = OAuth(world)
    world.gmail = Gmail(world)
    services: dict[str, tls_proxy.Service] = {
        "www.googleapis.com": _Www(world),
        "gmail.googleapis.com": world.gmail,
        "oauth2.googleapis.com": oauth,
        "accounts.google.com": oauth,
        "iamcredentials.googleapis.com": oauth,
    }
    with tls_proxy.serving(folder, services) as proxy:
        world.proxy = proxy
        yield world
    assert not world.violations, "\n".join(world.violations)
