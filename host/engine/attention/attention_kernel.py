"""Attention of one new token a row over rows of unequal length, on CUDA.

There MLX has no kernel for a single query with a mask: it multiplies, masks and normalises in separate steps, which for
64 rows takes two to ten times what attention without a mask does. This kernel reads each row from where it begins, so
that padding costs nothing and no mask is needed. Metal's own kernel takes masks, and nothing here is used there.

A block of threads reads one row's keys and values of one head, or of several shares of the row one, and keeps a running
softmax (Milakov and Gimelshein 2018; the shares are flash decoding's, Dao et al. 2023). A team of threads holds a key
between them, eight numbers each.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import mlx.core as mx

HEAD_SIZES = (64, 128, 256)
_THREADS = 128
_MAX_HEADS = 8  # query heads that one block answers; each takes registers
# Enough blocks to fill a large GPU; a share is at least so many places, or it costs more than it saves.
_MIN_BLOCKS = 528
_MIN_SHARE = 128

_ATTEND = """
  constexpr int LANES = D / 8;
  constexpr int TEAMS = blockDim_x / LANES;
  constexpr int UNROLL = 4;
  struct alignas(16) Eight { T e[8]; };
  __shared__ float sums[blockDim_x / 32][HEADS][D];
  __shared__ float mosts[blockDim_x / 32][HEADS];
  __shared__ float totals[blockDim_x / 32][HEADS];

  const int team = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const int group = blockIdx.x, row = blockIdx.y, share = blockIdx.z, num_shares = gridDim.z;
  const int first_place = begin[row], end_place = end[0];
  const int per_share = (end_place - first_place + num_shares - 1) / num_shares;
  const int from = first_place + share * per_share, to = min(from + per_share, end_place);
  const size_t capacity = keys_shape[2];
  const size_t kv_head = (size_t)row * keys_shape[1] + group / GROUPS;
  const T* k = keys + kv_head * capacity * D + lane * 8;
  const T* v = values + kv_head * capacity * D + lane * 8;
  const size_t first_head = ((size_t)row * gridDim.x + group) * HEADS;

  float query[HEADS][8], sum[HEADS][8], most[HEADS], total[HEADS];
  for (int h = 0; h < HEADS; ++h) {
    Eight part = *reinterpret_cast<const Eight*>(queries + (first_head + h) * D + lane * 8);
    most[h] = -1e30f;
    total[h] = 0;
    for (int i = 0; i < 8; ++i) {
      query[h][i] = static_cast<float>(part.e[i]) * scale[0];
      sum[h][i] = 0;
    }
  }
  for (int start = from; start < to; start += TEAMS * UNROLL) {
    Eight key[UNROLL], value[UNROLL];
    for (int u = 0; u < UNROLL; ++u) {
      const size_t place = min(start + u * TEAMS + team, to - 1);
      key[u] = *reinterpret_cast<const Eight*>(k + place * D);
      value[u] = *reinterpret_cast<const Eight*>(v + place * D);
    }
    for (int h = 0; h < HEADS; ++h) {
      float score[UNROLL], best = most[h];
      for (int u = 0; u < UNROLL; ++u) {
        score[u] = 0;
        for (int i = 0; i < 8; ++i) score[u] += query[h][i] * static_cast<float>(key[u].e[i]);
        for (int step = LANES / 2; step; step /= 2) score[u] += __shfl_xor_sync(~0u, score[u], step);
        if (start + u * TEAMS + team >= to) score[u] = -1e30f;
        best = fmaxf(best, score[u]);
      }
      const float keep = exp2f(most[h] - best);
      most[h] = best;
      total[h] *= keep;
      for (int i = 0; i < 8; ++i) sum[h][i] *= keep;
      for (int u = 0; u < UNROLL; ++u) {
        const float weight = exp2f(score[u] - best);
        total[h] += weight;
        for (int i = 0; i < 8; ++i) sum[h][i] += weight * static_cast<float>(value[u].e[i]);
      }
    }
  }
  // A team that saw no place has weights of its own, but they vanish here beside those of one that did.
  const int warp = threadIdx.x / 32;
  for (int h = 0; h < HEADS; ++h) {
    for (int step = LANES; step < 32; step *= 2) {
      const float other = __shfl_xor_sync(~0u, most[h], step), best = fmaxf(most[h], other);
      const float keep = exp2f(most[h] - best), take = exp2f(other - best);
      most[h] = best;
      total[h] = total[h] * keep + __shfl_xor_sync(~0u, total[h], step) * take;
      for (int i = 0; i < 8; ++i) sum[h][i] = sum[h][i] * keep + __shfl_xor_sync(~0u, sum[h][i], step) * take;
    }
    if (threadIdx.x % 32 < LANES) {
      for (int i = 0; i < 8; ++i) sums[warp][h][lane * 8 + i] = sum[h][i];
      mosts[warp][h] = most[h];
      totals[warp][h] = total[h];
    }
  }
  __syncthreads();
  for (int index = threadIdx.x; index < HEADS * D; index += blockDim_x) {
    const int h = index / D, i = index % D;
    float best = mosts[0][h], whole = 0, all = 0;
    for (int w = 1; w < blockDim_x / 32; ++w) best = fmaxf(best, mosts[w][h]);
    for (int w = 0; w < blockDim_x / 32; ++w) {
      const float take = exp2f(mosts[w][h] - best);
      whole += sums[w][h][i] * take;
      all += totals[w][h] * take;
    }
    const size_t at = (first_head + h) * num_shares + share;
    if (IS_WHOLE) {
      out[at * D + i] = static_cast<O>(whole / all);
    } else {
      out[at * (D + 2) + i] = static_cast<O>(whole);
      if (i == 0) {
        out[at * (D + 2) + D] = static_cast<O>(best);
        out[at * (D + 2) + D + 1] = static_cast<O>(all);
      }
    }
  }
"""

_JOIN = """
  const int num_shares = shares_shape[2];
  const size_t head = blockIdx.x;
  const float* share = shares + head * num_shares * (D + 2);
  float best = -1e30f, whole = 0, all = 0;
  for (int s = 0; s < num_shares; ++s) best = fmaxf(best, share[s * (D + 2) + D]);
  for (int s = 0; s < num_shares; ++s) {
    const float take = exp2f(share[s * (D + 2) + D] - best);
    whole += share[s * (D + 2) + threadIdx.x] * take;
    all += share[s * (D + 2) + D + 1] * take;
  }
  out[head * D + threadIdx.x] = static_cast<T>(whole / all);
"""


@cache
def _attend_kernel() -> Any:
    return mx.fast.cuda_kernel(
        name="mlxbridge_attend",
        input_names=["queries", "keys", "values", "begin", "end", "scale"],
        output_names=["out"],
        source=_ATTEND.replace("blockDim_x", str(_THREADS)),
    )


@cache
def _join_kernel() -> Any:
    return mx.fast.cuda_kernel(
        name="mlxbridge_join", input_names=["shares"], output_names=["out"], source=_JOIN
    )


@cache
def _scale_array(scale: float) -> mx.array:
    return mx.array([scale * math.log2(math.e)], dtype=mx.float32)


def attend(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    begin: mx.array,
    end: mx.array,
    longest: int,
    scale: float,
) -> mx.array:
    """What each row's new token sees of its own row.

    Args:
        queries: (rows, heads, 1, head size); the head size is one of ``HEAD_SIZES``.
        keys: (rows, key heads, capacity, head size), whole buffers.
        values: like ``keys``.
        begin: int32 (rows,), each row's first place in the buffers.
        end: int32 (1,), the place after every row's last one.
        longest: places between the first row's begin and ``end``, to choose how to share the work.
        scale: what scores are multiplied with.

    Returns:
        Like ``queries``.
    """
    num_rows, num_heads, _, size = queries.shape
    num_key_heads = keys.shape[1]
    _compile(num_heads, num_key_heads, size, queries.dtype)
    blocks = num_rows * num_key_heads * _num_groups(num_heads // num_key_heads)
    num_shares = max(1, min(-(-_MIN_BLOCKS // blocks), longest // _MIN_SHARE))
    return _run(queries, keys, values, begin, end, num_shares, scale)


@cache
def _compile(num_heads: int, num_key_heads: int, size: int, dtype: mx.Dtype) -> None:
    """Build both forms at once, at the first call: when a model is loaded, and not amid an answer; each takes a second."""
    queries = mx.zeros((1, num_heads, 1, size), dtype)
    keys = mx.zeros((1, num_key_heads, 2, size), dtype)
    begin, end = mx.array([0], dtype=mx.int32), mx.array([2], dtype=mx.int32)
    mx.eval([_run(queries, keys, keys, begin, end, num_shares, 1.0) for num_shares in (1, 2)])


def _num_groups(per_key_head: int) -> int:
    """Into how many groups the query heads of one key head are parted."""
    return next(
        n for n in range(1, per_key_head + 1) if per_key_head % n == 0 and per_key_head // n <= _MAX_HEADS
    )


def _run(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    begin: mx.array,
    end: mx.array,
    num_shares: int,
    scale: float,
) -> mx.array:
    num_rows, num_heads, _, size = queries.shape
    num_key_heads = keys.shape[1]
    per_key_head = num_heads // num_key_heads
    num_groups = _num_groups(per_key_head)
    is_whole = num_shares == 1
    attended: list[mx.array] = _attend_kernel()(
        inputs=[queries, keys, values, begin, end, _scale_array(scale)],
        template=[
            ("T", queries.dtype),
            ("O", queries.dtype if is_whole else mx.float32),
            ("D", size),
            ("HEADS", per_key_head // num_groups),
            ("GROUPS", num_groups),
            ("IS_WHOLE", is_whole),
        ],
        grid=(num_key_heads * num_groups * _THREADS, num_rows, num_shares),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[queries.shape if is_whole else (num_rows, num_heads, num_shares, size + 2)],
        output_dtypes=[queries.dtype if is_whole else mx.float32],
    )
    if is_whole:
        return attended[0]
    joined: list[mx.array] = _join_kernel()(
        inputs=attended,
        template=[("T", queries.dtype), ("D", size)],
        grid=(num_rows * num_heads * size, 1, 1),
        threadgroup=(size, 1, 1),
        output_shapes=[queries.shape],
        output_dtypes=[queries.dtype],
    )
    return joined[0]
