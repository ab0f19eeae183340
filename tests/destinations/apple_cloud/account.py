"""The people of the server: what each account is like, and what Apple has given it."""

from __future__ import annotations

from dataclasses import dataclass, field

DAY = 86400.0


@dataclass
class Account:
    """One Apple account. Everything may be changed while the server runs: the change counts from the next request on."""

    apple_id: str
    password: str
    dsid: str = "20288408776"
    protocol: str = "s2k"
    """How the password's key is made: `s2k`, or `s2k_fo` as older accounts have it."""
    second_factor: str = "sms"
    """`sms`; `push`: a trusted device shows a code, announced by Apple's push service; `device`: the same, but a client has to ask for it;
    `security-key`; `none`: an account from before."""
    push_service: str = "works"
    """Or `sealed`: it works, and the code never leaves the device and the browser; or it `refuses` (pyicloud then asks for a text message),
    or is `absent` (pyicloud then ends with the bare OSError)."""
    phone: bool = True
    """Whether a phone number is known that text messages can go to."""
    accepted_409: bool = True
    """A right code is answered with 409 and `valid: true`, as since the middle of 2026; else with 204."""
    china: bool = False
    country: str = "USA"
    locked: bool = False
    terms: int = 0
    """A version of the terms that is still to be accepted; 0: none."""
    repair: bool = False
    """The account has to be upgraded first: 412."""
    web_access: bool = True
    """"Access iCloud Data on the Web": without it every service answers 421, though signing in works."""
    drive: bool = True
    """Whether iCloud Drive was ever set up."""
    adp: bool = False
    """Advanced Data Protection: a trusted device has to grant access, each time."""
    adp_polls: int | None = 0
    """How many questions in vain until the person has granted access; None: nobody does."""
    adp_hours: float = 1
    """How long granted access lasts."""
    quota: int = 5 << 30
    trust_days: float = 30
    token_days: float = 30
    web_hours: float = 8
    renewable: bool = False
    """Whether trust can be renewed without a code. Nobody outside Apple knows; the safe answer is no."""

    wrong_passwords: int = 0
    lock_after: int = 5
    tries_while_locked: int = 0
    asked_for_access: int = field(default=0, repr=False)
    access_until: float = field(default=0, repr=False)


@dataclass
class SignIn:
    """A sign-in at idmsa under way: from the password to the trusted browser."""

    id: str
    started: float
    account: Account | None = None
    proven: bool = False
    """The password was right."""
    verified: bool = False
    """So was the second factor."""
    codes: set[str] = field(default_factory=set)
    trusted_until: float = 0


@dataclass
class Grant:
    """A session token or trust token: whose it is and until when."""

    account: Account
    until: float


@dataclass
class WebSession:
    """What the cookie X-APPLE-WEBAUTH-TOKEN stands for."""

    account: Account
    until: float
    documents: bool = False
    """Whether the account's protected data may be read (PCS)."""
