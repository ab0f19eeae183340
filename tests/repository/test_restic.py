"""restic as the judge: it checks, lists, restores and goes on with what we wrote, and we read what it wrote."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from backup_tool.destinations.local import LocalDestination
from backup_tool.models import Secret
from backup_tool.repository import Node, Repository, Tree, Writer, encode_tree
from backup_tool.repository.check import check
from tests.parts import needs
from tests.repository.conftest import PASSWORD, TIME, QuickClock, snapshot

# Printable or not, from many scripts, all in Unicode 3.2: every build of restic has tables for them.
NAMES = [
    "PTT-20260303-WA0001.opus", "Ömer & Söhne.ogg", "日本語.m4a", 'quote".opus', "back\\slash", "tab\there", "new\nline", "nbsp\u00a0",
    "rtl\u202e", "👨\u200d👩", "a<b>&c", "sep\u2028", "soft\u00adhyphen", "\x01\x7f", "bad\udcffutf8", "trailing ", " leading", "' single",
    "é composed", "e\u0301 decomposed", "~", "zz\udc80", "\ue000 private", "%s{0}$(id)", "-rf", "x" * 200,
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as restic would meet them: awkward names, small and large, in two folders."""
    needs("restic")
    root = tmp_path_factory.mktemp("source") / "files"
    seeded = random.Random(7)
    for number, name in enumerate(NAMES):
        path = os.fsencode(root / f"chat {number % 2}") + b"/" + os.fsencode(name)
        Path(os.fsdecode(path)).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.write(seeded.randbytes(seeded.choice([1, 500, 20_000, 300_000])))
        os.utime(path, ns=(TIME + number, TIME + number * 10**6))
    (root / "chat 0" / "empty.opus").touch()
    (root / "chat 0" / "link").symlink_to("../chat 1")
    (root / "no files").mkdir()
    return root


def restic(repo: Path, *words: str | Path, cwd: Path | None = None) -> str:
    run = subprocess.run(
        ["restic", "--no-cache", "-r", str(repo), *map(str, words)],
        cwd=cwd, env=os.environ | {"RESTIC_PASSWORD": PASSWORD, "TZ": "UTC"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def theirs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that restic made and filled."""
    repo = tmp_path_factory.mktemp("theirs") / "repo"
    restic(repo, "init")
    restic(repo, "backup", "--host", "machine", "--tag", "a,b", ".", cwd=folder)
    return repo


def opened(repo: Path) -> Repository:
    return Repository.open(LocalDestination(repo), Secret(PASSWORD), clock=QuickClock())


def add_folder(writer: Writer, tree: Tree, source: Repository) -> str:
    """Write a tree of another repository anew, from the fields of its nodes alone."""
    for node in tree.nodes:
        if node.type == "dir":
            assert node.subtree is not None
            node.subtree = add_folder(writer, source.load_tree(node.subtree), source)
        for id in node.content or ():
            writer.add("audio", source.load_blob("data", id))
    return writer.add("tree", encode_tree(tree.nodes, lambda id: writer.blob_length("data", id)))[0]


@pytest.fixture(scope="module")
def ours(theirs: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that we made: restic's snapshot written anew by us, and one of our own."""
    path = tmp_path_factory.mktemp("ours") / "repo"
    source = opened(theirs)
    (read,) = source.snapshots()
    source.load_index()
    repo = Repository.create(LocalDestination(path), Secret(PASSWORD), hostname="host", username="user", clock=QuickClock())
    with repo.lock(), repo.writer(pack_size=400_000) as writer:
        copied = add_folder(writer, source.load_tree(read.tree), source)
        audio = [os.urandom(size) for size in (1, 50_000, 4 * 2**20)]
        ids = [writer.add("audio", data)[0] for data in audio]
        lines, _ = writer.add("catalog", b'{"id":"x"}\n' * 5000)
        notes = [Node.file("long ü.opus", sum(map(len, audio)), ids, TIME), Node.file("empty.opus", 0, [], TIME)]
        inner, _ = writer.add("tree", encode_tree([*notes, Node.file("2026-03.jsonl", 55_000, [lines], TIME)]))
        root, _ = writer.add("tree", encode_tree([Node.folder("voice-notes", inner, TIME)]))
        writer.finish()
        repo.save_snapshot(snapshot(copied, paths=[str(folder)], hostname="machine", time=read.time))
        repo.save_snapshot(snapshot(root, program_version="backup 0.1", summary={"files_new": 3, "total_bytes_processed": 55_000}))
    (path.parent / "long ü.opus").write_bytes(b"".join(audio))
    return path


def every_file(root: Path) -> dict[bytes, str]:
    """Each file's hash, by its path's bytes."""
    found = {}
    for folder, _, files in os.walk(os.fsencode(root)):
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, os.fsencode(root))] = hashlib.sha256(file.read()).hexdigest()
    return found


def test_we_read_what_restic_wrote(theirs: Path, folder: Path) -> None:
    """Every file of restic's snapshot comes back byte for byte, under its own name, with its own time."""
    repo = opened(theirs)
    (read,) = repo.snapshots()
    assert (read.hostname, read.tags, read.paths) == ("machine", ["a", "b"], [str(folder)])
    repo.load_index()
    found: dict[bytes, str] = {}
    waiting = [(b"", read.tree)]
    while waiting:
        at, id = waiting.pop()
        tree = repo.load_tree(id)
        assert not tree.refused
        for node in tree.nodes:
            path = os.path.join(at, os.fsencode(node.name))
            if node.subtree is not None:
                waiting.append((path, node.subtree))
            elif node.type == "file":
                data = b"".join(repo.load_blob("data", blob) for blob in node.content or ())
                assert len(data) == node.size
                found[path] = hashlib.sha256(data).hexdigest()
    assert found == every_file(folder)
    assert len(found) == len(NAMES) + 1


def test_restics_repository_is_sound_to_us(theirs: Path) -> None:
    """Our check, stricter than restic's, has nothing to say of what restic wrote."""
    assert check(opened(theirs), read_data=True, ours=lambda _: True) == []


def test_our_trees_have_restics_ids(theirs: Path, ours: Path) -> None:
    """Written anew from their fields, trees with all those awkward names are byte for byte restic's."""
    written, original = opened(ours), opened(theirs)
    assert {s.tree for s in original.snapshots()} < {s.tree for s in written.snapshots()}


def test_restic_finds_no_fault(ours: Path) -> None:
    """`restic check --read-data` passes on what we wrote, and so does our own check."""
    assert "no errors were found" in restic(ours, "check", "--read-data")
    assert check(opened(ours), read_data=True, ours=lambda _: True) == []


def test_restic_lists_our_snapshots(ours: Path) -> None:
    """restic shows our snapshot with its host, path and time, and its files with sizes and modes."""
    listed = [entry for entry in json.loads(restic(ours, "snapshots", "--json")) if entry["paths"] == ["/voice-notes"]]
    assert [(entry["hostname"], entry["time"]) for entry in listed] == [("host", "2026-03-03T14:05:00Z")]
    lines = [json.loads(line) for line in restic(ours, "ls", "--json", listed[0]["id"]).splitlines()[1:]]
    assert [(line["path"], line["type"], line.get("size", 0), line["mode"] & 0o777) for line in lines] == [
        ("/voice-notes", "dir", 0, 0o700), ("/voice-notes/2026-03.jsonl", "file", 55_000, 0o600),
        ("/voice-notes/empty.opus", "file", 0, 0o600), ("/voice-notes/long ü.opus", "file", 4_244_305, 0o600),
    ]  # fmt: skip


def test_restic_restores_what_we_wrote(ours: Path, folder: Path, tmp_path: Path) -> None:
    """Both snapshots come back through restic alone, byte for byte, with the times of the notes."""
    restic(ours, "restore", "latest", "--path", "/voice-notes", "--target", tmp_path / "notes")
    notes = tmp_path / "notes" / "voice-notes"
    assert (notes / "long ü.opus").read_bytes() == (ours.parent / "long ü.opus").read_bytes()
    assert (notes / "empty.opus").read_bytes() == b""
    assert (notes / "2026-03.jsonl").stat().st_size == 55_000
    assert (notes / "long ü.opus").stat().st_mtime_ns == TIME
    restic(ours, "restore", "latest", "--path", folder, "--target", tmp_path / "files")
    assert every_file(tmp_path / "files") == every_file(folder)


def test_restic_goes_on_with_our_repository(ours: Path, folder: Path) -> None:
    """`restic backup` into our repository takes our snapshot as parent: all unmodified, no blob added; then forget, prune and check."""
    told = [json.loads(line) for line in restic(ours, "backup", "--host", "machine", "--json", ".", cwd=folder).splitlines()]
    summary = next(line for line in told if line["message_type"] == "summary")
    assert summary["files_unmodified"] == len(NAMES) + 1  # and the empty one; links are not counted
    assert (summary["files_new"], summary["files_changed"], summary["data_blobs"], summary["tree_blobs"]) == (0, 0, 0, 0)
    restic(ours, "forget", "--host", "machine", "--keep-last", "1", "--prune")
    assert check(opened(ours), read_data=True) == []


def test_repositories_of_version_1_are_read(folder: Path, tmp_path: Path) -> None:
    """What old releases of restic wrote, without compression, is read and checked."""
    repo = tmp_path / "v1"
    restic(repo, "init", "--repository-version", "1")
    restic(repo, "backup", "chat 0", cwd=folder)
    old = opened(repo)
    assert old.version == 1
    assert check(old, read_data=True, ours=lambda _: True) == []
    assert {place.raw_length for _, _, place in old.index.blobs()} == {0}


def test_passwords_work_both_ways(ours: Path, tmp_path: Path) -> None:
    """A password that restic added opens the archive here, and restic lists the key that we made."""
    (tmp_path / "new").write_text("added by restic\n")
    restic(ours, "key", "add", "--new-password-file", tmp_path / "new")
    assert Repository.open(LocalDestination(ours), Secret("added by restic")).id == opened(ours).id
    assert "user" in restic(ours, "key", "list")
