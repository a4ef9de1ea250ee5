"""The kernel's buffers of real unix sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from mlxbridge.transport.buffers import BULK_WRITE_BYTES, SendBuffer, send_buffer_of


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def size_of(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def test_buffer_is_larger_while_bulk_data_is_written(sock: socket.socket) -> None:
    usual = size_of(sock)
    buffer = SendBuffer(sock)
    buffer.fit(BULK_WRITE_BYTES)
    assert size_of(sock) == usual
    for _ in range(2):
        buffer.fit(BULK_WRITE_BYTES + 1)
        assert size_of(sock) > usual
        buffer.fit(1)
        assert size_of(sock) == usual


def test_socket_that_is_closed_keeps_its_trouble_to_itself(sock: socket.socket) -> None:
    buffer = SendBuffer(sock)
    sock.close()
    buffer.fit(BULK_WRITE_BYTES + 1)


def test_only_unix_sockets_are_fitted(sock: socket.socket) -> None:
    assert send_buffer_of(sock) is not None and send_buffer_of(None) is None
    with socket.socket(socket.AF_INET) as tcp:
        assert send_buffer_of(tcp) is None
