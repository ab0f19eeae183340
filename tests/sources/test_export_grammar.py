"""The text of an exported chat, in every language and on every phone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.sources.base import FileUnreadable
from backup_tool.sources.chat_export import grammar
from backup_tool.sources.chat_export.dates import Decision, decide, seconds_of, without_pasted
from backup_tool.sources.chat_export.grammar import Message, NoChat, read_text
from backup_tool.sources.chat_export.names import Names
from tests.generators.chat_export import LRM, NARROW, WRITERS, Line, voice_name

FIRST = datetime(2012, 1, 1)
LAST = datetime(2026, 10, 30)
AUTHORS = ["Anna", "Ben: at work", "~" + NARROW + "Jürgen", "+49 171 1234567", "Ann (home) - old", "אבא", "👩\u200d👧 Mum", "Ünal Öz"]
WORDS = [
    "", "null", "hello", "several\n\nlines\nof it", "as I said: <b>", "see 12/31/23 at noon", "1.2.2024 10:00\nnothing", "a: b: c",
    "(file attached)",
    "audio is omitted here", "<3", "[1] note", "[99/99/99, 99:99:99] who: what", "https://example.org/a?b=c (x)", "sep\u2028arated", "\x0b",
]  # fmt: skip


def decided(data: bytes, names: list[str], newest: datetime) -> tuple[list[Message], Decision]:
    text = read_text(data, Names(names), range(len(names)))
    decision = decide(text.messages, text.style, newest.replace(tzinfo=UTC).timestamp())
    return without_pasted(text.messages, decision), decision


def moment(message: Message, decision: Decision) -> datetime | None:
    seconds = seconds_of(message, decision)
    return None if seconds is None else datetime.min + timedelta(seconds=seconds - 86400)


def plain_author(name: str | None) -> str | None:
    return None if name is None else {"+49 171 1234567": "+491711234567"}.get(name, name.replace(NARROW, " "))


@st.composite
def chats(draw: st.DrawFn) -> tuple[str, list[Line]]:
    """A writer's name, and messages in the order of time, some of a day, some years apart."""
    name = draw(st.sampled_from(sorted(WRITERS)))
    sent = FIRST + timedelta(seconds=draw(st.integers(0, int((LAST - FIRST).total_seconds()))))
    lines = []
    for number in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["words", "words", "file", "omitted", "app"]))
        author = None if kind == "app" else draw(st.sampled_from(AUTHORS))
        words = "Anna changed the group's name" if kind == "app" else draw(st.sampled_from(WORDS)) if kind == "words" else ""
        file = voice_name(WRITERS[name], sent, number) if kind == "file" else None
        lines.append(Line(sent, author, words, file, kind == "omitted"))
        sent = min(sent + draw(st.sampled_from([5, 60, 4000, 86400, 86400 * 31, 86400 * 400])) * timedelta(seconds=1), LAST)
    return name, lines


@given(chats(), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", "\ufeff"]))
def test_a_chat_is_read_as_it_was_written(chat: tuple[str, list[Line]], ends: str, mark: str) -> None:
    """In every language, with every way of writing dates, each message is found with its author, its file and its moment; where the order
    of day and month is said to be known, it is right.
    """
    name, lines = chat
    writer = WRITERS[name]
    files = [line.file for line in lines if line.file]
    messages, decision = decided(writer.text(lines, ends=ends, mark=mark), files, max(line.sent for line in lines))
    assert len(messages) == len(lines)
    for message, line in zip(messages, lines, strict=True):
        expected = plain_author(line.author)
        if expected and ": " in expected and not (message.mention and message.mention.what != "media omitted"):
            expected = expected.partition(": ")[0]  # only a file shows where such a name ends
        assert message.author == expected
        found = message.mention.what if message.mention else None
        if line.file:
            assert message.mention is not None
            assert (found, message.mention.file) == ("found", files.index(line.file))
        elif line.omitted and not (line.author and ": " in line.author):
            assert found in (("audio omitted",) if writer.phone != "android" else ("media omitted",))
        elif not line.omitted:
            assert found is None
        if decision.certain(message.numbers):
            assert moment(message, decision) == line.sent.replace(second=line.sent.second if writer.seconds else 0)
    if files:
        assert all(decision.certain(message.numbers) for message in messages if message.mention and message.mention.what == "found")


def only(text: str, *names: str) -> tuple[Message, Decision]:
    """The one message of a text that ends with it."""
    messages, decision = decided(text.encode(), list(names), LAST)
    return messages[-1], decision


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("00:08 a. m.", 0), ("12:08 AM", 0), ("12:08 PM", 12), ("1:08 p.m.", 13), ("11:08 p.\u00a0m.", 23), ("3:08 ص", 3),
        ("3:08 م", 15), ("3:08 μ.μ.", 15), ("8:08 vorm.", 8), ("12:08 mittags", 12), ("3:08 nachm.", 15), ("8:08 abends", 20),
        ("2:08 nachts", 2), ("下午3:08", 15), ("午前9:08", 9), ("오후 3:08", 15), ("de. 9:08", 9), ("du. 9:08", 21), ("3:08 หลังเที่ยง", 15),
        ("3:08 ÖS", 15), ("23:08 Uhr", 23), ("kl. 13.08", 13),
    ],
)  # fmt: skip
def test_halves_of_the_day_are_known(written: str, hour: int) -> None:
    """Morning and afternoon are told apart in every way of writing that exports have, before or after the time."""
    message, decision = only(f"16.1.2024, {written} - Anna: hello")
    assert moment(message, decision) == datetime(2024, 1, 16, hour, 8)
    assert message.half != "?"


def test_a_made_up_time_does_not_change_the_others() -> None:
    """One line with an impossible hour does not make all afternoons mornings."""
    text = "16.1.2024, 3:08 PM - Anna: hello\n" * 40 + "16.1.2024, 15:08 PM - Anna: hello\n"
    messages, decision = decided(text.encode(), [], LAST)
    assert {moment(message, decision) for message in messages} == {datetime(2024, 1, 16, 15, 8)}


def test_an_unknown_half_of_the_day_is_said_to_be_unknown() -> None:
    """A word beside the time that nobody knows is kept, so that a time can be called a guess."""
    text = read_text(b"16.1.2024, 3:08 xyz - Anna: hello\n16.1.2024, 4:08 xyz - Anna: hello\n", Names([]), ())
    assert ([message.half for message in text.messages], text.unknown_half) == (["?", "?"], "xyz")


@pytest.mark.parametrize(
    ("times", "halves", "unknown"),
    [
        (["asubuhi 9:05", "mchana 3:05", "mchana 9:05"], ["?", "?", "?"], "mchana"),
        (["上午9:05", "半夜3:05", "下午3:05"], ["am", "?", "pm"], "半夜"),
        (["mchana 3:05"], ["?"], "mchana"),
        (["klo 9.05", "klo 3.05"], ["", ""], ""),
        (["à 9:05", "à 3:05"], ["", ""], ""),
        (["um 9:05", "um 3:05"], ["", ""], ""),
        (["στις 9:05", "στις 3:05"], ["", ""], ""),
        (["dzień 9:05", "dzień 15:05"], ["", ""], ""),
    ],
)
def test_an_unknown_word_before_the_time_is_no_clock_of_24_hours(times: list[str], halves: list[str], unknown: str) -> None:
    """A word before the time that may be a half of the day makes the time a guess, unless hours above 12 show that it is none; words that
    only mean "at" stay without meaning. No message is lost for it.
    """
    data = "".join(f"2024/1/{16 + day} {time} - Anna: hello\n" for day, time in enumerate(times)).encode()
    text = read_text(data, Names([]), ())
    assert ([message.half for message in text.messages], text.unknown_half) == (halves, unknown)


@pytest.mark.parametrize(
    ("line", "author", "what", "name"),
    [
        ("Anna: {L}<attached: {L}a b (1).mp3>", "Anna", "found", "a b (1).mp3"),
        ("Anna: Lecture • 12 pages {L}<attached: a b (1).mp3>", "Anna", "found", "a b (1).mp3"),
        ("Anna: a b (1).mp3 (file attached)", "Anna", "found", "a b (1).mp3"),
        ("Anna: a b (1).mp3 (soubor byl přiložen) (3,2 MB)", "Anna", "found", "a b (1).mp3"),
        ("Anna: c.mp3 (soubor byl přiložen)", "Anna", "absent", "c.mp3"),
        ("Anna: c.mp3 (my song)", "Anna", None, ""),
        ("Anna: my a b (1).mp3 is here", "Anna", None, ""),
        ("Anna: <attached: c.mp3>", "Anna", "absent", "c.mp3"),
        ("Anna: <attached: c.jpg>", "Anna", None, ""),
        ("Anna: PTT-20240116-WA0007.opus (anything at all)", "Anna", "absent", "PTT-20240116-WA0007.opus"),
        ("Anna: {L}audio utelämnat", "Anna", "audio omitted", ""),
        ("Anna: audio utelämnat", "Anna", None, ""),
        ("Anna:", "Anna", None, ""),
        ("Anna changed the subject", None, None, ""),
        ("~\u202fAnna\u200d: hello", "~ Anna\u200d", None, ""),
    ],
)
def test_a_message_names_a_file_in_the_apps_own_ways_only(line: str, author: str | None, what: str | None, name: str) -> None:
    """A file is found by its name in any words around it; what people write about files is left to be words."""
    before = "16/01/2024, 10:00 - Ben: a b (1).mp3 (soubor byl přiložen)\n"
    message, _ = only(f"{before}16/01/2024, 10:01 - {line.format(L=LRM)}", "a b (1).mp3")
    assert message.author == author
    assert (message.mention.what if message.mention else None, message.mention.name if message.mention else "") == (what, name)


def test_a_wrong_time_of_the_zip_decides_no_dates() -> None:
    """A file's time counts as the end of a chat only where the whole chat fits before it."""
    text = b"02/12/24, 10:00 - Anna: hello\n03/11/24, 10:00 - Anna: hello\n"
    assert not decided(text, [], datetime(2024, 2, 20))[1].sure
    assert decided(text, [], datetime(2024, 3, 20))[1] == Decision("month/day/year", "dates that would lie in the future")


def test_words_before_a_file_may_take_several_lines() -> None:
    """A caption over several lines does not hide the file that ends it."""
    message, _ = only(f"[16.01.24, 10:00:00] Anna: one\ntwo {LRM}<attached: a.mp3>\n", "a.mp3")
    assert message.mention is not None
    assert (message.mention.what, message.mention.file) == ("found", 0)


def test_a_text_in_which_nothing_begins_is_no_chat() -> None:
    """Letters and lists are told apart from chats."""
    for text in ("", "Dear Anna,\n12.3.2024 was fine", "1.2.3 4:55: no", "\xff\xfe\x00"):
        with pytest.raises(NoChat):
            read_text(text.encode("latin-1"), Names([]), ())


def test_a_text_with_messages_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """More messages than any chat has are no chat: memory has an end."""
    monkeypatch.setattr(grammar, "MOST_MESSAGES", 100)
    with pytest.raises(FileUnreadable, match="more than 100 messages"):
        read_text(b"1/1/24, 1:1" * 200 + b"\n" + b"1/1/24, 1:11 - A: b\n" * 101, Names([]), ())


def test_a_line_without_end_is_no_trouble() -> None:
    """Megabytes in one line, made to keep a reader busy, take no time worth speaking of."""
    for piece in ("1/", ": ", "<", " (", "[1/1/24, 1:11 ", "a: <b: "):
        read_text(("[1/1/24, 1:11:11] A: " + piece * 2**20).encode(), Names(["a.mp3"]), (0,))


def test_a_file_between_angles_is_looked_for_in_few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of colons, any of which might stand before a file's name, do not make hundreds of searches of one line."""
    names, found = Names([]), []
    monkeypatch.setattr(Names, "find", lambda self, name: found.append(name))
    with pytest.raises(NoChat):
        read_text(b"<" + b":" * 499 + b">\n", names, ())
    read_text(b"1/1/24, 10:00 - A: <" + b":" * 499 + b">\n", names, ())
    assert len(found) < 10
