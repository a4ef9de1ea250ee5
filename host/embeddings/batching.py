"""Which inputs are computed together: pure bookkeeping over their lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# Enough to keep a GPU busy with short texts, and a fraction of a second of work for one of a small model.
BATCH_TOKENS = 16_384
# Attention that MLX has no fused kernel for keeps a score for each pair of tokens and each head: with 12 heads, 3 GiB.
BATCH_PAIRS = 1 << 26


def batches(lengths: Sequence[int], max_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Split inputs into batches of similar length, the longest first.

    Sorted, an input stands beside others of nearly its length, so that little is padding; with the longest first, a batch
    that does not fit memory fails before others have been computed.

    Args:
        lengths: tokens of each input.
        max_tokens: bound for rows times the longest row of a batch; an input longer than that is a batch of its own, and so
            is one that has more than half of ``BATCH_PAIRS``.

    Yields:
        Places in ``lengths``; each comes once.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[batch[0] if batch else index]
        num_rows = len(batch) + 1
        if batch and (num_rows * longest > max_tokens or num_rows * longest**2 > BATCH_PAIRS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
