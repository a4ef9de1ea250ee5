"""When a call tries again to load a model that could not be loaded."""

from __future__ import annotations

from mlxbridge.errors import ModelTooLarge, WorkerLost
from mlxbridge.host.models.failures import Failures


def test_pause_doubles_from_one_second_to_half_a_minute() -> None:
    failures, now, pauses = Failures("m"), 100.0, []
    for _ in range(7):
        failures.note(ModelTooLarge("too large"), now)
        refused = failures.refusal(now)
        assert refused is not None and refused.retry_after is not None
        pauses.append(refused.retry_after)
        now += refused.retry_after
        assert failures.refusal(now - 0.01) is not None
        assert failures.refusal(now) is None
        failures.begin()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    failures.forget()
    failures.note(ModelTooLarge("too large"), now)
    refused = failures.refusal(now)
    assert refused is not None and refused.retry_after == 1


def test_call_within_the_pause_gets_the_error_and_is_told_what_helps() -> None:
    failures = Failures("m")
    failures.note(ModelTooLarge("too large.", details={"needed_bytes": 3}), 0.0)
    refused = failures.refusal(0.25)
    assert isinstance(refused, ModelTooLarge)
    assert refused.message == "too large. A call after 0.8 s tries again; `mlxbridge load m` at once"
    assert (refused.retry_after, refused.details, refused.retryable) == (0.75, {"needed_bytes": 3}, False)


def test_final_error_is_for_every_call_until_somebody_asks() -> None:
    failures, error = Failures("m"), WorkerLost("died", retryable=False)
    failures.note(error, 0.0, is_final=True)
    assert failures.refusal(1e9) is error
    failures.forget()
    assert failures.refusal(1e9) is None
