"""accounts.google.com, oauth2.googleapis.com and iamcredentials.googleapis.com: consent, tokens, devices, revocation.

The protocols are RFC 6749, 7636 (PKCE), 8628 (devices) and 7523 (service accounts), the words of refusals are Google's.

The person at the browser is `World.consent`: a request to the authorization endpoint is answered at once with the redirect that Google's
pages would end in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.destinations.drive.people import IDLE_LIFE, Account, Client
from tests.destinations.drive.world import DRIVE_APPDATA, DRIVE_FILE, Code, World
from tests.destinations.tls_proxy import Request, Response

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
CODE_LIFE, DEVICE_LIFE, JWT_LIFE = 600.0, 1800.0, 3600.0
LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?(/.*)?")
DEVICE_SCOPES = {DRIVE_FILE, DRIVE_APPDATA, "openid", "email", "profile"}
TOKEN_URI = "https://oauth2.googleapis.com/token"
LARGEST_FORM = 64 << 10


class Refused(Exception):
    """A request that the token endpoint refuses: status, error and description."""

    def __init__(self, status: int, error: str, description: str = "", **more: str) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, **({"error_description": description} if description else {}), **more}


class OAuth:
    """The service for these hosts (and for www.googleapis.com/oauth2/v3/tokeninfo)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._routes: Mapping[tuple[str, str], tuple[str, Callable[[dict[str, str]], dict[str, Any]]]] = {
            ("POST", "/token"): ("oauth.token", self.token),
            ("POST", "/device/code"): ("oauth.device", self.device),
            ("POST", "/revoke"): ("oauth.revoke", self.revoke),
            ("GET", "/tokeninfo"): ("oauth.tokeninfo", self.tokeninfo),
            ("POST", "/tokeninfo"): ("oauth.tokeninfo", self.tokeninfo),
            ("GET", "/oauth2/v3/tokeninfo"): ("oauth.tokeninfo", self.tokeninfo),
        }

    def label(self, request: Request) -> str:
        """`oauth.` with authorize, token, device, revoke or tokeninfo; `iam.allowedLocations`."""
        if request.host == "accounts.google.com":
            return "oauth.authorize"
        if request.host == "iamcredentials.googleapis.com":
            return "iam.allowedLocations"
        return self._routes.get((request.method, request.path), ("unknown",))[0]

    def answer(self, request: Request) -> Response:
        form = dict(request.query)
        if request.host == "accounts.google.com":
            return self.authorize(request, form)
        if request.host == "iamcredentials.googleapis.com":  # google-auth asks, beside its first call, where a service account may work
            return _json(404, {"error": {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}})
        form |= dict(parse_qsl(request.body.read(LARGEST_FORM).decode(), keep_blank_values=True))
        if (request.method, request.path) not in self._routes:
            self.world.violations.append(f"no such endpoint: {request.method} {request.host}{request.path}")
            return _json(404, {"error": "not_found"})
        if "Authorization" in request.headers:
            form |= _basic(request.headers["Authorization"])
        try:
            with self.world.lock:
                return _json(200, self._routes[request.method, request.path][1](form))
        except Refused as refusal:
            return _json(refusal.status, refusal.body)

    # --- the person at the browser

    def authorize(self, request: Request, asked: Mapping[str, str]) -> Response:
        """The authorization endpoint: a redirect to the program, or Google's page of refusal."""
        if request.path not in ("/o/oauth2/auth", "/o/oauth2/v2/auth") or request.method != "GET":
            return _page(404, "That’s an error.")
        client = self.world.clients.get(asked.get("client_id", ""))
        if client is None or client.deleted:
            return _page(401, "Error 401: invalid_client. The OAuth client was not found.")
        if fault := self.wrong_request(client, asked):
            return _page(400, fault)
        self.world.asked_for.append(dict(asked))
        redirect, state = asked["redirect_uri"], {"state": asked["state"]} if "state" in asked else {}
        consent = self.world.consent
        if consent is None:
            return _page(200, "Sign in with Google")
        if consent.refuse:
            return _redirect(redirect, {"error": "access_denied", **state})
        wanted = frozenset(asked["scope"].split())
        scopes = wanted if consent.ticked is None else wanted & consent.ticked
        code = "4/0A" + secrets.token_urlsafe(50)
        with self.world.lock:
            self.world.codes[code] = Code(
                client, scopes, self.world.now() + CODE_LIFE, consent.account, redirect, asked.get("code_challenge", ""),
                asked.get("code_challenge_method", "plain"), asked.get("access_type", "offline") == "offline",
            )  # fmt: skip
        return _redirect(redirect, {**state, "code": code, "scope": " ".join(sorted(scopes))})

    @staticmethod
    def wrong_request(client: Client, asked: Mapping[str, str]) -> str:
        if client.kind != "desktop" or not LOOPBACK.fullmatch(asked.get("redirect_uri", "")):
            return "Error 400: redirect_uri_mismatch"
        if asked.get("response_type") != "code":
            return "Error 400: invalid_request. Required parameter is missing: response_type"
        if not asked.get("scope"):
            return "Error 400: invalid_request. Missing required parameter: scope"
        if asked.get("code_challenge_method", "plain") not in ("plain", "S256"):
            return "Error 400: invalid_request. Invalid code_challenge_method"
        return ""

    # --- tokens

    def token(self, form: dict[str, str]) -> dict[str, Any]:
        if self.world.refuse_tokens is not None:
            status, body = self.world.refuse_tokens
            refusal = Refused(status, "")
            refusal.body = body
            raise refusal
        match form.get("grant_type"):
            case "authorization_code":
                return self.from_code(form)
            case "refresh_token":
                return self.from_refresh_token(form)
            case kind if kind == DEVICE:
                return self.from_device(form)
            case kind if kind == JWT_BEARER:
                return self.from_assertion(form)
        raise Refused(400, "unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")

    def client(self, form: Mapping[str, str]) -> Client:
        client = self.world.clients.get(form.get("client_id", ""))
        if client is None:
            raise Refused(401, "invalid_client", "The OAuth client was not found.")
        if client.deleted:
            raise Refused(401, "deleted_client", "The OAuth client was deleted.")
        if "client_secret" not in form:
            raise Refused(400, "invalid_request", "client_secret is missing.")
        if form["client_secret"] != client.secret:
            raise Refused(401, "invalid_client", "The provided client secret is invalid.")
        return client

    def from_code(self, form: Mapping[str, str]) -> dict[str, Any]:
        client, code = self.client(form), self.world.codes.pop(form.get("code", ""), None)
        if code is None or code.user_code or code.expires < self.world.now() or code.client is not client:
            raise Refused(400, "invalid_grant", "Malformed auth code.")
        if code.redirect != form.get("redirect_uri"):
            raise Refused(400, "redirect_uri_mismatch", "Bad Request")
        if code.challenge:
            _prove(code, form.get("code_verifier", ""))
        assert code.account is not None
        return self.granted(code.account, client, code.scopes, offline=code.offline)

    def granted(self, account: Account, client: Client, scopes: frozenset[str], *, offline: bool = True) -> dict[str, Any]:
        answer = self.world.access_answer(account, client, client.project, scopes)
        return {**answer, "refresh_token": self.world.grant(account, client, scopes).text} if offline else answer

    def from_refresh_token(self, form: Mapping[str, str]) -> dict[str, Any]:
        client, now = self.client(form), self.world.now()
        token = self.world.refresh_tokens.get(form.get("refresh_token", ""))
        if token is None or token.client is not client:
            raise Refused(400, "invalid_grant", "Token has been expired or revoked.")
        if (token.dies is not None and token.dies <= now) or token.used + IDLE_LIFE <= now:
            del self.world.refresh_tokens[token.text]
            raise Refused(400, "invalid_grant", "Token has been expired or revoked.")
        scopes = frozenset(form.get("scope", "").split()) or token.scopes
        if not scopes <= token.scopes:
            raise Refused(400, "invalid_scope", "Some requested scopes were invalid.")
        token.used = now
        return self.world.access_answer(token.account, client, client.project, scopes)

    # --- devices

    def device(self, form: Mapping[str, str]) -> dict[str, Any]:
        client = self.world.clients.get(form.get("client_id", ""))
        if client is None or client.deleted:
            raise Refused(401, "invalid_client", "The OAuth client was not found.")
        if client.kind != "device":
            raise Refused(401, "invalid_client", "Invalid client type.")
        scopes = frozenset(form.get("scope", "").split())
        if not scopes or not scopes <= DEVICE_SCOPES:
            raise Refused(400, "invalid_scope", "Invalid device flow scope: " + " ".join(sorted(scopes - DEVICE_SCOPES)))
        letters = "BCDFGHJKLMNPQRSTVWXZ"
        user_code = "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(2))
        code = "AH-1Ng" + secrets.token_urlsafe(60)
        self.world.codes[code] = Code(client, scopes, self.world.now() + DEVICE_LIFE, user_code=user_code)
        return {
            "device_code": code,
            "user_code": user_code,
            "verification_url": "https://www.google.com/device",
            "expires_in": int(DEVICE_LIFE),
            "interval": int(self.world.manners.device_interval),
        }

    def from_device(self, form: Mapping[str, str]) -> dict[str, Any]:
        client, code, now = self.client(form), self.world.codes.get(form.get("device_code", "")), self.world.now()
        if code is None or not code.user_code or code.client is not client:
            raise Refused(400, "invalid_grant", "Malformed device code.")
        if code.expires < now:
            raise Refused(400, "expired_token", "Device code has expired.")
        early, code.asked = now - code.asked < self.world.manners.device_interval, now
        if early:
            raise Refused(403, "slow_down", "Forbidden")
        if code.approved is None:
            raise Refused(428, "authorization_pending", "Precondition Required")
        del self.world.codes[form["device_code"]]
        if not code.approved:
            raise Refused(403, "access_denied", "Forbidden")
        assert code.account is not None
        return self.granted(code.account, client, code.scopes)

    # --- service accounts

    def from_assertion(self, form: Mapping[str, str]) -> dict[str, Any]:
        """A service account shows a statement signed with its key (RFC 7523)."""
        head, claims, signed, signature = _taken_apart(form.get("assertion", ""))
        key = self.world.service_keys.get(str(claims.get("iss", "")))
        if key is None:
            raise Refused(400, "invalid_grant", "Invalid grant: account not found")
        assert isinstance(key.public, rsa.RSAPublicKey)
        try:
            if head.get("alg") != "RS256" or head.get("kid", key.json["private_key_id"]) != key.json["private_key_id"]:
                raise InvalidSignature
            key.public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise Refused(400, "invalid_grant", "Invalid JWT Signature.") from None
        now, issued, expires = self.world.now(), claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(expires, int) or not issued - 600 < now < expires or expires - issued > JWT_LIFE:
            raise Refused(
                400,
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim.",
            )
        if claims.get("aud") != TOKEN_URI:
            raise Refused(400, "invalid_grant", "Invalid JWT: Failed audience check.")
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes:
            raise Refused(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return self.world.access_answer(self.acting_as(key.account, claims.get("sub")), None, key.project, scopes)

    def acting_as(self, robot: Account, subject: object) -> Account:
        """Whom a service account acts for: itself, or (domain-wide delegation) a person whose administrator allows it."""
        if subject is None or subject == robot.email:
            return robot
        person = self.world.accounts.get(str(subject))
        if person is None or robot.email not in person.delegates:
            message = (
                "Client is unauthorized to retrieve access tokens using this method, "
                "or client not authorized for any of the scopes requested."
            )
            raise Refused(401, "unauthorized_client", message)
        return person

    # --- the rest

    def revoke(self, form: Mapping[str, str]) -> dict[str, Any]:
        """One token, and with it the whole grant: every machine that uses the same project."""
        text = form.get("token", "")
        token = self.world.refresh_tokens.get(text)
        access = self.world.access_tokens.get(text)
        if token is not None:
            self.world.revoke(token.account, token.client.project)
        elif access is not None and access.client is not None:
            self.world.revoke(access.account, access.project)
        else:
            raise Refused(400, "invalid_token", "Token expired or revoked")
        return {}

    def tokeninfo(self, form: Mapping[str, str]) -> dict[str, Any]:
        token = self.world.access_tokens.get(form.get("access_token", ""))
        if token is None or token.expires <= self.world.now():
            raise Refused(400, "invalid_token", "Invalid Value")
        client = token.client.id if token.client else token.account.subject
        found = {"azp": client, "aud": client, "scope": " ".join(sorted(token.scopes)), "exp": str(int(token.expires))}
        return {**found, "expires_in": str(int(token.expires - self.world.now())), "access_type": "offline"}


def _prove(code: Code, verifier: str) -> None:
    """PKCE: the verifier must fit the challenge (RFC 7636)."""
    if not verifier:
        raise Refused(400, "invalid_grant", "Missing code verifier.")
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    right = digest if code.challenge_method == "S256" else verifier
    if right != code.challenge or not re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier):
        raise Refused(400, "invalid_grant", "Invalid code verifier.")


def _taken_apart(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """A JSON Web Token in compact form (RFC 7515): header, claims, what is signed, signature."""
    try:
        head, claims, signature = token.split(".")
        return json.loads(_unbase64(head)), json.loads(_unbase64(claims)), f"{head}.{claims}".encode(), _unbase64(signature)
    except (ValueError, binascii.Error):
        raise Refused(400, "invalid_grant", "Invalid JWT: malformed.") from None


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _basic(header: str) -> dict[str, str]:
    """Client id and secret in the header (RFC 6749 section 2.3.1)."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return {}
    name, _, secret = base64.b64decode(value).decode().partition(":")
    return {"client_id": name, "client_secret": secret}


def _redirect(uri: str, values: Mapping[str, str]) -> Response:
    joint = "&" if urlsplit(uri).query else "?"
    return Response(302, {"Location": uri + joint + urlencode(values)})


def _page(status: int, text: str) -> Response:
    return Response(status, {"Content-Type": "text/html; charset=UTF-8"}, f"<!doctype html><p>{html.escape(text)}</p>".encode())


def _json(status: int, body: object) -> Response:
    headers = {"Content-Type": "application/json; charset=UTF-8", "Cache-Control": "no-store"}
    return Response(status, headers, json.dumps(body).encode())
