"""Both clients against a host that does what the test says, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from mlxbridge import AsyncClient, Client
from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    HandshakeTimeout,
    InternalError,
    LimitExceeded,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from mlxbridge.protocol import HostConnection, Limits
from mlxbridge.protocol.events import CallCancelled, CallOpened, Event
from mlxbridge.types import GenerateOptions
from tests.guest.script_host import ScriptHost, script_host

RESULT = {"finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 2, "model": "script"}


def answer(connection: HostConnection, event: Event) -> None:
    """Two tokens and an end; what the prompt says decides the rest."""
    if isinstance(event, CallCancelled):
        connection.finish(event.call, {**RESULT, "finish_reason": "cancelled"})
    if not isinstance(event, CallOpened):
        return
    prompt = event.params.get("prompt", event.method)
    if prompt == "fail":
        connection.fail(event.call, Overloaded("busy", retry_after=1.5))
    elif prompt == "load":
        connection.send_item(event.call, {"stage": "loading"})
        connection.finish(event.call, {"name": "m", "state": "ready", "source": "demo"})
    elif prompt == "hang":
        connection.send_tokens([event.call], [[1]], ["only "])
    elif prompt == "cut":
        connection.send_tokens([event.call], [[1]], ["only "])
        connection.close(InternalError("tripped"))
    elif prompt == "many":
        for number in range(2000):
            connection.send_tokens([event.call], [[number]], [f"{number} "])
        connection.finish(event.call, RESULT)
    else:
        connection.send_tokens([event.call], [[1]], ["Hello "])
        connection.send_tokens([event.call], [[2]], [str(prompt)])
        connection.finish(event.call, RESULT)


@pytest.fixture
def host(path: str) -> Iterator[ScriptHost]:
    with script_host(path, answer) as running:
        yield running


@pytest.fixture
def client(host: ScriptHost) -> Iterator[Client]:
    with Client(host.url, timeout=20) as made:
        yield made


async def test_async_client_streams_and_collects(host: ScriptHost) -> None:
    async with AsyncClient(host.url, timeout=20) as client:
        assert (await client.generate("you")).text == "Hello you"
        async with await client.stream("me") as stream:
            assert [str(chunk) async for chunk in stream] == ["Hello ", "me"]
            assert stream.generation.token_ids == [1, 2]


def test_client_streams_and_collects(client: Client) -> None:
    assert client.generate("you").text == "Hello you"
    with client.stream("me") as stream:
        assert [str(chunk) for chunk in stream] == ["Hello ", "me"]
        assert stream.generation.token_ids == [1, 2]


def test_error_of_the_host_keeps_its_facts(client: Client) -> None:
    with pytest.raises(Overloaded, match="busy") as caught:
        client.generate("fail")
    assert (caught.value.retry_after, caught.value.retryable, caught.value.code) == (1.5, True, 25)


def test_progress_of_a_load_is_reported(client: Client) -> None:
    seen: list[object] = []
    assert client.load_model("m", progress=seen.append).state == "ready"
    assert seen == [{"stage": "loading"}]


async def test_progress_of_a_load_is_reported_to_async_clients(host: ScriptHost) -> None:
    seen: list[object] = []
    async with AsyncClient(host.url, timeout=20) as client:
        assert (await client.load_model("m", progress=seen.append)).state == "ready"
    assert seen == [{"stage": "loading"}]


@pytest.mark.parametrize(
    "options",
    [{"stop_token_ids": [1, 2**64]}, {"logit_bias": {-(2**70): 1.0}}, {"logit_bias": {1: 2**64}}],
    ids=["a stop token", "a token's bias", "a bias"],
)
async def test_number_too_large_inside_an_argument_is_refused_by_the_arguments_name(
    host: ScriptHost, client: Client, options: GenerateOptions
) -> None:
    (field,) = options
    async with AsyncClient(host.url, timeout=20) as other:
        for n in (None, 2):
            with pytest.raises(UsageError, match=f"^{field}: ") as caught:
                client.generate("you", n=n, **options)
            assert caught.value.details == {"field": field}
            with pytest.raises(UsageError, match=f"^{field}: ") as caught:
                await other.generate("you", n=n, **options)
            assert caught.value.details == {"field": field}
        assert client.generate("you").text == (await other.generate("you")).text == "Hello you"


def test_reader_that_comes_late_gets_all_tokens(client: Client) -> None:
    with client.stream("many") as stream:
        first = next(stream)
        client.generate("another call on the same connection")
        rest = [token for chunk in stream for token in chunk.token_ids]
    assert [*first.token_ids, *rest] == list(range(2000))


async def test_async_reader_that_comes_late_gets_all_tokens(host: ScriptHost) -> None:
    async with AsyncClient(host.url, timeout=20) as client, await client.stream("many") as stream:
        first = await anext(stream)
        await client.generate("another call on the same connection")
        rest = [token async for chunk in stream for token in chunk.token_ids]
        assert [*first.token_ids, *rest] == list(range(2000))


def test_connection_that_breaks_fails_its_calls_and_the_next_call_reconnects(
    host: ScriptHost, client: Client
) -> None:
    stream = client.stream("hang")
    assert str(next(stream)) == "only "
    host.cut()
    with pytest.raises(ConnectionLost, match="generate was running") as caught:
        next(stream)
    assert caught.value.retryable
    assert client.generate("again").text == "Hello again"
    assert len(host.connections) == 2


async def test_connection_that_breaks_fails_async_calls_and_the_next_call_reconnects(
    host: ScriptHost,
) -> None:
    async with AsyncClient(host.url, timeout=20) as client:
        stream = await client.stream("hang")
        assert str(await anext(stream)) == "only "
        host.cut()
        with pytest.raises(ConnectionLost):
            await anext(stream)
        assert (await client.generate("again")).text == "Hello again"


def test_goaway_with_a_reason_is_that_error(client: Client) -> None:
    with pytest.raises(BridgeError, match="tripped"):
        client.generate("cut")
    assert client.generate("again").text == "Hello again"


def test_threads_share_one_connection(host: ScriptHost, client: Client) -> None:
    answers: list[str] = []

    def ask(number: int) -> None:
        for turn in range(20):
            answers.append(client.generate(f"{number}.{turn}").text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted(f"Hello {n}.{t}" for n in range(8) for t in range(20))
    assert len(host.connections) == 1


def test_thread_that_leads_hands_over_to_the_others(client: Client) -> None:
    """While one thread reads for a call that never ends, another must get its answer, and the other way round."""
    hanging = client.stream("hang")
    next(hanging)
    ended = threading.Event()

    def wait_for_nothing() -> None:
        with pytest.raises(ConnectionLost):
            next(hanging)
        ended.set()

    thread = threading.Thread(target=wait_for_nothing)
    thread.start()
    assert [client.generate(str(n)).text for n in range(50)] == [f"Hello {n}" for n in range(50)]
    client.close()
    thread.join(10)
    assert ended.is_set()


def test_timeout_gives_up_the_call_alone(client: Client) -> None:
    with pytest.raises(DeadlineExceeded, match="0.05 s"):
        client.generate("hang", timeout=0.05)
    assert client.generate("on").text == "Hello on"


async def test_async_timeout_gives_up_the_call_alone(host: ScriptHost) -> None:
    async with AsyncClient(host.url) as client:
        with pytest.raises(DeadlineExceeded, match="0.05 s"):
            await client.generate("hang", timeout=0.05)
        assert (await client.generate("on")).text == "Hello on"


async def test_callers_wait_for_a_free_call(path: str) -> None:
    with script_host(path, answer, Limits(max_calls=2)) as host:
        async with AsyncClient(host.url, timeout=20) as client:
            answers = await asyncio.gather(*(client.generate(str(number)) for number in range(30)))
            assert [each.text for each in answers] == [f"Hello {number}" for number in range(30)]
            hanging = [await client.stream("hang") for _ in range(2)]
            with pytest.raises(DeadlineExceeded, match="no call could be opened within 0.05 s"):
                await client.generate("x", timeout=0.05)
            await hanging[0].aclose()
            assert (await client.generate("x")).text == "Hello x"


def test_blocking_callers_wait_for_a_free_call(path: str) -> None:
    with script_host(path, answer, Limits(max_calls=1)) as host, Client(host.url, timeout=20) as client:
        hanging = client.stream("hang")
        next(hanging)
        with pytest.raises(DeadlineExceeded, match="no call could be opened within 0.05 s"):
            client.generate("x", timeout=0.05)
        hanging.close()
        assert client.generate("x").text == "Hello x"


def test_arguments_over_the_hosts_limit_are_refused_with_both_numbers(path: str) -> None:
    with script_host(path, answer, Limits(max_head_bytes=64 * 1024)) as host, Client(host.url) as client:
        with pytest.raises(LimitExceeded, match="65536"):
            client.generate("x" * 70_000)
        assert client.generate("on").text == "Hello on"


def test_child_of_a_fork_opens_its_own_connection(host: ScriptHost, client: Client) -> None:
    stream = client.stream("hang")
    next(stream)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, client.generate("child").text.encode())
            stream.close()  # must not reach the parent's connection
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"Hello child"
    os.close(reader)
    os.close(writer)
    assert client.generate("parent").text == "Hello parent"
    assert len(host.connections) == 2


def test_async_client_outlives_its_loop(host: ScriptHost) -> None:
    client = AsyncClient(host.url, timeout=20)

    async def ask() -> str:
        assert client._connector.link is None or client._connector.link.loop is not asyncio.get_running_loop()
        text = (await client.generate("you")).text
        assert client._connector.link is not None
        await client._connector.link.close()  # what the loop's end would leave to the garbage collector
        return text

    assert [asyncio.run(ask()), asyncio.run(ask())] == ["Hello you"] * 2


def test_closed_client_stays_closed(host: ScriptHost) -> None:
    client = Client(host.url)
    client.ping()
    client.close()
    with pytest.raises(UsageError, match="closed"):
        client.ping()


async def test_closed_async_client_stays_closed(host: ScriptHost) -> None:
    async with AsyncClient(host.url) as client:
        await client.ping()
    with pytest.raises(UsageError, match="closed"):
        await client.ping()


def test_answer_that_is_only_an_end_has_a_time_to_first_token(path: str) -> None:
    def react(connection: HostConnection, event: Event) -> None:
        if isinstance(event, CallOpened):
            connection.finish(event.call, {**RESULT, "completion_tokens": 1})

    with script_host(path, react) as host, Client(host.url, timeout=10) as client:
        assert client.generate("x").time_to_first_token > 0


def test_speed_is_that_of_the_host_however_late_chunks_are_read(path: str) -> None:
    def react(connection: HostConnection, event: Event) -> None:
        if isinstance(event, CallOpened):
            for number in range(11):
                connection.send_tokens([event.call], [[number]], ["."])
            connection.finish(event.call, {**RESULT, "completion_tokens": 11, "decode_ms": 500})

    with script_host(path, react) as host, Client(host.url, timeout=10) as client:
        assert client.generate("x").tokens_per_second == 20


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_stream_of_a_client_that_was_closed_says_so(host: ScriptHost, kind: str) -> None:
    async def read() -> None:
        client = AsyncClient(host.url)
        stream = await client.stream("hang")
        await anext(stream)
        await client.close()
        await anext(stream)

    with pytest.raises(ConnectionLost, match=r"the client was closed.*\(it stays closed: make another one\)"):
        if kind == "async":
            asyncio.run(read())
        client = Client(host.url)
        stream = client.stream("hang")
        next(stream)
        client.close()
        next(stream)


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_call_to_a_host_that_went_away_says_why(path: str, kind: str) -> None:
    def react(connection: HostConnection, event: Event) -> None:
        if isinstance(event, CallOpened):
            connection.go_away("the host is shutting down", 1000)
            answer(connection, event)

    async def ask_twice(running: ScriptHost) -> None:
        async with AsyncClient(running.url, timeout=10) as client:
            assert (await client.generate("x")).text == "Hello x"
            running.close()
            os.unlink(path)
            with pytest.raises(Unavailable, match="shutting down"):
                await client.generate("y")

    with script_host(path, react) as running:
        if kind == "async":
            asyncio.run(ask_twice(running))
            return
        with Client(running.url, timeout=10) as client:
            assert client.generate("x").text == "Hello x"
            running.close()
            os.unlink(path)
            with pytest.raises(Unavailable, match="shutting down"):
                client.generate("y")


@pytest.fixture
def raw_listener(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        yield listener


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_silent_peer_is_a_handshake_timeout(raw_listener: socket.socket, path: str, kind: str) -> None:
    with pytest.raises(HandshakeTimeout, match="did not say HELLO"):
        ping(path, kind, connect_timeout=0.1)


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_peer_of_another_protocol_is_named(raw_listener: socket.socket, path: str, kind: str) -> None:
    def serve() -> None:
        sock, _ = raw_listener.accept()
        with sock:
            sock.recv(4)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            while sock.recv(1000):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(RemoteProtocolError, match="does not speak mlxbridge"):
        ping(path, kind, connect_timeout=10)
    thread.join(10)


def ping(path: str, kind: str, connect_timeout: float) -> None:
    if kind == "blocking":
        with Client(f"unix://{path}", connect_timeout=connect_timeout) as client:
            client.ping()
        return

    async def ping() -> None:
        async with AsyncClient(f"unix://{path}", connect_timeout=connect_timeout) as client:
            await client.ping()

    asyncio.run(ping())
