"""Whether one more call's caches fit into the budget; plain bookkeeping.

How long an answer will be, nobody knows: most end long before their ``max_tokens``. So a call is let in by what its
prompt and its next ``expected_tokens`` take, and should the answers together come to more than the budget, the newest
call of the lowest priority gives its place up and is read again later. A call that would not fit alone is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mlxbridge.errors import ContextTooLong, ModelLoadFailed
from mlxbridge.host.engine.caches.footprint import Footprint


class LaneSize(NamedTuple):
    """Rows that are decoded together.

    Attributes:
        num_places: rows, given up places among them.
        end: tokens that each takes in the buffers, as long as the longest of them.
        num_left: tokens that may still be drawn for the one with the most.
    """

    num_places: int
    end: int
    num_left: int


class Joining(NamedTuple):
    """A row that is about to be decoded.

    Attributes:
        length: its tokens.
        num_left: those that may still be drawn.
        adapter: see ``Job``.
    """

    length: int
    num_left: int
    adapter: str | None = None


def mebibytes(num_bytes: int) -> str:
    """A size for a message."""
    return f"{num_bytes / 2**20:,.2f} MiB"


class Admission:
    """Counts in bytes what is asked in tokens.

    Attributes:
        budget: bytes that running calls may take.
        most_tokens: of prompt and answer, that one call may have in them.
    """

    def __init__(self, footprint: Footprint, budget: int, *, expected_tokens: int) -> None:
        """Take the bounds.

        Args:
            footprint: the model's.
            budget: bytes.
            expected_tokens: see ``EngineLimits``.
        """
        self.budget = budget
        self._footprint = footprint
        self._expected_tokens = expected_tokens
        self.most_tokens = footprint.most_tokens(budget)

    def check_budget(self, name: str) -> None:
        """Refuse a budget that no call would fit.

        Raises:
            ModelLoadFailed: it does not hold one short call; the message has both numbers.
        """
        least = self._footprint.row_bytes(1)
        if self.budget < least:
            raise ModelLoadFailed(
                f"{name} has {self.budget:,} bytes for the caches of its calls, but a short one takes {least:,}; "
                f"give --kv-memory at least {-(-least // 2**20)}MB"
            )

    def token_limit(self, name: str, num_prompt: int, max_tokens: int | None, most: int) -> int:
        """How many tokens a call may draw.

        Args:
            name: the model's, for refusals.
            num_prompt: tokens of its prompt.
            max_tokens: what the caller asked for; None lets the memory decide.
            most: what the context leaves of that.

        Raises:
            ContextTooLong: its caches would not fit, though nothing else ran; the details have both numbers.
        """
        room = self.most_tokens - num_prompt
        if room >= (1 if max_tokens is None else most):
            return min(most, room)
        num_tokens = num_prompt + (1 if max_tokens is None else most)
        num_bytes = self._footprint.row_bytes(num_tokens)
        if room < 1:
            advice = f"the prompt may have at most {max(0, self.most_tokens - 1)} tokens"
        else:
            advice = f"ask for at most {room} tokens"
        raise ContextTooLong(
            f"{num_prompt} prompt tokens and {num_tokens - num_prompt} to generate take {mebibytes(num_bytes)} of "
            f"cache, but {name} has {mebibytes(self.budget)} for all calls (the host's --kv-memory); {advice}",
            details={
                "prompt_tokens": num_prompt,
                "max_tokens": max_tokens,
                "kv_bytes": num_bytes,
                "kv_bytes_budget": self.budget,
            },
        )

    def projected_bytes(self, lanes: Iterable[LaneSize], *, num_more: int | None = None) -> int:
        """What calls take once each has drawn ``num_more`` tokens, or has ended for want of more.

        Args:
            lanes: as they will be when the prompts that are being read have joined them.
            num_more: tokens; None: as many as are expected.
        """
        if num_more is None:
            num_more = self._expected_tokens
        return sum(
            lane.num_places * self._footprint.row_bytes(lane.end + min(lane.num_left, num_more))
            for lane in lanes
        )
