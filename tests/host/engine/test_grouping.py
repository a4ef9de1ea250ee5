from __future__ import annotations

import random

from mlxbridge.host.engine.prefill.grouping import MAX_FILLER_SHARE, group_of


def test_group_of_similar_lengths_keeps_fillers_few() -> None:
    chance = random.Random(1)
    for _ in range(200):
        lengths = [chance.randint(1, 300) for _ in range(chance.randint(1, 30))]
        lead = chance.randrange(len(lengths))
        group = group_of(lengths, lead=lead, can_pad=True, max_rows=8, max_tokens=1500)
        chosen = [lengths[index] for index in group]
        area = max(chosen) * len(chosen)
        assert lead in group and group == sorted(set(group)) and len(group) <= 8
        assert area <= 1500
        assert area - sum(chosen) <= MAX_FILLER_SHARE * area


def test_group_of_takes_what_fits() -> None:
    lengths = [100, 30, 95, 300, 105, 100]
    assert group_of(lengths, lead=0, can_pad=True, max_rows=8, max_tokens=1500) == [0, 2, 4, 5]
    assert group_of(lengths, lead=0, can_pad=True, max_rows=3, max_tokens=1500) == [0, 2, 5]
    assert group_of(lengths, lead=0, can_pad=True, max_rows=8, max_tokens=250) == [0, 5]
    assert group_of(lengths, lead=0, can_pad=False, max_rows=8, max_tokens=1500) == [0, 5]
    assert group_of(lengths, lead=3, can_pad=True, max_rows=8, max_tokens=100) == [3]
    assert group_of([0, 0, 5], lead=0, can_pad=True, max_rows=8, max_tokens=100) == [0, 1]
