"""What ``mlx_lm.tokenizer_utils`` has for programs that answer."""

from mlxbridge.compat.mlx_lm.model import load_tokenizer
from mlxbridge.compat.mlx_lm.model import load_tokenizer as load
from mlxbridge.compat.mlx_lm.tokenizer import Tokenizer as TokenizerWrapper
from mlxbridge.compat.refusal import refusing

StreamingDetokenizer = NaiveStreamingDetokenizer = SPMStreamingDetokenizer = BPEStreamingDetokenizer = (
    refusing(
        "detokenizer",
        "the host decodes: the text of each response of stream_generate is what its token added",
    )
)

__all__ = [
    "BPEStreamingDetokenizer",
    "NaiveStreamingDetokenizer",
    "SPMStreamingDetokenizer",
    "StreamingDetokenizer",
    "TokenizerWrapper",
    "load",
    "load_tokenizer",
]
