"""The places that the contract suite runs against. A new kind of destination adds one line to `PLACES` and passes all of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from backup_tool.destinations.base import Destination
from backup_tool.destinations.cache import Cache
from backup_tool.destinations.http import Address
from backup_tool.destinations.local import LocalDestination
from backup_tool.destinations.rclone import RcloneDestination
from backup_tool.destinations.rest import RestDestination
from backup_tool.destinations.retry import Retry
from tests.destinations import s3_servers
from tests.destinations.doubles import Flaky, Full, SlowListing
from tests.destinations.drives import SharedDrive
from tests.destinations.icloud import SharedCloud
from tests.destinations.servers import Shared, own_process, rclones

Maker = Callable[[Path], Destination]


def _well_behaved_doubles(path: Path) -> Destination:
    """All doubles around one another on a good day: what misbehaves on purpose must do everything else right."""
    return Flaky(SlowListing(Full(LocalDestination(path), limit=2**40), late=0), seed=0, rate=0)


def _behind(name: str, start: Callable[[Path], AbstractContextManager[str]]) -> Maker:
    """A place behind a REST server that serves the whole file system, one for all tests."""

    def opened(path: Path) -> Destination:
        url = SERVERS.url(name, lambda: start(path.parent))
        return Retry(RestDestination(Address.parse(url + quote(str(path).lstrip("/")))))

    return opened


def _rclone(name: str) -> Maker:
    """A place through one of the rclones, started for each test as for each run."""

    def opened(path: Path) -> Destination:
        settings = path.parent / "rclone.conf"
        settings.write_text(f"[disk]\ntype = alias\nremote = {path.parent}\n")
        programs = path.parent / "programs"
        programs.mkdir(exist_ok=True)
        if not (programs / "rclone").exists():
            (programs / "rclone").symlink_to(rclones()[name]())
        env = {**os.environ, "PATH": str(programs), "RCLONE_CONFIG": str(settings)}
        return Retry(RcloneDestination(f"disk:{path.name}", env=env))

    return opened


def _bucket(name: str, start: Callable[[Path], AbstractContextManager[str]]) -> Maker:
    """A place in a bucket of an S3 server, one server for all tests."""

    def opened(path: Path) -> Destination:
        url = SERVERS.url(name, lambda: start(path.parent / "buckets"))
        return Retry(s3_servers.at(url, prefix=quote(str(path).lstrip("/"))))

    return opened


def _cached(path: Path) -> Destination:
    """A place that this machine keeps copies of, once it has read whose they are."""
    cache = Cache(LocalDestination(path), path.parent / "cache")
    cache._home = path.parent / "cache" / ("0" * 64)
    return cache


def _icloud(path: Path) -> Destination:
    """A folder in an iCloud Drive of our own, where this machine has signed in."""
    return CLOUD.place(path)


def _gdrive(path: Path) -> Destination:
    """A folder in a Google Drive of our own, where this machine has signed in."""
    return DRIVE.place(path)


SERVERS = Shared()
DRIVE = SharedDrive()
CLOUD = SharedCloud()
PLACES: dict[str, Maker] = {
    "local": LocalDestination,
    "doubles": _well_behaved_doubles,
    "cache": _cached,
    "rest": _behind("rest", lambda _: own_process(Path("/"), "unverified")),
    **{name: _rclone(name) for name in rclones()},
    **{name: _bucket(name, start) for name, start in s3_servers.SERVERS.items()},
    "icloud": _icloud,
    "gdrive": _gdrive,
}


@pytest.fixture(scope="session", autouse=True)
def _servers() -> Iterator[None]:
    yield
    SERVERS.end()
    CLOUD.end()
    DRIVE.end()


@pytest.fixture(params=list(PLACES.values()), ids=list(PLACES))
def make(request: pytest.FixtureRequest) -> Iterator[Maker]:
    """How to open one kind of place at a path."""
    with ExitStack() as stack:

        def opened(path: Path) -> Destination:
            place: Destination = request.param(path)
            stack.callback(place.close)
            return place

        yield opened


@pytest.fixture
def place(make: Maker, tmp_path: Path) -> Iterator[Destination]:
    """An empty place, ready for a repository."""
    opened = make(tmp_path / "repository")
    opened.create()
    yield opened
    opened.close()
