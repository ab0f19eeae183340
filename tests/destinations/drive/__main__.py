"""Google Drive on this machine, to try programs by hand: prints shell lines that set the environment, and serves until standard input ends.

python -m tests.destinations.drive FOLDER
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from tests.destinations.drive import Consent, google


def main(folder: str) -> None:
    """Serve one person with one OAuth client, whose file is written into the folder."""
    with google(Path(folder)) as drive:
        person, client = drive.person(), drive.client()
        drive.consent = Consent(person)
        file = Path(folder) / "client.json"
        file.write_text(json.dumps(client.json()))
        for name, value in drive.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# client file: {file}")
        token = drive.rclone_token(person, client)
        print(f"# rclone config create drive drive scope=drive.file client_id={client.id} client_secret={client.secret} token='{token}'")
        sys.stdout.flush()
        sys.stdin.read()
        print(*drive.violations, sep="\n")
        drive.violations.clear()


if __name__ == "__main__":
    main(*sys.argv[1:])
