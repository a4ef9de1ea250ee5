"""A program of LiteLLM's: asks a gateway by its SDK and by its router, and prints what came as JSON.

It is run by a Python that has litellm, which need not be the tests' own.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm
import yaml

URL, CONFIG = sys.argv[1:]
HERE = {"api_base": f"{URL}/v1", "api_key": "any"}
QUESTION = [{"role": "user", "content": "What is 27 + 15?"}]
WEATHER = [{"role": "user", "content": "Both?"}]
NO_THINKING = {"extra_body": {"reasoning": False}}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def read(stream: Any) -> tuple[str, list[list[str]]]:
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for call in (chunk.choices[0].delta.tool_calls or ()) if chunk.choices else ():
            name, arguments = calls.get(call.index, ("", ""))
            told = call.function
            calls[call.index] = [name + (told.name or ""), arguments + (told.arguments or "")]
    return text, list(calls.values())


def refusal(**request: Any) -> list[str] | None:
    try:
        litellm.completion(messages=QUESTION, **HERE, **request)
    except Exception as error:  # of whichever class LiteLLM has for it
        return [type(error).__name__, str(error)]
    return None


chat = litellm.completion(model="openai/demo", messages=QUESTION, **HERE)
stream = litellm.completion(model="openai/demo", messages=QUESTION, stream=True, **HERE)
tools = litellm.completion(model="openai/caller", messages=WEATHER, tools=[TOOL], **NO_THINKING, **HERE)
tool_stream = litellm.completion(
    model="openai/caller", messages=WEATHER, tools=[TOOL], stream=True, **NO_THINKING, **HERE
)
vectors = litellm.embedding(model="openai/finder", input=["one", "two"], **HERE)

with open(CONFIG) as file:
    models = yaml.safe_load(file)["model_list"]
for model in models:
    model["litellm_params"] |= HERE
routed = litellm.Router(model_list=models).completion(model="demo", messages=QUESTION)

json.dump(
    {
        "chat": [chat.choices[0].message.content, chat.usage.completion_tokens],
        "stream": read(stream),
        "tools": [
            [call.function.name, call.function.arguments] for call in tools.choices[0].message.tool_calls
        ],
        "tool_stream": read(tool_stream),
        "vectors": [len(one["embedding"]) for one in vectors.data],
        "routed": routed.choices[0].message.content,
        "no_model": refusal(model="openai/none"),
        "no_field": refusal(model="openai/demo", extra_body={"tempreature": 1}),
    },
    sys.stdout,
)
