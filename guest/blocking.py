"""``Client``: the blocking client. It owns its socket; the calling threads do the I/O."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, Literal, overload

from mlxbridge.errors import Cancelled, ConnectionLost, DeadlineExceeded, TransportError, UsageError
from mlxbridge.guest.blocking_link import BlockingLink, connect
from mlxbridge.guest.call import Call
from mlxbridge.guest.calls import NO_PAYLOADS
from mlxbridge.guest.discovery import find_addresses, find_token, nothing_answered
from mlxbridge.guest.requests import deadline_ms, generate_params, read_model, read_models, read_status
from mlxbridge.guest.streams import TokenStream, deadline_after
from mlxbridge.protocol.limits import Windows
from mlxbridge.types import Generation, Message, ModelInfo, Prompt, Status

Progress = Callable[[Mapping[str, Any]], None]
"""Takes each progress report of a load, such as ``{"stage": "loading"}``."""


class Client:
    """A connection to a host, for any number of threads.

    It connects at the first call, and again at the first call after the link was lost. A call that was running then
    ends with ``ConnectionLost``. Once closed it stays closed.

    Args:
        url: one address or a comma list, tried in order; else ``MLXBRIDGE_URL``, else the usual sockets.
        token: ``NAME:SECRET`` or ``SECRET``; else ``MLXBRIDGE_TOKEN`` or ``MLXBRIDGE_TOKEN_FILE``.
        connect_timeout: seconds for each address.
        timeout: seconds for each call, where the call names none; None for no limit.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        connect_timeout: float = 5.0,
        timeout: float | None = None,
    ) -> None:
        self._addresses = find_addresses(url)
        self._token = find_token(token)
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._link: BlockingLink | None = None
        self._closed = False
        self._connecting = threading.Lock()
        self._pid = os.getpid()

    @overload
    def generate(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        stream: Literal[False] = False,
        timeout: float | None = None,
    ) -> Generation: ...

    @overload
    def generate(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        stream: Literal[True],
        timeout: float | None = None,
    ) -> TokenStream: ...

    def generate(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Generation | TokenStream:
        """Answer a prompt or a chat.

        Args:
            prompt: raw text, as in mlx_lm, or token ids; no chat template is put around it.
            messages: a chat, put through the model's template.
            model: its name at the host; may be left out where the host serves one model.
            max_tokens: most tokens to generate; the model's room if None.
            temperature: 0 takes the likeliest token (default), higher is more random.
            top_p: keep the likeliest tokens that make up this share, 0 to 1.
            top_k: keep so many of the likeliest tokens; 0 keeps all.
            min_p: keep tokens at least this share as likely as the likeliest.
            seed: the same seed gives the same text, alone and beside others.
            stop: text, or texts, at which to end; not part of the answer.
            stream: give a ``TokenStream`` instead of waiting for the end.
            timeout: seconds for the whole call.

        Raises:
            UsageError: prompt or messages are missing or malformed.
            InvalidArgument, Unsupported: the host refuses a parameter; ``details["field"]`` names it.
            ModelNotFound, ContextTooLong, Overloaded, WorkerLost, DeadlineExceeded, TransportError
        """
        params = generate_params(
            prompt=prompt,
            messages=messages,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            seed=seed,
            stop=stop,
        )
        answer = TokenStream(*self._open("generate", params, timeout))
        return answer if stream else answer.read()

    def stream(self, prompt: Prompt | None = None, **arguments: Any) -> TokenStream:
        """``generate(…, stream=True)``."""
        return self.generate(prompt, **arguments, stream=True)

    @overload
    def chat(
        self, messages: str | Sequence[Message], *, stream: Literal[False] = False, **arguments: Any
    ) -> Generation: ...

    @overload
    def chat(
        self, messages: str | Sequence[Message], *, stream: Literal[True], **arguments: Any
    ) -> TokenStream: ...

    def chat(
        self, messages: str | Sequence[Message], *, stream: bool = False, **arguments: Any
    ) -> Generation | TokenStream:
        """``generate(messages=…)``; a string is one user message."""
        turns: Sequence[Message] = (
            [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        )
        if stream:
            return self.generate(messages=turns, **arguments, stream=True)
        answer: Generation | TokenStream = self.generate(messages=turns, **arguments)
        return answer

    def list_models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """The models this host serves."""
        return read_models(self._ask("models", {}, timeout))

    def load_model(
        self, model: str, *, progress: Progress | None = None, timeout: float | None = None
    ) -> ModelInfo:
        """Load a model, or wait until it is loaded.

        Raises:
            ModelNotFound, ModelLoadFailed
        """
        return read_model(self._ask("load", {"model": model}, timeout, progress))

    def unload_model(self, model: str, *, timeout: float | None = None) -> ModelInfo:
        """Give a model's memory back; it is loaded again when it is next asked for."""
        return read_model(self._ask("unload", {"model": model}, timeout))

    def status(self, *, timeout: float | None = None) -> Status:
        """What the host is doing."""
        return read_status(self._ask("status", {}, timeout))

    def ping(self, *, timeout: float | None = 5.0) -> float:
        """Seconds to the host's connection and back."""
        deadline_ms(timeout)  # refuses what is no timeout
        deadline = deadline_after(timeout)
        link = self._connected(deadline)
        start = perf_counter()
        link.ping(deadline)
        return perf_counter() - start

    @property
    def address(self) -> str | None:
        """Where the connection leads, None before the first call."""
        return None if self._link is None else self._link.address

    def close(self) -> None:
        """Cancel what runs and close the connection. The client cannot be used again."""
        self._closed = True
        link, self._link = self._link, None
        if link is not None and link.pid == os.getpid():
            link.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------------

    def _connected(self, deadline: float | None) -> BlockingLink:
        if self._closed:
            raise UsageError("this client is closed; make a new one")
        if self._pid != os.getpid():
            self._after_fork()
        link = self._link
        if link is not None and link.refresh():
            return link
        if not self._connecting.acquire(timeout=-1 if deadline is None else max(0.0, deadline - monotonic())):
            raise DeadlineExceeded("no connection to the host within the timeout")
        try:
            link = self._link
            if link is None or not link.usable:
                self._link = link = self._reconnect(link, deadline)
            return link
        finally:
            self._connecting.release()

    def _after_fork(self) -> None:
        """A child shares its parent's socket, and perhaps a lock that nobody here will open: it starts afresh."""
        link, self._link = self._link, None
        self._connecting = threading.Lock()
        self._pid = os.getpid()
        if link is not None:
            link.abandon()

    def _reconnect(self, before: BlockingLink | None, deadline: float | None) -> BlockingLink:
        try:
            return self._connect(deadline)
        except TransportError as error:
            if before is not None and before.goaway is not None:  # it said why nobody is there now
                raise before.goaway from error
            raise

    def _connect(self, deadline: float | None) -> BlockingLink:
        failures = []
        for address in self._addresses:
            left = self._connect_timeout if deadline is None else deadline - monotonic()
            if left <= 0:
                raise DeadlineExceeded("no connection to the host within the timeout")
            try:
                return connect(address, self._token, min(left, self._connect_timeout))
            except TransportError as error:
                failures.append((address, error))
        raise nothing_answered(failures)

    def _open(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: float | None,
        windows: Windows = NO_PAYLOADS,
    ) -> tuple[BlockingLink, Call, float | None]:
        timeout = self._timeout if timeout is None else timeout
        budget_ms, deadline = deadline_ms(timeout), deadline_after(timeout)
        link = self._connected(deadline)
        try:
            return link, link.open(method, params, windows, budget_ms, deadline), deadline
        except ConnectionLost:  # the host went away since the last call; this one was not started
            link = self._connected(deadline)
            return link, link.open(method, params, windows, budget_ms, deadline), deadline

    def _ask(
        self, method: str, params: Mapping[str, Any], timeout: float | None, progress: Progress | None = None
    ) -> Mapping[str, Any]:
        link, call, deadline = self._open(method, params, timeout)
        try:
            while not call.ended or call.items:
                link.wait(call, deadline)
                item = link.take_item(call)
                if item is not None and progress is not None:
                    progress(item)
        except BaseException:
            link.give_up(call, Cancelled(f"{method} was interrupted"))
            raise
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return call.result
