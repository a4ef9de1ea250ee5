"""What hosts call the calls that a piece of work makes, for who tells of them elsewhere by those names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Heard = Callable[[str, str], object]
"""Is told the method of a call that has ended well, and its ``request_id`` (SPEC.md §6)."""

_heard: ContextVar[Heard | None] = ContextVar("mlxbridge.call_ids", default=None)


@contextmanager
def hearing_call_ids(heard: Heard) -> Iterator[None]:
    """A block of one task, and of those that it starts, whose calls with one result are told of as they end."""
    token = _heard.set(heard)
    try:
        yield
    finally:
        _heard.reset(token)


def tell_call_id(method: str, request_id: str) -> None:
    """Tell whoever wants to hear of it; "" is a call that the host has not named."""
    heard = _heard.get()
    if heard is not None and request_id:
        heard(method, request_id)
