"""The readers of an Android phone's databases and of lists of contacts: whatever is in them, only what they document is raised."""

from __future__ import annotations

import io
import sqlite3
import tempfile
from pathlib import Path

from backup_tool.sources.sqlite import opened
from backup_tool.sources.whatsapp_android.contacts import Contacts, read_text, read_wa_db
from backup_tool.sources.whatsapp_android.legacy import name_in, path_in
from backup_tool.sources.whatsapp_android.people import Who
from backup_tool.sources.whatsapp_android.rows import chats_of, missing_note, read_rows
from backup_tool.sources.whatsapp_android.schema import Schema
from tests.fuzz import Target
from tests.generators import contacts
from tests.generators.legacy_msgstore import LegacyMsgstore, media_data
from tests.generators.msgstore import Msgstore

_ANNA, _LID, _FAMILY = "491700000001@s.whatsapp.net", "98765432109876@lid", "120363000000000001@g.us"
_FILE = "Media/WhatsApp Voice Notes/202610/PTT-20260303-WA0007.opus"


def _read_messages(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "copy.db")
        path.write_bytes(data)
        try:
            with opened(path) as connection:
                schema = Schema(connection)
                rows = list(read_rows(schema, "")) if schema.readable else []
                list(schema.newest_moments())
        except sqlite3.Error:
            return None
    return chats_of(rows), [missing_note(row) for row in rows]


def _read_names(data: bytes) -> object:
    names = Contacts()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "copy.db")
        path.write_bytes(data)
        try:
            with opened(path) as connection:
                read_wa_db(Schema(connection), names)
        except sqlite3.Error:
            return None
    return _named(names)


def _read_list(data: bytes) -> object:
    names = Contacts()
    read_text(io.BufferedReader(io.BytesIO(data)), names)
    return _named(names)


def _named(names: Contacts) -> list[Who]:
    numbers = ["491700000001", "551112345678", "393331234567"]
    people = [Who(f"{number}@s.whatsapp.net", number, (f"{number}@s.whatsapp.net", _LID), numbers) for number in numbers]
    names.give_names(people)
    assert all(who.name for who in people)
    return people


def _read_object(data: bytes) -> object:
    found = path_in(data)
    assert found is None or found.encode("utf-8") is not None
    return found, name_in(data.decode("latin-1"))


def _databases() -> list[bytes]:
    """A newer database, an older one, and one that is both."""
    with tempfile.TemporaryDirectory() as folder:
        new = _filled(Path(folder, "new.db"))
        old = LegacyMsgstore(Path(folder, "old.db"))
        old.chat(_FAMILY, "Family")
        old.message(_FAMILY, "A", sent=1400000000000, sender=_ANNA, file=_FILE, data=b"x", media_name="AUD-20140513-WA0001.mp3")
        both = _filled(Path(folder, "both.db"))
        LegacyMsgstore.beside(both).message(_ANNA, "A", sent=1400000000000, file=_FILE)
        return [path.read_bytes() for path in (new.close(), old.close(), both.close())]


def _filled(path: Path) -> Msgstore:
    new = Msgstore(path, later=True)
    family = new.chat(_FAMILY, subject="Family")
    new.map_lid(_LID, _ANNA)
    new.name_lid(_LID, "Anna A.")
    new.change_number(family, _ANNA, "491700000077@s.whatsapp.net")
    new.message(family, "A", sent=1772546700123, sender=_LID, file=_FILE, data=b"x", media_duration=7, raw_transcription_text="hello")
    new.view_once(new.message(new.chat(_LID), "B", sent=1772546700124, type_=82, transferred=0), 1)
    return new


def _wa_db() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"jid": _ANNA, "display_name": "Anna", "wa_name": "annie"}, {"jid": _LID, "given_name": "A", "family_name": "B"}]
        return contacts.wa_db(Path(folder, "wa.db"), rows, [(_ANNA, "Bakery")]).read_bytes()


_PROFILE = "vnd.android.cursor.item/vnd.com.whatsapp.profile"
_LISTS = [
    contacts.vcard_21("Jürgen Müller", "+491700000001", charset="ISO-8859-1") + contacts.vcard_30("Ben, Bob", "0170 0000001", width=9),
    contacts.vcard_40("Jürgen", "+49-170-0000001") + b"BEGIN:VCARD\nORG:A;B\nTEL;waid=491700000001:x\n",
    contacts.vcard_30("Jürgen", "+491700000001").decode().encode("utf-16"),
    b'number,name\n+55 11 91234-5678,"Adler, Anna"\n0039 333 1234567;x\n',
    contacts.provider_row(0, display_name="Adler, Anna", data1=_ANNA, mimetype=_PROFILE).encode(),
    contacts.provider_row(1, display_name="B", data1="0170", data4="+491700000001", mimetype="vnd.android.cursor.item/phone_v2").encode(),
]

TARGETS: dict[str, Target] = {
    "messages": (_read_messages, _databases()),
    "names": (_read_names, [_wa_db()]),
    "lists": (_read_list, _LISTS),
    "java": (_read_object, [media_data(_FILE), media_data("/storage/emulated/0/WhatsApp/Media/🎤.mp3")]),
}
