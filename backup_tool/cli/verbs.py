"""Loads every verb: importing a verb's file is what makes it known."""

from __future__ import annotations


def load() -> None:
    """Make all verbs known, in the order in which `backup --help` shows them."""
    from backup_tool.cli import init, run, scan, chats, list_, search, restore, extract, snapshots, check, unlock, config, demo  # noqa: F401, I001
