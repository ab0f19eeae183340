"""iCloud Drive as a destination, with pyicloud as it is, at an Apple of our own."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import random
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.icloud import account as account_module
from backup_tool.destinations.icloud.destination import ICloudDestination
from backup_tool.destinations.icloud.session import SavedSession, SessionStore, days_left, warning
from backup_tool.destinations.limits import UploadLimit
from backup_tool.errors import BackupError, NoRepository, NoSpace, ObjectMissing, SignInNeeded, Unreachable, UsageError
from backup_tool.models import Secret
from backup_tool.repository import Repository
from backup_tool.repository.check import check
from tests.destinations.apple_cloud import FAULTS, PASSING, Account
from tests.destinations.icloud import ANN, WORD, Cloud, Typist, apple_for
from tests.destinations.servers import installed
from tests.destinations.tls_proxy import Fault, Response
from tests.parts import needs

DAY = 86_400.0
BUSY = Fault("answer", response=Response(503, {"Content-Type": "text/html", "Retry-After": "7"}, b"<html>busy</html>"))
ENDED = Fault("answer", response=Response(421, {"Content-Type": "application/json"}, b'{"error": "Missing X-APPLE-WEBAUTH-TOKEN cookie"}'))
DROPPED, LOST, CUT = Fault("drop"), Fault("drop", effect=True), Fault("cut answer")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One Apple, signed in to, for tests that leave its account as it is."""
    with apple_for(tmp_path_factory.mktemp("apple")) as cloud:
        cloud.sign_in()
        yield cloud


@pytest.fixture
def cloud(shared: Cloud, request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """The shared one; faults and manners of the test end with it."""
    yield shared
    shared.proxy.faults.clear()
    shared.proxy.latency = 0
    shared.apple.drive().manner = type(shared.apple.drive().manner)()
    shared.account.quota = 5 << 30


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> str:
    """The name of a folder that no other test has."""
    return f"Archive of {request.node.name}"[:200].replace("/", " ").replace(":", " ")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(place: ICloudDestination, data: bytes, kind: ObjectKind = "data") -> str:
    place.save(kind, sha(data), data)
    return sha(data)


# Signing in


@pytest.mark.parametrize("protocol", ["s2k", "s2k_fo"])
def test_a_person_signs_in_once_and_runs_need_nobody(tmp_path: Path, protocol: str) -> None:
    """After one password and one code every later use asks Apple two questions at most, and nobody at all."""
    with apple_for(tmp_path, Account(ANN, WORD, protocol=protocol)) as cloud:
        person = cloud.sign_in()
        assert len(person.asked) == 2
        assert "30 days" in person.told[-1]
        before = len(cloud.proxy.labels())
        with cloud.place() as place:
            place.create()
        assert [label for label in cloud.proxy.labels()[before:] if label.startswith(("sign-in", "setup"))] == ["setup validate"]
        assert [prompt.kind for prompt in cloud.apple.prompts] == ["sms"]


def test_what_is_kept_is_private(shared: Cloud) -> None:
    """The sign-in lies in files that only their owner may read, the password and the code nowhere at all."""
    assert stat.S_IMODE(shared.home.stat().st_mode) == 0o700
    texts = {path.name: path.read_bytes() for path in shared.home.iterdir() if path.is_file()}
    assert {"session.json", "session.good.json"} <= set(texts)
    assert all(stat.S_IMODE((shared.home / name).stat().st_mode) == 0o600 for name in texts)
    assert not any(WORD.encode() in text for text in texts.values())
    assert "trust_token" not in repr(SessionStore(shared.home).load())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pyicloud leaves the refused connection open
def test_a_device_may_show_the_code(tmp_path: Path) -> None:
    """Where a trusted device is asked, its code signs in; where that fails, a text message takes its place."""
    with apple_for(tmp_path, Account(ANN, WORD, second_factor="push")) as cloud:
        person = cloud.sign_in()
        assert [prompt.kind for prompt in cloud.apple.prompts] == ["push"]
        assert any("on your devices" in line for line in person.told)
        cloud.account.push_service = "refuses"
        cloud.sign_in()
        assert [prompt.kind for prompt in cloud.apple.prompts] == ["push", "sms"]
        cloud.account.push_service = "absent"
        person = cloud.sign_in(Typist("sms", cloud.apple.last_code))
        assert any("no code could be sent" in line for line in person.told)
        cloud.account.push_service = "sealed"
        cloud.sign_in()
    gc.collect()


def test_other_ways_to_a_code(tmp_path: Path) -> None:
    """When no code comes, another one can be sent as a text message, or read from the settings of a device."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in(Typist("sms", cloud.apple.last_code))
        assert [prompt.kind for prompt in cloud.apple.prompts] == ["sms", "sms"]
        person = cloud.sign_in(Typist("what code?", "device", cloud.apple.code_from_settings))
        assert any("Get Verification Code" in line for line in person.told)
        assert any("six digits" in line for line in person.told)


def test_a_wrong_password_is_tried_once(tmp_path: Path) -> None:
    """A wrong password is said to be one, and tried no second time: Apple locks accounts for that."""
    with apple_for(tmp_path) as cloud:
        with pytest.raises(SignInNeeded, match="refused the account or its password") as caught:
            cloud.sign_in(Typist(password="wrong"))
        assert "app-specific" in caught.value.hint
        assert cloud.apple.wrong_passwords == 1
        assert cloud.apple.prompts == []


@pytest.mark.parametrize("call", ["sign-in signin/init", "sign-in signin/complete", "setup accountLogin"])
@pytest.mark.parametrize("fault", [BUSY, DROPPED], ids=["busy", "dropped"])
def test_trouble_of_the_network_is_no_wrong_password(tmp_path: Path, call: str, fault: Fault) -> None:
    """A fault that passes is told as one, whenever it comes, and never as a wrong password."""
    with apple_for(tmp_path) as cloud:
        cloud.proxy.faults.add(call, fault, times=9)
        with pytest.raises((Unreachable, SignInNeeded)) as caught:
            cloud.sign_in()
        assert "password" not in caught.value.message
        assert isinstance(caught.value, Unreachable) or call == "setup accountLogin"


@pytest.mark.parametrize("call", ["sign-in POST verify/*", "sign-in 2sv/trust", "setup accountLogin"])
@pytest.mark.parametrize("fault", [BUSY, DROPPED], ids=["busy", "dropped"])
def test_trouble_of_the_network_is_no_wrong_code(tmp_path: Path, call: str, fault: Fault) -> None:
    """A right code that Apple was too busy to look at is not called wrong, and nothing is kept as signed in."""
    with apple_for(tmp_path) as cloud:

        def code() -> str:
            cloud.proxy.faults.add(call, fault, times=9)
            return cloud.apple.last_code()

        person = Typist(code)
        with pytest.raises(Unreachable):
            cloud.sign_in(person)
        assert "that code is not right" not in person.told
        assert days_left(cloud.home) is None


def test_a_sign_in_that_waits_for_somebody_stops_no_run(tmp_path: Path) -> None:
    """While somebody is about to type a code, runs go on with the sign-in that there was."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()

        def code() -> str:
            with cloud.place() as place:
                place.create()
            return cloud.apple.last_code()

        cloud.sign_in(Typist(code))
        with cloud.place() as place:
            assert not place.exists()


def test_wrong_codes_end_the_sign_in(tmp_path: Path) -> None:
    """After three wrong codes it is over; the next command begins anew."""
    with apple_for(tmp_path) as cloud:
        person = Typist("000000", "000001", "000002")
        with pytest.raises(SignInNeeded, match="3 codes were wrong"):
            cloud.sign_in(person)
        assert person.told.count("that code is not right") == 3
        assert "password" in cloud.sign_in().asked[0]


def test_the_code_may_be_typed_by_another_command(tmp_path: Path) -> None:
    """Without anybody to type the code it is sent, and the next command asks for it alone; the password is not wanted again."""
    with apple_for(tmp_path) as cloud:
        with pytest.raises(SignInNeeded, match="wants the code") as caught:
            cloud.sign_in(Typist())
        assert "backup login cloud" in caught.value.hint
        person = cloud.sign_in()
        assert len(person.asked) == 1
        assert len(cloud.apple.prompts) == 1
        with cloud.place() as place:
            place.create()


def test_a_new_sign_in_leaves_the_old_one_alone_until_it_is_done(tmp_path: Path) -> None:
    """Somebody who begins to sign in again and does not finish has lost nothing."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()
        with pytest.raises(SignInNeeded):
            cloud.sign_in(Typist())
        with cloud.place() as place:
            place.create()
        with pytest.raises(SignInNeeded, match="given up"):
            cloud.sign_in(Typist("again"))
        assert "password" in cloud.sign_in().asked[0]


def _set(**changes: object) -> Account:
    account = Account(ANN, WORD)
    for name, value in changes.items():
        setattr(account, name, value)
    return account


@pytest.mark.parametrize(
    ("account", "says", "hints", "error"),
    [
        (_set(locked=True), "locked this account", "iforgot.apple.com", SignInNeeded),
        (_set(terms=3), "new terms", "icloud.com", SignInNeeded),
        (_set(china=True), "in mainland China", "china = true", UsageError),
        (_set(repair=True), "put right first", "account.apple.com", SignInNeeded),
        (_set(second_factor="security-key"), "security keys", "Mac's or PC's iCloud Drive folder", SignInNeeded),
        (_set(adp=True, adp_polls=None), "Advanced Data Protection", "approve it on a device", SignInNeeded),
    ],
    ids=["locked", "terms", "china", "repair", "security key", "approval"],
)
def test_each_special_account_has_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Account, says: str, hints: str, error: type[BackupError]
) -> None:
    """Whatever keeps Apple from letting somebody in is told in its own words, with what to do."""
    monkeypatch.setattr("pyicloud.base.PCS_SLEEP_TIME", 0)
    with apple_for(tmp_path, account) as cloud:
        with pytest.raises(error, match=says) as caught:
            cloud.sign_in()
        assert hints in caught.value.hint
        assert type(caught.value) is error
        assert days_left(cloud.home) is None


def test_an_account_in_china_signs_in(tmp_path: Path) -> None:
    """With the setting for mainland China, such an account is used at Apple's other cloud."""
    with apple_for(tmp_path, Account(ANN, WORD, china=True)) as cloud:
        cloud.sign_in(china=True)
        with cloud.place(china=True) as place:
            place.create()
            put(place, b"note")
        hosts = {seen.host for seen in cloud.proxy.seen if not seen.label.startswith("sign-in")}
        assert all(host.endswith(".com.cn") for host in hosts)


def test_protected_data_is_used_while_a_device_approves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Advanced Data Protection a device is asked while somebody signs in; a nightly run asks no device, and says what to do."""
    monkeypatch.setattr("pyicloud.base.PCS_SLEEP_TIME", 0)
    with apple_for(tmp_path, Account(ANN, WORD, adp=True)) as cloud:
        person = cloud.sign_in()
        assert any("a device now asks" in line for line in person.told)
        asked = [prompt.kind for prompt in cloud.apple.prompts].count("approval")
        with cloud.place() as place:
            place.create()
        cloud.account.adp_polls = None
        cloud.apple.later(hours=2)
        for session in cloud.apple.setup.sessions.values():
            session.documents = False
        with cloud.place() as place, pytest.raises(SignInNeeded, match="Advanced Data Protection"):
            place.exists()
        assert [prompt.kind for prompt in cloud.apple.prompts].count("approval") == asked


# What a nightly run does with the sign-in


def test_an_ended_web_session_is_opened_again(tmp_path: Path) -> None:
    """Sessions of the web end within hours: runs open a new one, at their start and in their midst, without anybody."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()
        cloud.apple.later(days=1)
        with cloud.place() as place:
            place.create()
            put(place, b"one")
            cloud.apple.end_web_sessions()
            put(place, b"two")
            assert len(list(place.list("data"))) == 2
        assert "sign-in signin/init" not in cloud.proxy.labels()[10:]
        assert len(cloud.apple.prompts) == 1


def test_an_ended_sign_in_wakes_nobody(tmp_path: Path) -> None:
    """When Apple wants a code again, runs say so in one sentence, each night alike; none of them sends a code or tries a password."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()
        cloud.apple.later(days=31)
        before = len(cloud.proxy.labels())
        for _ in range(3):
            with closing(cloud.patient()) as place, pytest.raises(SignInNeeded, match="the sign-in to iCloud has ended") as caught:
                place.exists()
            assert caught.value.hint == "sign in once, for about 30 days: backup login cloud"
        asked = cloud.proxy.labels()[before:]
        assert not [label for label in asked if label.startswith("sign-in")]
        assert len(asked) <= 12
        assert len(cloud.apple.prompts) == 1
        cloud.sign_in()
        with cloud.place() as place:
            place.create()


def test_a_busy_apple_is_no_ended_sign_in(tmp_path: Path) -> None:
    """While Apple is busy or away the sign-in counts as good: the run may be tried again, and nobody is asked for anything."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()
        for fault in (BUSY, DROPPED, Fault("answer", response=Response(200, {"Content-Type": "text/html"}, b"<html>hotel</html>"))):
            cloud.proxy.faults.add("setup *", fault, times=99)
            with cloud.place() as place, pytest.raises(Unreachable):
                place.exists()
            cloud.proxy.faults.clear()
        with cloud.place() as place:
            assert not place.exists()


def test_without_a_sign_in_a_run_says_what_to_type(tmp_path: Path) -> None:
    """Before the first sign-in nothing is asked of Apple; another account's sign-in is not used."""
    with apple_for(tmp_path) as cloud:
        with cloud.place() as place, pytest.raises(SignInNeeded, match="nobody has signed in"):
            place.exists()
        assert cloud.proxy.seen == []
        cloud.sign_in()
        with cloud.place(account="bob@example.org") as place, pytest.raises(SignInNeeded, match="another account's"):
            place.exists()


def test_a_damaged_session_file_is_replaced_by_its_copy(tmp_path: Path) -> None:
    """A sign-in outlives a damaged file: its copy from the last good night takes its place."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()
        for damage in (b"", b'{"account": "ann', b"[1]", b"\xff\xfe"):
            (cloud.home / "session.json").write_bytes(damage)
            with cloud.place() as place:
                assert not place.exists()
        assert len(cloud.apple.prompts) == 1


def test_several_processes_may_use_one_sign_in(tmp_path: Path) -> None:
    """A look at the archive during a run spoils nothing: both go on, and the sign-in stays good."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()
        cloud.apple.later(days=1)
        with ThreadPoolExecutor(4) as pool:

            def use(number: int) -> None:
                with cloud.place(f"Archive {number}") as place:
                    place.create()
                    put(place, b"note")

            list(pool.map(use, range(4)))
        cloud.apple.end_web_sessions()
        with cloud.place("Archive 0") as place:
            assert len(list(place.list("data"))) == 1
        assert len(cloud.apple.prompts) == 1
        assert not [entry for entry in cloud.home.iterdir() if entry.is_dir()]


def test_an_older_session_never_replaces_a_newer_one(tmp_path: Path) -> None:
    """Of two runs that end one after the other, the one that Apple accepted later has the last word."""
    store = SessionStore(tmp_path / "home")

    def session(accepted: float) -> SavedSession:
        return SavedSession(account=ANN, china=False, tokens={"n": accepted}, cookies="", signed_in=1.0, accepted=accepted)

    store.save(session(2.0), good=True)
    store.save(session(1.0))
    found = store.load()
    assert found is not None
    assert found.accepted == 2.0


@pytest.mark.parametrize(
    ("after", "left", "says"),
    [(0, 30, ""), (22, 8, ""), (24, 6, "in about 6 days"), (29.9, 0.1, "in about 1 days"), (33, -3, "any day now")],
)
def test_the_days_left_are_told_and_warned_of(tmp_path: Path, after: float, left: float, says: str) -> None:
    """From a week before its end each run warns that somebody has to sign in, and says what to type."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()
        saved = SessionStore(cloud.home).load()
        assert saved is not None
        found = saved.days_left(saved.signed_in + after * DAY)
        assert found == pytest.approx(left, abs=0.01)
        text = warning(found, "backup login cloud")
        assert says in text
        assert bool(text) == bool(says)


def test_the_earlier_end_counts() -> None:
    """Where Apple's own cookie ends before thirty days are over, that is the end that is told."""
    cookies = '#LWP-Cookies-2.0\nSet-Cookie3: X-APPLE-WEBAUTH-HSA-TRUST=x; path="/"; expires="1970-01-11 00:00:00Z"; version=0\n'
    saved = SavedSession(account=ANN, china=False, tokens={}, cookies=cookies, signed_in=0.0, accepted=0.0)
    assert saved.days_left(0.0) == 10.0


# Objects


def test_the_layout_is_restics(cloud: Cloud, folder: str) -> None:
    """Objects have exactly the names that restic gives them, so that it opens the folder as it lies on a Mac."""
    with cloud.place(folder) as place:
        place.create()
        pack = put(place, b"pack")
        index = put(place, b"index", "index")
        place.save("config", "config", b"sealed")
    assert cloud.names(folder) == ["config", f"data/{pack[:2]}/{pack}", f"index/{index}"]


@pytest.mark.parametrize("call", ["docs upload/web", "content upload", "docs update/documents"])
@pytest.mark.parametrize("fault", [BUSY, DROPPED, LOST, CUT], ids=["busy", "before", "after", "cut"])
@pytest.mark.parametrize("late", [0, 2])
def test_a_lost_answer_makes_no_second_copy(cloud: Cloud, folder: str, call: str, fault: Fault, late: int) -> None:
    """Whichever request of an upload fails, before or after it had its effect, the object is there once and whole."""
    data = folder.encode()
    with closing(cloud.patient("Lost answers")) as place:
        if cloud.apple.drive().node("Lost answers") is None:
            place.create()
        cloud.apple.drive().manner.late = late
        cloud.proxy.faults.add(call, fault)
        place.save("data", sha(data), data)
        assert place.load("data", sha(data)) == data
    assert [name for name in cloud.names("Lost answers") if sha(data) in name] == [f"data/{sha(data)[:2]}/{sha(data)}"]
    assert cloud.apple.drive().replayed == []


@pytest.mark.parametrize("manner", ["renames", "refuses"])
def test_a_taken_name_is_mended(cloud: Cloud, folder: str, manner: str) -> None:
    """Two machines that store the same object at the same moment leave it there once."""
    cloud.apple.drive().manner.taken_file = manner
    with cloud.place(folder) as one, cloud.place(folder) as two:
        one.create()
        for place in (one, two):
            assert list(place.list("data")) == []
        put(one, b"note")
        put(two, b"note")
        assert two.load("data", sha(b"note")) == b"note"
    assert len(cloud.names(folder)) == 1


def test_a_copy_that_was_left_is_swept(cloud: Cloud, folder: str) -> None:
    """A second copy that a dead run left beside the object is taken away; one that stands alone, or differs, is left for a person."""
    with cloud.place(folder) as place:
        place.create()
        name = put(place, b"note", "index")
        for path, data in {f"index/{name} 2": b"note", f"index/{name} 3": b"other bytes", f"index/{'0' * 64} 2": b"note"}.items():
            cloud.apple.drive().put(f"{folder}/{path}", data)
        assert place.sweep() == 1
        assert dict(place.list("index")) == {name: 4}
    assert cloud.names(folder) == sorted([f"index/{name}", f"index/{name} 3", f"index/{'0' * 64} 2"])


@pytest.mark.parametrize("manner", ["renames", "same", "refuses"])
def test_folders_are_made_once(cloud: Cloud, folder: str, manner: str) -> None:
    """However Apple treats a folder's name that is taken, and however its answers get lost, every folder is there once."""
    drive = cloud.apple.drive()
    drive.manner.taken_folder = manner
    with closing(cloud.patient(folder)) as place:
        cloud.proxy.faults.add("drive createFolders", LOST, times=4)
        place.create()
    with cloud.place(folder) as place:
        place.create()
    root = drive.node(folder)
    data = drive.node(f"{folder}/data")
    assert root is not None
    assert data is not None
    assert sorted(node.name for node in drive.tree.children(root)) == ["data", "index", "keys", "locks", "snapshots"]
    assert sorted(node.name for node in drive.tree.children(data)) == [f"{number:02x}" for number in range(256)]


def test_a_listing_that_is_cut_short_is_no_truth(cloud: Cloud, folder: str) -> None:
    """A listing that holds less than it says is asked for again: what it leaves out is never taken for missing."""
    with cloud.place(folder) as place:
        place.create()
        names = {put(place, b"%d" % number, "locks") for number in range(6)}
        cloud.apple.drive().manner.short = 1
        with pytest.raises(Unreachable, match="shorter than it says"):
            list(place.list("locks"))
        assert {name for name, _ in place.list("locks")} == names


def test_listings_that_lag_hide_nothing_of_ours(cloud: Cloud, folder: str) -> None:
    """What this run stored or removed counts at once, though Apple's listings show it only later."""
    with cloud.place(folder) as place:
        place.create()
        kept, gone = put(place, b"kept", "locks"), put(place, b"gone", "locks")
        cloud.apple.drive().manner.late = 3
        new = put(place, b"new", "locks")
        place.remove("locks", gone)
        for _ in range(3):
            assert {name for name, _ in place.list("locks")} == {kept, new}
        with pytest.raises(ObjectMissing):
            place.load("locks", gone)


@pytest.mark.parametrize("most", [7, 31])
def test_any_size_of_batch_will_do(cloud: Cloud, folder: str, most: int) -> None:
    """However few folders Apple lists in one call, all of them are listed."""
    with cloud.place(folder) as place:
        place.create()
        names = {put(place, b"%d" % number) for number in range(5)}
        cloud.apple.drive().manner.batch = most
        assert {name for name, _ in place.list("data")} == names


@pytest.mark.parametrize("name", ["ranges", "moved", "expired"])
def test_bytes_come_by_any_route(cloud: Cloud, folder: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of an object are exact where Apple ignores ranges, sends us on (330), or an address has ended meanwhile."""
    data = random.Random(1).randbytes(100_000)
    with cloud.place(folder) as place:
        place.create()
        put(place, data)
        manner = cloud.apple.drive().manner
        manner.ranges, manner.moved = name != "ranges", int(name == "moved")
        assert place.load("data", sha(data), 50_000, 10) == data[50_000:50_010]
        if name == "expired":
            cloud.apple.drive().documents.end_addresses()
        assert place.load("data", sha(data), 70_000, 30_000) == data[70_000:]


@pytest.mark.parametrize("fault", [CUT, DROPPED, BUSY, Fault("answer", response=Response(206, {"Content-Range": "bytes 0-4/9"}, b"wrong"))])
def test_a_part_that_is_not_the_one_is_not_taken(cloud: Cloud, folder: str, fault: Fault) -> None:
    """Fewer bytes, or others, are never passed on as those that were asked for."""
    with cloud.place(folder) as place:
        place.create()
        put(place, bytes(range(200)))
        cloud.proxy.faults.add("content download", fault)
        with pytest.raises(Unreachable):
            place.load("data", sha(bytes(range(200))), 100, 5)
        assert place.load("data", sha(bytes(range(200))), 100, 5) == bytes(range(100, 105))


def test_an_object_removed_by_another_machine_is_missing(cloud: Cloud, folder: str) -> None:
    """What another machine removed or replaced since the last listing is seen as it is now."""
    with cloud.place(folder) as one, cloud.place(folder) as two:
        one.create()
        name = put(one, b"note", "locks")
        assert two.load("locks", name) == b"note"
        one.remove("locks", name)
        with pytest.raises(ObjectMissing):
            two.size("locks", name)
        with pytest.raises(ObjectMissing):
            two.load("locks", name)
        one.save("locks", name, b"a longer note")
        assert two.size("locks", name) == 13
        assert two.load("locks", name) == b"a longer note"
        two.remove("locks", name)
        two.remove("locks", name)


def test_what_is_removed_lies_in_the_trash(cloud: Cloud, folder: str) -> None:
    """Nothing is deleted for good: for about 30 days it can be put back at icloud.com."""
    with cloud.place(folder) as place:
        place.create()
        name = put(place, b"note")
        place.remove("data", name)
        assert name in [node.name for node in cloud.apple.drive().tree.trash()]
    assert "drive deleteItems" not in cloud.proxy.labels()


def test_a_folder_that_is_gone_is_no_empty_archive(cloud: Cloud, folder: str) -> None:
    """When somebody removes the archive's folder, that is told; nothing is concluded from it, and no new one begun."""
    with cloud.place(folder) as place, cloud.place() as other:
        place.create()
        place.save("config", "config", b"sealed")
        node = cloud.apple.drive().node(folder)
        assert node is not None
        cloud.apple.drive().tree.throw_away(node, time.time())
        with pytest.raises(NoRepository, match="there is no repository at icloud:"):
            list(place.list("data"))
        with pytest.raises(NoRepository):
            put(place, b"note")
        assert not other.exists()
    assert cloud.apple.drive().node(folder) is None


@pytest.mark.parametrize("kind", ["shared", "library", "file"])
def test_only_a_folder_of_ones_own_will_do(cloud: Cloud, folder: str, kind: str) -> None:
    """Folders that others share or apps own are refused: Apple treats them otherwise."""
    drive = cloud.apple.drive()
    {"shared": lambda: drive.shared(folder), "library": lambda: drive.library(folder, "iCloud.x"), "file": lambda: drive.put(folder, b"x")}[
        kind
    ]()
    with cloud.place(folder) as place, pytest.raises(UsageError, match="is no folder that an archive can be kept in"):
        place.create()


def test_folders_in_folders(cloud: Cloud, folder: str) -> None:
    """The archive may lie deeper: every folder on the way is made once, and found whatever its case."""
    with cloud.place(f"{folder}/Notes") as place:
        place.create()
        put(place, b"note")
    with cloud.place(f"{folder.upper()}/notes") as place:
        assert len(list(place.list("data"))) == 1
    for odd in ("", "/", "a/../b", "a:b", "a\nb"):
        with pytest.raises(UsageError):
            cloud.open(odd)


# Errors


@pytest.mark.parametrize("where", ["slot", "commit", "known"])
def test_a_full_account_is_told_as_one(cloud: Cloud, folder: str, where: str) -> None:
    """An account without room ends the run with that sentence, whether Apple says so before, at the start or at the end of an upload."""
    manner = cloud.apple.drive().manner
    manner.full_at = where
    with cloud.place(folder) as place:
        place.create()
        put(place, b"one")
        if where == "known":
            cloud.proxy.faults.clear()
            cloud.account.quota = cloud.apple.drive().used() + 10
        else:
            cloud.proxy.faults.add("setup storageUsageInfo", DROPPED, times=99)
            cloud.account.quota = cloud.apple.drive().used()
            place._drive._free = None
        with pytest.raises(NoSpace, match="no space left in iCloud") as caught, cloud.place(folder) as other:
            put(other if where == "known" else place, bytes(1000))
        assert "Recently Deleted" in caught.value.hint


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_worth_a_retry(cloud: Cloud, folder: str, status: int) -> None:
    """Statuses that pass by themselves are tried again, after the time that Apple asked for."""
    with cloud.place(folder) as place:
        place.create()
        cloud.proxy.faults.add("drive *", Fault("answer", response=Response(status, {"Retry-After": "7"}, b"")))
        with pytest.raises(Unreachable) as caught:
            place.exists()
        assert caught.value.retry_after == 7
        assert not place.exists()


def test_one_odd_421_is_cured_by_a_new_connection(cloud: Cloud, folder: str) -> None:
    """Apple says "signed out" also where only a connection was at fault: that alone never ends a sign-in."""
    with cloud.place(folder) as place:
        place.create()
        before = len(cloud.proxy.labels())
        cloud.proxy.faults.add("drive *", ENDED)
        assert not place.exists()
        assert "setup validate" not in cloud.proxy.labels()[before:]
        cloud.proxy.faults.add("drive *", ENDED, times=2)
        assert not place.exists()
        assert cloud.proxy.labels()[before:].count("setup validate") == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [({"web_access": False}, "does not let this sign-in at its files"), ({"drive": False}, "iCloud Drive is not set up")],
    ids=["web access", "drive"],
)
def test_accounts_that_may_not_be_used_are_told_why(tmp_path: Path, change: dict[str, bool], says: str) -> None:
    """A setting of the account that keeps us out is named."""
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()
        for name, value in change.items():
            setattr(cloud.account, name, value)
        with cloud.place() as place, pytest.raises(SignInNeeded, match=says):
            place.create()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'[{"items": 5}]',
        b"[" * 100_000,
        b'[{"drivewsid": "FOLDER::x::other", "items": [], "status": "OK"}]',
        b"\xff",
    ],
    ids=["nothing", "null", "empty", "object", "shape", "deep", "other", "bytes"],
)
def test_nonsense_is_no_listing(cloud: Cloud, folder: str, body: bytes) -> None:
    """Whatever Apple might answer one day, it is an error of ours and never a wrong listing or a crash."""
    with cloud.place(folder) as place:
        place.create()
        cloud.proxy.faults.add("drive retrieve*", Fault("answer", response=Response(200, {"Content-Type": "application/json"}, body)))
        with pytest.raises(BackupError) as caught:
            list(place.list("locks"))
        assert caught.value.message.isprintable()


def test_answers_have_a_largest_size(cloud: Cloud, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without end is not read to its end."""
    with cloud.place(folder) as place:
        place.create()
        monkeypatch.setattr(account_module, "MAX_ANSWER", 10_000)
        cloud.proxy.faults.add("drive retrieve*", Fault("answer", response=Response(200, {}, b"[" + b" " * 50_000 + b"]")))
        with pytest.raises(BackupError, match="more than 10,000 bytes"):
            list(place.list("locks"))


@pytest.mark.parametrize("call", ["drive retrieve*", "content upload", "content download", "setup *"])
def test_a_silent_apple_has_an_end(cloud: Cloud, folder: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request ends, also where Apple says nothing, or a byte now and then."""
    with cloud.place(folder) as place:
        place.create()
        put(place, b"note")
    monkeypatch.setattr(account_module, "LONGEST_SECONDS", 0.2)
    monkeypatch.setattr(account_module, "SIGN_IN_SECONDS", 0.2)
    monkeypatch.setattr(account_module, "SLOWEST", 2**40)
    cloud.proxy.faults.add(call, Fault("stall", seconds=30), times=9)
    with cloud.place(folder) as place:
        asks = {"content upload": lambda: put(place, b"another")}.get(call, lambda: place.load("data", sha(b"note")))
        with pytest.raises(Unreachable):
            asks()


def test_closing_ends_what_is_under_way(cloud: Cloud, folder: str) -> None:
    """A run that is cancelled does not wait for requests of other threads: they fail at once."""
    place = cloud.open(folder)
    place.create()
    caught: list[BackupError] = []

    def ask() -> None:
        try:
            list(place.list("locks"))
        except BackupError as error:
            caught.append(error)

    cloud.proxy.faults.happened.clear()
    cloud.proxy.faults.add("drive *", Fault("stall", seconds=60))
    thread = threading.Thread(target=ask)
    thread.start()
    while not cloud.proxy.faults.happened:
        time.sleep(0.01)
    place.close()
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(caught[0], Unreachable)
    with pytest.raises(Unreachable, match="closed"):
        place.exists()
    place.close()


def asks_in_vain(place: ICloudDestination) -> None:
    with pytest.raises(Unreachable):
        list(place.list("locks"))


def test_closing_ends_what_is_just_beginning(cloud: Cloud, folder: str) -> None:
    """A request that another thread begins at that very moment, over a connection that is only being made, ends as well."""
    cloud.open(folder).create()
    for number in range(12):
        place = cloud.open(folder)
        assert not place.exists()
        cloud.proxy.faults.add("drive *", Fault("stall", seconds=60))
        thread = threading.Thread(target=asks_in_vain, args=[place])
        thread.start()
        time.sleep(number / 4000)
        place.close()
        thread.join(20)
        assert not thread.is_alive(), number
        cloud.proxy.faults.clear()


def test_a_certificate_that_is_not_trusted_is_told(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who stands in between is believed, and waiting is not what is advised."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("CURL_CA_BUNDLE")
    with cloud.place("x") as place, pytest.raises(BackupError, match="certificate of iCloud is not trusted") as caught:
        place.exists()
    assert not isinstance(caught.value, Unreachable)


def test_no_secret_is_ever_told(cloud: Cloud, folder: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither errors nor logs hold a token, a signed address, the password or what Apple said."""
    secret = "tok3n-of-ann"
    said = json.dumps({"error": secret, "reason": secret, "sessionToken": secret}).encode()
    texts = []
    with caplog.at_level(logging.DEBUG), cloud.place(folder) as place:
        place.create()
        put(place, b"note")
        for status in (200, 400, 403, 404, 410, 418, 503):
            for call in ("drive *", "docs *", "content *"):
                cloud.proxy.faults.add(call, Fault("answer", response=Response(status, {"Content-Type": "application/json"}, said)))
                try:
                    put(place, os.urandom(10), "locks")
                    place.load("locks", put(place, b"note", "locks"))
                except BackupError as error:
                    texts += [error.message, error.hint, repr(error.__cause__)]
                cloud.proxy.faults.clear()
    tokens = [str(value) for key, value in (SessionStore(cloud.home).load() or SavedSession).tokens.items() if "token" in key]
    told = "\n".join([*texts, *(record.getMessage() for record in caplog.records)])
    assert len(texts) > 15
    assert tokens
    assert not [word for word in (secret, WORD, "icloud-content", *tokens) if word in told]


def test_uploads_obey_their_limit(cloud: Cloud, folder: str) -> None:
    """A limit for uploads holds for the bytes of objects."""
    slept: list[float] = []
    limit = UploadLimit(50_000, now=lambda: 0.0, sleep=slept.append)
    with cloud.place(folder, limit=limit) as place:
        place.create()
        put(place, bytes(200_000))
    assert slept[-1] == pytest.approx(200_000 / 50_000)


def test_a_big_object_needs_little_memory(cloud: Cloud, folder: str, tmp_path: Path) -> None:
    """200 MiB are sent and read back in parts by a process that grows by less than 60 MB."""
    script = """
import resource, sys
from pathlib import Path
from backup_tool.destinations.icloud.destination import ICloudDestination
place = ICloudDestination(sys.argv[1], home=Path(sys.argv[2]))
place.create()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
place.save_file("data", "ab" * 32, Path(sys.argv[3]))
for at in range(0, 200, 40):
    assert place.load("data", "ab" * 32, at * 2**20, 2**20) == bytes([at]) * 2**20
place.close()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000)
"""
    big = tmp_path / "big"
    with big.open("wb") as file:
        for at in range(200):
            file.write(bytes([at]) * 2**20)
    done = subprocess.run(
        [sys.executable, "-c", script, folder, str(cloud.home), str(big)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60


# The whole


def test_restic_opens_what_lies_there(cloud: Cloud, folder: str, tmp_path: Path) -> None:
    """The folder as a Mac has it on disk is a repository that restic checks; and what restic wrote is read by us."""
    needs("restic")
    env = {**os.environ, "RESTIC_PASSWORD": "word", "RESTIC_REPOSITORY": str(tmp_path / "theirs")}
    for words in (["init"], ["backup", str(Path(__file__))]):
        subprocess.run(["restic", "--no-cache", "-q", *words], env=env, check=True, capture_output=True, timeout=120)
    with cloud.place(folder) as place:
        place.create()
        for path in sorted((tmp_path / "theirs").rglob("*")):
            if path.is_file():
                kind = path.relative_to(tmp_path / "theirs").parts[0]
                place.save_file(kind, path.name, path)  # type: ignore[arg-type]
    for stored, blob in cloud.apple.objects().items():
        if stored.startswith(f"{folder}/"):
            copy = tmp_path / "ours" / stored.removeprefix(f"{folder}/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(blob, copy)
    env["RESTIC_REPOSITORY"] = str(tmp_path / "ours")
    done = subprocess.run(
        ["restic", "--no-cache", "check", "--read-data"], env=env, check=False, capture_output=True, text=True, timeout=120
    )
    assert "no errors were found" in done.stdout


def test_restic_comes_there_through_rclone(tmp_path: Path) -> None:
    """Without this program: rclone signs in by itself, restic checks through it what we stored, and we read what they store."""
    needs("restic")
    program = installed("rclone")
    with apple_for(tmp_path) as cloud:
        cloud.sign_in()
        env = {**os.environ, "RESTIC_PASSWORD": "word", "RCLONE_CONFIG": str(tmp_path / "rclone.conf")}

        def run(*words: str) -> str:
            done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=240, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        secrets = [f"apple_id={ANN}", f"password={WORD}", "--obscure", "--non-interactive"]
        state = json.loads(run(program, "config", "create", "ic", "iclouddrive", *secrets))["State"]
        answer = ["--state", state, "--result", cloud.apple.last_code(), "--non-interactive"]
        run(program, "config", "update", "ic", "--continue", *answer)
        restic = ("restic", "--no-cache", "-o", f"rclone.program={program}", "-r", "rclone:ic:Voice notes")
        with cloud.place() as place:
            place.create()
            repository = Repository.create(place, Secret("word"), hostname="laptop", username="ann")
            assert cloud.apple.complaints == []
            run(*restic, "backup", "-q", str(Path(__file__)))
            assert "no errors were found" in run(*restic, "check", "--read-data")
            cloud.apple.complaints.clear()  # rclone's own manners
            assert len(repository.snapshots()) == 1
            assert [finding for finding in check(repository, read_data=True) if finding.severity == "error"] == []


SPOILED = [*(FAULTS[name] for name in PASSING), FAULTS["session over"], FAULTS["misdirected"]]


def faulted(cloud: Cloud, folder: str, requests: int, *, rate: float = 0.1) -> tuple[int, int]:
    """Store, list, read and remove until so many requests were made, one in ten of them spoiled; (requests, faults). Asserts the bars."""
    chance, kept, before = random.Random(5), dict[str, bytes](), len(cloud.proxy.seen)
    prompts, spoiled = len(cloud.apple.prompts), len(cloud.proxy.faults.happened)
    with closing(cloud.patient(folder)) as place:
        place.create()
        cloud.proxy.faults.randomly(7, rate, SPOILED)
        while len(cloud.proxy.seen) - before < requests:
            data = chance.randbytes(chance.randrange(1, 3000))
            place.save("data", sha(data), data)
            kept[sha(data)] = data
            if chance.random() < 0.3:
                name = chance.choice(sorted(kept))
                at = chance.randrange(len(kept[name]))
                assert place.load("data", name, at) == kept[name][at:]
            if chance.random() < 0.1:
                place.remove("data", name := chance.choice(sorted(kept)))
                del kept[name]
            if chance.random() < 0.02:
                assert dict(place.list("data")) == {name: len(data) for name, data in kept.items()}
    cloud.proxy.faults.clear()
    with cloud.place(folder) as place:
        place.sweep()
        assert {name: place.load("data", name) for name, _ in place.list("data")} == kept
    assert cloud.names(folder) == sorted(f"data/{name[:2]}/{name}" for name in kept)
    assert len(cloud.apple.prompts) == prompts
    return len(cloud.proxy.seen) - before, len(cloud.proxy.faults.happened) - spoiled


def test_faults_lose_and_double_nothing(cloud: Cloud, folder: str) -> None:
    """Of many requests with every tenth spoiled nothing is lost, nothing is there twice, and nobody is asked for a code.

    A longer form, of 5,000 and more: python -m tests.benchmarks.icloud
    """
    requests, spoiled = faulted(cloud, folder, 600)
    assert spoiled > requests / 20
