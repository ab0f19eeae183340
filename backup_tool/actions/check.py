"""Is everything in the archive whole? The repository's own check, catalogs against trees, and snapshots that disappeared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import msgspec

from backup_tool.actions.archive import SourceFolder, catalog_files, is_time, ours, source_folders
from backup_tool.actions.state import State, witnessed
from backup_tool.catalog import decode_note
from backup_tool.errors import BackupError
from backup_tool.models import Note, Progress
from backup_tool.names import shown
from backup_tool.repository import Finding, Node, Repository, Snapshot
from backup_tool.repository.check import check as check_repository


class Report(msgspec.Struct):
    """What a check found. `sound` is False where anything is an error."""

    sound: bool
    read_data: bool
    snapshots: int
    findings: list[Finding]
    verdict: str


def check(repository: Repository, state: State, progress: Progress, *, read_data: bool, accept_gone: bool = False) -> Report:
    """Verify everything that can be verified. Takes a shared lock where the place can be written to.

    With `accept_gone`, snapshots that disappeared are forgotten from now on: somebody removed them on purpose with another program.
    """
    with repository.lock(optional=True) as lock:
        if lock.skipped:
            progress.warn(f"checking without a lock: {lock.skipped}")
        findings = list(check_repository(repository, read_data=read_data, subset=None, progress=progress, ours=ours))
        damaged: list[BackupError] = []
        snapshots = repository.snapshots(damaged.append)
        findings += _CatalogCheck(repository).check(snapshots)
        present = {one.id: one.time for one in snapshots} | {one.original: one.time for one in snapshots if one.original}
        # One that cannot be read is there all the same: the repository's check has named it.
        present |= {name: "" for name, _ in repository.destination.list("snapshots")}
        copy = witnessed(repository)
        if accept_gone:
            state.remember_snapshots(copy, {id: at for id, at in state.witness(copy).items() if id in present} | present)
        findings += _disappeared(state.seen_snapshots(copy) - present.keys())
    errors = sum(finding.severity == "error" for finding in findings)
    read = "every stored byte was read" if read_data else "structure and catalogs were read; --read-data reads every byte"
    what = f"{len(snapshots)} snapshot{'' if len(snapshots) == 1 else 's'}"
    verdict = f"{errors} error{'' if errors == 1 else 's'} in {what}" if errors else f"no errors in {what}; {read}"
    return Report(not errors, read_data, len(snapshots), findings, verdict)


def together(reports: Sequence[tuple[str, Report]]) -> Report:
    """One report of several destinations, each by its name."""
    return Report(
        sound=all(report.sound for _, report in reports),
        read_data=reports[0][1].read_data,
        snapshots=max(report.snapshots for _, report in reports),
        findings=[
            msgspec.structs.replace(finding, message=f"{name}: {finding.message}")
            for name, report in reports
            for finding in report.findings
        ],
        verdict="\n".join(f"{name}: {report.verdict}" for name, report in reports),
    )


def _disappeared(gone: set[str]) -> list[Finding]:
    """Snapshots that a run of this machine saw, that are gone without our `forget`: restic itself cannot notice that."""
    return [Finding("error", "snapshot", name, f"snapshot {name[:16]} {_DISAPPEARED}") for name in sorted(gone)]


_DISAPPEARED = (
    "has disappeared: a run of this machine saw it, and it was not forgotten from here "
    "(is this an older copy of the archive? was it removed on purpose with another program? then say so once: backup check --accept-gone)"
)


class _CatalogCheck:
    """Holds each month's catalog against the files of that month, once for all snapshots that share them."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._done: set[int] = set()
        self._months: dict[str, dict[str, str]] = {}

    def check(self, snapshots: list[Snapshot]) -> list[Finding]:
        findings: dict[str, Finding] = {}
        for one in snapshots:
            severity: Literal["error", "warning"] = "error" if ours(one) else "warning"
            try:
                for source, folder in (source_folders(self._repository, one.tree) or {}).items():
                    for message in self._check_source(folder):
                        text = f"snapshot {one.id[:8]}, source {shown(source)}: {message}"
                        findings.setdefault(message, Finding(severity, "catalog", one.id, text))
            except BackupError as broken:
                findings.setdefault(broken.message, Finding(severity, "catalog", one.id, f"snapshot {one.id[:8]}: {broken.message}"))
        return list(findings.values())

    def _check_source(self, folder: SourceFolder) -> list[str]:
        parts: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for chat, chat_node in folder.notes.items():
            for month, tree in self._months_of(chat_node).items():
                parts[month].append((chat, tree))
        messages = []
        for month in sorted({*folder.months(), *parts}):
            node = folder.catalog.get(f"{month}.jsonl")
            key = hash((tuple((node.content if node else None) or ()), tuple(sorted(parts[month]))))
            if key not in self._done:
                self._done.add(key)
                messages += self._compare(month, node, parts[month])
        return messages

    def _months_of(self, chat: Node) -> dict[str, str]:
        tree = chat.subtree or ""
        if tree not in self._months:
            nodes = self._repository.load_tree(tree).nodes
            self._months[tree] = {node.name: node.subtree for node in nodes if node.subtree}
        return self._months[tree]

    def _compare(self, month: str, node: Node | None, parts: list[tuple[str, str]]) -> list[str]:
        lines = catalog_files(self._repository, [node])[0].splitlines() if node else []
        notes = {f"{chat}/{name}": note for note in map(decode_note, lines) for chat, name in [_place(note)]}
        messages = []
        if len(notes) != len(lines):
            messages.append(f"{month}: two records of its catalog stand at one path")
        for path, one in notes.items():
            if one.sent_at is not None and not is_time(one.sent_at):
                messages.append(f"{month}: {shown(path)} was sent at {shown(one.sent_at, 40)}, which is no time")
        for chat, tree in parts:
            for file in self._repository.load_tree(tree).nodes:
                note = notes.pop(f"{chat}/{file.name}", None)
                if note is None:
                    messages.append(f"{month}: {shown(chat)}/{shown(file.name)} has no record in the catalog")
                elif (note.size or 0, note.blobs or []) != (file.size or 0, file.content or []):
                    messages.append(f"{month}: {shown(chat)}/{shown(file.name)} is not what its record says")
        messages += [f"{month}: {shown(path)} is in the catalog, and there is no such file" for path in notes]
        return messages


def _place(note: Note) -> tuple[str, str]:
    parts = (note.path or "").rsplit("/", 3)
    return (parts[-3], parts[-1]) if len(parts) == 4 else ("", note.path or "")
