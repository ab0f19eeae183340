"""Our destination at a Google Drive of the tests: signed in, in this process, with time that does not pass.

with drives(tmp_path) as cloud:
    place = cloud.open("Voice notes")
    place.create()
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from backup_tool.config import DestinationSpec
from backup_tool.destinations.base import Destination
from backup_tool.destinations.gdrive import open_drive
from backup_tool.destinations.gdrive.destination import GoogleDriveDestination
from backup_tool.destinations.gdrive.pacing import Pacer
from backup_tool.destinations.gdrive.signin import FileKeeper, Kept
from backup_tool.destinations.retry import Patience
from tests.destinations.drive import DRIVE_FILE, Google, google
from tests.destinations.drive.people import Account, Client
from tests.destinations.drive.store import FOLDER

KINDS = ("keys", "snapshots", "index", "locks", "data")
SHARDS = [f"{number:02x}" for number in range(256)]


class Time:
    """A clock that is set on by whoever waits."""

    def __init__(self) -> None:
        self.waited = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return time.monotonic() + self.waited

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.waited += seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.sleep(seconds)
        return event.is_set()


class Drives:
    """A Google Drive and one person with one client. `google` is the served world, `homes` the folder for what this machine remembers."""

    def __init__(self, world: Google, folder: Path) -> None:
        self.google, self.homes, self.time = world, folder / "homes", Time()
        self.anna, self.client = world.person(), world.client()

    def spec(self, folder: str, **options: Any) -> DestinationSpec:
        return DestinationSpec(name="drive", type="gdrive", place=folder, options=options)

    def home(self, machine: str = "laptop") -> Path:
        return self.homes / machine

    def sign_in(self, machine: str = "laptop", client: Client | None = None, *scopes: str, account: Account | None = None) -> None:
        """As after `backup login` on that machine."""
        client = client or self.client
        answer = self.google.sign_in(account or self.anna, client, *scopes)
        kept = Kept(str(answer["refresh_token"]), client.id, client.secret, list(scopes or (DRIVE_FILE,)), time.time(), self.anna.email)
        FileKeeper(self.home(machine) / "sign-in.json").save(msgspec.json.encode(kept))

    def open(self, folder: str = "Voice notes", machine: str = "laptop", *, waits: bool = False, **options: Any) -> GoogleDriveDestination:
        """The destination as a new process of that machine opens it; where it would wait, time passes by itself unless `waits`."""
        if not (self.home(machine) / "sign-in.json").exists():
            self.sign_in(machine)
        patience = None if waits else Patience(now=self.time.now, wait=self.time.wait)
        pacer = None if waits else Pacer(now=self.time.now, sleep=self.time.sleep)
        with environment(self.google.proxy.environment()):
            return open_drive(self.spec(folder, **options), home=self.home(machine), patience=patience, pacer=pacer)

    def with_folders(self, name: str, machine: str = "laptop", **options: Any) -> GoogleDriveDestination:
        """`open` where all folders are there already: made by Google's own hand, which takes no time."""
        self.folders(name)
        place = self.open(name, machine, **options)
        place.create()
        return place

    def folders(self, name: str, parent: str = "") -> str:
        """An archive's folders, made as another machine with the same client made them; the id of the first."""
        return folders(self.google, self.anna, self.client, name, parent)

    def folder_of(self, name: str) -> str:
        """The id of the only folder of that name."""
        (found,) = [item.id for item in self.google.objects(trashed=None) if item.name == name and item.mime_type == FOLDER]
        return found

    def find(self, name: str) -> list[str]:
        """The ids of all files and folders of that name outside the trash."""
        return [item.id for item in self.google.objects() if item.name == name]


def folders(world: Google, owner: Account, client: Client, name: str, parent: str = "") -> str:
    """An archive's folders, made by Google's own hand; the id of the first."""
    root = world.make_folder(owner, name, parent, client.project).id
    ids = {kind: world.make_folder(owner, kind, root, client.project).id for kind in KINDS}
    for shard in SHARDS:
        world.make_folder(owner, shard, ids["data"], client.project)
    return root


@contextlib.contextmanager
def environment(more: Mapping[str, str]) -> Iterator[None]:
    """These variables in this process, for as long as the block runs."""
    with mock.patch.dict(os.environ, more):
        yield


@contextlib.contextmanager
def drives(folder: Path) -> Iterator[Drives]:
    """A Drive for as long as the block runs; every departure from Google's protocol fails it."""
    with google(folder / "google") as world:
        yield Drives(world, folder)


class SharedDrive:
    """One Drive for many tests, started when first wanted."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._cloud: Drives | None = None

    def place(self, path: Path) -> Destination:
        """A folder named after the path; where it is to become a repository its folders are there already."""
        if self._cloud is None:
            import tempfile

            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="drive-"))
            self._cloud = self._stack.enter_context(drives(Path(folder)))
        name = f"{path.parent.name} {path.name}"
        if path.name == "repository":
            self._cloud.folders(name)
        return self._cloud.open(name, machine=name)

    def end(self) -> None:
        self._stack.close()
        self._cloud = None
