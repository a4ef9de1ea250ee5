"""Asks the held-out questions greedily through the chat template and counts exactly right answers."""

from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx_lm import load

from bench.demo_model.corpus import Dialogue

MAX_BATCH = 256


def prompt(tokenizer: Any, dialogue: Dialogue) -> list[int]:
    """The token ids of the conversation up to its last answer."""
    messages = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    for question, answer in dialogue.turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    ids: list[int] = tokenizer.apply_chat_template(
        messages[:-1], add_generation_prompt=True, return_dict=False
    )
    return ids


def greedy(model: Any, prompts: list[list[int]], end: int, max_tokens: int) -> list[list[int]]:
    """Greedy continuations of prompts of one length, without the end token."""
    cache = model.make_cache()
    tokens = mx.array(prompts)
    columns: list[list[int]] = []
    is_done = [False] * len(prompts)
    for _ in range(max_tokens):
        tokens = mx.argmax(model(tokens, cache=cache)[:, -1], axis=-1)[:, None]
        column = cast(list[int], tokens[:, 0].tolist())
        columns.append(column)
        is_done = [done or token == end for done, token in zip(is_done, column, strict=True)]
        if all(is_done):
            break
    rows = [list(row) for row in zip(*columns, strict=True)]
    return [row[: row.index(end)] if end in row else row for row in rows]


def answers(model: Any, tokenizer: Any, dialogues: list[Dialogue]) -> list[str]:
    """The model's answers to the last questions, in order; batches hold prompts of one length, so need no padding."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    prompts = [prompt(tokenizer, dialogue) for dialogue in dialogues]
    # An answer that outgrows the right one is wrong already.
    limits = [len(tokenizer.encode(dialogue.turns[-1][1])) + 4 for dialogue in dialogues]
    for index, (ids, limit) in enumerate(zip(prompts, limits, strict=True)):
        groups[len(ids), limit > 64].append(index)
    found = [""] * len(dialogues)
    for members in groups.values():
        for start in range(0, len(members), MAX_BATCH):
            chosen = members[start : start + MAX_BATCH]
            limit = max(limits[index] for index in chosen)
            rows = greedy(model, [prompts[index] for index in chosen], tokenizer.eos_token_id, limit)
            for index, row in zip(chosen, rows, strict=True):
                found[index] = tokenizer.decode(row)
    return found


def run(folder: Path, dialogues: list[Dialogue], num_failures_shown: int = 3) -> dict[str, Any]:
    """Load the folder as any user of mlx_lm would, ask, print the accuracy of each skill and return the table."""
    model, tokenizer = load(str(folder))[:2]
    right: dict[str, int] = defaultdict(int)
    asked: dict[str, int] = defaultdict(int)
    shown: dict[str, int] = defaultdict(int)
    for dialogue, answer in zip(dialogues, answers(model, tokenizer, dialogues), strict=True):
        asked[dialogue.skill] += 1
        right[dialogue.skill] += answer == dialogue.turns[-1][1]
        if answer != dialogue.turns[-1][1] and shown[dialogue.skill] < num_failures_shown:
            shown[dialogue.skill] += 1
            print(f"  {dialogue.skill}: {dialogue.turns[-1][0]!r} -> {answer!r}", flush=True)
    table = {skill: {"right": right[skill], "asked": asked[skill]} for skill in asked}
    for skill, row in table.items():
        print(f"{skill:20} {row['right']:5} of {row['asked']:5}  {100 * row['right'] / row['asked']:6.2f} %")
    total = {"right": sum(right.values()), "asked": sum(asked.values())}
    # Facts are asked once each and would drown the other skills, so the mean over skills is told as well.
    mean = sum(row["right"] / row["asked"] for row in table.values()) / len(table)
    print(f"all: {total['right']} of {total['asked']}; mean over skills {100 * mean:.2f} %", flush=True)
    return {"skills": table, "all": total, "mean_over_skills": round(mean, 4)}
