"""Which records are one note, whatever store each of them comes from and in whatever order they are met; and what is known of it then.

Seven stores that know the same messages: a phone's database, an iPhone's, a relative's phone, a chat exported from Android and from an
iPhone, a folder of files. A sighting is what one of them says of one message, as its reader would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_tool.actions.bundle import Chats
from backup_tool.catalog import Entry, Ledger, View, best_titles, encode_note, enter, entry, joined_chats, merge
from backup_tool.models import Chat, Note, Place

FAMILY = "120363000000000001@g.us"
ANNA = "491700000001@s.whatsapp.net"
ME = "491700000000@s.whatsapp.net"
BEN = "491700000002@s.whatsapp.net"
BENS_LID = "77001100220044@lid"
TITLES = {FAMILY: "Family", ANNA: "Anna Müller", BEN: "Ben"}
DATABASE_TITLES = TITLES | {BEN: "+491700000002"}
START = datetime(2026, 3, 2, 14, 5, 7, 250_000, tzinfo=UTC)
RANKS = {name: rank for rank, name in enumerate(["phone", "iphone", "mum", "exports", "card"])}


@dataclass(frozen=True)
class Sent:
    """A message as it really was: in which chat, which recording, which of the messages, by me or not."""

    chat: str
    audio: str
    number: int
    mine: bool = False

    @property
    def at(self) -> datetime:
        return START + timedelta(minutes=self.number)

    @property
    def id(self) -> str:
        return sha(self.audio)

    @property
    def ptt(self) -> str:
        """The name that an Android phone gives the file."""
        return f"PTT-{self.at:%Y%m%d}-WA{self.number:04}.opus"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z").replace("250000", "25")


def note(sent: Sent, source: str, path: str, **told: Any) -> Note:
    return Note(
        id=sent.id, blobs=[sent.id], size=4000, original_path=path, found=[Place(source, f"in/{path}")], first_seen="2026-04-01T00:00:00Z",
        mtime_ns=int(sha(source + path)[:12], 16), **told,
    )  # fmt: skip


def in_database(sent: Sent, source: str = "phone", path: str = "", **told: Any) -> Note:
    facts: dict[str, Any] = {
        "chat": DATABASE_TITLES[sent.chat], "chat_id": sent.chat, "message_id": f"3EB0{sent.number:04}", "from_me": sent.mine,
        "sender": None if sent.mine else "Anna", "sender_id": None if sent.mine else ANNA, "sent_at": text(sent.at),
        "sent_at_from": "message", "starred": False,
    }  # fmt: skip
    return note(sent, source, path or f"Media/WhatsApp Voice Notes/202610/{sent.ptt}", **facts | told)


def on_iphone(sent: Sent) -> Note:
    name = sha(f"uuid {sent.number}")[:32]
    return in_database(sent, "iphone", f"Message/Media/{sent.chat}/{name[0]}/{name[1]}/{name}.opus", sent_at=text(sent.at)[:19] + "Z")


def on_mums_phone(sent: Sent) -> Note:
    """The same group on the phone of somebody else: her own files, her own names for people, and she is "me" there."""
    who = {"sender": "Peter", "sender_id": ME} if sent.mine else {"sender": None, "sender_id": None}
    return in_database(
        sent, "mum", f"Media/WhatsApp Voice Notes/202610/PTT-20260302-WA9{sent.number:03}.opus", from_me=not sent.mine, **who
    )


def exported(sent: Sent, name: str, **told: Any) -> Note:
    title = TITLES[sent.chat]
    facts = {"chat": title, "chat_id": f"export:{title}", "sender": "Anna M.", "sent_at_from": "message", "zone": "Europe/Berlin"}
    return note(sent, "exports", name, **facts | told)


def in_android_export(sent: Sent) -> Note:
    return exported(sent, sent.ptt, sent_at=text(sent.at)[:16] + ":00Z")


def in_iphone_export(sent: Sent, shift: int = 0) -> Note:
    return exported(sent, f"{sent.number + shift:08}-AUDIO-{sent.at:%Y-%m-%d-%H-%M-%S}.opus", sent_at=text(sent.at)[:19] + "Z")


def in_undecidable_export(sent: Sent) -> Note:
    """Of an export that does not tell in which order its dates are, and that was read in another zone."""
    there = sent.at.replace(day=sent.at.month, month=sent.at.day) - timedelta(hours=5, minutes=45)
    return exported(sent, f"AUDIO-{sent.number}.opus", sent_at=text(there)[:16] + ":00Z", sent_at_from="guess")


def as_a_file(sent: Sent) -> Note:
    return note(sent, "card", f"old phone/{sent.ptt}", sent_at=f"{sent.at:%Y-%m-%d}T12:00:00Z", sent_at_from="name", kind="voice")


STORES = {
    "phone": in_database, "iphone": on_iphone, "mum": on_mums_phone, "android export": in_android_export, "iphone export": in_iphone_export,
    "undecidable export": in_undecidable_export,
    "card": as_a_file,
}  # fmt: skip
NAMED_PTT = {"phone", "android export"}


class Nights:
    """An archive over several nights: each begins with the records that the one before it wrote."""

    def __init__(self, ranks: dict[str, int] = RANKS) -> None:
        self._ranks = ranks
        self.ledger = Ledger()

    def night(self, sightings: Iterable[Note]) -> Nights:
        """One more run, in which each note is met in a source of its own."""
        before, self.ledger = self.ledger, Ledger()
        lines = b"".join(encode_note(before.note(number)) + b"\n" for number in before)
        self.ledger.load("first", "2026-03", lambda: lines, lambda blob: True)
        self.ledger.ranks = self._ranks
        for seen in sightings:
            self.ledger.turn = min(self.ledger.turn + 1, 255)
            for number in enter(self.ledger, seen.found[0].source, msgspec.structs.replace(seen)):
                self.ledger.seen[number] = self.ledger.turn
        return self

    @property
    def notes(self) -> list[Note]:
        return sorted((self.ledger.note(number) for number in self.ledger), key=str)


def told(notes: Iterable[Note]) -> set[tuple[Any, ...]]:
    """What a person is told of each: all that does not depend on when it was seen."""
    return {
        (
            one.id,
            one.chat_id,
            one.chat,
            one.message_id,
            one.from_me,
            one.sent_at,
            one.sent_at_from,
            one.kind,
            one.starred,
            one.original_path,
        )
        for one in notes
    }


def numbers_of(notes: Iterable[Note]) -> list[tuple[str, str]]:
    return sorted((one.chat_id or "", one.sent_at or "") for one in notes)


@st.composite
def messages(draw: st.DrawFn) -> list[Sent]:
    """A few messages, in three chats, of two recordings: the same one may come again in the same chat, or in another."""
    count = draw(st.integers(1, 4))
    chats, audio = st.sampled_from([FAMILY, ANNA, BEN]), st.sampled_from("xy")
    return [Sent(draw(chats), draw(audio), number, draw(st.booleans())) for number in range(count)]


@st.composite
def sightings(draw: st.DrawFn) -> list[tuple[str, Sent]]:
    """Which of the stores have which of the messages."""
    all_of_them = [(store, sent) for sent in draw(messages()) for store in STORES if store != "mum" or sent.chat == FAMILY]
    return draw(st.lists(st.sampled_from(all_of_them), min_size=1, max_size=9, unique=True))


def expected(seen: Iterable[tuple[str, Sent]]) -> int:
    """How many notes these are: one a message; a bare file is one more where no store with a chat calls it by its name."""
    stores: dict[Sent, set[str]] = {}
    for store, sent in seen:
        stores.setdefault(sent, set()).add(store)
    return sum(bool(known - {"card"}) + ("card" in known and not known & NAMED_PTT) for known in stores.values())


@settings(max_examples=300, deadline=None)
@given(sightings(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_any_order_of_the_same_sightings_gives_the_same_records(seen: list[tuple[str, Sent]], chance: Any, nights: int) -> None:
    """Whichever store is met first, in one run or over nights: each message is one note, with the same that is known of it."""
    said = [STORES[store](sent) for store, sent in seen]
    first = Nights().night(said).notes
    assert len(first) == expected(seen)
    chance.shuffle(said)
    archive = Nights()
    for start in range(nights):
        archive.night(said[start::nights])
    assert told(archive.notes) == told(first)
    archive.night(said)
    assert (len(archive.notes), told(archive.notes)) == (len(first), told(first))
    places = {(place.source, place.path) for one in archive.notes for place in one.found}
    assert places == {(place.source, place.path) for one in said for place in one.found}
    assert not any(archive.night(said).ledger.changed), "a night with nothing new changes nothing"


@settings(max_examples=150, deadline=None)
@given(sightings(), st.randoms(use_true_random=False))
def test_the_archive_view_makes_one_list_of_what_several_hosts_know(seen: list[tuple[str, Sent]], chance: Any) -> None:
    """Stores of one family on two machines are listed as if one machine had them all, whichever ran last."""
    said = [STORES[store](sent) for store, sent in seen]
    hosts = {"desk": said[::2], "laptop": said[1::2]}
    entries = [entry(one, "x", host) for host, part in hosts.items() for one in Nights().night(part).notes]
    listed = []
    for _ in range(2):
        chance.shuffle(entries)
        view = View()
        for item in entries:
            view.add(msgspec.structs.replace(item))
        listed.append(list(view))
    assert numbers_of(listed[0]) == numbers_of(listed[1]) == numbers_of(Nights().night(said).notes)
    assert {(item.message_id, tuple(sorted(item.hosts))) for item in listed[0]} == {
        (i.message_id, tuple(sorted(i.hosts))) for i in listed[1]
    }


@settings(max_examples=150, deadline=None)
@given(sightings(), st.integers(0, 8))
def test_overlapping_runs_of_one_host_come_to_the_same_records(seen: list[tuple[str, Sent]], cut: int) -> None:
    """What two runs found at the same time is one list afterwards, as if one of them had found it all.

    Not so for exports whose dates nobody can decide: a guessed time that one run alone could not mend may leave a note listed twice.
    """
    said = [STORES[store](sent) for store, sent in seen if store != "undecidable export"]
    ours, theirs = Nights().night(said[:cut]), Nights().night(said[cut:])
    for number in theirs.ledger:
        merge(ours.ledger, "first", theirs.ledger.note(number))
    assert numbers_of(ours.notes) == numbers_of(Nights().night(said).notes)


@pytest.mark.parametrize("order", [1, -1])
def test_two_notes_of_identical_bytes_in_one_chat_stay_two(order: int) -> None:
    """A recording that was sent twice is two notes, in a database and in an exported chat, also where one of them is in both."""
    first, again = Sent(FAMILY, "x", 1), Sent(FAMILY, "x", 2)
    exports = [in_android_export(first), in_android_export(again)]
    assert len(Nights().night(exports[::order]).notes) == 2
    both = Nights().night([in_database(first), *exports][::order]).notes
    assert [one.sent_at for one in both] == [text(first.at), text(again.at)[:16] + ":00Z"] or order < 0
    assert sorted((one.message_id or "", one.chat_id or "") for one in both) == [("", "export:Family"), ("3EB00001", FAMILY)]


def test_a_file_that_an_exported_chat_names_twice_is_two_notes() -> None:
    """A note that was sent on into its own chat is one file with two messages: both are listed, night after night."""
    first, later = Sent(FAMILY, "x", 1), Sent(FAMILY, "x", 61)
    told_of = [in_android_export(first), msgspec.structs.replace(in_android_export(first), sent_at=text(later.at)[:16] + ":00Z")]
    archive = Nights()
    for _ in range(2):
        archive.night([])
        for one in told_of:
            enter(archive.ledger, "exports", msgspec.structs.replace(one), alone=False)
    assert sorted(one.sent_at or "" for one in archive.notes) == [one.sent_at for one in told_of]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("name", "copied"),
    [
        ("PTT-20260302-WA0001.opus", "PTT-20260302-WA0001 (1).opus"),
        ("PTT-20260302-WA0001.opus", "PTT-20260302-WA0001-1.opus.opus"),
        ("PTT-20260302-WA0001.opus", "ptt-20260302-wa0001~2.opus"),
        ("Interview.m4a", "Interview (12).m4a"),
        ("00000012-AUDIO-2026-03-02-14-06-07.opus", "00000040-AUDIO-2026-03-02-14-06-07.opus"),
    ],
)
def test_a_copy_under_the_name_that_copies_get_is_no_note_of_its_own(name: str, copied: str, order: int) -> None:
    """What browsers and phones put behind the name of a copy, and the number that an iPhone puts before it, tell of no other note."""
    sent = Sent(FAMILY, "x", 1)
    seen = [in_database(sent, path=f"Media/{name}"), note(sent, "card", copied)][::order]
    assert [one.message_id for one in Nights().night(seen).notes] == ["3EB00001"]
    assert len(Nights().night([note(sent, "card", copied)]).night([note(sent, "card", f"in/{name}")]).notes) == 1


@pytest.mark.parametrize("other", ["PTT-20260302-WA0002.opus", "PTT-20260302-WA00011.opus", "Holiday.opus", "PTT-20260302-WA0001 (1)"])
def test_another_name_is_another_note(other: str) -> None:
    """A name that somebody gave, or that the app gave to another file, is a note of its own, though of the same bytes."""
    sent = Sent(FAMILY, "x", 1)
    assert len(Nights().night([in_database(sent, path="Media/PTT-20260302-WA0001.opus"), note(sent, "card", other)]).notes) == 2


def test_two_exports_of_one_chat_with_shifted_numbers_are_one() -> None:
    """An iPhone numbers attachments anew in each export: the same notes are recognised by chat and time."""
    sent = [Sent(FAMILY, audio, number) for number, audio in enumerate("xyx")]
    archive = Nights().night([in_iphone_export(one) for one in sent]).night([in_iphone_export(one, shift=40) for one in sent])
    assert len(archive.notes) == 3
    assert all(len(one.found) == 2 for one in archive.notes)


def test_an_export_read_in_the_wrong_zone_is_mended_by_the_right_one() -> None:
    """Once the right time zone is set, the records of an exported chat have the right times, and are no more than before."""
    right = in_iphone_export(Sent(FAMILY, "x", 1))
    wrong = msgspec.structs.replace(right, sent_at="2026-03-02T11:06:07Z", zone="Asia/Dubai")
    [one] = Nights().night([wrong]).night([right]).notes
    assert (one.sent_at, one.zone) == (right.sent_at, "Europe/Berlin")


@pytest.mark.parametrize(("said", "count"), [("2026-03-02T20:06:00Z", 1), ("2026-03-02T20:07:00Z", 2), ("2026-03-02T17:06:00Z", 2)])
def test_a_newer_export_read_in_another_zone_doubles_nothing(said: str, count: int) -> None:
    """Two readings of one exported note agree by chat, file name, and what the clock showed; not by any whole hours between them."""
    sent = Sent(FAMILY, "x", 1)
    berlin = in_android_export(sent)
    lima = msgspec.structs.replace(berlin, sent_at=said, zone="America/Lima")
    lima.found = [Place("exports", f"newer.zip/{sent.ptt}")]
    assert berlin.sent_at == "2026-03-02T14:06:00Z"
    assert len(Nights().night([berlin]).night([lima]).notes) == count


@pytest.mark.parametrize(
    ("said", "since", "same"),
    [
        ("2026-03-02T14:06:07Z", "guess", True),
        ("2026-03-02T08:36:07Z", "guess", True),
        ("2026-02-03T14:06:07Z", "guess", True),
        ("2026-02-03T19:36:07Z", "guess", True),
        ("2026-03-02T14:13:07Z", "guess", False),
        ("2026-03-05T14:06:07Z", "guess", False),
        ("2026-03-02T14:06:00Z", "message", True),
        ("2026-03-02T14:06:07Z", "message", True),
        ("2026-03-02T14:07:00Z", "message", False),
        ("2026-03-02T15:06:07Z", "message", False),
        (None, None, True),
        ("no time", "message", False),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_an_exported_note_is_the_message_of_its_chat_at_its_moment(said: str | None, since: Any, same: bool, order: int) -> None:
    """The time of an exported chat may lack seconds; a guessed one may be off by time zones and have day and month exchanged; no more."""
    sent = Sent(FAMILY, "x", 1)
    export = exported(sent, "00000007-AUDIO.opus", sent_at=said, sent_at_from=since)
    notes = Nights().night([in_database(sent), export][::order]).notes
    assert len(notes) == (1 if same else 2)
    assert {one.sent_at for one in notes if one.message_id} == {text(sent.at)}


def test_a_zone_that_is_off_does_not_matter_where_the_name_agrees_too() -> None:
    """An Android export has the phone's own file names: with chat and name, an hour that is off tells of another zone."""
    sent = Sent(FAMILY, "x", 1)
    moved = msgspec.structs.replace(in_android_export(sent), sent_at="2026-03-02T16:06:00Z")
    assert len(Nights().night([in_database(sent), moved]).notes) == 1
    other = msgspec.structs.replace(in_android_export(sent), sent_at="2026-03-02T16:09:00Z")
    assert len(Nights().night([in_database(sent), other]).notes) == 2


@pytest.mark.parametrize(
    ("title", "chat_id", "export", "called"),
    [
        ("Family", FAMILY, "Family", "Family"),
        ("Fam\u00edlia", FAMILY, "Fami\u0301lia", "Fam\u00edlia"),
        ("Mum/Dad: us ❤️", FAMILY, "Mum_Dad_ us ❤", "Mum/Dad: us ❤️"),
        ("Family", FAMILY, "Familie", None),
        ("+491700000001", ANNA, "+49 170 0000001", "+491700000001"),
        ("+491700000001", ANNA, "\u202a+49\u00a0170\u20110000001\u202c", "+491700000001"),
        ("Family", "telegram:17", "Family", None),
        ("+491700000001", ANNA, "+49 170 0000009", None),
        ("+491700000001", ANNA, "Anna", "Anna"),
        ("Anna", ANNA, "+49 170 0000001", "Anna"),
        ("~Anna", ANNA, "Anna Müller", "Anna Müller"),
        ("Anna", ANNA, "Ben", None),
    ],
)
def test_an_exported_chat_is_known_by_its_title_or_number(title: str, chat_id: str, export: str, called: str | None) -> None:
    """Titles agree as file names write them; a chat without a name is known by its number, or by the moment alone, and gets the name."""
    sent = Sent(FAMILY, "x", 1)
    known = in_database(sent, chat=title, chat_id=chat_id)
    said = msgspec.structs.replace(in_iphone_export(sent), chat=export, chat_id=f"export:{export}")
    for both in ([known, said], [said, known]):
        notes = Nights().night(both).notes
        assert len(notes) == (1 if called else 2)
        assert {one.chat for one in notes if one.message_id} == {called or title}


def test_an_export_made_under_an_old_title_is_of_the_chat_that_had_it() -> None:
    """A group that was renamed since is recognised by any title it ever had."""
    archive = Nights().night([in_database(Sent(FAMILY, "x", 1), chat="Grandchildren")])
    archive.ledger.titles = {FAMILY: ["Family", "Grandchildren"]}.__getitem__
    enter(archive.ledger, "exports", in_iphone_export(Sent(FAMILY, "x", 1)))
    assert [one.chat for one in archive.notes] == ["Grandchildren"]


def test_a_renamed_group_keeps_the_notes_of_its_old_export() -> None:
    """An export that lies there night after night stays part of its messages when the group has another title."""
    sent = Sent(FAMILY, "x", 1)
    archive = Nights().night([in_database(sent), in_iphone_export(sent)])
    archive.night([in_database(sent, chat="Grandchildren")]).night([in_iphone_export(sent)])
    assert [one.chat for one in archive.notes] == ["Grandchildren"]


def test_the_same_recording_sent_on_to_two_chats_in_one_minute_is_in_both() -> None:
    """Two messages with one recording and one time stay two, whatever an export of one of the chats says."""
    one, other = Sent(FAMILY, "x", 1), Sent(ANNA, "x", 1)
    for both in ([one, other], [other, one]):
        said = [*map(in_database, both), in_iphone_export(one), in_android_export(other)]
        assert {known.chat for known in Nights().night(said).notes} == {"Family", "Anna Müller"}
        assert len(Nights().night(said[::-1]).notes) == 2


def test_a_conversation_seen_from_both_ends_is_two_chats() -> None:
    """My chat with Anna, and Anna's with me on her phone, each stay whole: one recording, listed in each."""
    sent = Sent(ANNA, "x", 1, mine=True)
    hers = in_database(sent, "annas phone", chat="Peter", chat_id=ME, from_me=False, sender="Peter", sender_id=ME)
    notes = Nights().night([in_database(sent), hers]).night([hers, in_database(sent)]).notes
    assert sorted((one.chat_id, one.from_me) for one in notes) == [(ME, False), (ANNA, True)]
    view = View()
    for number, known in enumerate(notes):
        view.add(entry(known, "x", f"host {number}"))
    assert len(list(view)) == 2


@pytest.mark.parametrize("address", [BENS_LID, "491700000099@s.whatsapp.net"])
@pytest.mark.parametrize("store", [in_database, on_iphone])
def test_a_better_address_of_a_person_doubles_nothing(address: str, store: Any) -> None:
    """A chat that was known by a hidden identity, or an old number, is the same chat under the number it has now."""
    sent = Sent(BEN, "x", 1)
    before = msgspec.structs.replace(in_database(sent), chat_id=address, chat="Ben", sender_id=address)
    archive = Nights().night([before]).night([store(sent)])
    if store is on_iphone and address != BENS_LID:
        assert [one.chat_id for one in archive.notes] == [address], "the phone is not in this run and keeps its say"
    else:
        assert [(one.chat_id, one.chat) for one in archive.notes] == [(BEN, "Ben")]
    assert len(archive.night([before]).notes) == 1
    if address == BENS_LID:
        assert [one.chat_id for one in archive.notes] == [BEN], "a night that does not know whose the identity is takes nothing back"


def test_a_broadcast_is_a_note_in_each_chat_it_went_to() -> None:
    """One message in the chats of several people, which one phone shows side by side, is not taken for one person with two addresses."""
    sent = Sent(ANNA, "x", 1, mine=True)
    archive = Nights()
    for _ in range(2):
        archive.night([])
        for chat in (ANNA, BEN, BENS_LID):
            for number in enter(archive.ledger, "phone", in_database(sent, chat_id=chat, chat=chat)):
                archive.ledger.seen[number] = archive.ledger.turn
    assert sorted(one.chat_id or "" for one in archive.notes) == [ANNA, BEN, BENS_LID]


@pytest.mark.parametrize("folder", [FAMILY, ANNA])
def test_the_chat_of_a_message_counts_and_not_the_folder_of_its_file(folder: str) -> None:
    """A note that was sent on lies in the folder of the chat it came from: once its message is known, it is in the message's chat."""
    sent = Sent(BEN, "x", 1)
    path = f"Message/Media/{folder}/a/b/ab12.opus"
    orphan = note(sent, "iphone", path, chat="Family", chat_id=folder, sent_at=text(sent.at)[:19] + "Z", sent_at_from="file")
    known = in_database(sent, "iphone", path, chat=BENS_LID, chat_id=BENS_LID)
    for seen in ([orphan, known], [known, orphan]):
        (one,) = Nights().night(seen[:1]).night(seen[1:]).notes
        assert (one.chat_id, one.message_id) == (BENS_LID, known.message_id)


def test_who_speaks_is_the_first_in_the_settings_and_others_fill_in() -> None:
    """In a group that two phones know I am "me" as the first of them says; what that one does not know, the other adds."""
    sent = Sent(FAMILY, "x", 1, mine=True)
    mine = in_database(sent, transcript=None, starred=True)
    hers = msgspec.structs.replace(on_mums_phone(sent), forwarded=True)
    for both in ([mine, hers], [hers, mine]):
        [one] = Nights().night(both).notes
        assert (one.from_me, one.starred, one.forwarded, one.sender) == (True, True, True, "Peter")
        assert one.original_path == mine.original_path
    [one] = Nights().night([mine, hers]).night([msgspec.structs.replace(hers, starred=False)]).notes
    assert one.starred
    [one] = Nights().night([mine, hers]).night([in_database(sent, starred=False)]).notes
    assert one.starred is False


def in_telegram(hour: int, zone: str | None, export: str) -> Note:
    """A message between two, whose number is its account's own: the moment is a part of its id."""
    sent_at = f"2020-03-02T{hour:02}:05:07Z"
    facts: dict[str, Any] = {"chat": "Anna", "chat_id": "telegram:user5", "message_id": f"7 {sent_at} user5", "sent_at": sent_at}
    return note(Sent(ANNA, "x", 1), "tg", f"{export}/audio_7.ogg", sent_at_from="message", zone=zone, **facts)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("zones", "hour"), [(("UTC", None), 13), ((None, "UTC"), 14), (("Europe/Berlin", "America/New_York"), None)])
def test_a_telegram_message_read_in_two_zones_is_one(zones: tuple[str | None, str | None], hour: int | None, order: int) -> None:
    """An old export tells no zone: read in the wrong one, it is the message that a newer export, or the right zone, gives a true moment."""
    seen = [in_telegram(14, zones[0], "old"), in_telegram(13, zones[1], "new")][::order]
    nights = Nights().night(seen[:1]).night(seen[1:]).night(seen)
    view = View()
    for number, one in enumerate(seen):
        view.add(entry(one, "tg", f"host {number}"))
    for (one,) in (nights.notes, list(view)):
        assert one.sent_at in ([f"2020-03-02T{hour}:05:07Z"] if hour else [one.sent_at for one in seen])
        assert one.message_id == f"7 {one.sent_at} user5"
    other = msgspec.structs.replace(in_telegram(14, "UTC", "other"), message_id="8 2020-03-02T14:05:07Z user5")
    assert len(nights.night([other]).notes) == 2


def test_names_only_get_better() -> None:
    """A name replaces a number and a number a hidden identity, from whatever store; never the other way round."""
    sent = Sent(BEN, "x", 1)
    hidden = in_database(sent, sender="77001100220044@lid", sender_id=BENS_LID)
    number = in_database(sent, sender="+491700000002", sender_id=BEN)
    called = in_database(sent, sender="~benny", sender_id=BEN)
    export = msgspec.structs.replace(in_android_export(sent), sender="Benjamin", sender_id=None)
    for nights in ([hidden, number, called, export], [export, called, number, hidden], [number, hidden, export, called]):
        archive = Nights()
        for one in nights:
            archive.night([one])
        assert [(one.sender, one.sender_id) for one in archive.notes] == [("Benjamin", BEN)]


def test_who_sent_my_own_note_is_no_news_every_night() -> None:
    """What another phone calls me does not make my own phone's notes be looked at again."""
    sent = Sent(FAMILY, "x", 1, mine=True)
    archive = Nights().night([in_database(sent), on_mums_phone(sent)]).night([])
    [one], [place] = archive.notes, in_database(sent).found
    assert one.sender == "Peter"
    assert archive.ledger.at_rest(place.source, place.path, in_database(sent)) is not None
    theirs = in_database(Sent(FAMILY, "x", 1))
    assert archive.ledger.at_rest(place.source, place.path, theirs) is None


def test_of_several_hosts_the_first_to_have_a_note_speaks_and_of_one_the_newest_snapshot() -> None:
    """A star that is set later counts on the same machine; whose perspective a note has does not change with who ran last."""
    sent = Sent(FAMILY, "x", 1, mine=True)
    mine = entry(in_database(sent, starred=False), "phone", "desk")
    hers = entry(msgspec.structs.replace(on_mums_phone(sent), first_seen="2026-05-01T00:00:00Z", starred=True), "mum", "laptop")
    for both in ([mine, hers], [hers, mine]):
        view = View()
        for item in both:
            view.add(msgspec.structs.replace(item))
        assert [(item.from_me, item.starred) for item in view] == [(True, False)]
    view = View()
    again = msgspec.structs.replace(in_database(sent, starred=True), first_seen="2026-06-01T00:00:00Z")
    view.add(entry(again, "phone", "desk"))
    view.add(mine)
    assert [item.starred for item in view] == [True]


def test_the_view_joins_the_addresses_of_a_person_but_not_what_one_host_tells_apart() -> None:
    """A hidden identity on one machine is the number on another; a broadcast to two people on one machine is two notes."""
    sent = Sent(BEN, "x", 1, mine=True)
    hidden, number = in_database(sent, chat_id=BENS_LID), in_database(sent)
    for hosts, count in ((("desk", "laptop"), 1), (("desk", "desk"), 2)):
        view = View()
        for one, host in zip((hidden, number), hosts, strict=True):
            view.add(entry(one, "phone", host))
        assert len(list(view)) == count


@pytest.mark.parametrize(("whole", "lesser"), [("phone", "mum"), ("mum", "phone")])
@pytest.mark.parametrize("damaged", ["truncated", None])
def test_of_two_recordings_of_one_message_the_sound_one_has_it(whole: str, lesser: str, damaged: Any) -> None:
    """A copy that was cut on another phone stays as a note of the chat, and never takes the message from the whole one, in any order."""
    sent = Sent(FAMILY, "x", 1)
    sound = STORES[whole](sent)
    other = msgspec.structs.replace(STORES[lesser](sent), id=sha("other"), blobs=[sha("other")], damaged=damaged)
    holder = sound if damaged or whole == "phone" else other
    for both in ([sound, other], [other, sound]):
        archive = Nights().night(both).night(both).night(both[::-1])
        assert sorted((one.id == holder.id, one.message_id, one.chat_id) for one in archive.notes) == [
            (False, None, FAMILY), (True, "3EB00001", FAMILY),
        ]  # fmt: skip
        assert not any(archive.night(both).ledger.changed)


@pytest.mark.parametrize(
    ("message", "export", "both"),
    [(None, "2026-05-01", None), ("2026-05-01", None, None), ("2026-05-01", "2026-06-01", "2026-06-01")],
)
def test_a_record_that_turns_out_to_be_another_is_missing_only_where_both_are(message: Any, export: Any, both: Any) -> None:
    """A message and an exported note that become one are gone since the later of their losses, and not while one is there."""
    sent = Sent(FAMILY, "x", 1)
    first = msgspec.structs.replace(in_database(sent), missing_since=message)
    second = msgspec.structs.replace(in_iphone_export(sent), chat="Us", chat_id="export:Us", missing_since=export)
    archive = Nights().night([first, second])
    assert len(archive.notes) == 2
    archive.ledger.titles = {FAMILY: ["Us"]}.__getitem__
    enter(archive.ledger, "phone", in_database(sent))
    assert [one.missing_since for one in archive.notes] == [both]


def test_many_empty_files_are_told_apart_by_their_names_and_at_once() -> None:
    """Thousands of empty placeholders, which are all the same bytes, stay thousands of notes, and cost no more than others."""
    empty = [msgspec.structs.replace(as_a_file(Sent(FAMILY, "", number)), size=0, blobs=[]) for number in range(3000)]
    archive = Nights().night(empty)
    assert len(archive.night(empty).notes) == 3000
    assert len(archive.ledger.of_audio(empty[7])) == 1


def test_a_second_place_of_a_note_is_known_by_its_own_size_and_time() -> None:
    """A copy, a zip or a backup that holds the note too is recognised there the next night without being read."""
    sent = Sent(FAMILY, "x", 1)
    archive = Nights().night([in_database(sent), on_iphone(sent), in_iphone_export(sent)]).night([])
    for one in (in_database(sent), on_iphone(sent), in_iphone_export(sent)):
        [place], size, time = one.found, one.size or 0, one.mtime_ns or 0
        known_file = partial(archive.ledger.known_file, place.source, place.path)
        path = one.original_path or ""
        found = known_file(path, size, time)
        assert found is not None
        assert found.id == sent.id
        assert known_file(path + "x", size, time + 1) is None
        assert known_file(path + "x", size + 1, time) is None
        assert archive.ledger.known_file("elsewhere", place.path, path, size, time) is None


def test_a_place_is_known_also_where_another_source_has_begun_to_speak_for_the_note() -> None:
    """The sources of a run stand in another order than yesterday: no file is read again for that."""
    sent = Sent(FAMILY, "x", 1)
    archive = Nights({"phone": 0, "iphone": 1}).night([in_database(sent), on_iphone(sent)])
    archive.night([]).ledger.ranks = {"iphone": 0, "phone": 1}
    enter(archive.ledger, "iphone", on_iphone(sent))
    mine = in_database(sent)
    [place] = mine.found
    known = archive.ledger.known_file(place.source, place.path, mine.original_path or "", mine.size or 0, mine.mtime_ns or 0)
    assert known is not None
    assert known.original_path == on_iphone(sent).original_path


def chats(**titles: Sequence[str]) -> list[Chat]:
    ids = {"family": FAMILY, "wedding": "2@g.us", "export": "export:Family", "anna": ANNA}
    return [Chat(chat_id=ids[name], titles=list(known)) for name, known in titles.items()]


def test_an_exported_chat_is_one_with_the_only_chat_of_its_title() -> None:
    """The title of an export leads to the chat that has it or had it; where several have, or had, it stays a chat of its own."""
    assert joined_chats(chats(family=["Family"], export=["Family"], anna=["Anna"])) == {"export:Family": FAMILY}
    assert joined_chats(chats(family=["Family", "Us"], export=["Family"])) == {"export:Family": FAMILY}
    assert joined_chats(chats(family=["Family"], wedding=["Family", "Wedding"], export=["Family"])) == {}
    assert joined_chats(chats(anna=["Anna"], export=["Family"])) == {}
    elsewhere = Chat(chat_id="telegram:17", titles=["Family"])
    assert joined_chats([elsewhere, *chats(export=["Family"])]) == {}
    assert joined_chats([elsewhere, *chats(family=["Family"], export=["Family"])]) == {"export:Family": FAMILY}


def test_a_chat_is_called_by_its_best_name() -> None:
    """Of several sources the one with a name is believed, the first of those; a night with numbers only takes no name away."""
    number, name, other = ([Chat(chat_id=ANNA, titles=[title])] for title in ("+491700000001", "Anna", "Annie"))
    raw = [Chat(chat_id=ANNA, titles=[ANNA])]
    assert best_titles([raw, number, name, other])[0].titles == ["Anna"]
    known = Chats()
    known.load("phone", [Chat(chat_id=ANNA, titles=["Anna"], folder="Anna 1234")])
    assert known.rename(number) == known.rename(raw) == {}
    assert known.rename(other) == {ANNA: "Annie"}
    assert known.titles(ANNA) == ["Anna", "Annie"]


def test_a_record_without_note_of_its_host_is_an_entry_like_any_other() -> None:
    """Snapshots of other programs, which know only files, join what is known of the same audio by name."""
    sent = Sent(FAMILY, "x", 1)
    view = View()
    view.add(entry(in_database(sent), "phone", "desk"))
    view.add(Entry(id=sent.id, size=4000, original_path=f"home/{sent.ptt}", host=None))
    assert [(item.chat, item.hosts) for item in view] == [("Family", ["desk"])]
