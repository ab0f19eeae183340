"""Everything that the played Google knows and how it behaves: one object for all of its services, and for tests to look at and to turn."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.destinations.drive.errors import ApiError, unauthenticated
from tests.destinations.drive.people import (
    ACCESS_LIFE,
    AccessToken,
    Account,
    Client,
    RefreshToken,
    Role,
    ServiceKey,
    SharedDrive,
)
from tests.destinations.drive.store import BYTES, FOLDER, TRASH_LIFE, Digests, Item, Store

DRIVE_FILE = "https://www.googleapis.com/auth/drive.file"
DRIVE_APPDATA = "https://www.googleapis.com/auth/drive.appdata"
DRIVE = "https://www.googleapis.com/auth/drive"
DRIVE_READONLY = "https://www.googleapis.com/auth/drive.readonly"
GMAIL_SEND = "https://www.googleapis.com/auth/gmail.send"


@dataclass
class Manners:
    """How Drive behaves on a given day. What is counted down (`…_left`) concerns the next so many requests."""

    name_lag: int = 2
    """A new file is missing from that many lists that ask by name or property (its search index is late)."""
    parent_lag: int = 0
    """The same for lists that ask by folder only."""
    drive_lag: int = 0
    """On shared drives: that many reads of a new id answer 404."""
    empty_groups_left: int = 0
    """Lists of several folders in one query that come back empty, without an error."""
    incomplete_left: int = 0
    """Lists that lack half of their rows, and say `incompleteSearch`."""
    page_limit: int = 1000
    """Pages are no longer than this, whatever is asked for."""
    page_life: float = 3 * 3600.0
    """Seconds that a page token lives."""
    conflict_reason: Literal["fileIdInUse", "duplicate"] = "fileIdInUse"
    conflict_at: Literal["start", "end"] = "start"
    """When a resumable upload under a used id is refused."""
    gone_status: Literal[404, 410] = 404
    """What an ended upload session answers."""
    session_life: float = 7 * 86_400.0
    short_acks_left: int = 0
    """Chunks of which only half is stored (in steps of 256 KiB); the answer says so."""
    stuck_left: int = 0
    """Chunks of which nothing is stored; the answer says so."""
    moved_sessions_left: int = 0
    """Chunks answered with another address to go on at."""
    corrupt_uploads_left: int = 0
    """Uploads whose bytes are stored wrong; the checksum is that of what is stored."""
    no_checksums: bool = False
    """Files never show a checksum."""
    ignore_ranges: bool = False
    """The whole content, whatever range is asked for."""
    gzip: bool = False
    """Contents are compressed on the way where the client allows it."""
    upload_per_day: int = 750_000_000_000
    """Bytes an account may upload in 24 hours."""
    units_per_minute: int | None = None
    """Quota units an account and project may spend in a minute (Google: 325,000); None: counted, not enforced."""
    over_units: Literal[403, 429] = 403
    folder_limit: int = 500_000
    """Items directly in a folder of My Drive."""
    creation_limit: int | None = None
    """Items an account may ever create (Google: 500 million)."""
    device_interval: float = 5.0
    """Seconds between two questions of a device for its token."""


@dataclass
class Consent:
    """What the person at the browser does when asked: who, which boxes stay ticked (None: all), or a refusal."""

    account: Account
    ticked: frozenset[str] | None = None
    refuse: bool = False


@dataclass(frozen=True)
class Call:
    """One API call of the log. `units` as Google counts them; `received` bytes of content came up, `sent` went down."""

    label: str
    method: str
    """The discovery method, "" where there is none."""
    path: str
    status: int
    reason: str
    units: int
    received: int
    sent: int
    account: str
    project: str


@dataclass
class Token:
    """A page token: what is still to be shown, for the same question only."""

    question: str
    rest: list[str]
    expires: float


@dataclass
class Code:
    """An authorization code on its way, or a device's (`approved` None: not decided)."""

    client: Client
    scopes: frozenset[str]
    expires: float
    account: Account | None = None
    redirect: str = ""
    challenge: str = ""
    challenge_method: str = ""
    offline: bool = False
    user_code: str = ""
    approved: bool | None = None
    asked: float = 0.0


class Window:
    """What was used up in the last so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._total = seconds, 0
        self._entries: deque[tuple[float, int]] = deque()

    def add(self, now: float, amount: int) -> None:
        self._entries.append((now, amount))
        self._total += amount

    def total(self, now: float) -> int:
        while self._entries and self._entries[0][0] <= now - self._seconds:
            self._total -= self._entries.popleft()[1]
        return self._total


class World:
    """The state, with verbs for what people, administrators and time do to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.store = Store(folder)
        self.manners = Manners()
        self.accounts: dict[str, Account] = {}
        self.clients: dict[str, Client] = {}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        self.access_tokens: dict[str, AccessToken] = {}
        self.service_keys: dict[str, ServiceKey] = {}
        self.codes: dict[str, Code] = {}
        self.pages: dict[str, Token] = {}
        self.consent: Consent | None = None
        self.refuse_tokens: tuple[int, dict[str, str]] | None = None
        """What the token endpoint answers instead of tokens: (status, body), such as (400, {"error": "admin_policy_enforced"})."""
        self.asked_for: list[dict[str, str]] = []
        """What programs asked of people's browsers, by its parameters."""
        self.calls: list[Call] = []
        self.violations: list[str] = []
        """Every departure from Google's discovery document or from the protocol, by a client or by this server."""
        self.uploaded: dict[str, Window] = {}
        self.spent: dict[tuple[str, str], Window] = {}
        self.created: Counter[str] = Counter()
        self._ahead = 0.0

    # --- time

    def now(self) -> float:
        return time.time() + self._ahead

    def pass_time(self, *, days: float = 0, seconds: float = 0) -> None:
        """Let time pass at Google: tokens and sessions expire, the trash is emptied, quotas come back."""
        self._ahead += days * 86_400 + seconds
        with self.lock:
            old = [
                item for item in self.store.items.values() if item.explicitly_trashed and (item.trashed_at or 0) + TRASH_LIFE < self.now()
            ]
            for item in old:
                if item.id in self.store.items:
                    self.store.remove(item)

    # --- people and programs

    def person(self, email: str = "anna@example.org", **known: object) -> Account:
        """A new account with an empty My Drive."""
        return self._account(Account(email, **known))  # type: ignore[arg-type]

    def _account(self, account: Account) -> Account:
        self.accounts[account.email] = account
        for file_id, name, space in ((account.root, "My Drive", "drive"), (account.app_data, "Application Data", "appDataFolder")):
            self.store.add(self._item(file_id, name, FOLDER, None, account.email, None, set(), space=space))
        return account

    def service_account(self, name: str = "robot", project: str = "000000000042") -> dict[str, str]:
        """A new service account: the key file that its owner downloads."""
        email = f"{name}@voice-notes-{project[-6:]}.iam.gserviceaccount.com"
        account = self._account(Account(email, kind="service", name=name, limit=0))
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        text = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file = {
            "type": "service_account",
            "project_id": f"voice-notes-{project[-6:]}",
            "private_key_id": secrets.token_hex(20),
            "private_key": text.decode(),
            "client_email": email,
            "client_id": account.subject,
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": "https://oauth2.googleapis.com/token",
            "universe_domain": "googleapis.com",
        }
        self.service_keys[email] = ServiceKey(account, project, private.public_key(), file)
        return file

    def client(self, kind: Literal["desktop", "device"] = "desktop", **known: object) -> Client:
        """A new OAuth client, in a project of its own unless `project` says which."""
        client = Client(kind, **known)  # type: ignore[arg-type]
        self.clients[client.id] = client
        return client

    def shared_drive(self, name: str, roles: dict[str, Role], **known: object) -> SharedDrive:
        """A new shared drive; `roles` by email."""
        drive = SharedDrive("0A" + secrets.token_urlsafe(12) + "Uk9PVA", name, dict(roles), **known)  # type: ignore[arg-type]
        self.store.drives[drive.id] = drive
        self.store.add(self._item(drive.id, name, FOLDER, None, None, drive.id, set()))
        return drive

    # --- tokens

    def sign_in(self, account: Account, client: Client, *scopes: str) -> dict[str, object]:
        """What a finished sign-in leaves a program with, without going through it: a token answer."""
        with self.lock:
            refresh = self.grant(account, client, frozenset(scopes or (DRIVE_FILE,)))
            return {**self.access_answer(account, client, client.project, refresh.scopes), "refresh_token": refresh.text}

    def rclone_token(self, account: Account, client: Client, *scopes: str) -> str:
        """The `token` line of an rclone configuration."""
        answer = self.sign_in(account, client, *scopes)
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ACCESS_LIFE))
        kept = {name: answer[name] for name in ("access_token", "token_type", "refresh_token")}
        return json.dumps({**kept, "expiry": expiry})

    def grant(self, account: Account, client: Client, scopes: frozenset[str]) -> RefreshToken:
        """A new refresh token; beyond a hundred the oldest of the account and client dies without a word."""
        now = self.now()
        token = RefreshToken(
            "1//0" + secrets.token_urlsafe(60), account, client, scopes, now, now, now + 7 * 86_400 if client.testing else None
        )
        same = [old for old in self.refresh_tokens.values() if old.account is account and old.client is client]
        if len(same) >= 100:
            del self.refresh_tokens[min(same, key=lambda old: old.issued).text]
        self.refresh_tokens[token.text] = token
        return token

    def access_answer(self, account: Account, client: Client | None, project: str, scopes: frozenset[str]) -> dict[str, object]:
        token = AccessToken("ya29." + secrets.token_urlsafe(120), account, client, project, scopes, self.now() + ACCESS_LIFE)
        self.access_tokens[token.text] = token
        return {"access_token": token.text, "expires_in": ACCESS_LIFE, "scope": " ".join(sorted(scopes)), "token_type": "Bearer"}

    def bearer(self, header: str | None) -> AccessToken:
        """Whose request this is; raises ApiError 401."""
        token = self.access_tokens.get((header or "").removeprefix("Bearer "))
        if token is None or token.expires <= self.now():
            raise unauthenticated()
        return token

    def expire_access_tokens(self) -> None:
        """All access tokens end now; refresh tokens live."""
        self.access_tokens.clear()

    def revoke(self, account: Account, project: str | None = None) -> None:
        """The person removes a program's access (or all programs'): every token of that grant dies."""
        with self.lock:
            self.refresh_tokens = {
                text: token
                for text, token in self.refresh_tokens.items()
                if not (token.account is account and project in (None, token.client.project))
            }
            self.access_tokens = {
                text: token
                for text, token in self.access_tokens.items()
                if not (token.account is account and project in (None, token.project))
            }

    def decide_device(self, user_code: str, account: Account, *, approve: bool = True) -> None:
        """The person types the code that a device shows."""
        code = next(code for code in self.codes.values() if code.user_code == user_code)
        code.account, code.approved = account, approve

    # --- what people do to files

    def put(self, account: Account, name: str, content: bytes, parent: str = "", project: str = "") -> Item:
        """A file that the person (or another program, by its project) puts into a folder."""
        with self.lock:
            folder = self.store.items[parent or account.root]
            owner, drive = (None, folder.drive) if folder.drive else (account.email, None)
            item = self._item(self.store.new_id(), name, BYTES, folder.id, owner, drive, {project} - {""})
            source, digests = self.store.folder / (item.id + ".new"), Digests()
            source.write_bytes(content)
            digests.update(content)
            self.store.keep(item, source, digests)
            self.store.add(item)
            return item

    def make_folder(self, account: Account, name: str, parent: str = "", project: str = "") -> Item:
        """A folder that the person (or another program) makes."""
        with self.lock:
            above = self.store.items[parent or account.root]
            owner, drive = (None, above.drive) if above.drive else (account.email, None)
            item = self._item(self.store.new_id(), name, FOLDER, above.id, owner, drive, {project} - {""})
            self.store.add(item)
            return item

    def share(self, file_id: str, email: str, role: Role = "writer") -> None:
        """The owner shares a file or folder with another account."""
        self.store.items[file_id].roles[email] = role

    def open_with(self, file_id: str, client: Client) -> None:
        """The person picks a file for a program: from now on `drive.file` of that project sees it."""
        self.store.items[file_id].projects.add(client.project)

    def trash(self, file_id: str) -> None:
        """The person moves something to the trash."""
        item = self.store.items[file_id]
        item.explicitly_trashed, item.trashed_at, item.trashed_by = True, self.now(), item.owner
        item.version += 1

    def untrash(self, file_id: str) -> None:
        """The person takes it back out."""
        item = self.store.items[file_id]
        item.explicitly_trashed, item.trashed_at, item.trashed_by = False, None, None
        item.version += 1

    def remove(self, file_id: str) -> None:
        """The person deletes something for good."""
        with self.lock:
            self.store.remove(self.store.items[file_id])

    def rot(self, file_id: str, at: int | None = None) -> None:
        """A stored byte changes, and Google does not notice: the checksum stays."""
        item = self.store.items[file_id]
        path = self.store.content(item)
        data = bytearray(path.read_bytes())
        data[len(data) // 2 if at is None else at] ^= 0x55
        path.write_bytes(data)

    # --- what tests look at

    def objects(self, *, trashed: bool | None = False) -> list[Item]:
        """Files and folders that people or programs made; `trashed` None: with those in the trash."""
        with self.lock:
            return [
                item
                for item in self.store.items.values()
                if item.parent is not None and (trashed is None or self.store.trashed(item) == trashed)
            ]

    def tree(self) -> dict[str, list[Item]]:
        """All files that are not in the trash, by path from the root of their drive; several where names are the same."""
        found: dict[str, list[Item]] = {}
        for item in self.objects():
            if not item.is_folder:
                found.setdefault(self.store.path(item), []).append(item)
        return found

    def duplicates(self) -> list[str]:
        """Paths that lead to more than one item: files or folders."""
        count = Counter((item.parent, item.name) for item in self.objects())
        return sorted({self.store.path(item) for item in self.objects() if count[item.parent, item.name] > 1})

    def content(self, file_id: str) -> Path:
        """Where the bytes of a file are."""
        return self.store.content(self.store.items[file_id])

    def units(self) -> int:
        """Quota units spent so far."""
        return sum(call.units for call in self.calls)

    def called(self, label: str) -> list[Call]:
        """The calls of one operation so far."""
        return [call for call in self.calls if call.label == label]

    def take_violations(self) -> list[str]:
        """The violations so far, for a test that provoked them: they no longer fail it."""
        taken, self.violations[:] = list(self.violations), []
        return taken

    # --- for the services

    def _item(
        self, file_id: str, name: str, mime_type: str, parent: str | None, owner: str | None, drive: str | None,
        projects: set[str], *, space: str = "drive",
    ) -> Item:  # fmt: skip
        now = self.now()
        return Item(file_id, name, mime_type, parent, owner, drive, projects, now, now, owner or "", self.store.serial(), space=space)

    new_item = _item

    def spend(self, token: AccessToken, units: int) -> None:
        """Count quota units; raises ApiError where the minute's are gone."""
        limit = self.manners.units_per_minute
        if limit is None:
            return
        with self.lock:
            minute = self.spent.setdefault((token.account.email, token.project), Window(60))
            if minute.total(self.now()) + units > limit:
                message = "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user'"
                raise ApiError(self.manners.over_units, "rateLimitExceeded", message)
            minute.add(self.now(), units)

    def count_upload(self, account: Account, size: int) -> None:
        """Count bytes uploaded; raises ApiError where the day's are gone."""
        with self.lock:
            day = self.uploaded.setdefault(account.email, Window(86_400))
            if day.total(self.now()) + size > self.manners.upload_per_day:
                raise ApiError(403, "userRateLimitExceeded", "User rate limit exceeded.")
            day.add(self.now(), size)

    def tick(self, name: str) -> bool:
        """Whether a counted-down manner applies now; takes one off."""
        with self.lock:
            left: int = getattr(self.manners, name)
            if left:
                setattr(self.manners, name, left - 1)
            return left > 0

    def sessions(self) -> Iterator[Path]:
        """The bytes of uploads that are under way."""
        yield from sorted((self.folder / "sessions").glob("*"))
