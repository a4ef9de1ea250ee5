from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import ContextTooLong, InvalidArgument, ModelLoadFailed
from mlxbridge.host.embeddings.tokenizer import MAX_CHARS, TextTokenizer, TokenizerSettings
from tests.host.embeddings.checkpoints import VOCABULARY, VOCABULARY_SIZE, save_tokenizer

CLS, SEP, UNKNOWN = VOCABULARY["[CLS]"], VOCABULARY["[SEP]"], VOCABULARY["[UNK]"]
CAT, DOG, SAT = VOCABULARY["cat"], VOCABULARY["dog"], VOCABULARY["sat"]


def make(folder: Path, *, vocabulary_size: int = VOCABULARY_SIZE, **settings: Any) -> TextTokenizer:
    return TextTokenizer(
        folder,
        name="mine",
        max_tokens=6,
        vocabulary_size=vocabulary_size,
        settings=TokenizerSettings(**settings),
    )


@pytest.fixture
def tokenizer(tmp_path: Path) -> TextTokenizer:
    save_tokenizer(tmp_path)
    return make(tmp_path)


def test_texts_have_special_tokens_and_no_padding(tokenizer: TextTokenizer) -> None:
    short, long = tokenizer.encode(["cat", "cat sat dog Cat"], ["a", "b"], truncate=False)
    assert short.ids == [CLS, CAT, SEP] and len(short) == 3
    assert long.ids == [CLS, CAT, SAT, DOG, UNKNOWN, SEP] and long.type_ids == [0] * 6


def test_pairs_have_types(tokenizer: TextTokenizer) -> None:
    (pair,) = tokenizer.encode_pairs("cat", ["dog sat"], ["a"], truncate=False)
    assert pair.ids == [CLS, CAT, SEP, DOG, SAT, SEP] and pair.type_ids == [0, 0, 0, 1, 1, 1]


def test_text_without_tokens_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, "post_processor": None}))
    with pytest.raises(InvalidArgument, match="b has no tokens"):
        make(tmp_path).encode(["cat", " "], ["a", "b"], truncate=False)


def test_too_long_text_is_refused_with_both_numbers(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ContextTooLong, match="b has 7 tokens, but mine takes 6") as caught:
        tokenizer.encode(["cat", "cat " * 5], ["a", "b"], truncate=False)
    assert caught.value.details == {"field": "b", "num_tokens": 7, "max_tokens": 6}


def test_truncated_text_keeps_its_special_tokens(tokenizer: TextTokenizer) -> None:
    (cut,) = tokenizer.encode(["cat dog sat cat dog sat"], ["a"], truncate=True)
    assert cut.ids == [CLS, CAT, DOG, SAT, CAT, SEP]


def test_truncated_pair_loses_the_end_of_the_longer_text(tokenizer: TextTokenizer) -> None:
    (cut,) = tokenizer.encode_pairs("cat", ["dog sat sat sat sat"], ["a"], truncate=True)
    assert cut.ids == [CLS, CAT, SEP, DOG, SAT, SEP]


def test_truncating_is_forgotten(tokenizer: TextTokenizer) -> None:
    tokenizer.encode(["cat " * 9], ["a"], truncate=True)
    with pytest.raises(ContextTooLong):
        tokenizer.encode(["cat " * 9], ["a"], truncate=False)


def test_endless_text_is_not_read(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ContextTooLong, match="characters"):
        tokenizer.encode(["a" * (MAX_CHARS + 1)], ["a"], truncate=True)


def test_half_a_character_is_named(tokenizer: TextTokenizer) -> None:
    with pytest.raises(InvalidArgument, match="half a character") as caught:
        tokenizer.encode(["cat", "\ud83d"], ["a", "b"], truncate=False)
    assert caught.value.details == {"field": "b"}


def test_token_without_a_row_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    small = make(tmp_path, vocabulary_size=CAT)
    with pytest.raises(InvalidArgument, match=f"token {CAT}"):
        small.encode(["cat"], ["a"], truncate=False)


def test_ids_are_taken_as_they_are(tokenizer: TextTokenizer) -> None:
    assert tokenizer.fit_ids([CAT, 0], "a", truncate=False).ids == [CAT, 0]
    assert tokenizer.fit_ids(list(range(9)), "a", truncate=True).ids == list(range(6))
    with pytest.raises(ContextTooLong):
        tokenizer.fit_ids([CAT] * 7, "a", truncate=False)


@pytest.mark.parametrize("ids", [[], [-1], [CAT, VOCABULARY_SIZE], [2**70]])
def test_wrong_ids_are_refused(tokenizer: TextTokenizer, ids: list[int]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        tokenizer.fit_ids(ids, "a", truncate=False)
    assert caught.value.details == {"field": "a"}


def test_lowercasing_comes_first(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    lower = make(tmp_path, lowercases=True)
    assert lower.encode(["CAT"], ["a"], truncate=False)[0].ids == [CLS, CAT, SEP]


def test_damaged_or_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=r"lacks tokenizer\.json"):
        make(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelLoadFailed, match="damaged"):
        make(tmp_path)


def test_tokens_that_should_be_added_must_be(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    make(tmp_path, first_token="[CLS]", last_token="[SEP]")
    with pytest.raises(ModelLoadFailed, match=r"'\[EOS\]' is added"):
        make(tmp_path, last_token="[EOS]")
    with pytest.raises(ModelLoadFailed, match=r"'\[BOS\]' is added"):
        make(tmp_path, first_token="[BOS]")
