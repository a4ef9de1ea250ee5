from __future__ import annotations

from mlxbridge.compat.openai.call_deltas import CallDeltas
from mlxbridge.types import ToolCall


def call(index: int, name: str) -> ToolCall:
    arguments = {"of": name}
    return ToolCall(index=index, id=f"id-{name}", name=name, arguments=arguments, text=str(arguments))


def test_each_call_is_told_in_two_pieces_and_what_is_none_leaves_no_gap() -> None:
    deltas = CallDeltas()
    broken = ToolCall(index=1, id="", name="", arguments=None, text="<tool_call>", malformed=True)
    first = [*deltas.tell(0, [call(0, "a"), broken]), *deltas.tell(0, [call(2, "b")])]
    assert [(told.index, told.id, told.function.name, told.function.arguments) for told in first] == [
        (0, "id-a", "a", ""),
        (0, None, None, "{'of': 'a'}"),
        (1, "id-b", "b", ""),
        (1, None, None, "{'of': 'b'}"),
    ]
    assert [told.index for told in deltas.tell(1, [call(0, "c")])] == [0, 0], "of another answer"
