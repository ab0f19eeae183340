"""In S3 buckets: addresses and keys, signatures, servers that lie or refuse, other programs at the same bucket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_tool.config import DestinationSpec
from backup_tool.destinations import http, open_destination
from backup_tool.destinations.limits import UploadLimit
from backup_tool.destinations.s3.destination import S3Destination, S3Place, find_keys
from backup_tool.destinations.s3.signing import S3Keys, encoded, signed
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
from tests.destinations import s3_servers
from tests.destinations.proxy import FAULTS, faulty
from tests.destinations.s3_servers import BUCKET, ENVIRONMENT, KEY, SECRET, SERVERS, Bucket, at, bucket
from tests.destinations.test_rest import audio
from tests.destinations.test_retry import SEEDS, Watch, patient, use
from tests.generators.android import phone
from tests.parts import needs
from tests.scenarios.world import PASSWORD, World

DATA = random.Random(1).randbytes(5000)
NAME = hashlib.sha256(DATA).hexdigest()
PACK = f"archive/data/{NAME[:2]}/{NAME}"
AMAZON, PARIS = "s3.amazonaws.com", "s3.eu-west-3.amazonaws.com"


def named(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def stored(*manners: str) -> Iterator[tuple[S3Destination, Bucket]]:
    """A place with one pack and a config, whose server has these manners from then on."""
    with bucket() as server, contextlib.closing(at(server.url)) as place:
        place.create()
        place.save("config", "config", b"sealed")
        place.save("data", NAME, DATA)
        server.manners = frozenset(manners)
        server.seen.clear()
        yield place, server


# Addresses


@pytest.mark.parametrize(
    ("place", "options", "env", "authority", "path", "prefix", "region", "label"),
    [
        ("https://s3.x.org:9000/notes/a/b/", {}, {}, "s3.x.org:9000", "/notes/", "a/b/", "us-east-1", "s3.x.org:9000/notes/a/b"),
        ("s3.example.org/notes", {}, {}, "s3.example.org", "/notes/", "", "us-east-1", "s3.example.org/notes"),
        ("//s3.example.org/notes//x/./y", {}, {}, "s3.example.org", "/notes/", "x/y/", "us-east-1", "s3.example.org/notes/x/y"),
        ("https://h/notes/my%20notes", {}, {}, "h", "/notes/", "my notes/", "us-east-1", "h/notes/my%20notes"),
        ("h/notes/100%", {}, {}, "h", "/notes/", "100%/", "us-east-1", "h/notes/100%25"),
        (f"{AMAZON}/notes/x", {}, {}, f"notes.{AMAZON}", "/", "x/", "us-east-1", f"{AMAZON}/notes/x"),
        (f"{AMAZON}/notes", {"region": "eu-west-3"}, {}, f"notes.{PARIS}", "/", "", "eu-west-3", f"{AMAZON}/notes"),
        (f"{PARIS}/no.tes", {}, {"AWS_REGION": "us-west-1"}, PARIS, "/no.tes/", "", "eu-west-3", f"{PARIS}/no.tes"),
        ("s3.fr-par.x.org/notes", {"path_style": False}, {}, "notes.s3.fr-par.x.org", "/", "", "fr-par", "s3.fr-par.x.org/notes"),
        ("https://[::1]:3900/notes", {"region": "garage"}, {}, "[::1]:3900", "/notes/", "", "garage", "[::1]:3900/notes"),
        ("h/notes", {}, {"AWS_REGION": "eu-1", "AWS_DEFAULT_REGION": "eu-2"}, "h", "/notes/", "", "eu-1", "h/notes"),
        ("h/notes", {}, {"AWS_DEFAULT_REGION": "eu-2"}, "h", "/notes/", "", "eu-2", "h/notes"),
    ],
)  # fmt: skip
def test_a_bucket_is_named_as_restic_names_it(
    place: str, options: dict[str, Any], env: dict[str, str], authority: str, path: str, prefix: str, region: str, label: str
) -> None:
    """All of restic's spellings name a bucket and a prefix; one place has one label, however it was written."""
    found = S3Place.parse(place, options, env)
    assert (found.address.authority, found.address.path, found.prefix, found.region) == (authority, path, prefix, region)
    assert found.label == f"s3:https://{label}"
    assert S3Place.parse(found.label.removeprefix("s3:"), options, env).label == found.label


@pytest.mark.parametrize(
    "place",
    ["", "https://h", "https://h/", "h/..", "h/notes/../x", "ftp://h/notes", "https:///notes", "https://h/no tes", "https://h:x/notes",
     "h/notes?x=1", "h/notes#x", "https://h/x", "https://[::1/notes", "h/not\tes"],
)  # fmt: skip
def test_what_is_no_bucket_is_refused(place: str) -> None:
    """An address that cannot be meant is an error of usage."""
    with pytest.raises(UsageError, match="not the address of a bucket"):
        S3Place.parse(place, {}, {})


def test_keys_are_no_part_of_an_address() -> None:
    """Whoever writes a key into the address is told where it belongs, and it is not repeated."""
    with pytest.raises(UsageError, match="no part of the address") as caught:
        S3Place.parse(f"https://{KEY}:s3cret@h/notes", {}, {})
    assert "s3cret" not in caught.value.message + caught.value.hint


def test_nothing_leaves_this_machine_in_the_clear() -> None:
    """http:// to another machine takes a setting that says so."""
    with pytest.raises(UsageError, match="would let anyone on the way") as caught:
        S3Place.parse("http://nas.example:9000/notes", {}, {})
    assert "allow_http = true" in caught.value.hint
    assert S3Place.parse("http://nas.example:9000/notes", {"allow_http": True}, {}).address.authority == "nas.example:9000"
    assert S3Place.parse("http://127.0.0.1:9000/notes", {}, {}).address.authority == "127.0.0.1:9000"


def test_a_region_is_a_word() -> None:
    """What cannot be a region never gets into a request."""
    with pytest.raises(UsageError, match="is no region"):
        S3Place.parse("h/notes", {}, {"AWS_REGION": "eu\r\nX: y"})


# Keys


def test_keys_come_from_the_settings_then_the_environment(tmp_path: Path) -> None:
    """What a destination's own settings say comes before Amazon's variables, which may be there for something else; a token belongs to the
    key beside it."""
    (tmp_path / "secret").write_text("of settings\n")
    (tmp_path / "secret").chmod(0o600)
    env = {**ENVIRONMENT, "AWS_SESSION_TOKEN": "token"}
    whole = find_keys({"access_key_id": "AKIAOTHER", "password_file": tmp_path / "secret"}, env)
    assert (whole.access_key_id, whole.secret.reveal(), whole.token.reveal()) == ("AKIAOTHER", "of settings", "")
    printed = find_keys({"access_key_id": "AKIAOTHER", "password_command": ("echo", "printed")}, env)
    assert printed.secret.reveal() == "printed"
    given = find_keys({}, env)
    assert (given.access_key_id, given.secret.reveal(), given.token.reveal()) == (KEY, SECRET, "token")
    assert SECRET not in repr(given)
    assert "token" not in repr(given).replace("token=***", "")


@pytest.mark.parametrize(
    "env", [{}, {"AWS_SECRET_ACCESS_KEY": "x"}, {"AWS_ACCESS_KEY_ID": KEY}, {**ENVIRONMENT, "AWS_ACCESS_KEY_ID": "a b"}]
)
def test_without_a_key_nothing_is_asked(env: dict[str, str]) -> None:
    """A key or secret that is missing is told with the settings and variables that hold it."""
    with pytest.raises(UsageError, match="there is no") as caught:
        find_keys({}, env)
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.hint


def test_a_wrong_key_is_told_and_never_shown(tmp_path: Path) -> None:
    """A wrong secret, or a key that nobody knows, is a matter for a person; neither error nor traceback holds the secret."""
    with s3_servers.rclone_s3(tmp_path / "buckets") as url:
        for place in (
            at(url, secret="s3cret-wrong"),
            S3Destination(S3Place.parse(f"{url}{BUCKET}/x", {}, {}), lambda: S3Keys("AKIANOBODY", Secret("x"))),
        ):
            with contextlib.closing(place), pytest.raises(SignInNeeded, match="does not accept the access key") as caught:
                place.exists()
            assert "s3cret" not in "".join(traceback.format_exception(caught.value))


# Signatures


@pytest.mark.parametrize(
    ("target", "headers", "signature"),
    [
        ("/test.txt", {"Range": "bytes=0-9"}, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("/?max-keys=2&prefix=J", {}, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_the_published_examples_are_signed_as_published(target: str, headers: dict[str, str], signature: str) -> None:
    """The examples of Amazon's documentation ("Signature Calculations for the Authorization Header") come out exactly."""
    keys = S3Keys("AKIAIOSFODNN7EXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
    given = {"Host": "examplebucket.s3.amazonaws.com", **headers}
    made = signed(keys, "us-east-1", "GET", target, given, now=datetime(2013, 5, 24, tzinfo=UTC))
    assert made["Authorization"].endswith(f"Signature={signature}")


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(key=WORDS, prefix=WORDS, secret=WORDS, token=WORDS | st.just(""), method=st.sampled_from(["GET", "PUT", "DELETE"]))
def test_amazons_own_client_signs_alike(key: str, prefix: str, secret: str, token: str, method: str) -> None:
    """Whatever a key or prefix is called, the signature is the one that Amazon's client for Python makes."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    target = f"/{BUCKET}/{encoded(key, '/')}?list-type=2&prefix={encoded(prefix)}"
    headers = {"Host": "h:9000", "Content-MD5": "x", "If-None-Match": "*"}
    token = "".join(c for c in token if c.isprintable() and c.isascii()).strip()
    ours = signed(S3Keys(KEY, Secret(secret), Secret(token)), "eu-1", method, target, headers)
    theirs = AWSRequest(method, f"http://h:9000{target}", headers={**headers, "X-Amz-Content-Sha256": "x"}, data=b"")
    theirs.context["timestamp"] = ours["X-Amz-Date"]
    signer = S3SigV4Auth(Credentials(KEY, secret, token or None), "s3", "eu-1")
    theirs.headers["X-Amz-Date"] = ours["X-Amz-Date"]
    if token:
        theirs.headers["X-Amz-Security-Token"] = token
    del theirs.headers["X-Amz-Content-Sha256"]
    theirs.headers["X-Amz-Content-SHA256"] = ours["X-Amz-Content-Sha256"]
    assert ours["Authorization"].endswith(signer.signature(signer.string_to_sign(theirs, signer.canonical_request(theirs)), theirs))


# Servers that are wrong


@pytest.mark.parametrize("manner", ["empty-ranges", "other-ranges"])
def test_wrong_parts_are_not_believed(manner: str) -> None:
    """206 with nothing, or with another part than the one that was asked for, is never passed off as the bytes."""
    with stored(manner) as (place, _):
        with pytest.raises(Unreachable, match="sent 0 bytes of 50"):
            place.load("data", NAME, 100, 50)
        with pytest.raises(BadRange):
            place.load("data", NAME, 4990, 50)


def test_servers_without_ranges_do() -> None:
    """Where a server sends the whole object instead of a part, the part is cut out of it."""
    with stored("no-ranges") as (place, _):
        assert place.load("data", NAME, 100, 50) == DATA[100:150]
        with pytest.raises(BadRange):
            place.load("data", NAME, 4990, 11)


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_cut_uploads_do_not_count_as_stored(size: int) -> None:
    """A server that says "stored" of half an object is not believed; once it is well, the whole takes the place of the half."""
    data = random.Random(size).randbytes(size)
    with stored("cut-bodies") as (place, server):
        with pytest.raises(Unreachable, match="did not store what it was sent"):
            place.save("data", named(data), data)
        server.manners = frozenset()
        place.save("data", named(data), data)
        assert place.load("data", named(data)) == data


def test_wrong_bytes_are_noticed() -> None:
    """A small object that comes back otherwise than it was sent does not count as stored, and whatever is read is held against its name."""
    with stored("wrong-bytes") as (place, _):
        with pytest.raises(Unreachable, match="did not store"):
            place.save("index", named(b"x"), b"x")
        with pytest.raises(DamagedObject):
            load_whole(place, "data", NAME, len(DATA), 10_000)


@pytest.mark.parametrize("manner", ["same-page", "no-next-page", "garbage", "declares", "deep", "huge"])
def test_listings_that_are_none_raise(manner: str) -> None:
    """A listing that is no list, has no end, or would grow in memory is an error: nothing is concluded from part of it."""
    with stored(manner) as (place, server):
        server.page = 1
        with pytest.raises(BackupError, match=r"gave no list|without end|more than 8,388,608 bytes") as caught:
            list(place.list("data"))
        assert not isinstance(caught.value, ObjectMissing)
        assert len(server.seen) < 10


@pytest.mark.parametrize("manners", [[], ["plain-keys"]])
def test_listings_of_many_pages_are_complete(manners: list[str]) -> None:
    """However few objects a server tells at once, each is listed once with its size, and nothing that is none of ours."""
    prefix = "a+b c/ü<&>"
    with bucket(*manners) as server, contextlib.closing(at(server.url, prefix=prefix.replace(" ", "%20"))) as place:
        place.create()
        place.save("config", "config", b"x")
        names = {named(bytes([number])): number + 1 for number in range(25)}
        for name, size in names.items():
            server.objects[f"{prefix}/data/{name[:2]}/{name}"] = (bytes(size), 0.0)
        for foreign in (
            f"data/{NAME}",
            f"data/{NAME[:2]}/x/{NAME}",
            f"data/00/{NAME}",
            "data/.DS_Store",
            f"locks/{NAME}",
            f"data/{NAME[:2]}/{NAME}.tmp",
        ):
            server.objects[f"{prefix}/{foreign}"] = (b"foreign", 0.0)
        server.page = 4
        listed = list(place.list("data"))
        assert len(listed) == 25
        assert dict(listed) == names
        assert list(place.list("locks")) == [(NAME, 7)]


# Conditions


def pieces_sent(server: Bucket) -> list[str | None]:
    """The condition of each upload so far."""
    return [headers.get("If-None-Match") for method, _, headers in server.seen if method == "PUT"]


def test_nothing_is_replaced_unasked() -> None:
    """What another machine stored in the same moment stays, and counts as stored if it is whole."""
    with stored("race") as (place, server):
        place.save("data", named(b"other"), b"other")
        assert pieces_sent(server) == ["*"]
        server.objects[PACK] = (DATA[:10], 0.0)
        place.save("data", NAME, DATA)
        assert pieces_sent(server) == ["*", None]
        assert server.objects[PACK][0] == DATA


def test_services_without_conditions_do() -> None:
    """Where a service knows no conditions, or passes over them, objects are stored all the same."""
    for manner, sent in (("no-conditions", ["*", None, None]), ("ignores-conditions", ["*", "*"])):
        with stored(manner) as (place, server):
            for data in (b"one", b"two"):
                place.save("index", named(data), data)
                assert place.load("index", named(data)) == data
            assert pieces_sent(server) == sent


# Services that refuse

EUROPE = {"x-amz-bucket-region": "eu-1"}


@pytest.mark.parametrize(
    ("status", "code", "headers", "kind", "says"),
    [
        (403, "InvalidAccessKeyId", {}, SignInNeeded, "does not accept the access key"),
        (403, "SignatureDoesNotMatch", {}, SignInNeeded, "does not accept the access key"),
        (400, "ExpiredToken", {}, SignInNeeded, "has expired"),
        (403, "AccessDenied", {}, BackupError, "does not allow this access key"),
        (404, "NoSuchBucket", {}, NoRepository, "there is no bucket voices"),
        (403, "QuotaExceeded", {}, NoSpace, "no space left"),
        (507, "XMinioStorageFull", {}, NoSpace, "no space left"),
        (400, "EntityTooLarge", {}, NoSpace, "takes no objects of this size"),
        (301, "PermanentRedirect", EUROPE, UsageError, "is in region eu-1, not us-east-1"),
        (400, "AuthorizationHeaderMalformed", EUROPE, UsageError, "is in region eu-1, not us-east-1"),
        (301, "PermanentRedirect", {}, UsageError, "another address"),
        (307, "TemporaryRedirect", {"Location": "https://other.example/"}, UsageError, "another address"),
        (403, "RequestTimeTooSkewed", {"Date": "Sat, 01 Jan 2022 00:00:00 GMT"}, BackupError, r"clock is wrong by about \d{6,} minutes"),
        (503, "SlowDown", {}, Unreachable, r"503 \(service unavailable\): SlowDown"),
        (400, "RequestTimeout", {}, Unreachable, "RequestTimeout"),
        (409, "OperationAborted", {}, Unreachable, "OperationAborted"),
        (400, "BadDigest", {}, Unreachable, "BadDigest"),
        (429, "", {}, Unreachable, "429"),
        (500, "InternalError", {}, Unreachable, "InternalError"),
        (403, "InvalidObjectState", {}, BackupError, "cold storage"),
        (418, "Teapot", {}, BackupError, "418 .*: Teapot"),
        (401, "", {}, SignInNeeded, "does not accept"),
    ],
)
def test_refusals_are_told_in_our_words(status: int, code: str, headers: dict[str, str], kind: type[BackupError], says: str) -> None:
    """What a service answers becomes the right error, with what to do, and none of the service's own text reaches a terminal."""
    with stored() as (place, server):
        server.refusal = (status, code, headers)
        with pytest.raises(kind, match=says) as caught:
            list(place.list("keys"))
        assert type(caught.value) is kind
        assert "told by the server" not in caught.value.message
        assert caught.value.message.isprintable()
        for action in (lambda: place.save("data", "0" * 64, b"x"), lambda: place.remove("data", NAME), lambda: place.load("data", NAME)):
            with pytest.raises(kind) as again:
                action()
            assert type(again.value) is kind


def test_a_busy_service_says_when_to_come_back() -> None:
    """How long a service asks to be left alone is passed on to whoever tries again."""
    with stored() as (place, server):
        server.refusal = (503, "SlowDown", {"Retry-After": "7"})
        with pytest.raises(Unreachable) as caught:
            place.load("data", NAME)
        assert caught.value.retry_after == 7


def test_a_key_that_may_not_remove_is_told_so() -> None:
    """Where only locks may be removed, the attempt to remove anything else says what kind of key it takes."""
    with stored() as (place, server):
        server.refusal = (403, "AccessDenied", {})
        with pytest.raises(BackupError, match="does not let this access key remove objects"):
            place.remove("data", NAME)


def test_no_redirect_is_followed() -> None:
    """Nothing is asked of a server that was not named."""
    with bucket() as other, stored("elsewhere") as (place, server):
        server.elsewhere = other.url
        for action in (place.exists, lambda: place.save("data", "0" * 64, b"x"), lambda: list(place.list("data"))):
            with pytest.raises(UsageError, match="another address"):
                action()
        assert other.seen == []


def test_a_bucket_is_not_made() -> None:
    """A bucket that is not there is told, not made: a typing mistake makes none, and its owner decides what it keeps."""
    with bucket() as server, contextlib.closing(at(server.url, bucket="vioces")) as place:
        with pytest.raises(NoRepository, match="there is no bucket vioces"):
            place.create()
        assert not place.exists()


def test_a_repository_that_is_gone_is_not_an_empty_one() -> None:
    """Where the bucket is empty that held a repository, nothing is concluded from what is missing."""
    with stored() as (place, server):
        assert place.exists()
        server.objects.clear()
        for action in (lambda: list(place.list("data")), lambda: place.load("data", NAME), lambda: place.size("data", NAME)):
            with pytest.raises(NoRepository):
                action()


def test_an_age_is_by_the_services_clock() -> None:
    """How old a lock is does not depend on this machine's clock."""
    with stored("dated") as (place, _):
        assert place.age("data", NAME) == 3600


# The network


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_on_a_bad_network(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two requests of five spoiled on the way nothing is lost, and nothing is wrong."""
    monkeypatch.setattr(http, "STALL_SECONDS", 0.5)
    with bucket() as server, faulty(server.url, seed, 0.4) as proxy, contextlib.closing(patient(at(proxy.url), Watch())) as place:
        use(place, tmp_path, seed)
    assert {fault for fault, _ in proxy.faults} == set(FAULTS)


def test_few_requests_are_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one request of ten spoiled, at most three of ten are needed more than on a good network."""
    monkeypatch.setattr(http, "STALL_SECONDS", 0.5)
    counts = []
    for rate in (0.0, 0.1):
        requests = 0
        for seed in (11, 12, 13, 14):
            with bucket() as server, faulty(server.url, seed, rate) as proxy, contextlib.closing(patient(at(proxy.url), Watch())) as place:
                use(place, tmp_path, seed)
                requests += proxy.requests
        counts.append(requests)
    assert 1 < counts[1] / counts[0] <= 1.3, counts


def test_an_upload_is_as_slow_as_it_should_be() -> None:
    """A limit of 400 kB a second is kept on the wire, within an object too."""
    data = random.Random(4).randbytes(400_000)
    with bucket() as server:
        place = S3Destination(
            S3Place.parse(f"{server.url}{BUCKET}", {}, {}), lambda: S3Keys(KEY, Secret(SECRET)), limit=UploadLimit(400_000)
        )
        place.create()
        started = time.monotonic()
        place.save("config", "config", data)
        assert time.monotonic() - started > 0.7
        place.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_service_that_is_silent_holds_nobody(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM end a run within seconds, also while it waits for a service that never answers."""
    world = World(tmp_path)
    with bucket("silent") as server:
        process = world.start("list", "--repo", f"s3:{server.url}{BUCKET}", env=ENVIRONMENT)
        while not server.seen:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert b"Traceback" not in err


# This machine


def test_what_grows_here_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a pack is sent it lies in a private file that no kill can leave behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with stored() as (place, server), place.draft("data") as draft:
        draft.write(bytes(100_000))
        assert os.listdir(tmp_path) == []
        draft.commit(named(bytes(100_000)))
        assert len(server.objects) == 3


# Other programs at the same buckets


@pytest.fixture(params=list(SERVERS.values()), ids=list(SERVERS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A server with an empty bucket."""
    with request.param(tmp_path / "buckets") as address:
        yield address


def restic(url: str, *words: str, cwd: Path) -> str:
    done = subprocess.run(
        ["restic", "--no-cache", "-r", f"s3:{url}{BUCKET}/archive", *words],
        cwd=cwd, env={**os.environ, **ENVIRONMENT, "RESTIC_PASSWORD": PASSWORD}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_restic_reads_what_we_wrote(url: str, tmp_path: Path) -> None:
    """A nightly run to a bucket leaves an archive there that restic checks and restores from the same bucket, and that we give back."""
    needs("restic")
    world = World(tmp_path)
    phone(tmp_path / "phone", notes=12)
    repo = {"BACKUP_REPOSITORY": f"s3:{url}{BUCKET}/archive", **ENVIRONMENT}
    world.backup("init", env=repo)
    world.backup("init", code=2, env=repo)
    assert world.run("phone", env=repo)["new"] == 12
    assert world.run("phone", env=repo)["unchanged"] == 12
    assert "no errors were found" in restic(url, "check", "--read-data", cwd=tmp_path)
    restic(url, "restore", "latest", "--target", "theirs", cwd=tmp_path)
    world.backup("restore", "--to", "ours", env=repo)
    theirs, ours, there = (audio(tmp_path / folder) for folder in ("theirs", "ours", "phone"))
    assert len(ours) == 12
    assert theirs == ours == there
    assert world.backup("check", "--read-data", env=repo).code == 0
    for words in (("list",), ("run", "phone"), ("check",)):
        ended = world.backup(*words, env={**repo, "AWS_SECRET_ACCESS_KEY": "s3cret-wrong"}, code=None)
        assert SECRET not in ended.told + ended.text
        assert "s3cret-wrong" not in ended.told + ended.text


def test_we_read_what_restic_wrote(url: str, tmp_path: Path) -> None:
    """What restic stored in a bucket is checked and read by us from the same one: the layout is the same."""
    needs("restic")
    (tmp_path / "files").mkdir()
    for number in range(5):
        (tmp_path / "files" / str(number)).write_bytes(random.Random(number).randbytes(300_000))
    restic(url, "init", cwd=tmp_path)
    restic(url, "backup", "files", cwd=tmp_path)
    with contextlib.closing(at(url)) as place:
        repository = Repository.open(place, Secret(PASSWORD))
        assert [finding for finding in check(repository, read_data=True) if finding.severity == "error"] == []
        assert len(list(place.list("snapshots"))) == 1
        assert len(list(place.list("data"))) >= 2


def test_a_key_that_cannot_be_had_costs_only_its_place(tmp_path: Path) -> None:
    """Where the program that knows a mirror's secret fails, the night goes on at the other places, and says what is wrong with that one."""
    world = World(tmp_path)
    phone(tmp_path / "phone", notes=3)
    with bucket() as server:
        settings = '[destinations.disk]\npath = "disk"\n[destinations.office]\ntype = "s3"\n'
        settings += f'url = "{server.url}{BUCKET}"\naccess_key_id = "{KEY}"\n'
        here = {"BACKUP_REPOSITORY": None}
        world.configure(settings + 'password_command = "echo secret"\n')
        world.backup("init", env=here)
        world.configure(settings + 'password_command = "false"\n')
        result = world.run("phone", code=3, env=here)
        assert [(place["name"], place["status"]) for place in result["destinations"]] == [("disk", "delivered"), ("office", "queued")]
        assert "the password command false failed" in result["destinations"][1]["error"]
        world.configure(settings + 'password_command = "echo secret"\n')
        world.run("phone", env=here)
        assert len([key for key in server.objects if key.startswith("snapshots/")]) == 2


def test_errors_have_their_exit_codes(tmp_path: Path) -> None:
    """Scripts can tell no repository (10), a key that is not known (4), no key (2), a full bucket (14) and a busy service (13) apart."""
    world = World(tmp_path)
    with bucket() as server:
        repo = f"s3:{server.url}{BUCKET}/archive"
        assert f"no repository at {repo}" in world.backup("list", "--repo", repo, env=ENVIRONMENT, code=10).told
        assert "AWS_ACCESS_KEY_ID" in world.backup("list", "--repo", repo, code=2).told
        server.refusal = (403, "InvalidAccessKeyId", {})
        world.backup("list", "--repo", repo, env=ENVIRONMENT, code=4)
        server.refusal = (507, "StorageFull", {})
        world.backup("init", "--repo", repo, env=ENVIRONMENT, code=14)


def test_the_settings_name_a_bucket_and_its_key(tmp_path: Path) -> None:
    """A destination of the settings has its own key, whose secret a program prints; settings that are shown do not hold it."""
    world = World(tmp_path)
    phone(tmp_path / "phone", notes=3)
    with bucket() as server:
        world.configure(
            f'[destinations.office]\ntype = "s3"\nurl = "{server.url}{BUCKET}/archive"\naccess_key_id = "{KEY}"\nregion = "office"\n'
            f'password_command = ["{sys.executable}", "-c", "print(\'s3c\' + \'ret\')"]\n'
        )
        here = {"BACKUP_REPOSITORY": None}
        world.backup("init", env=here)
        assert world.run("phone", env=here)["new"] == 3
        assert all(
            f"Credential={KEY}/" in headers["Authorization"] and "/office/s3/" in headers["Authorization"] for _, _, headers in server.seen
        )
        for words in (("config", "show"), ("config", "show", "--json"), ("list", "--debug")):
            ended = world.backup(*words, env=here)
            assert "s3cret" not in ended.text + ended.told


def test_a_place_is_opened_by_its_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec opens its place, with the keys of the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with bucket() as server:
        spec = DestinationSpec(name="office", type="s3", place=f"{server.url}{BUCKET}/archive")
        with contextlib.closing(open_destination(spec)) as place:
            place.create()
            place.save("config", "config", b"x")
            assert place.exists()
        assert list(server.objects) == ["archive/config"]
