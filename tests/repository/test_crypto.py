"""Sealing: the vectors that other implementations agree on, and every way to break a seal."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_tool.repository.crypto import BrokenSeal, Key, derive
from tests.repository import forge

SECRETS = (bytes(range(0x20)), bytes(range(0x20, 0x30)), bytes(range(0x30, 0x40)))
KEY = Key(*SECRETS)
IV = bytes(range(0x40, 0x50))
R_BITS = bytes.fromhex("ffffff0ffcffff0ffcffff0ffcffff0f")


@pytest.mark.parametrize(
    ("plain", "sealed"),
    [
        (b"hello voice", "404142434445464748494a4b4c4d4e4fcb1bb353f87acc80fa18075d1ed89f244b30ae1c2e33e257f43fdd"),
        (b"", "404142434445464748494a4b4c4d4e4f859469c07743c7e45b318d151d3d87e9"),
    ],
)
def test_seal_is_what_restic_writes(plain: bytes, sealed: str) -> None:
    """The same key, IV and text give the bytes that restic gives, whether or not r was cut down to the bits that count."""
    clamped = Key(SECRETS[0], SECRETS[1], bytes(a & b for a, b in zip(SECRETS[2], R_BITS, strict=True)))
    for key in (KEY, clamped):
        assert b"".join(key._seal(IV, plain)).hex() == sealed
        assert key.open(bytes.fromhex(sealed)) == plain


@given(st.binary(max_size=5000))
def test_what_is_sealed_opens_and_another_implementation_agrees(plain: bytes) -> None:
    """Whatever is sealed comes back, here and in a second implementation, in both directions."""
    sealed = KEY.sealed(plain)
    assert len(sealed) == len(plain) + 32
    assert KEY.open(sealed) == forge.unseal(SECRETS, sealed) == plain
    assert KEY.open(forge.seal(SECRETS, plain)) == plain


@given(st.binary(min_size=1, max_size=200), st.integers(min_value=0), st.integers(0, 7))
def test_every_flipped_bit_is_noticed(plain: bytes, position: int, bit: int) -> None:
    """One bit changed anywhere, in IV, text or tag, and nothing opens."""
    sealed = bytearray(KEY.sealed(plain))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(BrokenSeal):
        KEY.open(sealed)


def test_cut_and_zero_seals_are_refused() -> None:
    """What is too short, or has an IV of zeros (however well it is sealed), does not open."""
    for length in (0, 1, 31):
        with pytest.raises(BrokenSeal, match="too short"):
            KEY.open(bytes(length))
    with pytest.raises(BrokenSeal, match="zero"):
        KEY.open(forge.seal(SECRETS, b"text", iv=bytes(16)))


@pytest.mark.parametrize(
    "secrets",
    [
        (bytes(32), SECRETS[1], SECRETS[2]),
        (SECRETS[0], bytes(16), SECRETS[2]),
        (SECRETS[0], SECRETS[1], bytes(16)),
        (SECRETS[0], SECRETS[1], bytes(b ^ 0xFF for b in R_BITS)),
        (SECRETS[0][:16], SECRETS[1], SECRETS[2]),
        (SECRETS[0], SECRETS[1], SECRETS[2] + b"\0"),
    ],
)
def test_no_key_of_zeros_or_of_wrong_length(secrets: tuple[bytes, bytes, bytes]) -> None:
    """A key that would protect nothing is refused."""
    with pytest.raises(ValueError, match="a secret of"):
        Key(*secrets)


def test_no_iv_comes_twice() -> None:
    """Every seal has its own IV, also when threads seal at once: a repeated one would give recordings away."""
    ivs: list[bytes] = []

    def work() -> None:
        ivs.extend([KEY.seal(b"x")[0] for _ in range(25_000)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ivs) == 100_000
    assert len(set(ivs)) == len(ivs)


def test_threads_seal_without_disturbing_each_other() -> None:
    """What several threads seal at once opens in all of them."""
    wrong: list[int] = []

    def work(number: int) -> None:
        for size in range(1, 2000):
            plain = bytes([number]) * size
            if KEY.open(KEY.sealed(plain)) != plain:
                wrong.append(size)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_password_key_is_scrypt() -> None:
    """The key of a password is the 64 bytes that other implementations derive."""
    key = derive("pässword".encode(), bytes(64), 1024, 8, 1)
    derived = (key.encrypt + key.mac_k + key.mac_r).hex()
    assert derived.startswith("d09fd28443b34c24aa19af0c2438bbc2")
    assert derived.endswith("febdbd261d68f682331")


def test_a_key_shows_nothing() -> None:
    """A key that gets into a log or a traceback gives nothing away."""
    assert repr(KEY) == str(KEY) == "Key(***)"
