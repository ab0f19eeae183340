"""Is every stored object what its name says, by what the destination itself knows: its checksums and sizes, without fetching the objects.

The checksums are the service's own, taken when it stored the bytes; that the bytes can still be read is tried on a sample.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from backup_tool.destinations.base import KINDS, Checksums, Destination, ObjectKind
from backup_tool.errors import DamagedObject, ObjectMissing, UsageError
from backup_tool.models import Progress
from backup_tool.names import in_bytes, shown
from backup_tool.repository import Finding, Repository
from backup_tool.repository.objects import WORD

SAMPLE = 16
"""Blobs that are read and opened."""


class RemoteReport(msgspec.Struct):
    """What was found. `sound` is False where anything is an error; `unconfirmed` objects have no checksum there."""

    sound: bool
    objects: int
    bytes: int
    unconfirmed: int
    sampled: int
    findings: list[Finding]
    verdict: str


def with_checksums(destination: Destination) -> Checksums:
    """The destination, if it tells checksums. Raises UsageError."""
    if not isinstance(destination, Checksums):
        raise UsageError(f"{shown(destination.label)} does not tell checksums", "read everything instead: backup check --read-data")
    return destination


def together(reports: Sequence[tuple[str, RemoteReport]]) -> RemoteReport:
    """One report of several destinations, each by its name."""
    return RemoteReport(
        sound=all(report.sound for _, report in reports),
        objects=sum(report.objects for _, report in reports),
        bytes=sum(report.bytes for _, report in reports),
        unconfirmed=sum(report.unconfirmed for _, report in reports),
        sampled=sum(report.sampled for _, report in reports),
        findings=[
            msgspec.structs.replace(finding, message=f"{name}: {finding.message}")
            for name, report in reports
            for finding in report.findings
        ],
        verdict="\n".join(f"{name}: {report.verdict}" for name, report in reports),
    )


def check_remote(repository: Repository, progress: Progress, *, sample: int = SAMPLE) -> RemoteReport:
    """Compare every object. Takes a shared lock where the place can be written to. Raises UsageError for a place without checksums."""
    checksums = with_checksums(repository.destination)
    with repository.lock(optional=True) as lock:
        if lock.skipped:
            progress.warn(f"checking without a lock: {lock.skipped}")
        return _RemoteCheck(repository, checksums, progress).carry_out(sample)


class _RemoteCheck:
    def __init__(self, repository: Repository, checksums: Checksums, progress: Progress) -> None:
        self._repository, self._checksums, self._progress = repository, checksums, progress
        self._findings: list[Finding] = []
        self._objects = self._bytes = self._unconfirmed = 0

    def carry_out(self, sample: int) -> RemoteReport:
        self._repository.load_index(lambda error: self._add("error", "index", error.name, error.message))
        for kind in KINDS[1:]:
            self._progress.begin(f"listing {kind}")
            sizes = dict(self._compare(kind))
            if kind == "data":
                self._find_lost(sizes)
            self._progress.end()
        sampled = self._read_sample(sample)
        errors = sum(finding.severity == "error" for finding in self._findings)
        counted = f"{self._objects:,} objects, {in_bytes(self._bytes)}"
        verdict = f"{errors} error{'' if errors == 1 else 's'} in {counted}" if errors else f"the checksums of {counted} are right"
        verdict += f"; {sampled} samples were read"
        if self._unconfirmed:
            verdict += f"; {self._unconfirmed:,} objects have no checksum: --read-data reads them"
        return RemoteReport(not errors, self._objects, self._bytes, self._unconfirmed, sampled, self._findings, verdict)

    def _compare(self, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """Name and size of every object of which a copy is right, or at least not known to be wrong."""
        copies: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
        for name, size, sha256 in self._checksums.checksums(kind):
            copies[name].append((size, sha256))
        for name, several in copies.items():
            self._progress.step()
            self._objects += 1
            right = [size for size, sha256 in several if sha256 == name]
            unknown = [size for size, sha256 in several if sha256 is None]
            wrong = len(several) - len(right) - len(unknown)
            self._unconfirmed += not right and bool(unknown)
            if wrong:
                what = "its checksum is not its name" if not right else "a further copy of it has another checksum than its name"
                self._add("warning" if right else "error", WORD[kind], name, what)
            if right or unknown:
                size = (right or unknown)[0]
                self._bytes += size
                yield name, size

    def _find_lost(self, sizes: dict[str, int]) -> None:
        for pack, end in self._repository.index.cut_short({bytes.fromhex(name): size for name, size in sizes.items()}):
            name = pack.hex()
            what = (
                f"it ends before byte {end:,}, which the index names" if name in sizes else "the index names it, and no whole copy is there"
            )
            self._add("error", "pack", name, what)

    def _read_sample(self, most: int) -> int:
        """Read and open some blobs, others each time: checksums tell what was stored, not that it can be read."""
        blobs = [(kind, id) for kind, id, _ in self._repository.index.blobs()]
        chosen = random.sample(blobs, min(most, len(blobs)))  # a choice, not a secret
        for kind, id in chosen:
            try:
                self._repository.load_blob(kind, id.hex())
            except (DamagedObject, ObjectMissing) as error:
                self._add("error", "blob", id.hex(), error.message)
        return len(chosen)

    def _add(self, severity: str, kind: str, name: str, message: str) -> None:
        told = message if name[:16] in message else f"{kind} {name[:16]}: {message}"
        self._findings.append(msgspec.convert({"severity": severity, "kind": kind, "name": name, "message": told}, Finding))
