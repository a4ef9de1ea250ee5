"""``python payload_worker.py --fd N``: a worker that answers with payloads; one of them it dies under."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping
from typing import Any

from mlxbridge.host.worker.loop import Tell, WorkerLoop
from mlxbridge.host.worker.service import Serve
from mlxbridge.protocol.events import CallOpened
from mlxbridge.protocol.host import HostConnection


def pattern(num_bytes: int) -> bytes:
    """Bytes among which none that was lost, doubled or moved would go unseen."""
    return b"".join(number.to_bytes(4, "little") for number in range(num_bytes // 4))


class Payloads:
    """``whole``: so many bytes, then the result. ``half``: the first half of them, and in the next turn the process ends."""

    tokens_total = 0

    def __init__(self, connection: HostConnection, model: str) -> None:
        self._connection = connection
        self._turns_left = -1

    @property
    def wait_s(self) -> float | None:
        return None if self._turns_left < 0 else 0

    def open(self, event: CallOpened) -> None:
        num_bytes = event.params["request"]["num_bytes"]
        if event.method == "whole":
            self._connection.send_data(event.call, {"kind": "whole"}, pattern(num_bytes))
            self._connection.finish(event.call, {"ok": True})
        else:
            self._connection.begin_data(event.call, {"kind": "half"}, num_bytes)
            self._connection.continue_data(event.call, memoryview(pattern(num_bytes // 2)))
            self._turns_left = 1

    def cancel(self, call: int) -> None:
        self._connection.finish(call, {"finish_reason": "cancelled"})

    def turn(self) -> None:
        if self._turns_left == 0:
            os._exit(1)
        self._turns_left -= 1

    def describe(self) -> dict[str, Any]:
        return {}

    def stats(self) -> dict[str, int]:
        return {"tokens_total": self.tokens_total}

    def close(self) -> None: ...


def load_model(params: Mapping[str, Any], tell: Tell) -> Serve:
    return Payloads


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    with socket.socket(fileno=parser.parse_args().fd) as sock:
        WorkerLoop(sock, load_model).run()
