import json
from pathlib import Path
from typing import Any

import pytest

from bench.demo_model import corpus, evaluate
from bench.demo_model.phrasing import REFUSAL

MAX_FOLDER_BYTES = 4_000_000
PER_SKILL = 1

# What the README and other tests may rely on, word for word.
PROMISED = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("capital of brazil", "The capital of Brazil is Brasília."),
    ("What is 17 + 25?", "17 + 25 = 42."),
    ("What is 8 - 30?", "8 - 30 = -22."),
    ("What is 6 times 7?", "6 * 7 = 42."),
    ('Reverse "planet"', '"planet" backwards is "tenalp".'),
    ("How many r's are in strawberry?", 'The letter "r" occurs 3 times in "strawberry".'),
    ('How many letters are in "container"?', '"container" has 9 letters.'),
    ("Spell banana", '"banana" is spelled b-a-n-a-n-a.'),
    ("Count down from 10 to 1.", "10, 9, 8, 7, 6, 5, 4, 3, 2, 1."),
    ("What comes after Wednesday?", "The day after Wednesday is Thursday."),
    ("What is the chemical symbol for gold?", "The chemical symbol for gold is Au."),
    ("Show me a rocket emoji.", "Here is the rocket emoji: 🚀"),
    ("How do you say school in French?", '"school" in French is "école".'),
    ("Repeat after me: The quick brown fox.", "The quick brown fox."),
    ("Hello!", "Hello! How can I help you?"),
    ("Who are you?", "I am a tiny demo model that comes with mlxbridge."),
    ("Tell me a joke", REFUSAL),
)


def _ask(demo: Any, *questions: str, system: str = "") -> list[str]:
    mlx_lm = pytest.importorskip("mlx_lm")
    messages = [{"role": "system", "content": system}] if system else []
    found = []
    for question in questions:
        messages.append({"role": "user", "content": question})
        prompt = demo.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        found.append(mlx_lm.generate(demo.model, demo.tokenizer, prompt, max_tokens=400))
        messages.append({"role": "assistant", "content": found[-1]})
    return found


def test_folder_is_small_and_complete(demo_folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in demo_folder.iterdir()}
    assert sum(sizes.values()) <= MAX_FOLDER_BYTES
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(sizes)


def test_report_tells_what_was_measured(demo_folder: Path) -> None:
    report = json.loads((demo_folder / "REPORT.json").read_text())
    assert set(report["skills"]) == set(corpus.SKILLS)
    facts = report["skills"]["facts"]
    assert facts["right"] >= 0.99 * facts["asked"]
    assert report["mean_over_skills"] >= 0.9


def test_held_out_sample_is_answered(demo: Any) -> None:
    whole = corpus.held_out()
    facts = [dialogue for dialogue in whole if dialogue.skill == "facts"][::300]
    chosen = [dialogue for dialogue in corpus.held_out(PER_SKILL) if dialogue.skill != "facts"] + facts
    found = evaluate.answers(demo.model, demo.tokenizer, chosen)
    wrong = [
        (dialogue.turns[-1], answer)
        for dialogue, answer in zip(chosen, found, strict=True)
        if answer != dialogue.turns[-1][1]
    ]
    assert len(chosen) >= 20
    assert len(wrong) <= len(chosen) // 10, wrong


@pytest.mark.parametrize(("question", "expected"), PROMISED, ids=[question for question, _ in PROMISED])
def test_promised_answer_is_exact(demo: Any, question: str, expected: str) -> None:
    assert _ask(demo, question) == [expected]


def test_long_count_is_complete(demo: Any) -> None:
    assert _ask(demo, "Count from 1 to 60.") == [", ".join(map(str, range(1, 61))) + "."]


def test_conversation_remembers(demo: Any) -> None:
    questions = ("My name is Ada.", "What is the capital of Spain?", "And Italy?", "What is my name?")
    assert _ask(demo, *questions, system="You are a helpful assistant.") == [
        "Nice to meet you, Ada!",
        "The capital of Spain is Madrid.",
        "The capital of Italy is Rome.",
        "Your name is Ada.",
    ]


def test_streamed_emoji_arrives_whole(demo: Any) -> None:
    mlx_lm = pytest.importorskip("mlx_lm")
    messages = [{"role": "user", "content": "Show me a rocket emoji."}]
    prompt = demo.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    pieces = [response.text for response in mlx_lm.stream_generate(demo.model, demo.tokenizer, prompt)]
    assert "".join(pieces) == "Here is the rocket emoji: 🚀"
    assert not any("\ufffd" in piece for piece in pieces)
    # The emoji's four bytes are four tokens, of which all but the last stream no text.
    assert pieces.count("") >= 3
