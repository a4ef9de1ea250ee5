from itertools import islice
from typing import Any

import pytest
from tokenizers import Tokenizer

from bench.demo_model import corpus, evaluate
from bench.demo_model.tokenizer import ASSISTANT, END, SPECIALS, SYSTEM, USER, encode

TEXTS = (
    'Reverse "planet"',
    "The capital of São Tomé and Príncipe is São Tomé.",
    "1, 2, 3, 10, -42 = 17+25",
    "日本語 🚀🍎 ʻokina naïve  two spaces\nnew line ",
)


@pytest.mark.parametrize("text", TEXTS)
def test_decode_any_text_gives_it_back(demo: Any, text: str) -> None:
    assert demo.tokenizer.decode(demo.tokenizer.encode(text)) == text


def test_encode_quoted_word_gives_letters(demo: Any) -> None:
    pieces = demo.tokenizer.convert_ids_to_tokens(demo.tokenizer.encode('Reverse "planet"'))
    assert pieces[-8:] == ['Ġ"', *"planet", '"'][-8:]


def test_encode_digits_stand_alone(demo: Any) -> None:
    vocabulary = demo.tokenizer.get_vocab()
    assert [piece for piece in vocabulary if len(piece) > 1 and any(char.isdigit() for char in piece)] == []


def test_encode_characters_outside_ascii_are_bytes(demo: Any) -> None:
    assert len(demo.tokenizer.encode("🚀")) == 4
    assert len(demo.tokenizer.encode("é")) == 2


def test_template_renders_roles_in_order(demo: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Hello \n"},
        {"role": "assistant", "content": "Hello! How can I help you?"},
        {"role": "user", "content": [{"type": "text", "text": "2 + 3"}]},
    ]
    text = demo.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        f"{SYSTEM}Be brief.{END}{USER}Hello{END}{ASSISTANT}Hello! How can I help you?{END}{USER}2 + 3{END}{ASSISTANT}"
    )


def test_template_unknown_role_is_refused(demo: Any) -> None:
    with pytest.raises(Exception, match="not tool"):
        demo.tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_specials_are_the_first_ids(demo: Any) -> None:
    assert demo.tokenizer.convert_tokens_to_ids(list(SPECIALS)) == list(range(len(SPECIALS)))
    assert demo.tokenizer.eos_token_ids == {0}


def test_encode_dialogue_equals_chat_template(demo: Any, demo_folder: Any) -> None:
    raw = Tokenizer.from_file(str(demo_folder / "tokenizer.json"))
    dialogues = [dialogue for dialogue in islice(corpus.training(9, 0), 200) if not dialogue.is_plain]
    for dialogue, (ids, is_target) in zip(dialogues, encode(raw, dialogues), strict=True):
        prompt = evaluate.prompt(demo.tokenizer, dialogue)
        assert ids[: len(prompt)] == prompt
        assert is_target[len(prompt) - 1] is False
        assert all(is_target[len(prompt) :])
