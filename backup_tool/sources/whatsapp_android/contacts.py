"""What the owner of a phone calls people: saved contacts, from whichever list there is.

- `wa.db`, WhatsApp's own, from a phone that was opened. In every backup its table of contacts is empty.
- vCards (`.vcf`), which every phone's address book exports.
- a CSV file with a telephone number and a name in each line.
- what `adb shell content query --uri content://com.android.contacts/data --projection display_name:data1:data4:mimetype` prints.

A number that was typed with its country is that number. One without may be anybody's who has the same digits in another country: it counts
only where a single number of the database is the same behind its country.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sqlite3
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from backup_tool.models import Problem
from backup_tool.names import path_text, shown
from backup_tool.sources.base import FileUnreadable, Summary
from backup_tool.sources.sqlite import Opener, copied, open_named, opened
from backup_tool.sources.tree import Tree, text_of, why
from backup_tool.sources.whatsapp_android.people import OWN_NAME, Who, is_person, phone_number
from backup_tool.sources.whatsapp_android.schema import PHONE_SERVER, WA_CONTACTS, WA_VERIFIED, Schema
from backup_tool.sources.whatsapp_android.vcard import read_vcards

# How good a name is: given by the owner, made of a contact's parts, chosen by the person, or a firm's that WhatsApp has verified.
_SAVED, _PARTS, _OWN, _VERIFIED = range(4)
_LONGEST_NAME = 1000
_LONGEST_LINE = 2**20
_MOST_BYTES, _MOST_NAMES, _MOST_FILES = 2**30, 500_000, 100
_LARGEST_UTF16 = 2**26
_SQLITE = b"SQLite format 3\0"
_WA_DB = re.compile(r"wa\b.*\.db", re.IGNORECASE)
_ROW = re.compile(r"Row: \d+ (.*)", re.DOTALL)
_FIELD = re.compile(r"(?:^|, )(display_name|data1|data4|mimetype)=")
_WHATSAPP_PROFILE = re.compile(r"vnd\.android\.cursor\.item/vnd\.com\.whatsapp\b.*\.profile")
_PHONE = "vnd.android.cursor.item/phone_v2"
_TYPED = re.compile(r"[^;,#*A-Za-z]*")
_NO_NAME = re.compile(r"[+\d\s().-]*")
_FEWEST_DIGITS, _MOST_DIGITS = 7, 20
# Country codes of two digits (ITU-T E.164, list of assigned codes); 1 and 7 have one digit, all others three.
_TWO_DIGITS = re.compile(r"2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]")
_TAKES = "it takes a vCard (.vcf), lines of number,name, a filled wa.db, or what 'adb shell content query' prints"


class Contacts:
    """Names by address and by number. Of several for one person, the first that was read counts among equally good ones."""

    def __init__(self) -> None:
        self._by_address: dict[str, tuple[int, int, str]] = {}
        self._typed: dict[tuple[str, str], tuple[int, int, str]] = {}
        """Each with how good the name is, then how early it was read."""
        self.offered = 0
        """How many names were read, of whomever."""

    def add_address(self, address: str, name: object, quality: int = _SAVED) -> None:
        """A name for an address of WhatsApp."""
        text = _clean(name)
        if not text or self.offered >= _MOST_NAMES:
            return
        self.offered += 1
        if address not in self._by_address or quality < self._by_address[address][0]:
            self._by_address[address] = (quality, self.offered, text)

    def add_number(self, typed: str, name: object) -> None:
        """A name for a telephone number as a person typed it."""
        text, number = _clean(name), _number(typed)
        if text and number and self.offered < _MOST_NAMES:
            self.offered += 1
            self._typed.setdefault(number, (_SAVED, self.offered, text))

    def give_names(self, people: Iterable[Who]) -> None:
        """Name everyone who is known here."""
        everyone = list({id(who): who for who in people if is_person(who.id)}.values())
        numbers = {number for known in {id(who.numbers): who.numbers for who in everyone}.values() for number in known}
        meant = self._meant(numbers)
        for who in everyone:
            found = [names[address] for names in (self._by_address, meant) for address in who.addresses if address in names]
            if found:
                quality, _, name = min(found)
                who.name = OWN_NAME + name if quality == _OWN else name

    def _meant(self, numbers: set[str]) -> dict[str, tuple[int, int, str]]:
        """The names of addresses, for all typed numbers that can be told: exact ones first, then those that leave no doubt."""
        names: dict[str, tuple[int, int, str]] = {}
        unclear = []
        for (prefix, digits), name in self._typed.items():
            if prefix != "0" and digits in numbers:
                names[f"{digits}@{PHONE_SERVER}"] = name
            else:
                unclear.append((prefix, digits, name))
        ending = defaultdict[str, list[str]](list)
        for number in numbers if unclear else ():
            ending[number[-_FEWEST_DIGITS:]].append(number)
        for prefix, digits, name in unclear:
            fitting = [number for number in ending[digits[-_FEWEST_DIGITS:]] if _may_be(number, prefix, digits)]
            if len(fitting) == 1:
                names.setdefault(f"{fitting[0]}@{PHONE_SERVER}", name)
        return names


def _may_be(number: str, prefix: str, digits: str) -> bool:
    """True where a number of WhatsApp's may be the typed one: the same but for mobile digits, or with its country before it."""
    if prefix == "+":
        return _same(number) == _same(digits)
    length = 1 if number[:1] in ("1", "7") else 2 if _TWO_DIGITS.match(number) else 3
    return number[length:].lstrip("0") == digits or _same(number) == _same(number[:length] + digits)


def _same(number: str) -> str:
    """A number without the digit that marks a mobile one in Brazil, Argentina and Mexico: WhatsApp's addresses have it or not."""
    if len(number) == 13 and number.startswith("55") and number[4] == "9":
        return number[:4] + number[5:]
    if len(number) == 13 and number.startswith(("549", "521")):
        return number[:2] + number[3:]
    return number


def _number(typed: str) -> tuple[str, str] | None:
    """("+", digits with country), ("0", digits without it), ("", digits that may be either); None for what is no telephone number."""
    text = typed.strip().removeprefix("tel:").replace("\uff0b", "+").strip()
    text = (_TYPED.match(text) or [""])[0]
    plus = text.startswith("+") or text.startswith("00")
    digits = "".join(str(int(c)) for c in (text.replace("(0)", "") if plus else text) if c.isdecimal())
    if text.startswith("00"):
        digits = digits[2:]
    prefix = "+" if plus else "0" if digits.startswith("0") else ""
    digits = digits.lstrip("0") if prefix == "0" else digits
    return (prefix, digits) if _FEWEST_DIGITS <= len(digits) <= _MOST_DIGITS else None


def _clean(name: object) -> str:
    """A name in one line; empty where it is none, or only the number again."""
    text = " ".join(name[: 4 * _LONGEST_NAME].split())[:_LONGEST_NAME] if isinstance(name, str) else ""
    return "" if _NO_NAME.fullmatch(text) else text


class ContactFiles:
    """Reads lists of contacts, of whatever kind: what a list is, its content says."""

    def __init__(self, workdir: Path, summary: Summary) -> None:
        self.contacts = Contacts()
        self._workdir = workdir
        self._summary = summary

    def read_named(self, path: Path) -> None:
        """A list that the person named: what is wrong with it is a problem."""
        shown_path = path_text(os.fsencode(path))
        try:
            self._read(shown_path, partial(open_named, path, "the contacts that were named are not there"))
        except FileUnreadable as error:
            self._summary.problems.append(Problem(shown_path, str(error)))

    def read_found(self, tree: Tree, folders: Iterable[str]) -> None:
        """The `wa.db` and vCards that lie in these folders of a store."""
        for path in _lists_in(tree, folders):
            try:
                self._read(text_of(path), partial(_open_found, tree, path))
            except FileUnreadable as error:
                self._summary.warnings.append(f"the contacts in {shown(text_of(path))} were not used: {error}")

    def _read(self, path: str, opener: Opener) -> None:
        before = self.contacts.offered
        handle = opener("")
        assert handle is not None
        with io.BufferedReader(io.FileIO(handle), 2**16) as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise FileUnreadable("not an ordinary file")
            if found.st_size > _MOST_BYTES:
                raise FileUnreadable(f"larger than {_MOST_BYTES // 2**30} GiB")
            try:
                is_database = file.peek(16)[:16] == _SQLITE
                if not is_database:
                    read_text(file, self.contacts)
            except OSError as error:
                raise FileUnreadable(why(error)) from None
        if is_database:
            self._read_database(opener)
        if self.contacts.offered == before:
            cure = "WhatsApp empties it in every backup: export the phone's contacts as a vCard (.vcf)" if is_database else _TAKES
            self._summary.warnings.append(f"{shown(path)} names nobody: {cure}")

    def _read_database(self, opener: Opener) -> None:
        try:
            with copied(opener, self._workdir) as copy, opened(copy) as connection:
                read_wa_db(Schema(connection), self.contacts)
        except sqlite3.Error as error:
            raise FileUnreadable(f"damaged ({error})") from None


def _lists_in(tree: Tree, folders: Iterable[str]) -> list[str]:
    databases, cards = [], []
    for path in sorted(set(folders)):
        for folder in tree.walk(path, Summary()):
            names = [entry.name for entry in folder.files]
            databases += [folder.below(name) for name in names if _WA_DB.fullmatch(name)]
            cards += [folder.below(name) for name in names if name.lower().endswith((".vcf", ".vcard"))]
            break
    return [*databases, *cards][:_MOST_FILES]


def _open_found(tree: Tree, path: str, beside: str) -> int | None:
    location = tree.location(path + beside)
    return None if beside and not os.path.lexists(location) else tree.open_file(location)


def read_wa_db(schema: Schema, contacts: Contacts) -> None:
    """Add what WhatsApp's own list says. Raises sqlite3.Error where it is damaged."""
    columns = ("jid", "display_name", "given_name", "family_name", "wa_name")
    for jid, saved, given, family, own in schema.rows(WA_CONTACTS, *columns):
        if isinstance(jid, str):
            contacts.add_address(jid, saved, _SAVED)
            contacts.add_address(jid, " ".join(part for part in (given, family) if isinstance(part, str) and part), _PARTS)
            contacts.add_address(jid, own, _OWN)
    for jid, verified in schema.rows(WA_VERIFIED, "jid", "verified_name"):
        if isinstance(jid, str):
            contacts.add_address(jid, verified, _VERIFIED)


def read_text(file: io.BufferedReader[Any], contacts: Contacts) -> None:
    """Add what a text file of any kind says. Raises OSError where it cannot be read."""
    lines: Iterator[bytes] = _lines(file)
    start = file.peek(4096)[:4096]
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = file.read(_LARGEST_UTF16).decode("utf-16", "replace")
        lines, start = _lines(io.BytesIO(text.encode())), text[:4096].encode("utf-8", "replace")
    reader: Callable[[Iterator[bytes], Contacts], None] = _read_csv
    if b"BEGIN:VCARD" in start.upper():
        reader = _read_cards
    elif start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"Row: "):
        reader = _read_adb
    reader(lines, contacts)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.readline(_LONGEST_LINE), b"")


def _read_cards(lines: Iterator[bytes], contacts: Contacts) -> None:
    for card in read_vcards(lines):
        for number in card.whatsapp:
            contacts.add_address(f"{number}@{PHONE_SERVER}", card.name)
        for typed in card.numbers:
            contacts.add_number(typed, card.name)


def _read_csv(lines: Iterator[bytes], contacts: Contacts) -> None:
    """Number, then name; separated by comma, semicolon or tab, whichever the line has first. A heading has no number."""
    for line in lines:
        text = _decoded(line)
        separator = min((mark for mark in ",;\t" if mark in text), key=text.index, default=",")
        try:
            row = next(csv.reader([text], delimiter=separator), [])
        except csv.Error:
            continue
        if len(row) >= 2:
            _add(contacts, row[0], row[1])


def _read_adb(lines: Iterator[bytes], contacts: Contacts) -> None:
    """Values are unquoted and may hold commas: each goes on until the next name of a column."""
    for line in lines:
        row = _ROW.fullmatch(_decoded(line).rstrip("\r\n"))
        if not row:
            continue
        pieces = _FIELD.split(row[1])
        values = {name: value for name, value in zip(pieces[1::2], pieces[2::2], strict=True) if value != "NULL"}
        kind, name = values.get("mimetype", ""), values.get("display_name", "")
        if _WHATSAPP_PROFILE.fullmatch(kind):
            _add(contacts, values.get("data1", ""), name)
        elif kind == _PHONE:
            _add(contacts, values.get("data4") or values.get("data1", ""), name)


def _add(contacts: Contacts, who: str, name: str) -> None:
    if phone_number(who.strip()) or who.strip().endswith("@lid"):
        contacts.add_address(who.strip(), name)
    else:
        contacts.add_number(who, name)


def _decoded(line: bytes) -> str:
    line = line.removeprefix(b"\xef\xbb\xbf")
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")
