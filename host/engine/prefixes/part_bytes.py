"""A cached part's arrays as bytes on the host, and back.

Only bytes are given to another thread: MLX allows it evaluated arrays at most, and numpy knows no bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from mlxbridge.host.engine.device import is_cuda
from mlxbridge.host.engine.prefixes.cache_parts import Content
from mlxbridge.host.engine.prefixes.part_forms import Form, PartForm


def host_bytes(content: Content) -> list[memoryview]:
    """The bytes of a part's evaluated arrays, in order.

    They share the arrays' memory where host and device do. On CUDA they are copied: what the host has looked at,
    MLX keeps where the device is slow to read it.
    """
    flat = [_viewed(array, mx.uint8, (-1,)) for array in _arrays(content)]
    if is_cuda():
        flat = [array + mx.array(0, mx.uint8) for array in flat]
    mx.eval(flat)
    views: list[Any] = list(flat)
    return [memoryview(view) for view in views]


def content_of(form: PartForm, payload: memoryview) -> Content:
    """A part's arrays, new ones, out of their bytes.

    Args:
        form: what they are like.
        payload: exactly as many bytes as these take.
    """
    content, _ = _content_at(form.arrays, payload, 0)
    mx.eval(content)
    return content


def _arrays(content: Content) -> Iterator[mx.array]:
    for each in content:
        if isinstance(each, list):
            yield from _arrays(each)
        elif each is not None:
            yield each


def _viewed(array: mx.array, dtype: mx.Dtype, shape: tuple[int, ...]) -> mx.array:
    # On the host, whose queue is empty: the device's holds the step that is under way, and this would wait for it.
    flat = mx.reshape(array, (-1,), stream=mx.cpu)
    return mx.reshape(mx.view(flat, dtype, stream=mx.cpu), shape, stream=mx.cpu)


def _content_at(form: Form, payload: memoryview, start: int) -> tuple[Content, int]:
    content: Content = []
    for each in form:
        if each is None:
            content.append(None)
        elif isinstance(each, tuple):
            inner, start = _content_at(each, payload, start)
            content.append(inner)
        else:
            flat = np.frombuffer(payload, np.uint8, each.num_bytes, start)
            content.append(_viewed(mx.array(flat), each.dtype, each.shape))
            start += each.num_bytes
    return content, start
