"""How a destination does: is it reachable, is a repository there, and what is to be known of the account behind it."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

import msgspec

from backup_tool.destinations.base import Condition, Describing, Destination
from backup_tool.names import in_bytes, shown


class Diagnosis(msgspec.Struct):
    """What was found out. `advice` are lines for a person, the gravest first; empty where all is well."""

    destination: str
    repository: bool
    condition: Condition | None = None
    days_left: float | None = None
    """Until the sign-in ends for certain."""
    days_left_in_testing: float | None = None
    """Until it ends if the account's own set-up was left in a state for trying out."""
    advice: list[str] = []


_NEARLY_FULL = 0.9
_SOON = 8.0


def diagnose(destination: Destination, name: str) -> Diagnosis:
    """Ask the place itself, which a person calls `name`. Raises what it raises where it cannot be reached or asks for a sign-in."""
    condition = destination.condition() if isinstance(destination, Describing) else None
    trashed = condition is not None and condition.folder == "in the trash"
    found = Diagnosis(destination.label, not trashed and destination.exists(), condition)
    if condition is not None:
        found.days_left, found.days_left_in_testing = _days(condition.sign_in_ends), _days(condition.sign_in_may_end)
        found.advice += _advice(condition, found)
    if not found.repository and not trashed:
        found.advice.append(f"there is no repository there; one is made by: backup init --repo {shlex.quote(shown(name))}")
        if condition is not None and condition.folder == "absent":
            found.advice.append("a client sees only what it stored itself: was the archive made with another one, or from another account?")
    return found


def _days(end: str | None) -> float | None:
    return None if end is None else round((datetime.fromisoformat(end) - datetime.now(UTC)).total_seconds() / 86_400, 1)


def _advice(condition: Condition, found: Diagnosis) -> list[str]:
    lines = []
    if condition.folder == "in the trash":
        lines.append("the folder is in the trash, which is emptied 30 days after it was put there: restore it now")
    if condition.limit and condition.used is not None and condition.used >= _NEARLY_FULL * condition.limit:
        trash = f", {in_bytes(condition.in_trash)} of it in the trash" if condition.in_trash else ""
        how = "full" if condition.used >= condition.limit else "nearly full"
        lines.append(f"the account is {how}: {in_bytes(condition.used)} of {in_bytes(condition.limit)}{trash}")
    if found.days_left is not None and found.days_left < _SOON:
        lines.append(f"the sign-in ends in {found.days_left} days: sign in again before, with backup login")
    if found.days_left_in_testing is not None:
        days = f"the sign-in ends in {found.days_left_in_testing} days"
        lines.append(f'if your Google project is still in "Testing", {days}: publish it and sign in again')
    return [shown(line, 300) for line in lines]
