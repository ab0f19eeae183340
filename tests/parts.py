"""Real parts that tests stand on. On CI a missing part fails; on a user's machine the test is skipped with the reason."""

from __future__ import annotations

import os
import shutil

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
