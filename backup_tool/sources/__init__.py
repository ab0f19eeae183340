"""Message stores on this machine, read-only: what is there, its notes, and their bytes.

source = open_source(spec, workdir)
scan = source.scan()
for file in scan:
    data = b"".join(source.read(file, 4 * 2**20))
scan.summary        # whole now
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backup_tool.audio import AUDIO_SUFFIXES, suffix_of
from backup_tool.errors import BackupError, Interrupted, Terminated
from backup_tool.names import path_text, shown
from backup_tool.sources.base import AudioFile, Source, SourceAbsent, SourceSpec, Summary, Unlock
from backup_tool.sources.detection import ANDROID, RECORDINGS, Detected, Stores, describe, is_below, look, open_kind
from backup_tool.sources.filenames import kind_of_name, time_of_name
from backup_tool.sources.folder import FolderSource, leave_out_calls
from backup_tool.sources.places import cure, named_places
from backup_tool.sources.several import Part, SeveralSource, add
from backup_tool.sources.tree import Tree, text_of
from backup_tool.sources.whatsapp_android import AndroidSource, Found

__all__ = [
    "LOOKED_FOR", "Detected", "NothingRecognised", "Opened", "Part", "SourceAbsent", "SourceSpec", "StoreCount", "detect", "kind_of_name",
    "open_parts", "open_source", "survey", "survey_path", "time_of_name",
]  # fmt: skip

LOOKED_FOR = {
    "whatsapp-android": "a WhatsApp folder of an Android phone or a copy of it at any level (its storage, "
    "Android/media/com.whatsapp/WhatsApp, WhatsApp, Media or one '… Voice Notes' folder)",
    "whatsapp-iphone": "a backup of an iPhone (the folder with Manifest.db)",
    "whatsapp-mac": "the folder of WhatsApp on a Mac (with ChatStorage.sqlite)",
    "chat-export": "an exported WhatsApp chat (a zip, or a folder with its text file)",
    "telegram": "an export of Telegram Desktop (with result.json)",
    "voice-memos": "recordings of Apple's Voice Memos (with CloudRecordings.db)",
    "folder": "any folder with audio files",
}
"""What every type of source is known by."""


_MEMOS = "voice-memos"
"""Recordings among recordings: whoever keeps these in a folder means the others in it too. Beside a messenger's, most audio is music."""


class NothingRecognised(SourceAbsent):
    """The path is there, and no store at it. `seen` is what was met while looking."""

    def __init__(self, message: str, hint: str, seen: Summary | None = None) -> None:
        super().__init__(message, hint)
        self.seen = seen or Summary()


def open_source(spec: SourceSpec, workdir: Path, unlock: Unlock = list) -> Source:
    """The store that a spec names; for type "auto" all that is recognised there, of several kinds as one source. Databases are copied into
    `workdir`, a private folder. `unlock` gives keys and passwords for what is locked.

    Raises SourceAbsent where the path is not there, or nothing at it is recognised (a card that is away leaves an empty folder behind);
    UsageError for a type that is unknown.
    """
    opened = open_parts(spec, workdir, unlock)
    if len(opened.parts) == 1 and opened.before == Summary():
        return opened.parts[0].source
    return SeveralSource(spec.name, opened.tree, opened.parts, opened.before)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a spec names: stores by their kind, below one folder."""

    tree: Tree
    parts: list[Part]
    before: Summary
    """What was met while looking, and no part says itself: folders that cannot be looked into, links, and audio that is not taken."""
    seen: Summary
    """The same, whether a part says it too or not."""


def open_parts(spec: SourceSpec, workdir: Path, unlock: Unlock = list, *, only_stores: bool = False) -> Opened:
    """As `open_source`, with the stores of each kind for themselves; with `only_stores`, without audio files that just lie there."""
    if spec.type == RECORDINGS:
        stores = look(spec.path, RECORDINGS)
        _refuse_file(stores, spec.path)
        return Opened(stores.tree, [_recordings(spec, stores, None)], Summary(), Summary())
    stores = look(spec.path, spec.type, database_is_named=spec.database is not None)
    parts = [
        Part(open_kind(spec, stores, kind, workdir, unlock), stores.by_type[kind], partial(describe, stores, kind))
        for kind in stores.by_type
        if kind != RECORDINGS
    ]
    recorders = stores.by_type.get(RECORDINGS, [])
    messengers = set(stores.by_type) - {_MEMOS, RECORDINGS}
    takes_all = spec.type == "auto" and not (messengers or only_stores or stores.named)
    if stores.android.media:
        parts.append(_android(spec, stores, workdir, unlock))
    elif takes_all and _has_any(rest := _recordings(spec, stores, None)):
        parts.append(rest)
        recorders = []
    elif stores.has_android:
        parts.append(_android(spec, stores, workdir, unlock))
    if recorders:
        parts.append(_recordings(spec, stores, recorders))
    if not parts:
        _refuse_file(stores, spec.path)
        raise _nothing(spec, stores)
    parts.sort(key=lambda part: part.source.type == RECORDINGS)
    return Opened(stores.tree, parts, _seen_by_none(stores, parts), _seen(stores))


def _has_any(part: Part) -> bool:
    return next(iter(part.source.scan()), None) is not None


def _android(spec: SourceSpec, stores: Stores, workdir: Path, unlock: Unlock) -> Part:
    source = open_kind(spec, stores, ANDROID, workdir, unlock)
    assert isinstance(source, AndroidSource)
    listing = partial(_files_of, source, stores.android)
    return Part(source, sorted(stores.android.roots or {""}), partial(describe, stores, ANDROID), listing)


def _files_of(source: AndroidSource, found: Found) -> Iterator[AudioFile]:
    return (file for file, _ in source.files(found, Summary()))


def _recordings(spec: SourceSpec, stores: Stores, places: list[str] | None) -> Part:
    """Recordings in some places; without any named, wherever no other kind has taken them."""
    if places is not None:
        return Part(open_kind(spec, stores, RECORDINGS, Path(), list), places, partial(describe, stores, RECORDINGS))
    source = FolderSource(spec.name, stores.apart_from(RECORDINGS), spec.timezone)
    return Part(source, [""], lambda place: "a folder of audio files")


def _nothing(spec: SourceSpec, stores: Stores) -> NothingRecognised:
    """What to say where no store is: what hid one perhaps, what was looked for, and where such things usually are."""
    message, hints = f"nothing recognised in {shown(str(spec.path))}", []
    if stores.summary.problems:
        first = stores.summary.problems[0]
        message += f": {shown(first.path)} in it cannot be read ({first.reason})"
        hints.append(cure())
    elif stores.links:
        message += f": {_links(stores)}"
    what = list(LOOKED_FOR.values()) if spec.type == "auto" else [LOOKED_FOR[spec.type]]
    usually = ", ".join(named_places(os.environ))
    hints += [f"looked for {'; '.join(what)}", f"people usually find them in {usually}: backup scan --all looks there"]
    return NothingRecognised(message, "; ".join(hints), _seen(stores))


def _links(stores: Stores) -> str:
    first, *others = map(text_of, stores.links)
    are = f"and {len(others):,} more are symbolic links, which are" if others else "is a symbolic link, which is"
    return f"{shown(first)} {are} not followed: name the place that it leads to"


def _seen(stores: Stores) -> Summary:
    """What was met while looking: folders that cannot be looked into, and links."""
    seen = Summary(problems=[*stores.summary.problems], unreadable_folders=[*stores.summary.unreadable_folders])
    if stores.links:
        seen.warnings.append(_links(stores))
        seen.unreadable_folders += map(text_of, stores.links)
    return seen


def _seen_by_none(stores: Stores, parts: Sequence[Part]) -> Summary:
    """What no part says itself: one that takes every audio file names all of it, Android's what it cannot read."""
    if any(part.source.type == RECORDINGS and list(part.stores) == [""] for part in parts):
        return Summary()
    before = _seen(stores)
    if any(part.source.type == ANDROID for part in parts):
        before.problems = []
        before.unreadable_folders = [*map(text_of, stores.links)]
    for path in stores.calls:
        leave_out_calls(stores.tree, path, before)
    if stores.loose:
        add(before, _not_taken(stores, parts))
    return before


def _not_taken(stores: Stores, parts: Sequence[Part]) -> Summary:
    """Audio files outside all stores. Where they were archived before a store came beside them, they do not count as gone."""
    count = sum(stores.loose.values())
    files = "1 audio file lies" if count == 1 else f"{count:,} audio files lie"
    found = [store for part in parts for store in part.stores]
    kept = []
    for path in stores.loose:
        if path and not any(is_below(store, [path]) for store in found):
            kept.append(text_of(path))
        else:  # a whole folder would hide what is gone from the stores in it
            kept += map(text_of, _audio_in(stores.tree, path))
    where = shown(text_of(next(iter(stores.loose)))) or "the folder itself"
    return Summary(
        unreadable_folders=kept,
        warnings=[
            f"{files} outside these stores, the first in {where}, left out: to archive such too, name their folder as a source of its own"
        ],
    )


def _audio_in(tree: Tree, path: str) -> list[str]:
    folder = next(tree.walk(path, Summary()), None)
    return [folder.below(entry.name) for entry in folder.files if suffix_of(entry.name) in AUDIO_SUFFIXES] if folder else []


def _refuse_file(stores: Stores, path: Path) -> None:
    if stores.named is not None:
        raise NothingRecognised(
            f"{shown(str(path))} is a file, and no store by itself", f"name the folder that it lies in: {shown(str(path.parent))}"
        )


class StoreCount:
    """Counts the audio files of each store of one part."""

    def __init__(self, tree: Tree, part: Part) -> None:
        self._tree = tree
        self._part = part
        self._counts = dict.fromkeys(part.stores, 0)
        self._by_length = sorted(((text_of(store) + "/" if store else "", store) for store in part.stores), key=lambda pair: -len(pair[0]))

    def add(self, path: str) -> None:
        """A file was found there (`AudioFile.path`)."""
        if len(self._by_length) == 1:
            self._counts[self._by_length[0][1]] += 1
            return
        for above, store in self._by_length:
            if path.startswith(above) or path == above[:-1]:
                self._counts[store] += 1
                return

    def detected(self, unread: Sequence[str] = ()) -> list[Detected]:
        """The stores, and how many audio files each has. `unread` are the folders that could not be read: of these it is not known."""
        kind = self._part.source.type
        return [
            Detected(kind, self._where(store), self._part.describe(store), None if not count and text_of(store) in unread else count)
            for store, count in self._counts.items()
        ]

    def _where(self, store: str) -> str:
        return path_text(self._tree.location(store)).rstrip("/") or "/"


@dataclass(frozen=True, slots=True)
class _Anything:
    """A spec of a path where anything may be."""

    path: Path
    name: str = ""
    type: str = "auto"
    database: Path | None = None
    timezone: str | None = None
    contacts: tuple[Path, ...] = ()


def detect(path: Path, unlock: Unlock = list, *, only_stores: bool = False) -> list[Detected]:
    """Every store at a path, of any type. Empty where nothing is recognised."""
    return survey_path(path, unlock, only_stores=only_stores)[0]


def survey_path(path: Path, unlock: Unlock = list, *, only_stores: bool = False) -> tuple[list[Detected], Summary]:
    """As `survey`, of a path where anything may be, and nothing has to."""
    try:
        return survey(_Anything(path), unlock, only_stores=only_stores)
    except NothingRecognised as nothing:
        return [], nothing.seen


def survey(spec: SourceSpec, unlock: Unlock = list, *, only_stores: bool = False) -> tuple[list[Detected], Summary]:
    """Every store that a spec names, with the number of its audio files, and what was met while looking: folders that cannot be looked
    into, and links. With `only_stores`, files that just lie there are no store.

    Raises SourceAbsent where the path is not there, or nothing at it is recognised.
    """
    with tempfile.TemporaryDirectory(prefix="backup-") as workdir:
        opened = open_parts(spec, Path(workdir), unlock, only_stores=only_stores)
        return [store for part in opened.parts for store in _count(opened.tree, part)], opened.seen


def _count(tree: Tree, part: Part) -> list[Detected]:
    count = StoreCount(tree, part)
    if part.listing is not None:
        for file in part.listing():
            count.add(file.path)
        return count.detected()
    scan = part.source.scan()
    try:
        for file in scan:
            count.add(file.path)
    except (Interrupted, Terminated):
        raise
    except BackupError as error:
        return [Detected(one.type, one.path, f"{one.description}: {error.message}", None) for one in count.detected()]
    return count.detected(scan.summary.unreadable_folders)
