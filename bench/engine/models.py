"""Random-weight Llamas of real shapes, in memory; their words are made up."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models import llama
from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer

from mlxbridge.host.engine.loader import LoadedModel

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 32_000,
    },
    "smollm-135m": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
    },
    "llama-3.2-1b": {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128_256,
    },
}
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
_COMMON = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
}


class Words:
    """As much of mlx_lm's tokenizer as the engine asks for."""

    def __init__(self) -> None:
        make_empty: Any = object.__new__
        self.detokenizer = make_empty(BPEStreamingDetokenizer)
        self.added_tokens_decoder: dict[int, Any] = {}
        self.all_special_ids: list[int] = []
        self.eos_token_ids: set[int] = set()
        self.think_start_tokens = self.think_end_tokens = None
        self.tool_call_start_tokens = self.tool_call_end_tokens = None

    def convert_ids_to_tokens(self, token: int) -> str:
        return f"Ġw{token}"


def make(shape: str, dtype: str) -> LoadedModel:
    """A model without an end: every answer has all the tokens that it may have."""
    config = {**_COMMON, **SHAPES[shape]}
    mx.random.seed(7)
    arguments: Any = llama.ModelArgs
    model = llama.Model(arguments.from_dict(config))
    model.update(tree_map(lambda leaf: leaf.astype(DTYPES[dtype]), model.parameters()))
    mx.eval(model.parameters())
    return LoadedModel(
        name=shape,
        model=model,
        tokenizer=Words(),
        config=config,
        eos_ids=frozenset(),
        context_length=None,
        vocabulary_size=config["vocab_size"],
        longest_token=8,
    )
