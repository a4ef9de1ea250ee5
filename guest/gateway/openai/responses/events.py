"""A response as events, in OpenAI's order.

::

    response.created  response.in_progress
    for each item:
        response.output_item.added
        text:       content_part.added  output_text.delta …  output_text.done  content_part.done
        reasoning:  content_part.added  reasoning_text.delta …  reasoning_text.done  content_part.done
        a call:     function_call_arguments.delta  function_call_arguments.done, or with custom_tool_call_input
        response.output_item.done
    response.completed, or response.incomplete, or response.failed
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import orjson

from mlxbridge.guest.gateway.openai import sse
from mlxbridge.guest.gateway.openai.responses import output
from mlxbridge.guest.gateway.openai.responses.request import ResponseRequest
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.types import Chunk, Generation, ToolCall


class ResponseWriter:
    """Writes them; has the items that were told so far."""

    media_type = sse.MEDIA_TYPE
    keep_alive = sse.KEEP_ALIVE

    def __init__(self, request: ResponseRequest) -> None:
        self._response = output.begin(request)
        self._tools = request.tools
        self._items: list[dict[str, Any]] = []
        self._open: _Text | None = None
        self._sequence = 0

    def begin(self, index: int) -> bytes:
        """The response begins."""
        return self._lifecycle("created") + self._lifecycle("in_progress")

    def take(self, index: int, chunk: Chunk) -> bytes:
        """What came."""
        text, _, logprobs, reasoning, tool_calls = chunk
        if not tool_calls and not reasoning and logprobs is None:
            return self._say(_Message, text) if text else b""
        data = self._say(_Reasoning, reasoning) if reasoning else b""
        text += "".join(call.text for call in tool_calls if call.malformed)
        if text or (logprobs and not reasoning and not tool_calls):
            data += self._say(_Message, text, output.logprobs_of(logprobs))
        return data + b"".join(self._call(call) for call in tool_calls if not call.malformed)

    def finish(self, index: int, answer: Generation) -> bytes:
        """The last item ends; an answer of nothing has one all the same."""
        data = b"" if self._items or self._open else self._say(_Message, "")
        return data + self._close(is_cut=answer.finish_reason == "length")

    def end(self, answers: Sequence[Generation]) -> bytes:
        """The response ends."""
        self._response = output.complete(self._response, answers[0], self._items)
        return self._lifecycle(self._response["status"])

    def fail(self, problem: Problem, request_id: str) -> bytes:
        """What went wrong after the first byte."""
        data = self._close(is_cut=True) if self._sequence else self.begin(0)
        self._response = output.fail(self._response, problem, self._items)
        return data + self._lifecycle("failed")

    def _say(self, kind: type[_Text], text: str, logprobs: Sequence[Any] = ()) -> bytes:
        """Text, or reasoning, in the item that is open if that is of its kind, else in a new one."""
        data = b""
        if type(self._open) is not kind:
            data = self._close()
            self._open = kind(len(self._items))
            data += self._events(*self._open.begin())
        return data + self._open.delta(text, logprobs, self._next())

    def _close(self, *, is_cut: bool = False) -> bytes:
        if self._open is None:
            return b""
        closed, self._open = self._open, None
        self._items.append(closed.item(is_cut=is_cut))
        return self._events(*closed.end(self._items[-1]))

    def _call(self, call: ToolCall) -> bytes:
        data = self._close()
        item = output.call_item(call, self._tools)
        place = {"item_id": item["id"], "output_index": len(self._items)}
        self._items.append(item)
        is_custom = item["type"] == "custom_tool_call"
        name, member = (
            ("custom_tool_call_input", "input") if is_custom else ("function_call_arguments", "arguments")
        )
        opening = {**item, member: ""} if is_custom else {**item, "status": "in_progress", member: ""}
        done = {member: item[member]} if is_custom else {"name": item["name"], member: item[member]}
        return data + self._events(
            ("output_item.added", {"output_index": place["output_index"], "item": opening}),
            (f"{name}.delta", {**place, "delta": item[member]}),
            (f"{name}.done", {**place, **done}),
            ("output_item.done", {"output_index": place["output_index"], "item": item}),
        )

    def _lifecycle(self, name: str) -> bytes:
        return self._events((name, {"response": self._response}))

    def _events(self, *events: tuple[str, dict[str, Any]]) -> bytes:
        return b"".join(
            b"event: response.%b\ndata: " % name.encode()
            + orjson.dumps({"type": f"response.{name}", "sequence_number": self._next(), **told})
            + sse.END
            for name, told in events
        )

    def _next(self) -> int:
        number, self._sequence = self._sequence, self._sequence + 1
        return number


class _Text(ABC):
    """An item of text that is being written.

    Args:
        place: among the items.
    """

    id_kind: str
    name: str
    """What its events are called."""
    _plain_rest = b","
    """What stands behind a delta without logprobs."""

    def __init__(self, place: int) -> None:
        self._id = output.new_id(self.id_kind)
        self._index = {"output_index": place}
        self._place = {"item_id": self._id, "output_index": place, "content_index": 0}
        kind = f"response.{self.name}.delta"
        head = orjson.dumps({"type": kind, **self._place})[:-1]
        self._head = f"event: {kind}\ndata: ".encode() + head + b',"delta":'
        self._texts: list[str] = []

    def begin(self) -> list[tuple[str, dict[str, Any]]]:
        """The events before its text."""
        opening = {**self._item("", is_cut=False), "status": "in_progress", "content": []}
        return [
            ("output_item.added", {**self._index, "item": opening}),
            ("content_part.added", {**self._place, "part": self._item("", is_cut=False)["content"][0]}),
        ]

    def delta(self, text: str, logprobs: Sequence[Any], sequence: int) -> bytes:
        """Some of its text."""
        self._texts.append(text)
        rest = self._plain_rest if not logprobs else self._rest(logprobs)
        return self._head + orjson.dumps(text) + rest + b'"sequence_number":%d}\n\n' % sequence

    def item(self, *, is_cut: bool) -> dict[str, Any]:
        """The whole of it."""
        return self._item("".join(self._texts), is_cut=is_cut)

    def end(self, item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """The events behind its text."""
        (part,) = item["content"]
        told = {name: part[name] for name in ("text", "logprobs") if name in part}
        return [
            (f"{self.name}.done", {**self._place, **told}),
            ("content_part.done", {**self._place, "part": part}),
            ("output_item.done", {**self._index, "item": item}),
        ]

    @abstractmethod
    def _item(self, text: str, *, is_cut: bool) -> dict[str, Any]:
        """The item, with as much text as that."""

    def _rest(self, logprobs: Sequence[Any]) -> bytes:
        return self._plain_rest


class _Message(_Text):
    id_kind, name = "msg", "output_text"
    _plain_rest = b',"logprobs":[],'

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self._logprobs: list[Any] = []

    def _item(self, text: str, *, is_cut: bool) -> dict[str, Any]:
        return output.message(self._id, text, self._logprobs, is_cut=is_cut)

    def _rest(self, logprobs: Sequence[Any]) -> bytes:
        self._logprobs += logprobs
        return b',"logprobs":' + orjson.dumps(logprobs) + b","


class _Reasoning(_Text):
    id_kind, name = "rs", "reasoning_text"

    def _item(self, text: str, *, is_cut: bool) -> dict[str, Any]:
        return output.reasoning(self._id, text, is_cut=is_cut)
