"""What the arrays of a model's cached parts are like: known before any part is there, and so a measure for what is read.

Nothing is computed for it: MLX knows the shapes of what it has not evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from math import prod

import mlx.core as mx

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import is_growing, is_window, leaves
from mlxbridge.host.engine.prefixes.cache_parts import CacheParts, Content

# As long as a part of a prompt; states do not depend on it, and windows are cut to what is asked for.
_SAMPLE_TOKENS = 64
# Of (keys and values, heads, tokens, size) in a run, and of (rows, heads, tokens, size) in a sliding window.
_TOKEN_AXIS = 2


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """An array's dtype and shape."""

    dtype: mx.Dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """What it takes."""
        return prod(self.shape) * self.dtype.size

    def with_tokens(self, num_tokens: int) -> ArrayForm:
        """The same for so many tokens."""
        axis = _TOKEN_AXIS
        return replace(self, shape=(*self.shape[:axis], num_tokens, *self.shape[axis + 1 :]))


Form = tuple["ArrayForm | Form | None", ...]
"""Nested as the content of a part."""


def form_of(content: Content) -> Form:
    """What a part's arrays are like."""
    return tuple(
        form_of(each)
        if isinstance(each, list)
        else None
        if each is None
        else ArrayForm(each.dtype, tuple(each.shape))
        for each in content
    )


@dataclass(frozen=True, slots=True)
class PartForm:
    """What a part's arrays are like.

    Attributes:
        arrays: nested as its content.
        digest: 16 bytes that no other form has.
        num_bytes: of all arrays.
    """

    arrays: Form
    digest: bytes
    num_bytes: int


def part_form(arrays: Form) -> PartForm:
    """A part's form, by its arrays'."""
    digest = blake2b(repr(arrays).encode(), digest_size=16).digest()
    return PartForm(arrays, digest, _num_bytes(arrays))


class PartForms:
    """The forms of a model's parts."""

    def __init__(self, plan: CachePlan, parts: CacheParts) -> None:
        """Look at what the caches are like that a plan makes; ``parts`` learns it too."""
        caches = plan.make()
        plan.model(mx.zeros((1, _SAMPLE_TOKENS), dtype=mx.int32), cache=caches)
        slabs = parts.slabs(caches, 0, _SAMPLE_TOKENS)
        self._run = form_of(parts.run(slabs, 0, 0, _SAMPLE_TOKENS))
        self._end = form_of(parts.end(caches, 0))
        # Of the caches that cannot be cut: the length of a sliding window, None for a state.
        self._windows = [
            item.max_size if is_window(item) else None for item in leaves(caches) if not is_growing(item)
        ]
        # Few lengths of runs come again and again.
        self._runs: dict[int, PartForm] = {}

    def of(self, num_tokens: int, length: int) -> PartForm:
        """A part's form.

        Args:
            num_tokens: of its run; 0 for an end.
            length: tokens up to its end.
        """
        if not num_tokens:
            return part_form(self._end_after(length))
        if num_tokens not in self._runs:
            self._runs[num_tokens] = part_form(_with_tokens(self._run, num_tokens))
        return self._runs[num_tokens]

    def _end_after(self, length: int) -> Form:
        return tuple(
            _with_tokens(state, min(length, window))
            if isinstance(state, tuple) and window is not None
            else state
            for state, window in zip(self._end, self._windows, strict=True)
        )


def _num_bytes(form: Form) -> int:
    return sum(_num_bytes(each) if isinstance(each, tuple) else each.num_bytes for each in form if each)


def _with_tokens(form: Form, num_tokens: int) -> Form:
    return tuple(each.with_tokens(num_tokens) if isinstance(each, ArrayForm) else each for each in form)
