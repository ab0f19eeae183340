"""The state folder: what one run tells the next. Nothing in it is needed for a right result, and whatever is odd in it is thrown away.

It holds small files with a version and a checksum, lock files, and the private workspace of runs that live.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backup_tool.destinations.files import is_abandoned, make_folder, replace_file, told
from backup_tool.destinations.places import where
from backup_tool.destinations.processes import Maker, temporary_name, this_process, try_lock
from backup_tool.errors import BackupError, Locked
from backup_tool.names import folded, safe_name, shown

if TYPE_CHECKING:
    from backup_tool.repository import Repository

_VERSION = 1
_PATIENCE = 0.5  # seconds
_LARGEST = 64 * 2**20  # bytes of a state file worth reading: a million snapshots


class State:
    """The folder, made 0700 when first needed. `trouble` is why something could not be written to it, None where all went well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trouble: BackupError | None = None

    @contextmanager
    def run_lock(self, place: str, label: str = "") -> Iterator[None]:
        """Held while a run works on the repository at this place (shown as `label`): two scheduled jobs of one machine never work at once.

        Raises Locked, naming the other run's process and since when. Where none can be taken the run goes on: the repository has its own.
        """
        file = self._lock_file(f"run-{_digest(place)}.lock")
        if file is None:
            yield
            return
        try:
            if not try_lock(file):
                raise _locked(label or place, os.read(file, 200))
            try:
                _tell(file)
                yield
            finally:
                _tell_nothing(file)
        finally:
            os.close(file)

    def _lock_file(self, name: str) -> int | None:
        try:
            make_folder(self.folder)
            return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            self.trouble = told(error, str(self.folder))
            return None

    def running(self) -> tuple[int, str] | None:
        """(process id, since when in RFC 3339) of a run of this machine that is at work; None where there is none. No lock is touched: a
        run that begins at this moment must not find it taken."""
        for path in sorted(self.folder.glob("run-*.lock")):
            with suppress(OSError, ValueError):
                pid, since, start, boot = path.read_bytes()[:200].decode("ascii").split()
                if Maker(this_process().host, boot, int(pid), start).is_alive():
                    datetime.fromisoformat(since)
                    return int(pid), since
        return None

    def seen_snapshots(self, copy: str) -> set[str]:
        """The ids of the snapshots that this copy (`witnessed`) held at the last look, but for those forgotten from here."""
        return set(self.witness(copy))

    def held(self, copy: str) -> set[str]:
        """The ids of the snapshots that this very copy held at the last look; none where it was never looked at."""
        return set(_texts(self._load(_witness(copy))))

    def newest_seen(self, copy: str) -> str | None:
        """The time (RFC 3339) of the newest snapshot ever seen in the last look; None where there was none."""
        return max(self.witness(copy).values(), default=None)

    def remember_snapshots(self, copy: str, snapshots: Mapping[str, str]) -> None:
        """This copy holds these now: id and time of each."""
        self._save(_witness(copy), dict(snapshots))

    def forgotten_by_us(self, copy: str, ids: Iterable[str]) -> None:
        """These are about to be removed from it on purpose: their absence is no alarm."""
        forgotten = set(ids)
        self.remember_snapshots(copy, {id: at for id, at in self.witness(copy).items() if id not in forgotten})

    def witness(self, copy: str) -> dict[str, str]:
        """Id and time of every snapshot that a run of this machine saw, without those that it forgot.

        Of a copy that was never looked at before, what all other copies held: a disk that is mounted elsewhere today is the same disk.
        """
        own = self._load(_witness(copy))
        if own is not None:
            return _texts(own)
        seen: dict[str, str] = {}
        for file in sorted(self.folder.glob(f"{_witness(copy).rpartition('-')[0]}-*.json")):
            seen |= _texts(self._load(file.stem))
        return seen

    def name_for_path(self, real: str | os.PathLike[str], wanted: str, taken: Mapping[str, str | os.PathLike[str]] | None = None) -> str:
        """The name of a source that was typed as a path: the remembered one of this real path, else `wanted` as a clean name.

        A name that belongs to another real path (remembered, or one of `taken`: configured names and their real paths) gets " 2", " 3" ….
        """
        path = os.fspath(real)
        known = _texts(self._load("sources"))
        owners = {folded(name): os.fspath(owner) for name, owner in {**known, **(taken or {})}.items()}
        for name in known:
            if known[name] == path and owners[folded(name)] == path:
                return name
        base = safe_name(wanted, 100)
        name, number = base, 1
        while owners.get(folded(name), path) != path:
            number += 1
            name = f"{base} {number}"
        self._save("sources", {**known, name: path})
        return name

    def names_in_use(self, configured: Iterable[str | os.PathLike[str]] = ()) -> set[str]:
        """The remembered names of sources that were typed as paths and are still there.

        Not those at the real path of a `configured` one: such a source has another name now.
        """
        renamed = {os.path.realpath(path) for path in configured}
        return {name for name, path in _texts(self._load("sources")).items() if os.path.exists(path) and path not in renamed}

    def zone(self, source: str) -> str | None:
        """The time zone in which this source's times without one were read the last time, by its IANA name; None where none was."""
        return _texts(self._load("zones")).get(source)

    def remember_zone(self, source: str, zone: str) -> None:
        """This source's times are read in this zone from now on."""
        known = _texts(self._load("zones"))
        if known.get(source) != zone:
            self._save("zones", {**known, source: zone})

    def home(self, destination: str) -> Path:
        """The folder in which a destination (by its label) keeps what it has to remember. Not made here."""
        return self.folder / "destinations" / _digest(destination)

    @property
    def unsent(self) -> Path:
        """The folder for drafts of mails that could not be sent. Not made here."""
        return self.folder / "unsent"

    def drafts(self) -> dict[str, Any]:
        """What is known of the drafts in `unsent`, by the name of the file."""
        return self._load("drafts") or {}

    def remember_drafts(self, drafts: Mapping[str, Any]) -> None:
        """This is known of them now: anything that JSON can hold."""
        self._save("drafts", dict(drafts))

    @property
    def google_mail(self) -> Path:
        """The folder of the sign-in by which mail is sent through Google. Not made here."""
        return self.folder / "gmail"

    @property
    def spools(self) -> Path:
        """The folder of the spools. Not made here."""
        return self.folder / "spool"

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A private folder (0700) for opened databases, removed at the end. Those that dead runs left behind are removed first."""
        folder = self._new_workspace()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _new_workspace(self) -> Path:
        above = self.folder / "work"
        try:
            make_folder(above)
            self._sweep(above)
            folder = above / temporary_name()
            folder.mkdir(0o700)
            folder.chmod(0o700)
            return folder
        except OSError as error:
            self.trouble = told(error, str(self.folder))
            return Path(tempfile.mkdtemp(prefix="backup-"))  # 0700 too

    def _sweep(self, above: Path) -> None:
        for entry in list(os.scandir(above)):
            with suppress(FileNotFoundError):
                if is_abandoned(entry.name, entry.stat(follow_symlinks=False).st_mtime, time.time()):
                    shutil.rmtree(entry.path, ignore_errors=True)

    @contextmanager
    def history_lock(self) -> Iterator[None]:
        """Held while the history is read, changed and saved, by one process at a time. After half a second it goes on without."""
        file = self._lock_file("history.lock")
        try:
            end = time.monotonic() + _PATIENCE
            while file is not None and not try_lock(file) and time.monotonic() < end:
                time.sleep(0.01)
            yield
        finally:
            if file is not None:
                os.close(file)

    def save_history(self, record: Mapping[str, Any]) -> None:
        """Keep what the last runs and checks came to, for `status`: anything that JSON can hold."""
        self._save("history", dict(record))

    def load_history(self) -> dict[str, Any] | None:
        """What the last runs and checks came to; None where nothing was kept, or it cannot be read."""
        return self._load("history")

    @property
    def has_history(self) -> bool:
        """Whether something was kept, readable or not."""
        return os.path.exists(self.folder / "history.json")

    def _save(self, name: str, content: dict[str, Any]) -> None:
        """Whole or not at all. That it cannot be written is told by `trouble` and stops nothing."""
        text = json.dumps(content, sort_keys=True)
        record = {"version": _VERSION, "sha256": hashlib.sha256(text.encode()).hexdigest(), "content": content}
        try:
            make_folder(self.folder)
            replace_file(self.folder / f"{name}.json", json.dumps(record, sort_keys=True, indent=1).encode())
        except OSError as error:
            self.trouble = told(error, str(self.folder))

    def _load(self, name: str) -> dict[str, Any] | None:
        """What was saved; None where nothing was, or where it is not exactly what was saved."""
        try:
            with (self.folder / f"{name}.json").open("rb") as file:
                record = json.loads(file.read(_LARGEST))
            content = record["content"]
            text = json.dumps(content, sort_keys=True)
            right = record["version"] == _VERSION and record["sha256"] == hashlib.sha256(text.encode()).hexdigest()
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return content if right and isinstance(content, dict) else None


def _witness(copy: str) -> str:
    repository_id, _, place = copy.partition(" ")
    return f"witness-{_digest(repository_id)}-{_digest(place)}"


def witnessed(repository: Repository) -> str:
    """What a witness stands for: one copy of a repository. Another copy, on another disk, has other snapshots."""
    return f"{repository.id} {where(repository.destination)}"


def _digest(text: str) -> str:
    """A file name for any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _texts(content: dict[str, Any] | None) -> dict[str, str]:
    return {key: value for key, value in (content or {}).items() if isinstance(value, str)}


def _tell(file: int) -> None:
    """Write into the lock whose it is, for the message of the one that finds it taken."""
    me = this_process()
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.write(file, f"{me.pid} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {me.start} {me.boot}\n".encode())


def _tell_nothing(file: int) -> None:
    with suppress(OSError):
        os.ftruncate(file, 0)


def _locked(repository: str, told_by_other: bytes) -> Locked:
    pid, since = (*told_by_other.decode("ascii", "replace").split(), "", "")[:2]
    whose = f" (process {shown(pid)}, since {shown(since)})" if pid.isdigit() and since else ""
    return Locked(f"another run is working on {shown(repository)}{whose}", "let it finish, then run this again")
