"""What must not go wrong between threads, signals and a host that misbehaves; most of these once did."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from mlxbridge import AsyncClient, Client
from mlxbridge.addresses import UnixAddress
from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    LimitExceeded,
    RemoteProtocolError,
    TransportError,
    UsageError,
)
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.calls import NO_PAYLOADS
from mlxbridge.protocol import HostConnection, Limits
from mlxbridge.protocol.events import CallCancelled, CallOpened, Event
from tests.guest.script_host import ScriptHost, script_host
from tests.guest.test_clients import RESULT, answer


class Pair:
    """A link, and its host turned by hand."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.host = HostConnection(software="hand", nonce=os.urandom(32))
        self.calls: dict[str, int] = {}
        self.link = BlockingLink(ours, UnixAddress("/hand"), None)
        self._opened = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.link.shake_hands(5)

    def _read(self) -> None:
        while count := self.theirs.recv_into(self.host.receive_buffer()):
            self.host.received(count)
            for event in self.host.events():
                if isinstance(event, CallOpened):
                    with self._opened:
                        self.calls[event.method] = event.call
                        self._opened.notify_all()
            self.send()

    def send(self) -> None:
        for data in self.host.data_to_send():
            self.theirs.sendall(data)

    def finish(self, method: str) -> None:
        with self._opened:
            assert self._opened.wait_for(lambda: method in self.calls, 10)
        self.host.finish(self.calls[method], {})
        self.send()

    def close(self) -> None:
        self.link.close()
        self._reader.join(10)
        self.theirs.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


class Waiter(threading.Thread):
    """A thread that makes a call and waits for its end."""

    def __init__(self, link: BlockingLink, method: str, timeout: float | None = None) -> None:
        super().__init__()
        self.error: BridgeError | None = None
        deadline = None if timeout is None else time.monotonic() + timeout
        (self._call,) = link.open(method, [{}], NO_PAYLOADS, None, deadline)
        self._link, self._deadline = link, deadline
        self.start()

    def run(self) -> None:
        try:
            self._link.wait(self._call, self._deadline)
            self.error = self._call.error
        except BridgeError as error:
            self.error = error

    def ends(self) -> bool:
        self.join(10)
        return not self.is_alive()


def until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_follower_whose_time_is_up_hands_the_reading_on(pair: Pair) -> None:
    """A leads, B and C follow; A ends and hands over to B just as B's time is up: C must still get its answer."""
    leadership = pair.link._driver._leadership
    a = Waiter(pair.link, "a")
    until(lambda: leadership.is_taken)
    b = Waiter(pair.link, "b", timeout=0.3)
    c = Waiter(pair.link, "c")
    until(lambda: len(leadership._followers) == 2)
    hand_over = leadership._hand_over

    def late_hand_over() -> None:
        hand_over()
        if threading.current_thread() is a:
            time.sleep(0.4)  # with the mutex held: B wakes up when its time is over

    leadership._hand_over = late_hand_over  # type: ignore[method-assign]
    pair.finish("a")
    assert a.ends()
    assert b.ends()
    assert isinstance(b.error, DeadlineExceeded)
    pair.finish("c")
    assert c.ends()
    assert c.error is None
    assert not pair.link._driver.mutex.locked()


def test_every_thread_learns_that_sending_failed(pair: Pair) -> None:
    waiters = [Waiter(pair.link, name) for name in "abc"]
    until(lambda: len(pair.link._driver._leadership._followers) == 2)
    pair.theirs.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionLost):
        pair.link.ping(time.monotonic() + 10)
    assert all(waiter.ends() for waiter in waiters)
    assert all(isinstance(waiter.error, ConnectionLost) for waiter in waiters)


def test_host_that_is_just_writing_can_still_read_that_the_guest_has_left(pair: Pair) -> None:
    reader = Waiter(pair.link, "a")
    until(lambda: pair.link._driver._leadership.is_taken)
    leaving = threading.Thread(target=pair.link.close)
    leaving.start()
    until(lambda: pair.host.closed)
    pair.theirs.sendall(b"a token that nobody reads")  # over a link that was closed this would fail
    pair.theirs.shutdown(socket.SHUT_RDWR)
    leaving.join(10)
    assert not leaving.is_alive()
    assert reader.ends() and isinstance(reader.error, ConnectionLost)


# Python throws away an interrupt that comes inside a finalizer, with this warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_any_moment_leave_the_client_usable(path: str) -> None:
    def react(connection: HostConnection, event: Event) -> None:
        if isinstance(event, CallCancelled):
            connection.finish(event.call, {"finish_reason": "cancelled"})
        if isinstance(event, CallOpened):
            for number in range(300):
                connection.send_tokens([event.call], [[number]], ["word "])
            connection.finish(event.call, RESULT)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with script_host(path, react) as host, Client(host.url, timeout=20) as client:
            client.ping()
            for trial in range(150):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0002 + trial * 0.00003)
                    client.generate("x")
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    pass
                except ConnectionLost:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                assert client.generate("y").token_ids == list(range(300))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def stuck(path: str) -> Iterator[ScriptHost]:
    """A host that reads nothing any more once it was asked for "stuck"."""
    release = threading.Event()

    def react(connection: HostConnection, event: Event) -> None:
        if isinstance(event, CallOpened) and event.params.get("prompt") == "stuck":
            release.wait(20)
        answer(connection, event)

    with script_host(path, react) as host:
        yield host
        release.set()


def test_host_that_reads_nothing_holds_up_nobody(stuck: ScriptHost) -> None:
    with Client(stuck.url) as client:
        client.ping()
        client.stream("stuck")
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.generate("x" * 2_000_000, timeout=0.1)
        with pytest.raises(DeadlineExceeded):
            client.generate("short", timeout=0.1)
        client.close()
        assert time.monotonic() - start < 5


async def test_host_that_reads_nothing_cannot_keep_an_async_client_from_closing(stuck: ScriptHost) -> None:
    client = AsyncClient(stuck.url)
    await client.ping()
    stream = await client.stream("stuck")
    with pytest.raises(DeadlineExceeded):
        await client.generate("x" * 2_000_000, timeout=0.1)
    await stream.aclose()
    await client.close()


def odd(connection: HostConnection, event: Event) -> None:
    """Sends generate calls what they have no use for."""
    if isinstance(event, CallOpened):
        connection.send_item(event.call, {"unasked": True})
        if event.params.get("prompt") == "payload":
            connection._answers.flows[event.call].bytes_total = 1 << 20
            connection.send_data(event.call, {}, b"x" * 1000)
        else:
            connection.send_tokens([event.call], [[1]], ["one"])
        connection.finish(event.call, RESULT)


def test_items_on_a_generate_call_are_passed_over(path: str) -> None:
    with script_host(path, odd) as host, Client(host.url, timeout=10) as client:
        assert client.generate("x").text == "one"


async def test_items_on_an_async_generate_call_are_passed_over(path: str) -> None:
    with script_host(path, odd) as host:
        async with AsyncClient(host.url, timeout=10) as client:
            assert (await client.generate("x")).text == "one"


def test_payload_on_a_generate_call_ends_the_connection(path: str) -> None:
    with (
        script_host(path, odd) as host,
        Client(host.url, timeout=10) as client,
        pytest.raises(RemoteProtocolError, match="no credit"),
    ):
        client.generate("payload")


async def test_slot_of_a_call_that_could_not_be_opened_goes_to_the_next(path: str) -> None:
    import asyncio

    with script_host(path, answer, Limits(max_calls=1, max_head_bytes=64 * 1024)) as host:
        async with AsyncClient(host.url, timeout=10) as client:
            holding = await client.stream("hang")
            too_large = asyncio.create_task(client.generate("x" * 70_000))
            waiting = asyncio.create_task(client.generate("me"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await holding.aclose()
            with pytest.raises(LimitExceeded):
                await too_large
            assert (await waiting).text == "Hello me"


def test_stream_of_the_parent_cannot_be_read_by_a_fork(path: str) -> None:
    with script_host(path, answer) as host, Client(host.url, timeout=20) as client:
        stream = client.stream("hang")
        next(stream)
        child = os.fork()
        if child == 0:
            try:
                next(stream)
            except UsageError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert client.generate("parent").text == "Hello parent"


def test_idle_client_finds_the_host_that_came_back(path: str) -> None:
    with Client(f"unix://{path}", timeout=10) as client:
        with script_host(path, answer):
            assert client.generate("one").text == "Hello one"
        os.unlink(path)
        with script_host(path, answer):
            assert client.generate("two").text == "Hello two"


def test_timeout_covers_connecting(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        client = Client(f"unix://{path}", connect_timeout=30)
        start = time.monotonic()
        with pytest.raises((DeadlineExceeded, TransportError)):
            client.generate("x", timeout=0.1)
        assert time.monotonic() - start < 5
