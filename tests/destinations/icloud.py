"""An Apple of our own for tests of the iCloud destination: accounts, somebody who types, and destinations that have signed in.

with apple_for(tmp_path) as cloud:
    cloud.sign_in()
    with cloud.place() as place:
        place.create()
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from backup_tool.config import DestinationSpec
from backup_tool.destinations.icloud.destination import ICloudDestination, PatientICloud
from backup_tool.destinations.icloud.login import sign_in
from backup_tool.errors import SignInNeeded
from backup_tool.models import Secret
from tests.destinations.apple_cloud.account import Account
from tests.destinations.apple_cloud.server import Apple, serving
from tests.destinations.tls_proxy import Proxy

ANN, WORD = "ann@example.org", "correct horse 7"


class Typist:
    """Somebody at a keyboard: answers each question by what it asks for, and remembers all that was said. Nothing left to type: gone."""

    def __init__(self, *answers: str | Callable[[], str], password: str = WORD) -> None:
        self._answers, self._password = list(answers), password
        self.asked: list[str] = []
        self.told: list[str] = []

    def ask(self, question: str) -> str:
        self.asked.append(question)
        if not self._answers:
            raise SignInNeeded("nobody is there")
        answer = self._answers.pop(0)
        return answer if isinstance(answer, str) else answer()

    def ask_secret(self, question: str) -> Secret:
        self.asked.append(question)
        return Secret(self._password)

    def tell(self, text: str) -> None:
        self.told.append(text)

    def open(self, url: str) -> None:
        raise AssertionError("no page is opened for this")


def at_once(event: threading.Event, seconds: float) -> bool:
    """A wait for tests in a hurry."""
    return event.wait(min(seconds, 0.001))


class Cloud:
    """Apple with one account, and one machine that keeps its archive there."""

    def __init__(self, folder: Path, apple: Apple, proxy: Proxy) -> None:
        self.folder, self.apple, self.proxy = folder, apple, proxy
        self.home = folder / "home"

    @property
    def account(self) -> Account:
        return self.apple.account

    def spec(self, folder: str = "Voice notes", **options: Any) -> DestinationSpec:
        return DestinationSpec(name="cloud", type="icloud", place=folder, options={"account": ANN, **options})

    def sign_in(self, person: Typist | None = None, **options: Any) -> Typist:
        """`backup login cloud`, typing the code that was sent."""
        person = person or Typist(self.apple.last_code)
        sign_in(self.spec(**options), self.home, person)
        return person

    def open(self, folder: str = "Voice notes", **how: Any) -> ICloudDestination:
        """The destination, without tries."""
        return ICloudDestination(folder, home=self.home, name="cloud", **{"account": ANN, "wait": at_once, **how})

    @contextmanager
    def place(self, folder: str = "Voice notes", **how: Any) -> Iterator[ICloudDestination]:
        """The same, closed at the end."""
        with closing(self.open(folder, **how)) as place:
            yield place

    def patient(self, folder: str = "Voice notes", **how: Any) -> PatientICloud:
        """The destination as runs open it, but in a hurry."""
        return PatientICloud(self.open(folder, **how), wait=at_once)

    def names(self, folder: str = "Voice notes") -> list[str]:
        """The paths of all files in the repository's folder."""
        return sorted(path.removeprefix(f"{folder}/") for path in self.apple.objects() if path.startswith(f"{folder}/"))

    def environment(self) -> Mapping[str, str]:
        return self.proxy.environment()


@contextmanager
def apple_for(folder: Path, account: Account | None = None) -> Iterator[Cloud]:
    """Apple, reached by this process and those that it starts, for as long as the block runs. Nothing else was reached, nor misused."""
    folder.mkdir(parents=True, exist_ok=True)
    with serving(folder, account or Account(ANN, WORD)) as (apple, proxy), pytest.MonkeyPatch.context() as patch:
        for name, value in proxy.environment().items():
            patch.setenv(name, value)
        yield Cloud(folder, apple, proxy)
        assert not proxy.refused
        assert not apple.complaints


class SharedCloud:
    """One Apple for the contract suite, started when it is first needed: each test has folders of its own there."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._cloud: Cloud | None = None
        self._folders: dict[Path, str] = {}

    def place(self, path: Path) -> PatientICloud:
        """The destination that stands for this path."""
        if self._cloud is None:
            folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="apple-")))
            self._cloud = self._stack.enter_context(apple_for(folder))
            self._cloud.sign_in()
        os.environ.update(self._cloud.environment())
        return self._cloud.patient(self._folders.setdefault(path, f"Archive {len(self._folders)}"))

    def end(self) -> None:
        """Apple closes."""
        self._stack.close()
