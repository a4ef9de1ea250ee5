"""What ``subscribe`` tells: one class a kind of event (SPEC.md §10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from mlxbridge.types import FinishReason

EventKind = Literal["model", "pulled", "deleted", "reloaded", "connected", "gone", "request"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEvent:
    """A model's state is another one; at the beginning of a subscription what it is.

    ``at`` is seconds since 1970 by the host's clock, as in all events; ``state`` is as in ``ModelInfo``; ``reason`` says why it
    has failed or restarts, else it is "".
    """

    kind: Literal["model"] = "model"
    at: float
    model: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreEvent:
    """A model was downloaded for guests, or deleted."""

    kind: Literal["pulled", "deleted"]
    at: float
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadEvent:
    """The host has read its configuration again; names of the models that have come, gone or changed.

    Those ``reloaded`` are loaded again when they are next asked for.
    """

    kind: Literal["reloaded"] = "reloaded"
    at: float
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestEvent:
    """A guest has connected, or has gone; ``guest`` is the name of its token, or of its connection."""

    kind: Literal["connected", "gone"]
    at: float
    guest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent:
    """A call has ended. What is not known of it is None; times are milliseconds.

    Either ``error`` and ``code`` are set, or it ended well. ``total_ms`` and ``ttft_ms`` (to the first token) count from the
    call's arrival at the host; the others are as in ``Usage``.
    """

    kind: Literal["request"] = "request"
    at: float
    request_id: str
    method: str
    guest: str
    model: str | None = None
    finish_reason: FinishReason | None = None
    error: str | None = None
    code: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    queue_ms: float | None = None
    prefill_ms: float | None = None
    decode_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LostEvent:
    """So many events were lost before the next one, since nobody read them."""

    kind: Literal["lost"] = "lost"
    at: float
    count: int


Event = ModelEvent | StoreEvent | ReloadEvent | GuestEvent | RequestEvent | LostEvent

_CLASSES: dict[str, type[Event]] = {
    "model": ModelEvent,
    "pulled": StoreEvent,
    "deleted": StoreEvent,
    "reloaded": ReloadEvent,
    "connected": GuestEvent,
    "gone": GuestEvent,
    "request": RequestEvent,
    "lost": LostEvent,
}


def read_event(item: Any) -> Event | None:
    """The event in an ITEM of ``subscribe``; None for kinds that are not known here."""
    kind = item.get("event") if isinstance(item, Mapping) else None
    made = _CLASSES.get(kind) if isinstance(kind, str) else None
    if made is None:
        return None
    known = {field.name for field in fields(made)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in item.items()
        if name in known
    }
    values["kind"] = kind
    try:
        return made(**values)
    except TypeError:  # a host that leaves out what every event has
        return None
