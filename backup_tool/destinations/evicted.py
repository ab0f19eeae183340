"""Files that a Mac has taken off its disk: iCloud Drive keeps them, and brings one back when it is asked to.

Up to macOS 13 the file `X` is gone then, and a small property list `.X.icloud` stands for it; its key NSURLFileSizeKey has the size.
Later systems keep the name and size of a file without its bytes ("dataless": the flag SF_DATALESS of stat(2)); reading one waits for the
bytes, or fails with EDEADLK in programs without a window.
"""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import time
from pathlib import Path

from backup_tool.errors import Unreachable
from backup_tool.names import shown

PATIENCE = 120.0
"""Seconds to wait for one file to come back."""
_DATALESS = 0x40000000
_LARGEST = 2**16


def placeholder(path: Path) -> Path:
    """What stands for a file that was taken off the disk."""
    return path.with_name(f".{path.name}.icloud")


def name_behind(name: str) -> str | None:
    """The name of the file that a placeholder of this name stands for; None where it is none."""
    return name[1:-7] if name.startswith(".") and name.endswith(".icloud") and len(name) > 8 else None


def size_behind(path: Path) -> int:
    """The size of the file that a placeholder stands for. Raises Unreachable where it does not tell, OSError where it cannot be read."""
    with path.open("rb") as file:
        data = file.read(_LARGEST)
    try:
        size = plistlib.loads(data).get("NSURLFileSizeKey")
    except (ValueError, AttributeError, plistlib.InvalidFileException, OverflowError, RecursionError):
        size = None
    if type(size) is not int or not 0 <= size < 2**62:
        raise away(path.with_name(name_behind(path.name) or path.name))
    return size


def is_away(path: Path) -> bool:
    """True where the bytes of a file are in iCloud only."""
    try:
        return bool(getattr(path.stat(), "st_flags", 0) & _DATALESS)
    except (FileNotFoundError, NotADirectoryError):
        return placeholder(path).is_file()


def bring_back(path: Path) -> None:
    """Have the system fetch a file that is in iCloud only, and wait for it. Raises Unreachable where it does not come."""
    program = shutil.which("brctl")
    if program is None:
        raise away(path)
    end = time.monotonic() + PATIENCE
    try:
        subprocess.run([program, "download", os.fspath(path)], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        raise away(path) from None
    while is_away(path):
        if time.monotonic() > end:
            raise away(path)
        time.sleep(0.2)


def away(path: Path) -> Unreachable:
    """The error for a file whose bytes are in iCloud only."""
    name = shown(os.fspath(path), 1000)
    return Unreachable(f"{name} is in iCloud only, not on this machine", f"bring it back, then try again: brctl download '{name}'")
