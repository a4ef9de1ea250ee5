"""A real host that is told to read its configuration again, by a real signal."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlxbridge import Client
from mlxbridge.errors import AuthenticationError, ConnectionLost, ModelNotFound
from tests.integration.hosts import HostProcess, run_host

BEFORE = """
[models.stays]
source = "demo"
[models.goes]
source = "demo"
aliases = ["handed-on"]
"""
AFTER = """
[models.stays]
source = "demo"
aliases = ["handed-on"]
keep_alive = "5m"
[models.comes]
source = "demo"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def host(file: Path) -> Iterator[HostProcess]:
    file.write_text(BEFORE)
    with run_host("unix", "--config", str(file), models=()) as host:
        yield host


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reload(host: HostProcess, file: Path, text: str, said: str = "has been read again") -> str:
    """The lines that the host has logged since."""
    before = len(host.log.read_text())
    file.write_text(text)
    host.process.send_signal(signal.SIGHUP)
    until(lambda: said in host.log.read_text()[before:])
    return host.log.read_text()[before:]


def names(client: Client) -> list[str]:
    return [model.name for model in client.list_models()]


def test_models_come_go_and_change_while_the_host_runs(host: HostProcess, file: Path) -> None:
    with host.client() as client:
        client.load_model("stays")
        pid = host.worker_pid(client)
        stream = client.stream("one two three", model="handed-on", max_tokens=300, ignore_eos=True)
        next(iter(stream))
        log = reload(host, file, AFTER)
        assert "models removed: goes" in log
        assert "models added: comes" in log
        assert "models changed: stays" in log
        assert names(client) == ["stays", "comes"]
        with pytest.raises(ModelNotFound, match="'goes'"):
            client.generate("x", model="goes")
        assert stream.read().usage.completion_tokens == 300  # what had begun was ended
        assert client.generate("x", model="handed-on", max_tokens=1).model == "stays"
        (stays, _) = client.status().models
        assert stays.details["pid"] == pid  # not loaded again for other terms
        assert stays.details["keep_alive_s"] == 300.0
        assert client.generate("x", model="comes", max_tokens=1).model == "comes"


def test_model_that_is_to_be_loaded_otherwise_is_loaded_again(host: HostProcess, file: Path) -> None:
    with host.client() as client:
        client.load_model("stays")
        log = reload(host, file, BEFORE.replace("[models.goes]", "max_batch = 3\n[models.goes]"))
        assert "models reloaded: stays" in log
        answer = client.generate("x", model="stays", max_tokens=1)
        assert answer.model == "stays"
        assert names(client) == ["stays", "goes"]


def test_what_is_wrong_or_cannot_change_is_named_and_the_rest_changes(host: HostProcess, file: Path) -> None:
    with host.client() as client:
        log = reload(host, file, "[models.stays]\nsauce = 'demo'\n", "stays as it was")
        assert f"{file}:2: models.stays.sauce: there is no such key; did you mean source?" in log
        assert "RecursionError" in reload(host, file, f"listen = {'[' * 5000}", "stays as it was")
        assert "no TOML" in reload(host, file, "[models.stays\n", "stays as it was")
        assert names(client) == ["stays", "goes"]
        log = reload(host, file, f'memory = "1TB"\n{BEFORE}')
        unset = "what the device recommends"
        assert f"memory cannot change from {unset} to 1.0 TB while the host runs; restart it" in log
        assert "listen" not in log
        assert f"from {unset} to 1.0 TB" in reload(host, file, f'memory = "1TB"\n{BEFORE}')
        assert "cannot change" not in reload(host, file, BEFORE)
        text = f'memory = "2TB"\nlog_level = "warning"\nmetrics = "tcp:127.0.0.1:9"\n{AFTER}'
        log = reload(host, file, text, "metrics cannot change from nowhere to tcp:127.0.0.1:9 while")
        assert names(client) == ["stays", "comes"]
    reload(host, file, "broken", "stays as it was")
    assert "INFO" not in host.log.read_text().rpartition("cannot change")[2]


def test_tokens_change_and_guests_without_a_new_one_have_to_leave(file: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text("first:secret-of-first\nkept:secret-of-kept\n")
    file.write_text(BEFORE)
    options = ("--config", str(file), "--token-file", str(tokens))
    with (
        run_host("unix", *options, models=(), token="kept:secret-of-kept") as host,
        host.client() as kept,
        Client(host.url, token="first:secret-of-first") as first,
    ):
        first.ping()
        kept.ping()
        tokens.write_text("later:secret-of-later\nkept:secret-of-kept\n")
        assert "1 guests had to leave" in reload(host, file, BEFORE)
        with pytest.raises((AuthenticationError, ConnectionLost)):
            first.ping()
        with pytest.raises(AuthenticationError):
            first.ping()
        with Client(host.url, token="later:secret-of-later") as later:
            assert names(later) == names(kept) == ["stays", "goes"]
        assert "guest kept@" not in host.log.read_text().rpartition("had to leave")[2]  # nor left
