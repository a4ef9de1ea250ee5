"""The list of models through openai's own clients."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.guest.gateway.openai.sdk import check


def test_models_are_what_openai_gives(client: Any) -> None:
    page = client.models.list()
    names = ["demo", "gpt-4o", "caller", "thinker", "finder", "judge"]
    assert [check(model).id for model in page.data] == names
    assert {model.owned_by for model in page.data} == {"mlxbridge"}


def test_one_model_is_found_by_its_name_or_alias(client: Any) -> None:
    assert check(client.models.retrieve("finder")).id == "finder"
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"


@pytest.mark.parametrize("name", ["davinci", "org/model", "a b"])
def test_model_that_there_is_not_is_told(client: Any, name: str) -> None:
    with pytest.raises(openai.NotFoundError, match="it has demo, caller, thinker, finder, judge") as caught:
        client.models.retrieve(name)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
