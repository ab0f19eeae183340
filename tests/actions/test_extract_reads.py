"""How little is read for one note: that decides what it costs on a slow disk, and later on a cloud."""

from __future__ import annotations

from pathlib import Path

from backup_tool.actions.archive import Archive
from backup_tool.actions.extract import extract
from backup_tool.actions.find import Wanted
from backup_tool.actions.run import RunPlan, run
from backup_tool.actions.state import State
from backup_tool.config import SourceSpec
from backup_tool.destinations.base import ObjectKind
from backup_tool.destinations.local import LocalDestination
from backup_tool.models import Progress, Secret
from backup_tool.repository import Repository
from tests.generators.ogg import opus_note
from tests.generators.old import put_old

PASSWORD = Secret("a few good words")


class Watched(LocalDestination):
    """The real destination; what is loaded from it is written down."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.loads: list[tuple[ObjectKind, str, int, int | None]] = []

    def load(self, kind: ObjectKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self.loads.append((kind, name, offset, length))
        return super().load(kind, name, offset, length)


def test_one_note_is_one_range_of_one_pack(tmp_path: Path) -> None:
    """Besides index and catalog, a single read brings the note: as many bytes as it has, sealed, and not one more."""
    store = tmp_path / "store"
    store.mkdir()
    for number in range(40):
        put_old(store / f"PTT-20260301-WA{number:04}.opus", opus_note(3, number))
    place = Watched(tmp_path / "archive")
    Repository.create(place, PASSWORD, hostname="host", username="user")
    plan = RunPlan(
        sources=[SourceSpec(name="phone", path=store)],
        typed=set(),
        known_names={"phone"},
        destination=place,
        destination_name="archive",
        password=PASSWORD,
        state=State(tmp_path / "state"),
        host="host",
    )
    assert run(plan, Progress())[0].new == 40
    archive = Archive(Repository.open(place, PASSWORD))
    wanted = list(archive.entries())[17]
    assert wanted.id is not None
    repository = archive.repository
    where = repository.plan_reads("data", [wanted.id])[0]
    place.loads.clear()
    done = extract(archive, [wanted.id], Wanted(), to=str(tmp_path / "note.opus"))
    assert (done.exit_code, done.notes) == (0, 1)
    assert (tmp_path / "note.opus").read_bytes() == (store / (wanted.original_path or "")).read_bytes()
    from_its_pack = [load for load in place.loads if load[1] == where.pack]
    assert from_its_pack == [("data", where.pack, where.offset, (wanted.size or 0) + 32)]
