"""A Chromium, and a gateway before a host whose models say what a page has to be shown with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.host.engine.scripted import END, save_scripted_model
from tests.integration.hosts import HostProcess, run_host

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MARKUP = "<img src=x onerror=\"document.title = 'run'\"><b>bold</b>"
SCRIPTS = {
    "<think>": ["They ask ", "for rain.", "</think>", "\n\nIt rains.", END],
    "Markup": [MARKUP, END],
    "Code": ["Like this:\n", "\n``", "`python\n", "print(1)\n", "# <b>\n", "```", "\n", "Done.", END],
    "Forever": ["on ", "and on, ", "on "],
}

expect.set_options(timeout=30_000)  # others use this machine, too


def find_chromium() -> str | None:
    """What ``MLXBRIDGE_CHROMIUM`` names, which may be none; else what is installed."""
    if "MLXBRIDGE_CHROMIUM" in os.environ:
        return os.environ["MLXBRIDGE_CHROMIUM"] or None
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("there is no Chromium here; tests/browser/run.sh has it installed, and runs this")
    # One a module: while Playwright's runs, this thread has an event loop that tests of asyncio could not share.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder = tmp_path_factory.mktemp("models") / "talker"
    save_scripted_model(folder, SCRIPTS, context_length=100_000)
    embedder = folder.parent / "embedder"  # told by its files; nobody loads it
    embedder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (embedder / name).write_text('{"model_type": "bert"}')
    with run_host("unix", models=("demo", str(folder), str(embedder))) as host:
        with host.client() as client:
            for model in ("demo", "talker"):
                client.load_model(model, timeout=120)
        yield host


@pytest.fixture(scope="session")
def gateway(host: HostProcess) -> Iterator[GatewayProcess]:
    with run_gateway(host.url) as gateway:
        yield gateway


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What one visitor's browser keeps; whatever goes wrong in a page of hers fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(30_000)
    wrong: list[str] = []

    def read(message: ConsoleMessage) -> None:
        # Requests that fail are told of, too, and a page whose gateway is away has some.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            wrong.append(message.text)

    context.on("console", read)
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    yield context
    context.close()
    assert wrong == []


@pytest.fixture
def page(context: BrowserContext, gateway: GatewayProcess) -> Page:
    """The page, of which it is known what the host does."""
    page = context.new_page()
    visit(page, gateway.url)
    return page


def visit(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    expect(page.locator(".model").first).to_be_visible()
