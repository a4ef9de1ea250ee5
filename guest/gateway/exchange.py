"""One HTTP request under way: who asks, with what, and what the host is asked for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope

from mlxbridge import AsyncClient
from mlxbridge.errors import AuthenticationError, BridgeError, TransportError
from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.gateway import Gateway
from mlxbridge.guest.gateway.gone import ClientGone, until_gone
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.record import Record
from mlxbridge.types import GenerateOptions, Generation, Prompt

if TYPE_CHECKING:
    from mlxbridge.guest.gateway.streaming import StreamedAnswers, Writer

T = TypeVar("T")
log = logging.getLogger(__name__)

_MOST_NAME_CHARS = 1024
"""Of a model: its name is kept with what is known of a request once that has ended."""
_MOST_LEVELS = 128
"""Of lists and objects within each other in a field; what goes deeper, orjson would read and not write."""
BODY_TIMEOUT_S = 120.0
"""For the whole body of a request; who sends one byte now and then keeps what it has here no longer."""


class Ask(NamedTuple):
    """One answer that is wanted: a prompt, or None for a chat among the options, and the options."""

    prompt: Prompt | None
    options: GenerateOptions


class Exchange:
    """One request that was let in.

    Attributes:
        gateway: that it came to.
        caller: who asks.
        client: the way to the host for this caller.
        record: what it has come to so far.
        headers, query, path: of the request; ``path`` has the parameters of the route.
        names: the API's own names of fields, by the host's, where they differ, for the host's errors.
    """

    def __init__(
        self, gateway: Gateway, caller: Caller, record: Record, scope: Scope, receive: Receive
    ) -> None:
        self.gateway = gateway
        self.caller = caller
        self.record = record
        self.headers = Headers(scope=scope)
        self.query = QueryParams(scope["query_string"])
        self.path: Mapping[str, Any] = scope.get("path_params", {})
        self.names: Mapping[str, str] = {}
        self._seat = gateway.seats.take(caller)
        self.client: AsyncClient = self._seat.client
        self.meter = self._seat.meter
        self._receive = receive
        self._is_read = False

    @property
    def request_id(self) -> str:
        """What this request is called, here and in the log."""
        return self.record.request_id

    def close(self) -> None:
        """The request has ended."""
        self.gateway.seats.leave(self._seat)

    async def read_body(self) -> bytes:
        """The whole body.

        Raises:
            Problem: 408, 413, 415.
            ClientGone: it never came.
        """
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise Problem(
                415,
                f"content-encoding: {encoding!r} is not read here; send the body as it is",
                code="unsupported",
            )
        if int(self.headers.get("content-length") or 0) > self.gateway.settings.max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._receive_body()
        except TimeoutError:
            raise Problem(
                408, f"the body was not there within {BODY_TIMEOUT_S:g} s", code="timeout"
            ) from None

    async def _receive_body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while not self._is_read:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > self.gateway.settings.max_body_bytes:
                raise self._too_large()
            parts.append(part)
            self._is_read = not message.get("more_body", False)
        return b"".join(parts)

    def _too_large(self) -> Problem:
        most = self.gateway.settings.max_body_bytes
        return Problem(413, f"the body is larger than {most} bytes", code="too_large")

    async def read_json(self) -> dict[str, Any]:
        """The body, a JSON object.

        Raises:
            Problem: 400, 408, 413, 415.
            ClientGone: it never came.
        """
        body = await self.read_body()
        try:
            value = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError as error:
            raise Problem(400, f"the body is no JSON: {error}", code="invalid_json") from error
        if not isinstance(value, dict):
            raise Problem(400, "the body must be a JSON object", code="invalid_json")
        if body.count(b"[") + body.count(b"{") > _MOST_LEVELS:
            for name, member in value.items():
                if _is_deep(member):
                    why = f"is nested too deeply: {_MOST_LEVELS} levels are read here"
                    raise Problem(400, f"{name}: {why}", field=name)
        return value

    # -- what the host is asked --------------------------------------------------------------------------------

    def check_model(self, name: Any) -> None:
        """Refuse models that are not the caller's, and what is no name of one.

        Raises:
            Problem: 403; or 400, if it is no name, or none is named and not all are the caller's.
        """
        if name is not None and (not isinstance(name, str) or len(name) > _MOST_NAME_CHARS):
            raise Problem(
                400, f"model: must be a name, of at most {_MOST_NAME_CHARS} characters", field="model"
            )
        if self.caller.models is None:
            return
        if name is None:
            raise Problem(
                400, f"model: this key has to name one of {', '.join(self.caller.models)}", field="model"
            )
        if not self.caller.may_use(name):
            raise Problem(
                403, f"model: this key may not use {name!r}", code="permission_denied", field="model"
            )

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse options of a call of the host that are not the caller's to say.

        How long a model stays loaded is so for everybody who asks it, so it is for those who manage models.

        Raises:
            Problem: as ``check_model``; 403 for ``keep_alive``, 400 for more time than the gateway gives.
        """
        self.check_model(options.get("model"))
        if options.get("keep_alive") is not None and not self.caller.manage:
            raise Problem(
                403,
                "keep_alive: this key may not say how long a model stays loaded; manage = true in the keys file lets it",
                code="permission_denied",
                field="keep_alive",
            )
        most_s, wanted_s = self.gateway.settings.timeout_s, options.get("timeout")
        if most_s is not None and isinstance(wanted_s, int | float) and wanted_s > most_s:
            raise Problem(400, f"timeout: {most_s:g} seconds is the most here", field="timeout")

    def check_manage(self, what: str) -> None:
        """Refuse what changes the host for everybody.

        Raises:
            Problem: 403.
        """
        if not self.caller.manage:
            raise Problem(
                403,
                f"this key may not {what}; manage = true in the keys file lets it",
                code="permission_denied",
            )

    def allow(self, options: GenerateOptions) -> GenerateOptions:
        """The options, with what the caller's limits make of them.

        Raises:
            Problem: 403, naming what the caller may not have; or as ``check_options``.
        """
        self.check_options(options)
        own = self.caller.priority
        wanted = options.get("priority")
        if own is not None and wanted is None:
            return cast(GenerateOptions, {**options, "priority": own})
        if isinstance(wanted, str) and not self.caller.may_have(wanted):
            raise Problem(
                403, f"priority: this key has {own!r} at most", code="permission_denied", field="priority"
            )
        return options

    async def generate(self, ask: Ask, n: int = 1) -> list[Generation]:
        """The answers to a prompt, all of them; cancelled if the caller goes.

        Raises:
            Problem: the caller may not, or not now.
            BridgeError: of the host.
            ClientGone: the caller went.
        """
        options = self.allow(ask.options)
        self.note_prompts([ask])
        with self.under_way():
            if n == 1:
                answers = [await self.run(self.client.generate(ask.prompt, **options))]
            else:
                answers = await self.run(self.client.generate(ask.prompt, n=n, **options))
        self._note(answers)
        return answers

    async def generate_all(self, asks: Sequence[Ask]) -> list[Generation]:
        """The answer to each of several prompts; otherwise as ``generate``."""
        allowed = [Ask(ask.prompt, self.allow(ask.options)) for ask in asks]
        self.note_prompts(allowed)

        async def all_of_them() -> list[Generation]:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.client.generate(prompt, **options)) for prompt, options in allowed
                ]
            return [task.result() for task in tasks]

        with self.under_way():
            try:
                answers = await self.run(all_of_them())
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
        self._note(answers)
        return answers

    def stream(self, asks: Sequence[Ask], writer: Writer) -> StreamedAnswers:
        """A response that gives answers as they come, side by side.

        Raises:
            Problem: as ``generate``.
        """
        from mlxbridge.guest.gateway.streaming import StreamedAnswers

        allowed = [Ask(ask.prompt, self.allow(ask.options)) for ask in asks]
        self.note_prompts(allowed)
        return StreamedAnswers(self, allowed, writer)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of whatever asks the host; cancelled if the caller goes.

        Raises:
            ClientGone: the caller went.
        """
        async with until_gone(self._receive):
            return await work

    def problem_of(self, error: BridgeError) -> Problem:
        """What is told of an error of the host, or of the way there; whoever runs the gateway is told more."""
        if error.request_id:
            self.record.host_ids.append(error.request_id)
        if isinstance(error, TransportError | AuthenticationError):
            log.warning("the host cannot be asked: %s (%s)", error.message, self.request_id)
        return Problem.of(error, self.names)

    # -- what it came to ---------------------------------------------------------------------------------------

    def under_way(self) -> UnderWay:
        """A block in which this request counts among those that its caller has at once."""
        return UnderWay(self)

    def note_model(self, name: str) -> None:
        """Which model was asked."""
        self.record.model = name

    def note_tokens(self, prompt_tokens: int, completion_tokens: int = 0) -> None:
        """Tokens that were read and generated, for what is no answer of ``generate``: embeddings, say."""
        self.record.prompt_tokens += prompt_tokens
        self.record.completion_tokens += completion_tokens
        self.meter.spend(prompt_tokens + completion_tokens)

    def note_prompts(self, asks: Sequence[Ask]) -> None:
        """What is asked, and of which model."""
        self.record.model = asks[0].options.get("model") or self.record.model
        if self.gateway.settings.logs_prompts:
            self.record.prompts += [ask.options.get("messages", ask.prompt) for ask in asks]

    def note_answer(self, answer: Generation) -> None:
        """An answer whose completion tokens are counted already."""
        self.record.note_answer(answer)
        self.meter.spend(answer.prompt_tokens)
        if self.gateway.settings.logs_prompts:
            self.record.answers.append(answer.text)

    def _note(self, answers: Sequence[Generation]) -> None:
        firsts = [answer.time_to_first_token for answer in answers if answer.completion_tokens]
        self.record.ttft_s = min(firsts, default=None)
        for answer in answers:
            self.note_answer(answer)
            self.note_tokens(0, answer.completion_tokens)


def _is_deep(value: Any) -> bool:
    """Whether there are more than so many levels of lists and objects within each other."""
    level = [value]
    for _ in range(_MOST_LEVELS + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


class UnderWay:
    """Counts a request in and out."""

    def __init__(self, exchange: Exchange) -> None:
        self._meter = exchange.meter

    def __enter__(self) -> None:
        self._meter.enter()

    def __exit__(self, *_: object) -> None:
        self._meter.leave()
