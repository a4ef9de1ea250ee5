"""The examples of function calling in OpenAI's documentation, whole and as a stream, run with clients of its kind."""

from __future__ import annotations

import json
from typing import Any

from tests.host.engine.scripted import END

QUESTION = "What's the weather like in Paris today?"
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get current temperature for provided coordinates in celsius.",
            "parameters": {
                "type": "object",
                "properties": {"latitude": {"type": "number"}, "longitude": {"type": "number"}},
                "required": ["latitude", "longitude"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
]
# What a model says to it, which marks calls as Hermes' do.
SCRIPT = [
    "<tool",
    "_call>",
    '\n{"name": "get_weather", "arguments": {"latitude": ',
    '48.8566, "longitude": ',
    "2.3522}}\n",
    "</tool_call>",
    END,
]
ARGUMENTS = {"latitude": 48.8566, "longitude": 2.3522}


def get_weather(latitude: float, longitude: float) -> float:
    return round(latitude - longitude, 1)


def ask_and_answer(client: Any, **asked: Any) -> Any:
    """The message to the result of the call that the model makes."""
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    completion = client.chat.completions.create(messages=messages, tools=TOOLS, **asked)

    tool_call = completion.choices[0].message.tool_calls[0]
    args = json.loads(tool_call.function.arguments)
    result = get_weather(args["latitude"], args["longitude"])
    assert (args, result) == (ARGUMENTS, 46.5)

    messages.append(completion.choices[0].message)
    messages.append({"role": "tool", "tool_call_id": tool_call.id, "content": str(result)})
    completion_2 = client.chat.completions.create(messages=messages, tools=TOOLS, **asked)
    return completion_2.choices[0].message


def gather(client: Any, **asked: Any) -> dict[int, Any]:
    """The calls of a stream, put together as the documentation does: arguments are added to those that came first."""
    messages = [{"role": "user", "content": QUESTION}]
    stream = client.chat.completions.create(messages=messages, tools=TOOLS, stream=True, **asked)
    final_tool_calls: dict[int, Any] = {}
    for chunk in stream:
        for tool_call in chunk.choices[0].delta.tool_calls or []:
            index = tool_call.index
            if index not in final_tool_calls:
                final_tool_calls[index] = tool_call
            final_tool_calls[index].function.arguments += tool_call.function.arguments
    return final_tool_calls
