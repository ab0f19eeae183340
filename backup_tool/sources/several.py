"""Several stores of different kinds below one folder, as one source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from backup_tool.errors import BackupError, Interrupted, Terminated
from backup_tool.models import Problem
from backup_tool.names import path_text
from backup_tool.sources.base import AudioFile, KnownId, Scan, Source, Summary
from backup_tool.sources.listing import Listing
from backup_tool.sources.tree import Tree, text_of


@dataclass(frozen=True, slots=True)
class Part:
    """The stores of one kind: the source that reads them, and their paths below the source's folder, as the system gives names."""

    source: Source
    stores: Sequence[str]
    describe: Callable[[str], str]
    """A store of these in a person's words."""
    listing: Callable[[], Iterable[AudioFile]] | None = None
    """Their audio files without what messages know of them, where that takes less than a scan."""

    def places(self) -> list[str]:
        """The stores' paths as in `AudioFile.path`."""
        return [text_of(store) for store in self.stores]


class SeveralSource:
    """Made by `sources.open_source`. The stores are scanned one after the other; all paths are below the one folder they lie in.

    A store that fails as a whole is a problem, and what is on record of it stays as it is; the others are read.
    """

    def __init__(self, name: str, tree: Tree, parts: Sequence[Part], before: Summary) -> None:
        self.name = name
        self.type = " + ".join(dict.fromkeys(part.source.type for part in parts))
        self.root = tree.root
        self.plain = all(part.source.plain for part in parts)
        self._tree = tree
        self._parts = parts
        self._before = before
        self._sealed = sorted(
            ((place, part.source) for part in parts for place in part.places() if not part.source.plain), key=lambda found: -len(found[0])
        )
        self._open = [place for part in parts for place in part.places() if part.source.plain]

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through all stores once."""
        return Listing(lambda summary: self._go(known, summary))

    def _go(self, known: KnownId | None, summary: Summary) -> Iterator[AudioFile]:
        complete = True
        add(summary, self._before)
        for part in self._parts:
            try:
                scan = part.source.scan(known)
                yield from scan
            except (Interrupted, Terminated):
                raise
            except BackupError as error:
                add(summary, failed(part, error))
                continue
            add(summary, scan.summary)
            if scan.summary.files == 0:
                # A phone that has just been set up looks the same: a store without any file calls nothing gone.
                summary.unreadable_folders += part.places()
            else:
                complete = complete and scan.summary.complete
        summary.problems = list(dict.fromkeys(summary.problems))
        summary.complete = complete and summary.files > 0 and "" not in summary.unreadable_folders

    def read(self, file: AudioFile, piece: int) -> Iterator[bytes]:
        """See `Source.read`: by the store that the file lies in."""
        for place, source in self._sealed:
            if _inside(file.path, place) and not any(len(other) > len(place) and _inside(file.path, other) for other in self._open):
                return source.read(file, piece)
        return self._tree.read(file, piece)


def _inside(path: str, place: str) -> bool:
    return not place or path == place or path.startswith(place + "/")


def failed(part: Part, error: BackupError) -> Summary:
    """What is said of stores that could not be read at all."""
    reason = f"{error.message}: {error.hint}" if error.hint else error.message
    places = part.places()
    return Summary(problems=[Problem(place or ".", reason) for place in places], unreadable_folders=places)


def by_name(problems: Iterable[Problem], root: bytes) -> list[Problem]:
    """Problems with the source's folder itself under its name, where they have it as `.`."""
    name = path_text(os.path.basename(root)) or "/"
    return [Problem(name, problem.reason) if problem.path == "." else problem for problem in problems]


def add(summary: Summary, more: Summary) -> None:
    """Join what two scans say, but for `complete`."""
    summary.files += more.files
    summary.orphans += more.orphans
    for name in ("unreadable_folders", "missing", "not_downloaded", "omitted", "chats", "problems", "warnings"):
        getattr(summary, name).extend(getattr(more, name))
    summary.database = ", ".join(filter(None, (summary.database, more.database))) or None
