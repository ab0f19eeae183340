"""What holds for all tests: nothing of the person who runs them shows, and random tests can be repeated."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

for name in [name for name in os.environ if name.startswith("BACKUP_")]:
    del os.environ[name]

# A shell starts its background jobs with these ignored, and programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No time limit for one example: other programs of the machine decide how long it takes. A failure prints how to repeat it.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")
