"""Turns the corpus into arrays of a few fixed lengths, made by several processes before training starts."""

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bench.demo_model import corpus
from bench.demo_model.tokenizer import encode

LENGTHS = (48, 96, 192, 512)
_SHARD_DIALOGUES = 25_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """Dialogues of about one length: `ids` uint16 [rows, length + 1], `is_target` bool of the same shape."""

    ids: NDArray[np.uint16]
    is_target: NDArray[np.bool_]


def _padded(encoded: list[tuple[list[int], list[bool]]], pad: int) -> list[Bucket]:
    buckets = []
    shortest = 0
    for length in LENGTHS:
        rows = [row for row in encoded if shortest < len(row[0]) - 1 <= length]
        ids = np.full((len(rows), length + 1), pad, dtype=np.uint16)
        is_target = np.zeros((len(rows), length + 1), dtype=np.bool_)
        for index, (row_ids, row_targets) in enumerate(rows):
            ids[index, : len(row_ids)] = row_ids
            is_target[index, : len(row_ids)] = row_targets
        buckets.append(Bucket(ids, is_target))
        shortest = length
    return buckets


def _shard(job: tuple[str, int, int, int]) -> list[Bucket]:
    tokenizer_json, seed, shard, pad = job
    tokenizer = Tokenizer.from_str(tokenizer_json)
    dialogues = list(islice(corpus.training(seed, shard), _SHARD_DIALOGUES))
    return _padded(encode(tokenizer, dialogues), pad)


def make(tokenizer: Tokenizer, pad: int, *, seed: int, first_shard: int, num_shards: int) -> list[Bucket]:
    """Generate and encode shards of the corpus, 25,000 dialogues each, on all cores.

    Args:
        tokenizer: the trained tokenizer.
        pad: the token id that fills the rows.
        seed: of the corpus.
        first_shard: number of the first shard, so that a resumed training sees new dialogues.
        num_shards: how many shards.

    Returns:
        One bucket for each of `LENGTHS`; dialogues longer than the last are left out.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    jobs = [(tokenizer.to_str(), seed, first_shard + index, pad) for index in range(num_shards)]
    # spawn, not fork: the parent may hold MLX threads and a GPU
    with multiprocessing.get_context("spawn").Pool(min(num_shards, os.cpu_count() or 1)) as pool:
        shards = pool.map(_shard, jobs, chunksize=1)
    return [
        Bucket(
            np.concatenate([part.ids for part in parts]), np.concatenate([part.is_target for part in parts])
        )
        for parts in zip(*shards, strict=True)
    ]


def shares(buckets: list[Bucket], num_dialogues: int) -> list[int]:
    """How many rows of each bucket make a batch of about `num_dialogues`, in the proportion of the corpus."""
    total = sum(len(bucket.ids) for bucket in buckets)
    return [max(1, round(num_dialogues * len(bucket.ids) / total)) for bucket in buckets]


def endless(buckets: list[Bucket], rows: list[int], seed: int) -> Iterator[list[Bucket]]:
    """Batches for ever, each holding `rows[i]` rows of bucket i; every bucket is shuffled anew when it runs out."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(bucket.ids)) for bucket in buckets]
    places = [0] * len(buckets)
    while True:
        batch = []
        for index, (bucket, count) in enumerate(zip(buckets, rows, strict=True)):
            if places[index] + count > len(orders[index]):
                orders[index] = rng.permutation(len(bucket.ids))
                places[index] = 0
            chosen = orders[index][places[index] : places[index] + count]
            places[index] += count
            batch.append(Bucket(bucket.ids[chosen], bucket.is_target[chosen]))
        yield batch
