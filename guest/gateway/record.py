"""What a request came to: what the log, the metrics and the limits know of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter, time

from mlxbridge.types import Generation

LOOKS = frozenset({"models", "show", "status", "subscribe"})
"""Methods by which somebody only looks: a page does every second."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One HTTP request, filled in as it goes on.

    Attributes:
        request_id: the caller's own, or made here.
        api: which one is asked; the name of an ``Api``.
        route: the path as its route has it, with the names of its parts.
        method, path: of HTTP; the path without its query.
        at: seconds since 1970 when it came.
        caller: who asked; "" if that is not known yet, or was refused.
        model: that was asked; "" for none.
        status: of the response; 499 if the caller went before it began.
        is_cut: the caller, or the gateway's end, came before the end of the response.
        error: why there was no answer, or not all of it.
        host_ids: what the host calls its requests, in its log.
        load_ids: those of them by which a model was loaded.
        prompt_tokens, completion_tokens: as far as they are known.
        ttft_s: seconds to the first token; None without one.
        prompts, answers: texts, where they are logged.
    """

    request_id: str
    api: str
    route: str
    method: str
    path: str
    at: float = field(default_factory=time)
    start: float = field(default_factory=perf_counter)
    end: float | None = None
    caller: str = ""
    model: str = ""
    status: int = 0
    is_cut: bool = False
    error: str = ""
    host_ids: list[str] = field(default_factory=list)
    load_ids: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft_s: float | None = None
    prompts: list[object] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the request's first line to the end of the response."""
        return (perf_counter() if self.end is None else self.end) - self.start

    @property
    def tokens_per_second(self) -> float | None:
        """Of the tokens after the first; None where there are none."""
        if self.ttft_s is None or self.completion_tokens < 2 or self.seconds <= self.ttft_s:
            return None
        return (self.completion_tokens - 1) / (self.seconds - self.ttft_s)

    def note_call(self, method: str, request_id: str) -> None:
        """The host has answered a call that was more than a look."""
        if method not in LOOKS:
            self.host_ids.append(request_id)
        if method == "load":
            self.load_ids.append(request_id)

    def note_first(self) -> None:
        """A first token has come."""
        if self.ttft_s is None:
            self.ttft_s = perf_counter() - self.start

    def note_answer(self, answer: Generation) -> None:
        """An answer is whole; its tokens are for a ``Tally`` to count."""
        self.model = answer.model or self.model
        if answer.usage.request_id:
            self.host_ids.append(answer.usage.request_id)
