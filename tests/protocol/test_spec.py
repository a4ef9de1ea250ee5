"""SPEC.md's tables and its worked example, against the code."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

import mlxbridge.protocol
from mlxbridge.errors import BY_CODE
from mlxbridge.protocol import Limits
from mlxbridge.protocol.frames import COUNTED, HEADER_BYTES, MAGIC, WITHOUT_CALL, Flag, FrameType
from mlxbridge.protocol.limits import (
    HANDSHAKE_TIMEOUT_S,
    KEEPALIVE_INTERVAL_S,
    MAX_ARRAY_ITEMS,
    MAX_CONNECTION_LOGPROB_BYTES,
    MAX_HANDSHAKE_HEAD_BYTES,
    MAX_HELD_LOGPROB_BYTES,
    MAX_MAP_ITEMS,
    MAX_QUEUED_ITEMS,
    MAX_SMALL_PAYLOAD_BYTES,
    MIB,
)
from mlxbridge.protocol.state import MAY_SEND, Role, State

SPEC = Path(mlxbridge.protocol.__file__).with_name("SPEC.md").read_text()


def section(title: str) -> str:
    """The text under a heading, up to the next one of any depth."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", SPEC, re.M | re.S)
    assert found, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the first table in the text, without its heading."""
    table = re.search(r"(^\|.*\|\n)+", text, re.M)
    assert table
    lines = [line[1:-1] for line in table[0].splitlines()]
    return [[cell.strip().strip("`") for cell in line.split("|")] for line in lines[2:]]


def test_sections_are_numbered_in_order() -> None:
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", SPEC, re.M)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    "path", sorted(Path(mlxbridge.protocol.__file__).parent.glob("*.py")), ids=lambda p: p.name
)
def test_sections_named_in_the_code_exist(path: Path) -> None:
    for number in re.findall(r"SPEC\.md §(\d+)", path.read_text()):
        assert re.search(rf"^## {number}\. ", SPEC, re.M)


def test_types_are_the_codes() -> None:
    table = rows(section("Types"))
    assert {int(row[0]): row[1] for row in table} == {int(kind): kind.name for kind in FrameType}
    for _, name, sender, call, *_, counted in table:
        kind = FrameType[name]
        assert (call == "0") is (kind in WITHOUT_CALL), name
        assert (counted == "yes") is (kind in COUNTED), name
        senders = [
            role.value for role, states in MAY_SEND.items() if any(kind in may for may in states.values())
        ]
        assert ("both" if len(senders) == 2 else senders[0]) == sender, name


def test_flags_are_the_codes() -> None:
    assert {row[1]: int(row[0], 16) for row in rows(section("Flags"))} == {
        flag.name: int(flag) for flag in Flag
    }


def test_limits_are_the_codes() -> None:
    table = {row[0]: (int(row[1]), int(row[2])) for row in rows(section("4. Limits"))}
    assert {name: default for name, (default, _) in table.items()} == Limits().to_wire()
    assert Limits.from_wire({name: least for name, (_, least) in table.items()}).to_wire() == {
        name: least for name, (_, least) in table.items()
    }


def test_fixed_bounds_are_the_codes() -> None:
    for number in (MAX_HANDSHAKE_HEAD_BYTES, MAX_SMALL_PAYLOAD_BYTES, f"{HANDSHAKE_TIMEOUT_S:.0f} s"):
        assert str(number) in section("4. Limits")
    assert f"{MAX_ARRAY_ITEMS:,}" in section("Heads") and f"{MAX_MAP_ITEMS:,}" in section("Heads")
    assert f"{MAX_QUEUED_ITEMS:,}" in section("Credit, per call")
    assert f"{MAX_HELD_LOGPROB_BYTES // MIB} MiB of logprobs" in section("Credit, per call")
    assert f"{MAX_CONNECTION_LOGPROB_BYTES // MIB} MiB of logprobs" in section("Credit, per call")
    assert f"{KEEPALIVE_INTERVAL_S:.0f} s *of running time*" in " ".join(
        section("8. Keepalive and the end").split()
    )


def test_states_are_the_codes() -> None:
    for receiver, state, takes, _ in rows(section("States")):
        if state not in ("CLOSED", "CUT"):
            peer = Role.HOST if receiver == "guest" else Role.GUEST
            assert set(takes.split(", ")) == {kind.name for kind in MAY_SEND[peer][State[state]]}, (
                receiver,
                state,
            )


def test_errors_are_the_codes() -> None:
    table = section("9. Errors")
    table = table[table.index("| code |") :]
    found = {int(row[0]): (row[1], row[2] == "yes") for row in rows(table)}
    assert found == {code: (cls.__name__, cls.retryable) for code, cls in BY_CODE.items()}


def test_worked_example_is_the_vector() -> None:
    vectors = json.loads(
        Path(mlxbridge.protocol.__file__).with_name("vectors").joinpath("handshakes.json").read_text()
    )
    (vector,) = (vector for vector in vectors["vectors"] if vector["name"] == "with a token")
    shown = section("Worked example")
    bytes_shown = re.findall(r"^(?:guest|host)? +((?:[0-9a-f]{2,} ?)+)(…?)", shown, re.M)
    said = b"".join(bytes.fromhex(step["hex"]) for step in vector["steps"])
    position = 0
    for text, _ in bytes_shown:
        part = bytes.fromhex(text.replace(" ", ""))
        position = said.index(part, position) + len(part)
    assert position == len(said) and len(bytes_shown) == 11
    assert bytes.fromhex(bytes_shown[0][0]) == MAGIC and HEADER_BYTES == 16


def test_history_ends_with_this_version() -> None:
    versions = [int(row[0]) for row in rows(section("15. Version history"))]
    assert all(one < other for one, other in pairwise(versions)) and versions[-1] == 1
