"""``mlxbridge embed`` and ``mlxbridge rerank`` as a shell sees them, against a real host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.host.embeddings.checkpoints import save_model
from tests.integration.hosts import HostProcess, run_host
from tests.mlxbridge.test_cli import run

REFERENCES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "host" / "embeddings" / "references.json").read_text()
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    root = tmp_path_factory.mktemp("models")
    save_model(root / "finder", REFERENCES["models"]["bert"])
    judge = REFERENCES["classifiers"]["bert"]
    save_model(root / "judge", judge, pooling=None, architectures=["BertForSequenceClassification"])
    with run_host("unix", models=(str(root / "finder"), str(root / "judge"))) as running:
        yield running


def vectors(host: HostProcess, *arguments: str, stdin: str = "") -> np.ndarray[Any, Any]:
    done = run(host, "embed", "--model", "finder", *arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    return np.array([json.loads(line) for line in done.stdout.splitlines()])


def test_each_text_becomes_a_line(host: HostProcess) -> None:
    found = vectors(host, "cat", "the dog")
    assert found.shape == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors(host, "-", stdin="cat\nthe dog\n"), found, atol=1e-6)
    raw = vectors(host, "cat", "--no-normalize", "--dimensions", "4")
    assert raw.shape == (1, 4) and abs(np.linalg.norm(raw) - 1) > 0.1
    assert vectors(host, "cat " * 100, "--truncate", "--prompt", "query : ").shape == (1, 32)


def test_documents_come_best_first(host: HostProcess) -> None:
    done = run(host, "rerank", "--model", "judge", "who", "cat", "the dog", "house", "--top-n", "2")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == 2 and float(rows[0][0]) >= float(rows[1][0])
    assert all(["cat", "the dog", "house"][int(index)] == text for _, index, text in rows)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["embed", "--model", "judge", "x"], "Unsupported"),
        (["embed", "--model", "finder", "x", "-"], "UsageError: -: "),
        (["embed", "--model", "finder", "cat " * 100], "ContextTooLong: inputs[0] "),
        (["rerank", "--model", "finder", "x", "y"], "Unsupported"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(host: HostProcess, arguments: list[str], error: str) -> None:
    done = run(host, *arguments)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"mlxbridge: {error}") and done.stderr.count("\n") == 1
