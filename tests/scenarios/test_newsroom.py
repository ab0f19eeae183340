"""Many laptops in one bucket, with the policy that the how-to gives them: what they can do, and what one in wrong hands cannot."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.destinations.s3_servers import amazon, moto_s3
from tests.generators.ogg import opus_note
from tests.generators.old import put_old
from tests.parts import needs
from tests.scenarios.world import PASSWORD, ROOT, World, finish

HOW_TO = (ROOT / "docs/how-to/newsroom.md").read_text()
BUCKET = "newsroom-voices"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
HERE = {"BACKUP_REPOSITORY": None}


def shown(language: str) -> str:
    """The one block of a language in the how-to."""
    (block,) = re.findall(rf"```{language}\n(.*?)```", HOW_TO, re.DOTALL)
    return str(block)


class Office:
    """A bucket with versions at a service that enforces policies, an administrator, and laptops."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        tell(url, "reset")
        tell(url, "reset-auth", b"1000000")  # so many requests that nobody is asked who he is
        amazon(url, "s3").create_bucket(Bucket=BUCKET)
        amazon(url, "s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self.admin = self.user("admin", EVERYTHING)
        self.keys = {name: self.user(name, json.loads(shown("json"))) for name in ("anna", "ben")}
        tell(url, "reset-auth", b"0")

    def user(self, name: str, policy: Any) -> tuple[str, str]:
        """A new user with one policy: key and secret."""
        users = amazon(self.url, "iam")
        users.create_user(UserName=name)
        users.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(policy))
        key = users.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def laptop(self, name: str) -> World:
        """A machine with the settings that the how-to shows, and three notes that nobody else has."""
        world = World(self.folder / name)
        key, secret = self.keys.get(name, self.admin)
        (world.folder / "secret").write_text(secret)
        (world.folder / "secret").chmod(0o600)
        text = shown("toml").replace("https://s3.example.org/", self.url).replace("AKIAIOSFODNN7EXAMPLE", key).replace("laptop-anna", name)
        text = text.replace("~/.config/backup-tool/bucket-secret", str(world.folder / "secret"))
        text = text.replace("~/.config/backup-tool/password", str(world.password_file)).replace("~/phone/WhatsApp", "notes")
        world.configure(text)
        (world.folder / "notes").mkdir()
        for number in range(3):
            put_old(world.folder / "notes" / f"{name} {number}.opus", opus_note(2, seed=len(name) * 10 + number))
        return world

    def restic(self, name: str, *words: str) -> str:
        """`restic WORDS…` on the archive, with somebody's key."""
        key, secret = self.keys.get(name, self.admin)
        env = {**os.environ, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "RESTIC_PASSWORD": PASSWORD}
        command = ["restic", "--no-cache", "-r", f"s3:{self.url}{BUCKET}/archive", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def s3(self, name: str) -> Any:
        """The bucket's service, as Amazon's own client reaches it with somebody's key."""
        return amazon(self.url, "s3", *self.keys.get(name, self.admin))

    def objects(self, kind: str) -> list[str]:
        """The keys of all objects of a kind."""
        found = self.s3("admin").list_objects_v2(Bucket=BUCKET, Prefix=f"archive/{kind}").get("Contents", [])
        return [one["Key"] for one in found]


def tell(url: str, what: str, body: bytes = b"") -> None:
    """An order for the service itself, not for what it plays."""
    moto = http.client.HTTPConnection(url.split("/")[2])
    with contextlib.closing(moto):
        moto.request("POST", f"/moto-api/{what}", body, {"Content-Type": "text/plain"})
        assert moto.getresponse().status == 200


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A service of one's own: its policies hold for everybody there."""
    with moto_s3() as url:
        yield url


@pytest.fixture
def office(service: str, tmp_path: Path) -> Office:
    """It holds nothing yet."""
    return Office(service, tmp_path)


@pytest.fixture
def laptops(office: Office) -> list[World]:
    """Two laptops that have archived their notes, at the same time, into the archive that the administrator made."""
    office.laptop("admin").backup("init", env=HERE)
    both = [office.laptop(name) for name in office.keys]
    running = [laptop.start("run", "--json", env=HERE) for laptop in both]
    for process in running:
        ended = finish(process)
        assert ended.code == 0, ended.told
        assert ended.json["new"] == 3
    return both


def test_laptops_share_one_archive(office: Office, laptops: list[World]) -> None:
    """With keys that may only add, laptops archive at once, find and restore each other's notes, and leave no lock; restic agrees."""
    needs("restic")
    for laptop in laptops:
        assert laptop.backup("run", "--json", env=HERE).json["unchanged"] == 3
        notes = laptop.backup("list", "--json", env=HERE).json
        assert sorted(note["host"] for note in notes) == ["anna"] * 3 + ["ben"] * 3
        laptop.backup("restore", "--to", "all", env=HERE)
        assert len(list((laptop.folder / "all").rglob("*.opus"))) == 6
    assert office.objects("locks") == []
    assert "no errors were found" in office.restic("anna", "check", "--read-data")
    assert laptops[0].backup("check", "--read-data", env=HERE).code == 0


def test_a_laptop_removes_nothing_but_locks(office: Office, laptops: list[World]) -> None:
    """A laptop's key, in whatever program, deletes no object and no version, and leaves versioning on; a key taken away does nothing."""
    from botocore.exceptions import ClientError

    service = office.s3("anna")
    for kind in ("data", "index", "snapshots", "keys", "config"):
        key = office.objects(kind)[0]
        version = office.s3("admin").list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"][0]["VersionId"]
        for more in ({}, {"VersionId": version}):
            with pytest.raises(ClientError, match="AccessDenied"):
                service.delete_object(Bucket=BUCKET, Key=key, **more)
    with pytest.raises(ClientError, match="AccessDenied"):
        service.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    with pytest.raises(ClientError, match="AccessDenied"):
        service.put_object(Bucket=BUCKET, Key="elsewhere", Body=b"x")
    office.keys["anna"] = ("AKIAIOSFODNN7EXAMPLE", "secret")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        office.s3("anna").list_objects_v2(Bucket=BUCKET)


def test_what_was_overwritten_comes_back(office: Office, laptops: list[World]) -> None:
    """A laptop in wrong hands can overwrite, in the same size: check names it, and the older version makes the archive whole again."""
    service, admin = office.s3("anna"), office.s3("admin")
    victims = [*office.objects("data"), office.objects("snapshots")[0]]
    for key in victims:
        size = len(service.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        service.put_object(Bucket=BUCKET, Key=key, Body=bytes(size))
    told = laptops[1].backup("check", "--read-data", env=HERE, code=5)
    assert all(key.rpartition("/")[2][:8] in told.text + told.told for key in victims)
    for key in victims:
        newest = next(one for one in admin.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"] if one["IsLatest"])
        admin.delete_object(Bucket=BUCKET, Key=key, VersionId=newest["VersionId"])
    assert laptops[1].backup("check", "--read-data", env=HERE).code == 0
    laptops[1].backup("restore", "--to", "all", env=HERE)
    assert len(list((laptops[1].folder / "all").rglob("*.opus"))) == 6


def test_a_lock_that_nobody_can_read_holds_others_up(office: Office, laptops: list[World]) -> None:
    """Locks can be put there by everyone: others end with exit code 11 and say why, and everyone can remove them again."""
    office.s3("anna").put_object(Bucket=BUCKET, Key=f"archive/locks/{'a' * 64}", Body=b"junk")
    assert "locked by a lock that cannot be read" in laptops[1].backup("run", env=HERE, code=11).told
    assert len(laptops[1].backup("list", "--json", env=HERE).json) == 6
    laptops[1].backup("unlock", "--remove-all", env=HERE)
    laptops[1].backup("run", env=HERE)


def test_the_administrator_tidies_up(office: Office, laptops: list[World]) -> None:
    """With the administrator's key restic forgets and prunes what laptops stored; the notes of all stay."""
    needs("restic")
    for laptop in laptops:
        put_old(laptop.folder / "notes" / "more.opus", opus_note(3, seed=len(laptop.folder.name)))
        laptop.backup("run", env=HERE)
    assert len(office.objects("snapshots")) == 4
    office.restic("admin", "forget", "--keep-last", "1", "--prune")
    assert len(office.objects("snapshots")) == 2
    assert len(laptops[0].backup("list", "--json", env=HERE).json) == 8
    assert "no errors were found" in office.restic("admin", "check", "--read-data")
