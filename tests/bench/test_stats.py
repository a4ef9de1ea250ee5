import math

import pytest

from bench.stats import align, median, median_ratio, percentile, show


def test_median_of_nothing_is_not_a_number() -> None:
    assert median([3, 1, 2]) == 2
    assert median([4, 1, 2, 3]) == 2.5
    assert math.isnan(median([]))


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (0.01, 1), (0.5, 50), (0.505, 51), (0.99, 99), (0.995, 100), (1, 100)]
)
def test_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_percentile_refuses_what_makes_no_sense() -> None:
    assert math.isnan(percentile([], 0.5))
    with pytest.raises(ValueError, match="share"):
        percentile([1], 99)


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was four times as slow in the second round: the ratio of the medians would be 2.5.
    assert median_ratio([10, 40, 10], [5, 20, 4]) == 2
    assert median_ratio([10, None, 30], [5, 4, 0]) == 2
    assert math.isnan(median_ratio([None], [1]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0000123, "0.0000123"),
        (0.0333, "0.0333"),
        (1, "1.00"),
        (9.999, "10.00"),
        (12.34, "12.3"),
        (999.6, "1,000"),
        (617_427, "617,000"),
        (-2.5, "-2.50"),
        (math.nan, "-"),
    ],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert show(value) == text


def test_columns_are_aligned() -> None:
    assert align([["", "tokens/s"], ["a case", "5"]]) == ["        tokens/s", "a case         5"]
