"""The tree of errors: what each one says, and what it keeps on its way over the wire and between processes."""

from __future__ import annotations

import pickle

import pytest

from mlxbridge import errors
from mlxbridge.errors import (
    BridgeError,
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    TransportError,
    UnreadableAnswer,
    UsageError,
    from_wire,
    to_wire,
)

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, BridgeError) and value is not BridgeError
]
GROUPS = {"TransportError", "ProtocolError", "RemoteError"}
SAY_IT_THEMSELVES = {"UsageError", "UnreadableAnswer", "HostNotFound", "InvalidArgument", "PermissionDenied"}
"""They name the argument and what would be right, or the ways to a host."""


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_says_what_to_do_next(kind: type[BridgeError]) -> None:
    error = kind("it tripped")
    assert error.message == "it tripped"
    if kind.__name__ in GROUPS | SAY_IT_THEMSELVES:
        assert str(error) == "it tripped"
    else:
        assert str(error) == f"it tripped ({kind.advice})" and len(kind.advice) > 10
    assert error.details == {} and error.retry_after is None and isinstance(error.retryable, bool)


def test_error_of_a_busy_host_says_when_to_come_back() -> None:
    assert str(Overloaded("busy", retry_after=1.5)) == "busy (try again in 1.5 s)"
    assert str(Overloaded("busy")) == "busy (try again in a moment)"
    assert str(ContextTooLong("")) == ContextTooLong.advice


def test_error_may_have_advice_of_its_own() -> None:
    assert str(DeadlineExceeded("late", advice="hurry")) == "late (hurry)"
    assert str(DeadlineExceeded("late", advice="")) == "late"


def test_advice_stays_off_the_wire() -> None:
    head = to_wire(Overloaded("busy", retry_after=1.5))
    assert head["message"] == "busy"
    again = from_wire(head)
    assert (type(again), str(again), again.retry_after) == (Overloaded, "busy (try again in 1.5 s)", 1.5)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("wrong", details={"field": "x"}),
        UnreadableAnswer("cut", text="[1,"),
        TransportError("gone"),
    ],
)
def test_errors_can_be_handed_to_another_process(error: BridgeError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), vars(again), str(again)) == (type(error), vars(error), str(error))


def test_errors_are_pythons_own_kinds_too() -> None:
    assert issubclass(UsageError, ValueError) and issubclass(UnreadableAnswer, ValueError)
    assert issubclass(TransportError, ConnectionError) and issubclass(errors.DeadlineExceeded, TimeoutError)
