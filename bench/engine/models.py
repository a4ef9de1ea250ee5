"""Random-weight Llamas of real shapes, in memory; their words are made up."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer
from tokenizers.pre_tokenizers import ByteLevel

from bench.shapes import config_of, make_llama
from mlxbridge.host.engine.loader import LoadedModel


class Words:
    """As much of mlx_lm's tokenizer as the engine asks for: bytes, and made-up words up to the size of the vocabulary."""

    def __init__(self, size: int) -> None:
        self._names = sorted(ByteLevel.alphabet())
        self._names += [f"Ġw{number}" for number in range(size - len(self._names))]
        make_empty: Any = object.__new__
        self.detokenizer = make_empty(BPEStreamingDetokenizer)
        self.added_tokens_decoder: dict[int, Any] = {}
        self.all_special_ids: list[int] = []
        self.eos_token_ids: set[int] = set()
        self.think_start_tokens = self.think_end_tokens = None
        self.tool_call_start_tokens = self.tool_call_end_tokens = self.tool_parser = None
        self.has_thinking = False
        self.structural_markers: tuple[str, ...] = ()
        self.response_transitions: dict[str, Any] = {}

    def encode(self, _text: str) -> list[int]:
        return [0]

    def convert_ids_to_tokens(self, token: int) -> str:
        return self._names[token]

    def get_vocab(self) -> dict[str, int]:
        return {name: token for token, name in enumerate(self._names)}


def make(shape: str, dtype: str) -> LoadedModel:
    """A model without an end: every answer has all the tokens that it may have."""
    config = config_of(shape)
    model = make_llama(config, dtype)
    mx.eval(model.parameters())
    return LoadedModel(
        name=shape,
        model=model,
        tokenizer=Words(config["vocab_size"]),
        config=config,
        eos_ids=frozenset(),
        context_length=None,
        vocabulary_size=config["vocab_size"],
        longest_token=8,
    )


def device() -> str:
    """What MLX computes on."""
    info: Any = mx.device_info(mx.default_device())
    return str(info.get("device_name", mx.default_device()))
