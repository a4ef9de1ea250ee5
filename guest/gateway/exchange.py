"""One HTTP request under way: who asks, with what, and what the host is asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope

from mlxbridge import AsyncClient
from mlxbridge.call_ids import hearing_call_ids
from mlxbridge.errors import AuthenticationError, BridgeError, ModelNotFound, RemoteError, TransportError
from mlxbridge.guest.gateway.body import Body
from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.gateway import Gateway
from mlxbridge.guest.gateway.gone import until_gone
from mlxbridge.guest.gateway.problem import PATHS, Problem
from mlxbridge.guest.gateway.record import Record
from mlxbridge.guest.gateway.tally import Tally
from mlxbridge.guest.gateway.visible import no_model, visible_to
from mlxbridge.types import Embeddings, GenerateOptions, Generation, ModelInfo, Prompt, Ranking

if TYPE_CHECKING:
    from mlxbridge.guest.gateway.streaming import StreamedAnswers, Writer

T = TypeVar("T")
Answer = TypeVar("Answer", Generation, Embeddings, Ranking)

_MOST_NAME_CHARS = 1024
"""Of a model: its name is kept with what is known of a request once that has ended."""


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
        paths: the API's own for models of each kind, for the same.
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
        self.paths: Mapping[str, str] = PATHS
        self._seat = gateway.seats.take(caller)
        self.client: AsyncClient = self._seat.client
        self.meter = self._seat.meter
        self._receive = receive
        self._body = Body(self.headers, receive, gateway.settings.max_body_bytes, gateway.body_room)
        self._is_counted = False

    @property
    def request_id(self) -> str:
        """What this request is called, here and in the log."""
        return self.record.request_id

    def count(self) -> None:
        """Be one of the requests that the caller has at once, from now until its end.

        Raises:
            Problem: 429, it would be one too many, or the tokens of this minute are spent.
        """
        self.meter.enter()
        self._is_counted = True

    def close(self) -> None:
        """The request has ended."""
        if self._is_counted:
            self.meter.leave()
        self._body.close()
        self.gateway.seats.leave(self._seat)

    async def read_body(self) -> bytes:
        """The whole body, as ``Body.read``."""
        return await self._body.read()

    async def read_json(self) -> dict[str, Any]:
        """The body, a JSON object, as ``Body.read_json``."""
        return await self._body.read_json()

    # -- what the host is asked --------------------------------------------------------------------------------

    def check_model(self, name: Any) -> None:
        """Refuse models that are not the caller's, and what is no name of one.

        Raises:
            Problem: 404; or 400, if it is no name, or none is named and not all are the caller's.
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
        self.note_model(name)
        if not self.caller.may_use(name):
            raise no_model(self.caller)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse options of a call of the host that are not the caller's to say.

        How long a model stays loaded is so for everybody who asks it, so it is for those who manage models.

        Raises:
            Problem: as ``check_model``; 403 for ``keep_alive`` and ``priority``, 400 for more time than the gateway gives.
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
        priority = options.get("priority")
        if isinstance(priority, str) and not self.caller.may_have(priority):
            why = f"priority: this key has {self.caller.priority!r} at most"
            raise Problem(403, why, code="permission_denied", field="priority")

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

    async def generate(self, ask: Ask, n: int = 1) -> list[Generation]:
        """The answers to a prompt, all of them; cancelled if the caller goes.

        Raises:
            Problem: the caller may not.
            BridgeError: of the host.
            ClientGone: the caller went.
        """
        (allowed,) = self._allow([ask])
        self._note_prompts([allowed])
        if n == 1:
            answers = [await self.run(self.client.generate(ask.prompt, **allowed.options))]
        else:
            answers = await self.run(self.client.generate(ask.prompt, n=n, **allowed.options))
        self._note(answers, n)
        return [self.named(answer, ask.options.get("model")) for answer in answers]

    async def generate_all(self, asks: Sequence[Ask], num_choices: int = 1) -> list[Generation]:
        """The answer to each of several asks, otherwise as ``generate``.

        Args:
            asks: so many in a row have the same prompt:
            num_choices: of it.
        """
        allowed = self._allow(asks)
        self._note_prompts(allowed[::num_choices])

        async def all_of_them() -> list[Generation]:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.client.generate(prompt, **options)) for prompt, options in allowed
                ]
            return [task.result() for task in tasks]

        try:
            answers = await self.run(all_of_them())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        self._note(answers, num_choices)
        named = zip(asks, answers, strict=True)
        return [self.named(answer, ask.options.get("model")) for ask, answer in named]

    def stream(self, asks: Sequence[Ask], writer: Writer, num_choices: int = 1) -> StreamedAnswers:
        """A response that gives answers as they come, side by side; ``num_choices`` as in ``generate_all``.

        Raises:
            Problem: as ``generate``.
        """
        from mlxbridge.guest.gateway.streaming import StreamedAnswers

        allowed = self._allow(asks)
        self._note_prompts(allowed[::num_choices])
        return StreamedAnswers(self, allowed, writer, Tally(self.record, self.meter, num_choices))

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of whatever asks the host; cancelled if the caller goes.

        Raises:
            ClientGone: the caller went.
        """
        async with until_gone(self._receive):
            result = await self.noting(work)
        self.gateway.host_state.note_there()
        return result

    async def noting(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of what asks the host, whose calls are this request's; for what ``run`` does not do."""
        with hearing_call_ids(self.record.note_call):
            return await work

    def problem_of(self, error: BridgeError | Problem) -> Problem:
        """What is told of an error of the host, or of the way there; whoever runs the gateway is told more."""
        if isinstance(error, Problem):
            return error
        if error.request_id:
            self.record.host_ids.append(error.request_id)
        if isinstance(error, TransportError | AuthenticationError):
            self.gateway.host_state.note_away(error.message, self.request_id)
        elif isinstance(error, RemoteError):
            self.gateway.host_state.note_there()
        if isinstance(error, ModelNotFound) and self.caller.models is not None:
            return no_model(self.caller)
        return Problem.of(error, self.names, self.paths)

    async def list_models(self) -> list[ModelInfo]:
        """The host's models as the caller may know them.

        Raises:
            BridgeError: of the host.
            ClientGone: the caller went.
        """
        return visible_to(self.caller, await self.run(self.client.list_models()))

    def named(self, answer: Answer, asked: str | None) -> Answer:
        """An answer whose model is called what it was asked for as, not what it may be called else."""
        return replace(answer, model=asked) if asked else answer

    # -- what it came to ---------------------------------------------------------------------------------------

    def note_model(self, name: str) -> None:
        """Which model was asked."""
        self.record.model = name

    def note_input(self, num_tokens: int) -> None:
        """Tokens that were read for what is no answer of ``generate``: embeddings, say."""
        self.record.prompt_tokens += num_tokens
        self.meter.spend(num_tokens)

    def note_text(self, answer: Generation) -> None:
        """What was answered, where that is logged."""
        if self.gateway.settings.logs_prompts:
            self.record.answers.append(answer.text)

    def _allow(self, asks: Sequence[Ask]) -> list[Ask]:
        """The asks, with what the caller's limits make of them."""
        for ask in asks:
            self.check_options(ask.options)
        own = self.caller.priority
        if own is None:
            return list(asks)
        return [
            ask
            if ask.options.get("priority") is not None
            else Ask(ask.prompt, {**ask.options, "priority": own})
            for ask in asks
        ]

    def _note_prompts(self, asks: Sequence[Ask]) -> None:
        self.record.model = asks[0].options.get("model") or self.record.model
        if self.gateway.settings.logs_prompts:
            self.record.prompts += [ask.options.get("messages", ask.prompt) for ask in asks]

    def _note(self, answers: Sequence[Generation], num_choices: int) -> None:
        firsts = [answer.time_to_first_token for answer in answers if answer.completion_tokens]
        self.record.ttft_s = min(firsts, default=None)
        tally = Tally(self.record, self.meter, num_choices)
        for index, answer in enumerate(answers):
            tally.finish(index, answer)
            self.note_text(answer)
