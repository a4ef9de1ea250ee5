"""Tiny random-weight models and tokenizers, made on the spot and loaded through mlx_lm like real ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import llama
from mlx_lm.utils import quantize_model, save_config
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import NOBODY, GenerateRequest, Origin, Row
from mlxbridge.types import TokenLogprobs, ToolCall

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "naïve café, Ærøskøbing, Größe, ça va",
    "你好，世界！日本語のテキスト 한국어",
    "😀 👩‍👩‍👧‍👦 🏳️‍🌈 emoji",
    "  two spaces,\ttab\nnew line\n\n  indent",
    "a , b . c ! don 't",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + m.role) }}{% endif %}"
    "<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant:{% endif %}"
)


def byte_level_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def spm_tokenizer() -> Tokenizer:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = sorted(
        {char for char in "".join(TEXTS[:2] + TEXTS[5:]).replace(" ", "▁") if ord(char) < 0x2600}
    )
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "b"), ("o", "w")]
    names = [*pieces, *letters, *(a + b for a, b in merges)]
    vocab = {name: i for i, name in enumerate(dict.fromkeys(names))}
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def metaspace_tokenizer() -> Tokenizer:
    """A family that no streaming detokenizer of mlx_lm's knows."""
    tokenizer = spm_tokenizer()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return tokenizer


def save_tokenizer(
    tokenizer: Tokenizer, folder: Path, *, chat: bool = True, template: str = CHAT_TEMPLATE
) -> None:
    make: Any = PreTrainedTokenizerFast
    fast = make(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = template if chat else None
    fast.save_pretrained(folder)


def save_model(folder: Path, *, bits: int | None = None, shards: int = 1, **changes: Any) -> None:
    config: dict[str, Any] = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": 384,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        **changes,
    }
    mx.random.seed(7)
    arguments: Any = llama.ModelArgs
    model = llama.Model(arguments.from_dict(config))
    # Larger than at a real model's start, so that answers vary instead of repeating one token.
    model.update(tree_map(lambda leaf: leaf * 3 if leaf.ndim == 2 else leaf, model.parameters()))
    if bits is not None:
        model, config = quantize_model(model, config, group_size=32, bits=bits)
    folder.mkdir(parents=True, exist_ok=True)
    _save_weights(folder, dict(tree_flatten(model.parameters())), shards)
    save_config(config, folder / "config.json")


def _save_weights(folder: Path, weights: dict[str, mx.array], shards: int) -> None:
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
        return
    names = sorted(weights)
    files = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        mx.save_safetensors(
            str(folder / file), {name: weights[name] for name in names if files[name] == file}
        )
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


class Answers:
    """Drives an engine and gathers what each call was sent."""

    def __init__(self, engine: BatchEngine) -> None:
        self.engine = engine
        self.asked: dict[int, dict[str, Any]] = {}
        self.tokens: dict[int, list[int]] = {}
        self.texts: dict[int, str] = {}
        self.logprobs: dict[int, list[TokenLogprobs] | None] = {}
        self.parts: dict[int, list[str | ToolCall]] = {}
        self.last: dict[int, Row] = {}

    def submit(self, call: int, **request: Any) -> None:
        self.submit_for(NOBODY, call, **request)

    def submit_for(self, origin: Origin, call: int, **request: Any) -> None:
        self.asked[call] = request
        self.engine.submit(call, GenerateRequest(**request), origin)

    def take(self, row: Row) -> None:
        assert row.call not in self.last, "a row after the last one"
        self.tokens.setdefault(row.call, []).extend(row.token_ids)
        self.texts[row.call] = self.texts.get(row.call, "") + row.text
        self.parts.setdefault(row.call, []).extend(row.parts or [])
        if row.logprobs is None:
            assert self.logprobs.setdefault(row.call) is None
        else:
            assert len(row.logprobs) == len(row.token_ids)
            self.logprobs[row.call] = [*(self.logprobs.get(row.call) or []), *row.logprobs]
        if row.usage is not None or row.error is not None:
            self.last[row.call] = row

    def reasoning(self, call: int) -> str:
        return "".join(part for part in self.parts[call] if isinstance(part, str))

    def tool_calls(self, call: int) -> list[ToolCall]:
        return [part for part in self.parts[call] if isinstance(part, ToolCall)]

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            for row in self.engine.step():
                self.take(row)

    def finish(self, limit: int = 5000) -> Answers:
        for _ in range(limit):
            if not self.engine.has_work:
                return self
            self.step()
        raise AssertionError("the engine does not come to an end")

    def cancel(self, call: int) -> None:
        row = self.engine.cancel(call)
        assert row is not None
        self.take(row)


def tokens(seed: int, length: int) -> list[int]:
    """A prompt of ids that stand for text."""
    chance = random.Random(seed)
    return [chance.randrange(3, 380) for _ in range(length)]


def num_cached(answers: Answers, call: int) -> int:
    """How many of an answered prompt's tokens were not read."""
    usage = answers.last[call].usage
    assert usage is not None
    return usage.cached_tokens
