"""rclone as a server of our own: started for a run, spoken to with a password of that run, always stopped, and its errors in our words."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from backup_tool.config import DestinationSpec
from backup_tool.destinations import open_destination
from backup_tool.destinations.rclone import RcloneDestination, clean
from backup_tool.errors import NoSpace, ObjectMissing, SignInNeeded, Unreachable, UsageError
from tests.destinations.servers import installed, rclones
from tests.destinations.test_rest import audio
from tests.generators.android import phone
from tests.parts import needs, needs_root
from tests.scenarios.world import PASSWORD, ROOT, World

DATA = random.Random(1).randbytes(5000)
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=list(rclones().values()), ids=list(rclones()))
def env(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """What a machine with one rclone has, which knows a remote "disk" at tmp_path / "disk"."""
    return machine(tmp_path, request.param())


def machine(folder: Path, program: str, more: str = "") -> dict[str, str]:
    (folder / "bin").mkdir()
    (folder / "bin" / "rclone").symlink_to(program)
    (folder / "disk").mkdir()
    (folder / "rclone.conf").write_text(f"[disk]\ntype = alias\nremote = {folder}/disk\n{more}")
    path = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(folder), "RCLONE_CONFIG": str(folder / "rclone.conf")}


@contextlib.contextmanager
def opened(env: dict[str, str], remote: str = "disk:archive") -> Iterator[RcloneDestination]:
    with contextlib.closing(RcloneDestination(remote, env=env)) as place:
        yield place


def servers(mark: Path) -> dict[int, str]:
    """The processes that run rclone for a folder, or mind one: their numbers and arguments."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode("utf-8", "replace")
            if f"{mark}/bin/rclone\0serve" in words:
                found[int(process.name)] = words
    return found


def gone_within(mark: Path, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while servers(mark):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_it_starts_for_the_first_request_and_ends_with_the_last(env: dict[str, str], tmp_path: Path) -> None:
    """Opening starts nothing; rclone runs from the first operation until the place is closed, and leaves nothing running."""
    with contextlib.closing(open_destination(DestinationSpec(name="x", type="rclone", place="disk:archive"))) as unused:
        assert unused.label == "rclone:disk:archive"
    with opened(env) as place:
        assert servers(tmp_path) == {}
        assert not place.exists()
        place.create()
        place.save("data", NAME, DATA)
        assert place.load("data", NAME, 100, 50) == DATA[100:150]
        assert len(servers(tmp_path)) == 2
    assert servers(tmp_path) == {}
    assert (tmp_path / "disk/archive/data" / NAME[:2] / NAME).read_bytes() == DATA


def test_nobody_else_may_ask_it(env: dict[str, str], tmp_path: Path) -> None:
    """rclone listens on this machine only, and answers nobody without the password of this run, which no list of processes shows."""
    with opened(env) as place:
        place.exists()
        address = place.client()._address
        assert address.host == "127.0.0.1"
        stranger = http.client.HTTPConnection("127.0.0.1", address.port, timeout=10)
        with contextlib.closing(stranger):
            stranger.request("GET", "/config")
            assert stranger.getresponse().status == 401
        shown = "".join(servers(tmp_path).values())
        assert address.password.reveal() not in shown
        assert address.user not in shown
        assert len(address.password.reveal()) >= 32


KEEPS = """
import os, sys, time
from backup_tool.destinations.rclone import RcloneDestination
place = RcloneDestination("disk:archive")
place.exists()
print("serving", flush=True)
"""


@contextlib.contextmanager
def another_run(env: dict[str, str], then: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has rclone running, and does something then."""
    command = [sys.executable, "-c", KEEPS + then]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("then", ["raise SystemExit(3)", "1 / 0", "os._exit(1)", "os.abort()"])
def test_it_ends_with_a_run_that_ends_anyhow(env: dict[str, str], tmp_path: Path, then: str) -> None:
    """However a run ends without tidying up, no rclone stays behind."""
    with another_run(env, then) as process:
        process.wait(30)
        assert gone_within(tmp_path, 5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_it_ends_with_a_run_that_is_killed(env: dict[str, str], tmp_path: Path, number: int) -> None:
    """Also after a kill that leaves no chance to tidy up, no rclone stays behind."""
    with another_run(env, "time.sleep(60)") as process:
        assert len(servers(tmp_path)) == 2
        process.send_signal(number)
        process.wait(10)
        assert gone_within(tmp_path, 5)


def test_an_rclone_that_dies_is_started_again(env: dict[str, str], tmp_path: Path) -> None:
    """Where rclone crashes, the next try has a new one."""
    with opened(env) as place:
        place.create()
        for number in servers(tmp_path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        end = time.monotonic() + 20
        while True:
            try:
                place.save("data", NAME, DATA)
                break
            except Unreachable:
                assert time.monotonic() < end
        assert place.load("data", NAME) == DATA
    assert gone_within(tmp_path, 1)


def test_it_ends_also_without_its_minder(env: dict[str, str], tmp_path: Path) -> None:
    """Where somebody kills the process between us and rclone, rclone is ended all the same."""
    with opened(env) as place:
        place.exists()
        (minder,) = [number for number, words in servers(tmp_path).items() if "minder" in words]
        os.kill(minder, signal.SIGKILL)
        time.sleep(0.2)
    assert gone_within(tmp_path, 1)


def test_settings_of_rclones_own_do_not_get_in_the_way(env: dict[str, str]) -> None:
    """Variables by which a person steers rclone elsewhere do not make it another server than the one we need."""
    steered = {
        "RCLONE_LOG_LEVEL": "ERROR",
        "RCLONE_ADDR": ":1",
        "RCLONE_BASEURL": "/x",
        "RCLONE_USE_JSON_LOG": "true",
        "RCLONE_APPEND_ONLY": "true",
    }
    with opened(env | steered) as place:
        place.create()
        place.save("data", NAME, DATA)
        place.remove("data", NAME)
        assert list(place.list("data")) == []


def test_a_missing_object_is_missing(env: dict[str, str]) -> None:
    """What is not there is told as everywhere, though rclone says so of other failures too."""
    with opened(env) as place:
        place.create()
        with pytest.raises(ObjectMissing):
            place.load("data", NAME)


# What it says


def test_a_remote_that_rclone_does_not_know(env: dict[str, str]) -> None:
    """A remote that was never set up is an error of usage, with the command that shows those that were."""
    with opened(env, "nowhere:archive") as place, pytest.raises(UsageError, match="knows no remote nowhere:") as caught:
        place.exists()
    assert "rclone listremotes" in caught.value.hint


@pytest.mark.parametrize("remote", ["archive", ":s3,secret_access_key=s3cret:bucket", "drive,token=s3cret:x", "", "a\nb:c"])
def test_what_is_no_remote_is_refused(remote: str) -> None:
    """A remote has a name in rclone's settings: options in its place would stand where everybody on this machine can read them."""
    with pytest.raises(UsageError, match="is not a remote") as caught:
        RcloneDestination(remote)
    assert "s3cret" not in caught.value.message


def test_no_rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rclone a person is told how to get it."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with opened({"PATH": str(tmp_path)}) as place, pytest.raises(UsageError, match="rclone is not installed") as caught:
        place.exists()
    assert "apt install rclone" in caught.value.hint


def test_settings_that_are_encrypted(env: dict[str, str], tmp_path: Path) -> None:
    """rclone's own settings may be encrypted: unattended it needs their password from its environment, and says so instead of asking."""
    (tmp_path / "rclone.conf").write_text("# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\n" + "A" * 120 + "\n")
    with opened(env) as place, pytest.raises(UsageError, match="settings are encrypted") as caught:
        place.exists()
    assert "RCLONE_PASSWORD_COMMAND" in caught.value.hint


class _Expired(BaseHTTPRequestHandler):
    """Where tokens are renewed, for somebody whose permission was taken back (RFC 6749, section 5.2)."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"error": "invalid_grant", "error_description": "Token has been expired or revoked."}'
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


def test_a_sign_in_that_has_expired(tmp_path: Path) -> None:
    """Where a service wants a person again, that is told with the command to type, and without any token."""
    with HTTPServer(("127.0.0.1", 0), _Expired) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        token = '{"access_token":"s3cret-access","token_type":"Bearer","refresh_token":"s3cret-refresh","expiry":"2020-01-01T00:00:00Z"}'
        settings = f"[drive]\ntype = drive\nclient_id = x\nclient_secret = s3cret\nroot_folder_id = abc\ntoken = {token}\n"
        env = machine(tmp_path, installed("rclone"), f"{settings}token_url = http://127.0.0.1:{service.server_port}/token\n")
        with (
            opened(env, "drive:Voice notes") as place,
            pytest.raises(SignInNeeded, match="rclone:drive:Voice notes wants you to sign in") as caught,
        ):
            place.exists()
        service.shutdown()
        thread.join()
    assert caught.value.hint == "type: rclone config reconnect drive:"
    assert "s3cret" not in caught.value.message
    assert len(caught.value.message) < 400


def test_a_service_that_is_away(tmp_path: Path) -> None:
    """Where rclone cannot reach its service, that is worth a retry, and its reason is told."""
    settings = "[away]\ntype = webdav\nurl = http://127.0.0.1:9/dav\nvendor = other\n"
    env = machine(tmp_path, installed("rclone"), settings) | {"RCLONE_LOW_LEVEL_RETRIES": "1"}
    with opened(env, "away:archive") as place, pytest.raises(Unreachable, match="connection refused"):
        place.exists()


def test_a_disk_that_is_full(env: dict[str, str], tmp_path: Path) -> None:
    """Where rclone finds no space left, the run ends with the exit code for it, and nothing half-stored counts as stored."""
    needs_root()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path / "disk")], check=True)
    try:
        with opened(env) as place:
            place.create()
            data = random.Random(2).randbytes(3_000_000)
            with pytest.raises(NoSpace, match="no space left at rclone:disk:archive"):
                place.save("data", hashlib.sha256(data).hexdigest(), data)
            place.save("data", NAME, DATA)
            assert place.load("data", NAME) == DATA
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('2026/11/21 17:36:35 CRITICAL: Failed to create file system for "x:": no', 'Failed to create file system for "x:": no'),
        ("2026/11/21 17:36:35 ERROR : data: bad token=s3cret&x=1", "data: bad token=***&x=1"),
        ('got {"refresh_token":"s3cret"}', 'got {"refresh_token":"***"}'),
        ('got {\\"access_token\\": \\"s3cret\\"}', 'got {\\"access_token\\": \\"***\\"}'),
        ("https://ann:s3cret@nas.example/x: 401", "https://***@nas.example/x: 401"),
        ("Authorization: Bearer s3cret", "Authorization: Bearer ***"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
    ],
)
def test_what_rclone_says_is_made_fit_to_be_shown(line: str, told: str) -> None:
    """Neither tokens nor control characters of its log reach a person's screen or mail."""
    assert clean(line) == told


# The whole way


def test_a_run_through_rclone(env: dict[str, str], tmp_path: Path) -> None:
    """A nightly run to a remote of rclone's leaves an archive that restic opens there, and everything comes back; no rclone stays."""
    needs("restic")
    world = World(tmp_path / "world")
    phone(tmp_path / "phone", notes=12)
    there = {**env, "HOME": str(tmp_path), "BACKUP_REPOSITORY": "rclone:disk:Voice notes"}
    world.backup("init", env=there)
    assert world.run(tmp_path / "phone", env=there)["new"] == 12
    assert world.run(tmp_path / "phone", env=there)["unchanged"] == 12
    world.backup("check", "--read-data", env=there)
    world.backup("restore", "--to", tmp_path / "ours", env=there)
    assert len(audio(tmp_path / "ours")) == 12
    assert audio(tmp_path / "ours") == audio(tmp_path / "phone")
    assert servers(tmp_path) == {}
    subprocess.run(
        ["restic", "--no-cache", "-r", tmp_path / "disk/Voice notes", "check", "--read-data"],
        env={**os.environ, "RESTIC_PASSWORD": PASSWORD}, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert not list((tmp_path / "disk/Voice notes/locks").iterdir())


def test_terminated_in_the_middle(env: dict[str, str], tmp_path: Path) -> None:
    """SIGTERM ends a run through rclone within five seconds, and rclone with it; the next run goes on, whatever lock was left."""
    world = World(tmp_path / "world")
    phone(tmp_path / "phone", notes=300)
    there = {**env, "HOME": str(tmp_path), "BACKUP_REPOSITORY": "rclone:disk:archive"}
    world.backup("init", env=there)
    process = world.start("run", tmp_path / "phone", env=there)
    locks = tmp_path / "disk/archive/locks"
    while not any(locks.iterdir()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    started = time.monotonic()
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 5
    assert process.returncode == 143, err
    assert gone_within(tmp_path, 1)
    assert world.run(tmp_path / "phone", env=there)["notes"] == 300
    assert not any(locks.iterdir())


def test_errors_have_their_exit_codes(env: dict[str, str], tmp_path: Path) -> None:
    """A remote that is not known is 2, a place without a repository 10."""
    world = World(tmp_path / "world")
    assert "knows no remote" in world.backup("list", "--repo", "rclone:nowhere:x", code=2, env=env).told
    world.backup("list", "--repo", "rclone:disk:nothing", code=10, env=env)
    assert not (tmp_path / "disk/nothing").exists()
