"""A worker process seen from the front: how it ends, and that it does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, InternalError, Overloaded, WorkerLost
from mlxbridge.host.engine.interface import Origin
from mlxbridge.host.models import process as process_module
from mlxbridge.host.models import worker as worker_module
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.step import pass_on
from mlxbridge.host.models.worker import Worker
from mlxbridge.protocol.events import CallOpened, TokensReceived
from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.limits import MAX_TOTAL, Limits
from mlxbridge.protocol.parts import Part
from tests.helpers.wire import make_host, pump
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer


class Sink:
    def __init__(self) -> None:
        self.ends: dict[int, Any] = {}
        self.frames: list[Any] = []

    def send_tokens(
        self, calls: Any, token_ids: Any, texts: Any, logprobs: Any = None, parts: Any = None
    ) -> None:
        self.frames.append([calls, token_ids, texts, logprobs, parts])

    def send_item(self, call: int, value: Any) -> None: ...

    def begin_data(self, *begun: Any) -> None:
        raise AssertionError("nothing here has payloads")

    def continue_data(self, call: int, data: memoryview) -> None:
        raise AssertionError("nothing here has payloads")

    def finish(self, call: int, result: Any) -> None:
        self.ends[call] = result

    def fail(self, call: int, error: BridgeError) -> None:
        self.ends[call] = error

    def flush(self) -> None: ...


class Slow:
    """A model folder with a file that is a pipe: loading it takes as long as a test wants."""

    def __init__(self, folder: Path) -> None:
        save_model(folder)
        save_tokenizer(byte_level_tokenizer(), folder)
        self.folder = folder
        self._pipe = folder / "generation_config.json"
        os.mkfifo(self._pipe)

    @contextlib.contextmanager
    def being_loaded(self) -> Iterator[None]:
        """Entered once somebody has opened the file; he waits until the end of the block."""
        fd = self._open(time.monotonic() + 60)
        try:
            yield
        finally:
            os.close(fd)

    def _open(self, deadline: float) -> int:
        while True:
            try:
                return os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    return Slow(tmp_path / "slow")


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    made = await Worker.start()
    yield made
    await made.stop()
    assert made.process.returncode is not None


async def shaken_hands(worker: Worker) -> None:
    """Its loop answers: signal handlers are in place."""
    with pytest.raises(BridgeError, match="before a model was loaded"):
        await worker.ask("stats", {})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_to_the_whole_group_are_the_fronts_business(
    worker: Worker, number: signal.Signals
) -> None:
    await shaken_hands(worker)
    worker.process.send_signal(number)
    await shaken_hands(worker)


async def test_process_is_told_how_to_log_at_its_start_and_whenever_that_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []
    open_call = GuestConnection.open_call

    def noted(self: Any, method: str, params: Any, **more: Any) -> int:
        if method == "log":
            told.append(params["level"])
        return open_call(self, method, params, **more)

    monkeypatch.setattr(GuestConnection, "open_call", noted)
    monkeypatch.setattr(worker_module, "current_level", lambda: 10 * (1 + len(told)))
    worker = await Worker.start()
    try:
        worker.set_log()  # too early, and made up for
        await shaken_hands(worker)
        worker.set_log()
        await shaken_hands(worker)  # it minds neither
    finally:
        await worker.stop()
    assert told == [10, 20]


async def test_looks_at_a_busy_worker_share_one_answer_and_leave_room_for_calls() -> None:
    worker = await Worker.start()
    try:
        await shaken_hands(worker)
        worker.process.send_signal(signal.SIGSTOP)
        first = asyncio.gather(*(worker.count() for _ in range(50)), return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(worker._questions) == 1
        first.cancel()  # nobody waits any more
        again = asyncio.gather(*(worker.count() for _ in range(50)), return_exceptions=True)
        await asyncio.sleep(0)
        assert len(worker._questions) == 1
        worker.process.send_signal(signal.SIGCONT)
        assert {type(error) for error in await again} == {InternalError}  # it has no model to count for
        with pytest.raises(InternalError):
            await worker.count()  # which is asked anew
    finally:
        await worker.stop()


async def test_killed_worker_says_by_what(worker: Worker) -> None:
    await shaken_hands(worker)
    worker.process.kill()
    assert await worker.ended() == "was killed by SIGKILL"
    with pytest.raises(WorkerLost) as caught:
        await worker.ask("stats", {})
    assert "started again" not in caught.value.message


async def test_worker_killed_before_it_shook_hands_says_by_what(worker: Worker) -> None:
    asked = asyncio.create_task(worker.ask("stats", {}))
    worker.process.kill()
    with pytest.raises(WorkerLost):
        await asked
    assert await worker.ended() == "was killed by SIGKILL"


async def test_worker_that_does_not_stop_is_killed(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "STOP_TIMEOUT_S", 0.05)
    await shaken_hands(worker)
    worker.process.send_signal(signal.SIGSTOP)
    await worker.stop()
    assert worker.process.returncode == -signal.SIGKILL


async def test_worker_that_lost_its_link_and_stays_is_killed(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "STOP_TIMEOUT_S", 0.05)
    await shaken_hands(worker)
    worker.process.send_signal(signal.SIGSTOP)
    worker._driver.abort()
    assert "had to be killed" in await worker.ended()


async def test_stop_before_the_handshake_warns_nobody() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    made = await Worker.start()
    await made.stop()
    assert await made.ended()
    del made
    await asyncio.sleep(0)
    assert told == []


def test_step_is_regrouped_by_guest_and_each_gets_the_columns_it_asked_for() -> None:
    one, other, third = Sink(), Sink(), Sink()
    asked = enumerate([(one, 7), (other, 7), (one, 8), (third, 1)], start=1)
    jobs = {number: Job(sink, call, "generate", {}) for number, (sink, call) in asked}
    columns = [1, 2, 3, 4, 5], [[1], [2], [3], [4], [5]], ["a", "b", "c", "d", "e"]
    pass_on(TokensReceived(*columns), jobs)
    logprobs = [None, None, [b"x"], None, [b"of a call that is gone"]]
    pass_on(TokensReceived(*columns, logprobs), jobs)
    parts: list[list[Part] | None] = [None, None, None, [[1, "hm"]], [[1, "of a call that is gone"]]]
    pass_on(TokensReceived(*columns, None, parts), jobs)
    pass_on(TokensReceived(*columns, logprobs, parts), jobs)
    plain = [[7, 8], [[1], [3]], ["a", "c"], None, None]
    with_logprobs = [*plain[:3], [None, [b"x"]], None]
    assert one.frames == [plain, with_logprobs, plain, with_logprobs]
    assert other.frames == [[[7], [[2]], ["b"], None, None]] * 4
    row = [[1], [[4]], ["d"], None]
    assert third.frames == [[*row, None], [*row, None], [*row, [[[1, "hm"]]]], [*row, [[[1, "hm"]]]]]


NOTHING: Mapping[str, Any] = {}


def job_of(origin: Origin, params: Mapping[str, Any] = NOTHING) -> Job:
    return Job(Sink(), 1, "generate", params, origin)


def test_what_the_guest_wrote_cannot_say_whose_call_it_is() -> None:
    params = {"prompt": "x", "guest": "token other", "cache_scope": "other", "request_id": "other"}
    origin = Origin(guest="token own", cache_scope="own", deadline_at=time.monotonic() + 10, request_id="own")
    assert job_of(origin, params).for_worker() == {
        "request": params,
        "request_id": "own",
        "guest": "token own",
        "cache_scope": "own",
    }
    left = job_of(origin).time_left_ms
    assert left is not None and 9_000 < left <= 10_000
    assert job_of(Origin(deadline_at=time.monotonic() - 1)).time_left_ms == 0
    latest = time.monotonic() + MAX_TOTAL / 1000  # in a float it may be a little more
    assert job_of(Origin(deadline_at=latest + 1e4)).time_left_ms == MAX_TOTAL
    assert job_of(Origin()).time_left_ms is None


async def test_params_are_not_kept_once_they_are_passed_on(worker: Worker) -> None:
    await shaken_hands(worker)
    job = Job(Sink(), 1, "generate", {"prompt": "x" * 1000})
    worker.submit(job)
    assert job.params == {}


async def test_calls_that_the_worker_does_not_take_are_bounded(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "MAX_UNSENT_BYTES", 2_000_000)
    await shaken_hands(worker)
    worker.process.send_signal(signal.SIGSTOP)
    sink = Sink()
    for call in range(200):
        worker.submit(Job(sink, call, "generate", {"prompt": "x" * 1_000_000}))
        await asyncio.sleep(0)
        if sink.ends:
            break
    assert isinstance(sink.ends[call], Overloaded)
    assert worker._connection.unsent_bytes < 4_000_000
    worker.process.kill()  # its backlog need not be read


async def test_worker_that_has_no_room_learns_later_which_calls_are_held_and_which_are_not() -> None:
    worker = Worker(Dying())  # type: ignore[arg-type]
    process = make_host(limits=Limits(max_calls=3))
    pump(worker._connection, process)
    worker._on_events()
    told: list[CallOpened] = []

    def listen() -> None:
        pump(worker._connection, process)
        worker._on_events()
        pump(worker._connection, process)
        told.extend(event for event in process.events() if isinstance(event, CallOpened))

    listen()
    process.finish(told.pop().call, {})  # of how to log
    listen()
    one, other = (Job(Sink(), call, "generate", {}) for call in (1, 2))
    for job in (one, other):
        worker.submit(job)
        job.is_held = True
        worker.note_held(job)
    listen()
    assert [event.method for event in told] == ["generate", "hold", "generate"]
    one.is_held = False
    worker.note_held(one)
    assert not worker._connection.can_open
    process.finish(told[1].call, {})
    listen()
    process.finish(told[3].call, {})
    listen()
    assert [(event.method, event.params) for event in told[3:]] == [
        ("go_on", {"call": told[0].call}),
        ("hold", {"call": told[2].call}),
    ]


FRONT = """
import asyncio, sys
from mlxbridge.host.models.memory import Memory
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource
from pathlib import Path

async def main():
    folder = Path(sys.argv[1])
    source = ModelSource(name="slow", kind="folder", folder=folder)
    model = Model(ModelSettings(name="slow", source=source), Memory())
    model.start()
    while "pid" not in (report := await model.report()):
        await asyncio.sleep(0.001)
    print(report["pid"], flush=True)
    await model.load()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_worker_dies_with_its_front_even_while_it_loads(slow: Slow) -> None:
    command = [sys.executable, "-c", FRONT, str(slow.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout is not None
        pid = int(front.stdout.readline())
        with slow.being_loaded():
            gone = os.pidfd_open(pid)
            front.kill()
            front.wait()
            assert ended_within(gone, 10), "the worker outlived its front"


def ended_within(pidfd: int, seconds: float) -> bool:
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


async def test_worker_without_its_front_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlxbridge.host.worker", "--fd", "0", "--front", "1"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"the front has gone" in said


async def test_worker_takes_no_library_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlxbridge").mkdir()
    (tmp_path / "msgpack.py").write_text("raise SystemExit('not the library')")
    monkeypatch.chdir(tmp_path)
    worker = await Worker.start()
    try:
        with pytest.raises(InternalError, match="before a model was loaded"):
            await worker.ask("stats", {})
    finally:
        await worker.stop()


class Dying:
    """A process whose end a test brings about between two steps of the event loop."""

    returncode: int | None = None

    def __init__(self) -> None:
        self.gone = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        await self.gone
        return -9


async def test_cancel_is_not_lost_if_the_process_ends_at_that_moment() -> None:
    process = Dying()
    stopping = asyncio.create_task(Worker(process).stop())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    process.gone.set_result(None)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
