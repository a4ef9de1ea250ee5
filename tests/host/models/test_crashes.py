"""How deaths are counted, and when there were too many."""

from __future__ import annotations

import pytest

from mlxbridge.errors import WorkerLost
from mlxbridge.host.models.crashes import BACKOFF_FIRST_S, BACKOFF_MOST_S, CRASHES_TO_FAIL, STABLE_S, Crashes


def test_each_death_in_a_row_doubles_the_wait() -> None:
    crashes = Crashes("m")
    waits = [crashes.note("died", ready_for_s=None) for _ in range(CRASHES_TO_FAIL - 1)]
    for number, wait in enumerate(waits):
        assert wait == pytest.approx(min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**number), rel=0.21)


def test_one_too_many_is_a_crash_loop_and_says_how_often_and_how() -> None:
    crashes = Crashes("m")
    assert crashes.describe() == {}
    for _ in range(CRASHES_TO_FAIL - 1):
        crashes.note("was killed by SIGKILL", ready_for_s=1.0)
    assert not crashes.describe()["crash_loop"]
    with pytest.raises(
        WorkerLost, match=f"worker of m has ended {CRASHES_TO_FAIL} times .* status 3"
    ) as caught:
        crashes.note("exited with status 3", ready_for_s=STABLE_S)
    assert not caught.value.retryable
    assert caught.value.details == {"crashes": CRASHES_TO_FAIL, "last_crash": "exited with status 3"}
    assert crashes.describe() == {
        "restarts": CRASHES_TO_FAIL - 1,
        "crashes": CRASHES_TO_FAIL,
        "last_crash": "exited with status 3",
        "crash_loop": True,
    }
    crashes.forget()
    assert crashes.describe() == {"restarts": CRASHES_TO_FAIL - 1}


def test_worker_that_was_ready_for_long_begins_a_new_row() -> None:
    crashes = Crashes("m")
    for _ in range(CRASHES_TO_FAIL * 2):
        crashes.note("died", ready_for_s=STABLE_S + 1)
    assert crashes.describe()["crashes"] == 1
