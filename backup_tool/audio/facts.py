"""What can be told of a sound file from its bytes."""

from __future__ import annotations

from dataclasses import dataclass

from backup_tool.models import Damage


@dataclass(slots=True)
class AudioFacts:
    """`media_type` is told by content, never by name; `duration` is in seconds; None is "cannot be told"."""

    media_type: str | None = None
    duration: float | None = None
    damaged: Damage | None = None
    has_video: bool = False
