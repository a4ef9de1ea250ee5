"""What a type checker must say of the clients' arguments: mypy reads this page, and an error that is none any more is one.

Nothing here is run.
"""

from __future__ import annotations

from typing import assert_type

import mlxbridge
from mlxbridge import (
    AsyncClient,
    AsyncTokenStream,
    Client,
    Embeddings,
    Generation,
    Message,
    Outcome,
    Outcomes,
    Ranking,
    Request,
    TokenStream,
    ToolRun,
    TypedGeneration,
)
from tests.guest.shapes import Mood, Place


def blocking(client: Client) -> None:
    assert_type(client.generate("x", top_k=3, logit_bias={1: 2.0}), Generation)
    assert_type(client.generate(messages=[{"role": "user", "content": "x"}], n=2), list[Generation])
    assert_type(client.generate([1, 2], stream=True, logprobs=2), TokenStream)
    assert_type(client.stream("x", priority="high", timeout=3), TokenStream)
    assert_type(client.chat("x", stop=["a"], seed=None), Generation)
    assert_type(client.chat("x", n=3, min_tokens=1), list[Generation])
    assert_type(client.chat("x", stream=True, ignore_eos=True), TokenStream)
    city = client.chat("x", response_format=Place, max_tokens=3)
    assert_type(city, TypedGeneration[Place])
    assert_type(city.parsed, Place)
    assert_type(client.generate("x", response_format=list[Place]).parsed, list[Place])
    assert_type(client.generate(messages=[], response_format=Mood).parsed, Mood)
    assert_type([each.parsed for each in client.chat("x", response_format=Mood, n=2)], list[Mood])
    assert_type(client.chat("x", response_format={"type": "json_object"}), Generation)
    assert_type(client.chat("x", response_format=Place, stream=True), TokenStream)
    assert_type(client.run_tools("x", [client.ping], max_tokens=3), ToolRun)
    request: Request = {"prompt": [1, 2], "max_tokens": 3}
    messages: list[Message] = [{"role": "user", "content": "x"}]
    many = client.generate_many(["x", [1, 2], messages, request], seed=1)
    assert_type(many, Outcomes)
    assert_type(next(many), Outcome)

    assert_type(client.embed(["x", "y"], dtype="float16", normalize=None, timeout=3), Embeddings)
    assert_type(client.embed([[1, 2], [3]], prompt_name="query"), Embeddings)
    assert_type(client.embed([1, 2]), Embeddings)
    assert_type(client.rerank("x", ["y"], top_n=1), Ranking)
    assert_type(client.rerank("x", ["y"])[0].score, float)

    client.embed("x", dtype="int8")  # type: ignore[arg-type]
    client.embed("x", instruction="y")  # type: ignore[call-arg]
    client.generate("x", temprature=1)  # type: ignore[call-overload]
    client.generate("x", top_k="3")  # type: ignore[call-overload]
    client.generate("x", priority="urgent")  # type: ignore[call-overload]
    client.generate("x", logit_bias=[[1, 2.0]])  # type: ignore[call-overload]
    client.generate("x", stream=True, n=2)  # type: ignore[call-overload]
    client.stream("x", top_pp=1)  # type: ignore[call-arg]
    client.stream("x", top_p="1")  # type: ignore[arg-type]
    client.chat("x", messages=[])  # type: ignore[call-overload]
    client.generate_many(["x"], temprature=1)  # type: ignore[call-arg]
    client.generate_many([3])  # type: ignore[list-item]


async def on_a_loop(client: AsyncClient) -> None:
    assert_type(await client.generate("x", min_p=0.1), Generation)
    assert_type(await client.generate("x", n=2), list[Generation])
    assert_type((await client.chat("x", response_format=Place)).parsed, Place)
    assert_type(await client.chat("x", stream=True), AsyncTokenStream)
    await client.chat("x", temprature=1)  # type: ignore[call-overload]
    async for outcome in await client.generate_many(["x"], timeout=3):
        assert_type(outcome, Outcome)


def shared() -> None:
    assert_type(mlxbridge.generate("x", xtc_probability=0.5), Generation)
    assert_type(mlxbridge.chat("x", n=2), list[Generation])
    assert_type(mlxbridge.chat("x", response_format=Place).parsed, Place)
    assert_type(mlxbridge.chat("x", stream=True), TokenStream)
    mlxbridge.chat("x", temprature=1)  # type: ignore[call-overload]
