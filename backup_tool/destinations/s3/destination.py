"""A destination in a bucket of an object store that speaks S3: Amazon's, or Ceph, MinIO, Garage and their like.

The layout is restic's on S3: below the prefix `config`, `keys/NAME` and so on, and `data/XX/NAME`, so that `restic -r s3:…` opens it. The
requests are those of Amazon's public S3 API reference: HeadObject, GetObject (with Range), PutObject, DeleteObject, ListObjectsV2.

An object is one request, however large: it is a pack at most, 128 MiB and one blob, where S3 takes 5 GiB. So it is there whole or not at
all, the server holds every byte against the signature's SHA-256 and Content-MD5, and no half of an upload is left behind to be paid for.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO
from xml.parsers import expat

from backup_tool.credentials import configured_password
from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.http import Address, HttpClient, Reply, http_time, is_loopback
from backup_tool.destinations.limits import UploadLimit
from backup_tool.destinations.remote import RemoteDestination
from backup_tool.destinations.s3.signing import NOTHING, S3Keys, encoded, signed
from backup_tool.errors import BackupError, NoRepository, NoSpace, SignInNeeded, Unreachable, UsageError
from backup_tool.models import Secret
from backup_tool.names import shown

_ANY = range(100, 1000)
_STORED = (200, 201, 204)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
_AMAZON = re.compile(r"(?:.+\.)?amazonaws\.com(?:\.cn)?")
_REGION_IN_HOST = re.compile(r"s3[.-](?:dualstack\.)?([a-z]{2,}-[a-z0-9-]+)\..+")
_MAX_PAGE, _MAX_PAGES, _MAX_DEPTH = 8 * 2**20, 10_000, 8
"""Of a listing; a page has 1,000 objects at most."""
_MAX_WORDS = 2**16
_PIECE = 2**20
_WITH_REASONS = (301, 307, 400, 401, 403, 409)
_REGION_NEEDED = ("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_NOT_KNOWN = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "NotSignedUp")
_EXPIRED = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")
_NOT_ALLOWED = ("AccessDenied", "AllAccessDisabled", "AccountProblem", "MethodNotAllowed")
_NO_ROOM = ("QuotaExceeded", "StorageFull", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded")
_WORTH_A_RETRY = (
    *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"),
    *("OperationAborted", "ConditionalRequestConflict", "BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"),
)
_AGAIN = "see that the network and the service are well, then run it again: what has arrived is not sent twice"


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket and a prefix in it (as it is in keys: empty, or with a slash at its end), and the address that the bucket has."""

    bucket: str
    prefix: str
    address: Address
    region: str
    label: str

    @classmethod
    def parse(cls, place: str, options: Mapping[str, Any], env: Mapping[str, str]) -> S3Place:
        """Read ``https://HOST[:PORT]/BUCKET/PREFIX``, or ``HOST/BUCKET/PREFIX`` as restic has it too. Raises UsageError.

        `options` are the settings `region`, `path_style` and `allow_http`. Without them the region is the one in the host's name, else
        AWS_REGION, AWS_DEFAULT_REGION or us-east-1; and the bucket is a part of the path, at Amazon of the host's name.
        """
        secure, host, port, path = _parts(place)
        bucket, *folders = [part for part in path.split("/") if part not in ("", ".")] or [""]
        if not _BUCKET.fullmatch(bucket) or ".." in folders:
            raise _no_place()
        if not secure and not is_loopback(host) and not options.get("allow_http", False):
            hint = "use https://, or where you trust the network between, write allow_http = true in the settings of this destination"
            raise UsageError(f"http:// to {shown(host)} would let anyone on the way see and change what is sent", hint)
        prefix = "".join(f"{folder}/" for folder in folders)
        label = f"s3:{Address(secure, host, port).label}{bucket}/{encoded(prefix, '/')}".rstrip("/")
        found = _REGION_IN_HOST.fullmatch(host)
        region = options.get("region") or (found[1] if found else env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1")
        if not _REGION.fullmatch(region):
            raise UsageError(f"{shown(region)} is no region", "write it as the service does, for example: eu-central-1")
        amazon = _AMAZON.fullmatch(host) is not None
        if host == "s3.amazonaws.com" and region != "us-east-1":  # there only the oldest region is served
            host = f"s3.{region}.amazonaws.com"
        if options.get("path_style", not amazon or "." in bucket):  # a certificate for *.HOST is none for names with a dot
            return cls(bucket, prefix, Address(secure, host, port, f"/{bucket}/"), region, label)
        return cls(bucket, prefix, Address(secure, f"{bucket}.{host}", port), region, label)


def _parts(place: str) -> tuple[bool, str, int, str]:
    scheme, mark, rest = place.strip().partition("://")
    if not mark:
        scheme, rest = "https", place.strip().removeprefix("//")
    server, _, path = rest.partition("/")
    if "@" in server:
        hint = "write its name and where its secret is in the settings (access_key_id, password_file), or set AWS_ACCESS_KEY_ID"
        raise UsageError("an access key is no part of the address of a bucket", hint)
    try:
        parts = urllib.parse.urlsplit(f"//{server}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        raise _no_place() from None
    if scheme not in ("http", "https") or not host or not rest.isprintable() or set("?#") & set(rest):
        raise _no_place()
    return scheme == "https", host, port or (443 if scheme == "https" else 80), urllib.parse.unquote(path) if mark else path


def _no_place() -> UsageError:
    return UsageError("that is not the address of a bucket", "write it like s3:https://s3.example.org/bucket/archive")


def find_keys(options: Mapping[str, Any], env: Mapping[str, str]) -> S3Keys:
    """Who asks: `access_key_id` and its secret (`password_file` and so on) of the settings, and what they lack from the environment.

    The variables are Amazon's: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (of a key from the environment only). Raises
    UsageError where there is none, or where its secret cannot be had.
    """
    name = options.get("access_key_id") or env.get("AWS_ACCESS_KEY_ID", "")
    secret = configured_password(options, env) or Secret(env.get("AWS_SECRET_ACCESS_KEY", ""))
    if not re.fullmatch(r"[!-.0-~]{1,256}", name) or not secret.reveal():
        what = "secret of the access key" if name else "access key"
        hint = (
            "write access_key_id and password_file in the settings of this destination, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
        raise UsageError(f"there is no {what} for the bucket", hint)
    token = "" if "access_key_id" in options else env.get("AWS_SESSION_TOKEN", "")
    return S3Keys(name, secret, Secret(token))


class S3Destination(RemoteDestination):
    """The repository in a bucket, asked for with the `keys` that are found when they are first needed.

    The bucket is never made: how it keeps what is deleted or overwritten is for its owner to choose.
    """

    def __init__(self, place: S3Place, keys: Callable[[], S3Keys], *, limit: UploadLimit | None = None) -> None:
        super().__init__(place.label)
        self._place = place
        self._find_keys = cache(keys)
        self._http = HttpClient(place.address, place.label, limit=limit)
        self._conditional = True

    def create(self) -> None:
        """See that the bucket is there and may be listed: a prefix needs no making. Raises NoRepository where there is no bucket."""
        with self._ask("GET", self._query(self._place.prefix, "", 1), (200,), moved=_MAX_PAGE):
            self._ready = True

    def path(self, kind: ObjectKind, name: str) -> str:
        """As restic lays it out on S3."""
        path = super().path(kind, name)
        return f"data/{name[:2]}/{name}" if kind == "data" else path

    def listing(self, kind: ObjectKind) -> list[tuple[str, int | None]]:
        """Page after page to the last; what is no object of ours is left out."""
        prefix, found, tokens = f"{self._place.prefix}{kind}/", dict[str, int | None](), {""}
        token = ""
        while True:
            with self._ask("GET", self._query(prefix, token, 1000), (200,), moved=_MAX_PAGE) as reply:
                text = reply.read(_MAX_PAGE)
            page = self._page(text)
            for key, size in page.found:
                name = key.rpartition("/")[2]
                if key == prefix + (f"{name[:2]}/{name}" if kind == "data" else name):
                    found[name] = size
            if page.token is None:
                return [*found.items()]
            token = page.token
            if token in tokens or len(tokens) >= _MAX_PAGES:
                raise BackupError(f"{self.label} gave a list of {kind} without end", "see that this is the address of the right server")
            tokens.add(token)

    def _query(self, prefix: str, token: str, count: int) -> str:
        asked = {"encoding-type": "url", "list-type": "2", "max-keys": str(count), "prefix": prefix}
        asked |= {"continuation-token": token} if token else {}
        return "?" + "&".join(f"{name}={encoded(asked[name])}" for name in sorted(asked))

    def _page(self, text: bytes) -> _Page:
        try:
            return _Page.read(text)
        except (expat.ExpatError, ValueError, RecursionError) as error:
            raise BackupError(f"{self.label} gave no list", "see that this is the address of the right server") from error

    def remove(self, kind: ObjectKind, name: str) -> None:
        """Remove an object; one that is not there counts as removed. Where only locks may be removed, all else raises BackupError."""
        path = self.path(kind, name)
        self.check_place()
        with self.request("DELETE", path, (200, 202, 204, 404)) as reply:
            missing = reply.status == 404
        if missing:
            self._check_still_there()

    def send(self, path: str, body: BinaryIO, size: int, *, replace: bool) -> bool:
        """Store it whole. Nothing is replaced unasked: where the service knows conditions, not even what came there in this moment."""
        sha256, md5 = _digests(body)
        headers = {"Content-Type": "application/octet-stream", "Content-MD5": base64.b64encode(md5).decode()}
        if self._conditional and not replace:
            headers["If-None-Match"] = "*"
        key = encoded(self._place.prefix + path, "/")
        with self._ask("PUT", key, (*_STORED, 412, 501), headers=headers, body=body, size=size, sha256=sha256) as reply:
            status = reply.status
        if status == 501 and "If-None-Match" in headers:
            self._conditional = False
            return self.send(path, body, size, replace=replace)
        if status == 501:
            raise BackupError(f"{self.label} cannot store objects (501)", "see that this is the address of the right server")
        return status in _STORED

    def request(
        self, method: str, path: str, expected: Collection[int], *, headers: Mapping[str, str] | None = None, moved: int = 0
    ) -> AbstractContextManager[Reply]:
        """Ask for an object by its path below the prefix."""
        return self._ask(method, encoded(self._place.prefix + path, "/"), expected, headers=headers, moved=moved)

    @contextmanager
    def _ask(
        self,
        method: str,
        target: str,
        expected: Collection[int],
        *,
        headers: Mapping[str, str] | None = None,
        body: BinaryIO | None = None,
        size: int = 0,
        moved: int = 0,
        sha256: str = NOTHING,
    ) -> Iterator[Reply]:
        """One signed request: `target` below the bucket. No redirect is followed, for what is signed holds for this server only."""
        address = self._place.address
        given = {"Host": address.authority, **(headers or {})}
        given = signed(self._find_keys(), self._place.region, method, address.path + target, given, sha256=sha256)
        with self._http.request(method, target, expected=_ANY, headers=given, body=body, size=size, moved=moved) as reply:
            if reply.status in expected:
                yield reply
                return
            refused = _Refused.read(reply)
        if method == "HEAD" and refused.reply.status in _WITH_REASONS:  # such an answer has no words: ask so that there are some
            with self._ask("GET", target, (200, 206, 404, 416), headers={"Range": "bytes=0-0"}):
                pass
        raise self._told(method, refused)

    def _told(self, method: str, refused: _Refused) -> BackupError:
        """The error of ours for what the service said."""
        code, label, status = refused.code, self.label, refused.reply.status
        if code in _REGION_NEEDED or status in (301, 302, 303, 307, 308):
            return self._elsewhere(refused)
        if code in _NOT_KNOWN:
            return SignInNeeded(f"{label} does not accept the access key or its secret", "see that both are right, and run it again")
        if code in _EXPIRED:
            return SignInNeeded(f"the session token for {label} has expired or is not right", "get a new one: set AWS_SESSION_TOKEN again")
        if code == "RequestTimeTooSkewed":
            return BackupError(f"this machine's clock is wrong{refused.skew()}", "set it, for example: timedatectl set-ntp true")
        if code == "NoSuchBucket":
            hint = "see that the address is right; a bucket is made with the tools of its service"
            return NoRepository(f"there is no bucket {shown(self._place.bucket)} at {label}", hint)
        if code in _NO_ROOM:
            return NoSpace(f"no space left at {label}", "make room there, or raise its quota")
        if code == "EntityTooLarge":
            return NoSpace(f"{label} takes no objects of this size", "raise the service's limit, or lower pack_size in the settings")
        if code == "InvalidObjectState":
            return BackupError(f"an object at {label} is in cold storage", "bring it back with the tools of the service, then run it again")
        if code in _NOT_ALLOWED and method == "DELETE":
            return BackupError(f"{label} does not let this access key remove objects", "remove with a key that may do that")
        if code in _NOT_ALLOWED:
            return BackupError(f"{label} does not allow this access key to do this ({method})", "see what the key may do there")
        error = self._http.refusal(method, refused.reply)
        told = f"{error.message}: {code}" if code else error.message
        kind = Unreachable if code in _WORTH_A_RETRY else type(error)
        named = kind(told, _AGAIN if kind is Unreachable else error.hint)
        if isinstance(named, Unreachable) and isinstance(error, Unreachable):
            named.retry_after = error.retry_after
        return named

    def _elsewhere(self, refused: _Refused) -> UsageError:
        """The bucket is at another address than was asked, most often because it is in another region."""
        region = refused.region
        if not region or region == self._place.region:
            hint = 'see that the address is the bucket\'s own, and which region it is in: region = "…" in the settings, or AWS_REGION'
            return UsageError(f"{self.label} sends us to another address", hint)
        hint = f'write region = "{region}" in the settings of this destination, or set AWS_REGION={region}'
        return UsageError(f"{self.label} is in region {region}, not {shown(self._place.region)}", hint)

    def close(self) -> None:
        """End all connections, those in use too."""
        self._http.close()


def _digests(body: BinaryIO) -> tuple[str, bytes]:
    """SHA-256 in hex and MD5 of the whole file; the second only tells whether bytes were lost on the way."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        body.seek(0)
        while piece := body.read(_PIECE):
            sha256.update(piece)
            md5.update(piece)
    except OSError as error:
        raise BackupError(f"a file could not be read while it was sent: {(error.strerror or 'no reason given').lower()}") from error
    return sha256.hexdigest(), md5.digest()


@dataclass(frozen=True, slots=True)
class _Refused:
    """What a service says of a request that it refused: its words are never shown, only its code, which is one word."""

    reply: Reply
    code: str
    region: str

    @classmethod
    def read(cls, reply: Reply) -> _Refused:
        text = b""
        with suppress(BackupError):
            text = reply.read(_MAX_WORDS, cut=True)
        code = re.search(rb"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>", text)
        region = re.search(rb"<Region>\s*([a-z0-9-]{1,64})\s*</Region>", text)
        told = reply.headers.get("x-amz-bucket-region", "")
        if region is None and re.fullmatch(r"[a-z0-9-]{1,64}", told):
            return cls(reply, code[1].decode() if code else "", told)
        return cls(reply, code[1].decode() if code else "", region[1].decode() if region else "")

    def skew(self) -> str:
        """By how much the clocks differ, in words."""
        theirs = http_time(self.reply.headers.get("Date"))
        return "" if theirs is None else f" by about {abs(time.time() - theirs) / 60:.0f} minutes"


@dataclass(slots=True)
class _Page:
    """A page of ListObjectsV2: (key, size) of each object, and the word that asks for the next page, None on the last."""

    found: list[tuple[str, int | None]]
    token: str | None

    @classmethod
    def read(cls, text: bytes) -> _Page:
        """Raises ExpatError or ValueError for what is no such page."""
        objects: list[dict[str, str]] = []
        top: dict[str, str] = {}
        for path, value in _elements(text):
            if path == "ListBucketResult/Contents":
                objects.append({})
            elif path.startswith("ListBucketResult/Contents/"):
                objects[-1][path.rpartition("/")[2]] = value
            elif path.startswith("ListBucketResult/") and path.count("/") == 1:
                top[path.rpartition("/")[2]] = value
        if "IsTruncated" not in top:
            raise ValueError("no listing")
        token = top.get("NextContinuationToken")
        if top["IsTruncated"] == "true" and not token:
            raise ValueError("a page that has no next one")
        spelled = urllib.parse.unquote_plus if top.get("EncodingType") == "url" else str
        found = [(spelled(one.get("Key", "")), _size(one.get("Size", ""))) for one in objects]
        return cls(found, token if top["IsTruncated"] == "true" else None)


def _size(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _elements(text: bytes) -> list[tuple[str, str]]:
    """Every element as (path of names without namespace, the text in it), in the order they begin. No document type is let in: what it
    declares could be made to grow without bound."""
    found: list[tuple[str, list[str]]] = []
    within: list[str] = []
    open_elements: list[list[str]] = []

    def begin(name: str, _: dict[str, str]) -> None:
        within.append(name.rpartition(":")[2])
        if len(within) > _MAX_DEPTH:
            raise ValueError("too deep")
        found.append(("/".join(within), []))
        open_elements.append(found[-1][1])

    def end(_: str) -> None:
        within.pop()
        open_elements.pop()

    def declared(*_: object) -> None:
        raise ValueError("a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = begin, end, declared
    parser.CharacterDataHandler = lambda data: open_elements[-1].append(data)
    parser.Parse(text, True)
    return [(path, "".join(pieces)) for path, pieces in found]
