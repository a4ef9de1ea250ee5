"""What HTTP itself can be made to do: heads and bodies that are too large, too slow, or no HTTP at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from mlxbridge.errors import TransportError
from mlxbridge.guest.gateway import body, connection
from mlxbridge.guest.gateway.body import BodyRoom
from mlxbridge.guest.gateway.endpoint import route
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.health import PLAIN
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.responses import Json, Streamed, Whole
from mlxbridge.guest.gateway.settings import Settings
from tests.guest.gateway.inside import LOCAL, Inside, read_answer, serving

POST = b"POST /echo HTTP/1.1\r\nhost: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"


async def echo(exchange: Exchange) -> Whole:
    return Whole(await exchange.read_body(), "text/plain")


async def fail(exchange: Exchange) -> Whole:
    raise RuntimeError("a fault")


async def recurse(exchange: Exchange) -> Json:
    """What reads a body in its depth does."""
    return await recurse(exchange)


async def live(exchange: Exchange) -> Json:
    return Json({})


async def count(exchange: Exchange) -> Streamed:
    """Three lines, then nothing until it is cut; with ?fail, an error."""

    async def lines() -> AsyncGenerator[bytes]:
        for number in range(3):
            yield b"%d\n" % number
        if "problem" in exchange.query:
            raise Problem(503, "no more", code="gone")
        if "host" in exchange.query:
            error = TransportError("no route to unix:///nowhere")
            error.request_id = "host-1"
            raise error
        await asyncio.Event().wait()

    return Streamed(lines(), "text/plain", lambda problem: problem.code.encode())


async def wait(exchange: Exchange) -> Json:
    await exchange.run(asyncio.Event().wait())
    return Json({})


ROUTES = [
    route(PLAIN, "/echo", POST=echo),
    route(PLAIN, "/healthz", GET=live),
    route(PLAIN, "/fail", GET=fail),
    route(PLAIN, "/recurse", GET=recurse),
    route(PLAIN, "/count", GET=count),
    route(PLAIN, "/wait", GET=wait),
]


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    settings = Settings(listens=(LOCAL,), url="unix:///nowhere", max_body_bytes=1000, drain_timeout_s=1)
    async with serving(settings, ROUTES) as inside:
        yield inside


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 5x\r\n",
        b"content-length: -1\r\n",
        b"content-length: 99999999999999999999999\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
    ],
)
async def test_length_that_is_none_is_refused(inside: Inside, head: bytes) -> None:
    status, _ = await inside.ask(POST + head + b"\r\nhello")
    assert status == 400


async def test_body_that_is_too_large_is_refused(inside: Inside) -> None:
    status, body = await inside.ask(POST + b"content-length: 1001\r\n\r\n")
    assert status == 413 and b"1000 bytes" in body
    chunk = b"%x\r\n%s\r\n" % (600, b"x" * 600)
    status, _ = await inside.ask(POST + b"transfer-encoding: chunked\r\n\r\n" + chunk + chunk + b"0\r\n\r\n")
    assert status == 413
    status, body = await inside.ask(POST + b"transfer-encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n")
    assert status == 200 and body == b"x" * 600


async def test_encoded_body_is_refused(inside: Inside) -> None:
    status, body = await inside.ask(POST + b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc")
    assert status == 415 and b"gzip" in body
    status, body = await inside.ask(POST + b"content-encoding: identity\r\ncontent-length: 3\r\n\r\nabc")
    assert (status, body) == (200, b"abc")


async def test_body_that_does_not_come_is_not_waited_for(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "BODY_TIMEOUT_S", 0.2)
    status, _ = await inside.ask(POST + b"content-length: 5\r\n\r\nhel")
    assert status == 408


async def test_body_of_a_client_that_has_gone_ends_its_request(inside: Inside) -> None:
    _, writer = await inside.send(POST + b"content-length: 5\r\n\r\nhel")
    writer.close()
    while not inside.records:
        await asyncio.sleep(0.01)
    assert inside.records[0].is_cut and inside.records[0].status == 499


async def test_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.3)
    async with serving(Settings(listens=(LOCAL,), url="unix:///nowhere"), ROUTES) as inside:
        for beginning in (b"", GET, GET + b"\r\n" + GET):
            reader, writer = await inside.send(beginning)
            while await reader.read(1000):
                pass
            writer.close()


@pytest.mark.parametrize("before", [b"", GET + b"\r\n"])
async def test_head_without_end_is_refused(inside: Inside, before: bytes) -> None:
    reader, writer = await inside.send(before + GET + b"x-more: ")
    for _ in range(4 if before else 3):
        writer.write(b"x" * 32_000)
        await writer.drain()
        await asyncio.sleep(
            0.05
        )  # or the kernel may hold bytes that nobody reads, and drops the answer for them
    answers = await reader.read()
    writer.close()
    assert answers.rpartition(b"HTTP/1.1 ")[2].startswith(b"431")


async def test_head_may_come_in_pieces_and_several_at_once(inside: Inside) -> None:
    request = POST + b"content-length: 3\r\n\r\nabc"
    reader, writer = await inside.send(b"")
    for byte in request:
        writer.write(bytes([byte]))
        await writer.drain()
    assert await read_answer(reader) == (200, b"abc")
    writer.write(request + request[:40])
    assert await read_answer(reader) == (200, b"abc")
    writer.write(request[40:] + request)
    assert [await read_answer(reader) for _ in range(2)] == [(200, b"abc")] * 2
    writer.close()


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
async def test_body_behind_the_wish_for_another_protocol_is_read(inside: Inside, protocol: bytes) -> None:
    """As Java's HttpClient sends it, and so what is built on it."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + protocol + b"\r\nHTTP2-Settings: AAMA\r\n"
    status, body = await inside.ask(POST + upgrade + b"content-length: 5\r\n\r\nhello")
    assert (status, body) == (200, b"hello")


async def test_head_of_what_goes_on_for_ever_ends(inside: Inside) -> None:
    reader, writer = await inside.send(
        b"HEAD /count HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_fault_of_the_gateway_is_told_in_the_apis_shape(inside: Inside) -> None:
    status, body = await inside.ask(b"GET /fail HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert status == 500 and b'"internal_error"' in body and b"a fault" not in body


async def test_body_without_bottom_is_the_callers_fault(inside: Inside) -> None:
    status, body = await inside.ask(b"GET /recurse HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert status == 400 and b"nested too deeply" in body


async def test_problem_behind_the_first_line_is_told_there(inside: Inside) -> None:
    status, body = await inside.ask(b"GET /count?problem HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (status, body) == (200, b"0\n1\n2\ngone")
    assert inside.records[0].error == "gone"


async def test_error_of_the_host_behind_the_first_line_is_noted(
    inside: Inside, caplog: pytest.LogCaptureFixture
) -> None:
    status, body = await inside.ask(b"GET /count?host HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (status, body) == (200, b"0\n1\n2\nhost_unreachable")
    assert inside.records[0].host_ids == ["host-1"]
    assert "the host cannot be asked: no route" in caplog.text


async def test_bodies_have_no_more_memory_than_there_is_for_all_of_them(inside: Inside) -> None:
    large = POST + b"content-length: 1000\r\n\r\n"
    inside.gateway.body_room = room = BodyRoom(1500)
    _, writer = await inside.send(large + b"x" * 900)
    while True:
        try:
            room.check(601)
        except Problem:
            break
        await asyncio.sleep(0.01)
    status, body = await inside.ask(large)
    assert status == 503 and b"too many large requests" in body
    chunk = b"%x\r\n%s\r\n" % (700, b"x" * 700)
    status, _ = await inside.ask(POST + b"transfer-encoding: chunked\r\n\r\n" + chunk)
    assert status == 503
    assert (await inside.ask(POST + b"content-length: 5\r\n\r\nhello"))[0] == 200
    writer.close()
    while len(inside.records) < 4:
        await asyncio.sleep(0.01)
    assert (await inside.ask(large + b"x" * 1000))[0] == 200


async def test_what_still_runs_after_the_drain_timeout_is_cut_and_told(inside: Inside) -> None:
    asked = [
        asyncio.ensure_future(inside.ask(b"GET /%s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path))
        for path in (b"count", b"wait")
    ]
    while len(inside.server.server_state.tasks) < 2:
        await asyncio.sleep(0.01)
    inside.server.stop()
    (streamed, lines), (whole, body) = await asyncio.gather(*asked)
    assert (streamed, lines) == (200, b"0\n1\n2\nunavailable")
    assert whole == 503 and b"stopping" in body
    assert all(record.is_cut for record in inside.records)


async def test_second_signal_cuts_at_once() -> None:
    settings = Settings(listens=(LOCAL,), url="unix:///nowhere", drain_timeout_s=600)
    async with serving(settings, ROUTES) as inside:
        asked = asyncio.ensure_future(inside.ask(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n"))
        while not inside.server.server_state.tasks:
            await asyncio.sleep(0.01)
        inside.server.stop()
        with pytest.raises(OSError):
            while True:
                _, writer = await inside.send(b"")  # the first may still be taken
                writer.close()
                await asyncio.sleep(0.05)
        assert not asked.done()
        inside.server.stop()
        status, _ = await asked
        assert status == 503


WAIT = b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "later"),
    [(WAIT, GET + b"\r\n"), (WAIT + GET + b"\r\n", b""), (WAIT + GET, b"\r\n"), (WAIT + GET, b"\r\n" + GET)],
)
async def test_client_that_has_sent_its_next_request_is_seen_to_go(
    inside: Inside, sent: bytes, later: bytes
) -> None:
    _, writer = await inside.send(sent)
    while not inside.server.server_state.tasks:
        await asyncio.sleep(0.01)
    writer.write(later)
    await writer.drain()
    await asyncio.sleep(0.05)  # it is there, and not just with the end of the connection
    writer.close()
    async with asyncio.timeout(30):
        while not inside.records:
            await asyncio.sleep(0.01)
    assert inside.records[0].path == "/wait" and inside.records[0].is_cut


async def test_requests_that_are_there_before_an_answer_have_one_each() -> None:
    go_on = asyncio.Event()

    async def delay(exchange: Exchange) -> Json:
        await go_on.wait()
        return Json({})

    request = POST + b"content-length: 600\r\n\r\n" + b"x" * 600
    num_requests = 2 * connection.MAX_HEAD_BYTES // len(request)
    routes = [*ROUTES, route(PLAIN, "/delay", GET=delay)]
    async with serving(Settings(listens=(LOCAL,), url="unix:///nowhere"), routes) as inside:
        reader, writer = await inside.send(b"GET /delay HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while not inside.server.server_state.tasks:
            await asyncio.sleep(0.01)
        for _ in range(num_requests):
            writer.write(request)
            await asyncio.sleep(0)
        go_on.set()
        assert await read_answer(reader) == (200, b"{}")
        for _ in range(num_requests):
            assert await read_answer(reader) == (200, b"x" * 600)
        writer.close()
