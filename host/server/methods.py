"""What guests may ask for, by name (SPEC.md §10)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from mlxbridge.errors import InvalidArgument, PermissionDenied, UnknownMethod
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.library import Library
from mlxbridge.host.models.many_job import ManyJob
from mlxbridge.host.models.model import Model
from mlxbridge.host.params import (
    check_keep_alive,
    check_names,
    nearest,
    parse_embed,
    parse_generate,
    parse_many,
    parse_model,
    parse_rerank,
)
from mlxbridge.host.server.guest_calls import GuestCalls
from mlxbridge.host.server.running import Running
from mlxbridge.host.server.session import SOFTWARE
from mlxbridge.host.telemetry.events import KINDS, make_event
from mlxbridge.host.telemetry.subscription import Subscription
from mlxbridge.host.telemetry.telemetry import Telemetry
from mlxbridge.host.token_params import parse_detokenize, parse_tokenize
from mlxbridge.protocol.events import CallOpened

_NOTHING: frozenset[str] = frozenset()
_MODEL = frozenset({"model"})
_LOAD = frozenset({"model", "keep_alive"})
_SUBSCRIBE = frozenset({"events"})
_DELETE = frozenset({"model", "force"})


class Census(Protocol):
    """Who is connected (``server.listener`` knows)."""

    def count(self) -> tuple[int, int]:
        """Connections, and calls open on them."""


class GuestMethods:
    """The method table of the front."""

    def __init__(
        self,
        catalogue: Catalogue,
        census: Census,
        library: Library | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._library = Library(catalogue) if library is None else library
        self._census = census
        self._telemetry = Telemetry() if telemetry is None else telemetry
        self._started_at = time.monotonic()
        self._table: dict[str, Callable[[GuestCalls, CallOpened], Running | None]] = {
            "generate": self._generate,
            "generate_many": self._generate_many,
            "embed": self._embed,
            "rerank": self._rerank,
            "tokenize": self._tokenize,
            "detokenize": self._detokenize,
            "models": self._models,
            "load": self._load,
            "unload": self._unload,
            "show": self._show,
            "pull": self._pull,
            "delete": self._delete,
            "status": self._status,
            "subscribe": self._subscribe,
        }

    def open(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        """Start a call; what may be done to it.

        Raises:
            BridgeError: the call is refused.
        """
        method = self._table.get(event.method)
        if method is None:
            near = nearest(event.method, self._table)
            hint = f"did you mean {near!r}?" if near else f"it has {', '.join(self._table)}"
            raise UnknownMethod(f"this host has no method {event.method[:100]!r}; {hint}")
        return method(calls, event)

    async def describe_host(self) -> dict[str, Any]:
        """The host as it is now: the RESULT of ``status`` (SPEC.md §10)."""
        connections, calls = self._census.count()
        models = await asyncio.gather(*map(self._report, self._catalogue))
        return {
            "software": SOFTWARE,
            **self._machine(models),
            "uptime_ms": round((time.monotonic() - self._started_at) * 1000),
            "connections": connections,
            "calls": calls,
            "models": models,
        }

    def _generate(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        # The worker reads it again; a bad one is refused without waiting for the worker.
        parse_generate(event.params)
        model, adapter = self._catalogue.choose(parse_model(event.params))
        params = _complete(model, event.params, parse_generate)
        return _submit(calls, event, model, params, adapter)

    def _generate_many(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        parse_many(event.params)  # but for the requests, each of which is answered with its own error
        model, adapter = self._catalogue.choose(parse_model(event.params))
        params = _complete(model, event.params, parse_many)
        calls.name_model(event.call, model.name)
        job = ManyJob(
            calls,
            event.call,
            params,
            calls.origin(event.call, event.deadline_ms, adapter),
            items=calls.watch_credit(event.call, lambda items: model.grant(job, items)),
        )
        return _run(model, job)

    def _embed(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        parse_embed(event.params)
        return self._compute(calls, event)

    def _rerank(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        parse_rerank(event.params)
        return self._compute(calls, event)

    def _tokenize(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        parse_tokenize(event.params)
        return self._submit(calls, event)

    def _detokenize(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        parse_detokenize(event.params)
        return self._submit(calls, event)

    def _models(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        check_names("models", event.params, _NOTHING)
        calls.finish(event.call, {"models": self._catalogue.describe()})
        return None

    def _load(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        model = self._named("load", calls, event, _LOAD)
        check_keep_alive(event.params)
        keep_alive = event.params.get("keep_alive")

        async def load() -> Mapping[str, Any]:
            await model.load(lambda item: calls.send_item(event.call, item), keep_alive=keep_alive)
            return model.describe()

        return calls.run(event.call, load)

    def _unload(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        model = self._named("unload", calls, event, _MODEL)
        if model.settings.pin:
            raise PermissionDenied(f"{model.name} is pinned by this host's configuration: it stays loaded")

        async def unload() -> Mapping[str, Any]:
            await model.unload()
            return model.describe()

        return calls.run(event.call, unload)

    def _show(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        model = self._named("show", calls, event, _MODEL)
        return calls.run(event.call, lambda: self._library.show(model))

    def _pull(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        name = self._name("pull", event.params, _MODEL)

        async def pull() -> Mapping[str, Any]:
            model = await self._library.pull(name, lambda item: calls.send_item(event.call, item))
            calls.name_model(event.call, model.name)
            return model.describe()

        return calls.run(event.call, pull)

    def _delete(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        model = self._named("delete", calls, event, _DELETE)
        force = event.params.get("force", False)
        if not isinstance(force, bool):
            raise InvalidArgument("force: must be true or false", details={"field": "force"})
        return calls.run(event.call, lambda: self._library.delete(model, force=force))

    def _status(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        check_names("status", event.params, _NOTHING)

        async def status() -> Mapping[str, Any]:
            told = await self.describe_host()
            return {**told, "calls": told["calls"] - 1}  # less this one

        return calls.run(event.call, status)

    def _subscribe(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        check_names("subscribe", event.params, _SUBSCRIBE)
        kinds = parse_kinds(event.params)
        outlet = _Outlet(calls, event.call)
        later = asyncio.get_running_loop().call_soon
        events = self._telemetry.events
        sees = partial(events.sees, calls.guest.identity)
        subscription = Subscription(kinds, sees, calls.guest.key, outlet, later)
        events.add(subscription)
        for model in self._catalogue:
            subscription.take(make_event("model", model.describe_state()))
        subscription.grant(calls.watch_credit(event.call, subscription.grant))
        return Running(lambda: events.remove(subscription))

    async def _report(self, model: Model) -> dict[str, Any]:
        return {
            **await model.report(),
            "deletable": self._library.may_delete(model),
            "recent": self._telemetry.describe(model.name),
        }

    def _machine(self, models: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        memory = self._catalogue.memory
        told = memory.describe()
        if not any("stats" in model for model in models):  # one that did not answer leaves a sum of no use
            told["used_bytes"] = sum(model.get("used_bytes", 0) for model in models)
        known = {} if memory.machine is None else {"chip": memory.machine.chip}
        return {**known, "memory": told}

    def _submit(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        """Run a call on the model that it names, whatever that is for."""
        model, adapter = self._catalogue.choose(parse_model(event.params))
        return _submit(calls, event, model, event.params, adapter)

    def _compute(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        """Run a call on the model that it names, without an adapter."""
        return _submit(calls, event, self._catalogue.find(parse_model(event.params)), event.params)

    def _named(self, method: str, calls: GuestCalls, event: CallOpened, known: frozenset[str]) -> Model:
        model = self._catalogue.find(self._name(method, event.params, known))
        calls.name_model(event.call, model.name)
        return model

    def _name(self, method: str, params: Mapping[str, Any], known: frozenset[str]) -> str:
        check_names(method, params, known)
        name = parse_model(params)
        if name is None:
            raise InvalidArgument(f"model: {method} needs the name of a model", details={"field": "model"})
        return name


class _Outlet:
    """Where a subscription's events go."""

    def __init__(self, calls: GuestCalls, call: int) -> None:
        self._calls = calls
        self._call = call

    def send(self, item: Any) -> None:
        self._calls.send_item(self._call, item)

    def num_held(self) -> int:
        return self._calls.num_held(self._call)

    def finish(self) -> None:
        self._calls.finish(self._call, {})
        self._calls.flush()


def parse_kinds(params: Mapping[str, Any]) -> Collection[str]:
    """The kinds of events that a ``subscribe`` call asks for; all, if it names none.

    Raises:
        InvalidArgument: there is no such kind.
    """
    kinds = params.get("events", KINDS)
    if not isinstance(kinds, list | tuple) or not kinds:
        raise InvalidArgument("events: must be a list of kinds of events", details={"field": "events"})
    for kind in kinds:
        if kind not in KINDS:
            near = nearest(kind, KINDS) if isinstance(kind, str) else None
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(KINDS)}"
            shown = repr(kind)[:100]
            raise InvalidArgument(f"events: there is no kind {shown}; {hint}", details={"field": "events"})
    return kinds


def _complete(
    model: Model, params: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], object]
) -> Mapping[str, Any]:
    """Params that are right by themselves, with the model's own defaults for what they leave out.

    Raises:
        InvalidArgument: they do not go together; the guest may not know of these defaults, and is told.
    """
    completed = model.settings.complete(params)
    if completed is params:  # which have been looked at
        return params
    try:
        parse(completed)
    except InvalidArgument as error:
        own = ", ".join(name for name in completed if params.get(name) is None)
        hint = f"{model.name} has defaults of its own for {own}: give them to change them"
        raise InvalidArgument(f"{error.message} ({hint})", details=error.details) from error
    return completed


def _submit(
    calls: GuestCalls, event: CallOpened, model: Model, params: Mapping[str, Any], adapter: str | None = None
) -> Running | None:
    calls.name_model(event.call, model.name)
    origin = calls.origin(event.call, event.deadline_ms, adapter)
    job = Job(calls, event.call, event.method, params, origin)
    return _run(model, job)


def _run(model: Model, job: Job) -> Running:
    model.submit(job)
    return Running(
        cancel=lambda: model.cancel(job), hold=lambda: model.hold(job), go_on=lambda: model.go_on(job)
    )
