"""The readers of Telegram's exports and of Apple's Voice Memos: whatever a file holds, the scan ends, and names what it could not read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backup_tool.sources.base import Summary
from backup_tool.sources.filenames import moment_of_name, zone_named
from backup_tool.sources.telegram import TelegramRecogniser, TelegramSource, describe
from backup_tool.sources.telegram.stream import Broken, Export
from backup_tool.sources.tree import Tree
from backup_tool.sources.voice_memos import VoiceMemosSource
from tests.fuzz import Target
from tests.generators.telegram import NOT_INCLUDED, Chat, export_all, export_chat
from tests.generators.voice_memos import CLOUD, OLD, Recordings

_PIECES = 100


def _stream(data: bytes) -> object:
    """The messages of an export: the same ones, whatever pieces the file comes in."""
    told: list[list[object]] = []
    for piece in (len(data) + 1, _PIECES):
        at = 0

        def read(count: int, piece: int = piece) -> bytes:
            nonlocal at
            at += min(count, piece)
            return data[at - min(count, piece) : at]

        messages: list[object] = []
        with suppress(Broken):
            messages.extend(str(message.body) for message in Export(read).messages())
        told.append(messages)
    assert told[0] == told[1]
    return told[0]


def _export(data: bytes) -> object:
    """A whole export with this `result.json`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "voice_messages").mkdir()
        (folder / "voice_messages/audio_1@01-03-2026_10-00-00.ogg").write_bytes(b"OggS")
        (folder / "result.json").write_bytes(data)
        tree = Tree(name.encode())
        for inner in tree.walk("", Summary()):
            if not TelegramRecogniser().look(tree, inner):
                return None
            break
        describe(tree, "")
        scan = TelegramSource("fuzz", tree, [""], folder, list).scan()
        assert len(list(scan)) == scan.summary.files <= 1
        return scan.summary


def _memos(database: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as workdir:
            (Path(name) / database).write_bytes(data)
            (Path(name) / "20260303 140500-1A2B3C4D.m4a").write_bytes(b"\0\0\0\x08ftyp")
            scan = VoiceMemosSource("fuzz", Tree(name.encode()), [""], Path(workdir), list).scan()
            assert len(list(scan)) == 1
            return scan.summary

    return read


def _name(data: bytes) -> object:
    return moment_of_name(data.decode("utf-8", "replace"), zone_named("Europe/Berlin"))


def _exports() -> list[bytes]:
    chat = Chat("Anna 🌻", 4711, "personal_chat")
    chat.text(1, ["see ", {"type": "link", "text": "https://example.org"}])
    chat.voice(2, b"OggS", sender=("Anna", "user4711"), forwarded_from="Ben")
    chat.voice(3, None, file=NOT_INCLUDED)
    chat.attach(4, "files/song.mp3", b"", media_type="audio_file", mime_type="audio/mpeg")
    with tempfile.TemporaryDirectory() as name:
        one, every = export_chat(Path(name) / "one", chat), export_all(Path(name) / "all", [chat], left=[chat])
        return [one.read_bytes(), every.read_bytes(), one.read_bytes().replace(b"audio_2@01-03-2026_11", b"audio_1@01-03-2026_10")]


def _databases(kind: str) -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        memos = Recordings(Path(name), database=kind)
        memos.memo("20260303 140500-1A2B3C4D.m4a", title="Grandma")
        memos.memo(None, title="far away", ZEVICTIONDATE=5)
        memos.close()
        return [(Path(name) / kind).read_bytes()]


_NAMES = [
    "WhatsApp Ptt 2024-01-15 at 1.11.12 PM.ogg", "20240115 101112-1A2B3C4D.m4a", "audio_7@15-01-2024_10-11-12.ogg",
    "AUDIO-2024-01-15-10-11-12.m4a",
]  # fmt: skip

TARGETS: dict[str, Target] = {
    "telegram messages": (_stream, _exports()),
    "telegram export": (_export, _exports()),
    "voice memos": (_memos(CLOUD), _databases(CLOUD)),
    "voice memos of old iPhones": (_memos(OLD), _databases(OLD)),
    "moments in names": (_name, [name.encode() for name in _NAMES]),
}
