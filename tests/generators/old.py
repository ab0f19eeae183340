"""Files that have lain where they are for a while. A run waits up to two seconds for younger ones: they may still be recorded."""

from __future__ import annotations

import os
import time
from pathlib import Path

_AGE = 3600


def put_old(path: Path, data: bytes) -> Path:
    """A file last written an hour ago."""
    path.write_bytes(data)
    return grow_old(path)


def grow_old(path: Path) -> Path:
    """The same file, as if last written an hour ago."""
    moment = time.time() - _AGE
    os.utime(path, (moment, moment))
    return path
