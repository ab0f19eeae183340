"""Asks FFmpeg (through PyAV) for what the readers here do not tell: the length of formats that are rare among voice notes.

Only files held in memory come here; PyAV is loaded when the first of them does. Its parsers see hostile bytes: any failure is "not known".
"""

from __future__ import annotations

import io
from typing import Any

from backup_tool.audio.facts import AudioFacts

_MOST_PACKETS = 2_000_000
_LONGEST = 1000 * 3600.0


def complete(facts: AudioFacts, data: bytes) -> None:
    """Fill in the duration and whether there is a picture, where FFmpeg can tell."""
    try:
        import av

        with av.open(io.BytesIO(data)) as container:
            facts.has_video = facts.has_video or any(_moves(stream) for stream in container.streams.video)
            if container.streams.audio:
                facts.duration = _seconds(container)
    except Exception:
        # Not only av.FFmpegError: broken files make PyAV raise ValueError, UnicodeDecodeError, MemoryError and more.
        return
    if facts.has_video and facts.media_type:
        facts.media_type = facts.media_type.replace("audio/", "video/")


def _moves(stream: Any) -> bool:
    """False for a cover picture."""
    return not (int(getattr(stream, "disposition", 0)) & 0x400)


def _seconds(container: Any) -> float | None:
    if container.duration:
        seconds = container.duration / 1_000_000
        return seconds if 0 < seconds <= _LONGEST else None
    # Recordings of browsers name no length anywhere: the last packet tells it.
    stream, last = container.streams.audio[0], 0.0
    for count, packet in enumerate(container.demux(stream)):
        if packet.pts is not None and packet.time_base is not None:
            last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if count > _MOST_PACKETS:
            return None
    return last if 0 < last <= _LONGEST else None
