"""Which rows are decoded together, and all of their steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from mlxbridge.host.engine.adapters import Adapters
from mlxbridge.host.engine.admission import Joining, LaneSize
from mlxbridge.host.engine.caches.caches import Source
from mlxbridge.host.engine.caches.footprint import Footprint
from mlxbridge.host.engine.caches.row_caches import Ready
from mlxbridge.host.engine.decode import Lane, Leave
from mlxbridge.host.engine.drafts.speculation import Speculator
from mlxbridge.host.engine.passes import Draw
from mlxbridge.host.engine.rows import Job

MAX_LANES = 4
# A further lane costs about as much as reading so many bytes, whatever the model's size.
_LEAST_LANE_BYTES = 64 << 20

L = TypeVar("L")


def padding_bytes(lane: tuple[int, int], num_cached: int, footprint: Footprint) -> int:
    """What a lane would read in vain, each step, if a row joined.

    Args:
        lane: its places and their length in tokens.
        num_cached: the row's length in tokens.
        footprint: what the tokens of a row take.
    """
    num_places, end = lane
    held = footprint.held_bytes
    return (num_places + 1) * held(max(end, num_cached)) - num_places * held(end) - held(num_cached)


@dataclass(slots=True)
class Decoded:
    """What one step of all lanes came to.

    Attributes:
        drawn: tokens that were read, each with what is known of it if its request asked.
        failed: jobs that were computed together, and why none of them got further; those among them that have ended, too.
        has_read: the draft model has read prompts beside.
    """

    drawn: list[Draw]
    failed: list[tuple[list[Job], Exception]]
    has_read: bool = False


class Lanes:
    """All rows that are being decoded.

    Rows of one lane share a forward pass but are padded to the longest of them. So a row opens a lane of its own
    when padding would cost more memory traffic than another pass over the weights does, or when it has another adapter. A
    model whose batched form is not exact gets a lane for each row.
    """

    def __init__(
        self,
        model: Any,
        footprint: Footprint,
        *,
        is_batched: bool,
        weight_bytes: int,
        leave: Leave,
        speculator: Speculator | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        self._model = model
        self._footprint = footprint
        self._speculator = speculator
        self._adapters = adapters
        self._leave = leave
        self._is_batched = is_batched
        self._lane_bytes = max(weight_bytes, _LEAST_LANE_BYTES)
        self._lanes: list[Lane] = []
        # What was given up since the last step, see ``Decoded``.
        self._failed: list[tuple[list[Job], Exception]] = []

    @property
    def num_lanes(self) -> int:
        """Forward passes a step."""
        return len(self._lanes)

    @property
    def num_bytes(self) -> int:
        """What the rows' caches take."""
        return sum(lane.num_bytes for lane in self._lanes)

    def sizes(self) -> list[LaneSize]:
        """What the lanes hold."""
        return [LaneSize(lane.num_places, lane.end, lane.num_left) for lane in self._lanes]

    def preview(self, joining: Iterable[Joining]) -> list[LaneSize]:
        """What the lanes hold once rows have joined."""
        arriving = sorted(joining, key=lambda row: row[:2], reverse=True)
        if not arriving:  # as in most steps
            return self.sizes()
        planned: dict[object, LaneSize] = dict(zip(self._lanes, self.sizes(), strict=True))
        rows: dict[object, tuple[int, int]] = {lane: (lane.num_rows, lane.end) for lane in self._lanes}
        adapters: dict[object, str | None] = {lane: lane.adapter for lane in self._lanes}
        for length, num_left, adapter in arriving:
            fitting = {key: size for key, size in rows.items() if adapters[key] == adapter}
            lane = self._best_for(length, fitting) or object()
            adapters[lane] = adapter
            num_rows, end = rows.get(lane, (0, 0))
            rows[lane] = (num_rows + 1, max(end, length))
            num_places, _, most_left = planned.get(lane, (0, 0, 0))
            planned[lane] = LaneSize(
                max(num_places, num_rows + 1), max(end, length), max(most_left, num_left)
            )
        return list(planned.values())

    def opens_lane(self, length: int, adapter: str | None = None) -> bool:
        """Whether a row of so many tokens, with that adapter, would open a lane, if it joined now."""
        sizes = {lane: (lane.num_rows, lane.end) for lane in self._lanes if lane.adapter == adapter}
        return self._best_for(length, sizes) is None

    def step(self, joining: Sequence[Ready], *, is_quiet: bool = True) -> Decoded:
        """Let rows join, start every row's next token, and read those that the step before started.

        A lane that fails is given up; the others are none the wiser.

        Args:
            joining: rows whose prompts have been read.
            is_quiet: nothing else was started in this step.
        """
        drafts = None if self._speculator is None else self._speculator.model
        decoded = Decoded([], self._failed, has_read=drafts is not None and drafts.is_reading)
        done = {} if drafts is None else drafts.step()
        is_quiet = is_quiet and not joining and len(self._lanes) == 1
        chosen = self._choose(joining)
        for lane in list(self._lanes):
            rows = chosen.get(lane, [])
            try:
                self._activate(lane.adapter)
                decoded.drawn += lane.catch_up(is_quiet=is_quiet, has_read=decoded.has_read)
                if done:
                    lane.join_drafts(done)
                lane.settle(num_joining=len(rows))
                if rows:
                    lane.join(rows)
                if lane.num_rows:
                    lane.queue()
            except Exception as exc:
                self._give_up(lane, rows, exc)
        self._lanes = [lane for lane in self._lanes if lane.num_rows]
        for lane in list(self._lanes):
            try:
                decoded.drawn += lane.read()
            except Exception as exc:
                self._give_up(lane, [], exc)
        self._failed = []
        return decoded

    def try_alone(self, row: Ready) -> tuple[Draw, Source]:
        """Draw one token for a row by itself, and wait for it; the token, and the row's caches then.

        Raises:
            Exception: whatever the model makes of it.
        """
        lane = Lane(self._model, can_grow=False, leave=self._leave)
        self._activate(row.job.adapter)
        lane.join([row])
        lane.queue()
        return lane.take_out()

    def _give_up(self, lane: Lane, joining: Sequence[Ready], exc: Exception) -> None:
        self._lanes.remove(lane)
        lane.forget_drafts()
        jobs = dict.fromkeys([*lane.jobs, *(row.job for row in joining)])
        self._failed.append((list(jobs), exc))

    def drop_idle(self) -> None:
        """Give all memory back, once all rows have ended."""
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            # Nobody waits any more: if a row cannot be kept for later prompts, that is all that is lost.
            with suppress(Exception):
                lane.settle()

    def compact(self) -> None:
        """Give all memory back that no row needs, whatever that copies; of a lane that fails the next ``step`` will tell."""
        for lane in list(self._lanes):
            try:
                lane.settle(max_given_up=0)
            except Exception as exc:
                self._give_up(lane, [], exc)
        self._lanes = [lane for lane in self._lanes if lane.num_rows]

    def _choose(self, joining: Sequence[Ready]) -> dict[Lane, list[Ready]]:
        chosen: dict[Lane, list[Ready]] = {}
        sizes = {lane: (lane.num_rows, lane.end) for lane in self._lanes}
        for row in sorted(joining, key=lambda row: row.source.length, reverse=True):
            lane = self._lane_for(row, sizes)
            num_rows, end = sizes.get(lane, (0, 0))
            sizes[lane] = (num_rows + 1, max(end, row.source.length))
            chosen.setdefault(lane, []).append(row)
        return chosen

    def _lane_for(self, row: Ready, sizes: dict[Lane, tuple[int, int]]) -> Lane:
        adapter = row.job.adapter
        best = self._best_for(
            row.source.length, {lane: size for lane, size in sizes.items() if lane.adapter == adapter}
        )
        if best is not None:
            return best
        lane = Lane(
            self._model,
            can_grow=self._is_batched,
            leave=self._leave,
            speculator=self._speculator,
            adapter=adapter,
        )
        self._lanes.append(lane)
        return lane

    def _activate(self, adapter: str | None) -> None:
        if self._adapters is not None:
            self._adapters.activate(adapter)

    def _best_for(self, length: int, sizes: dict[L, tuple[int, int]]) -> L | None:
        if not self._is_batched or not sizes:
            return None
        costs = {lane: padding_bytes(size, length, self._footprint) for lane, size in sizes.items()}
        best = min(costs, key=lambda lane: costs[lane])
        return best if costs[best] <= self._lane_bytes or len(sizes) >= MAX_LANES else None
