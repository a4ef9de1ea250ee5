"""Random-weight Llamas of real shapes, in memory; their words are made up."""

from __future__ import annotations

import random
from typing import Any

import mlx.core as mx
from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer
from tokenizers.pre_tokenizers import ByteLevel

from bench.shapes import config_of, make_llama
from mlxbridge.host.engine.loader import LoadedModel

PERIOD = 32
"""Tokens after which the text of a model of ``make_rounds`` comes again."""
NUM_WRONG = 6
"""How many of them its draft model guesses wrong."""
_DRAFT_SHARE = 8  # of the layers the draft model has one in so many
# So little of what a layer computes is added that the last token alone decides.
_FAINT = 1e-3


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
        self.has_thinking = self.has_tool_calling = self.has_chat_template = False
        self.structural_markers: tuple[str, ...] = ()
        self.response_transitions: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._names)

    def encode(self, _text: str) -> list[int]:
        return [0]

    def convert_ids_to_tokens(self, token: int) -> str:
        return self._names[token]

    def get_vocab(self) -> dict[str, int]:
        return {name: token for token, name in enumerate(self._names)}


def make(shape: str, dtype: str) -> LoadedModel:
    """A model without an end: every answer has all the tokens that it may have."""
    config = config_of(shape)
    return _loaded(shape, make_llama(config, dtype), config)


def make_rounds(shape: str, dtype: str) -> tuple[LoadedModel, LoadedModel]:
    """A model whose greedy text goes round, and a draft model for it, of its first layers, which is wrong in known places.

    Both compute as much as any model of their shapes. What comes next is one token higher, or the first of the ``PERIOD``
    that the last token is among; of these the draft model mixes ``NUM_WRONG`` up, here and there.
    """
    config = {**config_of(shape), "tie_word_embeddings": False}
    num_layers = max(1, config["num_hidden_layers"] // _DRAFT_SHARE)
    model, draft = make_llama(config, dtype), make_llama({**config, "num_hidden_layers": num_layers}, dtype)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight *= _FAINT
        layer.mlp.down_proj.weight *= _FAINT
    draft.model.embed_tokens, draft.model.layers = model.model.embed_tokens, model.model.layers[:num_layers]
    size = config["vocab_size"]
    for each, num_wrong in ((model, 0), (draft, NUM_WRONG)):
        each.lm_head.weight = model.model.embed_tokens.weight[mx.array(_before(size, num_wrong))]
    return _loaded(shape, model, config), _loaded(f"{shape}, {num_layers} layers", draft, config)


def _before(size: int, num_wrong: int) -> list[int]:
    """By token the one that it follows; in each round so many are mixed up."""
    chance = random.Random(size)
    found: list[int] = []
    for first in range(0, size, PERIOD):
        last = min(first + PERIOD, size) - 1
        rounds = [last, *range(first, last)]
        wrong = chance.sample(range(len(rounds)), min(num_wrong, len(rounds)))
        mixed = [rounds[place] for place in wrong]
        for place, token in zip(wrong, mixed[1:] + mixed[:1], strict=True):
            rounds[place] = token
        found += rounds
    return found


def _loaded(name: str, model: Any, config: dict[str, Any]) -> LoadedModel:
    mx.eval(model.parameters())
    return LoadedModel(
        name=name,
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
