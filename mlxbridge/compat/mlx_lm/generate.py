"""What ``mlx_lm.generate`` has for programs that answer. As there, the package's own ``generate`` is the function."""

from mlxbridge.compat.mlx_lm.batches import batch_generate
from mlxbridge.compat.mlx_lm.generation import generate, stream_generate
from mlxbridge.compat.mlx_lm.responses import BatchResponse, BatchStats, GenerationResponse
from mlxbridge.compat.refusal import refusing

generate_step = refusing(
    "generate_step", "the host chooses the tokens: stream_generate gives each, with its text"
)
speculative_generate_step = refusing(
    "speculative_generate_step", 'stream_generate has speculation, "draft" or "ngram"'
)
BatchGenerator = refusing(
    "BatchGenerator", "the host runs calls together as they come: batch_generate, or Client.generate_many"
)
wired_limit = refusing("wired_limit", "the memory is the host's: leave it out")

__all__ = [
    "BatchGenerator",
    "BatchResponse",
    "BatchStats",
    "GenerationResponse",
    "batch_generate",
    "generate",
    "generate_step",
    "speculative_generate_step",
    "stream_generate",
    "wired_limit",
]
