"""protocol/vectors, in both directions: the bytes give these events, and these actions give the bytes."""

import json
from pathlib import Path
from typing import Any

import pytest

import mlxbridge.protocol
from mlxbridge.errors import BY_CODE
from mlxbridge.protocol import GuestConnection, HostConnection, Limits, Windows, parse_token
from mlxbridge.protocol.connection import Connection
from mlxbridge.protocol.events import Closed, Cut, Resumed
from mlxbridge.protocol.frames import MAGIC, FrameType, encode_frame
from mlxbridge.protocol.handshake import CHECKSUM, Resumption
from mlxbridge.protocol.logprobs import decode_logprobs, encode_logprobs
from mlxbridge.protocol.parts import decode_part, encode_part
from mlxbridge.types import TokenLogprob, TokenLogprobs, ToolCall
from tests.helpers.wire import feed, frame, frames_in, make_guest, make_host, pack, plain, unplain, unsent
from tests.protocol.vector_ends import end_in_state

FOLDER = Path(mlxbridge.protocol.__file__).with_name("vectors")
SIZES = [1, 7, 1 << 30]
"""Byte by byte, in uneven chunks, whole."""


def load(name: str) -> list[Any]:
    return [pytest.param(v, id=v["name"]) for v in json.loads((FOLDER / name).read_text())["vectors"]]


def test_folder_holds_nothing_that_is_not_tested() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {
        "frames.json",
        "logprobs.json",
        "parts.json",
        "handshakes.json",
        "conversations.json",
        "malformed.json",
        "resuming.json",
    }


def test_frames_cover_every_type() -> None:
    shown = {vector.values[0]["type"] for vector in load("frames.json")}
    assert shown == {kind.name for kind in FrameType} - {"AUTH"}  # whose proof needs a handshake around it


def decoded(data: bytes, *, is_checked: bool = False) -> list[dict[str, Any]]:
    return [
        {
            "type": kind.name,
            "call": call,
            "flags": flags,
            "head": plain(unpack(head)),
            "payload": payload.hex(),
        }
        for kind, call, flags, head, payload in frames_in(data, is_checked=is_checked)
    ]


def unpack(head: bytes) -> Any:
    return mlxbridge.protocol.codec.decode(head) if head else None


@pytest.mark.parametrize("vector", load("frames.json"))
def test_frame_is_encoded_as_written(vector: dict[str, Any]) -> None:
    head = b"" if vector["head"] is None else pack(unplain(vector["head"]))
    kind = FrameType[vector["type"]]
    assert kind == vector["number"]
    data = encode_frame(kind, vector["call"], head, bytes.fromhex(vector["payload"]), vector["flags"])
    assert data.hex() == vector["hex"]


@pytest.mark.parametrize("vector", load("frames.json"))
def test_frame_is_decoded_as_written(vector: dict[str, Any]) -> None:
    (found,) = decoded(bytes.fromhex(vector["hex"]))
    assert found == {key: vector[key] for key in found}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("vector", load("frames.json"))
def test_frame_gives_its_events_however_it_arrives(vector: dict[str, Any], size: int) -> None:
    end = end_in_state(vector["to"], vector["state"])
    data = bytes.fromhex(vector["hex"])
    assert feed(end, MAGIC + data if vector["state"] == "hello" else data, size) == vector["events"]


@pytest.mark.parametrize("vector", load("frames.json"))
def test_frame_gives_its_events_with_more_behind_it(vector: dict[str, Any]) -> None:
    end = end_in_state(vector["to"], vector["state"])
    ping = frame(FrameType.PING)
    data = bytes.fromhex(vector["hex"]) + ping[:5]
    events = feed(end, MAGIC + data if vector["state"] == "hello" else data, 1 << 30)
    assert events == vector["events"]
    if end.ready:
        unsent(end)
        assert feed(end, ping[5:], 1 << 30) == []
        assert b"".join(end.data_to_send()) == frame(FrameType.PONG)


@pytest.mark.parametrize("vector", load("logprobs.json"))
def test_logprobs_are_encoded_and_decoded_as_written(vector: dict[str, Any]) -> None:
    first, *rest = [
        TokenLogprob(given["token_id"], given["logprob"], bytes.fromhex(given["bytes"]))
        for given in vector["candidates"]
    ]
    token = TokenLogprobs(first, tuple(rest))
    assert encode_logprobs(token).hex() == vector["hex"]
    assert decode_logprobs(bytes.fromhex(vector["hex"])) == token


@pytest.mark.parametrize("vector", load("parts.json"))
def test_part_is_encoded_and_decoded_as_written(vector: dict[str, Any]) -> None:
    says = vector["says"]
    meant = says["reasoning"] if "reasoning" in says else ToolCall(**says)
    assert encode_part(meant) == vector["part"]
    assert pack(vector["part"]).hex() == vector["hex"]
    assert decode_part(unpack(bytes.fromhex(vector["hex"]))) == meant


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("vector", load("malformed.json"))
def test_malformed_input_ends_the_connection_with_its_code(vector: dict[str, Any], size: int) -> None:
    end = end_in_state(vector["to"], vector["state"])
    unsent(end)
    feed_all(end, bytes.fromhex(vector["hex"]), size)
    assert end.closed
    feed_all(end, bytes(100), size)  # what comes behind it is not looked at
    *_, last = end.events()
    assert isinstance(last, Closed) and last.error is not None
    assert last.error.code == vector["code"]
    assert type(last.error) is BY_CODE[vector["code"]] and type(last.error).__name__ == vector["error"]
    assert vector["scope"] == "connection" and end.closed
    *_, (kind, call, _, head, payload) = frames_in(unsent(end))
    assert (kind, call, payload) == (FrameType.GOAWAY, 0, b"")
    assert unpack(head)["code"] == vector["code"] and unpack(head)["message"] == last.error.message


def feed_all(end: Connection, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        end.receive_data(data[start : start + size])


def make_options(given: dict[str, Any]) -> dict[str, Any]:
    options = {**given, "nonce": bytes.fromhex(given["nonce"])}
    if "limits" in options:
        options["limits"] = Limits(**options["limits"])
    if "features" in options:
        options["features"] = frozenset(options["features"])
    if "windows" in options:
        options["windows"] = Windows(**options["windows"])
    if "token" in options:
        options["token"] = parse_token(options["token"])
    if "tokens" in options:
        options["tokens"] = {name: secret.encode() for name, secret in options["tokens"].items()}
    if "host_nonce" in options:
        options["host_nonce"] = bytes.fromhex(options["host_nonce"])
    if "resumption" in options:
        options["resumption"] = Resumption(**unplain(options["resumption"]))
    return options


def play(guest: GuestConnection, host: HostConnection, steps: list[dict[str, Any]], size: int) -> None:
    is_checked = CHECKSUM in guest._features & host._features
    for step in steps:
        sender, receiver = (guest, host) if step["from"] == "guest" else (host, guest)
        if action := step.get("do"):
            getattr(sender, action["method"])(**unplain(action["with"]))
        data = unsent(sender)
        assert data.hex() == step["hex"], step["about"]
        assert data.startswith(MAGIC) is step["magic"]
        assert decoded(data, is_checked=is_checked) == step["frames"], step["about"]
        assert feed(receiver, data, size) == step["events"], step["about"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("vector", load("handshakes.json") + load("conversations.json"))
def test_script_gives_its_bytes_and_events(vector: dict[str, Any], size: int) -> None:
    guest, host = make_guest(**make_options(vector["guest"])), make_host(**make_options(vector["host"]))
    play(guest, host, vector["steps"], size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("vector", load("resuming.json"))
def test_guest_comes_back_as_written(vector: dict[str, Any], size: int) -> None:
    guest, host = make_guest(**make_options(vector["guest"])), make_host(**make_options(vector["host"]))
    play(guest, host, vector["before"], size)
    for end in (guest, host):
        if action := vector["lost"].get(end.role.value):
            getattr(end, action["method"])(**unplain(action["with"]))
        unsent(end)
        end.receive_eof()
        assert [type(event) for event in end.events()] == [Cut]
    options = make_options(vector["back"])
    guest.come_back(options["nonce"], lambda call: None)
    fresh = make_host(**{**make_options(vector["host"]), "nonce": options["host_nonce"]})
    asking, *rest = vector["after"]
    play(guest, fresh, [asking], size)
    (asked,) = asking["events"]
    assert host.welcome_back(fresh, asked["received"])
    assert [type(event) for event in host.events()] == [Resumed]
    play(guest, host, rest, size)
