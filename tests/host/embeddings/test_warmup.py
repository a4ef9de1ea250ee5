from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from mlxbridge.host.embeddings import warmup
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.request import EmbedRequest


def test_warm_up_leaves_a_model_as_it_was(
    make: Callable[..., Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make()
    shapes: list[list[int]] = []
    launch = encoder.launch

    def noted(inputs: list[object]) -> mx.array:
        shapes.append([len(each) for each in inputs])  # type: ignore[arg-type]
        return launch(inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "launch", noted)
    before = encoder.encode(EmbedRequest(inputs=["cat"])).vectors
    shapes.clear()
    warmup.warm_up(encoder)
    assert shapes == [] or mx.default_device().type == mx.DeviceType.gpu
    monkeypatch.setattr(warmup, "_is_gpu", lambda: True)
    warmup.warm_up(encoder)
    assert [8] in shapes and [16, 5, 5] in shapes
    np.testing.assert_array_equal(encoder.encode(EmbedRequest(inputs=["cat"])).vectors, before)
