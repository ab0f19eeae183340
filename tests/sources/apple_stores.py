"""How tests open stores of Apple's systems: by recognising them below a folder, as the program does, then going through them once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from backup_tool.models import Secret
from backup_tool.sources.apple import IPhoneRecogniser, IPhoneSource, MacRecogniser, MacSource
from backup_tool.sources.base import Recogniser, Summary
from backup_tool.sources.tree import Tree
from tests.generators.chatstorage import ChatStorage
from tests.sources.stores import Scanned

ANNA, BEN = "491700000001@s.whatsapp.net", "491700000002@s.whatsapp.net"
FAMILY = "120363000000000001@g.us"
LID = "98765432109876@lid"
SENT = 1_772_546_700
SENT_AT = "2026-03-03T14:05:00Z"


def media(number: int, chat: str = ANNA, suffix: str = "opus") -> str:
    """A file's path as messages have it: from `Media/` on."""
    name = f"{number:08x}-fd7d-4a7e-9d5c-0123456789ab"
    return f"Media/{chat}/{name[0]}/{name[1]}/{name}.{suffix}"


def found_in(folder: Path, recogniser: Recogniser) -> list[str]:
    """The stores below a folder."""
    tree = Tree(os.fsencode(folder))
    return [store for inner in tree.walk("", Summary()) for store in recogniser.look(tree, inner)]


def iphone(folder: Path, *passwords: str | bytes, stores: Sequence[str] | None = None) -> Scanned:
    """Everything in the device backups below a folder."""
    secrets = [Secret.of_bytes(one) if isinstance(one, bytes) else Secret(one) for one in passwords]
    stores = found_in(folder, IPhoneRecogniser()) if stores is None else stores
    with tempfile.TemporaryDirectory() as workdir:
        source = IPhoneSource("phone", Tree(os.fsencode(folder)), list(stores), Path(workdir), lambda: secrets)
        scan = source.scan()
        files = list(scan)
        assert os.listdir(workdir) == []
    return Scanned(source, files, scan.summary)


def mac(folder: Path) -> Scanned:
    """Everything in WhatsApp's containers below a folder."""
    with tempfile.TemporaryDirectory() as workdir:
        source = MacSource("mac", Tree(os.fsencode(folder)), found_in(folder, MacRecogniser()), Path(workdir), list)
        scan = source.scan()
        files = list(scan)
        assert os.listdir(workdir) == []
    return Scanned(source, files, scan.summary)


class Container:
    """WhatsApp's container as it lies on a Mac."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, path: str, data: bytes) -> Path:
        """A file; `path` as messages have it."""
        place = self.folder / "Message" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        os.utime(place, (SENT + 60, SENT + 60))
        return place

    def storage(self, **options: object) -> ChatStorage:
        """Its database of messages."""
        return ChatStorage(self.folder / "ChatStorage.sqlite", **options)  # type: ignore[arg-type]
