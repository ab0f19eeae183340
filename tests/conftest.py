"""What holds for all tests: nothing of the person who runs them shows, and random tests can be repeated."""

from __future__ import annotations

import os

from hypothesis import settings

for name in [name for name in os.environ if name.startswith("BACKUP_")]:
    del os.environ[name]

# No time limit for one example: other programs of the machine decide how long it takes. A failure prints how to repeat it.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")
