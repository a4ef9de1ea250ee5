"""What is measured: a case takes a side and returns numbers."""

from __future__ import annotations

import random
from statistics import median
from time import perf_counter

from bench.engine.sides import Ask, Side
from bench.stats import percentile


def own_sampling(number: int) -> dict[str, float | int]:
    """Settings that no two requests of a batch share."""
    return {
        "temperature": 0.6 + 0.01 * number,
        "top_p": 0.8 + 0.002 * number,
        "min_p": 0.01 + 0.0005 * number,
        "top_k": 20 + number,
    }


def asks(
    num_rows: int,
    *,
    vocabulary: int,
    prompt_tokens: int,
    max_tokens: int,
    has_own_sampling: bool = False,
    is_uneven: bool = False,
) -> list[Ask]:
    """Requests with random prompts; uneven ones differ in length by up to half."""
    chance = random.Random(num_rows)
    found = []
    for number in range(num_rows):
        length = prompt_tokens + (chance.randint(-prompt_tokens // 2, prompt_tokens // 2) if is_uneven else 0)
        prompt = [chance.randrange(vocabulary) for _ in range(length)]
        sampling = own_sampling(number) if has_own_sampling else None
        found.append(Ask(prompt=prompt, max_tokens=max_tokens, sampling=sampling))
    return found


def long_prompt_beside(side: Side, running: list[Ask], long: Ask, short: Ask) -> dict[str, float]:
    """A long prompt, and right after it a short one, arrive while others are being answered.

    Returns:
        Milliseconds: gap_before (median between the running ones' tokens), gap_p99 and gap_max from the arrival to
        the long one's first token, first_long and first_short (from the arrival).
    """
    for number, ask in enumerate(running):
        side.submit(number, ask)
    seen: set[int] = set()
    while len(seen) < len(running):
        seen.update(side.step())
    before, during = [], []
    last = perf_counter()
    for _ in range(40):
        side.step()
        before.append(perf_counter() - last)
        last = perf_counter()
    arrived = last
    side.submit(1000, long)
    side.submit(1001, short)
    firsts: dict[int, float] = {}
    while 1000 not in firsts or 1001 not in firsts:
        numbers = side.step()
        now = perf_counter()
        if 1000 not in firsts and 0 in numbers:
            during.append(now - last)
            last = now
        for number in numbers:
            if number >= 1000:
                firsts.setdefault(number, now - arrived)
    side.stop()
    return {
        "gap_before": 1e3 * median(before[8:]),
        "gap_p99": 1e3 * percentile(during, 0.99),
        "gap_max": 1e3 * max(during),
        "first_long": 1e3 * firsts[1000],
        "first_short": 1e3 * firsts[1001],
    }


def churn(side: Side, num_rows: int, ask: Ask, num_steps: int) -> dict[str, float]:
    """Milliseconds a step, median: with the same rows all the time, and with one leaving and one joining a step."""
    steady = Ask(prompt=ask.prompt, max_tokens=num_steps + 8, sampling=ask.sampling)
    still = _steps(side, [steady] * num_rows, None, num_steps)
    staggered = [
        Ask(prompt=ask.prompt, max_tokens=2 + number, sampling=ask.sampling) for number in range(num_rows)
    ]
    moving = _steps(
        side, staggered, Ask(prompt=ask.prompt, max_tokens=num_rows, sampling=ask.sampling), num_steps
    )
    return {"still": still, "moving": moving}


def _steps(side: Side, first: list[Ask], newcomer: Ask | None, num_steps: int) -> float:
    for number, ask in enumerate(first):
        side.submit(number, ask)
    seen: set[int] = set()
    while len(seen) < len(first):
        seen.update(side.step())
    times = []
    for step in range(num_steps):
        started = perf_counter()
        if newcomer is not None:
            side.submit(len(first) + step, newcomer)
        side.step()
        times.append(perf_counter() - started)
    side.stop()
    return 1e3 * median(times[len(times) // 4 :])
