"""WhatsApp, WhatsApp Business and Voice Memos in device backups of iPhones and iPads, plain or encrypted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from backup_tool.audio import SNIFF_BYTES, UNKNOWN, media_type_of, suffix_of
from backup_tool.models import Note
from backup_tool.sources.apple.backup import BackupFile, OpenBackup, PayloadAbsent, about, below, is_encrypted, open_backup, read_payload
from backup_tool.sources.apple.chatstorage import CHAT_STORAGE, PURE_AUDIO, key_of_path
from backup_tool.sources.apple.memos import MEMOS, is_recording, join_memos, memo_note
from backup_tool.sources.apple.whatsapp import Container, join, kind_of_file, read_messages
from backup_tool.sources.base import AudioFile, FileUnreadable, KnownId, Scan, Summary, Unlock
from backup_tool.sources.filenames import time_text
from backup_tool.sources.listing import Listing
from backup_tool.sources.tree import Tree, refuse, text_of
from backup_tool.sources.voice_memos import DATABASES, Memo, Recordings, read_memos


class _App(NamedTuple):
    """An app in a backup. `group` is the domain of today; `own` had everything in very old versions."""

    title: str
    group: str
    own: str


APPS = (
    _App("WhatsApp", "AppDomainGroup-group.net.whatsapp.WhatsApp.shared", "AppDomain-net.whatsapp.WhatsApp"),
    _App("WhatsApp Business", "AppDomainGroup-group.net.whatsapp.WhatsAppSMB.shared", "AppDomain-net.whatsapp.WhatsAppSMB"),
)
_MEDIA, _OLD_MEDIA, _OLD_DATABASES = "Message/Media/", "Library/Media/", "Documents/"
_TURN_OFF = (
    "is not in the backup, so notes have no sender, and times are those of their files: WhatsApp leaves it out while its end-to-end "
    "encrypted backup is on; on the phone turn that off in WhatsApp › Settings › Chats › Chat backup › End-to-end encrypted backup, then "
    "make a new device backup, or read WhatsApp on a Mac instead"
)


class IPhoneSource:
    """`stores` are the folders of backups below the tree's root. Made by `sources.open_source`."""

    type = "whatsapp-iphone"

    def __init__(self, name: str, tree: Tree, stores: list[str], workdir: Path, unlock: Unlock) -> None:
        self.name = name
        self.root = tree.root
        self.plain = all(is_encrypted(tree, store) is False for store in stores)
        self._tree = tree
        self._stores = stores
        self._workdir = workdir
        self._unlock = cache(unlock)
        self._keys: dict[bytes, bytes] = {}
        """By location: the keys of encrypted files, and of these only."""

    def scan(self, known: KnownId | None = None) -> Scan:
        """Go through the backups once, the newest first."""
        return Listing(self._go)

    def read(self, file: AudioFile, piece: int) -> Iterator[bytes]:
        """The file's bytes, as `Source` promises them. Encrypted ones must have been listed by this object's scan."""
        key = self._keys.get(file.location)
        return self._tree.read(file, piece) if key is None else read_payload(self._tree, file, key, piece)

    def _go(self, summary: Summary) -> Iterator[AudioFile]:
        containers: list[Container] = []
        memos: dict[str, list[Recordings]] = {}
        read: set[tuple[str | None, str]] = set()
        told = {store: about(self._tree, store) for store in self._stores}
        for store in sorted(self._stores, key=lambda store: (told[store].made or datetime.min, store), reverse=True):
            try:
                with open_backup(self._tree, store, self._workdir, self._unlock) as backup:
                    reading = _Reading(self._tree, store, backup, self._keys, summary)
                    containers += reading.containers(told[store].identity, read)
                    memos.setdefault(told[store].identity or store, []).extend(reading.recordings())
                    reading.finish()
            except FileUnreadable as error:
                refuse(summary, store, str(error))
            except sqlite3.Error as error:
                refuse(summary, store, f"its Manifest.db is damaged ({error}): make the backup again")
            if not told[store].finished:
                summary.unreadable_folders.append(text_of(store))
                summary.warnings.append(f"{text_of(store) or 'the backup'} was interrupted, or is being made: what it has was read")
        databases, summary.database = summary.database, next((one.database for one in containers if one.database), None)
        for file in join(containers, self.read, summary):
            summary.files += 1
            yield file
        has_messages = summary.files > 0
        for file in join_memos(memos, summary):
            summary.files += 1
            yield file
        if summary.files and not has_messages:
            # WhatsApp may be away for once, or set up anew: that Voice Memos are there does not call its notes gone.
            summary.unreadable_folders += map(text_of, self._stores)
        summary.database = ", ".join(filter(None, (summary.database, databases))) or None
        summary.complete = summary.files > 0 and "" not in summary.unreadable_folders


class _Reading:
    """Goes through one open backup."""

    def __init__(self, tree: Tree, store: str, backup: OpenBackup, keys: dict[bytes, bytes], summary: Summary) -> None:
        self._tree = tree
        self._store = store
        self._backup = backup
        self._keys = keys
        self._summary = summary
        self._absent = 0
        self._has_messages = self._has_memos = False

    def containers(self, device: str | None, read: set[tuple[str | None, str]]) -> list[Container]:
        """One for each app that the backup has. `read`: devices and apps whose messages a newer backup had already; these join them."""
        found = []
        for app in APPS:
            home = self._old_home(app)
            if not self._backup.has(home):
                continue
            container = self._container(app, home)
            found.append(container)
            if container.database:
                read.add((device, app.title))
            elif (device, app.title) not in read and self._backup.find(app.group, CHAT_STORAGE) is None:
                self._summary.warnings.append(f"{self._name()}: {CHAT_STORAGE} of {app.title} {_TURN_OFF}")
        self._has_messages = bool(found)
        return found

    def recordings(self) -> list[Recordings]:
        """Of each place where versions of iOS keep Voice Memos, what it holds."""
        found = [self._recordings(domain, above) for domain, above in MEMOS]
        found = [one for one in found if one.files or one.memos is not None or one.unread]
        self._has_memos = bool(found)
        return found

    def finish(self) -> None:
        """When all of it was read: what is not there is named."""
        if not self._has_messages:
            but = "; its Voice Memos were read" if self._has_memos else ""
            self._summary.warnings.append(f"{self._name()} has no WhatsApp in it: it was not on the device, or left out of the backup{but}")
        if self._absent:
            self._summary.unreadable_folders.append(text_of(self._store))
            files, are = ("1 voice note", "is") if self._absent == 1 else (f"{self._absent:,} voice notes", "are")
            self._summary.warnings.append(
                f"{files} on the list of {self._name()} {are} not in its folder: it was interrupted, filtered, or copied in part"
            )

    def _name(self) -> str:
        return text_of(self._store) or "the backup"

    def _old_home(self, app: _App) -> str:
        """The domain that holds the messages."""
        if self._backup.find(app.group, CHAT_STORAGE) is None and self._backup.find(app.own, _OLD_DATABASES + CHAT_STORAGE):
            return app.own
        return app.group

    def _container(self, app: _App, home: str) -> Container:
        above = _OLD_DATABASES if home == app.own else ""
        container = Container()
        read_messages(container, lambda name: self._backup.database(home, above + name), self._shown, self._summary)
        wanted = {row.path for row in container.rows if row.path and suffix_of(row.path) not in PURE_AUDIO}
        for domain, media in ((app.group, _MEDIA), (app.own, _OLD_MEDIA)):
            for file in self._backup.files(domain, media):
                self._take(container, file, key_of_path(file.path) in wanted)
        return container

    def _recordings(self, domain: str, above: str) -> Recordings:
        found = Recordings()
        for file in self._backup.files(domain, above):
            path = file.path[len(above) :]
            if not is_recording(path):
                continue
            try:
                found.files.append(self._audio_file(file, path, memo_note(path)))
            except PayloadAbsent:
                self._absent += 1
                found.unread.add(path)
            except FileUnreadable as error:
                refuse(self._summary, self._backup.place(file), str(error))
                found.unread.add(path)
        found.files.sort(key=lambda file: file.original_path)
        found.memos = self._memos(domain, above)
        return found

    def _memos(self, domain: str, above: str) -> list[Memo] | None:
        """The rows of the newest kind of database that can be read."""
        for name in DATABASES:
            memos = read_memos(self._backup.database(domain, above + name), self._shown(above + name), self._summary)
            if memos is not None:
                return memos
        return None

    def _shown(self, name: str) -> str:
        return below(text_of(self._store), name)

    def _take(self, container: Container, file: BackupFile, has_message: bool) -> None:
        """Add a file if it is a note."""
        suffix = suffix_of(file.path)
        if suffix and suffix not in PURE_AUDIO and not has_message:
            return
        try:
            made = self._audio_file(file, file.path, Note(kind=kind_of_file(file.path)))
            if suffix or has_message or self._is_audio(made):
                container.files.append(made)
        except PayloadAbsent:
            self._absent += bool(suffix)
        except FileUnreadable as error:
            refuse(self._summary, self._backup.place(file), str(error))

    def _audio_file(self, file: BackupFile, path: str, note: Note) -> AudioFile:
        """A file, with what its name tells already in the note."""
        if {"", ".", ".."} & set(file.path.split("/")):
            raise FileUnreadable("the backup's list gives it a path that leads outside")
        record = self._backup.record(file)
        payload = self._backup.payload(file, record)
        if payload.key is not None:
            self._keys[payload.location] = payload.key
        note.original_path, note.mtime_ns = path, payload.mtime_ns
        if note.sent_at is None:
            note.sent_at = time_text((record.birth or record.modified or payload.mtime_ns // 10**9) * 1000)
            note.sent_at_from = "file" if note.sent_at else None
        return AudioFile(text_of(self._backup.place(file)), path, payload.location, payload.size, payload.mtime_ns, [note])

    def _is_audio(self, file: AudioFile) -> bool:
        """Some files have no suffix: then their content tells."""
        key = self._keys.get(file.location)
        pieces = self._tree.read(file, SNIFF_BYTES) if key is None else read_payload(self._tree, file, key, SNIFF_BYTES)
        return media_type_of(next(iter(pieces), b"")) != UNKNOWN
