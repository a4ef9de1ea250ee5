"""The file of API keys: what it may say, and what is refused by name."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from pathlib import Path

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.guest.gateway.callers import Keys, add_caller, make_key
from mlxbridge.guest.gateway.gateway import Gateway
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.settings import Settings
from tests.guest.gateway.gateways import write_keys

DIGEST = "0" * 64


def test_key_that_was_made_finds_its_caller(tmp_path: Path) -> None:
    key, digest = make_key()
    other, other_digest = make_key()
    path = tmp_path / "keys.toml"
    add_caller(path, "alice", digest)
    add_caller(path, "bob.smith", other_digest)
    assert path.stat().st_mode & 0o777 == 0o600
    keys = Keys(path)
    alice, bob = keys.find(key), keys.find(other)
    assert alice is not None and alice.name == "alice" and not alice.manage
    assert bob is not None and bob.name == "bob.smith"
    assert keys.find(key + "x") is None


def test_all_that_a_caller_may_have_is_read(tmp_path: Path) -> None:
    key, digest = make_key()
    path = tmp_path / "keys.toml"
    path.write_text(
        f'[alice]\nsha256 = ["{DIGEST}", "{digest}"]\nmax_in_flight = 4\ntokens_per_minute = 100_000\n'
        'models = ["demo"]\npriority = "low"\nmanage = true\ntoken = "alice:secret12"\n'
    )
    alice = Keys(path).find(key)
    assert alice is not None
    assert (alice.max_in_flight, alice.tokens_per_minute, alice.models) == (4, 100_000, ("demo",))
    assert (alice.priority, alice.manage, alice.token) == ("low", True, "alice:secret12")
    assert alice.may_use("demo") and not alice.may_use("other")
    assert alice.may_have("low") and not alice.may_have("normal")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no caller in it"),
        ("[alice", "cannot read"),
        ("[alice]", "[alice]: sha256: must be"),
        ('[alice]\nsha256 = "abc"', "[alice]: sha256: must be 64 hexadecimal digits"),
        (f'["a b"]\nsha256 = "{DIGEST}"', "[a b]: a caller's name has"),
        (f'[anyone]\nsha256 = "{DIGEST}"', "[anyone]: a caller's name has"),
        (f'[alice]\nsha256 = "{DIGEST}"\nmax_inflight = 1', "[alice]: max_inflight: there is no such key"),
        (
            f'[alice]\nsha256 = "{DIGEST}"\nmax_in_flight = 0',
            "[alice]: max_in_flight: must be a whole number from 1",
        ),
        (f'[alice]\nsha256 = "{DIGEST}"\nmodels = "demo"', "[alice]: models: must be a list"),
        (
            f'[alice]\nsha256 = "{DIGEST}"\npriority = "best"',
            "[alice]: priority: must be one of low, normal, high",
        ),
        (f'[alice]\nsha256 = "{DIGEST}"\nmanage = 1', "[alice]: manage: must be true or false"),
        (f'[alice]\nsha256 = "{DIGEST}"\nmetrics = "yes"', "[alice]: metrics: must be true or false"),
        (
            f'[alice]\nsha256 = "{DIGEST}"\n[bob]\nsha256 = "{DIGEST}"',
            "[bob]: sha256: 'alice' has the same key",
        ),
        (f'[alice]\nsha256 = "{DIGEST}"\ntoken = "alice:short"', "[alice]: token: must be NAME:SECRET"),
        ("alice = 1", "[alice]: must be a table"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        Keys(path)
    assert told in error.value.message


def test_file_that_is_wrong_when_it_is_read_again_changes_nothing(tmp_path: Path) -> None:
    key, digest = make_key()
    path = tmp_path / "keys.toml"
    add_caller(path, "alice", digest)
    keys = Keys(path)
    path.write_text("[alice]")
    keys.reload()
    assert keys.find(key) is not None
    path.write_text(f'[bob]\nsha256 = "{digest}"')
    keys.reload()
    bob = keys.find(key)
    assert bob is not None and bob.name == "bob"


def test_name_that_is_there_already_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    add_caller(path, "alice", DIGEST)
    with pytest.raises(UsageError, match="has a caller 'alice' already"):
        add_caller(path, "alice", "1" * 64)
    with pytest.raises(UsageError, match="a caller's name has"):
        add_caller(path, "al ice", "1" * 64)


async def test_sighup_that_came_before_anybody_listened_has_the_file_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    write_keys(path, alice="")
    gateway = Gateway(Settings(listens=(), url="unix:///nowhere", keys_file=path))
    write_keys(path, bob="")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # as the command does
    signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
    async with gateway.running(), asyncio.timeout(30):
        while True:
            with contextlib.suppress(Problem):
                assert gateway.admit("bob").name == "bob"
                return
            await asyncio.sleep(0.01)
