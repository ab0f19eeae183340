"""An archive in iCloud Drive, as the program is typed: the first sign-in, nightly runs, nights after the sign-in has ended."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backup_tool.actions.archive import Archive
from backup_tool.actions.run import RunPlan, run
from backup_tool.actions.state import State
from backup_tool.config import SourceSpec
from backup_tool.destinations.base import Destination, ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.errors import SignInNeeded
from backup_tool.models import Progress, Secret
from backup_tool.repository import Repository
from tests.destinations.icloud import ANN, WORD, Cloud, apple_for
from tests.destinations.tls_proxy import Fault
from tests.generators.ogg import opus_note
from tests.generators.old import put_old
from tests.repository.forge import cheapen
from tests.scenarios.world import PASSWORD, World, finish

PLACE = "icloud:Voice notes"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """Apple, with one account that nobody has signed in to yet."""
    with apple_for(tmp_path / "apple") as found:
        yield found


class Machine(World):
    """A machine whose archive is in iCloud Drive."""

    def __init__(self, folder: Path, cloud: Cloud) -> None:
        super().__init__(folder)
        self.cloud = cloud
        self.configure(f'[destinations.cloud]\ntype = "icloud"\nfolder = "Voice notes"\naccount = "{ANN}"\n')

    def environment(self, **more: str | None) -> dict[str, str]:
        return super().environment(**{"BACKUP_REPOSITORY": None, **self.cloud.environment(), **more})

    def login(self, *lines: str, code: int = 0) -> Any:
        """`backup login cloud --stdin`, with these lines."""
        ended = self.backup("login", "cloud", "--stdin", code=code, typed="".join(f"{line}\n" for line in lines))
        assert WORD.encode() not in ended.out + ended.err
        return ended.told

    def sign_in(self) -> None:
        """Both steps, as over ssh: the password, then the code that was sent."""
        told = self.login(WORD, code=4)
        assert "hint: type it within ten minutes" in told
        self.login(self.cloud.apple.last_code())


@pytest.fixture
def machine(tmp_path: Path, cloud: Cloud) -> Machine:
    """A machine that has not signed in yet."""
    return Machine(tmp_path / "machine", cloud)


def notes(folder: Path, first: int, last: int) -> None:
    """Recordings of those numbers, each of other bytes."""
    folder.mkdir(exist_ok=True)
    for number in range(first, last):
        put_old(folder / f"PTT-2026{1 + number // 28:02}{1 + number % 28:02}-WA0001.opus", opus_note(1, seed=number))


def test_the_whole_way_of_a_note(machine: Machine, tmp_path: Path) -> None:
    """Sign in, run, look, check and give back: all of it works against iCloud, without a question after the sign-in."""
    phone = machine.folder / "phone"
    notes(phone, 0, 5)
    machine.sign_in()
    prompts = len(machine.cloud.apple.prompts)
    machine.backup("init", "--repo", PLACE)
    ended = machine.backup("run", "phone")
    assert "cloud: about 30 days left until somebody has to sign in again" in ended.told
    notes(phone, 5, 7)
    assert machine.run("phone")["new"] == 2
    machine.backup("restore", "--to", "ours", "--layout", "original")
    ours = sorted(path.read_bytes() for path in (machine.folder / "ours").rglob("*.opus"))
    assert ours == sorted(path.read_bytes() for path in phone.iterdir())
    assert machine.backup("check", "--read-data").code == 0
    assert len(machine.cloud.apple.prompts) == prompts
    told = machine.backup("doctor", "cloud", "--online").text
    assert ANN in told
    assert re.search(r"^sign-in ends +\d{4}-\d\d-\d\d \d\d:\d\d or so$", told, re.MULTILINE)
    assert not list((machine.folder / "state").rglob("tmp.*"))


def test_an_ended_sign_in_is_one_line_and_exit_code_4(machine: Machine) -> None:
    """A night after the sign-in has ended fails with exit code 4 and one line that holds the command; no code is sent to anybody."""
    notes(machine.folder / "phone", 0, 1)
    ended = machine.backup("run", "phone", code=4)
    assert (
        ended.told
        == "error: nobody has signed in to iCloud for this destination\nhint: sign in once, for about 30 days: backup login cloud\n"
    )
    machine.sign_in()
    machine.backup("init", "--repo", PLACE)
    prompts = len(machine.cloud.apple.prompts)
    machine.cloud.apple.later(days=31)
    ended = machine.backup("run", "phone", code=4)
    assert ended.told == "error: the sign-in to iCloud has ended\nhint: sign in once, for about 30 days: backup login cloud\n"
    assert len(machine.cloud.apple.prompts) == prompts


def test_an_ended_sign_in_of_one_of_several_places_costs_the_others_nothing(machine: Machine) -> None:
    """The others get the notes, the run ends with exit code 3 and promises no days that are over; after a login the rest is delivered."""
    notes(machine.folder / "phone", 0, 1)
    cloud = machine.settings.read_text()
    machine.configure(f'[destinations.disk]\npath = "{machine.folder / "disk"}"\n' + cloud)
    machine.sign_in()
    machine.backup("init")
    assert "days left" in machine.backup("run", "phone").told
    machine.cloud.apple.later(days=31)
    notes(machine.folder / "phone", 1, 2)
    ended = machine.backup("run", "phone", code=3)
    assert "cloud: the sign-in to iCloud has ended (sign in once, for about 30 days: backup login cloud)" in ended.told
    assert "days left" not in ended.told
    machine.sign_in()
    machine.backup("run", "phone")
    assert len(machine.backup("list", "--json", "--repo", "cloud").json) == 2


def test_a_login_that_cannot_be_meant_says_what_can(machine: Machine) -> None:
    """A mistyped name is answered with the places that have a sign-in; what is for Google only is not passed over in silence."""
    assert "such as: cloud" in machine.backup("login", "clod", code=2).told
    assert "are for Google Drive" in machine.backup("login", "cloud", "--paste", code=2).told


def test_a_proxy_of_a_kind_that_is_not_spoken_is_refused(machine: Machine) -> None:
    """It is neither passed over nor taken for an answer of Apple's: one line says which variable names it."""
    machine.sign_in()
    socks = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "socks5://127.0.0.1:9")
    told = machine.backup("doctor", "cloud", "--online", code=2, env=socks).told
    assert told.startswith("error: the proxy that https_proxy or all_proxy names is of a kind that is not spoken here")


def test_a_login_without_anybody_asks_nothing(machine: Machine) -> None:
    """Signing in from cron, without a terminal, ends at once and says what to do; Apple is not asked."""
    assert "terminal" in machine.backup("login", "cloud", code=4).told
    machine.login(code=4)
    assert machine.cloud.proxy.seen == []


def test_a_killed_run_is_completed_by_the_next_one(machine: Machine) -> None:
    """A run that is killed while its pack is on the way leaves nothing half there, and its sign-in as it was; the next run completes it."""
    notes(machine.folder / "phone", 0, 4)
    machine.sign_in()
    machine.backup("init", "--repo", PLACE)
    for call in ("content upload", "docs update/documents"):
        machine.cloud.proxy.faults.add(call, Fault("stall", seconds=60), after=1)
        process = machine.start("run", "phone")
        _until_stalled(machine, process)
        process.send_signal(signal.SIGKILL)
        finish(process)
        machine.cloud.proxy.faults.clear()
        machine.cloud.proxy.faults.happened.clear()
    machine.backup("unlock")
    assert machine.run("phone")["notes"] == 4
    assert machine.backup("check", "--read-data").code == 0
    assert machine.cloud.apple.drive().replayed == []
    assert [prompt.kind for prompt in machine.cloud.apple.prompts] == ["sms"]


def _until_stalled(machine: Machine, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not machine.cloud.proxy.faults.happened:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_terminated_run_ends_within_five_seconds(machine: Machine) -> None:
    """SIGTERM ends a run while Apple is silent: nothing is waited for."""
    notes(machine.folder / "phone", 0, 2)
    machine.sign_in()
    machine.backup("init", "--repo", PLACE)
    machine.cloud.proxy.faults.add("content upload", Fault("stall", seconds=60))
    process = machine.start("run", "phone")
    _until_stalled(machine, process)
    started = time.monotonic()
    process.terminate()
    ended = finish(process)
    assert ended.code == 143
    assert time.monotonic() - started < 15  # five seconds on a machine that does nothing else
    assert b"Traceback" not in ended.err


def test_thirty_nights(cloud: Cloud, tmp_path: Path) -> None:
    """Of thirty nights with new notes, whose sign-in ends on the twentieth, each note is in the archive after one new sign-in.

    The nights in between fail with the error of a sign-in, and wake nobody.
    """
    cloud.account.trust_days = cloud.account.token_days = 19.5
    cloud.sign_in()
    phone, state = tmp_path / "phone", State(tmp_path / "state")
    notes(phone, 0, 1)
    with closing(cloud.patient()) as place:
        put_repository(place, tmp_path / "made")
    failed = []
    for night in range(1, 31):
        notes(phone, night, night + 1)
        cloud.apple.later(days=1)
        try:
            _night(cloud, phone, state)
        except SignInNeeded:
            failed.append(night)
    assert failed == list(range(20, 31))
    assert len(cloud.apple.prompts) == 1
    cloud.sign_in()
    _night(cloud, phone, state)
    with closing(cloud.patient()) as place:
        archive = Archive(Repository.open(place, Secret(PASSWORD)), None)
        assert len(list(archive.entries())) == 31
    assert len(cloud.apple.prompts) == 2
    assert len(cloud.names()) == len(set(cloud.names()))


def put_repository(place: Destination, folder: Path) -> None:
    """A repository whose key is cheap to open, made in a folder first."""
    made = LocalDestination(folder)
    Repository.create(made, Secret(PASSWORD), hostname="laptop", username="ann")
    cheapen(folder, PASSWORD)
    place.create()
    kinds: tuple[ObjectKind, ...] = ("keys", "config")
    for kind in kinds:
        for name, _ in made.list(kind):
            place.save(kind, name, made.load(kind, name))


def _night(cloud: Cloud, phone: Path, state: State) -> None:
    with closing(cloud.patient()) as place:
        plan = RunPlan(
            sources=[SourceSpec(name="phone", path=phone)], typed={"phone"}, known_names={"phone"}, destination=place,
            destination_name="cloud", password=Secret(PASSWORD), state=state, host="laptop",
        )  # fmt: skip
        _, code = run(plan, Progress())
        assert code == 0
