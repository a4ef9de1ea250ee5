"""mlx_lm's ``load``, ``generate``, ``stream_generate`` and ``batch_generate``, with a host's models; needs neither mlx nor mlx_lm.

    >>> from mlxbridge.compat.mlx_lm import generate, load
    >>> model, tokenizer = load("demo")
    >>> prompt = tokenizer.apply_chat_template([{"role": "user", "content": "What is 27 + 15?"}], add_generation_prompt=True)
    >>> generate(model, tokenizer, prompt=prompt)
    '27 + 15 = 42.'

What the host cannot do is refused by name.
"""

from mlxbridge.compat.mlx_lm.generate import batch_generate, generate, stream_generate
from mlxbridge.compat.mlx_lm.model import Model, load
from mlxbridge.compat.mlx_lm.responses import BatchResponse, BatchStats, GenerationResponse
from mlxbridge.compat.mlx_lm.sample_utils import make_logits_processors, make_sampler
from mlxbridge.compat.mlx_lm.tokenizer import Tokenizer
from mlxbridge.compat.refusal import refusing

convert = refusing(
    "convert", "mlx_lm itself converts models, on the host, which serves a folder of that kind"
)

__all__ = [
    "BatchResponse",
    "BatchStats",
    "GenerationResponse",
    "Model",
    "Tokenizer",
    "batch_generate",
    "convert",
    "generate",
    "load",
    "make_logits_processors",
    "make_sampler",
    "stream_generate",
]
