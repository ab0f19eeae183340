"""The trusted device's half of a prompt whose code never leaves it: SPAKE2+ (RFC 9383) over P-256, keyed by the six digits on its screen.

The digits become w0 and w1 through scrypt (n = 2^14, r = 8, p = 1; 32 bytes each). Both sides send a share and then prove that they have
the same key; a browser into which other digits were typed fails there, and the server never learns which. With that key the device sends
over, sealed with AES-GCM, a second code that the browser gives to idmsa.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Point = tuple[int, int] | None

PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CONTEXT, BROWSER, DEVICE = b"SPAKE2Web", b"com.apple.security.webprover", b"com.apple.security.webverifier"


def decoded(data: bytes) -> Point:
    """A point of the curve from its SEC 1 form. ValueError for one that is none."""
    numbers = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data).public_numbers()
    return numbers.x, numbers.y


def encoded(point: Point) -> bytes:
    assert point is not None
    return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def added(left: Point, right: Point) -> Point:
    if left is None or right is None:
        return left or right
    (x1, y1), (x2, y2) = left, right
    if x1 == x2 and (y1 + y2) % PRIME == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, PRIME) if left == right else (y2 - y1) * pow(x2 - x1, -1, PRIME)
    x = (slope * slope - x1 - x2) % PRIME
    return x, (slope * (x1 - x) - y1) % PRIME


def times(factor: int, point: Point) -> Point:
    total: Point = None
    for bit in bin(factor % ORDER)[2:]:
        total = added(total, total)
        if bit == "1":
            total = added(total, point)
    return total


# RFC 9383 section 4: M and N for P-256; SEC 2 section 2.4.2: G.
M = decoded(bytes.fromhex("02886e2f97ace46e55ba9dd7242579f2993b64e16ef3dcab95afd497333d8fa12f"))
N = decoded(bytes.fromhex("03d8bbd6c639c62937b04d997f38c3770719c629d7014d49a24b4f98baa1292b49"))
G = decoded(bytes.fromhex("036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"))


def key(secret: bytes, info: bytes, length: int = 32) -> bytes:
    return HKDF(SHA256(), length, None, info).derive(secret)


@dataclass
class Device:
    """One prompt. `digits` are on its screen; `code` is what idmsa wants in the end."""

    digits: str
    code: str
    salt: bytes = b""
    confirmation: bytes = b""
    shared: bytes = b""

    def __post_init__(self) -> None:
        self.salt = secrets.token_bytes(16)

    def answer(self, browser_share: bytes) -> tuple[bytes, bytes]:
        """Our share, and the proof that we have the key. ValueError for a share that is no point."""
        stretched = hashlib.scrypt(self.digits.encode(), salt=self.salt, n=1 << 14, r=8, p=1, dklen=64)
        w0, w1 = int.from_bytes(stretched[:32], "big"), int.from_bytes(stretched[32:], "big")
        y, x_share = 1 + secrets.randbelow(ORDER - 1), decoded(browser_share)
        share = encoded(added(times(y, G), times(w0, N)))
        z = times(y, added(x_share, times(ORDER - w0 % ORDER, M)))
        v = times(y, times(w1, G))
        points = [encoded(M), encoded(N), browser_share, share, encoded(z), encoded(v)]
        parts = [CONTEXT, BROWSER, DEVICE, *points, w0.to_bytes((w0.bit_length() + 7) // 8, "big")]
        transcript = hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).digest()
        keys = key(transcript, b"ConfirmationKeys", 64)
        self.confirmation = hmac.digest(keys[:32], share, "sha256")
        self.shared = key(transcript, b"SharedKey")
        return share, hmac.digest(keys[32:], browser_share, "sha256")

    def sealed_code(self, proof: bytes) -> str | None:
        """The code for the browser, if its proof is right."""
        if not self.confirmation or not hmac.compare_digest(proof, self.confirmation):
            return None
        nonce, version = secrets.token_bytes(12), b"\0"
        sealed = AESGCM(key(self.shared, b"webVerifier")).encrypt(nonce, self.code.encode(), version)
        return base64.b64encode(version + nonce + sealed[-16:] + sealed[:-16]).decode()
