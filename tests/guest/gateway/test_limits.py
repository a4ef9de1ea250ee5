"""What a caller may have at once, and in a minute."""

from __future__ import annotations

import pytest

from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.limits import Meter
from mlxbridge.guest.gateway.problem import Problem


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_more_than_may_be_under_way_is_refused() -> None:
    meter = Meter(Caller(name="alice", max_in_flight=2))
    meter.enter()
    meter.enter()
    with pytest.raises(Problem) as refused:
        meter.enter()
    assert (refused.value.status, refused.value.retry_after_s) == (429, 1.0)
    meter.leave()
    meter.enter()
    assert meter.in_flight == 2


def test_tokens_that_are_spent_come_back_within_a_minute() -> None:
    clock = Clock()
    meter = Meter(Caller(name="alice", tokens_per_minute=600), clock)
    meter.enter()
    meter.spend(700)  # nobody knew before how long the answer would be
    meter.leave()
    with pytest.raises(Problem) as refused:
        meter.enter()
    assert refused.value.status == 429
    assert refused.value.retry_after_s == pytest.approx(10.1)
    assert refused.value.headers == {"retry-after": "11"}
    clock.now += 10.1
    meter.enter()
    clock.now += 3600
    meter.enter()
    meter.spend(600)
    with pytest.raises(Problem):
        meter.enter()  # an hour has not saved up more than a minute's


def test_limit_that_is_new_finds_nothing_spent() -> None:
    meter = Meter(Caller(name="alice"), Clock())
    meter.spend(1_000_000)
    meter.update(Caller(name="alice", tokens_per_minute=10))
    meter.enter()
    meter.spend(10)
    with pytest.raises(Problem):
        meter.enter()


def test_limits_that_have_changed_hold_from_the_next_request_on() -> None:
    meter = Meter(Caller(name="alice"))
    for _ in range(3):
        meter.enter()
    meter.update(Caller(name="alice", max_in_flight=3))
    with pytest.raises(Problem):
        meter.enter()
