"""What MLX is told before it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlx.core
import pytest

from mlxbridge.host.engine.environment import prepare_environment

VALUES = {"MLX_CUDA_SDPA_CACHE_SIZE": "4096", "MLX_ENABLE_CACHE_THRASHING_CHECK": "0"}


def test_caches_are_large_and_raise_for_no_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VALUES:
        monkeypatch.setenv(name, "1")  # so that what the test sets is undone
        monkeypatch.delenv(name)
    prepare_environment()
    assert {name: os.environ.get(name) for name in VALUES} == VALUES


def test_torch_is_not_there_for_transformers(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch is imported')\n__version__ = '2.9.0'\n")
    code = (
        "from mlxbridge.host.engine.environment import prepare_environment; prepare_environment();"
        "import mlx_lm; from transformers.utils import is_torch_available; assert not is_torch_available()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=120, check=True)


def test_what_the_owner_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VALUES:
        monkeypatch.setenv(name, "1")
    prepare_environment()
    assert {os.environ[name] for name in VALUES} == {"1"}


def test_mlx_still_asks_for_the_check_by_that_name() -> None:
    header = Path(mlx.core.__file__).parent / "include/mlx/backend/cuda/lru_cache.h"
    assert '"MLX_ENABLE_CACHE_THRASHING_CHECK"' in header.read_text()


def test_mlx_is_not_imported_before_it_is_told() -> None:
    code = "import sys, mlxbridge.host.worker.__main__; sys.exit('mlx.core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
