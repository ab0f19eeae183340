"""The main job for real, on a sample store made on the spot: the very commands a person would type, and what they print."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from backup_tool.actions.sample import make_store
from backup_tool.errors import BackupError
from backup_tool.models import Progress

_COMMANDS = (
    "backup scan phone/WhatsApp",
    "backup init --repo archive",
    "backup run phone/WhatsApp --repo archive",
    "backup chats --repo archive",
    "backup list --chat family --repo archive",
    "backup restore --chat family --to family --repo archive",
    "backup extract latest --chat anna --to note.opus --repo archive",
    "backup extract latest --chat anna --eml note.eml --repo archive",
    "rm -r 'phone/WhatsApp/Media/WhatsApp Voice Notes/202610'",
    "backup run phone/WhatsApp --repo archive",
    "backup check --read-data --repo archive",
)


def demo(step: Callable[[str, str], None], progress: Progress) -> None:
    """Carry out the commands in a temporary directory, which is removed at the end; `step` gets each with its output.

    Raises BackupError where a command fails.
    """
    with tempfile.TemporaryDirectory(prefix="backup-demo-") as folder:
        here = Path(folder)
        progress.begin("making a sample store")
        made = make_store(here / "phone" / "WhatsApp")
        progress.end()
        step("(a sample phone folder)", f"{made} voice notes of four chats, with WhatsApp's database beside them")
        (here / "password").write_text("correct horse battery staple\n")
        os.chmod(here / "password", 0o600)
        settings = {"BACKUP_PASSWORD_FILE": str(here / "password"), "BACKUP_CONFIG": str(here / "config.toml")}
        (here / "config.toml").touch()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKUP_")} | settings
        environment |= {"BACKUP_STATE_DIR": str(here / "state"), "BACKUP_CACHE_DIR": str(here / "cache")}
        for command in _COMMANDS:
            step(command, _carry_out(command, here, environment))


def _carry_out(command: str, here: Path, environment: dict[str, str]) -> str:
    program, *arguments = shlex.split(command)
    typed = [sys.executable, "-m", "backup_tool", *arguments] if program == "backup" else [program, *arguments]
    done = subprocess.run(typed, cwd=here, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise BackupError(f"'{command}' ended with exit code {done.returncode}: {done.stderr.strip()}", "please report this")
    return (done.stdout + done.stderr).rstrip()
