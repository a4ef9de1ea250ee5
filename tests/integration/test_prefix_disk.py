"""A long system prompt is read once, whatever ends the process that read it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxbridge import Client
from mlxbridge.errors import BridgeError
from tests.integration.hosts import TRANSPORTS, HostProcess, run_host
from tests.integration.test_lifecycle import wait_for_log

SYSTEM = "You are a calculator. " * 12


def options(folder: Path, size: str = "64MB") -> tuple[str, ...]:
    return ("--prefix-disk", size, "--prefix-disk-folder", str(folder))


def cached_tokens(client: Client, question: str = "What is 27 + 15?") -> int:
    answer = client.chat([{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}])
    assert "42" in answer.text
    return answer.usage.cached_tokens


def counters(client: Client) -> tuple[int, int]:
    """Prompts that began with what came from the disk, and damaged files."""
    details = client.status().models[0].details
    return details["prefix_disk_hits_total"], details["prefix_disk_dropped_total"]


def wait_until_written(client: Client, folder: Path) -> None:
    """Until what is on disk does not grow any more."""
    wait(lambda: client.status().models[0].details["prefix_disk_bytes"] > 0)
    seen = -1
    while seen != (seen := len(list(folder.glob("*/*")))):
        time.sleep(0.1)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_restarted_host_reads_no_prompt_again_but_of_damaged_files_which_it_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the user's own folder, where none is named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with run_host(TRANSPORTS[0], "--prefix-disk", "64MB") as host, host.client(timeout=60) as client:
        assert cached_tokens(client) == 0
        assert host.stop() == 0
    (folder,) = tmp_path.rglob("mlxbridge/prefixes")
    assert folder.stat().st_mode & 0o777 == 0o700
    with run_host(TRANSPORTS[0], *options(folder)) as host, host.client(timeout=60) as client:
        assert cached_tokens(client) >= 64
        assert counters(client) == (1, 0)
        assert "WARNING" not in host.log.read_text()
        assert host.stop() == 0
    damaged = next(folder.glob("*/*"))
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 16
    damaged.write_bytes(data)
    with run_host(TRANSPORTS[0], *options(folder)) as host, host.client(timeout=60) as client:
        cached_tokens(client)
        assert counters(client)[1] == 1
        assert f"WARNING dropped a cached prefix, {damaged}: its check sum is wrong" in host.log.read_text()


def test_worker_that_is_killed_leaves_what_it_has_read(tmp_path: Path) -> None:
    folder = tmp_path / "prefixes"
    with run_host(TRANSPORTS[0], *options(folder)) as host, host.client(timeout=60) as client:
        assert cached_tokens(client) == 0
        wait_until_written(client, folder)
        os.kill(host.worker_pid(client), signal.SIGKILL)
        wait_for_log(host, "killed by SIGKILL")
        assert cached_tokens(client) >= 64
        assert counters(client) == (1, 0)


def test_host_that_is_killed_amid_writing_starts_again(tmp_path: Path) -> None:
    """Wherever that hits it, what is there is whole, and used."""
    folder = tmp_path / "prefixes"
    with run_host(TRANSPORTS[0], *options(folder, "3MB")) as host:
        with host.client(timeout=60) as client:
            client.load_model("demo")
            worker = host.worker_pid(client)
        asking = [threading.Thread(target=keep_asking, args=(host, number)) for number in range(4)]
        for thread in asking:
            thread.start()
        wait(lambda: len(list(folder.glob("*/*"))) > 2)
        os.kill(worker, signal.SIGKILL)
        host.process.kill()
        for thread in asking:
            thread.join()
        assert "dropped" not in host.log.read_text()
    assert sum(path.stat().st_blocks * 512 for path in folder.glob("*/*")) <= 3 << 20
    with run_host(TRANSPORTS[0], *options(folder, "3MB")) as host, host.client(timeout=60) as client:
        assert cached_tokens(client) == 0 and cached_tokens(client) >= 64
        assert counters(client)[1] == 0
        assert "WARNING" not in host.log.read_text()


def keep_asking(host: HostProcess, number: int) -> None:
    """Ever new prompts, until the host is gone."""
    try:
        with host.client(timeout=30) as client:
            for count in range(1000):
                client.generate(f"{number} {count} " * 30, max_tokens=4)
    except BridgeError:
        return


def test_folder_that_cannot_be_written_hurts_no_call(tmp_path: Path) -> None:
    """A host that is root may write anywhere: but not below a file."""
    (tmp_path / "file").write_text("")
    with (
        run_host(TRANSPORTS[0], *options(tmp_path / "file" / "prefixes")) as host,
        host.client(timeout=60) as client,
    ):
        assert cached_tokens(client) == 0
        assert cached_tokens(client) >= 64
        assert host.log.read_text().count("prefixes are not kept on disk: ") == 1


def test_nothing_is_kept_without_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with run_host(TRANSPORTS[0]) as host, host.client(timeout=60) as client:
        cached_tokens(client)
        assert host.stop() == 0
    assert not list(tmp_path.rglob("prefixes"))
