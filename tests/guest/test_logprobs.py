"""Logprobs as a guest sees them: where it asked, one for each token, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mlxbridge import AsyncClient, Chunk, Client
from mlxbridge.errors import RemoteProtocolError
from mlxbridge.protocol import HostConnection
from mlxbridge.protocol.events import CallCancelled, CallOpened, Event
from mlxbridge.protocol.logprobs import encode_logprobs
from mlxbridge.types import TokenLogprob, TokenLogprobs
from tests.guest.script_host import ScriptHost, script_host

RESULT = {
    "finish_reason": "stop",
    "prompt_tokens": 4,
    "completion_tokens": 3,
    "cached_tokens": 3,
    "stop_token_id": 9,
}


def token(number: int) -> TokenLogprobs:
    return TokenLogprobs(
        TokenLogprob(number, -0.5, b"\xc3"),
        (TokenLogprob(7, -0.25, b""), TokenLogprob(number, -0.5, b"\xc3")),
    )


cancelled: list[int] = []


def answer(connection: HostConnection, event: Event) -> None:
    """Three tokens in two rows, and one row without."""
    if isinstance(event, CallCancelled):
        cancelled.append(event.call)
        connection.finish(event.call, {"finish_reason": "cancelled"})
    if not isinstance(event, CallOpened) or event.method != "generate":
        return
    call, prompt = [event.call], event.params["prompt"]
    asked = "logprobs" in event.params
    if prompt == "none":
        connection.send_tokens(call, [[1]], ["a"])
    elif prompt == "broken":
        connection.send_tokens(call, [[1]], ["a"], [[b"no candidate"]])
    else:
        connection.send_tokens(call, [[1]], ["a"], [[encode_logprobs(token(1))] if asked else None])
        connection.send_tokens(call, [[]], ["b"])
        connection.send_tokens(
            call, [[2, 3]], [""], [[encode_logprobs(token(2)), encode_logprobs(token(3))] if asked else None]
        )
        connection.finish(event.call, RESULT)


@pytest.fixture
def host(path: str) -> Iterator[ScriptHost]:
    cancelled.clear()
    with script_host(path, answer) as running:
        yield running


def test_logprobs_come_with_their_tokens(host: ScriptHost) -> None:
    with Client(host.url, timeout=20) as client:
        given = client.generate("x", logprobs=2)
        assert (given.text, given.token_ids) == ("ab", [1, 2, 3])
        assert given.logprobs == [token(1), token(2), token(3)]
        assert (given.usage.cached_tokens, given.usage.stop_token_id) == (3, 9)
        with client.stream("x", logprobs=2) as stream:
            chunks = list(stream)
        assert all(
            chunk.logprobs is not None and len(chunk.logprobs) == len(chunk.token_ids) for chunk in chunks
        )
        assert [each for chunk in chunks for each in chunk.logprobs or ()] == given.logprobs


async def test_logprobs_come_with_their_tokens_to_async_clients(host: ScriptHost) -> None:
    async with AsyncClient(host.url, timeout=20) as client:
        assert (await client.generate("x", logprobs=0)).logprobs == [token(1), token(2), token(3)]


def test_nobody_who_did_not_ask_gets_any(host: ScriptHost) -> None:
    with Client(host.url, timeout=20) as client:
        assert client.generate("x").logprobs is None
        assert all(chunk.logprobs is None for chunk in client.stream("x"))


@pytest.mark.parametrize(
    ("prompt", "message"), [("none", "that the call asked for are missing"), ("broken", "cut off")]
)
def test_host_that_sends_none_or_nonsense_fails_the_call(host: ScriptHost, prompt: str, message: str) -> None:
    with Client(host.url, timeout=20) as client:
        with pytest.raises(RemoteProtocolError, match=message):
            client.generate(prompt, logprobs=2)
        assert client.generate("x").text == "ab"  # the connection goes on
        assert cancelled


@pytest.mark.parametrize("prompt", ["none", "broken"])
async def test_host_that_sends_none_or_nonsense_fails_the_async_call(host: ScriptHost, prompt: str) -> None:
    async with AsyncClient(host.url, timeout=20) as client:
        stream = await client.stream(prompt, logprobs=2)
        with pytest.raises(RemoteProtocolError):
            await stream.read()
        await client.generate("x")
        deadline = time.monotonic() + 10
        while not cancelled:
            assert time.monotonic() < deadline


def test_chunk_prints_as_its_text() -> None:
    assert f"{Chunk('a', [1])} {Chunk('b', [2], [token(2)])}" == "a b"
    assert Chunk("a", [1]) == ("a", [1], None, "", ())
