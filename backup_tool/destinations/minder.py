"""Runs a program for as long as somebody holds the other end of standard input, and ends it then.

    python minder.py PROGRAM ARGUMENT…

However a process dies, the system closes its pipes: so the program ends with whoever started this, even where that one was killed without
a chance to tidy up. This holds on every system, unlike signals at the death of a parent. Stands alone: it imports nothing of ours.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE_SECONDS = 3.0


def main(command: list[str]) -> int:
    """Run the command; its exit code, 128 + the signal that ended it, or 127 where it cannot be started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # whoever started this decides when it ends; a handler is not inherited by the program
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except OSError:
        return 127
    threading.Thread(target=_end_with_input, args=[program], daemon=True).start()
    code = program.wait()
    return 128 - code if code < 0 else code


def _end_with_input(program: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    program.terminate()
    try:
        program.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        program.kill()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
