"""The whole program at Google Drive: signed in as people do, through the environment's proxy, with no part of it knowing of the test."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup_tool.destinations.gdrive import uploads
from tests.destinations.drive import DRIVE_READONLY, Consent, Fault, Google, failure, google
from tests.destinations.drive.people import Account, Client
from tests.destinations.drives import folders
from tests.destinations.servers import rclones
from tests.generators.android import CURRENT, Store
from tests.scenarios.world import PASSWORD, World, finish

PLACE = "gdrive:Voice notes"
_BROWSER = """
import sys, urllib.request
page = urllib.request.urlopen(sys.argv[1], timeout=30)
"""


class CloudWorld(World):
    """A machine whose archive is in Google Drive. `google` is what it reaches, `anna` who sits at it, `client` her own client."""

    def __init__(self, folder: Path, drive: Google, anna: Account, client: Client) -> None:
        super().__init__(folder)
        self.google, self.anna, self.client = drive, anna, client
        self.client_file = folder / "client_secret.json"
        self.client_file.write_text(json.dumps(client.json()))
        (folder / "browser.py").write_text(_BROWSER)

    def environment(self, **more: str | None) -> dict[str, str]:
        browser = f"{sys.executable} {self.folder / 'browser.py'} %s"
        return super().environment(**{"BACKUP_REPOSITORY": PLACE, "BROWSER": browser, **self.google.proxy.environment(), **more})

    def login(self, *words: str, code: int = 0) -> str:
        return self.backup("login", PLACE, "--client", self.client_file, *words, code=code).told

    def init(self) -> None:
        """An archive whose folders are there already, so that the test need not wait for them."""
        folders(self.google, self.anna, self.client, "Voice notes")
        self.backup("init")

    def rclone(self, *words: object, scope: str = "drive.file") -> str:
        """`rclone WORDS…`, unmodified, with the same client."""
        config = self.folder / "rclone.conf"
        token = self.google.rclone_token(self.anna, self.client, f"https://www.googleapis.com/auth/{scope}")
        config.write_text(
            f"[drive]\ntype = drive\nscope = {scope}\nclient_id = {self.client.id}\nclient_secret = {self.client.secret}\ntoken = {token}\n"
        )
        config.chmod(0o600)
        authority = self.google.proxy.environment()["SSL_CERT_FILE"]
        command = [rclones()["current rclone"](), "--config", config, "--ca-cert", authority, "--drive-pacer-min-sleep", "1ms", *words]
        done = subprocess.run(list(map(str, command)), env=self.environment(), capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Google]:
    with google(tmp_path / "google") as world:
        yield world


@pytest.fixture
def world(tmp_path: Path, drive: Google) -> CloudWorld:
    """A machine that has signed in."""
    anna, client = drive.person(), drive.client()
    drive.consent = Consent(anna)
    made = CloudWorld(tmp_path / "laptop", drive, anna, client)
    assert "signed in as anna@example.org" in made.login()
    return made


def phone(world: CloudWorld, notes: int = 6) -> Store:
    store = Store(world.folder / "phone" / CURRENT)
    store.database(store.voice_notes(notes))
    return store


def test_a_first_night_at_google_drive(world: CloudWorld) -> None:
    """Sign in, make the archive, archive, list, restore: the notes come back, restic's layout is in the Drive, each thing there once."""
    store = phone(world)
    world.backup("init")
    result = world.run("phone")
    assert (result["new"], result["destinations"][0]["status"]) == (6, "delivered")
    assert world.run("phone")["unchanged"] == 6
    world.backup("restore", "--to", world.folder / "back")
    given = {path.read_bytes() for path in (world.folder / "back").rglob("*.opus")}
    assert given == {path.read_bytes() for path in store.root.rglob("*.opus")}
    assert world.google.duplicates() == []
    paths = set(world.google.tree())
    assert all(
        re.fullmatch(r"Voice notes/(config|(keys|snapshots|index)/[0-9a-f]{64}|data/([0-9a-f]{2})/\3[0-9a-f]{62})", path) for path in paths
    )
    assert "no errors" in world.backup("check", "--read-data").text


def test_what_is_stored_is_proven_without_fetching_it(world: CloudWorld) -> None:
    """check --remote compares every object by Google's checksums, reads samples, and names what is wrong or gone."""
    phone(world)
    world.init()
    world.run("phone")
    report = world.backup("check", "--remote", "--json").json
    assert report["sound"]
    assert report["objects"] == len(world.google.tree()) - 1 + 1  # without config, with the lock of the check itself
    assert (report["unconfirmed"], report["sampled"] > 0) == (0, True)
    assert "checksums of" in world.backup("check", "--remote").text
    packs = {path: items[0] for path, items in world.google.tree().items() if "/data/" in path}
    downloaded = sum(call.sent for call in world.google.called("files.media"))
    assert downloaded
    path, pack = max(packs.items(), key=lambda item: item[1].size or 0)
    data = bytearray(world.google.content(pack.id).read_bytes())
    parent, project = str(pack.parent), world.client.project
    world.google.remove(pack.id)
    other = world.google.put(world.anna, pack.name, bytes(data[:-1]) + b"?", parent, project)
    told = world.backup("check", "--remote", "--json", code=5).json
    assert [finding["name"] for finding in told["findings"] if "checksum" in finding["message"]] == [path.rpartition("/")[2]]
    world.google.remove(other.id)
    gone = world.backup("check", "--remote", code=5).told
    assert f"pack {pack.name[:16]}: the index names it, and no whole copy is there" in gone
    local = World(world.folder / "other")
    local.backup("init")
    assert "does not tell checksums" in local.backup("check", "--remote", code=2).told


def disk_and_drive(world: CloudWorld) -> dict[str, str | None]:
    """A phone's notes at a disk and in Google Drive, as the settings name them: what the environment needs for both of them to be meant."""
    phone(world)
    folders(world.google, world.anna, world.client, "Voice notes")
    disk = f'[destinations.disk]\npath = "{world.folder / "disk"}"\n'
    world.configure(disk + '[destinations.drive]\ntype = "gdrive"\nfolder = "Voice notes"\n')
    everything: dict[str, str | None] = {"BACKUP_REPOSITORY": None}
    world.backup("init", env=everything)
    world.run("phone", env=everything)
    return everything


def test_of_several_places_all_that_tell_checksums_are_proven(world: CloudWorld) -> None:
    """check --remote looks at every destination that tells checksums, whichever is the first, and names those that tell none."""
    everything = disk_and_drive(world)
    ended = world.backup("check", "--remote", env=everything)
    assert ended.text.startswith("drive: the checksums of ")
    assert "note: disk does not tell checksums: backup check --read-data --repo disk" in ended.told
    pack = next(items[0] for path, items in world.google.tree().items() if "/data/" in path)
    world.google.remove(pack.id)
    assert f"drive: pack {pack.name[:16]}: the index names it" in world.backup("check", "--remote", env=everything, code=5).told


def test_repair_merges_duplicates_and_takes_the_rest_from_the_disk(world: CloudWorld) -> None:
    """Twin folders, second copies, a damaged pack, a lost snapshot: shown first, then merged or copied from the disk, without fetching what
    Google's checksums prove; what rclone brings down is sound for restic."""
    everything = disk_and_drive(world)
    tree, google, project = world.google.tree(), world.google, world.client.project
    before = {path: google.content(items[0].id).read_bytes() for path, items in tree.items()}
    packs = sorted((path for path in tree if "/data/" in path), key=lambda path: tree[path][0].size or 0)
    small, large = (tree[packs[at]][0] for at in (0, -1))
    (snapshot,) = (items[0] for path, items in tree.items() if "/snapshots/" in path)
    data = before[packs[-1]]
    google.remove(large.id)
    google.put(world.anna, large.name, data[:-1] + b"?", str(large.parent), project)
    google.remove(snapshot.id)
    google.put(world.anna, small.name, before[packs[0]], str(small.parent), project)
    (root,) = [item.id for item in google.objects() if item.name == "Voice notes"]
    twin = google.make_folder(world.anna, "keys", root, project).id
    (key,) = (items[0] for path, items in tree.items() if "/keys/" in path)
    google.put(world.anna, key.name, google.content(key.id).read_bytes(), twin, project)
    spoiled = {item.id for item in google.objects(trashed=None)}
    planned = world.backup("repair", "--repo", "drive", "--dry-run", "--json", env=everything).json
    assert {item.id for item in google.objects(trashed=None)} == spoiled
    assert len(planned["duplicates"]) == 3
    report = world.backup("repair", "--repo", "drive", "--json", env=everything).json
    assert report["sound"]
    assert len(report["duplicates"]) == 3
    assert {(step["kind"], step["remedy"]) for step in report["steps"]} == {("pack", "copied from disk"), ("snapshot", "copied from disk")}
    assert google.duplicates() == []
    assert {path: google.content(items[0].id).read_bytes() for path, items in google.tree().items()} == before
    assert world.backup("check", "--remote", "--repo", "drive", "--json", env=everything).json["findings"] == []
    world.rclone("copy", "drive:Voice notes", world.folder / "copy")
    World(world.folder / "local", repo=world.folder / "copy").restic("check", "--read-data")


def test_a_run_that_was_killed_amid_a_pack_goes_on(world: CloudWorld) -> None:
    """A run killed in the middle of an upload: the next one sends the rest of that pack, at most one part again, and no note twice."""
    noise = world.folder / "recordings"
    noise.mkdir()
    for number in range(7):
        (noise / f"talk {number}.wav").write_bytes(_wav(4_000_000, number))
    world.init()
    arrived = Fault("stall", effect=True, seconds=60)
    world.google.proxy.faults.add("files.chunk", arrived, after=1)
    process = world.start("run", noise, "--json")
    end = time.monotonic() + 60
    while not any(fault is arrived for _, fault in world.google.proxy.faults.happened):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    finish(process)
    kept = [path for path in (world.folder / "state" / "spool").rglob("*") if path.parent.parent.name == "data"]
    assert kept
    assert all(stat.S_IMODE(path.parent.stat().st_mode) == 0o700 for path in kept)
    before = len(world.google.proxy.seen)
    world.backup("unlock")
    result = world.run(noise)
    assert result["notes"] == 7
    sent = sum(seen.received for seen in world.google.proxy.seen[before:] if seen.label in ("files.chunk", "files.upload"))
    arrived_before = sum(seen.received for seen in world.google.proxy.seen[:before] if seen.label == "files.chunk")
    stored = sum(item.size or 0 for items in world.google.tree().values() for item in items)
    assert sent + arrived_before <= stored + uploads.CHUNK + 100_000
    assert arrived_before >= uploads.CHUNK
    assert world.google.duplicates() == []
    assert not [path for path in (world.folder / "state" / "spool").rglob("*") if path.parent.parent.name == "data"]
    assert "no errors" in world.backup("check", "--read-data").text


def _wav(size: int, seed: int) -> bytes:
    """A recording of noise."""
    import random

    data = random.Random(seed).randbytes(size)
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + bytes.fromhex("1000000001000100803e0000007d000002001000")
    return head + b"data" + size.to_bytes(4, "little") + data


def test_rclone_and_restic_are_a_second_way_in(world: CloudWorld) -> None:
    """What was stored is read by rclone with the same client, and restic opens and checks it; what rclone put there is read back here."""
    store = phone(world)
    world.init()
    world.run("phone")
    world.rclone("copy", "drive:Voice notes", world.folder / "copy")
    local = World(world.folder / "local", repo=world.folder / "copy")
    local.restic("check", "--read-data")
    local.restic("restore", "latest", "--target", local.folder / "out")
    given = {path.read_bytes() for path in (local.folder / "out").rglob("*.opus")}
    assert given == {path.read_bytes() for path in store.root.rglob("*.opus")}
    assert world.rclone("check", "drive:Voice notes", world.folder / "copy") == ""
    local.restic("tag", "--add", "seen", "latest")
    world.rclone("copy", world.folder / "copy", "drive:Second")
    second = {"BACKUP_REPOSITORY": "gdrive:Second"}
    world.backup("login", "gdrive:Second", "--client", world.client_file)
    assert len(world.backup("list", "--json", env=second).json) == 6
    assert "no errors" in world.backup("check", "--read-data", env=second).text


def test_a_new_client_reads_everything_with_a_wider_scope(world: CloudWorld, tmp_path: Path, drive: Google) -> None:
    """On a new machine with a new client nothing is seen, and the hint says why; with scope drive.readonly every note is given back."""
    store = phone(world)
    world.init()
    world.run("phone")
    fresh = CloudWorld(tmp_path / "new-laptop", drive, world.anna, drive.client())
    fresh.login()
    assert "the right account or client?" in fresh.backup("list", code=10).told
    assert "a client sees only what it stored itself" in fresh.backup("doctor", PLACE, "--online", code=10).told
    fresh.configure('[destinations.drive]\ntype = "gdrive"\nfolder = "Voice notes"\nscope = "drive.readonly"\n')
    fresh.backup("login", "drive", "--client", fresh.client_file)
    assert DRIVE_READONLY in {scope for token in drive.refresh_tokens.values() for scope in token.scopes}
    named = {"BACKUP_REPOSITORY": "drive"}
    fresh.backup("restore", "--to", fresh.folder / "back", env=named)
    assert {path.read_bytes() for path in (fresh.folder / "back").rglob("*.opus")} == {
        path.read_bytes() for path in store.root.rglob("*.opus")
    }
    assert "does not allow that" in fresh.backup("run", fresh.folder, env=named, code=4).told


def test_doctor_tells_of_the_account(world: CloudWorld) -> None:
    """doctor --online tells account, room, sign-in and folder; of another kind of place, whether it is there."""
    world.init()
    told = world.backup("doctor", PLACE, "--online")
    assert "anna@example.org" in told.text
    assert 'if your Google project is still in "Testing", the sign-in ends in 7.0 days' in told.told
    found = world.backup("doctor", PLACE, "--online", "--json").json
    assert (found["repository"], found["condition"]["folder"], found["condition"]["limit"]) == (True, "there", 15 << 30)
    (root,) = [item for item in world.google.objects() if item.name == "Voice notes"]
    world.google.trash(root.id)
    assert "is in the trash" in world.backup("doctor", PLACE, "--online", code=10).told
    assert "30 days" in world.backup("run", world.folder, code=1).told
    local = World(world.folder / "other")
    assert "not there" in local.backup("doctor", local.repo, "--online", code=10).text
    local.backup("init")
    found = local.backup("doctor", local.repo, "--online", "--json").json
    assert (found["repository"], found["condition"], found["advice"]) == (True, None, [])


def test_an_unattended_run_never_asks(world: CloudWorld) -> None:
    """Without a terminal a run whose sign-in has ended ends at once with exit code 4 and the command to type; pasting needs somebody."""
    world.backup("init")
    world.google.revoke(world.anna)
    world.google.expire_access_tokens()
    ended = world.backup("run", world.folder, code=4)
    assert f"hint: sign in again: backup login '{PLACE}'" in ended.told
    assert "a terminal" in world.login("--paste", code=4)
    for place, code in ((str(world.folder), 2), ("rclone:drive:x", 2)):
        assert "needs no sign-in" in world.backup("login", place, code=code).told


def test_secrets_stay_where_they_belong(world: CloudWorld) -> None:
    """No token and no secret of the client is printed, whatever is asked and however it ends."""
    phone(world)
    world.init()
    printed = b""
    for words in (("run", "phone"), ("check", "--remote"), ("doctor", PLACE, "--online", "--json"), ("list", "--verbose")):
        ended = world.backup(*words)
        printed += ended.out + ended.err
    world.google.proxy.faults.add("files.*", Fault("answer", response=failure(403, "domainPolicy")), times=1000)
    ended = world.backup("run", "phone", code=1)  # archived here, to be delivered later
    assert [line.split(":")[0] for line in ended.told.splitlines()] == ["warning"]
    ended = world.backup("run", "phone", "--debug", code=1)
    printed += ended.out + ended.err
    secrets = [*world.google.refresh_tokens, *world.google.access_tokens, world.client.secret, "upload_id=", PASSWORD]
    assert [secret for secret in secrets if secret.encode() in printed] == []
    private = [path for path in (world.folder / "state" / "destinations").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert any(secret in path.read_text() for path in private for secret in world.google.refresh_tokens)
