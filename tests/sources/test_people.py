"""Who is who: hidden identities, changed numbers, and the names that the owner of the phone has for people."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from backup_tool.models import Chat, Problem
from backup_tool.sources.tree import Tree
from backup_tool.sources.whatsapp_android import AndroidSource
from tests.generators import contacts
from tests.generators.android import ANNA, BEN, FAMILY, Store
from tests.generators.msgstore import Msgstore
from tests.generators.ogg import opus_note
from tests.scenarios.world import World
from tests.sources.stores import Scanned, as_ordinary_user, everything

SENT = 1772546700000
LID = "98765432109876@lid"
NEW, NEWER = "491700000077@s.whatsapp.net", "491700000088@s.whatsapp.net"
CLARA = "491700000003@s.whatsapp.net"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with no notes yet."""
    return Store(tmp_path / "WhatsApp")


def scan(root: Path, named: Sequence[Path] = ()) -> Scanned:
    """Go through a store with these lists of contacts; nothing private is left behind."""
    with tempfile.TemporaryDirectory() as workdir:
        source = AndroidSource("phone", Tree(os.fsencode(root)), Path(workdir), contacts=named)
        going = source.scan()
        files = list(going)
        assert os.listdir(workdir) == []
    return Scanned(source, files, going.summary)


class Phone:
    """A store whose chats get one note each."""

    def __init__(self, store: Store, **options: bool) -> None:
        self.root = store.root
        self._store = store
        self.database = Msgstore(store.root / "Databases/msgstore.db", **options)  # type: ignore[arg-type]
        self._chats: dict[str, int] = {}
        self._count = 0

    def chat(self, address: str, subject: str | None = None) -> int:
        if address not in self._chats:
            self._chats[address] = self.database.chat(address, subject=subject)
        return self._chats[address]

    def note(self, chat: str, sender: str | None = None) -> None:
        """A note that came into a chat, keyed K0, K1, …"""
        made = self._store.put(f"Media/WhatsApp Voice Notes/202610/PTT-20260303-WA{self._count:04d}.opus", opus_note(0.1, seed=self._count))
        self.database.message(
            self.chat(chat), f"K{self._count}", sent=SENT + self._count, sender=sender, file=made.original_path, data=made.data
        )
        self._count += 1

    def scan(self, *named: Path) -> Scanned:
        self.database.close()
        return scan(self.root, named)

    def ids(self) -> list[tuple[str | None, str | None]]:
        """Chat and sender of each note."""
        return [(note.chat_id, note.sender_id) for note in self.scan().notes]


@pytest.fixture
def phone(store: Store) -> Phone:
    return Phone(store)


class TestHiddenIdentities:
    """One person under a number and under hidden identities."""

    @pytest.mark.parametrize(("table", "turned"), [("jid_map", False), ("jid_map", True), ("lid_jid_map", False)])
    def test_one_person_is_one_chat(self, store: Store, table: str, turned: bool) -> None:
        """The chats by number and by hidden identity are one, whichever table joins them and whichever way round it does."""
        phone = Phone(store, later=True)
        phone.note(LID)
        phone.note(ANNA)
        phone.note(FAMILY, sender=LID)
        pair = (ANNA, LID) if turned else (LID, ANNA)
        phone.database.map_lid(*pair, table=table)
        found = phone.scan()
        assert [(note.chat_id, note.sender_id) for note in found.notes] == [(ANNA, ANNA), (ANNA, ANNA), (FAMILY, ANNA)]
        assert found.summary.chats == [Chat(chat_id=FAMILY, titles=[FAMILY]), Chat(chat_id=ANNA, titles=["+491700000001"])]

    def test_a_device_of_a_hidden_identity_is_that_person(self, phone: Phone) -> None:
        """A sender with a device number, known by the identity without it, is resolved."""
        phone.database.map_lid(LID, ANNA)
        phone.note(FAMILY, sender="98765432109876:12@lid")
        assert phone.ids() == [(FAMILY, ANNA)]

    def test_several_identities_of_one_number(self, phone: Phone) -> None:
        """A person may have had several hidden identities: all are theirs, and the name that any shows is theirs."""
        phone.database.map_lid(LID, ANNA)
        phone.database.map_lid("11111111111111@lid", ANNA)
        phone.database.name_lid("11111111111111@lid", "Anna A.")
        phone.note(LID)
        phone.note("11111111111111@lid")
        assert [(note.chat_id, note.chat) for note in phone.scan().notes] == [(ANNA, "~Anna A.")] * 2

    def test_a_map_that_says_nonsense_joins_nothing(self, phone: Phone) -> None:
        """Groups, unknown rows, and two numbers are no hidden identity of each other; of contradictions the first counts."""
        phone.database.map_lid(FAMILY, ANNA)
        phone.database.map_lid(BEN, ANNA)
        phone.database.map_lid(LID, ANNA)
        phone.database.name_lid(LID, "Anna A.")
        phone.database.connection.execute("INSERT INTO jid_map VALUES (4711, 4712), (4713, NULL)")
        phone.database.connection.execute("INSERT INTO jid (_id, user, server, raw_string) VALUES (900, ?, 'lid', ?)", (LID[:-4], LID))
        phone.database.connection.execute("INSERT INTO jid_map SELECT 900, _id FROM jid WHERE raw_string = ?", (BEN,))
        for chat in (FAMILY, BEN, ANNA, LID):
            phone.note(chat)
        told = [(note.chat_id, note.chat) for note in phone.scan().notes]
        assert told == [(FAMILY, FAMILY), (BEN, "+491700000002"), (ANNA, "~Anna A."), (ANNA, "~Anna A.")]


class TestChangedNumbers:
    """A person who took new numbers over the years."""

    def test_the_chats_are_one_under_the_first_number(self, phone: Phone) -> None:
        """What was archived under the old number stays there and what follows joins it; the new number is shown."""
        phone.note(ANNA)
        phone.note(NEW)
        phone.note(FAMILY, sender=NEW)
        phone.note(FAMILY, sender=ANNA)
        phone.database.change_number(phone.chat(FAMILY), ANNA, NEW)
        phone.database.change_number(phone.chat(NEW), ANNA, NEW)
        found = phone.scan()
        assert [(note.chat_id, note.sender_id) for note in found.notes] == [(ANNA, ANNA), (ANNA, ANNA), (FAMILY, ANNA), (FAMILY, ANNA)]
        assert {note.sender for note in found.notes} == {"+491700000077"}

    def test_a_chain_is_followed(self, phone: Phone) -> None:
        """Third and later numbers are still the same person."""
        phone.database.change_number(phone.chat(FAMILY), ANNA, NEW)
        phone.database.change_number(phone.chat(FAMILY), NEW, NEWER)
        for chat in (ANNA, NEW, NEWER):
            phone.note(chat)
        found = phone.scan()
        assert [(note.chat_id, note.chat) for note in found.notes] == [(ANNA, "+491700000088")] * 3

    def test_a_chain_that_comes_back_ends(self, phone: Phone) -> None:
        """Back to the first number, and away again: one person, no end of it."""
        for old, new in ((ANNA, NEW), (NEW, ANNA), (ANNA, NEW), (NEW, NEWER), (NEWER, ANNA)):
            phone.database.change_number(phone.chat(FAMILY), old, new)
        for chat in (ANNA, NEW, NEWER):
            phone.note(chat)
        assert [(note.chat_id, note.chat) for note in phone.scan().notes] == [(ANNA, "+491700000001")] * 3

    def test_a_number_that_somebody_else_took_over_joins_nobody(self, phone: Phone) -> None:
        """Anna left her number; whoever leaves it later, or moves to it, is another person."""
        phone.database.change_number(phone.chat(FAMILY), ANNA, NEW)
        phone.database.change_number(phone.chat(FAMILY), ANNA, NEWER)
        phone.database.change_number(phone.chat(FAMILY), BEN, ANNA)
        for chat in (ANNA, NEW, NEWER, BEN):
            phone.note(chat)
        assert [chat for chat, _ in phone.ids()] == [ANNA, ANNA, NEWER, BEN]

    def test_a_later_change_moves_nothing_that_is_archived(self, store: Store) -> None:
        """Each further change leaves the chats as they were told before."""
        before: list[tuple[str | None, str | None]] = []
        for changes in range(3):
            (store.root / "Databases/msgstore.db").unlink(missing_ok=True)
            phone = Phone(store)
            for old, new in ((ANNA, NEW), (NEW, NEWER))[:changes]:
                phone.database.change_number(phone.chat(FAMILY), old, new)
            for chat in (ANNA, NEW, NEWER)[: changes + 1]:
                phone.note(chat)
            now = phone.ids()
            assert now[: len(before)] == before
            before = now
        assert before == [(ANNA, ANNA)] * 3

    def test_hidden_identities_take_part(self, phone: Phone) -> None:
        """A change that is told by hidden identities joins the numbers behind them; nonsense joins nothing."""
        phone.database.map_lid(LID, ANNA)
        phone.database.map_lid("11111111111111@lid", NEW)
        phone.database.change_number(phone.chat(FAMILY), LID, "11111111111111@lid")
        phone.database.change_number(phone.chat(FAMILY), FAMILY, BEN)
        phone.database.change_number(phone.chat(FAMILY), BEN, BEN)
        phone.database.connection.execute("INSERT INTO message_system_number_change VALUES (999, 4711, NULL)")
        for chat in (NEW, BEN):
            phone.note(chat)
        assert [chat for chat, _ in phone.ids()] == [ANNA, BEN]


KNOWN = {"jid": ANNA, "number": "+491700000001", "display_name": "Mum", "given_name": "Anna", "family_name": "Adler", "wa_name": "annie"}


class TestOrderOfNames:
    """Of several names the best one."""

    @pytest.mark.parametrize(
        ("less", "expected"),
        [
            (set[str](), "Mum"),
            ({"display_name"}, "Anna Adler"),
            ({"display_name", "given_name"}, "Adler"),
            ({"display_name", "given_name", "family_name"}, "~annie"),
            ({"display_name", "given_name", "family_name", "wa_name"}, "Anna's Bakery"),
            ({"display_name", "given_name", "family_name", "wa_name", "verified"}, "~Anna A."),
            ({"display_name", "given_name", "family_name", "wa_name", "verified", "shown"}, "+491700000001"),
        ],
    )
    def test_the_best_name_counts(self, phone: Phone, less: set[str], expected: str) -> None:
        """Saved, made of its parts, the person's own (~), verified, shown by a hidden identity (~), the number."""
        verified = [] if "verified" in less else [(ANNA, "Anna's Bakery")]
        row = {name: value for name, value in KNOWN.items() if name not in less}
        contacts.wa_db(phone.root / "Databases/wa.db", [row, {"jid": BEN, "display_name": "Ben"}], verified)
        phone.database.map_lid(LID, ANNA)
        if "shown" not in less:
            phone.database.name_lid(LID, "Anna A.")
        phone.note(LID)
        phone.note(FAMILY, sender=ANNA)
        before = everything(phone.root)
        found = phone.scan()
        assert (found.notes[0].chat, found.notes[1].sender, found.notes[1].chat) == (expected, expected, FAMILY)
        assert found.summary.chats[1] == Chat(chat_id=ANNA, titles=[expected])
        assert {path for path in everything(phone.root) if path not in before} == set()

    def test_a_name_under_any_of_a_persons_addresses_is_theirs(self, phone: Phone) -> None:
        """A contact that knows only the hidden identity, or a number since changed, names the person everywhere."""
        contacts.wa_db(phone.root / "wa.db", [{"jid": LID, "display_name": "Anna"}, {"jid": NEW, "display_name": "Ben (new)"}])
        phone.database.map_lid(LID, ANNA)
        phone.database.change_number(phone.chat(FAMILY), BEN, NEW)
        phone.note(ANNA)
        phone.note(BEN)
        assert [note.chat for note in phone.scan().notes] == ["Anna", "Ben (new)"]

    def test_a_group_is_named_by_its_title(self, phone: Phone) -> None:
        """No contact names a group; a title on a conversation of two, which apps leave empty, is better than a number and no more."""
        contacts.wa_db(phone.root / "wa.db", [{"jid": FAMILY, "display_name": "Wrong"}])
        phone.chat(FAMILY, "Family")
        phone.chat(ANNA, "Anna, by title")
        phone.chat(LID, "Worse")
        phone.database.name_lid(LID, "Better")
        for chat in (ANNA, FAMILY, LID):
            phone.note(chat, sender=ANNA if chat == FAMILY else None)
        assert [(note.chat, note.sender) for note in phone.scan().notes] == [
            ("Anna, by title", "Anna, by title"), ("Family", "Anna, by title"), ("~Better", "~Better"),
        ]  # fmt: skip

    def test_an_older_wa_db_is_read(self, phone: Phone) -> None:
        """A list that lacks columns and tables of newer ones gives what it has."""
        connection = sqlite3.connect(phone.root / "wa.db")
        connection.executescript("CREATE TABLE wa_contacts (jid TEXT, wa_name TEXT)")
        connection.execute("INSERT INTO wa_contacts VALUES (?, 'annie'), (NULL, 'x'), (x'00', 'y'), (?, x'ff')", (ANNA, BEN))
        connection.commit()
        connection.close()
        phone.note(ANNA)
        phone.note(BEN)
        assert [note.chat for note in phone.scan().notes] == ["~annie", "+491700000002"]


class TestVcards:
    """Address books as phones export them."""

    @pytest.mark.parametrize(
        "card",
        [
            contacts.vcard_21("Jürgen Müller-Lüdenscheidt", "+491700000001"),
            contacts.vcard_21("Jürgen Müller-Lüdenscheidt", "+491700000001", charset="ISO-8859-1"),
            contacts.vcard_30("Jürgen Müller-Lüdenscheidt", "+49 170 0000001", width=14),
            contacts.vcard_40("Jürgen Müller-Lüdenscheidt", "+49-170-0000001"),
            b"\xef\xbb\xbf" + contacts.vcard_40("Jürgen Müller-Lüdenscheidt", "+491700000001"),
            contacts.vcard_30("Jürgen Müller-Lüdenscheidt", "+491700000001").decode().encode("utf-16"),
            "BEGIN:VCARD\nN:Müller-Lüdenscheidt;Jürgen;;Dr.;\nTEL:+491700000001\nEND:VCARD".encode("cp1252"),
            "begin:vcard\nversion:3.0\nfn:\nn:Müller-Lüdenscheidt;Jürgen;;;\ntel:+491700000001\nend:vcard\n".encode(),
            "BEGIN:VCARD\r\nVERSION:2.1\r\nFN:Jürgen\r\n Müller-Lüdenscheidt\r\nTEL:+491700000001\r\nEND:VCARD\r\n".encode(),
            "BEGIN:VCARD\nFN:Jürgen Müller-Lüdenscheidt\nTEL;TYPE=\"a:b;c\":+491700000001".encode(),
            "BEGIN:VCARD\nORG:Jürgen;Müller-Lüdenscheidt\nTEL:+491700000001\nEND:VCARD".encode(),
            "BEGIN:VCARD\nFN:Jürgen Müller-Lüdenscheidt\nTEL;type=CELL;waid=491700000001:ask her\nEND:VCARD".encode(),
        ],
    )  # fmt: skip
    def test_every_version_and_habit_is_read(self, phone: Phone, card: bytes, tmp_path: Path) -> None:
        """Versions, encodings, folded lines, groups, missing names, firms and cards cut short: the person is named."""
        (tmp_path / "book.vcf").write_bytes(contacts.vcard_30("Ben, or \\ Bob; who knows", "+491700000002") + card)
        if card[:2] == b"\xff\xfe":
            (tmp_path / "book.vcf").write_bytes(card)
        phone.note(ANNA)
        phone.note(BEN)
        found = phone.scan(tmp_path / "book.vcf")
        assert found.notes[0].chat == "Jürgen Müller-Lüdenscheidt"
        assert found.notes[1].chat == ("+491700000002" if card[:2] == b"\xff\xfe" else "Ben, or \\ Bob; who knows")
        assert (found.summary.problems, found.summary.warnings) == ([], [])

    def test_every_number_of_a_card_is_the_persons(self, phone: Phone, tmp_path: Path) -> None:
        """Of several numbers each names its owner; the end of a picture is no number."""
        (tmp_path / "book.vcf").write_bytes(contacts.vcard_21("Two Phones", "+491700000001", "+491700000002"))
        phone.note(ANNA)
        phone.note(BEN)
        phone.note("000000000@s.whatsapp.net")
        assert [note.chat for note in phone.scan(tmp_path / "book.vcf").notes] == ["Two Phones", "Two Phones", "+000000000"]

    def test_a_card_without_a_name_names_nobody(self, phone: Phone, tmp_path: Path) -> None:
        """A card whose name is missing, or is the number again, leaves the number."""
        (tmp_path / "book.vcf").write_bytes(contacts.vcard_30("", "+491700000001") + contacts.vcard_30("+49 170 0000002", "+491700000002"))
        phone.note(ANNA)
        phone.note(BEN)
        found = phone.scan(tmp_path / "book.vcf")
        assert [note.chat for note in found.notes] == ["+491700000001", "+491700000002"]
        assert "book.vcf names nobody: it takes a vCard (.vcf)" in found.summary.warnings[0]


class TestTypedNumbers:
    """Numbers as people type them, and whom they mean."""

    @pytest.mark.parametrize(
        ("typed", "address"),
        [
            ("+49 170 0000001", ANNA),
            ("0049 (0)170/000 00 01", ANNA),
            ("+49 (0) 170-0000001", ANNA),
            ("491700000001", ANNA),
            ("0170 0000001", ANNA),
            ("170 0000001", ANNA),
            ("\uff0b\uff14\uff19\uff11\uff17" + "\uff10" * 7 + "\uff11", ANNA),
            ("+49 170 0000001,,5#", ANNA),
            ("+55 11 91234-5678", "551112345678@s.whatsapp.net"),
            ("+55 11 1234-5678", "5511912345678@s.whatsapp.net"),
            ("(11) 91234-5678", "551112345678@s.whatsapp.net"),
            ("+54 11 1234-5678", "5491112345678@s.whatsapp.net"),
            ("+52 55 1234 5678", "5215512345678@s.whatsapp.net"),
        ],
    )
    def test_it_means_this_person(self, phone: Phone, tmp_path: Path, typed: str, address: str) -> None:
        """With country, with zeros, with brackets, without country, and with the mobile digits that some countries add."""
        (tmp_path / "names.csv").write_text(f'"{typed}",Somebody\n')
        phone.note(address)
        assert phone.scan(tmp_path / "names.csv").notes[0].chat == "Somebody"

    @pytest.mark.parametrize(
        ("typed", "address"),
        [
            ("+43 170 0000001", ANNA),
            ("+55 21 1234-5678", "551112345678@s.whatsapp.net"),
            ("0000001", ANNA),
            ("70 0000001", ANNA),
            ("+49 170 0000001 2", ANNA),
            ("+49 170 000000", ANNA),
            ("17", "491700000017@s.whatsapp.net"),
            ("0170 0000001", "9876540170000001@s.whatsapp.net"),
            ("98765432109876", LID),
        ],
    )
    def test_it_does_not_mean_this_person(self, phone: Phone, tmp_path: Path, typed: str, address: str) -> None:
        """Another country, another area, half a number, or a hidden identity's digits never name somebody."""
        (tmp_path / "names.csv").write_text(f"{typed},Somebody\n+1 555 0100 200,Other\n")
        phone.note(address)
        assert phone.scan(tmp_path / "names.csv").notes[0].chat != "Somebody"

    def test_a_number_that_may_be_two_peoples_names_neither(self, phone: Phone, tmp_path: Path) -> None:
        """Without its country a number can mean people in two countries, also one who sent no note: then nobody is named by it."""
        (tmp_path / "names.csv").write_text("0170 0000001,Somebody\n")
        phone.database.jid("431700000001@s.whatsapp.net")
        phone.note(ANNA)
        assert phone.scan(tmp_path / "names.csv").notes[0].chat == "+491700000001"

    def test_the_whole_number_wins(self, phone: Phone, tmp_path: Path) -> None:
        """Where one contact has the number with its country and another without, the first is believed."""
        (tmp_path / "names.csv").write_text("0170 0000001,Colleague\n+49 170 0000001,Anna\n")
        phone.note(ANNA)
        assert phone.scan(tmp_path / "names.csv").notes[0].chat == "Anna"


class TestOtherLists:
    """Lists of numbers and names, and what Android's own list prints."""

    @pytest.mark.parametrize(
        "text",
        [
            'number,name\n+491700000001,"Adler, Anna"\n',
            "\ufeff+491700000001;Adler, Anna;more\r\n",
            "+491700000001\tAdler, Anna\n",
            "491700000001@s.whatsapp.net;Adler, Anna\n",
            "98765432109876@lid;Adler, Anna\n",
        ],
    )
    def test_lines_of_number_and_name(self, phone: Phone, tmp_path: Path, text: str) -> None:
        """Commas, semicolons or tabs, with a heading or not, numbers or addresses."""
        (tmp_path / "names.csv").write_text(text)
        phone.database.map_lid(LID, ANNA)
        phone.note(ANNA)
        assert phone.scan(tmp_path / "names.csv").notes[0].chat == "Adler, Anna"

    def test_what_the_phones_contact_provider_prints(self, phone: Phone, tmp_path: Path) -> None:
        """WhatsApp's own entries are exact; others count by their whole number, else as typed; names may hold commas."""
        profile, phone_number = "vnd.android.cursor.item/vnd.com.whatsapp.profile", "vnd.android.cursor.item/phone_v2"
        lines = [
            contacts.provider_row(0, display_name="Adler, Anna", data1=ANNA, mimetype=profile),
            contacts.provider_row(1, display_name="Ben", data1="0170 0000002", data4="+491700000002", mimetype=phone_number),
            contacts.provider_row(2, display_name="Clara", data1="0170 0000003", mimetype=phone_number),
            contacts.provider_row(3, display_name="Not a number", data1="491700000077", mimetype="vnd.android.cursor.item/nickname"),
            "Row: 4 display_name=a note",
            "of several lines, data1=NULL, data4=NULL, mimetype=vnd.android.cursor.item/note",
        ]
        (tmp_path / "contacts.txt").write_text("\n".join(lines))
        for chat in (ANNA, BEN, CLARA, NEW):
            phone.note(chat)
        found = phone.scan(tmp_path / "contacts.txt")
        assert [note.chat for note in found.notes] == ["Adler, Anna", "Ben", "Clara", "+491700000077"]


class TestWhichLists:
    """Where lists are found, and what is said of those that are of no use."""

    @pytest.mark.parametrize("place", ["book.vcf", "Databases/Contacts.VCF", "Databases/wa.db", "wa (1).db"])
    def test_lists_that_lie_in_the_store_are_found(self, phone: Phone, place: str) -> None:
        """A vCard or `wa.db` in the store's folder, or beside its database, needs no setting."""
        if place.endswith("db"):
            contacts.wa_db(phone.root / place, [{"jid": ANNA, "display_name": "Anna"}])
        else:
            (phone.root / place).write_bytes(contacts.vcard_30("Anna", "+491700000001"))
        phone.note(ANNA)
        assert phone.scan().notes[0].chat == "Anna"

    def test_a_contact_that_somebody_sent_is_no_list_of_the_owners(self, phone: Phone) -> None:
        """vCards among the documents were written by others: they name nobody."""
        documents = phone.root / "Media/WhatsApp Documents"
        documents.mkdir()
        (documents / "Anna.vcf").write_bytes(contacts.vcard_30("Hacked", "+491700000001"))
        phone.note(ANNA)
        assert phone.scan().notes[0].chat == "+491700000001"

    def test_the_first_of_several_counts(self, phone: Phone, tmp_path: Path) -> None:
        """What the settings name counts before what lies about, in the order it is named; all of them are used."""
        (tmp_path / "one.csv").write_text("+491700000001,First\n")
        (tmp_path / "two.vcf").write_bytes(contacts.vcard_30("Second", "+491700000001") + contacts.vcard_30("Ben", "+491700000002"))
        contacts.wa_db(phone.root / "wa.db", [{"jid": ANNA, "display_name": "Third"}, {"jid": CLARA, "display_name": "Clara"}])
        for chat in (ANNA, BEN, CLARA):
            phone.note(chat)
        assert [note.chat for note in phone.scan(tmp_path / "one.csv", tmp_path / "two.vcf").notes] == ["First", "Ben", "Clara"]

    def test_the_emptied_list_of_a_backup_is_said(self, phone: Phone) -> None:
        """WhatsApp empties its contacts in backups: the person learns it, and what helps."""
        contacts.wa_db(phone.root / "Databases/wa.db", [])
        phone.note(ANNA)
        assert phone.scan().summary.warnings == [
            "Databases/wa.db names nobody: WhatsApp empties it in every backup: export the phone's contacts as a vCard (.vcf)"
        ]

    def test_a_list_that_says_what_another_said_is_no_fault(self, phone: Phone, tmp_path: Path) -> None:
        """The same address book twice, in two formats, is used once and nothing is said of it."""
        (tmp_path / "book.vcf").write_bytes(contacts.vcard_30("Anna", "+491700000001"))
        (tmp_path / "book.csv").write_text("+491700000001,Anna\n")
        phone.note(ANNA)
        found = phone.scan(tmp_path / "book.vcf", tmp_path / "book.csv")
        assert (found.notes[0].chat, found.summary.warnings) == ("Anna", [])

    def test_a_named_list_that_is_away_is_a_problem(self, phone: Phone, tmp_path: Path) -> None:
        """The notes are taken without names, and the night is not called complete."""
        phone.note(ANNA)
        found = phone.scan(tmp_path / "gone.vcf")
        assert found.notes[0].chat == "+491700000001"
        assert found.summary.problems == [Problem(str(tmp_path / "gone.vcf"), "the contacts that were named are not there")]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"SQLite format 3\0" + b"\xff" * 5000,
            b"SQLite format 3\0",
            b"BEGIN:VCARD\n" * 1000,
            b"BEGIN:VCARD\nTEL:" + b"9" * 3_000_000 + b"\nFN:" + b"x" * 3_000_000,
            b"Row: 0 display_name=, data1=, data4=, mimetype=\n" * 3,
            b"\xff\xfe\0",
            b'"' * 300_000,
            bytes(range(256)) * 100,
        ],
    )
    def test_a_list_of_anything_else_costs_nothing(self, phone: Phone, content: bytes) -> None:
        """Empty, damaged or hostile lists name nobody; one warning says so, and every note is there."""
        (phone.root / "wa.db").write_bytes(content)
        (phone.root / "book.vcf").write_bytes(content)
        phone.note(ANNA)
        found = phone.scan()
        assert (found.notes[0].chat, found.summary.problems) == ("+491700000001", [])
        assert len(found.summary.warnings) == 2

    def test_links_and_pipes_are_not_opened(self, phone: Phone, tmp_path: Path) -> None:
        """A list that is a link is passed over, a pipe does not block, in the store and when named."""
        (tmp_path / "elsewhere.vcf").write_bytes(contacts.vcard_30("Anna", "+491700000001"))
        (phone.root / "book.vcf").symlink_to(tmp_path / "elsewhere.vcf")
        os.mkfifo(phone.root / "pipe.vcf")
        os.mkfifo(tmp_path / "named.vcf")
        phone.note(ANNA)
        found = phone.scan(tmp_path / "named.vcf")
        assert found.notes[0].chat == "+491700000001"
        assert found.summary.problems == [Problem(str(tmp_path / "named.vcf"), "not an ordinary file")]

    def test_a_hostile_name_is_data(self, phone: Phone, tmp_path: Path) -> None:
        """A name is one line of at most 1,000 characters, and otherwise as it is."""
        (tmp_path / "book.vcf").write_bytes(contacts.vcard_30("\x1b[2J\u202eevil", "+491700000001"))
        (tmp_path / "more.vcf").write_bytes(contacts.vcard_30("x" * 5000, "+491700000002"))
        phone.note(ANNA)
        phone.note(BEN)
        found = phone.scan(tmp_path / "book.vcf", tmp_path / "more.vcf")
        assert [note.chat for note in found.notes] == ["\x1b[2J\u202eevil", "x" * 1000]

    def test_everything_is_read_from_a_folder_that_cannot_be_written(self) -> None:
        """On read-only media names are found just the same, and nothing changes."""
        with as_ordinary_user() as folder:
            phone = Phone(Store(folder / "WhatsApp"))
            phone.note(ANNA)
            phone.database.close()
            contacts.wa_db(phone.root / "Databases/wa.db", [{"jid": ANNA, "display_name": "Anna"}])
            for path in [phone.root, *phone.root.rglob("*")]:
                path.chmod(0o500 if path.is_dir() else 0o400)
            before = everything(phone.root)
            found = scan(phone.root)
            assert (found.notes[0].chat, found.summary.problems, everything(phone.root)) == ("Anna", [], before)
            for path in [phone.root, *phone.root.rglob("*")]:
                path.chmod(0o700)


def test_names_that_come_later_reach_the_archive_and_stay(tmp_path: Path) -> None:
    """A list of contacts in the settings names what was archived without it, and no audio is read again; a night without undoes nothing."""
    world = World(tmp_path)
    phone = Phone(Store(world.folder / "phone/WhatsApp"))
    phone.note(ANNA)
    phone.note(FAMILY, sender=BEN)
    phone.database.close()
    (world.folder / "people.csv").write_text("+491700000001,Anna\n+491700000002,Ben\n")
    settings = f'[sources.phone]\npath = "phone"\n[destinations.here]\npath = "{world.repo}"\n'
    world.configure(settings)
    world.backup("init")
    told, read = [], []
    for contacts_line in ("", 'contacts = "people.csv"\n', ""):
        world.configure(settings.replace('path = "phone"\n', f'path = "phone"\n{contacts_line}'))
        read.append(world.run()["bytes_read"])
        told.append([(record["chat"], record["sender"], record["message_id"]) for record in world.records()])
    assert told[0] == [("+491700000001", "+491700000001", "K0"), (FAMILY, "+491700000002", "K1")]
    assert told[1] == told[2] == [("Anna", "Anna", "K0"), (FAMILY, "Ben", "K1")]
    assert read[0] > 0
    assert read[1:] == [0, 0]
    assert len(world.files()) == 2
