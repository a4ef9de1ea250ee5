from __future__ import annotations

import os
from pathlib import Path

import mlx.core as mx
import pytest

from mlxbridge.host.engine import memory
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.memory import cache_budgets, device_bytes, survey, usable_bytes, used_bytes

GIB = 1 << 30


def test_cpu_may_use_half_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(memory, "_CGROUP_LIMIT", tmp_path / "none")
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    assert device_bytes() == physical // 2
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP_LIMIT", limit)
    limit.write_text("max\n")
    assert device_bytes() == physical // 2
    limit.write_text("1000000\n")
    assert device_bytes() == 500_000


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"max_recommended_working_set_size": 12 * GIB, "memory_size": 16 * GIB}, 12 * GIB),
        ({"total_memory": 140 * GIB}, 140 * GIB),
    ],
)
def test_gpu_says_what_it_has(monkeypatch: pytest.MonkeyPatch, info: dict[str, int], expected: int) -> None:
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    monkeypatch.setattr(mx, "device_info", lambda: info)
    assert device_bytes() == expected


def test_what_is_left_is_shared_and_what_is_given_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "device_bytes", lambda: 20 * GIB)
    kv, prefix = cache_budgets(EngineLimits(), 10 * GIB)
    assert kv + prefix == 8 * GIB and prefix == GIB
    assert cache_budgets(EngineLimits(kv_bytes=5, prefix_cache_bytes=0), 10 * GIB) == (5, 0)
    assert cache_budgets(EngineLimits(prefix_cache_bytes=3 * GIB), 10 * GIB) == (5 * GIB, 3 * GIB)
    assert cache_budgets(EngineLimits(), 30 * GIB)[0] > 0


def test_share_of_several_models_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "device_bytes", lambda: 100 * GIB)
    kv, prefix = cache_budgets(EngineLimits(memory_bytes=12 * GIB), 4 * GIB)
    assert (kv, prefix) == (7 * GIB, GIB)
    kv, prefix = cache_budgets(EngineLimits(memory_bytes=12 * GIB, kv_bytes=7 * GIB + GIB // 2), 4 * GIB)
    assert (kv, prefix) == (7 * GIB + GIB // 2, GIB // 2)
    assert cache_budgets(EngineLimits(memory_bytes=4 * GIB), 5 * GIB) == (0, 0)


def test_gpu_that_shares_the_machines_memory_leaves_the_system_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "device_bytes", lambda: 60 * GIB)
    monkeypatch.setattr(memory, "_memory_of_machine", lambda: 64 * GIB)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    assert usable_bytes() == int(0.8 * 64 * GIB)
    monkeypatch.setattr(memory, "device_bytes", lambda: 48 * GIB)
    assert usable_bytes() == int(0.9 * 48 * GIB)
    monkeypatch.setattr(memory, "device_bytes", lambda: 140 * GIB)
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    assert usable_bytes() == int(0.9 * 140 * GIB)


def test_survey_names_the_chip_and_its_memory() -> None:
    found = survey()
    assert found["chip"]
    assert 0 < found["usable_bytes"] < found["device_bytes"] <= found["memory_bytes"]


def test_what_is_used_grows_with_what_is_held() -> None:
    before = used_bytes()
    held = mx.zeros((1 << 20,))
    mx.eval(held)
    assert used_bytes() - before >= held.nbytes
