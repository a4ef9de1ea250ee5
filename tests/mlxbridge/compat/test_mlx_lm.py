"""The drop-in beside mlx_lm itself, on the same model: field by field, and examples of mlx_lm's documentation."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from math import isclose
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm import sample_utils as their_sample_utils

from mlxbridge import Client
from mlxbridge.compat import mlx_lm as drop_in
from mlxbridge.compat.mlx_lm import batches, sample_utils
from mlxbridge.compat.mlx_lm.generation import Segments
from mlxbridge.errors import DeadlineExceeded, ModelNotFound, UsageError
from mlxbridge.guest import default
from mlxbridge.types import Outcome, Usage
from tests.integration.hosts import run_host

ours: Any = drop_in  # called in ways that a type checker would not allow
original_package: Any = mlx_lm
DEMO = Path(__file__).parents[3] / "host/models/demo"
CONFIG = """
[models.demo]
aliases = ["mlx-community/Mistral-7B-Instruct-v0.3-4bit", "mlx-community/Llama-3.2-3B-Instruct-4bit"]
sampling = { temperature = 1.5, top_p = 0.5, repetition_penalty = 1.5, stop = ["1"] }
"""
SUM = [{"role": "user", "content": "What is 27 + 15?"}]
COUNT = [{"role": "user", "content": "Count from 1 to 20."}]
PROMPTS: list[Any] = ["The capital of France is", "What is 27 + 15?", "é", SUM, COUNT]
SAME = ("text", "token", "from_draft", "prompt_tokens", "generation_tokens", "finish_reason")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    config = tmp_path_factory.mktemp("config") / "config.toml"
    config.write_text(CONFIG)
    with run_host("unix", "--config", str(config), models=()) as host, host.client(timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def pair(client: Client) -> Any:
    return ours.load("demo", client=client)


@pytest.fixture(scope="module")
def original() -> Any:
    loaded: Any = mlx_lm.load(str(DEMO))
    return loaded


def same_fields(responses: Any) -> list[tuple[Any, ...]]:
    return [tuple(getattr(response, name) for name in SAME) for response in responses]


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
@pytest.mark.parametrize("max_tokens", [1, 7, 70])
def test_responses_are_those_of_mlx_lm(pair: Any, original: Any, prompt: Any, max_tokens: int) -> None:
    if not isinstance(prompt, str):
        rendered = original[1].apply_chat_template(prompt, add_generation_prompt=True)
        assert pair[1].apply_chat_template(prompt, add_generation_prompt=True) == rendered
        prompt = rendered
    mine = same_fields(ours.stream_generate(*pair, prompt, max_tokens=max_tokens))
    assert mine == same_fields(original_package.stream_generate(*original, prompt, max_tokens=max_tokens))
    assert ours.generate(*pair, prompt, max_tokens=max_tokens) == "".join(text for text, *_ in mine)


def test_answer_without_a_bound_has_each_token_once(pair: Any, original: Any) -> None:
    chat = pair[1].apply_chat_template(SUM, add_generation_prompt=True)
    mine = same_fields(ours.stream_generate(*pair, chat, max_tokens=-1))
    assert mine == same_fields(original_package.stream_generate(*original, chat, max_tokens=-1))

    endless = ours.make_logits_processors(logit_bias=dict.fromkeys(pair[1].eos_token_ids, -1e4))
    prompt = [65] * 1000  # which leaves little of the context
    responses = list(ours.stream_generate(*pair, prompt, max_tokens=-1, logits_processors=endless))
    count = len(responses)
    assert [response.generation_tokens for response in responses] == [*range(1, count + 1)] and count > 1
    assert [response.finish_reason for response in responses] == [None] * (count - 1) + ["length"]
    bounded = list(ours.stream_generate(*pair, prompt, max_tokens=count, logits_processors=endless))
    assert same_fields(responses) == same_fields(bounded)


def test_logits_processors_mean_the_same(pair: Any, original: Any) -> None:
    settings: dict[str, Any] = {
        "logit_bias": {22: 3.0, 30: -2.0},
        "repetition_penalty": 1.3,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
        "frequency_context_size": 5,
    }
    prompt = original[1].apply_chat_template(COUNT, add_generation_prompt=True)
    mine = ours.stream_generate(
        *pair, prompt, max_tokens=40, logits_processors=ours.make_logits_processors(**settings)
    )
    processors = their_sample_utils.make_logits_processors(**settings)
    theirs = original_package.stream_generate(*original, prompt, max_tokens=40, logits_processors=processors)
    assert same_fields(mine) == same_fields(theirs)


def test_logprobs_are_those_of_the_likeliest(pair: Any, original: Any) -> None:
    prompt = "Once upon"
    mine = list(ours.stream_generate(*pair, prompt, max_tokens=5, top_logprobs=3))
    theirs = list(original_package.stream_generate(*original, prompt, max_tokens=5))
    for response, reference in zip(mine, theirs, strict=True):
        assert len(response.logprobs) >= 3
        for token in response.logprobs:
            assert isclose(response.logprobs[token], float(reference.logprobs[token]), abs_tol=0.02)
        with pytest.raises(UsageError, match="a larger top_logprobs"):
            response.logprobs[next(token for token in range(100) if token not in list(response.logprobs))]
        with pytest.raises(AttributeError, match="no array"):
            _ = response.logprobs.shape
    (response,) = ours.stream_generate(*pair, prompt, max_tokens=1)
    with pytest.raises(UsageError, match="give top_logprobs"):
        response.logprobs[response.token]


def test_batches_are_those_of_mlx_lm(pair: Any, original: Any, capsys: pytest.CaptureFixture[str]) -> None:
    chats = [[{"role": "user", "content": f"What is {number} + 15?"}] for number in (27, 8, 40)]
    prompts = [pair[1].apply_chat_template(chat, add_generation_prompt=True) for chat in chats]
    wanted: dict[str, Any] = {"max_tokens": [30, 4, 30], "return_token_ids": True, "return_logprobs": True}
    mine = ours.batch_generate(*pair, prompts, verbose=True, **wanted)
    assert "[batch_generate] Finished processing 3/3" in capsys.readouterr().out
    theirs = original_package.batch_generate(*original, prompts, **wanted)
    assert (mine.texts, mine.token_ids, mine.caches) == (theirs.texts, theirs.token_ids, theirs.caches)
    for one, other in zip(mine.logprobs or (), theirs.logprobs or (), strict=True):
        assert one == pytest.approx(other, abs=0.02)
    for name in ("prompt_tokens", "generation_tokens", "generation_steps"):
        assert getattr(mine.stats, name) == getattr(theirs.stats, name)
    assert mine.stats.wall_time == pytest.approx(
        mine.stats.prompt_time + mine.stats.decode_time + mine.stats.overhead_time
    )
    assert {name for name in dir(theirs.stats) if name[0] != "_"} == {
        name for name in dir(mine.stats) if name[0] != "_"
    }


def test_fields_and_parameters_have_the_same_names() -> None:
    theirs_too = sys.modules["mlx_lm.generate"]  # mlx_lm.generate is the function
    assert [one.name for one in fields(ours.GenerationResponse)] == [
        one.name for one in fields(theirs_too.GenerationResponse)
    ]
    assert [one.name for one in fields(ours.BatchResponse)] == [
        one.name for one in fields(theirs_too.BatchResponse)
    ]
    for mine, theirs in (
        (ours.load, mlx_lm.load),
        (ours.batch_generate, mlx_lm.batch_generate),
        (ours.make_sampler, their_sample_utils.make_sampler),
        (ours.make_logits_processors, their_sample_utils.make_logits_processors),
    ):
        wanted = [p for p in inspect.signature(theirs).parameters.values() if p.kind is not p.VAR_KEYWORD]
        found = inspect.signature(mine).parameters
        assert [(p.name, p.default) for p in wanted] == [
            (p.name, p.default) for p in list(found.values())[: len(wanted)]
        ]
    refusable = {
        *inspect.signature(theirs_too.generate_step).parameters,
        *("draft_model", "num_draft_tokens"),
    }
    from mlxbridge.compat.mlx_lm import generation

    honoured = {"prompt", "model", "max_tokens", "sampler", "logits_processors"}
    assert refusable - honoured == set(generation._REFUSED)


def test_sampler_draws_as_the_host_does_by_itself(pair: Any, client: Client) -> None:
    prompt = "Once upon a time"
    sampler = ours.make_sampler(temp=1.2, top_p=0.95, top_k=50, min_p=0.01)
    drawn = ours.generate(*pair, prompt, max_tokens=20, sampler=sampler, seed=5)
    alone = client.generate(
        prompt,
        max_tokens=20,
        seed=5,
        temperature=1.2,
        top_p=0.95,
        top_k=50,
        min_p=0.01,
        repetition_penalty=1.0,
        stop=[],
    )
    assert drawn == alone.text.removeprefix(" ")
    assert drawn != ours.generate(*pair, prompt, max_tokens=20, sampler=sampler, seed=6)
    spared = pair[1].encode("\n") + list(pair[1].eos_token_ids)
    xtc = ours.make_sampler(temp=1.0, xtc_probability=0.5, xtc_special_tokens=spared)
    assert ours.generate(*pair, prompt, max_tokens=5, sampler=xtc, seed=1)
    with pytest.raises(UsageError, match="xtc_special_tokens"):
        ours.generate(*pair, prompt, sampler=ours.make_sampler(temp=1.0, xtc_probability=0.5))


def test_sampler_that_is_off_is_off() -> None:
    assert ours.make_sampler(temp=0.0, top_p=0.3).options == {"temperature": 0.0}
    assert ours.make_sampler(temp=0.5, top_p=0.0, top_k=0).options == {"temperature": 0.5}
    assert ours.make_sampler(temp=0.5, top_p=1.0, min_p=0.1).options == {"temperature": 0.5, "min_p": 0.1}
    assert ours.make_logits_processors(repetition_penalty=0.0, presence_penalty=None) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sampler": lambda logprobs: mx.argmax(logprobs, axis=-1)}, "sampler: the host runs no code"),
        ({"sampler": their_sample_utils.make_sampler(temp=1.0)}, "sampler: the host runs no code"),
        ({"logits_processors": [lambda tokens, logits: logits]}, "logits_processors: the host runs no code"),
        ({"draft_model": object()}, "draft_model"),
        ({"prompt_cache": []}, "prompt_cache: keys and values stay"),
        ({"kv_bits": 4}, "kv_bits"),
        ({"kv_group_size": 32}, "kv_group_size"),
        ({"max_kv_size": 512}, "max_kv_size"),
        ({"prefill_step_size": 512}, "prefill_step_size"),
        ({"input_embeddings": mx.zeros((1, 2))}, "input_embeddings"),
        ({"prompt_progress_callback": print}, "prompt_progress_callback"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temp": 0.5}, "temp: stream_generate has no such parameter"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_host_cannot_do_is_refused_by_name(pair: Any, options: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        ours.generate(*pair, "x", **options)
    assert caught.value.details["field"] == named.partition(":")[0]


def test_defaults_of_mlx_lm_may_be_said(pair: Any, original: Any) -> None:
    said: dict[str, Any] = {
        "max_kv_size": None,
        "prompt_cache": None,
        "prefill_step_size": 2048,
        "kv_bits": None,
        "kv_group_size": 64,
        "quantized_kv_start": 5000,
        "draft_model": None,
    }
    assert ours.generate(*pair, "27 + 15", max_tokens=3, **said) == ours.generate(
        *pair, mx.array(pair[1].encode("27 + 15")), max_tokens=3
    )


NO_LIST: Any = ours.make_logits_processors(repetition_penalty=1.1)[0]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda pair: ours.batch_generate(*pair, ["text"]), "prompts"),
        (lambda pair: ours.batch_generate(*pair, [[1]], max_tokens=[1, 2]), "max_tokens"),
        (lambda pair: ours.batch_generate(*pair, [[1]], return_prompt_caches=True), "return_prompt_caches"),
        (lambda pair: ours.batch_generate(*pair, [[1]], completion_batch_size=4), "completion_batch_size"),
        (lambda pair: ours.batch_generate(*pair, [[1]], max_tokens=None), "max_tokens"),
        (lambda pair: ours.batch_generate(*pair, 5), "prompts"),
        (lambda pair: ours.batch_generate("demo", pair[1], [[1]]), "model"),
        (lambda pair: ours.batch_generate(pair[0], None, [[1]]), "tokenizer"),
        (lambda pair: ours.generate(*pair, "x", logits_processors=NO_LIST), "logits_processors"),
        (lambda pair: ours.load(None), "path_or_hf_repo"),
        (lambda pair: ours.generate(object(), pair[1], "x"), "model"),
        (lambda pair: ours.generate(pair[0], object(), "x"), "tokenizer"),
        (lambda pair: ours.load("demo", trust_remote_code=True, client=pair[0].client), "trust_remote_code"),
        (lambda pair: ours.load("demo", {"eos_token": "x"}, client=pair[0].client), "tokenizer_config"),
        (lambda pair: ours.load("demo", adapter_path="pirate", client=pair[0].client), "adapter_path"),
        (lambda pair: ours.make_sampler(temp=1.0, min_p=0.1, min_tokens_to_keep=3), "min_tokens_to_keep"),
        (lambda pair: pair[1].encode("x", padding=True), "padding"),
        (
            lambda pair: pair[1].apply_chat_template(SUM, continue_final_message=True),
            "continue_final_message",
        ),
    ],
)
def test_so_is_what_is_not_for_generate(pair: Any, call: Any, named: str) -> None:
    with pytest.raises(UsageError, match=f"^{named}: ") as caught:
        call(pair)
    assert caught.value.details["field"] == named


def test_tokenizer_is_the_one_of_mlx_lm(pair: Any, original: Any) -> None:
    mine, theirs = pair[1], original[1]
    for text in ("27 + 15", " é\n東京", "<|user|>Hi<|end|>", ""):
        assert mine.encode(text) == theirs.encode(text)
        ids = theirs.encode(text, add_special_tokens=False)
        assert mine.encode(text, add_special_tokens=False) == ids
        assert mine.decode(ids) == theirs.decode(ids)
        assert mine.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    for options in ({"add_generation_prompt": True}, {"tokenize": False}, {}):
        assert mine.apply_chat_template(SUM, **options) == theirs.apply_chat_template(SUM, **options)
    names = ("eos_token", "eos_token_id", "eos_token_ids", "bos_token", "bos_token_id", "pad_token_id")
    told = ("has_chat_template", "chat_template", "has_tool_calling", "vocab_size")
    for name in (*names, *told):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert len(mine) == len(theirs)
    with pytest.raises(AttributeError, match="there is encode, decode, apply_chat_template"):
        _ = mine.detokenizer
    assert not hasattr(mine, "add_tokens")
    with pytest.raises(AttributeError, match="at the host"):
        _ = pair[0].layers


def test_snippet_of_model_cards_runs(client: Client) -> None:
    model, tokenizer = ours.load("demo", client=client)
    prompt: Any = "What is 27 + 15?"
    if tokenizer.chat_template is not None:
        messages: Any = [{"role": "user", "content": prompt}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ours.generate(model, tokenizer, prompt=prompt, verbose=False) == "27 + 15 = 42."


def test_modules_have_the_names_of_mlx_lms() -> None:
    """What was in ``utils`` in older versions is there, too."""
    older = {"generate", "stream_generate", "get_model_path"}
    for name in ("generate", "utils", "tokenizer_utils", "sample_utils", "models.cache"):
        mine: Any = importlib.import_module(f"mlxbridge.compat.mlx_lm.{name}")
        theirs: Any = importlib.import_module(f"mlx_lm.{name}")
        names = {one for one in dir(mine) if not one.startswith("_") and hasattr(theirs, one)}
        assert {*getattr(mine, "__all__", ())} - names <= older | {"load_tokenizer"}
        assert names, name
    from mlxbridge.compat.mlx_lm.generate import generate, stream_generate
    from mlxbridge.compat.mlx_lm.utils import load

    assert (load, generate, stream_generate) == (ours.load, ours.generate, ours.stream_generate)
    assert inspect.isfunction(ours.generate)


def test_what_is_the_hosts_is_refused_with_what_there_is_in_its_place(pair: Any) -> None:
    from mlxbridge.compat.mlx_lm import generate, tokenizer_utils, utils
    from mlxbridge.compat.mlx_lm.models import cache

    module: Any = sys.modules["mlxbridge.compat.mlx_lm.generate"]
    assert generate is not module
    functions: list[tuple[Callable[[], Any], str]] = [
        (lambda: cache.make_prompt_cache(pair[0]), "the host keeps what it has read by itself"),
        (lambda: cache.load_prompt_cache("prompt.safetensors"), "the host keeps what it has read by itself"),
        (lambda: cache.trim_prompt_cache([], 1), "the host keeps what it has read by itself"),
        (lambda: module.generate_step([1], pair[0]), "stream_generate gives each"),
        (lambda: module.BatchGenerator(pair[0]), "generate_many"),
        (lambda: utils.load_model("demo"), "load gives a handle"),
        (lambda: utils.save_model("x", pair[0]), "the host has the model's files"),
        (lambda: tokenizer_utils.NaiveStreamingDetokenizer(pair[1]), "the host decodes"),
        (lambda: ours.convert("org/model"), "mlx_lm itself converts"),
    ]
    for function, why in functions:
        with pytest.raises(UsageError, match=why) as caught:
            function()
        assert str(caught.value).startswith(caught.value.details["field"])


def test_tokenizer_may_be_asked_for_alone(pair: Any, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxbridge.compat.mlx_lm.tokenizer_utils import TokenizerWrapper, load_tokenizer

    monkeypatch.setattr(default, "_client", client)
    alone = load_tokenizer("demo")
    assert isinstance(alone, TokenizerWrapper) and alone.encode("27 + 15") == pair[1].encode("27 + 15")
    refused: Any = {"eos_token_ids": [1]}
    with pytest.raises(UsageError, match="^eos_token_ids: "):
        load_tokenizer("demo", **refused)


def test_model_is_loaded_when_it_is_asked_for(client: Client) -> None:
    client.unload_model("demo")
    model, tokenizer = ours.load("demo", lazy=True, client=client)
    assert client.list_models()[0].state == "unloaded"
    assert ours.generate(model, tokenizer, "27 + 15", max_tokens=1)
    with pytest.raises(ModelNotFound, match="no/such"):
        ours.load("no/such", client=client)


def test_iterator_that_is_left_ends_the_call(pair: Any, client: Client) -> None:
    answer = ours.stream_generate(*pair, "x", max_tokens=900)
    next(answer)
    answer.close()
    with pytest.raises(DeadlineExceeded):
        ours.generate(*pair, "x", max_tokens=900, timeout=0.001)


def test_text_is_cut_where_mlx_lm_cuts_it() -> None:
    bytewise = Segments("bytes")
    shown = []
    for text in (" ", " a", "", " ", "b", "\ufffd", "c", " "):
        bytewise.push(text)
        shown.append(bytewise.take())
    assert shown == ["", " a", "", "", " b", "", "\ufffdc", ""] and bytewise.finish() == " "
    other = Segments(None)
    other.push(" a")
    assert other.take() == " a"


EXAMPLES = {
    "generate": """
from mlx_lm import load, generate

model, tokenizer = load("mlx-community/Mistral-7B-Instruct-v0.3-4bit")

prompt = "What is 27 + 15?"

messages = [{"role": "user", "content": prompt}]
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True
)

text = generate(model, tokenizer, prompt=prompt, verbose=True)
""",
    "stream": """
from mlx_lm import load, stream_generate

repo = "mlx-community/Mistral-7B-Instruct-v0.3-4bit"
model, tokenizer = load(repo)

prompt = "What is 27 + 15?"

messages = [{"role": "user", "content": prompt}]
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True
)

for response in stream_generate(model, tokenizer, prompt, max_tokens=512):
    print(response.text, end="", flush=True)
print()
""",
    "generate_response": """
from mlx_lm import generate, load

checkpoint = "mlx-community/Mistral-7B-Instruct-v0.3-4bit"
model, tokenizer = load(path_or_hf_repo=checkpoint)
prompt = "What is 27 + 15?"
conversation = [{"role": "user", "content": prompt}]
prompt = tokenizer.apply_chat_template(
    conversation=conversation, add_generation_prompt=True
)
max_tokens = 1_000
verbose = True
response = generate(
    model=model,
    tokenizer=tokenizer,
    prompt=prompt,
    max_tokens=max_tokens,
    verbose=verbose,
)
""",
    "batch_generate_response": """
from mlx_lm import batch_generate, load

checkpoint = "mlx-community/Llama-3.2-3B-Instruct-4bit"
model, tokenizer = load(path_or_hf_repo=checkpoint)
prompts = ["What is 27 + 15?", "What is the capital of France?"]
prompts = [
    tokenizer.apply_chat_template(
        [{"role": "user", "content": p}],
        add_generation_prompt=True,
    )
    for p in prompts
]
result = batch_generate(model, tokenizer, prompts, verbose=False)
print(result.texts[0])
""",
    "modules": """
from mlx_lm.utils import load
from mlx_lm.generate import generate, GenerationResponse
from mlx_lm.tokenizer_utils import TokenizerWrapper

model, tokenizer = load("mlx-community/Mistral-7B-Instruct-v0.3-4bit")
assert isinstance(tokenizer, TokenizerWrapper)
prompt = tokenizer.apply_chat_template([{"role": "user", "content": "What is 27 + 15?"}], add_generation_prompt=True)
print(generate(model, tokenizer, prompt))
""",
    "sampler": """
from mlx_lm import load, generate
from mlx_lm.sample_utils import make_sampler, make_logits_processors

model, tokenizer = load("mlx-community/Mistral-7B-Instruct-v0.3-4bit")
prompt = tokenizer.apply_chat_template([{"role": "user", "content": "What is 27 + 15?"}], add_generation_prompt=True)
sampler = make_sampler(temp=0.01, top_p=0.9)
processors = make_logits_processors(repetition_penalty=1.01, repetition_context_size=20)
print(generate(model, tokenizer, prompt, sampler=sampler, logits_processors=processors))
""",
}
"""As mlx_lm's README and examples have them, but for what is asked."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs_with_one_import_changed(
    name: str, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(default, "_client", client)
    code = EXAMPLES[name].replace("from mlx_lm", "from mlxbridge.compat.mlx_lm")
    exec(compile(code, name, "exec"), {})
    assert "27 + 15 = 42." in capsys.readouterr().out


def test_names_of_sample_utils_are_where_mlx_lm_has_them() -> None:
    assert sample_utils.make_sampler is ours.make_sampler
    assert sample_utils.make_logits_processors is ours.make_logits_processors


def test_time_of_a_batch_is_shared_between_prompts_and_answers() -> None:
    usage = Usage(
        finish_reason="stop", prompt_tokens=10, completion_tokens=20, prefill_seconds=3.0, decode_seconds=1.0
    )
    done = [Outcome(index=index, usage=usage) for index in range(8)]
    stats = batches._stats(done, 4.0)
    assert (stats.prompt_time, stats.decode_time, stats.generation_tps) == (3.0, 1.0, 160.0)
