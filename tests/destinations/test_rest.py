"""Behind restic's REST protocol: addresses and passwords, servers that lie, refuse or never answer, other programs at the same servers."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import ipaddress
import os
import random
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from backup_tool.config import DestinationSpec
from backup_tool.destinations import http, open_destination
from backup_tool.destinations.http import Address
from backup_tool.destinations.rest import RestDestination
from backup_tool.errors import (
    BackupError,
    BadRange,
    DamagedObject,
    NoRepository,
    NoSpace,
    ObjectMissing,
    SignInNeeded,
    Unreachable,
    UsageError,
)
from backup_tool.models import Secret
from backup_tool.repository import Repository
from backup_tool.repository.check import check
from backup_tool.repository.objects import load_whole
from tests.destinations.servers import Rest, own_process, pyrestserver_serving, rclone_serving, rclones, serving
from tests.generators.android import phone
from tests.parts import needs
from tests.scenarios.world import PASSWORD, World

DATA = random.Random(1).randbytes(5000)
NAME = hashlib.sha256(DATA).hexdigest()
HIDDEN = "s3cret/pass:w@rd"


@contextlib.contextmanager
def opened(server: Rest, path: str = "") -> Iterator[RestDestination]:
    """A place at a server, which nothing is tried again at."""
    place = RestDestination(Address.parse(server.url + path))
    with contextlib.closing(place):
        yield place


@contextlib.contextmanager
def at(root: Path, *manners: str, stored: bool = True) -> Iterator[tuple[RestDestination, Rest]]:
    """A place with one pack and a config, whose server has these manners from then on."""
    with serving(root) as server, opened(server) as place:
        place.create()
        if stored:
            place.save("config", "config", b"sealed")
            place.save("data", NAME, DATA)
        server.manners = frozenset(manners)
        server.seen.clear()
        yield place, server


# Addresses, users and passwords


def test_an_address_is_shown_without_its_password() -> None:
    """A spec opens its place; whatever shows it, the password is not in it."""
    place = open_destination(DestinationSpec(name="nas", type="rest", place="https://ann:s3cret@nas.example:8000/voice notes"))
    assert place.label == "rest:https://ann@nas.example:8000/voice%20notes/"
    address = Address.parse("https://ann:s3cret@nas.example/x//y")
    assert (address.port, address.path, address.password.reveal()) == (443, "/x/y/", "s3cret")
    assert "s3cret" not in repr(address)
    assert Address.parse("http://[::1]:8000").label == "http://[::1]:8000/"


@pytest.mark.parametrize(
    "url",
    ["", "nas.example", "ftp://ann:s3cret@nas.example/", "https://", "https://ann:s3cret@nas.example:x/", "https://a:s3cret@h/?q=1", "https://ann:s3cret@h/#f",
     "https://ann:s3cret@ho\tst/", f"https://ann:s3cret@{'x' * 64}.example/", "https://ann:s3cret@[::1/"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    """An address that cannot be meant is an error of usage, told without its password."""
    with pytest.raises(UsageError, match="not the address of a server") as caught:
        open_destination(DestinationSpec(name="nas", type="rest", place=url))
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "host", ["nas.example", "192.168.1.20", "10.0.0.1", "128.0.0.1", "[fe80::1]", "localhost.example", "127.0.0.1.example"]
)
def test_nothing_leaves_this_machine_in_the_clear(host: str) -> None:
    """Without TLS only this machine itself is spoken to; the way out is told."""
    with pytest.raises(UsageError, match="for anyone to read") as caught:
        Address.parse(f"http://ann:s3cret@{host}:8000/")
    assert "ssh -L" in caught.value.hint
    assert "s3cret" not in caught.value.message


def test_the_user_and_password_of_the_address_sign_in(tmp_path: Path) -> None:
    """A password may hold any characters, percent-encoded; a wrong one is a matter for a person, and shown nowhere."""
    with serving(tmp_path, user="ann@home", password=HIDDEN) as server:
        given = server.url.replace("//", "//ann%40home:s3cret%2Fpass%3Aw%40rd@")
        with contextlib.closing(RestDestination(Address.parse(given))) as place:
            place.create()
            assert HIDDEN not in place.label
        for wrong in (server.url, given.replace("pass", "other")):
            with contextlib.closing(RestDestination(Address.parse(wrong))) as place, pytest.raises(SignInNeeded) as caught:
                place.exists()
            shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
            assert "s3cret" not in shown
            assert base64.b64encode(f"ann@home:{HIDDEN}".encode()).decode() not in shown


def test_the_environment_may_hold_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BACKUP_REST_USER and BACKUP_REST_PASSWORD sign in where the address names nobody; what the address says comes first."""
    monkeypatch.setenv("BACKUP_REST_USER", "ann")
    monkeypatch.setenv("BACKUP_REST_PASSWORD", HIDDEN)
    with serving(tmp_path, user="ann", password=HIDDEN) as server:
        with contextlib.closing(open_destination(DestinationSpec(name="nas", type="rest", place=server.url))) as place:
            assert not place.exists()
        ben = DestinationSpec(name="nas", type="rest", place=server.url.replace("//", "//ben:x@"))
        with contextlib.closing(open_destination(ben)) as place, pytest.raises(SignInNeeded):
            place.exists()
        users = [headers["Authorization"] for _, _, headers in server.seen]
    assert [base64.b64decode(user.split()[1]) for user in users] == [f"ann:{HIDDEN}".encode(), b"ben:x"]


def test_the_settings_say_where_the_password_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user and a password of the settings sign in, from a file or a program alike; they come before the environment's, and
    after a user in the address."""
    monkeypatch.setenv("BACKUP_REST_USER", "nobody")
    monkeypatch.setenv("BACKUP_REST_PASSWORD", "wrong")
    (tmp_path / "secret").write_text(HIDDEN + "\n")
    (tmp_path / "secret").chmod(0o600)
    with serving(tmp_path / "served", user="ann", password=HIDDEN) as server:
        sources: list[dict[str, object]] = [{"password_file": tmp_path / "secret"}, {"password_command": ("cat", str(tmp_path / "secret"))}]
        for place, user in ((server.url, {"user": "ann"}), (server.url.replace("//", "//ann@"), {"user": "other"})):
            for source in sources:
                spec = DestinationSpec(name="nas", type="rest", place=place, options={**user, **source})
                with contextlib.closing(open_destination(spec)) as opened_place:
                    assert not opened_place.exists()
        (tmp_path / "secret").chmod(0o644)
        spec = DestinationSpec(name="nas", type="rest", place=server.url, options=sources[0])
        with contextlib.closing(open_destination(spec)) as opened_place, pytest.raises(UsageError, match="others may read"):
            opened_place.exists()


def test_a_night_with_the_password_from_the_settings(tmp_path: Path) -> None:
    """With a user and a password file in the settings a run needs nothing else, and nothing that is shown holds the password."""
    world = World(tmp_path)
    phone(tmp_path / "phone", notes=3)
    (tmp_path / "nas").write_text(HIDDEN)
    (tmp_path / "nas").chmod(0o600)
    with serving(tmp_path / "served", user="ann", password=HIDDEN) as server:
        world.configure(f'[destinations.nas]\ntype = "rest"\nurl = "{server.url}"\nuser = "ann"\npassword_file = "nas"\n')
        here = {"BACKUP_REPOSITORY": None}
        world.backup("init", env=here)
        assert world.run("phone", env=here)["new"] == 3
        for words in (("config", "show"), ("list", "--debug"), ("check",)):
            ended = world.backup(*words, env=here)
            assert HIDDEN not in ended.text + ended.told


# Redirects


def test_redirects_on_the_same_server_are_followed(tmp_path: Path) -> None:
    """A server may send us to another of its addresses; a body is sent again from its start."""
    with at(tmp_path, "redirects", stored=False) as (place, server):
        place.save("data", NAME, DATA)
        assert place.load("data", NAME) == DATA
        assert ("POST", f"/data/{NAME}?again") in [(method, path) for method, path, _ in server.seen]


def test_redirects_end(tmp_path: Path) -> None:
    """A server that sends us in circles is left after three rounds."""
    with at(tmp_path, "circles") as (place, server):
        with pytest.raises(BackupError, match="in circles"):
            place.exists()
        assert len(server.seen) == 4


def test_no_redirect_leads_to_another_server(tmp_path: Path) -> None:
    """Neither a password nor anything stored is given to a server that was not named."""
    with serving(tmp_path / "other") as other, at(tmp_path, "elsewhere") as (place, server):
        server.elsewhere = other.url
        for action in (place.exists, lambda: place.save("data", "0" * 64, b"x"), lambda: list(place.list("data"))):
            with pytest.raises(BackupError, match="another address"):
                action()
        server.elsewhere = other.url.replace("127.0.0.1", "ann:s3cret@backup.example")
        with pytest.raises(BackupError) as caught:
            place.exists()
        assert "s3cret" not in caught.value.message
        assert other.seen == []


# Servers that are wrong


@pytest.mark.parametrize("manner", ["empty-ranges", "other-ranges"])
def test_wrong_parts_are_not_believed(tmp_path: Path, manner: str) -> None:
    """206 with nothing, or with another part than the one that was asked for, is never passed off as the bytes."""
    with at(tmp_path, manner) as (place, _):
        with pytest.raises(Unreachable, match="sent 0 bytes of 50"):
            place.load("data", NAME, 100, 50)
        with pytest.raises(BadRange):
            place.load("data", NAME, 4990, 50)


def test_servers_without_ranges_do(tmp_path: Path) -> None:
    """Where a server sends the whole object instead of a part, the part is cut out of it."""
    with at(tmp_path, "no-ranges") as (place, _):
        assert place.load("data", NAME, 100, 50) == DATA[100:150]
        assert place.load("data", NAME, 4000) == DATA[4000:]
        assert place.load("data", NAME, 0, 1) == DATA[:1]
        with pytest.raises(BadRange):
            place.load("data", NAME, 4990, 11)


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_cut_uploads_do_not_count_as_stored(tmp_path: Path, size: int) -> None:
    """A server that says "stored" of half an object is not believed; once it is well, the whole takes the place of the half."""
    data = random.Random(size).randbytes(size)
    with at(tmp_path, "cut-bodies", "unverified") as (place, server):
        name = hashlib.sha256(data).hexdigest()
        with pytest.raises(Unreachable, match="did not store what it was sent"):
            place.save("data", name, data)
        server.manners = frozenset()
        place.save("data", name, data)
        assert place.load("data", name) == data


def test_wrong_bytes_are_noticed(tmp_path: Path) -> None:
    """A small object that comes back otherwise than it was sent does not count as stored, and whatever is read is held against its name."""
    with at(tmp_path, "wrong-bytes") as (place, _):
        with pytest.raises(Unreachable, match="did not store"):
            place.save("index", hashlib.sha256(b"x").hexdigest(), b"x")
        with pytest.raises(DamagedObject):
            load_whole(place, "data", NAME, len(DATA), 10_000)


def test_servers_of_the_first_version_do(tmp_path: Path) -> None:
    """Where listings tell no sizes, each object is asked for its own."""
    with at(tmp_path, "version-1") as (place, _):
        place.save("data", hashlib.sha256(b"other").hexdigest(), b"other")
        assert sorted(size for _, size in place.list("data")) == [5, 5000]
        assert list(place.list("snapshots")) == []


@pytest.mark.parametrize("manner", ["endless", "garbage"])
def test_listings_that_are_none_raise(tmp_path: Path, manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that is no list, or has no end, is an error: nothing is concluded from part of it."""
    monkeypatch.setattr("backup_tool.destinations.rest._MAX_LISTING", 2**20)
    with at(tmp_path, manner) as (place, _), pytest.raises(BackupError, match=r"gave no list|more than 1,048,576 bytes"):
        list(place.list("data"))


def test_foreign_files_are_not_listed(tmp_path: Path) -> None:
    """What is no object is passed over in silence."""
    with at(tmp_path) as (place, _):
        (tmp_path / "keys" / ".DS_Store").write_bytes(b"x")
        (tmp_path / "data" / NAME[:2] / f"{NAME}.part").write_bytes(b"x")
        assert list(place.list("keys")) == []
        assert list(place.list("data")) == [(NAME, 5000)]


def test_an_object_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is taken into memory than an object can have."""
    with at(tmp_path) as (place, _):
        monkeypatch.setattr("backup_tool.destinations.remote._MAX_OBJECT", 4999)
        with pytest.raises(BackupError, match="more than 4,999 bytes"):
            place.load("data", NAME)


# Servers that refuse


def test_a_full_server_is_told_as_such(tmp_path: Path) -> None:
    """No room, and no room for an object of that size, end the run with the exit code for it, also when told in the middle of a body."""
    big = bytes(24 * 2**20)
    with at(tmp_path, "full") as (place, server):
        with pytest.raises(NoSpace, match="no space left"):
            place.save("data", "0" * 64, big)
        server.manners = frozenset(["small"])
        with pytest.raises(NoSpace, match="takes no objects of this size"):
            place.save("data", "0" * 64, b"x")


def test_an_append_only_server_lets_locks_go(tmp_path: Path) -> None:
    """On a server where nothing may be removed a run stores and takes its locks away; that other things stay is told."""
    with at(tmp_path, "append-only") as (place, _):
        place.save("locks", hashlib.sha256(b"lock").hexdigest(), b"lock")
        place.remove("locks", hashlib.sha256(b"lock").hexdigest())
        assert list(place.list("locks")) == []
        with pytest.raises(BackupError, match="append-only") as caught:
            place.remove("data", NAME)
        assert type(caught.value) is BackupError
        place.save("data", hashlib.sha256(b"more").hexdigest(), b"more")
        assert len(list(place.list("data"))) == 2


def test_a_server_that_says_no_is_not_asked_again(tmp_path: Path) -> None:
    """An object whose hash the server finds wrong is refused for good, and not there."""
    with at(tmp_path) as (place, _):
        with pytest.raises(BackupError, match=r"answered POST with 400 \(bad request\)") as caught:
            place.save("data", "0" * 64, b"x")
        assert not isinstance(caught.value, Unreachable)
        with pytest.raises(ObjectMissing):
            place.size("data", "0" * 64)


def test_a_repository_that_is_gone_is_not_an_empty_one(tmp_path: Path) -> None:
    """Where the server's disk is not mounted any more, nothing is concluded from what is missing."""
    with at(tmp_path / "disk") as (place, _):
        assert place.exists()
        (tmp_path / "disk").rename(tmp_path / "unplugged")
        for action in (lambda: list(place.list("data")), lambda: place.load("data", NAME), lambda: place.size("data", NAME)):
            with pytest.raises(NoRepository):
                action()


# Times


def test_an_age_is_by_the_servers_clock(tmp_path: Path) -> None:
    """How old a lock is does not depend on this machine's clock."""
    with at(tmp_path, "dated") as (place, _):
        assert place.age("data", NAME) == 3600


def test_without_times_an_age_is_never_too_high(tmp_path: Path) -> None:
    """Where a server tells no times, an object is as old as we know it: a lock is never taken for older than it is."""
    with at(tmp_path, "no-times") as (place, _):
        assert place.age("data", NAME) == 0
        time.sleep(0.05)
        assert 0.05 <= place.age("data", NAME) < 5


# Silence


def test_nobody_there(tmp_path: Path) -> None:
    """A port where nobody listens is worth a retry."""
    with serving(tmp_path) as server:
        url = server.url
    with contextlib.closing(RestDestination(Address.parse(url))) as place, pytest.raises(Unreachable, match="refused"):
        place.exists()


def test_a_silent_server_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two minutes (here half a second) without a byte are enough."""
    monkeypatch.setattr(http, "STALL_SECONDS", 0.5)
    with serving(tmp_path, "silent") as server, opened(server) as place, pytest.raises(Unreachable, match="in time"):
        place.exists()


@contextlib.contextmanager
def dripping(start: bytes) -> Iterator[Address]:
    """A server that says a little for ever, so that it is never silent."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(start)
                while not over.wait(0.02):
                    connection.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address.parse(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
def test_a_server_that_drips_is_cut_off(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request has an end even where the server sends a byte now and then, in its headers or its body."""
    monkeypatch.setattr(http, "LONGEST_SECONDS", 0.5)
    monkeypatch.setattr(http, "SLOWEST", 2**40)
    with dripping(start) as address, contextlib.closing(http.HttpClient(address, "the server")) as client:
        started = time.monotonic()
        with pytest.raises(Unreachable), client.request("GET", "config") as reply:
            reply.read(10**7)
        assert time.monotonic() - started < 5


def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    """A run that is cancelled does not wait for requests of other threads: they fail at once."""
    with serving(tmp_path, "silent") as server, opened(server) as place:
        caught: list[BackupError] = []

        def ask() -> None:
            try:
                place.exists()
            except BackupError as error:
                caught.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not server.seen:
            time.sleep(0.01)
        started = time.monotonic()
        place.close()
        thread.join(10)
        assert time.monotonic() - started < 5
        assert isinstance(caught[0], Unreachable)
        with pytest.raises(Unreachable, match="closed"):
            place.exists()


@pytest.mark.parametrize(
    "said",
    [
        b"\x1b[2J nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"",
        b"HTTP/1.1 " + b"9" * 70_000,
        b"HTTP/1.1 200 OK\r\nDa",
    ],
)
def test_broken_answers_are_worth_a_retry(said: bytes) -> None:
    """What is no answer, or only part of one, is told in our words: nothing that a server says reaches a terminal."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        address = Address.parse(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        client = http.HttpClient(address, "the server")
        with pytest.raises(Unreachable) as caught, client.request("GET", "config") as reply:
            reply.read(1000)
        client.close()
        thread.join()
    assert caught.value.message.isprintable()
    assert "nonsense" not in caught.value.message


# TLS


def certificate(folder: Path, host: str) -> Path:
    """A file with a certificate of one's own for a host, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / f"{host}.pem"
    file.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize(
    ("host", "trusted", "works"), [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("nas.example", True, False)]
)
def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool, works: bool) -> None:
    """A server is believed only with a certificate for its own name, from an authority that this machine or SSL_CERT_FILE trusts."""
    file = certificate(tmp_path, host)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with serving(tmp_path / "served") as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with contextlib.closing(RestDestination(Address.parse(server.url.replace("http:", "https:")))) as place:
            if works:
                place.create()
                place.save("data", NAME, DATA)
                assert place.load("data", NAME) == DATA
                return
            with pytest.raises(BackupError, match=r"certificate .* is not trusted") as caught:
                place.exists()
    assert not isinstance(caught.value, Unreachable)
    assert "SSL_CERT_FILE" in caught.value.hint
    assert server.seen == []


# This machine


def test_what_grows_here_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a pack is sent it lies in a private file that no kill can leave behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with at(tmp_path / "served") as (place, _), place.draft("data") as draft:
        draft.write(bytes(100_000))
        assert os.listdir(tmp_path / "temporary") == []
        draft.commit(hashlib.sha256(bytes(100_000)).hexdigest())
        assert len(list(place.list("data"))) == 2


def test_one_connection_serves_one_thread(tmp_path: Path) -> None:
    """Connections are kept: a hundred requests in a row do not sign in a hundred times."""
    with at(tmp_path) as (place, server):
        ports = set()
        accepted = server.process_request
        server.process_request = lambda request, client: (ports.add(client), accepted(request, client))[1]  # type: ignore[assignment, func-returns-value, method-assign]
        for _ in range(50):
            place.size("data", NAME)
            place.load("data", NAME, 10, 20)
    assert len(ports) <= 1


# Other programs at the same servers

Starter = Callable[[Path], AbstractContextManager[str]]


def _rclone(name: str) -> Starter:
    return lambda root: rclone_serving(rclones()[name](), root, root.parent / "rclone.conf")


STARTERS: dict[str, Starter] = {
    "ours": own_process,
    "ours, append-only": lambda root: own_process(root, "append-only"),
    "pyrestserver": lambda root: pyrestserver_serving(root, "--no-auth"),
    **{name: _rclone(name) for name in rclones()},
}


@pytest.fixture(params=list(STARTERS.values()), ids=list(STARTERS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty place at one of the servers."""
    (tmp_path / "served").mkdir()
    with request.param(tmp_path / "served") as address:
        yield f"{address}archive/"


def restic(url: str, *words: str, cwd: Path) -> str:
    done = subprocess.run(
        ["restic", "--no-cache", "-r", f"rest:{url}", *words],
        cwd=cwd, env={**os.environ, "RESTIC_PASSWORD": PASSWORD}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_restic_reads_what_we_wrote(url: str, tmp_path: Path) -> None:
    """A nightly run to a server leaves an archive there that restic checks and restores through the same server, and that we give back."""
    needs("restic")
    world = World(tmp_path)
    phone(tmp_path / "phone", notes=12)
    repo = {"BACKUP_REPOSITORY": f"rest:{url}"}
    world.backup("init", env=repo)
    assert world.run("phone", env=repo)["new"] == 12
    assert world.run("phone", env=repo)["unchanged"] == 12
    assert "no errors were found" in restic(url, "--no-lock", "check", "--read-data", cwd=tmp_path)
    restic(url, "--no-lock", "restore", "latest", "--target", "theirs", cwd=tmp_path)
    world.backup("restore", "--to", "ours", env=repo)
    theirs, ours, there = (audio(tmp_path / folder) for folder in ("theirs", "ours", "phone"))
    assert len(ours) == 12
    assert theirs == ours == there
    assert world.backup("check", "--read-data", env=repo).code == 0
    assert len(world.backup("list", "--json", env=repo).json) == 12


def audio(folder: Path) -> list[str]:
    """The hashes of all notes in a folder."""
    return sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*.opus") if file.is_file())


def test_we_read_what_restic_wrote(url: str, tmp_path: Path) -> None:
    """What restic stored through a server is checked and read by us through the same one."""
    needs("restic")
    (tmp_path / "files").mkdir()
    for number in range(5):
        (tmp_path / "files" / str(number)).write_bytes(random.Random(number).randbytes(300_000))
    restic(url, "init", cwd=tmp_path)
    restic(url, "backup", "files", cwd=tmp_path)
    with contextlib.closing(open_destination(DestinationSpec(name="x", type="rest", place=url))) as place:
        repository = Repository.open(place, Secret(PASSWORD))
        assert [finding for finding in check(repository, read_data=True) if finding.severity == "error"] == []
        assert len(list(place.list("snapshots"))) == 1


def test_many_notes_go_to_a_server_too(tmp_path: Path) -> None:
    """A run of more notes than one process takes on alone goes to a server as well, and comes back from it."""
    world = World(tmp_path)
    phone(tmp_path / "phone", notes=450)
    with own_process(tmp_path / "served") as url:
        (tmp_path / "served").mkdir()
        repo = {"BACKUP_REPOSITORY": f"rest:{url}"}
        world.backup("init", env=repo)
        assert world.run("phone", env=repo)["new"] == 450
        world.backup("restore", "--to", "ours", env=repo)
    assert audio(tmp_path / "ours") == audio(tmp_path / "phone")


def test_errors_have_their_exit_codes(tmp_path: Path) -> None:
    """Scripts can tell no repository (10), a sign-in (4), an address that cannot be (2) and a server that is full (14) from one another."""
    world = World(tmp_path)
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served", user="ann", password="right") as server:
        right = "rest:" + server.url.replace("//", "//ann:right@")
        assert "no repository at rest:http://ann" in world.backup("list", "--repo", right, code=10).told
        ended = world.backup("list", "--repo", right.replace("right", "s3cret"), code=4)
        assert "s3cret" not in ended.told
        world.backup("list", "--repo", "rest:http://backup.example/", code=2)
        server.manners = frozenset(["full"])
        world.backup("init", "--repo", right, code=14)


def test_terminated_while_waiting_for_a_server(tmp_path: Path) -> None:
    """SIGTERM ends a run within five seconds, also while it waits to try again at a server that is away."""
    world = World(tmp_path)
    with serving(tmp_path) as server:
        url = server.url
    process = world.start("list", "--repo", f"rest:{url}")
    time.sleep(2)
    assert process.poll() is None, "it tries again"
    started = time.monotonic()
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert time.monotonic() - started < 5
    assert b"Traceback" not in err
