"""Our own Google Drive is worth something only if clients that know nothing of it find what they expect: Google's library, and rclone."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import google_auth_httplib2
import httplib2
import pytest
from google.auth.exceptions import RefreshError, TransportError
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseUpload

from tests.destinations.drive import DRIVE, DRIVE_APPDATA, DRIVE_FILE, DRIVE_READONLY, MISHAPS, Consent, Fault, Google, failure, google
from tests.destinations.drive.api import DriveApi
from tests.destinations.drive.discovery import drive_v3
from tests.destinations.drive.people import Account, Client
from tests.destinations.servers import rclones
from tests.destinations.tls_proxy import Request

FOLDER = "application/vnd.google-apps.folder"
BYTES = "application/octet-stream"
CHUNK = 256 << 10
TOKEN_URI = "https://oauth2.googleapis.com/token"
Maker = Callable[..., Any]


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """Google, with the environment by which clients in this process reach it."""
    with google(tmp_path / "google") as world:
        world.proxy.adopt(monkeypatch)
        yield world


@pytest.fixture
def anna(drive: Google) -> Account:
    return drive.person()


@pytest.fixture
def client(drive: Google) -> Client:
    return drive.client()


@pytest.fixture
def signed_in(drive: Google) -> Iterator[Maker]:
    """Google's own Python library, signed in."""
    made = []

    def opened(account: Account, client: Client, *scopes: str) -> Any:
        answer = drive.sign_in(account, client, *scopes)
        made.append(service(client, str(answer["refresh_token"])))
        return made[-1]

    yield opened
    for one in made:
        one.close()


@pytest.fixture
def api(signed_in: Maker, anna: Account, client: Client) -> Any:
    """The usual case: one person, one program that sees its own files."""
    return signed_in(anna, client)


def service(client: Client, refresh_token: str) -> Any:
    credentials = Credentials(  # type: ignore[no-untyped-call]
        None, refresh_token=refresh_token, client_id=client.id, client_secret=client.secret, token_uri=TOKEN_URI
    )
    return build("drive", "v3", credentials=credentials, static_discovery=True, cache_discovery=False)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def put(api: Any, name: str, content: bytes, **known: Any) -> dict[str, Any]:
    """Upload in one request; all that is known of the new file."""
    media = MediaIoBaseUpload(io.BytesIO(content), BYTES)
    return api.files().create(body={"name": name, **known}, media_body=media, fields="*").execute()  # type: ignore[no-any-return]


def make_folder(api: Any, name: str, **known: Any) -> str:
    return str(api.files().create(body={"name": name, "mimeType": FOLDER, **known}, fields="id").execute()["id"])


def names(api: Any, q: str | None = None, **known: Any) -> list[str]:
    answer = api.files().list(q=q, fields="files(name)", **known).execute()
    return [file["name"] for file in answer["files"]]


def reserve(api: Any, count: int = 1) -> list[str]:
    return list(api.files().generateIds(count=count).execute()["ids"])


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    """What Google's library reports: status and reason."""
    with pytest.raises(HttpError) as caught:
        call()
    try:
        return caught.value.status_code, json.loads(caught.value.content)["error"]["errors"][0]["reason"]
    except ValueError:
        return caught.value.status_code, ""


def session(api: Any, name: str, size: int | None, **known: Any) -> str:
    """Start a resumable upload by hand: its address."""
    headers = {"Content-Type": "application/json", "X-Upload-Content-Type": BYTES}
    if size is not None:
        headers["X-Upload-Content-Length"] = str(size)
    url = "https://www.googleapis.com/upload/drive/v3/files?uploadType=resumable&fields=id,size,sha256Checksum"
    answer, _ = api._http.request(url, "POST", json.dumps({"name": name, **known}), headers)
    assert answer.status == 200
    return str(answer["location"])


def send(api: Any, address: str, content: bytes, content_range: str, method: str = "PUT") -> tuple[int, str, bytes]:
    """One request to the address of an upload: status, how far the server is, body."""
    headers = {"Content-Range": content_range} if content_range else {}
    answer, body = api._http.request(address, method, content, headers)
    return answer.status, answer.get("range", ""), body


# --- the client library: objects


def test_the_library_uploads_reads_and_deletes(drive: Google, api: Any) -> None:
    """What goes up comes down, whole and in ranges, with the checksums that Google keeps."""
    content = noise(3 << 20)
    made = put(api, "pack", content)
    assert made["size"] == str(len(content))
    assert made["sha256Checksum"] == hashlib.sha256(content).hexdigest()
    assert made["md5Checksum"] == hashlib.md5(content).hexdigest()
    assert api.files().get_media(fileId=made["id"]).execute() == content
    assert drive.content(made["id"]).read_bytes() == content
    assert api.files().delete(fileId=made["id"]).execute() == ""
    assert refusal(api.files().get(fileId=made["id"]).execute) == (404, "notFound")
    assert refusal(api.files().delete(fileId=made["id"]).execute) == (404, "notFound")
    assert drive.objects() == []


def test_an_empty_file_is_a_file(api: Any) -> None:
    """Nothing can be kept, too: in one request and in a session; a range of it does not exist."""
    made = put(api, "empty", b"")
    assert (made["size"], made["sha256Checksum"]) == ("0", hashlib.sha256().hexdigest())
    status, _, body = send(api, session(api, "empty too", 0), b"", "bytes */0")
    assert (status, json.loads(body)["size"]) == (200, "0")
    asked = api.files().get_media(fileId=made["id"])
    asked.headers["range"] = "bytes=0-9"
    with pytest.raises(HttpError) as caught:
        asked.execute()
    assert caught.value.status_code == 416
    assert caught.value.resp["content-range"] == "bytes */0"


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [("bytes=5-10", slice(5, 11)), ("bytes=990-", slice(990, None)), ("bytes=-7", slice(-7, None)), ("bytes=0-5000", slice(None))],
)
def test_ranges_are_exact(api: Any, asked: str, wanted: slice) -> None:
    """A range read gives these bytes and says which they are."""
    content = noise(1000)
    request = api.files().get_media(fileId=put(api, "pack", content)["id"])
    request.headers |= {"range": asked, "accept-encoding": "identity"}
    answer, body = api._http.request(request.uri, "GET", headers=request.headers)
    first = range(1000)[wanted].start
    assert (answer.status, body) == (206, content[wanted])
    assert answer["content-range"] == f"bytes {first}-{first + len(body) - 1}/1000"


def test_names_are_labels(drive: Google, api: Any) -> None:
    """Two files of one name are two files, and the server says so to tests."""
    folder = make_folder(api, "Voice notes")
    for _ in range(2):
        put(api, "config", b"x", parents=[folder])
    assert names(api, f"'{folder}' in parents") == ["config", "config"]
    assert drive.duplicates() == ["Voice notes/config"]


def test_a_reserved_id_makes_one_file(drive: Google, api: Any) -> None:
    """However often a creation under a reserved id is sent, there is one file; also after its deletion none more."""
    for reason in ("fileIdInUse", "duplicate"):
        drive.manners.conflict_reason = reason
        (name,) = reserve(api)
        put(api, "pack", b"1", id=name)
        assert refusal(lambda: put(api, "pack", b"1", id=name)) == (409, reason)  # noqa: B023
        assert refusal(lambda: make_folder(api, "pack", id=name)) == (409, reason)  # noqa: B023
    api.files().delete(fileId=name).execute()
    assert refusal(lambda: put(api, "pack", b"1", id=name)) == (409, "duplicate")
    assert refusal(lambda: put(api, "pack", b"1", id="1" + "x" * 32)) == (400, "invalid")
    assert drive.duplicates() == []


@pytest.mark.parametrize("when", ["start", "end"])
def test_a_resumable_upload_under_a_used_id_is_refused(drive: Google, api: Any, when: str) -> None:
    """Nobody knows whether Google refuses at the start or at the end; both can be had."""
    drive.manners.conflict_at = when  # type: ignore[assignment]
    (name,) = reserve(api)
    put(api, "pack", b"first", id=name)
    media = MediaIoBaseUpload(io.BytesIO(b"second"), BYTES, resumable=True)
    assert refusal(api.files().create(body={"id": name, "name": "pack"}, media_body=media).execute)[0] == 409
    assert drive.content(name).read_bytes() == b"first"
    assert list(drive.sessions()) == []


def test_the_library_sends_a_lost_creation_again(drive: Google, api: Any) -> None:
    """The reason for reserved ids: the library repeats a POST whose answer was lost, and makes two files; with an id it cannot."""
    api.files().list().execute()
    drive.proxy.faults.add("files.upload", Fault("drop", effect=True), times=2, after=0)
    with pytest.raises((ConnectionError, httplib2.ServerNotFoundError, OSError)):
        put(api, "pack", b"x")
    assert drive.duplicates() == ["pack"]
    drive.proxy.faults.clear()
    drive.proxy.faults.add("files.upload", Fault("drop", effect=True))
    (name,) = reserve(api)
    assert refusal(lambda: put(api, "once", b"x", id=name)) == (409, "fileIdInUse")
    assert drive.duplicates() == ["pack"]


def test_the_library_sends_a_stream_again_without_its_bytes(drive: Google, api: Any) -> None:
    """Another mistake that must show: after an error the library repeats a chunk of a stream as an empty body, and waits."""
    drive.proxy.patience = 2.0
    drive.proxy.faults.add("files.chunk", Fault("answer", response=failure(503, "backendError")))
    media = MediaIoBaseUpload(io.BytesIO(noise(1000)), BYTES, resumable=True)
    request = api.files().create(body={"name": "pack"}, media_body=media)
    with pytest.raises(OSError, match=r"."):
        request.next_chunk(num_retries=1)
    violations = drive.take_violations()
    assert violations
    assert set(violations) == {"files.chunk: announced 1000 bytes, sent 0, and waited"}


def test_one_parent_that_exists(drive: Google, api: Any) -> None:
    """A file lies in one folder, and the folder is there and is a folder."""
    first, second = make_folder(api, "first"), make_folder(api, "second")
    assert refusal(lambda: put(api, "x", b"", parents=[first, second]))[0] == 400
    assert refusal(lambda: put(api, "x", b"", parents=["1" + "y" * 32])) == (404, "notFound")
    file = put(api, "x", b"", parents=[first])["id"]
    assert refusal(lambda: put(api, "y", b"", parents=[file])) == (403, "parentNotAFolder")
    assert refusal(api.files().update(fileId=file, addParents=second).execute) == (403, "cannotAddParent")
    api.files().update(fileId=file, addParents=second, removeParents=first, body={"name": "z"}).execute()
    assert list(drive.tree()) == ["second/z"]
    assert refusal(api.files().update(fileId=first, addParents=first, removeParents="root").execute)[0] == 403


def test_the_trash(drive: Google, api: Any) -> None:
    """A folder in the trash takes all below with it; lists show it, reads work, and after 30 days it is gone."""
    folder = make_folder(api, "Voice notes")
    file = put(api, "pack", b"x", parents=[folder])["id"]
    api.files().update(fileId=folder, body={"trashed": True}).execute()
    known = api.files().get(fileId=file, fields="trashed,explicitlyTrashed").execute()
    assert known == {"trashed": True, "explicitlyTrashed": False}
    assert names(api, f"'{folder}' in parents") == ["pack"]
    assert names(api, f"'{folder}' in parents and trashed = false") == []
    assert api.files().get_media(fileId=file).execute() == b"x"
    quota = api.about().get(fields="storageQuota").execute()["storageQuota"]
    assert (quota["usage"], quota["usageInDriveTrash"]) == ("1", "1")
    drive.pass_time(days=29)
    api.files().update(fileId=folder, body={"trashed": False}).execute()
    assert names(api, "trashed = true") == []
    drive.trash(folder)
    drive.pass_time(days=31)
    assert refusal(api.files().get(fileId=file).execute) == (404, "notFound")
    assert drive.objects(trashed=None) == []


def test_deletion_of_a_folder_is_of_everything_below(drive: Google, api: Any) -> None:
    """A deleted folder leaves nothing, also not its bytes."""
    folder = make_folder(api, "Voice notes")
    below = make_folder(api, "data", parents=[folder])
    bytes_of = drive.content(put(api, "pack", b"x", parents=[below])["id"])
    api.files().delete(fileId=folder).execute()
    assert drive.objects(trashed=None) == []
    assert not bytes_of.exists()


def test_copies_and_new_content(drive: Google, api: Any) -> None:
    """The other ways to make and change a file work as Google's do."""
    file = put(api, "a", b"one")["id"]
    copy = api.files().copy(fileId=file, body={"name": "b"}, fields="id,size,sha256Checksum").execute()
    api.files().update(fileId=file, media_body=MediaIoBaseUpload(io.BytesIO(b"second"), BYTES)).execute()
    resumable = MediaIoBaseUpload(io.BytesIO(b"thirdly"), BYTES, resumable=True)
    api.files().update(fileId=file, media_body=resumable, body={"name": "c"}).execute()
    assert {item.name: drive.content(item.id).read_bytes() for item in drive.objects()} == {"b": b"one", "c": b"thirdly"}
    assert copy["sha256Checksum"] == hashlib.sha256(b"one").hexdigest()
    assert api.about().get(fields="storageQuota(usage)").execute()["storageQuota"]["usage"] == "10"


# --- who sees what


def test_a_program_sees_its_own_files_only(drive: Google, signed_in: Maker, anna: Account, client: Client) -> None:
    """Under drive.file another OAuth project sees an empty Drive, and the root only as a place; a wider scope sees all."""
    api, other = signed_in(anna, client), signed_in(anna, drive.client())
    folder = make_folder(api, "Voice notes")
    file = put(api, "pack", b"x", parents=[folder])["id"]
    drive.put(anna, "holiday.jpg", b"jpg", parent=folder)
    assert names(api) == ["pack", "Voice notes"]
    assert names(other) == []
    assert refusal(other.files().get(fileId=file).execute) == (404, "notFound")
    assert refusal(api.files().get(fileId="root").execute) == (404, "notFound")
    assert names(api, "'root' in parents") == ["Voice notes"]
    wide = signed_in(anna, drive.client(), DRIVE_READONLY)
    assert sorted(names(wide)) == ["Voice notes", "holiday.jpg", "pack"]
    assert wide.files().get_media(fileId=file).execute() == b"x"
    assert refusal(lambda: put(wide, "x", b"")) == (403, "insufficientPermissions")
    sibling = signed_in(anna, drive.client(project=client.project))
    assert names(sibling) == ["pack", "Voice notes"]


def test_a_missing_scope_is_named(drive: Google, signed_in: Maker, anna: Account, client: Client) -> None:
    """A token without Drive's scope is refused with the detail that newer services give."""
    with pytest.raises(HttpError) as caught:
        signed_in(anna, client, "openid").files().list().execute()
    error = json.loads(caught.value.content)["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (403, "insufficientPermissions")
    assert error["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


def test_a_disabled_api_is_named_with_its_link(drive: Google, api: Any, client: Client) -> None:
    """Where the Drive API is off in the client's project, the answer says where to switch it on."""
    client.api_enabled = False
    with pytest.raises(HttpError) as caught:
        api.files().list().execute()
    error = json.loads(caught.value.content)["error"]
    assert error["errors"][0]["reason"] == "accessNotConfigured"
    assert f"project={client.project}" in error["message"]
    assert error["details"][0]["reason"] == "SERVICE_DISABLED"


def test_the_application_data_folder(drive: Google, signed_in: Maker, anna: Account, client: Client) -> None:
    """Hidden data shows only in its own space and only to its own program, and cannot be trashed."""
    api = signed_in(anna, client, DRIVE_APPDATA, DRIVE_FILE)
    file = put(api, "settings", b"x", parents=["appDataFolder"])["id"]
    assert names(api) == []
    assert names(api, spaces="appDataFolder") == ["settings"]
    assert names(signed_in(anna, drive.client(), DRIVE_APPDATA), spaces="appDataFolder") == []
    assert refusal(api.files().update(fileId=file, body={"trashed": True}).execute)[0] == 403
    narrow = signed_in(anna, client, DRIVE_FILE)
    assert refusal(lambda: put(narrow, "x", b"", parents=["appDataFolder"])) == (403, "insufficientScopes")


def test_shared_drives(drive: Google, signed_in: Maker, anna: Account, client: Client) -> None:
    """A shared drive exists only for requests that say they know of such, and its roles decide who deletes."""
    ben = drive.person("ben@example.org")
    shared = drive.shared_drive("Family", {anna.email: "organizer", ben.email: "writer"}, item_limit=4)
    api, writer = signed_in(anna, client), signed_in(ben, client)
    folder = make_with(api, "Voice notes", shared.id)
    file = make_with(writer, "data", folder)
    assert refusal(api.files().get(fileId=folder).execute) == (404, "notFound")
    assert refusal(lambda: put(api, "x", b"", parents=[folder])) == (404, "notFound")
    every = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}
    assert names(api, f"'{folder}' in parents", corpora="drive", driveId=shared.id, **every) == ["data"]
    assert names(api, corpora="user") == []
    assert refusal(writer.files().delete(fileId=file, supportsAllDrives=True).execute) == (403, "insufficientFilePermissions")
    assert refusal(writer.files().update(fileId=file, body={"trashed": True}, supportsAllDrives=True).execute)[0] == 403
    shared.roles[ben.email] = "fileOrganizer"
    writer.files().update(fileId=file, body={"trashed": True}, supportsAllDrives=True).execute()
    assert refusal(writer.files().delete(fileId=file, supportsAllDrives=True).execute) == (403, "insufficientFilePermissions")
    api.files().delete(fileId=file, supportsAllDrives=True).execute()
    for name in "abc":
        make_with(api, name, folder)
    assert refusal(lambda: make_with(api, "d", folder)) == (403, "teamDriveFileLimitExceeded")
    drive.manners.drive_lag, shared.item_limit = 2, 100
    late = make_with(api, "late", folder)
    answers = [api.files().get(fileId=late, supportsAllDrives=True).execute for _ in range(3)]
    assert [refusal(answers[0]), refusal(answers[1]), answers[2]()["name"]] == [(404, "notFound"), (404, "notFound"), "late"]


def make_with(api: Any, name: str, parent: str) -> str:
    """A folder on a shared drive."""
    body = {"name": name, "mimeType": FOLDER, "parents": [parent]}
    return str(api.files().create(body=body, supportsAllDrives=True, fields="id").execute()["id"])


def test_shared_drives_are_listed_for_their_members(drive: Google, signed_in: Maker, anna: Account, client: Client) -> None:
    """A person sees the shared drives they are a member of."""
    shared = drive.shared_drive("Family", {anna.email: "reader"})
    drive.shared_drive("Others", {"ben@example.org": "organizer"})
    api = signed_in(anna, client, DRIVE)
    assert [found["name"] for found in api.drives().list().execute()["drives"]] == ["Family"]
    assert api.drives().get(driveId=shared.id).execute()["name"] == "Family"
    assert refusal(lambda: make_with(api, "x", shared.id)) == (403, "insufficientFilePermissions")


# --- lists


def test_queries(drive: Google, api: Any) -> None:
    """The query language means what Google says it means, quirks of names included."""
    drive.manners.name_lag = 0
    folder = make_folder(api, "It's a \\ folder", appProperties={"repository": "a1"})
    for name in ("Alpha", "alphabet", "beta", "a" * 40):
        put(api, name, b"x", parents=[folder])
    assert names(api, r"name = 'It\'s a \\ folder'") == ["It's a \\ folder"]
    assert names(api, "name = 'ALPHA'") == ["Alpha"]
    assert sorted(names(api, "name contains 'alpha'")) == ["Alpha", "alphabet"]
    assert names(api, "name contains 'bet'") == ["beta"]
    assert names(api, f"name contains '{'a' * 26}'") == ["a" * 40]
    assert names(api, f"name contains '{'a' * 27}'") == []
    assert names(api, "appProperties has { key='repository' and value='a1' }") == ["It's a \\ folder"]
    assert names(api, f"mimeType = '{FOLDER}' and not trashed = true") == ["It's a \\ folder"]
    assert names(api, f"'{folder}' in parents and (name = 'beta' or name = 'alpha') and trashed=false") == ["beta", "Alpha"]
    assert names(api, f"'{folder}' in parents and name != 'beta'", orderBy="name desc") == ["alphabet", "Alpha", "a" * 40]
    assert names(api, "modifiedTime > '2100-01-01T00:00:00'") == []
    assert len(names(api, "createdTime > '2020-01-01T00:00:00Z' and 'me' in owners")) == 5


@pytest.mark.parametrize(
    "q",
    ["name = ", "name ~ 'x'", "name = 'x", "(trashed = false", "trashed", "colour = 'x'", "name = 'x' name = 'y'", "modifiedTime > 'x'"],
)
def test_a_query_that_makes_no_sense_is_refused(api: Any, q: str) -> None:
    """A mistake in a query is an error, never an empty list."""
    assert refusal(api.files().list(q=q).execute) == (400, "invalid")


def test_a_list_of_a_missing_folder_is_an_error(api: Any) -> None:
    """A folder that is gone is told from one that is empty."""
    assert names(api, f"'{make_folder(api, 'empty')}' in parents") == []
    assert refusal(api.files().list(q=f"'{'1' + 'x' * 32}' in parents").execute) == (404, "notFound")


def test_pages(drive: Google, api: Any) -> None:
    """Pages come one after the other without loss or repetition; a token belongs to its question and dies in hours."""
    folder = make_folder(api, "Voice notes")
    for number in range(7):
        put(api, str(number), b"", parents=[folder])
    q = f"'{folder}' in parents"
    drive.manners.page_limit = 3
    first = api.files().list(q=q, pageSize=1000, fields="nextPageToken,files(name)").execute()
    put(api, "between", b"", parents=[folder])
    second = api.files().list(q=q, pageToken=first["nextPageToken"], fields="nextPageToken,files(name)").execute()
    third = api.files().list(q=q, pageToken=second["nextPageToken"], fields="nextPageToken,files(name)").execute()
    assert [file["name"] for page in (first, second, third) for file in page["files"]] == list("6543210")
    assert "nextPageToken" not in third
    assert refusal(api.files().list(q="trashed = false", pageToken=first["nextPageToken"]).execute) == (400, "invalid")
    drive.pass_time(seconds=4 * 3600)
    assert refusal(api.files().list(q=q, pageToken=first["nextPageToken"]).execute) == (400, "invalid")


def test_what_a_list_shows(drive: Google, api: Any) -> None:
    """Without a mask four fields come back; a mask gives what it names, and one that names nonsense is refused."""
    put(api, "pack", b"x")
    assert set(api.files().list().execute()["files"][0]) == {"kind", "id", "name", "mimeType"}
    shown = api.files().list(fields="files(size,owners/emailAddress),incompleteSearch").execute()
    assert shown == {"incompleteSearch": False, "files": [{"size": "1", "owners": [{"emailAddress": "anna@example.org"}]}]}
    assert refusal(api.files().list(fields="files(sha256)").execute) == (400, "invalidParameter")
    assert refusal(api.files().list(fields="files(").execute) == (400, "invalidParameter")
    assert refusal(api.about().get().execute) == (400, "required")
    assert drive.take_violations() == []


def test_lists_lag_behind(drive: Google, api: Any) -> None:
    """What was just made is missing where a search index answers; by folder it shows at once, unless the test wants it late as well."""
    folder = make_folder(api, "Voice notes")
    assert [names(api, "name = 'Voice notes'") for _ in range(3)] == [[], [], ["Voice notes"]]
    put(api, "soon", b"", parents=[folder])
    assert names(api, f"'{folder}' in parents") == ["soon"]
    drive.manners.parent_lag = 1
    put(api, "late", b"", parents=[folder])
    assert [names(api, f"'{folder}' in parents") for _ in range(2)] == [["soon"], ["late", "soon"]]


def test_lists_that_are_not_all(drive: Google, api: Any) -> None:
    """Google's two known lies: groups of folders that come back empty, and lists that admit to be incomplete."""
    folders = [make_folder(api, name) for name in "ab"]
    for folder in folders:
        put(api, "pack", b"", parents=[folder])
    q = " or ".join(f"'{folder}' in parents" for folder in folders)
    drive.manners.empty_groups_left = 1
    assert [names(api, q), names(api, q)] == [[], ["pack", "pack"]]
    drive.manners.incomplete_left = 1
    partial = api.files().list(q=q).execute()
    assert (partial["incompleteSearch"], len(partial["files"])) == (True, 1)


def test_a_long_query_comes_as_a_form(drive: Google, api: Any) -> None:
    """Above 2048 characters the library sends a POST that says it is a GET."""
    folders = [make_folder(api, str(number)) for number in range(50)]
    put(api, "pack", b"", parents=[folders[-1]])
    q = "(" + " or ".join(f"'{folder}' in parents" for folder in folders) + ") and trashed = false"
    assert names(api, q) == ["pack"]
    assert drive.proxy.seen[-1].method == "POST"
    assert drive.called("files.list")[-1].method == "drive.files.list"


# --- resumable uploads


def test_a_session_takes_chunks(drive: Google, api: Any) -> None:
    """Chunks are kept as they come; the server says how far it is, and at the end what it has."""
    content = noise(2 * CHUNK + 100)
    address = session(api, "pack", len(content))
    assert send(api, address, b"", f"bytes */{len(content)}")[:2] == (308, "")
    assert send(api, address, content[:CHUNK], f"bytes 0-{CHUNK - 1}/{len(content)}")[:2] == (308, f"bytes=0-{CHUNK - 1}")
    assert send(api, address, b"", f"bytes */{len(content)}")[:2] == (308, f"bytes=0-{CHUNK - 1}")
    assert drive.objects() == []
    overlapping = send(api, address, content[: 2 * CHUNK], f"bytes 0-{2 * CHUNK - 1}/{len(content)}", "POST")
    assert overlapping[:2] == (308, f"bytes=0-{2 * CHUNK - 1}")
    status, _, body = send(api, address, content[2 * CHUNK :], f"bytes {2 * CHUNK}-{len(content) - 1}/{len(content)}")
    assert (status, json.loads(body)["sha256Checksum"]) == (200, hashlib.sha256(content).hexdigest())
    again = send(api, address, b"", f"bytes */{len(content)}")
    assert (again[0], again[2]) == (200, body)
    assert len(drive.objects()) == 1


def test_a_session_of_unknown_size_and_one_request(api: Any) -> None:
    """The size may become known with the last chunk, and all may come in one request."""
    content = noise(CHUNK + 5)
    address = session(api, "pack", None)
    assert send(api, address, content[:CHUNK], f"bytes 0-{CHUNK - 1}/*")[:2] == (308, f"bytes=0-{CHUNK - 1}")
    assert send(api, address, content[CHUNK:], f"bytes {CHUNK}-{CHUNK + 4}/{CHUNK + 5}")[0] == 200
    assert send(api, session(api, "pack", len(content)), content, "")[0] == 200


def test_a_session_refuses_what_does_not_fit(api: Any) -> None:
    """Odd chunks, gaps, other totals and ranges that are none are mistakes of the client."""
    address = session(api, "pack", 4 * CHUNK)
    content = noise(4 * CHUNK)
    assert send(api, address, content[:1000], f"bytes 0-999/{4 * CHUNK}")[0] == 400
    assert send(api, address, content[CHUNK : 2 * CHUNK], f"bytes {CHUNK}-{2 * CHUNK - 1}/{4 * CHUNK}")[0] == 400
    assert send(api, address, content[:CHUNK], f"bytes 0-{CHUNK - 1}/{5 * CHUNK}")[0] == 400
    assert send(api, address, content[:CHUNK], f"bytes 0-{2 * CHUNK - 1}/{4 * CHUNK}")[0] == 400
    assert send(api, address, content[:CHUNK], "bytes=0-1")[0] == 400


@pytest.mark.parametrize("status", [404, 410])
def test_a_session_lives_a_week(drive: Google, api: Any, status: int) -> None:
    """After a week the address leads nowhere."""
    drive.manners.gone_status = status  # type: ignore[assignment]
    address = session(api, "pack", 10)
    drive.pass_time(days=6)
    assert send(api, address, b"", "bytes */10")[0] == 308
    drive.pass_time(days=2)
    assert send(api, address, b"", "bytes */10")[0] == status
    assert send(api, address + "x", b"", "bytes */10")[0] == status


def test_a_session_may_be_slow_and_move(drive: Google, api: Any) -> None:
    """The server may keep less of a chunk than it got, nothing at all, or send the client elsewhere; the library copes."""
    content = noise(9 * CHUNK)
    drive.manners.short_acks_left, drive.manners.stuck_left, drive.manners.moved_sessions_left = 2, 3, 1
    media = MediaIoBaseUpload(io.BytesIO(content), BYTES, resumable=True, chunksize=2 * CHUNK)
    made = api.files().create(body={"name": "pack"}, media_body=media, fields="sha256Checksum").execute()
    assert made["sha256Checksum"] == hashlib.sha256(content).hexdigest()
    manners = drive.manners
    assert (manners.short_acks_left, manners.stuck_left, manners.moved_sessions_left) == (0, 0, 0)
    assert len({urlsplit(seen.target).query for seen in drive.proxy.seen if seen.label == "files.chunk"}) == 2


def test_a_session_needs_no_credentials_but_no_wrong_ones(drive: Google, api: Any) -> None:
    """The address of an upload is a key in itself; an expired token beside it is refused all the same."""
    address, second = session(api, "pack", 1), session(api, "pack", 1)
    bare = httplib2.Http()
    bare.redirect_codes = bare.redirect_codes - {308}
    assert bare.request(address, "PUT", b"x")[0].status == 200
    assert bare.request(second, "PUT", b"x", {"Authorization": "Bearer old"})[0].status == 401
    bare.close()


def test_a_body_that_ends_early_is_kept_so_far(drive: Google, api: Any) -> None:
    """A client that dies in the middle of a chunk finds the whole steps that had arrived."""
    content = noise(4 * CHUNK)
    address = session(api, "pack", len(content))
    drive.proxy.faults.add("files.chunk", Fault("cut body"), times=2)  # the library tries again
    with pytest.raises(OSError, match=r"."):
        send(api, address, content, f"bytes 0-{len(content) - 1}/{len(content)}")
    status, stored, _ = send(api, address, b"", f"bytes */{len(content)}")
    assert (status, stored) == (308, f"bytes=0-{2 * CHUNK - 1}")


def test_a_client_that_waits_with_half_a_body_is_a_failure_of_the_run(drive: Google, api: Any) -> None:
    """Announcing more than is sent, as the library does when it repeats a stream, is recorded as a violation."""
    drive.proxy.patience = 2.0
    address = urlsplit(session(api, "pack", 2 * CHUNK))
    head = f"PUT {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {2 * CHUNK}\r\n\r\n"
    with tunnel(drive, str(address.hostname)) as tls:
        tls.sendall(head.encode() + noise(CHUNK))
        assert tls.recv(1) == b""
    (violation,) = drive.take_violations()
    assert violation == f"files.chunk: announced {2 * CHUNK} bytes, sent {CHUNK}, and waited"


def tunnel(drive: Google, host: str) -> ssl.SSLSocket:
    """A connection to a host through the proxy, by hand."""
    address = urlsplit(drive.proxy.url)
    plain = socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=10)
    plain.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    assert b" 200 " in plain.recv(4096)
    context = ssl.create_default_context(cafile=str(drive.proxy.authority.file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    return context.wrap_socket(plain, server_hostname=host)


def test_uploads_that_arrive_wrong(drive: Google, api: Any) -> None:
    """A byte that went wrong on the way shows in the checksum; a checksum may also be missing altogether."""
    drive.manners.corrupt_uploads_left = 1
    content = noise(1000)
    assert put(api, "pack", content)["sha256Checksum"] != hashlib.sha256(content).hexdigest()
    drive.manners.no_checksums = True
    assert "sha256Checksum" not in put(api, "pack", content)


def test_stored_bytes_may_rot_unseen(drive: Google, api: Any) -> None:
    """A checksum that Google keeps does not prove that the bytes can still be read."""
    content = noise(1000)
    made = put(api, "pack", content)
    drive.rot(made["id"])
    assert api.files().get(fileId=made["id"], fields="sha256Checksum").execute()["sha256Checksum"] == made["sha256Checksum"]
    assert api.files().get_media(fileId=made["id"]).execute() != content


# --- limits


def test_a_full_account(drive: Google, api: Any, anna: Account) -> None:
    """Without room every creation is refused, before the bytes are sent and after; what is there stays readable."""
    anna.limit, anna.elsewhere = 10_000, 4_000
    made = put(api, "pack", noise(5_000))
    assert refusal(lambda: put(api, "more", noise(2_000))) == (403, "storageQuotaExceeded")
    media = MediaIoBaseUpload(io.BytesIO(noise(2_000)), BYTES, resumable=True)
    assert refusal(api.files().create(body={"name": "more"}, media_body=media).execute) == (403, "storageQuotaExceeded")
    address = session(api, "pack", 1_000)
    drive.put(anna, "film", noise(900))
    assert send(api, address, noise(1_000), "")[0] == 403
    assert len(api.files().get_media(fileId=made["id"]).execute()) == 5_000
    quota = api.about().get(fields="storageQuota,user(emailAddress)").execute()
    assert quota["storageQuota"] == {"limit": "10000", "usage": "9900", "usageInDrive": "5900", "usageInDriveTrash": "0"}
    anna.limit = None
    assert "limit" not in api.about().get(fields="*").execute()["storageQuota"]


def test_the_days_upload_limit(drive: Google, api: Any) -> None:
    """After so many bytes in a day only errors that look like pacing come, until the day is over."""
    drive.manners.upload_per_day = 1_500
    put(api, "pack", noise(1_000))
    for _ in range(3):
        assert refusal(lambda: put(api, "more", noise(1_000))) == (403, "userRateLimitExceeded")
    drive.pass_time(days=1.1)
    put(api, "more", noise(1_000))


@pytest.mark.parametrize("status", [403, 429])
def test_quota_units(drive: Google, api: Any, status: int) -> None:
    """Calls cost what Google's table says, and a minute has so many units."""
    file = put(api, "pack", b"x")["id"]
    before = drive.units()
    api.files().list().execute()
    api.files().get(fileId=file).execute()
    api.files().get_media(fileId=file).execute()
    reserve(api)
    assert drive.units() - before == 100 + 5 + 200 + 5
    drive.manners.units_per_minute, drive.manners.over_units = 250, status  # type: ignore[assignment]
    names(api)
    names(api)
    assert refusal(api.files().list().execute) == (status, "rateLimitExceeded")
    drive.pass_time(seconds=61)
    assert names(api) == ["pack"]


def test_limits_of_folders_and_accounts(drive: Google, api: Any, anna: Account, client: Client) -> None:
    """A folder, a hierarchy and an account can be full."""
    drive.manners.folder_limit = 2
    folder = make_folder(api, "Voice notes")
    for name in "ab":
        put(api, name, b"", parents=[folder])
    assert refusal(lambda: put(api, "c", b"", parents=[folder])) == (403, "numChildrenInNonRootLimitExceeded")
    deep = ""
    for number in range(100):
        deep = drive.make_folder(anna, str(number), deep, client.project).id
    assert refusal(lambda: make_folder(api, "100", parents=[deep])) == (403, "myDriveHierarchyDepthLimitExceeded")
    drive.manners.creation_limit = 3
    assert refusal(lambda: put(api, "c", b"")) == (403, "activeItemCreationLimitExceeded")


def test_flagged_files(drive: Google, api: Any) -> None:
    """What Google takes for malware comes only to those who say that they know."""
    made = put(api, "pack", b"x")
    drive.store.items[made["id"]].abusive = True
    assert refusal(api.files().get_media(fileId=made["id"]).execute) == (403, "cannotDownloadAbusiveFile")
    assert api.files().get_media(fileId=made["id"], acknowledgeAbuse=True).execute() == b"x"
    assert refusal(api.files().get_media(fileId=make_folder(api, "f")).execute) == (403, "fileNotDownloadable")


# --- service accounts


def robot(key: dict[str, str], subject: str = "") -> Any:
    """Google's library as a service account.

    The token is fetched first: left to itself, the library starts a thread beside the first call that leaves its connection open.
    """
    made = service_account.Credentials.from_service_account_info(key, scopes=[DRIVE])  # type: ignore[no-untyped-call]
    http = httplib2.Http()
    try:
        credentials = made.with_subject(subject) if subject else made
        credentials.refresh(google_auth_httplib2.Request(http))
    finally:
        http.close()
    return build("drive", "v3", credentials=Credentials(credentials.token), cache_discovery=False)  # type: ignore[no-untyped-call]


def test_service_accounts_own_nothing(drive: Google, anna: Account) -> None:
    """A service account may make folders and use shared drives, and has no room of its own; acting for a person needs permission."""
    key = drive.service_account()
    shared = drive.shared_drive("Family", {key["client_email"]: "fileOrganizer"})
    drive.share(drive.make_folder(anna, "Shared folder").id, key["client_email"])
    api = robot(key)
    (folder,) = api.files().list(q="name = 'Shared folder'").execute()["files"]
    assert refusal(lambda: put(api, "pack", b"x", parents=[folder["id"]])) == (403, "storageQuotaExceeded")
    assert refusal(lambda: put(api, "pack", b"x")) == (403, "storageQuotaExceeded")
    media = MediaIoBaseUpload(io.BytesIO(b"x"), BYTES)
    api.files().create(body={"name": "pack", "parents": [shared.id]}, media_body=media, supportsAllDrives=True).execute()
    api.close()
    with pytest.raises(RefreshError, match="unauthorized_client"):
        robot(key, anna.email)
    anna.delegates.add(key["client_email"])
    api = robot(key, anna.email)
    put(api, "hers", b"x")
    api.close()
    assert [item.owner for item in drive.objects() if item.name == "hers"] == [anna.email]
    assert drive.proxy.refused == []


def test_a_service_account_proves_itself_with_its_key(drive: Google) -> None:
    """A statement signed with another key is worth nothing."""
    key, other = drive.service_account(), drive.service_account("other")
    with pytest.raises(RefreshError, match="Invalid JWT Signature"):
        robot({**key, "private_key": other["private_key"]})


# --- sign-in


def post(url: str, **form: str) -> tuple[int, dict[str, Any]]:
    """A form to Google: status and JSON."""
    request = urllib.request.Request(url, urlencode(form).encode())  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def consent_url(client: Client, redirect: str = "http://127.0.0.1:4711", **more: str) -> str:
    asked = {"client_id": client.id, "redirect_uri": redirect, "response_type": "code", "scope": DRIVE_FILE, "state": "s1", **more}
    return "https://accounts.google.com/o/oauth2/auth?" + urlencode(asked)


VERIFIER = "v" * 43
CHALLENGE = "7w_YNF9DSfIdPf_pRjSq646_kPr-2-o9NAl16JGghdM"


def test_the_challenge_of_these_tests_is_that_of_the_standard() -> None:
    """The pair used here is made by the rule of RFC 7636, and the standard's own example passes the same rule."""

    def rule(verifier: str) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()

    assert rule("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert rule(VERIFIER) == CHALLENGE


def test_signing_in_with_a_code(drive: Google, anna: Account, client: Client) -> None:
    """The whole of an installed program's sign-in: consent, code, proof, tokens, refresh, revocation."""
    drive.consent = Consent(anna)
    ended = urlsplit(drive.visit(consent_url(client, code_challenge=CHALLENGE, code_challenge_method="S256")))
    answer = {name: value[0] for name, value in parse_qs(ended.query).items()}
    assert (ended.netloc, answer["state"], answer["scope"]) == ("127.0.0.1:4711", "s1", DRIVE_FILE)
    proof = {"client_id": client.id, "client_secret": client.secret, "redirect_uri": "http://127.0.0.1:4711", "code_verifier": VERIFIER}
    status, tokens = post(TOKEN_URI, grant_type="authorization_code", code=answer["code"], **proof)
    assert (status, tokens["scope"], tokens["token_type"]) == (200, DRIVE_FILE, "Bearer")
    assert post(TOKEN_URI, grant_type="authorization_code", code=answer["code"], **proof)[1]["error"] == "invalid_grant"
    api = service(client, tokens["refresh_token"])
    assert names(api) == []
    status, info = post("https://oauth2.googleapis.com/tokeninfo", access_token=tokens["access_token"])
    assert (info["scope"], info["aud"]) == (DRIVE_FILE, client.id)
    assert post("https://oauth2.googleapis.com/revoke", token=tokens["refresh_token"]) == (200, {})
    api.close()
    api = service(client, tokens["refresh_token"])
    with pytest.raises(RefreshError) as caught:
        names(api)
    assert caught.value.args[1]["error"] == "invalid_grant"
    api.close()


@pytest.mark.parametrize("verifier", ["", "w" * 43])
def test_a_code_without_its_proof_is_worth_nothing(drive: Google, anna: Account, client: Client, verifier: str) -> None:
    """Who caught the code on its way cannot use it: the challenge of RFC 7636 is checked."""
    drive.consent = Consent(anna)
    ended = drive.visit(consent_url(client, code_challenge=CHALLENGE, code_challenge_method="S256"))
    code = parse_qs(urlsplit(ended).query)["code"][0]
    form = {"client_id": client.id, "client_secret": client.secret, "redirect_uri": "http://127.0.0.1:4711", "code_verifier": verifier}
    assert post(TOKEN_URI, grant_type="authorization_code", code=code, **form)[1]["error"] == "invalid_grant"


def test_what_a_person_does_at_the_consent_page(drive: Google, anna: Account, client: Client) -> None:
    """They may refuse, or untick a box; a request that is wrong never gets that far."""
    drive.consent = Consent(anna, refuse=True)
    assert "error=access_denied" in drive.visit(consent_url(client))
    drive.consent = Consent(anna, ticked=frozenset({"openid"}))
    assert parse_qs(urlsplit(drive.visit(consent_url(client, scope=f"openid {DRIVE_FILE}"))).query)["scope"] == ["openid"]
    assert "redirect_uri_mismatch" in drive.visit(consent_url(client, redirect="https://example.org/"))
    assert "invalid_client" in drive.visit(consent_url(Client()))


def test_a_browser_goes_where_it_is_sent(drive: Google, anna: Account, client: Client) -> None:
    """The browser of these tests opens Google, asks the program for an icon as browsers do, and delivers the code."""
    drive.consent = Consent(anna)
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(4096).split(b" ")[1].decode())
                    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=listen)
        thread.start()
        url = consent_url(client, redirect=f"http://127.0.0.1:{listener.getsockname()[1]}/")
        browser = Path(__file__).parent / "drive/browser.py"
        subprocess.run([sys.executable, str(browser), url], check=True, timeout=60, env={**os.environ, **drive.environment()})
        thread.join()
    assert asked[:2] == ["/favicon.ico", "/"]
    assert "code=4%2F" in asked[2]


def test_clients_that_are_not_what_they_say(drive: Google, api: Any, client: Client) -> None:
    """A wrong secret, an unknown client and a deleted one have errors of their own."""
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    assert post(TOKEN_URI, client_id=client.id, client_secret="wrong", **form) == (
        401, {"error": "invalid_client", "error_description": "The provided client secret is invalid."},
    )  # fmt: skip
    assert post(TOKEN_URI, client_id="x", client_secret="x", **form)[1]["error_description"] == "The OAuth client was not found."
    client.deleted = True
    assert post(TOKEN_URI, client_id=client.id, client_secret=client.secret, **form)[1]["error"] == "deleted_client"


def test_refresh_tokens_die(drive: Google, anna: Account) -> None:
    """After seven days in a project left in testing, after half a year unused, and when a hundred others came after."""

    def alive(client: Client, token: object) -> bool:
        form = {"client_id": client.id, "client_secret": client.secret, "refresh_token": str(token)}
        return post(TOKEN_URI, grant_type="refresh_token", **form)[0] == 200

    testing, published = drive.client(testing=True), drive.client()
    short, long = drive.sign_in(anna, testing)["refresh_token"], drive.sign_in(anna, published)["refresh_token"]
    drive.pass_time(days=6)
    assert alive(testing, short)
    drive.pass_time(days=1.1)
    assert not alive(testing, short)
    drive.pass_time(days=150)
    assert alive(published, long)
    drive.pass_time(days=150)
    assert alive(published, long)
    drive.pass_time(days=190)
    assert not alive(published, long)
    first = drive.sign_in(anna, published)["refresh_token"]
    drive.pass_time(seconds=1)
    second = drive.sign_in(anna, published)["refresh_token"]
    for _ in range(98):
        drive.sign_in(anna, published)
    assert alive(published, first)
    drive.sign_in(anna, published)
    assert not alive(published, first)
    assert alive(published, second)


def test_an_expired_access_token_is_refreshed(drive: Google, api: Any) -> None:
    """A token that ends early costs one refusal and one refresh."""
    names(api)
    drive.expire_access_tokens()
    assert put(api, "pack", b"x")["size"] == "1"
    assert [call.status for call in drive.called("files.upload")] == [401, 200]
    assert drive.proxy.labels().count("oauth.token") == 2


def test_the_token_endpoint_may_be_down_or_strict(drive: Google, api: Any) -> None:
    """A bad minute of the token endpoint passes; a policy does not."""
    drive.proxy.faults.add("oauth.token", Fault("answer", response=failure(503)), times=2)
    assert names(api) == []
    drive.expire_access_tokens()
    drive.refuse_tokens = (400, {"error": "admin_policy_enforced"})
    with pytest.raises(RefreshError, match="admin_policy_enforced"):
        names(api)


def test_devices(drive: Google, anna: Account) -> None:
    """A device shows a code and asks until the person has decided; too often is too often, and only narrow scopes go."""
    client = drive.client("device")
    drive.manners.device_interval = 60
    url = "https://oauth2.googleapis.com/device/code"
    assert post(url, client_id=client.id, scope=DRIVE)[1]["error"] == "invalid_scope"
    assert post(url, client_id=drive.client().id, scope=DRIVE_FILE)[1]["error"] == "invalid_client"
    _, asked = post(url, client_id=client.id, scope=DRIVE_FILE)
    assert set(asked) == {"device_code", "user_code", "verification_url", "expires_in", "interval"}

    def poll(asked: dict[str, Any]) -> tuple[int, str]:
        grant = "urn:ietf:params:oauth:grant-type:device_code"
        form = {"client_id": client.id, "client_secret": client.secret, "device_code": asked["device_code"]}
        status, answer = post(TOKEN_URI, grant_type=grant, **form)
        return status, str(answer.get("error", "refresh_token" in answer))

    assert [poll(asked), poll(asked)] == [(428, "authorization_pending"), (403, "slow_down")]
    drive.pass_time(seconds=60)
    drive.decide_device(asked["user_code"], anna)
    assert poll(asked) == (200, "True")
    _, refused = post(url, client_id=client.id, scope=DRIVE_FILE)
    drive.decide_device(refused["user_code"], anna, approve=False)
    assert poll(refused) == (403, "access_denied")
    _, late = post(url, client_id=client.id, scope=DRIVE_FILE)
    drive.pass_time(seconds=1900)
    assert poll(late) == (400, "expired_token")


# --- the document


@pytest.mark.parametrize(
    ("method", "target", "body", "violation"),
    [
        ("GET", "/drive/v3/files?colour=red", None, "drive.files.list: unknown parameter colour"),
        ("GET", "/drive/v3/files?pageSize=many", None, "drive.files.list: parameter pageSize is no integer: 'many'"),
        ("GET", "/drive/v3/files?pageSize=0", None, "drive.files.list: parameter pageSize is below 1"),
        ("GET", "/drive/v3/files/generateIds?count=1001", None, "drive.files.generateIds: parameter count is above 1000"),
        ("GET", "/drive/v3/files?supportsAllDrives=yes", None, "drive.files.list: parameter supportsAllDrives is no boolean: 'yes'"),
        ("GET", "/drive/v3/files?q=a&q=b", None, "drive.files.list: parameter q is given twice"),
        ("POST", "/drive/v3/files", {"title": "x"}, "drive.files.create: body.title is unknown"),
        ("POST", "/drive/v3/files", {"name": 1}, "drive.files.create: body.name is no string"),
        ("POST", "/drive/v3/files", {"parents": "x"}, "drive.files.create: body.parents is no array"),
        ("POST", "/drive/v3/files", {"modifiedTime": "now"}, "drive.files.create: body.modifiedTime is no RFC 3339 time: 'now'"),
        ("POST", "/drive/v3/files", {"sha256Checksum": "x"}, "drive.files.create: body.sha256Checksum is not writable"),
        ("PATCH", "/drive/v3/files/x", {"parents": ["x"]}, "drive.files.update: body.parents is not writable"),
        ("GET", "/drive/v2/files", None, "no such method: GET /drive/v2/files"),
        ("POST", "/upload/drive/v3/about", None, "no such method: POST /upload/drive/v3/about"),
        ("GET", "/drive/v3/changes/startPageToken", None, "drive.changes.getStartPageToken is not served here"),
    ],
)
def test_a_client_that_departs_from_the_document_fails_the_run(
    drive: Google, api: Any, method: str, target: str, body: object, violation: str
) -> None:
    """Whatever Google's own description does not know is refused and reported at the end of the test."""
    headers = {"Content-Type": "application/json"}
    answer, _ = api._http.request("https://www.googleapis.com" + target, method, json.dumps(body) if body else None, headers)
    assert answer.status in (400, 403, 404, 501)
    assert drive.take_violations() == [violation]


def test_the_run_fails_where_a_violation_was_left(tmp_path: Path) -> None:
    """A test that provoked nothing on purpose fails with the list of violations."""

    def careless() -> None:
        with google(tmp_path) as drive:
            token = drive.sign_in(drive.person(), drive.client())["access_token"]
            request = Request("", "GET", "/drive/v3/files?colour=red", Message(), io.BytesIO())
            request.headers["Authorization"] = f"Bearer {token}"
            assert DriveApi(drive).answer(request).status == 400

    with pytest.raises(AssertionError, match="unknown parameter colour"):
        careless()


def test_answers_are_held_to_the_document_as_well() -> None:
    """A number where Google sends text, a time without zone, or a field that Google does not know would be our mistake."""
    document = drive_v3()
    found = document.method("GET", "files/x")
    assert found is not None
    good = {"id": "x", "size": "1", "createdTime": "2026-01-01T00:00:00.000Z", "capabilities": {"canEdit": True}}
    assert list(document.answer_faults(found[0], good)) == []
    for wrong in ({"size": 1}, {"createdTime": "2026-01-01"}, {"etag": "x"}, {"capabilities": {"canFly": True}}, {"trashed": "no"}):
        assert len(list(document.answer_faults(found[0], wrong))) == 1


# --- several calls in one


def test_batches(drive: Google, api: Any) -> None:
    """A hundred calls in one request, each answered on its own."""
    made = [put(api, str(number), b"")["id"] for number in range(3)]
    answers: dict[str, object] = {}
    batch = api.new_batch_http_request(callback=lambda name, answer, error: answers.update({name: error.status_code if error else answer}))
    for name in [*made, made[0]]:
        batch.add(api.files().delete(fileId=name))
    batch.execute()
    assert list(answers.values()) == ["", "", "", 404]
    assert drive.objects() == []
    assert len(drive.called("files.delete")) == 4


# --- faults


def test_every_refusal_can_be_had(drive: Google, api: Any) -> None:
    """Whatever Google may answer instead, with or without Retry-After, a test can have at a call of its choice."""
    drive.proxy.faults.add("files.list", Fault("answer", response=failure(429, "rateLimitExceeded", retry_after=7)), after=1)
    drive.proxy.faults.add("files.get", Fault("answer", response=failure(502)))
    assert names(api) == []
    with pytest.raises(HttpError) as caught:
        names(api)
    assert (caught.value.status_code, caught.value.resp["retry-after"]) == (429, "7")
    assert caught.value.error_details[0] == {"message": "Rate Limit Exceeded", "domain": "usageLimits", "reason": "rateLimitExceeded"}
    assert names(api) == []
    assert refusal(api.files().get(fileId="x").execute)[0] == 502
    assert [label for label, _ in drive.proxy.faults.happened] == ["files.list", "files.get"]


def test_an_answer_that_hides_the_effect(drive: Google, api: Any) -> None:
    """An error may come although the request was carried out."""
    drive.proxy.faults.add("files.upload", Fault("answer", effect=True, response=failure(500, "internalError")))
    assert refusal(lambda: put(api, "pack", b"x")) == (500, "internalError")
    assert list(drive.tree()) == ["pack"]


@pytest.mark.parametrize(
    ("fault", "effect"), [("reset", False), ("drop", False), ("reset", True), ("drop", True), ("stall", False), ("stall", True)]
)
def test_connections_break(drive: Google, api: Any, fault: str, effect: bool) -> None:
    """A connection may end before a request or after it, with and without a word, or stay silent."""
    drive.proxy.faults.add("files.create", Fault(fault, effect=effect, seconds=0.3), times=2)  # type: ignore[arg-type]
    (name,) = reserve(api)
    with pytest.raises(OSError, match=r"."):
        make_folder(api, "Voice notes", id=name)
    assert [item.id for item in drive.objects()] == ([name] if effect else [])
    drive.proxy.faults.clear()
    assert names(api, "'root' in parents") == (["Voice notes"] if effect else [])


def test_answers_arrive_broken(drive: Google, api: Any) -> None:
    """Contents may come cut, with a wrong bit, or slowly."""
    content = noise(100_000)
    file = put(api, "pack", content)["id"]
    for kind in ("cut answer", "flip", "trickle"):
        drive.proxy.faults.add("files.media", Fault(kind, seconds=0.2))
    with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
        api.files().get_media(fileId=file).execute()
    api.close()
    flipped = api.files().get_media(fileId=file).execute()
    assert sum((a ^ b).bit_count() for a, b in zip(content, flipped, strict=True)) == 1
    assert api.files().get_media(fileId=file).execute() == content
    drive.manners.gzip = True
    assert api.files().get_media(fileId=file).execute() == content
    assert drive.proxy.seen[-1].sent != len(content)
    drive.manners.ignore_ranges = True
    asked = api.files().get_media(fileId=file)
    asked.headers |= {"range": "bytes=0-9", "accept-encoding": "identity"}
    assert asked.execute() == content


def test_a_request_carried_out_twice(drive: Google, api: Any) -> None:
    """A request that arrives twice makes two files without a reserved id, and a conflict with one."""
    drive.proxy.faults.add("files.upload", Fault("twice"), times=2)
    put(api, "pack", b"x")
    assert drive.duplicates() == ["pack"]
    (name,) = reserve(api)
    assert refusal(lambda: put(api, "once", b"x", id=name)) == (409, "fileIdInUse")
    assert drive.duplicates() == ["pack"]


def test_a_careful_client_loses_and_doubles_nothing(drive: Google, api: Any) -> None:
    """With ids of its own and enough patience, every file is there once and right, whatever happened on the way."""
    wanted = {name: noise(1000, seed) for seed, name in enumerate(reserve(api, 60))}
    drive.proxy.faults.randomly(1, 0.3, MISHAPS)
    for name, content in wanted.items():
        while True:
            try:
                put(api, f"pack {name}", content, id=name)
            except HttpError as refused:
                if refused.status_code != 409:
                    continue
            except (OSError, http.client.HTTPException, httplib2.HttpLib2Error, TransportError):
                api.close()
                continue
            break
    drive.proxy.faults.clear()
    assert {item.id: drive.content(item.id).read_bytes() for item in drive.objects()} == wanted
    assert {fault.effect for _, fault in drive.proxy.faults.happened} == {True, False}
    assert len(drive.proxy.faults.happened) > 10


def test_a_test_can_act_at_any_request(drive: Google, api: Any) -> None:
    """A hook tells of each request, before it is carried out and after."""
    told: list[tuple[str, str, int]] = []
    drive.proxy.on_request = lambda label: told.append(("asked", label, len(drive.objects())))
    drive.proxy.on_effect = lambda label: told.append(("done", label, len(drive.objects())))
    put(api, "pack", b"x")
    assert told == [("asked", "oauth.token", 0), ("done", "oauth.token", 0), ("asked", "files.upload", 0), ("done", "files.upload", 1)]


def test_a_large_object_costs_no_memory(tmp_path: Path) -> None:
    """Contents wait on disk: a server that took and gave 128 MiB has grown by less than a quarter of that."""
    script = f"""
import http.client, io, json, os, resource, ssl, sys
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit
from tests.destinations.drive import google
with google(Path({str(tmp_path)!r})) as drive:
    token = drive.sign_in(drive.person(), drive.client())["access_token"]
    address = urlsplit(drive.proxy.url)
    context = ssl.create_default_context(cafile=str(drive.proxy.authority.file))
    connection = http.client.HTTPSConnection(address.hostname, address.port, context=context)
    connection.set_tunnel("www.googleapis.com", 443)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    def ask(method, target, body=None, **headers):
        connection.request(method, target, body, {{"Authorization": "Bearer " + token, **headers}})
        return connection.getresponse()
    answer = ask("POST", "/upload/drive/v3/files?uploadType=resumable", b"{{}}")
    answer.read()
    piece = bytes(1 << 20)
    name = json.load(ask("PUT", answer.headers["Location"], (piece for _ in range(128)), **{{"Content-Length": str(128 << 20)}}))["id"]
    answer, size = ask("GET", "/drive/v3/files/" + name + "?alt=media"), 0
    while got := answer.read(1 << 20):
        size += len(got)
    connection.close()
    print(size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    size, grown = map(int, done.stdout.split())
    assert size == 128 << 20
    assert grown < 30


# --- rclone


class Rclone:
    """An rclone with one remote at this Google."""

    def __init__(self, program: str, drive: Google, folder: Path, **settings: str) -> None:
        anna, client = drive.person(), drive.client()
        self.program, self.config, self.drive, self.client, self.anna = program, folder / "rclone.conf", drive, client, anna
        known = {"type": "drive", "client_id": client.id, "client_secret": client.secret, "scope": "drive.file", **settings}
        known["token"] = drive.rclone_token(anna, client)
        self.config.write_text("[drive]\n" + "".join(f"{name} = {value}\n" for name, value in known.items()))

    def run(self, *words: str, fails: bool = False) -> str:
        """What rclone prints."""
        command = [self.program, *words, "--config", str(self.config), "--drive-pacer-min-sleep", "0", "--retries", "1"]
        env = {**os.environ, **self.drive.environment()}
        done = subprocess.run(command, capture_output=True, timeout=120, env=env, check=False)
        said = done.stderr.decode(errors="replace")
        assert (done.returncode != 0) == fails, said
        return said if fails else done.stdout.decode("latin-1")


@pytest.fixture(params=list(rclones().values()), ids=list(rclones()))
def rclone(request: pytest.FixtureRequest, drive: Google, tmp_path: Path) -> Rclone:
    return Rclone(request.param(), drive, tmp_path)


def sample(folder: Path, count: int) -> dict[str, bytes]:
    """Some hundred files in folders, one of them large enough for a session of several chunks."""
    made = {f"data/{number % 16:02x}/{noise(8, number).hex()}": noise(100 + 37 * number, number) for number in range(count)}
    made |= {"config": b"x" * 155, "data/ff/large": noise(20 << 20, 7), "keys/empty": b"", "locks/it's \\ a lock": b"l"}
    for name, content in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return made


def test_rclone_copies_lists_checks_and_reads(drive: Google, rclone: Rclone, tmp_path: Path) -> None:
    """A second client that knows nothing of us writes some hundred files, compares checksums, reads ranges and gives all back."""
    source, back = tmp_path / "source", tmp_path / "back"
    made = sample(source, 200)
    rclone.run("copy", str(source), "drive:repository")
    assert {path: drive.content(items[0].id).read_bytes() for path, items in drive.tree().items()} == {
        f"repository/{name}": content for name, content in made.items()
    }
    assert drive.duplicates() == []
    listed = json.loads(rclone.run("lsjson", "-R", "--hash", "--files-only", "drive:repository"))
    assert {entry["Path"]: entry["Hashes"]["md5"] for entry in listed} == {
        name: hashlib.md5(data).hexdigest() for name, data in made.items()
    }
    rclone.run("check", str(source), "drive:repository")
    assert rclone.run("cat", "--offset", "1000", "--count", "50", "drive:repository/data/ff/large") == made["data/ff/large"][
        1000:1050
    ].decode("latin-1")
    rclone.run("copy", "drive:repository", str(back))
    assert {str(path.relative_to(back)): path.read_bytes() for path in back.rglob("*") if path.is_file()} == made
    assert re.search(r"Total:\s+15 ?Gi", rclone.run("about", "drive:"))
    assert drive.proxy.refused == []
    assert drive.proxy.untrusting == []


def test_rclone_changes_what_is_there(drive: Google, rclone: Rclone, tmp_path: Path) -> None:
    """Overwriting, moving, copying on the server, trash and deletion work for rclone as at Google."""
    (tmp_path / "a").write_bytes(b"first")
    rclone.run("copyto", str(tmp_path / "a"), "drive:x/a")
    (tmp_path / "a").write_bytes(b"second one")
    rclone.run("copyto", str(tmp_path / "a"), "drive:x/a")
    rclone.run("copyto", "drive:x/a", "drive:x/b")
    rclone.run("moveto", "drive:x/a", "drive:y/c")
    found = {path: drive.content(items[0].id).read_bytes() for path, items in drive.tree().items()}
    assert found == {"x/b": b"second one", "y/c": b"second one"}
    rclone.run("deletefile", "drive:x/b")
    assert [item.name for item in drive.objects(trashed=True)] == ["b"]
    rclone.run("purge", "drive:y", "--drive-use-trash=false")
    assert list(drive.tree()) == []
    assert sorted(item.name for item in drive.objects(trashed=None)) == ["b", "x"]


def test_rclone_meets_a_bad_network(drive: Google, rclone: Rclone, tmp_path: Path) -> None:
    """Errors and lost connections amid a large upload are survived, and the result is the same."""
    content = noise(20 << 20, 3)
    (tmp_path / "large").write_bytes(content)
    drive.proxy.faults.add("files.chunk", Fault("answer", response=failure(503, "backendError")))
    drive.proxy.faults.add("files.chunk", Fault("answer", effect=True, response=failure(500, "internalError")), after=1)
    drive.proxy.faults.add("files.list", Fault("answer", response=failure(403, "userRateLimitExceeded")))
    rclone.run("copyto", str(tmp_path / "large"), "drive:x/large")
    assert [drive.content(items[0].id).read_bytes() for items in drive.tree().values()] == [content]
    assert len(drive.proxy.faults.happened) == 3


def test_rclone_of_another_project_sees_nothing(drive: Google, tmp_path: Path) -> None:
    """The trap of drive.file: a new OAuth client meets an empty Drive; a wider scope finds everything."""
    first = Rclone(rclones()["current rclone"](), drive, tmp_path)
    (tmp_path / "a").write_bytes(b"x")
    first.run("copyto", str(tmp_path / "a"), "drive:x/a")
    text, other = first.config.read_text(), drive.client()
    for scope, wanted in ((DRIVE_FILE, []), (DRIVE_READONLY, ["a"])):
        token = drive.rclone_token(first.anna, other, scope)
        short = scope.rpartition("/")[2]
        changed = text.replace(first.client.id, other.id).replace(first.client.secret, other.secret).replace("= drive.file", f"= {short}")
        first.config.write_text(re.sub(r"token = .*", lambda _: f"token = {token}", changed))  # noqa: B023
        if wanted:
            assert first.run("lsf", "drive:x").split() == wanted
        else:
            assert "directory not found" in first.run("lsf", "drive:x", fails=True)


def test_rclone_on_a_shared_drive_by_service_account(drive: Google, tmp_path: Path) -> None:
    """A service account works where it is a member of a shared drive, also for rclone; in My Drive it has no room."""
    key = drive.service_account()
    shared = drive.shared_drive("Family", {key["client_email"]: "organizer"})
    (tmp_path / "key.json").write_text(json.dumps(key))
    program = Rclone(rclones()["current rclone"](), drive, tmp_path)
    (tmp_path / "a").write_bytes(b"x")
    settings = f"[drive]\ntype = drive\nscope = drive\nservice_account_file = {tmp_path / 'key.json'}\n"
    program.config.write_text(settings)
    assert "do not have storage quota" in program.run("copyto", str(tmp_path / "a"), "drive:x/a", fails=True)
    program.config.write_text(settings + f"team_drive = {shared.id}\n")
    program.run("copyto", str(tmp_path / "a"), "drive:x/a")
    assert program.run("lsf", "-R", "drive:").split() == ["x/", "x/a"]
    assert [item.drive for item in drive.objects() if item.name == "a"] == [shared.id]
