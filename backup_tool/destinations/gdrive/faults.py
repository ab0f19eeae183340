"""What Google's refusals mean for a person, and which of them may pass by themselves.

Decided by status and reason (Drive API v3, "Resolve errors"), never by the words, with one exception: a service account that has no storage
is told from a full Drive only by them. What Google says is never repeated, but for the number of the project in the link that switches its
API on.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backup_tool.destinations.http import retry_after
from backup_tool.errors import BackupError, NoSpace, ObjectMissing, SignInNeeded, Unreachable
from backup_tool.names import shown

if TYPE_CHECKING:
    from backup_tool.config import DestinationSpec

LONGEST_WAIT = 600.0
AGAIN = "see that the network is well, then run it again: what has arrived is not sent twice"
TOMORROW = "the limit is lifted within 24 hours: run it again tomorrow; what has arrived is not sent twice"
NO_STORAGE = (
    "a service account owns no storage: name a shared drive that it may write to (shared_drive), or a person that it acts for (subject), "
    "or sign in as yourself with: backup login"
)
BUSY = {"rateLimitExceeded", "userRateLimitExceeded"}
NO_MORE_TODAY = {"dailyLimitExceeded", "quotaExceeded", "downloadQuotaExceeded", "uploadLimitExceeded"}
SCOPE_MISSING = {"ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientPermissions", "insufficientScopes"}
SWITCHED_OFF = {"accessNotConfigured", "SERVICE_DISABLED"}
_FULL = {
    "storageQuotaExceeded": ("is full", "make room or buy more, and empty the trash: https://drive.google.com/settings/storage"),
    "teamDriveFileLimitExceeded": ("takes no more files in this shared drive", "remove some, or use another shared drive"),
    "activeItemCreationLimitExceeded": ("takes no more files from this account", "use another account"),
    "numChildrenInNonRootLimitExceeded": ("takes no more files in one folder", "use another folder for a new archive"),
}
_REFUSED = {
    "domainPolicy": ("does not let programs in: the administrator forbids it", "ask the administrator, or use another account"),
    "appNotAuthorizedToFile": (
        "shows this client only what it stored itself",
        "sign in with the client (client_id) that made the folder, or read it with a wider one: scope = \"drive.readonly\" in the settings",
    ),
    "insufficientFilePermissions": ("does not let this account do that here", "ask whoever shared it for the role of content manager"),
    "teamDriveMembershipRequired": ("knows this account as no member of the shared drive", "ask its manager to add it"),
    "cannotDownloadAbusiveFile": ("holds a file back that it takes for harmful", "look at it in Drive, and ask Google for a review"),
    "myDriveHierarchyDepthLimitExceeded": ("does not take folders that deep", "move the folder nearer to the top"),
}  # fmt: skip


class Taken(Exception):
    """409: something with this id is there: an earlier try of ours arrived."""


class Stale(Exception):
    """The session of an upload is over: it has to begin again."""


@dataclass(frozen=True, slots=True)
class Who:
    """What errors call the place, and the command that signs in to it."""

    label: str
    login: str


def who_of(spec: DestinationSpec) -> Who:
    """Of a destination."""
    return Who(spec.label, f"backup login {shlex.quote(shown(spec.name))}")


def told(status: int, headers: Mapping[str, str], body: bytes, who: Who) -> BackupError:
    """The error for an answer that is none of success. A 404 is ObjectMissing; 409 is the caller's business."""
    reasons, message = read_error(body)
    if status == 404:
        return ObjectMissing(f"{who.label} has no such file")
    if status in (408, 429) or status >= 500 or (status == 403 and reasons & BUSY):
        return _busy(status, reasons, headers, who)
    if status == 401:
        return SignInNeeded(f"{who.label}: Google does not accept the sign-in any more", f"sign in again: {who.login}")
    if status == 403:
        return _forbidden(reasons, message, who)
    return BackupError(f"Google Drive refused a request of ours ({status})", "run it again with --debug and report what it prints")


def _busy(status: int, reasons: set[str], headers: Mapping[str, str], who: Who) -> Unreachable:
    error = RateLimited if reasons & BUSY or status == 429 else Unreachable
    busy = error(f"{who.label}: Google Drive is busy ({status})", AGAIN)
    asked = retry_after({name.title(): value for name, value in headers.items()})
    busy.retry_after = None if asked is None else min(asked, LONGEST_WAIT)
    return busy


class RateLimited(Unreachable):
    """Asked too much, or the day's limit of uploads is reached: Google tells no difference."""


def day_is_over(who: Who) -> NoSpace:
    """What a refusal of uploads is taken for that does not pass."""
    what = "Google Drive takes no more uploads for now: most likely the limit of one day (750 GB) is reached"
    return NoSpace(f"{who.label}: {what}", TOMORROW)


def _forbidden(reasons: set[str], message: str, who: Who) -> BackupError:
    if reasons & NO_MORE_TODAY:
        return NoSpace(f"{who.label}: the limit of Google Drive for one day is reached", TOMORROW)
    if "storageQuotaExceeded" in reasons and "service account" in message.lower():
        return NoSpace(f"{who.label}: a service account cannot store anything of its own", NO_STORAGE)
    if reasons & SCOPE_MISSING:
        hint = f"sign in again and leave the box for Google Drive ticked: {who.login}"
        return SignInNeeded(f"{who.label}: the sign-in does not allow that", hint)
    if reasons & SWITCHED_OFF:
        return switched_off(who, "Google Drive", "drive", message)
    for table, kind in ((_FULL, NoSpace), (_REFUSED, BackupError)):
        for reason in sorted(reasons & table.keys()):
            what, hint = table[reason]
            return kind(f"{who.label}: Google Drive {what}", hint)
    return BackupError(f"{who.label}: Google Drive does not allow that", "see whose folder it is, and what this account may do there")


def switched_off(who: Who, what: str, api: str, message: str) -> BackupError:
    """The error for an API that was never enabled; `message` is what Google says of it."""
    project = re.search(r"\bproject[ =](\d{6,20})\b", message)
    page = f"https://console.cloud.google.com/apis/library/{api}.googleapis.com" + (f"?project={project[1]}" if project else "")
    return BackupError(f"{who.label}: the {what} API is switched off for your client", f"switch it on, wait a minute: {page}")


def read_error(body: bytes) -> tuple[set[str], str]:
    """Every reason in an error's body, and its message; nothing for what is no such body (a web page of Google's front ends)."""
    try:
        error: Any = json.loads(body[: 2**16])["error"]
        listed = [*error.get("errors", ()), *error.get("details", ())]
        found = {one["reason"] for one in listed if isinstance(one, dict) and isinstance(one.get("reason"), str)}
        return found, str(error.get("message", ""))[:1000]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return set(), ""
