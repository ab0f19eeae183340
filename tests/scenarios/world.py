"""A person's machine in a folder of its own: settings, password, state, phone and archive, and the command `backup` as it is typed there.

world = World(tmp_path)
phone(world.folder / "phone")
world.backup("init")
world.run("phone")["new"]           # 8
world.records()[0]["chat"]             # "Family"
world.restic("check", "--read-data")
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import program

ROOT = Path(__file__).parents[2]
PASSWORD = "wise owls sing at noon"
NEPAL = "NPT-5:45"
"""A time zone that no mistake of whole hours or half days can pass for."""
_TIME_LIMIT = 60


@dataclass(frozen=True)
class Ended:
    """What became of one command: exit code, and the bytes of both streams."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """What it printed as its result."""
        return self.out.decode()

    @property
    def told(self) -> str:
        """What it said besides."""
        return self.err.decode()

    @property
    def json(self) -> Any:
        """Its result as JSON: fails unless stdout is exactly one document and its line end."""
        assert self.out.endswith(b"\n")
        return json.loads(self.out)


class World:
    """One machine. Several can share a repository: `World(other_folder, repo=world.repo, host="laptop")`."""

    def __init__(self, folder: Path, *, repo: Path | None = None, host: str | None = None, zone: str = NEPAL) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "home").mkdir()
        self.repo = repo or folder / "archive"
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD + "\n")
        self.password_file.chmod(0o600)
        self.settings = folder / "config.toml"
        self.settings.write_text(f'[repository]\nhost = "{host}"\n' if host else "")
        self.zone = zone

    def environment(self, **more: str | None) -> dict[str, str]:
        """All that a program on this machine sees of it; `more` adds variables, or takes them away with None."""
        given: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder / "home"),
            "TZ": self.zone,
            "LC_ALL": "C.UTF-8",
            "BACKUP_CONFIG": str(self.settings),
            "BACKUP_REPOSITORY": str(self.repo),
            "BACKUP_PASSWORD_FILE": str(self.password_file),
            "BACKUP_STATE_DIR": str(self.folder / "state"),
            "BACKUP_CACHE_DIR": str(self.folder / "cache"),
            **more,
        }
        return {name: value for name, value in given.items() if value is not None}

    def start(self, *words: object, env: Mapping[str, str | None] | None = None, **how: Any) -> subprocess.Popen[bytes]:
        """`backup WORDS…`, begun and not waited for, without a terminal."""
        return subprocess.Popen(
            [sys.executable, "-m", "backup_tool", *map(str, words)],
            **{
                "cwd": self.folder, "env": self.environment(**(env or {})), "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE, "start_new_session": True, **how,
            },
        )  # fmt: skip

    def backup(
        self, *words: object, code: int | None = 0, env: Mapping[str, str | None] | None = None, typed: str = "", **how: Any
    ) -> Ended:
        """`backup WORDS…`, which has to end with that exit code (None: any) and, but for --debug, without a traceback.

        Its process is forked from one in which the program is loaded; an interpreter is begun for it only where `how` says how
        (subprocess.Popen). `typed` is what it finds on its standard input.
        """
        if how:
            assert not typed
            done = finish(self.start(*words, env=env, **how))
        else:
            ended = program.start(list(map(str, words)), self.environment(**(env or {})), self.folder, typed=typed).wait()
            done = Ended(ended.code, ended.raw_out, ended.raw_err)
        assert code in (None, done.code), f"backup {' '.join(map(str, words))} ended with {done.code}: {done.told}{done.out[:2000]!r}"
        assert "--debug" in words or b"Traceback" not in done.err
        return done

    def run(self, *sources: object, code: int = 0, **how: Any) -> Any:
        """`backup run --json`: what it says of itself, whose sums are right."""
        result = self.backup("run", *sources, "--json", code=code, **how).json
        assert result["notes"] == result["new"] + result["unchanged"] + result["gone"]
        return result

    def records(self, *filters: object, code: int = 0) -> Any:
        """`backup list --json`: the records."""
        return self.backup("list", *filters, "--json", code=code).json

    def audio(self, note_id: str) -> bytes:
        """The bytes of one note, as the archive gives them back."""
        return self.backup("extract", note_id, "--to", "-").out

    def configure(self, text: str) -> None:
        """Write the settings file."""
        self.settings.write_text(text)

    def restic(self, *words: object, cwd: Path | None = None) -> str:
        """`restic WORDS…` on the same repository."""
        done = subprocess.run(
            ["restic", "--no-cache", "-r", str(self.repo), *map(str, words)],
            cwd=cwd or self.folder, env=self.environment(RESTIC_PASSWORD=PASSWORD), capture_output=True, check=False, timeout=_TIME_LIMIT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def files(self) -> list[str]:
        """The paths of all audio in the newest snapshot, as restic lists them."""
        lines = map(json.loads, self.restic("ls", "latest", "--json").splitlines())
        return sorted(line["path"] for line in lines if line.get("type") == "file" and "/notes/" in line["path"])


def finish(process: subprocess.Popen[bytes], seconds: float = _TIME_LIMIT) -> Ended:
    """Wait for a command that was begun; it does not outlive the test."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return Ended(process.returncode, out or b"", err or b"")


def wait_for_lock(repo: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the run holds its lock in the repository."""
    end = time.monotonic() + _TIME_LIMIT
    while not any((repo / "locks").iterdir()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_until_idle(process: subprocess.Popen[bytes], seconds: float = 0.6) -> None:
    """Until the process has used no processor for so long: it waits for something."""
    used, since = -1, time.monotonic()
    while time.monotonic() - since < seconds:
        assert process.poll() is None, process.communicate()
        now = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        if now != used:
            used, since = now, time.monotonic()
        time.sleep(0.02)


def give_up_reading_everything() -> None:
    """In a child, before it starts: root without the right to pass over permissions (capabilities(7): DAC_OVERRIDE, DAC_READ_SEARCH).

    For anybody else there is nothing to give up.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        if os.geteuid() == 0 and libc.prctl(24, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "this root cannot give up its rights")
