"""Names from people who mean harm: whatever a chat, a sender or a file is called, terminals, paths and mails stay as they should be."""

from __future__ import annotations

import email
import email.policy
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.generators.android import CURRENT, Store
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World

NAMES = [
    "two\nlines", "carriage\r\nBcc: thief@example.org\r\n\r\nfree text", "\x1b[2J\x1b]0;owned\x07red", "\u202egnp.exe",
    "a\u2066b\u200bc\ufeff", "../../../outside", "/etc/outside", "..", ".", "-rf --help", "x" * 10_000, "a\u2028b\x85c\x9bd",
    "nul\0byte", "CON", "~root", "$(touch outside) `id` %s{0}", "'; DROP TABLE chat; --", "=HYPERLINK(1)", "e\u0301 and \u00e9",
    "👩\u200d👧 family", "\ud7ff\ue000",
]  # fmt: skip
ORPHANS = [b"bell\x07\x1b[5m\n.opus", b"not \xff\xfe utf-8.opus", "\u202egpj.opus".encode()]
# What could steer a terminal or turn its reading direction: nothing of it may come out, but for line ends.
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


@pytest.fixture(scope="module")
def world(new_world: NewWorld, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A phone on which every chat and every sender has such a name, and files too; archived."""
    world = new_world(tmp_path_factory.mktemp("hostile"))
    store = Store(world.folder / "phone" / CURRENT)
    database = Msgstore(store.root / "Databases/msgstore.db")
    for number, name in enumerate(NAMES):
        file = re.sub("[/\0]", "_", name)[:100].strip(".") or "dots"
        made = store.put(f"Media/WhatsApp Voice Notes/202610/PTT-20260301-WA{number:04}{file}.opus", opus_note(0.2, number))
        database.name_lid(f"{number}@lid", name)
        chat = database.chat(f"1203630{number:04}@g.us", subject=name)
        more: dict[str, Any] = {"raw_transcription_text": name} if len(name) < 1000 else {}
        database.message(chat, f"K{number}", sent=made.sent_ms, sender=f"{number}@lid", file=made.original_path, data=made.data, **more)
    database.message(chat, "LOST", sent=made.sent_ms, file="Media/WhatsApp Voice Notes/\x1b[2J\n\u202e.opus")
    database.close()
    for orphan in ORPHANS:
        location = store.root / "Media/WhatsApp Voice Notes/202610" / os.fsdecode(orphan)
        location.write_bytes(opus_note(0.2, 1000 + len(orphan)))
        os.utime(location, (1772355600, 1772355600))
    broken = store.root / "Media/WhatsApp Voice Notes/202610/\x1b[31mlink\n\u202e.opus"
    broken.symlink_to("/etc/passwd")
    ended = world.backup("run", "phone", "-v", code=3)
    detail, problem = ended.told.splitlines()
    assert detail.startswith("phone: ")
    assert "link" in problem
    assert not RAW.search(ended.text + ended.told)
    return world


@pytest.fixture(scope="module")
def records(world: World) -> Any:
    """What the archive says of them, exactly."""
    return world.records()


def test_a_program_gets_every_name_exactly(records: Any) -> None:
    """JSON is exact: a name comes out as it went in."""
    told = [record for record in records if record["chat"] is not None]
    assert sorted(record["chat"] for record in told) == sorted(name.strip() for name in NAMES)
    assert all(record["sender"] == "~" + record["chat"] for record in told)
    files = {record["original_path"].rpartition("/")[2] for record in records if record["chat"] is None}
    assert files == {name.decode(errors="backslashreplace") for name in ORPHANS}


@pytest.mark.parametrize(
    ("words", "code", "lines"),
    [
        ("list", 0, len(NAMES) + len(ORPHANS) + 1),
        ("chats", 0, len(NAMES) + 2),
        ("search a", 0, None),
        ("restore --dry-run", 0, len(NAMES) + len(ORPHANS) + 1),
        ("scan phone --show damaged", 3, None),
        ("scan phone --show missing", 3, None),
        ("scan phone --show orphan", 3, None),
        ("check -v", 0, None),
        ("list --chat a", 2, 2),
        ("list --chat gnp", 0, 2),
        ("extract 0", 2, 2),
        ("snapshots", 0, 3),
    ],
)
def test_nothing_raw_reaches_a_terminal(world: World, words: str, code: int, lines: int | None) -> None:
    """Every name is one line, with what could steer a terminal or fool a reader written out."""
    ended = world.backup(*words.split(), code=code)
    text = ended.text + ended.told
    assert text
    assert not RAW.search(text)
    assert lines in (None, len(text.splitlines()))
    assert max(map(len, text.splitlines())) < 1500


@pytest.mark.parametrize("option", ["--chat", "--since", "--snapshot", "--to", "--repo", "--config", "--x"])
def test_nothing_raw_that_was_typed_comes_back(world: World, option: str) -> None:
    """A word pasted from such a name is told in one line too."""
    ended = world.backup("restore", option, "\x1b[2J\n\u202eevil/..", "--dry-run", code=None)
    assert ended.code in (0, 2, 10)
    assert not RAW.search(ended.text + ended.told)
    assert ended.told.count("\n") <= 2


@pytest.mark.parametrize("layout", ["chat", "original"])
def test_a_restore_stays_inside_its_target(world: World, records: Any, layout: str) -> None:
    """Every note is given back, each under a clean name below the target, and nothing is anywhere else."""
    around = everything(world.folder)
    ended = world.backup("restore", "--layout", layout, "--to", f"target {layout}", "--json")
    target = world.folder / f"target {layout}"
    files = [path for path in target.rglob("*") if path.is_file()]
    assert len(files) == len(records) == ended.json["notes"]
    assert {file["path"] for file in ended.json["files"]} == {str(path.relative_to(world.folder)) for path in files}
    for path in target.rglob("*"):
        assert not RAW.search(path.name)
        assert not path.is_symlink()
        assert path.name[0] not in "-~."
    assert everything(world.folder) - {target} - set(target.rglob("*")) == around
    assert not Path("/etc/outside").exists()


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_relative_to(folder / "state")}


def test_a_mail_draft_has_only_its_own_headers(world: World, records: Any) -> None:
    """A name with line ends adds no header and no recipient, and the attachment has a plain name."""
    chosen = [record for record in records if (record["chat"] or "")[:3] in ("car", "\x1b[2", "\u202egn", "xxx")]
    assert len(chosen) == 4
    for record in chosen:
        world.backup("extract", record["id"], "--eml", f"{record['id'][:8]}.eml")
        message = email.message_from_bytes((world.folder / f"{record['id'][:8]}.eml").read_bytes(), policy=email.policy.default)
        assert isinstance(message, email.message.EmailMessage)
        assert {header.lower() for header in message} == {"x-unsent", "subject", "mime-version", "content-type"}
        assert not RAW.search(message["Subject"])
        [attached] = message.iter_attachments()
        assert re.fullmatch(r"[a-z0-9_-]+\.(mp3|opus)", attached.get_filename() or "")


def test_an_extracted_note_lies_where_it_was_asked_for(world: World, records: Any) -> None:
    """The name made from such a chat or sender leads nowhere else."""
    outside = next(record for record in records if record["chat"] == "../../../outside")
    (world.folder / "here").mkdir()
    ended = world.backup("extract", outside["id"], "--to", "here", "--json")
    [path] = (world.folder / "here").iterdir()
    assert ended.json["files"] == [{"id": outside["id"], "path": f"here/{path.name}"}]
