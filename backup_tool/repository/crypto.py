"""Sealing and opening of bytes, and keys from passwords: the only file here that knows the cryptography library.

    sealed = IV (16 bytes) || AES-256-CTR ciphertext || Poly1305-AES tag (16 bytes)

as in restic's design document, section "Keys, Encryption and MAC"; Poly1305-AES after D. J. Bernstein, "The Poly1305-AES
message-authentication code": the one-time key is the secret r, then AES-128 of the IV under the secret k.
"""

from __future__ import annotations

import os
import threading

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.poly1305 import Poly1305

Buffer = bytes | bytearray | memoryview

IV_SIZE = 16
TAG_SIZE = 16
OVERHEAD = IV_SIZE + TAG_SIZE

ENCRYPT_SIZE = 32
MAC_K_SIZE = 16
MAC_R_SIZE = 16
DERIVED_SIZE = ENCRYPT_SIZE + MAC_K_SIZE + MAC_R_SIZE

# The bits of r that Poly1305 uses (RFC 8439, section 2.5). Some programs store r cut down to them, others do not.
_R_BITS = bytes.fromhex("ffffff0ffcffff0ffcffff0ffcffff0f")


class BrokenSeal(Exception):
    """The bytes were not sealed with this key, or were changed since. Callers turn it into an error that names the object."""


class Key:
    """Three secrets that seal and open: `encrypt` (32 bytes), `mac_k` (16) and `mac_r` (16). May be used from several threads."""

    __slots__ = ("_aes", "_local", "encrypt", "mac_k", "mac_r")

    def __init__(self, encrypt: bytes, mac_k: bytes, mac_r: bytes) -> None:
        """Raises ValueError for a secret of the wrong length, or of zeros only (in r, the bits that Poly1305 uses)."""
        if (len(encrypt), len(mac_k), len(mac_r)) != (ENCRYPT_SIZE, MAC_K_SIZE, MAC_R_SIZE):
            raise ValueError("a secret of the wrong length")
        if not (any(encrypt) and any(mac_k) and any(a & b for a, b in zip(mac_r, _R_BITS, strict=True))):
            raise ValueError("a secret of zeros")
        self.encrypt = encrypt
        self.mac_k = mac_k
        self.mac_r = mac_r
        self._aes = AES(encrypt)
        self._local = threading.local()

    @classmethod
    def random(cls) -> Key:
        """A new key."""
        secrets = os.urandom(DERIVED_SIZE)
        return cls(secrets[:32], secrets[32:48], secrets[48:])

    def __repr__(self) -> str:
        return "Key(***)"

    def _contexts(self) -> tuple[CipherContext, CipherContext]:
        # Making these two takes longer than sealing a small blob, and neither may be shared between threads: each thread keeps its own.
        try:
            made: tuple[CipherContext, CipherContext] = self._local.contexts
        except AttributeError:
            counter = Cipher(self._aes, CTR(bytes(IV_SIZE))).encryptor()
            # Not used for hiding anything: Poly1305-AES encrypts single blocks, and that is what ECB of one block is.
            block = Cipher(AES(self.mac_k), ECB()).encryptor()  # noqa: S305
            made = self._local.contexts = (counter, block)
        return made

    def seal(self, plain: Buffer) -> tuple[bytes, bytes, bytes]:
        """(IV, ciphertext, tag), to be stored one after the other: in three parts, since joining would copy every recording once more."""
        return self._seal(os.urandom(IV_SIZE), plain)

    def _seal(self, iv: bytes, plain: Buffer) -> tuple[bytes, bytes, bytes]:
        counter, block = self._contexts()
        counter.reset_nonce(iv)
        ciphertext = counter.update(plain)
        return iv, ciphertext, Poly1305.generate_tag(self.mac_r + block.update(iv), ciphertext)

    def sealed(self, plain: Buffer) -> bytes:
        """`seal` in one piece."""
        return b"".join(self.seal(plain))

    def open(self, sealed: Buffer) -> bytes:
        """What was sealed. The tag is verified first. Raises BrokenSeal."""
        if len(sealed) < OVERHEAD:
            raise BrokenSeal("too short to hold a seal")
        view = memoryview(sealed)
        iv = bytes(view[:IV_SIZE])
        if not any(iv):
            raise BrokenSeal("its IV is zero")
        counter, block = self._contexts()
        try:
            Poly1305.verify_tag(self.mac_r + block.update(iv), view[IV_SIZE:-TAG_SIZE], bytes(view[-TAG_SIZE:]))
        except InvalidSignature:
            raise BrokenSeal("its seal is broken") from None
        counter.reset_nonce(iv)
        return counter.update(view[IV_SIZE:-TAG_SIZE])


def derive(password: bytes, salt: bytes, n: int, r: int, p: int) -> Key:
    """The key of a password: scrypt (RFC 7914), 64 bytes, cut into the three secrets. The caller has bounded the parameters."""
    secrets = Scrypt(salt=salt, length=DERIVED_SIZE, n=n, r=r, p=p).derive(password)
    return Key(secrets[:32], secrets[32:48], secrets[48:])
