"""What can go wrong between a client and Apple, by name, for the proxy's `faults`.

    proxy.faults.add("docs update/documents", FAULTS["lost"])             the next commit is made, and its answer lost
    proxy.faults.randomly(7, 0.1, [FAULTS[name] for name in PASSING])     a tenth of all requests is spoiled

Labels are those of `Apple.label`: `sign-in …`, `setup …`, `drive …`, `docs …`, `content upload`, `content download`.
"""

from __future__ import annotations

import json

from tests.destinations.tls_proxy import Fault, Response

PAGE = b"<html><head><title>Service Unavailable</title></head><body>busy</body></html>"


def _page(status: int, *, effect: bool = False, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault("answer", effect=effect, response=Response(status, {"Content-Type": "text/html", **named}, PAGE))


def _json(status: int, what: object, *, effect: bool = False) -> Fault:
    return Fault("answer", effect=effect, response=Response(status, {"Content-Type": "application/json"}, json.dumps(what).encode()))


FAULTS: dict[str, Fault] = {
    # A bad moment: the same request works later.
    "busy": _page(503),
    "throttled": _json(503, {"errorCode": "THROTTLED", "errorReason": "Throttled", "retryAfter": 1}),
    "throttled in 200": _json(200, {"errorCode": "THROTTLED", "error": "Throttled"}),
    "too many": _page(429, Retry_After="1"),
    "request timeout": _page(408),
    "server error": _json(500, {"error": "Internal error"}),
    "bad gateway": _page(502),
    "gateway timeout": _page(504),
    "gateway timeout after effect": _page(504, effect=True),
    "page": _page(200),
    "half json": Fault("answer", effect=True, response=Response(200, {"Content-Type": "application/json"}, b'{"items": [{"drive')),
    "nothing": _json(200, {}, effect=True),
    "reset": Fault("reset"),
    "drop": Fault("drop"),
    "lost": Fault("reset", effect=True),
    "cut answer": Fault("cut answer"),
    "cut body": Fault("cut body"),
    "stall": Fault("stall", seconds=600),
    "twice": Fault("twice"),
    # The end of something: trying again changes nothing.
    "session over": _json(421, {"success": False, "error": "Missing X-APPLE-WEBAUTH-TOKEN cookie"}),
    "misdirected": _page(421),
    "unauthorised": _page(401),
    "sign in again": _json(450, {"error": "Authentication required"}),
    "second factor": _json(409, {"authType": "hsa2"}),
    "locked": _json(403, {"serviceErrors": [{"code": "-20209", "message": "This Apple Account has been locked for security reasons."}]}),
    "gone for ever": _page(410),
    "wrong zone": _json(412, {"errorCode": 412, "errorReason": "VALIDATING_REFERENCE_ERROR"}),
    "no consent": _json(423, {"errorCode": 423, "errorReason": "Missing PCS cookies from the request"}),
    "not found": _page(404),
    "never set up": _json(200, {"errorCode": "ZONE_NOT_FOUND", "errorReason": "Zone not found"}),
    "not activated": _json(200, {"errorCode": "AUTHENTICATION_FAILED", "errorReason": "Authentication failed"}),
    "full": _json(507, {"errorCode": "QUOTA_EXCEEDED", "errorReason": "Insufficient storage"}),
}

PASSING = (
    "busy", "throttled", "throttled in 200", "too many", "request timeout", "server error", "bad gateway", "gateway timeout",
    "gateway timeout after effect", "page", "half json", "nothing", "reset", "drop", "lost", "cut answer", "cut body", "twice",
)  # fmt: skip
"""Those that pass by themselves, but for `stall`, which takes as long as the client's patience."""
