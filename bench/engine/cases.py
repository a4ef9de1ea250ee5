"""What is measured, and on what: a case takes a side and a round's number, and returns what it found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from bench.engine.sides import Ask, Side, generate_alone
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.grammar.response_format import Source, read_response_format
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.types import Speculation

# Steps before a long prompt arrives, and how many of them tell what is usual.
_STEPS_BEFORE = 48
_USUAL_STEPS = 32
_LONG, _SHORT = 1000, 1001


@dataclass(slots=True)
class Found:
    """One round of a case on one side.

    Attributes:
        numbers: quantities by name; milliseconds unless the name says otherwise.
        token_times: milliseconds from an event to each token of one request; empty where a case keeps none.
        gaps: milliseconds between one request's tokens; empty where a case keeps none.
    """

    numbers: dict[str, float]
    token_times: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


def own_sampling(number: int) -> dict[str, float | int]:
    """Settings that no two requests of a batch share."""
    return {
        "temperature": 0.6 + 0.01 * number,
        "top_p": 0.8 + 0.002 * number,
        "min_p": 0.01 + 0.0005 * number,
        "top_k": 20 + number,
    }


def own_format(number: int) -> Source:
    """A JSON schema that no two requests of a batch share, of answers that do not end by themselves."""
    person = {
        "type": "object",
        "properties": {
            f"name_{number}": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "colours": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
        },
        "required": [f"name_{number}", "age", "colours"],
        "additionalProperties": False,
    }
    schema = {"type": "array", "items": person, "minItems": 10_000}
    return read_response_format({"type": "json_schema", "schema": schema})


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Requests of one kind: the same for both sides, new in every round, lest a cache of prefixes helps one.

    Attributes:
        vocabulary: prompts are random ids below it.
        is_uneven: prompts differ in length by up to half; the lengths are the same in all rounds.
    """

    vocabulary: int
    prompt_tokens: int
    max_tokens: int
    has_own_sampling: bool = False
    has_own_format: bool = False
    speculation: Speculation = "off"
    is_uneven: bool = False

    def asks(self, num_rows: int, round_number: int) -> list[Ask]:
        """So many requests; nothing in them depends on anything but the arguments."""
        lengths = random.Random(num_rows)
        return [
            Ask(
                prompt=self._prompt(self._length(lengths), f"{num_rows} {round_number} {number}"),
                max_tokens=self.max_tokens,
                sampling=own_sampling(number) if self.has_own_sampling else None,
                response_format=own_format(number) if self.has_own_format else None,
                speculation=self.speculation,
            )
            for number in range(num_rows)
        ]

    def endless(self, round_number: int) -> Iterator[Ask]:
        """Requests, all of one length, one after the other."""
        number = 0
        while True:
            prompt = self._prompt(self.prompt_tokens, f"endless {round_number} {number}")
            yield Ask(prompt=prompt, max_tokens=self.max_tokens)
            number += 1

    def _length(self, chance: random.Random) -> int:
        spread = self.prompt_tokens // 2 if self.is_uneven else 0
        return self.prompt_tokens + chance.randint(-spread, spread)

    def _prompt(self, length: int, seed: str) -> list[int]:
        chance = random.Random(seed)
        return [chance.randrange(self.vocabulary) for _ in range(length)]


def rate(side: Side, asks: list[Ask]) -> Found:
    """All arrive at once.

    ``tokens/s`` is of all together while all are being answered, from when the last has begun to when the first
    is over; ``with prompts, tokens/s`` from when they are submitted to when the last is over.
    """
    submitted = perf_counter()
    for number, ask in enumerate(asks):
        side.submit(number, ask)
    counts = [0] * len(asks)
    begun: float | None = None
    window, num_counted = 0.0, 0
    while side.is_busy:
        numbers = side.step()
        for number in numbers:
            counts[number] += 1
        if begun is not None and not window:
            num_counted += len(numbers)
        if begun is None and min(counts):
            begun = perf_counter()
        if not window and any(count >= ask.max_tokens for count, ask in zip(counts, asks, strict=True)):
            if begun is None or not num_counted:
                raise RuntimeError("the first answer ended before the last one began: ask for more tokens")
            window = perf_counter() - begun
    over = perf_counter()
    side.stop()
    if counts != [ask.max_tokens for ask in asks]:
        raise RuntimeError(f"{sum(counts)} tokens came instead of {sum(ask.max_tokens for ask in asks)}")
    return Found(
        {"tokens/s": num_counted / window, "with prompts, tokens/s": sum(counts) / (over - submitted)}
    )


def rate_with_steps(engine: BatchEngine, side: Side, asks: list[Ask]) -> Found:
    """As ``rate``, of our engine, with the tokens that a step gave all requests together, prompts' steps among them."""
    before = engine.stats()["steps_total"]
    found = rate(side, asks)
    num_steps = engine.stats()["steps_total"] - before
    found.numbers["tokens/step"] = sum(ask.max_tokens for ask in asks) / num_steps
    return found


def rate_of_generate_step(loaded: LoadedModel, ask: Ask) -> Found:
    """As ``rate``, of mlx_lm's loop for one request."""
    submitted = perf_counter()
    tokens = generate_alone(loaded, ask)
    next(tokens)
    begun = perf_counter()
    num_counted = sum(1 for _ in tokens)
    over = perf_counter()
    return Found(
        {
            "tokens/s": num_counted / (over - begun),
            "with prompts, tokens/s": (num_counted + 1) / (over - submitted),
        }
    )


def long_prompt_beside(side: Side, running: list[Ask], long: Ask, short: Ask) -> Found:
    """A long prompt, and right after it a short one, arrive while others are being answered.

    Returns:
        gap_before (median between one running answer's tokens) and gap_max (the largest from the arrival to the long
        one's first token), first_long and first_short (from the arrival); the times of that answer's tokens since the
        arrival, those before it negative; and all its gaps from the arrival to the long one's first token.
    """
    for number, ask in enumerate(running):
        side.submit(number, ask)
    seen: set[int] = set()
    while len(seen) < len(running):
        seen.update(side.step())
    times: list[float] = []
    for _ in range(_STEPS_BEFORE):
        if 0 in side.step():
            times.append(perf_counter())
    num_before, arrived = len(times), perf_counter()
    side.submit(_LONG, long)
    side.submit(_SHORT, short)
    firsts: dict[int, float] = {}
    num_until_first = 0
    while len(firsts) < 2:
        numbers = side.step()
        now = perf_counter()
        if 0 in numbers:
            times.append(now)
        for number in numbers:
            if number in (_LONG, _SHORT):
                firsts.setdefault(number, now - arrived)
        if _LONG in firsts and not num_until_first:
            num_until_first = len(times)
    side.stop()
    gaps = [1e3 * (later - earlier) for earlier, later in zip(times, times[1:], strict=False)]
    during = gaps[num_before - 1 : num_until_first - 1]
    return Found(
        {
            "gap_before": median(gaps[num_before - 1 - _USUAL_STEPS : num_before - 1]),
            "gap_max": max(during),
            "first_long": 1e3 * firsts[_LONG],
            "first_short": 1e3 * firsts[_SHORT],
        },
        [round(1e3 * (moment - arrived), 2) for moment in times],
        [round(gap, 3) for gap in during],
    )


def churn(side: Side, num_rows: int, work: Work, round_number: int, num_steps: int) -> Found:
    """In every step one answer ends and a request arrives: tokens of all together in ``num_steps`` steps.

    Counted by tokens and not by steps: a side that lets newcomers wait has fewer rows, and cheaper steps.
    """
    requests = work.endless(round_number)
    for number in range(num_rows):
        # Answers of all lengths, so that from here on one ends in every step.
        side.submit(number, _of_length(next(requests), 2 + number))
    seen: set[int] = set()
    while len(seen) < num_rows:
        seen.update(side.step())
    started, num_tokens = 0.0, 0
    # Once the first answers are all over, how they began does not show any more.
    for step in range(-num_rows, num_steps):
        if step == 0:
            started = perf_counter()
        side.submit(2 * num_rows + step, _of_length(next(requests), num_rows))
        num_drawn = len(side.step())
        if step >= 0:
            num_tokens += num_drawn
    seconds = perf_counter() - started
    side.stop()
    return Found({"tokens/s": num_tokens / seconds})


def _of_length(ask: Ask, max_tokens: int) -> Ask:
    return Ask(prompt=ask.prompt, max_tokens=max_tokens, sampling=ask.sampling)
