"""What the command line makes of an answer."""

from __future__ import annotations

import io
import json

import pytest

from mlxbridge.answers import describe, harmless, plain, print_answers, print_json, print_logprobs
from mlxbridge.types import Generation, TokenLogprob, TokenLogprobs, Usage

EURO = "€".encode()


def generation(*tokens: TokenLogprobs, text: str = "") -> Generation:
    return Generation(
        text=text,
        token_ids=[token.chosen.token_id for token in tokens],
        model="m",
        finish_reason="stop",
        prompt_tokens=3,
        completion_tokens=len(tokens),
        tokens_per_second=0.0,
        time_to_first_token=0.25,
        usage=Usage(finish_reason="stop", prompt_tokens=3, completion_tokens=len(tokens)),
        logprobs=list(tokens) or None,
    )


HALF = TokenLogprobs(
    TokenLogprob(7, -0.5, EURO[:2]), (TokenLogprob(2, -0.125, b""), TokenLogprob(8, -3.0, b' "\n'))
)


def test_parts_of_characters_and_tokens_without_text_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_logprobs(generation(HALF))
    assert capsys.readouterr().out == '\n"\ufffd" -0.50 of 2 -0.12, " \\"\\n" -3.00\n'


def test_json_keeps_the_bytes_that_make_no_character() -> None:
    (token,) = json.loads(json.dumps(plain(generation(HALF))))["logprobs"]
    assert (token["text"], bytes(token["bytes"])) == ("\ufffd", EURO[:2])
    assert token["top"][0] == {"token_id": 2, "logprob": -0.125, "text": "", "bytes": []}


def test_json_has_the_fields_of_a_generation() -> None:
    said = plain(generation(text="hello"))
    assert list(said) == list(Generation.__dataclass_fields__)
    assert (said["text"], said["logprobs"], said["usage"]["prompt_tokens"]) == ("hello", None, 3)


def test_answers_are_told_apart_and_one_alone_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    print_answers([generation(text="one\nline"), generation(text="two")])
    assert capsys.readouterr().out == "--- 1 of 2\none\nline\n--- 2 of 2\ntwo\n"
    print_answers([generation(text="one")])
    assert capsys.readouterr().out == "one\n"


def test_answer_of_one_step_has_no_speed() -> None:
    assert describe(generation(HALF)) == "1 tokens, one step, first token after 250 ms, ended by stop"


class Screen(io.StringIO):
    """A terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_terminal_obeys_no_text_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "a\x1b[2J\tb\x9b5m\r\nc\rd\x7f€👨\u200d👩"
    assert harmless(evil) == evil  # as it is, where it goes into a file or a pipe
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    print_answers([generation(text=evil)])
    assert screen.getvalue() == "a\\x1b[2J\tb\\x9b5m\nc\\rd\\x7f€👨\u200d👩\n"
    print_json(evil)
    printed = screen.getvalue().splitlines()[-1]
    assert json.loads(printed) == evil and printed.isprintable()
    token = TokenLogprobs(TokenLogprob(7, -0.5, "\x9b".encode()), ())
    print_logprobs(generation(token))
    assert screen.getvalue().endswith('\n"\\x9b" -0.50\n')
