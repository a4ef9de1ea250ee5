"""The gateway's OpenAPI page: that it tells of every path and every field, and that schemathesis finds nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

from mlxbridge.compat.openai import parameters
from mlxbridge.compat.openai.parameters import HARMLESS
from mlxbridge.guest.gateway import option_schemas
from mlxbridge.guest.gateway.anthropic import requests as anthropic_requests
from mlxbridge.guest.gateway.anthropic import schemas as anthropic
from mlxbridge.guest.gateway.app import ROUTES
from mlxbridge.guest.gateway.ollama import options as ollama_options
from mlxbridge.guest.gateway.ollama import requests as ollama_requests
from mlxbridge.guest.gateway.ollama import schemas as ollama
from mlxbridge.guest.gateway.ollama.fields import Fields
from mlxbridge.guest.gateway.openai import fields as openai_fields
from mlxbridge.guest.gateway.openai import rerank, tokens
from mlxbridge.guest.gateway.openai import schemas as openai
from mlxbridge.guest.gateway.openai.responses import request as responses_request
from mlxbridge.guest.gateway.openai.responses import schemas as responses
from mlxbridge.guest.gateway.openapi import describe, plain_path
from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.helpers.command_line import run
from tests.integration.hosts import HostProcess

NOT_HERE = {*parameters._NOT_HERE}
"""Fields of OpenAI's that are known only to be refused."""


def test_every_path_and_method_is_told() -> None:
    told = {
        (path, method.upper()) for path, one in describe(needs_key=True)["paths"].items() for method in one
    }
    there = set()
    for route in ROUTES:
        assert isinstance(route, Route)
        handlers: Mapping[str, Any] = route.app._handlers  # type: ignore[attr-defined]
        for method in handlers:
            if not (method == "HEAD" and "GET" in handlers):  # which every path has
                there.add((plain_path(route.path), method))
    assert told == there


def test_each_operation_has_a_name_of_its_own() -> None:
    names = [
        one["operationId"] for path in describe(needs_key=True)["paths"].values() for one in path.values()
    ]
    assert len(names) == len({*names})


def test_schemas_are_schemas() -> None:
    found = 0
    for path in describe(needs_key=True)["paths"].values():
        for operation in path.values():
            contents = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in contents:
                for media in content.get("content", {}).values():
                    Draft202012Validator.check_schema(media["schema"])
                    found += 1
    assert found > 100


def test_keys_are_told_where_there_are_any(http: httpx.Client) -> None:
    assert http.get("/openapi.json").json() == describe(needs_key=False)
    assert describe(needs_key=True)["security"] == [{"bearer": []}, {"key": []}]


@pytest.mark.parametrize(
    "told, known",
    [
        (option_schemas.GENERATE, openai_fields.HOST),
        (option_schemas.EMBED, openai_fields.EMBED_HOST),
        (option_schemas.RERANK, openai_fields.RERANK_HOST),
        (option_schemas.TOKENIZE, openai_fields.TOKENIZE_HOST),
        (openai.CHAT, (openai_fields.CHAT | openai_fields.HOST) - NOT_HERE),
        (openai.COMPLETION, (openai_fields.COMPLETION | openai_fields.HOST) - NOT_HERE),
        (openai.EMBEDDING, openai_fields.EMBEDDING | openai_fields.EMBED_HOST),
        (openai.RERANKING, rerank._FIELDS | openai_fields.RERANK_HOST),
        (openai.TOKENIZING, tokens._PROMPTS | openai_fields.TOKENIZE_HOST | {*tokens._ONLY_FALSE}),
        (openai.DETOKENIZING, tokens._DETOKENIZE),
        (
            responses.FIELDS,
            (responses_request._OWN | responses_request._HOST) - {*responses_request._NOT_HERE},
        ),
        (responses.COUNTED, responses_request.COUNTED - {*responses_request._NOT_HERE}),
        (
            anthropic.MESSAGES,
            {
                *anthropic_requests.HARMLESS,
                *anthropic_requests._ONLY,
                *anthropic_requests._SAME,
                *anthropic_requests._HOSTS_OWN,
                *anthropic_requests._MEMBERS,
            },
        ),
    ],
)
def test_fields_are_those_that_are_read(told: Mapping[str, Any], known: set[str]) -> None:
    assert set(told) == known


def test_what_openai_has_for_nothing_is_told() -> None:
    assert set(openai.CHAT) >= HARMLESS


@pytest.mark.parametrize(
    "told, read",
    [
        (ollama.GENERATION, ollama_requests.read_generate),
        (ollama.CHAT, ollama_requests.read_chat),
        (ollama.EMBED, ollama_requests.read_embed),
        (ollama.EMBEDDINGS, ollama_requests.read_embeddings),
    ],
)
def test_fields_of_ollamas_are_those_that_are_taken(
    told: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: set[str] = set()
    take = Fields.take

    def note(self: Fields, name: str) -> Any:
        taken.add(self._place + name)
        return take(self, name)

    monkeypatch.setattr(Fields, "take", note)
    read({"model": "demo"})
    refused = {*ollama_requests._NOT_HERE} & taken
    assert {name for name in taken if "." not in name} - refused == set(told)
    known = {*ollama.OPTIONS} if "stream" in told else {*ollama.SETTINGS}
    assert {name.removeprefix("options.") for name in taken if name.startswith("options.")} - {
        *ollama_options._NOT_HERE
    } == known


HELLO = [{"role": "user", "content": "Hello"}]
ASKED: Mapping[str, Mapping[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 2},
    "/v1/completions": {"prompt": "x", "max_tokens": 2},
    "/v1/responses": {"input": "x", "max_output_tokens": 2},
    "/v1/responses/input_tokens": {"input": "x"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 2},
    "/v1/messages/count_tokens": {"messages": HELLO},
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [1]},
    "/api/generate": {"model": "demo", "prompt": "x", "stream": False, "options": {"num_predict": 2}},
    "/api/chat": {"model": "demo", "messages": HELLO, "stream": False, "options": {"num_predict": 2}},
    "/api/show": {"model": "demo"},
}


def test_object_where_no_schema_has_one_is_refused(http: httpx.Client) -> None:
    """Those of fields that have no part in an answer, too."""
    taken = []
    for path, body in ASKED.items():
        operation = describe(needs_key=False)["paths"][path]["post"]
        fields = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert http.post(path, json=body).status_code == 200, path
        for name, schema in fields.items():
            if not Draft202012Validator(schema).is_valid({"x": 1}):
                answer = http.post(path, json={**body, name: {"x": 1}})
                taken += [(path, name)] * (answer.status_code != 400)
    assert taken == []


@pytest.fixture(scope="module")
def keyed(
    host: HostProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[GatewayProcess, str]]:
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    key = run(None, "gateway", "key", "tester", "--keys", str(keys)).stdout.strip()
    with keys.open("a") as file:
        file.write("manage = true\n")
    with run_gateway(host.url, "--keys", str(keys)) as gateway:
        yield gateway, key


def test_schemathesis_finds_nothing(keyed: tuple[GatewayProcess, str], tmp_path: Path) -> None:
    gateway, key = keyed
    # A timeout of next to nothing is over at once.
    (tmp_path / "schemathesis.toml").write_text(
        '[checks]\nnot_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]\n'
    )
    left_out = [
        "/mlxbridge/events",  # which never ends
        "/mlxbridge/models/unload",  # after which others wait for the model
        "/api/(blobs|copy|create|push)",  # which are 501, as the page says
    ]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {key}", "--exclude-path-regex", "|".join(left_out)]
    command += ["--phases", "fuzzing", "--max-examples", "6", "--generation-deterministic", "--no-shrink"]
    # A schema cannot say which fields go together, nor what a model can do.
    command += ["--exclude-checks", "positive_data_acceptance", "--request-timeout", "120"]
    # A timeout may be shorter than anything takes.
    statuses = '["2xx", "3xx", "4xx", "504"]'
    (tmp_path / "schemathesis.toml").write_text(
        f"[checks.not_a_server_error]\nexpected-statuses = {statuses}\n"
    )
    # Python 3.11 cannot parse in two threads at once.
    command += ["--workers", "1", "--suppress-health-check", "all", "--warnings", "off", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    (counts,) = re.findall(r"Selected: (\d+)/\d+\s+Tested: (\d+)", done.stdout)
    assert counts[0] == counts[1] != "0"
