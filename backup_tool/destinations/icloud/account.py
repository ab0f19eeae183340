"""One signed-in session with Apple, shared by all threads of a run.

It is opened from what `backup login` saved, without the password: so nothing it does can ask for a code, send one, or lock the account.
When Apple ends it, it is opened again from the saved trust; where that is refused, a person is needed.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from backup_tool.destinations.files import told
from backup_tool.destinations.http import http_time
from backup_tool.destinations.icloud.faults import PASSING, SIGNED_OUT, Faults
from backup_tool.destinations.icloud.session import SavedSession, SessionStore
from backup_tool.destinations.icloud.wire import Wire
from backup_tool.errors import BackupError, SignInNeeded

if TYPE_CHECKING:
    from pyicloud import PyiCloudService
    from requests import Response

SIGN_IN_SECONDS = 300.0
LONGEST_SECONDS = 600.0
SLOWEST = 8192
"""A request may take LONGEST_SECONDS, and a second more for each SLOWEST bytes that it moves."""
MAX_ANSWER = 64 * 2**20
"""Bytes of the largest list worth reading: some 150,000 files."""
MAX_REFUSAL = 2**16
_SETUP = "https://setup.icloud.com{}/setup/ws/1/{}"
_KEEP_EVERY = 10.0
Wait = Callable[[threading.Event, float], bool]
"""Waits so many seconds, or until the event is set: True where it is."""


class Pace:
    """How close requests follow one another: at once as long as all is well; each "too much" doubles the gap, each success shortens it."""

    FIRST, LONGEST, SHORTER = 0.05, 2.0, 0.8

    def __init__(self, closed: threading.Event, wait: Wait) -> None:
        self._closed, self._wait = closed, wait
        self._gap = self._next = 0.0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._gap
        if at > now:
            self._wait(self._closed, at - now)

    def saw(self, status: int) -> None:
        """Learn from an answer."""
        busy = status in PASSING
        with self._lock:
            self._gap = min(max(2 * self._gap, self.FIRST), self.LONGEST) if busy else self._gap * self.SHORTER
            self._gap = self._gap if self._gap > 0.005 else 0.0


class Account:
    """The session of one destination. `account` and `china` are what the settings say; where they say nothing, what was signed in with.

    Errors: SignInNeeded, UsageError (the other one of Apple's clouds), Unreachable, NoSpace, BackupError.
    """

    def __init__(self, store: SessionStore, faults: Faults, *, china: bool | None, wait: Wait = threading.Event.wait) -> None:
        self._store, self.faults, self._china = store, faults, china
        self.closed = threading.Event()
        self.wait = wait
        self._wire = Wire()
        self._pace = Pace(self.closed, wait)
        self._calls, self._transfers = threading.BoundedSemaphore(2), threading.BoundedSemaphore(4)
        self._lock = threading.RLock()
        self._stack = ExitStack()
        self._api: PyiCloudService | None = None
        self._saved: SavedSession | None = None
        self._generation = 0
        self._kept_at = 0.0
        self.clock_ahead = 0.0
        """Seconds that Apple's clock is ahead of this machine's, by its last answer."""

    def days_left(self) -> float | None:
        """As `session.days_left`, of this session; None before the first request."""
        return None if self._saved is None else self._saved.days_left(time.time())

    @property
    def saved(self) -> SavedSession:
        """What is known of the sign-in, after it was accepted."""
        self._opened()
        assert self._saved is not None
        return self._saved

    # --- the session ------------------------------------------------------------------------------------------------------------------

    def _opened(self) -> tuple[PyiCloudService, int]:
        with self._lock:
            if self.closed.is_set():
                raise self.faults.unreachable(f"the connection to {self.faults.label} was closed")
            if self._api is None:
                with self._store.lock(self.closed):
                    saved = self._load()
                    folder = self._stack.enter_context(self._store.scratch())
                    api = browser(folder, self._wire, saved.account, saved.china, saved=saved)
                    self._accept(api, saved)
                self._api = api
            return self._api, self._generation

    def _load(self) -> SavedSession:
        saved = self._store.load()
        if saved is None:
            raise self.faults.sign_in("nobody has signed in to iCloud for this destination")
        if self.faults.account and self.faults.account != saved.account:
            raise self.faults.sign_in("the sign-in to iCloud is another account's than the settings name")
        if self._china is not None and self._china != saved.china:
            raise self.faults.sign_in("the sign-in to iCloud is of another country than the settings say")
        return saved

    def _accept(self, api: PyiCloudService, saved: SavedSession) -> None:
        """Have the saved session accepted, and keep what Apple made of it. A refusal counts only from a fresh connection (421 is also said
        of one that was used for another server)."""
        try:
            authenticate(api, self._wire, self.faults)
        except SignInNeeded:
            self._wire.close()
            authenticate(api, self._wire, self.faults)
        self._saved = msgspec.structs.replace(saved, accepted=time.time())
        self._generation += 1
        self._keep(api, good=True)

    def _renew(self, api: PyiCloudService, generation: int) -> None:
        """Open the session again, unless another thread just did."""
        with self._lock:
            if generation == self._generation and self._saved is not None:
                with self._store.lock(self.closed):
                    self._accept(api, self._saved)

    def _approve(self, api: PyiCloudService) -> None:
        """Advanced Data Protection: fetch what a device has approved already. Never asks a device, for that would wake a person."""
        state = ask_setup(api, self._wire, self.faults, "requestWebAccessState")
        if state.get("isICDRSDisabled") and not state.get("isDeviceConsentedForPCS"):
            raise self.faults.approval()
        wanted = {"appName": "iclouddrive", "derivedFromUserAction": False}
        if ask_setup(api, self._wire, self.faults, "requestPCS", wanted).get("status") != "success":
            raise self.faults.approval()

    def _keep(self, api: PyiCloudService, *, good: bool = False, last: bool = False) -> None:
        """Save what Apple changed: new tokens at once, cookies every ten seconds."""
        with self._lock:
            if self._saved is None:
                return
            tokens, old = tokens_of(api), self._saved
            if not good and tokens == old.tokens and not last and time.monotonic() - self._kept_at < _KEEP_EVERY:
                return
            try:
                cookies = cookies_of(api)
            except OSError as error:
                raise told(error, "the folder of the sign-in to iCloud") from error
            if good or (tokens, cookies) != (old.tokens, old.cookies):
                self._saved = msgspec.structs.replace(old, tokens=tokens, cookies=cookies)
                self._store.save(self._saved, good=good)
            self._kept_at = time.monotonic()

    def close(self) -> None:
        """Keep the session and end all connections, those in use too."""
        self.closed.set()
        self._wire.shut()
        with self._lock:
            api, self._api = self._api, None
            with contextlib.suppress(BackupError):
                if api is not None:
                    self._keep(api, last=True)
            self._stack.close()

    # --- requests ---------------------------------------------------------------------------------------------------------------------

    def service(self, name: str) -> Callable[[], str]:
        """The address of a web service of this account, looked up when it is used: it may change with a new session."""

        def address() -> str:
            from pyicloud.exceptions import PyiCloudServiceNotActivatedException

            api, _ = self._opened()
            try:
                return str(api.get_webservice_url(name)).rstrip("/")
            except PyiCloudServiceNotActivatedException:
                raise self.faults.not_set_up() from None

        return address

    def cookie(self, name: str) -> str:
        """The value of a cookie; an empty text where there is none."""
        api, _ = self._opened()
        return next((cookie.value or "" for cookie in list(api.session.cookies) if cookie.name == name), "")

    def params(self) -> dict[str, str]:
        """What goes with every call of a web service."""
        api, _ = self._opened()
        return dict(api.params)

    def ask(
        self, what: str, method: str, address: Callable[[], str], kind: Any, *, params: Mapping[str, str] | None = None, payload: Any = None
    ) -> Any:
        """Call a web service; its answer as `kind` (msgspec). `what` is named in errors."""
        more: dict[str, Any] = {} if payload is None else {"json": payload}

        def how() -> dict[str, Any]:
            return {"params": {**self.params(), **(params or {})}, **more}

        with self._calls, self.request(what, method, address, how) as response:
            return decoded(self.body(response, MAX_ANSWER), kind, self.faults)

    @contextmanager
    def transfer(
        self, what: str, method: str, url: str, how: Callable[[], dict[str, Any]], *, size: int, expected: Collection[int] = (200,)
    ) -> Iterator[Response]:
        """Send or fetch `size` bytes at a signed address, which gets none of the account's parameters."""
        with self._transfers, self.request(what, method, lambda: url, how, expected=expected, size=size) as response:
            yield response

    @contextmanager
    def request(
        self,
        what: str,
        method: str,
        address: Callable[[], str],
        how: Callable[[], dict[str, Any]],
        *,
        expected: Collection[int] = (200,),
        size: int = 0,
    ) -> Iterator[Response]:
        """An answer whose status is one of `expected`. A session that has ended is opened again, once.

        The body is not read yet. Redirects are never followed.
        """
        cures: list[Callable[[PyiCloudService, int], None]] = [lambda _api, _generation: self._wire.close(), self._renew]
        approved = False
        while True:
            api, generation = self._opened()
            url, given = address(), how()
            self._pace.take()
            with self._wire.within(LONGEST_SECONDS + size / SLOWEST), sent(api, self.faults, method, url, given) as response:
                self._saw(api, response)
                if response.status_code in expected:
                    yield response
                    return
                error, status = refusal(what, response, self.faults), response.status_code
            if status in SIGNED_OUT and cures:
                cures.pop(0)(api, generation)
            elif isinstance(error, SignInNeeded) and status in (400, 423) and not approved:
                approved = True
                self._approve(api)
            else:
                raise error

    def _saw(self, api: PyiCloudService, response: Response) -> None:
        self._pace.saw(response.status_code)
        if (now := http_time(response.headers.get("Date"))) is not None:
            self.clock_ahead = now - time.time()
        if response.status_code < 400:
            self._keep(api)

    def body(self, response: Response, limit: int) -> bytes:
        """As the function `body`."""
        return body(response, limit, self.faults)

    def pieces(self, response: Response) -> Iterator[bytes]:
        """As the function `pieces`."""
        return pieces(response, self.faults)


@contextmanager
def sent(api: PyiCloudService, faults: Faults, method: str, url: str, given: dict[str, Any]) -> Iterator[Response]:
    """An answer, of any status, its body unread. Raises Unreachable, or BackupError for a certificate that is not trusted."""
    from pyicloud.exceptions import PyiCloudException

    if not url.startswith("https://"):
        raise faults.unknown("an address without https")
    try:
        response = api.session.request_raw(method, url, stream=True, allow_redirects=False, **given)
    except (PyiCloudException, OSError, ValueError) as error:
        raise faults.connection(error) from None
    with closing(response):
        yield response


def ask_setup(api: PyiCloudService, wire: Wire, faults: Faults, call: str, payload: Any = None) -> dict[str, Any]:
    """Call the service that sessions are set up at; a JSON object."""
    url = _SETUP.format(".cn" if api.is_china_mainland else "", call)
    with wire.within(LONGEST_SECONDS), sent(api, faults, "POST", url, {"params": dict(api.params), "json": payload}) as response:
        if response.status_code != 200:
            raise refusal(f"the call {call}", response, faults)
        found: dict[str, Any] = decoded(body(response, MAX_REFUSAL, faults), dict[str, Any], faults)
    return found


def refusal(what: str, response: Response, faults: Faults) -> BackupError:
    """The error for an answer; of its body only what are codes."""
    try:
        text = body(response, MAX_REFUSAL, faults)
    except BackupError:
        text = b""
    return faults.refusal(what, response.status_code, response.headers, _codes(text))


def body(response: Response, limit: int, faults: Faults) -> bytes:
    """The whole body. Raises Unreachable where it breaks off, BackupError for more than `limit` bytes."""
    found: list[bytes] = []
    size = 0
    for piece in pieces(response, faults):
        found.append(piece)
        size += len(piece)
        if size > limit:
            raise faults.unknown(f"more than {limit:,} bytes")
    return b"".join(found)


def pieces(response: Response, faults: Faults) -> Iterator[bytes]:
    """The body, piece by piece. Raises Unreachable where it breaks off."""
    from requests.exceptions import RequestException

    try:
        yield from response.iter_content(2**16)
    except (RequestException, OSError, ValueError) as error:
        raise faults.connection(error) from None


def browser(
    folder: Path, wire: Wire, account: str, china: bool, *, password: str | None = None, saved: SavedSession | None = None
) -> PyiCloudService:
    """pyicloud's service over our wire, with the state `saved`; nothing is asked yet. Without a password it can neither prompt nor send a
    code. `folder` is a private one for files of its own; nobody reads them."""
    from pyicloud import PyiCloudService

    quiet()
    api = PyiCloudService(
        account, password, cookie_directory=str(folder), china_mainland=china, authenticate=False,
        client_id=str(saved.tokens.get("client_id") or "") or None if saved else None,
    )  # fmt: skip
    api.session._save_session_data = _nothing  # it rewrites two files at every request, which nobody here reads
    api.session.mount("https://", wire)
    api.session.max_redirects = 5
    if saved is not None:
        api.session.data.update(saved.tokens)
        with _file_of(api, saved.cookies) as path, contextlib.suppress(OSError, ValueError):  # a session without cookies is opened anew
            api.session.cookies.load(str(path))
    return api


def _nothing() -> None:
    """In the place of what need not be done."""


def quiet() -> None:
    """The log of pyicloud holds signed addresses, and that of urllib3 the parameters of each call: they are not written."""
    for name in ("pyicloud", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def authenticate(api: PyiCloudService, wire: Wire, faults: Faults, *, with_password: bool = False) -> None:
    """Have Apple accept the session: from what is saved, else with the password, where the object has one. Raises as `Account` says.

    A second factor that is still wanted is no error with a password: `api.requires_2fa` says so.
    """
    try:
        with wire.within(SIGN_IN_SECONDS):
            api.authenticate()
    except BackupError:
        raise
    except Exception as error:  # whatever pyicloud makes of an answer that it does not understand
        raise faults.of_sign_in(error, _dictionary(api.data), with_password=with_password) from None
    if (country := faults.country(_dictionary(api.data))) is not None:
        raise country
    if not with_password and (api.requires_2fa or api.requires_2sa):
        raise faults.sign_in()


def tokens_of(api: PyiCloudService) -> dict[str, Any]:
    """What pyicloud itself would keep of its session, but for the cookies."""
    from pyicloud.session import NON_PERSISTED_SESSION_KEYS

    return {key: value for key, value in dict(api.session.data).items() if key not in NON_PERSISTED_SESSION_KEYS}


def cookies_of(api: PyiCloudService) -> str:
    """The cookies as LWP text."""
    with _file_of(api, "") as path:
        api.session.cookies.save(str(path))
        return path.read_text(encoding="utf-8") if path.exists() else ""


@contextmanager
def _file_of(api: PyiCloudService, text: str) -> Iterator[Path]:
    from backup_tool.destinations.processes import temporary_name

    path = Path(api.session.cookiejar_path).with_name(temporary_name())
    path.write_text(text, encoding="utf-8")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def decoded(data: bytes, kind: Any, faults: Faults) -> Any:
    """JSON as `kind`. Raises Unreachable where it is none or has another shape; what stands for an error in it is one (Apple says some with
    status 200)."""
    try:
        if data.startswith(b"{") and b'"errorCode"' in data[:MAX_REFUSAL]:
            raise faults.refusal("a call", 200, {}, _codes(data))
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise faults.refusal("a call", 200, {}, _codes(data)) from None
    except (msgspec.DecodeError, RecursionError):
        raise faults.broken("not JSON") from None


def _codes(text: bytes) -> str:
    """What are codes in an answer: nothing else of it is ever shown, or used."""
    return " ".join(re.findall(r"[A-Z][A-Z_]{2,40}|-\d{3,6}", text[:MAX_REFUSAL].decode("utf-8", "replace")))


def _dictionary(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
