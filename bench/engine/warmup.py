"""mlx_lm's samplers, made ready before anything is measured.

mlx_lm compiles its filters with the settings as constants: each value of top_p, min_p, top_k and temperature makes
kernels of its own, a second or more each, where MLX has to call a compiler (CUDA, CPU). With 64 requests of 64
settings that takes minutes. MLX keeps what it compiled on disk, so several processes can share the work; each
sampler then runs once here, on one row of logits, which is how BatchGenerator calls it. None of it is counted.

``python -m bench.engine.warmup DTYPE VOCABULARY NUMBER…`` is one of these processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from time import perf_counter

MAX_PROCESSES = 16
_TIMEOUT_S = 400


def warm_up_samplers(num_rows: int, *, dtype: str, vocabulary: int) -> float:
    """Compile the samplers of so many requests; returns the seconds it took."""
    import mlx.core as mx

    started = perf_counter()
    numbers = list(range(num_rows))
    if not mx.metal.is_available():  # there MLX keeps nothing on disk, and kernels come soon enough
        # One first: what all have in common is not to be written by several at once.
        run_samplers(numbers[:1], dtype=dtype, vocabulary=vocabulary)
        _share(numbers[1:], dtype, vocabulary)
    run_samplers(numbers, dtype=dtype, vocabulary=vocabulary)
    return perf_counter() - started


def run_samplers(numbers: list[int], *, dtype: str, vocabulary: int) -> None:
    """Run the samplers of these requests on one row of logits each."""
    import mlx.core as mx

    from bench.engine.cases import own_sampling
    from bench.engine.sides import sampler_of

    logits = mx.random.normal((1, vocabulary), key=mx.random.key(0)).astype(getattr(mx, dtype))
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    for number in numbers:
        mx.eval(sampler_of(own_sampling(number))(logprobs))


def _share(numbers: list[int], dtype: str, vocabulary: int) -> None:
    num_processes = min(MAX_PROCESSES, os.cpu_count() or 1, len(numbers))
    command = [sys.executable, "-m", "bench.engine.warmup", dtype, str(vocabulary)]
    processes = [
        subprocess.Popen([*command, *map(str, numbers[first::num_processes])])
        for first in range(num_processes)
    ]
    for process in processes:
        try:
            failed = process.wait(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            failed = process.wait()
        if failed:  # what is missing is compiled when it is first run
            print(f"a process that compiles samplers ended with {failed}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_samplers([int(number) for number in sys.argv[3:]], dtype=sys.argv[1], vocabulary=int(sys.argv[2]))
