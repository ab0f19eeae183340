"""The Apple of our own, checked by clients that are not ours: pyicloud and rclone, both as they come."""

from __future__ import annotations

import gc
import io
import json
import os
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pyicloud import PyiCloudService
from pyicloud import base as pyicloud_base
from pyicloud import exceptions as refusals

from tests.destinations.apple_cloud import FAULTS, Account, Apple, serving
from tests.destinations.servers import installed
from tests.destinations.tls_proxy import Proxy

NAME, PASSWORD = "me@example.org", "correct horse"
ROOT = "FOLDER::com.apple.CloudDocs::root"
ZONE = "/ws/com.apple.CloudDocs/"


class World:
    """Apple with one account, and clients that reach it."""

    def __init__(self, apple: Apple, proxy: Proxy, folder: Path, stack: ExitStack) -> None:
        self.apple, self.proxy, self.folder, self._stack = apple, proxy, folder, stack

    def client(self, password: str | None = None, **more: Any) -> PyiCloudService:
        """pyicloud with the session of this world, not yet signed in."""
        made = PyiCloudService(NAME, password, cookie_directory=str(self.folder / "session"), authenticate=False, **more)
        self._stack.callback(made.session.close)
        self._stack.callback(made.use_existing_trusted_device_code)  # ends the wait for a prompt
        return made

    def signed_in(self) -> PyiCloudService:
        """pyicloud in a trusted browser."""
        kept = self.folder / "session" / "meexampleorg.session"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(self.apple.trusted_session()))
        made = self.client()
        made.authenticate()
        return made

    def signed_in_by_code(self) -> PyiCloudService:
        """The same, by password and code."""
        made = self.client(PASSWORD)
        made.authenticate()
        assert made.validate_2fa_code(self.apple.last_code())
        return made

    def calls(self, first: int = 0) -> list[str]:
        return self.proxy.labels()[first:]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Makes a world around one account of the given kind."""
    with ExitStack() as stack:

        def made(**kind: Any) -> World:
            apple, proxy = stack.enter_context(serving(tmp_path / "world", Account(NAME, PASSWORD, **kind)))
            for name, value in proxy.environment().items():
                monkeypatch.setenv(name, value)
            monkeypatch.delenv("ICLOUD_CHINA", raising=False)
            return World(apple, proxy, tmp_path, stack)

        yield made


def file(data: bytes, name: str) -> io.BytesIO:
    made = io.BytesIO(data)
    made.name = name
    return made


def raw(api: PyiCloudService, service: str, call: str, body: Any, **query: str) -> Any:
    """A call as pyicloud makes it, of which the whole answer is seen."""
    url = api.get_webservice_url(service) + call
    return api.session.request_raw("POST", url, params={**api.params, **query}, data=json.dumps(body))


def listing(api: PyiCloudService, *ids: str) -> Any:
    return raw(api, "drivews", "/retrieveItemDetailsInFolders", [{"drivewsid": each, "partialData": False} for each in ids]).json()


def slot(api: PyiCloudService, name: str, size: int) -> tuple[str, str]:
    asked = {"filename": name, "type": "FILE", "content_type": "application/octet-stream", "size": size}
    given = raw(api, "docws", ZONE + "upload/web", asked).json()[0]
    return given["document_id"], given["url"]


def commit(api: PyiCloudService, document: str, name: str, stored: dict[str, Any], parent: str = "root", zone: str = ZONE) -> Any:
    data = {"signature": stored["fileChecksum"], "reference_signature": stored["referenceChecksum"], "wrapping_key": stored["wrappingKey"]}
    asked = {
        "command": "add_file",
        "document_id": document,
        "data": {**data, "size": stored["size"], "receipt": stored["receipt"]},
        "path": {"starting_document_id": parent, "path": name},
        "allow_conflict": False,
    }
    return raw(api, "docws", zone + "update/documents", asked)


def upload(api: PyiCloudService, name: str, data: bytes) -> Any:
    """A file through slot, bytes and commit."""
    document, url = slot(api, name, len(data))
    stored = api.session.request_raw("POST", url, data=data, headers={"Content-Type": "application/octet-stream"}).json()["singleFile"]
    return commit(api, document, name, stored)


@pytest.mark.parametrize(("protocol", "accepted_409"), [("s2k", True), ("s2k_fo", False)])
@pytest.mark.parametrize(("factor", "delivery"), [("sms", "sms"), ("push", "trusted_device"), ("device", "sms")])
def test_password_and_code_make_a_trusted_browser(
    world: Callable[..., World], factor: str, delivery: str, protocol: str, accepted_409: bool
) -> None:
    """Whoever has the password and the code that Apple sent is let in; a wrong code is told from a right one."""
    here = world(second_factor=factor, protocol=protocol, accepted_409=accepted_409)
    api = here.client(PASSWORD)
    api.authenticate()
    assert api.requires_2fa
    assert api.two_factor_delivery_method == delivery
    assert [prompt.kind for prompt in here.apple.prompts] == ["push" if factor == "push" else "sms"]
    assert not api.validate_2fa_code("000000")
    assert here.apple.wrong_codes == 1
    assert api.validate_2fa_code(here.apple.last_code())
    assert api.is_trusted_session
    assert api.drive.dir() == []
    assert not here.proxy.refused


def test_a_code_may_never_leave_the_device(world: Callable[..., World]) -> None:
    """The newer prompt works as well, where browser and device prove to each other that they know the same digits; others are found out."""
    here = world(second_factor="push", push_service="sealed")
    api = here.client(PASSWORD)
    api.authenticate()
    assert [prompt.kind for prompt in here.apple.prompts] == ["push"]
    assert not api.validate_2fa_code("000000")
    assert not api.validate_2fa_code(here.apple.last_code())  # the prompt is over
    assert api.request_2fa_code()
    assert api.validate_2fa_code(here.apple.last_code())
    assert api.is_trusted_session
    assert "sign-in bridge/code/validate" in here.calls()


def test_a_code_from_the_settings_is_as_good(world: Callable[..., World]) -> None:
    """Where no code arrives, the one that a trusted device shows on request does."""
    here = world(second_factor="push")
    api = here.client(PASSWORD)
    api.authenticate()
    api.use_existing_trusted_device_code()
    assert api.validate_2fa_code(here.apple.code_from_settings())
    assert api.is_trusted_session


def test_a_code_asked_for_in_one_run_may_be_given_in_another(world: Callable[..., World]) -> None:
    """The code may be typed into a second process, within Apple's patience and no later."""
    here = world(second_factor="push")
    here.client(PASSWORD).authenticate()
    here.apple.later(hours=1)
    assert not here.client().validate_2fa_code(here.apple.last_code())
    here.client(PASSWORD).authenticate()
    assert here.client().validate_2fa_code(here.apple.last_code())


def test_wrong_passwords_are_counted_and_lock_the_account(world: Callable[..., World]) -> None:
    """A wrong password is one to Apple, too; five of them lock the account, and then the right one does not help."""
    here = world()
    for _ in range(5):
        with pytest.raises(refusals.PyiCloudFailedLoginException) as refused:
            here.client("wrong").authenticate()
        assert getattr(refused.value.__cause__, "code", None) == 401
    with pytest.raises(refusals.PyiCloudAccountLockedException):
        here.client(PASSWORD).authenticate()
    assert (here.apple.wrong_passwords, here.apple.account.tries_while_locked, here.apple.prompts) == (5, 1, [])


def test_a_saved_session_needs_no_password(world: Callable[..., World]) -> None:
    """While a session lasts it is one request; after that the saved tokens make a new one, and nobody is asked for anything."""
    here = world()
    here.signed_in_by_code()
    before = len(here.calls())
    here.client().authenticate()
    here.apple.later(hours=9)
    again = here.client()
    again.authenticate()
    assert again.is_trusted_session
    assert here.calls(before) == ["setup validate", "setup validate", "setup accountLogin"]
    assert len(here.apple.prompts) == 1


@pytest.mark.parametrize("pass_time", [lambda apple: apple.later(days=31), lambda apple: apple.end_trust()], ids=["thirty days", "ended"])
def test_trust_ends(world: Callable[..., World], pass_time: Callable[[Apple], None]) -> None:
    """After its thirty days a saved session is refused, and without a password no code is sent."""
    here = world()
    here.signed_in_by_code()
    pass_time(here.apple)
    before = len(here.calls())
    with pytest.raises(refusals.PyiCloudFailedLoginException, match="No password set"):
        here.client().authenticate()
    assert here.calls(before) == ["setup validate", "setup accountLogin"]
    assert len(here.apple.prompts) == 1
    here.client(PASSWORD).authenticate()
    assert len(here.apple.prompts) == 2


def test_a_live_session_token_is_not_trust(world: Callable[..., World]) -> None:
    """A session that outlives its trust is let in no further than to the question for a code."""
    here = world(token_days=60)
    here.signed_in_by_code()
    here.apple.later(days=31)
    with pytest.raises(refusals.PyiCloudFailedLoginException, match="No password set"):
        here.client().authenticate()


@pytest.mark.parametrize("renewable", [True, False])
def test_renewing_trust_is_a_matter_of_the_account(world: Callable[..., World], renewable: bool) -> None:
    """Whether a live session may prolong its trust is a setting, since only Apple knows."""
    here = world(renewable=renewable)
    here.signed_in_by_code()
    here.apple.later(days=20)
    api = here.client()
    api.authenticate()
    assert api.trust_session() is renewable
    here.apple.later(days=20)
    late = here.client()
    if renewable:
        late.authenticate()
        assert late.is_trusted_session
        here.apple.later(days=31)
        assert not late.trust_session()
    else:
        with pytest.raises(refusals.PyiCloudFailedLoginException):
            late.authenticate()


def test_signing_out_ends_the_session(world: Callable[..., World]) -> None:
    """Whoever signs out is out: the session's cookie counts no more."""
    here = world()
    api = here.signed_in()
    kept = api.session.cookies.copy()
    assert api.logout(clear_local_session=False)["remote_logout_confirmed"]
    api.session.cookies.update(kept)
    assert raw(api, "drivews", "/retrieveItemDetailsInFolders", [{"drivewsid": ROOT}]).status_code == 421


def test_an_account_of_china_is_sent_there(world: Callable[..., World]) -> None:
    """The wrong region is answered with the right one; there, everything works as anywhere."""
    here = world(china=True, country="CHN")
    lost = here.client(PASSWORD)
    lost.authenticate()
    lost.validate_2fa_code(here.apple.last_code())
    assert lost.data == {"domainToUse": "iCloud.com.cn"}
    found = here.client(china_mainland=True)
    found.authenticate()
    assert found.is_trusted_session
    found.drive.root.upload(file(b"voice", "a.bin"))
    assert found.drive.root.get_children(force=True)[0].open().content == b"voice"
    assert {entry.host for entry in here.proxy.seen if "icloud" in entry.host and entry.label != "setup accountLogin"} == {
        "p42-docws.icloud.com.cn",
        "p42-drivews.icloud.com.cn",
        "p42-content.icloud-content.com.cn",
        "cvws.icloud-content.com.cn",
        "setup.icloud.com.cn",
    }


def test_new_terms_stand_before_everything(world: Callable[..., World]) -> None:
    """Until the terms are accepted there are no cookies; a client that accepts them is let in."""
    here = world()
    here.signed_in()
    here.apple.end_web_sessions()
    here.apple.account.terms = 7
    with pytest.raises(refusals.PyiCloudAcceptTermsException):
        here.client().authenticate()
    willing = here.client(accept_terms=True)
    willing.authenticate()
    assert here.apple.account.terms == 0
    assert willing.drive.dir() == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ({"locked": True}, refusals.PyiCloudAccountLockedException),
        ({"repair": True}, refusals.PyiCloudFailedLoginException),
    ],
    ids=["locked", "to be repaired"],
)
def test_some_accounts_are_not_let_in(world: Callable[..., World], kind: dict[str, Any], error: type[Exception]) -> None:
    """An account that Apple has locked, or wants upgraded first, cannot sign in with the right password."""
    here = world(**kind)
    with pytest.raises(error):
        here.client(PASSWORD).authenticate()
    assert not here.apple.prompts
    assert not here.apple.wrong_passwords


def test_web_access_can_be_switched_off(world: Callable[..., World]) -> None:
    """Without web access signing in works, and every service answers as if the session were over."""
    here = world()
    api = here.signed_in()
    here.apple.account.web_access = False
    assert raw(api, "drivews", "/retrieveItemDetailsInFolders", [{"drivewsid": ROOT}]).status_code == 421
    here.client().authenticate()


def test_a_misdirected_connection_is_cured_by_another(world: Callable[..., World]) -> None:
    """The 421 that stands for a wrong connection goes with that connection, and with nothing else."""
    here = world()
    api = here.signed_in()
    assert listing(api, ROOT)[0]["status"] == "OK"
    here.apple.misdirect()
    asked = [raw(api, "drivews", "/retrieveItemDetailsInFolders", [{"drivewsid": ROOT}]).status_code for _ in range(2)]
    assert asked == [421, 421]
    api.session.close()
    assert listing(api, ROOT)[0]["status"] == "OK"


def test_a_drive_that_was_never_set_up_is_not_there(world: Callable[..., World]) -> None:
    """An account without iCloud Drive has no such service in its map."""
    here = world(drive=False)
    with pytest.raises(refusals.PyiCloudServiceNotActivatedException):
        here.signed_in().get_webservice_url("drivews")


def test_a_security_key_sends_no_code(world: Callable[..., World]) -> None:
    """Where a security key is registered it is named, and no code goes out."""
    here = world(second_factor="security-key")
    api = here.client(PASSWORD)
    api.authenticate()
    assert api.two_factor_delivery_method == "security_key"
    assert api.security_key_names == ["the key on the ring"]
    assert not api.validate_2fa_code("123456")
    assert not here.apple.prompts


def test_an_account_without_second_factor_is_let_in(world: Callable[..., World]) -> None:
    """An account from before second factors needs its password only."""
    here = world(second_factor="none")
    api = here.client(PASSWORD)
    api.authenticate()
    assert api.is_trusted_session
    assert not here.apple.prompts


@pytest.mark.parametrize("granted", [True, False])
def test_protected_data_wait_for_a_person(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, granted: bool) -> None:
    """With Advanced Data Protection a person has to grant access, for an hour; without it both services say so, each in its way."""
    monkeypatch.setattr(pyicloud_base, "PCS_SLEEP_TIME", 0)
    here = world(adp=True, adp_polls=2 if granted else None)
    api = here.signed_in_by_code()
    closed = raw(api, "drivews", "/retrieveItemDetailsInFolders", [{"drivewsid": ROOT}])
    documents = raw(api, "docws", ZONE + "upload/web", {})
    assert (closed.status_code, documents.status_code) == (423, 400)
    assert closed.json()["errorReason"] == "Missing PCS cookies from the request"
    assert documents.json()["errorReason"] == "Cannot find PCS auth info"
    if granted:
        assert api.drive.dir() == []
        here.apple.later(hours=2)
        assert raw(api, "drivews", "/retrieveItemDetailsInFolders", [{"drivewsid": ROOT}]).status_code == 423
    else:
        with pytest.raises(refusals.PyiCloudPCSTimeoutException):
            _ = api.drive
    assert [prompt.kind for prompt in here.apple.prompts] == ["sms", "approval"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pyicloud leaves the refused connection open
def test_a_prompt_that_cannot_be_sent(world: Callable[..., World]) -> None:
    """Where the push service refuses, a text message goes out; where it cannot be reached, pyicloud ends with the system's own error."""
    here = world(second_factor="push", push_service="refuses")
    api = here.client(PASSWORD)
    api.authenticate()
    assert (api.two_factor_delivery_method, [prompt.kind for prompt in here.apple.prompts]) == ("sms", ["sms"])
    here.apple.account.push_service = "absent"
    with pytest.raises(ConnectionRefusedError):
        here.client(PASSWORD).authenticate()
    here.apple.account.push_service, here.apple.account.phone = "refuses", False
    mute = here.client(PASSWORD)
    mute.authenticate()
    assert mute.requires_2fa
    assert len(here.apple.prompts) == 1
    gc.collect()


def test_files_come_and_go(world: Callable[..., World]) -> None:
    """What pyicloud uploads it lists, reads in whole and in parts, renames, moves, throws away and takes back, byte by byte the same."""
    here = world()
    drive = here.signed_in().drive
    data = os.urandom(300_000)
    drive.mkdir("Voice notes")
    drive.mkdir("Elsewhere")
    drive.root.get_children(force=True)
    folder = drive["Voice notes"]
    folder.upload(file(data, "a.bin"), mtime=1_700_000_000)
    kept = folder.get_children(force=True)[0]
    assert (kept.name, kept.size, kept.type, str(kept.date_modified)) == ("a.bin", 300_000, "file", "2023-11-14 22:13:20")
    assert kept.open().content == data
    parts = {"bytes=0-9": data[:10], "bytes=-5": data[-5:], "bytes=299990-": data[-10:], "bytes=299990-999999": data[-10:]}
    for wanted, expected in parts.items():
        answer = kept.open(headers={"Range": wanted})
        assert (answer.status_code, answer.content) == (206, expected)
    kept.rename("b.bin")
    kept = folder.get_children(force=True)[0]
    drive.move_nodes_to_node([kept], drive["Elsewhere"])
    assert here.apple.objects().keys() == {"Elsewhere/b.bin"}
    assert next(iter(here.apple.objects().values())).read_bytes() == data
    moved = drive["Elsewhere"].get_children(force=True)[0]
    assert moved.move_to_trash()["items"][0]["status"] == "OK"
    assert not here.apple.objects()
    drive.refresh_trash()
    thrown = drive.trash.get_children()[0]
    assert thrown.data["restorePath"] == "/Elsewhere/b.bin"
    thrown.recover()
    assert here.apple.objects().keys() == {"Elsewhere/b.bin"}


def test_the_trash_uses_quota_until_it_is_emptied(world: Callable[..., World]) -> None:
    """What was thrown away is counted for thirty days, or until it is deleted for good."""
    here = world(quota=1000)
    api = here.signed_in()
    for name in ("a.bin", "b.bin"):
        api.drive.root.upload(file(b"x" * 300, name))
    for node in api.drive.root.get_children(force=True):
        node.delete()
    assert api.account.storage.usage.available_storage_in_bytes == 400
    api.drive.trash.get_children(force=True)[0].delete_forever()
    assert here.apple.drive().used() == 300
    here.apple.later(days=31)
    here.apple.account.trust_days = here.apple.account.token_days = 60
    here.signed_in().drive.refresh_root()
    assert here.apple.drive().used() == 0


def test_a_taken_name_is_never_replaced(world: Callable[..., World]) -> None:
    """A second file or folder of a name becomes `name 2`, whatever the case; both are there, and the server tells which."""
    here = world()
    api = here.signed_in()
    for name in ("a.bin", "A.bin", "a.bin"):
        assert upload(api, name, name.encode()).json()["results"][0]["status"]["status_code"] == 0
    api.drive.mkdir("box")
    given = api.drive.create_folders(ROOT, "box")["folders"][0]
    assert given["name"] == "box 2"
    assert here.apple.objects().keys() == {"a.bin", "A 2.bin", "a 3.bin"}
    assert here.apple.duplicates() == ["A 2.bin", "a 3.bin", "box 2"]


@pytest.mark.parametrize(("manner", "status"), [("same", "OK"), ("refuses", "ALREADY_EXISTS")])
def test_a_taken_name_may_be_met_otherwise(world: Callable[..., World], manner: str, status: str) -> None:
    """The other answers that Apple might give to a taken name can be had, too."""
    here = world()
    api = here.signed_in()
    here.apple.drive().manner.taken_folder, here.apple.drive().manner.taken_file = manner, "refuses"
    made = [api.drive.create_folders(ROOT, "box")["folders"][0] for _ in range(2)]
    assert made[1]["status"] == status
    assert len(here.apple.drive().tree.children(here.apple.drive().tree.root)) == 1
    upload(api, "a.bin", b"first")
    assert upload(api, "a.bin", b"second").json()["results"][0]["status"]["status_code"] == 409
    assert here.apple.objects().keys() == {"a.bin"}


def test_each_item_has_its_own_status(world: Callable[..., World]) -> None:
    """A call succeeds as a whole though items of it fail: a stale etag, an unknown id, an answer without effect."""
    here = world()
    api = here.signed_in()
    for name in ("a.bin", "b.bin"):
        upload(api, name, b"voice")
    a, b = listing(api, ROOT)[0]["items"]
    here.apple.drive().manner.unknown_status = 1
    unknown = {"drivewsid": "FILE::com.apple.CloudDocs::NONE", "etag": "1"}
    asked = {"items": [a, {**b, "etag": "0::1"}, unknown]}
    assert [item["status"] for item in raw(api, "drivews", "/moveItemsToTrash", asked).json()["items"]] == [
        "UNKNOWN",
        "ETAG_CONFLICT",
        "ID_INVALID",
    ]
    assert here.apple.objects().keys() == {"a.bin", "b.bin"}
    done = raw(api, "drivews", "/moveItemsToTrash", {"items": [a, b]}).json()["items"]
    assert [(item["status"], item["isDeleted"]) for item in done] == [("OK", True), ("OK", True)]
    assert not here.apple.objects()


def test_etags_count_for_moves_and_not_for_names(world: Callable[..., World]) -> None:
    """A stale etag stops a move and not a rename, as with Apple; a folder cannot be moved into itself."""
    here = world()
    api = here.signed_in()
    upload(api, "a.bin", b"voice")
    api.drive.create_folders(ROOT, "box")
    a, box = listing(api, ROOT)[0]["items"]

    def moved(item: dict[str, Any]) -> str:
        asked = {"destinationDrivewsId": box["drivewsid"], "items": [item]}
        return str(raw(api, "drivews", "/moveItems", asked).json()["items"][0]["status"])

    assert moved({**a, "etag": "0::1"}) == "ETAG_CONFLICT"
    assert moved(box) == "ID_INVALID"
    assert api.drive.rename_items(a["drivewsid"], "0::1", "b.bin")["items"][0]["status"] == "OK"
    assert moved(a) == "ETAG_CONFLICT"
    assert moved(next(item for item in listing(api, ROOT)[0]["items"] if item["name"] == "b")) == "OK"
    assert here.apple.objects().keys() == {"box/b.bin"}


def test_many_folders_are_made_and_listed_at_once(world: Callable[..., World]) -> None:
    """Folders are made and listed in batches, in the order of the question; one that is gone is said to be, and too many are refused."""
    here = world()
    api = here.signed_in()
    names = [f"{number:02x}" for number in range(64)]
    asked = {"destinationDrivewsId": ROOT, "folders": [{"clientId": f"temporary {name}", "name": name} for name in names]}
    made = raw(api, "drivews", "/createFolders", asked).json()["folders"]
    assert [(folder["name"], folder["clientId"], folder["status"]) for folder in made] == [
        (name, f"temporary {name}", "OK") for name in names
    ]
    here.apple.drive().put("07/a", b"voice")
    found = listing(api, *[folder["drivewsid"] for folder in made], "FOLDER::com.apple.CloudDocs::NONE")
    assert [folder.get("name") for folder in found] == [*names, None]
    assert [folder["name"] for folder in found[:-1] if folder["numberOfItems"]] == ["07"]
    assert found[-1]["status"] == "ID_INVALID"
    here.apple.drive().manner.batch = 32
    assert raw(api, "drivews", "/retrieveItemDetailsInFolders", [{"drivewsid": ROOT}] * 33).status_code == 400


def test_listings_may_lag_and_be_short(world: Callable[..., World]) -> None:
    """On demand a listing shows changes late, or fewer items than it says it has."""
    here = world()
    api = here.signed_in()
    drive = here.apple.drive()
    drive.manner.late = 2
    upload(api, "a.bin", b"voice")
    seen = [[item["name"] for item in listing(api, ROOT)[0]["items"]] for _ in range(3)]
    assert seen == [[], [], ["a"]]
    raw(api, "drivews", "/moveItemsToTrash", {"items": listing(api, ROOT)[0]["items"]})
    seen = [[item["name"] for item in listing(api, ROOT)[0]["items"]] for _ in range(3)]
    assert seen == [["a"], ["a"], []]
    drive.manner.late = 0
    for name in ("b.bin", "c.bin"):
        upload(api, name, b"voice")
    drive.manner.short = 1
    short, full = listing(api, ROOT)[0], listing(api, ROOT)[0]
    assert (short["numberOfItems"], len(short["items"])) == (2, 1)
    assert (full["numberOfItems"], len(full["items"])) == (2, 2)


def test_names_without_extension(world: Callable[..., World]) -> None:
    """Stem and extension come apart; where there is no extension the field is absent, empty or null, as asked."""
    here = world()
    api = here.signed_in()
    upload(api, "a" * 64, b"voice")
    drive = here.apple.drive()
    (item,) = listing(api, ROOT)[0]["items"]
    assert item["name"] == "a" * 64
    assert "extension" not in item
    drive.manner.bare_extension = ""
    assert listing(api, ROOT)[0]["items"][0]["extension"] == ""
    drive.manner.bare_extension = None
    assert listing(api, ROOT)[0]["items"][0]["extension"] is None


def test_a_file_is_there_from_its_commit_on(world: Callable[..., World]) -> None:
    """Bytes that were sent show nowhere until they are committed; the same commit again makes no second file."""
    here = world()
    api = here.signed_in()
    document, url = slot(api, "a.bin", 5)
    assert commit(
        api, document, "a.bin", {"fileChecksum": "", "referenceChecksum": "", "wrappingKey": "", "size": 5, "receipt": ""}
    ).json()["results"][0]["status"]["status_code"]
    stored = api.session.request_raw("POST", url, data=b"voice").json()["singleFile"]
    assert stored["size"] == 5
    assert listing(api, ROOT)[0]["items"] == []
    assert commit(api, document, "a.bin", {**stored, "receipt": "another"}).json()["results"][0]["status"]["status_code"]
    assert not here.apple.objects()
    for _ in range(2):
        done = commit(api, document, "a.bin", stored).json()["results"][0]
        assert (done["document"]["document_id"], done["document"]["name"], done["document"]["size"]) == (document, "a.bin", 5)
    assert here.apple.objects().keys() == {"a.bin"}
    assert (here.apple.drive().committed, here.apple.drive().replayed) == (["a.bin"], ["a.bin"])


def test_a_commit_names_the_zone_of_its_folder(world: Callable[..., World]) -> None:
    """A file for the folder of an app has to be committed in that app's zone; for a folder that is gone it cannot be at all."""
    here = world()
    api = here.signed_in()
    library = here.apple.drive().library("Pages", "com.apple.Pages")
    here.apple.drive().shared("Ours")
    assert [(item["type"], item["zone"]) for item in listing(api, ROOT)[0]["items"]] == [
        ("APP_LIBRARY", "com.apple.Pages"),
        ("SHARED_FOLDER", "com.apple.CloudDocs"),
    ]
    assert [item["name"] for item in api.drive.get_app_data()] == ["Pages"]
    document, url = slot(api, "a.bin", 5)
    stored = api.session.request_raw("POST", url, data=b"voice").json()["singleFile"]
    refused = commit(api, document, "a.bin", stored, parent=library.docwsid)
    assert (refused.status_code, refused.json()["errorReason"]) == (412, "VALIDATING_REFERENCE_ERROR")
    assert commit(api, document, "a.bin", stored, parent="NONE").status_code == 412
    assert commit(api, document, "a.bin", stored, parent=library.docwsid, zone="/ws/com.apple.Pages/").status_code == 200
    assert here.apple.objects().keys() == {"Pages/a.bin"}


def test_an_address_is_good_for_a_while(world: Callable[..., World]) -> None:
    """Signed addresses move (330), end (410 or 404), and may ignore ranges; one that was made up leads nowhere."""
    here = world()
    api = here.signed_in()
    upload(api, "a.bin", b"voice")
    manner = here.apple.drive().manner
    (item,) = listing(api, ROOT)[0]["items"]

    def address() -> str:
        url = api.get_webservice_url("docws") + ZONE + "download/by_id"
        given = api.session.request_raw("GET", url, params={**api.params, "document_id": item["docwsid"]})
        return str(given.json()["data_token"]["url"])

    def got(url: str, wanted: str = "bytes=1-2") -> tuple[int, bytes, str]:
        answer = api.session.request_raw("GET", url, headers={"Range": wanted})
        return answer.status_code, answer.content, answer.headers.get("Location") or answer.headers.get("Content-Range", "")

    first = address()
    assert got(first) == (206, b"oi", "bytes 1-2/5")
    assert got(first, "bytes=5-9") == (416, b"", "bytes */5")
    manner.moved = 1
    status, _, moved = got(first)
    assert status == 330
    assert got(moved)[:2] == (206, b"oi")
    manner.ranges = False
    assert got(first)[:2] == (200, b"voice")
    here.apple.later(hours=1)
    assert got(first)[0] == 410
    manner.expired = 404
    assert got(first)[0] == 404
    assert got(address())[:2] == (200, b"voice")
    assert got(first.replace("/B/", "/B/no"))[0] == 404


def test_nothing_is_stored_of_an_empty_body(world: Callable[..., World]) -> None:
    """A bare body of no bytes is refused; the form of the web page makes an empty file, which cannot be read back."""
    here = world()
    api = here.signed_in()
    _, url = slot(api, "a.bin", 0)
    assert api.session.request_raw("POST", url, data=b"").status_code == 400
    api.drive.root.upload(file(b"", "a.bin"))
    (item,) = api.drive.root.get_children(force=True)
    assert item.size is None
    wanted = {**api.params, "document_id": item.data["docwsid"]}
    assert api.session.request_raw("GET", api.get_webservice_url("docws") + ZONE + "download/by_id", params=wanted).status_code == 400


@pytest.mark.parametrize("where", ["slot", "commit"])
def test_a_full_account_takes_nothing_more(world: Callable[..., World], where: str) -> None:
    """Where the quota is used up, a file is refused: before its bytes or after them, as asked."""
    here = world(quota=8)
    api = here.signed_in()
    here.apple.drive().manner.full_at = where
    upload(api, "a.bin", b"voice")
    if where == "slot":
        refused = raw(api, "docws", ZONE + "upload/web", {"filename": "b", "size": 5, "content_type": "x/y"})
    else:
        refused = upload(api, "b.bin", b"voice")
    assert refused.status_code == 507
    assert here.apple.objects().keys() == {"a.bin"}


def test_what_pyicloud_makes_of_each_fault(world: Callable[..., World]) -> None:
    """Every fault reaches the client as what it is, with the effect that it says, and is gone with the next request."""
    here = world()
    api = here.signed_in()
    made = {}
    for name in [name for name in FAULTS if name != "stall"]:
        here.proxy.faults.add("drive createFolders", FAULTS[name])
        made[name] = outcome(api, name)
        assert api.drive.create_folders(ROOT, f"after {name}")["folders"][0]["status"] == "OK"
    assert made == OUTCOMES
    there = {node.name for node in here.apple.drive().tree.children(here.apple.drive().tree.root) if not node.name.startswith("after")}
    assert there == EFFECTS


def outcome(api: PyiCloudService, name: str) -> object:
    """What becomes of making a folder of that name: the class of the refusal where pyicloud has one of its own, or its code."""
    try:
        api.drive.create_folders(ROOT, name)
    except refusals.PyiCloudConnectionException:
        return "no connection"
    except refusals.PyiCloudAPIResponseException as error:
        own = {
            refusals.PyiCloudAccountLockedException,
            refusals.PyiCloudEndpointGoneException,
            refusals.PyiCloudServiceNotActivatedException,
        }
        return type(error) if type(error) in own else error.code
    except refusals.PyiCloudException as error:
        return type(error)
    except ValueError:
        return "not JSON"
    return "taken for an answer"


OUTCOMES = {
    "busy": 503,
    "throttled": 503,
    "throttled in 200": "THROTTLED",
    "too many": 429,
    "request timeout": 408,
    "server error": 500,
    "bad gateway": 502,
    "gateway timeout": 504,
    "gateway timeout after effect": 504,
    "page": "not JSON",
    "half json": "not JSON",
    "nothing": "taken for an answer",
    "reset": "no connection",
    "drop": "no connection",
    "lost": "no connection",
    "cut answer": None,
    "cut body": "no connection",
    "twice": "taken for an answer",
    "session over": 421,
    "misdirected": 421,
    "unauthorised": 401,
    "sign in again": refusals.PyiCloudAuthRequiredException,
    "second factor": refusals.PyiCloud2FARequiredException,
    "locked": refusals.PyiCloudAccountLockedException,
    "gone for ever": refusals.PyiCloudEndpointGoneException,
    "wrong zone": 412,
    "no consent": 423,
    "not found": 404,
    "never set up": refusals.PyiCloudServiceNotActivatedException,
    "not activated": refusals.PyiCloudServiceNotActivatedException,
    "full": 507,
}
EFFECTS = {"gateway timeout after effect", "half json", "nothing", "lost", "cut answer", "twice", "twice 2"}


@pytest.mark.parametrize(("fault", "there"), [("lost", True), ("gateway timeout after effect", True), ("reset", False), ("busy", False)])
def test_a_lost_answer_can_be_told_from_no_effect(world: Callable[..., World], fault: str, there: bool) -> None:
    """After a commit whose answer was lost, the document's id in a listing tells whether it was made."""
    here = world()
    api = here.signed_in()
    document, url = slot(api, "a.bin", 5)
    stored = api.session.request_raw("POST", url, data=b"voice").json()["singleFile"]
    here.proxy.faults.add("docs update/documents", FAULTS[fault])
    try:
        assert commit(api, document, "a.bin", stored).status_code >= 500
    except refusals.PyiCloudConnectionException:
        assert fault in ("lost", "reset")
    assert [item["docwsid"] for item in listing(api, ROOT)[0]["items"]] == [document] * there


def test_half_a_body_is_no_upload(world: Callable[..., World]) -> None:
    """Of an upload that breaks off, nothing can be committed; the same slot takes it again."""
    here = world()
    api = here.signed_in()
    data = os.urandom(1 << 20)
    document, url = slot(api, "a.bin", len(data))
    here.proxy.faults.add("content upload", FAULTS["cut body"])
    with pytest.raises(refusals.PyiCloudConnectionException):
        api.session.request_raw("POST", url, data=data)
    assert not here.apple.drive().uploaded
    stored = api.session.request_raw("POST", url, data=data).json()["singleFile"]
    commit(api, document, "a.bin", stored)
    assert here.apple.objects()["a.bin"].read_bytes() == data


def test_large_objects_lie_on_disk(world: Callable[..., World]) -> None:
    """A file of any size costs the server no memory, on its way in and out."""
    here = world()
    api = here.signed_in()
    size, source = 64 << 20, here.folder / "large"
    source.touch()
    os.truncate(source, size)
    tracemalloc.start()
    document, url = slot(api, "large.bin", size)
    with source.open("rb") as body:
        stored = api.session.request_raw("POST", url, data=body).json()["singleFile"]
    commit(api, document, "large.bin", stored)
    node = api.drive.root.get_children(force=True)[0]
    with node.open(stream=True) as answer:
        assert sum(len(piece) for piece in answer.iter_content(1 << 20)) == size
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_what_a_client_should_not_do_is_noted(world: Callable[..., World]) -> None:
    """Own folders in names, the session told to hosts that need not know it, calls without the browser's query: all this is seen."""
    here = world()
    api = here.signed_in()
    upload(api, "a.bin", b"voice")
    assert here.apple.complaints == []
    api.drive.root.upload(file(b"voice", "/home/me/b.bin"))
    api.drive.root.get_children(force=True)[1].open()
    api.session.request_raw("POST", api.get_webservice_url("drivews") + "/retrieveItemDetailsInFolders", data="[]")
    assert here.apple.complaints == [
        "a local path in the name of an upload",
        "the content host was told of the session",
        "/retrieveItemDetailsInFolders without clientBuildNumber, clientMasteringNumber, clientId, dsid",
    ]


def test_no_other_host_is_reached(world: Callable[..., World]) -> None:
    """Whatever else a client tries to reach is refused, and can be read afterwards."""
    here = world()
    with pytest.raises(refusals.PyiCloudConnectionException):
        here.client().session.request_raw("GET", "https://example.org/")
    assert here.proxy.refused == ["example.org:443"]


def rclone(here: World, *words: str) -> str:
    """What rclone says to a command; it must succeed."""
    env = os.environ | {"RCLONE_CONFIG": str(here.folder / "rclone.conf"), "RCLONE_CACHE_DIR": str(here.folder / "cache")}
    done = subprocess.run([installed("rclone"), *words], env=env, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize(("factor", "kind"), [("sms", "sms"), ("device", "push")])
def test_rclone_is_served_as_well(world: Callable[..., World], factor: str, kind: str) -> None:
    """A second client of another make signs in, copies, compares every byte, reads parts, moves, deletes, and reads what pyicloud wrote."""
    here = world(second_factor=factor)
    asked = rclone(
        here, "config", "create", "ic", "iclouddrive", f"apple_id={NAME}", f"password={PASSWORD}", "--obscure", "--non-interactive"
    )
    assert [prompt.kind for prompt in here.apple.prompts] == [kind]
    given = ["--state", json.loads(asked)["State"], "--result", here.apple.last_code()]
    rclone(here, "config", "update", "ic", "--continue", *given, "--non-interactive")
    source = here.folder / "source"
    (source / "data" / "00").mkdir(parents=True)
    for number in range(20):
        (source / "data" / "00" / f"{number:064x}").write_bytes(os.urandom(number * 1000 + 1))
    rclone(here, "copy", str(source), "ic:Voice notes")
    rclone(here, "check", str(source), "ic:Voice notes", "--download")
    assert len(json.loads(rclone(here, "lsjson", "-R", "--files-only", "ic:Voice notes"))) == 20
    upload(here.signed_in(), "a.bin", b"voice note")
    assert rclone(here, "cat", "ic:a.bin", "--offset", "6", "--count", "4") == "note"
    rclone(here, "moveto", "ic:a.bin", "ic:Voice notes/b.bin")
    rclone(here, "deletefile", f"ic:Voice notes/data/00/{0:064x}")
    expected = {f"Voice notes/data/00/{number:064x}" for number in range(1, 20)} | {"Voice notes/b.bin"}
    assert here.apple.objects().keys() == expected
    assert not here.proxy.refused


def test_an_account_can_be_repaired(world: Callable[..., World]) -> None:
    """An account that is to be upgraded first lets in a client that does so, as rclone does; from then on anybody."""
    here = world(second_factor="none", repair=True)
    rclone(here, "config", "create", "ic", "iclouddrive", f"apple_id={NAME}", f"password={PASSWORD}", "--obscure", "--non-interactive")
    assert "sign-in repair/complete" in here.calls()
    api = here.client(PASSWORD)
    api.authenticate()
    assert api.drive.dir() == []
