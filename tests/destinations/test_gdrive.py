"""At Google Drive: nothing twice, nothing lost, whatever becomes of a request; every refusal in one clear sentence."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backup_tool.config import DestinationSpec
from backup_tool.destinations import open_destination
from backup_tool.destinations.base import Checksums, Describing
from backup_tool.destinations.gdrive import uploads
from backup_tool.destinations.gdrive.destination import GoogleDriveDestination
from backup_tool.destinations.gdrive.pacing import Pacer
from backup_tool.destinations.limits import UploadLimit
from backup_tool.errors import BackupError, NoRepository, NoSpace, ObjectMissing, SignInNeeded, Unreachable, UsageError
from tests.destinations.drive import DRIVE_READONLY, Fault, failure
from tests.destinations.drives import Drives, drives, environment
from tests.destinations.tls_proxy import Response

MIB = 2**20
HARM = (
    Fault("drop"), Fault("drop", effect=True), Fault("reset"), Fault("reset", effect=True), Fault("cut answer"), Fault("cut body"),
    Fault("twice"), Fault("answer", response=failure(503)), Fault("answer", effect=True, response=failure(500, "backendError")),
    Fault("answer", response=failure(403, "userRateLimitExceeded")),
    Fault("answer", response=failure(429, "rateLimitExceeded", retry_after=3)),
)  # fmt: skip
"""What becomes of requests on a bad day: before their effect, after it, and amid their bytes."""


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drives]:
    """A Drive; what is sent in parts is smaller here, so that many parts need not many bytes."""
    monkeypatch.setattr(uploads, "SMALL", 2**16)
    monkeypatch.setattr(uploads, "CHUNK", 2**18)
    with drives(tmp_path) as started:
        yield started


@pytest.fixture
def place(cloud: Drives) -> Iterator[GoogleDriveDestination]:
    with contextlib.closing(cloud.with_folders("Voice notes")) as opened:
        yield opened


def pack(size: int, seed: int = 0) -> tuple[str, bytes]:
    data = random.Random(seed).randbytes(size)
    return hashlib.sha256(data).hexdigest(), data


def labels(cloud: Drives, since: int = 0) -> list[str]:
    return [call.label for call in cloud.google.calls[since:]]


# --- the layout


def test_a_new_archive_has_the_layout_of_restic_once(cloud: Drives) -> None:
    """A new archive's folders are those that restic expects, each once, and making it ready again makes none."""
    with contextlib.closing(cloud.open()) as place:
        assert not place.exists()
        place.create()
        made = sorted(cloud.google.store.path(item) for item in cloud.google.objects())
        place.create()
    shards = [f"Voice notes/data/{number:02x}" for number in range(256)]
    kinds = [f"Voice notes/{kind}" for kind in ("data", "index", "keys", "locks", "snapshots")]
    assert made == sorted(["Voice notes", *kinds, *shards])
    assert len(cloud.google.objects()) == len(made)


def test_a_making_that_broke_off_goes_on(cloud: Drives) -> None:
    """Where the making of an archive broke off, the next try makes what is missing, and nothing twice, whatever had arrived."""
    cloud.google.proxy.faults.add("files.create", Fault("answer", effect=True, response=failure(403, "domainPolicy")), after=40)
    with contextlib.closing(cloud.open()) as place, pytest.raises(BackupError, match="administrator"):
        place.create()
    with contextlib.closing(cloud.open()) as place:
        place.create()
    assert cloud.google.duplicates() == []
    assert len(cloud.google.objects()) == 262


def test_a_new_archive_may_follow_one_that_was_deleted(cloud: Drives) -> None:
    """Who deleted the folder for good, even half-made, can make a new archive under the same name."""
    cloud.google.proxy.faults.add("files.create", Fault("answer", response=failure(403, "domainPolicy")), after=5)
    for _ in range(2):
        with contextlib.closing(cloud.open()) as place, contextlib.suppress(BackupError):
            place.create()
            place.save("config", "config", b"sealed")
        cloud.google.remove(cloud.folder_of("Voice notes"))
    with contextlib.closing(cloud.open()) as place:
        assert not place.exists()
        place.create()
        assert len(cloud.google.objects()) == 262


def test_a_folder_may_be_renamed_and_moved(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Whoever moves or renames the folder in Google Drive loses nothing: this machine knows it by its id."""
    place.save("keys", "a" * 64, b"key")
    folder = cloud.folder_of("Voice notes")
    cloud.google.store.items[folder].name = "old things"
    cloud.google.store.move(cloud.google.store.items[folder], cloud.google.make_folder(cloud.anna, "attic").id)
    with contextlib.closing(cloud.open()) as again:
        assert dict(again.list("keys")) == {"a" * 64: 3}


def test_another_machine_finds_the_folder_by_its_name(cloud: Drives, place: GoogleDriveDestination) -> None:
    """A second machine with the same client finds the archive, and both see what the other stores."""
    place.save("config", "config", b"sealed")
    with contextlib.closing(cloud.open(machine="desktop")) as other:
        assert other.exists()
        other.save("snapshots", "b" * 64, b"one")
        assert dict(place.list("snapshots")) == {"b" * 64: 3}
    folder = cloud.folder_of("Voice notes")
    cloud.google.make_folder(cloud.anna, "Voice notes", cloud.google.make_folder(cloud.anna, "attic").id, cloud.client.project)
    with contextlib.closing(cloud.open(machine="third")) as third, pytest.raises(UsageError, match="2 folders of that name"):
        third.exists()
    assert folder in cloud.find("Voice notes")


def test_of_two_machines_that_begin_at_once_one_gives_way(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Where two machines make a repository in one folder at the same moment, the config that came first is the one that both read."""
    with contextlib.closing(cloud.open(machine="desktop")) as other:
        assert not other.exists()
        place.save("config", "config", b"one")
        other.save("config", "config", b"two")
        assert other.load("config", "config") == place.load("config", "config") == b"one"
    assert len(cloud.find("config")) == 1


def test_packs_that_lie_flat_are_read_too(cloud: Drives, place: GoogleDriveDestination) -> None:
    """What another program stored without folders of two digits is listed and read like anything else."""
    name, data = pack(5000)
    cloud.google.put(cloud.anna, name, data, cloud.folder_of("data"), cloud.client.project)
    assert dict(place.list("data")) == {name: 5000}
    assert place.load("data", name) == data


def test_a_name_with_a_slash_is_refused(cloud: Drives) -> None:
    """The folder is one folder: a path is refused with what to do instead."""
    with pytest.raises(UsageError) as told:
        cloud.open("a/b")
    assert "may be moved" in told.value.hint


# --- nothing twice


@pytest.mark.parametrize("size", [0, 700, 2**16 + 1, 2 * 2**18 + 12_345])
@pytest.mark.parametrize("fault", HARM, ids=lambda fault: f"{fault.kind}{' after' * fault.effect}")
def test_no_fault_makes_a_second_one(cloud: Drives, place: GoogleDriveDestination, fault: Fault, size: int) -> None:
    """Whatever becomes of each kind of request once, the object is there once, whole, and nothing else is."""
    name, data = pack(size)
    for label in ("files.generateIds", "files.upload", "files.start", "files.chunk", "files.ask", "files.list", "files.media"):
        if (label, fault.kind) != ("files.start", "twice"):
            cloud.google.proxy.faults.add(label, fault)
    place.save("data", name, data)
    assert place.load("data", name) == data
    assert cloud.google.duplicates() == []
    assert [len(items) for items in cloud.google.tree().values()] == [1]


def test_a_thousand_requests_of_which_many_fail(cloud: Drives, place: GoogleDriveDestination) -> None:
    """With one request in ten spoiled in every way there is, nothing is lost, nothing is there twice, and all bytes are right."""
    cloud.google.proxy.faults.randomly(20, 0.1, HARM)
    objects = dict(pack(size, seed) for seed, size in enumerate([300] * 150 + [uploads.SMALL + 5000] * 12 + [uploads.CHUNK + 7] * 2))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: place.save("data", *one), objects.items()))
        read = dict(zip(objects, pool.map(lambda name: place.load("data", name, 100, 150), objects), strict=True))
    assert read == {name: data[100:250] for name, data in objects.items()}
    assert dict(place.list("data")) == {name: len(data) for name, data in objects.items()}
    for name in list(objects)[::2]:
        place.remove("data", name)
    assert {name for name, _ in place.list("data")} == set(list(objects)[1::2])
    cloud.google.proxy.faults.clear()
    assert cloud.google.duplicates() == []
    assert len(cloud.google.tree()) == len(objects) // 2
    assert len(cloud.google.proxy.faults.happened) > 30


@pytest.mark.parametrize("reason", ["fileIdInUse", "duplicate"])
@pytest.mark.parametrize("at", ["start", "end"])
def test_an_id_in_use_is_an_upload_that_arrived(cloud: Drives, place: GoogleDriveDestination, at: str, reason: str) -> None:
    """An upload that arrived although nobody was told so is recognised when it is repeated, whenever Drive says that the id is taken."""
    cloud.google.manners.conflict_at, cloud.google.manners.conflict_reason = at, reason  # type: ignore[assignment]
    name, data = pack(9 * uploads.SMALL)
    cloud.google.proxy.faults.add("files.chunk", Fault("drop", effect=True))
    cloud.google.proxy.faults.add("files.ask", Fault("answer", response=failure(404, "notFound")))
    place.save("data", name, data)
    assert place.load("data", name) == data
    assert cloud.google.duplicates() == []


@pytest.mark.parametrize("manner", ["short_acks_left", "stuck_left", "moved_sessions_left"])
def test_an_upload_follows_what_drive_says(cloud: Drives, place: GoogleDriveDestination, manner: str) -> None:
    """Where Drive keeps less of a part than it was sent, nothing of it, or wants the rest elsewhere, the object becomes whole."""
    setattr(cloud.google.manners, manner, 7)
    name, data = pack(3 * uploads.CHUNK)
    place.save("data", name, data)
    assert place.load("data", name) == data


def test_an_upload_that_never_advances_ends(cloud: Drives, place: GoogleDriveDestination) -> None:
    """A Drive that takes parts and keeps nothing, without an error, is given up after a while."""
    cloud.google.manners.stuck_left = 10**6
    name, data = pack(9 * uploads.SMALL)
    with pytest.raises(Unreachable, match="again and again"):
        place.save("data", name, data)


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_expired_begins_again(cloud: Drives, status: int) -> None:
    """An upload that Drive has forgotten, after a week or for no reason, begins again by itself."""
    cloud.google.manners.gone_status = status  # type: ignore[assignment]
    name, data = pack(2 * uploads.CHUNK)
    leave_unfinished(cloud, name, data)
    cloud.google.pass_time(days=8)
    with contextlib.closing(cloud.open()) as place:
        cloud.sign_in()
        place.save("data", name, data)
        assert place.load("data", name) == data


def grow(place: GoogleDriveDestination, name: str, data: bytes) -> None:
    with place.draft("data") as draft:
        draft.write(data)
        draft.commit(name)


def leave_unfinished(cloud: Drives, name: str, data: bytes, parts: int = 1) -> None:
    """An upload of which that many parts arrive, and then nothing more."""
    with contextlib.closing(cloud.with_folders("Voice notes") if not cloud.find("Voice notes") else cloud.open()) as place:
        cloud.google.proxy.faults.add("files.chunk", Fault("answer", response=failure(403, "domainPolicy")), after=parts)
        with pytest.raises(BackupError, match="administrator"):
            place.save("data", name, data)
        cloud.google.proxy.faults.clear()


def test_an_upload_goes_on_where_it_stopped(cloud: Drives) -> None:
    """The next process sends only the parts that had not arrived, and only for the very same bytes."""
    name, data = pack(3 * uploads.CHUNK + 5)
    leave_unfinished(cloud, name, data, parts=2)
    before = len(cloud.google.proxy.seen)
    with contextlib.closing(cloud.open()) as place:
        place.save("data", name, data)
        assert place.load("data", name) == data
    sent = sum(seen.received for seen in cloud.google.proxy.seen[before:] if seen.label == "files.chunk")
    assert sent == uploads.CHUNK + 5
    other = bytes(len(data))
    leave_unfinished(cloud, "a" * 64, data, parts=2)
    with contextlib.closing(cloud.open()) as place:
        place.save("data", "a" * 64, other)
        assert place.load("data", "a" * 64) == other


def test_a_pack_that_was_on_its_way_is_finished_by_the_next_run(cloud: Drives) -> None:
    """A pack whose upload broke off is kept, encrypted and private, and sweeping up after dead runs finishes it."""
    name, data = pack(2 * uploads.CHUNK + 5)
    with contextlib.closing(cloud.with_folders("Voice notes")) as place:
        cloud.google.proxy.faults.add("files.chunk", Fault("answer", response=failure(403, "domainPolicy")), after=1)
        with pytest.raises(BackupError, match="administrator"):
            grow(place, name, data)
        assert place.sweep() == 0  # its maker lives
    kept = sorted((cloud.home() / "uploads").iterdir())
    assert [file.name for file in kept] == [f"data-{name}.bytes", f"data-{name}.json"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}
    assert stat.S_IMODE(kept[0].parent.stat().st_mode) == 0o700
    dead = kept[1].read_text().replace(f".{os.getpid()}.", ".4194305.")
    kept[1].write_text(dead)
    before = len(cloud.google.proxy.seen)
    with contextlib.closing(cloud.open()) as place:
        assert place.sweep() == 1
        assert place.sweep() == 0
        assert place.load("data", name) == data
    assert sum(seen.received for seen in cloud.google.proxy.seen[before:] if seen.label == "files.chunk") == uploads.CHUNK + 5
    assert list((cloud.home() / "uploads").iterdir()) == []


def test_a_damaged_leftover_is_not_sent(cloud: Drives) -> None:
    """What waits on this machine is sent only if it is still what was to be sent."""
    name, data = pack(2 * uploads.CHUNK)
    leave_unfinished(cloud, name, data)
    folder = cloud.home() / "uploads"
    entry = folder / f"data-{name}.json"
    entry.write_text(entry.read_text().replace(f".{os.getpid()}.", ".4194305."))
    (folder / f"data-{name}.bytes").write_bytes(data[:-1] + b"?")
    (folder / "index-x.json").write_text("{}")
    with contextlib.closing(cloud.open()) as place:
        assert place.sweep() == 2
        assert dict(place.list("data")) == {}
    assert list(folder.iterdir()) == []


# --- what was stored is what was sent


def test_what_arrives_wrong_is_sent_again(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Bytes that change on their way are noticed by the checksum that Drive computes, taken back and sent anew."""
    cloud.google.manners.corrupt_uploads_left = 2
    for size in (800, 9 * uploads.SMALL):
        name, data = pack(size)
        place.save("data", name, data)
        assert place.load("data", name) == data
    assert cloud.google.duplicates() == []
    cloud.google.manners.corrupt_uploads_left = 10
    with pytest.raises(BackupError, match="something else than it was sent"):
        place.save("data", *pack(900, 5))
    assert len(cloud.google.tree()) == 2


def test_without_checksums_what_was_stored_is_read_back(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Where Drive tells no checksum, an object counts as stored only after it was read back and compared."""
    cloud.google.manners.no_checksums = True
    name, data = pack(5000)
    place.save("data", name, data)
    assert "files.media" in labels(cloud)
    assert list(place.checksums("data")) == [(name, 5000, None)]
    cloud.google.manners.corrupt_uploads_left = 10
    with pytest.raises(BackupError, match="something else"):
        place.save("data", *pack(900, 5))


def test_a_whole_copy_is_preferred(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Of two files of one name the one counts whose checksum is its name, also where the other is older; both are told by checksums(), and
    mending leaves the one that is whole."""
    name, data = pack(5000)
    folder = cloud.folder_of(name[:2])
    for content in (data[:-1] + b"?", data, data):
        cloud.google.put(cloud.anna, name, content, folder, cloud.client.project)
    assert place.load("data", name) == data
    assert dict(place.list("data")) == {name: 5000}
    assert sorted(sha == name for _, _, sha in place.checksums("data")) == [False, True, True]
    told = [f"a second copy of data {name[:16]}", f"a damaged second copy of data {name[:16]}"]
    assert place.mend(dry_run=True) == [f"would remove {what}" for what in told]
    assert len(cloud.find(name)) == 3
    assert place.mend() == [f"removed {what}" for what in told]
    assert len(cloud.find(name)) == 1
    assert place.load("data", name) == data
    place.remove("data", name)
    assert cloud.find(name) == []


def test_twin_folders_are_read_as_one_and_joined(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Folders of one name, as two programs make them, are read as one, on each level; mending joins them and loses nothing."""
    stored = dict(pack(500, seed) for seed in range(6))
    names = list(stored)
    put, make, project = cloud.google.put, cloud.google.make_folder, cloud.client.project
    root, data = cloud.folder_of("Voice notes"), cloud.folder_of("data")
    place.save("data", names[0], stored[names[0]])
    put(cloud.anna, names[1], stored[names[1]], make(cloud.anna, names[1][:2], data, project).id, project)
    second_data = make(cloud.anna, "data", root, project).id
    put(cloud.anna, names[2], stored[names[2]], make(cloud.anna, names[2][:2], second_data, project).id, project)
    second_root = make(cloud.anna, "Voice notes", "", project).id
    third_data = make(cloud.anna, "data", second_root, project).id
    put(cloud.anna, names[3], stored[names[3]], make(cloud.anna, names[3][:2], third_data, project).id, project)
    put(cloud.anna, names[4], stored[names[4]], make(cloud.anna, "keys", root, project).id, project)
    del names[5]
    for machine in ("desktop", "laptop"):
        with contextlib.closing(cloud.open(machine=machine)) as other:
            if machine == "laptop":
                assert other.mend()
            assert {name for name, _ in other.list("data")} == set(names[:4])
            assert all(other.load("data", name) == stored[name] for name in names[:4])
            assert [name for name, _ in other.list("keys")] == [names[4]]
    assert cloud.google.duplicates() == []
    assert len(cloud.google.tree()) == 5


# --- listings


def test_a_listing_is_complete_in_few_requests(cloud: Drives, place: GoogleDriveDestination) -> None:
    """The packs in 256 folders are listed by seven queries; a grouped answer that is empty is not believed, nor one that is incomplete."""
    stored = {name: len(data) for name, data in (pack(100, seed) for seed in range(30))}
    for name, size in stored.items():
        cloud.google.put(cloud.anna, name, bytes(size), cloud.folder_of(name[:2]), cloud.client.project)
    before = len(cloud.google.calls)
    assert dict(place.list("data")) == stored
    assert labels(cloud, before) == ["files.list"] * 7
    cloud.google.manners.empty_groups_left = 2
    assert dict(place.list("data")) == stored
    cloud.google.manners.incomplete_left = 3
    cloud.google.manners.page_limit = 4
    assert dict(place.list("data")) == stored


def test_what_listings_do_not_show_yet_is_known(cloud: Drives, place: GoogleDriveDestination) -> None:
    """What this process stored is listed also while Drive's listings lag behind, and what somebody removed is not."""
    cloud.google.manners.parent_lag = 50
    name, other = "a" * 64, "b" * 64
    place.save("snapshots", name, b"one")
    place.save("snapshots", other, b"two")
    assert dict(place.list("snapshots")) == {name: 3, other: 3}
    cloud.google.remove(cloud.find(other)[0])
    assert dict(place.list("snapshots")) == {name: 3}
    with pytest.raises(ObjectMissing):
        place.load("snapshots", other)


def test_what_is_removed_elsewhere_is_missing(cloud: Drives, place: GoogleDriveDestination) -> None:
    """An object that somebody removed meanwhile is missing, not an error of the network; one stored anew under its name is found."""
    place.save("index", "a" * 64, b"one")
    cloud.google.remove(cloud.find("a" * 64)[0])
    for ask in (place.load, place.size, place.age):
        with pytest.raises(ObjectMissing):
            ask("index", "a" * 64)
    with contextlib.closing(cloud.open(machine="desktop")) as other:
        other.save("index", "a" * 64, b"four")
    assert place.load("index", "a" * 64) == b"four"


def test_a_run_over_an_unchanged_archive_costs_little(cloud: Drives, place: GoogleDriveDestination) -> None:
    """The units that Google counts are counted here as well, and storing one object costs two requests once its folder is known."""
    place.save("index", "a" * 64, b"x")
    before = len(cloud.google.calls)
    place.save("index", "b" * 64, b"x")
    place.save("index", "b" * 64, b"x")
    assert labels(cloud, before) == ["files.upload", "files.get"]
    assert place._drive.pacer.spent == cloud.google.units()


# --- the trash


@pytest.mark.parametrize("what", ["Voice notes", "data", "keys"])
def test_a_folder_in_the_trash_is_told(cloud: Drives, place: GoogleDriveDestination, what: str) -> None:
    """A folder in the trash, which Google purges after 30 days, ends every command with how to restore it; then all is there again."""
    place.save("config", "config", b"sealed")
    folder = cloud.folder_of(what)
    cloud.google.trash(folder)
    for machine in ("laptop", "desktop"):
        with contextlib.closing(cloud.open(machine=machine)) as other:
            for act in (other.exists, other.create, lambda other=other: list(other.list("data"))):
                with pytest.raises(BackupError, match="in the trash") as told:
                    act()
                assert "30 days" in told.value.hint
                assert not isinstance(told.value, NoRepository)  # which could be taken for: nothing there yet
            assert other.condition().folder == "in the trash"
    cloud.google.untrash(folder)
    with contextlib.closing(cloud.open()) as other:
        assert other.exists()
        assert other.condition().folder == "there"


def test_a_folder_that_disappears_amid_a_run_is_told(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Where the folder is deleted under our feet nothing is taken for merely missing."""
    place.save("keys", "a" * 64, b"key")
    cloud.google.remove(cloud.folder_of("Voice notes"))
    for act in (lambda: place.load("keys", "a" * 64), lambda: list(place.list("keys")), lambda: place.save("index", "b" * 64, b"x")):
        with pytest.raises(NoRepository):
            act()


# --- refusals

REFUSALS = [
    (403, "storageQuotaExceeded", NoSpace, "is full", "empty the trash"),
    (403, "teamDriveFileLimitExceeded", NoSpace, "no more files in this shared drive", "another shared drive"),
    (403, "activeItemCreationLimitExceeded", NoSpace, "no more files from this account", "another account"),
    (403, "numChildrenInNonRootLimitExceeded", NoSpace, "in one folder", "another folder"),
    (403, "dailyLimitExceeded", NoSpace, "one day", "tomorrow"),
    (403, "quotaExceeded", NoSpace, "one day", "tomorrow"),
    (403, "uploadLimitExceeded", NoSpace, "one day", "tomorrow"),
    (403, "userRateLimitExceeded", NoSpace, "750 GB", "tomorrow"),
    (403, "rateLimitExceeded", NoSpace, "750 GB", "tomorrow"),
    (429, "rateLimitExceeded", NoSpace, "750 GB", "tomorrow"),
    (403, "insufficientPermissions", SignInNeeded, "does not allow that", "box for Google Drive ticked: backup login drive"),
    (403, "domainPolicy", BackupError, "administrator", "ask the administrator"),
    (403, "appNotAuthorizedToFile", BackupError, "only what it stored itself", "drive.readonly"),
    (403, "insufficientFilePermissions", BackupError, "does not let this account", "content manager"),
    (403, "teamDriveMembershipRequired", BackupError, "no member", "ask its manager"),
    (403, "cannotDownloadAbusiveFile", BackupError, "harmful", "review"),
    (403, "somethingNew", BackupError, "does not allow that", "whose folder"),
    (401, "authError", SignInNeeded, "does not accept the sign-in", "backup login drive"),
    (400, "badRequest", BackupError, "refused a request of ours", "--debug"),
    (500, "internalError", Unreachable, "is busy", "not sent twice"),
    (502, "", Unreachable, "is busy", "not sent twice"),
    (503, "backendError", Unreachable, "is busy", "not sent twice"),
    (504, "", Unreachable, "is busy", "not sent twice"),
]


@pytest.mark.parametrize("size", [500, 9 * 2**16], ids=["at once", "in parts"])
@pytest.mark.parametrize(("status", "reason", "kind", "words", "hint"), REFUSALS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_refusal_has_its_sentence(
    cloud: Drives, place: GoogleDriveDestination, status: int, reason: str, kind: type[BackupError], words: str, hint: str, size: int
) -> None:
    """Each way in which Google says no ends with its own sentence, exit code and hint, and nothing is tried for ever."""
    cloud.google.proxy.faults.add("files.[us]*", Fault("answer", response=failure(status, reason)), times=10**6)
    with pytest.raises(BackupError) as told:
        place.save("data", *pack(size))
    assert type(told.value) is kind or (kind is Unreachable and isinstance(told.value, Unreachable))
    assert words in told.value.message
    assert hint in told.value.hint
    assert told.value.message.startswith("gdrive:Voice notes") or status == 400
    assert len(cloud.google.proxy.seen) < 100


def test_a_full_drive_is_told_with_numbers(cloud: Drives, place: GoogleDriveDestination) -> None:
    """An account without room ends a run with how much is used and how much of it is trash, at the beginning of an object and amid it."""
    cloud.anna.limit = 5 * MIB
    waste = cloud.google.put(cloud.anna, "film", bytes(4 * MIB + 900_000))
    cloud.google.trash(waste.id)
    for size in (400_000, 9 * uploads.SMALL):
        with pytest.raises(NoSpace, match=r"is full: 5\.1 MB of 5\.2 MB are used, 5\.1 MB of it in the trash"):
            place.save("data", *pack(size))
    assert dict(place.list("data")) == {}


def test_the_daily_limit_does_not_lose_what_arrived(cloud: Drives, place: GoogleDriveDestination) -> None:
    """At the limit of 750 GB a day a run ends instead of trying for hours, and the next day the same object is stored once."""
    cloud.google.manners.upload_per_day = uploads.CHUNK + 100_000
    name, data = pack(2 * uploads.CHUNK)
    with pytest.raises(NoSpace, match="750 GB"):
        place.save("data", name, data)
    cloud.google.pass_time(days=1.1)
    cloud.google.manners.upload_per_day = 10**12
    with contextlib.closing(cloud.open()) as again:
        again.save("data", name, data)
        assert again.load("data", name) == data
    assert cloud.google.duplicates() == []


def test_a_limit_that_does_not_pass_is_waited_for_once(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Where Google refuses all writes for hours, minutes are spent on finding that out, and no more by those that follow; when it takes
    something again, a busy moment is waited out as ever."""
    endless = Fault("answer", response=failure(403, "userRateLimitExceeded"))
    cloud.google.proxy.faults.add("files.[us]*", endless, times=10**6)
    with pytest.raises(NoSpace, match="750 GB"):
        place.save("data", *pack(500))
    waited, asked = cloud.time.waited, len(cloud.google.proxy.seen)
    assert 300 <= waited < 400
    assert asked < 60
    for seed in range(1, 6):
        with pytest.raises(NoSpace, match="750 GB"):
            place.save("data", *pack(500 if seed % 2 else 9 * uploads.SMALL, seed))
    assert len(cloud.google.proxy.seen) - asked <= 5 * 4  # what is there, the upload, and how full the account is
    assert cloud.time.waited - waited < 120
    cloud.google.proxy.faults.clear()
    place.save("data", *pack(500))
    cloud.google.proxy.faults.add("files.[us]*", endless, times=3)
    place.save("data", *pack(500, 9))


def test_an_api_that_is_switched_off_is_told_with_the_page_that_switches_it_on(cloud: Drives) -> None:
    """Who forgot to enable the Drive API reads so, with the address for their own project."""
    cloud.client.api_enabled = False
    with contextlib.closing(cloud.open()) as place, pytest.raises(BackupError, match="switched off") as told:
        place.exists()
    assert told.value.hint.endswith(f"library/drive.googleapis.com?project={cloud.client.project}")


def test_google_may_ask_to_wait(cloud: Drives) -> None:
    """Where Google asks to wait, a run waits as long as it was asked to."""
    with contextlib.closing(cloud.open()) as place:
        cloud.google.proxy.faults.add("files.*", Fault("answer", response=failure(429, "rateLimitExceeded", retry_after=7)), times=3)
        assert not place.exists()
    assert cloud.time.waited >= 21


def test_the_pace_halves_and_comes_back() -> None:
    """After a refusal half as much is asked; when all goes well it is as before; writes are three a second for long."""
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    pacer = Pacer(now=lambda: clock[0], sleep=sleep)
    for _ in range(600):
        pacer.take(50, write=True)
    assert clock[0] == 0.0
    for _ in range(30):
        pacer.take(50, write=True)
    assert clock[0] == pytest.approx(10, abs=0.01)
    pacer.refused()
    for _ in range(30):
        pacer.take(50, write=True)
    assert clock[0] == pytest.approx(30, abs=1)
    for _ in range(100):
        pacer.answered()
    begun = clock[0]
    for _ in range(30):
        pacer.take(50, write=True)
    assert clock[0] - begun == pytest.approx(10, abs=0.5)
    assert pacer.spent == 50 * 690


# --- who we are


def test_a_token_that_expires_amid_a_run_is_renewed(cloud: Drives, place: GoogleDriveDestination) -> None:
    """The hourly token is renewed by itself, also between two parts of an upload, whose bytes are then sent whole."""
    place.save("keys", "a" * 64, b"key")
    name, data = pack(3 * uploads.CHUNK)
    cloud.google.expire_access_tokens()
    cloud.google.proxy.faults.add("files.chunk", Fault("answer", response=failure(401, "authError")), after=1)
    cloud.google.proxy.faults.add("oauth.token", Fault("answer", response=failure(503)))
    place.save("data", name, data)
    assert place.load("data", name) == data


def test_threads_and_commands_share_one_token(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Eight threads whose token ended fetch one new one, and the next command uses it too."""
    for number in range(8):
        place.save("keys", f"{number:064}", b"key")
    before = cloud.google.proxy.labels().count("oauth.token")
    cloud.google.expire_access_tokens()
    barrier = threading.Barrier(8)

    def load(number: int) -> bytes:
        barrier.wait(30)
        return place.load("keys", f"{number:064}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(load, range(8))) == [b"key"] * 8
    with contextlib.closing(cloud.open()) as again:
        assert len(list(again.list("keys"))) == 8
    assert cloud.google.proxy.labels().count("oauth.token") == before + 1


def test_a_sign_in_that_ended_says_what_to_type(cloud: Drives, place: GoogleDriveDestination) -> None:
    """A revoked sign-in, one that ended after the seven days of "Testing", and a client that is gone: each is told, with the command."""
    cloud.google.revoke(cloud.anna)
    with pytest.raises(SignInNeeded, match="has ended") as told:
        list(place.list("keys"))
    assert told.value.hint == "sign in again: backup login drive"
    cloud.client.testing = True
    cloud.sign_in()
    cloud.google.pass_time(days=7.1)
    with contextlib.closing(cloud.open()) as again:
        again._sign_in._now = cloud.google.now  # type: ignore[attr-defined]
        with pytest.raises(SignInNeeded, match="after 7 days") as told:
            again.exists()
        assert "Publish app" in told.value.hint
    cloud.client.testing = False
    cloud.sign_in()
    cloud.google.expire_access_tokens()
    cloud.client.deleted = True
    with contextlib.closing(cloud.open()) as again, pytest.raises(SignInNeeded, match="client that you signed in with is no more"):
        again.exists()


def test_nobody_signed_in_is_told(cloud: Drives) -> None:
    """A place that nobody has signed in to ends with exit code 4 and the command; a sign-in that others may read is refused."""
    with contextlib.closing(cloud.open()) as place:
        (cloud.home() / "sign-in.json").unlink()
        with pytest.raises(SignInNeeded, match="nobody has signed in") as told:
            place.exists()
        assert told.value.hint == "sign in once: backup login drive"
        cloud.sign_in()
        (cloud.home() / "sign-in.json").chmod(0o644)
        with pytest.raises(UsageError, match="may be read by others"):
            place.exists()
        (cloud.home() / "sign-in.json").chmod(0o600)
        (cloud.home() / "sign-in.json").write_text("{")
        with pytest.raises(SignInNeeded, match="damaged"):
            place.exists()


def test_no_secret_is_told_or_left_lying_about(cloud: Drives) -> None:
    """Tokens, the client's secret and addresses of uploads are in private files only, and in no error."""
    name, data = pack(2 * uploads.CHUNK)
    leave_unfinished(cloud, name, data)
    tokens = [*cloud.google.refresh_tokens, *cloud.google.access_tokens, cloud.client.secret, "upload_id"]
    files = [path for path in cloud.home().rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [cloud.home(), *cloud.home().rglob("*/")]} <= {0o700, 0o600}
    cloud.google.revoke(cloud.anna)
    with contextlib.closing(cloud.open()) as place, pytest.raises(SignInNeeded) as told:
        place.save("data", name, data)
    texts = [str(told.value), told.value.hint, repr(told.value.__cause__), repr(told.value.__context__)]
    assert [token for token in tokens for text in texts if token in text] == []


def test_another_client_sees_nothing_unless_it_may_see_everything(cloud: Drives, place: GoogleDriveDestination) -> None:
    """A new client finds no archive under drive.file, and is told why; with drive.readonly it reads everything and stores nothing."""
    place.save("config", "config", b"sealed")
    other = cloud.google.client()
    cloud.sign_in("new", other)
    with contextlib.closing(cloud.open(machine="new")) as blind:
        assert not blind.exists()
        with pytest.raises(NoRepository) as told:
            list(blind.list("data"))
        assert "a client sees only what it stored itself" in told.value.hint
    cloud.sign_in("rescue", other, DRIVE_READONLY)
    with contextlib.closing(cloud.open(machine="rescue", scope="drive.readonly")) as reader:
        assert reader.load("config", "config") == b"sealed"
        with pytest.raises(SignInNeeded, match="does not allow that"):
            reader.save("keys", "a" * 64, b"key")


def test_a_service_account_keeps_an_archive_on_a_shared_drive(cloud: Drives, tmp_path: Path) -> None:
    """A service account keeps an archive on a shared drive, where it may put things only into the trash and sees new files late."""
    import json

    key = cloud.google.service_account("robot")
    shared = cloud.google.shared_drive("Family", {key["client_email"]: "fileOrganizer"})
    cloud.google.manners.drive_lag = 2
    file = tmp_path / "robot.json"
    file.write_text(json.dumps(key))
    with environment(cloud.google.proxy.environment()), pytest.raises(UsageError, match="may be read by others"):
        open_destination(cloud.spec("Voice notes", service_account=file, shared_drive=shared.id), home=tmp_path / "robot").exists()
    file.chmod(0o600)
    with contextlib.closing(cloud.open(service_account=file, shared_drive=shared.id)) as place:
        place.create()
        name, data = pack(9 * uploads.SMALL)
        place.save("data", name, data)
        place.save("config", "config", b"sealed")
        assert place.load("data", name) == data
        assert place.exists()
        place.remove("data", name)
        assert dict(place.list("data")) == {}
    assert cloud.google.duplicates() == []
    assert all(item.drive == shared.id for item in cloud.google.objects())
    with contextlib.closing(cloud.open(shared_drive="0Anowhere")) as place, pytest.raises(UsageError, match="no shared drive of that id"):
        place.create()


def test_a_service_account_without_storage_is_refused_at_once(cloud: Drives, tmp_path: Path) -> None:
    """A service account that could not store a byte is refused with what to do before anything is tried; one acting for a person may."""
    import json

    key = cloud.google.service_account("robot")
    file = tmp_path / "robot.json"
    file.write_text(json.dumps(key))
    file.chmod(0o600)
    with pytest.raises(UsageError, match="cannot store anything") as told:
        cloud.open(service_account=file)
    assert "shared_drive" in told.value.hint
    cloud.anna.delegates.add(key["client_email"])
    with contextlib.closing(cloud.open(service_account=file, subject=cloud.anna.email)) as place:
        assert not place.exists()
    message = "Service Accounts do not have storage quota. Leverage shared drives instead."
    cloud.google.proxy.faults.add("files.create", Fault("answer", response=failure(403, "storageQuotaExceeded", message)))
    with contextlib.closing(cloud.open()) as place, pytest.raises(NoSpace, match="service account"):
        place.create()


# --- the way there


def test_waiting_ends_when_it_is_closed(cloud: Drives) -> None:
    """A run that is ended while it waits for Google does not wait to the end."""
    cloud.google.proxy.faults.add("files.*", Fault("answer", response=failure(503, retry_after=40)), times=100)
    cloud.google.proxy.faults.add("oauth.token", Fault("stall", seconds=500), after=1)
    place = cloud.open(waits=True)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: place._drive._patience.run(place.exists))
        while "files.list" not in cloud.google.proxy.labels():
            assert not asked.done()
        place.close()
        with pytest.raises(Unreachable):
            asked.result(20)
    pacer = Pacer()
    pacer.end()
    for _ in range(2000):
        pacer.take(50, write=True)


def test_a_proxy_is_used_or_refused(cloud: Drives) -> None:
    """A proxy that the environment names is used; one of a kind that cannot be used is refused, never passed by."""
    spec = DestinationSpec(name="drive", type="gdrive", place="Voice notes")
    cloud.sign_in()
    for proxies in ({"https_proxy": "socks5://127.0.0.1:1080"}, {"https_proxy": "", "HTTPS_PROXY": "", "all_proxy": "https://proxy:443"}):
        with environment({**cloud.google.proxy.environment(), **proxies}), pytest.raises(UsageError, match="kind that is not spoken"):
            open_destination(spec, home=cloud.home())
    before = cloud.google.proxy.tunnels
    with contextlib.closing(cloud.open()) as place:
        place.exists()
    assert cloud.google.proxy.tunnels > before
    assert cloud.google.proxy.refused == []


def test_a_certificate_that_nobody_vouches_for_is_refused(cloud: Drives) -> None:
    """Nothing is said to a server that only claims to be Google."""
    cloud.sign_in()
    trusting = {**cloud.google.proxy.environment(), "SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}
    with environment(trusting):
        place = open_destination(cloud.spec("Voice notes"), home=cloud.home())
    with contextlib.closing(place), pytest.raises(BackupError, match="not trusted"):
        place.exists()
    assert cloud.google.calls == []
    assert "oauth.token" not in cloud.google.proxy.labels()


def test_an_upload_is_never_sent_elsewhere(cloud: Drives, place: GoogleDriveDestination) -> None:
    """An address for an upload that is not Google's is not followed."""
    elsewhere = Response(200, {"Location": "https://uploads.example.org/upload?upload_id=1"})
    cloud.google.proxy.faults.add("files.start", Fault("answer", response=elsewhere))
    with pytest.raises(BackupError, match="another server"):
        place.save("data", *pack(9 * uploads.SMALL))
    assert cloud.google.proxy.refused == []


def test_uploads_keep_to_the_limit(cloud: Drives) -> None:
    """With a limit on uploads every byte that leaves waits for its turn."""
    waits: list[float] = []
    limit = UploadLimit(MIB, now=lambda: 0.0, sleep=waits.append)
    with environment(cloud.google.proxy.environment()):
        cloud.sign_in()
        cloud.folders("Voice notes")
        with contextlib.closing(open_destination(cloud.spec("Voice notes"), home=cloud.home(), limit=limit)) as place:
            place.save("data", *pack(3 * MIB))
    assert waits[-1] == pytest.approx(3.0, abs=0.3)


def test_it_tells_checksums_and_its_condition(cloud: Drives, place: GoogleDriveDestination) -> None:
    """The destination offers what check --remote and doctor ask for."""
    assert isinstance(place, Checksums)
    assert isinstance(place, Describing)
    name, data = pack(2000)
    place.save("data", name, data)
    assert list(place.checksums("data")) == [(name, 2000, name)]
    told = place.condition()
    assert (told.account, told.limit, told.used, told.folder) == (cloud.anna.email, cloud.anna.limit, 2000, "there")
    assert told.sign_in_may_end is not None


def test_a_folder_of_packs_that_disappears_is_made_again(cloud: Drives, place: GoogleDriveDestination) -> None:
    """Where somebody removed one of the inner folders for good, the rest is listed and stored all the same, as after a new start."""
    names = ["ab" + "0" * 62, "cd" + "0" * 62]
    for name in names:
        place.save("data", name, b"x")
    cloud.google.remove(cloud.folder_of("ab"))
    assert dict(place.list("data")) == {names[1]: 1}
    place.save("data", names[0], b"y")
    assert place.load("data", names[0]) == b"y"
    assert dict(place.list("data")) == dict.fromkeys(names, 1)
