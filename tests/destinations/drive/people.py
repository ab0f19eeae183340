"""Who uses Drive, and with which program: accounts, OAuth clients, grants and tokens."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Literal

GIB = 1 << 30
DAY = 86_400.0
ACCESS_LIFE = 3_599
"""Seconds that an access token lives."""
TESTING_LIFE = 7 * DAY
IDLE_LIFE = 182 * DAY
"""A refresh token unused for six months dies."""
TOKENS_PER_GRANT = 100


@dataclass
class Account:
    """A person's account, or a service account (`kind`)."""

    email: str
    kind: Literal["person", "service"] = "person"
    name: str = "Anna Example"
    limit: int | None = 15 * GIB
    """Bytes of storage; None: unlimited or pooled, and not told."""
    elsewhere: int = 0
    """Bytes that mail and photos use of it."""
    delegates: set[str] = field(default_factory=set)
    """Service accounts that an administrator allowed to act for this person."""
    root: str = field(default_factory=lambda: "0A" + secrets.token_urlsafe(12).replace("_", "x") + "PVA")
    app_data: str = field(default_factory=lambda: "1" + secrets.token_urlsafe(24))
    permission_id: str = field(default_factory=lambda: str(secrets.randbelow(10**20)).zfill(20))
    subject: str = field(default_factory=lambda: str(secrets.randbelow(10**21)).zfill(21))


@dataclass
class Client:
    """An OAuth client of somebody's own project at Google. Mutable: tests disable, delete or publish it."""

    kind: Literal["desktop", "device"] = "desktop"
    project: str = field(default_factory=lambda: str(secrets.randbelow(10**12)).zfill(12))
    secret: str = field(default_factory=lambda: "GOCSPX-" + secrets.token_urlsafe(21))
    testing: bool = False
    """The project was left in "Testing": refresh tokens die after seven days."""
    api_enabled: bool = True
    gmail_enabled: bool = True
    deleted: bool = False
    id: str = ""

    def __post_init__(self) -> None:
        self.id = self.id or f"{self.project}-{secrets.token_hex(16)}.apps.googleusercontent.com"

    def json(self) -> dict[str, dict[str, object]]:
        """The file that the console offers to download."""
        return {
            "installed": {
                "client_id": self.id,
                "project_id": f"voice-notes-{self.project[-6:]}",
                "auth_uri": "https://accounts.google.com/o/oauth2/auth",
                "token_uri": "https://oauth2.googleapis.com/token",
                "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
                "client_secret": self.secret,
                "redirect_uris": ["http://localhost"],
            }
        }


@dataclass
class RefreshToken:
    """What a grant lives on. `dies`: when it ends whatever happens (Testing)."""

    text: str
    account: Account
    client: Client
    scopes: frozenset[str]
    issued: float
    used: float
    dies: float | None = None


@dataclass
class AccessToken:
    """What a request shows. `project` decides what `drive.file` can see."""

    text: str
    account: Account
    client: Client | None
    project: str
    scopes: frozenset[str]
    expires: float


@dataclass
class SharedDrive:
    """A shared drive and its members' roles."""

    id: str
    name: str
    roles: dict[str, str]
    item_limit: int = 500_000
    hidden: bool = False


@dataclass
class ServiceKey:
    """A service account's public key, as Google keeps it, and the file that its owner downloads."""

    account: Account
    project: str
    public: object
    json: dict[str, str]


Role = Literal["organizer", "fileOrganizer", "writer", "commenter", "reader"]
WRITERS = ("owner", "organizer", "fileOrganizer", "writer")
