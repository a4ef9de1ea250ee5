"""A worker's step, whose rows are of calls of several guests."""

from __future__ import annotations

from collections.abc import Mapping

from mlxbridge.host.models.job import Job, Sink
from mlxbridge.protocol.events import TokensReceived
from mlxbridge.protocol.parts import Part


def pass_on(step: TokensReceived, jobs: Mapping[int, Job]) -> None:
    """Regroup the rows by guest: one frame and one write for each.

    Args:
        jobs: by their numbers at the worker; rows of others are dropped, since they were cancelled a moment ago.
    """
    if step.logprobs is not None or step.parts is not None:
        _pass_all_on(step, jobs)
        return
    groups: dict[Sink, tuple[list[int], list[list[int]], list[str]]] = {}
    for number, ids, text in zip(step.calls, step.token_ids, step.texts, strict=True):
        job = jobs.get(number)
        if job is None:
            continue
        group = groups.get(job.sink)
        if group is None:
            group = groups[job.sink] = ([], [], [])
        group[0].append(job.call)
        group[1].append(ids)
        group[2].append(text)
    for sink, columns in groups.items():
        sink.send_tokens(*columns)
        sink.flush()


def _pass_all_on(step: TokensReceived, jobs: Mapping[int, Job]) -> None:
    """With logprobs and parts; a guest whose rows have none does not get that column."""
    none = [None] * len(step.calls)
    groups: dict[Sink, list[tuple[int, list[int], str, list[bytes] | None, list[Part] | None]]] = {}
    for number, ids, text, data, some in zip(
        step.calls, step.token_ids, step.texts, step.logprobs or none, step.parts or none, strict=True
    ):
        job = jobs.get(number)
        if job is not None:
            groups.setdefault(job.sink, []).append((job.call, ids, text, data, some))
    for sink, rows in groups.items():
        calls, token_ids, texts, logprobs, parts = map(list, zip(*rows, strict=True))
        sink.send_tokens(
            calls, token_ids, texts, logprobs if any(logprobs) else None, parts if any(parts) else None
        )
        sink.flush()
