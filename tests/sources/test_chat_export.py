"""Exported chats: what their notes are, whatever they lie in, and what is said of all that is not there."""

from __future__ import annotations

import io
import os
import struct
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_tool.models import Note, Problem
from backup_tool.sources.base import AudioFile, FileChanging, FileUnreadable, Summary
from backup_tool.sources.chat_export import ChatExportRecogniser, ChatExportSource, _shared_out, containers, describe
from backup_tool.sources.tree import Tree
from tests.generators.chat_export import LRM, WRITERS, Line, Writer, packed, unpacked, voice_name, zipped
from tests.generators.ogg import opus_note
from tests.generators.sounds import video_note
from tests.sources.stores import everything

SENT = datetime(2024, 1, 16, 14, 5, 37)
US, GERMAN, ANDROID, INDIAN = WRITERS["iphone us"], WRITERS["iphone german"], WRITERS["android german"], WRITERS["android indian"]


@dataclass(frozen=True)
class Taken:
    """What was recognised below a folder, and what a scan of it gave."""

    stores: list[str]
    source: ChatExportSource
    files: list[AudioFile]
    summary: Summary

    @property
    def notes(self) -> list[Note]:
        """The notes of all files."""
        return [note for file in self.files for note in file.notes]

    def data(self, file: AudioFile, piece: int = 2**20) -> bytes:
        """The bytes of a file, which came in pieces of the right size."""
        pieces = list(self.source.read(file, piece))
        assert all(len(one) == piece for one in pieces[:-1])
        return b"".join(pieces)


def take(folder: Path, timezone: str | None = "Europe/Berlin") -> Taken:
    """Recognise and scan all exports below a folder, and make sure that nothing there was touched."""
    before = everything(folder)
    tree = Tree(os.fsencode(folder))
    recogniser = ChatExportRecogniser()
    stores = [store for one in tree.walk("", Summary()) for store in recogniser.look(tree, one)]
    source = ChatExportSource("chats", tree, stores, folder, list, timezone)
    scan = source.scan()
    taken = Taken(stores, source, list(scan), scan.summary)
    for file in taken.files:
        assert file.original_path == file.notes[0].original_path
    assert len({file.path for file in taken.files}) == len(taken.files) == scan.summary.files
    assert everything(folder) == before
    return taken


def conversation(writer: Writer, count: int = 4, start: datetime = SENT) -> tuple[list[Line], dict[str, bytes]]:
    """Anna and Ben talk: words and voice notes in turn, two hours apart."""
    lines, files = [], {}
    for number in range(count):
        sent = start + timedelta(hours=2 * number)
        name = voice_name(writer, sent, 2 * number + 2)
        files[name] = opus_note(1, seed=number)
        lines += [Line(sent, ("Anna", "Ben")[number % 2], "listen"), Line(sent, ("Ben", "Anna")[number % 2], file=name)]
    return lines, files


def share(folder: Path, writer: Writer, title: str, lines: list[Line], files: Mapping[str, bytes]) -> Path:
    """Put an export, as the phone makes it, into a folder."""
    name, data = zipped(writer, title, lines, files)
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("language", sorted(WRITERS))
def test_every_note_is_known_by_sender_and_time_in_any_language(language: str, tmp_path: Path) -> None:
    """An export of any phone in any language gives each note with its chat, its sender and its moment, and its bytes as they were."""
    writer = WRITERS[language]
    lines, files = conversation(writer)
    share(tmp_path, writer, "Anna", lines, files)
    taken = take(tmp_path)
    sounds = [line for line in lines if line.file]
    assert [taken.data(file) for file in taken.files] == [files[line.file or ""] for line in sounds]
    for note, line in zip(taken.notes, sounds, strict=True):
        sent = line.sent if writer.seconds else line.sent.replace(second=0)
        assert (note.sent_at, note.sent_at_from, note.zone) == (
            f"{sent - timedelta(hours=1):%Y-%m-%dT%H:%M:%S}Z",
            "message",
            "Europe/Berlin",
        )
        assert (note.chat, note.chat_id, note.message_id) == ("Anna", "export:Anna", None)
        assert (note.sender, note.from_me) == (line.author, line.author == "Ben")
        assert note.kind == ("audio" if writer.phone == "old" else "voice")
    summary = taken.summary
    assert (summary.orphans, summary.missing, summary.omitted, summary.problems, summary.warnings) == (0, [], [], [], [])
    assert summary.complete
    assert summary.database == f"{taken.stores[0]}/{writer.text_name.format('Anna')}"
    assert [(chat.chat_id, chat.titles) for chat in summary.chats] == [("export:Anna", ["Anna"])]


@pytest.mark.parametrize("language", ["iphone us", "android german"])
def test_an_unpacked_export_is_as_good_as_the_zip(language: str, tmp_path: Path) -> None:
    """The folder that a zip was unpacked to gives the same records, from ordinary files."""
    writer = WRITERS[language]
    lines, files = conversation(writer)
    (tmp_path / "zip").mkdir()
    share(tmp_path / "zip", writer, "Anna", lines, files)
    unpacked(tmp_path / "folder" / writer.title.format("Anna"), writer, "Anna", lines, files)
    one, other = take(tmp_path / "zip"), take(tmp_path / "folder")
    assert (one.source.plain, other.source.plain) == (False, True)
    assert [other.data(file) for file in other.files] == [one.data(file) for file in one.files]

    def known(note: Note) -> tuple[object, ...]:
        return note.chat_id, note.sender, note.from_me, note.sent_at, note.sent_at_from, note.original_path, note.kind

    assert list(map(known, one.notes)) == list(map(known, other.notes))


def test_what_is_not_there_is_accounted_for(tmp_path: Path) -> None:
    """Audio that was left out, files that a message names and nobody has, and files that no message names are told apart and counted."""
    lines, files = conversation(GERMAN)
    names = list(files)
    lines += [Line(SENT + timedelta(days=1), "Anna", omitted=True), Line(SENT + timedelta(days=1), "Anna", words="Audio, hörst du?")]
    lines += [Line(SENT + timedelta(days=2), "Ben", file="00000099-lecture.mp3")]
    del files[names[0]]
    files["00000500-AUDIO-2024-02-01-10-00-00.opus"] = opus_note(2)
    files["00000501-PHOTO-2024-02-01-10-00-01.jpg"] = b"\xff\xd8\xff"
    share(tmp_path, GERMAN, "Anna", lines, files)
    taken = take(tmp_path)
    assert [(note.original_path, note.sender, note.sent_at) for note in taken.summary.missing] == [
        (names[0][9:], "Ben", "2024-01-16T13:05:37Z"), ("lecture.mp3", "Ben", "2024-01-18T13:05:37Z")
    ]  # fmt: skip
    assert [(note.sender, note.sent_at, note.chat) for note in taken.summary.omitted] == [("Anna", "2024-01-17T13:05:37Z", "Anna")]
    assert taken.summary.orphans == 1
    orphan = taken.notes[-1]
    assert (orphan.sender, orphan.chat, orphan.sent_at, orphan.sent_at_from) == (None, "Anna", "2024-02-01T09:00:00Z", "name")


def test_media_left_out_by_android_is_told_with_the_cure(tmp_path: Path) -> None:
    """Where the text does not say what was left out, the number is told, and nothing is claimed to be audio."""
    lines = [Line(SENT, "Anna", omitted=True), Line(SENT, "Ben", "no"), Line(SENT, "Ben", omitted=True)]
    lines += [Line(SENT, "Ben", file="PTT-20240116-WA0001.opus"), Line(SENT, "Anna", "<grin>")]
    share(tmp_path, ANDROID, "Anna", lines, {"PTT-20240116-WA0001.opus": opus_note(1)})
    taken = take(tmp_path)
    assert (taken.summary.omitted, taken.summary.missing) == ([], [])
    (warning,) = taken.summary.warnings
    assert warning.startswith('the exported chat "Anna": 2 messages had a file that was left out')
    assert warning.endswith("export it again with media")


@pytest.mark.parametrize("zip_it", [True, False])
def test_films_are_no_notes_and_round_ones_are(zip_it: bool, tmp_path: Path) -> None:
    """A film is left alone though its suffix may be that of a sound file; a video note is kept as one."""
    names = ["VID-20240116-WA0001.3gp", "PTV-20240116-WA0002.mp4", "AUD-20240116-WA0003.3gp", "VID-20240116-WA0004.mp4"]
    lines = [Line(SENT, "Anna", file=name) for name in names]
    files = {name: video_note(0.2) for name in names}
    if zip_it:
        share(tmp_path, ANDROID, "Anna", lines, files)
    else:
        unpacked(tmp_path, ANDROID, "Anna", lines, files)
    taken = take(tmp_path)
    assert sorted((note.original_path, note.kind) for note in taken.notes) == [(names[2], "audio"), (names[1], "video")]
    assert (taken.summary.orphans, taken.summary.missing) == (0, [])


def test_two_exports_of_a_chat_are_one_truth(tmp_path: Path) -> None:
    """An iPhone numbers files anew in each export: a note keeps one path, and is not missing where another export has it."""
    lines, files = conversation(US)
    later = {f"0000{index:04}{name[8:]}": data for index, (name, data) in enumerate(files.items(), 700)}
    renamed = dict(zip(files, later, strict=True))
    again = [Line(line.sent, line.author, line.words, renamed.get(line.file or "")) for line in lines]
    name, data = zipped(US, "Anna", again, dict(list(later.items())[1:]))
    (tmp_path / name.replace(".zip", " (1).zip")).write_bytes(data)
    left_out = [Line(line.sent, line.author, line.words, omitted=line.file is not None) for line in lines]
    (tmp_path / "text only").mkdir()
    share(tmp_path / "text only", US, "Anna", left_out, {})
    share(tmp_path, US, "Anna", lines, files)
    taken = take(tmp_path)
    assert len(taken.stores) == 3
    paths = [file.original_path for file in taken.files]
    assert sorted(paths) == sorted([name[9:] for name in files] + [name[9:] for name in files][1:])
    assert {note.chat_id for note in taken.notes} == {"export:Anna"}
    assert (taken.summary.missing, taken.summary.omitted) == ([], [])


def test_forwarded_audio_is_a_note_of_each_message(tmp_path: Path) -> None:
    """A file that two messages name is two notes."""
    files = {"PTT-20240116-WA0001.opus": opus_note(1)}
    lines = [Line(SENT, "Anna", file="PTT-20240116-WA0001.opus"), Line(SENT + timedelta(hours=1), "Ben", file="PTT-20240116-WA0001.opus")]
    share(tmp_path, ANDROID, "Anna", lines, files)
    (file,) = take(tmp_path).files
    assert [(note.sender, note.sent_at) for note in file.notes] == [("Anna", "2024-01-16T13:05:00Z"), ("Ben", "2024-01-16T14:05:00Z")]


def test_files_with_any_name_are_found_by_it(tmp_path: Path) -> None:
    """Names with spaces, parentheses, in another Unicode form or case, or decoded wrongly on the way, still belong to their message."""
    decomposed = unicodedata.normalize("NFD", "Grüße an Zoë.m4a")
    mangled = "Größe.mp3".encode().decode("cp437")
    written = [
        "song (1) (live).mp3",
        "Grüße an Zoë.m4a",
        "WhatsApp Audio 2024-01-02 at 10.11.12.opus",
        "Größe.mp3",
        "録音 1.m4a",
        "A.B.opus",
    ]
    stored = ["song (1) (live).mp3", decomposed, "WhatsApp Audio 2024-01-02 at 10.11.12.opus", mangled, "録音 1.m4a", "a.b.OPUS"]
    lines = [Line(SENT + timedelta(minutes=number), "Anna", file=name) for number, name in enumerate(written)]
    folder = tmp_path / "WhatsApp Chat mit Anna"
    unpacked(folder, ANDROID, "Anna", lines, {name: opus_note(1, seed=number) for number, name in enumerate(stored)})
    taken = take(tmp_path)
    assert {(note.original_path, note.sent_at) for note in taken.notes} == {
        (name, f"2024-01-16T13:{5 + number:02}:00Z") for number, name in enumerate(stored)
    }
    assert taken.summary.orphans == 0


@pytest.mark.parametrize(
    ("zip_name", "text_name", "title"),
    [
        ("WhatsApp Chat - Family ❤.zip", "_chat.txt", "Family ❤"),
        ("WhatsApp Chat - Family (2).zip", "_chat.txt", "Family"),
        ("from mum.zip", "WhatsApp Chat with Family.txt", "Family"),
        ("x.zip", "WhatsApp Chat mit Max + Moritz.txt", "Max + Moritz"),
        ("x.zip", "Chat de WhatsApp con +34 600 00 00 00.txt", "+34 600 00 00 00"),
        ("x.zip", "Чат WhatsApp с Семья.txt", "Семья"),
        ("x.zip", "Anna ile WhatsApp Sohbeti.txt", "Anna"),
        ("x.zip", "Konuşma WhatsApp Ekip.txt", "Konuşma WhatsApp Ekip"),
        ("Our holidays.zip", "_chat.txt", "Our holidays"),
        ("Our holidays.zip", "deeper/_chat.txt", "deeper"),
        ("Archive.zip", "all/WhatsApp Chat - Anna/_chat.txt", "Anna"),
        ("WhatsApp Chat - Anna.zip", "out/_chat.txt", "Anna"),
        ("WhatsApp Chat mit Klasse (1).zip", "WhatsApp Chat mit Klasse (1).txt", "Klasse (1)"),
        ("WhatsApp Chat mit Klasse (1) (2).zip", "WhatsApp Chat mit Klasse (1).txt", "Klasse (1)"),
        ("WhatsApp Chat mit Klasse (1).zip", "WhatsApp Chat mit Klasse.txt", "Klasse"),
        ("WhatsApp Chat mit Klasse.zip", "WhatsApp Chat mit Klasse (1).txt", "Klasse"),
        ("x.zip", "WhatsApp Chat mit Klasse (1).txt", "Klasse (1)"),
    ],
)
def test_a_chat_is_called_as_the_export_calls_it(zip_name: str, text_name: str, title: str, tmp_path: Path) -> None:
    """The title is in the name of the text or of the zip, in the app's words of many languages; else that name serves as it is."""
    lines, files = conversation(GERMAN)
    above = text_name.rpartition("/")[0]
    inside = {f"{above}/{name}".lstrip("/"): data for name, data in files.items()}
    (tmp_path / zip_name).write_bytes(packed({text_name: GERMAN.text(lines), **inside}))
    taken = take(tmp_path)
    assert {(note.chat, note.chat_id) for note in taken.notes} == {(title, f"export:{title}")}
    assert {note.from_me for note in taken.notes} == ({True, False} if title == "Anna" else {None})


@pytest.mark.parametrize(
    ("folder", "text_name", "title"),
    [
        ("WhatsApp Chat mit Klasse (1)", "WhatsApp Chat mit Klasse (1).txt", "Klasse (1)"),
        ("WhatsApp Chat mit Klasse", "WhatsApp Chat mit Klasse (1).txt", "Klasse"),
        ("Downloads", "WhatsApp Chat mit Klasse (1).txt", "Klasse"),
    ],
)
def test_the_number_of_a_copy_is_no_part_of_a_title(folder: str, text_name: str, title: str, tmp_path: Path) -> None:
    """In a folder, "(1)" after a text's name is a copy's number, unless the folder bears the same name."""
    lines, files = conversation(ANDROID)
    unpacked(tmp_path / folder, ANDROID, "Anna", lines, files)
    os.rename(tmp_path / folder / "WhatsApp Chat mit Anna.txt", tmp_path / folder / text_name)
    assert {note.chat for note in take(tmp_path).notes} == {title}


def test_a_number_in_a_groups_name_is_told_from_that_of_a_copy_by_the_iphones_text(tmp_path: Path) -> None:
    """Groups "Klasse (1)" and "Klasse (2)" stay apart where their texts name them, and a second download of "Klasse" is "Klasse"."""
    for number, (zip_title, said) in enumerate((("Klasse (1)", "Klasse (1)"), ("Klasse (2)", "Klasse (2)"), ("Klasse (3)", "Klasse"))):
        lines, files = conversation(GERMAN, start=SENT + timedelta(days=number))
        first = Line(SENT - timedelta(days=1), said, LRM + "Messages and calls are end-to-end encrypted.")
        share(tmp_path, GERMAN, zip_title, [first, *lines], files)
    assert {note.chat for note in take(tmp_path).notes} == {"Klasse (1)", "Klasse (2)", "Klasse"}


@pytest.mark.parametrize(
    ("named", "said", "title"),
    [
        ("Anna 2", "", "Anna"),
        ("Anna-1", "", "Anna"),
        ("Anna copy", "", "Anna"),
        ("Familie 2", "Familie", "Familie"),
        ("Familie 2", "Familie 2", "Familie 2"),
        ("Familie 2", "", "Familie 2"),
    ],
)
def test_the_number_that_apple_gives_a_copy_is_told_from_a_name(named: str, said: str, title: str, tmp_path: Path) -> None:
    """Chat "Anna 2" is a copy of "Anna" where somebody of that name wrote, or the text is called so; else it is a name."""
    lines, files = conversation(GERMAN)
    first = [Line(SENT - timedelta(days=9), said, LRM + "Nachrichten und Anrufe sind verschlüsselt.")] if said else []
    share(tmp_path, GERMAN, named, [*first, *lines], files)
    assert {note.chat_id for note in take(tmp_path).notes} == {f"export:{title}"}


def test_looking_at_a_zip_of_many_texts_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project in a zip has thousands of texts that are no chats: its names are gone through once, not once for each text."""
    looked_at: list[str] = []
    monkeypatch.setattr(containers, "is_note_name", lambda name: looked_at.append(name) or False)  # type: ignore[func-returns-value]
    (tmp_path / "project.zip").write_bytes(packed({f"p/{number}/CMakeLists.txt": b"project(x)" for number in range(300)}))
    assert take(tmp_path).stores == []
    assert len(looked_at) == 300


def test_each_text_of_very_many_has_the_files_of_its_own_folder(tmp_path: Path) -> None:
    """Thousands of chats in one zip, one in another's folder, are told apart without comparing each with each."""
    texts = {f"{number}/{'deeper/' * (number % 3)}_chat.txt": b"" for number in range(20_000)}
    names = [*texts, "7/deeper/note.opus", "8/deeper/x/note.opus", "9/note.opus", "note.opus"]
    own = _shared_out(names, list(texts))
    assert [own[number][1:] for number in (7, 8, 9)] == [[20_000], [], [20_002]]
    assert sum(map(len, own)) == 20_002


def test_an_iphones_text_knows_the_title_by_itself(tmp_path: Path) -> None:
    """A renamed zip still knows the chat, where the app speaks under the chat's own name; in a group, nobody is taken for the owner."""
    lines, files = conversation(GERMAN)
    first = Line(SENT - timedelta(days=1), "The Team", LRM + "Messages and calls are end-to-end encrypted.")
    only_ben = [line for line in lines if line.author == "Ben"]
    (tmp_path / "1.zip").write_bytes(packed({"_chat.txt": GERMAN.text([first, *only_ben]), **files}))
    notes = [note for note in take(tmp_path).notes if note.sender]
    assert [(note.sender, note.chat, note.from_me) for note in notes] == [("Ben", "The Team", None)] * 2


def test_dates_that_cannot_be_decided_are_guesses_that_are_named(tmp_path: Path) -> None:
    """Where nothing shows whether day or month stands first, times say that they are a guess, and a warning names the chat and a date."""
    lines = [Line(datetime(2024, 3, 4, 10, 0), "Anna", file="talk.mp3"), Line(datetime(2024, 3, 3, 11, 0), "Anna", file="other.mp3")]
    share(tmp_path, INDIAN, "Anna", lines, {"talk.mp3": opus_note(1), "other.mp3": opus_note(2)})
    taken = take(tmp_path)
    assert [(note.original_path, note.sent_at_from) for note in taken.notes] == [("other.mp3", "message"), ("talk.mp3", "guess")]
    (warning,) = taken.summary.warnings
    assert warning.startswith(
        'the exported chat "Anna": whether 4/3/24 is 2024-04-03 or 2024-03-04 cannot be told: taken as month/day/year'
    )


def test_a_half_of_the_day_that_nobody_knows_is_a_guess_that_is_named(tmp_path: Path) -> None:
    """Where a word beside some times is not known, those notes keep their message, their time is a guess, and a warning says how many."""
    names = [f"0000000{hour}-AUDIO-2024-01-{15 + number}-{hour:02}-05-37.opus" for number, hour in enumerate((9, 3, 8))]
    times = ["上午9:05:37", "半夜3:05:37", "下午8:05:37"]
    text = "".join(f"[2024/1/{15 + n} {times[n]}] Anna: {LRM}<附件：{name}>\n" for n, name in enumerate(names))
    unpacked(tmp_path, GERMAN, "Anna", [], {name: opus_note(1) for name in names})
    (tmp_path / "_chat.txt").write_text(text)
    taken = take(tmp_path, "UTC")
    assert [(note.sender, note.sent_at, note.sent_at_from) for note in taken.notes] == [
        ("Anna", "2024-01-16T03:05:37Z", "guess"), ("Anna", "2024-01-17T20:05:37Z", "message"), ("Anna", "2024-01-15T09:05:37Z", "message")
    ]  # fmt: skip
    (warning,) = taken.summary.warnings
    assert '"半夜" beside the time is not known as morning or afternoon: the time as written is a guess for 1 note;' in warning


def test_another_export_of_the_chat_decides_its_dates(tmp_path: Path) -> None:
    """An older export whose dates could be read in two ways is read as a newer one of the same chat shows."""
    old = [Line(datetime(2024, 3, 4, 10, 0), "Anna", file="talk.mp3")]
    (tmp_path / "old").mkdir()
    share(tmp_path / "old", INDIAN, "Anna", old, {"talk.mp3": opus_note(1)})
    assert take(tmp_path).notes[0].sent_at_from == "guess"
    share(tmp_path, INDIAN, "Anna", [*old, Line(datetime(2024, 3, 20), "Ben", "hello")], {})
    taken = take(tmp_path)
    assert [(note.sent_at, note.sent_at_from) for note in taken.notes] == [("2024-03-04T09:00:00Z", "message")]
    assert taken.summary.warnings == []


@pytest.mark.parametrize(
    ("days", "how"),
    [
        ([(3, 4), (3, 25)], "dates that are impossible otherwise"),
        ([(3, 12), (4, 1), (5, 2), (5, 12), (6, 1)], "the sequence of messages"),
        ([(3, 3), (4, 4)], "either order gives the same days"),
    ],
)
def test_what_decided_the_dates_is_told(days: list[tuple[int, int]], how: str, tmp_path: Path) -> None:
    """Whoever sets up a source sees in which order dates are read, and by which evidence."""
    lines = [Line(datetime(2024, month, day, 9), "Anna", "hello") for month, day in days]
    share(tmp_path, INDIAN, "Anna", lines, {"PTT-20240101-WA0001.opus": opus_note(1)})
    assert take(tmp_path).summary.problems == []
    first, last = (f"2024-{month:02}-{day:02}" for month, day in (days[0], days[-1]))
    order = "month/day/year" if how.startswith("either") else "day/month/year"
    assert describe(Tree(os.fsencode(tmp_path)), "WhatsApp Chat with Anna.zip") == (
        f'exported chat "Anna" of an Android phone, {first} to {last} (dates read as {order}: {how})'
    )


def test_no_message_is_younger_than_the_export(tmp_path: Path) -> None:
    """A date that would lie after the newest file shows that the other reading is right."""
    lines = [Line(datetime(2024, 2, 12, 9), "Anna", file="talk.mp3")]
    text = {INDIAN.text_name.format("Anna"): INDIAN.text(lines), "talk.mp3": opus_note(1)}
    path = tmp_path / "WhatsApp Chat with Anna.zip"
    path.write_bytes(packed(text, stamp=datetime(2024, 3, 1)))
    os.utime(path, (datetime(2024, 3, 1, tzinfo=UTC).timestamp(),) * 2)
    (note,) = take(tmp_path).notes
    assert (note.sent_at, note.sent_at_from) == ("2024-02-12T08:00:00Z", "message")


def test_the_zone_of_the_source_decides_the_moment(tmp_path: Path) -> None:
    """Times are the phone's own: they are read in the zone that the settings name, in summer as in winter, and the zone is kept."""
    lines = [Line(datetime(2024, month, 20, 12), "Anna", file=f"PTT-2024{month:02}20-WA0001.opus") for month in (1, 7)]
    share(tmp_path, ANDROID, "Anna", lines, {line.file or "": opus_note(1) for line in lines})
    for zone, winter, summer in (("Europe/Berlin", 11, 10), ("America/New_York", 17, 16), ("Asia/Kolkata", 6, 6)):
        minutes = "30" if zone == "Asia/Kolkata" else "00"
        assert [(note.sent_at, note.zone) for note in take(tmp_path, zone).notes] == [
            (f"2024-01-20T{winter:02}:{minutes}:00Z", zone), (f"2024-07-20T{summer:02}:{minutes}:00Z", zone)
        ]  # fmt: skip


def test_without_a_setting_this_machines_zone_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no zone is set, times are read in that of this machine, which is named; hours that its clock showed twice are told apart."""
    clock = [datetime(2024, 11, 3, 1, 50), datetime(2024, 11, 3, 1, 10), datetime(2024, 11, 3, 2, 10)]
    lines = [Line(sent, "Anna", file=f"PTT-20241103-WA{number:04}.opus") for number, sent in enumerate(clock)]
    share(tmp_path, ANDROID, "Anna", lines, {line.file or "": opus_note(1) for line in lines})
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        notes = take(tmp_path, None).notes
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [note.sent_at for note in notes] == ["2024-11-03T05:50:00Z", "2024-11-03T06:10:00Z", "2024-11-03T07:10:00Z"]
    assert {note.zone for note in notes} == {"America/New_York"}


def test_the_hour_that_clocks_show_twice_is_told_apart_by_the_sequence(tmp_path: Path) -> None:
    """When clocks go back, messages keep their order; where nothing shows which hour is meant, or an hour never was, that is said."""
    clock = [(1, 50), (2, 10), (2, 50), (2, 20), (2, 40), (3, 5)]
    lines = [
        Line(datetime(2024, 10, 27, hour, minute), "Anna", file=f"PTT-20241027-WA{number:04}.opus")
        for number, (hour, minute) in enumerate(clock)
    ]
    lines += [Line(datetime(2025, 3, 30, 2, 30), "Anna", file="PTT-20250330-WA0001.opus")]
    lines += [Line(datetime(2025, 10, 26, 2, 30), "Anna", file="PTT-20251026-WA0001.opus")]
    share(tmp_path, ANDROID, "Anna", lines, {line.file or "": opus_note(1) for line in lines})
    taken = take(tmp_path)
    assert [note.sent_at for note in taken.notes] == [
        "2024-10-26T23:50:00Z", "2024-10-27T00:10:00Z", "2024-10-27T00:50:00Z", "2024-10-27T01:20:00Z", "2024-10-27T01:40:00Z",
        "2024-10-27T02:05:00Z", "2025-03-30T01:30:00Z", "2025-10-26T00:30:00Z",
    ]  # fmt: skip
    assert taken.summary.warnings == [
        'the exported chat "Anna": 1 note at a time that no clock showed in Europe/Berlin, such as 2025-03-30 02:30:00: '
        "was the phone elsewhere? set the source's timezone",
        'the exported chat "Anna": 1 note at a time that clocks showed twice in Europe/Berlin, such as 2025-10-26 02:30:00: '
        "taken as the first",
    ]


def test_a_chat_pasted_into_a_message_is_part_of_that_message(tmp_path: Path) -> None:
    """Lines of another chat that somebody pasted, in the same way of writing or another, make no notes, no people, and no missing files."""
    lines, files = conversation(GERMAN)
    pasted = GERMAN.text([Line(SENT - timedelta(days=90), "Zoe", file="00000007-AUDIO-2023-10-18-10-00-00.opus")] * 3).decode()
    pasted += ANDROID.text([Line(SENT, "Yan", file="PTT-20231018-WA0001.opus")] * 3).decode()
    lines.insert(3, Line(SENT + timedelta(hours=2), "Anna", "see:\n" + pasted.rstrip()))
    share(tmp_path, GERMAN, "Anna", lines, files)
    taken = take(tmp_path)
    assert {note.sender for note in taken.notes} == {"Anna", "Ben"}
    assert (len(taken.notes), taken.summary.missing, taken.summary.orphans) == (4, [], 0)


def test_a_clock_that_was_wrong_once_costs_no_other_message(tmp_path: Path) -> None:
    """One message from the far future does not make all those after it part of it."""
    lines, files = conversation(GERMAN)
    lines.insert(1, Line(datetime(2025, 6, 1), "Ben", "my clock is wrong"))
    share(tmp_path, GERMAN, "Anna", lines, files)
    assert [note.sender for note in take(tmp_path).notes] == ["Ben", "Anna", "Ben", "Anna"]


def test_a_phone_number_is_written_in_one_way(tmp_path: Path) -> None:
    """A sender without a name is known by the number alone, however the app set it."""
    number = "\u202a+49\u00a0171\u00a01234\u2011567\u202c"
    share(tmp_path, ANDROID, "Group", [Line(SENT, number, file="PTT-20240116-WA0001.opus")], {"PTT-20240116-WA0001.opus": opus_note(1)})
    (note,) = take(tmp_path).notes
    assert (note.sender, note.from_me) == ("+491711234567", None)


def test_several_chats_in_one_zip_stay_apart(tmp_path: Path) -> None:
    """Folders of one zip, each with a text, are chats of their own; equal file names in them are different notes."""
    inside = {}
    for number, who in enumerate(("Anna", "Zoe")):
        lines, files = conversation(ANDROID, 1)
        inside[f"all/{who}/WhatsApp Chat mit {who}.txt"] = ANDROID.text(lines)
        inside |= {f"all/{who}/{name}": opus_note(1, seed=number + 7) for name in files}
    (tmp_path / "all.zip").write_bytes(packed(inside))
    taken = take(tmp_path)
    assert [(note.chat, note.original_path) for note in taken.notes] == [
        ("Anna", "PTT-20240116-WA0002.opus"), ("Zoe", "PTT-20240116-WA0002.opus")
    ]  # fmt: skip
    assert len({taken.data(file) for file in taken.files}) == 2


@pytest.mark.parametrize(
    ("outer", "folders"),
    [
        ("Archive.zip", {"WhatsApp Chat - Anna": "Anna", "WhatsApp Chat - Zoe": "Zoe"}),
        ("WhatsApp Chats.zip", {"Anna": "Anna", "Zoe": "Zoe"}),
        ("WhatsApp Chat - Zoe.zip", {"": "Zoe", "sent by Zoe/Anna": "Anna"}),
    ],
)
def test_several_unpacked_iphone_exports_in_one_zip_stay_apart(outer: str, folders: dict[str, str], tmp_path: Path) -> None:
    """Where every text is called `_chat.txt`, a chat is called as its own folder in the zip: the zip's name is that of none of several."""
    inside: dict[str, bytes] = {}
    for number, folder in enumerate(folders):
        lines, files = conversation(GERMAN, 1, SENT + timedelta(days=number))
        above = folder + "/" if folder else ""
        inside |= {f"{above}_chat.txt": GERMAN.text(lines), **{above + name: data for name, data in files.items()}}
    (tmp_path / outer).write_bytes(packed(inside))
    assert [note.chat for note in take(tmp_path).notes] == list(folders.values())


BARE = ["AUD-20240116-WA0003.", "PTT-20240116-WA0005", "Aufnahme", "Memo 12.03.2024"]


@pytest.mark.parametrize("zip_it", [True, False])
def test_audio_without_suffix_is_taken_once_and_never_passed_over(zip_it: bool, tmp_path: Path) -> None:
    """Audio whose name has no suffix, or ends in a dot, is a note of its message, in a zip as in a folder, and left to no other source."""
    lines = [Line(SENT, "Anna", file=name) for name in [*BARE, "PTT-20240116-WA0007", "LICENSE"]]
    files = {**{name: opus_note(1, seed=number) for number, name in enumerate(BARE)}, "LICENSE": b"All rights reserved\n"}
    if zip_it:
        share(tmp_path, ANDROID, "Anna", lines, files)
    else:
        unpacked(tmp_path, ANDROID, "Anna", lines, files)
    taken = take(tmp_path)
    assert {note.original_path: note.sender for note in taken.notes} == dict.fromkeys(BARE, "Anna")
    assert sorted(taken.data(file) for file in taken.files) == sorted(files[name] for name in BARE)
    assert [note.original_path for note in taken.summary.missing] == ["PTT-20240116-WA0007"]
    assert (taken.summary.orphans, taken.summary.problems) == (0, [])
    tree = Tree(os.fsencode(tmp_path))
    for folder in tree.walk("", Summary()):
        ChatExportRecogniser().look(tree, folder)
        assert [entry.name for entry in folder.files] == ([] if zip_it else ["LICENSE"])


def test_a_file_without_suffix_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    """Whether a damaged file without suffix is audio cannot be told, so it is named rather than passed over."""
    data = bytearray(packed(with_text({"Aufnahme": opus_note(1)}), deflated=False))
    data[data.index(b"OggS", data.index(b"Aufnahme")) + 20] ^= 1
    taken = hostile(tmp_path, data)
    assert taken.summary.problems == [
        Problem("WhatsApp Chat - Anna.zip/Aufnahme", "damaged in the zip: its checksum is not the one on record")
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html>sign in</html>", "no zip file, or its beginning is damaged: copy it again, or export the chat again"),
        (b"", "no zip file, or its beginning is damaged: copy it again, or export the chat again"),
        (packed({}), "holds no file: copy it again, or export the chat again"),
        (packed({"__MACOSX/._x": b"x"}), "holds no file: copy it again, or export the chat again"),
    ],
)
def test_what_is_called_an_export_and_is_none_is_told(data: bytes, reason: str, tmp_path: Path) -> None:
    """A zip that WhatsApp's name stands on and that cannot be read is a problem by its name, alone or beside others."""
    (tmp_path / "WhatsApp Chat - Anna.zip").write_bytes(data)
    (tmp_path / "holiday.zip").write_bytes(data)
    for count in (0, 4):
        taken = take(tmp_path)
        assert taken.summary.problems == [Problem("WhatsApp Chat - Anna.zip", reason)]
        assert (len(taken.files), taken.summary.warnings) == (count, [])
        share(tmp_path, GERMAN, "Ben", *conversation(GERMAN))


def test_what_is_no_export_is_left_alone(tmp_path: Path) -> None:
    """Logs, letters and other zips are not taken for chats; a chat's text under another name is known by the files that it names."""
    (tmp_path / "server.txt").write_text("2024-01-15 13:45:00 - INFO: started\n" * 30)
    (tmp_path / "letter.txt").write_text("Dear Anna\n")
    (tmp_path / "talk.mp3").write_bytes(opus_note(1))
    (tmp_path / "server.zip").write_bytes(packed({"server.txt": b"2024-01-15 13:45:00 - INFO: started\n" * 30, "talk.mp3": b"ID3"}))
    (tmp_path / "pictures.zip").write_bytes(packed({"a.jpg": b"\xff\xd8", "readme.txt": b"hello\n"}))
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    (tmp_path / "empty.zip").write_bytes(b"")
    assert take(tmp_path).stores == []
    lines, files = conversation(ANDROID)
    unpacked(tmp_path / "renamed", ANDROID, "Anna", lines, files)
    os.rename(tmp_path / "renamed" / "WhatsApp Chat mit Anna.txt", tmp_path / "renamed" / "mine.txt")
    renamed = {"mine.txt": ANDROID.text(lines), **files}
    (tmp_path / "mum.zip").write_bytes(packed(renamed))
    taken = take(tmp_path)
    assert taken.stores == ["mum.zip", "renamed"]
    assert {note.sender for note in taken.notes} == {"Anna", "Ben"}


def test_an_exports_files_are_kept_from_other_kinds_of_source(tmp_path: Path) -> None:
    """What belongs to an export is taken out of the folder it lies in; everything else stays for others."""
    lines, files = conversation(ANDROID, 1)
    unpacked(tmp_path, ANDROID, "Anna", lines, files)
    share(tmp_path, US, "Ben", *conversation(US, 1))
    (tmp_path / "letter.txt").write_text("Dear Anna\n")
    (tmp_path / "below").mkdir()
    tree = Tree(os.fsencode(tmp_path))
    for folder in tree.walk("", Summary()):
        assert ChatExportRecogniser().look(tree, folder) == ["", "WhatsApp Chat - Ben.zip"]
        assert ([entry.name for entry in folder.files], folder.folders) == (["letter.txt"], ["below"])
        break


# --- zips of strangers ------------------------------------------------------------------------------------


def hostile(folder: Path, data: bytes | bytearray, name: str = "WhatsApp Chat - Anna.zip") -> Taken:
    (folder / name).write_bytes(data)
    return take(folder)


def with_text(files: Mapping[str, bytes]) -> dict[str, bytes]:
    lines, notes = conversation(GERMAN, 1)
    return {"_chat.txt": GERMAN.text(lines), **notes, **files}


def test_names_that_lead_out_of_a_zip_lead_nowhere(tmp_path: Path) -> None:
    """Absolute names, names with `..` and with backslashes stay below the zip, and each file is still read."""
    names = ["../../up.opus", "/etc/abs.opus", "C:\\Users\\a.opus", "..\\x.opus", "a/../../b.opus", "./c.opus", "\u202egpj.opus"]
    taken = hostile(tmp_path, packed(with_text({name: opus_note(1, seed=number) for number, name in enumerate(names)})))
    paths = [file.path for file in taken.files]
    assert all(path.startswith("WhatsApp Chat - Anna.zip/") and ".." not in path.split("/") and "\\" not in path for path in paths)
    assert len(taken.files) == len(names) + 1
    assert {taken.data(file) for file in taken.files} == {opus_note(1, seed=number) for number in range(len(names))}


def test_equal_names_in_a_zip_are_all_kept(tmp_path: Path) -> None:
    """Of two files with one name the first has the message; the other is kept as well, and never taken for the first."""
    out = io.BytesIO(packed(with_text({})))
    with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(zipfile.ZipInfo("00000002-AUDIO-2024-01-16-14-05-37.opus", (2026, 3, 1, 0, 0, 0)), opus_note(1, seed=99))
    taken = hostile(tmp_path, out.getvalue())
    assert [taken.data(file) for file in taken.files] == [opus_note(1, seed=0), opus_note(1, seed=99)]
    assert [file.notes[0].sender for file in taken.files] == ["Ben", None]
    assert len({file.mtime_ns for file in taken.files}) == 2


@pytest.mark.parametrize("name", ["Grüße.m4a", "日本.m4a"])
def test_names_in_utf8_that_do_not_say_so_are_read(name: str, tmp_path: Path) -> None:
    """Many programs write UTF-8 names into a zip without saying so."""
    stand_in = "x" * (len(name.encode()) - 4) + ".m4a"
    text = ANDROID.text([Line(SENT, "Anna", file=name)])
    data = packed({"WhatsApp Chat mit Anna.txt": text, stand_in: opus_note(1)}).replace(stand_in.encode(), name.encode())
    (note,) = hostile(tmp_path, data).notes
    assert (note.original_path, note.sender) == (name, "Anna")


def test_a_bomb_is_refused_at_once(tmp_path: Path) -> None:
    """A file that grows a thousandfold, one larger than any recording, and files that share their bytes are named and not unpacked."""
    taken = hostile(tmp_path, packed(with_text({"bomb.opus": bytes(64 * 2**20)})))
    assert [(problem.path, problem.reason.partition(" to ")[2]) for problem in taken.summary.problems] == [
        ("WhatsApp Chat - Anna.zip/bomb.opus", "67,108,864 bytes, as no recording does")
    ]
    assert len(taken.files) == 1
    data = bytearray(packed(with_text({"big.opus": b"OggS"})))
    at = data.rindex(b"big.opus") - 46 + 24
    data[at : at + 4] = struct.pack("<L", 3 * 2**30)
    assert [problem.reason for problem in hostile(tmp_path, data).summary.problems] == ["larger than 2 GiB"]
    data = bytearray(packed(with_text({"a.opus": b"OggS", "b.opus": b"OggS"})))
    first, second = (data.rindex(name) - 4 for name in (b"a.opus", b"b.opus"))
    data[second : second + 4] = data[first : first + 4]
    taken = hostile(tmp_path, data)
    assert (taken.files, [problem.path for problem in taken.summary.problems]) == ([], ["WhatsApp Chat - Anna.zip"])
    assert "share their bytes" in taken.summary.problems[0].reason


def test_a_file_that_is_longer_than_it_says_is_not_unpacked_further(tmp_path: Path) -> None:
    """A member that claims to be small gives no more than it claims, then an error."""
    data = bytearray(packed(with_text({"liar.opus": bytes(2**23)})))
    at = data.rindex(b"liar.opus") - 46 + 24
    data[at : at + 4] = struct.pack("<L", 1000)
    taken = hostile(tmp_path, data)
    (liar,) = [file for file in taken.files if file.path.endswith("liar.opus")]
    got: list[bytes] = []
    with pytest.raises(FileUnreadable, match="its length is not the one on record"):
        got.extend(taken.source.read(liar, 100))
    assert sum(map(len, got)) <= 1000


def test_a_zip_with_a_password_is_named_with_the_cure(tmp_path: Path) -> None:
    """Encrypted files are problems that say what to do; they are not passed over."""
    data = bytearray(packed(with_text({})))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + at] |= 1
            place = data.find(mark, place + 4)
    taken = hostile(tmp_path, data)
    assert taken.files == []
    assert {problem.reason.removeprefix("the text of a chat: ") for problem in taken.summary.problems} == {
        "encrypted with a password: unpack the zip with it, and name the folder instead"
    }
    assert len(taken.summary.problems) == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_a_zip_that_was_cut_short_gives_what_is_whole(streamed: bool, tmp_path: Path) -> None:
    """Of an incomplete copy every whole file is taken, with its message; that it is incomplete is a problem, and nothing counts as gone."""
    lines, files = conversation(GERMAN, 4)
    whole = packed({"_chat.txt": GERMAN.text(lines), **files}) if not streamed else streamed_zip({"_chat.txt": GERMAN.text(lines), **files})
    cut = whole[: whole.index(list(files)[3].encode()) + 200]
    taken = hostile(tmp_path, cut)
    assert [taken.data(file) for file in taken.files] == list(files.values())[:3]
    assert [note.sender for note in taken.notes] == ["Ben", "Anna", "Ben"]
    assert taken.summary.problems == [
        Problem("WhatsApp Chat - Anna.zip", "cut short or damaged: 4 files in it are whole; copy it again, or export the chat again")
    ]
    assert taken.summary.unreadable_folders == ["WhatsApp Chat - Anna.zip"]


def streamed_zip(files: Mapping[str, bytes]) -> bytes:
    """A zip as phones write it while the files come: sizes and checksum stand after each file."""

    class Pipe(io.RawIOBase):
        data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return pipe.data


def test_damage_inside_a_zip_is_found_when_the_note_is_read(tmp_path: Path) -> None:
    """A note whose bytes are not those that the zip has a checksum of is never taken for whole."""
    note = opus_note(1, seed=0)
    data = bytearray(packed(with_text({}), deflated=False))
    data[data.index(note) + 500] ^= 1
    taken = hostile(tmp_path, data)
    with pytest.raises(FileUnreadable, match="its checksum is not the one on record"):
        taken.data(taken.files[0])


def test_a_zip_that_changes_is_not_read_as_the_old_one(tmp_path: Path) -> None:
    """A zip that was written to after it was listed is read again by the next run, not by chance."""
    taken = hostile(tmp_path, packed(with_text({})))
    (tmp_path / "WhatsApp Chat - Anna.zip").write_bytes(packed(with_text({"more.opus": b"OggS"})))
    with pytest.raises(FileChanging):
        taken.data(taken.files[0])


def test_zips_inside_a_zip_and_links_are_told(tmp_path: Path) -> None:
    """Nothing is opened inside a zip inside a zip, and no link is followed: each is named."""
    out = io.BytesIO(packed(with_text({"WhatsApp Chat - Ben.zip": packed(with_text({})), "holiday.zip": b"PK"})))
    with zipfile.ZipFile(out, "a") as archive:
        link = zipfile.ZipInfo("secret.opus")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    taken = hostile(tmp_path, out.getvalue())
    above = "WhatsApp Chat - Anna.zip"
    assert sorted(taken.summary.problems, key=lambda problem: problem.path) == [
        Problem(f"{above}/WhatsApp Chat - Ben.zip", "an exported chat inside the zip: unpack the outer zip, and name the folder instead"),
        Problem(f"{above}/secret.opus", "a symbolic link, which is not followed"),
    ]
    assert taken.summary.warnings == [f"{above}/holiday.zip is a zip inside the zip, and was not looked into"]


def test_a_text_without_end_is_refused(tmp_path: Path) -> None:
    """A text far larger than any chat costs neither time nor memory, and its notes are kept without it."""
    text = b"[16.01.24, 14:05:37] Anna: x\n" + zlib.decompress(zlib.compress(bytes(1))) * (65 * 2**20)
    unpacked(tmp_path, GERMAN, "Anna", [], {"00000002-AUDIO-2024-01-16-14-05-37.opus": opus_note(1)})
    (tmp_path / "_chat.txt").write_bytes(text)
    taken = take(tmp_path)
    assert [problem.reason for problem in taken.summary.problems] == [
        "the text of a chat: a text of more than 64 MiB: no chat that WhatsApp exported"
    ]
    assert [(note.sender, note.sent_at) for note in taken.notes] == [(None, "2024-01-16T13:05:37Z")]


def test_a_zip_that_is_gone_is_named(tmp_path: Path) -> None:
    """An export that vanished after it was recognised is a problem, and marks nothing as lost."""
    source = ChatExportSource("chats", Tree(os.fsencode(tmp_path)), ["gone.zip"], tmp_path, list, None)
    scan = source.scan()
    assert list(scan) == []
    assert (scan.summary.problems, scan.summary.complete) == ([Problem("gone.zip", "gone while the store was read")], False)
