"""The page's chat with the host's models."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import MARKUP
from tests.integration.hosts import HostProcess

FACTS = re.compile(r"\d+ tokens · first after [\d.]+ m?s · [\d.,]+ tokens/s · prompt \d+ tokens")


@pytest.fixture(autouse=True)
def at_the_playground(page: Page) -> None:
    page.get_by_label("Model", exact=True).select_option("demo")


def ask(page: Page, text: str, *, model: str = "demo") -> Locator:
    """Ask, and give the answer, which may still be coming."""
    page.get_by_label("Model", exact=True).select_option(model)
    before = page.locator(".answered").count()
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    return page.locator(".answered").nth(before)


def wait_until_whole(answer: Locator) -> None:
    expect(answer).not_to_have_class(re.compile("busy"))


def set_field(page: Page, label: str, value: str) -> None:
    if page.locator("#settings").is_hidden():
        page.locator("#settings-button").click()
    field = page.locator("#settings").get_by_label(label, exact=True)
    if field.evaluate("each => each.tagName") == "SELECT":
        field.select_option(label=value)
    else:
        field.fill(value)


def switch_thinking_off(page: Page) -> None:
    page.get_by_label("Model", exact=True).select_option("talker")
    set_field(page, "Thinking", "off")


def wait_until(locator: Locator, expression: str) -> None:
    deadline = time.monotonic() + 30
    while not locator.evaluate(expression):
        assert time.monotonic() < deadline, expression
        locator.page.wait_for_timeout(50)


def test_answer_comes_with_its_speed(page: Page) -> None:
    answer = ask(page, "What is 27 + 15?")
    expect(answer.locator(".text").last).to_have_text("27 + 15 = 42.")
    expect(answer.locator(".facts-line")).to_have_text(FACTS)
    expect(page.locator("#spoken")).to_contain_text("27 + 15 = 42.")
    expect(page.locator("#calls tbody tr").first).to_contain_text("/v1/chat/completions")
    again = ask(page, "What is 27 + 16?")
    expect(again.locator(".text").last).to_have_text("27 + 16 = 43.")
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.get_by_label("Message", exact=True)).to_be_focused()


def test_models_that_cannot_chat_are_not_offered(page: Page) -> None:
    expect(page.locator(".model h4")).to_have_text(["demo", "talker", "embedder"])
    assert page.locator("#model option").all_text_contents() == ["demo", "talker"]


def test_keyboard_alone_will_do(page: Page) -> None:
    page.locator("body").press("Tab")
    expect(page.get_by_role("link", name="Skip to the playground")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("What is 27")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("+ 15?")
    assert page.get_by_label("Message", exact=True).input_value() == "What is 27\n+ 15?"
    page.keyboard.press("Enter")
    wait_until_whole(page.locator(".answered"))
    expect(page.locator(".asked")).to_have_text("YouWhat is 27\n+ 15?")


def test_text_of_a_model_is_text(page: Page) -> None:
    switch_thinking_off(page)
    title = page.title()
    answer = ask(page, "Markup", model="talker")
    wait_until_whole(answer)
    assert answer.locator(".text").last.text_content() == MARKUP
    expect(answer.locator("img, b")).to_have_count(0)
    assert page.title() == title


def test_code_stands_in_blocks(page: Page) -> None:
    switch_thinking_off(page)
    answer = ask(page, "Code", model="talker")
    wait_until_whole(answer)
    expect(answer.locator("pre")).to_have_count(1)
    assert answer.locator("pre code").text_content() == "print(1)\n# <b>\n"
    expect(answer.locator(".text > p").first).to_have_text("Like this:")
    expect(answer.locator(".text > p").last).to_have_text("Done.")


def test_thinking_is_shown_apart(page: Page) -> None:
    answer = ask(page, "Rain?", model="talker")
    wait_until_whole(answer)
    expect(answer.locator(".text").last).to_have_text("It rains.")
    thoughts = answer.locator("details")
    expect(thoughts.locator("summary")).to_have_text(re.compile(r"Thought for [\d.]+ m?s"))
    expect(thoughts.locator(".text")).to_be_hidden()
    thoughts.locator("summary").click()
    expect(thoughts.locator(".text")).to_have_text("They ask for rain.")


def test_answer_keeps_to_a_schema(page: Page) -> None:
    schema = {
        "type": "object",
        "properties": {"markup": {"const": "<b>x</b>"}, "sum": {"enum": [42]}},
        "required": ["markup", "sum"],
        "additionalProperties": False,
    }
    set_field(page, "Answer", "JSON schema")
    set_field(page, "JSON schema", json.dumps(schema))
    answer = ask(page, "What is 27 + 15?")
    wait_until_whole(answer)
    told = answer.locator(".text").last.text_content() or ""
    assert json.loads(told) == {"markup": "<b>x</b>", "sum": 42}
    assert told == json.dumps(json.loads(told), indent=2)


def test_schema_that_is_wrong_is_told_and_nothing_is_sent(page: Page) -> None:
    set_field(page, "Answer", "JSON schema")
    prefilled = json.loads(page.get_by_label("JSON schema").input_value())
    assert prefilled["additionalProperties"] is False
    set_field(page, "JSON schema", '{"type": ')
    page.get_by_label("Message", exact=True).fill("x")
    page.get_by_label("Message", exact=True).press("Enter")
    expect(page.locator("#composer-error")).to_contain_text("The schema is no JSON")
    expect(page.locator("#composer-error")).to_be_in_viewport(ratio=1)
    expect(page.get_by_label("JSON schema")).to_be_in_viewport(ratio=0.5)
    expect(page.get_by_label("JSON schema")).to_be_focused()
    expect(page.locator(".turn")).to_have_count(0)
    set_field(page, "JSON schema", '{"type": "array", "uniqueItems": true}')
    expect(page.locator("#composer-error")).to_be_hidden()
    answer = ask(page, "x")
    expect(answer.locator(".error")).to_contain_text("uniqueItems")
    set_field(page, "Answer", "text")
    page.get_by_label("Message", exact=True).fill("What is 27 + 15?")
    page.keyboard.press("Enter")
    expect(page.locator(".answered").nth(1).locator(".text").last).to_have_text("27 + 15 = 42.")


def test_number_that_cannot_be_is_named(page: Page) -> None:
    set_field(page, "Top p", "7")
    page.get_by_label("Message", exact=True).fill("x")
    page.get_by_label("Message", exact=True).press("Enter")
    expect(page.locator("#composer-error")).to_contain_text("Top p")
    expect(page.get_by_label("Top p")).to_be_focused()


def test_settings_are_sent_and_kept(page: Page) -> None:
    set_field(page, "Most tokens", "3")
    set_field(page, "System prompt", "Be short.")
    set_field(page, "Temperature", "0.5")
    set_field(page, "Top k", "4")
    set_field(page, "Min p", "0.05")
    set_field(page, "Seed", "7")
    set_field(page, "Repetition penalty", "1.1")
    page.reload()
    expect(page.locator("#settings-count")).to_have_text("7")
    expect(page.get_by_label("Model", exact=True)).to_have_value(re.compile("."))
    with page.expect_request("**/v1/chat/completions") as asked:
        answer = ask(page, "What is 27 + 15?")
    sent: Any = asked.value.post_data_json
    assert sent["messages"][0] == {"role": "system", "content": "Be short."}
    assert (sent["max_tokens"], sent["temperature"], sent["top_k"], sent["min_p"]) == (3, 0.5, 4, 0.05)
    assert (sent["seed"], sent["repetition_penalty"]) == (7, 1.1)
    expect(answer.locator(".facts-line")).to_contain_text("3 tokens")
    expect(answer.locator(".facts-line")).to_contain_text("cut off")


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_answer_is_stopped(page: Page, host: HostProcess, way: str) -> None:
    switch_thinking_off(page)
    answer = ask(page, "Forever", model="talker")
    expect(answer.locator(".text").last).to_contain_text("on and on, on and on,")
    if way == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    expect(answer.locator(".facts-line")).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    with host.client() as client:
        deadline = time.monotonic() + 30
        while any(model.details.get("running") for model in client.status().models):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_reader_who_has_gone_up_is_left_there(page: Page) -> None:
    switch_thinking_off(page)
    page.locator("#settings-button").click()
    answer = ask(page, "Forever", model="talker")
    turns = page.locator("#turns")
    wait_until(turns, "each => each.scrollTop > 50")
    turns.evaluate("each => { each.scrollTop = 0; }")
    before = len(answer.text_content() or "")
    wait_until(answer, f"each => each.textContent.length > {before + 200}")
    assert turns.evaluate("each => each.scrollTop") == 0
    page.keyboard.press("Escape")
    expect(answer.locator(".facts-line")).to_contain_text("stopped")
