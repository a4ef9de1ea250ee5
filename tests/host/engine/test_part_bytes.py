"""A part's arrays are the same, bit for bit, after a way through bytes; its form is known before there is one."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.host.engine.caches.cache_plan import CachePlan, Window
from mlxbridge.host.engine.caches.quantized_cache import Quantization
from mlxbridge.host.engine.prefixes.cache_parts import CacheParts
from mlxbridge.host.engine.prefixes.part_bytes import content_of, host_bytes
from mlxbridge.host.engine.prefixes.part_forms import (
    ArrayForm,
    Form,
    PartForms,
    form_of,
    part_form,
)
from tests.host.engine.architectures import ARCHITECTURES, LARGE_HEADS, LARGE_LFM2, make_model

DTYPES = [mx.float32, mx.float16, mx.bfloat16, mx.uint32, mx.int8, mx.bool_, mx.complex64]


def bits(array: mx.array) -> list[int]:
    values: Any = array.reshape(-1).view(mx.uint8).tolist()
    return list(values)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arrays_of_every_dtype_come_back_bit_for_bit(dtype: mx.Dtype) -> None:
    raw = mx.random.randint(0, 256, (3 * 5 * 8,)).astype(mx.uint8)
    array = (raw % 2 if dtype == mx.bool_ else raw).view(dtype)
    array = array.reshape(3, -1, 5)
    content = [[array, None, array[1:2]], [], [None], array[:, :0]]
    mx.eval(content)
    form = part_form(form_of(content))
    chunks = host_bytes(content)
    data = b"".join(chunks)
    assert len(data) == form.num_bytes
    copied = bytearray(data)
    back = content_of(form, memoryview(copied))
    copied[:] = bytes(len(copied))  # the buffer is used again
    assert form_of(back) == form.arrays
    assert bits(back[0][0]) == bits(array) and bits(back[0][2]) == bits(array[1:2])
    assert back[0][1] is None and back[1] == [] and back[2] == [None]
    assert back[0][0].dtype == dtype


def test_bytes_are_not_copied_where_host_and_device_share_memory() -> None:
    array = mx.zeros((1024, 1024), mx.bfloat16)
    mx.eval(array)
    before = mx.get_active_memory()
    chunks = host_bytes([array])
    assert chunks[0].nbytes == array.nbytes
    assert mx.get_active_memory() - before < 10_000


def test_forms_differ_in_dtype_shape_and_nesting() -> None:
    one = ArrayForm(mx.float16, (1, 2))
    forms: list[Form] = [
        (),
        (one,),
        (one, one),
        ((one,),),
        (one, None),
        (ArrayForm(mx.bfloat16, (1, 2)),),
        (ArrayForm(mx.float16, (2, 1)),),
    ]
    assert len({part_form(form).digest for form in forms}) == len(forms)


KINDS = [*ARCHITECTURES, "llama 4 bit", "llama in 8 bits", "lfm2 in 4 bits", "llama with a window"]


def plan_of(name: str) -> CachePlan:
    kind, _, how = name.partition(" ")
    quantization = Quantization(int(how[3]), 32) if how.startswith("in ") else None
    changes = {} if quantization is None else LARGE_LFM2 if kind == "lfm2" else LARGE_HEADS
    model = make_model(kind, bits=4 if how == "4 bit" else None, **changes)
    return CachePlan(model, quantization, Window(100, 4) if how == "with a window" else None)


@pytest.mark.parametrize("name", KINDS)
def test_form_is_known_before_there_is_a_part(name: str) -> None:
    plan = plan_of(name)
    forms = PartForms(plan, CacheParts(plan))
    for length in (64, 70, 7, 200):
        caches = plan.make()
        for start in range(0, length, 50):
            plan.model(mx.ones((1, min(50, length - start)), mx.int32), cache=caches)
        parts = CacheParts(plan)
        slabs = parts.slabs(caches, 0, length)
        run = parts.run(slabs, 0, 3, min(64, length))
        assert form_of(run) == forms.of(min(64, length) - 3, length).arrays
        assert form_of(parts.end(caches, 0)) == forms.of(0, length).arrays


def test_what_was_never_read_can_be_built() -> None:
    """After a restart: nothing has been cut yet, and parts come from the disk."""
    plan = CachePlan(make_model("lfm2"))
    parts, other = CacheParts(plan), CacheParts(plan)
    PartForms(plan, other)
    caches = plan.make()
    plan.model(mx.ones((1, 64), mx.int32), cache=caches)
    run = parts.run(parts.slabs(caches, 0, 64), 0, 0, 64)
    end = parts.end(caches, 0)
    mx.eval(run, end)
    built = other.build([[run]], [end], 64)
    token = mx.array([[5]])
    assert mx.array_equal(plan.model(token, cache=built), plan.model(token, cache=caches))
