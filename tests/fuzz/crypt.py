"""The readers of encrypted databases: headers, keys, whole files, and what a right key unpacks. Nothing wrong is ever let through."""

from __future__ import annotations

import tempfile
import zlib
from contextlib import suppress
from pathlib import Path

from backup_tool.sources.whatsapp_android.encrypted import HEADER_BYTES, NotOpened, decrypt, read_header
from backup_tool.sources.whatsapp_android.keys import BadKey, parse_key
from tests.fuzz import Target
from tests.generators.crypt import PhoneKeys, crypt12, crypt14, crypt15

_PHONE = PhoneKeys(1)
_PLAIN = b"SQLite format 3\0" + bytes(200) + b"a little database"
_KEYS = [parse_key(_PHONE.root), parse_key(_PHONE.key_file)]
_FILES = [
    crypt12(_PLAIN, _PHONE),
    crypt14(_PLAIN, _PHONE),
    crypt14(_PLAIN, _PHONE, info=b"", md5=False),
    crypt15(_PLAIN, _PHONE),
    crypt15(_PLAIN, _PHONE, packed=False, passkey=True),
]


def _header(data: bytes) -> None:
    with suppress(NotOpened):
        header = read_header(data[:HEADER_BYTES])
        assert len(header.iv) == 16
        assert header.start <= HEADER_BYTES


def _key(data: bytes) -> None:
    with suppress(BadKey):
        assert len(parse_key(data).aes) == 32


def _file(data: bytes) -> bytes | None:
    """What comes of a whole file; None where it does not open, and then nothing was written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "copy").write_bytes(data)
        try:
            header = read_header(data[:HEADER_BYTES])
            decrypt(folder / "copy", header, filter(header.fits, _KEYS), folder / "target", most=2**22)
        except NotOpened:
            assert not (folder / "target").exists()
            return None
        return (folder / "target").read_bytes()


def _only_what_was_sealed(data: bytes) -> None:
    assert _file(data) in (None, _PLAIN)


def _inside(data: bytes) -> None:
    """What is inside may be anything, too: it was sealed with the right key."""
    opened = _file(crypt15(data, _PHONE, packed=False))
    assert opened is None or opened.startswith(b"SQLite format 3\0")


TARGETS: dict[str, Target] = {
    "header": (_header, _FILES),
    "key": (
        _key,
        [_PHONE.key_file, _PHONE.key_array, _PHONE.root_file, _PHONE.root, _PHONE.digits.encode(), _PHONE.digits.encode("utf-16")],
    ),
    "file": (_only_what_was_sealed, _FILES),
    "inside": (_inside, [_PLAIN, zlib.compress(_PLAIN), zlib.compress(_PLAIN * 2000), b"PK\x03\x04messages.bin", b"{}"]),
}
