"""A small world for one test: a store of voice notes, an archive of it, and the settings of the person who keeps both."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests import program
from tests.generators.android import CURRENT, Store
from tests.generators.ogg import opus_note
from tests.program import Ended, Running
from tests.repository.forge import Forge, cheapen, open_key, secrets_of, sha, unseal

PASSWORD = "correct horse battery staple"
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass
class World:
    """Everything of one person lies below `root`: the phone's copy, the repository, settings, state."""

    root: Path

    @property
    def phone(self) -> Path:
        """What was copied from the phone."""
        return self.root / "phone"

    @property
    def store(self) -> Path:
        """The folder that holds `Media`."""
        return self.phone / CURRENT

    @property
    def repo(self) -> Path:
        """The archive."""
        return self.root / "repository"

    def settle(self, pack_size: str = "32 MiB", repo: Path | None = None) -> World:
        """Write settings and password: the source `phone`, the destination `disk`."""
        for name in ("home", "state", "cache"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "password").write_text(PASSWORD + "\n")
        (self.root / "password").chmod(0o600)
        (self.root / "config.toml").write_text(
            f"[sources.phone]\ntype = 'auto'\npath = '{self.phone}'\n[destinations.disk]\ntype = 'local'\npath = '{repo or self.repo}'\n"
            f"[repository]\nhost = 'machine'\npack_size = '{pack_size}'\n"
        )
        return self

    def copy(self, to: Path, pack_size: str = "32 MiB") -> World:
        """The same world once more."""
        shutil.copytree(self.root, to, symlinks=True)
        return World(to).settle(pack_size)

    @property
    def env(self) -> dict[str, str]:
        """What cron would give a command, and where this world's things are."""
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.root / "home"), "TZ": "UTC", "BACKUP_CONFIG": str(self.root / "config.toml"),
            "BACKUP_STATE_DIR": str(self.root / "state"), "BACKUP_CACHE_DIR": str(self.root / "cache"),
            "BACKUP_PASSWORD_FILE": str(self.root / "password"),
        }  # fmt: skip

    # Commands

    def start(self, *words: str | Path, **env: str) -> Running:
        """Start a command of the program."""
        return program.start(words, self.env | env, self.root)

    def backup(self, *words: str | Path, code: int | tuple[int, ...] = 0, **env: str) -> Ended:
        """Carry out a command of the program, which must end with that exit code, and with one clear line where it failed."""
        ended = self.start(*words, **env).wait()
        codes = (code,) if isinstance(code, int) else code
        assert ended.code in codes, f"backup {' '.join(map(str, words))}: {ended}"
        look_clear(ended)
        return ended

    def documents(self, *words: str | Path, code: int = 0) -> list[dict[str, object]]:
        """What a command prints with `--json`, an array."""
        found: list[dict[str, object]] = json.loads(self.backup(*words, "--json", code=code).out)
        return found

    def restic(self, *words: str | Path, code: int = 0) -> str:
        """Carry out a restic command on the archive; what it prints."""
        env = self.env | {"RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(self.repo)}
        run = subprocess.run(
            ["restic", "--no-cache", *map(str, words)], cwd=self.root, env=env, capture_output=True, text=True, timeout=300
        )
        assert run.returncode == code, f"restic {' '.join(map(str, words))}: {run.stdout}{run.stderr}"
        return run.stdout

    # What must be so

    def notes(self) -> Counter[str]:
        """The SHA-256 of every voice note of the phone."""
        return hashes(self.store / "Media")

    def restored(self, name: str, code: int = 0) -> Counter[str]:
        """Give everything back into a new folder; the SHA-256 of every file there."""
        self.backup("restore", "--to", self.root / name, "--quiet", code=code)
        return hashes(self.root / name)

    def forge(self) -> Forge:
        """Writes into the archive behind the program's back."""
        return Forge(self.repo, self.secrets())

    def secrets(self) -> tuple[bytes, bytes, bytes]:
        """The master key of the archive, opened without the program."""
        return secrets_of(open_key(next((self.repo / "keys").iterdir()), PASSWORD))

    def objects(self, kind: str) -> list[Path]:
        """The files of one kind, by name."""
        return sorted(path for path in (self.repo / kind).rglob("*") if path.is_file() and _ID.fullmatch(path.name))

    def packs(self, *, without: bool = False) -> dict[Path, list[tuple[str, str]]]:
        """What is in each pack by its own header: (type, id)."""
        secrets = self.secrets()
        return {path: list(pack_header(path.read_bytes(), secrets)) for path in self.objects("data")}

    def stored_twice(self) -> int:
        """How many blobs of notes are stored more than once. Catalogs and folders may be: a run stores small packs together again."""
        audio = {("data", blob) for record in self.documents("list") for blob in cast(list[str], record["blobs"] or [])}
        counts = Counter(blob for blobs in self.packs().values() for blob in blobs if blob in audio)
        return sum(counts.values()) - len(counts)

    def leftovers(self) -> list[Path]:
        """What a run that ended leaves of itself: nothing."""
        files = [path for path in self.repo.rglob("*") if path.is_file()]
        odd = [path for path in files if path.name != "config" and not _ID.fullmatch(path.name)]
        return odd + [path for path in files if path.parent.name == "locks"] + list((self.root / "state" / "work").glob("*"))


def look_clear(ended: Ended) -> None:
    """Whatever happened is told in a person's words, in one line and a hint; no traceback, nothing the program did not expect."""
    assert "Traceback" not in ended.err, ended.err
    assert "unexpected " not in ended.err, ended.err
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", ended.err + ended.out), "control characters on a terminal"
    if ended.code not in (0, 3, 5) or (ended.code == 5 and "error: " not in ended.err and not ended.out):
        lines = ended.err.splitlines()
        assert sum(line.startswith("error: ") for line in lines) == 1, ended
        assert sum(line.startswith("hint: ") for line in lines) <= 1, ended


def new_world(root: Path, notes: int, *, seconds: float = 1.5, pack_size: str = "32 MiB", database: bool = True) -> World:
    """A world with so many voice notes and an empty archive."""
    world = World(root).settle(pack_size)
    store = Store(world.store)
    made = store.voice_notes(notes, seconds=seconds)
    if database:
        store.database(made)
    world.backup("init")
    cheapen(world.repo, PASSWORD)
    return world


def add_notes(world: World, count: int, *, seconds: float = 1.5, seed: int = 10_000) -> None:
    """More voice notes on the phone, not in its database."""
    folder = world.store / "Media/WhatsApp Voice Notes/202640"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        path = folder / f"PTT-20260928-WA{seed + number:04d}.opus"
        path.write_bytes(opus_note(seconds, seed + number))
        os.utime(path, (1_790_000_000 + number, 1_790_000_000 + number))


def hashes(folder: Path) -> Counter[str]:
    """The SHA-256 of every ordinary file below a folder, with how many files have it. Files that hide, as temporaries do, count too."""
    return Counter(sha(path.read_bytes()) for path in files(folder))


def files(folder: Path) -> Iterator[Path]:
    """Every ordinary file below a folder but the phone's own `.nomedia`."""
    for above, _, names in os.walk(folder):
        for name in names:
            path = Path(above, name)
            if name != ".nomedia" and path.is_file() and not path.is_symlink():
                yield path


def pack_header(pack: bytes, secrets: tuple[bytes, bytes, bytes]) -> Iterator[tuple[str, str]]:
    """(type, id) of each blob of a pack, read as restic's design document lays it out."""
    (length,) = struct.unpack("<I", pack[-4:])
    header = unseal(secrets, pack[-4 - length : -4])
    at = 0
    while at < len(header):
        size = 41 if header[at] & 2 else 37
        yield ("tree" if header[at] & 1 else "data"), header[at + size - 32 : at + size].hex()
        at += size
