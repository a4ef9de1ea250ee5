"""The front's methods, without a connection and without worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import pytest

from mlxbridge.errors import InvalidArgument, ModelNotFound, PermissionDenied, UnknownMethod
from mlxbridge.host.engine.interface import Origin
from mlxbridge.host.models import upkeep as upkeep_module
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.server.guest_calls import GuestCalls
from mlxbridge.host.server.methods import GuestMethods
from mlxbridge.protocol.events import CallOpened
from tests.host.models.fake_worker import FakeWorker
from tests.host.models.plenty import plenty


class FakeCalls:
    """Remembers what it was told to send."""

    def __init__(self) -> None:
        self.items: list[tuple[int, Any]] = []
        self.work: Callable[[], Awaitable[Mapping[str, Any]]] | None = None
        self.tell: Callable[[int], object] = lambda items: None

    def send_item(self, call: int, value: Any) -> None:
        self.items.append((call, value))

    def watch_credit(self, call: int, tell: Callable[[int], object]) -> int:
        self.tell = tell
        return 5

    def name_model(self, call: int, model: str) -> None:
        pass

    def origin(self, call: int, deadline_ms: int | None, adapter: str | None = None) -> Origin:
        return Origin(guest="tester", deadline_at=None if deadline_ms is None else 1e9)

    def run(self, call: int, work: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        self.work = work


class Nobody:
    def count(self) -> tuple[int, int]:
        return 0, 0


def open_call(
    methods: GuestMethods, method: str, params: dict[str, Any], calls: FakeCalls | None = None
) -> None:
    methods.open(cast(GuestCalls, calls or FakeCalls()), CallOpened(7, method, params, None))


async def test_load_passes_the_workers_progress_on(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.started = []
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    catalogue, calls = Catalogue([ModelSettings.of("demo")], plenty()), FakeCalls()
    open_call(GuestMethods(catalogue, Nobody()), "load", {"model": "demo"}, calls)
    assert calls.work is not None
    load = asyncio.ensure_future(calls.work())
    worker = await FakeWorker.number(1)
    worker.tell({"stage": "loading"})
    worker.become_ready()
    assert (await load)["state"] == "ready"
    assert calls.items == [(7, {"stage": "loading"})]
    await catalogue.close()


async def test_status_tells_of_the_machine_and_of_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.started = []
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    settings = ModelSettings.of("demo", aliases=("tiny", "small"), keep_alive_s=60.0)
    catalogue, calls = Catalogue([settings], plenty(10 << 30)), FakeCalls()
    methods = GuestMethods(catalogue, Nobody())
    open_call(methods, "status", {}, calls)
    assert calls.work is not None
    assert "chip" not in await calls.work()  # not known yet
    load = asyncio.ensure_future(catalogue.find("tiny").load())
    worker = await FakeWorker.number(1)
    worker.stats = {"used_bytes": 7, "running": 0}
    worker.become_ready()
    await load
    status = await calls.work()
    budget = 10 << 30
    assert status["chip"] == "Test Chip"
    assert status["memory"] == {
        "total_bytes": 64 << 30,
        "budget_bytes": budget,
        "reserved_bytes": budget,
        "used_bytes": 7,
    }
    (entry,) = status["models"]
    expected = {
        "state": "ready",
        "aliases": ["tiny", "small"],
        "pinned": False,
        "keep_alive_s": 60.0,
        "reserved_bytes": budget,
        "used_bytes": 7,
        "running": 0,
        "queued": 0,
        "calls": 0,
    }
    assert {name: entry[name] for name in expected} == expected
    assert entry["kind"] == "generate" and entry["deletable"] is False
    assert 0 < entry["estimated_bytes"] < budget and 59 < entry["expires_in_s"] <= 60
    worker.is_stuck = True
    status = await calls.work()
    assert status["models"][0]["stats"] == "not answered"
    assert "used_bytes" not in status["memory"]  # not 0: it is not known
    await catalogue.close()


async def test_load_takes_how_long_the_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.started = []
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    catalogue, calls = Catalogue([ModelSettings.of("demo")], plenty()), FakeCalls()
    methods = GuestMethods(catalogue, Nobody())
    with pytest.raises(InvalidArgument, match="keep_alive: 'soon' is no time"):
        open_call(methods, "load", {"model": "demo", "keep_alive": "soon"})
    open_call(methods, "load", {"model": "demo", "keep_alive": "30m"}, calls)
    assert calls.work is not None
    load = asyncio.ensure_future(calls.work())
    (await FakeWorker.number(1)).become_ready()
    assert (await load)["keep_alive_s"] == 1800
    await catalogue.close()


def test_pinned_model_is_not_unloaded_by_guests() -> None:
    catalogue = Catalogue([ModelSettings.of("demo", pin=True)], plenty())
    with pytest.raises(PermissionDenied, match="demo is pinned by this host's configuration"):
        open_call(GuestMethods(catalogue, Nobody()), "unload", {"model": "demo"})


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("x" * 100_000, {}, UnknownMethod),
        ("generate", {"prompt": "a", "model": "x" * 100_000}, ModelNotFound),
        ("generate", {"prompt": "a", "guest": "token somebody"}, InvalidArgument),
        ("generate", {"prompt": "a", "cache_scope": "somebody"}, InvalidArgument),
    ],
)
def test_long_names_are_refused_without_comparing_all_of_them(
    monkeypatch: pytest.MonkeyPatch, method: str, params: dict[str, Any], error: type[Exception]
) -> None:
    import difflib

    compared: list[int] = []
    real = difflib.SequenceMatcher.set_seq2

    def counted(matcher: difflib.SequenceMatcher[str], text: str) -> None:
        compared.append(len(text))
        real(matcher, text)

    monkeypatch.setattr(difflib.SequenceMatcher, "set_seq2", counted)
    with pytest.raises(error) as caught:
        open_call(GuestMethods(Catalogue([ModelSettings.of("demo")], plenty()), Nobody()), method, params)
    assert compared and max(compared) <= 100
    assert len(str(caught.value)) < 1000


async def test_call_goes_to_the_model_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.started = []
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    catalogue = Catalogue([ModelSettings.of("demo")], plenty())
    methods = GuestMethods(catalogue, Nobody())
    methods.open(cast(GuestCalls, FakeCalls()), CallOpened(7, "generate", {"prompt": "a"}, 5000))
    worker = await FakeWorker.number(1)
    worker.become_ready()
    while not worker.jobs:
        await asyncio.sleep(0)
    job = worker.jobs.pop()
    assert job.origin == Origin(guest="tester", deadline_at=1e9)
    await catalogue.close()


async def test_job_of_many_requests_keeps_to_the_guests_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.started = []
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    catalogue, calls = Catalogue([ModelSettings.of("demo")], plenty()), FakeCalls()
    params = {"requests": [{"prompt": "a"}, "no request, but that is between it and the worker"]}
    open_call(GuestMethods(catalogue, Nobody()), "generate_many", params, calls)
    worker = await FakeWorker.number(1)
    calls.tell(6)  # while the model is loaded
    worker.become_ready()
    while not worker.jobs:
        await asyncio.sleep(0)
    job = worker.jobs.pop()
    assert (job.method, job.params, job.items) == ("generate_many", params, 6)
    for items in (6, 8, 7):
        calls.tell(items)
    assert worker.granted == [6, 8]
    await catalogue.close()


@pytest.mark.parametrize(
    ("params", "field"),
    [({}, "requests"), ({"requests": [], "top_p": 2}, "top_p"), ({"requests": [], "prompt": "a"}, "prompt")],
)
def test_many_requests_with_a_wrong_param_in_common_are_refused_by_the_front(
    params: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        open_call(
            GuestMethods(Catalogue([ModelSettings.of("demo")], plenty()), Nobody()), "generate_many", params
        )
    assert caught.value.details["field"] == field
