"""Calls of the tokenizer, beside the steps of answers that are running."""

from __future__ import annotations

import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mlxbridge.errors import DeadlineExceeded, InternalError, InvalidArgument
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.token_request import DetokenizeRequest, TokenizeRequest
from mlxbridge.host.worker.generation import Generation
from mlxbridge.host.worker.tokenizing import Tokenizing
from mlxbridge.protocol.events import ErrorReceived, ResultReceived
from tests.host.worker.front_end import FrontEnd, generate


class Slow:
    """A tokenizer that takes as long as the test wants."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.texts: list[Any] = []

    def tokenize(self, request: TokenizeRequest) -> list[int]:
        self.texts.append(request.source.prompt)
        assert self.go_on.wait(30)
        if request.source.prompt == "broken":
            raise RuntimeError("tripped")
        return [1, 2, 3]

    def detokenize(self, request: DetokenizeRequest) -> str:
        return "text"


@pytest.fixture
def slow(ready: FrontEnd) -> Slow:
    slow = Slow()
    service = ready.loop._service
    assert isinstance(service, Generation)
    service._tokenizing = Tokenizing(slow, ThreadPoolExecutor(1), ready.loop._connection, "tiny")
    return slow


def ask(
    front: FrontEnd, method: str, guest: str = "someone", deadline_ms: int | None = None, **params: Any
) -> int:
    given = {"request": params, "guest": guest, "cache_scope": ""}
    return front.connection.open_call(method, given, deadline_ms=deadline_ms)


def end(front: FrontEnd, call: int) -> dict[str, Any] | BaseException:
    while (ended := front.end(call)) is None:
        front.turn()
    return dict(ended.result) if isinstance(ended, ResultReceived) else ended.error


def test_text_becomes_what_the_model_reads(ready: FrontEnd, loaded: LoadedModel) -> None:
    ids = list(loaded.tokenizer.encode("hello there"))
    result = end(ready, ask(ready, "tokenize", prompt="hello there"))
    assert result == {
        "model": "tiny",
        "num_tokens": len(ids),
        "token_ids": struct.pack(f"<{len(ids)}I", *ids),
    }
    assert end(ready, ask(ready, "detokenize", token_ids=struct.pack(f"<{len(ids)}I", *ids))) == {
        "model": "tiny",
        "text": loaded.tokenizer.decode(ids),
    }
    assert end(ready, ask(ready, "tokenize", prompt="", add_special_tokens=False, count_only=True)) == {
        "model": "tiny",
        "num_tokens": 0,
    }


def test_what_cannot_be_is_refused_by_name(ready: FrontEnd, loaded: LoadedModel) -> None:
    error = end(ready, ask(ready, "tokenize", messages=[{"role": "user"}]))
    assert isinstance(error, InvalidArgument) and error.details == {"field": "messages[0].content"}
    packed = struct.pack("<2I", 1, loaded.vocabulary_size)
    error = end(ready, ask(ready, "detokenize", token_ids=packed))
    assert isinstance(error, InvalidArgument) and error.details == {"field": "token_ids[1]"}


def test_steps_go_on_beside_a_long_text(ready: FrontEnd, slow: Slow) -> None:
    counted = ask(ready, "tokenize", prompt="long")
    answer = generate(ready, max_tokens=20, ignore_eos=True)
    while ready.end(answer) is None:
        ready.turn()
    assert ready.end(counted) is None and slow.texts == ["long"]
    slow.go_on.set()
    result = end(ready, counted)
    assert isinstance(result, dict) and result["num_tokens"] == 3


def test_guests_take_turns(ready: FrontEnd, slow: Slow) -> None:
    calls = [ask(ready, "tokenize", guest="many", prompt=f"many {number}") for number in range(3)]
    calls.append(ask(ready, "tokenize", guest="few", prompt="few"))
    ready.turn()
    slow.go_on.set()
    for call in calls:
        end(ready, call)
    assert slow.texts.index("few") < 2


def test_cancelled_call_is_not_begun_and_one_that_runs_is_not_answered(ready: FrontEnd, slow: Slow) -> None:
    running, waiting = ask(ready, "tokenize", prompt="a"), ask(ready, "tokenize", prompt="b")
    ready.turn()
    for call in (running, waiting):
        ready.connection.cancel(call)
    ready.turn()
    for call in (running, waiting):
        ended = ready.end(call)
        assert isinstance(ended, ResultReceived) and ended.result == {"finish_reason": "cancelled"}
    later = ask(ready, "tokenize", prompt="c")
    slow.go_on.set()
    assert isinstance(end(ready, later), dict)
    assert slow.texts == ["a", "c"]


def test_call_whose_time_is_over_is_not_begun(ready: FrontEnd, slow: Slow) -> None:
    first = ask(ready, "tokenize", prompt="a")
    late = ask(ready, "tokenize", prompt="b", deadline_ms=0)
    ready.turn()
    slow.go_on.set()
    assert isinstance(end(ready, late), DeadlineExceeded)
    assert isinstance(end(ready, first), dict)
    assert slow.texts == ["a"]


def test_fault_ends_one_call(ready: FrontEnd, slow: Slow) -> None:
    slow.go_on.set()
    error = end(ready, ask(ready, "tokenize", prompt="broken"))
    assert isinstance(error, InternalError) and "tokenize failed: RuntimeError: tripped" in error.message
    assert isinstance(end(ready, ask(ready, "tokenize", prompt="whole")), dict)
    assert not any(isinstance(event, ErrorReceived) for event in ready.events[-1:])
