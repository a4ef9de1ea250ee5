"""Streaming clients that ask for completions, each with its own sampling, beside ``mlx_lm.server`` on the same model.

All ask at once at first; then each asks again when its answer has ended. Answers are of different lengths, the same for all
servers, so that requests come one by one while others run, as they do where people ask.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import uvloop

from bench.gateway.reader import Answer, Server, complete
from bench.stats import median, percentile

Result = dict[str, float]


def measure(
    server: Server, num_clients: int, num_requests: int, max_tokens: int, prompt_chars: int
) -> Result:
    """Have clients ask side by side, each some requests one after the other.

    Returns:
        tokens_per_s, of all; ttft_p50_ms, ttft_p99_ms; gap_p99_ms, between texts of one answer.
    """
    answers = uvloop.run(_ask_all(server, num_clients, num_requests, max_tokens, prompt_chars))
    start = min(answer.start for answer in answers)
    end = max(answer.arrivals[-1] for answer in answers)
    first_ms = [answer.ttft_ms for answer in answers]
    gaps_ms = [gap for answer in answers for gap in answer.gaps_ms]
    return {
        "tokens_per_s": sum(answer.tokens for answer in answers) / (end - start),
        "ttft_p50_ms": median(first_ms),
        "ttft_p99_ms": percentile(first_ms, 0.99),
        "gap_p99_ms": percentile(gaps_ms, 0.99),
        "tokens": float(sum(answer.tokens for answer in answers)),
    }


async def _ask_all(
    server: Server, num_clients: int, num_requests: int, max_tokens: int, prompt_chars: int
) -> list[Answer]:
    async def ask(number: int) -> list[Answer]:
        lengths = random.Random(number)
        return [
            await complete(
                server,
                request_of(number, round(max_tokens * (0.5 + lengths.random())), prompt_chars),
            )
            for _ in range(num_requests)
        ]

    found = await asyncio.gather(*(ask(number) for number in range(num_clients)))
    return [answer for answers in found for answer in answers]


def request_of(number: int, max_tokens: int, prompt_chars: int) -> dict[str, Any]:
    """What one client asks: a prompt that nobody has asked before, and settings that no other client has."""
    words = random.SystemRandom()
    prompt = "".join(words.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(prompt_chars))
    return {
        "model": "default_model",
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": round(0.7 + 0.01 * number, 2),
        "top_p": round(0.9 + 0.002 * number, 3),
    }
