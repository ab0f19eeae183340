"""Options that several verbs share, declared once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from backup_tool.errors import UsageError

Sources = Annotated[
    list[str] | None, typer.Argument(metavar="[SOURCE]...", help="Names from the settings file, or paths. All configured ones by default.")
]
KeyFile = Annotated[
    list[str] | None,
    typer.Option("--key-file", metavar="FILE", help="Key or password of a locked store (an encrypted database or backup). Repeatable."),
]
SourceOption = Annotated[list[str] | None, typer.Option("--source", metavar="NAME", help="Only notes of this source. Repeatable.")]
ChatOption = Annotated[
    list[str] | None, typer.Option("--chat", metavar="NAME", help="Only this chat: its name, part of it, or its id. Repeatable.")
]
Sender = Annotated[list[str] | None, typer.Option("--sender", metavar="NAME", help="Only notes of this person. Repeatable.")]
Since = Annotated[str | None, typer.Option("--since", metavar="WHEN", help="From this day or time on: 2026-03-01, 2026-03-01T18:30, 30d.")]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Up to this day or time, inclusive.")]
Kind = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="voice, audio or video.")]
Saved = Annotated[bool, typer.Option("--saved", help="Only notes that you saved.")]
SnapshotOption = Annotated[
    str | None, typer.Option("--snapshot", metavar="ID", help="Look at one snapshot: a prefix of its id, or latest.")
]
LimitUpload = Annotated[
    str | None, typer.Option("--limit-upload", metavar="SIZE", help="Send at most so much a second over a network: 500 kB, 2 MiB.")
]
Format = Annotated[
    str | None, typer.Option("--format", metavar="FORMAT", help="original, ogg (as WhatsApp's voice messages), mp3, m4a or wav.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done; write nothing.")]


def absolute(path: str | None) -> Path | None:
    """A typed path, whole."""
    return Path(path).expanduser().absolute() if path else None


def home(path: str | None) -> str | None:
    """A path with its `~`: a shell leaves it as it is in --to='~/notes'."""
    return path and os.path.expanduser(path)


def folder(path: str) -> Path:
    """A folder to write to, with its `~`. Raises UsageError for an empty name: it comes from a variable that is not set."""
    if not path:
        raise UsageError("--to names no folder", "name one: --to DIR; for this one --to .")
    return Path(os.path.expanduser(path))
