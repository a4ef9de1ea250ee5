"""Links that break under streams of a real host: nothing is lost, nothing comes twice, and nobody's GPU is kept busy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from mlxbridge import AsyncClient, Client, GenerateOptions
from mlxbridge.errors import DeadlineExceeded, Gone
from tests.helpers.chaos_proxy import ChaosProxy, chaos_proxy
from tests.integration.hosts import HostProcess, run_host, wait_until_it_answers

PROMPT = "Once upon a time"
LONG: GenerateOptions = {"max_tokens": 120, "ignore_eos": True, "seed": 7, "temperature": 1.0}


@pytest.fixture(scope="module")
def tcp_host() -> Iterator[HostProcess]:
    with run_host("tcp") as host:
        with host.client() as client:
            client.load_model("demo", timeout=120)
        yield host


@pytest.fixture
def proxy(tcp_host: HostProcess) -> Iterator[ChaosProxy]:
    with chaos_proxy(tcp_host.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def undisturbed(tcp_host: HostProcess) -> tuple[str, list[int]]:
    with tcp_host.client(timeout=60) as client:
        answer = client.generate(PROMPT, **LONG)
        return answer.text, answer.token_ids


def test_stream_that_is_cut_goes_on(
    tcp_host: HostProcess, proxy: ChaosProxy, undisturbed: tuple[str, list[int]]
) -> None:
    with Client(proxy.url, token=tcp_host.token, timeout=60) as client:
        texts, token_ids = [], []
        for number, chunk in enumerate(client.stream(PROMPT, **LONG)):
            texts.append(chunk.text)
            token_ids += chunk.token_ids
            if number % 25 == 5:
                proxy.cut()
    assert ("".join(texts), token_ids) == undisturbed
    assert proxy.num_accepted > 1


def test_stream_of_a_task_that_is_cut_goes_on(
    tcp_host: HostProcess, proxy: ChaosProxy, undisturbed: tuple[str, list[int]]
) -> None:
    async def read() -> tuple[str, list[int]]:
        async with AsyncClient(proxy.url, token=tcp_host.token, timeout=60) as client:
            stream = await client.stream(PROMPT, **LONG)
            number = 0
            async for _ in stream:
                number += 1
                if number % 25 == 5:
                    await asyncio.to_thread(proxy.cut)
            return stream.text, stream.generation.token_ids

    assert asyncio.run(read()) == undisturbed
    assert proxy.num_accepted > 1


def test_deadline_holds_while_the_host_cannot_be_reached(tcp_host: HostProcess, proxy: ChaosProxy) -> None:
    with Client(proxy.url, token=tcp_host.token, timeout=1.5) as client:
        stream = client.stream(PROMPT, **LONG)
        next(stream)
        proxy.is_shut = True
        proxy.cut()
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            stream.read()
        assert time.monotonic() - started < 6
        assert proxy.num_accepted > 2


def test_deadline_of_a_task_holds_while_the_host_cannot_be_reached(
    tcp_host: HostProcess, proxy: ChaosProxy
) -> None:
    async def read() -> None:
        async with AsyncClient(proxy.url, token=tcp_host.token, timeout=1.5) as client:
            stream = await client.stream(PROMPT, **LONG)
            await anext(stream)
            proxy.is_shut = True
            await asyncio.to_thread(proxy.cut)
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await stream.read()
            assert time.monotonic() - started < 6
            assert proxy.num_accepted > 2

    asyncio.run(read())


DYING_GUEST = """
import os, sys
from mlxbridge import Client
stream = Client(sys.argv[1], token=sys.argv[2]).stream("Once", ignore_eos=True)
next(stream)
print("streaming", flush=True)
sys.stdin.read()
"""


def test_process_that_is_killed_frees_the_gpu_within_a_step(tcp_host: HostProcess) -> None:
    with tcp_host.client(timeout=60) as client:
        command = [sys.executable, "-c", DYING_GUEST, tcp_host.url, tcp_host.token or ""]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as guest:
            assert guest.stdout is not None and guest.stdout.readline() == "streaming\n"
            assert details(client)["running"] == 1
            guest.kill()
        found = until_quiet(client)
        assert (found["held"], found["kv_bytes_used"]) == (1, 0)
        time.sleep(0.2)
        assert details(client)["steps_total"] == found["steps_total"]


def test_process_that_ends_in_order_leaves_nothing(tcp_host: HostProcess) -> None:
    with tcp_host.client(timeout=60) as client:
        held = details(client)["held"]
        command = [sys.executable, "-c", DYING_GUEST, tcp_host.url, tcp_host.token or ""]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as guest:
            assert guest.stdout is not None and guest.stdout.readline() == "streaming\n"
            assert guest.stdin is not None
            guest.stdin.close()
        assert until_quiet(client)["held"] == held


def details(client: Client) -> Mapping[str, Any]:
    return client.status().models[0].details


def until_quiet(client: Client) -> Mapping[str, Any]:
    """What the model says once it computes nothing."""
    deadline = time.monotonic() + 10
    while (found := details(client))["running"]:
        assert time.monotonic() < deadline
    return found


@contextlib.contextmanager
def started_anew(first: HostProcess, *, waits: bool = True) -> Iterator[None]:
    """Kill a host on a unix socket, and start another one there, which takes a while to listen."""
    first.stop(signal.SIGKILL)
    path = first.url.removeprefix("unix://")
    os.unlink(path)
    command = [sys.executable, "-m", "mlxbridge.host", "serve", "--config", os.devnull]
    command += ["--listen", f"unix:{path}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as second:
        try:
            if waits:
                wait_until_it_answers(replace(first, process=second))
            yield
        finally:
            second.kill()


def test_host_that_has_started_anew_says_that_the_call_is_gone() -> None:
    with run_host("unix") as first, first.client(timeout=60) as client:
        stream = client.stream(PROMPT, **LONG)
        next(stream)
        with started_anew(first):
            with pytest.raises(Gone) as failed:
                stream.read()
            assert failed.value.retryable
            assert client.ping() < 5


def test_calls_over_tcp_are_gone_as_soon_as_nobody_listens_there_any_more() -> None:
    with run_host("tcp") as host, host.client(timeout=120) as client:
        stream = client.stream(PROMPT, **LONG)
        next(stream)

        async def read_in_task() -> None:
            async with AsyncClient(host.url, token=host.token, timeout=120) as other:
                async for _ in await other.stream(PROMPT, **LONG):
                    if host.process.poll() is None:
                        await asyncio.to_thread(host.stop, signal.SIGKILL)

        started = time.monotonic()
        with pytest.raises(Gone, match="the host has ended"):
            asyncio.run(read_in_task())
        with pytest.raises(Gone, match="the host has ended"):
            stream.read()
        assert time.monotonic() - started < 20, "the host's grace is 30 s"


def test_stream_with_a_seed_goes_on_at_a_host_that_starts_anew(
    undisturbed: tuple[str, list[int]],
) -> None:
    with run_host("unix") as first, first.client(timeout=120, retry=3) as client:
        stream = client.stream(PROMPT, **LONG)
        texts = [next(stream).text for _ in range(3)]
        with started_anew(first, waits=False):
            texts += [chunk.text for chunk in stream]
            assert ("".join(texts), stream.generation.token_ids) == undisturbed
