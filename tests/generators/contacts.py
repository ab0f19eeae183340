"""Lists of contacts as phones and address books write them: vCards of three versions, `wa.db`, and the output of Android's provider."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path


def quoted_printable(text: str, charset: str = "utf-8", width: int = 60) -> str:
    """RFC 2045, section 6.7, every byte escaped as Android does it, with soft line breaks."""
    escaped = [f"={byte:02X}" for byte in text.encode(charset)]
    a_line = width // 3
    return "=\r\n".join("".join(escaped[at : at + a_line]) for at in range(0, len(escaped), a_line))


def vcard_21(name: str, *numbers: str, charset: str = "UTF-8") -> bytes:
    """As Android exports: quoted-printable names, bare parameters, a picture in base64 that ends with "="."""
    lines = ["BEGIN:VCARD", "VERSION:2.1"]
    encoding = f";CHARSET={charset};ENCODING=QUOTED-PRINTABLE"
    family, _, given = name.rpartition(" ")[::-1]
    lines.append(f"N{encoding}:{quoted_printable(family, charset)};{quoted_printable(given, charset)};;;")
    lines.append(f"FN{encoding}:{quoted_printable(name, charset)}")
    lines += [f"TEL;CELL;PREF:{number}" for number in numbers]
    lines += ["PHOTO;ENCODING=BASE64;JPEG:/9j/4AAQSkZJRgABAQ", " TEL:000000000", " AAAA==", "", "END:VCARD", ""]
    return "\r\n".join(lines).encode("ascii")


def vcard_30(name: str, *numbers: str, width: int = 20) -> bytes:
    """As iCloud and Google export: UTF-8, folded within characters, groups, escaped commas."""
    escaped = name.replace("\\", "\\\\").replace(",", "\\,").replace(";", "\\;")
    lines = [f"FN:{escaped}", f"N:;{escaped};;;"]
    lines += [f"item{at}.TEL;type=CELL;type=VOICE;type=pref:{number}" for at, number in enumerate(numbers, 1)]
    body = b"".join(_folded(line.encode(), width) for line in lines)
    return b"BEGIN:VCARD\r\nVERSION:3.0\r\nPRODID:-//Apple Inc.//iCloud//EN\r\n" + body + b"END:VCARD\r\n"


def vcard_40(name: str, *numbers: str) -> bytes:
    """RFC 6350: telephone numbers as URIs, parameters in quotes."""
    tel = "".join(f'TEL;VALUE=uri;PREF=1;TYPE="voice,cell":tel:{number};ext=5\n' for number in numbers)
    return f"BEGIN:VCARD\nVERSION:4.0\nFN:{name}\n{tel}END:VCARD\n".encode()


def _folded(line: bytes, width: int) -> bytes:
    pieces = [line[:width], *(line[at : at + width - 1] for at in range(width, len(line), width - 1))]
    return b"\r\n ".join(pieces) + b"\r\n"


def wa_db(path: Path, rows: Iterable[Mapping[str, object]], verified: Iterable[tuple[str, str]] = ()) -> Path:
    """`wa.db` with these contacts; without any, as it lies in a backup."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    columns = ("jid", "number", "display_name", "given_name", "family_name", "wa_name", "nickname", "sort_name", "company")
    connection.execute(f"CREATE TABLE wa_contacts (_id INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(f'{name} TEXT' for name in columns)})")
    connection.execute("CREATE TABLE wa_vnames (_id INTEGER PRIMARY KEY, jid TEXT, serial INTEGER, verified_name TEXT)")
    for row in rows:
        connection.execute(f"INSERT INTO wa_contacts ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    connection.executemany("INSERT INTO wa_vnames (jid, verified_name) VALUES (?, ?)", verified)
    connection.close()
    return path


def provider_row(number: int, **values: str) -> str:
    """A line that `adb shell content query` prints."""
    order = ("display_name", "data1", "data4", "mimetype")
    return f"Row: {number} " + ", ".join(f"{name}={values.get(name, 'NULL')}" for name in order)
