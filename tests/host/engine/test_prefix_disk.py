"""Prompts that were read before a restart are not read again; whatever happens to the files, answers stay exact."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_map

from mlxbridge.host.engine import batch
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import EngineLimits, Origin
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prefixes import disk_thread, prefix_disk
from mlxbridge.host.engine.prefixes.part_names import PartName
from tests.host.engine.architectures import LARGE_HEADS, TOKEN_BYTES, make_model
from tests.host.engine.reference import assert_greedy
from tests.host.engine.test_prefix_cache import (
    CUTTABLE,
    arrays,
    blocks,
    endless,
)
from tests.host.engine.tiny import Answers, num_cached, tokens

# Bytes of 64 tokens of the tiny llama, in memory and as a file.
BLOCK_BYTES = 64 * TOKEN_BYTES
FILE_BYTES = BLOCK_BYTES + 4096

Open = Callable[..., Answers]


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Open]:
    """Start an engine that keeps prefixes in the test's folder; all are closed at the end."""
    engines: list[BatchEngine] = []

    def open_one(loaded: LoadedModel, **limits: Any) -> Answers:
        limits = {"prefix_disk_bytes": 1 << 30, "prefix_disk_folder": str(tmp_path / "disk"), **limits}
        engines.append(BatchEngine(loaded, EngineLimits(**limits)))
        engines[-1].open_disk()
        return Answers(engines[-1])

    yield open_one
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def llama(loaded: LoadedModel) -> LoadedModel:
    return endless(loaded, "llama")


@pytest.fixture(scope="module")
def mamba(loaded: LoadedModel) -> LoadedModel:
    return endless(loaded, "mamba")


def ask(answers: Answers, call: int, prompt: list[int], max_tokens: int = 5, scope: str = "") -> int:
    """Answer a prompt, exactly; how many of its tokens were cached."""
    answers.submit_for(Origin(cache_scope=scope), call, prompt=prompt, max_tokens=max_tokens)
    answers.finish()
    assert_greedy(answers, answers.engine._loaded.model, [call])
    return num_cached(answers, call)


def disk_stats(answers: Answers) -> tuple[int, int, int]:
    """Bytes on disk, prompts that began with what came from there, damaged files."""
    stats = answers.engine.stats()
    return (
        stats["prefix_disk_bytes"],
        stats["prefix_disk_hits_total"],
        stats["prefix_disk_dropped_total"],
    )


def files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "disk").glob("*/*") if PartName.parse(path.name))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "name", ["llama", "llama 4 bit", "gemma3_text", "mamba", "mamba2", "lfm2", "qwen3_moe"]
)
def test_restarted_engine_reads_from_disk_what_the_one_before_has_read(
    loaded: LoadedModel, open_engine: Open, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = endless(loaded, name)
    first, cuts = tokens(1, 200), name in CUTTABLE
    before = open_engine(model)
    assert ask(before, 0, first, max_tokens=70) == 0
    history = first + before.tokens[0]
    before.engine.close()
    after = open_engine(model)
    assert after.engine.stats()["prefix_cache_bytes"] == 0
    # The last token of an answer was never fed.
    assert ask(after, 0, history + tokens(2, 30)) == (blocks(269) if cuts else 269)
    assert ask(after, 1, first) == (192 if cuts else 199)
    assert ask(after, 2, first[:150] + tokens(3, 20)) == (128 if cuts else 0)
    # Beginnings of what has come are in memory; a state at another place is not.
    assert disk_stats(after)[1:] == (1 if cuts else 2, 0)
    assert lines(caplog) == []


@pytest.mark.parametrize(
    "limits", [{"kv_bits": 8}, {"kv_bits": 4}, {"kv_window": 100}, {"kv_window": 20}], ids=str
)
def test_keys_and_values_in_few_bits_or_in_a_window_come_back(
    loaded: LoadedModel, open_engine: Open, limits: dict[str, int]
) -> None:
    model = make_model("llama", **LARGE_HEADS)
    own = replace(loaded, model=model, eos_ids=frozenset(), config={}, context_length=512)
    prompt = tokens(1, 200)
    told: list[list[int]] = []
    for whole in (0, 199 if "kv_window" in limits else 192):
        answers = open_engine(own, **limits)
        answers.submit(0, prompt=prompt, max_tokens=30)
        answers.finish()
        answers.engine.close()
        assert num_cached(answers, 0) == whole
        told.append(answers.tokens[0])
    assert told[0] == told[1]
    other = open_engine(own)
    assert ask(other, 0, prompt) == 0, "they are of no use to who keeps them otherwise"


def test_bfloat16_comes_back_bit_for_bit(loaded: LoadedModel, open_engine: Open) -> None:
    model = make_model("gemma3_text")
    model.update(tree_map(lambda leaf: leaf.astype(mx.bfloat16), model.parameters()))
    own = replace(loaded, model=model, eos_ids=frozenset(), config={}, context_length=None)
    prompt = tokens(1, 150)
    before = open_engine(own)
    ask(before, 0, prompt)
    kept = contents(before)
    before.engine.close()
    after = open_engine(own)
    assert ask(after, 0, prompt) == 149
    assert kept and contents(after) == kept


def contents(answers: Answers) -> dict[tuple[int, bool], Any]:
    """By length and kind, all bits of what is in memory."""
    found = {}
    for node in answers.engine._prefixes._tree._order:
        found[node.depth, node.is_end] = [part.view(mx.uint16).tolist() for part in arrays(node.content)]
    return found


def test_what_memory_loses_comes_back_from_disk(llama: LoadedModel, open_engine: Open) -> None:
    answers = open_engine(llama, prefix_cache_bytes=5 * BLOCK_BYTES)
    prompts = [tokens(seed, 4 * 64 + 1) for seed in range(5)]
    for turn in range(3):
        for number, prompt in enumerate(prompts):
            assert ask(answers, 10 * turn + number, prompt) == (256 if turn else 0)
    assert answers.engine.stats()["prefix_cache_bytes"] <= 5 * BLOCK_BYTES
    assert disk_stats(answers) == (20 * FILE_BYTES, 10, 0)


def test_part_that_was_not_written_yet_is_saved_when_memory_loses_it(
    llama: LoadedModel, open_engine: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = open_engine(llama, prefix_cache_bytes=5 * BLOCK_BYTES)
    monkeypatch.setattr(prefix_disk, "MAX_UNWRITTEN_BYTES", 0)
    ask_once(answers, 0, tokens(1, 257))
    assert files(tmp_path) == []
    monkeypatch.undo()
    answers.engine._prefixes._disk._backlog.clear()  # type: ignore[union-attr]
    ask(answers, 1, tokens(2, 257))
    assert len(files(tmp_path)) == 4 + 3


def ask_once(answers: Answers, call: int, prompt: list[int]) -> None:
    """As ``ask``, but do not wait for the disk."""
    answers.submit(call, prompt=prompt, max_tokens=2)
    while call not in answers.last:
        answers.step()


def test_prompt_longer_than_memory_comes_back_as_far_as_it_fits(
    llama: LoadedModel, open_engine: Open
) -> None:
    prompt = tokens(1, 10 * 64 + 1)
    before = open_engine(llama)
    ask(before, 0, prompt)
    before.engine.close()
    after = open_engine(llama, prefix_cache_bytes=4 * BLOCK_BYTES + 9)
    assert ask(after, 0, prompt) == 4 * 64


def test_state_that_memory_cannot_hold_is_left_where_it_is(mamba: LoadedModel, open_engine: Open) -> None:
    before = open_engine(mamba)
    ask(before, 0, tokens(1, 150))
    before.engine.close()
    after = open_engine(mamba, prefix_cache_bytes=1000)
    assert ask(after, 0, tokens(1, 150)) == 0


def test_prompts_that_push_each_other_out_of_memory_come_to_an_end(
    llama: LoadedModel, open_engine: Open
) -> None:
    prompts = [tokens(seed, 5 * 64 + 1) for seed in range(6)]
    before = open_engine(llama)
    for call, prompt in enumerate(prompts):
        ask(before, call, prompt)
    before.engine.close()
    after = open_engine(llama, prefix_cache_bytes=6 * BLOCK_BYTES)
    for call, prompt in enumerate(prompts):
        after.submit(call, prompt=prompt, max_tokens=5)
    after.finish()
    assert_greedy(after, llama.model)


def test_one_fetch_serves_all_that_begin_alike(llama: LoadedModel, open_engine: Open) -> None:
    stem = tokens(1, 300)
    before = open_engine(llama)
    ask(before, 0, stem)
    before.engine.close()
    after = open_engine(llama)
    asked = [stem + tokens(10 + call, 20 + call) for call in range(4)]
    for call, prompt in enumerate(asked):
        after.submit(call, prompt=prompt, max_tokens=5)
    after.finish()
    assert_greedy(after, llama.model)
    assert all(num_cached(after, call) == 256 for call in range(4))
    assert disk_stats(after)[1] == 1


def test_scopes_are_kept_apart_on_disk_too(
    llama: LoadedModel, mamba: LoadedModel, open_engine: Open, tmp_path: Path
) -> None:
    prompt = tokens(1, 150)
    for model in (llama, mamba):
        before = open_engine(model)
        ask(before, 0, prompt, scope="anna")
        ask(before, 1, prompt, scope="")
        before.engine.close()
        after = open_engine(model)
        whole = 149 if model is mamba else 128
        cached = [
            ask(after, call, prompt, scope=scope) for call, scope in enumerate(["bert", "anna", "", "ann"])
        ]
        assert cached == [0, whole, whole, 0]
        after.engine.close()
    names = [path.name for path in files(tmp_path)]
    assert len(names) == len(set(names)) and not any("anna" in name for name in names)


def test_names_tell_nothing_without_the_folder_s_key(
    llama: LoadedModel, open_engine: Open, tmp_path: Path
) -> None:
    seen: list[set[str]] = []
    for folder in ("one", "other"):
        answers = open_engine(llama, prefix_disk_folder=str(tmp_path / folder))
        ask(answers, 0, tokens(1, 150))
        answers.engine.close()
        seen.append({path.name for path in (tmp_path / folder).glob("*/*")})
    assert len(seen[0]) == len(seen[1]) == 2 and not seen[0] & seen[1]


def test_another_model_s_files_are_never_used(loaded: LoadedModel, open_engine: Open) -> None:
    prompt = tokens(1, 150)
    models = [endless(loaded, "llama") for _ in range(3)]
    head = models[1].model.lm_head.weight
    models[1].model.lm_head.weight = head + (mx.arange(head.size).reshape(head.shape) == 77) * 1e-3
    models[2] = replace(models[2], config={"rope_theta": 1})
    for turn in range(2):
        for model in models:
            answers = open_engine(model)
            assert ask(answers, 0, prompt) == (128 if turn else 0)
            answers.engine.close()


def test_bound_is_kept(llama: LoadedModel, open_engine: Open, tmp_path: Path) -> None:
    bound = 10 * FILE_BYTES
    answers = open_engine(llama, prefix_disk_bytes=bound, prefix_cache_bytes=3 * BLOCK_BYTES)
    for call in range(12):
        ask(answers, call, tokens(call, 200))
        on_disk = sum(path.stat().st_blocks * 512 for path in files(tmp_path))
        assert disk_stats(answers)[0] == on_disk <= bound
    assert on_disk > bound / 2
    # The oldest have gone, and the newest are there.
    assert ask(answers, 20, tokens(11, 200)) == 192
    assert ask(answers, 21, tokens(0, 200)) == 0


def test_beginning_that_is_used_from_memory_stays_on_disk(
    llama: LoadedModel, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_disk, "_USE_EVERY_S", 0.0)
    answers = open_engine(llama, prefix_disk_bytes=10 * FILE_BYTES)
    stem = tokens(1, 129)
    for call in range(12):
        ask(answers, call, stem + tokens(100 + call, 130))
    answers.engine.close()
    after = open_engine(llama)
    assert ask(after, 0, stem) == 128
    assert disk_stats(after)[1] == 1


@pytest.mark.parametrize("most_read_at_once", [disk_thread.MAX_READ_BYTES, 1])
def test_what_the_disk_has_lost_is_written_again_once_it_is_used(
    llama: LoadedModel,
    open_engine: Open,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    most_read_at_once: int,
) -> None:
    monkeypatch.setattr(disk_thread, "MAX_READ_BYTES", most_read_at_once)
    prompt = tokens(1, 200)
    answers = open_engine(llama, prefix_cache_bytes=4 * BLOCK_BYTES)
    ask(answers, 0, prompt)
    first = files(tmp_path)
    for path in first:
        path.unlink()
    ask(answers, 1, tokens(2, 300))  # memory loses it
    assert ask(answers, 2, prompt) == 0
    assert set(first) <= set(files(tmp_path))
    assert disk_stats(answers)[1:] == (0, 0) and lines(caplog) == []


def test_every_damage_is_found_told_and_mended(
    loaded: LoadedModel, open_engine: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bit by bit: see ``test_part_file``."""
    model = endless(loaded, "lfm2")
    prompt = tokens(1, 130)
    answers = open_engine(model)
    ask(answers, 0, prompt)
    told = answers.tokens[0]
    answers.engine.close()
    whole = {path: path.read_bytes() for path in files(tmp_path)}
    assert len(whole) >= 3
    for path, data in whole.items():
        for damage in damages(data):
            path.write_bytes(damage)
            caplog.clear()
            answers = open_engine(model)
            answers.submit(0, prompt=prompt, max_tokens=5)
            answers.finish()
            answers.engine.close()
            assert answers.tokens[0] == told
            assert disk_stats(answers)[2] == 1
            (line,) = lines(caplog)
            assert line.startswith(f"dropped a cached prefix, {path}: ")
            assert path.read_bytes() == data, "it has been computed and written again"


def damages(data: bytes) -> Iterator[bytes]:
    yield b""
    yield data[:-1]
    yield data[: len(data) // 2]
    yield data + b"\0"
    yield bytes(len(data))
    for place in (0, 30, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 4
        yield bytes(changed)


def test_file_under_another_part_s_name_is_dropped(
    llama: LoadedModel, open_engine: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_engine(llama)
    for call in range(2):
        ask(before, call, tokens(call, 70), scope=str(call))
    before.engine.close()
    mine, other = files(tmp_path)
    shutil.copy(other, mine)
    after = open_engine(llama)
    assert sorted(ask(after, call, tokens(call, 70), scope=str(call)) for call in range(2)) == [0, 64]
    assert [line.rpartition(": ")[2] for line in lines(caplog)] == [
        "it holds another part, or one of another form"
    ]


def test_two_engines_on_one_folder_do_each_other_no_harm(
    llama: LoadedModel, open_engine: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bound = 12 * FILE_BYTES
    pair = [open_engine(llama, prefix_disk_bytes=bound, prefix_cache_bytes=4 * BLOCK_BYTES) for _ in range(2)]
    asked = [tokens(seed, 200) for seed in (1, 2, 3, 1, 4, 2, 5, 1, 6, 3, 1, 2)]
    for call, prompt in enumerate(asked):
        for answers in pair:
            answers.submit(call, prompt=prompt, max_tokens=5)
        while any(answers.engine.has_work for answers in pair):
            for answers in pair:
                answers.step()
        for answers in pair:
            assert_greedy(answers, llama.model, [call])
        assert sum(path.stat().st_blocks * 512 for path in files(tmp_path)) <= bound
    assert lines(caplog) == []
    assert any(disk_stats(answers)[1] for answers in pair)


def test_folder_that_cannot_be_used_is_told_once_and_hurts_nobody(
    llama: LoadedModel, open_engine: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "disk").write_text("in the way")
    answers = open_engine(llama)
    for call in range(3):
        assert ask(answers, call, tokens(1, 150)) == (128 if call else 0)
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].startswith("prefixes are not kept on disk: ")
    assert answers.engine.stats()["prefix_disk_budget"] == 0


@pytest.mark.parametrize(
    ("name", "size", "is_exact", "reason"),
    [
        ("llama", BLOCK_BYTES - 1, True, f"{BLOCK_BYTES - 1} bytes may be, but 64 tokens take {BLOCK_BYTES}"),
        ("mamba", 100, True, "100 bytes may be, but 64 tokens take [0-9]{4,}"),
        ("llama", 1 << 30, False, "the model has none in memory either"),
    ],
)
def test_disk_that_would_be_of_no_use_is_told(
    loaded: LoadedModel,
    open_engine: Open,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    size: int,
    is_exact: bool,
    reason: str,
) -> None:
    monkeypatch.setattr(batch, "is_exact_with_prefixes", lambda *_: is_exact)
    answers = open_engine(endless(loaded, name), prefix_disk_bytes=size)
    (line,) = lines(caplog)
    assert re.fullmatch(f"prefixes are not kept on disk: {reason}", line)
    assert answers.engine.stats()["prefix_disk_budget"] == 0 and not (tmp_path / "disk").exists()


def test_disk_that_fills_up_is_told_once_and_hurts_nobody(
    llama: LoadedModel,
    open_engine: Open,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = open_engine(llama, prefix_cache_bytes=4 * BLOCK_BYTES)
    ask(answers, 0, tokens(1, 200))
    real = os.open

    def full(path: str | Path, flags: int, *mode: int) -> int:
        return real("/dev/full" if str(path).endswith("unfinished") else path, flags, *mode)

    monkeypatch.setattr(os, "open", full)
    for call in range(1, 5):
        ask(answers, call, tokens(call, 200))
    assert lines(caplog) == [
        f"prefixes are not kept on disk any more: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}"
    ]
    assert answers.engine.stats()["prefix_disk_budget"] == 0
    assert len(files(tmp_path)) == 3
    assert ask(answers, 9, tokens(4, 200)) == 192, "memory goes on as before"
    monkeypatch.undo()
    assert ask(open_engine(llama), 0, tokens(1, 200)) == 192


def test_folder_that_is_removed_is_told_once_and_hurts_nobody(
    llama: LoadedModel, open_engine: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = open_engine(llama)
    ask(answers, 0, tokens(1, 200))
    shutil.rmtree(tmp_path / "disk")
    for call in range(1, 4):
        ask(answers, call, tokens(call, 200))
    assert len(lines(caplog)) == 1 and "No such file" in lines(caplog)[0]


def block(path: Path) -> None:
    """Whoever reads this file from now on waits for ever."""
    path.unlink()
    os.mkfifo(path)


def unblock(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY))


def test_answers_go_on_while_a_prompt_waits_for_the_disk(
    llama: LoadedModel, open_engine: Open, tmp_path: Path
) -> None:
    before = open_engine(llama)
    ask(before, 0, tokens(1, 100))
    before.engine.close()
    (path,) = files(tmp_path)
    data = path.read_bytes()
    block(path)
    after = open_engine(llama)
    after.submit(0, prompt=tokens(9, 20), max_tokens=400)
    after.step(3)
    after.submit(1, prompt=tokens(1, 100), max_tokens=5)
    after.submit(2, prompt=tokens(2, 100), max_tokens=5)
    after.step(50)
    assert len(after.tokens[0]) > 40 and 2 in after.last
    assert 1 not in after.tokens, "it waits"
    unblock(path)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    after.finish()
    assert_greedy(after, llama.model, [1])


def test_prompt_does_not_wait_for_a_disk_that_hangs(
    llama: LoadedModel,
    open_engine: Open,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = open_engine(llama)
    ask(before, 0, tokens(1, 100))
    before.engine.close()
    (path,) = files(tmp_path)
    block(path)
    monkeypatch.setattr(prefix_disk, "PATIENCE_S", 0.2)
    after = open_engine(llama)
    began = time.monotonic()
    assert ask(after, 0, tokens(1, 100)) == 0
    assert time.monotonic() - began < 10
    assert lines(caplog) == ["prefixes are not kept on disk any more: it has not answered for 0 s"]
    unblock(path)


def test_prompt_that_is_cancelled_while_it_waits_leaves_nothing(
    llama: LoadedModel, open_engine: Open, tmp_path: Path
) -> None:
    before = open_engine(llama)
    ask(before, 0, tokens(1, 300))
    before.engine.close()
    paths = files(tmp_path)
    data = {path: path.read_bytes() for path in paths}
    for path in paths:
        block(path)
    after = open_engine(llama)
    after.submit(0, prompt=tokens(1, 300), max_tokens=5)
    after.step(2)
    assert after.engine.has_work
    after.cancel(0)
    after.step()
    assert not after.engine.has_work
    (waiting,) = [path for path in paths if is_awaited(path)]
    for path in paths:
        if path != waiting:
            path.unlink()
            path.write_bytes(data[path])
    after.submit(1, prompt=tokens(1, 300), max_tokens=5)
    after.finish()
    assert_greedy(after, llama.model, [1])


def is_awaited(path: Path) -> bool:
    """Whether somebody waits for a writer to a named pipe, who goes on then."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_idle_engine_goes_on_until_all_is_written(
    llama: LoadedModel, open_engine: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_disk, "MAX_UNWRITTEN_BYTES", BLOCK_BYTES)
    answers = open_engine(llama)
    ask_once(answers, 0, tokens(1, 20 * 64 + 1))
    assert len(files(tmp_path)) < 20 and answers.engine.has_work
    answers.finish()
    assert len(files(tmp_path)) == 20


def test_closing_writes_what_is_left(
    llama: LoadedModel, open_engine: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_disk, "MAX_UNWRITTEN_BYTES", BLOCK_BYTES)
    answers = open_engine(llama)
    ask_once(answers, 0, tokens(1, 20 * 64 + 1))
    answers.engine.close()
    assert len(files(tmp_path)) == 20


def test_memory_that_cannot_be_had_for_a_part_hurts_nobody(
    llama: LoadedModel, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_engine(llama)
    ask(before, 0, tokens(1, 200))
    before.engine.close()

    def fail(*_: object) -> Any:
        raise RuntimeError("[malloc] out of memory")

    after = open_engine(llama)
    monkeypatch.setattr(prefix_disk, "content_of", fail)
    monkeypatch.setattr(prefix_disk, "host_bytes", fail)
    assert ask(after, 0, tokens(1, 200)) == 0
    assert ask(after, 1, tokens(2, 200)) == 0
    monkeypatch.undo()
    assert disk_stats(after)[1:] == (0, 0)


def test_nothing_is_kept_unless_it_is_asked_for(llama: LoadedModel, tmp_path: Path) -> None:
    answers = Answers(BatchEngine(llama, EngineLimits(prefix_disk_folder=str(tmp_path / "disk"))))
    answers.engine.open_disk()
    ask(answers, 0, tokens(1, 150))
    answers.engine.close()
    assert not (tmp_path / "disk").exists()
