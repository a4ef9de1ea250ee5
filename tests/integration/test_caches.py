"""A host that was told to keep keys and values cheaper: what guests see of it."""

from __future__ import annotations

import pytest

from mlxbridge.errors import ContextTooLong, ModelLoadFailed
from tests.integration.hosts import TRANSPORTS, run_host

pytestmark = pytest.mark.skipif(
    "unix" not in TRANSPORTS, reason="what is tested does not depend on the transport"
)


def test_quantized_keys_and_values() -> None:
    with run_host("unix", "--kv-bits", "8") as host, host.client(timeout=60) as client:
        about = client.load_model("demo", timeout=120).details
        assert (about["kv_bits"], about["kv_group_size"]) == (8, 32)
        # 5 layers of 2 heads of 32 numbers, twice; a byte for each, and 4 for the scale and the bias of each 32.
        assert about["kv_bytes_per_token"] == 5 * 2 * 2 * (32 + 4)
        assert client.chat("What is 17 + 25?").text == "17 + 25 = 42."
        with pytest.raises(ContextTooLong):
            client.generate("one two three four five six " * 2000)


def test_window() -> None:
    with run_host("unix", "--kv-window", "160") as host, host.client(timeout=60) as client:
        about = client.load_model("demo", timeout=120).details
        assert (about["kv_window"], about["kv_sinks"], about["context_length"]) == (160, 4, None)
        assert client.chat("What is 17 + 25?").text == "17 + 25 = 42."
        long = client.generate("one two three four five six " * 96, max_tokens=3, ignore_eos=True)
        assert long.usage.prompt_tokens > 1024 and long.usage.completion_tokens == 3


def test_model_that_cannot_have_it_fails_to_load_and_says_why() -> None:
    with run_host("unix", "--kv-window", "2000") as host, host.client(timeout=60) as client:
        with pytest.raises(
            ModelLoadFailed, match="--kv-window: demo cannot have a window of 2000 tokens: .* 1024"
        ):
            client.load_model("demo", timeout=120)
        (entry,) = client.status().models
        assert entry.state == "failed"
