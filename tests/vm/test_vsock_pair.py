"""The transport between two kernels, with echo_host.py on CID 2: ``run.sh pair``."""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from mlxbridge.addresses import VsockAddress
from mlxbridge.errors import TransportError
from mlxbridge.transport import vsock
from mlxbridge.transport.dial import dial, dial_blocking

Run = Callable[[Coroutine[Any, Any, None]], None]

HOST = VsockAddress(2, 2048)
GUEST_CID = 3
QUARTER_MEBIBYTE = bytes(range(256)) * 1024


@pytest.fixture(scope="module", autouse=True)
def host_is_up() -> Iterator[None]:
    """Both kernels boot side by side: until the host listens, a connect is refused or ends in ETIMEDOUT."""
    deadline = time.monotonic() + 60
    while True:
        try:
            dial_blocking(HOST, 5).close()
        except TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            break
    yield


@pytest.fixture(params=[True, False], ids=["native", "libc"], autouse=True)
def either_interpreter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "open_socket", functools.partial(vsock.open_socket, native=request.param))


def test_blocking_echo_and_the_cid_that_the_host_sees() -> None:
    with dial_blocking(HOST, 10) as sock, sock.makefile("rb") as file:
        assert file.readline().decode() == f"vsock cid={GUEST_CID} port={vsock.bound_address(sock).port}\n"
        sock.sendall(QUARTER_MEBIBYTE)
        assert file.read(len(QUARTER_MEBIBYTE)) == QUARTER_MEBIBYTE


def test_loop_echo_and_the_cid_that_the_host_sees(run: Run) -> None:
    async def main() -> None:
        reader, writer = await asyncio.open_connection(sock=await dial(HOST, 10))
        assert (await reader.readline()).decode().startswith(f"vsock cid={GUEST_CID} ")
        writer.write(QUARTER_MEBIBYTE)
        assert await reader.readexactly(len(QUARTER_MEBIBYTE)) == QUARTER_MEBIBYTE
        writer.close()
        await writer.wait_closed()

    run(main())


def test_port_without_listener_is_a_reset_with_a_reason() -> None:
    with pytest.raises(TransportError, match=r"nobody listens on that port.*\[ECONNRESET\]"):
        dial_blocking(VsockAddress(2, 9999), 10)
