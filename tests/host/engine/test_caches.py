"""Rows side by side keep what each would keep alone, however they come and go: compared with plain lists of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx_lm.models.base import create_causal_mask

from mlxbridge.host.engine import shapes
from mlxbridge.host.engine.caches.caches import (
    ArraysCache,
    CacheList,
    KVCache,
    RotatingKVCache,
    Source,
    can_be_batched,
    can_be_padded,
    in_time,
    is_window,
    kv_bytes,
    leaves,
)
from mlxbridge.host.engine.caches.quantized_cache import Quantization, QuantizedCache
from mlxbridge.host.engine.caches.row_caches import RowCaches
from mlxbridge.host.engine.caches.window_cache import WindowCache

WINDOW = 5
SINKS, RECENT = 2, 4
HEADS, SIZE = 2, 32
IN_BITS = Quantization(bits=8, group_size=32)


def plain(kind: str) -> Any:
    """One of mlx_lm's caches, empty."""
    if kind == "lists":
        return CacheList(KVCache(), ArraysCache(1))
    return {
        "all": KVCache,
        "bits": lambda: QuantizedCache(IN_BITS),
        "window": lambda: RotatingKVCache(max_size=WINDOW),
        "sinks": lambda: WindowCache(SINKS + RECENT, SINKS),
        "state": lambda: ArraysCache(2),
    }[kind]()


def vectors(tokens: Sequence[Sequence[int]]) -> mx.array:
    """Keys or values that say which token they are of: (rows, heads, tokens, size)."""
    numbers = mx.array([list(row) for row in tokens], dtype=mx.float32)[:, None, :, None]
    return mx.broadcast_to(numbers, (len(tokens), HEADS, len(tokens[0]), SIZE))


def write(layer: Any, tokens: Sequence[Sequence[int]]) -> list[list[int]]:
    """Read so many tokens of each row into a layer; what each row's last one may look at, in the order it lies there."""
    if isinstance(layer, CacheList):
        for part in layer.caches[1:]:
            write(part, tokens)
        return write(layer.caches[0], tokens)
    if isinstance(layer, ArraysCache):
        for number in range(len(layer.cache)):
            layer[number] = mx.array([[float(row[-1] + number)] for row in tokens])
        return [[] for _ in tokens]
    num_tokens = len(tokens[0])
    is_model_window = getattr(layer, "max_size", None) == WINDOW
    mask = layer.make_mask(num_tokens, return_array=False, window_size=WINDOW if is_model_window else None)
    keys, values = layer.update_and_fetch(vectors(tokens), -vectors(tokens))
    if isinstance(keys, tuple):
        keys, values = IN_BITS.dequantize(keys), IN_BITS.dequantize(values)
    assert mx.array_equal(keys, -values).item(), "values lie where their keys do"
    assert mx.array_equal(keys[:, :1, :, :1] + mx.zeros_like(keys), keys).item(), "all heads alike"
    found: Any = mx.round(keys[:, 0, :, 0]).astype(mx.int32).tolist()
    if num_tokens > 1 or mask is None:
        return [list(row) for row in found]
    shown: Any = mx.broadcast_to(mask, (len(tokens), 1, 1, len(found[0])))[:, 0, 0, :].tolist()
    return [
        [token for token, is_seen in zip(row, sees, strict=True) if is_seen]
        for row, sees in zip(found, shown, strict=True)
    ]


def look(layer: Any, tokens: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """As ``write``, but what each token of each row may look at; of caches over all tokens."""
    num_tokens = len(tokens[0])
    mask = layer.make_mask(num_tokens, return_array=False, window_size=None)
    keys, values = layer.update_and_fetch(vectors(tokens), -vectors(tokens))
    if isinstance(keys, tuple):
        keys, values = IN_BITS.dequantize(keys), IN_BITS.dequantize(values)
    assert mx.array_equal(keys, -values).item()
    if mask is None or mask == "causal":
        mask = create_causal_mask(num_tokens, keys.shape[2] - num_tokens)
    shown: Any = mx.broadcast_to(mask, (len(tokens), 1, num_tokens, keys.shape[2]))[:, 0].tolist()
    found: Any = mx.round(keys[:, 0, :, 0]).astype(mx.int32).tolist()
    return [
        [[token for token, is_seen in zip(row, sees, strict=True) if is_seen] for sees in queries]
        for row, queries in zip(found, shown, strict=True)
    ]


def states(layer: Any) -> list[list[float]]:
    """What each row has in the recurrent caches of a layer."""
    arrays = [array for item in leaves([layer]) if isinstance(item, ArraysCache) for array in item.cache]
    rows: Any = mx.concatenate(arrays, axis=1).tolist() if arrays else []
    return [list(row) for row in rows]


def seen_of(kind: str, row: list[int]) -> list[int]:
    """What a row's last token may look at, in the order of time."""
    if kind == "window":
        return row[-WINDOW:]
    if kind == "sinks":
        return row[: -min(RECENT, len(row))][:SINKS] + row[-RECENT:]
    return row


@dataclass
class Rows:
    """``RowCaches`` beside a list of tokens a row."""

    kinds: tuple[str, ...]
    caches: RowCaches = field(default_factory=RowCaches)
    # By place: all tokens of the row; None where it was given up.
    tokens: list[list[int] | None] = field(default_factory=list)
    _next: int = 1

    def new_tokens(self, count: int) -> list[int]:
        self._next += count
        return list(range(self._next - count, self._next))

    def read(self, lengths: Sequence[int]) -> list[tuple[Source, list[int]]]:
        """Prompts, read side by side into plain caches; shorter ones have fillers behind them."""
        width = max(lengths)
        prompts = [self.new_tokens(length) for length in lengths]
        caches = [plain(kind) for kind in self.kinds]
        if width:
            filled = [prompt + self.new_tokens(width - len(prompt)) for prompt in prompts]
            for cache in caches:
                write(cache, filled)
        return [(Source(caches, row, len(prompt)), prompt) for row, prompt in enumerate(prompts)]

    def join(self, groups: Sequence[Sequence[int]]) -> None:
        """Groups of prompts of these lengths take the places that were given up, and new ones."""
        rows = [row for group in groups for row in self.read(group)]
        free = [place for place, row in enumerate(self.tokens) if row is None]
        places = [*free, *range(len(self.tokens), len(self.tokens) + len(rows))][: len(rows)]
        self.caches.place([source for source, _ in rows], places)
        self.tokens += [None] * (max(places) + 1 - len(self.tokens))
        for place, (_, prompt) in zip(places, rows, strict=True):
            self.tokens[place] = list(prompt)

    def leave(self, place: int) -> None:
        """A row that goes can be taken out: as it would be alone, in the order of time."""
        row = self.tokens[place]
        assert row is not None
        for kind, item in zip(self.kinds, self.caches.row(place), strict=True):
            if kind in ("all", "bits", "window", "sinks"):
                assert item.offset == len(row)
                kept = in_time(item)[0] if is_window(item) else item.keys_and_values()[0]
                found: Any = mx.round(kept[0, 0, :, 0]).astype(mx.int32).tolist()
                assert found == seen_of(kind, row)
        self.tokens[place] = None
        self.caches.give_up(place)

    def take(self, places: Sequence[int]) -> None:
        self.caches.take(places)
        self.tokens = [self.tokens[place] for place in places]

    def step(self) -> None:
        """One token more for each row; each sees what it would see alone."""
        new = [self.new_tokens(1) for _ in self.tokens]
        seen = [write(layer, new) for layer in self.caches.layers]
        self.caches.advance()
        for place, row in enumerate(self.tokens):
            if row is None:
                continue
            row += new[place]
            for kind, rows in zip(self.kinds, seen, strict=True):
                if kind != "state":
                    assert (sorted(rows[place]) if kind in ("window", "sinks") else rows[place]) == seen_of(
                        kind, row
                    )
        self.check()

    def draft(self, width: int, num_kept: Sequence[int]) -> None:
        """So many tokens more for each row, of which only the first so many stay; each sees what it would see alone."""
        new = [self.new_tokens(width) for _ in self.tokens]
        seen = [look(layer, new) for layer in self.caches.layers]
        self.caches.advance(width)
        self.caches.retract([width - kept for kept in num_kept])
        for place, row in enumerate(self.tokens):
            if row is None:
                continue
            for rows in seen:
                assert rows[place] == [row + new[place][: number + 1] for number in range(width)]
            row += new[place][: num_kept[place]]
        self.check()

    def check(self) -> None:
        """What does not need a step to be seen."""
        assert self.caches.num_rows == len(self.tokens)
        for kind, layer in zip(self.kinds, self.caches.layers, strict=True):
            lengths = [None if row is None else len(row) for row in self.tokens]
            if kind in ("all", "bits", "window", "sinks"):
                offsets: Any = mx.broadcast_to(mx.array(layer.offset), (len(lengths),)).tolist()
                assert all(length in (None, offset) for length, offset in zip(lengths, offsets, strict=True))
            for row, state in zip(self.tokens, states(layer), strict=False):
                if row:
                    assert state == [row[-1] + number for number in range(len(state))]
        for place in self.alive:
            assert self.caches.length(place) == len(self.tokens[place] or ())

    @property
    def alive(self) -> list[int]:
        return [place for place, row in enumerate(self.tokens) if row is not None]


# Which caches a model has decides how its prompts may be read: only those of the first kind side by side, padded.
ALL_KINDS = ("all", "window", "state", "sinks", "lists", "bits", "all")
LENGTHS = st.sampled_from([1, 2, 4, 5, 6, 7, 11])


@st.composite
def padded_groups(draw: st.DrawFn) -> list[list[int]]:
    return draw(st.lists(st.lists(LENGTHS, min_size=1, max_size=3), min_size=1, max_size=2))


@st.composite
def even_groups(draw: st.DrawFn) -> list[list[int]]:
    sizes = draw(st.lists(st.tuples(LENGTHS, st.integers(1, 3)), min_size=1, max_size=2))
    return [[length] * count for length, count in sizes]


def play(data: st.DataObject, rows: Rows, groups: Callable[[], st.SearchStrategy[list[list[int]]]]) -> None:
    rows.join(data.draw(groups(), "first"))
    for _ in range(data.draw(st.integers(3, 12), "moves")):
        move = data.draw(st.sampled_from(["join", "leave", "take", "step", "step"]), "move")
        if move == "join" and len(rows.tokens) < 10:
            rows.join(data.draw(groups(), "groups"))
        elif move == "leave" and len(rows.alive) > 1:
            rows.leave(data.draw(st.sampled_from(rows.alive), "place"))
        elif move == "take":
            order = data.draw(st.permutations(rows.alive), "order")
            rows.take(order[: data.draw(st.integers(1, len(order)), "count")])
        rows.step()


SLOW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(data=st.data())
def test_random_moves_of_all_kinds_equal_rows_alone(data: st.DataObject) -> None:
    play(data, Rows(ALL_KINDS), even_groups)


@SLOW
@given(data=st.data())
def test_random_moves_of_prompts_read_side_by_side_equal_rows_alone(data: st.DataObject) -> None:
    play(data, Rows(("all", "bits")), padded_groups)


@SLOW
@given(data=st.data())
@pytest.mark.parametrize("is_dear", [False, True])
def test_rows_that_keep_unequal_numbers_of_tokens_equal_rows_alone(
    data: st.DataObject, is_dear: bool
) -> None:
    with patch.object(shapes, "is_new_length_dear", lambda: is_dear):
        rows = Rows(("all", "bits"))
        rows.join(data.draw(padded_groups(), "first"))
        for _ in range(data.draw(st.integers(3, 10), "moves")):
            move = data.draw(st.sampled_from(["join", "leave", "take", "align", "step", "draft"]), "move")
            if move == "join" and len(rows.tokens) < 8:
                rows.join(data.draw(padded_groups(), "groups"))
            elif move == "leave" and len(rows.alive) > 1:
                rows.leave(data.draw(st.sampled_from(rows.alive), "place"))
            elif move == "take":
                rows.take(data.draw(st.permutations(rows.alive), "order"))
            elif move == "align":
                rows.caches.align()
                assert rows.caches.layout.is_aligned
            elif move == "step":
                rows.step()
            width = data.draw(st.sampled_from([1, 2, 4]), "width")
            rows.draft(width, [data.draw(st.integers(1, width), "kept") for _ in rows.tokens])
            for place in rows.alive:
                for cache in rows.caches.row(place):
                    assert cache.offset == rows.caches.length(place) == len(rows.tokens[place] or ())
                whole, _ = rows.caches.row(place)
                assert whole.keys[0, 0, :, 0].tolist() == rows.tokens[place]


def test_a_row_alone_is_cut_back_without_a_mask() -> None:
    rows = Rows(("all",))
    rows.join([[4]])
    for kept in (1, 3, 4, 2):
        rows.draft(4, [kept])
        assert rows.caches.layout.is_even
        assert rows.caches.layers[0].make_mask(1) is None


def test_plain_caches_of_a_row_that_cannot_have_company_are_cut_back() -> None:
    rows = Rows(("all", "bits"))
    ((source, tokens),) = rows.read([5])
    caches = RowCaches()
    caches.adopt(source)
    for kept in (2, 4):
        new = rows.new_tokens(4)
        for layer in caches.layers:
            assert look(layer, [new])[0][-1] == tokens + new
        caches.advance(4)
        caches.retract([4 - kept])
        tokens += new[:kept]
        assert caches.length(0) == len(tokens)


def test_tokens_are_written_where_rows_end_though_buffers_grow() -> None:
    rows = Rows(("all",))
    rows.join([[250, 3]])
    for _ in range(4):
        rows.draft(4, [4, 1])
        rows.draft(4, [1, 1])
    assert rows.caches.layout.lags == [0, 12]


@pytest.mark.parametrize("kinds", [("all",), ALL_KINDS])
def test_rows_of_one_token_prompts_begin_empty(kinds: tuple[str, ...]) -> None:
    """Of a prompt of one token nothing is read before it joins."""
    if "state" in kinds:
        kinds = ("all", "window", "sinks", "bits")
    rows = Rows(kinds)
    rows.join([[0]])
    rows.step()
    rows.join([[0], [4]])
    rows.step()
    rows.leave(0)
    rows.join([[0, 0]] if kinds == ("all",) else [[0], [0]])
    rows.step()


@pytest.mark.parametrize("kinds", [("all",), ("bits",), ("window",), ("sinks",), ("state",), ("lists",)])
def test_buffers_grow_past_their_first_size(kinds: tuple[str, ...]) -> None:
    rows = Rows(kinds)
    rows.join([[250], [3]])
    for _ in range(12):
        rows.step()
    rows.join([[300]])
    rows.step()
    rows.leave(2)
    rows.take([1, 0])
    rows.step()


def test_rows_of_one_length_need_no_mask_and_no_array_of_offsets() -> None:
    rows = Rows(("all",))
    rows.join([[7, 7, 7]])
    (layer,) = rows.caches.layers
    assert layer.offset == 7 and layer.make_mask(1, return_array=False, window_size=None) is None
    rows.join([[5]])
    assert (
        isinstance(layer.offset, mx.array)
        and layer.make_mask(1, return_array=False, window_size=None) is not None
    )
    rows.leave(3)
    rows.take([0, 1, 2])
    (layer,) = rows.caches.layers
    assert layer.offset == 7 and layer.make_mask(1, return_array=False, window_size=None) is None


def test_padding_that_all_rows_share_goes_with_the_longest() -> None:
    rows = Rows(("all",))
    rows.join([[300, 20, 10]])
    rows.step()
    assert rows.caches.layout.end == 301
    rows.leave(0)
    rows.take([1, 2])
    assert rows.caches.layout.end == 21
    rows.step()


def test_a_newcomer_longer_than_all_who_stay_does_not_keep_those_who_left() -> None:
    rows = Rows(("all",))
    rows.join([[9], [50]])
    rows.leave(1)
    rows.join([[12]])
    rows.step()
    rows.leave(0)
    rows.leave(1)
    rows.join([[4], [4]])
    assert rows.caches.layout.end == 4, "nobody who stays was longer"
    rows.step()


def test_sources_stay_as_they_are() -> None:
    """A prompt that several wait for is read once: its caches are placed again, later."""
    rows = Rows(("all", "bits", "window", "sinks"))
    ((source, prompt),) = rows.read([6])
    for _ in range(3):
        rows.caches.place([source], [len(rows.tokens)])
        rows.tokens.append(list(prompt))
        rows.step()
        rows.step()
    assert [len(row or []) for row in rows.tokens] == [12, 10, 8]


def test_what_can_be_batched() -> None:
    class Other(KVCache):  # type: ignore[misc]
        """Something that mlx_lm may add."""

    assert can_be_batched([plain(kind) for kind in ALL_KINDS])
    assert not can_be_batched([Other()])
    assert not can_be_batched([CacheList(KVCache(), Other())])
    assert not can_be_batched([RotatingKVCache(max_size=8, keep=4)])
    assert can_be_padded([KVCache(), CacheList(KVCache(), KVCache()), plain("bits")])
    for kind in ("window", "sinks", "state", "lists"):
        assert not can_be_padded([KVCache(), plain(kind)])


def test_bytes_of_a_token_are_those_of_the_caches_that_grow() -> None:
    caches = [plain(kind) for kind in ALL_KINDS]
    assert kv_bytes(caches) == 0
    for cache in caches:
        write(cache, [[1, 2, 3], [4, 5, 6]])
    assert kv_bytes(caches) == 2 * HEADS * (3 * SIZE * 4 + SIZE + 2 * 4)
