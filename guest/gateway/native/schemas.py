"""What the paths under ``/mlxbridge`` take and tell, for the gateway's OpenAPI page."""

from __future__ import annotations

from collections.abc import Mapping

from mlxbridge.guest.gateway.operation import IN_PARTS, JSON, NDJSON, SSE, Operation
from mlxbridge.guest.gateway.option_schemas import GENERATE
from mlxbridge.guest.gateway.schema import FLAG, OBJECT, TEXT, Schema, any_of, list_of, told, whole

_ERROR = told(
    {"code": TEXT, "message": TEXT, "request_id": TEXT, "field": TEXT}, ["code", "message", "request_id"]
)
ERROR: Schema = told({"error": _ERROR})

_NAME = {**TEXT, "minLength": 1}
NAMED: Mapping[str, Schema] = {"model": _NAME}
LOAD: Mapping[str, Schema] = {**NAMED, "keep_alive": any_of(GENERATE["keep_alive"], {"type": "null"})}
DELETE: Mapping[str, Schema] = {**NAMED, "force": FLAG}

_MODEL = told({"name": TEXT, "state": TEXT, "details": OBJECT})


def _post(summary: str, fields: Mapping[str, Schema], answer: Mapping[str, Schema]) -> Operation:
    taken = {**told(fields, ["model"]), "additionalProperties": False}
    return Operation(summary=summary, api="mlxbridge", body=taken, answer=answer)


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/mlxbridge/status"): Operation(
        summary="What the host is doing",
        api="mlxbridge",
        answer={JSON: told({"models": list_of(_MODEL), "caller": told({"name": TEXT, "manage": FLAG})})},
    ),
    ("GET", "/mlxbridge/events"): Operation(
        summary="The status every second, and what happens",
        api="mlxbridge",
        answer={SSE: IN_PARTS},
    ),
    ("GET", "/mlxbridge/models"): Operation(
        summary="Models that the caller may use",
        api="mlxbridge",
        answer={JSON: told({"models": list_of(_MODEL)})},
    ),
    ("POST", "/mlxbridge/models/load"): _post("Load a model", LOAD, {NDJSON: IN_PARTS}),
    ("POST", "/mlxbridge/models/unload"): _post("Unload a model", NAMED, {JSON: _MODEL}),
    ("POST", "/mlxbridge/models/pull"): _post("Have the host download a model", NAMED, {NDJSON: IN_PARTS}),
    ("POST", "/mlxbridge/models/delete"): _post(
        "Delete a model's files", DELETE, {JSON: told({"name": TEXT, "freed_bytes": whole(0)})}
    ),
}
"""By method and path."""
