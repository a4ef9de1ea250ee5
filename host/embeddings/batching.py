"""Which inputs are computed together: pure bookkeeping over their lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# Enough to keep a GPU busy with short texts, and a fraction of a second of work for one of a small model.
BATCH_TOKENS = 16_384


def batches(lengths: Sequence[int], max_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Split inputs into batches of similar length, the longest first.

    Sorted, an input stands beside others of nearly its length, so that little is padding; with the longest first, a batch
    that does not fit memory fails before others have been computed.

    Args:
        lengths: tokens of each input.
        max_tokens: bound for rows times the longest row of a batch; an input longer than that is a batch of its own.

    Yields:
        Places in ``lengths``; each comes once.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
