"""The demo model's tokenizer: a small byte-level BPE in which only letters after a space merge into words.

A quoted word (`"planet"`) and the first word of a text therefore reach the model as single letters, digits always
stand alone, and everything outside ASCII stays bytes: a streamed emoji is four tokens.
"""

import json
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from bench.demo_model import corpus, words
from bench.demo_model.corpus import Dialogue

END, SYSTEM, USER, ASSISTANT, PAD = "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>"
SPECIALS = (END, SYSTEM, USER, ASSISTANT, PAD)
MAX_LENGTH = 1024
_SAMPLE_DIALOGUES = 60_000
_PIECES = r" \p{L}+|, (?=\p{N})| ?[^\s\p{L}\p{N}]+|\p{L}|\p{N}|\s"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- set role = 'system' if message.role == 'developer' else message.role -%}"
    "{%- if role not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('The demo model knows the roles system, user and assistant, not ' ~ role) -}}"
    "{%- endif -%}"
    "{{- '<|' ~ role ~ '|>' -}}"
    "{%- if message.content is string -%}{{- message.content | trim -}}"
    "{%- else -%}{%- for part in message.content or [] -%}{{- part.text | trim -}}{%- endfor -%}{%- endif -%}"
    "{{- '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def _texts(seed: int) -> Iterator[str]:
    for dialogue in islice(corpus.training(seed, -1), _SAMPLE_DIALOGUES):
        for turn in dialogue.turns:
            yield from turn
    yield from (f"the {word} {word}" for word in words.common() for _ in range(4))


def _ascii(texts: Iterable[str]) -> Iterator[str]:
    # Words with other characters are left out whole, so that no merge ever spans their bytes.
    for text in texts:
        yield " ".join(word for word in text.split(" ") if word.isascii())


def train(seed: int, vocab_size: int) -> Tokenizer:
    """Learn the merges from a sample of the corpus; the same seed gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = sorted(set(_ascii(_texts(seed))))
    random.Random(seed).shuffle(texts)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files that `transformers.AutoTokenizer` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def encode(tokenizer: Tokenizer, dialogues: list[Dialogue]) -> list[tuple[list[int], list[bool]]]:
    """The token ids of each dialogue and, for each id, whether the model must learn to write it."""
    texts: list[str] = []
    for dialogue in dialogues:
        texts.append(dialogue.system.strip())
        for question, answer in dialogue.turns:
            texts += (question.strip(), answer)
    pieces = iter(tokenizer.encode_batch(texts, add_special_tokens=False))
    end, system, user, assistant = range(4)  # the order of SPECIALS
    encoded: list[tuple[list[int], list[bool]]] = []
    for dialogue in dialogues:
        told: list[int] = next(pieces).ids
        ids: list[int] = [system, *told, end] if dialogue.system else []
        is_target = [False] * len(ids)
        for _ in dialogue.turns:
            asked = [user, *next(pieces).ids, end, assistant]
            learned = [*next(pieces).ids, end]
            asked = [] if dialogue.is_plain else asked
            ids += asked + learned
            is_target += [False] * len(asked) + [True] * len(learned)
        encoded.append((ids, is_target))
    return encoded
