"""Random requests: what is asked, when it arrives, and whether it is given up."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from bench.soak.models import POISON
from mlxbridge.host.engine.grammar.response_format import Source
from mlxbridge.host.engine.interface import GenerateRequest

Chance = random.Random
_MAX_PREFIX = 240

# What Python says a whole answer looks like, by what it is asked to keep to. The model has no token for "A", so that the
# last one cannot be kept to; others end after one token, or do not before they are cut.
FORMATS: dict[Source, str] = {
    Source("regex", "response_format.pattern", "( w[0-9]{1,3}){2,6}"): "( w[0-9]{1,3}){2,6}",
    Source("regex", "response_format.pattern", r"[^\r\n]{3,40}!"): r"[^\r\n]{3,40}!",
    Source(
        "choice", "response_format.choices", '["é", " w1 w2", " w1 w23", "never"]'
    ): "é| w1 w2| w1 w23|never",
    Source(
        "json_schema",
        "response_format.schema",
        '{"type": "array", "items": {"enum": [1, 22, "é"]}, "minItems": 2}',
    ): r'\[\s*(1|22|"é")\s*(,\s*(1|22|"é")\s*)+\]',
    Source(
        "grammar", "response_format.grammar", 'start: /[x-z]{2}/ more\nmore: "." | "(" more ")"'
    ): r"[x-z]{2}\(*\.\)*",
    Source("regex", "response_format.pattern", "[x-z]{1,3}A"): "[x-z]{1,3}A",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request on its way.

    Attributes:
        pause: engine steps since the one before it arrived.
        patience: engine steps until it is cancelled; None: never.
        deadline_s: seconds until its deadline; None: none.
    """

    number: int
    request: GenerateRequest
    guest: str
    cache_scope: str
    pause: int
    patience: int | None
    deadline_s: float | None

    def __str__(self) -> str:
        plain, found = GenerateRequest(), []
        for field in fields(GenerateRequest):
            value = getattr(self.request, field.name)
            if value != getattr(plain, field.name):
                shown = f"{value[:8]!r}… of {len(value)}" if field.name == "prompt" else repr(value)
                found.append(f"{field.name}={shown}")
        return f"request {self.number} ({', '.join(found)})"


# Each parameter: in what share of the requests it is set, and to what.
_ALL: dict[str, tuple[float, Callable[[Chance], Any]]] = {
    "stop": (0.35, lambda chance: tuple(_stop(chance) for _ in range(chance.randint(1, 3)))),
    "stop_token_ids": (0.2, lambda chance: tuple(_tokens(chance, chance.randint(1, 30)))),
    "ignore_eos": (0.2, lambda chance: True),
    "response_format": (0.2, lambda chance: chance.choice(list(FORMATS))),
    "logprobs": (0.25, lambda chance: chance.choice([0, 1, 5, 20])),
    "logit_bias": (0.15, lambda chance: {token: chance.uniform(-8, 8) for token in _tokens(chance, 6)}),
    "repetition_penalty": (0.2, lambda chance: chance.choice([0.8, 1.1, 1.5])),
    "repetition_context_size": (0.2, lambda chance: chance.choice([1, 7, 40])),
    "presence_penalty": (0.15, lambda chance: chance.uniform(-2, 2)),
    "presence_context_size": (0.2, lambda chance: chance.choice([1, 7, 40])),
    "frequency_penalty": (0.15, lambda chance: chance.uniform(-2, 2)),
    "frequency_context_size": (0.2, lambda chance: chance.choice([1, 7, 40])),
    "priority": (0.5, lambda chance: chance.choice(["high", "normal", "low"])),
}
# Those that a greedy answer does not use, or refuses.
_DRAWING: dict[str, tuple[float, Callable[[Chance], Any]]] = {
    "temperature": (1.0, lambda chance: chance.choice([0.3, 0.7, 1.0, 1.6])),
    "seed": (1.0, lambda chance: chance.getrandbits(63)),
    "top_p": (0.4, lambda chance: chance.uniform(0.3, 1)),
    "min_p": (0.3, lambda chance: chance.uniform(0.001, 0.3)),
    "top_k": (0.4, lambda chance: chance.choice([1, 5, 40, 64, 65, 300])),
    "xtc_probability": (0.2, lambda chance: chance.choice([0.3, 1.0])),
    "xtc_threshold": (0.2, lambda chance: chance.uniform(0, 0.3)),
}
_GREEDY_SHARE = 0.5


def arrivals(count: int, seed: int) -> Iterator[Arrival]:
    """So many requests, always the same ones for a seed."""
    chance = Chance(seed)
    prefixes = [_tokens(chance, chance.randint(1, _MAX_PREFIX)) for _ in range(8)]
    recent: list[Any] = []
    for number in range(count):
        prompt = _prompt(chance, prefixes, recent)
        recent = [*recent[-12:], prompt]
        yield Arrival(
            number=number,
            request=GenerateRequest(prompt=prompt, **_together({**_params(chance), **_lengths(chance)})),
            guest=chance.choice(["", "one", "another"]),
            cache_scope=chance.choice(["", "", "private"]),
            pause=chance.choice([0, 0, 0, 0, 0, 0, 0, 0, 1, 2]) if chance.random() < 0.99 else 60,
            patience=int(chance.expovariate(1 / 20)) if chance.random() < 0.2 else None,
            deadline_s=chance.choice([0, 0.02, 0.2]) if chance.random() < 0.04 else None,
        )


def _prompt(chance: Chance, prefixes: list[list[int]], recent: list[Any]) -> Any:
    if chance.random() < 0.01:
        return [*_tokens(chance, chance.randint(0, 80)), POISON, *_tokens(chance, chance.randint(0, 5))]
    return _good_prompt(chance, prefixes, recent)


def _good_prompt(chance: Chance, prefixes: list[list[int]], recent: list[Any]) -> Any:
    kind = chance.random()
    if kind < 0.2 and recent:  # the same as another one: several answers to one prompt
        return chance.choice(recent)
    if kind < 0.6:
        prefix = chance.choice(prefixes)
        return prefix[: chance.randint(1, len(prefix))] + _tokens(chance, chance.randint(0, 20))
    if kind < 0.7:
        return "".join(f" w{chance.randrange(200)}" for _ in range(chance.randint(1, 30)))
    return _tokens(chance, 1 + int(chance.expovariate(1 / 30)) % 300)


def _lengths(chance: Chance) -> dict[str, Any]:
    if chance.random() < 0.02:  # so long that the buffers must grow for all that run beside it
        return {"max_tokens": chance.randint(200, 400), "ignore_eos": True}
    max_tokens = 1 + int(chance.expovariate(1 / 14)) % 90
    min_tokens = chance.randint(0, max_tokens) if chance.random() < 0.15 else 0
    return {"max_tokens": max_tokens, "min_tokens": min_tokens}


def _params(chance: Chance) -> dict[str, Any]:
    params = _ALL if chance.random() < _GREEDY_SHARE else {**_ALL, **_DRAWING}
    return {name: make(chance) for name, (share, make) in params.items() if chance.random() < share}


def _together(params: dict[str, Any]) -> dict[str, Any]:
    """Without what would be refused."""
    return {**params, "ignore_eos": False} if "response_format" in params else params


def _tokens(chance: Chance, count: int) -> list[int]:
    return [chance.randrange(POISON) for _ in range(count)]


def _stop(chance: Chance) -> str:
    # Words of the model's vocabulary are " w0" to " w253": within one, across two, single letters, and one that never comes.
    number = chance.randrange(100)
    return chance.choice([f"w{number}", f"{number % 10} w{number % 3}", chr(65 + number % 26), "never", "é"])
