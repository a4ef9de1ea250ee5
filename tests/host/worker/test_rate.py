"""A worker's tokens a second, with time handed in."""

from __future__ import annotations

from mlxbridge.host.worker.rate import WINDOW_S, Rate


def work(rate: Rate, begin: float, end: float, speed: int, total: int) -> int:
    """Work from ``begin`` to ``end`` in steps of 0.1 s; the counter behind it."""
    now = begin
    while now < end:
        if now >= rate.next_at:
            rate.note(now, total)
        total += speed // 10
        now = round(now + 0.1, 6)
    return total


def test_rate_is_over_the_last_seconds() -> None:
    rate = Rate()
    total = work(rate, 100, 105, speed=1000, total=300)
    assert total == 5300  # 300 were counted before anybody looked
    assert rate.per_second(105, total) == 5000 / WINDOW_S
    total = work(rate, 105, 130, speed=1000, total=total)
    assert abs(rate.per_second(130, total) - 1000) <= 50  # a sample's worth


def test_what_was_done_long_ago_does_not_count_however_it_was_sampled() -> None:
    rate = Rate()
    total = work(rate, 100, 100.4, speed=1000, total=0)  # one sample, before all of it
    assert rate.per_second(100.4, total) == 400 / WINDOW_S
    assert rate.per_second(111, total) == 0
    total = work(rate, 200, 200.3, speed=1000, total=total)
    assert rate.per_second(200.3, total) == 300 / WINDOW_S
    assert rate.per_second(211, total) == 0


def test_samples_are_few_however_long_the_work() -> None:
    rate = Rate()
    work(rate, 0, 1000, speed=10, total=0)
    assert len(rate._times) <= WINDOW_S / 0.5 + 2
