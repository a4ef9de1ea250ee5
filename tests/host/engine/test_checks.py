from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.errors import InvalidArgument
from mlxbridge.host.engine.checks import MAX_STOP_CHARS, MAX_STOPS, check_request
from mlxbridge.host.engine.interface import GenerateRequest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", True),
        ("max_tokens", 2.5),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -1),
        ("min_p", 2),
        ("top_k", -1),
        ("top_k", 1.0),
        ("seed", "7"),
        ("seed", 2**64),
        ("seed", -(2**63) - 1),
        ("stop", ("",)),
        ("stop", "word"),
        ("stop", (1,)),
        ("stop", ("a",) * (MAX_STOPS + 1)),
        ("stop", ("a" * (MAX_STOP_CHARS + 1),)),
    ],
)
def test_check_names_the_wrong_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_request(GenerateRequest(prompt="x", **{field: value}))
    assert caught.value.details == {"field": field}
    assert field in caught.value.message


def test_check_wants_prompt_or_messages() -> None:
    for request in (GenerateRequest(), GenerateRequest(prompt="x", messages=[])):
        with pytest.raises(InvalidArgument):
            check_request(request)


def test_check_accepts_the_edges() -> None:
    check_request(
        GenerateRequest(
            prompt="x", max_tokens=1, temperature=0, top_p=1, min_p=1, top_k=0, seed=2**64 - 1, stop=("a",)
        )
    )
    check_request(GenerateRequest(messages=[], temperature=2.5, seed=-(2**63)))
