"""What torch makes of ``texts`` with all-MiniLM-L6-v2; writes ``minilm.npz`` beside this file.

Needs torch, which no test does: ``pip install torch transformers``, then
``python -m tests.host.embeddings.make_minilm_reference FOLDER``, where the folder is the package's ``model``.
Made with torch 2.13.0 and transformers 5.23.0, in float32 on a CPU, each text by itself, mean pooling, length 1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.host.embeddings.texts import texts

FILE = Path(__file__).with_name("minilm.npz")


def main(folder: str) -> None:
    """Compute and write; float16 is off by a part in 2,048 of each number, which leaves a cosine of 0.9999999."""
    import torch
    from transformers import AutoTokenizer, BertModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = BertModel.from_pretrained(folder)
    model.eval()
    vectors, num_tokens = [], []
    with torch.no_grad():
        for text in texts():
            encoded = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            mean = model(**encoded).last_hidden_state[0].mean(0)
            vectors.append((mean / mean.norm()).numpy().astype(np.float16))
            num_tokens.append(encoded["input_ids"].shape[1])
    np.savez_compressed(FILE, vectors=np.array(vectors), num_tokens=np.array(num_tokens, np.int16))


if __name__ == "__main__":
    main(*sys.argv[1:])
