"""The readers of what stands in a repository, behind its seal: whoever has the password is a stranger too."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import zstandard

from backup_tool.catalog import CatalogDamaged, decode_chats, decode_deleted, decode_note
from backup_tool.config import parse_settings
from backup_tool.errors import ConfigError
from backup_tool.repository.index import decode_index
from backup_tool.repository.packs import decode_header
from backup_tool.repository.sealed import Unreadable, inflate
from backup_tool.repository.snapshots import decode_snapshot
from backup_tool.repository.trees import decode_tree
from tests.fuzz import Target

_ID = "5f" * 32


def _allowing(*errors: type[Exception]) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    def wrap(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
        def attempt(data: bytes) -> object:
            with suppress(*errors):
                return read(data)
            return None

        return attempt

    return wrap


def _settings(data: bytes) -> object:
    import tomllib

    with suppress(UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, ConfigError):
        return parse_settings(tomllib.loads(data.decode()), Path("/etc/x.toml"))
    return None


_INDEX = {"packs": [{"id": _ID, "blobs": [{"id": _ID, "type": "data", "offset": 0, "length": 99, "uncompressed_length": 70}]}]}
_NODE = {
    "name": "PTT\\u202e.opus", "type": "file", "mode": 384, "mtime": "2026-03-03T14:05:00.5Z", "atime": "2026-03-03T14:05:00Z",
    "ctime": "2026-03-03T14:05:00+01:00", "uid": 0, "gid": 0, "size": 5, "content": [_ID], "subtree": None, "linktarget": "x",
}  # fmt: skip
_SNAPSHOT = {
    "time": "2026-03-03T14:05:00.123456789+01:00", "tree": _ID, "paths": ["/voice-notes"], "hostname": "h", "tags": ["a"], "parent": _ID,
    "program_version": "backup 1", "summary": {"total_files_processed": 3},
}  # fmt: skip
_RECORD = {
    "id": _ID, "blobs": [_ID], "size": 5, "kind": "voice", "chat": "Family", "sent_at": "2026-03-03T14:05:00Z", "duration": 1.5,
    "transcript": {"text": "x", "language": "en", "engine": "whatsapp"}, "found": [{"source": "phone", "path": "a/b"}],
}  # fmt: skip
_TOML = b"[sources.phone]\npath = '~/x'\nkey_file = ['a']\n[destinations.usb]\npath='/mnt'\n[repository]\npack_size = '32 MiB'\n"


def _json(thing: object) -> bytes:
    return json.dumps(thing).encode()


TARGETS: dict[str, Target] = {
    "index": (_allowing(Unreadable)(lambda data: decode_index(data)), [_json(_INDEX)]),
    "tree": (_allowing(Unreadable)(decode_tree), [_json({"nodes": [_NODE, {**_NODE, "type": "dir", "subtree": _ID}]})]),
    "header": (
        _allowing(Unreadable)(decode_header),
        [b"\0" + (99).to_bytes(4, "little") + bytes(32), b"\2" + b"\x63\0\0\0" * 2 + bytes(32)],
    ),
    "snapshot": (_allowing(Unreadable)(lambda data: decode_snapshot(_ID, data)), [_json(_SNAPSHOT)]),
    "frame": (_allowing(Unreadable)(lambda data: inflate(data, 2**20)), [zstandard.compress(b"notes " * 999)]),
    "record": (_allowing(CatalogDamaged)(decode_note), [_json(_RECORD)]),
    "chats": (_allowing(CatalogDamaged)(decode_chats), [_json({"chat_id": "a@g.us", "titles": ["Family"], "folder": "F 00ff"})]),
    "deleted": (_allowing(CatalogDamaged)(decode_deleted), [_json({"id": _ID, "deleted_at": "2026-03-03T14:05:00Z"})]),
    "settings": (_settings, [_TOML]),
}
