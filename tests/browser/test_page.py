"""What the page shows of the host, what it changes there, and how it bears that something is away."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.conftest import visit
from tests.guest.gateway.gateways import GatewayProcess, run_gateway, write_keys
from tests.helpers.hub import Repository, run_hub
from tests.integration.hosts import HostProcess, run_host
from tests.integration.test_store import MIB, demo_files

CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex='0']"


def model(page: Page, name: str) -> Locator:
    return page.locator(".model").filter(has=page.get_by_role("heading", name=name, exact=True))


def link_of(page: Page) -> Locator:
    return page.locator("#link")


def press_tab_until(page: Page, is_there: Callable[[dict[str, Any]], bool]) -> None:
    """Go on with Tab to the control that is meant."""
    for _ in range(100):
        page.keyboard.press("Tab")
        if is_there(focused(page)):
            return
    raise AssertionError("the Tab key does not lead there")


def focused(page: Page) -> dict[str, Any]:
    """What has the focus: its id, its name, and whether that is seen."""
    told = page.evaluate("""() => {
        const { id, textContent, tagName } = document.activeElement;
        const name = document.activeElement.getAttribute('aria-label') ?? textContent.trim();
        const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
        return { id, name, tag: tagName, isSeen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 };
    }""")
    assert isinstance(told, dict)
    return told


# -- what is shown


def test_nothing_comes_from_elsewhere_and_no_text_becomes_html(
    browser: Browser, gateway: GatewayProcess
) -> None:
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    head = page.goto(gateway.url)
    assert head is not None
    policy = head.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    expect(page.locator(".model").first).to_be_visible()
    assert all(url.startswith(f"{gateway.url}/") for url in asked)
    assert f"{gateway.url}/page/main.js" in asked
    set_html = "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } }"
    assert page.evaluate(set_html) == "TypeError"
    page.close()


def test_host_and_its_models_are_seen(page: Page) -> None:
    expect(page.locator("#host")).to_contain_text("mlxbridge-host/")
    expect(page.locator("#host")).to_contain_text(re.compile(r"up \d+"))
    demo = model(page, "demo")
    expect(demo.locator(".badge")).to_have_text("ready")
    expect(demo.locator(".what")).to_have_text("1.8M parameters · float16 · context 1,024")
    expect(demo.locator(".memory")).to_contain_text("MB in use of")
    demo.locator("summary").click()
    expect(demo.locator(".more")).to_contain_text("LlamaForCausalLM")
    for tile in ("Tokens/s", "Requests", "Time to first token", "Memory"):
        expect(page.locator(".tiles dt", has_text=tile)).to_be_visible()


def test_request_is_listed_without_what_was_said(page: Page, host: HostProcess) -> None:
    with host.client() as client:
        answer = client.generate("The capital of France is", max_tokens=4, model="demo")
    row = page.locator("#calls tbody tr").first
    expect(row).to_contain_text("generate")
    expect(row).to_contain_text(f"{answer.prompt_tokens} →\u00a04")
    expect(row).to_contain_text(re.compile(r"of \d"))
    expect(page.locator(".tiles > div").nth(2)).to_contain_text(re.compile(r"\d ms|\d s"))
    assert "Paris" not in page.inner_text("body") and "capital" not in page.inner_text("body")


# -- models


def test_model_is_unloaded_and_loaded_by_keyboard_alone(page: Page, host: HostProcess) -> None:
    badge = model(page, "demo").locator(".badge")
    press_tab_until(page, lambda at: at["name"] == "Unload demo")
    page.keyboard.press("Enter")
    expect(badge).to_have_text("unloaded")
    press_tab_until(page, lambda at: at["name"] == "Load demo")
    page.keyboard.press("Enter")
    expect(badge).to_have_text("ready")
    page.locator(".happened summary").click()
    expect(page.locator("#happened")).to_contain_text("demo is unloaded")
    with host.client() as client:
        assert next(each.state for each in client.list_models() if each.name == "demo") == "ready"


def test_model_is_pulled_and_deleted(
    context: BrowserContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = Repository(files=demo_files(), stall_at=MIB)
    with run_hub(org__demo=slow) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        with run_host("unix", "--allow-pull") as host, run_gateway(host.url) as gateway:
            page = context.new_page()
            visit(page, gateway.url)
            page.fill("#pull-model", "org/demo")
            page.keyboard.press("Enter")
            work = page.locator("#pull-work")
            expect(work).to_contain_text(re.compile(r"Downloading org/demo: .* of 3\.\d MB"))
            expect(work.get_by_role("progressbar")).to_have_attribute("value", re.compile(r"\d"))
            work.get_by_role("button", name="Cancel").click()
            expect(work).to_contain_text("cancelled")
            slow.go_on.set()
            page.get_by_role("button", name="Pull").click()
            expect(work).to_contain_text("org/demo is here.")
            model(page, "demo").locator("summary").click()
            expect(model(page, "demo").locator(".more")).to_contain_text("Source")
            # It is the host's own.
            expect(model(page, "demo").get_by_role("button", name="Delete files")).to_be_hidden()
            pulled = model(page, "org/demo")
            expect(pulled.locator(".badge")).to_have_text("unloaded")
            pulled.locator("summary").click()
            pulled.get_by_role("button", name="Delete files").click()
            dialog = page.get_by_role("dialog", name="Delete org/demo?")
            dialog.get_by_role("button", name="Cancel").click()
            expect(pulled).to_be_visible()
            pulled.get_by_role("button", name="Delete files").click()
            dialog.get_by_role("button", name="Delete").click()
            expect(pulled).to_have_count(0)
            page.close()


def test_what_the_host_refuses_is_said(page: Page) -> None:
    page.fill("#pull-model", "org/demo")
    page.keyboard.press("Enter")
    expect(page.locator("#pull-work").get_by_role("alert")).to_contain_text("pull")


# -- for everybody


@pytest.mark.parametrize("view", ["now", "chat"])
def test_every_control_is_reached_by_keyboard_and_its_focus_is_seen(
    browser: Browser, gateway: GatewayProcess, view: str
) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 900})
    visit(page, gateway.url)
    page.goto(f"{gateway.url}/#{view}")
    if view == "chat":
        page.locator("#settings-button").click()
        page.locator("body").press("Escape")
    page.evaluate("document.activeElement.blur()")
    wanted = page.evaluate(
        """(controls) => [...document.querySelectorAll(controls)].filter((each) => {
            const style = getComputedStyle(each);
            return each.checkVisibility() && !each.disabled && style.visibility !== 'hidden';
        }).map((each, index) => (each.dataset.test = index))""",
        CONTROLS,
    )
    assert len(wanted) > 5
    reached = set()
    for _ in range(3 * len(wanted)):
        page.keyboard.press("Tab")
        at = focused(page)
        if at["tag"] != "BODY":
            assert at["isSeen"], at
            reached.add(page.evaluate("Number(document.activeElement.dataset.test)"))
    assert set(wanted) <= reached
    page.close()


def test_every_field_has_a_name(page: Page) -> None:
    page.locator("#settings-button").click()
    for field in page.locator("input, select, textarea").all():
        assert field.evaluate("each => each.labels.length"), field.get_attribute("id")
    for button in page.locator("button:visible").all():
        assert button.get_attribute("aria-label") or button.inner_text().strip()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(
    browser: Browser, gateway: GatewayProcess, scheme: Any
) -> None:
    """4.5 to 1, as WCAG 2.2 has it at AA."""
    page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    visit(page, gateway.url)
    page.locator("#settings-button").click()
    page.wait_for_timeout(400)  # what fades has faded
    faint = page.evaluate("""() => {
        const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
        const read = (color) => {
            context.clearRect(0, 0, 1, 1);
            context.fillStyle = color;
            context.fillRect(0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data];
        };
        const behind = (each) => {
            for (; each; each = each.parentElement) {
                const color = read(getComputedStyle(each).backgroundColor);
                if (color[3] > 250) return color;
            }
        };
        const light = (color) => color.slice(0, 3).map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        }).reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
        const texts = [...document.querySelectorAll('body *')].filter((each) => each.checkVisibility()
            && !each.disabled && [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
        return texts.map((each) => {
            const [one, other] = [light(read(getComputedStyle(each).color)), light(behind(each))].sort((a, b) => b - a);
            return [each.textContent.trim().slice(0, 40), (one + 0.05) / (other + 0.05)];
        }).filter(([, contrast]) => contrast < 4.5);
    }""")
    assert faint == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 384) == (scheme == "light")
    page.close()


def test_page_fits_a_phone(browser: Browser, gateway: GatewayProcess, host: HostProcess) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 640}, is_mobile=True, has_touch=True)
    page = context.new_page()
    visit(page, gateway.url)
    with host.client() as client:
        client.generate("The capital of France is", max_tokens=4, model="demo")
    expect(page.locator("#calls tbody tr").first).to_be_visible()
    is_too_wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(is_too_wide)
    expect(page.locator("#prompt")).to_be_hidden()
    page.get_by_role("link", name="Playground", exact=True).tap()
    expect(page.locator("#prompt")).to_be_in_viewport()
    expect(page.locator("#models")).to_be_hidden()
    page.locator("#settings-button").tap()
    expect(page.locator("#set-temperature")).to_be_visible()
    assert not page.evaluate(is_too_wide)
    for control in page.locator("button:visible, select:visible").all():
        box = control.bounding_box()
        assert box is not None and box["height"] >= 44 and box["width"] >= 44  # what a finger hits
    context.close()


# -- keys


def test_key_is_asked_for_once(
    context: BrowserContext, browser: Browser, host: HostProcess, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    write_keys(keys, alice="manage = true", bob="")
    with run_gateway(host.url, "--keys", str(keys)) as gateway:
        page = context.new_page()
        page.goto(gateway.url)
        dialog = page.get_by_role("dialog", name="API key")
        expect(link_of(page)).to_have_text("Locked")
        expect(page.locator("#notice")).to_contain_text("asks for an API key")
        page.evaluate("""() => {
            const link = document.getElementById('link');
            window.seen = new Set();
            new MutationObserver(() => seen.add(link.dataset.state)).observe(link, { attributes: true });
        }""")
        dialog.get_by_label("Key", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("does not know this key")
        expect(link_of(page)).to_have_text("Locked")
        expect(page.locator("#notice")).to_contain_text("does not know this key")
        dialog.get_by_label("Key", exact=True).fill("alice")
        page.keyboard.press("Enter")
        expect(link_of(page)).to_have_text("Live")
        assert set(page.evaluate("[...seen]")) == {"connecting", "locked", "live"}
        expect(model(page, "demo").get_by_role("button", name="Unload demo")).to_be_visible()
        page.reload()
        expect(link_of(page)).to_have_text("Live")
        expect(dialog).to_be_hidden()
        other = context.new_page()  # which it was not kept for
        other.goto(gateway.url)
        dialog = other.get_by_role("dialog", name="API key")
        dialog.get_by_label("Key", exact=True).fill("bob")
        dialog.get_by_label("Keep it").check()
        dialog.get_by_role("button", name="Use it").click()
        expect(link_of(other)).to_have_text("Live")
        third = context.new_page()
        third.goto(gateway.url)
        expect(link_of(third)).to_have_text("Live")
        expect(
            third.get_by_text("Your key may use models, but not load, unload or download them.")
        ).to_be_visible()
        for button in ("Unload demo", "Pull"):
            expect(third.get_by_role("button", name=button)).to_be_hidden()

        write_keys(keys, alice="manage = true")
        gateway.process.send_signal(signal.SIGHUP)
        dialog = third.get_by_role("dialog", name="API key")
        expect(dialog).to_be_visible()
        dialog.get_by_role("button", name="Cancel").click()
        expect(link_of(third)).to_have_text("Locked")
        third.get_by_role("button", name="Give a key").click()
        dialog.get_by_label("Key", exact=True).fill("alice")
        page.keyboard.press("Enter")
        dialog.get_by_role("button", name="Use it").click()
        expect(link_of(third)).to_have_text("Live")
        for each in (page, other, third):
            each.close()


# -- when something is away


def test_page_comes_back_with_its_gateway(context: BrowserContext, host: HostProcess) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = context.new_page()
    listen = f"127.0.0.1:{port}"
    with run_gateway(host.url, "--listen", listen) as gateway:
        visit(page, f"http://{listen}")
        assert gateway.stop() == 0
    expect(link_of(page)).to_have_text("Gateway away")
    expect(page.get_by_role("alert").filter(has_text="tries again by itself")).to_be_visible()
    expect(page.locator("#send")).to_be_in_viewport(ratio=1)
    expect(model(page, "demo")).to_be_visible()  # the last that is known
    with run_gateway(host.url, "--listen", listen):
        expect(link_of(page)).to_have_text("Live")
        expect(page.locator("#notice")).to_be_hidden()
        page.close()


def test_page_says_that_the_host_is_away(context: BrowserContext, tmp_path: Path) -> None:
    listen, url = f"unix:{tmp_path}/h.sock", f"unix://{tmp_path}/h.sock"
    with run_gateway(url) as gateway:
        page = context.new_page()
        page.goto(gateway.url)
        expect(link_of(page)).to_have_text("Host away")
        expect(page.locator("#notice")).to_contain_text("The host cannot be asked now")
        with run_host("unix", "--listen", listen):
            expect(link_of(page)).to_have_text("Live")
            expect(model(page, "demo")).to_be_visible()
        expect(link_of(page)).to_have_text("Host away")
        page.close()


if (
    "MLXBRIDGE_SCREENSHOTS" in os.environ
):  # pictures are for people to look at: nothing is missed without them

    @pytest.mark.parametrize(
        ("name", "width", "height", "scheme"),
        [("light", 1400, 900, "light"), ("dark", 1400, 900, "dark"), ("phone", 320, 640, "light")],
    )
    def test_pictures_are_taken(
        browser: Browser, gateway: GatewayProcess, name: str, width: int, height: int, scheme: Any
    ) -> None:
        folder = Path(os.environ["MLXBRIDGE_SCREENSHOTS"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        visit(page, gateway.url)
        page.screenshot(path=folder / f"{name}-now.png", full_page=True)
        page.goto(f"{gateway.url}/#chat")
        page.select_option("#model", "demo")
        page.fill("#prompt", "What is 27 + 15?")
        page.keyboard.press("Enter")
        expect(page.locator(".answered")).to_contain_text("tokens/s")
        page.screenshot(path=folder / f"{name}-chat.png")
        page.close()
