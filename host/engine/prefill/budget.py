"""How many prompt tokens a step may read, from what steps have taken so far; plain bookkeeping."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from statistics import mean, median

# A step with prefill may take so many times what one without takes: the gap that running answers see.
TARGET_GAP = 2.4
# Without running answers only cancelling waits for the end of a step.
TARGET_STEP_S = 0.25
MIN_BUDGET = 16
_FIRST_BUDGET = 64
_FIRST_BUDGET_ALONE = 512
# How much larger the next piece may be: sizes that nothing is known about are tried with care, so that one that comes out
# dearer than hoped is still no gap that anybody sees.
_GROWTH_UNKNOWN = 1.5
_GROWTH = 2.0
# A step that read less than this share of its budget (which is rounded down) does not show that
# the budget could be larger.
_FULL = 0.6


@dataclass(frozen=True, slots=True)
class Step:
    """What a step took.

    Attributes:
        num_read: prompt tokens that were begun to be read.
        is_decoding: whether answers were running.
    """

    seconds: float
    num_read: int
    is_decoding: bool


class PieceCost:
    """What reading a piece of a prompt takes: seconds = fixed + per_token * tokens, from the latest pieces of each size."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[int, deque[float]] = OrderedDict()

    def add(self, num_tokens: int, seconds: float) -> None:
        """Learn from one piece."""
        times = self._seconds.setdefault(num_tokens, deque(maxlen=9))
        times.append(seconds)
        self._seconds.move_to_end(num_tokens)
        if len(self._seconds) > 12:
            self._seconds.popitem(last=False)

    @property
    def growth(self) -> float:
        """How many times as long as the last piece the next one may be."""
        return _GROWTH if len(self._seconds) > 1 else _GROWTH_UNKNOWN

    def tokens_within(self, seconds: float) -> float:
        """How long a piece may be to take so long; but never so short that most of its time is the fixed part: that
        would starve the prompts and help nobody.

        What the fixed part is, two sizes tell. So while one is known that takes no longer, a larger one is tried.
        """
        fixed, per_token = self._fit()
        if len(self._seconds) == 1:
            ((size, times),) = self._seconds.items()
            if median(times) <= seconds:
                return max(seconds / per_token, _GROWTH_UNKNOWN * size)
        return max((seconds - fixed) / per_token, fixed / per_token)

    def _fit(self) -> tuple[float, float]:
        """Least squares through the sizes' medians; all is per token while only one size is known."""
        points = [(size, median(times)) for size, times in self._seconds.items()]
        middle, usual = mean(size for size, _ in points), mean(seconds for _, seconds in points)
        spread = sum((size - middle) ** 2 for size, _ in points)
        slope = (
            sum((size - middle) * (seconds - usual) for size, seconds in points) / spread if spread else 0.0
        )
        if not spread:
            return 0.0, usual / middle
        per_token = min(max(slope, 0.01 * usual / middle), usual / middle)
        return usual - per_token * middle, per_token


class PrefillBudget:
    """Steers what prompts take of a step, in few different sizes.

    Beside running answers towards ``TARGET_GAP`` times what steps without prefill take; with nothing running towards
    ``TARGET_STEP_S``.
    """

    def __init__(
        self, largest: int, *, largest_alone: int, least: int = MIN_BUDGET, least_alone: int = MIN_BUDGET
    ) -> None:
        """Take the bounds, in tokens a step, beside running answers and without any."""
        self._bounds = min(least, largest), largest
        self._bounds_alone = min(least_alone, largest_alone), largest_alone
        self._beside = _within(_FIRST_BUDGET, self._bounds)
        self._alone = _within(_FIRST_BUDGET_ALONE, self._bounds_alone)
        self._plain_steps: deque[float] = deque(maxlen=32)
        self._cost_beside = PieceCost()
        self._cost_alone = PieceCost()
        self._before: Step | None = None

    def tokens(self, *, is_decoding: bool) -> int:
        """The next step's budget."""
        tokens = int(self._beside if is_decoding else self._alone)
        return _rounded(tokens) if tokens > MIN_BUDGET else tokens

    def observe(self, step: Step | None) -> None:
        """Learn from a step; from None that the next one has nothing to do with those before.

        Of what a piece costs, its own step sees what the host does, and the one after it what the device does.
        """
        before, self._before = self._before, step
        if step is None or before is None or step.is_decoding != before.is_decoding:
            return
        if not step.is_decoding:
            if step.num_read and step.num_read == before.num_read:
                self._learn_alone(step.num_read, step.seconds)
        elif not step.num_read and not before.num_read:
            self._plain_steps.append(step.seconds)
        elif self._plain_steps:
            plain = median(self._plain_steps)
            if step.num_read == before.num_read:
                self._learn_beside(step.num_read, step.seconds - plain, plain)
            elif not step.num_read:
                self._learn_beside(before.num_read, before.seconds + step.seconds - 2 * plain, plain)

    def _learn_beside(self, num_read: int, seconds: float, plain: float) -> None:
        self._cost_beside.add(num_read, max(seconds, 1e-6))
        wanted = self._cost_beside.tokens_within((TARGET_GAP - 1) * plain)
        self._beside = _steered(self._beside, wanted, num_read, self._cost_beside.growth, self._bounds)

    def _learn_alone(self, num_read: int, seconds: float) -> None:
        self._cost_alone.add(num_read, seconds)
        wanted = self._cost_alone.tokens_within(TARGET_STEP_S)
        self._alone = _steered(self._alone, wanted, num_read, self._cost_alone.growth, self._bounds_alone)


def _steered(budget: float, wanted: float, num_read: int, growth: float, bounds: tuple[int, int]) -> float:
    most = growth * budget if num_read >= _FULL * budget else budget
    return _within(min(max(wanted, 0.4 * budget), most), bounds)


def _within(tokens: float, bounds: tuple[int, int]) -> float:
    return float(min(max(tokens, bounds[0]), bounds[1]))


def _rounded(tokens: int) -> int:
    """Down to a power of two, or to one and a half."""
    power = 1 << (tokens.bit_length() - 1)
    return power + power // 2 if tokens >= power + power // 2 else power
