"""What is told of calls, and of how they went lately, with time handed in."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, Overloaded, WorkerLost
from mlxbridge.host.telemetry.recent import MAX_CALLS, WINDOW_S, Recent, percentile
from mlxbridge.host.telemetry.request import EndedRequest
from mlxbridge.host.telemetry.telemetry import Telemetry

ANSWER = {
    "finish_reason": "stop",
    "prompt_tokens": 7,
    "completion_tokens": 11,
    "cached_tokens": 3,
    "queue_ms": 100.0,
    "prefill_ms": 200.0,
    "decode_ms": 500.0,
}


class Rig:
    """Telemetry on a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.telemetry = Telemetry(clock=lambda: self.now)
        self.ended: list[EndedRequest] = []
        self.telemetry.listen(self.ended.append)

    def call(
        self,
        model: str | None = "a",
        *,
        seconds: float = 1.0,
        result: dict[str, Any] | None = None,
        error: BridgeError | None = None,
    ) -> EndedRequest:
        request = self.telemetry.begin("generate", {}, guest="connection 1", owner=None)
        request.model = model
        self.now += seconds
        self.telemetry.end(request, ANSWER if result is None else result, error)
        return self.ended[-1]


def test_first_token_came_when_all_but_decoding_was_done() -> None:
    told = Rig().call(seconds=2.0).describe()
    assert told == {
        "request_id": told["request_id"],
        "method": "generate",
        "guest": "connection 1",
        "model": "a",
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "completion_tokens": 11,
        "cached_tokens": 3,
        "queue_ms": 100.0,
        "prefill_ms": 200.0,
        "decode_ms": 500.0,
        "ttft_ms": 1500.0,  # the model was loaded meanwhile
        "total_ms": 2000.0,
    }


def test_call_that_failed_tells_its_error_and_no_times_of_the_model() -> None:
    rig = Rig()
    ended = rig.call(result={}, error=WorkerLost("it died"))
    assert ended.outcome == "WorkerLost"
    told = ended.describe()
    assert (told["code"], told["error"], told["total_ms"]) == (27, "WorkerLost", 1000.0)
    assert not {"finish_reason", "ttft_ms", "queue_ms", "completion_tokens"} & told.keys()


def test_every_call_has_an_id_of_its_own() -> None:
    rig = Rig()
    assert len({rig.call().request.request_id for _ in range(50)}) == 50


def test_recent_calls_are_told_as_medians_and_percentiles_by_model() -> None:
    rig = Rig()
    for seconds in (0.6, 0.7, 1.5):
        rig.call(seconds=seconds)
    rig.call("b", seconds=0.5, result={"finish_reason": "cancelled"})
    rig.call(None, result={}, error=WorkerLost("of no model"))
    assert rig.telemetry.describe("a") == {
        "window_s": WINDOW_S,
        "calls": 3,
        "failed": 0,
        "ttft_ms": 200.0,
        "ttft_ms_p95": 1000.0,
        "queue_ms": 100.0,
        "queue_ms_p95": 100.0,
        "call_tokens_per_s": 20.0,
    }
    assert rig.telemetry.describe("b") == {"window_s": WINDOW_S, "calls": 1, "failed": 0}


def test_calls_are_forgotten_after_the_window_and_past_the_bound() -> None:
    rig = Rig()
    rig.call(seconds=0.0)
    rig.now += WINDOW_S - 1
    rig.call(seconds=0.0, result={}, error=WorkerLost("died"))
    assert rig.telemetry.describe("a")["calls"] == 2
    rig.now += 1
    assert rig.telemetry.describe("a") == {"window_s": WINDOW_S, "calls": 1, "failed": 1}
    for _ in range(MAX_CALLS + 5):
        rig.call(seconds=0.0)
    assert rig.telemetry.describe("a")["calls"] == MAX_CALLS
    rig.now += WINDOW_S
    assert rig.telemetry.describe("a")["calls"] == 0


class Prompt:
    """What a call asks, and an error is raised amid."""

    def refuse(self) -> BridgeError:
        try:
            raise Overloaded("there is no room")
        except Overloaded as error:
            return error


def test_what_a_refused_call_asked_is_not_kept_with_how_it_ended() -> None:
    rig = Rig()
    prompt = Prompt()
    kept = weakref.ref(prompt)
    rig.call(result={}, error=prompt.refuse())
    rig.ended.clear()
    del prompt
    gc.collect()
    assert kept() is None
    assert rig.telemetry.describe("a")["failed"] == 1


def test_nothing_is_kept_of_models_that_nobody_calls_any_more() -> None:
    rig, recent = Rig(), Recent()
    for name in ("a", "b", "c"):
        recent.note(rig.call(name), rig.now)
        rig.now += WINDOW_S
    assert len(recent) == 1


@pytest.mark.parametrize(("percent", "value"), [(50, 10.0), (95, 19.0), (100, 20.0), (1, 1.0)])
def test_percentile_is_one_of_the_values(percent: int, value: float) -> None:
    assert percentile([float(number) for number in range(20, 0, -1)], percent) == value
