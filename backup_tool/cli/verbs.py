"""Loads the verbs: importing a verb's file is what makes it known."""

from __future__ import annotations

from importlib import import_module

_FILES = {
    "init": "init", "run": "run", "sync": "sync", "scan": "scan", "chats": "chats", "list": "list_", "search": "search",
    "restore": "restore", "extract": "extract", "email": "email", "export": "export", "import": "import_", "save": "save",
    "unsave": "save", "snapshots": "snapshots", "check": "check", "repair": "repair", "status": "status", "unlock": "unlock",
    "login": "login", "doctor": "doctor", "config": "config", "demo": "demo",
}  # fmt: skip


def load(typed: str | None = None) -> None:
    """Make the typed verb known, or all of them (for help, and for a verb that is none), in the order in which help shows them."""
    for file in [_FILES[typed]] if typed in _FILES else _FILES.values():
        import_module(f"backup_tool.cli.{file}")
