"""The folders of an archive on Drive: where they are, made once, and read as one where there are several of a name.

Names on Drive are labels: two folders may have the same one, made by two machines at the same moment or by another program. Then the
oldest is written to, and all are read. Nothing is ever looked up by its name but the archive's own folder, and that only on a machine that
does not know its id yet, since searches lag behind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path

import msgspec

from backup_tool.destinations.base import KINDS
from backup_tool.destinations.files import make_folder, replace_file, told
from backup_tool.destinations.gdrive.api import FOLDER, Drive, File
from backup_tool.destinations.gdrive.faults import Who
from backup_tool.errors import BackupError, NoRepository, ObjectMissing, UsageError

SHARDS = tuple(f"{number:02x}" for number in range(256))
NAMES = (*KINDS[1:], *(f"data/{shard}" for shard in SHARDS))
"""Every folder of an archive, below its own: restic's standard layout."""
TRASH = "https://drive.google.com/drive/trash"


class InTrash(BackupError):
    """A folder of the archive is in the trash."""


class Plan(msgspec.Struct):
    """What this machine remembers: the id of the archive's folder, and while it is made, those of all folders in it."""

    folder: str
    drive: str | None
    root: str
    planned: dict[str, str] = {}


class Memory:
    """Where the plan is kept; without a file, for this process only."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._plan: Plan | None = None

    def load(self, folder: str, drive: str | None) -> Plan | None:
        """The plan for this folder, if there is one."""
        if self._plan is None and self._file is not None:
            try:
                self._plan = msgspec.json.decode(self._file.read_bytes(), type=Plan)
            except (OSError, msgspec.DecodeError, UnicodeDecodeError):
                self._plan = None
        plan = self._plan
        return plan if plan is not None and (plan.folder, plan.drive) == (folder, drive) else None

    def save(self, plan: Plan) -> None:
        """Remember it, durably."""
        self._plan = plan
        if self._file is None:
            return
        try:
            make_folder(self._file.parent)
            replace_file(self._file, msgspec.json.encode(plan))
        except OSError as error:
            raise told(error, str(self._file)) from error


class Folders:
    """The folders of one archive, by their path in it (``keys``, ``data/3f``): ids, the oldest first. The archive's own has the path ""."""

    def __init__(self, drive: Drive, name: str, memory: Memory, who: Who) -> None:
        self._drive, self._name, self._memory, self._who = drive, name, memory, who
        self.ids: dict[str, list[str]] = {}
        self.configs: list[File] = []
        """What is named config in it, as last listed."""

    # Finding

    def open(self) -> bool:
        """Find the archive's folder and those in it; False where there is none. Raises BackupError where it is in the trash."""
        roots = self._remembered() or self._search()
        if not roots:
            return False
        self.ids = {"": [root.id for root in roots]}
        try:
            below = self._drive.find(_in_any(self.ids[""]))
        except ObjectMissing:  # removed in this very moment
            return False
        self.configs = [file for file in below if file.name == "config" and not file.is_folder and not file.trashed]
        self._take("", below, KINDS[1:])
        if len({config.sha256 for config in self.configs}) > 1 and len(roots) > 1:
            what = f"there are {len(roots)} folders with an archive each at {self._who.label}"
            raise UsageError(what, "rename one of them in Google Drive")
        return True

    def open_shards(self) -> list[File]:
        """Find the folders of packs; gives the files that lie flat in ``data``."""
        if not self.ids.get("data"):
            return []
        below = self._drive.find(_in_any(self.ids["data"]))
        self._take("data/", below, SHARDS)
        return [file for file in below if not file.is_folder and not file.trashed]

    def _take(self, above: str, below: Iterable[File], names: Iterable[str]) -> None:
        found: dict[str, list[File]] = defaultdict(list)
        for file in below:
            if file.is_folder:
                found[file.name].append(file)
        for name in names:
            living = sorted((file for file in found[name] if not file.trashed), key=lambda file: file.born)
            if found[name] and not living:
                raise self._in_trash(f"the folder {above}{name} of {self._who.label}")
            self.ids[above + name] = [file.id for file in living]

    def _remembered(self) -> list[File]:
        """By its id: however it was renamed or moved."""
        plan = self._memory.load(self._name, self._drive.shared_drive)
        if plan is None:
            return []
        try:
            root = self._drive.get(plan.root)
        except ObjectMissing:
            return []
        if root.trashed:
            raise self._in_trash(f"the folder of {self._who.label}")
        return [root]

    def _search(self) -> list[File]:
        try:
            found = [file for file in self._drive.find(_named(self._name)) if file.is_folder and file.name == self._name]
        except ObjectMissing:
            hint = "its id is the end of its address in the browser; the account has to be a member"
            raise UsageError(f"{self._who.label}: there is no shared drive of that id for this account", hint) from None
        living = sorted((file for file in found if not file.trashed), key=lambda file: file.born)
        if found and not living:
            raise self._in_trash(f"the folder of {self._who.label}")
        if len({tuple(file.parents) for file in living}) > 1:
            what = f"there are {len(living)} folders of that name in Google Drive: {self._who.label}"
            raise UsageError(what, "rename all but one of them there")
        if living:
            self._memory.save(Plan(self._name, self._drive.shared_drive, living[0].id))
        return living

    def _in_trash(self, what: str) -> InTrash:
        hint = f"Google removes it for good 30 days after it was put there: restore it now, {TRASH}"
        return InTrash(f"{what} is in the trash of Google Drive", hint)

    def refuse_absent(self) -> NoRepository:
        """The error for an archive's folder that is not there."""
        hint = "a client sees only what it stored itself: sign in with the same one as before; a new archive is made by: backup init"
        return NoRepository(f"there is no folder of that name in Google Drive: {self._who.label}", hint)

    # Making

    def make(self, pool: Executor) -> None:
        """Make what is missing of the folders, each under an id that was reserved and written down before."""
        there = self.open()
        plan = self._memory.load(self._name, self._drive.shared_drive)
        if not there:
            if plan is None or not plan.planned:
                plan = self._new_plan()
            try:
                self._make_root(plan)
            except ObjectMissing:  # it was there under this id, and is removed for good
                self._make_root(plan := self._new_plan())
            self.ids = {"": [plan.root], **{kind: [] for kind in KINDS[1:]}}
        self.open_shards()
        missing = [name for name in NAMES if not self.ids.get(name)]
        if missing:
            self._make_missing(missing, plan if plan is not None and plan.planned else self._new_plan(self.ids[""][0]), pool)
        self._memory.save(Plan(self._name, self._drive.shared_drive, self.ids[""][0]))

    def _make_root(self, plan: Plan) -> None:
        self._drive.make_folder(plan.root, self._name, self._drive.shared_drive or "root")

    def make_one(self, name: str) -> str:
        """Make one folder that is not there."""
        above, _, last = name.rpartition("/")
        if not self.ids.get(above):
            self.make_one(above)
        made = self._drive.make_folder(self._drive.new_ids(1)[0], last, self.ids[above][0])
        self.ids[name] = [made.id]
        return made.id

    def _new_plan(self, root: str | None = None) -> Plan:
        ids = self._drive.new_ids(len(NAMES) + 1)
        plan = Plan(self._name, self._drive.shared_drive, root or ids[-1], dict(zip(NAMES, ids, strict=False)))
        self._memory.save(plan)
        return plan

    def _make_missing(self, missing: list[str], plan: Plan, pool: Executor) -> None:
        def made(name: str) -> tuple[str, str]:
            above, _, last = name.rpartition("/")
            return name, self._drive.make_folder(plan.planned[name], last, self.ids[above][0]).id

        kinds = [name for name in missing if "/" not in name]
        for some in (kinds, [name for name in missing if "/" in name]):  # those above first
            for name, id in pool.map(made, some):
                self.ids[name] = [id]

    def search_twins(self) -> list[File]:
        """Every living folder of the archive's name beside its own, the oldest first."""
        own = self._drive.get(self.ids[""][0])
        found = self._drive.find(_named(own.name))
        twins = [file for file in found if file.is_folder and not file.trashed and (file.name, file.parents) == (own.name, own.parents)]
        return sorted({file.id: file for file in [own, *twins]}.values(), key=lambda file: file.born)


def _named(name: str) -> str:
    text = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"name = '{text}' and mimeType = '{FOLDER}'"


def _in_any(ids: Iterable[str]) -> str:
    return " or ".join(f"'{id}' in parents" for id in ids)


def in_folders(ids: Iterable[str]) -> str:
    """The query for what lies in any of these folders, and not in the trash."""
    return f"({_in_any(ids)}) and trashed = false"
