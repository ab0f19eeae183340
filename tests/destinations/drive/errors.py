"""Google's error answers: status, reason and body as its guide to Drive's errors shows them (Drive API v3, "Resolve errors").

Where Google publishes no body, the words are those that peers have reported; programs decide by status and reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.destinations.tls_proxy import Response

JSON = "application/json; charset=UTF-8"

MESSAGES: Mapping[tuple[int, str], tuple[str, str]] = {
    (400, "badRequest"): ("global", "Bad Request"),
    (400, "invalid"): ("global", "Invalid Value"),
    (400, "invalidParameter"): ("global", "Invalid field selection"),
    (400, "required"): ("global", "Required parameter: fields"),
    (400, "parseError"): ("global", "Parse Error"),
    (401, "authError"): ("global", "Invalid Credentials"),
    (403, "dailyLimitExceeded"): ("usageLimits", "Daily Limit Exceeded"),
    (403, "userRateLimitExceeded"): ("usageLimits", "User Rate Limit Exceeded"),
    (403, "rateLimitExceeded"): ("usageLimits", "Rate Limit Exceeded"),
    (403, "quotaExceeded"): ("usageLimits", "Quota exceeded."),
    (403, "uploadLimitExceeded"): ("usageLimits", "The user has exceeded the number of bytes they may upload."),
    (403, "downloadQuotaExceeded"): ("usageLimits", "The download quota for this file has been exceeded."),
    (403, "storageQuotaExceeded"): ("usageLimits", "The user's Drive storage quota has been exceeded."),
    (403, "sharingRateLimitExceeded"): ("usageLimits", "Sharing Rate Limit Exceeded"),
    (403, "teamDriveFileLimitExceeded"): ("global", "The file limit for this shared drive has been exceeded."),
    (403, "activeItemCreationLimitExceeded"): ("global", "This account has exceeded the creation limit of 500 million items."),
    (403, "numChildrenInNonRootLimitExceeded"): (
        "global",
        "The limit for this folder's number of children (files and folders) has been exceeded.",
    ),
    (403, "myDriveHierarchyDepthLimitExceeded"): ("global", "Your My Drive can't contain more than 100 levels of folders."),
    (403, "appNotAuthorizedToFile"): ("global", "The user has not granted the app access to the file."),
    (403, "insufficientFilePermissions"): ("global", "The user does not have sufficient permissions for this file."),
    (403, "insufficientPermissions"): ("global", "Insufficient Permission"),
    (403, "teamDriveMembershipRequired"): ("global", "The attempted action requires shared drive membership."),
    (403, "domainPolicy"): ("global", "The domain administrators have disabled Drive apps."),
    (403, "cannotDownloadAbusiveFile"): ("global", "This file has been identified as malware or spam and cannot be downloaded."),
    (403, "fileNotDownloadable"): (
        "global",
        "Only files with binary content can be directly downloaded. Use Export with Docs Editors files.",
    ),
    (403, "fieldNotWritable"): ("global", "The resource body includes fields which are not directly writable."),
    (403, "cannotAddParent"): ("global", "Increasing the number of parents is not allowed"),
    (403, "notSupportedForAppDataFolderFiles"): ("global", "Method not supported for files within the Application Data folder."),
    (404, "notFound"): ("global", "File not found: ."),
    (409, "fileIdInUse"): ("global", "A file already exists with the provided ID."),
    (409, "duplicate"): ("global", "A file already exists with the provided ID."),
    (416, "requestedRangeNotSatisfiable"): ("global", "Request range not satisfiable"),
    (429, "rateLimitExceeded"): ("usageLimits", "Rate Limit Exceeded"),
    (500, "internalError"): ("global", "Internal Error"),
    (500, "backendError"): ("global", "Backend Error"),
    (502, "backendError"): ("global", "Bad Gateway"),
    (503, "backendError"): ("global", "Backend Error"),
    (504, "backendError"): ("global", "Gateway Timeout"),
}


class ApiError(Exception):
    """A request that Drive refuses."""

    def __init__(
        self, code: int, reason: str, message: str = "", *, location: str = "", headers: Mapping[str, str] | None = None, **more: Any
    ):
        domain, usual = MESSAGES.get((code, reason), ("global", reason))
        detail = {"message": message or usual, "domain": domain, "reason": reason}
        if location:
            detail |= {"location": location, "locationType": "header" if location == "Authorization" else "parameter"}
        super().__init__(f"{code} {reason}: {detail['message']}")
        self.code, self.reason = code, reason
        self._headers = dict(headers or {})
        self._body = {"error": {"code": code, "message": detail["message"], "errors": [detail], **more}}

    def response(self) -> Response:
        return Response(self.code, {"Content-Type": JSON, **self._headers}, json.dumps(self._body, indent=1).encode())


def failure(status: int, reason: str = "", message: str = "", *, retry_after: int | None = None) -> Response:
    """An error answer for `Fault("answer", response=…)`; without a reason: the web page that Google's front ends show."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if reason:
        return ApiError(status, reason, message, headers=headers).response()
    page = f"<!DOCTYPE html><html lang=en><title>Error {status}</title><p>That’s an error. That’s all we know.</html>"
    return Response(status, {"Content-Type": "text/html; charset=UTF-8", **headers}, page.encode())


def unauthenticated() -> ApiError:
    """The token is unknown, expired or revoked."""
    return ApiError(
        401, "authError", location="Authorization", status="UNAUTHENTICATED",
        headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'},
    )  # fmt: skip


def scope_missing(method: str, service: str = "drive") -> ApiError:
    """The token's scopes do not reach for this method: the person left the box unticked."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "domain": "googleapis.com",
        "metadata": {"service": f"{service}.googleapis.com", "method": method},
    }
    message = "Request had insufficient authentication scopes."
    return ApiError(403, "insufficientPermissions", message, status="PERMISSION_DENIED", details=[info])


def api_disabled(project: str, service: str = "drive", name: str = "Google Drive") -> ApiError:
    """The API is switched off in the client's project."""
    link = f"https://console.developers.google.com/apis/api/{service}.googleapis.com/overview?project={project}"
    message = (
        f"{name} API has not been used in project {project} before or it is disabled. Enable it by visiting {link} then retry. "
        "If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
    )
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": f"{service}.googleapis.com", "consumer": f"projects/{project}"},
    }
    return ApiError(403, "accessNotConfigured", message, status="PERMISSION_DENIED", details=[info])


def not_found(file_id: str) -> ApiError:
    """Missing, or not visible to this client: Drive makes no difference."""
    return ApiError(404, "notFound", f"File not found: {file_id}.", location="fileId")


def drive_not_found(drive_id: str) -> ApiError:
    """Missing, or not a member."""
    return ApiError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")


def invalid(parameter: str, message: str = "") -> ApiError:
    """A parameter's value makes no sense."""
    return ApiError(400, "invalid", message, location=parameter)
