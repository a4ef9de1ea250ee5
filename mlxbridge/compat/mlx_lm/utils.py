"""What ``mlx_lm.utils`` has for programs that answer; ``generate`` was there once, too."""

from mlxbridge.compat.mlx_lm.generation import generate, stream_generate
from mlxbridge.compat.mlx_lm.model import load, load_tokenizer
from mlxbridge.compat.refusal import refusing

_WHY = "the host has the model's files: mlx_lm itself loads, changes and saves them there"

load_model = refusing("load_model", "the host loads models: load gives a handle to one, and its tokenizer")
load_config = refusing("load_config", "Client.show_model tells what the host knows of config.json")
hf_repo_to_path = get_model_path = refusing("hf_repo_to_path", _WHY)
quantize_model = dequantize_model = refusing("quantize_model", _WHY)
save = save_model = save_config = upload_to_hub = refusing("save_model", _WHY)

__all__ = [
    "dequantize_model",
    "generate",
    "get_model_path",
    "hf_repo_to_path",
    "load",
    "load_config",
    "load_model",
    "load_tokenizer",
    "quantize_model",
    "save",
    "save_config",
    "save_model",
    "stream_generate",
    "upload_to_hub",
]
