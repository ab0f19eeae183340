"""Wears the iCloud destination out: thousands of requests, each tenth of them spoiled. Fails where anything is lost, doubled or asked for.

python -m tests.benchmarks.icloud --requests 5000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.destinations.icloud import apple_for
from tests.destinations.test_icloud import faulted


def main() -> None:
    """Carry it out, and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=0.1)
    typed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, apple_for(Path(folder)) as cloud:
        cloud.sign_in()
        started = time.monotonic()
        requests, spoiled = faulted(cloud, "Voice notes", typed.requests, rate=typed.rate)
        objects = len(cloud.names())
    seconds = time.monotonic() - started
    print(f"{requests} requests, {spoiled} of them spoiled, {objects} objects: none lost, none doubled, nobody asked; {seconds:.0f} s")


if __name__ == "__main__":
    main()
