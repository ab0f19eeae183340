"""The sign-in by a person: password and second factor, once in about 30 days.

The password goes to Apple (by SRP: only a proof of it) and is kept nowhere. A sign-in always begins as a new browser, so that Apple's trust
begins anew; the old one stays in use until the new one is complete. Where the code cannot be typed at once (over ssh, from a script), the
sign-in waits for it: the same command takes it up again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backup_tool.destinations.icloud.account import ask_setup, authenticate, browser, cookies_of, tokens_of
from backup_tool.destinations.icloud.faults import PASSING, Faults
from backup_tool.destinations.icloud.session import LIFETIME, SavedSession, SessionStore
from backup_tool.errors import SignInNeeded, Unreachable, UsageError

if TYPE_CHECKING:
    from pyicloud import PyiCloudService

    from backup_tool.config import DestinationSpec
    from backup_tool.destinations.base import Person
    from backup_tool.destinations.icloud.wire import Wire

_WRONG_CODES = 3
_ASK = "code (or 'sms' for a text message, 'device' to type one that a device shows, 'again' to begin again): "
_DEVICE = "on the device: Settings, your name, Sign-In & Security, Get Verification Code"


def sign_in(spec: DestinationSpec, home: Path, person: Person) -> None:
    """Sign in to the destination's account and keep the session in `home`.

    Without anybody to ask for the code, it is sent, and SignInNeeded says how to go on; then the next call asks for the code first. Raises
    SignInNeeded also for what Apple refuses, UsageError for the other one of Apple's clouds, Unreachable.
    """
    from backup_tool.destinations.icloud.wire import Wire

    faults = Faults(spec.label, spec.name, str(spec.options.get("account") or "").strip().lower())
    store, wire = SessionStore(home), Wire()
    try:
        with store.scratch() as folder:
            _SignIn(spec, store, person, faults, wire, folder).carry_out()
    finally:
        wire.shut()


class _SignIn:
    def __init__(self, spec: DestinationSpec, store: SessionStore, person: Person, faults: Faults, wire: Wire, folder: Path) -> None:
        self._spec, self._store, self._person = spec, store, person
        self._sent = True
        self._faults, self._wire, self._folder = faults, wire, folder

    def carry_out(self) -> None:
        pending = self._store.pending()
        if pending is not None and self._faults.account not in ("", pending.account):
            pending = None
        api, account, china = self._resume(pending) if pending is not None else self._begin()
        if pending is not None or api.requires_2fa or api.requires_2sa:
            self._second_factor(api, account, china)
        self._finish(api, account, china)

    def _begin(self) -> tuple[PyiCloudService, str, bool]:
        """With the password, as a new browser. One try: each wrong one brings the account nearer to being locked."""
        account = (self._faults.account or self._person.ask("Apple Account (email address or phone number): ")).strip().lower()
        if not account:
            raise UsageError("no Apple Account was named", 'write it into the settings: account = "ann@example.org"')
        china = bool(self._spec.options.get("china", False))
        password = self._person.ask_secret(f"password of {account} (not an app-specific one; it is not kept): ")
        api = browser(self._folder, self._wire, account, china, password=password.reveal())
        try:
            authenticate(api, self._wire, self._faults, with_password=True)
        except Unreachable:
            if not api.requires_2fa:  # else the password was right, and only the prompt on a device could not be sent
                raise
            self._sent = False
        return api, account, china

    def _resume(self, pending: SavedSession) -> tuple[PyiCloudService, str, bool]:
        """A sign-in that another process began."""
        self._person.tell(f"a code for {pending.account} was asked for {max(0, round((time.time() - pending.signed_in) / 60))} minutes ago")
        api = browser(self._folder, self._wire, pending.account, pending.china, saved=pending)
        challenge = pending.challenge or {}
        # What a code is checked against; pyicloud has no public way to say it to an object of another process.
        api._auth_data = challenge.get("options") or {}
        if challenge.get("method") == "sms":
            api._set_two_factor_delivery_state("sms")
        else:
            api.use_existing_trusted_device_code()
        return api, pending.account, pending.china

    def _second_factor(self, api: PyiCloudService, account: str, china: bool) -> None:
        method = api.two_factor_delivery_method
        if method == "security_key":
            hint = (
                'keep the archive in a Mac\'s or PC\'s iCloud Drive folder instead: type = "local", path = "~/Library/Mobile Documents/…"'
            )
            raise SignInNeeded("this account signs in with security keys, which cannot be done here", hint)
        if not api.requires_2fa and api.requires_2sa:
            raise SignInNeeded("this account uses Apple's old two-step verification", "turn on two-factor authentication on a device first")
        self._tell_delivery(method)
        for _ in range(_WRONG_CODES):
            if self._is_right(api, self._code(api, account, china)):
                self._store.save_pending(None)
                return
            self._person.tell("that code is not right")
        self._store.save_pending(None)
        raise SignInNeeded(f"{_WRONG_CODES} codes were wrong", f"begin again: {self._faults.command}")

    def _tell_delivery(self, method: str) -> None:
        if method == "sms":
            self._person.tell("a code was sent as a text message")
        elif method == "trusted_device" and self._sent:
            self._person.tell("a code is shown on your devices: allow the sign-in there")
        else:
            self._person.tell(f"no code could be sent; {_DEVICE}")

    def _code(self, api: PyiCloudService, account: str, china: bool) -> str:
        """The code that the person types. Where nobody can, the sign-in waits."""
        while True:
            self._store.save_pending(self._state(api, account, china, challenge=_challenge(api)))
            try:
                typed = "".join(self._person.ask(_ASK).split()).lower()
            except SignInNeeded:
                hint = f"type it within ten minutes: {self._faults.command}; in a script: echo CODE | {self._faults.command} --stdin"
                raise SignInNeeded("Apple wants the code that it has sent", hint) from None
            if typed == "again":
                self._store.save_pending(None)
                raise SignInNeeded("this sign-in was given up", f"begin again: {self._faults.command}")
            if typed == "sms":
                self._text(api)
            elif typed == "device":
                api.use_existing_trusted_device_code()
                self._person.tell(_DEVICE)
            elif typed.isascii() and typed.isdigit():
                return typed
            else:
                self._person.tell("a code has six digits")

    def _text(self, api: PyiCloudService) -> None:
        try:
            with self._wire.within(60):
                api._request_sms_2fa_code()
            self._person.tell("a code was sent as a text message")
        except Exception as error:
            self._person.tell(f"no text message could be sent: {self._faults.of_sign_in(error, {}).message}")

    def _is_right(self, api: PyiCloudService, code: str) -> bool:
        """Have a code checked. pyicloud takes every refusal for a wrong code, so the statuses are looked at too."""
        statuses: list[int] = []
        api.session.hooks["response"].append(lambda response, **_: statuses.append(response.status_code))
        try:
            with self._wire.within(120):
                right = bool(api.validate_2fa_code(code))
        except Exception as error:
            raise self._faults.of_sign_in(error, api.data if isinstance(api.data, dict) else {}) from None
        finally:
            api.session.hooks["response"].pop()
        if not api.is_trusted_session and (busy := PASSING & set(statuses)):
            raise self._faults.unreachable(f"iCloud is busy ({min(busy)}); this says nothing of the code")
        return right

    def _finish(self, api: PyiCloudService, account: str, china: bool) -> None:
        """See that the session is good for files, and keep it."""
        if (country := self._faults.country(api.data)) is not None:
            raise country
        if not api.is_trusted_session:
            raise self._faults.sign_in("Apple has not trusted this sign-in")
        self._approve(api)
        with self._store.lock():
            self._store.save(self._state(api, account, china), good=True)
        self._store.save_pending(None)
        self._person.tell(f"signed in as {account}; Apple will want a code again in about {LIFETIME:.0f} days")

    def _approve(self, api: PyiCloudService) -> None:
        """With Advanced Data Protection, have a device approve the access; it is asked, and waited for, by reading `drive`."""
        state = ask_setup(api, self._wire, self._faults, "requestWebAccessState")
        if not state.get("isICDRSDisabled"):
            return
        self._person.tell("a device now asks whether icloud.com may see your data: allow it there")
        try:
            with self._wire.within(240):
                api.drive  # noqa: B018
        except Exception as error:
            found = self._faults.of_sign_in(error, {})
            raise self._faults.approval() if "PCS" in str(error) else found from None

    def _state(self, api: PyiCloudService, account: str, china: bool, *, challenge: dict[str, Any] | None = None) -> SavedSession:
        now = time.time()
        return SavedSession(
            account=account, china=china, tokens=tokens_of(api), cookies=cookies_of(api), signed_in=now, accepted=now, challenge=challenge
        )


def _challenge(api: PyiCloudService) -> dict[str, Any]:
    """What another process needs to have a code checked."""
    wanted = ("phoneNumberVerification", "trustedPhoneNumber", "mode")
    options = {key: value for key, value in api._auth_data.items() if key in wanted}
    return {"method": api.two_factor_delivery_method, "options": options}
