from __future__ import annotations

import pytest

from mlxbridge.host.engine.prefixes.part_file import Damaged, file_bytes, seal, unseal

DIGEST, FORM = bytes(range(16)), bytes(range(16, 32))
PAYLOAD = [memoryview(b"some keys"), memoryview(b""), memoryview(b"and values")]


def sealed() -> bytearray:
    return bytearray(b"".join(seal(DIGEST, FORM, PAYLOAD)))


def test_what_is_sealed_is_read_back_without_a_copy() -> None:
    data = sealed()
    assert len(data) == file_bytes(19)
    payload = unseal(memoryview(data), DIGEST, FORM)
    assert bytes(payload) == b"some keysand values"
    data[-5] ^= 1
    assert payload[-1] == ord("s") ^ 1


def test_every_flipped_bit_is_found() -> None:
    data = sealed()
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged, match="check sum"):
            unseal(memoryview(data), DIGEST, FORM)
        data[bit // 8] ^= 1 << bit % 8
    unseal(memoryview(data), DIGEST, FORM)


def test_another_part_or_another_form_is_refused_though_it_is_whole() -> None:
    data = memoryview(sealed())
    for digest, form in ((FORM, FORM), (DIGEST, DIGEST)):
        with pytest.raises(Damaged, match="another part, or one of another form"):
            unseal(data, digest, form)


def test_bytes_that_were_never_written_are_found() -> None:
    """What a power cut may leave: a file of its length, with nothing in it."""
    with pytest.raises(Damaged, match="check sum"):
        unseal(memoryview(bytes(file_bytes(19))), DIGEST, FORM)
