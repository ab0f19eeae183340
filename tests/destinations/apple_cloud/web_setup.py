"""setup.icloud.com: a session token becomes cookies and a map of the web services; terms, China, protected data, storage."""

from __future__ import annotations

import email.utils
from typing import TYPE_CHECKING, Any

from tests.destinations.apple_cloud.account import DAY, Account, WebSession
from tests.destinations.apple_cloud.wire import Answer, Request, cookie, said, token

if TYPE_CHECKING:
    from tests.destinations.apple_cloud.server import Apple

ROOT = "/setup/ws/1"
TOKEN = "X-APPLE-WEBAUTH-TOKEN"
VALIDATE = "X-APPLE-WEBAUTH-VALIDATE"
DOCUMENTS = "X-APPLE-WEBAUTH-PCS-Documents"
NO_COOKIE = {"success": False, "error": "Missing X-APPLE-WEBAUTH-TOKEN cookie"}
WAITING = {"status": "failure", "message": "Requested the device to upload cookies."}


class SetupDesk:
    """The web sessions, by their cookie."""

    def __init__(self, apple: Apple) -> None:
        self.apple = apple
        self.sessions: dict[str, WebSession] = {}
        self._free = {"accountLogin": self._login, "validate": self._validate}
        self._routes = {
            "requestWebAccessState": self._web_access,
            "enableDeviceConsentForPCS": self._consent,
            "requestPCS": self._protected,
            "storageUsageInfo": self._storage,
            "logout": self._logout,
        }
        self._terms = {"getTerms": self._get_terms, "repairDone": self._accept_terms}
        self._awaiting_terms: Account | None = None

    def answer(self, request: Request) -> Answer:
        name = request.path.removeprefix(ROOT + "/")
        if free := self._free.get(name):
            return free(request)
        if terms := self._terms.get(name):
            return terms(request)
        if name not in self._routes:
            return said(404, {})
        session = self.session(request)
        # With terms pending and no cookie, Apple says this with 500.
        if session is None:
            return said(500 if name == "requestPCS" else 421, NO_COOKIE)
        return self._routes[name](request, session)

    def session(self, request: Request) -> WebSession | None:
        """Whose request this is by its cookie, if that still counts."""
        found = self.sessions.get(request.cookie(TOKEN))
        return found if found and found.until > self.apple.now() else None

    def _login(self, request: Request) -> Answer:
        asked = request.fields()
        grant = self.apple.sign_in.session_tokens.get(str(asked.get("dsWebAuthToken")))
        if grant is None or grant.until < self.apple.now():
            return said(421, {"success": False, "error": "Invalid Session Token"})
        account = grant.account
        if account.china != request.host.endswith(".cn"):
            return said(302, {"domainToUse": "iCloud.com.cn" if account.china else "iCloud.com"})
        given = str(asked.get("trustToken") or "")
        if not (self.apple.sign_in.trusts(account, given) or account.second_factor == "none"):
            return said(200, self.account_json(account, trusted=False))
        if account.terms:
            self._awaiting_terms = account
            return said(200, {**self.account_json(account, trusted=True), "termsUpdateNeeded": True})
        answer = said(200, self.account_json(account, trusted=True))
        answer.headers += self._cookies(account, given, request.host)
        return answer

    def _cookies(self, account: Account, trust: str, host: str) -> list[tuple[str, str]]:
        domain = ".icloud.com.cn" if host.endswith(".cn") else ".icloud.com"
        now, key = self.apple.now(), token()
        self.sessions[key] = WebSession(account, now + account.web_hours * 3600)
        grant = self.apple.sign_in.trust_tokens.get(trust)
        trusted = date(grant.until if grant else now + account.trust_days * DAY)
        return [
            cookie(TOKEN, key, domain, trusted),
            cookie("X-APPLE-WEBAUTH-USER", f"v=1:s=0:d={account.dsid}", domain, trusted),
            cookie(VALIDATE, f"v=1:t={token()}", domain),
            cookie("X-APPLE-WEBAUTH-HSA-TRUST", trust or "none", domain, trusted),
            cookie("X-APPLE-DS-WEB-SESSION-TOKEN", token(), domain, trusted),
        ]

    def _validate(self, request: Request) -> Answer:
        session = self.session(request)
        if session is None:
            return said(421, NO_COOKIE)
        return said(200, self.account_json(session.account, trusted=True))

    def account_json(self, account: Account, *, trusted: bool) -> dict[str, Any]:
        """What a sign-in is answered with: the person, and where each service is."""
        end = ".icloud.com.cn" if account.china else ".icloud.com"
        services: dict[str, dict[str, object]] = {"account": {"url": f"https://p42-setup{end}:443", "status": "active"}, "schoolwork": {}}
        if account.drive:
            for name in ("drivews", "docws"):
                services[name] = {"url": f"https://p42-{name}{end}:443", "status": "active", "pcsRequired": account.adp}
        return {
            "dsInfo": {
                "dsid": account.dsid,
                "appleId": account.apple_id,
                "hsaVersion": 0 if account.second_factor == "none" else 2,
                "hsaEnabled": True,
                "languageCode": "en-us",
                "countryCode": account.country,
            },
            "hsaTrustedBrowser": trusted,
            "hsaChallengeRequired": not trusted,
            "webservices": services,
            "apps": {"iclouddrive": {}, "find": {"canLaunchWithOneFactor": True}},
            "termsUpdateNeeded": False,
            "version": 2,
        }

    def _get_terms(self, request: Request) -> Answer:
        account = self._awaiting_terms
        return said(200, {"iCloudTerms": {"version": account.terms}}) if account else said(421, NO_COOKIE)

    def _accept_terms(self, request: Request) -> Answer:
        account, asked = self._awaiting_terms, request.fields()
        if account is None or asked.get("acceptedICloudTerms") != account.terms:
            return said(400, {"success": False})
        account.terms = 0
        return said(200, {"success": True})

    def _web_access(self, request: Request, session: WebSession) -> Answer:
        account = session.account
        if not account.adp:
            return said(200, {"isWebAccessAllowed": True})
        granted = self.granted(account, asks=True)
        until = int(account.access_until) if granted else 0
        state = {"isICDRSDisabled": True, "isDeviceConsentedForPCS": granted, "deviceConsentForPCSExpiry": until}
        return said(200, {"isWebAccessAllowed": True, **state})

    def granted(self, account: Account, *, asks: bool = False) -> bool:
        """Whether a person has granted access, and it still lasts. A client that asks brings a person who was prompted nearer to it."""
        if asks and account.asked_for_access and account.adp_polls is not None:
            account.asked_for_access += 1
            if account.asked_for_access > account.adp_polls + 1:
                account.asked_for_access, account.access_until = 0, self.apple.now() + account.adp_hours * 3600
        return account.access_until > self.apple.now()

    def _consent(self, request: Request, session: WebSession) -> Answer:
        if not session.account.asked_for_access:
            session.account.asked_for_access = 1
            self.apple.prompted("approval", session.account, "")
        return said(200, {"isDeviceConsentNotificationSent": True})

    def _protected(self, request: Request, session: WebSession) -> Answer:
        if session.account.adp and not self.granted(session.account, asks=True):
            return said(200, WAITING)
        session.documents = True
        answer = said(200, {"status": "success", "message": "Cookies attached."})
        domain = ".icloud.com.cn" if session.account.china else ".icloud.com"
        # It ends long after the access that it stands for: a date to be misled by.
        answer.headers.append(cookie(DOCUMENTS, token(), domain, date(self.apple.now() + 365 * DAY)))
        return answer

    def _storage(self, request: Request, session: WebSession) -> Answer:
        account, used = session.account, self.apple.drive_of(session.account).used()
        usage = {"compStorageInBytes": 0, "usedStorageInBytes": used, "totalStorageInBytes": account.quota, "commerceStorageInBytes": 0}
        over = used >= account.quota
        state = {"overQuota": over, "haveMaxQuotaTier": False, "almost-full": used > account.quota * 0.9, "paidQuota": False}
        media = [{"mediaKey": "docs", "displayLabel": "Documents", "displayColor": "ff9500", "usageInBytes": used}]
        return said(200, {"storageUsageByMedia": media, "storageUsageInfo": usage, "quotaStatus": state})

    def _logout(self, request: Request, session: WebSession) -> Answer:
        del self.sessions[request.cookie(TOKEN)]
        return said(200, {"success": True})


def date(seconds: float) -> str:
    """A cookie's date."""
    return email.utils.formatdate(seconds, usegmt=True)
