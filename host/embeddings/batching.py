"""Which inputs are computed together: pure bookkeeping over their lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# Enough to keep a GPU busy with short texts, and a fraction of a second of work for one of a small model.
BATCH_TOKENS = 16_384
# Attention that MLX has no fused kernel for keeps a score for each pair of tokens and each head: with 12 heads, 3 GiB.
BATCH_PAIRS = 1 << 26
# So few tokens take a GPU about as long as one does: padding among them costs nothing.
SMALL_BATCH_TOKENS = 256


def batches(lengths: Sequence[int], max_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Split inputs into batches of similar length, the longest first.

    Sorted, an input stands beside others of nearly its length, so that little is padding; with the longest first, a batch
    that does not fit memory fails before others have been computed.

    Args:
        lengths: tokens of each input.
        max_tokens: bound for rows times the longest row of a batch, see ``fits``.

    Yields:
        Places in ``lengths``; each comes once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    descending = [lengths[index] for index in order]
    start = 0
    while start < len(order):
        _, end = batch_around(descending, start, max_tokens, first=start)
        yield order[start:end]
        start = end


def batch_around(
    descending: Sequence[int], place: int, max_tokens: int, *, first: int = 0
) -> tuple[int, int]:
    """The batch that an input goes into: those that are shorter join first, then those that are longer.

    Args:
        descending: tokens of each input, the longest first.
        place: of the input that is in the batch in any case.
        max_tokens: as for ``batches``.
        first: those before it do not join.

    Returns:
        Where the batch begins in ``descending``, and where it ends.
    """
    start, end = place, place + 1
    while end < len(descending) and fits(end + 1 - start, descending[start], descending[end], max_tokens):
        end += 1
    while start > first and fits(end + 1 - start, descending[start - 1], descending[end - 1], max_tokens):
        start -= 1
    return start, end


def fits(num_rows: int, longest: int, shortest: int, max_tokens: int) -> bool:
    """Whether so many inputs are one batch, if they are more than one.

    Their tokens with padding keep to ``max_tokens``, and what attention keeps of them to ``BATCH_PAIRS``; and, unless they
    are a small batch, the shortest has at least half the tokens of the longest.
    """
    num_tokens = num_rows * longest
    if num_tokens > max_tokens or num_tokens * longest > BATCH_PAIRS:
        return False
    return 2 * shortest >= longest or num_tokens <= SMALL_BATCH_TOKENS
