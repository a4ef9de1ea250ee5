"""``Client``: the blocking client. It owns its socket; the calling threads do the I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Unpack

from mlxbridge.guest.caller import Caller
from mlxbridge.guest.connector import Connector
from mlxbridge.guest.generate_methods import GenerateMethods
from mlxbridge.guest.input_methods import InputMethods
from mlxbridge.guest.model_methods import ModelMethods
from mlxbridge.guest.requests import MAX_ROUNDS, read_status
from mlxbridge.guest.retries import CallDefaults
from mlxbridge.types import AnyTool, CallOptions, Message, Status, ToolRun

if TYPE_CHECKING:
    from mlxbridge.events import EventKind
    from mlxbridge.guest.conversation import Conversation
    from mlxbridge.guest.subscriptions import Events
    from mlxbridge.guest.turns import WhenFull


class Client(GenerateMethods, InputMethods, ModelMethods):
    """A connection to a host, for any number of threads.

    It connects at the first call. If the link breaks it connects again, and calls go on where they were; they end with
    ``Gone`` if the host has nothing left of them. Once closed it stays closed.

    Args:
        url: one address or a comma list, tried in order; else ``MLXBRIDGE_URL``, else where hosts usually are: sockets, vsock,
            and the names that containers and VMs have for the machine around them, 3 s for all.
        token: ``NAME:SECRET`` or ``SECRET``, "" for none; else ``MLXBRIDGE_TOKEN`` or ``MLXBRIDGE_TOKEN_FILE``.
        connect_timeout: seconds for each address, and the most for each of the usual places; within a call's timeout each has a
            share of it.
        timeout: seconds for each call, where the call names none; None for no limit.
        retry: how often a call is begun again if it ends with an error that is ``retryable``, where the call does not say.

    Example:
        >>> with Client(timeout=60) as client:
        ...     print(client.chat("What is 27 + 15?"))
        27 + 15 = 42.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        connect_timeout: float = 5.0,
        timeout: float | None = None,
        retry: int = 0,
    ) -> None:
        self._connector = Connector(url, token, connect_timeout)
        self._caller = Caller(self._connector, CallDefaults(timeout, retry))

    def run_tools(
        self,
        messages: str | Sequence[Message],
        tools: Sequence[AnyTool],
        *,
        max_rounds: int = MAX_ROUNDS,
        raise_errors: bool = False,
        **options: Unpack[CallOptions],
    ) -> ToolRun:
        """``chat``, with the tools that the model calls run, and asked again with what they return until it calls none.

        Args:
            messages: a chat; a string is one user message.
            tools: Python functions with type hints, or ``mlxbridge.Tool`` objects.
            max_rounds: answers with calls that are run; the next one is the last, whatever it wants.
            raise_errors: raise what a tool raises. Else the model is told, as it is of a tool that there is not and of wrong
                arguments, and may try again.
            options: ``timeout`` is for each answer. A ``tool_choice`` that makes a call sure is for the first one.

        Returns:
            The last answer, and the whole chat.

        Raises:
            UsageError: a tool is no function, or a type of its parameters is nothing that JSON has.
            InvalidArgument, Unsupported: see ``generate``; the model may know no tools.

        Example:
            >>> def get_weather(city: str) -> str:
            ...     '''The weather of today.'''
            ...     return f"rain in {city}"
            >>> done = client.run_tools("What is the weather in Tokyo?", [get_weather], model="caller")
            >>> print(done, done.num_rounds)
            It rains in Tokyo. 1
        """
        from mlxbridge.guest.tool_loop import ToolLoop  # loaded where it is used, to make the import cheap

        loop = ToolLoop(
            messages, tools, options, max_rounds=max_rounds, raise_errors=raise_errors, may_wait=False
        )
        while True:
            answer = self.generate(**loop.options)
            calls = loop.take(answer)
            if calls is None:
                return loop.finish(answer)
            loop.run(calls)

    def conversation(
        self,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        tools: Sequence[AnyTool] | None = None,
        when_full: WhenFull = "refuse",
        max_rounds: int = MAX_ROUNDS,
        **options: Unpack[CallOptions],
    ) -> Conversation:
        """A chat that remembers what was said; asks nothing yet.

        Args:
            system: what the model is told before all.
            messages: what was said before.
            tools: what the model may call in every turn. If all are Python functions they are run as by ``run_tools``; else the
                calls are handed out, for ``Conversation.answer_tool``.
            when_full: "refuse": a turn that the context does not hold is ``ContextTooLong``; "drop_oldest": the oldest turns
                are forgotten then, as many as it takes, but never the system message.
            max_rounds: see ``run_tools``.
            options: for all turns.

        Raises:
            UsageError: a tool cannot be run, or an argument is wrong.

        Example:
            >>> talk = client.conversation(system="You answer briefly.", max_tokens=40)
            >>> print(talk.say("What is 27 + 15?"))
            27 + 15 = 42.
        """
        from mlxbridge.guest.conversation import Conversation

        return Conversation(
            self,
            system=system,
            messages=messages,
            tools=tools,
            when_full=when_full,
            max_rounds=max_rounds,
            options=options,
        )

    def status(self, *, timeout: float | None = None) -> Status:
        """What the host is doing: its models, calls, and memory in bytes.

        Example:
            >>> status = client.status()
            >>> status.connections >= 1, status.memory.total > 0, status.uptime_seconds > 0
            (True, True, True)
        """
        return read_status(self._caller.ask("status", {}, timeout))

    def subscribe(self, events: Iterable[EventKind] | None = None, *, timeout: float | None = None) -> Events:
        """What happens on the host, from now on: models that change their state, and calls that end, first of all.

        Whoever does not read loses the oldest events, and is told how many by a ``LostEvent``.

        Args:
            events: kinds of events, as in ``mlxbridge.events``; all if left out. With "model" among them it begins with
                each model as it is.
            timeout: seconds for all of it; without it there is no end, whatever the client's own timeout.

        Returns:
            An iterator of ``ModelEvent``, ``RequestEvent`` and so on. With tokens it tells of calls and connections with the
            same token alone.

        Raises:
            UsageError: there is no such kind.
            Overloaded, TransportError

        Example:
            >>> with client.subscribe(["model"]) as events:
            ...     event = next(events)
            >>> event.kind, event.model
            ('model', 'demo')
        """
        from mlxbridge.guest.subscriptions import Events, subscribe_params

        params = [subscribe_params(events)]
        retries = self._caller.defaults.retries("subscribe", timeout)
        link, (call,) = self._caller.repeat(retries, lambda: self._caller.open("subscribe", params, retries))
        return Events(link, call, retries.deadline)

    def ping(self, *, timeout: float | None = None) -> float:
        """Seconds to the host's connection and back.

        Args:
            timeout: seconds to connect and to wait; the client's own if left out, but at most 5.

        Raises:
            DeadlineExceeded, TransportError

        Example:
            >>> 0 < client.ping() < 5
            True
        """
        retries = self._caller.defaults.ping_retries(timeout)

        def ping_once() -> float:
            link = self._caller.connected(retries)
            start = perf_counter()
            link.ping(retries.deadline)
            return perf_counter() - start

        return self._caller.repeat(retries, ping_once)

    @property
    def address(self) -> str | None:
        """Where the connection leads, None before the first call."""
        return self._connector.address

    def close(self) -> None:
        """Cancel what runs and close the connection. The client cannot be used again.

        Example:
            >>> client = Client()
            >>> client.close()
        """
        self._connector.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
