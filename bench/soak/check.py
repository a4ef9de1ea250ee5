"""Checks answers against the same request alone, and against mlx_lm where it can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.soak.answers import Answer, answer_alone, mlx_lm_tokens
from bench.soak.compare import differences, is_mlx_lm_like, mlx_lm_differences
from bench.soak.requests import FORMATS, Arrival
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import EngineLimits, GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel


class Checker:
    """Has an engine of its own, on which never more than one request runs.

    Attributes:
        num_checked_by_mlx_lm: answers that were compared with mlx_lm's own too.
    """

    def __init__(self, loaded: LoadedModel, limits: EngineLimits) -> None:
        self._loaded = loaded
        self._limits = limits
        self._engine = BatchEngine(loaded, limits)
        self.num_checked_by_mlx_lm = 0

    def __call__(self, arrival: Arrival, answer: Answer) -> list[str]:
        """What is wrong with the answer."""
        request = arrival.request
        alone = answer_alone(self._engine, request)
        found = list(differences(answer, alone, may_be_late=arrival.deadline_s is not None))
        found += self._text_differences(request, alone)
        found += _format_differences(request, alone)
        if alone.usage is not None and is_mlx_lm_like(request):
            self.num_checked_by_mlx_lm += 1
            tokens = mlx_lm_tokens(self._loaded, request, self._limits)
            found += mlx_lm_differences(request, alone, tokens, self._loaded.eos_ids)
        return found

    def _text_differences(self, request: GenerateRequest, alone: Answer) -> Iterator[str]:
        if alone.usage is None or alone.usage.stop_string is not None or request.ignore_eos:
            return
        text = self._loaded.tokenizer.decode(alone.token_ids, skip_special_tokens=True)
        if alone.text != text:
            yield f"alone, text {alone.text!r}, of its tokens {text!r}"


def _format_differences(request: GenerateRequest, alone: Answer) -> Iterator[str]:
    if request.response_format is None or alone.usage is None or alone.usage.finish_reason != "stop":
        return
    is_cut = alone.usage.stop_string is not None or alone.usage.stop_token_id is not None
    if not is_cut and re.fullmatch(FORMATS[request.response_format], alone.text) is None:
        yield f"alone, text {alone.text!a}, which does not keep to {request.response_format.text!a}"
