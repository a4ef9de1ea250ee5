"""A real llama, loaded and run like any other, whose weights make it say given pieces, one after the other.

Attention and MLP add nothing, so a token's embedding alone decides the next token: that of the piece that follows in a script.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from mlx_lm.utils import save_config
from tokenizers import AddedToken

from tests.host.engine.tiny import byte_level_tokenizer, save_tokenizer

_HIDDEN = 256

END = "</s>"
CALLS_TEMPLATE = (
    "{%- for m in messages -%}<s>{{ m.role }}:{{ m.content or '' }}"
    "{%- for call in m.tool_calls -%}{%- set tool_call = call.function -%}<tool_call>{{ {'name': tool_call.name} | tojson }}</tool_call>{%- endfor -%}"
    "</s>{%- endfor -%}"
    "{%- for tool in tools or [] -%}{{ tool | tojson }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<s>assistant:"
    "{%- if messages[-1].role == 'tool' -%}<scene:result>"
    "{%- elif enable_thinking is defined and enable_thinking -%}<think>"
    "{%- else -%}{{ scene or messages[-1].content }}{%- endif -%}"
    "{%- endif -%}"
)


def save_scripted_model(
    folder: Path,
    scripts: Mapping[str, Sequence[str]],
    *,
    template: str = CALLS_TEMPLATE,
    context_length: int = 4096,
) -> None:
    """Make a model folder.

    Args:
        folder: for the model.
        scripts: what the model says after each piece that a prompt may end with; no piece may be followed by two
            different ones, and a script that does not end with ``END`` goes on where its last piece leads.
        template: ends a prompt with the beginning of a script.
    """
    following: dict[str, str] = {}
    for first, script in scripts.items():
        for piece, after in zip([first, *script], script, strict=False):
            assert following.setdefault(piece, after) == after, f"{piece!r} is followed by two pieces"
    pieces = dict.fromkeys([*scripts, *(piece for script in scripts.values() for piece in script)])
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([AddedToken(piece, special=False) for piece in pieces if piece != END])
    ids: dict[str, Any] = {piece: tokenizer.token_to_id(piece) for piece in pieces}
    size = tokenizer.get_vocab_size()
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, folder, template=template)
    _save(folder, {ids[piece]: ids[after] for piece, after in following.items()}, size, context_length)


def _save(folder: Path, following: Mapping[int, int], size: int, context_length: int) -> None:
    config: dict[str, Any] = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": _HIDDEN,
        "num_hidden_layers": 1,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": size,
        "max_position_embeddings": context_length,
        "tie_word_embeddings": False,
    }
    arguments: Any = llama.ModelArgs
    weights: dict[str, mx.array] = dict(tree_flatten(llama.Model(arguments.from_dict(config)).parameters()))
    embeddings = np.random.default_rng(7).choice([-1.0, 1.0], size=(size, _HIDDEN)).astype(np.float32)
    head = np.zeros((size, _HIDDEN), dtype=np.float32)
    for token, after in following.items():
        head[after] += embeddings[token]
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] = mx.zeros_like(weights[name])
    weights["model.embed_tokens.weight"] = mx.array(embeddings)
    weights["lm_head.weight"] = mx.array(head)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    save_config(config, folder / "config.json")
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == size
