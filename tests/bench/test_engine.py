from __future__ import annotations

import argparse
import struct
import subprocess
import sys
from functools import wraps
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import llama

from bench import machine
from bench.engine import cases, command, models, plan, warmup
from bench.engine.cases import Found, Work
from bench.engine.report import render, summarise, usual_times
from bench.engine.sides import Ask, MlxLm, Ours, Side, generate_alone
from bench.shapes import SHAPES
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.drafts.payoff import Payoff
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.types import Speculation


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return models.make("tiny", "float32")


@pytest.fixture(scope="module")
def engine(loaded: LoadedModel) -> BatchEngine:
    return BatchEngine(loaded)


@pytest.fixture(params=["ours", "mlx_lm"])
def side(request: pytest.FixtureRequest, loaded: LoadedModel, engine: BatchEngine) -> Side:
    return Ours(loaded, engine) if request.param == "ours" else MlxLm(loaded)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def work(**options: Any) -> Work:
    return Work(vocabulary=512, **{"prompt_tokens": 12, "max_tokens": 16, **options})


def test_requests_are_new_in_each_round_and_the_same_for_both_sides() -> None:
    uneven = work(is_uneven=True, has_own_sampling=True)
    first, second = uneven.asks(8, 1), uneven.asks(8, 2)
    assert first == uneven.asks(8, 1)
    assert [len(ask.prompt) for ask in first] == [len(ask.prompt) for ask in second]
    assert len({len(ask.prompt) for ask in first}) > 3
    assert not {tuple(ask.prompt) for ask in first} & {tuple(ask.prompt) for ask in second}
    settings = [ask.sampling for ask in first if ask.sampling]
    assert all(len({sampling[key] for sampling in settings}) == 8 for key in settings[0])


class Clockwork:
    """A side that is told what comes in each step; a step takes a second."""

    def __init__(self, steps: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
        self._steps, self._now = steps, 0.0
        self.is_stopped = False
        monkeypatch.setattr(cases, "perf_counter", lambda: self._now)

    def submit(self, number: int, ask: Ask) -> None: ...

    def step(self) -> list[int]:
        self._now += 1
        return self._steps.pop(0)

    def stop(self) -> None:
        self.is_stopped = True

    @property
    def is_busy(self) -> bool:
        return bool(self._steps)


def test_rate_counts_from_the_last_beginning_to_the_first_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork([[], [0], [0, 1], [1, 0], [0, 1], [1]], monkeypatch)
    numbers = cases.rate(clock, [Ask(prompt=[1], max_tokens=4)] * 2).numbers
    assert numbers == {"tokens/s": 2.0, "with prompts, tokens/s": pytest.approx(8 / 6)}
    assert clock.is_stopped


def test_rate_without_a_time_when_all_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork([[0], [0], [1], [1]], monkeypatch)
    with pytest.raises(RuntimeError, match="ask for more tokens"):
        cases.rate(clock, [Ask(prompt=[1], max_tokens=2)] * 2)


def test_rate_with_tokens_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork([[0, 1], [0, 1], [0, 1], [0]], monkeypatch)
    with pytest.raises(RuntimeError, match="7 tokens came instead of 8"):
        cases.rate(clock, [Ask(prompt=[1], max_tokens=4)] * 2)


def test_gaps_are_those_between_arrival_and_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[list[int]] = [[0]] * (1 + cases._STEPS_BEFORE)
    clock = Clockwork([*before, [], [0], [1001, 0], [], [], [0, 1000]], monkeypatch)
    ask = Ask(prompt=[1], max_tokens=2)
    found = cases.long_prompt_beside(clock, [ask], ask, ask)
    assert found.numbers == {
        "gap_before": 1000,
        "gap_max": 3000,
        "first_long": 6000,
        "first_short": 3000,
    }
    assert found.token_times[-4:] == [0, 2000, 3000, 6000]
    assert found.gaps == [2000, 1000, 3000]
    assert len(found.token_times) == cases._STEPS_BEFORE + 3


def test_every_case_runs_on_both_sides(side: Side, loaded: LoadedModel) -> None:
    asks = work(is_uneven=True, has_own_sampling=True, max_tokens=48).asks(5, 1)
    found = cases.rate(side, asks)
    assert found.numbers["tokens/s"] > 0 and not side.is_busy


def test_constrained_answers_are_as_long_as_free_ones(loaded: LoadedModel, engine: BatchEngine) -> None:
    asks = work(has_own_format=True, max_tokens=48).asks(4, 1)
    assert len({ask.response_format for ask in asks}) == 4
    assert cases.rate(Ours(loaded, engine), asks).numbers["tokens/s"] > 0


def test_case_of_two_of_our_sides_has_a_column_of_its_own() -> None:
    rounds = {
        "8 greedy": {"ours": [Found({"tokens/s": 6.0})], "mlx_lm": [Found({"tokens/s": 3.0})]},
        "8 constrained": {"ours, free": [Found({"tokens/s": 8.0})], "ours": [Found({"tokens/s": 4.0})]},
    }
    lines = render(summarise(rounds, {"8 greedy": ("greedy", 8), "8 constrained": ("constrained", 8)}))
    assert [line.split() for line in lines] == [
        ["ours", "mlx_lm", "ours,", "free", "ratio"],
        ["8", "greedy", "tokens/s", "6.00", "3.00", "-", "2.00"],
        ["8", "constrained", "tokens/s", "4.00", "-", "8.00", "0.500"],
    ]


def next_of(loaded: LoadedModel, tokens: mx.array) -> list[int]:
    likeliest: Any = mx.argmax(loaded.model(tokens)[:, -1], axis=-1).tolist()
    return list(likeliest)


def test_text_goes_round_and_the_draft_model_is_wrong_as_often_as_it_says() -> None:
    loaded, draft = models.make_rounds("tiny", "float32")
    tokens = mx.arange(loaded.vocabulary_size)[:, None]
    period = models.PERIOD
    expected = [token - token % period + (token + 1) % period for token in range(loaded.vocabulary_size)]
    said, guessed = (next_of(each, tokens) for each in (loaded, draft))
    assert said == expected
    for first in range(0, loaded.vocabulary_size, period):
        some = slice(first, first + period)
        pairs = zip(guessed[some], expected[some], strict=True)
        assert sum(guess != right for guess, right in pairs) == models.NUM_WRONG
        assert sorted(guessed[some]) == sorted(expected[some])
    assert len(draft.model.layers) < len(loaded.model.layers)


@pytest.mark.parametrize(("speculation", "least"), [("ngram", 2.2), ("draft", 2.2)])
def test_steps_with_drafts_are_counted(
    speculation: Speculation, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Payoff, "decide", lambda *_, **__: True)
    monkeypatch.setattr(Payoff, "width", lambda *_, room, **__: 8)
    loaded, draft = models.make_rounds("tiny", "float32")
    engine = BatchEngine(loaded, draft=draft)
    asks = work(max_tokens=100, speculation=speculation).asks(1, 1)
    drafted = cases.rate_with_steps(engine, Ours(loaded, engine), asks)
    assert drafted.numbers["tokens/step"] > least
    plain = cases.rate_with_steps(engine, Ours(loaded, engine), work(max_tokens=100).asks(1, 2))
    assert 0.9 < plain.numbers["tokens/step"] < 1


def test_churn_keeps_the_batch_full(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "perf_counter", iter([0.0, 1.0]).__next__)
    num_tokens = cases.churn(side, 4, work(), 1, 20).numbers["tokens/s"]
    assert 40 <= num_tokens <= 20 * 5
    assert not side.is_busy


def test_long_prompt_case_runs_on_both_sides(side: Side) -> None:
    running = work(max_tokens=2000).asks(2, 1)
    long, short = work(prompt_tokens=300, max_tokens=2).asks(1, 1)[0], work(max_tokens=2).asks(1, 1)[0]
    found = cases.long_prompt_beside(side, running, long, short)
    assert all(value > 0 for value in found.numbers.values())
    assert found.numbers["gap_max"] <= found.numbers["first_long"] + 1
    assert found.token_times == sorted(found.token_times)
    assert found.token_times[0] < 0 < found.token_times[-1]
    assert not side.is_busy


def test_samplers_that_were_warmed_up_are_those_that_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[list[int]] = []
    monkeypatch.setattr(warmup, "_share", lambda numbers, *_: shared.append(numbers))
    ran: list[int] = []
    monkeypatch.setattr(warmup, "run_samplers", lambda numbers, **_: ran.extend(numbers))
    warmup.warm_up_samplers(4, dtype="float32", vocabulary=512)
    assert (shared, ran) == ([[1, 2, 3]], [0, 0, 1, 2, 3])
    monkeypatch.undo()
    warmup.run_samplers([0, 63], dtype="float32", vocabulary=512)


def test_mlx_is_not_imported_before_it_is_told_how_much_to_keep() -> None:
    code = """
import argparse, sys
from bench.engine import command
command.prepare_environment = lambda: sys.exit(3 if "mlx.core" in sys.modules else 0)
parser = argparse.ArgumentParser()
command.add_arguments(parser)
command.run(parser.parse_args(["--quick"]))
sys.exit(4)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_mlx_lm_runs_with_its_own_attention(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = llama
    original = module.scaled_dot_product_attention

    @wraps(original)
    def ours(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("not for mlx_lm")

    for ask in (lambda: MlxLm(loaded), lambda: next(generate_alone(loaded, work().asks(1, 1)[0]))):
        monkeypatch.setattr(module, "scaled_dot_product_attention", ours)
        ask()
        assert module.scaled_dot_product_attention is original


def found(**numbers: float) -> Found:
    return Found({name.replace("_per_s", "/s"): value for name, value in numbers.items()})


def test_summary_takes_ratios_round_by_round() -> None:
    rounds = {
        "8 greedy": {
            "ours": [found(tokens_per_s=100), found(tokens_per_s=300), found(tokens_per_s=200)],
            "mlx_lm": [found(tokens_per_s=50), found(tokens_per_s=300), found(tokens_per_s=50)],
        }
    }
    (line,) = summarise(rounds, {"8 greedy": ("greedy", 8)})
    assert line == {
        "case": "8 greedy",
        "kind": "greedy",
        "rows": 8,
        "quantity": "tokens/s",
        "ours": 200,
        "mlx_lm": 50,
        "ratio": 2,
    }
    assert render([line]) == [
        "                    ours  mlx_lm  ratio",
        "8 greedy  tokens/s   200    50.0   2.00",
    ]


def test_how_many_usual_gaps_a_gap_is_goes_by_its_own_round() -> None:
    quick, slow = Found({"gap_before": 2}, gaps=[4.0] * 100), Found({"gap_before": 20}, gaps=[40.0] * 100)
    lines = summarise(
        {"long prompt": {"ours": [quick, slow], "mlx_lm": [slow, slow]}},
        {"long prompt": ("long prompt", None)},
    )
    assert [line["ours"] for line in lines if line["quantity"] == "gap_p99 / gap_before"] == [2]


def test_percentile_of_gaps_is_of_all_rounds_together() -> None:
    def rounds(usual: float, *gaps: list[float]) -> list[Found]:
        return [Found({"gap_before": usual}, gaps=each) for each in gaps]

    sides = {
        "ours": rounds(2, [4.0] * 60, [4.0] * 40, [9.0]),
        "mlx_lm": rounds(4, [40.0] * 50, [40.0] * 48, [80.0] * 3),
    }
    lines = summarise({"long prompt": sides}, {"long prompt": ("long prompt", None)})
    found = {line["quantity"]: (line["ours"], line["mlx_lm"]) for line in lines}
    assert found == {"gap_before": (2, 4), "gap_p99": (4, 80), "gap_p99 / gap_before": (2, 20)}
    assert render(lines)[-1].split() == [
        "long",
        "prompt",
        "gap_p99",
        "/",
        "gap_before",
        "2.00",
        "20.0",
        "0.100",
    ]


def test_the_round_that_is_drawn_is_the_middle_one() -> None:
    rounds = [Found({"first_long": value}, [value]) for value in (3.0, 1.0, 2.0, 9.0)]
    assert usual_times(rounds, "first_long") == [2.0]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, very short run."""
    path = tmp_path_factory.mktemp("results") / "short.json"
    words = "--rows 1 4 --rounds 1 --tokens 24 --prompt-tokens 6 --long-prompt 200 --only 1 4 alone long speculation"
    command.run(parse(*words.split(), "--output", str(path)))
    return path


def test_a_short_run_measures_all_it_was_asked_for(results: Path) -> None:
    stored = machine.load(results)
    assert stored["num_rounds"] == 1 and stored["settings"]["rows"] == [1, 4]
    assert {line["case"] for line in stored["summary"]} == {
        "alone",
        *(f"{num_rows} {kind}" for num_rows in (1, 4) for kind in plan.KINDS),
        "4 greedy, one length",
        "4 coming and going",
        "4 constrained",
        *(f"speculation {name}, {num_rows}" for num_rows in (1, 4) for name in plan.DRAFTS.values()),
        "long prompt",
    }
    for line in stored["summary"]:
        other = {"constrained": "ours, free", "speculation": "ours, no drafts"}.get(line["kind"], "mlx_lm")
        assert line["ours"] > 0 and line[other] > 0
    assert set(stored["rounds"]["alone"]) == set(stored["gaps"]) == {"ours", "mlx_lm"}
    assert max(len(line) for line in results.read_text().splitlines()) > 200, "lists of numbers on one line"


def test_keys_and_values_in_few_bits_are_measured_where_heads_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--rows", "2", "--rounds", "1", "--tokens", "16", "--only", "2 with keys"]
    with pytest.raises(SystemExit, match="no case begins so"):
        command.run(parse(*words))
    monkeypatch.setitem(SHAPES["tiny"], "head_dim", 32)
    monkeypatch.setattr(plan, "_LONG_TOKENS", 100)
    command.run(parse(*words, "--output", str(tmp_path / "kv.json")))
    summary = machine.load(tmp_path / "kv.json")["summary"]
    assert [line["case"] for line in summary if line["quantity"] == "tokens/s"] == [
        f"2 with keys and values in {bits} bits" for bits in (8, 4)
    ]
    assert all(line["ours"] > 0 and line["ours, all bits"] > 0 for line in summary)


def test_stored_results_are_shown_and_drawn(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    command.run(parse("--from", str(results), "--plot"))
    assert "4 own sampling" in capsys.readouterr().out
    for name in ("short-rates.png", "short-gaps.png"):
        data = results.with_name(name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert struct.unpack(">II", data[16:24]) == (1600, 920)
        assert len(data) > 20_000


def test_only_what_there_is_is_drawn(results: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench.engine.plots import draw

    stored = machine.load(results)
    lines = [line for line in stored["summary"] if line["kind"] == "own sampling"]
    assert draw({**stored, "summary": lines, "gaps": {}}, results) == [results.with_name("short-rates.png")]
    assert draw({**stored, "summary": []} | {"gaps": {}}, results) == []


@pytest.mark.parametrize(
    "words",
    ["--rows 0", "--rows 65", "--rounds 0", "--tokens 1", "--shape none", "--dtype int8", "--long-prompt -1"],
)
def test_wrong_numbers_are_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(*words.split())
    assert words.split()[0] in capsys.readouterr().err


def test_unknown_case_is_refused_with_those_there_are() -> None:
    with pytest.raises(SystemExit, match="no case begins so; there are alone, 1 greedy"):
        command.run(parse("--rows", "1", "--only", "2"))


def test_plot_without_matplotlib_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="--plot needs matplotlib"):
        command.run(parse("--plot"))


@pytest.mark.parametrize("text", [None, "{", "[]", '{"bench": "wire"}', '{"bench": "engine"}'])
def test_file_that_is_no_result_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit, match=r"file\.json"):
        command.run(parse("--from", str(path)))


def test_time_limit_ends_after_a_whole_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(0, 1000, 10))
    monkeypatch.setattr(command, "perf_counter", lambda: next(moments))
    path = tmp_path / "file.json"
    words = "--rounds 9 --seconds 40 --rows 1 --tokens 8 --prompt-tokens 4 --only alone"
    command.run(parse(*words.split(), "--output", str(path)))
    stored = machine.load(path)
    assert 1 < stored["num_rounds"] < 9
    assert len(stored["rounds"]["alone"]["ours"]) == stored["num_rounds"]
