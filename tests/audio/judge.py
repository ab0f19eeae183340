"""How tests of this folder compare facts, and read a file in pieces."""

from __future__ import annotations

import io

import av
from av.container import InputContainer

from backup_tool.audio import AudioFacts, Inspector


def check(
    facts: AudioFacts,
    kind: str | None,
    seconds: float | None,
    damaged: str | None = None,
    *,
    video: bool = False,
    within: float = 1e-4,
) -> None:
    """Fail unless the facts are these; lengths may differ by `within` seconds."""
    assert (facts.media_type, facts.damaged, facts.has_video) == (kind, damaged, video)
    if seconds is None or facts.duration is None:
        assert facts.duration == seconds
    else:
        assert abs(facts.duration - seconds) <= within, f"{facts.duration} s, not {seconds} s"


def by_ffmpeg(data: bytes) -> InputContainer:
    """The same file as another program sees it."""
    container = av.open(io.BytesIO(data), "r")
    assert isinstance(container, InputContainer)
    return container


def in_pieces(data: bytes, size: int, name: str = "") -> AudioFacts:
    """The facts of a file that comes in pieces of so many bytes."""
    inspector = Inspector(name)
    for at in range(0, len(data), size):
        inspector.feed(data[at : at + size])
    return inspector.facts()
