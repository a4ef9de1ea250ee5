"""The ollama package, as it is published, against a real host."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from ollama import AsyncClient, Client, ResponseError

from mlxbridge import Client as Bridge
from tests.guest.gateway.gateways import GatewayProcess
from tests.integration.hosts import HostProcess

SUM: list[Any] = [{"role": "user", "content": "What is 27 + 15?"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
NUMBER = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}


def test_chat_is_answered(ollama: Client) -> None:
    answer = ollama.chat("demo", SUM)
    assert answer.message.content == "27 + 15 = 42."
    assert (answer.model, answer.message.role, answer.done, answer.done_reason) == (
        "demo",
        "assistant",
        True,
        "stop",
    )
    assert (answer.prompt_eval_count, answer.eval_count) == (16, 12)
    assert answer.total_duration is not None and answer.prompt_eval_duration and answer.eval_duration
    assert answer.total_duration > answer.prompt_eval_duration + answer.eval_duration > 0
    assert answer.load_duration is not None and 0 < answer.load_duration < answer.total_duration


def test_chat_is_answered_as_it_comes(ollama: Client) -> None:
    *parts, last = ollama.chat("demo", SUM, stream=True)
    assert len(parts) > 1 and not any(part.done for part in parts)
    assert "".join(part.message.content or "" for part in parts) == "27 + 15 = 42."
    assert (last.message.content, last.done, last.done_reason, last.eval_count) == ("", True, "stop", 12)


async def test_async_client_is_answered_too(ollama_gateway: GatewayProcess) -> None:
    async with AsyncClient(ollama_gateway.url, timeout=120) as client:
        whole = await client.chat("demo", SUM)
        parts = [part async for part in await client.chat("demo", SUM, stream=True)]
        texts = [
            part.response async for part in await client.generate("demo", SUM[0]["content"], stream=True)
        ]
        names = [model.model for model in (await client.list()).models]
    assert whole.message.content == "".join(part.message.content or "" for part in parts) == "27 + 15 = 42."
    assert "".join(text or "" for text in texts) == "27 + 15 = 42."
    assert names == ["demo:latest", "finder:latest", "caller:latest"]


def test_prompt_is_a_chat_unless_it_is_raw(ollama: Client, models_host: HostProcess) -> None:
    assert ollama.generate("demo", SUM[0]["content"]).response == "27 + 15 = 42."
    raw = ollama.generate("demo", "The capital of France is", raw=True, options={"num_predict": 4})
    with models_host.client(timeout=60) as client:
        wanted = client.generate("The capital of France is", model="demo", max_tokens=4)
        told = client.chat([{"role": "system", "content": "Be brief."}, *SUM], model="demo")
    assert (raw.response, raw.done_reason, raw.context) == (wanted.text, "length", None)
    briefly = ollama.generate("demo", SUM[0]["content"], system="Be brief.")
    assert (briefly.response, briefly.prompt_eval_count) == (told.text, told.prompt_tokens)


def test_context_goes_on_with_the_chat(ollama: Client) -> None:
    first = ollama.generate("demo", SUM[0]["content"])
    second = ollama.generate("demo", "What is the capital of France?", context=first.context)
    asked = {"role": "user", "content": "What is the capital of France?"}
    chat = ollama.chat("demo", [*SUM, {"role": "assistant", "content": first.response}, asked])
    assert (second.response, second.prompt_eval_count) == (chat.message.content, chat.prompt_eval_count)
    assert first.context is not None and second.context is not None
    assert list(second.context)[: len(first.context)] == first.context
    with pytest.raises(ResponseError, match=r"^context\[0\] holds token 99999"):
        ollama.generate("demo", "Hi", context=[99999])


def test_options_are_honoured(ollama: Client, models_host: HostProcess) -> None:
    options = {
        "num_predict": 12,
        "temperature": 1.5,
        "top_k": 30,
        "top_p": 0.95,
        "min_p": 0.01,
        "seed": 7,
        "repeat_penalty": 1.2,
        "repeat_last_n": 32,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
        "stop": ["zzz"],
        "num_ctx": 32768,  # more than the model has: clients say it without knowing
        "num_gpu": 99,
    }
    with models_host.client(timeout=60) as client:
        wanted = client.generate(
            "The ",
            model="demo",
            max_tokens=12,
            temperature=1.5,
            top_k=30,
            top_p=0.95,
            min_p=0.01,
            seed=7,
            repetition_penalty=1.2,
            presence_penalty=0.5,
            frequency_penalty=0.25,
            repetition_context_size=32,
            presence_context_size=32,
            frequency_context_size=32,
            stop=["zzz"],
        )
        plain = client.generate("The ", model="demo", max_tokens=12)
    assert ollama.generate("demo", "The ", raw=True, options=options).response == wanted.text != plain.text
    assert ollama.chat("demo", SUM, options={"stop": ["42"]}).message.content == "27 + 15 = "


def test_answer_ends_where_the_context_does(ollama: Client) -> None:
    options = {"num_predict": 100_000, "ignore_eos": True}
    long = "x " * 980  # of the 1024 tokens few are left for the answer
    counts = []
    first = ollama.generate("demo", SUM[0]["content"], options={"num_predict": 100_000})
    assert (first.response, first.done_reason) == ("27 + 15 = 42.", "stop")
    for answer in (
        ollama.chat("demo", [{"role": "user", "content": long}], options=options),
        ollama.generate("demo", long, options=options),
        ollama.generate("demo", long, options=options, context=first.context),
        ollama.generate("demo", long, raw=True, options=options),
    ):
        assert answer.done_reason == "length"
        counts.append((answer.prompt_eval_count or 0) + (answer.eval_count or 0))
    assert counts == [1024] * 4
    with pytest.raises(ResponseError, match="the prompt has 3003 tokens"):
        ollama.chat("demo", [{"role": "user", "content": "x " * 3000}], options=options)


def test_format_is_kept_to(ollama: Client, models_host: HostProcess) -> None:
    for answer in (
        ollama.chat("demo", SUM, format=NUMBER).message.content,
        ollama.generate("demo", SUM[0]["content"], format=NUMBER).response,
    ):
        value = json.loads(answer or "")
        assert set(value) == {"sum"} and isinstance(value["sum"], int)
    with models_host.client(timeout=60) as client:
        wanted = client.chat(
            SUM[0]["content"], model="demo", response_format={"type": "json_object"}, max_tokens=20
        ).text
    with pytest.raises(ResponseError, match=r"^format\.not is not supported"):
        ollama.chat("demo", SUM, format={"not": {}})
    said = ollama.chat("demo", SUM, format="json", options={"num_predict": 20}).message.content
    assert said == wanted and wanted.startswith("{")


def test_logprobs_are_told(ollama: Client) -> None:
    answer = ollama.chat("demo", SUM, logprobs=True, top_logprobs=2)
    assert answer.logprobs is not None and answer.eval_count
    assert len(answer.logprobs) == answer.eval_count - 1  # EOS is none of them
    assert "".join(token.token for token in answer.logprobs) == answer.message.content
    assert all(len(token.top_logprobs or ()) == 2 and token.logprob <= 0 for token in answer.logprobs)
    parts = list(ollama.generate("demo", SUM[0]["content"], logprobs=True, stream=True))
    tokens = [token for part in parts for token in part.logprobs or ()]
    assert [token.token for token in tokens] == [token.token for token in answer.logprobs]
    assert not any(token.top_logprobs for token in tokens)


def test_model_thinks_and_calls(ollama: Client) -> None:
    chat = [{"role": "user", "content": "Weather?"}]
    answer = ollama.chat("caller", chat, tools=[WEATHER])
    assert (answer.message.thinking, answer.message.content) == ("I must look.", "Let me see. ")
    (call,) = answer.message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "東京"})
    assert answer.done_reason == "stop"
    result = {"role": "tool", "content": "rain", "tool_name": "get_weather"}
    end = ollama.chat("caller", [*chat, answer.message, result], tools=[WEATHER], think=False)
    assert (end.message.content, end.message.thinking) == ("It rains.", None)


def test_thoughts_that_the_model_reads_no_more_are_left_out(ollama: Client) -> None:
    said = {"role": "assistant", "content": "27 + 15 = 42.", "thinking": "7 + 5 = 12"}
    asked = {"role": "user", "content": "What is 27 + 16?"}
    assert ollama.chat("demo", [*SUM, said, asked]).message.content == "27 + 16 = 43."


def test_thoughts_and_calls_come_as_they_are_made(ollama: Client) -> None:
    parts = list(
        ollama.chat(
            "caller", [{"role": "user", "content": "Weather?"}], tools=[WEATHER], stream=True, think=True
        )
    )
    assert "".join(part.message.thinking or "" for part in parts) == "I must look."
    assert "".join(part.message.content or "" for part in parts) == "Let me see. "
    (call,) = [call for part in parts for call in part.message.tool_calls or ()]
    assert call.function.arguments == {"city": "東京"}
    assert not parts[-1].message.tool_calls and parts[-1].done


def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
      city: its name
    """
    return f"rain in {city}"


def test_function_is_a_tool(ollama: Client) -> None:
    answer = ollama.chat("caller", [{"role": "user", "content": "Weather?"}], tools=[get_weather])
    (call,) = answer.message.tool_calls or ()
    assert get_weather(**call.function.arguments) == "rain in 東京"


def test_prompt_is_thought_about_unless_that_is_not_wanted(ollama: Client) -> None:
    thought = ollama.generate("caller", "Weather?")
    assert thought.thinking == "I must look." and (thought.response or "").startswith("Let me see. ")
    assert thought.context is None  # of what is told apart there are no tokens to go on with
    plain = ollama.generate("caller", "<scene:result>", think=False)
    assert (plain.response, plain.thinking) == ("It rains.", None)
    assert plain.context is not None
    with pytest.raises(ResponseError, match="context: goes with think=false") as refused:
        ollama.generate("caller", "Weather?", context=plain.context)
    assert refused.value.status_code == 400
    assert ollama.generate("demo", SUM[0]["content"], think=False).response == "27 + 15 = 42."
    with pytest.raises(ResponseError, match="think cannot be used"):
        ollama.chat("demo", SUM, think=True)
    with pytest.raises(ResponseError, match="think cannot be used"):
        ollama.chat("demo", SUM, think="high")


def test_texts_become_vectors(ollama: Client, models_host: HostProcess) -> None:
    with models_host.client(timeout=60) as client:
        wanted = client.embed(["cat", "dog sat"], model="finder").tolist()
        raw = client.embed("cat", model="finder", normalize=None).tolist()
        short = client.embed("cat", model="finder", dimensions=8).tolist()
    found = ollama.embed("finder", ["cat", "dog sat"])
    assert [list(vector) for vector in found.embeddings] == [pytest.approx(one, abs=1e-5) for one in wanted]
    assert (found.prompt_eval_count, found.model) == (7, "finder")
    assert found.total_duration is not None and found.total_duration > 0
    assert list(ollama.embed("finder", "cat", dimensions=8).embeddings[0]) == pytest.approx(
        short[0], abs=1e-5
    )
    older = ollama.embeddings("finder", "cat").embedding
    assert list(older) == pytest.approx(raw[0], abs=1e-5)
    assert abs(math.hypot(*older) - 1) > 0.1  # the older path leaves vectors as they are
    long = "cat " * 100
    assert ollama.embed("finder", long).prompt_eval_count == 48
    with pytest.raises(ResponseError, match="truncate"):
        ollama.embed("finder", long, truncate=False)
    assert ollama.embed("finder", "").embeddings == []


def test_models_are_listed_and_shown(ollama: Client) -> None:
    assert [model.model for model in ollama.list().models] == [
        "demo:latest",
        "finder:latest",
        "caller:latest",
    ]
    shown = ollama.show("demo:latest")
    assert shown.capabilities == ["completion"] and shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 1024
    assert shown.details is not None and shown.details.parameter_size == "1.85M"
    assert ollama.show("finder").capabilities == ["embedding"]
    assert ollama.show("caller").capabilities == ["completion", "tools", "thinking"]


def test_model_is_loaded_and_unloaded(ollama: Client, models_host: HostProcess) -> None:
    loaded = ollama.generate("finder", keep_alive="1h")
    assert (loaded.response, loaded.done, loaded.done_reason) == ("", True, "load")
    running = {model.model: model for model in ollama.ps().models}
    expiry = running["finder:latest"].expires_at
    assert expiry is not None and running["finder:latest"].context_length == 48
    with models_host.client(timeout=60) as client:
        assert keep_alive_s(client) == 3600
        assert ollama.chat("finder", [], keep_alive=-1).done_reason == "load"
        assert keep_alive_s(client) is None
        assert ollama.chat("finder", keep_alive=0).done_reason == "unload"
        while state(client) != "unloaded":  # its process ends
            assert state(client) in ("ready", "unloading", "unloaded")
        assert "finder" not in [model.model for model in ollama.ps().models]
        assert ollama.generate("finder", keep_alive=0).done_reason == "unload"
        assert state(client) == "unloaded"


def state(client: Bridge) -> str:
    return next(model.state for model in client.list_models() if model.name == "finder")


def keep_alive_s(client: Bridge) -> Any:
    return next(model.details["keep_alive_s"] for model in client.list_models() if model.name == "finder")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"top_p": 9}, "options.top_p must be above 0"),
        ({"num_predict": 0}, "options.num_predict"),
        ({"repeat_penalty": 0}, "options.repeat_penalty"),
        ({"repeat_last_n": 100_000, "repeat_penalty": 1.1}, "options.repeat_last_n"),
        ({"num_ctx": 0}, "options.num_ctx: must be a number of tokens from 1"),
        ({"mirostat": 2}, "options.mirostat: "),
    ],
)
def test_option_that_is_wrong_is_named(ollama: Client, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ResponseError) as refused:
        ollama.chat("demo", SUM, options=options)
    assert refused.value.status_code == 400 and refused.value.error.startswith(told)
    with pytest.raises(ResponseError) as streamed:
        list(ollama.chat("demo", SUM, options=options, stream=True))
    assert (streamed.value.status_code, streamed.value.error) == (400, refused.value.error)


def test_model_that_there_is_not_is_told(ollama: Client) -> None:
    for ask in (ollama.generate, ollama.show, ollama.embed):
        with pytest.raises(ResponseError, match="model 'nothing' not found") as refused:
            ask("nothing")
        assert refused.value.status_code == 404


def test_what_the_host_does_not_do_is_told(ollama: Client, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x")
    for ask in (
        lambda: ollama.create("mine", from_="demo"),
        lambda: ollama.copy("demo", "mine"),
        lambda: ollama.push("demo"),
        lambda: ollama.create_blob(file),
    ):
        with pytest.raises(ResponseError, match="^/api/") as refused:
            ask()
        assert refused.value.status_code == 501
    with pytest.raises(ResponseError, match="allow_pull") as refused:
        ollama.pull("org/demo")
    assert refused.value.status_code == 403
    with pytest.raises(ResponseError, match="it is configured on this host") as refused:
        ollama.delete("demo")
    assert refused.value.status_code == 403
