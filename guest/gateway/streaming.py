"""Answers written while they are generated: one write of a connection for each step of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from mlxbridge.errors import BridgeError
from mlxbridge.guest.gateway.exchange import Ask, Exchange
from mlxbridge.guest.gateway.gone import ClientGone, until_gone
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.responses import begin_stream
from mlxbridge.guest.gateway.tally import Tally
from mlxbridge.types import Chunk, Generation

KEEP_ALIVE_S = 10.0
"""Proxies and clients give up on connections that say nothing."""
_MAX_BUFFERED_BYTES = 1 << 16


class Writer(Protocol):
    """Writes answers as they come, in the form of one API; each method gives bytes, ``b""`` for nothing.

    Attributes:
        media_type: of the whole response.
        keep_alive: what is said when nothing has come for ten seconds.
    """

    media_type: str
    keep_alive: bytes

    def begin(self, index: int) -> bytes:
        """Before the first chunk of an answer."""

    def take(self, index: int, chunk: Chunk) -> bytes:
        """A chunk."""

    def finish(self, index: int, answer: Generation) -> bytes:
        """The end of an answer."""

    def end(self, answers: Sequence[Generation]) -> bytes:
        """The end of all."""

    def fail(self, problem: Problem, request_id: str) -> bytes:
        """What went wrong after the first byte; nothing comes after it."""


class StreamedAnswers:
    """The ASGI response.

    What goes wrong before the first chunk is raised, and so has a status of its own; after it, it is written. Nothing is
    taken from the host that the connection has no room for, and the calls are cancelled when the caller goes.
    """

    def __init__(self, exchange: Exchange, asks: Sequence[Ask], writer: Writer, tally: Tally) -> None:
        self._exchange = exchange
        self._asks = asks
        self._writer = writer
        self._tally = tally
        self._has_begun = False
        self._beginning = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all.

        Raises:
            Problem, BridgeError: nothing was sent, and something is to be.
            ClientGone: the caller went.
        """
        self._scope, self._send = scope, send
        self._pulse = Pulse(self._keep_alive)
        try:
            async with until_gone(receive):
                await self._answer()
        except asyncio.CancelledError:
            await self._fail(Problem.stopping())
            raise
        except (BridgeError, Problem) as error:
            if not self._has_begun:
                raise
            await self._fail(self._exchange.problem_of(error))
        except ClientGone:
            raise
        except Exception:
            await self._fail(Problem.internal())
            raise
        finally:
            self._pulse.stop()

    async def _answer(self) -> None:
        if len(self._asks) == 1:
            answers = [await self._pump_one(self._asks[0])]
        else:
            answers = await self._pump_all()
        self._exchange.gateway.host_state.note_there()
        await self._write(self._writer.end(answers), more=False)

    async def _pump_one(self, ask: Ask) -> Generation:
        """An answer whose chunks are written one by one."""
        writer = self._writer
        async with await self._exchange.client.generate(ask.prompt, stream=True, **ask.options) as stream:
            begin = writer.begin(0)
            async for chunk in stream:
                self._tally.take(0, chunk)
                if data := begin + writer.take(0, chunk):
                    await self._write(data)
                begin = b""
            answer = stream.generation
        answer = self._note(0, answer)
        if data := begin + writer.finish(0, answer):
            await self._write(data)
        return answer

    async def _pump_all(self) -> list[Generation]:
        """Answers side by side: what comes of them in one step is written at once."""
        pending = Pending()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._collect(index, ask, pending))
                    for index, ask in enumerate(self._asks)
                ]
                while not all(task.done() for task in tasks) or pending.data:
                    if data := await pending.take():
                        await self._write(data)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _collect(self, index: int, ask: Ask, pending: Pending) -> Generation:
        writer = self._writer
        try:
            async with await self._exchange.client.generate(ask.prompt, stream=True, **ask.options) as stream:
                begin = writer.begin(index)
                async for chunk in stream:
                    self._tally.take(index, chunk)
                    await pending.put(begin + writer.take(index, chunk))
                    begin = b""
                answer = stream.generation
            answer = self._note(index, answer)
            await pending.put(begin + writer.finish(index, answer))
            return answer
        finally:
            pending.wake()

    def _note(self, index: int, answer: Generation) -> Generation:
        self._tally.finish(index, answer)
        self._exchange.note_text(answer)
        return self._exchange.named(answer, self._asks[index].options.get("model"))

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        self._pulse.is_heard = True
        if not self._has_begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _begin(self) -> None:
        """Send the head, once: an answer and the pulse may both wait for a connection that has no room yet."""
        async with self._beginning:
            if not self._has_begun:
                await begin_stream(self._scope, self._send, self._writer.media_type)
                self._has_begun = True

    async def _keep_alive(self) -> None:
        if self._writer.keep_alive:
            await self._write(self._writer.keep_alive)

    async def _fail(self, problem: Problem) -> None:
        """Tell what went wrong, if anything was sent before."""
        if self._has_begun:
            self._exchange.record.error = problem.code
            await self._write(self._writer.fail(problem, self._exchange.request_id), more=False)


class Pending:
    """What several answers have to be written; whoever puts waits while it is too much."""

    def __init__(self) -> None:
        self.data = b""
        self._has_some = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def put(self, data: bytes) -> None:
        """Add to what is to be written."""
        self.data += data
        if data:
            self._has_some.set()
        if len(self.data) > _MAX_BUFFERED_BYTES:
            self._has_room.clear()
        await self._has_room.wait()

    def wake(self) -> None:
        """Have ``take`` look again: somebody has ended."""
        self._has_some.set()

    async def take(self) -> bytes:
        """All that there is, waiting until there is any or somebody has ended."""
        await self._has_some.wait()
        self._has_some.clear()
        data, self.data = self.data, b""
        self._has_room.set()
        return data


class Pulse:
    """Has something said when nothing was for ten seconds.

    Attributes:
        is_heard: something was said since it last looked.
    """

    def __init__(self, say: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.is_heard = False
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(KEEP_ALIVE_S, self._look)

    def stop(self) -> None:
        """Say nothing more."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _look(self) -> None:
        if not self.is_heard and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._say())
        self.is_heard = False
        self._timer = self._loop.call_later(KEEP_ALIVE_S, self._look)
