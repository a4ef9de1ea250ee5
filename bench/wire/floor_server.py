"""The floor: one blocking socket, one thread, length-prefixed msgpack, one frame a step; arrays as they are in memory."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Any

import msgpack

from bench.wire.workload import FLAT, TEXT, make_array, stamp

LENGTH = Struct("<I")
_MOST_BYTES = 64 * 1024


def serve(path: str, announce: Callable[[], None]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        announce()
        sock, _ = listener.accept()
    with sock, suppress(BrokenPipeError, ConnectionResetError):  # a client that has measured enough just goes
        while (request := receive(sock)) is not None:
            answer(sock, request)


def answer(sock: socket.socket, request: dict[str, Any]) -> None:
    if "echo" in request:
        send(sock, request["echo"])
    elif "streams" in request:
        stream(sock, request["streams"], request["prompt"])
    else:
        send_arrays(sock, request["nbytes"], request["count"])


def send(sock: socket.socket, value: Any) -> None:
    data = msgpack.packb(value)
    sock.sendall(LENGTH.pack(len(data)) + data)


def stream(sock: socket.socket, num_streams: int, prompt: str) -> None:
    interval = 0.0 if prompt == FLAT else float(prompt)
    calls, texts = list(range(num_streams)), [TEXT] * num_streams
    pack = msgpack.Packer().pack
    due = time.monotonic()
    number = 0
    while True:
        if interval:
            due += interval
            time.sleep(max(0.0, due - time.monotonic()))
            number = stamp()
        else:
            number += 1
        data = pack((calls, [[number]] * num_streams, texts))
        sock.sendall(LENGTH.pack(len(data)) + data)


def send_arrays(sock: socket.socket, num_bytes: int, count: int) -> None:
    data = make_array(num_bytes).data.cast("B")
    for _ in range(count):
        sock.sendall(data)


def receive(sock: socket.socket) -> Any:
    """The one message under way, in one system call if it has come whole; None at the end of the stream."""
    data = sock.recv(_MOST_BYTES)
    while data and len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]:
        data += sock.recv(_MOST_BYTES)
    return msgpack.unpackb(memoryview(data)[LENGTH.size :]) if data else None
