from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from mlx_lm.tokenizer_utils import load as load_tokenizer

from mlxbridge.host.engine.text.detokenize import ByteDetokenizer, Vocabulary, WindowDetokenizer
from tests.host.engine.tiny import (
    TEXTS,
    byte_level_tokenizer,
    metaspace_tokenizer,
    save_tokenizer,
    spm_tokenizer,
)

FAMILIES: dict[str, tuple[Callable[[], Any], type]] = {
    "byte-level": (byte_level_tokenizer, ByteDetokenizer),
    "spm": (spm_tokenizer, ByteDetokenizer),
    "other": (metaspace_tokenizer, WindowDetokenizer),
}


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make, expected = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(make(), folder)
    wrapper = load_tokenizer(folder)
    assert isinstance(Vocabulary(wrapper).detokenizer(), expected)
    return wrapper


def pieces(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    detokenizer = Vocabulary(tokenizer).detokenizer()
    return [*(detokenizer.push(token) for token in ids), detokenizer.flush()]


def decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize("text", [*TEXTS, " leading space", "\ufffd is a character too"])
def test_pieces_add_up_to_decode_and_hold_whole_characters(tokenizer: Any, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    got = pieces(tokenizer, ids)
    assert "".join(got) == decode(tokenizer, ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in got)


def test_pieces_of_random_tokens_add_up_to_decode(tokenizer: Any) -> None:
    rng = random.Random(1)
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    # Loose bytes are left out: how many replacement characters they make is not promised.
    whole = [
        i for i, name in enumerate(names) if not name.startswith("<0x") and decode(tokenizer, [i]).isascii()
    ]
    for _ in range(200):
        ids = rng.choices(whole, k=20)
        assert "".join(pieces(tokenizer, ids)) == decode(tokenizer, ids)


def test_pieces_of_any_bytes_add_up_for_byte_level(tmp_path: Path) -> None:
    save_tokenizer(byte_level_tokenizer(), tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    rng = random.Random(2)
    for _ in range(500):
        ids = rng.choices(range(len(tokenizer)), k=12)
        assert "".join(pieces(tokenizer, ids)) == decode(tokenizer, ids)


def test_broken_character_is_flushed_at_the_end_only(tokenizer: Any) -> None:
    ids = tokenizer.encode("a€", add_special_tokens=False)[:-1]
    *shown, flushed = pieces(tokenizer, ids)
    assert "".join(shown).strip() == "a"
    assert set(flushed) == {"\ufffd"}


def test_special_and_unknown_tokens_have_no_text(tokenizer: Any) -> None:
    eos, unknown = tokenizer.eos_token_id, len(tokenizer) + 7
    ids = tokenizer.encode("the fox", add_special_tokens=False)
    got = pieces(tokenizer, [eos, *ids[:2], eos, unknown, *ids[2:], eos])
    assert "".join(got) == decode(tokenizer, ids)


def test_window_does_not_grow(tmp_path: Path) -> None:
    save_tokenizer(metaspace_tokenizer(), tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    detokenizer = Vocabulary(tokenizer).detokenizer()
    assert isinstance(detokenizer, WindowDetokenizer)
    for token in [tokenizer.eos_token_id, *tokenizer.encode("the € fox " * 3), 3 + 0xFF] * 20:
        detokenizer.push(token)
        assert len(detokenizer._window) <= 16


def test_markers_of_reasoning_stay_visible(tmp_path: Path) -> None:
    raw = byte_level_tokenizer()
    raw.add_special_tokens(["<think>", "</think>", "<|other|>"])
    save_tokenizer(raw, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    ids = [tokenizer.convert_tokens_to_ids(name) for name in ("<think>", "<|other|>", "</think>", "</s>")]
    assert "".join(pieces(tokenizer, ids)) == "<think></think>"


def test_bytes_of_a_token_are_those_of_its_text(tokenizer: Any) -> None:
    vocabulary = Vocabulary(tokenizer)
    for name, text in (("e", b"e"), ("ow", b"ow"), ("</s>", b"")):
        assert vocabulary.bytes_of(tokenizer.convert_tokens_to_ids(name)) == text


def test_names_spell_what_tokens_stand_for(tokenizer: Any) -> None:
    vocabulary = Vocabulary(tokenizer)
    if not vocabulary.has_bytes:
        assert isinstance(vocabulary.detokenizer(), WindowDetokenizer)
        return
    spelled = vocabulary.spell(vocabulary.names(), 400)
    assert len(spelled) == 400 and spelled[399] == b""
    assert spelled == [vocabulary.bytes_of(token) for token in range(400)]
    assert all(spelled[token] == b"" for token in tokenizer.all_special_ids)


def test_literal_text_has_every_space(tokenizer: Any) -> None:
    vocabulary = Vocabulary(tokenizer)
    ids = tokenizer.encode(" the dog", add_special_tokens=False)
    detokenizer = vocabulary.detokenizer(is_literal=True)
    text = "".join([*(detokenizer.push(token) for token in ids), detokenizer.flush()])
    if vocabulary.has_bytes:
        assert text.encode() == b"".join(vocabulary.bytes_of(token) for token in ids)
    assert text.lstrip() == "the dog"
