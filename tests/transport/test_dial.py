import asyncio
import errno
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.addresses import Address, TcpAddress, UnixAddress, VsockAddress, parse_listen
from mlxbridge.errors import TransportError, UsageError
from mlxbridge.transport import dial as dial_module
from mlxbridge.transport import names, vsock
from mlxbridge.transport.dial import dial, dial_blocking
from mlxbridge.transport.listen import bound_address, close_listener, listener, open_listener

Run = Callable[[Coroutine[Any, Any, None]], None]
Dial = Callable[[Address, float], socket.socket]

waits_on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="macOS refuses a connect where Linux keeps it waiting"
)
MEBIBYTE = bytes(range(256)) * 4096


@pytest.fixture(params=["unix", "tcp", "tcp6"])
def listen_text(request: pytest.FixtureRequest, folder: Path) -> str:
    return {"unix": f"unix:{folder}/s", "tcp": "tcp:127.0.0.1:0", "tcp6": "tcp:[::1]:0"}[request.param]


@pytest.fixture(params=["blocking", "asyncio", "uvloop"])
def any_dial(request: pytest.FixtureRequest) -> Dial:
    """Every way to dial, as a function that returns or raises."""
    if request.param == "blocking":
        return dial_blocking

    def dial_on_loop(address: Address, timeout: float) -> socket.socket:
        import uvloop

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(dial(address, timeout))

    return dial_on_loop


@contextmanager
def never_accepting_unix(path: Path) -> Iterator[UnixAddress]:
    """A unix listener whose accept queue is full."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind(str(path))
        sock.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            if waiting.connect_ex(str(path)):
                break
        yield UnixAddress(str(path))


@contextmanager
def never_accepting_tcp() -> Iterator[TcpAddress]:
    """A TCP listener whose accept queue is full: the kernel drops further SYNs, as a firewall would."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(sock.getsockname())
        time.sleep(0.05)
        yield TcpAddress(*sock.getsockname())


def test_dialled_socket_echoes_a_mebibyte_on_a_loop(run: Run, listen_text: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(len(MEBIBYTE)))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        listen = parse_listen(listen_text)
        listening = open_listener(listen)
        address = bound_address(listening, listen)
        server = await asyncio.start_server(echo, sock=listening)
        reader, writer = await asyncio.open_connection(sock=await dial(address, 5))
        writer.write(MEBIBYTE)
        assert await reader.read(-1) == MEBIBYTE
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        close_listener(listening)

    run(main())


def test_dialled_socket_is_blocking_or_not_as_promised(any_dial: Dial, listen_text: str) -> None:
    listen = parse_listen(listen_text)
    with listener(listen) as listening, any_dial(bound_address(listening, listen), 5) as sock:
        assert sock.getblocking() is (any_dial is dial_blocking)
        if sock.family != socket.AF_UNIX:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@waits_on_linux
def test_full_unix_queue_times_out(any_dial: Dial, folder: Path) -> None:
    with never_accepting_unix(folder / "s") as address:
        check_timeout(any_dial, address, "does not accept connections")


@waits_on_linux
def test_full_tcp_queue_times_out(any_dial: Dial) -> None:
    with never_accepting_tcp() as address:
        check_timeout(any_dial, address, "no answer")


def check_timeout(any_dial: Dial, address: Address, reason: str) -> None:
    began = time.monotonic()
    with pytest.raises(TransportError, match=reason) as caught:
        any_dial(address, 0.2)
    assert 0.15 < time.monotonic() - began < 2
    assert str(address) in caught.value.message
    assert caught.value.retryable


@waits_on_linux
def test_place_in_a_full_unix_queue_is_taken_when_it_comes_free(run: Run, folder: Path) -> None:
    async def main() -> None:
        path = folder / "s"
        with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as first:
            sock.bind(str(path))
            sock.listen(0)
            first.connect(str(path))
            dialling = asyncio.ensure_future(dial(UnixAddress(str(path)), 5))
            await asyncio.sleep(0.05)
            assert not dialling.done()
            sock.accept()[0].close()
            (await dialling).close()

    run(main())


def test_refused_and_missing_addresses_say_why(any_dial: Dial, folder: Path) -> None:
    stale = folder / "stale"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(stale))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed_port = sock.getsockname()[1]
    cases: list[tuple[Address, str]] = [
        (UnixAddress(str(folder / "none")), "no such file: start mlxbridge-host"),
        (UnixAddress(str(stale)), "nobody listens on it"),
        (TcpAddress("127.0.0.1", closed_port), "nobody listens on that port"),
        (TcpAddress("no-such-host.invalid", 1), "no address"),
    ]
    for address, reason in cases:
        with pytest.raises(TransportError, match=reason) as caught:
            any_dial(address, 5)
        assert caught.value.message.startswith(f"cannot connect to {address}: ")
        assert isinstance(caught.value.__cause__, OSError)


def test_name_with_several_addresses_is_tried_in_turn(
    any_dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as refused, socket.socket() as sock:
        refused.bind(("127.0.0.1", 0))
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        answers = [(socket.AF_INET, refused.getsockname()), (socket.AF_INET, sock.getsockname())]
        monkeypatch.setattr(names, "_getaddrinfo", lambda host, port, flags: [] if flags else answers)
        with any_dial(TcpAddress("two.example", 1), 5) as dialled:
            assert dialled.getpeername() == sock.getsockname()


@waits_on_linux
def test_silent_first_address_leaves_time_for_the_second(
    any_dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    with never_accepting_tcp() as silent, socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        answers = [(socket.AF_INET, (silent.host, silent.port)), (socket.AF_INET, sock.getsockname())]
        monkeypatch.setattr(names, "_getaddrinfo", lambda host, port, flags: [] if flags else answers)
        with any_dial(TcpAddress("two.example", 1), 1) as dialled:
            assert dialled.getpeername() == sock.getsockname()


def test_slow_name_ends_in_time_and_is_not_waited_for_at_exit(
    any_dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(host: str, port: int, flags: int) -> names.Found:
        if not flags:
            time.sleep(1.5)
        return []

    monkeypatch.setattr(names, "_getaddrinfo", slow)
    began = time.monotonic()
    with pytest.raises(TransportError, match=r"tcp://slow\.example:1: the look-up of its name took too long"):
        any_dial(TcpAddress("slow.example", 1), 0.1)
    assert time.monotonic() - began < 1


@waits_on_linux
def test_cancelled_dial_closes_its_socket(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[socket.socket] = []
    original = dial_module._Route.open

    def remember(route: dial_module._Route) -> socket.socket:
        opened.append(original(route))
        return opened[-1]

    monkeypatch.setattr(dial_module._Route, "open", remember)

    async def main() -> None:
        with never_accepting_tcp() as address:
            dialling = asyncio.ensure_future(dial(address, 5))
            await asyncio.sleep(0.05)
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling
            assert [sock.fileno() for sock in opened] == [-1]

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere vsock is refused before a socket is made")
def test_vsock_that_the_container_forbids_points_to_the_unix_socket(
    any_dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden() -> socket.socket:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(vsock, "open_socket", forbidden)
    with pytest.raises(
        TransportError, match="seccomp profile; mount the unix socket instead: -v /run"
    ) as caught:
        any_dial(VsockAddress(2, 2048), 1)
    assert not caught.value.retryable


def test_vsock_elsewhere_than_linux_is_a_usage_error(any_dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="only a Linux guest can dial vsock"):
        any_dial(VsockAddress(2, 2048), 1)


def test_dial_blocking_brings_no_asyncio() -> None:
    code = (
        "import sys; before = set(sys.modules); from mlxbridge.transport import dial, listen, peers;"
        "print(*{'asyncio', 'ctypes', 'concurrent.futures', 'logging'} & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
