"""What transformers' own models make of the checkpoints in ``checkpoints``; writes ``references.json`` beside this file.

Needs torch, which no test does: ``pip install torch transformers``, then ``python -m tests.host.embeddings.make_references``.
Made with torch 2.13.0 and transformers 5.23.0, in float32 on a CPU, each input by itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.host.embeddings.checkpoints import VOCABULARY_SIZE, seeded

FILE = Path(__file__).with_name("references.json")
LENGTHS = (1, 2, 9, 40)
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
}
DECODER = {**COMMON, "num_key_value_heads": 2, "head_dim": 16}
XLM = {**COMMON, "pad_token_id": 1, "max_position_embeddings": 50, "type_vocab_size": 1}
# Windows are shorter than the longest input, and layers of both kinds come twice.
MODERN = {**COMMON, "local_attention": 12, "global_attn_every_n_layers": 2}
GEMMA = {
    **DECODER,
    "sliding_window": 12,
    "query_pre_attn_scalar": 16,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", COMMON),
    "xlm-roberta": ("XLMRobertaModel", XLM),
    "modernbert": ("ModernBertModel", MODERN),
    "qwen3": ("Qwen3Model", DECODER),
    "gemma3": ("Gemma3TextModel", {**GEMMA, "use_bidirectional_attention": True}),
    "gemma3-causal": ("Gemma3TextModel", GEMMA),
}
CLASSIFIERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", COMMON),
    "xlm-roberta": ("XLMRobertaForSequenceClassification", XLM),
    "modernbert": ("ModernBertForSequenceClassification", MODERN),
    "modernbert-mean": ("ModernBertForSequenceClassification", {**MODERN, "classifier_pooling": "mean"}),
}


def inputs() -> list[list[int]]:
    """Token ids from 5 on, which mean nothing special to any of the models."""
    return [
        [5 + (7 * place + length) % (VOCABULARY_SIZE - 5) for place in range(length)] for length in LENGTHS
    ]


def build(class_name: str, facts: dict[str, Any]) -> Any:
    import torch
    import transformers

    kind = getattr(transformers, class_name)
    model = kind(kind.config_class(**facts)).eval()
    weights = {
        name: torch.tensor(seeded(name, tuple(leaf.shape))) for name, leaf in model.state_dict().items()
    }
    weights = {name: leaf for name, leaf in weights.items() if "position_ids" not in name}
    model.load_state_dict(weights, strict=False)
    return model


def described(model: Any) -> dict[str, Any]:
    config = json.loads(model.config.to_json_string())
    shapes = {name: list(leaf.shape) for name, leaf in model.state_dict().items()}
    return {"config": config, "shapes": shapes}


def rounded(numbers: Any) -> Any:
    return [round(number, 6) for number in numbers.flatten().tolist()]


def model_reference(class_name: str, facts: dict[str, Any]) -> dict[str, Any]:
    import torch

    model = build(class_name, facts)
    answers = []
    with torch.no_grad():
        for ids in inputs():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
            answers.append(
                {"mean": rounded(states.mean(0)), "cls": rounded(states[0]), "lasttoken": rounded(states[-1])}
            )
    return {**described(model), "inputs": inputs(), "vectors": answers}


def classifier_reference(class_name: str, facts: dict[str, Any]) -> dict[str, Any]:
    import torch

    model = build(class_name, {**facts, "num_labels": 1})
    logits = []
    with torch.no_grad():
        for ids in inputs():
            # The second half of each pair has type 1, where the model tells types apart.
            types = [int(2 * place >= len(ids)) for place in range(len(ids))]
            others = {"token_type_ids": torch.tensor([types])} if class_name.startswith("Bert") else {}
            logits += rounded(model(input_ids=torch.tensor([ids]), **others).logits)
    return {**described(model), "inputs": inputs(), "logits": logits}


def main() -> None:
    """Compute and write."""
    references = {
        "models": {name: model_reference(*model) for name, model in MODELS.items()},
        "classifiers": {name: classifier_reference(*model) for name, model in CLASSIFIERS.items()},
    }
    FILE.write_text(json.dumps(references, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
