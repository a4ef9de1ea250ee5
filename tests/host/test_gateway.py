"""The gateway as a child of the daemon, without one."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from mlxbridge.host.gateway import Gateway, Launch
from tests.guest.gateway.gateways import write_keys


async def test_gateway_that_is_still_starting_reads_its_keys_again_and_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    keys = tmp_path / "keys.toml"
    write_keys(keys, alice="")
    command = (sys.executable, "-P", "-m", "mlxbridge", "gateway", "--until-eof", "--listen", "127.0.0.1:0")
    launch = Launch(command=(*command, "--keys", str(keys)), variables={"MLXBRIDGE_URL": "unix:///nowhere"})
    gateway = Gateway()
    gateway.change(launch)
    while "the gateway is process" not in caplog.text:
        await asyncio.sleep(0.001)
    gateway.change(launch)
    told = ""
    async with asyncio.timeout(60):
        while "keys have been read again" not in told and "started again" not in caplog.text:
            await asyncio.sleep(0.01)
            told += capfd.readouterr().err
    gateway.stop()
    await gateway.close()
    assert "keys have been read again" in told and "started again" not in caplog.text
