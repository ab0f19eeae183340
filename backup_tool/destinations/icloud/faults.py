"""What Apple's refusals mean, as our errors. None of them repeats what the server said: answers hold tokens, numbers and names."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from backup_tool.destinations.http import retry_after
from backup_tool.errors import BackupError, NoSpace, SignInNeeded, Unreachable, UsageError
from backup_tool.names import shown

AGAIN = "see that the network is well, then run it again: what has arrived is not sent twice"
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that pass by themselves."""
SIGNED_OUT = frozenset({401, 409, 421, 450})
"""Statuses of a session that has ended, or that wants a second factor. 421 is also said where a connection led to another partition."""
_LOCKED = -20209
_LOCKED_HINT = "unlock it at https://iforgot.apple.com and wait before the next try: each try while it is locked lengthens that"


class Faults:
    """The errors of one destination: `label` names it, `name` is what a person types after `backup login`."""

    def __init__(self, label: str, name: str, account: str = "") -> None:
        self.label, self.account = label, account
        self.command = f"backup login {shlex.quote(shown(name, 200))}"

    def sign_in(self, why: str = "the sign-in to iCloud has ended") -> SignInNeeded:
        """A person has to sign in."""
        return SignInNeeded(why, f"sign in once, for about 30 days: {self.command}")

    def web_access(self) -> SignInNeeded:
        """Signed in well, and refused all the same."""
        hint = (
            "on the iPhone, Settings, your name, iCloud: 'Access iCloud Data on the Web' has to be on; "
            f"if it is, sign in anew: {self.command}"
        )
        return SignInNeeded("iCloud does not let this sign-in at its files", hint)

    def approval(self) -> SignInNeeded:
        """Advanced Data Protection, without a device's approval."""
        hint = (
            f"approve it on a device while you type: {self.command}; for nights without anybody, keep the archive in a Mac's iCloud "
            "Drive folder instead"
        )
        return SignInNeeded("Advanced Data Protection is on, and no device has approved this access to iCloud", hint)

    def terms(self) -> SignInNeeded:
        """New terms that the person has not accepted."""
        return SignInNeeded(
            "Apple has new terms that you have not accepted", f"sign in at https://www.icloud.com once and read them, then: {self.command}"
        )

    def locked(self) -> SignInNeeded:
        """An account that Apple has locked."""
        return SignInNeeded("Apple has locked this account", f"{_LOCKED_HINT}; then: {self.command}")

    def not_set_up(self) -> SignInNeeded:
        """An account without iCloud Drive."""
        return SignInNeeded(
            "iCloud Drive is not set up for this account", f"open https://www.icloud.com/iclouddrive once, then: {self.command}"
        )

    def other_country(self, domain: str) -> UsageError:
        """An account of the other one of Apple's two clouds."""
        china = domain.lower().endswith(".cn")
        where = "in mainland China" if china else "outside mainland China"
        hint = f"write 'china = {'true' if china else 'false'}' into this destination's settings, then: {self.command}"
        return UsageError(f"this account is kept {where}", hint)

    def full(self) -> NoSpace:
        """No room in the account."""
        hint = "make room at https://www.icloud.com (what lies in 'Recently Deleted' counts too), or get more storage"
        return NoSpace(f"no space left in iCloud for {self.label}", hint)

    def unreachable(self, what: str, headers: Mapping[str, str] | None = None) -> Unreachable:
        """Something that passes; with what the service said of how long it takes."""
        error = Unreachable(what, AGAIN)
        error.retry_after = retry_after(headers) if headers is not None else None
        return error

    def broken(self, what: str) -> Unreachable:
        """An answer that is none."""
        return self.unreachable(f"iCloud gave a broken answer ({what})")

    def unknown(self, what: str) -> BackupError:
        """An answer that nobody has seen before."""
        return BackupError(f"iCloud gave an answer that this version does not know ({what})", "see whether there is a newer version")

    def refusal(self, what: str, status: int, headers: Mapping[str, str], words: str) -> BackupError:
        """The error for a status that is not the wanted one. `words` are upper-case codes found in the answer, for classes only."""
        if status in PASSING or "THROTTLED" in words or "TRY_AGAIN" in words:
            return self.unreachable(f"iCloud answered {status} to {what}", headers)
        if status in SIGNED_OUT:
            return self.web_access()
        if status == 423 or (status == 400 and "PCS" in words):
            return self.approval()
        if str(_LOCKED) in words:
            return self.locked()
        if "ZONE_NOT_FOUND" in words or "AUTHENTICATION_FAILED" in words:
            return self.not_set_up()
        if status in (413, 507) or "QUOTA" in words:
            return self.full()
        if status == 412:
            return self.unreachable("a folder in iCloud is not where it was")
        if status == 200:
            return self.broken("of an unknown shape")
        if status == 410:
            return BackupError(f"Apple has withdrawn what this version asks for ({what})", "see whether there is a newer version")
        return BackupError(f"iCloud answered {status} to {what}", "see whether the folder is well at https://www.icloud.com/iclouddrive")

    def of_sign_in(self, error: BaseException, data: Mapping[str, Any], *, with_password: bool = False) -> BackupError:
        """Why a sign-in failed, from pyicloud's error with all that led to it, and the last answer `data`."""
        from pyicloud import exceptions as apple

        if (country := self.country(data)) is not None:
            return country
        chain = list(_chain(error))
        if any(isinstance(one, apple.PyiCloudAccountLockedException) for one in chain):
            return self.locked()
        if any(isinstance(one, apple.PyiCloudAcceptTermsException) for one in chain):
            return self.terms()
        if any(isinstance(one, apple.PyiCloudServiceNotActivatedException) for one in chain):
            return self.not_set_up()
        if any(isinstance(one, apple.PyiCloudPCSTimeoutException) for one in chain):
            return self.approval()
        codes = [code for one in chain if isinstance(code := getattr(one, "code", None), int)]
        return self._of_codes(codes, chain, with_password)

    def _of_codes(self, codes: list[int], chain: list[BaseException], with_password: bool) -> BackupError:
        from pyicloud import exceptions as apple

        if passing := next((code for code in codes if code in PASSING), None):
            return self.unreachable(f"iCloud is busy ({passing}); this says nothing of the sign-in")
        if not codes and any(isinstance(one, (apple.PyiCloudConnectionException, ConnectionError)) for one in chain):
            return self.connection(chain)
        if with_password and 401 in codes:
            hint = f"type the Apple Account's own password (app-specific ones do not work here): {self.command}"
            return SignInNeeded("Apple refused the account or its password", hint)
        if with_password and 412 in codes:
            return SignInNeeded(
                "Apple wants something of this account to be put right first", f"sign in at https://account.apple.com, then: {self.command}"
            )
        if set(codes) & {401, 403, 409, 421, 450} or any(isinstance(one, _SIGN_IN_TYPES(apple)) for one in chain):
            return self.sign_in()
        if any(isinstance(one, ValueError) for one in chain):
            return self.broken("not JSON")
        return self.unknown(", ".join(map(str, codes)) or type(chain[0]).__name__)

    def country(self, data: Mapping[str, Any]) -> UsageError | None:
        """The error where Apple's answer sends us to its other cloud."""
        domain = data.get("domainToUse") if isinstance(data, Mapping) else None
        return self.other_country(domain) if isinstance(domain, str) and domain else None

    def connection(self, error: BaseException | list[BaseException]) -> BackupError:
        """No answer at all. A certificate that is not trusted does not get better by itself."""
        import requests

        chain = error if isinstance(error, list) else list(_chain(error))
        if any(isinstance(one, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(one) for one in chain):
            hint = "if a proxy of yours reads along, name its authority's file: REQUESTS_CA_BUNDLE=/path/to/ca.pem"
            return BackupError("the certificate of iCloud is not trusted", hint)
        if any(isinstance(one, requests.exceptions.Timeout) for one in chain):
            return self.unreachable("iCloud did not answer in time")
        return self.unreachable("iCloud cannot be reached")


def _SIGN_IN_TYPES(apple: Any) -> tuple[type[BaseException], ...]:
    return apple.PyiCloudFailedLoginException, apple.PyiCloud2FARequiredException, apple.PyiCloudAuthRequiredException


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and the errors it holds as arguments; each once."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, *(held for held in one.args if isinstance(held, BaseException))]
