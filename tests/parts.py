"""Real parts that tests stand on. On CI a missing part fails; on a user's machine the test is skipped with the reason."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def needs(*programs: str) -> None:
    """Skip (on CI: fail) unless every one of these programs is on PATH."""
    absent = [program for program in programs if shutil.which(program) is None]
    if not absent:
        return
    reason = f"needs {', '.join(absent)} on PATH"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def needs_root() -> None:
    """Skip (on CI: fail) unless running as root: mounting a small file system needs it."""
    if os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        pytest.fail("needs root")
    pytest.skip("needs root")


@contextmanager
def exfat_stick(folder: Path) -> Iterator[Path]:
    """A small stick as people carry them, mounted below `folder`: exFAT knows no hard links and no modes, and ignores case."""
    needs_root()
    needs("losetup", "mkfs.exfat", "mount.exfat-fuse", "umount")
    image, place = folder / "image", folder / "stick"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.exfat", str(image)], check=True, stdout=subprocess.DEVNULL)
    device = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True).stdout.strip()
    try:
        subprocess.run(["mount.exfat-fuse", device, str(place)], check=True, stdout=subprocess.DEVNULL)
        yield place
        subprocess.run(["umount", str(place)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
