"""idmsa.apple.com: password, second factor, trust. Hands out session tokens; knows nothing of the Drive."""

from __future__ import annotations

import base64
import binascii
import json
import random
from typing import TYPE_CHECKING, Any

from tests.destinations.apple_cloud.account import DAY, Account, Grant, SignIn
from tests.destinations.apple_cloud.bridge import Bridge
from tests.destinations.apple_cloud.srp import Exchange
from tests.destinations.apple_cloud.wire import Answer, Request, said, token

if TYPE_CHECKING:
    from tests.destinations.apple_cloud.server import Apple

ROOT = "/appleauth/auth"
PATIENCE = 15 * 60.0
"""How many seconds a sign-in may take from the password to the code. Apple's own patience is not known."""
ITERATIONS = 1000
PHONE = {"id": 1, "nonFTEU": False, "pushMode": "sms", "numberWithDialCode": "+1 (•••) •••-••21", "obfuscatedNumber": "(•••) •••-••21"}
KEYS = {"challenge": "Y2hhbGxlbmdl", "keyHandles": ["a2V5LW9uZQ"], "rpId": "apple.com"}


class SignInDesk:
    """The sign-ins under way and the tokens given."""

    def __init__(self, apple: Apple) -> None:
        self.apple = apple
        self.under_way: dict[str, SignIn] = {}
        self.session_tokens: dict[str, Grant] = {}
        self.trust_tokens: dict[str, Grant] = {}
        self._exchanges: dict[str, Exchange] = {}
        self._random = random.Random(1)
        self._routes = {
            ("GET", ""): self._options,
            ("GET", "/authorize/signin"): lambda request, _: Answer(200, [("Content-Type", "text/html")], b"<html></html>"),
            ("POST", "/federate"): lambda request, _: said(200, {"federated": False}),
            ("POST", "/signin/init"): self._init,
            ("POST", "/signin/complete"): self._complete,
            ("POST", "/repair/complete"): self._repaired,
            ("PUT", "/verify/phone"): self._text,
            ("POST", "/verify/phone/securitycode"): self._code,
            ("PUT", "/verify/trusteddevice/securitycode"): self._prompt,
            ("POST", "/verify/trusteddevice/securitycode"): self._code,
            ("POST", "/verify/security/key"): lambda request, _: said(400, wrong(-21669, "no key was touched")),
            **Bridge(self).routes,
            ("GET", "/2sv/trust"): self._trust,
        }

    def answer(self, request: Request) -> Answer:
        route = self._routes.get((request.method, request.path.removeprefix(ROOT)))
        if route is None or not request.path.startswith(ROOT):
            return said(404, {})
        sign_in = self._sign_in(request)
        answer = route(request, sign_in)
        answer.headers += [("scnt", "scnt-" + sign_in.id), ("X-Apple-ID-Session-Id", sign_in.id), ("X-Apple-Auth-Attributes", "attributes")]
        if sign_in.account:
            answer.headers.append(("X-Apple-ID-Account-Country", sign_in.account.country))
        return answer

    def _sign_in(self, request: Request) -> SignIn:
        known = self.under_way.get(request.header("X-Apple-ID-Session-Id"))
        if known is None:
            known = SignIn(token(), self.apple.now())
            self.under_way[known.id] = known
        return known

    def in_time(self, sign_in: SignIn) -> bool:
        return self.apple.now() - sign_in.started < PATIENCE

    def _init(self, request: Request, sign_in: SignIn) -> Answer:
        asked = request.json()
        try:
            user, a = str(asked["accountName"]), base64.b64decode(asked["a"])
        except (TypeError, KeyError, binascii.Error):
            return said(400, {})
        account = self.apple.accounts.get(user.lower())
        # Somebody unknown is answered like everybody else, and fails at the proof.
        password, protocol = (account.password, account.protocol) if account else (token(), "s2k")
        if protocol not in asked.get("protocols", []):
            return said(400, {})
        exchange = Exchange(user, password, protocol, a, ITERATIONS)
        key = token()
        self._exchanges[key] = exchange
        return said(200, {**exchange.challenge(), "c": key})

    def _complete(self, request: Request, sign_in: SignIn) -> Answer:
        asked = request.fields()
        account = self.apple.accounts.get(str(asked.get("accountName")).lower())
        if account and account.locked:
            account.tries_while_locked += 1
            return said(403, wrong(-20209, "This Apple Account has been locked for security reasons."))
        exchange = self._exchanges.pop(str(asked.get("c")), None)
        # The proof covers the name as the client wrote it, and Apple keeps names in lower case.
        right = exchange is not None and account is not None and exchange.user == account.apple_id and exchange.proven(*proofs(asked))
        if account is None or not right:
            return self._wrong_password(account)
        if account.repair:
            sign_in.account, sign_in.proven = account, True
            return said(412, {"authType": "non-sa"})
        sign_in.account, sign_in.proven, sign_in.started = account, True, self.apple.now()
        trusted = any(self.trusts(account, str(given)) for given in asked.get("trustTokens") or [])
        sign_in.verified = trusted or account.second_factor == "none"
        session = self.give(self.session_tokens, account, account.token_days)
        if sign_in.verified:
            return said(200, {"authType": "hsa2"}, X_Apple_Session_Token=session)
        return said(409, {"authType": "hsa2"}, X_Apple_Session_Token=session)

    def _wrong_password(self, account: Account | None) -> Answer:
        self.apple.wrong_passwords += 1
        if account:
            account.wrong_passwords += 1
            account.locked = account.wrong_passwords >= account.lock_after
        return said(401, wrong(-20101, "Check the account information you entered and try again."))

    def _repaired(self, request: Request, sign_in: SignIn) -> Answer:
        if not (sign_in.account and sign_in.proven):
            return said(401, {})
        sign_in.account.repair, sign_in.verified = False, True
        return said(200, {}, X_Apple_Session_Token=self.give(self.session_tokens, sign_in.account, sign_in.account.token_days))

    def _options(self, request: Request, sign_in: SignIn) -> Answer:
        account = sign_in.account
        if account is None or not sign_in.proven:
            return said(401, {})
        if "text/html" in request.header("Accept"):
            return Answer(200, [("Content-Type", "text/html; charset=utf-8")], self.apple.boot_page(account).encode())
        if account.second_factor == "security-key":
            return said(200, {"fsaChallenge": KEYS, "keyNames": ["the key on the ring"]})
        numbers = {"trustedPhoneNumbers": [PHONE], "trustedPhoneNumber": PHONE} if account.phone else {}
        devices = account.second_factor in ("push", "device")
        return said(200, {**numbers, "noTrustedDevices": not devices, "authenticationType": "hsa2", "hsa2Account": True})

    def _text(self, request: Request, sign_in: SignIn) -> Answer:
        asked = request.fields()
        if not self.wants_code(sign_in):
            return said(401, {})
        assert sign_in.account is not None
        if not sign_in.account.phone or (asked.get("phoneNumber") or {}).get("id") != PHONE["id"]:
            return said(400, wrong(-28248, "no such phone number"))
        self.send_code(sign_in, "sms")
        return said(200, {"trustedPhoneNumber": PHONE})

    def _prompt(self, request: Request, sign_in: SignIn) -> Answer:
        if not self.wants_code(sign_in):
            return said(401, {})
        self.send_code(sign_in, "push")
        return said(202, {})

    def wants_code(self, sign_in: SignIn) -> bool:
        """Whether the password was right, not too long ago, and a code is what comes next."""
        usable = sign_in.account is not None and sign_in.account.second_factor not in ("security-key", "none")
        return usable and sign_in.proven and self.in_time(sign_in)

    def digits(self) -> str:
        return f"{self._random.randrange(10**6):06}"

    def send_code(self, sign_in: SignIn, kind: str) -> str:
        """A code goes to the person, by `sms` or `push`."""
        assert sign_in.account is not None
        code = self.digits()
        sign_in.codes.add(code)
        self.apple.prompted(kind, sign_in.account, code)
        return code

    def _code(self, request: Request, sign_in: SignIn) -> Answer:
        given = str((request.fields().get("securityCode") or {}).get("code"))
        if not self.wants_code(sign_in):
            return said(401, {})
        account = sign_in.account
        assert account is not None
        if given not in sign_in.codes | self.apple.shown_codes(account):
            self.apple.wrong_codes += 1
            return said(400, {"service_errors": [{"code": "-21669", "message": "Incorrect verification code."}], "hasError": True})
        sign_in.codes.clear()
        return self.verified(sign_in, given)

    def verified(self, sign_in: SignIn, code: str) -> Answer:
        """The second factor was right."""
        account = sign_in.account
        assert account is not None
        sign_in.verified = True
        session = self.give(self.session_tokens, account, account.token_days)
        if account.accepted_409:
            accepted = {"authenticationType": "hsa2", "securityCode": {"code": code, "valid": True}}
            return said(409, accepted, X_Apple_Session_Token=session)
        return said(204, None, X_Apple_Session_Token=session)

    def _trust(self, request: Request, sign_in: SignIn) -> Answer:
        account = sign_in.account
        renewed = account is not None and account.renewable and self.apple.now() < sign_in.trusted_until
        if account is None or not sign_in.verified or not (self.in_time(sign_in) or renewed):
            return said(401, {})
        sign_in.trusted_until = self.apple.now() + account.trust_days * DAY
        session = self.give(self.session_tokens, account, account.token_days)
        trust = self.give(self.trust_tokens, account, account.trust_days)
        return said(204, None, X_Apple_Session_Token=session, X_Apple_TwoSV_Trust_Token=trust, X_Apple_TwoSV_Trust_Eligible="true")

    def give(self, tokens: dict[str, Grant], account: Account, days: float) -> str:
        given = token()
        tokens[given] = Grant(account, self.apple.now() + days * DAY)
        return given

    def trusts(self, account: Account, given: str) -> bool:
        grant = self.trust_tokens.get(given)
        return grant is not None and grant.account is account and grant.until > self.apple.now()


def proofs(asked: dict[str, Any]) -> tuple[bytes, bytes]:
    try:
        return base64.b64decode(asked["m1"]), base64.b64decode(asked["m2"])
    except (KeyError, TypeError, binascii.Error):
        return b"", b""


def wrong(code: int, message: str) -> dict[str, object]:
    return {"serviceErrors": [{"code": str(code), "title": "", "message": message, "suppressDismissal": False}], "hasError": True}


def boot_page(account: Account, push_address: str) -> str:
    """The page after the password: how the second factor will come is in its JSON."""
    push = account.second_factor == "push"
    numbers: dict[str, object] = (
        {"phoneNumberVerification": {"trustedPhoneNumber": PHONE, "trustedPhoneNumbers": [PHONE]}} if account.phone else {}
    )
    bridge = {"apnsTopic": "com.apple.idmsauthwidget", "apnsEnvironment": "prod", "webSocketUrl": push_address, **numbers}
    boot = {
        "direct": {
            "authInitialRoute": "auth/bridge/step" if push else "auth/verify/phone",
            "hasTrustedDevices": account.second_factor in ("push", "device"),
            "twoSV": {"authFactors": ["sms"], "sourceAppId": "1159", "bridgeInitiateData": bridge},
        }
    }
    return f'<html><body><script type="application/json" class="boot_args">{json.dumps(boot)}</script></body></html>'
