"""One path and method of an API, as OpenAPI tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from mlxbridge.guest.gateway.schema import TEXT, Schema

JSON, SSE, NDJSON = "application/json", "text/event-stream", "application/x-ndjson"

IN_PARTS: Schema = {"description": "an answer in parts, as they come"}
"""Of events and lines: OpenAPI 3.1 does not say whether a schema would be of each or of all."""

ALWAYS = (400, 403, 405, 500, 503)
"""Whatever is asked: a name of this machine's or an origin that is not let in, a gateway that stops."""
WITH_KEY = (401,)
OF_HOST = (429, 501, 504)
"""Where the host is asked, too."""
WITH_BODY = (404, 408, 413, 415)
"""Where there is a body, and a model in it."""
_RETRY = (429, 503, 529)
_NAMES = {529: "Overloaded"}  # Anthropic's own

_ID_HEADER = {"description": "what this request is called", "schema": TEXT}
_RETRY_HEADER = {"description": "seconds", "schema": {"type": "string", "pattern": "^[0-9]+$"}}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is taken, and what is told.

    Attributes:
        summary: in a line.
        api: whose errors it has, the name of a schema among the components: ``"openai_error"`` for "openai".
        answer: of 200, by media type.
        body: of the request; None if it has none.
        parameters: of path, query and headers, as OpenAPI has them.
        statuses: of errors beside those that all have.
        is_open: needs no API key.
        asks_host: may have the errors of that.
        success: the status of ``answer``; None if it is always an error.
    """

    summary: str
    api: str
    answer: Mapping[str, Schema] = field(default_factory=dict)
    body: Schema | None = None
    parameters: Sequence[Mapping[str, Any]] = ()
    statuses: tuple[int, ...] = ()
    is_open: bool = False
    asks_host: bool = True
    success: int | None = 200

    def write(self, name: str) -> dict[str, Any]:
        """OpenAPI's Operation Object.

        Args:
            name: of it, which no other has.
        """
        told: dict[str, Any] = {"operationId": name, "summary": self.summary, "tags": [self.api]}
        if self.parameters:
            told["parameters"] = [dict(one) for one in self.parameters]
        if self.body is not None:
            told["requestBody"] = {"required": True, "content": {JSON: {"schema": self.body}}}
        if self.is_open:
            told["security"] = []
        told["responses"] = {str(status): response for status, response in sorted(self._responses().items())}
        return told

    def _responses(self) -> dict[int, dict[str, Any]]:
        error = {JSON: {"schema": {"$ref": f"#/components/schemas/{self.api}_error"}}}
        found = {status: _response(status, error) for status in self._errors()}
        if self.success is not None:
            content = {kind: {"schema": schema} for kind, schema in self.answer.items()}
            found[self.success] = _response(self.success, content)
        return found

    def _errors(self) -> set[int]:
        statuses = {*ALWAYS, *self.statuses}
        if not self.is_open:
            statuses |= {*WITH_KEY}
        if self.asks_host:
            statuses |= {*OF_HOST}
        return statuses | ({*WITH_BODY} if self.body is not None else set())


def post(
    summary: str, api: str, taken: Schema, answer: Schema, *, streams_as: str | None = None
) -> Operation:
    """What a path does with a body.

    Args:
        summary: in a line.
        api: as of ``Operation``.
        taken: the body.
        answer: as JSON.
        streams_as: the media type of answers that come in parts; None if none do.
    """
    parts: Mapping[str, Schema] = {} if streams_as is None else {streams_as: IN_PARTS}
    return Operation(summary=summary, api=api, body=taken, answer={JSON: answer, **parts})


def in_path(name: str, description: str) -> Mapping[str, Any]:
    """A part of the path."""
    schema = {**TEXT, "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def in_query(name: str, schema: Schema, description: str) -> Mapping[str, Any]:
    """A parameter of the query, which may be left out."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _response(status: int, content: Mapping[str, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = {"x-request-id": _ID_HEADER}
    if status in _RETRY:
        headers["retry-after"] = {**_RETRY_HEADER, "required": True}
    description = _NAMES.get(status) or HTTPStatus(status).phrase
    return {"description": description, "headers": headers, **({"content": content} if content else {})}
