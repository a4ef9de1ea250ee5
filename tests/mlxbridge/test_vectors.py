"""``mlxbridge embed`` and ``mlxbridge rerank`` as a shell sees them, against a real host."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.command_line import run
from tests.host.embeddings.checkpoints import save_model
from tests.integration.hosts import HostProcess, run_host

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


def test_lines_of_a_file_become_a_file_of_vectors(host: HostProcess, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.write_text("cat\nthe\u2028dog\n", encoding="utf-8")
    out = tmp_path / "x.npy"
    done = run(host, "embed", "--model", "finder", str(texts), "--out", str(out))
    assert re.fullmatch(rf"{out}: 2 vectors of 32 numbers, from \d+ tokens\n", done.stdout), done
    np.testing.assert_allclose(np.load(out), vectors(host, "cat", "the\u2028dog"), atol=1e-6)
    half = tmp_path / "x.jsonl"
    given = ("--model", "finder", "-", "--out", str(half), "--dtype", "float16", "--json")
    told = json.loads(run(host, "embed", *given, stdin="cat\n").stdout)
    assert told["shape"] == [1, 32] and told["prompt_tokens"] > 0
    assert np.float16(json.loads(half.read_text())).tolist() == json.loads(half.read_text())
    done = run(host, "embed", "--model", "finder", str(texts), "x", "--out", str(out))
    assert "without it, arguments are texts" in done.stderr and done.returncode == 2


def test_json_tells_more_than_the_numbers(host: HostProcess) -> None:
    found = json.loads(run(host, "embed", "--model", "finder", "cat", "--json").stdout)
    assert (found["model"], found["shape"]) == ("finder", [1, 32]) and len(found["vectors"][0]) == 32
    ranked = json.loads(run(host, "rerank", "--model", "judge", "who", "cat", "dog", "--json").stdout)
    assert {one["document"] for one in ranked["results"]} == {"cat", "dog"}


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
    assert done.returncode == (1 if error.startswith("ContextTooLong") else 2) and not done.stdout
    assert done.stderr.startswith(f"mlxbridge: {error}") and done.stderr.count("\n") == 1
