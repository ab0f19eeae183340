"""The readers of exported chats: of their text, of the zip they come in, and of a whole export, however damaged."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from backup_tool.sources.base import FileUnreadable, Summary
from backup_tool.sources.chat_export import ChatExportRecogniser, ChatExportSource, describe
from backup_tool.sources.chat_export.dates import decide, seconds_of, without_pasted
from backup_tool.sources.chat_export.grammar import begins_like_a_chat, read_text
from backup_tool.sources.chat_export.names import Names
from backup_tool.sources.chat_export.zips import list_zip, read_member
from backup_tool.sources.tree import Tree
from tests.fuzz import Target
from tests.generators.chat_export import WRITERS, Line, packed, voice_name, zipped

_SENT = datetime(2024, 1, 16, 14, 5, 37)
_NAME = "WhatsApp Chat - Anna.zip"


def _chat(language: str) -> tuple[list[Line], dict[str, bytes]]:
    writer = WRITERS[language]
    name = voice_name(writer, _SENT, 3)
    lines = [
        Line(_SENT, None, "Messages are encrypted"), Line(_SENT, "Anna", "hello\nyou"), Line(_SENT, "Ben: x", file=name),
        Line(_SENT + timedelta(days=40), "Anna", omitted=True), Line(_SENT + timedelta(days=40), "Anna", file="a b (1).mp3"),
    ]  # fmt: skip
    return lines, {name: b"OggS" + bytes(40), "a b (1).mp3": b"ID3"}


def _read_text(data: bytes) -> object:
    begins_like_a_chat(data)
    names = Names(["a b (1).mp3", "PTT-20240116-WA0003.opus", "00000003-AUDIO-2024-01-16-14-05-37.opus", data[:40].decode("cp437")])
    try:
        text = read_text(data, names, range(4))
    except FileUnreadable:
        return None
    decision = decide(text.messages, text.style, 1_710_000_000)
    return [(seconds_of(one, decision), decision.certain(one.numbers)) for one in without_pasted(text.messages, decision)]


def _read_zip(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _NAME).write_bytes(data)
        tree = Tree(os.fsencode(folder))
        try:
            directory = list_zip(tree, _NAME)
        except FileUnreadable:
            return None
        for member in directory.members:
            assert not {"..", ".", ""} & set(member.name.split("/"))
            try:
                size = sum(map(len, read_member(tree, _NAME, member, directory.state, 4096)))
            except FileUnreadable:
                continue
            assert size == member.size
        return directory


def _read_export(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _NAME).write_bytes(data)
        tree = Tree(os.fsencode(folder))
        found = [store for one in tree.walk("", Summary()) for store in ChatExportRecogniser().look(tree, one)]
        source = ChatExportSource("chats", tree, found, Path(folder), list, "Europe/Berlin")
        scan = source.scan()
        for file in scan:
            assert file.notes
            try:
                sum(map(len, source.read(file, 4096)))
            except FileUnreadable:
                continue
        return [describe(tree, store) for store in found]


def _zips() -> list[bytes]:
    seeds = []
    for language in ("iphone german", "android us", "iphone arabic", "old"):
        lines, files = _chat(language)
        seeds.append(zipped(WRITERS[language], "Anna", lines, files)[1])
    lines, files = _chat("android german")
    text = {"a/WhatsApp Chat mit Anna.txt": WRITERS["android german"].text(lines), "b/WhatsApp Chat - Ben.zip": b"PK"}
    lines, files = _chat("iphone chinese")
    folders = {f"{who}/_chat.txt": WRITERS["iphone chinese"].text(lines) for who in ("WhatsApp Chat - Anna (1)", "Ben")}
    seeds.append(packed({**folders, "Ben/Memo": b"OggS" + bytes(40), "Ben/PTT-20240116-WA0003": b"ID3", "Ben/LICENSE": b"x"}))
    return [*seeds, packed({**text, **{"a/" + name: data for name, data in files.items()}}, deflated=False)]


TARGETS: dict[str, Target] = {
    "text": (_read_text, [WRITERS[language].text(_chat(language)[0]) for language in sorted(WRITERS)]),
    "zip": (_read_zip, _zips()),
    "export": (_read_export, _zips()),
}
