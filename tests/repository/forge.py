"""Repositories written by hand, byte by byte, for tests: sound, odd and hostile. Shares no code with the program.

A forge holds the master key's three secrets and the folder, and puts objects there as restic's design document lays them out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import zstandard
from cryptography.hazmat.primitives import poly1305
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def seal(secrets: tuple[bytes, bytes, bytes], plain: bytes, iv: bytes | None = None) -> bytes:
    encrypt, k, r = secrets
    iv = os.urandom(16) if iv is None else iv
    ciphertext = Cipher(algorithms.AES(encrypt), modes.CTR(iv)).encryptor().update(plain)
    nonce = Cipher(algorithms.AES(k), modes.ECB()).encryptor().update(iv)  # noqa: S305
    mac = poly1305.Poly1305(r + nonce)
    mac.update(ciphertext)
    return iv + ciphertext + mac.finalize()


def unseal(secrets: tuple[bytes, bytes, bytes], sealed: bytes) -> bytes:
    return Cipher(algorithms.AES(secrets[0]), modes.CTR(sealed[:16])).decryptor().update(sealed[16:-16])


def open_key(path: Path, password: str) -> bytes:
    """The master key, as its JSON, that a key file holds for this password (restic's design document, Keys)."""
    file = json.loads(path.read_bytes())
    return unseal(_derive(password, file), base64.b64decode(file["data"]))


def cheapen(repository: Path, password: str) -> None:
    """Put the master key of the one key file into another that takes no time to open with the same password.

    A key file as programs make it costs a tenth of a second each time.
    """
    (old,) = (repository / "keys").iterdir()
    plain, fields = open_key(old, password), json.loads(old.read_bytes()) | {"N": 1024}
    new = json.dumps(fields | {"data": base64.b64encode(seal(_derive(password, fields), plain)).decode()}).encode()
    old.unlink()
    (repository / "keys" / sha(new)).write_bytes(new)


def secrets_of(master: bytes) -> tuple[bytes, bytes, bytes]:
    """(encryption key, k and r of the MAC) of a master key."""
    key = json.loads(master)
    return base64.b64decode(key["encrypt"]), base64.b64decode(key["mac"]["k"]), base64.b64decode(key["mac"]["r"])


def _derive(password: str, file: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    salt, cost = base64.b64decode(file["salt"]), {name: file[name] for name in ("r", "p")}
    key = hashlib.scrypt(password.encode(), salt=salt, n=file["N"], **cost, maxmem=2**30, dklen=64)
    return key[:32], key[32:48], key[48:]


def node(name: str, **fields: Any) -> dict[str, Any]:
    """A node with what restic always writes; `name` as it stands in the JSON text, quoted or not."""
    time = "2026-01-02T03:04:05Z"
    given = {"name": name, "type": "file", "mode": 384, "mtime": time, "atime": time, "ctime": time, "uid": 0, "gid": 0, "content": []}
    if fields.get("type") == "dir":
        given["content"] = None
    return given | fields


class Forge:
    """Writes objects into a repository's folder."""

    def __init__(self, folder: Path, secrets: tuple[bytes, bytes, bytes]) -> None:
        self.folder = folder
        self.secrets = secrets
        self.blobs: list[tuple[str, bytes, bytes, int]] = []

    def put(self, kind: str, data: bytes, name: str | None = None) -> str:
        name = name or sha(data)
        path = self.folder / kind / (f"{name[:2]}/{name}" if kind == "data" else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return name

    def sealed_json(self, kind: str, value: Any, *, packed: bool = True) -> str:
        plain = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        if packed:
            plain = b"\x02" + zstandard.ZstdCompressor().compress(plain)
        return self.put(kind, seal(self.secrets, plain))

    def blob(self, kind: str, plain: bytes, *, id: str | None = None, packed: bool | bytes = False, raw_length: int | None = None) -> str:
        """Remember a blob for the next pack; `packed` may be the compressed bytes themselves, `id` and `raw_length` may be lies."""
        inner = packed if isinstance(packed, bytes) else zstandard.ZstdCompressor().compress(plain) if packed else plain
        raw = (len(plain) if raw_length is None else raw_length) if packed else 0
        id = id or sha(plain)
        self.blobs.append((kind, bytes.fromhex(id), seal(self.secrets, inner), raw))
        return id

    def tree(self, nodes: list[dict[str, Any]] | None, **lies: Any) -> str:
        text = json.dumps({"nodes": nodes}, ensure_ascii=False, separators=(",", ":")) + "\n"
        return self.blob("tree", text.encode(), **lies)

    def pack(self, *, index: bool = True) -> tuple[str, list[dict[str, Any]]]:
        """One pack of all remembered blobs: its name, and its blobs as an index describes them."""
        body, header, described = b"", b"", []
        for kind, id, sealed, raw in self.blobs:
            code = {"data": 0, "tree": 1}[kind] | (2 if raw else 0)
            header += struct.pack("<BI", code, len(sealed)) + (struct.pack("<I", raw) if raw else b"") + id
            described.append({"id": id.hex(), "type": kind, "offset": len(body), "length": len(sealed)})
            if raw:
                described[-1]["uncompressed_length"] = raw
            body += sealed
        self.blobs = []
        sealed_header = seal(self.secrets, header)
        name = self.put("data", body + sealed_header + struct.pack("<I", len(sealed_header)))
        if index:
            self.index({"packs": [{"id": name, "blobs": described}]})
        return name, described

    def index(self, value: Any) -> str:
        return self.sealed_json("index", value)

    def snapshot(self, tree: str, **fields: Any) -> str:
        return self.sealed_json(
            "snapshots", {"time": "2026-01-02T03:04:05.123456789Z", "tree": tree, "paths": ["/x"], "hostname": "h"} | fields
        )
