"""Drafts at whim: whether and how much is not decided by what pays, but at random, so that every change is met."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args
from unittest.mock import patch

from bench.soak.requests import Arrival
from mlxbridge.host.engine.drafts.acceptance import Prospect
from mlxbridge.host.engine.drafts.payoff import WIDTHS, Payoff
from mlxbridge.host.engine.interface import MAX_DRAFT_TOKENS
from mlxbridge.types import Speculation

# How often it is decided anew, and how often then to draft.
_ANEW, _DRAFTING = 0.25, 0.75


def with_drafts(arrivals: Iterable[Arrival], seed: int) -> Iterator[Arrival]:
    """The same requests, each that may with a way to draft, and some of these with a bound."""
    chance = random.Random(seed)
    for arrival in arrivals:
        if arrival.request.response_format is not None:  # with which nothing can be drafted
            yield arrival
            continue
        method = chance.choice(get_args(Speculation))
        most = chance.choice([None, chance.randint(1, MAX_DRAFT_TOKENS)]) if method != "off" else None
        request = replace(arrival.request, speculation=method, max_draft_tokens=most)
        yield replace(arrival, request=request)


@contextmanager
def drafting_at_whim(seed: int) -> Iterator[None]:
    """As long as this is open, every engine drafts so."""
    chance = random.Random(seed)

    def decide(self: Payoff, *_: Any, **__: Any) -> bool:
        if chance.random() < _ANEW:
            self.is_drafting = chance.random() < _DRAFTING
        return self.is_drafting

    def width(_self: Payoff, _num_rows: int, drafts: Sequence[Prospect], *, room: float, **_: Any) -> int:
        most = max((draft.most for draft in drafts), default=0)
        return chance.choice([width for width in WIDTHS if width == 1 or width <= min(2 * most, room)])

    with patch.object(Payoff, "decide", decide), patch.object(Payoff, "width", width):
        yield
