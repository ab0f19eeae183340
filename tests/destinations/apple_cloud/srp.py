"""The server's half of SRP-6a as Apple uses it: RFC 5054's 2048-bit group, SHA-256, the user name not part of x.

The password never reaches the server: it keeps salt and verifier, and proves with M2 that it has the latter. The key that x is made from is
PBKDF2-HMAC-SHA-256 of the password's SHA-256: of its 32 bytes (`s2k`), or of its hexadecimal text (`s2k_fo`).

Clients differ in numbers that begin with a zero byte, as happens in one of 85 sign-ins: pyicloud leaves that byte out of its proof, rclone
does not. Which of them Apple takes is not known; here both are right. pyicloud's library drops a salt's leading zero: salts have none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable

N = int(
    "AC6BDB41324A9A9BF166DE5E1389582FAF72B6651987EE07FC3192943DB56050A37329CBB4A099ED8193E0757767A13DD52312AB4B03310DCD7F48A9DA04FD50"
    "E8083969EDB767B0CF6095179A163AB3661A05FBD5FAAAE82918A9962F0B93B855F97993EC975EEAA80D740ADBF4FF747359D041D5C33EA71D281E446B14773B"
    "CA97B43A23FB801676BD207A436C6481F1D2B9078717461A5B9D32E688F87748544523B524B0D57D5EA77A2775D2ECFA032CFBDBF52FB3786160279004E57AE6"
    "AF874E7303CE53299CCC041C7BC308D82A5698F3A8D0C38271AE35F8E9DBFBB694B5C803D89F7AE435DE236D525F54759B65E372FCD68EF20FA7111F9E4AFF73",
    16,
)
G = 2


def _h(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _short(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _padded(number: int) -> bytes:
    return number.to_bytes(256, "big")


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


class Exchange:
    """One sign-in: made of the account's secret, it offers `challenge` and judges the proof that comes back."""

    def __init__(self, user: str, password: str, protocol: str, a: bytes, iterations: int) -> None:
        self.user, self.protocol, self.iterations = user, protocol, iterations
        self.salt = b"\x01" + secrets.token_bytes(15)
        digest = hashlib.sha256(password.encode()).digest()
        secret = digest if protocol == "s2k" else digest.hex().encode()
        key = hashlib.pbkdf2_hmac("sha256", secret, self.salt, iterations, 32)
        verifier = pow(G, _number(_h(self.salt, _h(b":" + key))), N)
        exponent = secrets.randbits(256)
        self._a = _number(a)
        self._b = (_number(_h(_padded(N), _padded(G))) * verifier + pow(G, exponent, N)) % N
        u = _number(_h(_padded(self._a % N), _padded(self._b)))
        self._secret = pow(self._a * pow(verifier, u, N), exponent, N)

    def challenge(self) -> dict[str, object]:
        """What `signin/init` answers, but for `c`."""
        return {
            "iteration": self.iterations,
            "salt": base64.b64encode(self.salt).decode(),
            "protocol": self.protocol,
            "b": base64.b64encode(_padded(self._b)).decode(),
        }

    def proven(self, m1: bytes, m2: bytes) -> bool:
        """Whether the client knows the password; its own expectation of our proof has to be right, too."""
        if not 0 < self._a < N:
            return False
        return any(self._proven(form, m1, m2) for form in (_short, _padded))

    def _proven(self, form: Callable[[int], bytes], m1: bytes, m2: bytes) -> bool:
        group = bytes(x ^ y for x, y in zip(_h(_padded(N)), _h(_padded(G)), strict=True))
        key, a, b = _h(form(self._secret)), form(self._a), form(self._b)
        expected = _h(group, _h(self.user.encode()), self.salt, a, b, key)
        return hmac.compare_digest(m1, expected) and hmac.compare_digest(m2, _h(a, m1, key))
