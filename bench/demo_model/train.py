"""Trains the demo model with MLX on mlx_lm's own Llama and writes a folder that `mlx_lm.load` reads."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.llama import Model, ModelArgs

from bench.demo_model import batches
from bench.demo_model import tokenizer as tokenization
from bench.demo_model.batches import Bucket

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 192,
    "num_hidden_layers": 5,
    "intermediate_size": 384,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rms_norm_eps": 1e-5,
    "vocab_size": 1280,
    "max_position_embeddings": tokenization.MAX_LENGTH,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
    "torch_dtype": "float16",
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 4,
}
_MODEL_KEYS = (
    "model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "rms_norm_eps",
    "vocab_size", "head_dim", "max_position_embeddings", "num_key_value_heads", "rope_theta",
)  # fmt: skip
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a training run does; it ends at `num_steps` or after `minutes`, whichever comes first."""

    seed: int = 1
    out: Path
    num_steps: int = 20_000
    minutes: float = 60.0
    num_dialogues: int = 512  # in each step
    num_shards: int = 120  # of 25,000 dialogues
    first_shard: int = 0
    peak_rate: float = 2e-3
    weight_decay: float = 0.1
    resume: Path | None = None
    is_half: bool = True  # bfloat16 products on float32 weights


def _loss(model: Model, batch: list[tuple[mx.array, mx.array]]) -> mx.array:
    total = mx.array(0.0)
    count = mx.array(0.0)
    for ids, is_target in batch:
        logits = model(ids[:, :-1]).astype(mx.float32)
        weights = is_target[:, 1:].astype(mx.float32)
        total = total + (nn.losses.cross_entropy(logits, ids[:, 1:]) * weights).sum()
        count = count + weights.sum()
    return total / count


def rate(progress: float, peak: float) -> float:
    """Learning rate at a share of the run: 2 % warm-up, then a cosine to 1 % of the peak."""
    warm = min(1.0, (progress + 1e-4) / 0.02)
    return peak * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def _arrays(batch: list[Bucket]) -> list[tuple[mx.array, mx.array]]:
    return [(mx.array(bucket.ids).astype(mx.int32), mx.array(bucket.is_target)) for bucket in batch]


class Trainer:
    """Holds the model and its optimizer, and does one compiled step at a time."""

    def __init__(self, plan: Plan) -> None:
        mx.random.seed(plan.seed)
        self.model = Model(ModelArgs(**{key: CONFIG[key] for key in _MODEL_KEYS}))
        # Tied embeddings: MLX's default scale fits the input, and small logits at the start.
        self.model.model.embed_tokens.weight = 0.05 * mx.random.normal(
            (CONFIG["vocab_size"], CONFIG["hidden_size"])
        )
        if plan.resume is not None:
            self.model.load_weights(str(plan.resume / CHECKPOINT))
        self._optimizer = optim.AdamW(
            learning_rate=plan.peak_rate,
            betas=[0.9, 0.98],
            weight_decay=plan.weight_decay,
            bias_correction=True,
        )
        self._optimizer.init(self.model.trainable_parameters())
        self._dtype = mx.bfloat16 if plan.is_half else mx.float32
        self._state = [self.model.state, self._optimizer.state]
        mx.eval(self._state)
        self._step = mx.compile(self._plain_step, inputs=self._state, outputs=self._state)

    def _plain_step(self, batch: list[tuple[mx.array, mx.array]]) -> mx.array:
        params = self.model.trainable_parameters()

        def loss_of(values: Any) -> mx.array:
            self.model.update(tree_map(lambda value: value.astype(self._dtype), values))
            return _loss(self.model, batch)

        loss, grads = mx.value_and_grad(loss_of)(params)
        self.model.update(params)  # the float32 weights again
        grads, _ = optim.clip_grad_norm(grads, 1.0)  # type: ignore[no-untyped-call]
        self._optimizer.update(self.model, grads)
        return loss

    def step(self, batch: list[Bucket], learning_rate: float) -> mx.array:
        self._optimizer.learning_rate = learning_rate
        loss: mx.array = self._step(_arrays(batch))
        mx.async_eval(loss, self._state)  # type: ignore[no-untyped-call]
        return loss

    def save(self, folder: Path) -> None:
        """Write the float32 checkpoint, and the float16 weights with their config as a loadable folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = self._weights()
        mx.save_safetensors(str(folder / CHECKPOINT), weights)
        halves = {name: value.astype(mx.float16) for name, value in weights.items()}
        mx.save_safetensors(str(folder / "model.safetensors"), halves, metadata={"format": "mlx"})
        (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
        generation = {
            "do_sample": False,
            "eos_token_id": CONFIG["eos_token_id"],
            "pad_token_id": CONFIG["pad_token_id"],
        }
        (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")

    def num_parameters(self) -> int:
        return sum(value.size for value in self._weights().values())

    def _weights(self) -> dict[str, mx.array]:
        return dict(cast(list[tuple[str, mx.array]], tree_flatten(self.model.parameters())))


def run(plan: Plan) -> dict[str, Any]:
    """Train and save; returns what the report says about the run."""
    started = time.monotonic()
    tokenizer = tokenization.train(plan.seed, CONFIG["vocab_size"])
    tokenization.save(tokenizer, plan.out)
    buckets = batches.make(
        tokenizer,
        CONFIG["pad_token_id"],
        seed=plan.seed,
        first_shard=plan.first_shard,
        num_shards=plan.num_shards,
    )
    rows = batches.shares(buckets, plan.num_dialogues)
    num_dialogues = sum(len(bucket.ids) for bucket in buckets)
    print(
        f"{num_dialogues} dialogues after {time.monotonic() - started:.0f} s; rows a step {rows}", flush=True
    )
    trainer = Trainer(plan)
    print(f"{trainer.num_parameters()} parameters on {mx.default_device()}", flush=True)
    source = batches.endless(buckets, rows, plan.seed + plan.first_shard)
    begun = logged = saved = time.monotonic()
    step = logged_step = 0
    pending: list[mx.array] = []
    while True:
        progress = max(step / plan.num_steps, (time.monotonic() - started) / 60 / plan.minutes)
        if progress >= 1:
            break
        pending.append(trainer.step(next(source), rate(progress, plan.peak_rate)))
        step += 1
        if len(pending) < 25:
            continue
        loss = mx.stack(pending).mean().item()
        pending = []
        now = time.monotonic()
        if now - logged > 15 or step == 25:
            pace = (step - logged_step) / (now - logged)
            print(f"step {step} {100 * progress:.0f} % loss {loss:.4f} {pace:.1f} steps/s", flush=True)
            logged, logged_step = now, step
        if now - saved > 90:
            trainer.save(plan.out)
            saved = now
    trainer.save(plan.out)
    return {
        "parameters": trainer.num_parameters(),
        "seed": plan.seed,
        "steps": step,
        "dialogues_a_step": sum(rows),
        "dialogues_in_corpus": num_dialogues,
        "training_minutes": round((time.monotonic() - begun) / 60, 1),
        "device": str(mx.default_device()),
    }
