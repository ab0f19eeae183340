"""Files that have lain where they are for a while. A run waits up to two seconds for younger ones: they may still be recorded."""

from __future__ import annotations

import os
import time
from pathlib import Path


def put_old(path: Path, data: bytes) -> None:
    """A file last written an hour ago."""
    path.write_bytes(data)
    moment = time.time() - 3600
    os.utime(path, (moment, moment))
