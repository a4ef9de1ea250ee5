"""What every design has to carry: the same words, the same stamps, the same arrays."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

TEXT = " token"
ECHO = {"text": "a question of about fifty bytes, as JSON or msgpack"}

FLAT = "flat out"
"""The prompt for tokens without pause; otherwise the prompt is the interval in seconds."""

BURST_BYTES = 128_000_000
"""A client asks for so much bulk data at a time, in arrays of the test's size."""

MAX_BURST = 64
DIMENSIONS = 384

ENDLESS = 1000
"""More arrays than a test ever takes."""

_MASK = 0x7FFF_FFFF

Floats = npt.NDArray[np.float32]


def stamp() -> int:
    """Now, in microseconds of the clock that all processes share, cut to 31 bits: it travels as a token id."""
    return time.monotonic_ns() // 1000 & _MASK


def age_us(stamped: int) -> int:
    """Microseconds since ``stamp`` gave this."""
    return (time.monotonic_ns() // 1000 - stamped) & _MASK


@lru_cache(maxsize=2)
def make_array(num_bytes: int) -> Floats:
    """Floats as an embedding has them: a JSON encoder must write all their digits. Ready when they are asked for again."""
    return np.random.default_rng(7).standard_normal(num_bytes // 4, dtype=np.float32)


def ready_vectors(count: int) -> Floats:
    """So many vectors of all-MiniLM-L6-v2's size."""
    return make_array(count * DIMENSIONS * 4).reshape(count, DIMENSIONS)


def token(number: int) -> dict[str, Any]:
    """A token as the JSON designs send it."""
    return {"id": number, "text": TEXT}


def burst(num_bytes: int) -> int:
    """How many arrays of that size to ask for at a time."""
    return max(1, min(MAX_BURST, BURST_BYTES // num_bytes))
