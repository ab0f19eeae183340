"""Signature Version 4, by which S3 knows who asks: no secret goes over the network, and nothing of a request can be changed on its way.

The source of every rule here is Amazon's public documentation: "Authenticating Requests (AWS Signature Version 4)" of the S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backup_tool.models import Secret

NOTHING = hashlib.sha256(b"").hexdigest()
"""What stands for the body of a request that has none."""


@dataclass(frozen=True, slots=True)
class S3Keys:
    """Who asks: an access key, its secret, and for temporary ones a session token."""

    access_key_id: str
    secret: Secret
    token: Secret = field(default_factory=lambda: Secret(""))


def encoded(text: str, safe: str = "") -> str:
    """Percent-encoded as a signature wants it: all but letters, digits, ``-._~`` and `safe`."""
    return urllib.parse.quote(text, safe=safe)


def signed(
    keys: S3Keys,
    region: str,
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    sha256: str = NOTHING,
    now: datetime | None = None,
) -> dict[str, str]:
    """The headers to send: those given (Host among them), and what signs them.

    `target` is the path, encoded by `encoded`, and after a question mark the query, its names sorted. `sha256` is the body's, in hex.
    """
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    token = {"X-Amz-Security-Token": keys.token.reveal()} if keys.token.reveal() else {}
    headers = {**headers, "X-Amz-Date": moment, "X-Amz-Content-Sha256": sha256, **token}
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    path, _, query = target.partition("?")
    lines = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    names = ";".join(sorted(lines))
    request = "\n".join([method, path, query, *(f"{name}:{lines[name]}" for name in sorted(lines)), "", names, sha256])
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{keys.secret.reveal()}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    told = f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "Authorization": told}
